//! `shell` and `exec` as people have them: on a terminal of their own.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quarterdeck_protocol::{
    api::{Recording, Tunnel, TunnelStatus},
    ids::TunnelId,
    tunnel::close::CloseCode,
};
use quarterdeck_tests::{
    Fleet, binaries, cli,
    pty::{Key, Terminal, TerminalBuilder},
    server::ServerOptions,
    tunnel::wait_tunnel,
    wait::{Look, in_time, wait_for},
};
use tokio::io::AsyncReadExt as _;

/// `quarterdeck ARGS…` on a terminal.
fn on_terminal(fleet: &Fleet, args: &[&str]) -> Result<Terminal> {
    TerminalBuilder::new(&binaries::find()?.console)
        .args(args.iter().copied())
        .env("QUARTERDECK_SERVER", fleet.api().base())
        .env("QUARTERDECK_TOKEN", fleet.api().token())
        .env("HOME", fleet.folder().to_string_lossy())
        .start()
}

/// The tunnel that was opened last, once it is open.
async fn newest(fleet: &Fleet) -> Result<Tunnel> {
    wait_for("an open tunnel", || async {
        let open: Vec<Tunnel> = fleet.api().list("@/tunnels?status=open&sort=-created_at").await?;
        Ok(open.into_iter().next().map_or_else(|| Look::not_yet("none"), Look::Ready))
    })
    .await
}

/// Waits until so many consoles show a tunnel.
async fn attached(fleet: &Fleet, id: TunnelId, count: u32) -> Result<()> {
    wait_tunnel(fleet.api(), id, "attached to", |t| t.attached == count).await.map(drop)
}

/// Says its lines again with their number.
const NUMBERED: &str =
    "stty -echo; echo ready; n=0; while read -r l; do n=$((n+1)); echo \"$n:$l\"; done; exit 7";

#[tokio::test]
async fn a_session_is_left_joined_watched_and_come_back_to() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let args = ["shell", "--record", "--record-input", "pi-1", "--", "sh", "-c", NUMBERED];
    let mut first = on_terminal(&fleet, &args)?;
    first.wait_for_text("ready").await?;
    first.type_text("one\r").await?;
    first.wait_for_text("1:one").await?;
    let tunnel = newest(&fleet).await?;
    let id = tunnel.id.to_string();

    let mut watcher = on_terminal(&fleet, &["shell", "--watch", &id])?;
    watcher.wait_for_text("1:one").await?;
    let mut copilot = on_terminal(&fleet, &["shell", "--copilot", &id])?;
    copilot.wait_for_text("1:one").await?;
    attached(&fleet, tunnel.id, 3).await?;
    watcher.type_text("nothing\r").await?;
    copilot.type_text("two\r").await?;
    for terminal in [&first, &watcher, &copilot] {
        terminal.wait_for_text("2:two").await?;
    }
    // A copilot who leaves ends nothing.
    copilot.type_text("\r~.").await?;
    assert_eq!(copilot.wait_for_end().await?, 0);
    first.wait_for_text("3:").await?;
    first.type_text("~d").await?;
    assert_eq!(first.wait_for_end().await?, 0);
    first.wait_for_text(&format!("shell --attach {id}")).await?;
    watcher.type_text("q").await?;
    assert_eq!(watcher.wait_for_end().await?, 0);
    attached(&fleet, tunnel.id, 0).await?;

    let mut again = on_terminal(&fleet, &["shell", "--attach", &id])?;
    let shown = again.wait_for_text("3:").await?;
    assert!(shown.contains("2:two"), "{shown}");
    again.type_text("four\r").await?;
    again.wait_for_text("4:four").await?;
    again.press(Key::Ctrl('d')).await?;
    assert_eq!(again.wait_for_end().await?, 7);

    let recording = tunnel.recording_id.context("it is recorded")?;
    let recording: Recording = fleet.api().get(&format!("@/recordings/{recording}")).await?;
    assert!(recording.has_input, "{recording:?}");
    Ok(())
}

