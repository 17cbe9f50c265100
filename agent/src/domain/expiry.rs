//! How much of a command's life is left, whatever this device's clock shows.
//!
//! The server says when it sent the message and when the command expires, both
//! by its own clock. The difference is the command's remaining life, counted
//! from the receipt on the boot clock: no wall clock of this device is asked.
//! Only a message without `sent_at` is compared with the wall clock.

use quarterdeck_protocol::{command::CommandMessage, limits::EXPIRES_MAX_S, time::Timestamp};

use super::Moment;

/// No command lives longer than this after its receipt, in milliseconds.
const LIFE_MAX_MS: i64 = EXPIRES_MAX_S as i64 * 1000;

/// Says when a command received now may no longer start; the past when it is late already.
pub fn deadline(message: &CommandMessage, wall: Timestamp, now: Moment) -> Moment {
    let seen_from = message.sent_at.unwrap_or(wall);
    let life_ms = message.expires_at.millis_since(seen_from).min(LIFE_MAX_MS);
    now.plus_millis(life_ms)
}

/// Carries a deadline over to another boot of the host, whose boot clock began
/// anew: what was left at `noted` is lessened by what the wall clock says has
/// passed, or by nothing if that clock went back.
pub fn carried_over(left_ms: i64, noted_wall: Timestamp, wall: Timestamp, now: Moment) -> Moment {
    let passed_ms = wall.millis_since(noted_wall).max(0);
    now.plus_millis(left_ms.saturating_sub(passed_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(sent_at: Option<&str>) -> CommandMessage {
        let mut value = json!({
            "schema_version": "1.0", "command_id": "018f0000-0000-7000-8000-000000000001",
            "type": "ping", "issued_at": "2026-11-21T06:00:00Z",
            "expires_at": "2026-11-21T07:00:00Z"
        });
        if let Some(at) = sent_at {
            value["sent_at"] = json!(at);
        }
        serde_json::from_value(value).expect("valid")
    }

    #[test]
    fn a_wrong_device_clock_neither_expires_nor_revives_anything() {
        let now = Moment::from_millis(5_000);
        for wall in ["1970-01-01T00:00:00Z", "2026-11-21T06:30:00Z", "2099-01-01T00:00:00Z"] {
            let wall = wall.parse().expect("valid");
            let sent = message(Some("2026-11-21T06:30:00Z"));
            assert_eq!(deadline(&sent, wall, now), now.plus_millis(1_800_000), "alive at {wall}");
            let late = message(Some("2026-11-21T07:00:01Z"));
            assert_eq!(deadline(&late, wall, now), now.plus_millis(-1_000), "late at {wall}");
        }
    }

    #[test]
    fn without_the_time_of_sending_the_wall_clock_decides() {
        let now = Moment::from_millis(0);
        let wall = "2026-11-21T06:59:59Z".parse().expect("valid");
        assert_eq!(deadline(&message(None), wall, now), Moment::from_millis(1_000));
    }

    #[test]
    fn a_reboot_takes_from_the_remaining_life_what_the_wall_clock_says() {
        let noted = Timestamp::from_millis(1_000_000);
        let now = Moment::from_millis(7);
        for (wall_ms, left_ms) in [(1_000_000, 500), (1_000_200, 300), (1_000_900, -400), (0, 500)]
        {
            let wall = Timestamp::from_millis(wall_ms);
            assert_eq!(carried_over(500, noted, wall, now), now.plus_millis(left_ms), "{wall_ms}");
        }
    }
}
