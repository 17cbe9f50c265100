//! Running a program: started only once that is saved, drained whatever it
//! writes, ended with all that came from it.
//!
//! ```text
//!  starting ─ready─▶ saved by the engine ─go─▶ running ─exited─▶ drained ─▶ over
//!                                                │ end
//!                                                ▼
//!                                  SIGTERM ─grace─▶ SIGKILL, the whole tree ─▶ over
//! ```
//!
//! Where there are control groups, each program has one ([`super::cgroup`]): it bounds how many
//! processes there are, and holds all of them.
//!
//! A program is over when it has exited, even if children of its still hold its
//! pipes; what they write later is not read. Memory is bounded whatever is
//! written: see [`super::output`].

use std::{os::fd::OwnedFd, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    cgroup::{Cgroup, Cgroups},
    output::{Capture, FLUSH_AFTER_MS},
    procfs,
    supervisor::{END, GO, SUPERVISE, Said, Spec, THIS_PROGRAM},
};
use crate::{
    journal::record::ProcessMark,
    work::{Report, Reports, Stream},
};

/// After the exit, pipes that others hold are read until nothing came for this long, in milliseconds.
const DRAIN_IDLE_MS: u64 = 100;
/// … and at most this long.
const DRAIN_MAX_MS: u64 = 1_000;
/// How long the supervisor may take beyond the grace to end everything, in milliseconds.
const END_MARGIN_MS: u64 = 5_000;

/// Says why a program could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start the supervisor")]
    Supervisor { source: std::io::Error },
    #[error("the supervisor went away before the program was started")]
    SupervisorGone,
    #[error("that the program is about to start could not be saved")]
    NotSaved,
}

/// How the agent starts programs.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The agent's own binary, for the supervisor.
    pub program: PathBuf,
    pub boot_id: String,
    pub cgroups: Arc<Cgroups>,
}

impl Launcher {
    pub fn new(boot_id: String, cgroups: Arc<Cgroups>) -> Self {
        Self { program: THIS_PROGRAM.into(), boot_id, cgroups }
    }

    /// Makes the program's control group and has it enter; on another thread, since the kernel
    /// may take its time.
    async fn group_for(&self, program: i32) -> Arc<Cgroup> {
        let cgroups = Arc::clone(&self.cgroups);
        let made = tokio::task::spawn_blocking(move || {
            let group = cgroups.make();
            group.enter(program);
            Arc::new(group)
        });
        made.await.unwrap_or_default()
    }

