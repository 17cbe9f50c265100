//! What comes from the bus, and how a command begins.
//!
//! ```text
//!  init ─▶ arrived ─ folder read ─▶ there is a workflow ─▶ on the board
//!                                └▶ there is none: it waits until there is (F4)
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Runner,
    board::{Entry, PENDING_MAX_COMMANDS},
    bus::BusEvent,
    folder::News,
    log::Item,
    own::{self, Own},
    requests, started_by,
    version::{Source, Version},
};
use crate::workflow::{
    catalogue::Workflow,
    command::{Command, Phase},
    definition::{FAILED, INIT, SUCCESSFUL},
    engine::Event,
    message::{self, Baton, Incoming, Payload},
    topic::CommandTopic,
};

/// Commands that may wait to begin; beyond, they stay on the bus and are found at the next connection.
const ARRIVALS_MAX: usize = 10_000;
/// Bytes that all commands together may take in the log; beyond, new ones wait.
const LIVE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Built-in operations that only the server starts, or a workflow of the device's owner: on a
/// broker of the device they would hand the agent's rights to all who may publish there. A file
/// of the same name in the owner's folder opens one.
pub(super) const NOT_OPEN_TO_BUS: [&str; 3] = ["file_pull", "file_push", "run_script"];

/// Commands that have come and not begun.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    waiting: HashMap<CommandTopic, Arrival>,
    /// Something has changed: it is worth a look.
    is_changed: bool,
    /// Some could begin, were there room.
    is_held: bool,
}

#[derive(Debug)]
struct Arrival {
    payload: Payload,
    /// The message that stands on its topic.
    hash: u64,
    /// The request for the folder that it waits for.
    request: u64,
    /// The last connection on which something was known to stand there.
    seen_on: u64,
}

impl Arrivals {
    /// A folder was read.
    pub(super) const fn look(&mut self) {
        self.is_changed = true;
    }

    /// There may be room now.
    pub(super) const fn make_room(&mut self) {
        self.is_changed |= self.is_held;
        self.is_held = false;
    }

    pub(super) fn contains(&self, topic: &CommandTopic) -> bool {
        self.waiting.contains_key(topic)
    }

    pub(super) fn forget(&mut self, topic: &CommandTopic) {
        self.waiting.remove(topic);
    }
}

/// Whether it is another participant's command: what the agent itself asked for, as the server's
/// commands and sub-operations, is cleared by nobody else.
fn is_requested(topic: &CommandTopic) -> bool {
    topic.parent().is_none() && !requests::is_ours(topic)
}

impl Runner {
    pub(super) fn on_bus(&mut self, event: BusEvent) {
        match event {
            BusEvent::Begun => {
                self.connection += 1;
                for entry in self.board.iter_mut() {
                    entry.own.reconnected();
                }
                self.echoes.retain(|_, own| {
                    own.reconnected();
                    !own.is_quiet()
                });
                self.outbox.rewind();
            }
            BusEvent::Up { link, memory, deaf_to } => {
                self.targets.unheard(&deaf_to);
                self.on_up(link, &memory);
            }
            BusEvent::Down { reason } => {
                let was_up = self.link.take().is_some();
                tracing::warn!(reason, was_up, "no connection to the bus");
                self.outbox.rewind();
                // Nobody can say whether they are still wanted: they go on.
                self.release_held();
            }
            // Not taken up: it stands on the bus for the next run.
            BusEvent::Message { .. } if self.after.is_some() => {}
            BusEvent::Message { topic, payload, is_retained } => {
                self.on_message(&topic, &payload, is_retained);
            }
            BusEvent::Acked { token } => self.on_acked(token),
        }
    }

