//! What each action does.

use quarterdeck_protocol::{
    api::{CancelCommands, CreateCommands, Device, Targets},
    ids::{CommandId, DeviceId},
    limits::BULK_MAX_COMMANDS,
};

use super::{
    App, Viewer,
    actions::{ACTIONS, Action, Context, Needs},
    calls::Purpose,
    columns::{columns, noun},
    dialog::{
        Confirm, FormPurpose, Menu, Overlay, Pick, PickItem, PickPurpose, Prompt, PromptKind, Then,
    },
    field::TextField,
    list::Mark,
    nav::{Place, SCREENS},
    palette::Palette,
    people,
    tabs::UsersTab,
    update::device_mark,
    wall::WallState,
    wizard::{Wizard, command_line},
};
use crate::tui::{
    effects::{ApiRequest, Effect, NetRequest, RequestId},
    format,
    store::{CommandRow, WindowKey},
    theme::Tone,
    view::texts,
};

/// The most rows of an export: those that are loaded.
const MARK_RANGE_MAX: u64 = 2_000;

/// Does an action, or says why it cannot be done.
pub fn perform(app: &mut App, action: Action) -> Vec<Effect> {
    let action = resolve(app, action);
    if let Err(why) = app.available(action) {
        app.toast(why, Tone::Warn);
        return Vec::new();
    }
    let mut effects = Vec::new();
    match action {
        Action::Up => step(app, -1),
        Action::Down => step(app, 1),
        Action::PageUp => page(app, -1, 1),
        Action::PageDown => page(app, 1, 1),
        Action::HalfUp => page(app, -1, 2),
        Action::HalfDown => page(app, 1, 2),
        Action::First => match app.current_list() {
            Some(key) => app.list_mut(key).first(),
            None => app.viewer = Viewer { top: 0, follow: false, ..std::mem::take(&mut app.viewer) },
        },
        Action::Last => match app.current_list() {
            Some(key) => {
                let window = app.store.window(key);
                let last = window.total.saturating_sub(1);
                app.lists.entry(key).or_default().go(last, window);
            }
            None => app.viewer.follow = true,
        },
        Action::Left => turn_tab(app, -1),
        Action::Right => turn_tab(app, 1),
        Action::FocusNext => focus(app, 1),
        Action::FocusPrevious => focus(app, -1),
        Action::Open => open(app, &mut effects),
        Action::Back => back(app),
        Action::HistoryBack => {
            app.nav.back();
            entered(app);
        }
        Action::HistoryForward => {
            app.nav.forward();
            entered(app);
        }
        Action::Palette => app.overlay = Some(Overlay::Palette(Palette::open(app))),
        Action::Filter => prompt_filter(app),
        Action::ClearFilter => {
            if let Some(key) = app.current_list() {
                let list = app.list_mut(key);
                list.filter.clear();
                list.restart();
            }
        }
        Action::Search => prompt(app, PromptKind::Search, &app.viewer.search.clone()),
        Action::NextMatch => next_match(app, 1),
        Action::PreviousMatch => next_match(app, -1),
        Action::Jump => prompt(app, PromptKind::Jump, ""),
        Action::Sort => pick_sort(app),
        Action::Columns => pick_columns(app),
        Action::Views => pick_views(app),
        Action::Mark => {
            mark(app);
            step(app, 1);
        }
        Action::MarkRange => mark_range(app),
        Action::Unmark => {
            if let Some(key) = app.current_list() {
                let list = app.list_mut(key);
                list.marks.clear();
                list.anchor = None;
            }
        }
        Action::Copy => copy(app, &mut effects),
        Action::Export => export(app, &mut effects),
        Action::ScreenDump => app.dump = true,
        Action::Menu => menu(app),
        Action::New => new_command(app),
        Action::Undo => undo(app),
        Action::Help => app.overlay = Some(Overlay::Help(0)),
        Action::Freeze => freeze(app),
        Action::Wall => {
            app.wall = Some(WallState::new(std::time::Duration::from_secs(15), app.now, false));
            go(app, Place::Overview);
        }
        Action::Redraw => app.redraw = true,
        Action::Quit => quit(app, &mut effects),
        Action::Screen(n) => {
            if let Some((place, _)) = SCREENS.get(usize::from(n).wrapping_sub(1)) {
                go(app, place.clone());
            }
        }
        Action::AlertsScreen => go(app, Place::Alerts),
        Action::DeviceCommands => {
            if let Some(id) = subjects_devices(app).first() {
                let filter = format!("device:{id}");
                show_commands(app, &filter);
            }
        }
        Action::DeviceTags => {
            let ids = subjects_devices(app);
            if !ids.is_empty() {
                people::open(app, FormPurpose::DeviceTags { ids });
            }
        }
        Action::DeviceClearFailed => clear_failed(app, &mut effects),
        Action::DeviceRetire => retire(app),
        Action::CommandCancel => cancel(app),
        Action::CommandRetry => retry(app),
        Action::CommandDevice => {
            if let Some(row) = command(app) {
                let place = Place::Device(row.command.device_id.clone());
                go(app, place);
            }
        }
        Action::CommandBatch => {
            if let Some(row) = command(app) {
                let filter = format!("batch:{}", row.command.batch_id);
                show_commands(app, &filter);
            }
        }
        Action::CommandCli => copy_cli(app, &mut effects),
        Action::CommandSave => {
            if let Place::Command(id) = app.nav.here {
                let path = std::path::PathBuf::from(format!("{id}.out"));
                let purpose = Purpose::Say("saved".to_owned());
                call(app, ApiRequest::SaveOutput { id, path }, purpose, &mut effects);
            }
        }
        Action::AlertJump => alert_jump(app),
        Action::AlertAcknowledge => {
            for id in subjects(app) {
                let purpose =
                    Purpose::Rows { doing: "acknowledge".to_owned(), keys: vec![id.clone()] };
                call(app, ApiRequest::AcknowledgeAlert { id }, purpose, &mut effects);
            }
        }
        Action::AlertSilence => {
            let ids = subjects(app);
            if !ids.is_empty() {
                people::open(app, FormPurpose::Silence { ids });
            }
        }
        Action::UserCreate => people::open(app, FormPurpose::CreateUser),
        Action::UserPassword => {
            if let Some(username) = under_cursor(app, WindowKey::Users) {
                people::open(app, FormPurpose::Password { username });
            }
        }
        Action::UserDisable => disable_user(app),
        Action::UserEnable => {
            if let Some(username) = under_cursor(app, WindowKey::Users) {
                let change = quarterdeck_protocol::api::ChangeUser {
                    disabled: Some(false),
                    ..Default::default()
                };
                let purpose =
                    Purpose::Rows { doing: "enable".to_owned(), keys: vec![username.clone()] };
                call(app, ApiRequest::ChangeUser { username, change }, purpose, &mut effects);
            }
        }
        Action::MemberRole => people::open(app, FormPurpose::SetMember),
        Action::MemberRemove => remove_member(app),
        Action::ProjectCreate => people::open(app, FormPurpose::CreateProject),
        Action::ProjectOpen => open_project(app, &mut effects),
        Action::TokenCreate => people::open(app, FormPurpose::CreateToken),
        Action::TokenRevoke => revoke_token(app),
        Action::WizardSelectAll => super::wizard_input::mark_all(app),
        Action::WizardNext => super::wizard_input::next(app),
    }
    effects
}

