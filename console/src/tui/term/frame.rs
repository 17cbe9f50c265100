//! From one screen to the next in few bytes.
//!
//! [`Encoder::encode`] compares the new screen with what the terminal shows
//! and writes the difference: first a scroll region where rows only moved,
//! then row by row the changed cells. An equal screen costs no byte.
//!
//! It trusts no width but its own: after a cell that terminals may disagree
//! on, the cursor is placed anew.

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use super::{
    pen::{Pen, push},
    row,
    scroll::{self, Scroll},
    sgr::Look,
};

/// Frames below this many bytes need no synchronized output: one write shows them at once.
const SYNC_FROM_BYTES: usize = 512;
const SYNC_BEGIN: &[u8] = b"\x1b[?2026h";
const SYNC_END: &[u8] = b"\x1b[?2026l";

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

impl Encoder {
    pub fn new(abilities: Abilities) -> Self {
        Self {
            shown: Buffer::empty(Rect::ZERO),
            pen: Pen::HOME,
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
            self.pen = Pen::HOME;
            out.extend_from_slice(b"\x1b[r\x1b[m\x1b[H\x1b[2J");
        } else if self.abilities.scroll_regions
            && let Some(found) = scroll::find(&self.shown, next)
        {
            self.scroll(found, &mut out);
        }
        let width = usize::from(next.area.width);
        for y in 0..next.area.height {
            let cells = usize::from(y) * width..(usize::from(y) + 1) * width;
            let (old, new) = (&self.shown.content[cells.clone()], &next.content[cells]);
            row::write(old, new, y, &mut self.pen, self.abilities, &mut out);
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
        self.pen.take(Look::PLAIN, out);
        let (top, bottom, lines) = (found.top + 1, found.bottom + 1, found.lines.unsigned_abs());
        let direction = if found.lines > 0 { 'S' } else { 'T' };
        let lines = if lines == 1 { String::new() } else { lines.to_string() };
        push(out, format_args!("\x1b[{top};{bottom}r\x1b[{lines}{direction}\x1b[r"));
        // Setting the margins sends the cursor home.
        self.pen = Pen::HOME;
        scroll::apply(&mut self.shown, found);
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

#[cfg(test)]
mod tests {
    use super::{super::row::cell_width, *};
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
