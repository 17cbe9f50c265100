//! One live connection.
//!
//! ```text
//!   reader ──▶ bounded channel ──▶ this loop ──one message──▶ writer ──▶ socket
//!                                     ▲  └── made only when the writer is idle
//!        changes, the time, a right that ended, the server that stops
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    hash::RandomState,
    sync::Arc,
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use quarterdeck_protocol::{
    api::Role,
    limits::LIVE_WINDOWS_MAX,
    live::{ClientMessage, HEARTBEAT_INTERVAL_MS, ServerMessage, VERSION},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc},
    time::Instant,
};

use super::{
    Slot,
    incoming::{self, Unreadable},
    window::{Unwatchable, Watcher, Window},
};
use crate::{
    auth::tickets::Pass,
    engine::Changes,
    http::{App, extract::standing_now, websocket::close_code_of},
    store::query::ListError,
};

/// How often it is asked whether the session is live and the role the same, in milliseconds.
const RIGHTS_CHECK_MS: u64 = 2_000;
/// Messages of a console that may wait to be looked at.
const INCOMING_MAX_MESSAGES: usize = 32;
/// Answers other than windows that may wait to be sent; a console that asks for more is closed.
const ANSWERS_MAX_MESSAGES: usize = 64;
/// What may wait for the writer: the one message that is under way, and a goodbye.
const OUTGOING_MAX_MESSAGES: usize = 2;
/// How long saying goodbye may take, in milliseconds.
const CLOSE_TIMEOUT_MS: u64 = 2_000;
/// The longest reason of a close, in bytes (RFC 6455).
const CLOSE_REASON_MAX_BYTES: usize = 123;

/// Why a connection ends; said in its last message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Goodbye {
    close: u16,
    code: &'static str,
    detail: String,
}

impl Goodbye {
    fn new(close: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { close, code, detail: detail.into() }
    }
}

/// What came from the console.
enum Incoming {
    Message(ClientMessage),
    Refused { id: u32, is_subscribe: bool, detail: String },
    Bad(Goodbye),
    Gone,
}

/// Serves one connection until it ends.
pub async fn serve(app: Arc<App>, pass: Pass, role: Role, socket: WebSocket, slot: Slot) {
    let (sink, stream) = socket.split();
    let (heard_sender, heard) = mpsc::channel(INCOMING_MAX_MESSAGES);
    let (outgoing, outgoing_receiver) = mpsc::channel(OUTGOING_MAX_MESSAGES);
    let reader = tokio::spawn(read(stream, heard_sender));
    let writer = tokio::spawn(write(sink, outgoing_receiver));
    let changes = app.engine.changes();
    let watcher = Watcher { project: pass.project, caller: pass.caller, role };
    let connection = Connection {
        app,
        watcher,
        windows: BTreeMap::new(),
        answers: VecDeque::new(),
        hasher: RandomState::new(),
        heartbeat_at: Instant::now(),
        rights_at: Instant::now() + Duration::from_millis(RIGHTS_CHECK_MS),
    };
    connection.run(heard, changes, outgoing).await;
    reader.abort();
    // Ends by itself: what it was given last is the goodbye.
    let _ = tokio::time::timeout(Duration::from_millis(CLOSE_TIMEOUT_MS), writer).await;
    drop(slot);
}

struct Connection {
    app: Arc<App>,
    watcher: Watcher,
    windows: BTreeMap<u32, Window>,
    /// What was asked for and is not a window's: pongs and errors.
    answers: VecDeque<ServerMessage>,
    hasher: RandomState,
    heartbeat_at: Instant,
    rights_at: Instant,
}

