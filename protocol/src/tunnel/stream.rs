//! One stream: two halves, the lives of both ends, and the time-out.
//!
//! ```text
//!            opened by us              by the peer's first frame
//!                 │                              │
//!                 ▼        any frame             ▼
//!              opening ────────────────────▶   open ◀──────── resumed ───┐
//!                 │                              │                        │
//!                 │                   both ends taken │ a wrong frame,    │
//!                 │                              │    │ or we give up     │
//!                 ▼                              ▼    ▼                   │
//!             resetting ◀───────────────────── gone  resetting        resuming
//!                 └── answered, or tried often ──▶ gone           (after a restart)
//! ```
//!
//! Each end has a *life*, a number that rises when it starts anew from what it
//! had saved. Every frame names the sender's and the receiver's life as the
//! sender knows them (its [`Epoch`]); one of a former life changes nothing. An
//! end in a new life says `Resume` until it is answered: which byte it needs
//! next, and from where on it still has its own. The peer either goes on from
//! there, or resets the stream as [`CloseCode::CannotResume`].

use super::{
    StreamKey, Tick,
    close::CloseCode,
    frame::{Body, Epoch, Frame},
    limits::{
        ACK_DELAY_US, ACK_EVERY_FRAMES, CREDIT_FIRST_BYTES, RESET_TRIES_MAX, STALLED_AFTER_TIMEOUTS,
    },
    pieces::Content,
    receive::{Arrival, Item, Receiver},
    rtt::Rtt,
    send::{Flight, Gather, Outgoing, Sender},
};

/// How a stream is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamConfig {
    /// Keys and signals: they overtake bulk, and are never gathered.
    pub is_urgent: bool,
    /// What may wait here to be read, in bytes.
    pub window_bytes: u32,
    /// What may be kept here to be sent and to become safe, in bytes.
    pub buffer_bytes: usize,
    /// How much of it may wait and not have left yet: what a program may be ahead of the network.
    pub waiting_bytes: usize,
    pub gather: Gather,
    /// Asks the peer whether it is there when nothing came for this long, in microseconds.
    pub keep_alive_us: Option<u64>,
}

/// What happened to a stream since it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The peer opened it.
    pub is_new: bool,
    /// There may be something to read.
    pub is_readable: bool,
    /// There is room again after a write that did not fit.
    pub is_writable: bool,
    /// The peer has taken everything, the end included.
    pub is_delivered: bool,
    /// It is over; nothing more follows.
    pub closed: Option<Closed>,
}

/// Why a stream is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Closed {
    pub code: CloseCode,
    /// For people; may be empty, may come from the peer.
    pub detail: String,
}

impl Closed {
    pub fn new(code: CloseCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

#[derive(Debug)]
enum Phase {
    /// The peer has not been heard yet.
    Opening,
    Open,
    /// We began anew; the peer has not said yet what it needs.
    Resuming {
        adopts: bool,
    },
    Resetting {
        closed: Closed,
        tries: u32,
    },
}

/// When an acknowledgement leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckDue {
    Never,
    At(Tick),
    Now,
}

#[derive(Debug)]
pub(super) struct Stream {
    key: StreamKey,
    config: StreamConfig,
    life: u16,
    peer_life: u16,
    phase: Phase,
    tx: Sender,
    rx: Receiver,
    rtt: Rtt,
    timer: Option<Tick>,
    /// Time-outs in a row.
    timeouts: u32,
    /// The phase's own word, or the oldest segment, is to be sent (again).
    is_repeat_due: bool,
    is_resumed_due: bool,
    ack_due: AckDue,
    frames_since_ack: u32,
    /// The end of the credit, and what was safe, when last told.
    told: (u64, u64),
    /// The next acknowledgement asks for an answer.
    is_ask_due: bool,
    /// An answer to it is expected.
    has_asked: bool,
    heard_at: Tick,
    /// A time-out passed since then.
    is_silent: bool,
    wants_room: bool,
    changes: Changes,
}

/// What is left of a stream that is over, to answer a peer that does not know yet.
#[derive(Debug, Clone)]
pub(super) struct Relic {
    key: StreamKey,
    epoch: Epoch,
    sent_end: u64,
    taken_end: u64,
    closed: Closed,
}

impl Stream {
    /// Opens a stream.
    pub(super) fn open(key: StreamKey, config: StreamConfig, now: Tick) -> Self {
        let tx = Sender::new(0);
        let rx = Receiver::new(0, config.window_bytes);
        let mut stream = Self::with(key, config, (1, 1), Phase::Opening, tx, rx, now);
        stream.is_repeat_due = true;
        stream.rearm(now);
        stream
    }

