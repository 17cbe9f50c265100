//! What devices said, durable before it is decided: a row a batch.
//!
//! With SQLite it lies in a file of its own ([`file_beside`]), so that keeping
//! waits for no other's commit. What is decided is therefore told by a number
//! in the database that the decisions are in ([`decided`]), in one commit with
//! them; the rows up to it are forgotten later, by whoever keeps the next one.

use std::path::{Path, PathBuf};

use super::{StoreError, Tx, meta, on};

/// Rows read at once after a crash.
const PAGE_ROWS: i64 = 64;
/// The value that tells how far it is decided.
const DECIDED: &str = "intake_decided";
/// The same table as in the migrations, for the file of its own.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS intake (
    seq   BIGINT NOT NULL PRIMARY KEY,
    words TEXT   NOT NULL
)";

/// Where the intake of a SQLite database lies.
pub fn file_beside(database: &Path) -> PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push("-intake");
    database.with_file_name(name)
}

/// Keeps a batch, numbered by the caller above all before it.
pub async fn keep(tx: &mut Tx, seq: i64, words: &str) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query("INSERT INTO intake (seq, words) VALUES ($1, $2)")
        .bind(seq).bind(words).execute(conn).await.map(drop))?;
    Ok(())
}

/// Forgets what is decided: all up to `seq`.
pub async fn forget(tx: &mut Tx, seq: i64) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query("DELETE FROM intake WHERE seq <= $1")
        .bind(seq).execute(conn).await.map(drop))?;
    Ok(())
}

/// Reads the oldest batches above `after`, in order: a page of them.
pub async fn page(tx: &mut Tx, after: i64) -> Result<Vec<(i64, String)>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT seq, words FROM intake WHERE seq > $1 ORDER BY seq LIMIT $2",
    ).bind(after).bind(PAGE_ROWS).fetch_all(conn).await?))
}

/// Takes note, beside the decisions themselves, that all up to `seq` is decided.
pub async fn set_decided(tx: &mut Tx, seq: i64) -> Result<(), StoreError> {
    meta::put(tx, DECIDED, &seq.to_string()).await
}

/// Reads how far it is decided; 0 before anything was.
pub async fn decided(tx: &mut Tx) -> Result<i64, StoreError> {
    match meta::get(tx, DECIDED).await? {
        None => Ok(0),
        Some(text) => {
            text.parse().map_err(|_| StoreError::Corrupt { what: format!("{DECIDED} {text:?}") })
        }
    }
}
