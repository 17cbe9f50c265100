//! Projects and their settings.

use quarterdeck_protocol::{
    api::{Project, ProjectSettings, Role},
    ids::ProjectId,
    time::Timestamp,
};

use super::{StoreError, Tx, on};

/// Adds a project; `false` when the id is taken.
pub async fn insert(
    tx: &mut Tx,
    id: &ProjectId,
    name: &str,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "INSERT INTO projects (id, name, settings, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    ).bind(id.as_str()).bind(name).bind(settings_text(&ProjectSettings::default())).bind(at.as_millis())
     .execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Whether a project exists.
pub async fn exists(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    let row: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT id FROM projects WHERE id = $1",
    ).bind(id).fetch_optional(conn).await?);
    Ok(row.is_some())
}

/// Who asks for projects: each sees those where they hold a role.
#[derive(Debug, Clone)]
pub enum Reader {
    ServerAdmin,
    User {
        id: String,
    },
    /// A service token: its one project.
    Service {
        project: ProjectId,
        role: Role,
    },
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    created_at: i64,
    role: Option<String>,
}

impl Row {
    fn shown(self, reader: &Reader) -> Result<Project, StoreError> {
        let corrupt = || StoreError::Corrupt { what: format!("project {}", self.id) };
        let role = match reader {
            Reader::ServerAdmin => Role::Admin,
            Reader::Service { role, .. } => *role,
            Reader::User { .. } => {
                self.role.as_deref().and_then(|role| role.parse().ok()).ok_or_else(corrupt)?
            }
        };
        Ok(Project {
            id: ProjectId::new(&self.id).map_err(|_| corrupt())?,
            name: self.name.clone(),
            created_at: Timestamp::from_millis(self.created_at),
            role,
        })
    }
}

/// Reads the projects that somebody may see, by id, beyond `after`.
pub async fn list(
    tx: &mut Tx,
    reader: &Reader,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Project>, StoreError> {
    select(tx, reader, after.unwrap_or_default(), limit, 0).await
}

/// Reads the projects `offset` to `offset + limit` that somebody may see, by id.
pub async fn window(
    tx: &mut Tx,
    reader: &Reader,
    offset: u64,
    limit: u32,
) -> Result<Vec<Project>, StoreError> {
    select(tx, reader, "", limit, offset).await
}

async fn select(
    tx: &mut Tx,
    reader: &Reader,
    after: &str,
    limit: u32,
    offset: u64,
) -> Result<Vec<Project>, StoreError> {
    let (all, user, one) = reader_parts(reader);
    let rows: Vec<Row> = on!(tx, conn => sqlx::query_as(
        "SELECT p.id, p.name, p.created_at, m.role FROM projects p
         LEFT JOIN members m ON m.project_id = p.id AND m.user_id = $2
         WHERE p.id > $4 AND ($1 OR m.role IS NOT NULL OR p.id = $3) ORDER BY p.id LIMIT $5 OFFSET $6",
    ).bind(all).bind(user).bind(one).bind(after).bind(i64::from(limit))
     .bind(i64::try_from(offset).unwrap_or(i64::MAX)).fetch_all(conn).await?);
    rows.into_iter().map(|row| row.shown(reader)).collect()
}

/// Counts the projects that somebody may see.
pub async fn count(tx: &mut Tx, reader: &Reader) -> Result<u64, StoreError> {
    let (all, user, one) = reader_parts(reader);
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM projects p LEFT JOIN members m ON m.project_id = p.id AND m.user_id = $2
         WHERE $1 OR m.role IS NOT NULL OR p.id = $3",
    ).bind(all).bind(user).bind(one).fetch_one(conn).await?);
    Ok(count as u64)
}

fn reader_parts(reader: &Reader) -> (bool, &str, &str) {
    match reader {
        Reader::ServerAdmin => (true, "", ""),
        Reader::User { id } => (false, id, ""),
        Reader::Service { project, .. } => (false, "", project.as_str()),
    }
}

/// Reads one project, as who holds `role` in it sees it.
pub async fn by_id(tx: &mut Tx, id: &ProjectId, role: Role) -> Result<Option<Project>, StoreError> {
    let row: Option<(String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT name, created_at FROM projects WHERE id = $1",
    ).bind(id.as_str()).fetch_optional(conn).await?);
    Ok(row.map(|(name, created_at)| Project {
        id: id.clone(),
        name,
        created_at: Timestamp::from_millis(created_at),
        role,
    }))
}

/// Reads a project's settings; `None` for an unknown project.
pub async fn settings(tx: &mut Tx, id: &ProjectId) -> Result<Option<ProjectSettings>, StoreError> {
    let row: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT settings FROM projects WHERE id = $1",
    ).bind(id.as_str()).fetch_optional(conn).await?);
    row.map(|(text,)| {
        serde_json::from_str(&text)
            .map_err(|_| StoreError::Corrupt { what: format!("settings of project {id}") })
    })
    .transpose()
}

/// Writes a project's settings.
pub async fn set_settings(
    tx: &mut Tx,
    id: &ProjectId,
    settings: &ProjectSettings,
) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query("UPDATE projects SET settings = $2 WHERE id = $1")
        .bind(id.as_str()).bind(settings_text(settings)).execute(conn).await?.rows_affected());
    Ok(())
}

fn settings_text(settings: &ProjectSettings) -> String {
    serde_json::to_string(settings).expect("settings are plain numbers")
}