    /// Takes a stream that the peer opened in its life `peer_life`.
    pub(super) fn accept(key: StreamKey, config: StreamConfig, peer_life: u16, now: Tick) -> Self {
        let tx = Sender::new(0);
        let rx = Receiver::new(0, config.window_bytes);
        let mut stream = Self::with(key, config, (1, peer_life), Phase::Open, tx, rx, now);
        stream.changes.is_new = true;
        stream
    }

    /// Takes a stream up again after a restart of this end.
    pub(super) fn resume(
        key: StreamKey,
        config: StreamConfig,
        checkpoint: Checkpoint,
        now: Tick,
    ) -> Self {
        let Checkpoint { life, received, has_received_end, unsent } = checkpoint;
        let rx = if has_received_end {
            Receiver::ended(received)
        } else {
            Receiver::new(received, config.window_bytes)
        };
        let (base, contents, is_finished, adopts) = match unsent {
            Unsent::Forgotten => (0, Vec::new(), false, true),
            Unsent::Kept { base, contents, is_finished } => (base, contents, is_finished, false),
        };
        let mut tx = Sender::new(base);
        for content in contents {
            tx.write(content);
        }
        // What is kept may have arrived: all of it counts as sent, so that the peer may say so.
        tx.assume_sent(now);
        if is_finished {
            tx.finish();
        }
        let phase = Phase::Resuming { adopts };
        let mut stream = Self::with(key, config, (life, 0), phase, tx, rx, now);
        stream.is_repeat_due = true;
        stream.rearm(now);
        stream
    }

    fn with(
        key: StreamKey,
        config: StreamConfig,
        (life, peer_life): (u16, u16),
        phase: Phase,
        tx: Sender,
        rx: Receiver,
        now: Tick,
    ) -> Self {
        let rx_safe = rx.safe();
        let rx_told = rx_safe + u64::from(CREDIT_FIRST_BYTES);
        Self {
            key,
            config,
            life,
            peer_life,
            phase,
            tx,
            rx,
            rtt: Rtt::default(),
            timer: None,
            timeouts: 0,
            is_repeat_due: false,
            is_resumed_due: false,
            ack_due: AckDue::Never,
            frames_since_ack: 0,
            told: (rx_told, rx_safe),
            is_ask_due: false,
            has_asked: false,
            heard_at: now,
            is_silent: false,
            wants_room: false,
            changes: Changes::default(),
        }
    }

    // --- what the owner asks ----------------------------------------------------

    pub(super) const fn is_urgent(&self) -> bool {
        self.config.is_urgent
    }

    pub(super) const fn flight(&self) -> Flight {
        self.tx.flight()
    }

    /// What is kept to be sent and to become safe, in bytes.
    pub(super) const fn buffered_bytes(&self) -> usize {
        self.tx.kept_bytes()
    }

    /// What its window takes of the windows of all, in bytes.
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.rx.window().max(CREDIT_FIRST_BYTES).into()
    }

    pub(super) fn status(&self) -> StreamStatus {
        StreamStatus {
            rtt_us: self.rtt.smoothed_us(),
            heard_at: self.heard_at,
            is_silent: self.is_silent,
            is_synchronised: !matches!(self.phase, Phase::Resuming { .. }),
            sent_safe: self.tx.base(),
            sent: self.tx.next(),
            received: self.rx.next(),
            received_safe: self.rx.safe(),
        }
    }

