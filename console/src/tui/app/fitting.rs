//! Whether an action has anything to act on in what is shown; of the row under
//! the cursor [`on_row`](super::on_row) says so.
//!
//! Who may do it is another question; [`App::available`] asks both. A key that is
//! offered does something: footer, menu and palette ask here too.

use super::{
    App, Link,
    actions::{ACTIONS, Action, Context},
    columns::{columns, sort_of},
    document,
    nav::Place,
    perform::resolve,
    tabs::{DeviceTab, UsersTab},
};
use crate::tui::{
    store::{State, WindowKey},
    view::texts,
};

/// Says why an action makes no sense on this screen and tab, whichever row is under the cursor.
pub fn on_screen(app: &App, action: Action) -> Result<(), &'static str> {
    if needs_row(app, action) && has_no_row(app) {
        return Err(if is_loading(app) {
            "the rows are still loading"
        } else {
            "there is no row here"
        });
    }
    match action {
        Action::WizardSelectAll if app.current_list().is_none() => {
            Err("marks devices, in the first step")
        }
        Action::Filter | Action::ClearFilter
            if app.current_list().is_none() && !app.is_choosing_operation() =>
        {
            Err("there is nothing to filter in this step")
        }
        Action::FocusNext | Action::FocusPrevious if !has_parts(app) => {
            Err("this screen has no tabs, and one pane")
        }
        Action::Search | Action::NextMatch | Action::PreviousMatch | Action::Copy
            if app.nav.here == Place::Panes && app.panes.is_empty() =>
        {
            Err("there is no text here")
        }
        Action::Fold | Action::FoldAll | Action::UnfoldAll | Action::CopyPath
            if !document::is_shown(app) =>
        {
            Err("there is no JSON here; it is in a command's Payload and Response")
        }
        Action::Reconnect if !matches!(app.link, Link::Lost { .. }) => {
            Err("the connection is not lost")
        }
        Action::Menu if menu_items(app).is_empty() => Err("nothing can be done here"),
        Action::Open if !opens(app) => Err("there is nothing to open here"),
        Action::Sort if !app.current_list().is_some_and(is_sorted) => {
            Err("this table has one order")
        }
        Action::CommandCancel | Action::CommandRetry
            if !matches!(app.nav.here, Place::Command(_)) && !lists_commands(app) =>
        {
            Err("there is no command here")
        }
        Action::UserPassword | Action::UserDisable | Action::UserEnable => {
            on_tab(app, &[UsersTab::Users], "is for a user: see the tab Users")
        }
        Action::MemberRole | Action::MemberRemove => on_tab(
            app,
            &[UsersTab::Users, UsersTab::Members],
            "is for a member: see the tab Members",
        ),
        Action::TokenRevoke => {
            on_tab(app, &[UsersTab::Tokens], "is for a token: see the tab Enrolment tokens")
        }
        _ => Ok(()),
    }
}

/// What the menu of this screen lists.
pub fn menu_items(app: &App) -> Vec<Action> {
    let general = [Context::Global, Context::List, Context::Viewer];
    let mut own = app.contexts();
    own.retain(|context| !general.contains(context));
    ACTIONS
        .iter()
        .filter(|spec| spec.contexts.iter().any(|context| own.contains(context)))
        .filter(|spec| !spec.id.starts_with("move."))
        .map(|spec| spec.action)
        .filter(|action| on_screen(app, *action).is_ok())
        .filter(|action| resolve(app, *action) == *action)
        .collect()
}

/// Whether an action is about a row of the table that has the keys.
const fn needs_row(app: &App, action: Action) -> bool {
    match action {
        Action::Mark
        | Action::MarkRange
        | Action::MarkAll
        | Action::WizardSelectAll
        | Action::Open
        | Action::AuditEntry
        | Action::DeviceCommands
        | Action::DeviceTags
        | Action::DeviceClearFailed
        | Action::DeviceRetire
        | Action::CommandDevice
        | Action::CommandBatch
        | Action::CommandCli
        | Action::AlertJump
        | Action::AlertAcknowledge
        | Action::AlertSilence
        | Action::Terminal(_)
        | Action::TunnelWatch
        | Action::TunnelCopilot
        | Action::TunnelKill
        | Action::TunnelRecording
        | Action::RecordingSave
        | Action::RecordingDelete
        | Action::UserPassword
        | Action::UserDisable
        | Action::UserEnable
        | Action::MemberRemove
        | Action::ProjectOpen
        | Action::TokenRevoke => {
            let is_of_table = matches!(
                action,
                Action::Mark
                    | Action::MarkRange
                    | Action::MarkAll
                    | Action::WizardSelectAll
                    | Action::Open
            );
            // There the others are about what is shown, whatever its tables hold.
            let is_shown =
                matches!(app.nav.here, Place::Device(_) | Place::Command(_) | Place::NewCommand);
            is_of_table || !is_shown
        }
        _ => false,
    }
}

/// Whether the table that has the keys shows no row: there is none, they load, or are refused.
pub fn has_no_row(app: &App) -> bool {
    let is_empty = |table: WindowKey| {
        let window = app.store.window(table);
        let is_refused = matches!(window.state, State::Refused(_));
        (window.total == 0 || is_refused) && app.list(table).marks.is_empty()
    };
    app.current_list().is_some_and(is_empty)
}

/// Whether it is not known yet if the table that has the keys has rows.
fn is_loading(app: &App) -> bool {
    app.current_list().is_some_and(|table| app.store.window(table).state == State::Loading)
}

/// Whether Tab leads anywhere.
const fn has_parts(app: &App) -> bool {
    matches!(
        app.nav.here,
        Place::Commands | Place::Command(_) | Place::Device(_) | Place::Users | Place::NewCommand
    )
}

/// Whether the table that has the keys holds commands, or some are marked in it. Asked at each
/// frame: it walks through none of them.
fn lists_commands(app: &App) -> bool {
    let table = match app.nav.here {
        Place::Commands => WindowKey::Commands,
        Place::Device(_) if app.tabs.device == DeviceTab::Commands => WindowKey::DeviceCommands,
        _ => return false,
    };
    app.store.window(table).total > 0 || !app.list(table).marks.is_empty()
}

/// Whether Enter leads anywhere, or folds something.
fn opens(app: &App) -> bool {
    match app.nav.here {
        Place::Command(_) => texts::document_value(app).is_some_and(|value| !value.is_null()),
        Place::Device(_) => {
            matches!(app.tabs.device, DeviceTab::Commands | DeviceTab::Timeline)
        }
        Place::Users => match app.tabs.users {
            UsersTab::Projects => true,
            UsersTab::Users | UsersTab::Members => app.permitted(Action::MemberRole).is_ok(),
            UsersTab::Tokens => false,
        },
        // It was left by way of the history, and is come back to.
        Place::Player(_) => app.player.is_none(),
        Place::Handover | Place::Panes => false,
        _ => true,
    }
}

fn is_sorted(table: WindowKey) -> bool {
    columns(table).iter().any(|column| sort_of(table, column).is_some())
}

fn on_tab(app: &App, tabs: &[UsersTab], why: &'static str) -> Result<(), &'static str> {
    let is_there = app.nav.here == Place::Users && tabs.contains(&app.tabs.users);
    if is_there { Ok(()) } else { Err(why) }
}
