//! Select graphic rendition: how what is written next looks.
//!
//! Colours come in three spellings: `38;5;n` and `38;2;r;g;b` of xterm, the
//! colons of the standard `38:5:n` and `38:2:space:r:g:b`, and its common short
//! form without the space.

use std::fmt::Write as _;

use super::{
    cell::{Attrs, Colour, Flags},
    parser::Csi,
};

/// Applies a sequence to the pen. What protects a cell is no matter of looks and stays.
pub fn apply(csi: &Csi, pen: &mut Attrs) {
    let params = csi.params();
    if params.is_empty() {
        reset(pen);
        return;
    }
    let mut at = 0;
    while at < params.len() {
        // A parameter and what follows it by colons.
        let end = (at + 1..params.len()).find(|next| !csi.is_sub(*next)).unwrap_or(params.len());
        let mut next = end;
        match params[at] {
            38 | 48 | 58 => {
                let (colour, used) = if end > at + 1 {
                    (colour_of_colons(&params[at + 1..end]), 0)
                } else {
                    colour_of_semicolons(&params[end..])
                };
                next = end + used;
                match (params[at], colour) {
                    (38, Some(colour)) => pen.fg = colour,
                    (48, Some(colour)) => pen.bg = colour,
                    // The colour of an underline is not shown.
                    _ => {}
                }
            }
            4 if end > at + 1 => pen.flags.set(Flags::UNDERLINE, params[at + 1] != 0),
            // Only colours and underlines have parts.
            _ if end > at + 1 => {}
            value => simple(value, pen),
        }
        at = next;
    }
}

fn reset(pen: &mut Attrs) {
    let is_protected = pen.flags.has(Flags::PROTECTED);
    *pen = Attrs::DEFAULT;
    pen.flags.set(Flags::PROTECTED, is_protected);
}

fn simple(value: u16, pen: &mut Attrs) {
    match value {
        0 => reset(pen),
        1 => pen.flags.set(Flags::BOLD, true),
        2 => pen.flags.set(Flags::DIM, true),
        3 => pen.flags.set(Flags::ITALIC, true),
        4 | 21 => pen.flags.set(Flags::UNDERLINE, true),
        5 | 6 => pen.flags.set(Flags::BLINK, true),
        7 => pen.flags.set(Flags::INVERSE, true),
        8 => pen.flags.set(Flags::HIDDEN, true),
        9 => pen.flags.set(Flags::STRUCK, true),
        22 => pen.flags = pen.flags.without(Flags::BOLD).without(Flags::DIM),
        23 => pen.flags.set(Flags::ITALIC, false),
        24 => pen.flags.set(Flags::UNDERLINE, false),
        25 => pen.flags.set(Flags::BLINK, false),
        27 => pen.flags.set(Flags::INVERSE, false),
        28 => pen.flags.set(Flags::HIDDEN, false),
        29 => pen.flags.set(Flags::STRUCK, false),
        30..=37 => pen.fg = Colour::Indexed((value - 30) as u8),
        39 => pen.fg = Colour::Default,
        40..=47 => pen.bg = Colour::Indexed((value - 40) as u8),
        49 => pen.bg = Colour::Default,
        90..=97 => pen.fg = Colour::Indexed((value - 82) as u8),
        100..=107 => pen.bg = Colour::Indexed((value - 92) as u8),
        _ => {}
    }
}

/// What follows `38:`.
fn colour_of_colons(parts: &[u16]) -> Option<Colour> {
    match parts {
        [5, index, ..] => byte(*index).map(Colour::Indexed),
        [2, r, g, b] | [2, _, r, g, b, ..] => rgb(*r, *g, *b),
        _ => None,
    }
}

/// What follows `38;`, and how many parameters it took.
fn colour_of_semicolons(parts: &[u16]) -> (Option<Colour>, usize) {
    match parts {
        [5, index, ..] => (byte(*index).map(Colour::Indexed), 2),
        [2, r, g, b, ..] => (rgb(*r, *g, *b), 4),
        [2 | 5, rest @ ..] => (None, 1 + rest.len()),
        _ => (None, parts.len().min(1)),
    }
}

