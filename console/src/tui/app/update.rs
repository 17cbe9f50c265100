//! The one function that changes the state.

use quarterdeck_protocol::{api::Role, device::DeviceStatus, operations::is_builtin};

use super::{
    App, GONE_AFTER_MS, Link, Peek,
    actions::Action,
    answers,
    calls::Purpose,
    dialog::Overlay,
    drafts, jobs,
    list::Mark,
    moving,
    msg::{Layout, Msg},
    nav::Place,
    overlays, panes, perform, player,
    windows::reconcile,
    wizard_input,
};
use crate::tui::{
    effects::{ApiRequest, Effect, NetRequest},
    mailbox::{Batch, Hello, LinkEvent},
    store::WindowKey,
    term::input::{Code, Input, Key},
    theme::Tone,
};

/// How long the cursor must rest before the peek pane asks for a command's output.
const PEEK_REST_MS: i64 = 150;
/// The same on a slow link.
const PEEK_REST_SLOW_MS: i64 = 600;
/// How often the health of the device that is shown is asked for.
const HEALTH_EVERY_MS: i64 = 15_000;

/// Takes what happened; gives back what is to be done. `app.now` is set by the caller before.
pub fn update(app: &mut App, msg: Msg) -> Vec<Effect> {
    let mut effects = match msg {
        Msg::Input(input) => on_input(app, &input),
        Msg::Net(batch) => on_net(app, batch),
        Msg::Tick => Vec::new(),
        Msg::Drawn(layout) => on_drawn(app, layout),
        Msg::Said { text, is_error } => {
            app.tell(text, if is_error { Tone::Bad } else { Tone::Good });
            Vec::new()
        }
        Msg::ExportFailed { why } => {
            app.sweep = None;
            app.tell(format!("export: {why}"), Tone::Bad);
            Vec::new()
        }
    };
    effects.extend(on_time(app));
    drafts::put_aside(app);
    effects.extend(jobs::pump(app));
    effects.extend(reconcile(app));
    effects
}

fn on_input(app: &mut App, input: &Input) -> Vec<Effect> {
    if let Input::Resize(size) = input {
        app.size = *size;
        return Vec::new();
    }
    if app.overlay.is_some() {
        return overlays::input(app, input);
    }
    if app.wall.is_some() {
        return on_wall_input(app, input);
    }
    if let Some(effects) = panes::typing::input(app, input) {
        return effects;
    }
    if app.nav.here == Place::NewCommand
        && let Some(effects) = wizard_input::input(app, input)
    {
        return effects;
    }
    match input {
        Input::Key(key) => on_key(app, *key),
        Input::Wheel { x, y, lines } => {
            scroll(app, i64::from(*lines), Some((*x, *y)));
            Vec::new()
        }
        Input::Click { x, y } => on_click(app, *x, *y),
        Input::Paste(_) | Input::Pointer { .. } | Input::Resize(_) => Vec::new(),
    }
}

fn on_key(app: &mut App, key: Key) -> Vec<Effect> {
    let contexts = app.contexts();
    let action = app.keymap.actions(&contexts, key).first().copied();
    match action {
        Some(action) => perform::perform(app, action),
        None => Vec::new(),
    }
}

fn on_wall_input(app: &mut App, input: &Input) -> Vec<Effect> {
    let now = app.now;
    let Some(wall) = &mut app.wall else { return Vec::new() };
    let Input::Key(key) = input else { return Vec::new() };
    match key.code {
        Code::Char('c') if key.ctrl => return vec![Effect::Quit],
        Code::Char('r') if matches!(app.link, Link::Lost { .. }) => {
            return perform::perform(app, Action::Reconnect);
        }
        Code::Char(' ') => wall.paused = !wall.paused,
        Code::Left | Code::Char('h') => wall.turn(-1, now),
        Code::Right | Code::Char('l') => wall.turn(1, now),
        Code::Char('q') | Code::Esc | Code::Enter if !wall.for_ever => app.wall = None,
        Code::Char('?') => app.overlay = Some(Overlay::Help(0)),
        _ => {}
    }
    Vec::new()
}

