//! The document says what is served.

use std::collections::BTreeSet;

use quarterdeck_server::http::openapi::specification;
use reqwest::Method;
use serde_json::{Value, json};

use super::support::Fixture;

#[tokio::test]
async fn every_documented_route_is_served_and_the_document_is_whole() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let document = fixture.get("/api/v1/openapi.json", &admin).await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let url = path.replace(['{', '}'], "");
            let answer = fixture.call(method.clone(), &url, "", None).await;
            let is_unserved = answer.status == 405 || answer.body["detail"] == "no such path";
            assert!(!is_unserved, "{method} {path}: {}", answer.text);
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
        }
    }
    // Each schema that is spoken of is there.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let name =
            reference.split('"').next().unwrap().strip_prefix("#/components/schemas/").unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

fn document() -> Value {
    serde_json::to_value(specification()).expect("JSON")
}

/// Each operation: its method and path, and what is said of it.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let mut all = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("methods") {
            all.push((format!("{method} {path}"), operation));
        }
    }
    all
}

#[test]
fn the_document_keeps_to_openapi_3_1() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().expect("an id");
        assert!(ids.insert(id), "{name}: {id} is the name of two");
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let description = response["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{name}: {status} has no description");
            let is_error = status == "default" || status.as_str() >= "400";
            let has_body = response["content"].as_object().is_some_and(|kinds| !kinds.is_empty());
            assert!(has_body || !is_error, "{name}: {status} has no content");
        }
        for parameter in operation["parameters"].as_array().expect("parameters") {
            assert!(parameter["name"].is_string() && parameter["schema"].is_object(), "{name}");
            let is_in_path = parameter["in"] == "path";
            assert!(!is_in_path || parameter["required"] == true, "{name}: {parameter}");
        }
        let takes_key =
            operation["parameters"].as_array().unwrap().iter().any(|parameter| {
                parameter["name"] == "Idempotency-Key" && parameter["in"] == "header"
            });
        let creates = name.starts_with("post") && operation["responses"]["201"].is_object();
        assert_eq!(takes_key, creates, "{name}");
    }
}

/// Says where a value is none of a schema's: types, `null`, required and listed properties.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return faults(document, document.pointer(&name[1..]).expect("a schema"), value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let fits = choices.iter().any(|one| faults(document, one, value, at).is_empty());
        return if fits { Vec::new() } else { vec![format!("{at}: {value} is none of {schema}")] };
    }
    let mut found = Vec::new();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        found.extend(faults(document, part, value, at));
    }
    let is_a = |kind: &str| match kind {
        "null" => value.is_null(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => value.is_number(),
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is_a(kind)) {
        return vec![format!("{at}: {value} is no {kinds:?}")];
    }
    if let Some(fields) = value.as_object() {
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required.filter_map(Value::as_str).filter(|name| !fields.contains_key(*name)) {
            found.push(format!("{at}: no {name}"));
        }
        for (name, field) in fields {
            let known = &schema["properties"][name];
            if known.is_object() {
                found.extend(faults(document, known, field, &format!("{at}.{name}")));
            }
        }
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object()) {
        found.extend(faults(document, &schema["items"], item, &format!("{at}[]")));
    }
    found
}

#[tokio::test]
async fn what_is_answered_is_what_the_document_says() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let document = document();
    fixture.device(&admin, "default", "pi-1").await;
    fixture.post("/users", &admin, &json!({ "username": "ops", "password": "long enough" })).await;
    let command = fixture.command(&admin, "default", "pi-1", "ping", json!({})).await;
    let tunnel = json!({ "device_id": "pi-1", "kind": "terminal" });
    fixture.post("/projects/default/tunnels", &admin, &tunnel).await.expect(201);
    let mut asked = 0;
    for path in document["paths"].as_object().expect("paths").keys() {
        let schema = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            ["schema"];
        if !schema.is_object() {
            continue;
        }
        let filled = path
            .replace("{project}", "default")
            .replace("{device}", "pi-1")
            .replace("commands/{id}", &format!("commands/{command}"));
        let answer = fixture.get(&filled, &admin).await;
        if answer.status == 404 {
            // There is no alert, recording or output of which to ask.
            assert!(path.ends_with("/output") || filled.contains("{id}"), "{path}");
            continue;
        }
        let body = answer.expect(200);
        assert_eq!(faults(&document, schema, &body, path), [""; 0]);
        asked += 1;
    }
    assert!(asked > 20, "{asked}");
    for path in ["/healthz", "/readyz"] {
        let answers = &document["paths"][path]["get"]["responses"]["200"];
        let schema = &answers["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path}");
    }
}

#[test]
fn the_checker_of_answers_finds_what_is_wrong() {
    let document = document();
    let schema = json!({ "type": "object", "required": ["a"], "properties": {
        "a": { "type": "object" }, "b": { "type": "array", "items": { "type": ["string", "null"] } } } });
    for (value, is_good) in [
        (json!({ "a": {}, "b": ["x", null] }), true),
        (json!({ "a": null }), false),
        (json!({ "b": [] }), false),
        (json!({ "a": {}, "b": [1] }), false),
        (json!(null), false),
    ] {
        assert_eq!(faults(&document, &schema, &value, "").is_empty(), is_good, "{value}");
    }
}
