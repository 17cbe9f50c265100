//! One command: what was asked, how far it is, what came of it.

use std::collections::BTreeSet;

use quarterdeck_protocol::{
    api::Command,
    command::{CommandStatus, Priority},
    ids::CommandId,
    time::Timestamp,
};
use ratatui::layout::Rect;
use serde_json::Value;

use super::cells;
use crate::tui::{
    app::{App, msg::Layout, subjects, tabs::CommandTab, taking},
    format,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_left, cut_top, width},
        json::{self, JsonLine},
        texts::{self, Line},
        widgets::{bars, panel, table},
    },
};

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, id: CommandId, layout: &mut Layout) {
    let mut rest = area;
    let window = app.store.window(WindowKey::CommandRow);
    let Some(found) = window.find(&id.to_string()).and_then(|row| row.command()) else {
        panel::empty(canvas, rest, app, window, &["There is no such command.", "Esc goes back."]);
        return;
    };
    let line = cut_top(&mut rest, 1);
    headline(canvas, line, app, found);
    if rest.height > 10 {
        cut_top(&mut rest, 1);
    }
    let line = cut_top(&mut rest, 1);
    panel::tabs(canvas, line, CommandTab::TITLES, app.tabs.command.index(), layout);
    if rest.height > 8 {
        cut_top(&mut rest, 1);
    }
    if app.tabs.command == CommandTab::Timeline {
        let key = WindowKey::CommandTimeline;
        let none = ["Nothing has happened to this command yet."];
        let look = table::Look { key, title: "Timeline (UTC)", focused: true, none: &none };
        table::draw(canvas, rest, app, look, layout, cells::timeline);
        return;
    }
    cut_left(&mut rest, 2);
    let mut text = texts::lines(app);
    if text.is_empty() {
        let said = match app.tabs.command {
            CommandTab::Logs if found.status.is_terminal() => "It wrote nothing.",
            CommandTab::Logs => "No output yet; it is shown here as it comes.",
            CommandTab::Response => "No response yet.",
            _ => "",
        };
        text.push(Line::new(said, Tone::Muted));
    }
    texts::draw(canvas, rest, app, text, layout);
}

/// What it is, where, and how far: on one line.
fn headline(canvas: &mut Canvas<'_>, area: Rect, app: &App, command: &Command) {
    let badge = app.theme.command(command.status);
    let name = cells::operation(app, &command.kind);
    let x = canvas.put(area.x + 2, area.y, &name, Tone::Strong);
    let x = canvas.put(x + 1, area.y, "on", Tone::Muted);
    let x = canvas.put(x + 1, area.y, command.device_id.as_str(), Tone::Accent);
    let status = format!("{} {}", badge.glyph, badge.word);
    let unicode = app.theme.unicode;
    let x = x + 3;
    if x + width(&status, unicode) > area.right() {
        return;
    }
    let mut x = canvas.put(x, area.y, &status, badge.tone);
    if let Some(doing) = app.calls.doing(&command.id.to_string()) {
        let text = format!("  {} {doing} asked, not confirmed yet", app.theme.glyphs.pending);
        canvas.put(x, area.y, &text, Tone::Warn);
        return;
    }
    if command.cancel_requested_at.is_some() && !command.status.is_terminal() {
        let text = format!("  {} asked to stop", app.theme.glyphs.pending);
        x = canvas.put(x, area.y, &text, Tone::Warn);
    }
    if let Some(progress) = cells::progress(command) {
        let room = area.right().saturating_sub(x + 9).min(30);
        if room >= 6 {
            let bar = Rect::new(x + 2, area.y, room, 1);
            bars::bar(canvas, bar, u64::from(progress), 100, badge.tone);
            canvas.put(x + 3 + room, area.y, &format!("{progress}%"), Tone::Muted);
        }
    }
}

fn fact(out: &mut Vec<Line>, label: &str, value: impl Into<String>, tone: Tone) {
    out.push(Line(vec![(format!("{label:<14}"), Tone::Muted), (value.into(), tone)]));
}

