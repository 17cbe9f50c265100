//! One console's end of one tunnel: what is said, and what follows from what is heard.
//!
//! ```text
//!                 attached              heard late, or the device is
//!  Connecting ──────────────▶ Live ◀──────────────────────────────▶ Stalled
//!                              ▲ │ the connection breaks               │
//!                     attached │ ▼                                     │
//!                             Lost ◀───────────────────────────────────┘
//!  any ── closed, refused, detached, taken over ──▶ ended
//! ```
//!
//! Pure: the time and messages come in, messages and news come out. Keys and
//! connections run on the stream machine of `protocol` ([`Endpoint`]), which
//! outlives the WebSocket, so what was under way when it broke is sent again and
//! taken once. A terminal's output is [`Output`].

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use quarterdeck_protocol::{
    api::TunnelKind,
    tunnel::{
        Flight, StreamKey, Tick,
        close::CloseCode,
        endpoint::{Endpoint, EndpointConfig, Refused, Side},
        frame::{Body, Frame},
        mark::Size,
        session::{
            ClientMessage, LinkState, Mode, RESIZE_DEBOUNCE_MS, SNAPSHOT_MAX_BYTES, ServerMessage,
            Stats, VERSION, Watcher,
        },
        stream::{Closed, StreamConfig},
    },
};

use super::{
    BULK, Ended, KEYS, State, Status,
    output::{OUTPUT_STREAM, Output, Piece, Snapshot},
};

/// A server that says nothing for so long is stalled, in microseconds: it speaks every second.
const STALLED_AFTER_US: u64 = 2_500_000;
/// How long a detach waits for the device to take the last keys, in microseconds.
const LAST_KEYS_US: u64 = 1_000_000;
/// How often the way to the server is measured, in microseconds.
const PING_EVERY_US: u64 = 2_000_000;

/// A message that the server sent cannot be; a new connection may mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Garbled(String);

/// What leaves on the WebSocket.
#[derive(Debug, PartialEq)]
pub(super) enum Outgoing {
    Text(ClientMessage),
    Frame(Frame),
}

/// How the owner takes its leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// What runs, runs on.
    Detach,
    /// The tunnel ends.
    Close,
}

#[derive(Debug)]
enum Link {
    Connecting { since: Tick },
    Up,
    Down { since: Tick, why: String },
}

/// What `attached` said.
#[derive(Debug, Clone, Copy)]
struct Attached {
    mode: Mode,
    handle: u32,
    /// The stream that we write on, and its life.
    input: Option<(u32, u16)>,
    is_recorded: bool,
}

/// What a console that comes back asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ComeBack {
    /// Output that is needed next.
    pub from: Option<u64>,
    /// The stream and the life that it was given.
    pub input: Option<(u32, u16)>,
}

#[derive(Debug)]
pub(super) struct Machine {
    kind: TunnelKind,
    /// Output is wanted from its first byte on, not from a picture of the screen on.
    wants_all: bool,
    link: Link,
    /// There is a connection, on which the server may not have said `attached` yet.
    has_socket: bool,
    attached: Option<Attached>,
    endpoint: Option<Endpoint>,
    /// The stream that we are to open next has to be joined as it was given.
    is_join_due: bool,
    output: Output,
    size: Option<Size>,
    resize_due: Option<Tick>,
    leaving: Option<Leaving>,
    /// When that is said at the latest.
    leave_due: Option<Tick>,
    ping: Ping,
    stats: Option<(Stats, Tick)>,
    /// The bytes up and down as they were last told; a lost connection takes none back.
    bytes: (u64, u64),
    watchers: Vec<Watcher>,
    /// Until something happens that the server counts: an attach, bytes either way. It withdraws
    /// nothing by itself, and warns again.
    idle_warning: Option<(u64, Tick)>,
    heard_at: Tick,
    has_lost_keys: bool,
    ended: Option<Ended>,
    /// The state that the owner knows, and whether other news wait.
    told_state: State,
    has_news: bool,
}

#[derive(Debug, Default)]
struct Ping {
    nonce: u64,
    sent_at: Option<Tick>,
    due: Tick,
    rtt_us: Option<u64>,
}

impl Machine {
    pub(super) fn new(kind: TunnelKind, size: Option<Size>, now: Tick) -> Self {
        Self {
            kind,
            wants_all: false,
            link: Link::Connecting { since: now },
            has_socket: false,
            attached: None,
            endpoint: None,
            is_join_due: false,
            output: Output::new(),
            size,
            resize_due: None,
            leaving: None,
            leave_due: None,
            ping: Ping::default(),
            stats: None,
            bytes: (0, 0),
            watchers: Vec::new(),
            idle_warning: None,
            heard_at: now,
            has_lost_keys: false,
            ended: None,
            told_state: State::Connecting,
            has_news: false,
        }
    }

