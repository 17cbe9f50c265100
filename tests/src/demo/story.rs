//! The commands that an operator finds: one of each outcome.

use anyhow::Result;
use quarterdeck_protocol::ids::CommandId;
use serde_json::{Value, json};

use super::{
    login_of,
    roster::{AWAY, DEVICES, FAILING},
};
use crate::{
    Fleet,
    agent::Device,
    api::submission,
    mqtt::{Client, Qos},
    simulator::connection::{Topics, now_text},
};

/// Prints a line a second, for as long as anybody is likely to watch.
const LIVE: &str = r#"i=0
while [ $i -lt 3000 ]; do
  i=$((i+1))
  printf '%s sensor %02d: %d.%d C\n' "$(date -u +%H:%M:%S)" $((i%8)) $((20+i%7)) $((i%10))
  sleep 1
done"#;

const FAILS: &str = "echo 'checking /var/lib/kiosk'
echo 'kiosk.db: checksum mismatch at page 4711' >&2
exit 3";

/// Sends the commands and waits for those that end.
pub async fn tell(fleet: &Fleet, devices: &mut [Device]) -> Result<()> {
    for device in devices.iter_mut() {
        match device.id() {
            AWAY => {
                device.stop().await?;
                fleet.offline(AWAY).await?;
            }
            FAILING => say_that_its_app_failed(fleet, device).await?,
            _ => {}
        }
    }
    let everywhere: Vec<&str> =
        DEVICES.iter().map(|device| device.id).filter(|id| *id != AWAY).collect();
    let mut ended = send(fleet, &everywhere, "ping", json!({}), "morning check").await?;
    for (device, kind, payload, notes) in [
        ("gateway-fra1-01", "system_info", json!({}), ""),
        ("kiosk-ber1-01", "run_script", json!({"script": "uptime; df -h /"}), "CHG-20418"),
        ("kiosk-fra1-01", "restart_service", json!({"service": "ticketing"}), "CHG-20418"),
        ("gateway-ber1-01", "disk_usage", json!({}), ""),
        (FAILING, "run_script", json!({"script": FAILS}), "why is it down?"),
        (FAILING, "restart_app", json!({"app": "ticketing"}), ""),
    ] {
        ended.extend(send(fleet, &[device], kind, payload, notes).await?);
    }
    for id in ended {
        fleet.api().wait_end(id).await?;
    }
    let endless = json!({ "script": LIVE });
    let mut watched = submission(&["drone-lab-01"], "run_script", endless.clone());
    watched.timeout_s = Some(3_600);
    "watch me in Logs".clone_into(&mut watched.notes);
    fleet.api().submit(&watched).await?;
    for id in send(fleet, &["pi-lab-01"], "run_script", endless, "wrong device").await? {
        fleet.api().wait_command(id, "running", |command| command.started_at.is_some()).await?;
        fleet.api().cancel(id).await?;
        fleet.api().wait_end(id).await?;
    }
    send(fleet, &[AWAY], "system_info", json!({}), "when it is back").await?;
    send(fleet, &[AWAY], "restart_app", json!({"app": "infoscreen"}), "when it is back").await?;
    Ok(())
}

async fn send(
    fleet: &Fleet,
    devices: &[&str],
    kind: &str,
    payload: Value,
    notes: &str,
) -> Result<Vec<CommandId>> {
    let mut create = submission(devices, kind, payload);
    notes.clone_into(&mut create.notes);
    let created = fleet.api().submit(&create).await?;
    Ok(created.commands.iter().map(|command| command.id).collect())
}

/// The device's own word, given while its agent makes room for it.
async fn say_that_its_app_failed(fleet: &Fleet, device: &mut Device) -> Result<()> {
    device.stop().await?;
    let login = login_of(device)?;
    let topics = Topics::of(&login)?;
    let mut connection = Client::connect(fleet.mqtt_port()?, &login).await?;
    let failed = json!({
        "schema_version": "1.0", "unit": "ticketing.service",
        "reason": "start request repeated too quickly", "at": now_text()
    });
    let topic = topics.status.replace("/status", "/service_failed");
    connection.publish_retained(&topic, failed.to_string().as_bytes()).await?;
    let health = json!({
        "schema_version": "1.0", "at": now_text(),
        "processes": [{"name": "ticketing", "state": "crashed"}]
    });
    let topic = topics.status.replace("/status", "/health");
    connection.publish(&topic, health.to_string().as_bytes(), Qos::AtLeastOnce).await?;
    connection.disconnect().await?;
    device.start_again()?;
    fleet.online(device.id()).await
}
