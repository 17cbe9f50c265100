//! Stepping a command, saving the step, and its effects.

use std::sync::Arc;

use quarterdeck_protocol::{
    command::{CommandMessage, Priority, Response, ResponseStatus},
    ids::CommandId,
    time::Timestamp,
};
use tokio::sync::oneshot;

use super::{Engine, follow::Follow, saving::Then};
use crate::{
    domain::{
        command::{self, Effect, Event, Outcome, Plan, Reply, State, Step, Why},
        operation::Owner,
    },
    io::output::LIVE_MAX_BYTES,
    journal::record::{Record, Told},
    operations,
    work::{Entered, Failed, Report, Stream},
    workflow::message::Payload,
};

/// An end that could not be saved, and is tried again.
#[derive(Debug)]
pub(super) struct UnsavedEnd {
    pub(super) response: Response,
    /// Its workflow, which is kept until then; if it had begun.
    pub(super) operation: Option<Arc<str>>,
}

/// How long what is ended may take beyond the script's grace, in milliseconds.
const ENDING_MARGIN_MS: i64 = 12_000;

/// A command that has not ended.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) operation: Arc<str>,
    pub(super) owner: Owner,
    /// Given to its workflow when that begins.
    pub(super) payload: Payload,
    pub(super) payload_bytes: usize,
    pub(super) priority: Priority,
    pub(super) plan: Plan,
    pub(super) state: State,
    /// Number of the next reply.
    pub(super) next_n: u32,
    /// How much of its output was told live, by this run of the agent or an earlier one.
    pub(super) told: Told,
    /// Its workflow was begun.
    pub(super) has_begun: bool,
    /// Ends its workflow.
    pub(super) end: Option<oneshot::Sender<Why>>,
    /// Who waits until the broker has all that was said.
    pub(super) to_announce: Vec<oneshot::Sender<()>>,
}

impl Engine {
    pub(super) fn plan_of(&self, message: &CommandMessage) -> Plan {
        Plan {
            timeout_ms: i64::from(message.timeout_s) * 1000,
            ending_ms: self.context.config.limits.script_grace_ms as i64 + ENDING_MARGIN_MS,
        }
    }

    /// Starts as many commands as there are places.
    pub(super) fn start_ready(&mut self) {
        while self.after.is_none()
            && let Some(id) = self.schedule.take()
        {
            self.apply(id, Event::Start { boot_id: self.here.boot_id.clone() });
        }
    }

    /// Gives an event to a command, saves what follows, and has it done.
    pub(super) fn apply(&mut self, id: CommandId, event: Event) {
        self.apply_then(id, event, None);
    }

    /// The same; `last` is done once it is saved too, and never if it is refused or cannot be.
    fn apply_then(&mut self, id: CommandId, event: Event, last: Option<Then>) {
        let now = self.now();
        let Some(live) = self.live.get(&id) else { return };
        let step = match command::step(live.plan, &live.state, event, now) {
            Ok(step) => step,
            Err(refused) => {
                tracing::debug!(command_id = %id, %refused, "nothing changes");
                return;
            }
        };
        let wall = self.context.clock.wall();
        let (records, mut then) = to_save(id, live, &step, wall);
        if step.next.is_final() && live.has_begun {
            // Not before: the workflow is all that tells the next run of the agent that it ended.
            then.push(Then::Clear { id, operation: live.operation.clone() });
        }
        then.extend(last);
        let replies =
            records.iter().filter(|record| matches!(record, Record::Reply { .. })).count();
        // With nothing to save, it is done below, once the step is taken.
        let mut at_once = Vec::new();
        if records.is_empty() {
            at_once = then;
        } else if let Err(error) = self.save(&records, then) {
            tracing::error!(command_id = %id, error = crate::io::http::describe(&error), "cannot save a step");
            return self.on_step_not_saved(id, &step, records);
        }
        let Some(live) = self.live.get_mut(&id) else { return };
        live.next_n += replies as u32;
        live.state = step.next;
        let ends = step.effects.iter().find_map(|effect| match effect {
            Effect::End(why) => Some(*why),
            Effect::Reply(_) | Effect::Follow => None,
        });
        if let Some(why) = ends
            && let Some(end) = live.end.take()
        {
            // It has just ended by itself if nobody takes it.
            let _ = end.send(why);
        }
        match &live.state {
            // What takes the host down takes no place: it only waits.
            State::Running(running) if running.goes_down => self.schedule.remove(id),
            state if state.is_final() => {
                tracing::info!(command_id = %id, state = state.name(), "ended");
                self.forget(id);
            }
            _ => {}
        }
        self.once_saved(at_once);
    }

