//! The embedded broker, met by devices over TCP and by an engine over its seam.

#[path = "mqtt_embedded/attacks.rs"]
mod attacks;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use quarterdeck_protocol::{
    ids::{DeviceId, ProjectId},
    limits::MQTT_MESSAGE_MAX_BYTES,
    topics::{self, Channel, DeviceTopic},
};
use quarterdeck_server::mqtt::{
    embedded::{self, Broker},
    limits,
    link::{
        AckHandle, Authenticator, Denied, DeviceIdentity, Ended, Inbound, InboundReceiver, Link,
        Message, PublishError, PublishRequest, Qos, SERVER,
    },
};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, LastWill, MqttOptions, Packet, QoS,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

/// How long a condition may take; reached by a failing test alone.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long something that must not happen is given to happen.
const QUIET: Duration = Duration::from_millis(150);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

// ---------------------------------------------------------------- the server's side

/// Knows devices d1, d2, … of projects p and q, each with the secret `s`.
struct Secrets {
    /// What a check waits for.
    gate: Semaphore,
}

#[async_trait]
impl Authenticator for Secrets {
    async fn authenticate(
        &self,
        user: &str,
        secret: &[u8],
        _: &str,
    ) -> Result<DeviceIdentity, Denied> {
        let _open = self.gate.acquire().await.map_err(|_| Denied::Unavailable)?;
        let (project_id, device_id) = topics::parse_username(user).ok_or(Denied::BadCredentials)?;
        match (device_id.as_str(), secret) {
            ("retired", _) => Err(Denied::Revoked),
            (_, b"s") => Ok(DeviceIdentity { project_id, device_id }),
            _ => Err(Denied::BadCredentials),
        }
    }
}

struct Server {
    broker: Broker,
    inbound: InboundReceiver,
    secrets: Arc<Secrets>,
    /// What came before what a test waited for.
    kept: VecDeque<Inbound>,
}

impl Server {
    fn start() -> Self {
        let secrets = Arc::new(Secrets { gate: Semaphore::new(1_000) });
        let port = embedded::bind("127.0.0.1:0".parse().expect("an address"));
        let (broker, inbound) = embedded::start(port.expect("a free port"), secrets.clone());
        assert_ne!(broker.address().port(), 0);
        Self { broker, inbound, secrets, kept: VecDeque::new() }
    }

    async fn next(&mut self, what: &str, wanted: impl Fn(&Inbound) -> bool) -> Inbound {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return self.kept.remove(at).expect("just found");
        }
        loop {
            let event = soon(what, self.inbound.recv()).await.expect("the broker lives");
            if wanted(&event) {
                return event;
            }
            self.kept.push_back(event);
        }
    }

    async fn message(&mut self) -> Message {
        match self.next("a message", |event| matches!(event, Inbound::Message(_))).await {
            Inbound::Message(message) => message,
            _ => unreachable!("filtered"),
        }
    }

    async fn subscribed(&mut self, kind: DeviceTopic) {
        self.next(
            "a subscription",
            |event| matches!(event, Inbound::Subscribed { kind: k, .. } if *k == kind),
        )
        .await;
    }

    /// Nothing more comes that matches.
    async fn quiet(&mut self, unwanted: impl Fn(&Inbound) -> bool) {
        let _ = tokio::time::timeout(QUIET, async {
            while let Some(event) = self.inbound.recv().await {
                self.kept.push_back(event);
            }
        })
        .await;
        if let Some(event) = self.kept.iter().find(|event| unwanted(event)) {
            panic!("unexpected: {event:?}");
        }
    }

    fn publish(&self, device: &str, kind: DeviceTopic, payload: &[u8]) -> Result<(), PublishError> {
        let (project_id, device_id) = ids("p", device);
        self.broker.publish(PublishRequest {
            project_id,
            device_id,
            kind,
            payload: Bytes::copy_from_slice(payload),
            qos: Qos::of(kind),
            sender: SERVER,
        })
    }
}

fn ids(project: &str, device: &str) -> (ProjectId, DeviceId) {
    (ProjectId::new(project).expect("a name"), DeviceId::new(device).expect("a name"))
}

fn own(device: &str, suffix: &str) -> String {
    format!("roboticks/p/devices/{device}/{suffix}")
}

// ---------------------------------------------------------------- a device with rumqttc

struct Device {
    client: AsyncClient,
    events: mpsc::UnboundedReceiver<Result<Event, String>>,
    polling: JoinHandle<()>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

fn options(server: &Server, device: &str) -> MqttOptions {
    options_of(server, &format!("p:{device}"), Some((&format!("p/{device}"), "s")))
}

fn options_of(server: &Server, client_id: &str, credentials: Option<(&str, &str)>) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", server.broker.address().port());
    options.set_max_packet_size(1 << 20, 1 << 20);
    if let Some((user, password)) = credentials {
        options.set_credentials(user, password);
    }
    options
}

