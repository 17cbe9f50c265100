//! One pane's session with a device: what is known of it, and what may be sent.
//!
//! ```text
//!              drawn            the first status
//!   Waiting ──────────▶ Opening ───────────────▶ Open (live, stalled, lost)
//!      ▲                   │                       │
//!      │ reopened          ▼ ended                 │ ended
//!      └───────────────── Ended ◀──────────────────┘
//! ```
//!
//! Pure. `Waiting` is for a place on the screen: the terminal is made in the
//! size that it is shown in. Keys are sent while the device is there; while it is
//! lost they are dropped, or kept if the operator wished so.

use quarterdeck_protocol::{
    ids::TunnelId,
    time::Timestamp,
    tunnel::{close::CloseCode, session::Mode, stream::Closed},
};

use super::status::Stream;
use crate::{
    net::tunnel::{Ended, State, Status, closed_text},
    tui::tunnels::{Attach, Record},
};

/// The most bytes of keys that wait for a lost connection.
pub const QUEUED_KEYS_MAX_BYTES: usize = 4096;

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// For its place on the screen.
    Waiting,
    Opening {
        since: Timestamp,
    },
    /// How it fares, and when that was said.
    Open(Box<Status>, Timestamp),
    Ended(End),
}

/// Why there is nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Closed(Closed),
    /// It could not be had, or no longer: a sentence for a person.
    Refused(String),
    /// The operator left it; the program runs on.
    Detached,
    /// Another console is its owner now; the program runs on.
    TakenOver,
}

impl End {
    /// The reason in a few words.
    pub fn sentence(&self, exit_code: Option<i32>) -> String {
        match self {
            Self::Closed(Closed { code: CloseCode::Finished, .. }) => match exit_code {
                Some(code) => format!("ended with exit code {code}"),
                None => "ended".to_owned(),
            },
            Self::Closed(closed) => closed_text(closed),
            Self::Refused(why) => why.clone(),
            Self::Detached => "detached; its program runs on".to_owned(),
            Self::TakenOver => "another console took it over; its program runs on".to_owned(),
        }
    }
}

/// What becomes of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    Send,
    Queued,
    /// There is no connection, and the operator did not ask to queue.
    Dropped,
    /// There is no room for more.
    QueueFull,
    /// This console only watches.
    ReadOnly,
    /// There is nobody to send them to.
    Ended,
}

/// What is known of a session.
#[derive(Debug, Clone)]
pub struct Session {
    pub what: Attach,
    /// What was asked for before anything was gone back to.
    first: Attach,
    pub phase: Phase,
    pub tunnel: Option<TunnelId>,
    pub mode: Mode,
    pub exit_code: Option<i32>,
    /// The bytes that went up and down, as they were last told: they stay when it ends.
    pub bytes: (u64, u64),
    /// Keys that wait for the connection; none while they are not to wait.
    queue: Option<Vec<u8>>,
    /// Somebody was told that keys are lost.
    lost_keys_told: bool,
}

impl Session {
    pub fn new(what: Attach) -> Self {
        let (tunnel, mode) = match &what {
            Attach::New { .. } => (None, Mode::Owner),
            Attach::Existing { tunnel, mode } => (Some(*tunnel), *mode),
        };
        Self {
            first: what.clone(),
            what,
            phase: Phase::Waiting,
            tunnel,
            mode,
            exit_code: None,
            bytes: (0, 0),
            queue: None,
            lost_keys_told: false,
        }
    }

    /// What was asked to be recorded of it.
    pub const fn record(&self) -> Record {
        match self.first {
            Attach::New { record, .. } => record,
            Attach::Existing { .. } => Record::AsProject,
        }
    }

