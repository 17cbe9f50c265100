//! The broker inside the server.
//!
//! It is transport only. It routes nothing between devices and keeps no
//! retained message: what a device has not been given waits in the server's
//! store, in one place. Of a session that outlives its connection it keeps, in
//! memory, that there is one and what it hears: a device that is told of a new
//! session must by MQTT's rules forget what was not acknowledged.
//!
//! ```text
//!   device --> line --> wire --> connection --take--> Inbound channel --> engine
//!                                    |  gate <-----------commit-------------+
//!   device <-- line <-- wire <-------+--- mailbox <--- Link::publish <------+
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | `door` | bounds who has not signed in |
//! | `connection` | one connection from its first byte to its last |
//! | `line` | a stream with its buffers |
//! | `wire` | MQTT 3.1.1 and MQTT 5 as one language |
//! | `delivery` | packet ids, and what is under way on a connection |
//! | `gate` | acknowledgements behind their commits |
//! | `patience` | when a connection is given up |
//! | `mailbox` | what waits for a connection |
//! | `registry` | who is connected, and the sessions of who is away |
//! | `core` | who may sign in, and what becomes of what is said |

mod connection;
mod core;
mod delivery;
mod door;
mod gate;
mod line;
mod mailbox;
mod patience;
mod registry;
mod wire;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    limits::MQTT_MESSAGE_MAX_BYTES,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tracing::warn;

use self::{core::Core, door::Door, mailbox::Letter};
use super::{
    limits,
    link::{
        self, Authenticator, Ended, InboundReceiver, InboundSender, Link, PublishError,
        PublishRequest, TunnelsReceiver,
    },
};

/// Says why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen for MQTT on {address}, as --mqtt says: {reason}")]
    Listen { address: SocketAddr, reason: std::io::Error },
}

/// The embedded broker.
#[derive(Debug)]
pub struct Broker {
    core: Arc<Core>,
    address: SocketAddr,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The broker's port, taken. A device that connects is served once the broker starts.
#[derive(Debug)]
pub struct Port {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the port; port 0 asks the system for one, and [`Broker::address`] tells it.
pub fn bind(listen: SocketAddr) -> Result<Port, StartError> {
    let refused = |reason| StartError::Listen { address: listen, reason };
    let listener = listener(listen).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok(Port { listener, address })
}

/// Starts the broker; the receiver gets what the devices say.
pub fn start(port: Port, authenticator: Arc<dyn Authenticator>) -> (Broker, InboundReceiver) {
    let (sender, receiver) = link::inbound();
    (serve(port, authenticator, sender), receiver)
}

/// Starts the broker; what is of tunnels is heard apart from the rest. From the first connection
/// on: a device that came in between would hear, and nobody would know.
pub fn start_with_tunnels(
    port: Port,
    authenticator: Arc<dyn Authenticator>,
) -> (Broker, InboundReceiver, TunnelsReceiver) {
    let (sender, receiver) = link::inbound();
    let tunnels = sender.open_tunnels().expect("nobody else has the sender yet");
    (serve(port, authenticator, sender), receiver, tunnels)
}

fn serve(port: Port, authenticator: Arc<dyn Authenticator>, inbound: InboundSender) -> Broker {
    let Port { listener, address } = port;
    let core = Arc::new(Core::new(authenticator, inbound));
    let tasks = vec![
        tokio::spawn(accept(core.clone(), listener)),
        tokio::spawn(expire_sessions(core.clone())),
    ];
    Broker { core, address, tasks: Mutex::new(tasks) }
}

impl Broker {
    /// The address that devices connect to, with the port that was given.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        let PublishRequest { project_id, device_id, kind, payload, qos, sender } = request;
        let size_bytes = payload.len();
        if !kind.device_may_subscribe() {
            return Err(PublishError::NotToDevice { kind });
        }
        if size_bytes > MQTT_MESSAGE_MAX_BYTES {
            return Err(PublishError::TooLong { size_bytes });
        }
        let (connection, granted) = self.core.registry.hearing(&project_id, &device_id, kind)?;
        if size_bytes > connection.payload_max_bytes(kind) {
            return Err(PublishError::TooLong { size_bytes });
        }
        connection.mailbox.post(Letter { kind, payload, qos: qos.min(granted), sender })
    }

    fn disconnect(&self, project: &ProjectId, device: &DeviceId) {
        for connection in self.core.registry.bar(project, device) {
            connection.mailbox.close(Ended::ByServer);
        }
    }

    async fn shutdown(&self) {
        let listening = self.stop();
        // Until the listener is dropped the port takes connections.
        for task in listening {
            let _ = task.await;
        }
        let _ = tokio::time::timeout(Duration::from_millis(limits::SHUTDOWN_TIMEOUT_MS), async {
            for connection in self.core.registry.all() {
                connection.mailbox.gone().await;
            }
        })
        .await;
    }
}

impl Broker {
    /// Takes no more connections and asks all there are to end.
    fn stop(&self) -> Vec<JoinHandle<()>> {
        self.core.close();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in &tasks {
            task.abort();
        }
        for connection in self.core.registry.all() {
            connection.mailbox.close(Ended::ByServer);
        }
        tasks
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    // Connections inherit it: a device without a keep-alive may vanish too.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(limits::BACKLOG_MAX_CONNECTIONS)
}

async fn accept(core: Arc<Core>, listener: TcpListener) {
    let door = Door::new(limits::SIGN_IN_MAX_CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it small packets wait for each other; nothing else depends on it.
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection::serve(core.clone(), stream, peer, door.enter()));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // Out of file descriptors, most likely: some may be given back meanwhile.
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(limits::ACCEPT_AGAIN_MS)).await;
            }
        }
    }
}

async fn expire_sessions(core: Arc<Core>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(limits::SWEEP_PERIOD_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for late in core.registry.expire(Instant::now()) {
            core.take_last_will(&late.connection, &late.last_will).await;
        }
    }
}
