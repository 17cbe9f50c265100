//! From one screen to the next in few bytes.
//!
//! [`Encoder::encode`] compares the new screen with what the terminal shows
//! and writes the difference: first a scroll region where rows only moved,
//! then row by row the changed cells, each row in the shorter of two ways
//! (patched in place, or erased and written anew), with the shortest cursor
//! moves and merged attributes. An equal screen costs no byte.
//!
//! It trusts no width but its own: after a cell that terminals may disagree
//! on, the cursor is placed anew.

use std::io::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    layout::{Position, Rect},
};
use unicode_width::UnicodeWidthStr;

use super::{
    scroll::{self, Scroll},
    sgr::Look,
};

/// Frames below this many bytes need no synchronized output: one write shows them at once.
const SYNC_FROM_BYTES: usize = 512;
const SYNC_BEGIN: &[u8] = b"\x1b[?2026h";
const SYNC_END: &[u8] = b"\x1b[?2026l";
/// Unchanged cells that are cheaper to write again than to jump over.
const GAP_MAX_CELLS: u16 = 4;

/// What the terminal does that not all do.
#[derive(Debug, Clone, Copy)]
pub struct Abilities {
    /// Erasing fills with the background colour in force.
    pub erases_with_background: bool,
    pub scroll_regions: bool,
    pub synchronized: bool,
}

/// Knows what the terminal shows.
#[derive(Debug)]
pub struct Encoder {
    shown: Buffer,
    pen: Pen,
    abilities: Abilities,
    cursor_visible: bool,
    /// The screen may hold anything: erase before the next frame.
    unknown: bool,
}

/// The terminal's cursor and attributes, as far as they are known.
#[derive(Debug, Clone, Copy)]
struct Pen {
    at: Option<Position>,
    look: Look,
}

impl Encoder {
    pub fn new(abilities: Abilities) -> Self {
        Self {
            shown: Buffer::empty(Rect::ZERO),
            pen: Pen { at: None, look: Look::PLAIN },
            abilities,
            cursor_visible: false,
            unknown: true,
        }
    }

    /// Forgets what the terminal shows: the next frame writes everything.
    pub const fn forget(&mut self) {
        self.unknown = true;
    }

    /// Writes what turns the terminal's screen into `next`; nothing when nothing changed.
    pub fn encode(&mut self, next: &Buffer, cursor: Option<Position>) -> Vec<u8> {
        let mut out = Vec::new();
        if self.unknown || self.shown.area != next.area {
            self.unknown = false;
            self.shown = Buffer::empty(next.area);
            self.pen = Pen { at: Some(Position::ORIGIN), look: Look::PLAIN };
            out.extend_from_slice(b"\x1b[r\x1b[m\x1b[H\x1b[2J");
        } else if self.abilities.scroll_regions
            && let Some(found) = scroll::find(&self.shown, next)
        {
            self.scroll(found, &mut out);
        }
        for y in 0..next.area.height {
            self.row(y, next, &mut out);
        }
        self.shown.clone_from(next);
        self.place_cursor(cursor, &mut out);
        if out.len() >= SYNC_FROM_BYTES && self.abilities.synchronized {
            let mut whole = Vec::with_capacity(out.len() + SYNC_BEGIN.len() + SYNC_END.len());
            whole.extend_from_slice(SYNC_BEGIN);
            whole.append(&mut out);
            whole.extend_from_slice(SYNC_END);
            return whole;
        }
        out
    }

    fn scroll(&mut self, found: Scroll, out: &mut Vec<u8>) {
        // Rows that come in are filled with the background in force.
        self.pen.look.change(Look::PLAIN, out);
        let (top, bottom, lines) = (found.top + 1, found.bottom + 1, found.lines.unsigned_abs());
        let direction = if found.lines > 0 { 'S' } else { 'T' };
        let lines = if lines == 1 { String::new() } else { lines.to_string() };
        push(out, format_args!("\x1b[{top};{bottom}r\x1b[{lines}{direction}\x1b[r"));
        // Setting the margins sends the cursor home.
        self.pen = Pen { at: Some(Position::ORIGIN), look: Look::PLAIN };
        scroll::apply(&mut self.shown, found);
    }

