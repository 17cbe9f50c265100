//! The listings of chapter 2: whatever the filter and the sort, pages and windows show the same rows.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use quarterdeck_protocol::{
    api::{Command, Device, Severity},
    command::CommandStatus as S,
    ids::CommandId,
    search,
    time::Timestamp,
};
use quarterdeck_server::store::{
    Location, Tx, alerts, commands::listing as commands, devices, listed::Listed as _, overview,
    query::ListError,
};
use serde_json::{Value, json};
use support::{Harness, request};

on_both_engines! {
    pages_and_windows_of_commands_show_the_same_rows,
    filters_of_commands_let_through_what_they_say,
    searches_find_what_their_terms_say,
    filters_of_alerts_let_through_what_they_say,
    pages_and_windows_of_devices_show_the_same_rows,
    filters_of_devices_let_through_what_they_say,
    what_is_not_understood_is_named,
    a_cursor_survives_rows_that_come_and_go,
    the_overview_counts,
    the_overview_says_which_devices_have_few_reboots_left,
    a_window_is_lean_unless_it_is_of_one_command,
}

/// 60 commands of 4 devices in all sorts of states, 2 s apart.
async fn populated(location: &Location) -> (Harness, Vec<CommandId>) {
    let h = Harness::start(location).await;
    h.add_devices(
        &["pi-1", "pi-2", "gw_1", "gw%2"].map(|name| if name == "gw%2" { "gw-2" } else { name }),
    )
    .await;
    let mut ids = Vec::new();
    for n in 0..60_usize {
        let device = ["pi-1", "pi-2", "gw_1", "gw-2"][n % 4];
        let kind = ["ping", "system_info", "disk_usage"][n % 3];
        let mut request = request(&[device], kind, json!({}));
        request.priority = Some(1 + (n % 10) as u8);
        request.notes = if n % 7 == 0 { format!("Note 100% {n}") } else { String::new() };
        let actor = quarterdeck_server::engine::Actor {
            name: ["ann", "bob"][n % 2].into(),
            from: String::new(),
        };
        let id = h.engine.submit(&actor, &h.project, request).await.expect("valid").commands[0].id;
        match n % 6 {
            0 => assert!(h.respond(device, id, "completed", json!({"exit_code": n % 5})).await),
            1 => assert!(
                h.respond(device, id, "failed", json!({"error_code": "script_failed"})).await
            ),
            2 => assert!(h.respond(device, id, "progress", json!({"progress": n})).await),
            3 => drop(h.engine.cancel(&actor, &h.project, id).await.expect("cancelled")),
            4 => assert!(h.respond(device, id, "accepted", json!({})).await),
            _ => {}
        }
        ids.push(id);
        h.clock.advance(2_000);
    }
    (h, ids)
}

fn filter(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// All rows by pages of 7, checked to be those of windows of 11, and of the total.
async fn all_commands(
    tx: &mut Tx,
    h: &Harness,
    pairs: &[(&str, &str)],
    sort: Option<&str>,
) -> Vec<Command> {
    let filter = commands::Filter::parse(&filter(pairs)).expect("a valid filter");
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = filter.page(tx, &h.project, sort, cursor.as_deref(), 7).await.expect("a page");
        assert!(page.items.len() <= 7);
        all.extend(page.items);
        if page.next_cursor.is_none() {
            assert_eq!(all.len() as u64, page.total, "{pairs:?} {sort:?}");
            break;
        }
        cursor = page.next_cursor;
    }
    let mut keys = Vec::new();
    loop {
        let (rows, total) =
            filter.window(tx, &h.project, sort, keys.len() as u64, 11).await.expect("a window");
        assert_eq!(total, all.len() as u64, "{pairs:?} {sort:?}");
        if rows.is_empty() {
            break;
        }
        keys.extend(rows.into_iter().map(|row| row.id));
    }
    let ids: Vec<_> = all.iter().map(|command| command.id).collect();
    assert_eq!(keys, ids, "{pairs:?} {sort:?}");
    all
}