impl Connection {
    async fn run(
        mut self,
        mut heard: mpsc::Receiver<Incoming>,
        mut changes: broadcast::Receiver<Changes>,
        outgoing: mpsc::Sender<Out>,
    ) {
        self.answers.push_back(self.hello());
        // Held by the message that is under way: the next one is made when it has left.
        let idle = Arc::new(Semaphore::new(1));
        let stopping = self.app.stopping.clone();
        let goodbye = loop {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    break Some(Goodbye::new(close_code::AWAY, "stopping", "the server is stopping"));
                }
                () = tokio::time::sleep_until(self.rights_at) => {
                    if let Err(goodbye) = self.check_rights().await {
                        break Some(goodbye);
                    }
                }
                incoming = heard.recv() => match incoming {
                    Some(Incoming::Message(message)) => {
                        if let Err(goodbye) = self.obey(message) {
                            break Some(goodbye);
                        }
                    }
                    Some(Incoming::Refused { id, is_subscribe, detail }) => {
                        if is_subscribe {
                            // The one in its place was to be replaced.
                            self.windows.remove(&id);
                        }
                        if let Err(goodbye) = self.answer(refusal(id, "invalid", detail)) {
                            break Some(goodbye);
                        }
                    }
                    Some(Incoming::Bad(goodbye)) => break Some(goodbye),
                    Some(Incoming::Gone) | None => break None,
                },
                permit = Arc::clone(&idle).acquire_owned(), if self.has_work(wake_at) => {
                    let permit = permit.expect("the semaphore is never closed");
                    if let Some(message) = self.next_message().await {
                        self.heartbeat_at = Instant::now() + Duration::from_millis(HEARTBEAT_INTERVAL_MS);
                        if outgoing.send(Out::Message(message, permit)).await.is_err() {
                            break None;
                        }
                    }
                }
                change = changes.recv() => match change {
                    Ok(changes) => self.hear(&changes),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.mark_all_dirty(),
                    Err(broadcast::error::RecvError::Closed) => break None,
                },
                () = tokio::time::sleep_until(wake_at), if !self.has_work(wake_at) => {}
            }
        };
        if let Some(goodbye) = goodbye {
            let limit = Duration::from_millis(CLOSE_TIMEOUT_MS);
            let _ = outgoing.send_timeout(Out::Goodbye(goodbye), limit).await;
        }
    }

    fn hello(&self) -> ServerMessage {
        ServerMessage::Hello {
            version: VERSION,
            project: self.watcher.project.clone(),
            username: self.watcher.caller.name.clone(),
            role: self.watcher.role,
            admin: self.watcher.caller.is_server_admin(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            at: self.app.clock.wall(),
        }
    }

    /// When there is something to do next.
    fn wake_at(&self) -> Instant {
        self.windows
            .values()
            .map(Window::due_at)
            .min()
            .map_or(self.heartbeat_at, |at| at.min(self.heartbeat_at))
    }

    fn has_work(&self, wake_at: Instant) -> bool {
        !self.answers.is_empty() || wake_at <= Instant::now()
    }

    async fn next_message(&mut self) -> Option<ServerMessage> {
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        let now = Instant::now();
        // The one that has waited longest; each refresh makes its window wait again.
        let due = self
            .windows
            .values_mut()
            .filter(|window| window.due_at() <= now)
            .min_by_key(|w| w.due_at());
        if let Some(window) = due {
            match window.refresh(&self.app, &self.watcher, &self.hasher).await {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(ListError::Invalid(invalid)) => {
                    let id = window.id;
                    self.windows.remove(&id);
                    return Some(refusal(id, "invalid", invalid.to_string()));
                }
                Err(ListError::Store(error)) => {
                    // Read again after its rest; until then the console sees the age of what it has.
                    tracing::warn!(%error, "a live window could not be read");
                    window.mark_dirty();
                }
            }
        }
        let is_heartbeat_due = self.heartbeat_at <= Instant::now();
        is_heartbeat_due.then(|| ServerMessage::Heartbeat { at: self.app.clock.wall() })
    }

    fn obey(&mut self, message: ClientMessage) -> Result<(), Goodbye> {
        match message {
            ClientMessage::Subscribe { id, listing, filter, sort, range } => {
                let is_full =
                    self.windows.len() >= LIVE_WINDOWS_MAX && !self.windows.contains_key(&id);
                if is_full {
                    let detail = format!("at most {LIVE_WINDOWS_MAX} windows; close one first");
                    return self.answer(refusal(id, "too_many_windows", detail));
                }
                match Window::new(&self.watcher, id, listing, filter, sort, range) {
                    Ok(window) => {
                        self.windows.insert(id, window);
                        Ok(())
                    }
                    Err(Unwatchable { code, detail }) => {
                        self.windows.remove(&id);
                        self.answer(refusal(id, code, detail))
                    }
                }
            }
            ClientMessage::Window { id, range } => match self.windows.get_mut(&id) {
                None => {
                    self.answer(refusal(id, "unknown_window", "there is no such window".to_owned()))
                }
                Some(window) => match window.shift(range) {
                    Ok(()) => Ok(()),
                    Err(Unwatchable { code, detail }) => self.answer(refusal(id, code, detail)),
                },
            },
            ClientMessage::Unsubscribe { id } => {
                self.windows.remove(&id);
                Ok(())
            }
            ClientMessage::Ping { nonce } => self.answer(ServerMessage::Pong { nonce }),
        }
    }

    fn answer(&mut self, message: ServerMessage) -> Result<(), Goodbye> {
        if self.answers.len() >= ANSWERS_MAX_MESSAGES {
            return Err(Goodbye::new(
                close_code::POLICY,
                "too_fast",
                "answers are not taken as fast as they are asked for",
            ));
        }
        self.answers.push_back(message);
        Ok(())
    }

    fn hear(&mut self, changes: &Changes) {
        if changes.is_empty() {
            return self.mark_all_dirty();
        }
        for change in changes.iter() {
            for window in self.windows.values_mut() {
                window.hear(change, &self.watcher.project);
            }
        }
    }

    fn mark_all_dirty(&mut self) {
        self.windows.values_mut().for_each(Window::mark_dirty);
    }

    async fn check_rights(&mut self) -> Result<(), Goodbye> {
        self.rights_at = Instant::now() + Duration::from_millis(RIGHTS_CHECK_MS);
        let Watcher { project, caller, role } = &self.watcher;
        match standing_now(&self.app, caller, project).await {
            Ok(Some(now))
                if now.role == *role && now.is_server_admin == caller.is_server_admin() =>
            {
                Ok(())
            }
            Ok(Some(_)) => Err(Goodbye::new(
                close_code::POLICY,
                "role_changed",
                "your role has changed; connect again",
            )),
            Ok(None) => Err(Goodbye::new(
                close_code::POLICY,
                "not_found",
                "you are no member of this project any more",
            )),
            Err(error) if error.status.is_client_error() => {
                Err(Goodbye::new(close_code::POLICY, error.code, error.detail))
            }
            // The store does not answer: asked again soon, and nothing is sent from it meanwhile either.
            Err(_) => Ok(()),
        }
    }
}

