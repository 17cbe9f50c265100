//! A TCP proxy that does to a connection what networks do.
//!
//! It stands between a client and a server, both of which stay real. Faults
//! change while connections are open, and hold for those to come.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::mangler::Mangler;
use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The most that is read before it is passed on, in bytes.
const CHUNK_MAX_BYTES: usize = 16 * 1024;
/// A slow line passes this many pieces a second, or single bytes.
const SLICES_PER_S: usize = 50;
/// The most that is recorded, in bytes.
const RECORDING_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing: they go as they come.
    #[default]
    None,
    /// Each piece waits this long.
    Delay(Duration),
    /// At most so many bytes a second, each way.
    Throttle { bytes_per_s: u32 },
    /// QoS 0 messages of MQTT are lost, doubled and reordered, in connections made from now on.
    Mangle,
    /// Bytes go nowhere and nobody is told: a cable that was pulled.
    Stall,
    /// New connections are closed at once.
    Refuse,
}

/// A proxy in front of one port of loopback; gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    fault: watch::Sender<Fault>,
    generation: watch::Sender<u64>,
    counts: Arc<Counts>,
    lost: Arc<LostAnswer>,
    _stop: DropGuard,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    /// What clients say, while it is recorded.
    recording: Mutex<Option<Vec<u8>>>,
}

impl Counts {
    fn passed(&self, to_server: bool, bytes: &[u8]) {
        let count = if to_server { &self.to_server } else { &self.to_client };
        count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if to_server
            && let Ok(mut recording) = self.recording.lock()
            && let Some(recording) = &mut *recording
            && recording.len() < RECORDING_MAX_BYTES
        {
            recording.extend_from_slice(bytes);
        }
    }
}

/// Whose next answer does not come: who has said the first text, and then the second.
#[derive(Debug, Default)]
struct LostAnswer(Mutex<Option<(String, String)>>);

impl LostAnswer {
    /// Whether a client that says this gets no answer; `has_begun` is its own.
    fn is_asked(&self, bytes: &[u8], has_begun: &AtomicBool) -> bool {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((first, second)) = &*wanted else { return false };
        let find =
            |text: &str| bytes.windows(text.len()).position(|found| found == text.as_bytes());
        let first_at = find(first);
        if first_at.is_some() {
            has_begun.store(true, Ordering::Relaxed);
        }
        let is_asked = has_begun.load(Ordering::Relaxed)
            && find(second).is_some_and(|at| first_at.is_none_or(|first_at| at > first_at));
        if is_asked {
            *wanted = None;
        }
        is_asked
    }
}

impl Proxy {
    pub async fn to(server_port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (fault, faults) = watch::channel(Fault::None);
        let (generation, generations) = watch::channel(0);
        let counts = Arc::new(Counts::default());
        let stop = CancellationToken::new();
        let lost = Arc::new(LostAnswer::default());
        let serve = serve(listener, server_port, faults, generations, counts.clone(), lost.clone());
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(serve).await });
        Ok(Self { port, fault, generation, counts, lost, _stop: stop.drop_guard() })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Ends all open connections, in the middle of whatever they say.
    pub fn cut(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// The connection that says `after` ends when `to` is said on it next: the server has heard that,
    /// and its answer is lost. It happens once.
    pub fn lose_answer(&self, after: &str, to: &str) {
        let mut wanted = self.lost.0.lock().unwrap_or_else(PoisonError::into_inner);
        *wanted = Some((after.to_owned(), to.to_owned()));
    }

    /// Whether that is still to happen.
    pub fn loses_answer(&self) -> bool {
        self.lost.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    pub fn bytes_to_server(&self) -> u64 {
        self.counts.to_server.load(Ordering::Relaxed)
    }

    /// Keeps what clients say from now on.
    pub fn record(&self) {
        if let Ok(mut recording) = self.counts.recording.lock() {
            *recording = Some(Vec::new());
        }
    }

    /// What clients said since [`Proxy::record`].
    pub fn recorded(&self) -> Vec<u8> {
        self.counts.recording.lock().ok().and_then(|it| it.clone()).unwrap_or_default()
    }

    pub fn bytes_to_client(&self) -> u64 {
        self.counts.to_client.load(Ordering::Relaxed)
    }
}

async fn serve(
    listener: TcpListener,
    server_port: u16,
    faults: watch::Receiver<Fault>,
    generations: watch::Receiver<u64>,
    counts: Arc<Counts>,
    lost: Arc<LostAnswer>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *faults.borrow() == Fault::Refuse {
            continue;
        }
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let (faults, mut generations) = (faults.clone(), generations.clone());
        let (counts, lost) = (counts.clone(), lost.clone());
        generations.mark_unchanged();
        connections.spawn(async move {
            let server = SocketAddr::from(([127, 0, 0, 1], server_port));
            let Ok(server) = TcpStream::connect(server).await else { return };
            tokio::select! {
                () = join(client, server, &faults, &counts, &lost) => {}
                _ = generations.changed() => {}
            }
        });
    }
}

