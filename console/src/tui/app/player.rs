//! Plays a recording.
//!
//! ```text
//!   Recordings ─ Enter ─▶ loading pages ─▶ events ─┬─ time, while it plays ─▶ the pane
//!                                                  ├─ step, seek, search ───▶ the pane
//!                                                  └─ a place before ─▶ from the beginning, in turns
//! ```
//!
//! A place is reached by showing all that comes before it: a terminal has no
//! other way to be as it was. So much is shown in one turn as a key can wait for.

use quarterdeck_protocol::{
    api::{Problem, RecordingEvent, RecordingEventKind},
    time::Timestamp,
};

use super::{App, actions::Action, answers::sentence, calls::Purpose, moving, nav::Place, perform};
use crate::tui::{
    effects::{ApiAnswer, ApiRequest, Effect, RequestId},
    format,
    pane::{Pane, notices::Allowed, screen::PaneSize},
    theme::Tone,
};

/// The most output that is held of a recording, in bytes.
pub const LOADED_MAX_BYTES: usize = 32 * 1024 * 1024;
/// What one turn shows at most, in bytes.
const TURN_MAX_BYTES: usize = 256 * 1024;
/// How soon the next turn follows while it is behind, in milliseconds.
const BEHIND_MS: i64 = 20;
/// How far an arrow jumps, and a page, in milliseconds.
const ARROW_MS: i64 = 5_000;
const PAGE_MS: i64 = 60_000;
/// How fast it may play, in percent of the time it took.
const SPEEDS: [u32; 8] = [25, 50, 100, 200, 400, 800, 1600, 6400];
const SPEED_USUAL: usize = 2;
/// The most matches of a search.
const MATCHES_MAX: usize = 10_000;

/// How much of it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loading {
    /// The answer to this request is awaited.
    Asked(RequestId),
    Whole,
    /// More than is held: the rest is in the file.
    TooLong,
    Failed(String),
}

/// A recording that is being played.
#[derive(Debug)]
pub struct Player {
    pub id: String,
    pub pane: Pane,
    pub loading: Loading,
    pub is_playing: bool,
    events: Vec<RecordingEvent>,
    loaded_bytes: usize,
    /// The first event that is not shown yet.
    next: usize,
    /// Where it should be; what is shown may be behind.
    position_ms: u64,
    /// When that was so, while it plays.
    clock: Option<Timestamp>,
    speed: usize,
    search: String,
    /// Events that begin what was searched for.
    found: Vec<usize>,
    due: Option<Timestamp>,
}

impl Player {
    fn new(id: String, request: RequestId) -> Self {
        Self {
            id,
            pane: empty_pane(),
            loading: Loading::Asked(request),
            is_playing: true,
            events: Vec::new(),
            loaded_bytes: 0,
            next: 0,
            position_ms: 0,
            clock: None,
            speed: SPEED_USUAL,
            search: String::new(),
            found: Vec::new(),
            due: None,
        }
    }

    /// How long the part that is loaded takes, in milliseconds.
    pub fn length_ms(&self) -> u64 {
        self.events.last().map_or(0, |event| event.time_ms)
    }

    pub const fn position_ms(&self) -> u64 {
        self.position_ms
    }

    /// In percent of the time it took.
    pub const fn speed_percent(&self) -> u32 {
        SPEEDS[self.speed]
    }

    /// Shown so far, and loaded.
    pub const fn events(&self) -> (usize, usize) {
        (self.next, self.events.len())
    }

    /// What was searched for, and where it is.
    pub fn found(&self) -> Option<(&str, usize)> {
        (!self.search.is_empty()).then_some((self.search.as_str(), self.found.len()))
    }

    /// Whether it is still on its way to where it should be.
    pub fn is_behind(&self) -> bool {
        self.events.get(self.next).is_some_and(|event| event.time_ms <= self.position_ms)
    }

    /// Brings the picture up to date; before each frame.
    pub fn refresh(&mut self, now: Timestamp) {
        let ms = u64::try_from(now.as_millis()).unwrap_or(0);
        if self.pane.refresh(ms).is_some() {
            // What a program holds back is looked at again; of what is long past that matters little.
            let due = now.plus_millis(BEHIND_MS);
            self.due = Some(self.due.map_or(due, |known| known.min(due)));
        }
    }

