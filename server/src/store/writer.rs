//! The group commit: all jobs that wait share the next transaction, each in its own savepoint.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};

use super::{StoreError, Tx, open::Pool};

/// Jobs that may wait for the writer; more wait at the caller.
const WRITE_QUEUE_MAX_JOBS: usize = 4_096;
/// Jobs that share one commit at most.
const COMMIT_MAX_JOBS: usize = 1_024;

pub(super) type JobFuture<'t, R> = Pin<Box<dyn Future<Output = R> + Send + 't>>;
type Erased = Box<dyn Any + Send>;
/// Answers `Ok(value)` to keep what it wrote, `Err(value)` to roll it back.
type Job = Box<dyn for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<Erased, Erased>> + Send>;

struct Waiting {
    job: Job,
    answer: oneshot::Sender<Result<Erased, StoreError>>,
}

/// Jobs that are committed one batch after the other.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    jobs: mpsc::Sender<Waiting>,
    writer: Writer,
    doubts: watch::Receiver<()>,
}

impl Lane {
    pub(super) fn start(pool: Pool) -> Self {
        let (jobs, waiting) = mpsc::channel(WRITE_QUEUE_MAX_JOBS);
        let (doubt, doubts) = watch::channel(());
        let writer = Writer::new(pool);
        tokio::spawn(write_loop(writer.clone(), waiting, doubt));
        Self { jobs, writer, doubts }
    }

    /// Changes when a commit ended without its confirmation.
    pub(super) fn doubts(&self) -> watch::Receiver<()> {
        let mut doubts = self.doubts.clone();
        doubts.mark_unchanged();
        doubts
    }

    pub(super) async fn run<T, E, F>(&self, job: F) -> Result<Result<T, E>, StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, E>> + Send + 'static,
    {
        let erased: Job = Box::new(move |tx| {
            let run = job(tx);
            Box::pin(async move {
                match run.await {
                    Ok(value) => Ok(Box::new(Ok::<T, E>(value)) as Erased),
                    Err(value) => Err(Box::new(Err::<T, E>(value)) as Erased),
                }
            })
        });
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Waiting { job: erased, answer }).await.map_err(|_| StoreError::Closed)?;
        let value = answered.await.map_err(|_| StoreError::Closed)??;
        Ok(*value.downcast().expect("a job answers with the type that it was given for"))
    }

    /// Ends after the jobs that wait.
    pub(super) async fn close(self) {
        drop(self.jobs);
        self.writer.pool().close().await;
    }
}

/// The one connection that writes.
#[derive(Debug, Clone)]
struct Writer(Arc<Mutex<Pool>>);

impl Writer {
    fn new(pool: Pool) -> Self {
        Self(Arc::new(Mutex::new(pool)))
    }

    fn pool(&self) -> Pool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Throws the connection away and makes another when it is next needed.
    ///
    /// After a failed BEGIN or COMMIT the engine may have rolled back by itself (SQLite does when
    /// the disk is full) while the driver still counts a transaction as open, or the connection is
    /// gone: what it thinks of itself cannot be trusted any more.
    async fn renew(&self) {
        let broken = self.pool();
        let fresh = broken.another();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        broken.close().await;
    }
}

async fn write_loop(
    writer: Writer,
    mut waiting: mpsc::Receiver<Waiting>,
    doubt: watch::Sender<()>,
) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, COMMIT_MAX_JOBS).await > 0 {
        let jobs = std::mem::take(&mut batch);
        metrics::histogram!("quarterdeck_store_commit_jobs").record(jobs.len() as f64);
        match commit_together(&writer.pool(), jobs).await {
            Done::Well => {}
            Done::Broken => writer.renew().await,
            Done::InDoubt => {
                writer.renew().await;
                doubt.send_replace(());
            }
        }
    }
}

/// How a transaction went.
enum Done {
    Well,
    /// Nothing was stored, and the connection cannot be trusted any more.
    Broken,
    /// The same, but it may have been stored: the confirmation is missing.
    InDoubt,
}

