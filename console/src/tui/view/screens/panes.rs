//! The panes of a tab: their text, the line under each, what is between them.
//!
//! ```text
//!   tabs          1 pi-1  2 pi-2 +1            (with more than one)
//!   text      │   text
//!             │
//!   status        status
//! ```
//!
//! The line under a pane stands where the border to the pane below would, so
//! that a split costs one row. On a small screen one pane is seen at a time.

use std::fmt::Write as _;

use quarterdeck_protocol::{text, tunnel::session::Mode};
use ratatui::layout::Rect;

use crate::tui::{
    app::{
        App,
        actions::Action,
        msg::Layout,
        panes::{PaneState, Panes},
    },
    pane::{
        layout::{PaneId, Place, SPLIT_MIN},
        session::{End, Phase},
        status::{self, Others, Status, Stream},
        widget::View,
    },
    theme::Tone,
    tunnels::Record,
    view::{
        canvas::{Canvas, cut_bottom, cut_top, width},
        overlay::wrapped,
        widgets::panel,
    },
};

pub fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App, layout: &mut Layout) {
    let Some(tabs) = &app.panes.tabs else { return none(canvas, area, app) };
    let mut rest = area;
    if tabs.tabs().len() > 1 && rest.height > 3 {
        let line = cut_top(&mut rest, 1);
        let titles: Vec<String> = tabs
            .tabs()
            .iter()
            .enumerate()
            .map(|(at, tab)| title(app, at, &tab.panes(), tab.focus()))
            .collect();
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        panel::tabs(canvas, line, &titles, tabs.shown(), layout);
    }
    layout.panes_area = Some(rest);
    let tab = tabs.tab();
    let panes = tab.panes();
    let is_small = rest.width < SPLIT_MIN.0 || rest.height < SPLIT_MIN.1;
    let places =
        if is_small { vec![Place { pane: tab.focus(), area: rest }] } else { tab.places(rest) };
    let hidden = panes.len() - places.len();
    for place in &places {
        borders(canvas, rest, place.area, Tone::Faint);
    }
    if let Some(focused) = places.iter().find(|place| place.pane == tab.focus()) {
        borders(canvas, rest, focused.area, Tone::Accent);
    }
    for Place { pane, area } in places {
        let Some(state) = app.panes.get(pane) else { continue };
        let has_focus = pane == tab.focus();
        let mut inside = area;
        // The row of the border below, where there is one.
        let line = if area.bottom() < rest.bottom() {
            Rect { y: area.bottom(), height: 1, ..area }
        } else {
            cut_bottom(&mut inside, 1)
        };
        if inside.height > 0 && inside.width > 0 {
            layout.panes.push((pane, inside));
            one(canvas, inside, app, state, has_focus);
        }
        let number = (hidden > 0).then(|| {
            let at = panes.iter().position(|other| *other == pane).unwrap_or(0);
            format!("{}/{}", at + 1, panes.len())
        });
        let is_synchronised = tab.is_synchronised && panes.len() > 1;
        status_line(canvas, line, app, state, (has_focus, is_synchronised), number);
    }
}

fn none(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let key = |action| app.keymap.hint(action).unwrap_or_default();
    let lines = [
        ("No terminal is open.".to_owned(), Tone::Muted),
        (
            format!("{} on a device opens one.", key(Action::Terminal(Record::AsProject))),
            Tone::Faint,
        ),
        (format!("{} lists those that are open elsewhere.", key(Action::Screen(7))), Tone::Faint),
    ];
    let y = area.y + area.height.saturating_sub(lines.len() as u16) / 3;
    for (y, (line, tone)) in (y..area.bottom()).zip(lines) {
        let wide = width(&line, app.theme.unicode).min(area.width);
        canvas.put(area.x + (area.width - wide) / 2, y, &line, tone);
    }
}

/// A tab's name: its number, the pane in focus, how many more, what happened meanwhile.
fn title(app: &App, at: usize, panes: &[PaneId], focus: PaneId) -> String {
    let name = app.panes.get(focus).map_or("", |pane| pane.name.as_str());
    let mut text = format!("{} {}", at + 1, text::line(name));
    if panes.len() > 1 {
        write!(text, " +{}", panes.len() - 1).expect("writing to a string cannot fail");
    }
    let states = || panes.iter().filter_map(|pane| app.panes.get(*pane));
    if states().any(|pane| pane.has_rung) {
        text.push_str(" bell");
    }
    if states().any(|pane| matches!(pane.session.stream(app.now), Stream::Lost { .. })) {
        text.push_str(" LOST");
    }
    text
}

/// Draws what is around a pane, within `whole`.
fn borders(canvas: &mut Canvas<'_>, whole: Rect, area: Rect, tone: Tone) {
    let style = canvas.style(tone);
    let glyphs = canvas.glyphs();
    for x in [area.x.checked_sub(1), Some(area.right())].into_iter().flatten() {
        if x >= whole.x && x < whole.right() {
            // Down to the end of the line under the pane.
            for y in area.y..(area.bottom() + 1).min(whole.bottom()) {
                canvas.text(x, y, glyphs.vertical, style, 1);
            }
        }
    }
}

