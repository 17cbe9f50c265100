//! Draws a pane into a buffer.
//!
//! A cell is drawn by what it shows, never by its bytes: a character that would
//! deceive its reader (bidi controls, zero-width and other hidden ones) is left
//! out and its cell is marked, so a row keeps its columns and the operator sees
//! that something is there.

use std::borrow::Cow;

use quarterdeck_protocol::text;
use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    style::{Color, Modifier, Style},
};

use super::{
    Pane,
    cell::{Attrs, Cell, Colour, Flags},
    copy::{Selection, Span, Transcript},
    display::Look,
};
use crate::tui::theme::{Depth, Theme, Tone};

/// A pane and how it is to be seen.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub pane: &'a Pane,
    /// The first row of the transcript to show; the screen as it is when `None`.
    pub top: Option<u64>,
    pub selection: Option<&'a Selection>,
    /// What a search found of what is seen; the first is the one that was gone to.
    pub matches: &'a [Span],
    /// The connection is lost: what is shown is old.
    pub is_lost: bool,
}

impl View<'_> {
    /// The row of the transcript and the column of the screen that stand in the upper left corner
    /// of `area`. Where the screen is larger than that, what is seen is where the cursor is.
    pub fn corner(&self, area: Rect) -> (u64, u16) {
        let transcript = Transcript::new(self.pane.screen());
        let (size, cursor) = (self.pane.screen().size(), self.pane.screen().cursor());
        let beyond = |at: u16, length: u16| (at + 1).saturating_sub(length);
        let live = transcript.screen_start() + u64::from(beyond(cursor.row, area.height));
        let top = self.top.map_or(live, |top| top.clamp(transcript.start(), live));
        (top, if size.cols > area.width { beyond(cursor.col, area.width) } else { 0 })
    }
}

/// Draws it. Returns where the terminal's cursor belongs, when the pane has the keyboard.
pub fn draw(view: &View<'_>, theme: &Theme, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    let area = area.intersection(buffer.area);
    let size = view.pane.display().size();
    let transcript = Transcript::new(view.pane.screen());
    let corner @ (top, left) = view.corner(area);
    for y in 0..area.height {
        let row = top + u64::from(y);
        let live = row.checked_sub(transcript.screen_start());
        // The picture holds what is live, the transcript what has scrolled off it.
        let cells =
            if live.is_some() { Vec::new() } else { transcript.row(row).unwrap_or_default().0 };
        for x in 0..area.width {
            let col = left + x;
            let look = match live {
                Some(line) if line < u64::from(size.rows) => {
                    view.pane.display().look(line as u16, col)
                }
                Some(_) => None,
                None => Some(of_cell(cells.get(usize::from(col)).unwrap_or(&Cell::BLANK))),
            };
            let at = Position { x: area.x + x, y: area.y + y };
            let Some(cell) = buffer.cell_mut(at) else { continue };
            cell.reset();
            let Some(look) = look else { continue };
            let is_last = x + 1 == area.width;
            let mut style = style(look.attrs, theme.depth);
            if view.pane.screen().modes().reverse_screen {
                style = toggled(style);
            }
            let plain = matches!(look.text.as_bytes(), [b' '..=b'~']);
            let (symbol, is_marked) = if plain {
                (Cow::Borrowed(look.text), false)
            } else {
                shown(look.text, is_last, theme.unicode)
            };
            if is_marked {
                style = style.patch(theme.style(Tone::Warn)).add_modifier(Modifier::REVERSED);
            }
            style = emphasised(view, theme, style, (row, col));
            if view.is_lost {
                style = style.add_modifier(Modifier::DIM);
            }
            cell.set_symbol(&symbol).set_style(style);
        }
    }
    cursor(view, corner, area)
}

fn of_cell(cell: &Cell) -> Look<'_> {
    Look { text: cell.text(), attrs: cell.attrs }
}

