//! Who reads which recording page by page.
//!
//! The audit log has one entry for a view, not one for each of its pages. A
//! page that goes on from one of long ago, or of somebody else, is a view anew.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How long after its last page a view is over, in milliseconds.
pub const VIEW_PAUSE_MS: i64 = 600_000;
/// Views that are remembered; with more, the next page of some is noted anew.
pub const VIEWS_MAX: usize = 1_000;

/// Reader and recording.
type View = (String, String);

#[derive(Debug, Default)]
pub struct Views(Mutex<HashMap<View, i64>>);

impl Views {
    /// Whether a view that was noted goes on at `now_ms`.
    pub fn goes_on(&self, reader: &str, recording: &str, now_ms: i64) -> bool {
        let mut last = self.lock();
        let Some(at) = last.get_mut(&(reader.to_owned(), recording.to_owned())) else {
            return false;
        };
        let goes_on = now_ms.saturating_sub(*at) < VIEW_PAUSE_MS;
        *at = now_ms;
        goes_on
    }

    /// A view has been noted.
    pub fn began(&self, reader: &str, recording: &str, now_ms: i64) {
        let mut last = self.lock();
        if last.len() >= VIEWS_MAX {
            last.retain(|_, at| now_ms.saturating_sub(*at) < VIEW_PAUSE_MS);
        }
        if last.len() >= VIEWS_MAX {
            last.clear();
        }
        last.insert((reader.to_owned(), recording.to_owned()), now_ms);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<View, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_goes_on_for_its_reader_until_a_pause() {
        let views = Views::default();
        assert!(!views.goes_on("ann", "r", 0));
        views.began("ann", "r", 0);
        for (reader, recording, now_ms, expected) in [
            ("ann", "r", VIEW_PAUSE_MS - 1, true),
            ("ben", "r", VIEW_PAUSE_MS, false),
            ("ann", "s", VIEW_PAUSE_MS, false),
            ("ann", "r", 2 * VIEW_PAUSE_MS - 2, true),
            ("ann", "r", 3 * VIEW_PAUSE_MS, false),
        ] {
            assert_eq!(views.goes_on(reader, recording, now_ms), expected, "{reader} {now_ms}");
        }
    }

    #[test]
    fn no_more_are_remembered_than_may_be() {
        let views = Views::default();
        for recording in 0..=VIEWS_MAX {
            views.began("ann", &recording.to_string(), 0);
        }
        assert!(views.lock().len() <= VIEWS_MAX);
        assert!(views.goes_on("ann", &VIEWS_MAX.to_string(), 1));
    }
}
