//! MQTT 3.1.1 and MQTT 5 as one language. No IO.
//!
//! The codec is `rmqtt-codec`'s; here its two sets of packets become one, of
//! which nothing is left that a device has no use for: what it may neither say
//! nor hear (a server's packets, AUTH, topic aliases) is [`Broken`].
//!
//! ```text
//!   bytes --first packet--> Wire::detect --> Hello       (sign-in)
//!   bytes ----------------> Wire::next   --> Incoming    (afterwards)
//!   Outgoing -------------> Wire::put    --> bytes
//! ```

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use quarterdeck_protocol::limits::MQTT_MESSAGE_MAX_BYTES;
use rmqtt_codec::{
    MqttCodec, MqttPacket,
    error::{DecodeError, EncodeError},
    types::{Publish, QoS},
    v3::{self, ConnectAckReason as Code3, SubscribeReturnCode},
    v5::{
        self, ConnectAckReason as Code5, Disconnect, DisconnectReasonCode, PublishAck, PublishAck2,
        PublishAck2Reason, PublishAckReason, SubscribeAckReason, ToReasonCode as _,
        UnsubscribeAckReason,
    },
    version::{ProtocolVersion, VersionCodec},
};
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::mqtt::{
    limits::{
        PACKET_OVERHEAD_MAX_BYTES, SESSION_KEPT_MAX_S, SIGN_IN_PACKET_MAX_BYTES, UNRELEASED_MAX,
    },
    link::Qos,
};

/// Names one message on one connection, in one direction.
pub(super) type PacketId = NonZeroU16;

const PACKET_MAX_BYTES: u32 = (MQTT_MESSAGE_MAX_BYTES + PACKET_OVERHEAD_MAX_BYTES) as u32;

/// What a connection begins with.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) client_id: Box<str>,
    pub(super) user: Option<Box<str>>,
    pub(super) secret: Option<Bytes>,
    /// 0: the device may be silent for as long as it likes.
    pub(super) keep_alive_s: u16,
    /// Whatever is left of an earlier session is to be forgotten.
    pub(super) clean_start: bool,
    /// How long the session is kept without a connection; 0 is not at all.
    pub(super) kept_s: u64,
    /// The device asked for longer.
    pub(super) is_kept_shorter: bool,
    /// Messages that the device takes before it acknowledges the first.
    pub(super) receive_max: u16,
    /// The longest packet that the device takes.
    pub(super) packet_max_bytes: u32,
    pub(super) last_will: Option<LastWill>,
    /// It wants to prove itself in a way other than by its secret.
    pub(super) asks_for_auth: bool,
}

/// What the broker says in the device's name when the connection breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastWill {
    pub(super) topic: Box<str>,
    pub(super) payload: Bytes,
    pub(super) retained: bool,
    /// How long the device is given to come back first.
    pub(super) delay_s: u64,
}

/// A message that a device says.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) topic: bytestring::ByteString,
    pub(super) payload: Bytes,
    pub(super) retained: bool,
    pub(super) qos: Qos,
    /// There is one exactly with QoS 1 and 2.
    pub(super) packet_id: Option<PacketId>,
}

/// A packet from a device that signed in.
#[derive(Debug)]
pub(super) enum Incoming {
    Said(Said),
    /// PUBACK.
    Acked(PacketId),
    /// PUBREC; whether the device took the message.
    Received(PacketId, bool),
    /// PUBREL.
    Release(PacketId),
    /// PUBCOMP.
    Complete(PacketId),
    Subscribe(PacketId, Vec<(bytestring::ByteString, Qos)>),
    Unsubscribe(PacketId, Vec<bytestring::ByteString>),
    Ping,
    Goodbye {
        /// The last will is to be said all the same.
        with_last_will: bool,
        /// How long the session is kept, when that changes.
        kept_s: Option<u64>,
    },
}

/// A packet to a device.
#[derive(Debug)]
pub(super) enum Outgoing {
    Message {
        topic: String,
        payload: Bytes,
        qos: Qos,
        packet_id: Option<PacketId>,
    },
    /// PUBACK.
    Ack(PacketId),
    /// PUBREC.
    Received(PacketId),
    /// PUBREL.
    Release(PacketId),
    /// PUBCOMP; whether the message was known.
    Complete(PacketId, bool),
    /// For each filter what was granted.
    Subscribed(PacketId, Vec<Option<Qos>>),
    /// For each filter whether there was such a subscription.
    Unsubscribed(PacketId, Vec<bool>),
    Pong,
    /// Why the server ends the connection; MQTT 3.1.1 has no word for it.
    Goodbye(Parting),
}