    pub(super) fn on_acked(&mut self, token: u64) {
        let Some(sent) = self.outbox.acknowledged(token) else { return };
        let Ok(topic) = CommandTopic::parse(&sent.topic) else { return };
        if let Some(own) = self.echoes.get_mut(&topic) {
            own.acknowledged(own::hash(&sent.payload));
            if own.is_quiet() {
                self.echoes.remove(&topic);
            }
        }
        self.note_sub_told(&topic, token);
        if self.clearing.get(&topic) == Some(&token) {
            self.clearing.remove(&topic);
            if self.board.get(&topic).is_none() {
                self.items.push(Item::Forgotten(topic));
            }
            return;
        }
        let connection = self.connection;
        let Some(entry) = self.board.get_mut(&topic) else { return };
        entry.own.acknowledged(own::hash(&sent.payload));
        if entry.told_by == Some(token) {
            entry.told_by = None;
            entry.seen_on = connection;
            if matches!(
                entry.command.phase,
                Phase::Parked { told: false } | Phase::Ended { told: false }
            ) {
                self.queue.push_back((topic, Event::Published));
            }
        }
    }

    /// Tells a parent that the bus has the `init` of what it started.
    fn note_sub_told(&mut self, topic: &CommandTopic, token: u64) {
        let Some(parent) = topic.parent() else { return };
        if let Some(entry) = self.board.get_mut(&parent)
            && entry.sub_told_by.take_if(|by| *by == token).is_some()
        {
            let told = Event::OperationPublished { topic: topic.clone() };
            self.queue.push_back((parent, told));
        }
    }

    fn on_message(&mut self, topic: &str, payload: &Bytes, is_retained: bool) {
        let Ok(topic) = CommandTopic::parse(topic) else { return };
        if !self.targets.has(&topic) {
            return;
        }
        // What is about to be cleared may stand there for a while.
        if is_retained && self.clearing.contains_key(&topic) {
            return;
        }
        let hash = own::hash(payload);
        let is_own = |own: &mut Own| if is_retained { own.finds(hash) } else { own.hears(hash) };
        if let Some(entry) = self.board.get_mut(&topic) {
            if is_own(&mut entry.own) {
                entry.seen_on = self.connection;
                return;
            }
        } else if let Some(own) = self.echoes.get_mut(&topic)
            && is_own(own)
        {
            if own.is_quiet() {
                self.echoes.remove(&topic);
            }
            return;
        }
        match message::read(payload) {
            Ok(message) => self.on_word(topic.clone(), message, hash, is_retained),
            Err(problem) => tracing::warn!(%topic, %problem, "ignored a message"),
        }
        if let Some(entry) = self.board.get_mut(&topic) {
            entry.seen_on = self.connection;
        }
    }

    /// Takes what another participant says.
    fn on_word(&mut self, topic: CommandTopic, word: Incoming, hash: u64, is_retained: bool) {
        let is_init = matches!(&word, Incoming::State(baton) if &*baton.status == INIT);
        if let Some(entry) = self.board.get(&topic) {
            // It was cleared while we were away, if our last word does not stand there any more.
            let is_gone = is_retained || entry.seen_on != self.connection;
            // To what is under way, the init that it began with is only said twice (F10).
            let is_idle = matches!(entry.command.phase, Phase::Parked { .. } | Phase::Ended { .. });
            let is_other = is_idle || entry.init.is_some_and(|init| init != hash);
            if !(is_init && is_gone && is_other && is_requested(&topic)) {
                let is_cleared = word == Incoming::Cleared;
                let is_before_ours = is_retained || self.link.is_none();
                let is_parked = matches!(entry.command.phase, Phase::Parked { .. });
                if is_before_ours && is_parked && !is_init {
                    self.take_back(&topic);
                }
                self.queue.push_back((topic, Event::Incoming(word)));
                if is_cleared {
                    // What comes behind it, be it in the same turn, is another command's.
                    self.step_all();
                }
                return;
            }
            self.give_way(&topic);
        }
        match word {
            Incoming::Cleared => self.arrivals.forget(&topic),
            // Those of sub-operations and of the server's commands are our own, from before a
            // crash, or forged: who needs one starts it again.
            Incoming::State(_)
                if is_init && (topic.parent().is_some() || requests::is_ours(&topic)) => {}
            Incoming::State(_) if is_init && !self.targets.is_open_to_bus(&topic) => {
                tracing::warn!(%topic, "not started: this operation is not open to the bus");
            }
            Incoming::State(baton) if is_init => self.arrive(topic, baton.payload, hash),
            Incoming::State(baton) => self.on_foreign_state(topic, baton),
        }
    }

