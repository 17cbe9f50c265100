use super::*;
use crate::tunnel::{
    frame::Epoch,
    limits::{WINDOW_BULK_BYTES, WINDOW_DEFAULT_BYTES},
    send::Gather,
    stream::{Checkpoint, Unsent},
};

const NOW: Tick = Tick::from_us(1_000_000);

fn config(is_urgent: bool) -> StreamConfig {
    StreamConfig {
        is_urgent,
        window_bytes: 64 * 1024,
        buffer_bytes: 1024 * 1024,
        waiting_bytes: 1024 * 1024,
        gather: Gather { bytes: 0, wait_us: 0 },
        keep_alive_us: None,
    }
}

fn pair() -> (Endpoint, Endpoint) {
    let mut ends = [Side::Near, Side::Device].map(|side| {
        let mut end = Endpoint::new(side, EndpointConfig::default());
        assert!(end.add_tunnel(1, config(false)));
        end.on_link_up(NOW);
        end
    });
    let device =
        std::mem::replace(&mut ends[1], Endpoint::new(Side::Near, EndpointConfig::default()));
    let [near, _] = ends;
    (near, device)
}

/// Moves all frames, both ways, until none is left.
fn exchange(a: &mut Endpoint, b: &mut Endpoint) {
    loop {
        let mut is_quiet = true;
        while let Some(frame) = a.poll_transmit(NOW) {
            b.on_frame(frame, NOW);
            is_quiet = false;
        }
        while let Some(frame) = b.poll_transmit(NOW) {
            a.on_frame(frame, NOW);
            is_quiet = false;
        }
        if is_quiet {
            return;
        }
    }
}

fn changes_of(end: &mut Endpoint, key: StreamKey) -> Changes {
    let mut all = Changes::default();
    while let Some((changed, changes)) = end.poll_change() {
        if changed == key {
            all.is_new |= changes.is_new;
            all.is_readable |= changes.is_readable;
            all.is_writable |= changes.is_writable;
            all.is_delivered |= changes.is_delivered;
            all.closed = all.closed.or(changes.closed);
        }
    }
    all
}

fn write(end: &mut Endpoint, key: StreamKey, len: usize) {
    let mut bytes = Bytes::from(vec![1; len]);
    end.write(key, &mut bytes).expect("a stream");
    assert!(bytes.is_empty(), "no room for {} bytes", bytes.len());
}

#[test]
fn keys_overtake_bulk_and_bulk_takes_turns() {
    let (mut near, mut device) = pair();
    let bulk = [0, 1].map(|_| near.open(1, config(false), NOW).expect("room"));
    let keys = near.open(1, config(true), NOW).expect("room");
    exchange(&mut near, &mut device);
    for key in bulk {
        write(&mut near, key, 150_000);
    }
    write(&mut near, keys, 1);
    let order: Vec<_> =
        std::iter::from_fn(|| near.poll_transmit(NOW)).map(|frame| frame.key.stream).collect();
    assert_eq!(order[..3], [2, 0, 1]);
}

#[test]
fn bulk_leaves_room_for_keys_however_much_there_is() {
    let (mut near, mut device) = pair();
    let bulk: Vec<_> = (0..40).map(|_| near.open(1, config(false), NOW).expect("room")).collect();
    let keys = near.open(1, config(true), NOW).expect("room");
    exchange(&mut near, &mut device);
    for key in bulk {
        write(&mut near, key, 100_000);
    }
    while near.poll_transmit(NOW).is_some() {}
    let flight = near.used().flight;
    assert!(flight.bytes + URGENT_RESERVE_BYTES <= TUNNEL_FLIGHT_MAX_BYTES, "{flight:?}");
    assert!(flight.messages > 4, "{flight:?}");
    write(&mut near, keys, 1);
    assert_eq!(near.poll_transmit(NOW).map(|frame| frame.key), Some(keys));
}

#[test]
fn a_silent_peer_takes_no_place_from_the_others() {
    let (mut near, mut device) = pair();
    assert!(near.add_tunnel(2, config(false)));
    let key = near.open(2, config(false), NOW).expect("room");
    write(&mut near, key, 60_000);
    while near.poll_transmit(NOW).is_some() {}
    assert!(near.used().flight.messages > 0);
    let mut now = NOW;
    for _ in 0..4 {
        now = near.next_due(now).expect("a time-out");
        near.on_time(now);
        while near.poll_transmit(now).is_some() {}
    }
    assert!(near.used().flight.messages <= 1, "{:?}", near.used());
    exchange(&mut near, &mut device);
}

