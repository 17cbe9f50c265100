//! Whether an action has anything to act on in what is shown.
//!
//! Who may do it is another question; [`App::available`] asks both. A key that is
//! offered does something: footer, menu and palette ask here too.

use super::{
    App,
    actions::Action,
    columns::{columns, sort_of},
    nav::Place,
    subjects::{command, subjects_commands},
    tabs::{CommandTab, DeviceTab, UsersTab},
};
use crate::tui::store::WindowKey;

/// Says why an action makes no sense on this screen and tab, whichever row is under the cursor.
pub fn on_screen(app: &App, action: Action) -> Result<(), &'static str> {
    match action {
        Action::WizardSelectAll if app.current_list().is_none() => {
            Err("marks devices, in the first step")
        }
        Action::Open if !opens(app) => Err("there is nothing to open here"),
        Action::Sort if !app.current_list().is_some_and(is_sorted) => {
            Err("this table has one order")
        }
        Action::CommandCancel | Action::CommandRetry => match app.nav.here {
            Place::Command(_) => on_row(app, action),
            _ if !lists_commands(app) => Err("there is no command here"),
            _ => Ok(()),
        },
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

/// Says why an action makes no sense for the one row that it would be about. Of several rows the
/// server says which can.
pub(super) fn on_row(app: &App, action: Action) -> Result<(), &'static str> {
    if !matches!(action, Action::CommandCancel | Action::CommandRetry) {
        return Ok(());
    }
    let ids = subjects_commands(app);
    let shown = command(app).filter(|row| ids == [row.id.to_string()]);
    match (action, shown.map(|row| row.status.is_terminal())) {
        (Action::CommandCancel, Some(true)) => Err("it is over: nothing is left to cancel"),
        (Action::CommandRetry, Some(false)) => Err("it is not over yet"),
        _ => Ok(()),
    }
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
        Place::Command(_) => {
            matches!(app.tabs.command, CommandTab::Payload | CommandTab::Response)
        }
        Place::Device(_) => app.tabs.device == DeviceTab::Commands,
        Place::Users => app.tabs.users != UsersTab::Tokens,
        Place::Handover => false,
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
