use super::*;
use bytes::Bytes;

const NOW: Tick = Tick::from_us(1_000);
const AT_ONCE: Gather = Gather { bytes: 0, wait_us: 0 };

fn bytes(len: usize) -> Content {
    Content::Bytes(Bytes::from(vec![7; len]))
}

/// A sender with segments of 10 kB under way.
fn flying(segments: usize) -> Sender {
    let mut tx = Sender::new(0);
    tx.on_ack(0, 1_000_000, &[], false, NOW).expect("credit");
    for _ in 0..segments {
        tx.write(bytes(10_000));
        tx.transmit(NOW).expect("something to send");
    }
    tx
}

fn sent(tx: &mut Sender) -> Vec<u64> {
    std::iter::from_fn(|| tx.transmit(NOW)).map(|outgoing| outgoing.offset).collect()
}

#[test]
fn what_was_sent_before_something_that_arrived_is_lost_and_leaves_first() {
    let mut tx = flying(4);
    tx.write(bytes(10_000));
    let later = NOW.plus_us(500);
    let progress = tx.on_ack(0, 1_000_000, &[(20_000, 30_000)], false, later).expect("sent");
    assert_eq!(progress, Progress { is_forward: true, rtt_us: Some(500) });
    assert_eq!(tx.flight(), Flight { messages: 1, bytes: 10_000 }, "the last is under way");
    assert_eq!(sent(&mut tx), [0, 10_000, 40_000]);
}

#[test]
fn the_same_gap_is_not_filled_twice_for_one_loss() {
    let mut tx = flying(3);
    tx.on_ack(0, 1_000_000, &[(10_000, 20_000)], false, NOW).expect("sent");
    assert_eq!(sent(&mut tx), [0]);
    tx.on_ack(0, 1_000_000, &[(10_000, 30_000)], false, NOW).expect("sent");
    assert_eq!(sent(&mut tx), [0_u64; 0], "it is on its way again");
}

#[test]
fn what_arrived_is_kept_until_it_is_safe_but_not_under_way() {
    let mut tx = flying(2);
    tx.on_ack(0, 1_000_000, &[(0, 20_000)], false, NOW).expect("sent");
    assert_eq!((tx.flight().messages, tx.kept_bytes()), (0, 20_000));
    assert!(!tx.expects_answer(), "a peer that is slow to make safe is not silent");
    tx.on_ack(15_000, 1_000_000, &[], false, NOW).expect("sent");
    assert_eq!((tx.base(), tx.kept_bytes()), (15_000, 5_000));
}

#[test]
fn credit_is_never_exceeded_nor_taken_back() {
    let mut tx = Sender::new(0);
    tx.write(bytes(200_000));
    let first: u64 = std::iter::from_fn(|| tx.transmit(NOW)).map(|o| o.body.span()).sum();
    assert_eq!(first, u64::from(CREDIT_FIRST_BYTES));
    assert!(tx.is_blocked());
    tx.on_ack(0, 100_000, &[], false, NOW).expect("credit");
    tx.on_ack(0, 10, &[], false, NOW).expect("an older word");
    assert_eq!(sent(&mut tx), [u64::from(CREDIT_FIRST_BYTES)]);
    assert_eq!(tx.next(), 100_000);
}

#[test]
fn little_is_gathered_and_much_leaves_at_once() {
    let gather = Gather { bytes: 16_384, wait_us: 4_000 };
    let mut tx = Sender::new(0);
    tx.write(bytes(1_000));
    assert_eq!(tx.ready_at(gather, NOW), Some(NOW), "idle: at once");
    tx.transmit(NOW).expect("some bytes");
    tx.write(bytes(1_000));
    assert_eq!(tx.ready_at(gather, NOW), Some(NOW.plus_us(4_000)), "bulk: gathered");
    assert_eq!(tx.ready_at(AT_ONCE, NOW), Some(NOW), "a key: never");
    tx.write(bytes(20_000));
    assert_eq!(tx.ready_at(gather, NOW), Some(NOW), "enough");
}

#[test]
fn echoes_of_keys_leave_at_once_until_they_are_a_flood() {
    let gather = Gather { bytes: 16_384, wait_us: 4_000 };
    let mut tx = Sender::new(0);
    let mut now = Tick::from_us(50_000);
    for _ in 0..100 {
        tx.write(bytes(1));
        assert_eq!(tx.ready_at(gather, now), Some(now), "a key held down, or a fast link");
        tx.transmit(now).expect("a byte");
        now = now.plus_us(300);
    }
    let began = now.plus_us(4_000);
    for _ in 0..SHORT_MAX_MESSAGES {
        tx.write(bytes(1));
        assert_eq!(tx.ready_at(gather, began), Some(began));
        tx.transmit(began).expect("a byte");
    }
    tx.write(bytes(1));
    assert_eq!(tx.ready_at(gather, began), Some(began.plus_us(4_000)), "byte by byte: gathered");
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused() {
    let mut tx = flying(1);
    for (ack, ranges, taken) in
        [(10_001, vec![], false), (0, vec![(5, 10_001)], false), (10_000, vec![], true)]
    {
        assert_eq!(tx.on_ack(ack, 0, &ranges, taken, NOW), Err(NeverSent), "{ack} {ranges:?}");
    }
}

#[test]
fn the_end_follows_the_last_byte_and_is_repeated_until_it_is_taken() {
    let mut tx = flying(1);
    tx.finish();
    let end = tx.transmit(NOW).expect("the end");
    assert!(matches!(end, Outgoing { offset: 10_000, body: Body::End { .. } }));
    tx.on_ack(10_000, 0, &[], false, NOW).expect("all bytes");
    assert!(tx.expects_answer());
    assert_eq!(tx.probe(NOW), Some(end));
    tx.on_ack(10_000, 0, &[], true, NOW).expect("the end");
    assert!(tx.is_taken() && !tx.expects_answer());
}

#[test]
fn a_resume_goes_on_from_what_is_needed_or_not_at_all() {
    for (needed, goes_on) in [(9_999, false), (10_000, true), (12_345, true), (40_001, false)] {
        let mut tx = flying(4);
        tx.on_ack(10_000, 1_000_000, &[], false, NOW).expect("sent");
        assert_eq!(tx.resume(needed, 1_000_000, false, NOW), goes_on, "{needed}");
        if goes_on {
            assert_eq!(tx.flight(), Flight::default());
            assert_eq!(sent(&mut tx).first(), Some(&needed));
            assert_eq!(tx.next(), 40_000);
        }
    }
}
