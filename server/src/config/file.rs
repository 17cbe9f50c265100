//! The TOML file: its keys and values, and the line that each stands in.

use std::collections::BTreeMap;

use toml::{Spanned, Value};

use super::NAMES;

/// An option as the file has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: &'static str,
    /// What the flag of that name would be given.
    pub value: String,
    /// Counted from 1.
    pub line: usize,
}

/// Reads the options of a file, or says in which line it is wrong.
///
/// No value is shown: it may be a password.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let line_of =
        |at: usize| text.as_bytes()[..at.min(text.len())].split(|byte| *byte == b'\n').count();
    let table: BTreeMap<Spanned<String>, Spanned<Value>> =
        toml::from_str(text).map_err(|error| {
            let line = line_of(error.span().map_or(0, |span| span.start));
            let key = text.lines().nth(line - 1).and_then(|text| text.split('=').next());
            format!("line {line}, {}: {}", key.unwrap_or_default().trim(), error.message())
        })?;
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let line = line_of(key.span().start);
        let key = key.into_inner();
        let Some(name) = NAMES.into_iter().find(|name| *name == key) else {
            return Err(format!(
                "line {line}, {key:?}: there is no such option; expected one of {}",
                NAMES.join(", ")
            ));
        };
        let value = as_text(value.into_inner()).ok_or_else(|| {
            format!("line {line}, {name}: expected a text, a number, or a list of texts")
        })?;
        entries.push(Entry { name, value, line });
    }
    entries.sort_by_key(|entry| entry.line);
    Ok(entries)
}

/// Writes a value as it would stand on the command line; a list with commas.
fn as_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Integer(number) => Some(number.to_string()),
        Value::Array(items) => {
            let texts: Option<Vec<_>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.map(|texts| texts.join(","))
        }
        Value::Boolean(_) | Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &'static str, value: &str, line: usize) -> Entry {
        Entry { name, value: value.to_owned(), line }
    }

    #[test]
    fn numbers_and_lists_are_as_good_as_texts_and_lines_are_counted() {
        let text = "# all of it\nhttp = '127.0.0.1:0'\n\ntunnel_idle_s = 600\nallow_plaintext = [\n  'http',\n  'mqtt',\n]\nbroker_qos = '1'";
        let wanted = [
            entry("http", "127.0.0.1:0", 2),
            entry("tunnel_idle_s", "600", 4),
            entry("allow_plaintext", "http,mqtt", 5),
            entry("broker_qos", "1", 9),
        ];
        assert_eq!(parse(text).expect("valid"), wanted);
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_key_without_its_value() {
        for (text, parts) in [
            ("\nhttp = true", ["line 2", "http", "expected a text"]),
            ("[tunnels]\nidle = 's3cret'", ["line 1", "tunnels", "expected one of data_dir"]),
            ("http = ''\nhttp = ''", ["line 2", "http", "duplicate key"]),
            ("database = s3cret", ["line 1", "database", "quoted"]),
            ("\n\nbroker.url = 's3cret'", ["line 3", "broker", "expected a text"]),
            ("broker", ["line 1", "broker", "="]),
        ] {
            let error = parse(text).expect_err(text);
            assert!(parts.iter().all(|part| error.contains(part)), "{text:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
