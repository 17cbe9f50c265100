//! When a connection is given up.
//!
//! ```text
//!   nothing heard for one and a half keep-alives --> Silent
//!   a write waits and gets nowhere for so long   --> Lost
//! ```

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use crate::mqtt::{limits::SEND_TIMEOUT_MS, link::Ended};

const SEND_TIMEOUT: Duration = Duration::from_millis(SEND_TIMEOUT_MS);

#[derive(Debug)]
pub(super) struct Patience {
    keep_alive: Option<Duration>,
    heard: Instant,
    /// Since when a write waits and gets nowhere.
    writing: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(keep_alive: Option<Duration>) -> Self {
        Self { keep_alive, heard: Instant::now(), writing: None, timer: None }
    }

    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    pub(super) fn writes(&mut self) {
        self.writing.get_or_insert_with(Instant::now);
    }

    pub(super) fn wrote(&mut self) {
        self.writing = None;
    }

    /// The next moment that matters, and what happens then.
    fn next(&self) -> Option<(Instant, Ended)> {
        let silent = self.keep_alive.map(|keep_alive| (self.heard + keep_alive, Ended::Silent));
        let stalled = self.writing.map(|since| (since + SEND_TIMEOUT, Ended::Lost));
        match (silent, stalled) {
            (Some(silent), Some(stalled)) => {
                Some(if silent.0 < stalled.0 { silent } else { stalled })
            }
            (one, other) => one.or(other),
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let Some((due, ended)) = self.next() else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // A timer that goes off too early is set again then: cheaper than at each packet.
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= due {
                return Poll::Ready(ended);
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn after(patience: &mut Patience) -> (Ended, Duration) {
        let begun = Instant::now();
        let ended = poll_fn(|context| patience.poll(context)).await;
        (ended, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_is_given_up_when_it_is_silent_or_takes_nothing() {
        let keep_alive = Duration::from_secs(15);
        let mut patience = Patience::new(Some(keep_alive));
        // Heard meanwhile: from then on.
        let early = tokio::time::timeout(Duration::from_secs(10), after(&mut patience)).await;
        assert!(early.is_err());
        patience.heard();
        assert_eq!(after(&mut patience).await, (Ended::Silent, keep_alive));

        patience.heard();
        patience.writes();
        assert_eq!(after(&mut patience).await, (Ended::Lost, SEND_TIMEOUT));
        patience.wrote();
        let mut patience = Patience::new(None);
        let never = tokio::time::timeout(Duration::from_secs(100_000), after(&mut patience)).await;
        assert!(never.is_err());
    }
}
