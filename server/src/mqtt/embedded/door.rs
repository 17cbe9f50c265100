//! Bounds the connections that have not signed in.
//!
//! ```text
//!   accepted --> stranger --signed in--> let go
//!                   +------too long, too many--> closed
//! ```

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Where strangers wait, the oldest first.
#[derive(Debug)]
pub(super) struct Door {
    count_max: usize,
    strangers: Mutex<Strangers>,
}

#[derive(Debug, Default)]
struct Strangers {
    last: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// A stranger's place; given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Door>,
    number: u64,
    turned_away: Arc<Notify>,
}

impl Door {
    pub(super) fn new(count_max: usize) -> Arc<Self> {
        Arc::new(Self { count_max, strangers: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Strangers> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a stranger in; when there are too many, the oldest is turned away.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let turned_away = Arc::new(Notify::new());
        let mut strangers = self.lock();
        strangers.last += 1;
        let number = strangers.last;
        strangers.waiting.insert(number, turned_away.clone());
        if strangers.waiting.len() > self.count_max
            && let Some((_, oldest)) = strangers.waiting.pop_first()
        {
            oldest.notify_one();
        }
        drop(strangers);
        Place { door: self.clone(), number, turned_away }
    }
}

impl Place {
    /// Waits until the place is needed for somebody else.
    pub(super) async fn turned_away(&self) {
        self.turned_away.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn over_the_most_strangers_the_oldest_goes_first() {
        let door = Door::new(2);
        let (first, second) = (door.enter(), door.enter());
        assert!(first.turned_away().now_or_never().is_none());
        let third = door.enter();
        assert!(first.turned_away().now_or_never().is_some());
        assert!(second.turned_away().now_or_never().is_none());
        // Who signs in needs no place any more.
        drop(third);
        let _fourth = door.enter();
        assert!(second.turned_away().now_or_never().is_none());
    }
}
