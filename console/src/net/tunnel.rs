//! A console's end of a tunnel (chapter 7): opened, attached to, kept up.
//!
//! ```text
//!  create ─▶ Created {row, ticket} ─▶ attach ─▶ Attachment ── next() ──▶ status, output, the end
//!                                                   │  ├── type_keys, resize, signal
//!  a terminal ── keys and output ───────────────────┤  └── detach, close
//!  an exec, a forward ── open, accept ──▶ Stream ───┘
//! ```
//!
//! An [`Attachment`] outlives its connection: that is made anew, with full jitter
//! between the attempts, for as long as the tunnel is there. What was under way
//! is sent again and taken once, in both directions; nothing is lost and nothing
//! doubled, or the end says why. All that waits is bounded: output by what the
//! server lets come before it is shown, streams by their windows.
//!
//! | module | subject |
//! | --- | --- |
//! | `machine` | what is said, and what follows from what is heard; pure |
//! | [`output`](Piece) | a terminal's output |
//! | `shared` | the machine, made awaitable; [`Stream`] |
//! | `driver` | the WebSocket, kept up |
//! | [`pump`] | between streams and sockets or pipes |
//!
//! What a device says is handed on as it is. To show it is another matter: see
//! [`crate::tui::pane`] and [`crate::cli::shell`].

mod driver;
mod machine;
mod output;
pub mod pump;
mod shared;

use std::sync::Arc;

use quarterdeck_protocol::{
    api::{CreateTunnel, CreatedTunnel, TunnelKind},
    ids::{ProjectId, TunnelId},
    tunnel::{
        Gather, StreamKey, Tick,
        close::CloseCode,
        endpoint::Refused,
        limits,
        mark::{Mark, Signal, Size},
        session::{Mode, Watcher},
        stream::{Closed, StreamConfig},
    },
};
use tokio_util::task::AbortOnDropHandle;

use self::{
    machine::{Leaving, Machine},
    shared::Shared,
};
pub use self::{
    output::{Piece, Snapshot},
    shared::Stream,
};
use super::{api::Item, client::Client, clock, error::ApiError};

/// Keys that may wait for the device, in bytes; a paste that is longer waits in
/// the hands of who pastes.
pub const KEYS_MAX_BYTES: usize = 64 * 1024;
/// How often a silent device is asked whether it is there, in microseconds.
const KEEP_ALIVE_US: u64 = 15_000_000;

/// Keys and signals.
const KEYS: StreamConfig = StreamConfig {
    is_urgent: true,
    window_bytes: limits::WINDOW_MIN_BYTES,
    buffer_bytes: KEYS_MAX_BYTES,
    waiting_bytes: KEYS_MAX_BYTES,
    gather: Gather { bytes: 0, wait_us: 0 },
    keep_alive_us: None,
};

/// Pipes and connections.
const BULK: StreamConfig = StreamConfig {
    is_urgent: false,
    window_bytes: limits::WINDOW_BULK_BYTES,
    buffer_bytes: 512 * 1024,
    waiting_bytes: 512 * 1024,
    gather: Gather { bytes: limits::GATHER_MAX_BYTES, wait_us: limits::GATHER_MAX_US },
    keep_alive_us: Some(KEEP_ALIVE_US),
};

/// How the way to the device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not attached yet, or the tunnel is still opening.
    Connecting,
    Live,
    /// Connected, but answers are overdue: from the server, or from the device.
    Stalled,
    /// No connection to the server, or the device has none.
    Lost,
}

/// How an attachment fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    /// Since the far end was heard, or since it was lost, in milliseconds.
    pub age_ms: u64,
    /// Why the connection to the server is lost.
    pub why: Option<String>,
    /// Known once attached.
    pub mode: Option<Mode>,
    pub is_recorded: bool,
    /// From here to the device and back, as far as it is measured, in microseconds.
    pub rtt_us: Option<u64>,
    /// To the device, from the device.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// Who is attached, this console included.
    pub watchers: Vec<Watcher>,
    /// The session ends in so many seconds unless somebody does something.
    pub idle_warning_s: Option<u64>,
    /// Keys that were sent and that the device has not confirmed, in bytes.
    pub keys_under_way: u64,
    /// Another console wrote while this one was away: keys may be lost.
    pub has_lost_keys: bool,
}

/// What happens to an attachment.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// [`Attachment::status`] says something new.
    Status,
    /// The next of a terminal's output, in order, each once.
    Piece(Piece),
    /// Nothing follows; said again whenever it is asked.
    Ended(Ended),
}

