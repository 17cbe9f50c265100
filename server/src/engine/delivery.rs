//! The outbox: commands leave for their devices, the most urgent first.
//!
//! Whose device is there and waits for nothing leaves at once, stored as `published` by the transaction
//! that made it. All others go through the outbox:
//!
//! ```text
//!  commit ──▶ wake(devices) ──┐
//!  device listens ────────────┼─▶ pending ──▶ read outbox of many devices ──▶ publish ──▶ mark published
//!  device accepted, has more ─┘                (a window of each)
//! ```
//!
//! The store is the truth: a row with `deliver` is to be sent whenever its
//! device is there. What was sent on the present connection is remembered here,
//! so that it is sent once a connection; after a reconnect all that the device
//! has not accepted goes out again, and the device knows a `command_id` that it
//! has seen. A restart forgets only that memory.
//!
//! What a device has accepted leaves only to ask how it ended ([`asking`]).

mod asking;
mod wire;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use quarterdeck_protocol::{
    command::{CancelMessage, CommandStatus},
    ids::{CommandId, DeviceId, ProjectId},
    live::Listing,
    time::Timestamp,
    topics::DeviceTopic,
};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(super) use self::wire::{Common, Outbound};
use self::{asking::Asking, wire::message};
use super::{After, Change, Engine, ingest::DeviceKey};
use crate::{
    mqtt::link::{Link, PublishError, PublishRequest, Qos, SERVER},
    store::{
        StoreError,
        commands::{
            append_event,
            live::{self, Outgoing},
            write,
        },
        safety,
    },
};

/// Commands that one device may have been sent and not accepted yet.
const WINDOW_MAX_COMMANDS: u32 = 16;
/// Devices whose outbox is read at once.
const DEVICES_MAX: usize = 256;

/// A command and its device.
type CommandOf = (String, String);

/// Who is there, and what was sent to whom.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    link: OnceLock<Arc<dyn Link>>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    listeners: HashMap<DeviceKey, Listener>,
    /// Devices that may have something to get, each once, in the order of their turn.
    pending: Vec<DeviceKey>,
    /// Devices that may have missed a cancellation.
    cancels: Vec<DeviceKey>,
    asking: Asking,
}

/// What the next turn sees to.
#[derive(Debug)]
struct Turn {
    pending: Vec<DeviceKey>,
    cancels: Vec<DeviceKey>,
    asked: Vec<DeviceKey>,
}

impl Turn {
    const fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.cancels.is_empty() && self.asked.is_empty()
    }
}

/// A device that hears commands.
#[derive(Debug, Default)]
struct Listener {
    /// What it was sent on this connection and has not accepted.
    sent: HashSet<String>,
    /// What it accepted since its outbox was last read: it may stand in what was read before.
    taken: HashSet<String>,
    /// The outbox had more than the window took.
    has_more: bool,
    is_pending: bool,
    /// It takes no more for the moment.
    is_full: bool,
}

