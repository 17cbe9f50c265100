//! What who goes off shift hands over: open ends, in words that can be sent on.

use std::collections::{BTreeMap, BTreeSet};

use quarterdeck_protocol::{
    api::{Command, Overview},
    command::CommandStatus,
    time::Timestamp,
};
use ratatui::layout::Rect;

use crate::tui::{
    app::{App, msg::Layout, tunnels as sessions, windows},
    format,
    store::{State, WindowKey},
    theme::Tone,
    view::{
        canvas::{Canvas, cut_left},
        texts::{self, Line},
    },
};

/// Devices that are named for one kind of failure.
const DEVICES_NAMED: usize = 3;

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    cut_left(&mut rest, 2);
    texts::draw(canvas, rest, app, texts::lines(app), layout);
}

/// The summary as lines, for the screen as for the file.
pub fn lines(app: &App) -> Vec<Line> {
    let session = &app.session;
    let now = app.server_now();
    let mut out = vec![Line(vec![
        ("Shift handover  ".to_owned(), Tone::Strong),
        (format!("{}@{}", session.server, session.project), Tone::Accent),
        (format!("  {}", format::utc_and_local(now, &app.zone)), Tone::Muted),
    ])];
    if !app.link.is_connected() {
        let as_of = windows::known_at(app)
            .map_or_else(|| "never".to_owned(), |at| format::utc(at.plus_millis(app.skew_ms)));
        out.push(Line::new(format!("No connection: this is as of {as_of}"), Tone::Bad));
    }
    alerts(app, now, &mut out);
    tunnels(app, now, &mut out);
    failures(app, now, &mut out);
    if let Some(overview) = app.store.overview() {
        under_way(app, overview, now, &mut out);
        devices(overview, &mut out);
        reboots(app, overview, &mut out);
    }
    out
}

fn heading(out: &mut Vec<Line>, title: &str) {
    out.push(Line::default());
    out.push(Line::new(title, Tone::Accent));
}

fn said(out: &mut Vec<Line>, text: impl Into<String>, tone: Tone) {
    out.push(Line(vec![("  ".to_owned(), Tone::Text), (text.into(), tone)]));
}

/// What stands where the server has not answered, or will not.
fn unknown(app: &App, key: WindowKey, out: &mut Vec<Line>) -> bool {
    let window = app.store.window(key);
    match &window.state {
        State::Refused(refusal) => said(out, refusal.detail.clone(), Tone::Bad),
        _ if !window.is_known() => said(out, "not known yet", Tone::Faint),
        _ => return false,
    }
    true
}

fn beyond(out: &mut Vec<Line>, total: u64, listed: u64, how: &str) {
    if total > listed {
        said(out, format!("and {} more: {how}", format::count(total - listed)), Tone::Warn);
    }
}

fn alerts(app: &App, now: Timestamp, out: &mut Vec<Line>) {
    let window = app.store.window(WindowKey::HandoverAlerts);
    heading(out, &format!("Alerts that nobody acknowledged: {}", format::count(window.total)));
    if unknown(app, WindowKey::HandoverAlerts, out) {
        return;
    }
    for alert in window.rows().iter().filter_map(|row| row.alert()) {
        let badge = app.theme.severity(alert.severity);
        let age = |at| format::age(Some(at), now);
        // What came again may have been well in between: it is not told as one long time.
        let since = match alert.count {
            0 | 1 => format!("for {}", age(alert.first_seen_at)),
            count => format!(
                "{} times in {}, last {} ago",
                format::count(count),
                age(alert.first_seen_at),
                age(alert.last_seen_at),
            ),
        };
        out.push(Line(vec![
            (format!("  {} {:<8} ", badge.glyph, badge.word), badge.tone),
            (alert.cause.clone(), Tone::Text),
            (format!("  {since}"), Tone::Muted),
        ]));
    }
    beyond(out, window.total, window.rows().len() as u64, "/status:unacknowledged on Alerts");
}

/// Devices in the order in which they came: a few are named, the others counted.
#[derive(Default)]
struct Devices {
    named: Vec<String>,
    all: BTreeSet<String>,
}

impl Devices {
    fn add(&mut self, device: &str) {
        if self.all.insert(device.to_owned()) && self.named.len() < DEVICES_NAMED {
            self.named.push(device.to_owned());
        }
    }

