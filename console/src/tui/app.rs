//! All state of the TUI, and what may change it.
//!
//! [`App`] is owned by one task. [`update::update`] is the only function that
//! changes it: it takes a [`Msg`](msg::Msg) and gives back
//! [`Effect`](super::effects::Effect)s. Time is a field, set by the caller:
//! nothing here asks a clock.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use quarterdeck_protocol::{
    api::{CreateCommands, DeviceHealth, ProjectSettings, Role},
    ids::DeviceId,
    time::Timestamp,
};
use ratatui::layout::Size;

use crate::cli::line::{Program, cli_line};

use super::{
    TuiOptions,
    store::{Row, Store, WindowKey},
    term::{
        caps::Caps,
        input::{Code, Key},
    },
    theme::{Theme, Tone},
};

pub mod actions;
pub mod answers;
pub mod calls;
pub mod columns;
pub mod dialog;
pub mod document;
pub mod doing;
pub mod drafts;
pub mod export;
pub mod field;
pub mod filter;
pub mod fitting;
pub mod form;
pub mod home;
pub mod jobs;
pub mod keymap;
pub mod list;
pub mod moving;
pub mod msg;
pub mod nav;
pub mod on_row;
pub mod overlays;
pub mod palette;
pub mod panes;
pub mod people;
pub mod perform;
pub mod pickers;
pub mod player;
pub mod schema;
pub mod subjects;
pub mod sweep;
pub mod tabs;
pub mod taking;
pub mod tunnels;
pub mod update;
pub mod views;
pub mod wall;
pub mod windows;
pub mod wizard;
pub mod wizard_input;

use actions::{Action, Context, Needs, Spec};
use calls::{Calls, Purpose};
use dialog::Overlay;
use keymap::Keymap;
use list::ListState;
use msg::Layout;
use nav::{Nav, Place};
use panes::Panes;
use player::Player;
use sweep::Sweep;
use tabs::{CommandTab, DeviceTab, Tabs, UsersTab};
use views::Views;
use wall::WallState;
use wizard::{Step, Wizard};

/// How long the server may be silent before its data count as stale, in milliseconds: it speaks
/// every second, and after 5 s without a byte the connection is given up.
pub const STALE_AFTER_MS: i64 = 3_000;
/// From then on nothing dangerous leaves by itself: the connection is as good as lost.
pub const GONE_AFTER_MS: i64 = 5_000;
/// From here on the header says how old the server's last word is, in milliseconds.
pub const AGE_SHOWN_AFTER_MS: i64 = 2_000;
/// How long a toast stays, in milliseconds.
const TOAST_MS: i64 = 6_000;
/// The most toasts at once.
const TOASTS_MAX: usize = 3;
/// Samples of the fleet's numbers kept for sparklines.
const SAMPLES_MAX: usize = 120;

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Since the start there was none.
    Connecting,
    Connected,
    Lost {
        since: Timestamp,
        why: String,
        /// When the next try is, by our clock; once it is over, that try is under way.
        again_at: Option<Timestamp>,
    },
    SignedOut {
        why: String,
        /// A new login of this profile is taken up by itself.
        waits_for_login: bool,
    },
}

impl Link {
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// What the header says of the data's freshness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    Connecting,
    /// With the age of the server's last word, in milliseconds, once it is worth saying.
    Live(Option<i64>),
    Frozen(i64),
    Stale(i64),
    Lost(i64),
    SignedOut,
}

/// Who and where we are, by the server's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub server: String,
    pub project: String,
    pub username: String,
    pub role: Role,
    pub admin: bool,
    pub server_version: String,
}

/// A short word at the bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toast {
    pub text: String,
    pub tone: Tone,
    pub until: Timestamp,
    /// The screen that it is about, with which it goes; none of what answers something sent.
    pub of: Option<Place>,
}

