//! What the engine loads of commands: by id, by due time, by device.

use std::sync::Arc;

use quarterdeck_protocol::{
    command::CommandStatus,
    ids::{DeviceId, ProjectId},
};

use super::write::{Statement, statement};
use crate::{
    domain::command::{CancelPending, CommandState, Kind, Phase},
    store::{
        StoreError, Tx,
        bulk::sizes,
        on,
        query::{Sql, fetch_all},
    },
};

/// The one operation that is complete only when the host is back.
const REBOOT: &str = "reboot_host";

/// What a decision about a command needs.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Loaded {
    pub id: String,
    pub project_id: String,
    pub device_id: String,
    pub kind: String,
    pub timeout_s: i64,
    pub status: String,
    pub expires_due: i64,
    pub ends_due: Option<i64>,
    pub cancel_due: Option<i64>,
    /// When the sweep looks at it next; never later than it must.
    pub due: Option<i64>,
    pub boot_id: Option<String>,
    pub progress: Option<i64>,
    pub step: Option<String>,
    pub state: Option<String>,
    pub events: i64,
}

macro_rules! loaded {
    ($tail:literal) => {
        concat!(
            "SELECT id, project_id, device_id, type AS kind, timeout_s, status, expires_due, ends_due, cancel_due,
             due, boot_id, progress, step, state, events FROM commands ",
            $tail
        )
    };
}

impl Loaded {
    pub fn is_reboot(&self) -> bool {
        self.kind == REBOOT
    }

    /// What the domain decides upon. `reboot_ceiling_ms` is of the project's settings.
    pub fn to_state(&self, reboot_ceiling_ms: i64) -> Result<CommandState, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { what: format!("{what} of command {}", self.id) };
        let status: CommandStatus = self.status.parse().map_err(|_| corrupt("status"))?;
        let ends_due = || self.ends_due.ok_or_else(|| corrupt("ends_due"));
        let cancel = self.cancel_due.map(|silent_due| CancelPending { silent_due });
        let phase = match status {
            CommandStatus::Queued => Phase::Queued { expires_due: self.expires_due },
            CommandStatus::Published => Phase::Published { expires_due: self.expires_due, cancel },
            CommandStatus::Accepted => Phase::Accepted { ends_due: ends_due()?, cancel },
            CommandStatus::ExecutionStarted => {
                Phase::Running { ends_due: ends_due()?, boot_id: self.boot_id.clone(), cancel }
            }
            CommandStatus::AwaitingReconnect => {
                Phase::AwaitingReconnect { ends_due: ends_due()?, boot_id: self.boot_id.clone() }
            }
            ended => Phase::Ended(ended),
        };
        let kind = if self.is_reboot() {
            Kind::Reboot { ceiling_ms: reboot_ceiling_ms }
        } else {
            Kind::Plain
        };
        Ok(CommandState { kind, timeout_ms: self.timeout_s * 1_000, phase })
    }
}

/// Loads commands by id, in any order; unknown ones are left out.
pub async fn by_ids(tx: &mut Tx, ids: &[String]) -> Result<Vec<Loaded>, StoreError> {
    let mut loaded = Vec::with_capacity(ids.len());
    let mut start = 0;
    for size in sizes(ids.len(), 1) {
        let sql: Arc<str> = statement(tx, Statement::Load, size, || {
            let list: Vec<_> = (1..=size).map(|n| format!("${n}")).collect();
            format!("{} ({})", loaded!("WHERE id IN"), list.join(","))
        });
        let chunk = &ids[start..start + size];
        start += size;
        let rows: Vec<Loaded> = on!(tx, conn => {
            let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
            for id in chunk {
                query = query.bind(id.as_str());
            }
            query.fetch_all(conn).await?
        });
        loaded.extend(rows);
    }
    Ok(loaded)
}

/// Loads what is due, the longest overdue first.
pub async fn due(tx: &mut Tx, now_ms: i64, limit: u32) -> Result<Vec<Loaded>, StoreError> {
    Ok(
        on!(tx, conn => sqlx::query_as(loaded!("WHERE due IS NOT NULL AND due <= $1 ORDER BY due LIMIT $2"))
        .bind(now_ms).bind(i64::from(limit)).fetch_all(conn).await?),
    )
}

/// Loads what a device has not ended, oldest first.
pub async fn open_of(tx: &mut Tx, project: &str, device: &str) -> Result<Vec<Loaded>, StoreError> {
    Ok(
        on!(tx, conn => sqlx::query_as(loaded!("WHERE project_id = $1 AND device_id = $2 AND open ORDER BY id"))
        .bind(project).bind(device).fetch_all(conn).await?),
    )
}

