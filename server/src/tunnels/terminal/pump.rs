//! Moves a terminal's output: out of the stream, to the consoles, into the log.
//!
//! ```text
//!  stream ── take: shown at once ──▶ batch ── append ──▶ log ── acknowledged ──▶ device
//!                                                         └── sync, now and then ──▶ disk
//! ```
//!
//! Taking, appending and syncing go side by side, each of the latter one at a time
//! and on a thread that may block: a slow disk holds up neither what consoles see,
//! nor, while the next batch and [`UNSYNCED_MAX_BYTES`] have room, the program.
//!
//! While something comes now and then, the pump looks for it by itself: woken for each
//! echo of a key, it would run on another thread before the echo has left.

use std::time::Duration;

use bytes::Bytes;
use quarterdeck_protocol::tunnel::{
    Content, Item, limits::GATHER_MAX_BYTES, mark::Mark, stream::Closed,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{State, TYPED_MAX_BYTES, Terminal};
use crate::tunnels::log::{Entry, Log, LogError};

/// What is appended to the log at once, in bytes.
const BATCH_BYTES: u64 = 256 * 1024;
/// What is read of the stream at once, in bytes: as much as a frame has, or it would be copied.
const READ_BYTES: u64 = GATHER_MAX_BYTES as u64;
/// How often the pump looks for what was taken: so long it waits to be logged, for more and so
/// that what shows it goes first.
const LOOK: Duration = Duration::from_millis(20);
/// How long it goes on looking when nothing comes any more: longer than between two keys.
const WATCH: Duration = Duration::from_millis(300);
/// It is logged at once when it is so much, in bytes: each time costs a turn of another thread.
const GATHERED_BYTES: u64 = 2 * READ_BYTES;
/// How often what was written is synced to the disk at least, in milliseconds.
const SYNC_MS: u64 = 1_000;
/// It is synced earlier when it is so much, in bytes.
const SYNC_BYTES: u64 = 4 * 1024 * 1024;
/// Over this, in bytes, nothing more is written before what is being synced is.
const UNSYNCED_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// How the pump ended.
#[derive(Debug, Clone)]
pub(in crate::tunnels) enum Ended {
    /// The stream did, with this.
    Stream(Closed),
    /// What was shown cannot be written.
    Log { is_disk_full: bool, why: String },
    /// It was told to.
    Stopped,
}

impl Ended {
    fn of_log(error: &LogError) -> Self {
        Self::Log { is_disk_full: error.is_disk_full(), why: error.to_string() }
    }
}

/// What was taken, and is to be logged.
#[derive(Debug, Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    /// Of the output, and of what was typed.
    bytes: u64,
    pub(super) typed_bytes: usize,
    until: Option<u64>,
    has_end: bool,
}

/// How soon a batch is to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// There is nothing to be logged.
    Never,
    /// More may come first.
    Soon,
    Now,
}

impl Batch {
    pub(super) fn push_typed(&mut self, bytes: Bytes) {
        self.typed_bytes += bytes.len();
        self.entries.push(Entry::Typed(bytes));
    }

    pub(super) const fn urgency(&self) -> Urgency {
        // What is typed and finds no room is lost, and comes again later: it is not to come to that.
        let is_much = self.bytes >= GATHERED_BYTES || self.typed_bytes >= TYPED_MAX_BYTES / 4;
        if self.has_end || is_much {
            Urgency::Now
        } else if self.entries.is_empty() {
            Urgency::Never
        } else {
            Urgency::Soon
        }
    }
}

/// What an append gives back: the log, and how it went.
type Appended = (Log, Batch, Result<(), LogError>);

/// The log: here, or with a thread that appends to it; and a thread that syncs it.
#[derive(Debug)]
struct Writer {
    log: Option<Log>,
    appending: Option<JoinHandle<Appended>>,
    syncing: Option<JoinHandle<Result<(), LogError>>>,
    /// When what was written is to be synced at the latest.
    sync_due: Option<Instant>,
}

/// A step of the writer came to its end.
enum Done {
    Appended(Batch),
    Synced,
}

impl Writer {
    const fn new(log: Log) -> Self {
        Self { log: Some(log), appending: None, syncing: None, sync_due: None }
    }

