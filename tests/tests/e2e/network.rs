//! Networks that are slow, break, or go silent, between device and server.

use std::time::Duration;

use anyhow::{Context, Result};
use quarterdeck_protocol::{api::EnrollResponse, command::CommandStatus};
use quarterdeck_tests::{
    Fleet,
    agent::{Device, DeviceOptions},
    proxy::{Fault, Proxy},
    server::{Ready, ServerOptions},
};
use serde_json::json;

/// A device whose MQTT goes through a proxy: its server has moved, as far as it knows.
async fn behind_proxy() -> Result<(Fleet, Proxy, Device)> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    device.stop().await?;
    fleet.offline("pi-1").await?;
    let proxy = Proxy::to(fleet.mqtt_port()?).await?;
    let file = device.data_dir().join("credentials.json");
    let credentials = std::fs::read_to_string(&file).context("what it enrolled with")?;
    let (direct, through) = (fleet.mqtt_port()?.to_string(), proxy.port().to_string());
    std::fs::write(&file, credentials.replace(&direct, &through))?;
    device.start_again()?;
    fleet.online("pi-1").await?;
    anyhow::ensure!(proxy.connections() > 0, "the device went round the proxy");
    Ok((fleet, proxy, device))
}

#[tokio::test]
async fn a_connection_cut_again_and_again_costs_time_and_nothing_else() -> Result<()> {
    let (fleet, proxy, device) = behind_proxy().await?;
    let effects = device.folder().join("effects");
    let script = format!("echo x >> {}; sleep 0.2", effects.display());
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(fleet.api().script("pi-1", &script).await?);
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    for id in ids {
        fleet.api().wait_status(id, CommandStatus::Completed).await?;
    }
    assert_eq!(std::fs::read_to_string(&effects)?.lines().count(), 8);
    let seen = fleet.api().device("pi-1").await?;
    assert!(seen.broker_connection.reconnect_count > 0, "{:?}", seen.broker_connection);
    Ok(())
}

#[tokio::test]
async fn a_slow_link_delivers_output_whole() -> Result<()> {
    let (fleet, proxy, _device) = behind_proxy().await?;
    proxy.set(Fault::Throttle { bytes_per_s: 40_000 });
    let id = fleet.api().script("pi-1", "seq 1 8000").await?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let stdout = command.stdout.context("no stdout")?;
    let numbers: Vec<u32> = stdout.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers == (1..=8000).collect::<Vec<_>>() && stdout.ends_with('\n'), "{stdout}");
    Ok(())
}

#[tokio::test]
async fn answers_that_could_not_be_sent_are_sent_when_the_network_is_back() -> Result<()> {
    let (fleet, proxy, device) = behind_proxy().await?;
    let (begun, go) = (device.folder().join("begun"), device.folder().join("go"));
    let script = format!(
        "echo x >> {}; while [ ! -e {} ]; do sleep 0.02; done; echo done",
        begun.display(),
        go.display()
    );
    let id = fleet.api().script("pi-1", &script).await?;
    quarterdeck_tests::wait::wait_until("the script to run", || begun.exists()).await?;
    proxy.set(Fault::Refuse);
    proxy.cut();
    fleet.offline("pi-1").await?;
    std::fs::write(&go, "")?;
    proxy.set(Fault::None);
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(command.stdout.as_deref(), Some("done\n"));
    assert_eq!(std::fs::read_to_string(&begun)?, "x\n");
    Ok(())
}

#[tokio::test]
async fn an_answer_to_enrolment_that_was_lost_is_given_again() -> Result<()> {
    let fleet = Fleet::start().await?;
    let proxy = Proxy::to(fleet.http_port()?).await?;
    let token = fleet.enrollment_token(1).await?;
    let server = Some(format!("http://127.0.0.1:{}", proxy.port()));
    proxy.set(Fault::Delay(Duration::from_millis(150)));
    let mut device = Device::start(
        "pi-1",
        fleet.folder(),
        fleet.api().base(),
        &token,
        DeviceOptions { server, ..DeviceOptions::default() },
    )?;
    // The request has left and its answer is on its way.
    quarterdeck_tests::wait::wait_until("a request", || proxy.bytes_to_server() > 0).await?;
    proxy.cut();
    device.kill_9();
    proxy.set(Fault::None);
    device.start_again()?;
    fleet.online("pi-1").await
}

#[tokio::test]
async fn the_same_nonce_gets_the_same_answer_and_another_is_refused() -> Result<()> {
    let fleet = Fleet::start().await?;
    let token = fleet.enrollment_token(1).await?;
    let enroll = async |nonce: &str| {
        let body = json!({"token": token, "device_id": "pi-1", "nonce": nonce});
        fleet.api().without_token().request(reqwest::Method::POST, "/enroll", &body).await
    };
    let first: EnrollResponse = enroll("a-nonce-that-nobody-else-can-guess-1").await?.read()?;
    let again: EnrollResponse = enroll("a-nonce-that-nobody-else-can-guess-1").await?.read()?;
    assert_eq!(first, again);
    let status = enroll("a-nonce-that-nobody-else-can-guess-2").await?.status;
    assert!([401, 403, 409].contains(&status), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_ready_line_names_addresses_that_answer() -> Result<()> {
    let mut fleet = Fleet::start_with(ServerOptions::default()).await?;
    let line = fleet.server().process().stdout();
    let ready: Ready = serde_json::from_str(line.trim())?;
    assert_eq!(ready.http, fleet.api().base());
    let port = fleet.mqtt_port()?;
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    Ok(())
}
