//! Reads what comes from the link: which connection a device has, and what it says.
//!
//! What is malformed, or about a command that the device does not have, changes
//! nothing; it is counted, logged now and then, and acknowledged, for the device
//! would only send it again.

use std::collections::{HashMap, HashSet};

use quarterdeck_protocol::topics::{Channel, DeviceTopic};

use super::{
    DeviceKey, Heard, What,
    message::{Failed, Health, Malformed, Said, Status},
    record::{Word, Words},
};
use crate::{
    clock::Now,
    engine::Engine,
    mqtt::link::{AckHandle, ConnectionId, Inbound, Message},
};

/// How often a device's words, heartbeats apart, renew when it was last seen, in milliseconds.
const SEEN_PERIOD_MS: i64 = 10_000;
/// How often one kind of malformed message is logged, in milliseconds.
const COMPLAINT_PERIOD_MS: i64 = 1_000;

/// What is remembered between batches.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The latest connection of each device that is connected.
    connections: HashMap<DeviceKey, ConnectionId>,
    seen_ms: HashMap<DeviceKey, i64>,
    complained_ms: i64,
    /// Devices of whose last report not all processes could be read: said once, not with each heartbeat.
    odd_reports: HashSet<DeviceKey>,
}

/// One batch, read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) heard: Vec<Heard>,
    pub(super) seen: Vec<DeviceKey>,
    /// What of `heard` must be durable before it is acknowledged, and its size.
    pub(super) words: Words,
    pub(super) bytes: usize,
    pub(super) acks: Vec<AckHandle>,
    /// Whether the way to the broker stands now, if that changed.
    pub(super) hears: Option<bool>,
}

impl Reader {
    pub(super) fn read(&mut self, engine: &Engine, events: impl Iterator<Item = Inbound>) -> Read {
        let mut read = Read::default();
        let now = engine.clock().now();
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
                    read.heard.push(Heard { device, what: What::Connected, now });
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
                        self.odd_reports.remove(&device);
                        engine.0.delivery.gone(&device);
                        read.heard.push(Heard { device, what: What::Gone, now });
                    }
                }
                // A connection that carries tunnels alone says nothing of presence.
                Inbound::Connected { .. }
                | Inbound::Subscribed { .. }
                | Inbound::Disconnected { .. } => {}
                Inbound::Message(message) => self.message(engine, &mut read, message, now),
                Inbound::LinkUp => engine.0.delivery.link_is_up(),
                Inbound::LinkDown => tracing::warn!("the broker cannot be reached"),
                Inbound::Hears(hears) => read.hears = Some(hears),
            }
        }
        read
    }

    fn message(&mut self, engine: &Engine, read: &mut Read, message: Message, now: Now) {
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
            Err(error) => return self.complain(&device, kind, &error, now.steady_ms),
        };
        match &what {
            What::Status { .. } if !is_current => return,
            What::Status { status, .. } if connection.is_none() => {
                // An external broker tells of no subscriptions: the device itself does.
                if status.online {
                    engine.0.delivery.ask(&device.0, &device.1);
                }
                for kind in [DeviceTopic::Commands, DeviceTopic::CommandsCancel] {
                    if status.online {
                        engine.0.delivery.listens(&device.0, &device.1, kind);
                    } else {
                        engine.0.delivery.gone(&device);
                    }
                }
            }
            What::Health(health) => self.mind(&device, health),
            What::Response(_) => {
                let seen_ms = self.seen_ms.entry(device.clone()).or_insert(i64::MIN);
                if seen_ms.saturating_add(SEEN_PERIOD_MS) <= now.steady_ms {
                    *seen_ms = now.steady_ms;
                    read.seen.push(device.clone());
                }
            }
            _ => {}
        }
        let word = Word { device: &device, kind, payload: &payload, retained, last_will, now };
        read.words.push(&word);
        read.bytes += payload.len();
        read.heard.push(Heard { device, what, now });
    }

    /// Says once of a device that its processes are not all read.
    fn mind(&mut self, device: &DeviceKey, health: &Health) {
        if health.odd_processes == 0 {
            self.odd_reports.remove(device);
        } else if self.odd_reports.insert(device.clone()) {
            let odd = health.odd_processes;
            tracing::warn!(
                project = %device.0, device = %device.1, odd,
                "a health report has processes that are left out; expected objects with name and state, both texts"
            );
        }
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

/// Reads one message; `None` for what says nothing.
pub(super) fn parse(
    kind: DeviceTopic,
    payload: &[u8],
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
