//! One tunnel: the task that owns its life (`domain/tunnel.rs`), and what others
//! may ask of it.
//!
//! ```text
//!  device's words, consoles, people, time ──▶ step ──▶ store ──▶ effects
//!  output ──▶ terminal's pump ──▶ its end ─────┘
//! ```
//!
//! Every change of status is stored before it is acted on or told. What goes
//! through the tunnel is not this task's business (`terminal`, `relay`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::{
    api::{AuditOutcome, RecordingStatus, TunnelKind, TunnelStatus},
    live::Listing,
    time::Timestamp,
    tunnel::{
        close::CloseCode,
        control::{Control, Target},
        mark::{Exit, Size},
        session::{LinkState, Mode, STATS_INTERVAL_MS, ServerMessage, Stats, VERSION, Watcher},
        stream::Changes,
    },
};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    console::{Start, Word},
    limits::{COPILOT_FLIGHT, OWNER_FLIGHT, WATCHERS_MAX},
    log::Log,
    relay::Relay,
    terminal::{Ended, Terminal, is_finished},
    way::{Route, Way},
};
use crate::{
    domain::tunnel::{Effect, Ends, Event, Session as Life, step},
    mqtt::link::AckHandle,
    store::{
        StoreError,
        audit::{Actor, NewEntry},
        recordings,
        tunnels::{self, Progress, Served, place},
    },
};

/// What may wait for a session's task.
const ASKED_MAX: usize = 64;
/// How often what goes through is stored, in milliseconds.
const PROGRESS_MS: u64 = 30_000;
/// How long consoles may take to show the rest of the output of a tunnel that is over, in milliseconds.
const FAREWELL_MS: u64 = 10_000;
/// How long before a change that could not be stored is tried again, in milliseconds.
const STORE_RETRY_MS: u64 = 1_000;

/// A tunnel that is served. What others have of it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) about: Served,
    pub(super) way: Arc<Way>,
    pub(super) relay: Relay,
    /// Of a terminal: where its output is.
    pub(super) terminal: Option<Arc<Terminal>>,
    asked: mpsc::Sender<Asked>,
    /// Since its task last looked: somebody typed; something came back.
    has_typed: AtomicBool,
    has_shown: AtomicBool,
}

/// What is asked of a session's task.
#[derive(Debug)]
pub(super) enum Asked {
    Device { control: Control, ack: AckHandle },
    Link { is_up: bool },
    Attach(Attach, oneshot::Sender<Result<Attached, NotAttached>>),
    Detach { console: u64 },
    Close { reason: CloseCode, message: String, by: Option<Actor>, done: oneshot::Sender<()> },
}

impl Asked {
    /// Answers what comes after the end.
    pub(super) fn dismiss(self) {
        match self {
            Self::Device { ack, .. } => ack.committed(),
            // Who asked may have gone.
            Self::Attach(_, answer) => drop(answer.send(Err(NotAttached::Over))),
            Self::Close { done, .. } => drop(done.send(())),
            Self::Link { .. } | Self::Detach { .. } => {}
        }
    }
}

/// A console that wants to attach.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) actor: Actor,
    pub(crate) mode: Mode,
    /// The output that it needs next, if it has all before.
    pub(crate) from: Option<u64>,
    /// The stream and life that it had.
    pub(crate) input: Option<(u32, u16)>,
    pub(super) words: mpsc::Sender<Word>,
    pub(super) frames: mpsc::Sender<Bytes>,
}

/// What an attached console has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attached {
    pub(super) console: u64,
    pub(super) input_stream: Option<u32>,
}

/// Says why a console cannot attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAttached {
    #[error("the tunnel is over")]
    Over,
    #[error("another console ran its streams, and what they have said is gone; open a new tunnel")]
    NotResumable,
    #[error("as many consoles as may be are attached")]
    Full,
    #[error("only terminals are watched and joined")]
    NotATerminal,
}

