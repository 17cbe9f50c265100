//! `quarterdeck` as a script runs it, and other programs that call it.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    Fleet,
    api::Api,
    binaries,
    wait::{DEADLINE, in_time},
};

/// `quarterdeck ARGS…`, signed in as `api` is. It ends when it is dropped.
pub fn quarterdeck(fleet: &Fleet, api: &Api, args: &[&str]) -> Result<Command> {
    let mut command = program(fleet, api, &binaries::find()?.console);
    command.args(args);
    Ok(command)
}

/// Any program, from whose environment `quarterdeck` takes who it is.
pub fn program(fleet: &Fleet, api: &Api, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .env("QUARTERDECK_SERVER", api.base())
        .env("QUARTERDECK_TOKEN", api.token())
        .env("HOME", fleet.folder())
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end, which must be a success.
pub async fn succeed(mut command: Command) -> Result<Output> {
    let what = format!("{:?}", command.as_std());
    let output = in_time(&what, command.output()).await?.with_context(|| what.clone())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {}: {stderr}", output.status);
    Ok(output)
}

/// Runs it to its end with something on its stdin; gives what it wrote.
pub async fn feed(command: Command, input: Vec<u8>) -> Result<Output> {
    feed_within(DEADLINE, command, input).await
}

/// As [`feed`], with a deadline of its own.
pub async fn feed_within(
    deadline: Duration,
    mut command: Command,
    input: Vec<u8>,
) -> Result<Output> {
    let what = format!("{:?}", command.as_std());
    let mut child = command.stdin(Stdio::piped()).spawn().with_context(|| what.clone())?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    // Who reads no more has said why on stderr.
    let feeding = tokio::spawn(async move { drop(stdin.write_all(&input).await) });
    let output = timeout(deadline, child.wait_with_output()).await;
    feeding.abort();
    Ok(output.with_context(|| format!("waited {} s for {what}", deadline.as_secs()))??)
}

/// A `quarterdeck forward` that is ready.
#[derive(Debug)]
pub struct Forward {
    child: Child,
    /// Kept, or its next word would end it.
    _stdout: BufReader<ChildStdout>,
    pub port: u16,
}

impl Forward {
    /// Starts one, and waits until it says where it listens.
    pub async fn start(fleet: &Fleet, api: &Api, args: &[&str]) -> Result<Self> {
        let mut command = quarterdeck(fleet, api, &["forward", "--output", "json"])?;
        let mut child = command.args(args).stderr(Stdio::inherit()).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        in_time("a forward to be ready", stdout.read_line(&mut line)).await??;
        let ready: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let (_, port) = ready["listen"].as_str().and_then(|l| l.rsplit_once(':')).context(line)?;
        Ok(Self { child, _stdout: stdout, port: port.parse()? })
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Kills it, as a crash would: it takes leave of nobody.
    pub async fn kill_9(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}
