//! The prefix key: how the operator speaks to the console while a pane has the keyboard.
//!
//! ```text
//!            prefix                  a bound key
//!   Typing ──────────▶ Prefixed ───────────────────▶ Typing, a command
//!     │ any other key     │ the prefix once more ──▶ Typing, the prefix itself to the device
//!     └▶ to the device    │ any other key ─────────▶ Typing, nothing
//! ```
//!
//! Pure; it waits for ever, and whoever draws shows that it waits.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::layout::{Direction, Split};

/// What follows the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Split(Split),
    /// Go to the neighbour.
    Focus(Direction),
    /// Go to the next pane.
    FocusNext,
    /// Change places with the neighbour.
    Move(Direction),
    /// Move the border on that side.
    Resize(Direction),
    Zoom,
    Close,
    NewTab,
    NextTab,
    PreviousTab,
    /// By its number, from 0.
    GoToTab(usize),
    /// What is typed goes to all panes of the tab.
    SyncInput,
    /// Scrollback, copy, search.
    Copy,
    Search,
    Paste,
    /// Leave the panes; their programs run on.
    Detach,
    /// Keep what is typed while the connection is lost, and send it later.
    QueueKeys,
    Help,
}

/// All commands by their keys, for the help as well.
pub const COMMANDS: &[(KeyCode, Command, &str)] = &[
    (KeyCode::Char('|'), Command::Split(Split::Columns), "split, side by side"),
    (KeyCode::Char('-'), Command::Split(Split::Rows), "split, one above the other"),
    (KeyCode::Left, Command::Focus(Direction::Left), "go left"),
    (KeyCode::Down, Command::Focus(Direction::Down), "go down"),
    (KeyCode::Up, Command::Focus(Direction::Up), "go up"),
    (KeyCode::Right, Command::Focus(Direction::Right), "go right"),
    (KeyCode::Char('h'), Command::Focus(Direction::Left), "go left"),
    (KeyCode::Char('j'), Command::Focus(Direction::Down), "go down"),
    (KeyCode::Char('k'), Command::Focus(Direction::Up), "go up"),
    (KeyCode::Char('l'), Command::Focus(Direction::Right), "go right"),
    (KeyCode::Char('o'), Command::FocusNext, "go to the next pane"),
    (KeyCode::Char('<'), Command::Move(Direction::Left), "change places, left"),
    (KeyCode::Char('>'), Command::Move(Direction::Right), "change places, right"),
    (KeyCode::Char('{'), Command::Move(Direction::Up), "change places, above"),
    (KeyCode::Char('}'), Command::Move(Direction::Down), "change places, below"),
    (KeyCode::Char('H'), Command::Resize(Direction::Left), "border left"),
    (KeyCode::Char('J'), Command::Resize(Direction::Down), "border down"),
    (KeyCode::Char('K'), Command::Resize(Direction::Up), "border up"),
    (KeyCode::Char('L'), Command::Resize(Direction::Right), "border right"),
    (KeyCode::Char('z'), Command::Zoom, "zoom, and back"),
    (KeyCode::Char('x'), Command::Close, "close the pane"),
    (KeyCode::Char('c'), Command::NewTab, "new tab"),
    (KeyCode::Char('n'), Command::NextTab, "next tab"),
    (KeyCode::Char('p'), Command::PreviousTab, "previous tab"),
    (KeyCode::Char('s'), Command::SyncInput, "type into all panes of the tab"),
    (KeyCode::Char('['), Command::Copy, "scroll and copy"),
    (KeyCode::Char('/'), Command::Search, "search the scrollback"),
    (KeyCode::Char(']'), Command::Paste, "paste"),
    (KeyCode::Char('d'), Command::Detach, "detach"),
    (KeyCode::Char('q'), Command::QueueKeys, "queue keys while LOST"),
    (KeyCode::Char('?'), Command::Help, "help"),
];

/// Which key is the prefix unless the operator chose another.
pub const DEFAULT_PREFIX: KeyEvent = KeyEvent::new(KeyCode::Char('g'), KeyModifiers::CONTROL);

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is for the device.
    Send(KeyEvent),
    Run(Command),
    /// It was the prefix: the next key is a command.
    Wait,
    /// The prefix was followed by a key that means nothing.
    Unknown,
}

/// Where the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    key: KeyEvent,
    is_waiting: bool,
}

impl Default for Prefix {
    fn default() -> Self {
        Self::new(DEFAULT_PREFIX)
    }
}

impl Prefix {
    pub const fn new(key: KeyEvent) -> Self {
        Self { key, is_waiting: false }
    }

    /// Whether the next key is a command.
    pub const fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Takes the next key.
    pub fn step(&mut self, key: KeyEvent) -> Outcome {
        let is_prefix = (key.code, key.modifiers) == (self.key.code, self.key.modifiers);
        if !self.is_waiting {
            self.is_waiting = is_prefix;
            return if is_prefix { Outcome::Wait } else { Outcome::Send(key) };
        }
        self.is_waiting = false;
        if is_prefix {
            return Outcome::Send(key);
        }
        if let KeyCode::Char(digit @ '1'..='9') = key.code {
            return Outcome::Run(Command::GoToTab(digit as usize - '1' as usize));
        }
        COMMANDS
            .iter()
            .find(|(code, ..)| *code == key.code)
            .map_or(Outcome::Unknown, |(_, command, _)| Outcome::Run(*command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_one_key_and_twice_it_is_itself() {
        let plain = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        let mut prefix = Prefix::default();
        for (key, outcome) in [
            (plain('g'), Outcome::Send(plain('g'))),
            (plain('z'), Outcome::Send(plain('z'))),
            (DEFAULT_PREFIX, Outcome::Wait),
            (plain('z'), Outcome::Run(Command::Zoom)),
            (plain('z'), Outcome::Send(plain('z'))),
            (DEFAULT_PREFIX, Outcome::Wait),
            (DEFAULT_PREFIX, Outcome::Send(DEFAULT_PREFIX)),
            (DEFAULT_PREFIX, Outcome::Wait),
            (plain('3'), Outcome::Run(Command::GoToTab(2))),
            (DEFAULT_PREFIX, Outcome::Wait),
            (plain('%'), Outcome::Unknown),
            (plain('%'), Outcome::Send(plain('%'))),
        ] {
            assert_eq!(prefix.step(key), outcome, "{key:?}");
        }
        assert!(!prefix.is_waiting());
    }

    #[test]
    fn no_key_means_two_commands() {
        for (at, (code, ..)) in COMMANDS.iter().enumerate() {
            assert!(!COMMANDS[..at].iter().any(|(other, ..)| other == code), "{code:?}");
            assert!(!matches!(code, KeyCode::Char('1'..='9')), "{code:?} is a tab");
        }
    }
}
