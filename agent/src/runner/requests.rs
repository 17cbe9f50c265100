//! What the agent's other parts ask of the runner: they are the requester of a
//! command as another participant on the bus would be, with the same words.
//!
//! ```text
//!  start ─▶ init published ─▶ states … ─▶ the end ─▶ clear
//!             (or found on the board, after a restart)
//! ```

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use quarterdeck_protocol::ids::CommandId;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Runner, own};
use crate::workflow::{
    catalogue::{Catalogue, Entry},
    command::Sub,
    definition::{FAILED, INIT, StateName},
    engine::Event,
    message::{Baton, Message, Payload, REASON},
    topic::CommandTopic,
};

/// What the ids of such commands begin with.
const OURS: &str = "quarterdeck-";
/// States that may wait for who asked; beyond, they are passed over, but for the end.
const STATES_WAITING_MAX: usize = 64;

/// Whether a command was asked for by the agent itself.
pub fn is_ours(topic: &CommandTopic) -> bool {
    topic.cmd_id().starts_with(OURS)
}

/// The server's command that was asked for, if it is one.
pub fn command_id(topic: &CommandTopic) -> Option<CommandId> {
    topic.cmd_id().strip_prefix(OURS)?.parse().ok()
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
    pub states: mpsc::Receiver<StateName>,
    /// The state in which it ended.
    pub end: oneshot::Receiver<Baton>,
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
        reason: String,
    },
    Clear {
        operation: String,
        cmd_id: String,
    },
    /// Clear all that ended, or should have, but these.
    Keep {
        cmd_ids: HashSet<String>,
    },
}

/// Who asked for a command.
#[derive(Debug)]
pub struct Watcher {
    states: mpsc::Sender<StateName>,
    end: Option<oneshot::Sender<Baton>>,
    last: StateName,
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

    /// Whether the device's owner has a workflow for this operation.
    pub fn has(&self, operation: &str) -> bool {
        self.known.borrow().get(operation).is_some_and(Entry::is_file)
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
        let watcher = Watcher { states: states_to, end: Some(end_to), last: INIT.into() };
        let (operation, cmd_id) = (operation.to_owned(), format!("{OURS}{id}"));
        self.ask(Request::Start { operation, cmd_id, payload, watcher }).await;
        Asked { states, end }
    }

    /// Fails a command, and ends what runs for it.
    pub async fn abort(&self, operation: &str, id: &str, reason: &str) {
        let (operation, cmd_id) = (operation.to_owned(), format!("{OURS}{id}"));
        self.ask(Request::Abort { operation, cmd_id, reason: reason.to_owned() }).await;
    }

    /// Forgets a command: whoever asked has noted its end.
    pub fn clear(&self, operation: &str, id: &str) {
        let (operation, cmd_id) = (operation.to_owned(), format!("{OURS}{id}"));
        // What is not cleared now is at the next start.
        let _ = self.to.try_send(Request::Clear { operation, cmd_id });
    }

    /// Forgets all commands that were asked for, but these.
    pub fn keep(&self, ids: impl Iterator<Item = String>) {
        let cmd_ids = ids.map(|id| format!("{OURS}{id}")).collect();
        let _ = self.to.try_send(Request::Keep { cmd_ids });
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
            Request::Abort { operation, cmd_id, reason } => {
                if let Some(topic) = self.topic_of(&operation, &cmd_id) {
                    self.abort(topic, &reason);
                }
            }
            Request::Clear { operation, cmd_id } => {
                if let Some(topic) = self.topic_of(&operation, &cmd_id) {
                    self.clear_ours(&topic);
                }
            }
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
        CommandTopic::new(&self.scope.root, &self.scope.target, operation, cmd_id).ok()
    }

    fn start_for(&mut self, operation: &str, cmd_id: &str, payload: Payload, watcher: Watcher) {
        let Some(topic) = self.topic_of(operation, cmd_id) else {
            return watcher.end_with(format!("{operation:?} is no name of an operation"));
        };
        self.watchers.insert(topic.clone(), watcher);
        if self.board.get(&topic).is_some() {
            return self.tell_watcher(&topic);
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
    fn abort(&mut self, topic: CommandTopic, reason: &str) {
        if self.arrivals.contains(&topic) {
            self.arrivals.forget(&topic);
            self.end_watch(&topic, reason);
            return;
        }
        let mut next = Some(topic);
        while let Some(topic) = next.take() {
            if let Some(entry) = self.board.get(&topic) {
                next = match entry.command.sub.as_deref() {
                    Some(Sub::Operation { topic, .. }) => Some(topic.clone()),
                    Some(Sub::Builtin { .. }) | None => None,
                };
                self.queue.push_back((topic, Event::Abort { reason: reason.to_owned() }));
            }
        }
    }

    fn clear_ours(&mut self, topic: &CommandTopic) {
        self.watchers.remove(topic);
        self.arrivals.forget(topic);
        self.clear(topic);
    }

    pub(super) fn is_watched(&self, topic: &CommandTopic) -> bool {
        self.watchers.contains_key(topic)
    }

    /// Tells who asked for a command that it will never begin.
    pub(super) fn end_watch(&mut self, topic: &CommandTopic, reason: &str) {
        if let Some(watcher) = self.watchers.remove(topic) {
            watcher.end_with(reason.to_owned());
        }
    }

    /// Tells who asked for a command where it is.
    pub(super) fn tell_watcher(&mut self, topic: &CommandTopic) {
        let Some(watcher) = self.watchers.get_mut(topic) else { return };
        let Some(entry) = self.board.get(topic) else { return };
        let command = &entry.command;
        if command.is_ended() {
            let payload = (*command.payload).clone();
            let end = watcher.end.take();
            // Who asked may have gone, with the agent's other part.
            let _ = end.map(|end| end.send(Baton { status: command.status.clone(), payload }));
            self.watchers.remove(topic);
        } else if watcher.last != command.status {
            watcher.last = command.status.clone();
            if watcher.states.try_send(command.status.clone()).is_err() {
                tracing::debug!(%topic, state = &*command.status, "a state was passed over");
            }
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
