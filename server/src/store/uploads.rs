//! Files that commands bring or take: what is known of each; the bytes lie in the data folder.

use quarterdeck_protocol::ids::{DeviceId, ProjectId};
use serde_json::Value;
use uuid::Uuid;

use super::{
    StoreError, Tx, on,
    query::{Sql, fetch_all},
};

/// A file as stored. Its id is a command's, or one that a user chose for a push.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Upload {
    pub id: String,
    pub project_id: String,
    /// Who brought it: a device, or a user when `None`.
    pub device_id: Option<String>,
    pub name: String,
    pub size_bytes: i64,
    pub sha256: String,
    pub created_by: String,
    pub created_at: i64,
}

/// The operations whose commands may take a file.
pub const TAKEN_BY: [&str; 2] = ["file_push", "config_update"];

/// The file that a command's payload asks for.
pub fn asked_for(payload: &Value) -> Option<Uuid> {
    payload.get("upload_id")?.as_str()?.parse().ok()
}

/// Adds a file; `false` when the id is taken.
pub async fn insert(tx: &mut Tx, upload: &Upload) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "INSERT INTO uploads (id, project_id, device_id, name, size_bytes, sha256, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    ).bind(&upload.id).bind(&upload.project_id).bind(&upload.device_id).bind(&upload.name)
     .bind(upload.size_bytes).bind(&upload.sha256).bind(&upload.created_by).bind(upload.created_at)
     .execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Reads a file of a project.
pub async fn by_id(
    tx: &mut Tx,
    project: &ProjectId,
    id: &str,
) -> Result<Option<Upload>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as("SELECT * FROM uploads WHERE id = $1 AND project_id = $2")
        .bind(id).bind(project.as_str()).fetch_optional(conn).await?))
}

/// Reads a file of any project: for who knows its id and shows a right to it elsewhere.
pub async fn find(tx: &mut Tx, id: &str) -> Result<Option<Upload>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as("SELECT * FROM uploads WHERE id = $1")
        .bind(id).fetch_optional(conn).await?))
}

/// Adds up the files of a project, in bytes.
pub async fn total_bytes(tx: &mut Tx, project: &ProjectId) -> Result<u64, StoreError> {
    let (sum,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM uploads WHERE project_id = $1",
    ).bind(project.as_str()).fetch_one(conn).await?);
    Ok(sum as u64)
}

/// Reads the payloads of a device's commands that may take a file and have not ended.
pub async fn wanted_by(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<Vec<String>, StoreError> {
    let mut sql = Sql::new(
        "SELECT b.payload FROM commands c JOIN batches b ON b.id = c.batch_id
         WHERE c.project_id = ",
    );
    sql.bind(project.as_str()).push(" AND c.device_id = ").bind(device.as_str());
    sql.push(" AND c.open AND c.type IN ").bind_list(TAKEN_BY);
    let rows: Vec<(String,)> = fetch_all!(tx, sql)?;
    Ok(rows.into_iter().map(|(payload,)| payload).collect())
}
