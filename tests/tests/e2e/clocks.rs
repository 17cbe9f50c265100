//! Wall clocks that step: they neither expire nor revive anything.

use anyhow::Result;
use quarterdeck_protocol::{api::Alert, command::CommandStatus};
use quarterdeck_tests::{
    Fleet,
    agent::DeviceOptions,
    api::submission,
    faketime::SteppingClock,
    server::ServerOptions,
    wait::{Look, wait_for},
};
use serde_json::json;

const DAY_S: i64 = 86_400;

#[tokio::test]
async fn a_servers_clock_that_steps_expires_nothing_and_revives_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(clock) = SteppingClock::new(folder.path(), "server")? else { return Ok(()) };
    let env = clock.env().to_vec();
    let fleet = Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await?;
    let mut device = fleet.device("pi-1").await?;
    device.stop().await?;
    fleet.offline("pi-1").await?;

    let waiting = fleet.api().script("pi-1", "echo ran").await?;
    let mut create = submission(&["pi-1"], "run_script", json!({"script": "echo must not run"}));
    create.expires_in_s = Some(1);
    let expiring = fleet.api().submit(&create).await?.commands[0].id;
    fleet.api().wait_status(expiring, CommandStatus::Expired).await?;

    clock.step_to(DAY_S)?;
    // The session's token is a matter of the wall clock; sign in by the new time.
    let api = fleet.api().login("admin", fleet.admin_password()).await?;
    let mut create = submission(&["pi-1"], "run_script", json!({"script": "true"}));
    create.expires_in_s = Some(1);
    let short = api.submit(&create).await?.commands[0].id;
    api.wait_status(short, CommandStatus::Expired).await?;
    assert_eq!(api.command(waiting).await?.status, CommandStatus::Queued);

    clock.step_to(-DAY_S)?;
    let api = fleet.api().login("admin", fleet.admin_password()).await?;
    assert_eq!(api.command(expiring).await?.status, CommandStatus::Expired);
    device.start_again()?;
    let command = api.wait_status(waiting, CommandStatus::Completed).await?;
    assert_eq!(command.stdout.as_deref(), Some("ran\n"));
    Ok(())
}

#[tokio::test]
async fn a_device_whose_clock_is_off_runs_its_commands_and_raises_an_alert() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(clock) = SteppingClock::new(folder.path(), "device")? else { return Ok(()) };
    clock.step_to(-365 * DAY_S)?;
    let fleet = Fleet::start().await?;
    let env = clock.env().to_vec();
    let device =
        fleet.device_with("pi-1", DeviceOptions { env, ..DeviceOptions::default() }).await?;
    let id = fleet.api().script(device.id(), "echo ran").await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let alert = wait_for("an alert of clock skew", || async {
        let alerts: Vec<Alert> = fleet.api().list("@/alerts").await?;
        let skew = alerts.into_iter().find(|alert| alert.kind == "clock_skew");
        Ok(skew.map_or_else(|| Look::not_yet("none"), Look::Ready))
    })
    .await?;
    assert_eq!(alert.device_id.map(|id| id.to_string()).as_deref(), Some("pi-1"));

    // Ahead of everything, also of what would have expired by its own clock.
    clock.step_to(365 * DAY_S)?;
    let id = fleet.api().script(device.id(), "echo ran").await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    Ok(())
}

#[tokio::test]
async fn a_running_script_keeps_its_time_when_its_devices_clock_steps() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(clock) = SteppingClock::new(folder.path(), "device")? else { return Ok(()) };
    let fleet = Fleet::start().await?;
    let env = clock.env().to_vec();
    let device =
        fleet.device_with("pi-1", DeviceOptions { env, ..DeviceOptions::default() }).await?;
    let go = device.folder().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; echo ran", go.display());
    let id = fleet.api().script("pi-1", &script).await?;
    fleet.api().wait_status(id, CommandStatus::ExecutionStarted).await?;
    clock.step_to(DAY_S)?;
    // A command that comes after the step is handled after it.
    let ping = fleet.api().send("pi-1", "ping", json!({})).await?;
    fleet.api().wait_status(ping, CommandStatus::Completed).await?;
    std::fs::write(&go, "")?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    Ok(())
}
