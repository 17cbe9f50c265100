//! What follows the prefix key.

use quarterdeck_protocol::tunnel::{close::CloseCode, session::Mode, stream::Closed};
use ratatui::layout::Rect;

use super::{open_terminals, request, scroll, tell_focus, typing};
use crate::tui::{
    app::{
        App,
        actions::Action,
        dialog::{PromptKind, Then},
        moving,
        nav::Place,
        perform::ask,
        pickers::prompt,
    },
    effects::Effect,
    pane::{
        layout::{PaneId, Refused, Tabs},
        session::End,
    },
    theme::Tone,
    tunnels::{Attach, Record, TunnelCall},
};

/// Does an action in the panes; `false` when it is none of theirs.
pub fn perform(app: &mut App, action: Action, effects: &mut Vec<Effect>) -> bool {
    if app.nav.here != Place::Panes {
        return false;
    }
    if app.panes.is_scrolling() && scroll::perform(app, action, effects) {
        return true;
    }
    let before = app.panes.focus();
    let area = app.panes.area;
    match action {
        Action::PaneSplit(how) => another(app, |tabs, pane, _| tabs.tab_mut().split(how, pane)),
        Action::PaneTabNew => another(app, |tabs, pane, _| tabs.open(pane)),
        Action::PaneFocus(towards) => {
            on_tabs(app, |tabs| tabs.tab_mut().focus_towards(towards, area));
        }
        Action::PaneFocusNext => on_tabs(app, |tabs| tabs.tab_mut().focus_next()),
        Action::PaneMove(towards) => {
            on_tabs(app, |tabs| tabs.tab_mut().swap_towards(towards, area));
        }
        Action::PaneResize(towards) => on_tabs(app, |tabs| tabs.tab_mut().resize(towards)),
        Action::PaneZoom => on_tabs(app, |tabs| {
            let tab = tabs.tab_mut();
            tab.is_zoomed = !tab.is_zoomed && tab.panes().len() > 1;
        }),
        Action::PaneTab(n) => on_tabs(app, |tabs| tabs.go_to(usize::from(n).wrapping_sub(1))),
        Action::PaneTabNext => on_tabs(app, Tabs::next),
        Action::PaneTabPrevious => on_tabs(app, Tabs::previous),
        Action::PaneSync => synchronise(app),
        Action::PaneQueue => queue(app),
        Action::PaneClose => close(app, effects),
        Action::PaneDetach => {
            if let Some(focus) = before {
                detach(app, focus, effects);
            }
        }
        Action::PaneLeave => {
            if !app.nav.back() {
                app.nav.go(Place::Overview);
            }
            moving::entered(app);
        }
        Action::PaneRename => {
            if let Some(name) = app.panes.focused().map(|pane| pane.name.clone()) {
                prompt(app, PromptKind::PaneName, &name);
            }
        }
        Action::PaneScroll => scroll::begin(app),
        Action::PaneSearch => {
            scroll::begin(app);
            scroll::prompt_search(app);
        }
        Action::PanePaste => {
            let text = app.panes.copied.clone();
            if text.is_empty() {
                app.toast("nothing was copied from a pane yet", Tone::Muted);
            } else {
                typing::pasted(app, &text, effects);
            }
        }
        _ => return false,
    }
    tell_focus(app, before, effects);
    true
}

fn on_tabs(app: &mut App, change: impl FnOnce(&mut Tabs)) {
    if let Some(tabs) = &mut app.panes.tabs {
        change(tabs);
    }
}

pub(super) fn go_to_tab(app: &mut App, tab: usize, effects: &mut Vec<Effect>) {
    let before = app.panes.focus();
    on_tabs(app, |tabs| tabs.go_to(tab));
    tell_focus(app, before, effects);
}

/// One more terminal on the device of the pane in focus, recorded if that one was asked to be.
fn another(app: &mut App, put: impl FnOnce(&mut Tabs, PaneId, Rect) -> Result<(), Refused>) {
    let Some(focused) = app.panes.focused() else { return };
    let Some(device) = focused.device.clone() else { return };
    let record = focused.session.record();
    let state = app.panes.new_pane(device.clone(), Attach::New { device, record });
    if let Err(refused) = app.panes.insert(state, put) {
        app.toast(refused.to_string(), Tone::Warn);
    }
}

