//! The model of a terminal: cursor, margins, modes, two grids, history.
//!
//! ```text
//!   bytes ─▶ parser ─▶ dispatch ─▶ Screen ─┬─▶ grid (main, alternate)
//!                                          ├─▶ history (rows that left the main grid)
//!                                          ├─▶ replies (for the device's shell)
//!                                          └─▶ notices (for the operator)
//! ```
//!
//! This file holds the state, [`motion`] the motions of the cursor, [`pour`] the
//! lines that only pass; [`super::dispatch`] says which sequence means which of
//! them. Behaviour is that of the VT420 and of xterm; where these differ from one
//! another, of xterm.

mod motion;
mod pour;

use std::ops::Range;

use unicode_width::UnicodeWidthChar as _;

pub use self::pour::Poured;

use super::{
    cell::{Attrs, Cell, Flags},
    charset::Charsets,
    grid::{Area, Grid, Row},
    history::History,
    modes::{Modes, SavedModes},
    notices::Notices,
};

/// Rows and columns of a pane, at least 1 and at most [`SIDE_MAX`] each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaneSize {
    pub rows: u16,
    pub cols: u16,
}

/// The most rows or columns of a pane.
pub const SIDE_MAX: u16 = 1000;
/// The most bytes of replies that wait for the device; more are dropped, as a device that asks
/// faster than it reads would have it.
pub const REPLIES_MAX_BYTES: usize = 4096;
/// What makes the model panic, in tests of what then happens.
#[cfg(test)]
pub(super) const PANIC_FOR_TESTS: &[u8] = b"\x1b[=4711~";
/// Columns from one tab stop to the next.
const TAB_COLS: u16 = 8;

impl PaneSize {
    pub fn new(rows: u16, cols: u16) -> Self {
        Self { rows: rows.clamp(1, SIDE_MAX), cols: cols.clamp(1, SIDE_MAX) }
    }
}

/// Where the next character goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    pub row: u16,
    pub col: u16,
    /// The last column has been written; the next character goes on in the next row.
    pub is_past_end: bool,
    /// It stands on the character that it wrote last, not behind it: that filled the last column.
    pub is_on_last: bool,
}

/// What DECSC saves.
#[derive(Debug, Clone, Copy, Default)]
struct Saved {
    cursor: Cursor,
    pen: Attrs,
    charsets: Charsets,
    origin: bool,
}

/// One terminal.
#[derive(Debug, Clone)]
pub struct Screen {
    pub(super) size: PaneSize,
    grids: [Grid; 2],
    /// Which grid is shown: 0 the main one, 1 the alternate.
    shown: usize,
    pub(super) cursor: Cursor,
    pub(super) pen: Attrs,
    pub(super) charsets: Charsets,
    saved: [Saved; 2],
    pub(super) margins: Area,
    tabs: Vec<bool>,
    pub(super) modes: Modes,
    pub(super) saved_modes: SavedModes,
    /// The last character written, for REP.
    pub(super) last: Option<char>,
    /// DECSCUSR: 0 the default, 1–6 blocks, lines and bars.
    pub(super) cursor_style: u8,
    pub(super) history: History,
    pub(super) replies: Vec<u8>,
    pub(super) notices: Notices,
    /// How often all of it began anew: stamps of rows tell rows apart within one beginning.
    beginning: u32,
}

impl Screen {
    pub fn new(size: PaneSize, history: History, notices: Notices) -> Self {
        Self {
            size,
            grids: [Grid::new(size.rows, size.cols), Grid::new(size.rows, size.cols)],
            shown: 0,
            cursor: Cursor::default(),
            pen: Attrs::DEFAULT,
            charsets: Charsets::default(),
            saved: [Saved::default(); 2],
            margins: Area { rows: 0..size.rows, cols: 0..size.cols },
            tabs: default_tabs(size.cols),
            modes: Modes::default(),
            saved_modes: SavedModes::default(),
            last: None,
            cursor_style: 0,
            history,
            replies: Vec::new(),
            notices,
            beginning: 0,
        }
    }

    pub fn size(&self) -> PaneSize {
        self.size
    }

    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    pub fn grid(&self) -> &Grid {
        &self.grids[self.shown]
    }

    pub(super) fn grid_mut(&mut self) -> &mut Grid {
        &mut self.grids[self.shown]
    }

    pub fn is_alternate(&self) -> bool {
        self.shown == 1
    }

