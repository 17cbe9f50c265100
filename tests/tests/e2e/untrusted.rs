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

/// What would act, whatever else the program itself writes.
fn assert_harmless(bytes: &[u8], whose: &str) {
    let text = String::from_utf8_lossy(bytes);
    for act in
        ["]0;owned", "\u{1b}]52", "\u{9b}", "\u{202e}", "\u{200b}", "\u{1b}[8m", "\u{1b}[31mATTACK"]
    {
        let unmarked = text.replace("^[]0;owned", "");
        assert!(!unmarked.contains(act), "{whose} passed {act:?} on");
    }
    assert!(!bytes.windows(2).any(|pair| pair == [0xc2, 0x9b]), "{whose} passed a C1 control on");
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
        assert_harmless(&output.stdout, &format!("stdout of {args:?}"));
        assert_harmless(&output.stderr, &format!("stderr of {args:?}"));
        assert!(!output.stdout.contains(&0x1b), "{args:?} wrote an escape to a pipe");
    }
    assert_harmless(fleet.server().process().stderr().as_bytes(), "the server's log");
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
