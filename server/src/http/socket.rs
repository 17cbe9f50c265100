//! A connection's bytes, within limits: how long a peer may take nothing of what is written to
//! it, and what is done with the rest of a request that was answered before all of it was read.
//!
//! ```text
//!  answered ── all read ──────────────▶ closed
//!     └─ unread ─▶ our end shut ─▶ rest thrown away ── the peer ends, or a limit ──▶ closed
//!  a WebSocket dropped ─┘
//! ```
//!
//! A socket that is closed with something unread tells the peer "reset": many a sender loses the
//! answer over that, since it writes its whole request first (RFC 9112, 9.6). So is the last
//! message and the close frame of a WebSocket whose peer was still sending.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::{Instant, Sleep},
};

/// How long a peer may go on with a request that was answered, in milliseconds.
pub const LINGER_MAX_MS: u64 = 10_000;
/// How long it may bring nothing meanwhile, in milliseconds.
pub const LINGER_IDLE_MS: u64 = 2_000;
/// How much of it is thrown away, in bytes.
pub const LINGER_MAX_BYTES: u64 = 64 * 1024 * 1024;
const CHUNK_BYTES: usize = 8 * 1024;
/// How long a peer may take nothing of what is written to it, in milliseconds.
pub const WRITE_STALL_MS: u64 = 30_000;

/// Whether something of the last request of a connection was left unread.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    is_unread: AtomicBool,
    is_upgraded: AtomicBool,
}

impl Unread {
    /// Takes note of a request's body, and passes it on.
    pub(super) fn watch(&self, body: Incoming) -> Watched {
        self.0.is_unread.store(false, Ordering::Relaxed);
        Watched { body, is_ended: false, unread: self.clone() }
    }

    /// The connection is a WebSocket's from now on, which ends by being dropped.
    pub(super) fn upgraded(&self) {
        self.0.is_upgraded.store(true, Ordering::Relaxed);
    }
}

/// A request's body that tells when it is dropped before its end.
#[derive(Debug)]
pub(super) struct Watched {
    body: Incoming,
    is_ended: bool,
    unread: Unread,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let is_read = self.is_ended || self.body.is_end_stream();
        self.unread.0.is_unread.store(!is_read, Ordering::Relaxed);
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        // A chunked body knows its end only here.
        self.is_ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose writes fail when the peer takes nothing for [`WRITE_STALL_MS`], and that
/// reads on for a while when it is shut with something unread.
#[derive(Debug)]
pub(super) struct Socket<S: Stream> {
    /// Until it is dropped.
    stream: Option<S>,
    stall: Stall,
    unread: Unread,
    rest: Option<Rest>,
}

/// What can linger in a task of its own.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Since when the peer takes nothing, if it does not.
#[derive(Debug)]
struct Stall(Option<Pin<Box<Sleep>>>);

impl Stall {
    /// Passes on what a write said, unless it has been pending for too long.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.0 = None;
            return written;
        }
        let limit = Duration::from_millis(WRITE_STALL_MS);
        let over = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match over.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What is still taken of a peer.
#[derive(Debug)]
struct Rest {
    end: Instant,
    /// At `end`, or when the peer has brought nothing for long enough.
    over: Pin<Box<Sleep>>,
    bytes: u64,
}

impl<S: Stream> Socket<S> {
    pub(super) const fn new(stream: S, unread: Unread) -> Self {
        Self { stream: Some(stream), stall: Stall(None), unread, rest: None }
    }

    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.as_mut().expect("taken only when dropped"))
    }
}

impl<S: Stream> Drop for Socket<S> {
    fn drop(&mut self) {
        if !self.unread.0.is_upgraded.load(Ordering::Relaxed) || self.rest.is_some() {
            return;
        }
        let Some(mut stream) = self.stream.take() else { return };
        tokio::spawn(async move {
            if stream.shutdown().await.is_ok() {
                let mut rest = Rest::new();
                std::future::poll_fn(|context| rest.poll(&mut stream, context)).await;
            }
        });
    }
}

