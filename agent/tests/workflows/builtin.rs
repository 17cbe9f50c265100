//! The agent's own operations on the device's bus, without a server.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    agent::{BuiltAgent, wait_for, with_workflows as agent},
    check,
    stage::{ROOT, Seen, Stage as _, TARGET},
};

const PATIENCE: Duration = Duration::from_secs(45);

fn topic(operation: &str, cmd_id: &str) -> String {
    format!("{ROOT}/{TARGET}/cmd/{operation}/{cmd_id}")
}

fn begin(agent: &mut BuiltAgent, operation: &str, cmd_id: &str, mut payload: Value) {
    payload["status"] = "init".into();
    agent.publish(&topic(operation, cmd_id), &payload.to_string());
}

/// Waits for a command's end; gives its last message.
fn end_of(agent: &mut BuiltAgent, operation: &str, cmd_id: &str) -> Value {
    let topic = topic(operation, cmd_id);
    let ended = |seen: &[Seen]| {
        let states = check::states(seen, &topic);
        states.last().is_some_and(|last| last == "successful" || last == "failed")
    };
    let is_over = agent.until(&ended, PATIENCE);
    let seen = agent.seen();
    assert!(is_over, "{topic}: {:?}", check::states(&seen, &topic));
    let last = seen.iter().rev().find(|seen| seen.topic == topic).expect("it was seen");
    serde_json::from_str(&last.payload).expect("JSON")
}

