//! Tunnels: those that are open, and what became of those that were.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{CreateTunnel, Tunnel, TunnelKind, TunnelStatus},
    ids::{DeviceId, ProjectId, TunnelId},
    time::Timestamp,
    tunnel::close::CloseCode,
};

use super::{
    StoreError, Tx,
    listed::Listed,
    on,
    query::{Column, ColumnKind, InvalidQuery, Key, Names, Select, Sort, Sql, fetch_all, in_order},
};

/// The filters of `GET /tunnels`.
pub const FILTERS: &[&str] = &["device", "user", "status", "kind", "from", "to"];

const COLUMNS: &[Column] = &[
    Column { name: "created_at", sql: "created_at", kind: ColumnKind::Number },
    Column { name: "device_id", sql: "device_id", kind: ColumnKind::Text },
    Column { name: "user", sql: "username", kind: ColumnKind::Text },
    Column { name: "kind", sql: "kind", kind: ColumnKind::Text },
    Column { name: "status", sql: "status", kind: ColumnKind::Text },
    Column { name: "bytes_up", sql: "bytes_up", kind: ColumnKind::Number },
    Column { name: "bytes_down", sql: "bytes_down", kind: ColumnKind::Number },
    Column { name: "closed_at", sql: "COALESCE(closed_at, 0)", kind: ColumnKind::Number },
    Column { name: "id", sql: "id", kind: ColumnKind::Text },
];
const DEFAULT_SORT: &str = "-created_at";

/// A new tunnel.
#[derive(Debug, Clone)]
pub struct NewTunnel {
    pub id: TunnelId,
    pub project: ProjectId,
    pub user: String,
    pub request: CreateTunnel,
    pub handle: u32,
    pub created_at: Timestamp,
    pub ends_due: i64,
    pub recording_id: Option<String>,
}

/// What the server needs to serve a tunnel.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    pub id: TunnelId,
    pub project: ProjectId,
    pub device: DeviceId,
    pub user: String,
    pub kind: TunnelKind,
    pub request: CreateTunnel,
    pub handle: u32,
    pub created_at: Timestamp,
    pub ends_due: i64,
    pub was_open: bool,
    /// Of this end of its streams.
    pub life: u16,
    pub input_lives: Vec<u16>,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub recording_id: Option<String>,
}

/// What changes of a tunnel while it is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub attached: u32,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub last_activity_at: Option<Timestamp>,
}

/// How many tunnels are open: of a user, and to a device.
pub async fn open_counts(
    tx: &mut Tx,
    user: &str,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<(u64, u64), StoreError> {
    let (own,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM tunnels WHERE username = $1 AND open",
    ).bind(user).fetch_one(conn).await?);
    let (of_device,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM tunnels WHERE project_id = $1 AND device_id = $2 AND open",
    ).bind(project.as_str()).bind(device.as_str()).fetch_one(conn).await?);
    Ok((own as u64, of_device as u64))
}

/// How a tunnel ended, for its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldEnd {
    pub id: TunnelId,
    pub reason: CloseCode,
    pub message: String,
}

type EndRow = (String, Option<String>, Option<String>);

fn told_end((id, reason, message): EndRow) -> Result<ToldEnd, StoreError> {
    let parsed = id.parse().map_err(|_| StoreError::Corrupt { what: format!("tunnel {id:?}") })?;
    let reason = reason.as_deref().map(close_code).transpose()?.unwrap_or(CloseCode::Internal);
    Ok(ToldEnd { id: parsed, reason, message: message.unwrap_or_default() })
}

fn close_code(text: &str) -> Result<CloseCode, StoreError> {
    let found = CloseCode::ALL.into_iter().find(|code| code.as_str() == text);
    found.ok_or_else(|| StoreError::Corrupt { what: format!("close reason {text:?}") })
}

/// Reads which tunnels to a device ended since then, the newest: for a device that may not have been told.
pub async fn lately_ended(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    since: Timestamp,
    limit: u32,
) -> Result<Vec<ToldEnd>, StoreError> {
    let rows: Vec<EndRow> = on!(tx, conn => sqlx::query_as(
        "SELECT id, close_reason, close_message FROM tunnels
         WHERE project_id = $1 AND device_id = $2 AND closed_at > $3 ORDER BY handle DESC LIMIT $4",
    ).bind(project.as_str()).bind(device.as_str()).bind(since.as_millis()).bind(i64::from(limit))
     .fetch_all(conn).await?);
    rows.into_iter().map(told_end).collect()
}

