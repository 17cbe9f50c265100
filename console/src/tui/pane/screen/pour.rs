//! Plain lines that pour past: they go to the history without a stay on the screen.
//!
//! ```text
//!   screen, its last row blank     all above goes to the history,
//!   lines that follow: many   ──▶  all lines but the last few behind it,
//!                                  the last few to the screen
//! ```
//!
//! A row takes thousands of bytes, and each line that scrolls through writes and
//! clears one. What is shown and remembered is the same as one by one.

use super::Screen;
use crate::tui::pane::cell::Attrs;

/// What became of lines that were offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Poured {
    /// Bytes of lines that were taken.
    pub taken: usize,
    /// Bytes that were looked at: up to there another look is in vain.
    pub looked: usize,
}

/// One line: printable ASCII from a column on, which fits in its row.
#[derive(Debug)]
struct PlainLine<'a> {
    col: u16,
    text: &'a [u8],
}

/// Cuts bytes into plain lines, up to the first that is none.
#[derive(Debug)]
struct PlainLines<'a> {
    rest: &'a [u8],
    cols: u16,
    /// Where the next one begins.
    col: u16,
    /// The cursor stands on the character that filled the last column.
    is_on_last: bool,
}

impl<'a> Iterator for PlainLines<'a> {
    type Item = PlainLine<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let col = self.col;
        let room = usize::from(self.cols - col);
        let mut ahead = self.rest.iter().take(room + 1);
        let length = ahead.position(|byte| !matches!(byte, 0x20..=0x7e))?;
        let (text, after) = self.rest.split_at(length);
        if length > 0 {
            self.is_on_last = length == room;
            self.col = (col + length as u16).min(self.cols - 1);
        }
        self.rest = match after {
            [b'\n', rest @ ..] => rest,
            [b'\r', b'\n', rest @ ..] => {
                (self.col, self.is_on_last) = (0, false);
                rest
            }
            _ => return None,
        };
        Some(PlainLine { col, text })
    }
}

impl Screen {
    /// Takes plain lines that follow a line feed, if they are many and nothing but the bottom row
    /// of the page moves them.
    pub(in crate::tui::pane) fn pour(&mut self, bytes: &[u8]) -> Poured {
        let above = self.size.rows - 1;
        // From so many on it is worth the second look at them.
        let worth = 2 * usize::from(self.size.rows);
        let is_at_bottom = self.cursor.row == above && !self.cursor.is_past_end;
        let is_plain = self.charsets.is_plain() && !self.modes.insert && !self.modes.newline;
        if bytes.len() < worth
            || !is_at_bottom
            || !is_plain
            || self.is_alternate()
            || self.margins != self.page()
            || self.blank() != Attrs::DEFAULT
            || !self.grid().row(above).used().is_empty()
        {
            return Poured::default();
        }
        let lines = || PlainLines {
            rest: bytes,
            cols: self.size.cols,
            col: self.cursor.col,
            is_on_last: self.cursor.is_on_last,
        };
        let (mut look, mut count, mut looked) = (lines(), 0_usize, 0);
        while look.next().is_some() {
            count += 1;
            looked = bytes.len() - look.rest.len();
        }
        if count < worth {
            return Poured { taken: 0, looked };
        }
        let mut lines = lines();
        let pen = self.pen;
        self.scroll_up(&self.page(), above);
        let past = count - usize::from(above);
        let forgotten = self.history.make_way(past);
        for line in lines.by_ref().take(past).skip(forgotten) {
            self.history.push_ascii(line.col, line.text, pen);
        }
        for (row, line) in lines.by_ref().take(usize::from(above)).enumerate() {
            if !line.text.is_empty() {
                self.grid_mut().put_ascii(row as u16, line.col, line.text, pen);
            }
        }
        (self.cursor.col, self.cursor.is_on_last) = (lines.col, lines.is_on_last);
        let last = bytes[..looked].iter().rfind(|byte| !matches!(byte, b'\r' | b'\n'));
        self.last = last.map(|byte| char::from(*byte)).or(self.last);
        Poured { taken: looked, looked }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tui::pane::{
        any_bytes,
        cell::Cell,
        history::{History, Line},
        notices::Notices,
        parser::Parser,
        screen::{Cursor, PaneSize},
    };

    /// All that one can see of a screen.
    #[derive(Debug, PartialEq)]
    struct Seen {
        rows: Vec<(String, Vec<Attrs>, bool)>,
        cursor: Cursor,
        last: Option<char>,
        history: Vec<Line>,
        forgotten: u64,
    }

    fn fed(size: PaneSize, lines_max: usize, chunks: impl Iterator<Item = Vec<u8>>) -> Seen {
        let mut screen = Screen::new(size, History::new(lines_max), Notices::default());
        let mut parser = Parser::default();
        for chunk in chunks {
            parser.advance(&chunk, &mut screen);
        }
        let history = screen.history();
        Seen {
            rows: (screen.grid().rows())
                .map(|row| {
                    let text = row.cells().iter().map(Cell::text).collect();
                    (text, row.cells().iter().map(|cell| cell.attrs).collect(), row.wrapped)
                })
                .collect(),
            cursor: screen.cursor(),
            last: screen.last,
            history: (0..history.len()).filter_map(|at| history.line(at)).cloned().collect(),
            forgotten: history.forgotten(),
        }
    }

    /// Lines of a flood: short, as wide as the screen, beyond it, ended one way or the other.
    fn flood() -> impl Strategy<Value = Vec<u8>> {
        let line = ("[ -~]{0,9}", prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n"]))
            .prop_map(|(text, end)| text + end);
        prop::collection::vec(line, 1..40).prop_map(|lines| lines.concat().into_bytes())
    }

    #[test]
    fn a_flood_does_not_stay_on_the_screen() {
        let mut screen = Screen::new(PaneSize::new(3, 8), History::new(100), Notices::default());
        Parser::default().advance(b"one\r\ntwo\r\nthree\r\n", &mut screen);
        let flood = b"y\r\n".repeat(10);
        assert_eq!(screen.pour(&flood), Poured { taken: 30, looked: 30 });
        // What is none ends it; too few are left alone.
        let mut mixed = flood.clone();
        mixed.extend_from_slice(b"\x1b[mno\r\n");
        assert_eq!(screen.pour(&mixed), Poured { taken: 30, looked: 30 });
        assert_eq!(screen.pour(&flood[..15]), Poured { taken: 0, looked: 15 });
        assert_eq!(screen.history().len(), 21);
    }

    proptest! {
        #[test]
        fn lines_that_pour_are_as_one_by_one(
            parts in prop::collection::vec(prop_oneof![2 => any_bytes::part(), 3 => flood()], 1..12),
            (rows, cols, lines_max) in (1..5_u16, 1..12_u16, prop::sample::select(vec![0, 5, 50])),
        ) {
            let bytes = parts.concat();
            let size = PaneSize::new(rows, cols);
            let whole = fed(size, lines_max, std::iter::once(bytes.clone()));
            let singly = fed(size, lines_max, bytes.iter().map(|byte| vec![*byte]));
            prop_assert_eq!(whole, singly);
        }
    }
}
