//! Operations that a device's owner wrote as workflows: announced, offered, run and
//! seen through the whole product.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use quarterdeck_protocol::{command::CommandStatus, live::Listing};
use quarterdeck_tests::{
    Fleet,
    agent::{Device, DeviceOptions},
    binaries, cli,
    live::Live,
    pty::{Key, TerminalBuilder},
    wait::{Look, wait_for},
};
use serde_json::{Value, json};

/// Two steps; each notes that it ran, and the second goes on once it may.
const FLASH: &str = r#"
operation = "flash"

[init]
action = "proceed"
on_success = "download"

[download]
script = "sh {folder}/step.sh download ${.payload.url}"
on_success = "install"

[install]
script = "sh {folder}/step.sh install ${.payload.slot}"
on_success = "successful"
on_error = { status = "failed", reason = "the slot is bad" }
"#;
const STEP: &str = "cd {folder}; echo $1 $2 >>steps\n\
    [ $1 = download ] || while ! [ -e may-go ]; do sleep 0.02; done\n\
    [ -e is-bad ] && exit 1\n\
    printf ':::begin-tedge:::\\n{\"slot\":\"b\"}\\n:::end-tedge:::\\n'\n";
const ABOUT: &str = r#"{
    "name": "Flash firmware",
    "description": "Flash a firmware image",
    "form_schema": { "type": "object", "properties": { "url": { "type": "string", "title": "Image" } } }
}"#;

/// A device with the workflow in a folder of its own.
async fn flashable(fleet: &Fleet, id: &str) -> Result<Device> {
    let folder = fleet.file(id);
    fs::create_dir_all(folder.join("workflows"))?;
    let in_folder = |text: &str| text.replace("{folder}", &folder.to_string_lossy());
    fs::write(folder.join("workflows/flash.toml"), in_folder(FLASH))?;
    fs::write(folder.join("workflows/flash.json"), ABOUT)?;
    fs::write(folder.join("step.sh"), in_folder(STEP))?;
    let config = format!("workflows = {}\n", json!(folder.join("workflows")));
    fleet.device_with(id, DeviceOptions { config, ..DeviceOptions::default() }).await
}

fn steps(fleet: &Fleet, id: &str) -> String {
    fs::read_to_string(fleet.file(id).join("steps")).unwrap_or_default()
}

fn let_go(folder: &Path) -> Result<()> {
    Ok(fs::write(folder.join("may-go"), "")?)
}

async fn in_state(fleet: &Fleet, id: &str, state: &str) -> Result<()> {
    wait_for(&format!("the state {state}"), || async {
        let command: Value = fleet.api().get(&format!("@/commands/{id}")).await?;
        let is_there = command["state"] == state;
        Ok(if is_there { Look::Ready(()) } else { Look::not_yet(command) })
    })
    .await
}

#[tokio::test]
async fn an_own_operation_is_offered_and_its_states_are_seen_until_it_ends() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _flashable = flashable(&fleet, "pi-1").await?;
    let _other = fleet.device("pi-2").await?;
    let operations: Vec<Value> = fleet.api().list("@/operations").await?;
    let flash = operations.iter().find(|op| op["name"] == "flash").context("not announced")?;
    assert_eq!((&flash["device_count"], &flash["dangerous"]), (&json!(1), &json!(false)));
    assert_eq!(flash["description"], "Flash a firmware image");
    assert!(flash["form_schema"]["properties"]["url"].is_object(), "{flash}");

    let payload = json!({ "url": "http://x/fw image.bin; rm -rf /" });
    let id = fleet.api().send("pi-1", "flash", payload).await?;
    in_state(&fleet, &id.to_string(), "install").await?;
    let_go(&fleet.file("pi-1"))?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let result = command.result.context("no result")?;
    assert_eq!(result["slot"], "b");
    let timeline = fleet.api().timeline(id).await?;
    let told = serde_json::to_string(&timeline)?;
    for state in ["download", "install", "successful"] {
        ensure!(told.contains(state), "{state} is not in {told}");
    }
    // What was substituted is one word, whatever it says.
    assert_eq!(steps(&fleet, "pi-1"), "download http://x/fw image.bin; rm -rf /\ninstall b\n");
    // One that has no such operation does not accept it.
    let refused = fleet.api().send("pi-2", "flash", json!({})).await;
    ensure!(refused.is_err(), "a device without the operation was sent it: {refused:?}");
    Ok(())
}

#[tokio::test]
async fn an_own_operation_goes_on_after_a_power_cut_and_a_failure_says_why() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let mut device = flashable(&fleet, "pi-1").await?;
    let id = fleet.api().send("pi-1", "flash", json!({ "url": "u" })).await?;
    in_state(&fleet, &id.to_string(), "install").await?;
    device.power_cut();
    fleet.restart_server().await?;
    let_go(&fleet.file("pi-1"))?;
    device.start_again()?;
    let command = fleet.api().wait_end(id).await?;
    // The state that was cut off runs again, as workflows do; the one before it does not.
    assert_eq!(command.status, CommandStatus::Completed, "{command:?}");
    assert_eq!(steps(&fleet, "pi-1"), "download u\ninstall b\ninstall b\n");

    fs::write(fleet.file("pi-1").join("is-bad"), "")?;
    let id = fleet.api().send("pi-1", "flash", json!({ "url": "u" })).await?;
    let command = fleet.api().wait_status(id, CommandStatus::Failed).await?;
    assert_ne!(command.error_message.context("no error")?, "");
    Ok(())
}

