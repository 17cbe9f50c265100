//! How the cursor moves: to places, by steps, over lines, along tab stops.

use super::{Cursor, Screen, default_tabs};
use crate::tui::pane::grid::Area;

impl Screen {
    /// Moves the cursor to a place on the page.
    pub(in crate::tui::pane) fn go(&mut self, row: u16, col: u16) {
        self.cursor = Cursor {
            row: row.min(self.size.rows - 1),
            col: col.min(self.size.cols - 1),
            is_past_end: false,
            is_on_last: false,
        };
    }

    /// Moves the cursor as CUP does: from the margins in origin mode.
    pub(in crate::tui::pane) fn go_to(&mut self, row: u16, col: u16) {
        if self.modes.origin {
            let Area { rows, cols } = self.margins.clone();
            self.go(
                rows.start.saturating_add(row).min(rows.end - 1),
                cols.start.saturating_add(col).min(cols.end - 1),
            );
        } else {
            self.go(row, col);
        }
    }

    pub(in crate::tui::pane) fn go_to_row(&mut self, row: u16) {
        let col = self.cursor.col;
        if self.modes.origin {
            let rows = self.margins.rows.clone();
            self.go(rows.start.saturating_add(row).min(rows.end - 1), col);
        } else {
            self.go(row, col);
        }
    }

    pub(in crate::tui::pane) fn go_to_col(&mut self, col: u16) {
        let row = self.cursor.row;
        if self.modes.origin {
            let cols = self.margins.cols.clone();
            self.go(row, cols.start.saturating_add(col).min(cols.end - 1));
        } else {
            self.go(row, col);
        }
    }

    pub(in crate::tui::pane) fn up(&mut self, count: u16) {
        let Cursor { row, col, .. } = self.cursor;
        let top = self.margins.rows.start;
        let top = if row >= top { top } else { 0 };
        self.go(row.saturating_sub(count).max(top), col);
    }

    pub(in crate::tui::pane) fn down(&mut self, count: u16) {
        let Cursor { row, col, .. } = self.cursor;
        let end = self.margins.rows.end;
        let end = if row < end { end } else { self.size.rows };
        self.go(row.saturating_add(count).min(end - 1), col);
    }

    pub(in crate::tui::pane) fn right(&mut self, count: u16) {
        let Cursor { row, col, .. } = self.cursor;
        self.go(row, col.saturating_add(count).min(self.right_edge() - 1));
    }

    pub(in crate::tui::pane) fn left(&mut self, count: u16) {
        let Cursor { row, col, .. } = self.cursor;
        let start = self.left_edge();
        if self.modes.reverse_wrap && self.modes.autowrap {
            for _ in 0..count.min(self.size.cols.saturating_mul(2)) {
                self.backspace();
            }
            return;
        }
        self.go(row, col.saturating_sub(count).max(start));
    }

    const fn left_edge(&self) -> u16 {
        if self.cursor.col >= self.margins.cols.start { self.margins.cols.start } else { 0 }
    }

    /// One column back; with reverse wrap, from the first column to the end of the row that
    /// went on in this one.
    pub(in crate::tui::pane) fn backspace(&mut self) {
        let Cursor { row, col, is_past_end, .. } = self.cursor;
        let wraps = self.modes.reverse_wrap && self.modes.autowrap;
        if wraps && is_past_end {
            self.cursor.is_past_end = false;
            return;
        }
        let start = self.left_edge();
        if col > start {
            self.go(row, col - 1);
        } else if wraps && row > self.margins.rows.start && self.grid().row(row - 1).wrapped {
            self.go(row - 1, self.margins.cols.end - 1);
        } else {
            self.go(row, col);
        }
    }

    pub(in crate::tui::pane) fn carriage_return(&mut self) {
        let row = self.cursor.row;
        let col = if self.modes.origin { self.margins.cols.start } else { self.left_edge() };
        self.go(row, col);
    }

    /// One row down; at the bottom margin, what is between the margins goes up instead.
    pub(in crate::tui::pane) fn line_feed(&mut self) {
        let Cursor { row, col, .. } = self.cursor;
        if row + 1 != self.margins.rows.end {
            self.go(row + 1, col);
            return;
        }
        self.cursor.is_past_end = false;
        if self.margins.cols.contains(&col) {
            self.scroll_up(&self.margins.clone(), 1);
        }
    }

    /// One row up; at the top margin, what is between the margins goes down instead.
    pub(in crate::tui::pane) fn reverse_line_feed(&mut self) {
        let Cursor { row, col, .. } = self.cursor;
        if row != self.margins.rows.start {
            self.go(row.saturating_sub(1), col);
            return;
        }
        self.cursor.is_past_end = false;
        if self.margins.cols.contains(&col) {
            self.scroll_down(&self.margins.clone(), 1);
        }
    }

    /// Scrolls; what leaves the top of the main screen is remembered.
    pub(in crate::tui::pane) fn scroll_up(&mut self, area: &Area, count: u16) {
        let attrs = self.blank();
        let is_kept = self.shown == 0 && area.rows.start == 0;
        let history = &mut self.history;
        self.grids[self.shown].scroll_up(area, count, attrs, |row| {
            if is_kept {
                history.push(row);
            }
        });
    }

    pub(in crate::tui::pane) fn scroll_down(&mut self, area: &Area, count: u16) {
        let attrs = self.blank();
        self.grid_mut().scroll_down(area, count, attrs);
    }

    // Tab stops

    pub(in crate::tui::pane) fn tab(&mut self, count: u16) {
        let end = self.right_edge();
        for _ in 0..count.min(self.size.cols) {
            let from = self.cursor.col + 1;
            let next = (from..end).find(|col| self.tabs[usize::from(*col)]);
            // What is past the end stays so: a tab goes nowhere from there.
            self.cursor.col = next.unwrap_or(end - 1);
        }
    }

    pub(in crate::tui::pane) fn back_tab(&mut self, count: u16) {
        let row = self.cursor.row;
        let start = if self.modes.origin { self.margins.cols.start } else { 0 };
        for _ in 0..count.min(self.size.cols) {
            let col = self.cursor.col;
            let before = (start..col).rev().find(|col| self.tabs[usize::from(*col)]);
            self.go(row, before.unwrap_or(start));
        }
    }

    pub(in crate::tui::pane) fn set_tab(&mut self, on: bool) {
        self.tabs[usize::from(self.cursor.col)] = on;
    }

    pub(in crate::tui::pane) fn clear_tabs(&mut self) {
        self.tabs.fill(false);
    }

    pub(in crate::tui::pane) fn reset_tabs(&mut self) {
        self.tabs = default_tabs(self.size.cols);
    }
}
