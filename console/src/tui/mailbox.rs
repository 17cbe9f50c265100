//! Where network results wait for the TUI: slots, not a queue.
//!
//! ```text
//!            rows that change                 all else
//!   Nothing ────────────────▶ Rows ──────────────────▶ Urgent
//!      ▲                       │ taken when rows are due │ taken at once
//!      └───────────────────────┴─────────────────────────┘
//! ```
//!
//! The network puts, and never waits; the TUI takes all there is at once.
//! Between two takes each window has one slot, in which a later message is
//! merged into the earlier one, row by row. However fast rows change, what
//! waits is bounded by the rows of the windows that are open, a slow terminal
//! sees the latest state, never a backlog, and the TUI is woken once for all of
//! them: it does not work between two frames on what no frame will show.
//!
//! A pane has a slot as well ([`streams`]): of its output nothing may be merged away, so whoever
//! brings it waits for room, and a take brings no more than the screen can be kept fresh with.
//!
//! Never parses a row: who shows it does.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quarterdeck_protocol::{
    api::{Problem, Role},
    ids::ProjectId,
    limits::{LIVE_WINDOW_MAX_ROWS, LIVE_WINDOWS_MAX},
    live::{Row, ServerMessage},
    time::Timestamp,
};
use serde_json::value::RawValue;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    effects::{ApiAnswer, NetEvent, RequestId},
    pane::layout::PaneId,
};
use crate::net::tunnel::Piece;
use streams::{StreamNews, Streams};

pub mod streams;

/// Slots kept at once; those of windows that closed meanwhile come on top of the open ones.
const SLOTS_MAX: usize = 2 * LIVE_WINDOWS_MAX;
/// Rows kept in a slot before those that left the window are swept out.
const SLOT_SWEEP_ROWS: usize = 2 * LIVE_WINDOW_MAX_ROWS as usize;
/// Answers that may wait: the TUI has never more calls than this under way.
pub const ANSWERS_MAX: usize = 256;

/// Makes both ends.
pub fn mailbox() -> (MailboxSender, MailboxReceiver) {
    let shared = Arc::new(Shared::default());
    (MailboxSender(Arc::clone(&shared)), MailboxReceiver(shared))
}

/// The network's end; cheap to clone.
#[derive(Debug, Clone)]
pub struct MailboxSender(Arc<Shared>);

impl MailboxSender {
    /// Takes an event. Never waits, never fails.
    pub fn put(&self, event: NetEvent) {
        self.0.change(|waiting| match event {
            NetEvent::Tunnel(event) => waiting.streams.put(event),
            other => waiting.batch.put(other),
        });
    }

    /// Hands on output of a pane, as soon as there is room for it. May be dropped half-way: then
    /// nothing was handed on.
    pub async fn output(&self, pane: PaneId, piece: Piece) {
        loop {
            let room = self.0.room.notified();
            tokio::pin!(room);
            // From here on no room that is made goes unnoticed.
            room.as_mut().enable();
            if self.0.change(|waiting| waiting.streams.output(pane, &piece)) {
                return;
            }
            room.await;
        }
    }
}

/// The TUI's end.
#[derive(Debug)]
pub struct MailboxReceiver(Arc<Shared>);

impl MailboxReceiver {
    /// Waits for the next batch; when it is of rows alone, until `rows_due`. Safe to drop half-way:
    /// nothing is lost.
    pub async fn take(&self, rows_due: Instant) -> Batch {
        loop {
            let urgency = self.0.lock().urgency();
            match urgency {
                Urgency::Urgent => return self.try_take(),
                Urgency::Rows => tokio::select! {
                    () = sleep_until(rows_due) => return self.try_take(),
                    () = self.0.news.notified() => {}
                },
                Urgency::Nothing => self.0.news.notified().await,
            }
        }
    }

    /// Takes what there is, perhaps nothing; of the output of panes one turn's share.
    pub fn try_take(&self) -> Batch {
        let mut waiting = self.0.lock();
        let (streams, made_room) = waiting.streams.take_turn();
        let batch = Batch { streams, ..std::mem::take(&mut waiting.batch) };
        drop(waiting);
        if made_room {
            self.0.room.notify_waiters();
        }
        batch
    }
}

/// All that came since the last take.
#[derive(Debug, Default)]
pub struct Batch {
    /// The last word on the connection.
    pub link: Option<LinkEvent>,
    /// The server's clock in its last message.
    pub heard: Option<Timestamp>,
    pub windows: Vec<Slot>,
    pub answers: Vec<(RequestId, Result<ApiAnswer, Problem>)>,
    pub streams: Vec<StreamNews>,
}

impl Batch {
    pub const fn is_empty(&self) -> bool {
        self.link.is_none()
            && self.heard.is_none()
            && self.windows.is_empty()
            && self.answers.is_empty()
            && self.streams.is_empty()
    }

