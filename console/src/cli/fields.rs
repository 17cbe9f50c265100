//! Fields of a payload on the command line: `key=value`, `key:=JSON`, `key@FILE`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{error::CliError, input};

/// One field of the payload on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    pub key: &'a str,
    pub value: FieldValue<'a>,
}

/// Where a field's value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValue<'a> {
    Text(&'a str),
    Json(&'a str),
    File(&'a str),
}

impl<'a> Field<'a> {
    /// Reads a word; `None` for what has no separator: a device.
    pub fn parse(word: &'a str) -> Option<Self> {
        let at = word.find(['=', '@'])?;
        let (key, rest) = word.split_at(at);
        Some(match (key.strip_suffix(':'), rest.as_bytes()[0]) {
            (Some(key), b'=') => Self { key, value: FieldValue::Json(&rest[1..]) },
            (_, b'@') => Self { key, value: FieldValue::File(&rest[1..]) },
            (_, _) => Self { key, value: FieldValue::Text(&rest[1..]) },
        })
    }

    /// Adds the field to a payload; `schema` says what type it has.
    pub fn add_to(
        self,
        payload: &mut Map<String, Value>,
        schema: Option<&Value>,
    ) -> Result<(), CliError> {
        let key = self.key;
        if key.is_empty() {
            return Err(CliError::Usage("expected a key before = or @".to_owned()));
        }
        let types = |key: &str| types_of(schema, key);
        // `env.LANG=C`: a field of an object.
        if let Some((outer, inner)) = key.split_once('.')
            && types(outer).contains("object")
        {
            let object = payload.entry(outer).or_insert_with(|| Value::Object(Map::new()));
            let object = object
                .as_object_mut()
                .ok_or_else(|| CliError::Usage(format!("{outer}: expected an object")))?;
            object.insert(inner.to_owned(), Value::String(self.text()?));
            return Ok(());
        }
        if let FieldValue::Json(json) = self.value {
            let value = serde_json::from_str(json)
                .map_err(|e| CliError::Usage(format!("{key}: expected JSON, {e}")))?;
            payload.insert(key.to_owned(), value);
            return Ok(());
        }
        let given = self.text()?;
        let types = types(key);
        let value = match self.value {
            FieldValue::Text(_) => typed(given, &types),
            FieldValue::Json(_) | FieldValue::File(_) => Value::String(given),
        };
        match payload.get_mut(key) {
            Some(Value::Array(list)) if !value.is_array() => list.push(value),
            _ if types.contains("array") && !value.is_array() => {
                payload.insert(key.to_owned(), Value::Array(vec![value]));
            }
            _ => {
                payload.insert(key.to_owned(), value);
            }
        }
        Ok(())
    }

    fn text(self) -> Result<String, CliError> {
        match self.value {
            FieldValue::Text(text) | FieldValue::Json(text) => Ok(text.to_owned()),
            FieldValue::File(path) => input::text_file(&format!("{}=@", self.key), path.as_ref()),
        }
    }
}

/// The JSON types that a form allows for a field; none when it does not say.
fn types_of(schema: Option<&Value>, key: &str) -> BTreeSet<String> {
    let Some(kind) = schema.and_then(|schema| schema.pointer("/properties")?.get(key)?.get("type"))
    else {
        return BTreeSet::new();
    };
    match kind {
        Value::Array(kinds) => kinds.iter().filter_map(|k| k.as_str().map(str::to_owned)).collect(),
        Value::String(kind) => BTreeSet::from([kind.clone()]),
        _ => BTreeSet::new(),
    }
}

/// Reads a text as the form wants it; a text that does not fit stays one, and the server says why it is wrong.
fn typed(given: String, types: &BTreeSet<String>) -> Value {
    let is = |kind: &str| types.contains(kind);
    if is("string") {
        return Value::String(given);
    }
    let json = serde_json::from_str::<Value>(&given).ok();
    match json {
        Some(value @ Value::Number(_)) if is("integer") || is("number") => value,
        Some(value @ Value::Bool(_)) if is("boolean") => value,
        Some(value @ Value::Array(_)) if is("array") => value,
        Some(value @ Value::Object(_)) if is("object") => value,
        _ => Value::String(given),
    }
}
