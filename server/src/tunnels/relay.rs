//! Frames of streams that run from a console to the device: passed on as they
//! are, by which console they are of, and counted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use quarterdeck_protocol::tunnel::{
    DEVICE_STREAM,
    frame::{Body, Frame},
    limits::WINDOW_MAX_BYTES,
    mark::{Exit, Mark},
};
use tokio::sync::mpsc;

/// Frames that may wait for one console's socket; over it they are lost, and sent
/// again by the device. More than one tunnel may have under way.
pub(super) const FRAMES_MAX: usize = 256;
/// Streams whose counts are kept apart, so that what is sent again counts once.
const COUNTED_MAX_STREAMS: usize = 1_024;

/// Where a tunnel's relayed frames go.
#[derive(Debug, Default)]
pub(super) struct Relay(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Of terminals: who has which stream.
    writers: HashMap<u32, Console>,
    /// Of all else: who has all of them.
    whole: Option<Console>,
    up: Count,
    down: Count,
    /// How an exec's program ended, by its device.
    exit: Option<Exit>,
    /// The device may have heard of a console.
    is_used: bool,
}

#[derive(Debug, Clone)]
struct Console {
    id: u64,
    frames: mpsc::Sender<Bytes>,
}

/// How far each stream came, and how many bytes that is of all; marks are none.
#[derive(Debug, Default)]
struct Count {
    ends: BTreeMap<u32, u64>,
    sum: u64,
    /// What went through before a restart of the server, as it was last stored.
    before: Before,
}

/// What a count goes on from.
#[derive(Debug, Default, Clone, Copy)]
enum Before {
    #[default]
    Nothing,
    /// Some streams have ended: what is stored is in the sum, and a stream counts from where it is met.
    InSum,
    /// An exec's: the streams of its program last as long as it does, so where they are is all that
    /// there was. Until each was met, this and what came since is the better number.
    AtLeast(u64),
}

/// The stream of an exec's output, on which its end is told.
const MAIN_STREAM: u32 = 0;
/// The streams of an exec's program; any other may have ended.
const OF_EXEC: [u32; 2] = [MAIN_STREAM, DEVICE_STREAM];

impl Count {
    /// How much of a frame is new, and whether nothing is missing before it.
    fn look(&self, frame: &Frame) -> (u64, bool) {
        let met_at = if matches!(self.before, Before::Nothing) { 0 } else { frame.offset };
        let before = self.ends.get(&frame.key.stream).copied().unwrap_or(met_at);
        let end = frame.offset + frame.body.span();
        // More may not be under way: what comes from further on counts for nothing.
        let is_possible = frame.offset <= before.saturating_add(WINDOW_MAX_BYTES.into());
        let new = if is_possible { end.saturating_sub(before) } else { 0 };
        (new, frame.offset <= before)
    }

    /// Takes note of a frame; says how much of it is new.
    fn note(&mut self, frame: &Frame) -> u64 {
        let span = frame.body.span();
        if span == 0 {
            return 0;
        }
        let (new, _) = self.look(frame);
        if new == 0 {
            return 0;
        }
        let bytes = new - u64::from(matches!(frame.body, Body::Mark(_)));
        let is_met = self.ends.contains_key(&frame.key.stream);
        self.sum = self.sum.saturating_add(bytes);
        if let Before::AtLeast(least) = &mut self.before {
            *least = least.saturating_add(bytes);
            if !is_met && OF_EXEC.contains(&frame.key.stream) {
                self.sum = self.sum.saturating_add(frame.offset);
            }
        }
        let end = self.ends.entry(frame.key.stream).or_default();
        *end = (*end).max(frame.offset + span);
        if self.ends.len() > COUNTED_MAX_STREAMS {
            // Ids rise: the first is the one that ended longest ago.
            self.ends.pop_first();
        }
        new
    }

    /// Within what the store takes, whatever a device says.
    fn bytes(&self) -> u64 {
        let least = if let Before::AtLeast(least) = self.before { least } else { 0 };
        self.sum.max(least).min(i64::MAX.unsigned_abs())
    }
}

