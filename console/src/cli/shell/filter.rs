//! What of a device's output reaches the operator's terminal (`shell`, `exec`,
//! `recordings play`).
//!
//! ```text
//!  bytes ─▶ parser of the panes ─▶ text, controls, sequences ─▶ known? ─▶ spelt anew
//!                                                                 └─ no ─▶ nothing
//! ```
//!
//! No byte is passed on as it came. What the parser cuts out is looked up in a
//! closed list, and what is on it is spelt anew; so no sequence that this program
//! does not understand can reach a terminal that might. On the list is what draws:
//! text, places, colours, margins, tabs, the other screen, modes of keys and mouse.
//!
//! Not on it, whatever a terminal may make of it:
//!
//! - the clipboard, titles, notifications, unless the operator allows them; links,
//!   colours of the palette, graphics, macros, printing, downloads of fonts;
//! - questions: the model of the pane answers them ([`super::super::shell`]), a
//!   recording nobody;
//! - a full reset and the end of the scrollback, which are the operator's;
//! - characters that deceive a reader: bidi controls, hidden ones ([`is_honest`]). A marker in
//!   their place, as everywhere else, would shift what the program draws behind them.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use quarterdeck_protocol::text;

use crate::tui::pane::{
    notices::{Allowed, Notices, Wish},
    parser::{Csi, Parser, Sink, StringKind},
    widget::is_honest,
};

/// Turns a device's output into what an operator's terminal may be told. Pure.
#[derive(Debug, Default)]
pub struct Filter {
    parser: Parser,
    speller: Speller,
}

impl Filter {
    pub fn new(allowed: Allowed) -> Self {
        let speller = Speller { notices: Notices::new(allowed), ..Speller::default() };
        Self { parser: Parser::default(), speller }
    }

    /// Takes the next bytes, cut anyhow.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.parser.advance(bytes, &mut self.speller);
        self.speller.fulfil();
        std::mem::take(&mut self.speller.out)
    }

    /// What gives the terminal back as it was: modes, margins, colours, the screen, the title.
    /// Forgets what was cut; the filter is as new.
    pub fn undo(&mut self) -> Vec<u8> {
        let mut speller = std::mem::take(&mut self.speller);
        self.parser = Parser::default();
        self.speller.notices = Notices::new(speller.notices.allowed);
        speller.undo();
        speller.out
    }
}

/// DEC modes that draw or that say which keys are sent, and what they are at the start.
const DEC_MODES: [(u16, bool); 22] = [
    (1, false),
    (5, false),
    (6, false),
    (7, true),
    (9, false),
    (12, false),
    (25, true),
    (45, false),
    (66, false),
    (69, false),
    (1000, false),
    (1002, false),
    (1003, false),
    (1004, false),
    (1005, false),
    (1006, false),
    (1007, true),
    (1015, false),
    (1047, false),
    (1048, false),
    (1049, false),
    (2026, false),
];
/// With this one what is pasted is marked.
const BRACKETED_PASTE: u16 = 2004;
/// Stops, 8 columns apart, that are set again where a program has changed them.
const TAB_STOPS: usize = 64;
/// The alternate screen of the oldest kind, and its heirs.
const ALTERNATE: [u16; 3] = [47, 1047, 1049];

#[derive(Debug, Default)]
struct Speller {
    out: Vec<u8>,
    notices: Notices,
    /// Modes that are not as they were at the start.
    changed: BTreeMap<u16, bool>,
    has_margins: bool,
    is_insert: bool,
    /// Return sends a line feed, too.
    is_newline: bool,
    has_tabs: bool,
    /// Another set than ASCII may stand behind the first.
    has_sets: bool,
    has_style: bool,
    has_title: bool,
    is_keypad: bool,
}

