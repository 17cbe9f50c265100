//! The seam between the engine and whatever carries MQTT.
//!
//! Outwards: [`Link::publish`] hands one message to one device now, or says
//! why it cannot. It never waits and never queues for an absent device: such a
//! message stays in the store, and is tried again when [`Inbound::Subscribed`]
//! says that the device listens. `Ok` means handed to the connection, not
//! received: a connection may break a moment later, so a command counts as
//! delivered when the device itself answers `accepted`.
//!
//! Inwards: one bounded channel of [`Inbound`], and one beside it for what is of
//! tunnels, so that a key waits for no commit. Each message that the device
//! wants acknowledged carries an [`AckHandle`]; the device gets its
//! acknowledgement after [`AckHandle::committed`] and loses its connection
//! after [`AckHandle::failed`], so that it sends the message again.
//!
//! ```text
//!   Connected --> Subscribed* --> Message* --> Disconnected       one ConnectionId
//! ```
//!
//! A device that connects while its former connection is still open takes it
//! over, and what the former one still reports comes late. Each event carries
//! the [`ConnectionId`], which rises: what comes from a lower id than the
//! device's latest `Connected` says nothing about its presence.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    topics::{Channel, DeviceTopic},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{acl::carries_tunnels, limits};

/// One connection of a device, in the order in which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The quality of service of one publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

impl Qos {
    /// The one that chapter 2 gives to a topic.
    pub const fn of(kind: DeviceTopic) -> Self {
        match kind.qos() {
            0 => Self::AtMostOnce,
            1 => Self::AtLeastOnce,
            _ => Self::ExactlyOnce,
        }
    }
}

/// The sender of all that is no tunnel's.
pub const SERVER: u32 = 0;

/// One message for one device.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    pub project_id: ProjectId,
    pub device_id: DeviceId,
    pub kind: DeviceTopic,
    /// At most [`quarterdeck_protocol::limits::MQTT_MESSAGE_MAX_BYTES`].
    pub payload: Bytes,
    /// Lowered to what the device asked for when it subscribed.
    pub qos: Qos,
    /// Of what is said at most once: whose it is. None has more than its part of what may wait for
    /// a device, so that a flood of one does not keep the others out.
    pub sender: u32,
}

/// Says why a message was not handed to a device; the message is as if never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("the device has no connection")]
    NotConnected,
    /// [`Inbound::Subscribed`] says when to try again.
    #[error("the device has not subscribed to {}", kind.suffix())]
    NotSubscribed { kind: DeviceTopic },
    #[error("the device does not take what already waits for it")]
    QueueFull,
    #[error("{} is no topic to a device", kind.suffix())]
    NotToDevice { kind: DeviceTopic },
    #[error("{size_bytes} bytes are more than an MQTT message may have")]
    TooLong { size_bytes: usize },
    /// Only with an external broker: the connection to it is down.
    #[error("the broker cannot be reached")]
    BrokerUnreachable,
}

/// What the engine asks of the broker.
#[async_trait::async_trait]
pub trait Link: Send + Sync + std::fmt::Debug {
    /// Hands one message to one device; see the module for what `Ok` means.
    fn publish(&self, request: PublishRequest) -> Result<(), PublishError>;

    /// Ends all connections of a device: it was retired or its credential revoked.
    ///
    /// That it cannot come back is the [`Authenticator`]'s business: it must
    /// refuse before this is called. A sign-in under way is ended as well.
    fn disconnect(&self, project: &ProjectId, device: &DeviceId);

    /// Closes the listeners and all connections.
    async fn shutdown(&self);
}

/// Who stands behind a user and a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceIdentity {
    pub project_id: ProjectId,
    pub device_id: DeviceId,
}

/// Says why a device may not connect. The device is not told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("unknown user or wrong secret")]
    BadCredentials,
    #[error("the device is retired or its credential revoked")]
    Revoked,
    #[error("credentials cannot be checked now")]
    Unavailable,
}

/// Checks a device's secret.
#[async_trait::async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Tells who `user` with `secret` is.
    ///
    /// At most [`super::limits::AUTHENTICATIONS_MAX`] run at once. It may take
    /// long, but must not block: a slow hash belongs on a blocking thread.
    /// That user, client id and topics agree is checked by the caller.
    async fn authenticate(
        &self,
        user: &str,
        secret: &[u8],
        client_id: &str,
    ) -> Result<DeviceIdentity, Denied>;
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The device said goodbye.
    ByDevice,
    /// The transport broke or the device broke the protocol.
    Lost,
    /// Nothing came for one and a half keep-alives.
    Silent,
    /// The device connected anew.
    TakenOver,
    /// [`Link::disconnect`], or the device did what it may not.
    ByServer,
}

