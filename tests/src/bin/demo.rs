//! `cargo demo`: a live fleet, and the console on it.

use std::{io::IsTerminal, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quarterdeck_tests::demo::Demo;
use tokio::signal::unix::{SignalKind, signal};

/// A live fleet to try Quarterdeck on: a real server, 12 real agents, and the console.
///
/// Leaving the console (`q`) ends everything and removes every file.
#[derive(Debug, Parser)]
#[command(name = "cargo demo")]
struct Options {
    /// Open no console: print one JSON line and run until SIGINT or SIGTERM
    #[arg(long)]
    headless: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !options.headless && !terminal {
        bail!("the console needs a terminal; without one, use `cargo demo -- --headless`");
    }
    let signalled = ended_by_signal()?;
    tokio::pin!(signalled);
    let demo = tokio::select! {
        // All processes and files go with what was started so far.
        () = &mut signalled => return Ok(ExitCode::from(130)),
        demo = Demo::start() => demo?,
    };
    let code = if options.headless {
        println!("{}", demo.ready_line());
        signalled.await;
        ExitCode::SUCCESS
    } else {
        let mut console = demo.console().await?;
        let ended = tokio::select! {
            ended = console.wait() => ended,
            () = &mut signalled => {
                // It puts the terminal back as it was.
                if let Some(pid) = console.id() {
                    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
                }
                console.wait().await
            }
        };
        if ended.context("waiting for the console")?.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    };
    demo.end().await;
    Ok(code)
}

/// Resolves at the first SIGINT, SIGTERM or SIGHUP.
fn ended_by_signal() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
