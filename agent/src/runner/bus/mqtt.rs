//! A broker on the device as the bus.
//!
//! Each connection is a clean session: what counts is retained on the broker
//! and in the runner's log, and what was not acknowledged is published again.
//! Messages are acknowledged as they are read, for they are retained: a crash
//! before one is saved finds it again.
//!
//! ```text
//!  connected ─▶ Begun ─ subscribed ─▶ retained messages ─ the echo of our question ─▶ Up
//! ```
//!
//! MQTT does not say when all retained messages have come. But what we say after the
//! subscription comes back behind them: that is the question. It is asked on a topic of our
//! own, and what stands *there*, retained, tells whether the broker remembers us.

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

use super::{BusEvent, Congested, Link, Memory, Scope};
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
/// Retained messages from which on a broker may leave some out, as Mosquitto does with more
/// than it queues for a client: then what is missing means nothing.
const STANDING_MAX: usize = 1_000;
/// How often is asked whether all has come: the echo is left out, too, while too much waits.
const QUESTIONS_MAX: usize = 1_000;
/// The token of a question; those of the runner begin with 1.
const QUESTION: u64 = 0;
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

    fn ask(&self, topic: &str) -> Result<(), Congested> {
        let mut tokens = lock(&self.tokens);
        let sent = self.client.try_publish(topic, QoS::AtLeastOnce, false, "{}");
        sent.map_err(|_| Congested)?;
        tokens.push_back(QUESTION);
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
    let mut look = Some(Look::default());
    let mut deaf_to = Vec::new();
    let own_topic = topic::memory(&scope.root, &scope.target);
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
                let filters = filters(scope);
                let filters = filters.map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
                if let Err(error) = link.client.try_subscribe_many(filters) {
                    return error.to_string();
                }
                BusEvent::Begun
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                let is_refused = |code| matches!(code, SubscribeReasonCode::Failure);
                let mut codes = ack.return_codes.into_iter();
                let is_unanswered = codes.next().is_some_and(is_refused);
                for (target, _) in scope.targets().zip(codes).filter(|(_, code)| is_refused(*code))
                {
                    if target == scope.target {
                        let filter = topic::commands_filter(&scope.root, target);
                        return format!("the broker refuses the subscription to {filter}");
                    }
                    tracing::error!(target, "the broker refuses the subscription of this child");
                    deaf_to.push(target.to_owned());
                }
                if is_unanswered {
                    look = None;
                    up(&link, Memory::Unknown, &mut deaf_to)
                } else if let Err(error) = link.ask(&own_topic) {
                    return error.to_string();
                } else {
                    continue;
                }
            }
            Event::Incoming(Packet::Publish(publish)) if publish.topic == own_topic => {
                match look.as_mut().map(|look| look.hears(publish.payload, publish.retain)) {
                    Some(Some(memory)) => {
                        look = None;
                        up(&link, memory, &mut deaf_to)
                    }
                    Some(None) | None => continue,
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                if let Some(look) = &mut look {
                    look.standing += usize::from(publish.retain);
                }
                BusEvent::Message {
                    topic: publish.topic,
                    payload: publish.payload,
                    is_retained: publish.retain,
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => match under_way.remove(&ack.pkid) {
                Some(QUESTION) => match look.as_mut().map(Look::may_ask_again) {
                    None => continue,
                    Some(true) => match link.ask(&own_topic) {
                        Ok(()) => continue,
                        Err(error) => return error.to_string(),
                    },
                    Some(false) => {
                        look = None;
                        up(&link, Memory::Unknown, &mut deaf_to)
                    }
                },
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

/// What a connection subscribes to: first what says whether the broker remembers us, which
/// so is never left out, then the commands of the targets.
fn filters(scope: &Scope) -> impl Iterator<Item = String> {
    let own = topic::memory(&scope.root, &scope.target);
    let commands = scope.targets().map(|target| topic::commands_filter(&scope.root, target));
    std::iter::once(own).chain(commands)
}

fn up(link: &MqttLink, memory: Memory, deaf_to: &mut Vec<String>) -> BusEvent {
    BusEvent::Up { link: Link::Mqtt(link.clone()), memory, deaf_to: std::mem::take(deaf_to) }
}

/// What is known of a broker's memory while the retained messages come.
#[derive(Debug, Clone, Default)]
struct Look {
    /// What stood on our own topic.
    word: Option<Bytes>,
    /// Messages that stood there.
    standing: usize,
    /// Questions that the broker has taken.
    questions: usize,
}

impl Look {
    /// Takes a message on our own topic; the first that is not retained answers the question.
    fn hears(&mut self, word: Bytes, is_retained: bool) -> Option<Memory> {
        if is_retained {
            self.word = Some(word);
            return None;
        }
        Some(match self.word.take() {
            _ if self.standing >= STANDING_MAX => Memory::Unknown,
            Some(word) => Memory::Stands(word),
            None => Memory::Nothing,
        })
    }

    /// The broker has taken a question, and its echo did not come before that.
    fn may_ask_again(&mut self) -> bool {
        self.questions += 1;
        self.questions < QUESTIONS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_remembers_us_if_our_own_word_stands_there() {
        let (word, question) = (Bytes::from_static(b"w"), Bytes::from_static(b"{}"));
        let mut look = Look::default();
        assert_eq!(look.clone().hears(question.clone(), false), Some(Memory::Nothing));
        assert_eq!(look.hears(word.clone(), true), None);
        assert_eq!(look.clone().hears(question.clone(), false), Some(Memory::Stands(word)));
        look.standing = STANDING_MAX;
        assert_eq!(look.hears(question, false), Some(Memory::Unknown), "some may be left out");
    }

    #[test]
    fn a_question_that_is_never_answered_is_given_up() {
        let mut look = Look::default();
        let asked = (0..2 * QUESTIONS_MAX).take_while(|_| look.may_ask_again()).count();
        assert_eq!(asked, QUESTIONS_MAX - 1);
    }
}
