//! The runner: it does what [`crate::workflow`] decides.
//!
//! ```text
//!  bus ────┐                                     ┌─▶ bus (outbox)
//!  scripts ┼─▶ queue ─▶ step ─▶ log ── synced ─▶ ┼─▶ scripts
//!  timers ─┤     ▲              (one sync for    ├─▶ sub-operations
//!  folder ─┘     │               all that wait)  └─▶ …
//!                └──────────── Continue ─────────────┘
//! ```
//!
//! One loop owns all commands and never waits for anything slow: files are
//! saved by a thread of their own, scripts and the folder are tasks, and
//! publishing only hands over. So commands hold up one another nowhere.
//!
//! The rule is "save, then act": a step is in the log before any of its effects
//! is done. After a crash each command goes on from its last step.
//!
//! | module | subject |
//! | --- | --- |
//! | [`board`] | the commands, and when each is due |
//! | [`intake`] | what comes from the bus, and how commands begin |
//! | [`effects`] | doing what a step asks for |
//! | [`handlers`] | the agent's own operations as steps |
//! | [`requests`] | what the agent's other parts ask of it |
//! | [`memory`] | a broker that has forgotten what it was told |
//! | [`outbox`], [`own`] | what was said and is not acknowledged; which messages are our own |
//! | [`log`], [`saver`], [`version`] | what survives a crash |
//! | [`scripts`] | running scripts |
//! | [`targets`], [`folder`] | whose commands are ours, and the workflow files of each |
//! | [`bus`] | a broker, or the bus inside the agent |

pub mod board;
pub mod bus;
mod effects;
pub mod folder;
pub mod handlers;
mod intake;
pub mod log;
mod memory;
pub mod outbox;
pub mod own;
pub mod requests;
pub mod saver;
pub mod scripts;
mod targets;
pub mod version;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::ids::CommandId;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    domain::{Lifetime, Moment},
    engine::After,
    io::live::LiveOutput,
    journal::storage::LogFolder,
    operations::steps::work_id,
    workflow::{
        catalogue::Catalogue,
        command::{Command, Phase},
        engine::{Effect, Event, Step, step},
        topic::{self, CommandTopic},
    },
};
use board::{Board, Entry, is_remembered};
use bus::{BusEvent, Events, Link, Scope};
use effects::{Message, Report, Then, Waiting};
use handlers::{Handlers, Since};
use intake::Arrivals;
use log::{Item, Log, LogError, Replay, Saved};
use outbox::Outbox;
use own::Own;
use requests::{Request, Watcher, Workflows};
use saver::{Progress, Saver, Ticket};
use scripts::Host;
use targets::Targets;
use version::{Source, Version};

/// Reports of scripts that may wait for the loop; more hold up the scripts' tasks.
const REPORTS_WAITING_MAX: usize = 256;
/// Requests that may wait for the loop; more hold up who asks.
const REQUESTS_WAITING_MAX: usize = 64;
/// Messages that are taken in one turn.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// How long scripts may take to end when the agent stops, in milliseconds.
const STOP_SCRIPTS_MS: i64 = 2_000;
/// How long those that are left may take to be found and killed then, in milliseconds.
const STOP_KILL_MS: u64 = 500;
/// How long saving and sending may take then, in milliseconds.
const STOP_SEND_MS: i64 = 1_000;
/// How long the farewell may take, in milliseconds.
const STOP_FAREWELL_MS: i64 = 300;

/// What a runner works with.
#[derive(Debug)]
pub struct Setup {
    pub scope: Scope,
    /// The folder of the operations of the device that the agent runs on.
    pub workflows: PathBuf,
    pub log: Arc<dyn LogFolder>,
    pub here: Lifetime,
    pub clock: Arc<dyn Clock>,
    pub host: Host,
    /// The command line that restarts the agent; without one it starts itself anew.
    pub restart_agent: Option<Vec<String>>,
}

/// Says why the runner cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot start the thread that saves commands")]
    Thread { source: std::io::Error },
}

/// The runner at work.
#[derive(Debug)]
pub struct Runner {
    here: Lifetime,
    clock: Arc<dyn Clock>,
    host: Arc<Host>,
    restart_agent: Option<Vec<String>>,

