//! Devices, through the engine and a store: presence, enrolment, alerts.

mod support;

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{ChangeDevice, EnrollRequest, Overview},
    command::CommandStatus,
    device::DeviceStatus as D,
    ids::ProjectId,
    live::Listing,
    time::Timestamp,
    topics::DeviceTopic,
};
use quarterdeck_server::{
    engine::{Change, token_hash},
    mqtt::link::{ConnectionId, Denied, Inbound},
    store::{Location, audit, device_events, enrollment_tokens as tokens, overview},
};
use serde_json::{Value, json};
use support::{Harness, device, eventually};

on_both_engines! {
    a_device_is_online_while_it_is_heard,
    who_falls_silent_is_told_of_in_the_timeline_at_once,
    each_entry_of_a_timeline_is_on_one_page_whatever_the_clock_does,
    what_an_older_connection_says_of_presence_is_ignored,
    after_a_restart_everybodys_silence_begins_anew,
    after_a_restart_nobody_is_taken_for_there_before_it_is_heard,
    while_the_broker_is_away_nobody_falls_silent,
    a_mass_event_raises_one_alert,
    a_clock_that_is_off_raises_an_alert_until_it_is_right,
    a_failed_service_is_shown_until_somebody_clears_it,
    an_alert_that_comes_again_soon_is_the_same_one,
    an_enrolment_can_be_repeated_after_a_crash_but_not_by_others,
    a_token_is_good_for_its_uses,
    a_retired_device_has_no_commands_and_cannot_sign_in,
    tags_are_replaced_and_checked,
    a_long_queue_is_an_alert_until_it_is_short,
    every_action_is_in_the_audit_chain,
}

fn kinds(alerts: &[quarterdeck_protocol::api::Alert]) -> Vec<&str> {
    alerts.iter().map(|alert| alert.kind.as_str()).collect()
}

async fn status(h: &Harness, name: &str) -> D {
    h.device(name).await.status
}

async fn health(h: &Harness, name: &str, more: Value) {
    let mut report = json!({"schema_version": "1.0", "processes": [], "at": h.clock.wall()});
    if let (Some(report), Some(more)) = (report.as_object_mut(), more.as_object()) {
        report.extend(more.clone());
    }
    assert!(h.say(name, DeviceTopic::Health, &report, None).await);
}

async fn a_device_is_online_while_it_is_heard(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    assert_eq!(status(&h, "pi-1").await, D::Offline);
    let connection = h.connect("pi-1", "b1").await;
    let known = h.device("pi-1").await;
    assert_eq!((known.status, known.agent_version.as_deref()), (D::Online, Some("1.2.3")));
    assert_eq!(known.capabilities, ["my_workflow", "ping"]);
    for _ in 0..4 {
        h.pass(30_000).await;
        health(
            &h,
            "pi-1",
            json!({"broker_connection": {"reconnect_count": 3, "last_disconnect_at": null}}),
        )
        .await;
    }
    assert_eq!(status(&h, "pi-1").await, D::Online);
    assert_eq!(h.device("pi-1").await.broker_connection.reconnect_count, 3);
    h.pass(89_999).await;
    assert_eq!(status(&h, "pi-1").await, D::Online);
    h.pass(1).await;
    assert_eq!(status(&h, "pi-1").await, D::Stale);
    assert_eq!(kinds(&h.open_alerts().await), ["device_stale"]);
    health(&h, "pi-1", json!({"processes": [{"name": "app", "state": "crashed"}]})).await;
    assert_eq!(status(&h, "pi-1").await, D::Online);
    assert_eq!(h.device("pi-1").await.process_status.as_deref(), Some("crashed"));
    assert!(h.open_alerts().await.is_empty());
    h.disconnect("pi-1", connection).await;
    eventually("it is offline", || async {
        (status(&h, "pi-1").await == D::Offline).then_some(())
    })
    .await;
    assert_eq!(kinds(&h.open_alerts().await), ["device_offline"]);
    let mut tx = h.store.read().await.expect("a reader");
    let timeline = device_events::list(&mut tx, &h.project, &device("pi-1"), None, 100)
        .await
        .expect("a timeline");
    let events: Vec<_> = timeline.iter().rev().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events, ["online", "stale", "crashed", "online", "offline"]);
    assert!(timeline.windows(2).all(|pair| pair[0].seq > pair[1].seq));
}

