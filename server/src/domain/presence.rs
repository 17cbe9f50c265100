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
//! missed anything: [`Event::ListeningAgain`] starts the count anew.

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
    Offline,
    Retired,
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
    /// The server listens again after it could not; nobody is connected to it yet.
    ListeningAgain { forgets_connections: bool },
}

impl Presence {
    pub const fn status(&self) -> DeviceStatus {
        match self {
            Self::Online { .. } => DeviceStatus::Online,
            Self::Stale { .. } => DeviceStatus::Stale,
            Self::Offline => DeviceStatus::Offline,
            Self::Retired => DeviceStatus::Retired,
        }
    }

    /// When [`Event::Due`] is to come.
    pub const fn due(&self) -> Option<i64> {
        match self {
            Self::Online { heard_ms, .. } => Some(*heard_ms + SILENCE_MAX_MS),
            Self::Stale { .. } | Self::Offline | Self::Retired => None,
        }
    }

    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Online { connected: true, .. } | Self::Stale { connected: true })
    }
}

/// Decides what an event makes of a device's presence.
pub fn step(presence: Presence, event: Event, now_ms: i64) -> Presence {
    match (presence, event) {
        (Presence::Retired, _) => Presence::Retired,
        (_, Event::Connected) => Presence::Online { heard_ms: now_ms, connected: true },
        (Presence::Online { connected, .. } | Presence::Stale { connected }, Event::Heard) => {
            Presence::Online { heard_ms: now_ms, connected }
        }
        (Presence::Offline, Event::Heard) => {
            Presence::Online { heard_ms: now_ms, connected: false }
        }
        (_, Event::Gone) => Presence::Offline,
        (Presence::Online { heard_ms, connected }, Event::Due)
            if heard_ms + SILENCE_MAX_MS <= now_ms =>
        {
            if connected {
                Presence::Stale { connected }
            } else {
                Presence::Offline
            }
        }
        (Presence::Online { connected, .. }, Event::ListeningAgain { forgets_connections }) => {
            Presence::Online { heard_ms: now_ms, connected: connected && !forgets_connections }
        }
        (Presence::Stale { connected }, Event::ListeningAgain { forgets_connections: true }) => {
            // It gets its chance to connect again; then it is offline.
            let _ = connected;
            Presence::Online { heard_ms: now_ms, connected: false }
        }
        (unchanged, Event::Due | Event::ListeningAgain { .. }) => unchanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONLINE: Presence = Presence::Online { heard_ms: 0, connected: true };
    const SEEN: Presence = Presence::Online { heard_ms: 0, connected: false };
    const STALE: Presence = Presence::Stale { connected: true };

    #[test]
    fn every_presence_meets_every_event() {
        use Event as E;
        use Presence as P;
        let now = SILENCE_MAX_MS;
        let online = P::Online { heard_ms: now, connected: true };
        let seen = P::Online { heard_ms: now, connected: false };
        let anew = E::ListeningAgain { forgets_connections: true };
        let link_back = E::ListeningAgain { forgets_connections: false };
        for (presence, event, expected) in [
            (ONLINE, E::Connected, online),
            (ONLINE, E::Heard, online),
            (ONLINE, E::Gone, P::Offline),
            (ONLINE, E::Due, STALE),
            (ONLINE, anew, seen),
            (ONLINE, link_back, online),
            (SEEN, E::Heard, seen),
            (SEEN, E::Due, P::Offline),
            (STALE, E::Connected, online),
            (STALE, E::Heard, online),
            (STALE, E::Gone, P::Offline),
            (STALE, E::Due, STALE),
            (STALE, anew, seen),
            (STALE, link_back, STALE),
            (P::Offline, E::Connected, online),
            (P::Offline, E::Heard, seen),
            (P::Offline, E::Gone, P::Offline),
            (P::Offline, E::Due, P::Offline),
            (P::Offline, anew, P::Offline),
            (P::Retired, E::Connected, P::Retired),
            (P::Retired, E::Heard, P::Retired),
            (P::Retired, E::Gone, P::Retired),
            (P::Retired, E::Due, P::Retired),
            (P::Retired, anew, P::Retired),
        ] {
            assert_eq!(step(presence, event, now), expected, "{presence:?} {event:?}");
        }
        assert_eq!(
            step(ONLINE, E::Due, now - 1),
            ONLINE,
            "not before three heartbeats are missing"
        );
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
