//! Whether a device is there (chapter 6).
//!
//! ```text
//!              connected, status online, heartbeat
//!   Offline ─────────────────────────────────────────▶ Online ◀──┐ heartbeat
//!      ▲  ▲                                             │   │    │
//!      │  └── last will, disconnect, status offline ────┘   └──▶ Stale
//!      └───────────────── the same, or missed while unconnected ──┘   3 heartbeats missed
//! ```
//!
//! A device may connect anew before the broker has noticed that the connection
//! before is dead. Each connection has a rising number; what an older one than
//! the latest still reports says nothing of the device's presence.
//!
//! While the server or its broker was down nobody heard anything, so nobody
//! missed anything: [`Event::Deaf`] starts the count anew. Nor is anybody known to
//! be there: until a device has come again, its status stands as one from before.
//!
//! ```text
//!   Online, Stale ──deaf──▶ Unheard ── connected, heartbeat ──▶ Online
//!                             └── gone, or silent for 3 heartbeats ──▶ Offline
//! ```

use quarterdeck_protocol::{
    device::DeviceStatus,
    limits::{HEARTBEAT_PERIOD_MS, HEARTBEATS_MISSED_MAX},
};

/// How long a device may be silent before it is stale, in milliseconds.
pub const SILENCE_MAX_MS: i64 = HEARTBEAT_PERIOD_MS * HEARTBEATS_MISSED_MAX;

/// What is known of a device's presence. Instants are on the steady clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Online {
        heard_ms: i64,
        connected: bool,
    },
    /// Silent, though its connection seems to stand.
    Stale {
        connected: bool,
    },
    /// It was there before the server could not hear, and has not come again since `since_ms`.
    Unheard {
        since_ms: i64,
        was: Before,
    },
    Offline,
    Retired,
}

/// What a device was when it was last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Online,
    Stale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The broker tells of a connection, or the device itself does in its status.
    Connected,
    /// A heartbeat.
    Heard,
    /// The connection ended, or the last will says so.
    Gone,
    /// Time has passed.
    Due,
    /// The server could not hear until now, or cannot from now on.
    Deaf,
}

impl Presence {
    pub const fn status(&self) -> DeviceStatus {
        match self {
            Self::Online { .. } | Self::Unheard { was: Before::Online, .. } => DeviceStatus::Online,
            Self::Stale { .. } | Self::Unheard { was: Before::Stale, .. } => DeviceStatus::Stale,
            Self::Offline => DeviceStatus::Offline,
            Self::Retired => DeviceStatus::Retired,
        }
    }

    /// When [`Event::Due`] is to come.
    pub const fn due(&self) -> Option<i64> {
        match self {
            Self::Online { heard_ms: since_ms, .. } | Self::Unheard { since_ms, .. } => {
                Some(*since_ms + SILENCE_MAX_MS)
            }
            Self::Stale { .. } | Self::Offline | Self::Retired => None,
        }
    }

    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Online { connected: true, .. } | Self::Stale { connected: true })
    }

    pub const fn is_unheard(&self) -> bool {
        matches!(self, Self::Unheard { .. })
    }
}