/// Scrolls what lies under the pointer, or what has the focus.
pub fn scroll(app: &mut App, lines: i64, at: Option<(u16, u16)>) {
    let under = at.and_then(|(x, y)| {
        let position = ratatui::layout::Position::new(x, y);
        app.layout.lists.iter().find(|(_, area)| area.contains(position)).map(|(key, _)| *key)
    });
    if let Some(key) = under.or_else(|| app.current_list()) {
        let window = app.store.window(key);
        let list = app.lists.entry(key).or_default();
        list.scroll(lines, window);
    } else {
        moving::scroll_viewer(app, lines);
    }
}

fn on_click(app: &mut App, x: u16, y: u16) -> Vec<Effect> {
    let at = ratatui::layout::Position::new(x, y);
    let layout = app.layout.clone();
    if let Some((tab, _)) = layout.tabs.iter().find(|(_, area)| area.contains(at)) {
        moving::show_tab(app, *tab);
        return Vec::new();
    }
    let card = layout.cards.iter().find(|(_, area)| area.contains(at)).map(|(card, _)| *card);
    if let (Some(card), true) = (card, app.is_choosing_operation()) {
        // A click on the chosen card goes on with it.
        match &mut app.wizard {
            Some(wizard) if wizard.card != card => wizard.card = card,
            _ => wizard_input::next(app),
        }
        return Vec::new();
    }
    let Some((key, area)) = layout.lists.iter().find(|(_, area)| area.contains(at)) else {
        return Vec::new();
    };
    let row = app.list(*key).top + u64::from(y - area.y);
    if row >= app.store.window(*key).total {
        return Vec::new();
    }
    // A click on the cursor's row opens it.
    if app.list(*key).cursor == row && app.current_list() == Some(*key) {
        return perform::perform(app, Action::Open);
    }
    app.peek.focused = false;
    let window = app.store.window(*key);
    app.lists.entry(*key).or_default().go(row, window);
    Vec::new()
}

fn on_drawn(app: &mut App, layout: Layout) -> Vec<Effect> {
    for (key, area) in &layout.lists {
        let total = app.store.window(*key).total;
        let list = app.lists.entry(*key).or_default();
        if list.height != area.height {
            list.height = area.height;
            list.show_cursor(total);
        }
    }
    for (key, column, wide) in &layout.names {
        let widest = app.lists.entry(*key).or_default().names_wide.entry(column).or_default();
        *widest = (*widest).max(*wide);
    }
    if let Some((area, lines)) = layout.viewer {
        let last = lines.saturating_sub(usize::from(area.height));
        app.viewer.top = if app.viewer.follow { last } else { app.viewer.top.min(last) };
        if let Some((from, to)) = layout.viewer_cursor {
            // In sight as a whole, or from its beginning on.
            let rows = usize::from(area.height);
            app.viewer.top = app.viewer.top.max(to.saturating_sub(rows)).min(from);
        }
    }
    let effects = panes::drawn(app, &layout.panes, layout.panes_area);
    app.layout = layout;
    effects
}

fn on_net(app: &mut App, batch: Batch) -> Vec<Effect> {
    let mut effects = Vec::new();
    if let Some(event) = batch.link {
        on_link(app, event, &mut effects);
    }
    if let Some(heard) = batch.heard {
        app.heard_at = Some(app.now);
        app.skew_ms = heard.millis_since(app.now);
    }
    if app.frozen.is_none() {
        for slot in batch.windows {
            let Some((key, window)) = app.store.by_id(slot.id) else { continue };
            window.apply(slot, batch.heard);
            let window = app.store.window(key);
            let list = app.lists.entry(key).or_default();
            if app.wall.is_some() {
                // Nobody is at a wall: it shows what is first.
                list.first();
            } else {
                list.follow(window);
            }
            refresh_marks(app, key);
        }
        if batch.heard.is_some() {
            app.store.heard(app.now);
        }
        app.sample();
        effects.extend(watch_criticals(app));
    }
    for news in batch.streams {
        panes::news(app, news, &mut effects);
    }
    for (id, result) in batch.answers {
        effects.extend(answers::answer(app, id, result));
    }
    effects
}

