//! What a device tells of operations that it has from workflow files (chapter 4).
//!
//! Their names stand in `capabilities` of its status, with those of all its
//! operations; what more there is to say of them stands beside, in
//! `operations`. It comes from a device, so nothing of it is believed: a card
//! that is not as described here is left out, and the operation is then known
//! by its name alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Operation, OperationSource};
use crate::limits::{
    ANNOUNCED_MAX_BYTES, FORM_SCHEMA_MAX_BYTES, FORM_SCHEMA_MAX_DEPTH, OPERATION_NAME_MAX_BYTES,
};

/// The longest `title`, in characters.
pub const TITLE_MAX_CHARS: usize = 80;
/// The longest `description`, in characters.
pub const DESCRIPTION_MAX_CHARS: usize = 1_000;
/// The longest `icon`, in characters; one sign may take several.
pub const ICON_MAX_CHARS: usize = 8;
/// How long an operation takes of which nobody says how long, in seconds.
pub const ESTIMATED_DURATION_DEFAULT_S: u32 = 60;

/// What a device tells of one operation of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnouncedOperation {
    /// As in `capabilities`.
    pub name: String,
    /// For people; at most 80 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// At most 1,000 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// At most 8 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub icon: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_duration_s: Option<u32>,
    /// JSON Schema of the payload, with `"type": "object"`; at most 8 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form_schema: Option<Value>,
    /// Needs to be confirmed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dangerous: bool,
    /// Takes the host down: counted by the reboot lockout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboots: bool,
}

/// Says why a card is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operations[{index}]{field}: {expected}")]
pub struct InvalidAnnouncement {
    pub index: usize,
    /// `.title`; empty where it is the card as a whole.
    pub field: &'static str,
    pub expected: String,
}

impl AnnouncedOperation {
    /// Tells of an operation what `status` can carry.
    pub fn of(operation: &Operation) -> Self {
        Self {
            name: operation.name.clone(),
            title: operation.title.clone(),
            description: operation.description.clone(),
            icon: operation.icon.clone(),
            estimated_duration_s: Some(operation.estimated_duration_s),
            form_schema: Some(operation.form_schema.clone()),
            dangerous: operation.dangerous,
            reboots: operation.reboots,
        }
    }

    /// Describes it as the console shows it.
    pub fn to_operation(&self, device_count: u64) -> Operation {
        let or = |text: &str, default: &str| {
            if text.is_empty() { default.to_owned() } else { text.to_owned() }
        };
        Operation {
            name: self.name.clone(),
            title: or(&self.title, &self.name.replace(['_', '-'], " ")),
            description: or(&self.description, "Announced by devices, from a workflow file there."),
            icon: or(&self.icon, "◇"),
            estimated_duration_s: self.estimated_duration_s.unwrap_or(ESTIMATED_DURATION_DEFAULT_S),
            form_schema: self.form_schema.clone().unwrap_or_else(any_payload),
            dangerous: self.dangerous,
            reboots: self.reboots,
            source: OperationSource::Device,
            device_count,
            devices: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let is_name = !self.name.is_empty()
            && self.name.len() <= OPERATION_NAME_MAX_BYTES
            && !self.name.contains('\0');
        if !is_name {
            return Err((".name", format!("expected 1 to {OPERATION_NAME_MAX_BYTES} bytes")));
        }
        for (field, text, most) in [
            (".title", &self.title, TITLE_MAX_CHARS),
            (".description", &self.description, DESCRIPTION_MAX_CHARS),
            (".icon", &self.icon, ICON_MAX_CHARS),
        ] {
            if text.chars().count() > most || text.contains('\0') {
                return Err((field, format!("expected at most {most} characters, none NUL")));
            }
        }
        self.form_schema.as_ref().map_or(Ok(()), |schema| {
            check_form_schema(schema).map_err(|expected| (".form_schema", expected))
        })
    }
}

/// The form of an operation that describes none: any object.
pub fn any_payload() -> Value {
    json!({ "type": "object", "additionalProperties": true })
}

/// Checks that a form's schema is one that travels and is drawn.
///
/// # Errors
///
/// What was expected instead.
pub fn check_form_schema(schema: &Value) -> Result<(), String> {
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err("expected a JSON Schema with \"type\": \"object\"".to_owned());
    }
    if is_deeper(schema, FORM_SCHEMA_MAX_DEPTH) {
        return Err(format!("expected at most {FORM_SCHEMA_MAX_DEPTH} levels"));
    }
    let size = serde_json::to_vec(schema).map_or(usize::MAX, |text| text.len());
    if size > FORM_SCHEMA_MAX_BYTES {
        return Err(format!("expected at most {FORM_SCHEMA_MAX_BYTES} bytes, found {size}"));
    }
    Ok(())
}

