//! Tables of files and what is wrong in them, each named by the rule that it holds.

use proptest::prelude::*;

use super::*;

fn problems(text: &str) -> Vec<String> {
    match Definition::parse("wf.toml", text) {
        Ok(_) => Vec::new(),
        Err(invalid) => invalid.problems.iter().map(ToString::to_string).collect(),
    }
}

/// What is wrong in a state besides `operation` and a valid `init`.
fn in_state(section: &str) -> Vec<String> {
    problems(&format!("operation = \"op\"\n[init]\naction = \"proceed\"\n[s]\n{section}\n"))
}

fn action(section: &str) -> Action {
    let text = format!("operation = \"op\"\n[init]\n{section}\n");
    let definition = Definition::parse("wf.toml", &text).expect("valid");
    definition.action(INIT).expect("it is there").clone()
}

#[test]
fn d_rules_each_invalid_section_is_told_with_its_line_and_key() {
    let table = [
        (
            "D3",
            "script = \"p\"\non_error = \"a\"\non_exit._ = \"b\"",
            "6:12: s.on_error: is the same as on_exit._",
        ),
        (
            "D3",
            "script = \"p\"\non_success = \"a\"\non_exit.0 = \"b\"",
            "6:14: s.on_success: is the same as on_exit.0",
        ),
        (
            "D3",
            "script = \"p\"\non_success = \"a\"\non_exit.0-3 = \"b\"",
            "6:14: s.on_success: is the same as on_exit.0",
        ),
        (
            "D3",
            "script = \"p\"\non_success = \"a\"\non_stdout = [\"b\"]",
            "7:13: s.on_stdout: goes not with on_success or on_exit.0: expected one of them",
        ),
        (
            "D3 O1",
            "script = \"p\"\non_exit.0 = \"a\"\non_stdout = [\"b\"]",
            "7:13: s.on_stdout: goes not with on_success or on_exit.0: expected one of them",
        ),
        (
            "D3",
            "script = \"p\"\non_exit.1-3 = \"a\"\non_exit.3-4 = \"b\"",
            "7:9: s.on_exit: overlaps with 1-3",
        ),
        (
            "D3",
            "script = \"p\"\non_exit.3 = \"a\"\non_exit.1-4 = \"b\"",
            "6:9: s.on_exit: overlaps with 1-4",
        ),
        (
            "D3",
            "script = \"p\"\non_exit.5-2 = \"a\"",
            "6:9: s.on_exit.5-2: 2 is below 5: expected 2-5",
        ),
        (
            "D3",
            "script = \"p\"\non_exit.256 = \"a\"",
            "6:9: s.on_exit.256: expected an exit code from 0 to 255",
        ),
        ("D3", "script = \"p\"\non_exit.x = \"a\"", "6:9: s.on_exit.x: expected an exit code"),
        (
            "D3",
            "script = \"p\"\non_exit.\"-1\" = \"a\"",
            "6:9: s.on_exit.-1: expected an exit code",
        ),
        ("D3", "script = \"p\"\non_exit = \"a\"", "6:11: s.on_exit: expected exit codes"),
        (
            "D4",
            "action = \"do-magic\"",
            "5:10: s.action: \"do-magic\" is unknown: expected proceed",
        ),
        (
            "A3",
            "action = \"builtin\"\nrepeatable = \"yes\"",
            "6:14: s.repeatable: expected true or false",
        ),
        ("D4", "action = \"builtin:\"", "5:10: s.action: \"builtin:\" is unknown"),
        ("D4", "action = \"builtin:op\"", "5:10: s.action: \"builtin:op\" is unknown"),
        (
            "D5",
            "script = \"p 'a\"",
            "5:10: s.script: expected a command line: a quote is not closed",
        ),
        ("D5", "script = \"\"", "5:10: s.script: expected a command line: it names no program"),
        ("D5", "background_script = \"  \"", "5:21: s.background_script: expected a command line"),
        (
            "D5",
            "operation = \"x\"\ninput_script = '\"'",
            "6:16: s.input_script: expected a command line",
        ),
        ("D6", "on_success = \"a\"", "4:2: s: expected one of action, script"),
        ("D7", "operation = \"x\"\ninput = 3", "6:9: s.input: expected a table"),
        ("D7", "operation = \"x\"\ninput = \"text\"", "6:9: s.input: expected a table"),
        ("D7", "operation = \"x\"\ninput = [1]", "6:9: s.input: expected a table"),
        (
            "D7",
            "action = \"await-operation-completion\"\noutput = true",
            "6:10: s.output: expected a table",
        ),
        (
            "D7",
            "operation = \"x\"\ninput.f = nan",
            "6:11: s.input.f: expected a number that JSON can hold",
        ),
        (
            "D9",
            "script = \"p\"\non_success = [\"a\", \"b\"]",
            "6:14: s.on_success: expected a state",
        ),
        ("D9", "script = \"p\"\non_success = []", "6:14: s.on_success: expected a state"),
        (
            "E7",
            "script = \"p\"\non_error = { reason = \"r\" }",
            "6:12: s.on_error: expected a state",
        ),
        (
            "E7",
            "script = \"p\"\non_error = { status = \"a\", reason = 1 }",
            "6:37: s.on_error.reason: expected a text, found integer",
        ),
        ("E7", "script = \"p\"\non_error = 1", "6:12: s.on_error: expected a state"),
        ("E7", "script = \"p\"\non_error = \"\"", "6:12: s.on_error: expected the name of a state"),
        ("O1", "script = \"p\"\non_stdout = \"a\"", "6:13: s.on_stdout: expected a list of states"),
        (
            "O1",
            "script = \"p\"\non_stdout = [1]",
            "6:14: s.on_stdout: expected the name of a state",
        ),
        (
            "T1",
            "script = \"p\"\ntimeout_second = -1",
            "6:18: s.timeout_second: expected a whole number of seconds",
        ),
        (
            "T1",
            "script = \"p\"\ntimeout_second = \"1\"",
            "6:18: s.timeout_second: expected a whole number",
        ),
        (
            "A3",
            "operation = \"builtin:other\"",
            "5:13: s.operation: expected builtin: with the operation of this file",
        ),
        ("U11", "operation = \"a/b\"", "5:13: s.operation: \"a/b\" is no name of an operation"),
        ("I1", "iterate = \"xs\"\non_next = \"a\"", "5:11: s.iterate: expected one expression"),
        ("I1", "iterate = \"${.payload.xs}\"", "4:2: s.on_next: is missing"),
        ("A", "action = 3", "5:10: s.action: expected a text, found integer"),
    ];
    for (rule, section, expected) in table {
        let found = in_state(section);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{rule}: {section}\n{found:?}");
    }
}

