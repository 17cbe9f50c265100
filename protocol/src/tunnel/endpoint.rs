//! One end of all tunnels over one connection: who may send next.
//!
//! ```text
//!   owner ── write, mark, finish, reset ──▶ ┌──────────┐ ── poll_transmit ──▶ connection
//!         ◀── poll_change, read ─────────── │ Endpoint │ ◀── on_frame ───────
//!         ── make_safe, set_window ───────▶ └──────────┘ ◀── on_time at next_due
//! ```
//!
//! It does nothing by itself: the owner moves frames and tells the time. What
//! leaves first:
//!
//! 1. resets, resumes and acknowledgements: they add nothing to what is under way;
//! 2. urgent streams (keys, signals), as long as the connection's budget of
//!    messages and bytes under way has room;
//! 3. bulk, a frame of each stream in turn, as long as its tunnel's budget and
//!    the connection's budget less a reserve for the urgent have room.
//!
//! The owner asks for a frame only when the connection can take it at once;
//! a queue below this would undo the order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
};

use bytes::Bytes;

use super::{
    DEVICE_STREAM, StreamKey, Tick,
    close::CloseCode,
    frame::{Body, Frame},
    limits::{
        CREDIT_FIRST_BYTES, FRAME_DATA_MAX_BYTES, LINGERING_MAX, LINK_FLIGHT_MAX_BYTES,
        LINK_FLIGHT_MAX_MESSAGES, STRAY_ANSWERS_MAX, STREAMS_ENDING_MAX, STREAMS_MAX,
        TUNNEL_FLIGHT_MAX_BYTES, TUNNEL_FLIGHT_MAX_MESSAGES, URGENT_RESERVE_BYTES,
        URGENT_RESERVE_MESSAGES, WINDOW_SHARES,
    },
    mark::Mark,
    pieces::Content,
    receive::Item,
    send::Flight,
    stream::{Changes, Checkpoint, Closed, Relic, Stream, StreamConfig, StreamStatus, Unsent},
};

/// Which end this is: each has stream ids of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The server or the console.
    Near,
    Device,
}

impl Side {
    const fn first_id(self) -> u32 {
        match self {
            Self::Near => 0,
            Self::Device => DEVICE_STREAM,
        }
    }

    const fn has_opened(self, stream: u32) -> bool {
        (stream & DEVICE_STREAM != 0) == matches!(self, Self::Device)
    }
}

/// The bounds of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointConfig {
    /// What may be under way for all tunnels: the broker's queue of the subscriber holds more.
    pub link_flight: Flight,
    /// What may be under way for one tunnel.
    pub tunnel_flight: Flight,
    /// What may be kept to be sent by all streams, in bytes.
    pub buffers_max_bytes: usize,
    /// The sum of all windows, in bytes: what may wait to be read.
    pub windows_max_bytes: u64,
    /// Streams of one tunnel that may be open at once.
    pub streams_max: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            link_flight: Flight {
                messages: LINK_FLIGHT_MAX_MESSAGES,
                bytes: LINK_FLIGHT_MAX_BYTES,
            },
            tunnel_flight: Flight {
                messages: TUNNEL_FLIGHT_MAX_MESSAGES,
                bytes: TUNNEL_FLIGHT_MAX_BYTES,
            },
            buffers_max_bytes: 16 * 1024 * 1024,
            windows_max_bytes: 32 * 1024 * 1024,
            streams_max: STREAMS_MAX,
        }
    }
}

/// Says why something cannot be done with a stream or a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there is no such tunnel here")]
    NoTunnel,
    #[error("there is no such stream here, or it is over")]
    NoStream,
    #[error("as many streams as may be are open")]
    TooMany,
}

/// One end of all tunnels over one connection.
#[derive(Debug)]
pub struct Endpoint {
    side: Side,
    config: EndpointConfig,
    is_up: bool,
    tunnels: BTreeMap<u32, Tunnel>,
    streams: BTreeMap<StreamKey, Stream>,
    used: Used,
    /// Answers to frames that belong to nothing here.
    stray: VecDeque<Frame>,
    changed: BTreeSet<StreamKey>,
    /// The last changes of streams that are over.
    last_words: VecDeque<(StreamKey, Changes)>,
    /// Streams that wait for room in the buffers of all.
    starved: BTreeSet<StreamKey>,
    /// Whose bulk left last.
    turn: Option<StreamKey>,
}

