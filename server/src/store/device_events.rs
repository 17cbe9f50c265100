//! What happened to devices: the timeline of each.
//!
//! A timeline is two walks merged, the newest first: the device's own events by
//! their number, and its commands by their id. Both rise with time, and no
//! statement sorts:
//!
//! ```text
//!  device_events  seq  ──┐
//!                        ├──▶ by (position, id)      a command stands behind all
//!  commands       id   ──┘                           events of its millisecond
//! ```
//!
//! Commands of one millisecond share a position; their ids make the order total.

use std::str::FromStr;

use quarterdeck_protocol::{
    api::TimelineEntry,
    ids::{CommandId, DeviceId, ProjectId},
    time::Timestamp,
};
use serde_json::Value;

use super::{
    StoreError, Tx,
    bulk::{placeholders, sizes},
    commands::listing::first_id_of,
    on,
    query::{WindowRow, to_raw},
};

/// Positions in one millisecond.
const POSITIONS_PER_MS: i64 = 4_096;

/// A place in a timeline: that of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// An event's number, or the last of a command's millisecond.
    position: i64,
    /// Of a command; events of that number stand before it.
    command: Option<CommandId>,
}

impl Place {
    pub fn of(entry: &TimelineEntry) -> Self {
        Self { position: entry.seq, command: entry.command_id }
    }

    /// Below which number the events before this place are.
    fn events_below(self) -> i64 {
        self.position.saturating_add(i64::from(self.command.is_some()))
    }

    /// Below which id the commands before this place are.
    fn commands_below(self) -> String {
        if let Some(id) = self.command {
            return id.to_string();
        }
        // The first millisecond whose commands do not stand before this event.
        let behind = self.position - (POSITIONS_PER_MS - 1);
        let ms = behind.div_euclid(POSITIONS_PER_MS);
        let is_whole = behind.rem_euclid(POSITIONS_PER_MS) == 0;
        first_id_of(Timestamp::from_millis(if is_whole { ms } else { ms + 1 }))
    }
}

/// As in a cursor: `SEQ`, or `SEQ.COMMAND_ID`.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.command {
            Some(id) => write!(f, "{}.{id}", self.position),
            None => write!(f, "{}", self.position),
        }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (position, command) = text.split_once('.').map_or((text, None), |(p, c)| (p, Some(c)));
        let command = command.map(str::parse).transpose().map_err(|_| ())?;
        Ok(Self { position: position.parse().map_err(|_| ())?, command })
    }
}

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
    for size in sizes(events.len(), COLUMNS) {
        let sql = tx.dialect(format!(
            "INSERT INTO device_events (project_id, device_id, seq, at, event, by_whom, detail) VALUES {}
             ON CONFLICT DO NOTHING",
            placeholders(size, COLUMNS),
        ));
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
struct Happened {
    seq: i64,
    at: i64,
    event: String,
    by_whom: String,
    detail: String,
}

#[derive(sqlx::FromRow)]
struct Command {
    id: String,
    created_at: i64,
    created_by: String,
    kind: String,
    status: String,
}

/// Reads a device's timeline, newest first: its own events, and each of its commands.
///
/// With `before`, only what stands before that place.
pub async fn list(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    before: Option<Place>,
    limit: u32,
) -> Result<Vec<TimelineEntry>, StoreError> {
    let corrupt = |_| StoreError::Corrupt { what: format!("timeline of device {device}") };
    let events: Vec<Happened> = on!(tx, conn => sqlx::query_as(
        "SELECT seq, at, event, by_whom, detail FROM device_events
         WHERE project_id = $1 AND device_id = $2 AND seq < $3 ORDER BY seq DESC LIMIT $4",
    ).bind(project.as_str()).bind(device.as_str()).bind(before.map_or(i64::MAX, Place::events_below))
     .bind(i64::from(limit)).fetch_all(conn).await?);
    let commands: Vec<Command> = on!(tx, conn => sqlx::query_as(
        "SELECT id, created_at, created_by, type AS kind, status FROM commands
         WHERE project_id = $1 AND device_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4",
    ).bind(project.as_str()).bind(device.as_str())
     .bind(before.map_or_else(|| "g".to_owned(), Place::commands_below))
     .bind(i64::from(limit)).fetch_all(conn).await?);
    let mut entries = Vec::with_capacity(events.len() + commands.len());
    for event in events {
        entries.push(event.shown().map_err(corrupt)?);
    }
    for command in commands {
        entries.push(command.shown().map_err(corrupt)?);
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(Place::of(entry)));
    entries.truncate(limit as usize);
    Ok(entries)
}

/// Counts the entries of a device's timeline.
pub async fn count(tx: &mut Tx, project: &ProjectId, device: &DeviceId) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM device_events WHERE project_id = $1 AND device_id = $2)
              + (SELECT COUNT(*) FROM commands WHERE project_id = $1 AND device_id = $2)",
    ).bind(project.as_str()).bind(device.as_str()).fetch_one(conn).await?);
    Ok(count as u64)
}

