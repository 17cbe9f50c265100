//! The rows of one screen, and what can be done to rectangles of them.
//!
//! Nothing here knows of a cursor or of modes. Two things always hold: a wide
//! character has both its cells or none, and no row is longer than the screen.
//!
//! Each change gives its row a stamp that no row had before, so whoever draws
//! them sees from the stamp alone whether what stands at a line is still what
//! was drawn there.

use std::{collections::VecDeque, ops::Range};

use super::cell::{Attrs, Cell, Flags};

/// One row.
#[derive(Debug, Clone)]
pub struct Row {
    cells: Box<[Cell]>,
    /// Cells before this one are empty: a flood of short lines, one below the other's end, costs
    /// what it shows, not what it leaves blank.
    first: u16,
    /// Cells from here on are empty.
    used: u16,
    /// Its text goes on in the next row.
    pub wrapped: bool,
    stamp: u64,
}

impl Row {
    fn new(cols: u16) -> Self {
        let cells = vec![Cell::BLANK; usize::from(cols)].into_boxed_slice();
        Self { cells, first: cols, used: 0, wrapped: false, stamp: 0 }
    }

    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The cells up to the last that is not empty.
    pub fn used(&self) -> &[Cell] {
        &self.cells[..usize::from(self.used)]
    }

    /// How many empty cells come first, and those behind them up to the last that is not empty.
    pub fn span(&self) -> (u16, &[Cell]) {
        let first = self.first.min(self.used);
        (first, &self.cells[usize::from(first)..usize::from(self.used)])
    }

    /// What tells this state of this row from every other.
    pub const fn stamp(&self) -> u64 {
        self.stamp
    }

    fn clear(&mut self, attrs: Attrs) {
        if attrs == Attrs::DEFAULT {
            let first = self.first.min(self.used);
            self.cells[usize::from(first)..usize::from(self.used)].fill(Cell::BLANK);
            (self.first, self.used) = (self.cells.len() as u16, 0);
        } else {
            self.cells.fill(Cell::blank(attrs));
            (self.first, self.used) = (0, self.cells.len() as u16);
        }
        self.wrapped = false;
    }

    /// Notes that these cells are no longer known to be empty.
    fn reach(&mut self, cols: Range<u16>) {
        self.first = self.first.min(cols.start);
        self.used = self.used.max(cols.end);
    }

    fn fill(&mut self, range: Range<u16>, cell: Cell) {
        self.cells[usize::from(range.start)..usize::from(range.end)].fill(cell);
        if !cell.is_empty() {
            self.reach(range);
        } else if range.end >= self.used {
            self.used = self.used.min(range.start);
        }
    }

    /// Blanks a wide character that a border before column `x` would cut in two.
    fn split(&mut self, x: u16) {
        let at = usize::from(x);
        if at > 0 && at < self.cells.len() && self.cells[at].is_second() {
            for cell in &mut self.cells[at - 1..=at] {
                *cell = Cell::blank(cell.attrs);
            }
        }
    }

    fn resize(&mut self, cols: u16) {
        self.split(cols);
        let mut cells = std::mem::take(&mut self.cells).into_vec();
        if cells.len() != usize::from(cols) {
            cells.resize(usize::from(cols), Cell::BLANK);
            self.wrapped = false;
        }
        self.cells = cells.into_boxed_slice();
        self.used = self.used.min(cols);
        self.first = if self.first < self.used { self.first } else { cols };
        if self.first == cols {
            self.used = 0;
        }
    }
}

/// A rectangle: rows and columns, ends excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    pub rows: Range<u16>,
    pub cols: Range<u16>,
}

impl Area {
    pub const fn contains(&self, row: u16, col: u16) -> bool {
        row >= self.rows.start
            && row < self.rows.end
            && col >= self.cols.start
            && col < self.cols.end
    }

    pub const fn height(&self) -> u16 {
        self.rows.end.saturating_sub(self.rows.start)
    }
}

/// The rows of a screen.
#[derive(Debug, Clone)]
pub struct Grid {
    rows: VecDeque<Row>,
    cols: u16,
    stamp: u64,
}

impl Grid {
    pub fn new(rows: u16, cols: u16) -> Self {
        let mut grid = Self { rows: (0..rows).map(|_| Row::new(cols)).collect(), cols, stamp: 0 };
        for row in 0..rows {
            grid.touch(row);
        }
        grid
    }

