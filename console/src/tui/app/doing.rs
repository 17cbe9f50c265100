//! What changes something: asked first, sent through [`call`](super::perform::call).

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{CancelCommands, ChangeUser},
    ids::{CommandId, DeviceId, ProjectId},
    limits::BULK_MAX_COMMANDS,
};

use super::{
    App,
    actions::{ACTIONS, Action, Context},
    calls::Purpose,
    dialog::{Menu, Overlay, Then},
    moving::go,
    nav::{Place, short_id},
    perform::{ask, ask_typed, call},
    subjects::{
        command, device, mark_of, subjects, subjects_commands, subjects_devices, under_cursor,
    },
    tabs::UsersTab,
    update::device_mark,
    wizard::Wizard,
};
use crate::tui::{
    effects::{ApiRequest, Effect, NetRequest},
    format,
    store::WindowKey,
    theme::Tone,
};

pub(super) fn menu(app: &mut App) {
    let general = [Context::Global, Context::List, Context::Viewer];
    let items: Vec<Action> = ACTIONS
        .iter()
        .filter(|spec| {
            app.concerns(spec) && spec.contexts.iter().any(|context| !general.contains(context))
        })
        .filter(|spec| !spec.id.starts_with("move."))
        .map(|spec| spec.action)
        .collect();
    if items.is_empty() {
        app.toast("nothing can be done here", Tone::Muted);
        return;
    }
    let subjects = match &app.nav.here {
        Place::Device(id) => vec![id.to_string()],
        Place::Command(id) => vec![short_id(&id.to_string())],
        _ => subjects(app),
    };
    let title = match subjects.as_slice() {
        [] => "Actions".to_owned(),
        [only] => only.clone(),
        many => format!("{} marked", format::count(many.len() as u64)),
    };
    app.overlay = Some(Overlay::Menu(Menu { title, items, cursor: 0 }));
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
                let id = row.command.device_id.to_string();
                let mark = device(app, &id).map(device_mark).unwrap_or_default();
                std::iter::once((id, mark)).collect()
            })
            .unwrap_or_default(),
        _ => BTreeMap::new(),
    };
    let wizard_list = app.list_mut(WindowKey::WizardDevices);
    wizard_list.marks.clone_from(&targets);
    wizard_list.filter.clear();
    wizard_list.restart();
    let mut wizard = Wizard::new(targets);
    if let Place::Command(_) = app.nav.here {
        wizard.given = command(app).map(|row| (row.command.kind, row.command.payload));
    }
    app.wizard = Some(wizard);
    go(app, Place::NewCommand);
}

pub(super) fn undo(app: &mut App) {
    match app.calls.grace.pop() {
        Some(grace) => app.toast(format!("called back: {}", grace.title), Tone::Good),
        None => app.toast("nothing waits to be sent", Tone::Muted),
    }
}

pub(super) fn freeze(app: &mut App) {
    if app.frozen.take().is_some() {
        // Ask for everything anew: what came meanwhile was not kept.
        for (_, window) in app.store.iter_mut() {
            window.subscription = None;
        }
    } else {
        app.frozen = Some(app.now);
    }
}

pub(super) fn quit(app: &mut App, effects: &mut Vec<Effect>) {
    if app.calls.grace.is_empty() && app.calls.waiting() == 0 {
        effects.push(Effect::Quit);
        return;
    }
    let mut lines: Vec<String> =
        app.calls.grace.iter().map(|grace| format!("not sent yet: {}", grace.title)).collect();
    if app.calls.waiting() > 0 {
        lines.push(format!(
            "{} without an answer yet",
            format::plural(app.calls.waiting() as u64, "request")
        ));
    }
    lines.push("What has not been sent will not be.".to_owned());
    ask(app, "Leave now?", lines, "Leave", true, Then::Quit);
}

pub(super) fn cancel(app: &mut App) {
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

pub(super) fn retry(app: &mut App) {
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
        "It can no longer sign in; its commands that wait expire.".to_owned(),
        "To come back it must be enrolled anew.".to_owned(),
    ];
    let purpose = Purpose::Rows { doing: "retire".to_owned(), keys: vec![id.clone()] };
    let then = Then::Grace(Box::new(ApiRequest::RetireDevice(device)), purpose);
    let (title, typed) = (format!("Retire {id}?"), Some(id.clone()));
    ask_typed(app, &title, lines, "Retire", true, typed, then);
}

pub(super) fn clear_failed(app: &mut App, effects: &mut Vec<Effect>) {
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

pub(super) fn disable_user(app: &mut App) {
    let Some(username) = under_cursor(app, WindowKey::Users) else { return };
    let change = ChangeUser { disabled: Some(true), ..Default::default() };
    let lines = vec!["Their sessions end within seconds.".to_owned()];
    let purpose = Purpose::Rows { doing: "disable".to_owned(), keys: vec![username.clone()] };
    let title = format!("Disable {username}?");
    let call = Box::new(ApiRequest::ChangeUser { username, change });
    ask(app, &title, lines, "Disable", true, Then::Call(call, purpose));
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
    ask(app, &title, lines, "Remove", true, Then::Call(call, purpose));
}

pub(super) fn revoke_token(app: &mut App) {
    if app.tabs.users != UsersTab::Tokens {
        return;
    }
    let Some(id) = under_cursor(app, WindowKey::Tokens) else { return };
    let lines = vec!["No more device can enrol with it. Those that did stay.".to_owned()];
    let purpose = Purpose::Rows { doing: "revoke".to_owned(), keys: vec![id.clone()] };
    let call = Box::new(ApiRequest::RevokeEnrollmentToken { id });
    ask(app, "Revoke this token?", lines, "Revoke", true, Then::Call(call, purpose));
}

pub(super) fn open_project(app: &mut App, effects: &mut Vec<Effect>) {
    if app.tabs.users != UsersTab::Projects {
        app.tabs.users = UsersTab::Projects;
        return;
    }
    let id = under_cursor(app, WindowKey::Projects).and_then(|id| ProjectId::new(&id).ok());
    if let Some(id) = id {
        app.toast(format!("opening {id} ..."), Tone::Muted);
        effects.push(Effect::Net(NetRequest::OpenProject(id)));
    }
}
