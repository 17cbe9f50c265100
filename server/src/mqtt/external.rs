//! The same [`Link`] over a broker elsewhere: Mosquitto, EMQX, NATS, AWS IoT Core.
//!
//! ```text
//!   connecting --CONNACK--> up: subscribe, LinkUp --error, failed commit--> down: LinkDown
//!        ^                                                                    |
//!        +--------------------- full jitter, longer each time ----------------+
//! ```
//!
//! Two tasks: one owns the connection and hands publishes to the engine; the
//! other waits for their commits in the order they came, many at a time, and
//! acknowledges. MQTT has no "not acknowledged": when a commit fails, the
//! connection is dropped, and the broker sends again what was not acknowledged.
//!
//! The session is kept by the broker under a steady client id, so that what
//! devices say while the server is away waits there. What a broker lets wait
//! is its own setting (Mosquitto: `max_queued_messages`, 1000 by default).
//!
//! Connections are not visible from here: presence comes from `status`, last
//! will included, and ACLs are the broker's. [`Link::disconnect`] does nothing.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    limits::MQTT_MESSAGE_MAX_BYTES,
    topics::{self, DeviceTopic},
};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS, Request, Subscribe,
    SubscribeFilter, TlsConfiguration, Transport,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tracing::{debug, info, warn};
use url::Url;

use super::{
    limits,
    link::{
        AckHandle, AckWaiter, Inbound, InboundReceiver, InboundSender, Link, Message, PublishError,
        PublishRequest, Qos,
    },
};

/// Where the broker is and who we are there.
#[derive(Debug, Clone)]
pub struct Config {
    pub broker: BrokerUrl,
    /// Steady over restarts, and of this server alone: a broker lets one connection have it.
    pub client_id: String,
    /// Needed for `mqtts`; [`trust`] makes one from a CA.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Gives numbers in `0.0..1.0`, to spread the reconnects of many servers.
    pub random: fn() -> f64,
}

/// `mqtt(s)://user:pass@host[:port]`, read.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub credentials: Option<(String, String)>,
}

/// Says what is wrong with the way to the broker. Shows no password.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("broker URL: expected mqtt://user:pass@host[:port] or mqtts://…, {reason}")]
    Url { reason: String },
    #[error("mqtts needs the certificates that it may trust")]
    NoTrust,
    #[error("CA certificates: {reason}")]
    Ca { reason: String },
}

impl BrokerUrl {
    /// Reads a URL; the password may instead come from a file and be set in `credentials`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| ConfigError::Url { reason: reason.to_owned() };
        let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
        let tls = match url.scheme() {
            "mqtt" => false,
            "mqtts" => true,
            other => return Err(refuse(&format!("not {other}://"))),
        };
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| refuse("without a host"))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("with nothing after the port"));
        }
        let decode =
            |part: &str| percent_decoded(part).ok_or_else(|| refuse("with credentials in UTF-8"));
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decode(user)?, decode(password.unwrap_or_default())?)),
        };
        let port = url.port().unwrap_or(if tls { 8883 } else { 1883 });
        // An IPv6 host stands in brackets in a URL, and resolves without them.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port, credentials })
    }
}

impl std::fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "mqtts" } else { "mqtt" }, self.host, self.port)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    // A form decodes the same but for '+', which means itself in a URL's user.
    let text = text.replace('+', "%2B");
    let pair = format!("v={text}");
    let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
    (!value.contains('\u{FFFD}')).then(|| value.into_owned())
}

