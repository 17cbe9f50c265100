//! The WebSocket of one console (`protocol::tunnel::session`).
//!
//! ```text
//!  socket ──▶ read:  frames ──▶ device        acks ──▶ terminal     words ──▶ session
//!  socket ◀── write: words, then frames of the device, then output
//! ```
//!
//! Reading and writing are tasks apart: a console that takes nothing can still
//! send ^C. Nothing queues up for it but a bounded number of words and frames;
//! output is taken from the terminal when the socket is ready for it.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code as ws_close_code};
use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use quarterdeck_protocol::tunnel::{
    Content, StreamKey,
    close::CloseCode,
    frame::{Body, Epoch, Frame},
    mark::Mark,
    session::{
        BEHIND_MAX_BYTES, CLIENT_MESSAGE_MAX_BYTES, ClientMessage, Mode, ServerMessage, close_code,
    },
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    limits::{CONSOLE_FRAME_MAX_BYTES, WORDS_MAX},
    relay::FRAMES_MAX,
    session::{Asked, Attach, Attached, NotAttached, Session},
    terminal::{Next, Terminal},
    way::OUTPUT,
};
use crate::{
    domain::tunnel::End,
    http::{
        App,
        extract::{Caller, role_now},
        problem::Error,
        tunnel_rights::role_to_attach,
        websocket::close_code_of,
    },
    store::audit::Actor,
};

/// How often it is asked whether the session is live and the role the same, in milliseconds.
const RIGHTS_CHECK_MS: u64 = 2_000;
/// How long saying goodbye may take, in milliseconds.
const CLOSE_TIMEOUT_MS: u64 = 2_000;

/// What the session's task tells a console.
#[derive(Debug)]
pub(super) enum Word {
    /// The tunnel is open.
    Start(Box<Start>),
    Say(ServerMessage),
    /// The tunnel is over.
    Over(End),
    /// Another console has its place.
    TakenOver,
}

/// How a console begins.
#[derive(Debug)]
pub(super) struct Start {
    pub attached: ServerMessage,
    /// Where its output goes on; a snapshot when absent.
    pub from: Option<u64>,
}

/// A console that is attached, and not served yet.
#[derive(Debug)]
pub(crate) struct Console {
    session: Arc<Session>,
    attached: Attached,
    seat: Seat,
    mode: Mode,
    caller: Caller,
    words: mpsc::Receiver<Word>,
    /// For answers to the console itself.
    own_words: mpsc::Sender<Word>,
    frames: mpsc::Receiver<Bytes>,
}

/// The place of a console at its tunnel; dropped, whether a socket was made or not, it is free.
#[derive(Debug)]
struct Seat {
    session: Arc<Session>,
    console: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (session, console) = (Arc::clone(&self.session), self.console);
        tokio::spawn(async move {
            // A tunnel that is over has forgotten it.
            let _ = session.ask(Asked::Detach { console }).await;
        });
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Goodbye {
    code: u16,
    reason: &'static str,
}

impl Goodbye {
    const fn protocol(reason: &'static str) -> Self {
        Self { code: close_code::PROTOCOL, reason }
    }

