//! What the listings share: filters, sorts, cursors and windows (chapter 2).
//!
//! A listing is read in two statements: the keys of the wanted rows, in order,
//! from an index where there is one, then the rows themselves. Pages go by
//! *keyset*: a cursor holds the last row's sort value and id, so a page is as
//! fast as the first one, and rows that come or go meanwhile shift nothing.
//! The live feed's windows go by offset. Both come from the same [`Select`].

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use quarterdeck_protocol::search::{self, Term};
use serde_json::value::RawValue;

use super::Tx;

/// One row of a live window: its key, and the object as JSON.
pub type WindowRow = (String, Box<RawValue>);

/// What a listing reads first of a row: its sort value and its id, as texts.
pub type Key = (String, String);

/// Says which part of a query is wrong: a filter, `sort` or `cursor`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected}")]
pub struct InvalidQuery {
    pub field: String,
    pub expected: String,
}

impl InvalidQuery {
    pub fn new(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { field: field.into(), expected: expected.into() }
    }

    /// For a filter that the listing does not have.
    pub fn unknown_filter(field: &str, known: &[&str]) -> Self {
        Self::new(field, format!("no such filter; expected {}", known.join(", ")))
    }
}

/// Why a listing could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Invalid(#[from] InvalidQuery),
    #[error(transparent)]
    Store(#[from] super::StoreError),
}

impl From<sqlx::Error> for ListError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Which rows of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice<'a> {
    /// The page after a cursor; the first one without.
    After(Option<&'a str>),
    /// From the row with this number on.
    Offset(u64),
}

/// A column to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// SQL that is never NULL: the engines disagree on where NULL belongs.
    pub sql: &'static str,
    pub kind: ColumnKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    Number,
}

/// The order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    pub column: &'static Column,
    pub descending: bool,
}

impl Sort {
    /// Reads `name` or `-name`.
    pub fn parse(columns: &'static [Column], text: &str) -> Result<Self, InvalidQuery> {
        let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        let column = columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let known: Vec<_> = columns.iter().map(|column| column.name).collect();
            InvalidQuery::new(
                "sort",
                format!("expected one of {}, with - before it for descending", known.join(", ")),
            )
        })?;
        Ok(Self { column, descending })
    }

    /// Writes the cursor that continues after a row.
    pub fn cursor(self, value: &str, id: &str) -> String {
        let direction = if self.descending { "-" } else { "" };
        let text = serde_json::json!([format!("{direction}{}", self.column.name), value, id]);
        BASE64_URL_SAFE_NO_PAD.encode(text.to_string())
    }

    pub(crate) fn read_cursor(self, cursor: &str) -> Result<(Bind, String), InvalidQuery> {
        let invalid = || {
            InvalidQuery::new("cursor", "expected a next_cursor of this listing with the same sort")
        };
        let text = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
        let (sort, value, id): (String, String, String) =
            serde_json::from_slice(&text).map_err(|_| invalid())?;
        let direction = if self.descending { "-" } else { "" };
        if sort.strip_prefix(direction) != Some(self.column.name)
            || id.contains('\0')
            || value.contains('\0')
        {
            return Err(invalid());
        }
        let value = match self.column.kind {
            ColumnKind::Text => Bind::Text(value),
            ColumnKind::Number => Bind::Number(value.parse().map_err(|_| invalid())?),
        };
        Ok((value, id))
    }
}

/// A value of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bind {
    Text(String),
    Number(i64),
}

impl From<&str> for Bind {
    fn from(text: &str) -> Self {
        // PostgreSQL takes no NUL in a text; nothing that is stored has one.
        Self::Text(text.replace('\0', "\u{fffd}"))
    }
}

