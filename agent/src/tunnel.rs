//! Tunnels: terminals, programs and connections on this device, for operators
//! far away (chapter 7).
//!
//! ```text
//!  broker ⇄ io::tunnel_link ⇄ [`driver`] ─ frames ◀─ [`mux`] ⇄ one task or more per stream
//!                   │           control                  ▲       terminal, exec, forward
//!                   └────────── frames ──────────────────┘
//! ```
//!
//! All of it stands beside the engine: on a connection of its own, so that a key
//! never waits behind a durable acknowledgement, and in tasks of its own, so that
//! no session can hold up a command.
//!
//! What runs in a tunnel outlives the network: the streams go on where they were
//! when the connection is back. It does not outlive the agent: when that stops,
//! the sessions are hung up and say so.
//!
//! | module | subject |
//! | --- | --- |
//! | [`policy`] | what the device's owner allows |
//! | [`driver`] | opening and closing tunnels; sending frames |
//! | [`started`] | what was started, so that nothing is twice |
//! | [`mux`] | the pure machine of `protocol`, made awaitable |
//! | [`terminal`], [`exec`], [`forward`] | the kinds |

mod away;
mod bulk;
pub mod driver;
mod exec;
mod forward;
pub mod mux;
pub mod policy;
mod program;
pub mod started;
mod terminal;

use std::{io, sync::Arc};

use quarterdeck_protocol::tunnel::{Gather, limits, stream::StreamConfig};
use tokio::{sync::mpsc, task::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;

use self::{mux::Mux, started::Started};
use crate::{enroll::Credentials, io::tunnel_link, operations::Context};

/// What a session keeps to be sent, in bytes: with its window, what it may cost.
const BUFFER_BYTES: usize = 256 * 1024;
/// How far a terminal's program may be ahead of the network: what is seen after ^C. Twice
/// what makes a frame, so that it writes on while one is made.
const TERMINAL_WAITING_BYTES: usize = 2 * limits::GATHER_MAX_BYTES;
/// Keys that may wait for a program that does not read.
const KEYS_WINDOW_BYTES: u32 = 64 * 1024;
/// How often a silent peer is asked whether it is there, in microseconds.
const KEEP_ALIVE_US: u64 = 15_000_000;

const GATHER: Gather = Gather { bytes: limits::GATHER_MAX_BYTES, wait_us: limits::GATHER_MAX_US };

/// Output of a terminal, and keys to it.
const TERMINAL: StreamConfig = StreamConfig {
    is_urgent: false,
    window_bytes: KEYS_WINDOW_BYTES,
    buffer_bytes: BUFFER_BYTES,
    waiting_bytes: TERMINAL_WAITING_BYTES,
    gather: GATHER,
    keep_alive_us: Some(KEEP_ALIVE_US),
};

/// Pipes and connections.
const BULK: StreamConfig = StreamConfig {
    is_urgent: false,
    window_bytes: limits::WINDOW_BULK_BYTES,
    buffer_bytes: 2 * BUFFER_BYTES,
    waiting_bytes: 2 * BUFFER_BYTES,
    gather: GATHER,
    keep_alive_us: Some(KEEP_ALIVE_US),
};

/// How long the last words may take to leave when the agent stops, in milliseconds.
const STOP_SEND_MS: u64 = 500;

/// The tunnels of a running agent.
#[derive(Debug)]
pub struct Tunnels(Option<[JoinHandle<()>; 2]>);

/// Serves tunnels on a connection of their own until `stop`, if the owner allows any.
pub fn start(
    context: &Context,
    credentials: Credentials,
    stop: CancellationToken,
) -> io::Result<Tunnels> {
    let policy = context.config.tunnels.clone();
    if !policy.is_enabled {
        return Ok(Tunnels(None));
    }
    let started = Started::open(&context.paths.tunnels_started())?;
    let (incoming_to, incoming) = mpsc::channel(driver::INCOMING_MAX);
    let (outgoing_to, outgoing) = mpsc::channel(driver::OUTGOING_MAX);
    let mux = Mux::of_device();
    let clock = Arc::clone(&context.clock);
    let link = tunnel_link::run(credentials, clock, Arc::clone(&mux), incoming_to, outgoing);
    let driver = driver::run(mux, policy, started, incoming, outgoing_to, stop);
    Ok(Tunnels(Some([tokio::spawn(driver), tokio::spawn(link)])))
}

impl Tunnels {
    /// Waits, after the stop, until the sessions are hung up and have said so.
    pub async fn ended(self) {
        let Some([driver, mut link]) = self.0 else { return };
        // A driver that failed has said so.
        let _ = driver.await;
        if tokio::time::timeout(Duration::from_millis(STOP_SEND_MS), &mut link).await.is_err() {
            link.abort();
        }
    }
}