fn rgb(r: u16, g: u16, b: u16) -> Option<Colour> {
    Some(Colour::Rgb(byte(r)?, byte(g)?, byte(b)?))
}

fn byte(value: u16) -> Option<u8> {
    u8::try_from(value).ok()
}

/// Spells the pen as the parameters that would set it (DECRQSS).
pub fn spell(pen: Attrs) -> String {
    let mut out = String::from("0");
    let flags = [
        (Flags::BOLD, ";1"),
        (Flags::DIM, ";2"),
        (Flags::ITALIC, ";3"),
        (Flags::UNDERLINE, ";4"),
        (Flags::BLINK, ";5"),
        (Flags::INVERSE, ";7"),
        (Flags::HIDDEN, ";8"),
        (Flags::STRUCK, ";9"),
    ];
    out.extend(flags.iter().filter(|(flag, _)| pen.flags.has(*flag)).map(|(_, text)| *text));
    for (colour, base) in [(pen.fg, 30_u16), (pen.bg, 40)] {
        let written = match colour {
            Colour::Default => Ok(()),
            Colour::Indexed(index @ 0..=7) => write!(out, ";{}", base + u16::from(index)),
            Colour::Indexed(index @ 8..=15) => write!(out, ";{}", base + 52 + u16::from(index)),
            Colour::Indexed(index) => write!(out, ";{}:5:{index}", base + 8),
            Colour::Rgb(r, g, b) => write!(out, ";{}:2::{r}:{g}:{b}", base + 8),
        };
        written.expect("writing to a string cannot fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::pane::parser::{Parser, Sink, StringKind};
    use proptest::prelude::*;

    struct Pen(Attrs);
    impl Sink for Pen {
        fn ascii(&mut self, _: &[u8]) {}
        fn character(&mut self, _: char) {}
        fn control(&mut self, _: u8) {}
        fn escape(&mut self, _: &[u8], _: u8) {}
        fn csi(&mut self, csi: &Csi) {
            apply(csi, &mut self.0);
        }
        fn string(&mut self, _: StringKind, _: &[u8]) {}
    }

    fn pen(params: &str) -> Attrs {
        let mut pen = Pen(Attrs::DEFAULT);
        Parser::default().advance(format!("\x1b[{params}m").as_bytes(), &mut pen);
        pen.0
    }

    #[test]
    fn colours_are_understood_in_all_their_spellings() {
        let rgb = Colour::Rgb(1, 2, 3);
        for spelling in ["38;2;1;2;3", "38:2::1:2:3", "38:2:1:2:3", "38:2:0:1:2:3:9"] {
            assert_eq!(pen(spelling).fg, rgb, "{spelling}");
        }
        for spelling in ["48;5;200", "48:5:200"] {
            assert_eq!(pen(spelling).bg, Colour::Indexed(200), "{spelling}");
        }
        assert_eq!(pen("91;102").fg, Colour::Indexed(9));
        assert_eq!(pen("91;102").bg, Colour::Indexed(10));
        // What follows a colour is not part of it.
        assert!(pen("38;5;1;1").flags.has(Flags::BOLD));
        assert!(pen("58;2;1;2;3;3").flags.has(Flags::ITALIC));
        assert_eq!(pen("38;5;300").fg, Colour::Default);
    }

    #[test]
    fn underlines_have_styles_and_an_end() {
        assert!(pen("4:3").flags.has(Flags::UNDERLINE));
        assert!(pen("21").flags.has(Flags::UNDERLINE));
        assert_eq!(pen("4;4:0"), Attrs::DEFAULT);
        assert_eq!(pen("1;2;22"), Attrs::DEFAULT);
        assert_eq!(pen("1;31;42;0"), Attrs::DEFAULT);
        assert_eq!(pen("1;"), Attrs::DEFAULT);
    }

    proptest! {
        #[test]
        fn a_pen_that_is_spelt_is_the_same_again(params in "[0-9]{1,3}(;[0-9]{1,3}){0,6}") {
            let given = pen(&params);
            prop_assert_eq!(pen(&spell(given)), given);
        }
    }
}
