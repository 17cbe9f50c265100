//! What the operator sees of the session: the program's output, filtered, and
//! our notice on one row of it.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use quarterdeck_protocol::tunnel::{
    mark::{Exit, Mark, Size},
    session::Mode,
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{NO_TERMINAL, Over, Wants, Word, filter::Filter, local::terminal_size, notice::Notice};
use crate::{
    cli::{direct::stdout, output::note},
    net::tunnel::{Attachment, Event, Piece, Snapshot, State, Status},
    tui::pane::{Pane, gaps::Shown, notices::Allowed, screen::PaneSize},
};

/// What is written at once at least when there is so much, in bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// How often a notice is drawn anew.
const NOTICE_PERIOD: Duration = Duration::from_secs(1);
const EMPTY_SCREEN: &str = "\x1b[H\x1b[2J";
const HELP: &str = "~. end the session   ~d leave it running   ~~ type a ~   (a key goes on)";

/// What the operator sees.
#[derive(Debug)]
pub(super) struct View {
    attachment: Attachment,
    words: mpsc::Receiver<Word>,
    is_terminal: bool,
    may_answer: bool,
    filter: Filter,
    /// Of the operator's terminal. Without one there is none: as with ssh, nobody answers what a
    /// program asks of the reader of a pipe.
    model: Pane,
    notice: Notice,
    shown: Shown,
    has_joined: bool,
    /// How the program ended.
    pub(super) exit: Option<Exit>,
}

impl View {
    pub(super) fn new(attachment: Attachment, wants: Wants, words: mpsc::Receiver<Word>) -> Self {
        let size = terminal_size().map_or(NO_TERMINAL, |size| (size.cols.get(), size.rows.get()));
        Self {
            attachment,
            words,
            is_terminal: io::stdout().is_terminal(),
            may_answer: wants.mode == Mode::Owner,
            filter: Filter::new(wants.allowed),
            model: model(size),
            notice: Notice::default(),
            shown: Shown::default(),
            has_joined: false,
            exit: None,
        }
    }

    /// Shows what happens until the end.
    pub(super) async fn run(&mut self) -> Over {
        let mut out = stdout();
        loop {
            let due = Instant::now() + NOTICE_PERIOD;
            let mut shown = tokio::select! {
                event = self.attachment.next() => match event {
                    Event::Ended(ended) => return Over::Ended(ended),
                    event => self.event(event),
                },
                Some(word) = self.words.recv() => self.word(word),
                () = sleep_until(due), if self.notice.is_shown() => self.status(),
            };
            // What has come meanwhile goes with it; the end is said again.
            while shown.len() < WRITE_BYTES
                && let Some(event) = self.attachment.try_next()
                && !matches!(event, Event::Ended(_))
            {
                shown.extend(self.event(event));
            }
            if shown.is_empty() {
                continue;
            }
            let written = async {
                out.write_all(&shown).await?;
                out.flush().await
            };
            if let Err(error) = written.await {
                return Over::Unwritable(error);
            }
        }
    }

    fn event(&mut self, event: Event) -> Vec<u8> {
        match event {
            Event::Piece(piece) => self.piece(piece),
            Event::Status => self.status(),
            Event::Ended(_) => Vec::new(),
        }
    }

    fn piece(&mut self, piece: Piece) -> Vec<u8> {
        let end = piece.end();
        let shown = self.shows(piece);
        self.shown.until(end);
        shown
    }

