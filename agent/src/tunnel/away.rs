//! How long tunnels live on while the server cannot be reached. Pure.
//!
//! ```text
//!            down                       AWAY_MAX_S
//!   here ──────────▶ away ──────────────────────────────▶ over: device_lost
//!    ▲ up             │ refused   REFUSED_MAX_S, refused all the while
//!    └────────────────┴───────▶ refused ────────────────▶ over: not_allowed
//! ```
//!
//! A device that is retired is let in no more, so nobody can tell it that its
//! tunnels are over; and what nobody can reach any more is not to run for ever.
//! A broker that refuses for a moment, since it is just starting, ends nothing.

use quarterdeck_protocol::tunnel::{close::CloseCode, stream::Closed};
use tokio::time::{Duration, Instant};

/// As long as a tunnel may be open in all, by default (chapter 7), in seconds.
const AWAY_MAX_S: u64 = 2 * 3_600;
/// In seconds.
const REFUSED_MAX_S: u64 = 60;

/// Since when the server cannot be reached.
#[derive(Debug, Default)]
pub(super) struct Away {
    since: Option<Instant>,
    refused_since: Option<Instant>,
}

impl Away {
    pub(super) fn on_up(&mut self) {
        *self = Self::default();
    }

    /// There is no connection; `is_refused` when this device was not let in.
    pub(super) fn on_down(&mut self, is_refused: bool, now: Instant) {
        self.since.get_or_insert(now);
        if is_refused {
            self.refused_since.get_or_insert(now);
        } else {
            self.refused_since = None;
        }
    }

    /// When all tunnels are over, unless something happens before, and why.
    pub(super) fn end(&self) -> Option<(Instant, Closed)> {
        let refused = self.refused_since.map(|since| {
            let why = "the server does not let this device in any more";
            let closed = Closed::new(CloseCode::NotAllowed, why);
            (since + Duration::from_secs(REFUSED_MAX_S), closed)
        });
        let away = self.since.map(|since| {
            let why = "the server was away for as long as a tunnel may be open";
            let closed = Closed::new(CloseCode::DeviceLost, why);
            (since + Duration::from_secs(AWAY_MAX_S), closed)
        });
        refused.into_iter().chain(away).min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_ends_tunnels_and_when() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut away = Away::default();
        assert!(away.end().is_none());
        let steps = [
            // (seconds, refused, when it is over, why)
            (0, false, AWAY_MAX_S, CloseCode::DeviceLost),
            (10, true, 10 + REFUSED_MAX_S, CloseCode::NotAllowed),
            (20, true, 10 + REFUSED_MAX_S, CloseCode::NotAllowed),
            // Not refused: it was only starting.
            (30, false, AWAY_MAX_S, CloseCode::DeviceLost),
            (40, true, 40 + REFUSED_MAX_S, CloseCode::NotAllowed),
        ];
        for (seconds, is_refused, over, why) in steps {
            away.on_down(is_refused, at(seconds));
            let (end, closed) = away.end().expect("it is away");
            assert_eq!((end, closed.code), (at(over), why), "after {seconds} s");
        }
        away.on_up();
        assert!(away.end().is_none());
    }
}
