//! The small process that stands between the agent and each program it runs.
//!
//! It is this same binary, started under a hidden name, without tokio:
//!
//! ```text
//!  agent ──▶ supervisor (own session, subreaper) ──▶ starter ──exec──▶ program
//!    spec, go, end ─▶                 spec, go ─▶     (own group, limits, user)
//!    ◀─ ready, exited
//! ```
//!
//! What it is for:
//! - The starter waits for `go` before it becomes the program, so the agent can
//!   save who it is first. If the agent dies before that, nothing runs.
//! - All that descends from the program stays below the supervisor, in whatever
//!   session it hides, so all of it can be found and ended.
//! - When the agent dies, its end of the socket closes, and the program is ended.
//!
//! It needs no unsafe code: limits and user are set by the starter on itself.
//! What a program that ended by itself left running in the background is left
//! alone: starting a daemon is a legitimate thing for a script to do.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io::{self, BufReader, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{SigSet, Signal, killpg},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, User, initgroups, setgid, setsid, setuid},
};
use serde::{Deserialize, Serialize};

use super::procfs;
use crate::journal::record::ProcessId;

/// First argument of the supervisor and of the starter: no user types these.
pub const SUPERVISE: &str = "__supervise";
pub const START: &str = "__start";
/// This very binary, even when its file was replaced meanwhile.
pub const THIS_PROGRAM: &str = "/proc/self/exe";
pub const GO: &str = "go\n";
pub const END: &str = "end\n";
/// How long killed processes are waited for, in milliseconds: one that the system holds stays.
const DEATH_MAX_MS: u64 = 1_000;

/// What to run, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Spec {
    /// At least the program.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    pub cwd: Option<PathBuf>,
    pub user: Option<String>,
    /// Most private writable memory of one process, in bytes (`RLIMIT_DATA`).
    pub memory_max_bytes: Option<u64>,
    /// Between SIGTERM and SIGKILL, in milliseconds.
    pub grace_ms: u64,
    /// Goes on when the agent is gone: the command lines that restart the agent or the host.
    pub outlives_agent: bool,
}

/// What the supervisor tells the agent, one JSON object a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    Ready {
        supervisor: ProcessId,
        program: ProcessId,
    },
    /// The program could not be started.
    NotStarted(String),
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// Runs as supervisor or starter if the first argument says so; `None` for a normal start.
pub fn dispatch() -> Option<ExitCode> {
    let role = std::env::args_os().nth(1)?;
    let ended = if role == SUPERVISE {
        supervise()
    } else if role == START {
        start()
    } else {
        return None;
    };
    // Whoever could be told is at the other end of the socket, and was told or is gone.
    Some(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(127) })
}

/// Takes the socket that stands in for stdin; it closes when this process becomes another program.
fn take_socket() -> io::Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn read_line(from: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    match from.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line),
    }
}

// --- the supervisor ---------------------------------------------------------

static IS_ENDING: AtomicBool = AtomicBool::new(false);

fn supervise() -> io::Result<()> {
    let socket = take_socket()?;
    let mut said = socket.try_clone()?;
    let mut told = BufReader::new(socket);
    // A stop of the whole service reaches the agent too, which then ends what runs in order.
    let mut stops = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        stops.add(signal);
    }
    stops.thread_block()?;
    setsid()?;
    prctl::set_child_subreaper(true)?;
    let line = read_line(&mut told)?;
    let spec: Spec = serde_json::from_str(&line)?;

    let (ours, theirs) = UnixStream::pair()?;
    let program = Command::new(THIS_PROGRAM)
        .arg0("quarterdeck-agent")
        .arg(START)
        .env_clear()
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let group = Pid::from_raw(program.id() as i32);
    let mut to_starter = ours;
    to_starter.write_all(line.as_bytes())?;
    say(
        &mut said,
        &Said::Ready {
            supervisor: procfs::identify(std::process::id() as i32)?,
            program: procfs::identify(group.as_raw())?,
        },
    );

    let mut said_by_listener = said.try_clone()?;
    let (has_begun, begun) = mpsc::channel();
    let (is_alone, alone) = mpsc::channel();
    thread::spawn(move || {
        let heard = Heard { has_begun, alone };
        listen(&mut told, to_starter, &mut said_by_listener, group, &spec, &heard);
    });
    wait_for(group, &mut said, &begun, &is_alone);
    Ok(())
}

fn say(to: &mut UnixStream, said: &Said) {
    let mut line = serde_json::to_vec(said).expect("plain data");
    line.push(b'\n');
    // An agent that is gone is noticed by the listener.
    let _ = to.write_all(&line);
}

