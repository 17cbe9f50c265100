use proptest::prelude::*;

use super::*;

fn data(offset: u64, text: &[u8]) -> Frame {
    frame(offset, Body::Data(Bytes::copy_from_slice(text)))
}

fn frame(offset: u64, body: Body) -> Frame {
    Frame {
        key: StreamKey { tunnel: 7, stream: OUTPUT_STREAM },
        epoch: Epoch { from: 1, to: 1 },
        is_opening: false,
        wants_reply: false,
        has_taken_end: false,
        offset,
        ack: 0,
        credit: 0,
        body,
    }
}

fn at(us: u64) -> Tick {
    Tick::from_us(us)
}

fn shown(output: &mut Output) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = output.take(at(0)) {
        if let Piece::Bytes { bytes, .. } = piece {
            all.extend_from_slice(&bytes);
        }
    }
    all
}

#[test]
fn what_comes_twice_is_shown_once_and_a_gap_is_an_error() {
    let mut output = Output::new();
    output.on_frame(data(0, b"abc")).expect("next");
    output.on_frame(data(1, b"bcde")).expect("overlaps");
    output.on_frame(data(0, b"abc")).expect("known");
    assert_eq!(output.on_frame(data(6, b"x")), Err(Gap { next: 5, offset: 6 }));
    assert_eq!(shown(&mut output), b"abcde");
    assert_eq!(output.next(), 5);
}

#[test]
fn marks_stand_between_their_bytes() {
    let mut output = Output::new();
    let size = Mark::Resize(Size::new(80, 24).expect("a size"));
    output.on_frame(data(0, b"a")).expect("next");
    output.on_frame(data(1, b"b")).expect("next");
    output.on_frame(frame(2, Body::Mark(size))).expect("next");
    output.on_frame(frame(2, Body::Mark(size))).expect("known");
    output.on_frame(data(3, b"c")).expect("next");
    let pieces: Vec<_> = std::iter::from_fn(|| output.take(at(0))).collect();
    let expected = [
        Piece::Bytes { offset: 0, bytes: Bytes::from_static(b"ab") },
        Piece::Mark { offset: 2, mark: size },
        Piece::Bytes { offset: 3, bytes: Bytes::from_static(b"c") },
    ];
    assert_eq!(pieces, expected);
}

#[test]
fn a_snapshot_replaces_what_waits() {
    let mut output = Output::new();
    output.on_frame(data(0, b"old")).expect("next");
    let size = Size::new(80, 24).expect("a size");
    let screen = Bytes::from_static(b"screen");
    let snapshot = Snapshot { offset: 100, size, screen, painted_from: 94, dropped_bytes: 40 };
    output.on_snapshot(snapshot.clone());
    output.on_frame(data(98, b"..new")).expect("reaches back");
    assert_eq!(output.take(at(0)), Some(Piece::Snapshot(snapshot)));
    assert_eq!(shown(&mut output), b"new");
}

#[test]
fn what_was_shown_is_told_soon_and_much_of_it_at_once() {
    let mut output = Output::new();
    assert_eq!(output.poll_ack(7, at(0)), None);
    output.on_frame(data(0, b"a")).expect("next");
    assert!(output.take(at(0)).is_some());
    let soon = SHOWN_MAX_MS * 1_000;
    assert_eq!(output.poll_ack(7, at(soon - 1)), None);
    let ack = output.poll_ack(7, at(soon)).expect("due");
    assert_eq!((ack.ack, ack.key.stream), (1, OUTPUT_STREAM));
    output.on_frame(data(1, &vec![b'x'; SHOWN_EVERY_BYTES as usize])).expect("next");
    assert!(output.take(at(soon)).is_some());
    let ack = output.poll_ack(7, at(soon)).expect("much of it");
    assert_eq!(ack.ack, 1 + SHOWN_EVERY_BYTES);
}

#[test]
fn what_is_not_shown_is_not_told_and_bounded() {
    let mut output = Output::new();
    let chunk = vec![b'x'; 64 * 1024];
    let mut offset = 0;
    while !output.is_full() {
        output.on_frame(data(offset, &chunk)).expect("next");
        offset += chunk.len() as u64;
    }
    assert_eq!(offset, WAITING_MAX_BYTES + chunk.len() as u64);
    assert_eq!(output.poll_ack(7, at(u64::MAX)), None);
    assert_eq!(shown(&mut output).len() as u64, offset);
    assert!(!output.is_full());
}

#[test]
fn a_new_connection_hears_where_we_are() {
    let mut output = Output::new();
    output.on_frame(data(0, b"abc")).expect("next");
    shown(&mut output);
    output.on_attached(at(5));
    assert_eq!(output.poll_ack(7, at(5)).map(|ack| ack.ack), Some(3));
}

proptest! {
    #[test]
    fn any_repetition_shows_the_same(cuts in prop::collection::vec((0_usize..200, 1_usize..60), 1..40)) {
        let all: Vec<u8> = (0..200_u8).collect();
        let mut output = Output::new();
        output.on_frame(data(0, &all[..1])).expect("first");
        let mut told = Vec::new();
        for (start, length) in cuts {
            let end = (start + length).min(all.len());
            let next = output.next() as usize;
            let result = output.on_frame(data(start as u64, &all[start..end]));
            prop_assert_eq!(result.is_err(), start > next);
            told.extend(shown(&mut output));
        }
        prop_assert_eq!(&told[..], &all[..told.len()]);
    }
}
