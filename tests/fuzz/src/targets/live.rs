//! Messages of the live feed, of both ends: what is read is written and read the same.

use quarterdeck_protocol::live::{ClientMessage, ServerMessage};

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(message) = serde_json::from_str::<ClientMessage>(text) {
        let written = serde_json::to_string(&message).expect("plain data");
        let again: ClientMessage = serde_json::from_str(&written).expect("what was written");
        assert_eq!(again, message);
    }
    if let Ok(message) = serde_json::from_str::<ServerMessage>(text) {
        let written = serde_json::to_string(&message).expect("plain data");
        let again: ServerMessage = serde_json::from_str(&written).expect("what was written");
        assert_eq!(again, message);
    }
}
