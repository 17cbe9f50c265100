//! What devices are configured with: one JSON object each.

use quarterdeck_protocol::{
    api::DeviceConfiguration,
    ids::{DeviceId, ProjectId},
    time::Timestamp,
};

use crate::store::{StoreError, Tx, on};

#[derive(Debug, sqlx::FromRow)]
struct Stored {
    version: i64,
    body: String,
    updated_at: i64,
    updated_by: String,
}

/// Reads a device's configuration: version 0 and empty when nobody has written any.
pub async fn get(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<DeviceConfiguration, StoreError> {
    let stored: Option<Stored> = on!(tx, conn => sqlx::query_as(
        "SELECT version, body, updated_at, updated_by FROM device_configurations
         WHERE project_id = $1 AND device_id = $2",
    ).bind(project.as_str()).bind(device.as_str()).fetch_optional(conn).await?);
    let Some(stored) = stored else {
        return Ok(DeviceConfiguration {
            device_id: device.clone(),
            version: 0,
            configuration: serde_json::Map::new(),
            updated_at: None,
            updated_by: None,
        });
    };
    let corrupt = || StoreError::Corrupt { what: format!("configuration of device {device}") };
    Ok(DeviceConfiguration {
        device_id: device.clone(),
        version: u64::try_from(stored.version).map_err(|_| corrupt())?,
        configuration: serde_json::from_str(&stored.body).map_err(|_| corrupt())?,
        updated_at: Some(Timestamp::from_millis(stored.updated_at)),
        updated_by: Some(stored.updated_by),
    })
}

/// Writes a device's configuration over the one before.
pub async fn set(
    tx: &mut Tx,
    project: &ProjectId,
    configuration: &DeviceConfiguration,
) -> Result<(), StoreError> {
    let body =
        serde_json::to_string(&configuration.configuration).expect("JSON is written as JSON");
    let DeviceConfiguration { device_id, version, updated_at, updated_by, .. } = configuration;
    on!(tx, conn => sqlx::query(
        "INSERT INTO device_configurations (project_id, device_id, version, body, updated_at, updated_by)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (project_id, device_id) DO UPDATE SET version = excluded.version, body = excluded.body,
           updated_at = excluded.updated_at, updated_by = excluded.updated_by",
    ).bind(project.as_str()).bind(device_id.as_str()).bind(version.cast_signed()).bind(&body)
     .bind(updated_at.map_or(0, Timestamp::as_millis)).bind(updated_by.as_deref().unwrap_or_default())
     .execute(conn).await?.rows_affected());
    Ok(())
}
