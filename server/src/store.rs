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
//! of [`Tx`]. What is listed by filter is a [`listed::Listed`]: its pages, cursors
//! and windows are made in one place.
//!
//! Never here: a decision of the domain, the clock, a default of a setting.

pub mod alerts;
pub mod audit;
pub mod batches;
mod bulk;
pub mod commands;
pub mod device_events;
pub mod devices;
pub mod doubt;
pub mod enrollment_tokens;
pub mod idempotency;
pub mod intake;
pub mod listed;
pub mod members;
pub mod meta;
mod open;
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
mod writer;

use std::path::PathBuf;

use sqlx::{Postgres, Sqlite, Transaction, migrate::MigrateError};
use tokio::sync::watch;

use self::{
    open::{Pool, Pools, is_away},
    writer::{JobFuture, Lane},
};

/// The most placeholders of one statement that both engines take.
pub const BINDS_MAX: usize = 32_000;

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

/// The state of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    main: Lane,
    intake: Lane,
    readers: Pool,
}

impl Store {
    /// Opens the database, brings its schema up to date and starts the writer.
    pub async fn open(location: &Location) -> Result<Self, StoreError> {
        let Pools { writer, intake, readers } = open::pools(location).await?;
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

    /// Changes when a commit of [`Store::write`] ended without its confirmation: what was asked for
    /// may be stored while who asked was told that it failed. Who acts on what is stored looks again.
    pub fn doubts(&self) -> watch::Receiver<()> {
        self.main.doubts()
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
