//! Files that commands bring or take.

use aws_lc_rs::digest;
use quarterdeck_server::hex;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::support::{Fixture, send};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn put(fixture: &Fixture, id: &str, query: &str) -> RequestBuilder {
    fixture.client.put(fixture.url(&format!("/uploads/{id}{query}")))
}

#[tokio::test]
async fn a_device_brings_what_its_own_command_asked_for() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let secret = fixture.device(&admin, "default", "pi-1").await;
    let other = fixture.device(&admin, "default", "pi-2").await;
    let id = fixture
        .command(&admin, "default", "pi-1", "file_pull", json!({ "path": "/var/log/app.log" }))
        .await;
    let ping = fixture.command(&admin, "default", "pi-1", "ping", json!({})).await;
    let content = vec![b'x'; 3_000_000];
    let query = format!("?name=app.log&sha256={}", sha256(&content));
    let bring = |id: &str, who: &str, secret: &str, content: &[u8], query: &str| {
        send(put(&fixture, id, query).basic_auth(who, Some(secret)).body(content.to_vec()))
    };
    bring(&id, "default/pi-2", &other, &content, &query).await.problem(404, "not_found");
    bring(&ping, "default/pi-1", &secret, &content, &query).await.problem(404, "not_found");
    bring(&id, "default/pi-1", &secret, b"other", &query).await.problem(422, "invalid");
    let output = format!("/projects/default/commands/{id}/output");
    fixture.get(&output, &admin).await.problem(404, "no_output");

    let brought = bring(&id, "default/pi-1", &secret, &content, &query).await.expect(201);
    assert_eq!(
        (brought["size_bytes"].as_u64(), brought["name"].as_str()),
        (Some(3_000_000), Some("app.log"))
    );
    // The answer was lost: the same again is fine, something else is not.
    bring(&id, "default/pi-1", &secret, &content, &query).await.expect(200);
    bring(&id, "default/pi-1", &secret, b"something else", "").await.problem(409, "other_content");

    let given = fixture.get(&output, &admin).await;
    assert_eq!(given.headers["content-disposition"], "attachment; filename=\"app.log\"");
    assert_eq!(given.headers["content-length"], "3000000");
    given.expect(200);
    let tag = format!("\"{}\"", sha256(&content));
    let request = fixture.request(Method::GET, &output, &admin).header("if-none-match", tag);
    assert_eq!(send(request).await.status, 304);

    fixture
        .call(Method::POST, &format!("/projects/default/commands/{ping}/cancel"), &admin, None)
        .await
        .expect(200);
    let late =
        fixture.command(&admin, "default", "pi-1", "file_pull", json!({ "path": "/x" })).await;
    fixture
        .call(Method::POST, &format!("/projects/default/commands/{late}/cancel"), &admin, None)
        .await
        .expect(200);
    bring(&late, "default/pi-1", &secret, b"x", "").await.problem(409, "already_finished");
    let audit = fixture
        .get("/projects/default/audit?action=file.upload&outcome=ok", &admin)
        .await
        .expect(200);
    assert_eq!(
        (audit["total"].as_u64(), audit["items"][0]["actor"].as_str()),
        (Some(1), Some("device:pi-1"))
    );
}

