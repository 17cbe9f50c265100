//! A private broker, a stub of the server's HTTP interface, and a real agent.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "each test file uses its own part of this"
)]

pub mod broker;
pub mod http;

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use quarterdeck_protocol::time::Timestamp;
use rumqttc::QoS;
use serde_json::{Value, json};
use uuid::Uuid;

use broker::{Broker, Others};
use http::Stub;

pub const PROJECT: &str = "p1";
pub const DEVICE: &str = "pi-1";
/// Nothing here takes this long; whatever does is broken.
const PATIENCE_MS: u64 = 45_000;
const LOOK_EVERY_MS: u64 = 15;

/// Waits until a condition holds.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE_MS / LOOK_EVERY_MS {
        if let Some(found) = condition() {
            return found;
        }
        thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
    }
    panic!("waited in vain for {what}");
}

/// Whether the broker's program is there; without it a test is skipped, or fails if it must not.
pub fn has_broker(test: &str) -> bool {
    let found = broker::program().is_some();
    if !found {
        assert!(
            std::env::var_os("QUARTERDECK_REQUIRE_SERVICES").is_none(),
            "{test}: mosquitto is not installed"
        );
        println!("skipped: {test}: mosquitto is not installed");
    }
    found
}

#[macro_export]
macro_rules! bench_or_skip {
    ($config:expr) => {{
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        if !$crate::support::has_broker(&name) {
            return;
        }
        $crate::support::Bench::new($config)
    }};
    () => {
        bench_or_skip!("")
    };
}

pub struct Agent {
    child: Child,
}

impl Agent {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn terminate(&mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the agent's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(done.unwrap().success());
}

pub fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

/// Everything that one test needs, in a folder of its own.
pub struct Bench {
    pub agent: Option<Agent>,
    pub broker: Broker,
    pub server: Stub,
    pub inbox: Arc<Mutex<Vec<(String, Value)>>>,
    /// For the agent's next start.
    pub environment: Vec<(String, String)>,
    operator: Others,
    config: String,
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::start(folder.path());
        let server = Stub::start(json!({
            "project_id": PROJECT, "device_id": DEVICE, "device_secret": "s3cret",
            "mqtt_url": broker.url()
        }));
        std::fs::write(folder.path().join("boot-id"), "boot-1\n").unwrap();
        let inbox: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let operator = operator(&broker, &inbox);
        let (config, environment) = (config.to_owned(), Vec::new());
        Self { agent: None, broker, server, inbox, environment, operator, config, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    pub fn set_boot_id(&self, id: &str) {
        std::fs::write(self.path("boot-id"), id).unwrap();
    }

    pub fn command(&self) -> Command {
        let config = self.path("agent.toml");
        let folder = self.folder.path().display();
        std::fs::write(&config, self.config.replace("{folder}", &folder.to_string())).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quarterdeck-agent"));
        command
            .arg("--config")
            .arg(config)
            .arg("--data-dir")
            .arg(self.data_dir())
            .env("QUARTERDECK_AGENT_BOOT_ID_FILE", self.path("boot-id"))
            .env("QUARTERDECK_LOG", "debug")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Starts the agent, with what it needs to enrol.
    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("agent.log"))
            .unwrap();
        let child = self.with_enrolment(self.command()).stderr(log).spawn().unwrap();
        self.agent = Some(Agent { child });
    }

    /// Starts it by a program that is given the agent's command line, as `nohup` is.
    pub fn start_by(&mut self, starter: &[&str]) {
        let log = std::fs::File::create(self.path("agent.log")).unwrap();
        let agent = self.with_enrolment(self.command());
        let mut command = Command::new(starter[0]);
        command.args(&starter[1..]).arg(agent.get_program()).args(agent.get_args());
        let environment = agent.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let child = command.envs(environment).stderr(log).spawn().unwrap();
        self.agent = Some(Agent { child });
    }

    fn with_enrolment(&self, mut command: Command) -> Command {
        command.args(["--server", &self.server.url(), "--token", "t0ken", "--device-id", DEVICE]);
        command
    }

