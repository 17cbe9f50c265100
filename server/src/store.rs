//! Durable state: SQLite by default, PostgreSQL by URL, one SQL for both (chapter 9).
//!
//! ```text
//!  write(job)  ──▶ bounded queue ──▶ one writer: BEGIN, every waiting job, COMMIT ──▶ answers
//!  intake(job) ──▶ the same, beside it: what devices say waits for nobody else's commit
//!  read()      ──▶ pool of read-only transactions beside both
//! ```
//!
//! Writing is a *group commit*: a disk syncs some hundred times a second, so
//! all jobs that wait while one commit is under way share the next. Each job
//! runs in its own savepoint; one that fails is rolled back and harms no other.
//! An answer means that the commit, with its sync, is done. Nobody lingers: a
//! lone job commits at once.
//!
//! SQLite has one writer a file, so the intake has a file of its own; in
//! PostgreSQL it is a connection of its own.
//!
//! A query is written once, in the file of its noun, as one text with `$1`
//! placeholders that both engines take; [`on!`] puts one body into both arms
//! of [`Tx`].
//!
//! Never here: a decision of the domain, the clock, a default of a setting.

pub mod alerts;
pub mod audit;
pub mod batches;
mod bulk;
pub mod commands;
pub mod device_events;
pub mod devices;
pub mod enrollment_tokens;
pub mod idempotency;
pub mod intake;
pub mod members;
pub mod meta;
pub mod overview;
pub mod projects;
pub mod query;
pub mod recordings;
pub mod safety;
pub mod service_tokens;
pub mod sessions;
pub mod tunnels;
pub mod uploads;
pub mod users;

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    path::PathBuf,
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use sqlx::{
    ConnectOptions, Connection as _, Executor as _, Postgres, Sqlite, Transaction,
    migrate::{MigrateError, Migrator},
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgPool},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

/// Jobs that may wait for the writer; more wait at the caller.
const WRITE_QUEUE_MAX_JOBS: usize = 4_096;
/// Jobs that share one commit at most.
const COMMIT_MAX_JOBS: usize = 1_024;
/// Read transactions at once.
const READERS_MAX: u32 = 8;
/// How long a reader waits for a connection.
const READ_WAIT_MS: u64 = 10_000;
/// How long a database server may be away when ours starts, in milliseconds.
const REACH_WAIT_MS: u64 = 10_000;
/// How long one attempt to reach it may take, and the pause before the next, in milliseconds.
const REACH_ATTEMPT_MS: u64 = 2_000;
const REACH_PAUSE_MS: u64 = 500;
/// How long SQLite waits for a lock that another process holds, e.g. a backup.
const BUSY_TIMEOUT_MS: u64 = 10_000;
/// SQLite's pages in memory, of each connection: negative, for it counts KiB.
const CACHE_SIZE_KIB: &str = "-32768";
/// Rows of SQLite that may wait for who asked: as many as a page has, so that reading is not stopped for it.
const ROWS_WAITING_MAX: usize = 1_024;
/// Statements kept prepared on each connection.
const STATEMENTS_MAX: usize = 512;
/// The most placeholders of one statement that both engines take.
pub const BINDS_MAX: usize = 32_000;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Runs one body on whichever engine a [`Tx`] is of.
///
/// `on!(tx, conn => sqlx::query("…").bind(x).execute(conn).await?)`
macro_rules! on {
    ($tx:expr, $conn:ident => $body:expr) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx) => {
                let $conn = &mut **tx;
                $body
            }
            $crate::store::Tx::Postgres(tx) => {
                let $conn = &mut **tx;
                $body
            }
        }
    };
}
pub(crate) use on;

/// A transaction. Dropped without a commit it is rolled back.
#[derive(Debug)]
pub enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        on!(self, conn => sqlx::raw_sql(sql).execute(conn).await.map(drop))
    }

    async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await,
            Self::Postgres(tx) => tx.rollback().await,
        }
    }

    async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the database {url}")]
    Open { url: String, source: sqlx::Error },
    #[error("cannot bring the database up to date: {0}")]
    Migrate(#[from] MigrateError),
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// Whether it was committed is not known: ask again, by id or idempotency key.
    #[error("the commit was not confirmed: {0}")]
    Commit(String),
    #[error("a row that the program itself wrote cannot be read: {what}")]
    Corrupt { what: String },
    #[error("a job of the store failed: {0}")]
    Panic(String),
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether a full disk is the reason: what the operator can act on.
    pub fn is_disk_full(&self) -> bool {
        let text = self.to_string();
        text.contains("disk is full") || text.contains("No space left")
    }

    /// Whether the database server cannot be reached now, and may be in a moment.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::PoolTimedOut) => true,
            Self::Database(error) | Self::Open { source: error, .. } => is_away(error),
            _ => false,
        }
    }
}

/// Where the state lies.
#[derive(Debug, Clone)]
pub enum Location {
    Sqlite(PathBuf),
    /// A `postgres://` URL.
    Postgres(String),
}

