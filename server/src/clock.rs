//! The one place with time, ids and randomness.
//!
//! Two clocks. The *wall* clock says when something happened, for people; an
//! administrator or NTP may step it at any moment. The *steady* clock measures
//! durations: it follows `CLOCK_BOOTTIME`, so no step moves it, and it goes on
//! across restarts of the server from an anchor that is kept in the store:
//!
//! ```text
//!  anchor {steady, boottime, wall, boot id}       kept every few seconds
//!     │
//!     ├─ same boot id  ─▶ steady + (boottime now − boottime then)     exact
//!     └─ host rebooted ─▶ steady + max(0, wall now − wall then)       the only witness left
//! ```
//!
//! Every `_due` column is on the steady clock, every `_at` column on the wall
//! clock; the two are never compared (chapter 3: clock steps neither expire
//! nor revive anything).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use quarterdeck_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

/// How often the anchor is to be kept, in milliseconds.
pub const ANCHOR_PERIOD_MS: u64 = 5_000;
/// A difference of the two clocks' advance that counts as a step of the wall clock, in milliseconds.
const STEP_MIN_MS: i64 = 1_000;

/// What continues the steady clock after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    pub steady_ms: i64,
    pub boottime_ms: i64,
    pub wall_ms: i64,
    pub boot_id: String,
}

/// The time, ids and random bytes of one process. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    source: Source,
    ids: std::sync::Mutex<Ids>,
    /// Wall minus steady when last compared: it moves only when the wall clock steps.
    offset_ms: AtomicI64,
}

enum Source {
    System {
        steady_start_ms: i64,
        boottime_start_ms: i64,
        boot_id: String,
    },
    Manual {
        wall_ms: AtomicI64,
        steady_ms: AtomicI64,
        random: std::sync::Mutex<u64>,
        moved: Notify,
    },
}

impl Clock {
    /// Takes the machine's clocks; the steady one goes on from `anchor`.
    pub fn system(anchor: Option<&Anchor>) -> Self {
        let boot_id = host_boot_id();
        let boottime_start_ms = read_clock(ClockId::CLOCK_BOOTTIME);
        let wall_ms = read_clock(ClockId::CLOCK_REALTIME);
        let steady_start_ms =
            anchor.map_or(0, |anchor| continued(anchor, &boot_id, boottime_start_ms, wall_ms));
        Self::of(Source::System { steady_start_ms, boottime_start_ms, boot_id })
    }

    /// Makes a clock that only [`Clock::advance`] and [`Clock::step_wall`] move, with the same
    /// "random" bytes for the same seed: for tests and simulations.
    pub fn manual(wall: Timestamp, steady_ms: i64, seed: u64) -> Self {
        Self::of(Source::Manual {
            wall_ms: AtomicI64::new(wall.as_millis()),
            steady_ms: AtomicI64::new(steady_ms),
            random: std::sync::Mutex::new(seed),
            moved: Notify::new(),
        })
    }

    fn of(source: Source) -> Self {
        let ids = std::sync::Mutex::new(Ids::default());
        let clock = Self(Arc::new(Inner { source, ids, offset_ms: AtomicI64::new(0) }));
        clock.0.offset_ms.store(clock.wall().as_millis() - clock.steady(), Ordering::Relaxed);
        clock
    }