/// One key, one idea: "new" means what the tab is about.
fn resolve(app: &App, action: Action) -> Action {
    let on = |tab| app.nav.here == Place::Users && app.tabs.users == tab;
    match action {
        Action::UserCreate if on(UsersTab::Projects) => Action::ProjectCreate,
        Action::UserCreate if on(UsersTab::Tokens) => Action::TokenCreate,
        Action::UserCreate if on(UsersTab::Members) => Action::MemberRole,
        other => other,
    }
}

// --- calls ------------------------------------------------------------------------

/// Sends a request, and remembers what its answer is for.
pub fn call(app: &mut App, call: ApiRequest, purpose: Purpose, effects: &mut Vec<Effect>) {
    call_with_id(app, call, purpose, effects);
}

/// As [`call`]; `None` when too many are under way.
pub fn call_with_id(
    app: &mut App,
    call: ApiRequest,
    purpose: Purpose,
    effects: &mut Vec<Effect>,
) -> Option<RequestId> {
    let is_submit = purpose == Purpose::Submit;
    let Some(id) = app.calls.begin(purpose, app.now) else {
        app.toast("too much is under way: wait for the server's answers", Tone::Bad);
        return None;
    };
    if is_submit && let Some(wizard) = &mut app.wizard {
        wizard.pending = Some(id);
    }
    effects.push(Effect::Net(NetRequest::Call { id, call }));
    Some(id)
}

