//! The server's commands of a type for which the device's owner has a workflow.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod support;

use std::{fs, path::Path};

use serde_json::{Value, json};
use support::{Bench, id_of, message, wait_for};

const FLASH: &str = r#"
operation = "flash"
[init]
action = "proceed"
on_success = "download"
[download]
script = "sh {folder}/step.sh {folder} download ${.payload.url}"
on_success = "install"
[install]
script = "sh {folder}/step.sh {folder} install ${.payload.slot}"
on_success = "successful"
on_error = { status = "failed", reason = "no slot" }
"#;
/// Notes that it ran, and waits if it is told to.
const STEP: &str = "echo $2 $3 >>$1/steps\n\
    [ -e $1/refuse-$2 ] && exit 1\n\
    while [ -e $1/hold-$2 ]; do sleep 0.05; done\n\
    printf ':::begin-tedge:::\\n{\"slot\":\"b\"}\\n:::end-tedge:::\\n'\n";

fn write(bench: &Bench, name: &str, text: &str) {
    let path = bench.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text.replace("{folder}", bench.path("").to_str().unwrap())).unwrap();
}

fn with_workflow(bench: &Bench) {
    write(bench, "data/workflows/flash.toml", FLASH);
    write(bench, "step.sh", STEP);
}

fn steps(bench: &Bench) -> String {
    fs::read_to_string(bench.path("steps")).unwrap_or_default()
}

/// Status and state of each response, each once; pieces of output apart.
fn told(bench: &Bench, id: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut responses = bench.responses(id);
    responses.retain(|r| r["stdout_offset"].is_null() && r["stderr_offset"].is_null());
    let mut told: Vec<_> =
        responses.iter().map(|r| (text(&r["status"]), text(&r["state"]))).collect();
    told.dedup();
    told
}

fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(status, state)| ((*status).to_owned(), (*state).to_owned())).collect()
}

#[test]
fn a_command_of_a_workflows_name_runs_it_and_its_states_are_told() {
    let mut bench = bench_or_skip!();
    with_workflow(&bench);
    bench.start_online();
    let online = bench.of("status").pop().unwrap();
    let capabilities = online["capabilities"].as_array().unwrap();
    assert!(capabilities.contains(&json!("flash")) && capabilities.contains(&json!("ping")));
    assert_eq!(online["operations"][0]["name"], "flash");
    let id = bench.send("flash", json!({"url": "http://x/fw.bin", "keep": [1, null]}));
    let last = bench.wait_final(&id);
    let states = [
        ("accepted", "init"),
        ("execution_started", "download"),
        ("progress", "install"),
        ("completed", "successful"),
    ];
    assert_eq!(told(&bench, &id), expected(&states));
    assert_eq!(last["result"], json!({"url": "http://x/fw.bin", "keep": [1, null], "slot": "b"}));
    assert_eq!(steps(&bench), "download http://x/fw.bin\ninstall b\n");
}

#[test]
fn a_workflow_that_fails_says_why_and_an_invalid_file_what_is_wrong() {
    let mut bench = bench_or_skip!();
    with_workflow(&bench);
    write(&bench, "refuse-install", "");
    write(&bench, "data/workflows/bad.toml", "operation = \"bad\"\n[init]\naction = \"procede\"\n");
    bench.start_online();
    let id = bench.send("flash", json!({"url": "u"}));
    let last = bench.wait_final(&id);
    assert_eq!((&last["status"], &last["error_message"]), (&json!("failed"), &json!("no slot")));
    let id = bench.send("bad", json!({}));
    let why = bench.wait_final(&id)["error_message"].as_str().unwrap().to_owned();
    assert!(why.contains("bad.toml:3:") && why.contains("procede"), "{why}");
    let id = bench.send("unheard_of", json!({}));
    assert_eq!(bench.wait_final(&id)["error_code"], "unsupported");
    let id = bench.send("flash", json!([1]));
    assert_eq!(bench.wait_final(&id)["error_code"], "rejected");
}

