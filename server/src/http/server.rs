//! Accepts HTTP connections, within limits.
//!
//! ```text
//!  accept ── a place free? ──▶ head within 20 s ──▶ route ──▶ answer ──▶ next head …
//!    │ all taken: wait, the kernel queues                       │
//!    └── stopping: no more                     a peer that takes no byte for 30 s is closed
//! ```
//!
//! hyper drops what answers a request when the peer hangs up, between any two steps. Here a request
//! that was begun is dealt with to its end all the same: one that saves and then acts does both,
//! or neither. Its connection's place is taken until then.
//!
//! What hyper itself refuses (a head that is no HTTP, or over twice our limits) it answers with 400,
//! 414 or 431 without a body: it has no hook for a problem there. Where a head has both
//! `Transfer-Encoding` and `Content-Length` it goes by the first, answers and closes the connection
//! (RFC 9112, 6.1): what follows is read by nobody. It shows us no trace of the second, so we
//! cannot refuse it, and a parser of our own before hyper's would be one more to disagree with.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::{IntoResponse as _, Response},
};
use hyper::{StatusCode, body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    head::{FIELDS_MAX, HEAD_MAX_BYTES},
    problem::Error,
    socket::{Socket, Unread},
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
        let place = Arc::new(place);
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
        let requests = Requests { router: router.clone(), tracker: tracker.clone(), place };
        let stop = stop.clone();
        tracker.spawn(async move {
            metrics::gauge!("quarterdeck_http_connections").increment(1.0);
            serve_one(stream, peer, requests, stop).await;
            metrics::gauge!("quarterdeck_http_connections").decrement(1.0);
        });
    }
}

/// Deals with the requests of one connection.
struct Requests {
    router: Router,
    tracker: TaskTracker,
    place: Arc<OwnedSemaphorePermit>,
}

impl Requests {
    /// Answers a request, or begins to: dropped, it is dealt with all the same.
    fn answer(&self, request: Request) -> impl Future<Output = Response> + use<> {
        let (router, place) = (self.router.clone(), Arc::clone(&self.place));
        let answering = self.tracker.spawn(async move {
            let Ok(answer) = router.oneshot(request).await;
            drop(place);
            answer
        });
        async move { answering.await.unwrap_or_else(|_| Error::internal().into_response()) }
    }
}

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    requests: Requests,
    stop: CancellationToken,
) {
    let unread = Unread::default();
    let stream = Socket::new(stream, unread.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        let answer = requests.answer(request.map(|body| Body::new(unread.watch(body))));
        let unread = unread.clone();
        async move {
            let answer = answer.await;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                unread.upgraded();
            }
            Ok::<_, Infallible>(answer)
        }
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

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::{Notify, mpsc},
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_request_is_dealt_with_to_its_end_when_its_client_hangs_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (tell, mut told) = mpsc::unbounded_channel();
        let go_on = Arc::new(Notify::new());
        let waits = Arc::clone(&go_on);
        let save_and_act = post(async move || {
            let _ = tell.send("saved");
            waits.notified().await;
            let _ = tell.send("acted");
        });
        let router = Router::new().route("/", save_and_act);
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let serving = serve(listener, router, stop.clone(), tracker.clone());
        let serving = tokio::spawn(serving);

        let mut client = TcpStream::connect(address).await.expect("served");
        let request = b"POST / HTTP/1.1\r\nhost: quarterdeck\r\ncontent-length: 0\r\n\r\n";
        client.write_all(request).await.expect("sent");
        assert_eq!(timeout(SOON, told.recv()).await, Ok(Some("saved")));
        // It sends no more, and learns that the server has noticed.
        client.shutdown().await.expect("half closed");
        assert!(matches!(timeout(SOON, client.read(&mut [0; 8])).await, Ok(Ok(0) | Err(_))));
        go_on.notify_one();
        assert_eq!(timeout(SOON, told.recv()).await, Ok(Some("acted")));

        stop.cancel();
        tracker.close();
        timeout(SOON, tracker.wait()).await.expect("nothing is left");
        serving.await.expect("ended");
    }
}
