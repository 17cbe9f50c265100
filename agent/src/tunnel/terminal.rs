//! A program on a terminal of its own.
//!
//! ```text
//!   streams ──keys, resizes, signals──▶ inputs ──▶ ┌─────┐
//!                                         │ resize │ PTY │ ⇄ program
//!   stream 0 ◀──bytes, marks── output ◀───┴────────└─────┘
//! ```
//!
//! Output and inputs are tasks apart: a program that does not read its terminal
//! still shows what it writes. How far the program may be ahead of the network
//! is what stream 0 takes; beyond it the program waits, as on a slow line.

use std::{os::fd::OwnedFd, sync::Arc};

use bytes::BytesMut;
use nix::unistd::{Pid, tcgetpgrp};
use quarterdeck_protocol::tunnel::{
    Content, Item,
    close::CloseCode,
    mark::{Mark, Size},
    stream::Closed,
};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::{
    process::Child,
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{Duration, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    mux::{Stream, Streams},
    program::{self, CommandLine, LAST_OUTPUT_MS},
};
use crate::io::pty::{Reader, Writer};

/// Keys that are written at once, in bytes.
const WRITE_BYTES: usize = 4 * 1024;
/// Resizes that may wait to be echoed.
const RESIZES_MAX: usize = 8;
/// How long the other end may take to end its direction too, in milliseconds.
pub(super) const FAREWELL_MS: u64 = 5_000;

/// A program that runs on a terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    child: Child,
    group: Pid,
    reader: Reader,
    inputs: Inputs,
    size: Size,
}

/// What all who type have in common.
#[derive(Debug, Clone)]
struct Inputs {
    writer: Arc<Mutex<Writer>>,
    /// The terminal itself: to resize it while a write to it waits.
    terminal: Arc<OwnedFd>,
    leader: Pid,
}

impl Terminal {
    /// Starts the program.
    pub(super) fn spawn(line: &CommandLine, size: Size, term: &str) -> Result<Self, Closed> {
        let program = line.program.to_string_lossy().into_owned();
        let failed = |error: pty_process::Error| program::launch_failed(&program, &error);
        let (pty, pts) = pty_process::open().map_err(failed)?;
        pty.resize(pty_process::Size::new(size.rows.get(), size.cols.get())).map_err(failed)?;
        let child = pty_process::Command::new(&line.program)
            .args(&line.args)
            .env_clear()
            .envs(&line.env)
            .env("TERM", term)
            .current_dir(&line.cwd)
            .kill_on_drop(true)
            .spawn(pts)
            .map_err(failed)?;
        let leader = Pid::from_raw(child.id().unwrap_or_default() as i32);
        let terminal = Arc::new(OwnedFd::from(pty));
        let reader =
            Reader::new(&terminal).map_err(|error| program::launch_failed(&program, &error))?;
        let writer = Arc::new(Mutex::new(Writer::new(Arc::clone(&terminal))));
        let inputs = Inputs { writer, terminal, leader };
        Ok(Self { child, group: leader, reader, inputs, size })
    }

    /// Serves the program until it has ended and all is delivered, or until it is hung up.
    pub(super) async fn run(mut self, mut streams: Streams, hangup: &CancellationToken) -> Closed {
        let served = tokio::select! {
            served = serve(&mut self.child, &mut self.reader, &self.inputs, self.size, &mut streams) => served,
            () = hangup.cancelled() => Err(Closed::new(CloseCode::ClosedByUser, "")),
        };
        match served {
            Ok(()) => {
                // What it left in the background is hung up by the terminal's end.
                drop(self);
                Closed::new(CloseCode::Finished, "")
            }
            Err(closed) => {
                program::end(&mut self.child, self.group).await;
                closed
            }
        }
    }
}

async fn serve(
    child: &mut Child,
    reader: &mut Reader,
    inputs: &Inputs,
    size: Size,
    streams: &mut Streams,
) -> Result<(), Closed> {
    let Some(main) = streams.recv().await else {
        return Err(Closed::new(CloseCode::ClosedByUser, ""));
    };
    let main = Arc::new(main);
    let (resized, mut resizes) = mpsc::channel(RESIZES_MAX);
    // All tasks of a JoinSet end with it.
    let mut typing = JoinSet::new();
    typing.spawn(inputs.clone().take_from(Arc::clone(&main), resized.clone()));
    let more_inputs = async {
        while let Some(stream) = streams.recv().await {
            while typing.try_join_next().is_some() {}
            stream.finish();
            typing.spawn(inputs.clone().take_from(Arc::new(stream), resized.clone()));
        }
        std::future::pending::<()>().await;
    };
    let exited = CancellationToken::new();
    let wait = async {
        let status = child.wait().await;
        exited.cancel();
        status
    };
    let output = async {
        main.mark(Mark::Resize(size)).await?;
        let pumped = pump(reader, &main, &mut resizes, &exited);
        let (status, pumped) = tokio::join!(wait, pumped);
        pumped?;
        let status = status.map_err(|error| {
            Closed::new(CloseCode::Internal, format!("cannot tell how the program ended: {error}"))
        })?;
        main.mark(Mark::Exit(program::exit_of(status))).await?;
        main.finish();
        main.delivered().await
    };
    tokio::select! {
        delivered = output => delivered?,
        () = more_inputs => {}
    }
    // The other end is told by `close` in any case.
    let _ = timeout(Duration::from_millis(FAREWELL_MS), main.closed()).await;
    Ok(())
}

/// Moves output, with resizes where they took effect, until the terminal is at
/// its end, or the program is and the terminal quiet.
async fn pump(
    reader: &mut Reader,
    main: &Stream,
    resizes: &mut mpsc::Receiver<Size>,
    exited: &CancellationToken,
) -> Result<(), Closed> {
    let mut buffer = BytesMut::new();
    loop {
        let quiet = async {
            exited.cancelled().await;
            sleep(Duration::from_millis(LAST_OUTPUT_MS)).await;
        };
        tokio::select! {
            biased;
            Some(size) = resizes.recv() => main.mark(Mark::Resize(size)).await?,
            read = reader.read(&mut buffer) => match read {
                // EIO: nobody has the terminal open any more.
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => main.write(buffer.split().freeze()).await?,
            },
            () = quiet => return Ok(()),
        }
    }
}

impl Inputs {
    /// Types what comes on one stream.
    async fn take_from(self, stream: Arc<Stream>, resized: mpsc::Sender<Size>) {
        while let Ok((item, until)) = stream.read(WRITE_BYTES).await {
            match item {
                Item::Content(Content::Bytes(bytes)) => {
                    if self.writer.lock().await.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Item::Content(Content::Mark(Mark::Resize(size))) => {
                    self.resize(size);
                    if resized.send(size).await.is_err() {
                        return;
                    }
                }
                Item::Content(Content::Mark(Mark::Signal(signal))) => {
                    let foreground = tcgetpgrp(&*self.terminal).unwrap_or(self.leader);
                    program::signal_group(foreground, signal);
                }
                Item::Content(Content::Mark(Mark::Exit(_))) | Item::End => {}
            }
            stream.make_safe(until);
        }
    }

    fn resize(&self, size: Size) {
        let size = Winsize {
            ws_row: size.rows.get(),
            ws_col: size.cols.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let Err(error) = tcsetwinsize(&*self.terminal, size) {
            tracing::warn!(%error, "cannot resize a terminal");
        }
    }
}
