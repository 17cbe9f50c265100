//! The one way in for all that devices say.
//!
//! ```text
//!  Inbound ─ recv_many ─▶ parse ─▶ one store job: load touched rows, step in order, write ─▶ commit
//!     ▲                     (the next batch is parsed while this one is written)              │
//!     └──────────────── every AckHandle: committed, or failed ◀───────────────────────────────┘
//! ```
//!
//! A batch is whatever has gathered: one message when it is quiet, thousands
//! when it is busy. Acknowledged is what is committed; after a failure the
//! broker ends the connection and the device says it all again.
//!
//! What is malformed, or about a command that the device does not have, changes
//! nothing; it is counted, logged now and then, and acknowledged.

pub(super) mod message;

mod devices;

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesOrdered};
use quarterdeck_protocol::{
    api::ProjectSettings,
    command::ResponseStatus,
    ids::{DeviceId, ProjectId},
    live::Listing,
    topics::{Channel, DeviceTopic},
};
use tokio_util::sync::CancellationToken;

use self::message::{Failed, Health, Malformed, Said, Status};
use super::{After, Change, Engine, alerts::Alerts, apply::Batch};
use crate::{
    clock::Now,
    domain::{command, presence},
    mqtt::link::{AckHandle, ConnectionId, Inbound, InboundReceiver, Message},
    store::{
        StoreError, Tx,
        commands::{live, output},
        devices as stored_devices, projects,
    },
};

/// Events of one store job at most.
const BATCH_MAX_EVENTS: usize = 2_048;
/// Store jobs under way: one is written while the next one is parsed and waits.
const JOBS_MAX: usize = 2;
/// How often a device's words, heartbeats apart, renew when it was last seen, in milliseconds.
const SEEN_PERIOD_MS: i64 = 10_000;
/// How often one kind of malformed message is logged, in milliseconds.
const COMPLAINT_PERIOD_MS: i64 = 1_000;

/// A device, by project and id.
pub(super) type DeviceKey = (ProjectId, DeviceId);

/// Something that a device said or did, read.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) device: DeviceKey,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Response(Said),
    Connected,
    Gone,
    /// Said just now, not kept by a broker from before.
    Status {
        status: Status,
        is_fresh: bool,
    },
    Health(Health),
    ServiceFailed(Failed),
}

/// What the reader remembers between batches.
#[derive(Debug, Default)]
struct Reader {
    /// The latest connection of each device that is connected.
    connections: HashMap<DeviceKey, ConnectionId>,
    seen_ms: HashMap<DeviceKey, i64>,
    complained_ms: i64,
}

/// One batch, read.
#[derive(Debug, Default)]
struct Read {
    heard: Vec<Heard>,
    seen: Vec<DeviceKey>,
    acks: Vec<AckHandle>,
}

/// Takes in what devices say until it is told to stop, or the broker is gone.
pub(super) async fn run(engine: Engine, mut inbound: InboundReceiver, stop: CancellationToken) {
    let mut reader = Reader::default();
    let mut events = Vec::with_capacity(BATCH_MAX_EVENTS);
    let mut jobs = FuturesOrdered::new();
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            Some(()) = jobs.next(), if !jobs.is_empty() => {}
            count = inbound.recv_many(&mut events, BATCH_MAX_EVENTS), if is_open && jobs.len() < JOBS_MAX => {
                if count == 0 {
                    is_open = false;
                    continue;
                }
                metrics::histogram!("quarterdeck_ingest_batch_events").record(count as f64);
                let read = reader.read(&engine, events.drain(..));
                jobs.push_back(commit(engine.clone(), read));
            }
            () = stop.cancelled(), if is_open => {
                // What is in the channel already was not acknowledged: the devices say it again.
                is_open = false;
            }
            else => break,
        }
    }
}

async fn commit(engine: Engine, read: Read) {
    let Read { heard, seen, acks } = read;
    if heard.is_empty() && seen.is_empty() {
        acks.into_iter().for_each(AckHandle::committed);
        return;
    }
    let (worker, count) = (engine.clone(), heard.len());
    let written = engine
        .0
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut after = After::default();
                let now = worker.clock().now();
                take_in(&worker, tx, heard, &seen, now, &mut after).await?;
                Ok::<After, StoreError>(after)
            })
        })
        .await;
    match written {
        Ok(Ok(after)) => {
            metrics::counter!("quarterdeck_ingest_events_total").increment(count as u64);
            acks.into_iter().for_each(AckHandle::committed);
            engine.after_commit(after);
        }
        Ok(Err(error)) | Err(error) => {
            metrics::counter!("quarterdeck_ingest_failed_total").increment(count as u64);
            tracing::error!(%error, events = count, "what devices said could not be stored; they will repeat it");
            acks.into_iter().for_each(AckHandle::failed);
        }
    }
}

