//! Which messages on a command's topic are our own word.
//!
//! A broker gives the agent its own messages back: at once as an echo, and the
//! last one again after each reconnect. Taken for another participant's, such a
//! message would move the command back to where it was.
//!
//! What may stand on a topic is the last message that the broker acknowledged,
//! or one published after it. So these are remembered, by hash, together with
//! the command, and also those whose echo is still to come: they outlive the
//! command, for another may begin on the same topic before.
//!
//! What stood there when a connection subscribed may come late, after the broker has
//! acknowledged what took its place: that is remembered for as long as the connection.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

/// How many are remembered; a broker that owes more echoes than this is not heard out.
const REMEMBERED_MAX: usize = 64;

/// Tells messages apart, in every run the same.
pub fn hash(message: &[u8]) -> u64 {
    let digest = Sha256::digest(message);
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Our own messages of one topic.
#[derive(Debug, Default)]
pub struct Own {
    /// Oldest first.
    words: VecDeque<Word>,
    /// What may have stood there when this connection subscribed.
    stood: Box<[u64]>,
}

#[derive(Debug)]
struct Word {
    hash: u64,
    is_acknowledged: bool,
    is_echoed: bool,
    /// Said before the agent restarted: it is not said again.
    is_from_before: bool,
}

impl Own {
    /// Brings back what was saved: whatever was under way then comes no more.
    pub fn restored(hashes: Vec<u64>) -> Self {
        let word = |(at, hash)| {
            let (is_acknowledged, is_echoed, is_from_before) = (at == 0, true, true);
            Word { hash, is_acknowledged, is_echoed, is_from_before }
        };
        Self { words: hashes.into_iter().enumerate().map(word).collect(), stood: Box::default() }
    }

    /// Notes that a message stands on the topic, by whomever: the command begins with it.
    pub fn stands(&mut self, hash: u64) {
        if self.words.iter().all(|word| word.hash != hash) {
            let (is_acknowledged, is_echoed, is_from_before) = (true, true, true);
            self.words.push_back(Word { hash, is_acknowledged, is_echoed, is_from_before });
        }
    }

    /// Whether nothing of it is under way.
    pub fn is_quiet(&self) -> bool {
        self.words.iter().all(|word| word.is_acknowledged && word.is_echoed)
    }

    /// Notes that a message will be published.
    pub fn say(&mut self, hash: u64) {
        let (is_acknowledged, is_echoed, is_from_before) = (false, false, false);
        self.words.push_back(Word { hash, is_acknowledged, is_echoed, is_from_before });
        if self.words.len() > REMEMBERED_MAX {
            self.words.pop_front();
        }
    }

    /// Notes that what was to be said, and was not handed over yet, is not said any more.
    pub fn take_back(&mut self) {
        self.words.retain(|word| word.is_acknowledged || word.is_from_before);
    }

    /// Notes that the broker has a message, and so none before it any more.
    pub fn acknowledged(&mut self, hash: u64) {
        let waiting = |word: &&mut Word| word.hash == hash && !word.is_acknowledged;
        if let Some(word) = self.words.iter_mut().find(waiting) {
            word.is_acknowledged = true;
        }
        self.prune();
    }

    /// Says whether a message that came is our own.
    pub fn hears(&mut self, hash: u64) -> bool {
        let echo = self.words.iter().position(|word| word.hash == hash && !word.is_echoed);
        let known = echo.or_else(|| self.words.iter().position(|word| word.hash == hash));
        if let Some(at) = known {
            self.words[at].is_echoed = true;
            self.prune();
        }
        known.is_some()
    }

    /// Says whether a message that stood on the topic when we subscribed is our own.
    pub fn finds(&mut self, hash: u64) -> bool {
        self.stood.contains(&hash) || self.hears(hash)
    }

    /// Notes that the connection is a new one: no echo of the last comes any more, and
    /// what was not acknowledged is said again.
    pub fn reconnected(&mut self) {
        self.stood = self.hashes().into();
        for word in &mut self.words {
            word.is_echoed = word.is_acknowledged || word.is_from_before;
        }
        self.prune();
    }

    /// What is to be saved with the command.
    pub fn hashes(&self) -> Vec<u64> {
        let last = self.words.iter().rposition(|word| word.is_acknowledged).unwrap_or(0);
        self.words.iter().skip(last).map(|word| word.hash).collect()
    }

    fn prune(&mut self) {
        let Some(mut standing) = self.words.iter().rposition(|word| word.is_acknowledged) else {
            return;
        };
        while standing > 0 && self.words.front().is_some_and(|word| word.is_echoed) {
            self.words.pop_front();
            standing -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_messages_are_known_until_another_has_taken_their_place() {
        let mut own = Own::default();
        own.stands(1);
        assert!(own.is_quiet());
        own.say(2);
        own.say(3);
        assert!(own.hears(2) && own.hears(3));
        own.acknowledged(2);
        assert!(!own.hears(1), "2 stands there");
        own.acknowledged(3);
        assert_eq!(own.hashes(), [3]);
        assert!(!own.hears(2), "now it is somebody else's");
        assert!(own.hears(3), "the retained one comes again after a reconnect");
    }

    #[test]
    fn an_echo_may_come_after_its_acknowledgement() {
        let mut own = Own::default();
        own.say(2);
        own.say(3);
        own.acknowledged(2);
        own.acknowledged(3);
        assert_eq!(own.hashes(), [3]);
        assert!(own.hears(2) && !own.is_quiet() && own.hears(3));
        assert!(!own.hears(2) && own.is_quiet());
    }

    #[test]
    fn after_a_restart_what_may_stand_there_is_known() {
        let mut own = Own::restored(vec![1]);
        own.say(2);
        own.say(3);
        let mut restored = Own::restored(own.hashes());
        assert!([1, 2, 3].into_iter().all(|hash| restored.hears(hash)));
        assert!(!restored.hears(4));
        restored.say(4);
        restored.acknowledged(4);
        assert!(!restored.hears(3));
    }

    #[test]
    fn a_connection_that_broke_owes_no_echo() {
        let mut own = Own::default();
        own.say(2);
        own.acknowledged(2);
        own.say(3);
        own.reconnected();
        own.acknowledged(3);
        assert_eq!(own.hashes(), [3]);
        assert!(!own.hears(2));
    }

    #[test]
    fn what_stood_there_when_we_subscribed_may_come_late() {
        let mut own = Own::default();
        own.stands(1);
        // While there was no connection.
        own.say(2);
        own.say(3);
        own.reconnected();
        own.acknowledged(2);
        own.acknowledged(3);
        assert!(own.finds(1), "the init that it began with");
        assert!(own.hears(2) && own.hears(3) && own.is_quiet());
        assert!(own.finds(2), "one that the broker had got, and not acknowledged");
        assert!(!own.finds(4));
        // On the next connection another init is somebody's.
        own.reconnected();
        assert!(!own.finds(1) && own.finds(3));
    }

    #[test]
    fn what_is_taken_back_is_not_known_any_more() {
        let mut own = Own::restored(vec![1, 2]);
        own.say(3);
        own.take_back();
        assert!(own.is_quiet() || own.hashes() == [1, 2]);
        assert!(own.hears(1) && own.hears(2) && !own.hears(3));
    }

    #[test]
    fn memory_is_bounded_when_nothing_is_heard() {
        let mut own = Own::default();
        for hash in 0..1_000 {
            own.say(hash);
        }
        assert_eq!(own.words.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_message_keeps_its_hash_from_run_to_run() {
        assert_eq!(hash(b"{}"), hash(b"{}"));
        assert_ne!(hash(b"{}"), hash(b"{ }"));
    }
}
