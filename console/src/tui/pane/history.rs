//! What has scrolled off the top of a pane: our own scrollback.
//!
//! A line is kept as its text and its runs of equal looks, a few dozen bytes
//! where a row of cells takes thousands, and the space of the oldest is used
//! again for the newest: a flood costs one copy of its text.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar as _;

use super::{
    cell::{Attrs, Cell},
    grid::Row,
};

/// How many lines a pane remembers, unless told otherwise.
pub const HISTORY_LINES: usize = 10_000;
/// Space that a line keeps when it is used again; more is given back.
const KEPT_BYTES: usize = 4096;

/// One remembered line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// How many empty cells come first.
    indent: u16,
    text: Vec<u8>,
    /// How many cells look alike, in order. None when all look plain.
    runs: Vec<(u16, Attrs)>,
    /// Its text goes on in the next line.
    pub wrapped: bool,
}

impl Line {
    fn clear(&mut self) {
        if self.text.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
        self.text.clear();
        self.runs.clear();
    }

    fn set_ascii(&mut self, col: u16, text: &[u8], attrs: Attrs) {
        self.clear();
        self.wrapped = false;
        self.indent = if text.is_empty() { 0 } else { col };
        self.text.extend_from_slice(text);
        if attrs != Attrs::DEFAULT && !text.is_empty() {
            self.runs.push((text.len() as u16, attrs));
        }
    }

    fn set(&mut self, row: &Row) {
        self.clear();
        self.wrapped = row.wrapped;
        let (indent, cells) = row.span();
        self.indent = indent;
        let first = cells.first().map_or(Attrs::DEFAULT, |cell| cell.attrs);
        // Most lines are ASCII that looks alike: they are taken without a branch for each cell.
        let (mut is_simple, mut is_alike) = (true, true);
        self.text.extend(cells.iter().map(|cell| {
            is_simple &= cell.is_simple();
            is_alike &= cell.attrs == first;
            cell.first_byte()
        }));
        if !is_simple {
            self.text.clear();
            for cell in cells {
                match cell.bytes() {
                    [] if cell.is_second() => {}
                    [] => self.text.push(b' '),
                    bytes => self.text.extend_from_slice(bytes),
                }
            }
        }
        if !is_alike {
            for run in cells.chunk_by(|a, b| a.attrs == b.attrs) {
                self.runs.push((run.len() as u16, run[0].attrs));
            }
        } else if first != Attrs::DEFAULT {
            self.runs.push((cells.len() as u16, first));
        }
    }

    /// Its text, without the empty cells before it.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.text).expect("only whole characters are put in")
    }

    /// Its cells, as they stood on the screen.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = vec![Cell::BLANK; usize::from(self.indent)];
        cells.reserve(self.text.len());
        let mut runs = self
            .runs
            .iter()
            .flat_map(|(count, attrs)| std::iter::repeat_n(*attrs, usize::from(*count)));
        for c in self.text().chars() {
            let width = c.width().unwrap_or(1);
            if width == 0 {
                let last = cells.iter_mut().rfind(|cell| !cell.is_second());
                if let Some(last) = last {
                    last.combine(c);
                }
                continue;
            }
            let attrs = runs.next().unwrap_or_default();
            cells.push(Cell::character(c, width > 1, attrs));
            if width > 1 {
                cells.push(Cell::second(runs.next().unwrap_or_default()));
            }
        }
        cells
    }
}

/// The lines that left the screen, oldest first.
#[derive(Debug, Clone)]
pub struct History {
    lines: VecDeque<Line>,
    lines_max: usize,
    /// How many have been forgotten.
    forgotten: u64,
}

impl History {
    pub const fn new(lines_max: usize) -> Self {
        Self { lines: VecDeque::new(), lines_max, forgotten: 0 }
    }

    /// Remembers a row, and forgets the oldest line when there are too many.
    pub fn push(&mut self, row: &Row) {
        if self.lines_max == 0 {
            return;
        }
        let mut line = self.room();
        line.set(row);
        self.lines.push_back(line);
    }

    /// Remembers a line of printable ASCII that looks alike, as [`push`](Self::push) does a row.
    pub fn push_ascii(&mut self, col: u16, text: &[u8], attrs: Attrs) {
        if self.lines_max == 0 {
            return;
        }
        let mut line = self.room();
        line.set_ascii(col, text, attrs);
        self.lines.push_back(line);
    }

    /// The space of the oldest line when there are enough, else some that is new.
    fn room(&mut self) -> Line {
        if self.lines.len() < self.lines_max {
            return Line::default();
        }
        self.forgotten += 1;
        self.lines.pop_front().unwrap_or_default()
    }

    /// Notes that `count` lines come, and says how many of the first would be forgotten by the
    /// last: those need not be pushed.
    pub fn make_way(&mut self, count: usize) -> usize {
        let more = count.saturating_sub(self.lines_max);
        if self.lines_max > 0 {
            self.forgotten += more as u64;
        }
        more
    }

    /// Takes the newest line back, for a screen that grows.
    pub fn pop(&mut self) -> Option<Line> {
        self.lines.pop_back()
    }

    pub fn clear(&mut self) {
        self.forgotten += self.lines.len() as u64;
        self.lines = VecDeque::new();
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// A line, 0 being the oldest that is remembered.
    pub fn line(&self, index: usize) -> Option<&Line> {
        self.lines.get(index)
    }

    /// How many lines there have been before the oldest one that is remembered: it makes the
    /// number of a line one that stays.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::pane::{
        cell::{Colour, Flags},
        grid::Grid,
    };
    use proptest::prelude::*;

    #[test]
    fn the_oldest_line_is_forgotten_first() {
        let mut history = History::new(2);
        let mut grid = Grid::new(1, 4);
        for byte in b"abc" {
            grid.put_ascii(0, 0, &[*byte], Attrs::DEFAULT);
            history.push(grid.row(0));
        }
        let texts: Vec<_> = (0..3).filter_map(|at| history.line(at)).map(Line::text).collect();
        assert_eq!(texts, ["b", "c"]);
        assert_eq!(history.forgotten(), 1);
        assert_eq!(history.pop().expect("one").text(), "c");
    }

    proptest! {
        #[test]
        fn a_line_comes_back_as_it_stood(
            marks in prop::collection::vec((prop::sample::select(vec!['a', ' ', '日', 'é', '\u{301}']), 0..4_u8), 0..20),
        ) {
            let mut grid = Grid::new(1, 40);
            let mut col = 0;
            for (c, look) in marks {
                let mut attrs = Attrs::DEFAULT;
                match look {
                    1 => attrs.fg = Colour::Indexed(1),
                    2 => attrs.bg = Colour::Rgb(1, 2, 3),
                    3 => attrs.flags.set(Flags::BOLD, true),
                    _ => {}
                }
                match c.width() {
                    Some(0) if col > 0 => grid.combine(0, col - 1, c),
                    Some(width @ 1..) => {
                        grid.put(0, col, Cell::character(c, width > 1, attrs));
                        col += width as u16;
                    }
                    _ => {}
                }
            }
            let mut history = History::new(1);
            history.push(grid.row(0));
            let cells = history.line(0).expect("one").cells();
            prop_assert_eq!(&cells[..], grid.row(0).used());
        }
    }
}
