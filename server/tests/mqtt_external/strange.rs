//! Brokers that behave as Mosquitto does not: without QoS 2, or with a session that does not fit.

use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, PubRel, QoS, SubAck, SubscribeReasonCode, mqttbytes,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;

/// What a broker does with a packet: answers, or ends the connection.
type Behaviour = Box<dyn FnMut(&Packet) -> Option<Vec<Packet>> + Send>;

/// A broker of one client, and what it heard.
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
        let mut behaviour: Behaviour = Box::new(behaviour);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &mut behaviour, &sender).await;
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
    behaviour: &mut Behaviour,
    heard: &mpsc::UnboundedSender<Packet>,
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
        let answer = behaviour(&packet);
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
    let mut is_stale = true;
    let mut broker = Strange::start(move |packet| match packet {
        // A handshake goes on that a former process began.
        Packet::Connect(connect) if !connect.clean_session && is_stale => {
            Some(vec![accepted(true), Packet::PubRel(PubRel::new(7))])
        }
        Packet::Connect(connect) => {
            is_stale &= !connect.clean_session;
            Some(vec![accepted(!connect.clean_session)])
        }
        Packet::Publish(publish) if publish.payload == "end" => None,
        other => Some(usual(other)),
    })
    .await;
    let mut server = server(&broker, Qos::ExactlyOnce);
    let clean = |packet: &Packet| matches!(packet, Packet::Connect(c) if c.clean_session);
    broker.hears("a new session", clean).await;
    broker.hears("a subscription", |packet| matches!(packet, Packet::Subscribe(_))).await;
    // It stays, and the next one is resumed as usual.
    loop {
        server.next("a connection", |event| matches!(event, Inbound::LinkUp)).await;
        if server.publish(DeviceTopic::CommandsCancel, b"end").is_ok() {
            break;
        }
    }
    let again = broker.hears("another connection", |p| matches!(p, Packet::Connect(_))).await;
    assert!(!clean(&again), "{again:?}");
}
