//! How often somebody may guess a password or a token: token buckets in memory.
//!
//! A failure takes from three buckets: of the address with that name, of the
//! name, of the address. A success takes nothing. Who signed in from this
//! address before is asked only for the first, so an attacker behind the same
//! router as an office, or one who guesses a colleague's password from
//! elsewhere, does not lock out those who know theirs.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

/// Wrong guesses at one name from one address: how many at once, and how long until the next one, in milliseconds.
pub const PAIR_BURST: u32 = 10;
pub const PAIR_REFILL_MS: i64 = 15_000;
/// Wrong guesses at one name from anywhere.
pub const NAME_BURST: u32 = 30;
pub const NAME_REFILL_MS: i64 = 10_000;
/// Wrong guesses from one address at any name.
pub const ADDRESS_BURST: u32 = 60;
pub const ADDRESS_REFILL_MS: i64 = 2_000;
/// Buckets that are kept; beyond them all newcomers share one.
pub const BUCKETS_MAX: usize = 50_000;

/// What guesses are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Counted {
    Pair(IpAddr, String),
    Name(String),
    Address(IpAddr),
    Overflow,
}

impl Counted {
    const fn burst(&self) -> u32 {
        match self {
            Self::Pair(..) => PAIR_BURST,
            Self::Name(_) => NAME_BURST,
            Self::Address(_) | Self::Overflow => ADDRESS_BURST,
        }
    }

    const fn refill_ms(&self) -> i64 {
        match self {
            Self::Pair(..) => PAIR_REFILL_MS,
            Self::Name(_) => NAME_REFILL_MS,
            Self::Address(_) | Self::Overflow => ADDRESS_REFILL_MS,
        }
    }
}

/// When a bucket will be full again; it holds less the further that is.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at_ms: i64,
}

/// Counts guesses.
#[derive(Debug, Default)]
pub struct Limiter {
    buckets: Mutex<HashMap<Counted, Bucket>>,
}

/// One guess that was allowed; give it back when it was right.
#[derive(Debug)]
#[must_use = "a guess that was right is given back"]
pub struct Guess(Vec<Counted>);

/// Says when to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    pub retry_after_s: u64,
}

impl Limiter {
    /// Takes one guess at `name` from `address`; `is_known` when that name signed in from there before.
    pub fn take(
        &self,
        address: IpAddr,
        name: &str,
        is_known: bool,
        steady_ms: i64,
    ) -> Result<Guess, TooMany> {
        let address = network(address);
        let name: String = name.chars().take(super::USERNAME_MAX_BYTES).collect();
        let mut counted = vec![Counted::Pair(address, name.clone())];
        if !is_known {
            counted.extend([Counted::Name(name), Counted::Address(address)]);
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() + counted.len() > BUCKETS_MAX {
            buckets.retain(|_, bucket| bucket.full_at_ms > steady_ms);
            if buckets.len() + counted.len() > BUCKETS_MAX {
                counted.retain(|c| buckets.contains_key(c));
                counted.push(Counted::Overflow);
            }
        }
        let wait_ms = counted
            .iter()
            .map(|counted| {
                let refill_ms = counted.refill_ms();
                let full_at_ms = buckets.get(counted).map_or(steady_ms, |bucket| bucket.full_at_ms);
                let spent_ms = full_at_ms.max(steady_ms) + refill_ms - steady_ms;
                spent_ms - i64::from(counted.burst()) * refill_ms
            })
            .max()
            .unwrap_or(0);
        if wait_ms > 0 {
            return Err(TooMany { retry_after_s: (wait_ms as u64).div_ceil(1000) });
        }
        for counted in &counted {
            let bucket = buckets.entry(counted.clone()).or_insert(Bucket { full_at_ms: steady_ms });
            bucket.full_at_ms = bucket.full_at_ms.max(steady_ms) + counted.refill_ms();
        }
        Ok(Guess(counted))
    }

    /// Gives a guess back: it was right.
    pub fn give_back(&self, guess: Guess) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        for counted in guess.0 {
            if let Some(bucket) = buckets.get_mut(&counted) {
                bucket.full_at_ms -= counted.refill_ms();
            }
        }
    }
}

/// An IPv6 host has a whole /64 to come from.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(segments.into())
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 99));

    #[test]
    fn guesses_at_one_name_run_out_and_come_back_with_time() {
        let limiter = Limiter::default();
        for _ in 0..PAIR_BURST {
            let _ = limiter.take(OFFICE, "ops", false, 0).expect("allowed");
        }
        let refused = limiter.take(OFFICE, "ops", false, 0).expect_err("run out");
        assert_eq!(refused.retry_after_s, PAIR_REFILL_MS as u64 / 1000);
        assert!(limiter.take(OFFICE, "ops", false, PAIR_REFILL_MS).is_ok());
        assert!(limiter.take(OFFICE, "ops", false, PAIR_REFILL_MS).is_err());
    }

    #[test]
    fn an_attacker_in_the_office_does_not_lock_out_who_signed_in_there_before() {
        let limiter = Limiter::default();
        let refused = (0..=ADDRESS_BURST)
            .filter(|n| limiter.take(OFFICE, &format!("guess-{n}"), false, 0).is_err())
            .count();
        assert_eq!(refused, 1);
        assert!(limiter.take(OFFICE, "new-colleague", false, 0).is_err());
        assert!(limiter.take(OFFICE, "ops", true, 0).is_ok());
    }

    #[test]
    fn guesses_at_a_name_from_many_addresses_run_out_but_not_for_who_is_known() {
        let limiter = Limiter::default();
        for n in 0..NAME_BURST {
            let from = IpAddr::V4(std::net::Ipv4Addr::from(
                u32::from(std::net::Ipv4Addr::new(198, 51, 100, 0)) + n,
            ));
            let _ = limiter.take(from, "ops", false, 0).expect("allowed");
        }
        assert!(limiter.take(ELSEWHERE, "ops", false, 0).is_err());
        assert!(limiter.take(OFFICE, "ops", true, 0).is_ok());
    }

    #[test]
    fn right_guesses_cost_nothing() {
        let limiter = Limiter::default();
        for _ in 0..1_000 {
            let guess = limiter.take(OFFICE, "ops", false, 0).expect("allowed");
            limiter.give_back(guess);
        }
    }
}
