//! The only way to the screen.
//!
//! Every text that a view writes passes through [`Canvas::text`], and there
//! through [`protocol::text`](quarterdeck_protocol::text): whatever a device
//! or a user wrote can neither act on the terminal nor deceive its reader, and
//! no view can forget it. A canvas clips: outside of its area nothing is
//! written, at any size.

use std::borrow::Cow;

use quarterdeck_protocol::text;
use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    style::{Modifier, Style},
};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::tui::{
    pane::widget,
    theme::{Glyphs, Theme, Tone},
};

/// A part of the screen that may be written on.
#[derive(Debug)]
pub struct Canvas<'a> {
    buffer: &'a mut Buffer,
    theme: &'a Theme,
    area: Rect,
    /// Where the terminal's cursor belongs, when a text field has the focus.
    cursor: &'a mut Option<Position>,
}

impl<'a> Canvas<'a> {
    pub fn new(buffer: &'a mut Buffer, theme: &'a Theme, cursor: &'a mut Option<Position>) -> Self {
        let area = buffer.area;
        Self { buffer, theme, area, cursor }
    }

    /// The same screen, clipped to `area`.
    pub fn within(&mut self, area: Rect) -> Canvas<'_> {
        Canvas {
            area: self.area.intersection(area),
            buffer: self.buffer,
            theme: self.theme,
            cursor: self.cursor,
        }
    }

    pub const fn area(&self) -> Rect {
        self.area
    }

    pub const fn theme(&self) -> &'a Theme {
        self.theme
    }

    pub const fn glyphs(&self) -> &'static Glyphs {
        self.theme.glyphs
    }

    pub fn style(&self, tone: Tone) -> Style {
        self.theme.style(tone)
    }

    /// How many columns a text takes here.
    pub fn width(&self, text: &str) -> u16 {
        width(text, self.theme.unicode)
    }

    /// Writes one line at `x`, `y`, at most `max` columns; what does not fit ends in an ellipsis.
    /// Returns the column after it.
    pub fn text(&mut self, x: u16, y: u16, text: &str, style: impl Into<Style>, max: u16) -> u16 {
        let right = self.area.right().min(x.saturating_add(max));
        if y < self.area.y || y >= self.area.bottom() || x >= right || x < self.area.x {
            return x;
        }
        let style = style.into();
        let shown = shown(text, self.theme.unicode);
        let room = right - x;
        if shown.width() <= usize::from(room) {
            return self.buffer.set_stringn(x, y, shown, usize::from(room), style).0;
        }
        let kept = self.buffer.set_stringn(x, y, &*shown, usize::from(room - 1), style).0;
        self.buffer.set_stringn(kept, y, self.theme.glyphs.ellipsis, 1, style).0
    }

    /// Writes in a tone, up to the right border of the area.
    pub fn put(&mut self, x: u16, y: u16, text: &str, tone: Tone) -> u16 {
        let style = self.style(tone);
        self.text(x, y, text, style, u16::MAX)
    }

    /// Puts the first of some texts, from long to short, that fits at `x`; the last is cut.
    pub fn put_fitting(&mut self, x: u16, y: u16, texts: &[&str], right: u16, tone: Tone) -> u16 {
        let room = right.saturating_sub(x);
        let fits = texts.iter().find(|text| self.width(text) <= room).or(texts.last());
        let style = self.style(tone);
        self.text(x, y, fits.unwrap_or(&""), style, room)
    }

    /// Writes so that the text ends before column `right`. Returns the column where it starts.
    pub fn put_right(&mut self, right: u16, y: u16, text: &str, style: impl Into<Style>) -> u16 {
        let width = width(text, self.theme.unicode);
        let x = right.saturating_sub(width);
        if x >= self.area.x {
            self.text(x, y, text, style, width);
        }
        x
    }

    /// Blanks a part and gives it a style.
    pub fn fill(&mut self, area: Rect, style: impl Into<Style>) {
        let style = style.into();
        let area = self.area.intersection(area);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                let cell = &mut self.buffer[(x, y)];
                cell.reset();
                cell.set_style(style);
            }
        }
    }

    /// Repeats a glyph of one column.
    pub fn repeat(&mut self, x: u16, y: u16, glyph: &str, n: u16, style: impl Into<Style>) {
        let style = style.into();
        for x in x..x.saturating_add(n).min(self.area.right()) {
            self.text(x, y, glyph, style, 1);
        }
    }

    /// Restyles what is there, and leaves the text.
    pub fn restyle(&mut self, area: Rect, style: impl Into<Style>) {
        self.buffer.set_style(self.area.intersection(area), style);
    }

    /// Takes all colour away and dims: what is shown is no longer known to be so.
    pub fn dim(&mut self, area: Rect) {
        let area = self.area.intersection(area);
        let faint = self.style(Tone::Faint);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                let cell = &mut self.buffer[(x, y)];
                let kept = cell.modifier & (Modifier::REVERSED | Modifier::UNDERLINED);
                cell.set_style(Style::reset().patch(faint).add_modifier(kept));
            }
        }
    }

    /// Draws a pane. It is drawn by cells, and makes what they show safe itself; the terminal's
    /// cursor is put where the pane's is when `has_focus`.
    pub fn pane(&mut self, view: &widget::View<'_>, area: Rect, has_focus: bool) {
        let area = self.area.intersection(area);
        let cursor = widget::draw(view, self.theme, area, self.buffer);
        if has_focus {
            *self.cursor = cursor;
        }
    }

    /// Puts the terminal's cursor here.
    pub fn set_cursor(&mut self, x: u16, y: u16) {
        let at = Position::new(x, y);
        if self.area.contains(at) {
            *self.cursor = Some(at);
        }
    }
}