/// What a device is told when the server ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    TakenOver,
    Silent,
    Stopping,
    NotAuthorized,
    TooLong,
    NotCommitted,
    /// The codec's own word.
    Malformed(DisconnectReasonCode),
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Welcome {
        session_present: bool,
        kept_s: Option<u64>,
    },
    BadCredentials,
    NotAuthorized,
    /// Not now; another time perhaps.
    Unavailable,
    NoSuchAuth,
}

/// The device broke the protocol: the connection ends.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Broken {
    #[error("not MQTT: {0}")]
    Malformed(#[from] DecodeError),
    #[error("a packet that a device may not send now")]
    OutOfPlace,
    #[error("too many messages that are not released")]
    TooMany,
}

impl Broken {
    pub(super) fn parting(&self) -> Parting {
        Parting::Malformed(match self {
            Self::Malformed(error) => error.to_reason_code(),
            Self::OutOfPlace => DisconnectReasonCode::ProtocolError,
            Self::TooMany => DisconnectReasonCode::ReceiveMaximumExceeded,
        })
    }
}

/// One connection's language.
#[derive(Debug)]
pub(super) struct Wire(MqttCodec);

/// CONNACK of MQTT 3.1.1 with the code 1: no such protocol level here.
const NO_SUCH_LEVEL: [u8; 4] = [0x20, 2, 0, 1];

/// The answer to a first packet of which the version could not be found out: one that says MQTT and
/// a level that nobody knows is told so, MQTT 3.1.1 section 3.1.2.2; anything else is not MQTT.
pub(super) fn refusal_of_level(inbox: &[u8]) -> Option<&'static [u8]> {
    let [0x10, rest @ ..] = inbox else { return None };
    // The length takes one to four bytes; all but the last have the high bit.
    let last = rest.iter().take(4).position(|byte| byte & 0x80 == 0)?;
    rest[last + 1..].starts_with(b"\0\x04MQTT").then_some(&NO_SUCH_LEVEL)
}

impl Wire {
    /// Finds out the version; `None` while there are too few bytes for it.
    pub(super) fn detect(inbox: &mut BytesMut) -> Result<Option<Self>, Broken> {
        Ok(VersionCodec.decode(inbox)?.map(|version| {
            Self(match version {
                ProtocolVersion::MQTT3 => {
                    MqttCodec::V3(v3::Codec::new(SIGN_IN_PACKET_MAX_BYTES as u32))
                }
                // How long a message to the device may be, its connection knows.
                ProtocolVersion::MQTT5 => {
                    MqttCodec::V5(v5::Codec::new(SIGN_IN_PACKET_MAX_BYTES as u32, 0))
                }
            })
        }))
    }

    /// Reads the first packet; `None` while it is not all there.
    pub(super) fn hello(&mut self, inbox: &mut BytesMut) -> Result<Option<Hello>, Broken> {
        let hello = match self.0.decode(inbox)? {
            None => return Ok(None),
            Some((MqttPacket::V3(v3::Packet::Connect(connect)), _)) => hello_3(*connect),
            Some((MqttPacket::V5(v5::Packet::Connect(connect)), _)) => hello_5(*connect),
            Some(_) => return Err(Broken::OutOfPlace),
        };
        match &mut self.0 {
            MqttCodec::V3(codec) => codec.set_max_size(PACKET_MAX_BYTES),
            MqttCodec::V5(codec) => codec.set_max_inbound_size(PACKET_MAX_BYTES),
            MqttCodec::Version(_) => {}
        }
        Ok(Some(hello))
    }

    /// Reads the next packet; `None` while it is not all there.
    pub(super) fn next(&mut self, inbox: &mut BytesMut) -> Result<Option<Incoming>, Broken> {
        match self.0.decode(inbox)? {
            None => Ok(None),
            Some((MqttPacket::V3(packet), _)) => incoming_3(packet).map(Some),
            Some((MqttPacket::V5(packet), _)) => incoming_5(packet).map(Some),
            Some((MqttPacket::Version(_), _)) => Err(Broken::OutOfPlace),
        }
    }

