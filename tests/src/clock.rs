//! The harness's only look at the clock and its only source of randomness.
//!
//! Tests watch real processes, so real time is what they need; it is read here
//! and nowhere else.

use std::time::{Duration, Instant, SystemTime};

/// Reads the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn now() -> Instant {
    Instant::now()
}

/// Reads the wall clock, as time since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Makes a text that nobody else has: 32 hexadecimal digits.
pub fn unique() -> String {
    new_uuid().simple().to_string()
}

/// Makes an id as the server would.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub fn new_uuid() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}
