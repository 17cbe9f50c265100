//! Commands from beginning to end, with the real binary, a broker and a stub of the server.

mod support;

use base64::Engine as _;
use serde_json::json;
use sha2::Digest as _;
use support::{id_of, is_alive, message, new_id, wait_for};

#[test]
fn a_script_is_accepted_started_watched_and_completed() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let id = bench.send("run_script", json!({
        "script": "echo \"hello $1 $NAME\"; echo oops >&2; cat; pwd; env | grep -c QUARTERDECK_AGENT; exit 0",
        "args": ["world"], "env": {"NAME": "x y"}, "cwd": "/tmp"
    }));
    let last = bench.wait_final(&id);
    assert_eq!((&last["status"], &last["exit_code"]), (&json!("completed"), &json!(0)), "{last}");
    assert_eq!(
        (&last["stdout"], &last["stderr"]),
        (&json!("hello world x y\n/tmp\n0\n"), &json!("oops\n"))
    );
    assert_eq!(last["state"], "successful");
    let statuses = bench.statuses(&id);
    assert_eq!(statuses[..2], ["accepted", "execution_started"]);
    let chunks: Vec<_> =
        bench.responses(&id).into_iter().filter(|r| r["stdout_offset"] == 0).collect();
    assert_eq!(chunks[0]["status"], "progress");
    assert_eq!(chunks[0]["state"], "executing");
    assert!(!bench.data_dir().join("work").join(&id).exists());
}

#[test]
fn a_script_that_fails_says_how() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    for (payload, code, exit_code) in [
        (json!({"script": "exit 7"}), "script_failed", json!(7)),
        (json!({"script": "kill -9 $$"}), "script_failed", json!(137)),
        (json!({"script": "x", "interpreter": "/no/such"}), "launch_failed", json!(null)),
        (json!({"script": "x", "user": "no-such-user"}), "rejected", json!(null)),
        (json!({"script": "x", "cwd": "/no/such"}), "launch_failed", json!(null)),
    ] {
        let id = bench.send("run_script", payload.clone());
        let last = bench.wait_final(&id);
        assert_eq!(
            (&last["error_code"], &last["exit_code"]),
            (&json!(code), &exit_code),
            "{payload}: {last}"
        );
    }
    let id = bench.send("run_script", json!({"script": "print(6*7)", "interpreter": "python3"}));
    assert_eq!(bench.wait_final(&id)["stdout"], "42\n");
}

#[test]
fn operations_that_look_around_answer() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    for (kind, field) in [
        ("ping", "uptime_s"),
        ("system_info", "kernel"),
        ("list_processes", "processes"),
        ("disk_usage", "file_systems"),
        ("network_info", "interfaces"),
    ] {
        let id = bench.send(kind, json!(null));
        let last = bench.wait_final(&id);
        assert!(!last["result"][field].is_null(), "{kind}: {last}");
    }
}

#[test]
fn a_repeated_command_is_answered_from_the_journal_and_not_run_again() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let count = bench.path("count");
    let message =
        message("run_script", json!({"script": format!("echo ran >> {}", count.display())}));
    let id = id_of(&message);
    bench.publish("commands", message.to_string());
    bench.wait_final(&id);
    for expected in 2..5 {
        bench.publish("commands", message.to_string());
        wait_for("the answer again", || (bench.finals(&id) >= expected).then_some(()));
    }
    bench.kill_agent();
    bench.start_online();
    let before = bench.finals(&id);
    bench.publish("commands", message.to_string());
    wait_for("the answer after a restart", || (bench.finals(&id) > before).then_some(()));
    assert_eq!(std::fs::read_to_string(count).unwrap(), "ran\n");
    let all: Vec<_> =
        bench.responses(&id).into_iter().filter(|r| r["status"] == "completed").collect();
    assert!(all.iter().all(|r| r == &all[0]));
}

