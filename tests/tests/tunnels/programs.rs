//! Programs that draw on the whole screen: in a pane they look as in another terminal.
//!
//! ```text
//!  program ── PTY of the device ── tunnel ──▶ its bytes ─┬─▶ quarterdeck debug pane ──▶ rows
//!  keys ─────────────────────────────▲                   └─▶ tmux, for reference ─────▶ rows
//! ```
//!
//! Both are given the same bytes, wherever those end: there is nothing to wait for
//! but what a program is to have drawn by then.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};
use quarterdeck_tests::{
    Fleet, cli, services,
    tunnel::Console,
    wait::{Look, wait_for},
};
use serde_json::json;

const COLS: u16 = 80;
const ROWS: u16 = 24;

/// A tmux server at a socket of our own, which ends with the test.
struct Tmux {
    program: PathBuf,
    socket: PathBuf,
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if self.socket.exists() {
            let _ = self.tmux(&["kill-server"]).output();
        }
    }
}

impl Tmux {
    fn tmux(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-u").arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(args);
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").stdin(Stdio::null());
        command
    }

    async fn output(&self, args: &[&str]) -> Result<Output> {
        Ok(tokio::process::Command::from(self.tmux(args)).output().await?)
    }

    /// Shows what is in a file, and waits until the screen is as expected.
    async fn must_show(&self, file: &Path, expected: &[String]) -> Result<()> {
        let (width, height) = (COLS.to_string(), ROWS.to_string());
        let show = format!("stty raw -echo; cat '{}'; exec sleep 600", file.display());
        let begin = ["new-session", "-d", "-x", &width, "-y", &height, "cat"];
        let off = [";", "set", "-g", "status", "off"];
        // Without its own line it has all rows; only then is anything shown in it.
        let size = [";", "resize-window", "-x", &width, "-y", &height];
        let run = [";", "respawn-pane", "-k", "sh", "-c", &show];
        let started = self.output(&[&begin[..], &off, &size, &run].concat()).await?;
        anyhow::ensure!(started.status.success(), "{started:?}");
        wait_for("the same rows in tmux", || async {
            let shown = self.output(&["capture-pane", "-p"]).await?;
            let shown = rows(&String::from_utf8_lossy(&shown.stdout));
            let differing = (0..usize::from(ROWS)).find(|at| shown.get(*at) != expected.get(*at));
            Ok(match differing {
                None => Look::Ready(()),
                Some(at) => Look::not_yet(format!(
                    "row {at}: {:?}, and in a pane {:?}",
                    shown.get(at),
                    expected.get(at)
                )),
            })
        })
        .await
    }
}

/// The rows of a screen, without what is blank at their ends.
fn rows(text: &str) -> Vec<String> {
    let mut rows: Vec<_> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    rows.resize(usize::from(ROWS), String::new());
    rows
}

/// Runs a program in a terminal of a device, types what is to be typed when it shows what it is
/// to show before, and compares its picture with that of tmux.
async fn same_picture(argv: &[&str], steps: &[(&str, &str)], last: &str) -> Result<()> {
    let Some(program) = services::require(argv[0])? else { return Ok(()) };
    let fleet = Fleet::start().await?;
    let Some(tmux) = services::require("tmux")? else { return Ok(()) };
    let tmux_at = |name| Tmux { program: tmux.clone(), socket: fleet.file(name) };
    let (reference, inner) = (tmux_at("reference.sock"), tmux_at("inner.sock"));
    let _device = fleet.device("pi-1").await?;
    let lines: Vec<_> = (1..=200).map(|n| format!("line {n} of the text\n")).collect();
    let file = fleet.file("text");
    std::fs::write(&file, lines.concat())?;
    let argv: Vec<_> = std::iter::once(program.to_string_lossy().into_owned())
        .chain(argv[1..].iter().map(|word| {
            word.replace("TEXT", &file.to_string_lossy())
                .replace("SOCKET", &inner.socket.to_string_lossy())
        }))
        .collect();
    let request = json!({
        "device_id": "pi-1", "kind": "terminal", "argv": argv, "cols": COLS, "rows": ROWS,
        "env": { "LC_ALL": "C.UTF-8", "HOME": fleet.folder() },
    });
    let (_, console) = Console::create(fleet.api(), &request).await?;
    for (shown, keys) in steps {
        console.shows(shown).await?;
        console.write(*keys).await?;
    }
    console.shows(last).await?;
    let bytes = console.output();
    let drawn = fleet.file("drawn");
    std::fs::write(&drawn, &bytes)?;
    let pane = cli::quarterdeck(
        &fleet,
        fleet.api(),
        &["debug", "pane", &COLS.to_string(), &ROWS.to_string()],
    )?;
    let pane = cli::feed(pane, bytes).await?;
    let shown = rows(&String::from_utf8(pane.stdout).context("text")?);
    assert!(shown.iter().any(|row| !row.is_empty()), "an empty picture");
    reference.must_show(&drawn, &shown).await
}

#[tokio::test]
async fn vim_looks_as_in_another_terminal() -> Result<()> {
    let argv = ["vim", "-u", "NONE", "-N", "-n", "-c", "set ruler showmode", "TEXT"];
    let steps = [
        ("line 1 of", ":split\r"),
        // It draws what differs; with ^L all of it.
        (":split", "100Gzz\x0c"),
        ("line 100 of", "ddOwritten in between\x1b\x0c"),
        ("written in between", ":vsplit\r/line 150\r\x0c"),
        ("line 150 of", ":set number hlsearch\r\x0c"),
        ("hlsearch", "iAT THE END"),
    ];
    same_picture(&argv, &steps, "AT THE END").await
}

#[tokio::test]
async fn less_looks_as_in_another_terminal() -> Result<()> {
    let steps = [
        ("line 1 of", " "),
        ("line 40 of", "/line 77\r"),
        ("line 90 of", "kkkk"),
        ("line 73 of", "-N\r"),
        ("     73", "G"),
    ];
    same_picture(&["less", "TEXT"], &steps, "200 line 200").await
}

#[tokio::test]
async fn top_looks_as_in_another_terminal() -> Result<()> {
    same_picture(&["top", "-d", "0.2"], &[("load average", "t"), ("PID", "z")], "COMMAND").await
}

#[tokio::test]
async fn htop_looks_as_in_another_terminal() -> Result<()> {
    same_picture(&["htop", "-d", "2"], &[("Load average", "t"), ("F10", "\x1bOQ")], "Setup").await
}

#[tokio::test]
async fn a_tmux_looks_as_in_another_terminal() -> Result<()> {
    let argv = ["tmux", "-u", "-S", "SOCKET", "-f", "/dev/null", "new-session", "sh"];
    let steps = [
        ("[0]", "echo on the le''ft\r"),
        ("on the left", "\x02%"),
        ("\u{2502}", "echo on the ri''ght\r"),
        ("on the right", "\x02\""),
        ("\u{2500}", "seq 1 40; echo al''l\r"),
    ];
    same_picture(&argv, &steps, "all").await
}
