//! What the scripts of one command write, on its way to who tells the server.
//!
//! ```text
//!  pipes ─ push ─▶ two captures ─ due ─▶ chunks ─▶ the server
//!    ▲                  │
//!    └───── room ◀──────┘
//! ```
//!
//! One for all scripts of a command, one after the other, so what is told goes on from
//! state to state. Who pushes never waits; who reads a program's pipes waits for room
//! before it reads more, so a program is slowed as if somebody looked on, and memory is
//! bounded whatever it writes.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::output::{Capture, Chunk, FLUSH_AFTER_MS};
use crate::work::Stream;

/// What may wait to be told, of each stream, before no more is read.
const WAITING_MAX_BYTES: usize = 64 * 1024;

/// The output of one command's scripts.
#[derive(Debug, Default)]
pub struct LiveOutput {
    streams: Mutex<Streams>,
    /// Something is to be told.
    news: Notify,
    /// Something was told, or nobody listens any more.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Streams {
    stdout: Capture,
    stderr: Capture,
    /// When what waits must be told.
    due_at: Option<Instant>,
    /// Nobody listens any more.
    is_closed: bool,
}

impl Streams {
    const fn of(&mut self, stream: Stream) -> &mut Capture {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    const fn both(&self) -> [&Capture; 2] {
        [&self.stdout, &self.stderr]
    }
}

impl LiveOutput {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- who reads the programs ---------------------------------------------------

    /// Takes what a program has written.
    pub fn push(&self, stream: Stream, bytes: &[u8]) {
        let mut streams = self.streams();
        if streams.is_closed {
            return;
        }
        streams.of(stream).push(bytes);
        self.tell_news(&mut streams);
    }

    /// Notes that a program is over: a character that it did not finish never will be.
    pub fn end_of_program(&self) {
        let mut streams = self.streams();
        streams.stdout.finish();
        streams.stderr.finish();
        self.tell_news(&mut streams);
    }

    fn tell_news(&self, streams: &mut Streams) {
        let is_first = streams.due_at.is_none() && streams.both().iter().any(|c| c.has_chunk());
        if is_first {
            streams.due_at = Some(Instant::now() + Duration::from_millis(FLUSH_AFTER_MS));
        }
        if is_first || streams.both().iter().any(|capture| capture.has_full_chunk()) {
            self.news.notify_one();
        }
    }

    /// Waits until more may be read.
    pub async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            let has_room = {
                let streams = self.streams();
                let is_small = |capture: &&Capture| capture.waiting_bytes() < WAITING_MAX_BYTES;
                streams.is_closed || streams.both().iter().all(is_small)
            };
            if has_room {
                return;
            }
            freed.await;
        }
    }

    // --- who tells the server -----------------------------------------------------

    /// Waits until something is to be told: enough for a chunk, or something that has waited
    /// for more long enough.
    pub async fn due(&self) {
        loop {
            let due_at = {
                let streams = self.streams();
                if streams.both().iter().any(|capture| capture.has_full_chunk()) {
                    return;
                }
                streams.due_at
            };
            let Some(due_at) = due_at else {
                self.news.notified().await;
                continue;
            };
            tokio::select! {
                () = self.news.notified() => {}
                () = sleep_until(due_at) => return,
            }
        }
    }

    /// Takes all that is to be told.
    pub fn take(&self) -> Vec<(Stream, Chunk)> {
        let mut streams = self.streams();
        streams.due_at = None;
        let mut chunks = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let capture = streams.of(stream);
            while let Some(chunk) = capture.take_chunk() {
                chunks.push((stream, chunk));
            }
        }
        self.freed.notify_waiters();
        chunks
    }

    /// Says that nobody listens any more; gives the whole of both streams, capped, where
    /// there was something.
    pub fn close(&self) -> [Option<String>; 2] {
        let mut streams = self.streams();
        streams.is_closed = true;
        self.freed.notify_waiters();
        streams.both().map(|capture| (!capture.is_empty()).then(|| capture.whole()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::io::output::CHUNK_MAX_BYTES;

    fn told(output: &LiveOutput) -> Vec<(Stream, u64, String)> {
        let chunks = output.take().into_iter();
        chunks.map(|(stream, chunk)| (stream, chunk.offset, chunk.text)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_little_output_waits_for_more_and_is_told_in_time() {
        let output = LiveOutput::default();
        assert!(output.due().now_or_never().is_none(), "there is nothing to tell");
        let begun = Instant::now();
        output.push(Stream::Stdout, b"a");
        assert!(output.due().now_or_never().is_none());
        tokio::time::sleep(Duration::from_millis(100)).await;
        output.push(Stream::Stderr, b"b");
        output.due().await;
        // The timer counts whole milliseconds.
        assert!((150..=152).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        let expected = [(Stream::Stdout, 0, "a".to_owned()), (Stream::Stderr, 0, "b".to_owned())];
        assert_eq!(told(&output), expected);
        assert!(output.due().now_or_never().is_none(), "all is told");
    }

    #[tokio::test(start_paused = true)]
    async fn offsets_go_on_from_one_script_to_the_next() {
        let output = LiveOutput::default();
        output.push(Stream::Stdout, "one\u{e9}".as_bytes().split_last().expect("some").1);
        output.end_of_program();
        assert_eq!(told(&output), [(Stream::Stdout, 0, "one\u{fffd}".to_owned())]);
        output.push(Stream::Stdout, b"two");
        output.end_of_program();
        assert_eq!(told(&output), [(Stream::Stdout, 6, "two".to_owned())]);
        assert_eq!(output.close(), [Some("one\u{fffd}two".to_owned()), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_at_once_and_waits_for_room() {
        let output = LiveOutput::default();
        output.push(Stream::Stdout, &[b'x'; CHUNK_MAX_BYTES]);
        assert!(output.due().now_or_never().is_some(), "a whole chunk does not wait");
        assert!(output.room().now_or_never().is_some());
        output.push(Stream::Stdout, &vec![b'x'; WAITING_MAX_BYTES]);
        let mut room = Box::pin(output.room());
        assert!((&mut room).now_or_never().is_none());
        assert_eq!(output.take().len(), WAITING_MAX_BYTES / CHUNK_MAX_BYTES + 1);
        assert!(room.now_or_never().is_some());
        output.push(Stream::Stderr, &vec![b'x'; WAITING_MAX_BYTES]);
        let mut room = Box::pin(output.room());
        assert!((&mut room).now_or_never().is_none());
        output.close();
        assert!(room.now_or_never().is_some(), "nobody listens: nothing holds it up");
        output.push(Stream::Stderr, &vec![b'x'; WAITING_MAX_BYTES]);
        assert!(output.room().now_or_never().is_some());
    }
}
