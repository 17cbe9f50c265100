//! The network's end of the seam to the full-screen console, over real sockets.

use std::time::Duration;

use quarterdeck_console::{
    net::session,
    tui::{
        self, NetHandle,
        effects::{ApiAnswer, ApiRequest, NetRequest, RequestId},
        mailbox::{Batch, LinkEvent},
    },
};
use quarterdeck_protocol::{
    api::{CreateCommands, Targets},
    ids::{CommandId, ProjectId},
    live::{ClientMessage, Listing},
};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{
    live::{accept, client, heard, hello, say},
    samples::{BATCH, command, command_id},
    stub::{Reply, Request, Stub},
};

fn server(request: &Request) -> Reply {
    let route = request.route();
    if route.ends_with("/tickets") {
        Reply::json(201, &json!({"ticket": "one-use", "expires_in": 30}))
    } else if route == "POST /projects/default/commands" {
        let commands = [command(1, "queued")];
        Reply::json(
            201,
            &json!({"batch_id": BATCH, "count": 1, "offline": 0, "warnings": [], "commands": commands}),
        )
    } else if route.ends_with("/retry") {
        Reply::problem(409, "not_finished", "it runs still")
    } else if route.ends_with("/output") {
        Reply { status: 200, headers: vec![], body: b"syslog\n".to_vec(), is_cut: false }
    } else if route.contains("/alerts/") {
        Reply::cut()
    } else {
        Reply::problem(401, "unauthenticated", "no")
    }
}

fn start(stub: &Stub) -> (NetHandle, JoinHandle<()>) {
    let (handle, peer) = tui::net_channel();
    let project = ProjectId::new("default").expect("a name");
    (handle, tokio::spawn(session::serve(client(stub), project, peer)))
}

async fn take(handle: &NetHandle) -> Batch {
    tokio::time::timeout(Duration::from_secs(30), handle.mailbox.take(tokio::time::Instant::now()))
        .await
        .expect("in time")
}

async fn call(handle: &NetHandle, id: u64, call: ApiRequest) -> Batch {
    let request = NetRequest::Call { id: RequestId(id), call };
    handle.requests.send(request).await.expect("served");
    loop {
        let batch = take(handle).await;
        if !batch.answers.is_empty() {
            assert_eq!(batch.answers.len(), 1);
            assert_eq!(batch.answers[0].0, RequestId(id));
            return batch;
        }
    }
}

#[tokio::test]
async fn each_call_is_answered_with_its_body_or_a_problem() {
    let stub = Stub::start(server).await;
    let (handle, task) = start(&stub);
    let mut socket = accept(&stub).await;
    say(&mut socket, &hello()).await;
    assert!(matches!(take(&handle).await.link, Some(LinkEvent::Connected(_))));

    let create = CreateCommands {
        targets: Targets { devices: vec!["pi-1".into()], groups: vec![] },
        kind: "ping".into(),
        payload: json!({}),
        priority: None,
        timeout_s: None,
        expires_in_s: None,
        notes: String::new(),
        confirm: false,
    };
    let batch = call(&handle, 1, ApiRequest::CreateCommands(create)).await;
    let Ok(ApiAnswer::Created(created)) = &batch.answers[0].1 else { panic!("{batch:?}") };
    assert_eq!(created.count, 1);

    let id: CommandId = command_id(1).parse().expect("an id");
    let batch = call(&handle, 2, ApiRequest::RetryCommand { id, confirm: true }).await;
    let Err(problem) = &batch.answers[0].1 else { panic!("{batch:?}") };
    assert_eq!((problem.status, problem.code.as_str()), (409, "not_finished"));

    let batch = call(&handle, 3, ApiRequest::AcknowledgeAlert { id: "7".into() }).await;
    let Err(problem) = &batch.answers[0].1 else { panic!("{batch:?}") };
    assert_eq!((problem.status, problem.code.as_str()), (0, "unreachable"));
    assert!(problem.detail.contains("may have been done"), "{}", problem.detail);

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let batch = call(&handle, 4, ApiRequest::SaveOutput { id, path: path.clone() }).await;
    let saved = ApiAnswer::Saved { path: path.clone(), size_bytes: 7 };
    assert_eq!(batch.answers[0].1, Ok(saved));
    assert_eq!(std::fs::read(&path).expect("saved"), b"syslog\n");

    // The login ends: that is an answer and the end of it all.
    let batch = call(&handle, 5, ApiRequest::ProjectSettings).await;
    let Err(problem) = &batch.answers[0].1 else { panic!("{batch:?}") };
    assert_eq!(problem.code, "signed_out");
    assert!(matches!(batch.link, Some(LinkEvent::SignedOut { .. })));

    drop(handle);
    tokio::time::timeout(Duration::from_secs(5), task).await.expect("ends soon").expect("well");
}

