//! One WebSocket of `GET /projects/{p}/live`: opened, spoken, watched.
//!
//! ```text
//!  ticket ──▶ upgrade ──▶ open ── next()/send() ──▶ Ended(why)
//! ```
//!
//! Opened through the same HTTP client as everything else, so proxies,
//! certificate authorities and errors are the same. A connection that brings no
//! *byte* for [`SILENCE_MAX`] is over: the server speaks every second, and a big
//! snapshot on a slow line arrives byte by byte for longer than that.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use quarterdeck_protocol::{
    ids::ProjectId,
    live::{ClientMessage, ServerMessage},
};
use reqwest::{StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{client, client::Client, error::ApiError};

/// No byte for so long, and the connection is over.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long opening may take, ticket and upgrade each.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one message may take to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest message of a server, in bytes: a window of 500 rows has room.
const MESSAGE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// What may wait to be written, in bytes.
const WRITE_MAX_BYTES: usize = 1024 * 1024;

/// Why a live connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("no word from the server for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the server closed the connection{}", reason(.why))]
    Closed { why: String },
    #[error("the connection broke: {reason}")]
    Broken { reason: String },
    #[error(
        "the server speaks another language: {reason}; are its version and the console's the same?"
    )]
    Garbled { reason: String },
}

fn reason(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

/// An open live connection.
#[derive(Debug)]
pub struct Live {
    socket: WebSocketStream<Watched<reqwest::Upgraded>>,
    heard: Heard,
}

impl Live {
    /// Gets a ticket and opens the connection.
    pub async fn open(client: &Client, project: &ProjectId) -> Result<Self, ApiError> {
        let opening = async {
            let ticket = client.project(project).live_ticket().await?.ticket;
            upgrade(client, project, &ticket).await
        };
        tokio::time::timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
            Err(unreachable(client, format!("no connection within {} s", OPEN_TIMEOUT.as_secs())))
        })
    }

    /// Waits for the next message. Safe to drop half-way.
    pub async fn next(&mut self) -> Result<ServerMessage, Ended> {
        loop {
            let deadline = self.heard.last() + SILENCE_MAX;
            let frame = match tokio::time::timeout_at(deadline, self.socket.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(e))) => return Err(broken(&e)),
                Ok(None) => return Err(Ended::Closed { why: String::new() }),
                // Bytes of an unfinished message count too.
                Err(_) if self.heard.last() + SILENCE_MAX > deadline => continue,
                Err(_) => return Err(Ended::Silent),
            };
            match frame {
                Message::Text(text) => {
                    return serde_json::from_str(&text)
                        .map_err(|e| Ended::Garbled { reason: e.to_string() });
                }
                Message::Close(frame) => {
                    let why = frame.map(|f| f.reason.to_string()).unwrap_or_default();
                    return Err(Ended::Closed {
                        why: quarterdeck_protocol::text::line(&why).into_owned(),
                    });
                }
                Message::Binary(_) => {
                    return Err(Ended::Garbled { reason: "a binary message".to_owned() });
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<(), Ended> {
        let text = serde_json::to_string(message).expect("types of the protocol serialise");
        match tokio::time::timeout(SEND_TIMEOUT, self.socket.send(Message::text(text))).await {
            Ok(sent) => sent.map_err(|e| broken(&e)),
            Err(_) => Err(Ended::Silent),
        }
    }

    /// Says goodbye, if the other end still listens.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(300), self.socket.close(None)).await;
    }
}

async fn upgrade(client: &Client, project: &ProjectId, ticket: &str) -> Result<Live, ApiError> {
    let route = ["projects", project.as_str(), "live"];
    let call = format!("GET /api/v1/{}", route.join("/"));
    let url = client.server().route(&route).ok_or_else(|| ApiError::BadId(project.to_string()))?;
    let key = generate_key();
    let response = client
        .http1()?
        .get(url)
        .query(&[("ticket", ticket)])
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .send()
        .await
        .map_err(|e| unreachable(client, client::chain(&e.without_url())))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(client.unexpected(&call, &format!("status {}", response.status())));
    }
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepted.map(header::HeaderValue::as_bytes)
        != Some(derive_accept_key(key.as_bytes()).as_bytes())
    {
        return Err(client.unexpected(&call, "its WebSocket handshake is wrong"));
    }
    let stream = response
        .upgrade()
        .await
        .map_err(|e| unreachable(client, client::chain(&e.without_url())))?;
    let heard = Heard::new();
    let stream = Watched { stream, heard: heard.clone() };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX_BYTES))
        .max_frame_size(Some(MESSAGE_MAX_BYTES))
        .max_write_buffer_size(WRITE_MAX_BYTES);
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    Ok(Live { socket, heard })
}

fn unreachable(client: &Client, reason: String) -> ApiError {
    ApiError::Unreachable { server: client.server().to_string(), reason, may_be_done: false }
}

fn broken(error: &tungstenite::Error) -> Ended {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            Ended::Closed { why: String::new() }
        }
        other => Ended::Broken {
            reason: quarterdeck_protocol::text::line(&other.to_string()).into_owned(),
        },
    }
}

/// When the last byte came.
#[derive(Debug, Clone)]
struct Heard {
    opened: Instant,
    after_ms: Arc<AtomicU64>,
}

impl Heard {
    fn new() -> Self {
        Self { opened: Instant::now(), after_ms: Arc::new(AtomicU64::new(0)) }
    }

    fn note(&self) {
        let after = self.opened.elapsed().as_millis();
        self.after_ms.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.opened + Duration::from_millis(self.after_ms.load(Ordering::Relaxed))
    }
}

/// A stream that notes when bytes come.
#[derive(Debug)]
struct Watched<S> {
    stream: S,
    heard: Heard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.note();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
