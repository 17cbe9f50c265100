//! How often somebody may guess a password or a token: token buckets in memory.
//!
//! | who signs in | a failure counts for | how many at once |
//! | --- | --- | --- |
//! | a person, by a password | the name at that address, the name, the address | as many as may fail: each could be a guess |
//! | one who was here before | the name at that address | the same |
//! | a machine, by 256 random bits | the name at that address, the address | any: nobody guesses those |
//!
//! A success takes nothing. So an attacker behind the same router as an office,
//! or one who guesses a colleague's password from elsewhere, does not lock out
//! those who know theirs; and a hall of devices that enrols at once, all from
//! one address, is let in.

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
    buckets: Mutex<Buckets>,
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
        let counted = with_room(&mut buckets, counted, steady_ms);
        admits(&buckets, &counted, steady_ms)?;
        take_from(&mut buckets, &counted, steady_ms);
        Ok(Guess(counted))
    }

    /// Tells whether a machine may show its secret; only [`Self::machine_failed`] takes a guess.
    pub fn machine_may_try(
        &self,
        address: IpAddr,
        name: &str,
        steady_ms: i64,
    ) -> Result<(), TooMany> {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        admits(&buckets, &of_machine(address, name), steady_ms)
    }

    /// Takes a guess: a machine's secret was wrong.
    pub fn machine_failed(&self, address: IpAddr, name: &str, steady_ms: i64) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = with_room(&mut buckets, of_machine(address, name), steady_ms);
        take_from(&mut buckets, &counted, steady_ms);
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

type Buckets = HashMap<Counted, Bucket>;

/// Leaves out the newcomers for which there is no room; they share one bucket.
fn with_room(buckets: &mut Buckets, mut counted: Vec<Counted>, steady_ms: i64) -> Vec<Counted> {
    if buckets.len() + counted.len() > BUCKETS_MAX {
        buckets.retain(|_, bucket| bucket.full_at_ms > steady_ms);
        if buckets.len() + counted.len() > BUCKETS_MAX {
            counted.retain(|c| buckets.contains_key(c));
            counted.push(Counted::Overflow);
        }
    }
    counted
}

fn admits(buckets: &Buckets, counted: &[Counted], steady_ms: i64) -> Result<(), TooMany> {
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
    Ok(())
}

fn take_from(buckets: &mut Buckets, counted: &[Counted], steady_ms: i64) {
    for counted in counted {
        let (burst, refill_ms) = (i64::from(counted.burst()), counted.refill_ms());
        let bucket = buckets.entry(counted.clone()).or_insert(Bucket { full_at_ms: steady_ms });
        // Many that were under way together may fail: the bucket is empty, not in debt.
        let full_at_ms = bucket.full_at_ms.max(steady_ms) + refill_ms;
        bucket.full_at_ms = full_at_ms.min(steady_ms + burst * refill_ms);
    }
}

fn of_machine(address: IpAddr, name: &str) -> Vec<Counted> {
    let address = network(address);
    let name = name.chars().take(super::USERNAME_MAX_BYTES).collect();
    vec![Counted::Pair(address, name), Counted::Address(address)]
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
    fn machines_are_counted_when_they_fail_and_not_before() {
        let limiter = Limiter::default();
        for _ in 0..1_000 {
            assert_eq!(limiter.machine_may_try(OFFICE, "enrolment", 0), Ok(()));
        }
        for _ in 0..1_000 {
            limiter.machine_failed(OFFICE, "enrolment", 0);
        }
        let refused = limiter.machine_may_try(OFFICE, "enrolment", 0).expect_err("run out");
        // However many failed together, one more may be tried after one time of refilling.
        assert_eq!(refused.retry_after_s, PAIR_REFILL_MS as u64 / 1000);
        assert_eq!(limiter.machine_may_try(OFFICE, "enrolment", PAIR_REFILL_MS), Ok(()));
        assert_eq!(limiter.machine_may_try(ELSEWHERE, "enrolment", 0), Ok(()));
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
