//! The fleet in memory over HTTP and WebSocket, as the console finds a server.
//!
//! ```text
//!   POST …/tickets ─▶ ticket        POST …/commands ─▶ FakeFleet
//!   GET  …/live ─▶ one task: what the console says ─▶ Windows ─▶ snapshots
//!                            the clock ─▶ heartbeats, changes, churn
//! ```
//!
//! Faster than the real one where it is told to churn: it does not wait for
//! [`CHANGES_MIN_INTERVAL_MS`] between two messages of a window.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use quarterdeck_protocol::{
    api::{ProjectSettings, SetMember, SilenceAlert, Ticket},
    live::{CHANGES_MIN_INTERVAL_MS, ClientMessage, HEARTBEAT_INTERVAL_MS, ServerMessage},
    time::Timestamp,
    tunnel::close::CloseCode,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::{
    FakeFleet, Windows,
    calls::{Answer, problem},
    churn::{Churn, Churner},
};
use crate::{
    clock,
    stub::{Reply, Request, Stub},
};

/// How often churn is sent.
const CHURN_EVERY: Duration = Duration::from_millis(4);
/// What is owed beyond this much time of churn is forgiven: the console, or the machine, is too slow.
const CHURN_DEBT: Duration = Duration::from_millis(500);
/// A command that nobody asked for comes once in so many looks at what changed.
const NEW_COMMAND_EVERY: u64 = 23;

/// What happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Commands run, devices speak.
    pub lives: bool,
    pub churn: Option<Churn>,
    /// Nothing is answered any more, and what is open is hung up.
    pub is_lost: bool,
}

/// A running server; it ends with its runtime.
#[derive(Debug)]
pub struct FakeServer {
    stub: Arc<Stub>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fleet: Mutex<FakeFleet>,
    pace: watch::Sender<Pace>,
    churned: AtomicU64,
}

impl Shared {
    /// The fleet, at the present time.
    fn fleet(&self) -> MutexGuard<'_, FakeFleet> {
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        fleet.now = now();
        fleet
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(i64::try_from(clock::wall().as_millis()).unwrap_or(i64::MAX))
}

impl FakeServer {
    /// Serves a fleet on a free port of this machine.
    pub async fn start(fleet: FakeFleet) -> Self {
        let (pace, _) = watch::channel(Pace::default());
        let fleet = Mutex::new(fleet);
        let shared = Arc::new(Shared { fleet, pace, churned: AtomicU64::new(0) });
        let calls = Arc::clone(&shared);
        let stub = Arc::new(Stub::start(move |request| reply(&calls, request)).await);
        let (sockets, lives) = (Arc::clone(&stub), Arc::clone(&shared));
        tokio::spawn(async move {
            while let Some(stream) = sockets.sockets.lock().await.recv().await {
                let shared = Arc::clone(&lives);
                // A console that leaves is no error.
                tokio::spawn(async move { drop(Live::serve(shared, stream).await) });
            }
        });
        Self { stub, shared }
    }

    pub fn url(&self) -> &str {
        &self.stub.url
    }

    /// Any token is taken.
    pub fn token(&self) -> &'static str {
        "any"
    }

    /// Says what happens by itself from now on.
    pub fn set_pace(&self, pace: Pace) {
        self.shared.pace.send_replace(pace);
    }

    /// How many changed rows of churn have been sent so far.
    pub fn churned(&self) -> u64 {
        self.shared.churned.load(Ordering::Relaxed)
    }
}

/// One live connection.
struct Live {
    shared: Arc<Shared>,
    sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    windows: Windows,
    churner: Churner,
    churn: Option<Churn>,
    /// Up to when churn has been sent.
    churned_until: Instant,
}

