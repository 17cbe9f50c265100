//! A private OpenSSH server, and what its clients need: keys of its own, a port of
//! its own, gone with its guard.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{
    mosquitto::free_port,
    process::Process,
    services,
    wait::{Look, wait_for},
};

/// Where sshd of root wants an empty folder to be, compiled in.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// A running sshd, which lets one key in as the user that runs the tests.
#[derive(Debug)]
pub struct Sshd {
    port: u16,
    user: String,
    // Before the folder, so that it ends before its files go.
    process: Process,
    folder: TempDir,
}

impl Sshd {
    /// Starts one; `None` when the running test is to be skipped.
    pub async fn start() -> Result<Option<Self>> {
        let Some(program) = services::require("sshd")? else { return Ok(None) };
        if services::require("ssh")?.is_none() {
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("quarterdeck-ssh-").tempdir()?;
        let me = User::from_uid(geteuid())?.context("who runs the tests has no account")?;
        if geteuid().is_root() {
            fs::create_dir_all(PRIVILEGE_SEPARATION)?;
        }
        let port = free_port()?;
        configure(folder.path(), port)?;
        let mut command = Command::new(program);
        command.args(["-D", "-e", "-f"]).arg(folder.path().join("sshd_config"));
        let process = Process::start("sshd", &command, &folder.path().join("logs"))?;
        let this = Self { port, user: me.name, process, folder };
        this.listens().await
    }

    async fn listens(self) -> Result<Option<Self>> {
        let this = Mutex::new(self);
        let port = this.lock().map_or(0, |this| this.port);
        wait_for("sshd to listen", || async {
            if let Ok(mut this) = this.lock() {
                this.process.must_run()?;
            }
            Ok(match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(_) => Look::Ready(()),
                Err(error) => Look::not_yet(error),
            })
        })
        .await?;
        Ok(this.into_inner().ok())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Writes a configuration for `ssh -F`: the host blocks given, and for all hosts
    /// the key, the port and the user. `name` is the host key's in `known_hosts`.
    pub fn client(&self, name: &str, blocks: &str) -> Result<PathBuf> {
        let folder = self.folder.path();
        let key = fs::read_to_string(folder.join("host_key.pub"))?;
        fs::write(folder.join("known_hosts"), format!("{name} {key}"))?;
        let config = format!(
            "{blocks}\nHost *\n\
             \x20   User {}\n    Port {}\n    IdentityFile {dir}/client_key\n    IdentitiesOnly yes\n\
             \x20   UserKnownHostsFile {dir}/known_hosts\n    GlobalKnownHostsFile /dev/null\n\
             \x20   StrictHostKeyChecking yes\n    BatchMode yes\n    LogLevel ERROR\n",
            self.user,
            self.port,
            dir = folder.display()
        );
        let file = folder.join("ssh_config");
        fs::write(&file, config)?;
        Ok(file)
    }
}

fn configure(folder: &Path, port: u16) -> Result<()> {
    for key in ["host_key", "client_key"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f"])
            .arg(folder.join(key))
            .stdin(Stdio::null())
            .status()
            .context("running ssh-keygen")?;
        ensure!(made.success(), "ssh-keygen failed: {made}");
    }
    fs::copy(folder.join("client_key.pub"), folder.join("authorized_keys"))?;
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\n\
         HostKey {dir}/host_key\nAuthorizedKeysFile {dir}/authorized_keys\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n\
         PrintMotd no\nPrintLastLog no\nMaxStartups 100\nLogLevel ERROR\n\
         Subsystem sftp internal-sftp\n",
        dir = folder.display()
    );
    fs::write(folder.join("sshd_config"), config)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_private_sshd_lets_its_key_in() {
        let Some(sshd) = Sshd::start().await.expect("started") else { return };
        let block = "Host here\n    HostName 127.0.0.1\n    HostKeyAlias here";
        let config = sshd.client("here", block).expect("written");
        let said = tokio::process::Command::new("ssh")
            .arg("-F")
            .arg(config)
            .args(["here", "echo hello"])
            .output()
            .await
            .expect("run");
        assert_eq!(said.stdout, b"hello\n", "{}", String::from_utf8_lossy(&said.stderr));
    }
}
