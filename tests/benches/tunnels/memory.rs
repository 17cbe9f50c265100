//! What a terminal costs in which nothing happens.

use anyhow::{Context, Result};
use quarterdeck_tests::{
    process::descendants,
    report::{Report, Wanted, resident_bytes},
    tunnel::Console,
};

use super::{Bench, TERMINALS, terminal};

pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let agent = bench.device.process().context("it runs")?.pid();
    let server = bench.fleet.server().process().pid();
    let api = bench.fleet.api().clone();
    let open = async || {
        let (_, console) = Console::create(&api, &terminal("printf ready; exec cat")).await?;
        console.shows("ready").await?;
        anyhow::Ok(console)
    };
    // The first has made what all share.
    let _first = open().await?;
    let before = [resident_bytes(server)?, resident_bytes(agent)?];
    let mut consoles = Vec::new();
    for _ in 0..TERMINALS {
        consoles.push(open().await?);
    }
    for (pid, before, what, most_kb) in
        [(server, before[0], "server", 256.0), (agent, before[1], "agent", 512.0)]
    {
        let more = resident_bytes(pid)?.saturating_sub(before) as f64 / TERMINALS as f64 / 1024.0;
        let what = format!("{what}, for one more idle terminal");
        report.promised(&what, more, "KB", Wanted::AtMost(most_kb));
    }
    drop(consoles);
    let ssh = ssh(bench).await?;
    report.line("sshd, for one idle terminal", ssh / 1024.0, "KB");
    Ok(())
}

/// What sshd's own processes of one session hold.
async fn ssh(bench: &Bench) -> Result<f64> {
    let mut session = bench.peer.start(&["-tt"], "printf ready; exec cat")?;
    session.until("ready").await?;
    let mut bytes = 0;
    for pid in descendants(bench.peer.pid()) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.starts_with("sshd") {
            bytes += resident_bytes(pid)?;
        }
    }
    Ok(bytes as f64)
}
