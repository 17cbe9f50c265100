//! What an action is about: the marked rows, the one under the cursor, the one that is shown.

use quarterdeck_protocol::api::Device;

use super::{App, list::Mark, nav::Place, update::device_mark};
use crate::tui::{
    store::{CommandRow, WindowKey},
    theme::Tone,
};

/// The most rows that one range marks: those that are loaded.
const MARK_RANGE_MAX: u64 = 2_000;

/// The key of the row under the cursor.
pub fn under_cursor(app: &App, key: WindowKey) -> Option<String> {
    let list = app.list(key);
    app.store.window(key).row(list.cursor).map(|row| row.key.clone())
}

/// The marked rows, else the one under the cursor.
pub fn subjects(app: &App) -> Vec<String> {
    let Some(key) = app.current_list() else { return Vec::new() };
    let list = app.list(key);
    if list.marks.is_empty() {
        under_cursor(app, key).into_iter().collect()
    } else {
        list.marks.keys().cloned().collect()
    }
}

pub(super) fn subjects_devices(app: &App) -> Vec<String> {
    match &app.nav.here {
        Place::Device(id) => vec![id.to_string()],
        Place::Devices => subjects(app),
        _ => Vec::new(),
    }
}

pub(super) fn subjects_commands(app: &App) -> Vec<String> {
    match &app.nav.here {
        Place::Command(id) => vec![id.to_string()],
        Place::Commands if app.peek.focused => {
            under_cursor(app, WindowKey::Commands).into_iter().collect()
        }
        Place::Commands => subjects(app),
        Place::Device(_) if app.current_list() == Some(WindowKey::DeviceCommands) => subjects(app),
        _ => Vec::new(),
    }
}

/// A device that some window holds.
pub fn device<'a>(app: &'a App, id: &str) -> Option<&'a Device> {
    [WindowKey::Devices, WindowKey::DeviceRow, WindowKey::WizardDevices]
        .into_iter()
        .find_map(|key| app.store.window(key).find(id)?.device())
}

/// The command that the screen is about: the one shown, or the cursor's.
pub fn command(app: &App) -> Option<CommandRow> {
    let row = match &app.nav.here {
        Place::Command(id) => app.store.window(WindowKey::CommandRow).find(&id.to_string()),
        Place::Commands => {
            let list = app.list(WindowKey::Commands);
            app.store.window(WindowKey::Commands).row(list.cursor)
        }
        Place::Device(_) => {
            let list = app.list(WindowKey::DeviceCommands);
            app.store.window(WindowKey::DeviceCommands).row(list.cursor)
        }
        _ => None,
    };
    row.and_then(|row| row.command()).cloned()
}

pub(super) fn mark_of(app: &App, key: WindowKey, at: u64) -> Option<(String, Mark)> {
    let row = app.store.window(key).row(at)?;
    Some((row.key.clone(), row.device().map(device_mark).unwrap_or_default()))
}

pub(super) fn mark(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let at = app.list(key).cursor;
    let Some((row, mark)) = mark_of(app, key, at) else { return };
    if !app.list_mut(key).toggle(&row, mark) {
        app.toast("10 000 rows are marked; no more fit one batch", Tone::Warn);
    }
}

pub(super) fn mark_range(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let list = app.list_mut(key);
    let Some(anchor) = list.anchor.take() else {
        list.anchor = Some(list.cursor);
        app.toast("range begins here: move, then V again", Tone::Muted);
        return;
    };
    let (from, to) = (anchor.min(list.cursor), anchor.max(list.cursor));
    let rows = to - from + 1;
    let mut marked = 0;
    for at in from..=to.min(from + MARK_RANGE_MAX) {
        if let Some((row, mark)) = mark_of(app, key, at) {
            marked += u64::from(app.list_mut(key).mark(&row, mark));
        }
    }
    if marked < rows {
        let text =
            format!("marked {marked} of {rows}: the others are not loaded; use a filter and `A`");
        app.toast(text, Tone::Warn);
    }
}
