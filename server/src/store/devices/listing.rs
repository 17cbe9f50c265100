//! The listing of devices: filters and sorts of chapter 2.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{Device, ServiceFailed},
    device::{BrokerConnection, DeviceStatus},
    ids::{DeviceId, ProjectId},
    limits::TAGS_MAX,
    search::{self, Term},
    time::Timestamp,
};

use crate::store::{
    StoreError, Tx,
    listed::Listed,
    query::{
        Column, ColumnKind, InvalidQuery, Key, Names, Select, Sort, Sql, fetch_all, in_order,
        search_words,
    },
};

/// The filters of `GET /devices`; `tags` is another name of `tag`.
pub const FILTERS: &[&str] = &[
    "status",
    "type",
    "tag",
    "tags",
    "device",
    "agent_version",
    "process_status",
    "q",
    "crashed",
    "service_failed",
    "id",
];

const COLUMNS: &[Column] = &[
    Column { name: "id", sql: "id", kind: ColumnKind::Text },
    Column { name: "status", sql: "status", kind: ColumnKind::Text },
    Column { name: "type", sql: "type", kind: ColumnKind::Text },
    Column {
        name: "site",
        sql: "COALESCE((SELECT value FROM device_tags s WHERE s.project_id = devices.project_id AND s.device_id = devices.id AND s.key = 'site'), '')",
        kind: ColumnKind::Text,
    },
    Column { name: "tags", sql: "tags", kind: ColumnKind::Text },
    Column { name: "last_seen_at", sql: "COALESCE(last_seen_at, -1)", kind: ColumnKind::Number },
    Column { name: "enrolled_at", sql: "enrolled_at", kind: ColumnKind::Number },
    Column { name: "agent_version", sql: "COALESCE(agent_version, '')", kind: ColumnKind::Text },
    Column { name: "process_status", sql: "COALESCE(process_status, '')", kind: ColumnKind::Text },
    Column {
        name: "service_failed",
        sql: "COALESCE(service_failed_at, -1)",
        kind: ColumnKind::Number,
    },
    Column {
        name: "active_deployment",
        sql: "COALESCE(active_deployment, '')",
        kind: ColumnKind::Text,
    },
    Column {
        name: "clock_offset_ms",
        sql: "COALESCE(clock_offset_ms, 0)",
        kind: ColumnKind::Number,
    },
    Column { name: "reconnect_count", sql: "reconnect_count", kind: ColumnKind::Number },
    Column { name: "contract", sql: "contract", kind: ColumnKind::Text },
    Column {
        name: "open_commands",
        sql: "(SELECT COUNT(*) FROM commands o WHERE o.project_id = devices.project_id AND o.device_id = devices.id AND o.open)",
        kind: ColumnKind::Number,
    },
];
const DEFAULT_SORT: &str = "id";

/// Which devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub id: Option<DeviceId>,
    /// All, when empty.
    pub statuses: Vec<DeviceStatus>,
    pub kinds: Names,
    pub devices: Names,
    pub agents: Names,
    pub processes: Names,
    /// Keys and values. Each must hold.
    pub tags: Vec<(String, Term)>,
    /// Each must hold.
    pub words: Vec<Term>,
    pub crashed: Option<bool>,
    pub service_failed: Option<bool>,
}

impl Listed for Filter {
    type Item = Device;

    const COLUMNS: &'static [Column] = COLUMNS;
    const DEFAULT_SORT: &'static str = DEFAULT_SORT;

    fn parse(given: &BTreeMap<String, String>) -> Result<Self, InvalidQuery> {
        let mut filter = Self::default();
        for (name, value) in given {
            if value.is_empty() && FILTERS.contains(&name.as_str()) {
                continue;
            }
            match name.as_str() {
                "id" => {
                    filter.id = Some(
                        DeviceId::new(value)
                            .map_err(|error| InvalidQuery::new("id", error.to_string()))?,
                    );
                }
                "status" => {
                    filter.statuses =
                        Names::choose(name, value, &DeviceStatus::ALL, DeviceStatus::as_str)?;
                }
                "type" => filter.kinds = Names::parse(name, value)?,
                "device" => filter.devices = Names::parse_as::<DeviceId>(name, value)?,
                "agent_version" => filter.agents = Names::parse(name, value)?,
                "process_status" => filter.processes = Names::parse(name, value)?,
                "tag" | "tags" => filter.tags.extend(tags(name, value)?),
                "q" => filter.words = search_words(value)?,
                "crashed" => filter.crashed = Some(flag("crashed", value)?),
                "service_failed" => filter.service_failed = Some(flag("service_failed", value)?),
                _ => return Err(InvalidQuery::unknown_filter(name, FILTERS)),
            }
        }
        Ok(filter)
    }