/// A question, with Cancel preselected.
pub fn ask(app: &mut App, title: &str, lines: Vec<String>, proceed: &str, danger: bool, then: Then) {
    ask_typed(app, title, lines, proceed, danger, None, then);
}

/// A question that needs a name typed first.
pub fn ask_typed(
    app: &mut App,
    title: &str,
    lines: Vec<String>,
    proceed: &str,
    danger: bool,
    typed: Option<String>,
    then: Then,
) {
    app.overlay = Some(Overlay::Confirm(Box::new(Confirm {
        title: title.to_owned(),
        lines,
        proceed: proceed.to_owned(),
        danger,
        typed,
        field: TextField::default(),
        on_proceed: false,
        then,
    })));
}

// --- moving -----------------------------------------------------------------------

fn step(app: &mut App, by: i64) {
    match app.current_list() {
        Some(key) => {
            let window = app.store.window(key);
            app.lists.entry(key).or_default().step(by, window);
        }
        None => scroll_viewer(app, by),
    }
}

fn page(app: &mut App, direction: i64, parts: i64) {
    match app.current_list() {
        Some(key) => {
            let window = app.store.window(key);
            app.lists.entry(key).or_default().page(direction, parts, window);
        }
        None => {
            let rows = app.layout.viewer.map_or(10, |(area, _)| i64::from(area.height));
            scroll_viewer(app, direction * (rows / parts).max(1));
        }
    }
}

