//! What each action does.

use super::{
    App, Link, Viewer,
    actions::Action,
    calls::{Outgoing, Purpose},
    dialog::{Confirm, FormPurpose, Overlay, PromptKind, Then},
    document,
    doing::{
        cancel, clear_failed, disable_user, freeze, menu, open_project, quit, remove_member,
        retire, retry, revoke_token, undo,
    },
    drafts,
    field::TextField,
    jobs::{self, Job, Task},
    moving::{
        alert_jump, back, entered, focus, go, open, page, show_commands, show_entry, step, turn_tab,
    },
    nav::{Place, SCREENS},
    palette::Palette,
    panes, people,
    pickers::{next_match, pick_columns, pick_sort, pick_views, prompt, prompt_filter},
    player,
    subjects::{
        command, devices_under, mark, mark_all, mark_range, subjects, subjects_devices,
        under_cursor,
    },
    tabs::UsersTab,
    taking::{copy, copy_cli, copy_path, pick_export},
    tunnels,
    wall::WallState,
};
use quarterdeck_protocol::tunnel::session::Mode;

use crate::tui::{
    effects::{ApiRequest, Effect, NetRequest, RequestId},
    store::WindowKey,
    theme::Tone,
};

/// Does an action, or says why it cannot be done.
pub fn perform(app: &mut App, action: Action) -> Vec<Effect> {
    let action = resolve(app, action);
    if let Err(why) = app.available(action) {
        app.toast(why, Tone::Warn);
        return Vec::new();
    }
    let mut effects = Vec::new();
    if panes::commands::perform(app, action, &mut effects)
        || player::perform(app, action, &mut effects)
    {
        return effects;
    }
    match action {
        Action::Up => step(app, -1),
        Action::Down => step(app, 1),
        Action::PageUp => page(app, -1, 1),
        Action::PageDown => page(app, 1, 1),
        Action::HalfUp => page(app, -1, 2),
        Action::HalfDown => page(app, 1, 2),
        Action::First => match app.current_list() {
            Some(key) => {
                let window = app.store.window(key);
                app.lists.entry(key).or_default().go(0, window);
            }
            None if document::to_end(app, false) => {}
            None => {
                app.viewer = Viewer { top: 0, follow: false, ..std::mem::take(&mut app.viewer) }
            }
        },
        Action::Last => match app.current_list() {
            Some(key) => {
                let window = app.store.window(key);
                let last = window.total.saturating_sub(1);
                app.lists.entry(key).or_default().go(last, window);
            }
            None if document::to_end(app, true) => {}
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
            if let Some(wizard) = app.wizard.as_mut().filter(|_| app.nav.here == Place::NewCommand)
            {
                wizard.search("");
            }
            if let Some(key) = app.current_list() {
                let list = app.list_mut(key);
                list.filter.clear();
                list.restart();
            }
        }
        Action::Search if matches!(app.nav.here, Place::Player(_)) => {
            prompt(app, PromptKind::PlayerSearch, "");
        }
        Action::Search => prompt(app, PromptKind::Search, &app.viewer.search.clone()),
        Action::NextMatch => next_match(app, 1),
        Action::PreviousMatch => next_match(app, -1),
        Action::Jump | Action::PlayerJump => prompt(app, PromptKind::Jump, ""),
        Action::Sort => pick_sort(app),
        Action::Columns => pick_columns(app),
        Action::Views => pick_views(app),
        Action::Mark => {
            mark(app);
            step(app, 1);
        }
        Action::MarkRange => mark_range(app, &mut effects),
        Action::MarkAll | Action::WizardSelectAll => mark_all(app, &mut effects),
        Action::Unmark => {
            if let Some(key) = app.current_list() {
                let list = app.list_mut(key);
                list.marks.clear();
                list.anchor = None;
            }
        }
        Action::Copy => copy(app, &mut effects),
        Action::Export => pick_export(app, &mut effects),
        Action::ScreenDump => app.dump = true,
        Action::Menu => menu(app),
        Action::New => drafts::new(app),
        Action::Undo => undo(app, &mut effects),
        Action::Help => app.overlay = Some(Overlay::Help(0)),
        Action::Freeze => freeze(app),
        Action::Wall => {
            app.wall = Some(WallState::new(std::time::Duration::from_secs(15), app.now, false));
            go(app, Place::Overview);
        }
        Action::Redraw => app.redraw = true,
        Action::Reconnect => reconnect(app, &mut effects),
        Action::Quit => quit(app, &mut effects),
        Action::Screen(n) => {
            if let Some((place, _)) = SCREENS.get(usize::from(n).wrapping_sub(1)) {
                go(app, place.clone());
            }
        }
        Action::AlertsScreen => go(app, Place::Alerts),
        Action::Handover => go(app, Place::Handover),
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
            let of_session = devices_under(app).into_iter().next();
            let device = command(app).map(|row| row.device_id).or(of_session);
            if let Some(device) = device {
                go(app, Place::Device(device));
            }
        }
        Action::CommandBatch => {
            if let Some(row) = command(app) {
                let filter = format!("batch:{}", row.batch_id);
                show_commands(app, &filter);
            }
        }
        Action::CommandCli => copy_cli(app, &mut effects),
        Action::Fold => document::fold(app),
        Action::FoldAll => document::fold_all(app, true),
        Action::UnfoldAll => document::fold_all(app, false),
        Action::CopyPath => copy_path(app, &mut effects),
        Action::CommandSave => {
            if let Place::Command(id) = app.nav.here {
                let path = std::path::PathBuf::from(format!("{id}.out"));
                let purpose = Purpose::Say("saved".to_owned());
                call(app, ApiRequest::SaveOutput { id, path }, purpose, &mut effects);
            }
        }
        Action::AlertJump => alert_jump(app),
        Action::AlertAcknowledge => {
            let acknowledge =
                |id: String| Task::one(ApiRequest::AcknowledgeAlert { id: id.clone() }, id);
            let tasks: Vec<Task> = subjects(app).into_iter().map(acknowledge).collect();
            if !tasks.is_empty() {
                send(app, on_rows("acknowledge", tasks), &mut effects);
            }
        }
        Action::AlertSilence => {
            let ids = subjects(app);
            if !ids.is_empty() {
                people::open(app, FormPurpose::Silence { ids });
            }
        }
        Action::AuditEntry => show_entry(app),
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
        Action::WizardNext => super::wizard_input::next(app),
        Action::Terminal(record) => panes::commands::open_here(app, record),
        Action::TunnelWatch => tunnels::attach(app, Mode::Watch),
        Action::TunnelCopilot => tunnels::attach(app, Mode::Copilot),
        Action::TunnelKill => tunnels::kill(app),
        Action::TunnelRecording => tunnels::play(app, &mut effects),
        Action::RecordingDelete => tunnels::delete_recordings(app),
        Action::RecordingSave => {
            if let Some(id) = under_cursor(app, WindowKey::Recordings) {
                player::save(app, id, &mut effects);
            }
        }
        // Elsewhere than among panes, and outside of the player, these mean nothing.
        Action::PanePrefix
        | Action::PaneSplit(_)
        | Action::PaneFocus(_)
        | Action::PaneFocusNext
        | Action::PaneMove(_)
        | Action::PaneResize(_)
        | Action::PaneZoom
        | Action::PaneClose
        | Action::PaneDetach
        | Action::PaneLeave
        | Action::PaneRename
        | Action::PaneTabNew
        | Action::PaneTabNext
        | Action::PaneTabPrevious
        | Action::PaneTab(_)
        | Action::PaneSync
        | Action::PaneQueue
        | Action::PaneScroll
        | Action::PaneSearch
        | Action::PanePaste
        | Action::PaneSelect(_)
        | Action::PlayerPause
        | Action::PlayerSlower
        | Action::PlayerFaster
        | Action::PlayerStep
        | Action::PlayerStepBack
        | Action::PlayerBack
        | Action::PlayerOn
        | Action::PlayerPageBack
        | Action::PlayerPageOn => {}
    }
    effects
}