/// What all streams use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    pub flight: Flight,
    pub buffers_bytes: usize,
    pub windows_bytes: u64,
}

#[derive(Debug)]
struct Tunnel {
    /// For streams that the peer opens.
    incoming: StreamConfig,
    next_own: u32,
    next_peer: u32,
    flight: Flight,
    streams: usize,
    relics: VecDeque<Relic>,
}

impl Tunnel {
    fn bury(&mut self, relic: Relic) {
        if self.relics.len() == LINGERING_MAX {
            self.relics.pop_front();
        }
        self.relics.push_back(relic);
    }
}

impl Endpoint {
    /// Makes an end whose connection is not up yet.
    pub fn new(side: Side, config: EndpointConfig) -> Self {
        Self {
            side,
            config,
            is_up: false,
            tunnels: BTreeMap::new(),
            streams: BTreeMap::new(),
            used: Used::default(),
            stray: VecDeque::new(),
            changed: BTreeSet::new(),
            last_words: VecDeque::new(),
            starved: BTreeSet::new(),
            turn: None,
        }
    }

    // --- tunnels ----------------------------------------------------------------

    /// Knows a tunnel from now on. Streams that the peer opens in it are treated as `incoming`.
    ///
    /// Returns `false` when the handle is in use.
    pub fn add_tunnel(&mut self, tunnel: u32, incoming: StreamConfig) -> bool {
        if self.tunnels.contains_key(&tunnel) {
            return false;
        }
        let peer = match self.side {
            Side::Near => Side::Device,
            Side::Device => Side::Near,
        };
        self.tunnels.insert(
            tunnel,
            Tunnel {
                incoming,
                next_own: self.side.first_id(),
                next_peer: peer.first_id(),
                flight: Flight::default(),
                streams: 0,
                relics: VecDeque::new(),
            },
        );
        true
    }

    /// Forgets a tunnel and its streams; the peer is not told by this.
    pub fn remove_tunnel(&mut self, tunnel: u32) {
        let all = StreamKey { tunnel, stream: 0 }..=StreamKey { tunnel, stream: u32::MAX };
        let keys: Vec<_> = self.streams.range(all).map(|(key, _)| *key).collect();
        for key in keys {
            self.take_out(key);
        }
        self.last_words.retain(|(key, _)| key.tunnel != tunnel);
        self.tunnels.remove(&tunnel);
        self.feed();
    }

    // --- streams ----------------------------------------------------------------

    /// Opens a stream; its id rises within the tunnel.
    pub fn open(
        &mut self,
        tunnel: u32,
        config: StreamConfig,
        now: Tick,
    ) -> Result<StreamKey, Refused> {
        let known = self.tunnels.get_mut(&tunnel).ok_or(Refused::NoTunnel)?;
        if known.streams >= self.config.streams_max {
            return Err(Refused::TooMany);
        }
        let key = StreamKey { tunnel, stream: known.next_own };
        let share = self.share(key.tunnel);
        if !self.admit(key, &config, share, |key, config| Stream::open(key, config, now)) {
            return Err(Refused::TooMany);
        }
        let known = self.tunnels.get_mut(&tunnel).ok_or(Refused::NoTunnel)?;
        known.next_own += 1;
        Ok(key)
    }

    /// Takes a stream up again that a former life of this end had; it begins with a handshake.
    /// Refused where its whole window does not fit: the former life may have granted all of it.
    pub fn resume(
        &mut self,
        key: StreamKey,
        config: StreamConfig,
        checkpoint: Checkpoint,
        now: Tick,
    ) -> Result<(), Refused> {
        let known = self.tunnels.get_mut(&key.tunnel).ok_or(Refused::NoTunnel)?;
        let next = if self.side.has_opened(key.stream) {
            &mut known.next_own
        } else {
            &mut known.next_peer
        };
        *next = (*next).max(key.stream.saturating_add(1));
        let is_free = !self.streams.contains_key(&key);
        let make = |key, config| Stream::resume(key, config, checkpoint, now);
        let is_admitted = is_free && self.admit(key, &config, u32::MAX, make);
        if is_admitted { Ok(()) } else { Err(Refused::TooMany) }
    }

