//! Tables of (state, event) → (state, effects), each named by the rule that it holds.

use serde_json::{Value, json};

use super::*;
use crate::workflow::{
    definition::{BuiltinCall, SUCCESSFUL},
    excerpt::Excerpts,
    message::{Baton, Payload},
    outcome::ScriptEnd,
    topic::CommandTopic,
};

/// One command, and what was done for it.
struct Bench {
    definition: Definition,
    command: Command,
    now: Moment,
    effects: Vec<Effect>,
    states: Vec<String>,
}

fn payload(value: Value) -> Payload {
    match value {
        Value::Object(fields) => fields,
        other => panic!("an object, not {other}"),
    }
}

fn topic() -> CommandTopic {
    CommandTopic::parse("te/device/main///cmd/op/t1").expect("valid")
}

impl Bench {
    /// Starts a command and lets it go on until it waits for something.
    fn new(states: &str, fields: Value) -> Self {
        let text = format!("operation = \"op\"\n{states}");
        let definition = Definition::parse("op.toml", &text).expect("a valid workflow");
        let command = Command::new(topic(), payload(fields));
        let mut bench = Self {
            definition,
            command,
            now: Moment::from_millis(1_000),
            effects: Vec::new(),
            states: Vec::new(),
        };
        bench.give(Event::Start);
        bench.settle();
        bench
    }

    fn give(&mut self, event: Event) -> &mut Self {
        let step = step(&self.definition, &self.command, event, self.now).expect("accepted");
        if step.effects.contains(&Effect::Publish) {
            self.states.push(step.next.status.to_string());
        }
        self.command = step.next;
        self.effects = step.effects;
        self
    }

    /// Gives what comes by itself: `Continue`, and launches that work.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..100 {
            if self.effects.contains(&Effect::Continue) {
                self.give(Event::Continue);
            } else if self.effects.iter().any(|effect| matches!(effect, Effect::Launch(_))) {
                self.give(Event::Launched(Ok(())));
            } else {
                return self;
            }
        }
        panic!("it goes on for ever");
    }

    fn refused(&self, event: Event) -> Refused {
        step(&self.definition, &self.command, event, self.now).expect_err("refused")
    }

    fn end(&mut self, end: ScriptEnd, stdout: &str) -> &mut Self {
        let excerpts = Excerpts::of(stdout.as_bytes());
        self.give(Event::ScriptEnded { end, excerpts }).settle()
    }

    fn exit(&mut self, code: u8, stdout: &str) -> &mut Self {
        self.end(ScriptEnd::Exited(code), stdout)
    }

    fn pass_ms(&mut self, ms: i64) -> &mut Self {
        self.now = self.now.plus_millis(ms);
        self
    }

    fn field(&self, key: &str) -> Value {
        self.command.message().to_value().get(key).cloned().unwrap_or(json!("(none)"))
    }

    fn status(&self) -> &str {
        &self.command.status
    }

    fn run(&self) -> (&str, Vec<&str>) {
        let run = self.effects.iter().find_map(|effect| match effect {
            Effect::RunScript(run) => Some(run),
            _ => None,
        });
        let run = run.expect("a script is run");
        (&run.program, run.arguments.iter().map(String::as_str).collect())
    }

    fn started(&self) -> (CommandTopic, Value) {
        let started = self.effects.iter().find_map(|effect| match effect {
            Effect::StartOperation { topic, payload } => Some((topic.clone(), payload.clone())),
            _ => None,
        });
        let (topic, payload) = started.expect("a sub-operation is started");
        (topic, Value::Object(payload))
    }
}

fn block(json: &str) -> String {
    format!("noise\n:::begin-tedge:::\n{json}\n:::end-tedge:::\nnoise")
}

fn baton(status: &str, fields: Value) -> Baton {
    Baton { status: status.into(), payload: payload(fields) }
}

fn incoming(status: &str, fields: Value) -> Event {
    Event::Incoming(Incoming::State(baton(status, fields)))
}