    pub const fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Goes to a time.
    fn seek(&mut self, to_ms: u64) {
        self.position_ms = to_ms.min(self.length_ms());
        self.clock = None;
        if self.next > 0 && self.events[self.next - 1].time_ms > self.position_ms {
            self.begin_anew();
        }
    }

    /// Shows all up to an event, this one included, and no more of the same moment.
    fn seek_event(&mut self, index: usize) {
        self.is_playing = false;
        self.clock = None;
        if index < self.next {
            self.begin_anew();
        }
        let Some(event) = self.events.get(index) else { return };
        self.position_ms = event.time_ms;
        self.show_until(index + 1, usize::MAX);
    }

    fn begin_anew(&mut self) {
        self.next = 0;
        self.pane = empty_pane();
    }

    /// Shows events before `end`, but no more than so many bytes.
    fn show_until(&mut self, end: usize, most_bytes: usize) {
        let mut shown = 0;
        while self.next < end.min(self.events.len()) && shown < most_bytes {
            let event = &self.events[self.next];
            match event.kind {
                RecordingEventKind::Output => {
                    shown += event.data.len();
                    // Whoever asked in it has had the answer.
                    drop(self.pane.feed(event.data.as_bytes()));
                }
                RecordingEventKind::Resize => {
                    if let Some(size) = size(&event.data) {
                        self.pane.resize(size);
                    }
                }
                RecordingEventKind::Input | RecordingEventKind::Exit => {}
            }
            self.next += 1;
        }
    }

    /// Goes on with time.
    fn on_time(&mut self, now: Timestamp) {
        if self.is_playing {
            let since = self.clock.replace(now).map_or(0, |at| now.millis_since(at).max(0));
            let passed = since.unsigned_abs() * u64::from(self.speed_percent()) / 100;
            self.position_ms = (self.position_ms + passed).min(self.length_ms());
        }
        let end = self.events.partition_point(|event| event.time_ms <= self.position_ms);
        self.show_until(end, TURN_MAX_BYTES);
        let is_over = self.next == self.events.len() && !matches!(self.loading, Loading::Asked(_));
        if self.is_playing && is_over {
            self.is_playing = false;
            self.clock = None;
        }
        self.due = if self.is_behind() {
            Some(now.plus_millis(BEHIND_MS))
        } else if self.is_playing {
            let ahead = self.events.get(self.next).map_or(u64::MAX, |event| {
                (event.time_ms - self.position_ms) * 100 / u64::from(self.speed_percent())
            });
            Some(now.plus_millis(i64::try_from(ahead).unwrap_or(i64::MAX).clamp(BEHIND_MS, 1_000)))
        } else {
            None
        };
    }
}

fn empty_pane() -> Pane {
    Pane::new(PaneSize::new(24, 80), Allowed::default())
}

/// Reads `COLSxROWS`.
fn size(text: &str) -> Option<PaneSize> {
    let (cols, rows) = text.split_once('x')?;
    Some(PaneSize::new(rows.parse().ok()?, cols.parse().ok()?))
}

/// Opens a recording and begins to play it.
pub fn open(app: &mut App, id: String, effects: &mut Vec<Effect>) {
    let call = ApiRequest::RecordingEvents { id: id.clone(), cursor: None };
    let Some(request) = perform::call_with_id(app, call, Purpose::Recording, effects) else {
        return;
    };
    app.player = Some(Player::new(id.clone(), request));
    moving::go(app, Place::Player(id));
}

