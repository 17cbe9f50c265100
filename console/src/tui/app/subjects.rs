//! What an action is about: the marked rows, the one under the cursor, the one that is shown.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{Command, Device},
    ids::DeviceId,
    live::Listing,
};

use super::{
    App,
    list::{MARKS_MAX, Mark},
    nav::Place,
    sweep::{self, Range, Sweep, What},
    update::device_mark,
    windows::listing,
};
use crate::tui::{
    effects::Effect,
    format,
    store::{Row, State, WindowKey},
    theme::Tone,
};

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

/// The devices that the rows of the screen are about: of the marked ones, else of the one under
/// the cursor, or the one that is shown.
pub fn devices_under(app: &App) -> Vec<DeviceId> {
    let named: Vec<String> = match &app.nav.here {
        Place::Device(id) => return vec![id.clone()],
        Place::Command(_) => return command(app).map(|row| row.device_id).into_iter().collect(),
        Place::Devices => subjects(app),
        _ => {
            let Some(table) = app.current_list() else { return Vec::new() };
            let window = app.store.window(table);
            let device = |key: String| {
                let row = window.find(&key)?;
                match listing(table) {
                    Listing::Commands => row.command().map(|row| row.device_id.to_string()),
                    Listing::Alerts => row.alert()?.device_id.as_ref().map(ToString::to_string),
                    Listing::Tunnels => row.tunnel().map(|row| row.device_id.to_string()),
                    Listing::Recordings => row.recording().map(|row| row.device_id.to_string()),
                    _ => None,
                }
            };
            let mut named: Vec<String> = subjects(app).into_iter().filter_map(device).collect();
            named.dedup();
            named
        }
    };
    named.iter().filter_map(|id| DeviceId::new(id).ok()).collect()
}

/// A device as the server has it now, where the screen shows one that may be it.
pub fn device<'a>(app: &'a App, id: &str) -> Option<&'a Device> {
    [WindowKey::DeviceRow, WindowKey::Devices, WindowKey::WizardDevices]
        .into_iter()
        .find_map(|key| app.store.live(key)?.find(id)?.device())
}

/// The command that the screen is about: the one shown, or the cursor's.
pub fn command(app: &App) -> Option<Command> {
    let row = match &app.nav.here {
        Place::Command(id) => app.store.window(WindowKey::CommandRow).find(&id.to_string()),
        Place::Commands => {
            let list = app.list(WindowKey::Commands);
            app.store.window(WindowKey::Commands).row(list.cursor)
        }
        Place::Device(_) if app.current_list() == Some(WindowKey::DeviceCommands) => {
            let list = app.list(WindowKey::DeviceCommands);
            app.store.window(WindowKey::DeviceCommands).row(list.cursor)
        }
        _ => None,
    };
    row.and_then(|row| row.command()).cloned()
}

/// What has to be known of a row when it is marked.
pub(super) fn mark_of_row(listing: Listing, row: &Row) -> Mark {
    match listing {
        Listing::Devices => row.device().map(device_mark).unwrap_or_default(),
        Listing::Commands => {
            Mark { kind: row.command().map(|command| command.kind.clone()), ..Mark::default() }
        }
        _ => Mark::default(),
    }
}

pub(super) fn mark_of(app: &App, key: WindowKey, at: u64) -> Option<(String, Mark)> {
    let row = app.store.window(key).row(at)?;
    Some((row.key.clone(), mark_of_row(listing(key), row)))
}

pub(super) fn mark(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let at = app.list(key).cursor;
    let Some((row, mark)) = mark_of(app, key, at) else { return };
    if key == WindowKey::WizardDevices && mark.is_retired() {
        app.toast(format!("{row} is retired: it takes no commands"), Tone::Warn);
        return;
    }
    if !app.list_mut(key).toggle(&row, mark) {
        let most = format::count(MARKS_MAX as u64);
        app.toast(format!("{most} rows are marked; no more can be"), Tone::Warn);
    }
}

/// Said until the range is made.
const RANGE_BEGINS: &str = "range begins here: move, then V again";

/// Marks from the row where `V` was pressed before to the cursor's, also those that are not loaded.
pub(super) fn mark_range(app: &mut App, effects: &mut Vec<Effect>) {
    let Some(key) = app.current_list() else { return };
    let Some(end) = under_cursor(app, key) else { return };
    let Some(begin) = app.list_mut(key).anchor.take() else {
        app.list_mut(key).anchor = Some(end);
        app.toast(RANGE_BEGINS, Tone::Muted);
        return;
    };
    app.toasts.retain(|toast| toast.text != RANGE_BEGINS);
    let window = app.store.window(key);
    let (Some(from), Some(to)) = (window.position(&begin), window.position(&end)) else {
        let range = Some(Range::new([begin, end]));
        let what = What::Mark { marks: BTreeMap::new(), range };
        let sweep = Sweep::over(app, key, what);
        sweep::begin(app, sweep, effects);
        return;
    };
    app.list_mut(key).left_out = 0;
    let marks: Vec<_> =
        (from.min(to)..=from.max(to)).filter_map(|at| mark_of(app, key, at)).collect();
    mark_these(app, key, marks);
}

/// Marks every row that the filter lets through, save retired devices; unmarks them when all are
/// marked.
pub(super) fn mark_all(app: &mut App, effects: &mut Vec<Effect>) {
    let Some(key) = app.current_list() else { return };
    let window = app.store.window(key);
    if window.state == State::Loading {
        app.toast("the rows are still loading", Tone::Muted);
        return;
    }
    let (loaded, total) = (window.rows().len() as u64, window.total);
    let list = app.list(key);
    let is_retired = |row: &Row| mark_of_row(listing(key), row).is_retired();
    let is_all = !list.marks.is_empty()
        && list.marks.len() as u64 + list.left_out >= total
        && window.rows().iter().all(|row| list.marks.contains_key(&row.key) || is_retired(row));
    if is_all {
        app.list_mut(key).marks.clear();
        return;
    }
    if total > MARKS_MAX as u64 {
        let (total, most) = (format::count(total), format::count(MARKS_MAX as u64));
        app.toast(
            format!("{total} rows match; at most {most} can be marked: filter first"),
            Tone::Warn,
        );
        return;
    }
    if loaded == total {
        let all = (0..total).filter_map(|at| mark_of(app, key, at));
        let (retired, marks): (Vec<_>, Vec<_>) = all.partition(|(_, mark)| mark.is_retired());
        app.list_mut(key).left_out = retired.len() as u64;
        mark_these(app, key, marks);
        return;
    }
    let sweep = Sweep::over(app, key, What::Mark { marks: BTreeMap::new(), range: None });
    sweep::begin(app, sweep, effects);
}

fn mark_these(app: &mut App, key: WindowKey, marks: Vec<(String, Mark)>) {
    let n = marks.len() as u64;
    let list = app.list_mut(key);
    if !marks.into_iter().all(|(row, mark)| list.mark(&row, mark)) {
        let most = format::count(MARKS_MAX as u64);
        app.toast(format!("{most} rows are marked; no more can be"), Tone::Warn);
        return;
    }
    say_marked(app, key, n);
}

/// Says how many were marked, and how many were not since they are retired.
pub(super) fn say_marked(app: &mut App, key: WindowKey, n: u64) {
    let left_out = match app.list(key).left_out {
        0 => String::new(),
        1 => "; 1 retired device is left out".to_owned(),
        n => format!("; {} retired devices are left out", format::count(n)),
    };
    app.toast(format!("marked {}{left_out}", format::count(n)), Tone::Good);
}
