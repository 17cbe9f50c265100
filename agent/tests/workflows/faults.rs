//! What the built agent bears: floods, garbage, scripts that do not end, a broker that goes.

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

fn reaches(agent: &mut BuiltAgent, operation: &str, cmd_id: &str, state: &str) -> Value {
    reaches_within(PATIENCE, agent, operation, cmd_id, state)
}

fn reaches_within(
    patience: Duration,
    agent: &mut BuiltAgent,
    operation: &str,
    cmd_id: &str,
    state: &str,
) -> Value {
    let topic = topic(operation, cmd_id);
    let is_there =
        |seen: &[Seen]| check::states(seen, &topic).last().is_some_and(|last| last == state);
    assert!(
        agent.until(&is_there, patience),
        "{topic}: {:?}",
        check::states(&agent.seen(), &topic)
    );
    let seen = agent.seen();
    let last = seen.iter().rev().find(|seen| seen.topic == topic).expect("it was seen");
    serde_json::from_str(&last.payload).expect("JSON")
}

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_text(path: &Path) -> String {
    let text = || fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'));
    wait_for(PATIENCE, text).unwrap_or_else(|| panic!("{} was not written", path.display()))
}

#[test]
fn a_thousand_pending_commands_take_little_memory_and_hold_up_no_other() {
    const EACH: usize = 250;
    let workflows = [
        (
            "s.toml",
            "operation = \"script\"\n[init]\nscript = \"sh -c 'while [ ! -e @DIR@/go ]; do sleep 1; done'\"\non_success = \"successful\"",
        ),
        (
            "o.toml",
            "operation = \"outer\"\n[init]\noperation = \"inner\"\non_exec = \"wait\"\n[wait]\naction = \"await-operation-completion\"\non_success = \"successful\"",
        ),
        ("i.toml", "operation = \"inner\"\n[init]\naction = \"proceed\"\non_success = \"theirs\""),
        (
            "r.toml",
            "operation = \"restart\"\n[init]\naction = \"await-agent-restart\"\ntimeout_second = 1000\non_success = \"successful\"",
        ),
        ("p.toml", "operation = \"parked\"\n[init]\naction = \"proceed\"\non_success = \"theirs\""),
        ("q.toml", "operation = \"quick\"\n[init]\nscript = \"true\"\non_success = \"successful\""),
    ];
    let Some((mut agent, folder)) = agent(&workflows) else { return };
    agent.start();
    begin(&mut agent, "quick", "first", json!({}));
    reaches(&mut agent, "quick", "first", "successful");
    let idle = resident_kb(agent.pid());
    for n in 0..EACH {
        for operation in ["script", "outer", "restart", "parked"] {
            begin(&mut agent, operation, &n.to_string(), json!({"n": n, "keep": "x".repeat(100)}));
        }
    }
    reaches(&mut agent, "parked", &(EACH - 1).to_string(), "theirs");
    begin(&mut agent, "quick", "second", json!({}));
    reaches(&mut agent, "quick", "second", "successful");
    let busy = resident_kb(agent.pid());
    assert!(busy < idle + 10_000, "{busy} KB with a thousand commands, {idle} KB without");

    fs::write(folder.path().join("go"), "").expect("written");
    for n in 0..EACH {
        let inner = topic("inner", &format!("sub:outer:{n}"));
        agent.publish(&inner, &json!({"status": "successful"}).to_string());
    }
    for n in 0..EACH {
        for operation in ["script", "outer"] {
            reaches(&mut agent, operation, &n.to_string(), "successful");
        }
    }
    agent.kill();
    agent.start();
    for n in 0..EACH {
        reaches(&mut agent, "restart", &n.to_string(), "successful");
    }
}

#[test]
fn output_of_any_size_and_kind_is_taken_in_bounded_memory() {
    let script =
        "operation = \"op\"\n[init]\nscript = \"sh ${.payload.file}\"\non_success = \"successful\"";
    let Some((mut agent, folder)) = agent(&[("op.toml", script)]) else { return };
    let file = folder.path().join("big.sh");
    let block = ":::begin-tedge:::\\n{\"x\":1}\\n:::end-tedge:::\\n";
    let text = format!(
        "head -c 2000000000 /dev/zero\nhead -c 100000000 /dev/urandom\nhead -c 3000000 /dev/urandom >&2\nprintf '\\n{block}'\nhead -c 1000000 /dev/zero\n"
    );
    fs::write(&file, text).expect("written");
    agent.start();
    let idle = resident_kb(agent.pid());
    begin(&mut agent, "op", "1", json!({"file": file}));
    // Two gigabytes, in a debug build beside other tests.
    let last = reaches_within(4 * PATIENCE, &mut agent, "op", "1", "successful");
    assert_eq!(last["x"], 1);
    let after = resident_kb(agent.pid());
    assert!(after < idle + 10_000, "{after} KB after, {idle} KB before");
}

