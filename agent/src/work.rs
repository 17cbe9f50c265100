//! What running work tells the engine, in order, over one bounded channel.

use quarterdeck_protocol::ids::CommandId;
use tokio::sync::{mpsc, oneshot};

use crate::{
    domain::command::{Failure, Outcome},
    io::output::Chunk,
    journal::record::ProcessMark,
};

/// Reports that may wait for the engine; more hold up the work.
pub const REPORTS_WAITING_MAX: usize = 64;

/// Why work failed, and what it brought all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed(Box<(Failure, Outcome)>);

impl Failed {
    pub fn new(failure: Failure, outcome: Outcome) -> Self {
        Self(Box::new((failure, outcome)))
    }

    /// With nothing but the reason.
    pub fn because(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Failure::new(code, message), Outcome::default())
    }

    pub fn into_parts(self) -> (Failure, Outcome) {
        *self.0
    }
}

/// How work ended.
pub type WorkEnd = Result<Outcome, Failed>;

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What running work tells the engine.
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
    /// In percent.
    Progress(u8),
    /// A workflow has entered a state.
    State(String),
    /// The last word.
    Over(WorkEnd),
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
