//! What is drawn: the model's rows, put into a `vt100` screen.
//!
//! The emulator never sees a byte from a device. It gets whole rows, in the few
//! controls that it understands well: a place, an erased line, colours, text. So
//! what it lacks or gets wrong is of no account, a flood costs it one picture per
//! look, and during a synchronised update it still holds the last whole one.
//!
//! ```text
//!   Screen ── rows whose stamp is new ──▶ CUP, EL 2, SGR, text ──▶ vt100 ──▶ cells
//!                                                    │ panic
//!                                                    └──▶ a fresh emulator, painted anew
//! ```
//!
//! Kept beside it is what it has no place for: attributes beyond its five, bold
//! and dim at once, and the characters that it drops.

use std::{collections::BTreeMap, num::NonZeroU16};

use super::{
    cell::{Attrs, Cell, Colour, Flags},
    contain::contain,
    screen::{PaneSize, Screen},
};

/// `vt100` is never smaller than this, whatever the pane is.
const SIDE_MIN: u16 = 2;
/// What stands in the emulator for text that it would drop.
const STAND_IN: u8 = b'?';

/// How one cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'a> {
    /// A space where there is nothing; empty for the second cell of a wide character.
    pub text: &'a str,
    pub attrs: Attrs,
}

/// The picture of a pane.
pub struct Display {
    emulator: vt100::Parser,
    size: PaneSize,
    face: (u32, bool),
    /// The stamp of the row that is painted at each line.
    painted: Vec<Option<u64>>,
    flags: Vec<Flags>,
    /// Texts that the emulator cannot hold, by row and column.
    texts: BTreeMap<(u16, u16), String>,
    bytes: Vec<u8>,
    /// How often the emulator panicked.
    panics: u32,
    #[cfg(test)]
    trap: Option<u16>,
}

impl std::fmt::Debug for Display {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Display").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Display {
    pub fn new(size: PaneSize) -> Self {
        let cells = usize::from(size.rows) * usize::from(size.cols);
        Self {
            emulator: emulator(size),
            size,
            face: (0, false),
            painted: vec![None; usize::from(size.rows)],
            flags: vec![Flags::default(); cells],
            texts: BTreeMap::new(),
            bytes: Vec::new(),
            panics: 0,
            #[cfg(test)]
            trap: None,
        }
    }

    pub const fn size(&self) -> PaneSize {
        self.size
    }

    /// How often a panic of the emulator was contained.
    pub const fn panics(&self) -> u32 {
        self.panics
    }

    /// Paints what has changed. A row that the emulator cannot bear stays blank.
    pub fn paint(&mut self, screen: &Screen) {
        if self.size != screen.size() {
            let panics = self.panics;
            *self = Self { panics, ..Self::new(screen.size()) };
        }
        if self.face != screen.face() {
            self.face = screen.face();
            self.painted.fill(None);
        }
        while !self.paint_rows(screen) {
            self.panics = self.panics.saturating_add(1);
            self.emulator = emulator(self.size);
            // Each round leaves out the row at which the last one ended, so they come to an end.
        }
    }

    /// Paints rows until all are done or the emulator panics.
    fn paint_rows(&mut self, screen: &Screen) -> bool {
        for (row, line) in (0..).zip(screen.grid().rows()) {
            let stamp = Some(line.stamp());
            if self.painted[usize::from(row)] == stamp {
                continue;
            }
            self.write_row(row, line.used());
            #[cfg(test)]
            let trap = self.trap == Some(row);
            let Self { emulator, bytes, .. } = self;
            let done = contain(|| {
                #[cfg(test)]
                assert!(!trap, "as a test wishes");
                emulator.process(bytes);
            });
            if done.is_none() {
                self.painted.fill(None);
                self.painted[usize::from(row)] = stamp;
                return false;
            }
            self.painted[usize::from(row)] = stamp;
        }
        true
    }

    /// Writes one row in the emulator's terms.
    fn write_row(&mut self, row: u16, cells: &[Cell]) {
        let start = usize::from(row) * usize::from(self.size.cols);
        let flags = &mut self.flags[start..start + usize::from(self.size.cols)];
        flags.fill(Flags::default());
        if !self.texts.is_empty() {
            self.texts.retain(|(at, _), _| *at != row);
        }
        let out = &mut self.bytes;
        out.clear();
        out.extend_from_slice(b"\x1b[");
        number(out, row + 1);
        out.extend_from_slice(b";1H\x1b[m\x1b[2K");
        let mut attrs = Attrs::DEFAULT;
        for (col, cell) in (0_u16..).zip(cells) {
            flags[usize::from(col)] = cell.attrs.flags;
            if cell.is_second() {
                continue;
            }
            let plain = Attrs { flags: cell.attrs.flags.without(Flags::PROTECTED), ..cell.attrs };
            if plain != attrs {
                attrs = plain;
                sgr(out, attrs);
            }
            match cell.bytes() {
                [] => out.push(b' '),
                [byte] => out.push(*byte),
                bytes => {
                    let text = cell.text();
                    if text.contains(is_dropped) {
                        self.texts.insert((row, col), text.to_owned());
                        push_bearable(out, text);
                    } else {
                        out.extend_from_slice(bytes);
                    }
                }
            }
        }
    }