#[test]
fn an_invalid_file_is_told_at_the_start_with_line_key_and_what_was_expected() {
    let bad = "operation = \"bad\"\n[init]\nscript = \"true\"\non_success = 3\n";
    let good = "operation = \"good\"\n[init]\naction = \"proceed\"";
    let Some((mut agent, _folder)) = agent(&[("b.toml", bad), ("g.toml", good)]) else { return };
    agent.start();
    begin(&mut agent, "good", "1", json!({}));
    reaches(&mut agent, "good", "1", "successful");
    let log = agent.log();
    let told = log.lines().find(|line| line.contains("b.toml:4:14: init.on_success: expected"));
    assert!(told.is_some_and(|told| told.contains("operation=\"bad\"")), "{log}");
}

#[test]
fn garbage_on_any_topic_is_survived() {
    let script = "operation = \"op\"\n[init]\nscript = \"true\"\non_success = \"successful\"";
    let Some((mut agent, _folder)) = agent(&[("op.toml", script)]) else { return };
    agent.start();
    let deep = format!("{{\"status\":\"init\",\"x\":{}", "[".repeat(50_000));
    let long = json!({"status": "init", "x": "x".repeat(3_000_000)}).to_string();
    let odd = json!({"status": "init", "x": "\u{1b}[2J\u{0}"}).to_string();
    for (n, garbage) in ["{", "[]", "\"init\"", "null", &deep, &long].into_iter().enumerate() {
        agent.publish(&topic("op", &format!("g{n}")), garbage);
        agent.publish(&topic("none", &format!("g{n}")), garbage);
    }
    for at in
        ["te/x", "te/device/main///cmd", "te/device/main///cmd/op", "te/device/main///cmd/op/a/b"]
    {
        agent.publish(at, &odd);
    }
    agent.publish(&topic("op", "sub:"), &odd);
    agent.publish(&topic("op", "sub:op:sub:op"), &odd);
    begin(&mut agent, "op", "good", json!({}));
    reaches(&mut agent, "op", "good", "successful");
}

#[test]
fn the_agent_stops_in_time_and_takes_stubborn_scripts_with_it() {
    let script = "operation = \"op\"\n[init]\nscript = \"sh @DIR@/stubborn.sh @DIR@\"\non_success = \"successful\"";
    let Some((mut agent, folder)) = agent(&[("op.toml", script)]) else { return };
    let stubborn = "[ -e $1/go ] && exit 0\ntrap '' TERM\nsetsid sh -c 'trap \"\" TERM; echo $$ >'$1'/hidden; sleep 1000; sleep 1000' &\necho $$ >$1/pid\nsleep 1000\nsleep 1000\n";
    fs::write(folder.path().join("stubborn.sh"), stubborn).expect("written");
    agent.start();
    begin(&mut agent, "op", "1", json!({}));
    let pids = ["pid", "hidden"].map(|name| wait_text(&folder.path().join(name)));
    agent.stop();
    let gone = wait_for(PATIENCE, || pids.iter().all(|pid| !is_alive(pid)).then_some(()));
    assert!(gone.is_some(), "{pids:?} go on");
    fs::write(folder.path().join("go"), "").expect("written");
    agent.start();
    reaches(&mut agent, "op", "1", "successful");
}

#[test]
fn what_a_killed_agent_left_running_is_gone_before_it_runs_again() {
    let script = "operation = \"op\"\n[init]\nscript = \"sh @DIR@/long.sh @DIR@\"\non_success = \"successful\"";
    let Some((mut agent, folder)) = agent(&[("op.toml", script)]) else { return };
    let long = "[ -e $1/go ] && exit 0\nsetsid sh -c 'echo $$ >'$1'/hidden; sleep 1000; sleep 1000' &\necho $$ >$1/pid\nwait\n";
    fs::write(folder.path().join("long.sh"), long).expect("written");
    agent.start();
    begin(&mut agent, "op", "1", json!({}));
    let pids = ["pid", "hidden"].map(|name| wait_text(&folder.path().join(name)));
    agent.kill();
    fs::write(folder.path().join("go"), "").expect("written");
    agent.start();
    reaches(&mut agent, "op", "1", "successful");
    assert!(pids.iter().all(|pid| !is_alive(pid)), "{pids:?} go on");
}

#[test]
fn a_command_whose_workflow_was_taken_away_meanwhile_fails_and_one_that_has_ended_stays() {
    let flow = |name: &str, action: &str| format!("operation = \"{name}\"\n[init]\n{action}\n");
    let waits = "action = \"await-agent-restart\"\non_success = \"successful\"";
    let ends = "action = \"proceed\"\non_success = \"successful\"";
    let files = [("gone", waits), ("ended", ends), ("kept", waits)];
    let files = files.map(|(name, action)| (format!("{name}.toml"), flow(name, action)));
    let files = files.each_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let Some((mut agent, folder)) = agent(&files) else { return };
    agent.start();
    for operation in ["gone", "kept", "ended"] {
        begin(&mut agent, operation, "1", json!({}));
    }
    reaches(&mut agent, "ended", "1", "successful");
    agent.kill();
    for name in ["gone.toml", "ended.toml"] {
        fs::remove_file(folder.path().join("workflows").join(name)).expect("it was there");
    }
    agent.start();
    let reason = reaches(&mut agent, "gone", "1", "failed")["reason"].clone();
    assert_eq!(reason, "Fail to resume on start: the workflow of gone is gone");
    reaches(&mut agent, "kept", "1", "successful");
    let mut states = check::states(&agent.seen(), &topic("ended", "1"));
    // What the broker had not acknowledged is said again.
    states.dedup();
    assert_eq!(states, ["init", "successful"], "left alone");
}

