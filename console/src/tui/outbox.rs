//! Requests on their way to the network, while its channel is full.
//!
//! A window that moves again before it could be told takes the place of the
//! earlier move; everything else keeps its order.

use std::collections::VecDeque;

use quarterdeck_protocol::{limits::LIVE_WINDOWS_MAX, live::ClientMessage};

use super::{app::calls::CALLS_MAX, effects::NetRequest};

/// The most requests that wait: each open window and call a few times over.
const OUTBOX_MAX: usize = 4 * (LIVE_WINDOWS_MAX + CALLS_MAX);

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<NetRequest>,
}

impl Outbox {
    /// Queues a request; `false` when nothing more fits, which only a dead network brings about.
    pub(super) fn push(&mut self, request: NetRequest) -> bool {
        if let NetRequest::Live(ClientMessage::Window { id, range }) = &request {
            for waiting in &mut self.waiting {
                if let NetRequest::Live(ClientMessage::Window { id: of, range: to }) = waiting
                    && of == id
                {
                    *to = *range;
                    return true;
                }
            }
        }
        if self.waiting.len() >= OUTBOX_MAX {
            return false;
        }
        self.waiting.push_back(request);
        true
    }

    pub(super) fn pop(&mut self) -> Option<NetRequest> {
        self.waiting.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarterdeck_protocol::live::Range;

    #[test]
    fn a_window_that_moves_on_waits_once() {
        let mut outbox = Outbox::default();
        for offset in 0..1000 {
            let range = Range { offset, limit: 10 };
            assert!(outbox.push(NetRequest::Live(ClientMessage::Window { id: 1, range })));
        }
        let Some(NetRequest::Live(ClientMessage::Window { range, .. })) = outbox.pop() else {
            panic!("a move")
        };
        assert_eq!(range.offset, 999);
        assert!(outbox.is_empty());
    }
}
