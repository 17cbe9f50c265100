//! Logins: one row each, until it ends (chapter 9).

use quarterdeck_protocol::{api::Role, time::Timestamp};

use super::{StoreError, Tx, on};

/// A login as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StoredSession {
    pub id: String,
    pub user_id: String,
    pub refresh_hash: String,
    pub previous_refresh_hash: Option<String>,
    pub refreshed_at: i64,
    pub expires_at: i64,
    pub revoked_at: Option<i64>,
}

/// What a new login is made of.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: String,
    pub user_id: String,
    pub refresh_hash: String,
    pub from_addr: String,
    pub at: Timestamp,
    pub expires_at: Timestamp,
}

/// Who stands behind a live session, with the role in one project.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Holder {
    pub user_id: String,
    pub username: String,
    pub is_admin: bool,
    pub role: Option<String>,
    /// Whether the project exists.
    pub project_id: Option<String>,
}

impl Holder {
    /// The role in the project that was asked for: server admins hold every one.
    pub fn role(&self) -> Option<Role> {
        self.project_id.as_ref()?;
        if self.is_admin { Some(Role::Admin) } else { self.role.as_deref()?.parse().ok() }
    }
}

/// Adds a login.
pub async fn insert(tx: &mut Tx, session: &NewSession) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "INSERT INTO sessions (id, user_id, refresh_hash, from_addr, created_at, refreshed_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $5, $6)",
    ).bind(&session.id).bind(&session.user_id).bind(&session.refresh_hash).bind(&session.from_addr)
     .bind(session.at.as_millis()).bind(session.expires_at.as_millis())
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Reads a login, ended or not.
pub async fn by_id(tx: &mut Tx, id: &str) -> Result<Option<StoredSession>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT id, user_id, refresh_hash, previous_refresh_hash, refreshed_at, expires_at, revoked_at
         FROM sessions WHERE id = $1",
    ).bind(id).fetch_optional(conn).await?))
}

/// Reads who stands behind a session that is live at `now`, and their role in `project`.
pub async fn holder(
    tx: &mut Tx,
    id: &str,
    project: &str,
    now: Timestamp,
) -> Result<Option<Holder>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT u.id AS user_id, u.username, u.is_admin, m.role, p.id AS project_id
         FROM sessions s JOIN users u ON u.id = s.user_id
         LEFT JOIN projects p ON p.id = $2
         LEFT JOIN members m ON m.user_id = u.id AND m.project_id = p.id
         WHERE s.id = $1 AND s.revoked_at IS NULL AND s.expires_at > $3 AND u.disabled = $4",
    ).bind(id).bind(project).bind(now.as_millis()).bind(false).fetch_optional(conn).await?))
}

/// Replaces the refresh token, if `expected_hash` is still the present one.
pub async fn rotate(
    tx: &mut Tx,
    id: &str,
    expected_hash: &str,
    new_hash: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE sessions SET previous_refresh_hash = refresh_hash, refresh_hash = $3, refreshed_at = $4,
         expires_at = $5 WHERE id = $1 AND refresh_hash = $2 AND revoked_at IS NULL",
    ).bind(id).bind(expected_hash).bind(new_hash).bind(now.as_millis()).bind(expires_at.as_millis())
     .execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Ends a login; `false` when it had ended.
pub async fn revoke(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE sessions SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
    ).bind(id).bind(now.as_millis()).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Ends all logins of a user, but `except`; answers how many.
pub async fn revoke_all(
    tx: &mut Tx,
    user_id: &str,
    except: Option<&str>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    Ok(on!(tx, conn => sqlx::query(
        "UPDATE sessions SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL AND id <> $3",
    ).bind(user_id).bind(now.as_millis()).bind(except.unwrap_or_default())
     .execute(conn).await?.rows_affected()))
}

/// Whether a user ever signed in from an address, as far as is remembered.
pub async fn signed_in_from(
    tx: &mut Tx,
    username: &str,
    from_addr: &str,
) -> Result<bool, StoreError> {
    let row: Option<(i64,)> = on!(tx, conn => sqlx::query_as(
        "SELECT s.created_at FROM sessions s JOIN users u ON u.id = s.user_id
         WHERE u.username = $1 AND s.from_addr = $2 LIMIT 1",
    ).bind(username).bind(from_addr).fetch_optional(conn).await?);
    Ok(row.is_some())
}

/// Forgets logins that ended before `before`; answers how many.
pub async fn sweep(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    Ok(on!(tx, conn => sqlx::query(
        "DELETE FROM sessions WHERE id IN
         (SELECT id FROM sessions WHERE expires_at < $1 OR revoked_at < $1 LIMIT 1000)",
    ).bind(before.as_millis()).execute(conn).await?.rows_affected()))
}