    /// Opens one of our own streams under the id and in the life that somebody gave
    /// it. In the first life it is new; in a later one another end had it before,
    /// which had said all that it will, and this one goes on wherever the peer is.
    pub fn join(
        &mut self,
        key: StreamKey,
        life: u16,
        config: StreamConfig,
        now: Tick,
    ) -> Result<(), Refused> {
        if !self.side.has_opened(key.stream) {
            return Err(Refused::NoStream);
        }
        if life > 1 {
            let unsent = Unsent::Forgotten;
            let checkpoint = Checkpoint { life, received: 0, has_received_end: false, unsent };
            return self.resume(key, config, checkpoint, now);
        }
        let known = self.tunnels.get_mut(&key.tunnel).ok_or(Refused::NoTunnel)?;
        if key.stream < known.next_own || self.streams.contains_key(&key) {
            return Err(Refused::NoStream);
        }
        let share = self.share(key.tunnel);
        if !self.admit(key, &config, share, |key, config| Stream::open(key, config, now)) {
            return Err(Refused::TooMany);
        }
        let known = self.tunnels.get_mut(&key.tunnel).ok_or(Refused::NoTunnel)?;
        known.next_own = key.stream + 1;
        Ok(())
    }

    /// What is left of the sum of all windows.
    const fn free_windows(&self) -> u64 {
        self.config.windows_max_bytes.saturating_sub(self.used.windows_bytes)
    }

    /// The window that a new stream of a tunnel may have.
    fn share(&self, tunnel: u32) -> u32 {
        let open = self.tunnels.get(&tunnel).map_or(0, |tunnel| tunnel.streams);
        let to_come = (self.config.streams_max + STREAMS_ENDING_MAX).saturating_sub(open) as u64;
        let kept = to_come * u64::from(CREDIT_FIRST_BYTES);
        let rest = self.free_windows().saturating_sub(kept) / WINDOW_SHARES;
        CREDIT_FIRST_BYTES.saturating_add(u32::try_from(rest).unwrap_or(u32::MAX))
    }

    /// Takes a stream if there is room; its window is at most so large.
    fn admit(
        &mut self,
        key: StreamKey,
        config: &StreamConfig,
        window_max_bytes: u32,
        make: impl FnOnce(StreamKey, StreamConfig) -> Stream,
    ) -> bool {
        let free = self.free_windows();
        let window_bytes = config.window_bytes.min(window_max_bytes);
        let window = u64::from(window_bytes.max(CREDIT_FIRST_BYTES));
        let ending = if self.side.has_opened(key.stream) { 0 } else { STREAMS_ENDING_MAX };
        let Some(tunnel) = self.tunnels.get_mut(&key.tunnel) else { return false };
        if tunnel.streams >= self.config.streams_max + ending || window > free {
            return false;
        }
        tunnel.streams += 1;
        let stream = make(key, StreamConfig { window_bytes, ..*config });
        self.used.windows_bytes += stream.reserved_bytes();
        self.used.buffers_bytes += stream.buffered_bytes();
        self.streams.insert(key, stream);
        self.changed.insert(key);
        true
    }

    /// Writes as much of `bytes` as there is room for and takes it off their
    /// front; [`Changes::is_writable`] says when the rest may be tried.
    pub fn write(&mut self, key: StreamKey, bytes: &mut Bytes) -> Result<(), Refused> {
        let room = self.room(key)?;
        if room < bytes.len() {
            self.want_room(key);
        }
        let taken = bytes.split_to(room.min(bytes.len()));
        if !taken.is_empty() {
            self.change(key, |stream| stream.write(Content::Bytes(taken)));
        }
        Ok(())
    }

    /// Writes a mark; `false` when there is no room, as with [`Self::write`].
    pub fn mark(&mut self, key: StreamKey, mark: Mark) -> Result<bool, Refused> {
        if self.room(key)? == 0 {
            self.want_room(key);
            return Ok(false);
        }
        self.change(key, |stream| stream.write(Content::Mark(mark)));
        Ok(true)
    }

    /// Says how many bytes may be written now.
    pub fn room(&self, key: StreamKey) -> Result<usize, Refused> {
        let stream = self.streams.get(&key).ok_or(Refused::NoStream)?;
        let of_all = self.config.buffers_max_bytes.saturating_sub(self.used.buffers_bytes);
        Ok(stream.room().min(of_all))
    }

