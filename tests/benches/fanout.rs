//! Fan-out of one command to all connected devices, against a bare Mosquitto.
//!
//! Ours: one submission, a row a device, and each of the three answers of each
//! device acknowledged after its commit. The peer: the same messages between
//! the same simulator and a client that stores nothing. Both in the same run,
//! taking turns, so that a noisy machine disturbs both.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quarterdeck_tests::{
    Fleet,
    api::{Api, submission},
    clock,
    mosquitto::{Access, Mosquitto},
    mqtt::{
        Login,
        bare::Bare,
        codec::{self, Packet, Publish, Qos},
    },
    report::{Options, Report, Wanted, cpu_time, median, resident_bytes},
    simulator::{
        self,
        answering::Simulator,
        connection::{Topics, now_text},
    },
    wait::{Look, wait_for},
};
use serde_json::json;

/// How many messages the storing-nothing client has unacknowledged at any time.
const CLIENT_INFLIGHT: usize = 20;
const DEADLINE: Duration = Duration::from_mins(5);

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(Options::from_args()))
}

async fn run(options: Options) -> Result<ExitCode> {
    let devices = options.pick(500, 10_000);
    let rounds = options.pick(1, 3);
    simulator::raise_open_files()?;
    let mut report = Report::new(
        options,
        &format!("fan-out of one command to {devices} devices, {rounds} rounds"),
    );

    let mut fleet = Fleet::start().await?;
    let token = fleet.enrollment_token(u32::try_from(devices)?).await?;
    let logins = simulator::enroll(&fleet.api().with_kept_connections()?, &token, devices).await?;
    let pid = fleet.server().process().pid();
    let mosquitto = Mosquitto::start(Access::Open).await?;

    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut submitted, mut cpu, mut cpu_of_peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let round = quarterdeck(fleet.api(), fleet.mqtt_port()?, pid, &logins).await?;
        ours.push(round.rate);
        submitted.push(round.submitted_ms);
        cpu.push(round.cpu_us);
        if let Some(mosquitto) = &mosquitto {
            let peer = bare_broker(mosquitto, devices).await?;
            theirs.push(peer.rate);
            cpu_of_peer.push(peer.cpu_us);
            ratios.push(round.rate / peer.rate);
        }
    }
    let stored = fleet.api().count("@/commands?status=completed").await?;
    ensure!(stored == (devices * rounds) as u64, "{stored} commands are stored as completed");

    report.line("Quarterdeck, all durable, median", median(&ours), "commands/s");
    report.line("  the submission is answered after", median(&submitted), "ms");
    report.line("  processor time of the server", median(&cpu), "µs a command");
    if ratios.is_empty() {
        report.line("Mosquitto: not installed", f64::NAN, "");
    } else {
        report.line("Mosquitto, nothing stored, median", median(&theirs), "commands/s");
        report.line("  processor time of the broker", median(&cpu_of_peer), "µs a command");
        report.promised("ratio, median of rounds", median(&ratios), "×", Wanted::AtLeast(2.0));
    }
    report.line("server resident after it", resident_bytes(pid)? as f64 / 1e6, "MB");
    Ok(report.finish())
}

/// What one round came to.
struct Round {
    /// Commands a second.
    rate: f64,
    /// When the submission was answered.
    submitted_ms: f64,
    /// Processor time of whoever stands between the devices and their commands.
    cpu_us: f64,
}

/// From the submission to the last acknowledged answer.
async fn quarterdeck(api: &Api, port: u16, pid: u32, logins: &[Login]) -> Result<Round> {
    let count = logins.len() as u64;
    let devices = Simulator::connect(port, logins).await?;
    online(api, count).await?;
    let names: Vec<&str> = logins
        .iter()
        .filter_map(|login| login.client_id.split_once(':'))
        .map(|(_, id)| id)
        .collect();
    let (begun, cpu) = (clock::now(), cpu_time(pid)?);
    let create = submission(&names, "ping", json!({}));
    let submit = async {
        let submitted = api.submit(&create).await;
        (submitted, begun.elapsed())
    };
    let ((submitted, submitted_after), answered) =
        tokio::join!(submit, devices.wait_answered(count, DEADLINE));
    let took = begun.elapsed();
    ensure!(submitted?.count == count, "not all were submitted");
    answered?;
    ensure!(devices.counts().commands.load(std::sync::atomic::Ordering::Relaxed) == count);
    // What is durable but not decided yet counts as the server's work, too.
    ensure!(api.count("@/commands?status=completed").await? > 0);
    let cpu = cpu_time(pid)?.saturating_sub(cpu);
    drop(devices);
    online(api, 0).await?;
    Ok(Round { submitted_ms: submitted_after.as_secs_f64() * 1e3, ..Round::new(count, took, cpu) })
}