/// Trusts the CAs of a PEM file, and them alone.
pub fn trust(ca_pem: &[u8]) -> Result<Arc<rustls::ClientConfig>, ConfigError> {
    let refuse = |reason: String| ConfigError::Ca { reason };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("none found".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A client of an external broker.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    requests: AsyncClient,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    up: AtomicBool,
    /// A commit failed: drop the connection, so that the broker sends again.
    again: Notify,
    echoes: Mutex<Echoes>,
}

/// Starts the client. It connects in the background, and again whenever the connection breaks.
pub fn start(config: Config) -> Result<(Client, InboundReceiver), ConfigError> {
    let options = options(&config)?;
    let (sender, receiver) = mpsc::channel(limits::INBOUND_MAX_EVENTS);
    let (outstanding, taken) = mpsc::channel(usize::from(limits::EXTERNAL_INFLIGHT_MAX_MESSAGES));
    let (client, connection) = AsyncClient::new(options, limits::EXTERNAL_QUEUE_MAX_MESSAGES);
    let shared = Arc::new(Shared::default());
    let reader = Reader {
        shared: shared.clone(),
        broker: config.broker,
        random: config.random,
        connection,
        epoch: 0,
        inbound: sender,
        outstanding,
    };
    let tasks = vec![
        tokio::spawn(reader.run()),
        tokio::spawn(acknowledge(taken, client.clone(), shared.clone())),
    ];
    Ok((Client { shared, requests: client, tasks }, receiver))
}

fn options(config: &Config) -> Result<MqttOptions, ConfigError> {
    let BrokerUrl { tls, host, port, credentials } = &config.broker;
    let mut options = MqttOptions::new(&config.client_id, host, *port);
    options
        .set_keep_alive(Duration::from_secs(limits::EXTERNAL_KEEP_ALIVE_S))
        .set_clean_session(false)
        .set_manual_acks(true)
        .set_inflight(limits::EXTERNAL_INFLIGHT_MAX_MESSAGES)
        // What comes in may be longer than we take: refused here, it would come
        // again after each reconnect.
        .set_max_packet_size(
            limits::EXTERNAL_PACKET_MAX_BYTES,
            MQTT_MESSAGE_MAX_BYTES + limits::PACKET_OVERHEAD_MAX_BYTES,
        );
    if let Some((user, password)) = credentials {
        options.set_credentials(user, password);
    }
    if *tls {
        let config = config.tls.clone().ok_or(ConfigError::NoTrust)?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    }
    Ok(options)
}

impl Client {
    /// Whether the connection to the broker stands.
    pub fn is_up(&self) -> bool {
        self.shared.up.load(Ordering::Acquire)
    }
}

#[async_trait::async_trait]
impl Link for Client {
    fn publish(&self, request: PublishRequest) -> Result<(), PublishError> {
        let PublishRequest { project_id, device_id, kind, payload, qos } = request;
        let size_bytes = payload.len();
        if !kind.device_may_subscribe() {
            return Err(PublishError::NotToDevice { kind });
        }
        if size_bytes > MQTT_MESSAGE_MAX_BYTES {
            return Err(PublishError::TooLong { size_bytes });
        }
        if !self.shared.up.load(Ordering::Acquire) {
            return Err(PublishError::BrokerUnreachable);
        }
        let topic = topics::topic(kind, &project_id, &device_id);
        if kind.device_may_publish() {
            self.shared.echoes().expect(&topic, &payload);
        }
        let qos = match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
            Qos::ExactlyOnce => QoS::ExactlyOnce,
        };
        self.requests.try_publish(topic, qos, false, payload).map_err(|_| PublishError::QueueFull)
    }

    fn disconnect(&self, project: &ProjectId, device: &DeviceId) {
        debug!(%project, %device, "an external broker ends connections itself");
    }

    async fn shutdown(&self) {
        self.shared.up.store(false, Ordering::Release);
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn echoes(&self) -> std::sync::MutexGuard<'_, Echoes> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What we said on topics that we also hear. MQTT 3.1.1 sends it back to us.
#[derive(Debug, Default)]
struct Echoes(VecDeque<u64>);

impl Echoes {
    fn mark(topic: &str, payload: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        payload.hash(&mut hasher);
        hasher.finish()
    }

    fn expect(&mut self, topic: &str, payload: &[u8]) {
        if self.0.len() == limits::EXTERNAL_ECHOES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Self::mark(topic, payload));
    }

    fn is_echo(&mut self, topic: &str, payload: &[u8]) -> bool {
        let mark = Self::mark(topic, payload);
        let found = self.0.iter().position(|expected| *expected == mark);
        found.map(|at| self.0.remove(at)).is_some()
    }
}

/// A publish that the engine has and the broker does not know it has.
struct Outstanding {
    /// Packet ids mean something within one connection alone.
    epoch: u64,
    publish: rumqttc::Publish,
    waiter: Option<AckWaiter>,
}

struct Reader {
    shared: Arc<Shared>,
    broker: BrokerUrl,
    random: fn() -> f64,
    connection: EventLoop,
    epoch: u64,
    inbound: InboundSender,
    outstanding: mpsc::Sender<Outstanding>,
}

impl Reader {
    async fn run(mut self) {
        let mut attempt = 0;
        loop {
            let event = tokio::select! {
                event = self.connection.poll() => event,
                () = self.shared.again.notified() => {
                    warn!(broker = ?self.broker, "a message could not be made durable: taking it again");
                    self.connection.clean();
                    if self.down().await.is_err() { return }
                    wait(&mut attempt, self.random).await;
                    continue;
                }
            };
            let listened = match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    attempt = 0;
                    self.up().await
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.take(publish).await,
                Ok(_) => Ok(()),
                Err(ConnectionError::RequestsDone) => return,
                Err(error) => {
                    let listened = self.down().await;
                    info!(broker = ?self.broker, %error, attempt, "no connection to the broker");
                    wait(&mut attempt, self.random).await;
                    listened
                }
            };
            if listened.is_err() {
                debug!("nobody listens to the broker any more");
                return;
            }
        }
    }

    async fn up(&mut self) -> Result<(), mpsc::error::SendError<Inbound>> {
        info!(broker = ?self.broker, "connected to the broker");
        self.epoch += 1;
        // Ahead of all else, and not by way of the client's queue, which may be full.
        self.connection
            .pending
            .push_front(Request::Subscribe(Subscribe::new_many(subscriptions())));
        self.shared.up.store(true, Ordering::Release);
        self.inbound.send(Inbound::LinkUp).await
    }

    async fn down(&mut self) -> Result<(), mpsc::error::SendError<Inbound>> {
        // Acknowledgements belong to the connection that is gone.
        self.connection
            .pending
            .retain(|request| !matches!(request, Request::PubAck(_) | Request::PubRec(_)));
        if self.shared.up.swap(false, Ordering::AcqRel) {
            self.inbound.send(Inbound::LinkDown).await?;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        publish: rumqttc::Publish,
    ) -> Result<(), mpsc::error::SendError<Inbound>> {
        let parsed = topics::parse(&publish.topic).filter(|(_, _, kind)| kind.device_may_publish());
        let waiter = match parsed {
            None => {
                warn!(topic = publish.topic, "not one of the topics we asked for");
                None
            }
            Some(_) if publish.payload.len() > MQTT_MESSAGE_MAX_BYTES => {
                warn!(
                    topic = publish.topic,
                    size_bytes = publish.payload.len(),
                    "longer than a message may be"
                );
                None
            }
            Some((.., kind)) if kind.device_may_subscribe() && self.is_echo(&publish) => None,
            Some((project_id, device_id, kind)) => {
                let (ack, waiter) = match publish.qos {
                    QoS::AtMostOnce => (AckHandle::unawaited(), None),
                    QoS::AtLeastOnce | QoS::ExactlyOnce => {
                        let (ack, waiter) = AckHandle::pair();
                        (ack, Some(waiter))
                    }
                };
                let message = Message {
                    project_id,
                    device_id,
                    kind,
                    payload: publish.payload.clone(),
                    retained: publish.retain,
                    last_will: false,
                    connection: None,
                    ack,
                };
                self.inbound.send(Inbound::Message(message)).await?;
                waiter
            }
        };
        if publish.qos != QoS::AtMostOnce {
            // Full: the broker waits, as its window of unacknowledged messages is.
            let _ = self.outstanding.send(Outstanding { epoch: self.epoch, publish, waiter }).await;
        }
        Ok(())
    }

    fn is_echo(&self, publish: &rumqttc::Publish) -> bool {
        self.shared.echoes().is_echo(&publish.topic, &publish.payload)
    }
}

/// Acknowledges what is durable, in the order in which it came.
async fn acknowledge(
    mut taken: mpsc::Receiver<Outstanding>,
    client: AsyncClient,
    shared: Arc<Shared>,
) {
    let mut abandoned = 0;
    while let Some(Outstanding { epoch, publish, waiter }) = taken.recv().await {
        if epoch <= abandoned {
            continue;
        }
        let committed = match waiter {
            None => true,
            Some(waiter) => waiter.committed().await,
        };
        if !committed {
            abandoned = epoch;
            shared.again.notify_one();
        } else if client.ack(&publish).await.is_err() {
            return;
        }
    }
}

fn subscriptions() -> impl Iterator<Item = SubscribeFilter> {
    DeviceTopic::ALL.into_iter().filter(|kind| kind.device_may_publish()).map(|kind| {
        // Never 2: when a session is resumed amid its handshake, the broker repeats
        // PUBREL, which rumqttc takes for an error, on each new connection again.
        // At least once is what we need, and the ids do the rest.
        let qos = if Qos::of(kind) == Qos::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        SubscribeFilter::new(topics::filter(kind), qos)
    })
}

async fn wait(attempt: &mut u32, random: fn() -> f64) {
    tokio::time::sleep(pause(*attempt, random())).await;
    *attempt = attempt.saturating_add(1);
}

/// Full jitter: anywhere between at once and a bound that doubles.
fn pause(attempt: u32, random: f64) -> Duration {
    let bound_ms = limits::RECONNECT_FIRST_MS
        .saturating_mul(1 << attempt.min(20))
        .min(limits::RECONNECT_MAX_MS);
    Duration::from_millis(bound_ms).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_url_names_host_port_and_credentials() {
        let url = BrokerUrl::parse("mqtt://user:p%40ss+w@broker.example").expect("valid");
        assert_eq!((url.tls, url.host.as_str(), url.port), (false, "broker.example", 1883));
        assert_eq!(url.credentials, Some(("user".into(), "p@ss+w".into())));
        let url = BrokerUrl::parse("mqtts://[::1]:9000/").expect("valid");
        assert_eq!(
            (url.tls, url.host.as_str(), url.port, &url.credentials),
            (true, "::1", 9000, &None)
        );
    }

    #[test]
    fn a_wrong_broker_url_is_refused_and_no_password_shown() {
        for text in [
            "",
            "broker",
            "http://h",
            "mqtt://",
            "mqtt://u:secret@h/path",
            "mqtt://u:secret@h?x=1",
            "tcp://u:secret@h",
        ] {
            let error = BrokerUrl::parse(text).expect_err(text);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let url = BrokerUrl::parse("mqtt://u:secret@h").expect("valid");
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn reconnects_wait_longer_and_never_beyond_the_bound() {
        assert_eq!(pause(0, 0.0), Duration::ZERO);
        assert_eq!(pause(0, 1.0), Duration::from_millis(limits::RECONNECT_FIRST_MS));
        assert_eq!(pause(3, 0.5), Duration::from_millis(limits::RECONNECT_FIRST_MS * 4));
        for attempt in [20, 64, u32::MAX] {
            assert_eq!(pause(attempt, 1.0), Duration::from_millis(limits::RECONNECT_MAX_MS));
        }
    }

    #[test]
    fn an_echo_is_dropped_once() {
        let mut echoes = Echoes::default();
        echoes.expect("t", b"open");
        assert!(!echoes.is_echo("t", b"opened"));
        assert!(!echoes.is_echo("u", b"open"));
        assert!(echoes.is_echo("t", b"open"));
        assert!(!echoes.is_echo("t", b"open"));
        for n in 0..2 * limits::EXTERNAL_ECHOES_MAX {
            echoes.expect("t", &n.to_be_bytes());
        }
        assert_eq!(echoes.0.len(), limits::EXTERNAL_ECHOES_MAX);
    }

    #[test]
    fn all_that_devices_say_is_subscribed_to() {
        let filters: Vec<_> = subscriptions().map(|filter| filter.path).collect();
        assert_eq!(filters.len(), 7);
        assert!(filters.contains(&"roboticks/+/devices/+/status".to_owned()));
        assert!(!filters.contains(&"roboticks/+/devices/+/commands".to_owned()));
    }

    #[test]
    fn trust_needs_a_certificate() {
        assert!(matches!(trust(b""), Err(ConfigError::Ca { .. })));
        assert!(matches!(
            trust(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Err(ConfigError::Ca { .. })
        ));
    }
}