    /// How a cell of the picture looks; `None` beyond its edges.
    pub fn look(&self, row: u16, col: u16) -> Option<Look<'_>> {
        if row >= self.size.rows || col >= self.size.cols {
            return None;
        }
        let cell = self.emulator.screen().cell(row, col)?;
        let flags = self.flags[usize::from(row) * usize::from(self.size.cols) + usize::from(col)];
        let kept = if self.texts.is_empty() { None } else { self.texts.get(&(row, col)) };
        let text = match kept {
            Some(text) => text,
            None if cell.is_wide_continuation() => "",
            None if cell.has_contents() => cell.contents(),
            None => " ",
        };
        // The emulator leaves the second cell of a wide character without colours.
        let painted = if cell.is_wide_continuation() {
            self.emulator.screen().cell(row, col.checked_sub(1)?)?
        } else {
            cell
        };
        let attrs = Attrs { fg: colour(painted.fgcolor()), bg: colour(painted.bgcolor()), flags };
        Some(Look { text, attrs })
    }
}

fn emulator(size: PaneSize) -> vt100::Parser {
    let side = |length: u16| NonZeroU16::new(length.max(SIDE_MIN)).unwrap_or(NonZeroU16::MIN);
    vt100::Parser::new(side(size.rows), side(size.cols), 0)
}

const fn colour(colour: vt100::Color) -> Colour {
    match colour {
        vt100::Color::Default => Colour::Default,
        vt100::Color::Idx(index) => Colour::Indexed(index),
        vt100::Color::Rgb(r, g, b) => Colour::Rgb(r, g, b),
    }
}

/// What the emulator does not take as it is: U+FFFD, and selectors that would widen a cell.
const fn is_dropped(c: char) -> bool {
    matches!(c, char::REPLACEMENT_CHARACTER | '\u{fe0e}' | '\u{fe0f}')
}

fn push_bearable(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            char::REPLACEMENT_CHARACTER => out.push(STAND_IN),
            c if is_dropped(c) => {}
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Writes all attributes that the emulator has.
fn sgr(out: &mut Vec<u8>, attrs: Attrs) {
    out.extend_from_slice(b"\x1b[0");
    for (flag, text) in [
        (Flags::BOLD, b";1"),
        (Flags::DIM, b";2"),
        (Flags::ITALIC, b";3"),
        (Flags::UNDERLINE, b";4"),
        (Flags::INVERSE, b";7"),
    ] {
        if attrs.flags.has(flag) {
            out.extend_from_slice(text);
        }
    }
    for (colour, base) in [(attrs.fg, b";3"), (attrs.bg, b";4")] {
        match colour {
            Colour::Default => {}
            Colour::Indexed(index) => {
                out.extend_from_slice(base);
                out.extend_from_slice(b"8;5;");
                number(out, u16::from(index));
            }
            Colour::Rgb(r, g, b) => {
                out.extend_from_slice(base);
                out.extend_from_slice(b"8;2");
                for part in [r, g, b] {
                    out.push(b';');
                    number(out, u16::from(part));
                }
            }
        }
    }
    out.push(b'm');
}

fn number(out: &mut Vec<u8>, value: u16) {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    for step in [10_000, 1000, 100, 10] {
        if value >= step {
            out.push(digit(value / step));
        }
    }
    out.push(digit(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::pane::{history::History, notices::Notices, parser::Parser};
    use proptest::prelude::*;

    fn screen(size: PaneSize, bytes: &[u8]) -> Screen {
        let mut screen = Screen::new(size, History::new(10), Notices::default());
        Parser::default().advance(bytes, &mut screen);
        screen
    }

    fn assert_alike(display: &Display, screen: &Screen) {
        for row in 0..screen.size().rows {
            for col in 0..screen.size().cols {
                let cell = screen.grid().cell(row, col);
                let look = display.look(row, col).expect("within");
                assert_eq!(look.text, cell.text(), "row {row}, column {col}");
                assert_eq!(look.attrs, cell.attrs, "row {row}, column {col}");
            }
        }
    }

    #[test]
    fn the_picture_is_the_model() {
        let size = PaneSize::new(4, 12);
        let text = "\x1b[1;2;31mab\x1b[0;9;48;2;1;2;3m日\x1b[K\r\n\u{fffd}❤\u{fe0f}x\u{301}e\u{301}\x1b[4;5H\x1b[7;94mend";
        let screen = screen(size, text.as_bytes());
        let mut display = Display::new(size);
        display.paint(&screen);
        assert_alike(&display, &screen);
    }

    #[test]
    fn a_pane_of_one_cell_shows_it() {
        for (rows, cols) in [(1, 1), (1, 5), (5, 1)] {
            let size = PaneSize::new(rows, cols);
            let screen = screen(size, "日a\x1b[31mb".as_bytes());
            let mut display = Display::new(size);
            display.paint(&screen);
            assert_alike(&display, &screen);
            assert_eq!(display.look(rows, 0), None);
        }
    }

    #[test]
    fn a_panic_of_the_emulator_costs_one_row() {
        let size = PaneSize::new(3, 4);
        let screen = screen(size, b"one\r\ntwo\r\nsix");
        let mut display = Display { trap: Some(1), ..Display::new(size) };
        display.paint(&screen);
        let text = |row| {
            (0..3).map(|col| display.look(row, col).expect("within").text).collect::<String>()
        };
        assert_eq!([text(0), text(1), text(2)], ["one", "   ", "six"]);
        assert_eq!(display.panics(), 1);
    }

    #[test]
    fn numbers_are_written_in_full() {
        for value in [0, 7, 10, 99, 100, 255, 1000, 65535] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).expect("digits"), value.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_picture_is_the_model(
            parts in prop::collection::vec(crate::tui::pane::any_bytes::part(), 1..40),
            rows in 1..8_u16, cols in 1..20_u16,
        ) {
            let size = PaneSize::new(rows, cols);
            let mut screen = Screen::new(size, History::new(10), Notices::default());
            let (mut parser, mut display) = (Parser::default(), Display::new(size));
            for part in parts {
                parser.advance(&part, &mut screen);
                display.paint(&screen);
                assert_alike(&display, &screen);
            }
            prop_assert_eq!(display.panics(), 0);
        }
    }
}
