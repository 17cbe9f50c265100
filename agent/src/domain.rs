//! What the agent decides, without doing it: no tokio, no clock, no files.
//!
//! | module | subject |
//! | --- | --- |
//! | [`command`] | the one machine that every command of the server goes through |
//! | [`operation`] | whether a command is for this device |
//! | [`schedule`] | which accepted command runs next |
//! | [`expiry`] | how much of a command's life is left |

pub mod command;
pub mod expiry;
pub mod operation;
pub mod schedule;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A point on the boot clock, in milliseconds since the host started.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to `self`; negative when `self` is earlier.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Which life of the host and of the agent something happened in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Changes with every boot of the host.
    pub boot_id: String,
    /// Changes with every start of the agent.
    pub run_id: Uuid,
}
