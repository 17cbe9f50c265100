//! What the tests of store and engine share: an engine with a device's end of the link in hand.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod postgres;

use std::{
    collections::HashSet,
    future::Future,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::{
    api::{Command, CreateCommands, ProjectSettings, Targets},
    ids::{CommandId, DeviceId, ProjectId},
    time::Timestamp,
    topics::{Channel, DeviceTopic},
};
use quarterdeck_server::{
    clock::Clock,
    engine::{Actor, Auditor, Engine, Running, Settings},
    mqtt::link::{AckHandle, ConnectionId, Inbound, Link, Message, PublishError, PublishRequest},
    store::{
        Location, Store, StoreError, Tx, alerts, commands, devices, intake, listed::Listed as _,
        projects,
    },
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub const START_MS: i64 = 1_800_000_000_000;

/// The devices' side of a link: who listens, and what was sent.
#[derive(Debug, Default)]
pub struct FakeLink {
    listening: Mutex<HashSet<(String, String)>>,
    sent: Mutex<Vec<PublishRequest>>,
    pub disconnected: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Link for FakeLink {
    fn publish(&self, request: PublishRequest) -> Result<(), PublishError> {
        let key = (request.project_id.to_string(), request.device_id.to_string());
        if !self.listening.lock().expect("lock").contains(&key) {
            return Err(PublishError::NotConnected);
        }
        self.sent.lock().expect("lock").push(request);
        Ok(())
    }

    fn disconnect(&self, _: &ProjectId, device: &DeviceId) {
        self.disconnected.lock().expect("lock").push(device.to_string());
    }

    async fn shutdown(&self) {}
}

impl FakeLink {
    /// The commands that a device was sent, in order.
    pub fn commands_to(&self, device: &str) -> Vec<Value> {
        self.to(device, DeviceTopic::Commands)
    }

    pub fn cancels_to(&self, device: &str) -> Vec<Value> {
        self.to(device, DeviceTopic::CommandsCancel)
    }

    fn to(&self, device: &str, kind: DeviceTopic) -> Vec<Value> {
        self.sent
            .lock()
            .expect("lock")
            .iter()
            .filter(|request| request.device_id.as_str() == device && request.kind == kind)
            .map(|request| serde_json::from_slice(&request.payload).expect("JSON"))
            .collect()
    }

    pub fn count(&self) -> usize {
        self.sent.lock().expect("lock").len()
    }
}

/// An engine over a store, with all its surroundings.
#[derive(Debug)]
pub struct Harness {
    pub store: Store,
    pub engine: Engine,
    pub clock: Clock,
    pub link: Arc<FakeLink>,
    pub project: ProjectId,
    pub actor: Actor,
    pub auditor: Auditor,
    inbound: mpsc::Sender<Inbound>,
    running: Option<Running>,
    /// Whether a word is decided, not only durable, when the harness goes on.
    pub settles: bool,
    connections: std::sync::atomic::AtomicU64,
}

pub fn sqlite(folder: &Path) -> Location {
    Location::Sqlite(folder.join("quarterdeck.db"))
}

pub fn manual_clock() -> Clock {
    Clock::manual(Timestamp::from_millis(START_MS), 1_000_000, 7)
}

pub fn auditor() -> Auditor {
    let key = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
    Auditor::new(Arc::new(key))
}

impl Harness {
    /// Opens a store and runs an engine on it, on a clock that the test moves.
    pub async fn start(location: &Location) -> Self {
        Self::start_with(location, manual_clock()).await
    }

    pub async fn start_with(location: &Location, clock: Clock) -> Self {
        let store = Store::open(location).await.expect("a store");
        let auditor = auditor();
        let settings = Settings { mqtt_url: "mqtt://127.0.0.1:1".to_owned(), ca_pem: None };
        let engine = Engine::new(store.clone(), clock.clone(), auditor.clone(), settings);
        let link = Arc::new(FakeLink::default());
        let (inbound, receiver) = mpsc::channel(8_192);
        let running = engine.run(link.clone(), receiver);
        let project = ProjectId::new("default").expect("valid");
        let (name, at) = (project.clone(), clock.wall());
        write(&store, move |tx| {
            Box::pin(async move { projects::insert(tx, &name, "Default", at).await.map(drop) })
        })
        .await;
        let actor = Actor { name: "ops-1".to_owned(), from: "127.0.0.1".to_owned() };
        Self {
            store,
            engine,
            clock,
            link,
            project,
            actor,
            auditor,
            inbound,
            running: Some(running),
            settles: true,
            connections: std::sync::atomic::AtomicU64::new(1),
        }
    }

    /// Ends the engine in order, and closes the store.
    pub async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        self.store.close().await;
    }

    pub async fn add_devices(&self, names: &[&str]) {
        let names: Vec<DeviceId> = names.iter().map(|name| device(name)).collect();
        let (project, at) = (self.project.clone(), self.clock.wall());
        write(&self.store, move |tx| {
            Box::pin(async move {
                for device in &names {
                    let new = devices::Enrolled {
                        project: &project,
                        device,
                        kind: Some("pi"),
                        secret_hash: "x",
                        nonce: None,
                        at,
                    };
                    devices::enroll(tx, &new).await?;
                }
                Ok(())
            })
        })
        .await;
    }

    pub async fn settings(&self, change: impl FnOnce(&mut ProjectSettings)) {
        let mut settings = ProjectSettings::default();
        change(&mut settings);
        let project = self.project.clone();
        write(&self.store, move |tx| {
            Box::pin(async move { projects::set_settings(tx, &project, &settings).await })
        })
        .await;
    }

    /// A device connects, listens and says what it is.
    pub async fn connect(&self, name: &str, boot_id: &str) -> ConnectionId {
        let connection =
            ConnectionId(self.connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let (project_id, device_id) = (self.project.clone(), device(name));
        self.link.listening.lock().expect("lock").insert((project_id.to_string(), name.to_owned()));
        self.event(Inbound::Connected {
            project_id: project_id.clone(),
            device_id: device_id.clone(),
            channel: Channel::Main,
            connection,
        })
        .await;
        for kind in [DeviceTopic::CommandsCancel, DeviceTopic::Commands] {
            self.event(Inbound::Subscribed {
                project_id: project_id.clone(),
                device_id: device_id.clone(),
                channel: Channel::Main,
                connection,
                kind,
            })
            .await;
        }
        let status = json!({
            "schema_version": "1.0", "online": true, "boot_id": boot_id, "agent_version": "1.2.3",
            "capabilities": ["ping", "my_workflow"], "facts": {"os": "linux"}, "at": self.clock.wall(),
        });
        assert!(self.say(name, DeviceTopic::Status, &status, Some(connection)).await);
        connection
    }

    pub async fn disconnect(&self, name: &str, connection: ConnectionId) {
        self.link
            .listening
            .lock()
            .expect("lock")
            .remove(&(self.project.to_string(), name.to_owned()));
        self.event(Inbound::Disconnected {
            project_id: self.project.clone(),
            device_id: device(name),
            channel: Channel::Main,
            connection,
            ended: quarterdeck_server::mqtt::link::Ended::Lost,
        })
        .await;
    }

    pub async fn event(&self, event: Inbound) {
        self.inbound.send(event).await.expect("the engine listens");
    }

    /// A device says something; answers whether it was acknowledged.
    pub async fn say(
        &self,
        name: &str,
        kind: DeviceTopic,
        payload: &Value,
        connection: Option<ConnectionId>,
    ) -> bool {
        self.say_raw(name, kind, payload.to_string().into(), connection).await
    }

    pub async fn say_raw(
        &self,
        name: &str,
        kind: DeviceTopic,
        payload: Bytes,
        connection: Option<ConnectionId>,
    ) -> bool {
        let (ack, waiter) = AckHandle::pair();
        let message = Message {
            project_id: self.project.clone(),
            device_id: device(name),
            kind,
            payload,
            retained: false,
            last_will: false,
            connection,
            ack,
        };
        if self.inbound.send(Inbound::Message(message)).await.is_err() {
            return false;
        }
        let acknowledged = waiter.committed().await;
        assert!(
            !self.settles || self.engine.settled(10_000).await,
            "what is acknowledged is decided soon"
        );
        acknowledged
    }

    /// A device answers a command.
    pub async fn respond(&self, name: &str, id: CommandId, status: &str, more: Value) -> bool {
        let mut payload = json!({ "schema_version": "1.0", "command_id": id, "status": status });
        if let (Some(payload), Some(more)) = (payload.as_object_mut(), more.as_object()) {
            payload.extend(more.clone());
        }
        self.say(name, DeviceTopic::CommandsResponse, &payload, None).await
    }

    pub async fn submit(&self, devices: &[&str], kind: &str, payload: Value) -> Vec<Command> {
        self.engine
            .submit(&self.actor, &self.project, request(devices, kind, payload))
            .await
            .expect("valid")
            .commands
    }

    pub async fn command(&self, id: CommandId) -> Command {
        let mut tx = self.store.read().await.expect("a reader");
        commands::get(&mut tx, &self.project, id).await.expect("a read").expect("a known command")
    }

    pub async fn events(&self, id: CommandId) -> Vec<String> {
        let mut tx = self.store.read().await.expect("a reader");
        let entries =
            commands::timeline(&mut tx, &self.project, id).await.expect("a read").expect("known");
        entries.into_iter().map(|entry| entry.event).collect()
    }

    pub async fn device(&self, name: &str) -> quarterdeck_protocol::api::Device {
        let mut tx = self.store.read().await.expect("a reader");
        devices::get(&mut tx, &self.project, &device(name))
            .await
            .expect("a read")
            .expect("a known device")
    }

    pub async fn open_alerts(&self) -> Vec<quarterdeck_protocol::api::Alert> {
        let mut tx = self.store.read().await.expect("a reader");
        let open = [("status".to_owned(), "open".to_owned())].into();
        let filter = alerts::Filter::parse(&open).expect("a filter");
        filter
            .page(&mut tx, &self.project, Some("first_seen_at"), None, 1_000)
            .await
            .expect("a read")
            .items
    }

    /// Lets time pass, and the engine see to what is due.
    pub async fn pass(&self, duration_ms: i64) {
        self.clock.advance(duration_ms);
        self.engine.sweep().await.expect("a sweep");
    }
}

pub fn request(devices: &[&str], kind: &str, payload: Value) -> CreateCommands {
    CreateCommands {
        targets: Targets {
            devices: devices.iter().map(|name| (*name).to_owned()).collect(),
            groups: Vec::new(),
        },
        kind: kind.to_owned(),
        payload,
        priority: None,
        timeout_s: None,
        expires_in_s: None,
        notes: String::new(),
        confirm: true,
    }
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("a valid device id")
}

type Job<'t> = std::pin::Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 't>>;

pub async fn write<F>(store: &Store, job: F)
where
    F: for<'t> FnOnce(&'t mut Tx) -> Job<'t> + Send + 'static,
{
    store.write(job).await.expect("a commit").expect("a job");
}

/// Keeps words as a server leaves them that dies before it decides them.
pub async fn keep(store: &Store, rows: &[String]) {
    let mut tx = store.read().await.expect("a reader");
    // Above all that this server numbers until it stops.
    let first = intake::decided(&mut tx).await.expect("a read") + 1_000;
    let rows = rows.to_vec();
    let kept = store.intake(move |tx| {
        Box::pin(async move {
            for (seq, words) in (first..).zip(&rows) {
                intake::keep(tx, seq, words).await?;
            }
            Ok::<(), StoreError>(())
        })
    });
    kept.await.expect("a commit").expect("a job");
}

/// What is kept above a number.
pub async fn kept_after(store: &Store, seq: i64) -> Vec<(i64, String)> {
    let read = store.intake(move |tx| Box::pin(async move { intake::page(tx, seq).await }));
    read.await.expect("a commit").expect("a job")
}

/// Waits for a condition, not for a duration.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    for _ in 0..2_000 {
        if let Some(value) = look().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// Makes a test of each scenario on SQLite, and one of all of them on a private PostgreSQL.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let folder = tempfile::tempdir().expect("a folder");
                    super::$name($crate::support::sqlite(folder.path())).await;
                }
            )*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn on_postgresql() {
            let Some(server) = $crate::support::postgres::Postgres::start("on_postgresql").await else { return };
            $(
                println!("{} on PostgreSQL", stringify!($name));
                $name(server.database(stringify!($name))).await;
            )*
        }
    };
}
