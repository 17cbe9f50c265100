//! How fast a pane takes what a device writes, beside the `vt100` crate alone.
//!
//! Both remember 10,000 lines, as the crate does it itself and without; a pane is
//! looked at meanwhile, 60 times a second at that speed, as the console does. `echo` is what one
//! typed character costs the operator's own link, and `keys` how long the console
//! is busy between two looks at the keyboard while 16 panes are flooded. Times
//! are of the CPU, of one thread: what a pane costs, however busy the machine is.

use std::{fmt::Write as _, hint::black_box, num::NonZeroU16, process::ExitCode};

use anyhow::Result;
use quarterdeck_console::tui::{
    pane::{
        Pane,
        history::HISTORY_LINES,
        notices::Allowed,
        screen::PaneSize,
        widget::{self, View},
    },
    term::frame::{Abilities, Encoder},
    theme::{Depth, Theme, ThemeName},
};
use quarterdeck_tests::report::{Options, Report, Wanted, cpu_time, median};
use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

const ROWS: u16 = 50;
const COLS: u16 = 132;
/// What one message of a tunnel carries in bulk.
const CHUNK_BYTES: usize = 32 * 1024;
const FRAME_MS: usize = 16;
/// At 60 MB/s, 60 looks in a second.
const SEEN_EVERY_BYTES: usize = 1024 * 1024;
const THEME: Theme = Theme::new(ThemeName::Default, Depth::Indexed, true);

fn main() -> Result<ExitCode> {
    let options = Options::from_args();
    let title = format!("a pane of {COLS}×{ROWS} with {HISTORY_LINES} lines of scrollback");
    let mut report = Report::new(options, &title);
    let bytes = options.pick(1, 64) * 1024 * 1024;
    for (what, text, wanted) in [
        ("yes", "y\r\n".repeat(CHUNK_BYTES / 3), 60.0),
        ("yes, line feeds alone", "y\n".repeat(CHUNK_BYTES / 2), 60.0),
        ("a log", log(), 60.0),
        ("truecolor", truecolor(), 120.0),
    ] {
        throughput(&mut report, options, what, text.as_bytes(), bytes, wanted)?;
    }
    echo(&mut report);
    keys(&mut report, options)?;
    Ok(report.finish())
}

/// Prints megabytes a second of ours and of the crate's.
fn throughput(
    report: &mut Report,
    options: Options,
    what: &str,
    text: &[u8],
    bytes: usize,
    wanted: f64,
) -> Result<()> {
    let rounds = options.pick(1, 3);
    let mut ours = Vec::new();
    for _ in 0..rounds {
        let mut pane = Pane::new(PaneSize::new(ROWS, COLS), Allowed::default());
        let mut unseen = 0;
        ours.push(rate(text, bytes, |chunk| {
            drop(pane.feed(chunk));
            unseen += chunk.len();
            if unseen >= SEEN_EVERY_BYTES {
                unseen = 0;
                pane.refresh(0);
            }
        })?);
        pane.refresh(0);
        black_box(pane.display().look(0, 0));
    }
    report.promised(what, median(&ours), "MB/s", Wanted::AtLeast(wanted));
    for (name, lines) in [("vt100 alone", HISTORY_LINES), ("vt100 alone, no scrollback", 0)] {
        let side = |length| NonZeroU16::new(length).unwrap_or(NonZeroU16::MIN);
        let mut parser = vt100::Parser::new(side(ROWS), side(COLS), lines);
        // It is slower by far: a part of the bytes tells as much.
        let value = rate(text, bytes / 16, |chunk| parser.process(chunk))?;
        black_box(parser.screen().cursor_position());
        report.line(&format!("  {name}"), value, "MB/s");
    }
    Ok(())
}

/// Megabytes in a second of CPU time.
fn rate(text: &[u8], bytes: usize, mut take: impl FnMut(&[u8])) -> Result<f64> {
    let begun = cpu_time(std::process::id())?;
    let mut taken = 0;
    while taken < bytes {
        for chunk in text.chunks(CHUNK_BYTES) {
            take(chunk);
            taken += chunk.len();
        }
    }
    let used = cpu_time(std::process::id())?.saturating_sub(begun);
    Ok(taken as f64 / used.as_secs_f64() / 1e6)
}

