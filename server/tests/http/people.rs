//! Users, projects, members, settings, enrolment tokens.

use reqwest::Method;
use serde_json::json;

use super::support::Fixture;

#[tokio::test]
async fn users_are_made_listed_changed_and_disabled() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for name in ["ops", "viv", "zoe"] {
        let body = json!({ "username": name, "password": "long enough" });
        let user = fixture.post("/users", &admin, &body).await.expect(201);
        assert_eq!((user["username"].as_str(), user["admin"].as_bool()), (Some(name), Some(false)));
        assert!(user.get("password").is_none() && user.get("password_hash").is_none());
    }
    for name in ["ops", "Ops", "ADMIN"] {
        let body = json!({ "username": name, "password": "long enough" });
        fixture.post("/users", &admin, &body).await.problem(409, "username_taken");
    }

    let page = fixture.get("/users?limit=2", &admin).await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), page["total"].as_u64()), (2, Some(4)));
    let next = format!("/users?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    let page = fixture.get(&next, &admin).await.expect(200);
    assert_eq!(page["items"][0]["username"], "viv");
    assert!(page["next_cursor"].is_null());
    let page = fixture.get("/users?sort=-username", &admin).await.expect(200);
    assert_eq!(page["items"][0]["username"], "zoe");

    fixture.call(Method::DELETE, "/users/viv", &admin, None).await.expect(204);
    let page = fixture.get("/users", &admin).await.expect(200);
    assert_eq!(page["items"][2]["disabled"], true);
    fixture
        .call(Method::PATCH, "/users/nobody", &admin, Some(&json!({})))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn names_and_passwords_are_checked() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for (username, password, field) in [
        ("", "long enough", "username"),
        ("a b", "long enough", "username"),
        ("a/b", "long enough", "username"),
        ("service:x", "long enough", "username"),
        ("server", "long enough", "username"),
        ("ops", "short", "password"),
        ("ops", &"x".repeat(129), "password"),
    ] {
        let body = json!({ "username": username, "password": password });
        let problem = fixture.post("/users", &admin, &body).await.problem(422, "invalid");
        assert_eq!(problem["field"], field, "{username}");
    }
}

#[tokio::test]
async fn the_last_server_admin_stays_one() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for change in [json!({ "disabled": true }), json!({ "admin": false })] {
        fixture
            .call(Method::PATCH, "/users/admin", &admin, Some(&change))
            .await
            .problem(409, "last_admin");
    }
    let body = json!({ "username": "second", "password": "long enough", "admin": true });
    fixture.post("/users", &admin, &body).await.expect(201);
    fixture
        .call(Method::PATCH, "/users/admin", &admin, Some(&json!({ "admin": false })))
        .await
        .expect(200);
    fixture.get("/users", &admin).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_user_sees_their_own_projects() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.project(&admin, "alpha").await;
    fixture.project(&admin, "beta").await;
    fixture
        .post("/projects", &admin, &json!({ "id": "alpha" }))
        .await
        .problem(409, "project_exists");
    fixture.post("/projects", &admin, &json!({ "id": "a/b" })).await.problem(422, "invalid");
    let ops = fixture.member(&admin, "ops", "alpha", "operator").await;
    let mine = fixture.get("/projects", &ops).await.expect(200);
    assert_eq!((mine["total"].as_u64(), mine["items"][0]["id"].as_str()), (Some(1), Some("alpha")));
    assert_eq!(mine["items"][0]["role"], "operator");
    assert_eq!(fixture.get("/projects", &admin).await.expect(200)["total"], 3);
    assert_eq!(fixture.get("/projects/alpha", &ops).await.expect(200)["role"], "operator");
    fixture.get("/projects/beta", &ops).await.problem(404, "not_found");
    fixture.post("/projects", &ops, &json!({ "id": "gamma" })).await.problem(403, "forbidden");
}