    fn want_room(&mut self, key: StreamKey) {
        if self.used.buffers_bytes >= self.config.buffers_max_bytes {
            self.starved.insert(key);
        }
        self.change(key, Stream::want_room);
    }

    /// Ends our direction after what was written.
    pub fn finish(&mut self, key: StreamKey) -> Result<(), Refused> {
        self.change(key, Stream::finish).ok_or(Refused::NoStream)
    }

    /// Ends the stream now; the peer is told until it answers.
    pub fn reset(&mut self, key: StreamKey, closed: Closed, now: Tick) -> Result<(), Refused> {
        self.change(key, |stream| stream.reset(closed, now)).ok_or(Refused::NoStream)
    }

    /// Reads the next item, at most `most_bytes` of bytes, and the offset behind
    /// it, which is what [`Self::make_safe`] takes when it is safe.
    pub fn read(&mut self, key: StreamKey, most_bytes: usize, now: Tick) -> Option<(Item, u64)> {
        self.change(key, |stream| {
            stream.read(most_bytes, now).map(|item| (item, stream.read_until()))
        })?
    }

    /// Lets the peer forget everything before `until`.
    pub fn make_safe(&mut self, key: StreamKey, until: u64, now: Tick) {
        self.change(key, |stream| stream.make_safe(until, now));
    }

    /// Sets how much may wait here to be read; what was granted stays granted.
    pub fn set_window(&mut self, key: StreamKey, bytes: u32, now: Tick) {
        let free = self.free_windows();
        self.change(key, |stream| {
            let most = free.saturating_add(stream.reserved_bytes());
            stream.set_window(u32::try_from(most).unwrap_or(u32::MAX).min(bytes), now);
        });
    }

    /// Says how a stream fares.
    pub fn status(&self, key: StreamKey) -> Option<StreamStatus> {
        self.streams.get(&key).map(Stream::status)
    }

    /// Says what all streams use.
    pub const fn used(&self) -> Used {
        self.used
    }

    // --- the connection ---------------------------------------------------------

    /// The connection is up, perhaps a new one: what was under way is sent again.
    pub fn on_link_up(&mut self, now: Tick) {
        self.is_up = true;
        let keys: Vec<_> = self.streams.keys().copied().collect();
        for key in keys {
            self.change(key, |stream| stream.on_link_up(now));
        }
    }

    /// The connection is gone; time-outs wait for the next.
    pub const fn on_link_down(&mut self) {
        self.is_up = false;
    }

    /// Takes a frame of the peer.
    pub fn on_frame(&mut self, frame: Frame, now: Tick) {
        let key = frame.key;
        if !self.tunnels.contains_key(&key.tunnel) {
            return self.refuse(&frame, CloseCode::Unknown, "there is no such tunnel here");
        }
        if let Some(stream) = self.streams.get(&key) {
            let Body::Reset { is_answer, code, detail } = &frame.body else {
                self.change(key, |stream| stream.on_frame(frame, now));
                return;
            };
            if stream.is_meant_by(&frame) {
                let closed = Closed::new(*code, detail.clone());
                if !is_answer {
                    self.refuse(&frame, *code, "");
                }
                self.retire(key, Some(closed));
            }
            return;
        }
        let tunnel = self.tunnels.get(&key.tunnel);
        let relic = tunnel
            .and_then(|tunnel| tunnel.relics.iter().find(|relic| relic.stream() == key.stream));
        if let Some(relic) = relic {
            if let Some(answer) = relic.answer(&frame) {
                self.answer(answer);
            }
            return;
        }
        let is_theirs = !self.side.has_opened(key.stream);
        let is_new = tunnel.is_some_and(|tunnel| key.stream >= tunnel.next_peer);
        if is_theirs && is_new && begins_stream(&frame) {
            self.accept(frame, now);
        } else {
            self.refuse(&frame, CloseCode::Unknown, "there is no such stream here");
        }
    }