    fn urgency(&self) -> Urgency {
        let is_answered = !self.answers.is_empty() || self.windows.iter().any(Slot::is_answer);
        if self.link.is_some() || is_answered || !self.streams.is_empty() {
            Urgency::Urgent
        } else if self.is_empty() {
            Urgency::Nothing
        } else {
            Urgency::Rows
        }
    }

    fn put(&mut self, event: NetEvent) {
        match event {
            NetEvent::Live(message) => self.put_message(message),
            NetEvent::Lost { why, again_in } => {
                self.link = Some(LinkEvent::Lost { why, again_in: Some(again_in) });
            }
            NetEvent::SignedOut { why, waits_for_login } => {
                self.link = Some(LinkEvent::SignedOut { why, waits_for_login });
            }
            NetEvent::Answer { id, result } => {
                if self.answers.len() < ANSWERS_MAX {
                    self.answers.push((id, result));
                }
            }
            // It has a place of its own, see `MailboxSender::put`.
            NetEvent::Tunnel(_) => {}
        }
    }

    fn put_message(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Hello {
                version,
                project,
                username,
                role,
                admin,
                server_version,
                at,
            } => {
                // Rows of the connection before are answers to subscriptions that are gone.
                self.windows.clear();
                self.heard = Some(at);
                self.link = Some(LinkEvent::Connected(Hello {
                    version,
                    project,
                    username,
                    role,
                    admin,
                    server_version,
                }));
            }
            ServerMessage::Snapshot { id, offset, total, items, at } => {
                self.heard = Some(at);
                if let Some(slot) = self.slot(id) {
                    *slot = Slot {
                        id,
                        base: Some(offset),
                        total,
                        order: Some(items.iter().map(|row| row.key.clone()).collect()),
                        rows: items.into_iter().map(|row| (row.key, row.data)).collect(),
                        refused: None,
                    };
                }
            }
            ServerMessage::Changes { id, total, items, order, at } => {
                self.heard = Some(at);
                if let Some(slot) = self.slot(id) {
                    slot.merge(total, items, order);
                }
            }
            ServerMessage::Heartbeat { at } => self.heard = Some(at),
            ServerMessage::Pong { .. } => {}
            ServerMessage::Error { id: Some(id), code, detail } => {
                if let Some(slot) = self.slot(id) {
                    slot.refused = Some(Refusal { code, detail });
                }
            }
            ServerMessage::Error { id: None, code, detail } => {
                self.link =
                    Some(LinkEvent::Lost { why: format!("{detail} ({code})"), again_in: None });
            }
        }
    }

    fn slot(&mut self, id: u32) -> Option<&mut Slot> {
        if let Some(at) = self.windows.iter().position(|slot| slot.id == id) {
            return self.windows.get_mut(at);
        }
        if self.windows.len() >= SLOTS_MAX {
            return None;
        }
        self.windows.push(Slot { id, ..Slot::default() });
        self.windows.last_mut()
    }
}

/// What the connection became.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    Connected(Hello),
    Lost {
        why: String,
        /// How long the network waits before it tries again, where it is known.
        again_in: Option<Duration>,
    },
    SignedOut {
        why: String,
        waits_for_login: bool,
    },
}

/// Who and where we are, by the server's word.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    pub version: u32,
    pub project: ProjectId,
    pub username: String,
    pub role: Role,
    pub admin: bool,
    pub server_version: String,
}

/// Why the server does not serve a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub detail: String,
}

/// What became of one window.
#[derive(Debug, Default)]
pub struct Slot {
    pub id: u32,
    /// With a snapshot among what came: its offset. The rows are then all of the window.
    pub base: Option<u64>,
    pub total: u64,
    /// Rows that are new or differ.
    pub rows: HashMap<String, Box<RawValue>>,
    /// The window's keys in order, when they changed.
    pub order: Option<Vec<String>>,
    pub refused: Option<Refusal>,
}

impl Slot {
    /// Whether it brings what was asked for, and not only what changed since.
    const fn is_answer(&self) -> bool {
        self.base.is_some() || self.refused.is_some()
    }

    fn merge(&mut self, total: u64, items: Vec<Row>, order: Option<Vec<String>>) {
        self.total = total;
        self.rows.extend(items.into_iter().map(|row| (row.key, row.data)));
        if order.is_some() {
            self.order = order;
        }
        if self.rows.len() > SLOT_SWEEP_ROWS {
            self.sweep();
        }
    }

