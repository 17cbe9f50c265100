//! How scripts end (rules E, K, L, O, T, S2) and background scripts (B).

use serde_json::{Value, json};

use super::*;

// E, K, L, O: the end of a script

/// (rule, handlers, end, stdout, status, reason, field x)
type Ending =
    (&'static str, &'static str, ScriptEnd, &'static str, &'static str, &'static str, Value);

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
        (
            "L1",
            "on_error=\"a\"",
            NotLaunched("gone".into()),
            "",
            "a",
            "Failed to launch p: gone",
            absent(),
        ),
        (
            "L1",
            "on_error={status=\"a\",reason=\"r\"}",
            NotLaunched("gone".into()),
            "",
            "a",
            "r",
            absent(),
        ),
        (
            "L1",
            "on_success=\"a\"",
            NotLaunched("gone".into()),
            "",
            "failed",
            "Failed to launch p: gone",
            absent(),
        ),
        ("O3", "on_success=\"a\"", Exited(0), "{\"x\":{\"n\":1}}", "a", "(none)", json!({"n": 1})),
        ("O3", "on_success=\"a\"", Exited(0), "{\"x\":null}", "a", "(none)", Value::Null),
        ("O3", "on_success=\"a\"", Exited(0), "[1,2]", "a", "(none)", absent()),
        ("O3", "on_success=\"a\"", Exited(0), "no json", "a", "(none)", absent()),
        (
            "O4",
            "on_success=\"a\"",
            Exited(0),
            "{\"status\":\"b\",\"x\":1}",
            "a",
            "(none)",
            json!(1),
        ),
        (
            "O4",
            "on_success={status=\"a\",reason=\"w\"}",
            Exited(0),
            "{\"reason\":\"s\"}",
            "a",
            "s",
            absent(),
        ),
        ("O4", "on_success={status=\"a\",reason=\"w\"}", Exited(0), "{}", "a", "w", absent()),
        (
            "O5",
            "on_stdout=[\"a\",\"b\"]",
            Exited(0),
            "{\"status\":\"b\",\"reason\":\"r\",\"x\":1}",
            "b",
            "r",
            json!(1),
        ),
        (
            "O6",
            "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}",
            Exited(0),
            "{\"x\":1}",
            "e",
            "w",
            json!(1),
        ),
        (
            "O6",
            "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}",
            Exited(0),
            "",
            "e",
            "w",
            absent(),
        ),
        (
            "O6",
            "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}",
            Exited(0),
            "no json",
            "e",
            "w",
            absent(),
        ),
        (
            "O6",
            "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}",
            Exited(0),
            "[]",
            "e",
            "w",
            absent(),
        ),
        (
            "O6",
            "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}",
            Exited(0),
            "{\"status\":1}",
            "e",
            "w",
            absent(),
        ),
        ("O6", "on_stdout=[\"a\"]", Exited(0), "{}", "failed", "p printed no status", absent()),
        (
            "O7",
            "on_stdout=[\"a\"]\non_error={status=\"e\",reason=\"w\"}",
            Exited(0),
            "{\"status\":\"b\"}",
            "e",
            "w",
            absent(),
        ),
        (
            "O5",
            "on_stdout=[\"a\"]\non_error=\"e\"",
            Exited(2),
            "{\"status\":\"a\"}",
            "e",
            "p exited with 2",
            absent(),
        ),
        ("O8", "", Exited(0), "{\"status\":\"anything\",\"x\":1}", "anything", "(none)", json!(1)),
        (
            "O8",
            "on_error=\"e\"",
            Exited(0),
            "",
            "failed",
            "p printed no block between the :::tedge::: markers",
            absent(),
        ),
        ("O8", "", Exited(0), "{\"x\":1}", "failed", "p printed no status", json!(1)),
        (
            "O9",
            "on_exit.3={status=\"a\",reason=\"w\"}",
            Exited(3),
            "{\"status\":\"z\",\"reason\":\"s\",\"x\":1}",
            "a",
            "s",
            json!(1),
        ),
        (
            "O10",
            "on_error={status=\"a\",reason=\"w\"}",
            Exited(3),
            "{\"reason\":\"s\",\"x\":1}",
            "a",
            "w",
            absent(),
        ),
        (
            "O10",
            "on_exit._=\"a\"",
            Exited(3),
            "{\"x\":1,\"reason\":\"s\"}",
            "a",
            "p exited with 3: s",
            absent(),
        ),
        (
            "K2",
            "on_kill=\"a\"",
            Killed(9),
            "{\"x\":1,\"status\":\"b\"}",
            "a",
            "p killed by signal 9",
            absent(),
        ),
        (
            "T3",
            "on_timeout={status=\"a\",reason=\"late\"}\non_kill=\"b\"\non_error=\"c\"",
            TimedOut,
            "",
            "a",
            "late",
            absent(),
        ),
        (
            "T3",
            "on_kill={status=\"b\",reason=\"k\"}\non_error=\"c\"",
            TimedOut,
            "",
            "b",
            "k",
            absent(),
        ),
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
        let text = format!(
            "on_error={{status=\"we\",reason=\"e\"}}\non_timeout=\"wt\"\ntimeout_second=7\n{SCRIPT}{handlers}"
        );
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
    assert!(
        bench
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Log(text) if text.contains("\"b\"")))
    );
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
    for (on_exec, states) in [("on_exec=\"next\"\n", vec!["next", "failed"]), ("", vec!["failed"])]
    {
        let text = format!(
            "[init]\naction=\"proceed\"\non_success=\"go\"\n[go]\nbackground_script=\"p\"\n{on_exec}[next]\nscript=\"q\"\n"
        );
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
    let bench =
        Bench::new("[init]\nscript=\"p\"\non_exec=\"verify\"\n[verify]\nscript=\"q\"\n", json!({}));
    assert_eq!((bench.status(), bench.run().0), ("verify", "q"));
    let bench = Bench::new("[init]\nscript=\"p\"\non_exec=\"x\"\non_success=\"y\"\n", json!({}));
    assert_eq!((bench.status(), bench.run().0), ("init", "p"));
}