    /// Takes a new stream of the peer, and those before it whose first frames are
    /// still on their way.
    fn accept(&mut self, frame: Frame, now: Tick) {
        let key = frame.key;
        let Some(tunnel) = self.tunnels.get_mut(&key.tunnel) else { return };
        let (first, incoming) = (tunnel.next_peer, tunnel.incoming);
        if (key.stream - first) as usize > self.config.streams_max
            || self.last_words.len() > self.config.streams_max
        {
            return self.refuse(&frame, CloseCode::Busy, "too many streams at once");
        }
        tunnel.next_peer = key.stream + 1;
        for stream in first..=key.stream {
            let key = StreamKey { stream, ..key };
            // Those before it are in lives of their own: the first, until they say another.
            let life = if stream == frame.key.stream { frame.epoch.from } else { 1 };
            let make = |key, config| Stream::accept(key, config, life, now);
            let share = self.share(key.tunnel);
            if !self.admit(key, &incoming, share, make) {
                let busy = Closed::new(CloseCode::Busy, "as many streams as may be are open");
                let (relic, _) = Stream::accept(key, incoming, life, now).into_relic(Some(busy));
                if let Some(tunnel) = self.tunnels.get_mut(&key.tunnel) {
                    tunnel.bury(relic);
                }
            }
        }
        // It is known now, as a stream or as a relic of one.
        self.on_frame(frame, now);
    }

    fn refuse(&mut self, frame: &Frame, code: CloseCode, detail: &str) {
        if matches!(frame.body, Body::Reset { is_answer: true, .. }) {
            return;
        }
        self.answer(Frame {
            key: frame.key,
            epoch: frame.epoch.turned(),
            is_opening: false,
            wants_reply: false,
            has_taken_end: false,
            offset: 0,
            ack: 0,
            credit: 0,
            body: Body::Reset { is_answer: true, code, detail: detail.to_owned() },
        });
    }

    fn answer(&mut self, frame: Frame) {
        // Over the bound the peer is answered when it asks again.
        if self.stray.len() < STRAY_ANSWERS_MAX {
            self.stray.push_back(frame);
        }
    }

    // --- time and turns ---------------------------------------------------------

    /// When [`Self::on_time`] and [`Self::poll_transmit`] are next to be called, if nothing else happens.
    pub fn next_due(&self, now: Tick) -> Option<Tick> {
        if !self.is_up {
            return None;
        }
        if !self.stray.is_empty() {
            return Some(now);
        }
        let due = |stream: &Stream, key: &StreamKey| {
            let data = stream.data_at(now).filter(|_| self.may_fly(*key, stream.is_urgent()));
            [stream.due_at(now), data].into_iter().flatten().min()
        };
        self.streams.iter().filter_map(|(key, stream)| due(stream, key)).min()
    }

    /// Lets time-outs happen.
    pub fn on_time(&mut self, now: Tick) {
        if !self.is_up {
            return;
        }
        let due: Vec<_> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.due_at(now).is_some_and(|at| at <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            self.change(key, |stream| stream.on_time(now));
        }
    }

    /// Makes the next frame to send; `None` until something happens or [`Self::next_due`].
    pub fn poll_transmit(&mut self, now: Tick) -> Option<Frame> {
        if !self.is_up {
            return None;
        }
        if let Some(frame) = self.stray.pop_front() {
            return Some(frame);
        }
        self.poll_urgent(now)
            .or_else(|| self.poll_data(true, now))
            .or_else(|| self.poll_data(false, now))
    }

    fn poll_urgent(&mut self, now: Tick) -> Option<Frame> {
        let key =
            self.streams.iter().find(|(_, stream)| stream.has_urgent()).map(|(key, _)| *key)?;
        match self.change(key, |stream| stream.urgent(now)).flatten() {
            Some(frame) => Some(frame),
            // What was due turned out to ride on other frames.
            None => self.poll_urgent(now),
        }
    }

    fn poll_data(&mut self, is_urgent: bool, now: Tick) -> Option<Frame> {
        let is_due = |(key, stream): &(&StreamKey, &Stream)| {
            stream.is_urgent() == is_urgent
                && stream.data_at(now).is_some_and(|at| at <= now)
                && self.may_fly(**key, is_urgent)
        };
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let key = self
            .streams
            .range((after, Bound::Unbounded))
            .find(is_due)
            .or_else(|| self.streams.iter().find(is_due))
            .map(|(key, _)| *key)?;
        if !is_urgent {
            self.turn = Some(key);
        }
        self.change(key, |stream| stream.data(now))?
    }

