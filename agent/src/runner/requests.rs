//! What the agent's other parts ask of the runner: they are the requester of a
//! command as another participant on the bus would be, with the same words.
//!
//! ```text
//!  start ─▶ init published ─▶ states … ─▶ the end ─▶ clear
//!             (or found on the board, after a restart)
//! ```

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use quarterdeck_protocol::ids::CommandId;
use serde_json::Value;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};

use super::{Runner, own};
use crate::{
    domain::command::{Failure, Outcome},
    engine::After,
    io::live::LiveOutput,
    work::{Brought, Entered},
    workflow::{
        catalogue::Catalogue,
        command::Sub,
        definition::{FAILED, INIT, StateName},
        engine::{Event, StepFailure},
        message::{Baton, Message, Payload, REASON},
        topic::CommandTopic,
    },
};

/// What the ids of such commands begin with.
const OURS: &str = "quarterdeck-";
/// States that may wait for who asked; beyond, they are passed over, but for the end.
const STATES_WAITING_MAX: usize = 64;

/// Whether a command was asked for by the agent itself.
pub fn is_ours(topic: &CommandTopic) -> bool {
    topic.cmd_id().starts_with(OURS)
}

/// The server's command that was asked for, if it is one, or that this is a part of.
pub fn command_id(topic: &CommandTopic) -> Option<CommandId> {
    topic.root_command().cmd_id().strip_prefix(OURS)?.parse().ok()
}

/// The way to the runner.
#[derive(Debug, Clone)]
pub struct Workflows {
    to: mpsc::Sender<Request>,
    known: watch::Receiver<Arc<Catalogue>>,
}

/// A command that was asked for.
#[derive(Debug)]
pub struct Asked {
    /// The states that it enters after `init`, but for the last.
    pub states: mpsc::Receiver<Entered>,
    /// The state in which it ended.
    pub end: oneshot::Receiver<Baton>,
    /// What its scripts write.
    pub output: Arc<LiveOutput>,
}

/// What is asked of the runner.
#[derive(Debug)]
pub enum Request {
    Start {
        operation: String,
        cmd_id: String,
        payload: Payload,
        watcher: Watcher,
    },
    Abort {
        operation: String,
        cmd_id: String,
        failure: Failure,
    },
    Clear {
        operation: String,
        cmd_id: String,
    },
    /// Stop, and have the agent started anew.
    StartAnew,
    /// Clear all that ended, or should have, but these.
    Keep {
        cmd_ids: HashSet<String>,
    },
}

/// Who asked for a command.
#[derive(Debug)]
pub struct Watcher {
    states: mpsc::Sender<Entered>,
    end: Option<oneshot::Sender<Baton>>,
    output: Option<oneshot::Sender<Arc<LiveOutput>>>,
    last: StateName,
    /// What was told to end and has not: the end is told after it.
    ending: BTreeSet<u64>,
    /// What that brought.
    brought: Payload,
}

impl Workflows {
    pub(super) const fn new(
        to: mpsc::Sender<Request>,
        known: watch::Receiver<Arc<Catalogue>>,
    ) -> Self {
        Self { to, known }
    }

