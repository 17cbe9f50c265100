use proptest::prelude::*;

use super::*;
use crate::tunnel::mark::{Exit, Signal, Size};

fn ack_frame(ack: u64, ranges: Vec<(u64, u64)>) -> Frame {
    Frame {
        key: StreamKey { tunnel: 1, stream: 2 },
        epoch: Epoch { from: 1, to: 1 },
        is_opening: false,
        wants_reply: false,
        has_taken_end: false,
        offset: 0,
        ack,
        credit: 10,
        body: Body::Ack { ranges },
    }
}

fn marks() -> impl Strategy<Value = Mark> {
    prop_oneof![
        (1_u16.., 1_u16..).prop_map(|(c, r)| Mark::Resize(Size::new(c, r).expect("not 0"))),
        (0..Signal::ALL.len()).prop_map(|index| Mark::Signal(Signal::ALL[index])),
        any::<u8>().prop_map(|code| Mark::Exit(Exit::Code(code))),
        any::<u8>().prop_map(|signal| Mark::Exit(Exit::Signal(signal))),
    ]
}

fn bodies() -> impl Strategy<Value = Body> {
    let ranges = prop::collection::vec((1_u64..9_000, 1_u64..9_000), 0..=RANGES_MAX);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Body::Data(bytes.into())),
        marks().prop_map(Body::Mark),
        any::<[u8; 16]>().prop_map(|hash| Body::End { hash }),
        ranges.prop_map(|steps| {
            let mut at = 5_000;
            let ranges = steps.into_iter().map(|(gap, run)| {
                let range = (at + gap, at + gap + run);
                at = range.1;
                range
            });
            Body::Ack { ranges: ranges.collect() }
        }),
        any::<bool>().prop_map(|adopts| Body::Resume { adopts }),
        Just(Body::Resumed),
        (any::<bool>(), 0..CloseCode::ALL.len(), "[a-zé]{0,80}").prop_map(
            |(is_answer, code, detail)| Body::Reset {
                is_answer,
                code: CloseCode::ALL[code],
                detail
            }
        ),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        body in bodies(), flags in any::<[bool; 3]>(), numbers in any::<[u32; 4]>(),
        epoch in any::<[u16; 2]>(), offset in 0_u64..(1 << 47),
    ) {
        let frame = Frame {
            key: StreamKey { tunnel: numbers[0], stream: numbers[1] },
            epoch: Epoch { from: epoch[0], to: epoch[1] },
            is_opening: flags[0],
            wants_reply: flags[1],
            has_taken_end: flags[2],
            offset,
            ack: 5_000,
            credit: numbers[3],
            body,
        };
        let bytes = frame.to_bytes();
        prop_assert_eq!(Frame::peek_key(&bytes), Ok(frame.key));
        prop_assert_eq!(Frame::decode(bytes), Ok(frame));
    }

    #[test]
    fn whatever_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0_u8..10) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = VERSION << 4 | kind;
        }
        if let Ok(frame) = Frame::decode(bytes.clone().into()) {
            let again = frame.to_bytes();
            // A code of a later version is kept as `internal`.
            let is_later = matches!(frame.body, Body::Reset { code: CloseCode::Internal, .. });
            prop_assert!(is_later || again == bytes);
        }
    }
}

#[test]
fn the_header_is_as_documented() {
    let mut frame = ack_frame(0x0102_0304_0506, Vec::new());
    frame.offset = 0x0a0b_0c0d_0e0f;
    frame.epoch = Epoch { from: 3, to: 4 };
    frame.wants_reply = true;
    let bytes = frame.to_bytes();
    let expected: &[u8] = &[
        0x14, 0x02, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 4, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 1, 2,
        3, 4, 5, 6, 0, 0, 0, 10,
    ];
    assert_eq!(&bytes[..], expected);
    const { assert!(HEADER_BYTES <= 32) };
}

#[test]
fn what_is_no_frame_is_refused() {
    let good = ack_frame(100, vec![(120, 130)]).to_bytes().to_vec();
    let with = |index: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[index] = byte;
        bytes
    };
    let cases = [
        (Vec::new(), BadFrame::Short { size_bytes: 0 }),
        (good[..29].to_vec(), BadFrame::Short { size_bytes: 29 }),
        (vec![0; FRAME_MAX_BYTES + 1], BadFrame::Long { size_bytes: FRAME_MAX_BYTES + 1 }),
        (with(0, 0x24), BadFrame::Version(2)),
        (with(0, 0x1f), BadFrame::Kind(15)),
        (with(1, 0x10), BadFrame::Flags(0x10)),
        (with(1, OF_KIND), BadFrame::Flags(OF_KIND)),
        (good[..34].to_vec(), BadFrame::Payload),
        (with(37, 0), BadFrame::Payload),
        ([good.clone(), vec![0, 0, 0, 0, 0, 0, 0, 1]].concat(), BadFrame::Payload),
    ];
    for (bytes, expected) in cases {
        assert_eq!(Frame::decode(bytes.into()), Err(expected));
    }
    let mut far = ack_frame(OFFSET_MAX - 5, Vec::new());
    assert_eq!(
        Frame::decode(far.to_bytes()),
        Err(BadFrame::Offset),
        "credit beyond the last offset"
    );
    far.credit = 5;
    assert!(Frame::decode(far.to_bytes()).is_ok());
}

#[test]
fn a_long_detail_is_cut_at_a_character() {
    let mut frame = ack_frame(0, Vec::new());
    let detail = "é".repeat(RESET_DETAIL_MAX_BYTES);
    frame.body = Body::Reset { is_answer: false, code: CloseCode::Killed, detail };
    let read = Frame::decode(frame.to_bytes()).expect("a frame");
    let Body::Reset { detail, .. } = read.body else { panic!("a reset") };
    assert_eq!(detail, "é".repeat(RESET_DETAIL_MAX_BYTES / 2));
}
