//! A queue of a stream's contents, whose cost follows from its bytes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::mark::Mark;

/// Bytes of a stream, or a mark between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Bytes(Bytes),
    Mark(Mark),
}

impl Content {
    /// How much of the order of bytes it takes.
    pub const fn span(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Mark(_) => 1,
        }
    }
}

/// Shorter pieces are copied together: a byte of its own would cost fifty, and
/// may keep the whole message alive that it came in.
const SHARED_MIN_BYTES: usize = 4 * 1024;
/// Pieces are copied together up to this length.
const TAIL_MAX_BYTES: usize = 16 * 1024;

/// Contents in order.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    queue: VecDeque<Content>,
    /// Short pieces at the end of the queue.
    tail: BytesMut,
    span: u64,
}

impl Pieces {
    /// How much of the order of bytes waits here.
    pub(super) const fn span(&self) -> u64 {
        self.span
    }

    pub(super) fn push(&mut self, content: Content) {
        self.span += content.span();
        match content {
            Content::Bytes(bytes) if bytes.len() < SHARED_MIN_BYTES => {
                self.tail.extend_from_slice(&bytes);
                if self.tail.len() >= TAIL_MAX_BYTES {
                    self.close_tail();
                }
            }
            content => {
                self.close_tail();
                self.queue.push_back(content);
            }
        }
    }

    /// Puts back what was taken, in front.
    pub(super) fn push_front(&mut self, content: Content) {
        self.span += content.span();
        self.queue.push_front(content);
    }

    /// Takes the next piece: a mark, or at most `most_bytes`; short pieces are joined.
    pub(super) fn pop(&mut self, most_bytes: usize) -> Option<Content> {
        if self.queue.is_empty() {
            self.close_tail();
        }
        let content = match self.queue.pop_front()? {
            Content::Bytes(mut bytes) if bytes.len() > most_bytes => {
                let first = bytes.split_to(most_bytes);
                self.queue.push_front(Content::Bytes(bytes));
                Content::Bytes(first)
            }
            Content::Bytes(bytes) if bytes.len() < most_bytes / 2 => {
                Content::Bytes(self.join(bytes, most_bytes))
            }
            content => content,
        };
        self.span -= content.span();
        Some(content)
    }

    /// Whether a mark waits.
    pub(super) fn has_mark(&self) -> bool {
        self.queue.iter().any(|content| matches!(content, Content::Mark(_)))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Joins what fits whole. Cut to fill up, a long piece would leave a crumb, which the next
    /// would be joined to: of a flood each byte would be copied, and each second piece be a crumb.
    fn join(&mut self, first: Bytes, most_bytes: usize) -> Bytes {
        if self.queue.is_empty() {
            self.close_tail();
        }
        if !self.fits_next(most_bytes - first.len()) {
            return first;
        }
        let mut joined = BytesMut::with_capacity(most_bytes.min(self.span as usize));
        joined.extend_from_slice(&first);
        while self.fits_next(most_bytes - joined.len())
            && let Some(Content::Bytes(next)) = self.queue.pop_front()
        {
            joined.extend_from_slice(&next);
            if self.queue.is_empty() {
                self.close_tail();
            }
        }
        joined.freeze()
    }

    fn fits_next(&self, room: usize) -> bool {
        matches!(self.queue.front(), Some(Content::Bytes(next)) if next.len() <= room)
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let bytes = std::mem::take(&mut self.tail).freeze();
            self.queue.push_back(Content::Bytes(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::mark::{Exit, Mark};
    use proptest::prelude::*;

    #[test]
    fn short_pieces_leave_together_and_marks_keep_their_place() {
        let mut pieces = Pieces::default();
        let mark = Content::Mark(Mark::Exit(Exit::Code(0)));
        for text in ["a", "b", "c"] {
            pieces.push(Content::Bytes(Bytes::from_static(text.as_bytes())));
        }
        pieces.push(mark.clone());
        pieces.push(Content::Bytes(Bytes::from_static(b"d")));
        assert_eq!(pieces.span(), 5);
        assert_eq!(pieces.pop(100), Some(Content::Bytes(Bytes::from_static(b"abc"))));
        assert!(pieces.has_mark());
        assert_eq!(pieces.pop(100), Some(mark));
        assert_eq!(pieces.pop(100), Some(Content::Bytes(Bytes::from_static(b"d"))));
        assert_eq!((pieces.pop(100), pieces.span()), (None, 0));
    }

    #[test]
    fn a_crumb_before_long_pieces_leaves_alone_and_they_are_not_copied() {
        const LONG: usize = 64 * 1024;
        let mut pieces = Pieces::default();
        let long = Bytes::from(vec![7; LONG]);
        pieces.push(Content::Bytes(Bytes::from_static(b"crumb")));
        for _ in 0..3 {
            pieces.push(Content::Bytes(long.clone()));
        }
        assert_eq!(pieces.pop(LONG), Some(Content::Bytes(Bytes::from_static(b"crumb"))));
        for _ in 0..3 {
            let Some(Content::Bytes(piece)) = pieces.pop(LONG) else { panic!("a piece") };
            assert_eq!((piece.len(), piece.as_ptr()), (LONG, long.as_ptr()));
        }
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out(
            chunks in prop::collection::vec((0_usize..9_000, any::<u8>()), 0..12),
            takes in prop::collection::vec(1_usize..40_000, 1..8),
        ) {
            let mut pieces = Pieces::default();
            let mut expected = Vec::new();
            for (len, byte) in chunks {
                let chunk = vec![byte; len];
                expected.extend_from_slice(&chunk);
                pieces.push(Content::Bytes(chunk.into()));
            }
            prop_assert_eq!(pieces.span(), expected.len() as u64);
            let mut taken = Vec::new();
            for most in takes.into_iter().cycle() {
                match pieces.pop(most) {
                    Some(Content::Bytes(bytes)) => {
                        prop_assert!(bytes.len() <= most);
                        taken.extend_from_slice(&bytes);
                    }
                    Some(Content::Mark(_)) => prop_assert!(false, "no mark was put in"),
                    None => break,
                }
            }
            prop_assert_eq!(taken, expected);
            prop_assert_eq!(pieces.span(), 0);
        }
    }
}
