//! The machine that every command of the server goes through.
//!
//! ```text
//!              Start                       Ended(Ok)
//!   init ────────────────▶ running ──────────────────▶ successful
//!    │                      │ ▲  │ StateEntered, GoesDown, AgentStarted: it goes on
//!    │ Cancel, Due          │ └──┘
//!    │                      │ Ended(Err)
//!    ▼                      ▼
//!  failed ◀─────────────── failed ◀── Ended, Due ── ending{why} ◀── Cancel, Due ── running
//! ```
//!
//! What is done while it runs is its workflow's matter ([`crate::workflow`]): that
//! names the states, runs their steps, and goes on with the next run of the agent,
//! so this machine waits. It holds what is the server's matter: expiry, time-out,
//! cancellation, and what the server is told. A state that takes the host or the
//! agent down is left only by coming back: while it lasts nothing is cancelled and
//! the time-out rests.
//!
//! The caller saves [`Step::next`] and the replies among the effects before it
//! runs any effect; a step that could not be saved is not taken. This file knows no
//! clock, no task and no file.

use std::borrow::Cow;

use quarterdeck_protocol::{command::error_code, limits::ERROR_MESSAGE_MAX_BYTES, text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Moment;

/// The state of a workflow that has not begun.
const INIT: &str = "init";

/// What does not change while a command runs, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// From its start.
    pub timeout_ms: i64,
    /// For what was told to end; after this the command ends without it.
    pub ending_ms: i64,
}

/// Where a command is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Accepted; may start until `expires_at`.
    Init {
        expires_at: Moment,
    },
    Running(Running),
    /// What it runs was told to end; after `give_up_at` the command ends without it.
    Ending {
        state: String,
        why: Why,
        give_up_at: Moment,
    },
    Successful(Outcome),
    Failed(Failure, Outcome),
}

/// A command whose workflow runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The boot of the host whose clock `timeout_at` is on.
    pub boot_id: String,
    pub timeout_at: Moment,
    /// The workflow's state, as far as the server was told.
    pub state: String,
    /// This state takes the host or the agent down.
    pub goes_down: bool,
}

/// Why a command is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Cancelled,
    Timeout,
}

/// What a command brought: all of it may be absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Capped, with a marker where it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
}

impl Outcome {
    pub fn result(result: Value) -> Self {
        Self { result: Some(result), ..Self::default() }
    }
}

/// Why a command failed: a code of `protocol::command::error_code` and a text for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: Cow<'static, str>,
    pub message: String,
}

impl Failure {
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let message = message.into();
        let message = text::truncate_bytes(&message, ERROR_MESSAGE_MAX_BYTES).to_owned();
        Self { code: code.into(), message }
    }
}

impl Why {
    /// What a command says that was ended because of this.
    pub fn failure(self) -> Failure {
        match self {
            Self::Cancelled => Failure::new(error_code::CANCELLED, "cancelled while it ran"),
            Self::Timeout => Failure::new(error_code::TIMEOUT, "ran longer than its time-out"),
        }
    }
}

/// What happens to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A place is free for it.
    Start {
        boot_id: String,
    },
    /// Its workflow is in this state, how far that is, in percent, if the workflow says it.
    StateEntered {
        state: String,
        progress: Option<u8>,
    },
    /// A step is about to take the host or the agent down.
    GoesDown,
    /// Its workflow has ended.
    Ended(Result<Outcome, (Failure, Outcome)>),
    Cancel,
    /// [`State::due_at`] has come.
    Due,
    /// The agent has started and found the command in its journal.
    AgentStarted {
        boot_id: String,
    },
}

/// What the caller does once the step is saved.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Reply(Reply),
    /// Begin its workflow, or find it again where it is.
    Follow,
    /// End its workflow and all that it runs; [`Event::Ended`] comes when that is gone.
    End(Why),
}

/// What the server is told; saved with the step and kept until it is acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It is in its first state after `init`.
    Started {
        state: String,
    },
    Entered {
        state: String,
        progress: Option<u8>,
    },
    Completed(Outcome),
    Failed(Failure, Outcome),
}

/// The state after an event, and what to do then.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub next: State,
    pub effects: Vec<Effect>,
}

/// Says why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the command has ended")]
    Ended,
    #[error("the command is already being ended")]
    Ending,
    #[error("it is too late: the host or the agent is going down")]
    TooLate,
    #[error("nothing is due yet")]
    NotDue,
    #[error("this does not happen in this state")]
    OutOfPlace,
}

impl State {
    /// The workflow state's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Init { .. } => INIT,
            Self::Running(Running { state, .. }) | Self::Ending { state, .. } => state,
            Self::Successful(_) => "successful",
            Self::Failed(..) => "failed",
        }
    }

    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Successful(_) | Self::Failed(..))
    }

    /// When [`Event::Due`] is to be given, if nothing comes before it.
    pub const fn due_at(&self) -> Option<Moment> {
        match self {
            Self::Init { expires_at } => Some(*expires_at),
            // What goes down knows by itself how long it waits for the return.
            Self::Running(Running { goes_down: false, timeout_at, .. }) => Some(*timeout_at),
            Self::Ending { give_up_at, .. } => Some(*give_up_at),
            Self::Running(_) | Self::Successful(_) | Self::Failed(..) => None,
        }
    }
}