/// The peek pane below a table: what one wants to know of the row where the cursor rests.
#[derive(Debug, Clone, Default)]
pub struct Peek {
    pub hidden: bool,
    pub focused: bool,
    /// The table that it belongs to.
    pub of: Option<WindowKey>,
    /// The row that it shows: the cursor's, a moment later, so that a cursor on its way costs little.
    pub shown: Option<String>,
    /// The cursor's row, which becomes the one shown when it is still so at `due`.
    pub under: Option<String>,
    pub due: Option<Timestamp>,
}

/// Text that scrolls: JSON, logs, facts.
#[derive(Debug, Clone, Default)]
pub struct Viewer {
    pub top: usize,
    /// Not moved yet, or moved to the end: stays at the end of what grows.
    pub follow: bool,
    pub search: String,
    /// The match that one is at: its line, and where in it.
    pub found: Option<(usize, usize)>,
    /// The line under the cursor, where the text is a JSON document.
    pub cursor: usize,
    /// What of the document is folded, as paths.
    pub folded: BTreeSet<String>,
}

/// The fleet's numbers at a moment, for sparklines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub at: Timestamp,
    pub online: u64,
    pub offline: u64,
    pub open: u64,
    pub finished: u64,
}

/// What is shown stays as it is, by the operator's wish, until it or the screen is left.
#[derive(Debug, Clone)]
pub struct Frozen {
    pub since: Timestamp,
    pub here: Place,
    pub tabs: Tabs,
}

/// Everything.
#[derive(Debug)]
pub struct App {
    /// The local clock, set before each update.
    pub now: Timestamp,
    /// The server's clock less ours, in milliseconds.
    pub skew_ms: i64,
    pub zone: TimeZone,
    pub size: Size,
    pub theme: Theme,
    pub low_bandwidth: bool,
    pub read_only: bool,
    pub bell: bool,
    pub link: Link,
    /// When the server last spoke, by our clock.
    pub heard_at: Option<Timestamp>,
    /// How the program is called again.
    pub program: Program,
    pub session: Session,
    pub settings: ProjectSettings,
    pub store: Store,
    pub nav: Nav,
    pub tabs: Tabs,
    pub lists: BTreeMap<WindowKey, ListState>,
    pub overlay: Option<Overlay>,
    pub wizard: Option<Wizard>,
    /// Wizards that were left with something written in them, and what the server refused.
    pub drafts: Vec<Wizard>,
    /// The same of the projects that were open before, by project.
    pub drafts_elsewhere: BTreeMap<String, Vec<Wizard>>,
    pub panes: Panes,
    /// The recording that is shown.
    pub player: Option<Player>,
    pub peek: Peek,
    pub viewer: Viewer,
    pub calls: Calls,
    /// The pass over all rows of a listing that is under way.
    pub sweep: Option<Sweep>,
    pub toasts: Vec<Toast>,
    pub keymap: Keymap,
    pub frozen: Option<Frozen>,
    pub health: Option<(DeviceId, DeviceHealth)>,
    pub health_due: Option<Timestamp>,
    /// From when on the shift handover looks, by the server's clock.
    pub handover_from: Option<Timestamp>,
    pub samples: Vec<Sample>,
    pub wall: Option<WallState>,
    pub views: Views,
    pub layout: Layout,
    /// The whole screen is to be drawn anew.
    pub redraw: bool,
    /// A screen dump is to be written of what is drawn next.
    pub dump: bool,
    pub(crate) next_window_id: u32,
    /// Which filter the rows of a window match.
    pub(crate) subjects: BTreeMap<WindowKey, BTreeMap<String, String>>,
    /// Critical alerts that were there already.
    pub(crate) criticals: u64,
}

static DEFAULT_LIST: std::sync::OnceLock<ListState> = std::sync::OnceLock::new();