async fn pages_and_windows_of_commands_show_the_same_rows(location: Location) {
    let (h, ids) = populated(&location).await;
    let mut tx = h.store.read().await.expect("a reader");
    let filters: [&[(&str, &str)]; 7] = [
        &[],
        &[("status", "failed")],
        &[("status", "failed,completed,queued")],
        &[("device", "pi-1,gw-2"), ("status", "failed,queued")],
        &[("type", "ping"), ("user", "ann")],
        &[("q", "PI-")],
        &[("q", "100%")],
    ];
    let sorts = [
        "created_at",
        "id",
        "device_id",
        "type",
        "status",
        "created_by",
        "priority",
        "progress",
        "finished_at",
        "started_at",
        "exit_code",
        "error_code",
        "duration",
        "expires_at",
        "attempt",
        "state",
        "detail",
    ];
    for pairs in filters {
        for sort in sorts {
            let up = all_commands(&mut tx, &h, pairs, Some(sort)).await;
            let mut down = all_commands(&mut tx, &h, pairs, Some(&format!("-{sort}"))).await;
            down.reverse();
            assert_eq!(up, down, "{pairs:?} {sort}");
        }
    }
    let newest_first = all_commands(&mut tx, &h, &[], None).await;
    assert!(newest_first.iter().map(|command| command.id).eq(ids.into_iter().rev()));
    let by_priority = all_commands(&mut tx, &h, &[], Some("priority")).await;
    assert!(by_priority.is_sorted_by_key(|command| (command.priority, command.id)));
    let by_detail = all_commands(&mut tx, &h, &[], Some("detail")).await;
    let detail = |command: &Command| match &command.error_code {
        Some(code) => code.clone(),
        None => command.notes.clone(),
    };
    let mut details: Vec<_> = by_detail.iter().map(detail).collect();
    let is_failed = |command: &&Command| command.error_code.as_deref() == Some("script_failed");
    assert_eq!(by_detail.iter().filter(is_failed).count(), 10);
    // Where lower case belongs is the engine's own matter; alike stands together.
    details.dedup();
    let distinct: BTreeSet<_> = details.iter().collect();
    assert_eq!(distinct.len(), details.len(), "{details:?}");
}

