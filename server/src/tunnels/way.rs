//! The way to one device: this end of the streams that end here, and the frames
//! of all others, which are passed on as they are.
//!
//! ```text
//!  sessions ── read, logged, mark ────▶ endpoint ── driver ──▶ tunnel/down
//!  consoles ── frames, as they are ───────────────────────────▶
//!           ◀── frames, as they are ── by tunnel and stream ◀── tunnel/up
//! ```
//!
//! The machine stands behind a lock that is never held across an await.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    topics::DeviceTopic,
    tunnel::{
        Gather, Item, StreamKey, Tick,
        control::Control,
        endpoint::{Endpoint, EndpointConfig, Side},
        frame::Frame,
        limits,
        mark::Mark,
        stream::{Changes, Checkpoint, StreamConfig, StreamStatus, Unsent},
    },
};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};

use super::limits::KEEP_ALIVE_MS;
use crate::mqtt::link::{Link, PublishError, PublishRequest, Qos, SERVER};

/// The stream of a terminal's output.
pub(super) const OUTPUT: u32 = 0;
/// How long frames wait when the connection takes no more.
const FULL_WAIT: Duration = Duration::from_millis(5);
/// How long the driver sleeps when nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// A terminal's output, and resizes to it.
const TERMINAL: StreamConfig = StreamConfig {
    is_urgent: true,
    window_bytes: limits::WINDOW_DEFAULT_BYTES,
    buffer_bytes: 4 * 1024,
    waiting_bytes: 4 * 1024,
    gather: Gather { bytes: 0, wait_us: 0 },
    keep_alive_us: Some(KEEP_ALIVE_MS * 1_000),
};

/// Who hears of a tunnel's frames.
pub(super) trait Route: Send + Sync + std::fmt::Debug {
    /// Whether the output ends here.
    fn keeps_output(&self) -> bool;
    /// Something happened to the output; said while the machine's lock is held.
    fn on_output(&self, changes: Changes);
    /// There may be output to be read now; said without it.
    fn take_output(&self);
    /// A frame of another stream, to be passed on.
    fn on_frame(&self, stream: u32, frame: Bytes);
}

/// Where the output of a terminal goes on after a restart: all before `received` is in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resumed {
    pub(super) life: u16,
    pub(super) received: u64,
}

/// The way to one device.
#[derive(Debug)]
pub(super) struct Way {
    project: ProjectId,
    device: DeviceId,
    link: Arc<dyn Link>,
    state: Mutex<State>,
    alarm: Arc<Alarm>,
    began: Instant,
}

#[derive(Debug)]
struct State {
    endpoint: Endpoint,
    routes: HashMap<u32, Arc<dyn Route>>,
    /// Until when the driver sleeps.
    sleeps_until: Option<Tick>,
}

/// Wakes the driver: now, or later. Whoever has something for later sets the alarm and lets the
/// driver sleep: an echo does not share its way through the server with a driver that only
/// takes note of when it is to acknowledge it.
#[derive(Debug)]
struct Alarm {
    now: Notify,
    /// Set while the machine's lock is held.
    later: Mutex<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn new() -> Self {
        Self { now: Notify::new(), later: Mutex::new(Box::pin(sleep(IDLE))) }
    }

    fn ring(&self) {
        self.now.notify_one();
    }

    fn set(&self, at: Instant) {
        self.later().as_mut().reset(at);
    }

    async fn rung(&self) {
        tokio::select! {
            () = self.now.notified() => {}
            () = poll_fn(|context| self.later().as_mut().poll(context)) => {}
        }
    }

