//! What the engine loads of commands: by id, by due time, by device.

use quarterdeck_protocol::{
    command::CommandStatus,
    ids::{DeviceId, ProjectId},
};
use serde::Deserialize;

use crate::{
    domain::command::{CancelPending, CommandState, Kind, Phase},
    store::{
        StoreError, Tx,
        bulk::{GATHERED_MAX_KEYS, gather, keys},
        on,
        query::{Sql, fetch_all},
    },
};

/// The operation that is complete only when the host is back.
const REBOOT: &str = "reboot_host";
/// The one that is complete when the host is down.
const SHUTDOWN: &str = "shutdown_host";

/// What a decision about a command needs.
#[derive(Debug, Clone, sqlx::FromRow, Deserialize)]
pub struct Loaded {
    pub id: String,
    pub project_id: String,
    pub device_id: String,
    #[sqlx(rename = "type")]
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
    pub published_at: Option<i64>,
}

/// The columns of [`Loaded`], or a statement that reads them.
macro_rules! loaded {
    () => {
        "id, project_id, device_id, type, timeout_s, status, expires_due, ends_due, cancel_due, due, boot_id,
         progress, step, state, events, published_at"
    };
    ($tail:literal) => {
        concat!("SELECT ", loaded!(), " FROM commands ", $tail)
    };
}

impl Loaded {
    pub fn is_reboot(&self) -> bool {
        self.kind == REBOOT
    }

    /// Whether its device's coming and going decides it.
    pub fn takes_host_down(&self) -> bool {
        self.is_reboot() || self.kind == SHUTDOWN
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
                let boot_id = self.boot_id.clone();
                Phase::AwaitingReconnect { ends_due: ends_due()?, boot_id, cancel }
            }
            ended => Phase::Ended(ended),
        };
        let kind = match self.kind.as_str() {
            REBOOT => Kind::Reboot { ceiling_ms: reboot_ceiling_ms },
            SHUTDOWN => Kind::Shutdown,
            _ => Kind::Plain,
        };
        Ok(CommandState { kind, timeout_ms: self.timeout_s * 1_000, phase })
    }
}

/// Loads commands by id, in any order; unknown ones are left out.
pub async fn by_ids(tx: &mut Tx, ids: &[String]) -> Result<Vec<Loaded>, StoreError> {
    let mut loaded = Vec::with_capacity(ids.len());
    let from = format!("commands WHERE id IN {}", tx.texts("$1"));
    for chunk in ids.chunks(GATHERED_MAX_KEYS) {
        loaded.extend(gather::<Loaded>(tx, loaded!(), &from, &[&keys(chunk)]).await?);
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

const OPEN_OF: &str = loaded!("WHERE project_id = $1 AND device_id = $2 AND open");

/// Loads what a device has not ended, oldest first.
pub async fn open_of(tx: &mut Tx, project: &str, device: &str) -> Result<Vec<Loaded>, StoreError> {
    // Sorted here: in order of ids stands an index with all that ever was.
    let mut open: Vec<Loaded> =
        on!(tx, conn => sqlx::query_as(OPEN_OF).bind(project).bind(device).fetch_all(conn).await?);
    open.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(open)
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

/// Loads what takes these devices down and has begun: their connection's end and return decide it.
pub async fn going_down_of(
    tx: &mut Tx,
    devices: &[(ProjectId, DeviceId)],
) -> Result<Vec<Loaded>, StoreError> {
    let mut loaded = Vec::new();
    for chunk in devices.chunks(256) {
        let mut sql =
            Sql::new(loaded!("WHERE open AND type IN ('reboot_host', 'shutdown_host') AND "));
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
    Ok(fetch_all!(tx, outbox_sql(devices, window, now_ms))?)
}

fn outbox_sql(devices: &[(ProjectId, DeviceId)], window: u32, now_ms: i64) -> Sql {
    let mut sql = Sql::new("WITH wanted (project_id, device_id) AS (VALUES ");
    for (index, (project, device)) in devices.iter().enumerate() {
        sql.push(if index == 0 { "(" } else { ", (" });
        sql.bind(project.as_str()).push(", ").bind(device.as_str()).push(")");
    }
    sql.push(
        ") SELECT c.id, c.project_id, c.device_id, c.type AS kind, c.status, b.payload, c.priority, c.timeout_s,
           c.created_at, c.expires_at, c.created_by
         FROM wanted w
         JOIN commands c ON c.project_id = w.project_id AND c.device_id = w.device_id
           AND c.open AND c.deliver
         JOIN batches b ON b.id = c.batch_id
         WHERE c.expires_due > ",
    );
    sql.bind(now_ms);
    sql.push(
        " AND c.id IN (SELECT i.id FROM commands i WHERE i.project_id = w.project_id AND i.device_id = w.device_id
           AND i.open AND i.deliver ORDER BY i.priority, i.id LIMIT ",
    );
    sql.bind(i64::from(window)).push(") ORDER BY c.project_id, c.device_id, c.priority, c.id");
    sql
}

const QUEUE_DEPTHS: &str =
    "SELECT project_id, device_id, COUNT(*) AS depth FROM commands WHERE open AND deliver
     GROUP BY project_id, device_id HAVING COUNT(*) > $1 ORDER BY depth DESC LIMIT $2";

/// Tells how many commands wait for each of the devices that have any, the longest queues first.
pub async fn queue_depths(
    tx: &mut Tx,
    over: i64,
    limit: u32,
) -> Result<Vec<(String, String, i64)>, StoreError> {
    Ok(
        on!(tx, conn => sqlx::query_as(QUEUE_DEPTHS).bind(over).bind(i64::from(limit)).fetch_all(conn).await?),
    )
}

fn push_devices(sql: &mut Sql, devices: &[(ProjectId, DeviceId)]) {
    sql.push("(project_id, device_id) IN (VALUES ");
    for (index, (project, device)) in devices.iter().enumerate() {
        sql.push(if index == 0 { "(" } else { ", (" });
        sql.bind(project.as_str()).push(", ").bind(device.as_str()).push(")");
    }
    sql.push(")");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Location, Store};

    /// What ever was asked of a device must not be walked to find the few that are open.
    #[tokio::test]
    async fn what_is_open_is_found_in_the_index_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let location = Location::Sqlite(folder.path().join("plan.db"));
        let store = Store::open(&location).await.expect("a store");
        let mut tx = store.read().await.expect("a reader");
        let device = (ProjectId::new("p").expect("valid"), DeviceId::new("d").expect("valid"));
        let outbox = outbox_sql(&[device], 16, 0);
        let of_one = {
            let mut sql = Sql::new(OPEN_OF.split('$').next().expect("a beginning"));
            sql.bind("p").push(" AND device_id = ").bind("d").push(" AND open");
            sql
        };
        let depths = Sql::new(&QUEUE_DEPTHS.replace("$1", "100").replace("$2", "20"));
        for mut sql in [outbox, of_one, depths] {
            sql.text = format!("EXPLAIN QUERY PLAN {}", sql.text);
            let rows: Vec<(i64, i64, i64, String)> = fetch_all!(&mut tx, sql).expect("a plan");
            let plan: Vec<_> = rows.into_iter().map(|row| row.3).collect();
            assert!(plan.iter().any(|step| step.contains("INDEX commands_open")), "{plan:?}");
            let walks_all =
                |step: &String| step.contains("commands_by_") && !step.contains(" id=?");
            assert!(!plan.iter().any(walks_all), "{plan:?}");
        }
    }
}
