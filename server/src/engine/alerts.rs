//! Alerts: raised and resolved by what happens, acknowledged and silenced by people (chapter 6).
//!
//! One open alert for each cause, with a count. Many devices with the same
//! trouble at once have one cause in common, the network or the server itself:
//! then one alert stands for all of them.
//!
//! ```text
//!  device_offline of few devices      ─▶ device_offline:pi-1, device_offline:pi-2
//!  of over 20 % of them, at least 10  ─▶ device_offline:*   (one, counting)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use quarterdeck_protocol::{
    api::{Alert, AuditOutcome, Severity},
    ids::ProjectId,
    live::Listing,
};
use serde_json::json;

use super::{Actor, After, Change, Engine, Refused, ingest::DeviceKey};
use crate::{
    clock::Now,
    store::{
        StoreError, Tx,
        alerts::{self as store, Raise},
        audit::NewEntry,
        devices,
    },
};

/// The longest silence of an alert, in seconds.
pub const SILENCE_MAX_S: u64 = 30 * 24 * 3600;
/// From so many devices on, trouble may be a mass event.
const MASS_MIN_DEVICES: u64 = 10;
/// Over this share of a project's devices it is one, in percent.
const MASS_OVER_PERCENT: u64 = 20;
/// The kinds that a mass event may be of.
const MASS_KINDS: [&str; 3] = ["device_offline", "device_stale", "clock_skew"];

/// The alerts that one transaction raises and resolves.
#[derive(Debug, Default)]
pub(super) struct Alerts {
    raised: BTreeMap<(ProjectId, &'static str), Vec<OfDevice>>,
    resolved: BTreeMap<ProjectId, BTreeSet<String>>,
}

#[derive(Debug)]
struct OfDevice {
    device: String,
    severity: Severity,
    cause: String,
    command: Option<String>,
}

impl Alerts {
    /// Raises an alert of one device.
    pub(super) fn raise(
        &mut self,
        device: &DeviceKey,
        kind: &'static str,
        severity: Severity,
        cause: String,
        command: Option<String>,
    ) {
        // What was resolved a moment ago in the same transaction is not over.
        if let Some(keys) = self.resolved.get_mut(&device.0) {
            keys.remove(&key(kind, device.1.as_str()));
        }
        self.raised.entry((device.0.clone(), kind)).or_default().push(OfDevice {
            device: device.1.to_string(),
            severity,
            cause,
            command,
        });
    }

    /// Resolves the alert of one kind that a device may have.
    pub(super) fn resolve(&mut self, device: &DeviceKey, kind: &'static str) {
        if let Some(raised) = self.raised.get_mut(&(device.0.clone(), kind)) {
            raised.retain(|one| one.device != device.1.as_str());
        }
        self.resolved.entry(device.0.clone()).or_default().insert(key(kind, device.1.as_str()));
    }

