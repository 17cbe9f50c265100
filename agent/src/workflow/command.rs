//! One command of a workflow, as it is saved: where it is, what it carries, what it waits for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    definition::{INIT, StateName},
    message::{Message, Payload},
    substitution::Context,
    topic::CommandTopic,
};
use crate::domain::Moment;

/// A command on the board. Cloning it is cheap; saving it saves all that a restart needs,
/// beside the definition that it runs (V3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub topic: CommandTopic,
    pub status: StateName,
    /// All fields of its message but `status`.
    pub payload: Arc<Payload>,
    pub phase: Phase,
    /// What it started and whose end it has not taken yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<Arc<Sub>>,
}

/// What a command is at in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Seen on the bus, nothing saved yet.
    New,
    /// Nothing holds it up: it goes on with the next event.
    Passing,
    /// What the state before asked for is being started; `announced` says that this state is published.
    Launching { announced: bool },
    /// A script or a builtin runs; the time-out of a script is kept by who runs it.
    Working { due_at: Option<Moment> },
    /// An agent's restart or the end of [`Command::sub`] is awaited.
    Awaiting { due_at: Option<Moment> },
    /// No action of ours: another participant goes on. `told` says that the broker has this state.
    Parked { told: bool },
    /// Finished; only the requester still clears it.
    Ended { told: bool },
    /// The requester has cleared it: it is to be forgotten.
    Cleared,
}

/// What a command awaits the end of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sub {
    /// Kept with its first payload, so that it can be started again after a crash; `told` says
    /// that the broker has had its `init`, so that no other participant gets it a second time.
    Operation {
        topic: CommandTopic,
        init: Payload,
        #[serde(default)]
        told: bool,
    },
    /// The agent's own handler of the operation.
    Builtin {
        payload: Payload,
        #[serde(default)]
        is_repeatable: bool,
    },
}

impl Command {
    /// Makes a command that has just been seen in state `init`.
    pub fn new(topic: CommandTopic, payload: Payload) -> Self {
        Self {
            topic,
            status: INIT.into(),
            payload: Arc::new(payload),
            phase: Phase::New,
            sub: None,
        }
    }

    /// What stands on its topic.
    pub fn message(&self) -> Message<'_> {
        Message { status: &self.status, payload: &self.payload }
    }

    /// When [`super::engine::Event::TimerDue`] is to be given, if nothing comes before it.
    pub const fn due_at(&self) -> Option<Moment> {
        match self.phase {
            Phase::Working { due_at } | Phase::Awaiting { due_at } => due_at,
            Phase::New
            | Phase::Passing
            | Phase::Launching { .. }
            | Phase::Parked { .. }
            | Phase::Ended { .. }
            | Phase::Cleared => None,
        }
    }

    pub const fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. } | Phase::Cleared)
    }

    /// Says whether it awaits the end of the sub-operation with this topic.
    pub fn awaits(&self, topic: &CommandTopic) -> bool {
        let sub = self.sub.as_deref();
        !self.is_ended() && matches!(sub, Some(Sub::Operation { topic: own, .. }) if own == topic)
    }

    /// Says whether it is a finished sub-operation that nobody awaits any more, so that
    /// the agent is to clear it (U1): its parent moved on, or is gone.
    pub fn is_orphan(&self, parent: Option<&Self>) -> bool {
        let is_sub = self.topic.parent().is_some();
        is_sub && self.is_ended() && !parent.is_some_and(|parent| parent.awaits(&self.topic))
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context { topic: &self.topic, status: &self.status, payload: &self.payload }
    }
}
