//! The console over 100,000 devices while 50,000 rows change each second.
//!
//! The real program on a real terminal of 200 by 50, on a fleet in memory over
//! real HTTP and WebSocket. Times are taken where the operator sits: from the
//! key's byte into the terminal to the last byte of the frame that shows what
//! it did. Beside it, in the same run and at the same load: what the terminal
//! itself takes to echo a byte, what a bare client takes to its first rows, and
//! what ratatui's stock backend writes for the very same screens.

mod stock;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::{
    live::{Listing, ServerMessage},
    time::Timestamp,
};
use quarterdeck_tests::{
    api::Api,
    binaries, clock,
    fake::{
        FakeFleet, FakeServer, PROJECT,
        churn::{Churn, Moving},
        server::Pace,
    },
    live::Live,
    pty::{Key, Terminal, TerminalBuilder},
    report::{Options, Report, Wanted, median, percentile, resident_bytes},
    wait::{Look, wait_for},
};
use stock::Stock;

const COLS: u16 = 200;
const ROWS: u16 = 50;
const DEVICES: u64 = 100_000;
/// Ages on the screen are whole hours: none of them moves while bytes are counted.
const QUIET_S: u64 = 5 * 3600 + 1800;
/// A screen that wrote nothing for so long has come to rest.
const REST: Duration = Duration::from_millis(700);
/// A frame of which nothing came for so long is whole: what follows is of another.
const WHOLE: Duration = Duration::from_millis(60);

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(Options::from_args()))
}

async fn run(options: Options) -> Result<ExitCode> {
    let rate = options.pick(5_000, 50_000);
    let mut report = Report::new(
        options,
        &format!("the console over {DEVICES} devices, {rate} rows change each second"),
    );
    binaries::find()?;
    let now = i64::try_from(clock::wall().as_millis())?;
    let mut fleet = FakeFleet::new(Timestamp::from_millis(now), 240, 0);
    (fleet.rows, fleet.quiet_s) = (Some(DEVICES), Some(QUIET_S));
    let server = FakeServer::start(fleet).await;

    let mut console = starts(&server, &mut report, options.pick(2, 15)).await?;
    // Before rows change: their ages would move in the middle of it.
    scrolling(&mut console, &mut report, options.pick(5, 60)).await?;
    keys_under_load(&server, &mut console, &mut report, rate, options.pick(40, 1_000)).await?;
    let watched = Duration::from_secs(options.pick(1, 10));
    nothing_visible(&server, &mut console, &mut report, rate, watched).await?;
    server.set_pace(Pace::default());
    let pid = console.pid().context("the console has ended")?;
    let resident = resident_bytes(pid)? as f64 / 1e6;
    report.promised("resident", resident, "MB", Wanted::AtMost(60.0));
    drop(console);
    slow_link(&server, &mut report, options.pick(5, 30)).await?;
    Ok(report.finish())
}

fn console(server: &FakeServer, args: &[&str]) -> Result<Terminal> {
    let home = std::env::temp_dir().join("quarterdeck-no-home").to_string_lossy().into_owned();
    TerminalBuilder::new(&binaries::find()?.console)
        .args(args.iter().copied())
        .env("QUARTERDECK_SERVER", server.url())
        .env("QUARTERDECK_TOKEN", server.token())
        .env("QUARTERDECK_PROJECT", PROJECT)
        .env("HOME", home.as_str())
        .env("XDG_CONFIG_HOME", home.as_str())
        .env("XDG_STATE_HOME", home.as_str())
        .size(COLS, ROWS)
        .start()
}

/// Opens a console on the devices' screen.
async fn on_devices(server: &FakeServer, args: &[&str]) -> Result<(Terminal, Duration)> {
    let begun = clock::now();
    let mut console = console(server, args)?;
    // Typed ahead: a terminal keeps it until somebody reads.
    console.type_text("2").await?;
    let is_there = |screen: &vt100::Screen| screen.contents().contains("node-000000.");
    let at = console.wait_for_frame("a device's row", is_there).await?;
    Ok((console, at - begun))
}

/// From nothing to a device's row; gives the last console.
async fn starts(server: &FakeServer, report: &mut Report, count: usize) -> Result<Terminal> {
    let (mut took, mut floor) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..count {
        let (console, time) = on_devices(server, &[]).await?;
        took.push(millis(time));
        floor.push(millis(bare_client(server).await?));
        last = Some(console);
    }
    let worst = percentile(&took, 100.0);
    report.line("start to the first device's row, median", median(&took), "ms");
    report.promised("  worst", worst, "ms", Wanted::AtMost(150.0));
    report.line("a bare client's first rows, median", median(&floor), "ms");
    last.context("no console was started")
}

/// What the wire alone takes: ticket, WebSocket, hello, subscription, rows.
async fn bare_client(server: &FakeServer) -> Result<Duration> {
    let api = Api::new(server.url())?.with_token(server.token()).in_project(PROJECT);
    let begun = clock::now();
    let mut live = Live::open(&api).await?;
    live.subscribe(1, Listing::Devices, &[]).await?;
    while !matches!(live.next().await?, ServerMessage::Snapshot { .. }) {}
    Ok(begun.elapsed())
}

/// Which row the cursor is on, as the rule above the table says: `17 of 100 000`.
fn position(screen: &vt100::Screen) -> Option<String> {
    let row = screen.rows(0, COLS).take(4).find(|row| row.contains(" of 100 000"))?;
    let (before, _) = row.split_once(" of 100 000")?;
    Some(before.rsplit("  ").next()?.trim_matches(['─', ' ']).to_owned())
}