impl Live {
    async fn serve(shared: Arc<Shared>, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        let (sink, mut heard) = socket.split();
        let mut pace = shared.pace.subscribe();
        let churn = pace.borrow_and_update().churn;
        let mut live = Self {
            shared,
            sink,
            windows: Windows::default(),
            churner: Churner::default(),
            churn,
            churned_until: Instant::now(),
        };
        let hello = live.shared.fleet().hello();
        live.send([hello]).await?;
        let mut beat = interval(Duration::from_millis(HEARTBEAT_INTERVAL_MS));
        let mut changes = interval(Duration::from_millis(CHANGES_MIN_INTERVAL_MS));
        let mut churns = interval(CHURN_EVERY);
        for timer in [&mut beat, &mut changes, &mut churns] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut looks = 0_u64;
        loop {
            let Pace { lives, is_lost, .. } = *pace.borrow();
            if is_lost {
                return Ok(());
            }
            tokio::select! {
                biased;
                message = heard.next() => match message.transpose()? {
                    Some(Message::Text(text)) => {
                        let message: ClientMessage = serde_json::from_str(&text)?;
                        let answer = live.windows.answer(&live.shared.fleet(), message);
                        live.send(answer).await?;
                    }
                    Some(Message::Close(_)) | None => return Ok(()),
                    Some(_) => {}
                },
                changed = pace.changed() => {
                    changed?;
                    live.churn = pace.borrow().churn;
                    live.churned_until = Instant::now();
                }
                _ = beat.tick() => {
                    let beat = live.shared.fleet().heartbeat();
                    live.send([beat]).await?;
                }
                _ = changes.tick(), if lives => {
                    looks += 1;
                    let changed = {
                        let mut fleet = live.shared.fleet();
                        let now = fleet.now;
                        fleet.live(now);
                        if looks.is_multiple_of(NEW_COMMAND_EVERY) {
                            fleet.new_command();
                        }
                        live.windows.changes(&fleet)
                    };
                    live.send(changed).await?;
                }
                _ = churns.tick(), if live.churn.is_some() => live.churn().await?,
            }
        }
    }

    async fn send(&mut self, messages: impl IntoIterator<Item = ServerMessage>) -> Result<()> {
        for message in messages {
            self.sink.feed(Message::text(serde_json::to_string(&message)?)).await?;
        }
        Ok(self.sink.flush().await?)
    }

    /// Sends as many changed rows as are owed by now.
    async fn churn(&mut self) -> Result<()> {
        let Some(churn) = self.churn else { return Ok(()) };
        let now = Instant::now();
        self.churned_until = self.churned_until.max(now.checked_sub(CHURN_DEBT).unwrap_or(now));
        while self.churned_until < now {
            let at = self.shared.fleet().now;
            let Some((text, rows)) = self.churner.message(&self.windows, churn.moving, at) else {
                self.churned_until = now;
                return Ok(());
            };
            self.sink.feed(Message::text(text)).await?;
            self.shared.churned.fetch_add(rows, Ordering::Relaxed);
            self.churned_until +=
                Duration::from_secs_f64(rows as f64 / churn.rows_per_second.max(1) as f64);
        }
        Ok(self.sink.flush().await?)
    }
}

fn reply(shared: &Shared, request: &Request) -> Reply {
    if shared.pace.borrow().is_lost {
        return Reply::cut();
    }
    let route = request.route();
    let path: Vec<&str> = route.split(['/', ' ']).filter(|part| !part.is_empty()).collect();
    if let ["GET", "projects", _, "commands", id, "output"] = path[..] {
        let printed = shared.fleet().output(id);
        let body = printed.into_iter().map(|chunk| chunk.text).collect::<String>().into_bytes();
        let headers = vec![("content-type", "application/octet-stream".to_owned())];
        return Reply { status: 200, headers, body, is_cut: false };
    }
    match answer(&mut shared.fleet(), &path, request) {
        Ok(body) => Reply::ok(&body),
        Err(problem) => Reply::json(problem.status, &json!(problem)),
    }
}