/// Reads how a device's tunnel ended; `None` when it has not, or never was.
pub async fn how_it_ended(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    id: TunnelId,
) -> Result<Option<ToldEnd>, StoreError> {
    let row: Option<EndRow> = on!(tx, conn => sqlx::query_as(
        "SELECT id, close_reason, close_message FROM tunnels
         WHERE project_id = $1 AND device_id = $2 AND id = $3 AND closed_at IS NOT NULL",
    ).bind(project.as_str()).bind(device.as_str()).bind(id.to_string()).fetch_optional(conn).await?);
    row.map(told_end).transpose()
}

/// How many tunnels of a project are open.
pub async fn count_open(tx: &mut Tx, project: &str) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM tunnels WHERE project_id = $1 AND open",
    ).bind(project).fetch_one(conn).await?);
    Ok(count as u64)
}

/// A handle that no tunnel of the device ever had.
pub async fn next_handle(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<u32, StoreError> {
    let (last,): (Option<i64>,) = on!(tx, conn => sqlx::query_as(
        "SELECT MAX(handle) FROM tunnels WHERE project_id = $1 AND device_id = $2",
    ).bind(project.as_str()).bind(device.as_str()).fetch_one(conn).await?);
    // Four billion sessions with one device: then it begins again.
    Ok(u32::try_from(last.unwrap_or(0) + 1).unwrap_or(1))
}

/// Adds a tunnel that is to be opened.
pub async fn insert(tx: &mut Tx, new: &NewTunnel) -> Result<(), StoreError> {
    let request = serde_json::to_string(&new.request)
        .map_err(|error| StoreError::Corrupt { what: error.to_string() })?;
    on!(tx, conn => sqlx::query(
        "INSERT INTO tunnels (id, project_id, device_id, username, kind, request, handle, created_at, ends_due, status,
           open, life, input_lives, attached, bytes_up, bytes_down, recording_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, TRUE, 1, '[]', 0, 0, 0, $11)",
    ).bind(new.id.to_string()).bind(new.project.as_str()).bind(new.request.device_id.as_str()).bind(&new.user)
     .bind(new.request.kind.as_str()).bind(request).bind(i64::from(new.handle)).bind(new.created_at.as_millis())
     .bind(new.ends_due).bind(TunnelStatus::Opening.as_str()).bind(new.recording_id.as_deref())
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Reads a tunnel to serve it; `None` when there is none, or it is over.
pub async fn served(tx: &mut Tx, id: TunnelId) -> Result<Option<Served>, StoreError> {
    let mut sql = Sql::new(SERVED);
    sql.push(" AND id = ").bind(id.to_string().as_str());
    let rows: Vec<ServedRow> = fetch_all!(tx, sql)?;
    rows.into_iter().next().map(ServedRow::read).transpose()
}

/// Which tunnels are open.
pub async fn open_ids(tx: &mut Tx) -> Result<Vec<TunnelId>, StoreError> {
    let rows: Vec<(String,)> = on!(tx, conn =>
        sqlx::query_as("SELECT id FROM tunnels WHERE open").fetch_all(conn).await?);
    let corrupt = || StoreError::Corrupt { what: "the id of a tunnel".to_owned() };
    rows.into_iter().map(|(id,)| id.parse().map_err(|_| corrupt())).collect()
}

/// Begins a new life of all tunnels that are open, at the start of a server: nobody
/// is attached to them, and each end that they have here is a new one.
pub async fn begin_life(tx: &mut Tx) -> Result<Vec<Served>, StoreError> {
    on!(tx, conn => sqlx::query("UPDATE tunnels SET life = life + 1, attached = 0 WHERE open")
        .execute(conn).await?.rows_affected());
    let rows: Vec<ServedRow> = fetch_all!(tx, Sql::new(SERVED))?;
    rows.into_iter().map(ServedRow::read).collect()
}

/// Takes note of where an open tunnel stands; `false` when it is over.
pub async fn set_status(
    tx: &mut Tx,
    id: TunnelId,
    status: TunnelStatus,
    opened: Option<(Timestamp, Option<u16>)>,
) -> Result<bool, StoreError> {
    let (at, port) = opened.unzip();
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE tunnels SET status = $2, opened_at = COALESCE(opened_at, $3), listen_port = COALESCE($4, listen_port)
         WHERE id = $1 AND open",
    ).bind(id.to_string()).bind(status.as_str()).bind(at.map(Timestamp::as_millis))
     .bind(port.flatten().map(i64::from)).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Takes note of what went through an open tunnel, and who is attached.
pub async fn set_progress(
    tx: &mut Tx,
    id: TunnelId,
    progress: &Progress,
) -> Result<(), StoreError> {
    on!(tx, conn => sqlx::query(
        "UPDATE tunnels SET attached = $2, bytes_up = $3, bytes_down = $4, last_activity_at = COALESCE($5, last_activity_at)
         WHERE id = $1",
    ).bind(id.to_string()).bind(i64::from(progress.attached)).bind(progress.bytes_up as i64)
     .bind(progress.bytes_down as i64).bind(progress.last_activity_at.map(Timestamp::as_millis))
     .execute(conn).await?.rows_affected());
    Ok(())
}

/// Takes note of the lives that consoles' streams have.
pub async fn set_input_lives(tx: &mut Tx, id: TunnelId, lives: &[u16]) -> Result<(), StoreError> {
    let lives = serde_json::json!(lives).to_string();
    on!(tx, conn => sqlx::query("UPDATE tunnels SET input_lives = $2 WHERE id = $1")
        .bind(id.to_string()).bind(lives).execute(conn).await?.rows_affected());
    Ok(())
}

/// How a tunnel ended.
#[derive(Debug, Clone)]
pub struct Ended<'a> {
    pub status: TunnelStatus,
    pub at: Timestamp,
    pub reason: CloseCode,
    pub message: &'a str,
    pub exit_code: Option<i32>,
}

/// Ends a tunnel; `false` when it was over.
pub async fn end(tx: &mut Tx, id: TunnelId, ended: &Ended<'_>) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE tunnels SET status = $2, open = FALSE, attached = 0, closed_at = $3, close_reason = $4,
           close_message = $5, exit_code = $6 WHERE id = $1 AND open",
    ).bind(id.to_string()).bind(ended.status.as_str()).bind(ended.at.as_millis()).bind(ended.reason.as_str())
     .bind(Some(ended.message.replace('\0', "\u{fffd}")).filter(|message| !message.is_empty()))
     .bind(ended.exit_code.map(i64::from)).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Which tunnels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    devices: Names,
    users: Names,
    statuses: Vec<TunnelStatus>,
    kinds: Vec<TunnelKind>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Listed for Filter {
    type Item = Tunnel;

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
                    filter.statuses =
                        Names::choose(name, value, &TunnelStatus::ALL, TunnelStatus::as_str)?;
                }
                "kind" => {
                    filter.kinds =
                        Names::choose(name, value, &TunnelKind::ALL, TunnelKind::as_str)?;
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
        if !self.kinds.is_empty() {
            sql.push(" AND kind IN ").bind_list(self.kinds.iter().map(|kind| kind.as_str()));
        }
        if let Some(from) = self.from {
            sql.push(" AND created_at >= ").bind(from.as_millis());
        }
        if let Some(to) = self.to {
            sql.push(" AND created_at <= ").bind(to.as_millis());
        }
        Select { from: "FROM tunnels", id: "id", filter: sql, sort }
    }

    async fn rows(
        tx: &mut Tx,
        _project: &ProjectId,
        keys: &[Key],
    ) -> Result<Vec<Tunnel>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = Sql::new(SHOWN);
        sql.push("id IN ").bind_list(keys.iter().map(|(_, id)| id.as_str()));
        let found: Vec<Row> = fetch_all!(tx, sql)?;
        in_order(keys, found, |row| row.id.clone()).into_iter().map(Row::shown).collect()
    }

    fn key(tunnel: &Tunnel) -> String {
        tunnel.id.to_string()
    }
}

