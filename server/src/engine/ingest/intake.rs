//! What devices said is made durable first and decided then.
//!
//! ```text
//!  batch ─▶ keep: one row of `intake` ─ commit ─▶ acknowledged
//!                                         │
//!             backlog, in memory, in order ▼
//!           decide: load, step, write, "decided up to" ─ commit ─▶ announced, delivered
//!
//!  crash ─▶ next start: rows above "decided up to" are decided before anything else
//! ```
//!
//! Acknowledged means durable, not yet shown. Whoever must know how things
//! stand asks [`Engine::settled`] first: it waits until all that was
//! acknowledged before is decided.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Heard,
    backlog::{Backlog, Row},
    decide,
    reader::Read,
    record,
};
use crate::{
    engine::{After, Engine},
    mqtt::link::AckHandle,
    store::{StoreError, intake},
};

/// How long a start waits between tries to decide what a crash left, in milliseconds.
const RECOVERY_RETRY_MS: u64 = 1_000;

/// How far what was acknowledged is decided, by the number of rows.
#[derive(Debug)]
pub(in crate::engine) struct Progress {
    acknowledged: AtomicU64,
    decided: watch::Sender<u64>,
    /// The number of the last row that is decided and may be forgotten; 0 when it was.
    forgettable: AtomicI64,
    /// How many wait for it.
    awaited: AtomicUsize,
    hurry: Notify,
}

/// Somebody who waits.
struct Waiter<'a>(&'a Progress);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            acknowledged: AtomicU64::new(0),
            decided: watch::Sender::new(0),
            forgettable: AtomicI64::new(0),
            awaited: AtomicUsize::new(0),
            hurry: Notify::new(),
        }
    }
}

impl Progress {
    /// Counts a row in, before its words are acknowledged; also what a start has to see to first.
    pub(in crate::engine) fn expect_one(&self) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts rows out, which are decided.
    pub(super) fn decided(&self, rows: u64) {
        self.decided.send_modify(|decided| *decided += rows);
    }

    /// Resolves when somebody waits for what is not decided yet.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Whether somebody waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) > 0
    }

    async fn settled(&self) {
        let goal = self.acknowledged.load(Ordering::SeqCst);
        if *self.decided.borrow() >= goal {
            return;
        }
        self.awaited.fetch_add(1, Ordering::SeqCst);
        let _waiter = Waiter(self);
        let mut decided = self.decided.subscribe();
        self.hurry.notify_one();
        // The sender lives as long as the engine that this is called on.
        let _ = decided.wait_for(|decided| *decided >= goal).await;
    }
}

impl Engine {
    /// Waits until all that was acknowledged to devices before is decided, at most `max_ms`;
    /// answers whether it is.
    pub async fn settled(&self, max_ms: u64) -> bool {
        let waits = self.0.progress.settled();
        tokio::time::timeout(Duration::from_millis(max_ms), waits).await.is_ok()
    }
}

/// Makes a batch durable and acknowledges it; answers what is to be decided, if anything.
pub(super) async fn keep(engine: Engine, seq: i64, read: Read) -> Option<Row> {
    let Read { mut heard, seen, words, bytes, acks, hears: _ } = read;
    let mut row_seq = 0;
    if let Some(words) = words.finish() {
        row_seq = seq;
        let forgettable = engine.0.progress.forgettable.swap(0, Ordering::SeqCst);
        let written = engine
            .0
            .store
            .intake(move |tx| {
                Box::pin(async move {
                    // Not worth a commit of its own; and a later one forgets what this one fails to.
                    if forgettable > 0 {
                        intake::forget(tx, forgettable).await?;
                    }
                    intake::keep(tx, seq, &words).await
                })
            })
            .await;
        if let Ok(Err(error)) | Err(error) = written {
            let count = acks.len();
            metrics::counter!("quarterdeck_ingest_failed_total").increment(count as u64);
            tracing::error!(%error, words = count, "what devices said could not be stored; they will repeat it");
            acks.into_iter().for_each(AckHandle::failed);
            // That somebody came or went was no message: nobody says it again.
            heard.retain(Heard::is_of_the_link);
            return count_in(
                &engine,
                Row { seq: 0, heard: heard.into(), seen: Vec::new().into(), bytes: 0 },
            );
        }
    }
    let row =
        count_in(&engine, Row { seq: row_seq, heard: heard.into(), seen: seen.into(), bytes });
    acks.into_iter().for_each(AckHandle::committed);
    row
}

/// From here on somebody who asks waits for the row; of an empty one there is nothing to wait for.
fn count_in(engine: &Engine, row: Row) -> Option<Row> {
    if row.heard.is_empty() && row.seen.is_empty() {
        return None;
    }
    engine.0.progress.expect_one();
    metrics::counter!("quarterdeck_ingest_events_total").increment(row.heard.len() as u64);
    Some(row)
}

/// What became of a slice.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) rows: usize,
    pub(super) took_ms: i64,
    pub(super) is_done: bool,
}