/// Reads the rows `offset` to `offset + limit` of a device's timeline, and how many there are.
pub async fn window(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    offset: u64,
    limit: u32,
) -> Result<(Vec<WindowRow>, u64), StoreError> {
    let total = count(tx, project, device).await?;
    let end = u32::try_from(offset.min(total) + u64::from(limit)).unwrap_or(u32::MAX);
    let rows = list(tx, project, device, None, end)
        .await?
        .iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        .map(|entry| Ok((Place::of(entry).to_string(), to_raw(entry)?)))
        .collect::<Result<_, StoreError>>()?;
    Ok((rows, total))
}

impl Happened {
    fn shown(self) -> Result<TimelineEntry, serde_json::Error> {
        Ok(TimelineEntry {
            seq: self.seq,
            at: Timestamp::from_millis(self.at),
            event: self.event,
            by: self.by_whom,
            command_id: None,
            detail: if self.detail.is_empty() {
                Value::Object(serde_json::Map::new())
            } else {
                serde_json::from_str(&self.detail)?
            },
        })
    }
}

impl Command {
    fn shown(self) -> Result<TimelineEntry, serde_json::Error> {
        let id: CommandId = self.id.parse().map_err(serde::de::Error::custom)?;
        Ok(TimelineEntry {
            // By its id, as it is walked: its own time may have gone back since the one before it.
            seq: id.millis() * POSITIONS_PER_MS + POSITIONS_PER_MS - 1,
            at: Timestamp::from_millis(self.created_at),
            event: "command".to_owned(),
            by: self.created_by,
            command_id: Some(id),
            detail: serde_json::json!({ "type": self.kind, "status": self.status }),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(ms: i64, n: i64, command: Option<u16>) -> TimelineEntry {
        let id = command.map(|low| {
            CommandId(uuid::Uuid::from_u128(
                (u128::from(ms.unsigned_abs()) << 80) | u128::from(low),
            ))
        });
        TimelineEntry {
            seq: id.map_or(ms * POSITIONS_PER_MS + n, |id| {
                id.millis() * POSITIONS_PER_MS + POSITIONS_PER_MS - 1
            }),
            at: Timestamp::from_millis(ms),
            event: String::new(),
            by: String::new(),
            command_id: id,
            detail: Value::Null,
        }
    }

    proptest! {
        /// The conditions of both statements say together what the order says.
        #[test]
        fn what_stands_before_a_place_is_what_is_less(
            a in (0_i64..4, 0_i64..4_096, prop::option::of(0_u16..3)),
            b in (0_i64..4, 0_i64..4_096, prop::option::of(0_u16..3)),
        ) {
            let (a, b) = (entry(a.0, a.1, a.2), entry(b.0, b.1, b.2));
            let place = Place::of(&a);
            prop_assert_eq!(place.to_string().parse(), Ok(place));
            let is_let_through = match b.command_id {
                Some(id) => id.to_string() < place.commands_below(),
                None => b.seq < place.events_below(),
            };
            prop_assert_eq!(is_let_through, Place::of(&b) < place);
        }
    }
}
