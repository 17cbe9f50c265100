//! What stands in the cells of the tables.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{Command, Device, Tunnel},
    command::CommandStatus,
    operations,
    time::Timestamp,
};
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use crate::tui::{
    app::{App, columns::Column, nav::short_id, tunnels},
    format,
    store::Row,
    theme::Tone,
    view::{widgets::table::Cell, words},
};

/// A row that a newer server sends and this console cannot read.
fn unreadable(column: &Column, row: &Row) -> Cell {
    if column.rank == 0 {
        Cell::text(format!("{} (unreadable)", row.key), Tone::Faint)
    } else {
        Cell::default()
    }
}

/// `a=1 b=2`
pub fn tags(tags: &BTreeMap<String, String>, without: &str) -> String {
    let pairs: Vec<String> =
        tags.iter().filter(|(k, _)| *k != without).map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(" ")
}

pub fn device(app: &App, row: &Row, column: &Column, wide: u16) -> Cell {
    let Some(device) = row.device() else { return unreadable(column, row) };
    let now = app.server_now();
    match column.id {
        "id" => {
            let doing = app.calls.doing(&row.key);
            let doing = doing.map(|doing| format!(" {} {doing}", app.theme.glyphs.pending));
            let taken = doing.as_ref().map_or(0, |doing| doing.width() as u16);
            let room = wide.saturating_sub(taken);
            let name = device_name(app, Cell::default(), device.id.as_str(), Tone::Text, room);
            match doing {
                Some(doing) => name.and(doing, Tone::Warn),
                None => name,
            }
        }
        "status" => Cell::badge(app.theme.presence(device)),
        "type" => Cell::text(&device.kind, Tone::Muted),
        "site" => Cell::text(device.tags.get("site").map_or("", String::as_str), Tone::Muted),
        "tags" => Cell::text(tags(&device.tags, "site"), Tone::Muted),
        "health" => health(app, device),
        "open_commands" => match device.open_commands {
            0 => Cell::text(app.theme.glyphs.dot, Tone::Faint),
            n => Cell::text(format::count(n), Tone::Busy),
        },
        "agent_version" => Cell::text(device.agent_version.as_deref().unwrap_or("-"), Tone::Muted),
        "last_seen_at" => Cell::text(format::age(device.last_seen_at, now), Tone::Muted),
        _ => Cell::default(),
    }
}

/// The worst that is known of a device, in a few words.
pub fn health(app: &App, device: &Device) -> Cell {
    let glyphs = app.theme.glyphs;
    if let Some(failed) = &device.service_failed {
        return Cell::text(format!("{} {} failed", glyphs.no, failed.unit), Tone::Bad);
    }
    match device.process_status.as_deref() {
        Some("running") => {
            Cell::text(format!("{} ", glyphs.yes), Tone::Good).and("running", Tone::Muted)
        }
        Some(state @ ("crashed" | "failed")) => {
            Cell::text(format!("{} {state}", glyphs.no), Tone::Bad)
        }
        Some(state) => Cell::text(state, Tone::Muted),
        None => Cell::text(glyphs.dot, Tone::Faint),
    }
}

/// The same where there is room for words.
pub fn health_in_words(app: &App, device: &Device) -> (String, Tone) {
    if device.service_failed.is_none() && device.process_status.is_none() {
        return ("nothing reported".to_owned(), Tone::Muted);
    }
    health(app, device).plain()
}

pub fn command(app: &App, row: &Row, column: &Column, wide: u16) -> Cell {
    let Some(command) = row.command() else { return unreadable(column, row) };
    let now = app.server_now();
    match column.id {
        "type" => Cell::text(operation(app, &command.kind), Tone::Text),
        "device_id" => {
            let cell = match command.device_status {
                Some(status) => {
                    let badge = app.theme.device(status);
                    Cell::text(format!("{} ", badge.glyph), badge.tone)
                }
                None => Cell::default(),
            };
            device_name(app, cell, command.device_id.as_str(), Tone::Text, wide)
        }
        "status" => status(app, command, wide),
        "state" => Cell::text(command.state.as_deref().unwrap_or_default(), Tone::Text),
        "detail" => Cell::text(detail(command), Tone::Muted),
        "created_by" => Cell::text(&command.created_by, Tone::Muted),
        "id" => Cell::text(short_id(&row.key), Tone::Muted),
        "priority" => Cell::text(command.priority.to_string(), Tone::Muted),
        "created_at" => Cell::text(format::age(Some(command.created_at), now), Tone::Muted),
        "duration" => Cell::text(took(command, now), Tone::Muted),
        _ => Cell::default(),
    }
}

