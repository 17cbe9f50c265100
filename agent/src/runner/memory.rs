//! A broker that was started anew without its persistence has forgotten what stood on it.
//!
//! ```text
//!  all that stands ─┬─ it has forgotten ─▶ what is missing is said again ─ saved ─▶ "remember us"
//!  there has come   └─ it remembers us ──▶ what is missing was cleared
//! ```
//!
//! That nothing stands on a command's topic may also mean that its requester cleared it. What
//! tells the two apart is a message of our own that stands on the bus, retained, beside the
//! commands: a broker that has lost those has lost that, too. It is put there last, behind all
//! that is said again: whenever the agent or the broker dies in between, it is not there.
//!
//! A broker that keeps what stands on it in a file may come back with an old one, after a power
//! cut by half an hour. So that message is another one with each connection, and counts only
//! if it is the last of this run, or of a run before on the same boot.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Runner,
    board::Entry,
    bus::{Link, Memory},
    effects::{Then, Waiting},
    saver::Ticket,
    say,
};
use crate::{
    domain::Lifetime,
    workflow::{command::Phase, engine::Effect, topic},
};

/// What a broker is to remember us by.
#[derive(Debug, Serialize, Deserialize)]
struct Word {
    #[serde(flatten)]
    life: Lifetime,
    connection: u64,
}

/// Whether a broker on which this stands has forgotten nothing since; `said` is what this
/// run has told it.
fn is_of_now(word: &Bytes, here: &Lifetime, said: &VecDeque<Bytes>) -> bool {
    let read = serde_json::from_slice::<Word>(word);
    read.is_ok_and(|read| read.life.boot_id == here.boot_id)
        && (said.is_empty() || said.contains(word))
}

impl Runner {
    /// Takes a connection on which all that stood on the bus has come.
    pub(super) fn on_up(&mut self, link: Link, memory: &Memory) {
        let is_known = *memory != Memory::Unknown;
        let is_kept = matches!(memory, Memory::Stands(word)
            if is_of_now(word, &self.here, &self.remembered_as));
        tracing::info!(?memory, is_kept, "connected to the bus");
        self.link = Some(link);
        self.announce_all();
        // It would tell of what is only now found to be missing.
        self.remember_at = None;
        self.outbox.forget(&self.memory_topic());
        if is_kept {
            self.take_clearings();
        }
        self.release_held();
        if is_known {
            self.step_all();
            if !is_kept {
                self.say_again();
            }
            let is_all_saved = self.items.is_empty();
            let last = self.saver.last_ticket();
            let ticket = if is_all_saved { last } else { self.saver.next_ticket() };
            self.remember_at = Some((ticket, self.connection));
        }
    }

    fn memory_topic(&self) -> String {
        let (root, target) = self.targets.own();
        topic::memory(root, target)
    }

    /// Says the states of all commands under way on whose topic nothing stands any more. What
    /// somebody has put there meanwhile stays, and so does what has ended: that was said.
    fn say_again(&mut self) {
        let speaking = |waiting: &Waiting| match &waiting.then {
            Then::Effects { message: Some(_), .. } => Some(waiting.topic.clone()),
            Then::Effects { message: None, .. } | Then::Clear => None,
        };
        let speaking: HashSet<_> = self.waiting.iter().filter_map(speaking).collect();
        let is_missing = |entry: &&Entry| {
            let command = &entry.command;
            entry.seen_on != self.connection
                && !command.is_ended()
                // What it goes to is said once it is started.
                && !matches!(command.phase, Phase::New | Phase::Launching { .. })
                && self.targets.hears(&command.topic)
                && !speaking.contains(&command.topic)
                && !self.outbox.holds(command.topic.as_str())
        };
        let missing = self.board.iter().filter(is_missing);
        let missing: Vec<_> = missing.map(|entry| entry.command.clone()).collect();
        if !missing.is_empty() {
            let commands = missing.len();
            tracing::warn!(commands, "the bus has forgotten commands: their states are said again");
        }
        for command in missing {
            let topic = command.topic.clone();
            let Some(entry) = self.board.get_mut(&topic) else { continue };
            let message = Some(say(entry, &command));
            let (life, effects) = (entry.life, vec![Effect::Publish]);
            // So that after a crash it is known as ours.
            self.save_command(&topic);
            self.once_saved(topic, Then::Effects { life, message, effects, sub_before: None });
        }
    }

    /// Puts what the broker is to remember us by behind all that was said again.
    pub(super) fn be_remembered(&mut self, saved: Ticket) {
        let is_due = |(ticket, _): &mut (Ticket, u64)| *ticket <= saved;
        let Some((_, connection)) = self.remember_at.take_if(is_due) else { return };
        if self.link.is_some() && connection == self.connection {
            let word = Word { life: self.here.clone(), connection };
            let word = Bytes::from(serde_json::to_vec(&word).expect("plain data"));
            // Until the broker has it, it may still be the one before.
            self.remembered_as.truncate(1);
            self.remembered_as.push_front(word.clone());
            let topic = self.memory_topic();
            self.outbox.push(&topic, word, true);
        }
    }

    /// Takes it that the broker has what it is to remember us by.
    pub(super) fn on_remembered(&mut self, topic: &str) {
        if topic == self.memory_topic() {
            self.remembered_as.truncate(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_if_it_is_this_runs_last_or_of_a_run_before_on_the_same_boot() {
        let life = |boot: &str, run| Lifetime {
            boot_id: boot.to_owned(),
            run_id: uuid::Uuid::from_u128(run),
        };
        let word = |boot, run, connection| {
            let word = Word { life: life(boot, run), connection };
            Bytes::from(serde_json::to_vec(&word).expect("plain data"))
        };
        let (here, none) = (life("b2", 2), VecDeque::new());
        assert!(is_of_now(&word("b2", 1, 9), &here, &none));
        assert!(!is_of_now(&word("b1", 1, 9), &here, &none), "before a power cut");
        assert!(!is_of_now(&Bytes::from_static(b"{}"), &here, &none));
        let said = VecDeque::from([word("b2", 2, 3), word("b2", 2, 2)]);
        assert!(is_of_now(&word("b2", 2, 3), &here, &said));
        assert!(is_of_now(&word("b2", 2, 2), &here, &said), "the last may not have come there");
        assert!(!is_of_now(&word("b2", 2, 1), &here, &said), "out of an old file");
    }
}
