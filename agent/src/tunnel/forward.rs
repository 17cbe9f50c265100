//! Connections: each stream of the tunnel is one, to where the tunnel leads or
//! from where the device listens. One that is slow holds up none of the others.

use std::sync::Arc;

use quarterdeck_protocol::tunnel::{
    Content, Item,
    close::CloseCode,
    limits::{FRAME_DATA_MAX_BYTES, STREAMS_MAX},
    stream::Closed,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream, lookup_host},
    sync::Semaphore,
    task::JoinSet,
    time::{Duration, timeout},
};

use super::{
    BULK,
    bulk::Bulk,
    mux::{Mux, Stream, Streams},
    policy::{Place, allowed},
};

/// How long a connection may take to be made, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// Finds where a connection may go; refuses what the owner does not allow.
pub(super) async fn resolve(
    places: &[Place],
    host: &str,
    port: u16,
) -> Result<Vec<std::net::SocketAddr>, Closed> {
    let found = timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), lookup_host((host, port))).await;
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let detail = format!("cannot find {host}: {error}");
            return Err(Closed::new(CloseCode::ConnectFailed, detail));
        }
        Err(_) => {
            let detail = format!("cannot find {host}: no answer");
            return Err(Closed::new(CloseCode::ConnectFailed, detail));
        }
    };
    let addresses = allowed(places, host, addresses);
    if addresses.is_empty() {
        let detail =
            format!("the device's owner does not allow {host}:{port} ([tunnels] connect, listen)");
        return Err(Closed::new(CloseCode::NotAllowed, detail));
    }
    Ok(addresses)
}

/// Connects each new stream to `host:port`; runs until the tunnel is removed.
pub(super) async fn connect_all(
    places: Vec<Place>,
    host: String,
    port: u16,
    mut streams: Streams,
) -> Closed {
    let target = Arc::new((places, host, port));
    let mut connections = JoinSet::new();
    while let Some(stream) = streams.recv().await {
        while connections.try_join_next().is_some() {}
        let target = Arc::clone(&target);
        connections.spawn(async move {
            match connect(&target.0, &target.1, target.2).await {
                Ok(socket) => join(socket, &stream).await,
                Err(closed) => stream.reset(closed),
            }
        });
    }
    Closed::new(CloseCode::Finished, "")
}

async fn connect(places: &[Place], host: &str, port: u16) -> Result<TcpStream, Closed> {
    let addresses = resolve(places, host, port).await?;
    let connecting = TcpStream::connect(&addresses[..]);
    let failed = |why: String| {
        Closed::new(CloseCode::ConnectFailed, format!("cannot connect to {host}:{port}: {why}"))
    };
    match timeout(Duration::from_millis(CONNECT_TIMEOUT_MS), connecting).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("no answer".to_owned())),
    }
}

/// Opens a stream for each connection that comes in; runs until it is dropped.
pub(super) async fn accept_all(mux: Arc<Mux>, tunnel: u32, listener: TcpListener) -> Closed {
    let places = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // As many as may be are open: the next waits in the kernel's queue.
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        while connections.try_join_next().is_some() {}
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                return Closed::new(CloseCode::ConnectionLost, format!("cannot listen: {error}"));
            }
        };
        // One that is turned away is broken off: an end would look like the target's.
        break_off_if_dropped(&socket, true);
        match mux.open(tunnel, BULK) {
            Ok(stream) => {
                connections.spawn(async move {
                    join(socket, &stream).await;
                    drop(place);
                });
            }
            Err(refused) => tracing::warn!(%refused, "a connection to a tunnel was turned away"),
        }
    }
}

/// Moves bytes both ways until both directions are over.
async fn join(mut socket: TcpStream, stream: &Stream) {
    // Only a delay would be lost.
    let _ = socket.set_nodelay(true);
    break_off_if_dropped(&socket, true);
    let (mut from, mut to) = socket.split();
    let upwards = async {
        let mut bulk = Bulk::default();
        loop {
            match bulk.read(&mut from).await {
                Ok(0) => {
                    stream.finish();
                    return stream.delivered().await;
                }
                Ok(_) => stream.write(bulk.take()).await?,
                Err(error) => {
                    return Err(Closed::new(CloseCode::ConnectionLost, error.to_string()));
                }
            }
        }
    };
    let downwards = async {
        loop {
            let (item, until) = stream.read(FRAME_DATA_MAX_BYTES).await?;
            let done = match &item {
                Item::Content(Content::Bytes(bytes)) => to.write_all(bytes).await,
                Item::Content(Content::Mark(_)) => Ok(()),
                Item::End => to.shutdown().await,
            };
            if let Err(error) = done {
                return Err(Closed::new(CloseCode::ConnectionLost, error.to_string()));
            }
            stream.make_safe(until);
            if item == Item::End {
                return Ok(());
            }
        }
    };
    match tokio::try_join!(upwards, downwards) {
        Ok(((), ())) => {
            if stream.closed().await.code == CloseCode::Finished {
                break_off_if_dropped(&socket, false);
            }
        }
        Err(closed) => stream.reset(closed),
    }
}

/// Whether whoever is at the other end is to see a connection that broke, should this
/// one be closed now: by us, by the end of its tunnel, or by a kernel whose process is gone.
#[expect(deprecated, reason = "what blocks is a time to linger, of which there is none")]
fn break_off_if_dropped(socket: &TcpStream, breaks_off: bool) {
    // Without it an end that came too early looks like any other.
    let _ = socket.set_linger(breaks_off.then_some(Duration::ZERO));
}
