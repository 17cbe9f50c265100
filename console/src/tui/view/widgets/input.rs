//! A line of text that is typed.

use crate::tui::{
    app::field::TextField,
    theme::Tone,
    view::canvas::{Canvas, shown},
};
use unicode_width::UnicodeWidthStr;

/// Draws a text field of one line, scrolled so that its cursor is seen.
pub fn line(
    canvas: &mut Canvas<'_>,
    x: u16,
    y: u16,
    wide: u16,
    field: &TextField,
    focused: bool,
    boxed: bool,
) {
    if wide == 0 {
        return;
    }
    let unicode = canvas.theme().unicode;
    let style = if boxed { canvas.style(Tone::Field) } else { canvas.style(Tone::Text) };
    if boxed {
        canvas.fill(ratatui::layout::Rect::new(x, y, wide, 1), style);
    }
    let hidden = if unicode { "•" } else { "*" };
    let masked = |text: &str| hidden.repeat(text.chars().count());
    let text = if field.secret { masked(field.text()) } else { field.text().to_owned() };
    let before: String = text.chars().take(field.cursor()).collect();
    let to_cursor = shown(&before, unicode).width();
    let room = usize::from(wide).saturating_sub(1);
    // Leave out whole characters from the left until the cursor is inside.
    let mut rest = text.as_str();
    let mut skipped = 0;
    while to_cursor - skipped > room {
        let mut chars = rest.chars();
        let Some(c) = chars.next() else { break };
        skipped += shown(c.encode_utf8(&mut [0; 4]), unicode).width();
        rest = chars.as_str();
        if skipped > to_cursor {
            skipped = to_cursor;
        }
    }
    canvas.text(x, y, rest, style, wide);
    if focused {
        canvas.set_cursor(x + (to_cursor - skipped).min(room) as u16, y);
    }
}