    pub fn row(&self, row: u16) -> &Row {
        &self.rows[usize::from(row)]
    }

    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.rows.iter()
    }

    pub fn cell(&self, row: u16, col: u16) -> &Cell {
        &self.rows[usize::from(row)].cells[usize::from(col)]
    }

    const fn all(&self, rows: Range<u16>) -> Area {
        Area { rows, cols: 0..self.cols }
    }

    fn touch(&mut self, row: u16) -> &mut Row {
        self.stamp += 1;
        let row = &mut self.rows[usize::from(row)];
        row.stamp = self.stamp;
        row
    }

    /// Writes printable ASCII from a column on. The text must fit.
    pub fn put_ascii(&mut self, row: u16, col: u16, text: &[u8], attrs: Attrs) {
        let end = col + text.len() as u16;
        let row = self.touch(row);
        row.split(col);
        row.split(end);
        for (cell, byte) in row.cells[usize::from(col)..usize::from(end)].iter_mut().zip(text) {
            *cell = Cell::ascii(*byte, attrs);
        }
        row.reach(col..end);
    }

    /// Writes one character, with its second cell where it is wide. It must fit.
    pub fn put(&mut self, row: u16, col: u16, cell: Cell) {
        let end = col + 1 + u16::from(cell.is_wide());
        let row = self.touch(row);
        row.split(col);
        row.split(end);
        row.cells[usize::from(col)] = cell;
        if cell.is_wide() {
            row.cells[usize::from(col) + 1] = Cell::second(cell.attrs);
        }
        row.reach(col..end);
    }

    /// Adds a mark to the character in a cell.
    pub fn combine(&mut self, row: u16, col: u16, mark: char) {
        let row = self.touch(row);
        let mut at = usize::from(col);
        if at > 0 && row.cells[at].is_second() {
            at -= 1;
        }
        row.cells[at].combine(mark);
        row.reach(at as u16..col + 1);
    }

    pub fn set_wrapped(&mut self, row: u16, wrapped: bool) {
        self.rows[usize::from(row)].wrapped = wrapped;
    }

    /// Makes cells of one row blank; where `is_selective`, not the protected ones.
    pub fn erase(&mut self, row: u16, cols: Range<u16>, attrs: Attrs, is_selective: bool) {
        if cols.is_empty() {
            return;
        }
        let width = self.cols;
        let row = self.touch(row);
        if cols.end == width {
            row.wrapped = false;
        }
        if is_selective {
            for col in cols {
                let at = usize::from(col);
                if !row.cells[at].attrs.flags.has(Flags::PROTECTED) {
                    row.split(col);
                    row.split(col + 1);
                    row.fill(col..col + 1, Cell::blank(attrs));
                }
            }
            return;
        }
        row.split(cols.start);
        row.split(cols.end);
        row.fill(cols, Cell::blank(attrs));
    }

    /// Makes whole rows blank.
    pub fn clear(&mut self, rows: Range<u16>, attrs: Attrs) {
        for row in rows {
            self.touch(row).clear(attrs);
        }
    }

    /// Fills a rectangle with a character (DECFRA, DECALN).
    pub fn fill(&mut self, area: &Area, cell: Cell) {
        for row in area.rows.clone() {
            let row = self.touch(row);
            row.split(area.cols.start);
            row.split(area.cols.end);
            row.fill(area.cols.clone(), cell);
        }
    }

    /// Shifts cells of one row right; what leaves `cols` is lost.
    pub fn insert_cells(&mut self, row: u16, cols: Range<u16>, count: u16, attrs: Attrs) {
        let count = count.min(cols.end.saturating_sub(cols.start));
        if count == 0 {
            return;
        }
        let row = self.touch(row);
        row.split(cols.start);
        row.split(cols.end - count);
        row.split(cols.end);
        let (start, end) = (usize::from(cols.start), usize::from(cols.end));
        row.cells.copy_within(start..end - usize::from(count), start + usize::from(count));
        if row.used > cols.start {
            row.used = row.used.max(cols.end.min(row.used.saturating_add(count)));
        }
        row.fill(cols.start..cols.start + count, Cell::blank(attrs));
        row.wrapped = false;
    }

    /// Shifts cells of one row left; blanks follow from the right.
    pub fn delete_cells(&mut self, row: u16, cols: Range<u16>, count: u16, attrs: Attrs) {
        let count = count.min(cols.end.saturating_sub(cols.start));
        if count == 0 {
            return;
        }
        let row = self.touch(row);
        row.split(cols.start);
        row.split(cols.start + count);
        row.split(cols.end);
        let (start, end) = (usize::from(cols.start), usize::from(cols.end));
        row.cells.copy_within(start + usize::from(count)..end, start);
        row.first = row.first.min(cols.start);
        row.fill(cols.end - count..cols.end, Cell::blank(attrs));
        row.wrapped = false;
    }

    /// Moves a rectangle's rows up; blank ones follow. Each whole row that leaves it is shown to
    /// `leaving` first.
    pub fn scroll_up(
        &mut self,
        area: &Area,
        count: u16,
        attrs: Attrs,
        mut leaving: impl FnMut(&Row),
    ) {
        let count = count.min(area.height());
        if count == 0 {
            return;
        }
        if *area != self.all(area.rows.clone()) {
            self.scroll_block(area, count, attrs, true);
            return;
        }
        for row in area.rows.start..area.rows.start + count {
            leaving(self.row(row));
        }
        if area.rows == (0..self.rows.len() as u16) {
            self.rows.rotate_left(usize::from(count));
        } else {
            let range = usize::from(area.rows.start)..usize::from(area.rows.end);
            self.rows.make_contiguous()[range].rotate_left(usize::from(count));
        }
        self.clear(area.rows.end - count..area.rows.end, attrs);
        if area.rows.start > 0 {
            self.set_wrapped(area.rows.start - 1, false);
        }
    }

    /// Moves a rectangle's rows down; blank ones come first.
    pub fn scroll_down(&mut self, area: &Area, count: u16, attrs: Attrs) {
        let count = count.min(area.height());
        if count == 0 {
            return;
        }
        if *area != self.all(area.rows.clone()) {
            self.scroll_block(area, count, attrs, false);
            return;
        }
        let range = usize::from(area.rows.start)..usize::from(area.rows.end);
        self.rows.make_contiguous()[range].rotate_right(usize::from(count));
        self.clear(area.rows.start..area.rows.start + count, attrs);
        self.set_wrapped(area.rows.end - 1, false);
        if area.rows.start > 0 {
            self.set_wrapped(area.rows.start - 1, false);
        }
    }

    /// Scrolls between left and right margins: cells move, rows stay.
    fn scroll_block(&mut self, area: &Area, count: u16, attrs: Attrs, is_up: bool) {
        for row in area.rows.clone() {
            let row = self.touch(row);
            row.split(area.cols.start);
            row.split(area.cols.end);
            row.wrapped = false;
        }
        let kept = area.height() - count;
        for step in 0..kept {
            let (from, to) = if is_up {
                (area.rows.start + step + count, area.rows.start + step)
            } else {
                (area.rows.end - 1 - step - count, area.rows.end - 1 - step)
            };
            self.copy_cells(from, to, &area.cols);
        }
        let blank = if is_up {
            area.rows.end - count..area.rows.end
        } else {
            area.rows.start..area.rows.start + count
        };
        for row in blank {
            self.erase(row, area.cols.clone(), attrs, false);
        }
    }

    fn copy_cells(&mut self, from: u16, to: u16, cols: &Range<u16>) {
        let range = usize::from(cols.start)..usize::from(cols.end);
        let cells = self.rows[usize::from(from)].cells[range.clone()].to_vec();
        let row = self.touch(to);
        row.cells[range].copy_from_slice(&cells);
        row.reach(cols.clone());
    }

    /// Copies a rectangle elsewhere (DECCRA), as if through a second screen. Both must fit. Half
    /// a wide character is a blank in the copy.
    pub fn copy_area(&mut self, from: &Area, to_row: u16, to_col: u16) {
        let range = usize::from(from.cols.start)..usize::from(from.cols.end);
        let line = |row| {
            let mut line = self.rows[usize::from(row)].cells[range.clone()].to_vec();
            if let Some(first) = line.first_mut().filter(|cell| cell.is_second()) {
                *first = Cell::blank(first.attrs);
            }
            if let Some(last) = line.last_mut().filter(|cell| cell.is_wide()) {
                *last = Cell::blank(last.attrs);
            }
            line
        };
        let lines: Vec<Vec<Cell>> = from.rows.clone().map(line).collect();
        for (line, to_row) in lines.iter().zip(to_row..) {
            let end = to_col + line.len() as u16;
            let row = self.touch(to_row);
            row.split(to_col);
            row.split(end);
            row.cells[usize::from(to_col)..usize::from(end)].copy_from_slice(line);
            row.reach(to_col..end);
        }
    }

    /// Changes the width of all rows: cut or blank at the right.
    pub fn set_cols(&mut self, cols: u16) {
        self.cols = cols;
        for row in 0..self.rows.len() as u16 {
            self.touch(row).resize(cols);
        }
    }

    /// Takes the top row away.
    pub fn pop_top(&mut self) -> Option<Row> {
        self.rows.pop_front()
    }

    /// Takes the bottom row away.
    pub fn pop_bottom(&mut self) {
        self.rows.pop_back();
    }

    /// Adds a row at the top, its cells cut or blank at the right.
    pub fn push_top(&mut self, cells: &[Cell], wrapped: bool) {
        let mut row = Row::new(self.cols);
        let count = cells.len().min(row.cells.len());
        row.cells[..count].copy_from_slice(&cells[..count]);
        row.reach(0..count as u16);
        if let Some(last) = row.cells[..count].last_mut()
            && last.is_wide()
        {
            *last = Cell::blank(last.attrs);
        }
        row.wrapped = wrapped && cells.len() <= row.cells.len();
        self.rows.push_front(row);
        self.touch(0);
    }

    /// Adds a blank row at the bottom.
    pub fn push_bottom(&mut self) {
        self.rows.push_back(Row::new(self.cols));
        self.touch(self.rows.len() as u16 - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grid(lines: &[&str]) -> Grid {
        let mut grid = Grid::new(lines.len() as u16, 6);
        for (row, line) in lines.iter().enumerate() {
            let mut col = 0;
            for c in line.chars() {
                let is_wide = unicode_width::UnicodeWidthChar::width(c) == Some(2);
                grid.put(row as u16, col, Cell::character(c, is_wide, Attrs::DEFAULT));
                col += 1 + u16::from(is_wide);
            }
        }
        grid
    }

    fn lines(grid: &Grid) -> Vec<String> {
        grid.rows().map(|row| row.cells().iter().map(Cell::text).collect::<String>()).collect()
    }

    #[test]
    fn half_a_wide_character_is_none() {
        let mut grid = grid(&["日本語"]);
        grid.put_ascii(0, 1, b"x", Attrs::DEFAULT);
        assert_eq!(lines(&grid), [" x本語"]);
        grid.delete_cells(0, 0..6, 3, Attrs::DEFAULT);
        assert_eq!(lines(&grid), [" 語   "]);
        grid.insert_cells(0, 0..6, 3, Attrs::DEFAULT);
        assert_eq!(lines(&grid), ["    語"]);
        grid.insert_cells(0, 0..6, 1, Attrs::DEFAULT);
        assert_eq!(lines(&grid), ["      "]);
    }

    #[test]
    fn a_block_scrolls_between_its_columns() {
        let mut grid = grid(&["abcdef", "ghijkl", "mnopqr"]);
        let block = Area { rows: 0..3, cols: 1..4 };
        grid.scroll_up(&block, 1, Attrs::DEFAULT, |_| panic!("no whole row leaves"));
        assert_eq!(lines(&grid), ["ahijef", "gnopkl", "m   qr"]);
        grid.scroll_down(&block, 2, Attrs::DEFAULT);
        assert_eq!(lines(&grid), ["a   ef", "g   kl", "mhijqr"]);
    }

    #[test]
    fn whole_rows_are_shown_as_they_leave() {
        let mut grid = grid(&["a", "b", "c"]);
        let mut left = Vec::new();
        grid.scroll_up(&Area { rows: 0..3, cols: 0..6 }, 2, Attrs::DEFAULT, |row| {
            left.push(row.used()[0].text().to_owned());
        });
        assert_eq!(left, ["a", "b"]);
        assert_eq!(lines(&grid), ["c     ", "      ", "      "]);
    }

    #[derive(Debug, Clone)]
    enum Op {
        Put(u16, u16, char),
        Erase(u16, u16, u16, bool),
        Insert(u16, u16, u16, u16),
        Delete(u16, u16, u16, u16),
        Up(u16, u16, u16, u16, u16),
        Down(u16, u16, u16, u16, u16),
        Copy(u16, u16, u16, u16, u16, u16),
        Cols(u16),
    }

    fn op() -> impl Strategy<Value = Op> {
        let (r, c, n) = (0..4_u16, 0..8_u16, 0..9_u16);
        prop_oneof![
            (r.clone(), c.clone(), prop::sample::select(vec!['a', '日', '語', 'b']))
                .prop_map(|(r, c, t)| Op::Put(r, c, t)),
            (r.clone(), c.clone(), c.clone(), any::<bool>())
                .prop_map(|(r, a, b, s)| Op::Erase(r, a, b, s)),
            (r.clone(), c.clone(), c.clone(), n.clone())
                .prop_map(|(r, a, b, n)| Op::Insert(r, a, b, n)),
            (r.clone(), c.clone(), c.clone(), n.clone())
                .prop_map(|(r, a, b, n)| Op::Delete(r, a, b, n)),
            (r.clone(), r.clone(), c.clone(), c.clone(), n.clone())
                .prop_map(|(a, b, c, d, n)| Op::Up(a, b, c, d, n)),
            (r.clone(), r.clone(), c.clone(), c.clone(), n)
                .prop_map(|(a, b, c, d, n)| Op::Down(a, b, c, d, n)),
            (r.clone(), r.clone(), c.clone(), c.clone(), r, c)
                .prop_map(|(a, b, c, d, e, f)| Op::Copy(a, b, c, d, e, f)),
            (2..9_u16).prop_map(Op::Cols),
        ]
    }

    fn span(a: u16, b: u16, end: u16) -> Range<u16> {
        a.min(b).min(end - 1)..(a.max(b) + 1).min(end)
    }

    proptest! {
        #[test]
        fn wide_characters_stay_whole_and_used_is_true(ops in prop::collection::vec(op(), 0..40)) {
            let mut grid = Grid::new(4, 8);
            for op in ops {
                let cols = grid.cols;
                match op {
                    Op::Put(r, c, t) => {
                        let is_wide = t > '\u{7f}';
                        let c = c.min(cols - 1 - u16::from(is_wide));
                        grid.put(r, c, Cell::character(t, is_wide, Attrs::DEFAULT));
                    }
                    Op::Erase(r, a, b, s) => grid.erase(r, span(a, b, cols), Attrs::DEFAULT, s),
                    Op::Insert(r, a, b, n) => grid.insert_cells(r, span(a, b, cols), n, Attrs::DEFAULT),
                    Op::Delete(r, a, b, n) => grid.delete_cells(r, span(a, b, cols), n, Attrs::DEFAULT),
                    Op::Up(a, b, c, d, n) => {
                        grid.scroll_up(&Area { rows: span(a, b, 4), cols: span(c, d, cols) }, n, Attrs::DEFAULT, |_| {});
                    }
                    Op::Down(a, b, c, d, n) => {
                        grid.scroll_down(&Area { rows: span(a, b, 4), cols: span(c, d, cols) }, n, Attrs::DEFAULT);
                    }
                    Op::Copy(a, b, c, d, to_row, to_col) => {
                        let (rows, from) = (span(a, b, 4), span(c, d, cols));
                        let to_row = to_row.min(4 - (rows.end - rows.start));
                        let to_col = to_col.min(cols - (from.end - from.start));
                        grid.copy_area(&Area { rows, cols: from }, to_row, to_col);
                    }
                    Op::Cols(cols) => grid.set_cols(cols),
                }
                for row in grid.rows() {
                    prop_assert_eq!(row.cells().len(), usize::from(grid.cols));
                    for (at, cell) in row.cells().iter().enumerate() {
                        let next = row.cells().get(at + 1);
                        prop_assert_eq!(cell.is_wide(), next.is_some_and(Cell::is_second));
                        prop_assert!(at < row.used().len() || cell.is_empty());
                        prop_assert!(at >= usize::from(row.span().0) || cell.is_empty());
                    }
                }
            }
        }
    }
}