impl Device {
    /// Connects; goes on connecting after a broken connection.
    async fn connect(options: MqttOptions) -> Self {
        let (client, mut connection) = AsyncClient::new(options, 1_000);
        let (sender, events) = mpsc::unbounded_channel();
        let polling = tokio::spawn(async move {
            loop {
                let event = connection.poll().await.map_err(|error| error.to_string());
                if event.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut device = Self { client, events, polling };
        device.until("a CONNACK", |packet| matches!(packet, Packet::ConnAck(_))).await;
        device
    }

    async fn to(server: &Server, device: &str) -> Self {
        Self::connect(options(server, device)).await
    }

    async fn until(&mut self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Packet {
        soon(what, async {
            loop {
                match self.events.recv().await.expect("polling") {
                    Ok(Event::Incoming(packet)) if wanted(&packet) => return packet,
                    _ => {}
                }
            }
        })
        .await
    }

    async fn broken(&mut self) {
        soon("the end of the connection", async {
            while self.events.recv().await.expect("polling").is_ok() {}
        })
        .await;
    }

    async fn quiet(&mut self, unwanted: impl Fn(&Packet) -> bool) {
        let _ = tokio::time::timeout(QUIET, async {
            while let Some(event) = self.events.recv().await {
                if let Ok(Event::Incoming(packet)) = event {
                    assert!(!unwanted(&packet), "unexpected: {packet:?}");
                }
            }
        })
        .await;
    }

    async fn says(&self, topic: impl Into<String>, qos: QoS, payload: &[u8]) {
        self.client.publish(topic, qos, false, payload).await.expect("queued");
    }

    /// Subscribes; whether the server granted it.
    async fn hears(&mut self, filter: impl Into<String>, qos: QoS) -> bool {
        self.client.subscribe(filter, qos).await.expect("queued");
        match self.until("a SUBACK", |packet| matches!(packet, Packet::SubAck(_))).await {
            Packet::SubAck(ack) => {
                !matches!(ack.return_codes[..], [rumqttc::SubscribeReasonCode::Failure])
            }
            _ => unreachable!("filtered"),
        }
    }

    async fn heard(&mut self) -> rumqttc::Publish {
        match self.until("a message", |packet| matches!(packet, Packet::Publish(_))).await {
            Packet::Publish(publish) => publish,
            _ => unreachable!("filtered"),
        }
    }
}

async fn refused(options: MqttOptions) -> ConnectReturnCode {
    let (_client, mut connection) = AsyncClient::new(options, 10);
    match soon("an answer to CONNECT", connection.poll()).await {
        Err(ConnectionError::ConnectionRefused(code)) => code,
        other => panic!("not refused: {other:?}"),
    }
}

fn is_ack(packet: &Packet) -> bool {
    matches!(packet, Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_))
}

// ---------------------------------------------------------------- signing in

#[tokio::test]
async fn only_a_device_with_its_secret_and_its_own_client_id_connects() {
    let server = Server::start();
    for (client_id, credentials, code) in [
        ("p:d1", None, ConnectReturnCode::BadUserNamePassword),
        ("p:d1", Some(("p/d1", "wrong")), ConnectReturnCode::BadUserNamePassword),
        ("p:d1", Some(("p/d1", "")), ConnectReturnCode::BadUserNamePassword),
        ("p:d1", Some(("admin", "s")), ConnectReturnCode::BadUserNamePassword),
        ("p:d2", Some(("p/d1", "s")), ConnectReturnCode::BadUserNamePassword),
        ("q:d1", Some(("p/d1", "s")), ConnectReturnCode::BadUserNamePassword),
        ("p:d1:shell", Some(("p/d1", "s")), ConnectReturnCode::BadUserNamePassword),
        ("anything", Some(("p/d1", "s")), ConnectReturnCode::BadUserNamePassword),
        ("p:retired", Some(("p/retired", "s")), ConnectReturnCode::NotAuthorized),
    ] {
        assert_eq!(
            refused(options_of(&server, client_id, credentials)).await,
            code,
            "{client_id} {credentials:?}"
        );
    }
    let _main = Device::to(&server, "d1").await;
    let _tunnel = Device::connect(options_of(&server, "p:d1:tunnel", Some(("p/d1", "s")))).await;
    assert_eq!(server.broker.connections(), 2);
}

#[tokio::test]
async fn a_last_will_on_a_foreign_topic_is_refused_at_connect() {
    let server = Server::start();
    for topic in [
        own("d2", "status"),
        own("d1", "commands"),
        own("d1", "tunnel/down"),
        own("d1", "tunnel/up"),
        "roboticks/q/devices/d1/status".into(),
        "x".into(),
        own("d1", "status/more"),
    ] {
        let mut options = options(&server, "d1");
        options.set_last_will(LastWill::new(&topic, "{}", QoS::AtLeastOnce, true));
        assert_eq!(refused(options).await, ConnectReturnCode::NotAuthorized, "{topic}");
    }
}

#[tokio::test]
async fn a_last_will_comes_as_the_devices_status() {
    let mut server = Server::start();
    let mut options = options(&server, "d1");
    options.set_last_will(LastWill::new(own("d1", "status"), "offline", QoS::AtLeastOnce, true));
    let device = Device::connect(options).await;
    drop(device);
    let message = server.message().await;
    assert_eq!((message.kind, &message.payload[..]), (DeviceTopic::Status, &b"offline"[..]));
    assert!(message.last_will && message.retained);
    message.ack.committed();
    server.next("the end", |e| matches!(e, Inbound::Disconnected { ended: Ended::Lost, .. })).await;
}

#[tokio::test]
async fn a_last_will_comes_at_each_qos() {
    let mut server = Server::start();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut options = options(&server, "d1");
        options.set_last_will(LastWill::new(own("d1", "status"), "offline", qos, false));
        drop(Device::connect(options).await);
        let message = server.message().await;
        assert!(message.last_will && !message.retained, "{qos:?}");
        message.ack.committed();
    }
    server.quiet(|event| matches!(event, Inbound::Message(_))).await;
}

#[tokio::test]
async fn a_goodbye_says_no_last_will() {
    let mut server = Server::start();
    let mut options = options(&server, "d1");
    options.set_last_will(LastWill::new(own("d1", "status"), "offline", QoS::AtLeastOnce, true));
    let device = Device::connect(options).await;
    device.client.disconnect().await.expect("queued");
    server
        .next("the end", |e| matches!(e, Inbound::Disconnected { ended: Ended::ByDevice, .. }))
        .await;
    server.quiet(|event| matches!(event, Inbound::Message(_))).await;
}

// ---------------------------------------------------------------- what a device may say and hear

#[tokio::test]
async fn a_device_says_what_chapter_2_lists_and_each_comes_as_its_kind() {
    let mut server = Server::start();
    let device = Device::to(&server, "d1").await;
    for kind in DeviceTopic::ALL.into_iter().filter(|kind| kind.device_may_publish()) {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            device.says(own("d1", kind.suffix()), qos, kind.suffix().as_bytes()).await;
            let message = server.message().await;
            assert_eq!((message.project_id, message.device_id), ids("p", "d1"));
            assert_eq!((message.kind, &message.payload[..]), (kind, kind.suffix().as_bytes()));
            assert!(!message.last_will && !message.retained);
            message.ack.committed();
        }
    }
}

#[tokio::test]
async fn a_publish_on_a_foreign_topic_ends_the_connection_and_reaches_nobody() {
    let mut server = Server::start();
    let mut neighbour = Device::to(&server, "d2").await;
    assert!(neighbour.hears(own("d2", "commands"), QoS::ExactlyOnce).await);
    assert!(neighbour.hears(own("d2", "tunnel/control"), QoS::AtLeastOnce).await);
    for topic in [
        own("d2", "status"),
        own("d2", "commands"),
        own("d2", "tunnel/control"),
        own("d1", "commands"),
        own("d1", "commands/cancel"),
        own("d1", "tunnel/down"),
        own("d1", "nothing"),
        "$SYS/x".into(),
        "x".into(),
        "roboticks/q/devices/d1/status".into(),
    ] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut device = Device::to(&server, "d1").await;
            device.says(&topic, qos, b"forged").await;
            soon("the end of the connection", async {
                loop {
                    match device.events.recv().await.expect("polling") {
                        Ok(Event::Incoming(packet)) => {
                            assert!(!is_ack(&packet), "{topic} was acknowledged");
                        }
                        Ok(Event::Outgoing(_)) => {}
                        Err(_) => return,
                    }
                }
            })
            .await;
        }
    }
    server.quiet(|event| matches!(event, Inbound::Message(_))).await;
    neighbour.quiet(|packet| matches!(packet, Packet::Publish(_))).await;
}

