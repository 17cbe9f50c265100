//! What the devices' messages change, in bulk.

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    time::Timestamp,
};

use crate::{
    domain::presence::{Before, Presence, SILENCE_MAX_MS},
    store::{
        StoreError, Tx,
        bulk::{GATHERED_MAX_KEYS, keys, placeholders, sizes},
        on,
    },
};

/// What is known of a device when it speaks, or falls silent.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Known {
    pub project_id: String,
    pub id: String,
    pub status: String,
    pub connected: bool,
    pub stale_due: Option<i64>,
    /// When the server last could not hear, by its wall clock, if it has not heard of the device since.
    pub unheard_since: Option<i64>,
    pub boot_id: Option<String>,
    pub agent_version: Option<String>,
    pub announcement_hash: Option<String>,
    pub clock_offset_ms: Option<i64>,
    pub service_failed_unit: Option<String>,
    pub process_status: Option<String>,
}

macro_rules! known {
    ($tail:literal) => {
        concat!(
            "SELECT project_id, id, status, connected, stale_due, unheard_since, boot_id, agent_version, announcement_hash, clock_offset_ms,
             service_failed_unit, process_status FROM devices ",
            $tail
        )
    };
}

impl Known {
    pub fn presence(&self) -> Result<Presence, StoreError> {
        let connected = self.connected;
        let since_ms = self.stale_due.unwrap_or_default().saturating_sub(SILENCE_MAX_MS);
        Ok(match (self.status.as_str(), self.unheard_since) {
            ("online", None) => Presence::Online { heard_ms: since_ms, connected },
            ("online", Some(_)) => Presence::Unheard { since_ms, was: Before::Online },
            ("stale", None) => Presence::Stale { connected },
            ("stale", Some(_)) => Presence::Unheard { since_ms, was: Before::Stale },
            ("offline", _) => Presence::Offline,
            ("retired", _) => Presence::Retired,
            (other, _) => {
                return Err(StoreError::Corrupt {
                    what: format!("status {other:?} of device {}", self.id),
                });
            }
        })
    }
}

/// Reads what is known of devices; unknown ones are left out.
pub async fn known(
    tx: &mut Tx,
    devices: &[(ProjectId, DeviceId)],
) -> Result<Vec<Known>, StoreError> {
    let mut found = Vec::with_capacity(devices.len());
    let sql = format!(known!("WHERE (project_id, id) IN {}"), tx.pairs("$1"));
    for chunk in devices.chunks(GATHERED_MAX_KEYS) {
        let rows: Vec<Known> = on!(tx, conn => sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
            .bind(keys(chunk)).fetch_all(conn).await?);
        found.extend(rows);
    }
    Ok(found)
}

/// Reads devices that have been silent for too long.
pub async fn due(tx: &mut Tx, now_ms: i64, limit: u32) -> Result<Vec<Known>, StoreError> {
    Ok(
        on!(tx, conn => sqlx::query_as(known!("WHERE stale_due IS NOT NULL AND stale_due <= $1 ORDER BY stale_due LIMIT $2"))
        .bind(now_ms).bind(i64::from(limit)).fetch_all(conn).await?),
    )
}

/// Lets [`Event::Deaf`](crate::domain::presence::Event::Deaf) happen to everybody at once, and names
/// those who were heard until now: of the others nothing changes that is shown.
pub async fn deaf(
    tx: &mut Tx,
    stale_due: i64,
    since: Timestamp,
) -> Result<Vec<(String, String)>, StoreError> {
    let heard = on!(tx, conn => sqlx::query_as(
        "UPDATE devices SET stale_due = $1, connected = FALSE, unheard_since = $2
         WHERE status IN ('online', 'stale') AND unheard_since IS NULL RETURNING project_id, id",
    ).bind(stale_due).bind(since.as_millis()).fetch_all(conn).await?);
    on!(tx, conn => sqlx::query(
        "UPDATE devices SET stale_due = $1 WHERE status IN ('online', 'stale')",
    ).bind(stale_due).execute(conn).await?.rows_affected());
    Ok(heard)
}

/// What changed of one device's presence and facts. What is `None` stays as it is, save
/// `stale_due` and `unheard_since`.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub project_id: String,
    pub id: String,
    pub status: &'static str,
    pub connected: bool,
    pub stale_due: Option<i64>,
    pub unheard_since: Option<i64>,
    pub last_seen_at: Option<i64>,
    pub boot_id: Option<String>,
    pub agent_version: Option<String>,
    /// JSON.
    pub facts: Option<String>,
    /// JSON, and what it was hashed to with all that was said of it.
    pub capabilities: Option<(String, String)>,
    pub clock_offset_ms: Option<i64>,
    pub health: Option<Health>,
    pub service_failed: Option<ServiceFailed>,
}

#[derive(Debug, Clone, Default)]
pub struct Health {
    /// JSON.
    pub report: String,
    pub at: i64,
    pub reconnect_count: i64,
    pub last_disconnect_at: Option<i64>,
    pub process_status: Option<String>,
}

/// A unit that failed, or `None` for none any more.
pub type ServiceFailed = Option<(String, String, i64)>;

