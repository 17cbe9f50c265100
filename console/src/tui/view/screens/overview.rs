//! The fleet at a glance: big numbers, commands, sites, open alerts.

use quarterdeck_protocol::api::{DeviceCounts, Overview};
use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{App, msg::Layout},
    format,
    store::{State, WindowKey},
    theme::Tone,
    view::{
        canvas::{Canvas, cut_left, cut_top, width},
        widgets::{bars, panel, table},
    },
};

/// Titles of the panels, and of which span the commands are that have ended.
pub const COMMANDS: &str = "Commands";
pub const SITES: &str = "Offline by site";
pub const FLEET: &str = "Fleet";
pub const SPAN: &str = "15 min";

/// Draws the overview; each part as the height allows.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    let Some(overview) = app.store.overview() else {
        let window = app.store.window(WindowKey::Overview);
        panel::empty(canvas, area, app, window, &["The server sent no overview."]);
        return;
    };
    let big = area.height >= 24 && area.width >= 76;
    if big {
        let row = cut_top(&mut rest, bars::big_rows(app.theme.unicode) + 4);
        tiles(canvas, row, app, overview);
        let lines = cut_top(&mut rest, 9);
        let mut left = lines;
        let commands_area = cut_left(&mut left, lines.width / 2);
        commands(canvas, commands_area, app, overview);
        cut_left(&mut left, 2);
        sites(canvas, left, app, overview);
    } else {
        let facts = cut_top(&mut rest, compact_rows(area));
        compact(canvas, facts, app, overview);
    }
    let title = "Open alerts";
    let none = no_alert(app);
    let key = WindowKey::OpenAlerts;
    let look = table::Look { key, title, focused: true, none };
    table::draw(canvas, rest, app, look, layout, cells::alert);
}

/// What stands for no open alert. That all is quiet now nobody knows of a server that is silent.
pub fn no_alert(app: &App) -> &'static [&'static str] {
    if !app.list(WindowKey::OpenAlerts).filter.is_empty() {
        &["No alert matches the filter.", "Esc drops it."]
    } else if app.is_current() {
        &["No open alert.", "All is quiet."]
    } else {
        &["No alert was open then.", "What is open now is not known."]
    }
}

