//! Recordings: what is known of them. What they hold lies in files (`tunnels/log.rs`).

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{Recording, RecordingStatus},
    ids::{DeviceId, ProjectId, TunnelId},
    time::Timestamp,
};

use super::{
    StoreError, Tx,
    listed::Listed,
    on,
    query::{Column, ColumnKind, InvalidQuery, Key, Names, Select, Sort, Sql, fetch_all, in_order},
};

/// The filters of `GET /recordings`.
pub const FILTERS: &[&str] = &["device", "user", "status", "from", "to"];

const COLUMNS: &[Column] = &[
    Column { name: "started_at", sql: "started_at", kind: ColumnKind::Number },
    Column { name: "device_id", sql: "device_id", kind: ColumnKind::Text },
    Column { name: "user", sql: "username", kind: ColumnKind::Text },
    Column { name: "status", sql: "status", kind: ColumnKind::Text },
    Column { name: "bytes", sql: "bytes", kind: ColumnKind::Number },
    Column { name: "id", sql: "id", kind: ColumnKind::Text },
];
const DEFAULT_SORT: &str = "-started_at";

/// Adds a recording that begins.
pub async fn insert(
    tx: &mut Tx,
    project: &ProjectId,
    recording: &Recording,
) -> Result<(), StoreError> {
    let argv = serde_json::json!(recording.argv).to_string();
    on!(tx, conn => sqlx::query(
        "INSERT INTO recordings (id, project_id, tunnel_id, device_id, username, argv, has_input, status, bytes, started_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9)",
    ).bind(&recording.id).bind(project.as_str()).bind(recording.tunnel_id.to_string())
     .bind(recording.device_id.as_str()).bind(&recording.user).bind(argv).bind(recording.has_input)
     .bind(recording.status.as_str()).bind(recording.started_at.as_millis()).execute(conn).await?.rows_affected());
    Ok(())
}

/// Takes note of how much is recorded.
pub async fn set_bytes(tx: &mut Tx, id: &str, bytes: u64) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query("UPDATE recordings SET bytes = $2 WHERE id = $1")
        .bind(id).bind(bytes as i64).execute(conn).await?.rows_affected());
    Ok(())
}

/// Takes note of a recording's end.
pub async fn end(
    tx: &mut Tx,
    id: &str,
    status: RecordingStatus,
    bytes: u64,
    at: Timestamp,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "UPDATE recordings SET status = $2, bytes = $3, ended_at = $4, expires_at = $5 WHERE id = $1 AND ended_at IS NULL",
    ).bind(id).bind(status.as_str()).bind(bytes as i64).bind(at.as_millis()).bind(expires_at.as_millis())
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Forgets a recording; `false` when there is none. The tunnel stays, without it.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query("DELETE FROM recordings WHERE id = $1")
        .bind(id).execute(conn).await?.rows_affected());
    on!(tx, conn => sqlx::query("UPDATE tunnels SET recording_id = NULL WHERE recording_id = $1")
        .bind(id).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Whether a tunnel has a recording.
pub async fn is_of_tunnel(tx: &mut Tx, tunnel: TunnelId) -> Result<bool, StoreError> {
    let row: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT id FROM recordings WHERE tunnel_id = $1",
    ).bind(tunnel.to_string()).fetch_optional(conn).await?);
    Ok(row.is_some())
}

/// Reads the recordings that have been kept for as long as they are to be: project and id.
pub async fn expired(
    tx: &mut Tx,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(String, String)>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT project_id, id FROM recordings WHERE expires_at IS NOT NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
    ).bind(now.as_millis()).bind(i64::from(limit)).fetch_all(conn).await?))
}

