//! The other end: a machine of its own, and a channel that loses and delays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use quarterdeck_agent::{
    io::signals::Spared,
    tunnel::{
        driver::{self, INCOMING_MAX, Incoming, OUTGOING_MAX, Outgoing},
        mux::{Mux, Stream, Streams},
        policy::Policy,
        started::Started,
    },
};
use quarterdeck_protocol::{
    ids::TunnelId,
    tunnel::{
        Content, Gather, Item,
        close::CloseCode,
        control::{Control, Target},
        endpoint::{EndpointConfig, Side},
        frame::Frame,
        mark::{Exit, Mark},
        stream::StreamConfig,
    },
};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long anything may take: long, since tests run beside others.
const SOON: Duration = Duration::from_mins(1);

const CONFIG: StreamConfig = StreamConfig {
    is_urgent: false,
    window_bytes: 128 * 1024,
    buffer_bytes: 256 * 1024,
    waiting_bytes: 256 * 1024,
    gather: Gather { bytes: 16 * 1024, wait_us: 4_000 },
    keep_alive_us: Some(1_000_000),
};

/// A tunnel, as this end knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    pub(crate) handle: u32,
}

pub(crate) struct Far {
    mux: Arc<Mux>,
    device_mux: Arc<Mux>,
    to_device: mpsc::Sender<Incoming>,
    answers: Mutex<mpsc::Receiver<Control>>,
    is_cut: Arc<AtomicBool>,
    stop: CancellationToken,
    next: u32,
    new_streams: Mutex<Vec<(u32, Streams)>>,
    device: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

/// Bytes without a pattern, always the same.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn bytes_of(item: &Item) -> &[u8] {
    match item {
        Item::Content(Content::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

impl Far {
    /// Starts a device, and this end of a channel that loses `lost_percent` of all frames.
    pub(crate) fn new(policy: Policy, lost_percent: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::with_data(policy, lost_percent, folder)
    }

    /// Ends the device as a crash would, and starts it anew with what it has on its disk.
    pub(crate) fn crash(self, policy: Policy) -> Self {
        self.device.abort();
        let next = self.next;
        Self { next, ..Self::with_data(policy, 0, self.folder) }
    }

    fn with_data(policy: Policy, lost_percent: u32, folder: tempfile::TempDir) -> Self {
        // As the agent does: whoever runs the tests in the background has them ignore SIGINT.
        Spared::find().and_then(|spared| spared.shield()).expect("handled");
        let started = Started::open(&folder.path().join("started")).expect("read");
        let (to_device, incoming) = mpsc::channel(INCOMING_MAX);
        let (outgoing, mut from_device) = mpsc::channel(OUTGOING_MAX);
        let (answers_to, answers) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let device_mux = Mux::of_device();
        let running =
            driver::run(Arc::clone(&device_mux), policy, started, incoming, outgoing, stop.clone());
        let device = tokio::spawn(running);
        let mux = Mux::new(Side::Near, EndpointConfig::default(), Instant::now());
        let is_cut = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU32::new(0));
        let is_lost = {
            let is_cut = Arc::clone(&is_cut);
            move || {
                // A fixed pattern, spread by a multiplication.
                let n = count.fetch_add(1, Ordering::Relaxed).wrapping_mul(2_654_435_761);
                is_cut.load(Ordering::Relaxed) || (n >> 16) % 100 < lost_percent
            }
        };
        mux.on_link_up();
        let (down, up) = (Arc::clone(&mux), Arc::clone(&mux));
        let (is_lost_too, frames_to) = (is_lost.clone(), to_device.clone());
        let frames_in = Arc::clone(&device_mux);
        tokio::spawn(async move {
            frames_in.on_link_up();
            if frames_to.send(Incoming::Up).await.is_err() {
                return;
            }
            loop {
                let turn = down.turn();
                if let Some(frame) = turn.frame {
                    if frames_to.is_closed() {
                        return;
                    }
                    if !is_lost() {
                        let frame = Frame::decode(frame.to_bytes()).expect("as it was sent");
                        frames_in.on_frame(frame);
                    }
                    continue;
                }
                let due = turn.due.unwrap_or_else(|| Instant::now() + Duration::from_mins(1));
                tokio::select! {
                    () = down.woken() => {}
                    () = sleep_until(due) => {}
                }
            }
        });
        tokio::spawn(async move {
            while let Some(message) = from_device.recv().await {
                match message {
                    Outgoing::Frame(frame) if !is_lost_too() => up.on_frame(frame),
                    Outgoing::Frame(_) => {}
                    Outgoing::Control(control) => {
                        if answers_to.send(control).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Self {
            mux,
            device_mux,
            to_device,
            answers: Mutex::new(answers),
            is_cut,
            stop,
            next: 1,
            new_streams: Mutex::default(),
            device,
            folder,
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Cuts the network, or brings it back; both ends notice that.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
        if is_cut {
            self.mux.on_link_down();
            self.device_mux.on_link_down();
        } else {
            self.mux.on_link_up();
            self.device_mux.on_link_up();
        }
        let told = if is_cut { Incoming::Down { is_refused: false } } else { Incoming::Up };
        self.to_device.try_send(told).expect("room for a word");
    }

    pub(crate) async fn say(&self, control: &Control) {
        let message = Incoming::Control(control.to_json().into());
        self.to_device.send(message).await.expect("a device");
    }

    pub(crate) async fn answer(&self) -> Control {
        let answer = async { self.answers.lock().await.recv().await };
        timeout(SOON, answer).await.expect("an answer").expect("a device")
    }

    pub(crate) async fn ask(&self, tunnel: Tunnel, target: Target) {
        self.say(&Control::Open {
            schema_version: "1.0".to_owned(),
            tunnel_id: tunnel.id,
            handle: tunnel.handle,
            user: "ops-1".to_owned(),
            target,
        })
        .await;
    }

    /// Opens a tunnel, or says why it was refused.
    pub(crate) async fn open(&mut self, target: Target) -> Result<Tunnel, CloseCode> {
        let handle = self.next;
        self.next += 1;
        let tunnel = Tunnel { id: TunnelId(uuid::Uuid::from_u128(handle.into())), handle };
        let streams = self.mux.add_tunnel(handle, CONFIG, 16).expect("a new handle");
        self.new_streams.lock().await.push((handle, streams));
        self.ask(tunnel, target).await;
        match self.answer().await {
            Control::Opened { .. } => Ok(tunnel),
            Control::Error { code, .. } => Err(code),
            other => panic!("{other:?}"),
        }
    }

    /// Opens a stream of this end.
    pub(crate) fn stream(&self, tunnel: Tunnel) -> Stream {
        self.mux.open(tunnel.handle, CONFIG).expect("room")
    }

    /// Takes the next stream that the device opens.
    pub(crate) async fn incoming(&self, tunnel: Tunnel) -> Stream {
        let mut all = self.new_streams.lock().await;
        let (_, streams) =
            all.iter_mut().find(|(handle, _)| *handle == tunnel.handle).expect("a tunnel");
        timeout(SOON, streams.recv()).await.expect("a stream").expect("a tunnel")
    }

    /// Waits for the device's last word on a tunnel.
    pub(crate) async fn closed(&self, tunnel: Tunnel) -> CloseCode {
        loop {
            if let Control::Close { tunnel_id, reason, .. } = self.answer().await
                && tunnel_id == tunnel.id
            {
                return reason;
            }
        }
    }

    /// Reads the next item, and makes it safe.
    pub(crate) async fn read(&self, stream: &Stream) -> Item {
        let read = timeout(SOON, stream.read(64 * 1024)).await.expect("something in time");
        let (item, until) = read.expect("open");
        stream.make_safe(until);
        item
    }

    /// Reads until `text` came; says how many bytes that were.
    pub(crate) async fn read_until(&self, stream: &Stream, text: &str) -> usize {
        let mut all = Vec::new();
        loop {
            let item = self.read(stream).await;
            assert!(item != Item::End, "no {text:?} in {:?}", String::from_utf8_lossy(&all));
            let from = all.len().saturating_sub(text.len());
            all.extend_from_slice(bytes_of(&item));
            if all[from..].windows(text.len()).any(|window| window == text.as_bytes()) {
                return all.len();
            }
        }
    }

    /// Reads to the end: all bytes, and the exit if one was told.
    pub(crate) async fn read_all(&self, stream: &Stream) -> (Vec<u8>, Option<Exit>) {
        let (mut all, mut exit) = (Vec::new(), None);
        loop {
            match self.read(stream).await {
                Item::Content(Content::Bytes(bytes)) => all.extend_from_slice(&bytes),
                Item::Content(Content::Mark(Mark::Exit(how))) => exit = Some(how),
                Item::Content(Content::Mark(_)) => {}
                Item::End => return (all, exit),
            }
        }
    }
}