    /// Removes it; `ends` what is still in it first.
    async fn remove(&self, group: Arc<Cgroup>, ends: bool) {
        let cgroups = Arc::clone(&self.cgroups);
        let removed = tokio::task::spawn_blocking(move || {
            if ends {
                group.kill();
            }
            if let Some(group) = Arc::into_inner(group) {
                cgroups.remove(group);
            }
        });
        if let Err(error) = removed.await {
            tracing::error!(%error, "a program's control group cannot be removed");
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Code(i32),
    Signal(i32),
    NotStarted(String),
    /// Its supervisor was killed, and it with it.
    Lost,
}

/// What is left of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub ending: Ending,
    /// Capped, with a marker where it was cut.
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end, or until `end` is cancelled and all of it is gone.
pub async fn run(
    launcher: &Launcher,
    spec: &Spec,
    end: &CancellationToken,
    reports: &Reports,
) -> Result<Finished, ProcessError> {
    let (mut child, control) =
        spawn(launcher).map_err(|source| ProcessError::Supervisor { source })?;
    let (said, mut tell) = control.into_split();
    let mut said = BufReader::new(said).lines();

    let mut line = serde_json::to_vec(spec).expect("plain data");
    line.push(b'\n');
    if tell.write_all(&line).await.is_err() {
        return Err(ProcessError::SupervisorGone);
    }
    let Some(Said::Ready { supervisor, program }) = next_said(&mut said).await else {
        return Err(ProcessError::SupervisorGone);
    };
    // Before it is let go: all that it starts is in the group too.
    let group = launcher.group_for(program.pid).await;
    let mark = ProcessMark { boot_id: launcher.boot_id.clone(), supervisor, program };
    let (go, may_go) = oneshot::channel();
    reports.send(Report::Ready { mark: mark.clone(), go }).await;
    let may_go = tokio::select! {
        biased;
        // Ended before it began: it is not let go any more.
        () = end.cancelled() => Err(()),
        let_go = may_go => let_go.map_err(drop),
    };
    let let_go = match may_go {
        Ok(()) => tell.write_all(GO.as_bytes()).await.map_err(|_| ProcessError::SupervisorGone),
        Err(()) => Err(ProcessError::NotSaved),
    };
    if let Err(error) = let_go {
        launcher.remove(group, true).await;
        return Err(error);
    }
    let mut running = Running {
        stdout: Pipe::new(child.stdout.take()),
        stderr: Pipe::new(child.stderr.take()),
        ending: None,
        is_supervised: true,
        flush_at: None,
    };
    running.until_over(&mut said, &mut tell, spec, end, reports).await;
    running.flush(reports, true).await;
    drop(tell);
    if timeout(Duration::from_millis(END_MARGIN_MS), child.wait()).await.is_err() {
        let _ = child.start_kill();
    }
    let ending = if let Some(ending) = running.ending {
        ending
    } else {
        let id = reports.id.to_string();
        let boot_id = launcher.boot_id.clone();
        let swept = tokio::task::spawn_blocking(move || {
            procfs::kill_leftovers(&mark, &id, &boot_id);
        });
        let _ = swept.await;
        Ending::Lost
    };
    // What a program that ended by itself left running is left alone.
    let ends = end.is_cancelled() || ending == Ending::Lost;
    launcher.remove(group, ends).await;
    Ok(Finished {
        ending,
        stdout: running.stdout.capture.whole(),
        stderr: running.stderr.capture.whole(),
    })
}

fn spawn(launcher: &Launcher) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let child = Command::new(&launcher.program)
        .arg0("quarterdeck-agent")
        .arg(SUPERVISE)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

type SaidLines = Lines<BufReader<OwnedReadHalf>>;

async fn next_said(lines: &mut SaidLines) -> Option<Said> {
    let line = lines.next_line().await.ok().flatten()?;
    serde_json::from_str(&line).ok()
}

/// A pipe and what came through it.
struct Pipe<R> {
    from: Option<R>,
    capture: Capture,
}

impl<R: tokio::io::AsyncRead + Unpin> Pipe<R> {
    fn new(from: Option<R>) -> Self {
        Self { from, capture: Capture::default() }
    }

    /// Reads once; never returns when the pipe is closed.
    async fn read(&mut self) {
        let Self { from, capture } = self;
        super::pipe::read_from(from, |bytes| capture.push(bytes)).await;
    }
}

struct Running {
    stdout: Pipe<tokio::process::ChildStdout>,
    stderr: Pipe<tokio::process::ChildStderr>,
    ending: Option<Ending>,
    is_supervised: bool,
    flush_at: Option<Instant>,
}

impl Running {
    async fn until_over(
        &mut self,
        said: &mut SaidLines,
        tell: &mut OwnedWriteHalf,
        spec: &Spec,
        end: &CancellationToken,
        reports: &Reports,
    ) {
        let mut is_ending = false;
        // When to stop waiting: for pipes that others hold, or for a supervisor that hangs.
        let (mut idle_at, mut stop_at): (Option<Instant>, Option<Instant>) = (None, None);
        while self.is_supervised || self.stdout.from.is_some() || self.stderr.from.is_some() {
            let mut has_read = false;
            tokio::select! {
                () = self.stdout.read() => has_read = true,
                () = self.stderr.read() => has_read = true,
                word = next_said(said), if self.is_supervised => {
                    match word {
                        Some(Said::Exited { code: Some(code), .. }) => {
                            self.ending.get_or_insert(Ending::Code(code));
                        }
                        Some(Said::Exited { signal, .. }) => {
                            self.ending.get_or_insert(Ending::Signal(signal.unwrap_or(0)));
                        }
                        Some(Said::NotStarted(why)) => self.ending = Some(Ending::NotStarted(why)),
                        Some(Said::Ready { .. }) => {}
                        None => {
                            self.is_supervised = false;
                            stop_at = Some(after(DRAIN_MAX_MS));
                            idle_at = Some(after(DRAIN_IDLE_MS));
                        }
                    }
                }
                () = sleep_until_some(self.flush_at) => self.flush(reports, false).await,
                () = end.cancelled(), if !is_ending => {
                    is_ending = true;
                    stop_at.get_or_insert(after(spec.grace_ms + END_MARGIN_MS));
                    let _ = tell.write_all(END.as_bytes()).await;
                }
                () = sleep_until_some(stop_at) => return,
                () = sleep_until_some(idle_at) => return,
            }
            if has_read {
                if !self.is_supervised {
                    idle_at = Some(after(DRAIN_IDLE_MS));
                }
                if self.stdout.capture.has_full_chunk() || self.stderr.capture.has_full_chunk() {
                    self.flush(reports, false).await;
                } else if self.stdout.capture.has_chunk() || self.stderr.capture.has_chunk() {
                    self.flush_at.get_or_insert(after(FLUSH_AFTER_MS));
                }
            }
        }
    }

    async fn flush(&mut self, reports: &Reports, is_last: bool) {
        self.flush_at = None;
        let both = [
            (Stream::Stdout, &mut self.stdout.capture),
            (Stream::Stderr, &mut self.stderr.capture),
        ];
        for (stream, capture) in both {
            if is_last {
                capture.finish();
            }
            while let Some(chunk) = capture.take_chunk() {
                reports.send(Report::Output { stream, chunk }).await;
            }
        }
    }
}

fn after(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
