//! Workflows on a local broker: what a step costs over what the disk and the script cost.
//!
//! The agent runs alone on a private Mosquitto. `fdatasync` of one block is
//! measured between the runs, on the same disk. The peer of a script step is a
//! plain shell loop over the same program; that of a hundred commands at once is
//! the broker with nobody behind it, as fast as it passes the same messages on.
//! Where the disk is so quick that the broker is the limit, they have few syncs to
//! share: they are measured once more on the same disk made slower, by `strace`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use quarterdeck_tests::{
    binaries, clock,
    mosquitto::{Access, Mosquitto},
    mqtt::{
        Client, Login, Qos,
        bare::Bare,
        codec::{self, Packet, Publish},
    },
    process::Process,
    report::{Options, Report, Wanted, median},
    services,
    syncer::Syncer,
};

const COMMANDS: &str = "te/device/main///cmd";
/// States of the chain that one command goes through for its latency.
const CHAIN: usize = 10;
/// States of the chain for the rates.
const LONG_CHAIN: usize = 50;
/// Commands at once.
const AT_ONCE: usize = 100;
/// Script states, and rounds of the shell's loop.
const STEPS: usize = 20;
/// How much longer a sync takes on the slower disk, in milliseconds: an SD card is no better.
const SLOWER_MS: u64 = 2;

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(Options::from_args()))
}

async fn run(options: Options) -> Result<ExitCode> {
    let rounds = options.pick(5, 100);
    let mut report = Report::new(options, "workflows on a local broker, each transition durable");
    let Some(mosquitto) = Mosquitto::start(Access::Open).await? else {
        return Ok(report.finish());
    };
    let folder = tempfile::Builder::new().prefix("quarterdeck-workflows-").tempdir()?;
    let mut bench = Bench::start(folder.path(), &mosquitto, &Disk::AsItIs).await?;
    let mut syncer = Syncer::new(folder.path())?;

    let (mut chain, mut long, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    let (mut scripts, mut shell) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        measure(&mut syncer, &mut disk)?;
        chain.push(bench.time("chain", 1).await?);
        measure(&mut syncer, &mut disk)?;
        long.push(bench.time("long", 1).await?);
        measure(&mut syncer, &mut disk)?;
        scripts.push(bench.time("scripts", 1).await?);
        shell.push(shell_loop()?);
    }
    let disk = median(&disk);
    report.line("fdatasync of one block, median", disk, "ms");
    let most = 12.0 * disk + 10.0;
    let what = format!("{CHAIN} proceed states, median");
    report.promised(&what, median(&chain), "ms", Wanted::AtMost(most));

    let alone = LONG_CHAIN as f64 / median(&long) * 1e3;
    let (mut together, mut bare) = (Vec::new(), Vec::new());
    let few = options.pick(1, 5);
    for _ in 0..few {
        together.push(bench.rate(AT_ONCE).await?);
        let messages = LONG_CHAIN * AT_ONCE;
        bare.push(messages as f64 / bench.time_bare(mosquitto.port(), messages).await? * 1e3);
    }
    shared(&mut report, alone, median(&together));
    report.line("  the broker alone, nothing stored", median(&bare), "messages/s");

    let (scripts, shell) = (median(&scripts), median(&shell));
    let over = (scripts - shell) / STEPS as f64;
    report.line(&format!("{STEPS} script states"), scripts, "ms");
    report.line(&format!("a shell loop of {STEPS}"), shell, "ms");
    let most = 2.0 + 2.0 * disk;
    report.promised("  a step over a round of the loop", over, "ms", Wanted::AtMost(most));

    drop(bench);
    let services = (Disk::slower()?, Mosquitto::start(Access::Open).await?);
    if let (Some(disk), Some(mosquitto)) = services {
        let mut bench = Bench::start(&folder.path().join("slower"), &mosquitto, &disk).await?;
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for _ in 0..few {
            alone.push(bench.rate(1).await?);
            together.push(bench.rate(AT_ONCE).await?);
        }
        report.line("each sync made longer by", SLOWER_MS as f64, "ms");
        shared(&mut report, median(&alone), median(&together));
    }
    Ok(report.finish())
}

/// Says what of their syncs many commands share.
fn shared(report: &mut Report, alone: f64, together: f64) {
    report.line("one command alone", alone, "transitions/s");
    report.line(&format!("{AT_ONCE} at once"), together, "transitions/s");
    report.promised("  over one alone", together / alone, "×", Wanted::AtLeast(20.0));
}

/// Syncs as often in a row as a chain does: a disk may be quick once and not for long.
fn measure(syncer: &mut Syncer, disk: &mut Vec<f64>) -> Result<()> {
    for _ in 0..CHAIN {
        disk.push(syncer.sync()?);
    }
    Ok(())
}

/// What an agent has its journal on.
enum Disk {
    AsItIs,
    /// The same, each sync longer by [`SLOWER_MS`]: with the `strace` that sees to it.
    Slower(PathBuf),
}

impl Disk {
    /// `None` when it is to be skipped.
    fn slower() -> Result<Option<Self>> {
        let Some(strace) = services::require("strace")? else { return Ok(None) };
        let disk = Self::Slower(strace);
        let may_trace = disk.under(Path::new("true")).status()?.success();
        if !may_trace {
            services::skip("to be let trace a program");
        }
        Ok(may_trace.then_some(disk))
    }

    /// Starts a program that has it.
    fn under(&self, program: &Path) -> Command {
        let Self::Slower(strace) = self else { return Command::new(program) };
        // As a grandchild it traces: who ends the program ends all.
        let mut command = Command::new(strace);
        command.args(["-D", "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null"]);
        command.args(["-e", "trace=fdatasync", "-e"]);
        command.arg(format!("inject=fdatasync:delay_exit={}", SLOWER_MS * 1000));
        command.arg(program);
        command
    }
}

