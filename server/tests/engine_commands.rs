//! The life of commands, through the engine and a store.

mod support;

use quarterdeck_protocol::{command::CommandStatus as S, ids::CommandId, topics::DeviceTopic};
use quarterdeck_server::{
    engine::Refused,
    store::{Location, Tx, commands, intake},
};
use serde_json::{Value, json};
use support::{Harness, eventually, request};

on_both_engines! {
    a_command_goes_from_submission_to_completion,
    an_offline_device_gets_its_commands_when_it_returns_unless_they_expired,
    the_more_urgent_leaves_first_and_the_window_is_bounded,
    what_is_sent_twice_counts_once,
    one_end_for_ever_and_what_comes_later_is_evidence,
    a_cancel_takes_at_once_what_no_device_has_and_asks_for_the_rest,
    a_batch_is_cancelled_as_a_whole,
    time_ends_what_the_device_does_not,
    the_fourth_reboot_is_blocked_and_a_later_one_may_go,
    a_reboot_is_complete_when_the_device_is_back_with_a_new_boot_id,
    a_reboot_that_does_not_come_back_is_timed_out,
    a_reboot_of_a_host_that_does_not_go_down_is_timed_out,
    a_shutdown_is_complete_when_the_device_stays_away,
    a_retry_is_a_new_command,
    live_output_is_kept_once_and_cut_at_its_bound,
    words_that_are_malformed_or_of_others_change_nothing,
    what_was_acknowledged_before_a_crash_is_decided_after_it,
    a_word_that_cannot_be_decided_takes_no_other_with_it,
    a_submission_with_one_wrong_input_names_it_and_stores_nothing,
    a_step_of_the_wall_clock_expires_and_revives_nothing,
}

async fn a_command_goes_from_submission_to_completion(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.connect("pi-1", "b1").await;
    let command = h.submit(&["pi-1"], "run_script", json!({"script": "uptime"})).await.remove(0);
    assert_eq!(command.status, S::Queued);

    let sent =
        eventually("the command is sent", || async { h.link.commands_to("pi-1").pop() }).await;
    assert_eq!(sent["command_id"], json!(command.id));
    assert_eq!(sent["payload"], json!({"script": "uptime"}));
    assert_eq!(
        (&sent["schema_version"], &sent["timeout_s"], &sent["issued_by"]),
        (&json!("1.0"), &json!(300), &json!("ops-1"))
    );
    assert_eq!(sent["sent_at"], json!(h.clock.wall()));
    eventually("it is published", || async {
        (h.command(command.id).await.status == S::Published).then_some(())
    })
    .await;

    for (status, more) in [
        ("accepted", json!({})),
        ("execution_started", json!({"state": "executing"})),
        ("progress", json!({"progress": 40, "step": "half"})),
        (
            "completed",
            json!({"result": {"load": [1, 2]}, "exit_code": 0, "stdout": "up\u{0} 3 days", "stderr": ""}),
        ),
    ] {
        assert!(h.respond("pi-1", command.id, status, more).await, "{status} is acknowledged");
    }
    let done = h.command(command.id).await;
    assert_eq!(done.status, S::Completed);
    assert_eq!(done.result, Some(json!({"load": [1, 2]})));
    assert_eq!(
        (done.exit_code, done.progress, done.step.as_deref()),
        (Some(0), Some(100), Some("half"))
    );
    assert_eq!(done.stdout.as_deref(), Some("up\u{fffd} 3 days"));
    assert!(
        done.published_at.is_some()
            && done.accepted_at.is_some()
            && done.started_at.is_some()
            && done.finished_at.is_some()
    );
    assert_eq!(
        h.events(command.id).await,
        ["created", "published", "accepted", "execution_started", "progress", "completed"]
    );
    assert_eq!(h.device("pi-1").await.open_commands, 0);
    let mut tx = h.store.read().await.expect("a reader");
    let counts = commands::listing::counts(&mut tx, &h.project).await.expect("counts");
    assert_eq!(
        counts.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
        [(S::Completed, 1)]
    );
}

