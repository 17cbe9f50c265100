//! Screens that are one table: alerts, audit.

use quarterdeck_protocol::api::AuditEntry;
use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{App, moving, msg::Layout},
    format,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_bottom, cut_left, cut_top},
        texts::{self, Line},
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
        let wide = area.width.saturating_sub(PEEK_INDENT + 1);
        let lines = entry.map(|entry| entry_lines(app, entry)).unwrap_or_default();
        let rows = texts::wrapped(lines, usize::from(wide));
        // A long entry takes some of the table's room, never all of it.
        let high = (rows.len() as u16).clamp(AUDIT_PEEK_ROWS, area.height / 2);
        let mut peek = cut_bottom(&mut rest, high + 1);
        if let Some(entry) = entry {
            let line = cut_top(&mut peek, 1);
            let goes = moving::audit_place(entry).map_or("", |_| "Enter goes to it");
            let is_cut = rows.len() > usize::from(peek.height);
            let note = if is_cut { "i shows all of it" } else { goes };
            panel::rule(canvas, line, &format!("entry {}", entry.seq), note, false);
            cut_left(&mut peek, PEEK_INDENT);
            for (y, row) in (peek.y..peek.bottom()).zip(&rows) {
                let mut x = peek.x;
                for (text, tone) in &row.0 {
                    x = canvas.put(x, y, text, *tone);
                }
            }
        }
    }
    let none = ["No audit entry matches.", "Every action leaves one here, denied ones too."];
    let look =
        table::Look { key: WindowKey::Audit, title: "Audit (UTC)", focused: true, none: &none };
    table::draw(canvas, rest, app, look, layout, cells::audit);
}

/// The columns before the peek's text.
const PEEK_INDENT: u16 = 3;
/// The most columns of the dialog that shows an audit entry.
pub const ENTRY_WIDE: u16 = 100;
/// The rows of the peek of an audit entry that says little.
const AUDIT_PEEK_ROWS: u16 = 4;

/// All of an audit entry.
pub fn entry_lines(app: &App, entry: &AuditEntry) -> Vec<Line> {
    let fact = |label: &str, value: &str, tone| {
        Line(vec![(format!("{label:<13}  "), Tone::Muted), (value.to_owned(), tone)])
    };
    let from = match entry.from.as_str() {
        "" => String::new(),
        from => format!("  from {from}"),
    };
    let what = format!("{}  {}  {}{from}", entry.actor, entry.action, entry.object);
    let detail = cells::compact(&entry.detail);
    let detail = if detail.is_empty() { "-" } else { &detail };
    vec![
        fact("When", &format::utc_and_local(entry.at, &app.zone), Tone::Text),
        fact("What", &what, Tone::Text),
        fact("Detail", detail, Tone::Text),
        fact("Hash", &entry.hash, Tone::Muted),
    ]
}

/// How far the text of an audit entry scrolls in its dialog.
pub fn entry_last_top(app: &App, entry: &AuditEntry) -> usize {
    let wide = ENTRY_WIDE.min(app.size.width).saturating_sub(4);
    let rows = texts::wrapped(entry_lines(app, entry), usize::from(wide)).len();
    rows.saturating_sub(usize::from(app.size.height.saturating_sub(2)))
}
