//! What is kept in memory of the journal: where each command's records lie.
//!
//! A command that has ended costs about 64 bytes here; its response stays on
//! the disk until somebody asks for it.

use std::collections::HashMap;

use quarterdeck_protocol::ids::CommandId;

use super::record::Record;

/// Where a record's frame begins, and how long its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub offset: u64,
    pub body_bytes: u32,
}

/// A reply that the journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub n: u32,
    pub place: Place,
}

/// What is known of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Open(Box<Open>),
    Ended {
        last: Kept,
        wall_ms: i64,
        unacked: Vec<Kept>,
    },
    /// Cancelled before it came.
    Cancelled {
        place: Place,
        wall_ms: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) received: Place,
    pub(super) running: Option<Place>,
    pub(super) process: Option<Place>,
    pub(super) told: Option<Place>,
    pub(super) last: Kept,
    pub(super) unacked: Vec<Kept>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) entries: HashMap<CommandId, Entry>,
}

impl Index {
    /// Takes note of a record; one that makes no sense here is left out.
    pub(super) fn note(&mut self, record: &Record, place: Place) {
        let id = record.command_id();
        match record {
            Record::Received(_) => {
                let accepted = Kept { n: 0, place };
                let open = Open {
                    received: place,
                    running: None,
                    process: None,
                    told: None,
                    last: accepted,
                    unacked: vec![accepted],
                };
                self.entries.insert(id, Entry::Open(Box::new(open)));
            }
            Record::Running { .. } => {
                if let Some(Entry::Open(open)) = self.entries.get_mut(&id) {
                    open.running = Some(place);
                }
            }
            Record::Process { .. } => {
                if let Some(Entry::Open(open)) = self.entries.get_mut(&id) {
                    open.process = Some(place);
                }
            }
            Record::Told { .. } => {
                if let Some(Entry::Open(open)) = self.entries.get_mut(&id) {
                    open.told = Some(place);
                }
            }
            Record::Reply { n, response, wall } => {
                let kept = Kept { n: *n, place };
                let entry = self.entries.remove(&id);
                let mut unacked = match &entry {
                    Some(Entry::Open(open)) => open.unacked.clone(),
                    Some(Entry::Ended { unacked, .. }) => unacked.clone(),
                    Some(Entry::Cancelled { .. }) | None => Vec::new(),
                };
                unacked.push(kept);
                let next = match entry {
                    // A final reply never becomes another.
                    Some(ended @ Entry::Ended { .. }) => ended,
                    Some(Entry::Open(mut open)) if !response.status.is_final() => {
                        open.last = kept;
                        open.unacked = unacked;
                        Entry::Open(open)
                    }
                    _ => Entry::Ended { last: kept, wall_ms: wall.as_millis(), unacked },
                };
                self.entries.insert(id, next);
            }
            Record::Acked { n, .. } => match self.entries.get_mut(&id) {
                Some(Entry::Open(open)) => open.unacked.retain(|kept| kept.n != *n),
                Some(Entry::Ended { unacked, .. }) => {
                    unacked.retain(|kept| kept.n != *n);
                    if unacked.is_empty() {
                        unacked.shrink_to_fit();
                    }
                }
                Some(Entry::Cancelled { .. }) | None => {}
            },
            Record::Cancelled { wall, .. } => {
                let wall_ms = wall.as_millis();
                self.entries.entry(id).or_insert(Entry::Cancelled { place, wall_ms });
            }
        }
    }

    /// Gives every place through `moved`; a place that is gone must not be in use.
    pub(super) fn relocate(&mut self, moved: impl Fn(Place) -> Place) {
        for entry in self.entries.values_mut() {
            let replies: &mut Vec<Kept> = match entry {
                Entry::Open(open) => {
                    open.received = moved(open.received);
                    open.running = open.running.map(&moved);
                    open.process = open.process.map(&moved);
                    open.told = open.told.map(&moved);
                    open.last.place = moved(open.last.place);
                    &mut open.unacked
                }
                Entry::Ended { last, unacked, .. } => {
                    last.place = moved(last.place);
                    unacked
                }
                Entry::Cancelled { place, .. } => {
                    *place = moved(*place);
                    continue;
                }
            };
            for kept in replies {
                kept.place = moved(kept.place);
            }
        }
    }
}
