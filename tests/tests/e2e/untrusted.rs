//! No byte of a device reaches an operator's terminal raw.
//!
//! A device that says what a terminal would obey, in its facts, its output and
//! its errors; then each way in which an operator sees it.

use anyhow::Result;
use quarterdeck_protocol::ids::CommandId;
use quarterdeck_tests::{
    Fleet, binaries,
    mqtt::{Client, Qos},
    pty::{Key, TerminalBuilder},
    simulator::connection::{Topics, now_text},
};
use serde_json::json;

/// Clears, retitles, copies, and hides, if it is obeyed.
const ATTACK: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}]52;c;b3duZWQ=\u{7}\u{9b}31mATTACK\u{202e}gpj.exe\u{200b}\u{1b}[8m";

/// A device that attacks with everything it may say, and the command that it answered.
async fn attacked() -> Result<(Fleet, Client, CommandId)> {
    let fleet = Fleet::start().await?;
    let login = fleet.enroll("pi-1").await?;
    let topics = Topics::of(&login)?;
    let mut device = Client::connect(fleet.mqtt_port()?, &login).await?;
    device.subscribe(&topics.commands, Qos::ExactlyOnce).await?;
    let status = json!({
        "schema_version": "1.0", "online": true, "boot_id": ATTACK, "agent_version": ATTACK,
        "capabilities": ["ping", "run_script"], "facts": {"os": ATTACK, "hostname": ATTACK},
        "at": now_text()
    });
    device.publish_retained(&topics.status, status.to_string().as_bytes()).await?;
    let failed =
        json!({"schema_version": "1.0", "unit": ATTACK, "reason": ATTACK, "at": now_text()});
    let topic = topics.status.replace("/status", "/service_failed");
    device.publish_retained(&topic, failed.to_string().as_bytes()).await?;
    let id = fleet.api().script("pi-1", "true").await?;
    device.next().await?;
    for status in ["accepted", "execution_started", "failed"] {
        let response = json!({
            "schema_version": "1.0", "command_id": id, "status": status, "state": ATTACK,
            "step": ATTACK, "stdout": ATTACK, "stderr": ATTACK, "error_code": ATTACK,
            "error_message": ATTACK, "result": {ATTACK: ATTACK}, "exit_code": 1, "at": now_text()
        });
        device.publish(&topics.response, response.to_string().as_bytes(), Qos::ExactlyOnce).await?;
    }
    fleet.api().wait_end(id).await?;
    Ok((fleet, device, id))
}

/// Nothing that acts on a terminal or deceives its reader: for what is no terminal.
fn assert_plain(bytes: &[u8], whose: &str) {
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| panic!("{whose} is no text"));
    let bad = |c: char| (c.is_control() && c != '\n') || ('\u{200b}'..='\u{202e}').contains(&c);
    let found: Vec<&str> = text.lines().filter(|line| line.contains(bad)).collect();
    assert!(found.is_empty(), "{whose} passed on: {found:?}");
}

/// The same, for what a program wrote on its terminal among sequences of its own.
fn assert_harmless(bytes: &[u8], whose: &str) {
    let text = String::from_utf8_lossy(bytes);
    for act in [
        "\u{1b}]0;owned",
        "\u{1b}]52",
        "\u{9b}",
        "\u{202e}",
        "\u{200b}",
        "\u{1b}[8m",
        "31mATTACK\u{1b}",
    ] {
        let found = text.find(act).map(|at| text[at..].chars().take(80).collect::<String>());
        assert_eq!(found, None, "{whose} passed {act:?} on");
    }
}

#[tokio::test]
async fn the_command_line_shows_markers_for_what_would_act() -> Result<()> {
    let (mut fleet, _device, id) = attacked().await?;
    let id = id.to_string();
    for args in [
        vec!["devices"],
        vec!["devices", "show", "pi-1"],
        vec!["commands"],
        vec!["commands", "show", &id],
        vec!["alerts"],
        vec!["audit"],
        vec!["devices", "--output", "json"],
    ] {
        let output = std::process::Command::new(&binaries::find()?.console)
            .args(&args)
            .env("QUARTERDECK_SERVER", fleet.api().base())
            .env("QUARTERDECK_TOKEN", fleet.api().token())
            .env("HOME", fleet.folder())
            .output()?;
        assert_plain(&output.stdout, &format!("stdout of {args:?}"));
        assert_plain(&output.stderr, &format!("stderr of {args:?}"));
    }
    assert_plain(fleet.server().process().stderr().as_bytes(), "the server's log");
    Ok(())
}

#[tokio::test]
async fn the_console_shows_markers_for_what_would_act() -> Result<()> {
    let (fleet, _device, _) = attacked().await?;
    let mut console = TerminalBuilder::new(&binaries::find()?.console)
        .env("QUARTERDECK_SERVER", fleet.api().base())
        .env("QUARTERDECK_TOKEN", fleet.api().token())
        .env("HOME", fleet.folder().to_string_lossy())
        .size(200, 50)
        .start()?;
    console.wait_for_text("LIVE").await?;
    for key in ["2", "3", "4", "5"] {
        console.type_text(key).await?;
        console.wait_for_text("pi-1").await?;
        if key == "2" || key == "3" {
            console.press(Key::Enter).await?;
            console.wait_for_text("^[").await?;
            for _ in 0..5 {
                console.press(Key::Tab).await?;
            }
            console.press(Key::Escape).await?;
        }
    }
    console.type_text("q").await?;
    console.wait_for_end().await?;
    assert_harmless(&console.raw(), "the console");
    Ok(())
}