fn on_link(app: &mut App, event: LinkEvent, effects: &mut Vec<Effect>) {
    match event {
        LinkEvent::Connected(hello) => {
            let before = std::mem::replace(&mut app.link, Link::Connected);
            let is_other_project = app.session.project != hello.project.as_str();
            let said = said_on_return(app, &before, &hello);
            if is_other_project {
                drafts::change_project(app, hello.project.as_str());
            }
            app.session.project = hello.project.to_string();
            app.session.username = hello.username;
            app.session.role = hello.role;
            app.session.admin = hello.admin;
            app.session.server_version = hello.server_version;
            // The server knows nothing of windows from before.
            for (_, window) in app.store.iter_mut() {
                window.subscription = None;
                if is_other_project {
                    window.clear();
                }
            }
            if is_other_project {
                app.lists.clear();
                app.sweep = None;
                panes::leave_project(app, effects);
                app.subjects.clear();
                app.samples.clear();
            }
            if let Some((text, tone)) = said {
                app.tell(text, tone);
            }
            if let Some(id) = app.calls.begin(Purpose::Settings, app.now) {
                let call = ApiRequest::ProjectSettings;
                effects.push(Effect::Net(NetRequest::Call { id, call }));
            }
            app.health_due = Some(app.now);
        }
        LinkEvent::Lost { why, again_in } => {
            let since = match &app.link {
                Link::Lost { since, .. } => *since,
                Link::Connected => app.heard_at.unwrap_or(app.now),
                Link::Connecting | Link::SignedOut { .. } => app.now,
            };
            let again_at = again_in.map(|pause| {
                let ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
                app.now.plus_millis(ms)
            });
            app.link = Link::Lost { since, why, again_at };
        }
        LinkEvent::SignedOut { why, waits_for_login } => {
            app.link = Link::SignedOut { why, waits_for_login };
        }
    }
}

/// What is said when a connection stands again: that it does, and who one is now where that is
/// another than before.
fn said_on_return(app: &App, before: &Link, hello: &Hello) -> Option<(String, Tone)> {
    let session = &app.session;
    let is_first = session.username.is_empty();
    let is_same_place = session.project == hello.project.as_str();
    let is_same_user = session.username == hello.username;
    let word = |admin: bool, role: Role| if admin { "server admin" } else { role.as_str() };
    let (was, is) = (word(session.admin, session.role), word(hello.admin, hello.role));
    if !is_first && is_same_place && !is_same_user {
        return Some((format!("you are {} now, {is}", hello.username), Tone::Warn));
    }
    if !is_first && is_same_place && was != is {
        return Some((format!("you are {is} now, no longer {was}"), Tone::Warn));
    }
    match before {
        Link::Lost { .. } => Some(("connected again".to_owned(), Tone::Good)),
        Link::SignedOut { .. } => Some(("signed in again".to_owned(), Tone::Good)),
        Link::Connecting | Link::Connected => None,
    }
}

/// What is known of marked devices moves on with their rows.
fn refresh_marks(app: &mut App, key: WindowKey) {
    if !matches!(key, WindowKey::Devices | WindowKey::WizardDevices) {
        return;
    }
    let window = app.store.window(key);
    if let Some(list) = app.lists.get_mut(&key) {
        for row in window.rows() {
            if let (Some(mark), Some(device)) = (list.marks.get_mut(&row.key), row.device()) {
                *mark = device_mark(device);
            }
        }
    }
    if let Some(wizard) = &mut app.wizard {
        for row in window.rows() {
            if let (Some(mark), Some(device)) = (wizard.targets.get_mut(&row.key), row.device()) {
                *mark = device_mark(device);
            }
        }
        wizard.leave_out_retired();
    }
}

/// What the wizard wants to know of a device.
pub fn device_mark(device: &quarterdeck_protocol::api::Device) -> Mark {
    let tag = |name: &str| device.tags.get(name).cloned();
    let production = ["environment", "env", "stage"]
        .into_iter()
        .filter_map(tag)
        .any(|value| matches!(value.to_ascii_lowercase().as_str(), "production" | "prod"));
    Mark {
        // A retired one is not heard, and is known to be retired.
        status: (device.unheard_since.is_none() || device.status == DeviceStatus::Retired)
            .then_some(device.status),
        site: tag("site"),
        production,
        last_seen_at: (device.status != DeviceStatus::Online || device.unheard_since.is_some())
            .then_some(device.last_seen_at)
            .flatten(),
        own_operations: Some(
            device.capabilities.iter().filter(|name| !is_builtin(name)).cloned().collect(),
        ),
        kind: None,
    }
}

