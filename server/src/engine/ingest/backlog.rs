//! Words that are durable and wait to be decided: how many are decided together, and when.
//!
//! ```text
//!  quiet:     decided at once
//!  busy:      decide ── took t ──▶ rest 4 t, at most REST_MAX_MS ──▶ decide all that gathered
//!  saturated: more is left than one slice takes ──▶ no rest
//! ```
//!
//! So deciding takes a fifth of the writer's time while that is enough, and the
//! busier it is, the more words of one command share one write of its row. Who
//! needs to know how things stand can end the rest (`hurry`).

use std::{collections::VecDeque, sync::Arc};

use super::{DeviceKey, Heard};

/// Words that wait at most; over it nothing is received.
const WORDS_MAX: usize = 65_536;
/// Bytes of them at most.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Fewer words than this are no load that is worth a rest.
const QUIET_MAX_WORDS: usize = 64;
/// The longest rest, in milliseconds: so old may be what is shown under load.
const REST_MAX_MS: i64 = 250;
/// How many times as long as deciding took it rests.
const REST_FACTOR: i64 = 4;
/// Words of one slice, for which others that write wait: fewer after a slow one, more after a
/// quick one. A small one costs more a word, since fewer words of a command meet in it.
const SLICE_MIN_WORDS: usize = 1_024;
const SLICE_MAX_WORDS: usize = 16_384;
const SLICE_SLOW_MS: i64 = 250;
const SLICE_QUICK_MS: i64 = 100;
/// How long after a failure it is tried again, in milliseconds.
const RETRY_MS: i64 = 250;

/// What one commit made durable.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Its number in the store; 0 for what need not be durable.
    pub(super) seq: i64,
    pub(super) heard: Arc<[Heard]>,
    pub(super) seen: Arc<[DeviceKey]>,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Backlog {
    rows: VecDeque<Row>,
    words: usize,
    bytes: usize,
    slice_max: usize,
    rests_until_ms: i64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            rows: VecDeque::new(),
            words: 0,
            bytes: 0,
            slice_max: SLICE_MIN_WORDS * 4,
            rests_until_ms: i64::MIN,
        }
    }
}

impl Backlog {
    pub(super) fn push(&mut self, row: Row) {
        self.words += row.heard.len();
        self.bytes += row.bytes;
        self.rows.push_back(row);
    }

