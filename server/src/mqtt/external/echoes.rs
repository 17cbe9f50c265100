//! What we said on topics that we also hear: MQTT 3.1.1 sends it back to us.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::mqtt::limits::EXTERNAL_ECHOES_MAX;

/// Marks of what we said and have not heard yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Echoes(VecDeque<u64>);

impl Echoes {
    fn mark(topic: &str, payload: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        payload.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn expect(&mut self, topic: &str, payload: &[u8]) {
        if self.0.len() == EXTERNAL_ECHOES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Self::mark(topic, payload));
    }

    /// Whether this is one of them; each is good once.
    pub(super) fn is_echo(&mut self, topic: &str, payload: &[u8]) -> bool {
        let mark = Self::mark(topic, payload);
        let found = self.0.iter().position(|expected| *expected == mark);
        found.map(|at| self.0.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_dropped_once() {
        let mut echoes = Echoes::default();
        echoes.expect("t", b"open");
        assert!(!echoes.is_echo("t", b"opened"));
        assert!(!echoes.is_echo("u", b"open"));
        assert!(echoes.is_echo("t", b"open"));
        assert!(!echoes.is_echo("t", b"open"));
        for n in 0..2 * EXTERNAL_ECHOES_MAX {
            echoes.expect("t", &n.to_be_bytes());
        }
        assert_eq!(echoes.0.len(), EXTERNAL_ECHOES_MAX);
    }
}
