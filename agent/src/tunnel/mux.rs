//! The stream machine, made awaitable: a task reads and writes one stream, the
//! connection brings the frames of all, and the driver sends them.
//!
//! The machine stands behind a lock that is held for one step at a time, never
//! across an await.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use quarterdeck_protocol::tunnel::{
    Item, StreamKey, Tick,
    close::CloseCode,
    endpoint::{Endpoint, EndpointConfig, Refused, Side},
    frame::Frame,
    mark::Mark,
    stream::{Closed, StreamConfig},
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

/// What all streams of the device may keep to be sent and to be read, in bytes.
const BUFFERS_MAX_BYTES: usize = 16 * 1024 * 1024;

/// One end of all tunnels of a device.
#[derive(Debug)]
pub struct Mux {
    state: Mutex<State>,
    /// Something may be sent.
    wake: Notify,
    began: Instant,
}

#[derive(Debug)]
struct State {
    endpoint: Endpoint,
    streams: HashMap<StreamKey, Watch>,
    /// Where new streams of a tunnel go.
    listeners: HashMap<u32, mpsc::Sender<StreamKey>>,
}

/// Who waits for a stream, and what it is to know.
#[derive(Debug, Default)]
struct Watch {
    changed: Arc<Notify>,
    is_delivered: bool,
    closed: Option<Closed>,
}

/// What is to be done next by the driver.
#[derive(Debug)]
pub struct Turn {
    /// A frame to send now.
    pub frame: Option<Frame>,
    /// Without one: when to come again, unless woken before.
    pub due: Option<Instant>,
}

impl Mux {
    /// Of a device.
    pub fn of_device() -> Arc<Self> {
        let config =
            EndpointConfig { buffers_max_bytes: BUFFERS_MAX_BYTES, ..EndpointConfig::default() };
        Self::new(Side::Device, config, Instant::now())
    }

    pub fn new(side: Side, config: EndpointConfig, now: Instant) -> Arc<Self> {
        let state = State {
            endpoint: Endpoint::new(side, config),
            streams: HashMap::new(),
            listeners: HashMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new(), began: now })
    }

    fn now(&self) -> Tick {
        Tick::from_us(self.began.elapsed().as_micros() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the machine; wakes whoever that concerns.
    fn step<R>(&self, action: impl FnOnce(&mut Endpoint, Tick) -> R) -> R {
        let mut state = self.lock();
        let result = action(&mut state.endpoint, self.now());
        self.tell(&mut state);
        drop(state);
        self.wake.notify_one();
        result
    }

    fn tell(&self, state: &mut State) {
        while let Some((key, changes)) = state.endpoint.poll_change() {
            if changes.is_new {
                self.offer(state, key);
            }
            let Some(watch) = state.streams.get_mut(&key) else { continue };
            watch.is_delivered |= changes.is_delivered;
            if changes.closed.is_some() {
                watch.closed = changes.closed;
            }
            watch.changed.notify_waiters();
        }
    }

    fn offer(&self, state: &mut State, key: StreamKey) {
        state.streams.insert(key, Watch::default());
        let is_taken =
            state.listeners.get(&key.tunnel).is_some_and(|listener| listener.try_send(key).is_ok());
        if !is_taken {
            let closed = Closed::new(CloseCode::Busy, "nobody takes streams here any more");
            // It was new a moment ago.
            let _ = state.endpoint.reset(key, closed, self.now());
        }
    }

    // --- the connection's side --------------------------------------------------

    pub fn on_link_up(&self) {
        self.step(Endpoint::on_link_up);
    }

    pub fn on_link_down(&self) {
        self.step(|endpoint, _| endpoint.on_link_down());
    }

    /// Takes a frame on the task that heard it: who reads its stream is woken before the driver.
    pub fn on_frame(&self, frame: Frame) {
        self.step(|endpoint, now| endpoint.on_frame(frame, now));
    }

    // --- the driver's side ------------------------------------------------------

    /// Takes the next frame, or says when there may be one.
    pub fn turn(&self) -> Turn {
        let mut state = self.lock();
        let now = self.now();
        state.endpoint.on_time(now);
        let frame = state.endpoint.poll_transmit(now);
        let due = state
            .endpoint
            .next_due(now)
            .map(|due| Instant::now() + std::time::Duration::from_micros(due.us_since(now)));
        self.tell(&mut state);
        Turn { frame, due }
    }

    /// Waits until there may be something to send.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Knows a tunnel; its new streams come from the receiver. `None` when the handle is in use.
    pub fn add_tunnel(
        self: &Arc<Self>,
        tunnel: u32,
        incoming: StreamConfig,
        streams_max: usize,
    ) -> Option<Streams> {
        let mut state = self.lock();
        if !state.endpoint.add_tunnel(tunnel, incoming) {
            return None;
        }
        let (to, from) = mpsc::channel(streams_max);
        state.listeners.insert(tunnel, to);
        Some(Streams { mux: Arc::clone(self), from })
    }

    /// Forgets a tunnel; tasks of its streams find them closed.
    pub fn remove_tunnel(&self, tunnel: u32) {
        let mut state = self.lock();
        state.endpoint.remove_tunnel(tunnel);
        state.listeners.remove(&tunnel);
        state.streams.retain(|key, watch| {
            watch.changed.notify_waiters();
            key.tunnel != tunnel
        });
    }

    /// Opens a stream of our own.
    pub fn open(self: &Arc<Self>, tunnel: u32, config: StreamConfig) -> Result<Stream, Refused> {
        let key = self.step(|endpoint, now| endpoint.open(tunnel, config, now))?;
        self.lock().streams.insert(key, Watch::default());
        Ok(Stream { mux: Arc::clone(self), key })
    }
}

/// The new streams of one tunnel.
#[derive(Debug)]
pub struct Streams {
    mux: Arc<Mux>,
    from: mpsc::Receiver<StreamKey>,
}

impl Streams {
    /// Waits for the next; `None` when the tunnel is removed.
    pub async fn recv(&mut self) -> Option<Stream> {
        let key = self.from.recv().await?;
        Some(Stream { mux: Arc::clone(&self.mux), key })
    }
}

/// One stream, for the tasks that read and write it; the last one gone forgets it.
#[derive(Debug)]
pub struct Stream {
    mux: Arc<Mux>,
    key: StreamKey,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.mux.lock();
        let was_open = state.streams.remove(&self.key).is_some_and(|watch| watch.closed.is_none());
        if was_open {
            let closed = Closed::new(CloseCode::Internal, "nobody serves the stream any more");
            // Nothing is there to be reset when the tunnel is gone.
            let _ = state.endpoint.reset(self.key, closed, self.mux.now());
            self.mux.wake.notify_one();
        }
    }
}

