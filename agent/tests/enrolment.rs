//! Enrolment, wrong usage and presence, with the real binary.

mod support;

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::json;
use support::wait_for;

#[test]
fn a_device_enrols_once_and_says_that_it_is_online() {
    let mut bench = bench_or_skip!("type = 'kiosk'\n[tags]\nsite = 'berlin'");
    bench.start_online();
    let status = bench.of("status").pop().unwrap();
    assert_eq!(status["boot_id"], "boot-1");
    assert!(status["capabilities"].as_array().unwrap().contains(&json!("run_script")));
    assert!(status["facts"]["kernel"].is_string() && status["facts"]["memory_bytes"].is_u64());
    let asked = bench.server.state.lock().unwrap().enrolments.clone();
    assert_eq!(asked.len(), 1);
    assert_eq!((&asked[0]["token"], &asked[0]["device_id"]), (&json!("t0ken"), &json!("pi-1")));
    assert_eq!(
        (&asked[0]["type"], &asked[0]["tags"]),
        (&json!("kiosk"), &json!({"site": "berlin"}))
    );
    let credentials = bench.data_dir().join("credentials.json");
    assert_eq!(std::fs::metadata(&credentials).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!bench.data_dir().join("enroll-nonce").exists());
    wait_for("a heartbeat", || bench.of("health").pop());

    bench.kill_agent();
    wait_for("the last will", || {
        bench.of("status").iter().any(|s| s["online"] == false).then_some(())
    });
    bench.start_online();
    assert_eq!(bench.server.state.lock().unwrap().enrolments.len(), 1);
    assert!(!bench.log().contains("s3cret") && !bench.log().contains("t0ken"));
}

#[test]
fn an_enrolment_is_repeated_with_the_same_nonce_until_it_is_answered() {
    let mut bench = bench_or_skip!();
    bench.server.fail_next(&[503, 500, 429]);
    bench.start_online();
    let asked = bench.server.state.lock().unwrap().enrolments.clone();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|request| request["nonce"] == asked[0]["nonce"]));
    assert!(asked[0]["nonce"].as_str().unwrap().len() >= 32);
}

#[test]
fn an_enrolment_that_crashed_in_the_middle_goes_on_with_its_nonce() {
    let mut bench = bench_or_skip!();
    bench.server.fail_next(&[503; 1_000]);
    bench.start();
    wait_for("a first try", || {
        (!bench.server.state.lock().unwrap().enrolments.is_empty()).then_some(())
    });
    bench.kill_agent();
    bench.server.fail_next(&[]);
    bench.start_online();
    let asked = bench.server.state.lock().unwrap().enrolments.clone();
    assert!(asked.iter().all(|request| request["nonce"] == asked[0]["nonce"]));
}

#[test]
fn a_refused_enrolment_says_what_to_do_and_ends() {
    let mut bench = bench_or_skip!();
    for (status, part) in [(409, "admin"), (401, "new one"), (422, "the stub says no")] {
        bench.server.fail_next(&[status]);
        bench.start();
        assert_eq!(bench.agent.as_mut().unwrap().wait().code(), Some(1));
        assert!(bench.log().contains(part), "{}", bench.log());
    }
}

#[test]
fn without_a_token_it_says_what_is_missing() {
    let bench = bench_or_skip!();
    let output = bench.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--server"));
}

#[test]
fn a_wrong_option_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for (args, parts) in [
        (vec!["--server", "nonsense"], vec!["server", "nonsense", "URL"]),
        (vec!["--heartbeat-s", "0"], vec!["heartbeat", "0", "1 to 3600"]),
        (vec!["--config", "/no/such/file"], vec!["/no/such/file"]),
        (vec!["--colour"], vec!["--colour"]),
        (vec!["--device-id", "a b"], vec!["device", "a b"]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_quarterdeck-agent"))
            .arg("--data-dir")
            .arg(&data)
            .args(&args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(parts.iter().all(|part| said.contains(part)), "{args:?}: {said}");
        assert!(!data.exists());
    }
}

#[test]
fn two_agents_do_not_share_a_data_folder() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let output = bench.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another agent"));
}

#[test]
fn status_works_without_a_server_and_beside_a_running_agent() {
    let mut bench = bench_or_skip!();
    let before = bench.local_status();
    assert_eq!((&before["enrolled"], &before["running"]), (&json!(false), &json!(false)));
    assert!(!bench.data_dir().exists());
    bench.start_online();
    wait_for("connected", || (bench.local_status()["connected"] == true).then_some(()));
    let id = bench.script("sleep 1000");
    bench.wait_status(&id, "execution_started");
    let status = bench.local_status();
    assert_eq!((&status["device"], &status["running"]), (&json!("pi-1"), &json!(true)));
    assert_eq!(status["open_commands"][0]["command_id"], json!(id));
    let text = bench.command().arg("status").output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("run_script"));
}

#[test]
fn heartbeats_count_reconnects() {
    let mut bench = bench_or_skip!("heartbeat_s = 1");
    bench.start_online();
    let first = wait_for("a heartbeat", || bench.of("health").pop());
    assert_eq!(first["broker_connection"]["reconnect_count"], 0);
    assert!(first["resources"]["memory_total_bytes"].is_u64());
    let before = bench.count_online();
    bench.broker.kill();
    bench.broker.start_again();
    bench.wait_online(before);
    let later = wait_for("a later heartbeat", || {
        bench.of("health").into_iter().find(|h| h["broker_connection"]["reconnect_count"] == 1)
    });
    assert!(later["broker_connection"]["last_disconnect_at"].is_string());
}

#[test]
fn sigterm_ends_it_in_order() {
    let mut bench = bench_or_skip!();
    bench.start_online();
    let id = bench.script("trap '' TERM; echo $$; sleep 1000; sleep 1000");
    bench.wait_status(&id, "execution_started");
    let pid = wait_for("the script's pid", || {
        bench.responses(&id).iter().find_map(|r| r["stdout"].as_str().map(str::to_owned))
    });
    assert!(bench.agent.as_mut().unwrap().terminate().success());
    assert_eq!(bench.wait_final(&id)["error_code"], "interrupted");
    wait_for("the farewell", || {
        bench.of("status").last().filter(|s| s["online"] == false && s["at"].is_string()).cloned()
    });
    wait_for("the script's end", || (!support::is_alive(&pid)).then_some(()));
}