/// The routes that the full-screen console calls.
fn answer(fleet: &mut FakeFleet, path: &[&str], request: &Request) -> Answer<Value> {
    match *path {
        ["POST", "users"] => json_of(fleet.create_user(body(request)?)),
        ["PATCH", "users", name] => json_of(fleet.change_user(name, &body(request)?)),
        ["POST", "projects"] => json_of(Ok(fleet.create_project(body(request)?))),
        [method, "projects", _, ref rest @ ..] => match (method, rest) {
            ("POST", ["tickets"]) => {
                json_of(Ok(Ticket { ticket: "one-use".to_owned(), expires_in: 30 }))
            }
            ("GET", ["settings"]) => json_of(Ok(ProjectSettings::default())),
            ("POST", ["tunnels"]) => Err(problem(
                422,
                "no_terminals",
                "The devices of this fleet exist only in memory and have no terminals; those of cargo demo have.",
                None,
            )),
            ("POST", ["tunnels", id, "close"]) => match id.parse() {
                Ok(id) => json_of(fleet.close_tunnel(id, CloseCode::ClosedByUser)),
                Err(_) => Err(no_route()),
            },
            ("GET", ["recordings", id, "events"]) => {
                let cursor = request.query("cursor");
                let (items, next_cursor) = fleet.recording_events(id, cursor.as_deref())?;
                let total = items.len();
                Ok(json!({"items": items, "next_cursor": next_cursor, "total": total}))
            }
            ("POST", ["commands"]) => json_of(fleet.create_commands(&body(request)?)),
            ("POST", ["commands", "cancel"]) => json_of(Ok(fleet.cancel_commands(&body(request)?))),
            ("POST", ["commands", id, "retry"]) => match id.parse() {
                Ok(id) => {
                    let confirm = request.body["confirm"] == true;
                    json_of(fleet.retry_command(id, confirm))
                }
                Err(_) => Err(no_route()),
            },
            ("POST", ["alerts", id, "acknowledge"]) => json_of(fleet.acknowledge_alert(id)),
            ("POST", ["alerts", id, "silence"]) => {
                let SilenceAlert { duration_s } = body(request)?;
                json_of(fleet.silence_alert(id, duration_s))
            }
            ("PATCH", ["devices", id]) => json_of(fleet.change_device(id, &body(request)?)),
            ("POST", ["devices", id, "retire"]) => json_of(fleet.retire_device(id)),
            ("POST", ["devices", id, "clear_service_failed"]) => {
                json_of(fleet.clear_service_failed(id))
            }
            ("GET", ["devices", _, "health"]) => json_of(Ok(fleet.device_health())),
            ("PUT", ["members", name]) => {
                let SetMember { role } = body(request)?;
                json_of(fleet.set_member(name, role))
            }
            ("DELETE", ["members", name]) => {
                fleet.remove_member(name);
                Ok(Value::Null)
            }
            ("POST", ["enrollment-tokens"]) => {
                json_of(Ok(fleet.create_enrollment_token(body(request)?)))
            }
            ("DELETE", ["enrollment-tokens", id]) => {
                fleet.revoke_enrollment_token(id);
                Ok(Value::Null)
            }
            _ => Err(no_route()),
        },
        _ => Err(no_route()),
    }
}

fn no_route() -> Box<quarterdeck_protocol::api::Problem> {
    problem(404, "not_found", "The fleet in memory has no such route.", None)
}

fn body<T: DeserializeOwned>(request: &Request) -> Answer<T> {
    serde_json::from_value(request.body.clone())
        .map_err(|error| problem(422, "invalid", &error.to_string(), None))
}

fn json_of<T: Serialize>(answer: Answer<T>) -> Answer<Value> {
    answer.map(|value| serde_json::to_value(value).expect("types of the protocol serialise"))
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::live::Listing;

    use super::*;
    use crate::{
        api::Api,
        fake::{PROJECT, churn::Moving},
        live::Live as Console,
        wait::wait_until,
    };

    #[tokio::test]
    async fn a_console_gets_its_window_its_changes_and_its_churn() {
        let mut fleet = FakeFleet::new(now(), 3, 5);
        fleet.rows = Some(1_000);
        let server = FakeServer::start(fleet).await;
        let api = Api::new(server.url()).expect("a client");
        let api = api.with_token(server.token()).in_project(PROJECT);
        let mut console = Console::open(&api).await.expect("open");
        assert!(matches!(console.next().await, Ok(ServerMessage::Hello { .. })));
        console.subscribe(1, Listing::Devices, &[]).await.expect("sent");
        let is_first =
            |row: &Value| row["id"].as_str().is_some_and(|id| id.starts_with("node-000000"));
        console.wait_row("the first device", is_first).await.expect("a snapshot");
        assert_eq!(server.churned(), 0);
        let churn = Churn { rows_per_second: 10_000, moving: Moving::Unseen };
        server.set_pace(Pace { churn: Some(churn), ..Pace::default() });
        console.wait_row("a change of it", is_first).await.expect("changes");
        wait_until("500 changed rows", || server.churned() >= 500).await.expect("sent");
        server.set_pace(Pace { is_lost: true, ..Pace::default() });
        console.wait_for_end().await.expect("hung up");
    }
}
