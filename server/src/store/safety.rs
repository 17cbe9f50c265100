//! What counts against a lockout: one row a reboot or app restart that was let through.

use std::collections::HashMap;

use quarterdeck_protocol::ids::ProjectId;

use super::{
    StoreError, Tx,
    bulk::{placeholders, sizes},
    on,
    query::{Sql, fetch_all},
};
use crate::domain::safety::Counter;

/// Devices that are asked about in one statement.
const DEVICES_MAX: usize = 512;

/// Reads, of each device, when those that still count were delivered; `None` for pending ones.
pub async fn counted(
    tx: &mut Tx,
    project: &ProjectId,
    devices: &[String],
    counter: Counter,
    since_ms: i64,
) -> Result<HashMap<String, Vec<Option<i64>>>, StoreError> {
    let mut found: HashMap<String, Vec<Option<i64>>> = HashMap::new();
    for chunk in devices.chunks(DEVICES_MAX) {
        let mut sql =
            Sql::new("SELECT device_id, delivered_due FROM safety_events WHERE project_id = ");
        sql.bind(project.as_str()).push(" AND counter = ").bind(counter.as_str());
        sql.push(" AND (delivered_due IS NULL OR delivered_due > ")
            .bind(since_ms)
            .push(") AND device_id IN ");
        sql.bind_list(chunk.iter().map(String::as_str));
        let rows: Vec<(String, Option<i64>)> = fetch_all!(tx, sql)?;
        for (device, delivered) in rows {
            found.entry(device).or_default().push(delivered);
        }
    }
    Ok(found)
}

/// Reads the devices that most count of, and how many.
pub async fn most_used(
    tx: &mut Tx,
    project: &ProjectId,
    counter: Counter,
    since_ms: i64,
    limit: u32,
) -> Result<Vec<(String, u64)>, StoreError> {
    let rows: Vec<(String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT device_id, COUNT(*) AS used FROM safety_events
         WHERE project_id = $1 AND counter = $2 AND (delivered_due IS NULL OR delivered_due > $3)
         GROUP BY device_id ORDER BY used DESC, device_id LIMIT $4",
    ).bind(project.as_str()).bind(counter.as_str()).bind(since_ms).bind(i64::from(limit)).fetch_all(conn).await?);
    Ok(rows.into_iter().map(|(device, used)| (device, used as u64)).collect())
}

/// Counts commands from now on, as pending: `rows` are command and device.
pub async fn insert(
    tx: &mut Tx,
    project: &ProjectId,
    counter: Counter,
    rows: &[(String, String)],
) -> Result<(), StoreError> {
    const COLUMNS: usize = 4;
    let mut start = 0;
    for size in sizes(rows.len(), COLUMNS) {
        let sql = tx.dialect(format!(
            "INSERT INTO safety_events (command_id, project_id, device_id, counter) VALUES {}",
            placeholders(size, COLUMNS),
        ));
        let chunk = &rows[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for (command, device) in chunk {
                query = query.bind(command.as_str()).bind(project.as_str()).bind(device.as_str()).bind(counter.as_str());
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// Takes note that commands were delivered: their window begins now. Others than counted ones are ignored.
pub async fn delivered(tx: &mut Tx, commands: &[String], now_ms: i64) -> Result<(), StoreError> {
    for chunk in commands.chunks(DEVICES_MAX) {
        let mut sql = Sql::new("UPDATE safety_events SET delivered_due = ");
        sql.bind(now_ms).push(" WHERE delivered_due IS NULL AND command_id IN ");
        sql.bind_list(chunk.iter().map(String::as_str)).push(" RETURNING command_id");
        let _: Vec<(String,)> = fetch_all!(tx, sql)?;
    }
    Ok(())
}

/// Takes commands back that ended before they were delivered: they rebooted nothing.
pub async fn never_delivered(tx: &mut Tx, commands: &[String]) -> Result<(), StoreError> {
    for chunk in commands.chunks(DEVICES_MAX) {
        let mut sql =
            Sql::new("DELETE FROM safety_events WHERE delivered_due IS NULL AND command_id IN ");
        sql.bind_list(chunk.iter().map(String::as_str)).push(" RETURNING command_id");
        let _: Vec<(String,)> = fetch_all!(tx, sql)?;
    }
    Ok(())
}

/// Forgets what has left every window.
pub async fn sweep(tx: &mut Tx, before_ms: i64) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query("DELETE FROM safety_events WHERE delivered_due < $1")
        .bind(before_ms).execute(conn).await?.rows_affected());
    Ok(())
}
