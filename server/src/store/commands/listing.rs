//! The listing of commands: filters and sorts of chapter 2, fast among a million.
//!
//! Ids rise with the time of creation, so "by creation" is "by id", and a range
//! of times is a range of ids. Totals by status are kept (`command_counts`).
//!
//! An index gives the rows of one terminal status in order, another one those
//! that are open; none gives them of several statuses. Then the keys are the
//! merged heads of some ordered walks:
//!
//! ```text
//!  failed    ─ newest n ─┐
//!  timed_out ─ newest n ─┼─▶ newest n of all
//!  open ones ─ newest n ─┘
//! ```

use std::{cmp::Ordering, collections::BTreeMap};

use quarterdeck_protocol::{
    api::{Command, Page},
    command::{CommandStatus, Priority},
    ids::{BatchId, CommandId, DeviceId, ProjectId},
    search::Term,
    time::Timestamp,
};

use super::{Row, columns};
use crate::store::{
    StoreError, Tx,
    listed::Listed,
    on,
    query::{
        Bind, Column, ColumnKind, InvalidQuery, Key, ListError, Names, Select, Slice, Sort, Sql,
        cut_page, fetch_all, in_order, search_words,
    },
};

/// The filters of `GET /commands`.
pub const FILTERS: &[&str] = &[
    "status",
    "type",
    "device",
    "user",
    "batch_id",
    "priority",
    "error_code",
    "from",
    "to",
    "q",
    "id",
];

const COLUMNS: &[Column] = &[
    Column { name: "created_at", sql: "id", kind: ColumnKind::Text },
    Column { name: "id", sql: "id", kind: ColumnKind::Text },
    Column { name: "device_id", sql: "device_id", kind: ColumnKind::Text },
    Column { name: "type", sql: "type", kind: ColumnKind::Text },
    Column { name: "status", sql: "status", kind: ColumnKind::Text },
    Column { name: "created_by", sql: "created_by", kind: ColumnKind::Text },
    Column { name: "priority", sql: "priority", kind: ColumnKind::Number },
    Column { name: "attempt", sql: "attempt", kind: ColumnKind::Number },
    Column { name: "timeout_s", sql: "timeout_s", kind: ColumnKind::Number },
    Column { name: "progress", sql: "COALESCE(progress, -1)", kind: ColumnKind::Number },
    Column { name: "expires_at", sql: "expires_at", kind: ColumnKind::Number },
    Column { name: "published_at", sql: "COALESCE(published_at, -1)", kind: ColumnKind::Number },
    Column { name: "accepted_at", sql: "COALESCE(accepted_at, -1)", kind: ColumnKind::Number },
    Column { name: "started_at", sql: "COALESCE(started_at, -1)", kind: ColumnKind::Number },
    Column { name: "finished_at", sql: "COALESCE(finished_at, -1)", kind: ColumnKind::Number },
    Column {
        name: "duration",
        sql: "COALESCE(finished_at - COALESCE(started_at, created_at), -1)",
        kind: ColumnKind::Number,
    },
    Column { name: "state", sql: "COALESCE(state, '')", kind: ColumnKind::Text },
    // Why it failed; else its step while it goes on; else what its sender noted. Its beginning is
    // enough for an order, and a cursor of all of it would be long.
    Column {
        name: "detail",
        sql: "SUBSTR(COALESCE(error_code || CASE WHEN exit_code <> 0 THEN ' exit ' || exit_code ELSE '' END || COALESCE(': ' || error_message, ''), CASE WHEN open THEN step END, (SELECT notes FROM batches b WHERE b.id = commands.batch_id), ''), 1, 200)",
        kind: ColumnKind::Text,
    },
    Column { name: "exit_code", sql: "COALESCE(exit_code, -1)", kind: ColumnKind::Number },
    Column { name: "error_code", sql: "COALESCE(error_code, '')", kind: ColumnKind::Text },
];

/// So many characters are taken for the beginning of an id.
const ID_PREFIX_MIN_CHARS: usize = 4;
/// Newest first, when nobody asks for anything else.
const DEFAULT_SORT: &str = "-created_at";

/// Which commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub id: Option<CommandId>,
    /// All, when empty.
    pub statuses: Vec<CommandStatus>,
    pub kinds: Names,
    pub devices: Names,
    pub users: Names,
    pub batches: Names,
    pub priorities: Names,
    pub errors: Names,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Each must hold.
    pub words: Vec<Term>,
}

