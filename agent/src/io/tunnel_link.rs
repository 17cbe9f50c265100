//! The second connection to the broker, which carries tunnels alone.
//!
//! As [`super::link`](super) of the first: clean sessions, a fresh client each
//! time. Frames go at QoS 0 and are not remembered; the streams in them send
//! again what was lost with a connection. Little may wait below: what is here
//! cannot be overtaken by a key.

mod spares;

use std::{sync::Arc, time::Duration};

use quarterdeck_protocol::{
    topics::{self, Channel, DeviceTopic},
    tunnel::frame::Frame,
};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Packet, QoS,
    SubscribeFilter, SubscribeReasonCode,
};
use tokio::sync::mpsc;

use self::spares::Spares;
use super::mqtt::{self, Device};
use crate::{
    clock::{Backoff, Clock},
    enroll::Credentials,
    tunnel::{
        driver::{Incoming, Outgoing},
        mux::Mux,
    },
};

/// Requests that may wait for the connection.
const REQUESTS_MAX: usize = 4;
/// What the kernel may hold to be sent, in bytes.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
const CONNECT_TIMEOUT_S: u64 = 10;
const RETRY_FIRST_MS: u64 = 250;
const RETRY_MOST_MS: u64 = 15_000;
/// A connection that lived shorter counts as a failed attempt, in milliseconds.
const STABLE_AFTER_MS: i64 = 5_000;

/// Keeps a connection until nobody listens any more.
pub async fn run(
    credentials: Credentials,
    clock: Arc<dyn Clock>,
    mux: Arc<Mux>,
    incoming: mpsc::Sender<Incoming>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let device =
        Device { project: credentials.project_id.clone(), id: credentials.device_id.clone() };
    let mut backoff = Backoff::new(RETRY_FIRST_MS, RETRY_MOST_MS);
    while !incoming.is_closed() {
        let began = clock.now();
        let down = match mqtt::options(&credentials, &device, Channel::Tunnel) {
            Ok(options) => {
                let (client, mut event_loop) = AsyncClient::new(options, REQUESTS_MAX);
                event_loop
                    .network_options
                    .set_connection_timeout(CONNECT_TIMEOUT_S)
                    .set_tcp_nodelay(true);
                event_loop.network_options.set_tcp_send_buffer_size(SEND_BUFFER_BYTES);
                tokio::select! {
                    down = receive(&client, &mut event_loop, &device, &mux, &incoming) => down,
                    () = send(&client, &device, &mut outgoing) => {
                        // What was handed over last is still to leave.
                        let _ = client.try_disconnect();
                        receive(&client, &mut event_loop, &device, &mux, &incoming).await;
                        return;
                    }
                }
            }
            Err(error) => Down::because(&error),
        };
        let Down { reason, is_refused } = down;
        tracing::info!(reason, "the connection for tunnels is down");
        mux.on_link_down();
        if incoming.send(Incoming::Down { is_refused }).await.is_err() {
            return;
        }
        if clock.now().millis_since(began) > STABLE_AFTER_MS {
            backoff.reset();
        }
        tokio::time::sleep(Duration::from_millis(backoff.next_ms(&*clock))).await;
    }
}

/// Hands messages over one by one; returns when there will be none any more.
async fn send(client: &AsyncClient, device: &Device, outgoing: &mut mpsc::Receiver<Outgoing>) {
    let (control, up) =
        (device.topic(DeviceTopic::TunnelControl), device.topic(DeviceTopic::TunnelUp));
    // One more than may wait.
    let mut spares = Spares::new(REQUESTS_MAX + 1);
    while let Some(message) = outgoing.recv().await {
        // An error: the connection is over, which the other half notices.
        let _ = match message {
            Outgoing::Frame(frame) => {
                client.publish(&up, QoS::AtMostOnce, false, spares.encode(&frame)).await
            }
            Outgoing::Control(message) => {
                client.publish(&control, QoS::AtLeastOnce, false, message.to_json()).await
            }
        };
    }
}

/// Why there is no connection.
struct Down {
    reason: String,
    /// The broker does not let this device in.
    is_refused: bool,
}

impl Down {
    fn because(why: &(impl ToString + ?Sized)) -> Self {
        Self { reason: why.to_string(), is_refused: false }
    }

    fn of(error: &ConnectionError) -> Self {
        use ConnectReturnCode::{BadUserNamePassword, NotAuthorized};
        let is_refused = matches!(
            error,
            ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized)
        );
        Self { reason: mqtt::explain(error), is_refused }
    }
}

/// Takes messages until the connection ends; returns why it did.
async fn receive(
    client: &AsyncClient,
    event_loop: &mut EventLoop,
    device: &Device,
    mux: &Mux,
    incoming: &mpsc::Sender<Incoming>,
) -> Down {
    loop {
        let message = match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let filters = [DeviceTopic::TunnelControl, DeviceTopic::TunnelDown]
                    .map(|kind| SubscribeFilter::new(device.topic(kind), mqtt::qos(kind)));
                if let Err(error) = client.try_subscribe_many(filters) {
                    return Down::because(&error);
                }
                continue;
            }
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    return Down::because("the broker refuses the subscriptions");
                }
                mux.on_link_up();
                Incoming::Up
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let own = topics::parse(&publish.topic)
                    .filter(|(project, id, _)| *project == device.project && *id == device.id);
                match own {
                    Some((_, _, DeviceTopic::TunnelDown)) => {
                        match Frame::decode(publish.payload) {
                            Ok(frame) => mux.on_frame(frame),
                            Err(error) => tracing::warn!(%error, "ignored a tunnel frame"),
                        }
                        continue;
                    }
                    Some((_, _, DeviceTopic::TunnelControl)) => Incoming::Control(publish.payload),
                    _ => continue,
                }
            }
            Ok(_) => continue,
            Err(error) => return Down::of(&error),
        };
        // Nobody listens when the agent stops; its last words leave all the same.
        let _ = incoming.send(message).await;
    }
}
