//! Two ends, their owners, and the channel between them, on a clock of their own.

use std::collections::BTreeMap;

use bytes::Bytes;
use quarterdeck_protocol::tunnel::{
    Content, Gather, Item, StreamKey, Tick,
    close::CloseCode,
    endpoint::{Endpoint, EndpointConfig, Side},
    frame::{Body, Frame},
    mark::{Mark, Size},
    stream::{Checkpoint, Closed, StreamConfig, Unsent},
};

pub(crate) const TUNNEL: u32 = 7;
/// The longest that one turn of the loop may go on without time passing.
const TURNS_MAX: usize = 5_000;
/// The most that may happen in one test.
const SETTLES_MAX: u64 = 20_000;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub lost_percent: u32,
    pub doubled_percent: u32,
    pub late_percent: u32,
    pub delay_us: u64,
    pub late_us: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub near_bytes: usize,
    pub device_bytes: usize,
    pub streams: usize,
    pub chunk: usize,
    pub device_opens: bool,
    /// How long a reader takes to make safe what it read.
    pub slow_us: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            near_bytes: 0,
            device_bytes: 0,
            streams: 1,
            chunk: 10_000,
            device_opens: false,
            slow_us: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    /// The near end knows what it received, not what it sent.
    NearForgets,
    /// The near end knows both.
    NearKeeps,
    DeviceKeeps,
    /// The device knows nothing, not even the tunnel.
    DeviceLost,
}

/// A repeatable source of chance.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }
}

/// What one end does with one stream.
#[derive(Debug)]
struct Party {
    /// All that is to be sent, marks included.
    script: Vec<Content>,
    /// Where each of it begins.
    starts: Vec<u64>,
    script_span: u64,
    /// How much of the script was handed over.
    written: u64,
    is_finished: bool,
    /// What arrived, marks as text.
    received: Vec<u8>,
    read_until: u64,
    /// What was read and is made safe later: until when, offset, length of `received`.
    unsafe_yet: Vec<(u64, u64, usize)>,
    /// Safe: survives a restart.
    safe: u64,
    safe_len: usize,
    has_end: bool,
    closed: Option<Closed>,
    /// It was over in an earlier life of its end, which left no trace in this one.
    is_forgotten: bool,
}

fn text_of(content: &Content) -> Vec<u8> {
    match content {
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::Mark(mark) => format!("<{mark:?}>").into_bytes(),
    }
}

fn script(chance: &mut Chance, bytes: usize, chunk: usize) -> Vec<Content> {
    let mut script = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let len = (1 + chance.below(chunk as u64) as usize).min(left);
        left -= len;
        let mut chunk = vec![0; len];
        for byte in &mut chunk {
            *byte = chance.next() as u8;
        }
        script.push(Content::Bytes(chunk.into()));
        if chance.percent(10) {
            let size = Size::new(1 + chance.below(500) as u16, 24).expect("not 0");
            script.push(Content::Mark(Mark::Resize(size)));
        }
    }
    script
}

impl Party {
    fn new(script: Vec<Content>) -> Self {
        let mut script_span = 0;
        let mut starts = Vec::new();
        for content in &script {
            starts.push(script_span);
            script_span += content.span();
        }
        Self {
            script,
            starts,
            script_span,
            written: 0,
            is_finished: false,
            received: Vec::new(),
            read_until: 0,
            unsafe_yet: Vec::new(),
            safe: 0,
            safe_len: 0,
            has_end: false,
            closed: None,
            is_forgotten: false,
        }
    }

    /// The script between two offsets.
    fn part(&self, from: u64, to: u64) -> Vec<Content> {
        let first = self.starts.partition_point(|at| *at <= from).saturating_sub(1);
        let mut part = Vec::new();
        for (content, &at) in self.script.iter().zip(&self.starts).skip(first) {
            let end = at + content.span();
            if at >= to {
                break;
            }
            if end <= from {
                continue;
            }
            part.push(match content {
                Content::Bytes(bytes) => {
                    let first = from.saturating_sub(at) as usize;
                    Content::Bytes(bytes.slice(first..(to.min(end) - at) as usize))
                }
                mark @ Content::Mark(_) => mark.clone(),
            });
        }
        part
    }