#[test]
fn who_is_asked_for_an_end_tells_it_and_never_runs_what_it_does_not_know() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let count = bench.path("count");
    let script = json!({"script": format!("echo ran >> {}", count.display())});
    let mut known = message("run_script", script.clone());
    let id = id_of(&known);
    bench.publish("commands", known.to_string());
    let first = bench.wait_final(&id);
    known["known"] = json!(true);
    bench.publish("commands", known.to_string());
    wait_for("the end again", || (bench.finals(&id) >= 2).then_some(()));
    assert!(
        bench.responses(&id).iter().filter(|r| r["status"] == "completed").all(|r| *r == first)
    );

    let mut unknown = message("run_script", script);
    unknown["known"] = json!(true);
    let id = id_of(&unknown);
    bench.publish("commands", unknown.to_string());
    assert_eq!(bench.wait_final(&id)["error_code"], "interrupted");
    assert_eq!(bench.statuses(&id), ["failed"]);
    assert_eq!(std::fs::read_to_string(count).unwrap(), "ran\n");
}

#[test]
fn what_cannot_be_understood_is_refused_and_changes_nothing() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    for (field, value, code, part) in [
        ("schema_version", json!("9.9"), "rejected", "schema_version"),
        ("type", json!("fly"), "unsupported", "fly"),
        ("type", json!(5), "rejected", "type"),
        ("payload", json!({"script": 5}), "rejected", "payload.script"),
        ("payload", json!({"script": "x", "nice": 1}), "rejected", "payload.nice"),
        ("priority", json!(0), "rejected", "priority"),
    ] {
        let mut message = message("run_script", json!({"script": "true"}));
        message[field] = value;
        bench.publish("commands", message.to_string());
        let last = bench.wait_final(&id_of(&message));
        assert_eq!(last["error_code"], code, "{last}");
        assert!(last["error_message"].as_str().unwrap().contains(part), "{last}");
    }
    let mut partial = message("ping", json!({}));
    partial.as_object_mut().unwrap().remove("expires_at");
    bench.publish("commands", partial.to_string());
    let last = bench.wait_final(&id_of(&partial));
    assert_eq!(last["error_message"], "missing field `expires_at`");
    let good = message("ping", json!({})).to_string();
    bench.publish("commands", "");
    bench.publish("commands", "[[[[");
    bench.publish("commands", vec![0xFF; 300]);
    bench.publish("commands/cancel", "{}");
    bench.publish("commands", &good.as_bytes()[..good.len() - 2]);
    let id = id_of(&serde_json::from_str(&good).unwrap());
    let last = bench.wait_final(&id);
    assert_eq!(last["error_code"], "rejected");
    // A message over the limit ends the connection, and nothing else.
    let before = bench.count_online();
    bench.publish("commands", vec![b' '; 200 * 1024]);
    bench.wait_online(before);
    let id = bench.send("ping", json!({}));
    assert_eq!(bench.wait_final(&id)["status"], "completed");
    assert_eq!(bench.server.state.lock().unwrap().enrolments.len(), 1);
}

#[test]
fn a_late_command_is_expired_whatever_the_clocks_say() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    for (sent_at, expires_at, code) in [
        (Some("2001-01-01T00:00:10Z"), "2001-01-01T00:00:09Z", Some("expired")),
        (Some("2099-01-01T00:00:10Z"), "2099-01-01T00:00:09Z", Some("expired")),
        (Some("2001-01-01T00:00:10Z"), "2001-01-01T00:10:00Z", None),
        (None, "2001-01-01T00:10:00Z", Some("expired")),
        (None, "2099-01-01T00:10:00Z", None),
    ] {
        let mut message = message("ping", json!({}));
        message["expires_at"] = json!(expires_at);
        message["sent_at"] = json!(sent_at);
        bench.publish("commands", message.to_string());
        let last = bench.wait_final(&id_of(&message));
        assert_eq!(last["error_code"].as_str(), code, "{message}: {last}");
    }
}

