//! Where the end of a script leads (source 003; rules E, K, L1, O, T3, T8, U7, U8).
//!
//! | end | next state | reason | its output |
//! | --- | --- | --- | --- |
//! | exit 0, `on_success` | the handler's | the output's, else the handler's | merged |
//! | exit 0, `on_stdout` | the output's, if listed; else `on_error` | the output's, else the handler's, else one | merged |
//! | exit 0, neither | the output's, else `failed` | the same | merged |
//! | a code with a handler | the handler's | the output's, else the handler's, else one | merged |
//! | another code | `on_error` | the handler's, else one | ignored |
//! | killed | `on_kill` | the handler's, else one | ignored |
//! | timed out, however it then ended | `on_timeout` | the handler's, else `timeout` | ignored |
//! | not launched | `on_error` | the handler's, else one | ignored |

use serde_json::Value;

use super::{
    definition::{FAILED, OnZero, ScriptHandlers, StateName, TIMEOUT, Target},
    excerpt::Output,
    message::{Payload, REASON, STATUS},
};

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptEnd {
    Exited(u8),
    /// By this signal.
    Killed(i32),
    /// With what the system said.
    NotLaunched(String),
    /// Ended by us, whatever it did on our signal (T8).
    TimedOut,
}

/// What becomes of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub status: StateName,
    /// Set unless the fields bring one.
    pub reason: Option<Value>,
    /// Merged into the payload, at top level only (O3).
    pub fields: Payload,
    /// For the log.
    pub log: Option<String>,
}

impl Outcome {
    pub fn to(target: &Target) -> Self {
        Self {
            status: target.status.clone(),
            reason: target.reason.as_deref().map(Value::from),
            fields: Payload::new(),
            log: None,
        }
    }

    /// Leads to `target`; `reason` is what is said where it says none.
    pub fn to_or(target: &Target, reason: impl Into<String>) -> Self {
        let mut outcome = Self::to(target);
        outcome.reason.get_or_insert_with(|| Value::String(reason.into()));
        outcome
    }

    pub fn failed(reason: impl Into<String>) -> Self {
        Self {
            status: FAILED.into(),
            reason: Some(Value::String(reason.into())),
            fields: Payload::new(),
            log: None,
        }
    }

    /// Merges what a script or a builtin gave: its reason trumps, its status does not count (O4).
    #[must_use]
    pub fn merging(mut self, mut fields: Payload) -> Self {
        fields.remove(STATUS);
        if fields.contains_key(REASON) {
            self.reason = None;
        }
        self.fields = fields;
        self
    }

    #[must_use]
    fn logging(mut self, log: String) -> Self {
        self.log = Some(log);
        self
    }
}

/// Decides where the end of a script leads; `program` names it where a reason needs its name.
pub fn of_script(
    handlers: &ScriptHandlers,
    program: impl Fn() -> String,
    end: &ScriptEnd,
    output: Output,
) -> Outcome {
    match end {
        ScriptEnd::Exited(0) => of_success(handlers, program, output),
        ScriptEnd::Exited(code) => {
            let exits = &handlers.on_exit;
            let handler = exits.iter().find(|exit| (exit.from..=exit.to).contains(code));
            match handler {
                Some(exit) => {
                    Outcome::to_or(&exit.target, exited(&program(), *code)).merging(object(output))
                }
                None => Outcome::to_or(&handlers.on_error, unexpected(&program(), *code, output)),
            }
        }
        ScriptEnd::Killed(signal) => {
            let reason = format!("{} killed by signal {signal}", program());
            Outcome::to_or(&handlers.on_kill, reason)
        }
        ScriptEnd::NotLaunched(error) => {
            let reason = format!("Failed to launch {}: {error}", program());
            Outcome::to_or(&handlers.on_error, reason)
        }
        ScriptEnd::TimedOut => Outcome::to_or(&handlers.on_timeout, TIMEOUT),
    }
}

fn of_success(handlers: &ScriptHandlers, program: impl Fn() -> String, output: Output) -> Outcome {
    let states = match &handlers.on_zero {
        OnZero::To(target) => return Outcome::to(target).merging(object(output)),
        OnZero::OneOf(states) => Some(states),
        OnZero::AsPrinted => None,
    };
    let problem = match &output {
        Output::Absent => "printed no block between the :::tedge::: markers".to_owned(),
        Output::NotJson(error) => format!("printed a block that is no JSON: {error}"),
        Output::NotAnObject => "printed a block that is no JSON object".to_owned(),
        Output::Object(fields) => match fields.get(STATUS).and_then(Value::as_str) {
            None | Some("") => "printed no status".to_owned(),
            Some(status) if states.is_none_or(|states| states.iter().any(|s| **s == *status)) => {
                let target = Target::to(status);
                return Outcome::to(&target).merging(object(output));
            }
            Some(status) => format!("printed the status {status:?}, which on_stdout does not list"),
        },
    };
    let problem = format!("{} {problem}", program());
    let outcome = match states {
        Some(_) => Outcome::to_or(&handlers.on_error, &problem),
        None => Outcome::failed(&problem),
    };
    outcome.merging(object(output)).logging(problem)
}

/// Takes the fields that an input script makes for its sub-operation.
pub fn of_input_script(program: &str, end: &ScriptEnd, output: Output) -> Result<Payload, String> {
    let problem = match end {
        ScriptEnd::Exited(0) => match output {
            Output::Object(fields) => return Ok(fields),
            Output::NotAnObject => return Ok(Payload::new()),
            Output::Absent => "printed no block between the :::tedge::: markers".to_owned(),
            Output::NotJson(error) => format!("printed a block that is no JSON: {error}"),
        },
        ScriptEnd::Exited(code) => format!("exited with {code}"),
        ScriptEnd::Killed(signal) => format!("killed by signal {signal}"),
        ScriptEnd::NotLaunched(error) => {
            return Err(format!("Failed to launch {program}: {error}"));
        }
        ScriptEnd::TimedOut => "timeout".to_owned(),
    };
    Err(format!("input_script {program} {problem}"))
}

fn object(output: Output) -> Payload {
    match output {
        Output::Object(fields) => fields,
        Output::Absent | Output::NotJson(_) | Output::NotAnObject => Payload::new(),
    }
}

fn exited(program: &str, code: u8) -> String {
    format!("{program} exited with {code}")
}

/// Names program and code, and what the script itself said of it.
fn unexpected(program: &str, code: u8, output: Output) -> String {
    let exited = exited(program, code);
    match object(output).get(REASON).and_then(Value::as_str) {
        Some(reason) => format!("{exited}: {reason}"),
        None => exited,
    }
}
