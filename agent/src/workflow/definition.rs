//! What a workflow file says, checked and typed (source 003; rules D, E, T, U, A, I).
//!
//! ```text
//! text ──▶ TOML tree with places ──▶ Definition, and notes about what is odd in it
//!                              └──▶ InvalidDefinition: file, line, key, what was expected
//! ```
//!
//! Everything that can be known when the file is read is settled here: command
//! lines are split, expressions parsed, defaults of the workflow folded into
//! its states. So the engine never looks at TOML and never meets an invalid
//! handler. This module reads no file.

mod handlers;
mod leads;
mod problem;
mod reader;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

pub use leads::Lead;
pub use problem::{InvalidDefinition, Problem};

use super::{
    mapping::Fields,
    substitution::{CommandLine, Path, Template},
};
use reader::Reader;

pub const INIT: &str = "init";
pub const SUCCESSFUL: &str = "successful";
pub const FAILED: &str = "failed";
/// The reason of a time-out that has no other (T3, T5).
pub const TIMEOUT: &str = "timeout";

/// The states of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub operation: Arc<str>,
    /// SHA-256 of the text it was read from, in hex: which version a command runs (V1).
    pub version: String,
    /// In the order of the file; `successful` and `failed` always among them.
    states: Vec<State>,
    index: HashMap<StateName, usize>,
    /// What is odd and harms nothing: keys that are ignored, states that nothing leads to.
    pub notes: Vec<Problem>,
}

pub type StateName = Arc<str>;

/// One state, and what is done in it.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub name: StateName,
    /// In the file, from 1; 0 for a state that the file leaves out.
    pub line: usize,
    pub action: Action,
    /// How far a command in this state is, in percent, if the file says it.
    pub progress: Option<u8>,
}

/// What is done in a state, and where it leads.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing: a place for extensions.
    Proceed {
        next: Target,
    },
    Script {
        line: CommandLine,
        handlers: ScriptHandlers,
        /// Run again when the agent stopped while it ran (R4); else that is an error.
        is_repeatable: bool,
    },
    /// The next state is durable before the script starts; nobody awaits its end.
    BackgroundScript {
        line: CommandLine,
        next: Target,
    },
    /// Starts a command of another workflow.
    Operation {
        name: Template,
        input_script: Option<InputScript>,
        input: Fields,
        next: Target,
    },
    /// `operation = "builtin:…"`: starts the agent's own handler of this operation.
    BuiltinOperation {
        input: Fields,
        next: Target,
        is_repeatable: bool,
    },
    AwaitOperation {
        output: Fields,
        handlers: AwaitHandlers,
    },
    AwaitAgentRestart {
        handlers: AwaitHandlers,
    },
    /// Hands over to code of the agent and awaits its end.
    Builtin {
        call: BuiltinCall,
        input: Fields,
        handlers: AwaitHandlers,
        /// Done again when the agent stopped meanwhile (chapter 3).
        is_repeatable: bool,
    },
    RestartAgent {
        next: Target,
    },
    Iterate {
        over: Path,
        source: Arc<str>,
        next: Target,
        on_success: Target,
        on_error: Target,
    },
    /// The end; the requester clears the command.
    Cleanup,
}

/// Which code of the agent a builtin action names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuiltinCall {
    /// `builtin`: the handler of the workflow's own operation.
    Own,
    /// `builtin:<operation>:<step>`.
    Step {
        operation: Arc<str>,
        step: Arc<str>,
    },
    Download,
    Upload,
}

/// A script that makes the first state of a sub-operation.
#[derive(Debug, Clone, PartialEq)]
pub struct InputScript {
    pub line: CommandLine,
    pub timeout_ms: Option<i64>,
}

/// The next state, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub status: StateName,
    pub reason: Option<Arc<str>>,
}

impl Target {
    pub fn to(status: &str) -> Self {
        Self { status: status.into(), reason: None }
    }

    pub fn with_reason(status: &str, reason: &str) -> Self {
        Self { status: status.into(), reason: Some(reason.into()) }
    }
}

/// Where the end of a script leads (E, K, O, T).
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptHandlers {
    pub on_zero: OnZero,
    /// Ranges of codes, rising, without overlap.
    pub on_exit: Vec<ExitHandler>,
    /// Of the state, else of the workflow, else `failed`.
    pub on_error: Target,
    pub on_kill: Target,
    /// The state's `on_timeout`, else its `on_kill`, else the workflow's `on_timeout`, else `failed` (T3).
    pub on_timeout: Target,
    pub timeout_ms: Option<i64>,
}

