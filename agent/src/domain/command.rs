//! The machine that every command on this device goes through.
//!
//! ```text
//!                Start                 WorkDone, last stage
//!   init ───────────────▶ stage 0 ─▶ … ─▶ stage n ─────────────▶ successful
//!    │                      │   Until::NewBoot, NewRun: AgentStarted elsewhere ▶ successful
//!    │ Cancel, Due          │
//!    │                      │ WorkFailed, AgentStarted (end unknown), Due of a wait
//!    ▼                      ▼
//!  failed ◀────────────── failed ◀── WorkDone, WorkFailed, Due ── ending{why}
//!                                                                   ▲
//!                          stage i ── Cancel, Due, Stopping ────────┘
//! ```
//!
//! `init`, the names of the stages, `successful` and `failed` are the command's
//! workflow states; which stages there are is the [`Plan`]'s. A stage with work
//! is left by the work's end; one that takes the host or the agent down is left
//! only by coming back. A workflow of the device's owner is one stage, whose work
//! follows the workflow: it says by itself which states it enters, and goes on
//! with the next run of the agent.
//!
//! The caller saves [`Step::next`] and the replies among the effects before it
//! runs any effect; a step that could not be saved is answered with
//! [`Event::SaveFailed`]. This file knows no clock, no task and no file.

use std::borrow::Cow;

use quarterdeck_protocol::{command::error_code, limits::ERROR_MESSAGE_MAX_BYTES, text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Lifetime, Moment,
    operation::{Stage, Until},
};

/// What does not change while a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// At least one.
    pub stages: &'static [Stage],
    /// From the start of the first stage.
    pub timeout_ms: i64,
    pub waits: Waits,
}

/// How long the machine waits for what it cannot hasten, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// For the broker to acknowledge `execution_started`, before the host goes down.
    pub announce_ms: i64,
    /// For the host or the agent to come back.
    pub return_ms: i64,
    /// For work that was told to end; after this the command ends without it.
    pub ending_ms: i64,
}

/// Where a command is.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Accepted; may start until `expires_at`.
    Init {
        expires_at: Moment,
    },
    /// In stage `index`, entered in the life `since`.
    Working {
        index: usize,
        since: Lifetime,
        timeout_at: Moment,
        phase: Phase,
    },
    /// Its work was told to end; after `give_up_at` the command ends without it.
    Ending {
        index: usize,
        why: Why,
        give_up_at: Moment,
    },
    Successful(Outcome),
    Failed(Failure, Outcome),
}

/// What a stage is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Its work runs; `return_by` is kept for a stage that then waits.
    Work { return_by: Moment },
    /// Nothing runs; it waits until something happens, at most until `due_at`.
    Waiting { due_at: Moment },
}

/// Why running work is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Cancelled,
    Timeout,
    /// The agent itself stops.
    AgentStops,
}

/// What work brought: all of it may be absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub result: Option<Value>,
    pub exit_code: Option<i32>,
    /// Capped, with a marker where it was cut.
    pub stdout: Option<String>,
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
    pub code: &'static str,
    pub message: String,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        let message = text::truncate_bytes(&message, ERROR_MESSAGE_MAX_BYTES).to_owned();
        Self { code, message }
    }
}

/// What happens to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A place is free for it.
    Start {
        here: Lifetime,
    },
    /// The broker has its `execution_started`.
    Acknowledged,
    /// A workflow has entered a state; the first one says that it has started.
    StateEntered {
        state: String,
        is_first: bool,
    },
    WorkDone(Outcome),
    WorkFailed(Failure, Outcome),
    Cancel,
    /// [`State::due_at`] has come.
    Due,
    /// The agent has started and found the command in its journal.
    AgentStarted {
        here: Lifetime,
    },
    /// The agent is about to stop.
    Stopping,
    /// The last step could not be saved, so none of its effects were run.
    SaveFailed,
}

/// What the caller does once the step is saved.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Reply(Reply),
    /// Start the work of stage `index`.
    RunWork {
        index: usize,
    },
    /// End the work that runs: its end comes as `WorkDone` or `WorkFailed`.
    EndWork,
}

