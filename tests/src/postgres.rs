//! A private PostgreSQL: its own folder, its own port, gone with its guard.
//!
//! `postgres` refuses to run as root, so root runs it as the user that
//! Debian's package makes, or as `nobody`.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::Signal,
    unistd::{User, chown, geteuid},
};
use tempfile::TempDir;

use crate::{
    mosquitto::free_port,
    process::{Process, tail},
    services,
    wait::{Look, wait_for},
};

/// The one database and its owner.
const NAME: &str = "quarterdeck";

/// A running PostgreSQL, or one that was killed and may be started again.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl Postgres {
    /// Starts one; `None` when the running test is to be skipped.
    pub async fn start() -> Result<Option<Self>> {
        let Some(programs) = services::require("postgresql")? else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("quarterdeck-pg-").tempdir()?;
        let mut this = Self { programs, port: free_port()?, process: None, folder };
        this.initialise()?;
        this.start_again().await?;
        Ok(Some(this))
    }

    /// `postgres://…`, for the server's `--database`.
    pub fn url(&self) -> String {
        format!("postgres://{NAME}@127.0.0.1:{}/{NAME}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses it as in a crash: every process at once, in the middle of whatever it does.
    pub fn kill_9(&mut self) {
        // Its helpers see the postmaster die and end by themselves.
        self.process = None;
    }

    /// Ends it in an orderly way; transactions under way are rolled back.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process {
            process.signal(Signal::SIGINT);
            process.wait_for_end().await?;
        }
        self.process = None;
        Ok(())
    }

    /// Starts it on the same port with the same data, and waits until it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        wait_for("the former PostgreSQL's shared memory to be free", || async {
            let mut server = self.command("postgres");
            server
                .args(["-D".as_ref(), self.data().as_os_str()])
                .args(["-p", &self.port.to_string(), "-k"])
                .arg(self.folder.path())
                .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]);
            let mut process = Process::start("postgres", &server, &self.logs())?;
            let ready = self.answers(&mut process).await;
            Ok(match ready {
                Ok(()) => Look::Ready(process),
                // A crashed one's last helper may hold on for a moment.
                Err(error) if error.to_string().contains("ended with") => Look::not_yet(error),
                Err(error) => return Err(error),
            })
        })
        .await
        .map(|process| self.process = Some(process))
    }

    async fn answers(&self, process: &mut Process) -> Result<()> {
        let process = std::sync::Mutex::new(process);
        wait_for("PostgreSQL to answer", || async {
            if let Ok(mut process) = process.lock() {
                process.must_run()?;
            }
            let answer = Command::new(self.programs.join("psql"))
                .args([
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &self.port.to_string(),
                    "-U",
                    NAME,
                    "-d",
                    "postgres",
                ])
                .args(["-XAtc", "SELECT 1"])
                .output()
                .context("running psql")?;
            Ok(if answer.status.success() {
                Look::Ready(())
            } else {
                Look::not_yet(String::from_utf8_lossy(&answer.stderr))
            })
        })
        .await
    }

    /// Runs one statement and gives what psql prints, without decoration.
    pub fn query(&self, sql: &str) -> Result<String> {
        let answer = Command::new(self.programs.join("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", NAME, "-d", NAME])
            .args(["-XAtc", sql])
            .output()
            .context("running psql")?;
        if !answer.status.success() {
            bail!("{sql}: {}", String::from_utf8_lossy(&answer.stderr));
        }
        Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
    }

    fn initialise(&self) -> Result<()> {
        fs::create_dir_all(self.logs())?;
        fs::create_dir(self.data())?;
        fs::set_permissions(self.data(), fs::Permissions::from_mode(0o700))?;
        if let Some(user) = other_user()? {
            for path in [self.folder.path(), &self.data()] {
                chown(path, Some(user.uid), Some(user.gid))
                    .with_context(|| format!("giving {} to {}", path.display(), user.name))?;
            }
        }
        let log = self.logs().join("initdb.log");
        let log_file = fs::File::create(&log)?;
        let status = self
            .command("initdb")
            .args(["-D".as_ref(), self.data().as_os_str()])
            .args(["-U", NAME, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .status()
            .context("running initdb")?;
        if !status.success() {
            bail!("initdb failed: {}", tail(&log));
        }
        // The database, made in single-user mode: no server to start and stop for it.
        let made = self
            .command("sh")
            .args(["-c", "echo \"CREATE DATABASE $3\" | \"$1\" --single -D \"$2\" postgres", "sh"])
            .arg(self.programs.join("postgres"))
            .arg(self.data())
            .arg(NAME)
            .output()
            .context("running postgres --single")?;
        if !made.status.success() {
            bail!("CREATE DATABASE failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(())
    }

    /// One of its programs, as a user that PostgreSQL runs as.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let path = if path.is_file() { path } else { program.into() };
        let mut command = match other_user() {
            Ok(Some(user)) => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid", &user.uid.to_string(), "--regid", &user.gid.to_string()])
                    .args(["--clear-groups", "--pdeathsig", "KILL", "--"])
                    .arg(path);
                command
            }
            _ => Command::new(path),
        };
        command.current_dir(self.folder.path()).env("LC_ALL", "C").env_remove("PGDATA");
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Immediate shutdown lets the helpers end before their folder goes.
        let pid_file = self.data().join("postmaster.pid");
        if let Some(process) = &mut self.process {
            process.signal(Signal::SIGQUIT);
            for _ in 0..100 {
                if process.ended().is_some() || !pid_file.exists() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// Who runs PostgreSQL when we are root; `None` when we are not.
fn other_user() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL cannot run as root, and there is neither a user postgres nor nobody");
}

/// Whether a folder can be reached by anybody, which a private PostgreSQL's must.
#[cfg(test)]
fn reachable(path: &std::path::Path) -> bool {
    path.ancestors()
        .skip(1)
        .all(|folder| fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_private_postgresql_keeps_its_rows_over_a_crash() {
        let Some(mut postgres) = Postgres::start().await.expect("started") else { return };
        assert!(reachable(postgres.folder.path()));
        postgres.query("CREATE TABLE t (x int); INSERT INTO t VALUES (42)").expect("written");
        postgres.kill_9();
        assert!(postgres.query("SELECT 1").is_err(), "it must be gone");
        postgres.start_again().await.expect("started again");
        assert_eq!(postgres.query("SELECT x FROM t").expect("read"), "42");
    }
}
