//! Whether a command is for this device, before anything is done for it.
//!
//! Strict, so that nothing is done by guess: a built-in operation knows its
//! payload, a file of the device's owner takes any object.

use quarterdeck_protocol::{command::error_code, payload};
use serde_json::{Map, Value};

/// The most of an unknown operation's name that is repeated, in characters.
const NAME_SHOWN_MAX_CHARS: usize = 64;

/// Whose workflow a command would run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The agent's own.
    Agent,
    /// A file of the device's owner.
    Device,
}

/// Says why a command is not for this device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inadmissible {
    #[error("type: this device has no operation {0:?}")]
    Unsupported(String),
    #[error(transparent)]
    Payload(#[from] payload::InvalidPayload),
    #[error("payload: expected an object")]
    NoObject,
}

impl Inadmissible {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => error_code::UNSUPPORTED,
            Self::Payload(_) | Self::NoObject => error_code::REJECTED,
        }
    }
}

/// Takes a command's payload, given whose workflow there is for its type.
pub fn admit(
    owner: Option<Owner>,
    kind: &str,
    payload: &Value,
) -> Result<Map<String, Value>, Inadmissible> {
    let Some(owner) = owner else {
        let name = kind.chars().take(NAME_SHOWN_MAX_CHARS).collect();
        return Err(Inadmissible::Unsupported(name));
    };
    if owner == Owner::Agent {
        payload::check(kind, payload)?;
    }
    match payload {
        Value::Object(fields) => Ok(fields.clone()),
        Value::Null => Ok(Map::new()),
        _ => Err(Inadmissible::NoObject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_run_says_why() {
        let unknown = admit(None, "fly", &json!({})).expect_err("unknown");
        assert_eq!(unknown.code(), error_code::UNSUPPORTED);
        let wrong = admit(Some(Owner::Agent), "run_script", &json!({"script": 1}));
        let wrong = wrong.expect_err("wrong");
        assert_eq!(wrong.code(), error_code::REJECTED);
        assert!(wrong.to_string().starts_with("payload.script:"), "{wrong}");
        let wrong = admit(Some(Owner::Device), "flash", &json!([1])).expect_err("no object");
        assert_eq!(wrong.code(), error_code::REJECTED);
    }

    #[test]
    fn an_owners_file_takes_any_object_and_no_payload_is_an_empty_one() {
        let odd = json!({"script": 1, "more": []});
        let taken = admit(Some(Owner::Device), "run_script", &odd).expect("an object");
        assert_eq!(Value::Object(taken), odd);
        assert!(admit(Some(Owner::Agent), "ping", &Value::Null).expect("valid").is_empty());
    }
}
