//! What a device asks of the operator's own terminal: its bell, title,
//! clipboard, notifications.
//!
//! Nothing of it happens by itself. A wish that the operator allowed is handed
//! on, its text made safe by whoever fulfils it; any other is counted, and the
//! pane shows a marker. A question (what is on the clipboard, what the title is)
//! is never answered: the answer would be typed into the shell.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The most wishes that wait to be fulfilled; the oldest are dropped.
pub const WISHES_MAX: usize = 16;
/// The longest title or notification, in characters.
const LABEL_MAX_CHARS: usize = 256;

/// What devices may do to the operator's terminal. Nothing, unless allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    pub clipboard: bool,
    pub titles: bool,
    pub notifications: bool,
}

/// Something that a device asked for and that the operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Title(String),
    /// Put this on the clipboard.
    Clipboard(String),
    Notify(String),
}

/// How often something was asked for in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    pub clipboard: u32,
    pub titles: u32,
    pub notifications: u32,
}

impl Refused {
    /// The marker for the status line: what the device asked for and did not get.
    pub fn marker(&self) -> Option<String> {
        let parts: Vec<String> = [
            ("clipboard", self.clipboard),
            ("title", self.titles),
            ("notification", self.notifications),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| if count == 1 { what.to_owned() } else { format!("{what} x{count}") })
        .collect();
        (!parts.is_empty()).then(|| format!("refused: {}", parts.join(", ")))
    }
}

/// What came since the last look.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    pub allowed: Allowed,
    pub bells: u32,
    pub refused: Refused,
    wishes: VecDeque<Wish>,
}

impl Notices {
    pub fn new(allowed: Allowed) -> Self {
        Self { allowed, ..Self::default() }
    }

    /// Takes the wishes that may be fulfilled, oldest first.
    pub fn take_wishes(&mut self) -> Vec<Wish> {
        self.wishes.drain(..).collect()
    }

    /// Takes the number of bells.
    pub const fn take_bells(&mut self) -> u32 {
        std::mem::replace(&mut self.bells, 0)
    }

    pub const fn bell(&mut self) {
        self.bells = self.bells.saturating_add(1);
    }

    /// Reads an operating system command.
    pub fn osc(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let (number, rest) = text.split_once(';').unwrap_or((&text, ""));
        match number {
            "0" | "1" | "2" => {
                if self.allowed.titles {
                    self.wish(Wish::Title(label(rest)));
                } else {
                    self.refused.titles = self.refused.titles.saturating_add(1);
                }
            }
            // OSC 9;4 is a progress bar of another terminal.
            "9" if rest.starts_with("4;") => {}
            "9" | "99" | "777" => {
                if self.allowed.notifications {
                    self.wish(Wish::Notify(label(rest)));
                } else {
                    self.refused.notifications = self.refused.notifications.saturating_add(1);
                }
            }
            "52" => self.clipboard(rest),
            _ => {}
        }
    }

    fn clipboard(&mut self, rest: &str) {
        let (_, data) = rest.split_once(';').unwrap_or(("", rest));
        let text = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match text {
            Some(text) if self.allowed.clipboard => self.wish(Wish::Clipboard(text)),
            _ => self.refused.clipboard = self.refused.clipboard.saturating_add(1),
        }
    }

    fn wish(&mut self, wish: Wish) {
        if self.wishes.len() >= WISHES_MAX {
            self.wishes.pop_front();
        }
        self.wishes.push_back(wish);
    }
}

fn label(text: &str) -> String {
    text.chars().take(LABEL_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_leaves_a_marker() {
        let mut notices = Notices::default();
        for wish in
            [&b"52;c;aGk="[..], b"52;c;?", b"0;mine now", b"9;hello", b"777;notify;a;b", b"8;;x"]
        {
            notices.osc(wish);
        }
        assert_eq!(notices.take_wishes(), []);
        assert_eq!(
            notices.refused.marker().as_deref(),
            Some("refused: clipboard x2, title, notification x2")
        );
        assert_eq!(Notices::default().refused.marker(), None);
    }

    #[test]
    fn what_is_allowed_is_handed_on_a_question_never() {
        let allowed = Allowed { clipboard: true, titles: true, notifications: true };
        let mut notices = Notices::new(allowed);
        for wish in [&b"52;c;aGk="[..], b"52;c;?", b"2;build", b"9;done", b"9;4;1;50"] {
            notices.osc(wish);
        }
        assert_eq!(
            notices.take_wishes(),
            [
                Wish::Clipboard("hi".into()),
                Wish::Title("build".into()),
                Wish::Notify("done".into())
            ]
        );
        assert_eq!(notices.refused.clipboard, 1);
        for _ in 0..100 {
            notices.osc(b"2;again");
        }
        assert_eq!(notices.take_wishes().len(), WISHES_MAX);
    }
}
