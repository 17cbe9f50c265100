//! Submissions: checked as a whole, then stored as a whole, with their outgoing messages (chapter 3).
//!
//! Nothing is stored of a submission that has one wrong input, and the input is
//! named. What a safety rule refuses is stored as `blocked_safety`: it was asked
//! for, and people must see that it did not happen.

mod check;
mod lockout;

use std::collections::{BTreeMap, HashMap};

use quarterdeck_protocol::{
    api::{AuditOutcome, Command, CreateCommands, CreatedCommands, ProjectSettings},
    command::{CommandStatus, Priority, error_code},
    ids::{BatchId, CommandId, DeviceId, ProjectId},
    limits::{EXPIRES_DEFAULT_S, EXPIRES_MAX_S, EXPIRES_MIN_S},
    live::Listing,
    time::Timestamp,
};
use serde_json::{Value, json};

use self::{
    check::{check, is_offline, some_of},
    lockout::{block, blocked_message, blocked_until, by_counter},
};
use super::{
    Actor, After, Change, Engine, Refused,
    delivery::{Common, Outbound},
};
use crate::{
    domain::safety::Counter,
    store::{
        Tx,
        audit::NewEntry,
        batches::{self, Batch},
        commands::{self as stored, append_event, write},
        devices::operations::Flags,
        safety as counted,
    },
};

/// Names that an audit entry or a warning lists at most.
const NAMED_MAX: usize = 20;

/// A submission that passed all checks.
#[derive(Debug)]
struct Checked {
    devices: Vec<DeviceId>,
    kind: String,
    payload: Value,
    priority: Priority,
    timeout_s: u32,
    expires_in_s: u32,
    notes: String,
    attempt: u32,
    retry_of: Option<CommandId>,
    statuses: HashMap<String, String>,
    /// What the devices that announce the operation tell of it.
    announcing: HashMap<String, Flags>,
    warnings: Vec<String>,
    settings: ProjectSettings,
}

impl Checked {
    /// What the operation counts as on a device.
    fn counter(&self, device: &str) -> Option<Counter> {
        let reboots = self.announcing.get(device).is_some_and(|flags| flags.reboots);
        Counter::of(&self.kind, reboots)
    }
}

/// Creates a batch of commands.
pub(super) async fn submit(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    request: &CreateCommands,
) -> Result<(CreatedCommands, After), Refused> {
    let checked = check(tx, project, request).await?;
    store(engine, tx, actor, project, checked, "command.create").await
}

/// Creates the next attempt of a command that has ended.
pub(super) async fn retry(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    id: CommandId,
    confirm: bool,
) -> Result<(Command, After), Refused> {
    let before =
        stored::get(tx, project, id).await?.ok_or(Refused::NotFound { what: "command" })?;
    if !before.status.is_terminal() {
        return Err(Refused::conflict(
            "not_finished",
            format!("the command has not ended: {}", before.status),
        ));
    }
    let expires_in_s = before.expires_at.millis_since(before.created_at) / 1_000;
    let request = CreateCommands {
        targets: quarterdeck_protocol::api::Targets {
            devices: vec![before.device_id.to_string()],
            groups: Vec::new(),
        },
        kind: before.kind,
        payload: before.payload,
        priority: Some(before.priority),
        timeout_s: Some(before.timeout_s),
        expires_in_s: Some(
            u32::try_from(expires_in_s)
                .unwrap_or(EXPIRES_DEFAULT_S)
                .clamp(EXPIRES_MIN_S, EXPIRES_MAX_S),
        ),
        notes: before.notes,
        confirm,
    };
    let mut checked = check(tx, project, &request).await?;
    checked.attempt = before.attempt.saturating_add(1);
    checked.retry_of = Some(id);
    let (mut created, after) = store(engine, tx, actor, project, checked, "command.retry").await?;
    let command = created.commands.pop().expect("one device, one command");
    Ok((command, after))
}

