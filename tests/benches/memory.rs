//! What an idle connected device costs the server, beside Mosquitto.

use std::process::ExitCode;

use anyhow::{Context, Result};
use quarterdeck_tests::{
    Fleet,
    mosquitto::{Access, Mosquitto},
    report::{Options, Report, Wanted, resident_bytes},
    simulator::{self, answering::Simulator},
};

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(Options::from_args()))
}

async fn run(options: Options) -> Result<ExitCode> {
    let devices = options.pick(500, 10_000);
    simulator::raise_open_files()?;
    let mut report = Report::new(options, &format!("memory of {devices} idle connected devices"));

    let mut fleet = Fleet::start().await?;
    let token = fleet.enrollment_token(u32::try_from(devices)?).await?;
    let logins = simulator::enroll(&fleet.api().with_kept_connections()?, &token, devices).await?;
    // Enrolment has warmed caches and pools; what a start takes is counted after a fresh one.
    fleet.restart_server().await?;
    fleet.api().count("@/devices").await?;
    let pid = fleet.server().process().pid();
    let before = resident_bytes(pid)?;
    let connected = Simulator::connect(fleet.mqtt_port()?, &logins).await?;
    fleet.api().count("@/devices?status=online").await?;
    let per_device = (resident_bytes(pid)? - before) as f64 / connected.devices() as f64 / 1024.0;
    report.line("server after its start", before as f64 / 1e6, "MB");
    report.promised("per idle connected device", per_device, "KB", Wanted::AtMost(24.0));
    drop(connected);

    if let Some(mosquitto) = Mosquitto::start(Access::Open).await? {
        let pid = mosquitto.pid().context("it does not run")?;
        let before = resident_bytes(pid)?;
        let connected =
            Simulator::connect(mosquitto.port(), &simulator::strangers(devices)).await?;
        let grown = resident_bytes(pid)? - before;
        let per_device = grown as f64 / connected.devices() as f64 / 1024.0;
        report.line("Mosquitto, per idle connected device", per_device, "KB");
    }
    Ok(report.finish())
}
