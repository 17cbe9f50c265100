//! One row, from what it shows to what it should, in the shortest of four ways.
//!
//! ```text
//!   patched in place ─┐                      ┌─ from left to right
//!                     ├─ changed cells: runs ┤
//!   erased first ─────┘                      └─ one colour after the other
//! ```
//!
//! A jump over some cells is four bytes or five, a change of colour eleven or
//! more: a row whose signs differ in colour from its words is shorter when all
//! words are written first.

use std::ops::Range;

use ratatui::buffer::Cell;
use unicode_width::UnicodeWidthStr;

use super::{frame::Abilities, pen::Pen, sgr::Look};

/// Unchanged cells that are cheaper to write again than to jump over.
const GAP_MAX_CELLS: usize = 4;
/// So many changed blanks at the end are cheaper to erase than to write.
const ERASE_FROM_CELLS: usize = 4;

/// Writes what turns `old` into `new`; nothing when they are the same.
pub(super) fn write(
    old: &[Cell],
    new: &[Cell],
    y: u16,
    pen: &mut Pen,
    can: Abilities,
    out: &mut Vec<u8>,
) {
    if old == new {
        return;
    }
    let mut ways = patched(old, new, y, *pen, can).to_vec();
    // A row that changes its ground is often cheaper to erase and write anew; never, when that
    // alone writes more cells than the patches have bytes.
    let ground = ground_of(new);
    let least_bytes = new.iter().filter(|cell| !is_erased(cell, ground)).count();
    let is_worth_it = ways.iter().all(|(bytes, _)| bytes.len() > least_bytes);
    if is_worth_it && can.erase(ground) && old.iter().any(|cell| !is_erased(cell, ground)) {
        let blank = vec![erased(ground); new.len()];
        let mut begun = Vec::new();
        let mut at_start = *pen;
        at_start.goto(0, y, &mut begun);
        // Only the ground counts, so the first word's ink may come with it.
        let first = runs(&blank, new, new.len() as u16).first().map(|run| run.look);
        at_start
            .take(first.filter(|look| look.fits_blank(ground.bg)).unwrap_or(ground), &mut begun);
        begun.extend_from_slice(b"\x1b[K");
        for (rest, after) in patched(&blank, new, y, at_start, can) {
            ways.push(([begun.as_slice(), &rest].concat(), after));
        }
    }
    if let Some((bytes, after)) = ways.into_iter().min_by_key(|(bytes, _)| bytes.len()) {
        out.extend_from_slice(&bytes);
        *pen = after;
    }
}

/// The changed cells alone, from left to right and by colour; with each, the pen after it.
fn patched(old: &[Cell], new: &[Cell], y: u16, pen: Pen, can: Abilities) -> [(Vec<u8>, Pen); 2] {
    let ground = ground_of(new);
    let width = new.len() as u16;
    let tail = tail_of(new, ground);
    let changed = new.iter().zip(old).skip(usize::from(tail));
    let erases = can.erase(ground)
        && changed.filter(|(_, old)| !is_erased(old, ground)).count() >= ERASE_FROM_CELLS;
    let end = if erases { tail } else { width };
    let from_left = runs(old, new, end);
    let mut by_look = from_left.clone();
    // The look in force first, the others in the order in which they appear.
    let mut looks = vec![pen.look];
    for run in &from_left {
        if !looks.contains(&run.look) {
            looks.push(run.look);
        }
    }
    by_look.sort_by_key(|run| looks.iter().position(|look| *look == run.look));
    [from_left, by_look].map(|runs| {
        let (mut out, mut pen) = (Vec::new(), pen);
        for run in runs {
            run.write(new, y, &mut pen, &mut out);
        }
        if erases {
            pen.goto(end, y, &mut out);
            pen.take(ground, &mut out);
            out.extend_from_slice(b"\x1b[K");
        }
        (out, pen)
    })
}

