//! Compares what a case expects with what the bus saw.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Map, Value};

use crate::stage::Seen;

type Expected = Map<String, Value>;

/// The states seen on a topic.
pub(crate) fn states(seen: &[Seen], topic: &str) -> Vec<String> {
    payloads(seen, topic).iter().map(|payload| status(payload)).collect()
}

/// The same, each run of equal ones once.
pub(crate) fn collapsed(mut states: Vec<String>) -> Vec<String> {
    states.dedup();
    states
}

/// Lists what is not as expected; `elapsed_s` from the first message to the end.
pub(crate) fn wrong(
    seen: &[Seen],
    folder: &Path,
    expected: &Expected,
    topic: &str,
    elapsed_s: f64,
) -> Vec<String> {
    let mut wrong = Vec::new();
    topic_wrong(seen, expected, topic, &mut wrong);
    let root = &topic[..topic.find("/cmd/").expect("a command's topic") + 5];
    for other in list(expected, "also") {
        let other = other.as_object().expect("an object");
        let topic = format!("{root}{}/{}", text(&other["operation"]), text(&other["cmd_id"]));
        topic_wrong(seen, other, &topic, &mut wrong);
    }
    for (sub, of_sub) in object(expected, "subs") {
        let of_sub = of_sub.as_object().expect("an object");
        let prefix = format!("{root}{sub}/");
        let topics: BTreeSet<_> =
            seen.iter().map(|seen| &seen.topic).filter(|t| t.starts_with(&prefix)).collect();
        let count = of_sub.get("count").and_then(Value::as_u64).unwrap_or(1);
        if topics.len() as u64 != count {
            wrong.push(format!("{count} of {sub} expected, got {topics:?}"));
        }
        for topic in topics {
            topic_wrong(seen, of_sub, topic, &mut wrong);
        }
    }
    for (file, content) in object(expected, "files") {
        let found = fs::read_to_string(folder.join(&file)).ok();
        if found.as_deref() != content.as_str() {
            wrong.push(format!("file {file}: expected {content}, got {found:?}"));
        }
    }
    let capability = topic.rsplit_once('/').map_or(topic, |(capability, _)| capability);
    if let Some(wanted) = expected.get("capability").and_then(Value::as_bool) {
        let last = payloads(seen, capability).last().copied();
        if last.is_some_and(|payload| !payload.is_empty()) != wanted {
            wrong.push(format!("the capability is {last:?}"));
        }
    }
    let limit = |key: &str| expected.get(key).and_then(Value::as_f64);
    // A loaded machine gets some seconds more.
    if limit("max_s").is_some_and(|max| elapsed_s > max + 4.0)
        || limit("min_s").is_some_and(|min| elapsed_s < min)
    {
        wrong.push(format!("it took {elapsed_s:.1} s"));
    }
    wrong
}

fn topic_wrong(seen: &[Seen], expected: &Expected, topic: &str, wrong: &mut Vec<String>) {
    let found = states(seen, topic);
    let exact = expected.get("exact_repeats") == Some(&Value::Bool(true));
    let found = if exact { found } else { collapsed(found) };
    let mut wanted = list(expected, "states_any");
    wanted.extend(expected.get("states").cloned());
    if !wanted.is_empty() && !wanted.contains(&Value::from(found.clone())) {
        wrong.push(format!("{topic}: expected one of {wanted:?}, got {found:?}"));
    }
    let payloads = payloads(seen, topic);
    let documents: Vec<Value> =
        payloads.iter().filter_map(|payload| serde_json::from_str(payload).ok()).collect();
    let empty = Value::Null;
    let (first, last) = (documents.first().unwrap_or(&empty), documents.last().unwrap_or(&empty));
    for (which, document) in [("first", first), ("final", last)] {
        for (path, value) in object(expected, which) {
            if lookup(document, &path) != Some(&value) {
                wrong.push(format!("{topic} {which} {path}: expected {value}, got {document}"));
            }
        }
        for path in list(expected, &format!("{which}_absent")) {
            if lookup(document, text(&path)).is_some() {
                wrong.push(format!("{topic} {which} {path} should be absent, got {document}"));
            }
        }
    }
    if expected.get("first_equals").is_some_and(|equal| equal != first) {
        wrong.push(format!("{topic}: first is {first}"));
    }
    for (path, parts) in object(expected, "final_contains") {
        let found = lookup(last, &path);
        let found_text = found.and_then(Value::as_str).map_or_else(String::new, str::to_owned);
        let parts = parts.as_array().cloned().unwrap_or_else(|| vec![parts]);
        if found.is_none() || !parts.iter().all(|part| found_text.contains(text(part))) {
            wrong.push(format!("{topic} {path}: should contain {parts:?}, got {last}"));
        }
    }
}

fn payloads<'a>(seen: &'a [Seen], topic: &str) -> Vec<&'a str> {
    seen.iter().filter(|seen| seen.topic == topic).map(|seen| seen.payload.as_str()).collect()
}

fn status(payload: &str) -> String {
    if payload.is_empty() {
        return "<cleared>".to_owned();
    }
    match serde_json::from_str::<Value>(payload) {
        Err(_) => "<not-json>".to_owned(),
        Ok(Value::Object(fields)) => {
            fields.get("status").and_then(Value::as_str).unwrap_or("<no-status>").to_owned()
        }
        Ok(_) => "<not-object>".to_owned(),
    }
}

fn lookup<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

fn object(expected: &Expected, key: &str) -> Expected {
    expected.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn list(expected: &Expected, key: &str) -> Vec<Value> {
    expected.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
