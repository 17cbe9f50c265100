//! The numbers of the Overview screen: each from an index or a kept count.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{AlertCounts, DeviceCounts, Overview, RebootBudget, SiteCount},
    command::CommandStatus,
    ids::{DeviceId, ProjectId},
    time::Timestamp,
};

use super::{StoreError, Tx, commands::listing, on, projects, safety, tunnels};
use crate::{clock::Now, domain::safety::Counter};

/// What "recent" means, in milliseconds.
const RECENT_MS: i64 = 15 * 60 * 1_000;
/// The most commands that percentiles are taken of, the newest.
const SAMPLE_MAX_ROWS: i64 = 10_000;
/// Sites that are shown at most.
const SITES_MAX: i64 = 10;
/// Devices whose reboots are shown at most.
const BUDGETS_MAX_DEVICES: u32 = 10;

/// Reads the overview of a project.
pub async fn read(tx: &mut Tx, project: &ProjectId, now: Now) -> Result<Overview, StoreError> {
    let since = now.wall.plus_millis(-RECENT_MS).as_millis();
    let name = project.as_str();
    let (p50_ms, p95_ms) = percentiles(tx, name, since).await?;
    let recent: Vec<(String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT status, COUNT(*) FROM commands WHERE project_id = $1 AND finished_at IS NOT NULL AND finished_at > $2
         GROUP BY status",
    ).bind(name).bind(since).fetch_all(conn).await?);
    let oldest: Option<(i64,)> = on!(tx, conn => sqlx::query_as(
        "SELECT created_at FROM commands WHERE project_id = $1 AND open AND status = 'queued' ORDER BY id LIMIT 1",
    ).bind(name).fetch_optional(conn).await?);
    Ok(Overview {
        devices: devices(tx, name).await?,
        open_commands: listing::counts(tx, project)
            .await?
            .into_iter()
            .filter(|(status, count)| !status.is_terminal() && *count > 0)
            .map(|(status, count)| (status.as_str().to_owned(), count))
            .collect::<BTreeMap<_, _>>(),
        recent_commands: recent.into_iter().map(|(status, count)| (status, count as u64)).collect(),
        p50_ms,
        p95_ms,
        oldest_queued_at: oldest.map(|(at,)| Timestamp::from_millis(at)),
        alerts: alerts(tx, name).await?,
        offline_by_site: offline_by_site(tx, name).await?,
        reboot_budget: reboot_budget(tx, project, now).await?,
        open_tunnels: tunnels::count_open(tx, name).await?,
    })
}

/// From the start on the device, where that is known, to the end.
async fn percentiles(
    tx: &mut Tx,
    project: &str,
    since: i64,
) -> Result<(Option<u64>, Option<u64>), StoreError> {
    let rows: Vec<(i64,)> = on!(tx, conn => sqlx::query_as(
        "SELECT finished_at - COALESCE(started_at, created_at) FROM commands
         WHERE project_id = $1 AND finished_at IS NOT NULL AND finished_at > $2 AND status || '' = $3
         ORDER BY finished_at DESC LIMIT $4",
    ).bind(project).bind(since).bind(CommandStatus::Completed.as_str()).bind(SAMPLE_MAX_ROWS).fetch_all(conn).await?);
    let mut durations: Vec<u64> =
        rows.into_iter().map(|(duration,)| duration.max(0) as u64).collect();
    durations.sort_unstable();
    let at = |percent: usize| {
        let rank = (durations.len() * percent).div_ceil(100).max(1) - 1;
        durations.get(rank).copied()
    };
    Ok((at(50), at(95)))
}

async fn devices(tx: &mut Tx, project: &str) -> Result<DeviceCounts, StoreError> {
    let rows: Vec<(String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT status, COUNT(*) FROM devices WHERE project_id = $1 GROUP BY status",
    ).bind(project).fetch_all(conn).await?);
    let (failed,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM devices WHERE project_id = $1 AND service_failed_at IS NOT NULL",
    ).bind(project).fetch_one(conn).await?);
    let (unheard,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM devices WHERE project_id = $1 AND unheard_since IS NOT NULL AND status IN ('online', 'stale')",
    ).bind(project).fetch_one(conn).await?);
    let of = |wanted: &str| {
        rows.iter().find(|(status, _)| status == wanted).map_or(0, |(_, count)| *count as u64)
    };
    Ok(DeviceCounts {
        online: of("online"),
        stale: of("stale"),
        unheard: unheard as u64,
        offline: of("offline"),
        retired: of("retired"),
        service_failed: failed as u64,
    })
}

async fn alerts(tx: &mut Tx, project: &str) -> Result<AlertCounts, StoreError> {
    let rows: Vec<(String, bool, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT severity, acknowledged_at IS NOT NULL, COUNT(*) FROM alerts
         WHERE project_id = $1 AND resolved_at IS NULL GROUP BY severity, acknowledged_at IS NOT NULL",
    ).bind(project).fetch_all(conn).await?);
    let mut counts = AlertCounts::default();
    for (severity, acknowledged, count) in rows {
        let count = count as u64;
        match severity.as_str() {
            "critical" => counts.critical += count,
            "warning" => counts.warning += count,
            _ => counts.info += count,
        }
        if !acknowledged {
            counts.unacknowledged += count;
        }
    }
    Ok(counts)
}

async fn reboot_budget(
    tx: &mut Tx,
    project: &ProjectId,
    now: Now,
) -> Result<Vec<RebootBudget>, StoreError> {
    let settings = projects::settings(tx, project).await?.unwrap_or_default();
    let rule = Counter::Reboot.rule(&settings);
    let since_ms = now.steady_ms - rule.window_ms;
    let used =
        safety::most_used(tx, project, Counter::Reboot, since_ms, BUDGETS_MAX_DEVICES).await?;
    used.into_iter()
        .map(|(device, used)| {
            let corrupt = |_| StoreError::Corrupt { what: format!("device {device:?}") };
            Ok(RebootBudget {
                device_id: DeviceId::new(&device).map_err(corrupt)?,
                used,
                left: (rule.limit as u64).saturating_sub(used),
            })
        })
        .collect()
}

async fn offline_by_site(tx: &mut Tx, project: &str) -> Result<Vec<SiteCount>, StoreError> {
    let rows: Vec<(String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT t.value, COUNT(*) AS offline FROM devices d
         JOIN device_tags t ON t.project_id = d.project_id AND t.device_id = d.id AND t.key = 'site'
         WHERE d.project_id = $1 AND d.status = 'offline' GROUP BY t.value ORDER BY offline DESC, t.value LIMIT $2",
    ).bind(project).bind(SITES_MAX).fetch_all(conn).await?);
    Ok(rows.into_iter().map(|(site, count)| SiteCount { site, count: count as u64 }).collect())
}
