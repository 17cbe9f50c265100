//! What holds for any workflow and any events: no panic, no standstill, no difference after a restart.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::workflow::{
    excerpt::Excerpts,
    message::{Baton, Payload},
    outcome::ScriptEnd,
    topic::CommandTopic,
};

const STATES: [&str; 6] = ["init", "a", "b", "c", "successful", "failed"];

fn state() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&STATES[1..])
}

/// The section of a state, with any action but awaiting a restart.
fn section() -> impl Strategy<Value = String> {
    let target = || {
        prop_oneof![
            state().prop_map(|name| format!("\"{name}\"")),
            state().prop_map(|name| format!("{{ status = \"{name}\", reason = \"r\" }}")),
        ]
    };
    prop_oneof![
        target().prop_map(|t| format!("action = \"proceed\"\non_success = {t}")),
        (target(), target()).prop_map(|(t, e)| format!(
            "script = \"p ${{.payload.x}} ${{.}}\"\ntimeout_second = 1\non_success = {t}\non_error = {e}"
        )),
        target().prop_map(|e| format!("script = \"p\"\non_stdout = [\"a\", \"c\"]\non_error = {e}")),
        Just("script = \"p\"".to_owned()),
        target().prop_map(|t| format!("background_script = \"p\"\non_exec = {t}")),
        target().prop_map(|t| format!("operation = \"${{.payload.sub}}\"\ninput.all = \"${{.payload}}\"\non_exec = {t}")),
        target().prop_map(|t| format!("operation = \"sub\"\ninput_script = \"p\"\non_exec = {t}")),
        target().prop_map(|t| format!("operation = \"builtin:op\"\non_exec = {t}")),
        (target(), target()).prop_map(|(t, e)| format!(
            "action = \"await-operation-completion\"\ntimeout_second = 2\non_success = {t}\non_error = {e}\noutput.got = \"${{.}}\""
        )),
        (target(), target()).prop_map(|(t, e)| format!(
            "action = \"builtin\"\ntimeout_second = 3\non_success = {t}\non_error = {e}"
        )),
        (target(), target()).prop_map(|(t, n)| format!(
            "iterate = \"${{.payload.items}}\"\non_next = {n}\non_success = {t}"
        )),
        target().prop_map(|t| format!("action = \"restart-agent\"\non_exec = {t}")),
        Just("action = \"cleanup\"".to_owned()),
    ]
}

fn workflow() -> impl Strategy<Value = Definition> {
    let sections = (section(), proptest::collection::vec(section(), 0..3));
    sections.prop_map(|(init, others)| {
        let mut text = format!("operation = \"op\"\n[init]\n{init}\n");
        for (name, section) in ["a", "b", "c"].into_iter().zip(others) {
            let _ = writeln!(text, "[{name}]\n{section}");
        }
        Definition::parse("f", &text).expect("all these are valid")
    })
}

fn payload() -> Payload {
    let value = json!({"x": "X", "sub": "other", "items": [{"n": 1}, {"@skip": true}, 3]});
    value.as_object().expect("an object").clone()
}

fn script_ended() -> impl Strategy<Value = Event> {
    let end = prop_oneof![
        4 => any::<u8>().prop_map(ScriptEnd::Exited),
        4 => Just(ScriptEnd::Exited(0)),
        1 => Just(ScriptEnd::Killed(9)),
        1 => Just(ScriptEnd::NotLaunched("gone".into())),
        1 => Just(ScriptEnd::TimedOut),
    ];
    let stdout = prop::sample::select(vec![
        "",
        ":::begin-tedge:::\n{\"status\":\"a\",\"x\":{\"y\":1},\"sub\":\"more\"}\n:::end-tedge:::",
        ":::begin-tedge:::\n{\"status\":\"zz\",\"reason\":[1],\"@next\":3}\n:::end-tedge:::",
        ":::begin-tedge:::\n[]\n:::end-tedge:::",
        ":::begin-tedge:::\n{\n:::end-tedge:::",
    ]);
    (end, stdout).prop_map(|(end, stdout)| Event::ScriptEnded {
        end,
        excerpts: Excerpts::of(stdout.as_bytes()),
    })
}

fn event() -> impl Strategy<Value = Event> {
    let baton = || {
        prop::sample::select(&STATES[..])
            .prop_map(|status| Baton { status: status.into(), payload: payload() })
    };
    let sub = prop::sample::select(vec!["sub", "other", "more"]).prop_map(|name| {
        let topic = CommandTopic::parse("te/device/main///cmd/op/t1").expect("valid");
        topic.sub(name).expect("valid")
    });
    prop_oneof![
        6 => script_ended(),
        1 => Just(Event::Start),
        6 => Just(Event::Continue),
        2 => Just(Event::Launched(Ok(()))),
        1 => Just(Event::Launched(Err("gone".into()))),
        2 => Just(Event::BuiltinEnded(Ok(payload()))),
        1 => Just(Event::BuiltinEnded(Err("no".into()))),
        4 => (sub.clone(), baton()).prop_map(|(topic, baton)| Event::OperationEnded { topic, baton }),
        1 => sub.prop_map(|topic| Event::OperationPublished { topic }),
        2 => Just(Event::TimerDue),
        1 => any::<bool>().prop_map(|same_boot| Event::AgentStarted { same_boot }),
        2 => baton().prop_map(|baton| Event::Incoming(Incoming::State(baton))),
        1 => Just(Event::Incoming(Incoming::Cleared)),
        1 => Just(Event::Published),
        1 => Just(Event::Abort("why".into())),
    ]
}

