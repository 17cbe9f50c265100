//! `exec`, `tunnels` and `ssh-config` as a script meets them: exit codes and what goes where.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use quarterdeck_protocol::api::{Tunnel, TunnelStatus};
use quarterdeck_tests::{
    Fleet, cli,
    wait::{Look, in_time, wait_for},
};
use serde_json::Value;

/// What a subcommand ended with: its code, stdout and stderr.
async fn run(fleet: &Fleet, args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = cli::quarterdeck(fleet, fleet.api(), args)?;
    let output = in_time(&args.join(" "), command.output()).await??;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

#[tokio::test]
async fn exec_ends_as_its_program_does_and_keeps_its_outputs_apart() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let script = |script: &'static str| vec!["sh", "-c", script];
    for (program, code, stdout, stderr) in [
        (script("echo out; echo err >&2; exit 7"), 7, "out\n", "err\n"),
        (script("kill -TERM $$"), 128 + 15, "", ""),
        (script("exit 0"), 0, "", ""),
    ] {
        let args = [&["exec", "pi-1", "--"], &program[..]].concat();
        let expected = (Some(code), stdout.to_owned(), stderr.to_owned());
        assert_eq!(run(&fleet, &args).await?, expected, "{program:?}");
    }
    for (program, code, why) in [
        ("/no/such/program", 127, "/no/such/program"),
        // What is no device is no fault of a device.
        ("true", 255, "no such device"),
    ] {
        let device = if code == 127 { "pi-1" } else { "pi-9" };
        let (ended, _, stderr) = run(&fleet, &["exec", device, "--", program]).await?;
        assert!(ended == Some(code) && stderr.contains(why), "{ended:?} {stderr}");
    }
    Ok(())
}

#[tokio::test]
async fn a_program_that_was_closed_before_its_end_is_no_success() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    for tty in [&["--tty"][..], &[]] {
        let args = [&["exec"], tty, &["pi-1", "--", "sleep", "600"]].concat();
        let mut command = cli::quarterdeck(&fleet, fleet.api(), &args)?;
        let child = command.stdin(Stdio::piped()).spawn()?;
        let id = wait_for("the tunnel to be open", || async {
            let open: Vec<Tunnel> = fleet.api().list("@/tunnels?status=open").await?;
            Ok(open.first().map_or_else(|| Look::not_yet(open.len()), |t| Look::Ready(t.id)))
        })
        .await?
        .to_string();
        let (code, stdout, _) = run(&fleet, &["tunnels", "ls", "--status", "open"]).await?;
        assert!(code == Some(0) && stdout.contains("sleep 600"), "{stdout}");
        let (code, _, stderr) = run(&fleet, &["tunnels", "close", &id]).await?;
        assert_eq!(code, Some(0), "{stderr}");
        let output = in_time("its end", child.wait_with_output()).await??;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(255), "{args:?}: {stderr}");
        let (code, stdout, _) = run(&fleet, &["--output", "json", "tunnels", "show", &id]).await?;
        let shown: Vec<Tunnel> = serde_json::from_str(&stdout).context("tunnels")?;
        let states: Vec<_> = shown.iter().map(|tunnel| tunnel.status).collect();
        assert_eq!((code, states), (Some(0), vec![TunnelStatus::Closed]));
    }
    Ok(())
}

#[tokio::test]
async fn ssh_config_has_the_devices_that_ssh_can_reach() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    fleet.enroll("screen-1").await?;
    let (code, stdout, stderr) = run(&fleet, &["ssh-config"]).await?;
    assert!(code == Some(0) && stdout.contains("Host pi-1\n"), "{stdout}{stderr}");
    assert!(!stdout.contains("screen-1") && stderr.contains("screen-1 (no agent"), "{stderr}");
    fleet.api().post::<Value>("@/devices/pi-1/retire", &Value::Null).await?;
    let (code, stdout, stderr) = run(&fleet, &["ssh-config", "pi-1"]).await?;
    assert!(code == Some(1) && stdout.is_empty() && stderr.contains("retired"), "{stderr}");
    Ok(())
}
