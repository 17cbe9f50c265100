//! What a command is on the wire, of a submission at once or of the outbox one by one.

use bytes::Bytes;
use quarterdeck_protocol::{
    command::{CommandStatus, SCHEMA_VERSION},
    time::Timestamp,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{engine::ingest::DeviceKey, store::commands::live::Outgoing};

/// The commands of one submission that go to devices which are there.
#[derive(Debug)]
pub(in crate::engine) struct Outbound {
    pub(in crate::engine) common: Common,
    /// Command and device.
    pub(in crate::engine) to: Vec<(String, DeviceKey)>,
}

/// What they have in common.
#[derive(Debug)]
pub(in crate::engine) struct Common {
    pub(in crate::engine) kind: String,
    /// JSON.
    pub(in crate::engine) payload: String,
    pub(in crate::engine) priority: i64,
    pub(in crate::engine) timeout_s: i64,
    pub(in crate::engine) issued_at: Timestamp,
    pub(in crate::engine) expires_at: Timestamp,
    pub(in crate::engine) issued_by: String,
}

impl Common {
    pub(super) fn wire(&self, id: &str, payload: &RawValue, sent_at: Timestamp) -> Option<Bytes> {
        let wire = Wire {
            schema_version: SCHEMA_VERSION,
            command_id: id,
            kind: &self.kind,
            payload,
            priority: self.priority,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            timeout_s: self.timeout_s,
            issued_by: &self.issued_by,
            sent_at,
            known: false,
        };
        serde_json::to_vec(&wire).ok().map(Bytes::from)
    }
}

/// A command on the wire; see [`quarterdeck_protocol::command::CommandMessage`].
#[derive(Serialize)]
struct Wire<'a> {
    schema_version: &'static str,
    command_id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    payload: &'a RawValue,
    priority: i64,
    issued_at: Timestamp,
    expires_at: Timestamp,
    timeout_s: i64,
    issued_by: &'a str,
    sent_at: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    known: bool,
}

/// The message of a stored command; one that the device has accepted says so.
pub(super) fn message(command: &Outgoing, sent_at: Timestamp) -> Option<Bytes> {
    let payload: &RawValue = serde_json::from_str(&command.payload).ok()?;
    let wire = Wire {
        schema_version: SCHEMA_VERSION,
        command_id: &command.id,
        kind: &command.kind,
        payload,
        priority: command.priority,
        issued_at: Timestamp::from_millis(command.created_at),
        expires_at: Timestamp::from_millis(command.expires_at),
        timeout_s: command.timeout_s,
        issued_by: &command.created_by,
        sent_at,
        known: !command.status.parse().is_ok_and(CommandStatus::awaits_delivery),
    };
    serde_json::to_vec(&wire).ok().map(Bytes::from)
}