async fn an_offline_device_gets_its_commands_when_it_returns_unless_they_expired(
    location: Location,
) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let short = {
        let mut request = request(&["pi-1"], "ping", json!({}));
        request.expires_in_s = Some(10);
        let created = h.engine.submit(&h.actor, &h.project, request).await.expect("valid");
        assert_eq!(created.offline, 1);
        assert!(created.warnings[0].contains("pi-1"), "{:?}", created.warnings);
        created.commands[0].id
    };
    let long = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    h.pass(10_000).await;
    assert_eq!(h.command(short).await.status, S::Expired);
    h.connect("pi-1", "b1").await;
    eventually("the other one is sent", || async {
        (!h.link.commands_to("pi-1").is_empty()).then_some(())
    })
    .await;
    let sent = h.link.commands_to("pi-1");
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["command_id"], json!(long));
}

async fn the_more_urgent_leaves_first_and_the_window_is_bounded(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let mut ids = Vec::new();
    for priority in [9, 5, 1].into_iter().cycle().take(30) {
        let mut request = request(&["pi-1"], "ping", json!({}));
        request.priority = Some(priority);
        let created = h.engine.submit(&h.actor, &h.project, request).await.expect("valid");
        ids.push((priority, created.commands[0].id));
    }
    let connection = h.connect("pi-1", "b1").await;
    eventually("a window is sent", || async {
        (h.link.commands_to("pi-1").len() >= 16).then_some(())
    })
    .await;
    let order = |sent: &[Value]| {
        sent.iter().map(|m| m["priority"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    let sent = h.link.commands_to("pi-1");
    assert_eq!(order(&sent), [[1; 10].as_slice(), &[5; 6]].concat());

    // Its connection breaks: what it has not accepted comes again, the rest once there is room.
    h.disconnect("pi-1", connection).await;
    eventually("it is offline", || async {
        (h.device("pi-1").await.status == quarterdeck_protocol::device::DeviceStatus::Offline)
            .then_some(())
    })
    .await;
    h.connect("pi-1", "b1").await;
    eventually("the window is sent again", || async {
        (h.link.commands_to("pi-1").len() >= 32).then_some(())
    })
    .await;
    assert_eq!(order(&h.link.commands_to("pi-1")[16..32]), [[1; 10].as_slice(), &[5; 6]].concat());
    for (_, id) in ids.iter().filter(|(priority, _)| *priority < 9) {
        h.respond("pi-1", *id, "accepted", json!({})).await;
    }
    eventually("all are sent", || async { (h.link.commands_to("pi-1").len() >= 46).then_some(()) })
        .await;
    assert_eq!(order(&h.link.commands_to("pi-1")[36..]), [9; 10]);
}

async fn what_is_sent_twice_counts_once(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let id = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    for _ in 0..2 {
        for status in ["accepted", "execution_started", "completed"] {
            assert!(h.respond("pi-1", id, status, json!({})).await);
        }
    }
    assert_eq!(h.events(id).await, ["created", "accepted", "execution_started", "completed"]);
}

async fn one_end_for_ever_and_what_comes_later_is_evidence(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let id = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    h.respond("pi-1", id, "execution_started", json!({})).await;
    h.pass(300_000 + 29_999).await;
    assert_eq!(h.command(id).await.status, S::ExecutionStarted);
    h.pass(1).await;
    let ended = h.command(id).await;
    assert_eq!((ended.status, ended.error_code.as_deref()), (S::TimedOut, Some("timeout")));
    h.respond("pi-1", id, "completed", json!({"exit_code": 0, "stdout": "late"})).await;
    let chunk = json!({"stdout": "more", "stdout_offset": 0, "stderr": "x", "stderr_offset": 0});
    h.respond("pi-1", id, "progress", chunk).await;
    assert_eq!(h.command(id).await, ended, "nothing changes");
    let events = ["created", "execution_started", "timed_out", "late", "late"];
    assert_eq!(h.events(id).await, events, "both are kept as evidence");
    let refused = h.engine.cancel(&h.actor, &h.project, id).await.expect_err("it has ended");
    assert_eq!(refused.code(), "already_finished");
}

async fn a_cancel_takes_at_once_what_no_device_has_and_asks_for_the_rest(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["off", "pi-1"]).await;
    let queued = h.submit(&["off"], "ping", Value::Null).await[0].id;
    let cancelled = h.engine.cancel(&h.actor, &h.project, queued).await.expect("cancelled");
    assert_eq!(cancelled.status, S::Cancelled);

    h.connect("pi-1", "b1").await;
    let runs = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    h.respond("pi-1", runs, "execution_started", json!({})).await;
    let asked = h.engine.cancel(&h.actor, &h.project, runs).await.expect("requested");
    assert_eq!((asked.status, asked.cancel_requested_at.is_some()), (S::ExecutionStarted, true));
    assert_eq!(h.link.cancels_to("pi-1"), [json!({"command_id": runs})]);
    h.respond("pi-1", runs, "failed", json!({"error_code": "cancelled"})).await;
    assert_eq!(h.command(runs).await.status, S::Cancelled);

    let silent = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    h.respond("pi-1", silent, "execution_started", json!({})).await;
    h.engine.cancel(&h.actor, &h.project, silent).await.expect("requested");
    h.pass(20_000).await;
    h.respond("pi-1", silent, "progress", json!({"progress": 1})).await;
    h.pass(29_000).await;
    assert_eq!(h.command(silent).await.status, S::ExecutionStarted, "it spoke 29 s ago");
    // Who reconnects hears it again.
    let before = h.link.cancels_to("pi-1").len();
    h.connect("pi-1", "b1").await;
    eventually("the cancel is sent again", || async {
        (h.link.cancels_to("pi-1").len() > before).then_some(())
    })
    .await;
    h.pass(1_000).await;
    assert_eq!(h.command(silent).await.status, S::Cancelled);
}

async fn a_batch_is_cancelled_as_a_whole(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["a", "b", "c"]).await;
    let commands = h.submit(&["a", "b", "c", "a"], "ping", Value::Null).await;
    assert_eq!(commands.len(), 3, "a device that is named twice gets one");
    h.respond("a", commands[0].id, "completed", json!({})).await;
    h.respond("b", commands[1].id, "accepted", json!({})).await;
    let request = quarterdeck_protocol::api::CancelCommands {
        ids: Vec::new(),
        batch_id: Some(commands[0].batch_id.to_string()),
    };
    let answer = h.engine.cancel_many(&h.actor, &h.project, request).await.expect("cancelled");
    assert_eq!((answer.cancelled, answer.requested, answer.already_finished), (1, 1, 1));
}

async fn time_ends_what_the_device_does_not(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let commands: Vec<CommandId> = {
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(h.submit(&["pi-1"], "ping", Value::Null).await[0].id);
        }
        ids
    };
    h.respond("pi-1", commands[1], "accepted", json!({})).await;
    h.respond("pi-1", commands[2], "failed", json!({"error_code": "expired"})).await;
    assert_eq!(h.command(commands[2]).await.status, S::Expired);
    h.pass(3_600_000).await;
    assert_eq!(h.command(commands[0]).await.status, S::Expired);
    assert_eq!(h.command(commands[1]).await.status, S::Accepted);
    h.pass(30_000).await;
    assert_eq!(h.command(commands[1]).await.status, S::TimedOut);
}

