//! What comes from the broker: untrusted, parsed once, here.
//!
//! ```text
//!  bytes ─▶ readable? ─▶ known id? ─▶ valid? ─▶ in time? ─▶ room? ─▶ saved: accepted
//!             │ no          │ yes       │ no       │ no       │ no
//!          rejected     last answer  rejected,   expired    busy,
//!        (if it has an id)           unsupported            disk_full
//! ```

use bytes::Bytes;
use quarterdeck_protocol::{
    command::{CancelMessage, CommandMessage, Response, SCHEMA_VERSION, error_code},
    ids::CommandId,
    json,
    limits::{TIMEOUT_MAX_S, TIMEOUT_MIN_S},
    text,
};

use super::{Engine, commands::Live, saving::Then};
use crate::{
    domain::{
        command::{Event, Failure, State},
        expiry,
        operation::{self, Owner},
    },
    io::mqtt::Receipt,
    journal::{
        Seen,
        record::{Received, Record, Told},
    },
};

/// Payloads of commands that have not ended, all together, in bytes.
const PAYLOADS_MAX_BYTES: usize = 4 * 1024 * 1024;
/// The longest text of an error that is logged, in bytes.
const LOGGED_MAX_BYTES: usize = 300;

impl Engine {
    pub(super) fn acknowledge(&self, receipt: &Receipt) {
        if let Some(link) = &self.link {
            link.acknowledge(receipt);
        }
    }

    pub(super) fn on_command(&mut self, payload: &Bytes, receipt: &Receipt) {
        let message = match read_command(payload) {
            Ok(message) => message,
            Err((id, why)) => {
                let logged = text::line(text::truncate_bytes(&why, LOGGED_MAX_BYTES)).into_owned();
                tracing::warn!(command_id = ?id, why = logged, "ignored a malformed command");
                if let Some(id) = id {
                    self.answer_malformed(id, why);
                }
                self.acknowledge(receipt);
                return;
            }
        };
        let id = message.command_id;
        if let Some(end) = self.unsaved.get(&id) {
            // What had not begun is told once that is saved.
            if end.operation.is_some() {
                self.outbox.push_unsaved(&end.response);
            }
            return self.acknowledge(receipt);
        }
        match self.journal.seen(id) {
            Some(Seen::Open(_) | Seen::Ended(_)) => {
                tracing::debug!(command_id = %id, "a command came again");
                // Its first coming may still be on its way to the disk.
                let acknowledge = self.later(receipt);
                self.once_saved([acknowledge, Then::SayAgain { id }]);
            }
            Some(Seen::CancelledBefore) => {
                let failure = Failure::new(error_code::CANCELLED, "cancelled before it came");
                self.refuse(id, failure, receipt);
            }
            None => self.take_on(message, payload.len(), receipt),
        }
    }

    fn take_on(&mut self, message: CommandMessage, bytes: usize, receipt: &Receipt) {
        let id = message.command_id;
        if message.known {
            let failure = Failure::new(
                error_code::INTERRUPTED,
                "the device accepted it once and does not know it any more; it was not run again",
            );
            return self.refuse(id, failure, receipt);
        }
        let owner = self.context.workflows.catalogue().owner_of(&message.kind);
        let admitted = match operation::admit(owner, &message.kind, &message.payload) {
            Ok(admitted) => admitted,
            Err(why) => {
                let failure = Failure::new(why.code(), why.to_string());
                return self.refuse(id, failure, receipt);
            }
        };
        let (wall, now) = (self.context.clock.wall(), self.now());
        let expires_at = expiry::deadline(&message, wall, now);
        if expires_at <= now {
            let failure = Failure::new(error_code::EXPIRED, "it came after its expiry");
            return self.refuse(id, failure, receipt);
        }
        let is_full = self.live.len() >= self.context.config.limits.queued_commands
            || self.payload_bytes + bytes > PAYLOADS_MAX_BYTES;
        if is_full {
            let failure =
                Failure::new(error_code::BUSY, "the device has as many commands as it takes");
            return self.refuse(id, failure, receipt);
        }
        let live = Live {
            operation: message.kind.as_str().into(),
            owner: owner.unwrap_or(Owner::Device),
            payload: admitted,
            payload_bytes: bytes,
            priority: message.priority,
            plan: self.plan_of(&message),
            state: State::Init { expires_at },
            next_n: 1,
            told: Told::default(),
            has_begun: false,
            end: None,
            to_announce: Vec::new(),
        };
        let priority = message.priority;
        let received =
            Received { message, wall, boot_id: self.here.boot_id.clone(), at: now, expires_at };
        let then = [self.later(receipt), Then::Send { id, n: 0 }];
        match self.save(&[Record::Received(Box::new(received))], then) {
            Ok(()) => {
                tracing::info!(command_id = %id, "accepted");
                self.payload_bytes += bytes;
                self.live.insert(id, live);
                self.schedule.add(id, priority);
            }
            Err(error) => {
                tracing::error!(command_id = %id, error = crate::io::http::describe(&error), "cannot save a command");
                let failure = Failure::new(
                    error_code::DISK_FULL,
                    "the device cannot save the command; it was not run",
                );
                // Not remembered: nothing can be. Should it come again, it is tried again.
                self.outbox.push_unsaved(&self.failed_response(id, failure));
                // It is dealt with: unacknowledged ones would stop the broker from sending more.
                self.acknowledge(receipt);
            }
        }
    }