fn announcements(agent: &BuiltAgent, operation: &str) -> Vec<String> {
    let topic = format!("{ROOT}/{TARGET}/cmd/{operation}");
    let seen = agent.seen().into_iter().filter(|seen| seen.topic == topic);
    seen.map(|seen| seen.payload).collect()
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn a_built_in_operation_runs_on_the_bus_and_brings_its_result() {
    let Some((mut agent, _folder)) = agent(&[]) else { return };
    agent.start();
    begin(&mut agent, "system_info", "1", json!({"keep": 1}));
    let last = end_of(&mut agent, "system_info", "1");
    assert_eq!((&last["status"], &last["keep"]), (&json!("successful"), &json!(1)));
    assert!(last["@builtin"]["result"]["kernel"].is_string(), "{last}");
    assert_eq!(
        check::states(&agent.seen(), &topic("system_info", "1")),
        ["init", "executing", "successful"]
    );
    // What needs a server says so.
    begin(&mut agent, "collect_logs", "1", json!({"source": "file", "path": "/etc/hostname"}));
    assert_eq!(end_of(&mut agent, "collect_logs", "1")["status"], "failed");
}

#[test]
fn what_the_1_2_api_names_is_scheduled_before_it_is_executed() {
    const NAMED: [&str; 6] = [
        "software_list",
        "software_update",
        "config_snapshot",
        "config_update",
        "log_upload",
        "restart",
    ];
    let Some((mut agent, _folder)) = agent(&[]) else { return };
    agent.start();
    for operation in NAMED {
        begin(&mut agent, operation, "1", json!({}));
        end_of(&mut agent, operation, "1");
        let states = check::states(&agent.seen(), &topic(operation, "1"));
        assert_eq!(states[..2], ["init", "scheduled"], "{operation}: {states:?}");
    }
    let states = check::states(&agent.seen(), &topic("software_list", "1"));
    assert_eq!(states, ["init", "scheduled", "executing", "successful"]);
}

#[test]
fn what_takes_free_text_is_open_to_the_bus_only_through_an_owners_file() {
    let own = "operation = \"run_script\"\n[init]\naction = \"builtin\"\n";
    let Some((mut agent, folder)) = agent(&[]) else { return };
    agent.start();
    let ran = folder.path().join("ran");
    let script = json!({"script": format!("echo x >>{}; echo out", ran.display())});
    begin(&mut agent, "run_script", "1", script.clone());
    begin(&mut agent, "ping", "after", json!({}));
    end_of(&mut agent, "ping", "after");
    assert_eq!(check::states(&agent.seen(), &topic("run_script", "1")), ["init"]);
    assert_eq!((announcements(&agent, "run_script").len(), lines(&ran)), (0, 0));

    fs::write(folder.path().join("workflows/own.toml"), own).expect("written");
    let is_open = |_: &[Seen]| true;
    assert!(
        wait_for(PATIENCE, || {
            agent.until(&is_open, Duration::ZERO);
            (!announcements(&agent, "run_script").is_empty()).then_some(())
        })
        .is_some()
    );
    begin(&mut agent, "run_script", "2", script);
    let last = end_of(&mut agent, "run_script", "2");
    assert_eq!(
        (&last["status"], &last["@builtin"]["stdout"]),
        (&json!("successful"), &json!("out\n"))
    );
    assert_eq!(lines(&ran), 1);
}

#[test]
fn an_owners_workflow_may_start_a_built_in_operation() {
    let parent = r#"
operation = "outer"
[init]
operation = "run_script"
input.script = "echo ${.payload.word}"
on_exec = "wait"
[wait]
action = "await-operation-completion"
output.said = "${.payload.@builtin.stdout}"
on_success = "successful"
"#;
    let Some((mut agent, _folder)) = agent(&[("outer.toml", parent)]) else { return };
    agent.start();
    begin(&mut agent, "outer", "1", json!({"word": "hello"}));
    let last = end_of(&mut agent, "outer", "1");
    assert_eq!(
        (&last["status"], &last["said"]),
        (&json!("successful"), &json!("hello\n")),
        "{last}"
    );
}

#[test]
fn commands_of_other_devices_are_left_alone() {
    let Some((mut agent, _folder)) = agent(&[]) else { return };
    agent.start();
    let other = format!("{ROOT}/device/child///cmd/ping/1");
    agent.publish(&other, "{\"status\":\"init\"}");
    begin(&mut agent, "ping", "1", json!({}));
    end_of(&mut agent, "ping", "1");
    assert_eq!(check::states(&agent.seen(), &other), ["init"]);
}

#[test]
fn nobody_on_the_bus_passes_for_the_server() {
    let Some((mut agent, _folder)) = agent(&[]) else { return };
    agent.start();
    let forged = "quarterdeck-018f0000-0000-7000-8000-000000000001";
    begin(&mut agent, "ping", forged, json!({}));
    begin(&mut agent, "ping", "after", json!({}));
    end_of(&mut agent, "ping", "after");
    assert_eq!(check::states(&agent.seen(), &topic("ping", forged)), ["init"]);
}

#[test]
fn what_the_device_can_do_is_announced_once_and_again_when_the_broker_has_forgotten() {
    let Some((mut agent, _folder)) = agent(&[]) else { return };
    agent.start();
    begin(&mut agent, "ping", "1", json!({}));
    end_of(&mut agent, "ping", "1");
    assert_eq!(announcements(&agent, "ping"), ["{}"]);
    agent.broker().kill();
    agent.broker().start_again();
    let again = wait_for(PATIENCE, || (announcements(&agent, "ping").len() > 1).then_some(()));
    assert!(again.is_some(), "{:?}", announcements(&agent, "ping"));
    assert!(announcements(&agent, "ping").iter().all(|said| said == "{}"));
}

#[cfg(debug_assertions)]
#[test]
fn killed_at_each_point_a_built_in_step_runs_at_most_once() {
    let own = "operation = \"run_script\"\n[init]\naction = \"proceed\"\non_success = \"run\"\n\
        [run]\naction = \"builtin\"\non_success = \"successful\"\n";
    let Some((mut agent, folder)) = agent(&[("own.toml", own)]) else { return };
    let mut deaths = 0;
    for point in 1_u64.. {
        let cmd_id = format!("c{point}");
        let ran = folder.path().join(&cmd_id);
        let script = json!({"script": format!("echo x >>{}", ran.display())});
        begin(&mut agent, "run_script", &cmd_id, script);
        agent.environment = vec![("QUARTERDECK_AGENT_DIE_AT".to_owned(), point.to_string())];
        agent.launch();
        let own = topic("run_script", &cmd_id);
        let ended = |seen: &[Seen]| {
            let states = check::states(seen, &own);
            states.last().is_some_and(|last| last == "successful" || last == "failed")
        };
        // It may still die for what follows the end.
        let has_died = agent.dies_before(&ended) || agent.dies_before_its_stop();
        if has_died {
            deaths += 1;
            agent.environment.clear();
            agent.start();
        }
        let last = end_of(&mut agent, "run_script", &cmd_id);
        let expected = if last["status"] == "successful" { 1..=1 } else { 0..=1 };
        assert!(expected.contains(&lines(&ran)), "point {point}: {last}");
        if last["status"] == "failed" {
            assert!(has_died && last["@builtin"]["error_code"] == "interrupted", "{point}: {last}");
        }
        if has_died {
            agent.stop();
        }
        agent.publish(&own, "");
        if !has_died {
            assert!(deaths >= 8, "the agent died at {deaths} points only");
            return;
        }
    }
}
