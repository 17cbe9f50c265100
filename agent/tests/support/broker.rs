//! A private Mosquitto, and a client of it that ends with its test.
//!
//! Tests run beside one another, and each kills and restarts what it likes. So a broker
//! has an address that no other process has: a client that lost its own never meets
//! another's, and no outgoing connection can sit on the port.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};

/// Nothing here takes this long; whatever does is broken.
const PATIENCE_MS: u64 = 45_000;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Below those that the kernel gives to outgoing connections.
const FIRST_PORT: u16 = 20_000;
/// Ports that one process may try.
const PORTS: u16 = 10_000;
/// What Mosquitto logs when it listens.
const IS_UP: &str = " running";

pub(crate) fn program() -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"];
    places.map(|folder| Path::new(folder).join("mosquitto")).into_iter().find(|path| path.is_file())
}

pub(crate) struct Broker {
    child: Child,
    config: PathBuf,
    log: PathBuf,
    pub address: SocketAddrV4,
}

impl Broker {
    /// Starts one; waits until it says itself that it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let (config, log) = (folder.join("mosquitto.conf"), folder.join("mosquitto.log"));
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            assert!(n < PORTS, "no port is free:\n{}", read(&log));
            let address = SocketAddrV4::new(own_loopback(), FIRST_PORT + n);
            let text = format!(
                "listener {} {}\nallow_anonymous true\npersistence false\n\
                 max_inflight_messages 100\nmax_queued_messages 0\n\
                 log_dest stderr\nlog_type error\nlog_type warning\n\
                 log_type notice\nlog_type information\n",
                address.port(),
                address.ip(),
            );
            fs::write(&config, text).expect("written");
            if let Some(child) = run(&config, &log) {
                return Self { child, config, log, address };
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn start_again(&mut self) {
        self.kill();
        let child = run(&self.config, &self.log);
        self.child = child.unwrap_or_else(|| panic!("not again: {}", read(&self.log)));
    }

    /// What it said in this run.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address that belongs to this process alone, of the 2^24 that Linux has for loopback.
fn own_loopback() -> Ipv4Addr {
    // A pid has 22 bits.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low)
}

fn read(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs until it listens; `None` when it ended instead, as it does when the port is taken.
fn run(config: &Path, log: &Path) -> Option<Child> {
    let mut child = Command::new(program().expect("mosquitto is installed"))
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log).expect("created"))
        .spawn()
        .expect("mosquitto starts");
    for _ in 0..PATIENCE_MS / 10 {
        if child.try_wait().expect("it is ours").is_some() {
            return None;
        }
        if read(log).contains(IS_UP) {
            return Some(child);
        }
        thread::sleep(LOOK_EVERY);
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("mosquitto does not start: {}", read(log));
}

/// The test's own client: subscribed, with a session that outlives its connection.
pub(crate) struct Others {
    client: Client,
    is_over: Arc<AtomicBool>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Others {
    /// Connects and subscribes; `heard` gets all that comes.
    pub(crate) fn connect(
        broker: &Broker,
        filter: &str,
        heard: impl FnMut(rumqttc::Publish) + Send + 'static,
    ) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("others-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut options =
            MqttOptions::new(id, broker.address.ip().to_string(), broker.address.port());
        const LONGEST: usize = 64 * 1024 * 1024;
        // Else what waits to be sent is lost with a connection.
        options.set_max_packet_size(LONGEST, LONGEST).set_clean_session(false);
        let (client, connection) = Client::new(options, 1_000);
        let this = Self { client, is_over: Arc::default(), errors: Arc::default() };
        let (ready, is_ready) = std::sync::mpsc::channel();
        let reader = Reader {
            client: this.client.clone(),
            filter: filter.to_owned(),
            is_over: Arc::clone(&this.is_over),
            errors: Arc::clone(&this.errors),
            ready,
        };
        thread::spawn(move || reader.read(connection, heard));
        let subscribed = is_ready.recv_timeout(Duration::from_millis(PATIENCE_MS));
        assert!(subscribed.is_ok(), "no subscription: {:?}\n{}", this.errors(), broker.log());
        this
    }

    pub(crate) fn publish(&self, topic: &str, qos: QoS, retain: bool, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, qos, retain, payload).expect("its thread runs");
    }

    /// Why connections of its were lost.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.client.try_disconnect();
    }
}

/// The thread behind [`Others`].
struct Reader {
    client: Client,
    filter: String,
    is_over: Arc<AtomicBool>,
    errors: Arc<Mutex<Vec<String>>>,
    ready: std::sync::mpsc::Sender<()>,
}

impl Reader {
    fn read(self, mut connection: Connection, mut heard: impl FnMut(rumqttc::Publish)) {
        for event in connection.iter() {
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            match event {
                // A session that the broker still knows has its subscription.
                Ok(Event::Incoming(Packet::ConnAck(ack))) if !ack.session_present => {
                    let _ = self.client.try_subscribe(&*self.filter, QoS::ExactlyOnce);
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    let _ = self.ready.send(());
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => heard(publish),
                // The broker was stopped: it may come back.
                Err(error) => {
                    self.errors.lock().expect("nobody panicked").push(error.to_string());
                    thread::sleep(LOOK_EVERY);
                }
                Ok(_) => {}
            }
        }
    }
}
