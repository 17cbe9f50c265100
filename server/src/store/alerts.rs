//! Alerts: one open row for each cause, with a count.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{Alert, Severity},
    ids::{DeviceId, ProjectId},
    search::{self, Term},
    time::Timestamp,
};

use super::{
    StoreError, Tx,
    listed::Listed,
    on,
    query::{
        Column, ColumnKind, InvalidQuery, Key, Names, Select, Sort, Sql, fetch_all, in_order,
        search_words,
    },
};

/// An alert that comes again within this time is the same one, open again.
pub const REOPEN_MS: i64 = 15 * 60 * 1_000;

/// The filters of `GET /alerts`.
pub const FILTERS: &[&str] = &["status", "kind", "severity", "device", "q"];

const COLUMNS: &[Column] = &[
    Column { name: "first_seen_at", sql: "first_seen_at", kind: ColumnKind::Number },
    Column { name: "last_seen_at", sql: "last_seen_at", kind: ColumnKind::Number },
    Column { name: "severity", sql: "severity_rank", kind: ColumnKind::Number },
    Column { name: "kind", sql: "kind", kind: ColumnKind::Text },
    Column { name: "cause", sql: "cause", kind: ColumnKind::Text },
    Column { name: "device_id", sql: "COALESCE(device_id, '')", kind: ColumnKind::Text },
    Column { name: "count", sql: "count", kind: ColumnKind::Number },
    Column { name: "id", sql: "id", kind: ColumnKind::Text },
];
const DEFAULT_SORT: &str = "-last_seen_at";

/// What raises an alert.
#[derive(Debug, Clone)]
pub struct Raise {
    pub id: String,
    pub project_id: String,
    pub key: String,
    pub kind: &'static str,
    pub severity: Severity,
    pub cause: String,
    pub device_id: Option<String>,
    pub command_id: Option<String>,
    pub at: i64,
    /// How many times it happened.
    pub count: i64,
}

/// Raises an alert: counts the open one up, opens a recent one again, or adds one. Answers its id.
pub async fn raise(tx: &mut Tx, alert: &Raise) -> Result<String, StoreError> {
    let open: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "UPDATE alerts SET count = count + $3, last_seen_at = $4, cause = $5, command_id = COALESCE($6, command_id)
         WHERE project_id = $1 AND key = $2 AND resolved_at IS NULL RETURNING id",
    ).bind(&alert.project_id).bind(&alert.key).bind(alert.count).bind(alert.at).bind(&alert.cause)
     .bind(alert.command_id.as_deref()).fetch_optional(conn).await?);
    if let Some((id,)) = open {
        return Ok(id);
    }
    let again: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "UPDATE alerts SET count = count + $3, last_seen_at = $4, cause = $5, command_id = COALESCE($6, command_id),
           resolved_at = NULL, acknowledged_by = NULL, acknowledged_at = NULL
         WHERE id = (SELECT id FROM alerts WHERE project_id = $1 AND key = $2 ORDER BY id DESC LIMIT 1)
           AND resolved_at > $7 RETURNING id",
    ).bind(&alert.project_id).bind(&alert.key).bind(alert.count).bind(alert.at).bind(&alert.cause)
     .bind(alert.command_id.as_deref()).bind(alert.at - REOPEN_MS).fetch_optional(conn).await?);
    if let Some((id,)) = again {
        return Ok(id);
    }
    on!(tx, conn => sqlx::query(
        "INSERT INTO alerts (id, project_id, key, kind, severity, severity_rank, cause, device_id, command_id,
           first_seen_at, last_seen_at, count) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)",
    ).bind(&alert.id).bind(&alert.project_id).bind(&alert.key).bind(alert.kind).bind(severity_text(alert.severity))
     .bind(severity_rank(alert.severity)).bind(&alert.cause).bind(alert.device_id.as_deref())
     .bind(alert.command_id.as_deref()).bind(alert.at).bind(alert.count).execute(conn).await?.rows_affected());
    Ok(alert.id.clone())
}

/// Resolves the open alerts with these keys; answers their ids.
pub async fn resolve(
    tx: &mut Tx,
    project: &str,
    keys: &[String],
    at: i64,
) -> Result<Vec<String>, StoreError> {
    let mut resolved = Vec::new();
    for chunk in keys.chunks(512) {
        let mut sql = Sql::new("UPDATE alerts SET resolved_at = ");
        sql.bind(at)
            .push(" WHERE resolved_at IS NULL AND project_id = ")
            .bind(project)
            .push(" AND key IN ");
        sql.bind_list(chunk.iter().map(String::as_str)).push(" RETURNING id");
        let rows: Vec<(String,)> = fetch_all!(tx, sql)?;
        resolved.extend(rows.into_iter().map(|(id,)| id));
    }
    Ok(resolved)
}

