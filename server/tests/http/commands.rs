//! Commands over HTTP: submitted, listed, cancelled, tried again.

use reqwest::Method;
use serde_json::json;

use super::support::Fixture;

const COMMANDS: &str = "/projects/default/commands";

#[tokio::test]
async fn a_command_is_submitted_read_and_cancelled() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let body = json!({
        "targets": { "devices": ["pi-1"] }, "type": "restart_service", "payload": { "service": "nginx" },
        "notes": "hello", "priority": 2
    });
    let created = fixture.post(COMMANDS, &admin, &body).await.expect(201);
    assert_eq!((created["count"].as_u64(), created["offline"].as_u64()), (Some(1), Some(1)));
    let command = &created["commands"][0];
    assert_eq!(
        (command["status"].as_str(), command["created_by"].as_str()),
        (Some("queued"), Some("admin"))
    );
    assert_eq!((command["priority"].as_u64(), command["timeout_s"].as_u64()), (Some(2), Some(300)));

    let path = format!("{COMMANDS}/{}", command["id"].as_str().unwrap());
    assert_eq!(
        fixture.get(&path, &admin).await.expect(200)["payload"],
        json!({ "service": "nginx" })
    );
    let timeline = fixture.get(&format!("{path}/timeline"), &admin).await.expect(200);
    assert_eq!(timeline["items"][0]["event"], "created");
    fixture.get(&format!("{path}/output"), &admin).await.problem(404, "no_output");

    let cancel = format!("{path}/cancel");
    assert_eq!(
        fixture.call(Method::POST, &cancel, &admin, None).await.expect(200)["status"],
        "cancelled"
    );
    fixture.call(Method::POST, &cancel, &admin, None).await.problem(409, "already_finished");
    let audit =
        fixture.get("/projects/default/audit?action=command.cancel", &admin).await.expect(200);
    assert_eq!(audit["total"], 1);
}

#[tokio::test]
async fn a_retry_is_a_new_command_that_names_the_old_one() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let id = fixture.command(&admin, "default", "pi-1", "ping", json!({})).await;
    let path = format!("{COMMANDS}/{id}");
    fixture.call(Method::POST, &format!("{path}/retry"), &admin, None).await.expect(409);
    fixture.call(Method::POST, &format!("{path}/cancel"), &admin, None).await.expect(200);
    let retried =
        fixture.call(Method::POST, &format!("{path}/retry"), &admin, None).await.expect(201);
    assert_eq!(
        (retried["retry_of"].as_str(), retried["attempt"].as_u64()),
        (Some(id.as_str()), Some(2))
    );
}

#[tokio::test]
async fn many_are_cancelled_by_batch() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let devices: Vec<String> = (0..5).map(|n| format!("pi-{n}")).collect();
    for device in &devices {
        fixture.device(&admin, "default", device).await;
    }
    let body = json!({ "targets": { "devices": devices }, "type": "ping" });
    let created = fixture.post(COMMANDS, &admin, &body).await.expect(201);
    let first = created["commands"][0]["id"].as_str().unwrap();
    fixture
        .call(Method::POST, &format!("{COMMANDS}/{first}/cancel"), &admin, None)
        .await
        .expect(200);
    let cancel = json!({ "batch_id": created["batch_id"] });
    let done = fixture.post(&format!("{COMMANDS}/cancel"), &admin, &cancel).await.expect(200);
    assert_eq!(done["cancelled"], 4, "{done}");
}

#[tokio::test]
async fn what_cannot_be_submitted_is_named() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    for (body, field) in [
        (json!({ "targets": { "devices": ["pi-9"] }, "type": "ping" }), "targets.devices[0]"),
        (json!({ "targets": { "groups": ["g"] }, "type": "ping" }), "targets.groups[0]"),
        (json!({ "targets": {}, "type": "ping" }), "targets"),
        (json!({ "targets": { "devices": ["pi-1"] }, "type": "fly" }), "type"),
        (json!({ "targets": { "devices": ["pi-1"] }, "type": "reboot_host" }), "confirm"),
        (json!({ "targets": { "devices": ["pi-1"] }, "type": "ping", "priority": 11 }), "priority"),
        (
            json!({ "targets": { "devices": ["pi-1"] }, "type": "ping", "timeout_s": 0 }),
            "timeout_s",
        ),
        (
            json!({ "targets": { "devices": ["pi-1"] }, "type": "ping", "expires_in_s": 0 }),
            "expires_in_s",
        ),
    ] {
        let problem = fixture.post(COMMANDS, &admin, &body).await.expect(422);
        assert!(
            problem["field"].as_str().unwrap_or_default().starts_with(field),
            "{body}: {problem}"
        );
    }
    // What no number of the type can be as well: the range is named, not the type's.
    for (field, value, detail) in [
        ("priority", json!(-1), "expected 1 (soonest) to 10"),
        ("priority", json!(70_000), "expected 1 (soonest) to 10"),
        ("timeout_s", json!(-1), "expected 1 to 604800"),
        ("timeout_s", json!(5_000_000_000_u64), "expected 1 to 604800"),
        ("expires_in_s", json!(i64::MIN), "expected 1 to 2592000"),
        ("priority", json!("5"), "expected a whole number, not a text"),
    ] {
        let mut body = json!({ "targets": { "devices": ["pi-1"] }, "type": "ping" });
        body[field] = value;
        let problem = fixture.post(COMMANDS, &admin, &body).await.expect(422);
        assert_eq!((&problem["field"], &problem["detail"]), (&json!(field), &json!(detail)));
    }
    assert_eq!(fixture.get(COMMANDS, &admin).await.expect(200)["total"], 0);
}

#[tokio::test]
async fn commands_are_filtered_and_paged_newest_first() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    fixture.device(&admin, "default", "pi-2").await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let device = if n % 2 == 0 { "pi-1" } else { "pi-2" };
        ids.push(fixture.command(&admin, "default", device, "ping", json!({})).await);
    }
    fixture
        .call(Method::POST, &format!("{COMMANDS}/{}/cancel", ids[0]), &admin, None)
        .await
        .expect(200);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = fixture.get(&format!("{COMMANDS}?limit=4{cursor}"), &admin).await.expect(200);
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    ids.reverse();
    assert_eq!(seen, ids);
    for (query, total) in [
        ("device=pi-1", 3),
        ("status=cancelled", 1),
        ("status=queued", 5),
        ("user=nobody", 0),
        ("type=ping", 6),
    ] {
        assert_eq!(
            fixture.get(&format!("{COMMANDS}?{query}"), &admin).await.expect(200)["total"],
            total,
            "{query}"
        );
    }
}