    /// What cannot be saved is not done. What has ended is told all the same, if its workflow
    /// says so to the next run of the agent too; else only once it is saved, since that run
    /// would begin it.
    fn on_step_not_saved(&mut self, id: CommandId, step: &Step, records: Vec<Record>) {
        if step.next.is_final() {
            let Some(live) = self.forget(id) else { return };
            for record in records {
                if let Record::Reply { response, .. } = record {
                    if live.has_begun {
                        self.outbox.push_unsaved(&response);
                    }
                    let operation = live.has_begun.then(|| live.operation.clone());
                    self.unsaved.insert(id, UnsavedEnd { response: *response, operation });
                }
            }
            return;
        }
        if self.live.get(&id).is_some_and(|live| matches!(live.state, State::Init { .. })) {
            tracing::warn!(command_id = %id, "stands still until its start can be saved");
            self.schedule.remove(id);
            self.stalled.push(id);
        }
        // Otherwise its workflow goes on, and the next state is told.
    }

    fn forget(&mut self, id: CommandId) -> Option<Live> {
        self.schedule.remove(id);
        operations::clean_up(&self.context.paths, id);
        let live = self.live.remove(&id)?;
        self.payload_bytes -= live.payload_bytes;
        Some(live)
    }

    /// A number that no reply of the command has.
    pub(super) fn next_free_n(&self, id: CommandId) -> u32 {
        use crate::journal::Seen;
        match self.journal.seen(id) {
            Some(Seen::Open(kept) | Seen::Ended(kept)) => kept.n + 1,
            Some(Seen::CancelledBefore) | None => 0,
        }
    }

    // --- its workflow -----------------------------------------------------------

    /// Begins a command's workflow, or finds it again, unless it was cancelled while that was saved.
    pub(super) fn follow(&mut self, id: CommandId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if !matches!(live.state, State::Running(_)) {
            return self.apply(id, Event::Ended(Ok(Outcome::default())));
        }
        let (end, ended) = oneshot::channel();
        live.end = Some(end);
        live.has_begun = true;
        let follow = Follow {
            workflows: self.context.workflows.clone(),
            id,
            operation: live.operation.clone(),
            owner: live.owner,
            payload: std::mem::take(&mut live.payload),
            has_told: live.told != Told::default(),
            to: self.reports_to.clone(),
        };
        if live.owner == Owner::Device {
            // It takes no place: the runner has room for all of them.
            self.schedule.remove(id);
        }
        self.following += 1;
        tokio::spawn(follow.run(ended));
    }

