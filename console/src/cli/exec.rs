//! `quarterdeck exec`: a program on a device, with stdin, stdout and stderr apart.
//!
//! ```text
//!  stdin ──▶ stream 0 ──▶ program ──▶ stream 0 ──▶ stdout      bytes as they are
//!                            └──────▶ its stream ─▶ stderr
//!  SIGINT, SIGTERM, … ──▶ its process group
//! ```
//!
//! To a terminal of the operator's the program's bytes go through the same filter
//! as those of a shell ([`super::shell::filter`]); into a file or a pipe they go as
//! they are.

use std::{
    io::{self, IsTerminal as _},
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use clap::Args;
use quarterdeck_protocol::{
    api::{CreateTunnel, TunnelKind},
    tunnel::mark::{Exit, Mark, Signal},
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, stdin},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until, timeout},
};

use super::{
    context::Context,
    direct::{stderr, stdout},
    error::CliError,
    output::note,
    session::{self, Failed, ProgramArgs, RecordArgs, TRANSPORT_FAILED, UNREAD},
    shell::{self, filter::Filter},
};
use crate::net::tunnel::{
    Attachment, Stream, closed_text,
    pump::{self, Stopped},
};

/// How long the end of a tunnel may take after the program's.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long a program may take to heed SIGTERM, SIGHUP or SIGQUIT before its tunnel is closed.
const GRACE: Duration = Duration::from_secs(5);
/// So many times ^C, and the tunnel is closed.
const PATIENCE: u32 = 3;

#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExecArgs {
    /// Run it on a terminal of its own, as `shell` does
    #[arg(short, long)]
    tty: bool,
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    program: ProgramArgs,
    /// The device
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The program and its arguments, unjoined
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    argv: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  quarterdeck exec pi-1 -- uptime
  quarterdeck exec pi-1 -- tar -C /var/log -cf - . > logs.tar
  quarterdeck exec pi-1 -- sh -c 'cat > /tmp/motd' < motd
  quarterdeck exec --tty pi-1 -- htop

The exit code is the program's, 128 and more when a signal ended it, 127 when the device cannot
start it, 255 when the device cannot be reached or the program's end is not known. The connection
may break meanwhile: it goes on where it was. Signals go to the program; ^C three times ends it.";

pub async fn run(context: &Context, args: ExecArgs) -> Result<(), CliError> {
    if args.tty {
        return shell::exec(context, &args.device, args.argv, &args.program, args.record).await;
    }
    if args.record.record {
        let why = "--record: only terminals are recorded; run it on one with --tty";
        return Err(CliError::Usage(why.to_owned()));
    }
    let mut request = args.program.request(&args.device, TunnelKind::Exec)?;
    request.argv = args.argv;
    match exec(context, &request).await {
        Ok(Exit::Code(0)) => Ok(()),
        Ok(exit) => Err(CliError::Exit(exit.shell_code() as u8)),
        Err(stopped) => Err(stopped),
    }
}