/// Says whether something will come that moves the command on, or nothing of ours is to move it.
fn goes_on(step: &Step) -> bool {
    let has = |wanted: fn(&Effect) -> bool| step.effects.iter().any(wanted);
    match step.next.phase {
        Phase::New => false,
        Phase::Passing => has(|effect| matches!(effect, Effect::Continue)),
        Phase::Launching { .. } => has(|effect| matches!(effect, Effect::Launch(_))),
        Phase::Working { due_at } => {
            has(|effect| matches!(effect, Effect::RunScript(_) | Effect::InvokeBuiltin { .. }))
                && due_at.is_none_or(|due_at| step.effects.contains(&Effect::ArmTimer { due_at }))
        }
        Phase::Awaiting { due_at } => {
            has(|e| matches!(e, Effect::StartOperation { .. } | Effect::InvokeBuiltin { .. }))
                && due_at.is_none_or(|due_at| step.effects.contains(&Effect::ArmTimer { due_at }))
        }
        Phase::Parked { .. } | Phase::Ended { .. } | Phase::Cleared => true,
    }
}

fn new_command() -> Command {
    let topic = CommandTopic::parse("te/device/main///cmd/op/t1").expect("valid");
    Command::new(topic, payload())
}

/// Runs a command to its end or its 60th state. What a script prints depends on its state alone;
/// with `restarts`, the agent is started anew before each event, from what was saved.
fn run(definition: &Definition, ends: &[ScriptEnd], restarts: bool) -> Command {
    let mut command = new_command();
    let mut now = Moment::default();
    let mut event = Event::Start;
    for _ in 0..60 {
        let Ok(mut done) = step(definition, &command, event, now) else { break };
        if restarts && !done.next.is_ended() && !matches!(done.next.phase, Phase::Parked { .. }) {
            let saved = serde_json::to_string(&done.next).expect("serialisable");
            let read: Command = serde_json::from_str(&saved).expect("what was saved can be read");
            done = step(definition, &read, Event::AgentStarted { same_boot: true }, now)
                .expect("it is pending");
        }
        command = done.next;
        now = now.plus_millis(1);
        let state = STATES.iter().position(|name| **name == *command.status).unwrap_or(0);
        let phase = command.phase;
        // What the new state asks for comes last.
        let next = done.effects.iter().rev().find_map(|effect| match (phase, effect) {
            (Phase::Passing, Effect::Continue) => Some(Event::Continue),
            (Phase::Launching { .. }, Effect::Launch(_)) => Some(Event::Launched(Ok(()))),
            (Phase::Working { .. }, Effect::RunScript(_)) => Some(Event::ScriptEnded {
                end: ends[state % ends.len()].clone(),
                excerpts: Excerpts::of(
                    b":::begin-tedge:::\n{\"status\":\"c\",\"y\":1}\n:::end-tedge:::",
                ),
            }),
            (Phase::Working { .. } | Phase::Awaiting { .. }, Effect::InvokeBuiltin { .. }) => {
                Some(Event::BuiltinEnded(Ok(Payload::new())))
            }
            (Phase::Awaiting { .. }, Effect::StartOperation { topic, .. }) => {
                Some(Event::OperationEnded {
                    topic: topic.clone(),
                    baton: Baton { status: "successful".into(), payload: Payload::new() },
                })
            }
            _ => None,
        });
        let Some(next) = next else { break };
        event = next;
    }
    command
}

proptest! {
    #[test]
    fn any_events_in_any_order_neither_panic_nor_bring_a_standstill(
        definition in workflow(), events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut command = new_command();
        let mut now = Moment::default();
        let start = step(&definition, &command, Event::Start, now).expect("a new command starts");
        prop_assert!(goes_on(&start));
        command = start.next;
        for event in events {
            now = now.plus_millis(500);
            let is_told = matches!(event, Event::Published | Event::OperationPublished { .. });
            if let Ok(done) = step(&definition, &command, event, now) {
                prop_assert!(is_told || goes_on(&done), "{:?}", done);
                let saved = serde_json::to_string(&done.next).expect("serialisable");
                let read: Command = serde_json::from_str(&saved).expect("what was saved can be read");
                prop_assert_eq!(&read, &done.next);
                prop_assert!(!done.next.payload.contains_key("status"));
                command = done.next;
            }
        }
    }

    #[test]
    fn a_restart_after_each_step_changes_nothing_but_what_is_repeated(
        definition in workflow(),
        ends in proptest::collection::vec(prop_oneof![
            3 => Just(ScriptEnd::Exited(0)), 1 => Just(ScriptEnd::Exited(3)), 1 => Just(ScriptEnd::Killed(9)),
        ], 1..5),
    ) {
        let (calm, shaken) = (run(&definition, &ends, false), run(&definition, &ends, true));
        let is_over = |command: &Command| command.is_ended() || matches!(command.phase, Phase::Parked { .. });
        prop_assert_eq!(is_over(&calm), is_over(&shaken));
        if is_over(&calm) {
            prop_assert_eq!((calm.status, calm.payload), (shaken.status, shaken.payload));
        }
    }
}
