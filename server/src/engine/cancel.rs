//! Cancelling: at once what no device has, else on the device's word (chapter 3).

use quarterdeck_protocol::{
    api::{AuditOutcome, CancelCommands, CancelledCommands, Command},
    ids::{BatchId, CommandId, ProjectId},
    limits::BULK_MAX_COMMANDS,
};
use serde_json::json;

use super::{Actor, After, Engine, Refused, apply::Batch, ingest::ceilings};
use crate::{
    domain::command::{self, Event},
    store::{
        Tx,
        audit::NewEntry,
        commands::{self as store, live},
    },
};

/// Cancels one command.
pub(super) async fn one(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    id: CommandId,
) -> Result<(Command, After), Refused> {
    let key = id.to_string();
    let mut loaded = live::by_ids(tx, std::slice::from_ref(&key)).await?;
    loaded.retain(|row| row.project_id == project.as_str());
    if loaded.is_empty() {
        return Err(Refused::NotFound { what: "command" });
    }
    let mut after = After::default();
    let now = engine.clock().now();
    let ceilings = ceilings(tx, &loaded).await?;
    let mut batch = Batch::default();
    batch.add(loaded, |project| ceilings.get(project).copied().unwrap_or_default())?;
    match batch.apply(&key, Event::Cancel, None, now, &actor.name, &mut after) {
        // Asked twice is asked once.
        Ok(_) | Err(command::Refused::AlreadyRequested) => {}
        Err(command::Refused::AlreadyEnded(status)) => {
            return Err(Refused::conflict(
                "already_finished",
                format!("the command has ended: {status}"),
            ));
        }
        Err(other) => return Err(Refused::conflict("not_cancellable", other.to_string())),
    }
    batch.write(engine, tx, now, &mut after).await?;
    let entry = NewEntry {
        project,
        at: now.wall,
        actor,
        action: "command.cancel",
        object: format!("command:{id}"),
        outcome: AuditOutcome::Ok,
        detail: json!({}),
    };
    engine.0.auditor.append(tx, entry).await?;
    after.audited(project);
    let command =
        store::get(tx, project, id).await?.ok_or(Refused::NotFound { what: "command" })?;
    Ok((command, after))
}

/// Cancels many, by id or by batch.
pub(super) async fn many(
    engine: &Engine,
    tx: &mut Tx,
    actor: &Actor,
    project: &ProjectId,
    request: &CancelCommands,
) -> Result<(CancelledCommands, After), Refused> {
    let now = engine.clock().now();
    let (loaded, ended_before, object) = match &request.batch_id {
        Some(_) if !request.ids.is_empty() => {
            return Err(Refused::invalid(
                "batch_id",
                "expected either ids or a batch_id, not both",
            ));
        }
        Some(batch) => of_batch(tx, project, batch).await?,
        None => of_ids(tx, project, &request.ids).await?,
    };
    let mut after = After::default();
    let mut answer =
        CancelledCommands { cancelled: 0, requested: 0, already_finished: ended_before };
    let ceilings = ceilings(tx, &loaded).await?;
    let mut batch = Batch::default();
    batch.add(loaded, |project| ceilings.get(project).copied().unwrap_or_default())?;
    for id in batch.ids() {
        match batch.apply(&id, Event::Cancel, None, now, &actor.name, &mut after) {
            Ok(status) if status.is_terminal() => answer.cancelled += 1,
            Ok(_) | Err(command::Refused::AlreadyRequested) => answer.requested += 1,
            Err(_) => answer.already_finished += 1,
        }
    }
    batch.write(engine, tx, now, &mut after).await?;
    let entry = NewEntry {
        project,
        at: now.wall,
        actor,
        action: "command.cancel",
        object,
        outcome: AuditOutcome::Ok,
        detail: json!(answer),
    };
    engine.0.auditor.append(tx, entry).await?;
    after.audited(project);
    Ok((answer, after))
}

type Found = (Vec<live::Loaded>, u64, String);

async fn of_batch(tx: &mut Tx, project: &ProjectId, batch: &str) -> Result<Found, Refused> {
    let id: BatchId = batch.parse().map_err(|_| Refused::invalid("batch_id", "expected a UUID"))?;
    let known = crate::store::batches::get(tx, project, &id.to_string())
        .await?
        .ok_or_else(|| Refused::invalid("batch_id", "no such batch"))?;
    let loaded = live::open_of_batch(tx, project, &known.id).await?;
    let ended = (known.count.max(0) as u64).saturating_sub(loaded.len() as u64);
    Ok((loaded, ended, format!("batch:{id}")))
}

async fn of_ids(tx: &mut Tx, project: &ProjectId, ids: &[String]) -> Result<Found, Refused> {
    if ids.is_empty() {
        return Err(Refused::invalid("ids", "expected the ids of commands, or a batch_id"));
    }
    if ids.len() > BULK_MAX_COMMANDS {
        return Err(Refused::invalid("ids", format!("expected at most {BULK_MAX_COMMANDS}")));
    }
    let mut keys = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let id: CommandId =
            id.parse().map_err(|_| Refused::invalid(format!("ids[{index}]"), "expected a UUID"))?;
        keys.push(id.to_string());
    }
    let mut wanted = keys.clone();
    wanted.sort_unstable();
    wanted.dedup();
    let mut loaded = live::by_ids(tx, &wanted).await?;
    loaded.retain(|row| row.project_id == project.as_str());
    let known: std::collections::HashSet<&str> = loaded.iter().map(|row| row.id.as_str()).collect();
    if let Some(index) = keys.iter().position(|id| !known.contains(id.as_str())) {
        return Err(Refused::invalid(format!("ids[{index}]"), "no such command"));
    }
    let object = if keys.len() == 1 {
        format!("command:{}", keys[0])
    } else {
        format!("commands:{}", keys.len())
    };
    Ok((loaded, 0, object))
}
