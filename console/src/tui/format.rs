//! Numbers and times as people read them.

use quarterdeck_protocol::time::Timestamp;

/// An age in whole seconds, minutes, hours or days: `12s`, `5m`, `3h`, `2d`.
pub fn age_ms(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The age of an instant, `-` for none. What lies ahead is `0s`.
pub fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "-".to_owned(), |at| age_ms(now.millis_since(at)))
}

/// How long something took or takes: `<1ms`, `41ms`, `2.1s`, `12s`, `3m 05s`, `2h 10m`.
pub fn duration_ms(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms / 1000;
    match seconds {
        // No clock of ours tells less than a millisecond apart.
        _ if ms == 0 => "<1ms".to_owned(),
        0 => format!("{ms}ms"),
        ..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A count with its thousands apart: `12 791`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `1 device`, `2 devices`.
pub fn plural(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Bytes: `812 B`, `4.2 KB`, `37 MB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 10.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A share in percent with one decimal, `0 %` for none of none.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

/// Absolute, UTC: `2026-11-21 06:14:52 UTC`.
pub fn utc(at: Timestamp) -> String {
    jiff::Timestamp::from(at).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The time of day, UTC: `06:14:52`.
pub fn clock(at: Timestamp) -> String {
    jiff::Timestamp::from(at).strftime("%H:%M:%S").to_string()
}

/// Absolute, UTC and local, as details show it; once where both are the same.
pub fn utc_and_local(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    let local = jiff::Timestamp::from(at).to_zoned(zone.clone());
    if local.offset().is_zero() {
        return utc(at);
    }
    format!("{} ({})", utc(at), local.strftime("%H:%M:%S %Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_whole_and_short() {
        for (ms, shown) in [
            (-5, "0s"),
            (999, "0s"),
            (12_400, "12s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (3_599_999, "59m"),
            (10_800_000, "3h"),
            (172_800_000, "2d"),
        ] {
            assert_eq!(age_ms(ms), shown);
        }
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (n, shown) in [(0, "0"), (999, "999"), (1_000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(count(n), shown);
        }
        assert_eq!(bytes(4_200), "4.2 KB");
        assert_eq!(duration_ms(0), "<1ms");
        assert_eq!(duration_ms(41), "41ms");
        assert_eq!(duration_ms(185_000), "3m 05s");
        assert_eq!(percent(1, 3), "33.3 %");
    }

    #[test]
    fn details_say_utc_and_local() {
        let at: Timestamp = "2026-11-21T06:14:52Z".parse().expect("valid");
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(utc_and_local(at, &zone), "2026-11-21 06:14:52 UTC (07:14:52 +01)");
        assert_eq!(utc_and_local(at, &jiff::tz::TimeZone::UTC), "2026-11-21 06:14:52 UTC");
    }
}
