//! The scrollback of a pane: moving, searching, selecting, copying.
//!
//! ```text
//!   begin ─▶ cursor, view ─ v ─▶ selection ─ y ─▶ copied, and back to typing
//!              │  ▲                    │
//!              └──┴─ / n N             └─ Esc ─▶ none; once more ─▶ back to typing
//! ```
//!
//! Rows keep their numbers while output goes on, so what is looked at stays.

use ratatui::layout::{Position, Rect};

use crate::tui::{
    app::{App, actions::Action, dialog::PromptKind, pickers::prompt},
    effects::Effect,
    format,
    pane::{
        copy::{Found, Point, Selection, Span, Take, Transcript},
        layout::PaneId,
    },
    theme::Tone,
};

/// Where one is in a scrollback.
#[derive(Debug, Clone)]
pub struct Scroll {
    /// The first row that is seen.
    pub top: u64,
    pub cursor: Point,
    pub selection: Option<Selection>,
    pub search: String,
    found: Option<Found>,
    /// The match that was gone to.
    at: usize,
}

impl Scroll {
    fn at_end(transcript: Transcript<'_>, cursor: (u16, u16)) -> Self {
        let first = transcript.screen_start();
        let cursor = Point { row: first + u64::from(cursor.0), col: cursor.1 };
        Self { top: first, cursor, selection: None, search: String::new(), found: None, at: 0 }
    }

    /// What was found of the rows that are seen; first the match that was gone to.
    pub fn seen_matches(&self, height: u16) -> Vec<Span> {
        let Some(found) = &self.found else { return Vec::new() };
        let bottom = self.top + u64::from(height);
        let from = found.matches.partition_point(|span| span.to.row < self.top);
        let seen = found.matches[from..].iter().take_while(|span| span.from.row < bottom);
        found.matches.get(self.at).into_iter().chain(seen).copied().collect()
    }

    /// Puts the cursor somewhere, and the view so that it is seen.
    fn go(&mut self, transcript: Transcript<'_>, to: Point, height: u16) {
        let rows = u64::from(height.max(1));
        let last = transcript.end().saturating_sub(1);
        let row = to.row.clamp(transcript.start(), last);
        self.cursor = Point { row, col: to.col };
        self.top = self.top.clamp(row.saturating_sub(rows - 1), row).max(transcript.start());
        if let Some(selection) = &mut self.selection {
            selection.head = self.cursor;
        }
    }
}

/// How many rows of a pane are seen.
fn height(app: &App, pane: PaneId) -> u16 {
    app.layout.panes.iter().find(|(id, _)| *id == pane).map_or(1, |(_, area)| area.height.max(1))
}

/// Goes into the scrollback of the pane in focus.
pub(super) fn begin(app: &mut App) {
    let Some((_, state)) = app.panes.focused_mut() else { return };
    if state.scroll.is_none() {
        let screen = state.pane.screen();
        let cursor = (screen.cursor().row, screen.cursor().col);
        state.scroll = Some(Scroll::at_end(Transcript::new(screen), cursor));
    }
}

/// The wheel scrolls, and at the end of the scrollback leaves it.
pub(super) fn wheel(app: &mut App, pane: PaneId, lines: i64) {
    let rows = height(app, pane);
    let Some(state) = app.panes.all.get_mut(&pane) else { return };
    if state.scroll.is_none() && lines > 0 {
        return;
    }
    let screen = state.pane.screen();
    let transcript = Transcript::new(screen);
    let cursor = (screen.cursor().row, screen.cursor().col);
    let mut scroll = state.scroll.take().unwrap_or_else(|| Scroll::at_end(transcript, cursor));
    let top = scroll.top.saturating_add_signed(lines).max(transcript.start());
    if top >= transcript.screen_start() && lines > 0 && scroll.selection.is_none() {
        return;
    }
    scroll.top = top.min(transcript.screen_start());
    let row = scroll.cursor.row.clamp(scroll.top, scroll.top + u64::from(rows) - 1);
    let to = Point { row, ..scroll.cursor };
    scroll.go(transcript, to, rows);
    state.scroll = Some(scroll);
}

/// A click puts the cursor there.
pub(super) fn go_to(app: &mut App, place: Rect, at: Position) {
    let Some((_, state)) = app.panes.focused_mut() else { return };
    let transcript = Transcript::new(state.pane.screen());
    if let Some(scroll) = &mut state.scroll {
        let row = scroll.top + u64::from(at.y.saturating_sub(place.y));
        let to = Point { row, col: at.x.saturating_sub(place.x) };
        scroll.go(transcript, to, place.height);
    }
}