impl Speller {
    fn spell(&mut self, csi: &Csi) {
        let mut text = String::from("\x1b[");
        if csi.marker != 0 {
            text.push(char::from(csi.marker));
        }
        for (index, value) in csi.params().iter().enumerate() {
            if index > 0 {
                text.push(if csi.is_sub(index) { ':' } else { ';' });
            }
            if csi.is_given(index) {
                write!(text, "{value}").expect("writing to a string cannot fail");
            }
        }
        let intermediates = csi.intermediates.iter().filter(|byte| **byte != 0);
        text.extend(intermediates.map(|byte| char::from(*byte)));
        text.push(char::from(csi.last));
        self.out.extend_from_slice(text.as_bytes());
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn dec_modes(&mut self, csi: &Csi, is_on: bool) {
        for &mode in csi.params() {
            let known = DEC_MODES.iter().find(|(known, _)| *known == mode).map(|(_, start)| *start);
            let start = match known {
                Some(start) => start,
                None if mode == BRACKETED_PASTE || mode == 47 => false,
                None => continue,
            };
            if is_on == start {
                self.changed.remove(&mode);
            } else {
                self.changed.insert(mode, is_on);
            }
            self.put(&format!("\x1b[?{mode}{}", if is_on { 'h' } else { 'l' }));
        }
    }

    fn ansi_modes(&mut self, csi: &Csi, is_on: bool) {
        for &mode in csi.params() {
            match mode {
                4 => self.is_insert = is_on,
                20 => self.is_newline = is_on,
                _ => continue,
            }
            self.put(&format!("\x1b[{mode}{}", if is_on { 'h' } else { 'l' }));
        }
    }

    /// A program may reset itself, but neither the operator's settings nor what they can scroll to.
    fn reset(&mut self) {
        self.give_back();
        self.put("\x1b[H\x1b[2J");
    }

    fn fulfil(&mut self) {
        for wish in self.notices.take_wishes() {
            match wish {
                Wish::Title(title) => {
                    if !std::mem::replace(&mut self.has_title, true) {
                        self.put("\x1b[22;2t");
                    }
                    self.put(&format!("\x1b]2;{}\x07", text::line(&title)));
                }
                Wish::Clipboard(content) => {
                    self.put(&format!("\x1b]52;c;{}\x07", STANDARD.encode(content)));
                }
                Wish::Notify(said) => self.put(&format!("\x1b]9;{}\x07", text::line(&said))),
            }
        }
    }

    /// Puts back modes, margins and colours; the text stays.
    fn give_back(&mut self) {
        for (mode, is_on) in std::mem::take(&mut self.changed) {
            let is_screen = ALTERNATE.contains(&mode);
            self.put(&format!("\x1b[?{mode}{}", if is_on { 'l' } else { 'h' }));
            if is_screen {
                // What was drawn in colours there must not colour what comes here.
                self.put("\x1b[m");
            }
        }
        if std::mem::take(&mut self.has_margins) {
            // Margins move the cursor.
            self.put("\x1b7\x1b[r\x1b8");
        }
        if std::mem::take(&mut self.is_insert) {
            self.put("\x1b[4l");
        }
        if std::mem::take(&mut self.is_newline) {
            self.put("\x1b[20l");
        }
        if std::mem::take(&mut self.has_tabs) {
            // Past the right border it is the last column, where a tab ends anyway.
            let stops = "\x1b[8C\x1bH".repeat(TAB_STOPS);
            self.put(&format!("\x1b7\r\x1b[3g{stops}\x1b8"));
        }
        if std::mem::take(&mut self.has_sets) {
            self.put("\x1b)B\x1b*B\x1b+B");
        }
        if std::mem::take(&mut self.is_keypad) {
            self.put("\x1b>");
        }
        if std::mem::take(&mut self.has_style) {
            self.put("\x1b[0 q");
        }
        self.put("\x0f\x1b(B\x1b[m");
    }

    fn undo(&mut self) {
        self.give_back();
        if std::mem::take(&mut self.has_title) {
            self.put("\x1b[23;2t");
        }
    }
}

impl Sink for Speller {
    fn ascii(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    fn character(&mut self, c: char) {
        if is_honest(c) {
            self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn control(&mut self, byte: u8) {
        if matches!(byte, 0x07..=0x0f) {
            self.out.push(byte);
        }
    }

    fn escape(&mut self, intermediates: &[u8], last: u8) {
        match (intermediates, last) {
            ([], b'c') => self.reset(),
            ([], b'=' | b'>') => {
                self.is_keypad = last == b'=';
                self.out.extend_from_slice(&[0x1b, last]);
            }
            ([], b'7' | b'8' | b'D' | b'E' | b'H' | b'M') => {
                self.has_tabs |= last == b'H';
                self.out.extend_from_slice(&[0x1b, last]);
            }
            ([b'#'], b'8') => self.put("\x1b#8"),
            // ASCII, the British set and line drawing, which all terminals have.
            ([set @ (b'(' | b')' | b'*' | b'+')], b'0' | b'A' | b'B') => {
                self.has_sets |= *set != b'(' && last != b'B';
                self.out.extend_from_slice(&[0x1b, *set, last]);
            }
            _ => {}
        }
    }

    fn csi(&mut self, csi: &Csi) {
        match (csi.marker, csi.intermediates, csi.last) {
            (0, [0, 0], b'h') => self.ansi_modes(csi, true),
            (0, [0, 0], b'l') => self.ansi_modes(csi, false),
            (b'?', [0, 0], b'h') => self.dec_modes(csi, true),
            (b'?', [0, 0], b'l') => self.dec_modes(csi, false),
            // The scrollback is the operator's.
            (_, [0, 0], b'J') if csi.get(0) > 2 => {}
            (0, [0, 0], b'r') => {
                self.has_margins = true;
                self.spell(csi);
            }
            (0, [0, 0], b'g') => {
                self.has_tabs = true;
                self.spell(csi);
            }
            (
                0,
                [0, 0],
                b'@'..=b'M'
                | b'P'
                | b'S'
                | b'T'
                | b'X'
                | b'Z'
                | b'`'
                | b'a'
                | b'b'
                | b'd'..=b'f'
                | b'm'
                | b's'
                | b'u',
            )
            | (b'?', [0, 0], b'J' | b'K') => self.spell(csi),
            (0, [b' ', 0], b'q') if csi.get(0) <= 6 => {
                self.has_style = true;
                self.spell(csi);
            }
            (0, [b'!', 0], b'p') => {
                self.has_margins = false;
                self.is_insert = false;
                self.spell(csi);
            }
            _ => {}
        }
    }

    fn string(&mut self, kind: StringKind, text: &[u8]) {
        if kind == StringKind::Osc {
            self.notices.osc(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tui::pane::{Pane, any_bytes, screen::PaneSize};

    fn filtered(text: &str) -> String {
        String::from_utf8(Filter::default().feed(text.as_bytes())).expect("text")
    }

    #[test]
    fn what_draws_is_spelt_anew() {
        for (given, expected) in [
            ("a\u{e9}日\r\n\t\x08\x07", "a\u{e9}日\r\n\t\x08\x07"),
            ("\x1b[1;31mred\x1b[m", "\x1b[1;31mred\x1b[m"),
            ("\x1b[38:2::1:2:3m", "\x1b[38:2::1:2:3m"),
            ("\u{9b}2J", "\x1b[2J"),
            ("\x1b[?1049;25h", "\x1b[?1049h\x1b[?25h"),
            ("\x1b(0q\x1b(B", "\x1b(0q\x1b(B"),
            ("\x1b[5;10H\x1b[K\x1b[2;20r", "\x1b[5;10H\x1b[K\x1b[2;20r"),
            ("\x1b[3 q", "\x1b[3 q"),
        ] {
            assert_eq!(filtered(given), expected, "{given:?}");
        }
    }

    #[test]
    fn what_could_harm_is_left_out() {
        for given in [
            "\x1b]52;c;aGk=\x07",
            "\x1b]0;mine\x07",
            "\x1b]9;hello\x1b\\",
            "\x1b]8;;http://x\x07",
            "\x1b]4;1;rgb:00/00/00\x07",
            "\x1bP+q544e\x1b\\",
            "\x1b_Gf=100;AAAA\x1b\\",
            "\x1b^private\x1b\\",
            "\x1b[6n\x1b[c\x1b[>c\x1b[?6n\x1b[18t\x1b[21t",
            "\x1b[3J",
            "\x1b[5i",
            "\x1b[?3h\x1b[?5522h\x1b[>4;2m\x1b[>1u",
            "\x1bZ\x1b#3",
            "\u{202e}\u{200b}\u{e000}\u{7f}",
            "\x05\x1a\x00",
        ] {
            assert_eq!(filtered(given), "", "{given:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_done_with_safe_words() {
        let allowed = Allowed { clipboard: true, titles: true, notifications: true };
        let mut filter = Filter::new(allowed);
        let out = filter.feed("\x1b]2;a\u{202e}b\x07\x1b]52;c;aGk=\x07\x1b]52;c;?\x07".as_bytes());
        let out = String::from_utf8(out).expect("text");
        assert_eq!(out, "\x1b[22;2t\x1b]2;a<U+202E>b\x07\x1b]52;c;aGk=\x07");
        assert!(String::from_utf8(filter.undo()).expect("text").ends_with("\x1b[23;2t"));
    }

    #[test]
    fn the_terminal_is_given_back_as_it_was() {
        let mut filter = Filter::default();
        filter.feed(
            b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h\x1b[4h\x1b=\x1b[2;5r\x1b[31m\x1b[3 q\x1b[20h\x1b[3g\x1b)0\x1b",
        );
        let undone = String::from_utf8(filter.undo()).expect("text");
        for part in [
            "\x1b[?1049l",
            "\x1b[?25h",
            "\x1b[?7h",
            "\x1b[?2004l",
            "\x1b[4l",
            "\x1b>",
            "\x1b[r",
            "\x1b[m",
            "\x1b[0 q",
            "\x1b[20l",
            "\x1b[3g\x1b[8C\x1bH\x1b[8C\x1bH",
            "\x1b)B",
        ] {
            assert!(undone.contains(part), "{part:?} in {undone:?}");
        }
        assert_eq!(filter.feed(b"[2J"), b"[2J", "the cut sequence is forgotten");
        assert_eq!(filter.undo(), b"\x0f\x1b(B\x1b[m");
    }

    fn picture(bytes: &[u8]) -> (Vec<String>, u16, u16) {
        let mut pane = Pane::with_history(PaneSize::new(6, 20), Allowed::default(), 0);
        pane.feed(bytes);
        let screen = pane.screen();
        let rows = (0..6)
            .filter_map(|row| screen.row_cells(row))
            .map(|(cells, _)| cells.iter().map(|cell| cell.text().to_owned()).collect::<String>());
        (rows.collect(), screen.cursor().row, screen.cursor().col)
    }

    proptest! {
        #[test]
        fn what_is_filtered_is_the_same_when_filtered_again(parts in prop::collection::vec(any_bytes::part(), 1..30)) {
            let once = Filter::default().feed(&parts.concat());
            let again = Filter::default().feed(&once);
            prop_assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&once));
        }

        #[test]
        fn plain_screens_look_the_same_filtered(
            parts in prop::collection::vec("[ -~]{0,9}|\r|\n|\x1b\\[[0-9]{1,2};[0-9]{1,2}H|\x1b\\[[0-2]?[JK]|\x1b\\[[0-9]?[ABCDLMP@X]|\x1b[78DEM]", 1..30),
        ) {
            let bytes = parts.concat().into_bytes();
            prop_assert_eq!(picture(&Filter::default().feed(&bytes)), picture(&bytes));
        }

        #[test]
        fn chunks_make_no_difference(parts in prop::collection::vec(any_bytes::part(), 1..20), cut in any::<prop::sample::Index>()) {
            let bytes = parts.concat();
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut halves = Filter::default();
            let mut out = halves.feed(first);
            out.extend(halves.feed(second));
            prop_assert_eq!(out, Filter::default().feed(&bytes));
        }
    }
}
