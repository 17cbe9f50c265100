//! The only place where the console's network side asks for the time or for chance.

use std::time::Duration;

use quarterdeck_protocol::time::Timestamp;
use uuid::Uuid;

/// Returns the moment, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Timestamp {
    jiff::Timestamp::now().into()
}

/// Makes a key that nobody made before, for `Idempotency-Key`.
pub fn fresh_key() -> String {
    fresh_id().as_hyphenated().to_string()
}

/// Makes an id that nobody made before.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn fresh_id() -> Uuid {
    Uuid::now_v7()
}

/// Picks a time between zero and `max` ("full jitter"), so that consoles that
/// lost their server together do not come back together.
pub fn jitter(max: Duration) -> Duration {
    // The low half of a UUIDv7's last group is random.
    let chance = f64::from(fresh_id().as_u128() as u32) / f64::from(u32::MAX);
    max.mul_f64(chance)
}

/// How long to wait before attempt `attempt` (from 0): full jitter below `base` doubled each time, at most `cap`.
pub fn backoff(attempt: u32, base: Duration, cap: Duration) -> Duration {
    jitter(base.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_stays_below_its_cap_and_is_spread() {
        let cap = Duration::from_secs(10);
        let waits: Vec<_> =
            (0..64).map(|attempt| backoff(attempt, Duration::from_millis(250), cap)).collect();
        assert!(waits.iter().all(|wait| *wait <= cap));
        assert!(waits[0] <= Duration::from_millis(250));
        let late: std::collections::BTreeSet<_> = waits[10..].iter().collect();
        assert!(late.len() > 10, "late waits should differ: {late:?}");
    }
}
