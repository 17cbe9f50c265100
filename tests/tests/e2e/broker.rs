//! The same fleet over an external broker: a private Mosquitto.

use anyhow::{Context, Result};
use quarterdeck_protocol::{command::CommandStatus, device::DeviceStatus};
use quarterdeck_tests::{
    Fleet,
    mosquitto::{Access, Mosquitto},
    mqtt::{Client, Login, Qos},
    server::ServerOptions,
    simulator::connection::{Topics, command_id, now_text, response},
};
use serde_json::json;

async fn fleet_on(mosquitto: &Mosquitto) -> Result<Fleet> {
    // In the environment, so that the password stands in no process list.
    let env = vec![("QUARTERDECK_SERVER_BROKER".to_owned(), mosquitto.url())];
    Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await
}

/// A hand-driven device: on a broker of the operator's, who gives devices their accounts, any name may sign in here.
async fn device(fleet: &Fleet, mosquitto: &Mosquitto, id: &str) -> Result<(Client, Topics)> {
    let enrolled = fleet.enroll(id).await?;
    let topics = Topics::of(&enrolled)?;
    let login = Login::new(&enrolled.client_id);
    let mut device = Client::connect(mosquitto.port(), &login).await?;
    device.subscribe(&topics.commands, Qos::ExactlyOnce).await?;
    say_online(&mut device, &topics).await?;
    fleet.online(id).await?;
    Ok((device, topics))
}

async fn say_online(device: &mut Client, topics: &Topics) -> Result<()> {
    let status = json!({
        "schema_version": "1.0", "online": true, "boot_id": "b", "agent_version": "0.1.0",
        "capabilities": ["ping"], "facts": {"os": "test"}, "at": now_text()
    });
    device.publish_retained(&topics.status, status.to_string().as_bytes()).await
}

#[tokio::test]
async fn a_command_goes_over_an_external_broker_and_back() -> Result<()> {
    let Some(mosquitto) = Mosquitto::start(Access::Open).await? else { return Ok(()) };
    let fleet = fleet_on(&mosquitto).await?;
    let (mut device, topics) = device(&fleet, &mosquitto, "pi-1").await?;
    assert_eq!(fleet.api().device("pi-1").await?.facts["os"], "test");

    let id = fleet.api().send("pi-1", "ping", json!({})).await?;
    let message = device.next().await?;
    assert_eq!(message.qos, Qos::ExactlyOnce);
    assert_eq!(command_id(&message.payload), Some(id.to_string().as_str()));
    for status in ["accepted", "execution_started", "completed"] {
        let payload = response(status, &id.to_string(), &now_text(), "");
        device.publish(&topics.response, payload.as_bytes(), Qos::ExactlyOnce).await?;
    }
    fleet.api().wait_status(id, CommandStatus::Completed).await?;

    let offline = json!({"schema_version": "1.0", "online": false});
    device.publish_retained(&topics.status, offline.to_string().as_bytes()).await?;
    fleet.api().wait_device("pi-1", "offline", |it| it.status == DeviceStatus::Offline).await?;
    Ok(())
}

#[tokio::test]
async fn a_broker_that_was_away_costs_a_delay_and_nothing_else() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start(Access::Open).await? else { return Ok(()) };
    let fleet = fleet_on(&mosquitto).await?;
    let (device_before, _) = device(&fleet, &mosquitto, "pi-1").await?;
    mosquitto.kill_9();
    drop(device_before);
    let id = fleet.api().send("pi-1", "ping", json!({})).await?;

    mosquitto.start_again().await?;
    let login = Login::new("default:pi-1");
    let topics = Topics::of(&login)?;
    let mut device = Client::connect(mosquitto.port(), &login).await?;
    device.subscribe(&topics.commands, Qos::ExactlyOnce).await?;
    say_online(&mut device, &topics).await?;
    let message = device.next().await.context("the command that waited")?;
    assert_eq!(command_id(&message.payload), Some(id.to_string().as_str()));
    for status in ["accepted", "execution_started", "completed"] {
        let payload = response(status, &id.to_string(), &now_text(), "");
        device.publish(&topics.response, payload.as_bytes(), Qos::ExactlyOnce).await?;
    }
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    Ok(())
}

#[tokio::test]
async fn the_servers_account_at_the_broker_is_used_and_its_password_not_logged() -> Result<()> {
    let Some(mosquitto) = Mosquitto::start(Access::Password).await? else { return Ok(()) };
    let mut fleet = fleet_on(&mosquitto).await?;
    let login = Login::new("default:pi-1");
    let login = login.with_password(
        quarterdeck_tests::mosquitto::USERNAME,
        quarterdeck_tests::mosquitto::PASSWORD,
    );
    fleet.enroll("pi-1").await?;
    let topics = Topics::of(&login)?;
    let mut device = Client::connect(mosquitto.port(), &login).await?;
    say_online(&mut device, &topics).await?;
    fleet.online("pi-1").await?;
    let log = fleet.server().process().stderr();
    assert!(!log.contains(quarterdeck_tests::mosquitto::PASSWORD), "{log}");
    Ok(())
}
