//! Whether the broker can be reached: all connections stand. And when to try again.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::sync::Mutex;

use crate::mqtt::{
    limits,
    link::{Inbound, InboundSender, Unheard},
};

/// One of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Hearing,
    Speaking,
    /// Frames of tunnels.
    Carrying,
}

/// What is known of them, and was said of it.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// By [`Side`]. Held while it is said, so that the last word is the true one.
    sides: Mutex<[bool; 3]>,
    is_up: AtomicBool,
}

impl Standing {
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// Nobody is told any more.
    pub(super) fn give_up(&self) {
        self.is_up.store(false, Ordering::Release);
    }

    /// Takes note of a side; says so when that makes a difference.
    pub(super) async fn set(
        &self,
        side: Side,
        stands: bool,
        inbound: &InboundSender,
    ) -> Result<(), Unheard> {
        let mut sides = self.sides.lock().await;
        sides[side as usize] = stands;
        let is_up = sides.iter().all(|stands| *stands);
        if self.is_up.swap(is_up, Ordering::AcqRel) == is_up {
            return Ok(());
        }
        inbound.send(if is_up { Inbound::LinkUp } else { Inbound::LinkDown }).await
    }
}

/// The pauses between tries of one connection: full jitter, longer each time.
#[derive(Debug)]
pub(super) struct Pauses {
    attempt: u32,
    random: fn() -> f64,
}

impl Pauses {
    pub(super) const fn new(random: fn() -> f64) -> Self {
        Self { attempt: 0, random }
    }

    pub(super) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The connection is of use.
    pub(super) const fn reset(&mut self) {
        self.attempt = 0;
    }

    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(pause(self.attempt, (self.random)())).await;
        self.attempt = self.attempt.saturating_add(1);
    }
}

/// Anywhere between at once and a bound that doubles.
fn pause(attempt: u32, random: f64) -> Duration {
    let bound_ms = limits::RECONNECT_FIRST_MS
        .saturating_mul(1 << attempt.min(20))
        .min(limits::RECONNECT_MAX_MS);
    Duration::from_millis(bound_ms).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::link;

    #[test]
    fn reconnects_wait_longer_and_never_beyond_the_bound() {
        assert_eq!(pause(0, 0.0), Duration::ZERO);
        assert_eq!(pause(0, 1.0), Duration::from_millis(limits::RECONNECT_FIRST_MS));
        assert_eq!(pause(3, 0.5), Duration::from_millis(limits::RECONNECT_FIRST_MS * 4));
        for attempt in [20, 64, u32::MAX] {
            assert_eq!(pause(attempt, 1.0), Duration::from_millis(limits::RECONNECT_MAX_MS));
        }
    }

    #[tokio::test]
    async fn the_link_is_up_while_all_sides_are() {
        use Side::{Carrying, Hearing, Speaking};
        let (sender, mut inbound) = link::inbound();
        let standing = Standing::default();
        let steps = [
            (Hearing, true, None),
            (Carrying, true, None),
            (Speaking, true, Some(true)),
            (Speaking, true, None),
            (Carrying, false, Some(false)),
            (Carrying, true, Some(true)),
            (Hearing, false, Some(false)),
            (Speaking, false, None),
            (Hearing, true, None),
            (Speaking, true, Some(true)),
        ];
        for (n, (side, stands, said)) in steps.into_iter().enumerate() {
            standing.set(side, stands, &sender).await.expect("heard");
            let Some(is_up) = said else { continue };
            let word = inbound.recv().await.expect("a word");
            assert_eq!(matches!(word, Inbound::LinkUp), is_up, "step {n}: {word:?}");
            assert_eq!(standing.is_up(), is_up);
        }
        drop(sender);
        assert!(inbound.recv().await.is_none(), "nothing was said twice");
    }
}
