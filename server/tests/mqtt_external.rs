//! The seam over an external broker: a private Mosquitto with devices on it.
//!
//! Without an installed Mosquitto these tests say so and pass; with
//! `QUARTERDECK_REQUIRE_SERVICES=1` they fail instead.

#[path = "mqtt_external/strange.rs"]
mod strange;

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    limits::MQTT_MESSAGE_MAX_BYTES,
    topics::DeviceTopic,
};
use quarterdeck_server::mqtt::{
    external::{self, BrokerUrl, Client, Config},
    link::{Inbound, InboundReceiver, Link, Message, PublishError, PublishRequest, Qos, SERVER},
};
use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, QoS};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};

/// How long a condition may take; reached by a failing test alone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that Mosquitto lets be under way with one client, by default.
const MOSQUITTO_INFLIGHT: usize = 20;
/// How long something that must not happen is given to happen.
const QUIET: Duration = Duration::from_millis(150);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

// ---------------------------------------------------------------- a private Mosquitto

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The programs, or a word of why the test is not run.
fn programs<const N: usize>(test: &str, names: [&str; N]) -> Option<[PathBuf; N]> {
    let found = names.map(program);
    if let Some(missing) =
        names.iter().zip(&found).find_map(|(name, file)| file.is_none().then_some(name))
    {
        let required =
            std::env::var_os("QUARTERDECK_REQUIRE_SERVICES").is_some_and(|value| value == "1");
        assert!(!required, "{test}: {missing} is required and not installed");
        eprintln!("skipped: {test}: {missing} is not installed");
        return None;
    }
    Some(found.map(|file| file.expect("none is missing")))
}

struct Mosquitto {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    tls: bool,
    process: Child,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Mosquitto {
    /// Starts one with the users `server` and `device`, both with the password `p@ss`.
    fn start(test: &str) -> Option<Self> {
        let [program, passwd] = programs(test, ["mosquitto", "mosquitto_passwd"])?;
        Some(Self::with(program, &passwd, None))
    }

    fn with(program: PathBuf, passwd: &Path, openssl: Option<&Path>) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        for (n, user) in ["server", "device"].into_iter().enumerate() {
            let mut command = Command::new(passwd);
            if n == 0 {
                command.arg("-c");
            }
            let status =
                command.arg("-b").arg(folder.path().join("users")).args([user, "p@ss"]).status();
            assert!(status.expect("mosquitto_passwd runs").success());
        }
        if let Some(openssl) = openssl {
            let status = Command::new(openssl)
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=localhost",
                ])
                .args([
                    "-addext",
                    "subjectAltName=IP:127.0.0.1",
                    "-addext",
                    "basicConstraints=critical,CA:FALSE",
                ])
                .arg("-keyout")
                .arg(folder.path().join("key.pem"))
                .arg("-out")
                .arg(folder.path().join("cert.pem"))
                .stderr(Stdio::null())
                .status();
            assert!(status.expect("openssl runs").success());
        }
        for _ in 0..20 {
            let port = next_port();
            write_config(&folder, port, openssl.is_some());
            if let Some(process) = run(&program, &folder, port) {
                return Self { program, folder, port, tls: openssl.is_some(), process };
            }
        }
        panic!("mosquitto does not start");
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn start_again(&mut self) {
        self.stop();
        self.process = run(&self.program, &self.folder, self.port).expect("its port is free again");
    }

    fn url(&self) -> String {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        format!("{scheme}://server:p%40ss@127.0.0.1:{}", self.port)
    }
}

/// A port below those that the kernel gives to outgoing connections: no client sits on it,
/// and other processes' tests begin elsewhere.
fn next_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = std::process::id().wrapping_mul(50).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    u16::try_from(10_000 + n % 20_000).expect("below 30,000")
}

fn write_config(folder: &TempDir, port: u16, tls: bool) {
    let folder = folder.path().display();
    let tls = if tls {
        format!("certfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n")
    } else {
        String::new()
    };
    // As root it would change to a user that cannot read the folder.
    let config = format!(
        "listener {port} 127.0.0.1\n{tls}allow_anonymous false\npassword_file {folder}/users\nuser root\n\
         persistence false\nmax_queued_messages 0\nlog_dest stderr\n"
    );
    std::fs::write(Path::new(&format!("{folder}/conf")), config).expect("written");
}