const SCRIPT: &str = "[init]\nscript = \"p\"\n";

// F: flow

#[test]
fn f1_f2_f5_each_state_is_published_once_and_unknown_fields_stay() {
    let bench = Bench::new(
        "[init]\naction=\"proceed\"\non_success=\"a\"\n[a]\naction=\"proceed\"\n",
        json!({"keep": {"a": [1, null]}}),
    );
    assert_eq!(bench.states, ["a", "successful"]);
    assert_eq!(bench.field("keep"), json!({"a": [1, null]}));
    assert_eq!(bench.command.phase, Phase::Ended { told: false });
    assert_eq!(bench.field("reason"), "(none)");
}

#[test]
fn f3_f4_another_participant_takes_a_state_without_a_section() {
    let text = "[init]\naction=\"proceed\"\non_success=\"theirs\"\n[back]\nscript=\"p ${.payload.x}\"\non_success=\"successful\"\n";
    let mut bench = Bench::new(text, json!({"own": 1}));
    assert_eq!((bench.status(), bench.command.phase), ("theirs", Phase::Parked { told: false }));
    assert_eq!(bench.effects, [Effect::Publish]);
    assert_eq!(bench.refused(incoming("init", json!({}))), Refused::Duplicate);
    assert_eq!(bench.refused(incoming("theirs", json!({"own": 1}))), Refused::Echo);
    bench.give(incoming("theirs", json!({"own": 2})));
    assert_eq!(bench.command.phase, Phase::Parked { told: true });
    bench.give(incoming("back", json!({"x": "X"})));
    assert_eq!(bench.run(), ("p", vec!["X"]));
    assert!(!bench.effects.contains(&Effect::Publish), "it is on the bus already");
    assert_eq!(bench.refused(incoming("theirs", json!({}))), Refused::NotParked);
    bench.exit(0, "");
    assert_eq!((bench.status(), bench.field("own")), ("successful", json!("(none)")));
}

#[test]
fn f3_another_participant_may_end_a_parked_command() {
    let mut bench = Bench::new("[init]\naction=\"proceed\"\non_success=\"theirs\"\n", json!({}));
    bench.give(incoming("failed", json!({"reason": "no"})));
    assert_eq!(bench.command.phase, Phase::Ended { told: true });
}

#[test]
fn f6_a_reason_stays_until_another_comes() {
    let text = "[init]\naction=\"proceed\"\non_success={status=\"a\",reason=\"one\"}\n[a]\naction=\"proceed\"\non_success=\"b\"\n[b]\naction=\"proceed\"\non_success={status=\"theirs\",reason=\"two\"}\n";
    let mut bench = Bench::new(&text.replace("b\"\n[b]", "x\"\n[b]"), json!({}));
    assert_eq!((bench.status(), bench.field("reason")), ("x", json!("one")));
    bench = Bench::new(text, json!({}));
    assert_eq!(bench.field("reason"), json!("two"));
}

#[test]
fn f7_a_state_that_is_entered_again_is_published_again() {
    let text = "[init]\naction=\"proceed\"\non_success=\"try\"\n[try]\nscript=\"p\"\non_success=\"successful\"\non_exit.75={status=\"try\",reason=\"busy\"}\n";
    let mut bench = Bench::new(text, json!({}));
    bench.exit(75, "").exit(75, "").exit(0, "");
    assert_eq!(bench.states, ["try", "try", "try", "successful"]);
    assert_eq!(bench.field("reason"), json!("busy"));
}

#[test]
fn f10_a_second_init_is_refused() {
    let bench = Bench::new(SCRIPT, json!({}));
    assert_eq!(bench.refused(incoming("init", json!({}))), Refused::Duplicate);
    assert_eq!(bench.refused(Event::Start), Refused::Duplicate);
}

// E, K, L, O: the end of a script

