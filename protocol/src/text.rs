//! Untrusted text made fit for a terminal (chapter 8).
//!
//! Whatever a device or a user wrote passes through here before it is shown,
//! in the TUI, on the command line and in logs. Characters that would act on
//! a terminal or deceive its reader become visible ASCII markers:
//!
//! | character | shown as |
//! | --- | --- |
//! | C0 controls and DEL | caret notation, `^[` for ESC, `^?` for DEL |
//! | C1 controls, bidi controls, zero-width and other invisible characters, line and paragraph separators, noncharacters, private use | `<U+202E>` |
//!
//! Markers are plain ASCII, so they look the same without Unicode.

use std::{borrow::Cow, fmt::Write as _};

/// More marks than this upon one character are shown as markers: no real
/// script stacks more, and a terminal draws them over the neighbouring rows.
const COMBINING_MAX: usize = 4;

/// Shows one line: line feeds and tabs become markers too.
pub fn line(text: &str) -> Cow<'_, str> {
    visible(text, false)
}

/// Shows a block: line feeds stay, `\r\n` becomes a line feed, tabs become spaces up to the next multiple of 8.
pub fn block(text: &str) -> Cow<'_, str> {
    visible(text, true)
}

fn visible(text: &str, is_block: bool) -> Cow<'_, str> {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) || (is_block && b == b'\n')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut column = 0_usize;
    let mut combining = 0_usize;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let before = out.len();
        match c {
            '\n' if is_block => {
                out.push('\n');
                column = 0;
                combining = 0;
                continue;
            }
            '\r' if is_block && chars.peek() == Some(&'\n') => continue,
            '\t' if is_block => {
                let spaces = 8 - column % 8;
                out.extend(std::iter::repeat_n(' ', spaces));
            }
            '\0'..='\x1f' => {
                out.push('^');
                out.push(char::from(c as u8 + b'@'));
            }
            '\x7f' => out.push_str("^?"),
            _ if is_hidden(c) => mark(&mut out, c),
            _ if unicode_width::UnicodeWidthChar::width(c) == Some(0) => {
                combining += 1;
                // A mark with nothing before it would land on the neighbouring cell.
                if combining > COMBINING_MAX || column == 0 {
                    mark(&mut out, c);
                } else {
                    out.push(c);
                    continue;
                }
            }
            _ => {
                out.push(c);
                combining = 0;
            }
        }
        column += unicode_width::UnicodeWidthStr::width(&out[before..]);
    }
    Cow::Owned(out)
}

fn mark(out: &mut String, c: char) {
    write!(out, "<U+{:04X}>", u32::from(c)).expect("writing to a string cannot fail");
}

/// Whether a character has no honest look of its own.
const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'            // C1 controls
        | '\u{ad}'                      // soft hyphen
        | '\u{34f}'                     // combining grapheme joiner
        | '\u{61c}'                     // Arabic letter mark
        | '\u{115f}' | '\u{1160}'       // Hangul fillers
        | '\u{17b4}' | '\u{17b5}'       // Khmer inherent vowels
        | '\u{180b}'..='\u{180f}'       // Mongolian selectors
        | '\u{200b}'..='\u{200f}'       // zero width, marks of direction
        | '\u{2028}'..='\u{202e}'       // separators, embeddings, overrides
        | '\u{2060}'..='\u{206f}'       // word joiner, invisible operators, isolates
        | '\u{3164}'                    // Hangul filler
        | '\u{e000}'..='\u{f8ff}'       // private use: any glyph, any width
        | '\u{fdd0}'..='\u{fdef}'       // noncharacters
        | '\u{fe00}'..='\u{fe0f}'       // variation selectors: they change widths
        | '\u{feff}'                    // byte order mark
        | '\u{ffa0}'                    // halfwidth Hangul filler
        | '\u{fff0}'..='\u{fffb}'       // specials; U+FFFC and U+FFFD are shown
        | '\u{fffe}' | '\u{ffff}'
        | '\u{1bca0}'..='\u{1bca3}'     // shorthand controls
        | '\u{1d173}'..='\u{1d17a}'     // musical controls
        | '\u{e0000}'..='\u{10ffff}'    // tags, selectors, private planes
    )
}

/// Cuts at a character border so that at most `max` bytes stay.
pub fn truncate_bytes(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// The marker that stands where output was cut (chapter 3): how many bytes are missing.
pub fn cut_marker(missing_bytes: u64) -> String {
    format!("\n[… {missing_bytes} bytes cut …]\n")
}

/// Splits a text that was cut into its head, how many bytes are missing, and its tail.
pub fn split_cut(text: &str) -> Option<(&str, u64, &str)> {
    let (head, rest) = text.split_once("\n[… ")?;
    let (missing, tail) = rest.split_once(" bytes cut …]\n")?;
    Some((head, missing.parse().ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_acts_on_a_terminal_becomes_a_marker() {
        for (given, shown) in [
            ("plain", "plain"),
            ("\x1b]52;c;aGk=\x07", "^[]52;c;aGk=^G"),
            ("a\u{9b}31mb", "a<U+009B>31mb"),
            ("invoice\u{202e}gpj.exe", "invoice<U+202E>gpj.exe"),
            ("ad\u{200b}min", "ad<U+200B>min"),
            ("a\tb\nc\r", "a^Ib^Jc^M"),
            ("\u{301}x", "<U+0301>x"),
            ("e\u{301}", "e\u{301}"),
            ("Grüße 日本 ✓", "Grüße 日本 ✓"),
        ] {
            assert_eq!(line(given), shown, "{given:?}");
        }
    }

    #[test]
    fn a_block_keeps_its_lines_and_tab_stops() {
        assert_eq!(block("ab\tc\r\nd\te"), "ab      c\nd       e");
        assert_eq!(block("50%\r100%"), "50%^M100%");
    }

    #[test]
    fn a_cut_is_found_again() {
        let text = format!("head{}tail", cut_marker(1234));
        assert_eq!(split_cut(&text), Some(("head", 1234, "tail")));
        assert_eq!(split_cut("whole"), None);
    }

    proptest! {
        #[test]
        fn nothing_shown_can_act(text in any::<String>()) {
            for shown in [line(&text), block(&text)] {
                prop_assert!(shown.chars().all(|c| !is_hidden(c) && (!c.is_control() || c == '\n')));
            }
            prop_assert!(!line(&text).contains('\n'));
        }

        #[test]
        fn ascii_that_prints_is_left_alone(text in "[ -~]*") {
            prop_assert_eq!(line(&text), text.as_str());
        }
    }
}