impl Location {
    /// For people: a URL without its password.
    fn shown(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(url) => url::Url::parse(url).map_or_else(
                |_| "postgres://…".to_owned(),
                |mut url| {
                    // Fails only for URLs that cannot have a password.
                    let _ = url.set_password(None);
                    url.to_string()
                },
            ),
        }
    }
}

#[derive(Debug, Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    async fn begin(&self, for_writing: bool) -> Result<Tx, sqlx::Error> {
        match self {
            // A deferred transaction that turns to writing fails as locked.
            Self::Sqlite(pool) if for_writing => {
                pool.begin_with("BEGIN IMMEDIATE").await.map(Tx::Sqlite)
            }
            Self::Sqlite(pool) => pool.begin().await.map(Tx::Sqlite),
            Self::Postgres(pool) if for_writing => pool.begin().await.map(Tx::Postgres),
            Self::Postgres(pool) => pool
                .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await
                .map(Tx::Postgres),
        }
    }

    /// Makes a pool like this one, which connects when it is first used.
    fn another(&self) -> Self {
        match self {
            Self::Sqlite(pool) => Self::Sqlite(
                pool.options().clone().connect_lazy_with((*pool.connect_options()).clone()),
            ),
            Self::Postgres(pool) => Self::Postgres(
                pool.options().clone().connect_lazy_with((*pool.connect_options()).clone()),
            ),
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

type JobFuture<'t, R> = Pin<Box<dyn Future<Output = R> + Send + 't>>;
type Erased = Box<dyn Any + Send>;
/// Answers `Ok(value)` to keep what it wrote, `Err(value)` to roll it back.
type Job = Box<dyn for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<Erased, Erased>> + Send>;

struct Waiting {
    job: Job,
    answer: oneshot::Sender<Result<Erased, StoreError>>,
}

/// The state of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    main: Lane,
    intake: Lane,
    readers: Pool,
}

/// Jobs that are committed one batch after the other.
#[derive(Debug, Clone)]
struct Lane {
    jobs: mpsc::Sender<Waiting>,
    writer: Writer,
}

impl Lane {
    fn start(pool: Pool) -> Self {
        let (jobs, waiting) = mpsc::channel(WRITE_QUEUE_MAX_JOBS);
        let writer = Writer::new(pool);
        tokio::spawn(write_loop(writer.clone(), waiting));
        Self { jobs, writer }
    }

    async fn run<T, E, F>(&self, job: F) -> Result<Result<T, E>, StoreError>
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
    async fn close(self) {
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

impl Store {
    /// Opens the database, brings its schema up to date and starts the writer.
    pub async fn open(location: &Location) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { url: location.shown(), source };
        let (writer, intake, readers) = match location {
            Location::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .statement_cache_capacity(STATEMENTS_MAX)
                    .row_buffer_size(ROWS_WAITING_MAX)
                    .disable_statement_logging()
                    .pragma("cache_size", CACHE_SIZE_KIB)
                    .pragma("temp_store", "memory")
                    .pragma("wal_autocheckpoint", "4000");
                let one = SqlitePoolOptions::new()
                    .max_connections(1)
                    .idle_timeout(None)
                    .max_lifetime(None);
                let writer = one.clone().connect_with(options.clone()).await.map_err(open)?;
                MIGRATIONS.run(&writer).await?;
                // Opened now: one that is damaged is to stop the start, not the first device.
                let beside = intake::file_beside(path);
                let shown = beside.display().to_string();
                let intake = one
                    .after_connect(|connection, _| {
                        Box::pin(async move { connection.execute(intake::TABLE).await.map(drop) })
                    })
                    .connect_with(options.clone().filename(beside))
                    .await
                    .map_err(|source| StoreError::Open { url: shown, source })?;
                let readers = reader_options()
                    .connect_with(options.create_if_missing(false).read_only(true))
                    .await
                    .map_err(open)?;
                (Pool::Sqlite(writer), Pool::Sqlite(intake), Pool::Sqlite(readers))
            }
            Location::Postgres(url) => {
                let options = PgConnectOptions::from_str(url)
                    .map_err(open)?
                    .statement_cache_capacity(STATEMENTS_MAX)
                    .options([("synchronous_commit", "on"), ("timezone", "UTC")]);
                reach(&options, &location.shown()).await.map_err(open)?;
                let one = PoolOptions::<Postgres>::new()
                    .max_connections(1)
                    .acquire_timeout(Duration::from_millis(READ_WAIT_MS));
                let intake = one.clone().connect_lazy_with(options.clone());
                let writer = one.connect_with(options.clone()).await.map_err(open)?;
                MIGRATIONS.run(&writer).await?;
                let readers = reader_options().connect_with(options).await.map_err(open)?;
                (Pool::Postgres(writer), Pool::Postgres(intake), Pool::Postgres(readers))
            }
        };
        Ok(Self { main: Lane::start(writer), intake: Lane::start(intake), readers })
    }

    /// Runs `job` in the next commit and answers when that is durable.
    ///
    /// An `Err` of the job rolls back what it wrote and is answered as it is;
    /// a [`StoreError`] means that nothing of it is known to be stored.
    pub async fn write<T, E, F>(&self, job: F) -> Result<Result<T, E>, StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, E>> + Send + 'static,
    {
        self.main.run(job).await
    }

    /// Runs `job` on the table of [`intake`], beside all else; answers like [`Store::write`].
    pub async fn intake<T, E, F>(&self, job: F) -> Result<Result<T, E>, StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> JobFuture<'t, Result<T, E>> + Send + 'static,
    {
        self.intake.run(job).await
    }

    /// Begins a read-only snapshot of what is committed.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        Ok(self.readers.begin(false).await?)
    }

    /// Ends the writers after the jobs that wait, and closes all connections.
    pub async fn close(self) {
        let Self { main, intake, readers } = self;
        readers.close().await;
        intake.close().await;
        main.close().await;
    }
}

