//! Which windows the screen needs, and the subscriptions that bring them.
//!
//! Nothing is subscribed by hand: after each update [`reconcile`] compares what
//! the screen shows with what is subscribed and asks for the difference. A
//! window reaches a screenful beyond what is seen, and moves only when the
//! view comes near its border.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    limits::LIVE_WINDOW_MAX_ROWS,
    live::{ClientMessage, Listing, Range},
    time::Timestamp,
};

use super::{
    App, filter,
    nav::Place,
    tabs::{CommandTab, DeviceTab, UsersTab},
};
use crate::tui::{
    effects::{Effect, NetRequest},
    store::{State, Subscription, WindowKey},
};

/// What the screen wants of a listing.
struct Wanted {
    listing: Listing,
    filter: BTreeMap<String, String>,
    sort: Option<String>,
    /// The first row that is seen, and how many.
    seen: (u64, u64),
}

fn whole(listing: Listing, filter: BTreeMap<String, String>, rows: u64) -> Wanted {
    Wanted { listing, filter, sort: None, seen: (0, rows) }
}

fn one(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

/// The listing of a table.
pub const fn listing(key: WindowKey) -> Listing {
    match key {
        WindowKey::Overview => Listing::Overview,
        WindowKey::OpenAlerts | WindowKey::Alerts | WindowKey::HandoverAlerts => Listing::Alerts,
        WindowKey::Devices | WindowKey::DeviceRow | WindowKey::WizardDevices => Listing::Devices,
        WindowKey::DeviceCommands
        | WindowKey::Commands
        | WindowKey::CommandRow
        | WindowKey::HandoverFailures => Listing::Commands,
        WindowKey::DeviceTimeline | WindowKey::CommandTimeline => Listing::Timeline,
        WindowKey::CommandOutput | WindowKey::PeekOutput => Listing::Output,
        WindowKey::Operations => Listing::Operations,
        WindowKey::Audit => Listing::Audit,
        WindowKey::Users => Listing::Users,
        WindowKey::Members => Listing::Members,
        WindowKey::Projects => Listing::Projects,
        WindowKey::Tokens => Listing::EnrollmentTokens,
        WindowKey::Tunnels | WindowKey::OpenTunnels => Listing::Tunnels,
        WindowKey::Recordings => Listing::Recordings,
    }
}

/// The order of a table that the operator has not sorted.
pub const fn default_sort(key: WindowKey) -> Option<&'static str> {
    match key {
        WindowKey::Devices | WindowKey::WizardDevices => Some("id"),
        WindowKey::Commands
        | WindowKey::DeviceCommands
        | WindowKey::Tunnels
        | WindowKey::OpenTunnels => Some("-created_at"),
        WindowKey::Alerts => Some("-last_seen_at"),
        // The worst first: there may be room for few.
        WindowKey::OpenAlerts => Some("-severity"),
        WindowKey::Audit => Some("-seq"),
        WindowKey::Recordings => Some("-started_at"),
        _ => None,
    }
}

/// When the server last stood for all that the screen shows, by our clock: a screen that was left
/// is older than the last word.
pub fn known_at(app: &App) -> Option<Timestamp> {
    wanted(app)
        .keys()
        .filter(|key| **key != WindowKey::Operations)
        .map(|key| app.store.window(*key))
        .filter(|window| window.is_known())
        .filter_map(|window| window.known_at)
        .min()
}

/// Says why a table cannot be filtered so.
pub fn check_filter(key: WindowKey, text: &str) -> Result<(), String> {
    let filter = filter::parse(text, listing(key))?;
    if key == WindowKey::OpenAlerts && filter.contains_key("status") {
        return Err("status: only open alerts stand here; Alerts has the others too".to_owned());
    }
    Ok(())
}

