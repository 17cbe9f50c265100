//! The operations that devices announce, and what they tell of those of their own.

use std::collections::{BTreeMap, HashMap};

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    limits::OPERATION_DEVICES_MAX,
    operations::{AnnouncedOperation, Operation},
};
use serde_json::Value;

use crate::store::{
    StoreError, Tx,
    bulk::{GATHERED_MAX_KEYS, gather, keys, placeholders, sizes},
    on,
    query::{Sql, fetch_all},
};

/// Devices that are asked about in one statement.
const DEVICES_MAX: usize = 512;
/// Forms of one operation that a payload is checked against; devices that differ more check it themselves.
const FORMS_MAX: i64 = 64;

/// All that a device announces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Announcement {
    pub names: Vec<String>,
    /// What more there is to say of some of them.
    pub cards: Vec<AnnouncedOperation>,
}

/// What counts of an operation when it is asked of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    pub dangerous: bool,
    pub reboots: bool,
}

/// Replaces what a device announces.
pub async fn replace(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    announced: &Announcement,
) -> Result<(), StoreError> {
    const COLUMNS: usize = 6;
    on!(tx, conn => sqlx::query("DELETE FROM device_operations WHERE project_id = $1 AND device_id = $2")
        .bind(project.as_str()).bind(device.as_str()).execute(conn).await?.rows_affected());
    let cards: BTreeMap<&str, &AnnouncedOperation> =
        announced.cards.iter().map(|card| (card.name.as_str(), card)).collect();
    let mut start = 0;
    for size in sizes(announced.names.len(), COLUMNS) {
        let sql = tx.dialect(format!(
            "INSERT INTO device_operations (project_id, name, device_id, dangerous, reboots, card) VALUES {}
             ON CONFLICT DO NOTHING",
            placeholders(size, COLUMNS),
        ));
        let chunk = &announced.names[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for name in chunk {
                let card = cards.get(name.as_str());
                let text = card.map(|card| serde_json::to_string(card).expect("plain data"));
                query = query.bind(project.as_str()).bind(name.as_str()).bind(device.as_str())
                    .bind(card.is_some_and(|card| card.dangerous))
                    .bind(card.is_some_and(|card| card.reboots)).bind(text);
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// Lists what a project's devices announce, or one of them: each with one of its cards, where devices
/// tell different things, and dangerous or rebooting where any of them says so.
pub async fn list(
    tx: &mut Tx,
    project: &ProjectId,
    device: Option<&DeviceId>,
) -> Result<BTreeMap<String, Operation>, StoreError> {
    let mut sql = Sql::new(
        "SELECT name, COUNT(*), COUNT(CASE WHEN dangerous THEN 1 END), COUNT(CASE WHEN reboots THEN 1 END),
         MAX(card) FROM device_operations WHERE project_id = ",
    );
    sql.bind(project.as_str());
    if let Some(device) = device {
        sql.push(" AND device_id = ").bind(device.as_str());
    }
    sql.push(" GROUP BY name");
    let rows: Vec<(String, i64, i64, i64, Option<String>)> = fetch_all!(tx, sql)?;
    let operations = rows.into_iter().map(|(name, devices, dangerous, reboots, card)| {
        // What was checked when it was stored can be read.
        let card = card.and_then(|text| serde_json::from_str(&text).ok());
        let card =
            card.unwrap_or_else(|| AnnouncedOperation { name: name.clone(), ..Default::default() });
        let mut operation = card.to_operation(devices as u64);
        operation.dangerous = dangerous > 0;
        operation.reboots = reboots > 0;
        (name, operation)
    });
    Ok(operations.collect())
}

/// Names the first devices that announce an operation, by id.
pub async fn devices_of(
    tx: &mut Tx,
    project: &ProjectId,
    operation: &str,
) -> Result<Vec<String>, StoreError> {
    let rows: Vec<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT device_id FROM device_operations WHERE project_id = $1 AND name = $2 ORDER BY device_id LIMIT $3",
    ).bind(project.as_str()).bind(operation).bind(OPERATION_DEVICES_MAX as i64).fetch_all(conn).await?);
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// Which of some devices announce an operation, and as what.
pub async fn announcing(
    tx: &mut Tx,
    project: &ProjectId,
    operation: &str,
    devices: &[DeviceId],
) -> Result<HashMap<String, Flags>, StoreError> {
    let mut announcing = HashMap::with_capacity(devices.len());
    let from = format!(
        "device_operations WHERE project_id = $1 AND name = $2 AND device_id IN {}",
        tx.texts("$3")
    );
    for chunk in devices.chunks(GATHERED_MAX_KEYS) {
        let rows: Vec<(String, u8, u8)> = gather(
            tx,
            "device_id, CASE WHEN dangerous THEN 1 ELSE 0 END, CASE WHEN reboots THEN 1 ELSE 0 END",
            &from,
            &[project.as_str(), operation, &keys(chunk)],
        )
        .await?;
        announcing.extend(rows.into_iter().map(|(id, dangerous, reboots)| {
            (id, Flags { dangerous: dangerous == 1, reboots: reboots == 1 })
        }));
    }
    Ok(announcing)
}

/// Whether any device of a project announces an operation.
pub async fn is_announced(
    tx: &mut Tx,
    project: &ProjectId,
    operation: &str,
) -> Result<bool, StoreError> {
    let found: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT device_id FROM device_operations WHERE project_id = $1 AND name = $2 LIMIT 1",
    ).bind(project.as_str()).bind(operation).fetch_optional(conn).await?);
    Ok(found.is_some())
}

/// Reads the forms that some devices have for an operation, each once.
pub async fn forms(
    tx: &mut Tx,
    project: &ProjectId,
    operation: &str,
    devices: &[DeviceId],
) -> Result<Vec<Value>, StoreError> {
    let mut forms = Vec::new();
    for chunk in devices.chunks(DEVICES_MAX) {
        let mut sql = Sql::new("SELECT DISTINCT card FROM device_operations WHERE project_id = ");
        sql.bind(project.as_str()).push(" AND name = ").bind(operation);
        sql.push(" AND card IS NOT NULL AND device_id IN ");
        sql.bind_list(chunk.iter().map(DeviceId::as_str));
        sql.push(" LIMIT ").bind(FORMS_MAX);
        let rows: Vec<(String,)> = fetch_all!(tx, sql)?;
        for (text,) in rows {
            let card: Option<AnnouncedOperation> = serde_json::from_str(&text).ok();
            let form = card.and_then(|card| card.form_schema);
            forms.extend(form.filter(|form| !forms.contains(form)));
        }
    }
    Ok(forms)
}
