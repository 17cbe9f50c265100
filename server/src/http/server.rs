//! Accepts HTTP connections, within limits.
//!
//! ```text
//!  accept ── a place free? ──▶ head within 20 s ──▶ route ──▶ answer ──▶ next head …
//!    │ all taken: wait, the kernel queues                       │
//!    └── stopping: no more                     a peer that takes no byte for 30 s is closed
//! ```
//!
//! What hyper itself refuses (a head that is no HTTP, or over twice our limits) it answers with 400,
//! 414 or 431 without a body: it has no hook for a problem there. Where a head has both
//! `Transfer-Encoding` and `Content-Length` it goes by the first, answers and closes the connection
//! (RFC 9112, 6.1): what follows is read by nobody. It shows us no trace of the second, so we
//! cannot refuse it, and a parser of our own before hyper's would be one more to disagree with.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    head::{FIELDS_MAX, HEAD_MAX_BYTES},
    linger::{Lingering, Unread},
};

/// Connections that may be open at once; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 4_096;
/// How long a request's head may take, from an idle connection on, in milliseconds.
pub const HEAD_TIMEOUT_MS: u64 = 20_000;
/// The longest head that is parsed, in bytes: room to say of one over the limit that it is.
const HEAD_PARSED_MAX_BYTES: usize = 2 * HEAD_MAX_BYTES;
/// What a connection holds of what it reads, and of what it writes, in bytes.
const BUFFER_MAX_BYTES: usize = 64 * 1024;
/// The most header fields that are parsed.
const FIELDS_PARSED_MAX: usize = 2 * FIELDS_MAX;
/// How long a peer may take nothing of what is written to it, in milliseconds.
pub const WRITE_STALL_MS: u64 = 30_000;
/// The wait after an accept that failed, e.g. for want of file descriptors, in milliseconds.
const ACCEPT_RETRY_MS: u64 = 50;

/// The address of a connection's other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Serves until `stop`; then takes no more connections and lets those that are open end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                continue;
            }
        };
        // Small answers leave at once.
        let _ = stream.set_nodelay(true);
        let (router, stop) = (router.clone(), stop.clone());
        tracker.spawn(async move {
            metrics::gauge!("quarterdeck_http_connections").increment(1.0);
            serve_one(stream, peer, router, stop).await;
            metrics::gauge!("quarterdeck_http_connections").decrement(1.0);
            drop(place);
        });
    }
}

async fn serve_one(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let unread = Unread::default();
    let stream = Lingering::new(StallGuard::new(stream), unread.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        router.clone().oneshot(request.map(|body| Body::new(unread.watch(body))))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_TIMEOUT_MS))
        .max_headers(FIELDS_PARSED_MAX)
        .max_header_size(HEAD_PARSED_MAX_BYTES)
        .max_buf_size(BUFFER_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "an HTTP connection ended");
    }
}

/// A connection whose writes fail when the peer takes nothing for [`WRITE_STALL_MS`].
#[derive(Debug)]
pub struct StallGuard<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> StallGuard<S> {
    pub const fn new(stream: S) -> Self {
        Self { stream, stalled: None }
    }

    /// Passes on what a write said, unless it has been pending for too long.
    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = Duration::from_millis(WRITE_STALL_MS);
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.watch(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    const LIMIT: Duration = Duration::from_millis(WRITE_STALL_MS);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_the_limit() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut guard = StallGuard::new(ours);
        let started = Instant::now();
        let error = guard.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((LIMIT..LIMIT * 2).contains(&started.elapsed()), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_now_and_then_is_served() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut guard = StallGuard::new(ours);
        let reading = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(LIMIT * 2 / 3).await;
                tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut [0; 8]).await.expect("open");
            }
        });
        guard.write_all(&[0; 64]).await.expect("slow, but never for too long");
        reading.await.expect("no panic");
    }
}
