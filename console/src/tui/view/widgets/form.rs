//! A form: labels on the left, controls on the right, one with the focus.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::input;
use crate::tui::{
    app::form::{Control, Editor, Field, Form},
    theme::Tone,
    view::canvas::{Canvas, shown, width},
};

/// How wide the labels are.
const LABEL: u16 = 14;

/// Whether something is said in the line below a field.
const fn is_noted(field: &Field, focused: bool) -> bool {
    field.error.is_some() || (focused && !field.help.is_empty())
}

/// The rows of a field's control where `room` is all there is: an editor of many rows gets lower.
fn control_rows(field: &Field, focused: bool, room: u16) -> u16 {
    let note = u16::from(is_noted(field, focused));
    field.rows().min(room.saturating_sub(note)).max(1)
}

/// The rows that a field takes: its control and the line below it.
fn rows(field: &Field, focused: bool, room: u16) -> u16 {
    control_rows(field, focused, room) + u16::from(is_noted(field, focused))
}

/// The rows that the whole form takes.
pub fn height(form: &Form) -> u16 {
    let fields = form.fields.iter().enumerate();
    fields.map(|(at, field)| rows(field, at == form.focus, u16::MAX)).sum()
}

/// Draws the fields that fit, scrolled so that the one with the focus is seen; says at the border
/// where there are more.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, form: &Form, focused: bool) {
    let room = area.height;
    let mut tops = Vec::with_capacity(form.fields.len());
    let mut y = 0_u16;
    for (at, field) in form.fields.iter().enumerate() {
        tops.push(y);
        y += rows(field, at == form.focus, room);
    }
    let bottom = tops.get(form.focus).copied().unwrap_or(0)
        + form.fields.get(form.focus).map_or(1, |field| rows(field, true, room));
    // From the beginning of a field on: no half of one stands at the top.
    let hidden = bottom.saturating_sub(room);
    let skip = tops.iter().copied().find(|top| *top >= hidden).unwrap_or(hidden);
    let gutter = Rect { x: area.right().saturating_sub(1), width: area.width.min(1), ..area };
    let area = Rect { width: area.width.saturating_sub(u16::from(y > room)), ..area };
    let muted = canvas.style(Tone::Muted);
    let glyphs = canvas.glyphs();
    if skip > 0 && room > 0 {
        canvas.text(gutter.x, gutter.y, glyphs.ascending, muted, gutter.width);
    }
    if y > skip + room && room > 0 {
        canvas.text(gutter.x, gutter.bottom() - 1, glyphs.descending, muted, gutter.width);
    }
    let mut clipped = canvas.within(area);
    for (at, (field, top)) in form.fields.iter().zip(tops).enumerate() {
        if top < skip {
            continue;
        }
        let y = area.y + top - skip;
        if y >= area.bottom() {
            break;
        }
        let row = Rect { y, height: area.bottom() - y, ..area };
        let has_focus = at == form.focus;
        draw_field(&mut clipped, row, field, (focused && has_focus, has_focus), room);
    }
}

fn draw_field(
    canvas: &mut Canvas<'_>,
    area: Rect,
    field: &Field,
    (focused, noted): (bool, bool),
    room: u16,
) {
    let label_wide = LABEL.min(area.width / 3);
    let glyphs = canvas.glyphs();
    let label = if field.required { format!("{} *", field.label) } else { field.label.clone() };
    let style = canvas.style(if focused { Tone::Accent } else { Tone::Muted });
    if focused {
        canvas.text(area.x, area.y, glyphs.cursor, style, 1);
    }
    canvas.text(area.x + 2, area.y, &label, style, label_wide.saturating_sub(1));
    let x = area.x + label_wide + 2;
    let wide = area.right().saturating_sub(x);
    let control = Rect { x, width: wide, ..area };
    let high = control_rows(field, noted, room);
    let control = Rect { height: high.min(area.height), ..control };
    draw_control(canvas, control, field, focused);
    let y = area.y + high;
    let note = field.error.as_deref().or(noted.then_some(field.help.as_str()));
    if let Some(note) = note.filter(|note| !note.is_empty()) {
        let (tone, glyph) = if field.error.is_some() {
            (Tone::Bad, format!("{} ", glyphs.no))
        } else {
            (Tone::Faint, String::new())
        };
        let style = canvas.style(if tone == Tone::Faint { Tone::Muted } else { tone });
        canvas.text(x, y, &format!("{glyph}{note}"), style, wide);
    }
}

