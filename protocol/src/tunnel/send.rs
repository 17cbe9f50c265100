//! The sending half of a stream.
//!
//! ```text
//!        base              next                  end
//!  ───────┼─────────────────┼─────────────────────┼──▶ order of bytes
//!   safe  │ sent, kept      │ waits               │
//!         │ flying ─▶ arrived (kept until safe)   │
//!         │   └──▶ lost ─▶ flying                 │
//! ```
//!
//! *Safe* is what the peer acknowledged: it may be forgotten. *Arrived* is what
//! the peer has and has not made safe yet (a log not written, a socket that does
//! not take it): kept, but neither under way nor sent again. So a peer that is
//! slow to make safe costs neither retransmissions nor places in the broker's queue.
//!
//! Lost is what was sent before something that arrived: the topics of MQTT keep
//! their order, so nothing needs to be waited for. Only when nothing arrives at
//! all does the time-out of the stream decide.

use std::collections::VecDeque;

use bytes::Buf as _;

use super::{
    Tick,
    frame::Body,
    hash::RunningHash,
    limits::{
        CREDIT_FIRST_BYTES, FRAME_DATA_MAX_BYTES, GATHER_MAX_US, SHORT_MAX_BYTES,
        SHORT_MAX_MESSAGES,
    },
    pieces::{Content, Pieces},
};

/// Messages and bytes under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flight {
    pub messages: usize,
    pub bytes: usize,
}

impl Flight {
    pub(super) fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes as usize;
    }

    pub(super) fn remove(&mut self, bytes: u64) {
        self.messages -= 1;
        self.bytes -= bytes as usize;
    }
}

/// How a stream gathers what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// Bytes that leave at once.
    pub bytes: usize,
    /// Fewer leave when nothing left for this long, in microseconds; echoes of keys
    /// ([`SHORT_MAX_BYTES`]) do not wait.
    pub wait_us: u64,
}

/// Counts short messages, so that a program that writes byte by byte is gathered all the same.
#[derive(Debug, Clone, Copy, Default)]
struct Shorts {
    began: Tick,
    messages: u32,
}

impl Shorts {
    /// Whether one more may leave at once.
    fn may_leave(self, bytes: u64, now: Tick) -> bool {
        let is_over = now.us_since(self.began) >= GATHER_MAX_US;
        bytes <= SHORT_MAX_BYTES && (is_over || self.messages < SHORT_MAX_MESSAGES)
    }

    fn count(&mut self, bytes: u64, now: Tick) {
        if bytes > SHORT_MAX_BYTES {
            return;
        }
        if now.us_since(self.began) >= GATHER_MAX_US {
            *self = Self { began: now, messages: 0 };
        }
        self.messages += 1;
    }
}

#[derive(Debug)]
pub(super) struct Sender {
    base: u64,
    next: u64,
    /// From `base` to `next`, without holes.
    sent: VecDeque<Segment>,
    /// From `next` to the end of what was written.
    waiting: Pieces,
    /// How far the peer's credit goes.
    limit: u64,
    end: End,
    /// Over all from the beginning, or the last resume, to `next`.
    hash: RunningHash,
    flight: Flight,
    lost: usize,
    /// Counts transmissions: what was sent before what.
    order: u64,
    last_sent: Option<Tick>,
    shorts: Shorts,
    /// How far anything was ever sent: beyond `next` after a resume.
    sent_until: u64,
    /// Where a former life had come to, of which nothing else is remembered.
    adopted_at: Option<u64>,
}

#[derive(Debug)]
struct Segment {
    offset: u64,
    content: Content,
    fate: Fate,
    /// Of its latest transmission.
    order: u64,
    sent_at: Tick,
    is_resent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Flying,
    Lost,
    Arrived,
}

/// Where the end of this direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may be written.
    Open,
    /// Nothing more is written; the end is to be sent once all bytes were.
    Due,
    Sent,
    /// The peer has taken all, and the hash agreed.
    Taken,
}

impl Segment {
    const fn end(&self) -> u64 {
        self.offset + self.content.span()
    }

    fn body(&self) -> Body {
        body_of(&self.content)
    }
}

fn body_of(content: &Content) -> Body {
    match content {
        Content::Bytes(bytes) => Body::Data(bytes.clone()),
        Content::Mark(mark) => Body::Mark(*mark),
    }
}

