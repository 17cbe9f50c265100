//! The named bounds of the MQTT seam.
//!
//! Over each of them the answer is an explicit error, backpressure or the end
//! of the connection, never growth (chapter 9).

use quarterdeck_protocol::tunnel::limits::TUNNEL_FLIGHT_MAX_MESSAGES;

/// Events that may wait for the engine; a full channel holds the devices back.
pub const INBOUND_MAX_EVENTS: usize = 8_192;
/// Of these, of tunnels, which go by themselves: frames of up to 128 KiB.
pub const TUNNELS_INBOUND_MAX_EVENTS: usize = 256;
/// Payloads above this draw on [`INBOUND_LARGE_MAX_BYTES`]; those below are bounded by the count of events.
pub const INBOUND_SMALL_MAX_BYTES: usize = 4 * 1024;
/// All large payloads together that may wait for the engine, in bytes.
pub const INBOUND_LARGE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Messages that may wait for one connection of a device: more than its ten
/// tunnels may have under way (`tunnels/limits`).
pub const DEVICE_QUEUE_MAX_MESSAGES: usize = 1_024;
/// Payloads that may wait for one connection of a device, together, in bytes.
pub const DEVICE_QUEUE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Of these, kept free of what is said at most once: for commands, and for the words on tunnels.
pub const DEVICE_QUEUE_RESERVED_MESSAGES: usize = 256;
pub const DEVICE_QUEUE_RESERVED_BYTES: usize = 1024 * 1024;
/// Messages said at most once that one sender may have waiting: four times what a tunnel that keeps
/// to its bounds has under way.
pub const DEVICE_QUEUE_SENDER_MAX_MESSAGES: usize = 4 * TUNNEL_FLIGHT_MAX_MESSAGES;
/// Messages to one device that may be sent and not yet acknowledged by it.
pub const DEVICE_INFLIGHT_MAX_MESSAGES: u16 = 32;

/// Messages of one device that may wait for their commit; over it nothing more is read from it.
pub const ACKS_HELD_MAX: usize = 256;
/// QoS 2 messages of one device that it has not released; over it its connection ends.
pub const UNRELEASED_MAX: usize = 4_096;
/// Filters in one SUBSCRIBE or UNSUBSCRIBE; a device has four topics to hear.
pub const FILTERS_MAX: usize = 16;
/// What a log says of a text that somebody else wrote, in bytes.
pub const LOGGED_MAX_BYTES: usize = 120;
/// What is read from a connection at once, in bytes.
pub const READ_AT_ONCE_BYTES: usize = 4 * 1024;
/// What may wait to be written to a connection before no more is put to it, in bytes.
pub const WRITE_WAITING_MAX_BYTES: usize = 64 * 1024;

/// Devices that may be connected at once.
pub const CONNECTIONS_MAX: usize = 50_000;
/// Sessions, those whose device is away included.
pub const SESSIONS_MAX: usize = 2 * CONNECTIONS_MAX;
/// How long a session is kept whose device is away, in seconds.
pub const SESSION_KEPT_MAX_S: u64 = 2 * 3_600;
/// Connections that may be open without having signed in; over it the oldest is closed.
pub const SIGN_IN_MAX_CONNECTIONS: usize = 4_096;
/// How long a connection may take from being accepted to a complete CONNECT, in milliseconds.
pub const SIGN_IN_TIMEOUT_MS: u64 = 10_000;
/// The longest CONNECT, its last will included, in bytes.
pub const SIGN_IN_PACKET_MAX_BYTES: usize = 16 * 1024;
/// Devices whose secret is being checked, or waits for that.
pub const SIGN_INS_MAX: usize = 16 * 1024;
/// How often the broker says late last wills and forgets sessions whose time is over, in milliseconds.
pub const SWEEP_PERIOD_MS: u64 = 2_000;
/// Sign-ins whose secret is checked at once.
pub const AUTHENTICATIONS_MAX: usize = 16;
/// How long a connection's takeover waits for the former one's end, in milliseconds.
pub const TAKE_OVER_TIMEOUT_MS: u64 = 5_000;
/// How long the broker waits before it accepts again when it could not, in milliseconds.
pub const ACCEPT_AGAIN_MS: u64 = 200;
/// Connections that the kernel may hold until they are accepted.
pub const BACKLOG_MAX_CONNECTIONS: u32 = 4_096;
/// What an MQTT packet may be longer than its payload: topic, ids and properties, in bytes.
pub const PACKET_OVERHEAD_MAX_BYTES: usize = 4 * 1024;
/// How long a write to a device may stall before its connection is given up, in milliseconds.
pub const SEND_TIMEOUT_MS: u64 = 10_000;
/// How long a device is given to take the word that its connection ends, in milliseconds.
pub const PARTING_TIMEOUT_MS: u64 = 20;
/// How long closing all connections may take, in milliseconds.
pub const SHUTDOWN_TIMEOUT_MS: u64 = 5_000;

/// Messages of an external broker that are handed to the engine and not yet acknowledged.
pub const EXTERNAL_INFLIGHT_MAX_MESSAGES: u16 = 1_024;
/// Messages that an external broker was sent and has not acknowledged: as many as Mosquitto takes
/// of one client by default. Over it brokers drop messages, or end the connection.
pub const EXTERNAL_SPOKEN_MAX_MESSAGES: u16 = 20;
/// Publishes that may wait for the connection to an external broker.
pub const EXTERNAL_QUEUE_MAX_MESSAGES: usize = 4_096;
/// Frames of tunnels that may wait for the connection to an external broker; more are lost, and
/// sent again.
pub const EXTERNAL_FRAMES_MAX_MESSAGES: usize = 1_024;
/// The longest packet read from an external broker, in bytes; over it the connection breaks.
pub const EXTERNAL_PACKET_MAX_BYTES: usize = 8 * 1024 * 1024;
/// The keep-alive with an external broker, in seconds.
pub const EXTERNAL_KEEP_ALIVE_S: u64 = 30;
/// Messages of our own that are remembered until the broker sends them back to us.
pub const EXTERNAL_ECHOES_MAX: usize = 1_024;
/// The first and the longest wait before connecting to an external broker again, in milliseconds.
pub const RECONNECT_FIRST_MS: u64 = 200;
pub const RECONNECT_MAX_MS: u64 = 30_000;
