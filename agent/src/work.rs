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

/// How work ended.
pub type WorkEnd = Result<Outcome, (Failure, Outcome)>;

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