async fn store(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    checked: Checked,
    action: &str,
) -> Result<(CreatedCommands, After), Refused> {
    let now = engine.clock().now();
    let batch_id = BatchId(engine.clock().new_uuid());
    let payload_text = checked.payload.to_string();
    let batch = Batch {
        id: batch_id.to_string(),
        project_id: project.to_string(),
        kind: checked.kind.clone(),
        payload: payload_text,
        targets: json!({ "devices": checked.devices }).to_string(),
        notes: checked.notes.clone(),
        count: checked.devices.len() as i64,
        created_by: actor.name.clone(),
        created_at: now.wall.as_millis(),
    };
    batches::insert(tx, &batch).await?;

    let blocked = blocked_until(tx, project, &checked, now).await?;
    let ids: Vec<CommandId> =
        checked.devices.iter().map(|_| CommandId(engine.clock().new_uuid())).collect();
    let (allowed, refused): (Vec<_>, Vec<_>) = ids
        .iter()
        .zip(&checked.devices)
        .map(|(id, device)| (id.to_string(), device.to_string()))
        .partition(|(_, device)| !blocked.contains_key(device));
    // What counts against a lockout counts from its delivery, so it is noted when it is sent.
    let (guarded, plain): (Vec<_>, Vec<_>) =
        allowed.into_iter().partition(|(_, device)| checked.counter(device).is_some());
    let (at_once, mut later) = engine.0.delivery.split_ready(project, plain);
    later.extend(guarded);
    let mut timeline = String::new();
    append_event(&mut timeline, now.wall, "created", &actor.name, "");
    let mut published_timeline = timeline.clone();
    append_event(&mut published_timeline, now.wall, "published", "server", "");
    let retry_of = checked.retry_of.map(|id| id.to_string());
    let common = write::NewCommands {
        project_id: project.as_str(),
        batch_id: &batch.id,
        kind: &checked.kind,
        priority: i64::from(checked.priority.get()),
        timeout_s: i64::from(checked.timeout_s),
        created_by: &actor.name,
        created_at: now.wall.as_millis(),
        expires_at: now.wall.plus_seconds(i64::from(checked.expires_in_s)).as_millis(),
        expires_due: now.steady_ms + i64::from(checked.expires_in_s) * 1_000,
        attempt: i64::from(checked.attempt),
        retry_of: retry_of.as_deref(),
        timeline: &timeline,
        events: 1,
        published_at: None,
        blocked: None,
    };
    // Whoever is there gets it as soon as this is committed: no second write need say so.
    let published = write::NewCommands {
        timeline: &published_timeline,
        events: 2,
        published_at: Some(now.wall.as_millis()),
        ..common.clone()
    };
    write::insert(tx, &common, &later).await?;
    write::insert(tx, &published, &at_once).await?;
    for (counter, rows) in by_counter(later.clone(), |(_, device)| checked.counter(device)) {
        counted::insert(tx, project, counter, &rows).await?;
    }
    let mut after = After::default();
    block(engine, tx, project, &common, &refused, &blocked, now, &mut after).await?;

    let entry = NewEntry {
        project,
        at: now.wall,
        actor,
        action,
        object: format!("batch:{batch_id}"),
        outcome: AuditOutcome::Ok,
        detail: audit_detail(&checked, blocked.len()),
    };
    engine.0.auditor.append(tx, entry).await?;
    after.audited(project);
    if engine.0.announcer.has_listeners() {
        after.changes.extend(ids.iter().map(|id| Change {
            project: project.clone(),
            listing: Listing::Commands,
            key: id.to_string(),
        }));
        after.changes.push(Change {
            project: project.clone(),
            listing: Listing::Overview,
            key: "overview".to_owned(),
        });
    }
    let offline =
        checked.devices.iter().filter(|device| is_offline(&checked.statuses, device)).count();
    after.deliver = keys(project, later).map(|(_, key)| key).collect();
    after.send = Some(Outbound {
        common: Common {
            kind: checked.kind.clone(),
            payload: batch.payload,
            priority: common.priority,
            timeout_s: common.timeout_s,
            issued_at: now.wall,
            expires_at: Timestamp::from_millis(common.expires_at),
            issued_by: actor.name.clone(),
        },
        to: keys(project, at_once).collect(),
    });
    let commands = ids
        .iter()
        .zip(&checked.devices)
        .map(|(id, device)| {
            shown(*id, batch_id, device, &checked, actor, now.wall, blocked.get(device.as_str()))
        })
        .collect();
    metrics::counter!("quarterdeck_commands_created_total").increment(ids.len() as u64);
    let created = CreatedCommands {
        batch_id,
        count: ids.len() as u64,
        offline: offline as u64,
        warnings: warnings(&checked, &blocked),
        commands,
    };
    Ok((created, after))
}