    fn select(&self, project: &ProjectId, sort: Sort) -> Select {
        let mut sql = Sql::new("project_id = ");
        sql.bind(project.as_str());
        if let Some(id) = &self.id {
            sql.push(" AND id = ").bind(id.as_str());
        }
        if !self.statuses.is_empty() {
            sql.push(" AND status IN ")
                .bind_list(self.statuses.iter().map(|status| status.as_str()));
        }
        for (names, column) in [
            (&self.kinds, "type"),
            (&self.devices, "id"),
            (&self.agents, "COALESCE(agent_version, '')"),
            (&self.processes, "COALESCE(process_status, '')"),
        ] {
            names.push(&mut sql, column);
        }
        for (key, value) in &self.tags {
            sql.push(if value.inverse { " AND id NOT IN (" } else { " AND id IN (" });
            sql.push("SELECT device_id FROM device_tags WHERE project_id = ")
                .bind(project.as_str());
            sql.push(" AND key = ").bind(key.as_str()).push(" AND ");
            if value.fuzzy {
                sql.like("value", value);
            } else {
                sql.push("value = ").bind(value.text.as_str());
            }
            sql.push(")");
        }
        for word in &self.words {
            found(&mut sql, project, word);
        }
        match self.crashed {
            Some(true) => {
                sql.push(
                    " AND (process_status = 'crashed' OR status = 'stale') AND status <> 'retired'",
                );
            }
            Some(false) => {
                sql.push(" AND COALESCE(process_status, '') <> 'crashed' AND status <> 'stale'");
            }
            None => {}
        }
        match self.service_failed {
            Some(true) => sql.push(" AND service_failed_at IS NOT NULL"),
            Some(false) => sql.push(" AND service_failed_at IS NULL"),
            None => &mut sql,
        };
        Select { from: "FROM devices", id: "id", filter: sql, sort }
    }

    async fn rows(
        tx: &mut Tx,
        project: &ProjectId,
        keys: &[Key],
    ) -> Result<Vec<Device>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = Sql::new(
            "SELECT id, type AS kind, tags, contract, enrolled_at, retired_at, status, last_seen_at, unheard_since, agent_version, facts,
               capabilities, clock_offset_ms, reconnect_count, last_disconnect_at, process_status, service_failed_unit,
               service_failed_reason, service_failed_at, active_deployment,
               (SELECT COUNT(*) FROM commands o WHERE o.project_id = devices.project_id AND o.device_id = devices.id
                 AND o.open) AS open_commands
             FROM devices WHERE project_id = ",
        );
        sql.bind(project.as_str())
            .push(" AND id IN ")
            .bind_list(keys.iter().map(|(_, id)| id.as_str()));
        let found: Vec<Row> = fetch_all!(tx, sql)?;
        in_order(keys, found, |row| row.id.clone()).into_iter().map(Row::shown).collect()
    }

    fn key(device: &Device) -> String {
        device.id.to_string()
    }
}

/// Reads `key=value` pairs; `!key=value` and `key=!value` are the same.
fn tags(name: &str, text: &str) -> Result<Vec<(String, Term)>, InvalidQuery> {
    let wrong = || InvalidQuery::new(name, "expected key=value, several with commas");
    let pieces = search::split(text, |c| c == ',');
    if pieces.len() > TAGS_MAX {
        return Err(InvalidQuery::new(name, format!("expected at most {TAGS_MAX} tags")));
    }
    let pair = |piece: &str| {
        let (inverse, pair) = match piece.trim().strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, piece.trim()),
        };
        let (key, value) = pair.split_once(['=', ':']).ok_or_else(wrong)?;
        let mut value = Term::parse(value.trim());
        value.inverse |= inverse;
        Ok((key.trim().to_owned(), value))
    };
    pieces.into_iter().map(pair).collect()
}

