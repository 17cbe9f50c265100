//! The broker inside the server: rmqtt, with our rules in its hooks.
//!
//! It is transport only. It routes nothing between devices and keeps no
//! retained message: what a device has not been given waits in the server's
//! store, in one place. Of a session that outlives its connection it keeps, in
//! memory, that there is one and what it hears: a device that is told of a new
//! session must by MQTT's rules forget what was not acknowledged.
//!
//! ```text
//!   device --TCP--> rmqtt session --hook--> ingest --> Inbound channel --> engine
//!   device <------- rmqtt session <-------- Link::publish <--------------- engine
//! ```

mod goodbye;
mod hooks;
mod parts;
mod registry;
mod strangers;

use std::{fmt, net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    limits::MQTT_MESSAGE_MAX_BYTES,
    topics,
};
use rmqtt::{
    codec::types::QoS,
    context::ServerContext,
    net::{Builder, Listener},
    server::MqttServer,
    types::{CodecPublish, From, Id, Message, Publish, Reason, Tx},
};
use tokio::task::JoinHandle;
use tracing::debug;

use self::{hooks::Core, strangers::Strangers};
use super::{
    limits,
    link::{self, Authenticator, Ended, InboundReceiver, Link, PublishError, PublishRequest, Qos},
};

/// Says why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen for MQTT on {address}, as --mqtt says: {reason}")]
    Listen { address: SocketAddr, reason: String },
}

/// The embedded broker.
#[derive(Debug)]
pub struct Broker {
    core: Arc<Core>,
    address: SocketAddr,
    from: From,
    tasks: Vec<JoinHandle<()>>,
}

/// The broker's port, taken. A device that connects is served once the broker starts.
pub struct Port {
    listener: Listener,
    address: SocketAddr,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Takes the port; port 0 asks the system for one, and [`Broker::address`] tells it.
pub fn bind(listen: SocketAddr) -> Result<Port, StartError> {
    let refused =
        |error: rmqtt::Error| StartError::Listen { address: listen, reason: format!("{error:#}") };
    let listener = listener(listen).bind().and_then(Listener::tcp).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok(Port { listener, address })
}

/// Starts the broker; the receiver gets what the devices say.
pub async fn start(port: Port, authenticator: Arc<dyn Authenticator>) -> (Broker, InboundReceiver) {
    let Port { listener, address } = port;
    let (sender, receiver) = link::inbound();
    let core = Arc::new(Core::new(authenticator, sender));

    // rmqtt's own idea of "busy" refuses devices when the machine works hard.
    let context = ServerContext::new()
        .busy_check_enable(false)
        .mqtt_max_sessions(limits::SESSIONS_MAX)
        .build()
        .await;
    *context.extends.router_mut().await = Box::new(parts::NoRoutes::default());
    *context.extends.retain_mut().await = Box::new(parts::NoRetained);
    *context.extends.fitter_mgr_mut().await = Box::new(parts::DeviceFitters(Arc::downgrade(&core)));
    *context.extends.session_mgr_mut().await =
        Box::new(goodbye::DeviceSessions(Arc::downgrade(&core)));
    core.register(&context).await;

    let node = context.node.id();
    let server = MqttServer::new(context).listener_by_id(listener, address.port()).build();
    let serving = tokio::spawn(async move {
        if let Err(error) = server.run().await {
            tracing::error!(%error, "the MQTT broker stopped");
        }
    });
    let sweeping = tokio::spawn(sweep(core.clone(), address));
    let from = hooks::from_server(&Id::from(node, "server".into()));
    (Broker { core, address, from, tasks: vec![serving, sweeping] }, receiver)
}

impl Broker {
    /// The address that devices connect to, with the port that was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hears, from now on, what is of tunnels apart from the rest; `None` when that is done already.
    pub fn tunnels(&self) -> Option<InboundReceiver> {
        self.core.inbound.open_tunnels()
    }

    /// How many sign-ins are under way.
    pub fn signing_in(&self) -> usize {
        self.core.registry.signing_in_count()
    }