/// Resolves the lockouts whose last refused command may go again by now; answers project and id.
pub async fn resolve_lockouts(tx: &mut Tx, now: i64) -> Result<Vec<(String, String)>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "UPDATE alerts SET resolved_at = $1 WHERE kind = 'safety_lockout' AND resolved_at IS NULL
         AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.id = alerts.command_id AND c.blocked_until > $1)
         RETURNING project_id, id",
    ).bind(now).fetch_all(conn).await?))
}

/// Reads which alerts of some kinds are open: project, key and device.
pub async fn open_of_kinds(
    tx: &mut Tx,
    kinds: &[&str],
) -> Result<Vec<(String, String, Option<String>)>, StoreError> {
    let mut sql = Sql::new(
        "SELECT project_id, key, device_id FROM alerts WHERE resolved_at IS NULL AND kind IN ",
    );
    sql.bind_list(kinds.iter().copied());
    Ok(fetch_all!(tx, sql)?)
}

/// Counts the open alerts of one kind that are each of one device.
pub async fn count_open(tx: &mut Tx, project: &str, kind: &str) -> Result<u64, StoreError> {
    let (count,): (i64,) = on!(tx, conn => sqlx::query_as(
        "SELECT COUNT(*) FROM alerts WHERE project_id = $1 AND kind = $2 AND device_id IS NOT NULL AND resolved_at IS NULL",
    ).bind(project).bind(kind).fetch_one(conn).await?);
    Ok(count as u64)
}

/// Whether an alert with this key is open.
pub async fn is_open(tx: &mut Tx, project: &str, key: &str) -> Result<bool, StoreError> {
    let row: Option<(String,)> = on!(tx, conn => sqlx::query_as(
        "SELECT id FROM alerts WHERE project_id = $1 AND key = $2 AND resolved_at IS NULL",
    ).bind(project).bind(key).fetch_optional(conn).await?);
    Ok(row.is_some())
}

/// Takes note of who looks after an alert; the first one stays. `false` for an unknown alert.
pub async fn acknowledge(
    tx: &mut Tx,
    project: &ProjectId,
    id: &str,
    by: &str,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query(
        "UPDATE alerts SET acknowledged_by = COALESCE(acknowledged_by, $3), acknowledged_at = COALESCE(acknowledged_at, $4)
         WHERE id = $1 AND project_id = $2",
    ).bind(id).bind(project.as_str()).bind(by).bind(at.as_millis()).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Keeps an alert quiet until then. `false` for an unknown alert.
pub async fn silence(
    tx: &mut Tx,
    project: &ProjectId,
    id: &str,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let rows = on!(tx, conn => sqlx::query("UPDATE alerts SET silenced_until = $3 WHERE id = $1 AND project_id = $2")
        .bind(id).bind(project.as_str()).bind(until.as_millis()).execute(conn).await?.rows_affected());
    Ok(rows == 1)
}

/// Where an alert stands, and the condition that says so.
const STATUSES: [(&str, &str); 4] = [
    ("open", "resolved_at IS NULL"),
    ("acknowledged", "resolved_at IS NULL AND acknowledged_at IS NOT NULL"),
    ("unacknowledged", "resolved_at IS NULL AND acknowledged_at IS NULL"),
    ("resolved", "resolved_at IS NOT NULL"),
];

/// Which alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Conditions of which one must hold, and of which none may.
    any: Vec<&'static str>,
    none: Vec<&'static str>,
    kinds: Names,
    severities: Vec<Severity>,
    devices: Names,
    /// Each must hold.
    words: Vec<Term>,
}

impl Filter {
    /// An open alert is acknowledged or not, too: a status is no value of a column, but a condition.
    fn status(&mut self, text: &str) -> Result<(), InvalidQuery> {
        for term in search::names(text).map_err(|e| InvalidQuery::new("status", e.to_string()))? {
            let found = STATUSES.iter().find(|(name, _)| *name == term.text && !term.fuzzy);
            let (_, condition) = found.ok_or_else(|| {
                let known = STATUSES.map(|(name, _)| name).join(", ");
                InvalidQuery::new("status", format!("expected one of {known}"))
            })?;
            if term.inverse { &mut self.none } else { &mut self.any }.push(condition);
        }
        Ok(())
    }
}

impl Listed for Filter {
    type Item = Alert;

    const COLUMNS: &'static [Column] = COLUMNS;
    const DEFAULT_SORT: &'static str = DEFAULT_SORT;