    const fn is_over(&self) -> bool {
        self.code == close_code::OVER
    }
}

/// How a console left.
#[derive(Debug)]
enum Left {
    Closed,
    /// Its connection broke.
    Lost,
    /// It is sent away, and is to be told so.
    Told(Goodbye),
}

const TOO_LARGE: Goodbye =
    Goodbye { code: ws_close_code::SIZE, reason: "a message longer than may be" };

/// What is said to who broke the protocol of WebSockets itself; nothing to who is gone.
fn of_error(error: &axum::Error) -> Option<Goodbye> {
    match close_code_of(error)? {
        ws_close_code::SIZE => Some(TOO_LARGE),
        code => Some(Goodbye { code, reason: "that is no message of a WebSocket" }),
    }
}

/// Attaches a console to a tunnel.
pub(crate) async fn attach(
    session: Arc<Session>,
    caller: Caller,
    mode: Mode,
    from: Option<u64>,
    input: Option<(u32, u16)>,
) -> Result<Console, NotAttached> {
    let (own_words, words) = mpsc::channel(WORDS_MAX);
    let (to_frames, frames) = mpsc::channel(FRAMES_MAX);
    let attach = Attach {
        actor: caller.actor(),
        mode,
        from,
        input,
        words: own_words.clone(),
        frames: to_frames,
    };
    let attached = session.attach(attach).await?;
    let seat = Seat { session: Arc::clone(&session), console: attached.console };
    Ok(Console { session, attached, seat, mode, caller, words, own_words, frames })
}

/// Tells a console that comes when the tunnel is over how it ended.
pub(crate) async fn farewell(mut socket: WebSocket, reason: CloseCode, message: String) {
    let closed = ServerMessage::Closed { reason, message };
    let text = serde_json::to_string(&closed).unwrap_or_default();
    let close = CloseFrame { code: close_code::OVER, reason: "the tunnel is over".into() };
    let said = async {
        socket.send(Message::Text(text.into())).await?;
        socket.send(Message::Close(Some(close))).await
    };
    // Gone or not: it is told if it can be.
    let _ = timeout(Duration::from_millis(CLOSE_TIMEOUT_MS), said).await;
}

impl Console {
    /// Serves it until the socket, the tunnel or the right ends.
    pub(crate) async fn serve(self, app: Arc<App>, socket: WebSocket) {
        let Self { session, attached, seat, mode, caller, words, own_words, frames } = self;
        metrics::gauge!("quarterdeck_tunnel_consoles").increment(1.0);
        let (sink, stream) = socket.split();
        let reader = Reader {
            session: Arc::clone(&session),
            attached,
            mode,
            actor: caller.actor(),
            words: own_words,
        };
        let (project, device) = (session.about.project.clone(), session.about.device.clone());
        let rights = async {
            loop {
                tokio::time::sleep(Duration::from_millis(RIGHTS_CHECK_MS)).await;
                let roles = async {
                    let mut tx = app.store.read().await?;
                    let needed = role_to_attach(&mut tx, &project, &device, mode).await?;
                    drop(tx);
                    Ok::<_, Error>((role_now(&app, &caller, &project).await?, needed))
                };
                let has_right = match roles.await {
                    Ok((role, needed)) => role.is_some_and(|role| role >= needed),
                    // The store may be slow: only a plain no is one.
                    Err(error) => error.status.as_u16() != 401,
                };
                if !has_right {
                    return Goodbye {
                        code: close_code::NOT_ALLOWED,
                        reason: "the right has ended",
                    };
                }
            }
        };
        let mut writer = Writer {
            console: attached.console,
            mode,
            session: Arc::clone(&session),
            sink,
            is_fed: false,
            at: None,
        };
        let mut leaving = pin!(async {
            tokio::select! {
                left = reader.run(stream) => left,
                goodbye = rights => Left::Told(goodbye),
                () = app.stopping.cancelled() => {
                    Left::Told(Goodbye { code: ws_close_code::AWAY, reason: "the server is stopping" })
                }
            }
        });
        // Side by side: a console that takes nothing can still send ^C.
        let goodbye = tokio::select! {
            biased;
            left = &mut leaving => Err(left),
            goodbye = Box::pin(writer.run(words, frames)) => Ok(goodbye),
        };
        match goodbye {
            Err(Left::Told(goodbye)) => writer.goodbye(Some(goodbye)).await,
            Err(Left::Closed | Left::Lost) => writer.goodbye(None).await,
            Ok(goodbye) => {
                let is_over = goodbye.as_ref().is_some_and(Goodbye::is_over);
                writer.goodbye(goodbye).await;
                // Its answer comes when it has read everything before.
                let answered = timeout(Duration::from_millis(CLOSE_TIMEOUT_MS), leaving);
                if is_over
                    && mode == Mode::Owner
                    && let Ok(Left::Closed) = answered.await
                    && let Some(terminal) = &session.terminal
                {
                    terminal.all_shown();
                }
            }
        }
        drop(seat);
        metrics::gauge!("quarterdeck_tunnel_consoles").decrement(1.0);
    }
}

// --- from the console -----------------------------------------------------------

struct Reader {
    session: Arc<Session>,
    attached: Attached,
    mode: Mode,
    /// Who it is, for the audit log.
    actor: Actor,
    words: mpsc::Sender<Word>,
}

impl Reader {
    /// Reads until the socket ends; says goodbye to who breaks the protocol.
    async fn run(self, mut stream: SplitStream<WebSocket>) -> Left {
        while let Some(message) = stream.next().await {
            let heard = match message {
                Ok(Message::Binary(bytes)) => self.on_frame(bytes),
                Ok(Message::Text(text)) => self.on_text(text.as_str()).await,
                Ok(Message::Close(_)) => return Left::Closed,
                Ok(Message::Ping(_) | Message::Pong(_)) => Ok(()),
                Err(error) => return of_error(&error).map_or(Left::Lost, Left::Told),
            };
            if let Err(goodbye) = heard {
                return Left::Told(goodbye);
            }
        }
        Left::Lost
    }