    fn later(&self) -> MutexGuard<'_, Pin<Box<Sleep>>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    /// Makes the way and starts to drive it; it is driven as long as somebody has it.
    pub(super) fn new(
        project: ProjectId,
        device: DeviceId,
        link: Arc<dyn Link>,
        is_up: bool,
    ) -> Arc<Self> {
        let endpoint = Endpoint::new(Side::Near, EndpointConfig::default());
        let way = Arc::new(Self {
            project,
            device,
            link,
            state: Mutex::new(State { endpoint, routes: HashMap::new(), sleeps_until: None }),
            alarm: Arc::new(Alarm::new()),
            began: Instant::now(),
        });
        if is_up {
            way.on_link(true);
        }
        tokio::spawn(drive(Arc::downgrade(&way), Arc::clone(&way.alarm)));
        way
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Tick {
        Tick::from_us(self.began.elapsed().as_micros() as u64)
    }

    /// Does something to the machine; tells whom it concerns.
    fn step<R>(&self, action: impl FnOnce(&mut Endpoint, Tick) -> R) -> R {
        let mut state = self.lock();
        let result = action(&mut state.endpoint, self.now());
        tell(&mut state);
        self.wake(state);
        result
    }

    /// Wakes the driver in time, if it has something to do that it does not know of.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let now = self.now();
        let Some(due) = state.endpoint.next_due(now) else { return };
        if state.sleeps_until.is_some_and(|sleeps_until| sleeps_until <= due) {
            return;
        }
        if due > now {
            state.sleeps_until = Some(due);
            return self.alarm.set(self.at(due));
        }
        drop(state);
        self.alarm.ring();
    }

    /// When a tick of the machine is.
    fn at(&self, tick: Tick) -> Instant {
        self.began + Duration::from_micros(tick.as_us())
    }

    // --- sessions ---------------------------------------------------------------

    /// Knows a tunnel from now on. Of a terminal that was open before a restart of this server, the
    /// output is taken up in the same moment: a frame that found the tunnel without its stream would
    /// be told that there is none, and its program would be hung up.
    pub(super) fn add(&self, handle: u32, route: Arc<dyn Route>, resumed: Option<Resumed>) {
        let mut state = self.lock();
        state.endpoint.add_tunnel(handle, TERMINAL);
        state.routes.insert(handle, route);
        if let Some(Resumed { life, received }) = resumed {
            let unsent = Unsent::Forgotten;
            let checkpoint = Checkpoint { life, received, has_received_end: false, unsent };
            let now = self.now();
            if let Err(refused) = state.endpoint.resume(output(handle), TERMINAL, checkpoint, now) {
                tracing::warn!(device = %self.device, ?refused, "a terminal's output cannot be taken up again");
            }
        }
        self.wake(state);
    }

    /// Forgets it.
    pub(super) fn remove(&self, handle: u32) {
        let mut state = self.lock();
        state.endpoint.remove_tunnel(handle);
        state.routes.remove(&handle);
    }

    /// Opens the stream of a terminal's output; `false` when there is no room for one more.
    pub(super) fn open_output(&self, handle: u32) -> bool {
        self.step(|endpoint, now| endpoint.open(handle, TERMINAL, now)).is_ok()
    }

    /// Reads the next item of output, and the offset to make safe once it is.
    pub(super) fn read(&self, handle: u32, most_bytes: usize) -> Option<(Item, u64)> {
        // Without a wake: what follows, `logged`, brings one.
        let mut state = self.lock();
        let now = self.now();
        state.endpoint.read(output(handle), most_bytes, now)
    }

    /// Lets the device forget everything before `until`, and send so much more.
    pub(super) fn logged(&self, handle: u32, until: u64, window_bytes: u32) {
        self.step(|endpoint, now| {
            endpoint.set_window(output(handle), window_bytes, now);
            endpoint.make_safe(output(handle), until, now);
        });
    }

    pub(super) fn set_window(&self, handle: u32, bytes: u32) {
        self.step(|endpoint, now| endpoint.set_window(output(handle), bytes, now));
    }

    /// Sends a mark; `false` when there is no room for it now.
    pub(super) fn mark(&self, handle: u32, mark: Mark) -> bool {
        self.step(|endpoint, _| endpoint.mark(output(handle), mark)) == Ok(true)
    }

    /// Ends our direction of the output's stream: nobody writes there any more.
    pub(super) fn finish(&self, handle: u32) {
        // One that is over needs no end.
        let _ = self.step(|endpoint, _| endpoint.finish(output(handle)));
    }

    pub(super) fn status(&self, handle: u32) -> Option<StreamStatus> {
        self.lock().endpoint.status(output(handle))
    }