async fn exec(context: &Context, request: &CreateTunnel) -> Result<Exit, CliError> {
    let say = |failed: Failed| failed.say_for_program();
    let (_, attachment) = session::open(context, request, None).await.map_err(say)?;
    let main = attachment.open().map_err(|refused| {
        note(&format!("quarterdeck: {refused}"));
        CliError::Exit(TRANSPORT_FAILED)
    })?;
    let watching = {
        let attachment = attachment.clone();
        tokio::spawn(async move { session::watch(&attachment, io::stderr().is_terminal()).await })
    };
    let outcome = serve(&attachment, &main).await;
    let exit = match outcome {
        Ok(Some(exit)) => {
            // The device hears that everything was taken before we go.
            let _ = timeout(FAREWELL, watching).await;
            return Ok(exit);
        }
        Ok(None) => {
            note("quarterdeck: the program's end is not known");
            CliError::Exit(TRANSPORT_FAILED)
        }
        Err(Stopped::Stream(closed)) => {
            // The tunnel's own end says more than a stream's.
            if let Ok(ended) = timeout(FAREWELL, attachment.ended()).await {
                return Err(Failed::from(ended).say_for_program());
            }
            note(&format!("quarterdeck: {}", closed_text(&closed)));
            CliError::Exit(TRANSPORT_FAILED)
        }
        Err(Stopped::Local(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            CliError::Exit(UNREAD)
        }
        Err(Stopped::Local(error)) => {
            note(&format!("quarterdeck: cannot read or write: {error}"));
            CliError::Exit(TRANSPORT_FAILED)
        }
    };
    attachment.close();
    let _ = timeout(FAREWELL, attachment.ended()).await;
    Err(exit)
}

/// Moves everything until the program and its output are at their end.
async fn serve(attachment: &Attachment, main: &Stream) -> Result<Option<Exit>, Stopped> {
    let mut exit = None;
    let mut out = Out::new(stdout(), io::stdout().is_terminal());
    let mut err = Out::new(stderr(), io::stderr().is_terminal());
    let output = async {
        pump::down(main, &mut out, |mark| {
            if let Mark::Exit(how) = mark {
                exit = Some(how);
            }
        })
        .await?;
        // A program that ended reads nothing more.
        main.finish();
        Ok(())
    };
    let errors = async {
        let stream = attachment.accept().await.map_err(|ended| Stopped::Stream(ended.closed()))?;
        stream.finish();
        pump::down(&stream, &mut err, |_| {}).await?;
        // Dropped before the device knows, it would be reset.
        let _ = timeout(FAREWELL, stream.closed()).await;
        Ok::<_, Stopped>(())
    };
    let input = async {
        let ended = pump::up(&mut stdin(), main).await;
        if let Err(Stopped::Local(error)) = ended {
            tracing::debug!(%error, "stdin cannot be read any more");
            main.finish();
        }
        // The program's end decides, not that of its input.
        std::future::pending::<()>().await;
    };
    let moved = tokio::select! {
        result = async { tokio::try_join!(output, errors) } => result.map(|_| ()),
        () = input => Ok(()),
        closed = signals(attachment, main) => Err(closed),
    };
    out.give_back().await;
    err.give_back().await;
    moved.map(|()| exit)
}

/// Hands signals on to the program, until the operator has lost patience.
async fn signals(attachment: &Attachment, main: &Stream) -> Stopped {
    let listen = |kind| signal(kind).map_err(Stopped::Local);
    let (mut interrupts, mut terms, mut hangups, mut quits) = match (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        listen(SignalKind::hangup()),
        listen(SignalKind::quit()),
    ) {
        (Ok(a), Ok(b), Ok(c), Ok(d)) => (a, b, c, d),
        (Err(e), ..) | (_, Err(e), ..) | (_, _, Err(e), _) | (.., Err(e)) => return e,
    };
    let mut interrupted = 0;
    // On a stream of their own: input that the program does not read holds up no signal.
    let mut stream = None;
    let mut deadline = None;
    loop {
        let signal = tokio::select! {
            () = overdue(deadline) => {
                attachment.close();
                return Stopped::Stream(attachment.ended().await.closed());
            }
            _ = interrupts.recv() => { interrupted += 1; Signal::Interrupt }
            _ = terms.recv() => Signal::Terminate,
            _ = hangups.recv() => Signal::Hangup,
            _ = quits.recv() => Signal::Quit,
        };
        if interrupted >= PATIENCE {
            deadline = Some(Instant::now());
            continue;
        }
        if signal != Signal::Interrupt {
            // Whoever ends us does not wait for ever.
            deadline.get_or_insert_with(|| Instant::now() + GRACE);
        }
        if stream.is_none() {
            stream = attachment.open().ok();
        }
        let stream = stream.as_ref().unwrap_or(main);
        if let Err(closed) = stream.mark(Mark::Signal(signal)).await {
            return Stopped::Stream(closed);
        }
    }
}

async fn overdue(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Where a program's output goes: as it is, or filtered for a terminal.
struct Out<W> {
    to: W,
    filter: Option<Filter>,
    /// Filtered, and not written yet.
    waiting: Vec<u8>,
    /// Whether the terminal was told more than text.
    is_touched: bool,
}

impl<W> Out<W> {
    fn new(to: W, is_terminal: bool) -> Self {
        let filter = is_terminal.then(Filter::default);
        Self { to, filter, waiting: Vec::new(), is_touched: false }
    }
}

impl<W: AsyncWrite + Unpin> Out<W> {
    /// Gives the operator's terminal back as it was, should the program have left its mark.
    async fn give_back(&mut self) {
        let Some(filter) = self.filter.as_mut().filter(|_| self.is_touched) else { return };
        let undone = filter.undo();
        self.waiting.extend(undone);
        // To a terminal that is gone, or that was told to stop, there is nothing to give back.
        let _ = timeout(FAREWELL, self.flush()).await;
    }

    fn poll_waiting(&mut self, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.to).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Out<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        std::task::ready!(this.poll_waiting(cx))?;
        match &mut this.filter {
            None => Pin::new(&mut this.to).poll_write(cx, bytes),
            Some(filter) => {
                const ESC: u8 = 0x1b;
                const SHIFT_OUT: u8 = 0x0e;
                this.waiting = filter.feed(bytes);
                this.is_touched |= this.waiting.iter().any(|byte| [ESC, SHIFT_OUT].contains(byte));
                // What is left is written before anything else.
                match this.poll_waiting(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    _ => Poll::Ready(Ok(bytes.len())),
                }
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_waiting(cx))?;
        Pin::new(&mut self.to).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        // stdout and stderr are not ours to close.
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(is_terminal: bool, said: &str) -> String {
        let mut out = Out::new(Vec::new(), is_terminal);
        out.write_all(said.as_bytes()).await.expect("a Vec takes anything");
        out.give_back().await;
        String::from_utf8(out.to).expect("text")
    }

    #[tokio::test]
    async fn a_terminal_is_given_back_as_it_was_and_a_file_gets_what_was_said() {
        let said = "\x1b[?1049h\x1b[?25l\x1b[1mX";
        let on_terminal = shown(true, said).await;
        for undone in ["\x1b[?1049l", "\x1b[?25h", "\x1b[m"] {
            assert!(on_terminal[said.len()..].contains(undone), "{undone:?} in {on_terminal:?}");
        }
        assert_eq!(shown(true, "up 3 days\n").await, "up 3 days\n", "plain text needs nothing");
        assert_eq!(shown(false, said).await, said);
    }
}