    fn row(&mut self, y: u16, next: &Buffer, out: &mut Vec<u8>) {
        let width = usize::from(next.area.width);
        let range = usize::from(y) * width..(usize::from(y) + 1) * width;
        let (old, new) = (&self.shown.content[range.clone()], &next.content[range]);
        if old == new {
            return;
        }
        let mut patched = Vec::new();
        let mut pen_patched = self.pen;
        patch(old, new, y, &mut pen_patched, self.abilities, &mut patched);
        // A row that changes its ground is often cheaper to erase and write anew.
        let ground = Look { bg: new[width - 1].bg, ..Look::PLAIN };
        if self.can_erase(ground) && old.iter().any(|cell| !is_erased(cell, ground)) {
            let mut rewritten = Vec::new();
            let mut pen = self.pen;
            pen.goto(0, y, &mut rewritten);
            pen.look.change(ground, &mut rewritten);
            pen.look = ground;
            rewritten.extend_from_slice(b"\x1b[K");
            let blank = vec![erased(ground); width];
            patch(&blank, new, y, &mut pen, self.abilities, &mut rewritten);
            if rewritten.len() < patched.len() {
                out.append(&mut rewritten);
                self.pen = pen;
                return;
            }
        }
        out.append(&mut patched);
        self.pen = pen_patched;
    }

    fn can_erase(&self, ground: Look) -> bool {
        self.abilities.erases_with_background || ground.bg == Look::PLAIN.bg
    }

    fn place_cursor(&mut self, cursor: Option<Position>, out: &mut Vec<u8>) {
        if let Some(at) = cursor
            && self.pen.at != Some(at)
        {
            self.pen.at = None;
            self.pen.goto(at.x, at.y, out);
        }
        if self.cursor_visible != cursor.is_some() {
            self.cursor_visible = cursor.is_some();
            out.extend_from_slice(if self.cursor_visible { b"\x1b[?25h" } else { b"\x1b[?25l" });
        }
    }
}

/// Writes the changed cells of one row.
fn patch(old: &[Cell], new: &[Cell], y: u16, pen: &mut Pen, can: Abilities, out: &mut Vec<u8>) {
    let width = new.len() as u16;
    // From here on the row ends in blanks of one ground.
    let last = &new[usize::from(width) - 1];
    let ground = Look { bg: last.bg, ..Look::PLAIN };
    let tail = (0..width)
        .rev()
        .take_while(|&x| is_erased(&new[usize::from(x)], ground))
        .last()
        .unwrap_or(width);
    // The right half of a wide character looks blank, and is not.
    let is_half = tail > 0 && tail < width && cell_width(&new[usize::from(tail) - 1]) > 1;
    let tail = tail + u16::from(is_half);
    let tail_changed = (tail..width).filter(|&x| !is_erased(&old[usize::from(x)], ground)).count();
    let erasable = can.erases_with_background || ground.bg == Look::PLAIN.bg;
    let end = if erasable && tail_changed > 3 { tail } else { width };

    let mut x = 0;
    while x < end {
        let cell = &new[usize::from(x)];
        let span = cell_width(cell).min(width - x).max(1);
        let same = (x..x + span).all(|x| alike(&old[usize::from(x)], &new[usize::from(x)]))
            && !was_half_of_wide(old, new, x);
        if same {
            x += span;
            continue;
        }
        // The span that was written before may be near enough to write on instead of jumping.
        if let Some(at) = pen.at
            && at.y == y
            && at.x < x
            && x - at.x <= GAP_MAX_CELLS
            && (at.x..x).all(|x| is_simple(&new[usize::from(x)], pen.look))
        {
            for x in at.x..x {
                out.extend_from_slice(new[usize::from(x)].symbol().as_bytes());
            }
            pen.at = Some(Position::new(x, y));
        }
        pen.goto(x, y, out);
        let look = Look::of(cell);
        pen.look.change(look, out);
        pen.look = look;
        write_symbol(cell, span, out);
        let after = x + span;
        let certain = after < width && cell.symbol().len() == 1;
        let certain = certain || (after < width && is_plain_wide_or_narrow(cell));
        pen.at = certain.then_some(Position::new(after, y));
        x = after;
    }
    if end < width {
        pen.goto(end, y, out);
        pen.look.change(ground, out);
        pen.look = ground;
        out.extend_from_slice(b"\x1b[K");
    }
}