/// Reads a tunnel.
pub async fn get(
    tx: &mut Tx,
    project: &ProjectId,
    id: TunnelId,
) -> Result<Option<Tunnel>, StoreError> {
    let mut sql = Sql::new(SHOWN);
    sql.push("id = ").bind(id.to_string().as_str());
    sql.push(" AND project_id = ").bind(project.as_str());
    let found: Vec<Row> = fetch_all!(tx, sql)?;
    found.into_iter().next().map(Row::shown).transpose()
}

const SHOWN: &str = "SELECT id, device_id, username, kind, request, status, attached, bytes_up, bytes_down, created_at,
    opened_at, last_activity_at, closed_at, close_reason, close_message, exit_code, listen_port, recording_id
    FROM tunnels WHERE ";

const SERVED: &str = "SELECT id, project_id, username, request, handle, created_at, ends_due, opened_at, life, input_lives,
    bytes_up, bytes_down, recording_id FROM tunnels WHERE open";

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    device_id: String,
    username: String,
    kind: String,
    request: String,
    status: String,
    attached: i64,
    bytes_up: i64,
    bytes_down: i64,
    created_at: i64,
    opened_at: Option<i64>,
    last_activity_at: Option<i64>,
    closed_at: Option<i64>,
    close_reason: Option<String>,
    close_message: Option<String>,
    exit_code: Option<i64>,
    listen_port: Option<i64>,
    recording_id: Option<String>,
}