impl Filter {
    /// Whether nothing but the status is asked about.
    fn is_of_status_only(&self) -> bool {
        Self { statuses: Vec::new(), ..self.clone() } == Self::default()
    }

    /// Whether an index leads to few rows, so that no other one should be taken.
    fn is_narrow(&self) -> bool {
        self.id.is_some()
            || self.devices.is_of_some()
            || (self.batches.is_of_some() && !self.batches.has_fuzzy())
            || self.words.iter().any(|word| !word.inverse)
    }

    /// All conditions but the status.
    fn conditions(&self, project: &ProjectId) -> Sql {
        let mut sql = Sql::new("project_id = ");
        sql.bind(project.as_str());
        if let Some(id) = &self.id {
            sql.push(" AND id = ").bind(id.to_string().as_str());
        }
        // An expression that no index has: the narrow filter's index is the better one.
        let unless_narrow =
            |column| if self.is_narrow() { (column, " || ''") } else { (column, "") };
        for (names, (column, not_by_index)) in
            [(&self.kinds, unless_narrow("type")), (&self.users, unless_narrow("created_by"))]
        {
            names.push(&mut sql, &format!("{column}{not_by_index}"));
        }
        if self.devices.has_fuzzy() {
            // Devices are few: their commands are found by index then.
            sql.push(" AND device_id IN (SELECT id FROM devices WHERE project_id = ");
            sql.bind(project.as_str());
            self.devices.push(&mut sql, "id");
            sql.push(")");
        } else {
            self.devices.push(&mut sql, "device_id");
        }
        self.batches.push(&mut sql, "batch_id");
        self.priorities.push(&mut sql, "CAST(priority AS TEXT)");
        self.errors.push(&mut sql, "COALESCE(error_code, '')");
        if let Some(from) = self.from {
            sql.push(" AND id >= ").bind(first_id_of(from).as_str());
        }
        if let Some(to) = self.to {
            sql.push(" AND id < ").bind(first_id_of(to.plus_millis(1)).as_str());
        }
        for word in &self.words {
            found(&mut sql, project, word);
        }
        sql
    }

    /// The keys of the wanted rows, in order.
    fn keys(
        &self,
        project: &ProjectId,
        sort: Sort,
        slice: Slice<'_>,
        limit: u32,
    ) -> Result<Sql, InvalidQuery> {
        let walks = self.walks(sort);
        if walks.is_empty() {
            return self.select(project, sort).keys(slice, limit);
        }
        let (offset, inner) = match slice {
            Slice::After(_) => (0, slice),
            Slice::Offset(offset) => (offset, Slice::After(None)),
        };
        let reach = u32::try_from(offset.saturating_add(u64::from(limit))).unwrap_or(u32::MAX);
        let is_by_status = sort.column.name == "status";
        // Within one walk the status is the same, and the id decides.
        let by_id = if is_by_status { Sort { column: &COLUMNS[0], ..sort } } else { sort };
        let after = match inner {
            Slice::After(Some(cursor)) => Some(sort.read_cursor(cursor)?),
            _ => None,
        };
        let mut sql = Sql::new("SELECT k, id FROM (");
        let mut is_first = true;
        for (index, statuses) in walks.into_iter().enumerate() {
            let shown = statuses.first().map_or("", |status| status.as_str());
            let mut walk_after = inner;
            let resumed;
            if is_by_status && let Some((Bind::Text(status), last)) = &after {
                match (shown.cmp(status), sort.descending) {
                    // This walk was finished on an earlier page.
                    (Ordering::Less, false) | (Ordering::Greater, true) => continue,
                    (Ordering::Equal, _) => {
                        resumed = by_id.cursor(last, last);
                        walk_after = Slice::After(Some(&resumed));
                    }
                    _ => walk_after = Slice::After(None),
                }
            }
            let one = Self { statuses, ..self.clone() };
            let keys = one.select(project, by_id).keys(walk_after, reach)?;
            sql.push(if is_first { "" } else { " UNION ALL " });
            is_first = false;
            let key = if is_by_status { format!("'{shown}' AS k") } else { "k".to_owned() };
            sql.push(&format!("SELECT {key}, id FROM ("))
                .append(&keys)
                .push(&format!(") AS s{index}"));
        }
        if is_first {
            return Err(InvalidQuery::new("cursor", "expected a next_cursor of the same filter"));
        }
        let direction = if sort.descending { "DESC" } else { "ASC" };
        let by_status = if is_by_status { format!("k {direction}, ") } else { String::new() };
        sql.push(&format!(") AS merged ORDER BY {by_status}id {direction} LIMIT "));
        sql.bind(i64::from(limit));
        sql.push(" OFFSET ").bind(i64::try_from(offset).unwrap_or(i64::MAX));
        Ok(sql)
    }

