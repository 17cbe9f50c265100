//! Reads a case and goes through its steps.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use quarterdeck_agent::workflow::topic::CommandTopic;
use serde_json::{Value, json};

use crate::{
    check,
    stage::{ROOT, Seen, Stage, TARGET},
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

/// Plays a case on the stage that `set_up` makes in its folder, and lists what is
/// not as its primary reading expects.
pub(crate) fn run(folder: &str, set_up: impl FnOnce(PathBuf) -> Box<dyn Stage>) -> Vec<String> {
    let source = cases().join(folder);
    if needs_python(&source) && is_skipped_without("python3") {
        return Vec::new();
    }
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

    let mut stage = set_up(work.path().to_owned());
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
            "start" => stage.start(),
            "kill" => stage.kill(),
            "stop" => stage.stop(),
            "publish" => {
                begun.get_or_insert(stage.elapsed());
                // A text is published as it stands, be it JSON or not.
                let payload = match (text("raw"), step.get("payload")) {
                    (Some(raw), _) => raw.to_owned(),
                    (None, Some(Value::String(raw))) => raw.clone(),
                    (None, Some(payload)) => payload.to_string(),
                    (None, None) => init.to_string(),
                };
                stage.publish(&at, &payload);
            }
            "wait" => {
                let wanted = |seen: &[Seen]| is_done(&check::states(seen, &at), &expected);
                stage.until(&wanted, timeout);
                let now = stage.elapsed();
                elapsed_s = now.saturating_sub(begun.unwrap_or(now)).as_secs_f64();
            }
            "wait_state" => wrong.extend(await_state(&mut *stage, &at, &step, timeout)),
            "wait_sub_state" => {
                let prefix = at.trim_end_matches(&cmd_id).to_owned();
                wrong.extend(await_state(&mut *stage, &prefix, &step, timeout));
            }
            "wait_file" => {
                let path = path("path");
                stage.until(&|_| path.exists(), timeout);
            }
            "sleep" => {
                let seconds = step["s"].as_f64().expect("seconds");
                stage.until(&|_| false, Duration::from_secs_f64(seconds));
            }
            "copy" => {
                // In one go, so that nobody reads half of it.
                let half = path("to").with_extension("half");
                fs::copy(path("from"), &half).expect("copied");
                fs::rename(half, path("to")).expect("renamed");
            }
            "remove" => fs::remove_file(path("path")).expect("removed"),
            other => panic!("{other} is no step"),
        }
    }
    let settle_s = spec["settle_s"].as_f64().unwrap_or(0.4);
    stage.until(&|_| false, Duration::from_secs_f64(settle_s));
    wrong.extend(check::wrong(&stage.seen(), work.path(), &expected, &topic, elapsed_s));
    wrong
}

/// Waits for a state on a topic that begins with `prefix`.
fn await_state(
    stage: &mut dyn Stage,
    prefix: &str,
    step: &Value,
    timeout: Duration,
) -> Option<String> {
    let status = step["status"].as_str().expect("a state");
    let is_seen = |seen: &[Seen]| {
        let mut topics = seen.iter().map(|seen| &seen.topic);
        topics.any(|topic| {
            topic.starts_with(prefix) && check::states(seen, topic).iter().any(|s| s == status)
        })
    };
    (!stage.until(&is_seen, timeout)).then(|| format!("{status} was not seen on {prefix}"))
}

fn is_done(states: &[String], expected: &serde_json::Map<String, Value>) -> bool {
    let Some(last) = states.last() else { return false };
    if ENDS.contains(&last.as_str()) {
        return true;
    }
    let wanted = expected.get("states").and_then(Value::as_array).cloned().unwrap_or_default();
    wanted.len() > 1 && wanted == check::collapsed(states.to_vec())
}

fn needs_python(case: &Path) -> bool {
    let mut files = fs::read_dir(case).expect("a case").flatten();
    files.any(|file| file.path().extension().is_some_and(|extension| extension == "py"))
}

/// Whether the test is skipped for want of a program, which it then says by name.
pub(crate) fn is_skipped_without(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers are often not on the path of a plain user.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    if folders.into_iter().any(|folder| folder.join(program).is_file()) {
        return false;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let is_required = std::env::var_os("QUARTERDECK_REQUIRE_SERVICES").is_some_and(|v| v == "1");
    assert!(!is_required, "{test} needs {program}, and QUARTERDECK_REQUIRE_SERVICES=1");
    // Not println!, which the test runner swallows when a test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {test} needs {program}");
    true
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
