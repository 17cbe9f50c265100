//! Decides what devices said: loads all rows that are touched, steps in order, writes.
//!
//! Words of one command that stand in one slice cost one write of its row, and
//! neighbouring pieces of its output become one.

use std::collections::HashMap;

use quarterdeck_protocol::{api::ProjectSettings, ids::ProjectId, live::Listing};

use super::{DeviceKey, Heard, What, backlog::Row, devices::Devices, message::Said};
use crate::{
    clock::Now,
    domain::command,
    engine::{After, Change, Engine, alerts::Alerts, apply::Batch},
    store::{
        StoreError, Tx,
        commands::{live, output},
        devices as stored_devices, projects,
    },
};

/// Takes one batch in: loads, steps in order, writes.
pub(super) async fn take_in(
    engine: &Engine,
    tx: &mut Tx,
    slice: &[Row],
    now: Now,
    after: &mut After,
) -> Result<(), StoreError> {
    let heard = || slice.iter().flat_map(|row| row.heard.iter());
    let mut ids: Vec<String> = heard()
        .filter_map(|one| match &one.what {
            What::Response(said) => Some(said.command_id.clone()),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let mut loaded = live::by_ids(tx, &ids).await?;
    let mut alerts = Alerts::default();
    let has_devices = heard().any(|one| !matches!(one.what, What::Response(_)));
    let takes_down = loaded.iter().any(live::Loaded::takes_host_down);
    let mut devices = Devices::default();
    if has_devices || takes_down {
        devices = Devices::load(tx, heard(), &loaded).await?;
        loaded.extend(live::going_down_of(tx, &devices.that_moved(heard())).await?);
    }
    let ceilings = ceilings(tx, &loaded).await?;
    let mut commands = Batch::default();
    commands.add(loaded, |project| ceilings.get(project).copied().unwrap_or_default())?;
    let mut chunks = Vec::new();
    for one in heard() {
        match &one.what {
            What::Response(said) => {
                let boot_id = devices.boot_id(&one.device);
                respond(&mut commands, one, said, boot_id, after, &mut chunks);
            }
            what => {
                let moved =
                    devices.take_in(engine, &one.device, what.clone(), one.now, after, &mut alerts);
                if let Some(moved) = moved {
                    reconnect(&mut commands, &one.device, &moved, one.now, after);
                }
            }
        }
    }
    let chunks = output::joined(chunks);
    if engine.0.announcer.has_listeners() {
        announce_output(&chunks, &commands, after);
    }
    output::insert(tx, &chunks).await?;
    commands.write(engine, tx, now, after).await?;
    devices.write(tx, now).await?;
    let seen: Vec<DeviceKey> = slice.iter().flat_map(|row| row.seen.iter().cloned()).collect();
    stored_devices::live::seen(tx, &seen, now.wall.as_millis()).await?;
    alerts.write(engine, tx, now, after).await
}

/// Lets a device's word of a command happen to it, when it is one of its own.
fn respond(
    commands: &mut Batch,
    heard: &Heard,
    said: &Said,
    boot_id: Option<&str>,
    after: &mut After,
    chunks: &mut Vec<output::Chunk>,
) {
    let (device, now) = (&heard.device, heard.now);
    let is_own = commands.get(&said.command_id).is_some_and(|row| {
        row.device_id == device.1.as_str() && row.project_id == device.0.as_str()
    });
    if !is_own {
        metrics::counter!("quarterdeck_ingest_foreign_total").increment(1);
        tracing::debug!(project = %device.0, device = %device.1, command = %said.command_id, "response to no command of the device");
        return;
    }
    let event = command::Event::Response(command::Said {
        status: said.status,
        error_code: said.error_code.as_deref(),
        state: said.state.as_deref(),
        boot_id,
    });
    // After its end nothing changes, its output neither.
    if !commands.has_ended(&said.command_id) {
        chunks.extend(said.chunks(now.wall));
    }
    if let Err(refused) = commands.apply(&said.command_id, event, Some(said), now, "", after) {
        tracing::trace!(command = %said.command_id, %refused, "response changes nothing");
    }
}

/// What a device's coming or going means to what it has begun that takes it down.
#[derive(Debug)]
pub(super) enum Moved {
    Gone,
    Back { boot_id: Option<String> },
}

fn reconnect(commands: &mut Batch, device: &DeviceKey, moved: &Moved, now: Now, after: &mut After) {
    let event = match moved {
        Moved::Gone => command::Event::DeviceGone,
        Moved::Back { boot_id } => command::Event::DeviceBack { boot_id: boot_id.as_deref() },
    };
    for id in commands.going_down_of(device.0.as_str(), device.1.as_str()) {
        if let Err(refused) = commands.apply(&id, event, None, now, "", after) {
            tracing::trace!(command = %id, %refused, "the device's move changes nothing");
        }
    }
}

/// How long a reboot may take, by project.
pub(in crate::engine) async fn ceilings(
    tx: &mut Tx,
    loaded: &[live::Loaded],
) -> Result<HashMap<String, i64>, StoreError> {
    let mut ceilings = HashMap::new();
    for row in loaded.iter().filter(|row| row.is_reboot()) {
        if ceilings.contains_key(&row.project_id) {
            continue;
        }
        let settings = match ProjectId::new(&row.project_id) {
            Ok(project) => projects::settings(tx, &project).await?,
            Err(_) => None,
        };
        let ceiling_s = settings.unwrap_or_else(ProjectSettings::default).reboot_ceiling_s;
        ceilings.insert(row.project_id.clone(), i64::from(ceiling_s) * 1_000);
    }
    Ok(ceilings)
}

fn announce_output(chunks: &[output::Chunk], commands: &Batch, after: &mut After) {
    for chunk in chunks {
        if let Some(row) = commands.get(&chunk.command_id)
            && let Ok(project) = ProjectId::new(&row.project_id)
        {
            after.changes.push(Change {
                project,
                listing: Listing::Output,
                key: chunk.command_id.clone(),
            });
        }
    }
}
