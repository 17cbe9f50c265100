//! Devices that are away: what waits for them, and for how long.

use anyhow::Result;
use quarterdeck_protocol::{api::Overview, command::CommandStatus, device::DeviceStatus};
use quarterdeck_tests::{Fleet, api::submission};
use serde_json::json;

#[tokio::test]
async fn a_command_waits_for_its_device_and_runs_on_its_return() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    device.kill_9();
    fleet.offline(device.id()).await?;

    let created = fleet.api().submit(&submission(&["pi-1"], "ping", json!({}))).await?;
    assert_eq!(created.offline, 1);
    assert_eq!(created.commands[0].status, CommandStatus::Queued);
    device.start_again()?;
    fleet.api().wait_status(created.commands[0].id, CommandStatus::Completed).await?;
    Ok(())
}

#[tokio::test]
async fn a_command_that_nobody_fetched_in_time_expires_and_never_runs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    device.stop().await?;
    fleet.offline(device.id()).await?;

    let effect = device.folder().join("effect");
    let script = json!({ "script": format!("echo x >> {}", effect.display()) });
    let mut create = submission(&["pi-1"], "run_script", script);
    create.expires_in_s = Some(1);
    let id = fleet.api().submit(&create).await?.commands[0].id;
    fleet.api().wait_status(id, CommandStatus::Expired).await?;

    device.start_again()?;
    let after = fleet.api().script("pi-1", "true").await?;
    fleet.api().wait_status(after, CommandStatus::Completed).await?;
    assert!(!effect.exists());
    assert_eq!(fleet.api().command(id).await?.status, CommandStatus::Expired);
    Ok(())
}

#[tokio::test]
async fn what_waits_outlives_the_server() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    device.stop().await?;
    fleet.offline(device.id()).await?;
    let id = fleet.api().script("pi-1", "echo still here").await?;

    fleet.restart_server().await?;
    assert_eq!(fleet.api().command(id).await?.status, CommandStatus::Queued);
    device.start_again()?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(command.stdout.as_deref(), Some("still here\n"));
    Ok(())
}

#[tokio::test]
async fn presence_follows_the_device_through_stop_kill_and_return() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let first = fleet.api().device("pi-1").await?;
    assert!(first.agent_version.is_some() && !first.facts.is_empty());
    assert!(first.capabilities.iter().any(|name| name == "ping"), "{:?}", first.capabilities);
    assert_eq!(first.contract, "quarterdeck-1.0");

    device.stop().await?;
    fleet.offline("pi-1").await?;
    device.start_again()?;
    fleet.online("pi-1").await?;
    device.kill_9();
    fleet.offline("pi-1").await?;
    device.start_again()?;
    fleet
        .api()
        .wait_device("pi-1", "online again", |device| device.status == DeviceStatus::Online)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_device_that_died_while_the_server_was_down_is_not_taken_for_there() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let mut dead = fleet.device("pi-1").await?;
    let _alive = fleet.device("pi-2").await?;
    fleet.server().kill_9();
    dead.kill_9();
    fleet.server().start_again().await?;

    fleet.online("pi-2").await?;
    let device = fleet.api().device("pi-1").await?;
    assert_eq!(device.status, DeviceStatus::Online, "its silence has only begun");
    let since = device.unheard_since.expect("the server has not heard of it since its start");
    assert!(device.last_seen_at.expect("it was there") < since);
    let counts = fleet.api().get::<Overview>("@/overview").await?.devices;
    assert_eq!((counts.online, counts.unheard), (2, 1));

    dead.start_again()?;
    fleet.online("pi-1").await
}
