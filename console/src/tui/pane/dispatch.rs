//! Which control and which sequence means what.
//!
//! The table of all that a pane understands. What is not in it does nothing.

use std::ops::Range;

use unicode_width::UnicodeWidthChar as _;

use super::{
    cell::{Cell, Flags},
    charset::Charset,
    grid::Area,
    modes,
    parser::{Csi, Sink, StringKind},
    reply,
    screen::{Poured, Screen},
    sgr,
};

impl Sink for Screen {
    fn ascii(&mut self, text: &[u8]) {
        self.write_ascii(text);
    }

    fn character(&mut self, c: char) {
        self.write(c);
    }

    fn control(&mut self, byte: u8) {
        match byte {
            0x07 => self.notices.bell(),
            0x08 => self.backspace(),
            0x09 => self.tab(1),
            0x0a..=0x0c => {
                self.line_feed();
                if self.modes.newline {
                    self.carriage_return();
                }
            }
            0x0d => self.carriage_return(),
            0x0e => self.charsets.lock(1),
            0x0f => self.charsets.lock(0),
            _ => {}
        }
    }

    fn pour(&mut self, bytes: &[u8]) -> Poured {
        Screen::pour(self, bytes)
    }

    fn escape(&mut self, intermediates: &[u8], last: u8) {
        match (intermediates, last) {
            ([], b'6') => self.back_index(),
            ([], b'7') => self.save_cursor(),
            ([], b'8') => self.restore_cursor(),
            ([], b'9') => self.forward_index(),
            ([], b'=') => self.modes.keypad = true,
            ([], b'>') => self.modes.keypad = false,
            ([], b'D') => self.line_feed(),
            // The line first: beside the margins nothing scrolls.
            ([], b'E') => {
                self.line_feed();
                self.carriage_return();
            }
            ([], b'H') => self.set_tab(true),
            ([], b'M') => self.reverse_line_feed(),
            ([], b'N') => self.charsets.shift_once(2),
            ([], b'O') => self.charsets.shift_once(3),
            ([], b'Z') => self.reply(reply::PRIMARY),
            ([], b'c') => self.reset(),
            ([], b'n') => self.charsets.lock(2),
            ([], b'o') => self.charsets.lock(3),
            ([b'#'], b'8') => self.fill_with_e(),
            ([set @ (b'(' | b')' | b'*' | b'+' | b'-' | b'.' | b'/')], last) => {
                self.charsets.designate(*set, Charset::by_final(last));
            }
            // 94-character sets with a second intermediate are national ones of later terminals.
            ([set @ (b'(' | b')' | b'*' | b'+'), _], _) => {
                self.charsets.designate(*set, Charset::Ascii);
            }
            _ => {}
        }
    }

