//! The receiving half of a stream.
//!
//! ```text
//!        safe         read          next            granted
//!  ───────┼────────────┼─────────────┼──────────────────┼──▶ order of bytes
//!   the   │ taken, not │ ready to be │   held   held    │ the peer may
//!   peer  │ yet safe   │ read        │ (after a gap)    │ not send more
//!   forgets                                             │ (credit)
//! ```
//!
//! Only the next byte is taken: what comes twice is dropped, what overlaps is
//! trimmed, what comes too early is held, within bounds, until the gap before
//! it is filled. What is ready and held never exceeds the window.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes};

use super::{
    hash::RunningHash,
    limits::{CREDIT_FIRST_BYTES, HELD_MAX_SEGMENTS, OFFSET_MAX, RANGES_MAX},
    pieces::{Content, Pieces},
};

/// What a reader takes from a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Content(Content),
    /// Nothing more comes, and the hash of all that came is right.
    End,
}

#[derive(Debug)]
pub(super) struct Receiver {
    safe: u64,
    read: u64,
    next: u64,
    granted: u64,
    window: u32,
    ready: Pieces,
    held: BTreeMap<u64, Content>,
    held_bytes: u64,
    end: End,
    /// Over all from the beginning, or the last resume, to `next`.
    hash: RunningHash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unknown,
    Announced {
        offset: u64,
        hash: [u8; 16],
    },
    /// All bytes came, and hash as announced.
    Reached,
    /// The reader knows.
    Read,
    /// The reader has made it safe.
    Taken,
}

/// What became of something that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was the next; there is something to read.
    Next,
    /// Bytes before it are missing.
    AfterGap,
    /// It was here already, or is more than was asked for.
    Dropped,
}

/// What came cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("bytes beyond the end of the stream")]
    BeyondEnd,
    #[error("the end of the stream was announced twice, differently")]
    OtherEnd,
    #[error("what arrived does not hash to what was sent")]
    Hash,
}

impl Receiver {
    /// Begins to take at `base`; everything before it is here and safe.
    pub(super) fn new(base: u64, window: u32) -> Self {
        Self {
            safe: base,
            read: base,
            next: base,
            granted: base + u64::from(window.max(CREDIT_FIRST_BYTES)),
            window,
            ready: Pieces::default(),
            held: BTreeMap::new(),
            held_bytes: 0,
            end: End::Unknown,
            hash: RunningHash::default(),
        }
    }

    /// The same for a stream of which the end was read before.
    pub(super) fn ended(base: u64) -> Self {
        Self { end: End::Taken, ..Self::new(base, 0) }
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn safe(&self) -> u64 {
        self.safe
    }

    pub(super) const fn read_until(&self) -> u64 {
        self.read
    }

    pub(super) const fn window(&self) -> u32 {
        self.window
    }

    /// Whether the peer may be told that all was taken.
    pub(super) const fn has_taken_end(&self) -> bool {
        matches!(self.end, End::Taken)
    }

    /// Sets how much may wait here; what was granted stays granted.
    pub(super) const fn set_window(&mut self, window: u32) {
        self.window = window;
    }

    /// Grants what the window allows; returns the end of it.
    pub(super) fn grant(&mut self) -> u64 {
        self.granted = self.could_grant();
        self.granted
    }

    /// What [`Self::grant`] would return.
    pub(super) fn could_grant(&self) -> u64 {
        self.granted.max(self.read + u64::from(self.window)).min(OFFSET_MAX)
    }

    /// The credit beyond `safe`, as a frame says it.
    pub(super) fn credit(&mut self) -> u32 {
        u32::try_from(self.grant() - self.safe).unwrap_or(u32::MAX)
    }

    pub(super) fn on_content(&mut self, offset: u64, content: Content) -> Result<Arrival, Wrong> {
        let end = offset + content.span();
        match self.end {
            End::Announced { offset: last, .. } if end > last => return Err(Wrong::BeyondEnd),
            End::Reached | End::Read | End::Taken if end > self.next => {
                return Err(Wrong::BeyondEnd);
            }
            _ => {}
        }
        if end <= self.next || end > self.granted {
            return Ok(Arrival::Dropped);
        }
        if offset > self.next {
            return Ok(self.hold(offset, content));
        }
        self.take(offset, content);
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > self.next {
                break;
            }
            let (offset, content) = entry.remove_entry();
            self.held_bytes -= content.span();
            self.take(offset, content);
        }
        self.check_end()?;
        Ok(Arrival::Next)
    }