impl From<i64> for Bind {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// A statement that is put together, with its values apart from its text.
#[derive(Debug, Clone, Default)]
pub struct Sql {
    pub(crate) text: String,
    pub(crate) binds: Vec<Bind>,
}

impl Sql {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), binds: Vec::new() }
    }

    /// Appends SQL of the program's own.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends a placeholder and its value.
    pub(crate) fn bind(&mut self, value: impl Into<Bind>) -> &mut Self {
        self.binds.push(value.into());
        write!(self.text, "${}", self.binds.len()).expect("writing to a string cannot fail");
        self
    }

    /// Appends `($1, $2, …)`.
    pub(crate) fn bind_list<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.push("(");
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.bind(value);
        }
        self.push(")")
    }

    /// Appends another statement, its placeholders renumbered.
    pub(crate) fn append(&mut self, other: &Self) -> &mut Self {
        let mut rest = other.text.as_str();
        while let Some(at) = rest.find('$') {
            self.text.push_str(&rest[..at]);
            let digits = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
            let number: usize =
                rest[at + 1..=at + digits].parse().expect("a placeholder has a number");
            self.bind_value(other.binds[number - 1].clone());
            rest = &rest[at + 1 + digits..];
        }
        self.text.push_str(rest);
        self
    }

    /// Appends a condition: the term stands in the column, whatever the case of its letters.
    ///
    /// Both sides are lowered by the engine: SQLite lowers A to Z alone, PostgreSQL all its locale has.
    pub(crate) fn like(&mut self, column: &str, term: &Term) -> &mut Self {
        self.push(&format!("LOWER({column}) LIKE LOWER("))
            .bind(pattern(term).as_str())
            .push(") ESCAPE '!'")
    }

    fn bind_value(&mut self, value: Bind) {
        self.binds.push(value);
        write!(self.text, "${}", self.binds.len()).expect("writing to a string cannot fail");
    }
}

/// Runs a [`Sql`] and reads its rows.
macro_rules! fetch_all {
    ($tx:expr, $sql:expr) => {{
        let sql: $crate::store::query::Sql = $sql;
        let tx: &mut $crate::store::Tx = $tx;
        let text = tx.dialect(sql.text);
        $crate::store::on!(tx, conn => {
            let mut query = sqlx::query_as(sqlx::AssertSqlSafe(text));
            for bind in sql.binds {
                query = match bind {
                    $crate::store::query::Bind::Text(text) => query.bind(text),
                    $crate::store::query::Bind::Number(number) => query.bind(number),
                };
            }
            query.fetch_all(conn).await
        })
    }};
}
pub(crate) use fetch_all;

/// Which rows, in which order: what the two forms of a listing share.
#[derive(Debug, Clone)]
pub struct Select {
    /// `FROM table`
    pub(crate) from: &'static str,
    /// The column that makes the order total.
    pub(crate) id: &'static str,
    /// Conditions without `WHERE`, never empty.
    pub(crate) filter: Sql,
    pub(crate) sort: Sort,
}

impl Select {
    /// The statement that reads sort values and ids, as texts, of at most `limit` rows.
    pub(crate) fn keys(&self, slice: Slice<'_>, limit: u32) -> Result<Sql, InvalidQuery> {
        let Self { from, id, filter, sort } = self;
        let (column, direction) = (sort.column.sql, if sort.descending { "DESC" } else { "ASC" });
        // Named apart from its column: PostgreSQL would sort by the text.
        let mut sql = Sql::new(&format!("SELECT CAST({column} AS TEXT) AS k, {id} {from} WHERE "));
        sql.append(filter);
        if let Slice::After(Some(cursor)) = slice {
            let (value, last) = sort.read_cursor(cursor)?;
            let beyond = if sort.descending { "<" } else { ">" };
            if column == *id {
                sql.push(&format!(" AND {id} {beyond} ")).bind(last.as_str());
            } else {
                sql.push(&format!(" AND ({column}, {id}) {beyond} ("));
                sql.bind_value(value);
                sql.push(", ").bind(last.as_str()).push(")");
            }
        }
        sql.push(&format!(" ORDER BY {column} {direction}"));
        if column != *id {
            sql.push(&format!(", {id} {direction}"));
        }
        sql.push(" LIMIT ").bind(i64::from(limit));
        if let Slice::Offset(offset) = slice {
            sql.push(" OFFSET ").bind(i64::try_from(offset).unwrap_or(i64::MAX));
        }
        Ok(sql)
    }

    /// Reads the keys of a page and the cursor of the next one, and how many rows there are.
    pub(crate) async fn page(
        &self,
        tx: &mut Tx,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Key>, Option<String>, u64), ListError> {
        let mut keys = fetch_all!(tx, self.keys(Slice::After(cursor), limit + 1)?)?;
        let next_cursor = cut_page(&mut keys, limit, self.sort);
        Ok((keys, next_cursor, self.total(tx).await?))
    }