    /// How many devices' connections are open.
    pub fn connections(&self) -> usize {
        self.core.registry.connected_count()
    }
}

#[async_trait::async_trait]
impl Link for Broker {
    fn publish(&self, request: PublishRequest) -> Result<(), PublishError> {
        let PublishRequest { project_id, device_id, kind, payload, qos } = request;
        let size_bytes = payload.len();
        if !kind.device_may_subscribe() {
            return Err(PublishError::NotToDevice { kind });
        }
        if size_bytes > MQTT_MESSAGE_MAX_BYTES {
            return Err(PublishError::TooLong { size_bytes });
        }
        let (connection, granted) = self.core.registry.hearing(&project_id, &device_id, kind)?;
        connection.reserve(size_bytes)?;
        let publish = Publish::new(
            Box::new(CodecPublish {
                dup: false,
                retain: false,
                qos: match qos.min(granted) {
                    Qos::AtMostOnce => QoS::AtMostOnce,
                    Qos::AtLeastOnce => QoS::AtLeastOnce,
                    Qos::ExactlyOnce => QoS::ExactlyOnce,
                },
                topic: topics::topic(kind, &project_id, &device_id).into(),
                packet_id: None,
                payload,
                properties: None,
            }),
            None,
            None,
            Some(hooks::meant_for(connection.id)),
        );
        connection.tx().unbounded_send(Message::Forward(self.from.clone(), publish)).map_err(|_| {
            connection.release(size_bytes);
            PublishError::NotConnected
        })
    }

    fn disconnect(&self, project: &ProjectId, device: &DeviceId) {
        for connection in self.core.registry.bar(project, device) {
            close(connection.tx(), Ended::ByServer);
        }
    }

    async fn shutdown(&self) {
        self.core.close();
        for task in &self.tasks {
            task.abort();
        }
        let connections = self.core.registry.all();
        for connection in &connections {
            close(connection.tx(), Ended::ByServer);
        }
        let _ = tokio::time::timeout(Duration::from_millis(limits::SHUTDOWN_TIMEOUT_MS), async {
            while self.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.core.close();
        for task in &self.tasks {
            task.abort();
        }
        for connection in self.core.registry.all() {
            close(connection.tx(), Ended::ByServer);
        }
    }
}

/// Asks a session to end. One that is gone already has ended.
fn close(tx: &Tx, why: Ended) {
    let by_server = why != Ended::TakenOver;
    let _ = tx.unbounded_send(Message::Closed(Reason::ConnectKicked(by_server)));
}

fn listener(address: SocketAddr) -> Builder {
    let packet_max_bytes = MQTT_MESSAGE_MAX_BYTES + limits::PACKET_OVERHEAD_MAX_BYTES;
    Builder::new()
        .name("devices")
        .laddr(address)
        .backlog(limits::BACKLOG_MAX_CONNECTIONS)
        .reuseaddr(Some(true))
        .nodelay(true)
        .allow_anonymous(false)
        .session_expiry_interval(Duration::from_secs(limits::SESSION_KEPT_MAX_S))
        .max_session_expiry_interval(Duration::from_secs(limits::SESSION_KEPT_MAX_S))
        .max_connections(limits::SIGN_IN_MAX_CONNECTIONS)
        .max_handshaking_limit(limits::SIGN_INS_MAX)
        .handshake_timeout(Duration::from_millis(limits::SIGN_IN_TIMEOUT_MS))
        .send_timeout(Duration::from_millis(limits::SEND_TIMEOUT_MS))
        .max_packet_size(packet_max_bytes as u32)
        .max_clientid_len(limits::CLIENT_ID_MAX_BYTES)
        .max_subscriptions(limits::SUBSCRIPTIONS_MAX)
        // Of what comes in; a device over it would be thrown out, and nothing is kept
        // of a QoS 2 publish but its packet id. What goes out is bounded by the fitter.
        .max_inflight(NonZeroU16::MAX)
        // Zero means never: expiry is the store's business, and TCP does not lose.
        .message_expiry_interval(Duration::ZERO)
        .message_retry_interval(Duration::ZERO)
}

/// Finds, now and then, what ended without a hook and what never began.
async fn sweep(core: Arc<Core>, listens: SocketAddr) {
    let age_max_ticks = limits::SIGN_IN_TIMEOUT_MS / limits::SWEEP_PERIOD_MS;
    let mut strangers =
        Strangers::new(listens, age_max_ticks as u32, limits::SIGN_IN_MAX_CONNECTIONS);
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::SWEEP_PERIOD_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looking = core.clone();
        // Thousands of descriptors take milliseconds: not on a thread that serves devices.
        let looked = tokio::task::spawn_blocking(move || {
            strangers.tick(|| looking.registry.peers());
            strangers
        });
        let Ok(looked) = looked.await else { return };
        strangers = looked;
        for orphan in core.registry.orphans() {
            debug!(connection = orphan.id.0, "ended without a word");
            core.ended(orphan.session(), Ended::Lost).await;
        }
        let before_ms = rmqtt::utils::timestamp_millis() - 2 * limits::SIGN_IN_TIMEOUT_MS as i64;
        core.registry.forget_sign_ins(before_ms);
    }
}
