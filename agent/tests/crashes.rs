//! The agent killed at each stage: what was begun is never run again, and every answer arrives.

#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod support;

use std::os::unix::process::ExitStatusExt as _;

use serde_json::json;
use support::{Bench, id_of, is_alive, message, wait_for};

fn counting(bench: &Bench, then: &str) -> serde_json::Value {
    let count = bench.path("count");
    message("run_script", json!({"script": format!("echo $$ >> {}; {then}", count.display())}))
}

#[test]
fn a_command_that_was_running_is_interrupted_and_ended() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let message = counting(&bench, "trap '' TERM; setsid sleep 1000 & echo $!; sleep 1000");
    let id = id_of(&message);
    bench.publish("commands", message.to_string());
    let pid = bench.wait_file("count");
    let escapee = wait_for("the escapee", || {
        bench.responses(&id).iter().find_map(|r| r["stdout"].as_str().map(str::to_owned))
    });
    bench.kill_agent();
    bench.start_online();
    assert_eq!(bench.wait_final(&id)["error_code"], "interrupted");
    wait_for("its end", || (!is_alive(&pid) && !is_alive(&escapee)).then_some(()));
    let before = bench.finals(&id);
    bench.publish("commands", message.to_string());
    wait_for("the answer again", || (bench.finals(&id) > before).then_some(()));
    assert_eq!(bench.wait_file("count").lines().count(), 1);
    assert!(bench.responses(&id).iter().all(|r| r["status"] != "completed"));
}

#[test]
fn a_program_ends_even_if_the_agent_never_comes_back() {
    let mut bench = bench_or_skip!("[limits]\nscript_grace_s = 0");
    bench.start_online();
    let id = bench.script("trap '' TERM; echo $$; sleep 1000; sleep 1000");
    let pid = wait_for("its pid", || {
        bench.responses(&id).iter().find_map(|r| r["stdout"].as_str().map(str::to_owned))
    });
    bench.kill_agent();
    wait_for("its end", || (!is_alive(&pid)).then_some(()));
}

#[test]
fn a_command_that_was_only_accepted_runs_after_the_restart() {
    let mut bench = bench_or_skip!("[limits]\nconcurrent_commands = 1");
    bench.start_online();
    let first = bench.script("sleep 1000");
    bench.wait_status(&first, "execution_started");
    let second = counting(&bench, "true");
    bench.publish("commands", second.to_string());
    bench.wait_status(&id_of(&second), "accepted");
    bench.kill_agent();
    bench.start_online();
    assert_eq!(bench.wait_final(&first)["error_code"], "interrupted");
    assert_eq!(bench.wait_final(&id_of(&second))["status"], "completed");
    assert_eq!(bench.wait_file("count").lines().count(), 1);
}

#[test]
fn an_answer_that_the_broker_did_not_get_is_sent_after_the_restart() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let gate = bench.path("gate");
    let message = counting(
        &bench,
        &format!("while [ ! -e {} ]; do sleep 0.02; done; echo done", gate.display()),
    );
    let id = id_of(&message);
    bench.publish("commands", message.to_string());
    bench.wait_file("count");
    bench.broker.kill();
    std::fs::write(&gate, "").unwrap();
    wait_for("the end in the journal", || {
        (bench.local_status()["open_commands"] == json!([])).then_some(())
    });
    assert!(bench.local_status()["unacknowledged_responses"].as_u64().unwrap() > 0);
    bench.kill_agent();
    bench.broker.start_again();
    bench.start_online();
    let last = bench.wait_final(&id);
    assert_eq!((&last["status"], &last["stdout"]), (&json!("completed"), &json!("done\n")));
    wait_for("all acknowledged", || {
        (bench.local_status()["unacknowledged_responses"] == 0).then_some(())
    });
    assert_eq!(bench.wait_file("count").lines().count(), 1);
}

#[test]
fn live_output_of_a_broken_connection_arrives_after_it() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let gate = bench.path("gate");
    let id = bench.script(&format!(
        "echo first; while [ ! -e {} ]; do sleep 0.02; done; echo second",
        gate.display()
    ));
    bench.wait_status(&id, "progress");
    bench.broker.kill();
    std::fs::write(&gate, "").unwrap();
    wait_for("the end in the journal", || {
        (bench.local_status()["open_commands"] == json!([])).then_some(())
    });
    bench.broker.start_again();
    assert_eq!(bench.wait_final(&id)["stdout"], "first\nsecond\n");
    assert!(
        bench.responses(&id).iter().any(|r| r["stdout_offset"] == 6 && r["stdout"] == "second\n")
    );
}