async fn the_fourth_reboot_is_blocked_and_a_later_one_may_go(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2"]).await;
    let connection = h.connect("pi-1", "b0").await;
    for _ in 0..3 {
        let id = h.submit(&["pi-1"], "reboot_host", Value::Null).await[0].id;
        eventually("it is published", || async {
            (h.command(id).await.status == S::Published).then_some(())
        })
        .await;
        h.pass(60_000).await;
    }
    h.disconnect("pi-1", connection).await;
    eventually("it is offline", || async {
        (h.device("pi-1").await.status == quarterdeck_protocol::device::DeviceStatus::Offline)
            .then_some(())
    })
    .await;
    let reboot = request(&["pi-1", "pi-2"], "reboot_host", Value::Null);
    let created = h.engine.submit(&h.actor, &h.project, reboot).await.expect("stored");
    // A device waits for nothing that it will not get.
    assert_eq!(created.offline, 2);
    assert_eq!(
        created.warnings,
        [
            "offline, so it waits until they return or it expires: pi-2",
            "refused by the safety lockout: pi-1"
        ]
    );
    let both = created.commands;
    assert_eq!((both[0].status, both[1].status), (S::BlockedSafety, S::Queued));
    assert_eq!(both[0].error_code.as_deref(), Some("safety_lockout"));
    assert_eq!(both[0].blocked_until, Some(h.clock.wall().plus_seconds(900 - 180)));
    assert_eq!(h.command(both[0].id).await.status, S::BlockedSafety);
    assert_eq!(h.events(both[0].id).await, ["created", "blocked_safety"]);
    assert!(
        h.open_alerts()
            .await
            .iter()
            .any(|alert| alert.kind == "safety_lockout" && alert.command_id == Some(both[0].id))
    );
    // App restarts have a counter of their own.
    assert_eq!(h.submit(&["pi-1"], "restart_app", Value::Null).await[0].status, S::Queued);
    h.pass(720_000).await;
    assert_eq!(h.submit(&["pi-1"], "reboot_host", Value::Null).await[0].status, S::Queued);
}

