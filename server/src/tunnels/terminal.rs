//! The output of one terminal: from the device into the log, and to consoles.
//!
//! ```text
//!                       ┌──▶ recent ──▶ consoles, each from its own offset
//!  device ──▶ pump ─────┤
//!                       └──▶ log ──▶ acknowledged to the device
//! ```
//!
//! The owner sets the pace: what it was not yet shown, and what the device may
//! send, is together what it shows in a round trip and a quarter of a second.
//! Without an owner the program runs on. Nobody else slows it: who falls behind
//! reads from the log, and who falls far behind begins anew with a snapshot.

mod pump;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use quarterdeck_protocol::tunnel::{
    Content, Tick,
    close::CloseCode,
    limits::WINDOW_MAX_BYTES,
    mark::{Exit, Mark, Size},
    session::{SNAPSHOT_MAX_BYTES, ServerMessage},
    stream::{Changes, Closed},
    window::DrainWindow,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use self::pump::Batch;
pub(super) use self::pump::Ended;
use super::{
    log::{Chunks, Entry, Log, LogError, Place},
    modes::Modes,
    recent::{Recent, bytes_of, cut},
    way::Way,
};

/// The least window of a device, so that its frames have a size.
const DEVICE_WINDOW_MIN_BYTES: u64 = 16 * 1024;
/// What a console's round trip counts as before it was measured, in microseconds.
const RTT_UNKNOWN_US: u64 = 50_000;
/// The most of the output that a snapshot paints, in bytes; modes stand around it.
const PAINTED_MAX_BYTES: usize = SNAPSHOT_MAX_BYTES - 4 * 1024;
/// What was typed and waits to be recorded, in bytes.
const TYPED_MAX_BYTES: usize = 64 * 1024;

/// The output of one terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) handle: u32,
    way: Arc<Way>,
    state: Mutex<State>,
    /// Apart from the rest, since it is set while the way's lock is held.
    closed: Mutex<Option<Closed>>,
    /// The pump has something to do.
    wake: Notify,
    /// How far the output goes, for consoles to wait on.
    end: watch::Sender<u64>,
    began: Instant,
    place: Place,
}

#[derive(Debug)]
struct State {
    recent: Recent,
    /// How many of the output's offsets are marks.
    marks: u64,
    /// How far it is in the log, and from where on.
    logged: u64,
    first: u64,
    modes: Modes,
    size: Size,
    exit: Option<Exit>,
    owner: Option<Owner>,
    /// How far any owner has shown it.
    seen: u64,
    /// What is to be logged next; `is_watched` while the pump looks for it by itself.
    batch: Batch,
    is_watched: bool,
    /// Nothing is taken any more: the pump ends.
    is_over: bool,
    records_typed: bool,
    shown_at: Option<Instant>,
}

/// The console that sets the pace.
#[derive(Debug)]
struct Owner {
    console: u64,
    /// How far it has shown, and was sent.
    shown: u64,
    sent: u64,
    window: DrainWindow,
    rtt_us: u64,
    /// An offset, and when it was sent: its acknowledgement measures the round trip.
    probe: Option<(u64, Tick)>,
}

/// What a console gets next.
#[derive(Debug)]
pub(super) enum Next {
    Pieces(Vec<(u64, Content)>),
    /// Nothing yet.
    Wait,
    /// What it needs is in the log alone.
    InLog,
    /// It is gone.
    Gone,
}

/// What the log has of a session that is taken up again.
#[derive(Debug, Default)]
pub(super) struct Past {
    modes: Modes,
    size: Option<Size>,
    exit: Option<Exit>,
    marks: u64,
}

impl Past {
    /// Reads it. Blocks.
    pub(super) fn read(place: &Place) -> Result<Self, LogError> {
        let mut past = Self::default();
        let mut chunks = Chunks::all(place)?;
        while let Some(opened) = chunks.next()? {
            for entry in opened.entries {
                past.marks += u64::from(matches!(entry, Entry::Shown(Content::Mark(_))));
                match entry {
                    Entry::Shown(Content::Bytes(bytes)) => past.modes.feed(&bytes),
                    Entry::Shown(Content::Mark(Mark::Resize(size))) => past.size = Some(size),
                    Entry::Shown(Content::Mark(Mark::Exit(exit))) => past.exit = Some(exit),
                    _ => {}
                }
            }
        }
        Ok(past)
    }
}

