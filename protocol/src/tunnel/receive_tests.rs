use super::*;
use crate::tunnel::mark::{Exit, Mark};

fn bytes(text: &str) -> Content {
    Content::Bytes(Bytes::copy_from_slice(text.as_bytes()))
}

fn hash_of(contents: &[Content]) -> [u8; 16] {
    let mut hash = RunningHash::default();
    for content in contents {
        hash.update(content);
    }
    hash.digest()
}

fn read_all(rx: &mut Receiver) -> String {
    let mut all = String::new();
    while let Some(item) = rx.read(1_000) {
        match item {
            Item::Content(Content::Bytes(bytes)) => {
                all += std::str::from_utf8(&bytes).expect("text");
            }
            Item::Content(Content::Mark(_)) => all.push('!'),
            Item::End => all.push('.'),
        }
    }
    all
}

#[test]
fn only_the_next_byte_is_taken() {
    use Arrival::{AfterGap, Dropped, Next};
    let mark = Content::Mark(Mark::Exit(Exit::Code(1)));
    let steps = [
        (0, bytes("abc"), Next, "abc", vec![(0, 3)]),
        (0, bytes("abc"), Dropped, "", vec![(0, 3)]),
        (6, bytes("gh"), AfterGap, "", vec![(0, 3), (6, 8)]),
        (6, bytes("g"), Dropped, "", vec![(0, 3), (6, 8)]),
        (10, mark.clone(), AfterGap, "", vec![(0, 3), (6, 8), (10, 11)]),
        (2, bytes("cdefg"), Next, "defgh", vec![(0, 8), (10, 11)]),
        (8, bytes("ij"), Next, "ij!", vec![(0, 11)]),
        (10, mark, Dropped, "", vec![(0, 11)]),
        (200_000, bytes("far"), Dropped, "", vec![(0, 11)]),
    ];
    let mut rx = Receiver::new(0, 1_000);
    for (offset, content, arrival, text, ranges) in steps {
        assert_eq!(rx.on_content(offset, content), Ok(arrival), "at {offset}");
        assert_eq!(read_all(&mut rx), text, "at {offset}");
        assert_eq!(rx.ranges(), ranges, "at {offset}");
    }
    rx.make_safe(8);
    assert_eq!(rx.ranges(), [(8, 11)]);
}

#[test]
fn the_end_is_told_after_the_last_byte_if_the_hash_agrees() {
    let hash = hash_of(&[bytes("ab"), bytes("c")]);
    let mut rx = Receiver::new(0, 1_000);
    assert_eq!(rx.on_end(3, hash), Ok(Arrival::AfterGap));
    assert_eq!(rx.on_content(0, bytes("abc")), Ok(Arrival::Next));
    assert_eq!(read_all(&mut rx), "abc.");
    assert!(!rx.has_taken_end(), "nothing is safe yet");
    rx.make_safe(3);
    assert!(rx.has_taken_end());
    assert_eq!(rx.on_end(3, hash), Ok(Arrival::Dropped));
}

#[test]
fn a_wrong_end_is_an_error_and_no_end() {
    let hash = hash_of(&[bytes("abc")]);
    let mut rx = Receiver::new(0, 1_000);
    assert_eq!(rx.on_content(0, bytes("abd")), Ok(Arrival::Next));
    assert_eq!(rx.on_end(3, hash), Err(Wrong::Hash));
    assert_eq!(read_all(&mut rx), "abd", "and no end");

    let mut rx = Receiver::new(0, 1_000);
    assert_eq!(rx.on_end(3, hash), Ok(Arrival::AfterGap));
    assert_eq!(rx.on_end(4, hash), Err(Wrong::OtherEnd));
    assert_eq!(rx.on_content(2, bytes("cd")), Err(Wrong::BeyondEnd));

    let mut rx = Receiver::new(0, 1_000);
    assert_eq!(rx.on_content(5, bytes("f")), Ok(Arrival::AfterGap));
    assert_eq!(rx.on_end(3, hash), Err(Wrong::BeyondEnd));
}

#[test]
fn credit_grows_as_it_is_read_and_never_shrinks() {
    let first = u64::from(CREDIT_FIRST_BYTES);
    let mut rx = Receiver::new(0, 100_000);
    assert_eq!(rx.grant(), 100_000);
    rx.set_window(10);
    assert_eq!(rx.grant(), 100_000);
    assert_eq!(rx.on_content(0, Content::Bytes(vec![0; 99_995].into())), Ok(Arrival::Next));
    while rx.read(1_000_000).is_some() {}
    assert_eq!((rx.grant(), rx.credit()), (100_005, 100_005));
    rx.make_safe(99_995);
    assert_eq!(rx.credit(), 10);
    assert_eq!(Receiver::new(5, 0).grant(), 5 + first, "what a peer may send unasked");
}

#[test]
fn what_is_held_is_bounded() {
    let mut rx = Receiver::new(0, 0);
    let mut held = 0;
    for n in 0..1_000 {
        if rx.on_content(10 + 2 * n, bytes("x")) == Ok(Arrival::AfterGap) {
            held += 1;
        }
    }
    assert_eq!(held, HELD_MAX_SEGMENTS);
    assert_eq!(rx.ranges().len(), RANGES_MAX);
}
