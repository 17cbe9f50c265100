//! The built agent with children: one bus, and for each a topic, a folder and commands of its own.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    agent::{BuiltAgent, wait_for, with_workflows},
    check,
    stage::{ROOT, Seen, Stage as _, TARGET},
};

const PATIENCE: Duration = Duration::from_secs(45);
const ONE: &str = "device/child1//";
const TWO: &str = "device/child2//";

/// Waits for a file, then says which version of it has run.
const HELD: &str = r#"
operation = "flash"
[init]
action = "proceed"
on_success = "held"
[held]
script = "sh -c 'echo begun >> @DIR@/${.payload.mark}; while [ ! -e @DIR@/go ]; do sleep 0.02; done'"
on_success = "VERSION"
[VERSION]
action = "proceed"
"#;

/// An agent with two children, each with one workflow file, and one of its own.
struct Family {
    agent: BuiltAgent,
    folder: tempfile::TempDir,
}

impl Family {
    fn new(own: &str, one: &str, two: &str) -> Option<Self> {
        let (agent, folder) = with_workflows(&[("own.toml", own)])?;
        let mut family = Self { agent, folder };
        family.write("child1", one);
        family.write("child2", two);
        family.agent.settings = family.settings(&[(ONE, "child1"), (TWO, "child2")]);
        Some(family)
    }

