//! The WebSocket that keeps a console up to date: `GET /projects/{p}/live` (chapter 2).
//!
//! A console watches *windows* of listings, the rows that its user sees. Of
//! each the server sends a [`ServerMessage::Snapshot`], then
//! [`ServerMessage::Changes`], at most one per window every
//! [`CHANGES_MIN_INTERVAL_MS`], however often a row changed meanwhile. The
//! server sends a window's next message only when the one before has left, so
//! a slow console costs it one message per window and gets the latest state,
//! never a backlog.
//!
//! Text frames of JSON, one message each. After a reconnect a console simply
//! subscribes again.
//!
//! ```text
//!  console                                server
//!  ── subscribe{id:1, devices, 0..50} ──▶
//!                                         ◀── snapshot{id:1, total, items}
//!                                         ◀── changes{id:1, total, items, order?}
//!  ── window{id:1, 50..100} ────────────▶
//!                                         ◀── snapshot{id:1, …}
//!                                         ◀── heartbeat{at}      (every second)
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{api::Role, ids::ProjectId, time::Timestamp};

/// Spoken by both ends; in [`ServerMessage::Hello`].
pub const VERSION: u32 = 1;
/// A window changes at most this often, in milliseconds.
pub const CHANGES_MIN_INTERVAL_MS: u64 = 200;
/// The server speaks at least this often, in milliseconds: the age of its last word is how fresh a screen is.
pub const HEARTBEAT_INTERVAL_MS: u64 = 1_000;
/// The longest message that a console sends, in bytes.
pub const CLIENT_MESSAGE_MAX_BYTES: usize = 64 * 1024;

/// What a window shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
    /// Rows: [`crate::api::Device`], key: id. Filters and sorts as `GET /devices`; `id` for one device.
    Devices,
    /// Rows: [`crate::api::Command`] without `payload`, `result`, `stdout` and `stderr` unless the filter has
    /// `id`; key: id. Filters and sorts as `GET /commands`. A row changes also when its device's status does.
    Commands,
    /// Rows: [`crate::api::TimelineEntry`] of the command or device in the filter (`command`, `device`), newest
    /// first; key: seq, and behind a dot the `command_id` of a device's commands.
    Timeline,
    /// Rows: [`crate::api::OutputChunk`] of the command in the filter (`command`); key: stream and offset.
    Output,
    /// Rows: [`crate::api::Alert`]; key: id.
    Alerts,
    /// Rows: [`crate::api::AuditEntry`]; key: seq.
    Audit,
    /// Rows: [`crate::api::Operation`](crate::operations::Operation); key: name.
    Operations,
    /// Rows: [`crate::api::User`]; key: username. Server admins only.
    Users,
    /// Rows: [`crate::api::Project`]; key: id.
    Projects,
    /// Rows: [`crate::api::Member`]; key: username.
    Members,
    /// Rows: [`crate::api::EnrollmentToken`]; key: id. Admins only.
    EnrollmentTokens,
    /// One row, [`crate::api::Overview`]; key: `overview`.
    Overview,
    /// Rows: [`crate::api::Tunnel`]; key: id. Filters and sorts as `GET /tunnels`.
    Tunnels,
    /// Rows: [`crate::api::Recording`]; key: id. Filters and sorts as `GET /recordings`.
    Recordings,
}

/// What a console sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Watches a window; an `id` in use is replaced.
    Subscribe {
        /// The console's own number for it.
        id: u32,
        listing: Listing,
        /// As the query parameters of the listing's route.
        #[serde(default)]
        filter: BTreeMap<String, String>,
        /// A column, `-` before it for descending; the listing's own order when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sort: Option<String>,
        #[serde(flatten)]
        range: Range,
    },
    /// Moves a window.
    Window {
        id: u32,
        #[serde(flatten)]
        range: Range,
    },
    Unsubscribe {
        id: u32,
    },
    /// Answered by `pong` with the same number; measures the round trip.
    Ping {
        nonce: u64,
    },
}

/// Rows `offset` to `offset + limit` of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    #[serde(default)]
    pub offset: u64,
    pub limit: u32,
}