#[tokio::test]
async fn a_device_hears_its_own_topics_alone_and_no_wildcard() {
    let server = Server::start();
    let mut device = Device::to(&server, "d1").await;
    for suffix in ["commands", "commands/cancel", "tunnel/control", "tunnel/down"] {
        assert!(device.hears(own("d1", suffix), QoS::ExactlyOnce).await, "{suffix}");
    }
    for filter in [
        own("d2", "commands"),
        own("+", "commands"),
        own("d1", "#"),
        own("d1", "+"),
        own("d1", "commands/#"),
        own("d1", "commands/+"),
        own("d1", "status"),
        own("d1", "commands/response"),
        own("d1", "tunnel/up"),
        "#".into(),
        "+/+/+/+/+".into(),
        "roboticks/#".into(),
        "roboticks/q/devices/d1/commands".into(),
        "$SYS/#".into(),
    ] {
        assert!(!device.hears(&filter, QoS::AtMostOnce).await, "{filter}");
    }
    // A neighbour's messages do not come.
    let mut neighbour = Device::to(&server, "d2").await;
    assert!(neighbour.hears(own("d2", "commands"), QoS::ExactlyOnce).await);
    server.publish("d2", DeviceTopic::Commands, b"for d2").expect("connected");
    assert_eq!(&neighbour.heard().await.payload[..], b"for d2");
    device.quiet(|packet| matches!(packet, Packet::Publish(_))).await;
}

#[tokio::test]
async fn a_shared_subscription_is_refused() {
    let server = Server::start();
    let mut device = Device::to(&server, "d1").await;
    device
        .client
        .subscribe(format!("$share/g/{}", own("d1", "commands")), QoS::AtLeastOnce)
        .await
        .expect("queued");
    soon("a refusal", async {
        loop {
            match device.events.recv().await.expect("polling") {
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    assert_eq!(ack.return_codes, [rumqttc::SubscribeReasonCode::Failure]);
                    return;
                }
                Ok(_) => {}
                // Ending the connection refuses as well.
                Err(_) => return,
            }
        }
    })
    .await;
    assert!(server.publish("d1", DeviceTopic::Commands, b"x").is_err());
}

#[tokio::test]
async fn the_tunnel_connection_carries_tunnels_alone() {
    let mut server = Server::start();
    let mut tunnel = Device::connect(options_of(&server, "p:d1:tunnel", Some(("p/d1", "s")))).await;
    assert!(tunnel.hears(own("d1", "tunnel/down"), QoS::AtMostOnce).await);
    assert!(!tunnel.hears(own("d1", "commands"), QoS::AtMostOnce).await);
    tunnel.says(own("d1", "tunnel/up"), QoS::AtMostOnce, b"keys").await;
    assert_eq!(&server.message().await.payload[..], b"keys");
    tunnel.says(own("d1", "status"), QoS::AtLeastOnce, b"{}").await;
    tunnel.broken().await;
}

#[tokio::test]
async fn a_tunnel_takes_the_connection_that_carries_tunnels_alone() {
    let mut server = Server::start();
    let mut main = Device::to(&server, "d1").await;
    assert!(main.hears(own("d1", "tunnel/control"), QoS::AtLeastOnce).await);
    server.subscribed(DeviceTopic::TunnelControl).await;
    server.publish("d1", DeviceTopic::TunnelControl, b"1").expect("heard by the main connection");
    assert_eq!(&main.heard().await.payload[..], b"1");

    let mut tunnel = Device::connect(options_of(&server, "p:d1:tunnel", Some(("p/d1", "s")))).await;
    assert!(tunnel.hears(own("d1", "tunnel/control"), QoS::AtLeastOnce).await);
    server.subscribed(DeviceTopic::TunnelControl).await;
    server.publish("d1", DeviceTopic::TunnelControl, b"2").expect("heard by both");
    assert_eq!(&tunnel.heard().await.payload[..], b"2");
    main.quiet(|packet| matches!(packet, Packet::Publish(_))).await;
}

