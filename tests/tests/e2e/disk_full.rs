//! A full disk, on the server and on a device.

use anyhow::{Result, ensure};
use quarterdeck_protocol::{command::CommandStatus, ids::CommandId};
use quarterdeck_tests::{
    Fleet,
    agent::DeviceOptions,
    api::{Api, submission},
    disk::SmallDisk,
    server::ServerOptions,
    wait::{Look, wait_for},
};
use reqwest::Method;
use serde_json::json;

const DISK_BYTES: u64 = 24 << 20;

async fn is_ready(api: &Api, status: u16) -> Result<()> {
    wait_for(&format!("{status} from /readyz"), || async {
        let answer = reqwest::get(format!("{}/readyz", api.base())).await?;
        let is_so = answer.status().as_u16() == status;
        Ok(if is_so { Look::Ready(()) } else { Look::not_yet(answer.text().await?) })
    })
    .await
}

#[tokio::test]
async fn a_server_with_a_full_disk_refuses_and_goes_on_when_there_is_space() -> Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_BYTES)? else { return Ok(()) };
    let data_dir = Some(disk.path().join("data"));
    let mut fleet =
        Fleet::start_with(ServerOptions { data_dir, ..ServerOptions::default() }).await?;
    let device = fleet.device("pi-1").await?;
    let effects = device.folder().join("effects");
    let script = json!({ "script": format!("echo x >> {}", effects.display()) });

    disk.fill()?;
    let mut acknowledged = Vec::<CommandId>::new();
    let mut refused = 0;
    for _ in 0..300 {
        // Large, so that what the database still holds in reserve is soon used up.
        let mut create = submission(&["pi-1"], "run_script", script.clone());
        create.notes = "x".repeat(1_900);
        let answer = fleet.api().request(Method::POST, "@/commands", &json!(create)).await?;
        if answer.status == 201 {
            let made: quarterdeck_protocol::api::CreatedCommands = answer.read()?;
            acknowledged.push(made.commands[0].id);
        } else {
            let problem = answer.refused(507)?;
            ensure!(problem.code == "disk_full" && problem.detail.contains("full"), "{problem:?}");
            refused += 1;
            if refused == 3 {
                break;
            }
        }
    }
    ensure!(refused > 0, "a full disk was never noticed");
    fleet.server().process().must_run()?;
    is_ready(fleet.api(), 503).await?;

    disk.free()?;
    is_ready(fleet.api(), 200).await?;
    let after = wait_for("the server to take commands again", || async {
        let sent = fleet.api().script("pi-1", "echo there is space").await;
        Ok(sent.map_or_else(Look::not_yet, Look::Ready))
    })
    .await?;
    fleet.api().wait_status(after, CommandStatus::Completed).await?;
    for id in &acknowledged {
        fleet.api().wait_status(*id, CommandStatus::Completed).await?;
    }
    let lines = std::fs::read_to_string(&effects).unwrap_or_default().lines().count();
    let known = fleet.api().count("@/commands").await? as usize;
    ensure!((acknowledged.len()..=known).contains(&lines), "{lines} of {}", acknowledged.len());
    Ok(())
}

#[tokio::test]
async fn a_device_with_a_full_disk_runs_nothing_that_it_could_not_note() -> Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_BYTES)? else { return Ok(()) };
    let fleet = Fleet::start().await?;
    let data_dir = Some(disk.path().join("agent"));
    let options = DeviceOptions { data_dir, ..DeviceOptions::default() };
    let mut device = fleet.device_with("pi-1", options).await?;
    let first = fleet.api().script("pi-1", "true").await?;
    fleet.api().wait_status(first, CommandStatus::Completed).await?;

    disk.fill()?;
    let effects = device.folder().join("effects");
    // Larger than what a journal may hold in reserve.
    let padding = "#".repeat(60_000);
    let script = format!("echo x >> {}\n{padding}", effects.display());
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(fleet.api().script("pi-1", &script).await?);
    }
    // Whatever it says of the first: it must say or keep silent, and not repeat.
    let said = async |id| fleet.api().command(id).await.map(|command| command.status);
    wait_for("the device to notice", || async {
        let status = said(ids[0]).await?;
        let log = std::fs::read_to_string(fleet.file("logs/pi-1.log")).unwrap_or_default();
        let noticed = status.is_terminal() || log.to_lowercase().contains("space");
        Ok(if noticed { Look::Ready(()) } else { Look::not_yet(status) })
    })
    .await?;

    disk.free()?;
    if device.process().is_none_or(|process| process.ended().is_some()) {
        device.start_again()?;
    }
    let mut completed = 0;
    for id in ids {
        let command = fleet.api().wait_end(id).await?;
        completed += usize::from(command.status == CommandStatus::Completed);
    }
    let lines = std::fs::read_to_string(&effects).unwrap_or_default().lines().count();
    ensure!(lines <= 5 && lines >= completed, "{lines} effects, {completed} completed");
    let after = fleet.api().script("pi-1", "echo there is space").await?;
    fleet.api().wait_status(after, CommandStatus::Completed).await?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_larger_than_the_devices_disk_fails_and_nothing_else_waits_for_it()
-> Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_BYTES)? else { return Ok(()) };
    let fleet = Fleet::start().await?;
    let data_dir = Some(disk.path().join("agent"));
    let options = DeviceOptions { data_dir, ..DeviceOptions::default() };
    let device = fleet.device_with("pi-1", options).await?;
    let api = fleet.api();
    let upload = api.upload(vec![b'x'; DISK_BYTES as usize]).await?;
    let target = device.folder().join("target");
    let payload = json!({ "path": target, "upload_id": upload });
    // More than one: what the journal has in reserve is used up by some of them.
    for n in 0..4 {
        let pushed = api.send("pi-1", "file_push", payload.clone()).await?;
        let failed = api.wait_status(pushed, CommandStatus::Failed).await?;
        ensure!(failed.error_code.as_deref() == Some("disk_full"), "{n}: {failed:?}");
    }
    ensure!(!target.exists());
    let ping = api.send("pi-1", "ping", json!({})).await?;
    api.wait_status(ping, CommandStatus::Completed).await?;
    Ok(())
}
