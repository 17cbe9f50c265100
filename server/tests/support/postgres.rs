//! A private PostgreSQL for one test process: a folder, a Unix socket, gone with its guard.
//!
//! `postgres` refuses to run as root; root runs it as the system's user `postgres`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::unistd::{User, geteuid};
use quarterdeck_server::store::Location;
use tempfile::TempDir;

#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: TempDir,
    process: Child,
}

impl Postgres {
    /// Starts one; without an installed PostgreSQL the test is reported as skipped, or fails where services are required.
    pub async fn start(test: &str) -> Option<Self> {
        let programs = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|path| path.join("postgres").exists() && path.join("initdb").exists())
            .max();
        let user = User::from_name("postgres").ok().flatten();
        let (Some(programs), true) = (programs, user.is_some() || !geteuid().is_root()) else {
            assert!(
                std::env::var("QUARTERDECK_REQUIRE_SERVICES").as_deref() != Ok("1"),
                "{test}: no PostgreSQL"
            );
            println!("skipped: {test}: PostgreSQL is not installed");
            return None;
        };
        let folder =
            tempfile::Builder::new().prefix("qd-pg-").tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        if let Some(user) = user.filter(|_| geteuid().is_root()) {
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .expect("root may");
        }
        let data = folder.path().join("data");
        let made = as_postgres(&programs.join("initdb"), folder.path())
            .args([
                "-U",
                "quarterdeck",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let process = as_postgres(&programs.join("postgres"), folder.path())
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=400"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres runs");
        let server = Self { programs, folder, process };
        for _ in 0..1_000 {
            if server.psql("SELECT 1") {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("PostgreSQL never answered");
    }

    /// Makes a database.
    pub fn database(&self, name: &str) -> Location {
        // PostgreSQL cuts longer names.
        let name = &name[..name.len().min(60)];
        assert!(self.psql(&format!("CREATE DATABASE {name}")), "a database {name}");
        let socket: String = self.folder.path().to_string_lossy().replace('/', "%2F");
        Location::Postgres(format!("postgres://quarterdeck@{socket}/{name}"))
    }

    fn psql(&self, sql: &str) -> bool {
        Command::new(self.programs.join("psql"))
            .arg("-h")
            .arg(self.folder.path())
            .args(["-U", "quarterdeck", "-d", "postgres", "-XAtqc", sql])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate stop: the folder goes anyway.
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.process.wait();
    }
}

fn as_postgres(program: &Path, folder: &Path) -> Command {
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid=postgres",
                "--regid=postgres",
                "--init-groups",
                "--pdeathsig",
                "KILL",
                "--",
            ])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder).env("LC_ALL", "C").env_remove("PGDATA");
    command
}