/// What the server is told; saved with the step and kept until it is acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Started {
        state: Cow<'static, str>,
    },
    /// How far it is, in percent, where that is known.
    Entered {
        state: Cow<'static, str>,
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
    pub fn name(&self, plan: &Plan) -> &'static str {
        match self {
            Self::Init { .. } => "init",
            Self::Working { index, .. } | Self::Ending { index, .. } => plan.stages[*index].name,
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
            Self::Working { timeout_at, phase: Phase::Work { .. }, .. } => Some(*timeout_at),
            Self::Working { phase: Phase::Waiting { due_at }, .. } => Some(*due_at),
            Self::Ending { give_up_at, .. } => Some(*give_up_at),
            Self::Successful(_) | Self::Failed(..) => None,
        }
    }
}

/// Decides what an event does to a command.
pub fn step(plan: &Plan, state: &State, event: Event, now: Moment) -> Result<Step, Refused> {
    match state {
        State::Successful(_) | State::Failed(..) => Err(Refused::Ended),
        State::Init { expires_at } => from_init(plan, *expires_at, event, now),
        State::Working { index, since, timeout_at, phase } => {
            from_working(plan, *index, since, *timeout_at, phase, event, now)
        }
        State::Ending { why, give_up_at, .. } => from_ending(*why, *give_up_at, event, now),
    }
}

fn from_init(plan: &Plan, expires_at: Moment, event: Event, now: Moment) -> Result<Step, Refused> {
    match event {
        Event::Start { .. } | Event::Due if now >= expires_at => {
            Ok(failed(error_code::EXPIRED, "it waited on the device until after its expiry"))
        }
        Event::Start { here } => Ok(enter(plan, 0, here, now.plus_millis(plan.timeout_ms), now)),
        Event::Due => Err(Refused::NotDue),
        Event::Cancel => Ok(failed(error_code::CANCELLED, "cancelled before it started")),
        // What could not be saved when it started may start later.
        Event::AgentStarted { .. } | Event::Stopping | Event::SaveFailed => {
            Ok(Step { next: State::Init { expires_at }, effects: Vec::new() })
        }
        Event::Acknowledged
        | Event::StateEntered { .. }
        | Event::WorkDone(_)
        | Event::WorkFailed(..) => Err(Refused::OutOfPlace),
    }
}

fn from_working(
    plan: &Plan,
    index: usize,
    since: &Lifetime,
    timeout_at: Moment,
    phase: &Phase,
    event: Event,
    now: Moment,
) -> Result<Step, Refused> {
    let until = plan.stages[index].until;
    let goes_down = matches!(until, Until::NewBoot | Until::NewRun);
    let stay = |phase| Step {
        next: State::Working { index, since: since.clone(), timeout_at, phase },
        effects: Vec::new(),
    };
    let advance = |outcome| match plan.stages.get(index + 1) {
        Some(_) => enter(plan, index + 1, since.clone(), timeout_at, now),
        None => successful(outcome),
    };
    match event {
        Event::WorkDone(outcome) => match phase {
            Phase::Work { return_by } if goes_down => {
                Ok(stay(Phase::Waiting { due_at: *return_by }))
            }
            Phase::Work { .. } => Ok(advance(outcome)),
            Phase::Waiting { .. } => Err(Refused::OutOfPlace),
        },
        Event::WorkFailed(failure, outcome) => match phase {
            Phase::Work { .. } => Ok(failed_with(failure, outcome)),
            Phase::Waiting { .. } => Err(Refused::OutOfPlace),
        },
        Event::Acknowledged if until == Until::Acknowledged => Ok(advance(Outcome::default())),
        Event::Due => match phase {
            Phase::Work { .. } if now < timeout_at => Err(Refused::NotDue),
            Phase::Work { .. } => Ok(end(plan, index, Why::Timeout, now)),
            Phase::Waiting { due_at } if now < *due_at => Err(Refused::NotDue),
            Phase::Waiting { .. } if goes_down => Ok(failed(
                error_code::INTERRUPTED,
                "the command line was run, but the device did not go down and come back in time",
            )),
            Phase::Waiting { .. } => Ok(advance(Outcome::default())),
        },
        Event::Cancel if goes_down => Err(Refused::TooLate),
        Event::Cancel => match phase {
            Phase::Work { .. } => Ok(end(plan, index, Why::Cancelled, now)),
            Phase::Waiting { .. } => {
                Ok(failed(error_code::CANCELLED, "cancelled before anything was done"))
            }
        },
        Event::StateEntered { state, is_first } if until == Until::WorkflowEnds => {
            let state = Cow::Owned(state);
            let reply = if is_first {
                Reply::Started { state }
            } else {
                Reply::Entered { state, progress: None }
            };
            Ok(Step { effects: vec![Effect::Reply(reply)], ..stay(phase.clone()) })
        }
        Event::Stopping if goes_down || until == Until::WorkflowEnds => Ok(stay(phase.clone())),
        Event::Stopping => match phase {
            Phase::Work { .. } => Ok(end(plan, index, Why::AgentStops, now)),
            Phase::Waiting { .. } => Ok(interrupted()),
        },
        Event::AgentStarted { here } if until == Until::WorkflowEnds => {
            // The clock of another boot began anew: its time-out does too.
            let is_same_boot = here.boot_id == since.boot_id;
            let timeout_at =
                if is_same_boot { timeout_at } else { now.plus_millis(plan.timeout_ms) };
            let next = State::Working { index, since: here, timeout_at, phase: phase.clone() };
            Ok(Step { next, effects: vec![Effect::RunWork { index }] })
        }
        Event::AgentStarted { here } => {
            let is_back = match until {
                Until::NewBoot => here.boot_id != since.boot_id,
                Until::NewRun => here.boot_id != since.boot_id || here.run_id != since.run_id,
                Until::WorkEnds | Until::Acknowledged | Until::WorkflowEnds => {
                    return Ok(interrupted());
                }
            };
            if is_back {
                return Ok(successful(Outcome::result(json!({
                    "boot_id": here.boot_id, "boot_id_before": since.boot_id
                }))));
            }
            let due_at = match phase {
                Phase::Work { return_by } => *return_by,
                Phase::Waiting { due_at } => *due_at,
            };
            Ok(stay(Phase::Waiting { due_at }))
        }
        Event::SaveFailed => Ok(disk_full()),
        Event::Start { .. } | Event::Acknowledged | Event::StateEntered { .. } => {
            Err(Refused::OutOfPlace)
        }
    }
}