/// Decides what an event does to a command.
pub fn step(plan: Plan, state: &State, event: Event, now: Moment) -> Result<Step, Refused> {
    match state {
        State::Successful(_) | State::Failed(..) => Err(Refused::Ended),
        State::Init { expires_at } => from_init(plan, *expires_at, event, now),
        State::Running(running) => from_running(plan, running, event, now),
        State::Ending { why, give_up_at, .. } => from_ending(*why, *give_up_at, event, now),
    }
}

fn from_init(plan: Plan, expires_at: Moment, event: Event, now: Moment) -> Result<Step, Refused> {
    match event {
        Event::Start { .. } | Event::Due if now >= expires_at => {
            Ok(failed(error_code::EXPIRED, "it waited on the device until after its expiry"))
        }
        Event::Start { boot_id } => {
            let timeout_at = now.plus_millis(plan.timeout_ms);
            let (state, goes_down) = (INIT.to_owned(), false);
            let next = State::Running(Running { boot_id, timeout_at, state, goes_down });
            Ok(Step { next, effects: vec![Effect::Follow] })
        }
        Event::Due => Err(Refused::NotDue),
        Event::Cancel => Ok(failed(error_code::CANCELLED, "cancelled before it started")),
        // What the journal holds and this agent cannot read ends so.
        Event::Ended(Err((failure, outcome))) => Ok(failed_with(failure, outcome)),
        Event::AgentStarted { .. } => {
            Ok(Step { next: State::Init { expires_at }, effects: Vec::new() })
        }
        Event::Ended(Ok(_)) | Event::StateEntered { .. } | Event::GoesDown => {
            Err(Refused::OutOfPlace)
        }
    }
}

fn from_running(plan: Plan, running: &Running, event: Event, now: Moment) -> Result<Step, Refused> {
    let stay = |running, effects| Ok(Step { next: State::Running(running), effects });
    match event {
        // Told again after a restart of the agent.
        Event::StateEntered { state, .. } if state == running.state => {
            stay(running.clone(), Vec::new())
        }
        Event::StateEntered { state, progress } => {
            let next = Running { state: state.clone(), goes_down: false, ..running.clone() };
            let reply = if running.state == INIT {
                Reply::Started { state }
            } else {
                Reply::Entered { state, progress }
            };
            stay(next, vec![Effect::Reply(reply)])
        }
        Event::GoesDown => stay(Running { goes_down: true, ..running.clone() }, Vec::new()),
        Event::Ended(Ok(outcome)) => Ok(successful(outcome)),
        Event::Ended(Err((failure, outcome))) => Ok(failed_with(failure, outcome)),
        Event::Cancel if running.goes_down => Err(Refused::TooLate),
        Event::Cancel => Ok(end(plan, running, Why::Cancelled, now)),
        Event::Due if running.goes_down || now < running.timeout_at => Err(Refused::NotDue),
        Event::Due => Ok(end(plan, running, Why::Timeout, now)),
        Event::AgentStarted { boot_id } => {
            // The clock of another boot began anew: its time-out does too.
            let is_same_boot = boot_id == running.boot_id;
            let anew = now.plus_millis(plan.timeout_ms);
            let timeout_at = if is_same_boot { running.timeout_at } else { anew };
            stay(Running { boot_id, timeout_at, ..running.clone() }, vec![Effect::Follow])
        }
        Event::Start { .. } => Err(Refused::OutOfPlace),
    }
}

fn from_ending(why: Why, give_up_at: Moment, event: Event, now: Moment) -> Result<Step, Refused> {
    match event {
        Event::Ended(Ok(outcome) | Err((_, outcome))) => Ok(failed_with(why.failure(), outcome)),
        Event::Due if now < give_up_at => Err(Refused::NotDue),
        Event::Due => Ok(failed_with(why.failure(), Outcome::default())),
        Event::Cancel => Err(Refused::Ending),
        Event::Start { .. }
        | Event::StateEntered { .. }
        | Event::GoesDown
        | Event::AgentStarted { .. } => Err(Refused::OutOfPlace),
    }
}

fn end(plan: Plan, running: &Running, why: Why, now: Moment) -> Step {
    let (state, give_up_at) = (running.state.clone(), now.plus_millis(plan.ending_ms));
    Step { next: State::Ending { state, why, give_up_at }, effects: vec![Effect::End(why)] }
}

fn successful(outcome: Outcome) -> Step {
    Step {
        effects: vec![Effect::Reply(Reply::Completed(outcome.clone()))],
        next: State::Successful(outcome),
    }
}

fn failed(code: &'static str, message: &str) -> Step {
    failed_with(Failure::new(code, message), Outcome::default())
}

fn failed_with(failure: Failure, outcome: Outcome) -> Step {
    Step {
        effects: vec![Effect::Reply(Reply::Failed(failure.clone(), outcome.clone()))],
        next: State::Failed(failure, outcome),
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
