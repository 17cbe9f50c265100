//! Networks that break, and programs that are killed: no byte is lost or doubled,
//! or the tunnel ends with a reason.

use std::time::Duration;

use anyhow::Result;
use quarterdeck_protocol::{
    api::{self, Tunnel, TunnelStatus},
    tunnel::{close::CloseCode, mark::Exit},
};
use quarterdeck_tests::{
    Fleet,
    agent::Device,
    mosquitto::{Access, Mosquitto},
    mqtt::{Client, Qos},
    proxy::{Fault, Proxy},
    server::ServerOptions,
    simulator::connection::{Topics, now_text},
    tunnel::{Console, MAIN, wait_tunnel},
    wait::{Look, wait_for},
};
use serde_json::{Value, json};

use super::{exec, noise, terminal};

/// Lets a device reach its broker through a proxy from now on.
pub(super) async fn reroute(fleet: &Fleet, device: &mut Device, to: u16, port: u16) -> Result<()> {
    device.stop().await?;
    let file = device.data_dir().join("credentials.json");
    let credentials = std::fs::read_to_string(&file)?;
    std::fs::write(&file, credentials.replace(&format!(":{to}"), &format!(":{port}")))?;
    device.start_again()?;
    fleet.online(device.id()).await
}

/// What a terminal in raw mode gets is what it gives back.
pub(super) const ECHO: &str = "stty raw -echo; printf ready; exec cat";

#[tokio::test]
async fn a_terminal_survives_a_network_that_is_cut_again_and_again() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let proxy = Proxy::to(fleet.mqtt_port()?).await?;
    reroute(&fleet, &mut device, fleet.mqtt_port()?, proxy.port()).await?;
    let (_, console) = Console::create(fleet.api(), &terminal(ECHO)).await?;
    console.shows("ready").await?;
    let sent = noise(1_000_000);
    let cuts = async {
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            proxy.cut();
        }
        anyhow::Ok(())
    };
    let echo = async {
        console.write(sent.clone()).await?;
        console.shows_bytes(sent.len() + 5).await
    };
    tokio::try_join!(echo, cuts)?;
    let shown = console.output();
    assert!(shown[5..] == sent, "what came back differs: {} bytes", shown.len());
    Ok(())
}

#[tokio::test]
async fn frames_that_are_lost_doubled_and_reordered_cost_time_and_no_byte() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let proxy = Proxy::to(fleet.mqtt_port()?).await?;
    proxy.set(Fault::Mangle);
    reroute(&fleet, &mut device, fleet.mqtt_port()?, proxy.port()).await?;
    let sent = noise(500_000);
    let (_, console) = Console::create(fleet.api(), &terminal(ECHO)).await?;
    console.shows("ready").await?;
    console.write(sent.clone()).await?;
    console.shows_bytes(sent.len() + 5).await?;
    let shown = console.output();
    assert!(shown[5..] == sent, "what came back differs: {} bytes", shown.len());
    // And pipes, which are acknowledged from end to end.
    let (_, console) = Console::create(fleet.api(), &exec("cat")).await?;
    console.write(sent.clone()).await?;
    console.finish()?;
    let received = console.received(MAIN).await?;
    assert!(received.bytes == sent, "what came back differs: {} bytes", received.bytes.len());
    assert_eq!(received.exit, Some(Exit::Code(0)));
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_killed_three_times_in_a_transfer_loses_no_byte() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api().clone();
    let (_, shell) = Console::create(&api, &terminal(ECHO)).await?;
    let (_, program) = Console::create(&api, &exec("cat; exit 4")).await?;
    shell.shows("ready").await?;
    program.attached(1).await?;
    let sent = noise(6_000_000);
    let echo = async {
        shell.write(sent.clone()).await?;
        shell.shows_bytes(sent.len() + 5).await
    };
    let copy = async {
        program.write(sent.clone()).await?;
        program.finish()?;
        program.received(MAIN).await
    };
    let kills = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            fleet.restart_server().await?;
        }
        anyhow::Ok(())
    };
    let ((), copied, ()) = tokio::try_join!(echo, copy, kills)?;
    assert!(copied.bytes == sent, "the exec: {} of {} bytes", copied.bytes.len(), sent.len());
    assert_eq!(copied.exit, Some(Exit::Code(4)));
    let shown = shell.output();
    assert!(shown[5..] == sent, "the terminal: {} of {} bytes", shown.len() - 5, sent.len());
    assert_eq!(program.closed().await?.0, CloseCode::Finished);
    Ok(())
}