    /// The ordered walks to merge; none where one index alone gives the order.
    fn walks(&self, sort: Sort) -> Vec<Vec<CommandStatus>> {
        if self.is_narrow() {
            return Vec::new();
        }
        let statuses = match (sort.column.name, self.statuses.as_slice()) {
            // There is no index of all statuses; each has its own.
            ("status", []) => &CommandStatus::ALL,
            ("status", given) => given,
            (_, given) if sort.column.sql == "id" && given.len() > 1 => given,
            _ => return Vec::new(),
        };
        let (ended, live): (Vec<_>, Vec<_>) =
            statuses.iter().partition(|status| status.is_terminal());
        let mut walks: Vec<_> = ended.into_iter().map(|status| vec![status]).collect();
        match sort.column.name {
            "status" => walks.extend(live.into_iter().map(|status| vec![status])),
            _ if live.is_empty() => {}
            // Those that are open are walked together, whatever their status.
            _ => walks.push(live),
        }
        walks
    }
}

impl Listed for Filter {
    type Item = Command;

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
                        value.parse().map_err(|_| InvalidQuery::new("id", "expected a UUID"))?,
                    );
                }
                "status" => {
                    filter.statuses =
                        Names::choose(name, value, &CommandStatus::ALL, CommandStatus::as_str)?;
                    filter.statuses.sort_unstable();
                }
                "type" => filter.kinds = Names::parse(name, value)?,
                "device" => filter.devices = Names::parse_as::<DeviceId>(name, value)?,
                "user" => filter.users = Names::parse(name, value)?,
                "batch_id" => filter.batches = Names::parse_as::<BatchId>(name, value)?,
                "priority" => filter.priorities = Names::parse_as::<Priority>(name, value)?,
                "error_code" => filter.errors = Names::parse(name, value)?,
                "from" => filter.from = Some(instant("from", value)?),
                "to" => filter.to = Some(instant("to", value)?),
                "q" => filter.words = search_words(value)?,
                _ => return Err(InvalidQuery::unknown_filter(name, FILTERS)),
            }
        }
        Ok(filter)
    }

    fn select(&self, project: &ProjectId, sort: Sort) -> Select {
        let mut filter = self.conditions(project);
        if !self.statuses.is_empty() {
            // An expression that no index has: the narrow filter's index is the better one.
            let column = if self.is_narrow() { "status || ''" } else { "status" };
            let statuses = self.statuses.iter().map(|status| status.as_str());
            in_list(&mut filter, column, statuses);
            if !self.is_narrow() {
                // Says which of the two partial indexes will do.
                match self.statuses.iter().filter(|status| status.is_terminal()).count() {
                    0 => filter.push(" AND open"),
                    ended if ended == self.statuses.len() => filter.push(" AND NOT open"),
                    _ => &mut filter,
                };
            }
        }
        Select { from: "FROM commands", id: "id", filter, sort }
    }

    /// Each command with everything but its live output.
    async fn rows(
        tx: &mut Tx,
        _project: &ProjectId,
        keys: &[Key],
    ) -> Result<Vec<Command>, StoreError> {
        rows(tx, keys, true).await
    }

    fn key(command: &Command) -> String {
        command.id.to_string()
    }

    async fn page(
        &self,
        tx: &mut Tx,
        project: &ProjectId,
        sort: Option<&str>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Command>, ListError> {
        let sort = Self::sort(sort)?;
        let mut keys = fetch_all!(tx, self.keys(project, sort, Slice::After(cursor), limit + 1)?)?;
        let next_cursor = cut_page(&mut keys, limit, sort);
        let items = rows(tx, &keys, true).await?;
        Ok(Page { items, next_cursor, total: total(tx, project, self).await? })
    }

    /// Lean rows, unless the filter names an id.
    async fn window(
        &self,
        tx: &mut Tx,
        project: &ProjectId,
        sort: Option<&str>,
        offset: u64,
        limit: u32,
    ) -> Result<(Vec<Command>, u64), ListError> {
        if let Some(id) = self.id {
            let rows: Vec<Command> = super::get(tx, project, id).await?.into_iter().collect();
            let total = rows.len() as u64;
            return Ok((rows, total));
        }
        let keys =
            fetch_all!(tx, self.keys(project, Self::sort(sort)?, Slice::Offset(offset), limit)?)?;
        Ok((rows(tx, &keys, false).await?, total(tx, project, self).await?))
    }
}