/// How many columns a text takes when it is shown.
pub fn width(text: &str, unicode: bool) -> u16 {
    u16::try_from(shown(text, unicode).width()).unwrap_or(u16::MAX)
}

/// The text as it is shown: safe, and within the characters that the terminal has.
pub fn shown(text: &str, unicode: bool) -> Cow<'_, str> {
    let safe = text::line(text);
    if unicode || safe.is_ascii() {
        return safe;
    }
    let plain = safe
        .graphemes(true)
        .map(|part| if part.is_ascii() { part.to_owned() } else { "?".repeat(part.width()) })
        .collect();
    Cow::Owned(plain)
}

/// Takes rows off the top of a rectangle.
pub fn cut_top(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    let cut = Rect { height: rows, ..*area };
    area.y += rows;
    area.height -= rows;
    cut
}

/// Takes rows off its bottom.
pub fn cut_bottom(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    area.height -= rows;
    Rect { y: area.y + area.height, height: rows, ..*area }
}

/// Takes columns off its left.
pub fn cut_left(area: &mut Rect, columns: u16) -> Rect {
    let columns = columns.min(area.width);
    let cut = Rect { width: columns, ..*area };
    area.x += columns;
    area.width -= columns;
    cut
}

/// Takes columns off its right.
pub fn cut_right(area: &mut Rect, columns: u16) -> Rect {
    let columns = columns.min(area.width);
    area.width -= columns;
    Rect { x: area.x + area.width, width: columns, ..*area }
}

/// A rectangle of at most this size in the middle of `area`.
pub fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::{Depth, ThemeName};

    #[test]
    fn nothing_that_is_written_can_act_on_the_terminal() {
        let theme = Theme::new(ThemeName::Default, Depth::None, true);
        let mut buffer = Buffer::empty(Rect::new(0, 0, 20, 1));
        let mut cursor = None;
        Canvas::new(&mut buffer, &theme, &mut cursor).put(0, 0, "a\x1b[2Jb\u{202e}", Tone::Text);
        let line: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert_eq!(line, "a^[[2Jb<U+202E>     ");
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis_and_stays_inside() {
        let theme = Theme::new(ThemeName::Default, Depth::None, false);
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 1));
        let mut cursor = None;
        let mut canvas = Canvas::new(&mut buffer, &theme, &mut cursor);
        canvas.within(Rect::new(0, 0, 6, 1)).put(1, 0, "größer als", Tone::Text);
        canvas.put(7, 5, "off", Tone::Text);
        let line: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert_eq!(line, " gr??~  ");
    }
}