/// Devices that a word is found in: their id, type, tags, facts or agent's version.
///
/// A fuzzy word is looked for in names alone, and in each tag's value: in facts any letters are in some order.
fn found(sql: &mut Sql, project: &ProjectId, word: &Term) {
    sql.push(if word.inverse { " AND NOT (" } else { " AND (" });
    sql.like("id", word).push(" OR ").like("type", word);
    if word.fuzzy {
        sql.push(" OR id IN (SELECT device_id FROM device_tags WHERE project_id = ");
        sql.bind(project.as_str()).push(" AND ").like("value", word).push(")");
    } else {
        for column in ["tags", "facts", "COALESCE(agent_version, '')"] {
            sql.push(" OR ").like(column, word);
        }
    }
    sql.push(")");
}

fn flag(name: &str, value: &str) -> Result<bool, InvalidQuery> {
    value.parse().map_err(|_| InvalidQuery::new(name, "expected true or false"))
}

/// Reads a device; `None` for an unknown one.
pub async fn get(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<Option<Device>, StoreError> {
    let key = (String::new(), device.as_str().to_owned());
    Ok(Filter::rows(tx, project, &[key]).await?.pop())
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    kind: String,
    tags: String,
    contract: String,
    enrolled_at: i64,
    retired_at: Option<i64>,
    status: String,
    last_seen_at: Option<i64>,
    unheard_since: Option<i64>,
    agent_version: Option<String>,
    facts: String,
    capabilities: String,
    clock_offset_ms: Option<i64>,
    reconnect_count: i64,
    last_disconnect_at: Option<i64>,
    process_status: Option<String>,
    service_failed_unit: Option<String>,
    service_failed_reason: Option<String>,
    service_failed_at: Option<i64>,
    active_deployment: Option<String>,
    open_commands: i64,
}

impl Row {
    fn shown(self) -> Result<Device, StoreError> {
        let corrupt =
            |what: &str| StoreError::Corrupt { what: format!("{what} of device {}", self.id) };
        let at = |millis: Option<i64>| millis.map(Timestamp::from_millis);
        Ok(Device {
            tags: serde_json::from_str(&self.tags).map_err(|_| corrupt("tags"))?,
            status: self.status.parse().map_err(|_| corrupt("status"))?,
            facts: serde_json::from_str(&self.facts).map_err(|_| corrupt("facts"))?,
            capabilities: serde_json::from_str(&self.capabilities)
                .map_err(|_| corrupt("capabilities"))?,
            broker_connection: BrokerConnection {
                reconnect_count: self.reconnect_count.max(0) as u64,
                last_disconnect_at: at(self.last_disconnect_at),
            },
            service_failed: match (&self.service_failed_unit, self.service_failed_at) {
                (Some(unit), Some(since)) => Some(ServiceFailed {
                    unit: unit.clone(),
                    reason: self.service_failed_reason.clone().unwrap_or_default(),
                    at: Timestamp::from_millis(since),
                }),
                _ => None,
            },
            last_seen_at: at(self.last_seen_at),
            unheard_since: at(self.unheard_since),
            enrolled_at: Timestamp::from_millis(self.enrolled_at),
            retired_at: at(self.retired_at),
            id: DeviceId::new(&self.id).map_err(|_| corrupt("id"))?,
            kind: self.kind,
            agent_version: self.agent_version,
            contract: self.contract,
            process_status: self.process_status,
            active_deployment: self.active_deployment,
            clock_offset_ms: self.clock_offset_ms,
            open_commands: self.open_commands as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_with_either_separator_and_several_must_all_be_there() {
        let given = BTreeMap::from([("tags".to_owned(), "site=a, env:prod".to_owned())]);
        let filter = Filter::parse(&given).expect("valid");
        assert_eq!(
            filter.tags,
            [("site".to_owned(), Term::plain("a")), ("env".to_owned(), Term::plain("prod"))]
        );
    }

    #[test]
    fn a_filter_that_is_not_understood_is_named() {
        for (name, value) in
            [("status", "up"), ("tag", "site"), ("crashed", "yes"), ("color", "red"), ("id", "a b")]
        {
            let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(Filter::parse(&given).expect_err(name).field, name);
        }
    }
}