impl Terminal {
    pub(super) fn new(
        handle: u32,
        way: Arc<Way>,
        place: Place,
        log: &Log,
        past: Past,
        records_typed: bool,
    ) -> Self {
        let state = State {
            recent: Recent::at(log.end()),
            marks: past.marks,
            logged: log.end(),
            first: log.first(),
            modes: past.modes,
            size: past.size.unwrap_or(log.header().size),
            exit: past.exit,
            owner: None,
            seen: 0,
            batch: Batch::default(),
            is_watched: false,
            is_over: false,
            records_typed,
            shown_at: None,
        };
        Self {
            handle,
            way,
            state: Mutex::new(state),
            closed: Mutex::default(),
            wake: Notify::new(),
            end: watch::channel(log.end()).0,
            began: Instant::now(),
            place,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Tick {
        Tick::from_us(self.began.elapsed().as_micros() as u64)
    }

    // --- from the device --------------------------------------------------------

    /// Something happened to the stream.
    pub(super) fn on_changes(&self, changes: Changes) {
        if changes.closed.is_some() {
            *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = changes.closed;
            self.wake.notify_one();
        }
    }

    fn closed(&self) -> Option<Closed> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the program ended, if it did.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.lock().exit
    }

    /// How much it wrote, marks included.
    pub(super) fn end(&self) -> u64 {
        self.lock().recent.end()
    }

    /// How many bytes it wrote.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.lock();
        state.recent.end().saturating_sub(state.marks)
    }

    /// When it last wrote something.
    pub(super) fn shown_at(&self) -> Option<Instant> {
        self.lock().shown_at
    }

    /// An owner has all that there is.
    pub(super) fn all_shown(&self) {
        let mut state = self.lock();
        state.seen = state.recent.end();
    }

    /// Whether there is output that no owner has shown.
    pub(super) fn has_unseen(&self) -> bool {
        let state = self.lock();
        state.seen < state.recent.end()
    }

    /// Whether what is typed is recorded.
    pub(super) fn records_typed(&self) -> bool {
        self.lock().records_typed
    }

    /// Records what was typed; `false` when the disk has to follow first, since more than
    /// [`TYPED_MAX_BYTES`] wait: then the device must not get it yet either.
    pub(super) fn record_typed(&self, bytes: &Bytes) -> bool {
        let wakes = {
            let mut state = self.lock();
            let waiting = state.batch.typed_bytes;
            if waiting > 0 && waiting + bytes.len() > TYPED_MAX_BYTES {
                return false;
            }
            let had = state.batch.urgency();
            state.batch.push_typed(Bytes::copy_from_slice(bytes));
            state.wakes_pump(had)
        };
        if wakes {
            self.wake.notify_one();
        }
        true
    }

    // --- to consoles ------------------------------------------------------------

