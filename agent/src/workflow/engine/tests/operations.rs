//! Sub-operations (rules U) and actions of the agent (A).

use serde_json::json;

use super::*;

// U: sub-operations

const SUB: &str = "[init]\noperation=\"sub\"\ninput.x=\"static\"\ninput.n=\"${.payload.n}\"\ninput.deep.z=\"pre-${.payload.n}\"\ninput.status=\"executing\"\non_exec=\"wait\"\n[wait]\naction=\"await-operation-completion\"\ntimeout_second=20\non_timeout={status=\"failed\",reason=\"too slow\"}\non_success=\"done\"\non_error={status=\"failed\",reason=\"sub failed\"}\noutput.res.value=\"${.payload.r}\"\noutput.st=\"${.payload.status}\"\noutput.op=\"${.topic.operation}\"\noutput.odd=\"${.some.path}\"\noutput.none=\"${.payload.none}\"\n[done]\nscript=\"q\"\n";

#[test]
fn u1_u2_u3_u6_a_sub_operation_gets_its_input_after_the_parent_is_published() {
    let bench = Bench::new(SUB, json!({"n": 7, "other": 1}));
    let (sub, init) = bench.started();
    assert_eq!(sub.as_str(), "te/device/main///cmd/sub/sub:op:t1");
    assert_eq!(init, json!({"x": "static", "n": 7, "deep": {"z": "pre-7"}}));
    assert_eq!(bench.effects[0], Effect::Publish);
    assert_eq!(
        bench.effects.last(),
        Some(&Effect::ArmTimer { due_at: Moment::from_millis(21_000) })
    );
    assert_eq!((bench.status(), bench.states.len()), ("wait", 1));
}

#[test]
fn u9_u10_u12_output_is_evaluated_on_the_last_state_of_the_sub_operation() {
    let mut bench = Bench::new(SUB, json!({"n": 7}));
    let (sub, _) = bench.started();
    bench.give(Event::OperationEnded {
        topic: sub.clone(),
        baton: baton("successful", json!({"r": {"v": [1]}})),
    });
    assert_eq!(
        bench.command.message().to_value(),
        json!({"status": "done", "n": 7, "res": {"value": {"v": [1]}}, "st": "successful", "op": "sub",
            "odd": "${.some.path}", "none": ""})
    );
    assert_eq!(
        bench.effects[..2],
        [Effect::Publish, Effect::ClearOperation { topic: sub.clone() }]
    );
    assert_eq!(
        bench.refused(Event::OperationEnded { topic: sub, baton: baton("successful", json!({})) }),
        Refused::OutOfPlace
    );
}

#[test]
fn u1_r4_after_a_restart_init_is_said_again_only_if_the_broker_may_not_have_had_it() {
    let is_told = |bench: &Bench| {
        let mut effects = bench.effects.iter();
        effects.find_map(|effect| match effect {
            Effect::StartOperation { is_told, .. } => Some(*is_told),
            _ => None,
        })
    };
    let mut bench = Bench::new(SUB, json!({"n": 7}));
    let (sub, init) = bench.started();
    assert_eq!(is_told(&bench), Some(false));
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!((bench.started(), is_told(&bench)), ((sub.clone(), init.clone()), Some(false)));

    let published = Event::OperationPublished { topic: sub.clone() };
    let before = bench.command.clone();
    bench.give(published.clone());
    assert_eq!((&bench.effects[..], bench.command.phase), (&[][..], before.phase));
    assert_eq!(bench.refused(published), Refused::OutOfPlace, "once is enough");
    assert_eq!(bench.refused(Event::OperationPublished { topic: topic() }), Refused::OutOfPlace);
    let saved = serde_json::to_string(&bench.command).expect("it is saved");
    bench.command = serde_json::from_str(&saved).expect("it is read");
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!((bench.started(), is_told(&bench)), ((sub, init), Some(true)));
}

#[test]
fn u4_u5_a_failed_sub_operation_leads_to_on_error_without_its_output() {
    let failed = |text: &str| {
        let mut bench = Bench::new(text, json!({}));
        let (topic, _) = bench.started();
        bench.give(Event::OperationEnded {
            topic,
            baton: baton("failed", json!({"reason": "inner", "r": 1})),
        });
        (bench.status().to_owned(), bench.field("reason"), bench.field("res"))
    };
    assert_eq!(failed(SUB), ("failed".into(), json!("sub failed"), json!("(none)")));
    let plain = "[init]\noperation=\"sub\"\non_exec=\"wait\"\n[wait]\naction=\"await-operation-completion\"\n";
    assert_eq!(
        failed(plain),
        ("failed".into(), json!("sub-operation sub failed: inner"), json!("(none)"))
    );
}

