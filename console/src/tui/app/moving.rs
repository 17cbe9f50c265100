//! Moving about: rows, pages, tabs, screens, and what Enter leads to.

use super::{
    App, Viewer,
    actions::Action,
    dialog::{Entry, FormPurpose, Overlay},
    document,
    doing::open_project,
    nav::Place,
    people, player,
    subjects::under_cursor,
    tabs::{CommandTab, DeviceTab, UsersTab},
    tunnels,
    wizard::Wizard,
};
use crate::tui::{
    effects::Effect,
    store::{Row, WindowKey},
    theme::Tone,
};
use quarterdeck_protocol::{
    api::AuditEntry,
    ids::{CommandId, DeviceId},
};

/// How far back a shift handover looks for failures: the longest shift, in milliseconds.
const SHIFT_MS: i64 = 12 * 3_600 * 1_000;

pub(super) fn step(app: &mut App, by: i64) {
    match app.current_list() {
        Some(key) => {
            let window = app.store.window(key);
            app.lists.entry(key).or_default().step(by, window);
        }
        None => scroll_viewer(app, by),
    }
}

pub(super) fn page(app: &mut App, direction: i64, parts: i64) {
    if let Some(key) = app.current_list() {
        let window = app.store.window(key);
        app.lists.entry(key).or_default().page(direction, parts, window);
    } else {
        let rows = app.layout.viewer.map_or(10, |(area, _)| i64::from(area.height));
        scroll_viewer(app, direction * (rows / parts).max(1));
    }
}

/// Scrolls the text that has the focus; at its end it follows what comes.
pub fn scroll_viewer(app: &mut App, by: i64) {
    if document::step(app, by) {
        return;
    }
    let (rows, lines) =
        app.layout.viewer.map_or((1, 0), |(area, lines)| (usize::from(area.height), lines));
    let last = lines.saturating_sub(rows);
    let by = isize::try_from(by).unwrap_or(0);
    let from = if app.viewer.follow { last } else { app.viewer.top };
    app.viewer.top = from.saturating_add_signed(by).min(last);
    app.viewer.follow = app.viewer.follow && by >= 0;
}

/// Goes to a screen.
pub fn go(app: &mut App, to: Place) {
    if to != app.nav.here {
        app.nav.go(to);
        entered(app);
    }
}

pub(super) fn entered(app: &mut App) {
    app.viewer = Viewer { follow: true, ..Viewer::default() };
    app.peek.focused = false;
    app.health_due = None;
    // Only what grows is read from its end.
    if !matches!(app.nav.here, Place::Commands) {
        app.viewer.follow = false;
    }
    if app.nav.here == Place::Handover {
        app.handover_from = Some(app.server_now().plus_millis(-SHIFT_MS));
    }
    if app.nav.here == Place::NewCommand && app.wizard.is_none() {
        // Marks of the one before are its own.
        app.list_mut(WindowKey::WizardDevices).marks.clear();
        app.wizard = Some(Wizard::new(std::collections::BTreeMap::new()));
    }
}

/// Shows a tab by its number.
pub fn show_tab(app: &mut App, index: usize) {
    let by = |now: usize| index as isize - now as isize;
    match app.nav.here {
        Place::Device(_) => turn_tab(app, by(app.tabs.device.index())),
        Place::Command(_) => turn_tab(app, by(app.tabs.command.index())),
        Place::Users => turn_tab(app, by(app.tabs.users.index())),
        _ => {}
    }
}

pub(super) fn turn_tab(app: &mut App, by: isize) {
    match app.nav.here {
        Place::Device(_) => app.tabs.device = app.tabs.device.step(by),
        Place::Command(_) => app.tabs.command = app.tabs.command.step(by),
        Place::Users => app.tabs.users = app.tabs.users.step(by),
        _ => return,
    }
    let follow = app.tabs.command == CommandTab::Logs;
    app.viewer = Viewer { follow, ..Viewer::default() };
}

pub(super) fn focus(app: &mut App, by: isize) {
    if app.nav.here == Place::Commands {
        if app.peek.hidden {
            app.peek.hidden = false;
        }
        app.peek.focused = !app.peek.focused && app.layout.viewer.is_some();
    } else {
        turn_tab(app, by);
    }
}

pub(super) fn back(app: &mut App) {
    if app.peek.focused {
        app.peek.focused = false;
        return;
    }
    if let Some(key) = app.current_list() {
        let list = app.list_mut(key);
        if !list.marks.is_empty() || list.anchor.is_some() {
            list.marks.clear();
            list.anchor = None;
            return;
        }
        if !list.filter.is_empty() {
            list.filter.clear();
            list.restart();
            return;
        }
    } else if !app.viewer.search.is_empty() {
        app.viewer.search.clear();
        return;
    }
    if app.nav.back() {
        entered(app);
    }
}