#[test]
fn a_crash_in_a_workflow_repeats_only_the_step_that_it_cut_off() {
    let mut bench = bench_or_skip!();
    with_workflow(&bench);
    write(&bench, "hold-install", "");
    bench.start_online();
    let message = message("flash", json!({"url": "u"}));
    let id = id_of(&message);
    bench.publish("commands", message.to_string());
    wait_for("the second step", || steps(&bench).contains("install").then_some(()));
    wait_for("its state", || {
        told(&bench, &id).contains(&("progress".to_owned(), "install".to_owned())).then_some(())
    });
    bench.kill_agent();
    fs::remove_file(bench.path("hold-install")).unwrap();
    bench.start_online();
    assert_eq!(bench.wait_final(&id)["status"], "completed");
    assert_eq!(steps(&bench), "download u\ninstall b\ninstall b\n");
    assert_eq!(told(&bench, &id).iter().filter(|(s, _)| s == "execution_started").count(), 1);
    let before = bench.finals(&id);
    bench.publish("commands", message.to_string());
    wait_for("the answer again", || (bench.finals(&id) > before).then_some(()));
    assert_eq!(steps(&bench).lines().count(), 3, "it does not run again");
}

#[test]
fn a_cancelled_workflow_ends_what_it_runs() {
    let mut bench = bench_or_skip!();
    with_workflow(&bench);
    write(&bench, "hold-download", "");
    bench.start_online();
    let id = bench.send("flash", json!({"url": "u"}));
    wait_for("the first step", || steps(&bench).contains("download").then_some(()));
    bench.cancel(&id);
    assert_eq!(bench.wait_final(&id)["error_code"], "cancelled");
    fs::remove_file(bench.path("hold-download")).unwrap();
    let id = bench.send("flash", json!({"url": "v"}));
    assert_eq!(bench.wait_final(&id)["status"], "completed");
    assert_eq!(steps(&bench), "download u\ndownload v\ninstall b\n");
}

#[test]
fn a_workflow_over_its_time_out_is_ended() {
    let mut bench = bench_or_skip!();
    with_workflow(&bench);
    write(&bench, "hold-download", "");
    bench.start_online();
    let mut message = message("flash", json!({"url": "u"}));
    message["timeout_s"] = json!(1);
    bench.publish("commands", message.to_string());
    assert_eq!(bench.wait_final(&id_of(&message))["error_code"], "timeout");
}

#[test]
fn a_new_file_is_announced_and_offered_at_once_and_stands_over_what_is_built_in() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let (id, before) = (bench.send("ping", json!({})), bench.count_online());
    assert!(bench.wait_final(&id)["result"]["at"].is_string());
    let text = "operation = \"ping\"\n[init]\naction = \"proceed\"\non_success = \"own\"\n[own]\naction = \"proceed\"\n";
    write(&bench, "data/workflows/ping.toml", text);
    bench.wait_online(before);
    let id = bench.send("ping", json!({"x": 1}));
    assert_eq!(bench.wait_final(&id)["result"], json!({"x": 1}));
    assert!(told(&bench, &id).contains(&("execution_started".to_owned(), "own".to_owned())));
    assert!(Path::new(&bench.path("data/board")).exists());
}

/// `run_script` with a check before it.
const CHECKED: &str = r#"
operation = "run_script"
[init]
script = "sh {folder}/step.sh {folder} check ${.payload.script}"
on_success = "executing"
on_error = { status = "failed", reason = "not now" }
[executing]
action = "builtin"
on_success = "successful"
"#;

#[test]
fn a_file_may_extend_a_built_in_operation_which_answers_as_it_does_alone() {
    let mut bench = bench_or_skip!();
    write(&bench, "step.sh", STEP);
    write(&bench, "data/workflows/run_script.toml", CHECKED);
    bench.start_online();
    let id = bench.script("echo out; echo err >&2");
    let last = bench.wait_final(&id);
    assert_eq!(last["status"], "completed", "{last}");
    assert_eq!((&last["stdout"], &last["exit_code"]), (&json!("out\n"), &json!(0)));
    assert!(
        bench.responses(&id).iter().any(|r| r["status"] == "progress" && r["stdout"] == "out\n")
    );
    assert!(told(&bench, &id).contains(&("execution_started".to_owned(), "executing".to_owned())));
    write(&bench, "refuse-check", "");
    let id = bench.script("echo never");
    assert_eq!(bench.wait_final(&id)["error_message"], "not now");
}

