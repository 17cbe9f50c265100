//! Ends a connection whose device said goodbye.
//!
//! rmqtt notes a DISCONNECT and then waits for the device to close, for as long
//! as its keep-alive allows; MQTT asks the server to close. This session is
//! rmqtt's own but for that one step.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use rmqtt::{
    Result,
    context::ServerContext,
    session::{DefaultSession, SessionLike, SessionManager},
    types::{
        ConnectInfo, ConnectInfoType, Disconnect, DisconnectInfo, FitterType, Id, IsPing,
        ListenerConfig, MessageQueueType, OutInflightType, Password, Reason, SessionSubs,
        SubscriptionOptions, Subscriptions, TimestampMillis, TopicFilter, UserName,
    },
};

use super::hooks::Core;

/// Makes sessions that end with the device's goodbye.
pub(super) struct DeviceSessions(pub(super) Weak<Core>);

#[async_trait]
impl SessionManager for DeviceSessions {
    async fn create(
        &self,
        id: Id,
        context: ServerContext,
        config: ListenerConfig,
        _fitter: FitterType,
        subscriptions: SessionSubs,
        queue: MessageQueueType,
        inflight: OutInflightType,
        info: ConnectInfoType,
        created_at: TimestampMillis,
        connected_at: TimestampMillis,
        session_present: bool,
        superuser: bool,
        connected: bool,
        ended: Option<DisconnectInfo>,
        _last_id: Option<Id>,
    ) -> Result<Arc<dyn SessionLike>> {
        let session = DefaultSession::new(
            id,
            context,
            config,
            subscriptions,
            queue,
            inflight,
            info,
            created_at,
            connected_at,
            session_present,
            superuser,
            connected,
            ended,
        );
        Ok(Arc::new(DeviceSession { session, core: self.0.clone() }))
    }
}

struct DeviceSession {
    session: DefaultSession,
    core: Weak<Core>,
}

#[async_trait]
impl SessionLike for DeviceSession {
    async fn disconnected_set(
        &self,
        goodbye: Option<Disconnect>,
        reason: Option<Reason>,
    ) -> Result<()> {
        let said_goodbye = goodbye.is_some();
        self.session.disconnected_set(goodbye, reason).await?;
        if said_goodbye && let Some(core) = self.core.upgrade() {
            core.said_goodbye(self.session.id());
        }
        Ok(())
    }

    fn id(&self) -> &Id {
        self.session.id()
    }
    fn context(&self) -> &ServerContext {
        self.session.context()
    }
    fn listen_cfg(&self) -> &ListenerConfig {
        self.session.listen_cfg()
    }
    fn deliver_queue(&self) -> &MessageQueueType {
        self.session.deliver_queue()
    }
    fn out_inflight(&self) -> &OutInflightType {
        self.session.out_inflight()
    }
    async fn subscriptions(&self) -> Result<SessionSubs> {
        self.session.subscriptions().await
    }
    async fn subscriptions_add(
        &self,
        filter: TopicFilter,
        options: SubscriptionOptions,
    ) -> Result<Option<SubscriptionOptions>> {
        self.session.subscriptions_add(filter, options).await
    }
    async fn subscriptions_remove(
        &self,
        filter: &str,
    ) -> Result<Option<(TopicFilter, SubscriptionOptions)>> {
        self.session.subscriptions_remove(filter).await
    }
    async fn subscriptions_drain(&self) -> Result<Subscriptions> {
        self.session.subscriptions_drain().await
    }
    async fn subscriptions_extend(&self, other: Subscriptions) -> Result<()> {
        self.session.subscriptions_extend(other).await
    }
    async fn created_at(&self) -> Result<TimestampMillis> {
        self.session.created_at().await
    }
    async fn session_present(&self) -> Result<bool> {
        self.session.session_present().await
    }
    async fn connect_info(&self) -> Result<Arc<ConnectInfo>> {
        self.session.connect_info().await
    }
    fn username(&self) -> Option<&UserName> {
        self.session.username()
    }
    fn password(&self) -> Option<&Password> {
        self.session.password()
    }
    async fn protocol(&self) -> Result<u8> {
        self.session.protocol().await
    }
    async fn superuser(&self) -> Result<bool> {
        self.session.superuser().await
    }
    async fn connected(&self) -> Result<bool> {
        self.session.connected().await
    }
    async fn connected_at(&self) -> Result<TimestampMillis> {
        self.session.connected_at().await
    }
    async fn disconnected_at(&self) -> Result<TimestampMillis> {
        self.session.disconnected_at().await
    }
    async fn disconnected_reasons(&self) -> Result<Vec<Reason>> {
        self.session.disconnected_reasons().await
    }
    async fn disconnected_reason(&self) -> Result<Reason> {
        self.session.disconnected_reason().await
    }
    async fn disconnected_reason_has(&self) -> bool {
        self.session.disconnected_reason_has().await
    }
    async fn disconnected_reason_add(&self, reason: Reason) -> Result<()> {
        self.session.disconnected_reason_add(reason).await
    }
    async fn disconnected_reason_take(&self) -> Result<Reason> {
        self.session.disconnected_reason_take().await
    }
    async fn disconnect(&self) -> Result<Option<Disconnect>> {
        self.session.disconnect().await
    }
    async fn on_drop(&self) -> Result<()> {
        self.session.on_drop().await
    }
    async fn keepalive(&self, ping: IsPing) {
        self.session.keepalive(ping).await;
    }
}