    /// Ends a command that never began; remembered, so that it is refused again.
    fn refuse(&mut self, id: CommandId, failure: Failure, receipt: &Receipt) {
        tracing::info!(command_id = %id, code = &*failure.code, "refused");
        let response = self.failed_response(id, failure);
        let wall = self.context.clock.wall();
        let record = Record::Reply { n: 0, response: Box::new(response.clone()), wall };
        let then = [self.later(receipt), Then::Send { id, n: 0 }];
        if self.save(&[record], then).is_err() {
            self.outbox.push_unsaved(&response);
            self.acknowledge(receipt);
        }
    }

    fn failed_response(&self, id: CommandId, failure: Failure) -> Response {
        let mut response = Response::failed(id, &failure.code, failure.message);
        response.state = Some("failed".to_owned());
        response.at = Some(self.context.clock.wall());
        response
    }

    /// A malformed message changes nothing, least of all a command that is known.
    fn answer_malformed(&mut self, id: CommandId, why: String) {
        match self.journal.seen(id) {
            Some(Seen::Open(_) | Seen::Ended(_)) => self.once_saved([Then::SayAgain { id }]),
            Some(Seen::CancelledBefore) | None => {
                let failure = Failure::new(error_code::REJECTED, why);
                self.outbox.push_unsaved(&self.failed_response(id, failure));
            }
        }
    }

    /// Says again what was said last, unless that is still on its way.
    pub(super) fn say_again(&mut self, id: CommandId) {
        let Some(Seen::Open(kept) | Seen::Ended(kept)) = self.journal.seen(id) else { return };
        if self.outbox.holds(id, kept.n) {
            return;
        }
        match self.journal.read_reply(kept.place) {
            Ok(response) => self.outbox.push_unsaved(&response),
            Err(error) => tracing::error!(command_id = %id, %error, "a saved reply cannot be read"),
        }
    }

    fn later(&self, receipt: &Receipt) -> Then {
        Then::Acknowledge { link: self.link.clone(), receipt: receipt.clone() }
    }

    pub(super) fn on_cancel(&mut self, payload: &Bytes, receipt: &Receipt) {
        let message: CancelMessage = match serde_json::from_slice(payload) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%error, "ignored a malformed cancellation");
                return self.acknowledge(receipt);
            }
        };
        let id = message.command_id;
        tracing::info!(command_id = %id, "cancelled by the server");
        let acknowledge = self.later(receipt);
        if self.live.contains_key(&id) {
            self.apply(id, Event::Cancel);
            return self.once_saved([acknowledge]);
        }
        match self.journal.seen(id) {
            Some(Seen::Open(_) | Seen::Ended(_)) => {
                self.once_saved([acknowledge, Then::SayAgain { id }]);
            }
            Some(Seen::CancelledBefore) => self.once_saved([acknowledge]),
            None => {
                let record = Record::Cancelled { id, wall: self.context.clock.wall() };
                if let Err(error) = self.save(&[record], [acknowledge]) {
                    tracing::error!(command_id = %id, %error, "cannot save a cancellation");
                    self.acknowledge(receipt);
                }
            }
        }
    }
}

