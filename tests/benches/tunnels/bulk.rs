//! How fast much comes: out of a terminal, out of a program, out of a connection.

use std::{process::Stdio, sync::Arc};

use anyhow::{Context, Result, ensure};
use quarterdeck_tests::{
    cli::{self, Forward},
    clock,
    mosquitto::free_port,
    report::{Report, Wanted},
    tunnel::Console,
    wait::{Look, wait_for},
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
};

use super::{Bench, DEVICE, Pairs, peer::HOST, terminal};

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut ptys, mut execs, mut forwards) =
        (Pairs::default(), Pairs::default(), Pairs::default());
    let connections = Connections::start(bench).await?;
    for _ in 0..bench.rounds() {
        ptys.push(pty(bench).await?, ssh_pty(bench).await?);
        execs.push(exec(bench).await?, ssh_exec(bench).await?);
        forwards.push(
            connections.read(bench, connections.ours.port).await?,
            connections.read(bench, connections.ssh_port).await?,
        );
    }
    let wanted = Wanted::AtLeast(1.0);
    ptys.report(report, "out of a PTY, recorded", "MB/s", wanted);
    execs.report(report, "out of an exec", "MB/s", wanted);
    forwards.report(report, "out of a forward", "MB/s", wanted);
    Ok(())
}

/// What the terminal's program does: nothing is to be made of its bytes.
fn script(bench: &Bench) -> Result<String> {
    // The gate: until it is opened, nothing comes.
    Ok(format!(
        "stty raw -echo; printf ready; head -c 1 >/dev/null; exec cat {}",
        bench.bulk_path()?
    ))
}

async fn pty(bench: &Bench) -> Result<f64> {
    const READY: usize = 5;
    let mut request = terminal(&script(bench)?);
    request["record"] = json!(true);
    let (_, console) = Console::create(bench.fleet.api(), &request).await?;
    console.shows("ready").await?;
    let begun = clock::now();
    console.write("g").await?;
    console.shows_bytes(READY + bench.bulk.len()).await?;
    let rate = rate(bench, begun);
    ensure!(console.output()[READY..] == bench.bulk, "other bytes came out of the terminal");
    console.closed().await?;
    Ok(rate)
}

async fn ssh_pty(bench: &Bench) -> Result<f64> {
    let mut ssh = bench.peer.start(&["-tt"], &script(bench)?)?;
    ssh.until("ready").await?;
    let begun = clock::now();
    ssh.stdin.write_all(b"g").await?;
    compare(&mut ssh.stdout, &bench.bulk).await?;
    Ok(rate(bench, begun))
}

async fn exec(bench: &Bench) -> Result<f64> {
    let script = format!("printf ready; head -c 1 >/dev/null; exec cat {}", bench.bulk_path()?);
    let args = ["exec", DEVICE, "--", "sh", "-c", &script];
    let mut command = cli::quarterdeck(&bench.fleet, bench.fleet.api(), &args)?;
    through_a_gate(bench, &mut command).await
}

async fn ssh_exec(bench: &Bench) -> Result<f64> {
    let script = format!("printf ready; head -c 1 >/dev/null; exec cat {}", bench.bulk_path()?);
    let mut command = Command::new("ssh");
    command.args(bench.peer.words()).args(["-T", HOST, &script]).kill_on_drop(true);
    through_a_gate(bench, &mut command).await
}

/// Runs a program until it says `ready`, and times what comes after that.
async fn through_a_gate(bench: &Bench, command: &mut Command) -> Result<f64> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let mut ready = [0; 5];
    stdout.read_exact(&mut ready).await?;
    ensure!(ready == *b"ready", "it is not ready");
    let begun = clock::now();
    stdin.write_all(b"g").await?;
    compare(&mut stdout, &bench.bulk).await?;
    let rate = rate(bench, begun);
    drop(stdin);
    child.wait().await?;
    Ok(rate)
}

/// Two ways to one server, which sends all to who connects and says a byte.
struct Connections {
    ours: Forward,
    ssh_port: u16,
    _ssh: tokio::process::Child,
}

impl Connections {
    async fn start(bench: &Bench) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = format!("127.0.0.1:{}", listener.local_addr()?.port());
        let bulk = Arc::new(bench.bulk.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let bulk = Arc::clone(&bulk);
                tokio::spawn(async move {
                    let _ = socket.read_u8().await;
                    let _ = socket.write_all(&bulk).await;
                });
            }
        });
        let ours = Forward::start(&bench.fleet, bench.fleet.api(), &[DEVICE, &target]).await?;
        let ssh_port = free_port()?;
        let mut ssh = Command::new("ssh");
        ssh.args(bench.peer.words())
            .args(["-N", "-L", &format!("127.0.0.1:{ssh_port}:{target}"), HOST])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ssh = ssh.spawn()?;
        wait_for("ssh -L to listen", || async {
            Ok(match TcpStream::connect(("127.0.0.1", ssh_port)).await {
                Ok(_) => Look::Ready(()),
                Err(error) => Look::not_yet(error),
            })
        })
        .await?;
        Ok(Self { ours, ssh_port, _ssh: ssh })
    }

    async fn read(&self, bench: &Bench, port: u16) -> Result<f64> {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let begun = clock::now();
        socket.write_all(b"g").await?;
        compare(&mut socket, &bench.bulk).await?;
        Ok(rate(bench, begun))
    }
}

/// Reads as much as was sent, and compares each byte.
async fn compare(from: &mut (impl AsyncRead + Unpin), expected: &[u8]) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    while at < expected.len() {
        let length = from.read(&mut buffer).await?;
        ensure!(length > 0, "it ended after {at} of {} bytes", expected.len());
        ensure!(expected[at..].starts_with(&buffer[..length]), "other bytes came after {at}");
        at += length;
    }
    Ok(())
}

fn rate(bench: &Bench, begun: std::time::Instant) -> f64 {
    bench.bulk.len() as f64 / 1e6 / begun.elapsed().as_secs_f64()
}
