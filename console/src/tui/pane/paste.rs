//! Pasting into a pane.
//!
//! ```text
//!   text ─▶ look_at ─┬─▶ Fine ───────────────────────▶ encode ─▶ bytes
//!                    └─▶ Ask (lines, first of them) ─ yes ─▶ encode
//! ```
//!
//! A line feed in a pasted text is a command that runs. So a text of several
//! lines is asked about first, unless the program takes it as one piece
//! (bracketed paste), and no control character is passed on that the operator
//! could not have seen.

use super::modes::Modes;

/// The most bytes that are pasted at once.
pub const PASTE_MAX_BYTES: usize = 1024 * 1024;
/// How much of the first line the question shows, in characters.
const PREVIEW_CHARS: usize = 60;

/// What is to be done with a pasted text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Ask before it is sent.
    Ask {
        lines: usize,
        /// The first line, fit to be shown.
        preview: String,
    },
    /// It is longer than [`PASTE_MAX_BYTES`]: copy it as a file instead.
    TooLong {
        bytes: usize,
    },
}

/// Looks at a text before it is pasted.
pub fn look_at(text: &str, modes: &Modes) -> Verdict {
    if text.len() > PASTE_MAX_BYTES {
        return Verdict::TooLong { bytes: text.len() };
    }
    let breaks = normal(text).matches('\r').count();
    if breaks == 0 || modes.bracketed_paste {
        return Verdict::Fine;
    }
    let first: String = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .chars()
        .take(PREVIEW_CHARS)
        .collect();
    let is_ended = normal(text).ends_with('\r');
    Verdict::Ask {
        lines: breaks + usize::from(!is_ended),
        preview: quarterdeck_protocol::text::line(&first).into_owned(),
    }
}

/// The bytes to send: line ends as the Return key makes them, controls but tabs left out, in
/// brackets where the program asked for them.
pub fn encode(text: &str, modes: &Modes) -> Vec<u8> {
    let text = normal(text);
    if modes.bracketed_paste {
        return format!("\x1b[200~{text}\x1b[201~").into_bytes();
    }
    text.into_bytes()
}

/// Without the controls that could end the brackets or act on their own.
fn normal(text: &str) -> String {
    text.replace("\r\n", "\r")
        .chars()
        .map(|c| if c == '\n' { '\r' } else { c })
        .filter(|c| !c.is_control() || matches!(c, '\r' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_lines_are_asked_about() {
        let plain = Modes::default();
        let bracketed = Modes { bracketed_paste: true, ..plain };
        assert_eq!(look_at("ls -l", &plain), Verdict::Fine);
        let ask = |lines, preview: &str| Verdict::Ask { lines, preview: preview.into() };
        assert_eq!(look_at("rm -rf x\n", &plain), ask(1, "rm -rf x"));
        assert_eq!(look_at("\r\na\u{202e}\r\nb", &plain), ask(3, "a<U+202E>"));
        assert_eq!(look_at("a\nb", &bracketed), Verdict::Fine);
        let long = "x".repeat(PASTE_MAX_BYTES + 1);
        assert_eq!(look_at(&long, &bracketed), Verdict::TooLong { bytes: long.len() });
    }

    #[test]
    fn a_text_cannot_leave_its_brackets() {
        let modes = Modes { bracketed_paste: true, ..Modes::default() };
        assert_eq!(
            encode("a\n\x1b[201~rm\x03\u{9b}201~", &modes),
            b"\x1b[200~a\r[201~rm201~\x1b[201~"
        );
    }

    proptest! {
        #[test]
        fn no_control_is_typed_that_was_not_seen(text in any::<String>()) {
            let sent = String::from_utf8(encode(&text, &Modes::default())).expect("UTF-8");
            prop_assert!(sent.chars().all(|c| !c.is_control() || matches!(c, '\r' | '\t')));
            let asked = matches!(look_at(&text, &Modes::default()), Verdict::Ask { .. });
            prop_assert_eq!(asked, sent.contains('\r'));
        }
    }
}