#[test]
fn a_command_that_waits_too_long_on_the_device_expires_there() {
    let mut bench = bench_or_skip!("[limits]\nconcurrent_commands = 1");
    bench.start_online();
    let slow = bench.script("sleep 1000");
    bench.wait_status(&slow, "execution_started");
    let mut message = message("ping", json!({}));
    message["sent_at"] = json!("2001-01-01T00:00:00Z");
    message["expires_at"] = json!("2001-01-01T00:00:01Z");
    bench.publish("commands", message.to_string());
    bench.wait_status(&id_of(&message), "accepted");
    assert_eq!(bench.wait_final(&id_of(&message))["error_code"], "expired");
    assert_eq!(bench.finals(&slow), 0);
}

#[test]
fn a_command_over_its_time_out_is_ended_with_all_its_children() {
    let mut bench = bench_or_skip!("[limits]\nscript_grace_s = 1");
    bench.start_online();
    let script = "trap '' TERM; echo $$; setsid sh -c 'trap \"\" TERM; echo $$; sleep 1000' & sleep 1000; sleep 1000";
    let mut message = message("run_script", json!({"script": script}));
    message["timeout_s"] = json!(1);
    bench.publish("commands", message.to_string());
    let last = bench.wait_final(&id_of(&message));
    assert_eq!((&last["error_code"], &last["status"]), (&json!("timeout"), &json!("failed")));
    let pids: Vec<&str> = last["stdout"].as_str().unwrap().lines().collect();
    assert_eq!(pids.len(), 2, "{last}");
    assert!(!pids.iter().any(|pid| is_alive(pid)));
}

#[test]
fn a_command_can_be_cancelled_before_and_while_it_runs_and_before_it_comes() {
    let mut bench = bench_or_skip!("[limits]\nconcurrent_commands = 1\nscript_grace_s = 0");
    bench.start_online();
    let running = bench.script("echo $$; sleep 1000");
    let pid = wait_for("its pid", || {
        bench.responses(&running).iter().find_map(|r| r["stdout"].as_str().map(str::to_owned))
    });
    let waiting = bench.script("true");
    bench.wait_status(&waiting, "accepted");
    bench.cancel(&waiting);
    let last = bench.wait_final(&waiting);
    assert_eq!(last["error_code"], "cancelled");
    assert_eq!(bench.statuses(&waiting), ["accepted", "failed"]);
    bench.cancel(&running);
    assert_eq!(bench.wait_final(&running)["error_code"], "cancelled");
    assert!(!is_alive(&pid));

    let future =
        message("run_script", json!({"script": format!("touch {}", bench.path("ran").display())}));
    bench.cancel(&id_of(&future));
    let marker = bench.send("ping", json!({}));
    bench.wait_final(&marker);
    bench.kill_agent();
    bench.start_online();
    bench.publish("commands", future.to_string());
    assert_eq!(bench.wait_final(&id_of(&future))["error_code"], "cancelled");
    assert!(!bench.path("ran").exists());
}

#[test]
fn higher_priorities_run_first_and_a_slow_command_blocks_nobody_else() {
    let mut bench = bench_or_skip!("[limits]\nconcurrent_commands = 2");
    bench.start_online();
    let slow = bench.script("sleep 1000");
    let gate = bench.path("gate");
    let holding = bench.script(&format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display()));
    bench.wait_status(&holding, "execution_started");
    bench.wait_status(&slow, "execution_started");
    let order = bench.path("order");
    let mut ids = Vec::new();
    for (name, priority) in [("low", 9), ("normal", 5), ("high", 1), ("second-high", 1)] {
        let mut message =
            message("run_script", json!({"script": format!("echo {name} >> {}", order.display())}));
        message["priority"] = json!(priority);
        bench.publish("commands", message.to_string());
        bench.wait_status(&id_of(&message), "accepted");
        ids.push(id_of(&message));
    }
    std::fs::write(gate, "").unwrap();
    for id in ids {
        bench.wait_final(&id);
    }
    assert_eq!(std::fs::read_to_string(order).unwrap(), "high\nsecond-high\nnormal\nlow\n");
    assert_eq!(bench.finals(&slow), 0);
}

