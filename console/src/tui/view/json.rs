//! JSON as lines that fold: each knows the place in the value that it shows.

use std::{collections::BTreeSet, fmt::Write as _};

use quarterdeck_protocol::text;
use serde_json::Value;

use super::texts::Line;
use crate::tui::theme::Tone;

/// One line of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonLine {
    pub line: Line,
    /// The place that it shows, as `jq` writes it; none for what stands beside the JSON.
    pub path: Option<String>,
    /// An object or list that can be folded begins here.
    pub folds: bool,
}

impl JsonLine {
    /// A line that is no part of the JSON.
    pub const fn beside(line: Line) -> Self {
        Self { line, path: None, folds: false }
    }
}

/// Writes a value as lines; of what is folded only how much there is.
pub fn lines(value: &Value, folded: &BTreeSet<String>) -> Vec<JsonLine> {
    let mut writer = Writer { folded, out: Vec::new() };
    writer.begin(0, ".", value);
    writer.value(value, 0, ".");
    writer.out
}

/// The paths above a path, the root first.
pub fn above(path: &str) -> Vec<String> {
    let mut all: Vec<String> = steps(path)
        .into_iter()
        .scan(String::new(), |so_far, step| {
            let before = if so_far.is_empty() { ".".to_owned() } else { so_far.clone() };
            if so_far.is_empty() && step.starts_with('[') {
                so_far.push('.');
            }
            so_far.push_str(&step);
            Some(before)
        })
        .collect();
    all.dedup();
    all
}

/// The value at a path that [`lines`] wrote.
pub fn value_at<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path).iter().try_fold(root, |value, step| {
        let inside = step.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match inside {
            None => value.get(step.strip_prefix('.')?),
            Some(inside) => match inside.parse::<usize>() {
                Ok(index) => value.get(index),
                Err(_) => value.get(serde_json::from_str::<String>(inside).ok()?),
            },
        }
    })
}

/// A path cut into `.name`, `["any name"]` and `[7]`.
fn steps(path: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in path.chars() {
        if !is_quoted && matches!(c, '.' | '[') {
            steps.push(String::new());
        }
        if c == '"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = c == '\\' && !is_escaped;
        if let Some(step) = steps.last_mut() {
            step.push(c);
        }
    }
    steps.retain(|step| step != ".");
    steps
}

fn child(path: &str, name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let path = if path == "." { "" } else { path };
    match is_plain {
        true => format!("{path}.{name}"),
        // jq wants a point before the first bracket.
        false if path.is_empty() => format!(".[{}]", Value::from(name)),
        false => format!("{path}[{}]", Value::from(name)),
    }
}

fn item(path: &str, at: usize) -> String {
    format!("{path}[{at}]")
}

struct Writer<'a> {
    folded: &'a BTreeSet<String>,
    out: Vec<JsonLine>,
}