#[test]
fn u7_an_input_script_comes_first_and_explicit_input_over_it() {
    let text = "[init]\noperation=\"sub\"\ninput_script=\"p ${.payload.v}\"\ninput.b=\"explicit\"\non_exec=\"wait\"\n[wait]\naction=\"await-operation-completion\"\n";
    let mut bench = Bench::new(text, json!({"v": "V W"}));
    assert_eq!(bench.run(), ("p", vec!["V W"]));
    bench.exit(0, &block("{\"status\":\"executing\",\"a\":1,\"b\":\"script\"}"));
    assert_eq!(bench.started().1, json!({"a": 1, "b": "explicit"}));
    bench = Bench::new(text, json!({}));
    bench.exit(0, &block("[1]"));
    assert_eq!(bench.started().1, json!({"b": "explicit"}), "O3");
}

#[test]
fn u8_a_failing_input_script_fails_the_command_and_starts_nothing() {
    let text = "on_error=\"we\"\n[init]\noperation=\"sub\"\ninput_script=\"p\"\non_error=\"e\"\non_exec=\"wait\"\n";
    for (end, stdout) in [
        (ScriptEnd::Exited(1), block("{}")),
        (ScriptEnd::Killed(9), String::new()),
        (ScriptEnd::Exited(0), String::new()),
        (ScriptEnd::Exited(0), block("no json")),
        (ScriptEnd::NotLaunched("gone".into()), String::new()),
        (ScriptEnd::TimedOut, String::new()),
    ] {
        let mut bench = Bench::new(text, json!({}));
        bench.end(end, &stdout);
        assert_eq!((bench.status(), &bench.effects[..]), ("failed", &[Effect::Publish][..]));
        assert!(bench.field("reason").as_str().is_some_and(|reason| reason.contains('p')));
    }
}

#[test]
fn u11_the_name_may_come_from_the_payload_and_must_be_a_name() {
    let text = "[init]\noperation=\"${.payload.sub-operation}\"\non_exec=\"wait\"\n[wait]\naction=\"await-operation-completion\"\n";
    let bench = Bench::new(text, json!({"sub-operation": "restart"}));
    assert_eq!(bench.started().0.operation(), "restart");
    for name in ["", "../x", "a/b", "#", "builtin:op"] {
        let bench = Bench::new(text, json!({"sub-operation": name}));
        assert_eq!(bench.status(), "failed", "{name}");
        assert!(
            bench.field("reason").as_str().is_some_and(|r| r.contains("no name of an operation"))
        );
    }
}

#[test]
fn u15_a_sub_operation_is_awaited_for_its_time_only() {
    let mut bench = Bench::new(SUB, json!({}));
    let (sub, _) = bench.started();
    bench.pass_ms(20_000).give(Event::TimerDue);
    assert_eq!((bench.status(), bench.field("reason")), ("failed", json!("too slow")));
    assert_eq!(bench.effects, [Effect::Publish], "it is left to end, then cleared as an orphan");
    let mut child = Command::new(sub, Payload::new());
    child.phase = Phase::Ended { told: true };
    assert!(child.is_orphan(Some(&bench.command)) && child.is_orphan(None));
    assert!(!child.is_orphan(Some(&Bench::new(SUB, json!({})).command)));
}

#[test]
fn u1_after_a_restart_a_sub_operation_is_asked_for_again_with_the_time_left() {
    let mut bench = Bench::new(SUB, json!({"n": 7}));
    let (sub, init) = bench.started();
    bench.pass_ms(5_000).give(Event::AgentStarted { same_boot: true });
    assert_eq!(bench.started(), (sub.clone(), init.clone()));
    assert_eq!(bench.command.due_at(), Some(Moment::from_millis(21_000)));
    bench.give(Event::AgentStarted { same_boot: false });
    assert_eq!(
        (bench.started(), bench.command.due_at()),
        ((sub, init), Some(Moment::from_millis(26_000)))
    );
}

#[test]
fn u16_an_await_without_on_success_goes_to_successful_also_for_an_own_end_of_the_sub_operation() {
    let text = "[init]\noperation=\"sub\"\non_exec=\"wait\"\n[wait]\naction=\"await-operation-completion\"\n";
    for status in ["successful", "restarted"] {
        let mut bench = Bench::new(text, json!({}));
        let (topic, _) = bench.started();
        bench.give(Event::OperationEnded { topic, baton: baton(status, json!({})) });
        assert_eq!(bench.status(), "successful", "A6");
    }
}

#[test]
fn awaiting_what_was_never_started_is_an_error_and_not_a_wait_for_ever() {
    let text = "[init]\naction=\"await-operation-completion\"\non_error=\"e\"\n[e]\nscript=\"p\"\n";
    assert_eq!(Bench::new(text, json!({})).status(), "e");
}

#[test]
fn u1_a_sub_operation_tells_its_end_to_its_parent() {
    let definition =
        Definition::parse("s", "operation=\"sub\"\n[init]\naction=\"proceed\"\n").expect("valid");
    let parent = topic();
    let command = Command::new(parent.sub("sub").expect("valid"), Payload::new());
    let now = Moment::default();
    let first = step(&definition, &command, Event::Start, now).expect("started");
    let last = step(&definition, &first.next, Event::Continue, now).expect("ended");
    assert_eq!(last.effects, [Effect::Publish, Effect::TellParent { parent }]);
}

// A: actions

