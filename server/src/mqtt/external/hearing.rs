//! The connection that hears: one task owns it and hands publishes to the engine,
//! one waits for their commits in the order they came, many at a time, and
//! acknowledges.
//!
//! ```text
//!   connecting --CONNACK--> up: subscribe --error, failed commit--> down
//!        ^                                                            |
//!        +---------------- full jitter, longer each time -------------+
//! ```
//!
//! MQTT has no "not acknowledged": when a commit fails, the connection is dropped,
//! and the broker sends again what was not acknowledged.

use std::sync::Arc;

use quarterdeck_protocol::{
    limits::MQTT_MESSAGE_MAX_BYTES,
    topics::{self, DeviceTopic},
};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Packet, QoS, Request, StateError, Subscribe,
    SubscribeFilter,
};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{
    BrokerUrl, Shared,
    manner::{End, Kept},
    standing::{Pauses, Side},
};
use crate::mqtt::link::{AckHandle, AckWaiter, Inbound, InboundSender, Message, Qos, Unheard};

/// A publish that the engine has and the broker does not know it has.
pub(super) struct Outstanding {
    /// Packet ids mean something within one connection alone.
    epoch: u64,
    publish: rumqttc::Publish,
    waiter: Option<AckWaiter>,
}

/// Owns the connection, and hands publishes to the engine.
pub(super) struct Hearing {
    pub(super) shared: Arc<Shared>,
    pub(super) broker: BrokerUrl,
    pub(super) random: fn() -> f64,
    pub(super) connection: EventLoop,
    pub(super) kept: Kept,
    pub(super) epoch: u64,
    pub(super) inbound: InboundSender,
    pub(super) outstanding: mpsc::Sender<Outstanding>,
    /// That it hears was said last.
    pub(super) is_heard: bool,
}

impl Hearing {
    pub(super) async fn run(mut self) {
        let mut pauses = Pauses::new(self.random);
        if self.inbound.send(Inbound::Hears(false)).await.is_err() {
            return;
        }
        loop {
            let event = tokio::select! {
                event = self.connection.poll() => event,
                () = self.shared.again.notified() => {
                    warn!(broker = ?self.broker, "a message could not be made durable: taking it again");
                    self.connection.clean();
                    if self.down().await.is_err() { return }
                    pauses.wait().await;
                    continue;
                }
            };
            let listened = match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => self.up().await,
                // A connection that only breaks again is no success.
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    pauses.reset();
                    Ok(())
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => self.take(publish).await,
                Ok(_) => Ok(()),
                Err(ConnectionError::RequestsDone) => return,
                Err(error) => {
                    let listened = self.down().await;
                    info!(broker = ?self.broker, %error, attempt = pauses.attempt(), "no connection to the broker");
                    self.learn(&error);
                    pauses.wait().await;
                    listened
                }
            };
            if listened.is_err() {
                debug!("nobody listens to the broker any more");
                return;
            }
        }
    }

    async fn up(&mut self) -> Result<(), Unheard> {
        info!(broker = ?self.broker, "connected to the broker");
        self.epoch += 1;
        self.connection.mqtt_options.set_clean_session(false);
        // Ahead of all else, and not by way of the client's queue, which may be full.
        self.connection
            .pending
            .push_front(Request::Subscribe(Subscribe::new_many(subscriptions())));
        // Before the first word that is heard.
        self.is_heard = true;
        self.inbound.send(Inbound::Hears(true)).await?;
        self.shared.standing.set(Side::Hearing, true, &self.inbound).await
    }

    async fn down(&mut self) -> Result<(), Unheard> {
        // Acknowledgements belong to the connection that is gone.
        self.connection
            .pending
            .retain(|request| !matches!(request, Request::PubAck(_) | Request::PubRec(_)));
        if self.is_heard {
            self.is_heard = false;
            self.inbound.send(Inbound::Hears(false)).await?;
        }
        self.shared.standing.set(Side::Hearing, false, &self.inbound).await
    }

    /// Makes the next connection one that the broker bears.
    fn learn(&mut self, error: &ConnectionError) {
        let end = match error {
            ConnectionError::MqttState(StateError::Unsolicited(_)) => End::Unsolicited,
            _ => End::Otherwise,
        };
        if self.kept.ended(end) {
            warn!(broker = ?self.broker, "the session that the broker keeps does not fit any more: beginning a new one");
            self.connection.mqtt_options.set_clean_session(true);
        }
    }

    async fn take(&mut self, publish: rumqttc::Publish) -> Result<(), Unheard> {
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
pub(super) async fn acknowledge(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_devices_say_is_subscribed_to() {
        let filters: Vec<_> = subscriptions().map(|filter| filter.path).collect();
        assert_eq!(filters.len(), 7);
        assert!(filters.contains(&"roboticks/+/devices/+/status".to_owned()));
        assert!(!filters.contains(&"roboticks/+/devices/+/commands".to_owned()));
    }
}
