//! Which operations a device has: the agent's own workflows, and over them the
//! files of a folder (source 003; rules D8, D10, D11; chapter 4).
//!
//! ```text
//! built-in texts ──┐                             ┌─▶ entries: operation → workflow, card, origin
//!                  ├─▶ Catalogue::of(…) ─────────┤
//! *.toml, *.json ──┘                             └─▶ rejected: files that count for nothing, and why
//! ```
//!
//! - Of a folder `*.toml` and `*.json` directly in it count, in the order of
//!   their names; names that begin with a dot do not.
//! - The file's name means nothing, `operation` in it rules. A user's file takes
//!   the place of the built-in one, also when it is invalid: its commands then
//!   fail with its problems, rather than do something else than it was meant to.
//! - Of several files for one operation the first valid one counts.
//! - `<operation>.json` is the operation's card ([`super::card`]).
//! - A child's operations are the files of its folder alone. What is built in acts on the
//!   device that the agent runs on, so a file of a child's that asks for it is invalid.
//!
//! Nothing here reads a file: [`crate::io::workflow_folder`] does.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use quarterdeck_protocol::operations::Operation;
use toml_parser::lexer::TokenKind;

use crate::domain::operation::Owner;

use super::{
    card::{self, InvalidCard},
    definition::{Action, BuiltinCall, Definition, InvalidDefinition, Problem},
};

/// The longest workflow file.
pub const WORKFLOW_MAX_BYTES: usize = 256 * 1024;

/// How deep brackets may stand open in one.
const NESTING_MAX_LEVELS: usize = 100;

/// Whose operations a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Of the device that the agent runs on: they stand over the agent's own.
    Device,
    /// Of a child: there are no others.
    Child,
}

/// A workflow that is part of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedded {
    pub operation: &'static str,
    pub text: &'static str,
}

macro_rules! embedded {
    ($($operation:literal),* $(,)?) => {
        &[$(Embedded {
            operation: $operation,
            text: include_str!(concat!("../../operations/", $operation, ".toml")),
        }),*]
    };
}

/// The agent's own workflows, by name.
pub const BUILTIN: &[Embedded] = embedded![
    "collect_logs",
    "config_snapshot",
    "config_update",
    "disk_usage",
    "file_pull",
    "file_push",
    "health_check",
    "list_processes",
    "log_upload",
    "network_info",
    "ping",
    "reboot_host",
    "restart",
    "restart_agent",
    "restart_app",
    "restart_service",
    "run_script",
    "shutdown_host",
    "software_list",
    "software_update",
    "system_info",
    "update_config",
];

/// A file of a workflow folder, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFile {
    pub path: PathBuf,
    /// Its bytes, or why they could not be read.
    pub content: Result<Vec<u8>, String>,
}

/// All operations of a device, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    entries: BTreeMap<Arc<str>, Entry>,
    /// What of the folder counts for nothing, in the order of its names.
    pub rejected: Vec<Rejected>,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Entry {
    pub origin: Origin,
    /// A user's file stands in the place of the agent's own workflow.
    pub overrides_builtin: bool,
    pub workflow: Workflow,
    /// What the console is told of it.
    pub card: Operation,
}

/// Where a workflow comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Builtin,
    File(PathBuf),
}

/// What the text of a workflow came to.
#[derive(Debug, Clone)]
pub enum Workflow {
    Valid { definition: Arc<Definition>, text: Arc<str> },
    Invalid(InvalidDefinition),
}

/// A file that counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: String },
    /// It is not even known for which operation it is.
    #[error(transparent)]
    Nameless(InvalidDefinition),
    #[error("{}: is for {operation} too, but {} stands", path.display(), kept.display())]
    Duplicate { path: PathBuf, operation: Arc<str>, kept: PathBuf },
    /// The operation is there all the same, without what its card would say.
    #[error(transparent)]
    Card(InvalidCard),
}

impl Rejected {
    /// Whether it may be a workflow for any operation, for all that is known.
    fn may_be_a_workflow(&self) -> bool {
        match self {
            Self::Unreadable { path, .. } => path.extension().is_some_and(|it| it == "toml"),
            Self::Nameless(_) => true,
            Self::Duplicate { .. } | Self::Card(_) => false,
        }
    }
}