fn from_ending(why: Why, give_up_at: Moment, event: Event, now: Moment) -> Result<Step, Refused> {
    let over = |outcome| {
        let failure = match why {
            Why::Cancelled => Failure::new(error_code::CANCELLED, "cancelled while it ran"),
            Why::Timeout => Failure::new(error_code::TIMEOUT, "ran longer than its time-out"),
            Why::AgentStops => {
                Failure::new(error_code::INTERRUPTED, "the agent was stopped while it ran")
            }
        };
        failed_with(failure, outcome)
    };
    match event {
        Event::WorkDone(outcome) | Event::WorkFailed(_, outcome) => Ok(over(outcome)),
        Event::Due if now < give_up_at => Err(Refused::NotDue),
        Event::Due => Ok(over(Outcome::default())),
        // Ending is not saved: after a crash the journal shows the stage.
        Event::AgentStarted { .. } => Ok(interrupted()),
        Event::Cancel | Event::Stopping => Err(Refused::Ending),
        Event::Start { .. }
        | Event::Acknowledged
        | Event::StateEntered { .. }
        | Event::SaveFailed => Err(Refused::OutOfPlace),
    }
}

fn enter(plan: &Plan, index: usize, since: Lifetime, timeout_at: Moment, now: Moment) -> Step {
    let stage = plan.stages[index];
    let phase = if stage.has_work {
        Phase::Work { return_by: now.plus_millis(plan.waits.return_ms) }
    } else {
        Phase::Waiting { due_at: now.plus_millis(plan.waits.announce_ms) }
    };
    let state = Cow::Borrowed(stage.name);
    let mut effects = match index {
        // It says by itself which states it enters.
        _ if stage.until == Until::WorkflowEnds => Vec::new(),
        0 => vec![Effect::Reply(Reply::Started { state })],
        _ => vec![Effect::Reply(Reply::Entered { state, progress: Some(stage.progress) })],
    };
    if stage.has_work {
        effects.push(Effect::RunWork { index });
    }
    Step { next: State::Working { index, since, timeout_at, phase }, effects }
}

fn end(plan: &Plan, index: usize, why: Why, now: Moment) -> Step {
    let give_up_at = now.plus_millis(plan.waits.ending_ms);
    Step { next: State::Ending { index, why, give_up_at }, effects: vec![Effect::EndWork] }
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

fn interrupted() -> Step {
    failed(error_code::INTERRUPTED, "the agent went down while it ran; how far it got is not known")
}

fn disk_full() -> Step {
    failed(error_code::DISK_FULL, "the device cannot save the command; it was not run")
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
