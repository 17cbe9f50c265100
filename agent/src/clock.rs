//! The only door through which time and randomness come in.
//!
//! Two clocks: the wall clock, which somebody may set and which therefore only
//! dates messages; and the boot clock, which counts milliseconds since the host
//! started (also those it slept), never goes back, and measures every duration.
//! The boot clock outlives the agent: a deadline noted before a restart of the
//! agent still holds after it, as long as the boot id is the same.

use std::{io::Read as _, sync::Mutex};

use nix::time::{ClockId, clock_gettime};
use quarterdeck_protocol::time::Timestamp;
use uuid::Uuid;

use crate::domain::Moment;

/// Time and randomness, for the system or for a test.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Says what the device's clock shows.
    fn wall(&self) -> Timestamp;
    /// Says how long the host has been up.
    fn now(&self) -> Moment;
    /// Draws a number below `bound`; 0 when `bound` is 0.
    fn random_below(&self, bound: u64) -> u64;
    /// Draws a random id.
    fn random_id(&self) -> Uuid;
}

/// The host's clocks and the kernel's randomness.
#[derive(Debug, Default)]
pub struct SystemClock {
    random: Mutex<()>,
}

impl SystemClock {
    fn random_bytes(&self) -> [u8; 16] {
        let _one_reader = self.random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut bytes = [0; 16];
        let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
        read.expect("every Linux has /dev/urandom");
        bytes
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock module")]
    fn wall(&self) -> Timestamp {
        jiff::Timestamp::now().into()
    }

    fn now(&self) -> Moment {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has a boot clock");
        Moment::from_millis(time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000)
    }

    fn random_below(&self, bound: u64) -> u64 {
        let bytes = self.random_bytes();
        let number = u64::from_le_bytes(bytes[..8].try_into().expect("eight of sixteen"));
        if bound == 0 { 0 } else { number % bound }
    }

    fn random_id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random_bytes()).into_uuid()
    }
}

/// Waits between attempts: full jitter, doubling up to a cap, so that a fleet
/// that lost its server does not come back as one.
#[derive(Debug)]
pub struct Backoff {
    attempts: u32,
    first_ms: u64,
    most_ms: u64,
}

impl Backoff {
    pub const fn new(first_ms: u64, most_ms: u64) -> Self {
        Self { attempts: 0, first_ms, most_ms }
    }

    /// Draws the next wait, in milliseconds.
    pub fn next_ms(&mut self, clock: &dyn Clock) -> u64 {
        let ceiling = self.first_ms.saturating_mul(1 << self.attempts.min(20)).min(self.most_ms);
        self.attempts = self.attempts.saturating_add(1);
        clock.random_below(ceiling.saturating_add(1))
    }

    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_grows_to_its_cap_and_starts_again() {
        let clock = SystemClock::default();
        let mut backoff = Backoff::new(100, 1_000);
        for ceiling in [100, 200, 400, 800, 1_000, 1_000] {
            assert!(backoff.next_ms(&clock) <= ceiling);
        }
        backoff.reset();
        assert!(backoff.next_ms(&clock) <= 100);
    }

    #[test]
    fn the_boot_clock_never_goes_back() {
        let clock = SystemClock::default();
        let (first, second) = (clock.now(), clock.now());
        assert!(second >= first);
    }
}
