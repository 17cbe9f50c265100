//! The same [`Link`] over a broker elsewhere: Mosquitto, EMQX, NATS, AWS IoT Core.
//!
//! ```text
//!   hearing:  a session that is kept ◀── what devices say          all up: LinkUp
//!   speaking: one that is not        ──▶ what they are told        one down: LinkDown
//!   carrying: the same               ──▶ frames of tunnels
//! ```
//!
//! Three connections. The session of the one that hears is kept by the broker under
//! a steady client id, so that what devices say while the server is away waits
//! there; what a broker lets wait is its own setting (Mosquitto:
//! `max_queued_messages`, 1000 by default). Of the one that speaks nothing is to be
//! kept: a handshake of QoS 2 that a killed server began would never be ended by
//! the next one, and would count for ever against what the broker lets be under
//! way, until it takes nothing more. What is lost with it the engine says again.
//! Frames of tunnels, which nobody acknowledges, have a connection of their own: behind the
//! commands that the broker has not acknowledged a key would wait.
//!
//! | module | subject |
//! | --- | --- |
//! | `address` | the broker's URL, and whom to trust |
//! | `hearing` | the connection that hears, and what acknowledges |
//! | `speaking` | the connections that publish |
//! | `manner` | what a broker's behaviour tells: no QoS 2, a session that does not fit |
//! | `standing` | whether all stand, and how long to wait before the next try |
//! | `echoes` | our own words, which come back |
//!
//! Connections are not visible from here: presence comes from `status`, last
//! will included, and ACLs are the broker's. [`Link::disconnect`] does nothing.

mod address;
mod echoes;
mod hearing;
mod manner;
mod speaking;
mod standing;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    limits::MQTT_MESSAGE_MAX_BYTES,
    topics,
};
use rumqttc::{AsyncClient, MqttOptions, QoS, TlsConfiguration, Transport};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tracing::debug;

pub use self::address::{BrokerUrl, ConfigError, trust};
use self::{
    echoes::Echoes,
    hearing::{Hearing, acknowledge},
    manner::{Kept, Manner},
    speaking::Speaking,
    standing::{Side, Standing},
};
use super::{
    limits,
    link::{
        self, InboundReceiver, InboundSender, Link, PublishError, PublishRequest, Qos,
        TunnelsReceiver,
    },
};

/// What the client id of the connection that speaks ends with.
const SPEAKER: &str = "-out";
/// What the client id of the connection that carries frames of tunnels ends with.
const CARRIER: &str = "-tunnels";

/// Where the broker is and who we are there.
#[derive(Debug, Clone)]
pub struct Config {
    pub broker: BrokerUrl,
    /// Steady over restarts, and of this server alone: a broker lets one connection have it.
    /// The connections that publish have the same with `-out` and `-tunnels` behind it.
    pub client_id: String,
    /// Needed for `mqtts`; [`trust`] makes one from a CA.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The highest QoS of the broker; one without QoS 2 is also found out, at the cost of some connections.
    pub qos_max: Qos,
    /// Gives numbers in `0.0..1.0`, to spread the reconnects of many servers.
    pub random: fn() -> f64,
}

/// A client of an external broker.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    /// What is to be published, and frames of tunnels.
    requests: AsyncClient,
    frames: AsyncClient,
    inbound: InboundSender,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    standing: Standing,
    /// The broker has no QoS 2.
    no_qos_2: AtomicBool,
    /// A commit failed: drop the connection, so that the broker sends again.
    again: Notify,
    echoes: Mutex<Echoes>,
}