#[test]
fn more_commands_than_fit_are_refused_as_busy() {
    let mut bench = bench_or_skip!("[limits]\nconcurrent_commands = 1\nqueued_commands = 2");
    bench.start_online();
    let ids: Vec<_> = (0..3).map(|_| bench.script("sleep 1000")).collect();
    assert_eq!(bench.wait_final(&ids[2])["error_code"], "busy");
    bench.wait_status(&ids[1], "accepted");
}

#[test]
fn files_are_pushed_pulled_and_collected_where_the_owner_allows() {
    let mut bench = bench_or_skip!("[files]\nallow = ['{folder}/open']");
    let open = bench.path("open");
    std::fs::create_dir(&open).unwrap();
    std::os::unix::fs::symlink(bench.path("."), open.join("out")).unwrap();
    bench.start_online();
    let target = open.join("config");
    let sum = |content: &[u8]| quarterdeck_agent::io::transfer::hex(&sha2::Sha256::digest(content));

    let id = bench.send(
        "file_push",
        json!({"path": target, "content": "one", "sha256": sum(b"one"), "mode": "0600"}),
    );
    let last = bench.wait_final(&id);
    assert_eq!(last["result"]["sha256"], sum(b"one"), "{last}");
    assert_eq!(std::fs::read(&target).unwrap(), b"one");

    let bytes = [0_u8, 255, 10];
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    let id = bench.send("file_push", json!({"path": target, "content_base64": encoded}));
    assert_eq!(bench.wait_final(&id)["status"], "completed");
    assert_eq!(std::fs::read(&target).unwrap(), bytes);

    let upload = new_id().to_string();
    let big = vec![b'z'; 3_000_000];
    bench.server.state.lock().unwrap().uploads.insert(upload.clone(), big.clone());
    bench.server.fail_next(&[503]);
    let id =
        bench.send("file_push", json!({"path": target, "upload_id": upload, "sha256": sum(&big)}));
    assert_eq!(bench.wait_final(&id)["status"], "completed");
    assert_eq!(std::fs::read(&target).unwrap(), big);

    for (payload, code) in [
        (json!({"path": target, "content": "x", "sha256": sum(b"y")}), "transfer_failed"),
        (json!({"path": target, "upload_id": new_id()}), "transfer_failed"),
        (json!({"path": bench.path("closed"), "content": "x"}), "not_allowed"),
        (json!({"path": open.join("out/closed"), "content": "x"}), "not_allowed"),
        (json!({"path": target, "content_base64": "*"}), "rejected"),
    ] {
        let id = bench.send("file_push", payload.clone());
        assert_eq!(bench.wait_final(&id)["error_code"], code, "{payload}");
    }
    assert_eq!(std::fs::read(&target).unwrap(), big);
    assert!(!bench.path("closed").exists());

    bench.server.fail_next(&[500]);
    let id = bench.send("file_pull", json!({"path": target}));
    let last = bench.wait_final(&id);
    assert_eq!(
        last["result"],
        json!({"size_bytes": big.len(), "sha256": sum(&big), "name": "config"}),
        "{last}"
    );
    assert_eq!(bench.server.state.lock().unwrap().uploads[&id], big);
    let id = bench.send("file_pull", json!({"path": "/etc/hostname"}));
    assert_eq!(bench.wait_final(&id)["error_code"], "not_allowed");

    std::fs::write(open.join("app.log"), "one\ntwo\nthree\n").unwrap();
    let id = bench
        .send("collect_logs", json!({"source": "file", "path": open.join("app.log"), "lines": 2}));
    let last = bench.wait_final(&id);
    assert_eq!(last["result"]["name"], "app.log", "{last}");
    let state = bench.server.state.lock().unwrap();
    assert_eq!(state.uploads[&id], b"two\nthree\n");
    let expected = base64::engine::general_purpose::STANDARD.encode("p1/pi-1:s3cret");
    assert!(state.authorizations.iter().all(|given| *given == format!("Basic {expected}")));
}

