//! What serde says of a value that does not fit, in words of who sent it: of JSON, not of Rust.

/// Puts a message into words: without "at line 1 column 17", which nobody counts, and without the
/// names and bounds of types. The range that a number must be in is told by who checks it.
pub(super) fn of(message: &str) -> String {
    let message = message.rfind(" at line ").map_or(message, |end| &message[..end]);
    if let Some((found, expected)) = split(message, "invalid type: ") {
        let wanted = wanted(expected);
        return format!("expected {wanted}, not {}", given(found, wanted));
    }
    if let Some((found, expected)) = split(message, "invalid value: ") {
        let is_number = expected.starts_with(['u', 'i', 'f']) && wanted(expected) != expected;
        return if is_number {
            let number = found.split('`').nth(1).unwrap_or(found);
            format!("{number} is out of range")
        } else {
            format!("expected {}", wanted(expected))
        };
    }
    message.to_owned()
}

fn split<'a>(message: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(start)?.rsplit_once(", expected ")
}

fn wanted(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a map" => "an object",
        "a sequence" => "an array",
        "a string" | "a borrowed string" | "variant identifier" => "a text",
        "a boolean" => "true or false",
        _ if expected.starts_with("struct ") || expected.contains(" tagged enum ") => "an object",
        _ if expected.starts_with("enum ") => "a text",
        _ => expected,
    }
}

fn given<'a>(found: &'a str, wanted: &str) -> &'a str {
    match found.split([' ', '`']).next().unwrap_or_default() {
        "string" | "character" => "a text",
        "integer" | "floating" if wanted.ends_with("number") => "a number of another kind",
        "integer" | "floating" => "a number",
        "boolean" => "true or false",
        "map" => "an object",
        "sequence" => "an array",
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_speaks_of_json() {
        for (message, words) in [
            (
                r#"invalid type: string "5", expected u8 at line 1 column 9"#,
                "expected a whole number, not a text",
            ),
            ("invalid type: null, expected struct Targets", "expected an object, not null"),
            ("invalid type: integer `1`, expected a string", "expected a text, not a number"),
            ("invalid type: map, expected a sequence", "expected an array, not an object"),
            ("invalid type: sequence, expected a map", "expected an object, not an array"),
            (
                r#"invalid type: string "a, expected b", expected a boolean"#,
                "expected true or false, not a text",
            ),
            (
                "invalid type: floating point `5.5`, expected u8",
                "expected a whole number, not a number of another kind",
            ),
            ("invalid value: integer `-1`, expected u32", "-1 is out of range"),
            (r#"invalid value: string "x", expected a device's id"#, "expected a device's id"),
            ("missing field `targets`", "missing field `targets`"),
        ] {
            assert_eq!(of(message), words);
        }
    }
}