#[test]
fn d1_d2_d12_invalid_files_are_told() {
    let table = [
        ("D1", "operation = \"op\"\n", "1:1: init: is missing: expected an [init] section"),
        ("D1", "operation = \"op\"\ninit = 1\n", "1:1: init: is missing"),
        (
            "D2",
            "operation = \"op\"\n[init]\naction = \"proceed\"\n[failed]\nscript = \"p\"\n",
            "4:2: failed: ends the workflow",
        ),
        (
            "D2",
            "operation = \"op\"\n[init]\naction = \"proceed\"\n[successful]\naction = \"proceed\"\n",
            "4:2: successful: ends",
        ),
        (
            "D12",
            "operation = \"op\"\ndescription = \"d\"\n[init]\naction = \"proceed\"\n",
            "2:1: description: is unknown",
        ),
        ("D8", "[init]\naction = \"proceed\"\n", "1:1: operation: is missing: expected"),
        (
            "D8",
            "operation = 1\n[init]\naction = \"proceed\"\n",
            "1:13: operation: expected the name",
        ),
        (
            "D8",
            "operation = \"a b\"\n[init]\naction = \"proceed\"\n",
            "1:13: operation: \"a b\" is no name",
        ),
        ("TOML", "operation = \"op\"\n[init]\naction = \n", "3:10: this is no TOML"),
        (
            "TOML",
            "operation = \"op\"\n[init]\naction = \"proceed\"\n[init]\naction = \"proceed\"\n",
            "4:2: this is no TOML",
        ),
    ];
    for (rule, text, expected) in table {
        let found = problems(text);
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{rule}: {text}\n{found:?}"
        );
    }
}