    /// What tells the rows that are shown from those of the other screen, and of those before
    /// the last reset.
    pub fn face(&self) -> (u32, bool) {
        (self.beginning, self.is_alternate())
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub fn cursor_style(&self) -> u8 {
        self.cursor_style
    }

    /// Takes what is kept when the rest is made anew.
    pub(super) const fn refused(&self) -> super::notices::Refused {
        self.notices.refused
    }

    pub(super) fn into_kept(self) -> (History, Notices) {
        (self.history, self.notices)
    }

    /// All of the screen, whatever the margins.
    pub(super) const fn page(&self) -> Area {
        Area { rows: 0..self.size.rows, cols: 0..self.size.cols }
    }

    /// What erased cells look like.
    pub(super) const fn blank(&self) -> Attrs {
        self.pen.erased()
    }

    pub(super) fn reply(&mut self, text: &str) {
        if self.replies.len() + text.len() <= REPLIES_MAX_BYTES {
            self.replies.extend_from_slice(text.as_bytes());
        }
    }

    // Text

    /// Writes printable ASCII.
    pub(super) fn write_ascii(&mut self, text: &[u8]) {
        if !self.charsets.is_plain() || self.modes.insert {
            for byte in text {
                let c = self.charsets.map(*byte);
                self.write(c);
            }
            return;
        }
        let mut rest = text;
        while !rest.is_empty() {
            self.wrap_if_past_end();
            let Cursor { row, col, .. } = self.cursor;
            let end = self.right_edge();
            let count = rest.len().min(usize::from(end - col));
            let (now, later) = rest.split_at(count);
            let attrs = self.pen;
            self.grid_mut().put_ascii(row, col, now, attrs);
            self.advance(count as u16, end);
            rest = later;
            if !self.modes.autowrap && rest.len() > 1 {
                // All but the last would be written over.
                rest = &rest[rest.len() - 1..];
            }
        }
        self.last = text.last().map(|byte| char::from(*byte));
    }

    /// Writes one character, which is no control.
    pub(super) fn write(&mut self, c: char) {
        let width = match c.width() {
            None => return,
            Some(width) => width.min(2) as u16,
        };
        if width == 0 {
            let Cursor { row, col, is_on_last, .. } = self.cursor;
            let col = if is_on_last { col } else { col.saturating_sub(1) };
            self.grid_mut().combine(row, col, c);
            return;
        }
        self.wrap_if_past_end();
        let mut end = self.right_edge();
        if self.cursor.col + width > end {
            // A wide character and one column left.
            if !self.modes.autowrap {
                return;
            }
            let (row, col, pen) = (self.cursor.row, self.cursor.col, self.pen);
            self.grid_mut().erase(row, col..end, pen, false);
            self.wrap();
            end = self.right_edge();
            if self.cursor.col + width > end {
                return;
            }
        }
        let Cursor { row, col, .. } = self.cursor;
        let attrs = self.pen;
        if self.modes.insert && self.margins.cols.contains(&col) {
            let blank = self.blank();
            self.grid_mut().insert_cells(row, col..end, width, blank);
        }
        self.grid_mut().put(row, col, Cell::character(c, width > 1, attrs));
        self.advance(width, end);
        self.last = Some(c);
    }

    fn wrap_if_past_end(&mut self) {
        if self.cursor.is_past_end && self.modes.autowrap {
            self.wrap();
        }
    }

    /// Goes on in the next row.
    fn wrap(&mut self) {
        let row = self.cursor.row;
        if self.right_edge() == self.size.cols {
            self.grid_mut().set_wrapped(row, true);
        }
        // The line first: beside the margins nothing scrolls.
        self.line_feed();
        self.carriage_return();
    }

    const fn advance(&mut self, count: u16, end: u16) {
        self.cursor.col += count;
        self.cursor.is_on_last = self.cursor.col >= end;
        if self.cursor.is_on_last {
            self.cursor.col = end - 1;
            self.cursor.is_past_end = self.modes.autowrap;
        }
    }

    /// The column after the last that text may take.
    pub(super) const fn right_edge(&self) -> u16 {
        if self.cursor.col < self.margins.cols.end { self.margins.cols.end } else { self.size.cols }
    }

    // Margins, modes, screens

    pub(super) fn set_row_margins(&mut self, rows: Range<u16>) {
        if rows.start + 1 < rows.end && rows.end <= self.size.rows {
            self.margins.rows = rows;
            self.go_to(0, 0);
        }
    }

    pub(super) fn set_col_margins(&mut self, cols: Range<u16>) {
        if cols.start + 1 < cols.end && cols.end <= self.size.cols {
            self.margins.cols = cols;
            self.go_to(0, 0);
        }
    }

    pub(super) const fn reset_margins(&mut self) {
        self.margins = self.page();
    }

    pub(super) const fn save_cursor(&mut self) {
        self.saved[self.shown] = Saved {
            cursor: self.cursor,
            pen: self.pen,
            charsets: self.charsets,
            origin: self.modes.origin,
        };
    }

    pub(super) fn restore_cursor(&mut self) {
        let Saved { cursor, pen, charsets, origin } = self.saved[self.shown];
        self.modes.origin = origin;
        self.pen = pen;
        self.charsets = charsets;
        self.go(cursor.row, cursor.col);
        if self.cursor.col == cursor.col {
            self.cursor = Cursor { row: self.cursor.row, ..cursor };
        }
    }

    pub(super) const fn show_alternate(&mut self, on: bool) {
        self.shown = on as usize;
    }

    /// DECSTR: modes, margins and looks as at the start; what is shown stays.
    pub(super) fn soft_reset(&mut self) {
        self.modes.soft_reset();
        self.reset_margins();
        self.pen = Attrs::DEFAULT;
        self.charsets = Charsets::default();
        self.saved[self.shown] = Saved::default();
    }

    /// RIS: as at the start. What the operator allowed stays, and what is counted.
    pub(super) fn reset(&mut self) {
        let mut history = std::mem::replace(&mut self.history, History::new(0));
        history.clear();
        let notices = std::mem::take(&mut self.notices);
        let replies = std::mem::take(&mut self.replies);
        let beginning = self.beginning.wrapping_add(1);
        *self = Self { replies, beginning, ..Self::new(self.size, history, notices) };
    }

    /// DECALN: the screen full of E.
    pub(super) fn fill_with_e(&mut self) {
        self.reset_margins();
        self.modes.origin = false;
        let page = self.page();
        self.grid_mut().fill(&page, Cell::ascii(b'E', Attrs::DEFAULT));
        self.go(0, 0);
    }

    /// DECCOLM: the width stays, as it is the operator's; the rest of what it does is done.
    pub(super) fn change_columns(&mut self, wide: bool) {
        self.modes.wide = wide;
        self.reset_margins();
        let blank = self.blank();
        let rows = 0..self.size.rows;
        self.grid_mut().clear(rows, blank);
        self.modes.side_margins = false;
        self.go(0, 0);
    }

    pub(super) fn protect(&mut self, on: bool) {
        self.pen.flags.set(Flags::PROTECTED, on);
    }

    /// Changes the size. A screen that loses rows remembers those at the top that do not fit,
    /// one that gains rows takes them back; columns are cut or added at the right.
    pub fn resize(&mut self, size: PaneSize) {
        if size == self.size {
            return;
        }
        for shown in 0..2 {
            let is_current = shown == self.shown;
            let mut cursor_row =
                if is_current { self.cursor.row } else { self.saved[shown].cursor.row };
            let grid = &mut self.grids[shown];
            for left in (size.rows..self.size.rows).rev() {
                let is_spare = cursor_row < left && grid.row(left).used().is_empty();
                if is_spare || cursor_row == 0 {
                    grid.pop_bottom();
                } else if let Some(row) = grid.pop_top() {
                    cursor_row -= 1;
                    if shown == 0 {
                        self.history.push(&row);
                    }
                }
            }
            for _ in self.size.rows..size.rows {
                match if shown == 0 { self.history.pop() } else { None } {
                    Some(line) => {
                        grid.push_top(&line.cells(), line.wrapped);
                        cursor_row += 1;
                    }
                    None => grid.push_bottom(),
                }
            }
            grid.set_cols(size.cols);
            if is_current {
                self.cursor.row = cursor_row;
            }
            self.saved[shown].cursor.row = if is_current {
                self.saved[shown].cursor.row.min(size.rows - 1)
            } else {
                cursor_row
            };
        }
        let old_cols = self.tabs.len() as u16;
        self.tabs.resize(usize::from(size.cols), false);
        for col in (old_cols..size.cols).filter(|col| col % TAB_COLS == 0) {
            self.tabs[usize::from(col)] = true;
        }
        let (cursor, is_as_wide) = (self.cursor, size.cols == self.size.cols);
        self.size = size;
        self.reset_margins();
        self.go(cursor.row, cursor.col);
        if is_as_wide {
            self.cursor = Cursor { row: self.cursor.row, ..cursor };
        }
    }

    /// The rows of the history and of the screen, as one: 0 is the oldest line remembered.
    pub fn row_cells(&self, index: usize) -> Option<(Vec<Cell>, bool)> {
        let remembered = if self.is_alternate() { 0 } else { self.history.len() };
        if index < remembered {
            return self.history.line(index).map(|line| (line.cells(), line.wrapped));
        }
        self.grid()
            .rows()
            .nth(index - remembered)
            .map(|row: &Row| (row.used().to_vec(), row.wrapped))
    }
}

fn default_tabs(cols: u16) -> Vec<bool> {
    (0..cols).map(|col| col > 0 && col % TAB_COLS == 0).collect()
}
