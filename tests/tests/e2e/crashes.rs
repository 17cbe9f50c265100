//! `kill -9` of agent and server at each stage of a command.
//!
//! Each script appends a line to a file, so an effect that happened twice is
//! two lines. What must hold, wherever the cut fell: exactly one terminal
//! state, which stays; the effect at most once; and `completed` means once.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::{api::Command, command::CommandStatus, ids::CommandId};
use quarterdeck_tests::{
    Fleet,
    api::Api,
    wait::{Look, wait_for, wait_until},
};

/// When, after a submission, the cut falls: from before it is published to after it has ended.
const CUTS_MS: [u64; 9] = [0, 1, 3, 8, 15, 30, 60, 120, 250];

fn effects(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// Waits for the end and checks what must hold.
async fn ended_well(api: &Api, id: CommandId, file: &Path) -> Result<Command> {
    let command = api.wait_end(id).await?;
    let count = effects(file);
    ensure!(count <= 1, "the effect happened {count} times: {command:?}");
    if command.status == CommandStatus::Completed {
        ensure!(count == 1, "completed without its effect: {command:?}");
    }
    let terminal = ["completed", "failed", "timed_out", "expired", "cancelled", "blocked_safety"];
    let events = api.timeline(id).await?;
    let ends = events.iter().filter(|entry| terminal.contains(&entry.event.as_str())).count();
    ensure!(ends == 1, "{ends} ends in {events:?}");
    Ok(command)
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_runs_a_command_at_most_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let mut commands = Vec::new();
    for cut in CUTS_MS {
        let file = device.folder().join(format!("effects-{cut}"));
        let script = format!("echo x >> {}; sleep 0.05", file.display());
        let id = fleet.api().script("pi-1", &script).await?;
        tokio::time::sleep(Duration::from_millis(cut)).await;
        device.kill_9();
        device.start_again()?;
        let command = ended_well(fleet.api(), id, &file).await?;
        commands.push((command, file));
    }
    fleet.online("pi-1").await?;
    // Nothing that ended changes later, nor runs again.
    for (command, file) in commands {
        let now = ended_well(fleet.api(), command.id, &file).await?;
        ensure!(now.status == command.status, "{command:?} became {now:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_power_cut_while_a_script_runs_ends_it_as_interrupted() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let file = device.folder().join("effects");
    let script = format!("echo x >> {}; sleep 600", file.display());
    let id = fleet.api().script("pi-1", &script).await?;
    wait_until("the effect", || effects(&file) == 1).await?;

    device.power_cut();
    device.set_boot_id("boot-2")?;
    device.start_again()?;
    let command = ended_well(fleet.api(), id, &file).await?;
    assert_eq!(command.status, CommandStatus::Failed);
    assert_eq!(command.error_code.as_deref(), Some("interrupted"));
    Ok(())
}

#[tokio::test]
async fn a_killed_agent_ends_what_is_left_of_its_script() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let file = device.folder().join("pid");
    let script = format!("echo $$ > {}; while :; do sleep 1; done", file.display());
    let id = fleet.api().script("pi-1", &script).await?;
    let pid: u32 = wait_for("the script's pid", || async {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        Ok(text.trim().parse().map_or_else(|_| Look::not_yet("none"), Look::Ready))
    })
    .await?;

    device.kill_9();
    device.start_again()?;
    let command = fleet.api().wait_status(id, CommandStatus::Failed).await?;
    assert_eq!(command.error_code.as_deref(), Some("interrupted"));
    let gone = || !Path::new(&format!("/proc/{pid}")).exists();
    wait_until("the script to be gone", gone).await
}

#[tokio::test]
async fn a_server_killed_at_any_moment_loses_nothing_that_it_acknowledged() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    for cut in CUTS_MS {
        let file = device.folder().join(format!("effects-{cut}"));
        let script = format!("echo x >> {}; sleep 0.05", file.display());
        let id = fleet.api().script("pi-1", &script).await?;
        tokio::time::sleep(Duration::from_millis(cut)).await;
        fleet.restart_server().await?;
        let command = ended_well(fleet.api(), id, &file).await?;
        ensure!(command.status == CommandStatus::Completed, "cut at {cut} ms: {command:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_killed_while_it_answers_has_either_all_of_a_batch_or_none() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let devices: Vec<String> = (0..20).map(|index| format!("away-{index}")).collect();
    for id in &devices {
        fleet.enroll(id).await?;
    }
    let names: Vec<&str> = devices.iter().map(String::as_str).collect();
    let create = quarterdeck_tests::api::submission(&names, "ping", serde_json::json!({}));
    for cut in [0, 1, 2, 4, 8] {
        let before = fleet.api().count("@/commands").await?;
        let api = fleet.api().clone();
        let request = {
            let create = create.clone();
            async move { api.submit(&create).await }
        };
        let request = tokio::spawn(request);
        tokio::time::sleep(Duration::from_millis(cut)).await;
        fleet.server().kill_9();
        let answer = request.await.context("the submission panicked")?;
        fleet.server().start_again().await?;
        let made = fleet.api().count("@/commands").await? - before;
        ensure!(made == 0 || made == 20, "{made} of a batch of 20");
        ensure!(answer.is_err() || made == 20, "acknowledged and lost: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn both_killed_at_once_still_end_with_one_outcome() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    for cut in [5, 40, 110] {
        let file = device.folder().join(format!("effects-{cut}"));
        let script = format!("echo x >> {}; sleep 0.05", file.display());
        let id = fleet.api().script("pi-1", &script).await?;
        tokio::time::sleep(Duration::from_millis(cut)).await;
        fleet.server().kill_9();
        device.kill_9();
        device.start_again()?;
        fleet.server().start_again().await?;
        ended_well(fleet.api(), id, &file).await?;
    }
    Ok(())
}
