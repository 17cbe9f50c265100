//! What an agent costs a device that has nothing to do.
//!
//! Its MQTT goes through a proxy that counts, so a chatty agent is seen.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use quarterdeck_tests::{
    Fleet,
    mqtt::codec,
    proxy::Proxy,
    report::{Options, Report, Wanted, cpu_time, resident_bytes},
};

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(Options::from_args()))
}

async fn run(options: Options) -> Result<ExitCode> {
    let watched = Duration::from_secs(options.pick(5, 120));
    let mut report =
        Report::new(options, &format!("an agent that has nothing to do, for {watched:?}"));

    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    device.stop().await?;
    fleet.offline("pi-1").await?;
    let proxy = Proxy::to(fleet.mqtt_port()?).await?;
    let file = device.data_dir().join("credentials.json");
    let credentials = std::fs::read_to_string(&file)?;
    let (direct, through) = (fleet.mqtt_port()?.to_string(), proxy.port().to_string());
    std::fs::write(&file, credentials.replace(&direct, &through))?;
    device.start_again()?;
    fleet.online("pi-1").await?;
    let id = fleet.api().script("pi-1", "true").await?;
    fleet.api().wait_end(id).await?;

    let pid = device.process().context("it does not run")?.pid();
    let cpu = cpu_time(pid)?;
    // Nothing is being said now, so what is said begins with a packet.
    proxy.record();
    // The one place where nothing happening is what is watched.
    tokio::time::sleep(watched).await;
    let minutes = watched.as_secs_f64() / 60.0;
    let cpu = (cpu_time(pid)?.checked_sub(cpu).unwrap_or_default()).as_secs_f64() * 1e3 / minutes;
    let resident = resident_bytes(pid)? as f64 / 1e6;
    report.promised("resident", resident, "MB", Wanted::AtMost(12.0));
    report.promised("CPU", cpu, "ms/minute", Wanted::AtMost(20.0));
    let (health, other) = messages(&proxy.recorded())?;
    report.line("heartbeats", health as f64 / minutes, "a minute");
    report.promised("other messages", other as f64, "", Wanted::AtMost(0.0));
    Ok(report.finish())
}

/// Heartbeats, and all other messages, that the agent sent.
fn messages(mut said: &[u8]) -> Result<(u64, u64)> {
    let (mut health, mut other) = (0, 0);
    while let Some((first, body, length)) = codec::frame(said)? {
        if first >> 4 == 3 {
            let is_health = body.windows(7).take(300).any(|part| part == b"/health");
            *(if is_health { &mut health } else { &mut other }) += 1;
        }
        said = &said[length..];
    }
    Ok((health, other))
}
