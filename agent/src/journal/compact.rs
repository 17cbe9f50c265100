//! Rewriting the journal without what nobody will ask for again.
//!
//! The copy is made by [`Compaction::run`] on another thread while the journal
//! goes on; [`super::Journal::finish_compaction`] adds what was appended
//! meanwhile and puts the new file in place with one rename. A crash at any
//! point leaves either the old or the new file.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use quarterdeck_protocol::{
    command::Response, ids::CommandId, limits::ERROR_MESSAGE_MAX_BYTES, text, time::Timestamp,
};

use super::{
    JournalError,
    frame::{self, HEADER_BYTES},
    index::{Entry, Index, Kept, Place},
    read_record,
    record::Record,
    storage::{LogFile, LogFolder},
};
use crate::failpoint;

/// How long a command is remembered after it ended: its longest life in the
/// server (30 days), its longest run (7 days) and a margin, in milliseconds.
pub const REMEMBERED_MS: i64 = 40 * 24 * 3600 * 1000;
/// Commands that are remembered whatever their age: the clock may be wrong.
pub const REMEMBERED_MIN_COMMANDS: usize = 4_096;
/// Commands that are remembered at most; beyond, new ones are refused.
pub const REMEMBERED_MAX_COMMANDS: usize = 32_768;
/// Responses that are kept whole, the latest first; of older ones the output goes.
const WHOLE_RESPONSES_MAX_BYTES: u64 = 2 * 1024 * 1024;

/// What the new file is to hold.
#[derive(Debug)]
pub struct Compaction {
    pub(super) from: Arc<dyn LogFile>,
    pub(super) folder: Arc<dyn LogFolder>,
    pub(super) items: Vec<Item>,
    /// How long the old file was when the list was made.
    pub(super) until: u64,
    pub(super) header: &'static [u8],
}

#[derive(Debug)]
pub(super) struct Item {
    place: Place,
    id: CommandId,
    /// Drop the output and the result.
    shrink: bool,
    /// Reply `n` is acknowledged: say so behind it.
    acked: Option<u32>,
}

/// The new file, complete up to [`Compaction::until`] and on the disk.
#[derive(Debug)]
pub struct Compacted {
    pub(super) file: Arc<dyn LogFile>,
    pub(super) len: u64,
    pub(super) moved: HashMap<u64, Place>,
    pub(super) until: u64,
}

/// Chooses what stays; forgets old commands in `index`.
pub(super) fn choose(index: &mut Index, wall: Timestamp) -> Vec<Item> {
    forget_old(index, wall);
    let whole = latest_responses(index);
    let mut items = Vec::with_capacity(index.entries.len());
    for (id, entry) in &index.entries {
        let mut keep = |place: Place, shrink: bool, acked: Option<u32>| {
            items.push(Item { place, id: *id, shrink, acked });
        };
        match entry {
            Entry::Open(open) => {
                keep(open.received, false, is_acked(&open.unacked, 0).then_some(0));
                for place in [open.running, open.process, open.told].into_iter().flatten() {
                    keep(place, false, None);
                }
                for kept in open.unacked.iter().filter(|kept| kept.n != 0) {
                    keep(kept.place, false, None);
                }
                if open.last.n != 0 && is_acked(&open.unacked, open.last.n) {
                    keep(open.last.place, false, Some(open.last.n));
                }
            }
            Entry::Ended { last, unacked, .. } => {
                let acked = is_acked(unacked, last.n);
                keep(last.place, acked && !whole.contains(id), acked.then_some(last.n));
                for kept in unacked.iter().filter(|kept| kept.n != last.n) {
                    keep(kept.place, false, None);
                }
            }
            Entry::Cancelled { place, .. } => keep(*place, false, None),
        }
    }
    items.sort_by_key(|item| item.place);
    items.dedup_by_key(|item| item.place);
    items
}

fn is_acked(unacked: &[Kept], n: u32) -> bool {
    unacked.iter().all(|kept| kept.n != n)
}