/// Starts the client. It connects in the background, and again whenever a connection breaks.
pub fn start(config: Config) -> Result<(Client, InboundReceiver), ConfigError> {
    let to_hear = options(&config, &config.client_id)?
        .set_clean_session(false)
        .set_manual_acks(true)
        .set_inflight(limits::EXTERNAL_INFLIGHT_MAX_MESSAGES)
        .to_owned();
    let to_speak = options(&config, &format!("{}{SPEAKER}", config.client_id))?
        .set_clean_session(true)
        .set_inflight(limits::EXTERNAL_SPOKEN_MAX_MESSAGES)
        .to_owned();
    let to_carry = options(&config, &format!("{}{CARRIER}", config.client_id))?
        .set_clean_session(true)
        .to_owned();
    let (sender, receiver) = link::inbound();
    let acks_max = limits::EXTERNAL_INFLIGHT_MAX_MESSAGES.into();
    let (outstanding, taken) = mpsc::channel(acks_max);
    let (acks, hears) = AsyncClient::new(to_hear, acks_max);
    let (requests, speaks) = AsyncClient::new(to_speak, limits::EXTERNAL_QUEUE_MAX_MESSAGES);
    let (frames, carries) = AsyncClient::new(to_carry, limits::EXTERNAL_FRAMES_MAX_MESSAGES);
    let manner = Manner::new(config.qos_max);
    let shared = Arc::new(Shared::default());
    if manner.most() < Qos::ExactlyOnce {
        shared.lower_qos();
    }
    let Config { broker, random, .. } = config;
    let hearing = Hearing {
        shared: shared.clone(),
        broker: broker.clone(),
        random,
        connection: hears,
        kept: Kept::default(),
        epoch: 0,
        inbound: sender.clone(),
        outstanding,
        is_heard: false,
    };
    let publishing = |side, connection, manner| Speaking {
        side,
        shared: shared.clone(),
        broker: broker.clone(),
        random,
        connection,
        manner,
        inbound: sender.clone(),
    };
    let tasks = vec![
        tokio::spawn(hearing.run()),
        tokio::spawn(acknowledge(taken, acks, shared.clone())),
        tokio::spawn(publishing(Side::Speaking, speaks, manner).run()),
        tokio::spawn(publishing(Side::Carrying, carries, Manner::new(Qos::AtMostOnce)).run()),
    ];
    Ok((Client { shared, requests, frames, inbound: sender, tasks }, receiver))
}

/// What all connections have in common.
fn options(config: &Config, client_id: &str) -> Result<MqttOptions, ConfigError> {
    let BrokerUrl { tls, host, port, credentials } = &config.broker;
    let mut options = MqttOptions::new(client_id, host, *port);
    options
        .set_keep_alive(Duration::from_secs(limits::EXTERNAL_KEEP_ALIVE_S))
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
    /// Whether the broker can be reached.
    pub fn is_up(&self) -> bool {
        self.shared.standing.is_up()
    }

    /// Hears, from now on, what is of tunnels apart from the rest; `None` when that is done
    /// already. Whether the connection stands is to be asked once: that was perhaps said before.
    pub fn tunnels(&self) -> Option<TunnelsReceiver> {
        self.inbound.open_tunnels()
    }
}

#[async_trait::async_trait]
impl Link for Client {
    fn publish(&self, request: PublishRequest) -> Result<(), PublishError> {
        let PublishRequest { project_id, device_id, kind, payload, qos, .. } = request;
        let size_bytes = payload.len();
        if !kind.device_may_subscribe() {
            return Err(PublishError::NotToDevice { kind });
        }
        if size_bytes > MQTT_MESSAGE_MAX_BYTES {
            return Err(PublishError::TooLong { size_bytes });
        }
        if !self.is_up() {
            return Err(PublishError::BrokerUnreachable);
        }
        let topic = topics::topic(kind, &project_id, &device_id);
        if kind.device_may_publish() {
            self.shared.echoes().expect(&topic, &payload);
        }
        let qos = match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
            Qos::ExactlyOnce if self.shared.no_qos_2.load(Ordering::Acquire) => QoS::AtLeastOnce,
            Qos::ExactlyOnce => QoS::ExactlyOnce,
        };
        let expected = kind.device_may_publish().then(|| (topic.clone(), payload.clone()));
        let lane = if qos == QoS::AtMostOnce { &self.frames } else { &self.requests };
        lane.try_publish(topic, qos, false, payload).map_err(|_| {
            if let Some((topic, payload)) = expected {
                // It was not said: no echo of it will come.
                self.shared.echoes().is_echo(&topic, &payload);
            }
            PublishError::QueueFull
        })
    }

    fn disconnect(&self, project: &ProjectId, device: &DeviceId) {
        debug!(%project, %device, "an external broker ends connections itself");
    }

    async fn shutdown(&self) {
        self.shared.standing.give_up();
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
    fn lower_qos(&self) {
        self.no_qos_2.store(true, Ordering::Release);
    }

    fn echoes(&self) -> std::sync::MutexGuard<'_, Echoes> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