    pub(super) fn words(&self) -> usize {
        self.words
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it takes no more.
    pub(super) fn is_full(&self) -> bool {
        self.words >= WORDS_MAX || self.bytes >= BYTES_MAX
    }

    /// How long until the next slice is to be decided, in milliseconds; `None` when there is nothing.
    pub(super) fn wait_ms(&self, now_ms: i64) -> Option<u64> {
        if self.rows.is_empty() {
            return None;
        }
        Some(u64::try_from(self.rests_until_ms.saturating_sub(now_ms)).unwrap_or_default())
    }

    /// Ends the rest.
    pub(super) fn hurry(&mut self) {
        self.rests_until_ms = i64::MIN;
    }

    /// What is to be decided next, in order: it stays until it is said to be decided.
    pub(super) fn slice(&self) -> Vec<Row> {
        let mut words = 0;
        let mut slice = Vec::new();
        for row in &self.rows {
            if !slice.is_empty() && words + row.heard.len() > self.slice_max {
                break;
            }
            words += row.heard.len();
            slice.push(row.clone());
        }
        slice
    }

    /// So many rows are decided, which took so long.
    pub(super) fn decided(&mut self, rows: usize, took_ms: i64, now_ms: i64) {
        let mut words = 0;
        for row in self.rows.drain(..rows) {
            words += row.heard.len();
            self.bytes -= row.bytes;
        }
        self.words -= words;
        if took_ms > SLICE_SLOW_MS {
            self.slice_max = (self.slice_max / 2).max(SLICE_MIN_WORDS);
        } else if took_ms < SLICE_QUICK_MS && words * 2 > self.slice_max {
            self.slice_max = (self.slice_max * 2).min(SLICE_MAX_WORDS);
        }
        let is_worth_a_rest = words > QUIET_MAX_WORDS && self.words < self.slice_max;
        let rest_ms = if is_worth_a_rest { (took_ms * REST_FACTOR).min(REST_MAX_MS) } else { 0 };
        self.rests_until_ms = now_ms + rest_ms;
    }

    /// The slice could not be written: the next try takes less, and waits.
    pub(super) fn failed(&mut self, now_ms: i64) {
        self.slice_max = (self.slice_max / 4).max(1);
        self.rests_until_ms = now_ms + RETRY_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Now, engine::ingest::What};
    use quarterdeck_protocol::{
        ids::{DeviceId, ProjectId},
        time::Timestamp,
    };

    fn row(seq: i64, words: usize) -> Row {
        let word = Heard {
            device: (ProjectId::new("p").expect("valid"), DeviceId::new("d").expect("valid")),
            what: What::Connected,
            now: Now { wall: Timestamp::from_millis(0), steady_ms: 0 },
        };
        Row { seq, heard: vec![word; words].into(), seen: Vec::new().into(), bytes: words * 100 }
    }

    #[test]
    fn a_lone_word_is_decided_at_once_and_so_is_the_next() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.wait_ms(0), None);
        backlog.push(row(1, 1));
        assert_eq!(backlog.wait_ms(0), Some(0));
        backlog.decided(1, 3, 3);
        assert!(backlog.is_empty() && backlog.words() == 0);
        backlog.push(row(2, 1));
        assert_eq!(backlog.wait_ms(3), Some(0));
    }

    #[test]
    fn under_load_deciding_takes_a_fifth_of_the_time() {
        let mut backlog = Backlog::default();
        backlog.push(row(1, 500));
        backlog.decided(1, 40, 1_000);
        backlog.push(row(2, 500));
        assert_eq!(backlog.wait_ms(1_000), Some(160));
        backlog.hurry();
        assert_eq!(backlog.wait_ms(1_000), Some(0));
        backlog.decided(1, 5_000, 9_000);
        backlog.push(row(3, 1));
        assert_eq!(backlog.wait_ms(9_000), Some(REST_MAX_MS as u64));
    }

    #[test]
    fn what_is_more_than_a_slice_waits_for_no_rest() {
        let mut backlog = Backlog::default();
        backlog.push(row(1, 500));
        backlog.push(row(2, SLICE_MAX_WORDS));
        backlog.decided(1, 40, 1_000);
        assert_eq!(backlog.wait_ms(1_000), Some(0));
    }

    #[test]
    fn a_slice_is_whole_rows_in_order_and_one_at_least() {
        let mut backlog = Backlog::default();
        backlog.push(row(1, SLICE_MAX_WORDS * 2));
        backlog.push(row(2, 1));
        assert_eq!(backlog.slice().iter().map(|row| row.seq).collect::<Vec<_>>(), [1]);
        backlog.decided(1, 0, 0);
        backlog.push(row(3, 1));
        assert_eq!(backlog.slice().iter().map(|row| row.seq).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn after_a_failure_less_is_tried_later() {
        let mut backlog = Backlog::default();
        (1..=8).for_each(|seq| backlog.push(row(seq, 300)));
        let before = backlog.slice().len();
        backlog.failed(0);
        assert!(backlog.slice().len() < before);
        assert_eq!(backlog.wait_ms(0), Some(RETRY_MS as u64));
        (0..8).for_each(|_| backlog.failed(0));
        assert_eq!(backlog.slice().len(), 1);
    }

    #[test]
    fn what_waits_is_bounded_in_words_and_bytes() {
        let mut backlog = Backlog::default();
        backlog.push(row(1, WORDS_MAX));
        assert!(backlog.is_full());
        backlog.decided(1, 0, 0);
        backlog.push(Row { bytes: BYTES_MAX, ..row(2, 1) });
        assert!(backlog.is_full());
    }
}
