//! Values on the command line that have a unit: spans, moments, `key=value`.

use std::{str::FromStr, time::Duration};

use quarterdeck_protocol::time::Timestamp;

use crate::net::clock;

/// A span of time: `90`, `90s`, `15m`, `2h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub seconds: u64,
}

impl Span {
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The span as the API takes it; `None` when it is longer than that can say.
    pub fn seconds_u32(self) -> Option<u32> {
        u32::try_from(self.seconds).ok()
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected seconds, or a number with s, m, h or d, such as 90s or 2h".to_owned();
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let factor = match &text[digits.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            _ => return Err(expected()),
        };
        let number: u64 = digits.parse().map_err(|_| expected())?;
        number.checked_mul(factor).map(|seconds| Self { seconds }).ok_or_else(expected)
    }
}

impl<'de> serde::Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A moment: RFC 3339, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self(at));
        }
        let ago = Span::from_str(text).ok().and_then(|span| i64::try_from(span.seconds).ok());
        ago.map(|ago| Self(clock::now().plus_seconds(-ago))).ok_or_else(|| {
            "expected a moment such as 2026-11-21T06:00:00Z, or how long ago, such as 2h".to_owned()
        })
    }
}

/// `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub key: String,
    pub value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err("expected key=value, such as site=fra1".to_owned()),
        }
    }
}

/// Says a span in one or two units: `42s`, `5m 12s`, `3h 7m`, `2d 4h`.
pub fn short_span(millis: i64) -> String {
    let seconds = (millis / 1000).max(0);
    let two = |big: i64, big_unit: char, small: i64, small_unit: char| {
        if small == 0 {
            format!("{big}{big_unit}")
        } else {
            format!("{big}{big_unit} {small}{small_unit}")
        }
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3600..86_400 => two(seconds / 3600, 'h', seconds % 3600 / 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds % 86_400 / 3600, 'h'),
    }
}

/// Says how long ago something was, in whole units of one kind: for tables.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = (now.millis_since(at) / 1000).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Says a moment in UTC, in local time and as an age: for details.
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    let utc = jiff::Timestamp::from(at);
    let local = utc.to_zoned(jiff::tz::TimeZone::system());
    let relative = if at > now {
        format!("in {}", short_span(at.millis_since(now)))
    } else {
        format!("{} ago", short_span(now.millis_since(at)))
    };
    format!(
        "{} UTC  ({} local, {relative})",
        utc.strftime("%Y-%m-%d %H:%M:%S"),
        local.strftime("%Y-%m-%d %H:%M:%S")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit_or_is_seconds() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("15s", 15), ("5m", 300), ("2h", 7200), ("7d", 604_800)]
        {
            assert_eq!(text.parse(), Ok(Span { seconds }), "{text}");
        }
        for bad in ["", "s", "-5", "5 m", "1.5h", "5w", "99999999999999999999", "9999999999999999d"]
        {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_moment_is_absolute_or_ago() {
        let absolute: Moment = "2026-11-21T06:00:00Z".parse().expect("valid");
        assert_eq!(absolute.0.to_string(), "2026-11-21T06:00:00.000Z");
        let ago: Moment = "2h".parse().expect("valid");
        let off = clock::now().millis_since(ago.0) - 7_200_000;
        assert!((0..60_000).contains(&off), "{off}");
        assert!("yesterday".parse::<Moment>().is_err());
    }

    #[test]
    fn ages_are_short() {
        let now = Timestamp::from_millis(1_000_000_000);
        for (ago_s, shown) in [(0, "0s"), (59, "59s"), (61, "1m"), (7200, "2h"), (200_000, "2d")] {
            assert_eq!(age(now.plus_seconds(-ago_s), now), shown);
        }
        assert_eq!(short_span(312_000), "5m 12s");
        assert_eq!(short_span(3_600_000), "1h");
    }
}