/// Tries to connect now.
fn reconnect(app: &mut App, effects: &mut Vec<Effect>) {
    if let Link::Lost { again_at, .. } = &mut app.link {
        *again_at = Some(app.now);
        effects.push(Effect::Net(NetRequest::Reconnect));
    }
}

/// One key, one idea: "new" means what the tab is about.
pub fn resolve(app: &App, action: Action) -> Action {
    let on = |tab| app.nav.here == Place::Users && app.tabs.users == tab;
    match action {
        Action::UserCreate if on(UsersTab::Projects) => Action::ProjectCreate,
        Action::UserCreate if on(UsersTab::Tokens) => Action::TokenCreate,
        Action::UserCreate if on(UsersTab::Members) => Action::MemberRole,
        other => other,
    }
}

/// Sends what was confirmed.
pub fn send(app: &mut App, what: Outgoing, effects: &mut Vec<Effect>) {
    match what {
        Outgoing::Call(request, purpose) => call(app, *request, purpose, effects),
        Outgoing::Job(job) => jobs::begin(app, *job),
    }
}

/// What does an action on rows: one request, or a job of several.
pub fn on_rows(doing: &str, mut tasks: Vec<Task>) -> Outgoing {
    if tasks.len() > 1 {
        return Outgoing::Job(Box::new(Job::new(doing, tasks)));
    }
    let Some(Task { call, keys }) = tasks.pop() else {
        return Outgoing::Job(Box::default());
    };
    Outgoing::Call(Box::new(call), Purpose::Rows { doing: doing.to_owned(), keys })
}

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
    let submission = match purpose {
        Purpose::Submit(number) => Some(number),
        _ => None,
    };
    let Some(id) = app.calls.begin(purpose, app.now) else {
        app.tell("too much is under way: wait for the server's answers", Tone::Bad);
        if let Some(number) = submission {
            drafts::came_back(app, number, |_| {});
        }
        return None;
    };
    effects.push(Effect::Net(NetRequest::Call { id, call }));
    Some(id)
}

/// A question, with Cancel preselected.
pub fn ask(
    app: &mut App,
    title: &str,
    lines: Vec<String>,
    proceed: &str,
    danger: bool,
    then: Then,
) {
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
        is_wrong: false,
        then,
    })));
}
