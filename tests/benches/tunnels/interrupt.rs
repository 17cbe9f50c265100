//! How long ^C takes while a program floods a console that reads slowly.

use std::time::Duration;

use anyhow::{Result, bail};
use quarterdeck_tests::{
    api::Api,
    clock,
    proxy::{Fault, Proxy},
    report::{Report, Wanted},
    tunnel::Console,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};

use super::{Bench, Pairs, terminal};

/// What the console reads, in bytes a second.
const SLOW: u32 = 500_000;
/// A flood, and then a prompt.
const FLOOD: &str = "trap 'printf stopped' INT; yes; exec cat";
/// How long it floods before the key.
const FLOODED: Duration = Duration::from_secs(2);
/// The peer's console reads so much, and rests.
const SIP_BYTES: usize = 5_000;

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut pairs = Pairs::default();
    for _ in 0..bench.rounds() {
        pairs.push(ours(bench).await?, ssh(bench).await?);
    }
    pairs.report(report, "^C in a flood, to the prompt", "ms", Wanted::AtMost(0.3));
    Ok(())
}

async fn ours(bench: &Bench) -> Result<f64> {
    let line = Proxy::to(bench.fleet.http_port()?).await?;
    let api = Api::new(&format!("http://127.0.0.1:{}", line.port()))?
        .with_token(bench.fleet.api().token());
    let (_, console) = Console::create(&api, &terminal(FLOOD)).await?;
    console.shows_bytes(100).await?;
    line.set(Fault::Throttle { bytes_per_s: SLOW });
    sleep(FLOODED).await;
    let begun = clock::now();
    console.write("\x03").await?;
    console.shows("stopped").await?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

async fn ssh(bench: &Bench) -> Result<f64> {
    let mut ssh = bench.peer.start(&["-tt"], FLOOD)?;
    let mut recent = Vec::new();
    let mut pressed = None;
    let (began, mut read) = (clock::now(), 0_u64);
    loop {
        let length = ssh.stdout.read_buf(&mut recent).await?;
        if length == 0 {
            bail!("ssh ended in the flood");
        }
        read += length as u64;
        if recent.windows(7).any(|window| window == b"stopped") {
            let Some(pressed) = pressed else { bail!("it stopped by itself") };
            return Ok(clock::now().duration_since(pressed).as_secs_f64() * 1e3);
        }
        recent.drain(..recent.len().saturating_sub(6));
        recent.reserve_exact(SIP_BYTES);
        let due = Duration::from_secs_f64(read as f64 / f64::from(SLOW));
        sleep(due.saturating_sub(began.elapsed())).await;
        if pressed.is_none() && began.elapsed() >= FLOODED {
            pressed = Some(clock::now());
            ssh.stdin.write_all(b"\x03").await?;
        }
    }
}
