//! What comes from the terminal: keys, pasted text, the mouse, its size.

use std::fmt;

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::Size;

/// The most characters of one paste that are taken.
pub const PASTE_MAX_CHARS: usize = 96 * 1024;

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
        Self { code, ctrl: false, alt: false }
    }

    pub const fn char(c: char) -> Self {
        Self::plain(Code::Char(c))
    }

    /// Reads `g`, `G`, `Enter`, `C-x`, `A-Left`, `Space`, `F5`.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut ctrl, mut alt, mut rest) = (false, false, text);
        loop {
            if let Some(after) = rest.strip_prefix("C-").filter(|after| !after.is_empty()) {
                (ctrl, rest) = (true, after);
            } else if let Some(after) = rest.strip_prefix("A-").filter(|after| !after.is_empty()) {
                (alt, rest) = (true, after);
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
        Some(Self { code, ctrl, alt })
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
        })
    }
}

const NAMES: [(Code, &str); 16] = [
    (Code::Char(' '), "Space"),
    (Code::Enter, "Enter"),
    (Code::Esc, "Esc"),
    (Code::Tab, "Tab"),
    (Code::BackTab, "S-Tab"),
    (Code::Backspace, "Backspace"),
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
        Event::Mouse(MouseEvent { kind, column, row, .. }) => match kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Input::Click { x: column, y: row }),
            MouseEventKind::ScrollDown => Some(Input::Wheel { x: column, y: row, lines: 3 }),
            MouseEventKind::ScrollUp => Some(Input::Wheel { x: column, y: row, lines: -3 }),
            _ => None,
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
        for text in ["g", "G", "C-x", "Enter", "A-Left", "Space", "F5", "?", "C--", "[", "S-Tab"] {
            let key = Key::parse(text).expect(text);
            assert_eq!(key.to_string(), text);
        }
        for bad in ["", "C-", "Entr", "ab", "F99"] {
            assert_eq!(Key::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_paste_has_lines_but_no_controls() {
        assert_eq!(clean_paste("a\r\nb\rc\x1b[2J\td"), "a\nb\nc[2J\td");
    }
}
