//! People who may sign in, and what they may do where.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{Role, User},
    ids::ProjectId,
    time::Timestamp,
};

use super::{StoreError, Tx, on};

/// A user as stored: for signing in and for changes.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StoredUser {
    pub id: String,
    pub username: String,
    pub password_hash: String,
    pub is_admin: bool,
    pub disabled: bool,
    pub created_at: i64,
    pub last_login_at: Option<i64>,
}

/// What a new user is made of.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub id: String,
    pub username: String,
    pub password_hash: String,
    pub is_admin: bool,
    pub created_at: Timestamp,
}

/// Reads one user by name.
pub async fn by_name(tx: &mut Tx, username: &str) -> Result<Option<StoredUser>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as("SELECT * FROM users WHERE username = $1")
        .bind(username).fetch_optional(conn).await?))
}

/// Adds a user; `false` when the name is taken, in whatever case: people would mistake one for the other.
pub async fn insert(tx: &mut Tx, user: &NewUser) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "INSERT INTO users (id, username, password_hash, is_admin, disabled, created_at)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE NOT EXISTS (SELECT 1 FROM users WHERE LOWER(username) = LOWER($2))
         ON CONFLICT DO NOTHING",
    ).bind(&user.id).bind(&user.username).bind(&user.password_hash).bind(user.is_admin)
     .bind(false).bind(user.created_at.as_millis()).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Writes what may change of a user.
pub async fn update(tx: &mut Tx, user: &StoredUser) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "UPDATE users SET password_hash = $2, is_admin = $3, disabled = $4, last_login_at = $5 WHERE id = $1",
    ).bind(&user.id).bind(&user.password_hash).bind(user.is_admin).bind(user.disabled)
     .bind(user.last_login_at).execute(conn).await?.rows_affected());
    Ok(())
}

/// Counts the server admins who can sign in.
pub async fn count_admins(tx: &mut Tx) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM users WHERE is_admin = $1 AND disabled = $2",
    ).bind(true).bind(false).fetch_one(conn).await?);
    Ok(count as u64)
}

/// Counts all users.
pub async fn count(tx: &mut Tx) -> Result<u64, StoreError> {
    let (count,): (i64,) =
        on!(tx, conn => sqlx::query_as("SELECT COUNT(*) FROM users").fetch_one(conn).await?);
    Ok(count as u64)
}

/// Reads users by name, beyond `after`.
pub async fn list(
    tx: &mut Tx,
    descending: bool,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<User>, StoreError> {
    let rows: Vec<StoredUser> = match (descending, after) {
        (false, after) => on!(tx, conn => sqlx::query_as(
            "SELECT * FROM users WHERE username > $1 ORDER BY username LIMIT $2",
        ).bind(after.unwrap_or_default()).bind(i64::from(limit)).fetch_all(conn).await?),
        (true, Some(after)) => on!(tx, conn => sqlx::query_as(
            "SELECT * FROM users WHERE username < $1 ORDER BY username DESC LIMIT $2",
        ).bind(after).bind(i64::from(limit)).fetch_all(conn).await?),
        (true, None) => on!(tx, conn => sqlx::query_as(
            "SELECT * FROM users ORDER BY username DESC LIMIT $1",
        ).bind(i64::from(limit)).fetch_all(conn).await?),
    };
    with_projects(tx, rows).await
}

/// Reads the users `offset` to `offset + limit`, by name.
pub async fn window(tx: &mut Tx, offset: u64, limit: u32) -> Result<Vec<User>, StoreError> {
    let rows: Vec<StoredUser> = on!(tx, conn => sqlx::query_as(
        "SELECT * FROM users ORDER BY username LIMIT $1 OFFSET $2",
    ).bind(i64::from(limit)).bind(i64::try_from(offset).unwrap_or(i64::MAX)).fetch_all(conn).await?);
    with_projects(tx, rows).await
}

/// Shows a user with their roles.
pub async fn shown(tx: &mut Tx, user: StoredUser) -> Result<User, StoreError> {
    let projects = roles(tx, &user.id).await?;
    Ok(User {
        id: user.id,
        username: user.username,
        admin: user.is_admin,
        disabled: user.disabled,
        projects,
        created_at: Timestamp::from_millis(user.created_at),
        last_login_at: user.last_login_at.map(Timestamp::from_millis),
    })
}

/// Reads a user's roles by project.
pub async fn roles(tx: &mut Tx, user_id: &str) -> Result<BTreeMap<ProjectId, Role>, StoreError> {
    let rows: Vec<(String, String)> = on!(tx, conn => sqlx::query_as(
        "SELECT project_id, role FROM members WHERE user_id = $1 ORDER BY project_id",
    ).bind(user_id).fetch_all(conn).await?);
    rows.into_iter()
        .map(|(project, role)| {
            let corrupt =
                || StoreError::Corrupt { what: format!("a membership of user {user_id}") };
            Ok((
                ProjectId::new(&project).map_err(|_| corrupt())?,
                role.parse().map_err(|_| corrupt())?,
            ))
        })
        .collect()
}

async fn with_projects(tx: &mut Tx, rows: Vec<StoredUser>) -> Result<Vec<User>, StoreError> {
    let mut users = Vec::with_capacity(rows.len());
    for row in rows {
        users.push(shown(tx, row).await?);
    }
    Ok(users)
}
