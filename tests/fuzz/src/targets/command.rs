//! `commands` and `commands/cancel`, as a device reads them.

use quarterdeck_protocol::command::{CancelMessage, CommandMessage, SCHEMA_VERSION};

pub(super) fn run(input: &[u8]) {
    match quarterdeck_agent::fuzz::command(input) {
        Ok(message) => {
            assert_eq!(message.schema_version, SCHEMA_VERSION);
            // The journal writes it, and reads it after a crash.
            let text = serde_json::to_string(&message).expect("plain data");
            let again: CommandMessage = serde_json::from_str(&text).expect("what was written");
            assert_eq!(again, message);
        }
        Err((_, why)) => assert!(!why.is_empty()),
    }
    if let Ok(cancel) = serde_json::from_slice::<CancelMessage>(input) {
        let text = serde_json::to_string(&cancel).expect("plain data");
        assert_eq!(serde_json::from_str::<CancelMessage>(&text).expect("what was written"), cancel);
    }
}
