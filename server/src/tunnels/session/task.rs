//! The task that owns a tunnel's life (`domain/tunnel.rs`).
//!
//! ```text
//!  device's words, consoles, people, time ──▶ step ──▶ store ──▶ effects
//!  output ──▶ terminal's pump ──▶ its end ─────┘
//! ```
//!
//! Every change of status is stored before it is acted on or told. What goes
//! through the tunnel is not this task's business (`terminal`, `relay`).
//!
//! | module | subject |
//! | --- | --- |
//! | `consoles` | who attaches, and what all are told |
//! | `storing` | what is written down while it is open |
//! | `end` | how it ends, stored and told |

mod consoles;
mod end;
mod storing;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use quarterdeck_protocol::{
    api::TunnelStatus,
    time::Timestamp,
    tunnel::{
        close::CloseCode,
        control::Control,
        session::{LinkState, STATS_INTERVAL_MS, ServerMessage, Stats},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::consoles::Console;
use super::{Asked, Session, target};
use crate::{
    domain::tunnel::{Effect, Ends, Event, Session as Life, step},
    mqtt::link::AckHandle,
    store::{audit::Actor, tunnels::Progress},
    tunnels::{
        Shared,
        console::Word,
        limits::SILENT_MS,
        log::Log,
        terminal::{Ended, is_finished},
    },
};

/// How often what goes through is stored, in milliseconds.
const PROGRESS_MS: u64 = 5_000;

/// The task that owns a tunnel's life.
pub(super) struct Task {
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
    pub(super) fn new(shared: Arc<Shared>, session: Arc<Session>) -> Self {
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

    pub(super) async fn run(mut self, mut questions: mpsc::Receiver<Asked>, log: Option<Log>) {
        let stop = CancellationToken::new();
        let mut pump = log.map(|log| self.pump(log, stop.clone()));
        if self.life.status() != TunnelStatus::Opening {
            // What its log had when the server was killed, and its row did not.
            self.store_progress().await;
            self.reopen().await;
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

    /// After a restart of this server: asks whether it is still there. Until the device answers,
    /// nobody is told that it is.
    async fn reopen(&self) {
        self.store_status(self.life.status()).await;
        // An answer comes when the device is there; it is asked again until then.
        let _ = self.session.way.say(&Control::check(self.session.about.id));
    }

    // --- what happens -----------------------------------------------------------

    async fn on_asked(&mut self, asked: Asked) {
        match asked {
            Asked::Device { control, ack } => self.on_device(control, ack).await,
            Asked::Link { is_up } => {
                self.is_link_up = is_up;
                if !is_up {
                    self.apply(Event::Lost).await;
                } else if self.life.status() != TunnelStatus::Opening {
                    // Perhaps its agent began anew, or only the broker is back: its answer tells.
                    let _ = self.session.way.say(&Control::check(self.session.about.id));
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
            self.ask_again();
            if !self.consoles.is_empty() {
                let stats = ServerMessage::Stats(self.stats());
                self.tell_all(&stats);
            }
        }
        // Who is there is shown to others: "nobody attached" must not stand there while somebody types.
        let has_moved = self.stored.attached as usize != self.consoles.len();
        if self.progress_at <= now || has_moved {
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
        let is_silent = status.is_some_and(|status| {
            status.is_silent || self.session.way.heard_ms_ago(&status) > SILENT_MS
        });
        if is_silent != self.is_stalled {
            self.is_stalled = is_silent;
            let event = if is_silent { Event::Lost } else { Event::Heard };
            self.apply(event).await;
        }
    }

    /// Asks a device that is connected whether it has this tunnel, until it answers: what was
    /// asked when it came back may have been lost, since it is said at most once.
    fn ask_again(&self) {
        let is_stalled = self.life.status() == TunnelStatus::Stalled;
        if is_stalled && self.is_link_up && !self.is_stalled {
            let _ = self.session.way.say(&Control::check(self.session.about.id));
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
                    self.shared.tell(
                        &self.session.way,
                        Control::close(about.id, end.reason, &end.message),
                    );
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
        let shown = self.session.terminal.as_ref().map_or(0, |terminal| terminal.bytes());
        (up, if self.session.is_terminal() { shown } else { down })
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
