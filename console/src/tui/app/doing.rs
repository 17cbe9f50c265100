//! What changes something: asked first, sent through [`call`](super::perform::call).

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{CancelCommands, ChangeUser},
    command::CommandStatus,
    ids::{CommandId, DeviceId, ProjectId},
    limits::BULK_MAX_COMMANDS,
    live::Listing,
    operations,
};

use super::{
    App, Frozen,
    calls::{Outgoing, Purpose},
    dialog::{Menu, Overlay, Then},
    drafts, fitting,
    jobs::{self, Task},
    nav::{Place, short_id},
    perform::{ask, ask_typed, on_rows, send},
    subjects::{
        command, device, mark_of, subjects, subjects_commands, subjects_devices, under_cursor,
    },
    sweep,
    tabs::UsersTab,
    tunnels,
    update::device_mark,
    windows::{self, listing},
    wizard::Wizard,
};
use crate::tui::{
    effects::{ApiRequest, Effect, NetRequest},
    format,
    store::WindowKey,
    theme::Tone,
    view::screens::panes,
};

pub(super) fn menu(app: &mut App) {
    let items = fitting::menu_items(app);
    let subjects = match &app.nav.here {
        Place::Device(id) => vec![id.to_string()],
        Place::Command(id) => vec![short_id(&id.to_string())],
        _ => subjects(app),
    };
    let title = match subjects.as_slice() {
        [] => "Actions".to_owned(),
        [only] => named(app, only).unwrap_or_else(|| only.clone()),
        many => format!("{} marked", format::count(many.len() as u64)),
    };
    let allowed = items.iter().position(|action| app.available(*action).is_ok());
    app.overlay = Some(Overlay::Menu(Menu { title, items, cursor: allowed.unwrap_or(0) }));
}

/// What a row is called whose id says nothing.
fn named(app: &App, key: &str) -> Option<String> {
    let table = app.current_list()?;
    let row = app.store.window(table).find(key)?;
    match listing(table) {
        Listing::Alerts => row.alert().map(|alert| alert.cause.clone()),
        Listing::Commands => row.command().map(|row| format!("{} on {}", row.kind, row.device_id)),
        Listing::Tunnels => row
            .tunnel()
            .map(|row| format!("{} of {} on {}", tunnels::kind(row.kind), row.user, row.device_id)),
        Listing::Recordings => {
            row.recording().map(|row| format!("recording of {} on {}", row.user, row.device_id))
        }
        _ => None,
    }
}

pub(super) fn new_command(app: &mut App) {
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
                let id = row.device_id.to_string();
                let mark = device(app, &id).map(device_mark).unwrap_or_default();
                std::iter::once((id, mark)).collect()
            })
            .unwrap_or_default(),
        _ => BTreeMap::new(),
    };
    let mut wizard = Wizard::new(targets);
    if let Place::Command(_) = app.nav.here {
        wizard.given = command(app).map(|row| (row.kind, row.payload));
    }
    drafts::open(app, wizard);
}

pub(super) fn undo(app: &mut App, effects: &mut Vec<Effect>) {
    if let Some(grace) = app.calls.grace.pop() {
        app.toast(format!("called back: {}", grace.title), Tone::Good);
        if let Some(number) = grace.what.submission() {
            drafts::came_back(app, number, |_| {});
        }
    } else if let Some(stopped) = sweep::stop(app, effects) {
        app.toast(stopped, Tone::Warn);
    } else if !jobs::stop_last(app) {
        app.toast("nothing waits to be sent", Tone::Muted);
    }
}

pub(super) fn freeze(app: &mut App) {
    if app.frozen.is_some() {
        windows::thaw(app);
    } else {
        app.frozen = Some(Frozen { since: app.now, here: app.nav.here.clone(), tabs: app.tabs });
    }
}

pub(super) fn quit(app: &mut App, effects: &mut Vec<Effect>) {
    let panes = panes::open_lines(&app.panes);
    let nothing_waits =
        app.calls.grace.is_empty() && app.calls.waiting() == 0 && app.sweep.is_none();
    let drafts = drafts::written(app);
    if nothing_waits && panes.is_empty() && drafts.is_empty() {
        effects.push(Effect::Quit);
        return;
    }
    let mut lines = panes;
    if !lines.is_empty() {
        lines.push("Their programs run on; the Tunnels screen goes back to them.".to_owned());
    }
    let grace = app.calls.grace.iter().map(|grace| format!("not sent yet: {}", grace.title));
    lines.extend(grace);
    for job in app.calls.jobs.values().filter(|job| job.left() > 0) {
        lines.push(format!("not sent yet: {} of {}", job.doing, format::plural(job.left(), "row")));
    }
    if let Some(sweep) = &app.sweep {
        lines.push(format!("not finished: {}", sweep.doing()));
    }
    lines.extend(drafts.iter().map(|title| format!("not sent, and lost: {title}")));
    if app.calls.waiting() > 0 {
        lines.push(format!(
            "{} without an answer yet",
            format::plural(app.calls.waiting() as u64, "request")
        ));
    }
    if !nothing_waits {
        lines.push("What has not been sent will not be.".to_owned());
    }
    ask(app, "Leave now?", lines, "Leave", true, Then::Quit);
}

