//! Runs the scripts of the cases: each in a group of its own, its end told by a channel.

use std::{
    io::Read as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use quarterdeck_agent::workflow::{
    engine::Run,
    excerpt::{Excerpts, Scanner},
    outcome::ScriptEnd,
};

const POLL: Duration = Duration::from_millis(10);

/// A script that runs.
pub(crate) struct Script {
    /// Its process group; 0 if it could not be started.
    group: i32,
}

impl Script {
    /// Starts a script in a thread; `ended` is called with its end.
    pub(crate) fn start(
        run: &Run,
        ended: impl FnOnce(ScriptEnd, Excerpts) + Send + 'static,
    ) -> Self {
        let started = spawn(&run.program, &run.arguments, Stdio::piped());
        let group = started.as_ref().map_or(0, pid);
        let timeout_ms = run.timeout_ms;
        thread::spawn(move || {
            let (end, excerpts) = match started {
                Ok(child) => await_end(child, timeout_ms),
                Err(error) => (ScriptEnd::NotLaunched(error), Excerpts::default()),
            };
            ended(end, excerpts);
        });
        Self { group }
    }

    pub(crate) fn kill(&self) {
        signal(self.group, Signal::SIGKILL);
    }
}

/// Starts a script that nobody awaits.
pub(crate) fn launch(program: &str, arguments: &[String]) -> Result<(), String> {
    match spawn(program, arguments, Stdio::null()) {
        Ok(mut child) => {
            thread::spawn(move || child.wait());
            Ok(())
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}

fn spawn(program: &str, arguments: &[String], stdout: Stdio) -> Result<Child, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    command.process_group(0).spawn().map_err(|error| error.to_string())
}

fn await_end(mut child: Child, timeout_ms: Option<i64>) -> (ScriptEnd, Excerpts) {
    let mut stdout = child.stdout.take().expect("it is piped");
    let reader = thread::spawn(move || {
        let mut scanner = Scanner::default();
        let mut buffer = [0; 8192];
        while let Ok(bytes @ 1..) = stdout.read(&mut buffer) {
            scanner.push(&buffer[..bytes]);
        }
        scanner.finish()
    });
    let mut left_ms = timeout_ms;
    let mut is_late = false;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            break status;
        }
        if left_ms.is_some_and(|ms| ms <= 0) && !is_late {
            is_late = true;
            signal(pid(&child), Signal::SIGTERM);
        }
        thread::sleep(POLL);
        left_ms = left_ms.map(|ms| ms - 10);
    };
    signal(pid(&child), Signal::SIGKILL); // the rest of its group
    let excerpts = reader.join().expect("it does not panic");
    let end = match (is_late, status.code()) {
        (true, _) => ScriptEnd::TimedOut,
        (false, Some(code)) => ScriptEnd::Exited(u8::try_from(code).expect("0 to 255")),
        (false, None) => ScriptEnd::Killed(status.signal().unwrap_or_default()),
    };
    (end, excerpts)
}

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a process id")
}

fn signal(group: i32, signal: Signal) {
    if group > 1 {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}