    fn sent_text(&self) -> Vec<u8> {
        self.script.iter().flat_map(text_of).collect()
    }
}

#[derive(Debug)]
struct End {
    endpoint: Endpoint,
    parties: BTreeMap<StreamKey, Party>,
    life: u16,
    data_frames: u64,
    data_bytes: u64,
    seen: BTreeMap<StreamKey, u64>,
    repeated_bytes: u64,
}

pub(crate) struct World {
    now: Tick,
    chance: Chance,
    faults: Faults,
    plan: Plan,
    near: End,
    device: End,
    /// Due, order, to the device?, frame.
    channel: Vec<(u64, u64, bool, Bytes)>,
    order: u64,
    cuts: Vec<(u64, u64)>,
    is_up: bool,
    lose_nth_from_device: Option<u64>,
    settles: u64,
    frames: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "at {:?}, {} under way", self.now, self.channel.len())?;
        for (name, end) in [("near", &self.near), ("device", &self.device)] {
            for (key, party) in &end.parties {
                writeln!(
                    f,
                    "{name} {key:?}: written {}/{} finished {} read {} safe {} end {} closed {:?} {:?}",
                    party.written,
                    party.script_span,
                    party.is_finished,
                    party.read_until,
                    party.safe,
                    party.has_end,
                    party.closed,
                    end.endpoint.status(*key),
                )?;
            }
        }
        Ok(())
    }
}

pub(crate) fn stream_config() -> StreamConfig {
    StreamConfig {
        is_urgent: false,
        window_bytes: 128 * 1024,
        buffer_bytes: 256 * 1024,
        waiting_bytes: 64 * 1024,
        gather: Gather { bytes: 16 * 1024, wait_us: 4_000 },
        keep_alive_us: Some(5_000_000),
    }
}

fn endpoint(side: Side) -> Endpoint {
    let mut endpoint = Endpoint::new(side, EndpointConfig::default());
    assert!(endpoint.add_tunnel(TUNNEL, stream_config()));
    endpoint
}

