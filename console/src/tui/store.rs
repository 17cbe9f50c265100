//! What the server said: one [`Window`] for each table that was opened.
//!
//! A row is kept as the JSON that came and parsed when it is first shown, so
//! rows that scroll past or change unseen cost nothing. What is here is the
//! server's word, never our guess: an action that is under way is in
//! [`Calls`](super::app::calls::Calls), and shown beside it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use quarterdeck_protocol::{
    api::{
        Alert, AuditEntry, Command, Device, EnrollmentToken, Member, OutputChunk, Overview,
        Project, Recording, TimelineEntry, Tunnel, User,
    },
    live::{Listing, Range},
    operations::Operation,
    time::Timestamp,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::mailbox::{Refusal, Slot};

/// Which table a window is for. Its order is the order of subscribing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowKey {
    Overview,
    OpenAlerts,
    Devices,
    DeviceRow,
    DeviceCommands,
    DeviceTimeline,
    Commands,
    CommandRow,
    CommandOutput,
    CommandTimeline,
    PeekOutput,
    WizardDevices,
    Operations,
    Alerts,
    Audit,
    Users,
    Members,
    Projects,
    Tokens,
    HandoverAlerts,
    HandoverFailures,
    Tunnels,
    /// Those that are open, wherever they are counted.
    OpenTunnels,
    Recordings,
}

/// What a window is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: u32,
    pub listing: Listing,
    pub filter: BTreeMap<String, String>,
    pub sort: Option<String>,
    pub range: Range,
}

/// How good the rows of a window are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum State {
    /// No answer yet to what is asked now; rows, if any, are older.
    #[default]
    Loading,
    /// As fresh as the connection.
    Ready,
    /// The server does not serve it.
    Refused(Refusal),
}

/// The rows that the server sends of one listing.
#[derive(Debug, Default)]
pub struct Window {
    pub subscription: Option<Subscription>,
    pub state: State,
    pub offset: u64,
    pub total: u64,
    rows: Vec<Row>,
    /// When its last rows came, by the server's clock.
    pub at: Option<Timestamp>,
    /// When it was asked for, by our clock.
    pub asked_at: Option<Timestamp>,
    /// When the server last stood for its rows, by our clock: by any word, while it sends them.
    pub known_at: Option<Timestamp>,
}

/// How long rows of before may stand while the answer is on its way, in milliseconds: most come
/// sooner, and then the screen does not flicker.
const AWAITED_AFTER_MS: i64 = 150;

/// One row: its key, what came, and what it says once somebody looked.
#[derive(Debug)]
pub struct Row {
    pub key: String,
    raw: Box<RawValue>,
    parsed: OnceLock<Parsed>,
}

#[derive(Debug)]
enum Parsed {
    Device(Box<Device>),
    Command(Box<Command>),
    Timeline(Box<TimelineEntry>),
    Output(OutputChunk),
    Alert(Box<Alert>),
    Audit(Box<AuditEntry>),
    Operation(Box<Operation>),
    User(Box<User>),
    Project(Box<Project>),
    Member(Member),
    Token(Box<EnrollmentToken>),
    Overview(Box<Overview>),
    Tunnel(Box<Tunnel>),
    Recording(Box<Recording>),
    /// Not what we know of this listing: a newer server, or a broken one.
    Unreadable,
}

macro_rules! row_as {
    ($($name:ident: $variant:ident -> $type:ty $(, $wrap:path)?;)*) => {
        impl Row {
            $(
                /// The row, when it is one of this listing and readable.
                pub fn $name(&self) -> Option<&$type> {
                    let parsed = self.parsed.get_or_init(|| {
                        self.parse().map_or(Parsed::Unreadable, |row: $type| Parsed::$variant(row.into()))
                    });
                    match parsed {
                        Parsed::$variant(row) => Some(row),
                        _ => None,
                    }
                }
            )*
        }
    };
}

row_as! {
    device: Device -> Device;
    command: Command -> Command;
    timeline: Timeline -> TimelineEntry;
    output: Output -> OutputChunk;
    alert: Alert -> Alert;
    audit: Audit -> AuditEntry;
    operation: Operation -> Operation;
    user: User -> User;
    project: Project -> Project;
    member: Member -> Member;
    token: Token -> EnrollmentToken;
    overview: Overview -> Overview;
    tunnel: Tunnel -> Tunnel;
    recording: Recording -> Recording;
}

impl Row {
    pub fn new(key: String, raw: Box<RawValue>) -> Self {
        Self { key, raw, parsed: OnceLock::new() }
    }

    /// The row as it came, for exports and the JSON viewer.
    pub fn raw(&self) -> &str {
        self.raw.get()
    }

    fn parse<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.raw.get()).ok()
    }
}

impl Window {
    /// The row at an absolute position; `None` where it has not come yet.
    pub fn row(&self, at: u64) -> Option<&Row> {
        let within = at.checked_sub(self.offset)?;
        self.rows.get(usize::try_from(within).ok()?)
    }

    /// Where a key is, when it is in the window.
    pub fn position(&self, key: &str) -> Option<u64> {
        let within = self.rows.iter().position(|row| row.key == key)?;
        Some(self.offset + within as u64)
    }

