//! The full-screen console (chapter 8).
//!
//! One task owns all state and data flows one way:
//!
//! ```text
//!   keyboard ──▶ Input ─┐                                    ┌─▶ Net: channel to the network
//!   network  ──▶ Batch ─┼─▶ update(&mut App, Msg) ─▶ Effects ┼─▶ clipboard, files, bell
//!   clock    ──▶ Tick  ─┘            │                       └─▶ Quit
//!   writer   ──▶ idle ──────▶ view(&App) ─▶ Buffer ─▶ term ─▶ bytes
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | [`effects`], [`tunnels`], [`mailbox`] | the seam to the network |
//! | [`app`] | state, messages, `update`, the one table of actions |
//! | [`store`] | what the server said |
//! | [`view`] | pure: state to cells |
//! | [`theme`] | all colours and glyphs |
//! | [`term`] | the terminal: input, capabilities, lean output |
//! | [`pane`] | terminals of devices, drawn inside ours |
//!
//! # The seam to the network
//!
//! [`run`] gets a [`NetHandle`]: a channel of [`NetRequest`](effects::NetRequest)s to the network
//! and the [`mailbox`] from it. Whoever serves the other end promises this:
//!
//! 1. **Connects by itself** to `GET /projects/{p}/live`, again and again with a growing pause,
//!    and never gives up ([`SignedOut`](effects::NetEvent::SignedOut) apart). Each attempt that
//!    fails and each connection that ends is a [`Lost`](effects::NetEvent::Lost) with a sentence for a person.
//! 2. **Passes on every message** of the WebSocket as [`NetEvent::Live`](effects::NetEvent::Live),
//!    `hello` and `heartbeat` too: they are how the TUI knows that it is connected, who it is, what
//!    time the server has, and how fresh its screen is. `mailbox.put` never blocks, so no message
//!    need be dropped or batched.
//! 3. **Remembers no subscription.** After each `hello` the TUI subscribes anew. A `NetRequest::Live`
//!    that finds no connection is dropped.
//! 4. **Answers each [`Call`](effects::NetRequest::Call) exactly once**, with its id: the body, or the
//!    server's [`Problem`](quarterdeck_protocol::api::Problem). Where no answer can be had (no connection,
//!    a time-out of 30 s) it makes a `Problem` with status 0 and code `unreachable`; one whose outcome is
//!    unknown says so in its detail. A `POST` that creates carries one `Idempotency-Key` for all attempts of its call. Calls run
//!    side by side; one that is slow holds up no other.
//! 5. **Serves panes** as [`tunnels`] says.
//! 6. **Ends** when the channel of requests closes: that is how [`run`] says goodbye.
//!
//! The TUI in turn keeps at most [`LIVE_WINDOWS_MAX`](quarterdeck_protocol::limits::LIVE_WINDOWS_MAX)
//! windows and [`ANSWERS_MAX`](mailbox::ANSWERS_MAX) calls open, uses a fresh window id for each
//! subscription, and ignores what comes for ids that it has closed.

use std::{path::PathBuf, time::Duration};

use tokio::sync::mpsc;

use crate::cli::line::Program;

use self::{app::keymap::Keymap, pane::notices::Allowed, theme::ThemeName};

pub mod app;
pub mod effects;
mod export_file;
pub mod format;
pub mod mailbox;
mod outbox;
mod pace;
pub mod pane;
mod run;
pub mod store;
pub mod term;
pub mod theme;
pub mod tunnels;
pub mod view;

/// How many requests may wait for the network; the TUI holds back the rest.
pub const REQUESTS_MAX: usize = 64;

/// The TUI's end of the network.
#[derive(Debug)]
pub struct NetHandle {
    pub requests: mpsc::Sender<effects::NetRequest>,
    pub mailbox: mailbox::MailboxReceiver,
}

/// The network's end.
#[derive(Debug)]
pub struct NetPeer {
    pub requests: mpsc::Receiver<effects::NetRequest>,
    pub mailbox: mailbox::MailboxSender,
}

/// Makes the seam's two ends.
pub fn net_channel() -> (NetHandle, NetPeer) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    let (put, take) = mailbox::mailbox();
    (NetHandle { requests: sender, mailbox: take }, NetPeer { requests: receiver, mailbox: put })
}

/// How the console is opened.
#[derive(Debug, Clone, Default)]
pub struct TuiOptions {
    /// The server as the header names it, e.g. `fleet.example.org`.
    pub server: String,
    /// The project to show until the server's `hello` names it.
    pub project: String,
    /// How the program is called again, for command lines that are copied.
    pub program: Program,
    /// Offers no action that changes anything.
    pub read_only: bool,
    /// The wall screen (`--wall`).
    pub wall: Option<Wall>,
    /// Marker column instead of coloured rows, slower ticks (`--low-bandwidth`).
    pub low_bandwidth: bool,
    /// ASCII only (`--ascii`); by the locale when `None`.
    pub ascii: Option<bool>,
    /// No colour (`NO_COLOR`); by the environment when `None`.
    pub no_color: Option<bool>,
    pub theme: ThemeName,
    /// Takes clicks and the wheel.
    pub mouse: bool,
    /// Rings the bell for a new critical alert.
    pub bell: bool,
    /// What devices may do to the operator's terminal, out of a pane.
    pub allowed: Allowed,
    /// Which key does what.
    pub keymap: Keymap,
    /// Where saved views are kept; nowhere when `None`.
    pub state_file: Option<PathBuf>,
    /// Where exports and screen dumps go; the current folder when `None`.
    pub export_dir: Option<PathBuf>,
}

/// What a wall screen does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wall {
    /// How long each page stays.
    pub rotate: Duration,
}

/// Why [`run`] returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The operator left.
    Quit,
    /// The server no longer knows this login; `why` says what is next.
    SignedOut { why: String },
    /// The terminal went away or a signal asked for the end.
    Terminated,
}

/// Runs the TUI until the operator leaves. The terminal is restored however it ends.
///
/// # Errors
///
/// When stdout is no terminal.
pub async fn run(options: TuiOptions, net: NetHandle) -> anyhow::Result<Exit> {
    run::run(options, net).await
}