    /// Answers a sign-in.
    pub(super) fn answer(&mut self, answer: Answer, outbox: &mut BytesMut) {
        let packet = match &self.0 {
            MqttCodec::V5(_) => MqttPacket::V5(v5::Packet::ConnectAck(Box::new(answer_5(answer)))),
            _ => MqttPacket::V3(v3::Packet::ConnectAck(answer_3(answer))),
        };
        self.encode(packet, outbox);
    }

    /// Writes a packet.
    pub(super) fn put(&mut self, packet: Outgoing, outbox: &mut BytesMut) {
        let packet = match &self.0 {
            MqttCodec::V5(_) => MqttPacket::V5(outgoing_5(packet)),
            _ => match outgoing_3(packet) {
                Some(packet) => MqttPacket::V3(packet),
                None => return,
            },
        };
        self.encode(packet, outbox);
    }

    fn encode(&mut self, packet: MqttPacket, outbox: &mut BytesMut) {
        let wrote: Result<(), EncodeError> = self.0.encode(packet, outbox);
        // What is too long is refused before; all else is of our own making.
        debug_assert!(wrote.is_ok(), "{wrote:?}");
    }
}

/// How long a message's packet is at most, its payload aside.
pub(super) fn overhead_bytes(topic: &str) -> usize {
    // First byte, length (4), topic with its length, packet id, no properties.
    1 + 4 + 2 + topic.len() + 2 + 1
}

fn hello_3(connect: v3::Connect) -> Hello {
    Hello {
        client_id: (&*connect.client_id).into(),
        user: connect.username.map(|user| (&*user).into()),
        secret: connect.password,
        keep_alive_s: connect.keep_alive,
        clean_start: connect.clean_session,
        kept_s: if connect.clean_session { 0 } else { SESSION_KEPT_MAX_S },
        is_kept_shorter: false,
        receive_max: u16::MAX,
        packet_max_bytes: u32::MAX,
        last_will: connect.last_will.map(|will| LastWill {
            topic: (&*will.topic).into(),
            // Not the buffer that it was read into, for as long as the connection.
            payload: Bytes::copy_from_slice(&will.message),
            retained: will.retain,
            delay_s: 0,
        }),
        asks_for_auth: false,
    }
}

fn hello_5(connect: v5::Connect) -> Hello {
    Hello {
        client_id: (&*connect.client_id).into(),
        user: connect.username.map(|user| (&*user).into()),
        secret: connect.password,
        keep_alive_s: connect.keep_alive,
        clean_start: connect.clean_start,
        kept_s: kept_s(connect.session_expiry_interval_secs),
        is_kept_shorter: u64::from(connect.session_expiry_interval_secs) > SESSION_KEPT_MAX_S,
        receive_max: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
        packet_max_bytes: connect.max_packet_size.map_or(u32::MAX, NonZeroU32::get),
        last_will: connect.last_will.map(|will| LastWill {
            topic: (&*will.topic).into(),
            // Not the buffer that it was read into, for as long as the connection.
            payload: Bytes::copy_from_slice(&will.message),
            retained: will.retain,
            delay_s: will.will_delay_interval_sec.unwrap_or(0).into(),
        }),
        asks_for_auth: connect.auth_method.is_some(),
    }
}

fn kept_s(asked_s: u32) -> u64 {
    u64::from(asked_s).min(SESSION_KEPT_MAX_S)
}

fn said(publish: Publish) -> Result<Incoming, Broken> {
    // No alias is granted, so none can mean anything; subscription ids are a server's word.
    if publish.properties.as_ref().is_some_and(|properties| {
        properties.topic_alias.is_some() || !properties.subscription_ids.is_empty()
    }) {
        return Err(Broken::OutOfPlace);
    }
    Ok(Incoming::Said(Said {
        topic: publish.topic,
        payload: publish.payload,
        retained: publish.retain,
        qos: from_codec(publish.qos),
        packet_id: publish.packet_id,
    }))
}

