//! The connection to the broker.
//!
//! ```text
//!  waiting ─backoff─▶ connecting ─CONNACK─▶ subscribing ─SUBACK─▶ up ─error─▶ waiting
//!                        └──────────── error ──────────┘
//! ```
//!
//! Every connection is a clean session with a fresh client: what counts is in
//! the journal and in the server's store, and both send again after a
//! reconnect. A message is acknowledged to the broker only when the engine says
//! so, which it does once the message is in the journal.
//!
//! The task here does nothing but read; the engine sends through [`Link`], which
//! never waits.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    limits::MQTT_MESSAGE_MAX_BYTES,
    topics::{self, Channel, DeviceTopic},
};
use rumqttc::{
    AsyncClient, ConnectionError, Event, LastWill, MqttOptions, Outgoing, Packet, Publish, QoS,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::mpsc;

use super::tls;
use crate::{
    clock::{Backoff, Clock},
    enroll::Credentials,
};

/// Publishes that may be under way at once.
pub const IN_FLIGHT_MAX: usize = 20;
/// Packet ids in use: more than are in flight, so that one that comes back late collides with none.
const PACKET_IDS: u16 = 200;
/// Requests to the connection that may wait: publishes in flight, and acknowledgements.
const REQUESTS_MAX: usize = 1_000;
/// Incoming events that may wait for the engine.
pub const EVENTS_MAX: usize = 64;
const KEEP_ALIVE_MS: u64 = 30_000;
const CONNECT_TIMEOUT_S: u64 = 10;
const RETRY_FIRST_MS: u64 = 500;
const RETRY_MOST_MS: u64 = 30_000;
/// A connection that lived shorter counts as a failed attempt, in milliseconds.
const STABLE_AFTER_MS: i64 = 5_000;

/// Whose topics are spoken on.
#[derive(Debug, Clone)]
pub struct Device {
    pub project: ProjectId,
    pub id: DeviceId,
}

impl Device {
    pub fn topic(&self, kind: DeviceTopic) -> String {
        topics::topic(kind, &self.project, &self.id)
    }
}

/// What comes from the broker.
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected and subscribed.
    Up(Link),
    Down {
        reason: String,
    },
    /// A message on one of the device's topics.
    Message {
        kind: DeviceTopic,
        payload: Bytes,
        receipt: Receipt,
    },
    /// The broker has what was published under this token.
    Acked {
        token: u64,
    },
}

/// What the engine gives back to have a message acknowledged.
#[derive(Debug, Clone)]
pub struct Receipt(Publish);

/// One connection that is up; the engine's way to send.
#[derive(Debug, Clone)]
pub struct Link {
    client: AsyncClient,
    device: Device,
    /// Tokens of publishes that have no packet id yet, in order.
    tokens: Arc<Mutex<VecDeque<u64>>>,
}

/// Says that the connection takes nothing more; it will end or go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection takes nothing at the moment")]
pub struct Congested;

pub(super) fn qos(kind: DeviceTopic) -> QoS {
    match kind.qos() {
        2 => QoS::ExactlyOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::AtMostOnce,
    }
}

fn lock(tokens: &Mutex<VecDeque<u64>>) -> MutexGuard<'_, VecDeque<u64>> {
    tokens.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Hands a message over; [`LinkEvent::Acked`] follows when the broker has it.
    pub fn publish(
        &self,
        token: u64,
        kind: DeviceTopic,
        payload: Vec<u8>,
    ) -> Result<(), Congested> {
        let mut tokens = lock(&self.tokens);
        tokens.push_back(token);
        let sent =
            self.client.try_publish(self.device.topic(kind), qos(kind), kind.retained(), payload);
        if sent.is_err() {
            tokens.pop_back();
            return Err(Congested);
        }
        Ok(())
    }

    /// Acknowledges a message that is saved. One that cannot be is sent again by
    /// the server after the next reconnect.
    pub fn acknowledge(&self, receipt: &Receipt) {
        if self.client.try_ack(&receipt.0).is_err() {
            tracing::warn!("a message could not be acknowledged to the broker");
        }
    }

    pub fn disconnect(&self) {
        // A connection that is gone needs no goodbye.
        let _ = self.client.try_disconnect();
    }
}

/// Keeps a connection until nobody listens any more.
pub async fn run(
    credentials: Credentials,
    last_will: Vec<u8>,
    clock: Arc<dyn Clock>,
    events: mpsc::Sender<LinkEvent>,
) {
    let device =
        Device { project: credentials.project_id.clone(), id: credentials.device_id.clone() };
    let mut backoff = Backoff::new(RETRY_FIRST_MS, RETRY_MOST_MS);
    while !events.is_closed() {
        let began = clock.now();
        let reason = match options(&credentials, &device, Channel::Main) {
            Ok(mut options) => {
                options.set_manual_acks(true).set_last_will(LastWill::new(
                    device.topic(DeviceTopic::Status),
                    last_will.clone(),
                    qos(DeviceTopic::Status),
                    DeviceTopic::Status.retained(),
                ));
                connection(options, &device, &events).await
            }
            Err(error) => error.to_string(),
        };
        if events.send(LinkEvent::Down { reason }).await.is_err() {
            return;
        }
        if clock.now().millis_since(began) > STABLE_AFTER_MS {
            backoff.reset();
        }
        tokio::time::sleep(Duration::from_millis(backoff.next_ms(&*clock))).await;
    }
}