#[test]
fn the_owners_command_lines_get_names_as_whole_arguments() {
    let mut bench = bench_or_skip!(
        "[exec]\nrestart_service = ['sh', '-c', 'echo \"<$1>\" >> {folder}/calls', 'sh', '{service}']\nrestart_app = ['false']"
    );
    bench.start_online();
    let id = bench.send("restart_service", json!({"service": "nginx@a.service"}));
    assert_eq!(bench.wait_final(&id)["status"], "completed");
    assert_eq!(bench.wait_file("calls"), "<nginx@a.service>\n");
    let id = bench.send("restart_service", json!({"service": "a; reboot"}));
    assert_eq!(bench.wait_final(&id)["error_code"], "rejected");
    let id = bench.send("restart_app", json!({}));
    assert_eq!(bench.wait_final(&id)["error_code"], "script_failed");
}

#[test]
fn a_time_limit_out_of_its_range_is_refused() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    for timeout_s in [0, 604_801] {
        let mut command = message("run_script", json!({"script": "true"}));
        command["timeout_s"] = json!(timeout_s);
        bench.publish("commands", command.to_string());
        let last = bench.wait_final(&id_of(&command));
        assert_eq!(last["error_code"], "rejected", "{timeout_s}: {last}");
        let why = last["error_message"].as_str().unwrap();
        assert!(why.contains("timeout_s: expected 1 to 604800"), "{why}");
    }
}

/// The signals that a process has blocked and ignores, by its status in `/proc`: those below the
/// C library's own.
fn kept_from(status: &str) -> [u64; 2] {
    ["SigBlk:", "SigIgn:"].map(|name| {
        let bits = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        u64::from_str_radix(bits.trim(), 16).expect("a number") & 0x7fff_ffff
    })
}

/// What `nohup`, or a shell in the background, had the agent ignore is the agent's own affair.
#[test]
fn programs_begin_with_no_signal_ignored_or_blocked_whoever_started_the_agent() {
    let mut bench = bench_or_skip!();
    let (folder, seen) = (bench.data_dir().join("workflows"), bench.path("seen"));
    std::fs::create_dir_all(&folder).unwrap();
    let copies = format!(
        "operation = 'look'\n[init]\naction = 'proceed'\non_success = 'copy'\n\
         [copy]\nscript = 'cp /proc/self/status {}'\non_success = 'successful'\n",
        seen.display()
    );
    std::fs::write(folder.join("look.toml"), copies).unwrap();
    bench.start_by(&["env", "--ignore-signal=HUP,QUIT,USR1", "--block-signal=USR2"]);
    bench.wait_online(0);

    let look = |bench: &support::Bench| {
        let last = bench.wait_final(&bench.script("cat /proc/self/status"));
        assert_eq!(kept_from(last["stdout"].as_str().unwrap()), [0, 0]);
        let last = bench.wait_final(&bench.send("look", json!({})));
        assert_eq!(last["status"], "completed", "{last}");
        assert_eq!(kept_from(&std::fs::read_to_string(&seen).unwrap()), [0, 0]);
    };
    look(&bench);

    // The agent itself goes on ignoring them, its next run too.
    let pid = bench.agent.as_ref().unwrap().pid();
    for round in 0..2 {
        for name in ["HUP", "QUIT", "USR1", "USR2"] {
            support::signal(pid, name);
        }
        let ping = bench.send("ping", json!({}));
        assert_eq!(bench.wait_final(&ping)["status"], "completed", "{round}");
        if round == 0 {
            let restart = bench.send("restart_agent", json!({}));
            assert_eq!(bench.wait_final(&restart)["status"], "completed");
        }
    }
    look(&bench);
}