/// Which recordings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    devices: Names,
    users: Names,
    statuses: Vec<RecordingStatus>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Listed for Filter {
    type Item = Recording;

    const COLUMNS: &'static [Column] = COLUMNS;
    const DEFAULT_SORT: &'static str = DEFAULT_SORT;

    fn parse(given: &BTreeMap<String, String>) -> Result<Self, InvalidQuery> {
        let mut filter = Self::default();
        for (name, value) in given {
            if value.is_empty() && FILTERS.contains(&name.as_str()) {
                continue;
            }
            let at = || value.parse().map_err(|e| InvalidQuery::new(name, format!("{e}")));
            match name.as_str() {
                "device" => filter.devices = Names::parse_as::<DeviceId>(name, value)?,
                "user" => filter.users = Names::parse(name, value)?,
                "status" => {
                    let all = &RecordingStatus::ALL;
                    filter.statuses = Names::choose(name, value, all, RecordingStatus::as_str)?;
                }
                "from" => filter.from = Some(at()?),
                "to" => filter.to = Some(at()?),
                _ => return Err(InvalidQuery::unknown_filter(name, FILTERS)),
            }
        }
        Ok(filter)
    }

    fn select(&self, project: &ProjectId, sort: Sort) -> Select {
        let mut sql = Sql::new("project_id = ");
        sql.bind(project.as_str());
        self.devices.push(&mut sql, "device_id");
        self.users.push(&mut sql, "username");
        if !self.statuses.is_empty() {
            sql.push(" AND status IN ")
                .bind_list(self.statuses.iter().map(|status| status.as_str()));
        }
        if let Some(from) = self.from {
            sql.push(" AND started_at >= ").bind(from.as_millis());
        }
        if let Some(to) = self.to {
            sql.push(" AND started_at <= ").bind(to.as_millis());
        }
        Select { from: "FROM recordings", id: "id", filter: sql, sort }
    }

    async fn rows(
        tx: &mut Tx,
        _project: &ProjectId,
        keys: &[Key],
    ) -> Result<Vec<Recording>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = Sql::new(SHOWN);
        sql.push("id IN ").bind_list(keys.iter().map(|(_, id)| id.as_str()));
        let found: Vec<Row> = fetch_all!(tx, sql)?;
        in_order(keys, found, |row| row.id.clone()).into_iter().map(Row::shown).collect()
    }

    fn key(recording: &Recording) -> String {
        recording.id.clone()
    }
}

/// Reads a recording.
pub async fn get(
    tx: &mut Tx,
    project: &ProjectId,
    id: &str,
) -> Result<Option<Recording>, StoreError> {
    let mut sql = Sql::new(SHOWN);
    sql.push("id = ").bind(id).push(" AND project_id = ").bind(project.as_str());
    let found: Vec<Row> = fetch_all!(tx, sql)?;
    found.into_iter().next().map(Row::shown).transpose()
}

const SHOWN: &str = "SELECT id, tunnel_id, device_id, username, argv, has_input, status, bytes, started_at, ended_at, expires_at
    FROM recordings WHERE ";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    tunnel_id: String,
    device_id: String,
    username: String,
    argv: String,
    has_input: bool,
    status: String,
    bytes: i64,
    started_at: i64,
    ended_at: Option<i64>,
    expires_at: Option<i64>,
}

impl Row {
    fn shown(self) -> Result<Recording, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { what: format!("{what} of recording {}", self.id) };
        let tunnel_id: TunnelId = self.tunnel_id.parse().map_err(|_| corrupt("tunnel"))?;
        Ok(Recording {
            tunnel_id,
            device_id: DeviceId::new(&self.device_id).map_err(|_| corrupt("device"))?,
            status: RecordingStatus::ALL
                .into_iter()
                .find(|status| status.as_str() == self.status)
                .ok_or_else(|| corrupt("status"))?,
            argv: serde_json::from_str(&self.argv).map_err(|_| corrupt("argv"))?,
            has_input: self.has_input,
            started_at: Timestamp::from_millis(self.started_at),
            ended_at: self.ended_at.map(Timestamp::from_millis),
            bytes: self.bytes as u64,
            expires_at: self.expires_at.map(Timestamp::from_millis),
            user: self.username,
            id: self.id,
        })
    }
}