impl Delivery {
    pub(super) fn connect(&self, link: Arc<dyn Link>) {
        if self.link.set(link).is_err() {
            tracing::error!("the engine runs already; it keeps its first link");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device hears a topic from now on.
    pub(super) fn listens(&self, project: &ProjectId, device: &DeviceId, kind: DeviceTopic) {
        let key = (project.clone(), device.clone());
        let mut state = self.state();
        match kind {
            DeviceTopic::Commands => {
                // A new connection: whatever was sent on the former one may be lost.
                state
                    .listeners
                    .insert(key.clone(), Listener { is_pending: true, ..Listener::default() });
                state.pending.push(key);
            }
            DeviceTopic::CommandsCancel => state.cancels.push(key),
            _ => return,
        }
        drop(state);
        self.wake.notify_one();
    }

    /// A device's connection ended.
    pub(super) fn gone(&self, device: &DeviceKey) {
        self.state().listeners.remove(device);
    }

    /// The way to an external broker stands again: what was sent may be lost.
    pub(super) fn link_is_up(&self) {
        let mut state = self.state();
        let State { listeners, pending, cancels, asking } = &mut *state;
        pending.clear();
        for (key, listener) in listeners.iter_mut() {
            *listener = Listener { is_pending: true, ..Listener::default() };
            pending.push(key.clone());
            cancels.push(key.clone());
            asking.add(key.clone());
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Devices may have something new to get; those that are not there get it when they come.
    pub(super) fn wake(&self, devices: Vec<DeviceKey>) {
        if devices.is_empty() {
            return;
        }
        let mut state = self.state();
        let State { listeners, pending, .. } = &mut *state;
        for key in devices {
            if let Some(listener) = listeners.get_mut(&key) {
                listener.has_more = true;
                if !listener.is_pending && listener.sent.len() < WINDOW_MAX_COMMANDS as usize {
                    listener.is_pending = true;
                    pending.push(key);
                }
            }
        }
        let is_needed = !pending.is_empty();
        drop(state);
        if is_needed {
            self.wake.notify_one();
        }
    }

    /// Devices have accepted commands, or those ended: there is room for the next.
    pub(super) fn taken(&self, commands: Vec<(DeviceKey, String)>) {
        if commands.is_empty() {
            return;
        }
        let mut state = self.state();
        let State { listeners, pending, .. } = &mut *state;
        for (key, command) in commands {
            let Some(listener) = listeners.get_mut(&key) else { continue };
            listener.sent.remove(&command);
            listener.taken.insert(command);
            // Not for each one: the window is filled up when half of it is free.
            let has_room = listener.sent.len() <= WINDOW_MAX_COMMANDS as usize / 2;
            if listener.has_more && has_room && !listener.is_pending {
                listener.is_pending = true;
                pending.push(key);
            }
        }
        let is_needed = !pending.is_empty();
        drop(state);
        if is_needed {
            self.wake.notify_one();
        }
    }

    /// Looks at the outboxes of all that are there: a commit may be stored that nobody was told of.
    pub(super) fn look_again(&self) {
        let devices: Vec<_> = {
            let mut state = self.state();
            let State { listeners, cancels, .. } = &mut *state;
            for listener in listeners.values_mut() {
                // Whether they were taken may be what nobody was told of; a device knows what it
                // has had.
                listener.sent.clear();
            }
            let asked: HashSet<_> = cancels.drain(..).chain(listeners.keys().cloned()).collect();
            cancels.extend(asked);
            state.listeners.keys().cloned().collect()
        };
        self.wake(devices);
        self.wake.notify_one();
    }

    /// Tries again those that took no more.
    pub(super) fn retry_full(&self) {
        let mut state = self.state();
        let State { listeners, pending, asking, .. } = &mut *state;
        asking.retry();
        for (key, listener) in listeners.iter_mut().filter(|(_, listener)| listener.is_full) {
            listener.is_full = false;
            if !listener.is_pending {
                listener.is_pending = true;
                pending.push(key.clone());
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Tells devices to stop commands. Those that do not hear it now are told when they come.
    pub(super) fn cancel(&self, cancels: Vec<(ProjectId, DeviceId, CommandId)>) {
        let Some(link) = self.link.get() else { return };
        for (project_id, device_id, command_id) in cancels {
            let message = CancelMessage { command_id, other: serde_json::Map::new() };
            let payload = serde_json::to_vec(&message).expect("an id is JSON").into();
            let kind = DeviceTopic::CommandsCancel;
            let request = PublishRequest {
                project_id,
                device_id,
                kind,
                payload,
                qos: Qos::of(kind),
                sender: SERVER,
            };
            if let Err(error) = link.publish(request) {
                tracing::debug!(command = %command_id, %error, "cancellation waits for its device");
            }
        }
    }

    /// Ends a device's connections.
    pub(super) fn disconnect(&self, project: &ProjectId, device: &DeviceId) {
        self.gone(&(project.clone(), device.clone()));
        if let Some(link) = self.link.get() {
            link.disconnect(project, device);
        }
    }

    fn take_turn(&self) -> Turn {
        let mut state = self.state();
        let count = state.pending.len().min(DEVICES_MAX);
        let pending: Vec<_> = state.pending.drain(..count).collect();
        for key in &pending {
            if let Some(listener) = state.listeners.get_mut(key) {
                listener.is_pending = false;
                listener.has_more = false;
                listener.taken.clear();
            }
        }
        let count = state.cancels.len().min(DEVICES_MAX);
        let cancels = state.cancels.drain(..count).collect();
        Turn { pending, cancels, asked: state.asking.take() }
    }
}

/// Sends what waits, until it is told to stop.
pub(super) async fn run(engine: Engine, stop: CancellationToken) {
    loop {
        let turn = engine.0.delivery.take_turn();
        if turn.is_empty() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = engine.0.delivery.wake.notified() => continue,
            }
        }
        if stop.is_cancelled() {
            break;
        }
        if let Err(error) = pump(&engine, &turn).await {
            tracing::error!(%error, devices = turn.pending.len(), "the outbox could not be read or marked");
            engine.0.delivery.put_back(turn);
            engine.clock().sleep_ms(1_000).await;
        }
    }
}

impl Delivery {
    fn put_back(&self, turn: Turn) {
        self.wake(turn.pending);
        self.ask_again(turn.asked);
        self.state().cancels.extend(turn.cancels);
    }
}

async fn pump(engine: &Engine, turn: &Turn) -> Result<(), StoreError> {
    let Turn { pending, cancels, asked } = turn;
    if !asked.is_empty() {
        asking::ask(engine, asked).await?;
    }
    let mut tx = engine.0.store.read().await?;
    let outgoing = if pending.is_empty() {
        Vec::new()
    } else {
        live::outbox(&mut tx, pending, WINDOW_MAX_COMMANDS, engine.clock().steady()).await?
    };
    let cancelled = live::cancels_of(&mut tx, cancels).await?;
    drop(tx);
    let cancelled = cancelled
        .into_iter()
        .filter_map(|(project, device, id)| {
            Some((ProjectId::new(&project).ok()?, DeviceId::new(&device).ok()?, id.parse().ok()?))
        })
        .collect();
    engine.0.delivery.cancel(cancelled);
    let sent_at = engine.clock().wall();
    let published = engine.0.delivery.send(&outgoing, sent_at);
    mark(engine, published, sent_at).await
}

impl Delivery {
    /// Tells apart the commands whose devices can get one this moment.
    pub(super) fn split_ready(
        &self,
        project: &ProjectId,
        rows: Vec<CommandOf>,
    ) -> (Vec<CommandOf>, Vec<CommandOf>) {
        let state = self.state();
        rows.into_iter().partition(|(_, device)| {
            let Ok(device) = DeviceId::new(device) else { return false };
            state.listeners.get(&(project.clone(), device)).is_some_and(|listener| {
                // What waits already may be more urgent: then the outbox decides.
                let is_idle = !listener.is_pending && !listener.has_more && !listener.is_full;
                is_idle && listener.sent.len() < WINDOW_MAX_COMMANDS as usize
            })
        })
    }

    /// Hands the commands of a submission to their devices' connections.
    pub(super) fn send_at_once(&self, outbound: &Outbound, sent_at: Timestamp) {
        let Ok(payload) = serde_json::from_str::<&RawValue>(&outbound.common.payload) else {
            return;
        };
        for (id, key) in &outbound.to {
            self.send_one(key, id, || outbound.common.wire(id, payload, sent_at));
        }
    }

    /// Hands messages to their devices' connections; answers the ids of those that were queued until now.
    fn send(&self, outgoing: &[Outgoing], sent_at: Timestamp) -> Vec<String> {
        let mut published = Vec::with_capacity(outgoing.len());
        let mut per_device: HashMap<DeviceKey, u32> = HashMap::new();
        for one in outgoing {
            let (Ok(project), Ok(device)) =
                (ProjectId::new(&one.project_id), DeviceId::new(&one.device_id))
            else {
                continue;
            };
            let key = (project, device);
            *per_device.entry(key.clone()).or_default() += 1;
            let is_sent = self.send_one(&key, &one.id, || message(one, sent_at));
            if is_sent && one.status == CommandStatus::Queued.as_str() {
                published.push(one.id.clone());
            }
        }
        let mut state = self.state();
        for (key, count) in per_device {
            if count >= WINDOW_MAX_COMMANDS
                && let Some(listener) = state.listeners.get_mut(&key)
            {
                listener.has_more = true;
            }
        }
        published
    }

    /// Hands one message to a device, once a connection.
    fn send_one(&self, key: &DeviceKey, id: &str, message: impl FnOnce() -> Option<Bytes>) -> bool {
        let Some(link) = self.link.get() else { return false };
        {
            let mut state = self.state();
            let Some(listener) = state.listeners.get_mut(key) else { return false };
            if listener.is_full
                || listener.taken.contains(id)
                || !listener.sent.insert(id.to_owned())
            {
                return false;
            }
        }
        let kind = DeviceTopic::Commands;
        let Some(payload) = message() else { return false };
        let request = PublishRequest {
            project_id: key.0.clone(),
            device_id: key.1.clone(),
            kind,
            payload,
            qos: Qos::of(kind),
            sender: SERVER,
        };
        match link.publish(request) {
            Ok(()) => {
                metrics::counter!("quarterdeck_commands_published_total").increment(1);
                true
            }
            Err(error) => {
                self.not_sent(key, id, error);
                false
            }
        }
    }

    fn not_sent(&self, key: &DeviceKey, command: &str, error: PublishError) {
        tracing::debug!(project = %key.0, device = %key.1, command, %error, "command waits for its device");
        let mut state = self.state();
        match error {
            PublishError::NotConnected | PublishError::NotSubscribed { .. } => {
                state.listeners.remove(key);
            }
            PublishError::QueueFull | PublishError::BrokerUnreachable => {
                if let Some(listener) = state.listeners.get_mut(key) {
                    listener.sent.remove(command);
                    listener.is_full = true;
                }
            }
            // It would not fit the next time either; it stays in `sent` and expires.
            PublishError::TooLong { .. } | PublishError::NotToDevice { .. } => {
                tracing::error!(command, %error, "a command cannot be sent");
            }
        }
    }
}

/// Says that commands were handed over, when that was: a device may have answered since.
async fn mark(
    engine: &Engine,
    published: Vec<String>,
    sent_at: Timestamp,
) -> Result<(), StoreError> {
    if published.is_empty() {
        return Ok(());
    }
    let worker = engine.clone();
    let after = engine
        .0
        .store
        .write(move |tx| {
            Box::pin(async move {
                let now = worker.clock().now();
                let mut timeline = String::new();
                append_event(&mut timeline, sent_at, "published", "server", "");
                let rows = write::publish(tx, &published, sent_at.as_millis(), &timeline).await?;
                safety::delivered(tx, &published, now.steady_ms).await?;
                let mut after = After::default();
                if worker.0.announcer.has_listeners() {
                    after.changes = rows
                        .into_iter()
                        .filter_map(|(id, project)| {
                            Some(Change {
                                project: ProjectId::new(&project).ok()?,
                                listing: Listing::Commands,
                                key: id,
                            })
                        })
                        .collect();
                }
                Ok::<After, StoreError>(after)
            })
        })
        .await??;
    engine.after_commit(after);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_doubt_a_full_window_does_not_keep_a_device_from_its_commands() {
        let delivery = Delivery::default();
        let key: DeviceKey = ("p".parse().expect("an id"), "pi-1".parse().expect("an id"));
        delivery.listens(&key.0, &key.1, DeviceTopic::Commands);
        delivery.take_turn();
        // All were accepted, which nobody was told of.
        let sent = (0..WINDOW_MAX_COMMANDS).map(|number| number.to_string());
        delivery.state().listeners.get_mut(&key).expect("it listens").sent.extend(sent);
        delivery.wake(vec![key.clone()]);
        assert!(delivery.take_turn().is_empty(), "its window is full");
        delivery.look_again();
        delivery.look_again();
        let turn = delivery.take_turn();
        assert_eq!((turn.pending, turn.cancels), (vec![key.clone()], vec![key]));
    }
}