    /// Whether the log may be appended to now.
    fn is_ready(&self) -> bool {
        let has_room = |log: &Log| log.unsynced_bytes() < UNSYNCED_MAX_BYTES;
        self.log.as_ref().is_some_and(has_room)
    }

    /// Begins to sync, if that is due.
    fn begin_sync(&mut self) {
        if self.is_sync_due()
            && let Some(log) = &mut self.log
        {
            self.sync_due = None;
            self.syncing = log
                .take_unsynced()
                .map(|unsynced| tokio::task::spawn_blocking(move || unsynced.sync()));
        }
    }

    /// Begins to append, when the log is ready for it.
    fn begin_append(&mut self, batch: Batch) {
        let Some(mut log) = self.log.take() else { return };
        if !batch.entries.is_empty() {
            self.sync_due.get_or_insert(Instant::now() + Duration::from_millis(SYNC_MS));
        }
        self.appending = Some(tokio::task::spawn_blocking(move || {
            let appended =
                if batch.entries.is_empty() { Ok(()) } else { log.append(&batch.entries) };
            (log, batch, appended)
        }));
    }

    fn is_sync_due(&self) -> bool {
        let is_late = self.sync_due.is_some_and(|at| at <= Instant::now());
        let is_much = self.log.as_ref().is_some_and(|log| log.unsynced_bytes() >= SYNC_BYTES);
        self.syncing.is_none() && (is_late || is_much)
    }

    /// Waits for what was begun; for ever, when nothing was.
    async fn done(&mut self) -> Result<Done, Ended> {
        let panicked = |error: tokio::task::JoinError| Ended::Log {
            is_disk_full: false,
            why: error.to_string(),
        };
        tokio::select! {
            appended = finished(&mut self.appending) => {
                self.appending = None;
                let (log, batch, appended) = appended.map_err(panicked)?;
                self.log = Some(log);
                appended.map_err(|error| Ended::of_log(&error))?;
                Ok(Done::Appended(batch))
            }
            synced = finished(&mut self.syncing) => {
                self.syncing = None;
                synced.map_err(panicked)?.map_err(|error| Ended::of_log(&error))?;
                Ok(Done::Synced)
            }
        }
    }

    /// When a sync is to begin that nothing else would begin.
    fn wakes_at(&self) -> Option<Instant> {
        self.sync_due.filter(|_| self.syncing.is_none() && self.log.is_some())
    }

    /// Gives the log back once nobody works on it, unless that never ended.
    async fn give_back(mut self) -> Option<Log> {
        if let Some(syncing) = self.syncing.take() {
            // Whoever finishes the log syncs it again, and hears of an error.
            let _ = syncing.await;
        }
        match self.appending.take() {
            Some(appending) => appending.await.ok().map(|(log, ..)| log),
            None => self.log,
        }
    }
}

/// Waits for a task that is there.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

impl Terminal {
    /// Moves output until the stream ends, the log cannot be written, or `stop`. The log
    /// comes back, unless a write of it never ended.
    pub(in crate::tunnels) async fn pump(
        &self,
        log: Log,
        stop: &CancellationToken,
    ) -> (Ended, Option<Log>) {
        let mut writer = Writer::new(log);
        let ended = self.move_output(&mut writer, stop).await;
        self.lock().is_over = true;
        (ended, writer.give_back().await)
    }

