//! Devices over HTTP: enrolled, listed, changed, retired.

use reqwest::Method;
use serde_json::json;

use super::support::{Fixture, send};

#[tokio::test]
async fn a_device_enrols_once_and_again_only_when_an_admin_allows_it() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let path = "/projects/default/enrollment-tokens";
    let token =
        fixture.post(path, &admin, &json!({ "uses": 5 })).await.expect(201)["token"].clone();
    let body = json!({ "token": token, "device_id": "pi-1", "type": "PI", "tags": { "rack": "7" }, "nonce": "0123456789abcdef-1" });
    let first = fixture.post("/enroll", "", &body).await.expect(201);
    assert_eq!(
        (first["project_id"].as_str(), first["device_id"].as_str()),
        (Some("default"), Some("pi-1"))
    );
    assert_eq!(first["mqtt_url"], fixture.running.mqtt);

    // The answer was lost: the same request gets the same answer.
    assert_eq!(fixture.post("/enroll", "", &body).await.expect(201), first);
    let mut other = body.clone();
    other["nonce"] = json!("0123456789abcdef-2");
    fixture.post("/enroll", "", &other).await.problem(409, "device_exists");

    fixture
        .call(Method::POST, "/projects/default/devices/pi-1/enroll-again", &admin, None)
        .await
        .expect(200);
    let second = fixture.post("/enroll", "", &other).await.expect(201);
    assert_ne!(second["device_secret"], first["device_secret"]);

    let device = fixture.get("/projects/default/devices/pi-1", &admin).await.expect(200);
    assert_eq!((device["type"].as_str(), device["tags"]["rack"].as_str()), (Some("PI"), Some("7")));
    assert_eq!(
        (device["status"].as_str(), device["contract"].as_str()),
        (Some("offline"), Some("quarterdeck-1.0"))
    );
}

#[tokio::test]
async fn a_wrong_token_is_refused_recorded_and_not_to_be_guessed() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let guess = json!({ "token": "qde_wrong", "device_id": "pi-1" });
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(fixture.post("/enroll", "", &guess).await.status.as_u16());
    }
    assert_eq!((statuses[0], statuses[11]), (401, 429), "{statuses:?}");
    let audit =
        fixture.get("/projects/default/audit?action=device.enroll", &admin).await.expect(200);
    assert_eq!(audit["items"][0]["actor"], "device:pi-1");
    assert_eq!(audit["items"][0]["outcome"], "denied");
}

#[tokio::test]
async fn a_hall_of_devices_enrols_at_once_from_one_address() {
    const DEVICES: usize = 64;
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let path = "/projects/default/enrollment-tokens";
    let made = fixture.post(path, &admin, &json!({ "uses": DEVICES })).await.expect(201);
    let enrolments = (0..DEVICES).map(|n| {
        let body = json!({ "token": made["token"], "device_id": format!("pi-{n}") });
        let fixture = &fixture;
        async move { fixture.post("/enroll", "", &body).await.expect(201) }
    });
    let secrets: std::collections::BTreeSet<String> = futures_util::future::join_all(enrolments)
        .await
        .iter()
        .map(|answer| answer["device_secret"].as_str().expect("a secret").to_owned())
        .collect();
    assert_eq!(secrets.len(), DEVICES);

    // Many wrong ones at once are soon not even looked at, and told when to come again.
    let guess = json!({ "token": "qde_wrong", "device_id": "pi-x" });
    for _ in 0..12 {
        fixture.post("/enroll", "", &guess).await;
    }
    let refused = fixture.post("/enroll", "", &guess).await;
    let wait_s: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=15).contains(&wait_s), "{wait_s}");
    refused.problem(429, "too_many_requests");

    // Who has a token is let in all the same; and one that is used up was no guess.
    let made = fixture.post(path, &admin, &json!({ "uses": 1 })).await.expect(201);
    let with_token = |id: &str| json!({ "token": made["token"], "device_id": id });
    fixture.post("/enroll", "", &with_token("late")).await.expect(201);
    fixture.post("/enroll", "", &with_token("too-late")).await.expect(401);
}