#[tokio::test]
async fn a_program_that_ends_as_the_server_is_killed_is_known_to_have_ended() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api().clone();
    for round in 0..4 {
        let (tunnel, program) = Console::create(&api, &exec("cat; exit 4")).await?;
        program.attached(1).await?;
        program.finish()?;
        // What is varied is how far the end has come.
        tokio::time::sleep(Duration::from_millis(round)).await;
        fleet.restart_server().await?;
        assert_eq!(program.closed().await?.0, CloseCode::Finished, "round {round}");
        let over = wait_tunnel(&api, tunnel.id, "over", |t| t.status.is_over()).await?;
        assert_eq!(over.close_reason, Some(CloseCode::Finished), "round {round}: {over:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_killed_ends_its_tunnels_with_a_reason() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let (tunnel, shell) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    let (other, program) = Console::create(fleet.api(), &exec("cat")).await?;
    shell.shows("ready").await?;
    program.attached(1).await?;
    device.power_cut();
    wait_tunnel(fleet.api(), tunnel.id, "stalled", |t| t.status == TunnelStatus::Stalled).await?;
    device.start_again()?;
    for id in [tunnel.id, other.id] {
        let over = wait_tunnel(fleet.api(), id, "over", |t| t.status.is_over()).await?;
        assert_eq!(over.close_reason, Some(CloseCode::AgentRestarted), "{over:?}");
    }
    assert_eq!(shell.closed().await?.0, CloseCode::AgentRestarted);
    assert_eq!(program.closed().await?.0, CloseCode::AgentRestarted);
    Ok(())
}

#[tokio::test]
async fn a_broker_that_is_restarted_costs_time_and_no_byte() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start(Access::Open).await? else { return Ok(()) };
    let env = vec![("QUARTERDECK_SERVER_BROKER".to_owned(), mosquitto.url())];
    let fleet = Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await?;
    let _device = fleet.device("pi-1").await?;
    let (_, console) = Console::create(fleet.api(), &terminal(ECHO)).await?;
    console.shows("ready").await?;
    let sent = noise(400_000);
    let echo = async {
        console.write(sent.clone()).await?;
        console.shows_bytes(sent.len() + 5).await
    };
    let restarts = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            mosquitto.kill_9();
            mosquitto.start_again().await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(echo, restarts)?;
    assert!(console.output()[5..] == sent, "what came back differs");
    Ok(())
}

#[tokio::test]
async fn a_console_that_is_cut_off_comes_back_where_it_was() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let proxy = Proxy::to(fleet.http_port()?).await?;
    let direct = fleet.api();
    let api = quarterdeck_tests::api::Api::new(&format!("http://127.0.0.1:{}", proxy.port()))?
        .with_token(direct.token());
    let (_, console) = Console::create(&api, &terminal(ECHO)).await?;
    console.shows("ready").await?;
    let sent = noise(1_000_000);
    let cuts = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            proxy.cut();
        }
        anyhow::Ok(())
    };
    let echo = async {
        console.write(sent.clone()).await?;
        console.shows_bytes(sent.len() + 5).await
    };
    tokio::try_join!(echo, cuts)?;
    assert!(console.output()[5..] == sent, "what came back differs");
    assert_eq!(console.snapshots(), 0);
    Ok(())
}

#[tokio::test]
async fn a_flood_to_a_slow_console_is_held_back_and_stops_at_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let proxy = Proxy::to(fleet.http_port()?).await?;
    let api = quarterdeck_tests::api::Api::new(&format!("http://127.0.0.1:{}", proxy.port()))?
        .with_token(fleet.api().token());
    let (tunnel, console) =
        Console::create(&api, &terminal("trap 'echo; echo stopped' INT; yes; cat")).await?;
    console.shows("y\r\ny\r\n").await?;
    console.stop(true);
    let before = console.output().len();
    // A console that shows nothing: the program waits for it.
    let held = wait_tunnel(fleet.api(), tunnel.id, "held", |t| t.bytes_down > 0).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = console.output().len();
    assert!(after - before < 3_000_000, "{} bytes came: {held:?}", after - before);
    proxy.set(Fault::Throttle { bytes_per_s: 500_000 });
    console.stop(false);
    console.write("\x03").await?;
    console.shows("stopped").await?;
    Ok(())
}

