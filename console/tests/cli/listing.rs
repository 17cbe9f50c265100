//! Listings, pages, formats, problems.

use std::{
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use super::{
    program::Program,
    samples::{BATCH, command, command_id, device},
    stub::{Reply, Request, Stub},
};

/// 2,500 devices in pages as long as they are asked for.
fn many_devices(request: &Request) -> Reply {
    let limit: usize = request.query("limit").expect("a limit").parse().expect("a number");
    let start: usize =
        request.query("cursor").map_or(0, |cursor| cursor.parse().expect("a number"));
    let end = (start + limit).min(2_500);
    let items: Vec<Value> = (start..end).map(|n| device(&format!("pi-{n}"), "online")).collect();
    let next = (end < 2_500).then(|| end.to_string());
    Reply::page(&items, next.as_deref(), 2_500)
}

#[tokio::test]
async fn all_pages_are_one_array_of_the_items_as_the_server_sent_them() {
    let stub = Stub::start(many_devices).await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["devices", "--output", "json"]).await.expect(0);
    let items = ended.json();
    assert_eq!(items.len(), 2_500);
    assert_eq!(items[2_499], device("pi-2499", "online"), "unknown fields stay");
    assert_eq!(ended.stderr, "");
    assert_eq!(stub.asked().len(), 3);
}

#[tokio::test]
async fn a_limit_asks_for_no_more_than_it_needs() {
    let stub = Stub::start(many_devices).await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["devices", "--limit", "1003", "--output", "json"]).await.expect(0);
    assert_eq!(ended.json().len(), 1_003);
    let limits: Vec<_> = stub.asked().iter().map(|asked| asked.query("limit")).collect();
    assert_eq!(limits, [Some("1000".to_owned()), Some("3".to_owned())]);
}

#[tokio::test]
async fn a_listing_that_goes_in_a_circle_ends() {
    let stub = Stub::start(|_| Reply::page(&[device("pi-1", "online")], Some("same"), 9)).await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["devices"]).await.expect(1);
    assert!(ended.stderr.contains("go in a circle"), "{}", ended.stderr);
}

#[tokio::test]
async fn an_empty_listing_is_an_empty_array() {
    let stub = Stub::start(|_| Reply::page(&[], None, 0)).await;
    let program = Program::with_token(&stub.url);
    assert_eq!(program.run(&["devices", "--output", "json"]).await.expect(0).stdout, "[]\n");
}

#[tokio::test]
async fn one_item_is_an_array_of_one() {
    let stub = Stub::start(|_| Reply::ok(&device("pi-1", "online"))).await;
    let program = Program::with_token(&stub.url);
    // Global options stand anywhere.
    for args in [
        ["devices", "show", "pi-1", "--output", "json"],
        ["--output", "json", "devices", "show", "pi-1"],
        ["devices", "--output", "json", "show", "pi-1"],
    ] {
        let ended = program.run(&args).await.expect(0);
        assert_eq!(ended.json(), [device("pi-1", "online")]);
    }
}

#[tokio::test]
async fn filters_become_query_parameters() {
    let stub = Stub::start(|_| Reply::page(&[], None, 0)).await;
    let program = Program::with_token(&stub.url);
    let args = [
        "devices",
        "ls",
        "--status",
        "online,stale",
        "--type",
        "pi",
        "--tag",
        "site=fra1",
        "--tag",
        "a=b c",
        "-q",
        "x&y",
        "--crashed",
        "--service-failed",
        "--sort",
        "-last_seen_at",
    ];
    program.run(&args).await.expect(0);
    let args = [
        "commands",
        "--status",
        "failed",
        "--type",
        "ping",
        "--device",
        "pi-1",
        "--user",
        "ops",
        "--batch",
        BATCH,
        "--from",
        "2026-11-21T06:00:00Z",
        "--to",
        "2026-11-22T06:00:00+01:00",
        "-q",
        "nginx",
        "--sort=-created_at",
    ];
    program.run(&args).await.expect(0);
    let asked = stub.asked();
    for (key, value) in [
        ("status", "online,stale"),
        ("type", "pi"),
        ("tag", "site=fra1,a=b c"),
        ("q", "x&y"),
        ("crashed", "true"),
        ("service_failed", "true"),
        ("sort", "-last_seen_at"),
    ] {
        assert_eq!(asked[0].query(key).as_deref(), Some(value), "{key}");
    }
    for (key, value) in [
        ("status", "failed"),
        ("type", "ping"),
        ("device", "pi-1"),
        ("user", "ops"),
        ("batch_id", BATCH),
        ("from", "2026-11-21T06:00:00.000Z"),
        ("to", "2026-11-22T05:00:00.000Z"),
        ("q", "nginx"),
        ("sort", "-created_at"),
    ] {
        assert_eq!(asked[1].query(key).as_deref(), Some(value), "{key}");
    }
}

