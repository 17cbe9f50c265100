//! Opens and closes tunnels as `tunnel/control` says, and sends the machine's frames.
//!
//! ```text
//!  open ─▶ refused ──▶ error
//!      ├─▶ started by an agent before this one ──▶ close
//!      └─▶ its task: note ─▶ start ─▶ opened ─▶ serve ─▶ close ─▶ forgotten
//!                        └─▶ error                   ▲
//!                             close, or the agent stops (hung up)
//! ```

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use quarterdeck_protocol::{
    ids::TunnelId,
    text,
    tunnel::{
        close::CloseCode,
        control::{Control, Target},
        frame::Frame,
        limits::STREAMS_MAX,
        stream::Closed,
    },
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{Duration, Instant, Sleep, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    BULK, TERMINAL,
    away::Away,
    exec::Exec,
    forward,
    mux::{Mux, Streams},
    policy::Policy,
    program,
    started::Started,
    terminal::Terminal,
};

/// Messages that may wait for the connection: few, or urgent ones wait behind bulk.
pub const OUTGOING_MAX: usize = 4;
/// Messages that may wait for the driver.
pub const INCOMING_MAX: usize = 64;
/// Tunnels that are over and whose reasons are remembered.
const ENDED_MAX: usize = 256;
/// How long sessions may take to end when the agent stops, in milliseconds.
const STOP_MS: u64 = 2_500;
/// How long the driver sleeps when nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// What comes from the connection; frames go to the [`Mux`] at once.
#[derive(Debug)]
pub enum Incoming {
    Up,
    /// `is_refused`: the broker does not let this device in.
    Down {
        is_refused: bool,
    },
    Control(Bytes),
}

/// What goes to it.
#[derive(Debug)]
pub enum Outgoing {
    Frame(Frame),
    Control(Control),
}

/// When the driver is to look again.
#[derive(Debug)]
struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    fn new() -> Self {
        Self(Box::pin(sleep(IDLE)))
    }

    /// Set for later than it is, it stays, and rings once for nothing: each setting is a system
    /// call, and with every key there would be four.
    fn set(&mut self, due: Option<Instant>) {
        let due = due.unwrap_or_else(|| Instant::now() + IDLE);
        if self.0.is_elapsed() || due < self.0.deadline() {
            self.0.as_mut().reset(due);
        }
    }

    async fn rung(&mut self) {
        self.0.as_mut().await;
    }
}

/// All tunnels of this device.
#[derive(Debug)]
pub struct Driver {
    policy: Arc<Policy>,
    started: Arc<Started>,
    mux: Arc<Mux>,
    outgoing: mpsc::Sender<Outgoing>,
    tunnels: HashMap<TunnelId, Open>,
    ended: VecDeque<(TunnelId, Closed)>,
    tasks: JoinSet<(TunnelId, Closed)>,
    /// Of which the server is to be told that they are there.
    owed: VecDeque<TunnelId>,
    is_up: bool,
    away: Away,
    alarm: Alarm,
}

#[derive(Debug)]
struct Open {
    handle: u32,
    hangup: Arc<Hangup>,
    opened: Opened,
}

/// Set when a tunnel is there: the port of a `tcp_listen`, nothing of others.
type Opened = Arc<OnceLock<Option<u16>>>;

impl Open {
    /// Says that it is there, once it is.
    fn word(&self, id: TunnelId) -> Option<Control> {
        let port = self.opened.get()?;
        Some(Control::opened(id, self.handle, *port))
    }
}

/// What is known of a tunnel that is asked for or after.
enum Standing {
    New,
    /// Its answer comes by itself.
    Preparing,
    Said(Control),
}

/// Ends a session from outside, with a reason.
#[derive(Debug, Default)]
struct Hangup {
    token: CancellationToken,
    reason: OnceLock<Closed>,
}

impl Hangup {
    fn hang_up(&self, closed: Closed) {
        // The first reason counts.
        let _ = self.reason.set(closed);
        self.token.cancel();
    }
}

