//! A console at the stream of a tunnel: the protocol's own machine over a WebSocket
//! that may break, and be made anew.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use quarterdeck_protocol::{
    api::{CreatedTunnel, Ticket, Tunnel},
    ids::TunnelId,
    tunnel::{
        Content, Gather, Item, StreamKey, Tick,
        close::CloseCode,
        endpoint::{Endpoint, EndpointConfig, Side},
        frame::{Body, Epoch, Frame},
        mark::{Exit, Mark},
        session::{ClientMessage, ServerMessage},
        stream::StreamConfig,
    },
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use crate::{
    api::Api,
    wait::{Look, in_time, wait_for},
};

/// The stream of a terminal's output, and of an exec's stdin and stdout.
pub const MAIN: u32 = 0;
/// How a console treats its streams.
const STREAM: StreamConfig = StreamConfig {
    is_urgent: false,
    window_bytes: 256 * 1024,
    buffer_bytes: 512 * 1024,
    waiting_bytes: 512 * 1024,
    gather: Gather { bytes: 0, wait_us: 0 },
    keep_alive_us: Some(1_000_000),
};
/// What is read at once, in bytes; of a terminal less, as a console does.
const READ_BUFFER_BYTES: usize = 32 * 1024;
const ECHO_BUFFER_BYTES: usize = 8 * 1024;
/// How long before a broken connection is made anew.
const RECONNECT: Duration = Duration::from_millis(50);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One console.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    api: Api,
    id: TunnelId,
    mode: &'static str,
    state: Mutex<State>,
    /// Something changed, for who waits.
    changed: Notify,
    /// The machine may have something to send.
    wake: Notify,
    began: Instant,
    says: mpsc::UnboundedSender<ClientMessage>,
}

#[derive(Debug)]
struct State {
    endpoint: Endpoint,
    handle: Option<u32>,
    /// What was attached to: stream and life.
    input: Option<(u32, u16)>,
    is_terminal: bool,
    /// Of a terminal: all that was shown, from `output_from` on, and the screen before it.
    output: Vec<u8>,
    at: Option<u64>,
    exit: Option<Exit>,
    marks: Vec<Mark>,
    snapshots: usize,
    /// Of all else: what came on each stream.
    streams: BTreeMap<u32, Received>,
    messages: Vec<ServerMessage>,
    attached: usize,
    closed: Option<(CloseCode, String)>,
    problem: Option<String>,
    /// Says nothing of what it has shown, like one that is stopped.
    is_stopped: bool,
}

/// What came on one stream.
#[derive(Debug, Clone, Default)]
pub struct Received {
    pub bytes: Vec<u8>,
    pub exit: Option<Exit>,
    pub is_ended: bool,
    pub closed: Option<CloseCode>,
}

/// Asks for a ticket.
pub async fn ticket(api: &Api, id: TunnelId, mode: &str) -> Result<String> {
    let body = json!({ "for": "tunnel", "tunnel_id": id, "mode": mode });
    Ok(api.post::<Ticket>("@/tickets", &body).await?.ticket)
}

/// Opens a socket with a ticket, or says with which status that was refused.
pub async fn open(api: &Api, id: TunnelId, ticket: &str, query: &str) -> Result<Socket, u16> {
    open_with(api, id, ticket, query, READ_BUFFER_BYTES).await
}

async fn open_with(
    api: &Api,
    id: TunnelId,
    ticket: &str,
    query: &str,
    read_buffer_bytes: usize,
) -> Result<Socket, u16> {
    let url = api.url(&format!("/tunnels/{id}/stream?ticket={ticket}{query}"));
    // As a console does: little is read at once, and there is no Nagle's wait, which would hold a key
    // behind an acknowledgement.
    let config = WebSocketConfig::default().read_buffer_size(read_buffer_bytes);
    let url = url.replacen("http", "ws", 1);
    match Box::pin(connect_async_with_config(url, Some(config), true)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(_) => Err(0),
    }
}