/// Reaps whatever ends below; returns when the program has, and nothing is being ended.
///
/// `begun` is over when it is known whether the starter became the program:
/// until then its end says nothing. `is_alone` is told when nothing is left
/// below: whatever descends from the program ends up a child of this process,
/// so nobody has to look through `/proc` for it again and again.
fn wait_for(
    group: Pid,
    said: &mut UnixStream,
    begun: &mpsc::Receiver<()>,
    is_alone: &mpsc::Sender<()>,
) {
    loop {
        let (pid, code, signal) = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, None, Some(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => continue,
            // None left: the listener, which is ending them, ends this process.
            Err(_) => {
                let _ = is_alone.send(());
                thread::park();
                continue;
            }
        };
        if pid == group {
            // An error: the listener is gone, and has nothing to say.
            let _ = begun.recv();
            say(said, &Said::Exited { code, signal });
            if !IS_ENDING.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// What the two threads tell each other.
struct Heard {
    has_begun: mpsc::Sender<()>,
    alone: mpsc::Receiver<()>,
}

/// Does what the agent says; when it is gone, ends the program.
fn listen(
    told: &mut BufReader<UnixStream>,
    mut starter: UnixStream,
    said: &mut UnixStream,
    group: Pid,
    spec: &Spec,
    heard: &Heard,
) {
    loop {
        match read_line(told).as_deref() {
            Ok(GO) => {
                let mut refusal = String::new();
                let went = starter.write_all(GO.as_bytes());
                if went.and_then(|()| io::Read::read_to_string(&mut starter, &mut refusal)).is_ok()
                    && !refusal.is_empty()
                {
                    say(said, &Said::NotStarted(refusal));
                }
                let _ = heard.has_begun.send(());
            }
            Ok(END) => break,
            Ok(_) => {}
            Err(_) if spec.outlives_agent => return,
            Err(_) => break,
        }
    }
    IS_ENDING.store(true, Ordering::SeqCst);
    let me = std::process::id() as i32;
    let _ = killpg(group, Signal::SIGTERM);
    procfs::signal_descendants(me, Signal::SIGTERM);
    if heard.alone.recv_timeout(Duration::from_millis(spec.grace_ms)).is_err() {
        procfs::kill_descendants(me);
        // The other thread says how the program ended before it is alone.
        let _ = heard.alone.recv_timeout(Duration::from_millis(DEATH_MAX_MS));
    }
    std::process::exit(0);
}

// --- the starter ------------------------------------------------------------

fn start() -> io::Result<()> {
    // The supervisor heeds no stop of the whole service; the program is to heed its own.
    SigSet::empty().thread_set_mask()?;
    let mut socket = take_socket()?;
    let mut told = BufReader::new(socket.try_clone()?);
    let spec: Spec = serde_json::from_str(&read_line(&mut told)?)?;
    if read_line(&mut told)? != GO {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let refusal = become_program(&spec);
    socket.write_all(refusal.as_bytes())
}

/// Becomes the program; if it returns, it says why it could not.
fn become_program(spec: &Spec) -> String {
    let Some((program, args)) = spec.argv.split_first() else {
        return "there is no program to start".to_owned();
    };
    if let Err(errno) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        return format!("cannot switch off core dumps: {}", errno.desc());
    }
    if let Some(bytes) = spec.memory_max_bytes
        && let Err(errno) = setrlimit(Resource::RLIMIT_DATA, bytes, bytes)
    {
        return format!("cannot limit its memory to {bytes} bytes: {}", errno.desc());
    }
    if let Some(name) = &spec.user
        && let Err(refusal) = become_user(name)
    {
        return refusal;
    }
    if let Some(cwd) = &spec.cwd
        && let Err(error) = std::env::set_current_dir(cwd)
    {
        return format!("cannot enter the folder {}: {error}", cwd.display());
    }
    let error =
        Command::new(program).args(args).env_clear().envs(&spec.env).stdin(Stdio::null()).exec();
    format!("cannot start {program}: {error}")
}

pub(super) fn become_user(name: &str) -> Result<(), String> {
    let user = User::from_name(name)
        .map_err(|errno| format!("cannot look up the user {name}: {}", errno.desc()))?
        .ok_or_else(|| format!("there is no user {name} on this device"))?;
    if user.uid == nix::unistd::geteuid() {
        return Ok(());
    }
    let cname = CString::new(name).map_err(|_| "a user's name has no NUL".to_owned())?;
    initgroups(&cname, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|errno| {
            format!("cannot become the user {name}: {} (the agent must run as root)", errno.desc())
        })
}
