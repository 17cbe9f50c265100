//! Which modes a terminal is in: what a tail of its output alone does not tell.
//!
//! A snapshot is the newest output, painted again. What a program set once at its
//! beginning (the other screen, mouse reports, no cursor) may lie before it, so
//! the private modes (`CSI ? n h` and `l`) are followed all along.

use std::collections::BTreeMap;

/// Modes that are remembered; a terminal has some thirty.
const MODES_MAX: usize = 64;
/// Numbers of one sequence that are looked at.
const PARAMETERS_MAX: usize = 16;
/// Those that lead to the other screen: set again, they would clear it.
const OTHER_SCREEN: [u16; 3] = [47, 1047, 1049];

/// Follows the private modes.
#[derive(Debug, Default, Clone)]
pub(super) struct Modes {
    set: BTreeMap<u16, bool>,
    state: State,
    parameters: Vec<u16>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Sequence,
    Private,
}

const ESC: u8 = 0x1b;

impl Modes {
    /// Looks through more output.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            if self.state == State::Text {
                let Some(at) = memchr::memchr(ESC, bytes) else { return };
                bytes = &bytes[at + 1..];
                self.state = State::Escape;
                continue;
            }
            bytes = &bytes[1..];
            self.step(byte);
        }
    }

    fn step(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (_, ESC) => State::Escape,
            // A full reset.
            (State::Escape, b'c') => {
                self.set.clear();
                State::Text
            }
            (State::Escape, b'[') => State::Sequence,
            (State::Sequence, b'?') => {
                self.parameters.clear();
                self.parameters.push(0);
                State::Private
            }
            (State::Private, b'0'..=b'9') => {
                if let Some(last) = self.parameters.last_mut() {
                    *last = last.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                }
                State::Private
            }
            (State::Private, b';') if self.parameters.len() < PARAMETERS_MAX => {
                self.parameters.push(0);
                State::Private
            }
            (State::Private, b'h' | b'l') => {
                for mode in std::mem::take(&mut self.parameters) {
                    if self.set.len() < MODES_MAX || self.set.contains_key(&mode) {
                        self.set.insert(mode, byte == b'h');
                    }
                }
                State::Text
            }
            _ => State::Text,
        };
    }

    fn write(&self, skips: impl Fn(u16) -> bool) -> String {
        let text = |(mode, is_set): (&u16, &bool)| {
            format!("\x1b[?{mode}{}", if *is_set { 'h' } else { 'l' })
        };
        self.set.iter().filter(|(mode, _)| !skips(**mode)).map(text).collect()
    }

    /// What stands before a tail of output, so that it paints where it should.
    pub(super) fn before(&self) -> String {
        self.write(|_| false)
    }

    /// What stands behind it, so that what follows meets the modes as they are.
    pub(super) fn after(&self) -> String {
        self.write(|mode| OTHER_SCREEN.contains(&mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_followed_through_any_pieces() {
        let output = b"x\x1b[?1049h\x1b[?25l\x1b[2J\x1b[?1000;1006hy\x1b[?25h\x1b[?12\x1b[?7l";
        let mut whole = Modes::default();
        whole.feed(output);
        assert_eq!(whole.before(), "\x1b[?7l\x1b[?25h\x1b[?1000h\x1b[?1006h\x1b[?1049h");
        assert_eq!(whole.after(), "\x1b[?7l\x1b[?25h\x1b[?1000h\x1b[?1006h");
        let mut pieces = Modes::default();
        for byte in output {
            pieces.feed(std::slice::from_ref(byte));
        }
        assert_eq!(pieces.before(), whole.before());
        pieces.feed(b"\x1bc");
        assert_eq!(pieces.before(), "");
    }
}
