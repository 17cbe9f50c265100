//! Devices that mean harm: with topics that are none, aliases, names of others.

use super::*;

/// A PUBLISH with QoS 1 and packet id 1; `properties` are those of MQTT 5.
fn raw_publish(topic: &[u8], properties: Option<&[u8]>) -> Vec<u8> {
    let mut body = u16::try_from(topic.len()).expect("short").to_be_bytes().to_vec();
    body.extend(topic);
    body.extend([0, 1]);
    if let Some(properties) = properties {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    body.extend(b"forged");
    let mut packet = vec![0x32];
    let mut left = body.len();
    while left >= 128 {
        packet.push((left % 128) as u8 | 0x80);
        left /= 128;
    }
    packet.push(left as u8);
    packet.extend(body);
    packet
}

/// Signs in with MQTT 5 and a clean start.
async fn raw_connect_5(server: &Server, client_id: &str, user: &str) -> TcpStream {
    let mut body = Vec::new();
    raw_string(&mut body, "MQTT");
    // Version, flags, keep-alive, no properties.
    body.extend([5, 0xC2, 0, 60, 0]);
    raw_string(&mut body, client_id);
    raw_string(&mut body, user);
    raw_string(&mut body, "s");
    let mut stream = TcpStream::connect(server.broker.address()).await.expect("listens");
    stream.write_all(&raw_packet(0x10, &body)).await.expect("open");
    let mut head = [0; 2];
    soon("a CONNACK", stream.read_exact(&mut head)).await.expect("open");
    assert_eq!(head[0], 0x20);
    let mut rest = vec![0; usize::from(head[1])];
    soon("a CONNACK", stream.read_exact(&mut rest)).await.expect("open");
    assert_eq!(rest[1], 0, "refused");
    stream
}

async fn ends(mut stream: TcpStream, what: &str) {
    let mut rest = Vec::new();
    // Reset or closed: both are an end.
    let _ = soon(what, stream.read_to_end(&mut rest)).await;
    // Nothing was acknowledged on the way.
    assert!(!rest.starts_with(&[0x40]), "{what} was acknowledged");
}

fn is_forged(event: &Inbound) -> bool {
    matches!(event, Inbound::Message(message) if message.payload == "forged")
}

#[tokio::test]
async fn a_topic_that_is_none_ends_the_connection_and_disturbs_nobody() {
    let mut server = Server::start();
    let other = Device::to(&server, "d2").await;
    let long = vec![b'x'; 65_535];
    for topic in [
        &b""[..],
        b"roboticks/p/devices/d1/status\0",
        b"roboticks/p/devices/d1/\xff\xfe",
        b"roboticks/p/devices/d1/+",
        b"roboticks/p/devices/d1/#",
        b"roboticks/p/devices/d2/status",
        b"$SYS/brokers",
        b"$share/g/roboticks/p/devices/d1/status",
        &long,
    ] {
        let mut stream = raw_connect(&server, "p:d1", "p/d1").await;
        let _ = stream.write_all(&raw_publish(topic, None)).await;
        ends(stream, &topic[..topic.len().min(60)].escape_ascii().to_string()).await;
    }
    other.says(own("d2", "status"), QoS::AtLeastOnce, b"still here").await;
    let message = server.message().await;
    assert_eq!(&message.payload[..], b"still here");
    message.ack.committed();
    server.quiet(is_forged).await;
}

#[tokio::test]
async fn a_topic_alias_is_no_way_around() {
    const ALIAS_1: &[u8] = &[0x23, 0, 1];
    let mut server = Server::start();
    // The server grants none (MQTT 5, section 3.2.2.3.8): whoever uses one breaks the protocol.
    for (topic, alias) in [
        (String::new(), ALIAS_1),
        (own("d1", "status"), ALIAS_1),
        (own("d2", "status"), ALIAS_1),
        (own("d2", "status"), &[0x23, 0, 0]),
    ] {
        let mut stream = raw_connect_5(&server, "p:d1", "p/d1").await;
        let _ = stream.write_all(&raw_publish(topic.as_bytes(), Some(alias))).await;
        ends(stream, &topic).await;
    }
    server.quiet(is_forged).await;
}

#[tokio::test]
async fn a_second_connect_on_a_connection_ends_it() {
    let server = Server::start();
    let mut stream = raw_connect(&server, "p:d1", "p/d1").await;
    let mut body = Vec::new();
    raw_string(&mut body, "MQTT");
    body.extend([4, 0xC2, 0, 60]);
    raw_string(&mut body, "p:d2");
    raw_string(&mut body, "p/d2");
    raw_string(&mut body, "s");
    stream.write_all(&raw_packet(0x10, &body)).await.expect("open");
    ends(stream, "a second CONNECT").await;
}

#[tokio::test]
async fn a_protocol_level_that_nobody_knows_is_refused_with_its_code() {
    let server = Server::start();
    for level in [0, 6, 255] {
        let mut body = Vec::new();
        raw_string(&mut body, "MQTT");
        body.extend([level, 0xC2, 0, 60]);
        raw_string(&mut body, "p:d1");
        let mut stream = TcpStream::connect(server.broker.address()).await.expect("listens");
        stream.write_all(&raw_packet(0x10, &body)).await.expect("open");
        let mut answer = Vec::new();
        soon("the end", stream.read_to_end(&mut answer)).await.expect("open");
        assert_eq!(answer, [0x20, 2, 0, 1], "level {level}");
    }
    let mut stream = TcpStream::connect(server.broker.address()).await.expect("listens");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("open");
    ends(stream, "what is not MQTT").await;
}

#[tokio::test]
async fn who_tries_anothers_client_id_does_not_disturb_its_holder() {
    let mut server = Server::start();
    let holder = Device::to(&server, "d1").await;
    for credentials in [Some(("p/d2", "s")), Some(("p/d1", "guess")), Some(("q/d1", "s")), None] {
        refused(options_of(&server, "p:d1", credentials)).await;
    }
    holder.says(own("d1", "status"), QoS::AtLeastOnce, b"undisturbed").await;
    let message = server.message().await;
    assert_eq!(&message.payload[..], b"undisturbed");
    message.ack.committed();
    server.quiet(|event| matches!(event, Inbound::Disconnected { .. })).await;
    assert_eq!(server.broker.connections(), 1);
}
