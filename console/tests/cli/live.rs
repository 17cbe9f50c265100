//! The live connection, over real sockets.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use quarterdeck_console::net::{
    Client, ClientOptions,
    auth::{Credentials, GivenToken},
    link::{self, LinkEvent},
    profile::Secret,
    server::Server,
};
use quarterdeck_protocol::{
    ids::ProjectId,
    live::{ClientMessage, ServerMessage},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::stub::{Reply, Request, Stub};

pub(crate) type Socket = WebSocketStream<TcpStream>;

fn tickets(request: &Request) -> Reply {
    assert_eq!(request.route(), "POST /projects/default/tickets");
    assert_eq!(request.body, json!({"for": "live"}));
    assert_eq!(request.header("authorization"), Some("Bearer t"));
    Reply::json(201, &json!({"ticket": "one-use", "expires_in": 30}))
}

pub(crate) fn client(stub: &Stub) -> Client {
    Client::new(ClientOptions {
        server: Server::new(&stub.url, false).expect("a server"),
        credentials: Credentials::Token(GivenToken {
            token: Secret::new("t"),
            from: "QUARTERDECK_TOKEN".to_owned(),
        }),
        ca_file: None,
        profile: "default".to_owned(),
    })
    .expect("a client")
}

struct Running {
    outgoing: mpsc::Sender<ClientMessage>,
    events: mpsc::UnboundedReceiver<LinkEvent>,
    hurry: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

fn start(stub: &Stub) -> Running {
    let (outgoing, receiver) = mpsc::channel(link::OUTGOING_MAX);
    let (sender, events) = mpsc::unbounded_channel();
    let project = ProjectId::new("default").expect("a name");
    let hurry = Arc::new(Notify::new());
    let tell = move |event| {
        let _ = sender.send(event);
    };
    let run = link::run(client(stub), project, receiver, Arc::clone(&hurry), tell);
    Running { outgoing, events, hurry, task: tokio::spawn(run) }
}

pub(crate) async fn accept(stub: &Stub) -> Socket {
    let stream = stub.sockets.lock().await.recv().await.expect("a connection");
    WebSocketStream::from_raw_socket(stream, Role::Server, None).await
}

pub(crate) async fn say(socket: &mut Socket, message: &Value) {
    socket.send(Message::text(message.to_string())).await.expect("sent");
}

pub(crate) fn hello() -> Value {
    json!({"type": "hello", "version": 1, "project": "default", "username": "ops", "role": "operator",
           "admin": false, "server_version": "0.1.0", "at": "2026-11-21T06:00:00.000Z"})
}

pub(crate) async fn heard(socket: &mut Socket) -> Value {
    loop {
        if let Message::Text(text) = socket.next().await.expect("open").expect("a message") {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

async fn next(running: &mut Running) -> LinkEvent {
    tokio::time::timeout(Duration::from_secs(30), running.events.recv())
        .await
        .expect("in time")
        .expect("still running")
}

#[tokio::test]
async fn a_lost_connection_comes_back_with_a_new_ticket_and_a_new_hello() {
    let stub = Stub::start(tickets).await;
    let mut running = start(&stub);
    for _ in 0..3 {
        let mut socket = accept(&stub).await;
        say(&mut socket, &hello()).await;
        let event = next(&mut running).await;
        assert!(matches!(event, LinkEvent::Message(ServerMessage::Hello { .. })), "{event:?}");
        running.outgoing.send(ClientMessage::Ping { nonce: 7 }).await.expect("wanted");
        assert_eq!(heard(&mut socket).await, json!({"type": "ping", "nonce": 7}));
        say(&mut socket, &json!({"type": "pong", "nonce": 7})).await;
        assert_eq!(next(&mut running).await, LinkEvent::Message(ServerMessage::Pong { nonce: 7 }));
        drop(socket);
        assert!(matches!(next(&mut running).await, LinkEvent::Lost { .. }));
    }
    let asked = stub.asked();
    let tickets = asked.iter().filter(|asked| asked.method == "POST").count();
    assert!(tickets >= 3, "{tickets}");
    let opened = asked.iter().find(|asked| asked.method == "GET").expect("opened");
    assert_eq!(opened.query("ticket").as_deref(), Some("one-use"));
    assert_eq!(opened.header("authorization"), None, "a ticket is all it takes");
}

#[tokio::test]
async fn a_connection_that_says_nothing_for_5_s_is_lost() {
    let stub = Stub::start(tickets).await;
    let mut running = start(&stub);
    let mut socket = accept(&stub).await;
    say(&mut socket, &hello()).await;
    assert!(matches!(next(&mut running).await, LinkEvent::Message(_)));
    let since = tokio::time::Instant::now();
    let LinkEvent::Lost { why, .. } = next(&mut running).await else { panic!("lost") };
    assert_eq!(why, "no word from the server for 5 s");
    assert!(since.elapsed() >= Duration::from_millis(4_500), "{:?}", since.elapsed());
}

#[tokio::test]
async fn what_is_sent_without_a_connection_is_dropped_and_the_end_is_quick() {
    let stub = Stub::start(|_| Reply::problem(503, "starting", "starting up")).await;
    let mut running = start(&stub);
    assert!(matches!(next(&mut running).await, LinkEvent::Lost { .. }));
    for nonce in 0..1_000 {
        running.outgoing.send(ClientMessage::Ping { nonce }).await.expect("taken");
    }
    drop(running.outgoing);
    tokio::time::timeout(Duration::from_secs(5), running.task)
        .await
        .expect("ends soon")
        .expect("ends well");
}

#[tokio::test]
async fn a_pause_is_5_s_at_most_and_a_hurry_ends_it() {
    let stub = Stub::start(|_| Reply::problem(503, "starting", "starting up")).await;
    let mut running = start(&stub);
    let mut has_hurried = false;
    while !has_hurried {
        let LinkEvent::Lost { again_in, .. } = next(&mut running).await else { panic!("lost") };
        assert!(again_in <= Duration::from_secs(5), "{again_in:?}");
        let since = tokio::time::Instant::now();
        // The pause begins a moment after it was told.
        let event = loop {
            running.hurry.notify_waiters();
            if let Ok(event) = running.events.try_recv() {
                break event;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(matches!(event, LinkEvent::Lost { .. }), "{event:?}");
        has_hurried = since.elapsed() < again_in / 2;
    }
}

#[tokio::test]
async fn a_token_that_ended_is_waited_for_no_more() {
    let stub = Stub::start(|_| Reply::problem(401, "unauthenticated", "no")).await;
    let mut running = start(&stub);
    let LinkEvent::SignedOut { why, waits_for_login: false } = next(&mut running).await else {
        panic!("signed out")
    };
    assert!(
        why.starts_with("the server does not accept the token of QUARTERDECK_TOKEN; "),
        "{why}"
    );
    drop(running.outgoing);
    running.task.await.expect("ends");
}

#[tokio::test]
async fn a_server_that_speaks_nonsense_is_left_and_tried_again() {
    let stub = Stub::start(tickets).await;
    let mut running = start(&stub);
    for nonsense in ["{\"type\":\"heartbeat\",\"at\":\"2026-11-21T06:00:00Z\"}", "hello\u{1b}"] {
        let mut socket = accept(&stub).await;
        socket.send(Message::text(nonsense)).await.expect("sent");
        let LinkEvent::Lost { why, .. } = next(&mut running).await else { panic!("lost") };
        assert!(why.contains("another language"), "{why}");
        assert!(!why.contains('\u{1b}'), "{why:?}");
    }
}