async fn who_falls_silent_is_told_of_in_the_timeline_at_once(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.connect("pi-1", "b1").await;
    let mut changes = h.engine.changes();
    h.pass(90_000).await;
    assert_eq!(status(&h, "pi-1").await, D::Stale);
    let mut told = Vec::new();
    while let Ok(commit) = changes.try_recv() {
        told.extend(commit.iter().map(|change| (change.listing, change.key.clone())));
    }
    assert!(told.contains(&(Listing::Timeline, "pi-1".to_owned())), "{told:?}");
}

async fn each_entry_of_a_timeline_is_on_one_page_whatever_the_clock_does(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2"]).await;
    let mut made = Vec::new();
    for step_ms in [0, 0, 1, -60_000, 0, 120_000] {
        h.clock.step_wall(step_ms);
        // Both in one millisecond, the commands several at once.
        let connection = h.connect("pi-1", "b1").await;
        for _ in 0..3 {
            made.extend(h.submit(&["pi-1"], "ping", json!({})).await);
        }
        h.disconnect("pi-1", connection).await;
    }
    let mut tx = h.store.read().await.expect("a reader");
    let total = device_events::count(&mut tx, &h.project, &device("pi-1")).await.expect("a count");
    for limit in [1, 2, 7] {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page = device_events::list(&mut tx, &h.project, &device("pi-1"), before, limit)
                .await
                .expect("a page");
            let Some(last) = page.last() else { break };
            before = Some(device_events::Place::of(last));
            all.extend(page);
        }
        assert!(all.windows(2).all(|pair| {
            device_events::Place::of(&pair[0]) > device_events::Place::of(&pair[1])
        }));
        assert_eq!(all.len() as u64, total, "pages of {limit}");
        let commands: Vec<_> = all.iter().rev().filter_map(|entry| entry.command_id).collect();
        assert_eq!(commands, made.iter().map(|command| command.id).collect::<Vec<_>>());
        let (rows, counted) = device_events::window(&mut tx, &h.project, &device("pi-1"), 3, 10)
            .await
            .expect("a window");
        let keys: Vec<_> = rows.into_iter().map(|(key, _)| key).collect();
        let places: Vec<_> = all[3..13].iter().map(device_events::Place::of).collect();
        assert_eq!(keys, places.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(counted, total);
    }
}

async fn what_an_older_connection_says_of_presence_is_ignored(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let old = h.connect("pi-1", "b1").await;
    h.connect("pi-1", "b1").await;
    h.event(Inbound::Disconnected {
        project_id: h.project.clone(),
        device_id: device("pi-1"),
        channel: quarterdeck_protocol::topics::Channel::Main,
        connection: old,
        ended: quarterdeck_server::mqtt::link::Ended::TakenOver,
    })
    .await;
    let will = json!({"schema_version": "1.0", "online": false});
    assert!(h.say("pi-1", DeviceTopic::Status, &will, Some(old)).await);
    assert_eq!(status(&h, "pi-1").await, D::Online);
    assert!(h.say("pi-1", DeviceTopic::Status, &will, Some(ConnectionId(old.0 + 1))).await);
    assert_eq!(status(&h, "pi-1").await, D::Offline);
}

async fn after_a_restart_everybodys_silence_begins_anew(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.connect("pi-1", "b1").await;
    let clock = h.clock.clone();
    h.stop().await;
    clock.advance(3_600_000);
    let h = Harness::start_with(&location, clock).await;
    let since = h.clock.wall();
    eventually("the engine listens", || async { unheard_since(&h, "pi-1").await }).await;
    let known = h.device("pi-1").await;
    assert_eq!((known.status, known.unheard_since), (D::Online, Some(since)), "as it was before");
    h.pass(89_000).await;
    assert_eq!(status(&h, "pi-1").await, D::Online, "nobody could hear it");
    assert!(h.open_alerts().await.is_empty());
    h.pass(1_000).await;
    assert_eq!(status(&h, "pi-1").await, D::Offline, "it has not come back");
    assert_eq!(unheard_since(&h, "pi-1").await, None, "that is known");
}