/// Reads a command; what is wrong with it, and its id if that can be read.
pub(crate) fn read_command(payload: &[u8]) -> Result<CommandMessage, (Option<CommandId>, String)> {
    let value: serde_json::Value = serde_json::from_slice(payload)
        .map_err(|error| (find_command_id(payload), format!("the message is no JSON: {error}")))?;
    let id = value["command_id"].as_str().and_then(|id| id.parse().ok());
    // Of a name that stands twice another program took the other one, and checked that.
    let text = std::str::from_utf8(payload).unwrap_or_default();
    if let Ok(Some(fault)) = json::check(text) {
        return Err((id, format!("{}: {}", fault.field, fault.expected)));
    }
    match value["schema_version"].as_str() {
        Some(SCHEMA_VERSION) => {}
        Some(other) => {
            let other: String = other.chars().take(20).collect();
            return Err((id, format!("schema_version: expected {SCHEMA_VERSION}, not {other:?}")));
        }
        None => return Err((id, format!("schema_version: expected {SCHEMA_VERSION}"))),
    }
    let message: CommandMessage =
        serde_path_to_error::deserialize(value).map_err(|error| (id, error.to_string()))?;
    if !(TIMEOUT_MIN_S..=TIMEOUT_MAX_S).contains(&message.timeout_s) {
        let expected = format!("expected {TIMEOUT_MIN_S} to {TIMEOUT_MAX_S}");
        return Err((id, format!("timeout_s: {expected}, not {}", message.timeout_s)));
    }
    Ok(message)
}

/// Looks for `"command_id": "…"` in what is no JSON as a whole.
fn find_command_id(payload: &[u8]) -> Option<CommandId> {
    const KEY: &str = "\"command_id\"";
    let text = String::from_utf8_lossy(payload);
    let rest = &text[text.find(KEY)? + KEY.len()..];
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split_once('"')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ID: &str = "018f0000-0000-7000-8000-000000000001";

    #[test]
    fn what_is_wrong_with_a_message_is_said_with_its_id() {
        let good = json!({
            "schema_version": "1.0", "command_id": ID, "type": "ping",
            "issued_at": "2026-11-21T06:00:00Z", "expires_at": "2026-11-21T07:00:00Z"
        });
        assert!(read_command(good.to_string().as_bytes()).is_ok());
        let with = |key: &str, value: serde_json::Value| {
            let mut changed = good.clone();
            changed[key] = value;
            changed.to_string()
        };
        for (payload, has_id, part) in [
            (with("schema_version", json!("2.0")), true, "schema_version"),
            (with("schema_version", json!(1)), true, "schema_version"),
            (with("priority", json!(11)), true, "priority"),
            (with("timeout_s", json!(-1)), true, "timeout_s"),
            (with("timeout_s", json!(0)), true, "timeout_s: expected 1 to 604800, not 0"),
            (with("timeout_s", json!(604_801)), true, "timeout_s: expected 1 to 604800"),
            (with("expires_at", json!("soon")), true, "expires_at"),
            (with("command_id", json!("x")), false, "command_id"),
            (good.to_string()[..good.to_string().len() - 1].to_owned(), true, "no JSON"),
            (
                good.to_string().replacen('{', "{\"type\":\"reboot_host\",", 1),
                true,
                "type: given twice",
            ),
            ("[]".to_owned(), false, "schema_version"),
            (String::new(), false, "no JSON"),
            ("[".repeat(100_000), false, "no JSON"),
        ] {
            let (id, why) = read_command(payload.as_bytes()).expect_err(&payload);
            assert_eq!(id.is_some(), has_id, "{payload}");
            assert!(why.contains(part), "{payload}: {why}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_command(&bytes);
        }

        #[test]
        fn a_cut_message_still_names_its_command(cut in 70..200_usize) {
            let text = format!("{{\"schema_version\":\"1.0\",\"command_id\" : \"{ID}\",\"payload\":{{\"x\":\"{}\"", "y".repeat(300));
            let (id, _) = read_command(&text.as_bytes()[..cut + 20]).expect_err("cut");
            prop_assert_eq!(id, Some(ID.parse().expect("valid")));
        }
    }
}
