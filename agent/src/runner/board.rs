//! The commands on this device, and when each is due.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::{handlers::Since, own::Own, requests, version::Version};
use crate::{
    domain::Moment,
    workflow::{
        command::{Command, Phase},
        message::Payload,
        topic::CommandTopic,
    },
};

/// Commands that may be under way at once; beyond, new ones wait on the bus.
pub const PENDING_MAX_COMMANDS: usize = 10_000;
/// Ended commands that are remembered until their requester clears them; beyond, the oldest is forgotten.
pub const ENDED_MAX_COMMANDS: usize = 10_000;

/// A command on the board.
#[derive(Debug)]
pub struct Entry {
    pub version: Arc<Version>,
    pub command: Command,
    pub own: Own,
    /// When it entered its state.
    pub since: Since,
    /// The message that it began with; not known of what an earlier agent saved.
    pub init: Option<u64>,
    /// Tells it from an earlier command on the same topic.
    pub life: u64,
    /// The script or builtin that runs for it.
    pub run: Option<u64>,
    /// Counts its messages, also those that wait to be saved first.
    pub said: u64,
    /// The token of the last of them, until the bus has it.
    pub told_by: Option<u64>,
    /// The token of the `init` of the sub-operation that it awaits, until the bus has it.
    pub sub_told_by: Option<u64>,
    /// The last connection on which something was known to stand on its topic.
    pub seen_on: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Board {
    entries: HashMap<CommandTopic, Entry>,
    due: BTreeSet<(Moment, CommandTopic)>,
    /// Ended ones, the oldest first; some of them may be forgotten already.
    ended: VecDeque<(CommandTopic, u64)>,
    /// How many have ended and are remembered.
    remembered: usize,
    lives: u64,
}

impl Board {
    pub fn get(&self, topic: &CommandTopic) -> Option<&Entry> {
        self.entries.get(topic)
    }

    pub fn get_mut(&mut self, topic: &CommandTopic) -> Option<&mut Entry> {
        self.entries.get_mut(topic)
    }

    /// Finds the command that was on this topic in that life.
    pub fn living(&mut self, topic: &CommandTopic, life: u64) -> Option<&mut Entry> {
        self.get_mut(topic).filter(|entry| entry.life == life)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut()
    }

    /// How many are under way.
    pub fn pending(&self) -> usize {
        self.entries.len() - self.remembered
    }

    /// Puts a command on the board.
    pub fn add(&mut self, command: Command, version: Arc<Version>, own: Own, since: Since) {
        self.remove(&command.topic);
        self.lives += 1;
        let (topic, next) = (command.topic.clone(), command.clone());
        let phase = Phase::New;
        let command = Command { phase, ..command };
        let entry = Entry {
            version,
            command,
            own,
            since,
            init: None,
            life: self.lives,
            run: None,
            said: 0,
            told_by: None,
            sub_told_by: None,
            seen_on: 0,
        };
        self.entries.insert(topic, entry);
        self.set(next);
    }

    /// Gives a command its next state.
    pub fn set(&mut self, mut command: Command) {
        let Some(entry) = self.entries.get_mut(&command.topic) else { return };
        let topic = command.topic.clone();
        let was_remembered = is_remembered(&entry.command);
        if let Some(due_at) = entry.command.due_at() {
            self.due.remove(&(due_at, topic.clone()));
        }
        if let Some(due_at) = command.due_at() {
            self.due.insert((due_at, topic.clone()));
        }
        if is_remembered(&command) {
            // Only that it was there is still of interest.
            command.payload = Arc::new(Payload::new());
            if !was_remembered {
                self.remembered += 1;
                self.ended.push_back((topic, entry.life));
            }
        }
        entry.command = command;
    }

    pub fn remove(&mut self, topic: &CommandTopic) -> Option<Entry> {
        let entry = self.entries.remove(topic)?;
        if let Some(due_at) = entry.command.due_at() {
            self.due.remove(&(due_at, topic.clone()));
        }
        self.remembered -= usize::from(is_remembered(&entry.command));
        Some(entry)
    }

    /// Finds an ended command that is one too many.
    pub fn surplus(&mut self) -> Option<CommandTopic> {
        while let Some((topic, life)) = self.ended.front() {
            let is_there = self.entries.get(topic).is_some_and(|entry| entry.life == *life);
            if is_there && self.remembered <= ENDED_MAX_COMMANDS {
                return None;
            }
            let (topic, _) = self.ended.pop_front()?;
            if is_there {
                return Some(topic);
            }
        }
        None
    }

    /// When the next command is due.
    pub fn next_due(&self) -> Option<Moment> {
        self.due.first().map(|(due_at, _)| *due_at)
    }

    /// Takes the commands that are due; each comes once.
    pub fn take_due(&mut self, now: Moment) -> Vec<CommandTopic> {
        let mut topics = Vec::new();
        while self.due.first().is_some_and(|(due_at, _)| *due_at <= now) {
            topics.extend(self.due.pop_first().map(|(_, topic)| topic));
        }
        topics
    }
}

/// Whether it is kept only so that its id is not taken for a new one; ours are cleared
/// by ourselves, and until then their end is asked for.
pub(super) fn is_remembered(command: &Command) -> bool {
    let is_ours = requests::is_ours(&command.topic) || command.topic.parent().is_some();
    matches!(command.phase, Phase::Ended { told: true }) && !is_ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::Lifetime, runner::version::Source};

    fn board_with(phases: impl IntoIterator<Item = Phase>) -> Board {
        let source = Source::Invalid { operation: "op".into(), reason: "r".into() };
        let version = Arc::new(source.read().expect("made here"));
        let mut board = Board::default();
        for (n, phase) in phases.into_iter().enumerate() {
            let mut command = Command::new(topic(n), Payload::new());
            command.phase = phase;
            let life = Lifetime { boot_id: String::new(), run_id: uuid::Uuid::nil() };
            let since = Since { life, at: Moment::default() };
            board.add(command, version.clone(), Own::default(), since);
        }
        board
    }

    fn topic(n: usize) -> CommandTopic {
        CommandTopic::parse(&format!("te/device/main///cmd/op/{n}")).expect("valid")
    }

    #[test]
    fn each_command_is_due_once_and_only_in_the_state_it_is_in() {
        let at = Moment::from_millis;
        let awaiting = |millis| Phase::Awaiting { due_at: Some(at(millis)) };
        let mut board = board_with([awaiting(30), awaiting(10), awaiting(20), Phase::Passing]);
        assert_eq!(board.next_due(), Some(at(10)));
        let mut command = board.get(&topic(1)).expect("there").command.clone();
        command.phase = Phase::Passing;
        board.set(command);
        board.remove(&topic(2));
        assert_eq!(board.take_due(at(29)), []);
        assert_eq!(board.take_due(at(30)), [topic(0)]);
        assert_eq!((board.take_due(at(30)), board.next_due()), (vec![], None));
    }

    #[test]
    fn ended_commands_are_remembered_within_a_bound() {
        let ended = Phase::Ended { told: true };
        let mut board = board_with(std::iter::repeat_n(ended, ENDED_MAX_COMMANDS + 2));
        board.remove(&topic(0));
        assert_eq!(board.surplus(), Some(topic(1)));
        board.remove(&topic(1));
        assert_eq!((board.surplus(), board.pending()), (None, 0));
    }
}