/// What comes from the devices.
#[derive(Debug)]
pub enum Inbound {
    Connected {
        project_id: ProjectId,
        device_id: DeviceId,
        channel: Channel,
        connection: ConnectionId,
    },
    /// The device hears `kind` from now on: what waits for it may be published.
    Subscribed {
        project_id: ProjectId,
        device_id: DeviceId,
        channel: Channel,
        connection: ConnectionId,
        kind: DeviceTopic,
    },
    Disconnected {
        project_id: ProjectId,
        device_id: DeviceId,
        channel: Channel,
        connection: ConnectionId,
        ended: Ended,
    },
    Message(Message),
    /// Only with an external broker: the connection to it stands again. What was
    /// published and not answered may be lost and should be published again.
    LinkUp,
    /// Only with an external broker: who is connected cannot be known.
    LinkDown,
    /// Only with an external broker: whether what devices say is heard. It is said first of all
    /// that it is not; the other connections, which publish, matter for [`Self::LinkUp`] alone.
    Hears(bool),
}

/// One message of one device, on a topic that it may publish to.
#[derive(Debug)]
pub struct Message {
    pub project_id: ProjectId,
    pub device_id: DeviceId,
    pub kind: DeviceTopic,
    pub payload: Bytes,
    pub retained: bool,
    /// The broker says it in the device's name, for the connection broke.
    pub last_will: bool,
    /// `None` with an external broker, which does not tell.
    pub connection: Option<ConnectionId>,
    pub ack: AckHandle,
}

/// The engine's end of the channel; `recv_many` takes what has gathered.
pub type InboundReceiver = mpsc::Receiver<Inbound>;

/// A broker's end of both channels. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct InboundSender(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    engine: mpsc::Sender<Inbound>,
    tunnels: OnceLock<TunnelsEnd>,
}

#[derive(Debug)]
struct TunnelsEnd {
    events: mpsc::Sender<Inbound>,
    frames: Arc<OnceLock<Box<dyn Frames>>>,
}

/// Takes the frames of tunnels on the task of the connection on which they came: the echo of a
/// key is not to wait for another task. It may neither wait nor block.
pub trait Frames: fmt::Debug + Send + Sync {
    fn on_frame(&self, project: &ProjectId, device: &DeviceId, frame: Bytes);
}

/// The tunnels' end of a broker: what happens, and, from the moment when they are asked to be
/// passed on, frames past it.
#[derive(Debug)]
pub struct TunnelsReceiver {
    events: mpsc::Receiver<Inbound>,
    frames: Arc<OnceLock<Box<dyn Frames>>>,
}

impl TunnelsReceiver {
    pub async fn recv(&mut self) -> Option<Inbound> {
        self.events.recv().await
    }

    /// Passes frames on to `frames` from now on; those that came before are events.
    pub fn pass_frames_to(&self, frames: impl Frames + 'static) {
        // The first stays; there is one tunnels' end.
        let _ = self.frames.set(Box::new(frames));
    }
}

/// Nobody listens to the broker any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unheard;

/// Makes the channel to the engine.
pub(super) fn inbound() -> (InboundSender, InboundReceiver) {
    let (engine, receiver) = mpsc::channel(limits::INBOUND_MAX_EVENTS);
    (InboundSender(Arc::new(Ends { engine, tunnels: OnceLock::new() })), receiver)
}

impl InboundSender {
    /// Gives, from now on, what is of tunnels to the receiver; `None` when another one has it.
    pub(super) fn open_tunnels(&self) -> Option<TunnelsReceiver> {
        let (sender, events) = mpsc::channel(limits::TUNNELS_INBOUND_MAX_EVENTS);
        let frames = Arc::new(OnceLock::new());
        let end = TunnelsEnd { events: sender, frames: Arc::clone(&frames) };
        self.0.tunnels.set(end).ok().map(|()| TunnelsReceiver { events, frames })
    }

