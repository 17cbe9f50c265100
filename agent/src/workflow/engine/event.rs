//! What happens to a command, and what is to be done then.

use crate::{
    domain::Moment,
    workflow::{
        command::Command,
        definition::BuiltinCall,
        excerpt::Excerpts,
        message::{Baton, Incoming, Payload},
        outcome::ScriptEnd,
        topic::CommandTopic,
    },
};

/// What happens to a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A new command was seen in state `init`.
    Start,
    /// [`Effect::Continue`] came round.
    Continue,
    /// What [`Effect::Launch`] asked for was started, or could not be.
    Launched(Result<(), String>),
    /// The script of [`Effect::RunScript`] ended, with all its group.
    ScriptEnded { end: ScriptEnd, excerpts: Excerpts },
    /// What [`Effect::InvokeBuiltin`] asked for ended: with fields for the payload, or a failure.
    BuiltinEnded(Result<Payload, StepFailure>),
    /// The broker has acknowledged the `init` of the sub-operation with this topic.
    OperationPublished { topic: CommandTopic },
    /// A sub-operation ended, with this last message.
    OperationEnded { topic: CommandTopic, baton: Baton },
    /// [`Command::due_at`] has come.
    TimerDue,
    /// The agent has started and found the command saved.
    AgentStarted {
        /// The boot clock is still the one that due times were noted on.
        same_boot: bool,
    },
    /// Somebody else's message on the command's topic. The agent's own are never given: who
    /// publishes them knows them.
    Incoming(Incoming),
    /// The broker has acknowledged the command's latest state.
    Published,
    /// The command cannot go on: its workflow is gone (R7), or it is cancelled.
    Abort(StepFailure),
}

/// Why something of the agent's own failed, and what it brought all the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepFailure {
    pub reason: String,
    /// For the payload.
    pub fields: Payload,
}

impl From<String> for StepFailure {
    fn from(reason: String) -> Self {
        Self { reason, fields: Payload::new() }
    }
}

impl From<&str> for StepFailure {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// The command after an event, and what to do once it is saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub next: Command,
    /// In this order.
    pub effects: Vec<Effect>,
}

/// What the caller does once the step is saved.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish [`Command::message`] on its topic, retained, QoS 1 (F1).
    Publish,
    /// Give [`Event::Continue`].
    Continue,
    /// Run a script and await its end.
    RunScript(Run),
    /// Start something whose end nobody awaits; give [`Event::Launched`].
    Launch(Launch),
    /// Publish a sub-operation's `init`, unless the broker has had it, and begin it. Then give
    /// [`Event::OperationPublished`]. When its topic is already on the board it is left alone,
    /// and its end is told: at once, if it has ended.
    StartOperation {
        topic: CommandTopic,
        payload: Payload,
        /// The broker has had its `init`: whoever carries it out may be past that.
        is_told: bool,
    },
    /// Have the agent's own code do something, and await its end.
    InvokeBuiltin {
        call: BuiltinCall,
        payload: Payload,
        /// It was invoked before, and the agent has restarted since.
        is_resumed: bool,
        /// Then it may simply be done again; else whoever did it says what became of it.
        is_repeatable: bool,
    },
    /// End the script or builtin that runs; its end is of no interest any more.
    StopWork,
    /// Give [`Event::TimerDue`] then. One timer a command: a later one replaces it.
    ArmTimer {
        due_at: Moment,
    },
    /// Clear the retained message of a finished sub-operation, and forget it (U1).
    ClearOperation {
        topic: CommandTopic,
    },
    /// Tell the command's end to the one that started it: [`Event::OperationEnded`].
    TellParent {
        parent: CommandTopic,
    },
    /// Take the command off the board.
    Forget,
    Log(String),
}

/// A script to run: no shell, stdin empty, in a group of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub purpose: Purpose,
    pub program: String,
    pub arguments: Vec<String>,
    /// After this, SIGTERM for the group (T2).
    pub timeout_ms: Option<i64>,
}

/// What a script is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    State,
    /// It makes the first state of a sub-operation.
    Input,
}

/// Something that is started and not awaited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launch {
    /// A detached script.
    Script {
        program: String,
        arguments: Vec<String>,
    },
    RestartAgent,
}

/// Says why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the command has ended")]
    Ended,
    #[error("the command was cleared")]
    Cleared,
    #[error("the command is already on the board")]
    Duplicate,
    #[error("the command is in a state of ours: nobody else moves it")]
    NotParked,
    #[error("the command is already in this state")]
    Echo,
    #[error("nothing is due yet")]
    NotDue,
    #[error("this does not happen in this state")]
    OutOfPlace,
}

impl Run {
    /// From SIGTERM to SIGKILL, in milliseconds (T7).
    pub const fn kill_after_ms(&self) -> i64 {
        const LEAST_MS: i64 = 60_000;
        match self.timeout_ms {
            Some(timeout_ms) if timeout_ms / 20 > LEAST_MS => timeout_ms / 20,
            Some(_) | None => LEAST_MS,
        }
    }
}
