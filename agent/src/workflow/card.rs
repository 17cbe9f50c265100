//! What the console is told of a workflow's operation: the file `<operation>.json`
//! beside the workflow, all of it optional (chapter 4).
//!
//! ```json
//! {
//!   "icon": "⬆", "name": "Firmware update", "description": "Flash a new firmware.",
//!   "estimated_duration": 300, "dangerous": true, "reboots": true,
//!   "form_schema": { "type": "object", "properties": { "url": { "type": "string" } } }
//! }
//! ```

use quarterdeck_protocol::operations::{
    self, AnnouncedOperation, DESCRIPTION_MAX_CHARS, ICON_MAX_CHARS, Operation, TITLE_MAX_CHARS,
    check_form_schema,
};
use serde_json::{Map, Value};

/// The longest such file.
pub const CARD_MAX_BYTES: usize = 64 * 1024;

/// Says what is wrong in such a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{place}: {expected}")]
pub struct InvalidCard {
    pub file: String,
    /// `:line:column` or `: key`.
    pub place: String,
    pub expected: String,
}

/// Describes an operation that has no such file: a built-in one as the console knows it.
pub fn default_of(operation: &str) -> Operation {
    operations::builtin()
        .into_iter()
        .find(|known| known.name == operation)
        .unwrap_or_else(|| plain(operation))
}

fn plain(operation: &str) -> Operation {
    AnnouncedOperation { name: operation.to_owned(), ..AnnouncedOperation::default() }
        .to_operation(0)
}

/// Reads the file of an operation: what it leaves out stays as [`default_of`] says. Unknown keys are ignored.
pub fn parse(operation: &str, file: &str, bytes: &[u8]) -> Result<Operation, InvalidCard> {
    let invalid = |place: String, expected: &str| InvalidCard {
        file: file.to_owned(),
        place,
        expected: expected.to_owned(),
    };
    if bytes.len() > CARD_MAX_BYTES {
        return Err(invalid(String::new(), "expected at most 64 KiB"));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        invalid(
            format!(":{}:{}", error.line(), error.column()),
            &format!("this is no JSON: {error}"),
        )
    })?;
    let Value::Object(fields) = value else {
        return Err(invalid(String::new(), "expected a JSON object"));
    };
    let mut card = default_of(operation);
    let at = |key: &str, expected: &str| invalid(format!(": {key}"), expected);
    if let Some(name) = text(&fields, "name", TITLE_MAX_CHARS).map_err(|e| at("name", &e))? {
        card.title = name;
    }
    if let Some(icon) = text(&fields, "icon", ICON_MAX_CHARS).map_err(|e| at("icon", &e))? {
        card.icon = icon;
    }
    let description = text(&fields, "description", DESCRIPTION_MAX_CHARS);
    if let Some(description) = description.map_err(|e| at("description", &e))? {
        card.description = description;
    }
    for key in ["estimated_duration", "estimated_duration_s"] {
        if let Some(value) = fields.get(key) {
            let seconds = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
            card.estimated_duration_s =
                seconds.ok_or_else(|| at(key, "expected a whole number of seconds"))?;
        }
    }
    for (key, flag) in [("dangerous", &mut card.dangerous), ("reboots", &mut card.reboots)] {
        if let Some(value) = fields.get(key) {
            *flag = value.as_bool().ok_or_else(|| at(key, "expected true or false"))?;
        }
    }
    if let Some(schema) = fields.get("form_schema") {
        check_form_schema(schema).map_err(|expected| at("form_schema", &expected))?;
        card.form_schema = schema.clone();
    }
    Ok(card)
}

fn text(
    fields: &Map<String, Value>,
    key: &str,
    max_chars: usize,
) -> Result<Option<String>, String> {
    match fields.get(key) {
        None => Ok(None),
        // The server would leave the whole card out for a NUL, the danger in it too.
        Some(Value::String(text))
            if !text.is_empty() && text.chars().count() <= max_chars && !text.contains('\0') =>
        {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(format!("expected a text of 1 to {max_chars} characters, none of them NUL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflow_card_gives_what_the_console_shows() {
        let file = br#"{"icon":"x","name":"Flash","description":"d","estimated_duration":300,"dangerous":true,
            "reboots":true,"form_schema":{"type":"object","properties":{}},"more":1}"#;
        let card = parse("flash", "flash.json", file).expect("valid");
        assert_eq!(
            (card.name.as_str(), card.title.as_str(), card.estimated_duration_s),
            ("flash", "Flash", 300)
        );
        assert!(card.dangerous && card.reboots);
        assert_eq!(parse("my_flash", "f", b"{}").expect("all is optional"), plain("my_flash"));
    }

    #[test]
    fn workflow_card_says_what_was_expected() {
        for (file, expected) in [
            ("{", "flash.json:1:1: this is no JSON"),
            ("[]", "flash.json: expected a JSON object"),
            ("{\"name\":1}", "flash.json: name: expected a text of 1 to 80 characters"),
            ("{\"icon\":\"\\u0000\"}", "flash.json: icon: expected a text of 1 to 8 characters"),
            ("{\"dangerous\":\"yes\"}", "flash.json: dangerous: expected true or false"),
            (
                "{\"estimated_duration\":-1}",
                "flash.json: estimated_duration: expected a whole number",
            ),
            ("{\"form_schema\":{}}", "flash.json: form_schema: expected a JSON Schema"),
        ] {
            let error = parse("flash", "flash.json", file.as_bytes()).expect_err(file).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(parse("flash", "f", &vec![b' '; CARD_MAX_BYTES + 1]).is_err());
    }
}