async fn filters_of_commands_let_through_what_they_say(location: Location) {
    let (h, ids) = populated(&location).await;
    let mut tx = h.store.read().await.expect("a reader");
    let all = all_commands(&mut tx, &h, &[], None).await;
    let third = all.iter().find(|command| command.id == ids[3]).expect("made").clone();
    let (batch, from) = (third.batch_id.to_string(), third.created_at.to_string());
    let prefix = &ids[3].to_string()[..24];
    let (upper, not_batch) = (batch.to_uppercase(), format!("!{batch}"));
    type Model<'a> = Box<dyn Fn(&Command) -> bool + 'a>;
    let cases: Vec<(Vec<(&str, &str)>, Model<'_>)> = vec![
        (vec![("status", "completed")], Box::new(|c| c.status == S::Completed)),
        (
            vec![("status", "cancelled,accepted")],
            Box::new(|c| matches!(c.status, S::Cancelled | S::Accepted)),
        ),
        (vec![("status", "blocked_safety")], Box::new(|_| false)),
        (vec![("type", "ping")], Box::new(|c| c.kind == "ping")),
        (vec![("type", "ping,disk_usage")], Box::new(|c| c.kind != "system_info")),
        (vec![("device", "gw_1")], Box::new(|c| c.device_id.as_str() == "gw_1")),
        (
            vec![("user", "bob"), ("type", "ping")],
            Box::new(|c| c.created_by == "bob" && c.kind == "ping"),
        ),
        (
            vec![("user", "bob"), ("device", "pi-2")],
            Box::new(|c| c.created_by == "bob" && c.device_id.as_str() == "pi-2"),
        ),
        (vec![("batch_id", &batch)], Box::new(|c| c.batch_id == third.batch_id)),
        (vec![("from", &from)], Box::new(|c| c.created_at >= third.created_at)),
        (vec![("to", &from)], Box::new(|c| c.created_at <= third.created_at)),
        (vec![("from", &from), ("to", &from)], Box::new(|c| c.created_at == third.created_at)),
        (vec![("q", "gw_")], Box::new(|c| c.device_id.as_str() == "gw_1")),
        (vec![("q", "SYSTEM")], Box::new(|c| c.kind == "system_info")),
        (vec![("q", "100%")], Box::new(|c| c.notes.contains("100%"))),
        (vec![("q", prefix)], Box::new(|c| c.id.to_string().starts_with(prefix))),
        (vec![("q", "no such thing")], Box::new(|_| false)),
        (
            vec![("status", "!completed,!failed")],
            Box::new(|c| !matches!(c.status, S::Completed | S::Failed)),
        ),
        (vec![("status", "~cnl")], Box::new(|c| c.status == S::Cancelled)),
        (vec![("type", "!ping")], Box::new(|c| c.kind != "ping")),
        (vec![("type", "~dsk,ping")], Box::new(|c| c.kind != "system_info")),
        (
            vec![("device", "!gw_1,!pi-1")],
            Box::new(|c| matches!(c.device_id.as_str(), "gw-2" | "pi-2")),
        ),
        (vec![("device", "~g2")], Box::new(|c| c.device_id.as_str() == "gw-2")),
        (vec![("device", "~g,!~2")], Box::new(|c| c.device_id.as_str() == "gw_1")),
        (vec![("user", "!bob")], Box::new(|c| c.created_by == "ann")),
        (
            vec![("batch_id", &upper), ("user", "~a")],
            Box::new(|c| c.batch_id == third.batch_id && c.created_by == "ann"),
        ),
        (vec![("batch_id", &not_batch)], Box::new(|c| c.batch_id != third.batch_id)),
        (vec![("priority", "3,4")], Box::new(|c| matches!(c.priority, 3 | 4))),
        (
            vec![("error_code", "script_failed")],
            Box::new(|c| c.error_code.as_deref() == Some("script_failed")),
        ),
        (vec![("q", "\"100% 7\"")], Box::new(|c| c.notes.contains("100% 7"))),
        (vec![("status", ""), ("q", "")], Box::new(|_| true)),
    ];
    for (pairs, model) in cases {
        let found = all_commands(&mut tx, &h, &pairs, None).await;
        let expected: Vec<_> = all.iter().filter(|command| model(command)).cloned().collect();
        assert_eq!(found, expected, "{pairs:?}");
    }
}

/// Words of all sorts against what each term says of each row, in fields that are searched.
async fn searches_find_what_their_terms_say(location: Location) {
    let (h, _) = populated(&location).await;
    let mut tx = h.store.read().await.expect("a reader");
    let all = all_commands(&mut tx, &h, &[], None).await;
    let bare = ["pi", "GW_1", "_", "%", "p1", "sstm", "ANN", "note 100", "!", "100%", "zz", "ote"];
    let words: Vec<String> = bare
        .iter()
        .flat_map(|word| ["", "!", "~", "!~"].map(|mark| format!("{mark}\"{word}\"")))
        .collect();
    let pairs = words.iter().zip(words.iter().skip(5)).map(|(a, b)| format!("{a} {b}"));
    for text in words.iter().cloned().chain(pairs) {
        let terms = search::words(&text).expect("short");
        let holds = |command: &Command, term: &search::Term| {
            let names = [command.device_id.as_str(), &command.kind, &command.created_by];
            let is_in_notes = !term.fuzzy && term.is_in(&command.notes);
            (is_in_notes || names.iter().any(|name| term.is_in(name))) != term.inverse
        };
        let found = all_commands(&mut tx, &h, &[("q", &text)], None).await;
        let expected: Vec<_> =
            all.iter().filter(|c| terms.iter().all(|term| holds(c, term))).cloned().collect();
        assert_eq!(found, expected, "{text}");
    }
}

