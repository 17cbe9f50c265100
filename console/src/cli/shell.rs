//! `quarterdeck shell`, and `exec --tty`: a terminal of a device in the
//! operator's own.
//!
//! ```text
//!  keys ──▶ local escapes (~.) ──▶ device
//!  device ──▶ filter ──▶ the operator's terminal
//!        └──▶ model of the screen ──▶ answers to what its programs ask
//!                                └──▶ what a notice covered
//! ```
//!
//! Nothing of the device reaches the terminal as it came ([`filter`]). Its
//! questions are answered by the model that panes have, not by the terminal. A
//! notice of ours stands on one row, and goes without a trace.
//!
//! Two loops that wait for nothing of one another: a terminal that does not keep
//! up with a flood holds up no key, so ^C works.

pub mod filter;
pub(super) mod local;
mod notice;
mod view;

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::{ArgGroup, Args};
use quarterdeck_protocol::{
    api::TunnelKind,
    ids::TunnelId,
    tunnel::{close::CloseCode, mark::Exit, session::Mode},
};
use tokio::{
    io::AsyncWriteExt as _,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

use self::{
    local::{Keys, RawMode, terminal_size},
    view::View,
};
use super::{
    context::Context,
    direct::stdout,
    error::CliError,
    options::{self, Allow},
    output::note,
    session::{self, Failed, ProgramArgs, RecordArgs, TRANSPORT_FAILED, UNREAD},
};
use crate::{
    net::tunnel::{Attach, Attachment, Ended, NotTyped, State},
    tui::pane::{
        escape::{Escape, Escapes},
        notices::Allowed,
    },
};

/// How long the end may take after it was asked for.
const FAREWELL: Duration = Duration::from_secs(3);
/// Keys that are typed within this after the way was lost are kept for it, in
/// milliseconds; later ones are refused with a bell, for nobody sees what they do.
const KEPT_WHEN_LOST_MS: u64 = 3_000;
/// The end of the input is told again after this.
const END_AGAIN: Duration = Duration::from_secs(1);
/// The size of a terminal when there is none.
const NO_TERMINAL: (u16, u16) = (80, 24);
/// A chunk of so many bytes was pasted: no local escape is looked for in it.
const PASTED_MIN_BYTES: usize = 16;

#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, group(joined()))]
pub struct ShellArgs {
    /// The device
    #[arg(value_name = "DEVICE", required_unless_present = "joined")]
    device: Option<String>,
    /// A program to run instead of the login shell
    #[arg(value_name = "CMD", last = true)]
    argv: Vec<String>,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    record: RecordArgs,
    /// The terminal's TERM on the device [default: xterm-256color]
    #[arg(long, value_name = "TERM")]
    term: Option<String>,
    /// Come back to a session of yours that goes on
    #[arg(long, value_name = "TUNNEL")]
    attach: Option<TunnelId>,
    /// Type into somebody's session too
    #[arg(long, value_name = "TUNNEL")]
    copilot: Option<TunnelId>,
    /// Look at a session without typing into it
    #[arg(long, value_name = "TUNNEL")]
    watch: Option<TunnelId>,
    /// What the device may do to your terminal: clipboard, title, notifications [default: nothing]
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        value_enum,
        hide_possible_values = true
    )]
    allow: Vec<Allow>,
}

/// What there is already is not asked to be otherwise.
fn joined() -> ArgGroup {
    let of_new = ["device", "argv", "ProgramArgs", "RecordArgs", "term"];
    ArgGroup::new("joined").args(["attach", "copilot", "watch"]).conflicts_with_all(of_new)
}

const EXAMPLES: &str = "Examples:
  quarterdeck shell pi-1
  quarterdeck shell --record pi-1 -- journalctl -f
  quarterdeck shell --watch 018f2b7e-5a3c-7000-8000-000000000001

At the beginning of a line: ~. ends the session, ~d leaves it running, ~? lists these, ~~ types a ~.
When the connection breaks the session goes on where it was. The exit code is the program's, 128
and more when a signal ended it, 127 when the device cannot start it, 255 when the device cannot be
reached or the program's end is not known.";

/// What the operator wants of the session, beyond what runs in it.
#[derive(Debug, Clone, Copy)]
struct Wants {
    id: TunnelId,
    mode: Mode,
    allowed: Allowed,
    /// It was opened for this, and not before.
    is_new: bool,
}

