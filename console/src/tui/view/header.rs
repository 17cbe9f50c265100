//! The header: where one is, how fresh it is, who one is.

use quarterdeck_protocol::api::Role;
use ratatui::layout::Rect;

use super::canvas::{Canvas, width};
use crate::tui::{
    app::{App, Freshness, Link},
    format,
    theme::Tone,
};

/// Draws the header line. What is least needed goes first when it is narrow.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let bar = canvas.style(Tone::Bar);
    canvas.fill(area, bar);
    let unicode = app.theme.unicode;
    let right = right_side(canvas, app);
    let crumbs = app.nav.here.crumbs();
    let session = &app.session;
    let place = format!("{}@{}", session.server, session.project);
    let mark = format!(" {} ", app.theme.glyphs.crumb);

    // From the right: what fits beside the last crumb.
    let last = crumbs.last().map_or(0, |crumb| width(crumb, unicode)) + 2;
    let mut x = area.right();
    for (text, tone, rank) in &right {
        let wide = width(text, unicode);
        let needed = if *rank == 0 { 0 } else { last + 2 };
        if x.saturating_sub(area.x) < wide + 1 + needed {
            if *rank == 0 {
                continue;
            }
            break;
        }
        let style = bar.patch(canvas.style(*tone));
        x = x.saturating_sub(wide + 1);
        canvas.text(x, area.y, text, style, wide);
        x = x.saturating_sub(1);
    }

    // From the left: the way to where one is, the last part always.
    let room = x.saturating_sub(area.x + 1);
    let full: u16 = width(&place, unicode)
        + crumbs.iter().map(|crumb| width(crumb, unicode) + width(&mark, unicode)).sum::<u16>();
    let mut at = area.x + 1;
    let muted = bar.patch(canvas.style(Tone::Muted));
    let accent = bar.patch(canvas.style(Tone::Accent));
    let strong = bar.patch(canvas.style(Tone::Strong));
    let end = area.x + 1 + room;
    if full <= room {
        at = canvas.text(at, area.y, &session.server, muted, end.saturating_sub(at));
        at = canvas.text(at, area.y, "@", muted, end.saturating_sub(at));
        at = canvas.text(at, area.y, &session.project, accent, end.saturating_sub(at));
        at = canvas.text(at, area.y, &mark, muted, end.saturating_sub(at));
        for crumb in &crumbs[..crumbs.len().saturating_sub(1)] {
            at = canvas.text(at, area.y, crumb, bar, end.saturating_sub(at));
            at = canvas.text(at, area.y, &mark, muted, end.saturating_sub(at));
        }
    } else if room >= last + width(&session.project, unicode) + 3 {
        at = canvas.text(at, area.y, &session.project, accent, end.saturating_sub(at));
        at = canvas.text(at, area.y, &mark, muted, end.saturating_sub(at));
    }
    if let Some(crumb) = crumbs.last() {
        canvas.text(at, area.y, crumb, strong, end.saturating_sub(at));
    }
}

/// The parts on the right, the outermost first; with rank 0 those that are never left out.
fn right_side(canvas: &Canvas<'_>, app: &App) -> Vec<(String, Tone, u8)> {
    let glyphs = canvas.glyphs();
    let mut parts = vec![fresh(app)];
    if let Some(overview) = app.store.overview() {
        let open = overview.alerts.unacknowledged;
        if open > 0 {
            let glyph = app.theme.severity(quarterdeck_protocol::api::Severity::Critical).glyph;
            let tone = if overview.alerts.critical > 0 { Tone::Bad } else { Tone::Warn };
            parts.push((format!("{glyph} {}", format::plural(open, "alert")), tone, 1));
        }
    }
    if app.calls.waiting() > 0 {
        let text = format!("{} {} pending", glyphs.pending, app.calls.waiting());
        parts.push((text, Tone::Warn, 1));
    }
    if !app.session.username.is_empty() {
        let role = if app.read_only {
            "read-only"
        } else if app.session.admin {
            "admin"
        } else {
            app.session.role.as_str()
        };
        let may_write = !app.read_only && (app.session.admin || app.session.role > Role::Viewer);
        let tone = if may_write { Tone::Muted } else { Tone::Warn };
        parts.push((app.session.username.clone(), Tone::Muted, 2));
        // Of an admin who is called admin, the word says both.
        if app.session.username != role {
            parts.push((role.to_owned(), tone, 2));
        }
    }
    if app.low_bandwidth {
        parts.push(("low bandwidth".to_owned(), Tone::Muted, 3));
    }
    parts
}

/// From this width on the header has room for the next try.
const WIDE: u16 = 80;

/// When a lost connection is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    Now,
    /// In so many seconds.
    In(i64),
}

/// When a lost connection is tried next, where that is known.
pub fn retry(app: &App) -> Option<Retry> {
    let Link::Lost { again_at: Some(at), .. } = &app.link else { return None };
    let left_ms = at.millis_since(app.now);
    // Rounded up: at 0 it tries.
    Some(if left_ms <= 0 { Retry::Now } else { Retry::In((left_ms + 999) / 1_000) })
}

/// How fresh the screen is, in a word.
pub fn fresh(app: &App) -> (String, Tone, u8) {
    let glyphs = app.theme.glyphs;
    let (text, tone) = match app.freshness() {
        Freshness::Connecting => (format!("{} CONNECTING", glyphs.pending), Tone::Warn),
        Freshness::Live(None) => (format!("{} LIVE", glyphs.live), Tone::Good),
        Freshness::Live(Some(age)) => {
            (format!("{} LIVE {}", glyphs.live, format::age_ms(age)), Tone::Good)
        }
        Freshness::Frozen(age) => {
            (format!("{} FROZEN {}", glyphs.frozen, format::age_ms(age)), Tone::Warn)
        }
        Freshness::Stale(age) => {
            (format!("{} STALE {}", glyphs.pending, format::age_ms(age)), Tone::Warn)
        }
        Freshness::Lost(age) => {
            let age = format::age_ms(age);
            let next = match retry(app).filter(|_| app.size.width >= WIDE) {
                Some(Retry::Now) => ", trying now".to_owned(),
                Some(Retry::In(seconds)) => format!(", retry in {seconds}s"),
                None => String::new(),
            };
            (format!(" {} LOST {age}{next} ", glyphs.lost), Tone::Alarm)
        }
        Freshness::SignedOut => (format!(" {} SIGNED OUT ", glyphs.lost), Tone::Alarm),
    };
    (text, tone, 0)
}