#[tokio::test]
async fn an_own_operation_is_started_from_the_command_line_and_by_the_wizard() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = flashable(&fleet, "pi-1").await?;
    let_go(&fleet.file("pi-1"))?;
    let args = ["run", "flash", "pi-1", "--payload", r#"{"url":"by-cli"}"#, "--wait"];
    let run = cli::quarterdeck(&fleet, fleet.api(), &args)?;
    cli::succeed(run).await?;
    assert_eq!(steps(&fleet, "pi-1"), "download by-cli\ninstall b\n");

    let mut console = TerminalBuilder::new(&binaries::find()?.console)
        .env("QUARTERDECK_SERVER", format!("http://127.0.0.1:{}", fleet.http_port()?))
        .env("QUARTERDECK_TOKEN", fleet.api().token())
        .env("HOME", fleet.folder().to_string_lossy())
        .env("XDG_CONFIG_HOME", fleet.file("config").to_string_lossy())
        .size(120, 40)
        .start()?;
    console.wait_for_text("LIVE").await?;
    console.type_text("n").await?;
    console.wait_for_text("pi-1").await?;
    console.type_text(" ").await?;
    console.press(Key::Ctrl('n')).await?;
    console.wait_for_text("Ping").await?;
    console.press(Key::End).await?;
    console.press(Key::Left).await?;
    console.wait_for_text("Flash firmware").await?;
    console.press(Key::Enter).await?;
    console.wait_for_text("Image").await?;
    console.type_text("by-wizard").await?;
    console.press(Key::Ctrl('n')).await?;
    console.wait_for_text("quarterdeck run flash").await?;
    console.press(Key::Enter).await?;
    console.wait_for_text("completed").await?;
    let all = "download by-cli\ninstall b\ndownload by-wizard\ninstall b\n";
    assert_eq!(steps(&fleet, "pi-1"), all);
    Ok(())
}

/// Two scripts that write to both streams; the first waits until it may go on.
const TALK: &str = r#"
operation = "talk"
[init]
script = "sh -c 'echo one; echo odd >&2; while [ ! -e {folder}/may-go ]; do sleep 0.02; done'"
on_success = "second"
[second]
script = "sh -c 'echo two; echo even >&2'"
on_success = "successful"
"#;

async fn talker(fleet: &Fleet, id: &str) -> Result<Device> {
    let folder = fleet.file(id);
    fs::create_dir_all(folder.join("workflows"))?;
    let text = TALK.replace("{folder}", &folder.to_string_lossy());
    fs::write(folder.join("workflows/talk.toml"), text)?;
    let config = format!("workflows = {}\n", json!(folder.join("workflows")));
    fleet.device_with(id, DeviceOptions { config, ..DeviceOptions::default() }).await
}

#[tokio::test]
async fn what_an_owners_scripts_write_is_seen_while_they_run() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = talker(&fleet, "pi-1").await?;
    let mut live = Live::open(fleet.api()).await?;
    let id = fleet.api().send("pi-1", "talk", json!({})).await?;
    live.subscribe(1, Listing::Output, &[("command", &id.to_string())]).await?;
    let is_first = |row: &Value| row["stream"] == "stdout" && row["text"] == "one\n";
    live.wait_row("the first script's output", is_first).await?;
    ensure!(!fleet.api().command(id).await?.status.is_terminal(), "it must still run");
    let_go(&fleet.file("pi-1"))?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(command.stdout.as_deref(), Some("one\ntwo\n"));
    assert_eq!(command.stderr.as_deref(), Some("odd\neven\n"));
    Ok(())
}

#[tokio::test]
async fn after_a_crash_what_scripts_wrote_before_and_after_stands_in_order() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = talker(&fleet, "pi-1").await?;
    let mut live = Live::open(fleet.api()).await?;
    let id = fleet.api().send("pi-1", "talk", json!({})).await?;
    live.subscribe(1, Listing::Output, &[("command", &id.to_string())]).await?;
    // They may come together.
    let (mut has_output, mut has_errors) = (false, false);
    live.wait_row("output and errors", |row| {
        has_output |= row["text"] == "one\n";
        has_errors |= row["text"] == "odd\n";
        has_output && has_errors
    })
    .await?;
    device.kill_9();
    let_go(&fleet.file("pi-1"))?;
    device.start_again()?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    // The script that was cut off ran again: both runs are told, none over the other.
    assert_eq!(command.stdout.as_deref(), Some("one\none\ntwo\n"));
    assert_eq!(command.stderr.as_deref(), Some("odd\nodd\neven\n"));
    Ok(())
}
