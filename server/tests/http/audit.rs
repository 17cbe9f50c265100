//! The audit trail: what was done, what was refused, and that nobody can change it unseen.

use quarterdeck_server::store::audit::VerifyError;
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use super::support::Fixture;

/// Something to look at: a user, a project, a member, a token.
async fn with_entries() -> Fixture {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.member(&admin, "ops", "default", "operator").await;
    fixture.post("/projects/default/enrollment-tokens", &admin, &json!({})).await.expect(201);
    fixture
}

async fn tamper(fixture: &Fixture, sql: &'static str) {
    let path = fixture.folder.path().join("data/quarterdeck.db");
    let mut connection =
        SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.expect("opened");
    sqlx::query(sql).execute(&mut connection).await.expect("changed");
    connection.close().await.expect("closed");
}

/// The first bad entry, and why it is.
async fn first_bad(fixture: &Fixture) -> Option<(i64, &'static str)> {
    let app = fixture.running.app();
    let mut tx = app.store.read().await.expect("a snapshot");
    match app.auditor.verify(&mut tx, "default").await {
        Ok(_) => None,
        Err(VerifyError::Broken { seq, why, .. }) => Some((seq, why)),
        Err(VerifyError::Store(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn actions_and_refusals_are_listed_and_filtered() {
    let fixture = with_entries().await;
    let admin = fixture.admin().await;
    fixture.login("admin", "wrong password").await.expect(401);
    let all = fixture.get("/projects/default/audit?limit=1000", &admin).await.expect(200);
    let items = all["items"].as_array().unwrap();
    assert_eq!(all["total"].as_u64(), Some(items.len() as u64));
    assert_eq!(items[0]["action"], "auth.login");
    assert_eq!(
        (items[0]["outcome"].as_str(), items[0]["from"].as_str()),
        (Some("denied"), Some("127.0.0.1"))
    );
    for (query, action) in [
        ("action=member.set", "member.set"),
        ("object=user:ops&action=user.create", "user.create"),
        ("actor=ops", "auth.login"),
        ("outcome=denied", "auth.login"),
    ] {
        let page =
            fixture.get(&format!("/projects/default/audit?{query}"), &admin).await.expect(200);
        assert_eq!(
            (page["total"].as_u64(), page["items"][0]["action"].as_str()),
            (Some(1), Some(action)),
            "{query}"
        );
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = fixture
            .get(&format!("/projects/default/audit?limit=3&sort=seq{cursor}"), &admin)
            .await
            .expect(200);
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|entry| entry["seq"].as_i64().unwrap()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, (1..=items.len() as i64).collect::<Vec<_>>());
    let none =
        fixture.get("/projects/default/audit?to=2000-01-01T00:00:00Z", &admin).await.expect(200);
    assert_eq!(none["total"], 0);
    fixture.get("/projects/default/audit?outcome=maybe", &admin).await.problem(422, "invalid");
}

#[tokio::test]
async fn no_password_or_token_is_in_the_trail() {
    let fixture = with_entries().await;
    let admin = fixture.admin().await;
    let text = fixture.get("/projects/default/audit?limit=1000", &admin).await.text;
    assert!(
        !text.contains("password of ops") && !text.contains("qde_") && !text.contains("argon2")
    );
}

#[tokio::test]
async fn an_edited_entry_is_named() {
    let fixture = with_entries().await;
    assert_eq!(first_bad(&fixture).await, None);
    tamper(&fixture, "UPDATE audit SET actor = 'somebody' WHERE seq = 3").await;
    assert_eq!(first_bad(&fixture).await.map(|bad| bad.0), Some(3));
}

#[tokio::test]
async fn a_removed_entry_and_a_cut_tail_are_named() {
    let fixture = with_entries().await;
    tamper(&fixture, "DELETE FROM audit WHERE seq = 2").await;
    assert_eq!(first_bad(&fixture).await, Some((2, "it is missing")));

    let fixture = with_entries().await;
    tamper(&fixture, "DELETE FROM audit WHERE seq > 4").await;
    assert_eq!(first_bad(&fixture).await, Some((5, "the chain's tail was cut")));
}

#[tokio::test]
async fn a_tail_that_was_cut_with_its_head_changed_is_named() {
    let fixture = with_entries().await;
    tamper(&fixture, "DELETE FROM audit WHERE seq > 4").await;
    tamper(
        &fixture,
        "UPDATE audit_heads SET seq = 4, hash = (SELECT hash FROM audit WHERE seq = 4)",
    )
    .await;
    let (seq, why) = first_bad(&fixture).await.expect("bad");
    assert_eq!(seq, 4);
    assert!(why.contains("signature"), "{why}");

    let fixture = with_entries().await;
    tamper(&fixture, "DELETE FROM audit_heads").await;
    assert!(first_bad(&fixture).await.is_some_and(|(_, why)| why.contains("head is missing")));
}

#[tokio::test]
async fn each_project_has_a_chain_of_its_own_from_its_first_moment() {
    let fixture = with_entries().await;
    let admin = fixture.admin().await;
    fixture.project(&admin, "other").await;
    let trail = fixture.get("/projects/other/audit", &admin).await.expect(200);
    assert_eq!(
        (trail["total"].as_u64(), trail["items"][0]["action"].as_str()),
        (Some(1), Some("project.create"))
    );
    let app = fixture.running.app();
    let mut tx = app.store.read().await.expect("a snapshot");
    assert_eq!(app.auditor.verify(&mut tx, "other").await.expect("holds").entries, 1);
}
