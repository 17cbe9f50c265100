//! A client that does nothing but what the protocol asks: what a broker can do at best.
//!
//! It writes whatever there is at once, reads whatever has come at once, and keeps nothing.

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::codec::{self, Packet, Qos};

/// A connection, and what is to be written next.
#[derive(Debug)]
pub struct Bare {
    stream: TcpStream,
    read: Vec<u8>,
    pub out: Vec<u8>,
}

impl Bare {
    /// Connects, and subscribes to `filter`.
    pub async fn connect(port: u16, client_id: &str, filter: &str, qos: Qos) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (read, out) = (Vec::with_capacity(1 << 16), Vec::with_capacity(1 << 16));
        let mut this = Self { stream, read, out };
        let connect = codec::Connect {
            client_id,
            keep_alive_s: 600,
            clean_session: true,
            ..codec::Connect::default()
        };
        codec::write_connect(&mut this.out, &connect);
        codec::write_subscribe(&mut this.out, 65_535, filter, qos);
        let mut subscribed = false;
        while !subscribed {
            this.exchange(|packet| subscribed |= matches!(packet, Packet::SubAck { .. })).await?;
        }
        Ok(this)
    }

    /// Sends what there is, waits for more, shows it, and answers it with the next.
    pub async fn exchange(&mut self, mut see: impl FnMut(&Packet<'_>)) -> Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        let length = self.stream.read_buf(&mut self.read).await?;
        ensure!(length > 0, "the broker ended the connection");
        let mut used = 0;
        while let Some((packet, length)) =
            codec::read(&self.read[used..]).context("from the broker")?
        {
            see(&packet);
            match packet {
                Packet::Publish { qos: Qos::AtLeastOnce, id, .. } => {
                    codec::write_puback(&mut self.out, id);
                }
                Packet::Publish { qos: Qos::ExactlyOnce, id, .. } => {
                    codec::write_pubrec(&mut self.out, id);
                }
                Packet::PubRec { id } => codec::write_pubrel(&mut self.out, id),
                Packet::PubRel { id } => codec::write_pubcomp(&mut self.out, id),
                _ => {}
            }
            used += length;
        }
        self.read.drain(..used);
        Ok(())
    }
}