/// Decides what an event makes of a device's presence.
pub fn step(presence: Presence, event: Event, now_ms: i64) -> Presence {
    let is_due = presence.due().is_some_and(|due| due <= now_ms);
    match (presence, event) {
        (Presence::Retired, _) => Presence::Retired,
        (_, Event::Connected) => Presence::Online { heard_ms: now_ms, connected: true },
        (Presence::Online { connected, .. } | Presence::Stale { connected }, Event::Heard) => {
            Presence::Online { heard_ms: now_ms, connected }
        }
        (Presence::Unheard { .. } | Presence::Offline, Event::Heard) => {
            Presence::Online { heard_ms: now_ms, connected: false }
        }
        (_, Event::Gone) | (Presence::Offline, Event::Deaf) => Presence::Offline,
        (Presence::Online { connected: true, .. }, Event::Due) if is_due => {
            Presence::Stale { connected: true }
        }
        (Presence::Online { .. } | Presence::Unheard { .. }, Event::Due) if is_due => {
            Presence::Offline
        }
        (unchanged, Event::Due) => unchanged,
        (Presence::Online { .. }, Event::Deaf) => {
            Presence::Unheard { since_ms: now_ms, was: Before::Online }
        }
        (Presence::Stale { .. }, Event::Deaf) => {
            Presence::Unheard { since_ms: now_ms, was: Before::Stale }
        }
        (Presence::Unheard { was, .. }, Event::Deaf) => Presence::Unheard { since_ms: now_ms, was },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONLINE: Presence = Presence::Online { heard_ms: 0, connected: true };
    const SEEN: Presence = Presence::Online { heard_ms: 0, connected: false };
    const STALE: Presence = Presence::Stale { connected: true };
    const UNHEARD: Presence = Presence::Unheard { since_ms: 0, was: Before::Stale };

    #[test]
    fn every_presence_meets_every_event() {
        use Event as E;
        use Presence as P;
        let now = SILENCE_MAX_MS;
        let online = P::Online { heard_ms: now, connected: true };
        let seen = P::Online { heard_ms: now, connected: false };
        let unheard = P::Unheard { since_ms: now, was: Before::Online };
        let unheard_stale = P::Unheard { since_ms: now, was: Before::Stale };
        for (presence, event, expected) in [
            (ONLINE, E::Connected, online),
            (ONLINE, E::Heard, online),
            (ONLINE, E::Gone, P::Offline),
            (ONLINE, E::Due, STALE),
            (ONLINE, E::Deaf, unheard),
            (SEEN, E::Connected, online),
            (SEEN, E::Heard, seen),
            (SEEN, E::Gone, P::Offline),
            (SEEN, E::Due, P::Offline),
            (SEEN, E::Deaf, unheard),
            (STALE, E::Connected, online),
            (STALE, E::Heard, online),
            (STALE, E::Gone, P::Offline),
            (STALE, E::Due, STALE),
            (STALE, E::Deaf, unheard_stale),
            (UNHEARD, E::Connected, online),
            (UNHEARD, E::Heard, seen),
            (UNHEARD, E::Gone, P::Offline),
            (UNHEARD, E::Due, P::Offline),
            (UNHEARD, E::Deaf, unheard_stale),
            (P::Offline, E::Connected, online),
            (P::Offline, E::Heard, seen),
            (P::Offline, E::Gone, P::Offline),
            (P::Offline, E::Due, P::Offline),
            (P::Offline, E::Deaf, P::Offline),
            (P::Retired, E::Connected, P::Retired),
            (P::Retired, E::Heard, P::Retired),
            (P::Retired, E::Gone, P::Retired),
            (P::Retired, E::Due, P::Retired),
            (P::Retired, E::Deaf, P::Retired),
        ] {
            assert_eq!(step(presence, event, now), expected, "{presence:?} {event:?}");
        }
        for presence in [ONLINE, SEEN, UNHEARD] {
            let early = step(presence, E::Due, now - 1);
            assert_eq!(early, presence, "not before three heartbeats are missing");
        }
    }

    #[test]
    fn a_device_that_is_unheard_keeps_its_status_and_is_not_taken_for_connected() {
        for (before, status) in [(ONLINE, DeviceStatus::Online), (STALE, DeviceStatus::Stale)] {
            let unheard = step(before, Event::Deaf, 7);
            assert_eq!((unheard.status(), unheard.is_unheard()), (status, true));
            assert!(!unheard.is_connected());
            assert_eq!(unheard.due(), Some(7 + SILENCE_MAX_MS));
        }
    }

    proptest! {
        #[test]
        fn a_device_that_speaks_in_time_is_never_stale(gaps in prop::collection::vec(0..SILENCE_MAX_MS, 1..50)) {
            let (mut now, mut presence) = (0, ONLINE);
            for gap in gaps {
                now += gap;
                presence = step(presence, Event::Due, now);
                prop_assert_eq!(presence.status(), DeviceStatus::Online);
                presence = step(presence, Event::Heard, now);
            }
        }
    }
}