/// Cells side by side that are written in one look.
#[derive(Debug, Clone)]
struct Run {
    cells: Range<u16>,
    look: Look,
    /// Of its look only the ground is seen: any ink will do.
    is_blank: bool,
}

impl Run {
    fn write(&self, row: &[Cell], y: u16, pen: &mut Pen, out: &mut Vec<u8>) {
        let width = row.len() as u16;
        let look =
            if self.is_blank && pen.look.fits_blank(self.look.bg) { pen.look } else { self.look };
        let mut x = self.cells.start;
        while x < self.cells.end {
            let cell = &row[usize::from(x)];
            let span = span_of(cell, width - x);
            pen.goto(x, y, out);
            pen.take(look, out);
            write_symbol(cell, span, out);
            x += span;
            // Behind the last column a terminal waits, and none agrees with another where.
            let is_known = x < width && is_of_known_width(cell);
            pen.at = is_known.then_some(ratatui::layout::Position::new(x, y));
        }
    }
}

/// The changed cells before column `end`, with gaps filled that are cheaper to write than to jump.
fn runs(old: &[Cell], new: &[Cell], end: u16) -> Vec<Run> {
    let width = new.len() as u16;
    let mut runs: Vec<Run> = Vec::new();
    let mut x = 0;
    while x < end {
        let cell = &new[usize::from(x)];
        let span = span_of(cell, width - x);
        let is_same = (x..x + span).all(|x| alike(&old[usize::from(x)], &new[usize::from(x)]))
            && !was_half_of_wide(old, new, x);
        if !is_same {
            let look = Look::of(cell);
            let is_blank = cell.symbol() == " " && look.blank_is_erased();
            let next = Run { cells: x..x + span, look, is_blank };
            if !runs.last_mut().is_some_and(|run| run.takes(&next, new)) {
                runs.push(next);
            }
        }
        x += span;
    }
    runs
}

impl Run {
    /// Goes on to the end of `next`, writing what lies between again, where that is short and one
    /// look fits all of it.
    fn takes(&mut self, next: &Self, row: &[Cell]) -> bool {
        let look = if self.is_blank { next.look } else { self.look };
        let fits = |cell: &Cell| {
            let own = Look::of(cell);
            own == look
                || (cell.symbol() == " " && own.blank_is_erased() && look.fits_blank(own.bg))
        };
        let between = &row[usize::from(self.cells.end)..usize::from(next.cells.start)];
        let can = between.len() <= GAP_MAX_CELLS
            && between.iter().all(|cell| cell.symbol().len() == 1 && fits(cell))
            && (next.look == look || (next.is_blank && look.fits_blank(next.look.bg)))
            && (!self.is_blank || look.fits_blank(self.look.bg));
        if can {
            self.cells.end = next.cells.end;
            self.look = look;
            self.is_blank &= next.is_blank && between.iter().all(|cell| cell.symbol() == " ");
        }
        can
    }
}

impl Abilities {
    /// Whether erasing leaves this ground.
    fn erase(self, ground: Look) -> bool {
        self.erases_with_background || ground.bg == Look::PLAIN.bg
    }
}

/// What a row ends in.
fn ground_of(row: &[Cell]) -> Look {
    row.last().map_or(Look::PLAIN, |last| Look { bg: last.bg, ..Look::PLAIN })
}

/// Where the blanks begin that a row ends in.
fn tail_of(row: &[Cell], ground: Look) -> u16 {
    let blanks = row.iter().rev().take_while(|cell| is_erased(cell, ground)).count();
    let tail = row.len() - blanks;
    // The right half of a wide character looks blank, and is not.
    let is_half = tail > 0 && tail < row.len() && cell_width(&row[tail - 1]) > 1;
    (tail + usize::from(is_half)) as u16
}

