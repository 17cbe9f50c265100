//! A table as its reader left it: cursor, scroll position, marks, order, filter.
//!
//! The cursor follows its row, not its number: when rows come and go above it,
//! it stays on the same key, also on the first row and before it was ever moved.
//! Who is about to press a key acts on the row that they see. Where the first
//! rows are shown, new ones come in above for as long as the cursor stays in
//! sight; `g` goes to the newest again.

use std::collections::{BTreeMap, BTreeSet};

use quarterdeck_protocol::{device::DeviceStatus, limits::BATCH_MAX_DEVICES};

use crate::tui::store::Window;

/// The most rows that can be marked: ten batches.
pub const MARKS_MAX: usize = 10 * BATCH_MAX_DEVICES;

/// A marked row, with what has to be known of it when it is out of sight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    pub status: Option<DeviceStatus>,
    pub site: Option<String>,
    pub production: bool,
    pub last_seen_at: Option<quarterdeck_protocol::time::Timestamp>,
    /// The operations that it has beside the built-in ones; `None` while its row is not loaded.
    pub own_operations: Option<Vec<String>>,
    /// The operation of a command.
    pub kind: Option<String>,
}

impl Mark {
    /// Whether it is a device that takes no commands any more.
    pub fn is_retired(&self) -> bool {
        self.status == Some(DeviceStatus::Retired)
    }
}

/// How a table is shown.
#[derive(Debug, Clone, Default)]
pub struct ListState {
    /// The absolute position of the cursor.
    pub cursor: u64,
    /// The row that the cursor is on; `None` until the first row is known.
    pub key: Option<String>,
    /// The first row that is seen.
    pub top: u64,
    /// How many rows are seen; told by the last drawing.
    pub height: u16,
    /// The widest name that was seen under this filter, by column. It only grows, so that columns
    /// stand still.
    pub names_wide: BTreeMap<&'static str, u16>,
    pub marks: BTreeMap<String, Mark>,
    /// Rows that marking all left out: retired devices.
    pub left_out: u64,
    /// The row where a range of marks began.
    pub anchor: Option<String>,
    /// A column, `-` before it for descending.
    pub sort: Option<String>,
    /// As typed after `/`.
    pub filter: String,
    pub hidden: BTreeSet<String>,
}

impl ListState {
    /// Moves the cursor by rows.
    pub fn step(&mut self, by: i64, window: &Window) {
        let last = window.total.saturating_sub(1);
        let to = self.cursor.saturating_add_signed(by).min(last);
        self.go(to, window);
    }

    /// Moves the cursor by pages of what is seen; 2 for half a page.
    pub fn page(&mut self, direction: i64, parts: i64, window: &Window) {
        let rows = (i64::from(self.height.max(2)) / parts).max(1);
        self.top = self.top.saturating_add_signed(direction * rows);
        self.step(direction * rows, window);
    }

    /// Puts the cursor on a row.
    pub fn go(&mut self, to: u64, window: &Window) {
        self.cursor = to.min(window.total.saturating_sub(1));
        self.key = window.row(self.cursor).map(|row| row.key.clone());
        self.show_cursor(window.total);
    }

    /// Goes to the first row, whichever that will be when rows come next.
    pub fn first(&mut self) {
        self.cursor = 0;
        self.top = 0;
        self.key = None;
    }

    /// Scrolls without moving the cursor further than it must.
    pub fn scroll(&mut self, by: i64, window: &Window) {
        let height = u64::from(self.height.max(1));
        let most = window.total.saturating_sub(height);
        self.top = self.top.saturating_add_signed(by).min(most);
        let to = self.cursor.clamp(self.top, self.top + height - 1);
        if to != self.cursor {
            self.go(to, window);
        }
    }