    fn csi(&mut self, csi: &Csi) {
        let n = csi.or(0, 1);
        let between = |byte: u8| [byte, 0];
        match (csi.marker, csi.intermediates, csi.last) {
            // SGR alone has parameters with parts; all else with colons does nothing in xterm.
            (.., last) if csi.has_subs() && last != b'm' => {}
            (0, [0, 0], last) => self.plain_csi(csi, last, n),
            (b'?', [0, 0], b'J') => self.erase_display(csi.get(0), true),
            (b'?', [0, 0], b'K') => self.erase_line(csi.get(0), true),
            (b'?', [0, 0], b'W') if csi.get(0) == 5 => self.reset_tabs(),
            (b'?', [0, 0], b'h') => self.set_dec_modes(csi, true),
            (b'?', [0, 0], b'l') => self.set_dec_modes(csi, false),
            (b'?', [0, 0], b'n') => self.reply_dec_status(csi.get(0)),
            (b'?', [0, 0], b's') => {
                for number in csi.params() {
                    if let Some(on) = self.dec_mode(*number) {
                        self.saved_modes.save(*number, on);
                    }
                }
            }
            (b'?', [0, 0], b'r') => {
                for number in csi.params() {
                    if let Some(on) = self.saved_modes.get(*number) {
                        self.set_dec_mode(*number, on);
                    }
                }
            }
            (b'>', [0, 0], b'c') if csi.get(0) == 0 => self.reply(reply::SECONDARY),
            (b'=', [0, 0], b'c') if csi.get(0) == 0 => self.reply(reply::TERTIARY),
            #[cfg(test)]
            (b'=', [0, 0], b'~') => panic!("as a test wishes"),
            (0, i, b'p') if i == between(b'!') => self.soft_reset(),
            (0, i, b'p') if i == between(b'$') => {
                self.reply(&modes::report(csi, self.modes.ansi(csi.get(0))));
            }
            (b'?', i, b'p') if i == between(b'$') => {
                self.reply(&modes::report(csi, self.dec_mode(csi.get(0))));
            }
            (0, i, b'q') if i == between(b'"') => match csi.get(0) {
                0 | 2 => self.protect(false),
                1 => self.protect(true),
                _ => {}
            },
            (0, i, b'q') if i == between(b' ') && csi.get(0) <= 6 => {
                self.cursor_style = csi.get(0) as u8;
            }
            (0, i, b'@') if i == between(b' ') => self.shift_columns(n, true),
            (0, i, b'A') if i == between(b' ') => self.shift_columns(n, false),
            (0, i, b'}') if i == between(b'\'') => self.edit_columns(n, true),
            (0, i, b'~') if i == between(b'\'') => self.edit_columns(n, false),
            (0, i, b'v') if i == between(b'$') => self.copy_area(csi),
            (0, i, b'x') if i == between(b'$') => self.fill_area(csi),
            (0, i, b'z') if i == between(b'$') => self.erase_area(csi, false),
            (0, i, b'{') if i == between(b'$') => self.erase_area(csi, true),
            _ => {}
        }
    }

    fn string(&mut self, kind: StringKind, text: &[u8]) {
        match kind {
            StringKind::Osc => self.notices.osc(text),
            StringKind::Dcs => {
                if let Some(setting) = text.strip_prefix(b"$q") {
                    let answer = reply::setting(self, setting);
                    self.reply(&answer);
                }
            }
            StringKind::Other => {}
        }
    }
}