/// Why nothing more comes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Ended {
    /// The tunnel is over.
    #[error("{}", closed_text(.0))]
    Closed(Closed),
    /// This console went away; what runs, runs on.
    #[error("detached")]
    Detached,
    /// Another console attached as the owner.
    #[error("another console took the tunnel over")]
    TakenOver,
    /// This console may not attach, or cannot any more.
    #[error(transparent)]
    Refused(ApiError),
}

impl Ended {
    /// The same as the end of each stream.
    pub fn closed(&self) -> Closed {
        match self {
            Self::Closed(closed) => closed.clone(),
            Self::Refused(error) => Closed::new(CloseCode::NotAllowed, error.to_string()),
            Self::Detached | Self::TakenOver => {
                Closed::new(CloseCode::ConnectionLost, self.to_string())
            }
        }
    }
}

/// Says why a stream or tunnel is over, fit for a terminal: the detail may be a device's.
pub fn closed_text(closed: &Closed) -> String {
    let what = match closed.code {
        CloseCode::Finished => "it has ended",
        CloseCode::ClosedByUser => "it was closed",
        CloseCode::Killed => "an admin ended it",
        CloseCode::IdleTimeout => "nothing happened for too long",
        CloseCode::DurationLimit => "it was open as long as a tunnel may be",
        CloseCode::AgentRestarted => "the agent was restarted; what ran in it is gone",
        CloseCode::AgentStopped => "the agent stopped",
        CloseCode::NotAllowed => "it is not allowed",
        CloseCode::LaunchFailed => "the program cannot be started",
        CloseCode::ConnectFailed => "the destination cannot be reached",
        CloseCode::ConnectionLost => "the connection broke",
        CloseCode::Busy => "too many are open",
        CloseCode::Unknown => "the device does not know it",
        CloseCode::Corrupted => "bytes were altered or lost on the way",
        CloseCode::CannotResume => "it could not go on where it was",
        CloseCode::Protocol => "the other end broke the protocol",
        CloseCode::RecordingFailed => "its recording cannot be written",
        CloseCode::DiskFull => "the disk is full",
        CloseCode::DeviceLost => "the device was away for too long",
        CloseCode::Internal => "something went wrong",
        CloseCode::ConsoleLost => "its console was gone for too long",
    };
    match quarterdeck_protocol::text::line(&closed.detail) {
        detail if detail.is_empty() => format!("{what} ({})", closed.code),
        detail => format!("{what} ({}): {detail}", closed.code),
    }
}

/// Says why keys were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTyped {
    #[error("this console only watches")]
    ReadOnly,
    #[error("not attached yet")]
    NotAttached,
    #[error("as many keys as may wait for the device already do")]
    Full,
    #[error("the tunnel is over")]
    Over,
}

/// Opens a tunnel. All attempts of one call make one tunnel.
pub async fn create(
    client: &Client,
    project: &ProjectId,
    request: &CreateTunnel,
) -> Result<Item<CreatedTunnel>, ApiError> {
    client.project(project).create_tunnel(request, &clock::fresh_key()).await
}

/// How to attach to a tunnel.
#[derive(Debug, Clone)]
pub struct Attach {
    pub id: TunnelId,
    pub kind: TunnelKind,
    pub mode: Mode,
    /// The ticket that came with the tunnel: its output comes from the first byte on. Without one,
    /// one is asked for, and a terminal begins with a [`Piece::Snapshot`].
    pub ticket: Option<String>,
    /// How large a terminal is to be; the owner's counts. It is said again after each new connection.
    pub size: Option<Size>,
}

impl Attach {
    /// As the owner of a tunnel that was just created.
    pub fn created(created: &CreatedTunnel, size: Option<Size>) -> Self {
        Self {
            id: created.tunnel.id,
            kind: created.tunnel.kind,
            mode: Mode::Owner,
            ticket: Some(created.ticket.clone()),
            size,
        }
    }
}

