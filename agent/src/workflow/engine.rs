//! The machine of one command (source 003; rules F, S, E, K, O, B, R, U, T, A, C, I).
//!
//! ```text
//!          Start                       Continue: proceed, iterate, operation without input script
//!   New ─────────▶ a state is entered ◀───────────────────────────────── Passing
//!                   │  ▲   ▲   ▲   ▲  Continue: background script, restart-agent
//!    what the state │  │   │   │   └─────────── Launching ◀───────────── Passing
//!    asks for       │  │   │   │      Launched     (the next state is saved, then it is started)
//!                   │  │   │   └── Working     a script, an input script or a builtin runs:
//!                   │  │   │                   ScriptEnded, BuiltinEnded, TimerDue
//!                   │  │   └────── Awaiting    AgentStarted, OperationEnded, BuiltinEnded, TimerDue
//!                   │  └────────── Parked      Message: another participant passes the baton
//!                   ├────────────▶ Passing, Launching, Working, Awaiting, Parked
//!                   └────────────▶ Ended       cleanup; the requester clears
//!
//!   each but Ended ── Abort ──▶ failed         each ── Cleared ──▶ Cleared
//!   each but Ended ── AgentStarted ──▶ the same state from its start, or on from await-agent-restart
//! ```
//!
//! The caller saves [`Step::next`], then runs [`Step::effects`] in their order:
//! so a transition is durable before anything happens because of it, and after
//! a crash [`Event::AgentStarted`] has each command do again what its last
//! saved state asks for. Each effect is harmless the second time, but for the
//! scripts themselves, which a crash in their midst runs again (R4); and but
//! for a launch, which is never repeated: it may be what took the device down.
//!
//! One event is one transition, also through a chain of `proceed`: a loop in a
//! definition cannot hold the caller. Nothing here knows a clock, a task, a
//! broker, a process or a file.

mod act;
mod enter;
mod event;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use event::{Effect, Event, Launch, Purpose, Refused, Run, Step, StepFailure};

use super::{
    command::{Command, Phase, Sub},
    definition::{Action, Definition, INIT},
    message::Incoming,
    outcome::Outcome,
};
use crate::domain::Moment;
use enter::Move;

/// Decides what an event does to a command that runs `definition`.
///
/// # Errors
///
/// A refusal changes nothing and is no failure: the event came too late, twice,
/// or is not for this state.
pub fn step(
    definition: &Definition,
    command: &Command,
    event: Event,
    now: Moment,
) -> Result<Step, Refused> {
    let at = Place { definition, command, now };
    match (command.phase, event) {
        (Phase::Cleared, _) => Err(Refused::Cleared),
        (_, Event::Incoming(Incoming::Cleared)) => Ok(at.cleared()),
        (Phase::Ended { told: false }, Event::Published) => {
            Ok(at.stay(Phase::Ended { told: true }))
        }
        (Phase::Ended { told: false }, Event::AgentStarted { .. }) => Ok(at.ended_again()),
        (Phase::Ended { .. }, _) => Err(Refused::Ended),
        (_, Event::Abort(StepFailure { reason, fields })) => {
            Ok(at.go(Move::stopping(at, Outcome::failed(reason).merging(fields))))
        }

        (_, Event::OperationPublished { topic }) => at.operation_published(&topic),

        (Phase::New, Event::Start) => Ok(at.start()),
        (_, Event::Start) => Err(Refused::Duplicate),
        (Phase::Passing, Event::Continue) => Ok(at.pass()),
        (Phase::Launching { announced }, Event::Launched(result)) => {
            Ok(at.launched(announced, result))
        }

        (Phase::Working { .. }, Event::ScriptEnded { end, excerpts }) => {
            at.script_ended(&end, &excerpts)
        }
        (Phase::Working { .. }, Event::BuiltinEnded(result)) => at.builtin_ended(result),
        (Phase::Working { due_at } | Phase::Awaiting { due_at }, Event::TimerDue) => {
            at.timer_due(due_at)
        }
        (Phase::Awaiting { .. }, Event::BuiltinEnded(result)) => at.awaited_builtin_ended(result),
        (Phase::Awaiting { .. }, Event::OperationEnded { topic, baton }) => {
            at.operation_ended(&topic, &baton)
        }

        (Phase::Parked { told: false }, Event::Published) => {
            Ok(at.stay(Phase::Parked { told: true }))
        }
        (Phase::Parked { .. }, Event::Incoming(Incoming::State(baton))) => at.taken(baton),
        (_, Event::Incoming(Incoming::State(baton))) if &*baton.status == INIT => {
            Err(Refused::Duplicate)
        }
        (_, Event::Incoming(Incoming::State(_))) => Err(Refused::NotParked),

        (
            Phase::Passing
            | Phase::Launching { .. }
            | Phase::Working { .. }
            | Phase::Awaiting { .. }
            | Phase::Parked { .. },
            Event::AgentStarted { same_boot },
        ) => Ok(at.resume(same_boot)),

        (
            Phase::New
            | Phase::Passing
            | Phase::Launching { .. }
            | Phase::Working { .. }
            | Phase::Awaiting { .. }
            | Phase::Parked { .. },
            Event::Continue
            | Event::Launched(_)
            | Event::ScriptEnded { .. }
            | Event::BuiltinEnded(_)
            | Event::OperationEnded { .. }
            | Event::TimerDue
            | Event::AgentStarted { .. }
            | Event::Published,
        ) => Err(Refused::OutOfPlace),
    }
}

/// What a transition is decided on.
#[derive(Clone, Copy)]
struct Place<'a> {
    definition: &'a Definition,
    command: &'a Command,
    now: Moment,
}

impl Place<'_> {
    fn action(&self) -> Option<&Action> {
        self.definition.action(&self.command.status)
    }

    fn stay(&self, phase: Phase) -> Step {
        Step { next: Command { phase, ..self.command.clone() }, effects: Vec::new() }
    }

    fn cleared(&self) -> Step {
        let mut step = self.stay(Phase::Cleared);
        if matches!(self.command.phase, Phase::Working { .. }) {
            step.effects.push(Effect::StopWork);
        }
        step.effects.push(Effect::Forget);
        step
    }

    /// Says once more what a crash may have kept from being said.
    fn ended_again(&self) -> Step {
        let mut step = self.stay(Phase::Ended { told: false });
        step.effects.push(Effect::Publish);
        step.effects
            .extend(self.command.topic.parent().map(|parent| Effect::TellParent { parent }));
        step
    }

    /// Finds what the command awaits, if it awaits a command.
    fn awaited(&self) -> Option<&Sub> {
        self.command.sub.as_deref()
    }
}
