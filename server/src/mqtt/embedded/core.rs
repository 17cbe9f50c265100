//! What the broker decides: who may sign in, and what becomes of what a device says.
//!
//! A publish is handed to the engine, and acknowledged after its commit, behind
//! the [gate](super::gate). A publish that may not be, or whose commit failed,
//! ends the connection: MQTT 3.1.1 has no other way to refuse one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::{limits::MQTT_MESSAGE_MAX_BYTES, topics::DeviceTopic};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::{debug, info, warn};

use super::{
    registry::{Begun, Connection, Registry, Terms},
    wire::{Answer, Hello, LastWill, Parting},
};
use crate::mqtt::{
    acl::{Grant, carries_tunnels},
    limits::{
        AUTHENTICATIONS_MAX, CONNECTIONS_MAX, INBOUND_LARGE_MAX_BYTES, INBOUND_SMALL_MAX_BYTES,
        LOGGED_MAX_BYTES, SIGN_INS_MAX, TAKE_OVER_TIMEOUT_MS,
    },
    link::{
        AckHandle, AckWaiter, Authenticator, Denied, Ended, Inbound, InboundSender, Message, Qos,
    },
};

/// What all connections share.
pub(super) struct Core {
    pub(super) registry: Registry,
    pub(super) inbound: InboundSender,
    large: Arc<Semaphore>,
    authenticator: Arc<dyn Authenticator>,
    authentications: Semaphore,
    closing: AtomicBool,
}

/// Why a publish is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("a topic that the device may not publish to")]
    Foreign,
    #[error("longer than a message may be")]
    TooLong,
    #[error("the server is stopping")]
    Stopping,
}

impl NotTaken {
    pub(super) fn parting(self) -> Parting {
        match self {
            Self::Foreign => Parting::NotAuthorized,
            Self::TooLong => Parting::TooLong,
            Self::Stopping => Parting::Stopping,
        }
    }
}

/// A device that signed in.
#[derive(Debug)]
pub(super) struct Welcome {
    pub(super) connection: Arc<Connection>,
    pub(super) session_present: bool,
}

impl Core {
    pub(super) fn new(authenticator: Arc<dyn Authenticator>, inbound: InboundSender) -> Self {
        Self {
            registry: Registry::default(),
            inbound,
            large: Arc::new(Semaphore::new(INBOUND_LARGE_MAX_BYTES)),
            authenticator,
            authentications: Semaphore::new(AUTHENTICATIONS_MAX),
            closing: AtomicBool::new(false),
        }
    }

