//! The newest output of a terminal, in memory: what attached consoles are sent from.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quarterdeck_protocol::tunnel::Content;

/// What is kept for consoles that are a little behind; older output is read from the log.
pub(super) const RECENT_MAX_BYTES: u64 = 256 * 1024;
/// Short pieces are copied together up to this length, in bytes.
const JOINED_MAX_BYTES: usize = 4 * 1024;

/// Output from `start` to `end`, without holes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    pieces: VecDeque<(u64, Content)>,
    start: u64,
    end: u64,
}

impl Recent {
    /// Begins at an offset.
    pub(super) fn at(offset: u64) -> Self {
        Self { pieces: VecDeque::new(), start: offset, end: offset }
    }

    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn push(&mut self, content: Content) {
        let span = content.span();
        if let Content::Bytes(more) = &content
            && let Some((_, Content::Bytes(last))) = self.pieces.back_mut()
            && last.len() + more.len() <= JOINED_MAX_BYTES
        {
            let mut joined = BytesMut::with_capacity(last.len() + more.len());
            joined.extend_from_slice(last);
            joined.extend_from_slice(more);
            *last = joined.freeze();
        } else {
            self.pieces.push_back((self.end, content));
        }
        self.end += span;
    }

    /// Forgets the oldest over the bound, but nothing at or after `kept_from`.
    pub(super) fn trim(&mut self, kept_from: u64) {
        while let Some((offset, content)) = self.pieces.front() {
            let end = offset + content.span();
            if self.end - end < RECENT_MAX_BYTES || end > kept_from {
                return;
            }
            self.start = end;
            self.pieces.pop_front();
        }
    }

    /// What there is from `from` on, at most `most` of the order of bytes; `None` when that is gone.
    pub(super) fn from(&self, from: u64, most: u64) -> Option<Vec<(u64, Content)>> {
        if from < self.start {
            return None;
        }
        let first =
            self.pieces.partition_point(|(offset, content)| offset + content.span() <= from);
        let mut found = Vec::new();
        let mut left = most;
        for (offset, content) in self.pieces.range(first..) {
            if left == 0 {
                break;
            }
            let (offset, content) = cut(*offset, content, from, left);
            left -= content.span();
            found.push((offset, content));
        }
        Some(found)
    }
}

/// The part of a piece from `from` on, at most `most` of it.
pub(super) fn cut(offset: u64, content: &Content, from: u64, most: u64) -> (u64, Content) {
    match content {
        Content::Mark(mark) => (offset, Content::Mark(*mark)),
        Content::Bytes(bytes) => {
            let skip = from.saturating_sub(offset) as usize;
            let end = skip.saturating_add(most as usize).min(bytes.len());
            (offset + skip as u64, Content::Bytes(bytes.slice(skip..end)))
        }
    }
}

/// The bytes of some pieces, marks left out.
pub(super) fn bytes_of(pieces: &[(u64, Content)]) -> impl Iterator<Item = &Bytes> {
    pieces.iter().filter_map(|(_, content)| match content {
        Content::Bytes(bytes) => Some(bytes),
        Content::Mark(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::tunnel::mark::{Exit, Mark};

    use super::*;

    fn bytes(text: &str) -> Content {
        Content::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn what_is_asked_for_begins_in_the_middle_of_a_piece_and_ends_there() {
        let mut recent = Recent::at(10);
        let exit = Content::Mark(Mark::Exit(Exit::Code(0)));
        for content in [bytes("abc"), bytes("def"), exit.clone(), bytes("gh")] {
            recent.push(content);
        }
        assert_eq!((recent.start(), recent.end()), (10, 19));
        assert_eq!(recent.from(9, 100), None);
        assert_eq!(recent.from(12, 3), Some(vec![(12, bytes("cde"))]));
        assert_eq!(recent.from(15, 3), Some(vec![(15, bytes("f")), (16, exit), (17, bytes("g"))]));
        assert_eq!(recent.from(19, 5), Some(vec![]));
    }

    #[test]
    fn the_oldest_goes_but_nothing_that_is_not_in_the_log_yet() {
        let mut recent = Recent::at(0);
        for _ in 0..100 {
            recent.push(Content::Bytes(Bytes::from(vec![b'x'; 8 * 1024])));
        }
        recent.trim(0);
        assert_eq!(recent.start(), 0);
        recent.trim(500 * 1024);
        assert_eq!(recent.start(), 496 * 1024);
        recent.trim(recent.end());
        assert_eq!(recent.end() - recent.start(), RECENT_MAX_BYTES);
    }
}
