//! Typed access to a TOML tree: each look-up either gives a value or notes a problem with its place.

use std::ops::Range;

use serde_json::{Number, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Problem, problem::PROBLEMS_MAX};
use crate::workflow::{
    mapping::{Fields, Mapping},
    substitution::Template,
};

pub(super) type Found<'t, 'i> = &'t Spanned<DeValue<'i>>;

/// Collects what is wrong while a file is read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
    problems: Vec<Problem>,
    /// How many of them, the first, say that it is no TOML.
    syntax_problems: usize,
    notes: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        let (problems, notes) = (Vec::new(), Vec::new());
        Self { text, line_starts, problems, syntax_problems: 0, notes }
    }

    /// Gives problems and notes, each in the order of the file. Of a file that is no TOML nothing
    /// else is told: what seems wrong or missing then may only have been read wrong.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        if self.syntax_problems > 0 {
            self.problems.truncate(self.syntax_problems);
        }
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        (self.problems, self.notes)
    }

    pub(super) fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at).max(1)
    }

    fn place(&self, span: &Range<usize>) -> (usize, usize) {
        let line = self.line_of(span.start);
        let start = self.line_starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..span.start).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// Notes what is wrong at a place.
    pub(super) fn wrong(&mut self, span: &Range<usize>, key: &str, text: impl Into<String>) {
        let (line, column) = self.place(span);
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { line, column, key: key.to_owned(), text: text.into() });
        }
    }

    /// Notes what the file as a whole has not: at its first line, where it may be put.
    pub(super) fn wrong_file(&mut self, key: &str, text: &str) {
        self.wrong(&(0..0), key, text);
    }

    /// Notes what is odd and harms nothing.
    pub(super) fn odd(&mut self, span: &Range<usize>, key: &str, text: &str) {
        let (line, column) = self.place(span);
        if self.notes.len() < PROBLEMS_MAX {
            self.notes.push(Problem { line, column, key: key.to_owned(), text: text.to_owned() });
        }
    }

    /// Reads the TOML itself; what can be read of it in spite of errors is still read.
    pub(super) fn tree(&mut self, text: &'a str) -> DeTable<'a> {
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            self.wrong(&span, "", format!("this is no TOML: {}", error.message()));
        }
        self.syntax_problems = self.problems.len();
        tree.into_inner()
    }

    pub(super) fn text<'t>(
        &mut self,
        key: &str,
        value: Found<'t, '_>,
        what: &str,
    ) -> Option<&'t str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            let found = value.get_ref().type_str();
            self.wrong(&value.span(), key, format!("expected {what}, found {found}"));
        }
        text
    }

    /// Reads a number of seconds, in milliseconds.
    pub(super) fn seconds(&mut self, key: &str, value: Found<'_, '_>) -> Option<i64> {
        let integer = value.get_ref().as_integer();
        let seconds =
            integer.and_then(|integer| i64::from_str_radix(integer.as_str(), integer.radix()).ok());
        match seconds {
            Some(seconds) if seconds >= 0 => Some(seconds.saturating_mul(1000)),
            _ => {
                self.wrong(&value.span(), key, "expected a whole number of seconds, 0 or more");
                None
            }
        }
    }

    /// Reads an `input` or `output` (D7).
    pub(super) fn fields(&mut self, key: &str, value: Found<'_, '_>) -> Fields {
        match value.get_ref() {
            DeValue::Table(table) => Fields::Table(self.table(key, table)),
            DeValue::String(text) if Template::parse(text).as_path().is_some() => {
                Fields::Whole(Template::parse(text))
            }
            other => {
                let found = other.type_str();
                let text =
                    format!("expected a table, or one expression for an object, found {found}");
                self.wrong(&value.span(), key, text);
                Fields::None
            }
        }
    }

    fn table(&mut self, key: &str, table: &DeTable<'_>) -> Vec<(String, Mapping)> {
        let fields = table.iter().map(|(name, value)| {
            let name = name.get_ref().to_string();
            let mapping = self.mapping(&format!("{key}.{name}"), value);
            (name, mapping)
        });
        fields.collect()
    }

    fn mapping(&mut self, key: &str, value: Found<'_, '_>) -> Mapping {
        let number = match value.get_ref() {
            DeValue::String(text) => {
                let template = Template::parse(text);
                return if template.has_expressions() {
                    Mapping::Text(template)
                } else {
                    Mapping::Literal(Value::String(text.to_string()))
                };
            }
            DeValue::Boolean(value) => return Mapping::Literal(Value::Bool(*value)),
            DeValue::Datetime(time) => return Mapping::Literal(Value::String(time.to_string())),
            DeValue::Table(table) => return Mapping::Table(self.table(key, table)),
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                let items = items.map(|(at, item)| self.mapping(&format!("{key}[{at}]"), item));
                return Mapping::List(items.collect());
            }
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(Number::from)
            }
            DeValue::Float(float) => float.as_str().parse().ok().and_then(Number::from_f64),
        };
        if number.is_none() {
            self.wrong(&value.span(), key, "expected a number that JSON can hold");
        }
        Mapping::Literal(number.map_or(Value::Null, Value::Number))
    }
}