#[test]
fn killed_again_and_again_each_command_runs_at_most_once_and_is_answered() {
    let mut bench = bench_or_skip!("[limits]\nconcurrent_commands = 3");
    bench.start_online();
    let mut sent = Vec::new();
    for round in 0..6_u64 {
        for n in 0..5 {
            let file = bench.path(&format!("ran-{round}-{n}"));
            let message = message(
                "run_script",
                json!({"script": format!("echo x >> {}; sleep 0.0{n}", file.display())}),
            );
            bench.publish("commands", message.to_string());
            sent.push((message, file));
        }
        // At a different point each time: after some number of answers.
        wait_for("some answers", || {
            (bench.of("commands/response").len() as u64 > round * 7 + round).then_some(())
        });
        bench.kill_agent();
        bench.start_online();
        // As the server does for those whose acceptance it has not heard of.
        for (message, _) in &sent {
            if bench.responses(&id_of(message)).is_empty() {
                bench.publish("commands", message.to_string());
            }
        }
    }
    for (message, file) in &sent {
        let id = id_of(message);
        if bench.responses(&id).is_empty() {
            bench.publish("commands", message.to_string());
        }
        let last = bench.wait_final(&id);
        let times = std::fs::read_to_string(file).unwrap_or_default().lines().count();
        assert!(times <= 1, "{id} ran {times} times");
        if last["status"] == "completed" {
            assert_eq!(times, 1, "{id} completed without having run");
        } else {
            assert_eq!(last["error_code"], "interrupted", "{last}");
        }
        let finals: Vec<_> = bench
            .responses(&id)
            .into_iter()
            .filter(|r| r["status"] == "completed" || r["status"] == "failed")
            .collect();
        assert!(finals.iter().all(|other| other["status"] == finals[0]["status"]), "{finals:?}");
    }
}

#[test]
fn a_reboot_completes_when_the_host_is_back_with_another_boot_id() {
    let mut bench =
        bench_or_skip!("[exec]\nreboot = ['sh', '-c', 'echo rebooted >> {folder}/calls']");
    bench.start_online();
    let reboot = message("reboot_host", json!({}));
    let id = id_of(&reboot);
    bench.publish("commands", reboot.to_string());
    assert_eq!(bench.wait_file("calls"), "rebooted\n");
    bench.wait_status(&id, "execution_started");
    bench.kill_agent();
    // The agent restarts before the host goes down: it goes on waiting.
    bench.start_online();
    bench.publish("commands", reboot.to_string());
    let marker = bench.send("ping", json!({}));
    bench.wait_final(&marker);
    assert_eq!(bench.finals(&id), 0);
    bench.kill_agent();
    bench.set_boot_id("boot-2");
    bench.start_online();
    let last = bench.wait_final(&id);
    assert_eq!(
        (&last["status"], &last["result"]["boot_id"]),
        (&json!("completed"), &json!("boot-2"))
    );
    bench.publish("commands", reboot.to_string());
    wait_for("the answer again", || (bench.finals(&id) >= 2).then_some(()));
    assert_eq!(bench.wait_file("calls"), "rebooted\n");
}

#[test]
fn a_reboot_that_never_comes_ends_at_the_ceiling() {
    let mut bench = bench_or_skip!(
        "[exec]\nreboot = ['true']\nshutdown = ['false']\n[limits]\nreboot_ceiling_s = 1"
    );
    bench.start_online();
    let id = bench.send("reboot_host", json!({}));
    assert_eq!(bench.wait_final(&id)["error_code"], "timeout");
    let id = bench.send("shutdown_host", json!({}));
    assert_eq!(bench.wait_final(&id)["error_code"], "script_failed");
}

#[test]
fn the_agent_starts_itself_anew_and_says_so() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let pid = bench.agent.as_ref().unwrap().pid();
    let (before, id) = (bench.count_online(), bench.send("restart_agent", json!({})));
    bench.wait_online(before);
    assert_eq!(bench.wait_final(&id)["status"], "completed");
    assert!(is_alive(&pid.to_string()));
    assert_eq!(bench.statuses(&id)[..2], ["accepted", "execution_started"]);
    let id = bench.send("ping", json!({}));
    assert_eq!(bench.wait_final(&id)["status"], "completed");
}

