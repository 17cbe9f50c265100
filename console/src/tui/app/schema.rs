//! A form from a JSON Schema.
//!
//! It asks for what the schema describes and gives back the payload as JSON.
//! What a schema says that a form cannot ask for becomes a field of JSON text,
//! so nothing is out of reach.

use serde_json::{Map, Value};

use super::{
    field::TextField,
    form::{Control, Editor, Field, Form},
};

impl Form {
    /// Makes a form of a JSON Schema, filled with `given` where it says something.
    pub fn from_schema(schema: &Value, given: &Value) -> Self {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let required: Vec<&str> = schema["required"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut fields: Vec<Field> = properties
            .iter()
            .map(|(name, property)| {
                let property = resolve(property, schema);
                let start = given.get(name).filter(|v| !v.is_null());
                let start = start.or_else(|| property.get("default").filter(|v| !v.is_null()));
                let needed = required.contains(&name.as_str());
                Field {
                    required: needed,
                    help: describe(property),
                    control: control(name, property, start, needed),
                    ..Field::new(name, &label(name, property), Control::Switch(false))
                }
            })
            .collect();
        // What must be filled in comes first.
        fields.sort_by_key(|field| !field.required);
        Self::new(fields)
    }
}

/// Follows `$ref`, and the one real type of an `anyOf` with null.
fn resolve<'a>(property: &'a Value, schema: &'a Value) -> &'a Value {
    let mut property = property;
    for _ in 0..8 {
        let target = property["$ref"].as_str().and_then(|r| r.strip_prefix('#'));
        let one = ["anyOf", "allOf", "oneOf"].into_iter().find_map(|kind| {
            let of = property[kind].as_array()?;
            let mut real = of.iter().filter(|part| part["type"] != "null");
            let first = real.next()?;
            real.next().is_none().then_some(first)
        });
        property = match (target.and_then(|path| schema.pointer(path)), one) {
            (Some(next), _) | (None, Some(next)) => next,
            (None, None) => return property,
        };
    }
    property
}

fn label(name: &str, property: &Value) -> String {
    if let Some(title) = property["title"].as_str()
        && !title.is_empty()
    {
        return title.to_owned();
    }
    let words = name.replace(['_', '-'], " ");
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn describe(property: &Value) -> String {
    property["description"].as_str().unwrap_or_default().replace('`', "").replace('\n', " ")
}

fn control(name: &str, property: &Value, start: Option<&Value>, required: bool) -> Control {
    let text = start.map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let text = text.unwrap_or_default();
    if let Some(mut options) = choices(property) {
        if !required && start.is_none() {
            options.insert(0, String::new());
        }
        let chosen = options.iter().position(|option| *option == text).unwrap_or(0);
        return Control::Choice { options, chosen };
    }
    match (kind(property), property["x-editor"].as_str()) {
        ("string", Some("code")) => Control::Code(Box::new(Editor::new(&text, 8))),
        ("string", Some(_)) => Control::Code(Box::new(Editor::new(&text, 4))),
        ("string", None) => {
            let secret = property["format"] == "password" || name.contains("password");
            let mut field = TextField::new(&text);
            field.secret = secret;
            Control::Text(field)
        }
        ("integer", _) => Control::Number { text: TextField::new(&text), integer: true },
        ("number", _) => Control::Number { text: TextField::new(&text), integer: false },
        ("boolean", _) => Control::Switch(start.and_then(Value::as_bool).unwrap_or(false)),
        ("array", _) if kind(&property["items"]) == "string" => {
            let lines: Vec<&str> = start
                .and_then(Value::as_array)
                .map(|items| items.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            Control::List(Box::new(Editor::new(&lines.join("\n"), 3)))
        }
        ("object", _) if kind(&property["additionalProperties"]) == "string" => {
            let lines: Vec<String> = start
                .and_then(Value::as_object)
                .map(|map| {
                    map.iter()
                        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                        .collect()
                })
                .unwrap_or_default();
            Control::Map(Box::new(Editor::new(&lines.join("\n"), 3)))
        }
        _ => {
            let json = start.map(|value| format!("{value:#}")).unwrap_or_default();
            Control::Json(Box::new(Editor::new(&json, 4)))
        }
    }
}

/// The type, where it is one and not null.
fn kind(property: &Value) -> &str {
    match &property["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
        }
        _ => "",
    }
}

/// `enum`, or a `oneOf` of constants.
fn choices(property: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(values) = property["enum"].as_array() {
        return values.iter().filter(|v| !v.is_null()).map(text).collect();
    }
    let constants = property["oneOf"].as_array()?;
    constants
        .iter()
        .map(|one| {
            one.get("const")
                .and_then(text)
                .or_else(|| one["enum"].as_array().and_then(|of| of.first()).and_then(text))
        })
        .collect()
}