    board: Board,
    /// What happens next, in order.
    queue: VecDeque<(CommandTopic, Event)>,
    /// What brings back commands of the bus, once it is known what has become of them there.
    held: BTreeMap<CommandTopic, Event>,
    saver: Saver,
    /// What is to be saved at the end of this turn.
    items: Vec<Item>,
    /// What is to be done once it is saved, in order.
    waiting: VecDeque<Waiting>,
    stalled: Option<String>,

    events: Events,
    link: Option<Link>,
    /// Counts connections.
    connection: u64,
    outbox: Outbox,
    /// When the bus is to be told that it remembers us: once this is saved, and while this
    /// connection lasts.
    remember_at: Option<(Ticket, u64)>,
    /// Whether the bus was there in this run.
    has_been_up: bool,
    /// Topics that say what a target can do.
    announced: BTreeSet<String>,
    /// Topics that are being cleared, by which message.
    clearing: HashMap<CommandTopic, u64>,
    /// Our own messages on topics that hold no command, until all is quiet there.
    echoes: HashMap<CommandTopic, Own>,

    targets: Targets,
    versions: HashMap<Arc<str>, Arc<Version>>,
    arrivals: Arrivals,

    running: HashMap<u64, CancellationToken>,
    runs: u64,
    reports: mpsc::Receiver<Report>,
    reports_to: mpsc::Sender<Report>,

    handlers: Option<Arc<dyn Handlers>>,
    requests: mpsc::Receiver<Request>,
    /// Who asked for a command and hears how it goes.
    watchers: HashMap<CommandTopic, Watcher>,
    /// What the scripts of the server's commands write; after a restart they may run before
    /// anybody has asked for their command again.
    outputs: HashMap<CommandTopic, Arc<LiveOutput>>,
    /// What the catalogue is, for the agent's other parts.
    known: watch::Sender<Arc<Catalogue>>,

    stop: CancellationToken,
    after: Option<After>,
}

impl Runner {
    /// Brings the log's commands back; `stop` ends the runner.
    pub fn start(
        setup: Setup,
        events: Events,
        stop: CancellationToken,
    ) -> Result<(Self, Workflows), StartError> {
        let (log, replay) = Log::open(setup.log)?;
        let saver = Saver::start(log).map_err(|source| StartError::Thread { source })?;
        let targets = Targets::watch(setup.scope, setup.workflows);
        let (reports_to, reports) = mpsc::channel(REPORTS_WAITING_MAX);
        let (requests_to, requests) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (known, known_there) = watch::channel(Arc::default());
        let mut runner = Self {
            here: setup.here,
            clock: setup.clock,
            host: Arc::new(setup.host),
            restart_agent: setup.restart_agent,
            board: Board::default(),
            queue: VecDeque::new(),
            held: BTreeMap::new(),
            saver,
            items: Vec::new(),
            waiting: VecDeque::new(),
            stalled: None,
            events,
            link: None,
            connection: 0,
            outbox: Outbox::default(),
            remember_at: None,
            has_been_up: false,
            announced: BTreeSet::new(),
            clearing: HashMap::new(),
            echoes: HashMap::new(),
            targets,
            versions: HashMap::new(),
            arrivals: Arrivals::default(),
            running: HashMap::new(),
            runs: 0,
            reports,
            reports_to,
            handlers: None,
            requests,
            watchers: HashMap::new(),
            outputs: HashMap::new(),
            known,
            stop,
            after: None,
        };
        runner.replay(replay);
        runner.told_of_catalogues();
        Ok((runner, Workflows::new(requests_to, known_there)))
    }

    /// Has the agent's own operations done by these.
    pub fn set_handlers(&mut self, handlers: Arc<dyn Handlers>) {
        self.handlers = Some(handlers);
    }

    /// The commands whose files are still needed.
    pub fn work_ids(&self) -> Vec<CommandId> {
        let going_on = self.board.iter().filter(|entry| !entry.command.is_ended());
        going_on.map(|entry| work_id(&entry.command.topic)).collect()
    }