/// A console's end of one tunnel; the last clone that is dropped hangs up, without
/// ending what runs. Clones are one and the same.
#[derive(Debug, Clone)]
pub struct Attachment {
    shared: Arc<Shared>,
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Attachment {
    /// Attaches, in a task of its own, and stays attached. Must be called within a runtime.
    pub fn start(client: &Client, project: &ProjectId, attach: Attach) -> Self {
        let Attach { id, kind, mode, ticket, size } = attach;
        let is_fresh = ticket.is_some();
        let shared = Arc::new(Shared::new(|now| match Machine::new(kind, size, now) {
            // Nobody has seen anything of it.
            machine if is_fresh => machine.wanting_all(),
            machine => machine,
        }));
        let target =
            driver::Target { client: client.clone(), project: project.clone(), id, mode, ticket };
        let driver = tokio::spawn(driver::run(Arc::clone(&shared), target));
        Self { shared, _driver: Arc::new(AbortOnDropHandle::new(driver)) }
    }

    /// Waits for what happens next. Safe to drop half-way; one task at a time should ask.
    pub async fn next(&self) -> Event {
        self.shared.until_news(next_event).await
    }

    /// The same without waiting: `None` when nothing happened.
    pub fn try_next(&self) -> Option<Event> {
        self.shared.step(next_event)
    }

    /// Waits until it is attached for the first time.
    pub async fn attached(&self) -> Result<(), Ended> {
        let look = |machine: &mut Machine, _| match machine.ended() {
            Some(ended) => Some(Err(ended.clone())),
            None => machine.is_attached().then_some(Ok(())),
        };
        self.shared.until_news(look).await
    }

    /// Waits for the end; output that nobody took is not waited for.
    pub async fn ended(&self) -> Ended {
        self.shared.until_news(|machine, _| machine.ended().cloned()).await
    }

    pub fn status(&self) -> Status {
        self.shared.look(Machine::status)
    }

    // --- a terminal -------------------------------------------------------------

    /// Types into a terminal: all of `keys` or none.
    pub fn type_keys(&self, keys: &[u8]) -> Result<(), NotTyped> {
        self.shared.step(|machine, _| {
            let key = typing(machine)?;
            let endpoint = machine.endpoint().ok_or(NotTyped::NotAttached)?;
            if endpoint.room(key).map_err(|_| NotTyped::Over)? < keys.len() {
                return Err(NotTyped::Full);
            }
            let mut bytes = bytes::Bytes::copy_from_slice(keys);
            endpoint.write(key, &mut bytes).map_err(|_| NotTyped::Over)
        })
    }

    /// Sends a signal to the foreground of a terminal, behind the keys typed before it.
    pub fn signal(&self, signal: Signal) -> Result<(), NotTyped> {
        self.shared.step(|machine, _| {
            let key = typing(machine)?;
            let endpoint = machine.endpoint().ok_or(NotTyped::NotAttached)?;
            match endpoint.mark(key, Mark::Signal(signal)) {
                Ok(true) => Ok(()),
                Ok(false) => Err(NotTyped::Full),
                Err(_) => Err(NotTyped::Over),
            }
        })
    }

    /// Makes the terminal this large, when things have come to rest for
    /// [`RESIZE_DEBOUNCE_MS`](quarterdeck_protocol::tunnel::session::RESIZE_DEBOUNCE_MS).
    /// Only the owner's word counts.
    pub fn resize(&self, size: Size) {
        self.shared.step(|machine, now| machine.resize(size, now));
    }

    // --- an exec, a forward -----------------------------------------------------

    /// Opens a stream to the device: of an exec stdin and stdout, once; of a forward a connection.
    pub fn open(&self) -> Result<Stream, Refused> {
        self.shared.open(BULK)
    }

    /// Waits for a stream that the device opens: stderr of an exec, a connection of a reverse forward.
    pub async fn accept(&self) -> Result<Stream, Ended> {
        self.shared.accept().await
    }

    // --- the end ----------------------------------------------------------------

    /// Goes away, once the device has the last keys; what runs, runs on.
    /// [`Self::next`] says when that is done.
    pub fn detach(&self) {
        self.shared.step(|machine, now| machine.leave(Leaving::Detach, now));
    }

    /// Ends the tunnel. [`Self::next`] says when that is done.
    pub fn close(&self) {
        self.shared.step(|machine, now| machine.leave(Leaving::Close, now));
    }
}

fn next_event(machine: &mut Machine, now: Tick) -> Option<Event> {
    if machine.take_news(now) {
        return Some(Event::Status);
    }
    if let Some(piece) = machine.take_piece(now) {
        return Some(Event::Piece(piece));
    }
    machine.ended().cloned().map(Event::Ended)
}

fn typing(machine: &Machine) -> Result<StreamKey, NotTyped> {
    if machine.ended().is_some() {
        return Err(NotTyped::Over);
    }
    match machine.keys() {
        Some(key) => Ok(key),
        None if machine.is_attached() => Err(NotTyped::ReadOnly),
        None => Err(NotTyped::NotAttached),
    }
}
