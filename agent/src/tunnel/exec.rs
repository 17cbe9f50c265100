//! A program without a terminal: stdin and stdout on stream 0, stderr on one of
//! the device's own. The exit is the last mark of stream 0, behind the last byte: it
//! waits for the end of both pipes, which what the program left behind may hold open
//! (no byte is lost, as with ssh). Signals are marks of stream 0, or of any further
//! one, where input that is not read holds them up not.

use std::{process::Stdio, sync::Arc};

use nix::unistd::Pid;
use quarterdeck_protocol::tunnel::{
    Content, Item, close::CloseCode, limits::FRAME_DATA_MAX_BYTES, mark::Mark, stream::Closed,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    BULK,
    bulk::Bulk,
    mux::{Mux, Stream, Streams},
    program::{self, CommandLine},
    terminal::FAREWELL_MS,
};

/// A program that runs with pipes.
#[derive(Debug)]
pub(super) struct Exec {
    child: Child,
    group: Pid,
    pipes: Pipes,
}

/// A program's ends of it; they outlive its serving, so that it is hung up before they close.
#[derive(Debug)]
struct Pipes {
    /// Until it ends, or takes no more.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Pipes {
    fn take(child: &mut Child) -> Option<Self> {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take()?, child.stderr.take()?);
        Some(Self { stdin, stdout, stderr })
    }

    /// Throws away what still comes, so that nobody waits for room.
    async fn drain(&mut self) {
        let (mut nowhere, mut nowhere_else) = (tokio::io::sink(), tokio::io::sink());
        // A pipe that cannot be read has nothing to be thrown away.
        let _ = tokio::join!(
            tokio::io::copy(&mut self.stdout, &mut nowhere),
            tokio::io::copy(&mut self.stderr, &mut nowhere_else)
        );
    }
}

impl Exec {
    /// Starts the program, in a process group of its own.
    pub(super) fn spawn(line: &CommandLine) -> Result<Self, Closed> {
        let mut child = Command::new(&line.program)
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
        let pipes = Pipes::take(&mut child)
            .ok_or_else(|| Closed::new(CloseCode::Internal, "the program has no pipes"))?;
        Ok(Self { child, group, pipes })
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
            served = serve(&mut self, mux, tunnel, &mut streams) => served,
            () = hangup.cancelled() => Err(Closed::new(CloseCode::ClosedByUser, "")),
        };
        match served {
            Ok(()) => Closed::new(CloseCode::Finished, ""),
            Err(closed) => {
                let Self { child, group, pipes } = &mut self;
                // Its last words are for nobody, but a pipe that is closed would end it before
                // it has put things in order.
                let ending = program::end(child, *group);
                tokio::pin!(ending);
                tokio::select! {
                    () = &mut ending => {}
                    () = pipes.drain() => ending.await,
                }
                closed
            }
        }
    }
}

async fn serve(
    exec: &mut Exec,
    mux: &Arc<Mux>,
    tunnel: u32,
    streams: &mut Streams,
) -> Result<(), Closed> {
    let Exec { child, group, pipes } = exec;
    let group = *group;
    let Some(main) = streams.recv().await else {
        return Err(Closed::new(CloseCode::ClosedByUser, ""));
    };
    let errors = mux
        .open(tunnel, BULK)
        .map_err(|refused| Closed::new(CloseCode::Busy, refused.to_string()))?;
    let Pipes { stdin, stdout, stderr } = pipes;
    let output = async {
        let (status, out, err) = tokio::join!(child.wait(), pump(stdout, &main), async {
            let pumped = pump(stderr, &errors).await;
            errors.finish();
            pumped
        });
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
        type_into(stdin, group, &main).await;
        // The program's end decides, not that of its input.
        std::future::pending::<()>().await;
    };
    let more_signals = async {
        // All tasks of a JoinSet end with it.
        let mut taking = JoinSet::new();
        while let Some(stream) = streams.recv().await {
            while taking.try_join_next().is_some() {}
            stream.finish();
            taking.spawn(async move { type_into(&mut None, group, &stream).await });
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

/// Moves what a pipe gives until its end.
async fn pump(pipe: &mut (impl AsyncRead + Unpin), stream: &Stream) -> Result<(), Closed> {
    let mut bulk = Bulk::default();
    loop {
        match bulk.read(pipe).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => stream.write(bulk.take()).await?,
        }
    }
}

/// Gives the program its input, until that ends or it takes no more, and its signals.
async fn type_into(stdin: &mut Option<ChildStdin>, group: Pid, stream: &Stream) {
    while let Ok((item, until)) = stream.read(FRAME_DATA_MAX_BYTES).await {
        match item {
            Item::Content(Content::Bytes(bytes)) => {
                if let Some(pipe) = stdin
                    && pipe.write_all(&bytes).await.is_err()
                {
                    // It does not want to read: what else comes is dropped, as by a closed pipe.
                    *stdin = None;
                }
            }
            Item::Content(Content::Mark(Mark::Signal(signal))) => {
                program::signal_group(group, signal);
            }
            Item::Content(Content::Mark(_)) => {}
            Item::End => *stdin = None,
        }
        stream.make_safe(until);
    }
}