/// What is known of a command, as lines.
pub fn overview(app: &App, command: &Command) -> Vec<Line> {
    let now = app.server_now();
    let mut out = Vec::new();
    let badge = app.theme.command(command.status);
    fact(&mut out, "Status", format!("{} {}", badge.glyph, command.status.as_str()), badge.tone);
    if let Some(state) = &command.state {
        fact(&mut out, "State", state, Tone::Text);
    }
    if let Some(step) = &command.step {
        fact(&mut out, "Step", step, Tone::Text);
    }
    if let Some(code) = &command.error_code {
        let message = command.error_message.as_deref().unwrap_or_default();
        fact(&mut out, "Error", format!("{code}: {message}"), Tone::Bad);
    }
    if let Some(exit) = command.exit_code {
        let tone = if exit == 0 { Tone::Text } else { Tone::Bad };
        fact(&mut out, "Exit code", exit.to_string(), tone);
    }
    if let Some(until) = command.blocked_until {
        let text = format!("a new one may go at {}", format::utc_and_local(until, &app.zone));
        fact(&mut out, "Blocked", text, Tone::Warn);
    }
    let mut device = vec![("Device        ".to_owned(), Tone::Muted)];
    device.push((command.device_id.to_string(), Tone::Accent));
    let status = command.device_status.map(|status| app.theme.device(status)).or_else(|| {
        let device = subjects::device(app, command.device_id.as_str())?;
        Some(app.theme.presence(device))
    });
    if let Some(badge) = status {
        device.push((format!("   {} {}", badge.glyph, badge.word), badge.tone));
    }
    out.push(Line(device));
    fact(&mut out, "By", &command.created_by, Tone::Text);
    if !command.notes.is_empty() {
        fact(&mut out, "Notes", &command.notes, Tone::Text);
    }
    let band = Priority::try_from(command.priority).map_or("", Priority::band);
    fact(&mut out, "Priority", format!("{} {band}", command.priority), Tone::Text);
    let time_out = format::duration_ms(i64::from(command.timeout_s) * 1000);
    fact(&mut out, "Time-out", time_out, Tone::Text);
    let attempt = match command.retry_of {
        Some(of) => format!("{}, retry of {of}", command.attempt),
        None => command.attempt.to_string(),
    };
    fact(&mut out, "Attempt", attempt, Tone::Text);
    out.push(Line::default());
    times(app, command, now, &mut out);
    out.push(Line::default());
    fact(&mut out, "Id", command.id.to_string(), Tone::Muted);
    fact(&mut out, "Batch", command.batch_id.to_string(), Tone::Muted);
    fact(&mut out, "Command line", app.cli_line(&taking::again(command)), Tone::Muted);
    out
}

/// The way of a command through its statuses.
fn times(app: &App, command: &Command, now: Timestamp, out: &mut Vec<Line>) {
    let mut before: Option<Timestamp> = None;
    let ended = command.status.as_str();
    let steps = [
        ("created", Some(command.created_at)),
        ("published", command.published_at),
        ("accepted", command.accepted_at),
        ("started", command.started_at),
        (ended, command.finished_at),
    ];
    for (name, at) in steps {
        let Some(at) = at else { continue };
        let since = before.map_or_else(String::new, |before| {
            format!("   +{}", format::duration_ms(at.millis_since(before)))
        });
        let text = format!("{}{since}", format::utc_and_local(at, &app.zone));
        let is_end = name == ended && command.status.is_terminal();
        let tone = if is_end { app.theme.command(command.status).tone } else { Tone::Text };
        fact(out, &name.replace('_', " "), text, tone);
        before = Some(at);
    }
    if command.status == CommandStatus::Queued {
        let left = command.expires_at.millis_since(now);
        let text = if left > 0 {
            format!("in {} unless its device comes", format::age_ms(left))
        } else {
            "now".to_owned()
        };
        fact(out, "expires", text, Tone::Muted);
    }
}

/// What the device answered, as JSON.
pub fn response(app: &App, command: &Command, folded: &BTreeSet<String>) -> Vec<JsonLine> {
    let mut out = Vec::new();
    if let Some(code) = &command.error_code {
        let text = format!(
            "{} {code}: {}",
            app.theme.glyphs.no,
            command.error_message.as_deref().unwrap_or_default()
        );
        out.push(JsonLine::beside(Line::new(text, Tone::Bad)));
    }
    match &command.result {
        Some(Value::Null) | None => {}
        Some(result) => out.extend(json::lines(result, folded)),
    }
    if let Some(exit) = command.exit_code {
        let tone = if exit == 0 { Tone::Good } else { Tone::Bad };
        out.push(JsonLine::beside(Line::new(format!("exit code {exit}"), tone)));
    }
    out
}
