//! Waiting for conditions, never for durations.
//!
//! The deadline is generous, since a busy machine is slow and a test that
//! passes never reaches it.

use std::{fmt::Display, future::Future, time::Duration};

use anyhow::{Result, bail};

use crate::clock;

/// How long a condition may take before the test fails.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// The first and the longest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look<T> {
    Ready(T),
    /// Not yet, and what was there instead: the message when time runs out.
    NotYet(String),
}

impl<T> Look<T> {
    /// Says that what was found is not yet what is waited for.
    pub fn not_yet(found: impl Display) -> Self {
        Self::NotYet(found.to_string())
    }
}

/// Looks again and again until `look` is ready or errs, for at most [`DEADLINE`].
pub async fn wait_for<T, F>(what: &str, look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Look<T>>>,
{
    wait_for_within(DEADLINE, what, look).await
}

/// As [`wait_for`], with a deadline of its own.
pub async fn wait_for_within<T, F>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<Look<T>>>,
{
    let begun = clock::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match look().await? {
            Look::Ready(value) => return Ok(value),
            Look::NotYet(found) if begun.elapsed() > deadline => {
                bail!("waited {} s for {what}; found {found}", deadline.as_secs());
            }
            Look::NotYet(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// As [`wait_for`], for a condition that is only true or false.
pub async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, || {
        let met = condition();
        async move { Ok(if met { Look::Ready(()) } else { Look::not_yet("that it is not so") }) }
    })
    .await
}

/// Runs `future`, for at most [`DEADLINE`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => Ok(value),
        Err(_) => bail!("waited {} s for {what}", DEADLINE.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_message_says_what_was_waited_for_and_what_was_found() {
        let error = wait_for_within(Duration::ZERO, "a reply", || async {
            Ok(Look::<()>::not_yet("silence"))
        })
        .await
        .expect_err("never ready");
        assert_eq!(error.to_string(), "waited 0 s for a reply; found silence");
    }
}
