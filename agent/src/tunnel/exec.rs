//! A program without a terminal: stdin and stdout on stream 0, stderr on one of
//! the device's own. The exit is the last mark of stream 0. Signals are marks of
//! stream 0, or of any further one, where input that is not read holds them up not.

use std::{process::Stdio, sync::Arc};

use bytes::BytesMut;
use nix::unistd::Pid;
use quarterdeck_protocol::tunnel::{
    Content, Item, close::CloseCode, limits::FRAME_DATA_MAX_BYTES, mark::Mark, stream::Closed,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    task::JoinSet,
    time::{Duration, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    BULK,
    forward::take,
    mux::{Mux, Stream, Streams},
    program::{self, CommandLine, LAST_OUTPUT_MS},
    terminal::FAREWELL_MS,
};

/// A program that runs with pipes.
#[derive(Debug)]
pub(super) struct Exec {
    child: Child,
    group: Pid,
}

impl Exec {
    /// Starts the program, in a process group of its own.
    pub(super) fn spawn(line: &CommandLine) -> Result<Self, Closed> {
        let child = Command::new(&line.program)
            .args(&line.args)
            .env_clear()
            .envs(&line.env)
            .current_dir(&line.cwd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| program::launch_failed(&line.program.to_string_lossy(), &error))?;
        let group = Pid::from_raw(child.id().unwrap_or_default() as i32);
        Ok(Self { child, group })
    }

    /// Serves the program until it has ended and all is delivered, or until it is hung up.
    pub(super) async fn run(
        mut self,
        mux: &Arc<Mux>,
        tunnel: u32,
        mut streams: Streams,
        hangup: &CancellationToken,
    ) -> Closed {
        let served = tokio::select! {
            served = serve(&mut self.child, self.group, mux, tunnel, &mut streams) => served,
            () = hangup.cancelled() => Err(Closed::new(CloseCode::ClosedByUser, "")),
        };
        match served {
            Ok(()) => Closed::new(CloseCode::Finished, ""),
            Err(closed) => {
                program::end(&mut self.child, self.group).await;
                closed
            }
        }
    }
}

async fn serve(
    child: &mut Child,
    group: Pid,
    mux: &Arc<Mux>,
    tunnel: u32,
    streams: &mut Streams,
) -> Result<(), Closed> {
    let Some(main) = streams.recv().await else {
        return Err(Closed::new(CloseCode::ClosedByUser, ""));
    };
    let errors = mux
        .open(tunnel, BULK)
        .map_err(|refused| Closed::new(CloseCode::Busy, refused.to_string()))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Closed::new(CloseCode::Internal, "the program has no pipes"));
    };
    let exited = CancellationToken::new();
    let output = async {
        let wait = async {
            let status = child.wait().await;
            exited.cancel();
            status
        };
        let (status, out, err) = tokio::join!(wait, pump(stdout, &main, &exited), async {
            let pumped = pump(stderr, &errors, &exited).await;
            errors.finish();
            pumped
        },);
        out?;
        err?;
        let status = status.map_err(|error| {
            Closed::new(CloseCode::Internal, format!("cannot tell how the program ended: {error}"))
        })?;
        main.mark(Mark::Exit(program::exit_of(status))).await?;
        main.finish();
        main.delivered().await?;
        errors.delivered().await
    };
    let input = async {
        type_into(Some(stdin), group, &main).await;
        // The program's end decides, not that of its input.
        std::future::pending::<()>().await;
    };
    let more_signals = async {
        // All tasks of a JoinSet end with it.
        let mut taking = JoinSet::new();
        while let Some(stream) = streams.recv().await {
            while taking.try_join_next().is_some() {}
            stream.finish();
            taking.spawn(async move { type_into(None, group, &stream).await });
        }
        std::future::pending::<()>().await;
    };
    let nothing_comes = async {
        // Nobody speaks to stderr.
        while let Ok((_, until)) = errors.read(FRAME_DATA_MAX_BYTES).await {
            errors.make_safe(until);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        delivered = output => delivered?,
        () = input => {}
        () = more_signals => {}
        () = nothing_comes => {}
    }
    // Whether the other end takes its leave or not: it is told by `close`.
    let farewell = async {
        while let Ok((_, until)) = main.read(FRAME_DATA_MAX_BYTES).await {
            main.make_safe(until);
        }
    };
    let _ = timeout(Duration::from_millis(FAREWELL_MS), farewell).await;
    Ok(())
}

/// Moves what a pipe gives until its end, or until the program's and the pipe is quiet.
async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    stream: &Stream,
    exited: &CancellationToken,
) -> Result<(), Closed> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(FRAME_DATA_MAX_BYTES / 4);
        let quiet = async {
            exited.cancelled().await;
            sleep(Duration::from_millis(LAST_OUTPUT_MS)).await;
        };
        tokio::select! {
            biased;
            read = pipe.read_buf(&mut buffer) => match read {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => stream.write(take(&mut buffer)).await?,
            },
            () = quiet => return Ok(()),
        }
    }
}

/// Gives the program its input, until that ends or it takes no more, and its signals.
async fn type_into(mut stdin: Option<ChildStdin>, group: Pid, stream: &Stream) {
    while let Ok((item, until)) = stream.read(FRAME_DATA_MAX_BYTES).await {
        match item {
            Item::Content(Content::Bytes(bytes)) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&bytes).await.is_err()
                {
                    // It does not want to read: what else comes is dropped, as by a closed pipe.
                    stdin = None;
                }
            }
            Item::Content(Content::Mark(Mark::Signal(signal))) => {
                program::signal_group(group, signal);
            }
            Item::Content(Content::Mark(_)) => {}
            Item::End => stdin = None,
        }
        stream.make_safe(until);
    }
}