    /// Wants all of the output, from its first byte on.
    #[must_use]
    pub(super) const fn wanting_all(mut self) -> Self {
        self.wants_all = true;
        self
    }

    // --- what the owner asks and does -------------------------------------------

    pub(super) const fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    pub(super) const fn leaving(&self) -> Option<Leaving> {
        self.leaving
    }

    pub(super) const fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    const fn is_up(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    /// Whether the socket is to be read.
    pub(super) const fn has_room(&self) -> bool {
        !self.output.is_full()
    }

    pub(super) const fn endpoint(&mut self) -> Option<&mut Endpoint> {
        self.endpoint.as_mut()
    }

    pub(super) const fn is_terminal(&self) -> bool {
        matches!(self.kind, TunnelKind::Terminal)
    }

    /// The stream on which keys go.
    pub(super) fn keys(&self) -> Option<StreamKey> {
        let attached = self.attached?;
        let (stream, _) = attached.input?;
        self.is_terminal().then_some(StreamKey { tunnel: attached.handle, stream })
    }

    /// Opens a stream towards the device: the main one of an exec, a connection of a forward.
    pub(super) fn open(&mut self, config: StreamConfig, now: Tick) -> Result<StreamKey, Refused> {
        let (Some(endpoint), Some(attached)) = (&mut self.endpoint, self.attached) else {
            return Err(Refused::NoTunnel);
        };
        let Some((stream, life)) = attached.input.filter(|_| self.is_join_due) else {
            return endpoint.open(attached.handle, config, now);
        };
        let key = StreamKey { tunnel: attached.handle, stream };
        endpoint.join(key, life, config, now)?;
        self.is_join_due = false;
        Ok(key)
    }

    /// Takes what a terminal shows next.
    pub(super) fn take_piece(&mut self, now: Tick) -> Option<Piece> {
        self.output.take(now)
    }

    pub(super) fn has_pieces(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether [`Self::status`] says something new; once for each.
    pub(super) fn take_news(&mut self, now: Tick) -> bool {
        let (state, _) = self.state(now);
        let has_moved = std::mem::replace(&mut self.told_state, state) != state;
        std::mem::take(&mut self.has_news) | has_moved
    }

    pub(super) fn has_news(&self, now: Tick) -> bool {
        self.has_news || self.state(now).0 != self.told_state
    }

    /// Wants the terminal to be this large; the latest word counts.
    pub(super) fn resize(&mut self, size: Size, now: Tick) {
        if self.size != Some(size) {
            self.size = Some(size);
            self.resize_due = Some(now.plus_us(RESIZE_DEBOUNCE_MS * 1_000));
        }
    }

    /// Takes leave: a detach once the device has the last keys, or soon.
    pub(super) fn leave(&mut self, how: Leaving, now: Tick) {
        self.leaving = Some(how);
        let wait_us = match how {
            Leaving::Detach => LAST_KEYS_US,
            Leaving::Close => 0,
        };
        self.leave_due = Some(now.plus_us(wait_us));
    }

    fn has_keys_to_go(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.used().buffers_bytes > 0)
    }

    pub(super) fn status(&self, now: Tick) -> Status {
        let (state, age_us) = self.state(now);
        let why = match &self.link {
            Link::Down { why, .. } => Some(why.clone()),
            Link::Connecting { .. } | Link::Up => None,
        };
        let (bytes_up, bytes_down) = self.bytes;
        let unsafe_bytes = self.keys().zip(self.endpoint.as_ref()).and_then(|(key, endpoint)| {
            endpoint.status(key).map(|status| status.sent - status.sent_safe)
        });
        Status {
            state,
            age_ms: age_us / 1_000,
            why,
            mode: self.attached.map(|attached| attached.mode),
            is_recorded: self.attached.is_some_and(|attached| attached.is_recorded),
            rtt_us: self.rtt_us(),
            bytes_up,
            bytes_down,
            watchers: self.watchers.clone(),
            idle_warning_s: self.idle_warning.and_then(|(seconds, at)| {
                let left = seconds.saturating_sub(now.us_since(at) / 1_000_000);
                (left > 0).then_some(left)
            }),
            keys_under_way: unsafe_bytes.unwrap_or(0),
            has_lost_keys: self.has_lost_keys,
        }
    }

    /// How many bytes of keys have left.
    fn sent(&self) -> Option<u64> {
        let (key, endpoint) = self.keys().zip(self.endpoint.as_ref())?;
        endpoint.status(key).map(|status| status.sent)
    }

    fn rtt_us(&self) -> Option<u64> {
        let to_device = self.stats.and_then(|(stats, _)| stats.rtt_us);
        match (self.ping.rtt_us, to_device) {
            (None, None) => None,
            (near, far) => Some(near.unwrap_or(0) + far.unwrap_or(0)),
        }
    }

    /// How the way to the device is, and for how many microseconds: since it was
    /// heard last, or since it was lost.
    fn state(&self, now: Tick) -> (State, u64) {
        match &self.link {
            Link::Connecting { since } => return (State::Connecting, now.us_since(*since)),
            Link::Down { since, .. } => return (State::Lost, now.us_since(*since)),
            Link::Up => {}
        }
        let quiet_us = now.us_since(self.heard_at);
        let heard_us = self
            .stats
            .map_or(quiet_us, |(stats, at)| stats.heard_ms_ago * 1_000 + now.us_since(at));
        match self.stats.map(|(stats, _)| stats.link) {
            Some(LinkState::Lost) => (State::Lost, heard_us),
            Some(LinkState::Stalled) => (State::Stalled, heard_us),
            _ if quiet_us >= STALLED_AFTER_US => (State::Stalled, quiet_us),
            _ => (State::Live, quiet_us),
        }
    }

    // --- the connection ---------------------------------------------------------

    /// What the next connection asks for.
    pub(super) fn come_back(&self) -> ComeBack {
        ComeBack {
            from: (self.is_terminal() && (self.wants_all || self.is_attached()))
                .then(|| self.output.next()),
            input: self.attached.and_then(|attached| attached.input),
        }
    }

    /// A connection stands; `attached` follows once the tunnel is open.
    pub(super) fn on_socket(&mut self, now: Tick) {
        self.has_socket = true;
        self.ping = Ping { due: now, ..Ping::default() };
    }

    pub(super) fn on_lost(&mut self, why: String, now: Tick) {
        self.has_socket = false;
        if self.is_up() || self.attached.is_none() {
            let since = match self.link {
                Link::Connecting { since } => since,
                _ => now,
            };
            self.link = Link::Down { since, why };
        } else if let Link::Down { why: known, .. } = &mut self.link {
            *known = why;
        }
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.on_link_down();
        }
        self.stats = None;
        self.has_news = true;
    }