    fn on_frame(&self, bytes: Bytes) -> Result<(), Goodbye> {
        let frame =
            Frame::decode(bytes.clone()).map_err(|_| Goodbye::protocol("that is no frame"))?;
        let about = &self.session.about;
        if frame.key.tunnel != about.handle {
            return Err(Goodbye::protocol("a frame of another tunnel"));
        }
        if let Some(terminal) = &self.session.terminal {
            if frame.key.stream == OUTPUT {
                return self.on_shown(terminal, &frame);
            }
            if Some(frame.key.stream) != self.attached.input_stream {
                return Err(Goodbye::protocol("a frame of a stream that is not its own"));
            }
        }
        if self.mode == Mode::Watch {
            return Err(Goodbye::protocol("who watches does not write"));
        }
        if self.mode != Mode::Owner && matches!(frame.body, Body::Mark(Mark::Resize(_))) {
            return Err(Goodbye::protocol("only the owner resizes"));
        }
        if !self.is_recorded(&frame) {
            // Lost: what is typed reaches the device no sooner than the recording.
            metrics::counter!("quarterdeck_tunnel_lost_frames_total").increment(1);
            return Ok(());
        }
        if self.session.relay.up(&frame) {
            self.session.typed();
        }
        if self.session.way.pass_on(about.handle, bytes).is_err() {
            // Lost, as on any network; the stream sends it again.
            metrics::counter!("quarterdeck_tunnel_lost_frames_total").increment(1);
        }
        Ok(())
    }

    /// Records what a frame types, where that is asked for; `false` when that must wait.
    fn is_recorded(&self, frame: &Frame) -> bool {
        let terminal = self.session.terminal.as_ref().filter(|terminal| terminal.records_typed());
        let Some(terminal) = terminal else { return true };
        match self.session.relay.next_up(frame) {
            Some(new) => new.is_empty() || terminal.record_typed(&new),
            None => false,
        }
    }

    fn on_shown(&self, terminal: &Terminal, frame: &Frame) -> Result<(), Goodbye> {
        let Body::Ack { .. } = frame.body else {
            return Err(Goodbye::protocol("stream 0 of a terminal is its output"));
        };
        terminal.shown(self.attached.console, frame.ack);
        Ok(())
    }