#[tokio::test]
async fn devices_are_listed_filtered_sorted_and_paged() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for n in 1..=5 {
        fixture.device(&admin, "default", &format!("pi-{n}")).await;
    }
    let tags = json!({ "tags": { "site": "berlin" }, "type": "GATE" });
    let changed = fixture
        .call(Method::PATCH, "/projects/default/devices/pi-2", &admin, Some(&tags))
        .await
        .expect(200);
    assert_eq!(
        (changed["tags"]["site"].as_str(), changed["type"].as_str()),
        (Some("berlin"), Some("GATE"))
    );

    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| d["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let path = "/projects/default/devices";
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page =
            fixture.get(&format!("{path}?limit=2&sort=-id{cursor}"), &admin).await.expect(200);
        assert_eq!(page["total"], 5);
        seen.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["pi-5", "pi-4", "pi-3", "pi-2", "pi-1"]);
    for (query, expected) in [
        ("type=GATE", vec!["pi-2"]),
        ("q=pi-3", vec!["pi-3"]),
        ("status=online", vec![]),
        ("crashed=true", vec![]),
        ("service_failed=true", vec![]),
        ("id=pi-4", vec!["pi-4"]),
    ] {
        let page = fixture.get(&format!("{path}?{query}"), &admin).await.expect(200);
        assert_eq!(ids(&page), expected, "{query}");
    }
}

#[tokio::test]
async fn a_device_is_let_in_whatever_others_guess_from_its_address() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let secret = fixture.device(&admin, "default", "pi-1").await;
    let ask = |secret: &str| {
        let path = "/projects/default/devices/pi-1/configuration";
        send(fixture.request(Method::GET, path, "").basic_auth("default/pi-1", Some(secret)))
    };
    for _ in 0..1_000 {
        if ask("a guess").await.status == 429 {
            ask(&secret).await.expect(200);
            return;
        }
    }
    panic!("nobody counts the guesses");
}

#[tokio::test]
async fn a_retired_device_cannot_sign_in() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let secret = fixture.device(&admin, "default", "pi-1").await;
    let upload = |secret: String| {
        let url = fixture.url("/uploads/018f0000-0000-7000-8000-000000000001");
        send(fixture.client.put(url).basic_auth("default/pi-1", Some(secret)).body("x"))
    };
    upload(secret.clone()).await.problem(404, "not_found");
    upload("wrong".into()).await.problem(401, "unauthorized");
    fixture.call(Method::DELETE, "/projects/default/devices/pi-1", &admin, None).await.expect(204);
    upload(secret).await.problem(401, "unauthorized");
    let device = fixture.get("/projects/default/devices/pi-1", &admin).await.expect(200);
    assert_eq!(device["status"], "retired");
    let audit =
        fixture.get("/projects/default/audit?action=device.retire", &admin).await.expect(200);
    assert_eq!(audit["total"], 1);
}

#[tokio::test]
async fn health_timeline_credentials_and_service_failed_answer() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let path = "/projects/default/devices/pi-1";
    let health = fixture.get(&format!("{path}/health"), &admin).await.expect(200);
    assert!(health["report"].is_null());
    fixture.command(&admin, "default", "pi-1", "ping", json!({})).await;
    let timeline = fixture.get(&format!("{path}/timeline"), &admin).await.expect(200);
    assert!(timeline["total"].as_u64().unwrap() >= 2, "{timeline}");
    let commands = fixture.get(&format!("{path}/commands?status=queued"), &admin).await.expect(200);
    assert_eq!(commands["items"][0]["device_id"], "pi-1");
    fixture.get(&format!("{path}/commands?device=pi-2"), &admin).await.problem(422, "invalid");
    fixture.call(Method::POST, &format!("{path}/clear_service_failed"), &admin, None).await;
    let given = fixture
        .call(Method::POST, "/projects/default/devices/plc-1/credentials", &admin, None)
        .await
        .expect(201);
    assert!(given["device_secret"].is_string());
    let named = fixture
        .call(Method::POST, "/projects/default/devices/a%20b/credentials", &admin, None)
        .await;
    named.problem(422, "invalid");
}