async fn a_reboot_is_complete_when_the_device_is_back_with_a_new_boot_id(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let connection = h.connect("pi-1", "b1").await;
    let id = h.submit(&["pi-1"], "reboot_host", Value::Null).await[0].id;
    h.respond("pi-1", id, "accepted", json!({})).await;
    h.respond("pi-1", id, "execution_started", json!({})).await;
    h.disconnect("pi-1", connection).await;
    eventually("it waits", || async {
        (h.command(id).await.status == S::AwaitingReconnect).then_some(())
    })
    .await;
    h.pass(30_000).await;
    let again = h.connect("pi-1", "b1").await;
    assert_eq!(h.command(id).await.status, S::AwaitingReconnect, "the same boot");
    h.disconnect("pi-1", again).await;
    h.pass(60_000).await;
    h.connect("pi-1", "b2").await;
    assert_eq!(h.command(id).await.status, S::Completed);
    assert!(h.respond("pi-1", id, "completed", json!({})).await);
    assert_eq!(
        h.events(id).await.into_iter().filter(|event| event != "published").collect::<Vec<_>>(),
        ["created", "accepted", "execution_started", "awaiting_reconnect", "completed"]
    );
}

async fn a_reboot_of_a_host_that_does_not_go_down_is_timed_out(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.connect("pi-1", "b1").await;
    let id = h.submit(&["pi-1"], "reboot_host", Value::Null).await[0].id;
    h.respond("pi-1", id, "execution_started", json!({})).await;
    h.pass(149_000).await;
    assert_eq!(h.command(id).await.status, S::ExecutionStarted);
    h.pass(2_000).await;
    eventually("its ceiling is over", || async {
        (h.command(id).await.status == S::TimedOut).then_some(())
    })
    .await;
}