fn keys(
    project: &ProjectId,
    rows: Vec<(String, String)>,
) -> impl Iterator<Item = (String, (ProjectId, DeviceId))> {
    rows.into_iter()
        .filter_map(|(id, device)| Some((id, (project.clone(), DeviceId::new(&device).ok()?))))
}

fn audit_detail(checked: &Checked, blocked: usize) -> Value {
    let named: Vec<_> = checked.devices.iter().take(NAMED_MAX).collect();
    let mut detail = json!({
        "type": checked.kind,
        "count": checked.devices.len(),
        "devices": named,
        "priority": checked.priority,
        "notes": checked.notes,
    });
    if let Some(id) = checked.retry_of {
        detail["retry_of"] = json!(id);
    }
    if blocked > 0 {
        detail["blocked_safety"] = json!(blocked);
    }
    detail
}

fn warnings(checked: &Checked, blocked: &BTreeMap<String, Timestamp>) -> Vec<String> {
    let mut warnings = checked.warnings.clone();
    let offline: Vec<_> = checked
        .devices
        .iter()
        .filter(|device| is_offline(&checked.statuses, device))
        .filter(|device| !blocked.contains_key(device.as_str()))
        .collect();
    if !offline.is_empty() {
        warnings.push(format!(
            "offline, so it waits until they return or it expires: {}",
            some_of(&offline)
        ));
    }
    if !blocked.is_empty() {
        let names = blocked.keys().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let more = blocked.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        warnings.push(format!("refused by the safety lockout: {names}{more}"));
    }
    warnings
}

fn shown(
    id: CommandId,
    batch_id: BatchId,
    device: &DeviceId,
    checked: &Checked,
    actor: &Actor,
    at: Timestamp,
    blocked: Option<&Timestamp>,
) -> Command {
    Command {
        id,
        batch_id,
        device_id: device.clone(),
        device_status: checked.statuses.get(device.as_str()).and_then(|status| status.parse().ok()),
        kind: checked.kind.clone(),
        payload: checked.payload.clone(),
        priority: checked.priority.get(),
        timeout_s: checked.timeout_s,
        notes: checked.notes.clone(),
        status: if blocked.is_some() {
            CommandStatus::BlockedSafety
        } else {
            CommandStatus::Queued
        },
        progress: None,
        step: None,
        state: None,
        created_by: actor.name.clone(),
        created_at: at,
        expires_at: at.plus_seconds(i64::from(checked.expires_in_s)),
        published_at: None,
        accepted_at: None,
        started_at: None,
        finished_at: blocked.map(|_| at),
        cancel_requested_at: None,
        attempt: checked.attempt,
        retry_of: checked.retry_of,
        blocked_until: blocked.copied(),
        result: None,
        exit_code: None,
        stdout: None,
        stderr: None,
        error_code: blocked.map(|_| error_code::SAFETY_LOCKOUT.to_owned()),
        error_message: blocked.map(|until| blocked_message(&checked.kind, *until)),
    }
}
