//! Finds rows that only moved, so that the terminal can move them itself.

use std::hash::{DefaultHasher, Hasher as _};

use ratatui::buffer::{Buffer, Cell};

/// A region that scrolls: rows `top` to `bottom` (inclusive), by `lines`; up when positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scroll {
    pub top: u16,
    pub bottom: u16,
    pub lines: i32,
}

/// Fewer rows than this are not worth a region.
const ROWS_MIN: usize = 3;

/// Finds the one scroll that makes most rows of `prev` those of `next`; `None` when none helps.
pub fn find(prev: &Buffer, next: &Buffer) -> Option<Scroll> {
    let changed: Vec<bool> = rows(prev).zip(rows(next)).map(|(old, new)| old != new).collect();
    if changed.iter().filter(|is_changed| **is_changed).count() < ROWS_MIN {
        return None;
    }
    let first = changed.iter().position(|is_changed| *is_changed)?;
    let last = changed.iter().rposition(|is_changed| *is_changed)?;
    let span = last - first + 1;
    let (before, after) = (Texts::of(prev), Texts::of(next));
    let mut best: Option<(usize, Scroll)> = None;
    for distance in 1..span {
        for up in [true, false] {
            // Row `y` comes from row `y + distance` when the region moves up.
            let mut gain = 0_usize;
            let (mut low, mut high) = (usize::MAX, 0);
            for step in 0..span - distance {
                let (to, from) = if up {
                    (first + step, first + step + distance)
                } else {
                    (first + step + distance, first + step)
                };
                let moved = before.hashes[from] == after.hashes[to];
                if moved && changed[to] && after.hashes[to] != after.blank {
                    gain += 1;
                    low = low.min(to.min(from));
                    high = high.max(to.max(from));
                }
            }
            if gain >= ROWS_MIN && best.is_none_or(|(most, _)| gain > most) {
                let lines = distance as i32 * if up { 1 } else { -1 };
                best = Some((gain, Scroll { top: low as u16, bottom: high as u16, lines }));
            }
        }
    }
    best.map(|(_, scroll)| widen(prev, next, scroll))
}

/// Takes in the rows beside the region that moved with it but changed a little on the way:
/// the one that the cursor left, for instance.
fn widen(prev: &Buffer, next: &Buffer, scroll: Scroll) -> Scroll {
    let width = usize::from(next.area.width);
    let row = |buffer: &Buffer, y: usize| y * width..((y + 1) * width).min(buffer.content.len());
    let differing = |from: usize, to: usize| {
        let (old, new) = (&prev.content[row(prev, from)], &next.content[row(next, to)]);
        old.iter().zip(new).filter(|(a, b)| a.symbol() != b.symbol()).count()
    };
    let gains = |from: usize, to: usize| differing(from, to) < differing(to, to);
    let lines = scroll.lines.unsigned_abs() as usize;
    let last = usize::from(next.area.height).saturating_sub(1);
    let (mut top, mut bottom) = (usize::from(scroll.top), usize::from(scroll.bottom));
    let up = scroll.lines > 0;
    while bottom < last {
        let (from, to) =
            if up { (bottom + 1, bottom + 1 - lines) } else { (bottom + 1 - lines, bottom + 1) };
        if !gains(from, to) {
            break;
        }
        bottom += 1;
    }
    while top > 0 {
        let (from, to) = if up { (top - 1 + lines, top - 1) } else { (top - 1, top - 1 + lines) };
        if !gains(from, to) {
            break;
        }
        top -= 1;
    }
    Scroll { top: top as u16, bottom: bottom as u16, ..scroll }
}

/// What stands in each row, without its colours: a row that is marked on its way has moved too.
struct Texts {
    hashes: Vec<u64>,
    blank: u64,
}

impl Texts {
    fn of(buffer: &Buffer) -> Self {
        let mut text = Vec::new();
        let hashes = rows(buffer).map(|cells| {
            text.clear();
            for cell in cells {
                text.extend_from_slice(cell.symbol().as_bytes());
            }
            hash(&text)
        });
        let hashes = hashes.collect();
        Self { hashes, blank: hash(&vec![b' '; usize::from(buffer.area.width)]) }
    }
}

/// One hash of a whole row: cell by cell, hashing took near a third of the screen's thread.
fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}

fn rows(buffer: &Buffer) -> impl Iterator<Item = &[Cell]> {
    buffer.content.chunks(usize::from(buffer.area.width).max(1))
}

/// Moves the rows of a buffer as the terminal does; rows that come in are blank.
pub fn apply(buffer: &mut Buffer, scroll: Scroll) {
    let width = usize::from(buffer.area.width);
    let (top, bottom) = (usize::from(scroll.top), usize::from(scroll.bottom));
    let lines = scroll.lines.unsigned_abs() as usize;
    let region = &mut buffer.content[top * width..(bottom + 1) * width];
    let cells = (lines * width).min(region.len());
    if scroll.lines > 0 {
        region.rotate_left(cells);
        let kept = region.len() - cells;
        region[kept..].iter_mut().for_each(Cell::reset);
    } else {
        region.rotate_right(cells);
        region[..cells].iter_mut().for_each(Cell::reset);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn a_table_that_moved_up_by_two_is_found_below_its_header() {
        let prev = Buffer::with_lines(["head", "a", "b", "c", "d", "e", "f", "foot"]);
        let next = Buffer::with_lines(["head", "c", "d", "e", "f", "g", "h", "foot"]);
        let scroll = find(&prev, &next);
        assert_eq!(scroll, Some(Scroll { top: 1, bottom: 6, lines: 2 }));
        let back = find(&next, &prev);
        assert_eq!(back, Some(Scroll { top: 1, bottom: 6, lines: -2 }));
    }

    #[test]
    fn a_row_that_changed_a_little_on_its_way_moves_with_the_others() {
        let prev = Buffer::with_lines([
            "row one here",
            "row two here",
            "row three hi",
            "row four hi",
            "> row five hi",
        ]);
        let next = Buffer::with_lines([
            "row two here",
            "row three hi",
            "row four hi",
            "  row five hi",
            "> and another",
        ]);
        let scroll = find(&prev, &next);
        assert_eq!(scroll, Some(Scroll { top: 0, bottom: 4, lines: 1 }));
    }

    #[test]
    fn rows_like_their_neighbours_move_with_the_others_when_an_age_has_changed() {
        let row = |n: u32, age: u32| format!("node-{n} online drone production {age}s");
        let ages = |n: u32| if n < 4 { 20 } else { 10 };
        let prev = Buffer::with_lines((1..=8).map(|n| row(n, 10)));
        let next = Buffer::with_lines((2..=9).map(|n| row(n, ages(n))));
        assert_eq!(find(&prev, &next), Some(Scroll { top: 0, bottom: 7, lines: 1 }));
    }

    #[test]
    fn rows_that_were_marked_on_their_way_have_moved() {
        let prev = Buffer::with_lines(["a", "b", "c", "d"]);
        let mut next = Buffer::with_lines(["b", "c", "d", "e"]);
        next.set_style(next.area, Style::new().bold());
        assert_eq!(find(&prev, &next), Some(Scroll { top: 0, bottom: 3, lines: 1 }));
    }

    #[test]
    fn rows_that_only_differ_are_no_scroll() {
        let prev = Buffer::with_lines(["a", "b", "c", "d"]);
        let next = Buffer::with_lines(["w", "x", "y", "z"]);
        assert_eq!(find(&prev, &next), None);
        assert_eq!(find(&prev, &prev), None);
    }
}