impl Stream {
    pub const fn key(&self) -> StreamKey {
        self.key
    }

    /// Tries `action` now and after each change, until it gives something or the stream is closed.
    async fn until<R>(
        &self,
        mut action: impl FnMut(&mut Endpoint, &Known, Tick) -> Option<R>,
    ) -> Result<R, Closed> {
        let changed = {
            let state = self.mux.lock();
            match state.streams.get(&self.key) {
                Some(watch) => Arc::clone(&watch.changed),
                None => return Err(Closed::new(CloseCode::Unknown, "")),
            }
        };
        loop {
            let mut notified = pin!(changed.notified());
            notified.as_mut().enable();
            {
                let mut state = self.mux.lock();
                let known = state.streams.get(&self.key).map(|watch| Known {
                    is_delivered: watch.is_delivered,
                    closed: watch.closed.clone(),
                });
                let Some(known) = known else {
                    return Err(Closed::new(CloseCode::Unknown, ""));
                };
                let result = action(&mut state.endpoint, &known, self.mux.now());
                self.mux.tell(&mut state);
                drop(state);
                self.mux.wake.notify_one();
                if let Some(result) = result {
                    return Ok(result);
                }
                if let Some(closed) = known.closed {
                    return Err(closed);
                }
            }
            notified.await;
        }
    }

    /// Writes all of it, waiting for room.
    pub async fn write(&self, mut bytes: Bytes) -> Result<(), Closed> {
        self.until(|endpoint, _, _| {
            let is_written = endpoint.write(self.key, &mut bytes).is_ok() && bytes.is_empty();
            is_written.then_some(())
        })
        .await
    }

    /// Writes a mark, waiting for room.
    pub async fn mark(&self, mark: Mark) -> Result<(), Closed> {
        self.until(|endpoint, _, _| matches!(endpoint.mark(self.key, mark), Ok(true)).then_some(()))
            .await
    }

    /// Reads the next item, and the offset to make safe once it is.
    pub async fn read(&self, most_bytes: usize) -> Result<(Item, u64), Closed> {
        self.until(|endpoint, _, now| endpoint.read(self.key, most_bytes, now)).await
    }

    pub fn make_safe(&self, until: u64) {
        self.mux.step(|endpoint, now| endpoint.make_safe(self.key, until, now));
    }

    /// Ends our direction.
    pub fn finish(&self) {
        // One that is over needs no end.
        let _ = self.mux.step(|endpoint, _| endpoint.finish(self.key));
    }

    /// Ends the stream now.
    pub fn reset(&self, closed: Closed) {
        let _ = self.mux.step(|endpoint, now| endpoint.reset(self.key, closed, now));
    }

    /// Waits until the peer has everything, the end included; `Ok` also for a stream that finished.
    pub async fn delivered(&self) -> Result<(), Closed> {
        self.until(|_, known, _| {
            let is_finished =
                known.closed.as_ref().is_some_and(|closed| closed.code == CloseCode::Finished);
            (known.is_delivered || is_finished).then_some(())
        })
        .await
    }

    /// Waits until both directions are over.
    pub async fn closed(&self) -> Closed {
        match self.until(|_, known, _| known.closed.clone()).await {
            Ok(closed) | Err(closed) => closed,
        }
    }
}

/// What is known of a stream at one moment.
#[derive(Debug)]
struct Known {
    is_delivered: bool,
    closed: Option<Closed>,
}