    fn in_words(&self) -> String {
        let named = self.named.join(", ");
        match self.all.len() - self.named.len() {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

/// Failures by what they have in common: operation and error.
fn failures(app: &App, now: Timestamp, out: &mut Vec<Line>) {
    let window = app.store.window(WindowKey::HandoverFailures);
    let since =
        app.handover_from.map_or_else(String::new, |at| format!(" since {}", format::utc(at)));
    heading(out, &format!("Commands that went wrong{since}: {}", format::count(window.total)));
    if unknown(app, WindowKey::HandoverFailures, out) {
        return;
    }
    let mut groups: BTreeMap<(String, String), (u64, Devices, Timestamp)> = BTreeMap::new();
    for command in window.rows().iter().filter_map(|row| row.command()) {
        let why = went_wrong(command);
        let ended = command.finished_at.unwrap_or(command.created_at);
        let group = groups
            .entry((command.kind.clone(), why))
            .or_insert_with(|| (0, Devices::default(), ended));
        group.0 += 1;
        group.2 = group.2.max(ended);
        group.1.add(command.device_id.as_str());
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (n, _, last))| (std::cmp::Reverse(*n), std::cmp::Reverse(*last)));
    for ((kind, why), (n, devices, last)) in groups {
        out.push(Line(vec![
            (format!("  {n:>5}  "), Tone::Bad),
            (format!("{kind} {why}"), Tone::Text),
            (
                format!("  last {} ago, on {}", format::age(Some(last), now), devices.in_words()),
                Tone::Muted,
            ),
        ]));
    }
    let listed = window.rows().len() as u64;
    beyond(out, window.total, listed, "these are the newest; the rest is on Commands");
}

/// `failed: script_failed`; the error's name only where the status does not say as much.
fn went_wrong(command: &Command) -> String {
    let status = command.status.as_str().replace('_', " ");
    let says_all = matches!(command.status, CommandStatus::TimedOut | CommandStatus::BlockedSafety);
    match command.error_code.as_deref() {
        Some(code) if !code.is_empty() && !says_all => format!("{status}: {code}"),
        _ => status,
    }
}

/// Sessions that are open: somebody's terminal, somebody's forward.
fn tunnels(app: &App, now: Timestamp, out: &mut Vec<Line>) {
    let window = app.store.window(WindowKey::OpenTunnels);
    heading(out, &format!("Open tunnels: {}", format::count(window.total)));
    if unknown(app, WindowKey::OpenTunnels, out) {
        return;
    }
    for tunnel in window.rows().iter().filter_map(|row| row.tunnel()) {
        let badge = app.theme.tunnel(tunnel.status);
        let age = format::age(tunnel.opened_at.or(Some(tunnel.created_at)), now);
        let attached = if tunnel.attached == 0 { ", nobody attached" } else { "" };
        out.push(Line(vec![
            (format!("  {} {:<8} ", badge.glyph, badge.word), badge.tone),
            (format!("{} on {}", sessions::kind(tunnel.kind), tunnel.device_id), Tone::Text),
            (format!("  {} for {age}{attached}", tunnel.user), Tone::Muted),
        ]));
    }
    beyond(out, window.total, window.rows().len() as u64, "/status:open on Tunnels");
}

fn under_way(app: &App, overview: &Overview, now: Timestamp, out: &mut Vec<Line>) {
    heading(out, "Under way");
    if overview.open_commands.is_empty() {
        said(out, "no command", Tone::Muted);
        return;
    }
    for (status, n) in &overview.open_commands {
        let word = status.parse().map_or_else(
            |_| status.replace('_', " "),
            |status: CommandStatus| app.theme.command(status).word.to_owned(),
        );
        said(out, format!("{:>5}  {word}", format::count(*n)), Tone::Text);
    }
    if let Some(at) = overview.oldest_queued_at {
        let text =
            format!("the oldest has waited for its device for {}", format::age(Some(at), now));
        said(out, text, Tone::Muted);
    }
}

fn devices(overview: &Overview, out: &mut Vec<Line>) {
    let devices = &overview.devices;
    heading(out, "Devices");
    said(out, format!("{:>5}  online", format::count(devices.online)), Tone::Text);
    for (n, what) in [
        (devices.stale, "stale"),
        (devices.offline, "offline"),
        (devices.service_failed, "with a service that gave up"),
    ] {
        let tone = if n > 0 { Tone::Warn } else { Tone::Muted };
        said(out, format!("{:>5}  {what}", format::count(n)), tone);
    }
    if !overview.offline_by_site.is_empty() {
        let sites: Vec<String> =
            overview.offline_by_site.iter().map(|s| format!("{} {}", s.site, s.count)).collect();
        said(out, format!("offline by site: {}", sites.join(", ")), Tone::Muted);
    }
}

fn reboots(app: &App, overview: &Overview, out: &mut Vec<Line>) {
    let settings = &app.settings;
    let rule = format!("{} in {} min", settings.reboot_limit, settings.reboot_window_s / 60);
    heading(out, &format!("Reboots left (at most {rule} per device)"));
    for budget in &overview.reboot_budget {
        let tone = if budget.left == 0 { Tone::Bad } else { Tone::Warn };
        let text = format!("{:>5}  on {} ({} used)", budget.left, budget.device_id, budget.used);
        said(out, text, tone);
    }
    let text = format!("{:>5}  on every other device", settings.reboot_limit);
    said(out, text, Tone::Muted);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_device_is_left_out_silently() {
        let mut devices = Devices::default();
        for device in ["A", "pi-3", "A", "pi-2"] {
            devices.add(device);
        }
        assert_eq!(devices.in_words(), "A, pi-3, pi-2");
        devices.add("pi-1");
        assert_eq!(devices.in_words(), "A, pi-3, pi-2 and 1 more");
    }
}
