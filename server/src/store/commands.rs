//! Commands: their rows, timelines and output.
//!
//! A command's timeline lies in its own row, a JSON object a line: the row is
//! written at each event anyway, while a row of its own for each event would
//! cost two more B-trees on the path of every message.
//!
//! | module | subject |
//! | --- | --- |
//! | [`write`] | new commands, and what comes of their events, in bulk |
//! | [`live`] | what the engine loads: by id, by due time, by device |
//! | [`listing`] | what people see |
//! | [`output`] | live output |

pub mod accepted;
pub mod listing;
pub mod live;
pub mod output;
pub mod write;

use quarterdeck_protocol::{
    api::{Command, TimelineEntry},
    command::CommandStatus,
    ids::{BatchId, CommandId, DeviceId, ProjectId},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{StoreError, Tx, on};

/// A command with all that people see of it.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Row {
    id: String,
    batch_id: String,
    device_id: String,
    device_status: Option<String>,
    kind: String,
    payload: Option<String>,
    priority: i64,
    timeout_s: i64,
    notes: String,
    status: String,
    progress: Option<i64>,
    step: Option<String>,
    state: Option<String>,
    created_by: String,
    created_at: i64,
    expires_at: i64,
    published_at: Option<i64>,
    accepted_at: Option<i64>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    cancel_requested_at: Option<i64>,
    attempt: i64,
    retry_of: Option<String>,
    blocked_until: Option<i64>,
    result: Option<String>,
    exit_code: Option<i64>,
    stdout: Option<String>,
    stderr: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
}

/// The columns of [`Row`]; the heavy ones are left out in lists.
macro_rules! columns {
    (full) => {
        "c.id, c.batch_id, c.device_id, CASE WHEN d.unheard_since IS NULL THEN d.status END AS device_status, c.type AS kind, b.payload, c.priority, c.timeout_s, b.notes, c.status,
         c.progress, c.step, c.state, c.created_by, c.created_at, c.expires_at, c.published_at, c.accepted_at,
         c.started_at, c.finished_at, c.cancel_requested_at, c.attempt, c.retry_of, c.blocked_until,
         c.result, c.exit_code, c.stdout, c.stderr, c.error_code, c.error_message
         FROM commands c JOIN batches b ON b.id = c.batch_id
         LEFT JOIN devices d ON d.project_id = c.project_id AND d.id = c.device_id"
    };
    (lean) => {
        "c.id, c.batch_id, c.device_id, CASE WHEN d.unheard_since IS NULL THEN d.status END AS device_status, c.type AS kind, NULL AS payload, c.priority, c.timeout_s, b.notes, c.status,
         c.progress, c.step, c.state, c.created_by, c.created_at, c.expires_at, c.published_at, c.accepted_at,
         c.started_at, c.finished_at, c.cancel_requested_at, c.attempt, c.retry_of, c.blocked_until,
         NULL AS result, c.exit_code, NULL AS stdout, NULL AS stderr, c.error_code, c.error_message
         FROM commands c JOIN batches b ON b.id = c.batch_id
         LEFT JOIN devices d ON d.project_id = c.project_id AND d.id = c.device_id"
    };
}
use columns;

impl Row {
    fn shown(self) -> Result<Command, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { what: format!("{what} of command {}", self.id) };
        let json =
            |text: &str, what: &str| serde_json::from_str::<Value>(text).map_err(|_| corrupt(what));
        let at = |millis: Option<i64>| millis.map(Timestamp::from_millis);
        Ok(Command {
            id: self.id.parse::<CommandId>().map_err(|_| corrupt("id"))?,
            batch_id: self.batch_id.parse::<BatchId>().map_err(|_| corrupt("batch"))?,
            device_id: DeviceId::new(&self.device_id).map_err(|_| corrupt("device"))?,
            device_status: match &self.device_status {
                Some(status) => Some(status.parse().map_err(|_| corrupt("device's status"))?),
                None => None,
            },
            payload: self
                .payload
                .as_deref()
                .map_or(Ok(Value::Null), |text| json(text, "payload"))?,
            priority: self.priority as u8,
            timeout_s: self.timeout_s as u32,
            status: self.status.parse::<CommandStatus>().map_err(|_| corrupt("status"))?,
            progress: self.progress.map(|progress| progress as u8),
            created_at: Timestamp::from_millis(self.created_at),
            expires_at: Timestamp::from_millis(self.expires_at),
            published_at: at(self.published_at),
            accepted_at: at(self.accepted_at),
            started_at: at(self.started_at),
            finished_at: at(self.finished_at),
            cancel_requested_at: at(self.cancel_requested_at),
            attempt: self.attempt as u32,
            retry_of: match &self.retry_of {
                Some(id) => Some(id.parse().map_err(|_| corrupt("retry_of"))?),
                None => None,
            },
            blocked_until: at(self.blocked_until),
            result: match &self.result {
                Some(text) => Some(json(text, "result")?),
                None => None,
            },
            exit_code: self.exit_code.map(|code| code as i32),
            kind: self.kind,
            notes: self.notes,
            step: self.step,
            state: self.state,
            created_by: self.created_by,
            stdout: self.stdout,
            stderr: self.stderr,
            error_code: self.error_code,
            error_message: self.error_message,
        })
    }
}

