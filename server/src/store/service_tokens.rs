//! Tokens of programs: one project, one role, kept as hashes.

use quarterdeck_protocol::{api::ServiceToken, ids::ProjectId, time::Timestamp};

use super::{StoreError, Tx, on};

/// The name of a program that acts begins so.
const ACTOR: &str = "service:";

/// A token's row. The token itself is nowhere.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StoredToken {
    pub id: String,
    pub project_id: String,
    pub name: String,
    pub role: String,
    pub created_by: String,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    pub last_used_at: Option<i64>,
}

impl StoredToken {
    /// Who its holder is in all that is recorded and counted: its name, for people, and the end of
    /// its id, since more than one token may have that name.
    pub fn actor(&self) -> String {
        let end = self.id.rsplit('-').next().unwrap_or(&self.id);
        format!("{ACTOR}{}#{end}", self.name)
    }

    /// Whether it is good at `now`.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > now.as_millis())
    }

    /// Shows a token, without its secret.
    pub fn shown(self) -> Result<ServiceToken, StoreError> {
        let role = self
            .role
            .parse()
            .map_err(|_| StoreError::Corrupt { what: format!("service token {}", self.id) })?;
        Ok(ServiceToken {
            id: self.id,
            name: self.name,
            role,
            created_by: self.created_by,
            created_at: Timestamp::from_millis(self.created_at),
            expires_at: self.expires_at.map(Timestamp::from_millis),
            revoked_at: self.revoked_at.map(Timestamp::from_millis),
            last_used_at: self.last_used_at.map(Timestamp::from_millis),
            token: None,
        })
    }
}

/// Adds a token.
pub async fn insert(tx: &mut Tx, token: &StoredToken, token_hash: &str) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "INSERT INTO service_tokens (id, project_id, name, role, token_hash, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    ).bind(&token.id).bind(&token.project_id).bind(&token.name).bind(&token.role).bind(token_hash)
     .bind(&token.created_by).bind(token.created_at).bind(token.expires_at)
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Reads the token with a hash, if it is good at `now`.
pub async fn by_hash(
    tx: &mut Tx,
    token_hash: &str,
    now: Timestamp,
) -> Result<Option<StoredToken>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT id, project_id, name, role, created_by, created_at, expires_at, revoked_at, last_used_at
         FROM service_tokens
         WHERE token_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)",
    ).bind(token_hash).bind(now.as_millis()).fetch_optional(conn).await?))
}

/// Reads one token by id, good or not.
pub async fn by_id(tx: &mut Tx, id: &str) -> Result<Option<StoredToken>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT id, project_id, name, role, created_by, created_at, expires_at, revoked_at, last_used_at
         FROM service_tokens WHERE id = $1",
    ).bind(id).fetch_optional(conn).await?))
}

/// Reads the token behind a [`StoredToken::actor`], good or not.
pub async fn by_actor(
    tx: &mut Tx,
    project: &ProjectId,
    actor: &str,
) -> Result<Option<StoredToken>, StoreError> {
    let named = actor.strip_prefix(ACTOR).and_then(|rest| rest.rsplit_once('#'));
    let Some((name, _)) = named else { return Ok(None) };
    let of_that_name: Vec<StoredToken> = on!(tx, conn => sqlx::query_as(
        "SELECT id, project_id, name, role, created_by, created_at, expires_at, revoked_at, last_used_at
         FROM service_tokens WHERE project_id = $1 AND name = $2",
    ).bind(project.as_str()).bind(name).fetch_all(conn).await?);
    Ok(of_that_name.into_iter().find(|token| token.actor() == actor))
}

/// Notes that a token was used.
pub async fn touch(tx: &mut Tx, id: &str, now: Timestamp) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query("UPDATE service_tokens SET last_used_at = $2 WHERE id = $1")
        .bind(id).bind(now.as_millis()).execute(conn).await?.rows_affected());
    Ok(())
}

/// Revokes a token; `false` when it was revoked already.
pub async fn revoke(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE service_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
    ).bind(id).bind(now.as_millis()).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Reads the tokens of the projects that a user administers, oldest first, beyond `after`.
pub async fn list(
    tx: &mut Tx,
    administered_by: Option<&str>,
    project: Option<&ProjectId>,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<ServiceToken>, StoreError> {
    let rows: Vec<StoredToken> = on!(tx, conn => sqlx::query_as(
        "SELECT t.id, t.project_id, t.name, t.role, t.created_by, t.created_at, t.expires_at, t.revoked_at,
         t.last_used_at FROM service_tokens t
         LEFT JOIN members m ON m.project_id = t.project_id AND m.user_id = $1
         WHERE t.id > $3 AND ($1 IS NULL OR m.role = 'admin') AND ($2 IS NULL OR t.project_id = $2)
         ORDER BY t.id LIMIT $4",
    ).bind(administered_by).bind(project.map(ProjectId::as_str)).bind(after.unwrap_or_default())
     .bind(i64::from(limit)).fetch_all(conn).await?);
    rows.into_iter().map(StoredToken::shown).collect()
}

/// Counts the tokens of a listing.
pub async fn count(
    tx: &mut Tx,
    administered_by: Option<&str>,
    project: Option<&ProjectId>,
) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM service_tokens t
         LEFT JOIN members m ON m.project_id = t.project_id AND m.user_id = $1
         WHERE ($1 IS NULL OR m.role = 'admin') AND ($2 IS NULL OR t.project_id = $2)",
    ).bind(administered_by).bind(project.map(ProjectId::as_str)).fetch_one(conn).await?);
    Ok(count as u64)
}
