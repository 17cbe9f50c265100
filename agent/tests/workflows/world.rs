//! A bus in memory, an agent around the engine, and what survives the agent's death.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use quarterdeck_agent::{
    domain::Moment,
    workflow::{
        command::Command,
        definition::{Definition, FAILED, INIT, SUCCESSFUL},
        engine::{Effect, Event, Launch, step},
        message::{Baton, Incoming, Message, Payload, read},
        topic::{CommandTopic, capability},
    },
};

use crate::{
    process::{self, Script},
    stage::{ROOT, Seen, Stage, TARGET},
};

pub(crate) struct World {
    folder: PathBuf,
    seen: Vec<Seen>,
    retained: BTreeMap<String, String>,
    /// What is on the disk: the definition's text or its fault, and the command.
    saved: BTreeMap<CommandTopic, (Source, String)>,
    agent: Option<Agent>,
    begun: Instant,
    life: u32,
    /// A workflow has asked for it.
    is_restarting: bool,
    sender: mpsc::Sender<(u32, CommandTopic, Event)>,
    receiver: mpsc::Receiver<(u32, CommandTopic, Event)>,
}

#[derive(Default)]
struct Agent {
    board: BTreeMap<CommandTopic, Entry>,
    queue: VecDeque<(CommandTopic, Event)>,
    timers: BTreeMap<CommandTopic, Moment>,
    scripts: HashMap<CommandTopic, Script>,
}

struct Entry {
    source: Source,
    definition: Arc<Definition>,
    command: Command,
}

/// What a definition is made of again after a restart.
#[derive(Clone)]
enum Source {
    Text(String),
    Fault { operation: String, reason: String },
}

