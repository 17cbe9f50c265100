//! A line of text that is typed, with the keys that everyone's fingers know.

use tui_input::{Input as Line, InputRequest};

use crate::tui::term::input::{Code, Input, Key};

/// The longest line that can be typed, in characters.
pub const LINE_MAX_CHARS: usize = 4096;

/// One line under the cursor.
#[derive(Debug, Clone, Default)]
pub struct TextField {
    line: Line,
    /// Typed text is not shown.
    pub secret: bool,
}

impl TextField {
    pub fn new(text: &str) -> Self {
        Self { line: Line::new(one_line(text)), secret: false }
    }

    pub fn secret() -> Self {
        Self { secret: true, ..Self::default() }
    }

    pub fn text(&self) -> &str {
        self.line.value()
    }

    /// The cursor, in characters.
    pub fn cursor(&self) -> usize {
        self.line.cursor()
    }

    pub fn set(&mut self, text: &str) {
        self.line = Line::new(one_line(text));
    }

    /// Takes an input if it edits; `false` leaves it to whoever is next.
    pub fn edit(&mut self, input: &Input) -> bool {
        match input {
            Input::Key(key) => self.edit_key(*key),
            Input::Paste(text) => {
                for c in one_line(text).chars() {
                    self.insert(c);
                }
                true
            }
            _ => false,
        }
    }

    fn edit_key(&mut self, key: Key) -> bool {
        let request = match (key.code, key.ctrl, key.alt) {
            (Code::Char(c), false, false) => {
                self.insert(c);
                return true;
            }
            (Code::Backspace, false, false) | (Code::Char('h'), true, false) => {
                InputRequest::DeletePrevChar
            }
            (Code::Delete, _, _) => InputRequest::DeleteNextChar,
            (Code::Left, false, false) | (Code::Char('b'), true, false) => {
                InputRequest::GoToPrevChar
            }
            (Code::Right, false, false) | (Code::Char('f'), true, false) => {
                InputRequest::GoToNextChar
            }
            (Code::Left, true, _) | (Code::Char('b'), false, true) => InputRequest::GoToPrevWord,
            (Code::Right, true, _) | (Code::Char('f'), false, true) => InputRequest::GoToNextWord,
            (Code::Home, _, _) | (Code::Char('a'), true, false) => InputRequest::GoToStart,
            (Code::End, _, _) | (Code::Char('e'), true, false) => InputRequest::GoToEnd,
            (Code::Char('w'), true, false) | (Code::Backspace, _, true) => {
                InputRequest::DeletePrevWord
            }
            (Code::Char('k'), true, false) => InputRequest::DeleteTillEnd,
            (Code::Char('u'), true, false) => {
                self.line = Line::default();
                return true;
            }
            _ => return false,
        };
        self.line.handle(request);
        true
    }

    fn insert(&mut self, c: char) {
        if self.line.value().chars().count() < LINE_MAX_CHARS {
            self.line.handle(InputRequest::InsertChar(c));
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ").trim_end().chars().take(LINE_MAX_CHARS).collect()
}