async fn all_devices(
    tx: &mut Tx,
    h: &Harness,
    pairs: &[(&str, &str)],
    sort: Option<&str>,
) -> Vec<Device> {
    let filter = devices::Filter::parse(&filter(pairs)).expect("a valid filter");
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = filter.page(tx, &h.project, sort, cursor.as_deref(), 2).await.expect("a page");
        all.extend(page.items);
        if page.next_cursor.is_none() {
            assert_eq!(all.len() as u64, page.total);
            break;
        }
        cursor = page.next_cursor;
    }
    let (rows, total) = filter.window(tx, &h.project, sort, 0, 500).await.expect("a window");
    assert_eq!(total, all.len() as u64);
    let keys: Vec<_> = rows.iter().map(devices::Filter::key).collect();
    assert_eq!(
        keys,
        all.iter().map(|device| device.id.to_string()).collect::<Vec<_>>(),
        "{pairs:?} {sort:?}"
    );
    all
}

async fn pages_and_windows_of_devices_show_the_same_rows(location: Location) {
    let (h, _) = populated(&location).await;
    h.connect("pi-1", "b1").await;
    let mut tx = h.store.read().await.expect("a reader");
    for sort in [
        "id",
        "status",
        "type",
        "site",
        "tags",
        "last_seen_at",
        "enrolled_at",
        "agent_version",
        "process_status",
        "service_failed",
        "active_deployment",
        "clock_offset_ms",
        "reconnect_count",
        "contract",
        "open_commands",
    ] {
        let up = all_devices(&mut tx, &h, &[], Some(sort)).await;
        let mut down = all_devices(&mut tx, &h, &[], Some(&format!("-{sort}"))).await;
        down.reverse();
        assert_eq!(up, down, "{sort}");
        assert_eq!(up.len(), 4);
    }
}

async fn filters_of_devices_let_through_what_they_say(location: Location) {
    let (h, _) = populated(&location).await;
    h.connect("pi-1", "b1").await;
    let tags = quarterdeck_protocol::api::ChangeDevice {
        tags: Some(filter(&[("site", "berlin"), ("env", "prod")])),
        kind: Some("camera".into()),
    };
    h.engine
        .change_device(&h.actor, &h.project, &support::device("pi-2"), tags)
        .await
        .expect("valid");
    let failed = json!({"schema_version": "1.0", "unit": "app"});
    h.say("gw_1", quarterdeck_protocol::topics::DeviceTopic::ServiceFailed, &failed, None).await;
    let report = json!({"schema_version": "1.0", "processes": [{"name": "a", "state": "crashed"}]});
    h.say("gw-2", quarterdeck_protocol::topics::DeviceTopic::Health, &report, None).await;
    let mut tx = h.store.read().await.expect("a reader");
    let by_site = all_devices(&mut tx, &h, &[], Some("-site")).await;
    assert_eq!(
        by_site.first().map(|device| device.id.as_str()),
        Some("pi-2"),
        "the one that has any"
    );
    for (pairs, expected) in [
        (vec![("status", "online")], vec!["gw-2", "pi-1"]),
        (vec![("status", "offline,retired")], vec!["gw_1", "pi-2"]),
        (vec![("type", "camera")], vec!["pi-2"]),
        (vec![("tag", "site=berlin")], vec!["pi-2"]),
        (vec![("tags", "site:berlin,env=prod")], vec!["pi-2"]),
        (vec![("tags", "site=berlin,env=test")], vec![]),
        (vec![("q", "BERLIN")], vec!["pi-2"]),
        (vec![("q", "linux")], vec!["pi-1"]),
        (vec![("q", "w_")], vec!["gw_1"]),
        (vec![("crashed", "true")], vec!["gw-2"]),
        (vec![("service_failed", "true")], vec!["gw_1"]),
        (vec![("service_failed", "false"), ("status", "offline")], vec!["pi-2"]),
        (vec![("status", "!online")], vec!["gw_1", "pi-2"]),
        (vec![("type", "!camera")], vec!["gw-2", "gw_1", "pi-1"]),
        (vec![("device", "~p,!pi-1")], vec!["pi-2"]),
        (vec![("tag", "!site=berlin")], vec!["gw-2", "gw_1", "pi-1"]),
        (vec![("tag", "site=~bln,env=!test")], vec!["pi-2"]),
        (vec![("process_status", "crashed")], vec!["gw-2"]),
        (vec![("q", "~bln")], vec!["pi-2"]),
        (vec![("q", "!~bln !gw-")], vec!["gw_1", "pi-1"]),
        (vec![("q", "berlin !camera")], vec![]),
    ] {
        let found = all_devices(&mut tx, &h, &pairs, None).await;
        let mut ids: Vec<_> = found.iter().map(|device| device.id.as_str()).collect();
        ids.sort_unstable();
        let mut expected = expected.clone();
        expected.sort_unstable();
        assert_eq!(ids, expected, "{pairs:?}");
    }
}