impl Session {
    /// Makes a session, and starts to serve it. `log` is of a terminal's.
    pub(super) fn start(
        shared: &Arc<Shared>,
        about: Served,
        way: Arc<Way>,
        output: Option<(Arc<Terminal>, Log)>,
    ) -> Arc<Self> {
        let (asked, questions) = mpsc::channel(ASKED_MAX);
        let relay = if about.life > 1 {
            Relay::counted(about.bytes_up, about.bytes_down)
        } else {
            Relay::default()
        };
        let (terminal, log) = output.unzip();
        let session = Arc::new(Self {
            about,
            way,
            relay,
            terminal,
            asked,
            has_typed: AtomicBool::new(false),
            has_shown: AtomicBool::new(false),
        });
        session.way.add(session.about.handle, Arc::clone(&session) as Arc<dyn Route>);
        let task = Task::new(Arc::clone(shared), Arc::clone(&session));
        shared.tasks.spawn(task.run(questions, log));
        session
    }

    /// Asks its task; when the tunnel is over, the question comes back.
    pub(super) async fn ask(&self, asked: Asked) -> Result<(), Asked> {
        self.asked.send(asked).await.map_err(|unasked| unasked.0)
    }

    /// Attaches a console.
    pub(crate) async fn attach(&self, attach: Attach) -> Result<Attached, NotAttached> {
        let (answer, answered) = oneshot::channel();
        self.ask(Asked::Attach(attach, answer)).await.map_err(|_| NotAttached::Over)?;
        answered.await.unwrap_or(Err(NotAttached::Over))
    }

    /// Ends the tunnel, and waits until that is stored.
    pub(crate) async fn close(&self, reason: CloseCode, message: String, by: Option<Actor>) {
        let (done, is_done) = oneshot::channel();
        if self.ask(Asked::Close { reason, message, by, done }).await.is_ok() {
            // One that ended by itself meanwhile is over as well.
            let _ = is_done.await;
        }
    }

    /// Takes note that somebody typed.
    pub(super) fn typed(&self) {
        self.has_typed.store(true, Ordering::Relaxed);
    }

    pub(super) const fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }
}

impl Route for Session {
    fn keeps_output(&self) -> bool {
        self.is_terminal()
    }

    fn on_output(&self, changes: Changes) {
        if let Some(terminal) = &self.terminal {
            terminal.on_changes(changes);
        }
    }

    fn on_frame(&self, stream: u32, frame: Bytes) {
        if self.relay.down(stream, frame) {
            self.has_shown.store(true, Ordering::Relaxed);
        }
    }
}

/// What a tunnel leads to, as the device is told.
pub(crate) fn target(about: &Served) -> Target {
    let request = &about.request;
    let (env, user) = (request.env.clone(), request.run_as.clone());
    match request.kind {
        TunnelKind::Terminal => Target::Terminal {
            argv: request.argv.clone(),
            size: size(about),
            term: term(about),
            env,
            user,
        },
        TunnelKind::Exec => Target::Exec { argv: request.argv.clone(), env, user },
        TunnelKind::Ssh | TunnelKind::PortForward => {
            let (host, port) = place(request).unwrap_or_default();
            if request.reverse {
                Target::TcpListen { host, port }
            } else {
                Target::Tcp { host, port }
            }
        }
    }
}

/// The size of a new terminal.
pub(super) fn size(about: &Served) -> Size {
    const COLS: u16 = 80;
    const ROWS: u16 = 24;
    let (cols, rows) = (about.request.cols.unwrap_or(COLS), about.request.rows.unwrap_or(ROWS));
    Size::new(cols, rows).or_else(|| Size::new(COLS, ROWS)).expect("not 0")
}

pub(super) fn term(about: &Served) -> String {
    about.request.term.clone().unwrap_or_else(|| "xterm-256color".to_owned())
}

/// An attached console.
#[derive(Debug)]
struct Console {
    id: u64,
    actor: Actor,
    mode: Mode,
    since: Timestamp,
    /// Which of the input lives it has.
    slot: Option<usize>,
    words: mpsc::Sender<Word>,
    /// What it is to be told when the tunnel is open.
    start: Option<Box<Start>>,
}

