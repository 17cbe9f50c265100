//! How many bytes a second go through the stream machine, both ends on one core.
//!
//! `cargo bench -p quarterdeck-protocol --bench tunnel`: each frame is encoded,
//! copied as a connection would, decoded, read, hashed at both ends and made safe.

use bytes::Bytes;
use quarterdeck_protocol::tunnel::{
    Content, Gather, Item, Tick,
    endpoint::{Endpoint, EndpointConfig, Side},
    frame::Frame,
    limits::WINDOW_DEFAULT_BYTES,
    stream::StreamConfig,
};

const TUNNEL: u32 = 1;

fn config() -> StreamConfig {
    StreamConfig {
        is_urgent: false,
        window_bytes: 4 * WINDOW_DEFAULT_BYTES,
        buffer_bytes: 1024 * 1024,
        waiting_bytes: 1024 * 1024,
        gather: Gather { bytes: 0, wait_us: 0 },
        keep_alive_us: None,
    }
}

fn endpoint(side: Side) -> Endpoint {
    let mut endpoint = Endpoint::new(side, EndpointConfig::default());
    assert!(endpoint.add_tunnel(TUNNEL, config()));
    endpoint.on_link_up(Tick::default());
    endpoint
}

/// Sends `total_bytes`, written in pieces of `piece_bytes`; returns bytes a second.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn run(total_bytes: u64, piece_bytes: usize) -> f64 {
    let (mut near, mut device) = (endpoint(Side::Near), endpoint(Side::Device));
    let now = Tick::default();
    let key = device.open(TUNNEL, config(), now).expect("a fresh end has room");
    let piece = Bytes::from(vec![b'x'; piece_bytes]);
    let began = std::time::Instant::now();
    let (mut written, mut received) = (0_u64, 0_u64);
    while received < total_bytes {
        while written < total_bytes && device.room(key).expect("open") >= piece_bytes {
            device.write(key, &mut piece.clone()).expect("open");
            written += piece_bytes as u64;
        }
        let mut is_idle = true;
        while let Some(frame) = device.poll_transmit(now) {
            is_idle = false;
            near.on_frame(Frame::decode(frame.to_bytes()).expect("a frame"), now);
            while let Some((Item::Content(Content::Bytes(bytes)), until)) =
                near.read(key, 64 * 1024, now)
            {
                received += bytes.len() as u64;
                near.make_safe(key, until, now);
            }
        }
        while near.poll_change().is_some() {}
        while let Some(frame) = near.poll_transmit(now) {
            is_idle = false;
            device.on_frame(Frame::decode(frame.to_bytes()).expect("a frame"), now);
        }
        while device.poll_change().is_some() {}
        if is_idle {
            // Delayed acknowledgements are due: in this benchmark no time passes.
            let later = Tick::from_us(10_000);
            near.on_time(later);
        }
    }
    total_bytes as f64 / began.elapsed().as_secs_f64()
}

fn main() {
    for piece_bytes in [64, 1_024, 4_095, 65_536] {
        let total_bytes = if piece_bytes < 1_024 { 100_000_000 } else { 1_000_000_000 };
        let rate = run(total_bytes, piece_bytes);
        println!("pieces of {piece_bytes:>6} bytes: {:>6.0} MB/s", rate / 1e6);
    }
}
