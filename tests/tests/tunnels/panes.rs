//! The console on a real terminal: shells on three devices side by side, through
//! all that can break, and then seen again.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::Result;
use quarterdeck_protocol::api::{Recording, Tunnel, TunnelStatus};
use quarterdeck_tests::{
    Fleet,
    agent::{Device, DeviceOptions},
    binaries,
    mosquitto::{Access, Mosquitto},
    proxy::Proxy,
    pty::{Key, Terminal, TerminalBuilder},
    server::ServerOptions,
    tunnel::wait_tunnel,
    wait::{Look, wait_for},
};
use reqwest::Method;
use serde_json::{Value, json};

const DEVICES: [&str; 3] = ["pi-1", "pi-2", "pi-3"];
/// Lines that are typed into each pane; they fit into one of three.
const LINES: usize = 16;

/// A shell that numbers what it is told: a line that is lost or doubled is seen.
const SHELL: &str = "#!/bin/sh
stty -echo
echo ready
n=0
while read -r line; do n=$((n+1)); echo \"$n:$line\"; done
";

async fn device(fleet: &Fleet, id: &str, shell: &PathBuf) -> Result<Device> {
    let config = format!("[tunnels]\nshell = {}\n", json!(shell));
    fleet.device_with(id, DeviceOptions { config, ..DeviceOptions::default() }).await
}

fn console(fleet: &Fleet, port: u16) -> Result<Terminal> {
    TerminalBuilder::new(&binaries::find()?.console)
        .env("QUARTERDECK_SERVER", format!("http://127.0.0.1:{port}"))
        .env("QUARTERDECK_TOKEN", fleet.api().token())
        .env("HOME", fleet.folder().to_string_lossy())
        .env("XDG_CONFIG_HOME", fleet.file("config").to_string_lossy())
        .size(150, 45)
        .start()
}

/// A key after the prefix.
async fn prefixed(console: &mut Terminal, key: &str) -> Result<()> {
    console.press(Key::Ctrl('g')).await?;
    console.type_text(key).await
}

/// The numbered lines that a screen shows of one pane; a notice may stand to the right of them.
fn numbered(screen: &str) -> Vec<String> {
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let is_one = |word: &String| {
        let digits = word.chars().take_while(char::is_ascii_digit).count();
        digits > 0 && word[digits..].starts_with(':')
    };
    screen.lines().filter_map(first).filter(is_one).collect()
}

async fn tunnels(fleet: &Fleet) -> Result<Vec<Tunnel>> {
    fleet.api().list("@/tunnels").await
}

#[tokio::test]
async fn three_shells_side_by_side_survive_whatever_breaks() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start(Access::Open).await? else { return Ok(()) };
    let env = vec![("QUARTERDECK_SERVER_BROKER".to_owned(), mosquitto.url())];
    let mut fleet = Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await?;
    fleet.api().put::<Value>("@/settings", &json!({ "record_terminals": true })).await?;
    let shell = fleet.file("shell");
    fs::write(&shell, SHELL)?;
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755))?;
    let mut devices = Vec::new();
    for id in DEVICES {
        devices.push(device(&fleet, id, &shell).await?);
    }
    let network = Proxy::to(fleet.http_port()?).await?;
    let mut console = console(&fleet, network.port())?;
    console.wait_for_text("LIVE").await?;
    console.type_text("2").await?;
    console.wait_for_text("pi-3").await?;
    console.type_text("*t").await?;
    let all_ready = |screen: &str| screen.matches("ready").count() >= 3;
    console.wait_for_screen("three shells", all_ready).await?;
    // What is typed while one is lost waits for it; and goes to all three.
    for _ in DEVICES {
        prefixed(&mut console, "q").await?;
        prefixed(&mut console, "o").await?;
    }
    prefixed(&mut console, "s").await?;
    console.wait_for_text("INTO ALL").await?;

    let mut line = 0;
    let mut type_some = async |console: &mut Terminal| {
        for _ in 0..LINES / 4 {
            line += 1;
            console.type_text(&format!("line-{line}\r")).await?;
            // So that what breaks next breaks between them.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let cut = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        network.cut();
        anyhow::Ok(())
    };
    tokio::try_join!(type_some(&mut console), cut)?;
    mosquitto.kill_9();
    type_some(&mut console).await?;
    mosquitto.start_again().await?;
    fleet.server().kill_9();
    type_some(&mut console).await?;
    fleet.server().start_again().await?;
    type_some(&mut console).await?;

    let expected: Vec<String> = (1..=LINES).map(|n| format!("{n}:line-{n}")).collect();
    let last = expected.last().map_or("", String::as_str);
    let all_there = |screen: &str| screen.matches(last).count() == 3;
    console.wait_for_screen("the last line in all three", all_there).await?;
    for _ in DEVICES {
        prefixed(&mut console, "z").await?;
        let is_one = |screen: &str| screen.matches(last).count() == 1;
        let screen = console.wait_for_screen("one pane alone", is_one).await?;
        assert_eq!(numbered(&screen), expected, "{screen}");
        prefixed(&mut console, "z").await?;
        console.wait_for_screen("all panes again", all_there).await?;
        prefixed(&mut console, "o").await?;
    }
    is_seen_again(&fleet, &mut console, last).await
}

/// The sessions on the Tunnels screen, one of them ended there, and its recording.
async fn is_seen_again(fleet: &Fleet, console: &mut Terminal, last: &str) -> Result<()> {
    prefixed(console, "d").await?;
    console.type_text("7").await?;
    let has_all = |screen: &str| DEVICES.iter().all(|id| screen.contains(id));
    console.wait_for_screen("the tunnels", has_all).await?;
    let open = wait_for("all three known to be open again", || async {
        let open = tunnels(fleet).await?;
        let are_all = open.len() == 3 && open.iter().all(|t| t.status == TunnelStatus::Open);
        Ok(if are_all { Look::Ready(open) } else { Look::not_yet(json!(open)) })
    })
    .await?;
    let one = &open[0];
    fleet.api().request(Method::POST, &format!("@/tunnels/{}/close", one.id), &Value::Null).await?;
    wait_tunnel(fleet.api(), one.id, "over", |t| t.status.is_over()).await?;
    console.wait_for_text("closed").await?;

    let id = one.recording_id.clone().unwrap_or_default();
    wait_for("a whole recording", || async {
        let recording: Recording = fleet.api().get(&format!("@/recordings/{id}")).await?;
        let is_whole = recording.status.as_str() == "complete";
        Ok(if is_whole { Look::Ready(()) } else { Look::not_yet(json!(recording)) })
    })
    .await?;
    console.type_text("9").await?;
    console.wait_for_text("complete").await?;
    console.type_text(&format!("/device:{}\r", one.device_id)).await?;
    let is_alone = |screen: &str| {
        DEVICES.iter().filter(|id| screen.contains(**id)).count() == 1
            && screen.contains("complete")
    };
    console.wait_for_screen("its recording", is_alone).await?;
    console.press(Key::Enter).await?;
    console.wait_for_text("ready").await?;
    console.type_text("'").await?;
    console.type_text("100%\r").await?;
    let screen = console.wait_for_text(last).await?;
    let expected: Vec<String> = (1..=LINES).map(|n| format!("{n}:line-{n}")).collect();
    assert_eq!(numbered(&screen), expected, "{screen}");
    Ok(())
}
