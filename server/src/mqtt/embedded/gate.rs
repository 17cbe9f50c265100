//! Holds acknowledgements back until what they acknowledge is durable.
//!
//! A device may say many messages before the first is committed: they share
//! commits, and their acknowledgements leave in the order of the messages
//! (MQTT 3.1.1, section 4.6), many in one write.
//!
//! ```text
//!   message --> engine --commit--+
//!      |                         v
//!      +------> [ack, ack, ack, ack] --> device        a failed commit: the connection ends
//! ```

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use super::wire::PacketId;
use crate::mqtt::{limits::ACKS_HELD_MAX, link::AckWaiter};

/// What the device is told once a message is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    /// PUBACK, of QoS 1.
    Acked(PacketId),
    /// PUBREC, of QoS 2.
    Received(PacketId),
}

/// The commit failed: the device must say it again, on a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotCommitted;

#[derive(Debug, Default)]
pub(super) struct Gate(VecDeque<(Ack, Option<AckWaiter>)>);

impl Gate {
    /// Whether nothing more may be taken for now.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= ACKS_HELD_MAX
    }

    /// Holds an acknowledgement behind its commit and all that came before; `None` behind these alone.
    pub(super) fn hold(&mut self, ack: Ack, commit: Option<AckWaiter>) {
        self.0.push_back((ack, commit));
    }

    /// Gives the next acknowledgement that may leave.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Ack, NotCommitted>> {
        let Some((ack, commit)) = self.0.front_mut() else { return Poll::Pending };
        let ack = *ack;
        if let Some(waiter) = commit {
            match waiter.poll_committed(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(false) => return Poll::Ready(Err(NotCommitted)),
                Poll::Ready(true) => {}
            }
        }
        self.0.pop_front();
        // An idle connection is to hold no memory for acknowledgements.
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        Poll::Ready(Ok(ack))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::mqtt::link::AckHandle;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not 0")
    }

    #[test]
    fn acknowledgements_leave_in_order_each_after_its_commit() {
        let mut context = Context::from_waker(Waker::noop());
        let mut gate = Gate::default();
        let ((first, one), (second, two)) = (AckHandle::pair(), AckHandle::pair());
        gate.hold(Ack::Acked(id(1)), Some(one));
        gate.hold(Ack::Received(id(2)), Some(two));
        gate.hold(Ack::Received(id(2)), None);
        assert_eq!(gate.poll(&mut context), Poll::Pending);
        second.committed();
        assert_eq!(gate.poll(&mut context), Poll::Pending);
        first.committed();
        for ack in [Ack::Acked(id(1)), Ack::Received(id(2)), Ack::Received(id(2))] {
            assert_eq!(gate.poll(&mut context), Poll::Ready(Ok(ack)));
        }
        assert_eq!(gate.poll(&mut context), Poll::Pending);
    }

    #[test]
    fn nothing_leaves_after_a_failed_commit() {
        let mut context = Context::from_waker(Waker::noop());
        let mut gate = Gate::default();
        let ((first, one), (second, two)) = (AckHandle::pair(), AckHandle::pair());
        gate.hold(Ack::Acked(id(1)), Some(one));
        gate.hold(Ack::Acked(id(2)), Some(two));
        second.committed();
        drop(first);
        assert_eq!(gate.poll(&mut context), Poll::Ready(Err(NotCommitted)));
    }

    #[test]
    fn it_is_full_at_its_bound() {
        let mut gate = Gate::default();
        for n in 1..=ACKS_HELD_MAX {
            assert!(!gate.is_full());
            gate.hold(Ack::Acked(id(n as u16)), None);
        }
        assert!(gate.is_full());
    }
}
