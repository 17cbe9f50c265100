//! Signing in, staying signed in, and being signed out.

use quarterdeck_protocol::time::Timestamp;
use quarterdeck_server::clock::Clock;
use reqwest::Method;
use serde_json::json;

use super::support::{ADMIN_PASSWORD, Fixture};

fn manual() -> Clock {
    Clock::manual(Timestamp::from_millis(1_800_000_000_000), 1_000, 7)
}

#[tokio::test]
async fn a_login_gives_tokens_and_me_tells_who_it_is() {
    let fixture = Fixture::start().await;
    let tokens = fixture.login("admin", ADMIN_PASSWORD).await.expect(200);
    assert_eq!(tokens["expires_in"], 600);
    let me = fixture.get("/auth/me", tokens["access_token"].as_str().unwrap()).await.expect(200);
    assert_eq!(
        me,
        json!({ "username": "admin", "admin": true, "projects": { "default": "admin" } })
    );
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_alike() {
    let fixture = Fixture::start().await;
    let mut wrong =
        fixture.login("admin", "wrong password").await.problem(401, "wrong_credentials");
    let mut unknown =
        fixture.login("nobody", "wrong password").await.problem(401, "wrong_credentials");
    for body in [&mut wrong, &mut unknown] {
        body["request_id"] = json!("");
    }
    assert_eq!(wrong, unknown);
}

#[tokio::test]
async fn without_a_good_token_nothing_is_said() {
    let fixture = Fixture::start().await;
    let answer = fixture.get("/auth/me", "").await;
    assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    answer.problem(401, "unauthorized");
    for bad in ["x", "qds_unknown", "eyJhbGciOiJub25lIn0.e30."] {
        fixture.get("/projects/default/devices", bad).await.problem(401, "invalid_token");
    }
}

#[tokio::test]
async fn wrong_passwords_run_out_but_not_for_who_signed_in_from_there_before() {
    // No time passes, however long the hashes take.
    let fixture = Fixture::with_clock(manual()).await;
    fixture.admin().await;
    for n in 0..80 {
        let answer = fixture.login(&format!("guess-{n}"), "wrong password").await;
        if answer.status == 429 {
            let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait));
            answer.problem(429, "too_many_requests");
            fixture.admin().await;
            return;
        }
        answer.expect(401);
    }
    panic!("nobody was slowed down");
}

#[tokio::test]
async fn wrong_passwords_for_one_user_run_out_soon() {
    let fixture = Fixture::with_clock(manual()).await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(fixture.login("admin", "wrong password").await.status.as_u16());
    }
    assert_eq!(statuses.iter().filter(|s| **s == 401).count(), 10);
    assert_eq!(statuses[10..], [429, 429]);
    fixture.login("admin", ADMIN_PASSWORD).await.expect(429);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_ends_the_session() {
    let fixture = Fixture::with_clock(manual()).await;
    let first = fixture.login("admin", ADMIN_PASSWORD).await.expect(200);
    let refresh = |token: &serde_json::Value, key: &'static str| {
        let (body, fixture) = (json!({ "refresh_token": token }), &fixture);
        async move { fixture.post_with_key("/auth/refresh", "", &body, key).await }
    };
    let second = refresh(&first["refresh_token"], "a").await.expect(200);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let access = second["access_token"].as_str().unwrap();
    fixture.get("/auth/me", access).await.expect(200);

    // A thief has the token, but cannot know what key its owner used.
    refresh(&first["refresh_token"], "b").await.problem(401, "session_ended");
    refresh(&second["refresh_token"], "a").await.problem(401, "session_ended");
    fixture.get("/auth/me", access).await.problem(401, "session_ended");

    let admin = fixture.admin().await;
    let audit =
        fixture.get("/projects/default/audit?action=auth.refresh", &admin).await.expect(200);
    assert_eq!(audit["items"][0]["outcome"], "denied");
}