impl Source {
    fn definition(&self) -> Definition {
        match self {
            Self::Text(text) => Definition::parse("wf.toml", text).expect("it was valid"),
            Self::Fault { operation, reason } => Definition::ill_formed(operation, reason),
        }
    }
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "scripts take real time")]
    pub(crate) fn new(folder: PathBuf) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self {
            folder,
            seen: Vec::new(),
            retained: BTreeMap::new(),
            saved: BTreeMap::new(),
            agent: None,
            begun: Instant::now(),
            life: 0,
            is_restarting: false,
            sender,
            receiver,
        }
    }

    fn now(&self) -> Moment {
        Moment::from_millis(i64::try_from(self.begun.elapsed().as_millis()).expect("small"))
    }

    /// Does all that can be done without waiting.
    fn turn(&mut self) {
        let now = self.now();
        if let Some(agent) = &mut self.agent {
            let due = agent.timers.iter().filter(|(_, due_at)| **due_at <= now);
            let due: Vec<_> = due.map(|(topic, _)| topic.clone()).collect();
            for topic in due {
                agent.timers.remove(&topic);
                agent.queue.push_back((topic, Event::TimerDue));
            }
        }
        while let Some((topic, event)) = self.agent.as_mut().and_then(|a| a.queue.pop_front()) {
            self.give(&topic, event);
            self.sweep();
            if std::mem::take(&mut self.is_restarting) {
                self.stop();
                self.start();
            }
        }
    }

    fn push(&mut self, topic: CommandTopic, event: Event) {
        if let Some(agent) = &mut self.agent {
            agent.queue.push_back((topic, event));
        }
    }

    fn give(&mut self, topic: &CommandTopic, event: Event) {
        let now = self.now();
        let Some(entry) = self.agent.as_mut().and_then(|agent| agent.board.get_mut(topic)) else {
            return;
        };
        let Ok(done) = step(&entry.definition, &entry.command, event, now) else { return };
        entry.command = done.next;
        let json = serde_json::to_string(&entry.command).expect("it can be saved");
        self.saved.insert(topic.clone(), (entry.source.clone(), json));
        for effect in done.effects {
            self.run(topic, effect);
        }
    }

    fn run(&mut self, topic: &CommandTopic, effect: Effect) {
        match effect {
            Effect::Publish => {
                let json = self.command(topic).map(|command| command.message().to_json());
                self.say(topic.as_str(), &json.expect("it is on the board"));
                self.push(topic.clone(), Event::Published);
            }
            Effect::Continue => self.push(topic.clone(), Event::Continue),
            Effect::RunScript(run) => {
                let (sender, life, own) = (self.sender.clone(), self.life, topic.clone());
                let script = Script::start(&run, move |end, excerpts| {
                    let _ = sender.send((life, own, Event::ScriptEnded { end, excerpts }));
                });
                self.running().scripts.insert(topic.clone(), script);
            }
            Effect::Launch(launch) => {
                let result = match launch {
                    Launch::Script { program, arguments } => process::launch(&program, &arguments),
                    // The next run finds the command where it is.
                    Launch::RestartAgent => {
                        self.is_restarting = true;
                        return;
                    }
                };
                self.give(topic, Event::Launched(result));
            }
            Effect::StartOperation { topic: sub, payload, is_told } => {
                self.start_operation(topic, sub, payload, is_told);
            }
            Effect::InvokeBuiltin { .. } => {
                self.push(topic.clone(), Event::BuiltinEnded(Err("there is none here".into())));
            }
            Effect::StopWork => {
                if let Some(script) = self.running().scripts.remove(topic) {
                    script.kill();
                }
            }
            Effect::ArmTimer { due_at } => {
                self.running().timers.insert(topic.clone(), due_at);
            }
            Effect::ClearOperation { topic: sub } => self.clear(&sub),
            Effect::TellParent { parent } => self.tell(topic, parent),
            Effect::Forget => self.forget(topic),
            Effect::Log(_) => {}
        }
    }

    fn start_operation(
        &mut self,
        parent: &CommandTopic,
        sub: CommandTopic,
        payload: Payload,
        is_told: bool,
    ) {
        match self.command(&sub) {
            Some(command) if command.is_ended() => self.tell(&sub, parent.clone()),
            Some(_) => {}
            None => {
                let message = Message { status: INIT, payload: &payload };
                if !is_told {
                    self.say(sub.as_str(), &message.to_json());
                    let told = Event::OperationPublished { topic: sub.clone() };
                    self.push(parent.clone(), told);
                }
                self.begin(sub, payload);
            }
        }
    }

    fn tell(&mut self, topic: &CommandTopic, parent: CommandTopic) {
        let command = self.command(topic).expect("it is on the board");
        let payload = (*command.payload).clone();
        let baton = Baton { status: command.status.clone(), payload };
        self.push(parent, Event::OperationEnded { topic: topic.clone(), baton });
    }

    /// Clears the finished sub-operations that nobody awaits any more.
    fn sweep(&mut self) {
        let Some(agent) = &self.agent else { return };
        let parent = |command: &Command| {
            command.topic.parent().and_then(|parent| agent.board.get(&parent)).map(|e| &e.command)
        };
        let commands = agent.board.values().map(|entry| &entry.command);
        let orphans = commands.filter(|command| command.is_orphan(parent(command)));
        let orphans: Vec<_> = orphans.map(|command| command.topic.clone()).collect();
        for orphan in orphans {
            self.clear(&orphan);
        }
    }

    /// Says that the agent can do an operation, if its file is valid.
    fn announce(&mut self, source: &Source) {
        if let Source::Text(_) = source {
            let topic = capability(ROOT, TARGET, &source.definition().operation);
            if !self.retained.contains_key(&topic) {
                self.say(&topic, "{}");
            }
        }
    }

    fn incoming(&mut self, topic: &str, payload: &str, is_retained: bool) {
        let Ok(topic) = CommandTopic::parse(topic) else { return };
        if self.agent.is_none() || topic.root() != ROOT || topic.target() != TARGET {
            return;
        }
        let Ok(message) = read(payload.as_bytes()) else { return };
        // Cleared and begun anew while the agent was away.
        let is_init = matches!(&message, Incoming::State(baton) if *baton.status == *INIT);
        let is_over = self.command(&topic).is_some_and(Command::is_ended);
        if is_init && is_over && is_retained {
            self.forget(&topic);
        }
        if self.command(&topic).is_some() {
            self.push(topic, Event::Incoming(message));
        } else if let Incoming::State(baton) = message {
            self.take(topic, baton);
        }
    }

    /// Takes a command that is not on the board: a new one, or the end of a sub-operation
    /// that another participant has carried out (U1).
    fn take(&mut self, topic: CommandTopic, baton: Baton) {
        if *baton.status == *INIT {
            return self.begin(topic, baton.payload);
        }
        let Some(parent) = topic.parent() else { return };
        let is_awaited = self.command(&parent).is_some_and(|command| command.awaits(&topic));
        if is_awaited && matches!(&*baton.status, SUCCESSFUL | FAILED) {
            self.push(parent, Event::OperationEnded { topic, baton });
        }
    }

    /// Takes a new command on, with the definition as it is now (V1).
    fn begin(&mut self, topic: CommandTopic, payload: Payload) {
        let mut sources = self.sources().into_iter().map(|source| (source.definition(), source));
        let found = sources.find(|(definition, _)| *definition.operation == *topic.operation());
        let Some((definition, source)) = found else { return };
        self.announce(&source);
        let command = Command::new(topic.clone(), payload);
        let entry = Entry { source, definition: Arc::new(definition), command };
        self.running().board.insert(topic.clone(), entry);
        self.push(topic, Event::Start);
    }

    /// Reads the folder: only `*.toml`, each by itself (D8, D10).
    fn sources(&self) -> Vec<Source> {
        let files = fs::read_dir(self.folder.join("workflows")).expect("a folder");
        let names = files.map(|file| file.expect("a file").file_name().into_string());
        let names = names.map(|name| name.expect("UTF-8"));
        let is_toml = |name: &String| Path::new(name).extension().is_some_and(|ext| ext == "toml");
        let names = names.filter(|name| is_toml(name) && !name.starts_with('.'));
        let read = names.filter_map(|name| {
            let text = fs::read_to_string(self.folder.join("workflows").join(&name)).ok()?;
            match Definition::parse(&name, &text) {
                Ok(_) => Some(Source::Text(text)),
                Err(invalid) => {
                    let reason = invalid.reason();
                    invalid.operation.map(|operation| Source::Fault { operation, reason })
                }
            }
        });
        read.collect()
    }

    fn say(&mut self, topic: &str, payload: &str) {
        self.seen.push(Seen { topic: topic.to_owned(), payload: payload.to_owned() });
        if payload.is_empty() {
            self.retained.remove(topic);
        } else {
            self.retained.insert(topic.to_owned(), payload.to_owned());
        }
    }

    fn clear(&mut self, topic: &CommandTopic) {
        self.say(topic.as_str(), "");
        self.forget(topic);
    }

    fn forget(&mut self, topic: &CommandTopic) {
        self.running().board.remove(topic);
        self.saved.remove(topic);
    }

    fn running(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("the agent runs")
    }

    fn command(&self, topic: &CommandTopic) -> Option<&Command> {
        self.agent.as_ref()?.board.get(topic).map(|entry| &entry.command)
    }
}