    /// Forgets rows that are no longer in the window.
    fn sweep(&mut self) {
        match &self.order {
            Some(order) => {
                let kept: HashSet<&str> = order.iter().map(String::as_str).collect();
                self.rows.retain(|key, _| kept.contains(key.as_str()));
            }
            // No server sends rows of a window without ever saying their order.
            None => self.rows.clear(),
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    news: Notify,
    /// Output was taken: whoever waits for room looks again.
    room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    streams: Streams,
}

/// How soon somebody should look at what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Nothing,
    /// Rows that changed by themselves, and the server's clock: with the next frame.
    Rows,
    /// What was asked for: an answer, a window; a word on the connection, output of a pane.
    Urgent,
}

impl Waiting {
    fn urgency(&self) -> Urgency {
        if self.streams.is_empty() { self.batch.urgency() } else { Urgency::Urgent }
    }
}

impl Shared {
    /// Changes what waits, and wakes the TUI when that makes it more urgent.
    fn change<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        let mut waiting = self.lock();
        let before = waiting.urgency();
        let changed = change(&mut waiting);
        let is_more_urgent = waiting.urgency() > before;
        drop(waiting);
        if is_more_urgent {
            self.news.notify_one();
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What waits is valid after each step of a put, so a panic elsewhere spoils nothing.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn row(key: &str, value: u64) -> Row {
        Row {
            key: key.to_owned(),
            data: RawValue::from_string(format!("{{\"n\":{value}}}")).expect("valid JSON"),
        }
    }

    fn changes(items: Vec<Row>, order: Option<Vec<&str>>) -> NetEvent {
        NetEvent::Live(ServerMessage::Changes {
            id: 1,
            total: 2,
            items,
            order: order.map(|keys| keys.into_iter().map(str::to_owned).collect()),
            at: Timestamp::from_millis(1),
        })
    }

    #[test]
    fn a_row_that_changes_a_thousand_times_waits_once_in_its_last_state() {
        let (sender, receiver) = mailbox();
        sender.put(NetEvent::Live(ServerMessage::Snapshot {
            id: 1,
            offset: 40,
            total: 2,
            items: vec![row("a", 0), row("b", 0)],
            at: Timestamp::from_millis(0),
        }));
        for n in 1..=1000 {
            sender.put(changes(vec![row("a", n)], None));
        }
        let batch = receiver.try_take();
        assert_eq!(batch.windows.len(), 1);
        let slot = &batch.windows[0];
        assert_eq!(slot.base, Some(40));
        assert_eq!(slot.rows.len(), 2);
        assert_eq!(slot.rows["a"].get(), "{\"n\":1000}");
        assert!(receiver.try_take().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn changed_rows_wait_for_their_time_and_what_was_asked_for_does_not() {
        let (sender, receiver) = mailbox();
        let begun = Instant::now();
        let due = begun + Duration::from_millis(33);
        let says = {
            let sender = sender.clone();
            async move {
                for n in 1..=10 {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    sender.put(changes(vec![row("a", n)], None));
                }
            }
        };
        let (batch, ()) = tokio::join!(receiver.take(due), says);
        assert_eq!(Instant::now(), due);
        assert_eq!(batch.windows[0].rows["a"].get(), "{\"n\":10}");

        sender.put(NetEvent::Live(ServerMessage::Snapshot {
            id: 2,
            offset: 0,
            total: 1,
            items: vec![row("b", 0)],
            at: Timestamp::from_millis(0),
        }));
        let batch = receiver.take(due + Duration::from_secs(1)).await;
        assert_eq!((Instant::now(), batch.windows.len()), (due, 1), "it was asked for");

        let answers = async {
            sender.put(changes(vec![row("a", 11)], None));
            tokio::time::sleep(Duration::from_millis(1)).await;
            sender.put(NetEvent::Lost { why: "gone".into(), again_in: Duration::ZERO });
        };
        let (batch, ()) = tokio::join!(receiver.take(due + Duration::from_secs(1)), answers);
        assert_eq!(Instant::now(), due + Duration::from_millis(1));
        assert_eq!((batch.windows.len(), batch.link.is_some()), (1, true));
    }

    #[test]
    fn rows_that_left_the_window_do_not_pile_up() {
        let (sender, receiver) = mailbox();
        for n in 0..100_000_u64 {
            let key = format!("k{n}");
            sender.put(changes(vec![row(&key, n)], Some(vec![&key])));
        }
        assert!(receiver.try_take().windows[0].rows.len() <= SLOT_SWEEP_ROWS);
    }

    #[test]
    fn a_new_connection_drops_rows_of_the_one_before() {
        let (sender, receiver) = mailbox();
        sender.put(changes(vec![row("a", 1)], None));
        sender.put(NetEvent::Live(ServerMessage::Hello {
            version: 1,
            project: ProjectId::new("default").expect("a name"),
            username: "ops".into(),
            role: Role::Operator,
            admin: false,
            server_version: "0.1.0".into(),
            at: Timestamp::from_millis(5),
        }));
        let batch = receiver.try_take();
        assert!(batch.windows.is_empty());
        assert!(matches!(batch.link, Some(LinkEvent::Connected(_))));
    }
}
