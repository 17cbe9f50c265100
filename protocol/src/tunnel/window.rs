//! How much of a terminal's output may be on its way: what its controlling
//! console drains in a round trip and a quarter of a second.
//!
//! So ^C during a flood is seen at once, also on a slow link: there is never more
//! than that before the prompt. A window that is too small measures itself: as
//! long as output waits, what is drained in a round trip grows with the window,
//! until the slowest part of the way sets the rate.

use super::{
    Tick,
    limits::{WINDOW_DEFAULT_BYTES, WINDOW_MIN_BYTES},
};

/// What may wait beyond the round trip, in microseconds.
const SLACK_US: u64 = 250_000;
/// How long a drain is measured before the rate moves, in microseconds.
const MEASURE_US: u64 = 50_000;
/// The largest window of a terminal.
pub const TERMINAL_WINDOW_MAX_BYTES: u32 = 1024 * 1024;

/// Follows how fast a console drains.
#[derive(Debug, Clone)]
pub struct DrainWindow {
    began: Tick,
    drained_bytes: u64,
    was_busy: bool,
    /// Bytes a second; unknown until a drain was measured.
    rate: Option<u64>,
}

impl DrainWindow {
    pub const fn new(now: Tick) -> Self {
        Self { began: now, drained_bytes: 0, was_busy: true, rate: None }
    }

    /// Notes that the console took `bytes`; `is_busy` says that more waits for it.
    pub fn drained(&mut self, bytes: u64, is_busy: bool, now: Tick) {
        self.drained_bytes += bytes;
        self.was_busy &= is_busy;
        let spent_us = now.us_since(self.began);
        if spent_us < MEASURE_US {
            return;
        }
        let measured = self.drained_bytes.saturating_mul(1_000_000) / spent_us;
        self.rate = match self.rate {
            // An idle console says nothing of what it could drain.
            Some(rate) if !self.was_busy => Some(rate.max(measured)),
            Some(rate) => Some(rate.midpoint(measured)),
            None => self.was_busy.then_some(measured),
        };
        (self.began, self.drained_bytes, self.was_busy) = (now, 0, true);
    }

    /// The window for a round trip of `rtt_us` from the device's program to the console.
    pub fn bytes(&self, rtt_us: u64) -> u32 {
        let Some(rate) = self.rate else { return WINDOW_DEFAULT_BYTES };
        let window = u128::from(rate) * u128::from(rtt_us.saturating_add(SLACK_US)) / 1_000_000;
        u32::try_from(window).unwrap_or(u32::MAX).clamp(WINDOW_MIN_BYTES, TERMINAL_WINDOW_MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drains `rate` bytes a second for a second, as far as the window lets it.
    fn drain(window: &mut DrainWindow, rate: u64, rtt_us: u64, from: Tick) -> Tick {
        let mut now = from;
        for _ in 0..20 {
            now = now.plus_us(50_000);
            let by_window = u64::from(window.bytes(rtt_us)) * 50_000 / rtt_us;
            window.drained((rate / 20).min(by_window), true, now);
        }
        now
    }

    #[test]
    fn a_slow_console_gets_what_it_drains_in_a_round_trip_and_a_quarter_second() {
        let mut window = DrainWindow::new(Tick::default());
        drain(&mut window, 200_000, 50_000, Tick::default());
        let bytes = window.bytes(50_000);
        assert!((55_000..=65_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_console_that_becomes_fast_is_given_more() {
        let mut window = DrainWindow::new(Tick::default());
        let now = drain(&mut window, 10_000, 50_000, Tick::default());
        assert_eq!(window.bytes(50_000), WINDOW_MIN_BYTES);
        drain(&mut window, 50_000_000, 50_000, now);
        assert_eq!(window.bytes(50_000), TERMINAL_WINDOW_MAX_BYTES);
    }

    #[test]
    fn idling_does_not_shrink_it() {
        let mut window = DrainWindow::new(Tick::default());
        let mut now = drain(&mut window, 400_000, 50_000, Tick::default());
        let before = window.bytes(50_000);
        for _ in 0..100 {
            now = now.plus_us(100_000);
            window.drained(1, false, now);
        }
        assert_eq!(window.bytes(50_000), before);
    }
}