    pub(super) fn on_end(&mut self, offset: u64, hash: [u8; 16]) -> Result<Arrival, Wrong> {
        match self.end {
            End::Unknown => {}
            End::Announced { offset: known, hash: same } if (known, same) == (offset, hash) => {
                return Ok(Arrival::Dropped);
            }
            End::Reached | End::Read | End::Taken if offset == self.next => {
                return Ok(Arrival::Dropped);
            }
            _ => return Err(Wrong::OtherEnd),
        }
        let farthest =
            self.held.iter().map(|(at, content)| at + content.span()).max().unwrap_or(self.next);
        if offset < farthest {
            return Err(Wrong::BeyondEnd);
        }
        self.end = End::Announced { offset, hash };
        self.check_end()?;
        Ok(if self.end == End::Reached { Arrival::Next } else { Arrival::AfterGap })
    }

    /// Takes what is not here yet of contents that begin at or before `next`.
    fn take(&mut self, offset: u64, content: Content) {
        let content = match content {
            Content::Bytes(mut bytes) => {
                let known = (self.next - offset) as usize;
                if known >= bytes.len() {
                    return;
                }
                bytes.advance(known);
                Content::Bytes(bytes)
            }
            Content::Mark(_) if offset < self.next => return,
            mark @ Content::Mark(_) => mark,
        };
        self.next += content.span();
        self.hash.update(&content);
        self.ready.push(content);
    }

    fn hold(&mut self, offset: u64, content: Content) -> Arrival {
        let span = content.span();
        let is_known = self.held.get(&offset).is_some_and(|held| held.span() >= span);
        let has_room = self.held.len() < HELD_MAX_SEGMENTS
            && self.held_bytes + span + self.ready.span()
                <= u64::from(self.window.max(CREDIT_FIRST_BYTES));
        if is_known || !has_room {
            // The peer learns from the next acknowledgement what is here.
            return Arrival::Dropped;
        }
        // A copy: the message that it came in may be much larger.
        let content = match content {
            Content::Bytes(bytes) => Content::Bytes(Bytes::copy_from_slice(&bytes)),
            mark @ Content::Mark(_) => mark,
        };
        self.held_bytes += span;
        if let Some(shorter) = self.held.insert(offset, content) {
            self.held_bytes -= shorter.span();
        }
        Arrival::AfterGap
    }

    fn check_end(&mut self) -> Result<(), Wrong> {
        if let End::Announced { offset, hash } = self.end
            && offset == self.next
        {
            if self.hash.digest() != hash {
                return Err(Wrong::Hash);
            }
            self.end = End::Reached;
        }
        Ok(())
    }

    /// Gives the next item, at most `most_bytes` of bytes.
    pub(super) fn read(&mut self, most_bytes: usize) -> Option<Item> {
        if let Some(content) = self.ready.pop(most_bytes) {
            self.read += content.span();
            return Some(Item::Content(content));
        }
        if self.end == End::Reached {
            self.end = End::Read;
            return Some(Item::End);
        }
        None
    }

    /// Notes that everything before `until` is safe; only what was read can be.
    /// The end too, once it was read.
    pub(super) fn make_safe(&mut self, until: u64) {
        self.safe = self.safe.max(until.min(self.read));
        if self.end == End::Read && self.safe == self.next {
            self.end = End::Taken;
        }
    }

    /// Whether something is here that is not safe yet, so that [`Self::ranges`] has something to say.
    pub(super) fn has_unsafe(&self) -> bool {
        self.next > self.safe || !self.held.is_empty()
    }

    /// Says what is here beyond what is safe, rising and apart, as much as an acknowledgement holds.
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        if self.next > self.safe {
            ranges.push((self.safe, self.next.min(self.safe + u64::from(u32::MAX))));
        }
        for (start, content) in &self.held {
            let end = start + content.span();
            let is_full = ranges.len() == RANGES_MAX;
            match ranges.last_mut() {
                Some((_, last)) if *start <= *last => *last = end.max(*last),
                _ if is_full => break,
                _ => ranges.push((*start, end)),
            }
        }
        ranges
    }

    /// The peer began a new life: what came after a gap, and an end not reached, were its former one's.
    pub(super) fn meet_anew(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
        if matches!(self.end, End::Announced { .. }) {
            self.end = End::Unknown;
        }
        self.hash = RunningHash::default();
    }

    /// Forgets what waits here: nobody reads it any more.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.held.clear();
        self.held_bytes = 0;
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