/// The task that owns a tunnel's life.
struct Task {
    shared: Arc<Shared>,
    session: Arc<Session>,
    life: Life,
    consoles: Vec<Console>,
    next_console: u64,
    input_lives: Vec<u16>,
    is_link_up: bool,
    is_stalled: bool,
    ended_by: Option<Actor>,
    /// Who waits for the end to be stored.
    closers: Vec<oneshot::Sender<()>>,
    listen_port: Option<u16>,
    /// What was counted when last stored.
    stored: Progress,
    stats_at: Instant,
    progress_at: Instant,
    shown_seen: Option<Instant>,
    active_at: Option<Timestamp>,
}

impl Task {
    fn new(shared: Arc<Shared>, session: Arc<Session>) -> Self {
        let about = &session.about;
        let (now_ms, limits) = (shared.clock.steady(), shared.settings.life);
        let ends = if session.is_terminal() { Ends::Here } else { Ends::InConsole };
        let life = if about.life > 1 {
            Life::resumed(ends, about.was_open, about.ends_due, now_ms)
        } else {
            Life::new(ends, now_ms, &limits)
        };
        Self {
            life,
            consoles: Vec::new(),
            next_console: 1,
            input_lives: about.input_lives.clone(),
            is_link_up: shared.is_up(&about.project, &about.device),
            is_stalled: false,
            ended_by: None,
            closers: Vec::new(),
            listen_port: None,
            stored: Progress::default(),
            stats_at: Instant::now() + Duration::from_millis(STATS_INTERVAL_MS),
            progress_at: Instant::now() + Duration::from_millis(PROGRESS_MS),
            shown_seen: None,
            active_at: None,
            session,
            shared,
        }
    }