#[tokio::test]
async fn a_table_is_aligned_and_what_devices_wrote_is_escaped() {
    let mut nasty = device("pi-2", "offline");
    nasty["type"] = json!("\u{1b}[31mred\u{202e}");
    let stub =
        Stub::start(move |_| Reply::page(&[device("pi-1", "online"), nasty.clone()], None, 2))
            .await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["devices"]).await.expect(0);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("ID    STATUS   TYPE"), "{}", lines[0]);
    assert!(lines[2].starts_with("pi-2  offline  ^[[31mred<U+202E>"), "{}", lines[2]);
    assert!(!ended.stdout.contains('\u{1b}'), "no colour without a terminal");
}

#[tokio::test]
async fn json_holds_no_character_that_acts_on_a_terminal() {
    let mut nasty = device("pi-2", "offline");
    nasty["type"] = json!("\u{9b}31m\u{202e}\u{7f}日本");
    let sent = nasty.clone();
    let stub = Stub::start(move |_| Reply::page(std::slice::from_ref(&sent), None, 1)).await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["devices", "--output", "json"]).await.expect(0);
    assert!(ended.stdout.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')));
    assert_eq!(ended.json(), [nasty]);
}

#[tokio::test]
async fn what_the_server_refuses_is_exit_1_with_its_reason() {
    let stub = Stub::start(|request| match request.route().as_str() {
        "GET /projects/default/devices/pi-9" => Reply::problem(404, "not_found", "no device pi-9"),
        _ => Reply::problem(403, "forbidden", "needs the role admin"),
    })
    .await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["devices", "show", "pi-9", "--output", "json"]).await.expect(1);
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("", "quarterdeck: no device pi-9\n")
    );
    let ended = program.run(&["users"]).await.expect(1);
    assert_eq!(ended.stderr, "quarterdeck: needs the role admin\n");
}

#[tokio::test]
async fn an_answer_that_is_not_of_this_api_says_so() {
    let stub = Stub::start(|_| Reply::json(200, &json!({"hello": "world"}))).await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["devices"]).await.expect(1);
    assert!(ended.stderr.contains("is it a quarterdeck-server"), "{}", ended.stderr);
}

#[tokio::test]
async fn reading_survives_a_server_that_hiccups() {
    let count = AtomicU32::new(0);
    let stub = Stub::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::cut(),
        1 => Reply::problem(503, "starting", "starting up"),
        _ => Reply::page(&[], None, 0),
    })
    .await;
    let program = Program::with_token(&stub.url);
    program.run(&["devices"]).await.expect(0);
    assert_eq!(stub.asked().len(), 3);
}

#[tokio::test]
async fn a_change_without_key_is_never_sent_twice() {
    let stub = Stub::start(|_| Reply::cut()).await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["commands", "cancel", "--batch", BATCH]).await.expect(1);
    assert!(ended.stderr.contains("it may have been done all the same"), "{}", ended.stderr);
    assert_eq!(stub.asked().len(), 1);
}

