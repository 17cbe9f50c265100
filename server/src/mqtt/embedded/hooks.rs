//! What the broker asks us: sign-ins, subscriptions, publishes, endings.
//!
//! A publish is handed to the engine in the ACL hook and awaited there, before
//! rmqtt acknowledges it: so "acknowledged" means durable, and a full channel
//! holds the device back. The hook is serial per connection. A publish that
//! may not be, or whose commit failed, ends the connection: rejected without
//! that, it would still be acknowledged on MQTT 3.1.1.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use quarterdeck_protocol::limits::MQTT_MESSAGE_MAX_BYTES;
use rmqtt::{
    acl::AuthInfo,
    codec::{types::QoS, v5::SubscribeAckReason},
    context::ServerContext,
    hook::{Handler, HookResult, Parameter, ReturnType, Type},
    inflight::MomentStatus,
    session::Session,
    types::{
        AuthResult, ConnectInfo, From, FromType, Id, LastWill, Publish, PublishAclResult, Reason,
        Subscribe, SubscribeAclResult, Unsubscribe,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info, warn};

use super::registry::{Connection, Registry, SessionKind};
use crate::mqtt::{
    acl::{Grant, carries_tunnels},
    limits::{
        AUTHENTICATIONS_MAX, CONNECTIONS_MAX, INBOUND_LARGE_MAX_BYTES, INBOUND_SMALL_MAX_BYTES,
        TAKE_OVER_POLL_MS, TAKE_OVER_TIMEOUT_MS,
    },
    link::{
        AckHandle, Authenticator, ConnectionId, Denied, Ended, Inbound, InboundSender, Message, Qos,
    },
};

/// What all hooks share.
pub(super) struct Core {
    pub(super) registry: Registry,
    pub(super) inbound: InboundSender,
    large: Arc<Semaphore>,
    authenticator: Arc<dyn Authenticator>,
    authentications: Semaphore,
    closing: AtomicBool,
    context: OnceLock<ServerContext>,
}

/// Why a publish is not taken. The device only sees its connection end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum NotTaken {
    #[error("a topic that the device may not publish to")]
    Foreign,
    #[error("longer than a message may be")]
    TooLong,
    #[error("could not be made durable")]
    NotCommitted,
    #[error("the server is stopping")]
    Stopping,
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
            context: OnceLock::new(),
        }
    }

    pub(super) async fn register(self: &Arc<Self>, context: &ServerContext) {
        let hooks = context.extends.hook_mgr().register();
        self.context.get_or_init(|| context.clone());
        for hook in [
            Type::ClientAuthenticate,
            Type::ClientConnected,
            Type::ClientDisconnected,
            Type::SessionTerminated,
            Type::ClientSubscribeCheckAcl,
            Type::SessionSubscribed,
            Type::SessionUnsubscribed,
            Type::MessagePublish,
            Type::MessagePublishCheckAcl,
            Type::MessageExpiryCheck,
            Type::MessageDelivered,
            Type::MessageDropped,
        ] {
            hooks.add(hook, Box::new(Hooks(self.clone()))).await;
        }
        hooks.start().await;
    }

    /// Takes no more: what the connections still report is of their closing, not of the devices.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    async fn authenticate(&self, info: &ConnectInfo) -> AuthResult {
        let id = info.id();
        let grant = match Grant::claimed(info.username().map(|user| &**user), info.client_id()) {
            Ok(grant) => grant,
            Err(reason) => {
                info!(peer = ?id.remote_addr, client_id = %id.client_id, %reason, "sign-in refused");
                return AuthResult::BadUsernameOrPassword;
            }
        };
        // A will is published later without asking: it must be the device's own word now.
        if let Some((topic, size_bytes)) = info.last_will().as_ref().map(will) {
            let own = grant.may_publish(topic).is_some_and(|kind| !carries_bytes(kind));
            if !own || size_bytes > MQTT_MESSAGE_MAX_BYTES {
                info!(peer = ?id.remote_addr, client_id = %id.client_id, topic, "sign-in refused: foreign last will");
                return AuthResult::NotAuthorized;
            }
        }
        if self.is_closing() || self.registry.connected_count() >= CONNECTIONS_MAX {
            warn!(client_id = %id.client_id, connections_max = CONNECTIONS_MAX, "sign-in refused: no room");
            return AuthResult::NotAuthorized;
        }
        self.registry.admit(id.clone(), grant.clone());
        match self.check_secret(info, &grant).await {
            Ok(()) => {
                self.take_over(id, &grant).await;
                AuthResult::Allow(false, None::<AuthInfo>)
            }
            Err(denied) => {
                self.registry.refuse(id);
                info!(peer = ?id.remote_addr, client_id = %id.client_id, reason = %denied, "sign-in refused");
                match denied {
                    Denied::BadCredentials => AuthResult::BadUsernameOrPassword,
                    Denied::Revoked | Denied::Unavailable => AuthResult::NotAuthorized,
                }
            }
        }
    }

    /// Ends the device's former connection and waits until nothing is left of it.
    ///
    /// rmqtt would do that itself, but refuses the new connection when the former
    /// one is ending just then, and lets its end be reported after the new one's
    /// beginning.
    async fn take_over(&self, id: &Id, grant: &Grant) {
        let (Some(context), Some(former)) = (self.context.get(), self.registry.take_over(grant))
        else {
            return;
        };
        super::close(former.tx(), Ended::TakenOver);
        let is_left = async || {
            let left = context.extends.shared().await.exist(&id.client_id);
            self.registry.connection(former.session()).is_some()
                || (left && !former.keeps_session())
        };
        let gone = async {
            while is_left().await {
                tokio::time::sleep(Duration::from_millis(TAKE_OVER_POLL_MS)).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(TAKE_OVER_TIMEOUT_MS), gone).await.is_err() {
            info!(client_id = %id.client_id, "the former connection does not end in time");
        }
    }

    async fn check_secret(&self, info: &ConnectInfo, grant: &Grant) -> Result<(), Denied> {
        let (Some(user), Some(secret)) = (info.username(), info.password()) else {
            return Err(Denied::BadCredentials);
        };
        let _slot = self.authentications.acquire().await.map_err(|_| Denied::Unavailable)?;
        let identity = self.authenticator.authenticate(user, secret, info.client_id()).await?;
        if grant.is_of(&identity) { Ok(()) } else { Err(Denied::BadCredentials) }
    }

    async fn connected(&self, session: &Session) {
        let Some(tx) = session.scx.extends.shared().await.entry(session.id.clone()).tx() else {
            warn!(client_id = %session.id.client_id, "a session without a sender");
            return;
        };
        let kind = SessionKind {
            present: session.session_present().await.unwrap_or_default(),
            kept: keeps_session(session).await,
        };
        let Some(connection) = self.registry.connected(&session.id, tx.clone(), kind) else {
            info!(client_id = %session.id.client_id, "revoked while it signed in");
            super::close(&tx, Ended::ByServer);
            return;
        };
        debug!(client_id = %session.id.client_id, connection = connection.id.0, "connected");
        let grant = &connection.grant;
        self.tell(Inbound::Connected {
            project_id: grant.project_id.clone(),
            device_id: grant.device_id.clone(),
            channel: grant.channel,
            connection: connection.id,
        })
        .await;
        for kind in connection.heard.kinds() {
            self.tell(subscribed(&connection, kind)).await;
        }
    }

    pub(super) async fn ended(&self, session: &Id, ended: Ended) {
        let Some(connection) = self.registry.ended(session) else { return };
        debug!(client_id = %session.client_id, connection = connection.id.0, ?ended, "disconnected");
        let grant = &connection.grant;
        self.tell(Inbound::Disconnected {
            project_id: grant.project_id.clone(),
            device_id: grant.device_id.clone(),
            channel: grant.channel,
            connection: connection.id,
            ended,
        })
        .await;
    }

    /// Closes the connection of a device that sent DISCONNECT.
    pub(super) fn said_goodbye(&self, session: &Id) {
        if let Some(connection) = self.registry.connection(session) {
            super::close(connection.tx(), Ended::ByDevice);
        }
    }

    fn check_subscribe(&self, session: &Session, subscribe: &Subscribe) -> SubscribeAclResult {
        let may = self.registry.connection(&session.id).and_then(|connection| {
            let shared = subscribe.opts.has_shared_group();
            connection.grant.may_subscribe(&subscribe.topic_filter).filter(|_| !shared)
        });
        if may.is_some() {
            return SubscribeAclResult::new_success(subscribe.opts.qos(), None);
        }
        info!(client_id = %session.id.client_id, filter = %subscribe.topic_filter, "subscription refused");
        SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
    }

    async fn subscribed(&self, session: &Session, subscribe: &Subscribe) {
        let Some(connection) = self.registry.connection(&session.id) else { return };
        let Some(kind) = connection.grant.may_subscribe(&subscribe.topic_filter) else { return };
        connection.heard.set(kind, Some(qos(subscribe.opts.qos())));
        self.tell(subscribed(&connection, kind)).await;
    }

    fn unsubscribed(&self, session: &Session, unsubscribe: &Unsubscribe) {
        let Some(connection) = self.registry.connection(&session.id) else { return };
        if let Some(kind) = connection.grant.may_subscribe(&unsubscribe.topic_filter) {
            connection.heard.set(kind, None);
        }
    }

    /// Hands a device's publish to the engine and waits for its commit.
    async fn take(&self, session: &Session, publish: &Publish) -> Result<(), NotTaken> {
        let connection = self.registry.connection(&session.id).ok_or(NotTaken::Foreign)?;
        let kind = connection.grant.may_publish(&publish.topic).ok_or(NotTaken::Foreign)?;
        if publish.payload.len() > MQTT_MESSAGE_MAX_BYTES {
            return Err(NotTaken::TooLong);
        }
        if self.is_closing() {
            return Err(NotTaken::Stopping);
        }
        // Frames are bounded by their channel: behind a full budget a key would wait for commits.
        let budget =
            if carries_tunnels(kind) { None } else { self.budget(&publish.payload).await? };
        let (ack, waiter) = match publish.qos {
            QoS::AtMostOnce => (AckHandle::unawaited(), None),
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let (ack, waiter) = AckHandle::pair();
                (ack, Some(waiter))
            }
        };
        let message = message(&connection, kind, publish, false, ack.with_budget(budget));
        self.inbound.send(message).await.map_err(|_| NotTaken::Stopping)?;
        let committed = match waiter {
            None => true,
            Some(waiter) => waiter.committed().await,
        };
        if committed { Ok(()) } else { Err(NotTaken::NotCommitted) }
    }

    /// Hands a last will to the engine: nobody sends it again, so it is said once and logged when lost.
    async fn take_last_will(&self, session: &Session, publish: &Publish) {
        let Some(connection) = self.registry.connection(&session.id) else { return };
        let Some(kind) = connection.grant.may_publish(&publish.topic) else { return };
        // Another connection speaks for the device by now, and "offline" would be a lie.
        if self.is_closing() || connection.is_taken_over() {
            return;
        }
        let Ok(budget) = self.budget(&publish.payload).await else { return };
        let (ack, waiter) = AckHandle::pair();
        let message = message(&connection, kind, publish, true, ack.with_budget(budget));
        if self.inbound.send(message).await.is_err() || !waiter.committed().await {
            warn!(client_id = %session.id.client_id, topic = %publish.topic, "last will lost");
        }
    }

    async fn budget(&self, payload: &Bytes) -> Result<Option<OwnedSemaphorePermit>, NotTaken> {
        if payload.len() <= INBOUND_SMALL_MAX_BYTES {
            return Ok(None);
        }
        let size_bytes = u32::try_from(payload.len()).map_err(|_| NotTaken::TooLong)?;
        let permit = self.large.clone().acquire_many_owned(size_bytes).await;
        permit.map(Some).map_err(|_| NotTaken::Stopping)
    }

    fn release(&self, session: &Id, publish: &Publish) {
        if let Some(connection) = self.registry.connection(session)
            && is_meant_for(publish, connection.id)
        {
            connection.release(publish.payload.len());
        }
    }

    /// Whether a message was given to an earlier connection of the kept session.
    ///
    /// It is dropped: since then its command may have been cancelled, and the
    /// store gives again what still holds.
    fn is_stale(&self, session: &Id, publish: &Publish) -> bool {
        self.registry
            .connection(session)
            .is_none_or(|connection| !is_meant_for(publish, connection.id))
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

struct Hooks(Arc<Core>);

#[async_trait]
impl Handler for Hooks {
    async fn hook(&self, parameter: &Parameter, former: Option<HookResult>) -> ReturnType {
        let core = &self.0;
        match parameter {
            Parameter::MessagePublishCheckAcl(session, publish) => {
                let result = match core.take(session, publish).await {
                    Ok(()) => PublishAclResult::allow(),
                    Err(reason) => {
                        info!(client_id = %session.id.client_id, topic = %publish.topic, %reason, "publish refused");
                        PublishAclResult::rejected(true, None)
                    }
                };
                return (false, Some(HookResult::PublishAclResult(result)));
            }
            Parameter::MessagePublish(Some(session), from, publish)
                if matches!(from.typ(), FromType::LastWill) =>
            {
                core.take_last_will(session, publish).await;
            }
            Parameter::MessageExpiryCheck(session, _, publish)
                if core.is_stale(&session.id, publish) =>
            {
                return (false, Some(HookResult::MessageExpiry));
            }
            Parameter::MessageDelivered(session, _, publish) => core.release(&session.id, publish),
            Parameter::MessageDropped(Some(to), _, publish, _) => core.release(to, publish),
            Parameter::ClientAuthenticate(info) => {
                return (false, Some(HookResult::AuthResult(core.authenticate(info).await)));
            }
            Parameter::ClientConnected(session) => core.connected(session).await,
            Parameter::ClientDisconnected(session, reason) => {
                if is_amid_qos_2(session).await {
                    core.registry.forget_session(&session.id);
                }
                core.ended(&session.id, ended(reason)).await;
            }
            Parameter::SessionTerminated(session, _) => {
                if let Ok(grant) =
                    Grant::claimed(session.id.username.as_deref(), &session.id.client_id)
                {
                    core.registry.expired(&session.id, &grant);
                }
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                let result = core.check_subscribe(session, subscribe);
                return (false, Some(HookResult::SubscribeAclResult(result)));
            }
            Parameter::SessionSubscribed(session, subscribe) => {
                core.subscribed(session, subscribe).await;
            }
            Parameter::SessionUnsubscribed(session, unsubscribe) => {
                core.unsubscribed(session, unsubscribe);
            }
            _ => {}
        }
        (true, former)
    }
}

fn message(
    connection: &Connection,
    kind: quarterdeck_protocol::topics::DeviceTopic,
    publish: &Publish,
    last_will: bool,
    ack: AckHandle,
) -> Inbound {
    Inbound::Message(Message {
        project_id: connection.grant.project_id.clone(),
        device_id: connection.grant.device_id.clone(),
        kind,
        payload: publish.payload.clone(),
        retained: publish.retain,
        last_will,
        connection: Some(connection.id),
        ack,
    })
}

fn subscribed(connection: &Connection, kind: quarterdeck_protocol::topics::DeviceTopic) -> Inbound {
    Inbound::Subscribed {
        project_id: connection.grant.project_id.clone(),
        device_id: connection.grant.device_id.clone(),
        channel: connection.grant.channel,
        connection: connection.id,
        kind,
    }
}

async fn keeps_session(session: &Session) -> bool {
    session.connect_info().await.is_ok_and(|info| match &*info {
        ConnectInfo::V3(_, connect) => !connect.clean_session,
        ConnectInfo::V5(..) => !session.fitter.session_expiry_interval(None).is_zero(),
    })
}

/// Whether the device took a QoS 2 message of ours and the handshake stands open.
///
/// Its session is not kept: a device that returned to it would be sent PUBREL
/// again, which some clients (rumqttc) take for an error each time, for ever;
/// and without it, its packet id would stay taken.
async fn is_amid_qos_2(session: &Session) -> bool {
    let mut inflight = session.out_inflight().write().await;
    inflight
        .clone_inflight_messages()
        .iter()
        .any(|message| message.status == MomentStatus::UnComplete)
}

/// Marks a message with the connection it is given to. rmqtt's field for the
/// time of creation carries it: with expiry switched off, nothing else reads it.
pub(super) const fn meant_for(connection: ConnectionId) -> i64 {
    connection.0.cast_signed()
}

fn is_meant_for(publish: &Publish, connection: ConnectionId) -> bool {
    publish.create_time == Some(meant_for(connection))
}

fn will<'a>(will: &LastWill<'a>) -> (&'a str, usize) {
    match *will {
        LastWill::V3(will) => (&will.topic, will.message.len()),
        LastWill::V5(will) => (&will.topic, will.message.len()),
    }
}

// A frame said by the broker would stand for a stream that nobody reads.
const fn carries_bytes(kind: quarterdeck_protocol::topics::DeviceTopic) -> bool {
    matches!(kind, quarterdeck_protocol::topics::DeviceTopic::TunnelUp)
}

fn qos(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

fn ended(reason: &Reason) -> Ended {
    match reason {
        Reason::Reasons(reasons) => reasons.first().map_or(Ended::Lost, ended),
        Reason::ConnectDisconnect(_) => Ended::ByDevice,
        Reason::ConnectKeepaliveTimeout => Ended::Silent,
        Reason::ConnectKicked(false) => Ended::TakenOver,
        Reason::ConnectKicked(true) | Reason::PublishResult(_) => Ended::ByServer,
        _ => Ended::Lost,
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("connections", &self.registry.connected_count())
            .finish_non_exhaustive()
    }
}

/// What rmqtt calls the sender of a message; ours to devices all come from here.
pub(super) fn from_server(id: &Id) -> From {
    From::from_system(id.clone())
}
