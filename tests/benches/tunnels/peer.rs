//! OpenSSH, to a private sshd.

use std::process::Stdio;

use anyhow::{Context, Result};
use quarterdeck_tests::sshd::Sshd;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// The name that ssh is given.
pub(crate) const HOST: &str = "peer";

/// An sshd, and how ssh reaches it.
pub(crate) struct Peer {
    sshd: Sshd,
    config: String,
}

/// An ssh that runs.
pub(crate) struct Session {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    _child: Child,
}

impl Peer {
    pub(crate) fn new(sshd: Sshd) -> Result<Self> {
        let block = format!("Host {HOST}\n    HostName 127.0.0.1\n    HostKeyAlias {HOST}");
        let config = sshd.client(HOST, &block)?;
        let config = config.to_str().context("a folder name that is no text")?.to_owned();
        Ok(Self { sshd, config })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.sshd.pid()
    }

    /// The words of `ssh`, before what it is to do.
    pub(crate) fn words(&self) -> [&str; 2] {
        ["-F", &self.config]
    }

    /// Runs `ssh ARGS… peer SCRIPT` with pipes.
    pub(crate) fn start(&self, args: &[&str], script: &str) -> Result<Session> {
        let mut command = Command::new("ssh");
        command.args(self.words()).args(args).args([HOST, script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting ssh")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        Ok(Session { stdin, stdout, _child: child })
    }
}

impl Session {
    /// Reads until a text has come.
    pub(crate) async fn until(&mut self, text: &str) -> Result<()> {
        let mut all = Vec::new();
        while !all.windows(text.len()).any(|window| window == text.as_bytes()) {
            anyhow::ensure!(self.stdout.read_buf(&mut all).await? > 0, "ssh ended before {text:?}");
        }
        Ok(())
    }
}