fn one(canvas: &mut Canvas<'_>, area: Rect, app: &App, state: &PaneState, has_focus: bool) {
    let stream = state.session.stream(app.now);
    let is_lost = !matches!(stream, Stream::Live | Stream::Stalled { .. } | Stream::Opening { .. });
    let scroll = state.scroll.as_ref();
    let matches = scroll.map(|scroll| scroll.seen_matches(area.height)).unwrap_or_default();
    let view = View {
        pane: &state.pane,
        top: scroll.map(|scroll| scroll.top),
        selection: scroll.and_then(|scroll| scroll.selection.as_ref()),
        matches: &matches,
        is_lost,
    };
    canvas.pane(&view, area, has_focus);
    if let Some(scroll) = scroll.filter(|_| has_focus) {
        let y = scroll.cursor.row.saturating_sub(scroll.top).min(u64::from(area.height) - 1);
        canvas.set_cursor(area.x + scroll.cursor.col.min(area.width - 1), area.y + y as u16);
    }
    let said = match &state.session.phase {
        Phase::Waiting | Phase::Opening { .. } => {
            Some((format!("opening a terminal on {} ...", text::line(&state.name)), Tone::Muted))
        }
        Phase::Ended(end) => {
            let prefix = app.keymap.hint(Action::PanePrefix).unwrap_or_default();
            let close = app.keymap.hint(Action::PaneClose).unwrap_or_default();
            let why = end.sentence(state.session.exit_code);
            let dot = app.theme.glyphs.dot;
            let (enter, closes) = match end {
                End::Detached => ("goes back to it", "closes this pane, not the program"),
                End::TakenOver => ("takes it back", "closes this pane, not the program"),
                End::Closed(_) | End::Refused(_) => ("opens it again", "closes"),
            };
            Some((
                format!(" {why} {dot} Enter {enter} {dot} {prefix} {close} {closes} "),
                Tone::Bar,
            ))
        }
        Phase::Open(..) => None,
    };
    if let Some((said, tone)) = said {
        let style = canvas.style(tone);
        let lines = wrapped(&said, area.width);
        let high = (lines.len() as u16).min(area.height);
        let y = if tone == Tone::Bar { area.bottom() - high } else { area.y };
        canvas.fill(Rect { y, height: high, ..area }, style);
        for (y, line) in (y..area.bottom()).zip(&lines) {
            canvas.text(area.x, y, line, style, area.width);
        }
    }
}

/// Draws the line under a pane.
fn status_line(
    canvas: &mut Canvas<'_>,
    area: Rect,
    app: &App,
    state: &PaneState,
    (has_focus, is_synchronised): (bool, bool),
    number: Option<String>,
) {
    let bar = canvas.style(Tone::Bar);
    canvas.fill(area, bar);
    let session = &state.session;
    let last = session.last();
    let transcript = crate::tui::pane::copy::Transcript::new(state.pane.screen());
    let status = Status {
        name: &state.name,
        title: &state.title,
        stream: session.stream(app.now),
        rtt_ms: session.rtt_ms(),
        bytes_up: session.bytes.0,
        bytes_down: session.bytes.1,
        is_recording: last.is_some_and(|last| last.is_recorded),
        others: last
            .map_or_else(Others::default, |last| Others::beside(session.mode, &last.watchers)),
        mode: session.mode,
        idle_ms_left: session.idle_ms_left(app.now),
        is_synchronised,
        queued_keys: session.queued(),
        scrolled: state
            .scroll
            .as_ref()
            .map_or(0, |scroll| transcript.screen_start().saturating_sub(scroll.top)),
        is_prefixed: has_focus && app.panes.prefix.is_waiting(),
        refused: state.pane.refused(),
        panics: state.pane.panics(),
    };
    let marker = if has_focus { app.theme.glyphs.cursor } else { " " };
    let accent = bar.patch(canvas.style(Tone::Accent));
    let mut x = canvas.text(area.x, area.y, marker, accent, 1);
    if let Some(number) = number {
        x = canvas.text(x, area.y, &number, accent, area.right().saturating_sub(x)) + 1;
    }
    let unicode = app.theme.unicode;
    for part in status::parts(&status, area.right().saturating_sub(x), unicode) {
        let tone = match part.tone {
            Tone::Strong if has_focus => Tone::Accent,
            tone => tone,
        };
        let style = bar.patch(canvas.style(tone));
        x = canvas.text(x, area.y, &part.text, style, area.right().saturating_sub(x)) + 2;
    }
}

/// Panes that are open, for who wants to leave: name and how each is.
pub fn open_lines(panes: &Panes) -> Vec<String> {
    const NAMED_MAX: usize = 6;
    let open: Vec<_> = panes.iter().filter(|(_, pane)| pane.session.is_open()).collect();
    let mut lines: Vec<String> = open
        .iter()
        .take(NAMED_MAX)
        .map(|(_, pane)| {
            let mode = match pane.session.mode {
                Mode::Owner => "terminal",
                Mode::Copilot => "joined",
                Mode::Watch => "watched",
            };
            format!("{mode} on {}", pane.name)
        })
        .collect();
    if open.len() > NAMED_MAX {
        lines.push(format!("and {} more", open.len() - NAMED_MAX));
    }
    lines
}