/// The options of both connections: who signs in, where, over what.
pub(super) fn options(
    credentials: &Credentials,
    device: &Device,
    channel: Channel,
) -> Result<MqttOptions, tls::TlsError> {
    let url = &credentials.mqtt_url;
    let is_tls = url.scheme() == "mqtts";
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port().unwrap_or(if is_tls { 8883 } else { 1883 });
    let client_id = topics::client_id(&device.project, &device.id, channel);
    let mut options = MqttOptions::new(client_id, host, port);
    options
        .set_credentials(topics::username(&device.project, &device.id), &credentials.device_secret)
        .set_keep_alive(Duration::from_millis(KEEP_ALIVE_MS))
        .set_clean_session(true)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(MQTT_MESSAGE_MAX_BYTES, MQTT_MESSAGE_MAX_BYTES);
    if is_tls {
        let config = tls::client_config(credentials.ca_pem.as_deref())?;
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(config)));
    }
    Ok(options)
}

/// Serves one connection; returns why it ended.
async fn connection(
    options: MqttOptions,
    device: &Device,
    events: &mpsc::Sender<LinkEvent>,
) -> String {
    let (client, mut event_loop) = AsyncClient::new(options, REQUESTS_MAX);
    event_loop.network_options.set_connection_timeout(CONNECT_TIMEOUT_S);
    let link = Link { client, device: device.clone(), tokens: Arc::default() };
    let mut session = Session { link, device, under_way: HashMap::new() };
    loop {
        let event = match event_loop.poll().await {
            Ok(event) => event,
            Err(error) => return explain(&error),
        };
        match session.on_event(event) {
            Ok(None) => {}
            Ok(Some(event)) => {
                // The engine never waits for this task, so this wait is short, and it
                // is what bounds the cost of a flood of messages.
                if events.send(event).await.is_err() {
                    return "the agent stops".to_owned();
                }
            }
            Err(reason) => return reason,
        }
    }
}

pub(super) fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => format!("the broker refuses: {code:?}"),
        other => other.to_string(),
    }
}

struct Session<'a> {
    link: Link,
    device: &'a Device,
    /// Packet id → token.
    under_way: HashMap<u16, u64>,
}

impl Session<'_> {
    fn on_event(&mut self, event: Event) -> Result<Option<LinkEvent>, String> {
        Ok(match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                self.subscribe()?;
                None
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                let is_refused =
                    |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Failure);
                if ack.return_codes.iter().any(is_refused) {
                    return Err("the broker refuses the subscriptions".to_owned());
                }
                Some(LinkEvent::Up(self.link.clone()))
            }
            Event::Incoming(Packet::Publish(publish)) => self.on_message(publish),
            Event::Incoming(Packet::PubAck(ack)) => self.on_acked(ack.pkid),
            Event::Incoming(Packet::PubComp(ack)) => self.on_acked(ack.pkid),
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                if let Some(token) = lock(&self.link.tokens).pop_front() {
                    self.under_way.insert(packet_id, token);
                }
                None
            }
            Event::Incoming(_) | Event::Outgoing(_) => None,
        })
    }

    fn subscribe(&self) -> Result<(), String> {
        let filters = [DeviceTopic::Commands, DeviceTopic::CommandsCancel]
            .map(|kind| SubscribeFilter::new(self.device.topic(kind), qos(kind)));
        self.link.client.try_subscribe_many(filters).map_err(|error| error.to_string())
    }

    fn on_message(&self, publish: Publish) -> Option<LinkEvent> {
        let known = topics::parse(&publish.topic)
            .filter(|(project, id, _)| *project == self.device.project && *id == self.device.id);
        let Some((_, _, kind)) = known else {
            let topic: String = publish.topic.chars().take(200).collect();
            tracing::warn!(topic = %quarterdeck_protocol::text::line(&topic), "ignored a message on a foreign topic");
            self.link.acknowledge(&Receipt(publish));
            return None;
        };
        let payload = publish.payload.clone();
        Some(LinkEvent::Message { kind, payload, receipt: Receipt(publish) })
    }

    fn on_acked(&mut self, packet_id: u16) -> Option<LinkEvent> {
        self.under_way.remove(&packet_id).map(|token| LinkEvent::Acked { token })
    }
}