fn refusal(id: u32, code: &str, detail: String) -> ServerMessage {
    ServerMessage::Error { id: Some(id), code: code.to_owned(), detail }
}

async fn read(mut stream: SplitStream<WebSocket>, heard: mpsc::Sender<Incoming>) {
    loop {
        let incoming = match stream.next().await {
            Some(Ok(Message::Text(text))) => match incoming::read(&text) {
                Ok(message) => Incoming::Message(message),
                Err(Unreadable::Of { id, is_subscribe, detail }) => {
                    Incoming::Refused { id, is_subscribe, detail }
                }
                Err(Unreadable::Whole(detail)) => {
                    Incoming::Bad(Goodbye::new(close_code::POLICY, "malformed_message", detail))
                }
            },
            Some(Ok(Message::Binary(_))) => Incoming::Bad(Goodbye::new(
                close_code::UNSUPPORTED,
                "malformed_message",
                "expected text",
            )),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_))) | None => Incoming::Gone,
            Some(Err(error)) => of_error(&error),
        };
        let is_last = !matches!(incoming, Incoming::Message(_) | Incoming::Refused { .. });
        if heard.send(incoming).await.is_err() || is_last {
            return;
        }
    }
}

fn of_error(error: &axum::Error) -> Incoming {
    let Some(close) = close_code_of(error) else { return Incoming::Gone };
    let code = if close == close_code::SIZE { "too_large" } else { "malformed_message" };
    Incoming::Bad(Goodbye::new(close, code, error.to_string()))
}

/// What the writer is given.
enum Out {
    Message(ServerMessage, OwnedSemaphorePermit),
    Goodbye(Goodbye),
}

async fn write(mut sink: SplitSink<WebSocket, Message>, mut outgoing: mpsc::Receiver<Out>) {
    loop {
        let Some(out) = outgoing.recv().await else {
            let _ = sink.close().await;
            return;
        };
        match out {
            Out::Message(message, permit) => {
                let Some(text) = encoded(&message) else { continue };
                if sink.send(text).await.is_err() {
                    return;
                }
                drop(permit);
            }
            Out::Goodbye(Goodbye { close, code, detail }) => {
                let last = ServerMessage::Error {
                    id: None,
                    code: code.to_owned(),
                    detail: detail.clone(),
                };
                if let Some(text) = encoded(&last) {
                    let _ = sink.send(text).await;
                }
                let reason = Utf8Bytes::from(cut(&detail));
                let _ = sink.send(Message::Close(Some(CloseFrame { code: close, reason }))).await;
                return;
            }
        }
    }
}

fn encoded(message: &ServerMessage) -> Option<Message> {
    match serde_json::to_string(message) {
        Ok(text) => Some(Message::Text(text.into())),
        Err(error) => {
            tracing::error!(%error, "a live message could not be written");
            None
        }
    }
}

fn cut(reason: &str) -> String {
    let mut end = reason.len().min(CLOSE_REASON_MAX_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}