#[tokio::test]
async fn operations_overview_and_alerts_are_there() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = fixture
            .get(&format!("/projects/default/operations?limit=5{cursor}"), &admin)
            .await
            .expect(200);
        names.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|op| op["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(
        names.contains(&"ping".to_owned()) && names.last().is_some_and(|name| name == "run_script")
    );
    let silent = fixture.get("/projects/default/operations?device=pi-1", &admin).await.expect(200);
    assert_eq!(silent["total"], 0, "it has announced nothing yet");
    for unknown in ["nobody", "a%20b"] {
        let path = format!("/projects/default/operations?device={unknown}");
        let problem = fixture.get(&path, &admin).await.problem(422, "invalid");
        assert_eq!(problem["field"], "device");
    }
    let overview = fixture.get("/projects/default/overview", &admin).await.expect(200);
    assert_eq!(overview["devices"]["offline"], 1);
    let alerts = fixture.get("/projects/default/alerts", &admin).await.expect(200);
    assert!(alerts["items"].is_array());
    fixture
        .call(Method::POST, "/projects/default/alerts/x/acknowledge", &admin, None)
        .await
        .problem(404, "not_found");
    fixture
        .post("/projects/default/alerts/x/silence", &admin, &json!({ "duration_s": 60 }))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn a_device_reads_its_own_configuration_and_no_other() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let viewer = fixture.member(&admin, "viv", "default", "viewer").await;
    let secret = fixture.device(&admin, "default", "pi-1").await;
    fixture.device(&admin, "default", "pi-2").await;
    let path = |device: &str| format!("/projects/default/devices/{device}/configuration");
    let ask = |device: &str, secret: &str, seen: &str| {
        let request = fixture.request(Method::GET, &path(device), "");
        let request = request.basic_auth("default/pi-1", Some(secret));
        send(request.header("if-none-match", seen))
    };

    let none = ask("pi-1", &secret, "").await.expect(200);
    assert_eq!((&none["version"], &none["configuration"]), (&json!(0), &json!({})));
    let wanted = json!({ "configuration": { "brightness": 70, "language": "de" } });
    let set = fixture.call(Method::PUT, &path("pi-1"), &admin, Some(&wanted)).await;
    assert_eq!(set.headers["etag"], "\"1\"");
    let set = set.expect(200);
    assert_eq!((&set["updated_by"], &set["version"]), (&json!("admin"), &json!(1)));

    let read = ask("pi-1", &secret, "\"0\"").await;
    assert_eq!(read.headers["etag"], "\"1\"");
    assert_eq!(read.expect(200)["configuration"], wanted["configuration"]);
    assert_eq!(ask("pi-1", &secret, "\"1\"").await.status, 304);
    assert_eq!(fixture.get(&path("pi-1"), &viewer).await.expect(200)["version"], 1);

    ask("pi-2", &secret, "").await.problem(404, "not_found");
    ask("pi-1", "wrong", "").await.problem(401, "unauthorized");
    fixture.get(&path("nobody"), &viewer).await.problem(404, "not_found");
    fixture
        .call(Method::PUT, &path("nobody"), &admin, Some(&wanted))
        .await
        .problem(404, "not_found");
    let audit =
        fixture.get("/projects/default/audit?action=device.configure", &admin).await.expect(200);
    assert_eq!(
        audit["items"][0]["detail"],
        json!({"version": 1, "keys": ["brightness", "language"]})
    );
}

#[tokio::test]
async fn who_changes_a_configuration_that_changed_meanwhile_is_told() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let set = |seen: &'static str, value: serde_json::Value| {
        let path = "/projects/default/devices/pi-1/configuration";
        let request = fixture.request(Method::PUT, path, &admin).header("if-match", seen);
        send(request.json(&json!({ "configuration": value })))
    };
    set("\"0\"", json!({"a": 1})).await.expect(200);
    set("\"0\"", json!({"a": 2})).await.problem(412, "changed_meanwhile");
    set("*", json!({"a": 3})).await.expect(200);
    assert_eq!(set("\"2\"", json!({"a": 4})).await.expect(200)["version"], 3);
    for bad in [json!([1]), json!("text"), json!({"a": "x".repeat(70_000)})] {
        let refused = set("*", bad).await.problem(422, "invalid");
        assert_eq!(refused["field"], "configuration");
    }
}
