//! A command: one operation on one device (chapters 2 and 3).
//!
//! The statuses, and who brings a command into each:
//!
//! ```text
//!  queued ──▶ published ──▶ accepted ──▶ execution_started ──▶ completed | failed
//!    │            │             │                 │
//!    │            │             │                 └─▶ awaiting_reconnect ──▶ completed
//!    │            │             │                        (a reboot)
//!    ├─▶ blocked_safety         └── cancelled, timed_out, expired: from any live status
//! ```
//!
//! `accepted` to `failed` are the device's word, the others the server's. The
//! transitions themselves are in the server's `domain/command.rs`.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{ids::CommandId, time::Timestamp};

/// The one schema version spoken today.
pub const SCHEMA_VERSION: &str = "1.0";

/// Where a command is on its way to one terminal status.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CommandStatus {
    Queued,
    Published,
    Accepted,
    ExecutionStarted,
    AwaitingReconnect,
    Completed,
    Failed,
    TimedOut,
    Expired,
    Cancelled,
    BlockedSafety,
}

impl CommandStatus {
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Published,
        Self::Accepted,
        Self::ExecutionStarted,
        Self::AwaitingReconnect,
        Self::Completed,
        Self::Failed,
        Self::TimedOut,
        Self::Expired,
        Self::Cancelled,
        Self::BlockedSafety,
    ];

    /// Whether nothing changes any more.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::Failed
                | Self::TimedOut
                | Self::Expired
                | Self::Cancelled
                | Self::BlockedSafety
        )
    }

    /// Whether the device may not have it yet, so that it is sent (again) when it connects.
    pub const fn awaits_delivery(self) -> bool {
        matches!(self, Self::Queued | Self::Published)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Published => "published",
            Self::Accepted => "accepted",
            Self::ExecutionStarted => "execution_started",
            Self::AwaitingReconnect => "awaiting_reconnect",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::BlockedSafety => "blocked_safety",
        }
    }
}

impl fmt::Display for CommandStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Says that a text names no command status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such status; expected one of queued, published, accepted, execution_started, \
     awaiting_reconnect, completed, failed, timed_out, expired, cancelled, blocked_safety"
)]
pub struct UnknownStatus;

impl FromStr for CommandStatus {
    type Err = UnknownStatus;
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// Who leaves first: 1 (soonest) to 10. High is 1–3, Normal 4–6, Low 7–10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl JsonSchema for Priority {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Priority".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Who leaves first: 1 (soonest) to 10.",
            "type": "integer",
            "minimum": 1,
            "maximum": 10
        })
    }
}

/// Says that something is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 (soonest) to 10")]
pub struct InvalidPriority;

impl Priority {
    pub const DEFAULT: Self = Self(5);

    pub const fn get(self) -> u8 {
        self.0
    }

    /// `High`, `Normal` or `Low`.
    pub const fn band(self) -> &'static str {
        match self.0 {
            ..=3 => "High",
            4..=6 => "Normal",
            _ => "Low",
        }
    }
}

impl TryFrom<u8> for Priority {
    type Error = InvalidPriority;
    fn try_from(value: u8) -> Result<Self, InvalidPriority> {
        if (1..=10).contains(&value) { Ok(Self(value)) } else { Err(InvalidPriority) }
    }
}

