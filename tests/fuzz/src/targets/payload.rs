//! Payloads of operations. The first line names the operation.
//!
//! What the server lets through, a device of the same version takes.

use quarterdeck_agent::{
    domain::operation::{Owner, admit},
    operations::operation::Operation,
};
use quarterdeck_protocol::{
    limits::COMMAND_PAYLOAD_MAX_BYTES,
    operations::is_builtin,
    payload::{self, FilePush, Payload as _},
};
use serde_json::Value;

pub(super) fn run(input: &[u8]) {
    let Some((operation, text)) = super::chosen(input) else { return };
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
    let owner = is_builtin(operation).then_some(Owner::Agent);
    let on_device = admit(owner, operation, &value);
    match payload::check(operation, &value) {
        Ok(()) => {
            let size = serde_json::to_vec(&value).expect("plain data").len();
            assert!(size <= COMMAND_PAYLOAD_MAX_BYTES);
            assert_eq!(on_device.is_ok(), is_builtin(operation));
            if let Ok(fields) = on_device {
                let step = Operation::parse(operation, &Value::Object(fields));
                assert!(step.is_ok(), "what is let in can be done: {step:?}");
            }
        }
        Err(invalid) => {
            assert!(invalid.field.starts_with("payload"), "{invalid}");
            assert!(on_device.is_err(), "{invalid}");
        }
    }
    if let Ok(push) = FilePush::parse(&value) {
        assert!(push.mode_bits().is_some_and(|bits| bits <= 0o777));
    }
}
