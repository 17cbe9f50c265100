//! All commands, and a peek at the output of the one under the cursor.

use quarterdeck_protocol::api::Command;
use ratatui::layout::Rect;

use super::cells;
use crate::tui::{
    app::{App, msg::Layout},
    store::WindowKey,
    theme::Tone,
    view::{
        canvas::{Canvas, cut_bottom, cut_left, cut_top},
        texts,
        widgets::{panel, table},
    },
};

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let mut rest = area;
    let list = app.list(WindowKey::Commands);
    if area.height >= 18 && area.width >= 60 && !app.peek.hidden {
        let high = (area.height / 4).clamp(5, 12);
        let peek = cut_bottom(&mut rest, high);
        if let Some(command) = app.peeked().and_then(|row| row.command()) {
            draw_peek(canvas, peek, app, command, layout);
        }
    }
    let none = ["No commands yet.", "n sends the first: choose devices, then what they shall do."];
    let filtered = ["No command matches the filter.", "Esc drops it."];
    let none: &[&str] = if list.filter.is_empty() { &none } else { &filtered };
    let look = table::Look {
        key: WindowKey::Commands,
        title: "Commands",
        focused: !app.peek.focused,
        none,
    };
    table::draw(canvas, rest, app, look, layout, cells::command);
}

fn draw_peek(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    command: &Command,
    layout: &mut Layout,
) {
    let mut rest = area;
    let line = cut_top(&mut rest, 1);
    let badge = app.theme.command(command.status);
    let title =
        format!("{} on {}   {} {}", command.kind, command.device_id, badge.glyph, badge.word);
    let hint = if app.peek.focused { "Esc leaves, / searches" } else { "Tab focuses, Enter opens" };
    panel::rule(canvas, line, &title, hint, app.peek.focused);
    cut_left(&mut rest, 3);
    let mut text = texts::lines(app);
    let mut detail = cells::detail(command);
    if let (true, Some(state)) = (detail.is_empty(), &command.state) {
        detail.clone_from(state);
    }
    if text.is_empty() && !detail.is_empty() {
        let tone = if command.error_code.is_some() { Tone::Bad } else { Tone::Muted };
        text.push(texts::Line::new(detail, tone));
    } else if let Some(code) = &command.error_code {
        let message = command.error_message.as_deref().unwrap_or_default();
        text.push(texts::Line::new(format!("{code}: {message}"), Tone::Bad));
    }
    if text.is_empty() {
        let is_known = app.store.window(WindowKey::PeekOutput).is_known();
        let none = if is_known { "no output" } else { "loading ..." };
        text.push(texts::Line::new(none, Tone::Faint));
    }
    texts::draw(canvas, rest, app, text, layout);
}