async fn a_shutdown_is_complete_when_the_device_stays_away(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let connection = h.connect("pi-1", "b1").await;
    let id = h.submit(&["pi-1"], "shutdown_host", Value::Null).await[0].id;
    h.respond("pi-1", id, "execution_started", json!({})).await;
    let started_at = h.command(id).await.started_at;
    let is = |status| {
        let h = &h;
        eventually("its status", move || async move {
            (h.command(id).await.status == status).then_some(())
        })
    };
    h.disconnect("pi-1", connection).await;
    is(S::AwaitingReconnect).await;
    // Its connection alone was lost.
    let again = h.connect("pi-1", "b1").await;
    is(S::ExecutionStarted).await;
    assert_eq!(h.command(id).await.started_at, started_at);
    h.disconnect("pi-1", again).await;
    is(S::AwaitingReconnect).await;
    h.pass(31_000).await;
    is(S::Completed).await;
}

async fn a_reboot_that_does_not_come_back_is_timed_out(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.settings(|settings| settings.reboot_ceiling_s = 100).await;
    h.connect("pi-1", "b1").await;
    let id = h.submit(&["pi-1"], "reboot_host", Value::Null).await[0].id;
    h.respond("pi-1", id, "execution_started", json!({})).await;
    h.respond("pi-1", id, "progress", json!({"state": "awaiting_reconnect"})).await;
    assert_eq!(h.command(id).await.status, S::AwaitingReconnect);
    h.pass(99_999).await;
    assert_eq!(h.command(id).await.status, S::AwaitingReconnect);
    h.pass(1).await;
    assert_eq!(h.command(id).await.status, S::TimedOut);
}

async fn a_retry_is_a_new_command(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let first = h.submit(&["pi-1"], "run_script", json!({"script": "false"})).await.remove(0);
    let refused =
        h.engine.retry(&h.actor, &h.project, first.id, true).await.expect_err("it has not ended");
    assert_eq!(refused.code(), "not_finished");
    h.respond(
        "pi-1",
        first.id,
        "failed",
        json!({"error_code": "script_failed", "error_message": "no", "exit_code": 1}),
    )
    .await;
    let second = h.engine.retry(&h.actor, &h.project, first.id, false).await.expect("a retry");
    assert_eq!(
        (second.attempt, second.retry_of, &second.payload),
        (2, Some(first.id), &first.payload)
    );
    assert_ne!(second.batch_id, first.batch_id);
    assert_eq!(h.command(first.id).await.status, S::Failed);
}

async fn live_output_is_kept_once_and_cut_at_its_bound(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let id = h.submit(&["pi-1"], "run_script", json!({"script": "x"})).await[0].id;
    for (offset, text) in [(0, "hello "), (6, "world"), (0, "hello "), (6, "world")] {
        h.respond("pi-1", id, "progress", json!({"stdout": text, "stdout_offset": offset})).await;
    }
    assert_eq!(h.command(id).await.stdout.as_deref(), Some("hello world"));
    let bound = quarterdeck_protocol::limits::OUTPUT_KEPT_MAX_BYTES;
    let block = "x".repeat(8 * 1024);
    for index in 0..40 {
        h.respond(
            "pi-1",
            id,
            "progress",
            json!({"stderr": block, "stderr_offset": index * block.len()}),
        )
        .await;
    }
    h.respond("pi-1", id, "completed", json!({"stdout": "hello world", "stderr": "xxx [cut]"}))
        .await;
    let stderr = h.command(id).await.stderr.expect("kept");
    assert!(
        stderr.starts_with(&"x".repeat(bound)) && stderr.len() < bound + 100,
        "{}",
        stderr.len()
    );
    assert!(stderr.ends_with("cut …]\n"));
    let mut tx = h.store.read().await.expect("a reader");
    let (rows, total) = commands::output::window(&mut tx, &h.project, id, 0, 10)
        .await
        .expect("a read")
        .expect("known");
    assert_eq!((rows.len(), total), (10, 2 + 32));
}