#[test]
fn leftovers_of_scripts_are_gone_after_the_restart() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let id = bench.script("sleep 1000");
    bench.wait_status(&id, "execution_started");
    let folder = bench.data_dir().join("work").join(&id);
    wait_for("the script's file", || folder.exists().then_some(()));
    bench.kill_agent();
    bench.start_online();
    assert_eq!(bench.wait_final(&id)["error_code"], "interrupted");
    wait_for("the script's file to go", || (!folder.exists()).then_some(()));
}

/// Has the agent die at every point that a command passes, from the journal to the workflow's
/// effects and back; gives the points at which it died.
#[cfg(debug_assertions)]
fn die_at_each_point(
    bench: &mut Bench,
    command: impl Fn(u64) -> serde_json::Value,
    check: impl Fn(u64, &serde_json::Value),
) -> u64 {
    // Enrolled, so that each start passes the same points.
    bench.start_online();
    assert!(bench.agent.as_mut().unwrap().terminate().success());
    for point in 1.. {
        let message = command(point);
        let id = id_of(&message);
        bench.environment = vec![("QUARTERDECK_AGENT_DIE_AT".to_owned(), point.to_string())];
        let before = bench.count_online();
        bench.start();
        let mut has_died = wait_for("the agent's end or its word", || {
            let has_ended = bench.agent.as_mut().unwrap().has_ended();
            (has_ended || bench.count_online() > before).then_some(has_ended)
        });
        if !has_died {
            bench.publish("commands", message.to_string());
            has_died = wait_for("the agent's end or the command's", || {
                let has_ended = bench.agent.as_mut().unwrap().has_ended();
                (has_ended || bench.finals(&id) > 0).then_some(has_ended)
            });
        }
        bench.environment.clear();
        if has_died {
            bench.start_online();
            // As the server does with what it has not heard of.
            if bench.responses(&id).is_empty() {
                bench.publish("commands", message.to_string());
            }
        }
        check(point, &bench.wait_final(&id));
        let ended = bench.agent.as_mut().unwrap().terminate();
        // It may have died for what follows the command's end.
        let died_after = !has_died && ended.signal() == Some(9);
        assert!(ended.success() || died_after, "point {point}: {ended:?}");
        if !has_died && !died_after {
            return point - 1;
        }
    }
    unreachable!("some point is beyond the command's end")
}

#[cfg(debug_assertions)]
#[test]
fn killed_at_every_point_a_script_runs_at_most_once_and_is_answered() {
    let mut bench = bench_or_skip!();
    let ran = bench.path("ran");
    let command = |point: u64| {
        message("run_script", json!({"script": format!("echo x >>{}-{point}", ran.display())}))
    };
    let died = die_at_each_point(&mut bench, command, |point, last| {
        let file = format!("{}-{point}", ran.display());
        let times = std::fs::read_to_string(file).unwrap_or_default().lines().count();
        if last["status"] == "completed" {
            assert_eq!(times, 1, "point {point}: {last}");
        } else {
            assert!(times <= 1, "point {point}: it ran {times} times");
            assert_eq!(last["error_code"], "interrupted", "point {point}: {last}");
        }
    });
    assert!(died >= 15, "the agent died at {died} points only");
}

#[cfg(debug_assertions)]
#[test]
fn killed_at_every_point_what_may_be_repeated_completes() {
    let mut bench = bench_or_skip!();
    let command = |_| message("system_info", json!({}));
    let died = die_at_each_point(&mut bench, command, |point, last| {
        assert_eq!(last["status"], "completed", "point {point}: {last}");
    });
    assert!(died >= 12, "the agent died at {died} points only");
}