pub(super) fn open(app: &mut App, effects: &mut Vec<Effect>) {
    match &app.nav.here {
        Place::Overview => {
            if under_cursor(app, WindowKey::OpenAlerts).is_some() {
                alert_jump(app);
            } else {
                go(app, Place::Alerts);
            }
        }
        Place::Devices => {
            let id = under_cursor(app, WindowKey::Devices).and_then(|id| DeviceId::new(&id).ok());
            if let Some(id) = id {
                app.tabs.device = DeviceTab::default();
                go(app, Place::Device(id));
            }
        }
        Place::Commands => open_command(app, WindowKey::Commands),
        Place::Device(_) if app.tabs.device == DeviceTab::Timeline => open_of_timeline(app),
        Place::Device(_) => open_command(app, WindowKey::DeviceCommands),
        Place::Alerts => alert_jump(app),
        Place::Users => match app.tabs.users {
            UsersTab::Projects => open_project(app, effects),
            UsersTab::Users | UsersTab::Members => match app.available(Action::MemberRole) {
                Ok(()) => people::open(app, FormPurpose::SetMember),
                Err(why) => app.toast(why, Tone::Warn),
            },
            UsersTab::Tokens => {}
        },
        Place::Audit => audit_jump(app),
        Place::Command(_) => document::fold(app),
        Place::Tunnels => tunnels::open(app, effects),
        Place::Recordings => {
            if let Some(id) = under_cursor(app, WindowKey::Recordings) {
                player::open(app, id, effects);
            }
        }
        Place::NewCommand | Place::Handover | Place::Panes | Place::Player(_) => {}
    }
}

pub(super) fn open_command(app: &mut App, key: WindowKey) {
    let id = under_cursor(app, key).and_then(|id| id.parse::<CommandId>().ok());
    if let Some(id) = id {
        app.tabs.command = CommandTab::default();
        go(app, Place::Command(id));
    }
}

/// Shows the command that an entry of a device's timeline is about.
fn open_of_timeline(app: &mut App) {
    let table = WindowKey::DeviceTimeline;
    let entry = app.store.window(table).row(app.list(table).cursor).and_then(Row::timeline);
    match entry.map(|entry| entry.command_id) {
        Some(Some(id)) => {
            app.tabs.command = CommandTab::default();
            go(app, Place::Command(id));
        }
        Some(None) => app.toast("this entry is about no command", Tone::Muted),
        None => {}
    }
}

/// Shows the commands that a filter finds.
pub(super) fn show_commands(app: &mut App, filter: &str) {
    let list = app.list_mut(WindowKey::Commands);
    filter.clone_into(&mut list.filter);
    list.restart();
    go(app, Place::Commands);
}

pub(super) fn alert_jump(app: &mut App) {
    let key =
        if app.nav.here == Place::Overview { WindowKey::OpenAlerts } else { WindowKey::Alerts };
    let window = app.store.window(key);
    let alert = window.row(app.list(key).cursor).and_then(|row| row.alert());
    let Some(alert) = alert else { return };
    let to = match (&alert.command_id, &alert.device_id) {
        (Some(command), _) => Place::Command(*command),
        (None, Some(device)) => Place::Device(device.clone()),
        (None, None) => Place::Alerts,
    };
    if to == app.nav.here {
        app.toast("this alert is about no one device or command", Tone::Muted);
    }
    go(app, to);
}

pub(super) fn audit_jump(app: &mut App) {
    let list = app.list(WindowKey::Audit);
    let entry = app.store.window(WindowKey::Audit).row(list.cursor).and_then(|row| row.audit());
    let Some(entry) = entry else { return };
    match audit_place(entry) {
        Some(Place::Tunnels) => {
            // With the cursor on it, where it is among the newest.
            let id = entry.object.split_once(':').map(|(_, id)| id.to_owned());
            let list = app.list_mut(WindowKey::Tunnels);
            list.filter.clear();
            list.restart();
            list.key = id;
            go(app, Place::Tunnels);
        }
        Some(place) => go(app, place),
        None => app.toast("what this entry is about has no screen", Tone::Muted),
    }
}

/// Shows the audit entry under the cursor as a whole.
pub(super) fn show_entry(app: &mut App) {
    let list = app.list(WindowKey::Audit);
    let entry = app.store.window(WindowKey::Audit).row(list.cursor).and_then(Row::audit);
    if let Some(entry) = entry {
        let entry = Box::new(entry.clone());
        app.overlay = Some(Overlay::Entry(Entry { entry, top: 0 }));
    }
}

/// The screen of what an audit entry is about.
pub fn audit_place(entry: &AuditEntry) -> Option<Place> {
    entry.object.split_once(':').and_then(|(kind, id)| match kind {
        "device" => DeviceId::new(id).ok().map(Place::Device),
        "command" => id.parse().ok().map(Place::Command),
        "tunnel" => Some(Place::Tunnels),
        _ => None,
    })
}