    /// Starts the agent and waits until it has said that it is online.
    pub fn start_online(&mut self) {
        let before = self.count_online();
        self.start();
        self.wait_online(before);
    }

    pub fn count_online(&self) -> usize {
        self.of("status").iter().filter(|status| status["online"] == true).count()
    }

    pub fn wait_online(&self, before: usize) {
        wait_for("the device online", || (self.count_online() > before).then_some(()));
    }

    pub fn kill_agent(&mut self) {
        self.agent.as_mut().expect("it runs").kill();
    }

    pub fn topic(kind: &str) -> String {
        format!("roboticks/{PROJECT}/devices/{DEVICE}/{kind}")
    }

    pub fn publish(&self, kind: &str, payload: impl Into<Vec<u8>>) {
        let qos = if kind == "commands" { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        self.operator.publish(&Self::topic(kind), qos, false, payload);
    }

    /// Sends a command; gives its id.
    pub fn send(&self, kind: &str, payload: Value) -> String {
        let message = message(kind, payload);
        self.publish("commands", message.to_string());
        id_of(&message)
    }

    pub fn script(&self, script: &str) -> String {
        self.send("run_script", json!({ "script": script }))
    }

    pub fn cancel(&self, id: &str) {
        self.publish("commands/cancel", json!({ "command_id": id }).to_string());
    }

    /// What came on one of the device's topics.
    pub fn of(&self, kind: &str) -> Vec<Value> {
        let topic = Self::topic(kind);
        let inbox = self.inbox.lock().unwrap();
        inbox.iter().filter(|(t, _)| *t == topic).map(|(_, value)| value.clone()).collect()
    }

    pub fn responses(&self, id: &str) -> Vec<Value> {
        let topic = Self::topic("commands/response");
        let inbox = self.inbox.lock().unwrap();
        let of_it = inbox.iter().filter(|(t, r)| *t == topic && r["command_id"] == id);
        of_it.map(|(_, response)| response.clone()).collect()
    }

    pub fn statuses(&self, id: &str) -> Vec<String> {
        let responses = self.responses(id);
        responses.iter().map(|r| r["status"].as_str().unwrap().to_owned()).collect()
    }

    pub fn wait_status(&self, id: &str, status: &str) -> Value {
        wait_for(&format!("{status} of {id}, not {:?}", self.statuses(id)), || {
            self.responses(id).into_iter().find(|r| r["status"] == status)
        })
    }

    pub fn wait_final(&self, id: &str) -> Value {
        wait_for(&format!("an end of {id}"), || self.responses(id).into_iter().find(is_final))
    }

    pub fn finals(&self, id: &str) -> usize {
        self.responses(id).iter().filter(|r| is_final(r)).count()
    }

    pub fn wait_file(&self, name: &str) -> String {
        let path = self.path(name);
        wait_for(name, || std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty()))
    }

    pub fn local_status(&self) -> Value {
        let output = self.command().args(["status", "--output", "json"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the agent's log ---\n{}", self.log());
        }
    }
}

fn is_final(response: &Value) -> bool {
    response["status"] == "completed" || response["status"] == "failed"
}

pub fn id_of(message: &Value) -> String {
    message["command_id"].as_str().unwrap().to_owned()
}

pub fn new_id() -> Uuid {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// A command that lives for an hour by the server's clock, whatever that shows.
pub fn message(kind: &str, payload: Value) -> Value {
    let sent = Timestamp::from_millis(1_000_000_000_000);
    json!({
        "schema_version": "1.0", "command_id": new_id(), "type": kind, "payload": payload,
        "priority": 5, "issued_at": sent, "sent_at": sent, "expires_at": sent.plus_seconds(3600),
        "timeout_s": 60, "issued_by": "ops-1"
    })
}

fn operator(broker: &Broker, inbox: &Arc<Mutex<Vec<(String, Value)>>>) -> Others {
    let inbox = Arc::clone(inbox);
    Others::connect(broker, &Bench::topic("#"), move |publish| {
        let value = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
        inbox.lock().unwrap().push((publish.topic, value));
    })
}
