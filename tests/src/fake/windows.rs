//! The live windows of one connection to the fleet.

use std::collections::BTreeMap;

use quarterdeck_protocol::live::{ClientMessage, Listing, Range, Row, ServerMessage};
use serde_json::value::RawValue;

use super::FakeFleet;

/// What one console watches.
#[derive(Debug, Default)]
pub struct Windows {
    all: BTreeMap<u32, Watch>,
    /// Grows with each message that may have changed which rows were told.
    version: u64,
}

#[derive(Debug)]
pub(super) struct Watch {
    pub(super) listing: Listing,
    pub(super) filter: BTreeMap<String, String>,
    pub(super) sort: Option<String>,
    pub(super) range: Range,
    /// The rows as they were last told: key and JSON.
    pub(super) sent: Vec<(String, String)>,
    pub(super) total: u64,
}

impl Windows {
    /// Answers a message of the console.
    pub fn answer(&mut self, fleet: &FakeFleet, message: ClientMessage) -> Option<ServerMessage> {
        self.version += 1;
        match message {
            ClientMessage::Subscribe { id, listing, filter, sort, range } => {
                let watch = Watch { listing, filter, sort, range, sent: Vec::new(), total: 0 };
                self.all.insert(id, watch);
                self.snapshot(fleet, id)
            }
            ClientMessage::Window { id, range } => {
                self.all.get_mut(&id)?.range = range;
                self.snapshot(fleet, id)
            }
            ClientMessage::Unsubscribe { id } => {
                self.all.remove(&id);
                None
            }
            ClientMessage::Ping { nonce } => Some(ServerMessage::Pong { nonce }),
        }
    }

    fn snapshot(&mut self, fleet: &FakeFleet, id: u32) -> Option<ServerMessage> {
        let watch = self.all.get_mut(&id)?;
        (watch.sent, watch.total) = fleet.rows_of(watch);
        let items = watch.sent.iter().map(raw_row).collect();
        let (offset, total) = (watch.range.offset, watch.total);
        Some(ServerMessage::Snapshot { id, offset, total, items, at: fleet.now })
    }

    /// What changed in the windows since they were last told.
    pub fn changes(&mut self, fleet: &FakeFleet) -> Vec<ServerMessage> {
        self.version += 1;
        let changed = self.all.iter_mut().filter_map(|(&id, watch)| {
            let (rows, total) = fleet.rows_of(watch);
            if rows == watch.sent && total == watch.total {
                return None;
            }
            let before: BTreeMap<&str, &str> =
                watch.sent.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let items = rows
                .iter()
                .filter(|(k, v)| before.get(k.as_str()) != Some(&v.as_str()))
                .map(raw_row)
                .collect();
            let is_same_order = rows.iter().map(|(k, _)| k).eq(watch.sent.iter().map(|(k, _)| k));
            let order = (!is_same_order).then(|| rows.iter().map(|(k, _)| k.clone()).collect());
            (watch.sent, watch.total) = (rows, total);
            Some(ServerMessage::Changes { id, total, items, order, at: fleet.now })
        });
        changed.collect()
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Watch)> {
        self.all.iter().map(|(&id, watch)| (id, watch))
    }
}

pub(super) fn raw_row((key, data): &(String, String)) -> Row {
    Row { key: key.clone(), data: RawValue::from_string(data.clone()).expect("valid JSON") }
}
