//! A private Mosquitto: its own configuration, its own port, gone with its guard.

use std::{fs, net::TcpListener, path::PathBuf, process::Command};

use anyhow::{Context, Result};
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
}

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
            Access::Password => format!("mqtt://{USERNAME}:{PASSWORD}@127.0.0.1:{}", self.port),
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
        match self.access {
            Access::Open => conf.push_str("allow_anonymous true\n"),
            Access::Password => {
                let passwords = folder.join("passwords");
                fs::write(&passwords, format!("{USERNAME}:{PASSWORD}\n"))?;
                let hasher = self.program.with_file_name("mosquitto_passwd");
                let hasher = if hasher.is_file() {
                    hasher
                } else {
                    crate::binaries::on_path("mosquitto_passwd").context("mosquitto_passwd")?
                };
                let status = Command::new(hasher).arg("-U").arg(&passwords).status()?;
                anyhow::ensure!(status.success(), "mosquitto_passwd failed: {status}");
                conf.push_str("allow_anonymous false\npassword_file ");
                conf.push_str(passwords.to_str().context("a folder name that is no text")?);
                conf.push('\n');
            }
        }
        fs::write(folder.join("mosquitto.conf"), conf)?;
        Ok(())
    }
}

/// A port of loopback that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).context("finding a free port")?.local_addr()?.port())
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
