//! Checks a payload against the form of an operation that only its devices know.
//!
//! Of JSON Schema this knows what a form asks for: `required`, and of each
//! property `type`, `enum`, `minimum`, `maximum`, `minLength`, `maxLength`; and
//! `additionalProperties: false`. What else a schema says is for the device to
//! check: a payload that passes here may still be refused there.

use serde_json::{Map, Value};

use crate::payload::InvalidPayload;

/// Checks what a form would have asked for.
///
/// # Errors
///
/// The first field that is missing, unknown or of another kind.
pub fn check_payload(schema: &Value, payload: &Value) -> Result<(), InvalidPayload> {
    let empty = Map::new();
    let given = payload.as_object().unwrap_or(&empty);
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !given.contains_key(name) {
            return Err(InvalidPayload::new(name, "is missing"));
        }
    }
    for (name, value) in given {
        match properties.get(name) {
            Some(property) => {
                check_value(property, value).map_err(|e| InvalidPayload::new(name, e))?;
            }
            None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                return Err(InvalidPayload::new(name, "there is no such field"));
            }
            None => {}
        }
    }
    Ok(())
}

fn check_value(property: &Value, value: &Value) -> Result<(), String> {
    let kinds: Vec<&str> = match property.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(kind, value)) {
        return Err(format!("expected {}", kinds.join(" or ")));
    }
    if let Some(choices) = property.get("enum").and_then(Value::as_array)
        && !choices.contains(value)
    {
        let choices: Vec<String> = choices.iter().take(20).map(ToString::to_string).collect();
        return Err(format!("expected one of {}", choices.join(", ")));
    }
    let bound = |name: &str| property.get(name).and_then(Value::as_f64);
    let size = match value {
        Value::Number(number) => number.as_f64().map(|size| (size, "minimum", "maximum", "")),
        Value::String(text) => {
            Some((text.chars().count() as f64, "minLength", "maxLength", " characters"))
        }
        _ => None,
    };
    let Some((size, least, most, unit)) = size else { return Ok(()) };
    match (bound(least), bound(most)) {
        (Some(least), _) if size < least => Err(format!("expected at least {least}{unit}")),
        (_, Some(most)) if size > most => Err(format!("expected at most {most}{unit}")),
        _ => Ok(()),
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        // A kind that no JSON Schema has: nothing can be said.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_payload_is_checked_for_what_its_form_asks() {
        let schema = json!({
            "type": "object", "required": ["url"], "additionalProperties": false,
            "properties": {
                "url": { "type": "string", "minLength": 1, "maxLength": 9 },
                "slot": { "enum": ["a", "b"] },
                "tries": { "type": ["integer", "null"], "minimum": 1, "maximum": 5 },
                "share": { "type": "number" }, "force": { "type": "boolean" },
                "odd": { "type": "wish" }, "any": {},
            },
        });
        for (payload, told) in [
            (json!({ "url": "u", "slot": "a", "tries": 5, "share": 0.5, "force": true }), ""),
            (json!({ "url": "u", "tries": null, "odd": 1, "any": [1], "share": 2 }), ""),
            (json!({ "url": "u", "tries": 2.0 }), ""),
            (json!({}), "payload.url: is missing"),
            (json!(null), "payload.url: is missing"),
            (json!({ "url": 5 }), "payload.url: expected string"),
            (json!({ "url": "" }), "payload.url: expected at least 1 characters"),
            (json!({ "url": "0123456789" }), "payload.url: expected at most 9 characters"),
            (json!({ "url": "u", "slot": "c" }), "payload.slot: expected one of \"a\", \"b\""),
            (json!({ "url": "u", "tries": 2.5 }), "payload.tries: expected integer or null"),
            (json!({ "url": "u", "tries": 0 }), "payload.tries: expected at least 1"),
            (json!({ "url": "u", "tries": 6 }), "payload.tries: expected at most 5"),
            (json!({ "url": "u", "force": 1 }), "payload.force: expected boolean"),
            (json!({ "url": "u", "ulr": 1 }), "payload.ulr: there is no such field"),
        ] {
            let said = check_payload(&schema, &payload).err().map(|e| e.to_string());
            assert_eq!(said.unwrap_or_default(), told, "{payload}");
        }
    }

    #[test]
    fn a_schema_that_makes_no_sense_refuses_nothing() {
        for schema in [
            json!({ "type": "object", "required": "url", "properties": [1] }),
            json!({ "properties": { "url": 5 } }),
            json!({ "properties": { "url": { "type": 5, "enum": 1, "minimum": "x" } } }),
        ] {
            assert_eq!(check_payload(&schema, &json!({ "url": "u" })), Ok(()), "{schema}");
        }
    }
}