impl Row {
    fn shown(self) -> Result<Tunnel, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { what: format!("{what} of tunnel {}", self.id) };
        let at = |millis: Option<i64>| millis.map(Timestamp::from_millis);
        let request: CreateTunnel =
            serde_json::from_str(&self.request).map_err(|_| corrupt("request"))?;
        let reason = self.close_reason.as_deref().map(close_code).transpose()?;
        let (host, port) = place(&request).unzip();
        Ok(Tunnel {
            id: self.id.parse().map_err(|_| corrupt("id"))?,
            device_id: DeviceId::new(&self.device_id).map_err(|_| corrupt("device"))?,
            kind: TunnelKind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == self.kind)
                .ok_or_else(|| corrupt("kind"))?,
            status: TunnelStatus::ALL
                .into_iter()
                .find(|status| status.as_str() == self.status)
                .ok_or_else(|| corrupt("status"))?,
            user: self.username,
            argv: request.argv,
            host,
            port,
            reverse: request.reverse,
            listen_port: self.listen_port.and_then(|port| port.try_into().ok()),
            bytes_up: self.bytes_up as u64,
            bytes_down: self.bytes_down as u64,
            attached: self.attached as u32,
            created_at: Timestamp::from_millis(self.created_at),
            opened_at: at(self.opened_at),
            last_activity_at: at(self.last_activity_at),
            closed_at: at(self.closed_at),
            close_reason: reason,
            close_message: self.close_message,
            exit_code: self.exit_code.map(|code| code as i32),
            recording_id: self.recording_id,
        })
    }
}

/// Where connections of a tunnel go; `None` for one that runs a program.
pub fn place(request: &CreateTunnel) -> Option<(String, u16)> {
    const LOOPBACK: &str = "127.0.0.1";
    const SSH_PORT: u16 = 22;
    let host = || request.host.clone().unwrap_or_else(|| LOOPBACK.to_owned());
    match request.kind {
        TunnelKind::Terminal | TunnelKind::Exec => None,
        TunnelKind::Ssh => Some((host(), request.port.unwrap_or(SSH_PORT))),
        TunnelKind::PortForward => Some((host(), request.port.unwrap_or(0))),
    }
}

#[derive(sqlx::FromRow)]
struct ServedRow {
    id: String,
    project_id: String,
    username: String,
    request: String,
    handle: i64,
    created_at: i64,
    ends_due: i64,
    opened_at: Option<i64>,
    life: i64,
    input_lives: String,
    bytes_up: i64,
    bytes_down: i64,
    recording_id: Option<String>,
}

impl ServedRow {
    fn read(self) -> Result<Served, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { what: format!("{what} of tunnel {}", self.id) };
        let request: CreateTunnel =
            serde_json::from_str(&self.request).map_err(|_| corrupt("request"))?;
        Ok(Served {
            id: self.id.parse().map_err(|_| corrupt("id"))?,
            project: ProjectId::new(&self.project_id).map_err(|_| corrupt("project"))?,
            device: request.device_id.clone(),
            kind: request.kind,
            request,
            handle: self.handle.try_into().map_err(|_| corrupt("handle"))?,
            created_at: Timestamp::from_millis(self.created_at),
            ends_due: self.ends_due,
            was_open: self.opened_at.is_some(),
            // Beyond this many restarts the device resets the streams: lives rise.
            life: u16::try_from(self.life).unwrap_or(u16::MAX),
            input_lives: serde_json::from_str(&self.input_lives).map_err(|_| corrupt("lives"))?,
            bytes_up: self.bytes_up as u64,
            bytes_down: self.bytes_down as u64,
            user: self.username,
            recording_id: self.recording_id,
        })
    }
}