#[tokio::test]
async fn a_refresh_without_a_key_is_answered_once() {
    let fixture = Fixture::start().await;
    let first = fixture.login("admin", ADMIN_PASSWORD).await.expect(200);
    let body = json!({ "refresh_token": first["refresh_token"] });
    let asks = (0..10).map(|_| fixture.post("/auth/refresh", "", &body));
    let answers = futures_util::future::join_all(asks).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_answered_alike_for_a_moment() {
    let fixture = Fixture::with_clock(manual()).await;
    let first = fixture.login("admin", ADMIN_PASSWORD).await.expect(200);
    let body = json!({ "refresh_token": first["refresh_token"] });
    let refresh = || fixture.post_with_key("/auth/refresh", "", &body, "a");
    let second = refresh().await.expect(200);
    fixture.clock.advance(9_000);
    assert_eq!(refresh().await.expect(200)["refresh_token"], second["refresh_token"]);
    fixture.clock.advance(60_000);
    refresh().await.problem(401, "session_ended");
}

#[tokio::test]
async fn an_older_refresh_token_ends_the_session_too() {
    let fixture = Fixture::with_clock(manual()).await;
    let mut token =
        fixture.login("admin", ADMIN_PASSWORD).await.expect(200)["refresh_token"].clone();
    let oldest = token.clone();
    for _ in 0..3 {
        let body = json!({ "refresh_token": token });
        token = fixture.post("/auth/refresh", "", &body).await.expect(200)["refresh_token"].clone();
    }
    fixture.post("/auth/refresh", "", &json!({ "refresh_token": oldest })).await.expect(401);
    fixture.post("/auth/refresh", "", &json!({ "refresh_token": token })).await.expect(401);
    fixture.post("/auth/refresh", "", &json!({ "refresh_token": "qdr_garbage" })).await.expect(401);
}

#[tokio::test]
async fn an_access_token_ends_after_ten_minutes_and_the_session_after_a_month_unused() {
    let fixture = Fixture::with_clock(manual()).await;
    let tokens = fixture.login("admin", ADMIN_PASSWORD).await.expect(200);
    fixture.clock.advance(601_000);
    let access = tokens["access_token"].as_str().unwrap();
    fixture.get("/auth/me", access).await.problem(401, "token_expired");
    fixture.clock.advance(31 * 24 * 3600 * 1000);
    let body = json!({ "refresh_token": tokens["refresh_token"] });
    fixture.post("/auth/refresh", "", &body).await.problem(401, "session_ended");
}

#[tokio::test]
async fn logout_disabling_and_a_new_password_end_sessions_at_once() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;

    let other = fixture.admin().await;
    fixture.call(Method::POST, "/auth/logout", &other, None).await.expect(204);
    fixture.get("/auth/me", &other).await.problem(401, "session_ended");
    fixture.get("/auth/me", &admin).await.expect(200);

    let ops = fixture.member(&admin, "ops", "default", "operator").await;
    fixture.get("/auth/me", &ops).await.expect(200);
    let change = json!({ "disabled": true });
    fixture.call(Method::PATCH, "/users/ops", &admin, Some(&change)).await.expect(200);
    fixture.get("/auth/me", &ops).await.problem(401, "session_ended");
    fixture.login("ops", "password of ops").await.problem(401, "wrong_credentials");

    let change = json!({ "disabled": false, "password": "another password" });
    fixture.call(Method::PUT, "/users/ops", &admin, Some(&change)).await.expect(200);
    fixture.get("/auth/me", &ops).await.expect(401);
    fixture.token("ops", "another password").await;
}

#[tokio::test]
async fn sessions_and_tokens_outlive_a_restart() {
    let fixture = Fixture::start().await;
    let tokens = fixture.login("admin", ADMIN_PASSWORD).await.expect(200);
    let admin = tokens["access_token"].as_str().unwrap().to_owned();
    let create = json!({ "name": "ci", "project": "default", "role": "viewer" });
    let service = fixture.post("/service-tokens", &admin, &create).await.expect(201);
    let fixture = fixture.restart().await;
    fixture.get("/auth/me", &admin).await.expect(200);
    fixture.get("/projects/default/devices", service["token"].as_str().unwrap()).await.expect(200);
    fixture
        .post("/auth/refresh", "", &json!({ "refresh_token": tokens["refresh_token"] }))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_service_token_is_good_for_its_role_in_its_project_until_revoked() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.project(&admin, "other").await;
    let create =
        json!({ "name": "ci", "project": "default", "role": "operator", "expires_in_s": 3600 });
    let created = fixture.post("/service-tokens", &admin, &create).await.expect(201);
    let token = created["token"].as_str().unwrap();
    assert!(token.starts_with("qds_"));

    let me = fixture.get("/auth/me", token).await.expect(200);
    // Its name, for people, and the end of its id.
    let id = created["id"].as_str().unwrap();
    let name = format!("service:ci#{}", id.rsplit('-').next().unwrap());
    assert_eq!(
        me,
        json!({ "username": name, "admin": false, "projects": { "default": "operator" } })
    );
    fixture.get("/projects/default/devices", token).await.expect(200);
    fixture.get("/projects/other/devices", token).await.problem(404, "not_found");
    fixture.get("/users", token).await.problem(403, "forbidden");
    fixture
        .post("/projects/default/enrollment-tokens", token, &json!({}))
        .await
        .problem(403, "forbidden");
    fixture.call(Method::POST, "/auth/logout", token, None).await.problem(409, "no_session");

    let listed = fixture.get("/service-tokens?project=default", &admin).await.expect(200);
    assert_eq!((listed["total"].as_u64(), listed["items"][0]["token"].is_null()), (Some(1), true));
    let path = format!("/service-tokens/{}", created["id"].as_str().unwrap());
    fixture.call(Method::DELETE, &path, &admin, None).await.expect(204);
    fixture.get("/projects/default/devices", token).await.problem(401, "invalid_token");
    fixture
        .call(Method::DELETE, "/service-tokens/unknown", &admin, None)
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn two_service_tokens_of_one_name_are_two() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let create = json!({ "name": "ci", "project": "default", "role": "operator" });
    let mut names = Vec::new();
    for n in 0..2 {
        let created = fixture.post("/service-tokens", &admin, &create).await.expect(201);
        let token = created["token"].as_str().unwrap();
        // The same key for another request: of one and the same that would be a mistake.
        let ping = json!({ "targets": { "devices": ["pi-1"] }, "type": "ping", "priority": n + 1 });
        fixture.post_with_key("/projects/default/commands", token, &ping, "k-1").await.expect(201);
        let path = "/projects/default/audit?action=command.create";
        let entries = fixture.get(path, &admin).await.expect(200);
        names.push(entries["items"][0]["actor"].as_str().unwrap().to_owned());
    }
    assert!(names.iter().all(|name| name.starts_with("service:ci#")), "{names:?}");
    assert_ne!(names[0], names[1]);
}
