//! The console on a real terminal, by keyboard alone.

use anyhow::{Context, Result};
use quarterdeck_protocol::{api::Role, command::CommandStatus};
use quarterdeck_tests::{
    Fleet,
    api::Api,
    binaries,
    pty::{Key, Terminal, TerminalBuilder},
};

fn console(fleet: &Fleet, api: &Api, cols: u16, rows: u16, args: &[&str]) -> Result<Terminal> {
    TerminalBuilder::new(&binaries::find()?.console)
        .args(args.iter().copied())
        .env("QUARTERDECK_SERVER", fleet.api().base())
        .env("QUARTERDECK_TOKEN", api.token())
        .env("HOME", fleet.folder().to_string_lossy())
        .env("XDG_CONFIG_HOME", fleet.file("config").to_string_lossy())
        .size(cols, rows)
        .start()
}

/// Goes somewhere by the palette.
async fn palette(console: &mut Terminal, what: &str) -> Result<()> {
    console.type_text(":").await?;
    console.type_text(what).await?;
    console.wait_for_text(what).await?;
    console.press(Key::Enter).await
}

#[tokio::test]
async fn an_operator_sends_a_command_by_keyboard_and_watches_it_complete() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let operator = fleet.api().member("ops-1", Role::Operator).await?;
    let mut console = console(&fleet, &operator, 120, 36, &[])?;
    console.wait_for_text("LIVE").await?;

    console.type_text("n").await?;
    console.wait_for_text("pi-1").await?;
    console.type_text(" ").await?;
    console.press(Key::Ctrl('n')).await?;
    console.wait_for_text("Ping").await?;
    console.press(Key::Enter).await?;
    console.wait_for_text("riority").await?;
    console.press(Key::Ctrl('n')).await?;
    console.wait_for_text("quarterdeck run ping").await?;
    console.press(Key::Enter).await?;

    console.wait_for_text("completed").await?;
    let commands: Vec<quarterdeck_protocol::api::Command> = fleet.api().list("@/commands").await?;
    let command = commands.first().context("nothing was sent")?;
    assert_eq!((commands.len(), command.kind.as_str()), (1, "ping"));
    assert_eq!((command.status, command.created_by.as_str()), (CommandStatus::Completed, "ops-1"));

    palette(&mut console, "quit").await?;
    assert_eq!(console.wait_for_end().await?, 0);
    Ok(())
}

#[tokio::test]
async fn each_screen_is_reached_by_its_name_at_every_size() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    for (cols, rows) in [(40, 12), (80, 24), (200, 50)] {
        let mut console = console(&fleet, fleet.api(), cols, rows, &[])?;
        console.wait_for_text("LIVE").await?;
        for screen in ["devices", "commands", "alerts", "audit", "users", "overview"] {
            palette(&mut console, screen).await?;
            let title = format!("{}{}", screen[..1].to_uppercase(), &screen[1..]);
            console
                .wait_for_screen(&format!("{title} at {cols}×{rows}"), |text| {
                    text.contains(&title) && !text.contains(&format!(":{screen}"))
                })
                .await?;
        }
        console.type_text("q").await?;
        assert_eq!(console.wait_for_end().await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_viewer_is_offered_nothing_that_changes_anything() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let viewer = fleet.api().member("viewer", Role::Viewer).await?;
    let mut console = console(&fleet, &viewer, 120, 36, &[])?;
    console.wait_for_text("LIVE").await?;
    palette(&mut console, "devices").await?;
    console.wait_for_text("pi-1").await?;
    for keys in ["n", "R", "a"] {
        console.type_text(keys).await?;
        console.press(Key::Escape).await?;
    }
    console.type_text("q").await?;
    console.wait_for_end().await?;
    assert_eq!(fleet.api().count("@/commands").await?, 0);
    assert!(fleet.api().device("pi-1").await?.retired_at.is_none());
    Ok(())
}

#[tokio::test]
async fn a_lost_server_is_said_and_a_returned_one_is_live_again() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let console = console(&fleet, fleet.api(), 120, 36, &[])?;
    console.wait_for_text("LIVE").await?;
    fleet.server().kill_9();
    let said = |text: &str| text.contains("STALE") || text.contains("LOST");
    console.wait_for_screen("the loss to be said", said).await?;
    fleet.server().start_again().await?;
    console.wait_for_text("LIVE").await?;
    Ok(())
}

#[tokio::test]
async fn the_terminal_is_left_as_it_was_found() -> Result<()> {
    let fleet = Fleet::start().await?;
    let program = binaries::find()?.console.to_string_lossy().into_owned();
    let mut shell = TerminalBuilder::new("/bin/sh")
        .env("QUARTERDECK_SERVER", fleet.api().base())
        .env("QUARTERDECK_TOKEN", fleet.api().token())
        .env("HOME", fleet.folder().to_string_lossy())
        .env("PS1", "")
        .start()?;
    shell.type_text(&format!("stty -g; {program}; echo; stty -g; echo back-$((1+1))\r")).await?;
    shell.wait_for_text("LIVE").await?;
    shell.type_text("q").await?;
    let screen = shell.wait_for_text("back-2").await?;
    let modes: Vec<&str> = screen.lines().filter(|line| line.matches(':').count() > 20).collect();
    assert!(modes.len() >= 2 && modes[0] == modes[1], "{screen}");
    let raw = String::from_utf8_lossy(&shell.raw()).into_owned();
    for (set, reset) in [("\u{1b}[?1049h", "\u{1b}[?1049l"), ("\u{1b}[?25l", "\u{1b}[?25h")] {
        let (set, reset) = (raw.rfind(set), raw.rfind(reset));
        assert!(reset >= set, "{set:?} is left on");
    }
    Ok(())
}

#[tokio::test]
async fn the_wall_takes_no_key_and_changes_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let mut wall = console(&fleet, fleet.api(), 120, 36, &["--wall", "--read-only"])?;
    wall.wait_for_screen("the wall", |text| text.to_uppercase().contains("ONLINE")).await?;
    wall.type_text("nRC").await?;
    wall.press(Key::Enter).await?;
    wall.wait_for_text("LIVE").await?;
    assert_eq!(fleet.api().count("@/commands").await?, 0);
    Ok(())
}
