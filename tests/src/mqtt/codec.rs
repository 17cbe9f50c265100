//! MQTT 3.1.1 packets to bytes and back: as much as a device needs.
//!
//! Writing appends to a buffer, reading borrows from one: thousands of
//! simulated devices share the machine with the server that they measure.

use anyhow::{Result, bail};

/// How often a message may come: the QoS of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

impl Qos {
    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// What comes from a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// 0 lets in; anything else is why not.
    ConnAck {
        code: u8,
    },
    Publish {
        topic: &'a str,
        payload: &'a [u8],
        qos: Qos,
        duplicate: bool,
        retained: bool,
        /// 0 at [`Qos::AtMostOnce`].
        id: u16,
    },
    PubAck {
        id: u16,
    },
    PubRec {
        id: u16,
    },
    PubRel {
        id: u16,
    },
    PubComp {
        id: u16,
    },
    /// The QoS that was granted, or 0x80 for a refusal.
    SubAck {
        id: u16,
        code: u8,
    },
    PingResp,
}

/// Reads the first packet of `bytes` and how long it is; `None` while it is not complete.
pub fn read(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>> {
    let Some((first, body, total)) = frame(bytes)? else { return Ok(None) };
    let id = |at: usize| -> Result<u16> {
        let Some(&[high, low]) = body.get(at..at + 2).and_then(|b| <&[u8; 2]>::try_from(b).ok())
        else {
            bail!("packet {first:#04x} is too short");
        };
        Ok(u16::from_be_bytes([high, low]))
    };
    let packet = match first >> 4 {
        2 => Packet::ConnAck { code: (id(0)? & 0xff) as u8 },
        3 => {
            let Some(qos) = Qos::from_bits((first >> 1) & 3) else { bail!("QoS 3") };
            let topic_end = 2 + usize::from(id(0)?);
            let Some(topic) = body.get(2..topic_end) else { bail!("a topic beyond its packet") };
            let (id, start) = match qos {
                Qos::AtMostOnce => (0, topic_end),
                _ => (id(topic_end)?, topic_end + 2),
            };
            Packet::Publish {
                topic: str::from_utf8(topic)?,
                payload: &body[start..],
                qos,
                duplicate: first & 8 != 0,
                retained: first & 1 != 0,
                id,
            }
        }
        4 => Packet::PubAck { id: id(0)? },
        5 => Packet::PubRec { id: id(0)? },
        6 => Packet::PubRel { id: id(0)? },
        7 => Packet::PubComp { id: id(0)? },
        9 => Packet::SubAck { id: id(0)?, code: body.get(2).copied().unwrap_or(0x80) },
        13 => Packet::PingResp,
        kind => bail!("a packet of kind {kind} from a broker"),
    };
    Ok(Some((packet, total)))
}

/// Splits the first packet off, whoever sent it: its first byte, its body, its whole length.
pub fn frame(bytes: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0_usize;
    let mut digits = 0;
    loop {
        let Some(&byte) = rest.get(digits) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * digits);
        digits += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if digits == 4 {
            bail!("a packet length of more than four bytes");
        }
    }
    Ok(rest.get(digits..digits + length).map(|body| (first, body, 1 + digits + length)))
}

/// A message that the broker sends in one's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
}

/// What a client says of itself first.
#[derive(Debug, Clone, Default)]
pub struct Connect<'a> {
    pub client_id: &'a str,
    pub keep_alive_s: u16,
    pub clean_session: bool,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub will: Option<&'a Will>,
}

pub fn write_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let mut body = Vec::with_capacity(128);
    text(&mut body, b"MQTT");
    let mut flags = u8::from(connect.clean_session) << 1;
    flags |= u8::from(connect.username.is_some()) << 7;
    flags |= u8::from(connect.password.is_some()) << 6;
    if let Some(will) = connect.will {
        flags |= 0x04 | (1 << 3) | (u8::from(will.retained) << 5);
    }
    body.extend([4, flags]);
    body.extend(connect.keep_alive_s.to_be_bytes());
    text(&mut body, connect.client_id.as_bytes());
    if let Some(will) = connect.will {
        text(&mut body, will.topic.as_bytes());
        text(&mut body, &will.payload);
    }
    if let Some(username) = connect.username {
        text(&mut body, username.as_bytes());
    }
    if let Some(password) = connect.password {
        text(&mut body, password);
    }
    header(out, 0x10, body.len());
    out.extend(body);
}

pub fn write_subscribe(out: &mut Vec<u8>, id: u16, filter: &str, qos: Qos) {
    header(out, 0x82, 2 + 2 + filter.len() + 1);
    out.extend(id.to_be_bytes());
    text(out, filter.as_bytes());
    out.push(qos as u8);
}

/// What a PUBLISH says beside its payload.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    pub topic: &'a str,
    pub qos: Qos,
    pub id: u16,
    pub retained: bool,
    pub duplicate: bool,
}

pub fn write_publish(out: &mut Vec<u8>, publish: &Publish<'_>, payload: &[u8]) {
    let with_id = publish.qos != Qos::AtMostOnce;
    let first = 0x30
        | (u8::from(publish.duplicate) << 3)
        | ((publish.qos as u8) << 1)
        | u8::from(publish.retained);
    header(out, first, 2 + publish.topic.len() + 2 * usize::from(with_id) + payload.len());
    text(out, publish.topic.as_bytes());
    if with_id {
        out.extend(publish.id.to_be_bytes());
    }
    out.extend_from_slice(payload);
}

pub fn write_puback(out: &mut Vec<u8>, id: u16) {
    short(out, 0x40, id);
}
pub fn write_pubrec(out: &mut Vec<u8>, id: u16) {
    short(out, 0x50, id);
}
pub fn write_pubrel(out: &mut Vec<u8>, id: u16) {
    short(out, 0x62, id);
}
pub fn write_pubcomp(out: &mut Vec<u8>, id: u16) {
    short(out, 0x70, id);
}
pub fn write_pingreq(out: &mut Vec<u8>) {
    out.extend([0xc0, 0]);
}
pub fn write_disconnect(out: &mut Vec<u8>) {
    out.extend([0xe0, 0]);
}

fn short(out: &mut Vec<u8>, first: u8, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend([first, 2, high, low]);
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn header(out: &mut Vec<u8>, first: u8, mut length: usize) {
    out.push(first);
    loop {
        let digit = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_publish_is_read_as_it_was_written(
            topic in "[a-z/]{1,60}",
            payload in proptest::collection::vec(any::<u8>(), 0..20_000),
            qos in 0_u8..3,
            id in 1_u16..,
        ) {
            let qos = Qos::from_bits(qos).expect("0 to 2");
            let mut bytes = Vec::new();
            let publish = Publish { topic: &topic, qos, id, retained: false, duplicate: true };
            write_publish(&mut bytes, &publish, &payload);
            let (packet, length) = read(&bytes).expect("valid").expect("complete");
            prop_assert_eq!(length, bytes.len());
            let id = if qos == Qos::AtMostOnce { 0 } else { id };
            prop_assert_eq!(
                packet,
                Packet::Publish { topic: &topic, payload: &payload, qos, duplicate: true, retained: false, id }
            );
            prop_assert_eq!(read(&bytes[..bytes.len() - 1]).expect("valid so far"), None);
        }

        #[test]
        fn nothing_that_a_broker_sends_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
