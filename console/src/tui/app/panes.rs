//! The panes: terminals on devices, whichever screen is shown.
//!
//! ```text
//!   t on a device ─▶ add ─▶ Waiting ─ drawn ─▶ Open ─────▶ network
//!   keys ─▶ typing ─▶ Input ─────────────────────────────▶
//!   network ─▶ news ─▶ the pane's model ─ refresh ─▶ view
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | [`typing`] | keys, paste and mouse of who types into a pane |
//! | [`commands`] | what follows the prefix key |
//! | [`scroll`] | the scrollback: moving, searching, selecting |

use std::collections::BTreeMap;

use bytes::Bytes;
use quarterdeck_protocol::{
    ids::{DeviceId, TunnelId},
    time::Timestamp,
    tunnel::{
        mark::{Mark, Size},
        session::Mode,
    },
};
use ratatui::layout::Rect;

use super::{App, nav::Place};
use crate::{
    net::tunnel::{Piece, Snapshot},
    tui::{
        effects::{Effect, NetRequest},
        format,
        mailbox::streams::StreamNews,
        pane::{
            Pane,
            escape::Escapes,
            gaps::Shown,
            keys,
            layout::{PaneId, Refused, Tabs},
            notices::{Allowed, Wish},
            prefix::Prefix,
            screen::PaneSize,
            session::{End, Phase, Session},
            status::Stream,
        },
        theme::Tone,
        tunnels::{Attach, Record, TunnelCall, TunnelRequest},
    },
};
use scroll::Scroll;

pub mod commands;
pub mod scroll;
pub mod typing;

/// All panes and how they share the screen.
#[derive(Debug, Default)]
pub struct Panes {
    /// None while there is no pane.
    pub tabs: Option<Tabs>,
    all: BTreeMap<PaneId, PaneState>,
    next: u32,
    pub prefix: Prefix,
    /// What devices may do to the operator's terminal.
    allowed: Allowed,
    /// What was copied last from a pane.
    copied: String,
    /// What a tab has of the screen; as it was drawn last.
    area: Rect,
    /// When a picture that a program holds back is to be looked at again.
    refresh_due: Option<Timestamp>,
}

/// One pane.
#[derive(Debug)]
pub struct PaneState {
    pub name: String,
    /// What its program calls itself, where titles are allowed; else empty.
    pub title: String,
    /// For one more terminal on the same device.
    pub device: Option<DeviceId>,
    pub pane: Pane,
    pub session: Session,
    pub scroll: Option<Scroll>,
    /// It rang, and nobody looked yet.
    pub has_rung: bool,
    escapes: Escapes,
    /// How far it has had the output of which tunnel.
    had: (Option<TunnelId>, Shown),
    /// Its place on the screen.
    shown: Option<Size>,
}

impl Panes {
    pub fn new(allowed: Allowed) -> Self {
        Self { allowed, ..Self::default() }
    }

    pub const fn is_empty(&self) -> bool {
        self.tabs.is_none()
    }

    pub fn get(&self, pane: PaneId) -> Option<&PaneState> {
        self.all.get(&pane)
    }

    pub fn iter(&self) -> impl Iterator<Item = (PaneId, &PaneState)> {
        self.all.iter().map(|(id, pane)| (*id, pane))
    }

    /// The pane that has the keyboard.
    pub fn focus(&self) -> Option<PaneId> {
        self.tabs.as_ref().map(|tabs| tabs.tab().focus())
    }

    pub fn focused(&self) -> Option<&PaneState> {
        self.all.get(&self.focus()?)
    }

    fn focused_mut(&mut self) -> Option<(PaneId, &mut PaneState)> {
        let focus = self.focus()?;
        Some((focus, self.all.get_mut(&focus)?))
    }

    /// Whether the keyboard is in a scrollback.
    pub fn is_scrolling(&self) -> bool {
        self.focused().is_some_and(|pane| pane.scroll.is_some())
    }