#[tokio::test]
async fn a_session_that_is_ended_with_its_escape_is_closed() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let mut shell = on_terminal(&fleet, &["shell", "pi-1", "--", "sh", "-c", NUMBERED])?;
    shell.wait_for_text("ready").await?;
    let tunnel = newest(&fleet).await?;
    assert_eq!(tunnel.recording_id, None);
    shell.type_text("~?").await?;
    shell.wait_for_text("~d leave it running").await?;
    shell.type_text("\r~.").await?;
    assert_eq!(shell.wait_for_end().await?, 255);
    let over = wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    assert_eq!(over.close_reason, Some(CloseCode::ClosedByUser));
    Ok(())
}

#[tokio::test]
async fn who_is_idle_is_told_before_the_end_and_then_why() -> Result<()> {
    let args = ["--tunnel-idle-s", "4"].map(str::to_owned).to_vec();
    let fleet = Fleet::start_with(ServerOptions { args, ..ServerOptions::default() }).await?;
    let _device = fleet.device("pi-1").await?;
    for (args, warning) in [
        (&["exec", "pi-1", "--", "sleep", "600"][..], "idle; it ends in"),
        (&["shell", "pi-1", "--", "sleep", "600"], "idle: the session ends in"),
    ] {
        let mut terminal = on_terminal(&fleet, args)?;
        terminal.wait_for_text(warning).await?;
        assert_eq!(terminal.wait_for_end().await?, 255, "{args:?}");
        terminal.wait_for_text("nothing happened for too long").await?;
    }
    let over: Vec<Tunnel> = fleet.api().list("@/tunnels").await?;
    let reasons: Vec<_> = over.iter().map(|tunnel| (tunnel.status, tunnel.close_reason)).collect();
    assert_eq!(reasons, [(TunnelStatus::Closed, Some(CloseCode::IdleTimeout)); 2]);
    Ok(())
}

#[tokio::test]
async fn a_program_that_heeds_no_interrupt_is_ended_by_the_third() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let stubborn = "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done";
    let args = ["exec", "pi-1", "--", "sh", "-c", stubborn];
    let mut child = cli::quarterdeck(&fleet, fleet.api(), &args)?.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id().context("it runs")?)?);
    let mut stdout = child.stdout.take().context("no stdout")?;
    let mut heard = String::new();
    for expected in ["ready\n", "ready\nno\n", "ready\nno\nno\n"] {
        while heard != expected {
            let mut chunk = [0; 64];
            let length = in_time(expected, stdout.read(&mut chunk)).await??;
            assert!(length > 0, "ended after {heard:?}");
            heard.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
        kill(pid, Signal::SIGINT)?;
    }
    let ended = in_time("its end", child.wait()).await??;
    assert_eq!(ended.code(), Some(255));
    let all: Vec<Tunnel> = fleet.api().list("@/tunnels").await?;
    assert_eq!(all[0].close_reason, Some(CloseCode::ClosedByUser));
    Ok(())
}

#[tokio::test]
async fn a_program_whose_output_nobody_reads_any_more_is_ended() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    for tty in [&["exec"][..], &["exec", "--tty"]] {
        let args = [tty, &["pi-1", "--", "yes"]].concat();
        let mut child =
            cli::quarterdeck(&fleet, fleet.api(), &args)?.stdin(Stdio::piped()).spawn()?;
        let mut stdout = child.stdout.take().context("no stdout")?;
        let mut some = [0; 4];
        in_time("some of it", stdout.read_exact(&mut some)).await??;
        drop(stdout);
        let ended = in_time("its end", child.wait()).await??;
        assert_eq!(ended.code(), Some(128 + 13), "{args:?}");
        wait_for("its tunnel to be over", || async {
            let open: Vec<Tunnel> = fleet.api().list("@/tunnels?status=open").await?;
            Ok(if open.is_empty() { Look::Ready(()) } else { Look::not_yet(open.len()) })
        })
        .await?;
    }
    Ok(())
}