    fn shows(&mut self, piece: Piece) -> Vec<u8> {
        match piece {
            Piece::Bytes { bytes, .. } if !self.is_terminal => bytes.to_vec(),
            Piece::Bytes { bytes, .. } => {
                let mut shown = self.uncover();
                let answers = self.model.feed(&bytes);
                if self.may_answer && !answers.is_empty() {
                    // As keys are: what does not fit is not waited for.
                    let _ = self.attachment.type_keys(&answers);
                }
                shown.extend(self.filter.feed(&bytes));
                shown.extend(self.status());
                shown
            }
            Piece::Snapshot(snapshot) => self.snapshot(&snapshot),
            Piece::Mark { mark: Mark::Resize(size), .. } => {
                self.model.resize(PaneSize::new(size.rows.get(), size.cols.get()));
                Vec::new()
            }
            Piece::Mark { mark: Mark::Exit(exit), .. } => {
                self.exit = Some(exit);
                Vec::new()
            }
            Piece::Mark { .. } => Vec::new(),
        }
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> Vec<u8> {
        let Snapshot { offset, size, screen, painted_from, dropped_bytes } = snapshot;
        let joins = !std::mem::replace(&mut self.has_joined, true);
        // Of what was before it was joined nothing was ever here to be missed.
        let gap = self.shown.snapshot(*offset, *painted_from, *dropped_bytes);
        let gap = gap.filter(|_| !joins);
        // What a notice covers is part of the screen that goes.
        let mut shown = self.uncover();
        self.model = model((size.cols.get(), size.rows.get()));
        // What is of the past asks for nothing any more.
        self.model.feed(screen);
        if joins && screen.is_empty() {
            return shown;
        }
        if !self.is_terminal {
            if let Some(gap) = gap {
                note(&format!("quarterdeck: {gap}"));
            }
            return [EMPTY_SCREEN.as_bytes(), screen].concat();
        }
        shown.extend(self.filter.undo());
        if joins || gap.is_some() {
            // The operator's own: a watcher's is not that of the session.
            let rows = terminal_size().map_or(NO_TERMINAL.1, |size| size.rows.get());
            shown.extend(scrolled_away(gap.map(|gap| format!("--- {gap} ---")).as_deref(), rows));
        }
        shown.extend_from_slice(EMPTY_SCREEN.as_bytes());
        shown.extend(self.filter.feed(screen));
        shown
    }

    fn uncover(&mut self) -> Vec<u8> {
        self.notice.take_away(&mut self.model)
    }

    fn status(&mut self) -> Vec<u8> {
        if !self.is_terminal {
            return Vec::new();
        }
        let said = self.notice.is_help().then(|| HELP.to_owned());
        match said.or_else(|| trouble(&self.attachment.status())) {
            Some(said) => self.notice.put(&said, &mut self.model),
            None => self.uncover(),
        }
    }

    fn word(&mut self, word: Word) -> Vec<u8> {
        match word {
            Word::Bell if self.is_terminal => b"\x07".to_vec(),
            Word::Help if self.is_terminal => {
                self.notice.explain();
                self.status()
            }
            Word::Key if self.notice.is_help() => {
                let shown = self.uncover();
                [shown, self.status()].concat()
            }
            Word::Bell | Word::Help | Word::Key => Vec::new(),
        }
    }

    /// What gives the terminal back as it was.
    pub(super) fn give_back(&mut self) -> Vec<u8> {
        let mut shown = self.uncover();
        if self.is_terminal {
            let is_midline = self.model.screen().cursor().col > 0;
            shown.extend(self.filter.undo());
            if is_midline {
                shown.extend_from_slice(b"\r\n");
            }
        }
        shown
    }
}

/// What brings the screen, and a line of ours under it, into the scrollback of the operator's
/// terminal.
fn scrolled_away(said: Option<&str>, rows: u16) -> Vec<u8> {
    let said = said.map(|said| format!("\r\n{said}")).unwrap_or_default();
    let away = "\n".repeat(usize::from(rows));
    format!("\x1b[{rows};1H{said}\r{away}").into_bytes()
}

/// What is worth a notice.
fn trouble(status: &Status) -> Option<String> {
    let seconds = status.age_ms / 1000;
    match (status.state, status.idle_warning_s) {
        (State::Lost, _) => {
            let why = match &status.why {
                Some(why) => format!(": {why}"),
                None => ": the device is away".to_owned(),
            };
            Some(format!("LOST {seconds} s, coming back by itself (~. ends, ~d leaves){why}"))
        }
        (State::Stalled, _) => Some(format!("STALLED {seconds} s (~. ends, ~d leaves)")),
        (State::Connecting, _) => Some(format!("connecting {seconds} s (~. ends)")),
        (State::Live, Some(left)) => {
            Some(format!("idle: the session ends in {left} s unless you type"))
        }
        (State::Live, None) if status.has_lost_keys => Some(
            "another console wrote meanwhile: keys may be lost, look before you type".to_owned(),
        ),
        (State::Live, None) => None,
    }
}

fn model((cols, rows): (u16, u16)) -> Pane {
    Pane::with_history(PaneSize::new(rows, cols), Allowed::default(), 0)
}

impl From<Size> for PaneSize {
    fn from(size: Size) -> Self {
        Self::new(size.rows.get(), size.cols.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::pane::history::Line;

    #[test]
    fn the_screen_before_a_snapshot_and_what_was_left_out_can_be_scrolled_back_to() {
        for (said, expected) in [
            (None, &["one", "two", "", ""][..]),
            (Some("--- left out ---"), &["one", "two", "", "", "--- left out ---"]),
        ] {
            let size = PaneSize::new(4, 20);
            let mut terminal = Pane::with_history(size, Allowed::default(), 100);
            terminal.feed(b"one\r\ntwo");
            terminal.feed(&scrolled_away(said, size.rows));
            terminal.feed(EMPTY_SCREEN.as_bytes());
            terminal.feed(b"three");
            let history = terminal.screen().history();
            let lines: Vec<_> =
                (0..history.len()).filter_map(|at| history.line(at)).map(Line::text).collect();
            assert_eq!(lines, expected);
            assert_eq!(terminal.screen().cursor().row, 0);
        }
    }
}
