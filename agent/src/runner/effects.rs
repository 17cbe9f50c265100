//! Doing what a step asks for, once the step is saved.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    After, Runner,
    handlers::{Call, Handled},
    log::Item,
    own, requests,
    saver::Ticket,
    scripts::Ended,
    started_by,
};
use crate::{
    failpoint,
    workflow::{
        command::Command,
        definition::{FAILED, INIT},
        engine::{Effect, Event, Launch, Run, StepFailure, step},
        message::{self, Baton, Payload, REASON},
        outcome::ScriptEnd,
        topic::CommandTopic,
    },
};

/// Something that is done once what it follows from is saved.
#[derive(Debug)]
pub(super) struct Waiting {
    pub ticket: Ticket,
    pub topic: CommandTopic,
    pub then: Then,
}

#[derive(Debug)]
pub(super) enum Then {
    /// What a step asked for.
    Effects {
        life: u64,
        /// What [`Effect::Publish`] says.
        message: Option<Message>,
        effects: Vec<Effect>,
        /// The sub-operation that was awaited before.
        sub_before: Option<CommandTopic>,
    },
    /// Clear the topic.
    Clear,
}

/// A command's state as it is published.
#[derive(Debug)]
pub(super) struct Message {
    pub bytes: Bytes,
    /// Among all messages of its command.
    pub number: u64,
}

/// What the tasks tell the loop.
#[derive(Debug)]
pub(super) enum Report {
    ScriptEnded { topic: CommandTopic, run: u64, ended: Ended },
    BuiltinEnded { topic: CommandTopic, run: u64, result: Handled },
    Launched { topic: CommandTopic, run: u64, life: u64, result: Result<(), String> },
}

impl Runner {
    pub(super) fn act(&mut self, waiting: Waiting) {
        let Waiting { topic, then, .. } = waiting;
        match then {
            Then::Clear => {
                failpoint::reach("before clearing");
                self.publish_clear(topic);
            }
            Then::Effects { life, mut message, effects, sub_before } => {
                // Before what runs in the state says anything of its own.
                self.tell_state(&topic);
                for effect in effects {
                    failpoint::reach("before an effect");
                    self.do_effect(&topic, life, &mut message, effect);
                }
                self.tell_end(&topic);
                self.clean_up(&topic);
                self.clear_if_orphan(&topic);
                if let Some(sub) = sub_before {
                    self.clear_if_orphan(&sub);
                }
            }
        }
    }

    fn do_effect(
        &mut self,
        topic: &CommandTopic,
        life: u64,
        message: &mut Option<Message>,
        effect: Effect,
    ) {
        if let Effect::Log(text) = &effect {
            let text = quarterdeck_protocol::text::line(text);
            return tracing::warn!(%topic, "{text}");
        }
        if let Effect::ClearOperation { topic: sub } = &effect {
            return self.clear(sub);
        }
        // What it asks for is of no interest once it was cleared.
        let Some(entry) = self.board.living(topic, life) else { return };
        match effect {
            Effect::Publish => {
                if let Some(Message { bytes, number }) = message.take() {
                    let token = self.publish(topic, bytes);
                    if let Some(entry) = self.board.living(topic, life) {
                        entry.told_by = (entry.said == number).then_some(token);
                    }
                }
            }
            Effect::Continue => self.queue.push_back((topic.clone(), Event::Continue)),
            Effect::RunScript(run) => self.run_script(topic, run),
            Effect::Launch(launch) => self.launch(topic, life, launch),
            Effect::StartOperation { topic: sub, payload, is_told } => {
                self.start_operation(topic, sub, payload, is_told);
            }
            Effect::InvokeBuiltin { call, payload, is_resumed, is_repeatable } => {
                let (topic, since) = (topic.clone(), entry.since.clone());
                let call = Call::name(&topic, call).map(|(operation, step)| Call {
                    topic: topic.clone(),
                    operation,
                    step,
                    payload,
                    is_resumed,
                    is_repeatable,
                    since,
                });
                self.invoke(&topic, call);
            }
            Effect::StopWork => {
                let Some(run) = entry.run.take() else { return };
                if let Some(stop) = self.running.get(&run) {
                    stop.cancel();
                    self.wait_with_end(topic, run);
                }
            }
            Effect::TellParent { parent } => {
                let baton = last_word(&entry.command);
                let ended = Event::OperationEnded { topic: topic.clone(), baton };
                self.queue.push_back((parent, ended));
            }
            // The board knows when each command is due, and forgot what was cleared.
            Effect::ArmTimer { .. }
            | Effect::Forget
            | Effect::ClearOperation { .. }
            | Effect::Log(_) => {}
        }
    }