    /// After rows came: follows the cursor's row and stays inside.
    pub fn follow(&mut self, window: &Window) {
        match &self.key {
            Some(key) => match window.position(key) {
                Some(at) => {
                    let moved = at as i64 - self.cursor as i64;
                    self.cursor = at;
                    // Who looks at the first rows goes on to see them.
                    if self.top > 0 {
                        self.top = self.top.saturating_add_signed(moved);
                    }
                }
                // Its row is gone or out of sight; what is there now is the cursor's row.
                None => {
                    if let Some(row) = window.row(self.cursor) {
                        self.key = Some(row.key.clone());
                    }
                }
            },
            None => self.key = window.row(self.cursor).map(|row| row.key.clone()),
        }
        self.cursor = self.cursor.min(window.total.saturating_sub(1));
        self.show_cursor(window.total);
    }

    /// Brings the cursor into view.
    pub fn show_cursor(&mut self, total: u64) {
        let height = u64::from(self.height.max(1));
        self.top = self.top.min(self.cursor);
        if self.cursor >= self.top + height {
            self.top = self.cursor + 1 - height;
        }
        self.top = self.top.min(total.saturating_sub(height));
    }

    /// Marks or unmarks; `false` when there are too many.
    pub fn toggle(&mut self, key: &str, mark: Mark) -> bool {
        if self.marks.remove(key).is_some() {
            return true;
        }
        self.mark(key, mark)
    }

    pub fn mark(&mut self, key: &str, mark: Mark) -> bool {
        if self.marks.len() >= MARKS_MAX && !self.marks.contains_key(key) {
            return false;
        }
        self.marks.insert(key.to_owned(), mark);
        true
    }

    /// Another filter or order: the rows are others, and so is the first.
    pub fn restart(&mut self) {
        self.first();
        self.anchor = None;
        self.left_out = 0;
        self.names_wide.clear();
    }

    pub fn sort_column(&self) -> Option<(&str, bool)> {
        let sort = self.sort.as_deref()?;
        Some(sort.strip_prefix('-').map_or((sort, false), |column| (column, true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::mailbox::Slot;
    use serde_json::value::RawValue;

    fn window(keys: &[&str], total: u64) -> Window {
        let mut window = Window::default();
        let rows = keys
            .iter()
            .map(|key| ((*key).to_owned(), RawValue::from_string("{}".into()).expect("valid JSON")))
            .collect();
        let order = Some(keys.iter().map(|key| (*key).to_owned()).collect());
        window.apply(Slot { id: 1, base: Some(0), total, rows, order, refused: None }, None);
        window
    }

    #[test]
    fn the_cursor_stays_on_its_row_when_rows_come_above_it() {
        let mut list = ListState { height: 3, ..ListState::default() };
        let before = window(&["a", "b", "c", "d", "e"], 5);
        list.go(3, &before);
        assert_eq!((list.cursor, list.top), (3, 1));
        list.follow(&window(&["x", "y", "a", "b", "c", "d", "e"], 7));
        assert_eq!((list.cursor, list.top, list.key.as_deref()), (5, 3, Some("d")));
    }

    #[test]
    fn a_cursor_that_was_never_moved_stays_on_its_row_and_the_newest_in_sight() {
        let mut list = ListState { height: 3, ..ListState::default() };
        list.follow(&window(&["a", "b"], 2));
        list.follow(&window(&["x", "a", "b"], 3));
        assert_eq!((list.cursor, list.top, list.key.as_deref()), (1, 0, Some("a")));
        // Out of sight no key may act: then the rows move with it.
        list.follow(&window(&["v", "w", "x", "a", "b"], 5));
        assert_eq!((list.cursor, list.top, list.key.as_deref()), (3, 1, Some("a")));
        list.first();
        list.follow(&window(&["v", "w", "x", "a", "b"], 5));
        assert_eq!((list.cursor, list.top, list.key.as_deref()), (0, 0, Some("v")));
    }

    #[test]
    fn the_cursor_stays_inside_when_rows_go() {
        let mut list = ListState { height: 3, ..ListState::default() };
        list.go(4, &window(&["a", "b", "c", "d", "e"], 5));
        list.follow(&window(&["a", "b"], 2));
        assert_eq!((list.cursor, list.top), (1, 0));
        list.follow(&window(&[], 0));
        assert_eq!((list.cursor, list.top), (0, 0));
    }
}
