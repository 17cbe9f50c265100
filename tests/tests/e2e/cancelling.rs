//! Cancelling: what waits, what runs, and many at once.

use anyhow::{Context, Result};
use quarterdeck_protocol::command::CommandStatus;
use quarterdeck_tests::{
    Fleet,
    agent::Device,
    wait::{Look, wait_for, wait_until},
};

/// A script that says its pid in a file and then runs for ever.
fn endless(device: &Device) -> String {
    format!("echo $$ > {}/pid; while :; do sleep 1; done", device.folder().display())
}

/// Waits for the endless script to run; gives its pid.
async fn running_pid(device: &Device) -> Result<u32> {
    let file = device.folder().join("pid");
    wait_for("the script's pid", || async {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        Ok(text.trim().parse().map_or_else(|_| Look::not_yet("none"), Look::Ready))
    })
    .await
}

fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_cancelled_command_that_waited_never_runs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    device.stop().await?;
    fleet.offline(device.id()).await?;

    let effect = device.folder().join("effect");
    let id = fleet.api().script(device.id(), &format!("echo x >> {}", effect.display())).await?;
    assert_eq!(fleet.api().cancel(id).await?.status, CommandStatus::Cancelled);
    device.start_again()?;
    let after = fleet.api().script(device.id(), "true").await?;
    fleet.api().wait_status(after, CommandStatus::Completed).await?;

    assert!(!effect.exists());
    assert_eq!(fleet.api().command(id).await?.status, CommandStatus::Cancelled);
    Ok(())
}

#[tokio::test]
async fn a_running_command_is_cancelled_on_the_devices_word_and_its_processes_end() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let id = fleet.api().script(device.id(), &endless(&device)).await?;
    let pid = running_pid(&device).await?;
    assert!(is_alive(pid));

    fleet.api().cancel(id).await?;
    let command = fleet.api().wait_status(id, CommandStatus::Cancelled).await?;
    assert!(command.finished_at.is_some());
    wait_until("the script to be gone", || !is_alive(pid)).await
}

#[tokio::test]
async fn many_are_cancelled_at_once_and_each_is_counted_for_what_it_was() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let mut away = fleet.device("pi-2").await?;
    away.stop().await?;
    fleet.offline(away.id()).await?;

    let finished = fleet.api().script(device.id(), "true").await?;
    fleet.api().wait_end(finished).await?;
    let running = fleet.api().script(device.id(), &endless(&device)).await?;
    running_pid(&device).await?;
    fleet.api().wait_status(running, CommandStatus::ExecutionStarted).await?;
    let queued = fleet.api().script(away.id(), "true").await?;

    let counts = fleet.api().cancel_many(&[finished, running, queued]).await?;
    assert_eq!((counts.cancelled, counts.requested, counts.already_finished), (1, 1, 1));
    for id in [running, queued] {
        fleet.api().wait_status(id, CommandStatus::Cancelled).await?;
    }
    assert_eq!(fleet.api().command(finished).await?.status, CommandStatus::Completed);
    Ok(())
}

#[tokio::test]
async fn what_has_ended_cannot_be_cancelled() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let id = fleet.api().script(device.id(), "true").await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let before = fleet.api().command(id).await?;
    let path = format!("@/commands/{id}/cancel");
    let answer =
        fleet.api().request(reqwest::Method::POST, &path, &serde_json::Value::Null).await?;
    if answer.status != 200 {
        answer.refused(409).context("a refusal")?;
    }
    assert_eq!(fleet.api().command(id).await?, before);
    Ok(())
}