/// Writes what was heard, each of another device.
pub async fn update(tx: &mut Tx, heard: &[Heard]) -> Result<(), StoreError> {
    presence(tx, heard).await?;
    health(
        tx,
        &heard.iter().filter_map(|one| Some((one, one.health.as_ref()?))).collect::<Vec<_>>(),
    )
    .await?;
    for one in heard {
        if let Some(failed) = &one.service_failed {
            set_service_failed(tx, &one.project_id, &one.id, failed.as_ref()).await?;
        }
    }
    Ok(())
}

async fn presence(tx: &mut Tx, heard: &[Heard]) -> Result<(), StoreError> {
    const COLUMNS: usize = 13;
    let mut start = 0;
    for size in sizes(heard.len(), COLUMNS) {
        let sql = tx.dialect(format!(
            "WITH v (project_id, id, status, connected, stale_due, unheard_since, last_seen_at, boot_id, agent_version, facts,
               capabilities, announcement_hash, clock_offset_ms) AS (VALUES {})
             UPDATE devices SET status = v.status, connected = v.connected, stale_due = v.stale_due,
               unheard_since = v.unheard_since,
               last_seen_at = COALESCE(v.last_seen_at, devices.last_seen_at),
               boot_id = COALESCE(v.boot_id, devices.boot_id),
               agent_version = COALESCE(v.agent_version, devices.agent_version),
               facts = COALESCE(v.facts, devices.facts),
               capabilities = COALESCE(v.capabilities, devices.capabilities),
               announcement_hash = COALESCE(v.announcement_hash, devices.announcement_hash),
               clock_offset_ms = COALESCE(v.clock_offset_ms, devices.clock_offset_ms)
             FROM v WHERE devices.project_id = v.project_id AND devices.id = v.id",
            placeholders(size, COLUMNS),
        ));
        let chunk = &heard[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for one in chunk {
                query = query.bind(one.project_id.as_str()).bind(one.id.as_str()).bind(one.status).bind(one.connected)
                    .bind(one.stale_due).bind(one.unheard_since).bind(one.last_seen_at).bind(one.boot_id.as_deref())
                    .bind(one.agent_version.as_deref()).bind(one.facts.as_deref()).bind(one.capabilities.as_ref().map(|(text, _)| text.as_str()))
                    .bind(one.capabilities.as_ref().map(|(_, hash)| hash.as_str()))
                    .bind(one.clock_offset_ms);
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

async fn health(tx: &mut Tx, reports: &[(&Heard, &Health)]) -> Result<(), StoreError> {
    const COLUMNS: usize = 7;
    let mut start = 0;
    for size in sizes(reports.len(), COLUMNS) {
        let sql = tx.dialect(format!(
            "WITH v (project_id, id, health, health_at, reconnect_count, last_disconnect_at, process_status) AS (VALUES {})
             UPDATE devices SET health = v.health, health_at = v.health_at, reconnect_count = v.reconnect_count,
               last_disconnect_at = v.last_disconnect_at, process_status = v.process_status
             FROM v WHERE devices.project_id = v.project_id AND devices.id = v.id",
            placeholders(size, COLUMNS),
        ));
        let chunk = &reports[start..start + size];
        start += size;
        on!(tx, conn => {
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for (one, report) in chunk {
                query = query.bind(one.project_id.as_str()).bind(one.id.as_str()).bind(report.report.as_str())
                    .bind(report.at).bind(report.reconnect_count).bind(report.last_disconnect_at)
                    .bind(report.process_status.as_deref());
            }
            query.execute(conn).await?.rows_affected()
        });
    }
    Ok(())
}

/// Sets or clears a device's failed service.
pub async fn set_service_failed(
    tx: &mut Tx,
    project: &str,
    device: &str,
    failed: Option<&(String, String, i64)>,
) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "UPDATE devices SET service_failed_unit = $3, service_failed_reason = $4, service_failed_at = $5
         WHERE project_id = $1 AND id = $2",
    ).bind(project).bind(device).bind(failed.map(|(unit, ..)| unit.as_str()))
     .bind(failed.map(|(_, reason, _)| reason.as_str())).bind(failed.map(|(.., at)| *at))
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Takes note that devices were heard of, though not in a heartbeat.
pub async fn seen(
    tx: &mut Tx,
    devices: &[(ProjectId, DeviceId)],
    at: i64,
) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE devices SET last_seen_at = $1 WHERE (project_id, id) IN {}",
        tx.pairs("$2")
    );
    for chunk in devices.chunks(GATHERED_MAX_KEYS) {
        on!(tx, conn => sqlx::query(sqlx::AssertSqlSafe(sql.as_str())).bind(at).bind(keys(chunk))
            .execute(conn).await?.rows_affected());
    }
    Ok(())
}

/// Counts the devices of a project with a status.
pub async fn count_with_status(
    tx: &mut Tx,
    project: &str,
    status: &str,
) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM devices WHERE project_id = $1 AND status = $2",
    ).bind(project).bind(status).fetch_one(conn).await?);
    Ok(count as u64)
}

/// Counts the devices of a project in service whose clock is off.
pub async fn count_skewed(tx: &mut Tx, project: &str) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM devices WHERE project_id = $1 AND status <> 'retired'
         AND (clock_offset_ms > $2 OR clock_offset_ms < -$2)",
    ).bind(project).bind(quarterdeck_protocol::limits::CLOCK_SKEW_MAX_MS).fetch_one(conn).await?);
    Ok(count as u64)
}
