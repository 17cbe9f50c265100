//! What devices say, as the server reads it. The first line names the topic.
//!
//! What is kept goes into a database and out into answers that hold all
//! devices: one device must not be able to spoil either.

use quarterdeck_protocol::{limits::JSON_MAX_DEPTH, topics::DeviceTopic};
use serde_json::Value;

pub(super) fn run(input: &[u8]) {
    let Some((name, payload)) = super::chosen(input) else { return };
    let Some(kind) = DeviceTopic::ALL.into_iter().find(|kind| kind.suffix() == name) else {
        return;
    };
    let Ok(heard) = quarterdeck_server::fuzz::device_message(kind, payload) else { return };
    for text in &heard.texts {
        assert!(!text.contains('\0'), "PostgreSQL takes no NUL");
    }
    for text in &heard.json {
        assert!(!text.contains('\0'), "PostgreSQL takes no NUL");
        let value: Value = serde_json::from_str(text).expect("JSON that a reader of it takes");
        assert!(depth(&value) <= JSON_MAX_DEPTH, "deeper than a reader of the listing takes");
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