impl End {
    fn new(side: Side) -> Self {
        Self {
            endpoint: endpoint(side),
            parties: BTreeMap::new(),
            life: 1,
            data_frames: 0,
            data_bytes: 0,
            seen: BTreeMap::new(),
            repeated_bytes: 0,
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, plan: &Plan) -> Self {
        let mut world = Self {
            now: Tick::from_us(0),
            chance: Chance(seed),
            faults,
            plan: *plan,
            near: End::new(Side::Near),
            device: End::new(Side::Device),
            channel: Vec::new(),
            order: 0,
            cuts: Vec::new(),
            is_up: true,
            lose_nth_from_device: None,
            settles: 0,
            frames: 0,
        };
        world.near.endpoint.on_link_up(world.now);
        world.device.endpoint.on_link_up(world.now);
        for _ in 0..plan.streams {
            let near = script(&mut world.chance, plan.near_bytes, plan.chunk);
            let device = script(&mut world.chance, plan.device_bytes, plan.chunk);
            let opener = if plan.device_opens { &mut world.device } else { &mut world.near };
            let key = opener.endpoint.open(TUNNEL, stream_config(), world.now).expect("room");
            world.near.parties.insert(key, Party::new(near));
            world.device.parties.insert(key, Party::new(device));
        }
        world
    }

    pub(crate) fn cut(&mut self, at_us: u64, for_us: u64) {
        self.cuts.push((at_us, at_us + for_us));
    }

    pub(crate) fn lose_nth_from_device(&mut self, nth: u64) {
        self.lose_nth_from_device = Some(nth);
    }

    pub(crate) fn heal(&mut self) {
        self.faults = Faults { delay_us: 1_000, ..Faults::default() };
        self.cuts.clear();
    }

    pub(crate) fn repeated_bytes(&self) -> u64 {
        self.near.repeated_bytes + self.device.repeated_bytes
    }

    pub(crate) fn open_streams(&self) -> Vec<StreamKey> {
        self.near
            .parties
            .iter()
            .filter(|(_, party)| party.closed.is_none())
            .map(|(key, _)| *key)
            .collect()
    }

    pub(crate) fn near_closed(&self, key: StreamKey) -> Option<&Closed> {
        self.near.parties.get(&key).and_then(|party| party.closed.as_ref())
    }

    fn is_done(&self) -> bool {
        let all = |end: &End| end.parties.values().all(|party| party.closed.is_some());
        all(&self.near) && all(&self.device)
    }

    /// Runs until everything is over; `false` when it is not by `until_us`.
    pub(crate) fn run_until_done(&mut self, until_us: u64) -> bool {
        self.go(until_us, true);
        self.is_done()
    }

    pub(crate) fn run(&mut self, until_us: u64) {
        self.go(until_us, false);
    }

    fn go(&mut self, until_us: u64, stops_when_done: bool) {
        let mut turns = 0;
        loop {
            self.settle();
            if stops_when_done && self.is_done() {
                return;
            }
            let next = self.next_event().unwrap_or(u64::MAX);
            if next > until_us {
                self.now = self.now.max(Tick::from_us(until_us));
                return;
            }
            turns = if next > self.now.as_us() { 0 } else { turns + 1 };
            assert!(turns < TURNS_MAX, "time stands still: {self:?}");
            self.now = self.now.max(Tick::from_us(next));
        }
    }

    fn next_event(&self) -> Option<u64> {
        let channel = self.channel.iter().map(|(due, ..)| *due).min();
        let near = self.near.endpoint.next_due(self.now).map(Tick::as_us);
        let device = self.device.endpoint.next_due(self.now).map(Tick::as_us);
        let safe = [&self.near, &self.device]
            .into_iter()
            .flat_map(|end| end.parties.values())
            .filter_map(|party| party.unsafe_yet.first().map(|(at, ..)| *at))
            .min();
        let cuts =
            self.cuts.iter().flat_map(|(a, b)| [*a, *b]).filter(|at| *at > self.now.as_us()).min();
        [channel, near, device, safe, cuts].into_iter().flatten().min()
    }

    /// Lets all happen that is due now.
    fn settle(&mut self) {
        let now_us = self.now.as_us();
        self.settles += 1;
        assert!(self.settles < SETTLES_MAX, "too much ado: {} frames {self:?}", self.frames);
        let is_up = !self.cuts.iter().any(|(from, to)| (*from..*to).contains(&now_us));
        if is_up != self.is_up {
            self.is_up = is_up;
            for end in [&mut self.near, &mut self.device] {
                if is_up {
                    end.endpoint.on_link_up(self.now);
                } else {
                    end.endpoint.on_link_down();
                }
            }
            if !is_up {
                self.channel.clear();
            }
        }
        self.deliver();
        for to_device in [false, true] {
            self.act(to_device);
            let end = if to_device { &mut self.near } else { &mut self.device };
            end.endpoint.on_time(self.now);
            while let Some(frame) = {
                let end = if to_device { &mut self.near } else { &mut self.device };
                end.endpoint.poll_transmit(self.now)
            } {
                self.send(to_device, &frame);
            }
            self.act(to_device);
        }
        self.check_bounds();
    }

    fn deliver(&mut self) {
        loop {
            let due = self
                .channel
                .iter()
                .enumerate()
                .filter(|(_, (due, ..))| *due <= self.now.as_us())
                .min_by_key(|(_, (due, order, ..))| (*due, *order))
                .map(|(index, _)| index);
            let Some(index) = due else { return };
            let (_, _, to_device, bytes) = self.channel.swap_remove(index);
            let frame = Frame::decode(bytes).expect("what is sent can be read");
            let end = if to_device { &mut self.device } else { &mut self.near };
            end.endpoint.on_frame(frame, self.now);
            self.act(!to_device);
        }
    }

    fn send(&mut self, to_device: bool, frame: &Frame) {
        let end = if to_device { &mut self.near } else { &mut self.device };
        self.frames += 1;
        let span = frame.body.span();
        if span > 0 {
            end.data_frames += 1;
            end.data_bytes += span;
            let seen = end.seen.entry(frame.key).or_default();
            end.repeated_bytes += seen.saturating_sub(frame.offset).min(span);
            *seen = (*seen).max(frame.offset + span);
            if !to_device && self.lose_nth_from_device == Some(end.data_frames) {
                return;
            }
        }
        assert!(!matches!(&frame.body, Body::Data(bytes) if bytes.len() > 64 * 1024));
        let bytes = frame.to_bytes();
        let copies = if self.chance.percent(self.faults.doubled_percent) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.is_up || self.chance.percent(self.faults.lost_percent) {
                continue;
            }
            let mut due = self.now.as_us() + self.faults.delay_us;
            if self.chance.percent(self.faults.late_percent) {
                due += self.chance.below(self.faults.late_us);
            }
            self.order += 1;
            self.channel.push((due, self.order, to_device, bytes.clone()));
        }
    }

