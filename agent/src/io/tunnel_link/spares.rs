//! The memory of large frames that have left, for those that come.
//!
//! What the allocator gives back to the system is new to the process the next
//! time, which then faults in every page of it: an eighth of the agent's time
//! when a forward pours.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quarterdeck_protocol::tunnel::frame::{Body, Frame};

/// The data of a frame from which on its memory is kept, in bytes.
const LARGE_BYTES: usize = 16 * 1024;

pub(super) struct Spares {
    /// The oldest first; whoever sends may have some of them still.
    frames: VecDeque<Bytes>,
    most: usize,
}

impl Spares {
    /// Keeps the memory of `most` frames, 64 KiB each.
    pub(super) const fn new(most: usize) -> Self {
        Self { frames: VecDeque::new(), most }
    }

    pub(super) fn encode(&mut self, frame: &Frame) -> Bytes {
        if !matches!(&frame.body, Body::Data(bytes) if bytes.len() >= LARGE_BYTES) {
            return frame.to_bytes();
        }
        let mut room = self.take();
        frame.encode(&mut room);
        let encoded = room.freeze();
        if self.frames.len() < self.most {
            self.frames.push_back(encoded.clone());
        }
        encoded
    }

    /// The memory of the oldest if that has left, else some that is new.
    fn take(&mut self) -> BytesMut {
        match self.frames.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(mut room)) => {
                room.clear();
                room
            }
            Some(Err(waiting)) => {
                self.frames.push_front(waiting);
                BytesMut::new()
            }
            None => BytesMut::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::tunnel::{StreamKey, frame::Epoch};

    use super::*;

    fn frame(fill: u8, data_bytes: usize) -> Frame {
        Frame {
            key: StreamKey { tunnel: 1, stream: 0 },
            epoch: Epoch { from: 1, to: 1 },
            is_opening: false,
            wants_reply: false,
            has_taken_end: false,
            offset: 0,
            ack: 0,
            credit: 0,
            body: Body::Data(vec![fill; data_bytes].into()),
        }
    }

    #[test]
    fn a_large_frame_has_the_memory_of_one_that_has_left() {
        let mut spares = Spares::new(2);
        let first = spares.encode(&frame(1, LARGE_BYTES));
        let place = first.as_ptr();
        drop(first);
        // One of few bytes does not take it.
        let small = spares.encode(&frame(2, 1));
        let next = spares.encode(&frame(3, LARGE_BYTES));
        assert_eq!(next.as_ptr(), place);
        assert_eq!(next, frame(3, LARGE_BYTES).to_bytes());
        assert_eq!(small, frame(2, 1).to_bytes());
    }

    #[test]
    fn what_has_not_left_is_not_touched_and_no_more_is_kept_than_may_be() {
        let mut spares = Spares::new(2);
        let waiting: Vec<Bytes> =
            (0..9).map(|fill| spares.encode(&frame(fill, LARGE_BYTES))).collect();
        for (fill, encoded) in (0..).zip(&waiting) {
            assert_eq!(*encoded, frame(fill, LARGE_BYTES).to_bytes());
        }
        assert_eq!(spares.frames.len(), 2);
        let left = waiting[0].as_ptr();
        drop(waiting);
        assert_eq!(spares.encode(&frame(9, LARGE_BYTES)).as_ptr(), left);
    }
}
