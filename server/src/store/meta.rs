//! Single values that belong to the server as a whole: keys, the clock's anchor.

use super::{StoreError, Tx, on};

/// Reads a value.
pub async fn get(tx: &mut Tx, name: &str) -> Result<Option<String>, StoreError> {
    let row: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT value FROM meta WHERE name = $1",
    ).bind(name).fetch_optional(conn).await?);
    Ok(row.map(|(value,)| value))
}

/// Writes a value over what was there.
pub async fn put(tx: &mut Tx, name: &str, value: &str) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2",
    ).bind(name).bind(value).execute(conn).await?.rows_affected());
    Ok(())
}