    /// Panes with something running in them.
    pub fn open_count(&self) -> usize {
        self.all.values().filter(|pane| pane.session.is_open()).count()
    }

    fn new_pane(&self, device: DeviceId, what: Attach) -> PaneState {
        PaneState::new(device, what, self.allowed)
    }

    /// Puts a new pane somewhere.
    fn insert(
        &mut self,
        state: PaneState,
        put: impl FnOnce(&mut Tabs, PaneId, Rect) -> Result<(), Refused>,
    ) -> Result<PaneId, Refused> {
        let id = PaneId(self.next);
        match &mut self.tabs {
            None => self.tabs = Some(Tabs::new(id)),
            Some(tabs) => put(tabs, id, self.area)?,
        }
        self.next += 1;
        self.all.insert(id, state);
        Ok(id)
    }

    /// Begins a new session in the place of a pane. By its new name nothing reaches it that the
    /// network still has to say of the former one.
    fn reopen(&mut self, pane: PaneId, now: Timestamp) -> Option<Effect> {
        let mut state = self.all.remove(&pane)?;
        let id = PaneId(self.next);
        self.next += 1;
        if let Some(tabs) = &mut self.tabs {
            tabs.rename(pane, id);
        }
        let effect = state.reopen(id, now);
        self.all.insert(id, state);
        effect
    }

    /// Takes a pane away; with the last one there are none.
    fn remove(&mut self, pane: PaneId) {
        if let Some(tabs) = &mut self.tabs
            && !tabs.close(pane)
        {
            self.tabs = None;
        }
        self.all.remove(&pane);
    }

    /// Brings the pictures that are seen up to date; before each frame.
    pub fn refresh(&mut self, now: Timestamp) {
        self.refresh_due = None;
        let Some(tabs) = &self.tabs else { return };
        for place in tabs.tab().places(self.area) {
            let Some(state) = self.all.get_mut(&place.pane) else { continue };
            let now_ms = u64::try_from(now.as_millis()).unwrap_or(0);
            if let Some(ms) = state.pane.refresh(now_ms) {
                let due = now.plus_millis(i64::try_from(ms.saturating_sub(now_ms)).unwrap_or(0));
                self.refresh_due = Some(self.refresh_due.map_or(due, |known| known.min(due)));
            }
        }
    }

    /// When something happens by itself.
    pub const fn due(&self) -> Option<Timestamp> {
        self.refresh_due
    }
}

impl PaneState {
    fn new(device: DeviceId, what: Attach, allowed: Allowed) -> Self {
        Self {
            name: device.to_string(),
            device: Some(device),
            title: String::new(),
            pane: Pane::new(PaneSize::new(24, 80), allowed),
            session: Session::new(what),
            scroll: None,
            has_rung: false,
            escapes: Escapes::default(),
            had: (None, Shown::default()),
            shown: None,
        }
    }

    /// Takes what the device wishes: the last title is kept, the rest given back.
    fn take_title(&mut self) -> Vec<Wish> {
        let mut wishes = self.pane.notices().take_wishes();
        wishes.retain(|wish| match wish {
            Wish::Title(title) => {
                self.title.clone_from(title);
                false
            }
            Wish::Clipboard(_) | Wish::Notify(_) => true,
        });
        wishes
    }

    /// Opens the session, once its place is known.
    fn open(&mut self, id: PaneId, now: Timestamp) -> Option<Effect> {
        let size = self.shown?;
        let what = self.session.what.clone();
        if matches!(what, Attach::New { .. }) {
            self.pane.resize(pane_size(size));
        }
        self.session.opening(now);
        Some(request(id, TunnelCall::Open { what, size }))
    }

    /// Begins a new session in the same place.
    fn reopen(&mut self, id: PaneId, now: Timestamp) -> Option<Effect> {
        self.session = self.session.reopened();
        self.escapes = Escapes::default();
        self.scroll = None;
        self.pane.restart(self.pane.screen().size());
        self.title.clear();
        self.open(id, now)
    }
}