#[tokio::test]
async fn cancelling_several_goes_on_after_one_that_cannot_be() {
    let stub = Stub::start(|request| {
        if request.path.contains(&command_id(1)) {
            Reply::problem(409, "already_finished", "it has completed")
        } else {
            Reply::ok(&command(2, "cancelled"))
        }
    })
    .await;
    let program = Program::with_token(&stub.url);
    let (one, two) = (command_id(1), command_id(2));
    let args = ["commands", "cancel", &one, &two, "--output", "json"];
    let ended = program.run(&args).await.expect(1);
    assert_eq!(ended.json(), [command(2, "cancelled")]);
    assert!(ended.stderr.contains(&format!("{one}: it has completed")), "{}", ended.stderr);
}

#[tokio::test]
async fn output_goes_to_a_file_or_as_it_is_into_a_pipe() {
    let stub = Stub::start(|_| Reply {
        status: 200,
        headers: vec![("content-disposition", "attachment; filename=\"syslog\"".to_owned())],
        body: b"line\x1b[31m\nline 2\n".to_vec(),
        is_cut: false,
    })
    .await;
    let program = Program::with_token(&stub.url);
    let id = command_id(1);
    let piped = program.run(&["commands", "output", &id]).await.expect(0);
    assert_eq!(piped.stdout, "line\x1b[31m\nline 2\n");
    let file = program.home.path().join("log");
    let name = file.display().to_string();
    program.run(&["commands", "output", &id, "-o", &name]).await.expect(0);
    assert_eq!(std::fs::read(&file).expect("written"), b"line\x1b[31m\nline 2\n");
    // What is there already stays, unless it is to be replaced.
    std::fs::write(&file, "precious").expect("written");
    for args in [["commands", "output"], ["recordings", "export"]] {
        let args = [args[0], args[1], &id, "-o", &name];
        let ended = program.run(&args).await.expect(1);
        assert!(ended.stderr.contains("is there already; --force"), "{}", ended.stderr);
        assert_eq!(std::fs::read(&file).expect("there"), b"precious");
        program.run(&[&args[..], &["--force"]].concat()).await.expect(0);
        assert_ne!(std::fs::read(&file).expect("there"), b"precious");
        std::fs::write(&file, "precious").expect("written");
    }
}

#[tokio::test]
async fn an_ssh_block_for_no_device_is_refused() {
    let stub = Stub::start(|request| match request.route().as_str() {
        "GET /projects/default/devices/pi-1" => Reply::ok(&device("pi-1", "online")),
        _ => Reply::problem(404, "not_found", "no such device"),
    })
    .await;
    let program = Program::with_token(&stub.url);
    let ended = program.run(&["ssh-config", "pi-1"]).await.expect(0);
    assert!(ended.stdout.starts_with("Host pi-1\n"), "{}", ended.stdout);
    let ended = program.run(&["ssh-config", "pi-1", "nosuch"]).await.expect(1);
    assert!(ended.stderr.contains("no such device: nosuch"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn nobody_who_reads_is_no_failure() {
    let stub = Stub::start(many_devices).await;
    let program = Program::with_token(&stub.url);
    let mut child = program.command(&["devices"]).stdout(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().await.expect("ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[tokio::test]
async fn wrong_usage_is_exit_2() {
    let program = Program::with_token("http://127.0.0.1:1");
    for args in [
        &["devices", "--status", "asleep"][..],
        &["devices", "show", "a/b"],
        &["devices", "--status", "online", "show", "pi-1"],
        &["commands", "show", "not-an-id"],
        &["commands", "cancel"],
        &["commands", "--from", "yesterday"],
        &["run", "ping"],
        &["run", "ping", "a b"],
        &["run", "ping", "pi-1", "--payload", "[1]"],
        &["run", "ping", "pi-1", "--priority", "11"],
        &["run", "ping", "pi-1", "--wait-timeout", "5"],
        &["members", "set", "ops", "king"],
        &["--server", "ftp://x", "devices"],
        &["--project", "a/b", "devices"],
        &["--config", "/nowhere/at/all.toml", "devices"],
        &["--token", "abc", "devices"],
        &["fly"],
        &[],
    ] {
        let ended = program.run(args).await;
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.stderr);
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }
}
