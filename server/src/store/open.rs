//! Connecting to the database, and bringing its schema up to date.

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection as _, Executor as _, Postgres,
    migrate::Migrator,
    pool::PoolOptions,
    postgres::{PgConnectOptions, PgPool},
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
    },
};
use tokio::time::{sleep, timeout};

use super::{Location, StoreError, Tx, intake};

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
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections to one database, of either engine.
#[derive(Debug, Clone)]
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    pub(super) async fn begin(&self, for_writing: bool) -> Result<Tx, sqlx::Error> {
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
    pub(super) fn another(&self) -> Self {
        match self {
            Self::Sqlite(pool) => Self::Sqlite(
                pool.options().clone().connect_lazy_with((*pool.connect_options()).clone()),
            ),
            Self::Postgres(pool) => Self::Postgres(
                pool.options().clone().connect_lazy_with((*pool.connect_options()).clone()),
            ),
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// The connections that a store has.
#[derive(Debug)]
pub(super) struct Pools {
    pub(super) writer: Pool,
    pub(super) intake: Pool,
    pub(super) readers: Pool,
}

/// Opens the database, and brings its schema up to date.
pub(super) async fn pools(location: &Location) -> Result<Pools, StoreError> {
    let open = |source| StoreError::Open { url: location.shown(), source };
    match location {
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
            let one =
                SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
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
            Ok(Pools {
                writer: Pool::Sqlite(writer),
                intake: Pool::Sqlite(intake),
                readers: Pool::Sqlite(readers),
            })
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
            Ok(Pools {
                writer: Pool::Postgres(writer),
                intake: Pool::Postgres(intake),
                readers: Pool::Postgres(readers),
            })
        }
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
pub(super) fn is_away(error: &sqlx::Error) -> bool {
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
