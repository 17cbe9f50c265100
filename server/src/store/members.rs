//! Who is a member of a project, in which role.

use quarterdeck_protocol::{
    api::{Member, Role},
    ids::ProjectId,
};

use super::{StoreError, Tx, on};

/// Makes a user a member, or changes the role.
pub async fn set(
    tx: &mut Tx,
    project: &ProjectId,
    user_id: &str,
    role: Role,
) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "INSERT INTO members (project_id, user_id, role) VALUES ($1, $2, $3)
         ON CONFLICT (project_id, user_id) DO UPDATE SET role = $3",
    ).bind(project.as_str()).bind(user_id).bind(role.as_str()).execute(conn).await?.rows_affected());
    Ok(())
}

/// Takes a user out of a project; `false` when they were no member.
pub async fn remove(tx: &mut Tx, project: &ProjectId, user_id: &str) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query("DELETE FROM members WHERE project_id = $1 AND user_id = $2")
        .bind(project.as_str()).bind(user_id).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Tells whether a user is an admin of any project.
pub async fn administers_any(tx: &mut Tx, user_id: &str) -> Result<bool, StoreError> {
    let row: Option<(i64,)> = on!(tx, conn => sqlx::query_as(
        "SELECT CAST(1 AS BIGINT) FROM members WHERE user_id = $1 AND role = $2 LIMIT 1",
    ).bind(user_id).bind(Role::Admin.as_str()).fetch_optional(conn).await?);
    Ok(row.is_some())
}

/// Reads members by username, beyond `after`.
pub async fn list(
    tx: &mut Tx,
    project: &ProjectId,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Member>, StoreError> {
    select(tx, project, after.unwrap_or_default(), limit, 0).await
}

/// Reads the members `offset` to `offset + limit`, by username.
pub async fn window(
    tx: &mut Tx,
    project: &ProjectId,
    offset: u64,
    limit: u32,
) -> Result<Vec<Member>, StoreError> {
    select(tx, project, "", limit, offset).await
}

async fn select(
    tx: &mut Tx,
    project: &ProjectId,
    after: &str,
    limit: u32,
    offset: u64,
) -> Result<Vec<Member>, StoreError> {
    let rows: Vec<(String, String)> = on!(tx, conn => sqlx::query_as(
        "SELECT u.username, m.role FROM members m JOIN users u ON u.id = m.user_id
         WHERE m.project_id = $1 AND u.username > $2 ORDER BY u.username LIMIT $3 OFFSET $4",
    ).bind(project.as_str()).bind(after).bind(i64::from(limit))
     .bind(i64::try_from(offset).unwrap_or(i64::MAX)).fetch_all(conn).await?);
    rows.into_iter()
        .map(|(username, role)| {
            let role = role.parse().map_err(|_| StoreError::Corrupt {
                what: format!("the role of {username} in project {project}"),
            })?;
            Ok(Member { username, role })
        })
        .collect()
}

/// Counts a project's members.
pub async fn count(tx: &mut Tx, project: &ProjectId) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM members WHERE project_id = $1",
    ).bind(project.as_str()).fetch_one(conn).await?);
    Ok(count as u64)
}