    /// Hands an event on to whom it concerns.
    pub(super) async fn send(&self, event: Inbound) -> Result<(), Unheard> {
        let Some(tunnels) = self.0.tunnels.get() else {
            return self.0.engine.send(event).await.map_err(|_| Unheard);
        };
        let TunnelsEnd { events: tunnels, frames } = tunnels;
        match event {
            Inbound::Message(Message { project_id, device_id, kind, payload, ack, .. })
                if kind == DeviceTopic::TunnelUp && frames.get().is_some() =>
            {
                ack.committed();
                if let Some(frames) = frames.get() {
                    frames.on_frame(&project_id, &device_id, payload);
                }
                return Ok(());
            }
            Inbound::Message(ref message) if carries_tunnels(message.kind) => {
                return tunnels.send(event).await.map_err(|_| Unheard);
            }
            ref other => {
                if let Some(copy) = other.copied() {
                    // The engine goes on without tunnels.
                    let _ = tunnels.send(copy).await;
                }
            }
        }
        self.0.engine.send(event).await.map_err(|_| Unheard)
    }
}

impl Inbound {
    /// The same again; `None` for a message.
    fn copied(&self) -> Option<Self> {
        Some(match self {
            Self::Connected { project_id, device_id, channel, connection } => Self::Connected {
                project_id: project_id.clone(),
                device_id: device_id.clone(),
                channel: *channel,
                connection: *connection,
            },
            Self::Subscribed { project_id, device_id, channel, connection, kind } => {
                Self::Subscribed {
                    project_id: project_id.clone(),
                    device_id: device_id.clone(),
                    channel: *channel,
                    connection: *connection,
                    kind: *kind,
                }
            }
            Self::Disconnected { project_id, device_id, channel, connection, ended } => {
                Self::Disconnected {
                    project_id: project_id.clone(),
                    device_id: device_id.clone(),
                    channel: *channel,
                    connection: *connection,
                    ended: *ended,
                }
            }
            Self::LinkUp => Self::LinkUp,
            Self::LinkDown => Self::LinkDown,
            Self::Hears(hears) => Self::Hears(*hears),
            Self::Message(_) => return None,
        })
    }
}

/// Tells the broker whether a message is durable. Dropped, it counts as failed.
#[derive(Debug, Default)]
#[must_use = "a dropped handle counts as a failed commit"]
pub struct AckHandle {
    // `None` where the device expects no acknowledgement (QoS 0).
    sender: Option<oneshot::Sender<bool>>,
    // Held until the message is dealt with.
    budget: Option<OwnedSemaphorePermit>,
}

impl AckHandle {
    /// Makes a handle and its waiting end: for brokers, and whoever stands for one.
    pub fn pair() -> (Self, AckWaiter) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender: Some(sender), budget: None }, AckWaiter(receiver))
    }

    /// Makes a handle that nobody waits for.
    pub fn unawaited() -> Self {
        Self::default()
    }

    pub(super) fn with_budget(mut self, budget: Option<OwnedSemaphorePermit>) -> Self {
        self.budget = budget;
        self
    }

    /// Says that the message is durable: the device may forget it.
    pub fn committed(self) {
        self.resolve(true);
    }

    /// Says that the message is lost here: the device must send it again.
    pub fn failed(self) {
        self.resolve(false);
    }

    /// Either of both.
    pub fn resolve(mut self, committed: bool) {
        drop(self.budget.take());
        if let Some(sender) = self.sender.take() {
            // Nobody waits any more when the connection broke meanwhile: the device sends again.
            let _ = sender.send(committed);
        }
    }
}

/// The broker's end of an [`AckHandle`].
#[derive(Debug)]
pub struct AckWaiter(oneshot::Receiver<bool>);

impl AckWaiter {
    /// Waits for the commit; a dropped handle is a failure.
    pub async fn committed(self) -> bool {
        self.0.await.unwrap_or(false)
    }

    /// As [`Self::committed`]; not to be asked again once it has answered.
    pub(super) fn poll_committed(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.0).poll(context).map(|committed| committed.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_handle_is_a_failed_commit() {
        let (handle, waiter) = AckHandle::pair();
        drop(handle);
        assert!(!waiter.committed().await);

        let (handle, waiter) = AckHandle::pair();
        handle.failed();
        assert!(!waiter.committed().await);

        let (handle, waiter) = AckHandle::pair();
        handle.committed();
        assert!(waiter.committed().await);
    }

    #[test]
    fn a_topic_has_the_quality_of_chapter_2() {
        assert_eq!(Qos::of(DeviceTopic::Commands), Qos::ExactlyOnce);
        assert_eq!(Qos::of(DeviceTopic::Status), Qos::AtLeastOnce);
        assert_eq!(Qos::of(DeviceTopic::TunnelDown), Qos::AtMostOnce);
    }
}
