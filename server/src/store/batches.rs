//! Batches: what the commands of one submission have in common.

use quarterdeck_protocol::ids::ProjectId;

use super::{StoreError, Tx, on};

/// A batch as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Batch {
    pub id: String,
    pub project_id: String,
    pub kind: String,
    /// JSON.
    pub payload: String,
    /// JSON: the targets that were asked for, with the devices that they stood for.
    pub targets: String,
    pub notes: String,
    pub count: i64,
    pub created_by: String,
    pub created_at: i64,
}

/// Adds a batch.
pub async fn insert(tx: &mut Tx, batch: &Batch) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "INSERT INTO batches (id, project_id, type, payload, targets, notes, count, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    ).bind(&batch.id).bind(&batch.project_id).bind(&batch.kind).bind(&batch.payload).bind(&batch.targets)
     .bind(&batch.notes).bind(batch.count).bind(&batch.created_by).bind(batch.created_at)
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Reads a batch of a project.
pub async fn get(tx: &mut Tx, project: &ProjectId, id: &str) -> Result<Option<Batch>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT id, project_id, type AS kind, payload, targets, notes, count, created_by, created_at
         FROM batches WHERE id = $1 AND project_id = $2",
    ).bind(id).bind(project.as_str()).fetch_optional(conn).await?))
}
