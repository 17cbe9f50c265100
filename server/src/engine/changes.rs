//! What changed, for whoever shows it live.
//!
//! Changes are sent after the commit, a bounded number is kept, and each only
//! names what changed: a listener reads the row itself, so it may coalesce any
//! number of them. One that lags too far behind gets
//! [`tokio::sync::broadcast::error::RecvError::Lagged`] and must take
//! everything as changed.

use std::sync::Arc;

use quarterdeck_protocol::{ids::ProjectId, live::Listing};
use tokio::sync::broadcast;

/// Commits whose changes a listener may be behind.
const CHANGES_MAX_COMMITS: usize = 1_024;

/// One row of one listing is new, differs, or is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    pub project: ProjectId,
    pub listing: Listing,
    /// The row's key. Of a timeline or output, whose rows are many: the id of the command or device.
    pub key: String,
}

/// The changes of one commit; without any, everything may have changed.
pub type Changes = Arc<[Change]>;

/// Where changes are announced. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Announcer(broadcast::Sender<Changes>);

impl Default for Announcer {
    fn default() -> Self {
        Self(broadcast::channel(CHANGES_MAX_COMMITS).0)
    }
}

impl Announcer {
    /// Hears all changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Changes> {
        self.0.subscribe()
    }

    /// Whether anybody listens: nobody need collect changes otherwise.
    pub fn has_listeners(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells all listeners.
    pub fn announce(&self, changes: Vec<Change>) {
        if !changes.is_empty() && self.has_listeners() {
            // The last listener may have gone meanwhile.
            let _ = self.0.send(changes.into());
        }
    }

    /// Tells all listeners that anything may have changed.
    pub fn announce_anything(&self) {
        // Without a listener there is nobody to tell.
        let _ = self.0.send(Arc::default());
    }
}