#[test]
fn both_ends_finish_and_nothing_is_left() {
    let (mut near, mut device) = pair();
    let key = near.open(1, config(false), NOW).expect("room");
    write(&mut near, key, 10);
    near.finish(key).expect("a stream");
    exchange(&mut near, &mut device);
    assert!(changes_of(&mut device, key).is_new);
    device.finish(key).expect("a stream");
    for end in [&mut device, &mut near] {
        while let Some((_, until)) = end.read(key, 100, NOW) {
            end.make_safe(key, until, NOW);
        }
    }
    exchange(&mut near, &mut device);
    while let Some((_, until)) = near.read(key, 100, NOW) {
        near.make_safe(key, until, NOW);
    }
    exchange(&mut near, &mut device);
    for end in [&mut near, &mut device] {
        let code = changes_of(end, key).closed.map(|closed| closed.code);
        assert_eq!(code, Some(CloseCode::Finished));
        assert_eq!(end.used(), Used::default());
        assert_eq!(end.status(key), None);
    }
}

#[test]
fn an_altered_byte_is_an_explicit_error_at_both_ends() {
    let (mut near, mut device) = pair();
    let key = near.open(1, config(false), NOW).expect("room");
    write(&mut near, key, 10);
    near.finish(key).expect("a stream");
    while let Some(mut frame) = near.poll_transmit(NOW) {
        if let Body::Data(bytes) = &mut frame.body {
            *bytes = vec![9; bytes.len()].into();
        }
        device.on_frame(frame, NOW);
    }
    exchange(&mut near, &mut device);
    for end in [&mut near, &mut device] {
        let code = changes_of(end, key).closed.map(|closed| closed.code);
        assert_eq!(code, Some(CloseCode::Corrupted));
    }
}

#[test]
fn a_reset_is_told_until_it_is_answered() {
    let (mut near, mut device) = pair();
    let key = near.open(1, config(false), NOW).expect("room");
    exchange(&mut near, &mut device);
    near.reset(key, Closed::new(CloseCode::Killed, "by root"), NOW).expect("a stream");
    assert!(near.poll_transmit(NOW).is_some(), "lost on the way");
    let later = near.next_due(NOW).expect("a time-out");
    assert!(later > NOW);
    near.on_time(later);
    let again = near.poll_transmit(later).expect("again");
    device.on_frame(again, later);
    let closed = changes_of(&mut device, key).closed;
    assert_eq!(closed, Some(Closed::new(CloseCode::Killed, "by root")));
    exchange(&mut near, &mut device);
    assert_eq!((near.next_due(later), near.status(key)), (None, None));
}

#[test]
fn strangers_are_answered_but_never_argued_with() {
    let (mut near, _) = pair();
    let stranger = |tunnel, stream, body| Frame {
        key: StreamKey { tunnel, stream },
        epoch: Epoch { from: 1, to: 1 },
        is_opening: false,
        wants_reply: false,
        has_taken_end: false,
        offset: 0,
        ack: 0,
        credit: 0,
        body,
    };
    let reset =
        |is_answer| Body::Reset { is_answer, code: CloseCode::Unknown, detail: String::new() };
    for (frame, is_answered) in [
        (stranger(9, 0, Body::Data(Bytes::new())), true),
        (stranger(1, 5, Body::Ack { ranges: Vec::new() }), true),
        (stranger(1, DEVICE_STREAM, Body::Resumed), true),
        (stranger(1, 5, reset(false)), true),
        (stranger(1, 5, reset(true)), false),
    ] {
        near.on_frame(frame.clone(), NOW);
        let answer = near.poll_transmit(NOW);
        assert_eq!(answer.is_some(), is_answered, "{frame:?}");
        if let Some(answer) = answer {
            assert!(matches!(answer.body, Body::Reset { is_answer: true, .. }));
        }
    }
    for n in 0..10_000 {
        near.on_frame(stranger(9, n, Body::Resumed), NOW);
    }
    assert_eq!(std::iter::from_fn(|| near.poll_transmit(NOW)).count(), STRAY_ANSWERS_MAX);
}