fn watch_criticals(app: &mut App) -> Vec<Effect> {
    let Some(overview) = app.store.overview() else { return Vec::new() };
    let now_critical = overview.alerts.critical;
    let more = now_critical > app.criticals;
    let was_known = app.samples.len() > 1 || app.criticals > 0;
    app.criticals = now_critical;
    if !more || !was_known {
        return Vec::new();
    }
    let now = app.now;
    if let Some(wall) = &mut app.wall {
        wall.jump_to_alerts(now);
    }
    if app.bell {
        let text = format!("{}: {now_critical} critical alerts", app.session.project);
        return vec![Effect::Notify(text)];
    }
    Vec::new()
}

/// What time alone brings about.
fn on_time(app: &mut App) -> Vec<Effect> {
    let now = app.now;
    let mut effects = Vec::new();
    let here = &app.nav.here;
    app.toasts
        .retain(|toast| toast.until > now && toast.of.as_ref().is_none_or(|place| place == here));
    if let Some(wall) = &mut app.wall {
        wall.tick(now);
    }
    leave_grace(app, &mut effects);
    player::on_time(app);
    peek_after_a_rest(app);
    if let Place::Device(id) = app.nav.here.clone() {
        let due = app.health_due.is_none_or(|due| due <= now);
        let purpose = Purpose::Health(id.clone());
        if due && app.link.is_connected() && !app.is_pending(&purpose) {
            app.health_due = Some(now.plus_millis(HEALTH_EVERY_MS));
            if let Some(request) = app.calls.begin(purpose, now) {
                let call = ApiRequest::DeviceHealth(id);
                effects.push(Effect::Net(NetRequest::Call { id: request, call }));
            }
        }
    } else {
        app.health_due = None;
    }
    effects
}

/// Sends batches whose grace is over; calls them back where there is no connection to send them on.
fn leave_grace(app: &mut App, effects: &mut Vec<Effect>) {
    let now = app.now;
    let (due, kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut app.calls.grace).into_iter().partition(|grace| grace.until <= now);
    app.calls.grace = kept;
    for grace in due {
        // A screen that slept through the grace has not heard, either, that its connection is gone.
        let is_heard = app.heard_at.is_some_and(|at| now.millis_since(at) < GONE_AFTER_MS);
        if !app.link.is_connected() || !is_heard {
            let text = format!("not sent, there is no connection: {}", grace.title);
            app.tell(text, Tone::Bad);
            if let Some(number) = grace.what.submission() {
                drafts::came_back(app, number, |wizard| {
                    wizard.error = Some("it was not sent: there was no connection".to_owned());
                });
            }
            continue;
        }
        perform::send(app, grace.what, effects);
    }
}

/// The tables with a peek pane.
const fn peeks_at(place: &Place) -> Option<WindowKey> {
    match place {
        Place::Devices => Some(WindowKey::Devices),
        Place::Commands => Some(WindowKey::Commands),
        Place::Alerts => Some(WindowKey::Alerts),
        Place::Audit => Some(WindowKey::Audit),
        Place::Tunnels => Some(WindowKey::Tunnels),
        Place::Recordings => Some(WindowKey::Recordings),
        _ => None,
    }
}

fn peek_after_a_rest(app: &mut App) {
    let of = peeks_at(&app.nav.here);
    if app.peek.of != of {
        app.peek = Peek { hidden: app.peek.hidden, of, ..Peek::default() };
    }
    // What is frozen stays: of another row nothing would come.
    let Some(key) = of.filter(|_| !app.peek.hidden && app.frozen.is_none()) else {
        app.peek.due = None;
        return;
    };
    let under = app.store.window(key).row(app.list(key).cursor).map(|row| row.key.clone());
    if under == app.peek.shown {
        app.peek.due = None;
        return;
    }
    // The first row is peeked at once.
    if app.peek.shown.is_none() {
        app.peek.shown = under;
        return;
    }
    let moved_on = app.peek.under != under;
    app.peek.under.clone_from(&under);
    if moved_on {
        let rest = if app.low_bandwidth { PEEK_REST_SLOW_MS } else { PEEK_REST_MS };
        app.peek.due = Some(app.now.plus_millis(rest));
        return;
    }
    match app.peek.due {
        Some(due) if due <= app.now => {
            app.peek.shown = under;
            app.peek.due = None;
            app.viewer = super::Viewer { follow: true, ..super::Viewer::default() };
        }
        Some(_) | None => {}
    }
}