/// (rule, handlers, end, stdout, status, reason, field x)
type Ending = (&'static str, &'static str, ScriptEnd, &'static str, &'static str, &'static str, Value);

#[test]
fn e_k_l_o_t_the_end_of_a_script_leads_where_the_table_says() {
    use ScriptEnd::{Exited, Killed, NotLaunched, TimedOut};
    let absent = || json!("(none)");
    let timeout = "timeout_second=1\n";
    let table: Vec<Ending> = vec![
        ("E1", "on_success=\"a\"", Exited(0), "", "a", "(none)", absent()),
        ("E1", "on_exit.0=\"a\"", Exited(0), "", "a", "(none)", absent()),
        ("E2", "on_exit.0-3=\"a\"", Exited(0), "", "a", "(none)", absent()),
        ("E2", "on_exit.3=\"a\"", Exited(3), "", "a", "p exited with 3", absent()),
        ("E2", "on_exit.2-5={status=\"a\",reason=\"r\"}", Exited(5), "", "a", "r", absent()),
        ("E2", "on_exit.2-5=\"a\"", Exited(6), "", "failed", "p exited with 6", absent()),
        ("E2", "on_exit.0-255=\"a\"", Exited(255), "", "a", "p exited with 255", absent()),
        ("E3", "on_exit._=\"a\"", Exited(1), "", "a", "p exited with 1", absent()),
        ("E4", "on_error=\"a\"", Exited(1), "", "a", "p exited with 1", absent()),
        ("E7 E8", "on_error={status=\"a\",reason=\"r\"}", Exited(1), "", "a", "r", absent()),
        ("E9", "on_success=\"a\"", Exited(1), "", "failed", "p exited with 1", absent()),
        ("K1", "on_kill={status=\"a\",reason=\"r\"}", Killed(9), "", "a", "r", absent()),
        ("K1", "on_kill=\"a\"", Killed(9), "", "a", "p killed by signal 9", absent()),
        ("K2", "on_error=\"a\"", Killed(15), "", "failed", "p killed by signal 15", absent()),
        ("L1", "on_error=\"a\"", NotLaunched("gone".into()), "", "a", "Failed to launch p: gone", absent()),
        ("L1", "on_error={status=\"a\",reason=\"r\"}", NotLaunched("gone".into()), "", "a", "r", absent()),
        ("L1", "on_success=\"a\"", NotLaunched("gone".into()), "", "failed", "Failed to launch p: gone", absent()),
        ("O3", "on_success=\"a\"", Exited(0), "{\"x\":{\"n\":1}}", "a", "(none)", json!({"n": 1})),
        ("O3", "on_success=\"a\"", Exited(0), "{\"x\":null}", "a", "(none)", Value::Null),
        ("O3", "on_success=\"a\"", Exited(0), "[1,2]", "a", "(none)", absent()),
        ("O3", "on_success=\"a\"", Exited(0), "no json", "a", "(none)", absent()),
        ("O4", "on_success=\"a\"", Exited(0), "{\"status\":\"b\",\"x\":1}", "a", "(none)", json!(1)),
        ("O4", "on_success={status=\"a\",reason=\"w\"}", Exited(0), "{\"reason\":\"s\"}", "a", "s", absent()),
        ("O4", "on_success={status=\"a\",reason=\"w\"}", Exited(0), "{}", "a", "w", absent()),
        ("O5", "on_stdout=[\"a\",\"b\"]", Exited(0), "{\"status\":\"b\",\"reason\":\"r\",\"x\":1}", "b", "r", json!(1)),
        ("O6", "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}", Exited(0), "{\"x\":1}", "e", "w", json!(1)),
        ("O6", "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}", Exited(0), "", "e", "w", absent()),
        ("O6", "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}", Exited(0), "no json", "e", "w", absent()),
        ("O6", "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}", Exited(0), "[]", "e", "w", absent()),
        ("O6", "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}", Exited(0), "{\"status\":1}", "e", "w", absent()),
        ("O6", "on_stdout=[\"a\"]", Exited(0), "{}", "failed", "p printed no status", absent()),
        ("O7", "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}", Exited(0), "{\"status\":\"b\"}", "e", "w", absent()),
        ("O5", "on_stdout=[\"a\"]\non_error=\"e\"", Exited(2), "{\"status\":\"a\"}", "e", "p exited with 2", absent()),
        ("O8", "", Exited(0), "{\"status\":\"anything\",\"x\":1}", "anything", "(none)", json!(1)),
        ("O8", "on_error=\"e\"", Exited(0), "", "failed", "p printed no block between the :::tedge::: markers", absent()),
        ("O8", "", Exited(0), "{\"x\":1}", "failed", "p printed no status", json!(1)),
        ("O9", "on_exit.3={status=\"a\",reason=\"w\"}", Exited(3), "{\"status\":\"z\",\"reason\":\"s\",\"x\":1}", "a", "s", json!(1)),
        ("O10", "on_error={status=\"a\",reason=\"w\"}", Exited(3), "{\"reason\":\"s\",\"x\":1}", "a", "w", absent()),
        ("O10", "on_exit._=\"a\"", Exited(3), "{\"x\":1,\"reason\":\"s\"}", "a", "p exited with 3: s", absent()),
        ("K2", "on_kill=\"a\"", Killed(9), "{\"x\":1,\"status\":\"b\"}", "a", "p killed by signal 9", absent()),
        ("T3", "on_timeout={status=\"a\",reason=\"late\"}\non_kill=\"b\"\non_error=\"c\"", TimedOut, "", "a", "late", absent()),
        ("T3", "on_kill={status=\"b\",reason=\"k\"}\non_error=\"c\"", TimedOut, "", "b", "k", absent()),
        ("T5", "on_error=\"c\"", TimedOut, "", "failed", "timeout", absent()),
    ];
    for (rule, handlers, end, stdout, status, reason, x) in table {
        let limit = if end == TimedOut { timeout } else { "" };
        let mut bench = Bench::new(&format!("{SCRIPT}{limit}{handlers}\n"), json!({}));
        let stdout = if stdout.is_empty() { String::new() } else { block(stdout) };
        bench.end(end, &stdout);
        let found = (bench.status().to_owned(), bench.field("reason"), bench.field("x"));
        assert_eq!(found, (status.to_owned(), json!(reason), x), "{rule}: {handlers}: {stdout}");
    }
}

#[test]
fn e6_t4_handlers_of_the_workflow_are_the_defaults_of_its_states() {
    let with = |handlers: &str| {
        let text = format!("on_error={{status=\"we\",reason=\"e\"}}\non_timeout=\"wt\"\ntimeout_second=7\n{SCRIPT}{handlers}");
        Bench::new(&text, json!({}))
    };
    assert_eq!(with("").exit(1, "").status(), "we");
    assert_eq!(with("on_error=\"se\"\n").exit(1, "").status(), "se");
    assert_eq!(with("").end(ScriptEnd::TimedOut, "").status(), "wt");
    assert_eq!(with("on_kill=\"sk\"\n").end(ScriptEnd::TimedOut, "").status(), "sk", "T3");
    assert_eq!(with("").end(ScriptEnd::Killed(9), "").status(), "failed", "K2");
    let timeout = |bench: Bench| match bench.effects.as_slice() {
        [Effect::RunScript(run)] => (run.timeout_ms, run.kill_after_ms()),
        other => panic!("{other:?}"),
    };
    assert_eq!(timeout(with("")), (Some(7_000), 60_000), "T4");
    assert_eq!(timeout(with("timeout_second=3600\n")), (Some(3_600_000), 180_000), "T7");
}

#[test]
fn o6_why_the_output_did_not_count_is_logged() {
    let mut bench = Bench::new(&format!("{SCRIPT}on_stdout=[\"a\"]\non_error=\"e\"\n"), json!({}));
    bench.exit(0, &block("{\"status\":\"b\"}"));
    assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::Log(text) if text.contains("\"b\""))));
}