    /// The time of day. It may step in either direction.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_millis(match &self.0.source {
            Source::System { .. } => read_clock(ClockId::CLOCK_REALTIME),
            Source::Manual { wall_ms, .. } => wall_ms.load(Ordering::SeqCst),
        })
    }

    /// Milliseconds that only ever rise, also across restarts. All `_due` columns are of it.
    pub fn steady(&self) -> i64 {
        match &self.0.source {
            Source::System { steady_start_ms, boottime_start_ms, .. } => {
                steady_start_ms + (read_clock(ClockId::CLOCK_BOOTTIME) - boottime_start_ms).max(0)
            }
            Source::Manual { steady_ms, .. } => steady_ms.load(Ordering::SeqCst),
        }
    }

    /// Both clocks at one moment.
    pub fn now(&self) -> Now {
        Now { wall: self.wall(), steady_ms: self.steady() }
    }

    /// What a restarted server continues from.
    pub fn anchor(&self) -> Anchor {
        let (boottime_ms, boot_id) = match &self.0.source {
            Source::System { boot_id, .. } => {
                (read_clock(ClockId::CLOCK_BOOTTIME), boot_id.clone())
            }
            Source::Manual { steady_ms, .. } => {
                (steady_ms.load(Ordering::SeqCst), "manual".to_owned())
            }
        };
        Anchor { steady_ms: self.steady(), boottime_ms, wall_ms: self.wall().as_millis(), boot_id }
    }

    /// Tells by how much the wall clock stepped since the last call, in milliseconds; logs it.
    pub fn wall_step_ms(&self) -> Option<i64> {
        let offset_ms = self.wall().as_millis() - self.steady();
        let step_ms = offset_ms - self.0.offset_ms.swap(offset_ms, Ordering::Relaxed);
        // A slow drift is no step: it is taken into the offset each time.
        if step_ms.abs() < STEP_MIN_MS {
            return None;
        }
        tracing::warn!(step_ms, "the wall clock was stepped; durations are not affected");
        Some(step_ms)
    }

    /// Makes a UUIDv7 above all that this process made before, also when the wall clock went back.
    pub fn new_uuid(&self) -> Uuid {
        let mut random = [0_u8; 10];
        self.fill_random(&mut random);
        let wall_ms = self.wall().as_millis().max(0) as u64;
        let mut ids = self.0.ids.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ids.next(wall_ms, random)
    }

    /// Fills a buffer with random bytes that are fit for secrets (save on a manual clock).
    pub fn fill_random(&self, buffer: &mut [u8]) {
        match &self.0.source {
            Source::System { .. } => {
                aws_lc_rs::rand::fill(buffer)
                    .expect("the system's generator of random bytes works");
            }
            Source::Manual { random, .. } => {
                let mut state = random.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                for chunk in buffer.chunks_mut(8) {
                    chunk.copy_from_slice(&split_mix(&mut state).to_le_bytes()[..chunk.len()]);
                }
            }
        }
    }

    /// Makes an array of random bytes that are fit for secrets.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_random(&mut bytes);
        bytes
    }

    /// Waits until the steady clock has advanced by so much.
    pub async fn sleep_ms(&self, duration_ms: u64) {
        match &self.0.source {
            Source::System { .. } => tokio::time::sleep(Duration::from_millis(duration_ms)).await,
            Source::Manual { steady_ms, moved, .. } => {
                let until_ms = steady_ms.load(Ordering::SeqCst) + duration_ms as i64;
                loop {
                    let moves = moved.notified();
                    tokio::pin!(moves);
                    moves.as_mut().enable();
                    if steady_ms.load(Ordering::SeqCst) >= until_ms {
                        return;
                    }
                    moves.await;
                }
            }
        }
    }

    /// Lets time pass on a manual clock; a system clock passes by itself.
    pub fn advance(&self, duration_ms: i64) {
        if let Source::Manual { wall_ms, steady_ms, moved, .. } = &self.0.source {
            wall_ms.fetch_add(duration_ms, Ordering::SeqCst);
            steady_ms.fetch_add(duration_ms, Ordering::SeqCst);
            moved.notify_waiters();
        }
    }

    /// Steps the wall clock of a manual clock, in either direction.
    pub fn step_wall(&self, by_ms: i64) {
        if let Source::Manual { wall_ms, .. } = &self.0.source {
            wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("wall", &self.wall())
            .field("steady_ms", &self.steady())
            .finish_non_exhaustive()
    }
}

/// Both clocks at one moment: what a decision of the domain is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub wall: Timestamp,
    pub steady_ms: i64,
}

fn continued(anchor: &Anchor, boot_id: &str, boottime_ms: i64, wall_ms: i64) -> i64 {
    let passed_ms = if !boot_id.is_empty() && anchor.boot_id == boot_id {
        boottime_ms.saturating_sub(anchor.boottime_ms)
    } else {
        wall_ms.saturating_sub(anchor.wall_ms)
    };
    anchor.steady_ms.saturating_add(passed_ms.max(0))
}