impl App {
    pub fn new(
        options: &TuiOptions,
        caps: &Caps,
        size: Size,
        now: Timestamp,
        zone: TimeZone,
    ) -> Self {
        let start = Place::Overview;
        Self {
            now,
            skew_ms: 0,
            zone,
            size,
            theme: caps.theme.clone(),
            low_bandwidth: caps.low_bandwidth,
            read_only: options.read_only || options.wall.is_some(),
            bell: options.bell,
            link: Link::Connecting,
            heard_at: None,
            program: options.program.clone(),
            session: Session {
                server: options.server.clone(),
                project: options.project.clone(),
                username: String::new(),
                role: Role::Viewer,
                admin: false,
                server_version: String::new(),
            },
            settings: ProjectSettings::default(),
            store: Store::default(),
            nav: Nav::new(start),
            tabs: Tabs::default(),
            lists: BTreeMap::new(),
            overlay: None,
            wizard: None,
            drafts: Vec::new(),
            drafts_elsewhere: BTreeMap::new(),
            panes: Panes::new(options.allowed),
            player: None,
            peek: Peek::default(),
            viewer: Viewer::default(),
            calls: Calls::default(),
            sweep: None,
            toasts: Vec::new(),
            keymap: options.keymap.clone(),
            frozen: None,
            health: None,
            health_due: None,
            handover_from: None,
            samples: Vec::new(),
            wall: options.wall.map(|wall| WallState::new(wall.rotate, now, true)),
            views: Views::default(),
            layout: Layout::default(),
            redraw: false,
            dump: false,
            next_window_id: 1,
            subjects: BTreeMap::new(),
            criticals: 0,
        }
    }

    /// The row that the peek pane shows, while the server sends it.
    pub fn peeked(&self) -> Option<&Row> {
        self.store.window(self.peek.of?).find(self.peek.shown.as_deref()?)
    }

    /// The time by the server's clock: what ages are counted from.
    pub const fn server_now(&self) -> Timestamp {
        self.now.plus_millis(self.skew_ms)
    }

    pub fn list(&self, key: WindowKey) -> &ListState {
        self.lists.get(&key).unwrap_or_else(|| DEFAULT_LIST.get_or_init(ListState::default))
    }

    pub fn list_mut(&mut self, key: WindowKey) -> &mut ListState {
        self.lists.entry(key).or_default()
    }

    /// How fresh the screen is.
    pub fn freshness(&self) -> Freshness {
        match &self.link {
            Link::Connecting => Freshness::Connecting,
            Link::SignedOut { .. } => Freshness::SignedOut,
            Link::Lost { since, .. } => Freshness::Lost(self.now.millis_since(*since)),
            Link::Connected => {
                let age = self.heard_at.map_or(0, |at| self.now.millis_since(at).max(0));
                if let Some(frozen) = &self.frozen {
                    Freshness::Frozen(self.now.millis_since(frozen.since))
                } else if age >= STALE_AFTER_MS {
                    Freshness::Stale(age)
                } else {
                    Freshness::Live((age > AGE_SHOWN_AFTER_MS).then_some(age))
                }
            }
        }
    }

    /// Whether what is shown may be called so now: nothing comes from a lost or silent server, so
    /// nothing is all right by its word.
    pub fn is_current(&self) -> bool {
        matches!(self.freshness(), Freshness::Live(_))
    }

    /// Whether the screen still shows what was so before, until the server answers.
    pub fn is_awaiting(&self) -> bool {
        self.link.is_connected() && self.frozen.is_none() && self.store.is_awaited(self.now)
    }