    /// Hears how far the output goes.
    pub(super) fn grown(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// Lets a console set the pace.
    pub(super) fn set_owner(&self, console: u64, from: u64) {
        let owner = Owner {
            console,
            shown: from,
            sent: from,
            window: DrainWindow::new(self.now()),
            rtt_us: RTT_UNKNOWN_US,
            probe: None,
        };
        let mut state = self.lock();
        state.owner = Some(owner);
        state.seen = state.seen.max(from);
        drop(state);
        self.go_on();
    }

    /// Lets the program run on when the console that set the pace is gone.
    pub(super) fn drop_owner(&self, console: u64) {
        let mut state = self.lock();
        state.owner.take_if(|owner| owner.console == console);
        drop(state);
        self.go_on();
    }

    /// Takes what may be taken now, and tells the device at once how much more it may send: what it
    /// has room for is known only after that.
    fn go_on(&self) {
        self.take();
        let window = self.lock().device_window();
        self.way.set_window(self.handle, window);
    }

    /// A console has shown all before `until`.
    pub(super) fn shown(&self, console: u64, until: u64) {
        let now = self.now();
        let mut state = self.lock();
        let end = state.recent.end();
        let Some(owner) = state.owner.as_mut().filter(|owner| owner.console == console) else {
            return;
        };
        let until = until.min(owner.sent);
        if until <= owner.shown {
            return;
        }
        if let Some((offset, sent_at)) = owner.probe
            && until >= offset
        {
            let sample_us = now.us_since(sent_at);
            owner.rtt_us = (owner.rtt_us * 7 + sample_us) / 8;
            owner.probe = None;
        }
        owner.window.drained(until - owner.shown, end > until, now);
        owner.shown = until;
        state.seen = state.seen.max(until);
        drop(state);
        self.go_on();
    }

    /// What comes next for a console that has everything before `from`.
    pub(super) fn next(&self, console: u64, from: u64, most: u64) -> Next {
        let now = self.now();
        let mut state = self.lock();
        if from >= state.recent.end() {
            return Next::Wait;
        }
        let Some(pieces) = state.recent.from(from, most) else {
            return if from < state.first { Next::Gone } else { Next::InLog };
        };
        let end = pieces.last().map_or(from, |(offset, content)| offset + content.span());
        if let Some(owner) = state.owner.as_mut().filter(|owner| owner.console == console) {
            owner.sent = owner.sent.max(end);
            owner.probe.get_or_insert((end, now));
        }
        Next::Pieces(pieces)
    }

    /// Whether the log has the output from `from` on, or will have.
    ///
    /// What a server that was killed had shown may be more than its log has: the device sends that
    /// again. From further on there is nothing.
    pub(super) fn has(&self, from: u64, is_resumed: bool) -> bool {
        let ahead = if is_resumed { WINDOW_MAX_BYTES.into() } else { 0 };
        let state = self.lock();
        (state.first..=state.recent.end().saturating_add(ahead)).contains(&from)
    }

    /// Reads output from the log: what is no longer in memory.
    pub(super) async fn read_log(
        &self,
        console: u64,
        from: u64,
        most: u64,
    ) -> Result<Vec<(u64, Content)>, LogError> {
        let place = self.place.clone();
        let read = tokio::task::spawn_blocking(move || read_output(&place, from, most));
        let pieces = match read.await {
            Ok(pieces) => pieces?,
            Err(error) => return Err(LogError::Io(std::io::Error::other(error))),
        };
        let end = pieces.last().map_or(from, |(offset, content)| offset + content.span());
        let mut state = self.lock();
        if let Some(owner) = state.owner.as_mut().filter(|owner| owner.console == console) {
            owner.sent = owner.sent.max(end);
        }
        Ok(pieces)
    }

    /// The screen as it is now, made of the newest output.
    pub(super) async fn snapshot(&self) -> Result<(u64, ServerMessage), LogError> {
        let (dropped_bytes, offset, from, start, newest, modes, size) = {
            let state = self.lock();
            let (start, end) = (state.recent.start(), state.recent.end());
            let from = end.saturating_sub(PAINTED_MAX_BYTES as u64).max(state.first);
            let newest = state.recent.from(from.max(start), u64::MAX).unwrap_or_default();
            (state.first, end, from, start, newest, state.modes.clone(), state.size)
        };
        let older = if from < start {
            let place = self.place.clone();
            let read = tokio::task::spawn_blocking(move || read_output(&place, from, start - from));
            match read.await {
                Ok(pieces) => pieces?,
                Err(error) => return Err(LogError::Io(std::io::Error::other(error))),
            }
        } else {
            Vec::new()
        };
        let (painted_from, screen) = paint(&modes, from, &[older, newest].concat());
        let message = ServerMessage::Snapshot { offset, size, screen, painted_from, dropped_bytes };
        Ok((offset, message))
    }
}

/// Paints the output that begins at `from`, as Base64, and tells from where on it did.
fn paint(modes: &Modes, from: u64, output: &[(u64, Content)]) -> (u64, String) {
    let bytes = bytes_of(output).map(|bytes| &bytes[..]).collect::<Vec<_>>().concat();
    if from == 0 {
        return (0, STANDARD.encode(bytes));
    }
    // Not in the middle of a sequence or a character, if there is a line to begin with.
    let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let painted = [modes.before().as_bytes(), &bytes[line..], modes.after().as_bytes()].concat();
    (after_bytes(from, output, line), STANDARD.encode(painted))
}

/// Where the first so many bytes of the output that begins at `from` end.
fn after_bytes(from: u64, output: &[(u64, Content)], mut bytes: usize) -> u64 {
    let mut end = from;
    for (offset, content) in output {
        if bytes == 0 {
            break;
        }
        let Content::Bytes(piece) = content else { continue };
        let taken = bytes.min(piece.len());
        bytes -= taken;
        end = offset + taken as u64;
    }
    end
}

fn read_output(place: &Place, from: u64, most: u64) -> Result<Vec<(u64, Content)>, LogError> {
    let mut chunks = Chunks::from(place, from)?;
    let mut found = Vec::new();
    let mut next = from;
    while next < from + most {
        let opened = match chunks.next() {
            Ok(Some(opened)) => opened,
            // Its tail is being written just now.
            Ok(None) | Err(LogError::Cut { .. } | LogError::Broken { .. }) if !found.is_empty() => {
                break;
            }
            Ok(None) => break,
            Err(error) => return Err(error),
        };
        let mut offset = opened.offset;
        for entry in opened.entries {
            let span = entry.span();
            if let Entry::Shown(content) = entry
                && offset + span > next
                && next < from + most
            {
                let (offset, content) = cut(offset, &content, next, from + most - next);
                next = offset + content.span();
                found.push((offset, content));
            }
            offset += span;
        }
    }
    Ok(found)
}

impl State {
    /// What the owner may have before it: shown nothing of.
    fn backlog(&self) -> u64 {
        self.owner.as_ref().map_or(0, |owner| self.recent.end().saturating_sub(owner.shown))
    }