/// A device's name behind its sign. Where there is no room it is the end that stays, since names
/// of a fleet differ there: `…k-ber1-02` tells more than `kiosk-ber…`.
fn device_name(app: &App, sign: Cell, name: &str, tone: Tone, wide: u16) -> Cell {
    // The sign always stays: whether the device is there counts more than a letter of its name.
    let room = usize::from(wide).saturating_sub(sign.plain().0.width());
    if name.width() <= room {
        return sign.and(name, tone);
    }
    let ellipsis = app.theme.glyphs.ellipsis;
    let fits = |at: &usize| ellipsis.width() + name[*at..].width() <= room;
    let kept = name.char_indices().map(|(at, _)| at).find(fits).unwrap_or(name.len());
    sign.and(format!("{ellipsis}{}", &name[kept..]), tone)
}

/// Who did something, or what it was on. Of an id it is the end that tells it from others made in that hour:
/// `command:…31aafe06`.
fn object(app: &App, text: &str, wide: u16) -> String {
    let Some((kind, id)) = text.split_once(':').filter(|_| text.width() > usize::from(wide)) else {
        return text.to_owned();
    };
    let room = wide.saturating_sub(kind.width() as u16 + 1);
    let (id, _) = device_name(app, Cell::default(), id, Tone::Muted, room).plain();
    format!("{kind}:{id}")
}

/// Icon and name of an operation.
pub fn operation(app: &App, name: &str) -> String {
    let (icon, _) = operation_parts(app, name);
    // One column and a space, or two: the names stand under one another.
    match icon.width() {
        0 => name.to_owned(),
        1 => format!("{icon} {name}"),
        _ => format!("{icon}{name}"),
    }
}

/// The icon of an operation, where one can be shown, and its title.
pub fn operation_parts(app: &App, name: &str) -> (String, String) {
    static BUILTINS: std::sync::OnceLock<Vec<operations::Operation>> = std::sync::OnceLock::new();
    let all = BUILTINS.get_or_init(operations::builtin);
    let found = all.iter().find(|op| op.name == name);
    let icon = match found {
        Some(operation) if app.theme.unicode => operation.icon.clone(),
        None if app.theme.unicode => "◇".to_owned(),
        _ => String::new(),
    };
    (icon, found.map_or_else(|| name.to_owned(), |op| op.title.clone()))
}

/// Status with progress, and what we have asked for and do not know yet.
pub fn status(app: &App, command: &Command, wide: u16) -> Cell {
    let badge = app.theme.command(command.status);
    let cell = Cell::badge(badge);
    if let Some(doing) = app.calls.doing(&command.id.to_string()) {
        let pending = format!(" {}{doing}", app.theme.glyphs.pending);
        // Where there is no room for both, what is pending is the news; the sign still says the status.
        let fits = 2 + badge.word.width() + pending.width() <= usize::from(wide);
        let cell = if fits { cell } else { Cell::text(badge.glyph, badge.tone) };
        return cell.and(pending, Tone::Warn);
    }
    if command.cancel_requested_at.is_some() && !command.status.is_terminal() {
        return cell.and(format!(" {}stopping", app.theme.glyphs.pending), Tone::Warn);
    }
    let Some(progress) = progress(command) else { return cell };
    // Whole or not at all: "running …" would say less than "running".
    if wide < 13 {
        return cell;
    }
    if wide < 22 {
        return cell.and(format!(" {progress}%"), Tone::Muted);
    }
    let glyphs = app.theme.glyphs;
    let full = usize::from(progress.min(100)) * 6 / 100;
    cell.and(" ", Tone::Text)
        .and(glyphs.bar_full.repeat(full), badge.tone)
        .and(glyphs.bar_empty.repeat(6 - full), Tone::Faint)
        .and(format!(" {progress}%"), Tone::Muted)
}

/// How far a command is that runs, once it has told: what stays at 0 % tells none.
pub fn progress(command: &Command) -> Option<u8> {
    command.progress.filter(|progress| *progress > 0 && !command.status.is_terminal())
}

/// What a command's row says beside its status and state: its step, or why it failed.
pub fn detail(command: &Command) -> String {
    if let Some(code) = &command.error_code {
        let exit = match command.exit_code {
            Some(exit) if exit != 0 => format!(" exit {exit}"),
            _ => String::new(),
        };
        return match &command.error_message {
            Some(message) => format!("{code}{exit}: {message}"),
            None => format!("{code}{exit}"),
        };
    }
    if command.status.is_terminal() {
        return command.notes.clone();
    }
    command.step.clone().unwrap_or_else(|| command.notes.clone())
}