#[test]
fn d10_all_problems_of_a_file_are_told_at_once_and_its_commands_fail_with_them() {
    let text = "operation = \"op\"\nodd = 1\n[init]\naction = \"fly\"\n[s]\nscript = \"'\"\n[failed]\nscript = \"p\"\n";
    let invalid = Definition::parse("wf.toml", text).expect_err("invalid");
    assert_eq!(invalid.operation.as_deref(), Some("op"));
    assert_eq!(invalid.problems.iter().map(|p| p.line).collect::<Vec<_>>(), [2, 4, 6, 7]);
    assert!(invalid.to_string().starts_with("wf.toml:2:1: odd: is unknown"), "{invalid}");
    let reason = invalid.reason();
    assert!(reason.starts_with("Invalid operation workflow definition: wf.toml:2:1:"), "{reason}");
    let stand_in = Definition::ill_formed("op", &reason);
    assert_eq!(stand_in.reachable(), ["init", "executing", "failed"]);
    let broken = Definition::parse("wf.toml", "operation = \"op\"\n[init\naction = \"proceed\"\n")
        .expect_err("invalid");
    assert_eq!(broken.operation.as_deref(), Some("op"), "also of a file that is no TOML");
    let all_syntax = broken.problems.iter().all(|problem| problem.text.contains("no TOML"));
    assert!(all_syntax, "nothing is made up of what was read wrong: {broken}");
}

#[test]
fn d2_the_ends_may_be_left_out() {
    let definition =
        Definition::parse("f", "operation=\"op\"\n[init]\naction=\"proceed\"\n").expect("valid");
    for end in [SUCCESSFUL, FAILED] {
        assert_eq!(definition.action(end), Some(&Action::Cleanup));
    }
}

#[test]
fn d9_b7_the_examples_of_the_source_are_valid() {
    let Action::Script { handlers, .. } = action("script = \"p\"\non_success = [\"scheduled\"]")
    else {
        panic!("a script");
    };
    assert_eq!(handlers.on_zero, OnZero::To(Target::to("scheduled")));
    let background = action("script = \"p reboot\"\non_exec = \"verify\"");
    assert!(
        matches!(background, Action::BackgroundScript { next, .. } if &*next.status == "verify")
    );
}

#[test]
fn the_firmware_example_of_the_source_runs_as_it_is_written() {
    let text = r#"
operation = "firmware_update"

on_error = "failed"

[init]
script = "/usr/bin/firmware_handler.sh plan"
on_success = "executing"
on_error = { status = "failed", reason = "not timely" }

[executing]
action = "proceed"
on_success = "install"

[install]
script = "/usr/bin/firmware_handler.sh install ${.payload.url}"
on_success = "reboot"

[reboot]
script = "/usr/bin/firmware_handler.sh reboot"
on_exec = "verify"

[verify]
script = "/usr/bin/firmware_handler.sh verify"
on_success = "commit"
on_error = { status = "rollback", reason = "sanity check failed" }

[commit]
script = "/usr/bin/firmware_handler.sh commit"
on_success = "successful"
on_error = { status = "rollback", reason = "commit failed" }

[rollback]
script = "/usr/bin/firmware_handler.sh rollback"
on_success = "failed"

["device-restart"]
background_script = "sudo reboot"
on_exec = "waiting-for-restart"

["waiting-for-restart"]
action = "await-agent-restart"
timeout_second = 600
on_timeout = "rollback"
on_success = "verify"

[successful]
action = "cleanup"

[failed]
action = "cleanup"
"#;
    let definition = Definition::parse("firmware_update_example.toml", text).expect("valid");
    assert!(matches!(definition.action("reboot"), Some(Action::BackgroundScript { .. })));
    let reachable = [
        "init",
        "executing",
        "failed",
        "install",
        "reboot",
        "verify",
        "commit",
        "rollback",
        "successful",
    ];
    assert_eq!(definition.reachable(), reachable);
    let notes: Vec<_> = definition.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "37:1: device-restart: no state leads here",
            "41:1: waiting-for-restart: no state leads here"
        ]
    );
}

#[test]
fn d12_unknown_keys_of_a_state_are_noted_and_ignored() {
    let text = "operation = \"op\"\non_kill = \"x\"\n[init]\naction = \"proceed\"\non_success = \"away\"\ndescription = \"d\"\n[lost]\naction = \"proceed\"\n";
    let definition = Definition::parse("wf.toml", text).expect("valid");
    let notes: Vec<_> = definition.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "2:1: on_kill: is ignored for a whole workflow",
            "3:1: init: leads to \"away\", which has no section: the command then waits for another participant",
            "6:1: init.description: is unknown and ignored",
            "7:1: lost: no state leads here",
        ]
    );
}