    /// Whether something runs, or may.
    pub const fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }

    pub fn opening(&mut self, now: Timestamp) {
        self.phase = Phase::Opening { since: now };
    }

    /// Takes how it fares. Gives back the keys that waited for the device, which is there, and
    /// whether it is news that keys on their way are lost.
    pub fn status(&mut self, status: Box<Status>, now: Timestamp) -> (Vec<u8>, bool) {
        if !self.is_open() {
            return (Vec::new(), false);
        }
        let was_opening = matches!(self.phase, Phase::Opening { .. });
        self.mode = status.mode.unwrap_or(self.mode);
        let lost_keys = status.has_lost_keys && !self.lost_keys_told;
        self.lost_keys_told = status.has_lost_keys;
        let is_connecting = status.state == State::Connecting;
        if was_opening && is_connecting {
            return (Vec::new(), false);
        }
        self.bytes = (status.bytes_up, status.bytes_down);
        self.phase = Phase::Open(status, now);
        if !matches!(self.stream(now), Stream::Live | Stream::Stalled { .. }) {
            return (Vec::new(), lost_keys);
        }
        let kept = self.queue.as_mut().map(std::mem::take).unwrap_or_default();
        if was_opening {
            // Only what was typed meanwhile was to wait.
            self.queue = None;
        }
        (kept, lost_keys)
    }

    pub fn ended(&mut self, ended: &Ended) {
        self.end(match ended {
            Ended::Closed(closed) => End::Closed(closed.clone()),
            Ended::Detached => End::Detached,
            Ended::TakenOver => End::TakenOver,
            Ended::Refused(error) => End::Refused(error.to_string()),
        });
    }

    pub fn end(&mut self, end: End) {
        if self.is_open() {
            self.phase = Phase::Ended(end);
            self.queue = None;
        }
    }

    /// What is opened when it is opened again: what runs on, else what was asked for first; a new
    /// terminal is another one.
    pub fn next(&self) -> Attach {
        match (self.tunnel, &self.phase) {
            (Some(tunnel), Phase::Ended(End::Detached | End::TakenOver)) => {
                Attach::Existing { tunnel, mode: self.mode }
            }
            _ => self.first.clone(),
        }
    }

    #[must_use]
    pub fn reopened(&self) -> Self {
        Self { first: self.first.clone(), ..Self::new(self.next()) }
    }

    /// The last word on it, while it is open.
    pub fn last(&self) -> Option<&Status> {
        match &self.phase {
            Phase::Open(status, _) => Some(status),
            _ => None,
        }
    }

    /// How long until it ends for want of life, in milliseconds.
    pub fn idle_ms_left(&self, now: Timestamp) -> Option<i64> {
        let Phase::Open(status, at) = &self.phase else { return None };
        let seconds = i64::try_from(status.idle_warning_s?).unwrap_or(i64::MAX);
        Some(seconds.saturating_mul(1000).saturating_sub(now.millis_since(*at)).max(0))
    }

    pub fn rtt_ms(&self) -> Option<i64> {
        i64::try_from(self.last()?.rtt_us?.div_ceil(1000)).ok()
    }

    /// How true the picture is.
    pub fn stream(&self, now: Timestamp) -> Stream {
        match &self.phase {
            Phase::Waiting => Stream::Opening { age_ms: 0 },
            Phase::Opening { since } => Stream::Opening { age_ms: now.millis_since(*since) },
            Phase::Ended(End::Detached) => Stream::Detached,
            Phase::Ended(End::TakenOver) => Stream::TakenOver,
            Phase::Ended(_) => Stream::Ended,
            Phase::Open(status, at) => {
                let since = now.millis_since(*at).max(0);
                let age_ms = i64::try_from(status.age_ms).unwrap_or(i64::MAX).saturating_add(since);
                match status.state {
                    State::Live => Stream::Live,
                    State::Stalled => Stream::Stalled { age_ms },
                    State::Connecting | State::Lost => Stream::Lost { age_ms },
                }
            }
        }
    }

    /// Says what becomes of keys now, and keeps them where they wait.
    pub fn keys(&mut self, bytes: &[u8], now: Timestamp) -> Keys {
        if self.mode == Mode::Watch && self.is_open() {
            return Keys::ReadOnly;
        }
        match self.stream(now) {
            Stream::Detached | Stream::TakenOver | Stream::Ended => return Keys::Ended,
            Stream::Live | Stream::Stalled { .. } => return Keys::Send,
            // What is typed while it opens is typed for it.
            Stream::Opening { .. } => {
                self.queue.get_or_insert_default();
            }
            Stream::Lost { .. } => {}
        }
        match &mut self.queue {
            Some(queue) if queue.len() + bytes.len() <= QUEUED_KEYS_MAX_BYTES => {
                queue.extend_from_slice(bytes);
                Keys::Queued
            }
            Some(_) => Keys::QueueFull,
            None => Keys::Dropped,
        }
    }

    /// How many bytes of keys wait, when keys are to wait.
    pub fn queued(&self) -> Option<usize> {
        self.queue.as_ref().map(Vec::len)
    }

    /// From now on keys wait while the connection is lost, or no longer do; those that wait are dropped.
    pub fn toggle_queue(&mut self) -> bool {
        self.queue = if self.queue.is_some() { None } else { Some(Vec::new()) };
        self.queue.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn session() -> Session {
        Session::new(Attach::New {
            device: "pi-1".parse().expect("an id"),
            record: Record::default(),
        })
    }

    fn status(state: State, age_ms: u64) -> Status {
        Status {
            state,
            age_ms,
            why: None,
            mode: Some(Mode::Owner),
            is_recorded: false,
            rtt_us: Some(41_001),
            bytes_up: 1,
            bytes_down: 2,
            watchers: Vec::new(),
            idle_warning_s: None,
            keys_under_way: 0,
            has_lost_keys: false,
        }
    }

    #[test]
    fn what_went_up_and_down_stays_when_it_ends() {
        let mut session = session();
        session.opening(at(0));
        session.status(Box::new(status(State::Live, 0)), at(1));
        session.end(End::Detached);
        assert_eq!(session.bytes, (1, 2));
    }

    #[test]
    fn what_is_typed_while_it_opens_is_sent_once_it_is_open() {
        let mut session = session();
        session.opening(at(0));
        assert_eq!(session.keys(b"ls\r", at(5)), Keys::Queued);
        assert_eq!(
            session.status(Box::new(status(State::Connecting, 0)), at(6)),
            (Vec::new(), false)
        );
        assert_eq!(session.stream(at(6)), Stream::Opening { age_ms: 6 });
        assert_eq!(
            session.status(Box::new(status(State::Live, 0)), at(7)),
            (b"ls\r".to_vec(), false)
        );
        assert_eq!((session.queued(), session.rtt_ms()), (None, Some(42)));
        assert_eq!(session.keys(b"x", at(8)), Keys::Send);
    }

    #[test]
    fn keys_are_dropped_while_it_is_lost_unless_they_are_to_wait() {
        let mut session = session();
        session.opening(at(0));
        session.status(Box::new(status(State::Live, 0)), at(1000));
        session.status(Box::new(status(State::Lost, 1500)), at(2500));
        assert_eq!(session.stream(at(13_000)), Stream::Lost { age_ms: 12_000 });
        assert_eq!(session.keys(b"rm x\r", at(13_000)), Keys::Dropped);
        assert!(session.toggle_queue());
        assert_eq!(session.keys(b"ls\r", at(13_000)), Keys::Queued);
        assert_eq!(session.keys(&[b'x'; QUEUED_KEYS_MAX_BYTES], at(13_000)), Keys::QueueFull);
        assert_eq!(session.queued(), Some(3));
        assert_eq!(session.status(Box::new(status(State::Connecting, 0)), at(13_500)).0, b"");
        let came_back = Box::new(Status { has_lost_keys: true, ..status(State::Live, 0) });
        assert_eq!(session.status(came_back.clone(), at(14_000)), (b"ls\r".to_vec(), true));
        assert_eq!(session.queued(), Some(0));
        assert_eq!(session.status(came_back, at(15_000)), (Vec::new(), false), "told once");
    }

    #[test]
    fn a_device_that_answers_late_is_typed_to() {
        let mut session = session();
        session.status(Box::new(status(State::Stalled, 4_000)), at(900));
        assert_eq!(session.stream(at(1900)), Stream::Stalled { age_ms: 5_000 });
        assert_eq!(session.keys(b"b", at(1900)), Keys::Send);
    }

    #[test]
    fn who_watches_types_nothing() {
        let tunnel = "018f0000-0000-7000-8000-000000000001".parse().expect("an id");
        let mut session = Session::new(Attach::Existing { tunnel, mode: Mode::Watch });
        let watch = Box::new(Status { mode: Some(Mode::Watch), ..status(State::Live, 0) });
        session.status(watch, at(0));
        assert_eq!(session.keys(b"a", at(0)), Keys::ReadOnly);
    }

    #[test]
    fn an_end_stays_with_its_reason_and_can_be_opened_again() {
        let mut session = session();
        let warned = Box::new(Status { idle_warning_s: Some(60), ..status(State::Live, 0) });
        session.status(warned, at(0));
        assert_eq!(session.idle_ms_left(at(20_000)), Some(40_000));
        session.exit_code = Some(3);
        session.ended(&Ended::Closed(Closed::new(CloseCode::Finished, "")));
        session.ended(&Ended::TakenOver);
        session.status(Box::new(status(State::Lost, 0)), at(1));
        let Phase::Ended(end) = &session.phase else { panic!("an end") };
        assert_eq!(end.sentence(session.exit_code), "ended with exit code 3");
        assert_eq!(session.keys(b"a", at(0)), Keys::Ended);
        assert_eq!(session.idle_ms_left(at(2)), None);
        assert_eq!(session.reopened().what, session.what);
    }

    #[test]
    fn what_runs_on_is_gone_back_to() {
        for (ended, stream) in
            [(Ended::Detached, Stream::Detached), (Ended::TakenOver, Stream::TakenOver)]
        {
            let mut session = session();
            session.tunnel = Some("018f0000-0000-7000-8000-000000000001".parse().expect("an id"));
            session.ended(&ended);
            assert_eq!((session.stream(at(1)), session.is_open()), (stream, false));
            assert_eq!(session.keys(b"a", at(1)), Keys::Ended);
            let reopened = session.reopened();
            let Attach::Existing { tunnel, mode } = reopened.what else { panic!("the same") };
            assert_eq!((Some(tunnel), mode), (session.tunnel, Mode::Owner));
            // Over by then, it is another one again.
            let mut gone_back = session.reopened();
            gone_back.ended(&Ended::Closed(Closed::new(CloseCode::Finished, "")));
            assert_eq!(gone_back.next(), session.first);
            assert!(matches!(gone_back.next(), Attach::New { .. }));
        }
    }
}