    /// How many bytes may be written now.
    pub(super) fn room(&self) -> usize {
        if !self.is_alive() || !self.tx.is_open() {
            return 0;
        }
        let kept = self.config.buffer_bytes.saturating_sub(self.tx.kept_bytes());
        kept.min(self.config.waiting_bytes.saturating_sub(self.tx.waiting_bytes()))
    }

    pub(super) fn write(&mut self, content: Content) {
        self.tx.write(content);
    }

    pub(super) const fn want_room(&mut self) {
        self.wants_room = true;
    }

    pub(super) fn finish(&mut self) {
        self.tx.finish();
    }

    pub(super) fn read(&mut self, most_bytes: usize, now: Tick) -> Option<Item> {
        let item = self.rx.read(most_bytes)?;
        self.schedule_window(now);
        Some(item)
    }

    pub(super) const fn read_until(&self) -> u64 {
        self.rx.read_until()
    }

    pub(super) fn make_safe(&mut self, until: u64, now: Tick) {
        self.rx.make_safe(until);
        self.schedule_window(now);
    }

    pub(super) fn set_window(&mut self, window: u32, now: Tick) {
        self.rx.set_window(window);
        self.schedule_window(now);
    }

    /// Ends it now.
    pub(super) fn reset(&mut self, closed: Closed, now: Tick) {
        if !self.is_alive() {
            return;
        }
        self.tx.clear();
        self.rx.clear();
        self.changes.closed = Some(closed.clone());
        self.phase = Phase::Resetting { closed, tries: 0 };
        self.is_repeat_due = true;
        self.timeouts = 0;
        self.timer = None;
        self.rearm(now);
    }

    pub(super) fn take_changes(&mut self) -> Option<Changes> {
        (self.changes != Changes::default()).then(|| std::mem::take(&mut self.changes))
    }