impl FromStr for Priority {
    type Err = InvalidPriority;
    fn from_str(text: &str) -> Result<Self, InvalidPriority> {
        text.parse().map_err(|_| InvalidPriority).and_then(u8::try_into)
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is published on `…/commands`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandMessage {
    /// `1.0`
    pub schema_version: String,
    pub command_id: CommandId,
    /// The operation's name.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub payload: Value,
    #[serde(default)]
    pub priority: Priority,
    pub issued_at: Timestamp,
    /// After this the device answers `failed` with `expired`.
    pub expires_at: Timestamp,
    /// From `execution_started`, in seconds. A device refuses one out of its range as `rejected`.
    #[serde(default = "default_timeout_s")]
    #[schemars(range(min = crate::limits::TIMEOUT_MIN_S, max = crate::limits::TIMEOUT_MAX_S))]
    pub timeout_s: u32,
    #[serde(default)]
    pub issued_by: String,
    /// The server's clock when it sent this message. With it a device tells
    /// how much of the command's life is left without trusting its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// The server has heard the device accept it, and only asks how it ended. A device that does
    /// not know it any more answers `failed` with `interrupted`, and runs nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known: bool,
    /// Fields of later versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

const fn default_timeout_s() -> u32 {
    crate::limits::TIMEOUT_DEFAULT_S
}

/// What is published on `…/commands/cancel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancelMessage {
    pub command_id: CommandId,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a response says of its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    Accepted,
    ExecutionStarted,
    Progress,
    Completed,
    Failed,
}

impl ResponseStatus {
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::ExecutionStarted => "execution_started",
            Self::Progress => "progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// What is published on `…/commands/response`, any number of times for a command.
///
/// Of `stdout` and `stderr` a `progress` carries a chunk and its offset in
/// bytes, so that a redelivery adds nothing; the last response carries the
/// whole, capped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Response {
    /// `1.0`
    pub schema_version: String,
    pub command_id: CommandId,
    pub status: ResponseStatus,
    /// The workflow state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// In percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub progress: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_offset: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_offset: Option<u64>,
    /// The device's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Fields of later versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Response {
    /// A response with nothing but its status.
    pub fn new(command_id: CommandId, status: ResponseStatus) -> Self {
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            command_id,
            status,
            state: None,
            progress: None,
            step: None,
            result: None,
            error_code: None,
            error_message: None,
            exit_code: None,
            stdout: None,
            stderr: None,
            stdout_offset: None,
            stderr_offset: None,
            at: None,
            other: Map::new(),
        }
    }

    /// `failed`, with a code of [`error_code`] and a text for the operator.
    pub fn failed(command_id: CommandId, code: &str, message: impl Into<String>) -> Self {
        Self {
            error_code: Some(code.to_owned()),
            error_message: Some(message.into()),
            ..Self::new(command_id, ResponseStatus::Failed)
        }
    }
}

/// The error codes that Quarterdeck itself gives; a workflow may give others.
pub mod error_code {
    /// The device cannot know whether it ended: it went down meanwhile. Not run again.
    pub const INTERRUPTED: &str = "interrupted";
    /// It ran longer than its `timeout_s`, and was ended; or its host did not come back in time.
    pub const TIMEOUT: &str = "timeout";
    /// The message or its payload is not valid; nothing was done.
    pub const REJECTED: &str = "rejected";
    /// A program ended with another status than 0, or was killed.
    pub const SCRIPT_FAILED: &str = "script_failed";
    /// A program could not be started.
    pub const LAUNCH_FAILED: &str = "launch_failed";
    /// The device has no such operation.
    pub const UNSUPPORTED: &str = "unsupported";
    /// Too many reboots or restarts in a short time.
    pub const SAFETY_LOCKOUT: &str = "safety_lockout";
    /// It reached the device after its `expires_at`.
    pub const EXPIRED: &str = "expired";
    /// It was cancelled while it ran, or before.
    pub const CANCELLED: &str = "cancelled";
    /// The device's owner does not allow it.
    pub const NOT_ALLOWED: &str = "not_allowed";
    /// A file could not be read, written, brought or taken.
    pub const TRANSFER_FAILED: &str = "transfer_failed";
    /// One of the checks of the device's owner failed.
    pub const UNHEALTHY: &str = "unhealthy";
    /// The device's disk is full.
    pub const DISK_FULL: &str = "disk_full";
    /// The device already works on as many commands as it takes.
    pub const BUSY: &str = "busy";
    /// Anything else; the message says what.
    pub const INTERNAL: &str = "internal";
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_command_of_the_contract_is_read_and_written_unchanged() {
        let given = json!({
            "schema_version": "1.0", "command_id": "018f0000-0000-7000-8000-000000000001",
            "type": "restart_service", "payload": {"service": "nginx"}, "priority": 5,
            "issued_at": "2026-11-21T06:00:00.000Z", "expires_at": "2026-11-21T07:00:00.000Z",
            "timeout_s": 300, "issued_by": "ops-1", "from_the_future": {"x": 1}
        });
        let message: CommandMessage = serde_json::from_value(given.clone()).expect("valid");
        assert_eq!(message.other["from_the_future"], json!({"x": 1}));
        assert_eq!(serde_json::to_value(message).expect("serialises"), given);
    }

    #[test]
    fn a_priority_outside_of_1_to_10_is_refused() {
        for bad in ["0", "11", "-1", "\"5\"", "5.5"] {
            assert!(serde_json::from_str::<Priority>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_status_is_read_back_from_its_name() {
        for status in CommandStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).expect("serialises"), json!(status.as_str()));
        }
    }
}