impl Reader {
    fn read(&mut self, engine: &Engine, events: impl Iterator<Item = Inbound>) -> Read {
        let mut read = Read::default();
        let now_ms = engine.clock().steady();
        for event in events {
            match event {
                Inbound::Connected {
                    project_id,
                    device_id,
                    channel: Channel::Main,
                    connection,
                } => {
                    let device = (project_id, device_id);
                    self.connections.insert(device.clone(), connection);
                    read.heard.push(Heard { device, what: What::Connected });
                }
                Inbound::Subscribed {
                    project_id, device_id, channel: Channel::Main, kind, ..
                } => {
                    engine.0.delivery.listens(&project_id, &device_id, kind);
                }
                Inbound::Disconnected {
                    project_id,
                    device_id,
                    channel: Channel::Main,
                    connection,
                    ..
                } => {
                    let device = (project_id, device_id);
                    if self.connections.get(&device) == Some(&connection) {
                        self.connections.remove(&device);
                        self.seen_ms.remove(&device);
                        engine.0.delivery.gone(&device);
                        read.heard.push(Heard { device, what: What::Gone });
                    }
                }
                // A connection that carries tunnels alone says nothing of presence.
                Inbound::Connected { .. }
                | Inbound::Subscribed { .. }
                | Inbound::Disconnected { .. } => {}
                Inbound::Message(message) => self.message(engine, &mut read, message, now_ms),
                Inbound::LinkUp => engine.0.delivery.link_is_up(),
                Inbound::LinkDown => {
                    tracing::warn!("the broker cannot be reached; devices may seem silent");
                }
            }
        }
        read
    }

    fn message(&mut self, engine: &Engine, read: &mut Read, message: Message, now_ms: i64) {
        let Message { project_id, device_id, kind, payload, retained, last_will, connection, ack } =
            message;
        let device = (project_id, device_id);
        read.acks.push(ack);
        // What an older connection says of presence is overtaken by the newer one.
        let is_current = match (connection, self.connections.get(&device)) {
            (Some(said_by), Some(latest)) => said_by >= *latest,
            _ => true,
        };
        let what = match parse(kind, &payload, retained, last_will) {
            Ok(Some(what)) => what,
            Ok(None) => return,
            Err(error) => return self.complain(&device, kind, &error, now_ms),
        };
        match &what {
            What::Status { .. } if !is_current => return,
            What::Status { status, .. } if connection.is_none() => {
                // An external broker tells of no subscriptions: the device itself does.
                for kind in [DeviceTopic::Commands, DeviceTopic::CommandsCancel] {
                    if status.online {
                        engine.0.delivery.listens(&device.0, &device.1, kind);
                    } else {
                        engine.0.delivery.gone(&device);
                    }
                }
            }
            What::Response(_) => {
                let seen_ms = self.seen_ms.entry(device.clone()).or_insert(i64::MIN);
                if seen_ms.saturating_add(SEEN_PERIOD_MS) <= now_ms {
                    *seen_ms = now_ms;
                    read.seen.push(device.clone());
                }
            }
            _ => {}
        }
        read.heard.push(Heard { device, what });
    }

    fn complain(&mut self, device: &DeviceKey, kind: DeviceTopic, error: &Malformed, now_ms: i64) {
        metrics::counter!("quarterdeck_ingest_malformed_total", "topic" => kind.suffix())
            .increment(1);
        if self.complained_ms.saturating_add(COMPLAINT_PERIOD_MS) <= now_ms {
            self.complained_ms = now_ms;
            tracing::warn!(project = %device.0, device = %device.1, topic = kind.suffix(), %error, "malformed message");
        }
    }
}