impl Relay {
    /// Goes on counting after a restart of the server, of a tunnel that was open or not.
    pub(super) fn counted(up: u64, down: u64, is_exec: bool, was_open: bool) -> Self {
        let count = |stored| {
            let (sum, before) =
                if is_exec { (0, Before::AtLeast(stored)) } else { (stored, Before::InSum) };
            Count { sum, before, ..Count::default() }
        };
        let (up, down) = (count(up), count(down));
        Self(Mutex::new(State { up, down, is_used: was_open, ..State::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a terminal's stream, or (`None`) all streams, to a console.
    pub(super) fn join(&self, id: u64, stream: Option<u32>, frames: mpsc::Sender<Bytes>) {
        let console = Console { id, frames };
        let mut state = self.lock();
        match stream {
            Some(stream) => drop(state.writers.insert(stream, console)),
            None => state.whole = Some(console),
        }
    }

    /// Takes them away again.
    pub(super) fn leave(&self, id: u64) {
        let mut state = self.lock();
        state.writers.retain(|_, console| console.id != id);
        state.whole.take_if(|console| console.id == id);
    }

    /// Passes a frame of the device on; says whether it has something new.
    pub(super) fn down(&self, stream: u32, bytes: Bytes) -> bool {
        let Ok(frame) = Frame::decode(bytes.clone()) else { return false };
        let mut state = self.lock();
        let new = state.down.note(&frame);
        if let (MAIN_STREAM, Body::Mark(Mark::Exit(exit))) = (frame.key.stream, &frame.body) {
            state.exit = Some(*exit);
        }
        let console = state.whole.as_ref().or_else(|| state.writers.get(&stream));
        let is_lost = console.is_none_or(|console| console.frames.try_send(bytes).is_err());
        drop(state);
        if is_lost {
            metrics::counter!("quarterdeck_tunnel_lost_frames_total").increment(1);
        }
        new > 0
    }

    /// Takes note of a console's frame; says whether it has something new.
    pub(super) fn up(&self, frame: &Frame) -> bool {
        let mut state = self.lock();
        state.is_used = true;
        state.up.note(frame) > 0 && matches!(frame.body, Body::Data(_))
    }

    /// Whether a console has said anything on the way to the device.
    pub(super) fn is_used(&self) -> bool {
        self.lock().is_used
    }

    /// What a console's frame has that did not pass before; `None` when bytes before it
    /// did not pass yet. Notes nothing.
    pub(super) fn next_up(&self, frame: &Frame) -> Option<Bytes> {
        let (new, is_next) = self.lock().up.look(frame);
        if frame.body.span() > 0 && !is_next {
            return None;
        }
        let Body::Data(bytes) = &frame.body else { return Some(Bytes::new()) };
        Some(bytes.slice(bytes.len() - (new as usize).min(bytes.len())..))
    }

    /// How an exec's program ended, if that went through here.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.lock().exit
    }

    /// Bytes to and from the device.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.up.bytes(), state.down.bytes())
    }
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::tunnel::{StreamKey, frame::Epoch};

    use super::*;

    fn data(stream: u32, offset: u64, text: &'static [u8]) -> Frame {
        Frame {
            key: StreamKey { tunnel: 7, stream },
            epoch: Epoch { from: 1, to: 1 },
            is_opening: false,
            wants_reply: false,
            has_taken_end: false,
            offset,
            ack: 0,
            credit: 0,
            body: Body::Data(Bytes::from_static(text)),
        }
    }

    #[test]
    fn what_is_sent_again_counts_once() {
        let relay = Relay::default();
        assert!(relay.up(&data(0, 0, b"abc")));
        assert!(!relay.up(&data(0, 0, b"abc")));
        assert!(relay.up(&data(0, 1, b"bcd")));
        assert!(relay.up(&data(3, 0, b"x")));
        relay.down(0, data(0, 0, b"yz").to_bytes());
        assert_eq!(relay.counts(), (5, 2));
    }

    #[test]
    fn what_cannot_be_under_way_does_not_count() {
        let relay = Relay::default();
        assert!(!relay.up(&data(0, 1 << 47, b"x")));
        relay.down(0, data(0, (1 << 48) - 1, b"x").to_bytes());
        assert_eq!(relay.counts(), (0, 0));
        let most = u64::from(WINDOW_MAX_BYTES);
        assert!(relay.up(&data(0, most, b"x")));
        assert_eq!(relay.counts(), (most + 1, 0));
    }

    #[test]
    fn what_passes_next_follows_what_passed() {
        let relay = Relay::default();
        assert_eq!(relay.next_up(&data(0, 0, b"abc")).as_deref(), Some(&b"abc"[..]));
        assert_eq!(relay.next_up(&data(0, 3, b"def")), None, "abc did not pass yet");
        relay.up(&data(0, 0, b"abc"));
        assert_eq!(relay.next_up(&data(0, 0, b"abc")).as_deref(), Some(&b""[..]));
        assert_eq!(relay.next_up(&data(0, 2, b"cd")).as_deref(), Some(&b"d"[..]));
        let resumed = Relay::counted(100, 0, false, true);
        assert_eq!(resumed.next_up(&data(0, 100, b"x")).as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn after_a_restart_it_goes_on_counting_where_the_streams_are() {
        let relay = Relay::counted(100, 50, false, true);
        relay.up(&data(0, 100, b"abc"));
        relay.down(0, data(0, 48, b"abc").to_bytes());
        assert_eq!(relay.counts(), (103, 53));
    }

    #[test]
    fn of_an_exec_all_is_counted_that_passed_before_a_restart() {
        let relay = Relay::counted(100, 50, true, true);
        assert_eq!(relay.counts(), (100, 50));
        let far = u64::from(WINDOW_MAX_BYTES) * 3;
        relay.up(&data(0, far, b"abc"));
        relay.down(0, data(0, 30, b"abc").to_bytes());
        assert_eq!(relay.counts(), (far + 3, 53), "the other stream may have had the rest");
        relay.down(DEVICE_STREAM, data(DEVICE_STREAM, 40, b"abc").to_bytes());
        assert_eq!(relay.counts(), (far + 3, 33 + 43));
    }

    #[test]
    fn a_stream_that_says_it_is_far_on_adds_nothing_but_what_it_brings() {
        let relay = Relay::counted(100, 50, true, true);
        for stream in 1..10 {
            relay.down(stream, data(stream, 1 << 47, b"x").to_bytes());
        }
        relay.down(0, data(0, 10, b"x").to_bytes());
        relay.down(0, data(0, 1 << 47, b"x").to_bytes());
        assert_eq!(relay.counts(), (100, 60));
    }

    #[test]
    fn a_mark_is_no_byte() {
        let relay = Relay::default();
        relay.up(&data(0, 0, b"abc"));
        let exit = |stream, offset, code| Frame {
            body: Body::Mark(Mark::Exit(Exit::Code(code))),
            ..data(stream, offset, b"")
        };
        relay.up(&exit(0, 3, 0));
        relay.down(DEVICE_STREAM, exit(DEVICE_STREAM, 0, 8).to_bytes());
        assert_eq!((relay.counts(), relay.exit()), ((3, 0), None), "only its output tells its end");
        relay.down(0, exit(0, 0, 7).to_bytes());
        assert_eq!((relay.counts(), relay.exit()), ((3, 0), Some(Exit::Code(7))));
    }

    #[test]
    fn each_console_gets_its_own_stream_and_nothing_after_it_left() {
        let relay = Relay::default();
        let (to_first, mut first) = mpsc::channel(4);
        let (to_second, mut second) = mpsc::channel(4);
        relay.join(1, Some(1), to_first);
        relay.join(2, Some(2), to_second);
        let frame = data(2, 0, b"a").to_bytes();
        relay.down(2, frame.clone());
        assert_eq!(second.try_recv().ok(), Some(frame.clone()));
        assert!(first.try_recv().is_err());
        relay.leave(2);
        relay.down(2, frame);
        assert!(second.try_recv().is_err());
    }
}
