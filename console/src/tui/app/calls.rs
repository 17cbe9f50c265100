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

use super::{jobs::Job, wizard::Wizard};
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
    /// The wizard's submission, by its number.
    Submit(u64),
    /// The form dialog that is open.
    Form,
    Health(DeviceId),
    Settings,
    /// An action on rows, which show as pending meanwhile.
    Rows {
        doing: String,
        keys: Vec<String>,
    },
    /// One request of an action on many rows.
    Job {
        job: u64,
        keys: Vec<String>,
    },
    /// A page of the listing that is being marked or exported.
    Sweep,
    /// A page of the recording that is shown.
    Recording,
}

/// A call that has not been answered.
#[derive(Debug, Clone)]
pub struct Pending {
    pub purpose: Purpose,
    pub since: Timestamp,
}

/// What leaves once it is confirmed.
#[derive(Debug, Clone)]
pub enum Outgoing {
    Call(Box<ApiRequest>, Purpose),
    Job(Box<Job>),
}

impl Outgoing {
    /// The number of the wizard's submission, when it is one.
    pub const fn submission(&self) -> Option<u64> {
        match self {
            Self::Call(_, Purpose::Submit(number)) => Some(*number),
            Self::Call(..) => None,
            Self::Job(job) => job.submission,
        }
    }
}

/// Something that waits before it leaves.
#[derive(Debug, Clone)]
pub struct Grace {
    pub title: String,
    pub until: Timestamp,
    pub what: Outgoing,
}

/// All calls of this run.
#[derive(Debug, Default)]
pub struct Calls {
    next: u64,
    pub pending: BTreeMap<RequestId, Pending>,
    pub grace: Vec<Grace>,
    /// Actions on many rows, the latest last.
    pub jobs: BTreeMap<u64, Job>,
    /// The wizards whose submissions are under way, as they were sent: what is refused comes back.
    pub submissions: BTreeMap<u64, Wizard>,
}

impl Calls {
    /// A number that was not given before.
    pub fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Notes a call; `None` when too many are under way.
    pub fn begin(&mut self, purpose: Purpose, now: Timestamp) -> Option<RequestId> {
        if self.pending.len() >= CALLS_MAX {
            return None;
        }
        let id = RequestId(self.next_id());
        self.pending.insert(id, Pending { purpose, since: now });
        Some(id)
    }

    /// What is being done to a row.
    pub fn doing(&self, key: &str) -> Option<&str> {
        let by_call = self.pending.values().find_map(|pending| match &pending.purpose {
            Purpose::Rows { doing, keys } if keys.iter().any(|k| k == key) => Some(doing.as_str()),
            _ => None,
        });
        let of_job = || self.jobs.values().find(|job| job.concerns(key));
        by_call.or_else(|| of_job().map(|job| job.doing.as_str()))
    }

    /// Whether a submission of the wizard waits before it leaves.
    pub fn is_in_grace(&self, submission: u64) -> bool {
        self.grace.iter().any(|grace| grace.what.submission() == Some(submission))
    }

    /// How many calls are under way that somebody waits for.
    pub fn waiting(&self) -> usize {
        let quiet = |p: &&Pending| {
            !matches!(
                p.purpose,
                Purpose::Health(_) | Purpose::Settings | Purpose::Sweep | Purpose::Recording
            )
        };
        self.pending.values().filter(quiet).count()
    }
}