impl Catalogue {
    /// Whether there surely is no such operation: a file that nobody can read may be for it.
    pub fn lacks(&self, operation: &str) -> bool {
        self.get(operation).is_none() && !self.rejected.iter().any(Rejected::may_be_a_workflow)
    }

    /// Makes the catalogue of all files of a folder, over what is built in.
    pub fn of(whose: Whose, files: Vec<FolderFile>) -> Self {
        match whose {
            Whose::Device => Self::over(BUILTIN, whose, files),
            Whose::Child => Self::over(&[], whose, files),
        }
    }

    fn over(builtin: &[Embedded], whose: Whose, mut files: Vec<FolderFile>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut catalogue = Self::default();
        for embedded in builtin {
            let name = format!("builtin:{}", embedded.operation);
            let (operation, workflow) = read(whose, &name, embedded.text.as_bytes());
            let card = card::default_of(embedded.operation);
            debug_assert_eq!(operation.as_deref(), Some(embedded.operation));
            let entry = Entry { origin: Origin::Builtin, overrides_builtin: false, workflow, card };
            catalogue.entries.insert(embedded.operation.into(), entry);
        }
        for FolderFile { path, content } in &files {
            if has_extension(path, "toml") {
                catalogue.add(whose, path, content.as_deref());
            }
        }
        for FolderFile { path, content } in &files {
            if has_extension(path, "json") {
                catalogue.describe(path, content.as_deref());
            }
        }
        catalogue
    }

    /// The agent's own workflows alone.
    pub fn builtin() -> Self {
        Self::of(Whose::Device, Vec::new())
    }

    pub fn get(&self, operation: &str) -> Option<&Entry> {
        self.entries.get(operation)
    }

    /// Whose workflow runs an operation's commands, if there is one.
    pub fn owner_of(&self, operation: &str) -> Option<Owner> {
        self.get(operation).map(|entry| if entry.is_file() { Owner::Device } else { Owner::Agent })
    }

    /// All operations, in the order of their names.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.entries.iter()
    }

    /// Those whose commands fail, because their file is invalid (D10).
    pub fn invalid(&self) -> impl Iterator<Item = &InvalidDefinition> {
        self.entries.values().filter_map(|entry| match &entry.workflow {
            Workflow::Invalid(invalid) => Some(invalid),
            Workflow::Valid { .. } => None,
        })
    }

    fn add(&mut self, whose: Whose, path: &Path, content: Result<&[u8], &String>) {
        let bytes = match content {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable(path, error),
        };
        let (operation, workflow) = read(whose, &path.to_string_lossy(), bytes);
        let operation = match (operation, &workflow) {
            (Some(operation), _) => operation,
            (None, Workflow::Invalid(invalid)) => {
                self.rejected.push(Rejected::Nameless(invalid.clone()));
                return;
            }
            (None, Workflow::Valid { definition, .. }) => definition.operation.clone(),
        };
        let mut path = path.to_owned();
        let before = self.entries.get_mut(&operation);
        let overrides_builtin = before.as_ref().is_some_and(|entry| entry.is_builtin());
        if let Some(Entry { origin: Origin::File(kept), workflow: kept_workflow, .. }) = before {
            if workflow.is_valid() && !kept_workflow.is_valid() {
                *kept_workflow = workflow;
                std::mem::swap(kept, &mut path);
            }
            let kept = kept.clone();
            self.rejected.push(Rejected::Duplicate { path, operation, kept });
            return;
        }
        let card = card::default_of(&operation);
        let entry = Entry { origin: Origin::File(path), overrides_builtin, workflow, card };
        self.entries.insert(operation, entry);
    }

    /// Takes a card; a JSON file that is named like no operation is none.
    fn describe(&mut self, path: &Path, content: Result<&[u8], &String>) {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(entry) = self.entries.get_mut(name) else { return };
        let bytes = match content {
            Ok(bytes) => bytes,
            Err(error) => return self.unreadable(path, error),
        };
        match card::parse(name, &path.to_string_lossy(), bytes) {
            Ok(card) => entry.card = card,
            Err(invalid) => self.rejected.push(Rejected::Card(invalid)),
        }
    }

    fn unreadable(&mut self, path: &Path, error: &str) {
        let (path, error) = (path.to_owned(), error.to_owned());
        self.rejected.push(Rejected::Unreadable { path, error });
    }
}

