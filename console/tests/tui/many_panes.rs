//! Sixteen panes that all write: what waits is bounded, and a key is not made to wait.

use std::fmt::Write as _;

use bytes::Bytes;
use quarterdeck_console::{
    net::tunnel::Piece,
    tui::{
        app::msg::Msg,
        mailbox::streams::{PANE_WAITING_MAX_BYTES, TURN_MAX_BYTES},
        pane::layout::PaneId,
        term::input::{Input, Key},
    },
};

use crate::runner::Runner;

const PANES: u32 = 16;
const PIECE_BYTES: usize = 16 * 1024;

fn sixteen() -> Runner {
    let mut runner = Runner::new(200, 50);
    runner.fleet.tunnels_max = 64;
    runner.keys("2 t");
    // Four rows, all as high; the second has the focus.
    runner.keys("C-g - C-g - C-g k C-g k C-g -");
    for go in ["", "C-g k", "C-g j C-g j", "C-g j"] {
        runner.keys(go).keys("C-g | C-g | C-g h C-g h C-g |");
    }
    assert_eq!(runner.app.panes.open_count(), PANES as usize);
    runner
}

#[tokio::test]
async fn what_waits_for_the_screen_is_bounded_and_none_of_it_is_lost() {
    let mut runner = sixteen();
    let mailbox = runner.mailbox();
    let mut lines = String::new();
    for n in 0..400 {
        write!(lines, "line {n:06} of the flood\r\n").expect("writing to a string cannot fail");
    }
    let bytes = Bytes::from(lines.into_bytes());
    let writers: Vec<_> = (0..PANES)
        .map(|pane| {
            let (mailbox, bytes) = (mailbox.clone(), bytes.clone());
            tokio::spawn(async move {
                let mut offset = 0;
                for _ in 0..40 {
                    let piece = Piece::Bytes { offset, bytes: bytes.clone() };
                    mailbox.output(PaneId(pane), piece).await;
                    offset += bytes.len() as u64;
                }
                mailbox.output(PaneId(pane), end()).await;
            })
        })
        .collect();
    let mut turns = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) || !is_idle(&mut runner) {
        let brought = turn(&mut runner);
        assert!(brought <= TURN_MAX_BYTES + PIECE_BYTES, "{brought} bytes in one turn");
        turns += 1;
        assert!(turns < 100_000, "it comes to an end");
        tokio::task::yield_now().await;
    }
    runner.settle();
    for pane in 0..PANES {
        let state = runner.app.panes.get(PaneId(pane)).expect("open");
        let history = state.pane.screen().history();
        assert!(history.forgotten() + history.len() as u64 > 15_000, "pane {pane}");
    }
    assert_eq!(runner.text().matches("the very end").count(), PANES as usize, "{}", runner.text());
}

fn end() -> Piece {
    Piece::Bytes { offset: 0, bytes: Bytes::from_static(b"the very end") }
}

/// Takes one turn's news; says how much output it brought.
fn turn(runner: &mut Runner) -> usize {
    let batch = runner.try_take();
    let brought = batch
        .streams
        .iter()
        .flat_map(|news| &news.pieces)
        .map(|piece| match piece {
            Piece::Bytes { bytes, .. } => bytes.len(),
            _ => 0,
        })
        .sum();
    runner.msg(Msg::Net(batch));
    brought
}

fn is_idle(runner: &mut Runner) -> bool {
    turn(runner) == 0
}

#[test]
fn a_pane_that_is_not_read_takes_no_more_than_its_room() {
    use std::{pin::pin, task::Context};
    let runner = sixteen();
    let mailbox = runner.mailbox();
    let mut context = Context::from_waker(std::task::Waker::noop());
    let bytes = Bytes::from(vec![b'x'; PIECE_BYTES]);
    let taken = (0..1000)
        .take_while(|_| {
            let piece = Piece::Bytes { offset: 0, bytes: bytes.clone() };
            let mut handed_on = pin!(mailbox.output(PaneId(3), piece));
            handed_on.as_mut().poll(&mut context).is_ready()
        })
        .count();
    assert_eq!(taken, PANE_WAITING_MAX_BYTES / PIECE_BYTES);
}

#[test]
fn a_key_waits_for_one_turn_at_most_however_much_is_to_be_shown() {
    let mut runner = sixteen();
    let mailbox = runner.mailbox();
    let bytes = Bytes::from(
        b"\x1b[3"
            .iter()
            .chain(b"1mred and \x1b[0mplain\r\n")
            .copied()
            .cycle()
            .take(PIECE_BYTES)
            .collect::<Vec<u8>>(),
    );
    for pane in 0..PANES {
        use std::{pin::pin, task::Context};
        let mut context = Context::from_waker(std::task::Waker::noop());
        for _ in 0..8 {
            let piece = Piece::Bytes { offset: 0, bytes: bytes.clone() };
            let mut handed_on = pin!(mailbox.output(PaneId(pane), piece));
            assert!(handed_on.as_mut().poll(&mut context).is_ready());
        }
    }
    // As the loop does: a turn, then whatever was typed meanwhile.
    let focus = runner.app.panes.focus().expect("one");
    for _ in 0..8 {
        assert!(turn(&mut runner) <= TURN_MAX_BYTES);
        runner.msg(Msg::Input(Input::Key(Key::char('k'))));
        runner.pass_requests();
    }
    assert_eq!(runner.sessions.typed[&focus], b"kkkkkkkk");
}
