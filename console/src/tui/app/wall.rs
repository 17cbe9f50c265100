//! The wall screen: pages that turn by themselves.

use std::time::Duration;

use quarterdeck_protocol::time::Timestamp;

/// The pages, in turn.
pub const PAGES: [&str; 4] = ["fleet", "commands", "alerts", "sites"];
/// How long a new critical alert keeps its page.
const HOLD_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// The wall while it is shown.
#[derive(Debug, Clone)]
pub struct WallState {
    pub rotate_ms: i64,
    pub page: usize,
    pub since: Timestamp,
    pub paused: bool,
    /// Started as a wall: no key leaves it but an end of the program.
    pub for_ever: bool,
    started: Timestamp,
}

impl WallState {
    pub fn new(rotate: Duration, now: Timestamp, for_ever: bool) -> Self {
        let rotate_ms = i64::try_from(rotate.as_millis()).unwrap_or(i64::MAX).max(1_000);
        Self { rotate_ms, page: 0, since: now, paused: false, for_ever, started: now }
    }

    /// Turns the page when its time is over.
    pub fn tick(&mut self, now: Timestamp) {
        if !self.paused && now.millis_since(self.since) >= self.rotate_ms {
            self.turn(1, now);
        }
    }

    pub fn turn(&mut self, by: isize, now: Timestamp) {
        let n = PAGES.len() as isize;
        self.page = (self.page as isize + by).rem_euclid(n) as usize;
        self.since = now;
    }

    /// A new critical alert: shows the alerts, for a while longer than a page.
    pub fn jump_to_alerts(&mut self, now: Timestamp) {
        self.page = 2;
        self.since = now.plus_millis((HOLD_MS - self.rotate_ms).max(0));
    }

    /// A cell further every hour, so that no picture burns in.
    pub fn shift(&self, now: Timestamp) -> (u16, u16) {
        let hours = now.millis_since(self.started).max(0) / HOUR_MS;
        ((hours % 2) as u16, (hours / 2 % 2) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_turn_and_a_critical_alert_holds_its_page() {
        let start = Timestamp::from_millis(0);
        let mut wall = WallState::new(Duration::from_secs(15), start, true);
        wall.tick(start.plus_seconds(14));
        assert_eq!(wall.page, 0);
        wall.tick(start.plus_seconds(15));
        assert_eq!(wall.page, 1);
        wall.jump_to_alerts(start.plus_seconds(20));
        wall.tick(start.plus_seconds(79));
        assert_eq!(wall.page, 2);
        wall.tick(start.plus_seconds(80));
        assert_eq!(wall.page, 3);
        assert_eq!(wall.shift(start.plus_seconds(3700)), (1, 0));
    }
}