    fn window_bytes(&self) -> Option<u64> {
        self.owner.as_ref().map(|owner| owner.window.bytes(owner.rtt_us).into())
    }

    fn may_take(&self) -> bool {
        self.window_bytes().is_none_or(|window| self.backlog() < window)
    }

    /// What the device may have under way to us.
    fn device_window(&self) -> u32 {
        use quarterdeck_protocol::tunnel::limits::WINDOW_DEFAULT_BYTES;
        let Some(window) = self.window_bytes() else { return WINDOW_DEFAULT_BYTES };
        let left = window.saturating_sub(self.backlog());
        left.clamp(DEVICE_WINDOW_MIN_BYTES, WINDOW_DEFAULT_BYTES.into()) as u32
    }
}

/// Whether an end of the stream is the program's own, as far as the log has it.
pub(super) fn is_finished(closed: &Closed, exit: Option<Exit>) -> bool {
    closed.code == CloseCode::Finished
        || (exit.is_some() && matches!(closed.code, CloseCode::CannotResume | CloseCode::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, bytes: &'static [u8]) -> (u64, Content) {
        (offset, Content::Bytes(Bytes::from_static(bytes)))
    }

    #[test]
    fn a_painting_tells_from_where_on_it_has_the_output() {
        let mark = |offset| (offset, Content::Mark(Mark::Exit(Exit::Code(0))));
        for (from, output, painted_from, painted) in [
            (0, vec![], 0, &b""[..]),
            (0, vec![mark(0)], 0, b""),
            (0, vec![mark(0), piece(1, b"one\ntwo")], 0, b"one\ntwo"),
            (7, vec![piece(7, b"one\ntwo")], 11, b"two"),
            (7, vec![piece(7, b"one"), mark(10), piece(11, b"\ntwo")], 12, b"two"),
            (7, vec![piece(7, b"one\n"), mark(11), piece(12, b"two")], 11, b"two"),
            (7, vec![mark(7), piece(8, b"no line")], 7, b"no line"),
            (7, vec![piece(7, b"one\n")], 11, b""),
        ] {
            let (is_from, screen) = paint(&Modes::default(), from, &output);
            let screen = STANDARD.decode(screen).expect("Base64");
            let modes = Modes::default();
            let framed = match from {
                0 => painted.to_vec(),
                _ => [modes.before().as_bytes(), painted, modes.after().as_bytes()].concat(),
            };
            assert_eq!((is_from, screen), (painted_from, framed), "{output:?}");
        }
    }
}
