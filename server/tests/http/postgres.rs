//! The same routes over PostgreSQL: each query of the interface, once.

use quarterdeck_server::clock::Clock;
use reqwest::Method;
use serde_json::json;

use super::{
    private_postgres::Postgres,
    support::{ADMIN_PASSWORD, Fixture, send},
};

#[tokio::test]
async fn the_interface_is_the_same_over_postgresql() {
    let Some(postgres) = Postgres::start("the_interface_is_the_same_over_postgresql").await else {
        return;
    };
    let location = postgres.database("http");
    let fixture = Fixture::with(Clock::system(None), |config| config.database = location).await;
    let tokens = fixture.login("admin", ADMIN_PASSWORD).await.expect(200);
    fixture.login("a\u{0}b", "wrong password").await.expect(422);
    fixture.login("nobody", "wrong password").await.expect(401);
    let refreshed = fixture
        .post("/auth/refresh", "", &json!({ "refresh_token": tokens["refresh_token"] }))
        .await
        .expect(200);
    let admin = refreshed["access_token"].as_str().expect("a token").to_owned();
    let ops = fixture.member(&admin, "ops", "default", "operator").await;
    fixture.project(&admin, "other").await;
    assert_eq!(
        fixture.get("/users?sort=-username&limit=1", &admin).await.expect(200)["items"][0]["username"],
        "ops"
    );
    assert_eq!(fixture.get("/projects", &ops).await.expect(200)["total"], 1);
    assert_eq!(fixture.get("/projects/default/members", &ops).await.expect(200)["total"], 1);

    let create = json!({ "name": "ci", "project": "default", "role": "viewer" });
    let keyed = || {
        let request =
            fixture.request(Method::POST, "/service-tokens", &admin).header("idempotency-key", "k");
        send(request.json(&create))
    };
    let service = keyed().await.expect(201);
    assert_eq!(keyed().await.expect(201), service);
    fixture
        .get("/projects/default/devices", service["token"].as_str().expect("a token"))
        .await
        .expect(200);
    assert_eq!(fixture.get("/service-tokens", &admin).await.expect(200)["total"], 1);
    let revoke = format!("/service-tokens/{}", service["id"].as_str().expect("an id"));
    fixture.call(Method::DELETE, &revoke, &admin, None).await.expect(204);

    let secret = fixture.device(&admin, "default", "pi-1").await;
    let command =
        fixture.command(&ops, "default", "pi-1", "file_pull", json!({ "path": "/x" })).await;
    let url = fixture.url(&format!("/uploads/{command}"));
    send(fixture.client.put(url).basic_auth("default/pi-1", Some(&secret)).body("content"))
        .await
        .expect(201);
    let output = fixture.get(&format!("/projects/default/commands/{command}/output"), &ops).await;
    assert_eq!(output.text, "content");
    let push = fixture.clock.new_uuid().to_string();
    let taken = fixture
        .client
        .get(fixture.url(&format!("/uploads/{push}")))
        .basic_auth("default/pi-1", Some(&secret));
    send(taken).await.expect(404);
    for path in [
        "settings",
        "enrollment-tokens",
        "devices?type=x&tag=a%3Db&q=x&crashed=true",
        "commands?status=queued&q=x&sort=-priority",
        "alerts?status=open",
        "operations",
        "overview",
        "devices/pi-1/timeline",
        "devices/pi-1/health",
        "audit?actor=ops&action=command.create&object=x&outcome=ok&from=2020-01-01T00:00:00Z&to=2099-01-01T00:00:00Z&sort=seq",
    ] {
        fixture.get(&format!("/projects/default/{path}"), &admin).await.expect(200);
    }
    assert!(
        fixture.get("/projects/default/audit", &admin).await.expect(200)["total"].as_u64()
            > Some(5)
    );
    let app = fixture.running.app();
    let mut tx = app.store.read().await.expect("a snapshot");
    app.auditor.verify(&mut tx, "default").await.expect("holds");
    drop(tx);
    fixture.call(Method::POST, "/auth/logout", &admin, None).await.expect(204);
    fixture.get("/auth/me", &admin).await.expect(401);
    fixture.running.shutdown().await;
}