/// Counts all commands that a filter lets through.
pub async fn total(tx: &mut Tx, project: &ProjectId, filter: &Filter) -> Result<u64, StoreError> {
    if filter.is_of_status_only() {
        let counts = counts(tx, project).await?;
        let wanted =
            |status: &CommandStatus| filter.statuses.is_empty() || filter.statuses.contains(status);
        return Ok(counts
            .iter()
            .filter(|(status, _)| wanted(status))
            .map(|(_, count)| count)
            .sum());
    }
    let sort = Filter::sort(None).expect("the default names a column");
    let rows: Vec<(i64,)> = fetch_all!(tx, filter.select(project, sort).count())?;
    Ok(rows.first().map_or(0, |(count,)| *count as u64))
}

/// Reads how many commands of a project have each status.
pub async fn counts(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<BTreeMap<CommandStatus, u64>, StoreError> {
    let rows: Vec<(String, i64)> = on!(tx, conn => sqlx::query_as(
        "SELECT status, count FROM command_counts WHERE project_id = $1",
    ).bind(project.as_str()).fetch_all(conn).await?);
    rows.into_iter()
        .map(|(status, count)| {
            let status = status
                .parse()
                .map_err(|_| StoreError::Corrupt { what: format!("the count of {status}") })?;
            Ok((status, count.max(0) as u64))
        })
        .collect()
}

async fn rows(tx: &mut Tx, keys: &[Key], full: bool) -> Result<Vec<Command>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let head =
        if full { concat!("SELECT ", columns!(full)) } else { concat!("SELECT ", columns!(lean)) };
    let mut sql = Sql::new(head);
    sql.push(" WHERE c.id IN ").bind_list(keys.iter().map(|(_, id)| id.as_str()));
    let found: Vec<Row> = fetch_all!(tx, sql)?;
    in_order(keys, found, |row| row.id.clone()).into_iter().map(Row::shown).collect()
}

/// Commands that a word is found in: their device, operation, user or notes, or the beginning of their id.
///
/// A fuzzy word is looked for in names alone: in notes, and in the digits of ids, any letters are in some order.
fn found(sql: &mut Sql, project: &ProjectId, word: &Term) {
    let devices = |sql: &mut Sql| {
        sql.push("device_id IN (SELECT id FROM devices WHERE project_id = ").bind(project.as_str());
        sql.push(" AND ").like("id", word).push(")");
    };
    let batches = |sql: &mut Sql| {
        sql.push("batch_id IN (SELECT id FROM batches WHERE project_id = ").bind(project.as_str());
        sql.push(" AND (").like("type", word).push(" OR ").like("created_by", word);
        if !word.fuzzy {
            sql.push(" OR ").like("notes", word);
        }
        sql.push("))");
    };
    let ids = |sql: &mut Sql| {
        let text = word.text.to_ascii_lowercase();
        let is_id = text.len() >= ID_PREFIX_MIN_CHARS
            && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if is_id && !word.fuzzy {
            sql.push("id >= ").bind(text.as_str()).push(" AND id < ");
            sql.bind(format!("{text}g").as_str());
        } else {
            sql.push("1 = 0");
        }
    };
    if word.inverse {
        // Most rows are let through: they are walked in order, each looked up in what was found.
        sql.push(" AND NOT (");
        devices(sql);
        sql.push(" OR ");
        batches(sql);
        sql.push(" OR (");
        ids(sql);
        sql.push("))");
        return;
    }
    // Few rows are: each part of the union has an index.
    sql.push(" AND id IN (SELECT id FROM commands WHERE project_id = ").bind(project.as_str());
    sql.push(" AND ");
    devices(sql);
    sql.push(" UNION SELECT id FROM commands WHERE ");
    batches(sql);
    sql.push(" UNION SELECT id FROM commands WHERE project_id = ").bind(project.as_str());
    sql.push(" AND ");
    ids(sql);
    sql.push(")");
}

fn in_list<'a>(sql: &mut Sql, column: &str, values: impl Iterator<Item = &'a str> + Clone) {
    if values.clone().count() == 1 {
        sql.push(&format!(" AND {column} = "));
        values.for_each(|value| {
            sql.bind(value);
        });
    } else {
        sql.push(&format!(" AND {column} IN ")).bind_list(values);
    }
}

