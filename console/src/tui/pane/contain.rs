//! Keeps a panic where it happens: in one pane.
//!
//! The console's own panic hook gives the terminal back and prints. For a panic
//! that is contained that would tear down a screen that lives on, so the hook
//! asks [`is_contained`] first.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Whether a panic on this thread would be caught by [`contain`].
pub fn is_contained() -> bool {
    DEPTH.with(Cell::get) > 0
}

/// Runs `work`; `None` when it panicked. What it worked on is then in no known state: the caller
/// makes it anew.
pub fn contain<T>(work: impl FnOnce() -> T) -> Option<T> {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(work)).ok();
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_here() {
        assert_eq!(contain(|| 1), Some(1));
        let inner = contain(|| {
            assert!(is_contained());
            panic!("contained");
        });
        assert_eq!(inner, None::<()>);
        assert!(!is_contained());
    }
}
