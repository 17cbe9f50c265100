//! What the journal remembers.

use quarterdeck_protocol::{
    command::{CommandMessage, Response, ResponseStatus},
    ids::CommandId,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::domain::{Moment, command::Running};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A command was taken; stands for reply 0, `accepted`, as well.
    Received(Box<Received>),
    /// A command has begun, or goes on: saved before its workflow begins.
    Running { id: CommandId, running: Running },
    /// A program stands ready, and is let go only after this is saved.
    Process { id: CommandId, process: ProcessMark },
    /// How much of a command's output was told live; written before it is, and not synced.
    Told { id: CommandId, told: Told },
    /// Reply `n` of a command. A final one ends it for ever.
    Reply { n: u32, response: Box<Response>, wall: Timestamp },
    /// The broker has reply `n`.
    Acked { id: CommandId, n: u32 },
    /// A command that is not here yet was cancelled.
    Cancelled { id: CommandId, wall: Timestamp },
}

/// A command as it came, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Received {
    pub message: CommandMessage,
    pub wall: Timestamp,
    pub boot_id: String,
    /// On the boot clock of `boot_id`.
    pub at: Moment,
    pub expires_at: Moment,
}

impl Received {
    /// What the server is told: reply 0.
    pub fn accepted(&self) -> Response {
        Response {
            state: Some("init".to_owned()),
            at: Some(self.wall),
            ..Response::new(self.message.command_id, ResponseStatus::Accepted)
        }
    }
}

/// How much of each stream of a command was told live, in bytes of its text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
}

/// How a program's processes are found again after the agent went down.
///
/// A process id alone may by then belong to somebody else; with the start time
/// it is unique within one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMark {
    pub boot_id: String,
    /// The process that looks after the program, and the session it leads.
    pub supervisor: ProcessId,
    /// The program itself, and the process group it leads.
    pub program: ProcessId,
}

/// A process that can be told from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    /// In clock ticks since the host started, as in `/proc/PID/stat`.
    pub start_ticks: u64,
}

impl Record {
    pub fn command_id(&self) -> CommandId {
        match self {
            Self::Received(received) => received.message.command_id,
            Self::Reply { response, .. } => response.command_id,
            Self::Running { id, .. }
            | Self::Process { id, .. }
            | Self::Told { id, .. }
            | Self::Acked { id, .. }
            | Self::Cancelled { id, .. } => *id,
        }
    }
}
