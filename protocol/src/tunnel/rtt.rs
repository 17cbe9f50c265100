//! The round trip and the time-out that follows from it (RFC 6298).

use super::limits::{RTO_FIRST_US, RTO_MAX_US, RTO_MIN_US};

/// Smoothed round trip, its variation, and the time-out, all in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rtt {
    smoothed: Option<Smoothed>,
}

#[derive(Debug, Clone, Copy)]
struct Smoothed {
    srtt_us: u64,
    var_us: u64,
}

impl Rtt {
    /// Takes the round trip of something that was sent once only (Karn).
    pub(super) fn sample(&mut self, rtt_us: u64) {
        let rtt_us = rtt_us.max(1);
        self.smoothed = Some(match self.smoothed {
            None => Smoothed { srtt_us: rtt_us, var_us: rtt_us / 2 },
            Some(Smoothed { srtt_us, var_us }) => Smoothed {
                var_us: (3 * var_us + srtt_us.abs_diff(rtt_us)) / 4,
                srtt_us: (7 * srtt_us + rtt_us) / 8,
            },
        });
    }

    pub(super) fn smoothed_us(&self) -> Option<u64> {
        self.smoothed.map(|smoothed| smoothed.srtt_us)
    }

    /// How long to wait for an answer after `timeouts` waits in a row were in vain.
    pub(super) fn timeout_us(&self, timeouts: u32) -> u64 {
        let first = match self.smoothed {
            None => RTO_FIRST_US,
            Some(Smoothed { srtt_us, var_us }) => {
                srtt_us.saturating_add(var_us.saturating_mul(4)).clamp(RTO_MIN_US, RTO_MAX_US)
            }
        };
        first.saturating_mul(1 << timeouts.min(16)).min(RTO_MAX_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_out_follows_the_round_trip_within_its_bounds() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout_us(0), RTO_FIRST_US);
        rtt.sample(100_000);
        assert_eq!(rtt.smoothed_us(), Some(100_000));
        assert_eq!(rtt.timeout_us(0), 300_000, "srtt + 4 · srtt / 2");
        for _ in 0..50 {
            rtt.sample(100_000);
        }
        assert_eq!(rtt.timeout_us(0), RTO_MIN_US);
        for _ in 0..50 {
            rtt.sample(60_000_000);
        }
        assert_eq!(rtt.timeout_us(0), RTO_MAX_US);
    }

    #[test]
    fn waits_in_vain_double_up_to_the_most() {
        let rtt = Rtt::default();
        let waits: Vec<_> = (0..5).map(|n| rtt.timeout_us(n) / 1_000).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(rtt.timeout_us(u32::MAX), RTO_MAX_US);
    }
}
