//! Running a workflow's scripts: no shell, stdin empty, each in a group of its own.
//!
//! ```text
//!  running ─ exited ─▶ draining ─ pipes closed, or held too long ─▶ over
//!     │ time-out, stopped
//!     ▼
//!  SIGTERM to the group and its descendants ─ exited, or the grace is over ─▶ SIGKILL to all ─▶ over
//! ```
//!
//! No supervisor stands between, as it does for `run_script`: a step must cost
//! little more than its program, and a thousand may run at once. Where there are
//! control groups, each script has one ([`crate::io::cgroup`]): it bounds how many
//! processes there are, and holds all of them. Where there are none, what hides
//! from its group is found by descent while its parent lives, and by a mark in
//! its environment after that; and what a crash of the agent left behind is
//! found by that mark at the next start, before its state runs again.
//!
//! What a script of a server's command writes is told while it runs ([`crate::io::live`]).
//!
//! What a script leaves in the background when it ends by itself is left alone,
//! unless it still holds a pipe: then the group is ended (T6).

mod family;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsString,
    io,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::family::{Ending, Endings, Family, MARK};
use super::own;
use crate::{
    domain::Moment,
    io::{
        cgroup::{Cgroup, Cgroups},
        live::LiveOutput,
        pipe::read_from,
        procfs,
    },
    work::Stream,
    workflow::{
        engine::Run,
        excerpt::{Excerpts, Scanner},
        outcome::ScriptEnd,
    },
};

/// Variables with this beginning are the agent's own, secrets among them.
const AGENTS_OWN: &str = "QUARTERDECK_AGENT_";
/// From SIGTERM to SIGKILL for a script that is of no interest any more, in milliseconds.
const STOP_GRACE_MS: u64 = 5_000;
/// After the exit, pipes that others hold are read until nothing came for this long, in milliseconds.
const DRAIN_IDLE_MS: u64 = 100;
/// … and at most this long.
const DRAIN_MAX_MS: u64 = 1_000;
/// How long a process may take to vanish after SIGKILL, in milliseconds.
const KILL_MARGIN_MS: u64 = 5_000;
/// What is kept of the end of stderr, for the log.
const STDERR_KEPT_BYTES: usize = 1024;
/// How often a start is tried when the system is short of something, and how long it waits between.
const START_ATTEMPTS: u32 = 50;
const START_AGAIN_MS: u64 = 100;

/// What every script is started with.
#[derive(Debug)]
pub struct Host {
    environment: HashMap<OsString, OsString>,
    /// Tells this agent's scripts from those of another on the same host.
    agent: String,
    cgroups: Arc<Cgroups>,
    endings: Arc<Endings>,
}

/// How a script ended, with what it printed.
#[derive(Debug)]
pub struct Ended {
    pub end: ScriptEnd,
    pub excerpts: Excerpts,
    /// The last that it wrote to stderr.
    pub stderr: Vec<u8>,
}

impl Host {
    /// `agent` is what this agent alone on the host has: its data folder.
    pub fn new(
        environment: impl Iterator<Item = (OsString, OsString)>,
        agent: &str,
        cgroups: Arc<Cgroups>,
    ) -> Self {
        let is_private = |name: &OsString| name.to_string_lossy().starts_with(AGENTS_OWN);
        let environment = environment.filter(|(name, _)| !is_private(name)).collect();
        let agent = format!("{:016x}", own::hash(agent.as_bytes()));
        Self { environment, agent, cgroups, endings: Endings::new(procfs::all) }
    }

    fn mark_of(&self, topic: &str) -> String {
        format!("{}:{topic}", self.agent)
    }

    fn command(&self, program: &str, arguments: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.environment);
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// Makes the control group of a script; on another thread, since the kernel may take its time.
    async fn cgroup(self: &Arc<Self>) -> Arc<Cgroup> {
        let host = Arc::clone(self);
        tokio::task::spawn_blocking(move || Arc::new(host.cgroups.make())).await.unwrap_or_default()
    }

