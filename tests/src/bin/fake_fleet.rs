//! The console on a fleet that exists only in memory: to look at screens, and to try loads.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::Parser;
use quarterdeck_protocol::{api::Role, time::Timestamp};
use quarterdeck_tests::{
    binaries::{self, Progress},
    clock,
    fake::{
        FakeFleet, FakeServer, PROJECT,
        churn::{Churn, Moving},
        server::Pace,
    },
};
use tokio::{process::Command, time::sleep};

/// The console on a fleet that exists only in memory, over real HTTP and WebSocket.
///
/// What stands behind `--` goes to the console: `-- --wall --theme colour-blind`.
#[derive(Debug, Parser)]
#[command(name = "fake_fleet")]
struct Options {
    /// How many devices there are
    #[arg(long, default_value_t = 240, value_name = "N")]
    devices: usize,
    /// How many commands there were
    #[arg(long, default_value_t = 1_204, value_name = "N")]
    commands: usize,
    /// Pretend that there are so many devices, and so many commands
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Sign in as an admin
    #[arg(long)]
    admin: bool,
    /// Nothing happens by itself
    #[arg(long)]
    still: bool,
    /// So many rows change each second
    #[arg(long, value_name = "N")]
    churn: Option<u64>,
    /// The server is gone after so many seconds
    #[arg(long, value_name = "SECONDS")]
    lose: Option<u64>,
    /// Open no console: print the server's URL, and run until a signal
    #[arg(long)]
    headless: bool,
    /// Options of the console
    #[arg(last = true)]
    console: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let now = i64::try_from(clock::wall().as_millis()).context("the clock")?;
    let mut fleet = FakeFleet::new(Timestamp::from_millis(now), options.devices, options.commands);
    fleet.rows = options.rows;
    if options.admin {
        fleet.role = Role::Admin;
    }
    let server = FakeServer::start(fleet).await;
    let churn =
        options.churn.map(|rows_per_second| Churn { rows_per_second, moving: Moving::Seen });
    let pace = Pace { lives: !options.still, churn, is_lost: false };
    server.set_pace(pace);
    if options.headless {
        println!("{}", server.url());
        tokio::signal::ctrl_c().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let program = tokio::task::spawn_blocking(|| binaries::find_with(Progress::Shown)).await??;
    let home = tempfile::tempdir()?;
    let mut console = Command::new(&program.console)
        .args(&options.console)
        .env("HOME", home.path())
        .env("XDG_STATE_HOME", home.path().join("state"))
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("QUARTERDECK_SERVER", server.url())
        .env("QUARTERDECK_TOKEN", server.token())
        .env("QUARTERDECK_PROJECT", PROJECT)
        .stdin(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .context("opening the console")?;
    let ended = match options.lose {
        None => console.wait().await?,
        Some(seconds) => tokio::select! {
            ended = console.wait() => ended?,
            () = sleep(std::time::Duration::from_secs(seconds)) => {
                server.set_pace(Pace { is_lost: true, ..pace });
                console.wait().await?
            }
        },
    };
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