    /// The operations as they are now.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.known.borrow().clone()
    }

    /// Waits until the operations are others.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Starts a command, or finds it where it is.
    pub async fn start(&self, operation: &str, id: &str, payload: Payload) -> Asked {
        let (states_to, states) = mpsc::channel(STATES_WAITING_MAX);
        let (end_to, end) = oneshot::channel();
        let (output_to, output) = oneshot::channel();
        let watcher = Watcher {
            states: states_to,
            end: Some(end_to),
            output: Some(output_to),
            last: INIT.into(),
            ending: BTreeSet::new(),
            brought: Payload::new(),
        };
        let (operation, cmd_id) = (operation.to_owned(), format!("{OURS}{id}"));
        self.ask(Request::Start { operation, cmd_id, payload, watcher }).await;
        // There is none when the agent stops.
        let output = output.await.unwrap_or_default();
        Asked { states, end, output }
    }

    /// Fails a command, and ends what runs for it; its end is told once that is gone.
    pub async fn abort(&self, operation: &str, id: &str, failure: Failure) {
        let (operation, cmd_id) = (operation.to_owned(), format!("{OURS}{id}"));
        self.ask(Request::Abort { operation, cmd_id, failure }).await;
    }

    /// Forgets a command: whoever asked has noted its end.
    pub fn clear(&self, operation: &str, id: &str) {
        let (operation, cmd_id) = (operation.to_owned(), format!("{OURS}{id}"));
        if let Err(TrySendError::Full(clear)) =
            self.to.try_send(Request::Clear { operation, cmd_id })
        {
            // Many that are saved together: they wait for room, and nobody for them.
            let to = self.to.clone();
            tokio::spawn(async move { to.send(clear).await });
        }
    }

    /// Forgets all commands that were asked for, but these.
    pub fn keep(&self, ids: impl Iterator<Item = String>) {
        let cmd_ids = ids.map(|id| format!("{OURS}{id}")).collect();
        let _ = self.to.try_send(Request::Keep { cmd_ids });
    }

    /// Has the agent stop and become a new run of itself.
    pub async fn start_anew(&self) {
        self.ask(Request::StartAnew).await;
    }

    async fn ask(&self, request: Request) {
        // The runner is gone only when the agent stops.
        let _ = self.to.send(request).await;
    }
}