    /// The table that the keys go to.
    pub fn current_list(&self) -> Option<WindowKey> {
        match &self.nav.here {
            Place::Overview => Some(WindowKey::OpenAlerts),
            Place::Devices => Some(WindowKey::Devices),
            Place::Device(_) => match self.tabs.device {
                DeviceTab::Commands => Some(WindowKey::DeviceCommands),
                DeviceTab::Timeline => Some(WindowKey::DeviceTimeline),
                DeviceTab::Overview | DeviceTab::Health => None,
            },
            Place::Commands => (!self.peek.focused).then_some(WindowKey::Commands),
            Place::Command(_) => match self.tabs.command {
                CommandTab::Timeline => Some(WindowKey::CommandTimeline),
                _ => None,
            },
            Place::NewCommand => {
                let at_targets =
                    self.wizard.as_ref().is_some_and(|wizard| wizard.step == Step::Targets);
                at_targets.then_some(WindowKey::WizardDevices)
            }
            Place::Handover | Place::Panes | Place::Player(_) => None,
            Place::Tunnels => Some(WindowKey::Tunnels),
            Place::Recordings => Some(WindowKey::Recordings),
            Place::Alerts => Some(WindowKey::Alerts),
            Place::Audit => Some(WindowKey::Audit),
            Place::Users => Some(match self.tabs.users {
                UsersTab::Users => WindowKey::Users,
                UsersTab::Members => WindowKey::Members,
                UsersTab::Projects => WindowKey::Projects,
                UsersTab::Tokens => WindowKey::Tokens,
            }),
        }
    }

    /// The contexts that keys are looked up in, the innermost first.
    pub fn contexts(&self) -> Vec<Context> {
        let own = match &self.nav.here {
            Place::Overview => Context::Overview,
            Place::Devices => Context::Devices,
            Place::Device(_) => Context::Device,
            Place::Commands => Context::Commands,
            Place::Command(_) => Context::Command,
            Place::NewCommand => Context::Wizard,
            Place::Alerts => Context::Alerts,
            Place::Audit => Context::Audit,
            Place::Users => Context::Users,
            Place::Tunnels => Context::Tunnels,
            Place::Recordings => Context::Recordings,
            Place::Player(_) => Context::Player,
            Place::Panes if self.panes.is_scrolling() => {
                return vec![Context::Scroll, Context::Pane];
            }
            Place::Panes if !self.panes.is_empty() => return vec![Context::Prefix, Context::Pane],
            Place::Handover | Place::Panes => Context::Viewer,
        };
        if own == Context::Wizard && self.current_list().is_none() {
            return vec![own, Context::Global];
        }
        let body = if self.current_list().is_some() { Context::List } else { Context::Viewer };
        // While a search is on, n and N are its own.
        let is_searching = body == Context::Viewer && !self.viewer.search.is_empty();
        let mut contexts = if is_searching { vec![body, own] } else { vec![own, body] };
        contexts.push(Context::Global);
        // A screen that is nothing but text.
        contexts.dedup();
        contexts
    }

    /// Whether the wizard's cards are shown.
    pub fn is_choosing_operation(&self) -> bool {
        let in_step = |wizard: &Wizard| wizard.step == Step::Operation;
        self.nav.here == Place::NewCommand && self.wizard.as_ref().is_some_and(in_step)
    }

    /// Whether characters are typed into a form of the wizard: what is typed is no key there.
    pub fn is_typing(&self) -> bool {
        let in_step = |wizard: &Wizard| wizard.step == Step::Configure;
        self.nav.here == Place::NewCommand && self.wizard.as_ref().is_some_and(in_step)
    }

    /// Whether a key goes into the form that is filled in, and is no shortcut.
    pub fn is_for_form(&self, key: Key) -> bool {
        let keeps_enter = self.wizard.as_ref().is_some_and(|wizard| wizard.form.keeps_enter());
        self.is_typing() && (key.is_typed() || (key.code == Code::Enter && keeps_enter))
    }

    /// Whether an action has to do with the screen that is shown.
    pub fn concerns(&self, spec: &Spec) -> bool {
        let contexts = self.contexts();
        spec.contexts.iter().any(|context| contexts.contains(context))
    }

    /// Whether an action may be done now, or why not.
    pub fn available(&self, action: Action) -> Result<(), String> {
        self.permitted(action)?;
        fitting::on_screen(self, action)?;
        on_row::on_row(self, action)
    }

