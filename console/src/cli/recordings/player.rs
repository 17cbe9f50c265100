//! Plays a recording on the operator's terminal, in its own time or in another.
//!
//! [`Pace`] says when what is shown, and is pure; [`play`] waits and shows. What
//! was recorded goes through the same filter as what a device writes now.

use std::io::{self, IsTerminal as _};

use tokio::{
    io::{AsyncWriteExt as _, stdout},
    time::{Duration, Instant, sleep_until},
};

use super::cast::{Event, Reader, What};
use crate::cli::{
    error::CliError,
    output::note,
    shell::{
        filter::Filter,
        local::{Keys, RawMode, terminal_size},
    },
};

/// The slowest and the fastest.
pub(super) const SPEED_MIN: f64 = 0.05;
pub(super) const SPEED_MAX: f64 = 1000.0;
/// What one key changes.
const SPEED_STEP: f64 = 1.5;
/// Events that are read ahead, so that a pause is not filled with a whole file.
const AHEAD_MAX_EVENTS: usize = 1024;

/// How fast a recording is played, and where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pace {
    speed: f64,
    idle_limit: Option<f64>,
    /// Before this nothing is waited for, in seconds of the recording.
    start: f64,
    /// Where we are, in seconds of the recording.
    at: f64,
    is_paused: bool,
    /// The next event comes at once.
    is_stepping: bool,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Leave,
    Other,
}

impl Pace {
    pub(super) const fn new(speed: f64, idle_limit: Option<f64>, start: f64) -> Self {
        Self { speed, idle_limit, start, at: 0.0, is_paused: false, is_stepping: false }
    }

    /// How many seconds pass before an event is shown; `None` while it is paused.
    fn wait(&self, event: &Event) -> Option<f64> {
        if self.is_stepping || event.at <= self.start {
            return Some(0.0);
        }
        if self.is_paused {
            return None;
        }
        let gap = (event.at - self.at.max(self.start)).max(0.0);
        Some(self.idle_limit.map_or(gap, |limit| gap.min(limit)) / self.speed)
    }

    /// Notes that an event was shown.
    const fn shown(&mut self, event: &Event) {
        self.at = event.at;
        // A step ends with something to see.
        if matches!(event.what, What::Output(_)) {
            self.is_stepping = false;
        }
    }

    fn key(&mut self, key: u8) -> Asked {
        match key {
            b'q' | 0x03 | 0x04 => return Asked::Leave,
            b' ' => self.is_paused = !self.is_paused,
            b'.' => {
                self.is_paused = true;
                self.is_stepping = true;
            }
            b'+' | b'=' => self.speed = (self.speed * SPEED_STEP).min(SPEED_MAX),
            b'-' => self.speed = (self.speed / SPEED_STEP).max(SPEED_MIN),
            _ => {}
        }
        Asked::Other
    }
}

/// Plays what `next` reads into its buffer until that says that nothing more comes.
pub(super) async fn play(
    reader: &mut Reader,
    mut next: impl AsyncFnMut(&mut Vec<u8>) -> Result<bool, CliError>,
    mut pace: Pace,
) -> Result<(), CliError> {
    let is_terminal = io::stdout().is_terminal();
    let has_keys = is_terminal && io::stdin().is_terminal();
    let raw = has_keys.then(RawMode::enter).transpose()?;
    let mut keys = has_keys.then(Keys::read);
    let mut filter = Filter::default();
    let mut out = stdout();
    let result = run(reader, &mut next, &mut pace, &mut keys, &mut filter, &mut out).await;
    out.write_all(&filter.undo()).await?;
    out.write_all(b"\r\n").await?;
    out.flush().await?;
    drop(raw);
    if let (Some(header), Some(size)) = (reader.header(), terminal_size())
        && is_terminal
        && (size.cols.get() < header.width || size.rows.get() < header.height)
    {
        note(&format!(
            "it was recorded on {}x{}, this terminal is smaller",
            header.width, header.height
        ));
    }
    result
}

async fn run(
    reader: &mut Reader,
    next: &mut impl AsyncFnMut(&mut Vec<u8>) -> Result<bool, CliError>,
    pace: &mut Pace,
    keys: &mut Option<Keys>,
    filter: &mut Filter,
    out: &mut tokio::io::Stdout,
) -> Result<(), CliError> {
    let wrong = |e: super::cast::Wrong| CliError::Failed(format!("the recording is wrong: {e}"));
    let mut buffer = Vec::new();
    let mut has_more = true;
    let mut waiting = std::collections::VecDeque::new();
    loop {
        while has_more && waiting.len() < AHEAD_MAX_EVENTS {
            has_more = next(&mut buffer).await?;
            if has_more {
                reader.feed(&buffer).map_err(wrong)?;
            } else {
                reader.end().map_err(wrong)?;
            }
            waiting.extend(std::iter::from_fn(|| reader.next_event()));
        }
        let Some(event) = waiting.front() else { return Ok(()) };
        let began = Instant::now();
        let due = pace.wait(event).map(|seconds| {
            // A century is for ever.
            began + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(1 << 31))
        });
        tokio::select! {
            biased;
            chunk = next_keys(keys) => {
                // What passed of the pause counts.
                if due.is_some() {
                    pace.at += began.elapsed().as_secs_f64() * pace.speed;
                }
                if chunk.iter().any(|key| pace.key(*key) == Asked::Leave) {
                    return Ok(());
                }
            }
            () = until(due) => {
                if let Some(event) = waiting.pop_front() {
                    pace.shown(&event);
                    if let What::Output(text) = &event.what {
                        out.write_all(&filter.feed(text.as_bytes())).await?;
                        out.flush().await?;
                    }
                }
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn next_keys(keys: &mut Option<Keys>) -> bytes::Bytes {
    if let Some(read) = keys {
        if let Some(chunk) = read.next().await {
            return chunk;
        }
        *keys = None;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(at: f64) -> Event {
        Event { at, what: What::Output("x".to_owned()) }
    }

    #[test]
    fn pauses_have_their_length_by_the_speed_up_to_the_limit() {
        let mut pace = Pace::new(2.0, Some(3.0), 0.0);
        assert_eq!(pace.wait(&output(1.0)), Some(0.5));
        pace.shown(&output(1.0));
        assert_eq!(pace.wait(&output(11.0)), Some(1.5));
        assert_eq!(Pace::new(1.0, None, 0.0).wait(&output(11.0)), Some(11.0));
    }

    #[test]
    fn what_is_before_the_start_comes_at_once() {
        let mut pace = Pace::new(1.0, None, 10.0);
        assert_eq!(pace.wait(&output(9.0)), Some(0.0));
        pace.shown(&output(9.0));
        assert_eq!(pace.wait(&output(12.0)), Some(2.0));
    }

    #[test]
    fn keys_pause_step_and_change_the_speed() {
        let mut pace = Pace::new(1.0, None, 0.0);
        assert_eq!(pace.key(b' '), Asked::Other);
        assert_eq!(pace.wait(&output(1.0)), None);
        pace.key(b'.');
        assert_eq!(pace.wait(&output(1.0)), Some(0.0));
        pace.shown(&output(1.0));
        assert_eq!(pace.wait(&output(2.0)), None, "one step");
        pace.key(b' ');
        pace.key(b'+');
        assert_eq!(pace.wait(&output(2.5)), Some(1.0));
        (0..99).for_each(|_| assert_eq!(pace.key(b'-'), Asked::Other));
        assert_eq!(pace.wait(&output(2.0)), Some(1.0 / SPEED_MIN));
        assert_eq!(pace.key(b'q'), Asked::Leave);
    }
}