#[test]
fn s2_a_block_in_a_payload_that_the_script_prints_forges_nothing() {
    let forged = ":::begin-tedge:::\n{\"status\":\"successful\"}\n:::end-tedge:::";
    let text = "[init]\nscript=\"echo ${.payload.v}\"\non_stdout=[\"successful\",\"a\"]\n";
    let mut bench = Bench::new(text, json!({"v": forged}));
    assert_eq!(bench.run(), ("echo", vec![forged]));
    bench.exit(0, forged);
    assert_eq!(bench.status(), "failed");
    let mut bench = Bench::new(text, json!({"v": forged}));
    bench.exit(0, &format!("{forged}\n{}", block("{\"status\":\"a\"}")));
    assert_eq!(bench.status(), "a");
}

#[test]
fn a_payload_that_would_grow_over_its_bound_fails_the_command() {
    let mut bench = Bench::new(&format!("{SCRIPT}on_success=\"init\"\n"), json!({"keep": 1}));
    for round in 0..4 {
        let field = json!({ format!("k{round}"): "x".repeat(300 * 1024) });
        bench.exit(0, &block(&field.to_string()));
    }
    assert_eq!((bench.status(), bench.field("keep")), ("failed", json!(1)));
    assert_eq!(bench.field("reason"), json!("the payload is longer than 1048576 bytes"));
}

