//! Durable ingest: distinct messages of 1,000 devices, each acknowledged after its commit.
//!
//! The generator shares the machine with the server. Saturating, paced at
//! 20,000 messages a second, and one lone message beside what the disk itself
//! takes to be sure of a block. The peer is Mosquitto, which stores nothing.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use quarterdeck_tests::{
    Fleet,
    api::submission,
    mosquitto::{Access, Mosquitto},
    report::{Options, Report, Wanted, median},
    simulator::{
        self,
        load::{CHUNK_BYTES, Loaders, Outcome, Pace},
    },
    syncer::Syncer,
    wait::{Look, wait_for},
};
use serde_json::json;

/// Unacknowledged messages of each device at saturation.
const WINDOW: usize = 16;

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(Options::from_args()))
}

async fn run(options: Options) -> Result<ExitCode> {
    let devices = options.pick(100, 1_000);
    let duration = Duration::from_secs(options.pick(2, 30));
    let paced = options.pick(2_000.0, 20_000.0);
    simulator::raise_open_files()?;
    let mut report =
        Report::new(options, &format!("durable ingest from {devices} devices, {duration:?} each"));

    let fleet = Fleet::start().await?;
    let token = fleet.enrollment_token(u32::try_from(devices)?).await?;
    let logins = simulator::enroll(&fleet.api().with_kept_connections()?, &token, devices).await?;
    let names: Vec<&str> = logins
        .iter()
        .filter_map(|login| login.client_id.split_once(':'))
        .map(|(_, id)| id)
        .collect();
    let mut loaders = Loaders::connect(fleet.mqtt_port()?, &logins).await?;
    let mut create = submission(&names, "run_script", json!({"script": "true"}));
    create.timeout_s = Some(24 * 3600);
    let (submitted, started) = tokio::join!(fleet.api().submit(&create), loaders.start_commands());
    submitted?;
    started?;

    let saturated = loaders.run(Pace::Saturate { window: WINDOW }, duration).await?;
    let quiet = loaders.run(Pace::PerSecond(paced), duration).await?;
    stored(&fleet, &quiet).await?;
    drop(loaders);
    let (lone, disk) = lone_message(&fleet, &logins[0], options.pick(20, 300)).await?;

    report.promised("saturated", saturated.per_second(), "messages/s", Wanted::AtLeast(50_000.0));
    report.line(&format!("at {paced} messages/s: sent"), quiet.per_second(), "messages/s");
    report.line("  p50", millis(quiet.percentile(50.0)), "ms");
    report.promised("  p99", millis(quiet.percentile(99.0)), "ms", Wanted::AtMost(100.0));
    report.line("fdatasync of one block, median", disk, "ms");
    report.promised("a lone message, median", lone, "ms", Wanted::AtMost(3.0 * disk + 1.0));

    if let Some(mosquitto) = Mosquitto::start(Access::Open).await? {
        let mut loaders =
            Loaders::connect(mosquitto.port(), &simulator::strangers(devices)).await?;
        let peer = loaders.run(Pace::Saturate { window: WINDOW }, duration).await?;
        report.line("Mosquitto, nothing stored: saturated", peer.per_second(), "messages/s");
        let peer = loaders.run(Pace::PerSecond(paced), duration).await?;
        report.line("Mosquitto, nothing stored: p99", millis(peer.percentile(99.0)), "ms");
    }
    Ok(report.finish())
}

/// Checks, for some of the devices, that what was acknowledged is there, or will be soon.
async fn stored(fleet: &Fleet, outcome: &Outcome) -> Result<()> {
    for (command, sent) in outcome.by_device.iter().step_by(97) {
        let command = command.parse()?;
        let wanted =
            (*sent as usize * CHUNK_BYTES).min(quarterdeck_protocol::limits::OUTPUT_KEPT_MAX_BYTES);
        wait_for(&format!("{wanted} bytes of output"), || async {
            let kept = fleet.api().command(command).await?.stdout.unwrap_or_default().len();
            Ok(if kept >= wanted { Look::Ready(()) } else { Look::not_yet(kept) })
        })
        .await?;
    }
    Ok(())
}

/// How long one message takes when nothing else happens, and the disk alone, in milliseconds.
async fn lone_message(
    fleet: &Fleet,
    login: &quarterdeck_tests::mqtt::Login,
    count: usize,
) -> Result<(f64, f64)> {
    let mut lone = Loaders::connect(fleet.mqtt_port()?, std::slice::from_ref(login)).await?;
    let id = login.client_id.split_once(':').context("no device id")?.1;
    let create = submission(&[id], "run_script", json!({"script": "true"}));
    let (submitted, started) = tokio::join!(fleet.api().submit(&create), lone.start_commands());
    submitted?;
    started?;
    let (mut messages, mut disk) = (Vec::new(), Vec::new());
    let mut syncer = Syncer::new(fleet.folder())?;
    for _ in 0..count {
        // One message each: the next is due only after the run is over.
        let hour = Pace::PerSecond(1.0 / 3600.0);
        let outcome = lone.run(hour, Duration::from_millis(1)).await?;
        messages.push(millis(outcome.percentile(50.0)));
        disk.push(syncer.sync()?);
    }
    Ok((median(&messages), median(&disk)))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
