//! Closes a connection whose request was answered before all of it was read.
//!
//! ```text
//!  answered ── all read ──────────────▶ closed
//!     └─ unread ─▶ our end shut ─▶ rest thrown away ── the peer ends, or a limit ──▶ closed
//! ```
//!
//! A socket that is closed with something unread tells the peer "reset": many a sender loses the
//! answer over that, since it writes its whole request first (RFC 9112, 9.6).

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
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// How long a peer may go on with a request that was answered, in milliseconds.
pub const LINGER_MAX_MS: u64 = 10_000;
/// How long it may bring nothing meanwhile, in milliseconds.
pub const LINGER_IDLE_MS: u64 = 2_000;
/// How much of it is thrown away, in bytes.
pub const LINGER_MAX_BYTES: u64 = 64 * 1024 * 1024;
const CHUNK_BYTES: usize = 8 * 1024;

/// Whether something of the last request of a connection was left unread.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Takes note of a request's body, and passes it on.
    pub(super) fn watch(&self, body: Incoming) -> Watched {
        self.0.store(false, Ordering::Relaxed);
        Watched { body, is_ended: false, unread: self.clone() }
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
        self.unread.0.store(!is_read, Ordering::Relaxed);
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

/// A connection that reads on for a while when it is shut with something unread.
#[derive(Debug)]
pub(super) struct Lingering<S> {
    stream: S,
    unread: Unread,
    rest: Option<Rest>,
}

/// What is still taken of a peer.
#[derive(Debug)]
struct Rest {
    end: Instant,
    /// At `end`, or when the peer has brought nothing for long enough.
    over: Pin<Box<Sleep>>,
    bytes: u64,
}

impl<S> Lingering<S> {
    pub(super) const fn new(stream: S, unread: Unread) -> Self {
        Self { stream, unread, rest: None }
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
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Throws away what comes, until the peer ends or a limit is reached.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let rest = self.rest.get_or_insert_with(Rest::new);
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            if rest.over.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut chunk);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            let bytes = buffer.filled().len();
            if read.is_err() || bytes == 0 || !rest.came(bytes) {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.unread.0.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_rest(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn connection(unread: bool) -> (Lingering<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let flag = Unread::default();
        flag.0.store(unread, Ordering::Relaxed);
        (Lingering::new(ours, flag), theirs)
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
}