/// A service's log, as such logs are: a time, a coloured level, some words.
fn log() -> String {
    let mut text = String::new();
    for n in 0..2000_u32 {
        let (colour, level) =
            [(32, "INFO "), (33, "WARN "), (31, "ERROR"), (36, "DEBUG")][(n * 7 % 4) as usize];
        write!(
            text,
            "\x1b[2m2026-11-21T06:{:02}:{:02}.{:06}Z\x1b[0m \x1b[{colour}m{level}\x1b[0m \
             gateway::sessions: request id={n} path=/api/v1/devices/{} took={}ms\r\n",
            n / 60 % 60,
            n % 60,
            n * 7919 % 1_000_000,
            n * 31,
            n % 97,
        )
        .expect("a string takes it");
    }
    text
}

/// A picture in half blocks, two colours a cell, again and again from the top.
fn truecolor() -> String {
    let mut text = String::new();
    for frame in 0..4_u32 {
        text.push_str("\x1b[H");
        for row in 0..u32::from(ROWS) {
            for col in 0..u32::from(COLS) {
                let (r, g, b) = ((col + frame) % 256, (row * 5) % 256, (row + col) % 256);
                write!(text, "\x1b[38;2;{r};{g};{b}m\x1b[48;2;{b};{r};{g}m▀")
                    .expect("a string takes it");
            }
            text.push_str(if row + 1 < u32::from(ROWS) { "\r\n" } else { "" });
        }
    }
    text
}

/// What the console keeps of the operator's terminal.
struct Terminal {
    encoder: Encoder,
    buffer: Buffer,
}

impl Terminal {
    fn new(width: u16, height: u16) -> Self {
        let abilities =
            Abilities { erases_with_background: true, scroll_regions: true, synchronized: true };
        let area = Rect { x: 0, y: 0, width, height };
        Self { encoder: Encoder::new(abilities), buffer: Buffer::empty(area) }
    }

    fn draw(&mut self, pane: &Pane, area: Rect) -> Option<Position> {
        let view = View { pane, top: None, selection: None, matches: &[], is_lost: false };
        widget::draw(&view, &THEME, area, &mut self.buffer)
    }
}

/// The bytes to the operator's terminal for one character that a shell echoes.
fn echo(report: &mut Report) {
    let mut pane = Pane::new(PaneSize::new(ROWS, COLS), Allowed::default());
    let mut terminal = Terminal::new(COLS, ROWS);
    let area = terminal.buffer.area;
    let mut most = 0;
    drop(pane.feed(b"\x1b[2J\x1b[31mlast line of a log\x1b[m\r\n$ "));
    for (n, byte) in b"ls -la /var/log".iter().enumerate() {
        drop(pane.feed(&[*byte]));
        pane.refresh(0);
        let cursor = terminal.draw(&pane, area);
        let bytes = terminal.encoder.encode(&terminal.buffer, cursor).len();
        // The first frame draws all there is.
        most = if n == 0 { 0 } else { most.max(bytes) };
    }
    report.promised("an echoed character", most as f64, "bytes", Wanted::AtMost(60.0));
}

/// The longest that a key waits while 16 visible panes take 1 MB/s each.
fn keys(report: &mut Report, options: Options) -> Result<()> {
    const SIDE: u16 = 4;
    let (width, height) = (50, 12);
    let mut panes: Vec<Pane> = (0..SIDE * SIDE)
        .map(|_| Pane::new(PaneSize::new(height, width), Allowed::default()))
        .collect();
    let mut terminal = Terminal::new(SIDE * width, SIDE * height);
    let frame_bytes = 1_000_000 * FRAME_MS / 1000;
    let texts = [log(), truecolor(), "y\r\n".repeat(10_000)];
    let mut turns = Vec::new();
    for turn in 0..options.pick(20, 600) {
        let begun = cpu_time(std::process::id())?;
        for (index, pane) in panes.iter_mut().enumerate() {
            let text = texts[index % texts.len()].as_bytes();
            let from = turn * frame_bytes % (text.len() - frame_bytes.min(text.len() - 1));
            drop(pane.feed(&text[from..(from + frame_bytes).min(text.len())]));
            pane.refresh(0);
        }
        for (index, pane) in (0_u16..).zip(&panes) {
            let (x, y) = (index % SIDE * width, index / SIDE * height);
            terminal.draw(pane, Rect { x, y, width, height });
        }
        black_box(terminal.encoder.encode(&terminal.buffer, None));
        let used = cpu_time(std::process::id())?.saturating_sub(begun);
        turns.push(used.as_secs_f64() * 1000.0);
    }
    turns.sort_by(f64::total_cmp);
    let at = |share: usize| turns[(turns.len() * share / 100).min(turns.len() - 1)];
    report.line("a turn with 16 flooded panes, median", at(50), "ms");
    report.promised("a key then waits, 99 of 100", at(99), "ms", Wanted::AtMost(16.0));
    Ok(())
}
