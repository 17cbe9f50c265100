//! Tables of (state, event) → (state, effects), each named by the rule that it holds.

mod operations;
mod scripts;

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
            Effect::StartOperation { topic, payload, .. } => Some((topic.clone(), payload.clone())),
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
    let text = "[init]\naction=\"proceed\"\non_success={status=\"a\",reason=\"one\"}\n[a]\naction=\"proceed\"\non_success=\"b\"\n[b]\nscript=\"p\"\non_success={status=\"successful\",reason=\"two\"}\n";
    let mut bench = Bench::new(text, json!({}));
    assert_eq!((bench.status(), bench.field("reason")), ("b", json!("one")));
    bench.exit(0, "");
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

// R: restart

const RESTART: &str = "[init]\naction=\"proceed\"\non_success=\"go\"\n[go]\nbackground_script=\"p\"\non_exec=\"wait\"\n[wait]\naction=\"await-agent-restart\"\ntimeout_second=60\non_timeout={status=\"failed\",reason=\"no restart\"}\non_success=\"after\"\n[after]\nscript=\"q\"\non_success=\"successful\"\n";

#[test]
fn r2_a_restart_of_the_agent_is_what_was_awaited() {
    let mut bench = Bench::new(RESTART, json!({}));
    assert_eq!(
        (bench.status(), bench.command.due_at()),
        ("wait", Some(Moment::from_millis(61_000)))
    );
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
    let mut bench =
        Bench::new(&format!("{SCRIPT}on_success=\"a\"\n[a]\naction=\"proceed\"\n"), json!({}));
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!((bench.status(), bench.run().0), ("init", "p"));
    bench.give(Event::ScriptEnded { end: ScriptEnd::Exited(0), excerpts: Excerpts::default() });
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!(
        (bench.status(), &bench.effects[..]),
        ("a", &[Effect::Publish, Effect::Continue][..])
    );
}

#[test]
fn a_script_that_is_not_repeatable_is_an_error_after_a_restart() {
    let states =
        format!("{SCRIPT}repeatable=false\non_error=\"rollback\"\n[rollback]\nscript=\"q\"\n");
    let mut bench = Bench::new(&states, json!({}));
    bench.give(Event::AgentStarted { same_boot: true });
    assert_eq!((bench.status(), bench.run().0), ("rollback", "q"));
    let reason = bench.field("reason");
    assert!(reason.as_str().is_some_and(|text| text.starts_with("interrupted")), "{reason}");
}

#[test]
fn a_script_that_a_restart_finds_not_begun_is_run_though_it_is_not_repeatable() {
    let text = "operation = \"op\"\n[init]\naction=\"restart-agent\"\non_exec=\"s\"\n[s]\nscript=\"p\"\nrepeatable=false\n";
    let definition = Definition::parse("op.toml", text).expect("valid");
    let command = Command::new(topic(), Payload::new());
    let now = Moment::default();
    let first = step(&definition, &command, Event::Start, now).expect("started");
    let launching = step(&definition, &first.next, Event::Continue, now).expect("goes on");
    let restarted = Event::AgentStarted { same_boot: true };
    let resumed = step(&definition, &launching.next, restarted, now).expect("goes on");
    assert!(resumed.effects.iter().any(|effect| matches!(effect, Effect::RunScript(_))));
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
        Event::Abort("x".into()),
        Event::Continue,
    ] {
        assert_eq!(bench.refused(event), Refused::Ended);
    }
}

#[test]
fn r7_a_command_whose_workflow_is_gone_fails_with_a_reason() {
    let mut bench = Bench::new(SCRIPT, json!({}));
    bench.give(Event::Abort("its workflow is gone".into()));
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
