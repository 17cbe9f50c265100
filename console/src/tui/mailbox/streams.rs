//! Output of panes on its way to the screen: a slot per pane, bounded, in turns.
//!
//! ```text
//!   network ── output, when there is room ──▶ ┌ pane 1: pieces │ the last word ┐
//!           ── put, always ─────────────────▶ └ pane 2: …                      ┘
//!                                                  │ a share each, TURN_MAX_BYTES in all
//!                                                  ▼
//!                                                 TUI
//! ```
//!
//! Pure. Of what is said of a session the last word counts. Its end is told behind
//! its output.

use std::collections::{BTreeMap, VecDeque};

use quarterdeck_protocol::ids::TunnelId;

use crate::{
    net::tunnel::{Ended, Piece, Status},
    tui::{
        pane::layout::PaneId,
        tunnels::{TunnelEvent, TunnelNews},
    },
};

/// Output of one pane that may wait, in bytes; one piece more may be on top.
pub const PANE_WAITING_MAX_BYTES: usize = 128 * 1024;
/// Output of all panes that one turn takes, in bytes: what the slowest of it takes to draw must
/// not be felt by who types.
pub const TURN_MAX_BYTES: usize = 64 * 1024;
/// The least share of a pane in a turn, in bytes.
const SHARE_MIN_BYTES: usize = 4 * 1024;

/// What one turn brings of a pane.
#[derive(Debug, Default, PartialEq)]
pub struct StreamNews {
    pub pane: PaneId,
    pub pieces: Vec<Piece>,
    pub opened: Option<TunnelId>,
    pub status: Option<Box<Status>>,
    pub ended: Option<Ended>,
}

#[derive(Debug, Default)]
struct Slot {
    pieces: VecDeque<Piece>,
    waiting_bytes: usize,
    opened: Option<TunnelId>,
    status: Option<Box<Status>>,
    ended: Option<Ended>,
}

/// All slots.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: BTreeMap<PaneId, Slot>,
    /// The pane whose turn it is to be first.
    first: PaneId,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes what is said of a session.
    pub(super) fn put(&mut self, TunnelEvent { pane, news }: TunnelEvent) {
        let slot = self.slots.entry(pane).or_default();
        match news {
            TunnelNews::Opened(tunnel) => slot.opened = Some(tunnel),
            TunnelNews::Status(status) => slot.status = Some(status),
            TunnelNews::Ended(ended) => slot.ended = Some(ended),
        }
    }

    /// Takes a piece of output; `false` when there is no room for it yet.
    pub(super) fn output(&mut self, pane: PaneId, piece: &Piece) -> bool {
        let slot = self.slots.entry(pane).or_default();
        if slot.waiting_bytes >= PANE_WAITING_MAX_BYTES {
            return false;
        }
        if matches!(piece, Piece::Snapshot(_)) {
            slot.pieces.clear();
            slot.waiting_bytes = 0;
        }
        slot.waiting_bytes += weight(piece);
        slot.pieces.push_back(piece.clone());
        true
    }

    /// Takes a share of each pane, and says whether that made room.
    pub(super) fn take_turn(&mut self) -> (Vec<StreamNews>, bool) {
        if self.slots.is_empty() {
            return (Vec::new(), false);
        }
        let busy = self.slots.values().filter(|slot| !slot.pieces.is_empty()).count();
        let share = (TURN_MAX_BYTES / busy.max(1)).max(SHARE_MIN_BYTES);
        let mut left = TURN_MAX_BYTES;
        let order: Vec<PaneId> = self
            .slots
            .range(self.first..)
            .chain(self.slots.range(..self.first))
            .map(|(pane, _)| *pane)
            .collect();
        let mut turn = Vec::with_capacity(order.len());
        for pane in order {
            let Some(slot) = self.slots.get_mut(&pane) else { continue };
            if left == 0 && !slot.pieces.is_empty() {
                // Who came away with nothing begins the next turn.
                self.first = pane;
                break;
            }
            let news = slot.take(pane, share.min(left));
            left = left.saturating_sub(news.pieces.iter().map(weight).sum());
            turn.push(news);
        }
        let made_room = turn.iter().any(|news| !news.pieces.is_empty());
        self.slots.retain(|_, slot| !slot.is_empty());
        (turn, made_room)
    }
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty()
            && self.opened.is_none()
            && self.status.is_none()
            && self.ended.is_none()
    }

    fn take(&mut self, pane: PaneId, most_bytes: usize) -> StreamNews {
        let mut pieces = Vec::new();
        let mut left = most_bytes;
        while left > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            let Some(taken) = cut(piece, left).or_else(|| self.pieces.pop_front()) else { break };
            left = left.saturating_sub(weight(&taken));
            self.waiting_bytes = self.waiting_bytes.saturating_sub(weight(&taken));
            pieces.push(taken);
        }
        if self.pieces.is_empty() {
            self.waiting_bytes = 0;
        }
        let is_last = self.pieces.is_empty();
        StreamNews {
            pane,
            pieces,
            opened: self.opened.take(),
            status: self.status.take(),
            ended: self.ended.take_if(|_| is_last),
        }
    }
}

/// What a piece takes of the room, in bytes.
fn weight(piece: &Piece) -> usize {
    /// One without bytes is not without cost.
    const LEAST: usize = 16;
    match piece {
        Piece::Snapshot(snapshot) => snapshot.screen.len().max(LEAST),
        Piece::Bytes { bytes, .. } => bytes.len().max(LEAST),
        Piece::Mark { .. } => LEAST,
    }
}