/// Serves tunnels until `stop`, or until the connection's side is gone.
pub async fn run(
    mux: Arc<Mux>,
    policy: Policy,
    started: Started,
    mut incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::Sender<Outgoing>,
    stop: CancellationToken,
) {
    let mut driver = Driver {
        policy: Arc::new(policy),
        started: Arc::new(started),
        mux,
        outgoing,
        tunnels: HashMap::new(),
        ended: VecDeque::new(),
        tasks: JoinSet::new(),
        owed: VecDeque::new(),
        is_up: false,
        away: Away::default(),
        alarm: Alarm::new(),
    };
    loop {
        tokio::select! {
            is_open = driver.turn(&mut incoming) => if !is_open { break },
            () = stop.cancelled() => break,
        }
    }
    for open in driver.tunnels.values() {
        open.hangup.hang_up(Closed::new(CloseCode::AgentStopped, "the agent stops"));
    }
    let all_ended =
        async { while !driver.tunnels.is_empty() && driver.turn(&mut incoming).await {} };
    // What does not end in time ends with the agent.
    let _ = timeout(Duration::from_millis(STOP_MS), all_ended).await;
}

impl Driver {
    /// Lets one thing happen; `false` when the connection's side is gone.
    async fn turn(&mut self, incoming: &mut mpsc::Receiver<Incoming>) -> bool {
        let (due, is_full) = self.send();
        let end_at = self.end_unreachable();
        self.alarm.set(due.into_iter().chain(end_at).min());
        tokio::select! {
            message = incoming.recv() => match message {
                Some(message) => self.on_message(message),
                None => return false,
            },
            Some(ended) = self.tasks.join_next() => match ended {
                Ok((id, closed)) => self.on_ended(id, closed),
                Err(error) => tracing::error!(%error, "a tunnel's task failed"),
            },
            () = self.mux.woken(), if !is_full => {}
            () = self.alarm.rung(), if !is_full => {}
            has_room = has_room(&self.outgoing), if is_full => if !has_room { return false },
        }
        true
    }

    /// Sends while the connection takes it; says when there is more, and whether it is full.
    fn send(&mut self) -> (Option<Instant>, bool) {
        if !self.is_up {
            return (None, false);
        }
        loop {
            let Ok(permit) = self.outgoing.try_reserve() else { return (None, true) };
            if let Some(id) = self.owed.pop_front() {
                if let Some(word) = self.tunnels.get(&id).and_then(|open| open.word(id)) {
                    permit.send(Outgoing::Control(word));
                }
                continue;
            }
            let turn = self.mux.turn();
            match turn.frame {
                Some(frame) => permit.send(Outgoing::Frame(frame)),
                None => return (turn.due, false),
            }
        }
    }

    fn on_message(&mut self, message: Incoming) {
        match message {
            Incoming::Up => {
                tracing::debug!("connected for tunnels");
                self.is_up = true;
                self.away.on_up();
                // One may have ended there while we were away, with none to tell us.
                self.owed = self.tunnels.keys().copied().collect();
            }
            Incoming::Down { is_refused } => {
                self.is_up = false;
                self.away.on_down(is_refused, Instant::now());
            }
            Incoming::Control(bytes) => self.on_control(&bytes),
        }
    }

    /// Ends what nobody can reach any more; says when that is to be looked at again.
    fn end_unreachable(&self) -> Option<Instant> {
        let (at, closed) = self.away.end()?;
        if at > Instant::now() {
            return Some(at);
        }
        for open in self.tunnels.values() {
            open.hangup.hang_up(closed.clone());
        }
        None
    }