pub(super) fn cancel(app: &mut App) {
    let asked = subjects_commands(app);
    if asked.is_empty() {
        return;
    }
    let (ids, lines) = match asked.as_slice() {
        [_] => {
            let row = command(app).map(|row| format!("{} on {}", row.kind, row.device_id));
            let then = [
                "Commands that wait end at once.",
                "Those that run end on the device's word, or after 30 s.",
            ];
            (asked, row.into_iter().chain(then.map(str::to_owned)).collect())
        }
        _ => still_open(app, asked),
    };
    if ids.is_empty() {
        app.toast("all of them have ended", Tone::Muted);
        return;
    }
    let n = ids.len() as u64;
    let batch = |ids: &[String]| Task {
        call: ApiRequest::CancelCommands(CancelCommands { ids: ids.to_vec(), batch_id: None }),
        keys: ids.to_vec(),
    };
    let what = on_rows("cancel", ids.chunks(BULK_MAX_COMMANDS).map(batch).collect());
    let (title, typed, then) = big_or_not(app, "cancel", n, what);
    ask_typed(app, &title, lines, "Cancel them", true, typed, then);
}

/// Those of many commands that are not known to have ended, and what becomes of each kind.
fn still_open(app: &App, mut ids: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut waiting, mut running, mut ended, mut unknown) = (0_u64, 0_u64, 0_u64, 0_u64);
    ids.retain(|key| {
        let status = status_of(app, key);
        let count = match status {
            None => &mut unknown,
            Some(status) if status.is_terminal() => &mut ended,
            Some(CommandStatus::ExecutionStarted | CommandStatus::AwaitingReconnect) => {
                &mut running
            }
            Some(_) => &mut waiting,
        };
        *count += 1;
        status.is_none_or(|status| !status.is_terminal())
    });
    let line = |n: u64, one: &str, many: &str, then: &str| {
        let what = if n == 1 { one } else { many };
        (n > 0).then(|| format!("{} {what}: {then}", format::count(n)))
    };
    let lines = [
        line(waiting, "waits", "wait", "to end at once."),
        line(running, "runs", "run", "to end on the device's word, or after 30 s."),
        line(ended, "has ended", "have ended", "left alone."),
        line(unknown, "is not loaded here", "are not loaded here", "left alone where ended."),
    ];
    (ids, lines.into_iter().flatten().collect())
}

/// The status of a command, where the screen has its row.
fn status_of(app: &App, key: &str) -> Option<CommandStatus> {
    let tables = [WindowKey::Commands, WindowKey::DeviceCommands, WindowKey::CommandRow];
    let row = tables.iter().find_map(|table| app.store.live(*table)?.find(key)?.command());
    row.map(|command| command.status)
}

pub(super) fn retry(app: &mut App) {
    let commands: Vec<(CommandId, Option<String>)> = subjects_commands(app)
        .into_iter()
        .filter_map(|key| Some((key.parse().ok()?, kind_of(app, &key))))
        .collect();
    if commands.is_empty() {
        return;
    }
    let n = commands.len() as u64;
    let mut dangerous = BTreeMap::new();
    let mut tasks = Vec::with_capacity(commands.len());
    for (id, kind) in commands {
        // Of one that is not known the server says whether it needs to be confirmed.
        let kind = kind.filter(|kind| is_dangerous(app, kind));
        let call = ApiRequest::RetryCommand { id, confirm: kind.is_some() };
        tasks.push(Task::one(call, id.to_string()));
        if let Some(kind) = kind {
            *dangerous.entry(kind).or_insert(0_u64) += 1;
        }
    }
    let mut lines = vec!["Each becomes a new command with the same payload.".to_owned()];
    let what = on_rows("retry", tasks);
    let (title, mut typed, mut then) = big_or_not(app, "retry", n, what);
    if !dangerous.is_empty() {
        let named: Vec<String> =
            dangerous.iter().map(|(kind, n)| format!("{n} x {kind}")).collect();
        lines.push(format!("Dangerous: {}.", named.join(", ")));
        typed = match dangerous.keys().next() {
            Some(only) if dangerous.len() == 1 => Some(only.clone()),
            _ => Some(n.to_string()),
        };
        if let Then::Now(what) = then {
            then = Then::Grace(format!("retry {}", format::plural(n, "command")), what);
        }
    }
    if matches!(then, Then::Grace(..)) {
        lines.push("They leave 10 seconds after you confirm; u calls them back.".to_owned());
    }
    ask_typed(app, &title, lines, "Retry", typed.is_some(), typed, then);
}

/// The question about an action on `n` commands: many of them are typed, and wait before they leave.
fn big_or_not(app: &App, doing: &str, n: u64, what: Outgoing) -> (String, Option<String>, Then) {
    let commands = format::plural(n, "command");
    let mut title = format!("{doing} {commands}?");
    title[..1].make_ascii_uppercase();
    if n <= u64::from(app.settings.confirm_over_devices) {
        return (title, None, Then::Now(what));
    }
    (title, Some(n.to_string()), Then::Grace(format!("{doing} {commands}"), what))
}

