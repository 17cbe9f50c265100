//! What devices said, durable before it is decided: a row a batch.

use super::{StoreError, Tx, on};

/// Rows read at once after a crash.
const PAGE_ROWS: i64 = 64;

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
