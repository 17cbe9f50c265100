//! Where an action is at home, and what it needs there: for who asks for it elsewhere.
//!
//! The palette lists every action. One that has nothing to act on here goes to its
//! screen first. What makes something new is done there at once; what is about a
//! row says so and waits for its key, since the row that happens to be under the
//! cursor there is not what was meant.

use super::{
    App,
    actions::{Action, Context, Spec},
    drafts,
    moving::go,
    nav::Place,
    perform::perform,
    tabs::UsersTab,
};
use crate::tui::{effects::Effect, theme::Tone};

/// A screen, and what an action needs there.
struct Home {
    place: Place,
    /// What the palette calls it.
    name: &'static str,
    /// What is to be done there before the key.
    first: &'static str,
}

const fn home(context: Context) -> Option<Home> {
    let (place, name, first) = match context {
        Context::Overview => (Place::Overview, "Overview", "choose an alert"),
        Context::Devices => (Place::Devices, "Devices", "choose a device"),
        Context::Device => (Place::Devices, "Devices", "open a device"),
        Context::Commands => (Place::Commands, "Commands", "choose a command"),
        Context::Command => (Place::Commands, "Commands", "open a command"),
        Context::Alerts => (Place::Alerts, "Alerts", "choose an alert"),
        Context::Audit => (Place::Audit, "Audit", "choose an entry"),
        Context::Users => (Place::Users, "Users", "choose a row"),
        Context::Tunnels => (Place::Tunnels, "Tunnels", "choose a session"),
        Context::Recordings => (Place::Recordings, "Recordings", "choose a recording"),
        Context::Player => (Place::Recordings, "Recordings", "play a recording"),
        Context::Pane | Context::Prefix => (Place::Panes, "Panes", "open a terminal"),
        Context::Scroll => (Place::Panes, "Panes", "scroll back in a terminal"),
        Context::Global | Context::List | Context::Viewer | Context::Wizard => return None,
    };
    Some(Home { place, name, first })
}

/// The home of an action; `None` of one that is wherever there is a table, a text, or a wizard.
fn of(spec: &Spec) -> Option<Home> {
    // Also on Overview, but commands are what it is about.
    if spec.action == Action::New {
        return home(Context::Commands);
    }
    spec.contexts.iter().find_map(|context| home(*context))
}

/// What an action needs that is at home on no one screen.
fn needs(app: &App, spec: &Spec) -> String {
    if spec.contexts.contains(&Context::Wizard) {
        return "is for the wizard of a new command: \":new command\" opens it".to_owned();
    }
    if app.nav.here == Place::Panes && spec.contexts.contains(&Context::Global) {
        return "is for other screens: leave the panes first".to_owned();
    }
    let text = "needs a text: a command's logs, payload or response";
    let is_of_text = spec.contexts.contains(&Context::Viewer);
    if is_of_text { text } else { "needs a table: go to Devices, say" }.to_owned()
}

/// Where the palette says that an action leads, when it has nothing to act on here.
pub fn place_name(app: &App, spec: &Spec) -> Option<&'static str> {
    if is_here(app, spec) {
        return None;
    }
    of(spec).map(|home| home.name)
}

/// Whether an action is done where one is.
pub fn is_here(app: &App, spec: &Spec) -> bool {
    // What leads away, or is about the whole console, works also while a pane has the keyboard.
    let is_of_all = matches!(
        spec.action,
        Action::Screen(_)
            | Action::Quit
            | Action::Handover
            | Action::AlertsScreen
            | Action::Wall
            | Action::Redraw
            | Action::ScreenDump
            | Action::Undo
    );
    is_of_all || app.concerns(spec)
}

/// Does what was chosen in the palette: here, or where it can be done.
pub(super) fn choose(app: &mut App, action: Action) -> Vec<Effect> {
    let spec = action.spec();
    if is_here(app, spec) {
        return perform(app, action);
    }
    if let Err(why) = app.permitted(action) {
        app.toast(why, Tone::Warn);
        return Vec::new();
    }
    let Some(Home { place, name, first }) = of(spec) else {
        let needs = needs(app, spec);
        app.toast(format!("{}: {needs}", spec.title), Tone::Muted);
        return Vec::new();
    };
    if action == Action::New {
        drafts::new(app);
        return Vec::new();
    }
    go(app, place);
    if let Some(tab) = users_tab(action) {
        app.tabs.users = tab;
    }
    if matches!(action, Action::UserCreate | Action::ProjectCreate | Action::TokenCreate) {
        return perform(app, action);
    }
    let is_in_pane = spec.contexts.contains(&Context::Prefix);
    let key = app.keymap.hint(action).unwrap_or_else(|| "a".to_owned());
    let prefix = app.keymap.hint(Action::PanePrefix).filter(|_| is_in_pane);
    let keys = prefix.map_or_else(|| key.clone(), |prefix| format!("{prefix} {key}"));
    let text = format!("{}: on {name}, {first}, then {keys}", spec.title);
    app.toast(text, Tone::Muted);
    Vec::new()
}

/// The tab of the Users screen that an action is about.
const fn users_tab(action: Action) -> Option<UsersTab> {
    match action {
        Action::UserCreate | Action::UserPassword | Action::UserDisable | Action::UserEnable => {
            Some(UsersTab::Users)
        }
        Action::MemberRole | Action::MemberRemove => Some(UsersTab::Members),
        Action::ProjectCreate | Action::ProjectOpen => Some(UsersTab::Projects),
        Action::TokenCreate | Action::TokenRevoke => Some(UsersTab::Tokens),
        _ => None,
    }
}
