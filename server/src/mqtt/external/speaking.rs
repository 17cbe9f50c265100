//! A connection that publishes: what is acknowledged, or frames of tunnels.

use std::sync::Arc;

use rumqttc::{ConnectionError, Event, EventLoop, Packet, QoS, Request};
use tracing::{debug, info, warn};

use super::{
    BrokerUrl, Shared,
    manner::Manner,
    standing::{Pauses, Side},
};
use crate::mqtt::link::{InboundSender, Unheard};

/// Owns the connection.
pub(super) struct Speaking {
    pub(super) side: Side,
    pub(super) shared: Arc<Shared>,
    pub(super) broker: BrokerUrl,
    pub(super) random: fn() -> f64,
    pub(super) connection: EventLoop,
    pub(super) manner: Manner,
    pub(super) inbound: InboundSender,
}

impl Speaking {
    pub(super) async fn run(mut self) {
        let mut pauses = Pauses::new(self.random);
        loop {
            let said = match self.connection.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    debug!(broker = ?self.broker, side = ?self.side, "the broker takes what is published");
                    self.stands(true).await
                }
                Ok(Event::Incoming(packet)) => {
                    if matches!(packet, Packet::PubRec(_)) {
                        self.manner.received();
                    }
                    // A connection that only breaks again is no success.
                    pauses.reset();
                    Ok(())
                }
                Ok(Event::Outgoing(_)) => Ok(()),
                Err(ConnectionError::RequestsDone) => return,
                Err(error) => {
                    let said = self.stands(false).await;
                    info!(broker = ?self.broker, side = ?self.side, %error, attempt = pauses.attempt(), "no connection to the broker to publish");
                    self.learn();
                    // A new session knows nothing of it; the engine says it again.
                    self.connection.pending.clear();
                    pauses.wait().await;
                    said
                }
            };
            if said.is_err() {
                debug!("nobody publishes any more");
                return;
            }
        }
    }

    async fn stands(&mut self, stands: bool) -> Result<(), Unheard> {
        self.shared.standing.set(self.side, stands, &self.inbound).await
    }

    /// Makes the next connection one that the broker bears.
    fn learn(&mut self) {
        // What was sent has a packet id; what only waited to be sent has none.
        let is_waiting = self.connection.pending.iter().any(|request| {
            matches!(request, Request::Publish(publish) if publish.qos == QoS::ExactlyOnce && publish.pkid != 0)
        });
        if self.manner.ended(is_waiting) {
            warn!(broker = ?self.broker, "the broker does not take QoS 2: publishing with QoS 1 from now on");
            self.shared.lower_qos();
        }
    }
}