#[test]
fn a_peer_opens_no_more_streams_than_may_be() {
    let (mut near, mut device) = pair();
    let most = EndpointConfig::default().streams_max;
    let keys: Vec<_> = (0..most).map(|_| near.open(1, config(false), NOW).expect("room")).collect();
    assert_eq!(near.open(1, config(false), NOW), Err(Refused::TooMany));
    exchange(&mut near, &mut device);
    assert!(device.status(keys[most - 1]).is_some());
    let next = device.tunnels[&1].next_peer;
    let ending = STREAMS_ENDING_MAX as u32;
    for greedy in next..next + ending + 3 {
        let frame = Frame {
            key: StreamKey { tunnel: 1, stream: greedy },
            epoch: Epoch { from: 1, to: 1 },
            is_opening: true,
            wants_reply: false,
            has_taken_end: false,
            offset: 0,
            ack: 0,
            credit: 0,
            body: Body::Data(Bytes::new()),
        };
        device.on_frame(frame, NOW);
        if greedy < next + ending {
            // Perhaps the peer knows of so many that they are over.
            continue;
        }
        let is_busy =
            |frame: &Frame| matches!(frame.body, Body::Reset { code: CloseCode::Busy, .. });
        let answers = std::iter::from_fn(|| device.poll_transmit(NOW));
        assert_eq!(answers.filter(is_busy).count(), 1);
    }
    assert_eq!(device.streams.len(), most + STREAMS_ENDING_MAX);
}

#[test]
fn after_a_restart_no_stream_gets_less_than_an_earlier_life_granted() {
    let usual = StreamConfig { window_bytes: WINDOW_DEFAULT_BYTES, ..config(false) };
    let mut end = Endpoint::new(Side::Near, EndpointConfig::default());
    assert!(end.add_tunnel(1, usual));
    for stream in 0..8 {
        let unsent = Unsent::Kept { base: 0, contents: Vec::new(), is_finished: false };
        let checkpoint = Checkpoint { life: 2, received: 0, has_received_end: false, unsent };
        end.resume(StreamKey { tunnel: 1, stream }, usual, checkpoint, NOW).expect("room");
    }
    // The first of eight had its whole window, whichever it was.
    assert_eq!(end.used().windows_bytes, 8 * u64::from(WINDOW_DEFAULT_BYTES));
}

#[test]
fn as_many_streams_as_may_be_find_room_for_a_window_each() {
    let usual = StreamConfig { window_bytes: WINDOW_BULK_BYTES, ..config(false) };
    let [mut near, mut device] = [Side::Near, Side::Device].map(|side| {
        let mut end = Endpoint::new(side, EndpointConfig::default());
        assert!(end.add_tunnel(1, usual) && end.add_tunnel(2, usual));
        end.on_link_up(NOW);
        end
    });
    let first = near.open(1, usual, NOW).expect("room");
    let second = near.open(1, usual, NOW).expect("room");
    assert_eq!(near.used().windows_bytes, 2 * u64::from(WINDOW_BULK_BYTES), "the first get all");
    let rest: Vec<_> = (2..STREAMS_MAX).map(|_| near.open(1, usual, NOW).expect("room")).collect();
    // Another tunnel of the device still finds some.
    let other = near.open(2, usual, NOW).expect("room");
    exchange(&mut near, &mut device);
    assert!(rest.iter().chain([&first, &second, &other]).all(|key| device.status(*key).is_some()));
    assert!(device.used().windows_bytes <= EndpointConfig::default().windows_max_bytes);
}

#[test]
fn what_all_streams_keep_is_bounded_and_shared() {
    let bounds = EndpointConfig { buffers_max_bytes: 100, ..EndpointConfig::default() };
    let mut near = Endpoint::new(Side::Near, bounds);
    assert!(near.add_tunnel(1, config(false)));
    let [a, b] = [0, 1].map(|_| near.open(1, config(false), NOW).expect("room"));
    let mut bytes = Bytes::from(vec![1; 150]);
    near.write(a, &mut bytes).expect("a stream");
    assert_eq!(bytes.len(), 50);
    near.write(b, &mut bytes).expect("a stream");
    assert_eq!(bytes.len(), 50, "nothing is left for the other");
    while near.poll_change().is_some() {}
    near.reset(a, Closed::new(CloseCode::ClosedByUser, ""), NOW).expect("a stream");
    assert!(changes_of(&mut near, b).is_writable);
    near.write(b, &mut bytes).expect("a stream");
    assert!(bytes.is_empty());
}