/// Reads a command with everything; its output as long as it is kept.
pub async fn get(
    tx: &mut Tx,
    project: &ProjectId,
    id: CommandId,
) -> Result<Option<Command>, StoreError> {
    let row: Option<Row> = on!(tx, conn => sqlx::query_as(concat!(
        "SELECT ", columns!(full), " WHERE c.id = $1 AND c.project_id = $2",
    )).bind(id.to_string()).bind(project.as_str()).fetch_optional(conn).await?);
    let Some(mut command) = row.map(Row::shown).transpose()? else { return Ok(None) };
    let (stdout, stderr) = output::assembled(tx, id).await?;
    command.stdout = output::whole(command.stdout, stdout);
    command.stderr = output::whole(command.stderr, stderr);
    Ok(Some(command))
}

/// Tells whether any project has a command with this id.
pub async fn is_known(tx: &mut Tx, id: CommandId) -> Result<bool, StoreError> {
    let row: Option<(i64,)> = on!(tx, conn => sqlx::query_as(
        "SELECT CAST(1 AS BIGINT) FROM commands WHERE id = $1",
    ).bind(id.to_string()).fetch_optional(conn).await?);
    Ok(row.is_some())
}

/// One line of a timeline as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredEvent {
    pub at: i64,
    pub event: String,
    pub by: String,
    #[serde(default)]
    pub detail: Value,
}

/// Appends a line to a stored timeline. `detail` is JSON, or empty.
pub fn append_event(timeline: &mut String, at: Timestamp, event: &str, by: &str, detail: &str) {
    use std::fmt::Write as _;
    let by = serde_json::Value::from(by);
    write!(timeline, r#"{{"at":{},"event":"{event}","by":{by}"#, at.as_millis())
        .expect("writing to a string cannot fail");
    if !detail.is_empty() {
        timeline.push_str(r#","detail":"#);
        timeline.push_str(detail);
    }
    timeline.push_str("}\n");
}

/// Reads the timeline of a command, oldest first; `None` for an unknown command.
pub async fn timeline(
    tx: &mut Tx,
    project: &ProjectId,
    id: CommandId,
) -> Result<Option<Vec<TimelineEntry>>, StoreError> {
    let row: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT timeline FROM commands WHERE id = $1 AND project_id = $2",
    ).bind(id.to_string()).bind(project.as_str()).fetch_optional(conn).await?);
    row.map(|(text,)| read_timeline(&text, id)).transpose()
}

fn read_timeline(text: &str, id: CommandId) -> Result<Vec<TimelineEntry>, StoreError> {
    // Not by lines: a device may have put breaks into its JSON.
    serde_json::Deserializer::from_str(text)
        .into_iter::<StoredEvent>()
        .enumerate()
        .map(|(index, event)| {
            let event = event
                .map_err(|_| StoreError::Corrupt { what: format!("timeline of command {id}") })?;
            Ok(TimelineEntry {
                seq: index as i64 + 1,
                at: Timestamp::from_millis(event.at),
                event: event.event,
                by: event.by,
                command_id: Some(id),
                detail: if event.detail.is_null() {
                    Value::Object(serde_json::Map::new())
                } else {
                    event.detail
                },
            })
        })
        .collect()
}

/// Reads the rows `offset` to `offset + limit` of a command's timeline, newest first, and how many there are.
pub async fn timeline_window(
    tx: &mut Tx,
    project: &ProjectId,
    id: CommandId,
    offset: u64,
    limit: u32,
) -> Result<Option<(Vec<super::query::WindowRow>, u64)>, StoreError> {
    let Some(mut entries) = timeline(tx, project, id).await? else { return Ok(None) };
    let total = entries.len() as u64;
    entries.reverse();
    let rows = entries
        .iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        .take(limit as usize)
        .map(|entry| Ok((entry.seq.to_string(), super::query::to_raw(entry)?)))
        .collect::<Result<_, StoreError>>()?;
    Ok(Some((rows, total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_survives_its_text_whatever_names_it_holds() {
        let id = CommandId(uuid::Uuid::nil());
        let mut text = String::new();
        append_event(&mut text, Timestamp::from_millis(1), "created", "an \"op\"\n\u{7}", "");
        append_event(
            &mut text,
            Timestamp::from_millis(2),
            "progress",
            "device",
            r#"{"progress":40}"#,
        );
        let broken = "{\"result\":{\n\"r\":1}}";
        append_event(&mut text, Timestamp::from_millis(3), "late", "device", broken);
        let entries = read_timeline(&text, id).expect("as written");
        assert_eq!(entries[0].by, "an \"op\"\n\u{7}");
        assert_eq!(entries[0].detail, serde_json::json!({}));
        assert_eq!(entries[1].seq, 2);
        assert_eq!(entries[1].detail["progress"], 40);
        assert_eq!(entries[2].detail["result"]["r"], 1);
    }
}
