//! Files to a device and from it.

use anyhow::Result;
use quarterdeck_protocol::{command::CommandStatus, ids::CommandId};
use quarterdeck_tests::{Fleet, agent::DeviceOptions, api::send};
use reqwest::Method;
use serde_json::json;

async fn brought(fleet: &Fleet, id: CommandId) -> Result<Vec<u8>> {
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let path = format!("@/commands/{id}/output");
    let answer = send(fleet.api().builder(Method::GET, &path)).await?;
    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    Ok(answer.body)
}

#[tokio::test]
async fn a_file_is_pushed_whole_and_pulled_back_the_same() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let path = device.folder().join("pushed.conf");
    let content = "key = \"ä\"\n".repeat(1_000);
    let push = json!({"path": path, "content": content, "mode": "0600"});
    let id = fleet.api().send("pi-1", "file_push", push).await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(std::fs::read_to_string(&path)?, content);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path)?.permissions());
    assert_eq!(mode & 0o777, 0o600);

    let id = fleet.api().send("pi-1", "file_pull", json!({ "path": path })).await?;
    assert_eq!(brought(&fleet, id).await?, content.as_bytes());
    Ok(())
}

#[tokio::test]
async fn a_large_file_that_is_no_text_is_pulled_byte_by_byte() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let path = device.folder().join("image.bin");
    let content: Vec<u8> =
        (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&path, &content)?;
    let id = fleet.api().send("pi-1", "file_pull", json!({ "path": path })).await?;
    assert!(brought(&fleet, id).await? == content, "it came back different");
    Ok(())
}

#[tokio::test]
async fn the_last_lines_of_a_log_are_collected() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let path = device.folder().join("app.log");
    let lines: Vec<String> = (1..=5_000).map(|number| format!("line {number}\n")).collect();
    std::fs::write(&path, lines.concat())?;
    let payload = json!({"source": "file", "path": path, "lines": 3});
    let id = fleet.api().send("pi-1", "collect_logs", payload).await?;
    let log = String::from_utf8(brought(&fleet, id).await?)?;
    assert_eq!(log, "line 4998\nline 4999\nline 5000\n");
    Ok(())
}

#[tokio::test]
async fn what_the_owner_has_named_is_brought() -> Result<()> {
    let fleet = Fleet::start().await?;
    let conf = fleet.file("app.conf");
    std::fs::write(&conf, "volume = 3\n")?;
    let plugin = fleet.file("plugin.sh");
    // More than a response holds.
    std::fs::write(&plugin, "[ \"$1\" = list ] && seq -f 'package-%g\t1.0' 6000\n")?;
    let config = format!(
        "[configs.app]\npath = {conf:?}\n[logs]\napp = {conf:?}\n[software]\ndeb = ['sh', {plugin:?}]\n"
    );
    let options = DeviceOptions { config, ..DeviceOptions::default() };
    let _device = fleet.device_with("pi-1", options).await?;
    for (operation, payload, wanted) in [
        ("config_snapshot", json!({"type": "app"}), "volume = 3"),
        ("log_upload", json!({"type": "app"}), "volume = 3"),
        ("software_list", json!({}), "package-6000"),
    ] {
        let id = fleet.api().send("pi-1", operation, payload).await?;
        let file = String::from_utf8(brought(&fleet, id).await?)?;
        anyhow::ensure!(file.contains(wanted), "{operation}: {file}");
    }
    Ok(())
}

#[tokio::test]
async fn a_path_that_the_owner_does_not_allow_is_neither_read_nor_written() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let secret = fleet.file("secret");
    std::fs::write(&secret, "secret")?;
    let around = device.folder().join("link");
    std::os::unix::fs::symlink(&secret, &around)?;
    for path in [secret.as_path(), &around, std::path::Path::new("/etc/shadow")] {
        let id = fleet.api().send("pi-1", "file_pull", json!({ "path": path })).await?;
        let command = fleet.api().wait_status(id, CommandStatus::Failed).await?;
        assert!(command.error_code.is_some(), "{command:?}");
        let push = json!({"path": path, "content": "overwritten"});
        let id = fleet.api().send("pi-1", "file_push", push).await?;
        fleet.api().wait_end(id).await?;
        assert_eq!(std::fs::read_to_string(&secret)?, "secret");
    }
    Ok(())
}

#[tokio::test]
async fn a_file_whose_digest_is_wrong_is_not_put_in_place() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let path = device.folder().join("pushed");
    std::fs::write(&path, "before")?;
    let push = json!({"path": path, "content": "after", "sha256": "0".repeat(64)});
    let id = fleet.api().send("pi-1", "file_push", push).await?;
    fleet.api().wait_status(id, CommandStatus::Failed).await?;
    assert_eq!(std::fs::read_to_string(&path)?, "before");
    Ok(())
}