fn incoming_3(packet: v3::Packet) -> Result<Incoming, Broken> {
    Ok(match packet {
        v3::Packet::Publish(publish) => return said(*publish),
        v3::Packet::PublishAck { packet_id } => Incoming::Acked(packet_id),
        v3::Packet::PublishReceived { packet_id } => Incoming::Received(packet_id, true),
        v3::Packet::PublishRelease { packet_id } => Incoming::Release(packet_id),
        v3::Packet::PublishComplete { packet_id } => Incoming::Complete(packet_id),
        v3::Packet::Subscribe { packet_id, topic_filters } => {
            let filters = topic_filters.into_iter().map(|(filter, qos)| (filter, from_codec(qos)));
            Incoming::Subscribe(packet_id, filters.collect())
        }
        v3::Packet::Unsubscribe { packet_id, topic_filters } => {
            Incoming::Unsubscribe(packet_id, topic_filters)
        }
        v3::Packet::PingRequest => Incoming::Ping,
        v3::Packet::Disconnect => Incoming::Goodbye { with_last_will: false, kept_s: None },
        _ => return Err(Broken::OutOfPlace),
    })
}

fn incoming_5(packet: v5::Packet) -> Result<Incoming, Broken> {
    Ok(match packet {
        v5::Packet::Publish(publish) => return said(*publish),
        v5::Packet::PublishAck(ack) => Incoming::Acked(ack.packet_id),
        v5::Packet::PublishReceived(ack) => {
            Incoming::Received(ack.packet_id, u8::from(ack.reason_code) < 0x80)
        }
        v5::Packet::PublishRelease(ack) => Incoming::Release(ack.packet_id),
        v5::Packet::PublishComplete(ack) => Incoming::Complete(ack.packet_id),
        v5::Packet::Subscribe(asked) => {
            // We said in CONNACK that there are none.
            if asked.id.is_some() {
                return Err(Broken::OutOfPlace);
            }
            let filters = asked.topic_filters.into_iter();
            let filters = filters.map(|(filter, options)| (filter, from_codec(options.qos)));
            Incoming::Subscribe(asked.packet_id, filters.collect())
        }
        v5::Packet::Unsubscribe(asked) => {
            Incoming::Unsubscribe(asked.packet_id, asked.topic_filters)
        }
        v5::Packet::PingRequest => Incoming::Ping,
        v5::Packet::Disconnect(goodbye) => Incoming::Goodbye {
            with_last_will: goodbye.reason_code != DisconnectReasonCode::NormalDisconnection,
            kept_s: goodbye.session_expiry_interval_secs.map(kept_s),
        },
        _ => return Err(Broken::OutOfPlace),
    })
}

fn message(topic: String, payload: Bytes, qos: Qos, packet_id: Option<PacketId>) -> Box<Publish> {
    let qos = to_codec(qos);
    let topic = topic.into();
    Box::new(Publish {
        dup: false,
        retain: false,
        qos,
        topic,
        packet_id,
        payload,
        properties: None,
    })
}

fn outgoing_3(packet: Outgoing) -> Option<v3::Packet> {
    Some(match packet {
        Outgoing::Message { topic, payload, qos, packet_id } => {
            v3::Packet::Publish(message(topic, payload, qos, packet_id))
        }
        Outgoing::Ack(packet_id) => v3::Packet::PublishAck { packet_id },
        Outgoing::Received(packet_id) => v3::Packet::PublishReceived { packet_id },
        Outgoing::Release(packet_id) => v3::Packet::PublishRelease { packet_id },
        Outgoing::Complete(packet_id, _) => v3::Packet::PublishComplete { packet_id },
        Outgoing::Subscribed(packet_id, granted) => {
            let status = granted.into_iter().map(|granted| {
                granted.map_or(SubscribeReturnCode::Failure, |qos| {
                    SubscribeReturnCode::Success(to_codec(qos))
                })
            });
            v3::Packet::SubscribeAck { packet_id, status: status.collect() }
        }
        Outgoing::Unsubscribed(packet_id, _) => v3::Packet::UnsubscribeAck { packet_id },
        Outgoing::Pong => v3::Packet::PingResponse,
        Outgoing::Goodbye(_) => return None,
    })
}