    /// Lets the owner of one end read and write.
    fn act(&mut self, is_near: bool) {
        let end = if is_near { &mut self.near } else { &mut self.device };
        let (now, slow_us) = (self.now, self.plan.slow_us);
        while let Some((key, changes)) = end.endpoint.poll_change() {
            let Some(party) = end.parties.get_mut(&key) else { continue };
            if let Some(closed) = changes.closed {
                if party.is_forgotten {
                    continue;
                }
                assert!(party.closed.is_none(), "{key:?} closed twice");
                party.closed = Some(closed);
                party.unsafe_yet.clear();
            }
        }
        for (key, party) in &mut end.parties {
            if party.closed.is_some() {
                continue;
            }
            while let Some((item, until)) = end.endpoint.read(*key, 50_000, now) {
                match item {
                    Item::Content(content) => party.received.extend(text_of(&content)),
                    Item::End => party.has_end = true,
                }
                party.read_until = until;
                party.unsafe_yet.push((now.as_us() + slow_us, until, party.received.len()));
            }
            let due = party.unsafe_yet.iter().take_while(|(at, ..)| *at <= now.as_us()).count();
            if let Some((_, until, len)) = party.unsafe_yet.drain(..due).next_back() {
                (party.safe, party.safe_len) = (until, len);
                end.endpoint.make_safe(*key, until, now);
            }
            write(&mut end.endpoint, *key, party);
        }
    }

    fn check_bounds(&self) {
        let config = EndpointConfig::default();
        for end in [&self.near, &self.device] {
            let used = end.endpoint.used();
            let most = config.tunnel_flight;
            assert!(used.flight.messages <= most.messages, "{used:?}");
            assert!(used.flight.bytes <= most.bytes, "{used:?}");
            assert!(
                used.buffers_bytes <= end.parties.len() * stream_config().buffer_bytes,
                "{used:?}"
            );
            for (key, party) in &end.parties {
                let Some(status) = end.endpoint.status(*key) else { continue };
                let window = u64::from(stream_config().window_bytes);
                assert!(status.received <= party.read_until + window, "{key:?} {status:?}");
                assert!(status.sent_safe <= status.sent);
            }
        }
    }

    pub(crate) fn restart(&mut self, restart: Restart) {
        if restart == Restart::DeviceLost {
            self.device.endpoint = Endpoint::new(Side::Device, EndpointConfig::default());
            self.device.endpoint.on_link_up(self.now);
            for party in self.device.parties.values_mut() {
                party.closed.get_or_insert(Closed::new(CloseCode::AgentRestarted, ""));
                party.unsafe_yet.clear();
            }
            return;
        }
        let is_near = restart != Restart::DeviceKeeps;
        let end = if is_near { &mut self.near } else { &mut self.device };
        let fresh = endpoint(if is_near { Side::Near } else { Side::Device });
        let old = std::mem::replace(&mut end.endpoint, fresh);
        end.endpoint.on_link_up(self.now);
        end.life += 1;
        for (key, party) in &mut end.parties {
            if party.closed.is_some() {
                // What its peer still says of it looks new to this life.
                party.is_forgotten = true;
                continue;
            }
            let Some(status) = old.status(*key) else { continue };
            // The end has no offset of its own: read, and all before it safe, it is taken.
            let has_received_end = party.has_end && party.safe == party.read_until;
            party.received.truncate(party.safe_len);
            party.read_until = party.safe;
            party.has_end = has_received_end;
            party.unsafe_yet.clear();
            let unsent = if restart == Restart::NearForgets || party.written == u64::MAX {
                // Written again from where the peer turns out to be.
                party.written = u64::MAX;
                party.is_finished = false;
                Unsent::Forgotten
            } else {
                // What is known to be safe may be older than what is.
                let base = self.chance.below(2) * status.sent_safe;
                let contents = party.part(base, party.written);
                Unsent::Kept { base, contents, is_finished: party.is_finished }
            };
            let checkpoint =
                Checkpoint { life: end.life, received: party.safe, has_received_end, unsent };
            end.endpoint
                .resume(*key, stream_config(), checkpoint, self.now)
                .expect("a fresh end has room");
        }
    }