    /// Has what a finished command kept between its steps forgotten; whoever asked for one of
    /// ours does that.
    pub(super) fn clean_up(&self, topic: &CommandTopic) {
        let has_ended = self.board.get(topic).is_none_or(|entry| entry.command.is_ended());
        if let Some(handlers) = &self.handlers
            && has_ended
            && topic.parent().is_none()
            && !requests::is_ours(topic)
        {
            handlers.ended(topic);
        }
    }

    /// Puts a message on the way; gives its token.
    pub(super) fn publish(&mut self, topic: &CommandTopic, message: Bytes) -> u64 {
        let is_up = self.link.is_some();
        self.outbox.push(topic.as_str(), message, is_up)
    }

    // --- scripts --------------------------------------------------------------------

    fn begin_run(&mut self) -> (u64, CancellationToken) {
        self.runs += 1;
        let stop = CancellationToken::new();
        self.running.insert(self.runs, stop.clone());
        (self.runs, stop)
    }

    fn run_script(&mut self, topic: &CommandTopic, run: Run) {
        // When the agent stops, it runs after the next start.
        if self.after.is_some() {
            return;
        }
        let (number, stop) = self.begin_run();
        if let Some(entry) = self.board.get_mut(topic) {
            entry.run = Some(number);
        }
        let live = self.output_of(topic);
        let (host, to) = (self.host.clone(), self.reports_to.clone());
        let (topic, now) = (topic.clone(), self.now());
        tokio::spawn(async move {
            let ended = host.run(run, topic.as_str(), now, stop, live).await;
            // Nobody listens only when the agent is gone.
            let _ = to.send(Report::ScriptEnded { topic, run: number, ended }).await;
        });
    }

    fn invoke(&mut self, topic: &CommandTopic, call: Option<Call>) {
        // When the agent stops, it is told at the next start what became of it.
        if self.after.is_some() {
            return;
        }
        let (Some(handlers), Some(call)) = (self.handlers.clone(), call) else {
            let why = format!("this agent has no handler of its own for {}", topic.operation());
            self.queue.push_back((topic.clone(), Event::BuiltinEnded(Err(why.into()))));
            return;
        };
        let (run, stop) = self.begin_run();
        if let Some(entry) = self.board.get_mut(topic) {
            entry.run = Some(run);
        }
        let (to, topic) = (self.reports_to.clone(), topic.clone());
        tokio::spawn(async move {
            let handled = AssertUnwindSafe(handlers.handle(call, stop)).catch_unwind().await;
            let panicked = || Some(Err("the step itself failed; the agent's log says why".into()));
            let result = handled.unwrap_or_else(|_| panicked());
            let _ = to.send(Report::BuiltinEnded { topic, run, result }).await;
        });
    }

    /// Starts something that nobody awaits; also when the agent stops, for it is never started again.
    fn launch(&mut self, topic: &CommandTopic, life: u64, launch: Launch) {
        let (program, arguments) = match launch {
            Launch::Script { program, arguments } => (program, arguments),
            Launch::RestartAgent => match self.restart_agent.clone() {
                Some(mut line) if !line.is_empty() => (line.remove(0), line),
                // The next run finds the command where it is, and goes on.
                _ if self.after.is_none() => return self.begin_stop(After::StartAnew),
                _ => return,
            },
        };
        let (run, _) = self.begin_run();
        let (host, to, topic) = (self.host.clone(), self.reports_to.clone(), topic.clone());
        tokio::spawn(async move {
            let result = host.launch(&program, &arguments).await;
            let _ = to.send(Report::Launched { topic, run, life, result }).await;
        });
    }

    pub(super) fn on_report(&mut self, report: Report) {
        match report {
            Report::ScriptEnded { topic, run, ended } => {
                self.running.remove(&run);
                self.run_is_over(&topic, run, Payload::new());
                // Ended by us because the agent stops: it says nothing.
                if self.after.is_some() {
                    return;
                }
                let Some(entry) = self.board.get_mut(&topic) else { return };
                if entry.run != Some(run) {
                    return;
                }
                entry.run = None;
                let Ended { end, excerpts, stderr } = ended;
                if end != ScriptEnd::Exited(0) {
                    let stderr = String::from_utf8_lossy(&stderr);
                    let stderr = quarterdeck_protocol::text::line(stderr.trim());
                    tracing::info!(%topic, ?end, %stderr, "a script did not end well");
                }
                self.queue.push_back((topic, Event::ScriptEnded { end, excerpts }));
            }
            Report::BuiltinEnded { topic, run, result } => {
                self.running.remove(&run);
                let Some(entry) = self.board.get_mut(&topic) else { return };
                if entry.run != Some(run) {
                    let brought = match result {
                        Some(Ok(fields) | Err(StepFailure { fields, .. })) => fields,
                        None => Payload::new(),
                    };
                    return self.run_is_over(&topic, run, brought);
                }
                entry.run = None;
                match result {
                    Some(result) if self.after.is_none() => {
                        self.queue.push_back((topic, Event::BuiltinEnded(result)));
                    }
                    Some(result) => self.end_for_stop(&topic, result),
                    None => tracing::debug!(%topic, "a step goes on with the agent's next run"),
                }
            }
            Report::Launched { topic, run, life, result } => {
                self.running.remove(&run);
                if self.board.living(&topic, life).is_some() {
                    self.queue.push_back((topic, Event::Launched(result)));
                }
            }
        }
    }