/// One row of a window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// Identifies it within the listing.
    pub key: String,
    pub data: Box<RawValue>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.data.get() == other.data.get()
    }
}

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[serde(try_from = "Flat")]
pub enum ServerMessage {
    /// First, once.
    Hello {
        version: u32,
        project: ProjectId,
        username: String,
        role: Role,
        /// Server admins manage users and projects.
        admin: bool,
        server_version: String,
        at: Timestamp,
    },
    /// All rows of a window.
    Snapshot {
        id: u32,
        offset: u64,
        /// How many rows match, in and out of the window.
        total: u64,
        items: Vec<Row>,
        at: Timestamp,
    },
    /// What changed in a window since the message before.
    Changes {
        id: u32,
        total: u64,
        /// Rows that are new in the window or differ.
        items: Vec<Row>,
        /// The keys of all rows of the window in order, when the order or the set changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<Vec<String>>,
        at: Timestamp,
    },
    /// The server is there, and has nothing new.
    Heartbeat {
        at: Timestamp,
    },
    Pong {
        nonce: u64,
    },
    /// A subscription that cannot be (`id`), or the end of the connection (no `id`).
    Error {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<u32>,
        code: String,
        detail: String,
    },
}

/// All fields of all messages. serde reads a tagged enum through a buffer that
/// cannot hold raw JSON, and rows are read raw: who shows a window parses only
/// the rows that it shows.
#[derive(Deserialize)]
struct Flat {
    #[serde(rename = "type")]
    kind: Kind,
    id: Option<u32>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    total: u64,
    #[serde(default)]
    items: Vec<Row>,
    order: Option<Vec<String>>,
    #[serde(default)]
    at: Timestamp,
    #[serde(default)]
    nonce: u64,
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    version: u32,
    project: Option<ProjectId>,
    #[serde(default)]
    username: String,
    role: Option<Role>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    server_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Hello,
    Snapshot,
    Changes,
    Heartbeat,
    Pong,
    Error,
}

impl TryFrom<Flat> for ServerMessage {
    type Error = &'static str;

    fn try_from(flat: Flat) -> Result<Self, &'static str> {
        let window = flat.id.ok_or("missing field `id`");
        Ok(match flat.kind {
            Kind::Hello => Self::Hello {
                version: flat.version,
                project: flat.project.ok_or("missing field `project`")?,
                username: flat.username,
                role: flat.role.ok_or("missing field `role`")?,
                admin: flat.admin,
                server_version: flat.server_version,
                at: flat.at,
            },
            Kind::Snapshot => Self::Snapshot {
                id: window?,
                offset: flat.offset,
                total: flat.total,
                items: flat.items,
                at: flat.at,
            },
            Kind::Changes => Self::Changes {
                id: window?,
                total: flat.total,
                items: flat.items,
                order: flat.order,
                at: flat.at,
            },
            Kind::Heartbeat => Self::Heartbeat { at: flat.at },
            Kind::Pong => Self::Pong { nonce: flat.nonce },
            Kind::Error => Self::Error { id: flat.id, code: flat.code, detail: flat.detail },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_look_as_documented() {
        let message: ClientMessage = serde_json::from_value(json!({
            "type": "subscribe", "id": 1, "listing": "commands",
            "filter": {"status": "failed"}, "sort": "-created_at", "offset": 50, "limit": 25
        }))
        .expect("valid");
        assert!(matches!(
            message,
            ClientMessage::Subscribe { id: 1, range: Range { offset: 50, limit: 25 }, .. }
        ));

        let changes = ServerMessage::Changes {
            id: 1,
            total: 2,
            items: vec![Row {
                key: "a".into(),
                data: RawValue::from_string("{\"id\":\"a\"}".into()).expect("valid JSON"),
            }],
            order: Some(vec!["b".into(), "a".into()]),
            at: Timestamp::from_millis(0),
        };
        let text = serde_json::to_string(&changes).expect("serialises");
        assert_eq!(
            text,
            r#"{"type":"changes","id":1,"total":2,"items":[{"key":"a","data":{"id":"a"}}],"order":["b","a"],"at":"1970-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(serde_json::from_str::<ServerMessage>(&text).expect("valid"), changes);
    }
}
