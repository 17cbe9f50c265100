//! Serves until a signal comes.

use std::io::Write as _;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{config::Config, server::Server};

/// The exit code of who is told twice.
const IMPATIENT: i32 = 130;

pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    raise_open_files();
    let mut stop = Stop::new().context("cannot listen for signals")?;
    let running = tokio::select! {
        running = Server::start(config, None) => running?,
        () = stop.wait() => return Ok(()),
    };
    let ready = json!({ "event": "ready", "http": running.http, "mqtt": running.mqtt });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ready}")
        .and_then(|()| out.flush())
        .context("cannot write the ready line to stdout")?;
    drop(out);
    stop.wait().await;
    tokio::select! {
        () = running.shutdown() => {}
        () = stop.wait() => {
            tracing::warn!("told twice to stop: not waiting for what is open");
            std::process::exit(IMPATIENT);
        }
    }
    Ok(())
}

/// Each connection is an open file, and the usual limit is a thousand: takes all that the system allows.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(given, most)| {
        setrlimit(Resource::RLIMIT_NOFILE, most, most).map(|()| (given, most))
    });
    match raised {
        Ok((given, most)) if given < most => {
            tracing::info!(from = given, to = most, "raised the limit of open files");
        }
        Ok((given, _)) => tracing::debug!(limit = given, "the limit of open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
