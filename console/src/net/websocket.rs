//! A WebSocket of the server: opened, and watched for silence.
//!
//! Opened through the same HTTP client as everything else, so proxies,
//! certificate authorities and errors are the same. A socket that brings no
//! *byte* for [`SILENCE_MAX`] is over: the server speaks every second, and a big
//! message on a slow line arrives byte by byte for longer than that.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use quarterdeck_protocol::text;
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
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use super::{
    call::Call,
    client::{self, Client},
    error::ApiError,
};

/// No byte for so long, and the connection is over.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long opening may take, ticket and upgrade each.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a WebSocket ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("no word from the server for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the server closed the connection{}", reason(.why))]
    Closed {
        /// The code of its close frame, if it sent one.
        code: Option<u16>,
        why: String,
    },
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

impl Ended {
    pub(super) fn broken(error: &tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::Closed { code: None, why: String::new() }
            }
            other => Self::Broken { reason: text::line(&other.to_string()).into_owned() },
        }
    }

    pub(super) fn closed(frame: Option<&CloseFrame>) -> Self {
        let why = frame.map(|frame| text::line(&frame.reason).into_owned()).unwrap_or_default();
        Self::Closed { code: frame.map(|frame| frame.code.into()), why }
    }
}

/// The connection below, and when it was heard last.
pub(super) type Socket = WebSocketStream<Watched<reqwest::Upgraded>>;

/// Opens a WebSocket with the ticket that `ticket` gets.
pub(super) async fn open(
    client: &Client,
    route: &[&str],
    ticket: impl Future<Output = Result<String, ApiError>>,
    query: &[(&str, String)],
    config: WebSocketConfig,
) -> Result<(Socket, Heard), ApiError> {
    let opening = async {
        let ticket = ticket.await?;
        upgrade(client, route, &ticket, query, config).await
    };
    tokio::time::timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
        Err(unreachable(client, format!("no connection within {} s", OPEN_TIMEOUT.as_secs())))
    })
}

async fn upgrade(
    client: &Client,
    route: &[&str],
    ticket: &str,
    query: &[(&str, String)],
    config: WebSocketConfig,
) -> Result<(Socket, Heard), ApiError> {
    let call = Call::get(route);
    let bad_id = || ApiError::BadId(route.join("/"));
    let url = client.server().route(route).ok_or_else(bad_id)?;
    let key = generate_key();
    let response = client
        .http1()?
        .get(url)
        .query(&[("ticket", ticket)])
        .query(query)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .send()
        .await
        .map_err(|e| unreachable(client, client::chain(&e.without_url())))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(client.refusal(&call, response).await);
    }
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepted.map(header::HeaderValue::as_bytes)
        != Some(derive_accept_key(key.as_bytes()).as_bytes())
    {
        return Err(client.unexpected(&call.name(), "its WebSocket handshake is wrong"));
    }
    let stream = response
        .upgrade()
        .await
        .map_err(|e| unreachable(client, client::chain(&e.without_url())))?;
    let heard = Heard::new();
    let stream = Watched { stream, heard: heard.clone() };
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    Ok((socket, heard))
}

fn unreachable(client: &Client, reason: String) -> ApiError {
    ApiError::Unreachable { server: client.server().to_string(), reason, may_be_done: false }
}

/// Waits for the next text or binary message. Safe to drop half-way.
pub(super) async fn next<S>(socket: &mut S, heard: &Heard) -> Result<Message, Ended>
where
    S: Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    // Before this call nobody listened: that was not the server's silence.
    let began = Instant::now();
    loop {
        let deadline = heard.last().max(began) + SILENCE_MAX;
        let message = match tokio::time::timeout_at(deadline, socket.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(e))) => return Err(Ended::broken(&e)),
            Ok(None) => return Err(Ended::Closed { code: None, why: String::new() }),
            // Bytes of an unfinished message count too.
            Err(_) if heard.last() + SILENCE_MAX > deadline => continue,
            Err(_) => return Err(Ended::Silent),
        };
        match message {
            Message::Text(_) | Message::Binary(_) => return Ok(message),
            Message::Close(frame) => return Err(Ended::closed(frame.as_ref())),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// When the last byte came.
#[derive(Debug, Clone)]
pub(super) struct Heard {
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
pub(super) struct Watched<S> {
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
