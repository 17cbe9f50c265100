//! Scripts: exit codes, output, limits of time and size, and what they leave behind.

use anyhow::{Context, Result};
use quarterdeck_protocol::{command::CommandStatus, limits::OUTPUT_KEPT_MAX_BYTES, live::Listing};
use quarterdeck_tests::{
    Fleet,
    api::submission,
    live::Live,
    wait::{Look, wait_for, wait_until},
};
use serde_json::json;

#[tokio::test]
async fn a_failed_script_says_its_code_and_both_outputs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let id = fleet.api().script(device.id(), "echo out; echo err >&2; exit 3").await?;
    let command = fleet.api().wait_status(id, CommandStatus::Failed).await?;
    assert_eq!(command.error_code.as_deref(), Some("script_failed"));
    assert_eq!(command.exit_code, Some(3));
    assert_eq!(command.stdout.as_deref(), Some("out\n"));
    assert_eq!(command.stderr.as_deref(), Some("err\n"));
    Ok(())
}

#[tokio::test]
async fn interpreter_arguments_environment_and_folder_reach_the_script_unjoined() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let payload = json!({
        "script": "import sys, os; print(sys.argv[1:], os.environ['WORD'], os.getcwd())",
        "interpreter": "python3",
        "args": ["a b", "$(reboot)", "'"],
        "env": {"WORD": "x;y"},
        "cwd": "/"
    });
    let id = fleet.api().send(device.id(), "run_script", payload).await?;
    let command = fleet.api().wait_end(id).await?;
    if command.error_code.as_deref() == Some("launch_failed") {
        quarterdeck_tests::services::skip("python3");
        return Ok(());
    }
    assert_eq!(command.stdout.as_deref(), Some("['a b', '$(reboot)', \"'\"] x;y /\n"));
    Ok(())
}

#[tokio::test]
async fn a_script_over_its_time_fails_and_its_escapees_end_too() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let file = device.folder().join("pids");
    let script = format!(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done' & \
         echo $$ >> {0}; while :; do sleep 1; done",
        file.display()
    );
    let mut create = submission(&[device.id()], "run_script", json!({ "script": script }));
    create.timeout_s = Some(2);
    let id = fleet.api().submit(&create).await?.commands[0].id;
    let pids = wait_for("both pids", || async {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        Ok(if pids.len() == 2 { Look::Ready(pids) } else { Look::not_yet(text) })
    })
    .await?;

    let command = fleet.api().wait_status(id, CommandStatus::Failed).await?;
    assert_eq!(command.error_code.as_deref(), Some("timeout"));
    for pid in pids {
        let gone = || !std::path::Path::new(&format!("/proc/{pid}")).exists();
        wait_until("the script's processes to be gone", gone).await?;
    }
    Ok(())
}

#[tokio::test]
async fn output_is_seen_while_the_script_still_runs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let go = device.folder().join("go");
    let script =
        format!("echo first; while [ ! -e {} ]; do sleep 0.05; done; echo second", go.display());
    let id = fleet.api().script(device.id(), &script).await?;

    let mut live = Live::open(fleet.api()).await?;
    live.subscribe(1, Listing::Output, &[("command", &id.to_string())]).await?;
    let row = live
        .wait_row("the first line", |row| row["text"].as_str().is_some_and(|t| t.contains("first")))
        .await?;
    assert_eq!((&row["stream"], &row["offset"]), (&json!("stdout"), &json!(0)));
    assert!(!fleet.api().command(id).await?.status.is_terminal(), "it must still run");

    std::fs::write(&go, "")?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(command.stdout.as_deref(), Some("first\nsecond\n"));
    Ok(())
}

#[tokio::test]
async fn output_beyond_the_cap_is_cut_with_a_marker() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let script = "head -c 3000000 /dev/zero | tr '\\0' a; echo the-end";
    let id = fleet.api().script(device.id(), script).await?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let stdout = command.stdout.context("no stdout")?;
    assert!(stdout.len() < OUTPUT_KEPT_MAX_BYTES + 200, "{} bytes", stdout.len());
    assert!(stdout.contains(" cut …]"), "no marker");
    assert!(stdout.ends_with("the-end\n"), "the last lines are what an operator looks for");
    assert_eq!(command.exit_code, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_script_reads_nothing_from_stdin() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let id = fleet.api().script(device.id(), "cat; echo read-all").await?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(command.stdout.as_deref(), Some("read-all\n"));
    Ok(())
}

#[tokio::test]
async fn output_that_is_no_text_arrives_as_text() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let id = fleet.api().script(device.id(), "printf 'a\\377\\000b\\n'").await?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let stdout = command.stdout.context("no stdout")?;
    assert!(stdout.starts_with('a') && stdout.ends_with("b\n"), "{stdout:?}");
    Ok(())
}