    async fn move_output(&self, writer: &mut Writer, stop: &CancellationToken) -> Ended {
        // When it looks by itself; not while nothing comes.
        let mut looks_at: Option<Instant> = None;
        let mut watches_until = Instant::now();
        loop {
            let is_stopped = stop.is_cancelled();
            if is_stopped {
                // Whoever brings a frame would go on taking; what is not taken, the device keeps.
                self.lock().is_over = true;
            } else {
                self.take();
            }
            writer.begin_sync();
            let now = Instant::now();
            // Before it is looked how much there is: nothing comes after the end.
            let closed = self.closed();
            let mut urgency = self.watch(&mut looks_at, watches_until, now);
            let is_over = is_stopped || closed.is_some();
            let is_late = is_over || looks_at.is_some_and(|at| at <= now);
            let is_due = urgency == Urgency::Now || (urgency == Urgency::Soon && is_late);
            if is_due && writer.is_ready() {
                writer.begin_append(std::mem::take(&mut self.lock().batch));
                (looks_at, watches_until) = (Some(now + LOOK), now + WATCH);
                urgency = Urgency::Never;
            }
            let is_idle = urgency == Urgency::Never && writer.appending.is_none();
            if is_idle && is_stopped {
                return Ended::Stopped;
            }
            if is_idle && let Some(closed) = closed {
                return Ended::Stream(closed);
            }
            // What is due already waits for the writer.
            let wakes_at = [looks_at.filter(|_| !is_due || writer.is_ready()), writer.wakes_at()];
            let wakes_at = wakes_at.into_iter().flatten().min();
            tokio::select! {
                done = writer.done() => match done {
                    Ok(Done::Appended(batch)) => self.logged(writer, &batch),
                    Ok(Done::Synced) => {}
                    Err(ended) => return ended,
                },
                () = self.wake.notified() => {}
                () = stop.cancelled(), if !is_stopped => {}
                () = sleep_until(wakes_at.unwrap_or_else(Instant::now)), if wakes_at.is_some() => {}
            }
        }
    }

    /// Says how soon there is something to be logged, and sets when the pump looks again. Nobody
    /// wakes it meanwhile for what can wait so long.
    fn watch(
        &self,
        looks_at: &mut Option<Instant>,
        watches_until: Instant,
        now: Instant,
    ) -> Urgency {
        let mut state = self.lock();
        let urgency = state.batch.urgency();
        *looks_at = match (*looks_at, urgency) {
            (Some(at), Urgency::Never) if at <= now => (now < watches_until).then(|| now + LOOK),
            (None, Urgency::Never) => None,
            (at, _) => at.or(Some(now + LOOK)),
        };
        state.is_watched = looks_at.is_some();
        urgency
    }

    /// Takes what may be taken now and shows it to the consoles; the pump logs it.
    pub(in crate::tunnels) fn take(&self) {
        let mut state = self.lock();
        let (had, before) = (state.batch.urgency(), state.batch.bytes);
        while !state.is_over && state.batch.bytes < BATCH_BYTES && state.may_take() {
            let most = READ_BYTES.min(BATCH_BYTES - state.batch.bytes) as usize;
            let Some((item, until)) = self.way.read(self.handle, most) else { break };
            state.push(item, until);
        }
        if state.wakes_pump(had) {
            // Before the consoles: of two tasks that are woken, the last goes first.
            self.wake.notify_one();
        }
        if state.batch.bytes > before {
            state.shown_at = Some(Instant::now());
            self.end.send_replace(state.recent.end());
        }
    }

    /// Acknowledges what is in the log now.
    fn logged(&self, writer: &Writer, batch: &Batch) {
        let Some(log) = &writer.log else { return };
        let window = {
            let mut state = self.lock();
            state.logged = log.end();
            state.first = log.first();
            state.recent.trim(log.end());
            state.device_window()
        };
        if let Some(until) = batch.until {
            self.way.logged(self.handle, until, window);
        }
        if batch.has_end {
            self.way.finish(self.handle);
        }
    }
}

impl State {
    /// Whether the pump is to be told of what came since the batch was as urgent as that.
    pub(super) fn wakes_pump(&self, had: Urgency) -> bool {
        let now = self.batch.urgency();
        now > had && (now == Urgency::Now || !self.is_watched)
    }

    fn push(&mut self, item: Item, until: u64) {
        let batch = &mut self.batch;
        batch.until = Some(until);
        let Item::Content(content) = item else {
            batch.has_end = true;
            return;
        };
        batch.bytes += content.span();
        self.marks += u64::from(matches!(content, Content::Mark(_)));
        match &content {
            Content::Bytes(bytes) => self.modes.feed(bytes),
            Content::Mark(Mark::Resize(size)) => self.size = *size,
            Content::Mark(Mark::Exit(exit)) => self.exit = Some(*exit),
            Content::Mark(Mark::Signal(_)) => {}
        }
        self.recent.push(content.clone());
        batch.entries.push(Entry::Shown(content));
    }
}