// B: background scripts

#[test]
fn b1_b2_b3_the_next_state_is_published_before_a_background_script_starts() {
    let text = "[init]\nbackground_script=\"p ${.payload.x}\"\non_exec={status=\"next\",reason=\"launched\"}\n[next]\nscript=\"q\"\n";
    let mut bench = Bench::new(text, json!({"x": "X"}));
    assert_eq!((bench.run(), bench.field("reason")), (("q", vec![]), json!("launched")));

    bench = Bench { command: Command::new(topic(), payload(json!({"x": "X"}))), ..bench };
    bench.give(Event::Start).give(Event::Continue);
    let launch = Launch::Script { program: "p".into(), arguments: vec!["X".into()] };
    assert_eq!(bench.effects, [Effect::Publish, Effect::Launch(launch)]);
    assert_eq!(bench.command.phase, Phase::Launching { announced: true });
}

#[test]
fn b5_a_background_script_that_cannot_be_launched_fails_the_command() {
    for (on_exec, states) in [("on_exec=\"next\"\n", vec!["next", "failed"]), ("", vec!["failed"])] {
        let text = format!("[init]\naction=\"proceed\"\non_success=\"go\"\n[go]\nbackground_script=\"p\"\n{on_exec}[next]\nscript=\"q\"\n");
        let mut bench = Bench::new(&text, json!({}));
        bench.command = Command::new(topic(), Payload::new());
        bench.states.clear();
        bench.give(Event::Start).give(Event::Continue).give(Event::Continue);
        bench.give(Event::Launched(Err("p: not found".into())));
        assert_eq!(bench.states[1..], states);
        assert_eq!(bench.field("reason"), json!("Failed to launch p: not found"));
    }
}

#[test]
fn b6_b7_without_on_exec_it_is_successful_and_a_script_with_on_exec_is_one() {
    let bench = Bench::new("[init]\nbackground_script=\"p\"\n", json!({}));
    assert_eq!((bench.status(), &bench.states[..]), (SUCCESSFUL, &[SUCCESSFUL.to_owned()][..]));
    let bench = Bench::new("[init]\nscript=\"p\"\non_exec=\"verify\"\n[verify]\nscript=\"q\"\n", json!({}));
    assert_eq!((bench.status(), bench.run().0), ("verify", "q"));
    let bench = Bench::new("[init]\nscript=\"p\"\non_exec=\"x\"\non_success=\"y\"\n", json!({}));
    assert_eq!((bench.status(), bench.run().0), ("init", "p"));
}

// R: restart

