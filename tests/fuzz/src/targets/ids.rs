//! Ids and timestamps: what is read is written the same, what is refused is not quoted at any length.

use quarterdeck_protocol::{
    ids::{CommandId, DeviceId, NAME_MAX_BYTES, ProjectId},
    time::Timestamp,
};

/// The longest refusal of a name, in bytes: 65 characters, each escaped, and the rule.
const REFUSAL_MAX_BYTES: usize = 1_024;

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match DeviceId::new(text) {
        Ok(id) => {
            assert_eq!(id.as_str(), text);
            assert!(text.len() <= NAME_MAX_BYTES);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
            assert!(text.as_bytes()[0].is_ascii_alphanumeric());
            assert!(ProjectId::new(text).is_ok());
        }
        Err(refused) => {
            let shown = refused.to_string();
            assert!(shown.len() <= REFUSAL_MAX_BYTES);
            assert!(!shown.contains(char::is_control), "{shown:?}");
            assert!(ProjectId::new(text).is_err());
        }
    }
    if let Ok(id) = text.parse::<CommandId>() {
        assert_eq!(id.to_string().parse::<CommandId>(), Ok(id));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        assert_eq!(at.to_string().parse::<Timestamp>(), Ok(at));
    }
}