#[test]
fn d7_an_input_may_be_one_expression_for_a_whole_object() {
    let section = "operation = \"${.payload.@next.item.operation}\"\ninput = \"${.payload.@next.item.payload}\"";
    assert!(matches!(action(section), Action::Operation { input: Fields::Whole(_), .. }));
}

#[test]
fn e4_t3_handlers_are_settled_when_the_file_is_read() {
    let Action::Script { handlers, .. } = action(
        "script = \"p\"\non_exit.9 = \"c\"\non_exit.2-5 = \"b\"\non_exit.0-1 = \"a\"\non_exit._ = \"e\"\non_kill = \"k\"\ntimeout_second = 3",
    ) else {
        panic!("a script");
    };
    assert_eq!(handlers.on_zero, OnZero::To(Target::to("a")));
    let ranges: Vec<_> = handlers.on_exit.iter().map(|exit| (exit.from, exit.to)).collect();
    assert_eq!(ranges, [(0, 1), (2, 5), (9, 9)]);
    assert_eq!((&*handlers.on_error.status, &*handlers.on_timeout.status), ("e", "k"));
    assert_eq!(handlers.timeout_ms, Some(3_000));
}

#[test]
fn v1_the_version_is_the_text() {
    let version = |text: &str| Definition::parse("f", text).expect("valid").version;
    let text = "operation=\"op\"\n[init]\naction=\"proceed\"\n";
    assert_eq!(version(text).len(), 64);
    assert_eq!(version(text), version(text));
    assert_ne!(version(text), version(&format!("{text}# more")));
}

/// Lines that often are near to a valid file.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "operation",
        "action",
        "script",
        "background_script",
        "iterate",
        "input",
        "input.x",
        "output",
        "input_script",
        "on_success",
        "on_error",
        "on_kill",
        "on_exit.0",
        "on_exit.1-9",
        "on_exit._",
        "on_exit.9-1",
        "on_stdout",
        "on_exec",
        "on_next",
        "on_timeout",
        "timeout_second",
        "repeatable",
        "odd",
    ]);
    let value = prop::sample::select(vec![
        "\"init\"",
        "\"proceed\"",
        "\"cleanup\"",
        "\"builtin\"",
        "\"p ${.payload.x} '\"",
        "\"p ${.}\"",
        "\"\"",
        "1",
        "-1",
        "1.5",
        "inf",
        "true",
        "[]",
        "[\"a\"]",
        "[\"a\", 1]",
        "{}",
        "{ status = \"a\" }",
        "{ status = 1 }",
        "{ status = \"a\", reason = \"r\" }",
        "1979-05-27",
        "\"${.payload.xs}\"",
        "0xffffffffffffffffff",
    ]);
    let section = prop::sample::select(vec![
        "init",
        "failed",
        "successful",
        "a",
        "operation",
        "on_error",
        "\"\"",
    ]);
    prop_oneof![
        4 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => section.prop_map(|name| format!("[{name}]")),
    ]
}

proptest! {
    #[test]
    fn garbage_is_refused_with_places_and_never_panics(text in any::<String>()) {
        if let Err(invalid) = Definition::parse("f", &text) {
            prop_assert!(!invalid.problems.is_empty());
        }
    }

    #[test]
    fn what_is_near_to_a_workflow_is_read_or_refused(lines in proptest::collection::vec(line(), 0..14)) {
        let text = format!("operation = \"op\"\n[init]\n{}\n", lines.join("\n"));
        match Definition::parse("f", &text) {
            Ok(definition) => {
                prop_assert!(definition.state(INIT).is_some());
                prop_assert!(definition.reachable().contains(&INIT));
                prop_assert!(!crate::workflow::graph::draw(&definition).is_empty());
            }
            Err(invalid) => {
                prop_assert!(!invalid.problems.is_empty() && invalid.problems.len() <= 60);
                let count = text.lines().count() + 1;
                prop_assert!(invalid.problems.iter().all(|problem| problem.line <= count));
            }
        }
    }
}
