//! What comes from the terminal: keys, pasted text, the mouse, its size.

use std::fmt;

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::Size;

/// The most characters of one paste that are taken: more than any reader of one accepts, so that
/// the reader says that it is too long.
pub const PASTE_MAX_CHARS: usize = crate::tui::pane::paste::PASTE_MAX_BYTES + 1;

/// One thing that the operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Key(Key),
    /// Without control characters but line feeds and tabs.
    Paste(String),
    Click {
        x: u16,
        y: u16,
    },
    /// What else the mouse does: for programs in panes.
    Pointer {
        kind: MouseEventKind,
        modifiers: KeyModifiers,
        x: u16,
        y: u16,
    },
    /// Down when positive.
    Wheel {
        x: u16,
        y: u16,
        lines: i32,
    },
    Resize(Size),
}

/// A key with its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub code: Code,
    pub ctrl: bool,
    pub alt: bool,
    /// Of keys that have no capital: arrows, F keys and the like.
    pub shift: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// A character as typed: `G` is a capital, with no Shift beside it.
    Char(char),
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Insert,
    Delete,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    F(u8),
}

impl Key {
    pub const fn plain(code: Code) -> Self {
        Self { code, ctrl: false, alt: false, shift: false }
    }

    pub const fn char(c: char) -> Self {
        Self::plain(Code::Char(c))
    }

    /// Whether it is a character where text is typed.
    pub const fn is_typed(&self) -> bool {
        matches!(self.code, Code::Char(_)) && !self.ctrl && !self.alt
    }

    /// Reads `g`, `G`, `Enter`, `C-x`, `A-Left`, `S-Up`, `Space`, `F5`.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut ctrl, mut alt, mut shift, mut rest) = (false, false, false, text);
        loop {
            if rest.eq_ignore_ascii_case(BACK_TAB) {
                break;
            }
            if let Some(after) = rest.strip_prefix("C-").filter(|after| !after.is_empty()) {
                (ctrl, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("A-").filter(|after| !after.is_empty()) {
                (alt, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("S-").filter(|after| after.len() > 1) {
                (shift, rest) = (true, after);
            } else {
                break;
            }
        }
        let mut chars = rest.chars();
        let code = match (chars.next(), chars.next()) {
            (Some(c), None) if !c.is_control() && c != ' ' => Code::Char(c),
            _ => NAMES
                .iter()
                .find(|(_, name)| name.eq_ignore_ascii_case(rest))
                .map(|(code, _)| *code)
                .or_else(|| {
                    let number = rest.strip_prefix('F')?.parse().ok()?;
                    (1..=12).contains(&number).then_some(Code::F(number))
                })?,
        };
        (!shift || code.takes_shift()).then_some(Self { code, ctrl, alt, shift })
    }

    fn from_event(event: KeyEvent) -> Option<Self> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        let code = match event.code {
            KeyCode::Char(c) => Code::Char(c),
            KeyCode::Enter => Code::Enter,
            KeyCode::Esc => Code::Esc,
            KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => Code::BackTab,
            KeyCode::Tab => Code::Tab,
            KeyCode::BackTab => Code::BackTab,
            KeyCode::Backspace => Code::Backspace,
            KeyCode::Insert => Code::Insert,
            KeyCode::Delete => Code::Delete,
            KeyCode::Up => Code::Up,
            KeyCode::Down => Code::Down,
            KeyCode::Left => Code::Left,
            KeyCode::Right => Code::Right,
            KeyCode::Home => Code::Home,
            KeyCode::End => Code::End,
            KeyCode::PageUp => Code::PageUp,
            KeyCode::PageDown => Code::PageDown,
            KeyCode::F(n) => Code::F(n),
            _ => return None,
        };
        Some(Self {
            code,
            ctrl: event.modifiers.contains(KeyModifiers::CONTROL),
            alt: event.modifiers.contains(KeyModifiers::ALT),
            shift: event.modifiers.contains(KeyModifiers::SHIFT) && code.takes_shift(),
        })
    }
}

impl Code {
    /// Whether Shift makes another key of it, rather than another character.
    const fn takes_shift(self) -> bool {
        !matches!(
            self,
            Self::Char(_) | Self::Enter | Self::Esc | Self::Tab | Self::BackTab | Self::Backspace
        )
    }
}

impl From<Key> for KeyEvent {
    fn from(key: Key) -> Self {
        let mut modifiers = KeyModifiers::empty();
        modifiers.set(KeyModifiers::CONTROL, key.ctrl);
        modifiers.set(KeyModifiers::ALT, key.alt);
        modifiers.set(KeyModifiers::SHIFT, key.shift);
        let code = match key.code {
            Code::Char(c) => KeyCode::Char(c),
            Code::Enter => KeyCode::Enter,
            Code::Esc => KeyCode::Esc,
            Code::Tab => KeyCode::Tab,
            Code::BackTab => KeyCode::BackTab,
            Code::Backspace => KeyCode::Backspace,
            Code::Insert => KeyCode::Insert,
            Code::Delete => KeyCode::Delete,
            Code::Up => KeyCode::Up,
            Code::Down => KeyCode::Down,
            Code::Left => KeyCode::Left,
            Code::Right => KeyCode::Right,
            Code::Home => KeyCode::Home,
            Code::End => KeyCode::End,
            Code::PageUp => KeyCode::PageUp,
            Code::PageDown => KeyCode::PageDown,
            Code::F(n) => KeyCode::F(n),
        };
        Self::new(code, modifiers)
    }
}

const BACK_TAB: &str = "S-Tab";
const NAMES: [(Code, &str); 17] = [
    (Code::Char(' '), "Space"),
    (Code::Enter, "Enter"),
    (Code::Esc, "Esc"),
    (Code::Tab, "Tab"),
    (Code::BackTab, BACK_TAB),
    (Code::Backspace, "Backspace"),
    (Code::Insert, "Insert"),
    (Code::Delete, "Delete"),
    (Code::Up, "Up"),
    (Code::Down, "Down"),
    (Code::Left, "Left"),
    (Code::Right, "Right"),
    (Code::Home, "Home"),
    (Code::End, "End"),
    (Code::PageUp, "PageUp"),
    (Code::PageDown, "PageDown"),
    (Code::F(1), "F1"),
];

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ctrl {
            f.write_str("C-")?;
        }
        if self.alt {
            f.write_str("A-")?;
        }
        if self.shift {
            f.write_str("S-")?;
        }
        if let Some((_, name)) = NAMES.iter().find(|(code, _)| *code == self.code) {
            return f.write_str(name);
        }
        match self.code {
            Code::Char(c) => write!(f, "{c}"),
            Code::F(n) => write!(f, "F{n}"),
            _ => Ok(()),
        }
    }
}

