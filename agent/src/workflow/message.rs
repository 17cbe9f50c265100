//! What stands on a command's topic: a JSON object with a text `status` (F1, F8).

use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

/// The longest payload of a command.
pub const PAYLOAD_MAX_BYTES: usize = 1024 * 1024;
/// How deep a payload nests at most; below what a JSON reader takes, so that what is saved can be read.
pub const PAYLOAD_MAX_DEPTH: usize = 100;

pub const STATUS: &str = "status";
pub const REASON: &str = "reason";

/// The fields of a command, all but its `status`.
pub type Payload = Map<String, Value>;

/// What a message on a command's topic says.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The retained message was removed: the requester is done with the command (C2).
    Cleared,
    State(Baton),
}

/// A state that somebody else gave a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Baton {
    pub status: Arc<str>,
    pub payload: Payload,
}

/// Says why a message is ignored (F8).
#[derive(Debug, thiserror::Error)]
pub enum Garbage {
    #[error("it is no JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("it is no JSON object")]
    NotAnObject,
    #[error("it has no text `status`")]
    NoStatus,
    #[error(transparent)]
    TooBig(#[from] TooBig),
}

/// Says that a payload would grow over its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooBig {
    #[error("the payload is longer than {PAYLOAD_MAX_BYTES} bytes")]
    Long,
    #[error("the payload nests deeper than {PAYLOAD_MAX_DEPTH} levels")]
    Deep,
}

/// Reads a message of a command's topic.
pub fn read(bytes: &[u8]) -> Result<Incoming, Garbage> {
    if bytes.is_empty() {
        return Ok(Incoming::Cleared);
    }
    if bytes.len() > PAYLOAD_MAX_BYTES {
        return Err(TooBig::Long.into());
    }
    let value: Value = serde_json::from_slice(bytes).map_err(Garbage::NotJson)?;
    let Value::Object(mut payload) = value else {
        return Err(Garbage::NotAnObject);
    };
    for value in payload.values() {
        measure(value, PAYLOAD_MAX_DEPTH - 1)?;
    }
    match payload.remove(STATUS) {
        Some(Value::String(status)) if !status.is_empty() => {
            Ok(Incoming::State(Baton { status: status.into(), payload }))
        }
        _ => Err(Garbage::NoStatus),
    }
}

/// Checks that a payload may be saved and published.
pub fn check(payload: &Payload) -> Result<(), TooBig> {
    let mut most_bytes = 2_usize;
    for (key, value) in payload {
        most_bytes = most_bytes.saturating_add(measure(value, PAYLOAD_MAX_DEPTH - 1)?);
        most_bytes = most_bytes.saturating_add(text_bytes(key) + 2);
    }
    if most_bytes <= PAYLOAD_MAX_BYTES {
        return Ok(());
    }
    let mut counted = Counter(0);
    match serde_json::to_writer(&mut counted, payload) {
        Ok(()) if counted.0 <= PAYLOAD_MAX_BYTES => Ok(()),
        Ok(()) | Err(_) => Err(TooBig::Long),
    }
}

/// Bounds from above how many bytes a value takes as JSON: cheaper than to write it.
fn measure(value: &Value, levels: usize) -> Result<usize, TooBig> {
    const NUMBER_MAX_BYTES: usize = 32;
    let mut bytes = 2_usize;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => bytes = NUMBER_MAX_BYTES,
        Value::String(text) => bytes = text_bytes(text),
        Value::Array(_) | Value::Object(_) if levels == 0 => return Err(TooBig::Deep),
        Value::Array(items) => {
            for item in items {
                bytes = bytes.saturating_add(measure(item, levels - 1)? + 1);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                bytes = bytes.saturating_add(measure(field, levels - 1)? + text_bytes(key) + 2);
            }
        }
    }
    Ok(bytes)
}

/// A text as JSON: at worst each byte is written as six.
const fn text_bytes(text: &str) -> usize {
    text.len() * 6 + 2
}

/// A command's message: its status and its payload as one object.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub status: &'a str,
    pub payload: &'a Payload,
}

impl Message<'_> {
    /// Writes it as compact JSON.
    pub fn to_json(self) -> String {
        serde_json::to_string(&self).expect("JSON values with text keys are serialisable")
    }

    pub fn to_value(self) -> Value {
        let mut object = self.payload.clone();
        object.insert(STATUS.to_owned(), self.status.into());
        Value::Object(object)
    }
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.payload.len() + 1))?;
        map.serialize_entry(STATUS, self.status)?;
        for (key, value) in self.payload.iter().filter(|(key, _)| *key != STATUS) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_garbage_is_told_apart() {
        for garbage in
            ["not json {", "[1]", "\"x\"", "{\"x\":1}", "{\"status\":1}", "{\"status\":\"\"}"]
        {
            assert!(read(garbage.as_bytes()).is_err(), "{garbage}");
        }
        assert!(read(b"\xff\xfe").is_err());
        assert!(matches!(
            read(&vec![b' '; PAYLOAD_MAX_BYTES + 1]),
            Err(Garbage::TooBig(TooBig::Long))
        ));
        let deep = format!("{{\"status\":\"init\",\"x\":{}{}}}", "[".repeat(110), "]".repeat(110));
        assert!(matches!(read(deep.as_bytes()), Err(Garbage::TooBig(TooBig::Deep))));
        let deeper = format!("{{\"status\":\"init\",\"x\":{}", "[".repeat(100_000));
        assert!(read(deeper.as_bytes()).is_err());
    }

    #[test]
    fn a_payload_is_checked_for_what_it_takes_as_json() {
        let of = |value: serde_json::Value| Payload::from_iter([("k".to_owned(), value)]);
        assert_eq!(check(&of("x".repeat(1_000_000).into())), Ok(()));
        assert_eq!(check(&of("x".repeat(PAYLOAD_MAX_BYTES).into())), Err(TooBig::Long));
        assert_eq!(check(&of("\u{1}".repeat(200_000).into())), Err(TooBig::Long));
        let nested = |levels| (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert_eq!(check(&of(nested(PAYLOAD_MAX_DEPTH - 1))), Ok(()));
        assert_eq!(check(&of(nested(PAYLOAD_MAX_DEPTH))), Err(TooBig::Deep));
    }

    #[test]
    fn c2_an_empty_message_clears() {
        assert_eq!(read(b"").expect("cleared"), Incoming::Cleared);
    }

    #[test]
    fn f5_what_is_read_is_written_unchanged() {
        let text = r#"{"status":"init","b":false,"big":9007199254740993,"keep":{"a":[1,{"z":null}],"t":"é \"q\" \\"},"n":1.5}"#;
        let Incoming::State(baton) = read(text.as_bytes()).expect("valid") else {
            panic!("a state")
        };
        let message = Message { status: &baton.status, payload: &baton.payload };
        assert_eq!(message.to_json(), text);
        assert_eq!(message.to_value()["status"], "init");
    }
}