    /// Whether a frame with bytes fits what may be under way.
    fn may_fly(&self, key: StreamKey, is_urgent: bool) -> bool {
        let (reserve, frame_bytes) = if is_urgent {
            (Flight::default(), 0)
        } else {
            let reserve = Flight { messages: URGENT_RESERVE_MESSAGES, bytes: URGENT_RESERVE_BYTES };
            (reserve, FRAME_DATA_MAX_BYTES)
        };
        let fits = |used: Flight, most: Flight| {
            // The first frame always fits, however small the bound.
            used.messages == 0
                || (used.messages + reserve.messages < most.messages
                    && used.bytes + reserve.bytes + frame_bytes <= most.bytes)
        };
        fits(self.used.flight, self.config.link_flight)
            && self
                .tunnels
                .get(&key.tunnel)
                .is_some_and(|tunnel| fits(tunnel.flight, self.config.tunnel_flight))
    }

    /// Gives what happened to some stream; `None` when all is told.
    pub fn poll_change(&mut self) -> Option<(StreamKey, Changes)> {
        if let Some(last) = self.last_words.pop_front() {
            return Some(last);
        }
        while let Some(key) = self.changed.pop_first() {
            if let Some(changes) = self.streams.get_mut(&key).and_then(Stream::take_changes) {
                return Some((key, changes));
            }
        }
        None
    }

    // --- accounts ---------------------------------------------------------------

    /// Lets something happen to a stream, and keeps the sums right.
    fn change<R>(&mut self, key: StreamKey, action: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        let stream = self.streams.get_mut(&key)?;
        let before = (stream.flight(), stream.buffered_bytes(), stream.reserved_bytes());
        let result = action(stream);
        let after = (stream.flight(), stream.buffered_bytes(), stream.reserved_bytes());
        let is_gone = stream.is_gone();
        self.used.buffers_bytes = self.used.buffers_bytes + after.1 - before.1;
        self.used.windows_bytes = self.used.windows_bytes + after.2 - before.2;
        self.used.flight = moved(self.used.flight, before.0, after.0);
        if let Some(tunnel) = self.tunnels.get_mut(&key.tunnel) {
            tunnel.flight = moved(tunnel.flight, before.0, after.0);
        }
        self.changed.insert(key);
        if after.1 < before.1 && !self.starved.is_empty() {
            self.feed();
        }
        if is_gone {
            self.retire(key, None);
        }
        Some(result)
    }

    fn feed(&mut self) {
        if self.used.buffers_bytes < self.config.buffers_max_bytes {
            for key in std::mem::take(&mut self.starved) {
                if let Some(stream) = self.streams.get_mut(&key) {
                    stream.note_room();
                    self.changed.insert(key);
                }
            }
        }
    }

    /// Ends the bookkeeping of a stream; its last words are kept for the owner.
    fn retire(&mut self, key: StreamKey, closed: Option<Closed>) {
        let Some(stream) = self.take_out(key) else { return };
        let (relic, changes) = stream.into_relic(closed);
        if let Some(tunnel) = self.tunnels.get_mut(&key.tunnel) {
            tunnel.bury(relic);
        }
        if let Some(changes) = changes {
            self.last_words.push_back((key, changes));
        }
        self.feed();
    }

    fn take_out(&mut self, key: StreamKey) -> Option<Stream> {
        let stream = self.streams.remove(&key)?;
        let flight = stream.flight();
        self.used.flight = moved(self.used.flight, flight, Flight::default());
        self.used.buffers_bytes -= stream.buffered_bytes();
        self.used.windows_bytes -= stream.reserved_bytes();
        if let Some(tunnel) = self.tunnels.get_mut(&key.tunnel) {
            tunnel.flight = moved(tunnel.flight, flight, Flight::default());
            tunnel.streams -= 1;
        }
        self.changed.remove(&key);
        self.starved.remove(&key);
        Some(stream)
    }
}

/// Whether a frame may be the first that is heard of a stream: of an opening one,
/// or of one that its opener takes up before anything of it arrived.
fn begins_stream(frame: &Frame) -> bool {
    match frame.body {
        Body::Resume { adopts } => frame.ack == 0 && (adopts || frame.offset == 0),
        Body::Resumed | Body::Reset { .. } => false,
        _ => frame.is_opening && frame.epoch.to == 1,
    }
}

fn moved(sum: Flight, before: Flight, after: Flight) -> Flight {
    Flight {
        messages: sum.messages + after.messages - before.messages,
        bytes: sum.bytes + after.bytes - before.bytes,
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