    pub fn find(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key)
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn first(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// Whether there is something to show: rows, or the server's word that there are none.
    pub fn is_known(&self) -> bool {
        self.state == State::Ready || !self.rows.is_empty()
    }

    /// From when on its rows are not to be taken for the answer that it waits for.
    fn awaited_from(&self) -> Option<Timestamp> {
        let waits = self.state == State::Loading && self.subscription.is_some();
        self.asked_at
            .filter(|_| waits && !self.rows.is_empty())
            .map(|at| at.plus_millis(AWAITED_AFTER_MS))
    }

    /// Whether it has waited too long for its rows to be taken for the answer.
    pub fn is_awaited(&self, now: Timestamp) -> bool {
        self.awaited_from().is_some_and(|from| from <= now)
    }

    /// Takes what came for it.
    pub fn apply(&mut self, slot: Slot, at: Option<Timestamp>) {
        if let Some(refusal) = slot.refused {
            // Rows that nobody sees are no rows to act on.
            self.clear();
            self.state = State::Refused(refusal);
            return;
        }
        let mut fresh: HashMap<String, Box<RawValue>> = slot.rows;
        if let Some(base) = slot.base {
            self.offset = base;
        } else if self.state == State::Loading
            && self.subscription.is_some()
            && slot.order.is_none()
        {
            // Changes to a snapshot that never came: nothing to apply them to.
            return;
        }
        self.state = State::Ready;
        self.total = slot.total;
        self.at = at;
        // A row keeps what was parsed of it while its text is the same.
        let renew =
            |old: Row, fresh: &mut HashMap<String, Box<RawValue>>| match fresh.remove(&old.key) {
                Some(raw) if raw.get() != old.raw.get() => Row::new(old.key, raw),
                _ => old,
            };
        let before = std::mem::take(&mut self.rows);
        match slot.order {
            Some(order) => {
                let mut kept: HashMap<String, Row> =
                    before.into_iter().map(|row| (row.key.clone(), row)).collect();
                self.rows = order
                    .into_iter()
                    .filter_map(|key| match kept.remove(&key) {
                        Some(old) => Some(renew(old, &mut fresh)),
                        None => fresh.remove(&key).map(|raw| Row::new(key, raw)),
                    })
                    .collect();
            }
            None => self.rows = before.into_iter().map(|old| renew(old, &mut fresh)).collect(),
        }
    }

    /// Forgets the rows: they are of another subject.
    pub fn clear(&mut self) {
        *self = Self { subscription: self.subscription.take(), ..Self::default() };
    }
}

/// All windows, by what they are for.
#[derive(Debug, Default)]
pub struct Store {
    windows: BTreeMap<WindowKey, Window>,
}

static EMPTY: OnceLock<Window> = OnceLock::new();

impl Store {
    /// The window of a table; an empty one while nothing was asked.
    pub fn window(&self, key: WindowKey) -> &Window {
        self.windows.get(&key).unwrap_or_else(|| EMPTY.get_or_init(Window::default))
    }

    /// The window of a table, while the server sends it. One that the screen has left holds what
    /// was so then, which is no source for anything that is shown or done now.
    pub fn live(&self, key: WindowKey) -> Option<&Window> {
        self.windows.get(&key).filter(|window| window.subscription.is_some())
    }

    pub fn window_mut(&mut self, key: WindowKey) -> &mut Window {
        self.windows.entry(key).or_default()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (WindowKey, &mut Window)> {
        self.windows.iter_mut().map(|(key, window)| (*key, window))
    }

    /// Takes note that the server spoke: it stands for all rows that it sends.
    pub fn heard(&mut self, now: Timestamp) {
        for window in self.windows.values_mut() {
            if window.subscription.is_some() && window.state == State::Ready {
                window.known_at = Some(now);
            }
        }
    }

    /// Whether rows are shown that are older than what was asked for.
    pub fn is_awaited(&self, now: Timestamp) -> bool {
        self.shown().any(|window| window.is_awaited(now))
    }

    /// When next some rows are no longer to be taken for the answer.
    pub fn awaited_from(&self, now: Timestamp) -> Option<Timestamp> {
        self.shown().filter_map(Window::awaited_from).filter(|from| *from > now).min()
    }

    /// All windows with rows that a screen shows; the operations only say what is dangerous.
    fn shown(&self) -> impl Iterator<Item = &Window> {
        let shown = |key: &WindowKey| *key != WindowKey::Operations;
        self.windows.iter().filter(move |(key, _)| shown(key)).map(|(_, window)| window)
    }

    pub fn by_id(&mut self, id: u32) -> Option<(WindowKey, &mut Window)> {
        self.iter_mut()
            .find(|(_, window)| window.subscription.as_ref().is_some_and(|sub| sub.id == id))
    }

    pub fn overview(&self) -> Option<&Overview> {
        self.window(WindowKey::Overview).first()?.overview()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("valid JSON")
    }

    fn slot(base: Option<u64>, rows: &[(&str, &str)], order: Option<&[&str]>) -> Slot {
        Slot {
            id: 1,
            base,
            total: 10,
            rows: rows.iter().map(|(key, text)| ((*key).to_owned(), raw(text))).collect(),
            order: order.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()),
            refused: None,
        }
    }

    fn keys(window: &Window) -> Vec<&str> {
        window.rows().iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn changes_replace_reorder_and_drop_rows() {
        let mut window = Window::default();
        let snapshot = slot(Some(4), &[("a", "1"), ("b", "2"), ("c", "3")], Some(&["a", "b", "c"]));
        window.apply(snapshot, None);
        assert_eq!((window.row(5).map(Row::raw), window.position("c")), (Some("2"), Some(6)));
        window.apply(slot(None, &[("b", "22"), ("d", "4")], Some(&["d", "b", "a"])), None);
        assert_eq!(keys(&window), ["d", "b", "a"]);
        assert_eq!(window.row(5).map(Row::raw), Some("22"));
        window.apply(slot(None, &[("a", "11")], None), None);
        assert_eq!(window.find("a").map(Row::raw), Some("11"));
    }

    #[test]
    fn a_row_that_cannot_be_read_is_no_panic() {
        let row = Row::new("a".into(), raw("{\"id\":7}"));
        assert!(row.device().is_none());
        assert!(row.command().is_none());
    }
}
