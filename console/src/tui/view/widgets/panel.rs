//! Rules with titles, tabs, boxes, label-and-value lines.

use ratatui::layout::Rect;

use crate::tui::{
    app::{App, Freshness, msg::Layout},
    store::{State, Window},
    theme::Tone,
    view::{
        canvas::{Canvas, width},
        overlay::wrapped,
    },
};

/// A horizontal rule with a title on the left and a note on the right.
pub fn rule(canvas: &mut Canvas<'_>, area: Rect, title: &str, note: &str, focused: bool) {
    if area.height == 0 || area.width == 0 {
        return;
    }
    let unicode = canvas.theme().unicode;
    let faint = canvas.style(Tone::Faint);
    let glyph = canvas.glyphs().horizontal;
    canvas.repeat(area.x, area.y, glyph, area.width, faint);
    let tone = if focused { Tone::Accent } else { Tone::Strong };
    let title = format!(" {title} ");
    let style = canvas.style(tone);
    let room = area.width.saturating_sub(4);
    let ground = ratatui::style::Style::reset();
    canvas.fill(Rect::new(area.x + 2, area.y, width(&title, unicode).min(room), 1), ground);
    let end = canvas.text(area.x + 2, area.y, &title, style, room);
    if !note.is_empty() {
        let note = format!(" {note} ");
        let wide = width(&note, unicode);
        if end + wide + 3 <= area.right() {
            let muted = canvas.style(Tone::Muted);
            canvas.put_right(area.right() - 2, area.y, &note, muted);
        }
    }
}

/// A box with a title; returns what is inside of it.
pub fn boxed(canvas: &mut Canvas<'_>, area: Rect, title: &str, tone: Tone) -> Rect {
    if area.width < 2 || area.height < 2 {
        return Rect { width: 0, height: 0, ..area };
    }
    let glyphs = canvas.glyphs();
    let style = canvas.style(tone);
    let [tl, tr, bl, br] = glyphs.corners;
    let (right, bottom) = (area.right() - 1, area.bottom() - 1);
    canvas.repeat(area.x, area.y, glyphs.horizontal, area.width, style);
    canvas.repeat(area.x, bottom, glyphs.horizontal, area.width, style);
    for y in area.y..=bottom {
        canvas.text(area.x, y, glyphs.vertical, style, 1);
        canvas.text(right, y, glyphs.vertical, style, 1);
    }
    for (x, y, corner) in
        [(area.x, area.y, tl), (right, area.y, tr), (area.x, bottom, bl), (right, bottom, br)]
    {
        canvas.text(x, y, corner, style, 1);
    }
    if !title.is_empty() {
        let title = format!(" {title} ");
        let strong = canvas.style(if tone == Tone::Faint { Tone::Strong } else { tone });
        let room = area.width.saturating_sub(4);
        let wide = width(&title, canvas.theme().unicode).min(room);
        canvas.fill(Rect::new(area.x + 2, area.y, wide, 1), ratatui::style::Style::reset());
        canvas.text(area.x + 2, area.y, &title, strong, room);
    }
    Rect::new(area.x + 1, area.y + 1, area.width - 2, area.height - 2)
}

/// A box upon other things: blanks what is under it.
pub fn dialog(canvas: &mut Canvas<'_>, area: Rect, title: &str, tone: Tone) -> Rect {
    canvas.fill(area, ratatui::style::Style::reset());
    let inside = boxed(canvas, area, title, tone);
    Rect {
        x: inside.x + u16::from(inside.width > 2),
        width: inside.width.saturating_sub(2),
        ..inside
    }
}

/// Tabs on one line, with the chosen one set off; notes where they are for clicks.
pub fn tabs(
    canvas: &mut Canvas<'_>,
    area: Rect,
    titles: &[&str],
    chosen: usize,
    layout: &mut Layout,
) {
    if area.height == 0 {
        return;
    }
    let unicode = canvas.theme().unicode;
    let all: u16 = titles.iter().map(|title| width(title, unicode) + 3).sum();
    let mut x = area.x + 1;
    for (at, title) in titles.iter().enumerate() {
        // Too narrow for all: the chosen one, and where it stands.
        if all > area.width && at != chosen {
            continue;
        }
        let text = if all > area.width {
            format!(" {title} {}/{} ", chosen + 1, titles.len())
        } else {
            format!(" {title} ")
        };
        let style = canvas.style(if at == chosen { Tone::Chosen } else { Tone::Muted });
        let end = canvas.text(x, area.y, &text, style, area.right().saturating_sub(x));
        layout.tabs.push((at, Rect::new(x, area.y, end.saturating_sub(x), 1)));
        x = end + 1;
    }
}

/// Label and value; returns the row below.
pub fn fact(
    canvas: &mut Canvas<'_>,
    area: Rect,
    y: u16,
    label: &str,
    value: &str,
    tone: Tone,
) -> u16 {
    const LABEL: u16 = 14;
    if y >= area.bottom() {
        return y;
    }
    let label_wide = LABEL.min(area.width / 3);
    let muted = canvas.style(Tone::Muted);
    canvas.text(area.x, y, label, muted, label_wide);
    let style = canvas.style(tone);
    let x = area.x + label_wide + 1;
    canvas.text(x, y, value, style, area.right().saturating_sub(x));
    y + 1
}

/// What stands where rows would be when there are none: why, and what to do.
pub fn empty(canvas: &mut Canvas<'_>, area: Rect, app: &App, window: &Window, none: &[&str]) {
    let (texts, tone): (Vec<String>, Tone) = match &window.state {
        // Nothing loads where nothing can come.
        State::Loading if matches!(app.freshness(), Freshness::Lost(_) | Freshness::SignedOut) => {
            let texts = ["There is no connection.", "This loads when it is back."];
            (texts.map(str::to_owned).to_vec(), Tone::Warn)
        }
        State::Loading => (vec!["loading ...".to_owned()], Tone::Faint),
        State::Refused(refusal) => (
            vec![
                format!("The server does not show this: {}", refusal.detail),
                format!("({})", refusal.code),
            ],
            Tone::Warn,
        ),
        State::Ready => (none.iter().map(|line| (*line).to_owned()).collect(), Tone::Muted),
    };
    let lines: Vec<String> = texts.iter().flat_map(|text| wrapped(text, area.width)).collect();
    let y = area.y + area.height.saturating_sub(lines.len() as u16) / 3;
    for (row, line) in (y..area.bottom()).zip(&lines) {
        let unicode = canvas.theme().unicode;
        let wide = width(line, unicode).min(area.width);
        let x = area.x + (area.width - wide) / 2;
        let tone = if row == y { tone } else { Tone::Faint };
        let style = canvas.style(if row == y { tone } else { Tone::Muted });
        canvas.text(x, row, line, style, wide);
    }
}
