//! The agent's one loop: something happens → [`step`](crate::domain::command::step) → journal → effects.
//!
//! ```text
//!  broker ─┐                                   ┌─▶ broker (outbox)
//!  runner ─┼─▶ turn ─▶ step ─▶ append ─fsync─▶ ┼─▶ runner: begin, end
//!  timers ─┘                                   └─▶ acknowledgement
//! ```
//!
//! The loop never waits for anything slow: fsync and compaction run on threads
//! beside it, workflows in the runner, and sending never blocks. What
//! must be saved first waits in [`saving`] until it is.
//!
//! | module | subject |
//! | --- | --- |
//! | [`intake`] | what comes from the broker |
//! | [`commands`] | stepping a command, and the effects |
//! | [`follow`] | its workflow, which [`crate::runner`] carries out |
//! | [`saving`] | the journal, and what waits for it |
//! | [`outbox`] | replies until the broker has them |
//! | [`presence`] | status, heartbeat, the file for `status` |
//! | [`boot`] | what the journal says at the start |

mod boot;
mod commands;
mod follow;
pub(crate) mod intake;
mod outbox;
mod presence;
mod saving;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use quarterdeck_protocol::{device::BrokerConnection, ids::CommandId, topics::DeviceTopic};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    domain::{
        Lifetime, Moment,
        command::{Event, Outcome, State},
        schedule::Schedule,
    },
    enroll::Credentials,
    io::mqtt::{self, Link, LinkEvent},
    journal::{Journal, JournalError},
    operations::Context,
    runner::requests::Workflows,
    work::{REPORTS_WAITING_MAX, Report},
};
use commands::{Live, UnsavedEnd};
use outbox::Outbox;
use saving::Saving;

/// How long what runs may take to end when the agent stops, in milliseconds.
const STOP_WORK_MS: i64 = 2_500;
/// How long the last replies may take to leave then, in milliseconds.
const STOP_SEND_MS: i64 = 1_000;
/// How long the farewell may take, in milliseconds.
const STOP_FAREWELL_MS: i64 = 500;

/// What follows the agent's stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    Exit,
    /// The process becomes a new run of the agent.
    StartAnew,
}

/// The agent at work.
#[derive(Debug)]
pub struct Engine {
    context: Arc<Context>,
    here: Lifetime,
    /// For the log.
    broker_url: Url,
    journal: Journal,
    saving: Saving,
    live: HashMap<CommandId, Live>,
    schedule: Schedule,
    /// Accepted, but their start could not be saved; tried again with the heartbeat.
    stalled: Vec<CommandId>,
    unsaved: BTreeMap<CommandId, UnsavedEnd>,
    /// Payloads of commands that have not ended, in bytes.
    payload_bytes: usize,
    outbox: Outbox,
    link: Option<Link>,
    link_task: JoinHandle<()>,
    link_events: mpsc::Receiver<LinkEvent>,
    /// Workflows whose last word is still to come.
    following: usize,
    reports: mpsc::Receiver<(CommandId, Report)>,
    reports_to: mpsc::Sender<(CommandId, Report)>,
    /// Tells when the device's operations are others.
    operations: Workflows,
    connection: BrokerConnection,
    was_up: bool,
    heartbeat_at: Moment,
    stop: CancellationToken,
    after: Option<After>,
}

impl Engine {
    /// Brings the journal's commands back and starts to connect; `stop` ends it.
    pub fn start(
        context: Arc<Context>,
        credentials: Credentials,
        stop: CancellationToken,
    ) -> Result<Self, JournalError> {
        let folder = crate::journal::storage::DiskFolder::new(context.paths.root());
        let (journal, replay) = Journal::open(Arc::new(folder))?;
        let (reports_to, reports) = mpsc::channel(REPORTS_WAITING_MAX);
        let (link_to, link_events) = mpsc::channel(mqtt::EVENTS_MAX);
        let (here, broker_url) = (context.here.clone(), credentials.mqtt_url.clone());
        let last_will = presence::last_will(&here);
        let link_task =
            tokio::spawn(mqtt::run(credentials, last_will, Arc::clone(&context.clock), link_to));
        let heartbeat_at =
            context.clock.now().plus_millis(context.config.heartbeat.as_millis() as i64);
        let operations = context.workflows.clone();
        let mut engine = Self {
            schedule: Schedule::new(context.config.limits.concurrent_commands),
            context,
            here,
            broker_url,
            journal,
            saving: Saving::default(),
            live: HashMap::new(),
            stalled: Vec::new(),
            unsaved: BTreeMap::new(),
            payload_bytes: 0,
            outbox: Outbox::default(),
            link: None,
            link_task,
            link_events,
            following: 0,
            reports,
            reports_to,
            operations,
            connection: BrokerConnection::default(),
            was_up: false,
            heartbeat_at,
            stop,
            after: None,
        };
        engine.replay(replay);
        engine.context.workflows.keep(engine.live.keys().map(ToString::to_string));
        Ok(engine)
    }

