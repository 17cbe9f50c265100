//! What the device says of itself: status, heartbeat, and a file for `status`.

use quarterdeck_protocol::{
    command::SCHEMA_VERSION,
    device::{FACT_TUNNELS, HealthMessage, StatusMessage, TUNNELS_DISABLED},
    topics::DeviceTopic,
};
use serde_json::Map;

use super::{Engine, saving::Then};
use crate::{
    domain::{Lifetime, Moment},
    io::{host, mqtt::Link},
    journal::record::Record,
    local_status::Connection,
    workflow::announce::announce,
};

/// Tokens of messages that are not replies.
const STATUS_TOKEN: u64 = u64::MAX;
const HEALTH_TOKEN: u64 = u64::MAX - 1;

fn status(here: &Lifetime, online: bool) -> StatusMessage {
    StatusMessage {
        schema_version: SCHEMA_VERSION.to_owned(),
        online,
        boot_id: Some(here.boot_id.clone()),
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        capabilities: None,
        operations: None,
        facts: None,
        at: None,
        other: Map::new(),
    }
}

/// What the broker says for the device when it goes without a word.
pub(super) fn last_will(here: &Lifetime) -> Vec<u8> {
    serde_json::to_vec(&status(here, false)).expect("plain data")
}

impl Engine {
    pub(super) fn on_up(&mut self, link: Link) {
        tracing::info!(broker = %self.broker_url, "connected");
        if self.was_up {
            self.connection.reconnect_count += 1;
        }
        self.was_up = true;
        self.outbox.rewind();
        self.link = Some(link);
        self.send_status();
        self.note_connection();
        self.send_health();
        self.heartbeat_at = self.now().plus_millis(self.heartbeat_ms());
    }

    /// Says that the device is there, and what it can do.
    pub(super) fn send_status(&self) {
        let Some(link) = &self.link else { return };
        let mut message = status(&self.here, true);
        let said = announce(&self.context.workflows.catalogue());
        for left_out in &said.left_out {
            tracing::warn!(left_out, "the status has no room for it");
        }
        message.capabilities = Some(said.capabilities);
        message.operations = Some(said.operations).filter(|cards| !cards.is_empty());
        let mut facts = host::facts();
        if !self.context.config.tunnels.is_enabled {
            facts.insert(FACT_TUNNELS.to_owned(), TUNNELS_DISABLED.into());
        }
        message.facts = Some(facts);
        message.at = Some(self.context.clock.wall());
        let text = serde_json::to_vec(&message).expect("plain data");
        if link.publish(STATUS_TOKEN, DeviceTopic::Status, text).is_err() {
            tracing::warn!("the status could not be sent");
        }
    }

    pub(super) fn on_down(&mut self, reason: &str) {
        if self.link.take().is_some() {
            tracing::warn!(reason, "disconnected");
            self.connection.last_disconnect_at = Some(self.context.clock.wall());
            self.outbox.rewind();
            self.note_connection();
        } else {
            tracing::warn!(reason, broker = %self.broker_url, "cannot connect");
        }
    }

    pub(super) fn say_goodbye(&self, link: &Link) {
        let mut message = status(&self.here, false);
        message.at = Some(self.context.clock.wall());
        let text = serde_json::to_vec(&message).expect("plain data");
        // The connection closes after this in order, so there will be no last will.
        if link.publish(STATUS_TOKEN, DeviceTopic::Status, text).is_ok() {
            link.disconnect();
        }
    }

    fn heartbeat_ms(&self) -> i64 {
        self.context.config.heartbeat.as_millis() as i64
    }

    pub(super) fn on_heartbeat(&mut self, now: Moment) {
        self.heartbeat_at = now.plus_millis(self.heartbeat_ms());
        self.send_health();
        self.retry_saving();
        self.compact_on();
    }

    fn send_health(&self) {
        let Some(link) = &self.link else { return };
        let message = HealthMessage {
            schema_version: SCHEMA_VERSION.to_owned(),
            at: Some(self.context.clock.wall()),
            processes: Vec::new(),
            checks: Vec::new(),
            resources: host::resources(),
            broker_connection: self.connection.clone(),
            other: Map::new(),
        };
        let text = serde_json::to_vec(&message).expect("plain data");
        if link.publish(HEALTH_TOKEN, DeviceTopic::Health, text).is_err() {
            tracing::debug!("a heartbeat could not be sent");
        }
    }

    /// Tries again what a full disk refused.
    fn retry_saving(&mut self) {
        let wall = self.context.clock.wall();
        while let Some((id, end)) = self.unsaved.pop_first() {
            let n = self.next_free_n(id);
            let record = Record::Reply { n, response: Box::new(end.response.clone()), wall };
            let clear = end.operation.clone().map(|operation| Then::Clear { id, operation });
            if self.save(&[record], [Then::Send { id, n }].into_iter().chain(clear)).is_err() {
                self.unsaved.insert(id, end);
                return;
            }
        }
        for id in std::mem::take(&mut self.stalled) {
            if let Some(live) = self.live.get(&id) {
                self.schedule.add(id, live.priority);
            }
        }
    }

    pub(super) fn note_connection(&self) {
        let connection = Connection {
            connected: self.link.is_some(),
            since: self.context.clock.wall(),
            reconnect_count: self.connection.reconnect_count,
            last_disconnect_at: self.connection.last_disconnect_at,
        };
        connection.write(&self.context.paths);
    }
}
