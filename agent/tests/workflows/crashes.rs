//! The agent killed at each write and between each two effects, and started again:
//! each command goes on or ends, none does again what was finished, none is lost.

use std::{fs, path::Path, time::Duration};

use serde_json::json;

use crate::{
    agent::BuiltAgent,
    case::is_skipped_without,
    check,
    stage::{ROOT, Seen, Stage as _, TARGET},
};

const PATIENCE: Duration = Duration::from_secs(30);

const WORKFLOW: &str = r#"
operation = "op"
[init]
action = "proceed"
on_success = "first"
[first]
script = "@DIR@/log.sh ${.topic.cmd_id} first"
on_success = "launch"
[launch]
background_script = "@DIR@/log.sh ${.topic.cmd_id}-bg launched"
on_exec = "second"
[second]
script = "@DIR@/log.sh ${.topic.cmd_id} second"
on_success = "start"
[start]
operation = "leaf"
input.of = "${.topic.cmd_id}"
on_exec = "wait"
[wait]
action = "await-operation-completion"
output.leaf = "${.payload.of}"
on_success = "third"
[third]
script = "@DIR@/log.sh ${.topic.cmd_id} third"
on_success = "successful"
"#;
const LEAF: &str = r#"
operation = "leaf"
[init]
script = "@DIR@/log.sh ${.payload.of} leaf"
on_success = "successful"
"#;
const LOG: &str = "#!/bin/sh\necho $2 >>\"@DIR@/$1\"\n";
const IN_ORDER: [&str; 4] = ["first", "second", "leaf", "third"];

fn topic(operation: &str, cmd_id: &str) -> String {
    format!("{ROOT}/{TARGET}/cmd/{operation}/{cmd_id}")
}

fn write(folder: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let folder = folder.to_str().expect("UTF-8");
    fs::write(&path, text.replace("@DIR@", folder)).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
}

/// Dies at each point from `first` on, in steps of two, until a run comes through.
fn die_at_each_point(first: u64) {
    if is_skipped_without("mosquitto") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    write(path, "workflows/op.toml", WORKFLOW);
    write(path, "workflows/leaf.toml", LEAF);
    write(path, "log.sh", LOG);
    let mut agent = BuiltAgent::new(path.to_owned());
    let mut deaths = 0;
    for point in (first..).step_by(2) {
        let cmd_id = format!("c{point}");
        let own = topic("op", &cmd_id);
        agent.publish(&own, &json!({"status": "init", "keep": point}).to_string());
        agent.environment = vec![("QUARTERDECK_AGENT_DIE_AT".to_owned(), point.to_string())];
        agent.launch();
        let sub = topic("leaf", &format!("sub:op:{cmd_id}"));
        let is_over = |seen: &[Seen]| {
            let last = |topic: &str| check::states(seen, topic).pop();
            last(&own).is_some_and(|state| state == "successful")
                && last(&sub).is_some_and(|state| state == "<cleared>")
        };
        // It may still die for what follows the end.
        let has_died = agent.dies_before(&is_over) || agent.dies_before_its_stop();
        if has_died {
            deaths += 1;
            agent.environment.clear();
            agent.start();
            assert!(agent.until(&is_over, PATIENCE), "{point}: {:#?}", said(&agent, &cmd_id));
            agent.stop();
        }
        check_scripts(path, &cmd_id, has_died);
        agent.publish(&own, "");
        if !has_died {
            assert!(deaths > 20, "the agent died at {deaths} points only");
            return;
        }
    }
}

/// What was said of a command and its sub-operation.
fn said(agent: &BuiltAgent, cmd_id: &str) -> Vec<Seen> {
    agent.seen().into_iter().filter(|seen| seen.topic.ends_with(cmd_id)).collect()
}

/// Checks that each script ran, in order, and at most the one that a crash cut off twice.
fn check_scripts(folder: &Path, cmd_id: &str, has_died: bool) {
    let text = fs::read_to_string(folder.join(cmd_id)).expect("scripts ran");
    let lines: Vec<_> = text.lines().collect();
    let mut once = lines.clone();
    once.dedup();
    assert_eq!(once, IN_ORDER, "{cmd_id}: {lines:?}");
    assert!(lines.len() <= IN_ORDER.len() + usize::from(has_died), "{cmd_id}: {lines:?}");
    let launched = fs::read_to_string(folder.join(format!("{cmd_id}-bg"))).unwrap_or_default();
    let launched = launched.lines().count();
    // What may have taken the device down is not launched again.
    assert!(launched == 1 || (launched == 0 && has_died), "{cmd_id}: launched {launched} times");
}

#[test]
fn killed_at_each_odd_point_a_command_ends_and_repeats_nothing_finished() {
    die_at_each_point(1);
}

#[test]
fn killed_at_each_even_point_a_command_ends_and_repeats_nothing_finished() {
    die_at_each_point(2);
}
