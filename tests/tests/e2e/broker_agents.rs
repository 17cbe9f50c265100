//! Real agents on an external broker, with the access rules that the operator's guide gives.
//!
//! The Mosquitto here keeps nothing on its disk: what it had acknowledged and not
//! handed on is gone with it, as after a crash.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::{command::CommandStatus, device::DeviceStatus, ids::CommandId};
use quarterdeck_tests::{
    Fleet,
    agent::{Device, DeviceOptions},
    binaries,
    fleet::RECONNECT_DEADLINE,
    mosquitto::{Access, Mosquitto},
    mqtt::{Client, Login, Qos},
    server::ServerOptions,
    simulator::connection::{Topics, now_text, response},
    wait::{Look, wait_for, wait_for_within},
};
use serde_json::{Value, json};

async fn fleet_on(mosquitto: &Mosquitto) -> Result<Fleet> {
    let env = vec![("QUARTERDECK_SERVER_BROKER".to_owned(), mosquitto.url())];
    Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await
}

/// A real agent that the broker has an account for.
async fn agent(fleet: &Fleet, mosquitto: &mut Mosquitto, id: &str) -> Result<(Device, Login)> {
    let token = fleet.enrollment_token(1).await?;
    let device =
        Device::start(id, fleet.folder(), fleet.api().base(), &token, DeviceOptions::default())?;
    let secret = wait_for("the device to enrol", || async {
        let text = fs::read_to_string(device.data_dir().join("credentials.json"));
        let credentials: Value = match text {
            Ok(text) => serde_json::from_str(&text)?,
            Err(error) => return Ok(Look::not_yet(error)),
        };
        let secret = credentials["device_secret"].as_str().context("a secret")?;
        Ok(Look::Ready(secret.to_owned()))
    })
    .await?;
    mosquitto.admit(id, &secret)?;
    online(fleet, id).await?;
    let login =
        Login::new(&format!("default:{id}")).with_password(&format!("default/{id}"), &secret);
    Ok((device, login))
}

/// It tries again with ever longer pauses.
async fn online(fleet: &Fleet, id: &str) -> Result<()> {
    wait_for_within(RECONNECT_DEADLINE, &format!("{id} to be online"), || async {
        let device = fleet.api().device(id).await?;
        let is_there = device.status == DeviceStatus::Online && !device.capabilities.is_empty();
        Ok(if is_there { Look::Ready(()) } else { Look::not_yet(device.status.as_str()) })
    })
    .await
}

async fn completed(fleet: &Fleet, id: CommandId) -> Result<()> {
    wait_for_within(RECONNECT_DEADLINE, &format!("{id} to end"), || async {
        let command = fleet.api().command(id).await?;
        ensure!(
            !command.status.is_terminal() || command.status == CommandStatus::Completed,
            "{command:?}"
        );
        Ok(if command.status.is_terminal() {
            Look::Ready(())
        } else {
            Look::not_yet(command.status)
        })
    })
    .await
}

/// A script that runs until a file is there, and leaves a line for each time it ran.
struct Held {
    id: CommandId,
    effects: PathBuf,
    release: PathBuf,
}

impl Held {
    async fn start(fleet: &Fleet, device: &Device) -> Result<Self> {
        let (effects, release) = (device.folder().join("effects"), device.folder().join("release"));
        let script = format!(
            "echo ran >> {}; while [ ! -e {} ]; do sleep 0.05; done",
            effects.display(),
            release.display()
        );
        let id = fleet.api().script(device.id(), &script).await?;
        fleet.api().wait_status(id, CommandStatus::ExecutionStarted).await?;
        wait_for("the script to run", || async {
            let has_run = fs::metadata(&effects).is_ok_and(|file| file.len() > 0);
            Ok(if has_run { Look::Ready(()) } else { Look::not_yet("no effect") })
        })
        .await?;
        Ok(Self { id, effects, release })
    }

    fn release(&self) -> Result<()> {
        fs::write(&self.release, "").context("letting the script end")
    }

    fn ran_once(&self) -> Result<()> {
        let effects = fs::read_to_string(&self.effects)?;
        ensure!(effects == "ran\n", "{effects:?}");
        Ok(())
    }
}

/// Waits until the broker has acknowledged all that the device had to say.
async fn has_told_all(device: &Device) -> Result<()> {
    let agent = &binaries::find()?.agent;
    wait_for("the device to have told all", || async {
        let output = Command::new(agent)
            .args(["status", "--output", "json", "--device-id", device.id(), "--data-dir"])
            .arg(device.data_dir())
            .output()?;
        let status: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let is_idle =
            status["unacknowledged_responses"] == 0 && status["open_commands"] == json!([]);
        Ok(if is_idle { Look::Ready(()) } else { Look::not_yet(status) })
    })
    .await
}

