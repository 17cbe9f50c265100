//! What stands on the bus when the agent comes back to it: a broker that has forgotten all,
//! topics that were cleared meanwhile, ids that were used again.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    agent::{BuiltAgent, wait_for, with_workflows},
    broker::Others,
    check,
    stage::{ROOT, Seen, Stage as _, TARGET},
};

const PATIENCE: Duration = Duration::from_secs(45);

/// Notes each of its steps, waits for another participant and then for a file.
const FLOW: &str = r#"
operation = "op"
[init]
script = "@DIR@/note.sh ${.topic.cmd_id} begun-${.payload.n}"
on_success = "theirs"
[go]
script = "@DIR@/note.sh ${.topic.cmd_id} go-${.payload.n}"
on_success = "held"
[held]
script = "sh -c 'echo held-${.payload.n} >>@DIR@/${.topic.cmd_id}; while [ ! -e @DIR@/end ]; do sleep 0.02; done'"
on_success = "successful"
"#;
const NOTE: &str = "#!/bin/sh\necho $2 >>\"$(dirname \"$0\")/$1\"\n";

fn topic(cmd_id: &str) -> String {
    format!("{ROOT}/{TARGET}/cmd/op/{cmd_id}")
}

fn with_flow(flow: &str) -> Option<(BuiltAgent, tempfile::TempDir)> {
    use std::os::unix::fs::PermissionsExt as _;
    let (agent, folder) = with_workflows(&[("op.toml", flow)])?;
    let note = folder.path().join("note.sh");
    fs::write(&note, NOTE).expect("written");
    fs::set_permissions(&note, fs::Permissions::from_mode(0o755)).expect("set");
    Some((agent, folder))
}

fn say(agent: &mut BuiltAgent, cmd_id: &str, status: &str, n: u32) {
    agent.publish(&topic(cmd_id), &json!({"status": status, "n": n}).to_string());
}

/// Waits until a state was said last on a command's topic; only what was seen after the
/// first `since` counts.
fn reaches(agent: &mut BuiltAgent, since: usize, cmd_id: &str, status: &str, n: u32) {
    let topic = topic(cmd_id);
    let is_there = |seen: &[Seen]| {
        let last = seen.iter().skip(since).rev().find(|seen| seen.topic == topic);
        last.is_some_and(|last| is_state(&last.payload, status, n))
    };
    let is_said = agent.until(&is_there, PATIENCE);
    assert!(is_said, "{cmd_id} {status} {n}: {:#?}", &agent.seen()[since..]);
}

fn is_state(payload: &str, status: &str, n: u32) -> bool {
    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
    payload["status"] == status && payload["n"] == n
}

/// What the scripts of a command have noted.
fn noted(folder: &tempfile::TempDir, cmd_id: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.path().join(cmd_id)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn waits_for_note(folder: &tempfile::TempDir, cmd_id: &str, note: &str) {
    let is_noted = || noted(folder, cmd_id).iter().any(|n| n == note).then_some(());
    assert!(wait_for(PATIENCE, is_noted).is_some(), "{note}: {:?}", noted(folder, cmd_id));
}

fn let_end(folder: &Path) {
    fs::write(folder.join("end"), "").expect("written");
}

/// What stands on a topic, as somebody finds it who comes only now.
fn stands(agent: &mut BuiltAgent, topic: &str) -> impl Fn() -> Option<String> + use<> {
    let found: Arc<Mutex<Option<String>>> = Arc::default();
    let to = Arc::clone(&found);
    let client = Others::connect(agent.broker(), topic, move |publish| {
        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
        *to.lock().expect("nobody panicked") = Some(payload);
    });
    move || {
        let _stays = &client;
        found.lock().expect("nobody panicked").clone()
    }
}

/// Restarts the broker, which forgets all; the agent, held up, finds that out after `meanwhile`.
fn forget(agent: &mut BuiltAgent, meanwhile: impl FnOnce(&mut BuiltAgent)) -> usize {
    let signal = |agent: &BuiltAgent, name: &str| {
        let pid = agent.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("it is there").success());
    };
    signal(agent, "-STOP");
    agent.broker().kill();
    let since = agent.seen().len();
    agent.broker().start_again();
    meanwhile(agent);
    signal(agent, "-CONT");
    since
}

