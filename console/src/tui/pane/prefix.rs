//! The prefix key: how the operator speaks to the console while a pane has the keyboard.
//!
//! ```text
//!            prefix                  any other key
//!   Typing ──────────▶ Prefixed ───────────────────▶ Typing, a command
//!     │ any other key     │ the prefix once more ──▶ Typing, the prefix itself to the device
//!     └▶ to the device
//! ```
//!
//! Pure; it waits for ever, and whoever draws shows that it waits. Which command
//! a key is says the table of actions ([`Context::Prefix`](crate::tui::app::actions::Context)).

use crate::tui::term::input::Key;

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is for the device.
    Send(Key),
    /// It is a command.
    Command(Key),
    /// It was the prefix: the next key is a command.
    Wait,
}

/// Where the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prefix {
    is_waiting: bool,
}

impl Prefix {
    /// Whether the next key is a command.
    pub const fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Takes the next key; `is_prefix` when it is the prefix key.
    pub const fn step(&mut self, key: Key, is_prefix: bool) -> Outcome {
        if !self.is_waiting {
            self.is_waiting = is_prefix;
            return if is_prefix { Outcome::Wait } else { Outcome::Send(key) };
        }
        self.is_waiting = false;
        if is_prefix { Outcome::Send(key) } else { Outcome::Command(key) }
    }

    /// Forgets that the prefix was pressed.
    pub const fn reset(&mut self) {
        self.is_waiting = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_one_key_and_twice_it_is_itself() {
        let (g, z) = (Key::parse("C-g").expect("a key"), Key::char('z'));
        let mut prefix = Prefix::default();
        for (key, outcome) in [
            (z, Outcome::Send(z)),
            (g, Outcome::Wait),
            (z, Outcome::Command(z)),
            (z, Outcome::Send(z)),
            (g, Outcome::Wait),
            (g, Outcome::Send(g)),
            (g, Outcome::Wait),
        ] {
            assert_eq!(prefix.step(key, key == g), outcome, "{key:?}");
        }
        assert!(prefix.is_waiting());
        prefix.reset();
        assert_eq!(prefix.step(z, false), Outcome::Send(z));
    }
}
