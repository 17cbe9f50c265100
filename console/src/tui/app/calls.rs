//! Requests under way: what was asked of the server and is not yet its word.
//!
//! ```text
//!   confirmed ──▶ grace (10 s, can be called back) ──▶ pending ──▶ answered
//!        └───────────── not dangerous ──────────────────▲
//! ```
//!
//! Until the answer is there an action shows as pending, never as done.

use std::collections::BTreeMap;

use quarterdeck_protocol::{ids::DeviceId, time::Timestamp};

use crate::tui::effects::{ApiRequest, RequestId};

/// How long a dangerous batch waits before it leaves.
pub const GRACE_MS: i64 = 10_000;
/// The most calls under way at once.
pub const CALLS_MAX: usize = crate::tui::mailbox::ANSWERS_MAX;

/// What a call is for: what its answer does to the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Says that it is done.
    Say(String),
    /// The wizard's submission.
    Submit,
    /// The form dialog that is open.
    Form,
    Health(DeviceId),
    Settings,
    /// An action on rows, which show as pending meanwhile.
    Rows {
        doing: String,
        keys: Vec<String>,
    },
}

/// A call that has not been answered.
#[derive(Debug, Clone)]
pub struct Pending {
    pub purpose: Purpose,
    pub since: Timestamp,
}

/// A batch that waits before it leaves.
#[derive(Debug, Clone)]
pub struct Grace {
    pub title: String,
    pub until: Timestamp,
    pub call: ApiRequest,
    pub purpose: Purpose,
}

/// All calls of this run.
#[derive(Debug, Default)]
pub struct Calls {
    next: u64,
    pub pending: BTreeMap<RequestId, Pending>,
    pub grace: Vec<Grace>,
}

impl Calls {
    /// Notes a call; `None` when too many are under way.
    pub fn begin(&mut self, purpose: Purpose, now: Timestamp) -> Option<RequestId> {
        if self.pending.len() >= CALLS_MAX {
            return None;
        }
        self.next += 1;
        let id = RequestId(self.next);
        self.pending.insert(id, Pending { purpose, since: now });
        Some(id)
    }

    /// What is being done to a row.
    pub fn doing(&self, key: &str) -> Option<&str> {
        self.pending.values().find_map(|pending| match &pending.purpose {
            Purpose::Rows { doing, keys } if keys.iter().any(|k| k == key) => Some(doing.as_str()),
            _ => None,
        })
    }

    /// How many calls are under way that somebody waits for.
    pub fn waiting(&self) -> usize {
        let quiet = |p: &&Pending| !matches!(p.purpose, Purpose::Health(_) | Purpose::Settings);
        self.pending.values().filter(quiet).count()
    }
}

/// The name of the operation of a call, for titles.
pub fn describe(call: &ApiRequest) -> String {
    match call {
        ApiRequest::CreateCommands(create) => {
            let n = create.targets.devices.len() as u64;
            format!("{} on {}", create.kind, crate::tui::format::plural(n, "device"))
        }
        ApiRequest::CancelCommands(cancel) => {
            format!("cancel {}", crate::tui::format::plural(cancel.ids.len() as u64, "command"))
        }
        ApiRequest::RetireDevice(id) => format!("retire {id}"),
        _ => "request".to_owned(),
    }
}