impl Rest {
    fn new() -> Self {
        let now = Instant::now();
        let over = tokio::time::sleep(Duration::from_millis(LINGER_IDLE_MS));
        Self { end: now + Duration::from_millis(LINGER_MAX_MS), over: Box::pin(over), bytes: 0 }
    }

    /// Takes note of what came; `false` when it is enough.
    fn came(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        let idle = Instant::now() + Duration::from_millis(LINGER_IDLE_MS);
        self.over.as_mut().reset(idle.min(self.end));
        self.bytes < LINGER_MAX_BYTES
    }

    /// Throws away what comes, until the peer ends or a limit is reached.
    fn poll(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            if self.over.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut chunk);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            let bytes = buffer.filled().len();
            if read.is_err() || bytes == 0 || !self.came(bytes) {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: Stream> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl<S: Stream> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(context, buffer);
        self.stall.watch(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(context, buffers);
        self.stall.watch(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream().poll_flush(context);
        self.stall.watch(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            ready!(self.stream().poll_shutdown(context))?;
            if !self.unread.0.is_unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let Self { stream, rest, .. } = &mut *self;
        let Some(stream) = stream else { return Poll::Ready(Ok(())) };
        rest.get_or_insert_with(Rest::new).poll(stream, context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn connection(unread: bool) -> (Socket<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let flag = Unread::default();
        flag.0.is_unread.store(unread, Ordering::Relaxed);
        (Socket::new(ours, flag), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_all_read_is_closed_at_once() {
        let (mut ours, _theirs) = connection(false);
        let started = Instant::now();
        ours.shutdown().await.expect("shut");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_writes_on_is_heard_to_its_end_and_has_our_end_before() {
        let (mut ours, mut theirs) = connection(true);
        let peer = tokio::spawn(async move {
            assert_eq!(theirs.read(&mut [0; 8]).await.expect("our end"), 0);
            theirs.write_all(&vec![0; 4 * 1024 * 1024]).await.expect("heard");
        });
        ours.shutdown().await.expect("shut");
        peer.await.expect("no failure");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_brings_nothing_or_never_ends_is_given_up() {
        let (mut ours, _theirs) = connection(true);
        let started = Instant::now();
        ours.shutdown().await.expect("shut");
        let idle = Duration::from_millis(LINGER_IDLE_MS);
        assert!((idle..idle * 2).contains(&started.elapsed()), "{:?}", started.elapsed());

        let (mut ours, mut theirs) = connection(true);
        let drip = tokio::spawn(async move {
            while theirs.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(idle / 2).await;
            }
        });
        let started = Instant::now();
        ours.shutdown().await.expect("shut");
        drop(ours);
        let most = Duration::from_millis(LINGER_MAX_MS);
        assert!((most..most * 2).contains(&started.elapsed()), "{:?}", started.elapsed());
        drip.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_websocket_that_is_dropped_takes_what_its_peer_still_sends() {
        let (ours, mut theirs) = connection(false);
        ours.unread.upgraded();
        drop(ours);
        assert_eq!(theirs.read(&mut [0; 8]).await.expect("our end"), 0);
        theirs.write_all(&vec![0; 4 * 1024 * 1024]).await.expect("heard");
    }

    const LIMIT: Duration = Duration::from_millis(WRITE_STALL_MS);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_the_limit() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut guard = Socket::new(ours, Unread::default());
        let started = Instant::now();
        let error = guard.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((LIMIT..LIMIT * 2).contains(&started.elapsed()), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_now_and_then_is_served() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut guard = Socket::new(ours, Unread::default());
        let reading = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(LIMIT * 2 / 3).await;
                theirs.read_exact(&mut [0; 8]).await.expect("open");
            }
        });
        guard.write_all(&[0; 64]).await.expect("slow, but never for too long");
        reading.await.expect("no panic");
    }
}