impl Round {
    fn new(count: u64, took: Duration, cpu: Duration) -> Self {
        let count = count as f64;
        Self {
            rate: count / took.as_secs_f64(),
            submitted_ms: 0.0,
            cpu_us: cpu.as_secs_f64() * 1e6 / count,
        }
    }
}

/// Waits until so many devices are online: neither side's round has the other's devices to see to.
async fn online(api: &Api, count: u64) -> Result<()> {
    wait_for(&format!("{count} devices online"), || async {
        let there = api.count("@/devices?status=online").await?;
        Ok(if there == count { Look::Ready(()) } else { Look::not_yet(there) })
    })
    .await
}

/// The same over a broker, to and from a client that stores nothing.
async fn bare_broker(mosquitto: &Mosquitto, count: usize) -> Result<Round> {
    let (port, pid) = (mosquitto.port(), mosquitto.pid().context("Mosquitto has ended")?);
    let logins = simulator::strangers(count);
    let devices = Simulator::connect(port, &logins).await?;
    let topics =
        logins.iter().map(|login| Ok(Topics::of(login)?.commands)).collect::<Result<_>>()?;
    let mut client = Relay::connect(port, topics).await?;
    let (begun, cpu) = (clock::now(), cpu_time(pid)?);
    client.run(begun).await?;
    let took = begun.elapsed();
    let cpu = cpu_time(pid)?.saturating_sub(cpu);
    devices.wait_answered(count as u64, DEADLINE).await?;
    Ok(Round::new(count as u64, took, cpu))
}

/// A client that sends each device a command and counts the answers.
struct Relay {
    client: Bare,
    topics: Vec<String>,
    sent: usize,
    inflight: usize,
    completed: usize,
}

impl Relay {
    async fn connect(port: u16, topics: Vec<String>) -> Result<Self> {
        let filter = "roboticks/+/devices/+/commands/response";
        let client = Bare::connect(port, "server", filter, Qos::ExactlyOnce).await?;
        Ok(Self { client, topics, sent: 0, inflight: 0, completed: 0 })
    }

    async fn run(&mut self, begun: Instant) -> Result<()> {
        while self.completed < self.topics.len() {
            while self.inflight < CLIENT_INFLIGHT && self.sent < self.topics.len() {
                self.command();
            }
            let (mut released, mut completed) = (0, 0);
            let see = |packet: &Packet<'_>| match packet {
                Packet::PubComp { .. } => released += 1,
                Packet::Publish { payload, .. } => {
                    let is_last =
                        payload.windows(20).any(|part| part == br#""status":"completed""#);
                    completed += usize::from(is_last);
                }
                _ => {}
            };
            self.client.exchange(see).await?;
            self.inflight -= released;
            self.completed += completed;
            ensure!(begun.elapsed() < DEADLINE, "{} of {}", self.completed, self.topics.len());
        }
        Ok(())
    }

    fn command(&mut self) {
        let at = now_text();
        let payload = json!({
            "schema_version": "1.0", "command_id": clock::new_uuid(), "type": "ping", "payload": {},
            "priority": 5, "issued_at": at, "expires_at": at, "timeout_s": 300,
            "issued_by": "admin", "sent_at": at
        });
        let publish = Publish {
            topic: &self.topics[self.sent],
            qos: Qos::ExactlyOnce,
            id: (self.sent % 60_000) as u16 + 1,
            retained: false,
            duplicate: false,
        };
        codec::write_publish(&mut self.client.out, &publish, payload.to_string().as_bytes());
        self.sent += 1;
        self.inflight += 1;
    }
}
