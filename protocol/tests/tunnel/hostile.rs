//! A peer that says whatever it likes: no panic, no bound broken, no time that stands still.

use bytes::Bytes;
use proptest::prelude::*;
use quarterdeck_protocol::tunnel::{
    DEVICE_STREAM, StreamKey, Tick,
    close::CloseCode,
    endpoint::{Endpoint, EndpointConfig, Side},
    frame::{Body, Epoch, Frame},
    limits::{RANGES_MAX, STREAMS_MAX},
    mark::{Exit, Mark},
    stream::Closed,
};

use crate::world::{TUNNEL, stream_config};

/// Frames near what a good peer would send: most pass the first checks.
fn frames() -> impl Strategy<Value = Frame> {
    let stream = prop_oneof![0_u32..4, DEVICE_STREAM..DEVICE_STREAM + 4, any::<u32>()];
    let offset = prop_oneof![Just(0_u64), 0_u64..70_000, 0_u64..(1 << 47)];
    let body = prop_oneof![
        4 => (0_usize..5_000).prop_map(|len| Body::Data(Bytes::from(vec![1; len]))),
        1 => Just(Body::Mark(Mark::Exit(Exit::Code(0)))),
        1 => any::<[u8; 16]>().prop_map(|hash| Body::End { hash }),
        2 => prop::collection::vec((1_u64..9_000, 1_u64..9_000), 0..RANGES_MAX)
            .prop_map(|steps| Body::Ack { ranges: steps }),
        1 => any::<bool>().prop_map(|adopts| Body::Resume { adopts }),
        1 => Just(Body::Resumed),
        1 => any::<bool>().prop_map(|is_answer| Body::Reset {
            is_answer, code: CloseCode::Killed, detail: String::new(),
        }),
    ];
    let tunnel = prop_oneof![9 => Just(TUNNEL), 1 => any::<u32>()];
    (
        tunnel,
        stream,
        0_u16..4,
        0_u16..3,
        any::<[bool; 3]>(),
        offset.clone(),
        offset,
        any::<u32>(),
        body,
    )
        .prop_map(|(tunnel, stream, from, to, flags, offset, ack, credit, body)| {
            let body = match body {
                Body::Ack { ranges } => {
                    let mut at = ack;
                    let rising = ranges.into_iter().map(|(gap, run)| {
                        let range = (at + gap, at + gap + run);
                        at = range.1;
                        range
                    });
                    Body::Ack { ranges: rising.collect() }
                }
                body => body,
            };
            Frame {
                key: StreamKey { tunnel, stream },
                epoch: Epoch { from, to },
                is_opening: flags[0],
                wants_reply: flags[1],
                has_taken_end: flags[2],
                offset,
                ack,
                credit,
                body,
            }
        })
}

#[derive(Debug, Clone)]
enum Event {
    Frame(Frame),
    Bytes(Vec<u8>),
    Wait(u64),
    Write(usize),
    Finish,
    Reset,
    Reconnect,
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => frames().prop_map(Event::Frame),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Event::Bytes),
        3 => (0_u64..6_000_000).prop_map(Event::Wait),
        2 => (0_usize..100_000).prop_map(Event::Write),
        1 => Just(Event::Finish),
        1 => Just(Event::Reset),
        1 => Just(Event::Reconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_peer_that_says_whatever_it_likes_breaks_nothing(events in prop::collection::vec(events(), 0..200)) {
        let config = EndpointConfig::default();
        let mut end = Endpoint::new(Side::Near, config);
        let mut now = Tick::from_us(0);
        prop_assert!(end.add_tunnel(TUNNEL, stream_config()));
        end.on_link_up(now);
        let key = end.open(TUNNEL, stream_config(), now).expect("a fresh end has room");
        for event in events {
            match event {
                Event::Frame(frame) => {
                    // As it would come in: what cannot be read never arrives.
                    if let Ok(frame) = Frame::decode(frame.to_bytes()) {
                        end.on_frame(frame, now);
                    }
                }
                Event::Bytes(bytes) => {
                    if let Ok(frame) = Frame::decode(bytes.into()) {
                        end.on_frame(frame, now);
                    }
                }
                Event::Wait(us) => now = now.plus_us(us),
                Event::Write(len) => {
                    let _ = end.write(key, &mut Bytes::from(vec![2; len]));
                }
                Event::Finish => {
                    let _ = end.finish(key);
                }
                Event::Reset => {
                    let _ = end.reset(key, Closed::new(CloseCode::Killed, ""), now);
                }
                Event::Reconnect => end.on_link_up(now),
            }
            end.on_time(now);
            let mut sent = 0;
            while let Some(frame) = end.poll_transmit(now) {
                prop_assert!(Frame::decode(frame.to_bytes()).is_ok(), "{:?}", frame);
                sent += 1;
                prop_assert!(sent < 5_000, "it never falls silent");
            }
            let mut changes = 0;
            while let Some((changed, _)) = end.poll_change() {
                while let Some((_, until)) = end.read(changed, 10_000, now) {
                    end.make_safe(changed, until, now);
                }
                changes += 1;
                prop_assert!(changes < 5_000, "it never comes to rest");
            }
            let used = end.used();
            prop_assert!(used.flight.messages <= config.link_flight.messages, "{:?}", used);
            prop_assert!(used.flight.bytes <= config.link_flight.bytes, "{:?}", used);
            prop_assert!(used.buffers_bytes <= config.buffers_max_bytes, "{:?}", used);
            prop_assert!(used.windows_bytes <= config.windows_max_bytes, "{:?}", used);
            let most = (STREAMS_MAX as u64) * u64::from(stream_config().window_bytes);
            prop_assert!(used.windows_bytes <= most, "{:?}", used);
        }
        end.remove_tunnel(TUNNEL);
        prop_assert_eq!(end.used(), quarterdeck_protocol::tunnel::endpoint::Used::default());
    }
}
