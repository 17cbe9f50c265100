//! Screens that are one table: alerts, audit.

use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{App, moving, msg::Layout},
    format,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_bottom, cut_left, cut_top},
        widgets::{panel, table},
    },
};

pub fn alerts(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    let list = app.list(WindowKey::Alerts);
    let alert = app.peeked().and_then(|row| row.alert());
    if area.height >= 18 && area.width >= 60 {
        let mut peek = cut_bottom(&mut rest, 6);
        if let Some(alert) = alert {
            let line = cut_top(&mut peek, 1);
            let title = alert.kind.replace('_', " ");
            panel::rule(canvas, line, &title, "Enter goes to its cause", false);
            cut_left(&mut peek, 3);
            let badge = app.theme.severity(alert.severity);
            let cause = format!("{} {}   {}", badge.glyph, badge.word, alert.cause);
            let mut y = panel::fact(canvas, peek, peek.y, "Alert", &cause, badge.tone);
            let zone = &app.zone;
            let first = format::utc_and_local(alert.first_seen_at, zone);
            y = panel::fact(canvas, peek, y, "First seen", &first, Tone::Text);
            let times = match alert.count {
                1 => "once".to_owned(),
                n => format!("{} times", format::count(n)),
            };
            let last = format!("{}   {times}", format::utc_and_local(alert.last_seen_at, zone));
            y = panel::fact(canvas, peek, y, "Last seen", &last, Tone::Text);
            let (state, tone) = cells::alert_state(app, alert).plain();
            panel::fact(canvas, peek, y, "State", &state, tone);
        }
    }
    let none = ["No alerts.", "When a device goes or a service fails, it is said here."];
    let filtered = ["No alert matches the filter.", "Esc drops it."];
    let none: &[&str] = if list.filter.is_empty() { &none } else { &filtered };
    let look = table::Look { key: WindowKey::Alerts, title: "Alerts", focused: true, none };
    table::draw(canvas, rest, app, look, layout, cells::alert);
}

pub fn audit(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    let entry = app.peeked().and_then(|row| row.audit());
    if area.height >= 18 && area.width >= 60 {
        let mut peek = cut_bottom(&mut rest, 5);
        if let Some(entry) = entry {
            let line = cut_top(&mut peek, 1);
            let note = moving::audit_place(entry).map_or("", |_| "Enter goes to it");
            panel::rule(canvas, line, &format!("entry {}", entry.seq), note, false);
            cut_left(&mut peek, 3);
            let when = format::utc_and_local(entry.at, &app.zone);
            let mut y = panel::fact(canvas, peek, peek.y, "When", &when, Tone::Text);
            let from = match entry.from.as_str() {
                "" => String::new(),
                from => format!("  from {from}"),
            };
            let what = format!("{}  {}  {}{from}", entry.actor, entry.action, entry.object);
            y = panel::fact(canvas, peek, y, "What", &what, Tone::Text);
            let detail = cells::compact(&entry.detail);
            let detail = if detail.is_empty() { "-" } else { &detail };
            y = panel::fact(canvas, peek, y, "Detail", detail, Tone::Text);
            panel::fact(canvas, peek, y, "Hash", &entry.hash, Tone::Muted);
        }
    }
    let none = ["No audit entry matches.", "Every action leaves one here, denied ones too."];
    let look =
        table::Look { key: WindowKey::Audit, title: "Audit (UTC)", focused: true, none: &none };
    table::draw(canvas, rest, app, look, layout, cells::audit);
}