/// Where exit code 0 leads.
#[derive(Debug, Clone, PartialEq)]
pub enum OnZero {
    /// `on_success`, `on_exit.0`, or a range from 0.
    To(Target),
    /// `on_stdout`: to the state that the output names, if it is one of these.
    OneOf(Vec<StateName>),
    /// Neither: to whatever state the output names (O8).
    AsPrinted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitHandler {
    pub from: u8,
    pub to: u8,
    pub target: Target,
}

/// Where the end of something awaited leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitHandlers {
    pub on_success: Target,
    pub on_error: Target,
    pub on_timeout: Target,
    pub timeout_ms: Option<i64>,
}

impl Definition {
    /// Reads a workflow file.
    ///
    /// # Errors
    ///
    /// All problems of the file at once, each with its line and key; and the
    /// operation's name where it can be read, so that its commands can be
    /// failed with that text (D10).
    pub fn parse(file: &str, text: &str) -> Result<Self, InvalidDefinition> {
        let mut reader = Reader::new(text);
        let shape = state::read_file(text, &mut reader);
        let (problems, mut notes) = reader.finish();
        if !problems.is_empty() {
            return Err(InvalidDefinition {
                file: file.to_owned(),
                operation: shape.operation,
                problems,
            });
        }
        let mut definition = Self::new(
            &shape.operation.unwrap_or_default(),
            format!("{:x}", Sha256::digest(text)),
            shape.states,
        );
        notes.extend(definition.oddities());
        notes.sort_by_key(|note| (note.line, note.column));
        definition.notes = notes;
        Ok(definition)
    }

    /// Makes the workflow of an operation whose file is invalid: it fails each command and says why (D10).
    pub fn ill_formed(operation: &str, reason: &str) -> Self {
        let proceed = |name: &str, next| State {
            name: name.into(),
            line: 0,
            action: Action::Proceed { next },
            progress: None,
        };
        let states = vec![
            proceed(INIT, Target::to("executing")),
            proceed("executing", Target::with_reason(FAILED, reason)),
        ];
        Self::new(operation, format!("{:x}", Sha256::digest(reason)), states)
    }

    fn new(operation: &str, version: String, mut states: Vec<State>) -> Self {
        for name in [SUCCESSFUL, FAILED] {
            if states.iter().all(|state| &*state.name != name) {
                let (action, progress) = (Action::Cleanup, None);
                states.push(State { name: name.into(), line: 0, action, progress });
            }
        }
        let index = states.iter().enumerate().map(|(at, state)| (state.name.clone(), at)).collect();
        Self { operation: operation.into(), version, states, index, notes: Vec::new() }
    }

    pub fn states(&self) -> &[State] {
        &self.states
    }

    pub fn state(&self, name: &str) -> Option<&State> {
        self.index.get(name).and_then(|at| self.states.get(*at))
    }

    /// Says what is to be done in a state; nothing where it is left to somebody else (F4).
    pub fn action(&self, status: &str) -> Option<&Action> {
        self.state(status).map(|state| &state.action)
    }

    /// Lists the states that a command can reach, in the order in which it may, and among them names that have no section.
    pub fn reachable(&self) -> Vec<&str> {
        let mut found = vec![INIT];
        let mut seen = HashSet::from([INIT]);
        let mut at = 0;
        while let Some(name) = found.get(at) {
            let leads = self.action(name).map(Action::leads).unwrap_or_default();
            found.extend(
                leads.into_iter().filter_map(|lead| lead.status).filter(|s| seen.insert(s)),
            );
            at += 1;
        }
        found
    }

    fn oddities(&self) -> Vec<Problem> {
        let reachable: HashSet<_> = self.reachable().into_iter().collect();
        let all_leads = || self.states.iter().flat_map(|state| state.action.leads());
        let is_open = all_leads().any(|lead| lead.status.is_none());
        let mut notes = Vec::new();
        for state in self.states.iter().filter(|state| state.line > 0) {
            let is_standard = matches!(&*state.name, SUCCESSFUL | FAILED);
            if !is_standard && !is_open && !reachable.contains(&*state.name) {
                notes.push(Problem::new(state.line, &state.name, "no state leads here"));
            }
            let mut told = HashSet::new();
            for target in state.action.leads().into_iter().filter_map(|lead| lead.status) {
                if self.state(target).is_none() && told.insert(target) {
                    let text = format!(
                        "leads to {target:?}, which has no section: \
                         the command then waits for another participant"
                    );
                    notes.push(Problem::new(state.line, &state.name, text));
                }
            }
        }
        notes
    }
}
