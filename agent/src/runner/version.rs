//! A definition together with what it is made of again after a restart (V1, V3).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::workflow::definition::Definition;

/// A definition that commands run.
#[derive(Debug, PartialEq)]
pub struct Version {
    /// Tells it from every other: the same text is the same version.
    pub id: Arc<str>,
    pub source: Source,
    pub definition: Arc<Definition>,
}

/// What is saved of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A valid file.
    File { name: Arc<str>, text: Arc<str> },
    /// An invalid one: its commands fail with this (D10).
    Invalid { operation: Arc<str>, reason: Arc<str> },
}

impl Source {
    /// Reads it; a text that an earlier agent took may not be valid to this one.
    pub fn read(self) -> Result<Version, String> {
        let definition = match &self {
            Self::File { name, text } => {
                Definition::parse(name, text).map_err(|invalid| invalid.reason())?
            }
            Self::Invalid { operation, reason } => Definition::ill_formed(operation, reason),
        };
        let id = definition.version.as_str().into();
        Ok(Version { id, source: self, definition: Arc::new(definition) })
    }
}