async fn after_a_restart_nobody_is_taken_for_there_before_it_is_heard(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2", "pi-3"]).await;
    for name in ["pi-1", "pi-2", "pi-3"] {
        h.connect(name, "b1").await;
    }
    h.pass(90_000).await;
    health(&h, "pi-1", json!({})).await;
    health(&h, "pi-2", json!({})).await;
    let clock = h.clock.clone();
    h.stop().await;
    let h = Harness::start_with(&location, clock).await;
    eventually("the engine listens", || async { unheard_since(&h, "pi-3").await }).await;
    let overview = overview(&h).await.devices;
    assert_eq!((overview.online, overview.stale, overview.unheard), (2, 1, 3));
    assert_eq!(status(&h, "pi-3").await, D::Stale, "it was so before");

    h.connect("pi-1", "b1").await;
    health(&h, "pi-2", json!({})).await;
    for name in ["pi-1", "pi-2"] {
        assert_eq!((status(&h, name).await, unheard_since(&h, name).await), (D::Online, None));
    }
    h.pass(90_000).await;
    assert_eq!(status(&h, "pi-1").await, D::Stale);
    assert_eq!(status(&h, "pi-3").await, D::Offline);
}

async fn while_the_broker_is_away_nobody_falls_silent(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1", "pi-2"]).await;
    h.connect("pi-1", "b1").await;
    h.connect("pi-2", "b1").await;
    let mut changes = h.engine.changes();
    h.event(Inbound::Hears(false)).await;
    eventually("it is unheard", || async { unheard_since(&h, "pi-1").await }).await;
    let told = changes.try_recv().expect("told at once");
    assert!(told.iter().any(|change| change.listing == Listing::Devices && change.key == "pi-1"));
    h.pass(3_600_000).await;
    assert_eq!(status(&h, "pi-1").await, D::Online);
    assert!(h.open_alerts().await.is_empty(), "it could not be heard");

    while changes.try_recv().is_ok() {}
    h.event(Inbound::Hears(true)).await;
    h.respond("pi-1", h.submit(&["pi-1"], "ping", json!({})).await[0].id, "accepted", json!({}))
        .await;
    // A broker that comes and goes is no news of a fleet that is unheard already.
    while let Ok(told) = changes.try_recv() {
        let of_pi_2 = |change: &Change| change.listing == Listing::Devices && change.key == "pi-2";
        assert!(!told.iter().any(of_pi_2), "{told:?}");
    }
    h.pass(89_000).await;
    assert_eq!(status(&h, "pi-1").await, D::Online, "its silence began anew");
    h.pass(1_000).await;
    assert_eq!(status(&h, "pi-1").await, D::Offline);
    health(&h, "pi-1", json!({})).await;
    assert_eq!((status(&h, "pi-1").await, unheard_since(&h, "pi-1").await), (D::Online, None));
}

async fn unheard_since(h: &Harness, name: &str) -> Option<Timestamp> {
    h.device(name).await.unheard_since
}

async fn overview(h: &Harness) -> Overview {
    let mut tx = h.store.read().await.expect("a reader");
    overview::read(&mut tx, &h.project, h.clock.now()).await.expect("an overview")
}

