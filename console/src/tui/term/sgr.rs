//! Colours and attributes: from one to the next in the fewest bytes.

use ratatui::{
    buffer::Cell,
    style::{Color, Modifier},
};

/// The attributes that the terminal writes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub fg: Color,
    pub bg: Color,
    pub modifier: Modifier,
}

/// The attributes we use; blinking and hidden text are not among them.
const USED: Modifier = Modifier::BOLD
    .union(Modifier::DIM)
    .union(Modifier::ITALIC)
    .union(Modifier::UNDERLINED)
    .union(Modifier::REVERSED)
    .union(Modifier::CROSSED_OUT);

/// Those that show on a blank cell.
const SEEN_ON_BLANKS: Modifier =
    Modifier::UNDERLINED.union(Modifier::REVERSED).union(Modifier::CROSSED_OUT);

impl Look {
    pub const PLAIN: Self =
        Self { fg: Color::Reset, bg: Color::Reset, modifier: Modifier::empty() };

    pub fn of(cell: &Cell) -> Self {
        Self { fg: cell.fg, bg: cell.bg, modifier: cell.modifier & USED }
    }

    /// Whether a blank cell looks like an erased one with the same background.
    pub const fn blank_is_erased(self) -> bool {
        self.modifier.intersection(SEEN_ON_BLANKS).is_empty()
    }

    /// Whether a blank cell on this ground may be written with these attributes.
    pub fn fits_blank(self, ground: Color) -> bool {
        self.bg == ground && self.blank_is_erased()
    }

    /// Writes what turns `self` into `next`: nothing when they are the same.
    pub fn change(self, next: Self, out: &mut Vec<u8>) {
        if self == next {
            return;
        }
        let mut by_steps = Codes::default();
        self.steps(next, &mut by_steps);
        let mut afresh = Codes::default();
        afresh.put(b"0");
        Self::PLAIN.steps(next, &mut afresh);
        let shorter =
            if afresh.text.len() < by_steps.text.len() { afresh.text } else { by_steps.text };
        out.extend_from_slice(b"\x1b[");
        // A lone reset needs no digit.
        if shorter != b"0" {
            out.extend_from_slice(&shorter);
        }
        out.push(b'm');
    }

    fn steps(self, next: Self, codes: &mut Codes) {
        let off = self.modifier - next.modifier;
        let mut on = next.modifier - self.modifier;
        let weight = Modifier::BOLD | Modifier::DIM;
        if off.intersects(weight) {
            // One code ends both bold and dim.
            codes.put(b"22");
            on |= next.modifier & weight;
        }
        for (modifier, end) in [
            (Modifier::ITALIC, b"23"),
            (Modifier::UNDERLINED, b"24"),
            (Modifier::REVERSED, b"27"),
            (Modifier::CROSSED_OUT, b"29"),
        ] {
            if off.contains(modifier) {
                codes.put(end);
            }
        }
        for (modifier, start) in [
            (Modifier::BOLD, b"1"),
            (Modifier::DIM, b"2"),
            (Modifier::ITALIC, b"3"),
            (Modifier::UNDERLINED, b"4"),
            (Modifier::REVERSED, b"7"),
            (Modifier::CROSSED_OUT, b"9"),
        ] {
            if on.contains(modifier) {
                codes.put(start);
            }
        }
        if self.fg != next.fg {
            codes.color(next.fg, 30, 90, "38");
        }
        if self.bg != next.bg {
            codes.color(next.bg, 40, 100, "48");
        }
    }
}

#[derive(Default)]
struct Codes {
    text: Vec<u8>,
}

impl Codes {
    fn put(&mut self, code: &[u8]) {
        if !self.text.is_empty() {
            self.text.push(b';');
        }
        self.text.extend_from_slice(code);
    }

    fn color(&mut self, color: Color, base: u8, bright: u8, extended: &str) {
        let code = match color {
            Color::Reset => (base + 9).to_string(),
            Color::Black => base.to_string(),
            Color::Red => (base + 1).to_string(),
            Color::Green => (base + 2).to_string(),
            Color::Yellow => (base + 3).to_string(),
            Color::Blue => (base + 4).to_string(),
            Color::Magenta => (base + 5).to_string(),
            Color::Cyan => (base + 6).to_string(),
            Color::Gray => (base + 7).to_string(),
            Color::DarkGray => bright.to_string(),
            Color::LightRed => (bright + 1).to_string(),
            Color::LightGreen => (bright + 2).to_string(),
            Color::LightYellow => (bright + 3).to_string(),
            Color::LightBlue => (bright + 4).to_string(),
            Color::LightMagenta => (bright + 5).to_string(),
            Color::LightCyan => (bright + 6).to_string(),
            Color::White => (bright + 7).to_string(),
            Color::Indexed(index) => format!("{extended};5;{index}"),
            Color::Rgb(r, g, b) => format!("{extended};2;{r};{g};{b}"),
        };
        self.put(code.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(from: Look, to: Look) -> String {
        let mut out = Vec::new();
        from.change(to, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_change_of_look_is_one_short_sequence() {
        let bold = Look { modifier: Modifier::BOLD, ..Look::PLAIN };
        let alarm = Look { fg: Color::Indexed(231), bg: Color::Indexed(160), ..bold };
        let dim = Look { modifier: Modifier::DIM, ..Look::PLAIN };
        assert_eq!(bytes(Look::PLAIN, Look::PLAIN), "");
        assert_eq!(bytes(Look::PLAIN, bold), "\x1b[1m");
        assert_eq!(bytes(alarm, Look::PLAIN), "\x1b[m");
        assert_eq!(bytes(bold, dim), "\x1b[0;2m");
        assert_eq!(bytes(bold, alarm), "\x1b[38;5;231;48;5;160m");
    }
}