// --- a broker that has forgotten ------------------------------------------------

#[test]
fn a_broker_that_has_forgotten_is_told_again_and_nothing_is_begun_again() {
    let Some((mut agent, folder)) = with_flow(FLOW) else { return };
    agent.start();
    say(&mut agent, "parked", "init", 1);
    reaches(&mut agent, 0, "parked", "theirs", 1);
    say(&mut agent, "busy", "init", 2);
    reaches(&mut agent, 0, "busy", "theirs", 2);
    say(&mut agent, "busy", "go", 2);
    reaches(&mut agent, 0, "busy", "held", 2);
    waits_for_note(&folder, "busy", "held-2");

    for _ in 0..2 {
        let since = forget(&mut agent, |_| {});
        reaches(&mut agent, since, "parked", "theirs", 1);
        reaches(&mut agent, since, "busy", "held", 2);
        let capability = format!("{ROOT}/{TARGET}/cmd/op");
        let is_able = |seen: &[Seen]| seen[since..].iter().any(|s| s.topic == capability);
        assert!(agent.until(&is_able, PATIENCE), "{:#?}", &agent.seen()[since..]);
        for (cmd_id, status, n) in [("parked", "theirs", 1), ("busy", "held", 2)] {
            let standing = stands(&mut agent, &topic(cmd_id));
            let is_standing =
                || standing().filter(|payload| is_state(payload, status, n)).map(|_| ());
            assert!(wait_for(PATIENCE, is_standing).is_some(), "retained: {cmd_id}");
        }
    }
    // What was said again is nobody else's word; another participant may go on from there.
    let since = agent.seen().len();
    say(&mut agent, "parked", "go", 3);
    let_end(folder.path());
    reaches(&mut agent, since, "parked", "successful", 3);
    reaches(&mut agent, since, "busy", "successful", 2);
    assert_eq!(noted(&folder, "parked"), ["begun-1", "go-3", "held-3"]);
    assert_eq!(noted(&folder, "busy"), ["begun-2", "go-2", "held-2"]);
}

#[test]
fn what_another_participant_put_on_a_forgetful_broker_stays_and_counts() {
    let Some((mut agent, folder)) = with_flow(FLOW) else { return };
    let_end(folder.path());
    agent.start();
    say(&mut agent, "1", "init", 1);
    reaches(&mut agent, 0, "1", "theirs", 1);
    let since = forget(&mut agent, |agent| say(agent, "1", "go", 2));
    reaches(&mut agent, since, "1", "successful", 2);
    let states = check::states(&agent.seen()[since..], &topic("1"));
    assert_eq!(states, ["go", "held", "successful"]);
    assert_eq!(noted(&folder, "1"), ["begun-1", "go-2", "held-2"]);
}

#[test]
fn an_agent_that_comes_back_to_a_forgetful_broker_says_its_commands_again() {
    let Some((mut agent, folder)) = with_flow(FLOW) else { return };
    agent.start();
    say(&mut agent, "1", "init", 1);
    reaches(&mut agent, 0, "1", "theirs", 1);
    for _ in 0..2 {
        agent.kill();
        agent.broker().start_again();
        let since = agent.seen().len();
        agent.start();
        reaches(&mut agent, since, "1", "theirs", 1);
    }
    assert_eq!(noted(&folder, "1"), ["begun-1"]);
}

#[test]
fn a_broker_that_comes_back_with_an_old_file_is_told_again_and_clears_nothing() {
    let Some((mut agent, folder)) = with_flow(FLOW) else { return };
    let (config, file) = ("agent/mosquitto.conf", folder.path().join("mosquitto.db"));
    let config = folder.path().join(config);
    let text = fs::read_to_string(&config).expect("it is there");
    let location = format!("persistence_location {}/", folder.path().display());
    let saves = format!("user root\npersistence true\n{location}\nautosave_on_changes true");
    let text = text.replace("persistence false", &format!("{saves}\nautosave_interval 1"));
    fs::write(&config, text).expect("written");
    agent.broker().start_again();
    agent.start();
    let own = format!("{ROOT}/{TARGET}/status/quarterdeck");
    let is_told = |seen: &[Seen]| seen.iter().any(|s| s.topic == own && s.payload != "{}");
    assert!(agent.until(&is_told, PATIENCE), "{:#?}", agent.seen());
    let word = agent.seen().into_iter().rfind(|seen| seen.topic == own).expect("seen").payload;
    let old = wait_for(PATIENCE, || {
        let bytes = fs::read(&file).ok()?;
        bytes.windows(word.len()).any(|part| part == word.as_bytes()).then_some(bytes)
    });
    let old = old.expect("it saves");
    say(&mut agent, "1", "init", 1);
    reaches(&mut agent, 0, "1", "theirs", 1);
    agent.broker().kill();
    fs::write(&file, old).expect("written");
    let since = agent.seen().len();
    agent.broker().start_again();
    reaches(&mut agent, since, "1", "theirs", 1);
    assert_eq!(noted(&folder, "1"), ["begun-1"]);
}