#[tokio::test]
async fn members_come_change_their_role_and_go() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let ops = fixture.member(&admin, "ops", "default", "viewer").await;
    let path = "/projects/default/members/ops";
    fixture.post("/projects/default/commands", &ops, &json!({})).await.problem(403, "forbidden");
    fixture.call(Method::PUT, path, &admin, Some(&json!({ "role": "operator" }))).await.expect(200);
    fixture.post("/projects/default/commands", &ops, &json!({})).await.problem(422, "invalid");
    let members = fixture.get("/projects/default/members", &ops).await.expect(200);
    assert_eq!(members["items"], json!([{ "username": "ops", "role": "operator" }]));
    fixture
        .call(Method::PUT, path, &admin, Some(&json!({ "role": "king" })))
        .await
        .problem(422, "invalid");
    let nobody = "/projects/default/members/nobody";
    fixture
        .call(Method::PUT, nobody, &admin, Some(&json!({ "role": "viewer" })))
        .await
        .problem(404, "not_found");
    fixture.call(Method::DELETE, path, &admin, None).await.expect(204);
    fixture.call(Method::DELETE, path, &admin, None).await.problem(404, "not_found");
    fixture.get("/projects/default/members", &ops).await.problem(404, "not_found");
}

#[tokio::test]
async fn settings_are_replaced_whole_and_checked() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let path = "/projects/default/settings";
    let mut settings = fixture.get(path, &admin).await.expect(200);
    assert_eq!(settings["reboot_limit"], 3);
    settings["reboot_limit"] = json!(5);
    assert_eq!(
        fixture.call(Method::PUT, path, &admin, Some(&settings)).await.expect(200),
        settings
    );
    assert_eq!(fixture.get(path, &admin).await.expect(200), settings);
    settings["reboot_window_s"] = json!(0);
    let problem =
        fixture.call(Method::PUT, path, &admin, Some(&settings)).await.problem(422, "invalid");
    assert_eq!(problem["field"], "reboot_window_s");
    let problem = fixture
        .call(Method::PUT, path, &admin, Some(&json!({ "reboots": 1 })))
        .await
        .problem(422, "invalid");
    assert_eq!(problem["field"], "reboots");
}

#[tokio::test]
async fn enrolment_tokens_are_shown_once_and_can_be_revoked() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let path = "/projects/default/enrollment-tokens";
    let body = json!({ "uses": 2, "expires_in_s": 60, "tags": { "site": "berlin" } });
    let created = fixture.post(path, &admin, &body).await.expect(201);
    assert!(created["token"].as_str().unwrap().starts_with("qde_"));
    let listed = fixture.get(path, &admin).await.expect(200);
    assert_eq!(listed["items"][0]["tags"]["site"], "berlin");
    assert!(listed["items"][0].get("token").is_none());

    let enroll = |device: &str| json!({ "token": created["token"], "device_id": device });
    fixture.post("/enroll", "", &enroll("pi-1")).await.expect(201);
    let device = fixture.get("/projects/default/devices/pi-1", &admin).await.expect(200);
    assert_eq!(device["tags"]["site"], "berlin");
    let revoke = format!("{path}/{}", created["id"].as_str().unwrap());
    fixture.call(Method::DELETE, &revoke, &admin, None).await.expect(204);
    fixture.call(Method::DELETE, &revoke, &admin, None).await.expect(204);
    fixture
        .call(Method::DELETE, &format!("{path}/x"), &admin, None)
        .await
        .problem(404, "not_found");
    fixture.post("/enroll", "", &enroll("pi-2")).await.expect(401);
    for (field, body) in [
        ("uses", json!({ "uses": 0 })),
        ("expires_in_s", json!({ "expires_in_s": 0 })),
        ("tags.a b", json!({ "tags": { "a b": "x" } })),
    ] {
        assert_eq!(fixture.post(path, &admin, &body).await.problem(422, "invalid")["field"], field);
    }
}