impl Pen {
    fn goto(&mut self, x: u16, y: u16, out: &mut Vec<u8>) {
        let target = Position::new(x, y);
        let Some(at) = self.at else {
            absolute(target, out);
            self.at = Some(target);
            return;
        };
        if at == target {
            return;
        }
        let mut shortest = Vec::new();
        absolute(target, &mut shortest);
        let mut consider = |sequence: Vec<u8>| {
            if sequence.len() < shortest.len() {
                shortest = sequence;
            }
        };
        if y == at.y {
            consider(sideways(at.x, x));
            let mut from_left = vec![b'\r'];
            from_left.extend(sideways(0, x));
            consider(from_left);
        } else if y > at.y && y - at.y <= 4 {
            // Output is raw: a line feed moves down alone; above the last row it never scrolls.
            let down = vec![b'\n'; usize::from(y - at.y)];
            let mut kept = down.clone();
            kept.extend(sideways(at.x, x));
            consider(kept);
            let mut from_left = vec![b'\r'];
            from_left.extend(down);
            from_left.extend(sideways(0, x));
            consider(from_left);
        } else if x == at.x {
            let lines = y.abs_diff(at.y);
            let direction = if y > at.y { 'B' } else { 'A' };
            consider(counted(lines, direction));
        }
        out.append(&mut shortest);
        self.at = Some(target);
    }
}

fn absolute(to: Position, out: &mut Vec<u8>) {
    match (to.x, to.y) {
        (0, 0) => out.extend_from_slice(b"\x1b[H"),
        (0, y) => push(out, format_args!("\x1b[{}H", y + 1)),
        (x, y) => push(out, format_args!("\x1b[{};{}H", y + 1, x + 1)),
    }
}

fn sideways(from: u16, to: u16) -> Vec<u8> {
    let distance = to.abs_diff(from);
    if to == from {
        Vec::new()
    } else if to > from {
        counted(distance, 'C')
    } else if distance <= 3 {
        vec![0x08; usize::from(distance)]
    } else {
        counted(distance, 'D')
    }
}

fn counted(n: u16, direction: char) -> Vec<u8> {
    if n == 1 { format!("\x1b[{direction}") } else { format!("\x1b[{n}{direction}") }.into_bytes()
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory cannot fail");
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

fn cell_width(cell: &Cell) -> u16 {
    let symbol = cell.symbol();
    if symbol.len() == 1 { 1 } else { symbol.width() as u16 }
}

/// A character whose width all terminals agree on.
fn is_plain_wide_or_narrow(cell: &Cell) -> bool {
    let mut chars = cell.symbol().chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return false };
    // Latin to Greek and Cyrillic, box drawing, blocks and our own signs.
    matches!(c, ' '..='~' | '\u{a1}'..='\u{52f}' | '\u{2010}'..='\u{2027}' | '\u{2190}'..='\u{2193}' | '\u{2500}'..='\u{25ff}')
}