#[cfg(debug_assertions)]
#[test]
fn killed_while_it_tells_a_forgetful_broker_the_agent_forgets_no_command() {
    let Some((mut agent, folder)) = with_flow(FLOW) else { return };
    agent.start();
    let ids = ["a", "b", "c"];
    for cmd_id in ids {
        say(&mut agent, cmd_id, "init", 1);
        reaches(&mut agent, 0, cmd_id, "theirs", 1);
    }
    agent.kill();
    let is_said = |since: usize| {
        move |seen: &[Seen]| {
            let said = |id: &&str| seen.iter().skip(since).any(|seen| seen.topic == topic(id));
            ids.iter().all(said)
        }
    };
    for point in 1.. {
        agent.broker().start_again();
        let since = agent.seen().len();
        agent.environment = vec![("QUARTERDECK_AGENT_DIE_AT".to_owned(), point.to_string())];
        agent.launch();
        let has_died = agent.dies_before(&is_said(since)) || agent.dies_before_its_stop();
        agent.environment.clear();
        agent.start();
        for cmd_id in ids {
            reaches(&mut agent, since, cmd_id, "theirs", 1);
        }
        if !has_died {
            assert!(point > 10, "the agent died at {point} points only");
            break;
        }
        agent.kill();
    }
    let_end(folder.path());
    for cmd_id in ids {
        say(&mut agent, cmd_id, "go", 2);
        reaches(&mut agent, 0, cmd_id, "successful", 2);
        assert_eq!(noted(&folder, cmd_id), ["begun-1", "go-2", "held-2"]);
    }
}

// --- topics that were cleared while the agent was away ---------------------------

#[test]
fn an_id_that_was_cleared_and_used_again_while_the_agent_was_down_is_another_command() {
    let Some((mut agent, folder)) = with_flow(FLOW) else { return };
    let_end(folder.path());
    agent.start();
    say(&mut agent, "parked", "init", 1);
    reaches(&mut agent, 0, "parked", "theirs", 1);
    say(&mut agent, "over", "init", 1);
    reaches(&mut agent, 0, "over", "theirs", 1);
    say(&mut agent, "over", "go", 1);
    reaches(&mut agent, 0, "over", "successful", 1);
    agent.stop();
    // The same payload as before: it is the clearing that makes it another one.
    for cmd_id in ["parked", "over"] {
        agent.publish(&topic(cmd_id), "");
    }
    let since = agent.seen().len();
    for cmd_id in ["parked", "over"] {
        say(&mut agent, cmd_id, "init", 1);
    }
    agent.start();
    for cmd_id in ["parked", "over"] {
        reaches(&mut agent, since, cmd_id, "theirs", 1);
        say(&mut agent, cmd_id, "go", 2);
        reaches(&mut agent, since, cmd_id, "successful", 2);
        let states = check::states(&agent.seen()[since..], &topic(cmd_id));
        assert_eq!(states, ["init", "theirs", "go", "held", "successful"], "{cmd_id}");
    }
    assert_eq!(noted(&folder, "parked"), ["begun-1", "begun-1", "go-2", "held-2"]);
}

