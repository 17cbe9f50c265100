//! `cargo demo`: a live fleet that leaves nothing behind.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use quarterdeck_protocol::command::CommandStatus;
use quarterdeck_tests::{
    api::Api,
    binaries,
    demo::firmware,
    process::{Process, descendants},
    pty::TerminalBuilder,
    wait::{Look, wait_for, wait_until},
};
use serde_json::Value;

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

fn bin_dir() -> Result<String> {
    let folder = binaries::find()?.server.parent().context("a program without a folder")?;
    Ok(folder.to_string_lossy().into_owned())
}

/// Finds a machine's simulated flash in the demo's one folder.
fn firmware_folder(temporary: &Path, device: &str) -> Result<PathBuf> {
    let mut folders = std::fs::read_dir(temporary)?.flatten();
    let fleet = folders.find_map(|entry| {
        let flash = entry.path().join("devices").join(device).join("firmware");
        flash.is_dir().then_some(flash)
    });
    fleet.context("no simulated flash")
}

#[tokio::test]
async fn a_headless_demo_is_a_fleet_with_all_outcomes_and_ends_without_a_trace() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let logs = tempfile::tempdir()?;
    let mut command = Command::new(DEMO);
    command.arg("--headless").env("TMPDIR", folder.path());
    command.env("QUARTERDECK_BIN_DIR", bin_dir()?);
    let mut demo = Process::start("demo", &command, logs.path())?;
    let line = {
        let demo = std::sync::Mutex::new(&mut demo);
        wait_for("the ready line", || async {
            let Ok(mut demo) = demo.lock() else { anyhow::bail!("a panic") };
            demo.must_run()?;
            let said = demo.stdout();
            Ok(if said.ends_with('\n') { Look::Ready(said) } else { Look::not_yet("nothing") })
        })
        .await?
    };
    ensure!(line.lines().count() == 1, "{line}");
    let ready: Value = serde_json::from_str(&line)?;
    let text = |key: &str| ready[key].as_str().with_context(|| format!("{key} in {line}"));
    assert_eq!((text("event")?, text("project")?), ("ready", "default"));
    assert!(text("mqtt")?.starts_with("mqtt://"));
    assert_eq!(ready["devices"].as_array().map(Vec::len), Some(12));

    let api = Api::new(text("http")?)?.login(text("username")?, text("password")?).await?;
    assert_eq!(api.count("@/devices").await?, 12);
    assert_eq!(api.count("@/devices?status=online").await?, 11);
    assert_eq!(api.count("@/devices?service_failed=true").await?, 1);
    for status in ["completed", "failed", "cancelled", "queued", "execution_started"] {
        ensure!(api.count(&format!("@/commands?status={status}")).await? > 0, "nothing {status}");
    }
    // A reboot can be tried: the machine comes back with another boot id.
    let id = api.send("pi-lab-01", "reboot_host", serde_json::json!({})).await?;
    api.wait_status(id, CommandStatus::Completed).await?;

    // And the firmware update of the guide, with an image that is kept and one that is not.
    let flash = firmware_folder(folder.path(), "kiosk-ber1-01")?;
    for (image, expected) in [("good", CommandStatus::Completed), ("broken", CommandStatus::Failed)]
    {
        let payload = firmware::payload(&flash, image);
        let id = api.send("kiosk-ber1-01", "firmware_update", payload).await?;
        api.wait_status(id, expected).await.context(image)?;
        let kept = std::fs::read_to_string(flash.join("active"))?;
        assert_eq!(kept.trim(), "b", "{image}: the first update runs");
    }

    let started = descendants(demo.pid());
    ensure!(started.len() >= 12, "{started:?}");
    demo.signal(Signal::SIGTERM);
    ensure!(demo.wait_for_end().await?.success(), "it did not end well");
    wait_until("all processes to be gone", || {
        started.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    })
    .await?;
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn a_demo_opens_the_console_logged_in_and_ends_with_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut demo = TerminalBuilder::new(DEMO)
        .env("TMPDIR", folder.path().to_string_lossy())
        .env("QUARTERDECK_BIN_DIR", bin_dir()?)
        .size(120, 36)
        .start()?;
    demo.wait_for_text("LIVE").await?;
    demo.type_text("2").await?;
    demo.wait_for_text("gateway-fra1-01").await?;
    demo.type_text("q").await?;
    assert_eq!(demo.wait_for_end().await?, 0);
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}