    const fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Resetting { .. })
    }

    /// Whether all is said, so that a [`Relic`] may stand in.
    pub(super) fn is_gone(&self) -> bool {
        match &self.phase {
            Phase::Resetting { tries, .. } => *tries > RESET_TRIES_MAX,
            Phase::Open => {
                self.tx.is_taken() && self.rx.has_taken_end() && self.ack_due == AckDue::Never
            }
            Phase::Opening | Phase::Resuming { .. } => false,
        }
    }

    /// Ends the bookkeeping; what changed last is told with it.
    pub(super) fn into_relic(mut self, closed: Option<Closed>) -> (Relic, Option<Changes>) {
        let closed = match (closed, &self.phase) {
            (_, Phase::Resetting { closed, .. }) => closed.clone(),
            (Some(closed), _) => {
                self.changes.closed = Some(closed.clone());
                closed
            }
            (None, _) => {
                let closed = Closed::new(CloseCode::Finished, "");
                self.changes.closed = Some(closed.clone());
                closed
            }
        };
        let relic = Relic {
            key: self.key,
            epoch: self.epoch(),
            sent_end: self.tx.next(),
            taken_end: self.rx.next(),
            closed,
        };
        (relic, self.take_changes())
    }

    // --- time -------------------------------------------------------------------

    /// When [`Self::on_time`] is next to be called, or something may leave.
    pub(super) fn due_at(&self, now: Tick) -> Option<Tick> {
        let ack = match self.ack_due {
            AckDue::At(at) => Some(at),
            AckDue::Never | AckDue::Now => None,
        };
        let urgent = self.has_urgent().then_some(now);
        [urgent, self.timer, ack, self.keep_alive_at()].into_iter().flatten().min()
    }

    /// Whether [`Self::urgent`] may have something.
    pub(super) fn has_urgent(&self) -> bool {
        self.is_repeat_due
            || self.is_resumed_due
            || (self.ack_due == AckDue::Now && self.is_alive())
    }

    /// When bytes may leave, the budget of messages under way apart.
    pub(super) fn data_at(&self, now: Tick) -> Option<Tick> {
        (matches!(self.phase, Phase::Opening | Phase::Open) && !self.is_stalled())
            .then(|| self.tx.ready_at(self.config.gather, now))
            .flatten()
    }

    fn keep_alive_at(&self) -> Option<Tick> {
        let wait_us = self.config.keep_alive_us?;
        (matches!(self.phase, Phase::Open) && !self.has_asked)
            .then(|| self.heard_at.plus_us(wait_us))
    }

    pub(super) fn on_time(&mut self, now: Tick) {
        if self.keep_alive_at().is_some_and(|at| at <= now) {
            self.ask();
            self.rearm(now);
        }
        if let AckDue::At(at) = self.ack_due
            && at <= now
        {
            self.ack_due = AckDue::Now;
        }
        if self.timer.is_some_and(|at| at <= now) {
            self.on_timeout(now);
        }
    }

    fn on_timeout(&mut self, now: Tick) {
        self.timeouts = self.timeouts.saturating_add(1);
        self.is_silent = true;
        if self.is_stalled() {
            // Whatever a silent peer was sent takes no place from the others.
            self.tx.lose_all();
        }
        match &mut self.phase {
            Phase::Open if !self.tx.can_probe() => self.ask(),
            Phase::Resetting { tries, .. } => {
                *tries += 1;
                self.is_repeat_due = true;
            }
            Phase::Open | Phase::Opening | Phase::Resuming { .. } => self.is_repeat_due = true,
        }
        self.timer = Some(now.plus_us(self.rtt.timeout_us(self.timeouts)));
    }

    /// The connection that carried frames is new: what was under way is lost.
    pub(super) fn on_link_up(&mut self, now: Tick) {
        self.tx.lose_all();
        self.timeouts = 0;
        self.is_silent = false;
        self.timer = None;
        match self.phase {
            Phase::Open => self.ask(),
            _ => self.is_repeat_due = true,
        }
        self.rearm(now);
    }

    /// Whether the peer said nothing for so long that only single frames are sent to it.
    const fn is_stalled(&self) -> bool {
        self.is_silent && self.timeouts >= STALLED_AFTER_TIMEOUTS
    }

    fn ask(&mut self) {
        self.is_ask_due = true;
        self.has_asked = true;
        self.ack_due = AckDue::Now;
    }

    fn rearm(&mut self, now: Tick) {
        let expects = match self.phase {
            Phase::Open => self.tx.expects_answer() || self.has_asked || self.is_stalled(),
            Phase::Opening | Phase::Resuming { .. } | Phase::Resetting { .. } => true,
        };
        if !expects {
            self.timer = None;
            self.timeouts = 0;
        } else if self.timer.is_none() {
            self.timer = Some(now.plus_us(self.rtt.timeout_us(self.timeouts)));
        }
    }

    // --- what leaves ------------------------------------------------------------

    const fn epoch(&self) -> Epoch {
        Epoch { from: self.life, to: self.peer_life }
    }

    fn frame(&mut self, offset: u64, body: Body) -> Frame {
        let credit = self.rx.credit();
        self.told = (self.rx.grant(), self.rx.safe());
        // An acknowledgement rides on every frame; what arrived beyond it does not.
        let says_all = matches!(body, Body::Ack { .. }) || !self.rx.has_unsafe();
        if says_all && !self.is_ask_due {
            self.ack_due = AckDue::Never;
            self.frames_since_ack = 0;
        }
        Frame {
            key: self.key,
            epoch: self.epoch(),
            is_opening: matches!(self.phase, Phase::Opening),
            wants_reply: false,
            has_taken_end: self.rx.has_taken_end(),
            offset,
            ack: self.rx.safe(),
            credit,
            body,
        }
    }

    /// Makes the next frame that no budget holds back: it adds nothing to what is under way.
    pub(super) fn urgent(&mut self, now: Tick) -> Option<Frame> {
        if std::mem::take(&mut self.is_repeat_due)
            && let Some(frame) = self.repeat(now)
        {
            self.rearm(now);
            return Some(frame);
        }
        if std::mem::take(&mut self.is_resumed_due) {
            let next = self.rx.next();
            let mut frame = self.frame(self.tx.base(), Body::Resumed);
            // The peer is to go on from what arrived; it is made safe later.
            frame.credit = u32::try_from(self.rx.grant() - next).unwrap_or(u32::MAX);
            frame.ack = next;
            return Some(frame);
        }
        if self.ack_due == AckDue::Now && self.is_alive() {
            let ranges = self.rx.ranges();
            let asks = std::mem::take(&mut self.is_ask_due);
            let mut frame = self.frame(self.tx.next(), Body::Ack { ranges });
            frame.wants_reply = asks;
            return Some(frame);
        }
        None
    }

    fn repeat(&mut self, now: Tick) -> Option<Frame> {
        match &self.phase {
            Phase::Open => self.tx.probe(now).map(|outgoing| self.outgoing(outgoing)),
            Phase::Opening => {
                // Bytes open the stream as well, and say more.
                let again = self.tx.probe(now);
                if again.is_none() && self.data_at(now).is_some() {
                    return None;
                }
                let opening = Outgoing { offset: 0, body: Body::Data(bytes::Bytes::new()) };
                Some(self.outgoing(again.unwrap_or(opening)))
            }
            Phase::Resuming { adopts } => {
                let body = Body::Resume { adopts: *adopts };
                Some(self.frame(self.tx.base(), body))
            }
            Phase::Resetting { closed, .. } => {
                let body = Body::Reset {
                    is_answer: false,
                    code: closed.code,
                    detail: closed.detail.clone(),
                };
                Some(self.frame(self.tx.next(), body))
            }
        }
    }

    fn outgoing(&mut self, outgoing: Outgoing) -> Frame {
        self.frame(outgoing.offset, outgoing.body)
    }

    /// Makes the next frame with bytes, if one is due.
    pub(super) fn data(&mut self, now: Tick) -> Option<Frame> {
        if self.data_at(now).is_none_or(|at| at > now) {
            return None;
        }
        let outgoing = self.tx.transmit(now)?;
        self.is_repeat_due = false;
        let frame = self.outgoing(outgoing);
        self.rearm(now);
        self.note_room();
        Some(frame)
    }

    pub(super) fn note_room(&mut self) {
        if self.wants_room && self.room() > 0 {
            self.wants_room = false;
            self.changes.is_writable = true;
        }
    }

    // --- what comes -------------------------------------------------------------

    /// Takes a frame of this stream that is no reset.
    pub(super) fn on_frame(&mut self, frame: Frame, now: Tick) {
        match frame.body {
            Body::Resume { adopts } => return self.on_resume(&frame, adopts, now),
            Body::Resumed => return self.on_resumed(&frame, now),
            _ => {}
        }
        if frame.epoch.to > self.life {
            // The peer has a stream of a later life than this one's, forgotten here since.
            self.peer_life = frame.epoch.from;
            let detail = "a restart has forgotten this stream";
            return self.reset(Closed::new(CloseCode::Unknown, detail), now);
        }
        if frame.epoch != self.epoch().turned() {
            return;
        }
        match self.phase {
            Phase::Resuming { .. } => return,
            Phase::Resetting { .. } => {
                self.is_repeat_due = true;
                return;
            }
            Phase::Opening => {
                self.phase = Phase::Open;
                self.is_repeat_due = false;
                self.on_progress();
            }
            Phase::Open => {}
        }
        self.on_heard(now);
        let ranges = match &frame.body {
            Body::Ack { ranges } => ranges.as_slice(),
            _ => &[],
        };
        let acked = self.tx.on_ack(frame.ack, frame.credit, ranges, frame.has_taken_end, now);
        let Ok(progress) = acked else {
            let detail = "what was never sent is acknowledged";
            // A peer that has taken nothing of this stream may mean one that a former life of
            // this end had and forgot: it was taken for new from a frame that came late, or with
            // a later one ([`super::endpoint`]). The peer did nothing wrong then.
            let is_mistaken = self.life == 1 && self.tx.base() == 0;
            let code = if is_mistaken { CloseCode::Unknown } else { CloseCode::Protocol };
            return self.reset(Closed::new(code, detail), now);
        };
        if let Some(rtt_us) = progress.rtt_us {
            self.rtt.sample(rtt_us);
        }
        if progress.is_forward {
            self.on_progress();
        }
        if self.tx.is_taken() && progress.is_forward && frame.has_taken_end {
            self.changes.is_delivered = true;
        }
        if frame.wants_reply || frame.is_opening {
            self.ack_due = AckDue::Now;
        }
        let arrival = match frame.body {
            Body::Data(bytes) if bytes.is_empty() => None,
            Body::Data(bytes) => Some(self.rx.on_content(frame.offset, Content::Bytes(bytes))),
            Body::Mark(mark) => Some(self.rx.on_content(frame.offset, Content::Mark(mark))),
            Body::End { hash } => {
                self.ack_due = AckDue::Now;
                Some(self.rx.on_end(frame.offset, hash))
            }
            _ => None,
        };
        match arrival {
            None => {}
            Some(Ok(arrival)) => self.on_arrival(arrival, now),
            Some(Err(wrong)) => {
                let code = match wrong {
                    super::receive::Wrong::Hash => CloseCode::Corrupted,
                    _ => CloseCode::Protocol,
                };
                return self.reset(Closed::new(code, wrong.to_string()), now);
            }
        }
        self.rearm(now);
        self.note_room();
    }

    fn on_heard(&mut self, now: Tick) {
        self.heard_at = now;
        self.is_silent = false;
        if std::mem::take(&mut self.has_asked) && !self.tx.expects_answer() {
            self.on_progress();
        }
    }

    fn on_progress(&mut self) {
        self.timeouts = 0;
        self.timer = None;
    }

    fn on_arrival(&mut self, arrival: Arrival, now: Tick) {
        match arrival {
            // Gaps are asked for at once, and who repeats itself has missed our word.
            Arrival::AfterGap | Arrival::Dropped => self.ack_due = AckDue::Now,
            Arrival::Next => {
                self.changes.is_readable = true;
                self.frames_since_ack += 1;
                if self.frames_since_ack >= ACK_EVERY_FRAMES {
                    self.ack_due = AckDue::Now;
                } else {
                    self.ack_soon(now);
                }
            }
        }
    }

    fn ack_soon(&mut self, now: Tick) {
        if self.ack_due == AckDue::Never {
            self.ack_due = AckDue::At(now.plus_us(ACK_DELAY_US));
        }
    }

    /// The reader took something, or made it safe: the peer is told when that helps it.
    fn schedule_window(&mut self, now: Tick) {
        let (told_grant, told_safe) = self.told;
        let quarter = u64::from(self.rx.window() / 4).max(1);
        let grown = self.rx.could_grant().saturating_sub(told_grant);
        let saved = self.rx.safe() - told_safe.min(self.rx.safe());
        if grown >= quarter || saved >= quarter || self.rx.has_taken_end() {
            self.ack_due = AckDue::Now;
        } else if saved > 0 {
            self.ack_soon(now);
        }
    }

    fn on_resume(&mut self, frame: &Frame, adopts: bool, now: Tick) {
        if frame.epoch.from < self.peer_life {
            return;
        }
        if !self.is_alive() {
            self.is_repeat_due = true;
            return;
        }
        self.heard_at = now;
        if frame.epoch.from > self.peer_life {
            self.peer_life = frame.epoch.from;
            let has_what_it_lacks = adopts || frame.offset <= self.rx.next();
            if !has_what_it_lacks || !self.go_on_from(frame, now) {
                let detail = "after a restart, bytes that are needed next are gone";
                return self.reset(Closed::new(CloseCode::CannotResume, detail), now);
            }
            // A new life has nothing but what is safe.
            self.tx.forget_before(frame.ack);
            self.rx.meet_anew();
            if matches!(self.phase, Phase::Opening) {
                self.phase = Phase::Open;
            }
            self.on_progress();
        }
        self.is_resumed_due = true;
        self.rearm(now);
        self.note_room();
    }

    fn on_resumed(&mut self, frame: &Frame, now: Tick) {
        // What a former life of the peer said comes late: the one of today would never be heard.
        let is_late = frame.epoch.from < self.peer_life;
        if is_late || frame.epoch.to != self.life || !matches!(self.phase, Phase::Resuming { .. }) {
            return;
        }
        self.peer_life = frame.epoch.from;
        if !self.go_on_from(frame, now) {
            let detail = "after a restart, bytes that are needed next are gone";
            return self.reset(Closed::new(CloseCode::CannotResume, detail), now);
        }
        self.phase = Phase::Open;
        self.is_repeat_due = false;
        self.heard_at = now;
        self.on_progress();
        self.rearm(now);
        // The owner may have waited to write, and the end may be all there is.
        self.changes.is_writable = true;
        self.changes.is_delivered |= self.tx.is_taken();
        self.ack_due = AckDue::Now;
    }

    /// Sends from where the peer says that it needs; `false` when that is gone.
    fn go_on_from(&mut self, frame: &Frame, now: Tick) -> bool {
        if let Phase::Resuming { adopts: true } = self.phase {
            self.tx.adopt(frame.ack, frame.credit, frame.has_taken_end);
            return true;
        }
        self.tx.resume(frame.ack, frame.credit, frame.has_taken_end, now)
    }

    /// Whether a reset speaks to this life.
    pub(super) fn is_meant_by(&self, reset: &Frame) -> bool {
        reset.epoch.to == self.life
    }
}