impl Writer<'_> {
    fn begin(&mut self, depth: usize, path: &str, value: &Value) {
        let is_empty = match value {
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => true,
        };
        let line = Line::new("  ".repeat(depth), Tone::Text);
        self.out.push(JsonLine { line, path: Some(path.to_owned()), folds: !is_empty });
    }

    fn put(&mut self, text: impl Into<String>, tone: Tone) {
        if let Some(last) = self.out.last_mut() {
            last.line.0.push((text.into(), tone));
        }
    }

    fn value(&mut self, value: &Value, depth: usize, path: &str) {
        match value {
            Value::Null => self.put("null", Tone::Muted),
            Value::Bool(on) => self.put(on.to_string(), Tone::Warn),
            Value::Number(number) => self.put(number.to_string(), Tone::Busy),
            Value::String(text) => self.string(text, depth, path),
            Value::Array(items) if items.is_empty() => self.put("[]", Tone::Muted),
            Value::Object(map) if map.is_empty() => self.put("{}", Tone::Muted),
            Value::Array(items) if self.folded.contains(path) => {
                self.fold('[', ']', items.len(), "item");
            }
            Value::Object(map) if self.folded.contains(path) => {
                self.fold('{', '}', map.len(), "field");
            }
            Value::Array(items) => {
                self.put("[", Tone::Muted);
                for (at, inner) in items.iter().enumerate() {
                    let path = item(path, at);
                    self.begin(depth + 1, &path, inner);
                    self.value(inner, depth + 1, &path);
                    self.comma(at + 1 < items.len());
                }
                self.close("]", depth, path);
            }
            Value::Object(map) => {
                self.put("{", Tone::Muted);
                for (at, (name, inner)) in map.iter().enumerate() {
                    let path = child(path, name);
                    self.begin(depth + 1, &path, inner);
                    self.put(name.clone(), Tone::Accent);
                    self.put(": ", Tone::Muted);
                    self.value(inner, depth + 1, &path);
                    self.comma(at + 1 < map.len());
                }
                self.close("}", depth, path);
            }
        }
    }

    fn fold(&mut self, open: char, close: char, n: usize, what: &str) {
        let n = crate::tui::format::plural(n as u64, what);
        self.put(format!("{open} {n} {close}"), Tone::Faint);
    }

    fn comma(&mut self, is_due: bool) {
        if is_due {
            self.put(",", Tone::Muted);
        }
    }

    fn close(&mut self, bracket: &str, depth: usize, path: &str) {
        let line = Line::new(format!("{}{bracket}", "  ".repeat(depth)), Tone::Muted);
        self.out.push(JsonLine { line, path: Some(path.to_owned()), folds: false });
    }

    /// On one line as JSON has it; one of several lines as a block, so that it can be read.
    fn string(&mut self, text: &str, depth: usize, path: &str) {
        if !text.trim_end().contains('\n') {
            self.put(Value::from(text).to_string(), Tone::Good);
            return;
        }
        let mut bar = String::new();
        let _ = write!(bar, "{}| ", "  ".repeat(depth + 1));
        for line in text::block(text).trim_end().lines() {
            let line = Line(vec![(bar.clone(), Tone::Faint), (line.to_owned(), Tone::Good)]);
            self.out.push(JsonLine { line, path: Some(path.to_owned()), folds: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shown(value: &Value, folded: &[&str]) -> Vec<String> {
        let folded = folded.iter().map(|path| (*path).to_owned()).collect();
        lines(value, &folded).iter().map(|line| line.line.plain()).collect()
    }

    #[test]
    fn json_is_indented_and_scripts_can_be_read() {
        let value = json!({"script": "id\nuptime\n", "args": ["a"], "n": null});
        assert_eq!(
            shown(&value, &[]),
            [
                "{",
                "  args: [",
                "    \"a\"",
                "  ],",
                "  n: null,",
                "  script: ",
                "    | id",
                "    | uptime",
                "}"
            ]
        );
    }

    #[test]
    fn what_is_folded_says_how_much_it_is() {
        let value = json!({"disks": [{"mount": "/"}, {"mount": "/var"}], "os": {"name": "x"}});
        assert_eq!(
            shown(&value, &[".disks", ".os"]),
            ["{", "  disks: [ 2 items ],", "  os: { 1 field }", "}"]
        );
        assert_eq!(shown(&value, &["."]), ["{ 2 fields }"]);
    }

    #[test]
    fn a_path_is_what_jq_takes() {
        let value = json!({"a b": [{"c.d": 1}], "e": [[2]]});
        let paths: Vec<_> =
            lines(&value, &BTreeSet::new()).into_iter().filter_map(|line| line.path).collect();
        assert!(paths.contains(&".[\"a b\"][0][\"c.d\"]".to_owned()), "{paths:?}");
        assert!(paths.contains(&".e[0][0]".to_owned()), "{paths:?}");
        assert_eq!(above(".e[0][0]"), [".", ".e", ".e[0]"]);
        assert_eq!(above(".[\"a b\"][0]"), [".", ".[\"a b\"]"]);
        assert_eq!(above("."), Vec::<String>::new());
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn each_path_leads_to_its_value(value in json_value()) {
            for line in lines(&value, &BTreeSet::new()) {
                let path = line.path.expect("of the JSON");
                let there = value_at(&value, &path);
                prop_assert!(there.is_some(), "{path}");
                let is_full = |v: &Value| {
                    v.as_array().is_some_and(|a| !a.is_empty()) || v.as_object().is_some_and(|o| !o.is_empty())
                };
                prop_assert!(!line.folds || there.is_some_and(is_full), "{path}");
            }
        }
    }
}