fn forget_old(index: &mut Index, wall: Timestamp) {
    let mut ended: Vec<_> = index
        .entries
        .iter()
        .filter_map(|(id, entry)| match entry {
            Entry::Ended { last, wall_ms, unacked } if unacked.is_empty() => {
                Some((last.place, *wall_ms, *id))
            }
            Entry::Cancelled { place, wall_ms } => Some((*place, *wall_ms, *id)),
            Entry::Open(_) | Entry::Ended { .. } => None,
        })
        .collect();
    ended.sort_unstable_by_key(|(place, _, _)| *place);
    let may_go = index.entries.len().saturating_sub(REMEMBERED_MIN_COMMANDS);
    for (_, wall_ms, id) in ended.into_iter().take(may_go) {
        if wall.as_millis().saturating_sub(wall_ms) > REMEMBERED_MS {
            index.entries.remove(&id);
        }
    }
}

fn latest_responses(index: &Index) -> HashSet<CommandId> {
    let mut ended: Vec<_> = index
        .entries
        .iter()
        .filter_map(|(id, entry)| match entry {
            Entry::Ended { last, .. } => Some((last.place, *id)),
            Entry::Open(_) | Entry::Cancelled { .. } => None,
        })
        .collect();
    ended.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(*place));
    let mut left = WHOLE_RESPONSES_MAX_BYTES;
    let mut whole = HashSet::new();
    for (place, id) in ended {
        let Some(rest) = left.checked_sub(u64::from(place.body_bytes)) else { break };
        left = rest;
        whole.insert(id);
    }
    whole
}

impl Compaction {
    /// Writes the new file; slow, and free to fail: the old one stays valid.
    pub fn run(self) -> Result<Compacted, JournalError> {
        let file = self.folder.create_next().map_err(JournalError::io("make", "journal.next"))?;
        let mut out = self.header.to_vec();
        let mut written = 0;
        let mut moved = HashMap::with_capacity(self.items.len());
        for item in &self.items {
            let body = item.body(&*self.from)?;
            let place = Place { offset: written + out.len() as u64, body_bytes: body.len() as u32 };
            moved.insert(item.place.offset, place);
            frame::encode(&body, &mut out);
            if let Some(n) = item.acked {
                frame::encode(&super::to_body(&Record::Acked { id: item.id, n }), &mut out);
            }
            if out.len() > 256 * 1024 {
                written = flush(&*file, &mut out, written)?;
            }
        }
        written = flush(&*file, &mut out, written)?;
        let synced = failpoint::fails("sync").and_then(|()| file.sync());
        synced.map_err(JournalError::io("save", "journal.next"))?;
        Ok(Compacted { file, len: written, moved, until: self.until })
    }
}

fn flush(file: &dyn LogFile, out: &mut Vec<u8>, at: u64) -> Result<u64, JournalError> {
    file.write_all_at(out, at).map_err(JournalError::io("write", "journal.next"))?;
    let end = at + out.len() as u64;
    out.clear();
    Ok(end)
}

impl Item {
    fn body(&self, from: &dyn LogFile) -> Result<Vec<u8>, JournalError> {
        if self.shrink
            && let Record::Reply { n, response, wall } = read_record(from, self.place)?
        {
            let response = Box::new(shrunk(*response));
            return Ok(super::to_body(&Record::Reply { n, response, wall }));
        }
        let mut body = vec![0; self.place.body_bytes as usize];
        from.read_exact_at(&mut body, self.place.offset + HEADER_BYTES)
            .map_err(JournalError::io("read", "journal"))?;
        Ok(body)
    }
}

/// Leaves of an old response what a repeated command must be told.
fn shrunk(mut response: Response) -> Response {
    response.result = None;
    response.stdout = None;
    response.stderr = None;
    if let Some(message) = &mut response.error_message {
        *message = text::truncate_bytes(message, ERROR_MESSAGE_MAX_BYTES / 8).to_owned();
    }
    response
}

/// Copies what was appended to the old file after the list was made.
pub(super) fn copy_tail(from: &dyn LogFile, to: &Compacted, end: u64) -> Result<u64, io::Error> {
    let mut tail = vec![0; (end - to.until) as usize];
    from.read_exact_at(&mut tail, to.until)?;
    to.file.write_all_at(&tail, to.len)?;
    to.file.sync()?;
    Ok(to.len + tail.len() as u64)
}
