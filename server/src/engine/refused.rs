//! Why the engine did not do what was asked: a typed value, for HTTP to map.

use quarterdeck_protocol::payload::InvalidPayload;

use crate::store::{StoreError, query::InvalidQuery};

/// A refusal. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Unknown, or of another project: the two look alike (404).
    #[error("no such {what}")]
    NotFound { what: &'static str },
    /// One input is wrong (422).
    #[error("{field}: {detail}")]
    Invalid { field: String, detail: String },
    /// Dangerous, or for many devices, and `confirm` is not set (422, field `confirm`).
    #[error("{detail}")]
    ConfirmationRequired { detail: String },
    /// The state of the object does not allow it (409).
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String },
    /// The credential that was presented is not good (401).
    #[error("{detail}")]
    Unauthorized { code: &'static str, detail: String },
    /// It could not be stored (500, or 503 when closed or the disk is full).
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), detail: detail.into() }
    }

    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Conflict { code, detail: detail.into() }
    }

    /// The stable code of the problem.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::ConfirmationRequired { .. } => "confirmation_required",
            Self::Conflict { code, .. } | Self::Unauthorized { code, .. } => code,
            Self::Store(StoreError::Closed) => "unavailable",
            Self::Store(_) => "internal",
        }
    }

    /// The input that is wrong, when one is.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::ConfirmationRequired { .. } => Some("confirm"),
            _ => None,
        }
    }

    /// What to tell the person who asked, without the field's name.
    pub fn detail(&self) -> String {
        match self {
            Self::Invalid { detail, .. } => detail.clone(),
            other => other.to_string(),
        }
    }
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<InvalidPayload> for Refused {
    fn from(error: InvalidPayload) -> Self {
        Self::Invalid { field: error.field, detail: error.expected }
    }
}

impl From<InvalidQuery> for Refused {
    fn from(error: InvalidQuery) -> Self {
        Self::Invalid { field: error.field, detail: error.expected }
    }
}
