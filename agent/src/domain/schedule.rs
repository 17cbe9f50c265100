//! Which accepted command runs next: priority 1 first, then order of arrival.
//!
//! A bounded number run at once; the bound is what the device can bear, far above what it
//! is asked for, so a slow one holds up no other. Commands that only wait (for a reboot),
//! and those of the owner's workflows, take no place.

use std::collections::{BTreeSet, HashMap};

use quarterdeck_protocol::{command::Priority, ids::CommandId};

/// The commands that wait for a place, and how many places are taken.
#[derive(Debug)]
pub struct Schedule {
    waiting: BTreeSet<(Priority, u64, CommandId)>,
    keys: HashMap<CommandId, (Priority, u64)>,
    running: BTreeSet<CommandId>,
    arrivals: u64,
    places: usize,
}

impl Schedule {
    pub fn new(places: usize) -> Self {
        Self {
            waiting: BTreeSet::new(),
            keys: HashMap::new(),
            running: BTreeSet::new(),
            arrivals: 0,
            places,
        }
    }

    pub fn add(&mut self, id: CommandId, priority: Priority) {
        self.arrivals += 1;
        let key = (priority, self.arrivals);
        if self.keys.insert(id, key).is_none() {
            self.waiting.insert((key.0, key.1, id));
        }
    }

    /// Forgets a command, waiting or running.
    pub fn remove(&mut self, id: CommandId) {
        self.running.remove(&id);
        if let Some((priority, arrival)) = self.keys.remove(&id) {
            self.waiting.remove(&(priority, arrival, id));
        }
    }

    /// Takes the next command, if a place is free; it keeps that place until [`Self::remove`].
    pub fn take(&mut self) -> Option<CommandId> {
        if self.running.len() >= self.places {
            return None;
        }
        let (_, _, id) = self.waiting.pop_first()?;
        self.keys.remove(&id);
        self.running.insert(id);
        Some(id)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn id(n: u128) -> CommandId {
        CommandId(Uuid::from_u128(n))
    }

    fn priority(n: u8) -> Priority {
        Priority::try_from(n).expect("valid")
    }

    #[test]
    fn the_highest_priority_goes_first_and_then_the_first_to_arrive() {
        let mut schedule = Schedule::new(10);
        for (n, p) in [(1, 5), (2, 1), (3, 5), (4, 10), (5, 1)] {
            schedule.add(id(n), priority(p));
        }
        let order: Vec<_> = std::iter::from_fn(|| schedule.take()).collect();
        assert_eq!(order, [2, 5, 1, 3, 4].map(id));
    }

    #[test]
    fn no_more_run_than_there_are_places() {
        let mut schedule = Schedule::new(1);
        schedule.add(id(1), priority(5));
        schedule.add(id(2), priority(5));
        assert_eq!(schedule.take(), Some(id(1)));
        assert_eq!(schedule.take(), None);
        schedule.remove(id(1));
        assert_eq!(schedule.take(), Some(id(2)));
    }

    #[test]
    fn a_removed_command_is_never_taken() {
        let mut schedule = Schedule::new(5);
        schedule.add(id(1), priority(5));
        schedule.remove(id(1));
        assert_eq!((schedule.take(), schedule.waiting()), (None, 0));
    }
}
