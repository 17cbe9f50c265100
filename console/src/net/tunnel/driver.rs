//! Keeps a tunnel's WebSocket up, and moves messages between it and the machine.
//!
//! ```text
//!  ticket ─▶ upgrade ─▶ passing ── broke ──▶ full jitter ─▶ ticket …
//!     │                    └── closed, detached, taken over ─▶ ended
//!     └── refused: what does the row say? over ─▶ ended · else ─▶ refused
//! ```
//!
//! A new ticket for each attempt. It gives up only when the tunnel is over or
//! when this console may not have it: how long a tunnel waits for its console is
//! the server's business.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use quarterdeck_protocol::{
    ids::{ProjectId, TunnelId},
    tunnel::{
        close::CloseCode,
        session::{ClientMessage, Mode, close_code},
        stream::Closed,
    },
};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use super::{
    Ended,
    machine::{Leaving, Machine, Outgoing},
    shared::Shared,
};
use crate::net::{
    client::Client,
    clock,
    error::ApiError,
    websocket::{self, Heard, Socket},
};

/// The longest message of a server, in bytes: a snapshot in Base64 has room.
const MESSAGE_MAX_BYTES: usize = 1024 * 1024;
/// What is read at once, in bytes; of a terminal less, for it is cleared before each read, and an
/// echo is not to wait for that.
const READ_BUFFER_BYTES: usize = 32 * 1024;
const ECHO_BUFFER_BYTES: usize = 8 * 1024;
/// Messages are gathered up to so many bytes before the kernel gets them; more
/// would stand before a key.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
const WRITE_MAX_BYTES: usize = 1024 * 1024;
/// The first attempt after a break comes within this.
const RETRY_BASE: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(10);
/// A connection that lived so long was a good one: the next pause is a short one again.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// How long `closed` may take after it was asked for.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How long a goodbye may take to leave.
const GOODBYE_WAIT: Duration = Duration::from_millis(500);

/// Whose tunnel it is, and how this console attaches to it.
#[derive(Debug)]
pub(super) struct Target {
    pub client: Client,
    pub project: ProjectId,
    pub id: TunnelId,
    pub mode: Mode,
    /// Of the answer that created it.
    pub ticket: Option<String>,
}

/// How a connection ended.
enum Passed {
    /// Nothing more comes.
    Over(Ended),
    /// Another one may go on.
    Broken(String),
}

/// Runs until the machine has ended.
pub(super) async fn run(shared: Arc<Shared>, mut target: Target) {
    let mut failures = 0;
    let ended = loop {
        let is_first_ticket = target.ticket.is_some();
        let opened = tokio::select! {
            opened = open(&shared, &mut target) => opened,
            how = until_leaving(&shared) => break leave_unattached(&target, how).await,
        };
        let why = match opened {
            Ok((socket, heard)) => {
                let since = Instant::now();
                shared.step(Machine::on_socket);
                match pass(&shared, socket, &heard).await {
                    Passed::Over(ended) => break ended,
                    Passed::Broken(why) => {
                        if since.elapsed() >= GOOD_AFTER {
                            failures = 0;
                        }
                        why
                    }
                }
            }
            // It was not used in time.
            Err(error) if is_first_ticket && error.status() == Some(401) => continue,
            Err(error) => match verdict(&target, error).await {
                Ok(ended) => break ended,
                Err(why) => why,
            },
        };
        tracing::debug!(%why, failures, tunnel_id = %target.id, "a tunnel's connection is lost");
        shared.step(|machine, now| machine.on_lost(why, now));
        let pause = clock::backoff(failures, RETRY_BASE, RETRY_CAP);
        failures = failures.saturating_add(1);
        tokio::select! {
            () = sleep(pause) => {}
            how = until_leaving(&shared) => break leave_unattached(&target, how).await,
        }
    };
    shared.step(|machine, _| machine.end(ended));
}

async fn open(shared: &Shared, target: &mut Target) -> Result<(Socket, Heard), ApiError> {
    let (come_back, is_terminal) =
        shared.look(|machine, _| (machine.come_back(), machine.is_terminal()));
    let mut query = Vec::new();
    if let Some(from) = come_back.from {
        query.push(("from", from.to_string()));
    }
    if let Some((stream, life)) = come_back.input {
        query.push(("input_stream", stream.to_string()));
        query.push(("input_life", life.to_string()));
    }
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX_BYTES))
        .max_frame_size(Some(MESSAGE_MAX_BYTES))
        .read_buffer_size(if is_terminal { ECHO_BUFFER_BYTES } else { READ_BUFFER_BYTES })
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_MAX_BYTES);
    let given = target.ticket.take();
    let (client, id) = (&target.client, target.id);
    let ticket = async {
        if let Some(ticket) = given {
            return Ok(ticket);
        }
        let project = client.project(&target.project);
        Ok(project.tunnel_ticket(id, target.mode).await?.ticket)
    };
    let id = id.to_string();
    websocket::open(client, &["tunnels", &id, "stream"], ticket, &query, config).await
}