pub async fn run(context: &Context, args: ShellArgs) -> Result<(), CliError> {
    let allowed = options::allowed(&args.allow);
    let joined =
        [(args.attach, Mode::Owner), (args.copilot, Mode::Copilot), (args.watch, Mode::Watch)];
    if let Some((id, mode)) = joined.into_iter().find_map(|(id, mode)| Some((id?, mode))) {
        return attach(context, Wants { id, mode, allowed, is_new: false }).await;
    }
    let device = args.device.unwrap_or_default();
    let mut request = args.program.request(&device, TunnelKind::Terminal)?;
    request.argv = args.argv;
    request.term = args.term;
    open(context, args.record.ask(request), allowed).await
}

/// `exec --tty`.
pub async fn exec(
    context: &Context,
    device: &str,
    argv: Vec<String>,
    program: &ProgramArgs,
    record: RecordArgs,
) -> Result<(), CliError> {
    let mut request = program.request(device, TunnelKind::Terminal)?;
    request.argv = argv;
    open(context, record.ask(request), Allowed::default()).await
}

async fn open(
    context: &Context,
    mut request: quarterdeck_protocol::api::CreateTunnel,
    allowed: Allowed,
) -> Result<(), CliError> {
    let size = terminal_size();
    let (cols, rows) = size.map_or(NO_TERMINAL, |size| (size.cols.get(), size.rows.get()));
    (request.cols, request.rows) = (Some(cols), Some(rows));
    let opened = session::open(context, &request, size).await;
    let (created, attachment) = opened.map_err(|failed| failed.say_for_program())?;
    let id = created.tunnel.id;
    serve(context, attachment, Wants { id, mode: Mode::Owner, allowed, is_new: true }).await
}

async fn attach(context: &Context, wants: Wants) -> Result<(), CliError> {
    let tunnel = context.project().tunnel(wants.id).await?;
    if tunnel.kind != TunnelKind::Terminal {
        return Err(CliError::Failed(format!("{} is no terminal", wants.id)));
    }
    let size = if wants.mode == Mode::Owner { terminal_size() } else { None };
    let attach = Attach { id: wants.id, kind: tunnel.kind, mode: wants.mode, ticket: None, size };
    let attachment = Attachment::start(&context.client, &context.project, attach);
    attachment.attached().await.map_err(|ended| Failed::from(ended).say_for_program())?;
    serve(context, attachment, wants).await
}

/// Why the loops ended.
#[derive(Debug)]
enum Over {
    Ended(Ended),
    /// A signal of this number.
    Signal(u8),
    Unwritable(io::Error),
}

/// What the loop of keys tells the loop of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Help,
    Bell,
    /// Whatever was explained is known now.
    Key,
}

/// Words that may wait; more say nothing new.
const WORDS_MAX: usize = 8;

async fn serve(context: &Context, attachment: Attachment, wants: Wants) -> Result<(), CliError> {
    let is_terminal = io::stdin().is_terminal();
    let raw = is_terminal.then(RawMode::enter).transpose()?;
    let (say, words) = mpsc::channel(WORDS_MAX);
    let mut view = View::new(attachment.clone(), wants, words);
    let over = tokio::select! {
        over = view.run() => over,
        over = type_all(&attachment, wants, is_terminal, say) => over,
        over = signals(&attachment) => over,
    };
    let farewell = view.give_back();
    let mut out = stdout();
    // A terminal that is gone needs nothing back.
    let _ = timeout(FAREWELL, async {
        out.write_all(&farewell).await?;
        out.flush().await
    })
    .await;
    drop(raw);
    conclude(context, &attachment, wants, view.exit, over).await
}