/// How long it ran, or has run, or has waited.
pub fn took(command: &Command, now: Timestamp) -> String {
    let Some(started) = command.started_at else {
        return "-".to_owned();
    };
    let end = command.finished_at.unwrap_or(now);
    let ms = end.millis_since(started);
    if command.status == CommandStatus::ExecutionStarted
        || command.status == CommandStatus::AwaitingReconnect
    {
        // It still runs: whole seconds, so that the screen is quiet.
        return format::age_ms(ms);
    }
    format::duration_ms(ms)
}

pub fn alert(app: &App, row: &Row, column: &Column, wide: u16) -> Cell {
    let Some(alert) = row.alert() else { return unreadable(column, row) };
    let now = app.server_now();
    match column.id {
        "severity" => Cell::badge(app.theme.severity(alert.severity)),
        "cause" => {
            let tone = if alert.resolved_at.is_some() { Tone::Muted } else { Tone::Text };
            Cell::text(&alert.cause, tone)
        }
        "device" => {
            let id = alert.device_id.as_ref().map_or("", |id| id.as_str());
            device_name(app, Cell::default(), id, Tone::Muted, wide)
        }
        "kind" => Cell::text(alert.kind.replace('_', " "), Tone::Muted),
        "count" => Cell::text(format::count(alert.count), Tone::Muted),
        "first_seen_at" => Cell::text(format::age(Some(alert.first_seen_at), now), Tone::Muted),
        "last_seen_at" => Cell::text(format::age(Some(alert.last_seen_at), now), Tone::Muted),
        "state" => alert_state(app, alert),
        _ => Cell::default(),
    }
}

pub fn alert_state(app: &App, alert: &quarterdeck_protocol::api::Alert) -> Cell {
    let glyphs = app.theme.glyphs;
    let now = app.server_now();
    if let Some(doing) = app.calls.doing(&alert.id) {
        return Cell::text(format!("{} {doing}", glyphs.pending), Tone::Warn);
    }
    if let Some(at) = alert.resolved_at {
        let age = format::age(Some(at), now);
        return Cell::text(format!("{} resolved {age}", glyphs.yes), Tone::Good);
    }
    if let Some(until) = alert.silenced_until.filter(|until| *until > now) {
        let left = format::age_ms(until.millis_since(now));
        return Cell::text(format!("{} silenced {left}", glyphs.frozen), Tone::Muted);
    }
    match &alert.acknowledged_by {
        Some(by) => Cell::text(format!("{} ack {by}", glyphs.yes), Tone::Muted),
        None => Cell::text(format!("{} unacked", glyphs.danger), Tone::Warn),
    }
}

pub fn audit(app: &App, row: &Row, column: &Column, wide: u16) -> Cell {
    let Some(entry) = row.audit() else { return unreadable(column, row) };
    match column.id {
        "seq" => Cell::text(entry.seq.to_string(), Tone::Faint),
        "at" => {
            let time = format::utc(entry.at);
            Cell::text(time.trim_end_matches(" UTC"), Tone::Muted)
        }
        "actor" => Cell::text(object(app, &entry.actor, wide), Tone::Text),
        "action" => Cell::text(&entry.action, Tone::Text),
        "object" => Cell::text(object(app, &entry.object, wide), Tone::Muted),
        "outcome" => Cell::badge(app.theme.audit(entry.outcome)),
        "from" => Cell::text(&entry.from, Tone::Muted),
        "detail" => Cell::text(compact(&entry.detail), Tone::Muted),
        _ => Cell::default(),
    }
}

pub fn timeline(app: &App, row: &Row, column: &Column, wide: u16) -> Cell {
    let Some(entry) = row.timeline() else { return unreadable(column, row) };
    match column.id {
        "at" => Cell::text(format::clock(entry.at), Tone::Muted),
        "event" => Cell::text(entry.event.replace('_', " "), event_tone(&entry.event)),
        "by" => Cell::text(object(app, &entry.by, wide), Tone::Muted),
        "detail" => {
            let mut text = words::line(&without_state(&entry.detail));
            if let Some(id) = entry.command_id
                && matches!(app.nav.here, crate::tui::app::nav::Place::Device(_))
            {
                text = format!("{} {text}", short_id(&id.to_string()));
            }
            // The workflow's state comes first: it is what the timeline of a command is read for.
            match entry.detail.get("state").and_then(Value::as_str) {
                Some(state) => Cell::text(state, Tone::Text).and(format!("  {text}"), Tone::Muted),
                None => Cell::text(text, Tone::Muted),
            }
        }
        _ => Cell::default(),
    }
}