#[tokio::test]
async fn another_project_is_another_connection() {
    let stub = Stub::start(server).await;
    let (handle, _task) = start(&stub);
    let mut socket = accept(&stub).await;
    say(&mut socket, &hello()).await;
    take(&handle).await;

    let other = ProjectId::new("plant-2").expect("a name");
    handle.requests.send(NetRequest::OpenProject(other)).await.expect("served");
    let mut socket = accept(&stub).await;
    say(&mut socket, &hello()).await;
    assert!(matches!(take(&handle).await.link, Some(LinkEvent::Connected(_))));
    assert!(stub.routes().iter().any(|route| route == "POST /projects/plant-2/tickets"));
    handle.requests.send(NetRequest::Live(ClientMessage::Ping { nonce: 1 })).await.expect("served");
    assert_eq!(heard(&mut socket).await, json!({"type": "ping", "nonce": 1}));
}

#[tokio::test]
async fn a_server_that_is_away_holds_up_nothing() {
    let stub = Stub::start(|_| Reply::cut()).await;
    let (handle, task) = start(&stub);
    for nonce in 0..2_000 {
        let request = NetRequest::Live(ClientMessage::Ping { nonce });
        tokio::time::timeout(Duration::from_secs(5), handle.requests.send(request))
            .await
            .expect("taken at once")
            .expect("served");
    }
    drop(handle);
    tokio::time::timeout(Duration::from_secs(5), task).await.expect("ends soon").expect("well");
}

#[tokio::test]
async fn a_listing_is_read_page_by_page_with_the_keys_of_its_live_window() {
    let command = command_id(7);
    let entry = |seq: i64, command: Option<&str>| {
        let mut entry = json!({"seq": seq, "at": "2026-11-21T06:00:00Z", "event": "x", "by": "server", "detail": {}});
        if let Some(command) = command {
            entry["command_id"] = json!(command);
        }
        entry
    };
    let stub = Stub::start(move |request| {
        let command = command_id(7);
        match (request.route().as_str(), request.query("cursor").as_deref()) {
            ("GET /projects/default/devices/pi-1/timeline", None) => {
                Reply::page(&[entry(9, None), entry(8, Some(&command))], Some("next"), 3)
            }
            ("GET /projects/default/devices/pi-1/timeline", Some("next")) => {
                Reply::page(&[entry(7, None)], None, 3)
            }
            ("GET /projects/default/commands/c/timeline", None) => {
                Reply::page(&[entry(2, Some(&command))], None, 1)
            }
            ("GET /projects/default/members", None) => {
                Reply::page(&[json!({"username": "ops", "role": "operator"})], None, 1)
            }
            ("GET /users", None) => Reply::page(&[json!({"username": "ada"})], None, 1),
            ("GET /projects/default/operations", None) => {
                Reply::page(&[json!({"name": "ping"})], None, 1)
            }
            ("GET /projects/default/alerts", None) => Reply::page(&[json!({"id": "a1"})], None, 1),
            ("GET /projects/default/audit", None) => Reply::page(&[json!({"seq": 4})], None, 1),
            ("GET /projects/default/commands", None) => {
                Reply::problem(422, "invalid", "no such filter")
            }
            _ => Reply::problem(401, "unauthenticated", "no"),
        }
    })
    .await;
    let (handle, task) = start(&stub);
    let mut ids = 1..;
    let mut page = async |listing, filter: &[(&str, &str)], cursor: Option<&str>| {
        let request = ApiRequest::ListPage {
            listing,
            filter: filter.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            sort: None,
            cursor: cursor.map(str::to_owned),
        };
        let batch = call(&handle, ids.next().expect("endless"), request).await;
        let Ok(ApiAnswer::Page(page)) = batch.answers[0].1.clone() else { panic!("{batch:?}") };
        let keys: Vec<_> = page.rows.into_iter().map(|row| row.key).collect();
        (keys, page.next_cursor, page.total)
    };
    let of_device = [("device", "pi-1")];
    let (keys, next, total) = page(Listing::Timeline, &of_device, None).await;
    assert_eq!((keys, total), (vec!["9".to_owned(), format!("8.{command}")], 3));
    let (keys, end, _) = page(Listing::Timeline, &of_device, next.as_deref()).await;
    assert_eq!((keys, end), (vec!["7".to_owned()], None));
    let asked = stub.asked();
    let asked = asked.iter().rev().find(|asked| asked.path.contains("timeline")).expect("asked");
    assert_eq!(asked.query("sort").as_deref(), Some("-seq"));

    for (listing, filter, key) in [
        (Listing::Timeline, &[("command", "c")][..], "2"),
        (Listing::Members, &[], "ops"),
        (Listing::Users, &[], "ada"),
        (Listing::Operations, &[], "ping"),
        (Listing::Alerts, &[], "a1"),
        (Listing::Audit, &[], "4"),
    ] {
        assert_eq!(page(listing, filter, None).await.0, [key], "{listing:?}");
    }
    // What belongs to no row has none.
    assert_eq!(page(Listing::Output, &[], None).await, (vec![], None, 0));

    let refused = ApiRequest::ListPage {
        listing: Listing::Commands,
        filter: [("colour".to_owned(), "red".to_owned())].into(),
        sort: None,
        cursor: None,
    };
    let batch = call(&handle, 99, refused).await;
    assert_eq!(batch.answers[0].1.as_ref().expect_err("refused").status, 422);
    drop(handle);
    task.await.expect("it ends with its peer");
}
