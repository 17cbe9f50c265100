//! A creating request that is repeated creates nothing more.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::{Answer, Fixture};

async fn post(fixture: &Fixture, path: &str, token: &str, key: &str, body: &Value) -> Answer {
    fixture.post_with_key(path, token, body, key).await
}

const COMMANDS: &str = "/projects/default/commands";

#[tokio::test]
async fn the_same_key_and_body_get_the_same_answer_and_another_body_409() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let body = json!({ "targets": { "devices": ["pi-1"] }, "type": "ping" });
    let first = post(&fixture, COMMANDS, &admin, "k-1", &body).await;
    let again = post(&fixture, COMMANDS, &admin, "k-1", &body).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert_eq!(first.status, 201);
    let other = json!({ "targets": { "devices": ["pi-1"] }, "type": "system_info" });
    post(&fixture, COMMANDS, &admin, "k-1", &other).await.problem(409, "idempotency_key_reused");
    post(&fixture, COMMANDS, &admin, "k-2", &body).await.expect(201);
    assert_eq!(fixture.get(COMMANDS, &admin).await.expect(200)["total"], 2);
    // The same key of somebody else, or for another route, is another one.
    let ops = fixture.member(&admin, "ops", "default", "operator").await;
    post(&fixture, COMMANDS, &ops, "k-1", &body).await.expect(201);
    post(&fixture, "/projects/default/enrollment-tokens", &admin, "k-1", &json!({}))
        .await
        .problem(409, "idempotency_key_reused");
    // It outlives a restart.
    let fixture = fixture.restart().await;
    assert_eq!(post(&fixture, COMMANDS, &admin, "k-1", &body).await.text, first.text);
}

#[tokio::test]
async fn of_many_at_once_one_is_done_and_all_get_its_answer() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let body = json!({ "targets": { "devices": ["pi-1"] }, "type": "ping" });
    let asks = (0..20).map(|_| post(&fixture, COMMANDS, &admin, "once", &body));
    let answers: BTreeSet<String> = futures_util::future::join_all(asks)
        .await
        .into_iter()
        .map(|a| a.expect(201).to_string())
        .collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(fixture.get(COMMANDS, &admin).await.expect(200)["total"], 1);
}

#[tokio::test]
async fn a_refused_request_is_not_remembered() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let body = json!({ "targets": { "devices": ["pi-1"] }, "type": "ping" });
    post(&fixture, COMMANDS, &admin, "k", &body).await.expect(422);
    fixture.device(&admin, "default", "pi-1").await;
    post(&fixture, COMMANDS, &admin, "k", &body).await.expect(201);
}

#[tokio::test]
async fn a_secret_is_answered_again_but_not_stored_in_the_clear() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let body = json!({ "name": "ci", "project": "default", "role": "viewer" });
    let first = post(&fixture, "/service-tokens", &admin, "my-own-key", &body).await.expect(201);
    let again = post(&fixture, "/service-tokens", &admin, "my-own-key", &body).await.expect(201);
    assert_eq!(first, again);
    let token = first["token"].as_str().unwrap().to_owned();
    let folder = fixture.folder;
    fixture.running.shutdown().await;
    for text in [token.as_str(), "my-own-key"] {
        assert!(!is_stored(&folder, text), "{text}");
    }
}

#[tokio::test]
async fn an_enrolment_is_done_once_for_a_key_and_its_secret_is_not_in_the_clear() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let tokens = "/projects/default/enrollment-tokens";
    let token = fixture.post(tokens, &admin, &json!({ "uses": 3 })).await.expect(201);
    let body = |device: &str| json!({ "token": token["token"], "device_id": device });
    let first = post(&fixture, "/enroll", "", "k", &body("pi-1")).await.expect(201);
    let again = post(&fixture, "/enroll", "", "k", &body("pi-1")).await.expect(201);
    assert_eq!(first, again);
    post(&fixture, "/enroll", "", "k", &body("pi-2")).await.problem(409, "idempotency_key_reused");
    assert_eq!(fixture.get(tokens, &admin).await.expect(200)["items"][0]["used"], 1);
    // Another token's key is another one, and a wrong token is refused as ever.
    let other = fixture.post(tokens, &admin, &json!({})).await.expect(201);
    let with = |token: &Value| json!({ "token": token, "device_id": "pi-3" });
    post(&fixture, "/enroll", "", "k", &with(&other["token"])).await.expect(201);
    post(&fixture, "/enroll", "", "k", &with(&json!("qde_guess")))
        .await
        .problem(401, "invalid_token");

    let folder = fixture.folder;
    fixture.running.shutdown().await;
    assert!(!is_stored(&folder, first["device_secret"].as_str().unwrap()));
}

/// Tells whether a text stands anywhere in what a server leaves on its disk.
fn is_stored(folder: &tempfile::TempDir, text: &str) -> bool {
    let files = std::fs::read_dir(folder.path().join("data"))
        .expect("a folder")
        .map(|file| file.expect("a file").path());
    files.filter(|path| path.is_file()).any(|path| {
        let bytes = std::fs::read(&path).expect("readable");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn credentials_and_tickets_are_made_once_for_a_key() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for (path, body, other) in [
        ("/projects/default/devices/cam-1/credentials", json!({}), json!({ "x": 1 })),
        (
            "/projects/default/tickets",
            json!({ "for": "live" }),
            json!({ "for": "live", "mode": null }),
        ),
    ] {
        let first = post(&fixture, path, &admin, path, &body).await.expect(201);
        let again = post(&fixture, path, &admin, path, &body).await.expect(201);
        assert_eq!(first, again, "{path}");
        let reused = post(&fixture, path, &admin, path, &other).await;
        reused.problem(409, "idempotency_key_reused");
        // Without a key each is a new one.
        let new = fixture.post(path, &admin, &body).await.expect(201);
        assert_ne!(first, new, "{path}");
    }
}

#[tokio::test]
async fn a_bad_key_is_named_and_users_and_projects_take_one_too() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let long = "k".repeat(256);
    let user = json!({ "username": "ops", "password": "long enough" });
    let problem = post(&fixture, "/users", &admin, &long, &user).await.problem(422, "invalid");
    assert_eq!(problem["field"], "Idempotency-Key");
    post(&fixture, "/users", &admin, "a key", &user).await.problem(422, "invalid");
    let first = post(&fixture, "/users", &admin, "u", &user).await.expect(201);
    assert_eq!(post(&fixture, "/users", &admin, "u", &user).await.expect(201), first);
    let project = json!({ "id": "alpha" });
    let first = post(&fixture, "/projects", &admin, "p", &project).await.expect(201);
    assert_eq!(post(&fixture, "/projects", &admin, "p", &project).await.expect(201), first);
}
