//! The lockout (chapter 3): at most so many reboots of one device in a rolling window,
//! whoever asks; app restarts have the same rule and a counter of their own.
//!
//! Counted is what was let through: from its submission as *pending*, from its
//! delivery with that time. Pending ones always count, however long they wait
//! for an offline device, so no moment sees more than the limit in one window.

use quarterdeck_protocol::{api::ProjectSettings, operations};

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    Reboot,
    AppRestart,
}

impl Counter {
    /// The counter of an operation, when it has one; `reboots` is what its device tells of it.
    pub fn of(operation: &str, reboots: bool) -> Option<Self> {
        if reboots || operations::reboots(operation) {
            Some(Self::Reboot)
        } else if operation == "restart_app" {
            Some(Self::AppRestart)
        } else {
            None
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::AppRestart => "app_restart",
        }
    }

    pub fn rule(self, settings: &ProjectSettings) -> Rule {
        let (limit, window_s) = match self {
            Self::Reboot => (settings.reboot_limit, settings.reboot_window_s),
            Self::AppRestart => (settings.app_restart_limit, settings.app_restart_window_s),
        };
        Rule { limit: limit as usize, window_ms: i64::from(window_s) * 1_000 }
    }
}

/// How many in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub limit: usize,
    pub window_ms: i64,
}

/// Whether one more may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Not before this, on the steady clock.
    BlockedUntil(i64),
}

/// Judges one more, given when those before were delivered; `None` is pending.
pub fn judge(rule: Rule, before: &[Option<i64>], now_ms: i64) -> Verdict {
    // A pending one may be delivered this moment.
    let mut counted: Vec<i64> = before
        .iter()
        .map(|delivered| delivered.unwrap_or(now_ms))
        .filter(|at_ms| *at_ms > now_ms - rule.window_ms)
        .collect();
    if counted.len() < rule.limit {
        return Verdict::Allowed;
    }
    if rule.limit == 0 {
        return Verdict::BlockedUntil(now_ms + rule.window_ms);
    }
    counted.sort_unstable();
    Verdict::BlockedUntil(counted[counted.len() - rule.limit] + rule.window_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: Rule = Rule { limit: 3, window_ms: 900_000 };

    #[test]
    fn the_fourth_in_a_window_is_blocked_until_the_first_has_left_it() {
        for (before, now_ms, expected) in [
            (vec![], 0, Verdict::Allowed),
            (vec![Some(0), Some(10)], 20, Verdict::Allowed),
            (vec![Some(0), Some(10), Some(20)], 30, Verdict::BlockedUntil(900_000)),
            (vec![Some(0), Some(10), Some(20)], 899_999, Verdict::BlockedUntil(900_000)),
            (vec![Some(0), Some(10), Some(20)], 900_000, Verdict::Allowed),
            (vec![None, None, None], 50, Verdict::BlockedUntil(900_050)),
            (vec![None, Some(10), None], 50, Verdict::BlockedUntil(900_010)),
            (vec![Some(0), Some(10), Some(20), Some(30)], 40, Verdict::BlockedUntil(900_010)),
        ] {
            assert_eq!(judge(RULE, &before, now_ms), expected, "{before:?} at {now_ms}");
        }
    }

    #[test]
    fn reboots_and_app_restarts_are_counted_apart() {
        assert_eq!(Counter::of("reboot_host", false), Some(Counter::Reboot));
        assert_eq!(Counter::of("shutdown_host", false), Some(Counter::Reboot));
        assert_eq!(Counter::of("restart_app", false), Some(Counter::AppRestart));
        assert_eq!(Counter::of("ping", false), None);
        assert_eq!(Counter::of("flash", false), None);
        assert_eq!(Counter::of("flash", true), Some(Counter::Reboot));
    }

    proptest! {
        #[test]
        fn no_window_ever_sees_more_than_the_limit(gaps in prop::collection::vec(0_i64..500_000, 0..60)) {
            let (mut now_ms, mut allowed) = (0, Vec::new());
            for gap in gaps {
                now_ms += gap;
                let before: Vec<_> = allowed.iter().copied().map(Some).collect();
                match judge(RULE, &before, now_ms) {
                    Verdict::Allowed => allowed.push(now_ms),
                    Verdict::BlockedUntil(until) => {
                        prop_assert!(until > now_ms);
                        prop_assert_eq!(judge(RULE, &before, until), Verdict::Allowed);
                        prop_assert!(judge(RULE, &before, until - 1) != Verdict::Allowed);
                    }
                }
            }
            for start in &allowed {
                let inside = allowed.iter().filter(|at| (*start..start + RULE.window_ms).contains(at));
                prop_assert!(inside.count() <= RULE.limit);
            }
        }
    }
}