async fn join(
    client: TcpStream,
    server: TcpStream,
    faults: &watch::Receiver<Fault>,
    counts: &Counts,
    lost: &LostAnswer,
) {
    let (has_begun, is_lost) = (AtomicBool::new(false), AtomicBool::new(false));
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let up = pass(client_read, server_write, faults.clone(), |bytes| {
        if lost.is_asked(bytes, &has_begun) {
            is_lost.store(true, Ordering::Relaxed);
        }
        counts.passed(true, bytes);
        true
    });
    let down = pass(server_read, client_write, faults.clone(), |bytes| {
        counts.passed(false, bytes);
        !is_lost.load(Ordering::Relaxed)
    });
    tokio::join!(up, down);
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: impl AsyncWrite + Unpin,
    mut faults: watch::Receiver<Fault>,
    passes: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = vec![0; CHUNK_MAX_BYTES];
    let mut mangler = (*faults.borrow() == Fault::Mangle).then(Mangler::default);
    while let Some(length) = read(&mut from, &mut buffer).await {
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let Some(count) = allowed(&mut faults, rest.len()).await else { return };
            let (piece, more) = rest.split_at(count);
            rest = more;
            if !passes(piece) {
                let _ = to.shutdown().await;
                return;
            }
            let written = match &mut mangler {
                Some(mangler) => to.write_all(&mangler.pass(piece)).await,
                None => to.write_all(piece).await,
            };
            if written.is_err() {
                return;
            }
        }
    }
    let _ = to.shutdown().await;
}

/// How many of the next bytes may pass, once they may; `None` when the proxy is gone.
async fn allowed(faults: &mut watch::Receiver<Fault>, waiting: usize) -> Option<usize> {
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::None | Fault::Refuse | Fault::Mangle => return Some(waiting),
            Fault::Delay(delay) => {
                sleep(delay).await;
                return Some(waiting);
            }
            Fault::Throttle { bytes_per_s } => {
                let per_s = bytes_per_s.max(1) as usize;
                let count = (per_s / SLICES_PER_S).clamp(1, waiting);
                let due = sleep(Duration::from_secs_f64(count as f64 / per_s as f64));
                tokio::select! {
                    () = due => return Some(count),
                    changed = faults.changed() => changed.ok()?,
                }
            }
            Fault::Stall => faults.changed().await.ok()?,
        }
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Option<usize> {
    from.read(buffer).await.ok().filter(|length| *length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::in_time;

    /// A server that says everything back.
    async fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        port
    }

    async fn say(stream: &mut TcpStream, text: &[u8]) {
        stream.write_all(text).await.expect("sent");
        let mut answer = vec![0; text.len()];
        in_time("an echo", stream.read_exact(&mut answer)).await.expect("in time").expect("read");
        assert_eq!(answer, text);
    }

    #[tokio::test]
    async fn bytes_pass_until_they_are_cut_and_new_connections_pass_again() {
        let proxy = Proxy::to(echo().await).await.expect("bound");
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("connected");
        say(&mut stream, b"before").await;
        proxy.cut();
        let end = in_time("the end", stream.read(&mut [0])).await.expect("in time");
        assert!(matches!(end, Ok(0) | Err(_)));
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("connected");
        say(&mut stream, b"after").await;
        assert_eq!((proxy.connections(), proxy.bytes_to_server()), (2, 11));
    }

    #[tokio::test]
    async fn an_answer_is_lost_once() {
        let proxy = Proxy::to(echo().await).await.expect("bound");
        proxy.lose_answer("begin", "end");
        let connect = || TcpStream::connect(("127.0.0.1", proxy.port()));
        let (mut other, mut stream) =
            (connect().await.expect("connected"), connect().await.expect("connected"));
        say(&mut other, b"end").await;
        say(&mut stream, b"end, begin").await;
        stream.write_all(b"end").await.expect("sent");
        let end = in_time("the end", stream.read(&mut [0])).await.expect("in time");
        assert!(matches!(end, Ok(0) | Err(_)));
        assert!(!proxy.loses_answer());
        let mut stream = connect().await.expect("connected");
        say(&mut stream, b"begin, end").await;
    }

    #[tokio::test]
    async fn stalled_bytes_come_when_the_stall_ends() {
        let proxy = Proxy::to(echo().await).await.expect("bound");
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("connected");
        proxy.set(Fault::Stall);
        stream.write_all(b"late").await.expect("sent");
        let mut answer = [0; 4];
        let early = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut answer)).await;
        assert!(early.is_err(), "nothing may come: {answer:?}");
        proxy.set(Fault::None);
        in_time("the rest", stream.read_exact(&mut answer)).await.expect("in time").expect("read");
        assert_eq!(&answer, b"late");
    }
}