    /// Reads the keys of the rows `offset` to `offset + limit`, and how many rows there are.
    pub(crate) async fn window(
        &self,
        tx: &mut Tx,
        offset: u64,
        limit: u32,
    ) -> Result<(Vec<Key>, u64), ListError> {
        let keys = fetch_all!(tx, self.keys(Slice::Offset(offset), limit)?)?;
        Ok((keys, self.total(tx).await?))
    }

    async fn total(&self, tx: &mut Tx) -> Result<u64, ListError> {
        let total: Vec<(i64,)> = fetch_all!(tx, self.count())?;
        Ok(total.first().map_or(0, |(count,)| *count as u64))
    }

    /// The statement that counts all rows.
    pub(crate) fn count(&self) -> Sql {
        let mut sql = Sql::new(&format!("SELECT COUNT(*) {} WHERE ", self.from));
        sql.append(&self.filter);
        sql
    }
}

/// The cursor of the next page, when `keys` has one row more than `limit`; that row is dropped.
pub(crate) fn cut_page(keys: &mut Vec<(String, String)>, limit: u32, sort: Sort) -> Option<String> {
    if keys.len() <= limit as usize {
        return None;
    }
    keys.truncate(limit as usize);
    keys.last().map(|(value, id)| sort.cursor(value, id))
}

/// Puts rows in the order of their keys; a row that is gone by now is left out.
pub(crate) fn in_order<T>(
    keys: &[(String, String)],
    rows: Vec<T>,
    id: impl Fn(&T) -> String,
) -> Vec<T> {
    let mut by_id: std::collections::HashMap<String, T> =
        rows.into_iter().map(|row| (id(&row), row)).collect();
    keys.iter().filter_map(|(_, id)| by_id.remove(id)).collect()
}

/// Serialises a row of a live window.
pub(crate) fn to_raw<T: serde::Serialize>(value: &T) -> Result<Box<RawValue>, super::StoreError> {
    serde_json::value::to_raw_value(value)
        .map_err(|error| super::StoreError::Corrupt { what: error.to_string() })
}

/// Makes a pattern for `LIKE … ESCAPE '!'` that finds a term anywhere; a fuzzy one by its letters in order.
pub(crate) fn pattern(term: &Term) -> String {
    let mut pattern = String::with_capacity(term.text.len() * 2 + 2);
    pattern.push('%');
    for c in term.text.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
        if term.fuzzy {
            pattern.push('%');
        }
    }
    if !term.fuzzy {
        pattern.push('%');
    }
    pattern
}

/// What a column's filter lets through: one of its plain and fuzzy names, and none of the inverse ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<Term>);

impl Names {
    /// Reads the filter `field` of a request.
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self, InvalidQuery> {
        search::names(text).map(Self).map_err(|error| InvalidQuery::new(field, error.to_string()))
    }

    /// As [`Names::parse`], where each name that is not fuzzy must be one of a type; it is written as that does.
    pub(crate) fn parse_as<T>(field: &str, text: &str) -> Result<Self, InvalidQuery>
    where
        T: std::str::FromStr<Err: std::fmt::Display> + std::fmt::Display,
    {
        let mut names = Self::parse(field, text)?;
        for name in names.0.iter_mut().filter(|name| !name.fuzzy) {
            let value: T = name
                .text
                .parse()
                .map_err(|error: T::Err| InvalidQuery::new(field, error.to_string()))?;
            name.text = value.to_string();
        }
        Ok(names)
    }