#[test]
fn a3_builtin_in_both_spellings() {
    let old = "[init]\naction=\"proceed\"\non_success=\"scheduled\"\n[scheduled]\naction=\"builtin\"\non_success=\"executing\"\n[executing]\naction=\"builtin\"\non_success=\"successful\"\n";
    let mut bench = Bench::new(old, json!({"x": 1}));
    assert_eq!(bench.states, ["scheduled", "executing"]);
    let invoke = |is_resumed, fields| Effect::InvokeBuiltin {
        call: BuiltinCall::Own,
        payload: payload(fields),
        is_resumed,
        is_repeatable: false,
    };
    assert!(bench.effects.contains(&invoke(false, json!({"x": 1}))));
    bench.give(Event::AgentStarted { same_boot: true });
    assert!(bench.effects.contains(&invoke(true, json!({"x": 1}))));
    bench.give(Event::BuiltinEnded(Ok(payload(json!({"y": 2, "status": "odd"})))));
    assert_eq!((bench.status(), bench.field("y")), ("successful", json!(2)));

    let new = "[init]\naction=\"proceed\"\non_success=\"scheduled\"\n[scheduled]\noperation=\"builtin:op\"\ninput.z=3\non_exec=\"executing\"\n[executing]\naction=\"await-operation-completion\"\noutput.got=\"${.payload.y}\"\non_success=\"successful\"\n";
    let mut bench = Bench::new(new, json!({"x": 1}));
    assert!(bench.effects.contains(&invoke(false, json!({"x": 1, "z": 3}))));
    bench.give(Event::BuiltinEnded(Ok(payload(json!({"y": 2})))));
    assert_eq!(
        (bench.status(), bench.field("got"), bench.field("y")),
        ("successful", json!(2), json!("(none)"))
    );
}

#[test]
fn a3_a_builtin_says_whether_it_is_repeatable() {
    for (section, expected) in [
        ("action=\"builtin\"\n", false),
        ("action=\"builtin\"\nrepeatable=true\n", true),
        ("action=\"builtin:op:step\"\nrepeatable=true\n", true),
        (
            "operation=\"builtin:op\"\nrepeatable=true\non_exec=\"w\"\n[w]\naction=\"await-operation-completion\"\n",
            true,
        ),
    ] {
        let mut bench = Bench::new(&format!("[init]\n{section}"), json!({}));
        bench.give(Event::AgentStarted { same_boot: true });
        let said = bench.effects.iter().find_map(|effect| match effect {
            Effect::InvokeBuiltin { is_resumed, is_repeatable, .. } => {
                Some((*is_resumed, *is_repeatable))
            }
            _ => None,
        });
        assert_eq!(said, Some((true, expected)), "{section}");
    }
}

#[test]
fn a3_a_builtin_fails_and_times_out_like_anything_else() {
    let text = "[init]\naction=\"builtin\"\ntimeout_second=5\non_error=\"e\"\non_timeout=\"t\"\n";
    let mut bench = Bench::new(text, json!({}));
    bench.give(Event::BuiltinEnded(Err("no disk".into())));
    assert_eq!((bench.status(), bench.field("reason")), ("e", json!("no disk")));
    let mut bench = Bench::new(text, json!({}));
    bench.pass_ms(5_000).give(Event::TimerDue);
    assert_eq!((bench.status(), &bench.effects[0]), ("t", &Effect::StopWork));
}

#[test]
fn a6_a7_cleanup_ends_anywhere_and_proceed_leads_to_successful() {
    let mut bench = Bench::new(
        "[init]\naction=\"proceed\"\non_success=\"restarted\"\n[restarted]\naction=\"cleanup\"\n",
        json!({}),
    );
    assert_eq!((bench.status(), bench.command.is_ended()), ("restarted", true));
    bench = Bench::new(
        "[init]\naction=\"proceed\"\non_success={status=\"failed\",reason=\"not supported\"}\n",
        json!({}),
    );
    assert_eq!((bench.status(), bench.field("reason")), ("failed", json!("not supported")));
    bench = Bench::new("[init]\naction=\"cleanup\"\n", json!({}));
    assert_eq!((bench.command.phase, bench.states.len()), (Phase::Ended { told: true }, 0));
}

#[test]
fn a8_later_actions_are_known() {
    let bench = Bench::new(
        "[init]\naction=\"builtin:config_update:set\"\ninput.setFrom=\"${.payload.f}\"\n",
        json!({"f": "F"}),
    );
    let call = BuiltinCall::Step { operation: "config_update".into(), step: "set".into() };
    let payload = payload(json!({"f": "F", "setFrom": "F"}));
    let (is_resumed, is_repeatable) = (false, false);
    assert_eq!(bench.effects, [Effect::InvokeBuiltin { call, payload, is_resumed, is_repeatable }]);
    let bench = Bench::new(
        "[init]\naction=\"restart-agent\"\non_exec=\"wait\"\n[wait]\naction=\"await-agent-restart\"\n",
        json!({}),
    );
    assert_eq!((bench.status(), bench.command.phase), ("wait", Phase::Awaiting { due_at: None }));
}
