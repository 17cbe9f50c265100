//! The thread that saves: what waits when it is free goes to the disk together.
//!
//! ```text
//!  loop ─ items ─▶ queue ─▶ one write, one sync ─▶ progress ─▶ the loop acts
//!                              │ fails
//!                              └─▶ told, and tried again each second
//! ```
//!
//! The loop never touches the file, so neither a slow disk nor a full one holds
//! it. What cannot be saved is not done: its command stands still until there
//! is room. That bounds what waits here: a command takes no further step before
//! the effects of its last one.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::watch;

use super::log::{Item, Log, LogError};
use crate::failpoint;

/// How often saving is tried again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

/// Counts batches of items; a batch is saved once progress has reached its number.
pub type Ticket = u64;

/// How far the saver is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub saved: Ticket,
    /// Why it cannot go on at the moment.
    pub stalled: Option<String>,
    /// What counts in the log.
    pub live_bytes: u64,
}

/// The way to the thread.
#[derive(Debug)]
pub struct Saver {
    to: mpsc::Sender<(Ticket, Vec<Item>)>,
    given: Ticket,
    progress: watch::Receiver<Progress>,
    thread: JoinHandle<()>,
}

impl Saver {
    pub fn start(log: Log) -> std::io::Result<Self> {
        let (to, from) = mpsc::channel();
        let first = Progress { live_bytes: log.live_bytes(), ..Progress::default() };
        let (progress_to, progress) = watch::channel(first);
        let thread = thread::Builder::new()
            .name("workflow-saver".to_owned())
            .spawn(move || run(log, &from, &progress_to))?;
        Ok(Self { to, given: 0, progress, thread })
    }

    /// The number that the next batch will have.
    pub const fn next_ticket(&self) -> Ticket {
        self.given + 1
    }

    /// The number of the last batch.
    pub const fn last_ticket(&self) -> Ticket {
        self.given
    }

    /// Has items saved, all or none.
    pub fn save(&mut self, items: Vec<Item>) {
        self.given += 1;
        // It ends only when it is dropped, or panicked: then nothing is ever saved, nor done.
        if self.to.send((self.given, items)).is_err() {
            tracing::error!("the thread that saves commands is gone");
        }
    }

    /// Waits until it is further, or stalled.
    pub async fn changed(&mut self) -> Progress {
        if self.progress.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.progress.borrow_and_update().clone()
    }

    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    pub fn is_busy(&self) -> bool {
        self.progress.borrow().saved < self.given
    }

    /// Has it save what waits, once more at least, and end.
    pub fn finish(self) {
        drop(self.to);
        if self.thread.join().is_err() {
            tracing::error!("the thread that saves commands panicked");
        }
    }
}

fn run(
    mut log: Log,
    from: &mpsc::Receiver<(Ticket, Vec<Item>)>,
    progress: &watch::Sender<Progress>,
) {
    while let Ok((mut ticket, mut items)) = from.recv() {
        let mut is_last = false;
        loop {
            for (later, more) in from.try_iter() {
                ticket = later;
                items.extend(more);
            }
            failpoint::reach("before saving");
            let saved = log.save(&items);
            failpoint::reach("after saving");
            let Err(error) = saved else { break };
            tell(progress, &error);
            if is_last {
                return;
            }
            match from.recv_timeout(Duration::from_millis(RETRY_AFTER_MS)) {
                Ok((later, more)) => {
                    ticket = later;
                    items.extend(more);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_last = true,
            }
        }
        progress.send_replace(Progress {
            saved: ticket,
            stalled: None,
            live_bytes: log.live_bytes(),
        });
    }
}

fn tell(progress: &watch::Sender<Progress>, error: &LogError) {
    let reason = crate::io::http::describe(error);
    progress.send_if_modified(|progress| {
        let is_news = progress.stalled.as_ref() != Some(&reason);
        progress.stalled = Some(reason);
        is_news
    });
}