    /// It is over; the first reason counts.
    pub(super) fn end(&mut self, ended: Ended) {
        self.ended.get_or_insert(ended);
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.on_link_down();
        }
    }

    pub(super) fn on_frame(&mut self, bytes: Bytes, now: Tick) -> Result<(), Garbled> {
        self.heard_at = now;
        let frame = Frame::decode(bytes).map_err(|e| Garbled(format!("a frame: {e}")))?;
        let is_output = self.is_terminal() && frame.key.stream == OUTPUT_STREAM;
        let Some((endpoint, attached)) = self.endpoint.as_mut().zip(self.attached) else {
            return Err(Garbled("a frame before `attached`".to_owned()));
        };
        if frame.key.tunnel != attached.handle {
            return Err(Garbled("a frame of another tunnel".to_owned()));
        }
        // A resize counts as activity, too.
        if matches!(frame.body, Body::Data(_) | Body::Mark(_)) {
            self.has_news |= self.idle_warning.take().is_some();
        }
        if is_output {
            return self.output.on_frame(frame).map_err(|gap| Garbled(gap.to_string()));
        }
        endpoint.on_frame(frame, now);
        Ok(())
    }

    pub(super) fn on_text(&mut self, message: ServerMessage, now: Tick) -> Result<(), Garbled> {
        self.heard_at = now;
        match message {
            ServerMessage::Attached {
                version,
                mode,
                handle,
                input_stream,
                input_life,
                continues_input,
                flight_messages,
                flight_bytes,
                is_recorded,
                ..
            } => {
                if version != VERSION {
                    return Err(Garbled(format!("version {version}, this console {VERSION}")));
                }
                let input = input_stream.zip(input_life);
                let attached = Attached { mode, handle, input, is_recorded };
                let flight =
                    Flight { messages: flight_messages as usize, bytes: flight_bytes as usize };
                self.on_attached(attached, continues_input, flight, now);
            }
            ServerMessage::Snapshot { offset, size, screen, painted_from, dropped_bytes } => {
                let screen = STANDARD
                    .decode(screen)
                    .ok()
                    .filter(|screen| screen.len() <= SNAPSHOT_MAX_BYTES)
                    .ok_or_else(|| Garbled("a snapshot that cannot be".to_owned()))?;
                let screen = screen.into();
                let snapshot = Snapshot { offset, size, screen, painted_from, dropped_bytes };
                self.output.on_snapshot(snapshot);
            }
            // It stands in the output as a mark, where it took effect.
            ServerMessage::Resized { .. } => {}
            ServerMessage::Watchers { watchers } => {
                self.watchers = watchers;
                self.has_news = true;
            }
            ServerMessage::Stats(stats) => {
                self.bytes = (stats.bytes_up, stats.bytes_down);
                self.stats = Some((stats, now));
                self.has_news = true;
            }
            ServerMessage::IdleWarning { seconds } => {
                self.idle_warning = Some((seconds, now));
                self.has_news = true;
            }
            ServerMessage::Pong { nonce } => {
                if nonce == self.ping.nonce
                    && let Some(sent_at) = self.ping.sent_at.take()
                {
                    let rtt_us = now.us_since(sent_at);
                    self.ping.rtt_us =
                        Some(self.ping.rtt_us.map_or(rtt_us, |known| (7 * known + rtt_us) / 8));
                }
            }
            ServerMessage::Closed { reason, message } => {
                self.end(Ended::Closed(Closed::new(reason, message)));
            }
        }
        Ok(())
    }

    fn on_attached(
        &mut self,
        attached: Attached,
        continues_input: bool,
        flight: Flight,
        now: Tick,
    ) {
        let is_same = self.attached.is_some_and(|known| known.handle == attached.handle);
        self.attached = Some(attached);
        self.link = Link::Up;
        self.stats = None;
        self.idle_warning = None;
        self.has_news = true;
        if is_same && continues_input {
            if let Some(endpoint) = &mut self.endpoint {
                endpoint.on_link_up(now);
            }
        } else {
            self.begin_anew(attached, flight, now);
        }
        if self.is_terminal() {
            self.output.on_attached(now);
        }
        if self.size.is_some() {
            self.resize_due = Some(now);
        }
    }

    /// Nobody knows our streams any more: what was not acknowledged may be lost.
    fn begin_anew(&mut self, attached: Attached, flight: Flight, now: Tick) {
        let is_terminal = self.is_terminal();
        if self.endpoint.is_some() {
            if !is_terminal {
                let detail = "the server does not know where its streams were";
                return self.end(Ended::Closed(Closed::new(CloseCode::CannotResume, detail)));
            }
            self.has_lost_keys |= self.has_keys_to_go();
        }
        let config = EndpointConfig {
            link_flight: flight,
            tunnel_flight: flight,
            ..EndpointConfig::default()
        };
        let mut endpoint = Endpoint::new(Side::Near, config);
        endpoint.add_tunnel(attached.handle, BULK);
        endpoint.on_link_up(now);
        self.is_join_due = attached.input.is_some();
        self.endpoint = Some(endpoint);
        if is_terminal && self.is_join_due {
            // It is the first of a new endpoint: there is nothing in its way.
            let _ = self.open(KEYS, now);
        }
    }

    // --- what leaves ------------------------------------------------------------

    /// Makes the next message; `None` until something happens or [`Self::next_due`].
    pub(super) fn poll_message(&mut self, now: Tick) -> Option<Outgoing> {
        if !self.has_socket || self.ended.is_some() {
            return None;
        }
        let has_keys_to_go = self.has_keys_to_go();
        if self.leave_due.take_if(|due| *due <= now || !has_keys_to_go).is_some() {
            return self.leaving.map(|how| match how {
                Leaving::Detach => Outgoing::Text(ClientMessage::Detach),
                Leaving::Close => Outgoing::Text(ClientMessage::Close),
            });
        }
        if self.ping.due <= now {
            self.ping.due = now.plus_us(PING_EVERY_US);
            self.ping.nonce += 1;
            self.ping.sent_at = Some(now);
            return Some(Outgoing::Text(ClientMessage::Ping { nonce: self.ping.nonce }));
        }
        let attached = self.attached.filter(|_| self.is_up())?;
        if self.resize_due.take_if(|due| *due <= now).is_some()
            && let Some(size) = self.size
            && attached.mode == Mode::Owner
        {
            return Some(Outgoing::Text(ClientMessage::Resize { size }));
        }
        if let Some(ack) = self.output.poll_ack(attached.handle, now) {
            return Some(Outgoing::Frame(ack));
        }
        let sent_before = self.sent();
        let endpoint = self.endpoint.as_mut()?;
        endpoint.on_time(now);
        let frame = endpoint.poll_transmit(now)?;
        // What is sent again is nothing new to the server.
        if self.sent() > sent_before {
            self.has_news |= self.idle_warning.take().is_some();
        }
        Some(Outgoing::Frame(frame))
    }

    /// When [`Self::poll_message`] or [`Self::take_news`] may have something, if nothing else happens.
    pub(super) fn next_due(&self, now: Tick) -> Option<Tick> {
        if !self.has_socket || self.ended.is_some() {
            return None;
        }
        let (ping, leave) = (Some(self.ping.due), self.leave_due);
        if !self.is_up() {
            return [ping, leave].into_iter().flatten().min();
        }
        let streams = self.endpoint.as_ref().and_then(|endpoint| endpoint.next_due(now));
        let quiet = self.heard_at.plus_us(STALLED_AFTER_US);
        let stalls = (quiet > now).then_some(quiet);
        [ping, leave, self.resize_due, self.output.ack_due(), streams, stalls]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