fn event_tone(event: &str) -> Tone {
    match event {
        "completed" | "online" => Tone::Good,
        "failed" | "timed_out" | "offline" | "service_failed" => Tone::Bad,
        "expired" | "cancelled" | "blocked_safety" | "late" | "stale" => Tone::Warn,
        "execution_started" | "progress" | "accepted" | "awaiting_reconnect" => Tone::Busy,
        _ => Tone::Text,
    }
}

fn without_state(detail: &Value) -> Value {
    let mut rest = detail.clone();
    if let Some(fields) = rest.as_object_mut()
        && fields.get("state").is_some_and(Value::is_string)
    {
        fields.remove("state");
    }
    rest
}

/// JSON on one line: `a=1 b="x"`, nothing for nothing.
pub fn compact(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name}={text}"),
                other => format!("{name}={other}"),
            })
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    }
}

pub fn user(app: &App, row: &Row, column: &Column, _: u16) -> Cell {
    let Some(user) = row.user() else { return unreadable(column, row) };
    let now = app.server_now();
    let glyphs = app.theme.glyphs;
    match column.id {
        "username" => {
            let cell = Cell::text(&user.username, Tone::Text);
            match app.calls.doing(&row.key) {
                Some(doing) => cell.and(format!(" {} {doing}", glyphs.pending), Tone::Warn),
                None => cell,
            }
        }
        "state" if user.disabled => Cell::text(format!("{} disabled", glyphs.no), Tone::Muted),
        "state" => Cell::text(format!("{} active", glyphs.yes), Tone::Good),
        "roles" if user.admin => Cell::text("server admin", Tone::Accent),
        "roles" => {
            let roles: Vec<String> =
                user.projects.iter().map(|(p, role)| format!("{p}: {}", role.as_str())).collect();
            Cell::text(roles.join(", "), Tone::Muted)
        }
        "last_login_at" => Cell::text(format::age(user.last_login_at, now), Tone::Muted),
        "created_at" => Cell::text(format::age(Some(user.created_at), now), Tone::Muted),
        _ => Cell::default(),
    }
}

pub fn member(_: &App, row: &Row, column: &Column, _: u16) -> Cell {
    let Some(member) = row.member() else { return unreadable(column, row) };
    match column.id {
        "username" => Cell::text(&member.username, Tone::Text),
        "role" => Cell::text(member.role.as_str(), Tone::Accent),
        _ => Cell::default(),
    }
}

pub fn project(app: &App, row: &Row, column: &Column, _: u16) -> Cell {
    let Some(project) = row.project() else { return unreadable(column, row) };
    match column.id {
        "id" => {
            let here = project.id.as_str() == app.session.project;
            let cell = Cell::text(project.id.as_str(), Tone::Text);
            if here {
                cell.and(format!(" {} open", app.theme.glyphs.live), Tone::Good)
            } else {
                cell
            }
        }
        "name" => Cell::text(&project.name, Tone::Muted),
        "role" => Cell::text(project.role.as_str(), Tone::Accent),
        "created_at" => {
            Cell::text(format::age(Some(project.created_at), app.server_now()), Tone::Muted)
        }
        _ => Cell::default(),
    }
}

pub fn tunnel(app: &App, row: &Row, column: &Column, wide: u16) -> Cell {
    let Some(tunnel) = row.tunnel() else { return unreadable(column, row) };
    let now = app.server_now();
    let glyphs = app.theme.glyphs;
    match column.id {
        "device_id" => {
            device_name(app, Cell::default(), tunnel.device_id.as_str(), Tone::Text, wide)
        }
        "status" => match app.calls.doing(&row.key) {
            Some(doing) => Cell::text(format!("{} {doing}", glyphs.pending), Tone::Warn),
            None => Cell::badge(app.theme.tunnel(tunnel.status)),
        },
        "kind" => Cell::text(tunnels::kind(tunnel.kind), Tone::Muted),
        "user" if tunnel.user == app.session.username => Cell::text(&tunnel.user, Tone::Accent),
        "user" => Cell::text(&tunnel.user, Tone::Text),
        "bytes_up" => Cell::text(format::bytes(tunnel.bytes_up), Tone::Muted),
        "bytes_down" => Cell::text(format::bytes(tunnel.bytes_down), Tone::Muted),
        "attached" if tunnel.attached == 0 => Cell::text(glyphs.dot, Tone::Faint),
        "attached" => Cell::text(tunnel.attached.to_string(), Tone::Busy),
        "created_at" => Cell::text(format::age(Some(tunnel.created_at), now), Tone::Muted),
        "duration" => Cell::text(lasted(tunnel.opened_at, tunnel.closed_at, now), Tone::Muted),
        "recorded" if tunnel.recording_id.is_some() => Cell::text(glyphs.yes, Tone::Bad),
        "close_reason" => match tunnel_end(tunnel) {
            Some(why) => Cell::text(why, Tone::Muted),
            None => Cell::default(),
        },
        _ => Cell::default(),
    }
}