#[tokio::test]
async fn a_fleet_works_on_a_broker_that_is_set_up_as_the_guide_says() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start(Access::Guide).await? else { return Ok(()) };
    let fleet = fleet_on(&mosquitto).await?;
    let (device, _) = agent(&fleet, &mut mosquitto, "pi-1").await?;

    let greeting = fleet.api().script(device.id(), "echo hello").await?;
    completed(&fleet, greeting).await?;
    assert_eq!(fleet.api().command(greeting).await?.stdout.as_deref(), Some("hello\n"));

    let held = Held::start(&fleet, &device).await?;
    fleet.api().cancel(held.id).await?;
    fleet.api().wait_status(held.id, CommandStatus::Cancelled).await?;
    held.ran_once()
}

#[tokio::test]
async fn the_guides_rules_keep_a_device_from_anothers_topics() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start(Access::Guide).await? else { return Ok(()) };
    let fleet = fleet_on(&mosquitto).await?;
    let (_victim, victims) = agent(&fleet, &mut mosquitto, "pi-1").await?;
    let thief = fleet.enroll("pi-2").await?;
    mosquitto.admit("pi-2", thief.password.as_deref().context("a secret")?)?;
    let theirs = Topics::of(&victims)?;

    let mut ear = wait_for("the thief's account", || async {
        let client = Client::connect(mosquitto.port(), &thief).await;
        Ok(client.map_or_else(Look::not_yet, Look::Ready))
    })
    .await?;
    // Mosquitto grants any subscription and hands nothing on.
    ear.subscribe(&theirs.commands, Qos::ExactlyOnce).await?;
    let id = fleet.api().send("pi-1", "run_script", json!({"script": "sleep 1"})).await?;
    fleet.api().wait_status(id, CommandStatus::ExecutionStarted).await?;
    assert!(ear.drain().await?.is_empty(), "it heard another's command");

    // What it may not say it may not say in a last will either.
    let offline = json!({"schema_version": "1.0", "online": false}).to_string();
    let completed = response("completed", &id.to_string(), &now_text(), "");
    for (topic, payload) in [(&theirs.response, &completed), (&theirs.status, &offline)] {
        let login = thief.clone().with_will(topic, payload.as_bytes());
        let mut mouth = Client::connect(mosquitto.port(), &login).await?;
        // It is acknowledged or ends the connection, as the broker likes.
        let _ = mouth.publish(topic, payload.as_bytes(), Qos::AtLeastOnce).await;
        drop(mouth);
    }

    let ended = fleet.api().wait_end(id).await?;
    assert_eq!(ended.exit_code, Some(0), "the device itself ended it: {ended:?}");
    assert_eq!(fleet.api().device("pi-1").await?.status, DeviceStatus::Online);
    Ok(())
}

#[tokio::test]
async fn a_script_that_runs_while_the_broker_restarts_ends_once() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start(Access::Guide).await? else { return Ok(()) };
    let fleet = fleet_on(&mosquitto).await?;
    let (device, _) = agent(&fleet, &mut mosquitto, "pi-1").await?;
    let held = Held::start(&fleet, &device).await?;
    mosquitto.kill_9();
    held.release()?;
    let waits = fleet.api().script("pi-1", "echo after").await?;
    mosquitto.start_again().await?;
    completed(&fleet, held.id).await?;
    completed(&fleet, waits).await?;
    held.ran_once()
}

#[tokio::test]
async fn a_script_that_runs_while_the_server_is_killed_ends_once() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start(Access::Guide).await? else { return Ok(()) };
    let mut fleet = fleet_on(&mosquitto).await?;
    let (device, _) = agent(&fleet, &mut mosquitto, "pi-1").await?;
    let held = Held::start(&fleet, &device).await?;
    fleet.server().kill_9();
    held.release()?;
    has_told_all(&device).await?;
    fleet.server().start_again().await?;
    completed(&fleet, held.id).await?;
    held.ran_once()
}

#[tokio::test]
async fn an_end_that_was_lost_with_the_broker_is_asked_for() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start(Access::Guide).await? else { return Ok(()) };
    let mut fleet = fleet_on(&mosquitto).await?;
    let (device, _) = agent(&fleet, &mut mosquitto, "pi-1").await?;
    let held = Held::start(&fleet, &device).await?;
    // The broker acknowledges the end, the server never hears of it.
    fleet.server().kill_9();
    held.release()?;
    has_told_all(&device).await?;
    mosquitto.kill_9();
    mosquitto.start_again().await?;
    fleet.server().start_again().await?;
    completed(&fleet, held.id).await?;
    held.ran_once()
}
