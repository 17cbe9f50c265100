//! `quarterdeck` from a script.

use std::process::Output;

use anyhow::{Result, ensure};
use quarterdeck_protocol::api::Role;
use quarterdeck_tests::{Fleet, binaries};
use serde_json::Value;

fn run(fleet: &Fleet, token: &str, args: &[&str]) -> Result<Output> {
    Ok(std::process::Command::new(&binaries::find()?.console)
        .args(args)
        .env("QUARTERDECK_SERVER", fleet.api().base())
        .env("QUARTERDECK_TOKEN", token)
        .env("HOME", fleet.folder())
        .env_remove("XDG_CONFIG_HOME")
        .stdin(std::process::Stdio::null())
        .output()?)
}

fn items(output: &Output) -> Result<Vec<Value>> {
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {stderr}{stdout}", output.status);
    Ok(serde_json::from_str(&stdout)?)
}

#[tokio::test]
async fn a_script_runs_a_command_waits_for_it_and_reads_the_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let token = fleet.api().token();
    let args = ["run", "run_script", "pi-1", "script=echo hello", "--wait", "--output", "json"];
    let ran = items(&run(&fleet, token, &args)?)?;
    assert_eq!(ran.len(), 1);
    assert_eq!((&ran[0]["status"], &ran[0]["stdout"]), (&"completed".into(), &"hello\n".into()));

    let listed = items(&run(&fleet, token, &["commands", "--output", "json"])?)?;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], ran[0]["id"]);
    let devices = items(&run(&fleet, token, &["devices", "--output", "json"])?)?;
    assert_eq!((&devices[0]["id"], &devices[0]["status"]), (&"pi-1".into(), &"online".into()));
    let audit = items(&run(&fleet, token, &["audit", "--output", "json"])?)?;
    assert!(audit.iter().any(|entry| entry["action"] == "command.create"), "{audit:?}");
    Ok(())
}

#[tokio::test]
async fn the_exit_code_is_0_for_success_1_for_failure_and_2_for_wrong_usage() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let token = fleet.api().token().to_owned();
    let viewer = fleet.api().member("viewer", Role::Viewer).await?.token().to_owned();
    for (token, args, code) in [
        (&token, vec!["run", "ping", "pi-1", "--wait"], 0),
        (&token, vec!["run", "run_script", "pi-1", "script=exit 9", "--wait"], 1),
        (&token, vec!["run", "ping", "no-such-device", "--wait"], 1),
        (&viewer, vec!["run", "ping", "pi-1", "--wait"], 1),
        (&token, vec!["run"], 2),
        (&token, vec!["no-such-subcommand"], 2),
        (&token, vec!["devices", "--output", "xml"], 2),
        (&"expired".to_owned(), vec!["devices"], 1),
    ] {
        let output = run(&fleet, token, &args)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{args:?}: {} {stderr}", output.status);
        ensure!(code == 0 || !stderr.trim().is_empty(), "{args:?} says nothing");
        ensure!(!stderr.contains("panicked"), "{stderr}");
    }
    Ok(())
}

#[tokio::test]
async fn a_login_is_remembered_for_its_owner_alone() -> Result<()> {
    let fleet = Fleet::start().await?;
    let home = tempfile::tempdir()?;
    let quarterdeck = || -> Result<std::process::Command> {
        let mut command = std::process::Command::new(&binaries::find()?.console);
        command.env("HOME", home.path()).env_remove("QUARTERDECK_TOKEN");
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        Ok(command)
    };
    let password = home.path().join("password");
    std::fs::write(&password, fleet.admin_password())?;
    let login = quarterdeck()?
        .args(["login", "--server", fleet.api().base(), "--username", "admin", "--password-file"])
        .arg(&password)
        .output()?;
    ensure!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));
    std::fs::remove_file(&password)?;
    let output = quarterdeck()?.args(["devices", "--output", "json"]).output()?;
    assert_eq!(items(&output)?, Vec::<Value>::new());

    let mut folders = vec![home.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata()?.permissions());
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = std::fs::read_to_string(entry.path())?;
            ensure!(!text.contains(fleet.admin_password()), "the password was kept");
            ensure!(
                matches!(mode & 0o777, 0o400 | 0o600),
                "{} is open to others",
                entry.path().display()
            );
            files += 1;
        }
    }
    ensure!(files > 0, "nothing was remembered");
    Ok(())
}

#[tokio::test]
async fn an_enrolment_token_from_the_command_line_enrols_a_device() -> Result<()> {
    let fleet = Fleet::start().await?;
    let args = ["enroll-token", "create", "--output", "json"];
    let made = items(&run(&fleet, fleet.api().token(), &args)?)?;
    let token = made[0]["token"].as_str().unwrap_or_default();
    quarterdeck_tests::fleet::enroll(fleet.api(), token, "pi-1").await?;
    Ok(())
}