    async fn on_text(&self, text: &str) -> Result<(), Goodbye> {
        if text.len() > CLIENT_MESSAGE_MAX_BYTES {
            return Err(TOO_LARGE);
        }
        let message: ClientMessage = serde_json::from_str(text)
            .map_err(|_| Goodbye::protocol("a message that cannot be read"))?;
        let (way, handle) = (&self.session.way, self.session.about.handle);
        match message {
            ClientMessage::Resize { size } => {
                self.needs_terminal()?;
                if self.mode != Mode::Owner {
                    return Err(Goodbye::protocol("only the owner resizes"));
                }
                way.mark(handle, Mark::Resize(size));
            }
            ClientMessage::Signal { signal } => {
                self.needs_terminal()?;
                if self.mode == Mode::Watch {
                    return Err(Goodbye::protocol("who watches sends no signals"));
                }
                way.mark(handle, Mark::Signal(signal));
            }
            ClientMessage::Detach => {
                return Err(Goodbye { code: close_code::OVER, reason: "detached" });
            }
            ClientMessage::Close => {
                if self.mode != Mode::Owner {
                    return Err(Goodbye::protocol("only the owner closes the tunnel"));
                }
                let (done, _) = tokio::sync::oneshot::channel();
                let close = Asked::Close {
                    reason: CloseCode::ClosedByUser,
                    message: String::new(),
                    by: Some(self.actor.clone()),
                    done,
                };
                // One that is over is closed.
                let _ = self.session.ask(close).await;
            }
            ClientMessage::Ping { nonce } => {
                // Who asks faster than it reads is not answered.
                let _ = self.words.try_send(Word::Say(ServerMessage::Pong { nonce }));
            }
        }
        Ok(())
    }

    fn needs_terminal(&self) -> Result<(), Goodbye> {
        if self.session.is_terminal() {
            Ok(())
        } else {
            Err(Goodbye::protocol("only a terminal is resized and signalled so"))
        }
    }
}

// --- to the console -------------------------------------------------------------

struct Writer {
    console: u64,
    mode: Mode,
    session: Arc<Session>,
    sink: SplitSink<WebSocket, Message>,
    /// Something waits in the sink for what goes with it: an echo and the acknowledgement of its
    /// key come together, and are to be one packet.
    is_fed: bool,
    /// Of the output: what comes next; nothing before the start.
    at: Option<u64>,
}

/// The socket is gone.
#[derive(Debug)]
struct Gone;

impl Writer {
    /// Writes until the tunnel is over, the place is taken, or the socket is gone.
    async fn run(
        &mut self,
        mut words: mpsc::Receiver<Word>,
        mut frames: mpsc::Receiver<Bytes>,
    ) -> Option<Goodbye> {
        let terminal = self.session.terminal.clone();
        let mut grown = terminal.as_ref().map(|terminal| terminal.grown());
        let mut over: Option<End> = None;
        loop {
            let has_output = match (&terminal, self.at) {
                (Some(terminal), Some(at)) => at < terminal.end(),
                _ => false,
            };
            if let Some(end) = over.take_if(|_| !has_output) {
                let closed = ServerMessage::Closed { reason: end.reason, message: end.message };
                let _ = self.say(&closed).await;
                return Some(Goodbye { code: close_code::OVER, reason: "the tunnel is over" });
            }
            let done = tokio::select! {
                biased;
                word = words.recv() => match word {
                    Some(Word::Start(start)) => self.start(*start).await,
                    Some(Word::Say(message)) => self.say(&message).await,
                    Some(Word::Over(end)) => {
                        over = Some(end);
                        Ok(())
                    }
                    Some(Word::TakenOver) => {
                        let reason = "another console is the owner now";
                        return Some(Goodbye { code: close_code::TAKEN_OVER, reason });
                    }
                    None => return None,
                },
                Some(frame) = frames.recv() => self.send(Message::Binary(frame)).await,
                () = std::future::ready(()), if has_output => self.output().await,
                flushed = self.sink.flush(), if self.is_fed => {
                    self.is_fed = false;
                    flushed.map_err(|_| Gone)
                }
                () = changed(&mut grown), if !has_output && self.at.is_some() => Ok(()),
            };
            if done.is_err() {
                return None;
            }
        }
    }

    async fn goodbye(&mut self, goodbye: Option<Goodbye>) {
        let said = async {
            if let Some(Goodbye { code, reason }) = goodbye {
                let close = CloseFrame { code, reason: reason.into() };
                self.sink.send(Message::Close(Some(close))).await?;
            }
            // A peer's own close is answered by this.
            self.sink.close().await
        };
        // Gone or not: it is told if it can be.
        let _ = timeout(Duration::from_millis(CLOSE_TIMEOUT_MS), said).await;
    }

    async fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.is_fed = true;
        self.sink.feed(message).await.map_err(|_| Gone)
    }