/// Scrolls the text that has the focus; at its end it follows what comes.
pub fn scroll_viewer(app: &mut App, by: i64) {
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

fn entered(app: &mut App) {
    app.viewer = Viewer { follow: true, ..Viewer::default() };
    app.peek.focused = false;
    app.health_due = None;
    if let Place::Command(_) | Place::Device(_) = app.nav.here {
        app.viewer.follow = false;
    }
    if app.nav.here == Place::NewCommand && app.wizard.is_none() {
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

fn turn_tab(app: &mut App, by: isize) {
    match app.nav.here {
        Place::Device(_) => app.tabs.device = app.tabs.device.step(by),
        Place::Command(_) => app.tabs.command = app.tabs.command.step(by),
        Place::Users => app.tabs.users = app.tabs.users.step(by),
        _ => return,
    }
    let follow = app.tabs.command == super::tabs::CommandTab::Logs;
    app.viewer = Viewer { follow, ..Viewer::default() };
}

fn focus(app: &mut App, by: isize) {
    if app.nav.here == Place::Commands {
        if app.peek.hidden {
            app.peek.hidden = false;
        }
        app.peek.focused = !app.peek.focused && app.layout.viewer.is_some();
    } else {
        turn_tab(app, by);
    }
}

fn back(app: &mut App) {
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

fn open(app: &mut App, effects: &mut Vec<Effect>) {
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
                app.tabs.device = super::tabs::DeviceTab::default();
                go(app, Place::Device(id));
            }
        }
        Place::Commands => open_command(app, WindowKey::Commands),
        Place::Device(_) => open_command(app, WindowKey::DeviceCommands),
        Place::Alerts => alert_jump(app),
        Place::Users => match app.tabs.users {
            UsersTab::Projects => open_project(app, effects),
            UsersTab::Users | UsersTab::Members => {
                if app.available(Action::MemberRole).is_ok() {
                    people::open(app, FormPurpose::SetMember);
                }
            }
            UsersTab::Tokens => {}
        },
        Place::Audit => audit_jump(app),
        Place::Command(_) | Place::NewCommand => {}
    }
}

fn open_command(app: &mut App, key: WindowKey) {
    let id = under_cursor(app, key).and_then(|id| id.parse::<CommandId>().ok());
    if let Some(id) = id {
        app.tabs.command = super::tabs::CommandTab::default();
        go(app, Place::Command(id));
    }
}

/// Shows the commands that a filter finds.
fn show_commands(app: &mut App, filter: &str) {
    let list = app.list_mut(WindowKey::Commands);
    filter.clone_into(&mut list.filter);
    list.restart();
    go(app, Place::Commands);
}

fn alert_jump(app: &mut App) {
    let key = if app.nav.here == Place::Overview { WindowKey::OpenAlerts } else { WindowKey::Alerts };
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

fn audit_jump(app: &mut App) {
    let list = app.list(WindowKey::Audit);
    let entry = app.store.window(WindowKey::Audit).row(list.cursor).and_then(|row| row.audit());
    let Some(entry) = entry else { return };
    let place = entry.object.split_once(':').and_then(|(kind, id)| match kind {
        "device" => DeviceId::new(id).ok().map(Place::Device),
        "command" => id.parse().ok().map(Place::Command),
        _ => None,
    });
    if let Some(place) = place {
        go(app, place);
    }
}

// --- what the action is about --------------------------------------------------------

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

fn subjects_devices(app: &App) -> Vec<String> {
    match &app.nav.here {
        Place::Device(id) => vec![id.to_string()],
        Place::Devices => subjects(app),
        _ => Vec::new(),
    }
}

fn subjects_commands(app: &App) -> Vec<String> {
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

fn mark_of(app: &App, key: WindowKey, at: u64) -> Option<(String, Mark)> {
    let row = app.store.window(key).row(at)?;
    Some((row.key.clone(), row.device().map(device_mark).unwrap_or_default()))
}

fn mark(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let at = app.list(key).cursor;
    let Some((row, mark)) = mark_of(app, key, at) else { return };
    if !app.list_mut(key).toggle(&row, mark) {
        app.toast("10 000 rows are marked; no more fit one batch", Tone::Warn);
    }
}

fn mark_range(app: &mut App) {
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
        let text = format!("marked {marked} of {rows}: the others are not loaded; use a filter and `A`");
        app.toast(text, Tone::Warn);
    }
}

// --- prompts and pickers ---------------------------------------------------------------

fn prompt(app: &mut App, kind: PromptKind, before: &str) {
    let field = TextField::new(before);
    app.overlay = Some(Overlay::Prompt(Prompt { kind, field, before: before.to_owned() }));
}

fn prompt_filter(app: &mut App) {
    if let Some(key) = app.current_list() {
        let before = app.list(key).filter.clone();
        let padded = if before.is_empty() { before } else { format!("{before} ") };
        app.overlay = Some(Overlay::Prompt(Prompt {
            kind: PromptKind::Filter(key),
            field: {
                let mut field = TextField::default();
                for c in padded.chars() {
                    field.edit(&crate::tui::term::input::Input::Key(
                        crate::tui::term::input::Key::char(c),
                    ));
                }
                field
            },
            before: padded,
        }));
    }
}

/// Takes what was typed at the bottom.
pub fn prompted(app: &mut App, kind: PromptKind, text: &str) -> Vec<Effect> {
    match kind {
        PromptKind::Filter(key) => {
            let list = app.list_mut(key);
            if list.filter != text {
                text.clone_into(&mut list.filter);
                list.restart();
            }
        }
        PromptKind::Search => {
            text.clone_into(&mut app.viewer.search);
            next_match(app, 0);
        }
        PromptKind::Jump => jump(app, text),
    }
    Vec::new()
}

fn jump(app: &mut App, text: &str) {
    if text.is_empty() {
        return;
    }
    if let Ok(row) = text.replace(' ', "").parse::<u64>() {
        if let Some(key) = app.current_list() {
            let window = app.store.window(key);
            app.lists.entry(key).or_default().go(row.saturating_sub(1), window);
        }
    } else if let Ok(id) = text.parse::<CommandId>() {
        go(app, Place::Command(id));
    } else if let Ok(id) = DeviceId::new(text) {
        go(app, Place::Device(id));
    } else {
        app.toast(format!("{text:?} is no row number, device or command"), Tone::Warn);
    }
}

fn next_match(app: &mut App, by: isize) {
    if app.viewer.search.is_empty() {
        return;
    }
    let matches = texts::matches(app);
    let at = if app.viewer.follow { usize::MAX } else { app.viewer.top };
    let next = match by {
        0 => matches.iter().find(|line| **line >= at).or_else(|| matches.first()),
        1.. => matches.iter().find(|line| **line > at).or_else(|| matches.first()),
        _ => matches.iter().rev().find(|line| **line < at).or_else(|| matches.last()),
    };
    match next {
        Some(line) => {
            app.viewer.top = *line;
            app.viewer.follow = false;
        }
        None => app.toast(format!("{:?} is not in the text", app.viewer.search), Tone::Warn),
    }
}

fn pick_sort(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let now = app.list(key).sort.clone();
    let now = now.or_else(|| super::windows::default_sort(key).map(str::to_owned));
    let items: Vec<PickItem> = columns(key)
        .iter()
        .filter_map(|column| {
            let by = column.sort?;
            let note = match now.as_deref() {
                Some(sort) if sort == by => "ascending now; again for descending",
                Some(sort) if sort.strip_prefix('-') == Some(by) => {
                    "descending now; again for ascending"
                }
                _ => "",
            };
            // A column that is sorted by turns round.
            let value = if now.as_deref() == Some(by) { format!("-{by}") } else { by.to_owned() };
            let label = column.title.to_lowercase();
            Some(PickItem { label, note: note.to_owned(), value, ticked: None })
        })
        .collect();
    if items.is_empty() {
        app.toast("this table has one order", Tone::Muted);
        return;
    }
    let cursor = items.iter().position(|item| !item.note.is_empty()).unwrap_or(0);
    let purpose = PickPurpose::Sort(key);
    app.overlay = Some(Overlay::Pick(Pick { title: "Sort by".to_owned(), items, cursor, purpose }));
}

fn pick_columns(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let hidden = &app.list(key).hidden;
    let items: Vec<PickItem> = columns(key)
        .iter()
        .filter(|column| column.rank > 0)
        .map(|column| PickItem {
            label: column.title.to_lowercase(),
            note: String::new(),
            value: column.id.to_owned(),
            ticked: Some(!hidden.contains(column.id)),
        })
        .collect();
    let purpose = PickPurpose::Columns(key);
    let title = "Columns".to_owned();
    app.overlay = Some(Overlay::Pick(Pick { title, items, cursor: 0, purpose }));
}

/// The value of the entry that saves the table as it is.
const SAVE_VIEW: &str = "";

fn pick_views(app: &mut App) {
    let Some(key) = app.current_list() else { return };
    let mut items = vec![PickItem {
        label: "Save this view as ...".to_owned(),
        note: String::new(),
        value: SAVE_VIEW.to_owned(),
        ticked: None,
    }];
    if let Some(views) = app.views.views.get(noun(key)) {
        items.extend(views.iter().map(|(name, view)| PickItem {
            label: name.clone(),
            note: view.filter.clone(),
            value: name.clone(),
            ticked: None,
        }));
    }
    let cursor = usize::from(items.len() > 1);
    let purpose = PickPurpose::Views(key);
    app.overlay =
        Some(Overlay::Pick(Pick { title: "Views (D forgets one)".to_owned(), items, cursor, purpose }));
}

/// Takes what was chosen from a list.
pub fn picked(app: &mut App, purpose: PickPurpose, value: &str) -> Vec<Effect> {
    match purpose {
        PickPurpose::Sort(key) => {
            let list = app.list_mut(key);
            list.sort = Some(value.to_owned());
            list.restart();
        }
        PickPurpose::Columns(_) => {}
        PickPurpose::Views(_) if value == SAVE_VIEW => people::open(app, FormPurpose::SaveView),
        PickPurpose::Views(key) => {
            let view = app.views.views.get(noun(key)).and_then(|views| views.get(value)).cloned();
            if let Some(view) = view {
                let list = app.list_mut(key);
                list.filter = view.filter;
                list.sort = view.sort;
                list.hidden = view.hidden;
                list.restart();
            }
        }
    }
    Vec::new()
}

/// Forgets the view under the cursor.
pub fn forget_view(app: &mut App, mut pick: Pick) -> Vec<Effect> {
    let mut effects = Vec::new();
    if let PickPurpose::Views(key) = pick.purpose
        && let Some(item) = pick.items.get(pick.cursor).filter(|item| item.value != SAVE_VIEW)
        && let Some(views) = app.views.views.get_mut(noun(key))
    {
        views.remove(&item.value);
        pick.items.remove(pick.cursor);
        pick.cursor = pick.cursor.min(pick.items.len().saturating_sub(1));
        effects.push(Effect::SaveState(app.views.to_text()));
    }
    app.overlay = Some(Overlay::Pick(pick));
    effects
}

/// Saves how the table is shown under a name.
pub fn save_view(app: &mut App, name: &str) -> Vec<Effect> {
    let Some(key) = app.current_list() else { return Vec::new() };
    let list = app.list(key).clone();
    if !app.views.save(noun(key), name, &list) {
        app.toast("too many views of this table: forget one first (D)", Tone::Warn);
        return Vec::new();
    }
    app.toast(format!("saved as {name}"), Tone::Good);
    vec![Effect::SaveState(app.views.to_text())]
}

// --- taking out -------------------------------------------------------------------------

fn copy(app: &mut App, effects: &mut Vec<Effect>) {
    let ids = subjects(app);
    let text = if !ids.is_empty() {
        ids.join("\n")
    } else if app.peek.focused || app.current_list().is_none() {
        texts::plain(app)
    } else {
        return;
    };
    let what = if ids.len() == 1 { ids[0].clone() } else { format!("{} lines", text.lines().count()) };
    app.toast(format!("copied {what}"), Tone::Good);
    effects.push(Effect::CopyToClipboard(text));
}

fn copy_cli(app: &mut App, effects: &mut Vec<Effect>) {
    let from_wizard = app.wizard.as_ref().filter(|_| app.nav.here == Place::NewCommand);
    let request = from_wizard
        .and_then(|wizard| wizard.request(wizard.operation.as_ref().is_some_and(|o| o.dangerous)))
        .or_else(|| command(app).map(|row| again(&row)));
    if let Some(request) = request {
        app.toast("copied the command line", Tone::Good);
        effects.push(Effect::CopyToClipboard(command_line(&request)));
    }
}

/// The submission that would make such a command.
pub fn again(row: &CommandRow) -> CreateCommands {
    let command = &row.command;
    CreateCommands {
        targets: Targets { devices: vec![command.device_id.to_string()], groups: vec![] },
        kind: command.kind.clone(),
        payload: command.payload.clone(),
        priority: Some(command.priority),
        timeout_s: Some(command.timeout_s),
        expires_in_s: None,
        notes: command.notes.clone(),
        confirm: quarterdeck_protocol::operations::is_dangerous(&command.kind),
    }
}

fn export(app: &mut App, effects: &mut Vec<Effect>) {
    let stamp = jiff::Timestamp::from(app.now).strftime("%Y%m%d-%H%M%S").to_string();
    let (name, content) = if let Some(key) = app.current_list() {
        let marks = &app.list(key).marks;
        let rows: Vec<&str> = app
            .store
            .window(key)
            .rows()
            .iter()
            .filter(|row| marks.is_empty() || marks.contains_key(&row.key))
            .map(|row| row.raw())
            .collect();
        let name = noun(key).replace(' ', "-");
        (format!("{name}s-{stamp}.json"), format!("[\n{}\n]\n", rows.join(",\n")))
    } else {
        (format!("text-{stamp}.txt"), texts::plain(app))
    };
    effects.push(Effect::WriteFile { name, content });
}

// --- doing ------------------------------------------------------------------------------

fn menu(app: &mut App) {
    let general = [Context::Global, Context::List, Context::Viewer];
    let items: Vec<Action> = ACTIONS
        .iter()
        .filter(|spec| {
            app.concerns(spec) && spec.contexts.iter().any(|context| !general.contains(context))
        })
        .filter(|spec| spec.needs != Needs::Nothing || !matches!(spec.action, Action::Up | Action::Down))
        .map(|spec| spec.action)
        .collect();
    if items.is_empty() {
        app.toast("nothing can be done here", Tone::Muted);
        return;
    }
    let subjects = match &app.nav.here {
        Place::Device(id) => vec![id.to_string()],
        Place::Command(id) => vec![super::nav::short_id(&id.to_string())],
        _ => subjects(app),
    };
    let title = match subjects.as_slice() {
        [] => "Actions".to_owned(),
        [only] => only.clone(),
        many => format!("{} marked", format::count(many.len() as u64)),
    };
    app.overlay = Some(Overlay::Menu(Menu { title, items, cursor: 0 }));
}

fn new_command(app: &mut App) {
    let targets = match &app.nav.here {
        Place::Devices => {
            let list = app.list(WindowKey::Devices);
            if list.marks.is_empty() {
                mark_of(app, WindowKey::Devices, list.cursor).into_iter().collect()
            } else {
                list.marks.clone()
            }
        }
        Place::Device(id) => {
            let mark = device(app, id.as_str()).map(device_mark).unwrap_or_default();
            std::iter::once((id.to_string(), mark)).collect()
        }
        Place::Command(_) => command(app)
            .map(|row| {
                let id = row.command.device_id.to_string();
                let mark = device(app, &id).map(device_mark).unwrap_or_default();
                std::iter::once((id, mark)).collect()
            })
            .unwrap_or_default(),
        _ => std::collections::BTreeMap::new(),
    };
    let wizard_list = app.list_mut(WindowKey::WizardDevices);
    wizard_list.marks.clone_from(&targets);
    wizard_list.filter.clear();
    wizard_list.restart();
    app.wizard = Some(Wizard::new(targets));
    go(app, Place::NewCommand);
}

fn undo(app: &mut App) {
    match app.calls.grace.pop() {
        Some(grace) => app.toast(format!("called back: {}", grace.title), Tone::Good),
        None => app.toast("nothing waits to be sent", Tone::Muted),
    }
}

fn freeze(app: &mut App) {
    if app.frozen.take().is_some() {
        // Ask for everything anew: what came meanwhile was not kept.
        for (_, window) in app.store.iter_mut() {
            window.subscription = None;
        }
    } else {
        app.frozen = Some(app.now);
    }
}

fn quit(app: &mut App, effects: &mut Vec<Effect>) {
    if app.calls.grace.is_empty() && app.calls.waiting() == 0 {
        effects.push(Effect::Quit);
        return;
    }
    let mut lines: Vec<String> =
        app.calls.grace.iter().map(|grace| format!("not sent yet: {}", grace.title)).collect();
    if app.calls.waiting() > 0 {
        lines.push(format!("{} without an answer yet", format::plural(app.calls.waiting() as u64, "request")));
    }
    lines.push("What has not been sent will not be.".to_owned());
    ask(app, "Leave now?", lines, "Leave", true, Then::Quit);
}

fn cancel(app: &mut App) {
    let mut ids = subjects_commands(app);
    ids.truncate(BULK_MAX_COMMANDS);
    if ids.is_empty() {
        return;
    }
    let n = ids.len() as u64;
    let mut lines = vec![
        "Commands that wait end at once.".to_owned(),
        "Those that run end on the device's word, or after 30 s.".to_owned(),
    ];
    if n == 1
        && let Some(row) = command(app)
    {
        lines.insert(0, format!("{} on {}", row.command.kind, row.command.device_id));
    }
    let big = n > u64::from(app.settings.confirm_over_devices);
    let typed = big.then(|| n.to_string());
    let call = ApiRequest::CancelCommands(CancelCommands { ids: ids.clone(), batch_id: None });
    let purpose = Purpose::Rows { doing: "cancel".to_owned(), keys: ids };
    let then = if big {
        Then::Grace(Box::new(call), purpose)
    } else {
        Then::Call(Box::new(call), purpose)
    };
    let title = format!("Cancel {}?", format::plural(n, "command"));
    ask_typed(app, &title, lines, "Cancel them", true, typed, then);
}

fn retry(app: &mut App) {
    let ids: Vec<CommandId> =
        subjects_commands(app).iter().filter_map(|id| id.parse().ok()).collect();
    if ids.is_empty() {
        return;
    }
    let n = ids.len() as u64;
    let keys: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let calls = ids.into_iter().take(100).map(ApiRequest::RetryCommand).collect();
    let mut lines = vec!["Each becomes a new command with the same payload.".to_owned()];
    if n > 100 {
        lines.push("Only the first 100 are sent: retry the others after.".to_owned());
    }
    let purpose = Purpose::Rows { doing: "retry".to_owned(), keys };
    let title = format!("Retry {}?", format::plural(n, "command"));
    ask(app, &title, lines, "Retry", false, Then::Calls(calls, purpose));
}

fn retire(app: &mut App) {
    let ids = subjects_devices(app);
    let [id] = ids.as_slice() else {
        if !ids.is_empty() {
            app.toast("retire devices one by one", Tone::Warn);
        }
        return;
    };
    let Ok(device) = DeviceId::new(id) else { return };
    let lines = vec![
        "It can no longer sign in; its commands that wait expire.".to_owned(),
        "To come back it must be enrolled anew.".to_owned(),
    ];
    let purpose = Purpose::Rows { doing: "retire".to_owned(), keys: vec![id.clone()] };
    let then = Then::Grace(Box::new(ApiRequest::RetireDevice(device)), purpose);
    let (title, typed) = (format!("Retire {id}?"), Some(id.clone()));
    ask_typed(app, &title, lines, "Retire", true, typed, then);
}

fn clear_failed(app: &mut App, effects: &mut Vec<Effect>) {
    for id in subjects_devices(app) {
        let failed = device(app, &id).is_none_or(|device| device.service_failed.is_some());
        let Ok(device) = DeviceId::new(&id) else { continue };
        if !failed {
            app.toast(format!("{id} has no failed service"), Tone::Muted);
            continue;
        }
        let purpose = Purpose::Rows { doing: "clear failed service".to_owned(), keys: vec![id] };
        call(app, ApiRequest::ClearServiceFailed(device), purpose, effects);
    }
}

fn disable_user(app: &mut App) {
    let Some(username) = under_cursor(app, WindowKey::Users) else { return };
    let change =
        quarterdeck_protocol::api::ChangeUser { disabled: Some(true), ..Default::default() };
    let lines = vec!["Their sessions end within seconds.".to_owned()];
    let purpose = Purpose::Rows { doing: "disable".to_owned(), keys: vec![username.clone()] };
    let title = format!("Disable {username}?");
    let call = Box::new(ApiRequest::ChangeUser { username, change });
    ask(app, &title, lines, "Disable", true, Then::Call(call, purpose));
}

fn remove_member(app: &mut App) {
    let key = match app.tabs.users {
        UsersTab::Users => WindowKey::Users,
        UsersTab::Members => WindowKey::Members,
        UsersTab::Projects | UsersTab::Tokens => return,
    };
    let Some(username) = under_cursor(app, key) else { return };
    let lines = vec![format!("They see {} no longer.", app.session.project)];
    let purpose = Purpose::Rows { doing: "remove".to_owned(), keys: vec![username.clone()] };
    let title = format!("Remove {username} from {}?", app.session.project);
    let call = Box::new(ApiRequest::RemoveMember { username });
    ask(app, &title, lines, "Remove", true, Then::Call(call, purpose));
}

fn revoke_token(app: &mut App) {
    if app.tabs.users != UsersTab::Tokens {
        return;
    }
    let Some(id) = under_cursor(app, WindowKey::Tokens) else { return };
    let lines = vec!["No more device can enrol with it. Those that did stay.".to_owned()];
    let purpose = Purpose::Rows { doing: "revoke".to_owned(), keys: vec![id.clone()] };
    let call = Box::new(ApiRequest::RevokeEnrollmentToken { id });
    ask(app, "Revoke this token?", lines, "Revoke", true, Then::Call(call, purpose));
}

fn open_project(app: &mut App, effects: &mut Vec<Effect>) {
    if app.tabs.users != UsersTab::Projects {
        app.tabs.users = UsersTab::Projects;
        return;
    }
    let id = under_cursor(app, WindowKey::Projects)
        .and_then(|id| quarterdeck_protocol::ids::ProjectId::new(&id).ok());
    if let Some(id) = id {
        app.toast(format!("opening {id} ..."), Tone::Muted);
        effects.push(Effect::Net(NetRequest::OpenProject(id)));
    }
}