/// What of a cell's text is drawn, and whether something of it is not.
fn shown(text: &str, is_last: bool, unicode: bool) -> (Cow<'_, str>, bool) {
    if text.is_empty() {
        // The second half of a wide character, which the first one covers.
        return (Cow::Borrowed(" "), false);
    }
    let is_marked = !text.chars().all(is_honest);
    let honest = if is_marked {
        Cow::Owned(text.chars().filter(|c| is_honest(*c)).collect())
    } else {
        Cow::Borrowed(text)
    };
    let width = unicode_width::UnicodeWidthStr::width(&*honest);
    if width == 0 {
        return (Cow::Borrowed("?"), true);
    }
    if !unicode && !honest.is_ascii() {
        return (Cow::Owned(ascii(&honest).to_string()), is_marked);
    }
    // Half of a wide character at the edge would be drawn over what is beside the pane.
    if width > 1 && is_last {
        return (Cow::Borrowed(" "), is_marked);
    }
    (honest, is_marked)
}

/// Whether a character may be drawn, alone or as a mark on another.
pub fn is_honest(c: char) -> bool {
    if matches!(c, ' '..='~' | '\u{2500}'..='\u{259f}') {
        // Letters, lines and blocks: most of what is drawn.
        return true;
    }
    let mut bytes = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..length]).is_ok_and(|pair| text::line(pair) == pair)
}

/// The nearest to a character that a terminal without Unicode has.
fn ascii(text: &str) -> char {
    match text.chars().next() {
        Some(c) if c.is_ascii() => c,
        Some('│' | '┃' | '║' | '┆' | '┇' | '┊' | '┋' | '╎' | '╏' | '╵' | '╷' | '╽' | '╿') => {
            '|'
        }
        Some('─' | '━' | '┄' | '┅' | '┈' | '┉' | '═' | '╌' | '╍' | '╴' | '╶' | '⎺'..='⎽') => {
            '-'
        }
        Some('┌'..='╿') => '+',
        Some('█' | '▓' | '▒' | '░' | '■') => '#',
        Some('•' | '●' | '◆' | '·') => '*',
        _ => '?',
    }
}

fn style(attrs: Attrs, depth: Depth) -> Style {
    let mut modifiers = Modifier::empty();
    for (flag, modifier) in [
        (Flags::BOLD, Modifier::BOLD),
        (Flags::DIM, Modifier::DIM),
        (Flags::ITALIC, Modifier::ITALIC),
        (Flags::UNDERLINE, Modifier::UNDERLINED),
        (Flags::INVERSE, Modifier::REVERSED),
        (Flags::HIDDEN, Modifier::HIDDEN),
        (Flags::STRUCK, Modifier::CROSSED_OUT),
    ] {
        // Nothing blinks: on a wall of panes that is an alarm, and it costs frames.
        modifiers.set(modifier, attrs.flags.has(flag));
    }
    Style::new().fg(colour(attrs.fg, depth)).bg(colour(attrs.bg, depth)).add_modifier(modifiers)
}

fn toggled(style: Style) -> Style {
    if style.add_modifier.contains(Modifier::REVERSED) {
        style.remove_modifier(Modifier::REVERSED)
    } else {
        style.add_modifier(Modifier::REVERSED)
    }
}

/// A selection and what a search found stand out from whatever a program painted.
fn emphasised(view: &View<'_>, theme: &Theme, style: Style, (row, col): (u64, u16)) -> Style {
    let covers =
        |range: Option<(u16, u16)>| range.is_some_and(|(from, to)| (from..=to).contains(&col));
    if covers(view.selection.and_then(|selection| selection.on_row(row))) {
        return theme.style(Tone::Selected).add_modifier(Modifier::REVERSED);
    }
    let found = view.matches.iter().position(|span| covers(span.on_row(row)));
    match found {
        Some(0) => theme.style(Tone::Match).add_modifier(Modifier::REVERSED),
        Some(_) => style.patch(theme.style(Tone::Match)),
        None => style,
    }
}

fn cursor(view: &View<'_>, (top, left): (u64, u16), area: Rect) -> Option<Position> {
    let screen = view.pane.screen();
    if !screen.modes().cursor_shown || view.is_lost {
        return None;
    }
    let cursor = screen.cursor();
    let row = Transcript::new(screen).screen_start() + u64::from(cursor.row);
    let (x, y) = (cursor.col.checked_sub(left)?, row.checked_sub(top)?);
    (y < u64::from(area.height) && x < area.width)
        .then(|| Position { x: area.x + x, y: area.y + y as u16 })
}