    /// Works until it is told to stop.
    pub async fn run(mut self) -> After {
        loop {
            self.turn(None).await;
            if let Some(after) = self.after {
                self.wind_up().await;
                return after;
            }
        }
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn since_now(&self) -> Since {
        Since { life: self.here.clone(), at: self.now() }
    }

    fn replay(&mut self, replay: Replay) {
        if replay.discarded_bytes > 0 {
            tracing::warn!(
                bytes = replay.discarded_bytes,
                "the end of the board's log was not written whole, and is cut off"
            );
        }
        self.announced = replay.announced.into_iter().map(|said| self.said_on(said)).collect();
        let working = replay.commands.iter().filter_map(|kept| {
            let is_working = matches!(kept.command.phase, Phase::Working { .. });
            is_working.then(|| kept.command.topic.to_string())
        });
        let killed = self.host.kill_leftovers(working);
        if killed > 0 {
            tracing::warn!(killed, "ended what scripts of the run before had left");
        }
        for kept in replay.commands {
            let topic = kept.command.topic.clone();
            let is_foreign = !self.targets.has(&topic);
            if is_foreign && is_remembered(&kept.command) {
                // Nobody tells this agent any more that it is cleared.
                self.items.push(Item::Forgotten(topic));
                continue;
            }
            let is_same_boot = *kept.boot_id == *self.here.boot_id;
            let read = kept.source.clone().read();
            let event = match &read {
                Ok(_) if is_foreign => Event::Abort(no_target(&topic).into()),
                // Who took it away does not want it to go on (R7).
                Ok(_) if !kept.command.is_ended() && self.targets.lacks(&topic) => {
                    Event::Abort(no_workflow(&topic).into())
                }
                Ok(_) => Event::AgentStarted { same_boot: is_same_boot },
                // A restart of its own cannot mend it (R7).
                Err(reason) => Event::Abort(format!("Fail to resume on start: {reason}").into()),
            };
            let version = match read.or_else(|reason| unreadable(&topic, &reason).read()) {
                Ok(version) => self.shared(version),
                Err(reason) => {
                    tracing::error!(%topic, reason, "a command cannot go on");
                    continue;
                }
            };
            self.board.add(kept.command, version, Own::restored(kept.own), kept.since);
            if let Some(entry) = self.board.get_mut(&topic) {
                entry.init = kept.init;
            }
            if is_foreign || requests::is_ours(&topic.root_command()) {
                self.queue.push_back((topic, event));
            } else {
                self.held.insert(topic, event);
            }
        }
        for topic in replay.clearing {
            self.publish_clear(topic);
        }
        // What their parents have moved on from is cleared.
        let topics: Vec<_> = self.board.iter().map(|entry| entry.command.topic.clone()).collect();
        for topic in topics {
            self.clear_if_orphan(&topic);
        }
    }

    /// The topic on which an operation was announced; an earlier agent kept the name alone,
    /// and had one target.
    fn said_on(&self, said: String) -> String {
        let (root, target) = self.targets.own();
        if said.contains('/') { said } else { topic::capability(root, target, &said) }
    }

    /// Gives the one copy of a definition that all its commands share.
    fn shared(&mut self, version: Version) -> Arc<Version> {
        let id = version.id.clone();
        self.versions.entry(id).or_insert_with(|| Arc::new(version)).clone()
    }

    /// Lets one thing happen, and all that follows from it; returns at `deadline` at the latest.
    async fn turn(&mut self, deadline: Option<Moment>) {
        self.settle();
        let now = self.now();
        // The agent's start comes first: it may be what is waited for.
        let next_due = if self.held.is_empty() { self.board.next_due() } else { None };
        let due = [next_due, deadline].into_iter().flatten().min();
        let due_at = due.map(|due| {
            Instant::now() + Duration::from_millis(due.millis_since(now).max(0).unsigned_abs())
        });
        let is_working = self.after.is_none();
        tokio::select! {
            () = self.stop.cancelled(), if is_working => self.begin_stop(After::Exit),
            progress = self.saver.changed() => self.on_progress(progress),
            Some(report) = self.reports.recv() => self.on_report(report),
            Some(event) = self.events.recv() => self.on_events(event),
            Some(request) = self.requests.recv(), if is_working => self.on_request(request),
            news = self.targets.news(), if is_working => self.on_news(news),
            () = sleep_until(due_at.unwrap_or_else(Instant::now)), if due_at.is_some() => {
                self.on_due();
            }
        }
    }

    fn on_events(&mut self, first: BusEvent) {
        self.on_bus(first);
        for _ in 1..MESSAGES_PER_TURN_MAX {
            let Some(event) = self.events.try_recv() else { return };
            self.on_bus(event);
        }
    }

    fn on_due(&mut self) {
        for topic in self.board.take_due(self.now()) {
            self.queue.push_back((topic, Event::TimerDue));
        }
    }

    /// Steps all that can be stepped, has it saved, and does what is saved.
    fn settle(&mut self) {
        loop {
            self.begin_arrived();
            self.step_all();
            if !self.items.is_empty() {
                self.saver.save(std::mem::take(&mut self.items));
            }
            self.act_on_saved();
            if let Some(link) = &self.link {
                for token in self.outbox.send(link) {
                    self.on_acked(token);
                }
            }
            let has_more = !self.queue.is_empty() && self.after.is_none();
            if !has_more && self.items.is_empty() {
                return;
            }
        }
    }

    /// Gives all events to their commands, in order.
    fn step_all(&mut self) {
        while self.after.is_none()
            && let Some((topic, event)) = self.queue.pop_front()
        {
            self.give(&topic, event);
        }
    }

    /// Gives an event to a command; what follows is done once it is saved.
    fn give(&mut self, topic: &CommandTopic, event: Event) {
        if matches!(event, Event::OperationEnded { .. })
            && let Some(start) = self.held.remove(topic)
        {
            self.give(topic, start);
        }
        let now = self.now();
        let Some(entry) = self.board.get(topic) else { return };
        let is_resumed = matches!(event, Event::AgentStarted { .. });
        match step(&entry.version.definition, &entry.command, event, now) {
            Ok(step) => self.take(topic, step, is_resumed),
            Err(refused) => tracing::debug!(%topic, %refused, "nothing changes"),
        }
    }

    fn take(&mut self, topic: &CommandTopic, step: Step, is_resumed: bool) {
        let Step { next, effects } = step;
        let since = self.since_now();
        let Some(entry) = self.board.get_mut(topic) else { return };
        // What asks for nothing only notes something: the state is not entered anew.
        let stays = effects.is_empty() || (is_resumed && next.status == entry.command.status);
        if !stays {
            entry.since = since;
        }
        let is_published = effects.contains(&Effect::Publish);
        let message = is_published.then(|| say(entry, &next));
        let sub_before = started_by(&entry.command);
        let sub_left = sub_before.clone().filter(|_| next.phase == Phase::Cleared);
        let then = Then::Effects { life: entry.life, message, effects, sub_before };
        if next.phase == Phase::Cleared {
            self.tell_cleared(topic);
            self.forget(topic);
        } else {
            self.board.set(next);
            self.save_command(topic);
        }
        self.once_saved(topic.clone(), then);
        if let Some(sub) = sub_left {
            self.clear_with_its_own(sub);
        }
    }

    /// Has a command saved as it is now.
    fn save_command(&mut self, topic: &CommandTopic) {
        let Some(entry) = self.board.get(topic) else { return };
        self.items.push(Item::Command(Box::new(Saved {
            version: entry.version.clone(),
            boot_id: self.here.boot_id.as_str().into(),
            since: entry.since.clone(),
            own: entry.own.hashes(),
            init: entry.init,
            command: entry.command.clone(),
        })));
        if let Some(oldest) = self.board.surplus() {
            self.forget(&oldest);
        }
    }

    /// Takes a command off the board, and out of the log.
    fn forget(&mut self, topic: &CommandTopic) {
        self.remove(topic);
        self.items.push(Item::Forgotten(topic.clone()));
    }

    /// Takes a command off the board, and ends what runs for it.
    fn remove(&mut self, topic: &CommandTopic) {
        self.held.remove(topic);
        if let Some(entry) = self.board.remove(topic) {
            if let Some(stop) = entry.run.and_then(|run| self.running.get(&run)) {
                stop.cancel();
            }
            self.forget_versions();
        }
    }

    /// Lets go of definitions that nothing runs any more.
    fn forget_versions(&mut self) {
        const WORTH_IT: usize = 64;
        if self.versions.len() > WORTH_IT {
            self.versions.retain(|_, version| Arc::strong_count(version) > 1);
        }
    }

    /// Has something done once all that this turn changes is saved.
    fn once_saved(&mut self, topic: CommandTopic, then: Then) {
        let ticket = self.saver.next_ticket();
        self.waiting.push_back(Waiting { ticket, topic, then });
    }

    /// Does what is saved.
    fn act_on_saved(&mut self) {
        let saved: Ticket = self.saver.progress().saved;
        while self.waiting.front().is_some_and(|waiting| waiting.ticket <= saved) {
            if let Some(waiting) = self.waiting.pop_front() {
                self.act(waiting);
            }
        }
        self.be_remembered(saved);
    }

    fn on_progress(&mut self, progress: Progress) {
        self.arrivals.make_room();
        if progress.stalled != self.stalled {
            if let Some(error) = &progress.stalled {
                tracing::error!(error, "commands cannot be saved, and stand still until they can");
            } else {
                tracing::info!("commands can be saved again");
            }
            self.stalled = progress.stalled;
        }
    }

    // --- stopping -------------------------------------------------------------

    fn begin_stop(&mut self, after: After) {
        tracing::info!(?after, "stopping");
        self.after = Some(after);
        // The agent's other parts stop together with this one.
        self.stop.cancel();
        self.requests.close();
        while self.requests.try_recv().is_ok() {}
        for stop in self.running.values() {
            stop.cancel();
        }
    }

    /// Ends the scripts, saves and sends what can be, says goodbye; within 5 s in all.
    ///
    /// A script that was ended so runs again at the next start (R4). What may not be done
    /// again fails at the next start, or now, if that is its command's end.
    async fn wind_up(mut self) {
        let until = self.now().plus_millis(STOP_SCRIPTS_MS);
        while !self.running.is_empty() && self.now() < until {
            self.turn(Some(until)).await;
        }
        if !self.running.is_empty() {
            let topics: Vec<_> = self.board.iter().map(|e| e.command.topic.to_string()).collect();
            let host = Arc::clone(&self.host);
            let killed =
                tokio::task::spawn_blocking(move || host.kill_leftovers(topics.into_iter()));
            let patience = Duration::from_millis(STOP_KILL_MS);
            if !matches!(tokio::time::timeout(patience, killed).await, Ok(Ok(_))) {
                tracing::error!("scripts may go on; the next start of the agent ends them");
            }
        }
        while !self.waiting.is_empty() && self.now() < until {
            self.turn(Some(until)).await;
        }
        // Who still follows a command finds it again after the next start.
        self.watchers.clear();
        let until = self.now().plus_millis(STOP_SEND_MS);
        while (self.saver.is_busy() || (self.link.is_some() && !self.outbox.is_empty()))
            && self.now() < until
        {
            self.turn(Some(until)).await;
        }
        if let Some(link) = self.link.clone() {
            link.disconnect();
            let until = self.now().plus_millis(STOP_FAREWELL_MS);
            while self.link.is_some() && self.now() < until {
                self.turn(Some(until)).await;
            }
        }
        let saver = self.saver;
        let finished = tokio::task::spawn_blocking(move || saver.finish());
        let patience = Duration::from_millis(STOP_FAREWELL_MS.unsigned_abs());
        if tokio::time::timeout(patience, finished).await.is_err() {
            tracing::error!("stopped before all was saved: what was not saved was not done either");
        }
    }
}

/// Makes a command's state into a message that is about to be published.
fn say(entry: &mut Entry, command: &Command) -> Message {
    let bytes = Bytes::from(command.message().to_json());
    entry.own.say(own::hash(&bytes));
    entry.said += 1;
    entry.told_by = None;
    Message { bytes, number: entry.said }
}

/// Names the sub-operation that a command awaits.
fn started_by(command: &Command) -> Option<CommandTopic> {
    match command.sub.as_deref() {
        Some(crate::workflow::command::Sub::Operation { topic, .. }) => Some(topic.clone()),
        _ => None,
    }
}

fn no_target(topic: &CommandTopic) -> String {
    format!("Fail to resume on start: {} is no target of this agent any more", topic.target())
}

fn no_workflow(topic: &CommandTopic) -> String {
    format!("Fail to resume on start: the workflow of {} is gone", topic.operation())
}

fn unreadable(topic: &CommandTopic, reason: &str) -> Source {
    Source::Invalid { operation: topic.operation().into(), reason: reason.into() }
}
