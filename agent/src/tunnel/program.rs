//! What terminals and execs have in common: the environment, the user, the end.

use std::{
    collections::BTreeMap, ffi::OsString, os::unix::process::ExitStatusExt as _, path::PathBuf,
    process::ExitStatus,
};

use nix::{
    sys::signal::{Signal as Sig, killpg},
    unistd::{Pid, User, geteuid},
};
use quarterdeck_protocol::tunnel::{
    close::CloseCode,
    mark::{Exit, Signal},
    stream::Closed,
};
use tokio::{
    process::Child,
    time::{Duration, timeout},
};

use super::policy::Policy;
use crate::io::{as_user, supervisor};

/// How long a program may take to end after it was hung up, in milliseconds.
const GRACE_MS: u64 = 2_000;
/// How long output may still come after a program's end when something it left
/// behind keeps its terminal open, in milliseconds.
pub(super) const LAST_OUTPUT_MS: u64 = 250;

/// A command line, ready to be started.
#[derive(Debug)]
pub(super) struct CommandLine {
    pub program: OsString,
    pub args: Vec<OsString>,
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
}

/// Makes the command line of a session, if the owner allows it. No `argv`: a login shell.
pub(super) fn command_line(
    policy: &Policy,
    argv: &[String],
    extra: &BTreeMap<String, String>,
    user: Option<&str>,
) -> Result<CommandLine, Closed> {
    let account = account(policy, user)?;
    let shell = policy.shell.clone().unwrap_or_else(|| {
        let own = account.shell.to_string_lossy().into_owned();
        if own.is_empty() { "/bin/sh".to_owned() } else { own }
    });
    let (program, mut args) = match argv.split_first() {
        Some((program, args)) => (program.clone(), args.to_vec()),
        None => (shell.clone(), vec!["-l".to_owned()]),
    };
    let mut program = OsString::from(program);
    if account.uid != geteuid() {
        let mut words = vec![as_user::ROLE.to_owned(), account.name.clone()];
        words.push(program.to_string_lossy().into_owned());
        words.append(&mut args);
        (program, args) = (supervisor::THIS_PROGRAM.into(), words);
    }
    let cwd = if account.dir.is_dir() { account.dir.clone() } else { PathBuf::from("/") };
    Ok(CommandLine {
        program,
        args: args.into_iter().map(OsString::from).collect(),
        env: environment(&account, &shell, extra),
        cwd,
    })
}

fn account(policy: &Policy, user: Option<&str>) -> Result<User, Closed> {
    let found = match user {
        None => User::from_uid(geteuid()),
        Some(name) => User::from_name(name),
    };
    let name = user.unwrap_or("of the agent");
    let account = found
        .map_err(|errno| errno.desc().to_owned())
        .and_then(|found| found.ok_or_else(|| "there is no such user on this device".to_owned()))
        .map_err(|why| Closed::new(CloseCode::LaunchFailed, format!("user {name}: {why}")))?;
    if account.uid != geteuid() && !policy.users.contains(&account.name) {
        let detail = format!("the device's owner does not allow the user {name} ([tunnels] users)");
        return Err(Closed::new(CloseCode::NotAllowed, detail));
    }
    Ok(account)
}

/// The environment of a login: nothing of the agent's own but the path and the language.
fn environment(
    account: &User,
    shell: &str,
    extra: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for name in ["PATH", "LANG", "LC_ALL", "TZ"] {
        if let Ok(value) = std::env::var(name) {
            env.insert(name.to_owned(), value);
        }
    }
    env.entry("PATH".to_owned()).or_insert_with(|| {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
    });
    env.insert("HOME".to_owned(), account.dir.to_string_lossy().into_owned());
    env.insert("USER".to_owned(), account.name.clone());
    env.insert("LOGNAME".to_owned(), account.name.clone());
    env.insert("SHELL".to_owned(), shell.to_owned());
    env.extend(extra.clone());
    env
}

pub(super) fn launch_failed(program: &str, why: &dyn std::fmt::Display) -> Closed {
    Closed::new(CloseCode::LaunchFailed, format!("cannot start {program}: {why}"))
}

pub(super) fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code as u8),
        (None, signal) => Exit::Signal(signal.unwrap_or_default() as u8),
    }
}

const fn number(signal: Signal) -> Sig {
    match signal {
        Signal::Hangup => Sig::SIGHUP,
        Signal::Interrupt => Sig::SIGINT,
        Signal::Quit => Sig::SIGQUIT,
        Signal::Terminate => Sig::SIGTERM,
        Signal::Kill => Sig::SIGKILL,
        Signal::User1 => Sig::SIGUSR1,
        Signal::User2 => Sig::SIGUSR2,
        Signal::Continue => Sig::SIGCONT,
        Signal::Stop => Sig::SIGSTOP,
    }
}

/// Sends a signal to a group; one that is gone has no need of it.
pub(super) fn signal_group(group: Pid, signal: Signal) {
    let _ = killpg(group, number(signal));
}

/// Hangs a program up, and kills what of its group does not heed that.
pub(super) async fn end(child: &mut Child, group: Pid) {
    signal_group(group, Signal::Hangup);
    signal_group(group, Signal::Continue);
    let _ = timeout(Duration::from_millis(GRACE_MS), child.wait()).await;
    signal_group(group, Signal::Kill);
    // It was killed: it ends, unless the kernel holds it.
    let _ = timeout(Duration::from_millis(GRACE_MS), child.wait()).await;
}