fn is_deeper(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(items) => depth == 0 || items.iter().any(|item| is_deeper(item, depth - 1)),
        Value::Object(fields) => {
            depth == 0 || fields.values().any(|field| is_deeper(field, depth - 1))
        }
        _ => false,
    }
}

/// Reads `operations` of a status: the good cards, each name once, and what is wrong with the others.
pub fn read(cards: &[Value]) -> (Vec<AnnouncedOperation>, Vec<InvalidAnnouncement>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for (index, card) in cards.iter().enumerate() {
        let invalid = |field, expected| InvalidAnnouncement { index, field, expected };
        bytes += serde_json::to_vec(card).map_or(usize::MAX / 2, |text| text.len());
        if bytes > ANNOUNCED_MAX_BYTES {
            let expected = format!("expected at most {ANNOUNCED_MAX_BYTES} bytes in all");
            bad.push(invalid("", expected));
            break;
        }
        if !card.is_object() {
            bad.push(invalid("", "expected an object".to_owned()));
            continue;
        }
        let card = match AnnouncedOperation::deserialize(card) {
            Ok(card) => card,
            Err(error) => {
                bad.push(invalid("", error.to_string()));
                continue;
            }
        };
        if let Err((field, expected)) = card.check() {
            bad.push(invalid(field, expected));
        } else if good.iter().any(|known: &AnnouncedOperation| known.name == card.name) {
            bad.push(invalid(".name", "expected each name once".to_owned()));
        } else {
            good.push(card);
        }
    }
    (good, bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(mut fields: Value) -> Value {
        let named = fields.as_object_mut().expect("an object");
        named.entry("name").or_insert_with(|| json!("flash"));
        fields
    }

    #[test]
    fn a_card_is_read_as_it_was_written() {
        let operation = AnnouncedOperation {
            name: "flash".to_owned(),
            title: "Flash".to_owned(),
            form_schema: Some(json!({ "type": "object" })),
            dangerous: true,
            ..AnnouncedOperation::default()
        }
        .to_operation(0);
        let written = serde_json::to_value(AnnouncedOperation::of(&operation)).expect("plain data");
        let (good, bad) = read(&[written]);
        assert_eq!((good[0].to_operation(0), bad), (operation, vec![]));
    }

    #[test]
    fn what_a_card_leaves_out_has_a_default() {
        let (good, _) = read(&[json!({ "name": "my_flash" })]);
        let operation = good[0].to_operation(3);
        assert_eq!((&*operation.title, operation.device_count), ("my flash", 3));
        assert_eq!(operation.form_schema, any_payload());
        assert!(!operation.dangerous && !operation.reboots);
    }

    #[test]
    fn a_card_that_is_not_as_described_is_left_out_and_told() {
        let mut deep = json!({ "type": "object" });
        for _ in 0..40 {
            deep = json!({ "type": "object", "properties": { "a": deep } });
        }
        for (wrong, told) in [
            (json!([]), "operations[0]: expected an object"),
            (json!(["a", "", "", "", 1, {}, true, true]), "operations[0]: expected an object"),
            (json!({}), "operations[0]: missing field `name`"),
            (card(json!({ "name": "" })), "operations[0].name: expected 1 to"),
            (card(json!({ "name": "x".repeat(200) })), "operations[0].name: expected 1 to"),
            (card(json!({ "title": "x".repeat(81) })), "operations[0].title: expected at most 80"),
            (card(json!({ "description": "x\u{0}" })), "operations[0].description: expected"),
            (card(json!({ "icon": "123456789" })), "operations[0].icon: expected at most 8"),
            (card(json!({ "dangerous": "no" })), "operations[0]: invalid type"),
            (card(json!({ "estimated_duration_s": -1 })), "operations[0]: invalid value"),
            (card(json!({ "form_schema": { "type": "string" } })), "operations[0].form_schema:"),
            (card(json!({ "form_schema": deep })), "operations[0].form_schema: expected at most"),
            (
                card(json!({ "form_schema": { "type": "object", "title": "x".repeat(9_000) } })),
                "operations[0].form_schema: expected at most 8192 bytes",
            ),
        ] {
            let (good, bad) = read(&[wrong.clone(), json!({ "name": "fine" })]);
            assert_eq!(good.len(), 1, "{wrong}");
            assert!(bad[0].to_string().starts_with(told), "{} for {wrong}", bad[0]);
        }
        let (good, bad) = read(&[json!({ "name": "a" }), json!({ "name": "a" })]);
        assert_eq!((good.len(), bad.len()), (1, 1));
    }

    #[test]
    fn cards_beyond_the_bound_of_all_are_left_out() {
        let big =
            |n: usize| card(json!({ "name": format!("op{n}"), "description": "x".repeat(999) }));
        let cards: Vec<Value> = (0..100).map(big).collect();
        let (good, bad) = read(&cards);
        assert!((50..70).contains(&good.len()) && bad.len() == 1, "{} {bad:?}", good.len());
    }
}
