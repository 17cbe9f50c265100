//! Character sets: which of G0–G3 is in use, and what ASCII means in it.

/// A set that a device can designate. Those that no program uses any more are taken for ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    #[default]
    Ascii,
    /// DEC special graphics: lines and corners in the place of small letters.
    Lines,
    /// `#` is a pound sign.
    British,
}

impl Charset {
    /// Names a set by the final of its designation.
    pub const fn by_final(last: u8) -> Self {
        match last {
            b'0' | b'2' => Self::Lines,
            b'A' => Self::British,
            _ => Self::Ascii,
        }
    }

    const fn map(self, byte: u8) -> char {
        match (self, byte) {
            (Self::British, b'#') => '£',
            (Self::Lines, b'_'..=b'~') => LINES[(byte - b'_') as usize],
            _ => byte as char,
        }
    }
}

/// DEC special graphics from `_` to `~`.
const LINES: [char; 32] = [
    ' ', '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─',
    '⎼', '⎽', '├', '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
];

/// The four designated sets and the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Charsets {
    sets: [Charset; 4],
    /// Which of them text is in (GL).
    in_use: u8,
    /// Which of them the next character alone is in (SS2, SS3).
    next: Option<u8>,
}

impl Charsets {
    /// `ESC ( B` and the like: the intermediate says which of G0–G3.
    pub fn designate(&mut self, intermediate: u8, set: Charset) {
        let at = match intermediate {
            b'(' => 0,
            b')' | b'-' => 1,
            b'*' | b'.' => 2,
            b'+' | b'/' => 3,
            _ => return,
        };
        self.sets[at] = set;
    }

    /// Takes a set into use: SI (0), SO (1), LS2, LS3.
    pub const fn lock(&mut self, set: u8) {
        self.in_use = set;
    }

    /// Takes a set into use for one character: SS2, SS3.
    pub const fn shift_once(&mut self, set: u8) {
        self.next = Some(set);
    }

    /// Whether ASCII means itself.
    pub fn is_plain(&self) -> bool {
        self.next.is_none() && self.sets[usize::from(self.in_use)] == Charset::Ascii
    }

    /// What an ASCII character is in the set in use.
    pub fn map(&mut self, byte: u8) -> char {
        let set = self.next.take().unwrap_or(self.in_use);
        self.sets[usize::from(set)].map(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_lines_where_a_device_says_so() {
        let mut sets = Charsets::default();
        sets.designate(b')', Charset::by_final(b'0'));
        assert_eq!((sets.is_plain(), sets.map(b'q')), (true, 'q'));
        sets.lock(1);
        let drawn: String = b"lqkx~_`A".iter().map(|byte| sets.map(*byte)).collect();
        assert_eq!(drawn, "┌─┐│· ◆A");
        sets.lock(0);
        sets.shift_once(1);
        assert_eq!([sets.map(b'q'), sets.map(b'q')], ['─', 'q']);
    }
}
