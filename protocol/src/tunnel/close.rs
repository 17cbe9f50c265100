//! Why a stream or a tunnel ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The one reason of an end, the same word in frames, control messages and rows.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CloseCode {
    /// Both directions came to their end, and all bytes were taken.
    Finished,
    /// The user closed it.
    ClosedByUser,
    /// An admin ended it.
    Killed,
    /// Nothing came for too long.
    IdleTimeout,
    /// It was open as long as a tunnel may be.
    DurationLimit,
    /// The agent began anew; what ran in the tunnel is gone.
    AgentRestarted,
    /// The agent stops.
    AgentStopped,
    /// The device's owner does not allow it.
    NotAllowed,
    /// The program could not be started.
    LaunchFailed,
    /// The destination refused or could not be reached.
    ConnectFailed,
    /// The destination's connection broke.
    ConnectionLost,
    /// As many tunnels or streams as may be are open.
    Busy,
    /// The peer does not know this tunnel or stream.
    Unknown,
    /// The hash at the end differs: bytes were altered or lost on the way.
    Corrupted,
    /// After a restart the bytes that are needed next are gone.
    CannotResume,
    /// The peer does what the protocol does not allow.
    Protocol,
    /// A recording that is required cannot be written.
    RecordingFailed,
    /// The disk is full.
    DiskFull,
    /// The device has been away for too long.
    DeviceLost,
    /// Anything else; the detail says what.
    Internal,
    /// The console that ran its streams is gone and did not come back.
    ConsoleLost,
}

impl CloseCode {
    pub const ALL: [Self; 21] = [
        Self::Finished,
        Self::ClosedByUser,
        Self::Killed,
        Self::IdleTimeout,
        Self::DurationLimit,
        Self::AgentRestarted,
        Self::AgentStopped,
        Self::NotAllowed,
        Self::LaunchFailed,
        Self::ConnectFailed,
        Self::ConnectionLost,
        Self::Busy,
        Self::Unknown,
        Self::Corrupted,
        Self::CannotResume,
        Self::Protocol,
        Self::RecordingFailed,
        Self::DiskFull,
        Self::DeviceLost,
        Self::Internal,
        Self::ConsoleLost,
    ];

    /// The word on the wire and in the listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClosedByUser => "closed_by_user",
            Self::Killed => "killed",
            Self::IdleTimeout => "idle_timeout",
            Self::DurationLimit => "duration_limit",
            Self::AgentRestarted => "agent_restarted",
            Self::AgentStopped => "agent_stopped",
            Self::NotAllowed => "not_allowed",
            Self::LaunchFailed => "launch_failed",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectionLost => "connection_lost",
            Self::Busy => "busy",
            Self::Unknown => "unknown",
            Self::Corrupted => "corrupted",
            Self::CannotResume => "cannot_resume",
            Self::Protocol => "protocol",
            Self::RecordingFailed => "recording_failed",
            Self::DiskFull => "disk_full",
            Self::DeviceLost => "device_lost",
            Self::Internal => "internal",
            Self::ConsoleLost => "console_lost",
        }
    }

    pub(super) const fn to_byte(self) -> u8 {
        self as u8
    }

    /// A code of a later version is still an end.
    pub(super) fn from_byte(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::Internal)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_read_back() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_byte(code.to_byte()), code);
            assert_eq!(serde_json::to_value(code).expect("plain data"), code.as_str());
        }
        assert_eq!(CloseCode::from_byte(255), CloseCode::Internal);
    }
}