#[tokio::test]
async fn an_operator_brings_a_file_that_only_its_device_may_take() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let ops = fixture.member(&admin, "ops", "default", "operator").await;
    let viv = fixture.member(&admin, "viv", "default", "viewer").await;
    fixture.project(&admin, "other").await;
    let stranger = fixture.member(&admin, "sam", "other", "admin").await;
    let secret = fixture.device(&admin, "default", "pi-1").await;
    let other = fixture.device(&admin, "default", "pi-2").await;
    let id = fixture.clock.new_uuid().to_string();
    let bring =
        |token: &str| send(put(&fixture, &id, "?name=a.conf").bearer_auth(token).body("content"));
    bring(&viv).await.problem(403, "forbidden");
    bring(&stranger).await.problem(404, "not_found");
    bring(&ops).await.expect(201);

    let path = format!("/uploads/{id}");
    let take = |who: &str, secret: &str| {
        send(fixture.client.get(fixture.url(&path)).basic_auth(who, Some(secret)))
    };
    take("default/pi-1", &secret).await.problem(404, "not_found");
    // A file that is not here, or another project's, is missed before any device misses it.
    let elsewhere = fixture.clock.new_uuid().to_string();
    let foreign = put(&fixture, &elsewhere, "?project=other").bearer_auth(&admin).body("theirs");
    send(foreign).await.expect(201);
    for unknown in [fixture.clock.new_uuid().to_string(), elsewhere] {
        for (kind, payload) in [
            ("file_push", json!({ "path": "/etc/a.conf", "upload_id": unknown })),
            ("config_update", json!({ "type": "app", "upload_id": unknown })),
        ] {
            let body = json!({ "targets": { "devices": ["pi-1"] }, "type": kind, "payload": payload, "confirm": true });
            let refused = fixture.post("/projects/default/commands", &ops, &body).await;
            assert_eq!(refused.problem(422, "invalid")["field"], "payload.upload_id");
        }
    }
    let payload = json!({ "type": "app", "upload_id": id });
    let update = fixture.command(&ops, "default", "pi-2", "config_update", payload).await;
    assert_eq!(take("default/pi-2", &other).await.text, "content");
    let cancel = format!("/projects/default/commands/{update}/cancel");
    fixture.call(Method::POST, &cancel, &ops, None).await.expect(200);
    let payload = json!({ "path": "/etc/a.conf", "upload_id": id });
    let push = fixture.command(&ops, "default", "pi-1", "file_push", payload).await;
    assert_eq!(take("default/pi-1", &secret).await.text, "content");
    take("default/pi-2", &other).await.problem(404, "not_found");
    fixture
        .call(Method::POST, &format!("/projects/default/commands/{push}/cancel"), &ops, None)
        .await
        .expect(200);
    take("default/pi-1", &secret).await.problem(404, "not_found");

    assert_eq!(fixture.get(&path, &viv).await.text, "content");
    fixture.get(&path, &stranger).await.problem(404, "not_found");
    let taken = send(put(&fixture, &push, "").bearer_auth(&ops).body("x")).await;
    taken.problem(409, "id_taken");
    send(put(&fixture, "not-a-uuid", "").bearer_auth(&ops).body("x"))
        .await
        .problem(404, "not_found");
    send(put(&fixture, &id, "?sha256=xyz").bearer_auth(&ops).body("x"))
        .await
        .problem(422, "invalid");
}

#[tokio::test]
async fn an_id_of_another_project_is_not_found_and_stays_free_for_its_device() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.project(&admin, "other").await;
    let ops = fixture.member(&admin, "ops", "default", "operator").await;
    let secret = fixture.device(&admin, "other", "pi-1").await;
    let pull = fixture.command(&admin, "other", "pi-1", "file_pull", json!({ "path": "/x" })).await;
    let bring = |id: &str, token: &str, query: &str| {
        send(put(&fixture, id, query).bearer_auth(token).body("theirs"))
    };
    bring(&pull, &ops, "").await.problem(404, "not_found");
    let own = put(&fixture, &pull, "").basic_auth("other/pi-1", Some(secret)).body("ours");
    send(own).await.expect(201);
    bring(&pull, &ops, "").await.problem(404, "not_found");
    // Nor is a file that another project's operator brought.
    let id = fixture.clock.new_uuid().to_string();
    bring(&id, &admin, "?project=other").await.expect(201);
    bring(&id, &ops, "").await.problem(404, "not_found");
    let denied = "/projects/default/audit?action=file.upload&outcome=denied";
    let viv = fixture.member(&admin, "viv", "default", "viewer").await;
    bring(&id, &viv, "").await.problem(403, "forbidden");
    let denied = fixture.get(denied, &admin).await.expect(200);
    assert_eq!(denied["items"][0]["object"], format!("file:{id}"));
}

#[tokio::test]
async fn a_file_that_is_too_long_is_refused_before_it_is_read() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let id = fixture.clock.new_uuid().to_string();
    let request =
        put(&fixture, &id, "").bearer_auth(&admin).header("content-length", (1_u64 << 30) + 1);
    let body = reqwest::Body::wrap_stream(futures_util::stream::pending::<
        Result<Vec<u8>, std::io::Error>,
    >());
    send(request.body(body)).await.problem(413, "too_large");
    let left = std::fs::read_dir(fixture.folder.path().join("data/uploads")).unwrap().count();
    assert_eq!(left, 0);
}