    async fn say(&mut self, message: &ServerMessage) -> Result<(), Gone> {
        let text = serde_json::to_string(message).map_err(|_| Gone)?;
        self.send(Message::Text(text.into())).await
    }

    async fn start(&mut self, start: Start) -> Result<(), Gone> {
        self.say(&start.attached).await?;
        match start.from {
            Some(from) => {
                self.at = Some(from);
                Ok(())
            }
            None => self.snapshot().await,
        }
    }

    async fn snapshot(&mut self) -> Result<(), Gone> {
        let Some(terminal) = self.session.terminal.clone() else { return Ok(()) };
        let (end, message) = terminal.snapshot().await.map_err(|error| {
            tracing::warn!(tunnel_id = %self.session.about.id, %error, "no snapshot can be made");
            Gone
        })?;
        if self.mode == Mode::Owner {
            // What the screen shows is not waited for.
            terminal.set_owner(self.console, end);
        }
        self.at = Some(end);
        self.say(&message).await
    }

    /// Sends the next piece of output.
    async fn output(&mut self) -> Result<(), Gone> {
        let (Some(terminal), Some(at)) = (self.session.terminal.clone(), self.at) else {
            return Ok(());
        };
        let is_far_behind = terminal.end() - at > BEHIND_MAX_BYTES;
        if is_far_behind && self.mode != Mode::Owner {
            return self.snapshot().await;
        }
        let pieces = match terminal.next(self.console, at, CONSOLE_FRAME_MAX_BYTES) {
            Next::Wait => return Ok(()),
            Next::Gone => return self.snapshot().await,
            Next::Pieces(pieces) => pieces,
            Next::InLog => {
                match terminal.read_log(self.console, at, CONSOLE_FRAME_MAX_BYTES).await {
                    Ok(pieces) if !pieces.is_empty() => pieces,
                    // It went while it was looked for.
                    Ok(_) | Err(_) => return self.snapshot().await,
                }
            }
        };
        for message in self.messages(pieces) {
            self.send(message).await?;
        }
        Ok(())
    }

    /// Makes frames of pieces: bytes that lie together go together.
    fn messages(&mut self, pieces: Vec<(u64, Content)>) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut together = Together::default();
        let handle = self.session.about.handle;
        for (offset, content) in pieces {
            self.at = Some(offset + content.span());
            match content {
                Content::Bytes(bytes) => together.push(offset, bytes),
                Content::Mark(mark) => {
                    messages.extend(together.take().map(|(at, data)| frame(handle, at, data)));
                    messages.push(frame(handle, offset, Body::Mark(mark)));
                }
            }
        }
        messages.extend(together.take().map(|(at, data)| frame(handle, at, data)));
        messages
    }
}

/// Bytes that lie together; one piece alone is not copied.
#[derive(Debug, Default)]
struct Together {
    at: u64,
    pieces: Vec<Bytes>,
}

impl Together {
    fn push(&mut self, offset: u64, bytes: Bytes) {
        if self.pieces.is_empty() {
            self.at = offset;
        }
        self.pieces.push(bytes);
    }

    fn take(&mut self) -> Option<(u64, Body)> {
        let mut pieces = std::mem::take(&mut self.pieces);
        let bytes = match pieces.len() {
            0 => return None,
            1 => pieces.remove(0),
            _ => pieces.concat().into(),
        };
        Some((self.at, Body::Data(bytes)))
    }
}

fn frame(handle: u32, offset: u64, body: Body) -> Message {
    let frame = Frame {
        key: StreamKey { tunnel: handle, stream: OUTPUT },
        epoch: Epoch { from: 1, to: 1 },
        is_opening: false,
        wants_reply: false,
        has_taken_end: false,
        offset,
        ack: 0,
        credit: 0,
        body,
    };
    Message::Binary(frame.to_bytes())
}

async fn changed(grown: &mut Option<tokio::sync::watch::Receiver<u64>>) {
    match grown {
        // The terminal lives as long as its consoles.
        Some(grown) => drop(grown.changed().await),
        None => std::future::pending().await,
    }
}