#[test]
fn a_stream_is_joined_under_its_number_and_later_taken_over_where_it_is() {
    let (mut first, mut device) = pair();
    // The server has stream 0; this console was given 3.
    let key = StreamKey { tunnel: 1, stream: 3 };
    first.join(key, 1, config(true), NOW).expect("free");
    assert_eq!(first.join(key, 1, config(true), NOW), Err(Refused::NoStream));
    write(&mut first, key, 5);
    exchange(&mut first, &mut device);
    assert!(matches!(device.read(key, 10, NOW), Some((Item::Content(_), 5))));
    device.make_safe(key, 5, NOW);

    // Another console comes after it, knows nothing of it, and goes on.
    let mut second = Endpoint::new(Side::Near, EndpointConfig::default());
    assert!(second.add_tunnel(1, config(false)));
    second.on_link_up(NOW);
    second.join(key, 2, config(true), NOW).expect("free");
    write(&mut second, key, 7);
    exchange(&mut second, &mut device);
    assert!(matches!(device.read(key, 10, NOW), Some((Item::Content(_), 12))));

    // What the first still says changes nothing.
    write(&mut first, key, 1);
    exchange(&mut first, &mut device);
    assert_eq!(device.read(key, 10, NOW), None);
    let foreign = StreamKey { tunnel: 1, stream: DEVICE_STREAM };
    assert_eq!(second.join(foreign, 1, config(true), NOW), Err(Refused::NoStream));
}

/// Reads what there is at both ends, makes it safe, and moves frames until all is said.
fn take_all(a: &mut Endpoint, b: &mut Endpoint, key: StreamKey) {
    exchange(a, b);
    for end in [&mut *a, &mut *b] {
        while let Some((_, until)) = end.read(key, 1_000, NOW) {
            end.make_safe(key, until, NOW);
        }
    }
    exchange(a, b);
}

#[test]
fn a_stream_that_a_former_life_had_is_unknown_when_it_is_taken_for_a_new_one() {
    let (mut near, mut device) = pair();
    let [forgotten, new] = [0, 1].map(|_| device.open(1, config(false), NOW).expect("room"));
    write(&mut device, forgotten, 10);
    while let Some(frame) = device.poll_transmit(NOW) {
        // Nothing of the other arrives.
        if frame.key == forgotten {
            near.on_frame(frame, NOW);
        }
    }
    write(&mut near, forgotten, 10);
    take_all(&mut near, &mut device, forgotten);

    let (mut near, _) = pair();
    device.on_link_up(NOW);
    let (first, later): (Vec<_>, Vec<_>) =
        std::iter::from_fn(|| device.poll_transmit(NOW)).partition(|frame| frame.key == new);
    for frame in first.into_iter().chain(later) {
        near.on_frame(frame, NOW);
    }
    exchange(&mut near, &mut device);
    let code = changes_of(&mut device, forgotten).closed.map(|closed| closed.code);
    assert_eq!(code, Some(CloseCode::Unknown));
    assert!(changes_of(&mut near, new).is_new);
    write(&mut device, new, 5);
    exchange(&mut near, &mut device);
    assert!(matches!(near.read(new, 10, NOW), Some((Item::Content(_), 5))));
}

#[test]
fn a_stream_that_is_taken_with_a_later_one_has_a_life_of_its_own() {
    let (mut first, mut device) = pair();
    let [keys, others] = [1, 2].map(|stream| StreamKey { tunnel: 1, stream });
    first.join(keys, 1, config(true), NOW).expect("free");
    write(&mut first, keys, 5);
    // The third that is given the other stream, and the first of which anything arrives.
    let mut third = Endpoint::new(Side::Near, EndpointConfig::default());
    assert!(third.add_tunnel(1, config(false)));
    third.on_link_up(NOW);
    third.join(others, 3, config(true), NOW).expect("free");
    exchange(&mut third, &mut device);
    exchange(&mut first, &mut device);
    assert!(matches!(device.read(keys, 10, NOW), Some((Item::Content(_), 5))));
}

#[test]
fn an_end_that_a_former_life_said_may_be_taken_before_this_one_says_it_again() {
    let (mut near, mut device) = pair();
    let key = near.open(1, config(false), NOW).expect("room");
    write(&mut near, key, 10);
    near.finish(key).expect("a stream");
    exchange(&mut near, &mut device);

    let (mut near, _) = pair();
    let unsent = Unsent::Forgotten;
    let checkpoint = Checkpoint { life: 2, received: 0, has_received_end: false, unsent };
    near.resume(key, config(false), checkpoint, NOW).expect("room");
    take_all(&mut near, &mut device, key);
    let changes = changes_of(&mut near, key);
    assert_eq!((changes.is_delivered, changes.closed), (true, None));
}

