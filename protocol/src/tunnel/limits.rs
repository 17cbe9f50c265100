//! The bounds of streams and frames. Each name carries its unit.

use crate::limits::MQTT_MESSAGE_MAX_BYTES;

/// The longest frame, its header included.
pub const FRAME_MAX_BYTES: usize = MQTT_MESSAGE_MAX_BYTES;
/// The most bytes of a stream that one frame is made to carry. Less than a frame
/// may have: one lost costs less, and an urgent one waits less behind it.
pub const FRAME_DATA_MAX_BYTES: usize = 64 * 1024;
/// Offsets fit six bytes.
pub const OFFSET_MAX: u64 = 1 << 48;
/// The most ranges named in one acknowledgement.
pub const RANGES_MAX: usize = 32;
/// The longest text in a reset.
pub const RESET_DETAIL_MAX_BYTES: usize = 200;

/// What an end may send of a stream before it has heard of the peer's credit.
pub const CREDIT_FIRST_BYTES: u32 = 64 * 1024;
/// A receiver's window: least, usual, most.
pub const WINDOW_MIN_BYTES: u32 = 16 * 1024;
pub const WINDOW_DEFAULT_BYTES: u32 = 256 * 1024;
pub const WINDOW_MAX_BYTES: u32 = 4 * 1024 * 1024;
/// That of pipes and connections: what a tunnel may have under way. With half of it a
/// connection carried 460 MB/s instead of 575, for its writer waited to hear that some had come.
pub const WINDOW_BULK_BYTES: u32 = TUNNEL_FLIGHT_MAX_BYTES as u32;
/// Segments that wait for the bytes before them; over it they are sent again.
pub const HELD_MAX_SEGMENTS: usize = 64;
/// Streams of one tunnel that may be open at once.
pub const STREAMS_MAX: usize = 256;
/// So many more are taken of a peer: those that it knows to be over, and this end not yet.
pub const STREAMS_ENDING_MAX: usize = 64;
/// Of the sum of all windows [`CREDIT_FIRST_BYTES`] are kept for each stream that a tunnel may
/// still open. A new one gets as much, and one part of so many of the rest: the first get all
/// that they ask for, and the last still finds room.
pub const WINDOW_SHARES: u64 = 26;
/// Streams of one tunnel that ended and whose last words are remembered.
pub const LINGERING_MAX: usize = 1_024;
/// Answers to frames of tunnels that are not known, that may wait to be sent.
pub const STRAY_ANSWERS_MAX: usize = 64;

/// Messages and bytes of one tunnel that may be under way, and of all tunnels of
/// one subscriber. The broker's queue of a subscriber has to hold the latter.
pub const TUNNEL_FLIGHT_MAX_MESSAGES: usize = 64;
pub const TUNNEL_FLIGHT_MAX_BYTES: usize = 512 * 1024;
pub const LINK_FLIGHT_MAX_MESSAGES: usize = 256;
pub const LINK_FLIGHT_MAX_BYTES: usize = 1024 * 1024;
/// Of these, kept free of bulk, so that a key always has its place.
pub const URGENT_RESERVE_MESSAGES: usize = 16;
pub const URGENT_RESERVE_BYTES: usize = 64 * 1024;

/// Bulk is gathered this long, in microseconds, or up to this many bytes: each frame costs a turn
/// of three programs, and with half of it a terminal's output came a quarter slower.
pub const GATHER_MAX_US: u64 = 4_000;
pub const GATHER_MAX_BYTES: usize = 32 * 1024;
/// What is as short as the echo of a key is not gathered, so many messages a time.
pub const SHORT_MAX_BYTES: u64 = 256;
pub const SHORT_MAX_MESSAGES: u32 = 16;
/// An acknowledgement that is not urgent waits this long for company, in microseconds (as
/// QUIC's: RFC 9000, 18.2): that of what was made safe a moment later, those of the next keys.
pub const ACK_DELAY_US: u64 = 25_000;
/// It leaves at once after this many frames.
pub const ACK_EVERY_FRAMES: u32 = 8;

/// The retransmission time-out, in microseconds: first, least, most (RFC 6298).
pub const RTO_FIRST_US: u64 = 1_000_000;
pub const RTO_MIN_US: u64 = 200_000;
pub const RTO_MAX_US: u64 = 5_000_000;
/// How often a reset is sent before it counts as heard.
pub const RESET_TRIES_MAX: u32 = 8;
/// After this many time-outs in a row without a word of the peer, only single
/// frames are sent to it until it speaks.
pub const STALLED_AFTER_TIMEOUTS: u32 = 2;