impl Entry {
    /// A file of the device's owner says what is done.
    pub const fn is_file(&self) -> bool {
        matches!(self.origin, Origin::File(_))
    }

    pub const fn is_builtin(&self) -> bool {
        self.overrides_builtin || matches!(self.origin, Origin::Builtin)
    }

    /// The workflow that its commands run; of an invalid file one that fails each with the file's problems (D10).
    pub fn definition(&self) -> Arc<Definition> {
        match &self.workflow {
            Workflow::Valid { definition, .. } => definition.clone(),
            Workflow::Invalid(invalid) => {
                Arc::new(Definition::ill_formed(&self.card.name, &invalid.reason()))
            }
        }
    }
}

impl Workflow {
    pub const fn is_valid(&self) -> bool {
        matches!(self, Self::Valid { .. })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("built in"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden && path.extension().is_some_and(|found| found == extension)
}

/// Counts how deep brackets stand open at most: a reader that goes on after an error goes one
/// level deeper for each that is never closed. Those in texts and comments count for nothing,
/// by the reader's own idea of where these end.
fn nesting(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for token in toml_parser::Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => open += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                open = open.saturating_sub(1);
            }
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Reads the bytes of a workflow file, and tells for which operation it is.
pub fn read(whose: Whose, file: &str, bytes: &[u8]) -> (Option<Arc<str>>, Workflow) {
    let invalid = |operation: Option<String>, problem: Problem| {
        let name = operation.as_deref().map(Arc::from);
        let file = file.to_owned();
        (name, Workflow::Invalid(InvalidDefinition { file, operation, problems: vec![problem] }))
    };
    if bytes.len() > WORKFLOW_MAX_BYTES {
        let text = format!("expected at most {} KiB", WORKFLOW_MAX_BYTES / 1024);
        return invalid(None, Problem { line: 0, column: 0, key: String::new(), text });
    }
    if nesting(&String::from_utf8_lossy(bytes)) > NESTING_MAX_LEVELS {
        let text = format!("nests deeper than {NESTING_MAX_LEVELS} levels of brackets");
        return invalid(None, Problem { line: 0, column: 0, key: String::new(), text });
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let last_line = good.rsplit('\n').next().unwrap_or_default();
            let problem = Problem {
                line: good.matches('\n').count() + 1,
                column: last_line.chars().count() + 1,
                key: String::new(),
                text: "this is no UTF-8 text".to_owned(),
            };
            // The name may stand in the good part.
            let operation = match Definition::parse(file, &String::from_utf8_lossy(bytes)) {
                Ok(definition) => Some(definition.operation.to_string()),
                Err(invalid) => invalid.operation,
            };
            return invalid(operation, problem);
        }
    };
    match Definition::parse(file, text) {
        Ok(definition) => {
            let name = definition.operation.clone();
            if let Some(invalid) = unfit_for(whose, file, &definition) {
                return (Some(name), Workflow::Invalid(invalid));
            }
            let definition = Arc::new(definition);
            (Some(name), Workflow::Valid { definition, text: text.into() })
        }
        Err(invalid) => (invalid.operation.as_deref().map(Arc::from), Workflow::Invalid(invalid)),
    }
}

/// Says which states of a workflow the agent cannot do for whom it is meant.
fn unfit_for(whose: Whose, file: &str, definition: &Definition) -> Option<InvalidDefinition> {
    if whose == Whose::Device {
        return None;
    }
    let is_own = |action: &Action| match action {
        Action::BuiltinOperation { .. } => true,
        Action::Builtin { call, .. } => matches!(call, BuiltinCall::Own | BuiltinCall::Step { .. }),
        _ => false,
    };
    let states = definition.states().iter().filter(|state| is_own(&state.action));
    let problems: Vec<_> = states
        .map(|state| {
            let text = "what is built in acts on the device that the agent runs on, \
                        not on a child: expected a script, or an operation of the child's own";
            Problem::new(state.line, &state.name, text)
        })
        .collect();
    let operation = Some(definition.operation.to_string());
    (!problems.is_empty()).then(|| InvalidDefinition { file: file.to_owned(), operation, problems })
}
