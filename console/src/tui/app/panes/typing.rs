//! The keyboard, the clipboard and the mouse of who types into a pane.
//!
//! ```text
//!   key ─▶ prefix ─┬─ a command ─▶ perform
//!                  └─▶ scrollback? ─ yes ─▶ perform
//!                        └─ no ─▶ escape (~.) ─▶ bytes ─▶ the pane, or all of its tab
//! ```

use crossterm::event::{KeyEvent, KeyModifiers, MouseButton, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::{PaneState, commands, request, scroll, tell_focus};
use crate::tui::{
    app::{
        App,
        actions::{Action, Context},
        dialog::{Overlay, Then},
        nav::Place,
        perform::{ask, perform},
    },
    effects::Effect,
    format,
    pane::{
        escape::Escape,
        keys,
        layout::PaneId,
        mouse::{self, Mouse},
        paste::{self, Verdict},
        prefix::Outcome,
        session::{Keys, Phase},
        widget::View,
    },
    term::input::{Code, Input, Key},
    theme::Tone,
    tunnels::TunnelCall,
};

/// Takes an input; `None` leaves it to the ordinary keys, where there is no pane.
pub fn input(app: &mut App, input: &Input) -> Option<Vec<Effect>> {
    if app.nav.here != Place::Panes || app.panes.is_empty() {
        return None;
    }
    let mut effects = Vec::new();
    match input {
        Input::Key(key) => return Some(key_pressed(app, *key)),
        Input::Paste(text) => pasted(app, text, &mut effects),
        Input::Click { x, y } => {
            let kind = MouseEventKind::Down(MouseButton::Left);
            pointer(app, kind, KeyModifiers::NONE, Position::new(*x, *y), &mut effects);
        }
        Input::Pointer { kind, modifiers, x, y } => {
            pointer(app, *kind, *modifiers, Position::new(*x, *y), &mut effects);
        }
        Input::Wheel { x, y, lines } => {
            wheel(app, *lines, Position::new(*x, *y), &mut effects);
        }
        Input::Resize(_) => return None,
    }
    Some(effects)
}

fn key_pressed(app: &mut App, key: Key) -> Vec<Effect> {
    let bound = |app: &App, context, key| app.keymap.actions(&[context], key).first().copied();
    let is_prefix = bound(app, Context::Pane, key) == Some(Action::PanePrefix);
    match app.panes.prefix.step(key, is_prefix) {
        Outcome::Wait => Vec::new(),
        Outcome::Command(key) => match bound(app, Context::Prefix, key) {
            Some(action) => perform(app, action),
            // Whoever did not mean it goes on as before.
            None if key.code == Code::Esc => Vec::new(),
            None => {
                let prefix = app.keymap.hint(Action::PanePrefix).unwrap_or_default();
                app.toast(format!("{key} means nothing after {prefix}; ? helps"), Tone::Muted);
                Vec::new()
            }
        },
        Outcome::Send(key) if app.panes.is_scrolling() => {
            bound(app, Context::Scroll, key).map(|action| perform(app, action)).unwrap_or_default()
        }
        Outcome::Send(key) => {
            let mut effects = Vec::new();
            typed(app, key, &mut effects);
            effects
        }
    }
}

fn typed(app: &mut App, key: Key, effects: &mut Vec<Effect>) {
    let Some(focus) = app.panes.focus() else { return };
    if matches!(app.panes.get(focus), Some(pane) if matches!(pane.session.phase, Phase::Ended(_))) {
        if key == Key::plain(Code::Enter) {
            commands::reopen(app, focus, effects);
        }
        return;
    }
    let event = KeyEvent::from(key);
    let receivers = receivers(app);
    let is_alone = receivers.len() == 1;
    let mut asked = None;
    for id in receivers {
        let Some(state) = app.panes.all.get_mut(&id) else { continue };
        let Some(bytes) = keys::encode(&event, state.pane.screen().modes()) else { continue };
        // What is typed into many is for their programs alone.
        let bytes = if is_alone {
            let (bytes, command) = state.escapes.step(&bytes);
            asked = command;
            bytes
        } else {
            state.escapes.pasted(&bytes);
            bytes
        };
        send(app, id, bytes, effects);
    }
    match asked {
        None => {}
        Some(Escape::Disconnect) => commands::end(app, focus, effects),
        Some(Escape::Detach) => commands::detach(app, focus, effects),
        Some(Escape::Help) => app.overlay = Some(Overlay::Help(0)),
    }
}

/// The panes that what is typed goes to.
fn receivers(app: &App) -> Vec<PaneId> {
    app.panes.tabs.as_ref().map_or_else(Vec::new, |tabs| tabs.tab().receivers())
}

/// Sends bytes to a device, or says why not.
fn send(app: &mut App, id: PaneId, bytes: Vec<u8>, effects: &mut Vec<Effect>) {
    let now = app.now;
    let Some(state) = app.panes.all.get_mut(&id).filter(|_| !bytes.is_empty()) else { return };
    let name = &state.name;
    let why = match state.session.keys(&bytes, now) {
        Keys::Send => return effects.push(request(id, TunnelCall::Input(bytes.into()))),
        Keys::Queued | Keys::Ended => return,
        Keys::Dropped => format!("{name} is lost: keys are not sent"),
        Keys::QueueFull => format!("{name} is lost: no more keys can wait for it"),
        Keys::ReadOnly => format!("{name}: you watch, so nothing is sent"),
    };
    say_once(app, why);
}

/// Says it, once for many keys.
fn say_once(app: &mut App, why: String) {
    if app.toasts.last().is_none_or(|toast| toast.text != why) {
        app.toast(why, Tone::Warn);
    }
}

/// Pastes, or asks before.
pub(super) fn pasted(app: &mut App, text: &str, effects: &mut Vec<Effect>) {
    let mut question = None;
    for id in receivers(app) {
        let Some(state) = app.panes.all.get(&id) else { continue };
        match paste::look_at(text, state.pane.screen().modes()) {
            Verdict::Fine => {}
            Verdict::TooLong { bytes } => {
                let (size, most) =
                    (format::bytes(bytes as u64), format::bytes(paste::PASTE_MAX_BYTES as u64));
                let text = format!("{size} are too much to paste, at most {most}: send a file");
                app.toast(text, Tone::Warn);
                return;
            }
            Verdict::Ask { lines, preview } => question = Some((lines, preview)),
        }
    }
    let Some((lines, preview)) = question else { return paste_now(app, text, effects) };
    let said =
        vec![format!("first line: {preview}"), "Each line runs as soon as it is there.".to_owned()];
    let title = format!("Paste {}?", format::plural(lines as u64, "line"));
    ask(app, &title, said, "Paste", true, Then::Paste(text.to_owned()));
}

/// Pastes what was asked about, if need be.
pub fn paste_now(app: &mut App, text: &str, effects: &mut Vec<Effect>) {
    for id in receivers(app) {
        let Some(state) = app.panes.all.get_mut(&id) else { continue };
        let bytes = paste::encode(text, state.pane.screen().modes());
        state.escapes.pasted(&bytes);
        send(app, id, bytes, effects);
    }
}

/// The pane under the pointer, and its place.
fn pane_at(app: &App, at: Position) -> Option<(PaneId, Rect)> {
    app.layout.panes.iter().copied().find(|(_, area)| area.contains(at))
}

/// What the mouse does, for the program under it.
fn report(
    state: &PaneState,
    place: Rect,
    kind: MouseEventKind,
    modifiers: KeyModifiers,
    at: Position,
) -> Option<Vec<u8>> {
    let screen = state.pane.screen();
    let view = View { pane: &state.pane, top: None, selection: None, matches: &[], is_lost: false };
    let (top, left) = view.corner(place);
    let first = crate::tui::pane::copy::Transcript::new(screen).screen_start();
    let row = u16::try_from(top.checked_sub(first)?).ok()? + (at.y - place.y);
    let mouse = Mouse { kind, modifiers, col: left + (at.x - place.x), row };
    mouse::encode(mouse, screen.modes(), screen.is_alternate())
}

fn pointer(
    app: &mut App,
    kind: MouseEventKind,
    modifiers: KeyModifiers,
    at: Position,
    effects: &mut Vec<Effect>,
) {
    let is_press = matches!(kind, MouseEventKind::Down(_));
    if is_press && let Some((tab, _)) = app.layout.tabs.iter().find(|(_, area)| area.contains(at)) {
        let tab = *tab;
        return commands::go_to_tab(app, tab, effects);
    }
    let Some((id, place)) = pane_at(app, at) else { return };
    let before = app.panes.focus();
    if is_press && before != Some(id) {
        if let Some(tabs) = &mut app.panes.tabs {
            tabs.tab_mut().focus_pane(id);
        }
        return tell_focus(app, before, effects);
    }
    let Some(state) = app.panes.get(id) else { return };
    if state.scroll.is_some() {
        if is_press {
            scroll::go_to(app, place, at);
        }
        return;
    }
    if let Some(bytes) = report(state, place, kind, modifiers, at) {
        send(app, id, bytes, effects);
    }
}

/// Turns the wheel: for a program that wants it, else the scrollback.
fn wheel(app: &mut App, lines: i32, at: Position, effects: &mut Vec<Effect>) {
    let Some((id, place)) = pane_at(app, at) else { return };
    let Some(state) = app.panes.get(id) else { return };
    let kind = if lines < 0 { MouseEventKind::ScrollUp } else { MouseEventKind::ScrollDown };
    if state.scroll.is_none()
        && let Some(bytes) = report(state, place, kind, KeyModifiers::NONE, at)
    {
        return send(app, id, bytes, effects);
    }
    scroll::wheel(app, id, i64::from(lines));
}