fn synchronise(app: &mut App) {
    let Some(tabs) = &mut app.panes.tabs else { return };
    let tab = tabs.tab_mut();
    let n = tab.panes().len();
    if n == 1 && !tab.is_synchronised {
        let text = "there is one pane in this tab, and nothing to type into beside it";
        return app.toast(text, Tone::Warn);
    }
    tab.is_synchronised = !tab.is_synchronised;
    if tab.is_synchronised {
        app.toast(format!("what you type goes to all {n} panes of this tab"), Tone::Warn);
    } else {
        app.toast("what you type goes to one pane", Tone::Muted);
    }
}

fn queue(app: &mut App) {
    let Some((_, state)) = app.panes.focused_mut() else { return };
    let name = state.name.clone();
    let text = if state.session.toggle_queue() {
        format!("{name}: keys wait while it is lost, and are sent when it is back")
    } else {
        format!("{name}: keys are dropped while it is lost")
    };
    app.toast(text, Tone::Muted);
}

/// Closes the pane in focus; asks first when that ends something.
fn close(app: &mut App, effects: &mut Vec<Effect>) {
    let Some((focus, state)) = app.panes.focused_mut() else { return };
    if !state.session.is_open() {
        return remove(app, focus, effects);
    }
    let name = state.name.clone();
    let is_mine = state.session.mode == Mode::Owner;
    if !is_mine {
        // It is not ours to end.
        detach(app, focus, effects);
        return remove(app, focus, effects);
    }
    let lines = vec![
        "What runs in it ends.".to_owned(),
        "To keep it running, detach instead (D after the prefix key).".to_owned(),
    ];
    ask(
        app,
        &format!("Close the terminal on {name}?"),
        lines,
        "Close it",
        true,
        Then::ClosePane(focus),
    );
}

/// Ends the session of a pane, and takes the pane away.
pub fn close_now(app: &mut App, id: PaneId, effects: &mut Vec<Effect>) {
    end(app, id, effects);
    remove(app, id, effects);
}

fn remove(app: &mut App, id: PaneId, effects: &mut Vec<Effect>) {
    let before = app.panes.focus();
    app.panes.remove(id);
    if app.panes.is_empty() && app.nav.here == Place::Panes {
        app.nav.back();
        moving::entered(app);
    }
    tell_focus(app, before.filter(|pane| *pane != id), effects);
}

/// Ends the session; the pane stays, and says so.
pub(super) fn end(app: &mut App, id: PaneId, effects: &mut Vec<Effect>) {
    let Some(state) = app.panes.all.get_mut(&id).filter(|pane| pane.session.is_open()) else {
        return;
    };
    state.session.end(End::Closed(Closed::new(CloseCode::ClosedByUser, "")));
    effects.push(request(id, TunnelCall::Close));
}

/// Leaves the session; what runs, runs on.
pub(super) fn detach(app: &mut App, id: PaneId, effects: &mut Vec<Effect>) {
    if let Some(state) = app.panes.all.get_mut(&id).filter(|pane| pane.session.is_open()) {
        state.session.end(End::Detached);
        effects.push(request(id, TunnelCall::Detach));
    }
}

/// Opens again what ended, in the same pane.
pub(super) fn reopen(app: &mut App, id: PaneId, effects: &mut Vec<Effect>) {
    if app.read_only
        && app.panes.get(id).is_some_and(|pane| matches!(pane.session.next(), Attach::New { .. }))
    {
        return app.toast("read-only: no new terminal can be opened", Tone::Warn);
    }
    let now = app.now;
    effects.extend(app.panes.reopen(id, now));
}

/// Names the pane in focus; no name is the device's.
pub fn rename(app: &mut App, name: &str) {
    let Some((_, state)) = app.panes.focused_mut() else { return };
    let device = state.device.as_ref().map_or_else(String::new, ToString::to_string);
    state.name = if name.trim().is_empty() { device } else { name.trim().to_owned() };
}

/// Opens a terminal on each device that the screen is about.
pub fn open_here(app: &mut App, record: Record) {
    let devices = crate::tui::app::subjects::devices_under(app);
    let most = crate::tui::pane::layout::PANES_MAX;
    match devices.len() {
        0 => app.toast("there is no device here to open a terminal on", Tone::Muted),
        n if n > most => {
            app.toast(
                format!("{n} devices are marked; at most {most} terminals at once"),
                Tone::Warn,
            );
        }
        _ => open_terminals(app, devices, record),
    }
}