fn request(pane: PaneId, call: TunnelCall) -> Effect {
    Effect::Net(NetRequest::Tunnel(TunnelRequest { pane, call }))
}

/// Opens a terminal on each of these devices, side by side where there is room, and goes there.
pub fn open_terminals(app: &mut App, devices: Vec<DeviceId>, record: Record) {
    expect_area(app);
    show(app);
    for device in devices {
        let state = app.panes.new_pane(device.clone(), Attach::New { device, record });
        if let Err(refused) = app.panes.insert(state, Tabs::add_beside) {
            app.toast(refused.to_string(), Tone::Warn);
            break;
        }
    }
}

/// Shows a terminal that is open already: the pane that has it, or a new one.
pub fn attach(app: &mut App, device: DeviceId, what: Attach) {
    let Attach::Existing { tunnel, mode } = &what else { return };
    let known = app.panes.iter().find(|(_, pane)| {
        pane.session.is_open() && pane.session.tunnel == Some(*tunnel) && pane.session.mode == *mode
    });
    if let Some((id, _)) = known {
        if let Some(tabs) = &mut app.panes.tabs {
            tabs.go_to_pane(id);
        }
        return show(app);
    }
    expect_area(app);
    let state = app.panes.new_pane(device, what);
    match app.panes.insert(state, Tabs::add) {
        Ok(_) => show(app),
        Err(refused) => app.toast(refused.to_string(), Tone::Warn),
    }
}

/// Before panes were drawn: they will have all but the header and the footer.
fn expect_area(app: &mut App) {
    if app.layout.panes_area.is_none() {
        let height = app.size.height.saturating_sub(2);
        app.panes.area = Rect { x: 0, y: 1, width: app.size.width, height };
    }
}

/// Goes to the panes.
fn show(app: &mut App) {
    app.panes.prefix.reset();
    super::moving::go(app, Place::Panes);
}

/// Takes what the network brought of a pane.
pub fn news(app: &mut App, news: StreamNews, effects: &mut Vec<Effect>) {
    let now = app.now;
    let has_focus = app.nav.here == Place::Panes && app.panes.focus() == Some(news.pane);
    let Some(state) = app.panes.all.get_mut(&news.pane) else { return };
    if let Some(tunnel) = news.opened {
        // Also of one that was left while it opened: it can be gone back to.
        state.session.tunnel = Some(tunnel);
    }
    if !state.session.is_open() {
        return;
    }
    if state.had.0 != state.session.tunnel {
        state.had = (state.session.tunnel, Shown::default());
    }
    let mut replies = Vec::new();
    for piece in news.pieces {
        let end = piece.end();
        match piece {
            Piece::Snapshot(Snapshot { offset, size, screen, painted_from, dropped_bytes }) => {
                state.pane.restart(pane_size(size));
                if let Some(gap) = state.had.1.snapshot(offset, painted_from, dropped_bytes) {
                    state.pane.remember(&format!("--- {gap} ---"));
                }
                // It is of the past: whoever asked in it has had the answer.
                drop(state.pane.feed(&screen));
                state.take_title();
            }
            Piece::Bytes { bytes, .. } => replies.extend(state.pane.feed(&bytes)),
            Piece::Mark { mark: Mark::Resize(size), .. } => state.pane.resize(pane_size(size)),
            Piece::Mark { mark: Mark::Exit(exit), .. } => {
                state.session.exit_code = Some(exit.shell_code());
            }
            Piece::Mark { mark: Mark::Signal(_), .. } => {}
        }
        state.had.1.until(end);
    }
    if state.pane.notices().take_bells() > 0 {
        state.has_rung |= !has_focus;
    }
    let name = state.name.clone();
    let wishes = state.take_title();
    // One terminal answers what a program asks: that of who opened it.
    if !replies.is_empty() && state.session.mode == Mode::Owner {
        effects.push(request(news.pane, TunnelCall::Input(replies.into())));
    }
    let mut lost_keys = false;
    if let Some(status) = news.status {
        let (kept, lost) = state.session.status(status, now);
        lost_keys = lost;
        if !kept.is_empty() {
            effects.push(request(news.pane, TunnelCall::Input(kept.into())));
        }
    }
    if let Some(ended) = news.ended {
        state.session.ended(&ended);
    }
    for wish in wishes {
        grant(app, &name, wish, effects);
    }
    if lost_keys {
        let text = format!("{name}: keys typed before it was lost may not have arrived");
        app.tell(text, Tone::Warn);
    }
}