    /// Takes no more: what the connections still report is of their closing, not of the devices.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Checks who wants to connect, and makes room for the connection.
    pub(super) async fn sign_in(&self, hello: &Hello, peer: SocketAddr) -> Result<Welcome, Answer> {
        let client_id = &*hello.client_id;
        if hello.asks_for_auth {
            info!(%peer, client_id = excerpt(client_id), "sign-in refused: it asks for another way to prove itself");
            return Err(Answer::NoSuchAuth);
        }
        let grant = Grant::claimed(hello.user.as_deref(), client_id).map_err(|reason| {
            info!(%peer, client_id = excerpt(client_id), %reason, "sign-in refused");
            Answer::BadCredentials
        })?;
        // A will is published later without asking: it must be the device's own word now.
        if let Some(LastWill { topic, payload, .. }) = &hello.last_will {
            let own = grant.may_publish(topic).is_some_and(|kind| !carries_bytes(kind));
            if !own || payload.len() > MQTT_MESSAGE_MAX_BYTES {
                info!(%peer, client_id, topic = excerpt(topic), "sign-in refused: foreign last will");
                return Err(Answer::NotAuthorized);
            }
        }
        if self.is_closing() {
            return Err(Answer::Unavailable);
        }
        if self.registry.connected_count() >= CONNECTIONS_MAX
            || self.registry.signing_in_count() >= SIGN_INS_MAX
        {
            warn!(client_id, CONNECTIONS_MAX, SIGN_INS_MAX, "sign-in refused: no room");
            return Err(Answer::Unavailable);
        }
        let admission = self.registry.admit(grant.clone());
        if let Err(denied) = self.check_secret(hello, &grant).await {
            info!(%peer, client_id, reason = %denied, "sign-in refused");
            return Err(match denied {
                Denied::BadCredentials => Answer::BadCredentials,
                Denied::Revoked => Answer::NotAuthorized,
                Denied::Unavailable => Answer::Unavailable,
            });
        }
        let deadline = Instant::now() + Duration::from_millis(TAKE_OVER_TIMEOUT_MS);
        loop {
            let is_overdue = !self.take_over(&grant, deadline).await;
            if is_overdue {
                info!(client_id, "the former connection does not end in time");
            }
            let terms = Terms {
                clean_start: hello.clean_start,
                packet_max_bytes: hello.packet_max_bytes,
                is_overdue,
            };
            match self.registry.connected(&admission, terms, Instant::now()) {
                Begun::Connected { connection, session_present } => {
                    // Whoever closes all either finds it or has said so before.
                    if self.is_closing() {
                        connection.mailbox.close(Ended::ByServer);
                    }
                    return Ok(Welcome { connection, session_present });
                }
                // Another one was quicker; the latest counts.
                Begun::Occupied => {}
                Begun::Barred => {
                    info!(client_id, "revoked while it signed in");
                    return Err(Answer::NotAuthorized);
                }
            }
        }
    }

    /// Ends the device's former connection; whether nothing is left of it by `deadline`.
    async fn take_over(&self, grant: &Grant, deadline: Instant) -> bool {
        let Some(former) = self.registry.take_over(grant) else { return true };
        former.mailbox.close(Ended::TakenOver);
        tokio::time::timeout_at(deadline, former.mailbox.gone()).await.is_ok()
    }

    async fn check_secret(&self, hello: &Hello, grant: &Grant) -> Result<(), Denied> {
        let (Some(user), Some(secret)) = (&hello.user, &hello.secret) else {
            return Err(Denied::BadCredentials);
        };
        let _slot = self.authentications.acquire().await.map_err(|_| Denied::Unavailable)?;
        let identity = self.authenticator.authenticate(user, secret, &hello.client_id).await?;
        if grant.is_of(&identity) { Ok(()) } else { Err(Denied::BadCredentials) }
    }

    /// Tells of a connection, and of what it hears from a kept session.
    pub(super) async fn connected(&self, connection: &Connection) {
        let grant = &connection.grant;
        debug!(device = %grant.device_id, connection = connection.id.0, "connected");
        self.tell(Inbound::Connected {
            project_id: grant.project_id.clone(),
            device_id: grant.device_id.clone(),
            channel: grant.channel,
            connection: connection.id,
        })
        .await;
        for kind in connection.heard.kinds() {
            self.subscribed(connection, kind).await;
        }
    }

    pub(super) async fn subscribed(&self, connection: &Connection, kind: DeviceTopic) {
        self.tell(Inbound::Subscribed {
            project_id: connection.grant.project_id.clone(),
            device_id: connection.grant.device_id.clone(),
            channel: connection.grant.channel,
            connection: connection.id,
            kind,
        })
        .await;
    }

    /// Tells of a connection's end; its session is kept for as long as `kept`.
    pub(super) async fn ended(
        &self,
        connection: &Arc<Connection>,
        ended: Ended,
        kept: Duration,
        late: Option<(Duration, Box<LastWill>)>,
    ) {
        let grant = &connection.grant;
        debug!(device = %grant.device_id, connection = connection.id.0, ?ended, "disconnected");
        if let Some(will) = self.registry.ended(connection, kept, late, Instant::now()) {
            self.take_last_will(connection, &will).await;
        }
        self.tell(Inbound::Disconnected {
            project_id: grant.project_id.clone(),
            device_id: grant.device_id.clone(),
            channel: grant.channel,
            connection: connection.id,
            ended,
        })
        .await;
    }