    /// Takes a command off the board, with all that it has started, for another one on its topic.
    fn give_way(&mut self, topic: &CommandTopic) {
        self.take_back(topic);
        let Some(entry) = self.board.get_mut(topic) else { return };
        let (own, sub) = (std::mem::take(&mut entry.own), started_by(&entry.command));
        if !own.is_quiet() {
            self.echoes.insert(topic.clone(), own);
        }
        self.forget(topic);
        self.clean_up(topic);
        if let Some(sub) = sub {
            self.clear_with_its_own(sub);
        }
    }

    /// What stands on a command's topic wins over what we had to say there, unless that is on
    /// the way already.
    fn take_back(&mut self, topic: &CommandTopic) {
        // A workflow that is gone is not brought back by it.
        if let Some(abort @ Event::Abort(_)) = self.held.remove(topic) {
            self.held.insert(topic.clone(), abort);
        }
        if self.link.is_none() {
            self.outbox.forget(topic.as_str());
            if let Some(entry) = self.board.get_mut(topic) {
                entry.own.take_back();
            }
        }
    }

    /// Takes it that commands on whose topic nothing stands any more were cleared.
    pub(super) fn take_clearings(&mut self) {
        let connection = self.connection;
        let is_gone = |entry: &&Entry| {
            let Command { topic, phase, .. } = &entry.command;
            entry.seen_on != connection
                && is_requested(topic)
                && self.targets.hears(topic)
                // What it goes to may not be said yet.
                && !matches!(phase, Phase::Launching { .. })
        };
        let gone = self.board.iter().filter(is_gone).map(|entry| entry.command.topic.clone());
        for topic in gone.collect::<Vec<_>>() {
            tracing::debug!(%topic, "cleared while there was no connection");
            self.take_back(&topic);
            self.outbox.forget(topic.as_str());
            self.queue.push_back((topic, Event::Incoming(Incoming::Cleared)));
        }
        let waiting = &mut self.arrivals.waiting;
        waiting.retain(|topic, arrival| {
            arrival.seen_on == connection || !is_requested(topic) || !self.targets.hears(topic)
        });
        self.step_all();
    }

    /// Brings back the commands of the bus.
    pub(super) fn release_held(&mut self) {
        self.queue.extend(std::mem::take(&mut self.held));
    }

    /// Leaves a sub-operation to who carries it out, and tells its parent when it has ended.
    fn on_foreign_state(&mut self, topic: CommandTopic, baton: Baton) {
        let Some(parent) = topic.parent() else { return };
        if !self.board.get(&parent).is_some_and(|entry| entry.command.awaits(&topic)) {
            return;
        }
        self.arrivals.forget(&topic);
        if matches!(&*baton.status, SUCCESSFUL | FAILED) {
            self.queue.push_back((parent, Event::OperationEnded { topic, baton }));
        }
    }

    /// Notes a new command; it begins once the folder was read.
    pub(super) fn arrive(&mut self, topic: CommandTopic, payload: Payload, hash: u64) {
        if self.arrivals.waiting.len() >= ARRIVALS_MAX && !self.arrivals.contains(&topic) {
            tracing::error!(%topic, "too many commands wait to begin: it stays on the bus");
            return;
        }
        let seen_on = self.connection;
        if let Some(arrival) = self.arrivals.waiting.get_mut(&topic)
            && arrival.hash == hash
        {
            arrival.seen_on = seen_on;
            return;
        }
        let Some(request) = self.targets.ask(&topic) else { return };
        self.arrivals.waiting.insert(topic, Arrival { payload, hash, request, seen_on });
    }