/// Says what a refusal means: the end, or why to try again.
async fn verdict(target: &Target, error: ApiError) -> Result<Ended, String> {
    let is_final = match &error {
        ApiError::Refused(problem) => !matches!(problem.status, 408 | 429 | 500..),
        ApiError::Unreachable { .. } | ApiError::Unexpected { .. } => false,
        _ => true,
    };
    if !is_final {
        return Err(error.to_string());
    }
    match target.client.project(&target.project).tunnel(target.id).await {
        Ok(tunnel) if tunnel.status.is_over() => {
            let code = tunnel.close_reason.unwrap_or(CloseCode::Internal);
            let detail = tunnel.close_message.clone().unwrap_or_default();
            Ok(Ended::Closed(Closed::new(code, detail)))
        }
        Err(unknown) if unknown.is_network() => Err(unknown.to_string()),
        _ => Ok(Ended::Refused(error)),
    }
}

/// Waits until the owner wants to go.
async fn until_leaving(shared: &Shared) -> Leaving {
    shared.until_news(|machine, _| machine.leaving()).await
}

/// Takes leave without a connection.
async fn leave_unattached(target: &Target, how: Leaving) -> Ended {
    match how {
        Leaving::Detach => Ended::Detached,
        Leaving::Close => {
            match target.client.project(&target.project).close_tunnel(target.id).await {
                Ok(_) => Ended::Closed(Closed::new(CloseCode::ClosedByUser, "")),
                Err(error) => Ended::Refused(error),
            }
        }
    }
}

/// Moves messages both ways until the connection ends.
async fn pass(shared: &Shared, socket: Socket, heard: &Heard) -> Passed {
    let (mut sink, mut stream) = socket.split();
    let passed = tokio::select! {
        passed = read(shared, &mut stream, heard) => passed,
        passed = write(shared, &mut sink) => passed,
        () = close_is_overdue(shared) => {
            Passed::Over(Ended::Closed(Closed::new(CloseCode::ClosedByUser, "")))
        }
    };
    if matches!(passed, Passed::Over(_)) {
        // The other end may be gone already.
        let _ = timeout(GOODBYE_WAIT, sink.close()).await;
    }
    passed
}

async fn close_is_overdue(shared: &Shared) {
    let wants_close = |leaving| leaving == Some(Leaving::Close);
    shared.until_news(|machine, _| wants_close(machine.leaving()).then_some(())).await;
    sleep(CLOSE_WAIT).await;
}

async fn read(shared: &Shared, stream: &mut SplitStream<Socket>, heard: &Heard) -> Passed {
    loop {
        shared.has_room().await;
        let message = match websocket::next(stream, heard).await {
            Ok(message) => message,
            Err(ended) => return on_ended(&ended),
        };
        let taken = match message {
            Message::Binary(bytes) => shared.step(|machine, now| machine.on_frame(bytes, now)),
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(message) => shared.step(|machine, now| machine.on_text(message, now)),
                Err(error) => return garbled(&error),
            },
            _ => Ok(()),
        };
        if let Err(error) = taken {
            return garbled(&error);
        }
        if let Some(ended) = shared.look(|machine, _| machine.ended().cloned()) {
            return Passed::Over(ended);
        }
    }
}

fn garbled(reason: &dyn std::fmt::Display) -> Passed {
    let reason = quarterdeck_protocol::text::line(&reason.to_string()).into_owned();
    Passed::Broken(websocket::Ended::Garbled { reason }.to_string())
}

fn on_ended(ended: &websocket::Ended) -> Passed {
    let websocket::Ended::Closed { code: Some(code), why } = ended else {
        return Passed::Broken(ended.to_string());
    };
    let closed = |code| Passed::Over(Ended::Closed(Closed::new(code, why.clone())));
    match *code {
        close_code::PROTOCOL => closed(CloseCode::Protocol),
        close_code::NOT_ALLOWED => closed(CloseCode::NotAllowed),
        close_code::TAKEN_OVER => Passed::Over(Ended::TakenOver),
        // `closed` comes before it; without it the row says why.
        _ => Passed::Broken(ended.to_string()),
    }
}

async fn write(shared: &Shared, sink: &mut SplitSink<Socket, Message>) -> Passed {
    let mut frame = BytesMut::new();
    loop {
        let turn = shared.turn();
        let sent = match turn.message {
            Some(Outgoing::Text(ClientMessage::Detach)) => {
                let text = serde_json::to_string(&ClientMessage::Detach).expect("plain data");
                // Whether it hears that or not: we go.
                let _ = timeout(GOODBYE_WAIT, sink.send(Message::text(text))).await;
                return Passed::Over(Ended::Detached);
            }
            Some(Outgoing::Text(message)) => {
                let text = serde_json::to_string(&message).expect("plain data");
                sink.feed(Message::text(text)).await
            }
            Some(Outgoing::Frame(message)) => {
                message.encode(&mut frame);
                sink.feed(Message::binary(frame.split().freeze())).await
            }
            None => match sink.flush().await {
                Ok(()) => {
                    let due = turn.due.unwrap_or_else(|| Instant::now() + RETRY_CAP);
                    tokio::select! {
                        () = shared.woken() => {}
                        () = sleep_until(due) => {}
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = sent {
            return Passed::Broken(websocket::Ended::broken(&error).to_string());
        }
    }
}