    async fn run(mut self, mut questions: mpsc::Receiver<Asked>, log: Option<Log>) {
        let stop = CancellationToken::new();
        let mut pump = log.map(|log| self.pump(log, stop.clone()));
        if self.life.status() != TunnelStatus::Opening {
            self.reopen();
        }
        let stopping = self.shared.stopping.clone();
        let mut log = None;
        while self.life.end().is_none() {
            let now_ms = self.shared.clock.steady();
            let due_ms = self.life.due_ms(&self.shared.settings.life).unwrap_or(now_ms);
            let wait_ms = u64::try_from(due_ms - now_ms).unwrap_or(0);
            let next_at = self.stats_at.min(self.progress_at);
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                asked = questions.recv() => match asked {
                    Some(asked) => self.on_asked(asked).await,
                    None => break,
                },
                (ended, kept) = ended(&mut pump), if pump.is_some() => {
                    pump = None;
                    log = kept;
                    self.on_output_ended(ended).await;
                }
                () = self.shared.clock.sleep_ms(wait_ms) => self.on_time().await,
                () = sleep_until(next_at) => self.on_tick().await,
            }
        }
        if let Some(pump) = pump {
            stop.cancel();
            if let Ok((_, kept)) = pump.await {
                log = kept;
            }
        }
        if self.life.end().is_none() {
            // The server stops; the session goes on when it is back.
            self.store_progress().await;
            if let Some(mut log) = log {
                // What is not on the disk yet, the machine still has.
                let _ = tokio::task::spawn_blocking(move || log.sync()).await;
            }
            return;
        }
        self.bury(log, questions).await;
    }

    fn pump(&self, log: Log, stop: CancellationToken) -> JoinHandle<(Ended, Option<Log>)> {
        let terminal = self.session.terminal.clone();
        tokio::spawn(async move {
            match terminal {
                Some(terminal) => terminal.pump(log, &stop).await,
                None => (Ended::Stopped, Some(log)),
            }
        })
    }

    /// After a restart of this server: takes the streams up again, and asks whether it is still there.
    fn reopen(&self) {
        let Served { handle, life, id, .. } = &self.session.about;
        if let Some(terminal) = &self.session.terminal {
            self.session.way.resume_output(*handle, *life, terminal.end());
        }
        // An answer comes when the device is there; it is asked again when it is.
        let _ = self.session.way.say(&Control::check(*id));
    }

    // --- what happens -----------------------------------------------------------

    async fn on_asked(&mut self, asked: Asked) {
        match asked {
            Asked::Device { control, ack } => self.on_device(control, ack).await,
            Asked::Link { is_up } => {
                self.is_link_up = is_up;
                if is_up && self.life.status() != TunnelStatus::Opening {
                    // Perhaps its agent began anew.
                    let _ = self.session.way.say(&Control::check(self.session.about.id));
                    self.apply(Event::Heard).await;
                } else if !is_up {
                    self.apply(Event::Lost).await;
                }
            }
            Asked::Attach(attach, answer) => {
                let attached = self.attach(attach).await;
                // One whose socket broke meanwhile is detached by it.
                let _ = answer.send(attached);
            }
            Asked::Detach { console } => self.detach(console).await,
            Asked::Close { reason, message, by, done } => {
                self.ended_by = by;
                self.closers.push(done);
                self.apply(Event::Close { reason, message }).await;
            }
        }
    }

    async fn on_device(&mut self, control: Control, ack: AckHandle) {
        match control {
            Control::Opened { handle, port, .. } if handle == self.session.about.handle => {
                self.listen_port = port.or(self.listen_port);
                if self.life.status() == TunnelStatus::Opening {
                    if self.session.is_terminal() && !self.session.way.open_output(handle) {
                        let message = "this server has no room for one more terminal".to_owned();
                        self.apply(Event::Close { reason: CloseCode::Busy, message }).await;
                    } else {
                        self.apply(Event::Opened).await;
                    }
                }
                self.apply(Event::Heard).await;
            }
            Control::Error { code, message, .. } => {
                self.apply(Event::Ended { reason: code, message }).await;
            }
            Control::Close { reason, message, .. } => {
                // It does not know a tunnel that it opened: it began anew since.
                let reason = match reason {
                    CloseCode::Unknown => CloseCode::AgentRestarted,
                    reason => reason,
                };
                self.apply(Event::Ended { reason, message }).await;
            }
            Control::Opened { .. } | Control::Open { .. } | Control::Check { .. } => {}
        }
        ack.committed();
    }

    async fn on_output_ended(&mut self, ended: Ended) {
        let is_recorded = self.session.about.recording_id.is_some();
        let event = match ended {
            Ended::Stopped => return,
            Ended::Stream(closed) => {
                let exit = self.session.terminal.as_ref().and_then(|terminal| terminal.exit());
                let reason = match closed.code {
                    _ if is_finished(&closed, exit) => CloseCode::Finished,
                    CloseCode::Unknown => CloseCode::AgentRestarted,
                    code => code,
                };
                Event::Ended { reason, message: closed.detail }
            }
            Ended::Log { why, .. } if is_recorded => Event::Close {
                reason: CloseCode::RecordingFailed,
                message: format!("the recording cannot be written: {why}"),
            },
            Ended::Log { is_disk_full, why } => Event::Close {
                reason: if is_disk_full { CloseCode::DiskFull } else { CloseCode::Internal },
                message: format!("the session's log cannot be written: {why}"),
            },
        };
        self.apply(event).await;
    }

    async fn on_time(&mut self) {
        self.note_activity().await;
        self.apply(Event::Time).await;
    }

    async fn on_tick(&mut self) {
        let now = Instant::now();
        if self.stats_at <= now {
            self.stats_at = now + Duration::from_millis(STATS_INTERVAL_MS);
            self.note_activity().await;
            self.note_silence().await;
            if !self.consoles.is_empty() {
                let stats = ServerMessage::Stats(self.stats());
                self.tell_all(&stats);
            }
        }
        if self.progress_at <= now {
            self.progress_at = now + Duration::from_millis(PROGRESS_MS);
            self.store_progress().await;
        }
    }

    /// Tells the machine of what was typed and shown since it was last told.
    async fn note_activity(&mut self) {
        if self.session.has_typed.swap(false, Ordering::Relaxed) {
            self.active_at = Some(self.shared.clock.wall());
            self.apply(Event::Typed).await;
        }
        let shown = match &self.session.terminal {
            Some(terminal) => terminal.shown_at(),
            None => None,
        };
        let came = self.session.has_shown.swap(false, Ordering::Relaxed);
        if came || shown > self.shown_seen {
            self.shown_seen = shown;
            self.active_at = Some(self.shared.clock.wall());
            self.apply(Event::Shown).await;
        }
    }

    /// A device that is connected, as far as is known, and does not answer.
    async fn note_silence(&mut self) {
        let status = self.session.way.status(self.session.about.handle);
        let is_silent = status.is_some_and(|status| status.is_silent);
        if is_silent != self.is_stalled {
            self.is_stalled = is_silent;
            let event = if is_silent { Event::Lost } else { Event::Heard };
            self.apply(event).await;
        }
    }

    // --- steps ------------------------------------------------------------------

    /// Lets something happen: stored first, then done.
    async fn apply(&mut self, event: Event) {
        let now_ms = self.shared.clock.steady();
        let Ok(next) = step(&self.life, event, now_ms, &self.shared.settings.life) else { return };
        let before = self.life.status();
        self.life = next.next;
        let after = self.life.status();
        if before != after && !after.is_over() {
            self.store_status(after).await;
            if before == TunnelStatus::Opening {
                self.start_consoles();
            }
        }
        for effect in next.effects {
            self.act(effect);
        }
    }

    fn act(&mut self, effect: Effect) {
        let about = &self.session.about;
        match effect {
            Effect::Ask => {
                let open = Control::Open {
                    schema_version: quarterdeck_protocol::command::SCHEMA_VERSION.to_owned(),
                    tunnel_id: about.id,
                    handle: about.handle,
                    user: about.user.clone(),
                    target: target(about),
                };
                if let Err(error) = self.session.way.say(&open) {
                    tracing::debug!(tunnel_id = %about.id, %error, "a tunnel's opening is asked for again later");
                }
            }
            Effect::Tell => {
                if let Some(end) = self.life.end() {
                    let close = Control::close(about.id, end.reason, &end.message);
                    if self.session.way.say(&close).is_err() {
                        tracing::debug!(tunnel_id = %about.id, "the device is told when it is back");
                    }
                }
            }
            Effect::Warn { seconds } => self.tell_all(&ServerMessage::IdleWarning { seconds }),
        }
    }

    fn tell_all(&mut self, message: &ServerMessage) {
        for console in &self.consoles {
            if console.start.is_none() {
                // One that takes nothing misses a number; its socket ends it in time.
                let _ = console.words.try_send(Word::Say(message.clone()));
            }
        }
    }

    fn stats(&self) -> Stats {
        let (bytes_up, bytes_down) = self.counts();
        let status = self.session.way.status(self.session.about.handle);
        let link = match (self.is_link_up, self.is_stalled) {
            (false, _) => LinkState::Lost,
            (true, true) => LinkState::Stalled,
            (true, false) => LinkState::Live,
        };
        Stats {
            bytes_up,
            bytes_down,
            rtt_us: status.and_then(|status| status.rtt_us),
            link,
            heard_ms_ago: status.map_or(0, |status| self.session.way.heard_ms_ago(&status)),
        }
    }

    fn counts(&self) -> (u64, u64) {
        let (up, down) = self.session.relay.counts();
        let shown = self.session.terminal.as_ref().map_or(0, |terminal| terminal.end());
        (up, if self.session.is_terminal() { shown } else { down })
    }

    // --- consoles ---------------------------------------------------------------

    async fn attach(&mut self, attach: Attach) -> Result<Attached, NotAttached> {
        let Attach { actor, mode, from, input, words, frames } = attach;
        let is_terminal = self.session.is_terminal();
        if mode != Mode::Owner && !is_terminal {
            return Err(NotAttached::NotATerminal);
        }
        if mode != Mode::Owner && self.consoles.len() >= WATCHERS_MAX {
            return Err(NotAttached::Full);
        }
        let slot = match mode {
            Mode::Watch => None,
            Mode::Owner => Some(0),
            Mode::Copilot => Some(self.copilot_slot(&actor, input)),
        };
        let continues_input = slot.zip(input).is_some_and(|(slot, (stream, life))| {
            stream == self.stream_of(slot) && self.input_lives.get(slot) == Some(&life)
        });
        if !is_terminal && !continues_input && !self.input_lives.is_empty() {
            return Err(NotAttached::NotResumable);
        }
        // Who had the place before, a socket that broke unnoticed or another console, gives it up.
        if let Some(former) =
            slot.and_then(|slot| self.consoles.iter().find(|c| c.slot == Some(slot)))
        {
            let former_id = former.id;
            let _ = former.words.try_send(Word::TakenOver);
            self.forget(former_id).await;
        }
        let id = self.next_console;
        self.next_console += 1;
        if let Some(slot) = slot
            && !continues_input
        {
            if self.input_lives.len() <= slot {
                self.input_lives.resize(slot + 1, 0);
            }
            self.input_lives[slot] = self.input_lives[slot].saturating_add(1);
        }
        self.store_attach(&actor, mode).await;
        let input_stream = slot.map(|slot| self.stream_of(slot));
        if let Some(stream) = input_stream {
            self.session.relay.join(id, is_terminal.then_some(stream), frames);
        }
        let continues = from.filter(|from| {
            self.session.terminal.as_ref().is_some_and(|terminal| terminal.has(*from))
        });
        let flight = if mode == Mode::Owner { OWNER_FLIGHT } else { COPILOT_FLIGHT };
        let start = Start {
            attached: ServerMessage::Attached {
                version: VERSION,
                mode,
                handle: self.session.about.handle,
                input_stream,
                input_life: slot.and_then(|slot| self.input_lives.get(slot).copied()),
                continues_input,
                continues_output: continues.is_some(),
                flight_messages: flight.messages as u32,
                flight_bytes: flight.bytes as u32,
                is_recorded: self.session.about.recording_id.is_some(),
                at: self.shared.clock.wall(),
            },
            from: continues,
        };
        let since = self.shared.clock.wall();
        self.consoles.push(Console {
            id,
            actor,
            mode,
            since,
            slot,
            words,
            start: Some(Box::new(start)),
        });
        self.apply(Event::Attached).await;
        if self.life.status() != TunnelStatus::Opening {
            self.start_consoles();
        }
        Ok(Attached { console: id, input_stream })
    }

    /// The place of a co-pilot: the one it had, else the first that nobody has.
    fn copilot_slot(&self, actor: &Actor, input: Option<(u32, u16)>) -> usize {
        let had = input.and_then(|(stream, _)| {
            let slot = (stream as usize).checked_sub(1).filter(|slot| *slot > 0)?;
            let holder = self.consoles.iter().find(|console| console.slot == Some(slot));
            holder.is_none_or(|console| console.actor.name == actor.name).then_some(slot)
        });
        had.filter(|slot| *slot < self.input_lives.len()).unwrap_or_else(|| {
            let is_free = |slot: &usize| self.consoles.iter().all(|c| c.slot != Some(*slot));
            (1..=WATCHERS_MAX + 1).find(is_free).unwrap_or(WATCHERS_MAX + 1)
        })
    }

    /// A terminal's stream 0 is its output; all else begins with the console's own.
    fn stream_of(&self, slot: usize) -> u32 {
        if self.session.is_terminal() { slot as u32 + 1 } else { 0 }
    }

    /// Lets the consoles that waited for the device begin.
    fn start_consoles(&mut self) {
        for console in &mut self.consoles {
            let Some(start) = console.start.take() else { continue };
            if console.mode == Mode::Owner
                && let Some(terminal) = &self.session.terminal
            {
                terminal.set_owner(console.id, start.from.unwrap_or_else(|| terminal.end()));
            }
            // Its first word: there is room.
            let _ = console.words.try_send(Word::Start(start));
        }
        self.tell_watchers();
    }

    fn tell_watchers(&mut self) {
        let watchers = self
            .consoles
            .iter()
            .map(|console| Watcher {
                user: console.actor.name.clone(),
                mode: console.mode,
                since: console.since,
            })
            .collect();
        self.tell_all(&ServerMessage::Watchers { watchers });
    }

    async fn detach(&mut self, id: u64) {
        if self.consoles.iter().any(|console| console.id == id) {
            self.forget(id).await;
            self.tell_watchers();
            self.store_progress().await;
        }
    }

    async fn forget(&mut self, id: u64) {
        self.consoles.retain(|console| console.id != id);
        self.session.relay.leave(id);
        if let Some(terminal) = &self.session.terminal {
            terminal.drop_owner(id);
        }
        self.apply(Event::Detached).await;
    }

    // --- the store --------------------------------------------------------------

    async fn store_status(&self, status: TunnelStatus) {
        let (id, port) = (self.session.about.id, self.listen_port);
        let opened = (status == TunnelStatus::Open).then(|| (self.shared.clock.wall(), port));
        let stored = self.shared.store.write(move |tx| {
            Box::pin(async move { tunnels::set_status(tx, id, status, opened).await })
        });
        if let Ok(Err(error)) | Err(error) = stored.await {
            tracing::error!(tunnel_id = %id, %error, "where a tunnel stands could not be stored");
        }
        self.shared.changed(&self.session.about.project, Listing::Tunnels, &id.to_string());
    }

    async fn store_progress(&mut self) {
        let (bytes_up, bytes_down) = self.counts();
        let progress = Progress {
            attached: self.consoles.len() as u32,
            bytes_up,
            bytes_down,
            last_activity_at: self.active_at,
        };
        if progress == self.stored {
            return;
        }
        self.stored = progress.clone();
        let about = &self.session.about;
        let (id, recording) = (about.id, about.recording_id.clone());
        let stored = self.shared.store.write(move |tx| {
            Box::pin(async move {
                tunnels::set_progress(tx, id, &progress).await?;
                if let Some(recording) = recording {
                    recordings::set_bytes(tx, &recording, progress.bytes_down).await?;
                }
                Ok::<_, StoreError>(())
            })
        });
        if let Ok(Err(error)) | Err(error) = stored.await {
            tracing::warn!(tunnel_id = %id, %error, "what went through a tunnel could not be stored");
        }
        self.shared.changed(&about.project, Listing::Tunnels, &id.to_string());
    }

    async fn store_attach(&self, actor: &Actor, mode: Mode) {
        let Served { id, project, .. } = &self.session.about;
        let (id, project, actor) = (*id, project.clone(), actor.clone());
        let (auditor, at, lives) =
            (self.shared.auditor.clone(), self.shared.clock.wall(), self.input_lives.clone());
        let chain = project.clone();
        let stored = self.shared.store.write(move |tx| {
            Box::pin(async move {
                tunnels::set_input_lives(tx, id, &lives).await?;
                let entry = NewEntry {
                    project: &chain,
                    at,
                    actor: &actor,
                    action: "tunnel.attach",
                    object: format!("tunnel:{id}"),
                    outcome: AuditOutcome::Ok,
                    detail: json!({ "mode": mode }),
                };
                auditor.append(tx, entry).await
            })
        });
        match stored.await {
            Ok(Ok(_)) => self.shared.changed(&project, Listing::Audit, ""),
            Ok(Err(error)) | Err(error) => {
                tracing::error!(tunnel_id = %id, %error, "an attachment could not be recorded");
            }
        }
    }

    // --- the end ----------------------------------------------------------------

    /// Stores how the tunnel ended, tells the consoles, and forgets it.
    async fn bury(mut self, log: Option<Log>, mut questions: mpsc::Receiver<Asked>) {
        let Some(end) = self.life.end().cloned() else { return };
        let is_whole = match log {
            None => !self.session.is_terminal(),
            Some(mut log) => {
                let finished = tokio::task::spawn_blocking(move || log.finish()).await;
                matches!(finished, Ok(Ok(()))) && end.reason != CloseCode::RecordingFailed
            }
        };
        let recording =
            if is_whole { RecordingStatus::Complete } else { RecordingStatus::Incomplete };
        while let Err(error) = self.store_end(recording).await {
            tracing::error!(tunnel_id = %self.session.about.id, %error, "a tunnel's end could not be stored; trying again");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(STORE_RETRY_MS)) => {}
                // The next start finds it open, and out of its time or gone from its device.
                () = self.shared.stopping.cancelled() => return,
            }
        }
        for closer in self.closers.drain(..) {
            let _ = closer.send(());
        }
        metrics::counter!("quarterdeck_tunnels_closed_total", "reason" => end.reason.as_str())
            .increment(1);
        self.start_consoles();
        for console in &self.consoles {
            let _ = console.words.try_send(Word::Over(end.clone()));
        }
        // They show the rest of the output, and go.
        let all_gone = async {
            while !self.consoles.is_empty()
                && let Some(asked) = questions.recv().await
            {
                if let Asked::Detach { console } = asked {
                    self.consoles.retain(|attached| attached.id != console);
                } else {
                    asked.dismiss();
                }
            }
        };
        let _ = timeout(Duration::from_millis(FAREWELL_MS), all_gone).await;
        self.shared.forget(&self.session);
        questions.close();
        while let Ok(asked) = questions.try_recv() {
            asked.dismiss();
        }
    }

    async fn store_end(&self, recording: RecordingStatus) -> Result<(), StoreError> {
        let about = &self.session.about;
        let Some(end) = self.life.end().cloned() else { return Ok(()) };
        let (bytes_up, bytes_down) = self.counts();
        let progress =
            Progress { attached: 0, bytes_up, bytes_down, last_activity_at: self.active_at };
        let exit = self.session.terminal.as_ref().and_then(|terminal| terminal.exit());
        let (id, project, status) = (about.id, about.project.clone(), self.life.status());
        let recording_id = about.recording_id.clone();
        let actor = self.ended_by.clone().unwrap_or_else(Actor::server);
        let (auditor, at) = (self.shared.auditor.clone(), self.shared.clock.wall());
        let chain = project.clone();
        let stored = self.shared.store.write(move |tx| {
            Box::pin(async move {
                tunnels::set_progress(tx, id, &progress).await?;
                let ended = tunnels::Ended {
                    status,
                    at,
                    reason: end.reason,
                    message: &end.message,
                    exit_code: exit.map(Exit::shell_code),
                };
                if !tunnels::end(tx, id, &ended).await? {
                    return Ok(());
                }
                if let Some(recording_id) = recording_id {
                    let settings = crate::store::projects::settings(tx, &chain).await?;
                    let days = settings.unwrap_or_default().recording_kept_days;
                    let expires = at.plus_seconds(i64::from(days) * 24 * 3600);
                    recordings::end(tx, &recording_id, recording, progress.bytes_down, at, expires)
                        .await?;
                }
                let entry = NewEntry {
                    project: &chain,
                    at,
                    actor: &actor,
                    action: if end.reason == CloseCode::Killed {
                        "tunnel.kill"
                    } else {
                        "tunnel.close"
                    },
                    object: format!("tunnel:{id}"),
                    outcome: if status == TunnelStatus::Failed {
                        AuditOutcome::Failed
                    } else {
                        AuditOutcome::Ok
                    },
                    detail: json!({ "reason": end.reason, "message": end.message,
                        "bytes_up": progress.bytes_up, "bytes_down": progress.bytes_down }),
                };
                auditor.append(tx, entry).await?;
                Ok::<_, StoreError>(())
            })
        });
        stored.await??;
        self.shared.changed(&project, Listing::Tunnels, &id.to_string());
        self.shared.changed(&project, Listing::Recordings, "");
        self.shared.changed(&project, Listing::Audit, "");
        Ok(())
    }
}

/// Waits for the end of a pump that is there.
async fn ended(pump: &mut Option<JoinHandle<(Ended, Option<Log>)>>) -> (Ended, Option<Log>) {
    match pump {
        None => std::future::pending().await,
        Some(pump) => pump.await.unwrap_or_else(|error| {
            (Ended::Log { is_disk_full: false, why: error.to_string() }, None)
        }),
    }
}
