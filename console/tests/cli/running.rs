//! `quarterdeck run`.

use std::sync::atomic::{AtomicU32, Ordering};

use quarterdeck_tests::wait::DEADLINE;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{
    program::Program,
    samples::{BATCH, command, command_id, device, opening_tunnel},
    stub::{Reply, Request, Stub},
};

fn created(count: usize) -> Value {
    let commands: Vec<_> = (1..=count).map(|n| command(n, "queued")).collect();
    json!({"batch_id": BATCH, "count": count, "offline": 1, "warnings": ["pi-2 is offline"], "commands": commands})
}

/// Two commands that end after a few polls, the second as `second` says.
fn two_commands(second: &'static str) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let polls = AtomicU32::new(0);
    move |request| {
        let mut one = command(1, "completed");
        one["stdout"] = json!("hello\u{1b}[2J\n");
        one["exit_code"] = json!(0);
        let mut two = command(2, second);
        two["error_code"] = json!("script_failed");
        let route = request.route();
        if route == "POST /projects/default/commands" {
            Reply::json(201, &created(2))
        } else if route.ends_with(&command_id(1)) {
            Reply::ok(&one)
        } else if route.ends_with(&command_id(2)) {
            Reply::ok(&two)
        } else {
            assert_eq!(request.query("batch_id").as_deref(), Some(BATCH));
            match polls.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::page(&[command(1, "accepted"), command(2, "queued")], None, 2),
                // The server restarts meanwhile.
                1..=4 => Reply::cut(),
                5 => Reply::page(&[one, command(2, "execution_started")], None, 2),
                _ => Reply::page(&[one, two], None, 2),
            }
        }
    }
}

#[tokio::test]
async fn a_submission_carries_what_was_said_and_a_key() {
    let stub = Stub::start(|_| Reply::json(201, &created(2))).await;
    let program = Program::with_token(&stub.url);
    let args = [
        "run",
        "run_script",
        "pi-1",
        "pi-2",
        "pi-1",
        "script=echo hi",
        "args=-v",
        "--priority",
        "2",
        "--timeout",
        "5m",
        "--expires",
        "60",
        "--notes",
        "CHG 7",
        "--yes",
        "--output",
        "json",
    ];
    let ended = program.run(&args).await.expect(0);
    assert_eq!(ended.json(), [command(1, "queued"), command(2, "queued")]);
    assert!(ended.stderr.contains("warning: pi-2 is offline"), "{}", ended.stderr);
    let asked = stub.asked().pop().expect("asked");
    assert_eq!(
        asked.body,
        json!({
            "targets": {"devices": ["pi-1", "pi-2"], "groups": []}, "type": "run_script",
            "payload": {"script": "echo hi", "args": ["-v"]}, "priority": 2, "timeout_s": 300,
            "expires_in_s": 60, "notes": "CHG 7", "confirm": true
        })
    );
    assert!(asked.header("idempotency-key").is_some_and(|key| key.len() >= 16));
}

#[tokio::test]
async fn a_submission_that_broke_off_is_repeated_with_the_same_key() {
    let count = AtomicU32::new(0);
    let stub = Stub::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::cut(),
        _ => Reply::json(201, &created(1)),
    })
    .await;
    let program = Program::with_token(&stub.url);
    program.run(&["run", "ping", "pi-1"]).await.expect(0);
    let asked = stub.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header("idempotency-key"), asked[1].header("idempotency-key"));
}

#[tokio::test]
async fn waiting_ends_well_only_when_all_completed() {
    let stub = Stub::start(two_commands("completed")).await;
    let program = Program::with_token(&stub.url);
    let args = ["run", "run_script", "pi-1", "pi-2", "script=id", "--wait"];
    let ended = program.run(&args).await.expect(0);
    assert!(ended.stdout.starts_with("== pi-1: completed, exit 0\nhello^[[2J\n== pi-2: completed"));
    assert!(ended.stderr.contains("the server is back"), "{}", ended.stderr);

    let stub = Stub::start(two_commands("failed")).await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&args).await.expect(1);
    assert!(ended.stdout.contains("== pi-2: failed, script_failed"), "{}", ended.stdout);
    assert!(ended.stderr.contains("pi-2: failed, script_failed"), "{}", ended.stderr);
}

#[tokio::test]
async fn waiting_in_json_prints_the_outcomes_alone() {
    let stub = Stub::start(two_commands("cancelled")).await;
    let program = Program::with_token(&stub.url);
    let args = ["run", "run_script", "pi-1", "pi-2", "script=id", "--wait", "--output", "json"];
    let ended = program.run(&args).await.expect(1);
    let items = ended.json();
    assert_eq!(items[0]["stdout"], "hello\u{1b}[2J\n");
    assert_eq!(items[1]["status"], "cancelled");
}

