//! Statements over many rows: few texts of few sizes, with placeholders as each engine likes them.
//!
//! sqlx hands over each row of SQLite from the thread of its connection to the task that asked, and each
//! placeholder's value the other way: for a row of a few numbers that costs more than to read it. So bulk
//! reads take their keys as one JSON array, and have their rows gathered into another: [`gather`].

use serde::{Serialize, de::DeserializeOwned};

use super::{BINDS_MAX, StoreError, Tx, on};

/// Keys of one gathering read at most: some MB of rows.
pub(crate) const GATHERED_MAX_KEYS: usize = 8_192;

/// Rows of one statement at most.
const ROWS_MAX: usize = 512;

/// How many rows the statements of a bulk write take, so that few different ones are prepared.
///
/// `100` rows become statements of `[64, 32, 4]`: no padding, at most a dozen sizes.
pub(crate) fn sizes(rows: usize, columns: usize) -> impl Iterator<Item = usize> {
    let largest = (BINDS_MAX / columns.max(1)).min(ROWS_MAX);
    let largest = 1 << largest.ilog2();
    let mut left = rows;
    std::iter::from_fn(move || {
        let size = if left >= largest { largest } else { 1 << left.checked_ilog2()? };
        left -= size;
        Some(size)
    })
}

/// Writes the placeholders of a multi-row `VALUES`: `($1,$2),($3,$4)`.
pub(crate) fn placeholders(rows: usize, columns: usize) -> String {
    use std::fmt::Write as _;
    debug_assert!(rows * columns <= BINDS_MAX, "both engines take this many");
    let mut text = String::with_capacity(rows * columns * 6);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            let separator = if column == 0 { "" } else { "," };
            write!(text, "{separator}${}", row * columns + column + 1)
                .expect("writing to a string cannot fail");
        }
        text.push(')');
    }
    text
}

/// Reads `columns` of all rows `from`, as JSON arrays: a [`bool`] is to be asked for as a number.
pub(crate) async fn gather<T: DeserializeOwned>(
    tx: &mut Tx,
    columns: &str,
    from: &str,
    binds: &[&str],
) -> Result<Vec<T>, StoreError> {
    let sql = match tx {
        Tx::Sqlite(_) => {
            format!("SELECT json_group_array(json_array({columns})) FROM {from}")
        }
        Tx::Postgres(_) => format!(
            "SELECT COALESCE(json_agg(json_build_array({columns})), '[]'::json)::text FROM {from}"
        ),
    };
    let (rows,): (String,) = on!(tx, conn => {
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
        for bind in binds {
            query = query.bind(*bind);
        }
        query.fetch_one(conn).await?
    });
    serde_json::from_str(&rows)
        .map_err(|error| StoreError::Corrupt { what: format!("rows of {from}: {error}") })
}

/// Writes keys as the parameter that [`Tx::texts`] and [`Tx::pairs`] unfold.
pub(crate) fn keys(keys: &[impl Serialize]) -> String {
    serde_json::to_string(keys).expect("texts and pairs of them are plain data")
}

impl Tx {
    /// Unfolds a parameter that is a JSON array of texts, as a subquery.
    pub(crate) fn texts(&self, parameter: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("(SELECT value FROM json_each({parameter}))"),
            Self::Postgres(_) => format!("(SELECT json_array_elements_text({parameter}::json))"),
        }
    }

    /// Unfolds a parameter that is a JSON array of pairs of texts, as a subquery of two columns.
    pub(crate) fn pairs(&self, parameter: &str) -> String {
        match self {
            Self::Sqlite(_) => {
                format!("(SELECT value ->> 0, value ->> 1 FROM json_each({parameter}))")
            }
            Self::Postgres(_) => {
                format!(
                    "(SELECT pair ->> 0, pair ->> 1 FROM json_array_elements({parameter}::json) AS pair)"
                )
            }
        }
    }

    /// Gives a statement the placeholders that its engine takes fastest.
    ///
    /// SQLite looks a numbered one up in a list of them all each time that it
    /// is bound: with thousands in a statement that takes longer than the work.
    pub(crate) fn dialect(&self, text: String) -> String {
        match self {
            Self::Sqlite(_) => without_numbers(&text).unwrap_or(text),
            Self::Postgres(_) => text,
        }
    }
}

/// Writes `?` for `$1`, `$2`, …; `None` when they do not stand in this order.
fn without_numbers(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    for expected in 1_usize.. {
        let Some((before, after)) = rest.split_once('$') else { break };
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if after[..digits].parse() != Ok(expected) {
            return None;
        }
        plain.push_str(before);
        plain.push('?');
        rest = &after[digits..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_add_up() {
        for rows in 0..2_000 {
            let sizes: Vec<_> = sizes(rows, 20).collect();
            assert_eq!(sizes.iter().sum::<usize>(), rows);
            assert!(sizes.iter().all(|size| size.is_power_of_two() && size * 20 <= BINDS_MAX));
        }
    }

    #[test]
    fn placeholders_lose_their_numbers_where_these_say_nothing() {
        let text = format!(
            "UPDATE t SET a = 1 WHERE (b, c) IN (VALUES {}) RETURNING d",
            placeholders(2, 2)
        );
        let plain = "UPDATE t SET a = 1 WHERE (b, c) IN (VALUES (?,?),(?,?)) RETURNING d";
        assert_eq!(without_numbers(&text).as_deref(), Some(plain));
        assert_eq!(without_numbers("SELECT 1").as_deref(), Some("SELECT 1"));
        assert_eq!(without_numbers("a = $2 AND b = $1"), None);
        assert_eq!(without_numbers("a = $1 OR b = $1"), None);
    }
}