#[test]
fn a_built_in_step_that_a_crash_cut_off_is_interrupted_and_never_runs_twice() {
    let mut bench = bench_or_skip!();
    write(&bench, "step.sh", STEP);
    write(&bench, "data/workflows/run_script.toml", CHECKED);
    bench.start_online();
    let count = bench.path("count");
    let id = bench.script(&format!("echo $$ >>{}; sleep 1000", count.display()));
    let pid = bench.wait_file("count");
    bench.kill_agent();
    bench.start_online();
    assert_eq!(bench.wait_final(&id)["error_code"], "interrupted");
    wait_for("its end", || (!support::is_alive(&pid)).then_some(()));
    assert_eq!(bench.wait_file("count"), pid);
}

#[test]
fn a_cancelled_step_is_gone_when_the_command_says_that_it_ended() {
    let mut bench = bench_or_skip!();
    write(&bench, "data/workflows/flash.toml", FLASH);
    write(&bench, "step.sh", "trap '' TERM\necho $$ >$1/pid\nsleep 1000\nsleep 1000\n");
    bench.start_online();
    let id = bench.send("flash", json!({"url": "u"}));
    let pid = bench.wait_file("pid");
    bench.cancel(&id);
    assert_eq!(bench.wait_final(&id)["error_code"], "cancelled");
    assert!(!support::is_alive(&pid));
}

/// `reboot_host` with a check of what came up.
const VERIFIED: &str = r#"
operation = "reboot_host"
[init]
action = "proceed"
on_success = "restarting"
[restarting]
action = "builtin:reboot_host:restarting"
on_success = "verify"
[verify]
script = "sh {folder}/step.sh {folder} verify up"
on_success = "successful"
"#;

#[test]
fn a_file_may_go_on_after_a_built_in_reboot_which_is_neither_repeated_nor_cancelled() {
    let mut bench =
        bench_or_skip!("[exec]\nreboot = ['sh', '-c', 'echo rebooted >> {folder}/calls']");
    write(&bench, "step.sh", STEP);
    write(&bench, "data/workflows/reboot_host.toml", VERIFIED);
    bench.start_online();
    let id = bench.send("reboot_host", json!({}));
    assert_eq!(bench.wait_file("calls"), "rebooted\n");
    bench.kill_agent();
    bench.start_online();
    bench.cancel(&id);
    let marker = bench.send("ping", json!({}));
    bench.wait_final(&marker);
    assert_eq!(bench.finals(&id), 0, "it is too late to cancel, and the boot is the same");
    bench.kill_agent();
    bench.set_boot_id("boot-2");
    bench.start_online();
    assert_eq!(bench.wait_final(&id)["status"], "completed");
    assert_eq!(
        (bench.wait_file("calls").as_str(), steps(&bench).as_str()),
        ("rebooted\n", "verify up\n")
    );
    let states = [
        ("accepted", "init"),
        ("execution_started", "restarting"),
        ("progress", "verify"),
        ("completed", "successful"),
    ];
    assert_eq!(told(&bench, &id), expected(&states));
}

