//! How far a session's output was shown, and what of it never was.
//!
//! A console that falls behind, or comes late, gets the screen instead of all that
//! led to it. Whoever scrolls back is to see where something is missing.

use std::fmt;

use crate::tui::format;

/// Of one session, from its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    until: u64,
}

/// Output that was not shown, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub left_out: u64,
    /// Of the session's beginning this much is gone for everybody.
    pub dropped: u64,
}

impl Shown {
    /// Output before `end`; a mark is one of the offsets.
    pub const fn until(&mut self, end: u64) {
        self.until = end;
    }

    /// A snapshot at `offset` that paints the output from `painted_from` on.
    pub fn snapshot(&mut self, offset: u64, painted_from: u64, dropped: u64) -> Option<Gap> {
        let left_out = painted_from.saturating_sub(self.until);
        self.until = offset;
        (left_out > 0).then_some(Gap { left_out, dropped })
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of output left out", format::bytes(self.left_out))?;
        match self.dropped {
            0 => Ok(()),
            dropped => write!(f, "; the session's first {} are gone", format::bytes(dropped)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_neither_shown_nor_is_in_the_snapshot_is_left_out() {
        for (shown, offset, painted_from, dropped, expected) in [
            (0, 0, 0, 0, None),
            (0, 300, 0, 0, None),
            (100, 300, 100, 0, None),
            (100, 300, 50, 0, None),
            (100, 300, 150, 0, Some("50 B of output left out")),
            (
                0,
                9_000,
                8_000,
                2_500,
                Some("8.0 KB of output left out; the session's first 2.5 KB are gone"),
            ),
        ] {
            let mut said = Shown::default();
            said.until(shown);
            let gap = said.snapshot(offset, painted_from, dropped);
            assert_eq!(gap.map(|gap| gap.to_string()).as_deref(), expected);
            assert_eq!(said.snapshot(offset, offset, dropped), None, "said once");
        }
    }
}
