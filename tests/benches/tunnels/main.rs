//! Sessions with a device, beside OpenSSH: the same programs on the same machine,
//! in turn, so that a noisy neighbour disturbs both.
//!
//! | figure | ours | the peer |
//! | --- | --- | --- |
//! | keystroke echo | a console of the protocol → server → broker → PTY | `ssh -tt`, and the bare ways |
//! | 200 MB out of a PTY | the same, recorded | `ssh -tt` |
//! | 200 MB out of a program, of a connection | `quarterdeck exec`, `forward` | `ssh -T`, `-L` |
//! | ^C in a flood at 0.5 MB/s | a console behind a slow line | `ssh -tt`, read as slowly |
//! | first prompt | `quarterdeck exec --tty` | `ssh -tt` |
//! | memory of an idle terminal | server, agent | sshd |
//!
//! Every byte that comes is compared with what was sent.

mod bare;
mod bulk;
mod interrupt;
mod keys;
mod memory;
mod peer;
mod ready;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use quarterdeck_tests::{
    Fleet,
    agent::{Device, DeviceOptions},
    report::{Options, Report, Wanted, median},
    server::ServerOptions,
    sshd::Sshd,
};
use serde_json::{Value, json};

use self::peer::Peer;

/// The one device.
const DEVICE: &str = "pi-1";
/// What can be measured alone.
const PARTS: [&str; 5] = ["keys", "ready", "bulk", "interrupt", "memory"];
/// Idle terminals that are weighed.
const TERMINALS: usize = 40;

/// What all figures are taken on.
struct Bench {
    options: Options,
    fleet: Fleet,
    device: Device,
    peer: Peer,
    /// What is sent in bulk, in a file of the device.
    bulk: Vec<u8>,
    bulk_file: PathBuf,
}

fn main() -> Result<ExitCode> {
    if let Some(ended) = bare::as_hop() {
        return ended;
    }
    // Of one thread, as ssh is: what a key costs is not to be how threads wake each other here.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // What is spawned is woken without a system call.
    runtime.block_on(async { tokio::spawn(run(Options::from_args_with(&PARTS))).await? })
}

async fn run(options: Options) -> Result<ExitCode> {
    let Some(mut bench) = Bench::start(options).await? else { return Ok(ExitCode::SUCCESS) };
    let title = format!("sessions with a device, beside OpenSSH; {} MB in bulk", bench.megabytes());
    let mut report = Report::new(options, &title);
    if options.wants("keys") {
        keys::measure(&bench, &mut report).await?;
    }
    if options.wants("ready") {
        ready::measure(&bench, &mut report).await?;
    }
    if options.wants("bulk") {
        bulk::measure(&bench, &mut report).await?;
    }
    if options.wants("interrupt") {
        interrupt::measure(&bench, &mut report).await?;
    }
    if options.wants("memory") {
        memory::measure(&mut bench, &mut report).await?;
    }
    Ok(report.finish())
}

impl Bench {
    /// `None` without an sshd.
    async fn start(options: Options) -> Result<Option<Self>> {
        let Some(sshd) = Sshd::start().await? else { return Ok(None) };
        let most = (TERMINALS + 10).to_string();
        let args = ["--tunnels-per-user", &most, "--tunnels-per-device", &most];
        let args = args.map(str::to_owned).to_vec();
        let fleet = Fleet::start_with(ServerOptions { args, ..ServerOptions::default() }).await?;
        let config = format!("[tunnels]\nmax = {most}\n");
        let device =
            fleet.device_with(DEVICE, DeviceOptions { config, ..DeviceOptions::default() }).await?;
        let peer = Peer::new(sshd)?;
        let bulk = noise(options.pick(8_000_000, 200_000_000));
        let bulk_file = fleet.file("bulk");
        fs::write(&bulk_file, &bulk)?;
        Ok(Some(Self { options, fleet, device, peer, bulk, bulk_file }))
    }

    fn megabytes(&self) -> usize {
        self.bulk.len() / 1_000_000
    }

    fn bulk_path(&self) -> Result<&str> {
        self.bulk_file.to_str().context("a folder name that is no text")
    }

    fn rounds(&self) -> usize {
        self.options.pick(1, 5)
    }
}

/// A terminal of the device that runs a script.
fn terminal(script: &str) -> Value {
    json!({ "device_id": DEVICE, "kind": "terminal", "argv": ["sh", "-c", script] })
}

/// Bytes without a pattern, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What was measured in turn: of ours and of the peer, a pair a round.
#[derive(Debug, Default)]
struct Pairs {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Pairs {
    fn push(&mut self, ours: f64, theirs: f64) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }

    /// Both, and what one is of the other: the median of the rounds.
    fn report(&self, report: &mut Report, what: &str, unit: &str, wanted: Wanted) {
        report.line(&format!("{what}, ours"), median(&self.ours), unit);
        report.line(&format!("{what}, ssh"), median(&self.theirs), unit);
        let ratios: Vec<f64> =
            self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs).collect();
        report.promised(&format!("{what}, of ssh's"), median(&ratios), "×", wanted);
    }
}
