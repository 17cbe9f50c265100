//! The WebSocket that keeps a console up to date (`protocol::live`).
//!
//! ```text
//!  engine ── changes ──▶ which windows are dirty ──▶ query again ──▶ differs from what was sent?
//!                              ▲                                          │ yes
//!  console ── subscribe, window, unsubscribe, ping                        ▼
//!                                                    one message at a time ──▶ socket
//! ```
//!
//! A change only says that a row differs; the window's rows are read anew, at
//! most every 200 ms, and less often when reading is slow. The next message is
//! made when the one before has left the socket: a slow console costs one
//! message, and gets the latest state, never a backlog. One that takes nothing
//! for 30 s is closed (`http/server.rs`).
//!
//! | module | subject |
//! | --- | --- |
//! | [`connection`] | one socket: what is read, what is sent, when |
//! | [`incoming`] | what a console says, and what of it cannot be |
//! | [`window`] | one window: its rows, and how they differ from what was sent |
//!
//! Never here: a right that a route does not have; a queue without a bound.

mod connection;
mod incoming;
mod window;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use quarterdeck_protocol::{api::Overview, ids::ProjectId};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    clock::Clock,
    store::{Store, StoreError, overview},
};

pub use self::connection::serve;

/// Live connections at once: of all, and of one user.
pub const LIVE_CONNECTIONS_MAX: usize = 2_000;
pub const LIVE_CONNECTIONS_PER_USER_MAX: usize = 100;
/// Windows that are read at once; the store has readers for others beside them.
pub const WINDOW_READS_MAX: usize = 4;
/// How old the numbers of an overview may be, in milliseconds.
pub const OVERVIEW_MAX_AGE_MS: i64 = 1_000;
/// An overview is made again at the earliest after so many times as long as making it took.
const OVERVIEW_REST_FACTOR: i64 = 5;

/// What the live connections share.
#[derive(Debug)]
pub struct Hub {
    open: Arc<Mutex<HashMap<String, usize>>>,
    tasks: TaskTracker,
    reads: Semaphore,
    overviews: Mutex<HashMap<ProjectId, Arc<tokio::sync::Mutex<Cached>>>>,
}

#[derive(Debug, Default)]
struct Cached {
    good_until_ms: i64,
    overview: Option<Arc<Overview>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            tasks: TaskTracker::new(),
            reads: Semaphore::new(WINDOW_READS_MAX),
            overviews: Mutex::default(),
        }
    }
}

/// The place of one open connection; dropped, it is free again.
#[derive(Debug)]
pub struct Slot {
    open: Arc<Mutex<HashMap<String, usize>>>,
    name: String,
    _task: TaskTrackerToken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.name);
            }
        }
    }
}

impl Hub {
    /// Takes a place for a connection of a user; `None` when there is none.
    pub fn enter(&self, name: &str) -> Option<Slot> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(name).copied().unwrap_or(0);
        if all >= LIVE_CONNECTIONS_MAX || own >= LIVE_CONNECTIONS_PER_USER_MAX {
            return None;
        }
        open.insert(name.to_owned(), own + 1);
        Some(Slot {
            open: Arc::clone(&self.open),
            name: name.to_owned(),
            _task: self.tasks.token(),
        })
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Waits until all connections have ended; they end when the server stops.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn may_read(&self) -> SemaphorePermit<'_> {
        self.reads.acquire().await.expect("the semaphore is never closed")
    }

    /// Reads a project's overview: made once for all who ask within a second.
    pub async fn overview(
        &self,
        store: &Store,
        clock: &Clock,
        project: &ProjectId,
    ) -> Result<Arc<Overview>, StoreError> {
        let cached = {
            let mut overviews = self.overviews.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(overviews.entry(project.clone()).or_default())
        };
        // Who comes meanwhile waits, and takes what this one made.
        let mut cached = cached.lock().await;
        let started_ms = clock.steady();
        if let Some(overview) = &cached.overview
            && started_ms < cached.good_until_ms
        {
            return Ok(Arc::clone(overview));
        }
        let mut tx = store.read().await?;
        let overview = Arc::new(overview::read(&mut tx, project, clock.now()).await?);
        let took_ms = clock.steady() - started_ms;
        let rest_ms = OVERVIEW_MAX_AGE_MS.max(took_ms * OVERVIEW_REST_FACTOR);
        *cached =
            Cached { good_until_ms: started_ms + rest_ms, overview: Some(Arc::clone(&overview)) };
        Ok(overview)
    }
}