/// Why a session is over, and how its program ended.
pub fn tunnel_end(tunnel: &Tunnel) -> Option<String> {
    let reason = tunnel.close_reason?.as_str().replace('_', " ");
    let exit = tunnel.exit_code.map(|code| format!(", exit {code}")).unwrap_or_default();
    let message = match tunnel.close_message.as_deref() {
        Some(message) if !message.is_empty() => format!(": {message}"),
        _ => String::new(),
    };
    Some(format!("{reason}{exit}{message}"))
}

/// How long a session lasted, or has lasted.
pub fn lasted(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> String {
    match (from, to) {
        (None, _) => "-".to_owned(),
        (Some(from), Some(to)) => format::duration_ms(to.millis_since(from)),
        // It goes on: whole seconds, so that the screen is quiet.
        (Some(from), None) => format::age_ms(now.millis_since(from)),
    }
}

pub fn recording(app: &App, row: &Row, column: &Column, wide: u16) -> Cell {
    let Some(recording) = row.recording() else { return unreadable(column, row) };
    let now = app.server_now();
    match column.id {
        "device_id" => {
            device_name(app, Cell::default(), recording.device_id.as_str(), Tone::Text, wide)
        }
        "user" => Cell::text(&recording.user, Tone::Text),
        "status" => Cell::badge(app.theme.recording(recording.status)),
        "program" => Cell::text(program(&recording.argv), Tone::Muted),
        "bytes" => Cell::text(format::bytes(recording.bytes), Tone::Muted),
        "started_at" => Cell::text(format::age(Some(recording.started_at), now), Tone::Muted),
        "duration" => {
            Cell::text(lasted(Some(recording.started_at), recording.ended_at, now), Tone::Muted)
        }
        "input" if recording.has_input => Cell::text(app.theme.glyphs.yes, Tone::Warn),
        "expires_at" => match recording.expires_at {
            Some(at) if at > now => Cell::text(format::age_ms(at.millis_since(now)), Tone::Muted),
            _ => Cell::text("-", Tone::Faint),
        },
        _ => Cell::default(),
    }
}

/// What ran in a session.
pub fn program(argv: &[String]) -> String {
    if argv.is_empty() { "login shell".to_owned() } else { shell_words::join(argv) }
}

pub fn token(app: &App, row: &Row, column: &Column, _: u16) -> Cell {
    let Some(token) = row.token() else { return unreadable(column, row) };
    let now = app.server_now();
    let glyphs = app.theme.glyphs;
    match column.id {
        "id" => Cell::text(short_id(&token.id), Tone::Text),
        "state" if token.revoked_at.is_some() => {
            Cell::text(format!("{} revoked", glyphs.no), Tone::Muted)
        }
        "state" if token.expires_at <= now => {
            Cell::text(format!("{} expired", glyphs.dot), Tone::Muted)
        }
        "state" if token.used >= token.uses => {
            Cell::text(format!("{} used up", glyphs.dot), Tone::Muted)
        }
        "state" => Cell::text(format!("{} good", glyphs.yes), Tone::Good),
        "used" => Cell::text(format!("{} of {}", token.used, token.uses), Tone::Muted),
        "expires_at" if token.expires_at > now => Cell::text(
            format!("in {}", format::age_ms(token.expires_at.millis_since(now))),
            Tone::Muted,
        ),
        "expires_at" => Cell::text("-", Tone::Faint),
        "tags" => Cell::text(tags(&token.tags, ""), Tone::Muted),
        "created_by" => Cell::text(&token.created_by, Tone::Muted),
        "created_at" => Cell::text(format::age(Some(token.created_at), now), Tone::Muted),
        _ => Cell::default(),
    }
}
