//! The WebSocket that keeps a console up to date.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

use super::support::Fixture;

/// Long enough for a busy machine; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Live(WebSocketStream<MaybeTlsStream<TcpStream>>);

async fn ticket(fixture: &Fixture, token: &str, project: &str) -> String {
    let path = format!("/projects/{project}/tickets");
    let ticket = fixture.post(&path, token, &json!({ "for": "live" })).await.expect(201);
    assert_eq!(ticket["expires_in"], 30);
    ticket["ticket"].as_str().expect("a ticket").to_owned()
}

fn url(fixture: &Fixture, project: &str, ticket: &str) -> String {
    format!("ws://{}/api/v1/projects/{project}/live?ticket={ticket}", fixture.running.http_address)
}

/// The status with which opening was refused.
async fn refused(request: impl tungstenite::client::IntoClientRequest + Unpin) -> u16 {
    match connect_async(request).await {
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

impl Live {
    async fn open(fixture: &Fixture, token: &str) -> Self {
        let ticket = ticket(fixture, token, "default").await;
        let (socket, _) = connect_async(url(fixture, "default", &ticket)).await.expect("opened");
        let mut live = Self(socket);
        assert_eq!(live.next("hello").await["version"], 1);
        live
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    async fn subscribe(&mut self, id: u32, listing: &str, filter: Value) {
        self.send(json!({ "type": "subscribe", "id": id, "listing": listing, "filter": filter, "offset": 0, "limit": 50 })).await;
    }

    /// The next message of a kind; others are passed over.
    async fn next(&mut self, kind: &str) -> Value {
        let wait = async {
            loop {
                let message = self.0.next().await.expect("open").expect("readable");
                if let Message::Text(text) = message {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if message["type"] == kind {
                        return message;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {kind}"))
    }

    /// The last error, and the code of the close.
    async fn closed(&mut self) -> (String, u16) {
        let wait = async {
            let mut code = String::new();
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        let message: Value = serde_json::from_str(&text).expect("JSON");
                        if message["type"] == "error" && message.get("id").is_none() {
                            message["code"].as_str().unwrap_or_default().clone_into(&mut code);
                        }
                    }
                    Some(Ok(Message::Close(frame))) => {
                        return (code, frame.map_or(0, |f| f.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return (code, 0),
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("closed")
    }
}

#[tokio::test]
async fn a_window_begins_with_a_snapshot_and_goes_on_with_what_changes() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let mut live = Live::open(&fixture, &admin).await;
    live.subscribe(1, "devices", json!({})).await;
    let snapshot = live.next("snapshot").await;
    assert_eq!((snapshot["id"].as_u64(), snapshot["total"].as_u64()), (Some(1), Some(1)));
    assert_eq!(
        (snapshot["items"][0]["key"].as_str(), snapshot["items"][0]["data"]["status"].as_str()),
        (Some("pi-1"), Some("offline"))
    );

    fixture.device(&admin, "default", "pi-0").await;
    let changes = live.next("changes").await;
    assert_eq!(changes["order"], json!(["pi-0", "pi-1"]));
    assert_eq!(
        (changes["total"].as_u64(), changes["items"].as_array().unwrap().len()),
        (Some(2), 1)
    );

    let tags = json!({ "tags": { "site": "berlin" } });
    fixture
        .call(Method::PATCH, "/projects/default/devices/pi-1", &admin, Some(&tags))
        .await
        .expect(200);
    loop {
        let changes = live.next("changes").await;
        let row = &changes["items"][0];
        if row["key"] == "pi-1" && row["data"]["tags"]["site"] == "berlin" {
            assert!(changes.get("order").is_none());
            break;
        }
    }
    live.send(json!({ "type": "window", "id": 1, "offset": 1, "limit": 1 })).await;
    let moved = live.next("snapshot").await;
    assert_eq!(
        (moved["offset"].as_u64(), moved["items"][0]["key"].as_str()),
        (Some(1), Some("pi-1"))
    );
}

/// Waits until a row of a window says something.
async fn row_says(live: &mut Live, field: &str, value: &str) {
    loop {
        let changes = live.next("changes").await;
        let items = changes["items"].as_array().expect("a list");
        if items.iter().any(|row| row["data"][field] == value) {
            return;
        }
    }
}

#[tokio::test]
async fn a_commands_row_says_the_state_of_its_device_and_follows_it() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    fixture.device(&admin, "default", "pi-2").await;
    fixture.command(&admin, "default", "pi-1", "ping", json!({})).await;
    let page = fixture.get("/projects/default/commands", &admin).await.expect(200);
    assert_eq!(page["items"][0]["device_status"], "offline");
    let mut live = Live::open(&fixture, &admin).await;
    live.subscribe(1, "commands", json!({ "type": "ping" })).await;
    let snapshot = live.next("snapshot").await;
    assert_eq!(snapshot["items"][0]["data"]["device_status"], "offline");
    // Nobody is told of the device that is not shown.
    for device in ["pi-2", "pi-1"] {
        let path = format!("/projects/default/devices/{device}/retire");
        fixture.call(Method::POST, &path, &admin, None).await.expect(200);
    }
    row_says(&mut live, "device_status", "retired").await;
}

#[tokio::test]
async fn a_window_and_a_page_let_the_same_rows_through() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for device in ["pi-1", "pi-2", "gw-1"] {
        fixture.device(&admin, "default", device).await;
        fixture.command(&admin, "default", device, "ping", json!({})).await;
        fixture.command(&admin, "default", device, "disk_usage", json!({})).await;
    }
    let mut live = Live::open(&fixture, &admin).await;
    for (id, (listing, name, value, count)) in [
        ("commands", "q", "pi-", Some(4)),
        ("commands", "q", "!pi-", Some(2)),
        ("commands", "q", "~p1 !ping", Some(1)),
        ("commands", "type", "!ping", Some(3)),
        ("commands", "device", "~p,!pi-2", Some(2)),
        ("devices", "q", "~g1", Some(1)),
        ("devices", "device", "!pi-1", Some(2)),
        ("audit", "action", "!command.create", None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut url = reqwest::Url::parse("http://x/").expect("a URL");
        url.query_pairs_mut().append_pair(name, value);
        let path = format!("/projects/default/{listing}?{}", url.query().expect("a query"));
        let page = fixture.get(&path, &admin).await.expect(200);
        live.subscribe(id as u32, listing, json!({ name: value })).await;
        let snapshot = live.next("snapshot").await;
        let shown: Vec<_> =
            snapshot["items"].as_array().unwrap().iter().map(|row| &row["data"]).collect();
        let key = if listing == "audit" { "seq" } else { "id" };
        let listed = page["items"].as_array().unwrap();
        assert!(
            shown.iter().map(|row| &row[key]).eq(listed.iter().map(|item| &item[key])),
            "{name}={value}"
        );
        if let Some(count) = count {
            assert_eq!((listed.len(), &page["total"]), (count, &json!(count)), "{name}={value}");
        }
    }
    live.subscribe(99, "commands", json!({ "colour": "red" })).await;
    let refused = live.next("error").await;
    assert!(refused["detail"].as_str().unwrap().starts_with("colour: no such filter"), "{refused}");
    let long = "x".repeat(201);
    fixture
        .get(&format!("/projects/default/commands?q={long}"), &admin)
        .await
        .problem(422, "invalid");
}

#[tokio::test]
async fn every_listing_can_be_watched() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.device(&admin, "default", "pi-1").await;
    let command = fixture.command(&admin, "default", "pi-1", "ping", json!({})).await;
    let mut live = Live::open(&fixture, &admin).await;
    for (id, (listing, filter, is_empty)) in [
        ("devices", json!({}), false),
        ("devices", json!({ "id": "pi-1" }), false),
        ("commands", json!({ "status": "queued" }), false),
        ("commands", json!({ "id": command }), false),
        ("timeline", json!({ "command": command }), false),
        ("timeline", json!({ "device": "pi-1" }), false),
        ("output", json!({ "command": command }), true),
        ("alerts", json!({}), true),
        ("audit", json!({ "outcome": "ok" }), false),
        ("operations", json!({}), false),
        ("users", json!({}), false),
        ("projects", json!({}), false),
        ("members", json!({}), true),
        ("enrollment_tokens", json!({}), false),
        ("overview", json!({}), false),
    ]
    .into_iter()
    .enumerate()
    {
        live.subscribe(id as u32, listing, filter).await;
        let snapshot = live.next("snapshot").await;
        assert_eq!(snapshot["id"], id);
        assert_eq!(
            snapshot["items"].as_array().unwrap().is_empty(),
            is_empty,
            "{listing}: {snapshot}"
        );
    }
}

#[tokio::test]
async fn what_people_change_is_seen_live() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let mut live = Live::open(&fixture, &admin).await;
    live.subscribe(1, "users", json!({})).await;
    live.next("snapshot").await;
    let body = json!({ "username": "zoe", "password": "long enough" });
    fixture.post("/users", &admin, &body).await.expect(201);
    while live.next("changes").await["total"] != 2 {}
    live.send(json!({ "type": "unsubscribe", "id": 1 })).await;

    live.subscribe(2, "audit", json!({ "action": "command.create" })).await;
    live.next("snapshot").await;
    fixture.device(&admin, "default", "pi-1").await;
    fixture.command(&admin, "default", "pi-1", "ping", json!({})).await;
    while live.next("changes").await["total"] != 1 {}
}

#[tokio::test]
async fn the_server_speaks_every_second_and_answers_pings() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let mut live = Live::open(&fixture, &admin).await;
    live.next("heartbeat").await;
    live.send(json!({ "type": "ping", "nonce": 42 })).await;
    assert_eq!(live.next("pong").await["nonce"], 42);
    live.next("heartbeat").await;
}

#[tokio::test]
async fn a_ticket_opens_one_socket_of_its_project_from_here() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.project(&admin, "other").await;
    let good = ticket(&fixture, &admin, "default").await;
    let (_open, _) = connect_async(url(&fixture, "default", &good)).await.expect("opened");
    assert_eq!(refused(url(&fixture, "default", &good)).await, 401);
    assert_eq!(refused(url(&fixture, "default", "qdt_invented")).await, 401);
    let good = ticket(&fixture, &admin, "default").await;
    assert_eq!(refused(url(&fixture, "other", &good)).await, 401);
    // Used up by that, too.
    assert_eq!(refused(url(&fixture, "default", &good)).await, 401);

    let with_origin = |ticket: &str, origin: &str| {
        let mut request =
            url(&fixture, "default", ticket).into_client_request().expect("a request");
        request.headers_mut().insert("origin", origin.parse().expect("a value"));
        request
    };
    let good = ticket(&fixture, &admin, "default").await;
    assert_eq!(refused(with_origin(&good, "https://evil.example")).await, 403);
    let own = format!("http://{}", fixture.running.http_address);
    let mut twice = with_origin(&good, &own);
    twice.headers_mut().append("origin", "https://evil.example".parse().expect("a value"));
    assert_eq!(refused(twice).await, 403);
    connect_async(with_origin(&good, &own)).await.expect("the same host");

    let plain = fixture.get("/projects/default/live?ticket=x", "").await;
    assert!(plain.status.is_client_error());
    let unnamed =
        fixture.post("/projects/default/tickets", &admin, &json!({ "for": "tunnel" })).await;
    assert_eq!(unnamed.expect(422)["field"], "tunnel_id");
    let unknown = json!({
        "for": "tunnel", "tunnel_id": "018f0000-0000-7000-8000-000000000001", "mode": "watch"
    });
    fixture.post("/projects/default/tickets", &admin, &unknown).await.expect(404);
}

#[tokio::test]
async fn what_a_role_may_not_see_is_refused_and_the_rest_goes_on() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let viewer = fixture.member(&admin, "viv", "default", "viewer").await;
    let mut live = Live::open(&fixture, &viewer).await;
    for (id, listing) in [(1, "users"), (2, "enrollment_tokens")] {
        live.subscribe(id, listing, json!({})).await;
        let error = live.next("error").await;
        assert_eq!(
            (error["id"].as_u64(), error["code"].as_str()),
            (Some(u64::from(id)), Some("forbidden"))
        );
    }
    live.subscribe(3, "devices", json!({ "colour": "red" })).await;
    let error = live.next("error").await;
    assert_eq!((error["id"].as_u64(), error["code"].as_str()), (Some(3), Some("invalid")));
    live.send(json!({ "type": "subscribe", "id": 4, "listing": "devices", "limit": 501 })).await;
    assert_eq!(live.next("error").await["id"], 4);
    live.send(json!({ "type": "window", "id": 9, "limit": 5 })).await;
    assert_eq!(live.next("error").await["code"], "unknown_window");
    for bad in [
        json!({ "type": "subscribe", "id": 6, "listing": "dreams", "limit": 5 }),
        json!({ "type": "subscribe", "id": 6, "listing": "devices", "limit": 5, "filter": { "q": 1 } }),
        json!({ "type": "subscribe", "id": 6, "listing": "devices", "limit": 5, "fliter": {} }),
    ] {
        live.send(bad).await;
        let error = live.next("error").await;
        assert_eq!((error["id"].as_u64(), error["code"].as_str()), (Some(6), Some("invalid")));
    }
    live.subscribe(5, "projects", json!({})).await;
    assert_eq!(live.next("snapshot").await["total"], 1);
}

#[tokio::test]
async fn at_most_32_windows_are_watched() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let mut live = Live::open(&fixture, &admin).await;
    for id in 0..33 {
        live.subscribe(id, "devices", json!({})).await;
    }
    let error = live.next("error").await;
    assert_eq!(
        (error["id"].as_u64(), error["code"].as_str()),
        (Some(32), Some("too_many_windows"))
    );
}

#[tokio::test]
async fn garbage_and_what_is_too_long_end_the_connection() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for (message, close) in [
        (Message::text("not json"), 1008),
        (Message::text(r#"{"type":"subscribe"}"#), 1008),
        (Message::binary(vec![1, 2, 3]), 1003),
        (Message::text("x".repeat(64 * 1024 + 1)), 1009),
    ] {
        let mut live = Live::open(&fixture, &admin).await;
        live.0.send(message).await.expect("sent");
        let (code, closed) = live.closed().await;
        assert_eq!(closed, close, "{code}");
    }
    fixture.get("/healthz", "").await.expect(200);
}

#[tokio::test]
async fn who_is_signed_out_or_loses_the_role_is_closed_soon() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let viewer = fixture.member(&admin, "viv", "default", "viewer").await;
    let mut live = Live::open(&fixture, &viewer).await;
    let started_ms = fixture.clock.steady();
    fixture.call(Method::POST, "/auth/logout", &viewer, None).await.expect(204);
    assert_eq!(live.closed().await, ("session_ended".to_owned(), 1008));
    let took_ms = fixture.clock.steady() - started_ms;
    assert!(took_ms < 5_000, "{took_ms} ms");

    let again = fixture.token("viv", "password of viv").await;
    let mut live = Live::open(&fixture, &again).await;
    let path = "/projects/default/members/viv";
    fixture.call(Method::PUT, path, &admin, Some(&json!({ "role": "operator" }))).await.expect(200);
    assert_eq!(live.closed().await.0, "role_changed");
    let mut live = Live::open(&fixture, &again).await;
    fixture.call(Method::DELETE, path, &admin, None).await.expect(204);
    assert_eq!(live.closed().await.0, "not_found");
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_state_and_no_backlog() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for n in 0..20 {
        fixture.device(&admin, "default", &format!("pi-{n:02}")).await;
    }
    let mut live = Live::open(&fixture, &admin).await;
    live.subscribe(1, "devices", json!({})).await;
    live.next("snapshot").await;
    // Many changes while nothing is read.
    for round in 0..15 {
        for n in 0..20 {
            let tags = json!({ "tags": { "round": format!("{round}") } });
            let path = format!("/projects/default/devices/pi-{n:02}");
            fixture.call(Method::PATCH, &path, &admin, Some(&tags)).await.expect(200);
        }
    }
    let mut rounds: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    let mut messages = 0;
    while rounds.len() < 20 || rounds.values().any(|round| round != "14") {
        let changes = live.next("changes").await;
        messages += 1;
        for row in changes["items"].as_array().unwrap() {
            let round = row["data"]["tags"]["round"].as_str().unwrap().to_owned();
            rounds.insert(row["key"].as_str().unwrap().to_owned(), round);
        }
    }
    assert!(messages < 300, "{messages} messages for 300 changes");
}

#[tokio::test]
async fn a_stopping_server_says_goodbye() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let mut live = Live::open(&fixture, &admin).await;
    let Fixture { running, folder, .. } = fixture;
    let stopping = tokio::spawn(running.shutdown());
    assert_eq!(live.closed().await, ("stopping".to_owned(), 1001));
    tokio::time::timeout(PATIENCE, stopping).await.expect("in time").expect("stopped");
    drop(folder);
}