    fn on_control(&mut self, bytes: &[u8]) {
        match Control::parse(bytes) {
            Ok(Control::Open { tunnel_id, handle, user, target, .. }) => {
                self.on_open(tunnel_id, handle, &user, target);
            }
            Ok(Control::Close { tunnel_id, reason, message, .. }) => {
                if let Some(open) = self.tunnels.get(&tunnel_id) {
                    open.hangup.hang_up(Closed::new(reason, message));
                }
            }
            Ok(Control::Error { tunnel_id, code, .. }) => {
                if let Some(open) = self.tunnels.get(&tunnel_id) {
                    open.hangup.hang_up(Closed::new(code, "the server gave it up"));
                }
            }
            Ok(Control::Check { tunnel_id, .. }) => match self.standing(tunnel_id) {
                Standing::New => {
                    let why = "the agent does not know this tunnel";
                    self.say(Control::close(tunnel_id, CloseCode::Unknown, why));
                }
                Standing::Preparing => {}
                Standing::Said(word) => self.say(word),
            },
            // Our own word, if the broker sends it back.
            Ok(Control::Opened { .. }) => {}
            Err(error) => self.on_bad_control(bytes, &error.to_string()),
        }
    }

    fn on_bad_control(&self, bytes: &[u8], why: &str) {
        tracing::warn!(why = %text::line(why), "ignored a message on tunnel/control");
        let id = serde_json::from_slice::<serde_json::Value>(bytes)
            .ok()
            .filter(|message| message.get("type").is_some_and(|kind| kind == "open"))
            .and_then(|message| message.get("tunnel_id")?.as_str()?.parse().ok());
        if let Some(id) = id {
            self.say(Control::error(id, CloseCode::Protocol, why));
        }
    }

    /// How a tunnel stands, if it was asked for before.
    fn standing(&self, id: TunnelId) -> Standing {
        if let Some(open) = self.tunnels.get(&id) {
            return open.word(id).map_or(Standing::Preparing, Standing::Said);
        }
        if let Some((_, closed)) = self.ended.iter().find(|(ended, _)| *ended == id) {
            return Standing::Said(Control::close(id, closed.code, &closed.detail));
        }
        if self.started.was_before(id) {
            let why = "the agent began anew after it had started the program";
            return Standing::Said(Control::close(id, CloseCode::AgentRestarted, why));
        }
        Standing::New
    }

    fn on_open(&mut self, id: TunnelId, handle: u32, user: &str, target: Target) {
        match self.standing(id) {
            Standing::New => {}
            Standing::Preparing => return,
            Standing::Said(word) => return self.say(word),
        }
        if self.tunnels.len() >= self.policy.tunnels_max {
            let most = self.policy.tunnels_max;
            let why = format!("{most} tunnels are open, as many as this device's owner allows");
            return self.say(Control::error(id, CloseCode::Busy, &why));
        }
        let incoming = match target {
            Target::Terminal { .. } => TERMINAL,
            _ => BULK,
        };
        let Some(streams) = self.mux.add_tunnel(handle, incoming, STREAMS_MAX) else {
            let why = format!("the handle {handle} is in use");
            return self.say(Control::error(id, CloseCode::Protocol, &why));
        };
        tracing::info!(tunnel_id = %id, user = %text::line(user), target = ?kind(&target), "opening a tunnel");
        let hangup = Arc::new(Hangup::default());
        let opened = Opened::default();
        let open = Open { handle, hangup: Arc::clone(&hangup), opened: Arc::clone(&opened) };
        self.tunnels.insert(id, open);
        let session = Session {
            id,
            handle,
            policy: Arc::clone(&self.policy),
            started: Arc::clone(&self.started),
            mux: Arc::clone(&self.mux),
            outgoing: self.outgoing.clone(),
            hangup,
            opened,
        };
        self.tasks.spawn(async move { (id, session.run(target, streams).await) });
    }

    fn on_ended(&mut self, id: TunnelId, closed: Closed) {
        if let Some(open) = self.tunnels.remove(&id) {
            self.mux.remove_tunnel(open.handle);
        }
        tracing::info!(tunnel_id = %id, reason = %closed.code, detail = %text::line(&closed.detail), "a tunnel is over");
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((id, closed));
    }

    /// Says something at once, or not at all: whoever asked asks again.
    fn say(&self, control: Control) {
        if self.outgoing.try_send(Outgoing::Control(control)).is_err() {
            tracing::debug!("an answer on tunnel/control could not be sent");
        }
    }
}