async fn a_mass_event_raises_one_alert(location: Location) {
    let h = Harness::start(&location).await;
    let names: Vec<String> = (0..40).map(|n| format!("pi-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    h.add_devices(&names).await;
    for name in &names {
        h.connect(name, "b1").await;
    }
    h.pass(90_000).await;
    let alerts = h.open_alerts().await;
    assert_eq!(alerts.len(), 1, "{:?}", kinds(&alerts));
    assert_eq!(
        (alerts[0].kind.as_str(), alerts[0].count, &alerts[0].device_id),
        ("device_stale", 40, &None)
    );
    for name in &names {
        health(&h, name, json!({})).await;
    }
    h.clock.advance(11_000);
    eventually("it is over", || async { h.open_alerts().await.is_empty().then_some(()) }).await;
}

async fn a_clock_that_is_off_raises_an_alert_until_it_is_right(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    h.connect("pi-1", "b1").await;
    health(&h, "pi-1", json!({"at": h.clock.wall().plus_seconds(-30)})).await;
    assert!(h.open_alerts().await.is_empty());
    health(&h, "pi-1", json!({"at": h.clock.wall().plus_seconds(-31)})).await;
    let alerts = h.open_alerts().await;
    assert_eq!(kinds(&alerts), ["clock_skew"]);
    assert!(alerts[0].cause.contains("31 s behind"), "{}", alerts[0].cause);
    assert_eq!(h.device("pi-1").await.clock_offset_ms, Some(-31_000));
    health(&h, "pi-1", json!({})).await;
    assert!(h.open_alerts().await.is_empty());
}

async fn a_failed_service_is_shown_until_somebody_clears_it(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let failed = json!({"schema_version": "1.0", "unit": "app.service", "reason": "5 restarts"});
    assert!(h.say("pi-1", DeviceTopic::ServiceFailed, &failed, None).await);
    let shown = h.device("pi-1").await.service_failed.expect("shown");
    assert_eq!((shown.unit.as_str(), shown.reason.as_str()), ("app.service", "5 restarts"));
    let alerts = h.open_alerts().await;
    assert_eq!(kinds(&alerts), ["service_failed"]);
    let seen = h
        .engine
        .acknowledge_alert(&h.actor, &h.project, &alerts[0].id)
        .await
        .expect("acknowledged");
    assert_eq!(seen.acknowledged_by.as_deref(), Some("ops-1"));
    let quiet =
        h.engine.silence_alert(&h.actor, &h.project, &alerts[0].id, 60).await.expect("silenced");
    assert_eq!(quiet.silenced_until, Some(h.clock.wall().plus_seconds(60)));
    let cleared = h
        .engine
        .clear_service_failed(&h.actor, &h.project, &device("pi-1"))
        .await
        .expect("cleared");
    assert_eq!(cleared.service_failed, None);
    assert!(h.open_alerts().await.is_empty());
    assert!(h.say("pi-1", DeviceTopic::ServiceFailed, &failed, None).await);
    assert!(h.say_raw("pi-1", DeviceTopic::ServiceFailed, "".into(), None).await);
    assert_eq!(h.device("pi-1").await.service_failed, None);
    assert!(h.open_alerts().await.is_empty());
}

async fn an_alert_that_comes_again_soon_is_the_same_one(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let mut ids = Vec::new();
    for round in 0..3 {
        let connection = h.connect("pi-1", "b1").await;
        h.disconnect("pi-1", connection).await;
        let alert = eventually("an alert", || async { h.open_alerts().await.pop() }).await;
        ids.push((alert.id.clone(), alert.count));
        h.clock.advance(if round == 1 { 16 * 60_000 } else { 60_000 });
        let _ = alert;
        if round == 1 {
            // Resolved long ago, it would be another one.
            h.connect("pi-1", "b1").await;
            h.clock.advance(16 * 60_000);
        }
    }
    assert_eq!((ids[0].1, ids[1].1, ids[2].1), (1, 2, 1));
    assert_eq!(ids[0].0, ids[1].0);
    assert_ne!(ids[1].0, ids[2].0);
}

async fn token(h: &Harness, secret: &str, uses: i64) {
    let stored = tokens::StoredToken {
        id: h.clock.new_uuid().to_string(),
        project_id: h.project.to_string(),
        uses,
        used: 0,
        tags: r#"{"site":"berlin"}"#.to_owned(),
        created_by: "admin".to_owned(),
        created_at: h.clock.wall().as_millis(),
        expires_at: h.clock.wall().plus_seconds(3_600).as_millis(),
        revoked_at: None,
    };
    let hash = token_hash(secret);
    support::write(&h.store, move |tx| {
        Box::pin(async move { tokens::insert(tx, &stored, &hash).await })
    })
    .await;
}

fn enroll(token: &str, name: &str, nonce: Option<&str>) -> EnrollRequest {
    EnrollRequest {
        token: token.to_owned(),
        device_id: device(name),
        csr_pem: None,
        kind: Some("pi".to_owned()),
        tags: BTreeMap::from([
            ("site".to_owned(), "paris".to_owned()),
            ("rack".to_owned(), "7".to_owned()),
        ]),
        nonce: nonce.map(str::to_owned),
    }
}

async fn an_enrolment_can_be_repeated_after_a_crash_but_not_by_others(location: Location) {
    let h = Harness::start(&location).await;
    token(&h, "t1", 2).await;
    let nonce = "0123456789abcdef0123";
    let first =
        h.engine.enroll("10.0.0.1", enroll("t1", "pi-1", Some(nonce))).await.expect("enrolled");
    let again = h
        .engine
        .enroll("10.0.0.1", enroll("t1", "pi-1", Some(nonce)))
        .await
        .expect("the same answer");
    assert_eq!(first, again);
    assert_eq!(first.project_id, h.project);
    for other in [None, Some("another-nonce-0123456789")] {
        let refused =
            h.engine.enroll("10.0.0.2", enroll("t1", "pi-1", other)).await.expect_err("it exists");
        assert_eq!(refused.code(), "device_exists");
    }
    let known = h.device("pi-1").await;
    assert_eq!(
        (known.tags["site"].as_str(), known.tags["rack"].as_str()),
        ("berlin", "7"),
        "the token's tags stand"
    );
    let secret = first.device_secret.expect("a secret");
    let user = "default/pi-1";
    let identity =
        h.engine.authenticate_device(user, secret.as_bytes()).await.expect("its own secret");
    assert_eq!(identity.device_id, device("pi-1"));
    for (user, secret) in
        [(user, "wrong"), (user, ""), ("default/pi-2", secret.as_str()), ("pi-1", secret.as_str())]
    {
        assert_eq!(
            h.engine.authenticate_device(user, secret.as_bytes()).await,
            Err(Denied::BadCredentials),
            "{user}"
        );
    }
    // An admin lets it enrol anew: the former secret is void.
    h.engine.allow_enroll_again(&h.actor, &h.project, &device("pi-1")).await.expect("allowed");
    let renewed = h
        .engine
        .enroll("10.0.0.1", enroll("t1", "pi-1", None))
        .await
        .expect("anew")
        .device_secret
        .expect("a secret");
    assert_ne!(renewed, secret);
    assert_eq!(
        h.engine.authenticate_device(user, secret.as_bytes()).await,
        Err(Denied::BadCredentials)
    );
    assert!(h.engine.authenticate_device(user, renewed.as_bytes()).await.is_ok());
    assert!(h.link.disconnected.lock().expect("lock").contains(&"pi-1".to_owned()));
}

async fn a_token_is_good_for_its_uses(location: Location) {
    let h = Harness::start(&location).await;
    token(&h, "t1", 1).await;
    let nonce = "0123456789abcdef0123";
    h.engine.enroll("", enroll("t1", "pi-1", Some(nonce))).await.expect("enrolled");
    for (token, name) in [("t1", "pi-2"), ("unknown", "pi-2")] {
        let refused =
            h.engine.enroll("", enroll(token, name, None)).await.expect_err("no use is left");
        assert_eq!(refused.code(), "invalid_token");
    }
    h.engine.enroll("", enroll("t1", "pi-1", Some(nonce))).await.expect("its own answer again");
    token(&h, "t2", 1).await;
    h.clock.advance(3_600_000);
    let refused = h.engine.enroll("", enroll("t2", "pi-2", None)).await.expect_err("expired");
    assert_eq!(refused.code(), "invalid_token");
}

async fn a_retired_device_has_no_commands_and_cannot_sign_in(location: Location) {
    let h = Harness::start(&location).await;
    token(&h, "t1", 2).await;
    let secret = h
        .engine
        .enroll("", enroll("t1", "pi-1", None))
        .await
        .expect("enrolled")
        .device_secret
        .expect("a secret");
    h.connect("pi-1", "b1").await;
    let waits = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    let runs = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    h.respond("pi-1", runs, "execution_started", json!({})).await;
    let disconnected = || h.link.disconnected.lock().expect("lock").len();
    let before = disconnected();
    let retired = h.engine.retire(&h.actor, &h.project, &device("pi-1")).await.expect("retired");
    assert_eq!((retired.status, retired.open_commands), (D::Retired, 0));
    // It is told first what ends.
    assert_eq!(disconnected(), before);
    h.engine.disconnect(&h.project, &device("pi-1"));
    assert_eq!(disconnected(), before + 1);
    for id in [waits, runs] {
        assert_eq!(h.command(id).await.status, CommandStatus::Cancelled);
    }
    assert_eq!(
        h.engine.authenticate_device("default/pi-1", secret.as_bytes()).await,
        Err(Denied::Revoked)
    );
    health(&h, "pi-1", json!({})).await;
    assert_eq!(status(&h, "pi-1").await, D::Retired);
    let refused = h
        .engine
        .issue_credentials(&h.actor, &h.project, &device("pi-1"))
        .await
        .expect_err("retired");
    assert_eq!(refused.code(), "device_retired");
    h.engine.allow_enroll_again(&h.actor, &h.project, &device("pi-1")).await.expect("allowed");
    h.engine.enroll("", enroll("t1", "pi-1", None)).await.expect("back in service");
    assert_eq!(status(&h, "pi-1").await, D::Offline);
}

async fn tags_are_replaced_and_checked(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let tags = |pairs: &[(&str, &str)]| ChangeDevice {
        tags: Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        kind: None,
    };
    let id = device("pi-1");
    h.engine
        .change_device(&h.actor, &h.project, &id, tags(&[("site", "a"), ("env", "prod")]))
        .await
        .expect("valid");
    let changed = h
        .engine
        .change_device(&h.actor, &h.project, &id, tags(&[("site", "b")]))
        .await
        .expect("valid");
    assert_eq!(changed.tags, BTreeMap::from([("site".to_owned(), "b".to_owned())]));
    for bad in [
        ("", "x"),
        ("a b", "x"),
        ("site", "x\u{0}"),
        (&*"k".repeat(64), "x"),
        ("site", &*"v".repeat(256)),
    ] {
        let refused = h
            .engine
            .change_device(&h.actor, &h.project, &id, tags(&[bad]))
            .await
            .expect_err("refused");
        assert!(refused.field().is_some_and(|field| field.starts_with("tags")), "{bad:?}");
    }
    let unknown = h
        .engine
        .change_device(&h.actor, &h.project, &device("x"), tags(&[]))
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), "not_found");
}

