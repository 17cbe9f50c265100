//! Scrolling back, searching and copying in a pane.
//!
//! History and screen are one sequence of rows. A row's number never changes
//! while it is remembered, also when others come after it, so a selection stays
//! on its text while output goes on. On the alternate screen there is only that
//! screen, as a program's own picture has no past.
//!
//! Pure: nothing here changes the pane.

use super::{cell::Cell, screen::Screen};

/// The most matches that a search returns; [`Found::is_complete`] says whether there are more.
pub const MATCHES_MAX: usize = 10_000;
/// The longest logical line that is searched as one, in rows: one without end would be searched for ever.
const JOINED_ROWS_MAX: u64 = 1000;

/// A cell of the transcript. Ordered as text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub row: u64,
    pub col: u16,
}

/// From one cell to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: Point,
    pub to: Point,
}

impl Span {
    /// Puts two cells in order.
    pub fn between(a: Point, b: Point) -> Self {
        Self { from: a.min(b), to: a.max(b) }
    }

    /// Which cells of a row it covers: first and last.
    pub fn on_row(&self, row: u64) -> Option<(u16, u16)> {
        let from = if row == self.from.row { self.from.col } else { 0 };
        let to = if row == self.to.row { self.to.col } else { u16::MAX };
        (self.from.row..=self.to.row).contains(&row).then_some((from, to))
    }
}

/// What a selection takes of the rows that it spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub enum Take {
    /// As text is read.
    #[default]
    Text,
    /// Whole rows.
    Rows,
    /// The columns between its corners, in each row.
    Block,
}

/// Something marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Where it began.
    pub anchor: Point,
    /// Where it has got to.
    pub head: Point,
    pub take: Take,
}

impl Selection {
    /// Which cells of a row it covers: first and last.
    pub fn on_row(&self, row: u64) -> Option<(u16, u16)> {
        let span = Span::between(self.anchor, self.head);
        let (from, to) = span.on_row(row)?;
        Some(match self.take {
            Take::Text => (from, to),
            Take::Rows => (0, u16::MAX),
            Take::Block => (self.anchor.col.min(self.head.col), self.anchor.col.max(self.head.col)),
        })
    }
}

/// What a search found, in reading order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub matches: Vec<Span>,
    /// Whether these are all.
    pub is_complete: bool,
}

/// History and screen as one.
#[derive(Debug, Clone, Copy)]
pub struct Transcript<'a> {
    screen: &'a Screen,
}

impl<'a> Transcript<'a> {
    pub const fn new(screen: &'a Screen) -> Self {
        Self { screen }
    }

    /// How many rows have scrolled off the screen and are remembered.
    pub fn scrolled(&self) -> u64 {
        if self.screen.is_alternate() { 0 } else { self.screen.history().len() as u64 }
    }

    /// The number of the oldest row.
    pub fn start(&self) -> u64 {
        if self.screen.is_alternate() { 0 } else { self.screen.history().forgotten() }
    }

    /// The number of the screen's first row.
    pub fn screen_start(&self) -> u64 {
        self.start() + self.scrolled()
    }

    /// The number after the last row.
    pub fn end(&self) -> u64 {
        self.screen_start() + u64::from(self.screen.size().rows)
    }

    /// A row's cells up to the last that is not empty, and whether its text goes on in the next row.
    pub fn row(&self, row: u64) -> Option<(Vec<Cell>, bool)> {
        let index = row.checked_sub(self.start())?;
        self.screen.row_cells(usize::try_from(index).ok()?)
    }

    /// The text of a selection. Wide characters are whole, rows that only wrapped are one line,
    /// and blanks at the end of a line are left out.
    pub fn text(&self, selection: &Selection) -> String {
        let span = Span::between(selection.anchor, selection.head);
        let mut out = String::new();
        for row in span.from.row.max(self.start())..=span.to.row.min(self.end().saturating_sub(1)) {
            let Some((from, to)) = selection.on_row(row) else { continue };
            let Some((cells, wrapped)) = self.row(row) else { continue };
            let line: String = cut(&cells, from, to).iter().map(Cell::text).collect();
            let goes_on = wrapped && selection.take != Take::Block && row < span.to.row;
            if goes_on {
                out.push_str(&line);
            } else {
                out.push_str(line.trim_end_matches(' '));
                if row < span.to.row {
                    out.push('\n');
                }
            }
        }
        out
    }

    /// Finds a text. Small letters also find capitals; a capital finds itself alone. A text that
    /// wrapped is found as one.
    pub fn find(&self, needle: &str) -> Found {
        let mut found = Found { matches: Vec::new(), is_complete: true };
        if needle.is_empty() {
            return found;
        }
        let exact = needle.chars().any(char::is_uppercase);
        let fold = |c: char| if exact { c } else { c.to_lowercase().next().unwrap_or(c) };
        let needle: Vec<char> = needle.chars().map(fold).collect();
        let mut row = self.start();
        while row < self.end() {
            let (line, next) = self.logical_line(row, fold);
            row = next;
            let mut at = 0;
            while at + needle.len() <= line.len() {
                let is_here = line[at..].iter().zip(&needle).all(|((c, _), wanted)| c == wanted);
                if !is_here {
                    at += 1;
                    continue;
                }
                if found.matches.len() >= MATCHES_MAX {
                    found.is_complete = false;
                    return found;
                }
                let last = at + needle.len() - 1;
                found.matches.push(Span { from: line[at].1, to: line[last].1 });
                at += needle.len();
            }
        }
        found
    }