impl Runner {
    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Start { operation, cmd_id, payload, watcher } => {
                self.start_for(&operation, &cmd_id, payload, watcher);
            }
            Request::Abort { operation, cmd_id, failure } => {
                if let Some(topic) = self.topic_of(&operation, &cmd_id) {
                    self.abort(topic, &failure);
                }
            }
            Request::Clear { operation, cmd_id } => {
                if let Some(topic) = self.topic_of(&operation, &cmd_id) {
                    self.clear_ours(&topic);
                }
            }
            Request::StartAnew => self.begin_stop(After::StartAnew),
            Request::Keep { cmd_ids } => {
                let topics = self.board.iter().map(|entry| &entry.command.topic);
                let others =
                    topics.filter(|topic| is_ours(topic) && !cmd_ids.contains(topic.cmd_id()));
                for topic in others.cloned().collect::<Vec<_>>() {
                    self.clear_ours(&topic);
                }
            }
        }
    }

    fn topic_of(&self, operation: &str, cmd_id: &str) -> Option<CommandTopic> {
        let (root, target) = self.targets.own();
        CommandTopic::new(root, target, operation, cmd_id).ok()
    }

    fn start_for(&mut self, operation: &str, cmd_id: &str, payload: Payload, mut watcher: Watcher) {
        let Some(topic) = self.topic_of(operation, cmd_id) else {
            return watcher.end_with(format!("{operation:?} is no name of an operation"));
        };
        let output = self.outputs.entry(topic.clone()).or_default();
        // Who asked may have gone, with the agent's other part.
        let _ = watcher.output.take().map(|to| to.send(output.clone()));
        self.watchers.insert(topic.clone(), watcher);
        if self.board.get(&topic).is_some() {
            self.tell_state(&topic);
            return self.tell_end(&topic);
        }
        if !self.arrivals.contains(&topic) {
            let init = Bytes::from(Message { status: INIT, payload: &payload }.to_json());
            let hash = own::hash(&init);
            self.echoes.entry(topic.clone()).or_default().say(hash);
            self.publish(&topic, init);
            self.arrive(topic, payload, hash);
        }
    }

    /// Fails a command with all that it has started.
    fn abort(&mut self, topic: CommandTopic, failure: &Failure) {
        if self.arrivals.contains(&topic) {
            self.arrivals.forget(&topic);
            self.end_watch(&topic, &failure.message);
            return;
        }
        let mut chain = Vec::new();
        let mut next = Some(topic);
        while let Some(topic) = next.take() {
            let sub = self.board.get(&topic).and_then(|entry| entry.command.sub.as_deref());
            if let Some(Sub::Operation { topic, .. }) = sub {
                next = Some(topic.clone());
            }
            chain.push(topic);
        }
        // The innermost first: its parent does not end before what that runs is being ended.
        for topic in chain.into_iter().rev() {
            let reason = failure.message.clone();
            let fields = Brought::fields(Outcome::default(), Some(failure));
            self.queue.push_back((topic, Event::Abort(StepFailure { reason, fields })));
        }
    }

    fn clear_ours(&mut self, topic: &CommandTopic) {
        self.watchers.remove(topic);
        self.outputs.remove(topic);
        self.arrivals.forget(topic);
        self.clear(topic);
    }

    /// Tells who asked for a command that it will never begin.
    pub(super) fn end_watch(&mut self, topic: &CommandTopic, reason: &str) {
        self.outputs.remove(topic);
        if let Some(watcher) = self.watchers.remove(topic) {
            watcher.end_with(reason.to_owned());
        }
    }

    /// Tells who asked for a command in which state it is.
    pub(super) fn tell_state(&mut self, topic: &CommandTopic) {
        let Some(watcher) = self.watchers.get_mut(topic) else { return };
        let Some(entry) = self.board.get(topic) else { return };
        let command = &entry.command;
        if command.is_ended() || watcher.last == command.status {
            return;
        }
        watcher.last = command.status.clone();
        let state = entry.version.definition.state(&command.status);
        let progress = state.and_then(|state| state.progress);
        let entered = Entered { state: command.status.to_string(), progress };
        if watcher.states.try_send(entered).is_err() {
            tracing::debug!(%topic, state = &*command.status, "a state was passed over");
        }
    }

    /// Tells who asked for a command that it has ended, once nothing runs for it any more.
    pub(super) fn tell_end(&mut self, topic: &CommandTopic) {
        let Some(watcher) = self.watchers.get_mut(topic) else { return };
        let Some(entry) = self.board.get(topic) else { return };
        let command = &entry.command;
        if !command.is_ended() || !watcher.ending.is_empty() {
            return;
        }
        let mut payload = (*command.payload).clone();
        if let (Some(Value::Object(told)), Some(Value::Object(brought))) =
            (payload.get_mut(Brought::KEY), watcher.brought.remove(Brought::KEY))
        {
            for (key, value) in brought {
                // Why it was ended stands.
                told.entry(key).or_insert(value);
            }
        }
        let end = watcher.end.take();
        // Who asked may have gone, with the agent's other part.
        let _ = end.map(|end| end.send(Baton { status: command.status.clone(), payload }));
        self.watchers.remove(topic);
        self.outputs.remove(topic);
    }

    /// Where what a command's scripts write is told, if it is the server's, or a part of one.
    pub(super) fn output_of(&mut self, topic: &CommandTopic) -> Option<Arc<LiveOutput>> {
        let root = topic.root_command();
        is_ours(&root).then(|| self.outputs.entry(root).or_default().clone())
    }

    /// Has the end of a command told only after this run, which was told to end, is over.
    pub(super) fn wait_with_end(&mut self, topic: &CommandTopic, run: u64) {
        if let Some(watcher) = self.watchers.get_mut(&topic.root_command()) {
            watcher.ending.insert(run);
        }
    }

    /// Notes that a run which was told to end is over.
    pub(super) fn run_is_over(&mut self, topic: &CommandTopic, run: u64, brought: Payload) {
        let root = topic.root_command();
        let Some(watcher) = self.watchers.get_mut(&root) else { return };
        if watcher.ending.remove(&run) {
            watcher.brought.extend(brought);
            self.tell_end(&root);
        }
    }
}

impl Watcher {
    fn end_with(mut self, reason: String) {
        let payload = Payload::from_iter([(REASON.to_owned(), reason.into())]);
        let end = self.end.take();
        let _ = end.map(|end| end.send(Baton { status: FAILED.into(), payload }));
    }
}
