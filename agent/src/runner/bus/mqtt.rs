//! A broker on the device as the bus.
//!
//! Each connection is a clean session: what counts is retained on the broker
//! and in the runner's log, and what was not acknowledged is published again.
//! Messages are acknowledged as they are read, for they are retained: a crash
//! before one is saved finds it again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectionError, Event, MqttOptions, NetworkOptions, Outgoing, Packet, QoS,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::mpsc;
use url::Url;

use super::{BusEvent, Congested, Link, Scope};
use crate::{
    clock::{Backoff, Clock},
    config::Secret,
    failpoint,
    io::tls,
    workflow::topic,
};

/// Publishes that may be under way at once.
const IN_FLIGHT_MAX: u16 = 100;
/// Events that may wait for the runner.
pub const EVENTS_MAX: usize = 256;
/// Requests to the connection that may wait.
const REQUESTS_MAX: usize = 1_000;
/// The longest message that comes or goes; over it the connection ends.
const PACKET_MAX_BYTES: usize = 32 * 1024 * 1024;
const KEEP_ALIVE_MS: u64 = 30_000;
const CONNECT_TIMEOUT_S: u64 = 10;
const RETRY_FIRST_MS: u64 = 200;
const RETRY_MOST_MS: u64 = 10_000;
/// A connection that lived shorter counts as a failed attempt, in milliseconds.
const STABLE_AFTER_MS: i64 = 5_000;

/// Where the broker is, and as whom to connect.
#[derive(Debug, Clone)]
pub struct Broker {
    /// `mqtt://` or `mqtts://`; it holds no user.
    pub url: Url,
    /// Empty where none is needed.
    pub username: String,
    pub password: Option<Secret>,
    /// By whom an `mqtts` broker is known.
    pub ca_pem: Option<String>,
}

/// A connection to the broker.
#[derive(Debug, Clone)]
pub struct MqttLink {
    client: AsyncClient,
    /// Tokens of publishes that have no packet id yet, in order.
    tokens: Arc<Mutex<VecDeque<u64>>>,
}

fn lock(tokens: &Mutex<VecDeque<u64>>) -> MutexGuard<'_, VecDeque<u64>> {
    tokens.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MqttLink {
    pub(super) fn publish(&self, token: u64, topic: &str, payload: Bytes) -> Result<(), Congested> {
        let mut tokens = lock(&self.tokens);
        let sent = self.client.try_publish(topic, QoS::AtLeastOnce, true, payload);
        sent.map_err(|_| Congested)?;
        tokens.push_back(token);
        Ok(())
    }

    pub(super) fn disconnect(&self) {
        // A connection that is gone needs no goodbye.
        let _ = self.client.try_disconnect();
    }
}

/// Keeps a connection until nobody listens any more.
pub async fn run(
    broker: Broker,
    scope: Scope,
    clock: Arc<dyn Clock>,
    events: mpsc::Sender<BusEvent>,
) {
    let mut backoff = Backoff::new(RETRY_FIRST_MS, RETRY_MOST_MS);
    while !events.is_closed() {
        let began = clock.now();
        let reason = match options(&broker, &scope) {
            Ok(options) => connection(options, &scope, &events).await,
            Err(error) => error.to_string(),
        };
        if events.send(BusEvent::Down { reason }).await.is_err() {
            return;
        }
        if clock.now().millis_since(began) > STABLE_AFTER_MS {
            backoff.reset();
        }
        tokio::time::sleep(Duration::from_millis(backoff.next_ms(&*clock))).await;
    }
}

fn options(broker: &Broker, scope: &Scope) -> Result<MqttOptions, tls::TlsError> {
    let url = &broker.url;
    let is_tls = url.scheme() == "mqtts";
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port().unwrap_or(if is_tls { 8883 } else { 1883 });
    let client_id = format!("quarterdeck-agent:{}/{}", scope.root, scope.target);
    let mut options = MqttOptions::new(client_id, host, port);
    options
        .set_keep_alive(Duration::from_millis(KEEP_ALIVE_MS))
        .set_clean_session(true)
        .set_inflight(IN_FLIGHT_MAX)
        .set_max_packet_size(PACKET_MAX_BYTES, PACKET_MAX_BYTES);
    if !broker.username.is_empty() {
        let password = broker.password.as_ref().map_or("", |password| &password.0);
        options.set_credentials(&broker.username, password);
    }
    if is_tls {
        let config = tls::client_config(broker.ca_pem.as_deref())?;
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(config)));
    }
    Ok(options)
}

/// Serves one connection; returns why it ended.
async fn connection(
    options: MqttOptions,
    scope: &Scope,
    events: &mpsc::Sender<BusEvent>,
) -> String {
    let (client, mut event_loop) = AsyncClient::new(options, REQUESTS_MAX);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIMEOUT_S);
    network.set_tcp_nodelay(true);
    event_loop.set_network_options(network);
    let link = MqttLink { client, tokens: Arc::default() };
    // Packet id → token.
    let mut under_way = HashMap::new();
    loop {
        let event = match event_loop.poll().await {
            Ok(event) => event,
            Err(ConnectionError::ConnectionRefused(code)) => {
                return format!("the broker refuses: {code:?}");
            }
            Err(error) => return error.to_string(),
        };
        let told = match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                let filters = scope.targets().map(|target| {
                    let filter = topic::commands_filter(&scope.root, target);
                    SubscribeFilter::new(filter, QoS::AtLeastOnce)
                });
                if let Err(error) = link.client.try_subscribe_many(filters) {
                    return error.to_string();
                }
                continue;
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                let is_refused = |code| matches!(code, SubscribeReasonCode::Failure);
                let mut answers = scope.targets().zip(ack.return_codes);
                if let Some((target, _)) = answers.find(|(_, code)| is_refused(*code)) {
                    let filter = topic::commands_filter(&scope.root, target);
                    return format!("the broker refuses the subscription to {filter}");
                }
                BusEvent::Up(Link::Mqtt(link.clone()))
            }
            Event::Incoming(Packet::Publish(publish)) => BusEvent::Message {
                topic: publish.topic,
                payload: publish.payload,
                is_retained: publish.retain,
            },
            Event::Incoming(Packet::PubAck(ack)) => match under_way.remove(&ack.pkid) {
                Some(token) => BusEvent::Acked { token },
                None => continue,
            },
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                failpoint::reach("after publishing");
                if let Some(token) = lock(&link.tokens).pop_front() {
                    under_way.insert(packet_id, token);
                }
                continue;
            }
            Event::Incoming(_) | Event::Outgoing(_) => continue,
        };
        // The runner never waits for this task, so this wait is short, and it is
        // what bounds the cost of a flood of messages.
        if events.send(told).await.is_err() {
            return "the agent stops".to_owned();
        }
    }
}
