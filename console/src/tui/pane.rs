//! Terminal panes (chapter 7): a device's terminal, drawn inside ours.
//!
//! ```text
//!   stream of a tunnel ─▶ feed ─▶ parser ─▶ dispatch ─▶ screen ─▶ display (vt100) ─▶ widget
//!                          │                             │  └─▶ history ─▶ copy, search
//!                          └◀── replies ◀────────────────┘
//!   keys, paste, mouse ─▶ prefix ─▶ escape ─▶ keys ─▶ bytes for the stream
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | [`parser`] | bytes to text, controls, sequences |
//! | [`dispatch`](self) | which sequence means what |
//! | [`screen`], [`grid`], [`cell`], [`modes`], [`charset`], [`sgr`] | the model of a terminal |
//! | [`reply`] | what a program may ask its terminal |
//! | [`notices`] | what a device asks of the operator's terminal |
//! | [`history`], [`gaps`] | the scrollback, and what is missing in it |
//! | [`display`] | the model's rows in a `vt100` screen |
//! | [`contain`] | panics end here |
//! | [`keys`], [`mouse`], [`paste`] | what the operator does, as bytes |
//! | [`prefix`], [`escape`] | what of it is for the console |
//! | [`session`] | the device at the other end: there, lost, gone |
//! | [`copy`] | scrollback: search, selections |
//! | [`layout`] | tabs and splits |
//! | [`widget`], [`status`] | a pane and the line under it, drawn |
//!
//! No byte of a device is ever passed on to the operator's terminal.

#[cfg(test)]
pub(crate) mod any_bytes;
pub mod cell;
pub mod charset;
pub mod contain;
pub mod copy;
mod dispatch;
pub mod display;
pub mod escape;
pub mod gaps;
pub mod grid;
pub mod history;
pub mod keys;
pub mod layout;
pub mod modes;
pub mod mouse;
pub mod notices;
pub mod parser;
pub mod paste;
pub mod prefix;
mod recent;
pub mod reply;
pub mod screen;
#[cfg(test)]
mod sequences;
pub mod session;
pub mod sgr;
pub mod status;
pub mod widget;

use self::{
    cell::{Attrs, Flags},
    contain::contain,
    display::Display,
    history::{HISTORY_LINES, History},
    notices::{Allowed, Notices},
    parser::Parser,
    recent::Recent,
    screen::{PaneSize, Screen},
};

/// How long a synchronised update may hold back the picture, in milliseconds: a program that
/// forgets to end it must not freeze its pane.
pub const SYNCHRONIZED_MAX_MS: u64 = 150;

/// One pane.
#[derive(Debug)]
pub struct Pane {
    parser: Parser,
    screen: Screen,
    display: Display,
    recent: Recent,
    /// Since when a synchronised update holds back the picture.
    held_since_ms: Option<u64>,
    /// How often the model panicked and was made anew.
    panics: u32,
}

impl Pane {
    pub fn new(size: PaneSize, allowed: Allowed) -> Self {
        Self::with_history(size, allowed, HISTORY_LINES)
    }

    /// With another number of lines to remember than [`HISTORY_LINES`].
    pub fn with_history(size: PaneSize, allowed: Allowed, lines_max: usize) -> Self {
        Self {
            parser: Parser::default(),
            screen: Screen::new(size, History::new(lines_max), Notices::new(allowed)),
            display: Display::new(size),
            recent: Recent::default(),
            held_since_ms: None,
            panics: 0,
        }
    }