/// The operation of a command that is marked or loaded.
fn kind_of(app: &App, key: &str) -> Option<String> {
    let tables = [WindowKey::Commands, WindowKey::DeviceCommands, WindowKey::CommandRow];
    let marked = || tables.iter().find_map(|table| app.list(*table).marks.get(key)?.kind.clone());
    tables
        .iter()
        .find_map(|table| Some(app.store.live(*table)?.find(key)?.command()?.kind.clone()))
        .or_else(marked)
}

/// Whether an operation is dangerous, built in or announced.
fn is_dangerous(app: &App, kind: &str) -> bool {
    let announced = app.store.window(WindowKey::Operations);
    operations::is_dangerous(kind)
        || announced.find(kind).and_then(|row| row.operation()).is_some_and(|op| op.dangerous)
}

pub(super) fn retire(app: &mut App) {
    let ids = subjects_devices(app);
    let [id] = ids.as_slice() else {
        if !ids.is_empty() {
            app.toast("retire devices one by one", Tone::Warn);
        }
        return;
    };
    let Ok(device) = DeviceId::new(id) else { return };
    let lines = vec![
        "It can no longer sign in; its open commands are cancelled.".to_owned(),
        "To come back it must be enrolled anew.".to_owned(),
    ];
    let purpose = Purpose::Rows { doing: "retire".to_owned(), keys: vec![id.clone()] };
    let what = Outgoing::Call(Box::new(ApiRequest::RetireDevice(device)), purpose);
    let then = Then::Grace(format!("retire {id}"), what);
    let (title, typed) = (format!("Retire {id}?"), Some(id.clone()));
    ask_typed(app, &title, lines, "Retire", true, typed, then);
}

pub(super) fn clear_failed(app: &mut App, effects: &mut Vec<Effect>) {
    let ids = subjects_devices(app);
    let has_failed =
        |id: &String| device(app, id).is_none_or(|device| device.service_failed.is_some());
    let clear = |id: String| {
        let call = ApiRequest::ClearServiceFailed(DeviceId::new(&id).ok()?);
        Some(Task::one(call, id))
    };
    let tasks: Vec<Task> =
        ids.iter().filter(|id| has_failed(id)).cloned().filter_map(clear).collect();
    match ids.as_slice() {
        [] => {}
        [only] if tasks.is_empty() => {
            app.toast(format!("{only} has no failed service"), Tone::Muted);
        }
        _ if tasks.is_empty() => app.toast("none of them has a failed service", Tone::Muted),
        _ => send(app, on_rows("clear failed service", tasks), effects),
    }
}

pub(super) fn disable_user(app: &mut App) {
    let Some(username) = under_cursor(app, WindowKey::Users) else { return };
    let change = ChangeUser { disabled: Some(true), ..Default::default() };
    let lines = vec!["Their sessions end within seconds.".to_owned()];
    let purpose = Purpose::Rows { doing: "disable".to_owned(), keys: vec![username.clone()] };
    let title = format!("Disable {username}?");
    let call = Box::new(ApiRequest::ChangeUser { username, change });
    ask(app, &title, lines, "Disable", true, Then::Now(Outgoing::Call(call, purpose)));
}

pub(super) fn remove_member(app: &mut App) {
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
    ask(app, &title, lines, "Remove", true, Then::Now(Outgoing::Call(call, purpose)));
}

pub(super) fn revoke_token(app: &mut App) {
    if app.tabs.users != UsersTab::Tokens {
        return;
    }
    let Some(id) = under_cursor(app, WindowKey::Tokens) else { return };
    let lines = vec!["No more device can enrol with it. Those that did stay.".to_owned()];
    let purpose = Purpose::Rows { doing: "revoke".to_owned(), keys: vec![id.clone()] };
    let call = Box::new(ApiRequest::RevokeEnrollmentToken { id });
    ask(app, "Revoke this token?", lines, "Revoke", true, Then::Now(Outgoing::Call(call, purpose)));
}

pub(super) fn open_project(app: &mut App, effects: &mut Vec<Effect>) {
    if app.tabs.users != UsersTab::Projects {
        app.tabs.users = UsersTab::Projects;
        return;
    }
    let id = under_cursor(app, WindowKey::Projects).and_then(|id| ProjectId::new(&id).ok());
    // What waits or is under way means devices of this project: it must not leave for another.
    let is_under_way = !app.calls.jobs.is_empty() || !app.calls.submissions.is_empty();
    if !app.calls.grace.is_empty() || is_under_way {
        let what = app.calls.grace.last().map_or("something", |grace| grace.title.as_str());
        let text = format!("{what} is not sent yet: wait for it, or call it back with u");
        return app.toast(text, Tone::Warn);
    }
    if let Some(id) = id {
        app.toast(format!("opening {id} ..."), Tone::Muted);
        effects.push(Effect::Net(NetRequest::OpenProject(id)));
    }
}
