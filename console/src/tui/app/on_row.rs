//! Whether an action can do anything to the one row that it would be about.
//!
//! Asked by the footer at each frame: it looks at one row, and walks through no
//! marks. Of several marked rows the server says which can.

use quarterdeck_protocol::api::{Alert, Command, RecordingStatus, Role, Tunnel, TunnelKind};

use super::{App, actions::Action, moving, nav::Place, tabs::UsersTab, tunnels};
use crate::tui::store::{Row, WindowKey};

/// Says why an action does nothing to the row under the cursor, or to what is shown.
pub fn on_row(app: &App, action: Action) -> Result<(), String> {
    match action {
        Action::CommandCancel | Action::CommandRetry => command(app, action),
        Action::TunnelWatch
        | Action::TunnelCopilot
        | Action::TunnelKill
        | Action::TunnelRecording => tunnel(app, action),
        Action::Open if app.nav.here == Place::Tunnels => tunnel(app, action),
        Action::Open if app.nav.here == Place::Audit => audit(app),
        Action::AlertAcknowledge | Action::AlertJump => alert(app, action),
        Action::Terminal(_) => terminal(app),
        Action::RecordingDelete => recording(app),
        Action::DeviceClearFailed => failed_service(app),
        Action::UserDisable | Action::UserEnable => user(app, action),
        _ => Ok(()),
    }
}

/// The row that the keys of a table are about, when they are about one.
fn only(app: &App, table: WindowKey) -> Option<&Row> {
    let list = app.list(table);
    app.store.window(table).row(list.cursor).filter(|_| list.marks.is_empty())
}

fn command(app: &App, action: Action) -> Result<(), String> {
    let row = match &app.nav.here {
        Place::Command(id) => app.store.window(WindowKey::CommandRow).find(&id.to_string()),
        Place::Commands => only(app, WindowKey::Commands),
        Place::Device(_) => only(app, WindowKey::DeviceCommands),
        _ => None,
    };
    let Some(command): Option<&Command> = row.and_then(Row::command) else { return Ok(()) };
    match (action, command.status.is_terminal()) {
        (Action::CommandCancel, true) => Err("it is over: nothing is left to cancel".to_owned()),
        (Action::CommandRetry, false) => Err("it is not over yet".to_owned()),
        _ => Ok(()),
    }
}

fn tunnel(app: &App, action: Action) -> Result<(), String> {
    // Watching, joining and opening are about the cursor's row, whatever is marked.
    let at_cursor = || {
        let cursor = app.list(WindowKey::Tunnels).cursor;
        app.store.window(WindowKey::Tunnels).row(cursor)
    };
    let row =
        if action == Action::TunnelKill { only(app, WindowKey::Tunnels) } else { at_cursor() };
    let Some(tunnel): Option<&Tunnel> = row.and_then(Row::tunnel) else { return Ok(()) };
    let is_over = tunnel.status.is_over();
    let is_recorded = tunnel.recording_id.is_some();
    let why = match action {
        Action::TunnelKill if is_over => "it is over already",
        Action::TunnelKill if !may_end(app, tunnel) => {
            return Err(format!("{} opened it: you may end your own, admins any", tunnel.user));
        }
        Action::TunnelRecording if !is_recorded => "it was not recorded",
        Action::Open if is_over && !is_recorded => "it is over, and was not recorded",
        Action::Open if is_over => return Ok(()),
        Action::TunnelWatch | Action::TunnelCopilot | Action::Open
            if tunnel.kind != TunnelKind::Terminal =>
        {
            "only terminals can be joined: this one shows nothing"
        }
        Action::TunnelWatch | Action::TunnelCopilot if is_over && is_recorded => {
            "it is over: Enter plays its recording"
        }
        Action::TunnelWatch | Action::TunnelCopilot if is_over => "it is over",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

fn recording(app: &App) -> Result<(), String> {
    match only(app, WindowKey::Recordings).and_then(Row::recording) {
        Some(recording) if recording.status == RecordingStatus::Recording => {
            Err(tunnels::STILL_RECORDING.to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether one may end a session: one's own, or any as an admin.
fn may_end(app: &App, tunnel: &Tunnel) -> bool {
    let session = &app.session;
    session.admin || session.role >= Role::Admin || tunnel.user == session.username
}

/// The alert that the keys are about.
fn shown_alert(app: &App) -> Option<&Alert> {
    let table = match app.nav.here {
        Place::Overview => WindowKey::OpenAlerts,
        Place::Alerts => WindowKey::Alerts,
        _ => return None,
    };
    only(app, table).and_then(Row::alert)
}

fn alert(app: &App, action: Action) -> Result<(), String> {
    let Some(alert) = shown_alert(app) else { return Ok(()) };
    match (action, &alert.acknowledged_by) {
        (Action::AlertAcknowledge, Some(by)) => Err(format!("{by} has acknowledged it")),
        (Action::AlertJump, _) if alert.command_id.is_none() && alert.device_id.is_none() => {
            Err("this alert is about no one device or command".to_owned())
        }
        _ => Ok(()),
    }
}

fn audit(app: &App) -> Result<(), String> {
    let cursor = app.list(WindowKey::Audit).cursor;
    let entry = app.store.window(WindowKey::Audit).row(cursor).and_then(Row::audit);
    match entry.map(moving::audit_place) {
        Some(None) => Err("what this entry is about has no screen".to_owned()),
        _ => Ok(()),
    }
}

fn terminal(app: &App) -> Result<(), String> {
    match shown_alert(app) {
        Some(alert) if alert.device_id.is_none() => {
            Err("this alert is about no one device".to_owned())
        }
        _ => Ok(()),
    }
}

fn failed_service(app: &App) -> Result<(), String> {
    let row = match &app.nav.here {
        Place::Device(id) => app.store.window(WindowKey::DeviceRow).find(id.as_str()),
        Place::Devices => only(app, WindowKey::Devices),
        _ => None,
    };
    match row.and_then(Row::device) {
        Some(device) if device.service_failed.is_none() => {
            Err(format!("{} has no failed service", device.id))
        }
        _ => Ok(()),
    }
}

fn user(app: &App, action: Action) -> Result<(), String> {
    if app.nav.here != Place::Users || app.tabs.users != UsersTab::Users {
        return Ok(());
    }
    let Some(user) = only(app, WindowKey::Users).and_then(Row::user) else { return Ok(()) };
    match (action, user.disabled) {
        (Action::UserDisable, true) => Err(format!("{} is disabled already", user.username)),
        (Action::UserEnable, false) => Err(format!("{} is not disabled", user.username)),
        _ => Ok(()),
    }
}
