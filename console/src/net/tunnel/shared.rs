//! The machine of one tunnel, made awaitable: a task reads and writes one stream
//! as it would a socket, the driver moves the messages of all.
//!
//! The machine stands behind a lock that is held for one step at a time, never
//! across an await.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::tunnel::{
    Item, StreamKey, Tick,
    close::CloseCode,
    endpoint::{Endpoint, Refused},
    mark::Mark,
    stream::{Closed, StreamConfig},
};
use tokio::{sync::Notify, time::Instant};

use super::{
    Ended,
    machine::{Machine, Outgoing},
};

/// The machine, and who waits for what of it.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<Inner>,
    /// Something may leave.
    wake: Notify,
    /// The owner, or who takes new streams, may want to know something.
    news: Notify,
    /// Something was taken that waited to be shown.
    taken: Notify,
    began: Instant,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) machine: Machine,
    streams: HashMap<StreamKey, Watch>,
    /// Streams that the device opened and nobody took yet; as many as may be open.
    incoming: VecDeque<StreamKey>,
}

/// Who waits for a stream, and what it is to know.
#[derive(Debug, Default)]
struct Watch {
    changed: Arc<Notify>,
    is_delivered: bool,
    closed: Option<Closed>,
}

/// What the driver does next.
#[derive(Debug)]
pub(super) struct Turn {
    pub message: Option<Outgoing>,
    /// Without a message: when to come again, unless woken before.
    pub due: Option<Instant>,
}

impl Shared {
    pub(super) fn new(make: impl FnOnce(Tick) -> Machine) -> Self {
        let inner = Inner {
            machine: make(Tick::default()),
            streams: HashMap::new(),
            incoming: VecDeque::new(),
        };
        Self {
            state: Mutex::new(inner),
            wake: Notify::new(),
            news: Notify::new(),
            taken: Notify::new(),
            began: Instant::now(),
        }
    }

    fn now(&self) -> Tick {
        Tick::from_us(self.began.elapsed().as_micros() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the machine, and changes nothing.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Machine, Tick) -> R) -> R {
        look(&self.lock().machine, self.now())
    }

    /// Does something to the machine; wakes whoever that concerns.
    pub(super) fn step<R>(&self, action: impl FnOnce(&mut Machine, Tick) -> R) -> R {
        let mut inner = self.lock();
        let result = action(&mut inner.machine, self.now());
        self.tell(&mut inner);
        drop(inner);
        self.wake.notify_one();
        result
    }

    fn tell(&self, inner: &mut Inner) {
        let Inner { machine, streams, incoming } = inner;
        let mut has_news = machine.has_pieces() || machine.has_news(self.now());
        if let Some(endpoint) = machine.endpoint() {
            while let Some((key, changes)) = endpoint.poll_change() {
                if changes.is_new {
                    streams.insert(key, Watch::default());
                    incoming.push_back(key);
                    has_news = true;
                }
                let Some(watch) = streams.get_mut(&key) else { continue };
                watch.is_delivered |= changes.is_delivered;
                if changes.closed.is_some() {
                    watch.closed = changes.closed;
                }
                watch.changed.notify_waiters();
            }
        }
        if machine.ended().is_some() {
            for watch in streams.values() {
                watch.changed.notify_waiters();
            }
            has_news = true;
        }
        if has_news {
            self.news.notify_waiters();
        }
        if machine.has_room() {
            self.taken.notify_waiters();
        }
    }

    // --- the driver's side ------------------------------------------------------

    /// Takes the next message, or says when there may be one.
    pub(super) fn turn(&self) -> Turn {
        let mut inner = self.lock();
        let now = self.now();
        let message = inner.machine.poll_message(now);
        let due = match message {
            Some(_) => None,
            None => inner
                .machine
                .next_due(now)
                .map(|due| Instant::now() + Duration::from_micros(due.us_since(now))),
        };
        self.tell(&mut inner);
        Turn { message, due }
    }

    /// Waits until there may be something to send.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Waits until what comes next has a place.
    pub(super) async fn has_room(&self) {
        self.until(&self.taken, |inner, _| inner.machine.has_room().then_some(())).await;
    }

    // --- waiting ----------------------------------------------------------------

    /// Tries `action` now and whenever `changed` says, until it gives something.
    async fn until<R>(
        &self,
        changed: &Notify,
        mut action: impl FnMut(&mut Inner, Tick) -> Option<R>,
    ) -> R {
        loop {
            let mut notified = pin!(changed.notified());
            notified.as_mut().enable();
            {
                let mut inner = self.lock();
                if let Some(result) = action(&mut inner, self.now()) {
                    self.tell(&mut inner);
                    return result;
                }
                // Nothing happened: to tell of it would wake who waits here, for ever.
            }
            notified.await;
        }
    }