const RESTART: &str = "[init]\naction=\"proceed\"\non_success=\"go\"\n[go]\nbackground_script=\"p\"\non_exec=\"wait\"\n[wait]\naction=\"await-agent-restart\"\ntimeout_second=60\non_timeout={status=\"failed\",reason=\"no restart\"}\non_success=\"after\"\n[after]\nscript=\"q\"\non_success=\"successful\"\n";

#[test]
fn r2_a_restart_of_the_agent_is_what_was_awaited() {
    let mut bench = Bench::new(RESTART, json!({}));
    assert_eq!((bench.status(), bench.command.due_at()), ("wait", Some(Moment::from_millis(61_000))));
    bench.give(Event::AgentStarted { same_boot: false });
    assert_eq!((bench.status(), bench.run().0), ("after", "q"));
    assert_eq!(bench.states, ["go", "wait", "after"]);
}

#[test]
fn r2_a_restart_before_the_launch_was_noted_counts_too_and_nothing_is_launched_twice() {
    let mut bench = Bench::new(RESTART, json!({}));
    bench.command = Command::new(topic(), Payload::new());
    bench.give(Event::Start).give(Event::Continue).give(Event::Continue);
    assert_eq!(bench.command.phase, Phase::Launching { announced: true });
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!((bench.status(), bench.run().0), ("after", "q"));
}

#[test]
fn r3_without_a_restart_in_time_it_is_a_timeout() {
    let mut bench = Bench::new(RESTART, json!({}));
    assert_eq!(bench.pass_ms(59_999).refused(Event::TimerDue), Refused::NotDue);
    bench.pass_ms(1).give(Event::TimerDue);
    assert_eq!((bench.status(), bench.field("reason")), ("failed", json!("no restart")));
}

#[test]
fn r4_any_other_pending_state_is_begun_again() {
    let mut bench = Bench::new(&format!("{SCRIPT}on_success=\"a\"\n[a]\naction=\"proceed\"\n"), json!({}));
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!((bench.status(), bench.run().0), ("init", "p"));
    bench.give(Event::ScriptEnded { end: ScriptEnd::Exited(0), excerpts: Excerpts::default() });
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!((bench.status(), &bench.effects[..]), ("a", &[Effect::Publish, Effect::Continue][..]));
}

#[test]
fn r6_c1_a_finished_command_is_left_alone() {
    let mut bench = Bench::new("[init]\naction=\"proceed\"\n", json!({}));
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!(bench.effects, [Effect::Publish], "the broker may not have it");
    bench.give(Event::Published);
    for event in [
        Event::AgentStarted { same_boot: true },
        incoming("init", json!({})),
        Event::TimerDue,
        Event::Abort { reason: "x".into() },
        Event::Continue,
    ] {
        assert_eq!(bench.refused(event), Refused::Ended);
    }
}

#[test]
fn r7_a_command_whose_workflow_is_gone_fails_with_a_reason() {
    let mut bench = Bench::new(SCRIPT, json!({}));
    bench.give(Event::Abort { reason: "its workflow is gone".into() });
    assert_eq!((bench.status(), bench.field("reason")), ("failed", json!("its workflow is gone")));
    assert_eq!(bench.effects, [Effect::StopWork, Effect::Publish]);
}

#[test]
fn a_parked_command_is_published_again_only_if_the_broker_may_not_have_it() {
    let mut bench = Bench::new("[init]\naction=\"proceed\"\non_success=\"theirs\"\n", json!({}));
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!(bench.effects, [Effect::Publish]);
    bench.give(Event::Published).give(Event::AgentStarted { same_boot: true });
    assert_eq!(bench.effects, []);
}

// U: sub-operations