/// One of the big numbers.
struct Tile {
    /// The whole one, and one for little room.
    titles: [&'static str; 2],
    value: u64,
    tone: Tone,
    /// The whole one, and one for little room.
    notes: [String; 2],
    values: Vec<u64>,
}

fn tile_list(app: &App, overview: &Overview) -> Vec<Tile> {
    let devices = &overview.devices;
    let known = devices.online + devices.stale + devices.offline;
    let open: u64 = overview.open_commands.values().sum();
    let running = overview.open_commands.get("execution_started").copied().unwrap_or(0);
    let alerts = overview.alerts.critical + overview.alerts.warning;
    let worst = overview.offline_by_site.first().map_or_else(String::new, |site| {
        format!("   worst {} {}", site.site, format::count(site.count))
    });
    let share = format::percent(devices.offline, known);
    let running = format!("{} running", format::count(running));
    let critical = format!("{} critical", format::count(overview.alerts.critical));
    let unacked = format::count(overview.alerts.unacknowledged);
    vec![
        Tile {
            titles: ["ONLINE"; 2],
            value: devices.online,
            tone: if devices.unheard > 0 { Tone::Warn } else { Tone::Good },
            notes: of_known(devices, known),
            values: app.samples.iter().map(|sample| sample.online).collect(),
        },
        Tile {
            titles: ["OFFLINE"; 2],
            value: devices.offline,
            tone: if devices.offline > 0 { Tone::Bad } else { Tone::Muted },
            notes: [format!("{share}{worst}"), share],
            values: app.samples.iter().map(|sample| sample.offline).collect(),
        },
        Tile {
            titles: ["OPEN COMMANDS", "OPEN"],
            value: open,
            tone: if open > 0 { Tone::Busy } else { Tone::Muted },
            notes: [running.clone(), running],
            values: app.samples.iter().map(|sample| sample.open).collect(),
        },
        Tile {
            titles: ["ALERTS"; 2],
            value: alerts,
            tone: match (overview.alerts.critical, alerts) {
                (0, 0) => Tone::Muted,
                (0, _) => Tone::Warn,
                _ => Tone::Bad,
            },
            notes: [format!("{critical}, {unacked} unacked"), critical],
            values: Vec::new(),
        },
    ]
}

/// What is said of the devices that are online, and in a narrow tile: that some may not be there counts more.
fn of_known(devices: &DeviceCounts, known: u64) -> [String; 2] {
    let known = format!("of {}", format::count(known));
    match (devices.unheard, devices.stale) {
        (0, 0) => [known.clone(), known],
        (0, stale) => [format!("{known}   {} stale", format::count(stale)), known],
        (unheard, _) => {
            let unheard = format!("{} unheard", format::count(unheard));
            [format!("{known}   {unheard}"), unheard]
        }
    }
}

/// From this width on a tile has its whole title.
const WIDE_TILE: u16 = 24;

/// Draws the big numbers side by side; says which title stands where.
pub fn tiles(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    overview: &Overview,
) -> Vec<(&'static str, Rect)> {
    let tiles = tile_list(app, overview);
    let mut rest = Rect { height: area.height.saturating_sub(1), ..area };
    let n = tiles.len() as u16;
    let mut places = Vec::with_capacity(tiles.len());
    for (at, tile) in tiles.iter().enumerate() {
        let left = n - at as u16;
        let wide = rest.width / left;
        let mut cell = cut_left(&mut rest, wide);
        if left > 1 {
            cell.width = cell.width.saturating_sub(1);
        }
        // Beside the title the wall says how old the number is.
        let title = tile.titles[usize::from(cell.width < WIDE_TILE)];
        places.push((title, cell));
        let inside = panel::boxed(canvas, cell, title, Tone::Faint);
        let digits = format::count(tile.value);
        let x = inside.x + 2;
        let fits = bars::big_width(&digits) + 3 <= inside.width;
        if fits {
            bars::big(canvas, x, inside.y, &digits, tile.tone);
        } else {
            let style = canvas.style(tile.tone);
            canvas.text(x, inside.y + 1, &digits, style, inside.width.saturating_sub(2));
        }
        let used = if fits { bars::big_width(&digits) } else { digits.len() as u16 };
        let room = inside.right().saturating_sub(x + used + 3);
        if tile.values.len() > 1 && room >= 6 {
            let y = inside.y + bars::big_rows(app.theme.unicode).saturating_sub(1);
            let spark =
                Rect::new(inside.right().saturating_sub(room.min(24) + 1), y, room.min(24), 1);
            bars::sparkline(canvas, spark, &tile.values, Tone::Faint);
        }
        let muted = canvas.style(Tone::Muted);
        let y = inside.bottom().saturating_sub(1);
        let room = inside.width.saturating_sub(3);
        let fits = tile.notes.iter().find(|note| canvas.width(note) <= room);
        canvas.text(x, y, fits.unwrap_or(&tile.notes[1]), muted, room);
    }
    places
}

/// The same numbers in lines, as a panel.
pub fn fleet(canvas: &mut Canvas<'_>, area: Rect, app: &App, overview: &Overview) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    panel::rule(canvas, line, FLEET, "", false);
    compact(canvas, rest, app, overview);
}

/// Rows of the short form.
pub const fn compact_rows(area: Rect) -> u16 {
    match area.height {
        ..6 => 1,
        6..12 => 3,
        _ => 5,
    }
}

/// The same numbers in lines, for small screens.
fn compact(canvas: &mut Canvas<'_>, area: Rect, app: &App, overview: &Overview) {
    let devices = &overview.devices;
    let get = |map: &std::collections::BTreeMap<String, u64>, key: &str| {
        map.get(key).copied().unwrap_or(0)
    };
    let open = &overview.open_commands;
    let recent = &overview.recent_commands;
    let online = app.theme.device(quarterdeck_protocol::device::DeviceStatus::Online);
    let offline = app.theme.device(quarterdeck_protocol::device::DeviceStatus::Offline);
    let lines: Vec<Vec<(String, Tone)>> = vec![
        vec![
            (format!("{} {} online", online.glyph, format::count(devices.online)), Tone::Good),
            (
                format!("{} {} offline", offline.glyph, format::count(devices.offline)),
                if devices.offline > 0 { Tone::Bad } else { Tone::Muted },
            ),
            match devices.unheard {
                0 => (format!("{} stale", format::count(devices.stale)), Tone::Muted),
                n => (format!("{} unheard", format::count(n)), Tone::Warn),
            },
        ],
        vec![
            (format!("{} running", format::count(get(open, "execution_started"))), Tone::Busy),
            (format!("{} queued", format::count(get(open, "queued"))), Tone::Waiting),
            (format!("{} failed in 15 min", format::count(get(recent, "failed"))), Tone::Muted),
        ],
        vec![
            (
                format!("{} critical", format::count(overview.alerts.critical)),
                if overview.alerts.critical > 0 { Tone::Bad } else { Tone::Muted },
            ),
            (format!("{} warning", format::count(overview.alerts.warning)), Tone::Warn),
            (format!("{} unacked", format::count(overview.alerts.unacknowledged)), Tone::Muted),
        ],
        vec![if overview.offline_by_site.is_empty() {
            no_site(app)
        } else {
            let sites = overview.offline_by_site.iter().take(4);
            let sites: Vec<_> =
                sites.map(|site| format!("{} {}", site.site, format::count(site.count))).collect();
            (sites.join("   "), Tone::Muted)
        }],
        open_tunnels(app).into_iter().map(|text| (text, Tone::Text)).collect(),
    ];
    let labels = ["Devices", "Commands", "Alerts", "Offline at", "Tunnels"];
    let label_wide = if area.width >= 50 { 12 } else { 0 };
    for (y, (label, parts)) in (area.y..area.bottom()).zip(labels.iter().zip(lines)) {
        if label_wide > 0 {
            canvas.put(area.x + 1, y, label, Tone::Muted);
        }
        let mut x = area.x + 1 + label_wide;
        for (text, tone) in parts {
            if x + width(&text, app.theme.unicode) > area.right() {
                break;
            }
            x = canvas.put(x, y, &text, tone) + 3;
        }
    }
}

/// How many sessions are open, and whose, once the server has said so.
fn open_tunnels(app: &App) -> Option<String> {
    let window = app.store.window(WindowKey::OpenTunnels);
    if !window.is_known() || matches!(window.state, State::Refused(_)) {
        return None;
    }
    let mut users: Vec<&str> = window
        .rows()
        .iter()
        .filter_map(|row| row.tunnel())
        .map(|tunnel| tunnel.user.as_str())
        .collect();
    users.sort_unstable();
    users.dedup();
    let whose = if users.is_empty() { String::new() } else { format!(": {}", users.join(", ")) };
    Some(format!("{} open{whose}", format::plural(window.total, "tunnel")))
}

/// Counts of commands by status, with bars.
pub fn commands(canvas: &mut Canvas<'_>, area: Rect, app: &App, overview: &Overview) {
    use quarterdeck_protocol::command::CommandStatus as S;
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    panel::rule(canvas, line, COMMANDS, SPAN, false);
    let get = |map: &std::collections::BTreeMap<String, u64>, status: S| {
        map.get(status.as_str()).copied().unwrap_or(0)
    };
    let (open, recent) = (&overview.open_commands, &overview.recent_commands);
    let ended: u64 = recent.values().sum();
    let rows = [
        (S::ExecutionStarted, get(open, S::ExecutionStarted), false),
        (S::Queued, get(open, S::Queued) + get(open, S::Published) + get(open, S::Accepted), false),
        (S::Completed, get(recent, S::Completed), true),
        (S::Failed, get(recent, S::Failed), true),
        (S::TimedOut, get(recent, S::TimedOut), true),
    ];
    let most = rows.iter().map(|(_, n, _)| *n).max().unwrap_or(0);
    let numbers = rest.width >= 34;
    for (status, n, is_share) in rows {
        let row = cut_top(&mut rest, 1);
        if row.height == 0 {
            return;
        }
        let badge = app.theme.command(status);
        let tone = if n == 0 { Tone::Faint } else { badge.tone };
        let text = format!("{} {}", badge.glyph, badge.word);
        canvas.put(row.x + 1, row.y, &text, tone);
        let style = canvas.style(if n == 0 { Tone::Faint } else { Tone::Strong });
        let at = row.x + 21;
        canvas.put_right(at.min(row.right()), row.y, &format::count(n), style);
        if numbers {
            let share = if is_share { format::percent(n, ended) } else { String::new() };
            let muted = canvas.style(Tone::Muted);
            canvas.put_right(at + 9, row.y, &share, muted);
            let x = at + 11;
            let room = row.right().saturating_sub(x + 1);
            bars::plain_bar(canvas, x, row.y, room, n, most, badge.tone);
        }
    }
    let mut parts = Vec::new();
    let ms = |ms: Option<u64>| ms.map(|ms| format::duration_ms(ms as i64));
    if let Some(p50) = ms(overview.p50_ms) {
        parts.push(format!("p50 {p50}"));
    }
    if let Some(p95) = ms(overview.p95_ms) {
        parts.push(format!("p95 {p95}"));
    }
    if let Some(at) = overview.oldest_queued_at {
        parts.push(format!("oldest queued {}", format::age(Some(at), app.server_now())));
    }
    if rest.height > 0 {
        let muted = canvas.style(Tone::Muted);
        let line = cut_top(&mut rest, 1);
        canvas.text(line.x + 1, line.y, &parts.join("   "), muted, line.width.saturating_sub(1));
    }
    if rest.height > 0
        && let Some(text) = open_tunnels(app)
    {
        let style = canvas.style(Tone::Text);
        canvas.text(rest.x + 1, rest.y, &text, style, rest.width.saturating_sub(1));
    }
}

/// Says that no site has a device that is offline, as far as that is known.
fn no_site(app: &App) -> (String, Tone) {
    if app.is_current() {
        (format!("{} every site is complete", app.theme.glyphs.yes), Tone::Good)
    } else {
        ("none was offline then".to_owned(), Tone::Muted)
    }
}

/// Devices that are offline, by site.
pub fn sites(canvas: &mut Canvas<'_>, area: Rect, app: &App, overview: &Overview) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    panel::rule(canvas, line, SITES, "", false);
    if overview.offline_by_site.is_empty() {
        let (text, tone) = no_site(app);
        canvas.put(rest.x + 1, rest.y, &text, tone);
        return;
    }
    let most = overview.offline_by_site.iter().map(|site| site.count).max().unwrap_or(0);
    let name_wide = 14.min(rest.width / 3);
    for (y, site) in (rest.y..rest.bottom()).zip(&overview.offline_by_site) {
        let name = if site.site.is_empty() { "(no site)" } else { site.site.as_str() };
        let text = canvas.style(Tone::Text);
        canvas.text(rest.x + 1, y, name, text, name_wide);
        let at = rest.x + name_wide + 8;
        let strong = canvas.style(Tone::Strong);
        canvas.put_right(at, y, &format::count(site.count), strong);
        let room = rest.right().saturating_sub(at + 3);
        bars::plain_bar(canvas, at + 2, y, room, site.count, most, Tone::Bad);
    }
}