    /// Tries `action` now and with all news, until it gives something.
    pub(super) async fn until_news<R>(
        &self,
        mut action: impl FnMut(&mut Machine, Tick) -> Option<R>,
    ) -> R {
        let result = self.until(&self.news, |inner, now| action(&mut inner.machine, now)).await;
        self.wake.notify_one();
        result
    }

    /// Opens a stream towards the device.
    pub(super) fn open(self: &Arc<Self>, config: StreamConfig) -> Result<Stream, Refused> {
        let key = self.step(|machine, now| machine.open(config, now))?;
        self.lock().streams.insert(key, Watch::default());
        Ok(Stream { shared: Arc::clone(self), key })
    }

    /// Waits for a stream that the device opens.
    pub(super) async fn accept(self: &Arc<Self>) -> Result<Stream, Ended> {
        let key = self
            .until(&self.news, |inner, _| match inner.incoming.pop_front() {
                Some(key) => Some(Ok(key)),
                None => inner.machine.ended().cloned().map(Err),
            })
            .await?;
        Ok(Stream { shared: Arc::clone(self), key })
    }
}

/// One stream, for the tasks that read and write it. Dropped while it is open, it is reset.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    key: StreamKey,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        let was_open = inner.streams.remove(&self.key).is_some_and(|watch| watch.closed.is_none());
        if was_open {
            let closed = Closed::new(CloseCode::ConnectionLost, "the other end is gone");
            let now = self.shared.now();
            if let Some(endpoint) = inner.machine.endpoint() {
                // What is not there need not be reset.
                let _ = endpoint.reset(self.key, closed, now);
            }
            self.shared.wake.notify_one();
        }
    }
}

impl Stream {
    /// Tries `action` now and after each change, until it gives something or the stream is over.
    async fn until<R>(
        &self,
        mut action: impl FnMut(&mut Endpoint, &Known, Tick) -> Option<R>,
    ) -> Result<R, Closed> {
        let changed = match self.shared.lock().streams.get(&self.key) {
            Some(watch) => Arc::clone(&watch.changed),
            None => return Err(Closed::new(CloseCode::Unknown, "")),
        };
        let step = |inner: &mut Inner, now| {
            let Inner { machine, streams, .. } = inner;
            let watch = streams.get(&self.key);
            let ended = machine.ended().map(Ended::closed);
            let known = Known {
                is_delivered: watch.is_some_and(|watch| watch.is_delivered),
                closed: watch.and_then(|watch| watch.closed.clone()).or(ended),
            };
            let endpoint = machine.endpoint()?;
            match action(endpoint, &known, now) {
                Some(result) => Some(Ok(result)),
                None => known.closed.map(Err),
            }
        };
        let result = self.shared.until(&changed, step).await;
        self.shared.wake.notify_one();
        result
    }

    /// Writes all of it, waiting for room.
    pub async fn write(&self, mut bytes: Bytes) -> Result<(), Closed> {
        self.until(|endpoint, _, _| {
            let before = bytes.len();
            let is_written = endpoint.write(self.key, &mut bytes).is_ok() && bytes.is_empty();
            if bytes.len() < before {
                self.shared.wake.notify_one();
            }
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

    /// Lets the device forget everything before `until`.
    pub fn make_safe(&self, until: u64) {
        self.shared.step(|machine, now| {
            if let Some(endpoint) = machine.endpoint() {
                endpoint.make_safe(self.key, until, now);
            }
        });
    }

    /// Ends our direction after what was written.
    pub fn finish(&self) {
        self.shared.step(|machine, _| {
            if let Some(endpoint) = machine.endpoint() {
                // One that is over needs no end.
                let _ = endpoint.finish(self.key);
            }
        });
    }

    /// Ends the stream now.
    pub fn reset(&self, closed: Closed) {
        self.shared.step(|machine, now| {
            if let Some(endpoint) = machine.endpoint() {
                let _ = endpoint.reset(self.key, closed, now);
            }
        });
    }

    /// Waits until the device has everything, the end included.
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

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::api::TunnelKind;

    use super::*;

    #[tokio::test]
    async fn news_that_nobody_takes_keep_no_other_waiter_busy() {
        let shared = Arc::new(Shared::new(|now| Machine::new(TunnelKind::Exec, None, now)));
        shared.step(|machine, now| machine.on_lost("cut".to_owned(), now));
        let waiting = shared.until_news(|machine, _| machine.leaving());
        // A waiter that wakes itself would never let the time pass.
        let ended = tokio::time::timeout(Duration::from_millis(20), waiting).await;
        assert!(ended.is_err(), "{ended:?}");
        let again = shared.until_news(|machine, now| machine.take_news(now).then_some(()));
        tokio::time::timeout(Duration::from_mins(1), again).await.expect("it is still there");
    }
}