    /// Whether this login may do such a thing at all, or why not.
    pub fn permitted(&self, action: Action) -> Result<(), String> {
        let needs = action.spec().needs;
        if self.read_only && needs != Needs::Nothing {
            return Err("read-only: start without --read-only to change anything".to_owned());
        }
        match needs {
            Needs::Role(role) if self.session.role < role && !self.session.admin => Err(format!(
                "needs the role {}, you are {}",
                role.as_str(),
                self.session.role.as_str()
            )),
            Needs::ServerAdmin if !self.session.admin => Err("needs a server admin".to_owned()),
            Needs::Nothing | Needs::Role(_) | Needs::ServerAdmin => Ok(()),
        }
    }

    /// Says something of the screen that is shown.
    pub fn toast(&mut self, text: impl Into<String>, tone: Tone) {
        let of = Some(self.nav.here.clone());
        self.say(text.into(), tone, of);
    }

    /// Says what came of something that was sent, or came by itself: whichever screen is shown.
    pub fn tell(&mut self, text: impl Into<String>, tone: Tone) {
        self.say(text.into(), tone, None);
    }

    fn say(&mut self, text: String, tone: Tone, of: Option<Place>) {
        let until = self.now.plus_millis(TOAST_MS);
        // Said again, it stays longer; it does not stand there twice.
        self.toasts.retain(|toast| toast.text != text);
        self.toasts.push(Toast { text, tone, until, of });
        if self.toasts.len() > TOASTS_MAX {
            self.toasts.remove(0);
        }
    }

    /// When something changes by itself: the loop wakes then.
    pub fn next_wake(&self) -> Timestamp {
        let second = if self.low_bandwidth { 5_000 } else { 1_000 };
        let server = self.server_now().as_millis();
        let next_second = self.now.plus_millis(second - server.rem_euclid(second));
        let stale = self.heard_at.map(|at| at.plus_millis(STALE_AFTER_MS));
        let others = self
            .toasts
            .iter()
            .map(|toast| toast.until)
            .chain(self.calls.grace.iter().map(|grace| grace.until))
            .chain(stale.filter(|at| *at > self.now))
            .chain(self.peek.due)
            .chain(self.panes.due())
            .chain(self.player.as_ref().and_then(Player::due))
            .chain(self.health_due)
            .chain(self.store.awaited_from(self.now));
        others.fold(next_second, Timestamp::min).max(self.now.plus_millis(20))
    }

    fn sample(&mut self) {
        const EVERY_MS: i64 = 5_000;
        let now = self.now;
        if self.samples.last().is_some_and(|last| now.millis_since(last.at) < EVERY_MS) {
            return;
        }
        let Some(overview) = self.store.overview() else { return };
        let sample = Sample {
            at: now,
            online: overview.devices.online,
            offline: overview.devices.offline,
            open: overview.open_commands.values().sum(),
            finished: overview.recent_commands.values().sum(),
        };
        self.samples.push(sample);
        if self.samples.len() > SAMPLES_MAX {
            self.samples.remove(0);
        }
    }

    /// The title of the terminal: where one is.
    pub fn title(&self) -> String {
        let crumbs = self.nav.here.crumbs().join(" > ");
        format!("{}@{} > {crumbs} - quarterdeck", self.session.server, self.session.project)
    }

    fn health_of(&self, id: &DeviceId) -> Option<&DeviceHealth> {
        self.health.as_ref().filter(|(of, _)| of == id).map(|(_, health)| health)
    }

    /// The last health report of the device that is shown.
    pub fn shown_health(&self) -> Option<&DeviceHealth> {
        match &self.nav.here {
            Place::Device(id) => self.health_of(id),
            _ => None,
        }
    }

    /// The command line that submits the same, to the project that is open.
    pub fn cli_line(&self, create: &CreateCommands) -> String {
        cli_line(self.program.words(&self.session.project), create)
    }

    /// Whether a call of this purpose is under way.
    pub fn is_pending(&self, purpose: &Purpose) -> bool {
        self.calls.pending.values().any(|pending| pending.purpose == *purpose)
    }
}