impl Relic {
    /// Answers a frame of a peer that does not know that the stream is over.
    pub(super) fn answer(&self, frame: &Frame) -> Option<Frame> {
        let over = Body::Reset {
            is_answer: true,
            code: self.closed.code,
            detail: self.closed.detail.clone(),
        };
        let is_finished = self.closed.code == CloseCode::Finished;
        let body = match frame.body {
            Body::Reset { is_answer: true, .. } => return None,
            Body::Reset { .. } => over,
            Body::Resume { .. } if is_finished => {
                if frame.ack == self.sent_end && frame.has_taken_end {
                    Body::Resumed
                } else if frame.epoch.from <= self.epoch.to {
                    // It comes late: that life went on, and came to the end with us.
                    return None;
                } else {
                    Body::Reset {
                        is_answer: true,
                        code: CloseCode::CannotResume,
                        detail: "the stream had come to its end".to_owned(),
                    }
                }
            }
            // Two ends that both acknowledge their ends would never fall silent.
            Body::Ack { .. } if is_finished && !frame.wants_reply => return None,
            _ if is_finished => Body::Ack { ranges: Vec::new() },
            _ => over,
        };
        Some(Frame {
            key: self.key,
            epoch: Epoch { from: self.epoch.from, to: frame.epoch.from },
            is_opening: false,
            wants_reply: false,
            has_taken_end: is_finished,
            offset: self.sent_end,
            ack: self.taken_end,
            credit: 0,
            body,
        })
    }

    pub(super) const fn stream(&self) -> u32 {
        self.key.stream
    }
}

/// What an end that starts anew had saved of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// One more than the life before.
    pub life: u16,
    /// All before this byte was taken, and is safe.
    pub received: u64,
    /// The peer's end as well.
    pub has_received_end: bool,
    pub unsent: Unsent,
}

/// What was written and perhaps not taken by the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsent {
    /// Nothing is known of it: go on wherever the peer is.
    Forgotten,
    /// From `base` on, these; the peer may have some of them.
    Kept { base: u64, contents: Vec<Content>, is_finished: bool },
}

/// How a stream fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStatus {
    /// The smoothed round trip, in microseconds.
    pub rtt_us: Option<u64>,
    /// When the peer was last heard.
    pub heard_at: Tick,
    /// An answer is due since, and did not come in time.
    pub is_silent: bool,
    /// Both ends agree on where they are: `false` between a restart and the peer's answer.
    pub is_synchronised: bool,
    /// Offsets: what the peer made safe, what was sent, what came in order, what is safe here.
    pub sent_safe: u64,
    pub sent: u64,
    pub received: u64,
    pub received_safe: u64,
}