/// Waits until the connection takes more; `false` when it never will.
async fn has_room(outgoing: &mpsc::Sender<Outgoing>) -> bool {
    outgoing.reserve().await.is_ok()
}

const fn kind(target: &Target) -> &'static str {
    match target {
        Target::Terminal { .. } => "terminal",
        Target::Exec { .. } => "exec",
        Target::Tcp { .. } => "tcp",
        Target::TcpListen { .. } => "tcp_listen",
    }
}

/// One tunnel's task.
#[derive(Debug)]
struct Session {
    id: TunnelId,
    handle: u32,
    policy: Arc<Policy>,
    started: Arc<Started>,
    mux: Arc<Mux>,
    outgoing: mpsc::Sender<Outgoing>,
    hangup: Arc<Hangup>,
    opened: Opened,
}

impl Session {
    /// Serves the tunnel, and says how it ended.
    async fn run(self, target: Target, streams: Streams) -> Closed {
        let (closed, last_word) = match self.serve(target, streams).await {
            Ok(closed) => {
                let closed = self.hangup.reason.get().cloned().unwrap_or(closed);
                let last = Control::close(self.id, closed.code, &closed.detail);
                (closed, last)
            }
            Err(refused) => {
                let last = Control::error(self.id, refused.code, &refused.detail);
                (refused, last)
            }
        };
        self.say(last_word).await;
        closed
    }

    async fn say(&self, control: Control) {
        // The connection's side is gone only when the agent stops.
        let _ = self.outgoing.send(Outgoing::Control(control)).await;
    }

    async fn opened(&self, port: Option<u16>) {
        // It is set once, here.
        let _ = self.opened.set(port);
        self.say(Control::opened(self.id, self.handle, port)).await;
    }

    /// Saved, then started: whatever happens, no program starts twice.
    async fn note(&self) -> Result<(), Closed> {
        self.started.note(self.id).await.map_err(|error| {
            let why = format!("cannot note on the device's disk that the program starts: {error}");
            Closed::new(CloseCode::LaunchFailed, why)
        })
    }

    /// `Err`: nothing was started.
    async fn serve(&self, target: Target, streams: Streams) -> Result<Closed, Closed> {
        let token = &self.hangup.token;
        match target {
            Target::Terminal { argv, size, term, env, user } => {
                let line = program::command_line(&self.policy, &argv, &env, user.as_deref())?;
                self.note().await?;
                let terminal = Terminal::spawn(&line, size, &term)?;
                self.opened(None).await;
                Ok(terminal.run(streams, token).await)
            }
            Target::Exec { argv, env, user } => {
                let line = program::command_line(&self.policy, &argv, &env, user.as_deref())?;
                self.note().await?;
                let exec = Exec::spawn(&line)?;
                self.opened(None).await;
                Ok(exec.run(&self.mux, self.handle, streams, token).await)
            }
            Target::Tcp { host, port } => {
                forward::resolve(&self.policy.connect, &host, port).await?;
                self.opened(None).await;
                let places = self.policy.connect.clone();
                Ok(until_hung_up(token, forward::connect_all(places, host, port, streams)).await)
            }
            Target::TcpListen { host, port } => {
                let addresses = forward::resolve(&self.policy.listen, &host, port).await?;
                let listener = TcpListener::bind(&addresses[..]).await.map_err(|error| {
                    let why = format!("cannot listen on {host}:{port}: {error}");
                    Closed::new(CloseCode::ConnectFailed, why)
                })?;
                self.opened(listener.local_addr().ok().map(|address| address.port())).await;
                let accepting = forward::accept_all(Arc::clone(&self.mux), self.handle, listener);
                Ok(until_hung_up(token, accepting).await)
            }
        }
    }
}

async fn until_hung_up(token: &CancellationToken, serving: impl Future<Output = Closed>) -> Closed {
    tokio::select! {
        closed = serving => closed,
        () = token.cancelled() => Closed::new(CloseCode::ClosedByUser, ""),
    }
}