impl Console {
    /// Opens a tunnel and attaches as its owner, from its first byte on.
    pub async fn create(api: &Api, request: &Value) -> Result<(Tunnel, Self)> {
        let created: CreatedTunnel = api.post("@/tunnels", request).await?;
        let console = Self::take_up(api, &created.tunnel, created.ticket);
        Ok((created.tunnel, console))
    }

    /// Attaches with the ticket that a tunnel came with, from its first byte on.
    pub fn take_up(api: &Api, tunnel: &Tunnel, ticket: String) -> Self {
        let is_terminal = tunnel.kind.as_str() == "terminal";
        Self::with(api, tunnel, "owner", is_terminal.then_some(0), Some(ticket))
    }

    /// Attaches to a tunnel; a terminal begins with a snapshot.
    pub fn attach(api: &Api, tunnel: &Tunnel, mode: &'static str) -> Self {
        Self::with(api, tunnel, mode, None, None)
    }

    fn with(
        api: &Api,
        tunnel: &Tunnel,
        mode: &'static str,
        from: Option<u64>,
        ticket: Option<String>,
    ) -> Self {
        let (says, said) = mpsc::unbounded_channel();
        let is_terminal = tunnel.kind.as_str() == "terminal";
        let state = State {
            endpoint: Endpoint::new(Side::Near, EndpointConfig::default()),
            handle: None,
            input: None,
            is_terminal,
            output: Vec::new(),
            at: from,
            exit: None,
            marks: Vec::new(),
            snapshots: 0,
            streams: BTreeMap::new(),
            messages: Vec::new(),
            attached: 0,
            closed: None,
            problem: None,
            is_stopped: false,
        };
        let shared = Arc::new(Shared {
            api: api.clone(),
            id: tunnel.id,
            mode,
            state: Mutex::new(state),
            changed: Notify::new(),
            wake: Notify::new(),
            began: Instant::now(),
            says,
        });
        let task = tokio::spawn(run(Arc::clone(&shared), said, ticket));
        Self { shared, task }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// Waits until something is so; `what` it was waited for.
    async fn until<T>(&self, what: &str, look: impl Fn(&State) -> Option<T>) -> Result<T> {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let state = self.lock();
                    if let Some(found) = look(&state) {
                        return Ok(found);
                    }
                    if let Some(problem) = &state.problem {
                        bail!("waited for {what}: {problem}");
                    }
                    if let Some((code, detail)) = &state.closed {
                        // What comes last came before it.
                        bail!("waited for {what}: the tunnel is over: {code}: {detail}");
                    }
                }
                changed.await;
            }
        };
        in_time(what, waiting).await?
    }

    /// Waits until it is attached, for the `count`th time.
    pub async fn attached(&self, count: usize) -> Result<()> {
        self.until("the attachment", |state| (state.attached >= count).then_some(())).await
    }

    /// Types, or writes to an exec: all of it, waiting for room.
    pub async fn write(&self, bytes: impl Into<Vec<u8>>) -> Result<()> {
        self.attached(1).await?;
        let mut bytes = bytes.into().into();
        let writing = async {
            loop {
                {
                    let mut state = self.lock();
                    let key = state.input_key()?;
                    state.endpoint.write(key, &mut bytes).context("writing")?;
                    state.settle(self.shared.now());
                }
                self.shared.wake.notify_one();
                if bytes.is_empty() {
                    return anyhow::Ok(());
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        in_time("the bytes to be taken", writing).await?
    }

    /// Ends the input.
    pub fn finish(&self) -> Result<()> {
        let mut state = self.lock();
        let key = state.input_key()?;
        state.endpoint.finish(key)?;
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Opens one more stream: a connection of a forward.
    pub fn open_stream(&self) -> Result<u32> {
        let mut state = self.lock();
        let handle = state.handle.context("not attached")?;
        let key = state.endpoint.open(handle, STREAM, self.shared.now())?;
        state.streams.insert(key.stream, Received::default());
        drop(state);
        self.shared.wake.notify_one();
        Ok(key.stream)
    }

    /// Writes to a stream, and ends it.
    pub async fn write_stream(&self, stream: u32, bytes: impl Into<Vec<u8>>) -> Result<()> {
        let mut bytes = bytes.into().into();
        loop {
            {
                let mut state = self.lock();
                let key = StreamKey { tunnel: state.handle.context("not attached")?, stream };
                state.endpoint.write(key, &mut bytes).context("writing")?;
                state.settle(self.shared.now());
                if bytes.is_empty() {
                    state.endpoint.finish(key)?;
                    break;
                }
            }
            self.shared.wake.notify_one();
            sleep(Duration::from_millis(1)).await;
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Puts a mark into what it writes.
    pub fn mark(&self, mark: Mark) -> Result<()> {
        let mut state = self.lock();
        let key = state.input_key()?;
        state.endpoint.mark(key, mark).context("marking")?;
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }

    pub fn say(&self, message: ClientMessage) {
        // It is said when there is a connection.
        let _ = self.shared.says.send(message);
    }

    /// Shows nothing any more, or again.
    pub fn stop(&self, is_stopped: bool) {
        self.lock().is_stopped = is_stopped;
        self.shared.wake.notify_one();
    }

    /// All that a terminal has shown to this console.
    pub fn output(&self) -> Vec<u8> {
        self.lock().output.clone()
    }

    /// The marks in the output that was shown.
    pub fn marks(&self) -> Vec<Mark> {
        self.lock().marks.clone()
    }

    pub fn snapshots(&self) -> usize {
        self.lock().snapshots
    }

    /// Waits until a mark stands in the output.
    pub async fn marked(&self, mark: Mark) -> Result<()> {
        let what = format!("{mark:?} in the output");
        self.until(&what, |state| state.marks.contains(&mark).then_some(())).await
    }

    /// Waits until a terminal has shown a text, and gives all before and with it.
    pub async fn shows(&self, text: &str) -> Result<String> {
        self.until(&format!("{text:?} to be shown"), |state| {
            let shown = String::from_utf8_lossy(&state.output).into_owned();
            shown.contains(text).then_some(shown)
        })
        .await
    }

    /// Waits until so many bytes were shown.
    pub async fn shows_bytes(&self, count: usize) -> Result<()> {
        let what = format!("{count} bytes to be shown");
        self.until(&what, |state| (state.output.len() >= count).then_some(())).await
    }

    /// Waits for the end of one stream of an exec or a forward.
    pub async fn received(&self, stream: u32) -> Result<Received> {
        self.until("the end of a stream", |state| {
            let found = state.streams.get(&stream)?;
            (found.is_ended || found.closed.is_some()).then(|| found.clone())
        })
        .await
    }

    /// Waits for a message of the server.
    pub async fn hears(
        &self,
        what: &str,
        is_it: impl Fn(&ServerMessage) -> bool,
    ) -> Result<ServerMessage> {
        self.until(what, |state| state.messages.iter().find(|message| is_it(message)).cloned())
            .await
    }

    /// Waits for the tunnel's end.
    pub async fn closed(&self) -> Result<(CloseCode, String)> {
        self.until("the tunnel's end", |state| state.closed.clone()).await
    }

    /// How the program on a terminal ended.
    pub fn exit(&self) -> Option<Exit> {
        self.lock().exit
    }

    /// What the server said when it refused or ended the connection for good.
    pub async fn problem(&self) -> Result<String> {
        self.until("a refusal", |state| state.problem.clone()).await
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until the server says so of a tunnel.
pub async fn wait_tunnel(
    api: &Api,
    id: TunnelId,
    what: &str,
    is_it: impl Fn(&Tunnel) -> bool,
) -> Result<Tunnel> {
    let path = format!("@/tunnels/{id}");
    wait_for(&format!("tunnel {id} to be {what}"), || async {
        let tunnel: Tunnel = api.request(Method::GET, &path, &Value::Null).await?.read()?;
        Ok(if is_it(&tunnel) { Look::Ready(tunnel) } else { Look::not_yet(json!(tunnel)) })
    })
    .await
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Tick {
        Tick::from_us(self.began.elapsed().as_micros() as u64)
    }

    fn query(&self) -> String {
        let state = self.lock();
        let mut query = String::new();
        if let Some(at) = state.at {
            // Writing to a string cannot fail.
            let _ = write!(query, "&from={at}");
        }
        if let Some((stream, life)) = state.input {
            // Writing to a string cannot fail.
            let _ = write!(query, "&input_stream={stream}&input_life={life}");
        }
        query
    }
}

impl State {
    fn input_key(&self) -> Result<StreamKey> {
        let tunnel = self.handle.context("not attached")?;
        let (stream, _) = self.input.context("this console does not write")?;
        Ok(StreamKey { tunnel, stream })
    }

    fn on_message(&mut self, message: ServerMessage, now: Tick) -> Result<()> {
        match &message {
            ServerMessage::Attached {
                handle,
                input_stream,
                input_life,
                continues_input,
                continues_output,
                ..
            } => {
                if self.handle.is_none() {
                    self.endpoint.add_tunnel(*handle, STREAM);
                    self.handle = Some(*handle);
                }
                if !continues_output {
                    self.at = None;
                }
                let given = input_stream.zip(*input_life);
                if let Some((stream, life)) = given
                    && !continues_input
                {
                    anyhow::ensure!(self.input.is_none(), "the input did not go on");
                    let key = StreamKey { tunnel: *handle, stream };
                    self.endpoint.join(key, life, STREAM, now)?;
                    self.streams.insert(stream, Received::default());
                }
                self.input = given;
                self.endpoint.on_link_up(now);
                self.attached += 1;
            }
            ServerMessage::Snapshot { offset, .. } => {
                self.at = Some(*offset);
                self.snapshots += 1;
            }
            ServerMessage::Closed { reason, message } => {
                self.closed = Some((*reason, message.clone()));
            }
            _ => {}
        }
        self.messages.push(message);
        Ok(())
    }

    fn on_frame(&mut self, frame: Frame, now: Tick) -> Result<()> {
        if !(self.is_terminal && frame.key.stream == MAIN) {
            self.endpoint.on_frame(frame, now);
            self.settle(now);
            return Ok(());
        }
        let at = self.at.context("output before its beginning")?;
        anyhow::ensure!(frame.offset == at, "output at {} where {at} is next", frame.offset);
        self.at = Some(at + frame.body.span());
        match frame.body {
            Body::Data(bytes) => self.output.extend_from_slice(&bytes),
            Body::Mark(mark) => {
                if let Mark::Exit(exit) = mark {
                    self.exit = Some(exit);
                }
                self.marks.push(mark);
            }
            other => bail!("output is data and marks, not {other:?}"),
        }
        Ok(())
    }

    /// Takes all that can be read.
    fn settle(&mut self, now: Tick) {
        while let Some((key, changes)) = self.endpoint.poll_change() {
            let received = self.streams.entry(key.stream).or_default();
            while let Some((item, until)) = self.endpoint.read(key, 64 * 1024, now) {
                match item {
                    Item::Content(Content::Bytes(bytes)) => {
                        received.bytes.extend_from_slice(&bytes);
                    }
                    Item::Content(Content::Mark(Mark::Exit(exit))) => received.exit = Some(exit),
                    Item::Content(Content::Mark(_)) => {}
                    Item::End => received.is_ended = true,
                }
                self.endpoint.make_safe(key, until, now);
            }
            if let Some(closed) = changes.closed {
                received.closed = Some(closed.code);
            }
        }
    }

    /// Says how far it has shown.
    fn shown(&self) -> Option<Frame> {
        let ack = self.at.filter(|_| self.is_terminal && !self.is_stopped)?;
        Some(Frame {
            key: StreamKey { tunnel: self.handle?, stream: MAIN },
            epoch: Epoch { from: 1, to: 1 },
            is_opening: false,
            wants_reply: false,
            has_taken_end: false,
            offset: 0,
            ack,
            credit: 0,
            body: Body::Ack { ranges: Vec::new() },
        })
    }
}

/// Keeps a connection until the tunnel is over.
async fn run(
    shared: Arc<Shared>,
    mut said: mpsc::UnboundedReceiver<ClientMessage>,
    mut first_ticket: Option<String>,
) {
    loop {
        let ticket = match first_ticket.take() {
            Some(ticket) => Ok(ticket),
            None => ticket(&shared.api, shared.id, shared.mode).await,
        };
        let opened = match ticket {
            Ok(ticket) => {
                let is_terminal = shared.lock().is_terminal;
                let room = if is_terminal { ECHO_BUFFER_BYTES } else { READ_BUFFER_BYTES };
                open_with(&shared.api, shared.id, &ticket, &shared.query(), room).await
            }
            Err(_) => Err(0),
        };
        match opened {
            Ok(socket) => {
                let served = serve(&shared, socket, &mut said).await;
                let mut state = shared.lock();
                state.endpoint.on_link_down();
                if let Err(error) = served {
                    state.problem = Some(format!("{error:#}"));
                }
            }
            // One that ended while this console was away says why in its row.
            Err(status) => {
                let over = over(&shared).await;
                let mut state = shared.lock();
                if over.is_none() && status == 409 {
                    state.problem = Some("409".to_owned());
                }
                state.closed = over;
            }
        }
        let is_over = {
            let state = shared.lock();
            state.closed.is_some() || state.problem.is_some()
        };
        shared.changed.notify_waiters();
        if is_over {
            return;
        }
        sleep(RECONNECT).await;
    }
}

/// How the tunnel ended, if the server says that it did.
async fn over(shared: &Shared) -> Option<(CloseCode, String)> {
    let path = format!("@/tunnels/{}", shared.id);
    let answer = shared.api.request(Method::GET, &path, &Value::Null).await.ok()?;
    let tunnel: Tunnel = answer.read().ok()?;
    let reason = tunnel.close_reason.filter(|_| tunnel.status.is_over())?;
    Some((reason, tunnel.close_message.unwrap_or_default()))
}

/// Serves one connection; an error is one of the protocol.
async fn serve(
    shared: &Shared,
    mut socket: Socket,
    said: &mut mpsc::UnboundedReceiver<ClientMessage>,
) -> Result<()> {
    let mut shown = None;
    loop {
        let (frames, due) = {
            let mut state = shared.lock();
            let now = shared.now();
            state.endpoint.on_time(now);
            let frame = state.endpoint.poll_transmit(now);
            state.settle(now);
            let due = state.endpoint.next_due(now).map(|due| due.us_since(now));
            let ack = state.shown().filter(|_| shown != state.at);
            if ack.is_some() {
                shown = state.at;
            }
            ([ack, frame], due)
        };
        let has_sent = frames.iter().any(Option::is_some);
        for frame in frames.into_iter().flatten() {
            if socket.send(Message::Binary(frame.to_bytes())).await.is_err() {
                return Ok(());
            }
        }
        if has_sent {
            continue;
        }
        let due = Instant::now() + Duration::from_micros(due.unwrap_or(1_000_000));
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let message: ServerMessage = serde_json::from_str(&text)?;
                    shared.lock().on_message(message, shared.now())?;
                }
                Some(Ok(Message::Binary(bytes))) => {
                    let frame = Frame::decode(bytes)?;
                    shared.lock().on_frame(frame, shared.now())?;
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(0, |frame| u16::from(frame.code));
                    let is_final = [1002, 4003, 4009].contains(&code);
                    // Answered, as all do: a server then knows that all was read.
                    let _ = socket.close(None).await;
                    anyhow::ensure!(!is_final, "the server closed with {code}");
                    return Ok(());
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return Ok(()),
            },
            Some(message) = said.recv() => {
                let text = serde_json::to_string(&message)?;
                if socket.send(Message::text(text)).await.is_err() {
                    return Ok(());
                }
            }
            () = shared.wake.notified() => continue,
            () = sleep_until(due) => continue,
        }
        shared.changed.notify_waiters();
    }
}
