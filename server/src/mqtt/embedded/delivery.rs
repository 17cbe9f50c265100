//! What is under way on one connection, in both directions. Pure.
//!
//! ```text
//!   to the device, QoS 1:   Sent --PUBACK--> done
//!   to the device, QoS 2:   Sent --PUBREC--> Released --PUBCOMP--> done
//!   from the device, QoS 2: taken --PUBREL--> done     a PUBLISH meanwhile is the same one again
//! ```
//!
//! Rules: MQTT 3.1.1 section 4.3, MQTT 5 sections 4.3 and 4.9.

use std::collections::{BTreeSet, VecDeque};

use super::wire::PacketId;
use crate::mqtt::{limits::UNRELEASED_MAX, link::Qos};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sent(Qos),
    Released,
}

/// What a QoS 2 message of the device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    New,
    /// It was said before, and not released since.
    Again,
    TooMany,
}

/// The messages of one connection that are not over.
#[derive(Debug)]
pub(super) struct Deliveries {
    /// Messages to the device; few, so that looking through them is quick.
    sent: VecDeque<(PacketId, Stage)>,
    sent_max: usize,
    last: u16,
    /// QoS 2 messages of the device that it has not released: at most one for each packet id.
    taken: BTreeSet<PacketId>,
}

impl Deliveries {
    pub(super) fn new(sent_max: u16) -> Self {
        Self {
            sent: VecDeque::new(),
            sent_max: usize::from(sent_max.max(1)),
            last: 0,
            taken: BTreeSet::new(),
        }
    }

    /// Whether a message that wants an answer may be sent now.
    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < self.sent_max
    }

    /// Begins to send a message; QoS 0 needs no packet id.
    pub(super) fn send(&mut self, qos: Qos) -> Option<PacketId> {
        if qos == Qos::AtMostOnce {
            return None;
        }
        let packet_id = self.unused();
        self.sent.push_back((packet_id, Stage::Sent(qos)));
        Some(packet_id)
    }

    /// PUBACK. One that answers nothing is passed over.
    pub(super) fn acked(&mut self, packet_id: PacketId) {
        self.sent.retain(|sent| *sent != (packet_id, Stage::Sent(Qos::AtLeastOnce)));
    }

    /// PUBREC; whether PUBREL is to be sent.
    pub(super) fn received(&mut self, packet_id: PacketId, took_it: bool) -> bool {
        let of_qos_1 = (packet_id, Stage::Sent(Qos::AtLeastOnce));
        if !took_it {
            self.sent.retain(|sent| sent.0 != packet_id || *sent == of_qos_1);
            return false;
        }
        for sent in &mut self.sent {
            if sent.0 == packet_id && *sent != of_qos_1 {
                sent.1 = Stage::Released;
            }
        }
        true
    }

    /// PUBCOMP.
    pub(super) fn complete(&mut self, packet_id: PacketId) {
        self.sent.retain(|sent| *sent != (packet_id, Stage::Released));
    }

    /// Whether the device may hold a QoS 2 message of ours that is not over.
    ///
    /// Its session is not kept then: the packet id would stay taken at the
    /// device, and the next message under it would be lost as the same again.
    pub(super) fn is_amid_qos_2(&self) -> bool {
        self.sent.iter().any(|(_, stage)| *stage != Stage::Sent(Qos::AtLeastOnce))
    }

    /// A QoS 2 message comes.
    ///
    /// On a new connection each is new: which were durable when the former one
    /// broke is not kept here. The engine knows a word that it has heard before.
    pub(super) fn take(&mut self, packet_id: PacketId) -> Taken {
        if self.taken.contains(&packet_id) {
            return Taken::Again;
        }
        if self.taken.len() >= UNRELEASED_MAX {
            return Taken::TooMany;
        }
        self.taken.insert(packet_id);
        Taken::New
    }

    /// PUBREL; whether there was such a message.
    pub(super) fn release(&mut self, packet_id: PacketId) -> bool {
        self.taken.remove(&packet_id)
    }

    fn unused(&mut self) -> PacketId {
        loop {
            self.last = self.last.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last)
                && !self.sent.iter().any(|(sent, _)| *sent == id)
            {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> PacketId {
        PacketId::new(n).expect("not 0")
    }

    #[test]
    fn a_message_to_the_device_has_its_place_until_its_answer_is_all_there() {
        let mut deliveries = Deliveries::new(2);
        assert_eq!(deliveries.send(Qos::AtMostOnce), None);
        let (first, second) =
            (deliveries.send(Qos::AtLeastOnce), deliveries.send(Qos::ExactlyOnce));
        assert_eq!((first, second), (Some(id(1)), Some(id(2))));
        assert!(!deliveries.has_room());
        // Answers of the wrong kind, and to nothing, change nothing.
        deliveries.acked(id(2));
        deliveries.complete(id(1));
        deliveries.complete(id(2));
        deliveries.acked(id(9));
        deliveries.received(id(1), true);
        deliveries.received(id(1), false);
        assert!(!deliveries.has_room());
        deliveries.acked(id(1));
        assert!(deliveries.has_room() && deliveries.is_amid_qos_2());
        assert!(deliveries.received(id(2), true));
        // Said twice, answered twice.
        assert!(deliveries.received(id(2), true));
        assert!(deliveries.is_amid_qos_2());
        deliveries.complete(id(2));
        assert!(!deliveries.is_amid_qos_2());
    }

    #[test]
    fn a_message_that_the_device_refuses_is_over() {
        let mut deliveries = Deliveries::new(1);
        let sent = deliveries.send(Qos::ExactlyOnce).expect("QoS 2");
        assert!(!deliveries.received(sent, false));
        assert!(deliveries.has_room() && !deliveries.is_amid_qos_2());
    }

    #[test]
    fn a_packet_id_is_used_again_only_when_it_is_free() {
        let mut deliveries = Deliveries::new(u16::MAX);
        let held = deliveries.send(Qos::AtLeastOnce).expect("QoS 1");
        for _ in 0..=u16::MAX {
            let next = deliveries.send(Qos::AtLeastOnce).expect("QoS 1");
            assert_ne!(next, held);
            deliveries.acked(next);
        }
    }

    #[test]
    fn a_qos_2_message_of_the_device_is_new_once() {
        let mut deliveries = Deliveries::new(1);
        assert_eq!(deliveries.take(id(7)), Taken::New);
        assert_eq!(deliveries.take(id(7)), Taken::Again);
        assert!(deliveries.release(id(7)));
        assert!(!deliveries.release(id(7)));
        for n in 1..=UNRELEASED_MAX as u16 {
            assert_eq!(deliveries.take(id(n)), Taken::New);
        }
        assert_eq!(deliveries.take(id(7)), Taken::Again);
        assert_eq!(deliveries.take(id(UNRELEASED_MAX as u16 + 1)), Taken::TooMany);
    }
}