/// An agent on a broker, and somebody who asks it for commands.
struct Bench {
    client: Client,
    _agent: Process,
    count: usize,
}

impl Bench {
    async fn start(folder: &Path, mosquitto: &Mosquitto, disk: &Disk) -> Result<Self> {
        let workflows = folder.join("workflows");
        fs::create_dir_all(&workflows)?;
        fs::write(workflows.join("chain.toml"), chain("chain", CHAIN, PROCEED))?;
        fs::write(workflows.join("long.toml"), chain("long", LONG_CHAIN, PROCEED))?;
        fs::write(
            workflows.join("scripts.toml"),
            chain("scripts", STEPS, "script = \"/bin/true\""),
        )?;
        let mut client = Client::connect(mosquitto.port(), &Login::new("asking")).await?;
        client.subscribe(&format!("{COMMANDS}/#"), Qos::AtLeastOnce).await?;
        let mut command = disk.under(&binaries::find()?.agent);
        command.args(["--offline", "--bus", &mosquitto.url()]);
        command.arg("--workflows").arg(workflows).arg("--data-dir").arg(folder.join("data"));
        command.env("QUARTERDECK_LOG", "warn");
        let agent = Process::start("agent", &command, &folder.join("logs"))?;
        for _ in 0..3 {
            let announced = client.next().await?;
            ensure!(announced.payload == b"{}", "{announced:?} is no capability");
        }
        Ok(Self { client, _agent: agent, count: 0 })
    }

    /// Runs some long chains at once; gives how many transitions a second that makes.
    async fn rate(&mut self, commands: usize) -> Result<f64> {
        let took = self.time("long", commands).await?;
        Ok((LONG_CHAIN * commands) as f64 / took * 1e3)
    }

    /// Runs some commands of an operation at once; gives how long they took, in milliseconds.
    async fn time(&mut self, operation: &str, commands: usize) -> Result<f64> {
        let begun = clock::now();
        let mut ended = 0;
        let first = self.count;
        self.count += commands;
        for n in first..self.count {
            let topic = format!("{COMMANDS}/{operation}/{n}");
            self.client.publish_retained(&topic, b"{\"status\":\"init\",\"n\":1}").await?;
        }
        while ended < commands {
            let message = self.client.next().await?;
            // What is announced is no state.
            if message.payload == b"{}" {
                continue;
            }
            let status = message.json()?["status"].as_str().context("no status")?.to_owned();
            ensure!(status != "failed", "{}: {:?}", message.topic, message.json());
            ended += usize::from(status == "successful");
        }
        let took = begun.elapsed().as_secs_f64() * 1e3;
        for n in first..self.count {
            self.client.publish_retained(&format!("{COMMANDS}/{operation}/{n}"), b"").await?;
        }
        // What it says on that belongs to nobody's time.
        while self.client.next().await?.topic
            != format!("{COMMANDS}/{operation}/{}", self.count - 1)
        {}
        Ok(took)
    }

    /// Passes as many messages of states as that takes from a client that only sends them, and
    /// hears them too, as the agent does; gives how long it took, in milliseconds.
    async fn time_bare(&mut self, port: u16, messages: usize) -> Result<f64> {
        let filter = format!("{COMMANDS}/#");
        let mut sender = Bare::connect(port, "bare", &filter, Qos::AtLeastOnce).await?;
        let topic = |n: usize| format!("{COMMANDS}/bare/{}", n % AT_ONCE);
        let begun = clock::now();
        let send = async {
            let (mut sent, mut acknowledged) = (0, 0);
            while acknowledged < messages {
                while sent < messages && sent - acknowledged < AT_ONCE {
                    let publish = Publish {
                        topic: &topic(sent),
                        qos: Qos::AtLeastOnce,
                        id: (sent % 60_000) as u16 + 1,
                        retained: true,
                        duplicate: false,
                    };
                    let payload = format!("{{\"status\":\"state-{sent}\",\"n\":1}}");
                    codec::write_publish(&mut sender.out, &publish, payload.as_bytes());
                    sent += 1;
                }
                let mut answers = 0;
                let see = |packet: &Packet<'_>| {
                    answers += usize::from(matches!(packet, Packet::PubAck { .. }));
                };
                sender.exchange(see).await?;
                acknowledged += answers;
            }
            anyhow::Ok(())
        };
        let hear = async {
            for _ in 0..messages {
                self.client.next().await?.json()?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(send, hear)?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        drop(sender);
        for n in 0..AT_ONCE {
            self.client.publish_retained(&topic(n), b"").await?;
        }
        while self.client.next().await?.topic != topic(AT_ONCE - 1) {}
        Ok(took)
    }
}

const PROCEED: &str = "action = \"proceed\"";

/// A workflow of so many states, each of which does the same.
fn chain(operation: &str, states: usize, action: &str) -> String {
    let name = |n: usize| match n {
        0 => "init".to_owned(),
        n if n == states => "successful".to_owned(),
        n => format!("state-{n}"),
    };
    let states = (0..states).map(|n| {
        let (state, next) = (name(n), name(n + 1));
        format!("[{state}]\n{action}\non_success = \"{next}\"\n")
    });
    format!("operation = \"{operation}\"\n{}", states.collect::<String>())
}

/// How long a shell takes to start the same program as often, in milliseconds.
fn shell_loop() -> Result<f64> {
    let script = format!("i=0; while [ $i -lt {STEPS} ]; do /bin/true; i=$((i+1)); done");
    let begun = clock::now();
    let status = Command::new("sh").args(["-c", &script]).status()?;
    ensure!(status.success(), "the shell ended with {status}");
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
