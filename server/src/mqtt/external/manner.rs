//! What the behaviour of a broker tells of it, and what follows for the next connection. Pure.
//!
//! ```text
//!            PUBREC
//!  Untried ─────────▶ Works
//!     │
//!     └─ RESENDS_MAX connections ended, each with a QoS 2 publish unanswered ─▶ Refused: QoS 1 from now on
//!
//!  a session kept by the broker
//!     └─ UNSOLICITED_MAX connections in a row ended by an acknowledgement of
//!        what we do not know any more ─▶ the next one begins a new session
//! ```
//!
//! Some clouds have no QoS 2 and end the connection of who publishes with it
//! (chapter 1); MQTT 3.1.1 has no other way to say so. And a broker goes on with
//! a handshake that a former process of ours began; the client library takes
//! that for an error, and would on each connection again.

use crate::mqtt::link::Qos;

/// Connections that may end with a QoS 2 publish unanswered until the broker counts as one without it.
pub(super) const RESENDS_MAX: u32 = 3;
/// Connections in a row that an acknowledgement nobody asked for may end.
pub(super) const UNSOLICITED_MAX: u32 = 2;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By an acknowledgement that we did not ask for.
    Unsolicited,
    Otherwise,
}

/// Whether the broker takes QoS 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExactlyOnce {
    Untried { unanswered: u32 },
    Works,
    Refused,
}

/// What is known of a broker that we publish to.
#[derive(Debug)]
pub(super) struct Manner(ExactlyOnce);

impl Manner {
    /// Knows nothing yet but the most that the operator says the broker has.
    pub(super) fn new(most: Qos) -> Self {
        Self(if most < Qos::ExactlyOnce {
            ExactlyOnce::Refused
        } else {
            ExactlyOnce::Untried { unanswered: 0 }
        })
    }

    /// The highest QoS to publish with.
    pub(super) fn most(&self) -> Qos {
        match self.0 {
            ExactlyOnce::Refused => Qos::AtLeastOnce,
            ExactlyOnce::Untried { .. } | ExactlyOnce::Works => Qos::ExactlyOnce,
        }
    }

    /// The broker took a QoS 2 publish.
    pub(super) fn received(&mut self) {
        if self.0 != ExactlyOnce::Refused {
            self.0 = ExactlyOnce::Works;
        }
    }

    /// A connection ended; `is_waiting` when a QoS 2 publish had been sent on it and not
    /// answered. Whether from now on nothing is to leave with more than QoS 1.
    pub(super) fn ended(&mut self, is_waiting: bool) -> bool {
        let ExactlyOnce::Untried { unanswered } = &mut self.0 else { return false };
        *unanswered += u32::from(is_waiting);
        let is_refused = *unanswered >= RESENDS_MAX;
        if is_refused {
            self.0 = ExactlyOnce::Refused;
        }
        is_refused
    }
}

/// What is known of the session that a broker keeps for us.
#[derive(Debug, Default)]
pub(super) struct Kept {
    unsolicited: u32,
}

impl Kept {
    /// A connection ended; whether the next one is to begin a new session.
    pub(super) fn ended(&mut self, end: End) -> bool {
        self.unsolicited = match end {
            End::Unsolicited => self.unsolicited + 1,
            End::Otherwise => 0,
        };
        let is_given_up = self.unsolicited >= UNSOLICITED_MAX;
        if is_given_up {
            self.unsolicited = 0;
        }
        is_given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_never_answers_qos_2_counts_as_one_without_it() {
        let mut manner = Manner::new(Qos::ExactlyOnce);
        for _ in 1..RESENDS_MAX {
            assert!(!manner.ended(true));
            // It was away, or nothing was under way: that says nothing.
            assert!(!manner.ended(false));
            assert_eq!(manner.most(), Qos::ExactlyOnce);
        }
        assert!(manner.ended(true));
        assert_eq!(manner.most(), Qos::AtLeastOnce);
        assert!(!manner.ended(true), "it is said once");
    }

    #[test]
    fn a_broker_that_answered_once_is_never_lowered() {
        let mut manner = Manner::new(Qos::ExactlyOnce);
        manner.received();
        for _ in 0..3 * RESENDS_MAX {
            assert!(!manner.ended(true));
        }
        assert_eq!(manner.most(), Qos::ExactlyOnce);
    }

    #[test]
    fn the_operator_may_say_it_beforehand() {
        let mut manner = Manner::new(Qos::AtLeastOnce);
        manner.received();
        assert_eq!(manner.most(), Qos::AtLeastOnce);
    }

    #[test]
    fn a_session_that_breaks_each_connection_is_left_behind_once() {
        let mut kept = Kept::default();
        for _ in 0..2 {
            for _ in 1..UNSOLICITED_MAX {
                assert!(!kept.ended(End::Unsolicited));
            }
            assert!(kept.ended(End::Unsolicited));
        }
        assert!(!kept.ended(End::Unsolicited));
        assert!(!kept.ended(End::Otherwise));
        assert!(!kept.ended(End::Unsolicited));
    }
}