/// What an acknowledgement brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Something arrived, or became safe, or may be sent now.
    pub is_forward: bool,
    pub rtt_us: Option<u64>,
}

/// The peer acknowledges what was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NeverSent;

/// What to send, at its offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub offset: u64,
    pub body: Body,
}

impl Sender {
    /// Begins to send at `base`; everything before it is the peer's.
    pub(super) fn new(base: u64) -> Self {
        Self {
            base,
            next: base,
            sent: VecDeque::new(),
            waiting: Pieces::default(),
            limit: base + u64::from(CREDIT_FIRST_BYTES),
            end: End::Open,
            hash: RunningHash::default(),
            flight: Flight::default(),
            lost: 0,
            order: 0,
            last_sent: None,
            shorts: Shorts::default(),
            sent_until: base,
            adopted_at: None,
        }
    }

    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn flight(&self) -> Flight {
        self.flight
    }

    /// How many bytes are kept, sent and waiting.
    pub(super) const fn kept_bytes(&self) -> usize {
        (self.next - self.base + self.waiting.span()) as usize
    }

    pub(super) const fn waiting_bytes(&self) -> usize {
        self.waiting.span() as usize
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.end, End::Open)
    }

    pub(super) const fn is_taken(&self) -> bool {
        matches!(self.end, End::Taken)
    }

    pub(super) fn write(&mut self, content: Content) {
        debug_assert!(self.is_open(), "nothing is written after the end");
        self.waiting.push(content);
    }

    pub(super) const fn finish(&mut self) {
        if matches!(self.end, End::Open) {
            self.end = End::Due;
        }
    }

    /// Forgets everything: nothing will be sent any more.
    pub(super) fn clear(&mut self) {
        self.sent.clear();
        self.waiting.clear();
        self.flight = Flight::default();
        self.lost = 0;
        self.base = self.next;
    }

    /// When something new may leave: `None` for nothing, or not before an answer of the peer.
    pub(super) fn ready_at(&self, gather: Gather, now: Tick) -> Option<Tick> {
        if self.lost > 0 || (self.end == End::Due && self.is_end_next()) {
            return Some(now);
        }
        let waiting = self.waiting.span();
        let credit = self.limit.saturating_sub(self.next);
        if waiting == 0 || credit == 0 {
            return None;
        }
        // A window that opens in crumbs would send crumbs.
        if credit < waiting.min(FRAME_DATA_MAX_BYTES as u64 / 4) && self.flight.messages > 0 {
            return None;
        }
        let is_enough =
            waiting >= gather.bytes as u64 || self.end == End::Due || self.waiting.has_mark();
        let is_enough = is_enough || self.shorts.may_leave(waiting, now);
        match self.last_sent {
            Some(last) if !is_enough => Some(last.plus_us(gather.wait_us).max(now)),
            _ => Some(now),
        }
    }

    /// Whether something waits that the peer's credit does not allow.
    pub(super) fn is_blocked(&self) -> bool {
        self.waiting.span() > 0 && self.limit <= self.next
    }

    /// Whether an answer of the peer is expected, so that silence means loss.
    pub(super) fn expects_answer(&self) -> bool {
        self.flight.messages > 0 || self.end == End::Sent || self.is_blocked()
    }

    /// Makes the next thing to send: first what was lost, then what is new, then the end.
    pub(super) fn transmit(&mut self, now: Tick) -> Option<Outgoing> {
        if self.lost > 0
            && let Some(index) = self.sent.iter().position(|segment| segment.fate == Fate::Lost)
        {
            self.lost -= 1;
            return Some(self.resend(index, now));
        }
        let credit = self.limit.saturating_sub(self.next);
        if self.waiting.span() > 0 && credit > 0 {
            let most = FRAME_DATA_MAX_BYTES.min(credit as usize);
            let content = self.waiting.pop(most)?;
            return Some(self.send_new(content, now));
        }
        if self.end == End::Due && self.is_end_next() {
            self.end = End::Sent;
            return Some(self.the_end());
        }
        None
    }

    fn send_new(&mut self, content: Content, now: Tick) -> Outgoing {
        self.hash.update(&content);
        self.order += 1;
        self.last_sent = Some(now);
        self.shorts.count(content.span(), now);
        let segment = Segment {
            offset: self.next,
            content,
            fate: Fate::Flying,
            order: self.order,
            sent_at: now,
            is_resent: false,
        };
        let outgoing = Outgoing { offset: segment.offset, body: segment.body() };
        self.flight.add(segment.content.span());
        self.next = segment.end();
        self.sent_until = self.sent_until.max(self.next);
        self.sent.push_back(segment);
        outgoing
    }

    fn resend(&mut self, index: usize, now: Tick) -> Outgoing {
        self.order += 1;
        let segment = &mut self.sent[index];
        self.flight.add(segment.content.span());
        segment.fate = Fate::Flying;
        segment.order = self.order;
        segment.sent_at = now;
        segment.is_resent = true;
        Outgoing { offset: segment.offset, body: segment.body() }
    }

    fn the_end(&self) -> Outgoing {
        Outgoing { offset: self.next, body: Body::End { hash: self.hash.digest() } }
    }

    /// Whether [`Self::probe`] has something to send.
    pub(super) fn can_probe(&self) -> bool {
        self.flight.messages > 0 || self.lost > 0 || self.is_end_next()
    }

    /// Sends again, after a time-out, what has been under way for longest: its
    /// acknowledgement tells what else is lost.
    pub(super) fn probe(&mut self, now: Tick) -> Option<Outgoing> {
        let oldest = self
            .sent
            .iter()
            .enumerate()
            .filter(|(_, segment)| segment.fate != Fate::Arrived)
            .min_by_key(|(_, segment)| segment.order)
            .map(|(index, _)| index);
        if let Some(index) = oldest {
            match self.sent[index].fate {
                Fate::Flying => self.flight.remove(self.sent[index].content.span()),
                Fate::Lost => self.lost -= 1,
                Fate::Arrived => {}
            }
            return Some(self.resend(index, now));
        }
        if self.is_end_next() {
            self.end = End::Sent;
            return Some(self.the_end());
        }
        None
    }

    /// Whether nothing but the end is left to be said, for the first time or again.
    const fn is_end_next(&self) -> bool {
        matches!(self.end, End::Due | End::Sent) && self.waiting.span() == 0
    }

    /// Whether a former life may have said the end: this one has said nothing yet.
    fn may_have_ended_before(&self) -> bool {
        self.is_open() && self.waiting.span() == 0 && self.adopted_at == Some(self.next)
    }

    /// Counts all that is under way as lost: the connection that carried it is gone.
    pub(super) fn lose_all(&mut self) {
        for segment in &mut self.sent {
            if segment.fate == Fate::Flying {
                segment.fate = Fate::Lost;
                self.lost += 1;
            }
        }
        self.flight = Flight::default();
        if self.end == End::Sent {
            self.end = End::Due;
        }
    }

    /// Takes an acknowledgement: all before `ack` is safe, `ranges` beyond it arrived.
    pub(super) fn on_ack(
        &mut self,
        ack: u64,
        credit: u32,
        ranges: &[(u64, u64)],
        has_taken_end: bool,
        now: Tick,
    ) -> Result<Progress, NeverSent> {
        let farthest = ranges.last().map_or(ack, |(_, end)| *end);
        let is_end_known =
            self.is_end_next() || self.end == End::Taken || self.may_have_ended_before();
        if farthest > self.next || (has_taken_end && !(is_end_known && ack == self.next)) {
            return Err(NeverSent);
        }
        let mut progress = Progress::default();
        let limit = ack + u64::from(credit);
        if limit > self.limit {
            progress.is_forward = self.is_blocked();
            self.limit = limit;
        }
        let latest = self.mark_arrived(ack, ranges, now, &mut progress);
        self.lose_before(latest);
        if ack > self.base {
            self.forget_before(ack);
            progress.is_forward = true;
        }
        if has_taken_end && self.end != End::Taken {
            self.end = End::Taken;
            progress.is_forward = true;
        }
        Ok(progress)
    }

    /// Notes what arrived; returns the latest transmission that did.
    fn mark_arrived(
        &mut self,
        ack: u64,
        ranges: &[(u64, u64)],
        now: Tick,
        progress: &mut Progress,
    ) -> u64 {
        let mut latest = 0;
        let mut ranges = ranges.iter().copied().peekable();
        for segment in &mut self.sent {
            while ranges.next_if(|(_, end)| *end <= segment.offset).is_some() {}
            let covers =
                |&(start, end): &(u64, u64)| start <= segment.offset && segment.end() <= end;
            let has_arrived = segment.end() <= ack || ranges.peek().is_some_and(covers);
            if !has_arrived || segment.fate == Fate::Arrived {
                continue;
            }
            match segment.fate {
                Fate::Flying => self.flight.remove(segment.content.span()),
                Fate::Lost => self.lost -= 1,
                Fate::Arrived => {}
            }
            segment.fate = Fate::Arrived;
            progress.is_forward = true;
            latest = latest.max(segment.order);
            if !segment.is_resent {
                progress.rtt_us = Some(now.us_since(segment.sent_at));
            }
        }
        latest
    }

    fn lose_before(&mut self, order: u64) {
        for segment in &mut self.sent {
            if segment.fate == Fate::Flying && segment.order < order {
                segment.fate = Fate::Lost;
                self.flight.remove(segment.content.span());
                self.lost += 1;
            }
        }
    }

    pub(super) fn forget_before(&mut self, ack: u64) {
        while self.sent.front().is_some_and(|segment| segment.end() <= ack) {
            // Arrived, since `mark_arrived` has seen the same `ack`.
            self.sent.pop_front();
        }
        self.base = ack;
        let Some(front) = self.sent.front_mut() else { return };
        if let (Content::Bytes(bytes), true) = (&mut front.content, front.offset < ack) {
            let gone = (ack - front.offset) as usize;
            if front.fate == Fate::Flying {
                self.flight.bytes -= gone;
            }
            bytes.advance(gone);
            front.offset = ack;
        }
    }

    /// Goes on from `needed`, before which the peer has all; `false` when bytes that it
    /// needs are gone. It need not be safe: should the peer begin anew, it needs it again.
    ///
    /// A second time it may be farther on: the first may have come late, and spoken of less.
    pub(super) fn resume(
        &mut self,
        needed: u64,
        credit: u32,
        has_taken_end: bool,
        now: Tick,
    ) -> bool {
        if needed < self.base || needed > self.sent_until {
            return false;
        }
        if has_taken_end {
            let is_all = needed == self.next + self.waiting.span();
            if !is_all || self.is_open() {
                return false;
            }
            self.next = needed;
            self.clear();
            self.end = End::Taken;
            return true;
        }
        for segment in std::mem::take(&mut self.sent).into_iter().rev() {
            self.waiting.push_front(segment.content);
        }
        self.next = self.base;
        self.count_as_sent(needed, Fate::Arrived, now);
        self.limit = needed + u64::from(credit);
        self.hash = RunningHash::default();
        self.flight = Flight::default();
        self.lost = 0;
        self.last_sent = None;
        if !matches!(self.end, End::Open) {
            self.end = End::Due;
        }
        true
    }

    /// Counts what was written as sent and lost: a former life may have sent it,
    /// and [`Self::resume`] is to find out how far the peer has it.
    pub(super) fn assume_sent(&mut self, now: Tick) {
        self.sent_until = self.next + self.waiting.span();
        self.count_as_sent(self.sent_until, Fate::Lost, now);
        self.lost = self.sent.len();
    }

    fn count_as_sent(&mut self, until: u64, fate: Fate, now: Tick) {
        while self.next < until {
            let most = FRAME_DATA_MAX_BYTES.min((until - self.next) as usize);
            let Some(content) = self.waiting.pop(most) else { return };
            let segment = Segment {
                offset: self.next,
                content,
                fate,
                order: 0,
                sent_at: now,
                is_resent: true,
            };
            self.next = segment.end();
            self.sent.push_back(segment);
        }
    }

    /// Takes up where the peer is, of whose past nothing is remembered.
    pub(super) fn adopt(&mut self, needed: u64, credit: u32, has_taken_end: bool) {
        debug_assert!(self.sent.is_empty(), "who adopts has sent nothing");
        self.base = needed;
        self.next = needed;
        self.sent_until = needed;
        self.adopted_at = Some(needed);
        self.limit = needed + u64::from(credit);
        self.hash = RunningHash::default();
        if has_taken_end {
            self.waiting.clear();
            self.end = End::Taken;
        }
    }
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
