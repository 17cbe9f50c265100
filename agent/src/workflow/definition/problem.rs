//! What is wrong in a file: where, at which key, and what was expected there.

use std::fmt;

/// How many problems of one file are told.
pub(super) const PROBLEMS_MAX: usize = 50;
/// The longest reason that an invalid file gives its commands.
const REASON_MAX_BYTES: usize = 2 * 1024;

/// One thing that is wrong, or odd, in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 where there is no one place.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// E.g. `install.on_exit.2-5`; empty where the text is no TOML.
    pub key: String,
    /// What was expected.
    pub text: String,
}

impl Problem {
    pub(in crate::workflow) fn new(line: usize, key: &str, text: impl Into<String>) -> Self {
        Self { line, column: 1, key: key.to_owned(), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// All that is wrong in a workflow file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(file, problems, "\n"))]
pub struct InvalidDefinition {
    pub file: String,
    /// Where it can be read: commands for it then fail with these problems (D10).
    pub operation: Option<String>,
    /// At least one, in the order of the file.
    pub problems: Vec<Problem>,
}

impl InvalidDefinition {
    /// Says it in one line: the reason that its commands fail with.
    pub fn reason(&self) -> String {
        let all = lines(&self.file, &self.problems, "; ");
        let reason = format!("Invalid operation workflow definition: {all}");
        quarterdeck_protocol::text::truncate_bytes(&reason, REASON_MAX_BYTES).to_owned()
    }
}

fn lines(file: &str, problems: &[Problem], separator: &str) -> String {
    problems.iter().map(|p| format!("{file}:{p}")).collect::<Vec<_>>().join(separator)
}
