//! The built agent, alone on a private Mosquitto.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rumqttc::QoS;

use crate::{
    broker::{Broker, Others},
    case::is_skipped_without,
    stage::{ROOT, Seen, Stage},
};

/// Nothing here takes this long; whatever does is broken.
const PATIENCE: Duration = Duration::from_secs(45);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// In which an agent that is told to stop must have stopped.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A broker, all that was said on it, and an agent.
pub(crate) struct BuiltAgent {
    folder: PathBuf,
    broker: Broker,
    heard: Arc<Heard>,
    others: Others,
    agent: Option<Child>,
    starts: u32,
    begun: Instant,
    /// For the agent's next start.
    pub environment: Vec<(String, String)>,
    /// … and its settings, beside those of the stage.
    pub settings: String,
}

/// What was heard on the bus.
#[derive(Default)]
struct Heard {
    seen: Mutex<Vec<Seen>>,
    is_more: Condvar,
}

impl BuiltAgent {
    #[expect(clippy::disallowed_methods, reason = "scripts take real time")]
    pub(crate) fn new(folder: PathBuf) -> Self {
        let own = folder.join("agent");
        fs::create_dir_all(&own).expect("a folder");
        let broker = Broker::start(&own);
        let heard: Arc<Heard> = Arc::default();
        let others = listen(&broker, &heard);
        let (agent, environment, settings) = (None, Vec::new(), String::new());
        let (starts, begun) = (0, Instant::now());
        Self { folder, broker, heard, others, agent, starts, begun, environment, settings }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().expect("it runs").id()
    }

    /// What the agent wrote in its last run.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("agent/data")
    }

    /// Stops the broker and gives what starts it again.
    pub(crate) fn broker(&mut self) -> &mut Broker {
        &mut self.broker
    }

    /// Starts the agent without waiting for it.
    pub(crate) fn launch(&mut self) {
        self.starts += 1;
        let log = OpenOptions::new().create(true).append(true).open(self.log_file());
        let workflows = self.folder.join("workflows");
        fs::create_dir_all(&workflows).expect("a folder");
        let config = self.folder.join("agent/config.toml");
        fs::write(&config, &self.settings).expect("written");
        let child = Command::new(env!("CARGO_BIN_EXE_quarterdeck-agent"))
            .args(["--offline", "--bus", &self.broker.url()])
            .arg("--workflows")
            .arg(workflows)
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--config")
            .arg(config)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("QUARTERDECK_LOG", "debug")
            .stdin(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        self.agent = Some(child.expect("the agent starts"));
    }

    /// Waits until the agent has ended by itself.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let child = self.agent.as_mut()?;
        let ended = wait_for(patience, || child.try_wait().expect("it is ours"));
        if ended.is_some() {
            self.agent = None;
        }
        ended
    }

    /// Waits until something holds; says whether the agent died before.
    pub(crate) fn dies_before(&mut self, holds: &dyn Fn(&[Seen]) -> bool) -> bool {
        let decided = wait_for(PATIENCE, || {
            if self.until(holds, Duration::ZERO) {
                return Some(false);
            }
            self.wait(Duration::ZERO).map(|_| true)
        });
        decided.unwrap_or_else(|| panic!("in vain: {:#?}", self.seen()))
    }

    /// Stops the agent; says whether it had died by itself.
    pub(crate) fn dies_before_its_stop(&mut self) -> bool {
        self.terminate();
        let ended = self.wait(STOP_WITHIN).unwrap_or_else(|| panic!("no stop: {}", self.log()));
        assert!(ended.success() || ended.signal() == Some(9), "{ended:?}\n{}", self.log());
        !ended.success()
    }

    fn terminate(&self) {
        let pid = self.pid().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
        assert!(told.success());
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(format!("agent/log.{}", self.starts))
    }
}

impl Stage for BuiltAgent {
    fn start(&mut self) {
        self.launch();
        let file = self.log_file();
        let child = self.agent.as_mut().expect("it was started");
        let is_up = wait_for(PATIENCE, || {
            let ended = child.try_wait().expect("it is ours").is_some();
            let log = fs::read_to_string(&file).unwrap_or_default();
            (ended || log.contains("connected to the bus")).then_some(!ended)
        });
        assert_eq!(is_up, Some(true), "{}", self.log());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.agent.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
    }

    fn stop(&mut self) {
        self.terminate();
        let ended = self.wait(STOP_WITHIN);
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", self.log());
    }

    fn publish(&mut self, topic: &str, payload: &str) {
        self.others.publish(topic, QoS::AtLeastOnce, true, payload);
        // So that what is waited for next comes after it.
        let mine = |seen: &[Seen]| seen.iter().any(|s| s.topic == topic && s.payload == payload);
        if !self.until(&mine, PATIENCE) {
            let (errors, broker) = (self.others.errors(), self.broker.log());
            panic!("{topic} was not published: {errors:?}\n--- its broker\n{broker}");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "scripts take real time")]
    fn until(&mut self, holds: &dyn Fn(&[Seen]) -> bool, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut seen = self.heard.seen.lock().expect("nobody panicked");
        loop {
            if holds(&seen) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            seen = self.heard.is_more.wait_timeout(seen, LOOK_EVERY).expect("nobody panicked").0;
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.heard.seen.lock().expect("nobody panicked").clone()
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for BuiltAgent {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let _ = writeln!(std::io::stderr(), "{}", self.log());
        }
    }
}

/// Waits until a condition gives something.
#[expect(clippy::disallowed_methods, reason = "a test waits in real time")]
pub(crate) fn wait_for<T>(
    patience: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        let found = condition();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn listen(broker: &Broker, heard: &Arc<Heard>) -> Others {
    let heard = Arc::clone(heard);
    Others::connect(broker, &format!("{ROOT}/#"), move |publish| {
        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
        let seen = Seen { topic: publish.topic, payload };
        heard.seen.lock().expect("nobody panicked").push(seen);
        heard.is_more.notify_all();
    })
}

/// An agent with these workflow files, if there is a broker.
pub(crate) fn with_workflows(
    workflows: &[(&str, &str)],
) -> Option<(BuiltAgent, tempfile::TempDir)> {
    if is_skipped_without("mosquitto") {
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("workflows")).expect("made");
    for (name, text) in workflows {
        let text = text.replace("@DIR@", folder.path().to_str().expect("UTF-8"));
        fs::write(folder.path().join("workflows").join(name), text).expect("written");
    }
    let agent = BuiltAgent::new(folder.path().to_owned());
    Some((agent, folder))
}