    /// The characters of the line that begins at a row, each with its cell, and the row after it.
    fn logical_line(self, first: u64, fold: impl Fn(char) -> char) -> (Vec<(char, Point)>, u64) {
        let mut line = Vec::new();
        let mut row = first;
        loop {
            let Some((cells, wrapped)) = self.row(row) else { return (line, row + 1) };
            for (col, cell) in (0_u16..).zip(&cells) {
                line.extend(cell.text().chars().map(|c| (fold(c), Point { row, col })));
            }
            row += 1;
            if !wrapped || row - first >= JOINED_ROWS_MAX {
                return (line, row);
            }
        }
    }

    /// The word at a cell, for a double click.
    pub fn word(&self, at: Point) -> Option<Span> {
        let (cells, _) = self.row(at.row)?;
        let is_word = |col: usize| {
            cells.get(col).is_some_and(|cell| {
                cell.is_second()
                    || cell
                        .text()
                        .chars()
                        .next()
                        .is_some_and(|c| c.is_alphanumeric() || "_-./~".contains(c))
            })
        };
        let col = usize::from(at.col);
        if !is_word(col) {
            return None;
        }
        let from = (0..=col).rev().take_while(|col| is_word(*col)).last()?;
        let to = (col..cells.len()).take_while(|col| is_word(*col)).last()?;
        let point = |col: usize| Point { row: at.row, col: col as u16 };
        Some(Span { from: point(from), to: point(to) })
    }
}

/// The cells from one column to another, both included, wide characters whole.
fn cut(cells: &[Cell], from: u16, to: u16) -> &[Cell] {
    let mut from = usize::from(from).min(cells.len());
    let mut to = usize::from(to).saturating_add(1).min(cells.len());
    if from < cells.len() && cells[from].is_second() {
        from -= 1;
    }
    if to < cells.len() && cells[to].is_second() {
        to += 1;
    }
    &cells[from..to.max(from)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::pane::{Pane, notices::Allowed, screen::PaneSize};

    fn pane(rows: u16, cols: u16, text: &str) -> Pane {
        let mut pane = Pane::with_history(PaneSize::new(rows, cols), Allowed::default(), 100);
        pane.feed(text.as_bytes());
        pane
    }

    fn select(from: (u64, u16), to: (u64, u16), take: Take) -> Selection {
        let point = |(row, col)| Point { row, col };
        Selection { anchor: point(to), head: point(from), take }
    }

    #[test]
    fn a_selection_is_text_as_it_was_written() {
        let pane = pane(3, 6, "one two three\r\n日本 x\r\nend");
        let transcript = Transcript::new(pane.screen());
        assert_eq!((transcript.start(), transcript.screen_start(), transcript.end()), (0, 2, 5));
        for (selection, text) in [
            (select((0, 4), (2, 0), Take::Text), "two three"[..9].to_owned()),
            (select((0, 0), (4, 9), Take::Text), "one two three\n日本 x\nend".into()),
            // Either half of a wide character is all of it.
            (select((3, 1), (3, 2), Take::Text), "日本".into()),
            (select((3, 1), (4, 1), Take::Rows), "日本 x\nend".into()),
            (select((3, 2), (4, 2), Take::Block), "本\nd".into()),
            (select((9, 0), (99, 0), Take::Text), String::new()),
        ] {
            assert_eq!(transcript.text(&selection), text, "{selection:?}");
        }
    }

    #[test]
    fn a_search_finds_what_wrapped_and_what_scrolled_off() {
        let pane = pane(2, 6, "error: disk Error\r\nfine\r\nERROR");
        let transcript = Transcript::new(pane.screen());
        let found = transcript.find("error");
        let at: Vec<_> = found
            .matches
            .iter()
            .map(|span| (span.from.row, span.from.col, span.to.row, span.to.col))
            .collect();
        assert_eq!(at, [(0, 0, 0, 4), (2, 0, 2, 4), (4, 0, 4, 4)]);
        assert_eq!(transcript.find("Error").matches.len(), 1);
        assert_eq!(transcript.find(": disk E").matches.len(), 1);
        assert_eq!(transcript.find("").matches, []);
    }

    #[test]
    fn rows_keep_their_numbers_while_output_goes_on() {
        let mut pane = pane(2, 6, "");
        for n in 0..300 {
            pane.feed(format!("n{n}\r\n").as_bytes());
        }
        let transcript = Transcript::new(pane.screen());
        assert_eq!(transcript.row(250).expect("remembered").0[1].text(), "2");
        let text = transcript.text(&select((250, 0), (250, 9), Take::Text));
        assert_eq!(text, "n250");
        assert!(transcript.row(100).is_none());
        pane.feed(b"\x1b[?1049halt");
        let transcript = Transcript::new(pane.screen());
        assert_eq!((transcript.start(), transcript.end()), (0, 2));
    }

    #[test]
    fn too_many_matches_are_said_to_be_too_many() {
        let mut pane = pane(2, 100, "");
        for _ in 0..101 {
            pane.feed(&[b'x'; 100]);
        }
        let found = Transcript::new(pane.screen()).find("x");
        assert_eq!((found.matches.len(), found.is_complete), (MATCHES_MAX, false));
    }

    #[test]
    fn a_word_is_what_is_not_blank() {
        let pane = pane(1, 20, "ls ./日本.txt x");
        let transcript = Transcript::new(pane.screen());
        let word = transcript.word(Point { row: 0, col: 6 }).expect("a word");
        assert_eq!((word.from.col, word.to.col), (3, 12));
        assert_eq!(transcript.word(Point { row: 0, col: 2 }), None);
    }
}
