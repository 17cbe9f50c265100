//! Sessions with devices, those that are open and those that were, and what was recorded of them.

use quarterdeck_protocol::api::{Recording, Tunnel};
use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{App, msg::Layout, tunnels},
    format,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_bottom, cut_left, cut_top},
        widgets::{panel, table},
    },
};

pub fn tunnels(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    let list = app.list(WindowKey::Tunnels);
    if area.height >= 18 && area.width >= 60 {
        let peek = cut_bottom(&mut rest, 6);
        if let Some(tunnel) = app.peeked().and_then(|row| row.tunnel()) {
            peek_tunnel(canvas, peek, app, tunnel);
        }
    }
    let none = ["No tunnel was opened yet.", "t on a device opens a terminal."];
    let filtered = ["No tunnel matches the filter.", "Esc drops it."];
    let none: &[&str] = if list.filter.is_empty() { &none } else { &filtered };
    let look = table::Look { key: WindowKey::Tunnels, title: "Tunnels", focused: true, none };
    table::draw(canvas, rest, app, look, layout, cells::tunnel);
}

fn peek_tunnel(canvas: &mut Canvas<'_>, area: Rect, app: &App, tunnel: &Tunnel) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    let title = format!("{}'s {} on {}", tunnel.user, tunnels::kind(tunnel.kind), tunnel.device_id);
    let is_mine = tunnel.user == app.session.username;
    let hint = match (tunnel.status.is_over(), tunnel.recording_id.is_some(), is_mine) {
        (true, true, _) => "Enter plays its recording",
        (true, false, _) => "",
        (false, _, true) => "Enter goes back to it",
        (false, _, false) => "Enter watches, c joins",
    };
    panel::rule(canvas, line, &title, hint, false);
    cut_left(&mut rest, 3);
    let now = app.server_now();
    let mut right = rest;
    let left = cut_left(&mut right, rest.width / 2);
    let badge = app.theme.tunnel(tunnel.status);
    let status = format!("{} {}", badge.glyph, badge.word);
    let mut y = panel::fact(canvas, left, left.y, "Status", &status, badge.tone);
    let what = match (&tunnel.host, tunnel.port) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => cells::program(&tunnel.argv),
    };
    y = panel::fact(canvas, left, y, "Runs", &what, Tone::Text);
    let bytes =
        format!("{} up, {} down", format::bytes(tunnel.bytes_up), format::bytes(tunnel.bytes_down));
    y = panel::fact(canvas, left, y, "Bytes", &bytes, Tone::Text);
    let attached = format::plural(u64::from(tunnel.attached), "console");
    panel::fact(canvas, left, y, "Attached", &attached, Tone::Text);

    let opened = format::utc_and_local(tunnel.created_at, &app.zone);
    let mut y = panel::fact(canvas, right, right.y, "Opened", &opened, Tone::Text);
    let lasted = cells::lasted(tunnel.opened_at, tunnel.closed_at, now);
    y = panel::fact(canvas, right, y, "Lasted", &lasted, Tone::Text);
    let active = tunnel
        .last_activity_at
        .map_or_else(|| "-".to_owned(), |at| format!("{} ago", format::age(Some(at), now)));
    y = match cells::tunnel_end(tunnel) {
        Some(why) => panel::fact(canvas, right, y, "Ended", &why, Tone::Text),
        None => panel::fact(canvas, right, y, "Last activity", &active, Tone::Text),
    };
    let recorded = if tunnel.recording_id.is_some() { "yes, r plays it" } else { "no" };
    panel::fact(canvas, right, y, "Recorded", recorded, Tone::Text);
}

pub fn recordings(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    let list = app.list(WindowKey::Recordings);
    if area.height >= 18 && area.width >= 60 {
        let peek = cut_bottom(&mut rest, 5);
        if let Some(recording) = app.peeked().and_then(|row| row.recording()) {
            peek_recording(canvas, peek, app, recording);
        }
    }
    let none =
        ["Nothing was recorded.", "A project may record all terminals, or who opens one may."];
    let filtered = ["No recording matches the filter.", "Esc drops it."];
    let none: &[&str] = if list.filter.is_empty() { &none } else { &filtered };
    let look = table::Look { key: WindowKey::Recordings, title: "Recordings", focused: true, none };
    table::draw(canvas, rest, app, look, layout, cells::recording);
}

fn peek_recording(canvas: &mut Canvas<'_>, area: Rect, app: &App, recording: &Recording) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    let title = format!("{} on {}", recording.user, recording.device_id);
    panel::rule(canvas, line, &title, "Enter plays, s saves; who looks is noted", false);
    cut_left(&mut rest, 3);
    let begun = format::utc_and_local(recording.started_at, &app.zone);
    let mut y = panel::fact(canvas, rest, rest.y, "Begun", &begun, Tone::Text);
    let ended = recording
        .ended_at
        .map_or_else(|| "it goes on".to_owned(), |at| format::utc_and_local(at, &app.zone));
    y = panel::fact(canvas, rest, y, "Ended", &ended, Tone::Text);
    let mut kept = recording.expires_at.map_or_else(
        || "its days begin with its end".to_owned(),
        |at| format!("until {}", format::utc(at)),
    );
    if recording.has_input {
        kept.push_str(", typed keys too");
    }
    y = panel::fact(canvas, rest, y, "Kept", &kept, Tone::Text);
    panel::fact(canvas, rest, y, "Id", &recording.id, Tone::Muted);
}
