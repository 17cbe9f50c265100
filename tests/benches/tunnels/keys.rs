//! How long a key takes to be seen.

use std::time::Duration;

use anyhow::{Result, ensure};
use quarterdeck_tests::{
    clock,
    report::{Report, Wanted, median, percentile},
    tunnel::Console,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};

use super::{Bench, Pairs, bare::Bare, peer::Session, terminal};

/// What gives back each byte as it comes.
pub(super) const ECHO: &str = "stty raw -echo; printf ready; exec cat";
/// Keys in a row at one terminal, as long as a short line, before the next has its turn.
const BURST: usize = 25;
/// Between two keys: a fast typist is slower.
const PAUSE: Duration = Duration::from_millis(3);

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let keys = bench.options.pick(50, 1_000);
    let (_, console) = Console::create(bench.fleet.api(), &terminal(ECHO)).await?;
    console.shows("ready").await?;
    let mut ssh = bench.peer.start(&["-tt"], ECHO)?;
    ssh.until("ready").await?;
    let mut bare = Bare::start().await?;
    let (mut halves, mut tails) = (Pairs::default(), Pairs::default());
    let mut least = Vec::new();
    let mut shown = console.output().len();
    for _ in 0..bench.rounds() {
        let (mut ours, mut theirs, mut bares) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..keys / BURST {
            for _ in 0..BURST {
                shown += 1;
                ours.push(key(&console, shown).await?);
                sleep(PAUSE).await;
            }
            for _ in 0..BURST {
                theirs.push(ssh_key(&mut ssh).await?);
                sleep(PAUSE).await;
            }
            for _ in 0..BURST {
                let begun = clock::now();
                bare.key().await?;
                bares.push(begun.elapsed().as_secs_f64() * 1e6);
                sleep(PAUSE).await;
            }
        }
        least.push(percentile(&bares, 50.0));
        halves.push(percentile(&ours, 50.0), percentile(&theirs, 50.0));
        tails.push(percentile(&ours, 99.0), percentile(&theirs, 99.0));
    }
    halves.report(report, "keystroke echo p50", "µs", Wanted::AtMost(1.0));
    report.line("the same ways, with nothing done at them", median(&least), "µs");
    tails.report(report, "keystroke echo p99", "µs", Wanted::AtMost(1.0));
    Ok(())
}

async fn key(console: &Console, shown: usize) -> Result<f64> {
    let begun = clock::now();
    console.write("x").await?;
    console.shows_bytes(shown).await?;
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}

async fn ssh_key(ssh: &mut Session) -> Result<f64> {
    let begun = clock::now();
    ssh.stdin.write_all(b"x").await?;
    let mut echo = [0];
    ssh.stdout.read_exact(&mut echo).await?;
    ensure!(echo == *b"x", "another byte came back");
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}