#[tokio::test]
async fn a_device_does_not_hear_itself() {
    let mut server = Server::start();
    let mut device = Device::to(&server, "d1").await;
    assert!(device.hears(own("d1", "tunnel/control"), QoS::AtLeastOnce).await);
    device.says(own("d1", "tunnel/control"), QoS::AtLeastOnce, b"opened").await;
    server.message().await.ack.committed();
    device.quiet(|packet| matches!(packet, Packet::Publish(_))).await;
}

#[tokio::test]
async fn a_message_of_128_kib_comes_and_one_byte_more_ends_the_connection() {
    let mut server = Server::start();
    let mut device = Device::to(&server, "d1").await;
    let longest = vec![b'x'; MQTT_MESSAGE_MAX_BYTES];
    device.says(own("d1", "tunnel/up"), QoS::AtMostOnce, &longest).await;
    assert_eq!(server.message().await.payload.len(), MQTT_MESSAGE_MAX_BYTES);
    device.says(own("d1", "commands/response"), QoS::ExactlyOnce, &longest).await;
    server.message().await.ack.committed();
    device.until("a PUBCOMP", |packet| matches!(packet, Packet::PubComp(_))).await;

    for (qos, more) in [(QoS::AtMostOnce, 1), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 100_000)] {
        let mut device = Device::to(&server, "d1").await;
        device.says(own("d1", "health"), qos, &vec![b'x'; MQTT_MESSAGE_MAX_BYTES + more]).await;
        device.broken().await;
    }
    server.quiet(|event| matches!(event, Inbound::Message(_))).await;
}

// ---------------------------------------------------------------- acknowledged means durable

#[tokio::test]
async fn a_publish_is_acknowledged_only_after_its_commit() {
    let mut server = Server::start();
    let mut device = Device::to(&server, "d1").await;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        device.says(own("d1", "commands/response"), qos, b"{}").await;
        let message = server.message().await;
        device.quiet(is_ack).await;
        message.ack.committed();
        device
            .until("an acknowledgement", |p| matches!(p, Packet::PubAck(_) | Packet::PubComp(_)))
            .await;
    }
}

#[tokio::test]
async fn a_failed_commit_ends_the_connection_and_the_device_says_it_again() {
    for (qos, fail) in [
        (QoS::AtLeastOnce, true),
        (QoS::ExactlyOnce, true),
        // A dropped handle counts as failed.
        (QoS::AtLeastOnce, false),
    ] {
        let mut server = Server::start();
        let mut options = options(&server, "d1");
        options.set_clean_session(false);
        let mut device = Device::connect(options).await;
        device.says(own("d1", "commands/response"), qos, b"result").await;
        let message = server.message().await;
        let first = message.connection;
        if fail {
            message.ack.failed();
        } else {
            drop(message.ack);
        }
        device.broken().await;
        let again = server.message().await;
        assert_eq!(&again.payload[..], b"result");
        assert!(again.connection > first, "a later connection");
        again.ack.committed();
        device
            .until("an acknowledgement", |p| matches!(p, Packet::PubAck(_) | Packet::PubComp(_)))
            .await;
    }
}

