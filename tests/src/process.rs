//! One child process that does not outlive its test.
//!
//! It goes with the guard that holds it, also in a panic; and should the whole
//! test process be killed, the kernel kills the child (`setpriv --pdeathsig`,
//! where there is one). That signal follows the *thread* that started the
//! child, so one thread that lives as long as the process starts them all.
//!
//! Output goes to files, whose tails are printed when the test fails.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, Mutex, mpsc},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    binaries::on_path,
    wait::{Look, wait_for},
};

/// How much of a log is printed when a test fails, in bytes.
const TAIL_MAX_BYTES: u64 = 6_000;

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, with its output in `NAME.out` and `NAME.log` of `logs`.
    pub fn start(name: &str, command: &Command, logs: &Path) -> Result<Self> {
        fs::create_dir_all(logs).with_context(|| format!("making {}", logs.display()))?;
        let (stdout, stderr) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.log")));
        let mut command = bound_to_us(command);
        // What ran before under the same name stays in the log: a restart is part of the story.
        command
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(&stdout)?)
            .stderr(File::options().create(true).append(true).open(&stderr)?)
            .process_group(0);
        let child = spawn(command).with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.to_owned(), child, ended: None, stdout, stderr })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote on stdout so far, and those before it under its name.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What it wrote on stderr so far, and those before it under its name.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Says how it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // It may have ended a moment ago; then there is nobody left to tell.
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
        }
    }

    /// Kills it as a power cut would: at once, without a word.
    pub fn kill_9(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        self.wait_for_end().await
    }

    pub async fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let this = Mutex::new(self);
        wait_for(&what, || {
            let ended = this.lock().map(|mut it| it.ended()).unwrap_or_default();
            async move { Ok(ended.map_or_else(|| Look::not_yet("it running"), Look::Ready)) }
        })
        .await
    }

    /// Fails when it has ended, with the end of its log.
    pub fn must_run(&mut self) -> Result<()> {
        let Some(status) = self.ended() else { return Ok(()) };
        let how = status.signal().map_or_else(
            || format!("exit code {}", status.code().unwrap_or_default()),
            |signal| format!("signal {signal}"),
        );
        bail!("{} ended with {how}; its log ends:\n{}", self.name, tail(&self.stderr));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_9();
        // The test runner keeps what a test prints, and shows it only when the test fails.
        if is_test_thread() {
            println!("--- the end of {}\n{}", self.stderr.display(), tail(&self.stderr));
        }
    }
}

/// Whether a test runs on this thread: the test runner names it so.
fn is_test_thread() -> bool {
    std::thread::current().name().is_some_and(|name| name.contains("::"))
}

/// Every process that descends from `pid`, children first.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name in brackets may hold anything; the parent is the second field after it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| child));
        next += 1;
    }
    found.remove(0);
    found
}

/// Kills processes that descend from ours, at once.
pub fn kill_all_9(pids: &[u32]) {
    for pid in pids {
        // It may have ended by itself a moment ago.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
}

/// The end of a log.
pub fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let skip = file.metadata()?.len().saturating_sub(TAIL_MAX_BYTES);
        file.seek(SeekFrom::Start(skip))?;
        let mut bytes = Vec::new();
        file.take(TAIL_MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(
        |error| error.to_string(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The same command, which the kernel kills when we die.
fn bound_to_us(command: &Command) -> Command {
    let mut bound = match on_path("setpriv") {
        Some(setpriv) => {
            let mut bound = Command::new(setpriv);
            bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
            bound
        }
        None => Command::new(command.get_program()),
    };
    bound.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

static SPAWNER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
    let (jobs, inbox) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
        for (mut command, answer) in inbox {
            let _ = answer.send(command.spawn());
        }
    });
    Mutex::new(jobs)
});

fn spawn(command: Command) -> Result<Child> {
    let (answer, spawned) = mpsc::channel();
    let Ok(jobs) = SPAWNER.lock().map(|jobs| jobs.clone()) else { bail!("the spawner panicked") };
    jobs.send((command, answer)).context("the spawner ended")?;
    Ok(spawned.recv().context("the spawner ended")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_gone_after_its_guard_and_its_descendants_are_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 600 & echo $!; wait"]);
        let process = Process::start("sh", &command, folder.path()).expect("started");
        crate::wait::wait_until("the pid", || process.stdout().ends_with('\n'))
            .await
            .expect("said");
        let child: u32 = process.stdout().trim().parse().expect("a pid");
        let ours = process.pid();
        assert_eq!(descendants(ours), [child]);
        drop(process);
        kill_all_9(&[child]);
        for pid in [ours, child] {
            let gone = || kill(Pid::from_raw(pid.cast_signed()), None).is_err();
            crate::wait::wait_until("it to be gone", gone).await.expect("gone");
        }
    }

    #[tokio::test]
    async fn one_that_ended_says_how_and_shows_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'no such key' >&2; exit 7"]);
        let mut process = Process::start("sh", &command, folder.path()).expect("started");
        process.wait_for_end().await.expect("ends");
        let error = process.must_run().expect_err("ended").to_string();
        assert!(error.contains("exit code 7") && error.contains("no such key"), "{error}");
    }
}
