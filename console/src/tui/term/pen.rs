//! The terminal's cursor and attributes, and the shortest ways to move them.

use std::io::Write as _;

use ratatui::layout::Position;

use super::sgr::Look;

/// Further down than this many rows, line feeds are no shorter than a position.
const LINE_FEEDS_MAX: u16 = 4;

/// Where the terminal writes next, and with which attributes, as far as they are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    pub(super) at: Option<Position>,
    pub(super) look: Look,
}

impl Pen {
    /// As a terminal is after a reset, or after its margins were set.
    pub(super) const HOME: Self = Self { at: Some(Position::ORIGIN), look: Look::PLAIN };

    /// Changes the attributes.
    pub(super) fn take(&mut self, look: Look, out: &mut Vec<u8>) {
        self.look.change(look, out);
        self.look = look;
    }

    /// Moves the cursor the shortest way.
    pub(super) fn goto(&mut self, x: u16, y: u16, out: &mut Vec<u8>) {
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
        } else if y > at.y && y - at.y <= LINE_FEEDS_MAX {
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

/// Writes a sequence with numbers in it.
pub(super) fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_way_is_taken() {
        for (from, to, way) in [
            ((5, 3), (5, 3), ""),
            ((5, 3), (6, 3), "\x1b[C"),
            ((5, 3), (3, 3), "\x08\x08"),
            ((90, 3), (0, 3), "\r"),
            ((90, 3), (1, 3), "\r\x1b[C"),
            ((5, 3), (5, 5), "\n\n"),
            ((50, 3), (0, 4), "\r\n"),
            ((5, 30), (5, 3), "\x1b[27A"),
            ((50, 30), (0, 0), "\x1b[H"),
            ((50, 30), (120, 3), "\x1b[4;121H"),
        ] {
            let mut pen = Pen { at: Some(Position::from(from)), look: Look::PLAIN };
            let mut out = Vec::new();
            pen.goto(to.0, to.1, &mut out);
            assert_eq!(String::from_utf8(out).expect("ASCII"), way, "{from:?} to {to:?}");
            assert_eq!(pen.at, Some(Position::from(to)));
        }
    }
}
