//! One device: what it is, how it is, what was done to it.

use quarterdeck_protocol::{api::Device, ids::DeviceId, time::Timestamp};
use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{App, msg::Layout, tabs::DeviceTab},
    format,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_left, cut_top},
        texts::{self, Line},
        widgets::{panel, table},
        words,
    },
};

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, id: &DeviceId, layout: &mut Layout) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    panel::tabs(canvas, line, DeviceTab::TITLES, app.tabs.device.index(), layout);
    if rest.height > 8 {
        cut_top(&mut rest, 1);
    }
    let window = app.store.window(WindowKey::DeviceRow);
    match app.tabs.device {
        DeviceTab::Overview | DeviceTab::Health => {
            if window.find(id.as_str()).is_none() {
                let none = ["There is no such device.", "Esc goes back."];
                panel::empty(canvas, rest, app, window, &none);
                return;
            }
            let mut text = rest;
            cut_left(&mut text, 2);
            texts::draw(canvas, text, app, texts::lines(app), layout);
        }
        DeviceTab::Commands => {
            let none = ["No commands for this device yet.", "n sends it one."];
            let key = WindowKey::DeviceCommands;
            let look = table::Look { key, title: "Commands", focused: true, none: &none };
            table::draw(canvas, rest, app, look, layout, cells::command);
        }
        DeviceTab::Timeline => {
            let none = ["Nothing has happened to this device yet."];
            let key = WindowKey::DeviceTimeline;
            let look = table::Look { key, title: "Timeline (UTC)", focused: true, none: &none };
            table::draw(canvas, rest, app, look, layout, cells::timeline);
        }
    }
}

/// A heading, label-and-value lines below it.
fn fact(out: &mut Vec<Line>, label: &str, value: impl Into<String>, tone: Tone) {
    out.push(Line(vec![(format!("{label:<18}"), Tone::Muted), (value.into(), tone)]));
}

fn heading(out: &mut Vec<Line>, title: &str) {
    if !out.is_empty() {
        out.push(Line::default());
    }
    out.push(Line::new(title, Tone::Accent));
}

fn moment(app: &App, at: Option<Timestamp>) -> String {
    match at {
        Some(at) => format!(
            "{} ago   {}",
            format::age(Some(at), app.server_now()),
            format::utc_and_local(at, &app.zone)
        ),
        None => "-".to_owned(),
    }
}

/// Everything that the server knows of a device, as lines.
pub fn overview(app: &App, device: &Device) -> Vec<Line> {
    let mut out = Vec::new();
    let badge = app.theme.presence(device);
    heading(&mut out, "Device");
    fact(&mut out, "Status", format!("{} {}", badge.glyph, badge.word), badge.tone);
    fact(&mut out, "Last seen", moment(app, device.last_seen_at), Tone::Text);
    if device.unheard_since.is_some() {
        let text = format!("{}: the server was cut off", moment(app, device.unheard_since));
        fact(&mut out, "Not heard since", text, Tone::Warn);
    }
    fact(&mut out, "Type", &device.kind, Tone::Text);
    fact(&mut out, "Agent", device.agent_version.as_deref().unwrap_or("-"), Tone::Text);
    fact(&mut out, "Contract", &device.contract, Tone::Muted);
    fact(&mut out, "Enrolled", moment(app, Some(device.enrolled_at)), Tone::Text);
    if device.retired_at.is_some() {
        fact(&mut out, "Retired", moment(app, device.retired_at), Tone::Warn);
    }
    heading(&mut out, "Health");
    let (health, tone) = cells::health_in_words(app, device);
    fact(&mut out, "Processes", health, tone);
    if let Some(failed) = &device.service_failed {
        let text = format!("{}: {}   {}", failed.unit, failed.reason, moment(app, Some(failed.at)));
        fact(&mut out, "Failed service", text, Tone::Bad);
    }
    let reconnects = device.broker_connection.reconnect_count;
    fact(&mut out, "Reconnects", format::count(reconnects), Tone::Text);
    if let Some(at) = device.broker_connection.last_disconnect_at {
        fact(&mut out, "Last disconnect", moment(app, Some(at)), Tone::Text);
    }
    if let Some(offset) = device.clock_offset_ms {
        let off = offset.abs() > quarterdeck_protocol::limits::CLOCK_SKEW_MAX_MS;
        let tone = if off { Tone::Warn } else { Tone::Text };
        let side = if offset < 0 { "behind" } else { "ahead" };
        let text = format!("{} {side}", format::duration_ms(offset.abs()));
        fact(&mut out, "Clock", text, tone);
    }
    fact(&mut out, "Open commands", format::count(device.open_commands), Tone::Text);
    let deployment = device.active_deployment.as_deref().unwrap_or("-");
    fact(&mut out, "Deployment", deployment, Tone::Text);
    heading(&mut out, "Tags");
    if device.tags.is_empty() {
        out.push(Line::new("none; T adds some", Tone::Muted));
    }
    for (name, value) in &device.tags {
        fact(&mut out, name, value, Tone::Text);
    }
    heading(&mut out, "Facts");
    for (name, value) in &device.facts {
        let (name, text) = words::named(name, value);
        fact(&mut out, &name, text, Tone::Text);
    }
    heading(&mut out, "Operations it knows");
    out.push(Line::new(device.capabilities.join("  "), Tone::Text));
    out
}
