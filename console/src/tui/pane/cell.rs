//! One cell of a pane: a character with its marks, and how it looks.

use std::fmt;

/// The most bytes that one cell holds.
pub const TEXT_MAX_BYTES: usize = 21;
/// A cell that is as full as this takes no further mark, as in `vt100`.
const MARKS_END_BYTES: usize = 18;

const LEN: u8 = 0b0001_1111;
const WIDE: u8 = 0b1000_0000;
const SECOND: u8 = 0b0100_0000;

/// A colour as the device named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Colour {
    #[default]
    Default,
    Indexed(u8),
    Rgb(u8, u8, u8),
}

/// A set of attributes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(u16);

impl Flags {
    pub const BOLD: Self = Self(1);
    pub const DIM: Self = Self(1 << 1);
    pub const ITALIC: Self = Self(1 << 2);
    pub const UNDERLINE: Self = Self(1 << 3);
    pub const INVERSE: Self = Self(1 << 4);
    pub const BLINK: Self = Self(1 << 5);
    pub const HIDDEN: Self = Self(1 << 6);
    pub const STRUCK: Self = Self(1 << 7);
    /// Not to be erased selectively (DECSCA).
    pub const PROTECTED: Self = Self(1 << 8);

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn set(&mut self, other: Self, on: bool) {
        if on {
            self.0 |= other.0;
        } else {
            self.0 &= !other.0;
        }
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#b})", self.0)
    }
}

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Attrs {
    pub fg: Colour,
    pub bg: Colour,
    pub flags: Flags,
}

impl Attrs {
    pub const DEFAULT: Self = Self { fg: Colour::Default, bg: Colour::Default, flags: Flags(0) };

    /// What erasing leaves: the background alone.
    #[must_use]
    pub const fn erased(self) -> Self {
        Self { fg: Colour::Default, bg: self.bg, flags: Flags(0) }
    }
}

/// One cell. A wide character takes two: the first holds it, the second holds nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    text: [u8; TEXT_MAX_BYTES],
    len: u8,
    pub attrs: Attrs,
}

const _: () = assert!(size_of::<Cell>() == 32, "two cells to a cache line");

impl Cell {
    pub const BLANK: Self = Self::blank(Attrs::DEFAULT);

    pub const fn blank(attrs: Attrs) -> Self {
        let mut text = [0; TEXT_MAX_BYTES];
        // Not part of its text, but what stands for it.
        text[0] = b' ';
        Self { text, len: 0, attrs }
    }

    /// A printable ASCII character.
    pub const fn ascii(byte: u8, attrs: Attrs) -> Self {
        let mut cell = Self::blank(attrs);
        cell.text[0] = byte;
        cell.len = 1;
        cell
    }

    /// The first or only cell of a character.
    pub fn character(c: char, is_wide: bool, attrs: Attrs) -> Self {
        let mut cell = Self::blank(attrs);
        cell.len = c.encode_utf8(&mut cell.text).len() as u8;
        if is_wide {
            cell.len |= WIDE;
        }
        cell
    }

    /// The second cell of a wide character.
    pub const fn second(attrs: Attrs) -> Self {
        let mut cell = Self::blank(attrs);
        cell.len = SECOND;
        cell
    }

    /// Adds a mark that has no width of its own. A blank is then a space with a mark.
    pub fn combine(&mut self, mark: char) {
        if self.bytes().is_empty() {
            self.text[0] = b' ';
            self.len += 1;
        }
        let start = self.len();
        if start < MARKS_END_BYTES {
            self.len += mark.encode_utf8(&mut self.text[start..]).len() as u8;
        }
    }

    /// The bytes of its text: none for a blank and for a second cell.
    pub fn bytes(&self) -> &[u8] {
        &self.text[..self.len()]
    }

    /// Its text: a space for a blank, nothing for a second cell.
    pub fn text(&self) -> &str {
        match self.len() {
            0 if self.is_second() => "",
            0 => " ",
            _ => std::str::from_utf8(self.bytes()).expect("only whole characters are put in"),
        }
    }

    /// Whether [`first_byte`](Self::first_byte) says all of it: a blank or an ASCII character.
    pub(super) const fn is_simple(&self) -> bool {
        self.len <= 1
    }

    pub(super) const fn first_byte(&self) -> u8 {
        self.text[0]
    }

    pub const fn is_wide(&self) -> bool {
        self.len & WIDE != 0
    }

    pub const fn is_second(&self) -> bool {
        self.len & SECOND != 0
    }

    /// Whether it shows nothing and has no colour.
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.attrs == Attrs::DEFAULT
    }

    const fn len(&self) -> usize {
        (self.len & LEN) as usize
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_holds_a_character_and_its_marks() {
        let mut cell = Cell::character('e', false, Attrs::DEFAULT);
        cell.combine('\u{301}');
        assert_eq!(cell.text(), "e\u{301}");
        let mut blank = Cell::BLANK;
        assert_eq!((blank.text(), blank.is_empty()), (" ", true));
        blank.combine('\u{301}');
        assert_eq!(blank.text(), " \u{301}");
        assert_eq!(Cell::second(Attrs::DEFAULT).text(), "");
        assert!(Cell::character('日', true, Attrs::DEFAULT).is_wide());
    }

    #[test]
    fn marks_without_end_stay_within_the_cell() {
        let mut cell = Cell::ascii(b'x', Attrs::DEFAULT);
        for _ in 0..100 {
            cell.combine('\u{301}');
        }
        assert_eq!(cell.bytes().len(), 19);
    }
}
