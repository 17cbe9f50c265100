//! Tunnels that are stored and that nobody serves yet: their commit was not confirmed.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use super::support::Fixture;

const PATH: &str = "/projects/default/tunnels";

/// Stores a copy of a tunnel behind the server's back, as a commit does that nobody heard of.
async fn copied(fixture: &Fixture, id: &str) -> String {
    let copy = format!("{}-{}", "018f0000-0000-7000-8000", &id[id.len() - 12..]);
    let file = fixture.folder.path().join("data/quarterdeck.db");
    let mut db =
        SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.expect("opened");
    for statement in [
        format!("CREATE TEMP TABLE copy AS SELECT * FROM tunnels WHERE id = '{id}'"),
        format!("UPDATE copy SET id = '{copy}', handle = handle + 1"),
        "INSERT INTO tunnels SELECT * FROM copy".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut db).await.expect("written");
    }
    copy
}

#[tokio::test]
async fn what_is_asked_of_a_tunnel_that_is_not_served_yet_is_not_lost() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let request = json!({ "device_id": "pi-1", "kind": "terminal" });
    let first = fixture.post(PATH, &admin, &request).await.expect(201);
    let id = copied(&fixture, first["id"].as_str().expect("an id")).await;
    let tunnel = format!("{PATH}/{id}");
    let close = format!("{tunnel}/close");
    // Several at once: each waits for whoever begins to serve it.
    let nothing = json!({});
    let asked = (0..8).map(|_| fixture.post(&close, &admin, &nothing));
    let ended = async {
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.expect(200)["close_reason"], "closed_by_user");
        }
        loop {
            let now = fixture.get(&tunnel, &admin).await.expect(200);
            if now["close_reason"].is_string() {
                return now["close_reason"].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reason = tokio::time::timeout(Duration::from_secs(15), ended).await.expect("it is closed");
    assert_eq!(reason, "closed_by_user");
    let trail = format!("/projects/default/audit?action=tunnel.close&object=tunnel:{id}");
    let trail = fixture.get(&trail, &admin).await.expect(200);
    assert_eq!(trail["total"], 1, "{trail}");
    fixture.running.shutdown().await;
}