fn wanted(app: &App) -> BTreeMap<WindowKey, Wanted> {
    let mut all = BTreeMap::new();
    all.insert(WindowKey::Overview, whole(Listing::Overview, BTreeMap::new(), 1));
    if matches!(app.nav.here, Place::Overview | Place::Handover) {
        let open = one("status", "opening,open,stalled");
        let rows = u64::from(LIVE_WINDOW_MAX_ROWS) / 10;
        let sort = default_sort(WindowKey::OpenTunnels).map(str::to_owned);
        let wanted = Wanted { sort, ..whole(Listing::Tunnels, open, rows) };
        all.insert(WindowKey::OpenTunnels, wanted);
    }
    if matches!(app.nav.here, Place::Commands | Place::Command(_) | Place::Device(_)) {
        // Which of them are dangerous: a retry asks first.
        let rows = u64::from(LIVE_WINDOW_MAX_ROWS) / 2;
        all.insert(WindowKey::Operations, whole(Listing::Operations, BTreeMap::new(), rows));
    }
    let mut list = |key: WindowKey, fixed: BTreeMap<String, String>| {
        let state = app.list(key);
        let listing = listing(key);
        let mut filter = filter::parameters(&state.filter, listing);
        filter.extend(fixed);
        let sort = state.sort.clone().or_else(|| default_sort(key).map(str::to_owned));
        let height = u64::from(state.height.max(20));
        let seen = (state.top, height);
        all.insert(key, Wanted { listing, filter, sort, seen });
    };
    match &app.nav.here {
        Place::Overview => list(WindowKey::OpenAlerts, one("status", "open")),
        Place::Devices => list(WindowKey::Devices, BTreeMap::new()),
        Place::Device(id) => {
            match app.tabs.device {
                DeviceTab::Overview | DeviceTab::Health => {}
                DeviceTab::Commands => list(WindowKey::DeviceCommands, one("device", id.as_str())),
                DeviceTab::Timeline => list(WindowKey::DeviceTimeline, one("device", id.as_str())),
            }
            all.insert(WindowKey::DeviceRow, whole(Listing::Devices, one("id", id.as_str()), 1));
        }
        Place::Commands => {
            list(WindowKey::Commands, BTreeMap::new());
            if let Some(key) = &app.peek.shown {
                let rows = u64::from(LIVE_WINDOW_MAX_ROWS) / 5;
                all.insert(WindowKey::PeekOutput, tail(app, WindowKey::PeekOutput, key, rows));
            }
        }
        Place::Command(id) => {
            let id = id.to_string();
            all.insert(WindowKey::CommandRow, whole(Listing::Commands, one("id", &id), 1));
            // A new command may be for its device.
            let row = app.store.window(WindowKey::CommandRow).find(&id);
            if let Some(command) = row.and_then(|row| row.command()) {
                let device = one("id", command.device_id.as_str());
                all.insert(WindowKey::DeviceRow, whole(Listing::Devices, device, 1));
            }
            match app.tabs.command {
                CommandTab::Logs => {
                    let rows = u64::from(LIVE_WINDOW_MAX_ROWS);
                    let wanted = tail(app, WindowKey::CommandOutput, &id, rows);
                    all.insert(WindowKey::CommandOutput, wanted);
                }
                CommandTab::Timeline => {
                    let key = WindowKey::CommandTimeline;
                    let state = app.list(key);
                    let seen = (state.top, u64::from(state.height.max(20)));
                    all.insert(
                        key,
                        Wanted { seen, ..whole(Listing::Timeline, one("command", &id), 1) },
                    );
                }
                CommandTab::Overview | CommandTab::Payload | CommandTab::Response => {}
            }
        }
        Place::NewCommand => {
            list(WindowKey::WizardDevices, BTreeMap::new());
            let rows = u64::from(LIVE_WINDOW_MAX_ROWS) / 2;
            all.insert(WindowKey::Operations, whole(Listing::Operations, BTreeMap::new(), rows));
        }
        Place::Handover => {
            let rows = u64::from(LIVE_WINDOW_MAX_ROWS);
            let unacknowledged = one("status", "unacknowledged");
            let mut alerts = whole(Listing::Alerts, unacknowledged, rows);
            alerts.sort = default_sort(WindowKey::OpenAlerts).map(str::to_owned);
            all.insert(WindowKey::HandoverAlerts, alerts);
            let mut went_wrong = one("status", "failed,timed_out,expired,blocked_safety");
            went_wrong.extend(app.handover_from.map(|at| ("from".to_owned(), at.to_string())));
            let failures = whole(Listing::Commands, went_wrong, rows);
            all.insert(WindowKey::HandoverFailures, failures);
        }
        Place::Tunnels => list(WindowKey::Tunnels, BTreeMap::new()),
        // What is played is found among them, as it stands now.
        Place::Recordings | Place::Player(_) => list(WindowKey::Recordings, BTreeMap::new()),
        Place::Panes => {}
        Place::Alerts => list(WindowKey::Alerts, BTreeMap::new()),
        Place::Audit => list(WindowKey::Audit, BTreeMap::new()),
        Place::Users => list(
            match app.tabs.users {
                UsersTab::Users => WindowKey::Users,
                UsersTab::Members => WindowKey::Members,
                UsersTab::Projects => WindowKey::Projects,
                UsersTab::Tokens => WindowKey::Tokens,
            },
            BTreeMap::new(),
        ),
    }
    all
}