async fn filters_of_alerts_let_through_what_they_say(location: Location) {
    let (h, _) = populated(&location).await;
    let project = h.project.clone();
    support::write(&h.store, move |tx| {
        Box::pin(async move {
            for (id, kind, device) in [
                ("a", "device_offline", Some("pi-1")),
                ("b", "clock_skew", Some("pi-2")),
                ("c", "queue_depth", None),
            ] {
                let alert = alerts::Raise {
                    id: id.to_owned(),
                    project_id: project.to_string(),
                    key: id.to_owned(),
                    kind,
                    severity: Severity::Warning,
                    cause: format!("the cause of {id}"),
                    device_id: device.map(str::to_owned),
                    command_id: None,
                    at: 1,
                    count: 1,
                };
                alerts::raise(tx, &alert).await?;
            }
            alerts::acknowledge(tx, &project, "b", "ann", Timestamp::from_millis(2)).await?;
            alerts::resolve(tx, project.as_str(), &["c".to_owned()], 3).await?;
            Ok(())
        })
    })
    .await;
    let mut tx = h.store.read().await.expect("a reader");
    for (name, value, expected) in [
        ("status", "open", "ab"),
        ("status", "resolved,acknowledged", "bc"),
        ("status", "!acknowledged", "ac"),
        ("kind", "!clock_skew", "ac"),
        ("kind", "~dth,clock_skew", "bc"),
        ("severity", "!warning", ""),
        ("device", "!pi-1", "bc"),
        ("q", "cause", "abc"),
        ("q", "!pi-", "c"),
        ("q", "~p1", "a"),
    ] {
        let filter = alerts::Filter::parse(&filter(&[(name, value)])).expect("valid");
        let page = filter.page(&mut tx, &h.project, Some("id"), None, 100).await.expect("a page");
        let ids: String = page.items.iter().map(|alert| alert.id.as_str()).collect();
        assert_eq!((ids.as_str(), page.total), (expected, expected.len() as u64), "{name}={value}");
    }
}

async fn what_is_not_understood_is_named(location: Location) {
    let (h, _) = populated(&location).await;
    let mut tx = h.store.read().await.expect("a reader");
    let all = commands::Filter::default();
    for (sort, cursor, field) in [
        (Some("color"), None, "sort"),
        (Some("--id"), None, "sort"),
        (None, Some("nonsense"), "cursor"),
    ] {
        let refused = all.page(&mut tx, &h.project, sort, cursor, 5).await.expect_err("refused");
        let ListError::Invalid(invalid) = refused else { panic!("{refused}") };
        assert_eq!(invalid.field, field);
    }
    let page = all.page(&mut tx, &h.project, Some("priority"), None, 5).await.expect("a page");
    let cursor = page.next_cursor.expect("more");
    let other = all.page(&mut tx, &h.project, Some("-priority"), Some(&cursor), 5).await;
    assert!(matches!(other, Err(ListError::Invalid(_))), "a cursor of another sort");
}