    /// Both ends have what the other sent, and know that it was all.
    pub(crate) fn check_equal(&self) {
        for (key, near) in &self.near.parties {
            let device = &self.device.parties[key];
            for (from, to) in [(near, device), (device, near)] {
                assert!(to.received == from.sent_text(), "{key:?} differs");
                assert!(to.has_end, "{key:?} has no end");
                let code = to.closed.as_ref().map(|closed| closed.code);
                assert_eq!(code, Some(CloseCode::Finished), "{key:?}");
            }
        }
    }

    /// As [`Self::check_equal`], but for what a restart may cost, and then explicitly:
    ///
    /// - the last word: an end that was done, and began anew without a trace of
    ///   it, cannot confirm that it was done;
    /// - bytes that both ends had lost: the one forgot what it had sent, the
    ///   other what it had taken and not made safe.
    pub(crate) fn check_equal_or_explicit(&self, may_lose: bool) {
        for (key, near) in &self.near.parties {
            let device = &self.device.parties[key];
            let codes = [near, device].map(|end| end.closed.as_ref().map(|closed| closed.code));
            if may_lose && codes.contains(&Some(CloseCode::CannotResume)) {
                continue;
            }
            assert!(codes.contains(&Some(CloseCode::Finished)), "{key:?} {codes:?}");
            for (from, to) in [(near, device), (device, near)] {
                assert!(to.received == from.sent_text(), "{key:?} differs");
            }
            let is_forgotten = near.is_forgotten || device.is_forgotten;
            for code in codes {
                let is_good = match code {
                    Some(CloseCode::Finished | CloseCode::Unknown) => true,
                    Some(CloseCode::CannotResume) => is_forgotten,
                    _ => false,
                };
                assert!(is_good, "{key:?} {code:?}");
            }
        }
        self.check_prefixes();
    }

    /// What arrived is what was sent, up to somewhere.
    pub(crate) fn check_prefixes(&self) {
        for (key, near) in &self.near.parties {
            let device = &self.device.parties[key];
            for (from, to) in [(near, device), (device, near)] {
                assert!(from.sent_text().starts_with(&to.received), "{key:?} differs");
            }
        }
    }
}

fn write(endpoint: &mut Endpoint, key: StreamKey, party: &mut Party) {
    if party.is_finished {
        return;
    }
    if party.written == u64::MAX {
        let Some(status) = endpoint.status(key) else { return };
        if !status.is_synchronised {
            return;
        }
        party.written = status.sent;
    }
    // No more than there may be room for.
    let most = party.script_span.min(party.written + stream_config().waiting_bytes as u64);
    for content in party.part(party.written, most) {
        match content {
            Content::Bytes(mut bytes) => {
                let before = bytes.len();
                if endpoint.write(key, &mut bytes).is_err() {
                    return;
                }
                party.written += (before - bytes.len()) as u64;
                if !bytes.is_empty() {
                    return;
                }
            }
            Content::Mark(mark) => {
                if endpoint.mark(key, mark) != Ok(true) {
                    return;
                }
                party.written += 1;
            }
        }
    }
    party.is_finished = party.written == party.script_span && endpoint.finish(key).is_ok();
}