fn draw_control(canvas: &mut Canvas<'_>, area: Rect, field: &Field, focused: bool) {
    let glyphs = canvas.glyphs();
    let (x, y) = (area.x, area.y);
    match &field.control {
        Control::Text(text) => input::line(canvas, x, y, area.width.min(60), text, focused, true),
        Control::Number { text, .. } => {
            input::line(canvas, x, y, area.width.min(16), text, focused, true);
        }
        // A choice of one is a button.
        Control::Choice { options, .. } if options.len() == 1 => {
            let style = canvas.style(if focused { Tone::Chosen } else { Tone::Field });
            canvas.text(x, y, &format!("  {}  ", options[0]), style, area.width);
        }
        Control::Choice { options, chosen } => {
            let labels: Vec<&str> =
                options.iter().map(|o| if o.is_empty() { "(none)" } else { o.as_str() }).collect();
            chips(canvas, area, &labels, *chosen, focused);
        }
        Control::Presets { options, chosen } => {
            let labels: Vec<&str> = options.iter().map(|(label, _)| label.as_str()).collect();
            chips(canvas, area, &labels, *chosen, focused);
        }
        Control::Switch(on) => {
            let (glyph, word) = if *on { (glyphs.on, "yes") } else { (glyphs.off, "no") };
            let style = canvas.style(if focused { Tone::Accent } else { Tone::Text });
            canvas.text(x, y, &format!("[{glyph}] {word}"), style, area.width);
        }
        Control::Slider { value, min, max } => slider(canvas, area, *value, *min, *max, focused),
        Control::List(e) | Control::Map(e) | Control::Json(e) => {
            editor(canvas, area, e, focused, false);
        }
        Control::Code(e) => editor(canvas, area, e, focused, true),
    }
}

/// Choices side by side, the chosen one set off; only the chosen one where they do not fit.
fn chips(canvas: &mut Canvas<'_>, area: Rect, labels: &[&str], chosen: usize, focused: bool) {
    let unicode = canvas.theme().unicode;
    let all: u16 = labels.iter().map(|label| width(label, unicode) + 3).sum();
    let mut x = area.x;
    for (at, label) in labels.iter().enumerate() {
        let tone = match (at == chosen, focused) {
            (true, true) => Tone::Chosen,
            (true, false) => Tone::Field,
            (false, _) => Tone::Muted,
        };
        if all > area.width {
            if at != chosen {
                continue;
            }
            let text = format!("< {label} > {}/{}", chosen + 1, labels.len());
            let style = canvas.style(tone);
            canvas.text(x, area.y, &text, style, area.width);
            return;
        }
        // Without colour the chosen one needs more than a ground.
        let text = if at == chosen && canvas.theme().depth == crate::tui::theme::Depth::None {
            format!("[{label}]")
        } else {
            format!(" {label} ")
        };
        let style = canvas.style(tone);
        x = canvas.text(x, area.y, &text, style, area.right().saturating_sub(x)) + 1;
    }
}

fn slider(canvas: &mut Canvas<'_>, area: Rect, value: i64, min: i64, max: i64, focused: bool) {
    let glyphs = canvas.glyphs();
    let steps = (max - min).clamp(1, 40) as u16;
    let track = canvas.style(if focused { Tone::Accent } else { Tone::Faint });
    let knob = canvas.style(if focused { Tone::Accent } else { Tone::Strong });
    let per = if area.width > steps * 2 + 24 { 2 } else { 1 };
    canvas.repeat(area.x, area.y, glyphs.horizontal, steps * per + 1, track);
    let at = area.x + (value - min).clamp(0, i64::from(steps)) as u16 * per;
    canvas.text(at, area.y, glyphs.slider, knob, 1);
    let band = u8::try_from(value)
        .ok()
        .and_then(|v| quarterdeck_protocol::command::Priority::try_from(v).ok())
        .map_or("", quarterdeck_protocol::command::Priority::band);
    let x = area.x + steps * per + 3;
    let strong = canvas.style(Tone::Strong);
    let x = canvas.text(x, area.y, &value.to_string(), strong, 4);
    canvas.put(x + 1, area.y, band, Tone::Muted);
}

fn editor(canvas: &mut Canvas<'_>, area: Rect, editor: &Editor, focused: bool, numbers: bool) {
    let area = Rect { height: editor.rows.min(area.height), ..area };
    let ground = canvas.style(Tone::Field);
    canvas.fill(area, ground);
    let unicode = canvas.theme().unicode;
    let lines = editor.lines();
    let (row, column) = editor.cursor();
    let gutter = if numbers { lines.len().to_string().len() as u16 + 2 } else { 1 };
    let wide = area.width.saturating_sub(gutter + 1);
    if wide == 0 {
        return;
    }
    let top = (row + 1).saturating_sub(usize::from(area.height));
    let before: String =
        lines.get(row).map(|line| line.chars().take(column).collect()).unwrap_or_default();
    let to_cursor = shown(&before, unicode).width();
    let shift = (to_cursor + 1).saturating_sub(usize::from(wide));
    for (y, (at, line)) in (area.y..area.bottom()).zip(lines.iter().enumerate().skip(top)) {
        if numbers {
            let number = format!("{:>1$} ", at + 1, usize::from(gutter) - 1);
            let faint = ground.patch(canvas.style(Tone::Faint));
            canvas.text(area.x, y, &number, faint, gutter);
        }
        let safe = shown(line, unicode);
        let part: String = skip_columns(&safe, shift);
        canvas.text(area.x + gutter, y, &part, ground, wide);
        if focused && at == row {
            let x = area.x + gutter + (to_cursor - shift) as u16;
            canvas.set_cursor(x, y);
        }
    }
}

/// The text from a column on.
fn skip_columns(text: &str, columns: usize) -> String {
    use unicode_width::UnicodeWidthChar;
    let mut skipped = 0;
    text.chars()
        .skip_while(|c| {
            let before = skipped;
            skipped += c.width().unwrap_or(0);
            before < columns
        })
        .collect()
}