#[test]
fn a_built_in_step_that_fails_may_be_answered_by_a_fallback() {
    let mut bench = bench_or_skip!();
    write(&bench, "step.sh", STEP);
    let text = CHECKED.to_owned()
        + "on_error = \"fallback\"\n[fallback]\nscript = \"sh {folder}/step.sh {folder} fallback ${.payload.reason}\"\non_success = { status = \"failed\", reason = \"rolled back\" }\n";
    write(&bench, "data/workflows/run_script.toml", &text);
    bench.start_online();
    let id = bench.script("echo out; exit 3");
    let last = bench.wait_final(&id);
    assert_eq!(
        (&last["error_code"], &last["error_message"]),
        (&json!("script_failed"), &json!("rolled back"))
    );
    assert_eq!((&last["exit_code"], &last["stdout"]), (&json!(3), &json!("out\n")), "{last}");
    assert!(
        steps(&bench).contains("fallback the script ended with exit status 3"),
        "{}",
        steps(&bench)
    );
}

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_thousand_commands_of_all_kinds_are_pending_and_hold_up_no_other() {
    const EACH: usize = 200;
    let mut bench = bench_or_skip!("[files]\nallow = ['{folder}']");
    for (name, work) in [
        ("script", "script = \"sleep 1000\"\non_success = \"successful\""),
        ("timer", "action = \"await-agent-restart\"\ntimeout_second = 1000"),
        ("parked", "action = \"proceed\"\non_success = \"somebody-elses\""),
    ] {
        let init = "[init]\naction = \"proceed\"\non_success = \"work\"";
        let text = format!("operation = \"{name}\"\n{init}\n[work]\n{work}\n");
        write(&bench, &format!("data/workflows/{name}.toml"), &text);
    }
    bench.start_online();
    let first = bench.send("ping", json!({}));
    bench.wait_final(&first);
    let pid = bench.agent.as_ref().unwrap().pid();
    let idle = resident_kb(pid);
    bench.server.state.lock().unwrap().is_hanging = true;
    let send = |kind: &str, payload: Value| {
        let mut message = message(kind, payload);
        message["timeout_s"] = json!(3_600);
        // The lowest, so that what is waited for here is let by nowhere.
        message["priority"] = json!(10);
        bench.publish("commands", message.to_string());
        id_of(&message)
    };
    for n in 0..EACH {
        let file = bench.path(&format!("file-{n}"));
        send("run_script", json!({"script": "exec sleep 1000"}));
        send("file_push", json!({"path": file, "upload_id": support::new_id()}));
        for kind in ["script", "timer", "parked"] {
            send(kind, json!({"n": n}));
        }
    }
    let count = |status: &str| {
        let inbox = bench.inbox.lock().unwrap();
        inbox.iter().filter(|(_, said)| said["status"] == status).count()
    };
    wait_for("all to begin", || (count("execution_started") > 5 * EACH).then_some(()));
    let after = send("run_script", json!({"script": "echo done"}));
    assert_eq!(bench.wait_final(&after)["stdout"], "done\n");
    assert_eq!(count("failed"), 0);
    assert_eq!(count("completed"), 2, "all others are pending");
    let busy = resident_kb(pid);
    println!("{} KB idle, {} KB more with a thousand commands", idle, busy.saturating_sub(idle));
    // A debug build, with two hundred open downloads and as many supervisors to talk to.
    assert!(busy < idle + 30_000, "{busy} KB with a thousand commands, {idle} KB without");
    // In order, so that nothing is left running.
    assert!(bench.agent.as_mut().unwrap().terminate().success());
}

/// Writes to both streams, and waits; then another writes.
const TALK: &str = r#"
operation = "talk"
[init]
script = "sh -c 'echo one; echo odd >&2; while [ ! -e {folder}/go ]; do sleep 0.02; done'"
on_success = "second"
[second]
script = "sh -c 'echo two; echo even >&2'"
on_success = "part"
[part]
operation = "part"
on_exec = "wait"
[wait]
action = "await-operation-completion"
on_success = "successful"
"#;
const PART: &str =
    "operation = \"part\"\n[init]\nscript = \"echo three\"\non_success = \"successful\"\n";

/// What was told live of a stream: each piece with its offset.
fn pieces(bench: &Bench, id: &str, stream: &str) -> Vec<(u64, String)> {
    let responses = bench.responses(id).into_iter();
    let pieces = responses.filter_map(|response| {
        let offset = response[format!("{stream}_offset")].as_u64()?;
        Some((offset, response[stream].as_str()?.to_owned()))
    });
    pieces.collect()
}

/// Puts pieces together; none repeats another or goes back.
fn assembled(pieces: &[(u64, String)]) -> String {
    let mut whole = String::new();
    for (offset, text) in pieces {
        assert_eq!(*offset, whole.len() as u64, "{pieces:?}");
        whole += text;
    }
    whole
}

