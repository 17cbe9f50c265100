//! One WebSocket of `GET /projects/{p}/live`: opened, spoken, watched.
//!
//! ```text
//!  ticket ──▶ upgrade ──▶ open ── next()/send() ──▶ Ended(why)
//! ```

use std::time::Duration;

use futures_util::SinkExt as _;
use quarterdeck_protocol::{
    ids::ProjectId,
    live::{ClientMessage, ServerMessage},
};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use super::{
    client::Client,
    error::ApiError,
    websocket::{self, Heard, Socket},
};

pub use super::websocket::{Ended, SILENCE_MAX};

/// How long one message may take to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest message of a server, in bytes: a window of 500 rows has room.
const MESSAGE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// What may wait to be written, in bytes.
const WRITE_MAX_BYTES: usize = 1024 * 1024;

/// An open live connection.
#[derive(Debug)]
pub struct Live {
    socket: Socket,
    heard: Heard,
}

impl Live {
    /// Gets a ticket and opens the connection.
    pub async fn open(client: &Client, project: &ProjectId) -> Result<Self, ApiError> {
        let ticket = async { Ok(client.project(project).live_ticket().await?.ticket) };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_MAX_BYTES))
            .max_frame_size(Some(MESSAGE_MAX_BYTES))
            .max_write_buffer_size(WRITE_MAX_BYTES);
        let route = ["projects", project.as_str(), "live"];
        let (socket, heard) = websocket::open(client, &route, ticket, &[], config).await?;
        Ok(Self { socket, heard })
    }

    /// Waits for the next message. Safe to drop half-way.
    pub async fn next(&mut self) -> Result<ServerMessage, Ended> {
        match websocket::next(&mut self.socket, &self.heard).await? {
            Message::Text(text) => {
                serde_json::from_str(&text).map_err(|e| Ended::Garbled { reason: e.to_string() })
            }
            _ => Err(Ended::Garbled { reason: "a binary message".to_owned() }),
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<(), Ended> {
        let text = serde_json::to_string(message).expect("types of the protocol serialise");
        match tokio::time::timeout(SEND_TIMEOUT, self.socket.send(Message::text(text))).await {
            Ok(sent) => sent.map_err(|e| Ended::broken(&e)),
            Err(_) => Err(Ended::Silent),
        }
    }

    /// Says goodbye, if the other end still listens.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(300), self.socket.close(None)).await;
    }
}