#[tokio::test]
async fn an_engine_that_stops_reading_holds_the_devices_back_and_nothing_is_lost() {
    let mut server = Server::start();
    let said = limits::INBOUND_MAX_EVENTS + 2_000;
    let device = Device::to(&server, "d1").await;
    let topic = own("d1", "tunnel/up");
    let client = device.client.clone();
    let saying = tokio::spawn(async move {
        for n in 0..said {
            client.publish(&topic, QoS::AtMostOnce, false, n.to_be_bytes()).await.expect("queued");
        }
    });
    // The channel fills and no further.
    soon("a full channel", async {
        while server.inbound.len() < limits::INBOUND_MAX_EVENTS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(server.inbound.len(), limits::INBOUND_MAX_EVENTS);
    for n in 0..said {
        assert_eq!(server.message().await.payload[..], n.to_be_bytes(), "in order");
    }
    saying.await.expect("said all");
}

#[tokio::test]
async fn many_messages_are_taken_at_once_and_acknowledged_in_any_order() {
    let mut server = Server::start();
    let mut devices = Vec::new();
    for n in 0..20 {
        devices.push(Device::to(&server, &format!("d{n}")).await);
    }
    for (n, device) in devices.iter().enumerate() {
        device.says(own(&format!("d{n}"), "health"), QoS::AtLeastOnce, b"{}").await;
    }
    let mut messages = Vec::new();
    while messages.len() < devices.len() {
        messages.push(server.message().await);
    }
    messages.into_iter().rev().for_each(|message| message.ack.committed());
    for device in &mut devices {
        device.until("a PUBACK", |packet| matches!(packet, Packet::PubAck(_))).await;
    }
}

#[tokio::test]
async fn a_device_goes_on_talking_before_its_first_message_is_durable() {
    let mut server = Server::start();
    let mut device = Device::to(&server, "d1").await;
    let mut acks = Vec::new();
    for n in 0..20_u8 {
        device.says(own("d1", "health"), QoS::AtLeastOnce, &[n]).await;
        let message = server.message().await;
        assert_eq!(message.payload[..], [n]);
        acks.push(message.ack);
    }
    device.quiet(is_ack).await;
    // Durable in any order, acknowledged in the order in which they were said.
    let first = acks.remove(0);
    acks.into_iter().rev().for_each(AckHandle::committed);
    device.quiet(is_ack).await;
    first.committed();
    let mut last = 0;
    for _ in 0..20 {
        let Packet::PubAck(ack) =
            device.until("a PUBACK", |packet| matches!(packet, Packet::PubAck(_))).await
        else {
            unreachable!("filtered")
        };
        assert!(ack.pkid > last, "{} after {last}", ack.pkid);
        last = ack.pkid;
    }
}

#[tokio::test]
async fn what_was_said_before_a_failed_commit_is_acknowledged_and_what_came_after_is_not() {
    let mut server = Server::start();
    let mut device = Device::to(&server, "d1").await;
    let mut acks = VecDeque::new();
    for n in 0..3_u8 {
        device.says(own("d1", "health"), QoS::AtLeastOnce, &[n]).await;
        acks.push_back(server.message().await.ack);
    }
    let (first, second, third) = (acks.pop_front(), acks.pop_front(), acks.pop_front());
    third.expect("said").committed();
    first.expect("said").committed();
    device.until("a PUBACK", |packet| matches!(packet, Packet::PubAck(_))).await;
    second.expect("said").failed();
    soon("the end of the connection", async {
        loop {
            match device.events.recv().await.expect("polling") {
                Ok(Event::Incoming(packet)) => assert!(!is_ack(&packet), "{packet:?}"),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_burst_of_qos_2_is_not_thrown_out() {
    let mut server = Server::start();
    let mut options = options(&server, "d1");
    options.set_inflight(1_000);
    let device = Device::connect(options).await;
    for n in 0..900_u32 {
        device.says(own("d1", "commands/response"), QoS::ExactlyOnce, &n.to_be_bytes()).await;
    }
    for n in 0..900_u32 {
        let message = server.message().await;
        assert_eq!(message.payload[..], n.to_be_bytes());
        message.ack.committed();
    }
}

// ---------------------------------------------------------------- to devices

#[tokio::test]
async fn a_command_is_given_to_a_device_that_listens_and_refused_for_others() {
    let mut server = Server::start();
    assert_eq!(server.publish("d1", DeviceTopic::Commands, b"x"), Err(PublishError::NotConnected));
    let mut device = Device::to(&server, "d1").await;
    let kind = DeviceTopic::Commands;
    assert_eq!(server.publish("d1", kind, b"x"), Err(PublishError::NotSubscribed { kind }));
    assert!(device.hears(own("d1", "commands"), QoS::ExactlyOnce).await);
    server.subscribed(kind).await;
    server.publish("d1", kind, b"reboot").expect("listens");
    let heard = device.heard().await;
    assert_eq!(
        (heard.topic, &heard.payload[..], heard.qos),
        (own("d1", "commands"), &b"reboot"[..], QoS::ExactlyOnce)
    );

    let kind = DeviceTopic::Status;
    assert_eq!(server.publish("d1", kind, b"x"), Err(PublishError::NotToDevice { kind }));
    let size_bytes = MQTT_MESSAGE_MAX_BYTES + 1;
    let long = server.publish("d1", DeviceTopic::Commands, &vec![0; size_bytes]);
    assert_eq!(long, Err(PublishError::TooLong { size_bytes }));

    device.client.unsubscribe(own("d1", "commands")).await.expect("queued");
    device.until("an UNSUBACK", |packet| matches!(packet, Packet::UnsubAck(_))).await;
    let kind = DeviceTopic::Commands;
    assert_eq!(server.publish("d1", kind, b"x"), Err(PublishError::NotSubscribed { kind }));
}

#[tokio::test]
async fn a_device_that_does_not_read_fills_its_queue_and_the_engine_is_told() {
    let mut server = Server::start();
    let mut stream = raw_connect(&server, "p:d1", "p/d1").await;
    stream.write_all(&raw_subscribe(&own("d1", "tunnel/down"))).await.expect("open");
    server.subscribed(DeviceTopic::TunnelDown).await;
    let frame = vec![b'x'; 64 * 1024];
    let mut given = 0;
    let error = soon("a full queue", async {
        loop {
            match server.publish("d1", DeviceTopic::TunnelDown, &frame) {
                Ok(()) => given += 1,
                Err(error) => return error,
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(error, PublishError::QueueFull);
    // What was taken is given, all of it, once the device reads.
    let mut left = given * frame.len();
    let mut buffer = vec![0; 1 << 20];
    soon("all that was taken", async {
        while left > 0 {
            let n = stream.read(&mut buffer).await.expect("open");
            assert_ne!(n, 0, "closed with {left} bytes to come");
            left = left.saturating_sub(n);
        }
    })
    .await;
    server.publish("d1", DeviceTopic::TunnelDown, b"more").expect("room again");
}

#[tokio::test]
async fn a_subscription_to_more_filters_than_there_can_be_ends_the_connection() {
    let mut server = Server::start();
    let mut stream = raw_connect(&server, "p:d1", "p/d1").await;
    let mut body = vec![0, 1];
    for _ in 0..=limits::FILTERS_MAX {
        raw_string(&mut body, "a");
        body.push(0);
    }
    assert!(body.len() < 128, "a length of one byte");
    stream.write_all(&raw_packet(0x82, &body)).await.expect("open");
    server.next("the end", |e| matches!(e, Inbound::Disconnected { .. })).await;
}

#[tokio::test]
async fn more_messages_than_may_be_unreleased_end_the_connection() {
    let mut server = Server::start();
    let mut stream = raw_connect(&server, "p:d1", "p/d1").await;
    let topic = own("d1", "health");
    let committing = async {
        loop {
            match server.inbound.recv().await.expect("the broker lives") {
                Inbound::Message(message) => message.ack.committed(),
                Inbound::Disconnected { ended, .. } => return ended,
                _ => {}
            }
        }
    };
    let saying = async {
        for n in 1..=limits::UNRELEASED_MAX as u16 + 1 {
            let mut body = Vec::new();
            raw_string(&mut body, &topic);
            body.extend(n.to_be_bytes());
            // It may have ended by the last.
            let _ = stream.write_all(&raw_packet(0x34, &body)).await;
        }
        let mut answers = Vec::new();
        let _ = stream.read_to_end(&mut answers).await;
    };
    let (ended, ()) = soon("the end", async { tokio::join!(committing, saying) }).await;
    assert_eq!(ended, Ended::Lost);
}

// ---------------------------------------------------------------- presence

#[tokio::test]
async fn a_second_connection_takes_the_first_over_and_events_come_in_order() {
    let mut server = Server::start();
    for clean in [true, false] {
        let mut connections = Vec::new();
        for _ in 0..3 {
            let mut options = options(&server, "d1");
            options.set_clean_session(clean);
            options.set_last_will(LastWill::new(
                own("d1", "status"),
                "offline",
                QoS::AtLeastOnce,
                true,
            ));
            let (client, mut polled) = AsyncClient::new(options, 10);
            let answer = soon("a CONNACK at the first try", polled.poll()).await;
            assert!(matches!(answer, Ok(Event::Incoming(Packet::ConnAck(_)))), "{answer:?}");
            connections.push((client, polled));
        }
        let mut current = None;
        for n in 0..5 {
            let event = server
                .next("presence", |e| {
                    matches!(e, Inbound::Connected { .. } | Inbound::Disconnected { .. })
                })
                .await;
            match event {
                Inbound::Connected { connection, channel, .. } => {
                    assert_eq!((n % 2, channel), (0, Channel::Main), "connected {n}");
                    assert!(Some(connection) > current);
                    current = Some(connection);
                }
                Inbound::Disconnected { connection, ended, .. } => {
                    assert_eq!((n % 2, ended, Some(connection)), (1, Ended::TakenOver, current));
                }
                _ => unreachable!("filtered"),
            }
        }
        // The last will of a connection that was taken over would be a lie.
        server
            .quiet(|event| matches!(event, Inbound::Message(_) | Inbound::Disconnected { .. }))
            .await;
        drop(connections);
        let will = server.message().await;
        assert_eq!(will.connection, current);
        will.ack.committed();
        server.next("the end", |e| matches!(e, Inbound::Disconnected { .. })).await;
    }
}

#[tokio::test]
async fn a_device_that_returns_to_its_session_is_heard_without_subscribing_again() {
    let mut server = Server::start();
    let mut options = options(&server, "d1");
    options.set_clean_session(false);
    let mut device = Device::connect(options.clone()).await;
    assert!(device.hears(own("d1", "commands"), QoS::ExactlyOnce).await);
    server.subscribed(DeviceTopic::Commands).await;
    drop(device);
    server.next("the end", |e| matches!(e, Inbound::Disconnected { .. })).await;
    assert_eq!(
        server.publish("d1", DeviceTopic::Commands, b"lost"),
        Err(PublishError::NotConnected)
    );

    let mut device = Device::connect(options).await;
    server.subscribed(DeviceTopic::Commands).await;
    server.publish("d1", DeviceTopic::Commands, b"again").expect("listens");
    assert_eq!(&device.heard().await.payload[..], b"again");
}

#[tokio::test]
async fn what_a_broken_connection_was_given_is_not_given_by_the_broker_later() {
    let mut server = Server::start();
    let mut stream = raw_connect_with(&server, "p:d1", "p/d1", false).await;
    stream.write_all(&raw_subscribe(&own("d1", "commands"))).await.expect("open");
    server.subscribed(DeviceTopic::Commands).await;
    for n in 0..limits::DEVICE_QUEUE_MAX_MESSAGES {
        server.publish("d1", DeviceTopic::Commands, n.to_string().as_bytes()).expect("room");
    }
    drop(stream);
    server.next("the end", |e| matches!(e, Inbound::Disconnected { .. })).await;
    let mut options = options(&server, "d1");
    options.set_clean_session(false);
    // It may hold what it was sent: its session is a new one, in which packet ids begin anew.
    let mut device = Device::connect(options).await;
    assert!(device.hears(own("d1", "commands"), QoS::ExactlyOnce).await);
    server.subscribed(DeviceTopic::Commands).await;
    server.publish("d1", DeviceTopic::Commands, b"fresh").expect("room");
    assert_eq!(&device.heard().await.payload[..], b"fresh");
}

#[tokio::test]
async fn a_qos_2_handshake_that_was_cut_off_does_not_haunt_the_next_connection() {
    let mut server = Server::start();
    let mut stream = raw_connect_with(&server, "p:d1", "p/d1", false).await;
    stream.write_all(&raw_subscribe(&own("d1", "commands"))).await.expect("open");
    server.subscribed(DeviceTopic::Commands).await;
    server.publish("d1", DeviceTopic::Commands, b"go").expect("listens");
    // SUBACK, PUBLISH; then PUBREC from us and PUBREL to us, which we leave unanswered.
    let mut answers = vec![0; 5 + 2 + 2 + own("d1", "commands").len() + 2 + 2];
    soon("a command", stream.read_exact(&mut answers)).await.expect("open");
    let packet_id = &answers[answers.len() - 4..][..2];
    stream.write_all(&[0x50, 2, packet_id[0], packet_id[1]]).await.expect("open");
    let mut release = [0; 4];
    soon("a PUBREL", stream.read_exact(&mut release)).await.expect("open");
    assert_eq!(release[0], 0x62);
    drop(stream);
    server.next("the end", |e| matches!(e, Inbound::Disconnected { .. })).await;

    let mut options = options(&server, "d1");
    options.set_clean_session(false);
    let mut device = Device::connect(options).await;
    assert!(device.hears(own("d1", "commands"), QoS::ExactlyOnce).await);
    server.subscribed(DeviceTopic::Commands).await;
    server.publish("d1", DeviceTopic::Commands, b"again").expect("listens");
    assert_eq!(&device.heard().await.payload[..], b"again");
    server.quiet(|event| matches!(event, Inbound::Disconnected { .. })).await;
}

#[tokio::test]
async fn a_retired_device_is_thrown_out_on_all_its_connections() {
    let mut server = Server::start();
    let mut main = Device::to(&server, "d1").await;
    let mut tunnel = Device::connect(options_of(&server, "p:d1:tunnel", Some(("p/d1", "s")))).await;
    let mut other = Device::to(&server, "d2").await;
    let (project, device) = ids("p", "d1");
    server.broker.disconnect(&project, &device);
    main.broken().await;
    tunnel.broken().await;
    for _ in 0..2 {
        server
            .next("the end", |e| matches!(e, Inbound::Disconnected { ended: Ended::ByServer, .. }))
            .await;
    }
    other.says(own("d2", "health"), QoS::AtLeastOnce, b"{}").await;
    server.message().await.ack.committed();
    other.until("a PUBACK", |packet| matches!(packet, Packet::PubAck(_))).await;
}

#[tokio::test]
async fn a_device_that_is_retired_while_it_signs_in_does_not_stay() {
    let mut server = Server::start();
    let closed = server.secrets.gate.acquire_many(1_000).await.expect("open");
    let options = options(&server, "d1");
    let (_client, mut connection) = AsyncClient::new(options, 10);
    let connecting = tokio::spawn(async move {
        loop {
            if connection.poll().await.is_err() {
                return;
            }
        }
    });
    soon("a sign-in", async {
        while server.broker.signing_in() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let (project, device) = ids("p", "d1");
    server.broker.disconnect(&project, &device);
    drop(closed);
    soon("the end of the connection", connecting).await.expect("no panic");
    server.quiet(|event| matches!(event, Inbound::Connected { .. })).await;
    assert_eq!(server.broker.connections(), 0);
}

#[tokio::test]
async fn shutdown_ends_all_connections_and_stops_listening() {
    let server = Server::start();
    let mut device = Device::to(&server, "d1").await;
    let address = server.broker.address();
    server.broker.shutdown().await;
    assert_eq!(server.broker.connections(), 0);
    device.broken().await;
    soon("a closed port", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

// ---------------------------------------------------------------- floods

#[tokio::test]
async fn a_connection_that_never_signs_in_is_closed_and_devices_come_through() {
    let mut server = Server::start();
    let mut strangers = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(server.broker.address()).await.expect("room");
        match n % 4 {
            // Nothing; a part of a CONNECT; a CONNECT that claims to be long; not MQTT.
            1 => stream.write_all(&[0x10, 0x20, 0x00]).await.expect("open"),
            2 => stream.write_all(b"\x10\xff\xff\x7f\x00\x04MQTT\x04").await.expect("open"),
            3 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("open"),
            _ => {}
        }
        strangers.push(stream);
    }
    let device = Device::to(&server, "d1").await;
    device.says(own("d1", "health"), QoS::AtLeastOnce, b"{}").await;
    server.message().await.ack.committed();
    for mut stream in strangers {
        let closed =
            tokio::time::timeout(Duration::from_millis(2 * limits::SIGN_IN_TIMEOUT_MS), async {
                let mut buffer = [0; 64];
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            });
        closed.await.expect("closed");
    }
    assert_eq!(server.broker.connections(), 1);
}

fn raw_string(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
    out.extend(text.as_bytes());
}

fn raw_packet(kind: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    let mut packet = vec![kind, body.len() as u8];
    packet.extend(body);
    packet
}

async fn raw_connect(server: &Server, client_id: &str, user: &str) -> TcpStream {
    raw_connect_with(server, client_id, user, true).await
}

/// Connects with MQTT 3.1.1 and reads no more than the answer.
async fn raw_connect_with(server: &Server, client_id: &str, user: &str, clean: bool) -> TcpStream {
    let mut body = Vec::new();
    raw_string(&mut body, "MQTT");
    body.extend([4, if clean { 0xC2 } else { 0xC0 }, 0, 60]);
    raw_string(&mut body, client_id);
    raw_string(&mut body, user);
    raw_string(&mut body, "s");
    let mut stream = TcpStream::connect(server.broker.address()).await.expect("listens");
    stream.write_all(&raw_packet(0x10, &body)).await.expect("open");
    let mut answer = [0; 4];
    soon("a CONNACK", stream.read_exact(&mut answer)).await.expect("open");
    assert_eq!(answer[3], 0);
    stream
}

fn raw_subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    raw_string(&mut body, filter);
    body.push(2);
    raw_packet(0x82, &body)
}

// ---------------------------------------------------------------- MQTT 5

mod v5 {
    use rumqttc::v5::{
        AsyncClient, ConnectionError, Event, Incoming, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{
                ConnectProperties, ConnectReturnCode, LastWill, LastWillProperties,
                SubscribeReasonCode,
            },
        },
    };

    use super::{DeviceTopic, Duration, Ended, Inbound, Server, own, soon};

    fn options(server: &Server, secret: &str) -> MqttOptions {
        let mut options = MqttOptions::new("p:d1", "127.0.0.1", server.broker.address().port());
        options.set_credentials("p/d1", secret).set_keep_alive(Duration::from_secs(30));
        options
    }

    #[tokio::test]
    async fn mqtt_5_signs_in_says_hears_and_is_bounded_alike() {
        let mut server = Server::start();
        let (_client, mut wrong) = AsyncClient::new(options(&server, "wrong"), 10);
        match soon("an answer", wrong.poll()).await {
            Err(ConnectionError::ConnectionRefused(code)) => {
                assert_eq!(code, ConnectReturnCode::BadUserNamePassword);
            }
            other => panic!("{other:?}"),
        }
        let mut foreign = options(&server, "s");
        foreign.set_last_will(LastWill::new(
            own("d2", "status"),
            "x",
            QoS::AtLeastOnce,
            true,
            None,
        ));
        let (_client, mut foreign) = AsyncClient::new(foreign, 10);
        match soon("an answer", foreign.poll()).await {
            Err(ConnectionError::ConnectionRefused(code)) => {
                assert_eq!(code, ConnectReturnCode::NotAuthorized);
            }
            other => panic!("{other:?}"),
        }

        let mut with_will = options(&server, "s");
        with_will.set_last_will(LastWill::new(
            own("d1", "status"),
            "off",
            QoS::AtLeastOnce,
            true,
            None,
        ));
        let (client, mut connection) = AsyncClient::new(with_will, 10);
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let polling = tokio::spawn(async move {
            loop {
                let event = connection.poll().await;
                let broken = event.is_err();
                if sender.send(event).is_err() || broken {
                    return;
                }
            }
        });
        let mut until = async |what: &str, wanted: &dyn Fn(&Incoming) -> bool| {
            soon(what, async {
                loop {
                    match events.recv().await.expect("polling").expect("connected") {
                        Event::Incoming(packet) if wanted(&packet) => return packet,
                        _ => {}
                    }
                }
            })
            .await
        };
        until("a CONNACK", &|p| matches!(p, Incoming::ConnAck(_))).await;

        for (filter, granted) in [
            (own("d1", "commands"), true),
            (own("d1", "#"), false),
            (own("d2", "commands"), false),
            ("$share/g/#".to_owned(), false),
        ] {
            client.subscribe(&filter, QoS::ExactlyOnce).await.expect("queued");
            let Incoming::SubAck(ack) =
                until("a SUBACK", &|p| matches!(p, Incoming::SubAck(_))).await
            else {
                unreachable!("filtered")
            };
            let success = matches!(ack.return_codes[..], [SubscribeReasonCode::Success(_)]);
            assert_eq!(success, granted, "{filter}: {:?}", ack.return_codes);
        }
        server.subscribed(DeviceTopic::Commands).await;
        server.publish("d1", DeviceTopic::Commands, b"go").expect("listens");
        let Incoming::Publish(heard) =
            until("a message", &|p| matches!(p, Incoming::Publish(_))).await
        else {
            unreachable!("filtered")
        };
        assert_eq!(&heard.payload[..], b"go");

        for (qos, retain) in
            [(QoS::AtMostOnce, false), (QoS::AtLeastOnce, true), (QoS::ExactlyOnce, false)]
        {
            client.publish(own("d1", "status"), qos, retain, "on").await.expect("queued");
            let message = server.message().await;
            assert_eq!((message.retained, &message.payload[..]), (retain, &b"on"[..]));
            message.ack.committed();
            match qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => {
                    drop(until("a PUBACK", &|p| matches!(p, Incoming::PubAck(_))).await);
                }
                QoS::ExactlyOnce => {
                    drop(until("a PUBCOMP", &|p| matches!(p, Incoming::PubComp(_))).await);
                }
            }
        }

        client
            .publish(own("d1", "commands"), QoS::AtLeastOnce, false, "forged")
            .await
            .expect("queued");
        soon("the end of the connection", polling).await.expect("no panic");
        let will = server.message().await;
        assert!(will.last_will);
        will.ack.committed();
        server
            .next(
                "the end",
                |e| matches!(e, Inbound::Disconnected { ended, .. } if *ended != Ended::ByDevice),
            )
            .await;
    }

    /// A device whose last will waits a second, in a session that lives longer.
    async fn with_delayed_will(server: &Server) -> tokio::task::JoinHandle<()> {
        let mut options = options(server, "s");
        options.set_connect_properties(ConnectProperties {
            session_expiry_interval: Some(60),
            ..ConnectProperties::new()
        });
        let properties = LastWillProperties {
            delay_interval: Some(1),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        let (topic, qos) = (own("d1", "status"), QoS::AtLeastOnce);
        options.set_last_will(LastWill::new(topic, "off", qos, true, Some(properties)));
        let (client, mut connection) = AsyncClient::new(options, 10);
        match soon("a CONNACK", connection.poll()).await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {}
            other => panic!("{other:?}"),
        }
        tokio::spawn(async move {
            while connection.poll().await.is_ok() {}
            drop(client);
        })
    }

    #[tokio::test]
    async fn a_last_will_with_a_delay_neither_delays_the_end_nor_outlives_a_return() {
        let mut server = Server::start();
        with_delayed_will(&server).await.abort();
        let is_gone = |e: &Inbound| matches!(e, Inbound::Disconnected { ended: Ended::Lost, .. });
        let is_there = |e: &Inbound| matches!(e, Inbound::Connected { .. });
        // The broker sees the end itself; nothing has to wait for the will to say it.
        server.next("the first connection", is_there).await;
        server.next("its end", is_gone).await;
        let _back = with_delayed_will(&server).await;
        server.next("the second connection", is_there).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        server.quiet(|e| matches!(e, Inbound::Message(_)) || is_gone(e)).await;
    }
}