/// Connects once, for a pool keeps what went wrong to itself. Waits for a server that is away or
/// begins, and says so at the first attempt that fails.
async fn reach(options: &PgConnectOptions, shown: &str) -> Result<(), sqlx::Error> {
    let mut last = None;
    let reaching = async {
        loop {
            let attempt = timeout(Duration::from_millis(REACH_ATTEMPT_MS), options.connect()).await;
            let error = match attempt {
                Ok(Ok(connection)) => return connection.close().await,
                Ok(Err(error)) if !is_away(&error) => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()),
            };
            if last.is_none() {
                let seconds = REACH_WAIT_MS / 1_000;
                tracing::warn!(
                    database = shown,
                    %error,
                    "the database does not answer; waiting up to {seconds} s for it. Does it run, and does --database name it?"
                );
            }
            last = Some(error);
            sleep(Duration::from_millis(REACH_PAUSE_MS)).await;
        }
    };
    let reached = timeout(Duration::from_millis(REACH_WAIT_MS), reaching).await;
    reached.unwrap_or_else(|_| Err(last.unwrap_or(sqlx::Error::PoolTimedOut)))
}

/// Whether a database server may be there in a moment.
fn is_away(error: &sqlx::Error) -> bool {
    /// PostgreSQL's `admin_shutdown`, `crash_shutdown` and `cannot_connect_now`: it stops, or starts.
    const GOES_OR_COMES: [&str; 3] = ["57P01", "57P02", "57P03"];
    match error {
        // While it starts it answers the question for TLS with an error.
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| GOES_OR_COMES.contains(&&*code))
        }
        _ => false,
    }
}

fn reader_options<DB: sqlx::Database>() -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(Duration::from_millis(READ_WAIT_MS))
}

async fn write_loop(writer: Writer, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, COMMIT_MAX_JOBS).await > 0 {
        let jobs = std::mem::take(&mut batch);
        metrics::histogram!("quarterdeck_store_commit_jobs").record(jobs.len() as f64);
        if !commit_together(&writer.pool(), jobs).await {
            writer.renew().await;
        }
    }
}

/// Runs the jobs in one transaction; answers whether the connection is still good.
async fn commit_together(pool: &Pool, jobs: Vec<Waiting>) -> bool {
    let mut tx = match pool.begin(true).await {
        Ok(tx) => tx,
        Err(error) => {
            refuse(jobs, &error);
            return false;
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
                return false;
            }
        }
    }
    match tx.commit().await {
        Ok(()) => {
            for (answer, value) in done {
                let _ = answer.send(value);
            }
            true
        }
        Err(error) => {
            let text = error.to_string();
            for (answer, _) in done {
                let _ = answer.send(Err(StoreError::Commit(text.clone())));
            }
            false
        }
    }
}

/// Runs a job that shares its transaction with no other: no savepoint is needed, which costs SQLite
/// a copy of each page that is written.
async fn commit_alone(mut tx: Tx, jobs: Vec<Waiting>) -> bool {
    let Some(Waiting { job, answer }) = jobs.into_iter().next() else { return true };
    let ran = AssertUnwindSafe(job(&mut tx)).catch_unwind().await;
    let (value, ended) = match ran {
        Ok(Ok(value)) => (Ok(value), tx.commit().await),
        Ok(Err(value)) => (Ok(value), tx.rollback().await),
        Err(panic) => (Err(StoreError::Panic(panic_text(&*panic))), tx.rollback().await),
    };
    let is_good = ended.is_ok();
    let _ = answer.send(match ended {
        Ok(()) => value,
        Err(error) => Err(StoreError::Commit(error.to_string())),
    });
    is_good
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_comes_back_is_told_from_one_that_fails() {
        let url = "postgres://…".to_owned();
        let starting = sqlx::Error::Protocol("unexpected response from SSLRequest: 0x45".into());
        let gone = || sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
        for (error, is_away) in [
            (StoreError::Open { url, source: starting }, true),
            (StoreError::Database(gone()), true),
            (StoreError::Database(sqlx::Error::PoolTimedOut), true),
            (StoreError::Database(sqlx::Error::RowNotFound), false),
            (StoreError::Commit("it broke off".to_owned()), false),
            (StoreError::Corrupt { what: "a row".to_owned() }, false),
        ] {
            assert_eq!(error.is_away(), is_away, "{error}");
        }
    }
}
