//! One real `quarterdeck-server` process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    api::Api,
    binaries, clock,
    process::Process,
    wait::{Look, wait_for},
};

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Where its data are; in the harness's folder when `None`.
    pub data_dir: Option<PathBuf>,
    /// Further arguments.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// The first start is to make the admin's password itself.
    pub without_admin_password: bool,
}

/// The one line that the server prints when it serves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ready {
    pub event: String,
    pub http: String,
    /// Empty with an external broker.
    #[serde(default)]
    pub mqtt: String,
}

/// A server, running or killed.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    data_dir: PathBuf,
    logs: PathBuf,
    admin_password: String,
    ready: Ready,
    process: Process,
    /// How many ready lines its log had before this run.
    runs: usize,
}

impl Server {
    /// Starts one on free ports and waits until it serves.
    pub async fn start(folder: &Path, options: ServerOptions) -> Result<Self> {
        let data_dir = options.data_dir.clone().unwrap_or_else(|| folder.join("server"));
        fs::create_dir_all(&data_dir)?;
        let logs = folder.join("logs");
        let admin_password = format!("pw-{}", clock::unique());
        let (process, ready) = {
            let command =
                command(&options, &data_dir, &admin_password, ["127.0.0.1:0", "127.0.0.1:0"])?;
            run(&command, &logs, 0).await?
        };
        Ok(Self { options, data_dir, logs, admin_password, ready, process, runs: 1 })
    }

    /// `http://127.0.0.1:PORT`
    pub fn http(&self) -> &str {
        &self.ready.http
    }

    /// `mqtt://127.0.0.1:PORT`
    pub fn mqtt(&self) -> &str {
        &self.ready.mqtt
    }

    pub fn mqtt_port(&self) -> Result<u16> {
        port_of(&self.ready.mqtt)
    }

    pub fn http_port(&self) -> Result<u16> {
        port_of(&self.ready.http)
    }

    pub fn admin_password(&self) -> &str {
        &self.admin_password
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub async fn admin(&self) -> Result<Api> {
        Api::new(self.http())?.login("admin", &self.admin_password).await
    }

    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(&mut self) -> Result<()> {
        let status = self.process.stop().await?;
        if !status.success() {
            bail!("the server's graceful stop ended with {status}");
        }
        Ok(())
    }

    /// Starts it again on the same ports with the same data; kills what may still run.
    pub async fn start_again(&mut self) -> Result<()> {
        self.kill_9();
        let addresses = [
            format!("127.0.0.1:{}", self.http_port()?),
            format!("127.0.0.1:{}", self.mqtt_port().unwrap_or_default()),
        ];
        let addresses = [addresses[0].as_str(), addresses[1].as_str()];
        let command = command(&self.options, &self.data_dir, &self.admin_password, addresses)?;
        // A connection of somebody else may sit on the port for a moment.
        let logs = &self.logs;
        let runs = self.runs;
        let (process, ready) = wait_for("the server's ports to be free", || async {
            match run(&command, logs, runs).await {
                Ok(running) => Ok(Look::Ready(running)),
                Err(error) if format!("{error:#}").contains("in use") => Ok(Look::not_yet(error)),
                Err(error) => Err(error),
            }
        })
        .await?;
        self.process = process;
        self.ready = ready;
        self.runs += 1;
        Ok(())
    }

    pub async fn kill_9_and_start_again(&mut self) -> Result<()> {
        self.kill_9();
        self.start_again().await
    }

    /// For what the next start should differ in.
    pub fn options(&mut self) -> &mut ServerOptions {
        &mut self.options
    }
}

fn command(
    options: &ServerOptions,
    data_dir: &Path,
    admin_password: &str,
    [http, mqtt]: [&str; 2],
) -> Result<Command> {
    let mut command = Command::new(&binaries::find()?.server);
    command
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--http", http])
        .args(&options.args)
        .env("RUST_BACKTRACE", "1")
        .envs(options.env.iter().map(|(name, value)| (name, value)));
    if !options.without_admin_password {
        command.env("QUARTERDECK_ADMIN_PASSWORD", admin_password);
    }
    // An external broker has the listener.
    if !options.env.iter().any(|(name, _)| name == "QUARTERDECK_SERVER_BROKER") {
        command.args(["--mqtt", mqtt]);
    }
    Ok(command)
}

async fn run(command: &Command, logs: &Path, runs: usize) -> Result<(Process, Ready)> {
    let mut process = Process::start("server", command, logs)?;
    let ready = {
        let process = std::sync::Mutex::new(&mut process);
        wait_for("the server's ready line", || async {
            let Ok(mut process) = process.lock() else { bail!("a panic") };
            let stdout = process.stdout();
            if let Some(line) = stdout.lines().nth(runs).filter(|_| stdout.ends_with('\n')) {
                return Ok(Look::Ready(line.to_owned()));
            }
            process.must_run()?;
            Ok(Look::not_yet("nothing"))
        })
        .await?
    };
    let ready: Ready =
        serde_json::from_str(&ready).with_context(|| format!("the ready line {ready:?}"))?;
    if ready.event != "ready" {
        bail!("the ready line is {ready:?}");
    }
    Ok((process, ready))
}

fn port_of(url: &str) -> Result<u16> {
    let url: url::Url = url.parse().with_context(|| url.to_owned())?;
    url.port().with_context(|| format!("{url} has no port"))
}
