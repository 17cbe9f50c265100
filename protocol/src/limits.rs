//! Bounds that both ends of a wire must agree on.
//!
//! Each name carries its unit. Bounds of one program alone live with it.

/// The longest MQTT message; a longer one ends the connection (chapter 2).
pub const MQTT_MESSAGE_MAX_BYTES: usize = 128 * 1024;
/// The longest command payload, as JSON: the message around it must fit too.
pub const COMMAND_PAYLOAD_MAX_BYTES: usize = 96 * 1024;
/// The most of a command's stdout or stderr that is kept, each.
pub const OUTPUT_KEPT_MAX_BYTES: usize = 256 * 1024;
/// The most of stdout or stderr in one response; together they fit a message
/// even when JSON writes each byte as six.
pub const OUTPUT_IN_RESPONSE_MAX_BYTES: usize = 8 * 1024;
/// The longest result of a command, as JSON.
pub const RESULT_MAX_BYTES: usize = 48 * 1024;
/// The longest message of an error, in bytes.
pub const ERROR_MESSAGE_MAX_BYTES: usize = 2 * 1024;
/// The longest note on a submission, in characters.
pub const NOTES_MAX_CHARS: usize = 2_000;
/// The longest name of an operation, in bytes.
pub const OPERATION_NAME_MAX_BYTES: usize = 128;
/// Operations that one device may announce.
pub const OPERATIONS_MAX: usize = 512;
/// Devices that are named with an operation that only devices know.
pub const OPERATION_DEVICES_MAX: usize = 100;
/// All that a device tells of its own operations, as JSON; its status must fit a message.
pub const ANNOUNCED_MAX_BYTES: usize = 64 * 1024;
/// The schema of such an operation's form, as JSON, and how deep it may nest.
pub const FORM_SCHEMA_MAX_BYTES: usize = 8 * 1024;
pub const FORM_SCHEMA_MAX_DEPTH: usize = 24;
/// The most devices of one submission.
pub const BATCH_MAX_DEVICES: usize = 10_000;
/// The most commands named in one bulk cancel.
pub const BULK_MAX_COMMANDS: usize = 10_000;
/// The longest body of a request, uploads apart.
pub const HTTP_BODY_MAX_BYTES: usize = 1024 * 1024;
/// The largest page of a listing, in items.
pub const PAGE_MAX_ITEMS: u32 = 1_000;
/// The page of a listing that does not ask, in items.
pub const PAGE_DEFAULT_ITEMS: u32 = 100;
/// What a device may be configured with, as JSON.
pub const CONFIGURATION_MAX_BYTES: usize = 64 * 1024;
/// How deep JSON may nest.
pub const JSON_MAX_DEPTH: usize = 64;
/// Time-out of a command, in seconds: least, default, most.
pub const TIMEOUT_MIN_S: u32 = 1;
pub const TIMEOUT_DEFAULT_S: u32 = 300;
pub const TIMEOUT_MAX_S: u32 = 7 * 24 * 3600;
/// How long a command waits for its device, in seconds: least, default, most.
pub const EXPIRES_MIN_S: u32 = 1;
pub const EXPIRES_DEFAULT_S: u32 = 3600;
pub const EXPIRES_MAX_S: u32 = 30 * 24 * 3600;
/// How long the server waits beyond a command's time-out for the device's word, in milliseconds.
pub const SILENCE_GRACE_MS: i64 = 30_000;
/// How far a device's clock may be off before it is an alert, in milliseconds.
pub const CLOCK_SKEW_MAX_MS: i64 = 30_000;
/// The heartbeat's period, and after how many missed ones a device is stale.
pub const HEARTBEAT_PERIOD_MS: i64 = 30_000;
pub const HEARTBEATS_MISSED_MAX: i64 = 3;
/// Tags of one device: how many, and how long a key and a value, in bytes.
pub const TAGS_MAX: usize = 64;
pub const TAG_KEY_MAX_BYTES: usize = 63;
pub const TAG_VALUE_MAX_BYTES: usize = 255;
/// Submissions to more devices than this need `confirm` (chapter 3).
pub const CONFIRM_OVER_DEVICES: usize = 20;
/// Windows that one live connection may watch at once.
pub const LIVE_WINDOWS_MAX: usize = 32;
/// The most rows of one live window.
pub const LIVE_WINDOW_MAX_ROWS: u32 = 500;
/// A file brought or taken by a command, in bytes.
pub const UPLOAD_MAX_BYTES: u64 = 1024 * 1024 * 1024;
