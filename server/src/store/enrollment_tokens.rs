//! Tokens with which devices become a project's, kept as hashes.

use std::collections::BTreeMap;

use quarterdeck_protocol::{api::EnrollmentToken, ids::ProjectId, time::Timestamp};

use super::{StoreError, Tx, on};

/// A token's row. The token itself is nowhere.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StoredToken {
    pub id: String,
    pub project_id: String,
    pub uses: i64,
    pub used: i64,
    pub tags: String,
    pub created_by: String,
    pub created_at: i64,
    pub expires_at: i64,
    pub revoked_at: Option<i64>,
}

impl StoredToken {
    /// Whether one more device may enrol with it.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at > now.as_millis() && self.used < self.uses
    }

    /// The tags that each device gets.
    pub fn tags(&self) -> Result<BTreeMap<String, String>, StoreError> {
        serde_json::from_str(&self.tags).map_err(|_| StoreError::Corrupt {
            what: format!("tags of enrolment token {}", self.id),
        })
    }

    /// Shows a token, without its secret.
    pub fn shown(self) -> Result<EnrollmentToken, StoreError> {
        Ok(EnrollmentToken {
            tags: self.tags()?,
            id: self.id,
            uses: self.uses as u32,
            used: self.used as u32,
            expires_at: Timestamp::from_millis(self.expires_at),
            created_by: self.created_by,
            created_at: Timestamp::from_millis(self.created_at),
            revoked_at: self.revoked_at.map(Timestamp::from_millis),
            token: None,
        })
    }
}

/// Adds a token.
pub async fn insert(tx: &mut Tx, token: &StoredToken, token_hash: &str) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "INSERT INTO enrollment_tokens (id, project_id, token_hash, uses, used, tags, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8)",
    ).bind(&token.id).bind(&token.project_id).bind(token_hash).bind(token.uses).bind(&token.tags)
     .bind(&token.created_by).bind(token.created_at).bind(token.expires_at)
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Reads the token with a hash, good or not.
pub async fn by_hash(tx: &mut Tx, token_hash: &str) -> Result<Option<StoredToken>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT id, project_id, uses, used, tags, created_by, created_at, expires_at, revoked_at
         FROM enrollment_tokens WHERE token_hash = $1",
    ).bind(token_hash).fetch_optional(conn).await?))
}

/// Takes one use of a token; `false` when none is left.
pub async fn take_use(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE enrollment_tokens SET used = used + 1
         WHERE id = $1 AND used < uses AND revoked_at IS NULL AND expires_at > $2",
    ).bind(id).bind(now.as_millis()).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Revokes a token of a project: `None` when unknown, `Some(false)` when revoked before.
pub async fn revoke(
    tx: &mut Tx,
    project: &ProjectId,
    id: &str,
    now: Timestamp,
) -> Result<Option<bool>, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE enrollment_tokens SET revoked_at = $3 WHERE project_id = $1 AND id = $2 AND revoked_at IS NULL",
    ).bind(project.as_str()).bind(id).bind(now.as_millis()).execute(conn).await?.rows_affected());
    if rows == 1 {
        return Ok(Some(true));
    }
    let row: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT id FROM enrollment_tokens WHERE project_id = $1 AND id = $2",
    ).bind(project.as_str()).bind(id).fetch_optional(conn).await?);
    Ok(row.map(|_| false))
}

/// Reads the tokens of a project, newest first, beyond `after`.
pub async fn list(
    tx: &mut Tx,
    project: &ProjectId,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<EnrollmentToken>, StoreError> {
    // Ids are UUIDs: letter z is after all of them.
    select(tx, project, after.unwrap_or("z"), limit, 0).await
}

/// Reads the tokens `offset` to `offset + limit`, newest first.
pub async fn window(
    tx: &mut Tx,
    project: &ProjectId,
    offset: u64,
    limit: u32,
) -> Result<Vec<EnrollmentToken>, StoreError> {
    select(tx, project, "z", limit, offset).await
}

async fn select(
    tx: &mut Tx,
    project: &ProjectId,
    before: &str,
    limit: u32,
    offset: u64,
) -> Result<Vec<EnrollmentToken>, StoreError> {
    let rows: Vec<StoredToken> = on!(tx, conn => sqlx::query_as(
        "SELECT id, project_id, uses, used, tags, created_by, created_at, expires_at, revoked_at
         FROM enrollment_tokens WHERE project_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4",
    ).bind(project.as_str()).bind(before).bind(i64::from(limit))
     .bind(i64::try_from(offset).unwrap_or(i64::MAX)).fetch_all(conn).await?);
    rows.into_iter().map(StoredToken::shown).collect()
}

/// Counts the tokens of a project.
pub async fn count(tx: &mut Tx, project: &ProjectId) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM enrollment_tokens WHERE project_id = $1",
    ).bind(project.as_str()).fetch_one(conn).await?);
    Ok(count as u64)
}