/// Takes a page, and asks for the next.
pub fn answered(app: &mut App, id: RequestId, result: Result<ApiAnswer, Problem>) -> Vec<Effect> {
    let mut effects = Vec::new();
    let Some(player) = app.player.as_mut().filter(|p| p.loading == Loading::Asked(id)) else {
        return effects;
    };
    let page = match result {
        Ok(ApiAnswer::Events(page)) => page,
        Ok(_) => return effects,
        Err(problem) => {
            player.loading = Loading::Failed(sentence(&problem));
            return effects;
        }
    };
    player.loaded_bytes += page.events.iter().map(|event| event.data.len()).sum::<usize>();
    player.events.extend(page.events);
    let Some(cursor) = page.next_cursor else {
        player.loading = Loading::Whole;
        return effects;
    };
    if player.loaded_bytes >= LOADED_MAX_BYTES {
        player.loading = Loading::TooLong;
        return effects;
    }
    let call = ApiRequest::RecordingEvents { id: player.id.clone(), cursor: Some(cursor) };
    let asked = perform::call_with_id(app, call, Purpose::Recording, &mut effects);
    if let Some(player) = &mut app.player {
        player.loading = asked.map_or_else(
            || Loading::Failed("too much is under way: open it again".to_owned()),
            Loading::Asked,
        );
    }
    effects
}

/// What time brings about; a player that was left is gone.
pub fn on_time(app: &mut App) {
    let now = app.now;
    let is_here = matches!(&app.nav.here, Place::Player(id) if app.player.as_ref().is_some_and(|p| p.id == *id));
    if is_here {
        if let Some(player) = &mut app.player {
            player.on_time(now);
        }
    } else {
        app.player = None;
    }
}

/// Does an action of the player; `false` when it is none of its.
pub fn perform(app: &mut App, action: Action, effects: &mut Vec<Effect>) -> bool {
    let Place::Player(id) = app.nav.here.clone() else { return false };
    let by = |player: &mut Player, ms: i64| {
        let to = player.position_ms.saturating_add_signed(ms);
        player.seek(to);
    };
    let Some(player) = &mut app.player else {
        // It was left by way of the history, and is come back to.
        if action == Action::PlayerPause || action == Action::Open {
            open(app, id, effects);
            return true;
        }
        return false;
    };
    match action {
        Action::PlayerPause => {
            player.is_playing = !player.is_playing;
            player.clock = None;
            let at_end = player.next == player.events.len() && player.loading == Loading::Whole;
            if player.is_playing && at_end {
                player.seek(0);
            }
        }
        Action::PlayerSlower => player.speed = player.speed.saturating_sub(1),
        Action::PlayerFaster => player.speed = (player.speed + 1).min(SPEEDS.len() - 1),
        Action::PlayerStep => player.seek_event(player.next),
        Action::PlayerStepBack => {
            player.seek_event(player.next.saturating_sub(2));
        }
        Action::PlayerBack => by(player, -ARROW_MS),
        Action::PlayerOn => by(player, ARROW_MS),
        Action::PlayerPageBack => by(player, -PAGE_MS),
        Action::PlayerPageOn => by(player, PAGE_MS),
        Action::First => player.seek(0),
        Action::Last => player.seek(u64::MAX),
        Action::NextMatch => next_match(app, 1),
        Action::PreviousMatch => next_match(app, -1),
        Action::RecordingSave | Action::Export => save(app, id, effects),
        _ => return false,
    }
    true
}

/// Writes a recording to a file.
pub fn save(app: &mut App, id: String, effects: &mut Vec<Effect>) {
    let path = std::path::PathBuf::from(format!("{id}.cast"));
    let purpose = Purpose::Say("saved".to_owned());
    perform::call(app, ApiRequest::SaveRecording { id, path }, purpose, effects);
}

/// Jumps to what was typed: `2:30`, `1:02:30`, `90` (seconds), `50%`.
pub fn jump(app: &mut App, text: &str) {
    let Some(player) = &mut app.player else { return };
    match time(text.trim(), player.length_ms()) {
        Some(ms) => player.seek(ms),
        None => app.toast(format!("{text:?} is no time; such as 2:30, 90 or 50%"), Tone::Warn),
    }
}

