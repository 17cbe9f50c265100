//! All devices, and a peek at the one under the cursor.

use quarterdeck_protocol::api::Device;
use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{App, msg::Layout},
    format,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_bottom, cut_left, cut_top},
        widgets::{panel, table},
    },
};

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    let list = app.list(WindowKey::Devices);
    let device = app.peeked().and_then(|row| row.device());
    if area.height >= 18 && area.width >= 60 {
        let peek = cut_bottom(&mut rest, 7);
        if let Some(device) = device {
            draw_peek(canvas, peek, app, device);
        }
    }
    let filtered = ["No device matches the filter.", "Esc drops it."];
    let none = [
        "No devices yet.",
        "Make an enrolment token (e), then start an agent with it:",
        "quarterdeck-agent --server URL --token TOKEN",
    ];
    let none: &[&str] = if list.filter.is_empty() { &none } else { &filtered };
    let look = table::Look { key: WindowKey::Devices, title: "Devices", focused: true, none };
    table::draw(canvas, rest, app, look, layout, cells::device);
}

/// What one wants to know before one opens it.
fn draw_peek(canvas: &mut Canvas<'_>, area: Rect, app: &App, device: &Device) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    panel::rule(canvas, line, device.id.as_str(), "Enter opens", false);
    cut_left(&mut rest, 3);
    let now = app.server_now();
    let badge = app.theme.presence(device);
    let mut right = rest;
    let left = cut_left(&mut right, rest.width / 2);
    let status = format!("{} {}", badge.glyph, badge.word);
    let mut y = panel::fact(canvas, left, left.y, "Status", &status, badge.tone);
    let seen = device
        .last_seen_at
        .map_or_else(|| "never".to_owned(), |at| format!("{} ago", format::age(Some(at), now)));
    y = panel::fact(canvas, left, y, "Last seen", &seen, Tone::Text);
    let (health, tone) = cells::health_in_words(app, device);
    y = panel::fact(canvas, left, y, "Health", &health, tone);
    let open = format::plural(device.open_commands, "command");
    y = panel::fact(canvas, left, y, "Open", &open, Tone::Text);
    let deployment = device.active_deployment.as_deref().unwrap_or("-");
    panel::fact(canvas, left, y, "Deployment", deployment, Tone::Text);

    let mut y = panel::fact(canvas, right, right.y, "Type", &device.kind, Tone::Text);
    let tags = cells::tags(&device.tags, "");
    y = panel::fact(canvas, right, y, "Tags", &tags, Tone::Text);
    let agent = device.agent_version.as_deref().unwrap_or("-");
    y = panel::fact(canvas, right, y, "Agent", agent, Tone::Text);
    let facts: Vec<String> = ["os", "kernel", "arch", "hostname", "model"]
        .iter()
        .filter_map(|name| device.facts.get(*name))
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    y = panel::fact(canvas, right, y, "System", &facts.join("  "), Tone::Text);
    let reconnects = &device.broker_connection;
    let text = match reconnects.last_disconnect_at {
        Some(at) => format!(
            "{}, last {} ago",
            format::plural(reconnects.reconnect_count, "reconnect"),
            format::age(Some(at), now)
        ),
        None => format::plural(reconnects.reconnect_count, "reconnect"),
    };
    panel::fact(canvas, right, y, "Connection", &text, Tone::Text);
}