/// An end that begins anew, with all that it had written and what it had made safe.
fn anew(side: Side, key: StreamKey, life: u16, received: u64, written: usize) -> Endpoint {
    let mut end = Endpoint::new(side, EndpointConfig::default());
    assert!(end.add_tunnel(1, config(false)));
    end.on_link_up(NOW);
    let contents = vec![Content::Bytes(Bytes::from(vec![1; written]))];
    let unsent = Unsent::Kept { base: 0, contents, is_finished: false };
    let checkpoint = Checkpoint { life, received, has_received_end: false, unsent };
    end.resume(key, config(false), checkpoint, NOW).expect("room");
    end
}

fn read(end: &mut Endpoint, key: StreamKey) -> u64 {
    let mut until = 0;
    while let Some((_, read)) = end.read(key, 1_000, NOW) {
        until = read;
    }
    until
}

#[test]
fn what_arrived_and_is_not_safe_is_kept_over_a_restart_of_both_ends() {
    let (mut near, mut device) = pair();
    let key = near.open(1, config(false), NOW).expect("room");
    write(&mut near, key, 10);
    exchange(&mut near, &mut device);
    let mut near = anew(Side::Near, key, 2, 0, 10);
    exchange(&mut near, &mut device);
    // What the device had taken goes with it.
    let mut device = anew(Side::Device, key, 2, 0, 0);
    exchange(&mut near, &mut device);
    assert_eq!(changes_of(&mut near, key).closed, None);
    assert_eq!(read(&mut device, key), 10);
}

#[test]
fn a_late_answer_of_a_former_life_does_not_part_the_ends() {
    let (mut near, mut device) = pair();
    let key = near.open(1, config(false), NOW).expect("room");
    exchange(&mut near, &mut device);
    let mut device = anew(Side::Device, key, 2, 0, 0);
    near.on_frame(device.poll_transmit(NOW).expect("it asks where to go on"), NOW);
    let late = near.poll_transmit(NOW).expect("an answer");
    assert_eq!(late.body, Body::Resumed);

    let mut near = anew(Side::Near, key, 2, 0, 10);
    exchange(&mut near, &mut device);
    device.on_frame(late, NOW);
    device.on_link_up(NOW);
    exchange(&mut near, &mut device);
    near.on_link_up(NOW);
    exchange(&mut near, &mut device);
    assert_eq!(read(&mut device, key), 10);
}

#[test]
fn a_resume_that_comes_late_changes_nothing() {
    let (mut near, mut device) = pair();
    let key = near.open(1, config(false), NOW).expect("room");
    exchange(&mut near, &mut device);
    let mut near = anew(Side::Near, key, 2, 0, 0);
    let late = near.poll_transmit(NOW).expect("it asks where to go on");
    assert!(matches!(late.body, Body::Resume { .. }));
    device.on_frame(late.clone(), NOW);
    write(&mut device, key, 10);
    take_all(&mut near, &mut device, key);

    // The peer began anew as well, and knows that it may have sent more than the late one has.
    let mut device = anew(Side::Device, key, 2, 0, 10);
    device.on_frame(late.clone(), NOW);
    write(&mut device, key, 5);
    exchange(&mut near, &mut device);
    assert_eq!(changes_of(&mut device, key).closed, None);
    assert_eq!(read(&mut near, key), 15);
    near.make_safe(key, 15, NOW);

    // Nor is there anything to be said once all is over.
    near.finish(key).expect("a stream");
    device.finish(key).expect("a stream");
    take_all(&mut near, &mut device, key);
    assert_eq!(device.status(key), None);
    device.on_frame(late, NOW);
    assert_eq!(device.poll_transmit(NOW), None);
}

#[test]
fn a_peer_hears_that_a_later_life_of_its_stream_was_forgotten() {
    let (mut near, mut device) = pair();
    let key = device.open(1, config(false), NOW).expect("room");
    exchange(&mut near, &mut device);
    let mut near = anew(Side::Near, key, 2, 0, 0);
    exchange(&mut near, &mut device);

    // The next life knows nothing, and takes the stream for new with a later one.
    let (mut near, _) = pair();
    let later = device.open(1, config(false), NOW).expect("room");
    exchange(&mut near, &mut device);
    assert!(near.status(later).is_some());
    write(&mut device, key, 5);
    exchange(&mut near, &mut device);
    let code = changes_of(&mut device, key).closed.map(|closed| closed.code);
    assert_eq!(code, Some(CloseCode::Unknown));
}