fn parse(
    kind: DeviceTopic,
    payload: &Bytes,
    retained: bool,
    last_will: bool,
) -> Result<Option<What>, Malformed> {
    Ok(Some(match kind {
        DeviceTopic::CommandsResponse => What::Response(Said::parse(payload)?),
        DeviceTopic::Status => {
            // A retained message that was cleared.
            if payload.is_empty() {
                return Ok(None);
            }
            What::Status { status: Status::parse(payload)?, is_fresh: !retained && !last_will }
        }
        DeviceTopic::Health => What::Health(Health::parse(payload)?),
        DeviceTopic::ServiceFailed => What::ServiceFailed(Failed::parse(payload)?),
        // Of later parts of the product; the broker lets no device publish the rest.
        DeviceTopic::RolloutProgress
        | DeviceTopic::TunnelControl
        | DeviceTopic::TunnelUp
        | DeviceTopic::Commands
        | DeviceTopic::CommandsCancel
        | DeviceTopic::TunnelDown => return Ok(None),
    }))
}

/// Takes one batch in: loads, steps in order, writes.
async fn take_in(
    engine: &Engine,
    tx: &mut Tx,
    heard: Vec<Heard>,
    seen: &[DeviceKey],
    now: Now,
    after: &mut After,
) -> Result<(), StoreError> {
    let mut ids: Vec<String> = heard
        .iter()
        .filter_map(|one| match &one.what {
            What::Response(said) => Some(said.command_id.clone()),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let mut loaded = live::by_ids(tx, &ids).await?;
    let mut alerts = Alerts::default();
    let has_devices = heard.iter().any(|one| !matches!(one.what, What::Response(_)));
    let has_reboots = loaded.iter().any(live::Loaded::is_reboot);
    let mut devices = devices::Devices::default();
    if has_devices || has_reboots {
        devices = devices::Devices::load(tx, &heard, &loaded).await?;
        loaded.extend(live::reboots_of(tx, &devices.that_moved(&heard)).await?);
    }
    let ceilings = ceilings(tx, &loaded).await?;
    let mut commands = Batch::default();
    commands.add(loaded, |project| ceilings.get(project).copied().unwrap_or_default())?;
    let mut chunks = Vec::new();
    for one in heard {
        match one.what {
            What::Response(said) => {
                let boot_id = devices.boot_id(&one.device);
                respond(&mut commands, &one.device, &said, boot_id, now, after);
                if said.status == ResponseStatus::Progress
                    && let Some(row) = commands.get(&said.command_id)
                    && row.device_id == one.device.1.as_str()
                {
                    chunks.extend(said.chunks(now.wall));
                }
            }
            what => {
                let moved = devices.take_in(engine, &one.device, what, now, after, &mut alerts);
                if let Some(moved) = moved {
                    reconnect(&mut commands, &one.device, &moved, now, after);
                }
            }
        }
    }
    if engine.0.announcer.has_listeners() {
        announce_output(&chunks, &commands, after);
    }
    output::insert(tx, &chunks).await?;
    commands.write(engine, tx, now, after).await?;
    devices.write(tx, now).await?;
    stored_devices::live::seen(tx, seen, now.wall.as_millis()).await?;
    alerts.write(engine, tx, now, after).await
}

/// Lets a device's word of a command happen to it, when it is one of its own.
fn respond(
    commands: &mut Batch,
    device: &DeviceKey,
    said: &Said,
    boot_id: Option<&str>,
    now: Now,
    after: &mut After,
) {
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
    if let Err(refused) = commands.apply(&said.command_id, event, Some(said), now, "", after) {
        tracing::trace!(command = %said.command_id, %refused, "response changes nothing");
    }
}

/// What a device's coming or going means to the reboots that it has begun.
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
    for id in commands.reboots_of(device.0.as_str(), device.1.as_str()) {
        if let Err(refused) = commands.apply(&id, event, None, now, "", after) {
            tracing::trace!(command = %id, %refused, "the device's move changes nothing");
        }
    }
}

/// How long a reboot may take, by project.
pub(super) async fn ceilings(
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

/// Lets everybody's silence begin anew: the server could not hear until now.
pub(super) async fn listen_again(
    engine: &Engine,
    forgets_connections: bool,
) -> Result<(), StoreError> {
    let stale_due = engine.clock().steady() + presence::SILENCE_MAX_MS;
    engine
        .0
        .store
        .write(move |tx| {
            Box::pin(async move {
                stored_devices::live::listen_again(tx, stale_due, forgets_connections).await
            })
        })
        .await?
}

pub(super) use devices::fall_silent;
