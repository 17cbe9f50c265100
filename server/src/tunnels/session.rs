//! One tunnel, as others have it: what they may ask of the task that owns its life
//! (`task`), and where the device's frames go.

mod task;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use quarterdeck_protocol::{
    api::TunnelKind,
    ids::{DeviceId, ProjectId},
    tunnel::{
        close::CloseCode,
        control::{Control, Target},
        mark::Size,
        session::Mode,
        stream::Changes,
    },
};
use tokio::sync::{mpsc, oneshot};

use self::task::Task;
use super::{
    Shared,
    console::Word,
    log::Log,
    relay::Relay,
    terminal::Terminal,
    way::{Resumed, Route, Way},
};
use crate::{
    mqtt::link::AckHandle,
    store::{
        audit::Actor,
        tunnels::{Served, place},
    },
};

/// What may wait for a session's task.
const ASKED_MAX: usize = 64;

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
            let is_exec = about.kind == TunnelKind::Exec;
            Relay::counted(about.bytes_up, about.bytes_down, is_exec, about.was_open)
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
        let resumed = session.resumed_output();
        session.way.add(session.about.handle, Arc::clone(&session) as Arc<dyn Route>, resumed);
        let task = Task::new(Arc::clone(shared), Arc::clone(&session));
        shared.tasks.spawn(task.run(questions, log));
        session
    }

    /// Where the output of a terminal that was open before a restart goes on.
    fn resumed_output(&self) -> Option<Resumed> {
        let terminal = self.terminal.as_ref().filter(|_| self.about.was_open)?;
        Some(Resumed { life: self.about.life, received: terminal.end() })
    }

    /// Who opened it.
    pub(crate) fn user(&self) -> &str {
        &self.about.user
    }

    /// Where it leads.
    pub(crate) fn place(&self) -> (&ProjectId, &DeviceId) {
        (&self.about.project, &self.about.device)
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

    fn take_output(&self) {
        if let Some(terminal) = &self.terminal {
            terminal.take();
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