impl Screen {
    fn plain_csi(&mut self, csi: &Csi, last: u8, n: u16) {
        match last {
            b'@' => self.insert_cells(n),
            b'A' => self.up(n),
            b'B' => self.down(n),
            b'C' => self.right(n),
            // ECMA-48 knows of no margins here (8.3.57), but in origin mode they are the page.
            b'a' => {
                let end = if self.modes.origin { self.margins.cols.end } else { self.size.cols };
                self.go(self.cursor.row, self.cursor.col.saturating_add(n).min(end - 1));
            }
            b'D' | b'j' => self.left(n),
            b'E' => {
                self.down(n);
                self.carriage_return();
            }
            b'F' => {
                self.up(n);
                self.carriage_return();
            }
            b'G' | b'`' => self.go_to_col(n - 1),
            b'H' | b'f' => self.go_to(n - 1, csi.or(1, 1) - 1),
            b'I' => self.tab(n),
            b'J' => self.erase_display(csi.get(0), false),
            b'K' => self.erase_line(csi.get(0), false),
            b'L' => self.insert_lines(n),
            b'M' => self.delete_lines(n),
            b'P' => self.delete_cells(n),
            b'S' => self.scroll_up(&self.margins.clone(), n),
            // With more parameters it is a question about the mouse.
            b'T' if csi.params().len() <= 1 => self.scroll_down(&self.margins.clone(), n),
            b'^' => self.scroll_down(&self.margins.clone(), n),
            b'W' => match csi.get(0) {
                0 => self.set_tab(true),
                2 => self.set_tab(false),
                5 => self.clear_tabs(),
                _ => {}
            },
            b'X' => self.erase_cells(n),
            b'Z' => self.back_tab(n),
            b'b' => self.repeat(n),
            b'c' if csi.get(0) == 0 => self.reply(reply::PRIMARY),
            b'd' => self.go_to_row(n - 1),
            b'e' => {
                let top = if self.modes.origin { self.margins.rows.start } else { 0 };
                self.go_to_row(self.cursor.row.saturating_sub(top).saturating_add(n));
            }
            b'k' => {
                let top = if self.modes.origin { self.margins.rows.start } else { 0 };
                self.go_to_row(self.cursor.row.saturating_sub(top).saturating_sub(n));
            }
            b'g' => match csi.get(0) {
                0 => self.set_tab(false),
                3 => self.clear_tabs(),
                _ => {}
            },
            b'h' | b'l' => {
                for number in csi.params() {
                    self.modes.set_ansi(*number, last == b'h');
                }
            }
            b'm' => sgr::apply(csi, &mut self.pen),
            b'n' => self.reply_status(csi.get(0)),
            b'r' => {
                let rows = csi.or(0, 1) - 1..csi.or(1, self.size.rows).min(self.size.rows);
                self.set_row_margins(rows);
            }
            b's' if self.modes.side_margins => {
                let cols = csi.or(0, 1) - 1..csi.or(1, self.size.cols).min(self.size.cols);
                self.set_col_margins(cols);
            }
            b's' if csi.params().is_empty() => self.save_cursor(),
            b'u' if csi.params().is_empty() => self.restore_cursor(),
            b't' => {
                if let Some(answer) = reply::window(self, csi.get(0)) {
                    self.reply(&answer);
                }
            }
            b'x' if csi.get(0) <= 1 => self.reply(reply::parameters(csi.get(0))),
            _ => {}
        }
    }

    // Modes

    fn set_dec_modes(&mut self, csi: &Csi, on: bool) {
        for number in csi.params() {
            self.set_dec_mode(*number, on);
        }
    }

    fn set_dec_mode(&mut self, number: u16, on: bool) {
        match number {
            // As `tput init` resets it, which is to clear nothing.
            3 if self.modes.may_change_columns => self.change_columns(on),
            3 => {}
            47 => self.show_alternate(on),
            1047 => {
                if !on && self.is_alternate() {
                    self.erase_display(2, false);
                }
                self.show_alternate(on);
            }
            1048 if on => self.save_cursor(),
            1048 => self.restore_cursor(),
            // Also where it is shown already: it is 1048 and 1047 in one.
            1049 if on => {
                self.save_cursor();
                self.show_alternate(true);
                self.erase_display(2, false);
            }
            // It leaves the clearing to who comes next, as xterm does.
            1049 => {
                self.show_alternate(false);
                self.restore_cursor();
            }
            _ => {
                if !self.modes.set_dec(number, on) {
                    return;
                }
                match number {
                    6 => self.go_to(0, 0),
                    7 if !on => self.cursor.is_past_end = false,
                    69 if !on => self.margins.cols = 0..self.size.cols,
                    _ => {}
                }
            }
        }
    }

    fn dec_mode(&self, number: u16) -> Option<bool> {
        match number {
            3 => Some(self.modes.wide),
            47 | 1047 | 1049 => Some(self.is_alternate()),
            _ => self.modes.dec(number),
        }
    }

    // Erasing and editing. What comes or goes by lines moves the cursor to the line's beginning
    // (ECMA-48, 8.3.32 and 8.3.67). After a full row the cursor is on its last character, and the
    // next one goes there, once something was erased, inserted or deleted, as in xterm.

    fn erase_display(&mut self, what: u16, is_selective: bool) {
        let (row, rows) = (self.cursor.row, self.size.rows);
        match what {
            0 => {
                self.erase_line(0, is_selective);
                self.erase_rows(row + 1..rows, is_selective);
            }
            1 => {
                self.erase_rows(0..row, is_selective);
                self.erase_line(1, is_selective);
            }
            2 => {
                self.cursor.is_past_end = false;
                self.erase_rows(0..rows, is_selective);
            }
            3 if !is_selective => self.history.clear(),
            _ => {}
        }
    }