/// The last guard: whatever a cell holds, no control character leaves.
fn write_symbol(cell: &Cell, span: u16, out: &mut Vec<u8>) {
    let symbol = cell.symbol();
    if symbol.is_empty() || symbol.chars().any(char::is_control) {
        out.extend(std::iter::repeat_n(b'?', usize::from(span)));
    } else {
        out.extend_from_slice(symbol.as_bytes());
    }
}

pub(super) fn cell_width(cell: &Cell) -> u16 {
    let symbol = cell.symbol();
    if symbol.len() == 1 { 1 } else { symbol.width() as u16 }
}

/// The columns of a cell, of which `room` are left.
fn span_of(cell: &Cell, room: u16) -> u16 {
    cell_width(cell).min(room).max(1)
}

/// A character whose width all terminals agree on.
fn is_of_known_width(cell: &Cell) -> bool {
    let mut chars = cell.symbol().chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return false };
    // Latin to Greek and Cyrillic, box drawing, blocks and our own signs.
    matches!(
        c,
        ' '..='~' | '\u{a1}'..='\u{52f}' | '\u{2010}'..='\u{2027}' | '›' | '\u{2190}'..='\u{2193}'
            | '↯' | '↺' | '↻' | '\u{2296}'..='\u{22a0}' | '\u{2500}'..='\u{25ff}' | '✓' | '✗' | '❯'
    )
}

fn erased(ground: Look) -> Cell {
    let mut cell = Cell::EMPTY;
    cell.set_bg(ground.bg);
    cell
}

fn is_erased(cell: &Cell, ground: Look) -> bool {
    cell.symbol() == " " && cell.bg == ground.bg && Look::of(cell).blank_is_erased()
}

/// Whether two cells look the same, though a blank may carry another ink.
fn alike(old: &Cell, new: &Cell) -> bool {
    if old == new {
        return true;
    }
    let (a, b) = (Look::of(old), Look::of(new));
    old.symbol() == " "
        && new.symbol() == " "
        && a.bg == b.bg
        && a.blank_is_erased()
        && b.blank_is_erased()
}

/// Whether column `x` was covered by a wide character that the new row overwrites.
fn was_half_of_wide(old: &[Cell], new: &[Cell], x: u16) -> bool {
    let x = usize::from(x);
    let left_half = cell_width(&old[x]) > 1 && old[x] != new[x];
    let right_half = x > 0 && cell_width(&old[x - 1]) > 1 && old[x - 1] != new[x - 1];
    left_half || right_half
}

#[cfg(test)]
mod tests {
    use ratatui::{
        buffer::Buffer,
        layout::Rect,
        style::{Color, Style},
    };

    use super::*;

    const CAN: Abilities =
        Abilities { erases_with_background: true, scroll_regions: true, synchronized: true };

    fn row(pieces: &[(u16, &str, Color)]) -> Vec<Cell> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 40, 1));
        for (x, text, ink) in pieces {
            buffer.set_string(*x, 0, text, Style::new().fg(*ink));
        }
        buffer.content
    }

    fn bytes(old: &[Cell], new: &[Cell]) -> String {
        let mut out = Vec::new();
        write(old, new, 0, &mut Pen::HOME.clone(), CAN, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn words_of_one_colour_are_written_before_signs_of_another() {
        let (good, muted) = (Color::Indexed(114), Color::Indexed(246));
        let new = row(&[(0, "●", good), (2, "online", muted), (20, "✓", good), (22, "up", muted)]);
        assert_eq!(
            bytes(&row(&[]), &new),
            "\x1b[38;5;114m●\x1b[19C✓\x1b[19D\x1b[38;5;246monline\x1b[14Cup"
        );
    }

    #[test]
    fn a_blank_between_two_words_is_written_in_whichever_ink_is_at_hand() {
        let muted = Color::Indexed(246);
        let new = row(&[(0, "one", muted), (4, "two", muted)]);
        assert_eq!(bytes(&row(&[]), &new), "\x1b[38;5;246mone two");
    }
}