/// Does to the operator's terminal what a device wishes and is allowed, and says whose wish it was.
fn grant(app: &mut App, name: &str, wish: Wish, effects: &mut Vec<Effect>) {
    match wish {
        Wish::Clipboard(text) => {
            let size = format::bytes(text.len() as u64);
            app.tell(format!("{name} has set your clipboard ({size})"), Tone::Warn);
            effects.push(Effect::CopyToClipboard(text));
        }
        Wish::Notify(text) => {
            let text = format!("{name}: {text}");
            app.tell(text.clone(), Tone::Accent);
            effects.push(Effect::Notify(text));
        }
        // Its place is the line under the pane.
        Wish::Title(_) => {}
    }
}

fn pane_size(size: Size) -> PaneSize {
    PaneSize::new(size.rows.get(), size.cols.get())
}

/// Panes have this much of the screen: opens those that waited for it, and has the others resized
/// soon. One that is not seen is opened as if it had its tab to itself.
pub fn drawn(app: &mut App, places: &[(PaneId, Rect)], area: Option<Rect>) -> Vec<Effect> {
    let (now, mut effects) = (app.now, Vec::new());
    if let Some(area) = area {
        app.panes.area = area;
    }
    let whole = app.panes.area;
    let focus = app.panes.focus();
    for (id, state) in &mut app.panes.all {
        let place = places.iter().find(|(pane, _)| pane == id).map(|(_, place)| *place);
        if place.is_some() && focus == Some(*id) {
            state.has_rung = false;
        }
        let is_waiting = state.session.phase == Phase::Waiting;
        let Some(place) = place.or_else(|| is_waiting.then_some(whole)) else { continue };
        let Some(size) = Size::new(place.width, place.height) else { continue };
        if is_waiting {
            state.shown = Some(size);
            effects.extend(state.open(*id, now));
        } else if state.shown != Some(size) {
            state.shown = Some(size);
            // The picture follows when the device has done so.
            if state.session.is_open() && state.session.mode == Mode::Owner {
                effects.push(request(*id, TunnelCall::Resize(size)));
            }
        }
    }
    effects
}

/// Another project is open: its panes are of the other one.
pub fn leave_project(app: &mut App, effects: &mut Vec<Effect>) {
    for (id, state) in &mut app.panes.all {
        if state.session.is_open() {
            state.session.end(End::Detached);
            effects.push(request(*id, TunnelCall::Detach));
        }
    }
}

/// Tells programs that asked for it which pane has the keyboard now.
fn tell_focus(app: &mut App, before: Option<PaneId>, effects: &mut Vec<Effect>) {
    let after = app.panes.focus().filter(|_| app.nav.here == Place::Panes);
    if before == after {
        return;
    }
    for (pane, has_it) in [(before, false), (after, true)] {
        let Some(id) = pane else { continue };
        let Some(state) = app.panes.all.get_mut(&id) else { continue };
        if has_it {
            state.has_rung = false;
        }
        let told = keys::focus(has_it, state.pane.screen().modes());
        let takes =
            state.session.mode == Mode::Owner && state.session.stream(app.now) == Stream::Live;
        if let Some(bytes) = told.filter(|_| takes) {
            effects.push(request(id, TunnelCall::Input(Bytes::from_static(bytes))));
        }
    }
}