    fn erase_rows(&mut self, rows: Range<u16>, is_selective: bool) {
        let (cols, blank) = (0..self.size.cols, self.blank());
        if is_selective {
            for row in rows {
                self.grid_mut().erase(row, cols.clone(), blank, true);
            }
        } else {
            self.grid_mut().clear(rows, blank);
        }
    }

    fn erase_line(&mut self, what: u16, is_selective: bool) {
        let (row, col, cols, blank) =
            (self.cursor.row, self.cursor.col, self.size.cols, self.blank());
        let erased = match what {
            0 => col..cols,
            1 => 0..col + 1,
            2 => 0..cols,
            _ => return,
        };
        self.cursor.is_past_end = false;
        self.grid_mut().erase(row, erased, blank, is_selective);
    }

    fn erase_cells(&mut self, n: u16) {
        let (row, col, blank) = (self.cursor.row, self.cursor.col, self.blank());
        let end = col.saturating_add(n).min(self.size.cols);
        self.cursor.is_past_end = false;
        self.grid_mut().erase(row, col..end, blank, false);
    }

    fn insert_cells(&mut self, n: u16) {
        let (row, col, blank) = (self.cursor.row, self.cursor.col, self.blank());
        // Beside the margins, too, as in xterm; there DCH does not.
        self.cursor.is_past_end = false;
        if self.margins.cols.contains(&col) {
            let end = self.margins.cols.end;
            self.grid_mut().insert_cells(row, col..end, n, blank);
        }
    }

    fn delete_cells(&mut self, n: u16) {
        let (row, col, blank) = (self.cursor.row, self.cursor.col, self.blank());
        if self.margins.cols.contains(&col) {
            self.cursor.is_past_end = false;
            let end = self.margins.cols.end;
            self.grid_mut().delete_cells(row, col..end, n, blank);
        }
    }

    /// The lines from the cursor to the bottom margin, when it is within the margins.
    fn lines_below(&self) -> Option<Area> {
        let (row, col) = (self.cursor.row, self.cursor.col);
        self.margins
            .contains(row, col)
            .then(|| Area { rows: row..self.margins.rows.end, cols: self.margins.cols.clone() })
    }

    fn insert_lines(&mut self, n: u16) {
        if let Some(area) = self.lines_below() {
            self.scroll_down(&area, n);
            self.go(self.cursor.row, area.cols.start);
        }
    }

    fn delete_lines(&mut self, n: u16) {
        if let Some(area) = self.lines_below() {
            // What is deleted is gone, also where it was the top line.
            let blank = self.blank();
            self.grid_mut().scroll_up(&area, n, blank, |_| {});
            self.go(self.cursor.row, area.cols.start);
        }
    }

    /// SL, SR: all lines between the margins move sideways.
    fn shift_columns(&mut self, n: u16, is_left: bool) {
        let (row, col) = (self.cursor.row, self.cursor.col);
        if self.margins.contains(row, col) {
            self.move_columns(self.margins.cols.start, n, !is_left);
        }
    }

    /// DECIC, DECDC: columns come or go at the cursor.
    fn edit_columns(&mut self, n: u16, is_insert: bool) {
        let (row, col) = (self.cursor.row, self.cursor.col);
        if self.margins.contains(row, col) {
            self.move_columns(col, n, is_insert);
        }
    }

    fn move_columns(&mut self, from: u16, n: u16, is_right: bool) {
        let blank = self.blank();
        let cols = from..self.margins.cols.end;
        for row in self.margins.rows.clone() {
            if is_right {
                self.grid_mut().insert_cells(row, cols.clone(), n, blank);
            } else {
                self.grid_mut().delete_cells(row, cols.clone(), n, blank);
            }
        }
    }

