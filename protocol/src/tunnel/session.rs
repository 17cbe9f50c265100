//! The WebSocket between a console and its server: `GET /tunnels/{id}/stream`.
//!
//! Binary messages are frames, as on MQTT ([`super::frame`]), of the one tunnel.
//! Text messages are these, one JSON object each:
//!
//! ```text
//!  console                                   server
//!                                            ◀── attached {mode, handle, …}
//!                                            ◀── snapshot {offset, …}   of a terminal, unless it continues
//!  ◀═══════════════════ frames ═══════════════════▶
//!  ── resize {size} ───────────────────────▶         the owner
//!                                            ◀── watchers, stats, idle_warning
//!  ── detach ──────────────────────────────▶         the program runs on
//!                                            ◀── closed {reason}
//! ```
//!
//! Who ends what:
//!
//! - A terminal's output, stream 0, ends at the server, which keeps it. What
//!   comes to a console is that stream again, data and marks, at the offsets it
//!   has, without a gap: a WebSocket loses nothing, so there is no machine of
//!   its own for it. The console says with an ack frame of stream 0 how far it
//!   has shown it, every [`SHOWN_EVERY_BYTES`] and after [`SHOWN_MAX_MS`]; the
//!   owner's sets the pace of the program. A watcher that falls
//!   [`BEHIND_MAX_BYTES`] behind gets a new snapshot.
//! - All other streams run from the console to the device, and the server passes
//!   their frames on: a console runs an [`Endpoint`](super::endpoint::Endpoint)
//!   for them, near side, with the tunnel `handle`.
//! - Who may write opens the stream `input_stream` with
//!   [`Endpoint::join`](super::endpoint::Endpoint::join) in the life
//!   `input_life`. Keys typed into a terminal go there. An exec is that stream,
//!   and of a forward it is the first that the console may open.
//!
//! `attached` comes when the device has opened the tunnel; if that fails, `closed`
//! comes instead.
//!
//! A connection that broke is made anew with a new ticket. A console that kept
//! its streams asks to go on: `from` is the offset of output that it needs next,
//! `input_stream` and `input_life` what it was given. Then it goes on
//! ([`ServerMessage::Attached::continues_input`] and `continues_output`), else it
//! begins anew, and what it had not yet been told is safe may be lost.

use serde::{Deserialize, Serialize};

use super::{
    close::CloseCode,
    mark::{Signal, Size},
};
use crate::time::Timestamp;

/// Spoken by both ends; in [`ServerMessage::Attached`].
pub const VERSION: u32 = 1;
/// The longest text message of a console, in bytes.
pub const CLIENT_MESSAGE_MAX_BYTES: usize = 4 * 1024;
/// How long a console gathers resizes before it asks for one, in milliseconds.
pub const RESIZE_DEBOUNCE_MS: u64 = 50;
/// How often the server says how the session fares, in milliseconds.
pub const STATS_INTERVAL_MS: u64 = 1_000;
/// How long before its end an idle session is warned, in seconds.
pub const IDLE_WARNING_S: u64 = 60;
/// A console says how far it has shown a terminal's output after so many bytes,
/// and at the latest after so many milliseconds.
pub const SHOWN_EVERY_BYTES: u64 = 16 * 1024;
pub const SHOWN_MAX_MS: u64 = 50;
/// The most output of a terminal that a console has not said to have shown, in
/// bytes; over it an owner's program waits, and anybody else gets a snapshot.
pub const BEHIND_MAX_BYTES: u64 = 1024 * 1024;
/// The longest screen of a snapshot, before Base64, in bytes.
pub const SNAPSHOT_MAX_BYTES: usize = 256 * 1024;

/// Codes with which the server closes the WebSocket. After any other (and after
/// 1001: the server stops) a console connects again.
pub mod close_code {
    /// `closed` was said, or the console asked for it.
    pub const OVER: u16 = 1000;
    /// The console broke the protocol; the reason says how.
    pub const PROTOCOL: u16 = 1002;
    /// The right to it has ended.
    pub const NOT_ALLOWED: u16 = 4003;
    /// Another console is the owner now.
    pub const TAKEN_OVER: u16 = 4009;
}

/// What an attached console may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Writes, resizes, and sets the pace.
    Owner,
    /// Writes.
    Copilot,
    /// Reads; never slows the session.
    Watch,
}

/// What a console says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Makes the terminal this large; the owner only.
    Resize { size: Size },
    /// Sends a signal to what runs in a terminal; an exec's goes as a mark on its stream, or on a further one.
    Signal { signal: Signal },
    /// Goes away; what runs, runs on.
    Detach,
    /// Ends the tunnel; the owner only.
    Close,
    /// Answered by `pong` with the same number.
    Ping { nonce: u64 },
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// First, once.
    Attached {
        version: u32,
        mode: Mode,
        /// What frames call this tunnel.
        handle: u32,
        /// The stream with which this console writes, and its life; none for a watcher.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input_stream: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input_life: Option<u16>,
        /// The streams that the console has go on.
        #[serde(default)]
        continues_input: bool,
        /// Output goes on at `from`; otherwise a snapshot follows.
        #[serde(default)]
        continues_output: bool,
        /// Messages and bytes that this console may have under way to the device.
        flight_messages: u32,
        flight_bytes: u32,
        is_recorded: bool,
        at: Timestamp,
    },
    /// The screen at an offset of the terminal's output; frames go on from there.
    /// To an attaching console, and to a watcher that fell behind.
    Snapshot {
        offset: u64,
        size: Size,
        /// Base64 of terminal output that paints the screen of a new terminal. It is
        /// of the past: what in it asks the terminal something is not to be answered.
        screen: String,
        /// The output from here to `offset` is in it.
        painted_from: u64,
        /// Earlier output that is gone, in bytes.
        dropped_bytes: u64,
    },
    /// The terminal has this size from `offset` on.
    Resized {
        offset: u64,
        size: Size,
    },
    /// Who is attached, this console included.
    Watchers {
        watchers: Vec<Watcher>,
    },
    Stats(Stats),
    /// Nothing happened for long: the session ends in so many seconds.
    IdleWarning {
        seconds: u64,
    },
    Pong {
        nonce: u64,
    },
    /// Last: the tunnel is over.
    Closed {
        reason: CloseCode,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
}

/// One attached console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watcher {
    pub user: String,
    pub mode: Mode,
    pub since: Timestamp,
}

/// How a session fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// To the device, from the device.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Between server and device, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    pub link: LinkState,
    /// Milliseconds since the device was last heard.
    pub heard_ms_ago: u64,
}

/// How the way to the device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    Live,
    /// Connected, but answers are overdue.
    Stalled,
    /// The device is not connected.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_look_as_documented() {
        let resize = json!({"type": "resize", "size": {"cols": 120, "rows": 40}});
        let message: ClientMessage = serde_json::from_value(resize.clone()).expect("valid");
        assert_eq!(serde_json::to_value(&message).expect("plain data"), resize);
        let wrong = json!({"type": "resize", "size": {"cols": 0, "rows": 40}});
        assert!(serde_json::from_value::<ClientMessage>(wrong).is_err());

        let stats = ServerMessage::Stats(Stats {
            bytes_up: 1,
            bytes_down: 2,
            rtt_us: None,
            link: LinkState::Live,
            heard_ms_ago: 3,
        });
        let expected = json!({"type": "stats", "bytes_up": 1, "bytes_down": 2, "link": "live", "heard_ms_ago": 3});
        assert_eq!(serde_json::to_value(&stats).expect("plain data"), expected);
        assert_eq!(serde_json::from_value::<ServerMessage>(expected).expect("valid"), stats);
    }
}
