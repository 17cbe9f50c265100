//! The bus inside the agent: retained messages in memory, for when no broker is named.
//!
//! The runner is one participant, the agent's own code the other: it hands
//! commands over and hears their states. Nothing is echoed to who published it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{BusEvent, Link, Scope};
use crate::workflow::topic;

/// A message on the bus; an empty one clears its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
}

/// The bus.
#[derive(Debug, Clone, Default)]
pub struct LocalBus(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    retained: BTreeMap<String, Bytes>,
    runner: Option<mpsc::UnboundedSender<BusEvent>>,
    /// Who hears what the runner says.
    listeners: Vec<mpsc::UnboundedSender<Message>>,
}

/// The runner's connection.
#[derive(Debug, Clone)]
pub struct LocalLink(LocalBus);

impl LocalBus {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects the runner; what stands on the bus comes first.
    ///
    /// The queue is bounded by what is under way: one message a command, and
    /// the acknowledgements of what the runner itself said.
    pub fn connect_runner(&self, scope: &Scope) -> mpsc::UnboundedReceiver<BusEvent> {
        let (to, events) = mpsc::unbounded_channel();
        let mut state = self.lock();
        let prefix = topic::capability(&scope.root, &scope.target, "");
        let mut first = vec![BusEvent::Up(Link::Local(LocalLink(self.clone())))];
        first.extend(state.retained.iter().filter(|(topic, _)| topic.starts_with(&prefix)).map(
            |(topic, payload)| BusEvent::Message {
                topic: topic.clone(),
                payload: payload.clone(),
                is_retained: true,
            },
        ));
        for event in first {
            // Its other end is in this very function.
            let _ = to.send(event);
        }
        state.runner = Some(to);
        events
    }

    /// Hears all that the runner says from now on.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Message> {
        let (to, messages) = mpsc::unbounded_channel();
        self.lock().listeners.push(to);
        messages
    }

    /// Publishes as another participant than the runner.
    pub fn publish(&self, topic: &str, payload: Bytes) {
        let mut state = self.lock();
        state.retain(topic, &payload);
        if let Some(runner) = &state.runner {
            let topic = topic.to_owned();
            let message = BusEvent::Message { topic, payload, is_retained: false };
            if runner.send(message).is_err() {
                state.runner = None;
            }
        }
    }
}

impl State {
    fn retain(&mut self, topic: &str, payload: &Bytes) {
        if payload.is_empty() {
            self.retained.remove(topic);
        } else {
            self.retained.insert(topic.to_owned(), payload.clone());
        }
    }
}

impl LocalLink {
    pub(super) fn publish(&self, token: u64, topic: &str, payload: Bytes) {
        let mut state = self.0.lock();
        state.retain(topic, &payload);
        let message = Message { topic: topic.to_owned(), payload };
        state.listeners.retain(|listener| listener.send(message.clone()).is_ok());
        if let Some(runner) = &state.runner {
            // A runner that is gone awaits nothing.
            let _ = runner.send(BusEvent::Acked { token });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "te/device/main///cmd/op/1";

    fn scope() -> Scope {
        Scope { root: "te".to_owned(), target: "device/main//".to_owned() }
    }

    #[tokio::test]
    async fn what_stands_on_the_bus_comes_first_and_no_echo_comes() {
        let bus = LocalBus::default();
        bus.publish(TOPIC, Bytes::from_static(b"one"));
        bus.publish("te/device/other///cmd/op/1", Bytes::from_static(b"not ours"));
        let mut events = bus.connect_runner(&scope());
        let Some(BusEvent::Up(link)) = events.recv().await else { panic!("it is up first") };
        let Some(BusEvent::Message { topic, is_retained: true, .. }) = events.recv().await else {
            panic!("then what is retained")
        };
        assert_eq!(topic, TOPIC);
        let mut heard = bus.listen();
        link.publish(7, TOPIC, Bytes::from_static(b"two")).expect("it takes all");
        assert_eq!(heard.recv().await.expect("heard").payload, "two");
        assert!(matches!(events.recv().await, Some(BusEvent::Acked { token: 7 })));
        bus.publish(TOPIC, Bytes::new());
        let Some(BusEvent::Message { payload, .. }) = events.recv().await else {
            panic!("no echo stands between")
        };
        assert!(payload.is_empty() && bus.lock().retained.len() == 1);
    }
}