    /// Begins the commands that have waited long enough and have a workflow.
    pub(super) fn begin_arrived(&mut self) {
        if !std::mem::take(&mut self.arrivals.is_changed) || self.after.is_some() {
            return;
        }
        self.refuse_unknown();
        let targets = &self.targets;
        let is_ready = |(topic, arrival): &(&CommandTopic, &Arrival)| {
            targets.has_read(topic, arrival.request) && targets.entry(topic).is_some()
        };
        let ready = self.arrivals.waiting.iter().filter(is_ready);
        let mut ready: Vec<_> = ready.map(|(t, a)| (a.request, t.clone())).collect();
        ready.sort_unstable();
        for (_, topic) in ready {
            if self.stalled.is_some()
                || self.board.pending() >= PENDING_MAX_COMMANDS
                || self.saver.progress().live_bytes > LIVE_MAX_BYTES
            {
                self.arrivals.is_held = true;
                return;
            }
            if let Some(version) = self.version_of(&topic)
                && let Some(arrival) = self.arrivals.waiting.remove(&topic)
            {
                let command = Command::new(topic.clone(), arrival.payload);
                let mut own = self.echoes.remove(&topic).unwrap_or_default();
                own.stands(arrival.hash);
                let since = self.since_now();
                self.board.add(command, version, own, since);
                if let Some(entry) = self.board.get_mut(&topic) {
                    (entry.init, entry.seen_on) = (Some(arrival.hash), arrival.seen_on);
                }
                self.queue.push_back((topic, Event::Start));
            }
        }
    }

    /// Tells who asked for a command that there is no workflow for it.
    fn refuse_unknown(&mut self) {
        let (arrivals, targets) = (&self.arrivals.waiting, &self.targets);
        let watched = self.watchers.keys().filter(|topic| {
            let arrival = arrivals.get(topic);
            arrival.is_some_and(|arrival| targets.has_read(topic, arrival.request))
                && targets.entry(topic).is_none()
        });
        for topic in watched.cloned().collect::<Vec<_>>() {
            self.arrivals.forget(&topic);
            self.end_watch(&topic, "this device has no workflow for it any more");
        }
    }

    /// Finds the workflow that a new command of this operation runs.
    fn version_of(&mut self, topic: &CommandTopic) -> Option<Arc<Version>> {
        let entry = self.targets.entry(topic)?;
        let source = match &entry.workflow {
            Workflow::Valid { text, .. } => {
                Source::File { name: entry.origin.to_string().into(), text: text.clone() }
            }
            Workflow::Invalid(invalid) => Source::Invalid {
                operation: topic.operation().into(),
                reason: invalid.reason().into(),
            },
        };
        let definition = entry.definition();
        let id = definition.version.as_str().into();
        Some(self.shared(Version { id, source, definition }))
    }

    // --- what the device can do ---------------------------------------------------

    /// Takes what reading a folder came to.
    pub(super) fn on_news(&mut self, news: News) {
        if self.targets.take(news) {
            self.told_of_catalogues();
        }
        self.arrivals.look();
    }

    /// Lets all know that the operations are others.
    pub(super) fn told_of_catalogues(&mut self) {
        self.known.send_replace(self.targets.own_catalogue());
        // Without a connection, all is announced when there is one.
        if self.link.is_some() {
            self.announce(false);
        }
    }

    /// Says again what this device can do: the bus may have forgotten.
    pub(super) fn announce_all(&mut self) {
        self.announce(true);
    }

    /// Publishes what is new, or all of it, and withdraws what is gone (P2).
    fn announce(&mut self, all: bool) {
        let now: BTreeSet<String> = self.targets.capabilities(self.handlers.is_some()).collect();
        for gone in self.announced.difference(&now).cloned().collect::<Vec<_>>() {
            self.publish_capability(&gone, Bytes::new());
        }
        for capability in &now {
            if all || !self.announced.contains(capability) {
                self.publish_capability(capability, Bytes::from_static(b"{}"));
            }
        }
        if now != self.announced {
            self.items.push(Item::Announced(now.iter().cloned().collect()));
            self.announced = now;
        }
    }

    fn publish_capability(&mut self, topic: &str, payload: Bytes) {
        let is_up = self.link.is_some();
        self.outbox.push(topic, payload, is_up);
    }
}