#[tokio::test]
async fn terminals_outlive_a_server_that_is_killed_while_they_talk() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api().clone();
    let script = "n=0; while :; do n=$((n+1)); echo line-$n; sleep 0.005; done";
    let (tunnel, console) = Console::create(&api, &terminal(script)).await?;
    // Of the other, nobody looks on.
    let (other, alone) = Console::create(&api, &terminal(script)).await?;
    alone.shows("line-1").await?;
    drop(alone);
    for round in 1..=4 {
        console.shows(&format!("line-{}\r", round * 60)).await?;
        fleet.server().kill_9();
        fleet.server().start_again().await?;
    }
    console.shows("line-400\r").await?;
    let lines: Vec<_> = console.output().split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    for (line, number) in lines.iter().zip(1..400) {
        assert_eq!(String::from_utf8_lossy(line), format!("line-{number}\r"));
    }
    for id in [tunnel.id, other.id] {
        wait_tunnel(&api, id, "open", |t| t.status == TunnelStatus::Open).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_went_through_before_a_server_was_killed_is_counted_as_soon_as_it_is_back()
-> Result<()> {
    let mut fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let api = fleet.api().clone();
    let script = "head -c 50000 /dev/zero | tr '\\0' x; echo; echo end; cat";
    let (tunnel, console) = Console::create(&api, &terminal(script)).await?;
    console.shows("end").await?;
    let folder = fleet.server().data_dir().join("tunnels").join(tunnel.id.to_string());
    wait_for("the log to have it", || async {
        let files = std::fs::read_dir(&folder)?.flatten();
        let bytes: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        Ok(if bytes > 50_000 { Look::Ready(()) } else { Look::not_yet(bytes) })
    })
    .await?;
    // Nothing but the log has it: the device says no more.
    device.kill_9();
    fleet.server().kill_9();
    fleet.server().start_again().await?;
    let is_stalled = |t: &Tunnel| t.status == TunnelStatus::Stalled;
    let found = wait_tunnel(&api, tunnel.id, "stalled", is_stalled).await?;
    assert!(found.bytes_down > 50_000, "{}", found.bytes_down);
    Ok(())
}

#[tokio::test]
async fn a_server_stops_at_once_while_a_terminal_floods_unattended() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api().clone();
    let (tunnel, console) = Console::create(&api, &terminal("yes")).await?;
    console.shows("y\r\ny").await?;
    drop(console);
    // Nobody holds the flood back now.
    wait_tunnel(&api, tunnel.id, "alone", |t| t.attached == 0).await?;
    let began = quarterdeck_tests::clock::now();
    fleet.server().stop().await?;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    fleet.server().start_again().await?;
    wait_tunnel(&api, tunnel.id, "open", |t| t.status == TunnelStatus::Open).await?;
    Ok(())
}

/// A device that is driven by hand, on a broker of its own.
struct ByHand {
    client: Client,
    control: String,
    status: String,
}

impl ByHand {
    async fn new(fleet: &Fleet, id: &str, port: u16) -> Result<Self> {
        let login = fleet.enroll(id).await?;
        let mut client = Client::connect(port, &login).await?;
        let topics = Topics::of(&login)?;
        let control = topics.status.replace("/status", "/tunnel/control");
        client.subscribe(&control, Qos::AtLeastOnce).await?;
        let mut device = Self { client, control, status: topics.status };
        device.online("1.0.0").await?;
        Ok(device)
    }

    async fn online(&mut self, agent_version: &str) -> Result<()> {
        let status = json!({
            "schema_version": "1.0", "online": true, "agent_version": agent_version,
            "sent_at": now_text(),
        });
        self.client.publish_retained(&self.status, status.to_string().as_bytes()).await
    }

    /// The next message of this type; others are passed over, its own among them.
    async fn asked(&mut self, what: &str) -> Result<Value> {
        loop {
            let message = self.client.next().await?.json()?;
            if message["type"] == what {
                return Ok(message);
            }
        }
    }

    async fn opened(&mut self, tunnel: &Value, handle: &Value) -> Result<()> {
        let opened = json!({
            "type": "opened", "schema_version": "1.0", "tunnel_id": tunnel, "handle": handle,
        });
        self.client.publish(&self.control, opened.to_string().as_bytes(), Qos::AtLeastOnce).await
    }
}

#[tokio::test]
async fn a_tunnel_is_open_again_once_the_device_says_so_however_often_it_must_be_asked()
-> Result<()> {
    let Some(mosquitto) = Mosquitto::start(Access::Open).await? else { return Ok(()) };
    let env = vec![("QUARTERDECK_SERVER_BROKER".to_owned(), mosquitto.url())];
    let mut fleet = Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await?;
    let mut device = ByHand::new(&fleet, "pi-1", mosquitto.port()).await?;
    fleet.online("pi-1").await?;
    let (tunnel, _console) = Console::create(fleet.api(), &exec("cat")).await?;
    let open = device.asked("open").await?;
    device.opened(&open["tunnel_id"], &open["handle"]).await?;
    wait_tunnel(fleet.api(), tunnel.id, "open", |t| t.status == TunnelStatus::Open).await?;
    // Once the next word has arrived the broker has the receipt of this one, and does not bring
    // it to the next server again.
    device.online("1.0.1").await?;
    let is_later = |device: &api::Device| device.agent_version.as_deref() == Some("1.0.1");
    fleet.api().wait_device("pi-1", "heard again", is_later).await?;

    fleet.restart_server().await?;
    // The first questions are lost.
    for _ in 0..2 {
        let check = device.asked("check").await?;
        assert_eq!(check["tunnel_id"], open["tunnel_id"]);
    }
    wait_tunnel(fleet.api(), tunnel.id, "stalled", |t| t.status == TunnelStatus::Stalled).await?;
    device.asked("check").await?;
    device.opened(&open["tunnel_id"], &open["handle"]).await?;
    wait_tunnel(fleet.api(), tunnel.id, "open", |t| t.status == TunnelStatus::Open).await?;
    Ok(())
}
