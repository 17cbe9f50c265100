//! `commands/response`: what the server takes is what the published schema's type takes, and it survives.

use quarterdeck_protocol::{
    command::Response,
    device::{HealthMessage, ServiceFailedMessage, StatusMessage},
    topics::DeviceTopic,
};
use quarterdeck_server::fuzz::device_message;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(super) fn run(input: &[u8]) {
    let is_response = survives::<Response>(input);
    // The server skips what it does not keep, so only what is sound as a whole must agree.
    let is_sound = serde_json::from_slice::<Value>(input).is_ok();
    if is_sound && device_message(DeviceTopic::CommandsResponse, input).is_ok() {
        assert!(is_response, "taken by the server, but no response by its schema");
    }
    survives::<StatusMessage>(input);
    survives::<HealthMessage>(input);
    survives::<ServiceFailedMessage>(input);
}

/// Whether it can be read; then it is written and read the same.
fn survives<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(input: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<T>(input) else { return false };
    let text = serde_json::to_string(&message).expect("plain data");
    assert_eq!(serde_json::from_str::<T>(&text).expect("what was written"), message);
    true
}