    fn settings(&self, children: &[(&str, &str)]) -> String {
        let child = |(target, folder): &(&str, &str)| {
            let folder = self.path(folder);
            format!("[[children]]\ntarget = \"{target}\"\nworkflows = \"{}\"\n", folder.display())
        };
        children.iter().map(child).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a workflow file into a child's folder, which is made if need be.
    fn write(&self, child: &str, text: &str) {
        let folder = self.path(child);
        fs::create_dir_all(&folder).expect("a folder");
        let text = text.replace("@DIR@", self.folder.path().to_str().expect("UTF-8"));
        fs::write(folder.join("wf.toml"), text).expect("written");
    }

    fn begin(&mut self, target: &str, id: &str, payload: Value) {
        let mut payload = payload;
        payload["status"] = "init".into();
        self.agent.publish(&topic(target, "flash", id), &payload.to_string());
    }

    fn reaches(&mut self, target: &str, id: &str, state: &str) -> Value {
        let topic = topic(target, "flash", id);
        let is_there =
            |seen: &[Seen]| check::states(seen, &topic).last().is_some_and(|last| last == state);
        let log = self.agent.log();
        assert!(
            self.agent.until(&is_there, PATIENCE),
            "{topic}: {:?}\n{log}",
            self.states(target, id)
        );
        let seen = self.agent.seen();
        let last = seen.iter().rev().find(|seen| seen.topic == topic).expect("it was seen");
        serde_json::from_str(&last.payload).expect("JSON")
    }

    fn states(&self, target: &str, id: &str) -> Vec<String> {
        check::states(&self.agent.seen(), &topic(target, "flash", id))
    }

    /// Waits until what stands last on a capability's topic is this.
    fn announces(&mut self, target: &str, operation: &str, expected: &str) {
        let topic = format!("{ROOT}/{target}/cmd/{operation}");
        let is_said = |seen: &[Seen]| {
            seen.iter()
                .rev()
                .find(|seen| seen.topic == topic)
                .is_some_and(|s| s.payload == expected)
        };
        assert!(self.agent.until(&is_said, PATIENCE), "{topic}: {:?}", self.agent.seen());
    }
}

fn topic(target: &str, operation: &str, id: &str) -> String {
    format!("{ROOT}/{target}/cmd/{operation}/{id}")
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Prints its topic's parts and which target's workflow this is.
fn saying(whose: &str) -> String {
    format!(
        "operation = \"flash\"\n[init]\n\
         script = \"printf ':::begin-tedge:::\\\\n{{\\\"of\\\":\\\"{whose}\\\",\\\"target\\\":\\\"%s\\\"}}\\\\n:::end-tedge:::\\\\n' ${{.topic.target}}\"\n\
         on_success = \"successful\"\n"
    )
}

#[test]
fn children_run_their_own_workflows_under_one_operation_and_one_id() {
    let families = Family::new(&saying("main"), &saying("one"), &saying("two"));
    let Some(mut family) = families else { return };
    family.agent.start();
    for (target, whose) in [(TARGET, "main"), (ONE, "one"), (TWO, "two")] {
        family.begin(target, "1", json!({"keep": 1}));
        let end = family.reaches(target, "1", "successful");
        assert_eq!(
            (&end["of"], &end["target"], &end["keep"]),
            (&json!(whose), &json!(target), &json!(1))
        );
        family.announces(target, "flash", "{}");
    }
    // What is built in is the main device's alone.
    family.announces(TARGET, "system_info", "{}");
    let of_child = format!("{ROOT}/{ONE}/cmd/system_info");
    assert!(family.agent.seen().iter().all(|seen| seen.topic != of_child));
    // Cleared by who asked, an id may come again; the others are as they were.
    family.agent.publish(&topic(ONE, "flash", "1"), "");
    family.begin(ONE, "1", json!({"again": true}));
    let again = |seen: &[Seen]| {
        let last = seen.iter().rev().find(|seen| seen.topic == topic(ONE, "flash", "1"));
        last.is_some_and(|s| s.payload.contains("again") && s.payload.contains("successful"))
    };
    assert!(family.agent.until(&again, PATIENCE), "{:?}", family.agent.seen());
    for target in [TARGET, TWO] {
        assert_eq!(family.states(target, "1"), ["init", "successful"], "{target}");
    }
}

#[test]
fn a_childs_sub_operation_is_the_childs_too() {
    let parent = "operation = \"flash\"\n[init]\noperation = \"part\"\ninput.x = 5\non_exec = \"wait\"\n\
                  [wait]\naction = \"await-operation-completion\"\noutput.whose = \"${.topic.target}\"\n\
                  output.by = \"${.payload.by}\"\non_success = \"successful\"\n";
    let part = |by: &str| {
        format!(
            "operation = \"part\"\n[init]\nscript = \"printf ':::begin-tedge:::\\\\n{{\\\"by\\\":\\\"{by}\\\"}}\\\\n:::end-tedge:::\\\\n'\"\non_success = \"successful\"\n"
        )
    };
    let Some(mut family) = Family::new(&part("main"), parent, parent) else { return };
    fs::write(family.path("child1/part.toml"), part("one")).expect("written");
    family.agent.start();
    family.begin(ONE, "1", json!({}));
    let end = family.reaches(ONE, "1", "successful");
    assert_eq!((&end["whose"], &end["by"]), (&json!(ONE), &json!("one")));
    let sub = topic(ONE, "part", "sub:flash:1");
    let is_cleared = |seen: &[Seen]| {
        seen.iter().rev().find(|seen| seen.topic == sub).is_some_and(|seen| seen.payload.is_empty())
    };
    assert!(family.agent.until(&is_cleared, PATIENCE), "{:?}", family.agent.seen());
    // The second child cannot do it, though the main device could: another participant may (F4).
    family.begin(TWO, "1", json!({}));
    family.reaches(TWO, "1", "wait");
    let sub = topic(TWO, "part", "sub:flash:1");
    let waits = |seen: &[Seen]| check::states(seen, &sub) == ["init"];
    assert!(family.agent.until(&waits, PATIENCE), "{:?}", family.agent.seen());
    family.agent.publish(&sub, "{\"status\":\"successful\",\"by\":\"theirs\"}");
    assert_eq!(family.reaches(TWO, "1", "successful")["by"], "theirs");
}

#[test]
fn a_childs_command_survives_kill_9_with_the_file_it_began_with() {
    let held = |version: &str| HELD.replace("VERSION", version);
    let families = Family::new(&held("main"), &held("first"), &held("second"));
    let Some(mut family) = families else { return };
    family.agent.start();
    family.begin(ONE, "1", json!({"mark": "m1"}));
    family.begin(TWO, "1", json!({"mark": "m2"}));
    for mark in ["m1", "m2"] {
        let begun = wait_for(PATIENCE, || (lines(&family.path(mark)) == 1).then_some(()));
        assert!(begun.is_some(), "{mark}: {}", family.agent.log());
    }
    // Replaced in mid-run: who comes now runs the new one, who runs keeps the old.
    family.write("child1", &held("third"));
    family.begin(ONE, "2", json!({"mark": "m3"}));
    let begun = wait_for(PATIENCE, || (lines(&family.path("m3")) == 1).then_some(()));
    assert!(begun.is_some(), "{}", family.agent.log());
    family.agent.kill();
    family.write("child2", &held("fourth"));
    fs::write(family.path("go"), "").expect("written");
    family.agent.start();
    for (target, id, state) in [(ONE, "1", "first"), (ONE, "2", "third"), (TWO, "1", "second")] {
        let states = |seen: &[Seen]| {
            check::states(seen, &topic(target, "flash", id)).iter().any(|seen| seen == state)
        };
        assert!(family.agent.until(&states, PATIENCE), "{target}: {:?}", family.states(target, id));
        family.reaches(target, id, "successful");
    }
    for mark in ["m1", "m2", "m3"] {
        assert_eq!(lines(&family.path(mark)), 2, "{mark}: run again from its start, once");
    }
    family.begin(TWO, "2", json!({"mark": "m4"}));
    family.reaches(TWO, "2", "successful");
    assert_eq!(family.states(TWO, "2"), ["init", "held", "fourth", "successful"]);
}

#[test]
fn a_childs_folder_that_is_not_there_is_asked_for_and_waited_for() {
    let Some(mut family) = Family::new(&saying("main"), &saying("one"), &saying("two")) else {
        return;
    };
    fs::remove_dir_all(family.path("child2")).expect("it is there");
    family.agent.start();
    let log = family.agent.log();
    assert!(log.contains("make this folder") && log.contains("child2"), "{log}");
    family.begin(TWO, "1", json!({}));
    family.begin(ONE, "1", json!({}));
    family.reaches(ONE, "1", "successful");
    assert_eq!(family.states(TWO, "1"), ["init"]);
    family.write("child2", &saying("two"));
    assert_eq!(family.reaches(TWO, "1", "successful")["of"], "two");
    family.announces(TWO, "flash", "{}");
}

#[test]
fn a_childs_file_that_asks_for_what_is_built_in_fails_its_commands_with_the_line() {
    let own = "operation = \"flash\"\n[init]\naction = \"builtin:restart:restart\"\non_success = \"successful\"\n";
    let Some(mut family) = Family::new(&saying("main"), own, &saying("two")) else { return };
    family.agent.start();
    family.begin(ONE, "1", json!({}));
    let end = family.reaches(ONE, "1", "failed");
    let reason = end["reason"].as_str().expect("a reason");
    assert!(reason.contains("child1/wf.toml:2:1: init: what is built in acts on"), "{reason}");
    family.begin(TWO, "1", json!({}));
    family.reaches(TWO, "1", "successful");
}

#[test]
fn a_child_that_is_none_any_more_is_withdrawn_and_its_commands_fail_with_the_reason() {
    let held = HELD.replace("VERSION", "done");
    let Some(mut family) = Family::new(&saying("main"), &saying("one"), &held) else { return };
    family.agent.start();
    family.announces(TWO, "flash", "{}");
    family.begin(ONE, "1", json!({}));
    family.reaches(ONE, "1", "successful");
    family.begin(TWO, "1", json!({"mark": "m2"}));
    family.reaches(TWO, "1", "held");
    family.agent.stop();
    family.agent.settings = family.settings(&[(ONE, "child1")]);
    family.agent.start();
    let end = family.reaches(TWO, "1", "failed");
    let reason = end["reason"].as_str().expect("a reason");
    assert!(reason.contains("device/child2// is no target of this agent any more"), "{reason}");
    family.announces(TWO, "flash", "");
    // New ones are nobody's here; the other child goes on, and what has ended stays so.
    family.begin(TWO, "2", json!({"mark": "m3"}));
    family.begin(ONE, "2", json!({}));
    family.reaches(ONE, "2", "successful");
    assert_eq!(family.states(TWO, "2"), ["init"]);
    assert_eq!(family.states(ONE, "1"), ["init", "successful"]);
}

// --- a child that is wrong, or not let in ------------------------------------------

/// Runs a command on each of these targets to its end.
fn all_go_on(family: &mut Family, targets: &[&str]) {
    for target in targets {
        family.announces(target, "flash", "{}");
        family.begin(target, "1", json!({}));
        family.reaches(target, "1", "successful");
    }
}

#[test]
fn a_child_whose_settings_are_wrong_is_left_out_and_harms_nobody_else() {
    let families = Family::new(&saying("main"), &saying("one"), &saying("two"));
    let Some(mut family) = families else { return };
    let wrong = [("device/child1", "child1"), ("device/a\\uFFFFb//", "child3"), (TWO, "child2")];
    family.agent.settings = family.settings(&wrong);
    family.agent.start();
    let log = family.agent.log();
    for key in ["children[0].target", "children[1].target"] {
        assert!(log.lines().any(|line| line.contains("left out") && line.contains(key)), "{log}");
    }
    all_go_on(&mut family, &[TARGET, TWO]);
}

#[test]
fn a_childs_workflow_whose_name_no_topic_can_hold_harms_nobody_else() {
    let odd = saying("one").replace("\"flash\"", "\"fl\\uFFFFash\"");
    let Some(mut family) = Family::new(&saying("main"), &odd, &saying("two")) else { return };
    family.agent.start();
    all_go_on(&mut family, &[TARGET, TWO]);
    let log = family.agent.log();
    assert!(log.contains("is no name of an operation") && log.contains("child1/wf.toml"), "{log}");
    assert!(!log.contains("no connection to the bus"), "{log}");
}

#[test]
fn a_child_whose_subscription_the_broker_refuses_harms_nobody_else() {
    let Some(plugin) = dynamic_security() else {
        let _ = writeln!(std::io::stderr(), "skipped: Mosquitto's dynamic security is not there");
        return;
    };
    let families = Family::new(&saying("main"), &saying("one"), &saying("two"));
    let Some(mut family) = families else { return };
    let rules = json!({
        "defaultACLAccess": {
            "publishClientSend": true, "publishClientReceive": true,
            "subscribe": true, "unsubscribe": true,
        },
        "clients": [],
        "groups": [{ "groupname": "all", "roles": [{ "rolename": "some" }] }],
        "roles": [{ "rolename": "some", "acls": [{
            "acltype": "subscribeLiteral", "topic": topic(ONE, "+", "+"), "allow": false,
        }] }],
        "anonymousGroup": "all",
    });
    fs::write(family.path("rules.json"), rules.to_string()).expect("written");
    let config = family.path("agent/mosquitto.conf");
    let text = fs::read_to_string(&config).expect("it is there");
    let rules = family.path("rules.json");
    let more = format!("plugin {}\nplugin_opt_config_file {}\n", plugin.display(), rules.display());
    fs::write(&config, text + &more).expect("written");
    family.agent.broker().start_again();
    family.agent.start();
    all_go_on(&mut family, &[TARGET, TWO]);
    let log = family.agent.log();
    assert!(log.lines().any(|line| line.contains("refuses") && line.contains(ONE)), "{log}");
    // Of what it cannot be told, it does not say that it can do it.
    let able = format!("{ROOT}/{ONE}/cmd/flash");
    assert!(family.agent.seen().iter().all(|seen| seen.topic != able));
}

/// Mosquitto's plugin with which it refuses subscriptions.
fn dynamic_security() -> Option<PathBuf> {
    let name = "mosquitto_dynamic_security.so";
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.chain([PathBuf::from("/usr/lib")]).map(|f| f.join(name)).find(|path| path.is_file())
}