    /// Where what running work tells goes.
    pub fn reports(&self) -> mpsc::Sender<(CommandId, Report)> {
        self.reports_to.clone()
    }

    /// Works until it is told to stop; then ends what runs and says goodbye.
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
        self.context.clock.now()
    }

    /// Lets one thing happen, and what follows from it; returns at `deadline` at the latest.
    async fn turn(&mut self, deadline: Option<Moment>) {
        self.start_ready();
        self.send();
        self.save_on();
        let now = self.now();
        let due = [self.next_due(), Some(self.heartbeat_at), deadline].into_iter().flatten().min();
        let wait_ms = due.map_or(0, |due| due.millis_since(now).max(0));
        let due_at = Instant::now() + Duration::from_millis(wait_ms as u64);
        let is_running = self.after.is_none();
        tokio::select! {
            () = self.stop.cancelled(), if is_running => self.begin_stop(After::Exit),
            Some(event) = self.link_events.recv() => self.on_link(event),
            Some((id, report)) = self.reports.recv() => self.on_report(id, report),
            () = self.operations.changed() => self.send_status(),
            done = self.saving.done() => self.on_saving(done),
            () = sleep_until(due_at) => self.on_due(),
        }
    }

    fn next_due(&self) -> Option<Moment> {
        self.live.values().filter_map(|live| live.state.due_at()).min()
    }

    fn on_due(&mut self) {
        let now = self.now();
        let due: Vec<_> = self
            .live
            .iter()
            .filter(|(_, live)| live.state.due_at().is_some_and(|due| due <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.apply(id, Event::Due);
        }
        if self.heartbeat_at <= now {
            self.on_heartbeat(now);
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up(link) => self.on_up(link),
            LinkEvent::Down { reason } => self.on_down(&reason),
            LinkEvent::Acked { token } => self.on_acked(token),
            // Not acknowledged: the server sends it again to the next run.
            LinkEvent::Message { .. } if self.after.is_some() => {}
            LinkEvent::Message { kind, payload, receipt } => match kind {
                DeviceTopic::Commands => self.on_command(&payload, &receipt),
                DeviceTopic::CommandsCancel => self.on_cancel(&payload, &receipt),
                other => {
                    tracing::warn!(
                        topic = other.suffix(),
                        "ignored a message that is not for a device"
                    );
                    self.acknowledge(&receipt);
                }
            },
        }
    }

    // --- stopping -------------------------------------------------------------

    fn begin_stop(&mut self, after: After) {
        tracing::info!(?after, "stopping");
        self.after = Some(after);
    }

    /// Hears what runs out, saves, sends what can be sent, says goodbye; within 5 s in all.
    ///
    /// The runner ends what runs: what is not repeatable answers `interrupted`, for
    /// without the agent it could be neither watched nor ended. Everything else goes on
    /// with the next run.
    async fn wind_up(&mut self) {
        let until = self.now().plus_millis(STOP_WORK_MS);
        while self.following > 0 && self.now() < until {
            self.turn(Some(until)).await;
        }
        let is_ending = |live: &Live| matches!(live.state, State::Ending { .. });
        let ending = self.live.iter().filter(|(_, live)| is_ending(live));
        for id in ending.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.apply(id, Event::Ended(Ok(Outcome::default())));
        }
        let until = self.now().plus_millis(STOP_SEND_MS);
        while (self.saving.is_busy() || (self.link.is_some() && !self.outbox.is_empty()))
            && self.now() < until
        {
            self.turn(Some(until)).await;
        }
        if let Some(link) = self.link.clone() {
            self.say_goodbye(&link);
            let until = self.now().plus_millis(STOP_FAREWELL_MS);
            while self.link.is_some() && self.now() < until {
                self.turn(Some(until)).await;
            }
        }
        self.link_task.abort();
        if let Err(error) = self.journal.to_sync().1.sync() {
            tracing::error!(%error, "cannot save the journal");
        }
        self.note_connection();
    }
}