async fn words_that_are_malformed_or_of_others_change_nothing(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2"]).await;
    let id = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    assert!(
        h.respond("pi-2", id, "completed", json!({})).await,
        "acknowledged, or it would come for ever"
    );
    assert!(h.respond("pi-1", CommandId(uuid::Uuid::nil()), "completed", json!({})).await);
    assert!(h.say_raw("pi-1", DeviceTopic::CommandsResponse, "{".into(), None).await);
    assert!(h.say_raw("pi-1", DeviceTopic::Health, "\u{0}".into(), None).await);
    let other_version = json!({"schema_version": "9.0", "command_id": id, "status": "completed"});
    assert!(h.say("pi-1", DeviceTopic::CommandsResponse, &other_version, None).await);
    assert!(
        h.say_raw(
            "ghost",
            DeviceTopic::Status,
            r#"{"schema_version":"1.0","online":true}"#.into(),
            None
        )
        .await
    );
    assert_eq!(h.command(id).await.status, S::Queued);
    assert_eq!(h.events(id).await, ["created"]);
}

async fn a_submission_with_one_wrong_input_names_it_and_stores_nothing(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "gone"]).await;
    h.connect("pi-1", "b1").await;
    h.engine.retire(&h.actor, &h.project, &support::device("gone")).await.expect("retired");
    let ok = || request(&["pi-1"], "ping", json!({}));
    let with = |change: &dyn Fn(&mut quarterdeck_protocol::api::CreateCommands)| {
        let mut request = ok();
        change(&mut request);
        request
    };
    let cases = [
        (with(&|r| r.targets.devices.clear()), "targets.devices"),
        (
            with(&|r| r.targets.devices = vec!["pi-1".into(), "pi-1".into(), "nobody".into()]),
            "targets.devices[2]",
        ),
        (with(&|r| r.targets.devices.push("a b".into())), "targets.devices[1]"),
        (with(&|r| r.targets.devices.push("gone".into())), "targets.devices[1]"),
        (with(&|r| r.targets.groups = vec!["g".into()]), "targets.groups[0]"),
        (with(&|r| r.kind = "no_such".into()), "type"),
        (with(&|r| r.kind = String::new()), "type"),
        (with(&|r| r.payload = json!({"x": 1})), "payload.x"),
        (with(&|r| r.priority = Some(0)), "priority"),
        (with(&|r| r.priority = Some(11)), "priority"),
        (with(&|r| r.timeout_s = Some(0)), "timeout_s"),
        (with(&|r| r.expires_in_s = Some(u32::MAX)), "expires_in_s"),
        (with(&|r| r.notes = "x".repeat(2_001)), "notes"),
        (with(&|r| (r.kind, r.confirm) = ("reboot_host".into(), false)), "confirm"),
    ];
    for (request, field) in cases {
        let refused =
            h.engine.submit(&h.actor, &h.project, request.clone()).await.expect_err(field);
        assert_eq!(refused.field(), Some(field), "{request:?}: {refused}");
    }
    let own = request(&["pi-1"], "my_workflow", json!({"free": ["form"]}));
    h.engine.submit(&h.actor, &h.project, own).await.expect("announced by the device");
    h.settings(|settings| settings.confirm_over_devices = 0).await;
    let unconfirmed = with(&|r| r.confirm = false);
    let refused =
        h.engine.submit(&h.actor, &h.project, unconfirmed).await.expect_err("more than none");
    assert_eq!(refused.code(), "confirmation_required");
    let elsewhere = quarterdeck_protocol::ids::ProjectId::new("other").expect("valid");
    let refused = h.engine.submit(&h.actor, &elsewhere, ok()).await.expect_err("no such project");
    assert!(matches!(refused, Refused::NotFound { .. }));
    let mut tx = h.store.read().await.expect("a reader");
    let all = commands::listing::total(&mut tx, &h.project, &commands::listing::Filter::default())
        .await
        .expect("a count");
    assert_eq!(all, 1, "only the valid one");
}