/// A colour as this terminal has it.
fn colour(colour: Colour, depth: Depth) -> Color {
    match (colour, depth) {
        (Colour::Default, _) | (_, Depth::None) => Color::Reset,
        (Colour::Indexed(index), Depth::Indexed)
        | (Colour::Indexed(index @ 0..=15), Depth::Ansi16) => Color::Indexed(index),
        (Colour::Rgb(r, g, b), Depth::Indexed) => Color::Indexed(nearest_indexed(r, g, b)),
        (Colour::Indexed(index), Depth::Ansi16) => {
            let (r, g, b) = rgb_of(index);
            Color::Indexed(nearest_ansi(r, g, b))
        }
        (Colour::Rgb(r, g, b), Depth::Ansi16) => Color::Indexed(nearest_ansi(r, g, b)),
    }
}

/// The levels of the 6×6×6 cube.
const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// What a colour of the palette is, from 16 on; the first sixteen are the terminal's own.
const fn rgb_of(index: u8) -> (u8, u8, u8) {
    if index >= 232 {
        let level = 8 + 10 * (index - 232);
        return (level, level, level);
    }
    let cube = index.saturating_sub(16);
    (LEVELS[(cube / 36) as usize], LEVELS[(cube / 6 % 6) as usize], LEVELS[(cube % 6) as usize])
}

/// The nearest of the cube and the greys: half the bytes of true colour on each change.
fn nearest_indexed(red: u8, green: u8, blue: u8) -> u8 {
    let level = |value: u8| -> u8 {
        (0..6).min_by_key(|at| LEVELS[*at].abs_diff(value)).unwrap_or(0) as u8
    };
    let cube = 16 + 36 * level(red) + 6 * level(green) + level(blue);
    let mean = (u16::from(red) + u16::from(green) + u16::from(blue)) / 3;
    let grey = 232 + (mean.saturating_sub(3) / 10).min(23) as u8;
    let far = |index: u8| {
        let (own_red, own_green, own_blue) = rgb_of(index);
        [(own_red, red), (own_green, green), (own_blue, blue)]
            .iter()
            .map(|(own, wanted)| u32::from(own.abs_diff(*wanted)).pow(2))
            .sum::<u32>()
    };
    if far(grey) < far(cube) { grey } else { cube }
}

