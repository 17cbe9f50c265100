//! What happened to devices: the timeline of each.

use quarterdeck_protocol::{
    api::TimelineEntry,
    ids::{DeviceId, ProjectId},
    time::Timestamp,
};
use serde_json::Value;

use super::{
    StoreError, Tx, on, placeholders,
    query::{WindowRow, bulk_sizes, to_raw},
};

/// Events of a device that are kept shown in one listing at most.
const TIMELINE_MAX_ROWS: i64 = 1_000;

/// One event of one device.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub project_id: String,
    pub device_id: String,
    /// Rises within a device's timeline.
    pub seq: i64,
    pub at: i64,
    pub event: &'static str,
    pub by: String,
    /// JSON, or empty.
    pub detail: String,
}

/// Adds events.
pub async fn insert(tx: &mut Tx, events: &[NewEvent]) -> Result<(), StoreError> {
    const COLUMNS: usize = 7;
    let mut start = 0;
    for size in bulk_sizes(events.len(), COLUMNS) {
        let sql = format!(
            "INSERT INTO device_events (project_id, device_id, seq, at, event, by_whom, detail) VALUES {}
             ON CONFLICT DO NOTHING",
            placeholders(size, COLUMNS),
        );
        let chunk = &events[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for event in chunk {
                query = query.bind(event.project_id.as_str()).bind(event.device_id.as_str()).bind(event.seq)
                    .bind(event.at).bind(event.event).bind(event.by.as_str()).bind(event.detail.as_str());
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    at: i64,
    event: String,
    by_whom: String,
    detail: String,
    command_id: Option<String>,
}

/// Reads a device's timeline, newest first: its own events, and each of its commands.
///
/// `before` is a sequence number: only older entries.
pub async fn list(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<TimelineEntry>, StoreError> {
    // A command stands where it was created: after all events of the same millisecond.
    let rows: Vec<Row> = on!(tx, conn => sqlx::query_as(
        "SELECT seq, at, event, by_whom, detail, command_id FROM (
           SELECT * FROM (SELECT seq, at, event, by_whom, detail, NULL AS command_id FROM device_events
             WHERE project_id = $1 AND device_id = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4) AS e
           UNION ALL
           SELECT * FROM (SELECT created_at * 4096 + 4095 AS seq, created_at AS at, type AS event,
               created_by AS by_whom, status AS detail, id AS command_id FROM commands
             WHERE project_id = $1 AND device_id = $2 AND created_at * 4096 + 4095 < $3
             ORDER BY id DESC LIMIT $4) AS c
         ) AS merged ORDER BY seq DESC LIMIT $4",
    ).bind(project.as_str()).bind(device.as_str()).bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit))
     .fetch_all(conn).await?);
    rows.into_iter().map(|row| row.shown(device)).collect()
}

/// Reads the rows `offset` to `offset + limit` of a device's timeline, and how many there are, up to a bound.
pub async fn window(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    offset: u64,
    limit: u32,
) -> Result<(Vec<WindowRow>, u64), StoreError> {
    let all = list(tx, project, device, None, TIMELINE_MAX_ROWS as u32).await?;
    let rows = all
        .iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        .take(limit as usize)
        .map(|entry| Ok((entry.seq.to_string(), to_raw(entry)?)))
        .collect::<Result<_, StoreError>>()?;
    Ok((rows, all.len() as u64))
}

impl Row {
    fn shown(self, device: &DeviceId) -> Result<TimelineEntry, StoreError> {
        let corrupt = || StoreError::Corrupt { what: format!("timeline of device {device}") };
        let command_id = match &self.command_id {
            Some(id) => Some(id.parse().map_err(|_| corrupt())?),
            None => None,
        };
        Ok(TimelineEntry {
            seq: self.seq,
            at: Timestamp::from_millis(self.at),
            by: self.by_whom,
            detail: match command_id {
                Some(_) => serde_json::json!({ "type": self.event, "status": self.detail }),
                None if self.detail.is_empty() => Value::Object(serde_json::Map::new()),
                None => serde_json::from_str(&self.detail).map_err(|_| corrupt())?,
            },
            event: if command_id.is_some() { "command".to_owned() } else { self.event },
            command_id,
        })
    }
}
