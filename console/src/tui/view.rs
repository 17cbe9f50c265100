//! State to cells. Pure: the same state draws the same screen.
//!
//! ```text
//!   header      where one is, how fresh it is, who one is
//!   body        the screen
//!   grace       what waits to be sent (only while something does)
//!   footer      the keys that matter here, or the line being typed
//! ```

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use super::{
    app::{App, Freshness, dialog::Overlay, msg::Layout, nav::Place},
    theme::Tone,
};
use canvas::{Canvas, cut_bottom, cut_top};

pub mod canvas;
pub mod footer;
pub mod header;
pub mod json;
pub mod overlay;
pub mod screens;
pub mod texts;
pub mod widgets;
pub mod words;

/// What was drawn where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drawn {
    pub layout: Layout,
    /// Where the terminal's cursor belongs.
    pub cursor: Option<Position>,
}

/// Makes ready what is drawn: the pictures of panes that are seen.
pub fn prepare(app: &mut App) {
    let now = app.now;
    match &app.nav.here {
        Place::Panes => app.panes.refresh(now),
        Place::Player(_) => {
            if let Some(player) = &mut app.player {
                player.refresh(now);
            }
        }
        _ => {}
    }
}

/// Draws the whole screen.
pub fn draw(app: &App, buffer: &mut Buffer) -> Drawn {
    buffer.reset();
    let mut drawn = Drawn::default();
    let mut cursor = None;
    let mut canvas = Canvas::new(buffer, &app.theme, &mut cursor);
    let area = canvas.area();
    if let Some(wall) = &app.wall {
        screens::wall::draw(&mut canvas, area, app, wall, &mut drawn.layout);
    } else {
        draw_console(&mut canvas, area, app, &mut drawn.layout);
    }
    if let Some(overlay) = &app.overlay {
        overlay::draw(&mut canvas, area, app, overlay);
    }
    drawn.cursor = cursor;
    drawn
}

fn draw_console(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut body = area;
    let head = cut_top(&mut body, 1);
    header::draw(canvas, head, app);
    if body.height >= 3 {
        let foot = cut_bottom(&mut body, 1);
        footer::draw(canvas, foot, app);
    }
    if let Some(grace) = app.calls.grace.last()
        && body.height >= 3
    {
        let row = cut_bottom(&mut body, 1);
        footer::grace(canvas, row, app, grace);
    } else if body.height >= 3
        && let Some(text) = footer::under_way(app)
    {
        let row = cut_bottom(&mut body, 1);
        footer::progress(canvas, row, &text);
    } else if body.height >= 3
        && let Some(text) = footer::not_sent(app)
    {
        let row = cut_bottom(&mut body, 1);
        footer::refusal(canvas, row, &text);
    }
    let below_head = body;
    // A tall screen has room to breathe; a terminal has use for it.
    if body.height >= 20 && !matches!(app.nav.here, Place::Panes | Place::Player(_)) {
        cut_top(&mut body, 1);
    }
    screen(canvas, body, app, layout);
    let known = matches!(
        app.freshness(),
        Freshness::Live(_) | Freshness::Frozen(_) | Freshness::Connecting
    );
    // Each pane says for itself how true it is; what was recorded is as true as ever.
    let speaks_for_itself =
        matches!(app.nav.here, Place::NewCommand | Place::Panes | Place::Player(_));
    if (!known || app.is_awaiting()) && !speaks_for_itself {
        canvas.dim(body);
        footer::lost(canvas, body, app);
    }
    // On the row that is left free below the header they cover nothing; where there is none, keys
    // may be covered for a moment, but neither content nor what is being typed.
    let is_prompt = matches!(app.overlay, Some(Overlay::Prompt(_)));
    if body != below_head || is_prompt {
        footer::toasts(canvas, below_head, app);
    } else {
        footer::toasts_at_foot(canvas, area, app);
    }
}

fn screen(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut canvas = canvas.within(area);
    let canvas = &mut canvas;
    match &app.nav.here {
        Place::Overview => screens::overview::draw(canvas, area, app, layout),
        Place::Devices => screens::devices::draw(canvas, area, app, layout),
        Place::Device(id) => screens::device::draw(canvas, area, app, id, layout),
        Place::Commands => screens::commands::draw(canvas, area, app, layout),
        Place::Command(id) => screens::command::draw(canvas, area, app, *id, layout),
        Place::NewCommand => {
            if let Some(wizard) = &app.wizard {
                screens::wizard::draw(canvas, area, app, wizard, layout);
            } else {
                let text = "The wizard is closed. Esc goes back, n opens a new one.";
                canvas.put(area.x + 2, area.y, text, Tone::Muted);
            }
        }
        Place::Alerts => screens::lists::alerts(canvas, area, app, layout),
        Place::Audit => screens::lists::audit(canvas, area, app, layout),
        Place::Users => screens::users::draw(canvas, area, app, layout),
        Place::Tunnels => screens::sessions::tunnels(canvas, area, app, layout),
        Place::Recordings => screens::sessions::recordings(canvas, area, app, layout),
        Place::Panes => screens::panes::draw(canvas, area, app, layout),
        Place::Player(id) => screens::player::draw(canvas, area, app, id, layout),
        Place::Handover => screens::handover::draw(canvas, area, app, layout),
    }
}