/// Takes an event of the terminal, if it is one that means something here.
pub fn from_event(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) => Key::from_event(key).map(Input::Key),
        Event::Paste(text) => Some(Input::Paste(clean_paste(&text))),
        Event::Mouse(MouseEvent { kind, column, row, modifiers }) => match kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Input::Click { x: column, y: row }),
            MouseEventKind::ScrollDown => Some(Input::Wheel { x: column, y: row, lines: 3 }),
            MouseEventKind::ScrollUp => Some(Input::Wheel { x: column, y: row, lines: -3 }),
            kind => Some(Input::Pointer { kind, modifiers, x: column, y: row }),
        },
        Event::Resize(width, height) => Some(Input::Resize(Size { width, height })),
        Event::FocusGained | Event::FocusLost => None,
    }
}

fn clean_paste(text: &str) -> String {
    text.replace("\r\n", "\n")
        .replace('\r', "\n")
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .take(PASTE_MAX_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_they_are_read() {
        for text in [
            "g", "G", "C-x", "Enter", "A-Left", "Space", "F5", "?", "C--", "[", "S-Tab", "C-S-Up",
            "S-F5", "S",
        ] {
            let key = Key::parse(text).expect(text);
            assert_eq!(key.to_string(), text);
        }
        for bad in ["", "C-", "Entr", "ab", "F99", "S-g", "S-Enter"] {
            assert_eq!(Key::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_paste_has_lines_but_no_controls() {
        assert_eq!(clean_paste("a\r\nb\rc\x1b[2J\td"), "a\nb\nc[2J\td");
    }
}