/// Does an action in the scrollback; `false` when it is none of its.
pub(super) fn perform(app: &mut App, action: Action, effects: &mut Vec<Effect>) -> bool {
    let Some(rows) = app.panes.focus().map(|pane| height(app, pane)) else { return false };
    let Some((_, state)) = app.panes.focused_mut() else { return false };
    let transcript = Transcript::new(state.pane.screen());
    let Some(scroll) = &mut state.scroll else { return false };
    let page = i64::from(rows);
    let by = |scroll: &Scroll, rows: i64| Point {
        row: scroll.cursor.row.saturating_add_signed(rows),
        col: scroll.cursor.col,
    };
    let to = match action {
        Action::Up => by(scroll, -1),
        Action::Down => by(scroll, 1),
        Action::PageUp => by(scroll, -page),
        Action::PageDown => by(scroll, page),
        Action::HalfUp => by(scroll, -(page / 2).max(1)),
        Action::HalfDown => by(scroll, (page / 2).max(1)),
        Action::First => Point { row: transcript.start(), col: 0 },
        Action::Last => Point { row: transcript.end(), col: 0 },
        Action::Left => Point { col: scroll.cursor.col.saturating_sub(1), ..scroll.cursor },
        Action::Right => {
            let last = state.pane.screen().size().cols.saturating_sub(1);
            Point { col: (scroll.cursor.col + 1).min(last), ..scroll.cursor }
        }
        Action::PaneSelect(take) => {
            select(scroll, take);
            return true;
        }
        Action::Back => {
            if scroll.selection.take().is_none() {
                state.scroll = None;
            }
            return true;
        }
        Action::Search => {
            prompt_search(app);
            return true;
        }
        Action::NextMatch => {
            next_match(app, 1);
            return true;
        }
        Action::PreviousMatch => {
            next_match(app, -1);
            return true;
        }
        Action::Copy => {
            copy(app, effects);
            return true;
        }
        _ => return false,
    };
    scroll.go(transcript, to, rows);
    true
}

/// Begins a selection; the same once more drops it, another one changes what it takes.
fn select(scroll: &mut Scroll, take: Take) {
    scroll.selection = match scroll.selection {
        Some(selection) if selection.take == take => None,
        Some(selection) => Some(Selection { take, ..selection }),
        None => Some(Selection { anchor: scroll.cursor, head: scroll.cursor, take }),
    };
}

/// Copies what is selected, else the row of the cursor, and goes back to typing.
fn copy(app: &mut App, effects: &mut Vec<Effect>) {
    let Some((_, state)) = app.panes.focused_mut() else { return };
    let Some(scroll) = state.scroll.take() else { return };
    let row = Selection { anchor: scroll.cursor, head: scroll.cursor, take: Take::Rows };
    let text = Transcript::new(state.pane.screen()).text(&scroll.selection.unwrap_or(row));
    let lines = format::plural(text.lines().count().max(1) as u64, "line");
    app.toast(format!("copied {lines}"), Tone::Good);
    app.panes.copied.clone_from(&text);
    effects.push(Effect::CopyToClipboard(text));
}

pub(super) fn prompt_search(app: &mut App) {
    let Some(scroll) = app.panes.focused().and_then(|pane| pane.scroll.as_ref()) else { return };
    let before = scroll.search.clone();
    prompt(app, PromptKind::PaneSearch, &before);
}

/// Searches the scrollback, backwards from where one is.
pub fn search(app: &mut App, text: &str) {
    let Some((_, state)) = app.panes.focused_mut() else { return };
    let Some(scroll) = &mut state.scroll else { return };
    text.clone_into(&mut scroll.search);
    if text.is_empty() {
        scroll.found = None;
        return;
    }
    let found = Transcript::new(state.pane.screen()).find(text);
    let (n, is_complete) = (found.matches.len(), found.is_complete);
    // The newest is what one looks for: the nearest at or above the cursor, else the last.
    let above = found.matches.partition_point(|span| span.from <= scroll.cursor);
    scroll.at = above.checked_sub(1).unwrap_or(n.saturating_sub(1));
    scroll.found = Some(found);
    if n == 0 {
        app.toast(format!("{text:?} is not in the scrollback"), Tone::Warn);
        return;
    }
    if !is_complete {
        app.toast(format!("the first {} matches are shown", format::count(n as u64)), Tone::Warn);
    }
    show_match(app);
}

/// Goes to the match after or before; n goes up, to what is older.
fn next_match(app: &mut App, by: isize) {
    let Some((_, state)) = app.panes.focused_mut() else { return };
    let Some(scroll) = &mut state.scroll else { return };
    let n = scroll.found.as_ref().map_or(0, |found| found.matches.len()) as isize;
    if n == 0 {
        return;
    }
    scroll.at = (scroll.at as isize - by).rem_euclid(n) as usize;
    show_match(app);
}

fn show_match(app: &mut App) {
    let Some(rows) = app.panes.focus().map(|pane| height(app, pane)) else { return };
    let Some((_, state)) = app.panes.focused_mut() else { return };
    let transcript = Transcript::new(state.pane.screen());
    let Some(scroll) = &mut state.scroll else { return };
    let to = scroll.found.as_ref().and_then(|found| found.matches.get(scroll.at));
    if let Some(to) = to.map(|span| span.from) {
        scroll.go(transcript, to, rows);
    }
}