/// Cuts off the beginning of what is too long for one turn.
fn cut(piece: &mut Piece, most_bytes: usize) -> Option<Piece> {
    match piece {
        Piece::Bytes { offset, bytes } if bytes.len() > most_bytes => {
            let from = *offset;
            *offset += most_bytes as u64;
            Some(Piece::Bytes { offset: from, bytes: bytes.split_to(most_bytes) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tunnel::{Snapshot, State};
    use bytes::Bytes;

    fn bytes(n: usize) -> Piece {
        Piece::Bytes { offset: 0, bytes: Bytes::from(vec![b'x'; n]) }
    }

    fn sum(news: &StreamNews) -> usize {
        news.pieces.iter().map(weight).sum()
    }

    fn put(streams: &mut Streams, pane: u32, news: TunnelNews) {
        streams.put(TunnelEvent { pane: PaneId(pane), news });
    }

    fn status(age_ms: u64) -> Status {
        Status {
            state: State::Live,
            age_ms,
            why: None,
            mode: None,
            is_recorded: false,
            rtt_us: None,
            bytes_up: 0,
            bytes_down: 0,
            watchers: Vec::new(),
            idle_warning_s: None,
            keys_under_way: 0,
            has_lost_keys: false,
        }
    }

    #[test]
    fn a_pane_has_room_for_so_much_and_again_when_it_was_taken() {
        let mut streams = Streams::default();
        let mut taken = 0;
        while streams.output(PaneId(1), &bytes(10_000)) {
            taken += 10_000;
            assert!(taken <= PANE_WAITING_MAX_BYTES + 10_000, "it is bounded");
        }
        let (turn, made_room) = streams.take_turn();
        assert!(made_room);
        assert_eq!(sum(&turn[0]), TURN_MAX_BYTES);
        assert!(streams.output(PaneId(1), &bytes(10_000)));
    }

    #[test]
    fn a_noisy_pane_leaves_the_others_their_share() {
        let mut streams = Streams::default();
        for pane in 0..16 {
            while streams.output(PaneId(pane), &bytes(9_000)) {}
        }
        let mut got = [0; 16];
        for _ in 0..4 {
            let (turn, _) = streams.take_turn();
            assert!(turn.iter().map(sum).sum::<usize>() <= TURN_MAX_BYTES);
            for news in &turn {
                got[news.pane.0 as usize] += sum(news);
            }
        }
        let (least, most) = (got.iter().min().expect("16"), got.iter().max().expect("16"));
        assert!(*least > 0 && most - least <= SHARE_MIN_BYTES, "{got:?}");
    }

    #[test]
    fn bytes_keep_their_order_however_they_are_cut() {
        let mut streams = Streams::default();
        let all: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        for (at, part) in all.chunks(7_001).enumerate() {
            let (offset, bytes) = (at as u64 * 7_001, Bytes::copy_from_slice(part));
            assert!(streams.output(PaneId(3), &Piece::Bytes { offset, bytes }));
        }
        let mut shown = Vec::new();
        loop {
            let (turn, _) = streams.take_turn();
            if turn.is_empty() {
                break;
            }
            for piece in turn.into_iter().flat_map(|news| news.pieces) {
                let Piece::Bytes { offset, bytes } = piece else { panic!("bytes") };
                assert_eq!(offset, shown.len() as u64);
                shown.extend_from_slice(&bytes);
            }
        }
        assert_eq!(shown, all);
    }

    #[test]
    fn the_end_is_told_behind_the_last_output() {
        let mut streams = Streams::default();
        assert!(streams.output(PaneId(1), &bytes(TURN_MAX_BYTES + 1)));
        put(&mut streams, 1, TunnelNews::Ended(Ended::TakenOver));
        assert_eq!(streams.take_turn().0[0].ended, None);
        assert_eq!(streams.take_turn().0[0].ended, Some(Ended::TakenOver));
        assert!(streams.take_turn().0.is_empty());
    }

    #[test]
    fn of_what_is_said_of_a_session_the_last_word_counts() {
        let mut streams = Streams::default();
        for age_ms in 0..1000 {
            put(&mut streams, 1, TunnelNews::Status(Box::new(status(age_ms))));
        }
        let (turn, _) = streams.take_turn();
        assert_eq!((turn.len(), &turn[0].status), (1, &Some(Box::new(status(999)))));
    }

    #[test]
    fn a_snapshot_replaces_what_waits() {
        let mut streams = Streams::default();
        streams.output(PaneId(1), &bytes(100));
        let size = quarterdeck_protocol::tunnel::mark::Size::new(80, 24).expect("a size");
        let screen = Bytes::from_static(b"now");
        let snapshot = Snapshot { offset: 9, size, screen, painted_from: 0, dropped_bytes: 0 };
        let snapshot = Piece::Snapshot(snapshot);
        streams.output(PaneId(1), &snapshot);
        assert_eq!(streams.take_turn().0[0].pieces, [snapshot]);
    }

    #[test]
    fn a_word_of_a_quiet_pane_is_not_lost_behind_a_noisy_one() {
        let mut streams = Streams::default();
        for pane in 0..32 {
            while streams.output(PaneId(pane), &bytes(9_000)) {}
        }
        put(&mut streams, 99, TunnelNews::Status(Box::new(status(7))));
        let told = (0..200).any(|_| {
            let turn = streams.take_turn().0;
            turn.iter().any(|news| news.pane == PaneId(99) && news.status.is_some())
        });
        assert!(told);
    }
}
