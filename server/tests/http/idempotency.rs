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
    let folder = fixture.folder.path().join("data");
    fixture.running.shutdown().await;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            for secret in [token.as_bytes(), b"my-own-key"] {
                assert!(!bytes.windows(secret.len()).any(|w| w == secret), "{}", path.display());
            }
        }
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
    let first = post(&fixture, "/users", &admin, "u", &user).await.expect(201);
    assert_eq!(post(&fixture, "/users", &admin, "u", &user).await.expect(201), first);
    let project = json!({ "id": "alpha" });
    let first = post(&fixture, "/projects", &admin, "p", &project).await.expect(201);
    assert_eq!(post(&fixture, "/projects", &admin, "p", &project).await.expect(201), first);
}
