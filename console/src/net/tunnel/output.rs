//! A terminal's output, as the server hands it on from the session's log.
//!
//! ```text
//!       shown           next
//!  ────────┼──────────────┼──────────▶ order of output
//!          │ waits here   │
//! ```
//!
//! Pure. The server is told how far all was shown, every [`SHOWN_EVERY_BYTES`] and
//! after [`SHOWN_MAX_MS`]; that sets the pace of the program, so what waits here is
//! what is shown in a round trip and a quarter of a second.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use quarterdeck_protocol::tunnel::{
    StreamKey, Tick,
    frame::{Body, Epoch, Frame},
    mark::{Mark, Size},
    session::{BEHIND_MAX_BYTES, SHOWN_EVERY_BYTES, SHOWN_MAX_MS},
};

/// The stream that the server speaks in the device's place.
pub(super) const OUTPUT_STREAM: u32 = 0;
/// The most that is shown at once, in bytes: what is taken counts as shown, so more
/// would let the program run ahead of a slow terminal.
const PIECE_MAX_BYTES: usize = SHOWN_EVERY_BYTES as usize;
/// What may wait here before the socket is left unread, in bytes: more than a
/// server lets come, so only one that counts wrong finds it.
const WAITING_MAX_BYTES: u64 = 2 * BEHIND_MAX_BYTES;

/// What a terminal shows next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Forget what was shown: this is the screen.
    Snapshot(Snapshot),
    /// Output from `offset` on.
    Bytes { offset: u64, bytes: Bytes },
    /// What happened at `offset`.
    Mark { offset: u64, mark: Mark },
}

/// A terminal's screen at an offset of its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub offset: u64,
    pub size: Size,
    /// Terminal output that paints it.
    pub screen: Bytes,
    /// The output from here to `offset` is in it.
    pub painted_from: u64,
    /// Earlier output that nobody has any more, in bytes.
    pub dropped_bytes: u64,
}

impl Piece {
    /// How far the output is shown with it.
    pub fn end(&self) -> u64 {
        match self {
            Self::Snapshot(snapshot) => snapshot.offset,
            Self::Bytes { offset, bytes } => offset + bytes.len() as u64,
            Self::Mark { offset, .. } => offset + 1,
        }
    }
}

/// Bytes before `offset` never came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("output from {next} to {offset} is missing")]
pub(super) struct Gap {
    pub next: u64,
    pub offset: u64,
}

#[derive(Debug)]
pub(super) struct Output {
    next: u64,
    shown: u64,
    /// What the server was told last.
    told: u64,
    queue: VecDeque<Piece>,
    waiting_bytes: u64,
    epoch: Epoch,
    ack_due: Option<Tick>,
}

impl Output {
    pub(super) const fn new() -> Self {
        Self {
            next: 0,
            shown: 0,
            told: 0,
            queue: VecDeque::new(),
            waiting_bytes: 0,
            epoch: Epoch { from: 1, to: 1 },
            ack_due: None,
        }
    }

    /// The byte that is needed next.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Whether so much waits that nothing more is to be read.
    pub(super) const fn is_full(&self) -> bool {
        self.waiting_bytes > WAITING_MAX_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A new connection: the server knows nothing of what was shown.
    pub(super) const fn on_attached(&mut self, now: Tick) {
        self.ack_due = Some(now);
    }

    pub(super) fn on_snapshot(&mut self, snapshot: Snapshot) {
        let offset = snapshot.offset;
        self.queue.clear();
        self.waiting_bytes = snapshot.screen.len() as u64;
        (self.next, self.shown, self.told) = (offset, offset, offset);
        self.queue.push_back(Piece::Snapshot(snapshot));
    }

    /// Takes a frame of the output stream; what came before is dropped or trimmed.
    pub(super) fn on_frame(&mut self, frame: Frame) -> Result<(), Gap> {
        let (offset, span) = (frame.offset, frame.body.span());
        if span == 0 {
            return Ok(());
        }
        self.epoch = frame.epoch.turned();
        if offset > self.next {
            return Err(Gap { next: self.next, offset });
        }
        if offset + span <= self.next {
            return Ok(());
        }
        match frame.body {
            Body::Data(mut bytes) => {
                bytes.advance((self.next - offset) as usize);
                self.waiting_bytes += bytes.len() as u64;
                self.queue.push_back(Piece::Bytes { offset: self.next, bytes });
            }
            Body::Mark(mark) => self.queue.push_back(Piece::Mark { offset, mark }),
            _ => {}
        }
        self.next = offset + span;
        Ok(())
    }

    /// Takes what is to be shown next: at most [`PIECE_MAX_BYTES`], short pieces joined.
    pub(super) fn take(&mut self, now: Tick) -> Option<Piece> {
        let mut piece = self.queue.pop_front()?;
        if let Piece::Bytes { offset, bytes } = &mut piece {
            if bytes.len() > PIECE_MAX_BYTES {
                let rest = bytes.split_off(PIECE_MAX_BYTES);
                let offset = *offset + PIECE_MAX_BYTES as u64;
                self.queue.push_front(Piece::Bytes { offset, bytes: rest });
            } else {
                self.join(bytes);
            }
            self.waiting_bytes -= bytes.len() as u64;
        }
        if let Piece::Snapshot(snapshot) = &piece {
            self.waiting_bytes -= snapshot.screen.len() as u64;
        }
        self.shown = self.shown.max(piece.end());
        let wait_us =
            if self.shown - self.told >= SHOWN_EVERY_BYTES { 0 } else { SHOWN_MAX_MS * 1_000 };
        let due = now.plus_us(wait_us);
        self.ack_due = Some(self.ack_due.map_or(due, |known| known.min(due)));
        Some(piece)
    }

    fn join(&mut self, first: &mut Bytes) {
        let fits = |length: usize, queue: &VecDeque<Piece>| match queue.front() {
            Some(Piece::Bytes { bytes, .. }) => length + bytes.len() <= PIECE_MAX_BYTES,
            _ => false,
        };
        if !fits(first.len(), &self.queue) {
            return;
        }
        let mut joined = BytesMut::from(&first[..]);
        while fits(joined.len(), &self.queue) {
            if let Some(Piece::Bytes { bytes, .. }) = self.queue.pop_front() {
                joined.extend_from_slice(&bytes);
            }
        }
        *first = joined.freeze();
    }

    /// When [`Self::poll_ack`] has something to say.
    pub(super) const fn ack_due(&self) -> Option<Tick> {
        self.ack_due
    }

    /// Makes the acknowledgement that is due.
    pub(super) fn poll_ack(&mut self, tunnel: u32, now: Tick) -> Option<Frame> {
        self.ack_due.take_if(|due| *due <= now)?;
        self.told = self.shown;
        Some(Frame {
            key: StreamKey { tunnel, stream: OUTPUT_STREAM },
            epoch: self.epoch,
            is_opening: false,
            wants_reply: false,
            has_taken_end: false,
            offset: 0,
            ack: self.shown,
            credit: BEHIND_MAX_BYTES as u32,
            body: Body::Ack { ranges: Vec::new() },
        })
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