async fn a_long_queue_is_an_alert_until_it_is_short(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let mut last = None;
    for _ in 0..101 {
        last = Some(h.submit(&["pi-1"], "ping", Value::Null).await[0].id);
    }
    h.clock.advance(10_000);
    eventually("an alert", || async {
        kinds(&h.open_alerts().await).contains(&"queue_depth").then_some(())
    })
    .await;
    h.engine.cancel(&h.actor, &h.project, last.expect("made")).await.expect("cancelled");
    eventually("it is over", || async {
        h.clock.advance(10_000);
        h.open_alerts().await.is_empty().then_some(())
    })
    .await;
}

async fn every_action_is_in_the_audit_chain(location: Location) {
    let h = Harness::start(&location).await;
    h.add_devices(&["pi-1"]).await;
    let id = h.submit(&["pi-1"], "ping", Value::Null).await[0].id;
    h.engine.cancel(&h.actor, &h.project, id).await.expect("cancelled");
    h.engine.retry(&h.actor, &h.project, id, false).await.expect("retried");
    h.engine.retire(&h.actor, &h.project, &device("pi-1")).await.expect("retired");
    let mut tx = h.store.read().await.expect("a reader");
    let all = audit::list(&mut tx, &h.project, &audit::Filter::default(), false, None, 100)
        .await
        .expect("a list");
    let actions: Vec<_> = all.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["command.create", "command.cancel", "command.retry", "device.retire"]);
    assert!(all.iter().all(|entry| entry.actor == "ops-1" && entry.from == "127.0.0.1"));
    h.auditor.verify(&mut tx, h.project.as_str()).await.expect("the chain holds");
    let other = ProjectId::new("other").expect("valid");
    let elsewhere = h.engine.cancel(&h.actor, &other, id).await.expect_err("of another project");
    assert_eq!(elsewhere.code(), "not_found");
}