impl Stage for World {
    /// On what was saved and on what the bus retains (R1, R5).
    fn start(&mut self) {
        self.life += 1;
        let mut agent = Agent::default();
        for (topic, (source, json)) in &self.saved {
            let command: Command = serde_json::from_str(json).expect("what was saved can be read");
            let definition = Arc::new(source.definition());
            let operation = topic.operation();
            let is_gone = self.sources().iter().all(|it| *it.definition().operation != *operation);
            let event = if is_gone && !command.is_ended() {
                let reason =
                    format!("Fail to resume on start: the workflow of {operation} is gone");
                Event::Abort(reason.into())
            } else {
                Event::AgentStarted { same_boot: true }
            };
            let entry = Entry { source: source.clone(), definition, command };
            agent.board.insert(topic.clone(), entry);
            agent.queue.push_back((topic.clone(), event));
        }
        self.agent = Some(agent);
        for source in self.sources() {
            self.announce(&source);
        }
        for (topic, payload) in self.retained.clone() {
            self.incoming(&topic, &payload, true);
        }
    }

    fn kill(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.scripts.values().for_each(Script::kill);
        }
    }

    fn stop(&mut self) {
        self.kill();
    }

    fn publish(&mut self, topic: &str, payload: &str) {
        self.say(topic, payload);
        self.incoming(topic, payload, false);
    }

    fn until(&mut self, holds: &dyn Fn(&[Seen]) -> bool, timeout: Duration) -> bool {
        let end = self.begun.elapsed() + timeout;
        loop {
            self.turn();
            if holds(&self.seen) {
                return true;
            }
            if self.begun.elapsed() >= end {
                return false;
            }
            if let Ok((life, topic, event)) = self.receiver.recv_timeout(Duration::from_millis(5))
                && life == self.life
            {
                self.push(topic, event);
            }
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.clone()
    }

    fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}
