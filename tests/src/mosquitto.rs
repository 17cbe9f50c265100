//! A private Mosquitto: its own configuration, its own port, gone with its guard.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    process::Process,
    services,
    wait::{Look, wait_for},
};

/// The one account that it knows.
pub const USERNAME: &str = "quarterdeck";
pub const PASSWORD: &str = "only-on-loopback";

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody, with any name: for benchmarks.
    Open,
    /// [`USERNAME`] with [`PASSWORD`].
    Password,
    /// As `docs/operate.md` says: [`USERNAME`], and each device that was [admitted](Mosquitto::admit).
    Guide,
}

/// The operator's guide, for its access rules.
const GUIDE: &str = include_str!("../../docs/operate.md");

/// A running Mosquitto, or one that was killed and may be started again.
#[derive(Debug)]
pub struct Mosquitto {
    program: PathBuf,
    port: u16,
    access: Access,
    process: Option<Process>,
    folder: TempDir,
}

impl Mosquitto {
    /// Starts one, tuned as the figures ask; `None` when the running test is to be skipped.
    pub async fn start(access: Access) -> Result<Option<Self>> {
        let Some(program) = services::require("mosquitto")? else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("quarterdeck-mqtt-").tempdir()?;
        let mut this = Self { program, port: free_port()?, access, process: None, folder };
        this.configure()?;
        this.start_again().await?;
        Ok(Some(this))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `mqtt://user:password@…`, for the server's `--broker`.
    pub fn url(&self) -> String {
        match self.access {
            Access::Open => format!("mqtt://127.0.0.1:{}", self.port),
            Access::Password | Access::Guide => {
                format!("mqtt://{USERNAME}:{PASSWORD}@127.0.0.1:{}", self.port)
            }
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    pub fn kill_9(&mut self) {
        self.process = None;
    }

    /// Starts it on the same port, and waits until it listens.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        let process = Process::start("mosquitto", &command, &self.folder.path().join("logs"))?;
        let process = std::sync::Mutex::new(process);
        wait_for("Mosquitto to listen", || async {
            if let Ok(mut process) = process.lock() {
                process.must_run()?;
            }
            Ok(match TcpStream::connect(("127.0.0.1", self.port)).await {
                Ok(_) => Look::Ready(()),
                Err(error) => Look::not_yet(error),
            })
        })
        .await?;
        self.process = process.into_inner().ok();
        Ok(())
    }

    fn configure(&self) -> Result<()> {
        let folder = self.folder.path();
        let mut conf = format!(
            "listener {} 127.0.0.1\n\
             persistence false\n\
             max_inflight_messages 100\n\
             max_queued_messages 0\n\
             set_tcp_nodelay true\n\
             log_type error\nlog_type warning\n\
             user root\n",
            self.port
        );
        if self.access == Access::Open {
            conf.push_str("allow_anonymous true\n");
        } else {
            fs::write(self.passwords(), "")?;
            self.account(USERNAME, PASSWORD)?;
            let path = |path: PathBuf| path.to_str().map(str::to_owned);
            let passwords = path(self.passwords()).context("a folder name that is no text")?;
            writeln!(conf, "allow_anonymous false\npassword_file {passwords}")?;
        }
        if self.access == Access::Guide {
            let acl = self.acl();
            fs::write(&acl, format!("{}\n", guide()?.0))?;
            writeln!(conf, "acl_file {}", acl.display())?;
        }
        fs::write(folder.join("mosquitto.conf"), conf)?;
        Ok(())
    }

    /// Gives a device of project `default` an account, as the guide says; while it runs.
    pub fn admit(&mut self, device: &str, secret: &str) -> Result<()> {
        self.account(&format!("default/{device}"), secret)?;
        let mut acl = fs::OpenOptions::new().append(true).open(self.acl())?;
        write!(acl, "\n{}", guide()?.1.replace("pi-1", device))?;
        if let Some(process) = &mut self.process {
            process.signal(Signal::SIGHUP);
        }
        Ok(())
    }

    fn account(&self, username: &str, password: &str) -> Result<()> {
        let beside = self.program.with_file_name("mosquitto_passwd");
        let hasher = if beside.is_file() {
            beside
        } else {
            crate::binaries::on_path("mosquitto_passwd").context("mosquitto_passwd")?
        };
        let status = Command::new(hasher)
            .arg("-b")
            .arg(self.passwords())
            .args([username, password])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(status.success(), "mosquitto_passwd failed: {status}");
        Ok(())
    }

    fn passwords(&self) -> PathBuf {
        self.folder.path().join("passwords")
    }

    fn acl(&self) -> PathBuf {
        self.folder.path().join("acl")
    }
}

/// The access rules of the guide: the server's, and those of device `pi-1`.
fn guide() -> Result<(&'static str, &'static str)> {
    let start = GUIDE.find("user quarterdeck\n").context("no rules in the guide")?;
    let (rules, _) = GUIDE[start..].split_once("```").context("the rules have no end")?;
    let (server, device) = rules.split_once("\n\n").context("no rules of a device")?;
    ensure!(device.starts_with("user default/pi-1\n"), "whose rules are these? {device}");
    Ok((server, device))
}

/// Ports below those that the kernel gives to outgoing connections (from 32,768 on).
const PORTS: std::ops::Range<u32> = 10_000..30_000;
/// How many neighbouring processes' tests never ask for the same port.
const PORTS_OF_ONE: u32 = 50;

/// A port of loopback that nobody listens on now, and that no client sits on.
///
/// One that the kernel chooses may belong to a connection, or to another test, before the
/// server that it is meant for listens.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(PORTS_OF_ONE);
    for _ in PORTS {
        let n = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + n % (PORTS.end - PORTS.start))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free in {PORTS:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Client, Login};

    #[tokio::test]
    async fn a_private_mosquitto_lets_only_its_account_in() {
        let Some(mosquitto) = Mosquitto::start(Access::Password).await.expect("started") else {
            return;
        };
        let login = Login::new("tester").with_password(USERNAME, PASSWORD);
        Client::connect(mosquitto.port(), &login).await.expect("let in");
        let stranger = Login::new("stranger").with_password(USERNAME, "guess");
        assert!(Client::connect(mosquitto.port(), &stranger).await.is_err());
    }
}
