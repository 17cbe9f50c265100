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
//! A broker that keeps what stands on it in a file may come back with an old one, by half an
//! hour. So only a start of the agent finds out what was cleared, by a message of a run before
//! on the same boot. On later connections that message is taken away until all is said again:
//! the agent was there, and it was the broker that was not.

use std::collections::HashSet;

use bytes::Bytes;

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

/// Whether a broker on which this stands was told it by a run before this one, since the boot.
fn is_of_this_boot(word: &Bytes, here: &Lifetime) -> bool {
    serde_json::from_slice::<Lifetime>(word).is_ok_and(|life| life.boot_id == here.boot_id)
}

impl Runner {
    /// Takes a connection on which all that stood on the bus has come.
    pub(super) fn on_up(&mut self, link: Link, memory: &Memory) {
        let is_known = *memory != Memory::Unknown;
        let is_start = !std::mem::replace(&mut self.has_been_up, true);
        let is_kept =
            is_start && matches!(memory, Memory::Stands(word) if is_of_this_boot(word, &self.here));
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
                if matches!(memory, Memory::Stands(_)) {
                    self.outbox.push(&self.memory_topic(), Bytes::new(), true);
                }
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
            let word = Bytes::from(serde_json::to_vec(&self.here).expect("plain data"));
            self.outbox.push(&self.memory_topic(), word, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_if_it_is_of_this_boot() {
        let life = |boot: &str, run| Lifetime {
            boot_id: boot.to_owned(),
            run_id: uuid::Uuid::from_u128(run),
        };
        let word = |boot, run| Bytes::from(serde_json::to_vec(&life(boot, run)).expect("data"));
        let here = life("b2", 2);
        assert!(is_of_this_boot(&word("b2", 1), &here));
        assert!(!is_of_this_boot(&word("b1", 1), &here), "before a power cut");
        assert!(!is_of_this_boot(&Bytes::from_static(b"{}"), &here));
    }
}
