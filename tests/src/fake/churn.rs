//! Rows that change faster than anybody reads.
//!
//! Fifty thousand changed rows a second must not cost the sender the time that
//! the reader is measured with: a row is JSON made once, cut open at one number.

use std::fmt::Write as _;

use quarterdeck_protocol::{live::Listing, time::Timestamp};

use super::windows::{Watch, Windows};

/// The most rows of one message; the windows take turns.
const MESSAGE_MAX_ROWS: usize = 100;

/// What changes in the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moving {
    /// A number that stands in the table.
    Seen,
    /// A number that no column shows.
    Unseen,
}

/// How many rows change, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Churn {
    pub rows_per_second: u64,
    pub moving: Moving,
}

/// Writes the changes of one console's windows, round and round.
#[derive(Debug, Default)]
pub(super) struct Churner {
    windows: Vec<Ready>,
    /// Of which windows, and for which kind of change, the rows are ready.
    made_for: Option<(u64, Moving)>,
    turn: usize,
    /// The number that moves.
    value: u64,
}

/// One window, its rows cut open.
#[derive(Debug)]
struct Ready {
    id: u32,
    total: u64,
    rows: Vec<(String, String)>,
    next: usize,
}

impl Churner {
    /// The next message, and how many rows it changes; `None` when no window has rows that can.
    pub(super) fn message(
        &mut self,
        windows: &Windows,
        moving: Moving,
        at: Timestamp,
    ) -> Option<(String, u64)> {
        let wanted = Some((windows.version(), moving));
        if self.made_for != wanted {
            self.windows =
                windows.iter().filter_map(|(id, watch)| ready(id, watch, moving)).collect();
            self.made_for = wanted;
        }
        self.turn = (self.turn + 1) % self.windows.len().max(1);
        let window = self.windows.get_mut(self.turn)?;
        let count = window.rows.len().min(MESSAGE_MAX_ROWS);
        let mut text = format!(
            r#"{{"type":"changes","id":{},"total":{},"at":"{at}","items":["#,
            window.id, window.total
        );
        for n in 0..count {
            if window.next == window.rows.len() {
                window.next = 0;
                self.value += 1;
            }
            let (before, after) = &window.rows[window.next];
            window.next += 1;
            let comma = if n == 0 { "" } else { "," };
            // One digit more or less would move columns, and cost frames what no fleet does.
            let value = 1 + self.value % 9;
            write!(text, "{comma}{before}{value}{after}").expect("writing to a string cannot fail");
        }
        text.push_str("]}");
        Some((text, count as u64))
    }
}

fn ready(id: u32, watch: &Watch, moving: Moving) -> Option<Ready> {
    let field = match (watch.listing, moving) {
        (Listing::Devices, Moving::Seen) => "\"open_commands\":",
        (Listing::Devices, Moving::Unseen) => "\"clock_offset_ms\":",
        (Listing::Commands, Moving::Seen) => "\"priority\":",
        (Listing::Commands, Moving::Unseen) => "\"attempt\":",
        _ => return None,
    };
    let open = |(key, data): &(String, String)| {
        let at = data.find(field)? + field.len();
        let (before, rest) = data.split_at(at);
        let after = rest.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
        let key = serde_json::to_string(key).expect("a string serialises");
        Some((format!("{{\"key\":{key},\"data\":{before}"), format!("{after}}}")))
    };
    let rows: Vec<_> = watch.sent.iter().filter_map(open).collect();
    (!rows.is_empty()).then_some(Ready { id, total: watch.total, rows, next: 0 })
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::{
        api::Device,
        live::{ClientMessage, Range, ServerMessage},
    };

    use super::*;
    use crate::fake::FakeFleet;

    #[test]
    fn a_change_is_the_row_with_one_number_moved() {
        let mut fleet = FakeFleet::new(Timestamp::from_millis(0), 0, 0);
        fleet.rows = Some(100_000);
        let mut windows = Windows::default();
        let range = Range { offset: 40, limit: 120 };
        let (listing, filter, sort) = (Listing::Devices, std::collections::BTreeMap::new(), None);
        let subscribe = ClientMessage::Subscribe { id: 7, listing, filter, sort, range };
        let Some(ServerMessage::Snapshot { items, total, .. }) = windows.answer(&fleet, subscribe)
        else {
            panic!("a subscription is answered by a snapshot");
        };
        assert_eq!((items.len(), total), (120, 100_000));
        let mut churner = Churner::default();
        let mut changed = Vec::new();
        for _ in 0..3 {
            let (text, count) =
                churner.message(&windows, Moving::Seen, fleet.now).expect("there are rows");
            let message: ServerMessage = serde_json::from_str(&text).expect("a message");
            let ServerMessage::Changes { id: 7, total: 100_000, items, order: None, .. } = message
            else {
                panic!("changes of the window: {text}");
            };
            assert_eq!(items.len() as u64, count);
            changed.extend(items);
        }
        let device = |data: &str| serde_json::from_str::<Device>(data).expect("a device");
        for (at, row) in changed.iter().enumerate() {
            let before = &items[at % 120];
            assert_eq!(row.key, before.key);
            let (now, before) = (device(row.data.get()), device(before.data.get()));
            assert_eq!(now.open_commands, 1 + at as u64 / 120);
            assert_eq!(now.facts, before.facts);
        }
    }
}
