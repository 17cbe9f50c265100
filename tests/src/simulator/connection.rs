//! One lean MQTT connection: a socket, one buffer each way, nothing else.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use quarterdeck_protocol::topics::{DeviceTopic, parse_client_id, topic};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::mqtt::{
    Login,
    codec::{self, Connect, Packet, Publish, Qos},
};

/// The keep-alive that is announced, and how long a device is quiet before it pings, in seconds.
const KEEP_ALIVE_S: u16 = 300;
const PING_AFTER: Duration = Duration::from_mins(2);
/// How long a sign-in may take.
const SIGN_IN_DEADLINE: Duration = Duration::from_mins(1);

/// A device's topics.
#[derive(Debug, Clone)]
pub struct Topics {
    pub commands: String,
    pub response: String,
    pub status: String,
}

impl Topics {
    pub fn of(login: &Login) -> Result<Self> {
        let (project, device, _) =
            parse_client_id(&login.client_id).context("a client id that is no device's")?;
        let named = |kind| topic(kind, &project, &device);
        Ok(Self {
            commands: named(DeviceTopic::Commands),
            response: named(DeviceTopic::CommandsResponse),
            status: named(DeviceTopic::Status),
        })
    }
}

/// One connection, signed in and subscribed to its commands.
#[derive(Debug)]
pub struct Connection {
    pub topics: Topics,
    stream: TcpStream,
    read: Vec<u8>,
    /// What [`Connection::flush`] sends.
    pub out: Vec<u8>,
    next_id: u16,
}

impl Connection {
    pub async fn open(port: u16, login: &Login) -> Result<Self> {
        timeout(SIGN_IN_DEADLINE, Self::sign_in(port, login))
            .await
            .with_context(|| format!("{}: no answer", login.client_id))?
            .with_context(|| login.client_id.clone())
    }

    async fn sign_in(port: u16, login: &Login) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let mut this = Self {
            topics: Topics::of(login)?,
            stream,
            read: Vec::with_capacity(512),
            out: Vec::with_capacity(512),
            next_id: 0,
        };
        codec::write_connect(
            &mut this.out,
            &Connect {
                client_id: &login.client_id,
                keep_alive_s: KEEP_ALIVE_S,
                clean_session: true,
                username: login.username.as_deref(),
                password: login.password.as_deref().map(str::as_bytes),
                will: None,
            },
        );
        this.flush().await?;
        let mut let_in = false;
        while !let_in {
            this.receive(|packet, _| match packet {
                Packet::ConnAck { code: 0 } => {
                    let_in = true;
                    Ok(())
                }
                other => bail!("not let in: {other:?}"),
            })
            .await?;
        }
        let id = this.fresh_id();
        codec::write_subscribe(&mut this.out, id, &this.topics.commands, Qos::ExactlyOnce);
        this.flush().await?;
        let mut subscribed = false;
        while !subscribed {
            this.receive(|packet, _| match packet {
                Packet::SubAck { code: 0..=2, .. } => {
                    subscribed = true;
                    Ok(())
                }
                other => bail!("not subscribed: {other:?}"),
            })
            .await?;
        }
        Ok(this)
    }

    /// Appends a publish on the response topic and gives its packet id.
    pub fn respond(&mut self, payload: &[u8], qos: Qos) -> u16 {
        let id = self.fresh_id();
        let publish =
            Publish { topic: &self.topics.response, qos, id, retained: false, duplicate: false };
        codec::write_publish(&mut self.out, &publish, payload);
        id
    }

    /// Sends what was appended.
    pub async fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await.context("sending")?;
            self.out.clear();
        }
        Ok(())
    }

    /// Waits for bytes and gives each complete packet to `take`, with the buffer of what is to be sent.
    pub async fn receive(
        &mut self,
        mut take: impl FnMut(Packet<'_>, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        loop {
            match timeout(PING_AFTER, self.stream.read_buf(&mut self.read)).await {
                Ok(Ok(0)) => {
                    bail!("the broker ended the connection")
                }
                Ok(read) => {
                    read.context("reading")?;
                    break;
                }
                Err(_) => {
                    codec::write_pingreq(&mut self.out);
                    self.flush().await?;
                }
            }
        }
        let mut used = 0;
        while let Some((packet, length)) = codec::read(&self.read[used..])? {
            take(packet, &mut self.out)?;
            used += length;
        }
        self.read.drain(..used);
        Ok(())
    }

    fn fresh_id(&mut self) -> u16 {
        self.next_id = self.next_id % u16::MAX + 1;
        self.next_id
    }
}

/// Finds the id in a command without parsing the rest.
pub fn command_id(payload: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"command_id\":\"";
    let start = payload.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = payload[start..].iter().position(|byte| *byte == b'"')?;
    str::from_utf8(&payload[start..start + length]).ok()
}

/// Writes a response as a device would.
pub fn response(status: &str, command_id: &str, at: &str, more: &str) -> String {
    format!(
        r#"{{"schema_version":"1.0","command_id":"{command_id}","status":"{status}","state":"{status}"{more},"at":"{at}"}}"#
    )
}

/// Now, as messages say it.
pub fn now_text() -> String {
    let millis = i64::try_from(crate::clock::wall().as_millis()).unwrap_or(i64::MAX);
    quarterdeck_protocol::time::Timestamp::from_millis(millis).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_id_is_found_and_a_response_is_valid() {
        let payload = br#"{"schema_version":"1.0","command_id":"018f","type":"ping"}"#;
        assert_eq!(command_id(payload), Some("018f"));
        assert_eq!(command_id(b"{}"), None);
        let id = crate::clock::new_uuid().to_string();
        let text = response("completed", &id, &now_text(), r#","exit_code":0"#);
        let read: quarterdeck_protocol::command::Response =
            serde_json::from_str(&text).expect("a response");
        assert_eq!((read.command_id.to_string(), read.exit_code), (id, Some(0)));
    }
}