    /// Picks those of a fixed set of values that are let through.
    pub(crate) fn choose<T: Copy>(
        field: &str,
        text: &str,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Result<Vec<T>, InvalidQuery> {
        let known = || all.iter().map(|value| name(*value)).collect::<Vec<_>>().join(", ");
        let names = Self::parse(field, text)?;
        let unknown =
            |term: &&Term| !term.fuzzy && all.iter().all(|value| name(*value) != term.text);
        if let Some(term) = names.0.iter().find(unknown) {
            let expected = format!("expected one of {}, not {:?}", known(), term.text);
            return Err(InvalidQuery::new(field, expected));
        }
        let chosen: Vec<T> =
            all.iter().copied().filter(|value| names.lets_through(name(*value))).collect();
        if chosen.is_empty() {
            return Err(InvalidQuery::new(field, format!("none is left of {}", known())));
        }
        Ok(chosen)
    }

    fn lets_through(&self, text: &str) -> bool {
        let is = |term: &Term| if term.fuzzy { term.is_in(text) } else { term.text == text };
        let (none, any): (Vec<_>, Vec<_>) = self.0.iter().partition(|term| term.inverse);
        !none.into_iter().any(is) && (any.is_empty() || any.into_iter().any(is))
    }

    /// Whether it names what is wanted, rather than only what is not.
    pub(crate) fn is_of_some(&self) -> bool {
        self.0.iter().any(|term| !term.inverse)
    }

    /// Whether some are not named as they are, so that no index finds them.
    pub(crate) fn has_fuzzy(&self) -> bool {
        self.0.iter().any(|term| term.fuzzy)
    }

    /// Appends ` AND …` for a column that is never NULL.
    pub(crate) fn push(&self, sql: &mut Sql, column: &str) {
        for inverse in [false, true] {
            let of = |fuzzy| {
                self.0.iter().filter(move |term| term.inverse == inverse && term.fuzzy == fuzzy)
            };
            let plain: Vec<&str> = of(false).map(|term| term.text.as_str()).collect();
            let mut is_first = true;
            let mut next = |sql: &mut Sql| {
                let first = if inverse { " AND NOT (" } else { " AND (" };
                sql.push(if std::mem::take(&mut is_first) { first } else { " OR " });
            };
            match plain.as_slice() {
                [] => {}
                [only] => {
                    next(sql);
                    sql.push(column).push(" = ").bind(*only);
                }
                many => {
                    next(sql);
                    sql.push(column).push(" IN ").bind_list(many.iter().copied());
                }
            }
            for term in of(true) {
                next(sql);
                sql.like(column, term);
            }
            if !is_first {
                sql.push(")");
            }
        }
    }
}

/// Reads the words of a `q`.
pub(crate) fn search_words(text: &str) -> Result<Vec<Term>, InvalidQuery> {
    search::words(text).map_err(|error| InvalidQuery::new("q", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column { name: "created_at", sql: "id", kind: ColumnKind::Text },
        Column { name: "priority", sql: "priority", kind: ColumnKind::Number },
    ];

    #[test]
    fn a_cursor_is_good_for_its_own_sort_only() {
        let up = Sort::parse(COLUMNS, "priority").expect("a column");
        let down = Sort::parse(COLUMNS, "-priority").expect("a column");
        let cursor = up.cursor("7", "abc");
        assert_eq!(up.read_cursor(&cursor), Ok((Bind::Number(7), "abc".to_owned())));
        for bad in [cursor.as_str(), "", "x", "////", "W10"] {
            assert_eq!(down.read_cursor(bad).expect_err(bad).field, "cursor");
        }
    }

    #[test]
    fn an_unknown_sort_names_what_there_is() {
        let error = Sort::parse(COLUMNS, "-color").expect_err("no such column");
        assert_eq!(error.field, "sort");
        assert!(error.expected.contains("created_at, priority"), "{error}");
    }

    #[test]
    fn appended_placeholders_are_renumbered() {
        let mut sql = Sql::new("a = ");
        sql.bind("x").push(" AND ");
        let mut other = Sql::new("b = ");
        other.bind(1_i64).push(" OR c = ").bind("z");
        sql.append(&other);
        assert_eq!(sql.text, "a = $1 AND b = $2 OR c = $3");
        assert_eq!(sql.binds.len(), 3);
    }

    #[test]
    fn a_search_text_is_no_pattern() {
        let fuzzy = |text| Term { fuzzy: true, ..Term::plain(text) };
        assert_eq!(pattern(&Term::plain("50%_A!")), "%50!%!_A!!%");
        assert_eq!(pattern(&fuzzy("a%b")), "%a%!%%b%");
    }

    #[test]
    fn of_a_set_those_are_chosen_that_are_named_and_not_unnamed() {
        let all = ["queued", "failed", "completed", "cancelled"];
        let choose = |text| Names::choose("status", text, &all, |name| name);
        assert_eq!(choose("failed,queued"), Ok(vec!["queued", "failed"]));
        assert_eq!(choose("!failed"), Ok(vec!["queued", "completed", "cancelled"]));
        assert_eq!(choose("~cnl"), Ok(vec!["cancelled"]));
        assert!(choose("lost").is_err_and(|e| e.expected.contains("not \"lost\"")));
        assert!(choose("failed,!failed").is_err_and(|e| e.expected.contains("none is left")));
    }
}