/// Runs the jobs in one transaction.
async fn commit_together(pool: &Pool, jobs: Vec<Waiting>) -> Done {
    let mut tx = match pool.begin(true).await {
        Ok(tx) => tx,
        Err(error) => {
            refuse(jobs, &error);
            return Done::Broken;
        }
    };
    if jobs.len() == 1 {
        return commit_alone(tx, jobs).await;
    }
    let mut done = Vec::with_capacity(jobs.len());
    let mut jobs = jobs.into_iter();
    while let Some(Waiting { job, answer }) = jobs.next() {
        match run_in_savepoint(&mut tx, job).await {
            Ok(value) => done.push((answer, Ok(value))),
            Err(JobFailure::Panic(text)) => done.push((answer, Err(StoreError::Panic(text)))),
            Err(JobFailure::Transaction(error)) => {
                // The transaction is beyond repair: nobody in it was stored.
                let text = error.to_string();
                drop(tx);
                let _ = answer.send(Err(StoreError::Database(error)));
                for (answer, _) in done {
                    let _ = answer.send(Err(StoreError::Commit(text.clone())));
                }
                for rest in jobs {
                    let _ = rest.answer.send(Err(StoreError::Commit(text.clone())));
                }
                return Done::Broken;
            }
        }
    }
    let unconfirmed = unconfirmed(&tx);
    match tx.commit().await {
        Ok(()) => {
            for (answer, value) in done {
                let _ = answer.send(value);
            }
            Done::Well
        }
        Err(error) => {
            let text = error.to_string();
            for (answer, _) in done {
                let _ = answer.send(Err(StoreError::Commit(text.clone())));
            }
            unconfirmed
        }
    }
}

/// Runs a job that shares its transaction with no other: no savepoint is needed, which costs SQLite
/// a copy of each page that is written.
async fn commit_alone(mut tx: Tx, jobs: Vec<Waiting>) -> Done {
    let Some(Waiting { job, answer }) = jobs.into_iter().next() else { return Done::Well };
    let ran = AssertUnwindSafe(job(&mut tx)).catch_unwind().await;
    let (value, ended, if_not) = match ran {
        Ok(Ok(value)) => {
            let unconfirmed = unconfirmed(&tx);
            (Ok(value), tx.commit().await, unconfirmed)
        }
        Ok(Err(value)) => (Ok(value), tx.rollback().await, Done::Broken),
        Err(panic) => {
            let text = panic_text(&*panic);
            (Err(StoreError::Panic(text)), tx.rollback().await, Done::Broken)
        }
    };
    let done = if ended.is_ok() { Done::Well } else { if_not };
    let _ = answer.send(match ended {
        Ok(()) => value,
        Err(error) => Err(StoreError::Commit(error.to_string())),
    });
    done
}

/// What a commit without a confirmation is. SQLite knows: what it does not confirm it rolls back.
const fn unconfirmed(tx: &Tx) -> Done {
    match tx {
        Tx::Sqlite(_) => Done::Broken,
        Tx::Postgres(_) => Done::InDoubt,
    }
}

enum JobFailure {
    Panic(String),
    Transaction(sqlx::Error),
}

async fn run_in_savepoint(tx: &mut Tx, job: Job) -> Result<Erased, JobFailure> {
    tx.execute("SAVEPOINT job").await.map_err(JobFailure::Transaction)?;
    let ran = AssertUnwindSafe(job(tx)).catch_unwind().await;
    let (value, kept) = match ran {
        Ok(Ok(value)) => (Ok(value), true),
        Ok(Err(value)) => (Ok(value), false),
        Err(panic) => (Err(JobFailure::Panic(panic_text(&*panic))), false),
    };
    if !kept {
        tx.execute("ROLLBACK TO SAVEPOINT job").await.map_err(JobFailure::Transaction)?;
    }
    tx.execute("RELEASE SAVEPOINT job").await.map_err(JobFailure::Transaction)?;
    value
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
}

fn refuse(jobs: Vec<Waiting>, error: &sqlx::Error) {
    tracing::error!(%error, jobs = jobs.len(), "cannot begin a transaction");
    let text = error.to_string();
    for waiting in jobs {
        let _ = waiting.answer.send(Err(StoreError::Commit(text.clone())));
    }
}