async fn conclude(
    context: &Context,
    attachment: &Attachment,
    wants: Wants,
    exit: Option<Exit>,
    over: Over,
) -> Result<(), CliError> {
    match over {
        Over::Ended(Ended::Detached) => {
            if wants.mode == Mode::Owner {
                let back = context.line(&format!("shell --attach {}", wants.id));
                note(&format!("quarterdeck: left; it goes on, come back with: {back}"));
            }
            Ok(())
        }
        Over::Ended(ended) => match (exit, &ended) {
            (Some(Exit::Code(0)), _) => Ok(()),
            (Some(exit), _) => Err(CliError::Exit(exit.shell_code() as u8)),
            (None, Ended::Closed(closed))
                if matches!(closed.code, CloseCode::ClosedByUser | CloseCode::Finished)
                    && wants.mode == Mode::Watch =>
            {
                Ok(())
            }
            (None, _) => Err(Failed::from(ended).say_for_program()),
        },
        Over::Signal(number) => {
            // The terminal is going; what runs there may go on.
            attachment.detach();
            let _ = timeout(FAREWELL, attachment.ended()).await;
            Err(CliError::Exit(128 + number))
        }
        Over::Unwritable(error) => {
            // A program whose output nobody reads ends, as it would here.
            if wants.is_new && error.kind() == io::ErrorKind::BrokenPipe {
                attachment.close();
            } else {
                attachment.detach();
            }
            let _ = timeout(FAREWELL, attachment.ended()).await;
            if error.kind() == io::ErrorKind::BrokenPipe {
                return Err(CliError::Exit(UNREAD));
            }
            note(&format!("quarterdeck: cannot write: {error}"));
            Err(CliError::Exit(TRANSPORT_FAILED))
        }
    }
}

/// Waits for what ends a program that has a terminal, and hands new sizes on.
async fn signals(attachment: &Attachment) -> Over {
    let listen = |kind| signal(kind).map_err(Over::Unwritable);
    let (mut hangups, mut terms, mut sizes) = match (
        listen(SignalKind::hangup()),
        listen(SignalKind::terminate()),
        listen(SignalKind::window_change()),
    ) {
        (Ok(a), Ok(b), Ok(c)) => (a, b, c),
        (Err(over), ..) | (_, Err(over), _) | (.., Err(over)) => return over,
    };
    loop {
        tokio::select! {
            _ = hangups.recv() => return Over::Signal(1),
            _ = terms.recv() => return Over::Signal(15),
            _ = sizes.recv() => {
                if let Some(size) = terminal_size() {
                    attachment.resize(size);
                }
            }
        }
    }
}

/// Sends what is typed, and does what is meant for us. Never returns: the end comes as an event.
async fn type_all(
    attachment: &Attachment,
    wants: Wants,
    is_terminal: bool,
    say: mpsc::Sender<Word>,
) -> Over {
    let mut keys = Keys::read();
    let mut escapes = Escapes::default();
    while let Some(chunk) = keys.next().await {
        if wants.mode == Mode::Watch {
            // q, ^C and ^D leave; nothing else means anything.
            if chunk.iter().any(|key| matches!(key, b'q' | 0x03 | 0x04)) {
                attachment.detach();
            }
            continue;
        }
        if !is_terminal {
            send_all(attachment, &chunk).await;
            continue;
        }
        let (send, asked) = if chunk.len() >= PASTED_MIN_BYTES {
            escapes.pasted(&chunk);
            (chunk.to_vec(), None)
        } else {
            escapes.step(&chunk)
        };
        // A word that does not fit says what those before it said.
        let _ = say.try_send(Word::Key);
        let status = attachment.status();
        let is_lost = status.state == State::Lost && status.age_ms > KEPT_WHEN_LOST_MS;
        if !send.is_empty() && (is_lost || attachment.type_keys(&send) == Err(NotTyped::Full)) {
            let _ = say.try_send(Word::Bell);
        }
        match asked {
            Some(Escape::Disconnect) if wants.mode == Mode::Owner => attachment.close(),
            Some(Escape::Disconnect | Escape::Detach) => attachment.detach(),
            Some(Escape::Help) => {
                let _ = say.try_send(Word::Help);
            }
            None => {}
        }
    }
    if is_terminal || wants.mode == Mode::Watch {
        return std::future::pending().await;
    }
    // A terminal has no end of its input but this key. A program that sets its terminal up just
    // then throws it away, so whoever reads next gets another.
    loop {
        send_all(attachment, b"\x04").await;
        tokio::time::sleep(END_AGAIN).await;
    }
}

/// Sends all of it, however long that takes.
async fn send_all(attachment: &Attachment, keys: &[u8]) {
    for part in keys.chunks(1024) {
        while attachment.type_keys(part) == Err(NotTyped::Full) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
