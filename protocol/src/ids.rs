//! Ids: strings at the edge, types inside.
//!
//! Projects and devices are named by people; such a name is also a topic
//! segment and a part of MQTT client ids, hence its narrow alphabet
//! (chapter 2). Everything else is a UUIDv7, whose order is the order of
//! creation; ids are made by the server's clock module, never here.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest name of a project or a device, in bytes.
pub const NAME_MAX_BYTES: usize = 64;

/// Says why a text is no valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} id {value:?}: expected a letter or digit, then up to 63 of letters, digits, '.', '_', '-'"
)]
pub struct InvalidName {
    pub what: &'static str,
    pub value: String,
}

fn valid_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= NAME_MAX_BYTES
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(value: &str) -> Result<Self, InvalidName> {
                if valid_name(value) {
                    Ok(Self(value.into()))
                } else {
                    // The text is untrusted and may be huge: keep only what a message needs.
                    let value = value.chars().take(NAME_MAX_BYTES + 1).collect();
                    Err(InvalidName { what: $what, value })
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::new(&value)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
                })
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

name_id!(
    /// A project: the border that no id, topic or right crosses.
    ProjectId, "project"
);
name_id!(
    /// A device, unique within its project.
    DeviceId, "device"
);

/// Says that a text is no id of a command, a batch or a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a UUID such as 01890000-0000-7000-8000-000000000001")]
pub struct InvalidUuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = InvalidUuid;
            fn from_str(value: &str) -> Result<Self, InvalidUuid> {
                value.parse().map(Self).map_err(|_| InvalidUuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": "uuid" })
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .format(Some(utoipa::openapi::schema::SchemaFormat::Custom(
                        "uuid".to_owned(),
                    )))
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

uuid_id!(
    /// One operation on one device; also the key by which a device knows that it has seen it.
    CommandId
);
uuid_id!(
    /// The commands of one submission.
    BatchId
);
uuid_id!(
    /// One session with a device: a terminal, an exec, a forward.
    TunnelId
);

impl CommandId {
    /// When it was made, as its first 48 bits say, in milliseconds since the Unix epoch.
    ///
    /// Never goes back from one id to the next, whatever the wall clock does.
    pub fn millis(self) -> i64 {
        (self.0.as_u128() >> 80) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_alphabet_of_a_topic_segment() {
        for good in ["a", "pi-1", "0", "A.b_c-d", &"x".repeat(64)] {
            assert_eq!(DeviceId::new(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", ".a", "_a", "a/b", "a b", "a+", "#", "é", "a\n", &"x".repeat(65)] {
            assert!(DeviceId::new(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<DeviceId>(bad.into()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_name_is_quoted_but_not_at_any_length() {
        let error = ProjectId::new(&"/".repeat(1_000_000)).expect_err("not a name");
        assert!(error.to_string().len() < 400);
    }
}