    /// DECBI: one column back; at the left margin, all between the margins goes one column on
    /// instead.
    fn back_index(&mut self) {
        let (row, col) = (self.cursor.row, self.cursor.col);
        if col == self.margins.cols.start {
            self.shift_columns(1, false);
        } else {
            self.go(row, col.saturating_sub(1));
        }
    }

    /// DECFI: one column on; at the right margin, all between the margins goes one column back
    /// instead.
    fn forward_index(&mut self) {
        let (row, col) = (self.cursor.row, self.cursor.col);
        if col + 1 == self.margins.cols.end {
            self.shift_columns(1, true);
        } else {
            self.go(row, col + 1);
        }
    }

    /// REP. What would only scroll off again is left out, so that a short sequence is short work:
    /// the rest ends at the same column, on a screen as full.
    fn repeat(&mut self, n: u16) {
        let Some(c) = self.last else { return };
        let cells = usize::from(self.size.rows) * usize::from(self.size.cols);
        let width = c.width().unwrap_or(1).max(1);
        // From the second row on, all begin at the left margin and end at the right one.
        let row = (self.margins.cols.len() / width).max(1);
        let n = usize::from(n);
        let n = if n > cells { cells + (n - cells) % row } else { n };
        match u8::try_from(c) {
            Ok(byte @ b' '..=b'~') if self.charsets.is_plain() => self.write_ascii(&vec![byte; n]),
            _ => (0..n).for_each(|_| self.write(c)),
        }
    }

    // Rectangles

    /// The rectangle that four parameters name, counted from the margins in origin mode.
    fn area(&self, csi: &Csi, first: usize) -> Option<Area> {
        let within = if self.modes.origin { self.margins.clone() } else { self.page() };
        let (height, width) = (within.height(), within.cols.end - within.cols.start);
        let side = |start: usize, end: usize, length: u16| {
            let range = csi.or(start, 1) - 1..csi.or(end, length).min(length);
            (!range.is_empty()).then_some(range)
        };
        let rows = side(first, first + 2, height)?;
        let cols = side(first + 1, first + 3, width)?;
        let (top, left) = (within.rows.start, within.cols.start);
        Some(Area {
            rows: top + rows.start..top + rows.end,
            cols: left + cols.start..left + cols.end,
        })
    }

    /// DECFRA.
    fn fill_area(&mut self, csi: &Csi) {
        let (Some(area), code) = (self.area(csi, 1), csi.get(0)) else { return };
        if !matches!(code, 0x20..=0x7e | 0xa0..=0xff) {
            return;
        }
        if let Some(c) = char::from_u32(u32::from(code)) {
            let cell = Cell::character(c, false, self.pen);
            self.grid_mut().fill(&area, cell);
        }
    }

    /// DECERA, DECSERA.
    fn erase_area(&mut self, csi: &Csi, is_selective: bool) {
        let (Some(area), blank) = (self.area(csi, 0), self.blank()) else { return };
        for row in area.rows.clone() {
            self.grid_mut().erase(row, area.cols.clone(), blank, is_selective);
        }
    }

    /// DECCRA: pages there are none; what does not fit is cut.
    fn copy_area(&mut self, csi: &Csi) {
        let Some(mut from) = self.area(csi, 0) else { return };
        let within = if self.modes.origin { self.margins.clone() } else { self.page() };
        let to_row = within.rows.start.saturating_add(csi.or(5, 1) - 1);
        let to_col = within.cols.start.saturating_add(csi.or(6, 1) - 1);
        if !within.contains(to_row, to_col) {
            return;
        }
        from.rows.end = from.rows.end.min(from.rows.start + (within.rows.end - to_row));
        from.cols.end = from.cols.end.min(from.cols.start + (within.cols.end - to_col));
        self.grid_mut().copy_area(&from, to_row, to_col);
    }

    /// Whether what is written next is protected (DECRQSS).
    pub(super) fn is_protecting(&self) -> bool {
        self.pen.flags.has(Flags::PROTECTED)
    }
}