const SUB: &str = "[init]\noperation=\"sub\"\ninput.x=\"static\"\ninput.n=\"${.payload.n}\"\ninput.deep.z=\"pre-${.payload.n}\"\ninput.status=\"executing\"\non_exec=\"wait\"\n[wait]\naction=\"await-operation-completion\"\ntimeout_second=20\non_timeout={status=\"failed\",reason=\"too slow\"}\non_success=\"done\"\non_error={status=\"failed\",reason=\"sub failed\"}\noutput.res.value=\"${.payload.r}\"\noutput.st=\"${.payload.status}\"\noutput.op=\"${.topic.operation}\"\noutput.odd=\"${.some.path}\"\noutput.none=\"${.payload.none}\"\n[done]\nscript=\"q\"\n";

#[test]
fn u1_u2_u3_u6_a_sub_operation_gets_its_input_after_the_parent_is_published() {
    let bench = Bench::new(SUB, json!({"n": 7, "other": 1}));
    let (sub, init) = bench.started();
    assert_eq!(sub.as_str(), "te/device/main///cmd/sub/sub:op:t1");
    assert_eq!(init, json!({"x": "static", "n": 7, "deep": {"z": "pre-7"}}));
    assert_eq!(bench.effects[0], Effect::Publish);
    assert_eq!(bench.effects.last(), Some(&Effect::ArmTimer { due_at: Moment::from_millis(21_000) }));
    assert_eq!((bench.status(), bench.states.len()), ("wait", 1));
}

#[test]
fn u9_u10_u12_output_is_evaluated_on_the_last_state_of_the_sub_operation() {
    let mut bench = Bench::new(SUB, json!({"n": 7}));
    let (sub, _) = bench.started();
    bench.give(Event::OperationEnded { topic: sub.clone(), baton: baton("successful", json!({"r": {"v": [1]}})) });
    assert_eq!(
        bench.command.message().to_value(),
        json!({"status": "done", "n": 7, "res": {"value": {"v": [1]}}, "st": "successful", "op": "sub",
            "odd": "${.some.path}", "none": ""})
    );
    assert_eq!(bench.effects[..2], [Effect::Publish, Effect::ClearOperation { topic: sub.clone() }]);
    assert_eq!(bench.refused(Event::OperationEnded { topic: sub, baton: baton("successful", json!({})) }), Refused::OutOfPlace);
}

#[test]
fn u4_u5_a_failed_sub_operation_leads_to_on_error_without_its_output() {
    let failed = |text: &str| {
        let mut bench = Bench::new(text, json!({}));
        let (topic, _) = bench.started();
        bench.give(Event::OperationEnded { topic, baton: baton("failed", json!({"reason": "inner", "r": 1})) });
        (bench.status().to_owned(), bench.field("reason"), bench.field("res"))
    };
    assert_eq!(failed(SUB), ("failed".into(), json!("sub failed"), json!("(none)")));
    let plain = "[init]\noperation=\"sub\"\non_exec=\"wait\"\n[wait]\naction=\"await-operation-completion\"\n";
    assert_eq!(failed(plain), ("failed".into(), json!("sub-operation sub failed: inner"), json!("(none)")));
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
        assert!(bench.field("reason").as_str().is_some_and(|r| r.contains("no name of an operation")));
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
    assert_eq!((bench.started(), bench.command.due_at()), ((sub, init), Some(Moment::from_millis(26_000))));
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
    let definition = Definition::parse("s", "operation=\"sub\"\n[init]\naction=\"proceed\"\n").expect("valid");
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
    assert_eq!((bench.status(), bench.field("got"), bench.field("y")), ("successful", json!(2), json!("(none)")));
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
    let mut bench = Bench::new("[init]\naction=\"proceed\"\non_success=\"restarted\"\n[restarted]\naction=\"cleanup\"\n", json!({}));
    assert_eq!((bench.status(), bench.command.is_ended()), ("restarted", true));
    bench = Bench::new("[init]\naction=\"proceed\"\non_success={status=\"failed\",reason=\"not supported\"}\n", json!({}));
    assert_eq!((bench.status(), bench.field("reason")), ("failed", json!("not supported")));
    bench = Bench::new("[init]\naction=\"cleanup\"\n", json!({}));
    assert_eq!((bench.command.phase, bench.states.len()), (Phase::Ended { told: true }, 0));
}