fn outgoing_5(packet: Outgoing) -> v5::Packet {
    let ack = |packet_id| PublishAck {
        packet_id,
        reason_code: PublishAckReason::Success,
        properties: Vec::new(),
        reason_string: None,
    };
    let ack_2 = |packet_id, known: bool| PublishAck2 {
        packet_id,
        reason_code: if known {
            PublishAck2Reason::Success
        } else {
            PublishAck2Reason::PacketIdNotFound
        },
        properties: Vec::new(),
        reason_string: None,
    };
    match packet {
        Outgoing::Message { topic, payload, qos, packet_id } => {
            v5::Packet::Publish(message(topic, payload, qos, packet_id))
        }
        Outgoing::Ack(packet_id) => v5::Packet::PublishAck(ack(packet_id)),
        Outgoing::Received(packet_id) => v5::Packet::PublishReceived(ack(packet_id)),
        Outgoing::Release(packet_id) => v5::Packet::PublishRelease(ack_2(packet_id, true)),
        Outgoing::Complete(packet_id, known) => {
            v5::Packet::PublishComplete(ack_2(packet_id, known))
        }
        Outgoing::Subscribed(packet_id, granted) => v5::Packet::SubscribeAck(v5::SubscribeAck {
            packet_id,
            properties: Vec::new(),
            reason_string: None,
            status: granted
                .into_iter()
                .map(|granted| match granted {
                    None => SubscribeAckReason::NotAuthorized,
                    Some(Qos::AtMostOnce) => SubscribeAckReason::GrantedQos0,
                    Some(Qos::AtLeastOnce) => SubscribeAckReason::GrantedQos1,
                    Some(Qos::ExactlyOnce) => SubscribeAckReason::GrantedQos2,
                })
                .collect(),
        }),
        Outgoing::Unsubscribed(packet_id, existed) => {
            v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
                packet_id,
                properties: Vec::new(),
                reason_string: None,
                status: existed
                    .into_iter()
                    .map(|existed| {
                        if existed {
                            UnsubscribeAckReason::Success
                        } else {
                            UnsubscribeAckReason::NoSubscriptionExisted
                        }
                    })
                    .collect(),
            })
        }
        Outgoing::Pong => v5::Packet::PingResponse,
        Outgoing::Goodbye(why) => v5::Packet::Disconnect(Disconnect::new(match why {
            Parting::TakenOver => DisconnectReasonCode::SessionTakenOver,
            Parting::Silent => DisconnectReasonCode::KeepAliveTimeout,
            Parting::Stopping => DisconnectReasonCode::ServerShuttingDown,
            Parting::NotAuthorized => DisconnectReasonCode::NotAuthorized,
            Parting::TooLong => DisconnectReasonCode::PacketTooLarge,
            Parting::NotCommitted => DisconnectReasonCode::ServerBusy,
            Parting::Malformed(code) => code,
        })),
    }
}

fn answer_3(answer: Answer) -> v3::ConnectAck {
    let (return_code, session_present) = match answer {
        Answer::Welcome { session_present, .. } => (Code3::ConnectionAccepted, session_present),
        Answer::BadCredentials => (Code3::BadUserNameOrPassword, false),
        Answer::NotAuthorized | Answer::NoSuchAuth => (Code3::NotAuthorized, false),
        Answer::Unavailable => (Code3::ServiceUnavailable, false),
    };
    v3::ConnectAck { return_code, session_present }
}

fn answer_5(answer: Answer) -> v5::ConnectAck {
    let refusal = |reason_code| v5::ConnectAck { reason_code, ..v5::ConnectAck::default() };
    match answer {
        Answer::Welcome { session_present, kept_s } => v5::ConnectAck {
            session_present,
            session_expiry_interval_secs: kept_s.and_then(|s| u32::try_from(s).ok()),
            receive_max: NonZeroU16::new(UNRELEASED_MAX as u16).unwrap_or(NonZeroU16::MAX),
            max_packet_size: Some(PACKET_MAX_BYTES),
            wildcard_subscription_available: false,
            subscription_identifiers_available: false,
            shared_subscription_available: false,
            ..v5::ConnectAck::default()
        },
        Answer::BadCredentials => refusal(Code5::BadUserNameOrPassword),
        Answer::NotAuthorized => refusal(Code5::NotAuthorized),
        Answer::Unavailable => refusal(Code5::ServerUnavailable),
        Answer::NoSuchAuth => refusal(Code5::BadAuthenticationMethod),
    }
}

fn from_codec(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

fn to_codec(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}