/// The journal takes nothing from its `n`th write, or sync, on; then the agent is killed, and its disk
/// is well again.
#[cfg(debug_assertions)]
fn journal_fails_from(bench: &mut Bench, operation: &str, n: u64) {
    let ran = bench.path(&format!("ran-{operation}-{n}"));
    let mut message =
        message("run_script", json!({"script": format!("echo x >>{}", ran.display())}));
    let id = id_of(&message);
    bench.environment =
        vec![("QUARTERDECK_AGENT_JOURNAL_FAILS".to_owned(), format!("{operation}:{n}"))];
    let logged = bench.log().len();
    bench.start_online();
    bench.publish("commands", message.to_string());
    wait_for("an answer, or a stand-still", || {
        let stands = ["stands still", "the journal cannot be saved"];
        let is_still = stands.iter().any(|words| bench.log()[logged..].contains(words));
        (is_still || bench.finals(&id) > 0).then_some(())
    });
    bench.kill_agent();
    bench.environment.clear();
    let before = bench.finals(&id);
    bench.start_online();
    // As the server asks after what it knows to be accepted.
    message["known"] = json!(true);
    bench.publish("commands", message.to_string());
    wait_for("the answer", || (bench.finals(&id) > before).then_some(()));
    assert!(bench.agent.as_mut().unwrap().terminate().success());
    let times = std::fs::read_to_string(ran).unwrap_or_default().lines().count();
    assert!(times <= 1, "{operation} {n}: it ran {times} times");
    for said in bench.responses(&id) {
        let is_true = match (said["status"].as_str(), said["error_code"].as_str()) {
            (Some("completed"), _) => times == 1,
            (_, Some("disk_full")) => times == 0,
            _ => true,
        };
        assert!(is_true, "{operation} {n}: it ran {times} times, and {said} was said");
    }
}

#[cfg(debug_assertions)]
#[test]
fn whatever_the_journal_refuses_a_script_runs_at_most_once_and_what_was_said_is_true() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    assert!(bench.agent.as_mut().unwrap().terminate().success());
    // A script makes some seven writes.
    for n in 1..=9 {
        journal_fails_from(&mut bench, "write", n);
    }
    for n in 1..=6 {
        journal_fails_from(&mut bench, "sync", n);
    }
}

/// One sync fails, and the journal is rewritten at once: everything goes on in the same run.
#[cfg(debug_assertions)]
#[test]
fn after_a_sync_that_failed_once_the_agent_goes_on() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    assert!(bench.agent.as_mut().unwrap().terminate().success());
    // A start, a program let go, an end: each waits for a sync of its own.
    for n in 1..=3 {
        let ran = bench.path(&format!("ran-{n}"));
        bench.environment =
            vec![("QUARTERDECK_AGENT_JOURNAL_FAILS".to_owned(), format!("sync:{n}-{n}"))];
        let logged = bench.log().len();
        bench.start_online();
        let id = bench.script(&format!("echo x >>{}", ran.display()));
        let last = bench.wait_final(&id);
        assert!(bench.log()[logged..].contains("failing a sync"), "{n}: nothing failed");
        let times = std::fs::read_to_string(ran).unwrap_or_default().lines().count();
        let is_true = match (last["status"].as_str(), last["error_code"].as_str()) {
            (Some("completed"), _) => times == 1,
            (_, Some("disk_full")) => times == 0,
            _ => false,
        };
        assert!(is_true, "{n}: it ran {times} times, and {last}");
        let ping = bench.send("ping", json!({}));
        assert_eq!(bench.wait_final(&ping)["status"], "completed");
        assert!(bench.agent.as_mut().unwrap().terminate().success());
    }
}

/// Nobody may be there to start it again.
#[cfg(debug_assertions)]
#[test]
fn a_first_start_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let mut bench = bench_or_skip!();
    bench.environment =
        vec![("QUARTERDECK_AGENT_JOURNAL_FAILS".to_owned(), "names:1-3".to_owned())];
    bench.start_online();
    assert_eq!(bench.log().matches("the disk is full").count(), 3, "{}", bench.log());
    assert_eq!(bench.server.state.lock().unwrap().enrolments.len(), 1);
    let ping = bench.send("ping", json!({}));
    assert_eq!(bench.wait_final(&ping)["status"], "completed");
    assert!(bench.agent.as_mut().unwrap().terminate().success());

    // And it can be stopped meanwhile.
    bench.environment = vec![("QUARTERDECK_AGENT_JOURNAL_FAILS".to_owned(), "names:1".to_owned())];
    let logged = bench.log().len();
    bench.start();
    wait_for("a start that waits", || {
        bench.log()[logged..].contains("the disk is full").then_some(())
    });
    assert!(bench.agent.as_mut().unwrap().terminate().success());
}
