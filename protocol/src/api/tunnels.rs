//! Tunnels and recordings (chapter 7).

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ids::{DeviceId, TunnelId},
    time::Timestamp,
    tunnel::close::CloseCode,
};

/// What a tunnel is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TunnelKind {
    /// A shell, or `argv`, on a terminal.
    Terminal,
    /// `argv` with stdin, stdout and stderr apart.
    Exec,
    /// Connections to the device's ssh server: to `127.0.0.1:22` unless `host` and `port` say otherwise.
    Ssh,
    /// Connections to `host:port` as the device sees it, or, when `reverse`, from there.
    PortForward,
}

impl TunnelKind {
    pub const ALL: [Self; 4] = [Self::Terminal, Self::Exec, Self::Ssh, Self::PortForward];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Exec => "exec",
            Self::Ssh => "ssh",
            Self::PortForward => "port_forward",
        }
    }
}

/// Where a tunnel stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TunnelStatus {
    /// The device has been asked.
    Opening,
    Open,
    /// Open; the device is not heard at the moment.
    Stalled,
    /// Over; `close_reason` says why.
    Closed,
    /// It never opened; `close_reason` says why.
    Failed,
}

impl TunnelStatus {
    pub const ALL: [Self; 5] =
        [Self::Opening, Self::Open, Self::Stalled, Self::Closed, Self::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Stalled => "stalled",
            Self::Closed => "closed",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more comes of it.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Failed)
    }
}

/// A session with a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tunnel {
    pub id: TunnelId,
    pub device_id: DeviceId,
    /// Who opened it.
    pub user: String,
    pub kind: TunnelKind,
    pub status: TunnelStatus,
    /// What runs in it; empty for a login shell and for connections.
    pub argv: Vec<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    /// The device listens at `host:port`, and the console connects.
    pub reverse: bool,
    /// Where a reverse forward listens, once it is open.
    pub listen_port: Option<u16>,
    /// To the device, from the device; what was sent again counts once.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Consoles that are attached now.
    pub attached: u32,
    pub created_at: Timestamp,
    pub opened_at: Option<Timestamp>,
    /// When somebody typed or something was shown last, to the minute while it is open.
    pub last_activity_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    pub close_reason: Option<CloseCode>,
    /// More of it, for people.
    pub close_message: Option<String>,
    /// How the program of a terminal or an exec ended, as a shell counts: 128 and more for signals.
    pub exit_code: Option<i32>,
    pub recording_id: Option<String>,
}

/// Opens a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTunnel {
    pub device_id: DeviceId,
    pub kind: TunnelKind,
    /// Of a terminal or an exec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// The terminal's size; 80 × 24 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// The terminal's `TERM`; `xterm-256color` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// More variables for the program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The user that the program runs as, if the device's owner allows it; the agent's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Where connections go; `127.0.0.1` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// 22 for ssh when absent; 0 only with `reverse`: any free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of a port forward: the device listens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reverse: bool,
    /// Records a terminal; the project's setting when absent. What the project records is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<bool>,
    /// Records what is typed as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub record_input: bool,
}

/// The answer to [`CreateTunnel`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedTunnel {
    #[serde(flatten)]
    pub tunnel: Tunnel,
    /// Opens `GET /tunnels/{id}/stream` once, as its owner.
    pub ticket: String,
    /// The ticket's life, in seconds.
    pub expires_in: u64,
}

/// How a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingStatus {
    /// The session goes on.
    Recording,
    /// It has its end, and nothing is missing.
    Complete,
    /// It ends before its session did: a crash cut it, or it could not be written.
    Incomplete,
}

impl RecordingStatus {
    pub const ALL: [Self; 3] = [Self::Recording, Self::Complete, Self::Incomplete];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
        }
    }
}

/// What a recording is downloaded for: the audit log says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordingUse {
    /// To be kept elsewhere.
    #[default]
    Export,
    /// To be played.
    View,
    /// To be compared with a file that was exported.
    Verify,
}

impl RecordingUse {
    pub const ALL: [Self; 3] = [Self::Export, Self::View, Self::Verify];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::View => "view",
            Self::Verify => "verify",
        }
    }
}

/// A use of a recording that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected export, view or verify")]
pub struct UnknownUse;

impl FromStr for RecordingUse {
    type Err = UnknownUse;

    fn from_str(text: &str) -> Result<Self, UnknownUse> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or(UnknownUse)
    }
}

/// What was shown in a terminal, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recording {
    pub id: String,
    pub tunnel_id: TunnelId,
    pub device_id: DeviceId,
    pub user: String,
    pub status: RecordingStatus,
    pub argv: Vec<String>,
    /// What was typed is in it too.
    pub has_input: bool,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// Of output, in bytes; to the minute while it is being recorded.
    pub bytes: u64,
    /// When it is deleted.
    pub expires_at: Option<Timestamp>,
}

/// What an event of a recording is; the letters of asciicast, and the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum RecordingEventKind {
    /// Output.
    #[serde(rename = "o")]
    Output,
    /// Input.
    #[serde(rename = "i")]
    Input,
    /// A resize: `COLSxROWS`.
    #[serde(rename = "r")]
    Resize,
    /// The program's end: its exit code as a shell counts it.
    #[serde(rename = "x")]
    Exit,
}

/// One event of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordingEvent {
    /// Since the beginning, in milliseconds.
    pub time_ms: u64,
    pub kind: RecordingEventKind,
    /// Text; bytes that are none stand as U+FFFD here, and as they were in `/bytes`.
    pub data: String,
}

/// What the last line of an exported asciicast file says before the SHA-256, in hex, of all lines
/// before it, their line ends included. Players take the line for a marker.
pub const CAST_END: &str = "quarterdeck end sha256=";
/// The same of an export of what was there so far, while it was recorded or after a crash.
pub const CAST_SO_FAR: &str = "quarterdeck so far sha256=";

/// What checking a recording found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordingCheck {
    /// All of it is as it was written, the end included.
    pub is_whole: bool,
    /// Chunks that are as they were written, from the first on without a gap.
    pub chunks: u64,
    /// Output in them, in bytes, and its SHA-256 in hex.
    pub bytes: u64,
    pub sha256: String,
    /// What is wrong after them.
    pub problem: Option<String>,
}
