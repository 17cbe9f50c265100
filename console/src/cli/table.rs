//! Tables in plain text: aligned, cut to a width, coloured when that is wanted.
//!
//! Every cell passes through [`text::line`], so nothing in a table acts on a terminal.

use quarterdeck_protocol::text;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns are not narrowed below this, in cells; the line is cut instead.
const COLUMN_MIN: usize = 8;
const GAP: &str = "  ";

/// What a cell means, so what colour it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Warning,
    Bad,
    Dim,
}

/// One cell; its text is fit for a terminal. Nothing shows as a dash, so that the columns stay countable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub fn new(content: impl AsRef<str>) -> Self {
        let shown = match content.as_ref() {
            "" => "-".to_owned(),
            content => text::line(content).into_owned(),
        };
        Self { text: shown, tone: Tone::Plain }
    }

    pub fn maybe(content: Option<impl AsRef<str>>) -> Self {
        content.map_or_else(|| Self::new("-"), Self::new)
    }

    #[must_use]
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

/// Widths of a table's columns; fixed once the first rows are known, so that later pages line up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    widths: Vec<usize>,
    /// The width of a line, in cells.
    line_max: Option<usize>,
    has_colour: bool,
}

impl Layout {
    /// Makes room for the titles and `rows`; narrows the widest columns until a line fits `line_max`.
    pub fn new(
        titles: &[&str],
        rows: &[Vec<Cell>],
        line_max: Option<usize>,
        has_colour: bool,
    ) -> Self {
        let mut widths: Vec<usize> = titles.iter().map(|title| title.width()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        if let Some(max) = line_max {
            narrow(&mut widths, max);
        }
        Self { widths, line_max, has_colour }
    }

    pub fn titles(&self, titles: &[&str]) -> String {
        let cells: Vec<Cell> = titles.iter().map(|t| Cell::new(t).tone(Tone::Dim)).collect();
        self.row(&cells)
    }

    /// One line, without its line feed.
    pub fn row(&self, cells: &[Cell]) -> String {
        let mut line = String::new();
        let mut left = self.line_max.unwrap_or(usize::MAX);
        let last = cells.len().saturating_sub(1);
        for (index, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
            if index > 0 {
                if left <= GAP.len() {
                    break;
                }
                line.push_str(GAP);
                left -= GAP.len();
            }
            // The last column of a pipe is never cut: there is no edge.
            let room = if index == last && self.line_max.is_none() { usize::MAX } else { *width };
            let shown = cut(&cell.text, room.min(left));
            let used = shown.width();
            let padding = if index == last { 0 } else { width.min(&left).saturating_sub(used) };
            self.paint(&mut line, &shown, cell.tone);
            line.extend(std::iter::repeat_n(' ', padding));
            left = left.saturating_sub(used + padding);
        }
        line
    }

    fn paint(&self, line: &mut String, shown: &str, tone: Tone) {
        let code = match tone {
            _ if !self.has_colour => None,
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Warning => Some("33"),
            Tone::Bad => Some("31"),
            Tone::Dim => Some("2"),
        };
        match code {
            Some(code) => line.extend(["\x1b[", code, "m", shown, "\x1b[0m"]),
            None => line.push_str(shown),
        }
    }
}

fn narrow(widths: &mut [usize], max: usize) {
    let gaps = widths.len().saturating_sub(1) * GAP.len();
    let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(max);
    while excess > 0 {
        let Some(widest) = widths.iter_mut().max().filter(|width| **width > COLUMN_MIN) else {
            return;
        };
        *widest -= 1;
        excess -= 1;
    }
}

/// Cuts to `max` cells, with a mark where something is missing.
pub fn cut(shown: &str, max: usize) -> String {
    if shown.width() <= max {
        return shown.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in shown.chars() {
        let width = c.width().unwrap_or(0);
        if used + width + 1 > max {
            break;
        }
        kept.push(c);
        used += width;
    }
    if max > 0 {
        kept.push('~');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cells(row: &[&str]) -> Vec<Cell> {
        row.iter().map(Cell::new).collect()
    }

    #[test]
    fn columns_line_up_and_wide_characters_count_double() {
        let rows = [cells(&["pi-1", "日本", "x"]), cells(&["a", "b", "y"])];
        let layout = Layout::new(&["ID", "SITE", "Z"], &rows, None, false);
        assert_eq!(layout.titles(&["ID", "SITE", "Z"]), "ID    SITE  Z");
        assert_eq!(layout.row(&rows[0]), "pi-1  日本  x");
        assert_eq!(layout.row(&rows[1]), "a     b     y");
    }

    #[test]
    fn the_widest_columns_give_way_first() {
        let rows = [cells(&["pi-1", &"n".repeat(60), "online"])];
        let layout = Layout::new(&["ID", "NAME", "STATUS"], &rows, Some(40), false);
        assert_eq!(layout.row(&rows[0]).width(), 40);
        assert!(layout.row(&rows[0]).ends_with("n~  online"));
    }

    #[test]
    fn untrusted_text_is_shown_not_obeyed() {
        let rows = [cells(&["\u{1b}[2J", "\u{202e}gpj"])];
        let layout = Layout::new(&["A", "B"], &rows, None, false);
        assert_eq!(layout.row(&rows[0]), "^[[2J  <U+202E>gpj");
    }

    #[test]
    fn colour_is_around_the_text_alone() {
        let rows = [vec![Cell::new("ok").tone(Tone::Good), Cell::new("z")]];
        let layout = Layout::new(&["STATE", "B"], &rows, None, true);
        assert_eq!(layout.row(&rows[0]), "\x1b[32mok\x1b[0m     z");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(
            row in proptest::collection::vec(".{0,40}", 1..8), max in 1_usize..120
        ) {
            let cells: Vec<Cell> = row.iter().map(Cell::new).collect();
            let titles: Vec<&str> = row.iter().map(|_| "TITLE").collect();
            let layout = Layout::new(&titles, std::slice::from_ref(&cells), Some(max), false);
            prop_assert!(layout.row(&cells).width() <= max);
            prop_assert!(layout.titles(&titles).width() <= max);
        }
    }
}