async fn a_cursor_survives_rows_that_come_and_go(location: Location) {
    let (h, ids) = populated(&location).await;
    let all = commands::Filter::default();
    let mut tx = h.store.read().await.expect("a reader");
    let first = all.page(&mut tx, &h.project, None, None, 10).await.expect("a page");
    drop(tx);
    h.submit(&["pi-1"], "ping", Value::Null).await;
    let mut tx = h.store.read().await.expect("a reader");
    let second = all
        .page(&mut tx, &h.project, None, first.next_cursor.as_deref(), 10)
        .await
        .expect("a page");
    let shown: Vec<_> = first.items.iter().chain(&second.items).map(|command| command.id).collect();
    assert_eq!(shown, ids.into_iter().rev().take(20).collect::<Vec<_>>());
    assert_eq!(second.total, 61);
}

async fn the_overview_counts(location: Location) {
    let (h, _) = populated(&location).await;
    h.connect("pi-1", "b1").await;
    let mut tx = h.store.read().await.expect("a reader");
    let shown = overview::read(&mut tx, &h.project, h.clock.now()).await.expect("an overview");
    assert_eq!((shown.devices.online, shown.devices.offline), (1, 3));
    assert_eq!(shown.recent_commands["completed"], 10);
    assert_eq!(shown.recent_commands["failed"], 10);
    assert_eq!(shown.open_commands["accepted"], 10);
    assert_eq!(shown.p50_ms, Some(0));
    assert!(shown.oldest_queued_at.is_some());
    let open = alerts::Filter::parse(&filter(&[("status", "open")])).expect("valid");
    let page = open.page(&mut tx, &h.project, None, None, 10).await.expect("a page");
    assert_eq!(page.total, shown.alerts.warning + shown.alerts.critical + shown.alerts.info);
}

async fn the_overview_says_which_devices_have_few_reboots_left(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2", "pi-3"]).await;
    for device in ["pi-1", "pi-2", "pi-1", "pi-1"] {
        let mut request = request(&[device], "reboot_host", json!({}));
        request.confirm = true;
        h.engine.submit(&h.actor, &h.project, request).await.expect("valid");
    }
    let budget = async || {
        let mut tx = h.store.read().await.expect("a reader");
        let shown = overview::read(&mut tx, &h.project, h.clock.now()).await.expect("an overview");
        shown.reboot_budget.into_iter().map(|b| (b.device_id.to_string(), b.used, b.left)).collect()
    };
    let all: Vec<_> = budget().await;
    assert_eq!(all, [("pi-1".to_owned(), 3, 0), ("pi-2".to_owned(), 1, 2)]);
}

async fn a_window_is_lean_unless_it_is_of_one_command(location: Location) {
    let (h, ids) = populated(&location).await;
    let id = h.submit(&["pi-1"], "run_script", json!({"script": "id"})).await[0].id;
    h.respond("pi-1", id, "completed", json!({"stdout": "root", "result": 1})).await;
    let mut tx = h.store.read().await.expect("a reader");
    let all = commands::Filter::default();
    let (rows, _) = all.window(&mut tx, &h.project, None, 0, 1).await.expect("a window");
    assert_eq!(
        (&rows[0].payload, &rows[0].stdout, rows[0].status),
        (&Value::Null, &None, S::Completed)
    );
    let one = commands::Filter { id: Some(id), ..commands::Filter::default() };
    let (rows, total) = one.window(&mut tx, &h.project, None, 0, 1).await.expect("a window");
    assert_eq!(
        (&rows[0].payload["script"], rows[0].stdout.as_deref(), total),
        (&json!("id"), Some("root"), 1)
    );
    drop(ids);
}