#[test]
fn what_the_scripts_of_a_workflow_write_is_told_while_they_run() {
    let mut bench = bench_or_skip!();
    write(&bench, "data/workflows/talk.toml", TALK);
    write(&bench, "data/workflows/part.toml", PART);
    bench.start_online();
    let id = bench.send("talk", json!({}));
    for (stream, text) in [("stdout", "one\n"), ("stderr", "odd\n")] {
        wait_for("the first output", || {
            (pieces(&bench, &id, stream) == [(0, text.to_owned())]).then_some(())
        });
    }
    assert_eq!(bench.finals(&id), 0, "it must still run");
    write(&bench, "go", "");
    let last = bench.wait_final(&id);
    assert_eq!(assembled(&pieces(&bench, &id, "stdout")), "one\ntwo\nthree\n");
    assert_eq!(assembled(&pieces(&bench, &id, "stderr")), "odd\neven\n");
    assert_eq!(
        (&last["stdout"], &last["stderr"]),
        (&json!("one\ntwo\nthree\n"), &json!("odd\neven\n"))
    );
    // Each piece is told in the state that it is of, after what began that.
    let told: Vec<_> =
        bench.responses(&id).into_iter().filter(|r| r["stdout_offset"] == 4).collect();
    assert!(told[0]["stdout"].as_str().is_some_and(|text| text.starts_with("two")), "{told:?}");
}

#[test]
fn offsets_of_output_go_on_after_a_crash() {
    let mut bench = bench_or_skip!();
    write(&bench, "data/workflows/talk.toml", TALK);
    write(&bench, "data/workflows/part.toml", PART);
    bench.start_online();
    let id = bench.send("talk", json!({}));
    wait_for("the first output", || {
        let has = |stream| !pieces(&bench, &id, stream).is_empty();
        (has("stdout") && has("stderr")).then_some(())
    });
    bench.kill_agent();
    write(&bench, "go", "");
    bench.start_online();
    let last = bench.wait_final(&id);
    assert_eq!(last["status"], "completed", "{last}");
    // The script that was cut off runs again, and what both runs wrote is told.
    assert_eq!(assembled(&pieces(&bench, &id, "stdout")), "one\none\ntwo\nthree\n");
    assert_eq!(assembled(&pieces(&bench, &id, "stderr")), "odd\nodd\neven\n");
    assert!(last["stdout"].is_null(), "the whole is what the server has: {last}");
}

#[test]
fn a_flood_of_output_is_told_up_to_its_cap_and_its_block_still_counts() {
    let mut bench = bench_or_skip!();
    let flood = "operation = \"flood\"\n[init]\nscript = \"sh {folder}/flood.sh\"\non_success = \"successful\"\n";
    write(&bench, "data/workflows/flood.toml", flood);
    let script = "yes 0123456789abcdef | head -c 20000000\n\
                  printf '\\n:::begin-tedge:::\\n{\"slot\":\"b\"}\\n:::end-tedge:::\\nthe end\\n'\n";
    write(&bench, "flood.sh", script);
    bench.start_online();
    let id = bench.send("flood", json!({}));
    let last = bench.wait_final(&id);
    assert_eq!(last["result"]["slot"], "b", "{last}");
    let whole = last["stdout"].as_str().unwrap();
    assert!(
        whole.len() <= 8 * 1024 && whole.contains(" bytes cut …]") && whole.ends_with("the end\n")
    );
    let told = assembled(&pieces(&bench, &id, "stdout"));
    assert!(told.len() <= 256 * 1024 && told.len() > 256 * 1024 - 4, "{}", told.len());
}

#[test]
fn output_of_a_built_in_step_goes_on_where_that_of_scripts_ends() {
    let mut bench = bench_or_skip!();
    let both = "operation = \"both\"\n[init]\nscript = \"echo before\"\non_success = \"step\"\n\
                [step]\naction = \"builtin:run_script:executing\"\ninput.script = \"echo within\"\n\
                on_success = \"after\"\n[after]\nscript = \"echo after\"\non_success = \"successful\"\n";
    write(&bench, "data/workflows/both.toml", both);
    bench.start_online();
    let id = bench.send("both", json!({}));
    let last = bench.wait_final(&id);
    assert_eq!(last["status"], "completed", "{last}");
    assert_eq!(assembled(&pieces(&bench, &id, "stdout")), "before\nwithin\nafter\n");
}