/// Loads what a batch has not ended.
pub async fn open_of_batch(
    tx: &mut Tx,
    project: &ProjectId,
    batch: &str,
) -> Result<Vec<Loaded>, StoreError> {
    Ok(
        on!(tx, conn => sqlx::query_as(loaded!("WHERE batch_id = $2 AND project_id = $1 AND open ORDER BY id"))
        .bind(project.as_str()).bind(batch).fetch_all(conn).await?),
    )
}

/// Loads the reboots that these devices have begun: their connection's end and return decide them.
pub async fn reboots_of(
    tx: &mut Tx,
    devices: &[(ProjectId, DeviceId)],
) -> Result<Vec<Loaded>, StoreError> {
    let mut loaded = Vec::new();
    for chunk in devices.chunks(256) {
        let mut sql = Sql::new(loaded!("WHERE open AND type = 'reboot_host' AND "));
        sql.push("status IN ('execution_started', 'awaiting_reconnect') AND ");
        push_devices(&mut sql, chunk);
        let rows: Vec<Loaded> = fetch_all!(tx, sql)?;
        loaded.extend(rows);
    }
    Ok(loaded)
}

/// The ids of what is being cancelled on devices that may not have heard of it.
pub async fn cancels_of(
    tx: &mut Tx,
    devices: &[(ProjectId, DeviceId)],
) -> Result<Vec<(String, String, String)>, StoreError> {
    let mut found = Vec::new();
    for chunk in devices.chunks(256) {
        let mut sql = Sql::new(
            "SELECT project_id, device_id, id FROM commands WHERE open AND cancel_due IS NOT NULL AND ",
        );
        push_devices(&mut sql, chunk);
        let rows: Vec<(String, String, String)> = fetch_all!(tx, sql)?;
        found.extend(rows);
    }
    Ok(found)
}

/// A command as its device is to get it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Outgoing {
    pub id: String,
    pub project_id: String,
    pub device_id: String,
    pub kind: String,
    pub status: String,
    pub payload: String,
    pub priority: i64,
    pub timeout_s: i64,
    pub created_at: i64,
    pub expires_at: i64,
    pub created_by: String,
}

/// Reads the outbox of many devices: of each the first `window` commands, the most urgent first.
pub async fn outbox(
    tx: &mut Tx,
    devices: &[(ProjectId, DeviceId)],
    window: u32,
    now_ms: i64,
) -> Result<Vec<Outgoing>, StoreError> {
    let mut sql = Sql::new("WITH wanted (project_id, device_id) AS (VALUES ");
    for (index, (project, device)) in devices.iter().enumerate() {
        sql.push(if index == 0 { "(" } else { ", (" });
        sql.bind(project.as_str()).push(", ").bind(device.as_str()).push(")");
    }
    sql.push(
        ") SELECT c.id, c.project_id, c.device_id, c.type AS kind, c.status, b.payload, c.priority, c.timeout_s,
           c.created_at, c.expires_at, c.created_by
         FROM wanted w
         JOIN commands c ON c.project_id = w.project_id AND c.device_id = w.device_id AND c.deliver
         JOIN batches b ON b.id = c.batch_id
         WHERE c.expires_due > ",
    );
    sql.bind(now_ms);
    sql.push(
        " AND c.id IN (SELECT i.id FROM commands i WHERE i.project_id = w.project_id AND i.device_id = w.device_id
           AND i.deliver ORDER BY i.priority, i.id LIMIT ",
    );
    sql.bind(i64::from(window)).push(") ORDER BY c.project_id, c.device_id, c.priority, c.id");
    Ok(fetch_all!(tx, sql)?)
}

/// Tells how many commands wait for each of the devices that have any, the longest queues first.
pub async fn queue_depths(
    tx: &mut Tx,
    over: i64,
    limit: u32,
) -> Result<Vec<(String, String, i64)>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT project_id, device_id, COUNT(*) AS depth FROM commands WHERE deliver
         GROUP BY project_id, device_id HAVING COUNT(*) > $1 ORDER BY depth DESC LIMIT $2",
    ).bind(over).bind(i64::from(limit)).fetch_all(conn).await?))
}

fn push_devices(sql: &mut Sql, devices: &[(ProjectId, DeviceId)]) {
    sql.push("(project_id, device_id) IN (VALUES ");
    for (index, (project, device)) in devices.iter().enumerate() {
        sql.push(if index == 0 { "(" } else { ", (" });
        sql.bind(project.as_str()).push(", ").bind(device.as_str()).push(")");
    }
    sql.push(")");
}