fn is_simple(cell: &Cell, look: Look) -> bool {
    cell.symbol().len() == 1 && Look::of(cell) == look
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
    use super::*;
    use proptest::prelude::*;
    use ratatui::style::{Color, Modifier, Style};

    const ALL: Abilities =
        Abilities { erases_with_background: true, scroll_regions: true, synchronized: true };

    /// What a terminal shows, cell by cell, next to what it should.
    fn check(parser: &vt100::Parser, buffer: &Buffer) -> Result<(), TestCaseError> {
        let screen = parser.screen();
        for y in 0..buffer.area.height {
            let mut covered = 0_u16;
            for x in 0..buffer.area.width {
                if covered > 0 {
                    covered -= 1;
                    continue;
                }
                let want = &buffer[(x, y)];
                let got = screen.cell(y, x).expect("inside");
                covered = cell_width(want).saturating_sub(1);
                let symbol = if got.has_contents() { got.contents() } else { " " };
                prop_assert_eq!(symbol, want.symbol(), "symbol at {},{}", x, y);
                prop_assert_eq!(got.bgcolor(), color(want.bg), "ground at {},{}", x, y);
                if want.symbol() != " " {
                    prop_assert_eq!(got.fgcolor(), color(want.fg), "ink at {},{}", x, y);
                    prop_assert_eq!(got.bold(), want.modifier.contains(Modifier::BOLD));
                    prop_assert_eq!(got.dim(), want.modifier.contains(Modifier::DIM));
                }
                let reversed = want.modifier.contains(Modifier::REVERSED);
                prop_assert_eq!(got.inverse(), reversed, "reversed at {},{}", x, y);
            }
        }
        Ok(())
    }

    fn rows(n: u16) -> std::num::NonZeroU16 {
        std::num::NonZeroU16::new(n).expect("not zero")
    }

    fn color(color: Color) -> vt100::Color {
        match color {
            Color::Red => vt100::Color::Idx(1),
            Color::LightBlue => vt100::Color::Idx(12),
            Color::Indexed(index) => vt100::Color::Idx(index),
            _ => vt100::Color::Default,
        }
    }

    fn style() -> impl Strategy<Value = Style> {
        let any_color = || {
            prop_oneof![
                4 => Just(Color::Reset),
                1 => Just(Color::Red),
                1 => Just(Color::LightBlue),
                1 => Just(Color::Indexed(237)),
            ]
        };
        let modifier = prop_oneof![
            4 => Just(Modifier::empty()),
            1 => Just(Modifier::BOLD),
            1 => Just(Modifier::DIM),
            1 => Just(Modifier::REVERSED),
            1 => Just(Modifier::BOLD | Modifier::REVERSED),
        ];
        (any_color(), any_color(), modifier)
            .prop_map(|(fg, bg, m)| Style::new().fg(fg).bg(bg).add_modifier(m))
    }

    /// Screens that differ as real ones do: rows of pieces, shifted now and then.
    fn screens() -> impl Strategy<Value = Vec<Buffer>> {
        let piece = (0_u16..24, "[ a-c]{0,9}|日本|é─█|○ ok", style());
        let rows = prop::collection::vec(prop::collection::vec(piece, 0..4), 12);
        let shift = -4_i32..4;
        prop::collection::vec((rows, shift, any::<bool>()), 1..6).prop_map(|steps| {
            let mut all: Vec<Buffer> = Vec::new();
            for (rows, shift, anew) in steps {
                let mut buffer = Buffer::empty(Rect::new(0, 0, 24, 12));
                for (y, pieces) in rows.iter().enumerate() {
                    for (x, text, style) in pieces {
                        buffer.set_stringn(*x, y as u16, text, usize::from(24 - *x), *style);
                    }
                }
                if let Some(before) = all.last()
                    && !anew
                {
                    let mut moved = before.clone();
                    if shift != 0 {
                        scroll::apply(&mut moved, Scroll { top: 1, bottom: 10, lines: shift });
                    }
                    let width = 24;
                    moved.content[..width].clone_from_slice(&buffer.content[..width]);
                    buffer = moved;
                }
                // The parser knows one intensity at a time.
                for cell in &mut buffer.content {
                    if cell.modifier.contains(Modifier::BOLD) {
                        cell.modifier.remove(Modifier::DIM);
                    }
                }
                all.push(buffer);
            }
            all
        })
    }

    proptest! {
        #[test]
        fn the_terminal_shows_the_buffer(
            screens in screens(),
            erases in any::<bool>(),
            cursor in prop::option::of((0_u16..24, 0_u16..12)),
        ) {
            let abilities = Abilities { erases_with_background: erases, ..ALL };
            let mut encoder = Encoder::new(abilities);
            let mut parser = vt100::Parser::new(rows(12), rows(24), 0);
            parser.process(b"garbage from before\x1b[7m");
            let cursor = cursor.map(|(x, y)| Position::new(x, y));
            for screen in &screens {
                parser.process(&encoder.encode(screen, cursor));
                check(&parser, screen)?;
                if let Some(at) = cursor {
                    prop_assert_eq!(parser.screen().cursor_position(), (at.y, at.x));
                }
                prop_assert!(encoder.encode(screen, cursor).is_empty());
            }
        }
    }

    #[test]
    fn a_control_character_in_a_cell_does_not_leave() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 4, 1));
        buffer[(1, 0)].set_symbol("\x1b");
        let out = Encoder::new(ALL).encode(&buffer, None);
        assert!(out.ends_with(b"?"), "{:?}", String::from_utf8_lossy(&out));
    }
}
