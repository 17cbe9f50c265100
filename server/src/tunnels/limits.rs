//! The named bounds of tunnels; those of the streams are in `protocol/src/tunnel/limits.rs`.

use quarterdeck_protocol::tunnel::{Flight, limits};

/// What an owner may have under way to the device. Ten owners, and our own
/// acknowledgements, fit the queue of a device's connection (`mqtt/limits.rs`).
pub const OWNER_FLIGHT: Flight =
    Flight { messages: limits::TUNNEL_FLIGHT_MAX_MESSAGES, bytes: limits::TUNNEL_FLIGHT_MAX_BYTES };
/// What a co-pilot may: keys.
pub const COPILOT_FLIGHT: Flight = Flight { messages: 16, bytes: 64 * 1024 };
/// Watchers and co-pilots of one terminal.
pub const WATCHERS_MAX: usize = 16;
/// Output in one frame to a console, in bytes: short, so that an urgent word waits little.
pub const CONSOLE_FRAME_MAX_BYTES: u64 = 16 * 1024;
/// How often a device that says nothing in a terminal is asked whether it is there, in milliseconds.
pub const KEEP_ALIVE_MS: u64 = 5_000;
/// A terminal whose device was not heard for so long is stalled, in milliseconds.
pub const SILENT_MS: u64 = 8_000;
/// Words other than output that may wait for a console.
pub const WORDS_MAX: usize = 64;
