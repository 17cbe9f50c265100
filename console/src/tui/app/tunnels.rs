//! The sessions of others and one's own: going to them, ending them.

use quarterdeck_protocol::{
    api::{Recording, RecordingStatus, Role, Tunnel, TunnelKind},
    ids::TunnelId,
    tunnel::session::Mode,
};

use super::{
    App,
    actions::Action,
    dialog::Then,
    jobs::Task,
    panes,
    perform::{ask, on_rows},
    player, subjects,
};
use crate::tui::{
    effects::{ApiRequest, Effect},
    format,
    store::WindowKey,
    theme::Tone,
    tunnels::{Attach, Record},
};

/// The session under the cursor.
fn under_cursor(app: &App) -> Option<Tunnel> {
    let list = app.list(WindowKey::Tunnels);
    app.store.window(WindowKey::Tunnels).row(list.cursor)?.tunnel().cloned()
}

/// Enter: goes back to an own terminal, watches somebody else's, plays one that is over.
pub(super) fn open(app: &mut App, effects: &mut Vec<Effect>) {
    let Some(tunnel) = under_cursor(app) else { return };
    if tunnel.status.is_over() {
        return play(app, effects);
    }
    let is_mine = tunnel.user == app.session.username;
    let may_write = app.available(Action::Terminal(Record::AsProject)).is_ok();
    attach(app, if is_mine && may_write { Mode::Owner } else { Mode::Watch });
}

/// Shows the session in a pane.
pub(super) fn attach(app: &mut App, mode: Mode) {
    let Some(tunnel) = under_cursor(app) else { return };
    if tunnel.kind != TunnelKind::Terminal {
        return app.toast("only terminals can be joined: this one shows nothing", Tone::Muted);
    }
    if tunnel.status.is_over() {
        return app.toast("it is over: Enter plays its recording, if it has one", Tone::Muted);
    }
    panes::attach(app, tunnel.device_id, Attach::Existing { tunnel: tunnel.id, mode });
}

/// Plays the session's recording.
pub(super) fn play(app: &mut App, effects: &mut Vec<Effect>) {
    let Some(tunnel) = under_cursor(app) else { return };
    match tunnel.recording_id {
        Some(id) => player::open(app, id, effects),
        None => app.toast("it was not recorded", Tone::Muted),
    }
}

/// Asks before it ends sessions: own ones, or as an admin anybody's.
pub(super) fn kill(app: &mut App) {
    let window = app.store.window(WindowKey::Tunnels);
    // Of a marked row that is out of sight the server says whether it is over, and whose it is.
    let known = |key: &String| window.find(key).and_then(|row| row.tunnel());
    let open: Vec<(TunnelId, Option<&Tunnel>)> = subjects::subjects(app)
        .iter()
        .filter(|key| known(key).is_none_or(|tunnel| !tunnel.status.is_over()))
        .filter_map(|key| Some((key.parse().ok()?, known(key))))
        .collect();
    if open.is_empty() {
        return app.toast("it is over already", Tone::Muted);
    }
    let is_admin = app.session.admin || app.session.role >= Role::Admin;
    let foreign = open
        .iter()
        .find_map(|(_, tunnel)| tunnel.filter(|tunnel| tunnel.user != app.session.username));
    if let Some(foreign) = foreign.filter(|_| !is_admin) {
        let text = format!("{} opened it: you may end your own, admins any", foreign.user);
        return app.toast(text, Tone::Warn);
    }
    let title = match open.as_slice() {
        [(_, Some(only))] => {
            format!("End {}'s {} on {}?", only.user, kind(only.kind), only.device_id)
        }
        many => format!("End {}?", format::plural(many.len() as u64, "tunnel")),
    };
    let mut lines = vec!["What runs in it ends.".to_owned()];
    let attached: u32 =
        open.iter().filter_map(|(_, tunnel)| *tunnel).map(|tunnel| tunnel.attached).sum();
    if attached > 0 {
        lines.push(format!("{} attached.", format::plural(u64::from(attached), "console")));
    }
    let tasks = open
        .iter()
        .map(|(id, _)| Task::one(ApiRequest::CloseTunnel(*id), id.to_string()))
        .collect();
    let what = on_rows("end", tasks);
    ask(app, &title, lines, "End it", true, Then::Now(what));
}

/// Asks before recordings are gone for good.
pub(super) fn delete_recordings(app: &mut App) {
    let window = app.store.window(WindowKey::Recordings);
    // Of a marked row that is out of sight the server says whether its session goes on.
    let known = |key: &String| window.find(key).and_then(|row| row.recording());
    let is_over = |recording: &Recording| recording.status != RecordingStatus::Recording;
    let (over, going_on): (Vec<String>, Vec<String>) =
        subjects::subjects(app).into_iter().partition(|key| known(key).is_none_or(is_over));
    let mut lines = match over.as_slice() {
        [] => return app.toast(STILL_RECORDING, Tone::Muted),
        [only] => known(only)
            .map(|known| format!("What {} saw on {}.", known.user, known.device_id))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    };
    lines.push("It is gone for good then, for everybody.".to_owned());
    match going_on.len() {
        0 => {}
        1 => lines.push("One more is still recorded: it stays.".to_owned()),
        n => lines.push(format!("{} more are still recorded: they stay.", format::count(n as u64))),
    }
    let title = format!("Delete {}?", format::plural(over.len() as u64, "recording"));
    let doing = match over.len() {
        1 => "delete the recording".to_owned(),
        n => format!("delete {}", format::plural(n as u64, "recording")),
    };
    let task = |id: String| Task::one(ApiRequest::DeleteRecording { id: id.clone() }, id);
    let what = on_rows("delete", over.into_iter().map(task).collect());
    ask(app, &title, lines, "Delete", true, Then::Grace(doing, what));
}

/// Why a recording cannot be deleted.
pub(super) const STILL_RECORDING: &str = "its session goes on: end that first";

/// What a tunnel is, for people.
pub const fn kind(kind: TunnelKind) -> &'static str {
    match kind {
        TunnelKind::Terminal => "terminal",
        TunnelKind::Exec => "exec",
        TunnelKind::Ssh => "ssh",
        TunnelKind::PortForward => "port forward",
    }
}