    /// Takes the end of a step that the agent's stop cut off, if it is its command's end too.
    /// Otherwise the next run finds it where it is, for this one does nothing more.
    fn end_for_stop(&mut self, topic: &CommandTopic, result: Result<Payload, StepFailure>) {
        let Some(entry) = self.board.get(topic) else { return };
        let event = Event::BuiltinEnded(result);
        if let Ok(step) = step(&entry.version.definition, &entry.command, event, self.now())
            && step.next.is_ended()
        {
            self.take(topic, step, false);
        }
    }

    // --- sub-operations ---------------------------------------------------------------

    fn start_operation(
        &mut self,
        parent: &CommandTopic,
        sub: CommandTopic,
        payload: Payload,
        is_told: bool,
    ) {
        if let Some(entry) = self.board.get(&sub) {
            if entry.command.is_ended() {
                let baton = last_word(&entry.command);
                let ended = Event::OperationEnded { topic: sub, baton };
                self.queue.push_back((parent.clone(), ended));
            }
            return;
        }
        if !self.arrivals.contains(&sub) {
            let init = message::Message { status: INIT, payload: &payload }.to_json();
            let init = Bytes::from(init);
            let hash = own::hash(&init);
            if !is_told {
                self.echoes.entry(sub.clone()).or_default().say(hash);
                let token = self.publish(&sub, init);
                if let Some(entry) = self.board.get_mut(parent) {
                    entry.sub_told_by = Some(token);
                }
            }
            self.arrive(sub, payload, hash);
        }
    }

    /// Takes a finished sub-operation off the board, and then off the bus (U1).
    ///
    /// The log has it after the step with which its parent moved on, or a crash
    /// between would have the parent start it again; and before any later step
    /// of the parent, which may start another one on the same topic.
    pub(super) fn clear(&mut self, topic: &CommandTopic) {
        if let Some(entry) = self.board.get_mut(topic) {
            self.echoes.insert(topic.clone(), std::mem::take(&mut entry.own));
        }
        self.remove(topic);
        self.items.push(Item::Clearing(topic.clone()));
        self.once_saved(topic.clone(), Then::Clear);
    }

    /// Clears a sub-operation that has lost its parent, and what it has started itself.
    pub(super) fn clear_with_its_own(&mut self, topic: CommandTopic) {
        let mut next = Some(topic);
        while let Some(topic) = next.take()
            && let Some(entry) = self.board.get(&topic)
        {
            next = started_by(&entry.command);
            self.clear(&topic);
        }
    }

    /// Clears a topic, until the bus says that it is cleared.
    pub(super) fn publish_clear(&mut self, topic: CommandTopic) {
        let token = self.publish(&topic, Bytes::new());
        self.echoes.entry(topic.clone()).or_default().say(own::hash(b""));
        self.clearing.insert(topic, token);
    }

    /// Clears a finished sub-operation that nobody awaits any more.
    pub(super) fn clear_if_orphan(&mut self, topic: &CommandTopic) {
        let Some(entry) = self.board.get(topic) else { return };
        let parent = topic.parent().and_then(|parent| self.board.get(&parent));
        if entry.command.is_orphan(parent.map(|parent| &parent.command)) {
            self.clear(topic);
        }
    }

    /// Tells a parent that its sub-operation was cleared before it ended.
    pub(super) fn tell_cleared(&mut self, topic: &CommandTopic) {
        let has_ended = self.board.get(topic).is_some_and(|entry| entry.command.is_ended());
        let Some(parent) = topic.parent().filter(|_| !has_ended) else { return };
        if self.board.get(&parent).is_some_and(|entry| entry.command.awaits(topic)) {
            let reason = "the sub-operation was cleared before it ended";
            let payload = Payload::from_iter([(REASON.to_owned(), reason.into())]);
            let baton = Baton { status: FAILED.into(), payload };
            self.queue.push_back((parent, Event::OperationEnded { topic: topic.clone(), baton }));
        }
    }
}

/// The state in which a command has ended.
fn last_word(command: &Command) -> Baton {
    Baton { status: command.status.clone(), payload: (*command.payload).clone() }
}