async fn a_step_of_the_wall_clock_expires_and_revives_nothing(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let id = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    for step_ms in [7_200_000, -30 * 24 * 3_600_000] {
        h.clock.step_wall(step_ms);
        h.pass(1_000).await;
        assert_eq!(h.command(id).await.status, S::Queued);
    }
    h.pass(3_600_000).await;
    assert_eq!(h.command(id).await.status, S::Expired);
}

async fn what_was_acknowledged_before_a_crash_is_decided_after_it(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.connect("pi-1", "b1").await;
    let id = h.submit(&["pi-1"], "run_script", json!({"script": "uptime"})).await.remove(0).id;
    let word = |status: &str, more: Value| {
        let mut payload = json!({"schema_version": "1.0", "command_id": id, "status": status});
        payload
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        json!({
            "topic": "roboticks/default/devices/pi-1/commands/response",
            "at_ms": h.clock.wall().as_millis(),
            "steady_ms": h.clock.steady(),
            "payload": payload,
        })
    };
    // As a server leaves it that dies between the two commits; of a row it cannot read it says so.
    let rows = [
        json!([word("accepted", json!({})), word("execution_started", json!({}))]).to_string(),
        "[{\"topic\":\"garbage\"".to_owned(),
        json!([word("completed", json!({"exit_code": 3}))]).to_string(),
    ];
    let clock = h.clock.clone();
    support::keep(&h.store, &rows).await;
    h.stop().await;

    let h = Harness::start_with(&location, clock).await;
    assert!(h.engine.settled(10_000).await, "it is decided before anything else");
    let done = h.command(id).await;
    assert_eq!((done.status, done.exit_code), (S::Completed, Some(3)));
    let mut tx = h.store.read().await.expect("a reader");
    let decided = intake::decided(&mut tx).await.expect("a read");
    drop(tx);
    assert_eq!(support::kept_after(&h.store, decided).await, [], "and nothing is left");
    // What is said from now on is numbered above it.
    h.connect("pi-1", "b1").await;
    assert!(h.respond("pi-1", id, "completed", json!({"exit_code": 4})).await);
    assert_eq!(h.command(id).await.exit_code, Some(3), "one end for ever");
}

async fn a_word_that_cannot_be_decided_takes_no_other_with_it(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.connect("pi-1", "b1").await;
    let bad = h.submit(&["pi-1"], "ping", Value::Null).await.remove(0).id;
    let good = h.submit(&["pi-1"], "ping", Value::Null).await.remove(0).id;
    let word = |id: CommandId| {
        json!({
            "topic": "roboticks/default/devices/pi-1/commands/response",
            "at_ms": h.clock.wall().as_millis(),
            "steady_ms": h.clock.steady(),
            "payload": {"schema_version": "1.0", "command_id": id, "status": "accepted"},
        })
    };
    // Beside one another in a batch, and in batches that are decided together.
    let rows = [json!([word(bad), word(good)]).to_string(), json!([word(bad)]).to_string()];
    let clock = h.clock.clone();
    support::keep(&h.store, &rows).await;
    support::write(&h.store, move |tx| {
        Box::pin(async move {
            let spoil = "UPDATE commands SET status = 'spoiled' WHERE id = $1";
            match tx {
                Tx::Sqlite(tx) => {
                    sqlx::query(spoil).bind(bad.to_string()).execute(&mut **tx).await?;
                }
                Tx::Postgres(tx) => {
                    sqlx::query(spoil).bind(bad.to_string()).execute(&mut **tx).await?;
                }
            }
            Ok(())
        })
    })
    .await;
    h.stop().await;

    let h = Harness::start_with(&location, clock).await;
    assert!(
        h.engine.settled(10_000).await,
        "the start waits for no word that never can be decided"
    );
    assert_eq!(h.command(good).await.status, S::Accepted);
    // While it runs, too.
    assert!(h.respond("pi-1", bad, "execution_started", json!({})).await);
    assert!(h.respond("pi-1", good, "execution_started", json!({})).await);
    assert_eq!(h.command(good).await.status, S::ExecutionStarted);
}