    /// Removes it when the script is over.
    fn remove(&self, cgroup: Arc<Cgroup>) {
        if let Some(cgroup) = Arc::into_inner(cgroup) {
            self.cgroups.remove(cgroup);
        }
    }

    /// Starts something that nobody awaits; what was said if it cannot be.
    pub async fn launch(
        self: Arc<Self>,
        program: &str,
        arguments: &[String],
    ) -> Result<(), String> {
        let mut command = self.command(program, arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let cgroup = self.cgroup().await;
        // Dropped, it is still reaped when it ends.
        let started = spawn(command, &cgroup).await.map(drop);
        self.remove(cgroup);
        started.map_err(|error| format!("{program}: {error}"))
    }

    /// Runs a script to its end, or until `stop` and all of it is gone.
    pub async fn run(
        self: Arc<Self>,
        run: Run,
        topic: &str,
        now: Moment,
        stop: CancellationToken,
        live: Option<Arc<LiveOutput>>,
    ) -> Ended {
        let mut command = self.command(&run.program, &run.arguments);
        let mark = self.mark_of(topic);
        command.env(MARK, &mark).stdout(Stdio::piped()).stderr(Stdio::piped());
        let cgroup = self.cgroup().await;
        let mut child = match spawn(command, &cgroup).await {
            Ok(child) => child,
            Err(error) => {
                self.remove(cgroup);
                let end = ScriptEnd::NotLaunched(error.to_string());
                return Ended { end, excerpts: Excerpts::default(), stderr: Vec::new() };
            }
        };
        let group = child.id().map_or(0, |pid| pid as i32);
        let family = Family {
            group,
            since_ticks: ticks(now),
            mark,
            cgroup: Arc::clone(&cgroup),
            is_in_cgroup: cgroup.is_birthplace_of(group),
            endings: Arc::clone(&self.endings),
        };
        let mut output = Output::new(&mut child, live);
        let (status, is_late) = output.until_exit(&mut child, &run, &family, &stop).await;
        if is_late {
            family.end(Ending::Kill).await;
        }
        if !output.drain().await {
            family.end(Ending::Kill).await;
            output.drain().await;
        }
        if let Some(live) = &output.live {
            live.end_of_program();
        }
        drop(family);
        self.remove(cgroup);
        let end = match status {
            _ if is_late => ScriptEnd::TimedOut,
            Some(status) => end_of(status),
            None => ScriptEnd::TimedOut,
        };
        Ended { end, excerpts: output.scanner.finish(), stderr: output.stderr_end.into() }
    }

    /// Ends what is left of the scripts of these commands, after the agent went down.
    pub fn kill_leftovers(&self, topics: impl Iterator<Item = String>) -> usize {
        let marks: HashSet<_> = topics.map(|topic| self.mark_of(&topic)).collect();
        if marks.is_empty() { 0 } else { family::kill_marked(&marks) }
    }
}

/// Starts a program on another thread: its file may lie on a file system that hangs.
async fn spawn(command: Command, cgroup: &Arc<Cgroup>) -> io::Result<Child> {
    let mut command = command;
    let mut attempts = 0;
    loop {
        let cgroup = Arc::clone(cgroup);
        let started = tokio::task::spawn_blocking(move || {
            let started = cgroup.spawn(&mut command);
            (command, started)
        });
        let (again, started) = started.await.map_err(io::Error::other)?;
        attempts += 1;
        match started {
            Err(error) if is_shortage(&error) && attempts < START_ATTEMPTS => {
                command = again;
                sleep(Duration::from_millis(START_AGAIN_MS)).await;
            }
            started => return started,
        }
    }
}

/// Whether waiting may help: too many files or processes, or a file that is still being written.
fn is_shortage(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    let short = [Errno::EAGAIN, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ETXTBSY];
    errno.is_some_and(|errno| short.contains(&errno))
}

fn end_of(status: ExitStatus) -> ScriptEnd {
    use std::os::unix::process::ExitStatusExt as _;
    match status.code() {
        // The kernel keeps eight bits of it.
        Some(code) => ScriptEnd::Exited(code as u8),
        None => ScriptEnd::Killed(status.signal().unwrap_or(0)),
    }
}

/// The pipes of a script, and what is kept of what comes through them.
struct Output {
    stdout: Option<tokio::process::ChildStdout>,
    stderr: Option<tokio::process::ChildStderr>,
    scanner: Scanner,
    stderr_end: VecDeque<u8>,
    /// Who tells the server of it, if somebody does.
    live: Option<Arc<LiveOutput>>,
}

impl Output {
    fn new(child: &mut Child, live: Option<Arc<LiveOutput>>) -> Self {
        Self {
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            scanner: Scanner::default(),
            stderr_end: VecDeque::new(),
            live,
        }
    }