    fn parse(given: &BTreeMap<String, String>) -> Result<Self, InvalidQuery> {
        const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];
        let mut filter = Self::default();
        for (name, value) in given {
            if value.is_empty() && FILTERS.contains(&name.as_str()) {
                continue;
            }
            match name.as_str() {
                "status" => filter.status(value)?,
                "kind" => filter.kinds = Names::parse(name, value)?,
                "severity" => {
                    filter.severities = Names::choose(name, value, &ALL, severity_text)?;
                }
                "device" => filter.devices = Names::parse_as::<DeviceId>(name, value)?,
                "q" => filter.words = search_words(value)?,
                _ => return Err(InvalidQuery::unknown_filter(name, FILTERS)),
            }
        }
        Ok(filter)
    }

    fn select(&self, project: &ProjectId, sort: Sort) -> Select {
        let mut sql = Sql::new("project_id = ");
        sql.bind(project.as_str());
        if !self.any.is_empty() {
            sql.push(&format!(" AND (({}))", self.any.join(") OR (")));
        }
        for condition in &self.none {
            sql.push(&format!(" AND NOT ({condition})"));
        }
        self.kinds.push(&mut sql, "kind");
        if !self.severities.is_empty() {
            sql.push(" AND severity IN ")
                .bind_list(self.severities.iter().map(|severity| severity_text(*severity)));
        }
        self.devices.push(&mut sql, "COALESCE(device_id, '')");
        for word in &self.words {
            sql.push(if word.inverse { " AND NOT (" } else { " AND (" });
            sql.like("kind", word).push(" OR ").like("COALESCE(device_id, '')", word);
            // In a sentence any letters are in some order.
            if !word.fuzzy {
                sql.push(" OR ").like("cause", word);
            }
            sql.push(")");
        }
        Select { from: "FROM alerts", id: "id", filter: sql, sort }
    }

    async fn rows(
        tx: &mut Tx,
        _project: &ProjectId,
        keys: &[Key],
    ) -> Result<Vec<Alert>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = Sql::new(concat!(
            "SELECT id, kind, severity, cause, device_id, command_id, first_seen_at, last_seen_at, count, acknowledged_by,",
            " acknowledged_at, silenced_until, resolved_at FROM alerts WHERE id IN "
        ));
        sql.bind_list(keys.iter().map(|(_, id)| id.as_str()));
        let found: Vec<Row> = fetch_all!(tx, sql)?;
        in_order(keys, found, |row| row.id.clone()).into_iter().map(Row::shown).collect()
    }

    fn key(alert: &Alert) -> String {
        alert.id.clone()
    }
}

/// Reads an alert.
pub async fn get(tx: &mut Tx, project: &ProjectId, id: &str) -> Result<Option<Alert>, StoreError> {
    let mut sql = Sql::new(concat!(
        "SELECT id, kind, severity, cause, device_id, command_id, first_seen_at, last_seen_at, count, acknowledged_by,",
        " acknowledged_at, silenced_until, resolved_at FROM alerts WHERE id = "
    ));
    sql.bind(id).push(" AND project_id = ").bind(project.as_str());
    let found: Vec<Row> = fetch_all!(tx, sql)?;
    found.into_iter().next().map(Row::shown).transpose()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    kind: String,
    severity: String,
    cause: String,
    device_id: Option<String>,
    command_id: Option<String>,
    first_seen_at: i64,
    last_seen_at: i64,
    count: i64,
    acknowledged_by: Option<String>,
    acknowledged_at: Option<i64>,
    silenced_until: Option<i64>,
    resolved_at: Option<i64>,
}

impl Row {
    fn shown(self) -> Result<Alert, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { what: format!("{what} of alert {}", self.id) };
        let at = |millis: Option<i64>| millis.map(Timestamp::from_millis);
        Ok(Alert {
            severity: severity_of(&self.severity).ok_or_else(|| corrupt("severity"))?,
            device_id: match &self.device_id {
                Some(id) => Some(DeviceId::new(id).map_err(|_| corrupt("device"))?),
                None => None,
            },
            command_id: match &self.command_id {
                Some(id) => Some(id.parse().map_err(|_| corrupt("command"))?),
                None => None,
            },
            first_seen_at: Timestamp::from_millis(self.first_seen_at),
            last_seen_at: Timestamp::from_millis(self.last_seen_at),
            count: self.count as u64,
            acknowledged_at: at(self.acknowledged_at),
            silenced_until: at(self.silenced_until),
            resolved_at: at(self.resolved_at),
            id: self.id,
            kind: self.kind,
            cause: self.cause,
            acknowledged_by: self.acknowledged_by,
        })
    }
}

const fn severity_text(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// By which severities sort.
const fn severity_rank(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 1,
        Severity::Warning => 2,
        Severity::Critical => 3,
    }
}

fn severity_of(text: &str) -> Option<Severity> {
    [Severity::Info, Severity::Warning, Severity::Critical]
        .into_iter()
        .find(|one| severity_text(*one) == text)
}
