//! What a running command tells the engine, in order, over one bounded channel.

use std::borrow::Cow;

use quarterdeck_protocol::ids::CommandId;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{
    domain::command::{Failure, Outcome},
    io::output::Chunk,
    journal::record::ProcessMark,
    workflow::message::Payload,
};

/// Reports that may wait for the engine; more hold up who reports.
pub const REPORTS_WAITING_MAX: usize = 64;

/// Why work failed, and what it brought all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed(Box<(Failure, Outcome)>);

impl Failed {
    pub fn new(failure: Failure, outcome: Outcome) -> Self {
        Self(Box::new((failure, outcome)))
    }

    /// With nothing but the reason.
    pub fn because(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Failure::new(code, message), Outcome::default())
    }

    pub fn into_parts(self) -> (Failure, Outcome) {
        *self.0
    }
}

/// How work ended.
pub type WorkEnd = Result<Outcome, Failed>;

/// What a step of the agent's own brought, as it stands in a workflow's payload: the
/// command's last response says it as if that step had run alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Brought {
    #[serde(flatten)]
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

impl Brought {
    /// Where it stands.
    pub const KEY: &str = "@builtin";

    /// The fields that a step puts into the payload.
    pub fn fields(outcome: Outcome, failure: Option<&Failure>) -> Payload {
        let error_code = failure.map(|failure| failure.code.to_string());
        let error_message = failure.map(|failure| failure.message.clone());
        let brought = Self { outcome, error_code, error_message };
        let value = serde_json::to_value(brought).expect("plain data");
        Payload::from_iter([(Self::KEY.to_owned(), value)])
    }

    /// Takes it out of a payload; nothing where a script wrote something else there.
    pub fn take(payload: &mut Payload) -> Self {
        let value = payload.remove(Self::KEY);
        value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    }

    /// The error code that belongs to this reason, if it is this step's.
    pub fn code_of(&self, reason: &str) -> Option<String> {
        let is_its = self.error_message.as_deref() == Some(reason);
        self.error_code.clone().filter(|_| is_its)
    }
}

/// A state that a workflow is in, after `init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    pub state: String,
    /// How far that is, in percent, where the workflow says it.
    pub progress: Option<u8>,
}

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What a running command tells the engine.
#[derive(Debug)]
pub enum Report {
    /// The program stands ready; it starts when `go` is used, and never if that is dropped.
    Ready {
        mark: ProcessMark,
        go: oneshot::Sender<()>,
    },
    Output {
        stream: Stream,
        chunk: Chunk,
    },
    /// Its workflow has entered a state.
    State(Entered),
    /// The host or the agent is about to go down: once that is saved, `go` is used, and
    /// never if the command is being ended.
    GoesDown {
        go: oneshot::Sender<()>,
    },
    /// `told` is used once the broker has all that was said of the command so far.
    Announce {
        told: oneshot::Sender<()>,
    },
    /// The last word.
    Over(WorkEnd),
    /// The last word of this run of the agent: it goes on with the next.
    Left,
}

/// Where the reports of one command go.
#[derive(Debug, Clone)]
pub struct Reports {
    pub id: CommandId,
    pub to: mpsc::Sender<(CommandId, Report)>,
}

impl Reports {
    pub async fn send(&self, report: Report) {
        // Nobody listens only when the agent stops.
        let _ = self.to.send((self.id, report)).await;
    }
}