/// Decides a slice of the backlog in one transaction.
pub(super) async fn decide(engine: Engine, slice: Vec<Row>) -> Decided {
    let rows = slice.len();
    let begun_ms = engine.clock().steady();
    let decided = write(&engine, slice.clone()).await;
    let is_done = match decided {
        Ok(()) => true,
        Err(error) if rows == 1 && is_fault_of_its_own(&error) => {
            set_aside(&engine, &slice[0], &error).await
        }
        Err(error) => {
            metrics::counter!("quarterdeck_ingest_undecided_total").increment(rows as u64);
            tracing::error!(%error, rows, "what devices said is stored but could not be decided; it is tried again");
            false
        }
    };
    Decided { rows, took_ms: engine.clock().steady() - begun_ms, is_done }
}

async fn write(engine: &Engine, slice: Vec<Row>) -> Result<(), StoreError> {
    let worker = engine.clone();
    let through = slice.iter().map(|row| row.seq).max().filter(|seq| *seq > 0);
    let after = engine
        .0
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut after = After::default();
                let now = worker.clock().now();
                decide::take_in(&worker, tx, &slice, now, &mut after).await?;
                if let Some(seq) = through {
                    intake::set_decided(tx, seq).await?;
                }
                Ok::<After, StoreError>(after)
            })
        })
        .await??;
    if let Some(seq) = through {
        engine.0.progress.forgettable.store(seq, Ordering::SeqCst);
    }
    engine.after_commit(after);
    Ok(())
}

/// Whether the words themselves are to blame, so that to try again changes nothing.
fn is_fault_of_its_own(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt { .. } | StoreError::Panic(_) => true,
        StoreError::Database(sqlx::Error::Database(error)) => {
            !matches!(error.kind(), sqlx::error::ErrorKind::Other)
        }
        _ => false,
    }
}

/// Decides the words of a row one by one, so that one which cannot be decided takes no other with it.
async fn set_aside(engine: &Engine, row: &Row, error: &StoreError) -> bool {
    tracing::error!(%error, words = row.heard.len(), "a batch of words cannot be decided; its words are taken one by one");
    for one in row.heard.iter() {
        let alone =
            Row { seq: 0, heard: vec![one.clone()].into(), seen: Vec::new().into(), bytes: 0 };
        match write(engine, vec![alone]).await {
            Ok(()) => {}
            Err(error) if is_fault_of_its_own(&error) => {
                metrics::counter!("quarterdeck_ingest_undecidable_total").increment(1);
                // Its content is the device's business, and no limit bounds it here.
                tracing::error!(%error, project = %one.device.0, device = %one.device.1, "a word cannot be decided; it is left out");
            }
            Err(_) => return false,
        }
    }
    let last = Row { seq: row.seq, heard: Vec::new().into(), seen: row.seen.clone(), bytes: 0 };
    write(engine, vec![last]).await.is_ok()
}

/// Decides what a server before this one acknowledged and did not decide; answers the last number
/// in use, without which nothing may be kept: `None` when it was told to stop before it knew all.
pub(super) async fn recover(engine: &Engine, stop: &CancellationToken) -> Option<i64> {
    let mut last_seq = None;
    while !stop.is_cancelled() {
        match recover_page(engine, &mut last_seq).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::error!(%error, "what devices said before the start could not be read; it is tried again");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(Duration::from_millis(RECOVERY_RETRY_MS)) => {}
                }
            }
        }
    }
    engine.0.progress.decided(1);
    last_seq.filter(|_| !stop.is_cancelled())
}

/// Answers whether there may be more. `last_seq` is how far it is decided, once that is known.
async fn recover_page(engine: &Engine, last_seq: &mut Option<i64>) -> Result<bool, StoreError> {
    let after = match *last_seq {
        Some(seq) => seq,
        None => intake::decided(&mut engine.0.store.read().await?).await?,
    };
    *last_seq = Some(after);
    engine.0.progress.forgettable.store(after, Ordering::SeqCst);
    let page = engine
        .0
        .store
        .intake(move |tx| Box::pin(async move { intake::page(tx, after).await }))
        .await??;
    let mut backlog = Backlog::default();
    for (seq, words) in &page {
        let heard = record::read(words).unwrap_or_else(|error| {
            tracing::error!(%error, seq, "a batch of kept words cannot be read; it is left out");
            Vec::new()
        });
        tracing::info!(words = heard.len(), "words from before the start are decided now");
        backlog.push(Row {
            seq: *seq,
            heard: heard.into(),
            seen: Vec::new().into(),
            bytes: words.len(),
        });
    }
    while !backlog.is_empty() {
        let slice = backlog.slice();
        let through = slice.iter().map(|row| row.seq).max().unwrap_or_default();
        let decided = decide(engine.clone(), slice).await;
        if decided.is_done {
            *last_seq = Some(through);
            backlog.decided(decided.rows, decided.took_ms, 0);
        } else if decided.rows > 1 {
            // Fewer together, until one that is to blame stands alone.
            backlog.failed(0);
        } else {
            return Err(StoreError::Commit("it could not be decided".to_owned()));
        }
    }
    Ok(!page.is_empty())
}
