//! What the runner has said and the bus has not acknowledged yet.
//!
//! Messages leave in the order in which they were said. While there is no
//! connection the states of one command pile up only so far: the last one
//! counts, the others are what it was meanwhile.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::bus::{Congested, Handed, Link};

/// States of one topic that wait while there is no connection; beyond, the oldest go.
const WAITING_MAX_PER_TOPIC: usize = 32;
/// … and all of them, in bytes: beyond, only the last of each topic waits.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A message on its way.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub topic: String,
    pub payload: Bytes,
}

/// The messages that the bus has not acknowledged.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: BTreeMap<u64, Outgoing>,
    /// Tokens of each topic, in order.
    by_topic: HashMap<String, Vec<u64>>,
    bytes: usize,
    last_token: u64,
    /// The last token that was handed to this connection.
    sent: u64,
}

impl Outbox {
    /// Adds a message; `is_up` says that it can leave at once.
    pub fn push(&mut self, topic: &str, payload: Bytes, is_up: bool) -> u64 {
        if !is_up {
            let most = if self.bytes > WAITING_MAX_BYTES { 1 } else { WAITING_MAX_PER_TOPIC };
            while self.by_topic.get(topic).is_some_and(|tokens| tokens.len() >= most) {
                let oldest = self.by_topic.get(topic).and_then(|tokens| tokens.first().copied());
                self.remove(oldest.unwrap_or_default());
            }
        }
        self.last_token += 1;
        let token = self.last_token;
        self.bytes += payload.len();
        self.by_topic.entry(topic.to_owned()).or_default().push(token);
        self.messages.insert(token, Outgoing { topic: topic.to_owned(), payload });
        token
    }

    /// Hands over what the connection takes; gives the tokens of what the bus has at once.
    pub fn send(&mut self, link: &Link) -> Vec<u64> {
        let mut done = Vec::new();
        while let Some((token, message)) = self.messages.range(self.sent + 1..).next() {
            match link.publish(*token, &message.topic, message.payload.clone()) {
                Ok(Handed::UnderWay) => {}
                Ok(Handed::Done) => done.push(*token),
                Err(Congested) => break,
            }
            self.sent = *token;
        }
        done
    }

    /// Forgets a message that the bus has, and gives it.
    pub fn acknowledged(&mut self, token: u64) -> Option<Outgoing> {
        self.remove(token)
    }

    /// Whether something on this topic waits for the bus.
    pub fn holds(&self, topic: &str) -> bool {
        self.by_topic.contains_key(topic)
    }

    /// Takes back what was to be said on a topic.
    pub fn forget(&mut self, topic: &str) {
        for token in self.by_topic.get(topic).cloned().unwrap_or_default() {
            self.remove(token);
        }
    }

    /// Begins anew: the connection is gone, and what it was given with it.
    pub const fn rewind(&mut self) {
        self.sent = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn remove(&mut self, token: u64) -> Option<Outgoing> {
        let message = self.messages.remove(&token)?;
        self.bytes -= message.payload.len();
        if let Some(tokens) = self.by_topic.get_mut(&message.topic) {
            tokens.retain(|other| *other != token);
            if tokens.is_empty() {
                self.by_topic.remove(&message.topic);
            }
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_connection_the_last_states_wait_within_bounds() {
        let mut outbox = Outbox::default();
        for n in 0..1_000 {
            outbox.push("a", Bytes::from(n.to_string()), false);
        }
        outbox.push("b", Bytes::from_static(b"other"), false);
        assert_eq!(outbox.messages.len(), WAITING_MAX_PER_TOPIC + 1);
        assert_eq!(outbox.messages[&1_000].payload, "999");
        for n in 0..1_000 {
            outbox.push(&format!("t{}", n % 40), vec![0; 1024 * 1024].into(), false);
        }
        assert!(outbox.bytes < WAITING_MAX_BYTES + 41 * 1024 * 1024);
    }

    #[test]
    fn what_is_acknowledged_is_gone() {
        let mut outbox = Outbox::default();
        let token = outbox.push("a", Bytes::from_static(b"x"), true);
        assert_eq!(outbox.acknowledged(token).expect("it was there").payload, "x");
        assert!(outbox.acknowledged(token).is_none() && outbox.is_empty() && outbox.bytes == 0);
        outbox.push("a", Bytes::from_static(b"x"), true);
        outbox.push("b", Bytes::from_static(b"x"), true);
        outbox.forget("a");
        assert!(!outbox.holds("a") && outbox.holds("b") && outbox.bytes == 1);
    }
}