/// Tells which boot of the host this is; empty where the kernel does not say.
fn host_boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn read_clock(id: ClockId) -> i64 {
    let time = clock_gettime(id).expect("the kernel has this clock");
    time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The last UUIDv7: its milliseconds, and the 74 bits behind them as a number.
#[derive(Debug, Default)]
struct Ids {
    millis: u64,
    tail: u128,
}

impl Ids {
    const TAIL_BITS: u32 = 74;

    fn next(&mut self, wall_ms: u64, random: [u8; 10]) -> Uuid {
        let mut wide = [0_u8; 16];
        wide[6..].copy_from_slice(&random);
        let random = u128::from_be_bytes(wide);
        if wall_ms > self.millis {
            self.millis = wall_ms;
            // The top bit stays free, so that a busy millisecond has room to count.
            self.tail = random & ((1 << (Self::TAIL_BITS - 1)) - 1);
        } else {
            // Guessing the next id from one stays hopeless: a random distance.
            self.tail += 1 + (random & 0xffff_ffff);
            if self.tail >> Self::TAIL_BITS != 0 {
                self.millis += 1;
                self.tail = random & ((1 << (Self::TAIL_BITS - 1)) - 1);
            }
        }
        let high = (self.tail >> 62) & 0xfff;
        let low = self.tail & ((1 << 62) - 1);
        let millis = u128::from(self.millis & 0xffff_ffff_ffff);
        Uuid::from_u128(millis << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn anchor(boot_id: &str) -> Anchor {
        Anchor { steady_ms: 5_000, boottime_ms: 100, wall_ms: 1_000_000, boot_id: boot_id.into() }
    }

    #[test]
    fn within_one_boot_a_restart_ignores_the_wall_clock() {
        assert_eq!(continued(&anchor("a"), "a", 350, 9_999_999_999), 5_250);
        assert_eq!(continued(&anchor("a"), "a", 350, 0), 5_250);
    }

    #[test]
    fn after_a_reboot_the_wall_clock_tells_how_long_it_took_but_never_less_than_nothing() {
        assert_eq!(continued(&anchor("a"), "b", 3, 1_007_000), 12_000);
        assert_eq!(continued(&anchor("a"), "b", 3, 400), 5_000);
        assert_eq!(continued(&anchor(""), "", 3, 1_000_500), 5_500);
    }

    #[test]
    fn a_step_of_the_wall_clock_is_told_once_and_leaves_the_steady_clock_alone() {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000), 7, 1);
        clock.advance(60_000);
        assert_eq!(clock.wall_step_ms(), None);
        clock.step_wall(-3_600_000);
        assert_eq!(clock.steady(), 60_007);
        assert_eq!(clock.wall_step_ms(), Some(-3_600_000));
        assert_eq!(clock.wall_step_ms(), None);
    }

    #[test]
    fn ids_rise_strictly_also_when_the_wall_clock_goes_back() {
        for clock in
            [Clock::manual(Timestamp::from_millis(1_700_000_000_000), 0, 3), Clock::system(None)]
        {
            let mut last = clock.new_uuid();
            assert_eq!(last.get_version_num(), 7);
            for round in 0..2_000 {
                if round % 100 == 50 {
                    clock.step_wall(-10_000);
                }
                let next = clock.new_uuid();
                assert!(next > last, "{next} after {last}");
                assert!(next.to_string() > last.to_string());
                assert_eq!(next.get_variant(), uuid::Variant::RFC4122);
                last = next;
            }
        }
    }

    #[test]
    fn a_busy_millisecond_runs_over_into_the_next() {
        let mut ids = Ids { millis: 5, tail: (1 << Ids::TAIL_BITS) - 1 };
        let before =
            Uuid::from_u128(5 << 80 | 7 << 76 | 0xfff << 64 | 0b10 << 62 | ((1 << 62) - 1));
        assert!(ids.next(5, [0xff; 10]) > before);
        assert_eq!(ids.millis, 6);
    }

    proptest! {
        #[test]
        fn a_restart_never_takes_time_back(
            steady_ms in 0_i64..1 << 50, boottime_ms in 0_i64..1 << 50, wall_ms in 0_i64..1 << 50,
            boottime_now in 0_i64..1 << 50, wall_now in 0_i64..1 << 50, same in any::<bool>(),
        ) {
            let anchor = Anchor { steady_ms, boottime_ms, wall_ms, boot_id: "a".into() };
            let boot_id = if same { "a" } else { "b" };
            prop_assert!(continued(&anchor, boot_id, boottime_now, wall_now) >= steady_ms);
        }
    }
}
