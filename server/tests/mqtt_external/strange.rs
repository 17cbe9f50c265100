//! Brokers that behave as Mosquitto does not: without QoS 2, or with a session that does not fit.

use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, PubRel, QoS, SubAck, SubscribeReasonCode, mqttbytes,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use std::sync::Mutex;

use super::*;

/// What a broker does with a packet: answers, or ends the connection.
type Behaviour = Box<dyn FnMut(&Packet) -> Option<Vec<Packet>> + Send>;

/// A broker of one server, and what it heard.
struct Strange {
    url: String,
    heard: mpsc::UnboundedReceiver<Packet>,
    serving: JoinHandle<()>,
}

impl Drop for Strange {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Strange {
    async fn start(behaviour: impl FnMut(&Packet) -> Option<Vec<Packet>> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("mqtt://127.0.0.1:{}", listener.local_addr().expect("bound").port());
        let (sender, heard) = mpsc::unbounded_channel();
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(Box::new(behaviour)));
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&behaviour), sender.clone()));
            }
        });
        Self { url, heard, serving }
    }

    async fn hears(&mut self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Packet {
        soon(what, async {
            loop {
                let packet = self.heard.recv().await.expect("serving");
                if wanted(&packet) {
                    return packet;
                }
            }
        })
        .await
    }
}