#[tokio::test]
async fn waiting_has_an_end_of_its_own() {
    let stub = Stub::start(|request| match request.route().as_str() {
        "POST /projects/default/commands" => Reply::json(201, &created(1)),
        "GET /projects/default/commands" => Reply::page(&[command(1, "queued")], None, 1),
        _ => Reply::ok(&command(1, "queued")),
    })
    .await;
    let program = Program::with_token(&stub.url);
    let args = ["run", "ping", "pi-1", "--wait", "--wait-timeout", "1", "--output", "json"];
    let ended = program.run(&args).await.expect(1);
    assert_eq!(ended.json(), [command(1, "queued")]);
    assert!(ended.stderr.contains("they go on"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_dangerous_operation_that_was_not_confirmed_says_how() {
    let stub = Stub::start(|_| {
        Reply::json(
            422,
            &json!({"title": "x", "status": 422, "code": "confirmation_required", "field": "confirm",
                    "detail": "reboot_host is dangerous"}),
        )
    })
    .await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["run", "reboot_host", "pi-1"]).await.expect(2);
    assert!(ended.stderr.contains("add --confirm"), "{}", ended.stderr);
}

#[tokio::test]
async fn devices_may_come_from_stdin() {
    let stub = Stub::start(|_| Reply::json(201, &created(1))).await;
    let program = Program::with_token(&stub.url);
    let args = ["run", "ping", "--devices-from", "-"];
    program.run_with(&args, "pi-1\n\npi-2\n").await.expect(0);
    let asked = stub.asked().pop().expect("asked");
    assert_eq!(asked.body["targets"]["devices"], json!(["pi-1", "pi-2"]));
}

#[tokio::test]
async fn a_file_is_sent_along_and_named_in_the_payload() {
    let stub = Stub::start(|request| match request.method.as_str() {
        "PUT" => Reply::json(201, &json!({})),
        _ => Reply::json(201, &created(1)),
    })
    .await;
    let program = Program::with_token(&stub.url);
    let file = program.home.path().join("motd");
    std::fs::write(&file, "\"welcome\"").expect("written");
    let file = file.display().to_string();
    let args = ["run", "file_push", "pi-1", "path=/etc/motd", "--file", &file];
    program.run(&args).await.expect(0);
    let asked = stub.asked();
    assert_eq!(asked[0].body, json!("welcome"));
    assert_eq!(asked[0].query("name").as_deref(), Some("motd"));
    assert_eq!(asked[0].query("project").as_deref(), Some("default"));
    let id = asked[1].body["payload"]["upload_id"].as_str().expect("an id");
    assert_eq!(asked[0].route(), format!("PUT /uploads/{id}"));

    let args = ["run", "file_push", "pi-1", "path=/etc/motd", "--file", "/nowhere"];
    program.run(&args).await.expect(1);
}

#[tokio::test]
async fn leaving_a_wait_says_that_the_commands_go_on() {
    let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let stub = Stub::start(move |request| {
        if request.method == "POST" {
            return Reply::json(201, &created(1));
        }
        let _ = sender.send(());
        Reply::page(&[command(1, "queued")], None, 1)
    })
    .await;
    let program = Program::with_token(&stub.url);
    let child = program.command(&["run", "ping", "pi-1", "--wait"]).spawn().expect("starts");
    asked.recv().await.expect("it waits");
    let id = i32::try_from(child.id().expect("runs")).expect("a process id");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGINT)
        .expect("sent");
    let output = child.wait_with_output().await.expect("ends");
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.contains(&format!("quarterdeck commands --batch {BATCH}")), "{stderr}");
}

#[tokio::test]
async fn more_devices_than_a_submission_takes_go_in_several() {
    let stub = Stub::start(|request| {
        let devices = request.body["targets"]["devices"].as_array().expect("devices").len();
        Reply::json(201, &created(devices.min(2)))
    })
    .await;
    let program = Program::with_token(&stub.url);
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("devices");
    let names: Vec<String> = (0..10_001).map(|n| format!("d-{n}")).collect();
    std::fs::write(&list, names.join("\n")).expect("written");
    let list = list.to_str().expect("text");
    let args = [
        "run",
        "ping",
        "--devices-from",
        list,
        "--yes",
        "--idempotency-key",
        "k",
        "--output",
        "json",
    ];
    let ended = program.run(&args).await.expect(0);
    // One array of all of them.
    assert_eq!(ended.json().len(), 3);
    assert_eq!(ended.stderr.matches("submitted").count(), 2, "{}", ended.stderr);
    let asked = stub.asked();
    let sent: Vec<_> = asked
        .iter()
        .map(|request| {
            let devices = request.body["targets"]["devices"].as_array().expect("devices");
            (devices.len(), request.header("idempotency-key").expect("a key"))
        })
        .collect();
    assert_eq!(sent, [(10_000, "k"), (1, "k.2")]);
}

#[tokio::test]
async fn a_session_with_a_device_that_is_away_says_so_while_it_waits() {
    let stub = Stub::start(|request| match request.route().as_str() {
        "POST /projects/default/tunnels" => Reply::json(201, &opening_tunnel()),
        "GET /projects/default/devices/pi-1" => Reply::ok(&device("pi-1", "offline")),
        // The stream is opened, and nobody speaks.
        _ => Reply::problem(404, "not_found", "There is no such route."),
    })
    .await;
    let program = Program::with_token(&stub.url);
    let mut child = program.command(&["exec", "pi-1", "--", "true"]).spawn().expect("starts");
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
    let line = tokio::time::timeout(DEADLINE, said.next_line()).await.expect("a word in time");
    let line = line.expect("UTF-8").expect("a line");
    assert!(line.starts_with("quarterdeck: pi-1 is offline, last heard of "), "{line}");
    assert!(line.ends_with("ago; waiting for it, ^C gives up"), "{line}");
}
