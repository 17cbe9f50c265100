//! What people do with devices.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{AuditOutcome, ChangeDevice, Device},
    ids::{DeviceId, ProjectId},
    limits::{TAG_KEY_MAX_BYTES, TAG_VALUE_MAX_BYTES, TAGS_MAX},
    live::Listing,
};
use serde_json::{Value, json};

use super::{
    Actor, After, Change, Engine, Refused, alerts::Alerts, apply::Batch, ingest::ceilings,
};
use crate::{
    domain::command::Event,
    store::{
        Tx,
        audit::NewEntry,
        commands::live,
        device_events::{self, NewEvent},
        devices as store,
    },
};

/// The longest type of a device, in bytes.
const TYPE_MAX_BYTES: usize = 64;

/// Changes tags or type.
pub(super) async fn change(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    device: &DeviceId,
    change: &ChangeDevice,
) -> Result<(Device, After), Refused> {
    let known =
        store::get(tx, project, device).await?.ok_or(Refused::NotFound { what: "device" })?;
    if let Some(kind) = &change.kind {
        check_type("type", kind)?;
        store::set_type(tx, project, device, kind).await?;
    }
    if let Some(tags) = &change.tags {
        check_tags("tags", tags)?;
        store::set_tags(tx, project, device, tags).await?;
    }
    let detail = json!({
        "before": { "type": known.kind, "tags": known.tags },
        "change": change,
    });
    done(engine, tx, actor, project, device, "device.change", detail, After::default()).await
}

/// Takes a device out of service.
pub(super) async fn retire(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<(Device, After), Refused> {
    let now = engine.clock().now();
    let known =
        store::get(tx, project, device).await?.ok_or(Refused::NotFound { what: "device" })?;
    if !store::retire(tx, project, device, now.wall).await? {
        return Ok((known, After::default()));
    }
    let mut after = After::default();
    let loaded = live::open_of(tx, project.as_str(), device.as_str()).await?;
    let cancelled = loaded.len();
    let ceilings = ceilings(tx, &loaded).await?;
    let mut batch = Batch::default();
    batch.add(loaded, |project| ceilings.get(project).copied().unwrap_or_default())?;
    for id in batch.ids() {
        // What is open is not ended, and nothing else refuses this.
        let _ = batch.apply(&id, Event::Retired, None, now, &actor.name, &mut after);
    }
    batch.write(engine, tx, now, &mut after).await?;
    let mut alerts = Alerts::default();
    let key = (project.clone(), device.clone());
    for kind in [
        "device_offline",
        "device_stale",
        "clock_skew",
        "service_failed",
        "safety_lockout",
        "queue_depth",
    ] {
        alerts.resolve(&key, kind);
    }
    alerts.write(engine, tx, now, &mut after).await?;
    done(
        engine,
        tx,
        actor,
        project,
        device,
        "device.retire",
        json!({ "cancelled_commands": cancelled }),
        after,
    )
    .await
}

/// Lets a device enrol once more.
pub(super) async fn allow_enroll_again(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<(Device, After), Refused> {
    if !store::allow_enroll_again(tx, project, device).await? {
        return Err(Refused::NotFound { what: "device" });
    }
    done(engine, tx, actor, project, device, "device.allow_enroll", Value::Null, After::default())
        .await
}

/// Takes note that somebody has seen to a failed service.
pub(super) async fn clear_service_failed(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<(Device, After), Refused> {
    let known =
        store::get(tx, project, device).await?.ok_or(Refused::NotFound { what: "device" })?;
    store::live::set_service_failed(tx, project.as_str(), device.as_str(), None).await?;
    let mut after = After::default();
    let mut alerts = Alerts::default();
    alerts.resolve(&(project.clone(), device.clone()), "service_failed");
    alerts.write(engine, tx, engine.clock().now(), &mut after).await?;
    let detail = json!({ "service_failed": known.service_failed });
    done(engine, tx, actor, project, device, "device.clear_service_failed", detail, after).await
}

/// Records an action on a device, in its timeline and in the audit trail, and answers what it is now.
#[expect(clippy::too_many_arguments, reason = "one row of each of three tables")]
pub(super) async fn done(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    device: &DeviceId,
    action: &'static str,
    detail: Value,
    mut after: After,
) -> Result<(Device, After), Refused> {
    let at = engine.clock().wall();
    let event = NewEvent {
        project_id: project.to_string(),
        device_id: device.to_string(),
        seq: engine.next_event_seq(at),
        at: at.as_millis(),
        event: action.split_once('.').map_or(action, |(_, verb)| verb),
        by: actor.name.clone(),
        detail: String::new(),
    };
    device_events::insert(tx, &[event]).await?;
    let entry = NewEntry {
        project,
        at,
        actor,
        action,
        object: format!("device:{device}"),
        outcome: AuditOutcome::Ok,
        detail,
    };
    engine.0.auditor.append(tx, entry).await?;
    after.audited(project);
    for listing in [Listing::Devices, Listing::Timeline] {
        after.changes.push(Change { project: project.clone(), listing, key: device.to_string() });
    }
    after.changes.push(Change {
        project: project.clone(),
        listing: Listing::Overview,
        key: "overview".to_owned(),
    });
    let device =
        store::get(tx, project, device).await?.ok_or(Refused::NotFound { what: "device" })?;
    Ok((device, after))
}

/// Checks a device's type.
pub(super) fn check_type(field: &str, kind: &str) -> Result<(), Refused> {
    if kind.len() > TYPE_MAX_BYTES || kind.chars().any(char::is_control) {
        return Err(Refused::invalid(
            field,
            format!("expected at most {TYPE_MAX_BYTES} bytes of plain text"),
        ));
    }
    Ok(())
}

/// Checks a set of tags.
pub(super) fn check_tags(field: &str, tags: &BTreeMap<String, String>) -> Result<(), Refused> {
    if tags.len() > TAGS_MAX {
        return Err(Refused::invalid(field, format!("expected at most {TAGS_MAX} tags")));
    }
    for (key, value) in tags {
        let is_name = (1..=TAG_KEY_MAX_BYTES).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
        if !is_name {
            return Err(Refused::invalid(
                field,
                format!(
                    "expected keys of 1 to {TAG_KEY_MAX_BYTES} letters, digits, '.', '_', '-', '/'"
                ),
            ));
        }
        if value.len() > TAG_VALUE_MAX_BYTES || value.chars().any(char::is_control) {
            return Err(Refused::invalid(
                format!("{field}.{key}"),
                format!("expected at most {TAG_VALUE_MAX_BYTES} bytes of plain text"),
            ));
        }
    }
    Ok(())
}