/// Runs until its port answers; `None` when it ended by itself.
fn run(program: &Path, folder: &TempDir, port: u16) -> Option<Child> {
    let log = std::fs::File::create(folder.path().join("log")).expect("created");
    let mut process = Command::new(program)
        .arg("-c")
        .arg(folder.path().join("conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("mosquitto runs");
    for _ in 0..500 {
        if process.try_wait().expect("a child").is_some() {
            return None;
        }
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(process);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}

// ---------------------------------------------------------------- the server's side

const CLIENT_ID: &str = "quarterdeck-test";

fn config(broker: BrokerUrl, tls: Option<Arc<rustls::ClientConfig>>) -> Config {
    let client_id = CLIENT_ID.into();
    Config { broker, client_id, tls, qos_max: Qos::ExactlyOnce, random: || 0.1 }
}

struct Server {
    client: Client,
    inbound: InboundReceiver,
    kept: VecDeque<Inbound>,
}

impl Server {
    async fn connect(broker: &Mosquitto) -> Self {
        let tls = broker.tls.then(|| {
            let pem = std::fs::read(broker.folder.path().join("cert.pem")).expect("a certificate");
            external::trust(&pem).expect("a certificate")
        });
        Self::connect_with(broker, tls).await
    }

    async fn connect_with(broker: &Mosquitto, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let mut server = Self::begin(broker, tls);
        server.next("a connection", |event| matches!(event, Inbound::LinkUp)).await;
        server
    }

    fn begin(broker: &Mosquitto, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let broker = BrokerUrl::parse(&broker.url()).expect("a URL");
        let config = config(broker, tls);
        let (client, inbound) = external::start(config).expect("a sound configuration");
        Self { client, inbound, kept: VecDeque::new() }
    }

    async fn next(&mut self, what: &str, wanted: impl Fn(&Inbound) -> bool) -> Inbound {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return self.kept.remove(at).expect("just found");
        }
        loop {
            let event = soon(what, self.inbound.recv()).await.expect("the client lives");
            if wanted(&event) {
                return event;
            }
            // Who waits for it asks before anything else.
            if !matches!(event, Inbound::Hears(_)) {
                self.kept.push_back(event);
            }
        }
    }

    async fn message(&mut self) -> Message {
        match self.next("a message", |event| matches!(event, Inbound::Message(_))).await {
            Inbound::Message(message) => message,
            _ => unreachable!("filtered"),
        }
    }

    /// Waits for one message, and commits those before it: the retained status
    /// comes with each subscription, and what was not yet acknowledged again.
    async fn until(&mut self, payload: &str) -> Message {
        loop {
            let message = self.message().await;
            if message.payload == payload {
                return message;
            }
            message.ack.committed();
        }
    }

    async fn quiet(&mut self) {
        let other = async {
            loop {
                match self.inbound.recv().await {
                    Some(Inbound::Hears(_)) => {}
                    event => break event,
                }
            }
        };
        let event = tokio::time::timeout(QUIET, other).await;
        assert!(event.is_err() && self.kept.is_empty(), "unexpected: {event:?} {:?}", self.kept);
    }

    fn publish(&self, kind: DeviceTopic, payload: &[u8]) -> Result<(), PublishError> {
        let (project_id, device_id) = ids();
        let payload = Bytes::copy_from_slice(payload);
        self.client.publish(PublishRequest {
            project_id,
            device_id,
            kind,
            payload,
            qos: Qos::of(kind),
            sender: SERVER,
        })
    }
}

fn ids() -> (ProjectId, DeviceId) {
    (ProjectId::new("p").expect("a name"), DeviceId::new("d1").expect("a name"))
}

fn own(suffix: &str) -> String {
    format!("roboticks/p/devices/d1/{suffix}")
}

// ---------------------------------------------------------------- a device

struct Device {
    client: AsyncClient,
    events: mpsc::UnboundedReceiver<Packet>,
    polling: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

impl Device {
    async fn connect(broker: &Mosquitto, will: Option<&str>) -> Self {
        let mut options = MqttOptions::new("p:d1", "127.0.0.1", broker.port);
        options
            .set_credentials("device", "p@ss")
            .set_max_packet_size(1 << 20, 1 << 20)
            .set_inflight(10);
        if let Some(will) = will {
            options.set_last_will(LastWill::new(own("status"), will, QoS::AtLeastOnce, true));
        }
        let (client, mut connection) = AsyncClient::new(options, 10_000);
        let (sender, events) = mpsc::unbounded_channel();
        let polling = tokio::spawn(async move {
            loop {
                match connection.poll().await {
                    Ok(Event::Incoming(packet)) => {
                        if sender.send(packet).is_err() {
                            return;
                        }
                    }
                    Ok(Event::Outgoing(_)) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let mut device = Self { client, events, polling };
        device.until("a CONNACK", |packet| matches!(packet, Packet::ConnAck(_))).await;
        device
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Packet {
        soon(what, async {
            loop {
                let packet = self.events.recv().await.expect("polling");
                if wanted(&packet) {
                    return packet;
                }
            }
        })
        .await
    }

    async fn says(&self, suffix: &str, qos: QoS, payload: &[u8]) {
        self.client.publish(own(suffix), qos, suffix == "status", payload).await.expect("queued");
    }

    async fn hears(&mut self, suffix: &str) {
        self.client.subscribe(own(suffix), QoS::ExactlyOnce).await.expect("queued");
        self.until("a SUBACK", |packet| matches!(packet, Packet::SubAck(_))).await;
    }

    async fn heard(&mut self) -> rumqttc::Publish {
        match self.until("a message", |packet| matches!(packet, Packet::Publish(_))).await {
            Packet::Publish(publish) => publish,
            _ => unreachable!("filtered"),
        }
    }
}

/// A server whose subscriptions stand: a device's word has come through.
async fn connected(broker: &Mosquitto) -> (Server, Device) {
    let mut server = Server::connect(broker).await;
    let device = Device::connect(broker, None).await;
    device.says("status", QoS::AtLeastOnce, b"here").await;
    let message = server.message().await;
    assert_eq!(&message.payload[..], b"here");
    message.ack.committed();
    (server, device)
}

// ---------------------------------------------------------------- tests

#[tokio::test]
async fn what_devices_say_comes_as_its_kind_and_what_the_server_says_arrives() {
    let Some(broker) =
        Mosquitto::start("what_devices_say_comes_as_its_kind_and_what_the_server_says_arrives")
    else {
        return;
    };
    let (mut server, mut device) = connected(&broker).await;
    for kind in DeviceTopic::ALL.into_iter().filter(|kind| kind.device_may_publish()) {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            device.says(kind.suffix(), qos, kind.suffix().as_bytes()).await;
            let message = server.message().await;
            assert_eq!((message.project_id, message.device_id), ids());
            assert_eq!((message.kind, &message.payload[..]), (kind, kind.suffix().as_bytes()));
            message.ack.committed();
        }
    }
    device.hears("commands").await;
    server.publish(DeviceTopic::Commands, b"go").expect("connected");
    let heard = device.heard().await;
    assert_eq!(
        (&heard.payload[..], heard.qos, heard.retain),
        (&b"go"[..], QoS::ExactlyOnce, false)
    );
    let kind = DeviceTopic::Health;
    assert_eq!(server.publish(kind, b"x"), Err(PublishError::NotToDevice { kind }));
}

#[tokio::test]
async fn presence_comes_from_the_retained_status_and_the_last_will() {
    let Some(broker) =
        Mosquitto::start("presence_comes_from_the_retained_status_and_the_last_will")
    else {
        return;
    };
    let mut device = Device::connect(&broker, Some("offline")).await;
    device.says("status", QoS::AtLeastOnce, b"online").await;
    device.until("a PUBACK", |packet| matches!(packet, Packet::PubAck(_))).await;
    // A server that comes later learns it all the same.
    let mut server = Server::connect(&broker).await;
    let message = server.message().await;
    assert_eq!((message.retained, &message.payload[..]), (true, &b"online"[..]));
    message.ack.committed();
    drop(device);
    let message = server.message().await;
    assert_eq!((message.kind, &message.payload[..]), (DeviceTopic::Status, &b"offline"[..]));
    message.ack.committed();
}

#[tokio::test]
async fn a_message_is_acknowledged_to_the_broker_only_after_its_commit() {
    let Some(broker) =
        Mosquitto::start("a_message_is_acknowledged_to_the_broker_only_after_its_commit")
    else {
        return;
    };
    let (mut server, mut device) = connected(&broker).await;
    for (n, qos) in [QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
        device.says("commands/response", qos, format!("kept {n}").as_bytes()).await;
        server.until(&format!("kept {n}")).await.ack.committed();
        device.says("commands/response", qos, format!("open {n}").as_bytes()).await;
        let open = server.until(&format!("open {n}")).await;
        // The server goes before it has committed.
        server.client.shutdown().await;
        drop((server, open));
        // Meanwhile the device goes on; the broker keeps it.
        device.says("commands/response", qos, format!("meanwhile {n}").as_bytes()).await;
        device
            .until("an acknowledgement", |p| matches!(p, Packet::PubAck(_) | Packet::PubComp(_)))
            .await;
        server = Server::connect(&broker).await;
        // What was committed may come again as well, for the server went before it could say so.
        let mut awaited = HashSet::from([format!("open {n}"), format!("meanwhile {n}")]);
        while !awaited.is_empty() {
            let message = server.message().await;
            awaited.remove(&*String::from_utf8_lossy(&message.payload));
            message.ack.committed();
        }
    }
}

#[tokio::test]
async fn a_failed_commit_brings_the_message_again() {
    let Some(broker) = Mosquitto::start("a_failed_commit_brings_the_message_again") else { return };
    let (mut server, device) = connected(&broker).await;
    for (qos, fail) in
        [(QoS::AtLeastOnce, true), (QoS::ExactlyOnce, true), (QoS::AtLeastOnce, false)]
    {
        device.says("commands/response", qos, b"result").await;
        let message = server.until("result").await;
        if fail {
            message.ack.failed();
        } else {
            drop(message.ack);
        }
        server.next("the end", |event| matches!(event, Inbound::LinkDown)).await;
        server.next("a connection", |event| matches!(event, Inbound::LinkUp)).await;
        server.until("result").await.ack.committed();
    }
}

#[tokio::test]
async fn many_messages_are_in_flight_and_their_order_is_kept() {
    let Some(broker) = Mosquitto::start("many_messages_are_in_flight_and_their_order_is_kept")
    else {
        return;
    };
    let (mut server, device) = connected(&broker).await;
    for n in 0..500_u32 {
        device.says("commands/response", QoS::AtLeastOnce, &n.to_be_bytes()).await;
    }
    let mut expected = 0_u32;
    while expected < 500 {
        // As many as Mosquitto lets be in flight (20 by default), committed backwards.
        let mut batch = Vec::new();
        while batch.len() < 10 {
            batch.push(server.message().await);
        }
        for message in &batch {
            assert_eq!(message.payload[..], expected.to_be_bytes());
            expected += 1;
        }
        batch.into_iter().rev().for_each(|message| message.ack.committed());
    }
}

#[tokio::test]
async fn the_server_does_not_hear_itself() {
    let Some(broker) = Mosquitto::start("the_server_does_not_hear_itself") else { return };
    let (mut server, mut device) = connected(&broker).await;
    device.hears("tunnel/control").await;
    server.publish(DeviceTopic::TunnelControl, b"open").expect("connected");
    assert_eq!(&device.heard().await.payload[..], b"open");
    device.says("tunnel/control", QoS::AtLeastOnce, b"opened").await;
    let message = server.message().await;
    assert_eq!(&message.payload[..], b"opened");
    message.ack.committed();
    server.quiet().await;
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_said_to_be_not_heard() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("mqtt://127.0.0.1:{}", nobody.local_addr().expect("bound").port());
    drop(nobody);
    let broker = BrokerUrl::parse(&url).expect("a URL");
    let (client, inbound) = external::start(config(broker, None)).expect("sound");
    let mut server = Server { client, inbound, kept: VecDeque::new() };
    let hears = |event: &Inbound| matches!(event, Inbound::Hears(_));
    let said = server.next("whether it hears", hears).await;
    assert!(matches!(said, Inbound::Hears(false)));
}

#[tokio::test]
async fn a_broker_that_goes_and_returns_is_found_again() {
    let Some(mut broker) = Mosquitto::start("a_broker_that_goes_and_returns_is_found_again") else {
        return;
    };
    let (mut server, device) = connected(&broker).await;
    drop(device);
    broker.stop();
    server.next("the end", |event| matches!(event, Inbound::LinkDown)).await;
    assert_eq!(server.publish(DeviceTopic::Commands, b"x"), Err(PublishError::BrokerUnreachable));
    broker.start_again();
    server.next("a connection", |event| matches!(event, Inbound::LinkUp)).await;
    // It has forgotten all; the subscriptions are made again.
    let mut device = Device::connect(&broker, None).await;
    device.says("status", QoS::AtLeastOnce, b"back").await;
    let message = server.message().await;
    assert_eq!(&message.payload[..], b"back");
    message.ack.committed();
    device.hears("commands").await;
    server.publish(DeviceTopic::Commands, b"go").expect("connected");
    assert_eq!(&device.heard().await.payload[..], b"go");
}

/// A handshake of QoS 2 that a killed server began is ended by nobody: kept, it would count for
/// ever against what the broker lets be under way.
#[tokio::test]
async fn servers_that_are_killed_while_they_publish_leave_nothing_behind() {
    let Some(broker) =
        Mosquitto::start("servers_that_are_killed_while_they_publish_leave_nothing_behind")
    else {
        return;
    };
    let mut device = Device::connect(&broker, None).await;
    device.hears("commands").await;
    for _ in 0..MOSQUITTO_INFLIGHT {
        let server = Server::connect(&broker).await;
        for _ in 0..MOSQUITTO_INFLIGHT {
            server.publish(DeviceTopic::Commands, b"before").expect("connected");
        }
        // What arrives has been sent, and its handshake is not over.
        device.heard().await;
    }
    let server = Server::connect(&broker).await;
    for n in 0..2 * MOSQUITTO_INFLIGHT {
        server.publish(DeviceTopic::Commands, format!("after {n}").as_bytes()).expect("connected");
    }
    for n in 0..2 * MOSQUITTO_INFLIGHT {
        loop {
            let heard = device.heard().await.payload;
            if heard == format!("after {n}") {
                break;
            }
            assert_eq!(&heard[..], b"before");
        }
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_dropped_and_does_not_come_for_ever() {
    let Some(broker) =
        Mosquitto::start("a_message_that_is_too_long_is_dropped_and_does_not_come_for_ever")
    else {
        return;
    };
    let (mut server, device) = connected(&broker).await;
    device.says("health", QoS::AtLeastOnce, &vec![b'x'; MQTT_MESSAGE_MAX_BYTES + 1]).await;
    device.says("health", QoS::AtLeastOnce, &vec![b'x'; MQTT_MESSAGE_MAX_BYTES]).await;
    let message = server.message().await;
    assert_eq!(message.payload.len(), MQTT_MESSAGE_MAX_BYTES);
    message.ack.committed();
    server.quiet().await;
}

#[tokio::test]
async fn mqtts_trusts_the_given_ca_and_no_other() {
    let test = "mqtts_trusts_the_given_ca_and_no_other";
    let Some([program, passwd, openssl]) =
        programs(test, ["mosquitto", "mosquitto_passwd", "openssl"])
    else {
        return;
    };
    let broker = Mosquitto::with(program.clone(), &passwd, Some(&openssl));
    let server = Server::connect(&broker).await;
    server.publish(DeviceTopic::Commands, b"x").expect("connected");
    server.client.shutdown().await;

    let other = Mosquitto::with(program, &passwd, Some(&openssl));
    let pem = std::fs::read(other.folder.path().join("cert.pem")).expect("a certificate");
    let mut server = Server::begin(&broker, Some(external::trust(&pem).expect("a certificate")));
    server.quiet().await;
    assert_eq!(server.publish(DeviceTopic::Commands, b"x"), Err(PublishError::BrokerUnreachable));
}