/// The last rows of a command's output.
fn tail(app: &App, key: WindowKey, command: &str, rows: u64) -> Wanted {
    let total = app.store.window(key).total;
    Wanted {
        seen: (total.saturating_sub(rows), rows),
        ..whole(Listing::Output, one("command", command), rows)
    }
}

/// Shows what is new again.
pub fn thaw(app: &mut App) {
    app.frozen = None;
    // Ask for everything anew: what came meanwhile was not kept.
    for (_, window) in app.store.iter_mut() {
        window.subscription = None;
    }
}

/// Subscribes, moves and unsubscribes so that the server sends what is shown.
pub fn reconcile(app: &mut App) -> Vec<Effect> {
    // Of another screen nothing is there that could stay: it would load for ever.
    if app.frozen.as_ref().is_some_and(|f| (&f.here, f.tabs) != (&app.nav.here, app.tabs)) {
        thaw(app);
    }
    let wanted = wanted(app);
    // Rows that another filter found are no answer to this one: no key may act on them.
    let other: Vec<WindowKey> = wanted
        .iter()
        .filter(|(key, want)| app.subjects.get(key) != Some(&want.filter))
        .map(|(key, _)| *key)
        .collect();
    if app.frozen.is_some() && other.iter().any(|key| app.subjects.contains_key(key)) {
        thaw(app);
    }
    for key in other {
        app.store.window_mut(key).clear();
        app.subjects.insert(key, wanted[&key].filter.clone());
    }
    if !app.link.is_connected() || app.frozen.is_some() {
        return Vec::new();
    }
    let mut messages = Vec::new();
    for (key, window) in app.store.iter_mut() {
        if !wanted.contains_key(&key)
            && let Some(before) = window.subscription.take()
        {
            messages.push(ClientMessage::Unsubscribe { id: before.id });
            window.state = State::Loading;
        }
    }
    for (key, want) in wanted {
        let next_id = app.next_window_id;
        let window = app.store.window_mut(key);
        let same = window.subscription.as_mut().filter(|before| {
            before.listing == want.listing
                && before.filter == want.filter
                && before.sort == want.sort
        });
        if let Some(before) = same {
            if let Some(range) = moved(before.range, want.seen, window.total) {
                before.range = range;
                messages.push(ClientMessage::Window { id: before.id, range });
            }
            continue;
        }
        if let Some(before) = window.subscription.take() {
            messages.push(ClientMessage::Unsubscribe { id: before.id });
        }
        window.state = State::Loading;
        window.asked_at = Some(app.now);
        let range = around(want.seen);
        window.subscription = Some(Subscription {
            id: next_id,
            listing: want.listing,
            filter: want.filter.clone(),
            sort: want.sort.clone(),
            range,
        });
        app.next_window_id += 1;
        messages.push(ClientMessage::Subscribe {
            id: next_id,
            listing: want.listing,
            filter: want.filter,
            sort: want.sort,
            range,
        });
    }
    messages.into_iter().map(|message| Effect::Net(NetRequest::Live(message))).collect()
}

/// What is seen and a screenful on each side.
fn around((top, rows): (u64, u64)) -> Range {
    let limit = (rows * 3).min(u64::from(LIVE_WINDOW_MAX_ROWS)) as u32;
    let before = (u64::from(limit).saturating_sub(rows)) / 2;
    Range { offset: top.saturating_sub(before), limit }
}

/// The range to move to when what is seen comes near the border of what is there.
fn moved(range: Range, (top, rows): (u64, u64), total: u64) -> Option<Range> {
    let end = range.offset + u64::from(range.limit);
    let reserve = rows / 3;
    let near_start = range.offset > 0 && top < range.offset + reserve;
    let near_end = end < total && top + rows + reserve > end;
    let to = around((top, rows));
    ((near_start || near_end) && to != range).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_moves_only_near_its_border() {
        let range = around((0, 40));
        assert_eq!(range, Range { offset: 0, limit: 120 });
        assert_eq!(moved(range, (30, 40), 100_000), None);
        let next = moved(range, (70, 40), 100_000).expect("near the end");
        assert_eq!(next, Range { offset: 30, limit: 120 });
        assert_eq!(moved(next, (60, 40), 100_000), None);
        assert_eq!(moved(next, (35, 40), 100_000).map(|range| range.offset), Some(0));
    }

    #[test]
    fn a_window_at_the_end_of_the_listing_stays() {
        assert_eq!(moved(Range { offset: 0, limit: 120 }, (80, 40), 120), None);
    }
}
