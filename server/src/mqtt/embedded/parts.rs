//! The parts of rmqtt that are replaced because a transport needs less.

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use rmqtt::{
    Result,
    fitter::{DefaultFitter, Fitter, FitterManager},
    retain::RetainStorage,
    router::{DefaultRouter, Router},
    types::{
        AllRelationsMap, CodecPublish, ConnectInfo, Disconnect, FitterType, HashMap, Id,
        ListenerConfig, NodeId, Retain, Route, SubRelationsMap, SubsSearchParams, SubsSearchResult,
        SubscriptionOptions, TopicFilter, TopicName,
    },
    utils::Counter,
};

use super::hooks::Core;
use crate::mqtt::limits::{DEVICE_INFLIGHT_MAX_MESSAGES, DEVICE_QUEUE_MAX_MESSAGES};

/// Routes nothing: what devices say goes to the engine alone, and what the
/// engine says goes to one connection. So a device that hears and speaks on
/// `tunnel/control` does not hear itself.
pub(super) struct NoRoutes(DefaultRouter);

impl Default for NoRoutes {
    fn default() -> Self {
        Self(DefaultRouter::new(None))
    }
}

#[async_trait]
impl Router for NoRoutes {
    async fn add(&self, _: &str, _: Id, _: SubscriptionOptions) -> Result<()> {
        Ok(())
    }
    async fn remove(&self, _: &str, _: Id) -> Result<bool> {
        Ok(false)
    }
    async fn matches(&self, _: Id, _: &TopicName) -> Result<SubRelationsMap> {
        Ok(SubRelationsMap::default())
    }
    async fn is_online(&self, _: NodeId, _: &str) -> bool {
        false
    }
    async fn gets(&self, _: usize) -> Vec<Route> {
        Vec::new()
    }
    async fn get(&self, _: &str) -> Result<Vec<Route>> {
        Ok(Vec::new())
    }
    async fn query_subscriptions(&self, _: &SubsSearchParams) -> Vec<SubsSearchResult> {
        Vec::new()
    }
    async fn topics_tree(&self) -> usize {
        0
    }
    fn topics(&self) -> Counter {
        self.0.topics()
    }
    fn routes(&self) -> Counter {
        self.0.routes()
    }
    fn merge_topics(&self, topics: &HashMap<NodeId, Counter>) -> Counter {
        self.0.merge_topics(topics)
    }
    fn merge_routes(&self, routes: &HashMap<NodeId, Counter>) -> Counter {
        self.0.merge_routes(routes)
    }
    async fn list_topics(&self, _: usize) -> Vec<String> {
        Vec::new()
    }
    async fn list_relations(&self, _: usize) -> Vec<serde_json::Value> {
        Vec::new()
    }
    fn relations(&self) -> &AllRelationsMap {
        self.0.relations()
    }
}

/// Keeps no retained message, yet says that retaining works: a device may say
/// `status` and its last will retained, and the store keeps what they tell.
pub(super) struct NoRetained;

#[async_trait]
impl RetainStorage for NoRetained {
    fn enable(&self) -> bool {
        true
    }
    fn need_sync(&self) -> bool {
        false
    }
    async fn set(&self, _: &TopicName, _: Retain, _: Option<Duration>) -> Result<()> {
        Ok(())
    }
    async fn get(&self, _: &TopicFilter) -> Result<Vec<(TopicName, Retain)>> {
        Ok(Vec::new())
    }
    async fn count(&self) -> isize {
        0
    }
    async fn max(&self) -> isize {
        0
    }
}

/// Makes a [`DeviceFitter`] for each connection.
pub(super) struct DeviceFitters(pub(super) Weak<Core>);

impl FitterManager for DeviceFitters {
    fn create(&self, info: Arc<ConnectInfo>, id: Id, config: ListenerConfig) -> FitterType {
        Arc::new(DeviceFitter {
            receive_max: receive_max(&info),
            usual: DefaultFitter::new(info, id.clone(), config),
            id,
            core: self.0.clone(),
        })
    }
}

fn receive_max(info: &ConnectInfo) -> NonZeroU16 {
    let ours = NonZeroU16::new(DEVICE_INFLIGHT_MAX_MESSAGES).unwrap_or(NonZeroU16::MIN);
    match info {
        ConnectInfo::V5(_, connect) => connect.receive_max.map_or(ours, |theirs| theirs.min(ours)),
        ConnectInfo::V3(..) => ours,
    }
}

/// Fits a session to a device: rmqtt's default but for what we bound ourselves.
struct DeviceFitter {
    usual: DefaultFitter,
    receive_max: NonZeroU16,
    id: Id,
    core: Weak<Core>,
}

#[async_trait]
impl Fitter for DeviceFitter {
    fn keep_alive(&self, keep_alive: &mut u16) -> Result<u16> {
        self.usual.keep_alive(keep_alive)
    }
    // Twice what `publish` lets wait: what a taken-over session left comes on top,
    // and an overflow here would be silent.
    fn max_mqueue_len(&self) -> usize {
        2 * DEVICE_QUEUE_MAX_MESSAGES
    }
    fn mqueue_rate_limit(&self) -> (NonZeroU32, Duration) {
        self.usual.mqueue_rate_limit()
    }
    fn max_inflight(&self) -> NonZeroU16 {
        self.receive_max
    }
    fn session_expiry_interval(&self, disconnect: Option<&Disconnect>) -> Duration {
        if self.core.upgrade().is_some_and(|core| core.registry.is_forgotten(&self.id)) {
            return Duration::ZERO;
        }
        self.usual.session_expiry_interval(disconnect)
    }
    fn message_expiry_interval(&self, _: &CodecPublish) -> Duration {
        Duration::ZERO
    }
    fn max_client_topic_aliases(&self) -> u16 {
        0
    }
    fn max_server_topic_aliases(&self) -> u16 {
        0
    }
}