/// Serves one connection to its end.
async fn serve(
    mut stream: TcpStream,
    behaviour: Arc<Mutex<Behaviour>>,
    heard: mpsc::UnboundedSender<Packet>,
) {
    let mut bytes = BytesMut::new();
    loop {
        let packet = match Packet::read(&mut bytes, 1 << 20) {
            Ok(packet) => packet,
            Err(mqttbytes::Error::InsufficientBytes(_)) => {
                match stream.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => continue,
                }
            }
            Err(error) => panic!("no MQTT: {error}"),
        };
        let answer = (behaviour.lock().expect("no panic"))(&packet);
        heard.send(packet).ok();
        let Some(answer) = answer else { return };
        let mut out = BytesMut::new();
        for packet in answer {
            packet.write(&mut out, 1 << 20).expect("a short packet");
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

fn accepted(session_present: bool) -> Packet {
    Packet::ConnAck(ConnAck { code: ConnectReturnCode::Success, session_present })
}

/// What every broker answers beside CONNECT and PUBLISH.
fn usual(packet: &Packet) -> Vec<Packet> {
    match packet {
        Packet::Subscribe(subscribe) => {
            let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
            let codes = vec![granted; subscribe.filters.len()];
            vec![Packet::SubAck(SubAck::new(subscribe.pkid, codes))]
        }
        Packet::PingReq => vec![Packet::PingResp],
        Packet::Publish(publish) if publish.qos == QoS::AtLeastOnce => {
            vec![Packet::PubAck(PubAck::new(publish.pkid))]
        }
        _ => Vec::new(),
    }
}

fn qos_of(packet: &Packet) -> Option<QoS> {
    match packet {
        Packet::Publish(publish) => Some(publish.qos),
        _ => None,
    }
}

fn server(strange: &Strange, qos_max: Qos) -> Server {
    let broker = BrokerUrl::parse(&strange.url).expect("a URL");
    let config = Config { qos_max, ..config(broker, None) };
    let (client, inbound) = external::start(config).expect("a sound configuration");
    Server { client, inbound, kept: VecDeque::new() }
}

#[tokio::test]
async fn a_broker_without_qos_2_is_found_out_and_gets_qos_1() {
    let mut broker = Strange::start(|packet| match packet {
        Packet::Connect(_) => Some(vec![accepted(false)]),
        Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => None,
        other => Some(usual(other)),
    })
    .await;
    let mut server = server(&broker, Qos::ExactlyOnce);
    // As the engine does: what was published and not answered goes out again on each connection.
    let mut connections = 0;
    let qos = loop {
        server.next("a connection", |event| matches!(event, Inbound::LinkUp)).await;
        connections += 1;
        server.publish(DeviceTopic::Commands, b"go").expect("connected");
        let heard = broker.hears("a publish", |packet| qos_of(packet).is_some()).await;
        match qos_of(&heard).expect("a publish") {
            QoS::ExactlyOnce => assert!(connections < 10, "for ever"),
            lower => break lower,
        }
    };
    assert_eq!(qos, QoS::AtLeastOnce);
}

#[tokio::test]
async fn a_broker_that_is_said_to_have_no_qos_2_never_gets_it() {
    let mut broker = Strange::start(|packet| match packet {
        Packet::Connect(_) => Some(vec![accepted(false)]),
        other => Some(usual(other)),
    })
    .await;
    let mut server = server(&broker, Qos::AtLeastOnce);
    server.next("a connection", |event| matches!(event, Inbound::LinkUp)).await;
    server.publish(DeviceTopic::Commands, b"go").expect("connected");
    let heard = broker.hears("a publish", |packet| qos_of(packet).is_some()).await;
    assert_eq!(qos_of(&heard), Some(QoS::AtLeastOnce));
}

#[tokio::test]
async fn a_session_that_breaks_each_connection_is_given_up_once() {
    let hears = |client_id: &str| client_id == CLIENT_ID;
    let mut is_stale = true;
    let mut broker = Strange::start(move |packet| match packet {
        Packet::Connect(connect) if !hears(&connect.client_id) => Some(vec![accepted(false)]),
        // A handshake goes on that a former process began.
        Packet::Connect(connect) if !connect.clean_session && is_stale => {
            Some(vec![accepted(true), Packet::PubRel(PubRel::new(7))])
        }
        Packet::Connect(connect) => {
            is_stale &= !connect.clean_session;
            Some(vec![accepted(!connect.clean_session)])
        }
        other => Some(usual(other)),
    })
    .await;
    let mut server = server(&broker, Qos::ExactlyOnce);
    let begins = |packet: &Packet| match packet {
        Packet::Connect(connect) if hears(&connect.client_id) => Some(connect.clean_session),
        _ => None,
    };
    broker.hears("a new session", |packet| begins(packet) == Some(true)).await;
    broker.hears("a subscription", |packet| matches!(packet, Packet::Subscribe(_))).await;
    server.next("a connection", |event| matches!(event, Inbound::LinkUp)).await;
    drop(server);
    // It stays, and the next one is resumed as usual.
    let _again = self::server(&broker, Qos::ExactlyOnce);
    broker.hears("the session resumed", |packet| begins(packet) == Some(false)).await;
    broker.hears("a subscription", |packet| matches!(packet, Packet::Subscribe(_))).await;
}

#[tokio::test]
async fn only_the_session_that_hears_is_kept() {
    let mut broker = Strange::start(|packet| match packet {
        Packet::Connect(_) => Some(vec![accepted(false)]),
        other => Some(usual(other)),
    })
    .await;
    let _server = server(&broker, Qos::ExactlyOnce);
    let mut kept = std::collections::BTreeMap::new();
    while kept.len() < 3 {
        let connect = broker.hears("all", |packet| matches!(packet, Packet::Connect(_))).await;
        let Packet::Connect(connect) = connect else { unreachable!("filtered") };
        kept.insert(connect.client_id, !connect.clean_session);
    }
    let expected = [("", true), ("-out", false), ("-tunnels", false)]
        .map(|(end, is_kept)| (format!("{CLIENT_ID}{end}"), is_kept));
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_key_does_not_wait_behind_commands_that_the_broker_has_not_acknowledged() {
    let mut broker = Strange::start(|packet| match packet {
        Packet::Connect(_) => Some(vec![accepted(false)]),
        // For ever.
        Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => Some(Vec::new()),
        other => Some(usual(other)),
    })
    .await;
    let mut server = server(&broker, Qos::ExactlyOnce);
    server.next("a connection", |event| matches!(event, Inbound::LinkUp)).await;
    for _ in 0..2 * MOSQUITTO_INFLIGHT {
        server.publish(DeviceTopic::Commands, b"go").expect("connected");
    }
    for _ in 0..MOSQUITTO_INFLIGHT {
        broker.hears("a command", |packet| qos_of(packet) == Some(QoS::ExactlyOnce)).await;
    }
    server.publish(DeviceTopic::TunnelDown, b"key").expect("connected");
    broker.hears("the key", |packet| qos_of(packet) == Some(QoS::AtMostOnce)).await;
}