    /// Reads once from either pipe; never returns when both are closed.
    async fn read(&mut self) {
        let Self { stdout, stderr, scanner, stderr_end, live } = self;
        let live = live.as_ref();
        let tell = |stream, bytes: &[u8]| {
            if let Some(live) = live {
                live.push(stream, bytes);
            }
        };
        let take_stdout = |bytes: &[u8]| {
            scanner.push(bytes);
            tell(Stream::Stdout, bytes);
        };
        let take_stderr = |bytes: &[u8]| {
            keep_end(stderr_end, bytes);
            tell(Stream::Stderr, bytes);
        };
        tokio::select! {
            () = read_from(stdout, take_stdout) => {}
            () = read_from(stderr, take_stderr) => {}
        }
    }

    /// The same, once who tells of it can take more.
    async fn read_in_pace(&mut self) {
        if let Some(live) = &self.live {
            live.room().await;
        }
        self.read().await;
    }

    const fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Waits for the exit, which a time-out or `stop` hastens; says if the time was over.
    ///
    /// No status: it did not even go on SIGKILL.
    async fn until_exit(
        &mut self,
        child: &mut Child,
        run: &Run,
        family: &Family,
        stop: &CancellationToken,
    ) -> (Option<ExitStatus>, bool) {
        let after = |millis| Instant::now() + Duration::from_millis(millis);
        let timeout_at = run.timeout_ms.map(|timeout_ms| after(timeout_ms.max(0) as u64));
        let mut kill_at = None;
        let mut give_up_at = None;
        let mut is_late = false;
        loop {
            tokio::select! {
                status = child.wait() => return (status.ok(), is_late),
                () = self.read_in_pace() => {}
                () = sleep_until_some(timeout_at), if kill_at.is_none() => {
                    is_late = true;
                    kill_at = Some(after(run.kill_after_ms() as u64));
                    family.end(Ending::Terminate).await;
                }
                () = stop.cancelled(), if kill_at.is_none() => {
                    is_late = true;
                    kill_at = Some(after(STOP_GRACE_MS));
                    family.end(Ending::Terminate).await;
                }
                () = sleep_until_some(kill_at), if give_up_at.is_none() => {
                    give_up_at = Some(after(KILL_MARGIN_MS));
                    family.end(Ending::Kill).await;
                }
                () = sleep_until_some(give_up_at) => return (None, is_late),
            }
        }
    }

    /// Reads what is left; `false` if somebody goes on holding a pipe.
    async fn drain(&mut self) -> bool {
        let stop_at = Instant::now() + Duration::from_millis(DRAIN_MAX_MS);
        while self.is_open() {
            let idle_at = Instant::now() + Duration::from_millis(DRAIN_IDLE_MS);
            tokio::select! {
                () = self.read() => {}
                () = sleep_until(idle_at.min(stop_at)) => return false,
            }
        }
        true
    }
}

fn keep_end(kept: &mut VecDeque<u8>, bytes: &[u8]) {
    let bytes = &bytes[bytes.len().saturating_sub(STDERR_KEPT_BYTES)..];
    let surplus = (kept.len() + bytes.len()).saturating_sub(STDERR_KEPT_BYTES);
    kept.drain(..surplus);
    kept.extend(bytes);
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Clock ticks since the host started, as `/proc` counts them; one less, since both are cut off.
fn ticks(now: Moment) -> u64 {
    const MILLIS_A_TICK: i64 = 10;
    (now.as_millis() / MILLIS_A_TICK - 1).max(0).unsigned_abs()
}