    /// Writes all of them.
    pub(super) async fn write(
        self,
        engine: &Engine,
        tx: &mut Tx,
        now: Now,
        after: &mut After,
    ) -> Result<(), StoreError> {
        let at = now.wall.as_millis();
        for (project, keys) in self.resolved {
            let keys: Vec<_> = keys.into_iter().collect();
            let ids = store::resolve(tx, project.as_str(), &keys, at).await?;
            announce(after, &project, ids);
        }
        for ((project, kind), raised) in self.raised {
            if raised.is_empty() {
                continue;
            }
            let is_mass = MASS_KINDS.contains(&kind)
                && is_mass(tx, &project, kind, raised.len() as u64).await?;
            let raises: Vec<Raise> = if is_mass {
                vec![mass(engine, &project, kind, raised.len(), at)]
            } else {
                raised
                    .into_iter()
                    .map(|one| Raise {
                        id: engine.clock().new_uuid().to_string(),
                        project_id: project.to_string(),
                        key: key(kind, &one.device),
                        kind,
                        severity: one.severity,
                        cause: one.cause,
                        device_id: Some(one.device),
                        command_id: one.command,
                        at,
                        count: 1,
                    })
                    .collect()
            };
            for raise in raises {
                let id = store::raise(tx, &raise).await?;
                announce(after, &project, vec![id]);
            }
        }
        Ok(())
    }
}

fn mass(engine: &Engine, project: &ProjectId, kind: &'static str, count: usize, at: i64) -> Raise {
    let what = match kind {
        "device_offline" => "are offline",
        "device_stale" => "have missed heartbeats",
        _ => "have a clock that differs from the server's",
    };
    Raise {
        id: engine.clock().new_uuid().to_string(),
        project_id: project.to_string(),
        key: key(kind, "*"),
        kind,
        severity: Severity::Critical,
        cause: format!(
            "many devices {what} at once: the network, the broker or the server may be the cause"
        ),
        device_id: None,
        command_id: None,
        at,
        count: count as i64,
    }
}

async fn is_mass(
    tx: &mut Tx,
    project: &ProjectId,
    kind: &str,
    new: u64,
) -> Result<bool, StoreError> {
    if store::is_open(tx, project.as_str(), &key(kind, "*")).await? {
        return Ok(true);
    }
    let troubled = new + store::count_open(tx, project.as_str(), kind).await?;
    if troubled < MASS_MIN_DEVICES {
        return Ok(false);
    }
    let (all, _) = devices::count_in_service(tx, project.as_str()).await?;
    Ok(troubled * 100 > all * MASS_OVER_PERCENT)
}

/// Resolves mass alerts whose trouble is no longer that of many.
pub(super) async fn sweep_mass(tx: &mut Tx, now: Now, after: &mut After) -> Result<(), StoreError> {
    for (project, open_key, device) in store::open_of_kinds(tx, &MASS_KINDS).await? {
        if device.is_some() {
            continue;
        }
        let troubled = match open_key.as_str() {
            "device_offline:*" => devices::live::count_with_status(tx, &project, "offline").await?,
            "device_stale:*" => devices::live::count_with_status(tx, &project, "stale").await?,
            _ => devices::live::count_skewed(tx, &project).await?,
        };
        let (all, _) = devices::count_in_service(tx, &project).await?;
        if troubled >= MASS_MIN_DEVICES && troubled * 100 > all * MASS_OVER_PERCENT {
            continue;
        }
        let ids = store::resolve(tx, &project, &[open_key], now.wall.as_millis()).await?;
        if let Ok(project) = ProjectId::new(&project) {
            announce(after, &project, ids);
        }
    }
    Ok(())
}

/// Resolves lockouts whose time is over: a new command may go.
pub(super) async fn sweep_lockouts(
    tx: &mut Tx,
    now: Now,
    after: &mut After,
) -> Result<(), StoreError> {
    for (project, ids) in store::resolve_lockouts(tx, now.wall.as_millis()).await? {
        if let Ok(project) = ProjectId::new(&project) {
            announce(after, &project, vec![ids]);
        }
    }
    Ok(())
}

/// Takes note that somebody looks after an alert.
pub(super) async fn acknowledge(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    id: &str,
) -> Result<(Alert, After), Refused> {
    let at = engine.clock().wall();
    if !store::acknowledge(tx, project, id, &actor.name, at).await? {
        return Err(Refused::NotFound { what: "alert" });
    }
    done(engine, tx, actor, project, id, "alert.acknowledge", json!({})).await
}

/// Keeps an alert quiet for a while; 0 makes it heard again.
pub(super) async fn silence(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    id: &str,
    duration_s: u64,
) -> Result<(Alert, After), Refused> {
    if duration_s > SILENCE_MAX_S {
        return Err(Refused::invalid("duration_s", format!("expected at most {SILENCE_MAX_S}")));
    }
    let until = engine.clock().wall().plus_seconds(duration_s as i64);
    if !store::silence(tx, project, id, until).await? {
        return Err(Refused::NotFound { what: "alert" });
    }
    done(engine, tx, actor, project, id, "alert.silence", json!({ "until": until })).await
}

async fn done(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    id: &str,
    action: &str,
    detail: serde_json::Value,
) -> Result<(Alert, After), Refused> {
    let alert = store::get(tx, project, id).await?.ok_or(Refused::NotFound { what: "alert" })?;
    let entry = NewEntry {
        project,
        at: engine.clock().wall(),
        actor,
        action,
        object: format!("alert:{id}"),
        outcome: AuditOutcome::Ok,
        detail,
    };
    engine.0.auditor.append(tx, entry).await?;
    let mut after = After::default();
    after.audited(project);
    announce(&mut after, project, vec![id.to_owned()]);
    Ok((alert, after))
}

fn announce(after: &mut After, project: &ProjectId, ids: Vec<String>) {
    if ids.is_empty() {
        return;
    }
    after.changes.push(Change {
        project: project.clone(),
        listing: Listing::Overview,
        key: "overview".to_owned(),
    });
    after.changes.extend(ids.into_iter().map(|key| Change {
        project: project.clone(),
        listing: Listing::Alerts,
        key,
    }));
}

fn key(kind: &str, device: &str) -> String {
    format!("{kind}:{device}")
}
