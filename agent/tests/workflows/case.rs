//! Reads a case and goes through its steps.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use quarterdeck_agent::workflow::topic::CommandTopic;
use serde_json::{Value, json};

use crate::{
    check,
    world::{ROOT, TARGET, World},
};

const ENDS: [&str; 2] = ["successful", "failed"];

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workflows/cases")
}

pub(crate) fn folders() -> BTreeSet<String> {
    let entries = fs::read_dir(cases()).expect("the cases");
    entries
        .map(|entry| entry.expect("a folder").file_name().into_string().expect("ASCII"))
        .collect()
}

/// Runs a case and lists what is not as its primary reading expects.
pub(crate) fn run(folder: &str) -> Vec<String> {
    let source = cases().join(folder);
    let work = tempfile::tempdir().expect("a temporary folder");
    let spec = read_json(&source.join("expected.json")).expect("expected.json");
    let operation = spec["operation"].as_str().expect("an operation").to_owned();
    let cmd_id = spec["cmd_id"].as_str().unwrap_or("t1").to_owned();
    let topic_of = |operation: &str, cmd_id: &str| {
        CommandTopic::new(ROOT, TARGET, operation, cmd_id).expect("a topic").to_string()
    };
    let topic = topic_of(&operation, &cmd_id);
    let replaced = [
        ("@DIR@", work.path().to_str().expect("UTF-8")),
        ("@PYTHON@", "/usr/bin/env python3"),
        ("@TOPIC@", &topic),
        ("@PREFIX@", ROOT),
    ];
    copy(&source, work.path(), &replaced);
    let spec = read_json(&work.path().join("expected.json")).expect("expected.json");
    let init = read_json(&work.path().join("init.json")).unwrap_or(json!({"status": "init"}));
    let expected = spec["expect"].as_object().expect("what is expected").clone();
    let timeout = Duration::from_secs_f64(spec["timeout_s"].as_f64().unwrap_or(8.0) + 4.0);

    let mut world = World::new(work.path().to_owned());
    let mut begun = None;
    let mut elapsed_s = 0.0;
    let mut wrong = Vec::new();
    let steps = spec["steps"].as_array().cloned().unwrap_or_else(|| {
        vec![json!({"do": "start"}), json!({"do": "publish"}), json!({"do": "wait"})]
    });
    for step in steps {
        let text = |key: &str| step[key].as_str();
        let at =
            topic_of(text("operation").unwrap_or(&operation), text("cmd_id").unwrap_or(&cmd_id));
        let path = |key: &str| work.path().join(text(key).expect("a path"));
        match text("do").expect("a step") {
            "start" => world.start(),
            "kill" | "stop" => world.kill(),
            "publish" => {
                begun.get_or_insert(world.now());
                let payload = match (text("raw"), step.get("payload")) {
                    (Some(raw), _) => raw.to_owned(),
                    (None, Some(payload)) => payload.to_string(),
                    (None, None) => init.to_string(),
                };
                world.publish_from_outside(&at, &payload);
            }
            "wait" => {
                let wanted = |world: &World| is_done(&check::states(world, &at), &expected);
                world.until(wanted, timeout);
                let since = begun.unwrap_or_else(|| world.now());
                elapsed_s = Duration::from_millis(world.now().millis_since(since).unsigned_abs())
                    .as_secs_f64();
            }
            "wait_state" => wrong.extend(await_state(&mut world, &at, &step, timeout)),
            "wait_sub_state" => {
                let prefix = at.trim_end_matches(&cmd_id).to_owned();
                wrong.extend(await_state(&mut world, &prefix, &step, timeout));
            }
            "wait_file" => {
                let path = path("path");
                world.until(|_| path.exists(), timeout);
            }
            "sleep" => {
                let seconds = step["s"].as_f64().expect("seconds");
                world.until(|_| false, Duration::from_secs_f64(seconds));
            }
            "copy" => {
                fs::copy(path("from"), path("to")).expect("copied");
            }
            "remove" => fs::remove_file(path("path")).expect("removed"),
            other => panic!("{other} is no step"),
        }
    }
    let settle_s = spec["settle_s"].as_f64().unwrap_or(0.4);
    world.until(|_| false, Duration::from_secs_f64(settle_s));
    wrong.extend(check::wrong(&world, &expected, &topic, elapsed_s));
    wrong
}

/// Waits for a state on a topic that begins with `prefix`.
fn await_state(world: &mut World, prefix: &str, step: &Value, timeout: Duration) -> Option<String> {
    let status = step["status"].as_str().expect("a state");
    let is_seen = |world: &World| {
        let mut topics = world.seen.iter().map(|seen| &seen.topic);
        topics.any(|topic| {
            topic.starts_with(prefix) && check::states(world, topic).iter().any(|s| s == status)
        })
    };
    (!world.until(is_seen, timeout)).then(|| format!("{status} was not seen on {prefix}"))
}

fn is_done(states: &[String], expected: &serde_json::Map<String, Value>) -> bool {
    let Some(last) = states.last() else { return false };
    if ENDS.contains(&last.as_str()) {
        return true;
    }
    let wanted = expected.get("states").and_then(Value::as_array).cloned().unwrap_or_default();
    wanted.len() > 1 && wanted == check::collapsed(states.to_vec())
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn copy(from: &Path, to: &Path, replaced: &[(&str, &str)]) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a file");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("a folder");
            copy(&entry.path(), &target, replaced);
            continue;
        }
        let mut text = fs::read_to_string(entry.path()).expect("UTF-8");
        for (mark, value) in replaced {
            text = text.replace(mark, value);
        }
        fs::write(&target, text).expect("written");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).expect("set");
    }
}
