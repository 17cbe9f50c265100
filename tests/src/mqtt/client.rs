//! One MQTT connection, one thing at a time: for tests, not for load.
//!
//! Publishing waits for the broker's last acknowledgement; what arrives
//! meanwhile is kept for [`Client::next`]. What comes at QoS 1 and 2 is
//! acknowledged as it is read.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::codec::{self, Connect, Packet, Publish, Qos, Will};
use crate::wait::in_time;

/// Who connects, and how.
#[derive(Debug, Clone)]
pub struct Login {
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<String>,
    pub will: Option<Will>,
    pub clean_session: bool,
}

impl Login {
    /// Without name and password, and with a clean session.
    pub fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            username: None,
            password: None,
            will: None,
            clean_session: true,
        }
    }

    #[must_use]
    pub fn with_password(mut self, username: &str, password: &str) -> Self {
        self.username = Some(username.to_owned());
        self.password = Some(password.to_owned());
        self
    }

    #[must_use]
    pub fn with_will(mut self, topic: &str, payload: &[u8]) -> Self {
        self.will =
            Some(Will { topic: topic.to_owned(), payload: payload.to_vec(), retained: true });
        self
    }
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: Qos,
    pub retained: bool,
    pub duplicate: bool,
}

impl Message {
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.payload).with_context(|| {
            format!("on {}: {}", self.topic, String::from_utf8_lossy(&self.payload))
        })
    }
}

/// An acknowledgement that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ack {
    Connection(u8),
    Sub(u16, u8),
    Published(u16),
    Pong,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
    arrived: VecDeque<Message>,
    next_id: u16,
}

impl Client {
    /// Connects to a port of loopback and signs in.
    pub async fn connect(port: u16, login: &Login) -> Result<Self> {
        let mut client = Self::open(port).await?;
        let mut out = Vec::new();
        codec::write_connect(
            &mut out,
            &Connect {
                client_id: &login.client_id,
                keep_alive_s: 60,
                clean_session: login.clean_session,
                username: login.username.as_deref(),
                password: login.password.as_deref().map(str::as_bytes),
                will: login.will.as_ref(),
            },
        );
        client.send_raw(&out).await?;
        match client.acknowledged(|ack| matches!(ack, Ack::Connection(_))).await? {
            Ack::Connection(0) => Ok(client),
            other => bail!("{} was not let in: {other:?}", login.client_id),
        }
    }

