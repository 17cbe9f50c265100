//! When a frame may be drawn: at once after a key, at a steady pace for news.
//!
//! ```text
//!                 news, time                      a key
//!   Nothing ───────────────────▶ Soon ─────────────────▶ Now
//!      ▲                          │  a frame's time       │
//!      │                          │  after the last       │
//!      └───────── drawn ──────────┴────── at once ────────┘
//! ```
//!
//! One frame is under way at a time: while the writer holds one, none is due,
//! and what a key did is drawn the moment that it has left. Rows that change are
//! looked at once in a frame's time, however many they are, and also while
//! somebody holds a key. Pure: the loop says what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// Frames are at least this far apart, in milliseconds.
const FRAME_MS: u64 = 33;
/// The same on a slow link.
const FRAME_SLOW_MS: u64 = 250;

/// How much a new frame is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Nothing,
    /// Something may have changed by itself.
    Soon,
    /// Somebody waits to see what a key did.
    Now,
}

#[derive(Debug)]
pub(super) struct Pace {
    wanted: Wanted,
    /// A frame is under way.
    is_busy: bool,
    /// When the last frame was drawn.
    last: Instant,
    /// When news were taken last.
    taken: Instant,
    pub(super) low_bandwidth: bool,
}

impl Pace {
    /// The first frame is due at once.
    pub(super) const fn new(now: Instant) -> Self {
        Self { wanted: Wanted::Now, is_busy: false, last: now, taken: now, low_bandwidth: false }
    }

    /// What came was taken.
    pub(super) fn took(&mut self, now: Instant) {
        self.taken = now;
        self.news();
    }

    /// Something may have changed by itself.
    pub(super) fn news(&mut self) {
        self.wanted = self.wanted.max(Wanted::Soon);
    }

    /// Somebody pressed a key.
    pub(super) const fn key(&mut self) {
        self.wanted = Wanted::Now;
    }

    /// A frame was drawn; `is_written` when it had something to write.
    pub(super) const fn drawn(&mut self, now: Instant, is_written: bool) {
        *self = Self { wanted: Wanted::Nothing, is_busy: is_written, last: now, ..*self };
    }

    /// The frame under way has left.
    pub(super) const fn left(&mut self) {
        self.is_busy = false;
    }

    /// When the next frame is due; `None` while there is nothing to draw, or the writer is busy.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.wanted {
            _ if self.is_busy => None,
            Wanted::Nothing => None,
            Wanted::Soon => Some(self.last + self.frame_time()),
            Wanted::Now => Some(self.last),
        }
    }

    /// When rows that changed are looked at again.
    pub(super) fn rows_due(&self) -> Instant {
        self.taken + self.frame_time()
    }

    const fn frame_time(&self) -> Duration {
        Duration::from_millis(if self.low_bandwidth { FRAME_SLOW_MS } else { FRAME_MS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// A pace that drew a frame at the start, which has left.
    fn rested() -> (Pace, Instant) {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.drawn(start, true);
        pace.left();
        (pace, start)
    }

    #[test]
    fn news_waits_for_a_frames_time_and_a_key_does_not() {
        let (mut pace, start) = rested();
        assert_eq!(pace.due(), None);
        pace.news();
        assert_eq!(pace.due(), Some(at(start, FRAME_MS)));
        pace.key();
        assert_eq!(pace.due(), Some(start));
        pace.news();
        assert_eq!(pace.due(), Some(start), "news after a key does not put it off");
    }

    #[test]
    fn a_key_during_a_write_is_drawn_when_the_write_has_ended_and_not_a_frame_later() {
        let (mut pace, start) = rested();
        pace.news();
        pace.drawn(at(start, 40), true);
        pace.key();
        pace.news();
        assert_eq!(pace.due(), None, "one frame under way");
        pace.left();
        assert!(pace.due() <= Some(at(start, 40)), "{:?}", pace.due());
    }

    #[test]
    fn rows_are_looked_at_at_their_pace_while_a_key_is_held() {
        let (mut pace, start) = rested();
        for ms in [20, 40, 60] {
            pace.key();
            pace.drawn(at(start, ms), false);
        }
        assert_eq!(pace.rows_due(), at(start, FRAME_MS));
        pace.took(at(start, 61));
        assert_eq!(pace.rows_due(), at(start, 61 + FRAME_MS));
        assert_eq!(pace.due(), Some(at(start, 60 + FRAME_MS)));
    }

    #[test]
    fn a_frame_without_a_change_keeps_nobody_waiting_but_took_its_turn() {
        let (mut pace, start) = rested();
        pace.news();
        pace.drawn(at(start, 33), false);
        pace.news();
        assert_eq!(pace.due(), Some(at(start, 33 + FRAME_MS)));
        pace.low_bandwidth = true;
        assert_eq!(pace.due(), Some(at(start, 33 + FRAME_SLOW_MS)));
    }
}