#[test]
fn a_command_that_was_cleared_while_the_agent_was_down_is_forgotten() {
    let Some((mut agent, folder)) = with_flow(FLOW) else { return };
    agent.start();
    for cmd_id in ["parked", "busy"] {
        say(&mut agent, cmd_id, "init", 1);
        reaches(&mut agent, 0, cmd_id, "theirs", 1);
    }
    say(&mut agent, "busy", "go", 1);
    waits_for_note(&folder, "busy", "held-1");
    agent.kill();
    for cmd_id in ["parked", "busy"] {
        agent.publish(&topic(cmd_id), "");
    }
    let since = agent.seen().len();
    agent.start();
    say(&mut agent, "other", "init", 3);
    reaches(&mut agent, since, "other", "theirs", 3);
    // No baton moves what is forgotten, and its id is free.
    say(&mut agent, "parked", "go", 2);
    say(&mut agent, "busy", "init", 4);
    reaches(&mut agent, since, "busy", "theirs", 4);
    assert_eq!(check::states(&agent.seen()[since..], &topic("parked")), ["go"]);
    assert_eq!(check::states(&agent.seen()[since..], &topic("busy")), ["init", "theirs"]);
    assert_eq!(noted(&folder, "busy"), ["begun-1", "go-1", "held-1", "begun-4"]);
}

#[test]
fn a_command_goes_on_while_nobody_can_say_whether_it_was_cleared() {
    let Some((mut agent, folder)) = with_flow(FLOW) else { return };
    agent.start();
    say(&mut agent, "1", "init", 1);
    reaches(&mut agent, 0, "1", "theirs", 1);
    say(&mut agent, "1", "go", 1);
    waits_for_note(&folder, "1", "held-1");
    agent.kill();
    agent.broker().kill();
    fs::remove_file(folder.path().join("1")).expect("written before");
    agent.launch();
    waits_for_note(&folder, "1", "held-1");
    agent.broker().start_again();
    let_end(folder.path());
    reaches(&mut agent, 0, "1", "successful", 1);
}

/// Runs a sub-operation between two steps.
#[cfg(debug_assertions)]
const PARENT: &str = r#"
operation = "op"
[init]
script = "@DIR@/note.sh ${.topic.cmd_id} begun-${.payload.n}"
on_success = "start"
[start]
operation = "leaf"
input.n = "${.payload.n}"
input.of = "${.topic.cmd_id}"
on_exec = "wait"
[wait]
action = "await-operation-completion"
output.leaf = "${.payload.n}"
on_success = "last"
[last]
script = "@DIR@/note.sh ${.topic.cmd_id} last-${.payload.leaf}"
on_success = "successful"
"#;
#[cfg(debug_assertions)]
const LEAF: &str = r#"
operation = "leaf"
[init]
script = "@DIR@/note.sh ${.payload.of} leaf-${.payload.n}"
on_success = "successful"
"#;

#[cfg(debug_assertions)]
#[test]
fn wherever_the_agent_was_killed_a_cleared_command_does_not_go_on_as_the_next_on_its_topic() {
    let Some((mut agent, folder)) = with_flow(PARENT) else { return };
    let leaf = LEAF.replace("@DIR@", folder.path().to_str().expect("UTF-8"));
    fs::write(folder.path().join("workflows/leaf.toml"), leaf).expect("written");
    for point in (1..).step_by(2) {
        let cmd_id = format!("c{point}");
        say(&mut agent, &cmd_id, "init", 1);
        agent.environment = vec![("QUARTERDECK_AGENT_DIE_AT".to_owned(), point.to_string())];
        agent.launch();
        let own = topic(&cmd_id);
        let is_over = |seen: &[Seen]| {
            check::states(seen, &own).last().is_some_and(|state| state == "successful")
        };
        let has_died = agent.dies_before(&is_over) || agent.dies_before_its_stop();
        agent.environment.clear();
        agent.publish(&own, "");
        let since = agent.seen().len();
        say(&mut agent, &cmd_id, "init", 2);
        agent.start();
        reaches(&mut agent, since, &cmd_id, "successful", 2);
        let notes = noted(&folder, &cmd_id);
        let (first, second): (Vec<_>, Vec<_>) = notes.iter().partition(|n| n.ends_with("-1"));
        assert_eq!(second, ["begun-2", "leaf-2", "last-2"], "{point}: {notes:?}");
        // A script outlives its agent, but nothing of the first command is begun again.
        let begun: std::collections::BTreeSet<_> = first.iter().collect();
        assert_eq!(begun.len(), first.len(), "{point}: {notes:?}");
        agent.stop();
        agent.publish(&own, "");
        if !has_died {
            assert!(point > 20, "the agent died at {point} points only");
            return;
        }
    }
}
