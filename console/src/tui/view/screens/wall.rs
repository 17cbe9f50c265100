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
        panel::empty(canvas, body, app, window, &["The server sent no overview."]);
        return;
    };
    let mut panels: Vec<Panel> = Vec::new();
    let commands = (overview::COMMANDS, overview::SPAN.to_owned());
    let sites = (overview::SITES, String::new());
    match PAGES[wall.page % PAGES.len()] {
        "fleet" if body.height >= 14 && body.width >= 60 => {
            let row = cut_top(&mut body, bars::big_rows(app.theme.unicode) + 4);
            let tiles = overview::tiles(canvas, row, app, overview);
            panels.extend(tiles.into_iter().map(|(title, at)| (at, (title, String::new()))));
            let mut lines = cut_top(&mut body, 8);
            let left = cut_left(&mut lines, body.width / 2);
            overview::commands(canvas, left, app, overview);
            cut_left(&mut lines, 2);
            overview::sites(canvas, lines, app, overview);
            panels.extend([(left, commands), (lines, sites), alerts(canvas, body, app, layout)]);
        }
        "fleet" => {
            let high = overview::compact_rows(body) + 1;
            let facts = cut_top(&mut body, high);
            overview::fleet(canvas, facts, app, overview);
            let fleet = (overview::FLEET, String::new());
            panels.extend([(facts, fleet), alerts(canvas, body, app, layout)]);
        }
        "commands" => {
            overview::commands(canvas, body, app, overview);
            panels.push((body, commands));
        }
        "alerts" => panels.push(alerts(canvas, body, app, layout)),
        _ => {
            overview::sites(canvas, body, app, overview);
            panels.push((body, sites));
        }
    }
    let known = matches!(app.freshness(), Freshness::Live(_) | Freshness::Connecting);
    if !known {
        let below =
            Rect { y: head.y + 1, height: area.bottom().saturating_sub(head.y + 1), ..area };
        canvas.dim(below);
        footer::lost(canvas, below, app);
    }
    for panel in &panels {
        aged(canvas, panel, app);
    }
}

/// Where a panel is, and what stands in its top border: title and note.
type Panel = (Rect, (&'static str, String));

fn alerts(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) -> Panel {
    let (key, title) = (WindowKey::OpenAlerts, "Open alerts");
    if area.height >= 2 {
        let none = overview::no_alert(app);
        let look = table::Look { key, title, focused: false, none };
        table::draw(canvas, area, app, look, layout, cells::alert);
    }
    (area, (title, footer::position(app, key)))
}

/// How old the data of a panel is, in its top border between title and note; STALE when it is.
/// In few words where there is no room for more.
fn aged(canvas: &mut Canvas<'_>, (area, (title, note)): &Panel, app: &App) {
    if area.height < 2 {
        return;
    }
    let age = format::age_ms(app.heard_at.map_or(0, |at| app.now.millis_since(at).max(0)));
    let (texts, tone) = if matches!(app.freshness(), Freshness::Live(_)) {
        ([format!(" {age} old "), format!(" {age} ")], Tone::Faint)
    } else {
        ([format!(" STALE {age} "), " STALE ".to_owned()], Tone::Alarm)
    };
    let style = canvas.style(tone);
    let around = |text: &str| if text.is_empty() { 2 } else { canvas.width(text) + 5 };
    let (from, to) = (area.x + around(title), area.right().saturating_sub(around(note)));
    let room = to.saturating_sub(from);
    let fitting = texts.iter().find(|text| canvas.width(text) <= room);
    let Some(text) = fitting else {
        // That it is stale counts more than what it is called.
        let wide = canvas.width(&texts[1]).min(area.width.saturating_sub(2));
        if tone == Tone::Alarm {
            canvas.text(area.right().saturating_sub(wide + 1), area.y, &texts[1], style, wide);
        }
        return;
    };
    let wide = canvas.width(text);
    let middle = area.x + (area.width / 2).saturating_sub(wide + 3);
    canvas.text(middle.clamp(from, to - wide), area.y, text, style, wide);
}

fn draw_head(canvas: &mut Canvas<'_>, area: Rect, app: &App, wall: &WallState) {
    let bar = canvas.style(Tone::Bar);
    canvas.fill(area, bar);
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
    let (session, crumb) = (&app.session, app.theme.glyphs.crumb);
    let page = format!("{}/{} {}", wall.page + 1, PAGES.len(), PAGES[wall.page % PAGES.len()]);
    let room = x.saturating_sub(area.x);
    let places = [
        format!(" {}@{} {crumb} WALL {crumb} {page}", session.server, session.project),
        format!(" {} {crumb} WALL {crumb} {page}", session.project),
        format!(" WALL {page}"),
        format!(" {page}"),
    ];
    let place = places.iter().find(|place| width(place, unicode) <= room);
    canvas.text(area.x, area.y, place.unwrap_or(&places[3]), bar, room);
}
