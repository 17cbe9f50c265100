//! Replies on their way to the broker, in order, until it has them.
//!
//! A saved reply costs a few bytes here: its text stays in the journal until it
//! is sent. Live output is not saved; it is held in memory, and of too much of
//! it the oldest goes: the last response carries the whole, capped.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    command::Response, ids::CommandId, limits::MQTT_MESSAGE_MAX_BYTES, topics::DeviceTopic,
};

use super::Engine;
use crate::{io::mqtt::IN_FLIGHT_MAX, journal::record::Record};

/// Replies that are in memory alone, in bytes.
const UNSAVED_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Room for topic and headers beside a message's payload.
const OVERHEAD_BYTES: usize = 1_024;

#[derive(Debug)]
pub(super) enum Item {
    Saved { id: CommandId, n: u32 },
    Unsaved(Vec<u8>),
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: BTreeMap<u64, Item>,
    /// The first that was not handed to the present connection.
    cursor: u64,
    next: u64,
    unsaved_bytes: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn push_saved(&mut self, id: CommandId, n: u32) {
        self.push(Item::Saved { id, n });
    }

    pub(super) fn push_unsaved(&mut self, response: &Response) {
        let text = serde_json::to_vec(response).expect("plain data");
        self.unsaved_bytes += text.len();
        self.push(Item::Unsaved(text));
        while self.unsaved_bytes > UNSAVED_MAX_BYTES {
            let oldest = self.items.iter().find(|(_, item)| matches!(item, Item::Unsaved(_)));
            let Some(key) = oldest.map(|(key, _)| *key) else { break };
            self.remove(key);
        }
    }

    fn push(&mut self, item: Item) {
        self.items.insert(self.next, item);
        self.next += 1;
    }

    fn remove(&mut self, key: u64) -> Option<Item> {
        let item = self.items.remove(&key);
        if let Some(Item::Unsaved(text)) = &item {
            self.unsaved_bytes -= text.len();
        }
        item
    }

    /// Whether a saved reply is still on its way.
    pub(super) fn holds(&self, wanted: CommandId, wanted_n: u32) -> bool {
        self.items
            .values()
            .any(|item| matches!(item, Item::Saved { id, n } if *id == wanted && *n == wanted_n))
    }

    /// Has everything sent again: on a new connection, none of it is under way.
    pub(super) const fn rewind(&mut self) {
        self.cursor = 0;
    }

    fn next_to_send(&self) -> Option<u64> {
        if self.items.range(..self.cursor).count() >= IN_FLIGHT_MAX {
            return None;
        }
        self.items.range(self.cursor..).next().map(|(key, _)| *key)
    }
}

impl Engine {
    /// Hands as much to the connection as may be in flight.
    pub(super) fn send(&mut self) {
        let Some(link) = self.link.clone() else { return };
        while let Some(key) = self.outbox.next_to_send() {
            let text = match &self.outbox.items[&key] {
                Item::Unsaved(text) => Some(text.clone()),
                Item::Saved { id, n } => self.saved_text(*id, *n),
            };
            let Some(text) = text else {
                self.outbox.remove(key);
                continue;
            };
            if link.publish(key, DeviceTopic::CommandsResponse, text).is_err() {
                return;
            }
            self.outbox.cursor = key + 1;
        }
    }

    fn saved_text(&self, id: CommandId, n: u32) -> Option<Vec<u8>> {
        let place = self.journal.unacked_place(id, n)?;
        match self.journal.read_reply(place) {
            Ok(response) => Some(to_text(response)),
            Err(error) => {
                tracing::error!(command_id = %id, %error, "a saved reply cannot be read");
                None
            }
        }
    }

    pub(super) fn on_acked(&mut self, token: u64) {
        if let Some(Item::Saved { id, n }) = self.outbox.remove(token) {
            self.note(Record::Acked { id, n });
            self.announce_on(id);
        }
    }
}

/// Writes a response so that it fits a message, whatever is in it.
fn to_text(mut response: Response) -> Vec<u8> {
    let text = serde_json::to_vec(&response).expect("plain data");
    if text.len() + OVERHEAD_BYTES <= MQTT_MESSAGE_MAX_BYTES {
        return text;
    }
    response.stdout = None;
    response.stderr = None;
    response.result = None;
    serde_json::to_vec(&response).expect("plain data")
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::command::ResponseStatus;
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> CommandId {
        CommandId(Uuid::from_u128(n))
    }

    #[test]
    fn no_more_is_in_flight_than_may_be_and_a_new_connection_begins_anew() {
        let mut outbox = Outbox::default();
        for n in 0..30 {
            outbox.push_saved(id(1), n);
        }
        let mut sent = 0;
        while let Some(key) = outbox.next_to_send() {
            outbox.cursor = key + 1;
            sent += 1;
        }
        assert_eq!(sent, IN_FLIGHT_MAX);
        outbox.remove(3);
        assert_eq!(outbox.next_to_send(), Some(IN_FLIGHT_MAX as u64));
        outbox.rewind();
        assert_eq!(outbox.next_to_send(), Some(0));
    }

    #[test]
    fn of_too_much_live_output_the_oldest_goes_and_saved_replies_stay() {
        let mut outbox = Outbox::default();
        outbox.push_saved(id(1), 0);
        let mut chunk = Response::new(id(1), ResponseStatus::Progress);
        chunk.stdout = Some("x".repeat(8_000));
        for _ in 0..1_000 {
            outbox.push_unsaved(&chunk);
        }
        assert!(outbox.unsaved_bytes <= UNSAVED_MAX_BYTES);
        assert!(outbox.holds(id(1), 0) && !outbox.holds(id(1), 1));
    }

    #[test]
    fn a_response_of_any_size_fits_a_message() {
        let mut response = Response::new(id(1), ResponseStatus::Completed);
        response.stdout = Some("\u{1}".repeat(100_000));
        assert!(to_text(response).len() < MQTT_MESSAGE_MAX_BYTES);
    }
}