#[test]
fn a8_later_actions_are_known() {
    let bench = Bench::new("[init]\naction=\"builtin:config_update:set\"\ninput.setFrom=\"${.payload.f}\"\n", json!({"f": "F"}));
    let call = BuiltinCall::Step { operation: "config_update".into(), step: "set".into() };
    let payload = payload(json!({"f": "F", "setFrom": "F"}));
    assert_eq!(bench.effects, [Effect::InvokeBuiltin { call, payload, is_resumed: false }]);
    let bench = Bench::new("[init]\naction=\"restart-agent\"\non_exec=\"wait\"\n[wait]\naction=\"await-agent-restart\"\n", json!({}));
    assert_eq!((bench.status(), bench.command.phase), ("wait", Phase::Awaiting { due_at: None }));
}

// C: cleanup

#[test]
fn c2_c3_a_cleared_command_is_forgotten_and_what_it_runs_is_ended() {
    let mut bench = Bench::new("[init]\naction=\"proceed\"\n", json!({}));
    bench.give(Event::Incoming(Incoming::Cleared));
    assert_eq!((bench.command.phase, &bench.effects[..]), (Phase::Cleared, &[Effect::Forget][..]));
    assert_eq!(bench.refused(Event::Continue), Refused::Cleared);
    let mut bench = Bench::new(SCRIPT, json!({}));
    bench.give(Event::Incoming(Incoming::Cleared));
    assert_eq!(bench.effects, [Effect::StopWork, Effect::Forget]);
}

// I: iterate

const ITERATE: &str = "[init]\niterate=\"${.payload.items}\"\non_next=\"apply\"\non_success=\"successful\"\non_error={status=\"failed\",reason=\"bad items\"}\n[apply]\nscript=\"p ${.payload.@next.index} ${.payload.@next.item.n}\"\non_success=\"init\"\n";

#[test]
fn i1_each_item_has_its_turn_and_skipped_ones_do_not() {
    let items = json!([{"n": "a", "@skip": true}, {"n": "b", "@skip": true}, {"n": "c"}, {"n": "d", "@skip": false}]);
    let mut bench = Bench::new(ITERATE, json!({"items": items}));
    let mut seen = Vec::new();
    while !bench.command.is_ended() {
        seen.push(bench.run().1.join(" "));
        bench.exit(0, "");
    }
    assert_eq!(seen, ["0 a", "2 c", "3 d"]);
    assert_eq!(bench.status(), "successful");
}

#[test]
fn i2_i3_nothing_left_is_success_and_no_array_an_error() {
    for (fields, status, reason) in [
        (json!({"items": []}), "successful", "(none)"),
        (json!({"items": [1], "@next": {"index": 5}}), "successful", "(none)"),
        (json!({"items": [1], "@next": {"index": u64::MAX}}), "successful", "(none)"),
        (json!({"items": {}}), "failed", "bad items"),
        (json!({}), "failed", "bad items"),
    ] {
        let bench = Bench::new(ITERATE, fields);
        assert_eq!((bench.status(), bench.field("reason")), (status, json!(reason)));
    }
    let bench = Bench::new(ITERATE, json!({"items": [{"n": 1}], "@next": 7}));
    assert_eq!(bench.run().1, ["0", "1"]);
}

#[test]
fn a_refusal_is_for_what_does_not_happen_in_a_state() {
    let bench = Bench::new(SCRIPT, json!({}));
    for event in [
        Event::Continue,
        Event::Launched(Ok(())),
        Event::BuiltinEnded(Ok(Payload::new())),
        Event::OperationEnded { topic: topic(), baton: baton("successful", json!({})) },
        Event::Published,
    ] {
        assert_eq!(bench.refused(event), Refused::OutOfPlace);
    }
    assert_eq!(bench.refused(Event::TimerDue), Refused::NotDue);
}