#[test]
fn a_workflow_that_cannot_be_read_at_the_start_may_still_be_there() {
    let waits = "operation = \"op\"\n[init]\naction = \"proceed\"\non_success = \"wait\"\n[wait]\naction = \"await-agent-restart\"\non_success = \"successful\"";
    for is_cut in [true, false] {
        let Some((mut agent, folder)) = agent(&[("op.toml", waits)]) else { return };
        agent.start();
        begin(&mut agent, "op", "1", json!({}));
        reaches(&mut agent, "op", "1", "wait");
        agent.kill();
        let file = folder.path().join("workflows/op.toml");
        fs::remove_file(&file).expect("it was there");
        // What nobody can read may be any operation's.
        let made = if is_cut { fs::write(&file, "") } else { fs::create_dir(&file) };
        made.expect("made");
        agent.start();
        reaches(&mut agent, "op", "1", "successful");
    }
}

#[test]
fn a_broker_that_goes_and_comes_back_misses_no_end() {
    let script = "operation = \"op\"\n[init]\nscript = \"sh -c 'echo >@DIR@/begun-${.topic.cmd_id}; while [ ! -e @DIR@/go ]; do sleep 0.1; done'\"\non_success = \"next\"\n[next]\naction = \"proceed\"\non_success = \"successful\"";
    let Some((mut agent, folder)) = agent(&[("op.toml", script)]) else { return };
    agent.start();
    begin(&mut agent, "op", "1", json!({"keep": 1}));
    begin(&mut agent, "op", "2", json!({}));
    for name in ["begun-1", "begun-2"] {
        wait_text(&folder.path().join(name));
    }
    agent.broker().kill();
    fs::write(folder.path().join("go"), "").expect("written");
    let ended =
        wait_for(PATIENCE, || agent.log().contains("no connection to the bus").then_some(()));
    assert!(ended.is_some(), "{}", agent.log());
    agent.broker().start_again();
    assert_eq!(reaches(&mut agent, "op", "1", "successful")["keep"], 1);
    reaches(&mut agent, "op", "2", "successful");
    let capability = format!("{ROOT}/{TARGET}/cmd/op");
    let is_said_again =
        |seen: &[Seen]| seen.iter().filter(|seen| seen.topic == capability).count() >= 2;
    assert!(agent.until(&is_said_again, PATIENCE), "{:?}", agent.seen());
}

#[test]
fn an_id_that_comes_again_right_behind_its_clearing_is_another_command() {
    let flow = "operation = \"op\"\n[init]\naction = \"proceed\"\non_success = \"successful\"";
    let Some((mut agent, _folder)) = agent(&[("wf.toml", flow)]) else { return };
    agent.start();
    begin(&mut agent, "op", "1", json!({}));
    reaches(&mut agent, "op", "1", "successful");
    // Held up, it finds both messages at once.
    let signal = |agent: &BuiltAgent, name: &str| {
        let pid = agent.pid().to_string();
        let told = std::process::Command::new("kill").args([name, &pid]).status();
        assert!(told.expect("kill is there").success());
    };
    signal(&agent, "-STOP");
    agent.publish(&topic("op", "1"), "");
    begin(&mut agent, "op", "1", json!({"again": true}));
    signal(&agent, "-CONT");
    let expected = ["init", "successful", "", "init", "successful"];
    let is_done = |seen: &[Seen]| check::states(seen, &topic("op", "1")).len() >= expected.len();
    assert!(agent.until(&is_done, PATIENCE), "{:?}", agent.seen());
    assert_eq!(reaches(&mut agent, "op", "1", "successful")["again"], true);
}

#[test]
fn a_wrong_setting_is_refused_with_its_name() {
    use std::process::Command;
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, part) in [
        (vec!["--offline"], "bus"),
        (vec!["--offline", "--bus", "http://x"], "bus = \"http://x\""),
        (vec!["--offline", "--bus", "mqtt://10.0.0.1"], "mqtts"),
        (vec!["--offline", "--bus", "mqtt://127.0.0.1", "--target", "x"], "target = \"x\""),
        (vec!["--offline", "--bus", "mqtt://127.0.0.1", "--bus-root", "a/#"], "bus_root"),
        (vec!["--offline", "--bus", "mqtt://127.0.0.1", "--workflows", "/none"], "workflows"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_quarterdeck-agent"))
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(&arguments)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
        assert!(!folder.path().join("data").exists(), "nothing is written before");
    }
}