    pub(super) fn on_report(&mut self, id: CommandId, report: Report) {
        match report {
            Report::Over(ended) => {
                self.following -= 1;
                self.apply(id, Event::Ended(ended.map_err(Failed::into_parts)));
            }
            Report::Left => self.following -= 1,
            Report::State(Entered { state, progress }) => {
                self.apply(id, Event::StateEntered { state, progress });
            }
            Report::GoesDown { go } => self.apply_then(id, Event::GoesDown, Some(Then::LetGo(go))),
            Report::Announce { told } => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.to_announce.push(told);
                    self.announce_on(id);
                }
            }
            Report::Ready { mark, go } => {
                let record = Record::Process { id, process: mark };
                if self.live.contains_key(&id)
                    && let Err(error) = self.save(&[record], [Then::LetGo(go)])
                {
                    tracing::error!(command_id = %id, %error, "cannot save a program's start");
                }
            }
            Report::Output { stream, chunk } => self.tell_output(id, stream, chunk.text),
        }
    }

    /// Tells the server of a piece of output. Its offset goes on from program to program, and
    /// from run to run of the agent: what is noted here outlives a crash, and where a power
    /// cut takes the note the server keeps what it has.
    fn tell_output(&mut self, id: CommandId, stream: Stream, mut text: String) {
        let Some(mut response) = self.progress_of(id) else { return };
        let Some(live) = self.live.get_mut(&id) else { return };
        let told_bytes = match stream {
            Stream::Stdout => &mut live.told.stdout_bytes,
            Stream::Stderr => &mut live.told.stderr_bytes,
        };
        let offset = *told_bytes;
        let room = LIVE_MAX_BYTES.saturating_sub(offset) as usize;
        text.truncate(text.floor_char_boundary(room));
        if text.is_empty() {
            return;
        }
        *told_bytes += text.len() as u64;
        let told = live.told;
        match stream {
            Stream::Stdout => {
                response.stdout = Some(text);
                response.stdout_offset = Some(offset);
            }
            Stream::Stderr => {
                response.stderr = Some(text);
                response.stderr_offset = Some(offset);
            }
        }
        self.note(Record::Told { id, told });
        self.after_waiting(response);
    }

    /// Tells who waits for it that the broker has all that was said of a command.
    pub(super) fn announce_on(&mut self, id: CommandId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let is_told = live.next_n > 1 && !self.journal.has_unacked(id);
        if is_told {
            for told in live.to_announce.drain(..) {
                // Who waited may have gone on without it.
                let _ = told.send(());
            }
        }
    }

    fn progress_of(&self, id: CommandId) -> Option<Response> {
        let state = self.live.get(&id)?.state.name().to_owned();
        Some(Response {
            step: Some(state.clone()),
            state: Some(state),
            at: Some(self.context.clock.wall()),
            ..Response::new(id, ResponseStatus::Progress)
        })
    }
}

/// What of a step is to be saved, and what is to be done after.
fn to_save(id: CommandId, live: &Live, step: &Step, wall: Timestamp) -> (Vec<Record>, Vec<Then>) {
    let (mut records, mut then) = (Vec::new(), Vec::new());
    if let State::Running(running) = &step.next
        && step.next != live.state
    {
        records.push(Record::Running { id, running: running.clone() });
    }
    let mut n = live.next_n;
    for effect in &step.effects {
        match effect {
            Effect::Reply(reply) => {
                let response = Box::new(to_response(id, reply, wall));
                records.push(Record::Reply { n, response, wall });
                then.push(Then::Send { id, n });
                n += 1;
            }
            Effect::Follow => then.push(Then::Follow { id }),
            Effect::End(_) => {}
        }
    }
    (records, then)
}

fn to_response(id: CommandId, reply: &Reply, wall: Timestamp) -> Response {
    let new = |status| Response { at: Some(wall), ..Response::new(id, status) };
    let with = |outcome: &Outcome, response: Response| Response {
        result: outcome.result.clone(),
        exit_code: outcome.exit_code,
        stdout: outcome.stdout.clone(),
        stderr: outcome.stderr.clone(),
        ..response
    };
    match reply {
        Reply::Started { state } => Response {
            state: Some(state.clone()),
            step: Some(state.clone()),
            progress: Some(0),
            ..new(ResponseStatus::ExecutionStarted)
        },
        Reply::Entered { state, progress } => Response {
            state: Some(state.clone()),
            step: Some(state.clone()),
            progress: *progress,
            ..new(ResponseStatus::Progress)
        },
        Reply::Completed(outcome) => with(
            outcome,
            Response {
                state: Some("successful".to_owned()),
                progress: Some(100),
                ..new(ResponseStatus::Completed)
            },
        ),
        Reply::Failed(failure, outcome) => with(
            outcome,
            Response {
                state: Some("failed".to_owned()),
                error_code: Some(failure.code.to_string()),
                error_message: Some(failure.message.clone()),
                ..new(ResponseStatus::Failed)
            },
        ),
    }
}