fn time(text: &str, length_ms: u64) -> Option<u64> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent: u64 = percent.trim().parse().ok().filter(|percent| *percent <= 100)?;
        return Some(length_ms / 100 * percent + length_ms % 100 * percent / 100);
    }
    let parts: Vec<u64> = text.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let seconds = match parts.as_slice() {
        [s] => Some(*s),
        [m, s] if *s < 60 => m.checked_mul(60)?.checked_add(*s),
        [h, m, s] if *m < 60 && *s < 60 => {
            h.checked_mul(3600)?.checked_add(m * 60)?.checked_add(*s)
        }
        _ => None,
    };
    seconds?.checked_mul(1000)
}

/// Finds a text in what was shown, and goes to the first place from here on.
pub fn search(app: &mut App, text: &str) {
    let Some(player) = &mut app.player else { return };
    text.clone_into(&mut player.search);
    player.found = find(&player.events, text);
    if text.is_empty() {
        return;
    }
    let Some(first) = player.found.first().copied() else {
        return app.toast(format!("{text:?} is not in the recording"), Tone::Warn);
    };
    let to = player.found.iter().copied().find(|at| *at >= player.next).unwrap_or(first);
    player.seek_event(to);
    let places = format::plural(player.found.len() as u64, "place");
    app.toast(format!("{places}; n and N go on"), Tone::Muted);
}

fn next_match(app: &mut App, by: i32) {
    let Some(player) = &mut app.player else { return };
    let here = player.next.saturating_sub(1);
    let found = &player.found;
    let to = if by > 0 {
        found.iter().find(|at| **at > here).or_else(|| found.first())
    } else {
        found.iter().rev().find(|at| **at < here).or_else(|| found.last())
    };
    if let Some(to) = to.copied() {
        player.seek_event(to);
    }
}

/// The events in which a text ends, whatever sequences stand between its characters. Small
/// letters also find capitals.
fn find(events: &[RecordingEvent], needle: &str) -> Vec<usize> {
    let exact = needle.chars().any(char::is_uppercase);
    let fold = |c: char| if exact { c } else { c.to_lowercase().next().unwrap_or(c) };
    let needle: Vec<char> = needle.chars().map(fold).collect();
    let Some(last) = needle.last() else { return Vec::new() };
    let mut found = Vec::new();
    let mut plain = Plain::default();
    let mut window = std::collections::VecDeque::with_capacity(needle.len());
    for (index, event) in events.iter().enumerate() {
        if event.kind != RecordingEventKind::Output {
            continue;
        }
        for c in event.data.chars().filter(|c| plain.is_text(*c)).map(fold) {
            if window.len() == needle.len() {
                window.pop_front();
            }
            window.push_back(c);
            if c == *last && window.len() == needle.len() && window.iter().eq(needle.iter()) {
                if found.last() != Some(&index) {
                    found.push(index);
                }
                if found.len() >= MATCHES_MAX {
                    return found;
                }
            }
        }
    }
    found
}

/// Tells text from the sequences in it.
#[derive(Debug, Clone, Copy, Default)]
enum Plain {
    #[default]
    Text,
    Escape,
    /// CSI, up to its final byte.
    Sequence,
    /// A string, up to BEL or ST.
    String,
    StringEscape,
}

impl Plain {
    fn is_text(&mut self, c: char) -> bool {
        let (next, is_text) = match (*self, c) {
            (Self::String, '\x1b') => (Self::StringEscape, false),
            (Self::String, '\x07') | (Self::StringEscape, '\\') => (Self::Text, false),
            (Self::String, _) => (Self::String, false),
            // What stands before the final byte of a short sequence leaves it a sequence.
            (_, '\x1b') | (Self::Escape | Self::StringEscape, ' '..='/') => (Self::Escape, false),
            (Self::Escape | Self::StringEscape, '[') => (Self::Sequence, false),
            (Self::Escape | Self::StringEscape, ']' | 'P' | '_' | '^' | 'X') => {
                (Self::String, false)
            }
            (Self::Escape | Self::StringEscape, _) | (Self::Sequence, '@'..='~') => {
                (Self::Text, false)
            }
            (Self::Sequence, _) => (Self::Sequence, false),
            (Self::Text, c) => (Self::Text, !c.is_control()),
        };
        *self = next;
        is_text
    }
}

#[cfg(test)]
#[path = "player_tests.rs"]
mod tests;