/// Dark or bright by the strongest part; which parts are at least half as strong.
fn nearest_ansi(r: u8, g: u8, b: u8) -> u8 {
    let strongest = r.max(g).max(b);
    if strongest < 64 {
        return 0;
    }
    let is_strong = |part: u8| u8::from(part > strongest / 2);
    let hue = is_strong(r) + 2 * is_strong(g) + 4 * is_strong(b);
    match (hue, strongest) {
        (7, 64..=127) => 8,
        (hue, 192..) => hue + 8,
        (hue, _) => hue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::{
        pane::{any_bytes, notices::Allowed, screen::PaneSize},
        theme::ThemeName,
    };
    use proptest::prelude::*;

    const THEME: Theme = Theme::new(ThemeName::Default, Depth::Indexed, true);

    fn pane(rows: u16, cols: u16, text: &str) -> Pane {
        let mut pane = Pane::new(PaneSize::new(rows, cols), Allowed::default());
        pane.feed(text.as_bytes());
        pane.refresh(0);
        pane
    }

    const fn view(pane: &Pane) -> View<'_> {
        View { pane, top: None, selection: None, matches: &[], is_lost: false }
    }

    fn drawn(view: &View<'_>, width: u16, height: u16) -> (Vec<String>, Buffer, Option<Position>) {
        let area = Rect { x: 0, y: 0, width, height };
        let mut buffer = Buffer::empty(area);
        let cursor = draw(view, &THEME, area, &mut buffer);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        ((0..height).map(line).collect(), buffer, cursor)
    }

    #[test]
    fn a_pane_is_drawn_with_its_colours_and_cursor() {
        let pane = pane(2, 8, "\x1b[1;31mab\x1b[0;48;2;255;0;0m日\r\n\x1b[mx");
        let (lines, buffer, cursor) = drawn(&view(&pane), 8, 2);
        assert_eq!(lines, ["ab日     ", "x       "]);
        assert_eq!(
            (buffer[(0, 0)].fg, buffer[(0, 0)].modifier),
            (Color::Indexed(1), Modifier::BOLD)
        );
        assert_eq!(
            (buffer[(2, 0)].bg, buffer[(3, 0)].bg),
            (Color::Indexed(196), Color::Indexed(196))
        );
        assert_eq!(cursor, Some(Position { x: 1, y: 1 }));
    }

    #[test]
    fn what_hides_is_marked_and_columns_stay() {
        let pane = pane(1, 8, "a\u{202e}b\u{200b}c\u{e000}");
        let (lines, buffer, _) = drawn(&view(&pane), 8, 1);
        assert_eq!(lines, ["abc?    "]);
        let marked = |x: u16| buffer[(x, 0)].modifier.contains(Modifier::REVERSED);
        assert_eq!([marked(0), marked(1), marked(2), marked(3)], [true, true, false, true]);
    }

    #[test]
    fn a_lost_pane_is_dim_and_has_no_cursor() {
        let pane = pane(1, 4, "x");
        let (_, buffer, cursor) = drawn(&View { is_lost: true, ..view(&pane) }, 4, 1);
        assert!(buffer[(0, 0)].modifier.contains(Modifier::DIM));
        assert_eq!(cursor, None);
    }

    #[test]
    fn scrolling_back_shows_what_left_the_screen() {
        let pane = pane(2, 4, "one\r\ntwo\r\nsix\r\nten");
        let (lines, _, cursor) = drawn(&View { top: Some(1), ..view(&pane) }, 4, 2);
        assert_eq!((lines, cursor), (vec!["two ".into(), "six ".into()], None));
        let (lines, ..) = drawn(&View { top: Some(0), ..view(&pane) }, 4, 3);
        assert_eq!(lines, ["one ", "two ", "six "]);
    }

    #[test]
    fn a_screen_that_is_larger_than_its_place_is_seen_where_the_cursor_is() {
        let pane = pane(4, 12, "one\r\ntwo\r\nsix seven");
        let (lines, _, cursor) = drawn(&view(&pane), 5, 2);
        assert_eq!(lines, ["     ", "even "]);
        assert_eq!(cursor, Some(Position { x: 4, y: 1 }));
        let (lines, ..) = drawn(&view(&pane), 12, 3);
        assert_eq!(lines[0], "one         ");
    }

    #[test]
    fn every_depth_has_its_nearest_colour() {
        let red = Colour::Rgb(250, 10, 5);
        assert_eq!(colour(red, Depth::Indexed), Color::Indexed(196));
        assert_eq!(colour(red, Depth::Ansi16), Color::Indexed(9));
        assert_eq!(colour(red, Depth::None), Color::Reset);
        assert_eq!(colour(Colour::Rgb(120, 120, 121), Depth::Indexed), Color::Indexed(243));
        assert_eq!(colour(Colour::Indexed(21), Depth::Ansi16), Color::Indexed(12));
        assert_eq!(colour(Colour::Indexed(244), Depth::Ansi16), Color::Indexed(7));
    }

    proptest! {
        #[test]
        fn nothing_drawn_can_act_or_leave_its_pane(
            parts in prop::collection::vec(any_bytes::part(), 1..20), width in 1..12_u16, top in prop::option::of(0..5_u64),
        ) {
            let mut pane = Pane::new(PaneSize::new(4, 10), Allowed::default());
            pane.feed(&parts.concat());
            pane.refresh(0);
            let whole = Rect { x: 0, y: 0, width: 20, height: 6 };
            let mut buffer = Buffer::filled(whole, ratatui::buffer::Cell::new("#"));
            let area = Rect { x: 3, y: 1, width, height: 4 };
            let cursor = draw(&View { top, ..view(&pane) }, &THEME, area, &mut buffer);
            prop_assert!(cursor.is_none_or(|at| area.contains(at)));
            for y in 0..6 {
                for x in 0..20 {
                    let symbol = buffer[(x, y)].symbol();
                    if area.contains(Position { x, y }) {
                        prop_assert_eq!(&*text::line(symbol), symbol);
                        let width = unicode_width::UnicodeWidthStr::width(symbol);
                        prop_assert!(width >= 1 && x + width as u16 <= area.right());
                    } else {
                        prop_assert_eq!(symbol, "#");
                    }
                }
            }
        }
    }
}
