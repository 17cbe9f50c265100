//! The wall: big numbers, pages that turn, nothing to press.

use ratatui::layout::Rect;

use super::{cells, overview};
use crate::tui::{
    app::{
        App, Freshness,
        msg::Layout,
        wall::{PAGES, WallState},
    },
    format,
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_bottom, cut_left, cut_top, width},
        footer, header,
        widgets::{bars, panel, table},
    },
};

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, wall: &WallState, layout: &mut Layout) {
    let (right, down) =
        if area.width > 60 && area.height > 16 { wall.shift(app.now) } else { (0, 0) };
    let mut body = Rect {
        x: area.x + right,
        y: area.y + down,
        width: area.width.saturating_sub(1.min(area.width)).max(1),
        height: area.height.saturating_sub(u16::from(area.height > 16)),
    }
    .intersection(area);
    let head = cut_top(&mut body, 1);
    draw_head(canvas, head, app, wall);
    if body.height > 20 {
        cut_top(&mut body, 1);
    }
    let foot = if body.height > 10 { cut_bottom(&mut body, 1) } else { Rect::ZERO };
    if foot.height > 0 {
        let hint = if wall.for_ever {
            "space pauses   arrows turn   C-c ends"
        } else {
            "space pauses   arrows turn   q leaves the wall"
        };
        canvas.put(foot.x + 1, foot.y, hint, Tone::Faint);
    }
    let Some(overview) = app.store.overview() else {
        let window = app.store.window(WindowKey::Overview);
        panel::empty(canvas, body, window, &["The server sent no overview."]);
        return;
    };
    match PAGES[wall.page % PAGES.len()] {
        "fleet" => {
            if body.height >= 14 && body.width >= 60 {
                let row = cut_top(&mut body, bars::big_rows(app.theme.unicode) + 4);
                overview::tiles(canvas, row, app, overview);
                aged(canvas, row, app);
            }
            let mut lines = cut_top(&mut body, 8);
            let left = cut_left(&mut lines, body.width / 2);
            overview::commands(canvas, left, app, overview);
            cut_left(&mut lines, 2);
            overview::sites(canvas, lines, app, overview);
            aged(canvas, Rect { y: left.y, height: 1, ..body }, app);
            alerts(canvas, body, app, layout);
        }
        "commands" => {
            overview::commands(canvas, body, app, overview);
            aged(canvas, body, app);
        }
        "alerts" => alerts(canvas, body, app, layout),
        _ => {
            overview::sites(canvas, body, app, overview);
            aged(canvas, body, app);
        }
    }
    let known = matches!(app.freshness(), Freshness::Live(_) | Freshness::Connecting);
    if !known {
        let below =
            Rect { y: head.y + 1, height: area.bottom().saturating_sub(head.y + 1), ..area };
        canvas.dim(below);
        footer::lost(canvas, below, app);
        aged(canvas, body, app);
    }
}

fn alerts(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    if area.height < 2 {
        return;
    }
    let none = ["No open alert.", "All is quiet."];
    let key = WindowKey::OpenAlerts;
    let look = table::Look { key, title: "Open alerts", focused: false, none: &none };
    table::draw(canvas, area, app, look, layout, cells::alert);
    aged(canvas, area, app);
}

/// How old the data of a panel is, in its top border; STALE when it is.
fn aged(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    if area.height == 0 {
        return;
    }
    let age = app.heard_at.map_or(0, |at| app.now.millis_since(at).max(0));
    let (text, tone) = if matches!(app.freshness(), Freshness::Live(_)) {
        (format!(" {} old ", format::age_ms(age)), Tone::Faint)
    } else {
        (format!(" STALE {} ", format::age_ms(age)), Tone::Alarm)
    };
    let style = canvas.style(tone);
    let wide = width(&text, app.theme.unicode);
    if area.width > wide + 30 {
        let x = area.x + area.width / 2 - wide - 3;
        canvas.text(x, area.y, &text, style, wide);
    }
}

fn draw_head(canvas: &mut Canvas<'_>, area: Rect, app: &App, wall: &WallState) {
    let bar = canvas.style(Tone::Bar);
    canvas.fill(area, bar);
    let session = &app.session;
    let place = format!(
        " {}@{} {} WALL {} {}/{} {}",
        session.server,
        session.project,
        app.theme.glyphs.crumb,
        app.theme.glyphs.crumb,
        wall.page + 1,
        PAGES.len(),
        PAGES[wall.page % PAGES.len()]
    );
    canvas.text(area.x, area.y, &place, bar, area.width);
    let unicode = app.theme.unicode;
    let (fresh, tone, _) = header::fresh(app);
    let turn = if wall.paused {
        "paused".to_owned()
    } else {
        format!("turns every {}s", wall.rotate_ms / 1000)
    };
    let clock = format!("{} UTC", format::clock(app.server_now()));
    let mut x = area.right().saturating_sub(1);
    for (text, tone) in [(fresh, tone), (clock, Tone::Strong), (turn, Tone::Muted)] {
        let wide = width(&text, unicode);
        if x < area.x + wide + 2 || (tone == Tone::Muted && x < area.x + wide + 44) {
            break;
        }
        let style = bar.patch(canvas.style(tone));
        x = canvas.put_right(x, area.y, &text, style).saturating_sub(2);
    }
}
