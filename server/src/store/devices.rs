//! Devices: who they are, what they said last, whether they are there.
//!
//! | module | subject |
//! | --- | --- |
//! | [`listing`] | what people see |
//! | [`live`] | what their messages change, in bulk |
//! | [`operations`] | what they announce that they can do |

pub mod configuration;
pub mod listing;
pub mod live;
pub mod operations;

use std::collections::{BTreeMap, HashMap};

use quarterdeck_protocol::{
    api::DeviceHealth,
    ids::{DeviceId, ProjectId},
    time::Timestamp,
};

use super::{
    StoreError, Tx,
    bulk::{GATHERED_MAX_KEYS, gather, keys},
    on,
};

pub use listing::{Filter, get};

/// The contract of devices that run the agent.
pub const CONTRACT: &str = "quarterdeck-1.0";

/// What signs a device in.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Credential {
    /// SHA-256 of the secret, in hex.
    pub secret_hash: String,
    pub enroll_nonce: Option<String>,
    pub enroll_again: bool,
    pub retired_at: Option<i64>,
}

/// Reads what signs a device in; `None` for an unknown device.
pub async fn credential(
    tx: &mut Tx,
    project: &str,
    device: &str,
) -> Result<Option<Credential>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT secret_hash, enroll_nonce, enroll_again, retired_at FROM devices WHERE project_id = $1 AND id = $2",
    ).bind(project).bind(device).fetch_optional(conn).await?))
}

/// A device that enrols.
#[derive(Debug, Clone)]
pub struct Enrolled<'a> {
    pub project: &'a ProjectId,
    pub device: &'a DeviceId,
    pub kind: Option<&'a str>,
    pub secret_hash: &'a str,
    pub nonce: Option<&'a str>,
    pub at: Timestamp,
}

/// Adds a device, or gives the one that is there a new secret and takes it back into service.
pub async fn enroll(tx: &mut Tx, new: &Enrolled<'_>) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "INSERT INTO devices (project_id, id, type, tags, contract, secret_hash, enroll_nonce, enroll_again, enrolled_at,
           status, connected, facts, capabilities, reconnect_count)
         VALUES ($1, $2, COALESCE($3, ''), '{}', $4, $5, $6, FALSE, $7, 'offline', FALSE, '{}', '[]', 0)
         ON CONFLICT (project_id, id) DO UPDATE SET type = COALESCE($3, devices.type), secret_hash = $5,
           enroll_nonce = $6, enroll_again = FALSE, enrolled_at = $7, retired_at = NULL, connected = FALSE,
           stale_due = NULL, unheard_since = NULL, status = 'offline'",
    ).bind(new.project.as_str()).bind(new.device.as_str()).bind(new.kind).bind(CONTRACT).bind(new.secret_hash)
     .bind(new.nonce).bind(new.at.as_millis()).execute(conn).await?.rows_affected());
    Ok(())
}

/// Takes a device out of service; `false` when it is unknown or was retired before.
pub async fn retire(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE devices SET retired_at = $3, status = 'retired', connected = FALSE, stale_due = NULL,
           unheard_since = NULL, enroll_again = FALSE
         WHERE project_id = $1 AND id = $2 AND retired_at IS NULL",
    ).bind(project.as_str()).bind(device.as_str()).bind(at.as_millis()).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Lets a device enrol once more; `false` when it is unknown.
pub async fn allow_enroll_again(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE devices SET enroll_again = TRUE, enroll_nonce = NULL WHERE project_id = $1 AND id = $2",
    ).bind(project.as_str()).bind(device.as_str()).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Changes a device's type.
pub async fn set_type(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    kind: &str,
) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query("UPDATE devices SET type = $3 WHERE project_id = $1 AND id = $2")
        .bind(project.as_str()).bind(device.as_str()).bind(kind).execute(conn).await?.rows_affected());
    Ok(())
}

/// Replaces a device's tags.
pub async fn set_tags(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    tags: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    let text = serde_json::to_string(tags)
        .map_err(|error| StoreError::Corrupt { what: error.to_string() })?;
    on!(tx, conn => sqlx::query("UPDATE devices SET tags = $3 WHERE project_id = $1 AND id = $2")
        .bind(project.as_str()).bind(device.as_str()).bind(text).execute(conn).await?.rows_affected());
    on!(tx, conn => sqlx::query("DELETE FROM device_tags WHERE project_id = $1 AND device_id = $2")
        .bind(project.as_str()).bind(device.as_str()).execute(conn).await?.rows_affected());
    for (key, value) in tags {
        on!(tx, conn => sqlx::query("INSERT INTO device_tags (project_id, device_id, key, value) VALUES ($1, $2, $3, $4)")
            .bind(project.as_str()).bind(device.as_str()).bind(key).bind(value).execute(conn).await?.rows_affected());
    }
    Ok(())
}

/// Reads the statuses of those of the devices that exist.
pub async fn statuses(
    tx: &mut Tx,
    project: &ProjectId,
    devices: &[String],
) -> Result<HashMap<String, String>, StoreError> {
    let mut found = HashMap::with_capacity(devices.len());
    let from = format!("devices WHERE project_id = $1 AND id IN {}", tx.texts("$2"));
    for chunk in devices.chunks(GATHERED_MAX_KEYS) {
        let rows: Vec<(String, String)> =
            gather(tx, "id, status", &from, &[project.as_str(), &keys(chunk)]).await?;
        found.extend(rows);
    }
    Ok(found)
}

/// Counts the devices of a project that are in service, and those of them that are offline.
pub async fn count_in_service(tx: &mut Tx, project: &str) -> Result<(u64, u64), StoreError> {
    let rows: Vec<(String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT status, COUNT(*) FROM devices WHERE project_id = $1 AND status <> 'retired' GROUP BY status",
    ).bind(project).fetch_all(conn).await?);
    let all = rows.iter().map(|(_, count)| *count as u64).sum();
    let offline =
        rows.iter().find(|(status, _)| status == "offline").map_or(0, |(_, count)| *count as u64);
    Ok((all, offline))
}

/// Reads a device's last health report; `None` for an unknown device.
pub async fn health(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<Option<DeviceHealth>, StoreError> {
    let row: Option<(Option<String>, Option<i64>)> = on!(tx, conn => sqlx::query_as(
        "SELECT health, health_at FROM devices WHERE project_id = $1 AND id = $2",
    ).bind(project.as_str()).bind(device.as_str()).fetch_optional(conn).await?);
    row.map(|(report, at)| {
        Ok(DeviceHealth {
            received_at: at.map(Timestamp::from_millis),
            report: report
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(|_| StoreError::Corrupt { what: format!("health of device {device}") })?,
        })
    })
    .transpose()
}
