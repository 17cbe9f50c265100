//! Whether a device's clock is off (chapter 3): it decides nothing, but people must know.

use quarterdeck_protocol::{limits::CLOCK_SKEW_MAX_MS, time::Timestamp};

/// How far a device's clock is ahead of the server's, in milliseconds, by a message that was just made.
pub const fn offset_ms(device: Timestamp, server: Timestamp) -> i64 {
    device.millis_since(server)
}

/// Whether an offset is worth an alert.
pub const fn is_off(offset_ms: i64) -> bool {
    offset_ms.unsigned_abs() > CLOCK_SKEW_MAX_MS.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_thirty_seconds_in_either_direction_is_off() {
        for (offset, off) in [
            (0, false),
            (30_000, false),
            (-30_000, false),
            (30_001, true),
            (-30_001, true),
            (i64::MIN, true),
        ] {
            assert_eq!(is_off(offset), off, "{offset}");
        }
    }
}