fn instant(field: &str, text: &str) -> Result<Timestamp, InvalidQuery> {
    text.parse().map_err(|error| InvalidQuery::new(field, format!("{error}")))
}

/// The lowest id that a command of that moment can have.
pub(crate) fn first_id_of(at: Timestamp) -> String {
    let millis = u128::from(at.as_millis().max(0).unsigned_abs() & 0xffff_ffff_ffff);
    uuid::Uuid::from_u128(millis << 80).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Filter, InvalidQuery> {
        Filter::parse(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn a_filter_that_is_not_understood_is_named() {
        for (name, value) in [
            ("status", "done"),
            ("status", "queued,"),
            ("device", "a b"),
            ("batch_id", "1"),
            ("from", "yesterday"),
            ("to", "2026"),
            ("color", "red"),
        ] {
            assert_eq!(parse(&[(name, value)]).expect_err(name).field, name, "{value}");
        }
    }

    #[test]
    fn an_empty_filter_filters_nothing() {
        assert_eq!(parse(&[("status", ""), ("q", ""), ("device", "")]), Ok(Filter::default()));
    }

    /// A million commands must not be walked, nor sorted, for one page.
    #[tokio::test]
    async fn a_page_is_read_from_an_index_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let location = crate::store::Location::Sqlite(folder.path().join("plan.db"));
        let store = crate::store::Store::open(&location).await.expect("a store");
        let mut tx = store.read().await.expect("a reader");
        let project = ProjectId::new("p").expect("valid");
        let batch = uuid::Uuid::nil().to_string();
        for (pairs, sort, index) in [
            (vec![], "-created_at", "commands_by_project"),
            (vec![("status", "failed")], "-created_at", "commands_by_end"),
            (vec![("status", "failed,expired")], "-created_at", "commands_by_end"),
            (vec![("status", "queued")], "-created_at", "commands_live"),
            (vec![("status", "queued,published")], "-created_at", "commands_live"),
            (vec![("type", "ping")], "-created_at", "commands_by_type"),
            (vec![("user", "ann")], "-created_at", "commands_by_user"),
            (vec![("device", "d")], "-created_at", "commands_by_device"),
            (
                vec![("device", "d"), ("status", "failed"), ("type", "ping"), ("user", "u")],
                "-created_at",
                "commands_by_device",
            ),
            (vec![("batch_id", batch.as_str())], "-created_at", "commands_by_batch"),
            (
                vec![("from", "2026-01-01T00:00:00Z"), ("to", "2026-01-02T00:00:00Z")],
                "-created_at",
                "commands_by_project",
            ),
            (vec![], "device_id", "commands_by_device"),
            (vec![], "-type", "commands_by_type"),
            (vec![("status", "failed")], "status", "commands_by_end"),
            (vec![], "-created_by", "commands_by_user"),
        ] {
            let filter = parse(&pairs).expect("a valid filter");
            let sort = Sort::parse(COLUMNS, sort).expect("a column");
            for slice in [Slice::After(None), Slice::Offset(100)] {
                let mut sql = filter.keys(&project, sort, slice, 50).expect("keys");
                sql.text = format!("EXPLAIN QUERY PLAN {}", sql.text);
                let rows: Vec<(i64, i64, i64, String)> = fetch_all!(&mut tx, sql).expect("a plan");
                let plan: Vec<_> = rows.into_iter().map(|row| row.3).collect();
                let walks =
                    plan.iter().filter(|step| step.contains("commands")).collect::<Vec<_>>();
                assert!(
                    !walks.is_empty()
                        && walks
                            .iter()
                            .all(|step| step.contains(index) && step.starts_with("SEARCH")),
                    "{pairs:?} {plan:?}"
                );
                // Walks, each no longer than what is asked for, are merged in a small tree;
                // nothing else is sorted.
                let sorts = plan.iter().any(|step| step.contains("TEMP B-TREE"));
                assert!(!sorts || !filter.walks(sort).is_empty(), "{pairs:?} {plan:?}");
            }
        }
    }

    #[test]
    fn a_moment_stands_before_all_ids_of_its_millisecond() {
        let clock = crate::clock::Clock::manual(Timestamp::from_millis(1_700_000_000_123), 0, 9);
        let id = clock.new_uuid().to_string();
        assert!(first_id_of(clock.wall()) <= id);
        assert!(first_id_of(clock.wall().plus_millis(1)) > id);
    }
}