    /// Hands what a device says to the engine; what comes back tells of its commit.
    pub(super) async fn take(
        &self,
        connection: &Connection,
        topic: &str,
        payload: Bytes,
        retained: bool,
        qos: Qos,
    ) -> Result<Option<AckWaiter>, NotTaken> {
        let kind = connection.grant.may_publish(topic).ok_or(NotTaken::Foreign)?;
        if payload.len() > MQTT_MESSAGE_MAX_BYTES {
            return Err(NotTaken::TooLong);
        }
        if self.is_closing() {
            return Err(NotTaken::Stopping);
        }
        // Frames are bounded by their channel: behind a full budget a key would wait for commits.
        let budget = if carries_tunnels(kind) { None } else { self.budget(&payload).await? };
        let (ack, waiter) = match qos {
            Qos::AtMostOnce => (AckHandle::unawaited(), None),
            Qos::AtLeastOnce | Qos::ExactlyOnce => {
                let (ack, waiter) = AckHandle::pair();
                (ack, Some(waiter))
            }
        };
        // Small or budgeted, a payload is not to keep the larger buffer it was read into.
        let payload =
            if carries_tunnels(kind) { payload } else { Bytes::copy_from_slice(&payload) };
        let message = message(connection, kind, payload, retained, false, ack.with_budget(budget));
        self.inbound.send(message).await.map_err(|_| NotTaken::Stopping)?;
        Ok(waiter)
    }

    /// Says a last will.
    ///
    /// Nobody says it again, so it is said once and logged when lost.
    pub(super) async fn take_last_will(&self, connection: &Connection, will: &LastWill) {
        let Some(kind) = connection.grant.may_publish(&will.topic) else { return };
        // Another connection speaks for the device by now, and "offline" would be a lie.
        if self.is_closing() || connection.is_taken_over() {
            return;
        }
        let (ack, waiter) = AckHandle::pair();
        let message = message(connection, kind, will.payload.clone(), will.retained, true, ack);
        let said = self.inbound.send(message).await.is_ok();
        let (device, topic) = (connection.grant.device_id.clone(), will.topic.clone());
        // The end of the connection is not to wait for the commit.
        tokio::spawn(async move {
            if !said || !waiter.committed().await {
                warn!(%device, %topic, "last will lost");
            }
        });
    }

    async fn budget(&self, payload: &Bytes) -> Result<Option<OwnedSemaphorePermit>, NotTaken> {
        if payload.len() <= INBOUND_SMALL_MAX_BYTES {
            return Ok(None);
        }
        let size_bytes = u32::try_from(payload.len()).map_err(|_| NotTaken::TooLong)?;
        let permit = self.large.clone().acquire_many_owned(size_bytes).await;
        permit.map(Some).map_err(|_| NotTaken::Stopping)
    }

    async fn tell(&self, event: Inbound) {
        if self.is_closing() {
            return;
        }
        if self.inbound.send(event).await.is_err() {
            debug!("nobody listens to the broker any more");
        }
    }
}

/// As much of what a stranger says as belongs in a log.
pub(super) fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(LOGGED_MAX_BYTES)]
}

fn message(
    connection: &Connection,
    kind: DeviceTopic,
    payload: Bytes,
    retained: bool,
    last_will: bool,
    ack: AckHandle,
) -> Inbound {
    Inbound::Message(Message {
        project_id: connection.grant.project_id.clone(),
        device_id: connection.grant.device_id.clone(),
        kind,
        payload,
        retained,
        last_will,
        connection: Some(connection.id),
        ack,
    })
}

// A frame said by the broker would stand for a stream that nobody reads.
const fn carries_bytes(kind: DeviceTopic) -> bool {
    matches!(kind, DeviceTopic::TunnelUp)
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("connections", &self.registry.connected_count())
            .finish_non_exhaustive()
    }
}
