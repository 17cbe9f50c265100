//! One command, from the API to the device and back.

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::{
    api::{Command, CreatedCommands},
    command::CommandStatus,
};
use quarterdeck_tests::{
    Fleet,
    agent::DeviceOptions,
    api::{send, submission},
};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_command_goes_from_the_api_to_the_device_and_back() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;

    let mut create = submission(&[device.id()], "run_script", json!({"script": "echo hello"}));
    create.notes = "CHG-1".to_owned();
    let created = fleet.api().submit(&create).await?;
    assert_eq!((created.count, created.offline), (1, 0));

    let command = fleet.api().wait_status(created.commands[0].id, CommandStatus::Completed).await?;
    assert_eq!(command.batch_id, created.batch_id);
    assert_eq!(command.stdout.as_deref(), Some("hello\n"));
    assert_eq!(command.exit_code, Some(0));
    assert_eq!((command.created_by.as_str(), command.notes.as_str()), ("admin", "CHG-1"));
    let moments = [
        Some(command.created_at),
        command.published_at,
        command.accepted_at,
        command.started_at,
        command.finished_at,
    ];
    let moments: Vec<_> = moments.into_iter().flatten().collect();
    assert_eq!(moments.len(), 5, "{moments:?}");
    assert!(moments.is_sorted(), "{moments:?}");

    let events: Vec<String> =
        fleet.api().timeline(command.id).await?.into_iter().map(|entry| entry.event).collect();
    for wanted in ["created", "published", "accepted", "execution_started", "completed"] {
        assert_eq!(events.iter().filter(|event| *event == wanted).count(), 1, "{events:?}");
    }
    Ok(())
}

#[tokio::test]
async fn each_operation_that_only_looks_answers_with_a_result() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    for kind in ["ping", "system_info", "list_processes", "disk_usage", "network_info"] {
        let id = fleet.api().send(device.id(), kind, json!({})).await?;
        let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
        let result = command.result.with_context(|| format!("{kind} has no result"))?;
        ensure!(result.as_object().is_some_and(|it| !it.is_empty()), "{kind}: {result}");
        let is_measured = result["round_trip_ms"].as_u64().is_some_and(|ms| ms < 60_000);
        ensure!(is_measured == (kind == "ping"), "{kind}: {result}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_more_urgent_leaves_first() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = "[limits]\nconcurrent_commands = 1\n".to_owned();
    let options = DeviceOptions { config, ..DeviceOptions::default() };
    let mut device = fleet.device_with("pi-1", options).await?;
    device.stop().await?;
    fleet.offline(device.id()).await?;

    let order = device.folder().join("order");
    let mut last = None;
    for priority in [9, 5, 1, 5, 10] {
        let script = format!("echo {priority} >> {}", order.display());
        let mut create = submission(&[device.id()], "run_script", json!({ "script": script }));
        create.priority = Some(priority);
        last = Some(fleet.api().submit(&create).await?.commands[0].id);
    }
    device.start_again()?;
    fleet.api().wait_end(last.context("nothing sent")?).await?;
    assert_eq!(std::fs::read_to_string(&order)?, "1\n5\n5\n9\n10\n");
    Ok(())
}

#[tokio::test]
async fn a_batch_is_one_command_for_each_device_and_found_by_its_id() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut devices = Vec::new();
    for id in ["pi-1", "pi-2", "pi-3"] {
        devices.push(fleet.device(id).await?);
    }
    let created =
        fleet.api().submit(&submission(&["pi-1", "pi-2", "pi-3"], "ping", json!({}))).await?;
    assert_eq!((created.count, created.commands.len()), (3, 3));
    for command in &created.commands {
        fleet.api().wait_status(command.id, CommandStatus::Completed).await?;
    }
    fleet.api().send("pi-1", "ping", json!({})).await?;

    let listed = async |query: String| -> Result<Vec<Command>> {
        fleet.api().list(&format!("@/commands?{query}")).await
    };
    assert_eq!(listed(format!("batch_id={}", created.batch_id)).await?.len(), 3);
    assert_eq!(listed("device=pi-1".into()).await?.len(), 2);
    assert_eq!(listed("device=pi-2&status=completed&type=ping".into()).await?.len(), 1);
    assert_eq!(listed("status=failed".into()).await?.len(), 0);
    assert_eq!(listed("user=admin".into()).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn the_same_key_makes_one_submission_and_another_body_is_refused() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let effects = device.folder().join("effects");
    let submit = async |script: String| {
        let body = submission(&[device.id()], "run_script", json!({ "script": script }));
        let request = fleet.api().builder(Method::POST, "@/commands").json(&body);
        send(request.header("Idempotency-Key", "deploy-7")).await
    };
    let script = format!("echo x >> {}", effects.display());
    let first: CreatedCommands = submit(script.clone()).await?.read()?;
    let again: CreatedCommands = submit(script).await?.read()?;
    assert_eq!(first.commands[0].id, again.commands[0].id);
    submit("true".to_owned()).await?.refused(409)?;

    fleet.api().wait_status(first.commands[0].id, CommandStatus::Completed).await?;
    assert_eq!(std::fs::read_to_string(&effects)?, "x\n");
    assert_eq!(fleet.api().count("@/commands").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_retry_is_a_new_command_that_names_the_old_one() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let flag = device.folder().join("flag");
    let id = fleet.api().script(device.id(), &format!("test -e {}", flag.display())).await?;
    let failed = fleet.api().wait_status(id, CommandStatus::Failed).await?;
    assert_eq!(failed.error_code.as_deref(), Some("script_failed"));

    std::fs::write(&flag, "")?;
    let retry = fleet.api().retry(id).await?;
    assert_ne!(retry.id, id);
    assert_eq!((retry.retry_of, retry.attempt), (Some(id), failed.attempt + 1));
    fleet.api().wait_status(retry.id, CommandStatus::Completed).await?;
    assert_eq!(fleet.api().command(id).await?.status, CommandStatus::Failed);
    Ok(())
}

#[tokio::test]
async fn the_operations_of_the_fleet_are_listed_with_their_forms() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let operations: Vec<Value> = fleet.api().list("@/operations").await?;
    let ping = operations.iter().find(|op| op["name"] == "ping").context("no ping")?;
    assert_eq!((&ping["device_count"], &ping["dangerous"]), (&json!(1), &json!(false)));
    let reboot = operations.iter().find(|op| op["name"] == "reboot_host").context("no reboot")?;
    assert_eq!(reboot["dangerous"], json!(true));
    assert!(operations.iter().all(|op| op["form_schema"]["type"] == "object"));
    Ok(())
}