    /// Only connects, so that anything can be sent.
    pub async fn open(port: u16) -> Result<Self> {
        let stream = in_time("a connection", TcpStream::connect(("127.0.0.1", port))).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new(), arrived: VecDeque::new(), next_id: 0 })
    }

    /// Says whether the broker granted it.
    pub async fn subscribe(&mut self, filter: &str, qos: Qos) -> Result<bool> {
        let id = self.fresh_id();
        let mut out = Vec::new();
        codec::write_subscribe(&mut out, id, filter, qos);
        self.send_raw(&out).await?;
        match self.acknowledged(|ack| matches!(ack, Ack::Sub(of, _) if *of == id)).await? {
            Ack::Sub(_, code) => Ok(code <= 2),
            other => bail!("{other:?} for a subscription"),
        }
    }

    /// Publishes and waits until the broker has it.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], qos: Qos) -> Result<()> {
        self.publish_as(topic, payload, qos, false).await
    }

    /// As [`Client::publish`], kept by the broker for later subscribers.
    pub async fn publish_retained(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.publish_as(topic, payload, Qos::AtLeastOnce, true).await
    }

    async fn publish_as(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: Qos,
        retained: bool,
    ) -> Result<()> {
        let id = self.fresh_id();
        let mut out = Vec::new();
        let publish = Publish { topic, qos, id, retained, duplicate: false };
        codec::write_publish(&mut out, &publish, payload);
        self.send_raw(&out).await?;
        if qos != Qos::AtMostOnce {
            self.acknowledged(|ack| *ack == Ack::Published(id)).await?;
        }
        Ok(())
    }

    /// Waits for the next message.
    pub async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.arrived.pop_front() {
                return Ok(message);
            }
            in_time("a message", self.step()).await??;
        }
    }

    /// The messages that came before the broker answered a ping: all it had for us.
    pub async fn drain(&mut self) -> Result<Vec<Message>> {
        self.ping().await?;
        Ok(self.arrived.drain(..).collect())
    }

    pub async fn ping(&mut self) -> Result<()> {
        let mut out = Vec::new();
        codec::write_pingreq(&mut out);
        self.send_raw(&out).await?;
        self.acknowledged(|ack| *ack == Ack::Pong).await?;
        Ok(())
    }

    /// Says goodbye, so that no last will is sent.
    pub async fn disconnect(mut self) -> Result<()> {
        let mut out = Vec::new();
        codec::write_disconnect(&mut out);
        self.send_raw(&out).await
    }

    /// Sends any bytes.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        in_time("the broker to read", self.stream.write_all(bytes)).await?.context("sending")
    }

    /// Waits until the broker has ended the connection.
    pub async fn wait_for_end(&mut self) -> Result<()> {
        let mut buffer = [0; 1024];
        in_time("the broker to end the connection", async {
            while !matches!(self.stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
        })
        .await
    }

    fn fresh_id(&mut self) -> u16 {
        self.next_id = self.next_id % u16::MAX + 1;
        self.next_id
    }

    async fn acknowledged(&mut self, is_it: impl Fn(&Ack) -> bool) -> Result<Ack> {
        loop {
            let ack = in_time("an acknowledgement", self.step()).await??;
            if let Some(ack) = ack.filter(&is_it) {
                return Ok(ack);
            }
        }
    }

    /// Reads one packet and does what it asks for.
    async fn step(&mut self) -> Result<Option<Ack>> {
        let mut out = Vec::new();
        let (ack, length) = loop {
            if let Some((packet, length)) = codec::read(&self.read)? {
                break (Self::take(packet, &mut self.arrived, &mut out), length);
            }
            if self.stream.read_buf(&mut self.read).await.context("reading")? == 0 {
                bail!("the broker ended the connection");
            }
        };
        self.read.drain(..length);
        if !out.is_empty() {
            self.send_raw(&out).await?;
        }
        Ok(ack)
    }

    fn take(packet: Packet<'_>, arrived: &mut VecDeque<Message>, out: &mut Vec<u8>) -> Option<Ack> {
        match packet {
            Packet::Publish { topic, payload, qos, duplicate, retained, id } => {
                match qos {
                    Qos::AtMostOnce => {}
                    Qos::AtLeastOnce => codec::write_puback(out, id),
                    Qos::ExactlyOnce => codec::write_pubrec(out, id),
                }
                arrived.push_back(Message {
                    topic: topic.to_owned(),
                    payload: payload.to_vec(),
                    qos,
                    retained,
                    duplicate,
                });
                None
            }
            Packet::PubRec { id } => {
                codec::write_pubrel(out, id);
                None
            }
            Packet::PubRel { id } => {
                codec::write_pubcomp(out, id);
                None
            }
            Packet::ConnAck { code } => Some(Ack::Connection(code)),
            Packet::SubAck { id, code } => Some(Ack::Sub(id, code)),
            Packet::PubAck { id } | Packet::PubComp { id } => Some(Ack::Published(id)),
            Packet::PingResp => Some(Ack::Pong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mosquitto::{Access, Mosquitto};

    #[tokio::test]
    async fn messages_of_each_qos_come_through_a_broker() {
        let Some(broker) = Mosquitto::start(Access::Open).await.expect("started") else { return };
        let mut to = Client::connect(broker.port(), &Login::new("to")).await.expect("in");
        assert!(to.subscribe("t/#", Qos::ExactlyOnce).await.expect("answered"));
        let mut from = Client::connect(broker.port(), &Login::new("from")).await.expect("in");
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            from.publish("t/a", b"hello", qos).await.expect("published");
            let message = to.next().await.expect("came");
            assert_eq!((message.payload.as_slice(), message.qos), (b"hello".as_slice(), qos));
        }
        assert_eq!(to.drain().await.expect("quiet"), []);
    }
}
