//! The live feed as a console has it: one WebSocket, windows of listings.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use quarterdeck_protocol::{
    api::Ticket,
    live::{ClientMessage, Listing, Range, ServerMessage},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{api::Api, wait::in_time};

/// One open feed.
#[derive(Debug)]
pub struct Live {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Live {
    /// Gets a ticket and opens the feed.
    pub async fn open(api: &Api) -> Result<Self> {
        let ticket: Ticket = api.post("@/tickets", &json!({ "for": "live" })).await?;
        Self::open_with(api, &ticket.ticket).await
    }

    /// Opens the feed with a ticket, good or not.
    pub async fn open_with(api: &Api, ticket: &str) -> Result<Self> {
        let url = api.url(&format!("@/live?ticket={ticket}"));
        let url = url.replacen("http", "ws", 1);
        let (socket, _) =
            in_time("the feed to open", Box::pin(connect_async(&url))).await?.context(url)?;
        Ok(Self { socket })
    }

    pub async fn subscribe(
        &mut self,
        id: u32,
        listing: Listing,
        filter: &[(&str, &str)],
    ) -> Result<()> {
        let filter: BTreeMap<String, String> =
            filter.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let range = Range { offset: 0, limit: 100 };
        self.send(&ClientMessage::Subscribe { id, listing, filter, sort: None, range }).await
    }

    pub async fn send(&mut self, message: &ClientMessage) -> Result<()> {
        self.send_text(serde_json::to_string(message)?).await
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: String) -> Result<()> {
        self.socket.send(Message::text(text)).await.context("sending to the feed")
    }

    /// The next message; an error when the feed has ended, with the close code.
    pub async fn next(&mut self) -> Result<ServerMessage> {
        loop {
            match in_time("a message of the feed", self.socket.next()).await? {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).with_context(|| text.to_string());
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(0, |frame| u16::from(frame.code));
                    bail!("the feed was closed with {code}");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the feed broke"),
                None => bail!("the feed ended"),
            }
        }
    }

    /// Waits for a row of a window, new or changed, that is what is sought.
    pub async fn wait_row(
        &mut self,
        what: &str,
        mut is_it: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let found = async {
            loop {
                let rows = match self.next().await? {
                    ServerMessage::Snapshot { items, .. }
                    | ServerMessage::Changes { items, .. } => items,
                    ServerMessage::Error { code, detail, .. } => bail!("{code}: {detail}"),
                    _ => continue,
                };
                for row in rows {
                    let row: Value = serde_json::from_str(row.data.get())?;
                    if is_it(&row) {
                        return Ok(row);
                    }
                }
            }
        };
        in_time(what, found).await?
    }

    /// Waits until the server ends the feed; gives how.
    pub async fn wait_for_end(&mut self) -> Result<String> {
        let ended = async {
            loop {
                if let Err(error) = self.next().await {
                    return format!("{error:#}");
                }
            }
        };
        in_time("the server to end the feed", ended).await
    }
}