/// Presses a key that moves the cursor; gives when its frame was there.
async fn press(console: &mut Terminal, key: Key) -> Result<Instant> {
    let before = console.look(position);
    ensure!(before.is_some(), "no position on the screen:\n{}", console.text());
    console.press(key).await?;
    let has_moved = |screen: &vt100::Screen| {
        let now = position(screen);
        now.is_some() && now != before
    };
    console.wait_for_frame("the cursor to move", has_moved).await
}

/// From the key to the frame that shows what it did, while rows change.
async fn keys_under_load(
    server: &FakeServer,
    console: &mut Terminal,
    report: &mut Report,
    rate: u64,
    count: usize,
) -> Result<()> {
    server.set_pace(churning(rate, Moving::Seen));
    let mut echo = TerminalBuilder::new("/bin/cat").size(COLS, ROWS).start()?;
    let (mut keys, mut echoes) = (Vec::new(), Vec::new());
    let (churned, written, since) = (server.churned(), console.bytes_written(), clock::now());
    for n in 0..count {
        let key = match n % 10 {
            3 => Key::PageDown,
            7 => Key::PageUp,
            9 => Key::Up,
            _ => Key::Down,
        };
        let begun = clock::now();
        keys.push(millis(press(console, key).await? - begun));

        let (column, begun) = (echo.look(vt100::Screen::cursor_position), clock::now());
        echo.type_text("x").await?;
        let has_moved = |screen: &vt100::Screen| screen.cursor_position() != column;
        echoes.push(millis(echo.wait_for_frame("the echo", has_moved).await? - begun));
        if n % 64 == 63 {
            // A terminal keeps 4,096 bytes of a line that nobody ends.
            echo.press(Key::Enter).await?;
        }
        // Not in step with frames, nor with messages.
        tokio::time::sleep(Duration::from_millis(11 + (n as u64 * 17) % 43)).await;
    }
    let seconds = since.elapsed().as_secs_f64();
    let rows = (server.churned() - churned) as f64 / seconds;
    let bytes = (console.bytes_written() - written) as f64 / seconds;
    report.promised("rows changed", rows, "rows/s", Wanted::AtLeast(0.97 * rate as f64));
    report.line("written meanwhile", bytes / 1e3, "KB/s");
    report.line("key to frame, p50", percentile(&keys, 50.0), "ms");
    report.promised("  p99", percentile(&keys, 99.0), "ms", Wanted::AtMost(16.0));
    report.line("the terminal's own echo, p50", percentile(&echoes, 50.0), "ms");
    report.line("  p99", percentile(&echoes, 99.0), "ms");
    Ok(())
}

/// As many rows change, in what no column shows.
async fn nothing_visible(
    server: &FakeServer,
    console: &mut Terminal,
    report: &mut Report,
    rate: u64,
    watched: Duration,
) -> Result<()> {
    server.set_pace(churning(rate, Moving::Unseen));
    rest(console, REST).await?;
    let (before, churned) = (console.bytes_written(), server.churned());
    // The one place where nothing happening is what is watched.
    tokio::time::sleep(watched).await;
    let written = console.bytes_written() - before;
    ensure!(server.churned() > churned, "no row has changed");
    report.promised(
        "written while nothing visible changes",
        written as f64,
        "bytes",
        Wanted::AtMost(0.0),
    );
    Ok(())
}

/// Waits until a screen has come to rest.
async fn rest(console: &Terminal, time: Duration) -> Result<()> {
    let mut last = (console.bytes_written(), clock::now());
    wait_for("the screen to come to rest", || {
        let written = console.bytes_written();
        if written != last.0 {
            last = (written, clock::now());
        }
        let is_still = last.1.elapsed() >= time;
        let look = if is_still { Look::Ready(()) } else { Look::not_yet(written) };
        async move { Ok(look) }
    })
    .await
}

/// The bytes of moving down by a row while the view scrolls with the cursor.
async fn scrolling(console: &mut Terminal, report: &mut Report, count: usize) -> Result<()> {
    for _ in 0..ROWS {
        press(console, Key::Down).await?;
    }
    rest(console, REST).await?;
    let (ours, theirs) = bytes_of(console, Key::Down, count).await?;
    report.line("a row of scrolling, median", median(&ours), "bytes");
    report.promised("  worst", percentile(&ours, 100.0), "bytes", Wanted::AtMost(400.0));
    report.line("ratatui's stock backend, median", median(&theirs), "bytes");
    Ok(())
}

/// The bytes of moving the cursor by a row on a slow link: fewer times than the table has rows, so that nothing scrolls.
async fn slow_link(server: &FakeServer, report: &mut Report, count: usize) -> Result<()> {
    let (mut console, _) = on_devices(server, &["--low-bandwidth"]).await?;
    rest(&console, REST).await?;
    let (ours, theirs) = bytes_of(&mut console, Key::Down, count).await?;
    report.line("cursor down, --low-bandwidth, median", median(&ours), "bytes");
    report.promised("  worst", percentile(&ours, 100.0), "bytes", Wanted::AtMost(100.0));
    report.line("ratatui's stock backend, median", median(&theirs), "bytes");
    Ok(())
}

/// The bytes of each of some keys, and those of the stock backend for the same screens.
async fn bytes_of(console: &mut Terminal, key: Key, count: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut stock = Stock::new(COLS, ROWS)?;
    console.look(|screen| stock.draw(screen))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let before = console.bytes_written();
        press(console, key).await?;
        rest(console, WHOLE).await?;
        ours.push((console.bytes_written() - before) as f64);
        theirs.push(console.look(|screen| stock.draw(screen))? as f64);
    }
    Ok((ours, theirs))
}

fn churning(rows_per_second: u64, moving: Moving) -> Pace {
    Pace { churn: Some(Churn { rows_per_second, moving }), ..Pace::default() }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
