//! How far a session's output was shown, and the line that stands for what was not.
//!
//! A console that falls behind, or comes late, gets the screen instead of all that
//! led to it. Whoever scrolls back is to see where something is missing.

use crate::tui::format;

/// Of one session, from its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shown {
    until: u64,
}

impl Shown {
    /// Output from `offset` on.
    pub const fn bytes(&mut self, offset: u64, length: usize) {
        self.until = offset + length as u64;
    }

    /// A snapshot at `offset`, painted by `length` bytes, for about as much of the output. What is
    /// neither there nor was shown is left out; of it `dropped` bytes are gone for everybody.
    pub fn snapshot(&mut self, offset: u64, length: usize, dropped: u64) -> Option<String> {
        let left_out = offset.saturating_sub(self.until + length as u64);
        self.until = offset;
        (left_out > 0).then(|| line(left_out, dropped))
    }
}

fn line(left_out: u64, dropped: u64) -> String {
    let left_out = format::bytes(left_out);
    if dropped == 0 {
        return format!("--- {left_out} of output left out here ---");
    }
    let dropped = format::bytes(dropped);
    format!("--- {left_out} of output left out here; the session's first {dropped} are gone ---")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_neither_shown_nor_is_in_the_snapshot_is_left_out() {
        for (shown, offset, length, dropped, expected) in [
            (0, 0, 0, 0, None),
            (0, 300, 300, 0, None),
            (100, 300, 200, 0, None),
            (100, 300, 250, 0, None),
            (100, 300, 150, 0, Some("--- 50 B of output left out here ---")),
            (
                0,
                9_000,
                1_000,
                2_500,
                Some("--- 8.0 KB of output left out here; the session's first 2.5 KB are gone ---"),
            ),
        ] {
            let mut said = Shown::default();
            said.bytes(0, shown);
            assert_eq!(said.snapshot(offset, length, dropped).as_deref(), expected);
            assert_eq!(said.snapshot(offset, length, dropped), None, "said once");
        }
    }
}
