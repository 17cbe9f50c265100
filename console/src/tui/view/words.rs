//! Values of JSON as people read them: `exit 1`, `memory 8.2 GB`, `took 1.5s`, not the fields of the API.
//!
//! The unit is the end of a name (`_bytes`, `_mb`, `_ms`, `_s`, `_percent`), so what devices and workflows name
//! in the same way is read in the same way.

use serde_json::Value;

use crate::tui::format;

/// An object's fields on one line, nothing for nothing: `script failed, exit 1`.
pub fn line(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            // By name: in which order they come hangs on how serde_json was built.
            let mut said: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            said.sort_unstable_by_key(|(name, _)| *name);
            let phrases: Vec<_> =
                said.into_iter().map(|(name, value)| phrase(name, value)).collect();
            phrases.join(", ")
        }
        other => shown(other),
    }
}

/// A name and its value apart: `memory_bytes: 8200000000` is `memory` and `8.2 GB`.
pub fn named(name: &str, value: &Value) -> (String, String) {
    for (unit, read) in UNITS {
        if let Some(what) = name.strip_suffix(unit).filter(|what| !what.is_empty())
            && let Some(text) = read(value)
        {
            return (spaced(what), text);
        }
    }
    (spaced(name), shown(value))
}

type Read = fn(&Value) -> Option<String>;

const UNITS: [(&str, Read); 5] = [
    ("_bytes", |value| value.as_u64().map(format::bytes)),
    ("_mb", |value| value.as_u64()?.checked_mul(1_000_000).map(format::bytes)),
    ("_percent", |value| value.as_f64().map(|n| format!("{n} %"))),
    ("_ms", |value| value.as_i64().map(format::duration_ms)),
    ("_s", |value| value.as_i64()?.checked_mul(1_000).map(format::duration_ms)),
];

fn phrase(name: &str, value: &Value) -> String {
    match (name, value) {
        ("exit_code", Value::Number(code)) => format!("exit {code}"),
        // What they say needs no name.
        ("error_code" | "why" | "reason" | "step", Value::String(text)) => spaced(text),
        ("error_message", Value::String(text)) => text.clone(),
        ("progress", Value::Number(n)) => format!("{n} %"),
        ("qos", Value::Number(n)) => format!("QoS {n}"),
        _ => {
            let (name, value) = named(name, value);
            format!("{name} {value}")
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A word of the API with spaces; what is not one, such as a path, stays as it is.
fn spaced(text: &str) -> String {
    let is_word = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if is_word { text.replace('_', " ") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_happened_is_said_in_words() {
        for (value, said) in [
            (json!(null), ""),
            (json!({}), ""),
            (json!({"exit_code": null}), ""),
            (json!({"error_code": "script_failed", "exit_code": 1}), "script failed, exit 1"),
            (json!({"why": "no_answer", "status": "completed"}), "status completed, no answer"),
            (json!({"progress": 40, "step": "installing"}), "40 %, installing"),
            (json!({"error_message": "no such file: a_b"}), "no such file: a_b"),
            (json!({"boot_id": "5f3a_B"}), "boot id 5f3a_B"),
            (json!({"took_ms": 1_500, "timeout_s": 90}), "timeout 1m 30s, took 1.5s"),
            (json!({"retained": false, "list": [1]}), "list [1], retained no"),
            (json!("free text_here"), "free text_here"),
        ] {
            assert_eq!(line(&value), said, "{value}");
        }
    }

    #[test]
    fn a_unit_is_read_of_what_is_a_number_alone() {
        for (name, value, expected) in [
            ("memory_bytes", json!(8_200_000_000_u64), ("memory", "8.2 GB")),
            ("memory_mb", json!(3_906), ("memory", "3.9 GB")),
            ("memory_bytes", json!("many"), ("memory bytes", "many")),
            ("cpu_percent", json!(12.5), ("cpu", "12.5 %")),
            ("uptime_s", json!(i64::MAX), ("uptime s", "9223372036854775807")),
            ("_s", json!(1), (" s", "1")),
            ("Model.Name_s", json!(true), ("Model.Name_s", "yes")),
        ] {
            let (name, value) = named(name, &value);
            assert_eq!((name.as_str(), value.as_str()), expected);
        }
    }
}