    /// Takes the next bytes of the stream, cut anyhow. What comes back is to be sent to the device:
    /// the answers to what its programs asked the terminal, at most
    /// [`REPLIES_MAX_BYTES`](screen::REPLIES_MAX_BYTES).
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Self { parser, screen, .. } = self;
        if contain(|| parser.advance(bytes, screen)).is_none() {
            self.rebuild();
        }
        self.recent.push(bytes);
        std::mem::take(&mut self.screen.replies)
    }

    /// Makes the model anew after a panic, from the last bytes before the chunk that caused it.
    fn rebuild(&mut self) {
        self.panics = self.panics.saturating_add(1);
        let size = self.screen.size();
        let empty = || Screen::new(size, History::new(0), Notices::default());
        let (history, notices) = std::mem::replace(&mut self.screen, empty()).into_kept();
        // They have scrolled into the history before, so they must not do so again.
        let mut replayed = (Parser::default(), empty());
        let log = self.recent.bytes();
        if contain(|| replayed.0.advance(log, &mut replayed.1)).is_none() {
            replayed = (Parser::default(), empty());
        }
        (self.parser, self.screen) = replayed;
        self.screen.history = history;
        self.screen.notices = notices;
        self.screen.replies.clear();
        self.display = Display::new(size);
    }

    /// Begins anew with an empty screen, for a picture that follows; the scrollback stays.
    pub fn restart(&mut self, size: PaneSize) {
        let empty = || Screen::new(size, History::new(0), Notices::default());
        let (history, notices) = std::mem::replace(&mut self.screen, empty()).into_kept();
        self.parser = Parser::default();
        self.screen.history = history;
        self.screen.notices = notices;
        self.recent = Recent::default();
        self.display = Display::new(size);
        self.held_since_ms = None;
    }

    /// Adds a line of ours to the scrollback, of printable ASCII.
    pub fn remember(&mut self, line: &str) {
        let mut attrs = Attrs::DEFAULT;
        attrs.flags.set(Flags::DIM, true);
        self.screen.history.push_ascii(0, line.as_bytes(), attrs);
    }

    pub fn resize(&mut self, size: PaneSize) {
        let screen = &mut self.screen;
        if contain(|| screen.resize(size)).is_none() {
            self.screen.size = size;
            self.rebuild();
        }
    }

    /// Brings the picture up to date, unless a synchronised update is under way: then it says
    /// until when that may hold it back.
    pub fn refresh(&mut self, now_ms: u64) -> Option<u64> {
        if self.screen.modes().synchronized {
            let since = *self.held_since_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(since) < SYNCHRONIZED_MAX_MS {
                return Some(since.saturating_add(SYNCHRONIZED_MAX_MS));
            }
        } else {
            self.held_since_ms = None;
        }
        self.display.paint(&self.screen);
        None
    }

    /// The model: modes for the keyboard, rows for search.
    pub const fn screen(&self) -> &Screen {
        &self.screen
    }

    /// The picture as of the last [`refresh`](Self::refresh).
    pub const fn display(&self) -> &Display {
        &self.display
    }

    pub const fn notices(&mut self) -> &mut Notices {
        &mut self.screen.notices
    }

    /// What the device asked of the operator's terminal and did not get.
    pub const fn refused(&self) -> notices::Refused {
        self.screen.refused()
    }

    /// How many panics were contained in this pane.
    pub const fn panics(&self) -> u32 {
        self.panics.saturating_add(self.display.panics())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pane(rows: u16, cols: u16) -> Pane {
        Pane::new(PaneSize::new(rows, cols), Allowed::default())
    }

    fn picture(pane: &mut Pane, now_ms: u64) -> String {
        pane.refresh(now_ms);
        let size = pane.display().size();
        let row = |row| -> String {
            (0..size.cols)
                .filter_map(|col| pane.display().look(row, col))
                .map(|look| look.text)
                .collect()
        };
        (0..size.rows).map(|at| row(at).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_fed_is_seen_and_what_is_asked_is_answered() {
        let mut pane = pane(2, 10);
        assert_eq!(pane.feed(b"hi\x1b[6n"), b"\x1b[1;3R");
        assert_eq!(picture(&mut pane, 0), "hi\n");
    }

    #[test]
    fn a_synchronised_update_is_seen_at_its_end_or_after_a_while() {
        let mut pane = pane(1, 10);
        pane.feed(b"old");
        assert_eq!(picture(&mut pane, 999), "old");
        pane.feed(b"\x1b[?2026h\rnew");
        assert_eq!(picture(&mut pane, 1000), "old");
        pane.feed(b"\x1b[?2026l");
        assert_eq!(picture(&mut pane, 1001), "new");
        pane.feed(b"\x1b[?2026h\rfor ever");
        assert_eq!(picture(&mut pane, 2000), "new");
        assert_eq!(picture(&mut pane, 2000 + SYNCHRONIZED_MAX_MS), "for ever");
    }

    #[test]
    fn a_new_beginning_keeps_what_has_scrolled_off() {
        let mut pane = pane(2, 10);
        pane.feed(b"one\r\ntwo\r\nthree\x1b[?1049h\x1b[31");
        pane.restart(PaneSize::new(3, 20));
        pane.feed(b"here");
        assert_eq!(picture(&mut pane, 0), "here\n\n");
        assert_eq!(pane.screen().history().line(0).expect("kept").text(), "one");
    }

    #[test]
    fn a_panic_of_the_model_costs_one_chunk() {
        let mut pane = pane(3, 20);
        pane.feed(b"before\r\n");
        pane.feed(screen::PANIC_FOR_TESTS);
        pane.feed(b"after");
        assert_eq!(picture(&mut pane, 0), "before\nafter\n");
        assert_eq!(pane.panics(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_and_no_size_do_harm(
            steps in prop::collection::vec((any_bytes::part(), prop::option::weighted(0.2, (0..12_u16, 0..30_u16))), 1..60),
        ) {
            let mut pane = Pane::with_history(PaneSize::new(5, 20), Allowed::default(), 20);
            for (bytes, size) in steps {
                let replies = pane.feed(&bytes);
                prop_assert!(replies.len() <= screen::REPLIES_MAX_BYTES);
                if let Some((rows, cols)) = size {
                    pane.resize(PaneSize::new(rows, cols));
                }
                pane.refresh(u64::MAX);
                let (size, cursor) = (pane.screen().size(), pane.screen().cursor());
                prop_assert!(cursor.row < size.rows && cursor.col < size.cols);
                prop_assert!(pane.screen().history().len() <= 20);
                prop_assert_eq!(pane.panics(), 0);
            }
        }

        #[test]
        fn chunks_make_no_difference(
            parts in prop::collection::vec(any_bytes::part(), 1..30), cut in any::<prop::sample::Index>(),
        ) {
            let bytes = parts.concat();
            let (mut whole, mut halves) = (pane(6, 20), pane(6, 20));
            whole.feed(&bytes);
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            halves.feed(first);
            halves.feed(second);
            prop_assert_eq!(picture(&mut whole, u64::MAX), picture(&mut halves, u64::MAX));
            prop_assert_eq!(whole.screen().cursor(), halves.screen().cursor());
        }
    }
}
