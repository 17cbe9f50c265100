//! When to look for what a commit in doubt has stored.
//!
//! ```text
//!  doubt ──1 s──▶ look ──4 s──▶ look ──25 s──▶ look ──▶ none
//! ```
//!
//! A commit whose confirmation is lost may become visible later than that is
//! noticed: its backend waits for its disk or for a standby, whether or not we
//! are there. So one look is not enough. Pure: the time is given.

/// The looks after a doubt, in milliseconds since.
const LOOKS_MS: [i64; 3] = [1_000, 5_000, 30_000];

/// The looks that are still to be taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Steady milliseconds, the earliest first.
    due_ms: Vec<i64>,
}

impl Looks {
    /// A commit was not confirmed. A look that was due earlier stays, or doubts that follow each
    /// other closely would put it off for ever.
    pub fn doubt(&mut self, now_ms: i64) {
        let mut due_ms = LOOKS_MS.map(|after_ms| now_ms + after_ms);
        if let Some(first_ms) = self.due_ms.first() {
            due_ms[0] = due_ms[0].min(*first_ms);
        }
        self.due_ms = due_ms.to_vec();
    }

    /// When the next is to be taken.
    pub fn due_ms(&self) -> Option<i64> {
        self.due_ms.first().copied()
    }

    /// Whether one is to be taken now.
    pub fn is_due(&self, now_ms: i64) -> bool {
        self.due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Those that were due by `now_ms` are taken.
    pub fn taken(&mut self, now_ms: i64) {
        self.due_ms.retain(|due_ms| *due_ms > now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_visible_late_is_looked_for_too() {
        let mut looks = Looks::default();
        assert_eq!((looks.due_ms(), looks.is_due(99_999)), (None, false));
        looks.doubt(0);
        for (now_ms, is_due) in
            [(999, false), (1_000, true), (4_999, false), (5_500, true), (30_000, true)]
        {
            assert_eq!(looks.is_due(now_ms), is_due, "{now_ms}");
            looks.taken(now_ms);
        }
        assert_eq!(looks, Looks::default());
    }

    #[test]
    fn doubts_that_follow_each_other_put_no_look_off() {
        let mut looks = Looks::default();
        let mut taken = 0;
        for now_ms in (0..10_000).step_by(250) {
            looks.doubt(now_ms);
            taken += u32::from(looks.is_due(now_ms));
            looks.taken(now_ms);
        }
        assert_eq!(taken, 8, "a second after the first doubt since the last look");
        assert_eq!(looks.due_ms.last(), Some(&(9_750 + 30_000)), "the last of the last doubt");
    }
}