    /// Milliseconds since the device was last heard on the output's stream.
    pub(super) fn heard_ms_ago(&self, status: &StreamStatus) -> u64 {
        self.now().us_since(status.heard_at) / 1_000
    }

    /// Where it leads.
    pub(super) const fn device(&self) -> (&ProjectId, &DeviceId) {
        (&self.project, &self.device)
    }

    // --- the connection ---------------------------------------------------------

    pub(super) fn on_link(&self, is_up: bool) {
        self.step(|endpoint, now| {
            if is_up {
                endpoint.on_link_up(now);
            } else {
                endpoint.on_link_down();
            }
        });
    }

    /// Takes a frame of the device.
    pub(super) fn on_frame(&self, bytes: Bytes) {
        let Ok(key) = Frame::peek_key(&bytes) else {
            return self.complain("a tunnel frame is too short, too long or of another version");
        };
        let mut state = self.lock();
        if let Some(route) = state.routes.get(&key.tunnel)
            && (key.stream != OUTPUT || !route.keeps_output())
        {
            let route = Arc::clone(route);
            drop(state);
            return route.on_frame(key.stream, bytes);
        }
        match Frame::decode(bytes) {
            Ok(frame) => {
                state.endpoint.on_frame(frame, self.now());
                tell(&mut state);
                let route = state.routes.get(&key.tunnel).cloned();
                self.wake(state);
                if let Some(route) = route {
                    route.take_output();
                }
            }
            Err(error) => {
                drop(state);
                self.complain(&error.to_string());
            }
        }
    }

    fn complain(&self, why: &str) {
        metrics::counter!("quarterdeck_tunnel_bad_frames_total").increment(1);
        tracing::debug!(project = %self.project, device = %self.device, why, "ignored a tunnel frame");
    }

    /// Sends a frame as it is. One that cannot be sent is lost, and sent again by its end.
    pub(super) fn pass_on(&self, tunnel: u32, frame: Bytes) -> Result<(), PublishError> {
        self.publish(DeviceTopic::TunnelDown, frame, tunnel)
    }

    /// Says something on `tunnel/control`, if the device is there.
    pub(super) fn say(&self, control: &Control) -> Result<(), PublishError> {
        self.publish(DeviceTopic::TunnelControl, control.to_json().into(), SERVER)
    }

    /// The same, once there is room; a device that is not there hears it when it is back.
    pub(super) async fn say_when_possible(&self, control: &Control) {
        while self.say(control) == Err(PublishError::QueueFull) {
            sleep(FULL_WAIT).await;
        }
    }

    fn publish(&self, kind: DeviceTopic, payload: Bytes, sender: u32) -> Result<(), PublishError> {
        self.link.publish(PublishRequest {
            project_id: self.project.clone(),
            device_id: self.device.clone(),
            kind,
            payload,
            qos: Qos::of(kind),
            sender,
        })
    }

    /// Sends what is due, and sets the alarm for what is due later.
    fn send(&self) {
        loop {
            let mut state = self.lock();
            let now = self.now();
            state.endpoint.on_time(now);
            let frame = state.endpoint.poll_transmit(now);
            tell(&mut state);
            let Some(frame) = frame else {
                state.sleeps_until = state.endpoint.next_due(now);
                let due = state.sleeps_until.map(|due| self.at(due));
                return self.alarm.set(due.unwrap_or_else(|| Instant::now() + IDLE));
            };
            drop(state);
            if self.pass_on(frame.key.tunnel, frame.to_bytes()) == Err(PublishError::QueueFull) {
                return self.alarm.set(Instant::now() + FULL_WAIT);
            }
        }
    }
}

fn tell(state: &mut State) {
    while let Some((key, changes)) = state.endpoint.poll_change() {
        if let Some(route) = state.routes.get(&key.tunnel)
            && key.stream == OUTPUT
        {
            route.on_output(changes);
        }
    }
}

const fn output(handle: u32) -> StreamKey {
    StreamKey { tunnel: handle, stream: OUTPUT }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.alarm.ring();
    }
}

async fn drive(way: Weak<Way>, alarm: Arc<Alarm>) {
    while let Some(way) = way.upgrade() {
        way.send();
        drop(way);
        alarm.rung().await;
    }
}
