//! Stepping a command, saving the step, and its effects.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use quarterdeck_protocol::{
    command::{CommandMessage, Priority, Response, ResponseStatus, error_code},
    ids::CommandId,
    limits::{TIMEOUT_MAX_S, TIMEOUT_MIN_S},
    time::Timestamp,
};
use tokio_util::sync::CancellationToken;

use super::{After, Engine, saving::Then};
use crate::{
    domain::{
        command::{self, Effect, Event, Outcome, Phase, Plan, Reply, State, Step, Waits},
        operation::{Operation, Until},
    },
    journal::record::{Record, StageEntered},
    operations,
    work::{Failed, Report, Reports, Stream, WorkEnd},
};

/// How long `execution_started` may take to reach the broker before the host goes down, in milliseconds.
const ANNOUNCE_MS: i64 = 5_000;
/// How long ended work may take beyond the script's grace, in milliseconds.
const ENDING_MARGIN_MS: i64 = 12_000;

/// A command that has not ended.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) operation: Arc<Operation>,
    pub(super) priority: Priority,
    pub(super) plan: Plan,
    pub(super) state: State,
    /// Number of the next reply.
    pub(super) next_n: u32,
    /// The reply that said `execution_started` in this run.
    pub(super) started_n: Option<u32>,
    /// Ends the work that runs.
    pub(super) end: Option<CancellationToken>,
    pub(super) payload_bytes: usize,
}

impl Live {
    pub(super) fn with_stages(mut self) -> Self {
        self.plan.stages = self.operation.stages();
        self
    }
}

impl Engine {
    pub(super) fn plan_of(&self, message: &CommandMessage) -> Plan {
        let limits = &self.context.config.limits;
        Plan {
            stages: Operation::Ping.stages(),
            timeout_ms: i64::from(message.timeout_s.clamp(TIMEOUT_MIN_S, TIMEOUT_MAX_S)) * 1000,
            waits: Waits {
                announce_ms: ANNOUNCE_MS,
                return_ms: limits.reboot_ceiling_ms,
                ending_ms: limits.script_grace_ms as i64 + ENDING_MARGIN_MS,
            },
        }
    }

    /// Starts as many commands as there are places.
    pub(super) fn start_ready(&mut self) {
        while self.after.is_none()
            && let Some(id) = self.schedule.take()
        {
            self.apply(id, Event::Start { here: self.here.clone() });
        }
    }

    /// Gives an event to a command, saves what follows, and has it done.
    pub(super) fn apply(&mut self, id: CommandId, event: Event) {
        let now = self.now();
        let Some(live) = self.live.get(&id) else { return };
        let step = match command::step(&live.plan, &live.state, event, now) {
            Ok(step) => step,
            Err(refused) => {
                tracing::debug!(command_id = %id, %refused, "nothing changes");
                return;
            }
        };
        let wall = self.context.clock.wall();
        let (records, then) = to_save(id, live, &step, wall);
        let ends_work = step.effects.contains(&Effect::EndWork);
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
        if step.effects.iter().any(|effect| matches!(effect, Effect::Reply(Reply::Started { .. })))
        {
            live.started_n = Some(live.next_n);
        }
        live.next_n += replies as u32;
        live.state = step.next;
        if ends_work && let Some(end) = &live.end {
            end.cancel();
        }
        match &live.state {
            State::Working { phase: Phase::Waiting { .. }, .. } => self.schedule.remove(id),
            state if state.is_final() => {
                tracing::info!(command_id = %id, state = state.name(&live.plan), "ended");
                self.forget(id);
            }
            _ => {}
        }
        self.once_saved(at_once);
    }

    /// What cannot be saved is not done; what has ended is told all the same.
    fn on_step_not_saved(&mut self, id: CommandId, step: &Step, records: Vec<Record>) {
        if step.next.is_final() {
            for record in records {
                if let Record::Reply { response, .. } = record {
                    self.outbox.push_unsaved(&response);
                    self.unsaved.insert(id, *response);
                }
            }
            return self.forget(id);
        }
        if self.live.get(&id).is_some_and(|live| matches!(live.state, State::Init { .. })) {
            self.schedule.remove(id);
            self.stalled.push(id);
            return;
        }
        self.apply(id, Event::SaveFailed);
    }

    fn forget(&mut self, id: CommandId) {
        self.schedule.remove(id);
        if let Some(live) = self.live.remove(&id) {
            if let Operation::Workflow(operation, _) = &*live.operation {
                self.context.workflows.clear(operation, &id.to_string());
            }
            self.payload_bytes -= live.payload_bytes;
            if let Some(end) = live.end {
                end.cancel();
            }
        }
        operations::clean_up(&self.context.paths, id);
    }

    /// A number that no reply of the command has.
    pub(super) fn next_free_n(&self, id: CommandId) -> u32 {
        use crate::journal::Seen;
        match self.journal.seen(id) {
            Some(Seen::Open(kept) | Seen::Ended(kept)) => kept.n + 1,
            Some(Seen::CancelledBefore) | None => 0,
        }
    }

    // --- work -------------------------------------------------------------------

    pub(super) fn run_work(&mut self, id: CommandId, index: usize) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let is_wanted = matches!(
            &live.state,
            State::Working { index: now, phase: Phase::Work { .. }, .. } if *now == index
        );
        if !is_wanted {
            // It was cancelled while it was being saved: it ends without having begun.
            return self.apply(id, Event::WorkDone(Outcome::default()));
        }
        let operation = Arc::clone(&live.operation);
        if *operation == Operation::RestartAgent && self.context.config.exec.restart_agent.is_none()
        {
            self.apply(id, Event::WorkDone(Outcome::default()));
            if self.after.is_none() {
                self.begin_stop(After::StartAnew);
            }
            return;
        }
        let end = CancellationToken::new();
        live.end = Some(end.clone());
        if matches!(*operation, Operation::Workflow(..)) {
            // It takes no place: the runner has room for all of them.
            self.schedule.remove(id);
        }
        let context = Arc::clone(&self.context);
        let reports = Reports { id, to: self.reports_to.clone() };
        tokio::spawn(async move {
            let work = operations::run(&context, &operation, index, &end, &reports);
            let ended = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| panicked());
            reports.send(Report::Over(ended)).await;
        });
    }

    pub(super) fn on_report(&mut self, id: CommandId, report: Report) {
        match report {
            Report::Over(Ok(outcome)) => self.apply(id, Event::WorkDone(outcome)),
            Report::Over(Err(failed)) => {
                let (failure, outcome) = failed.into_parts();
                self.apply(id, Event::WorkFailed(failure, outcome));
            }
            Report::Ready { mark, go } => {
                let record = Record::Process { id, process: mark };
                if self.live.contains_key(&id)
                    && let Err(error) = self.save(&[record], [Then::LetGo(go)])
                {
                    tracing::error!(command_id = %id, %error, "cannot save a program's start");
                }
            }
            Report::Output { stream, chunk } => {
                let Some(mut response) = self.progress_of(id) else { return };
                match stream {
                    Stream::Stdout => {
                        response.stdout = Some(chunk.text);
                        response.stdout_offset = Some(chunk.offset);
                    }
                    Stream::Stderr => {
                        response.stderr = Some(chunk.text);
                        response.stderr_offset = Some(chunk.offset);
                    }
                }
                self.outbox.push_unsaved(&response);
            }
            Report::State(state) => {
                // The first reply after `accepted` says that it has started, also after a restart.
                let is_first = self.live.get(&id).is_some_and(|live| live.next_n == 1);
                self.apply(id, Event::StateEntered { state, is_first });
            }
            Report::Progress(percent) => {
                let Some(mut response) = self.progress_of(id) else { return };
                response.progress = Some(percent.min(100));
                self.outbox.push_unsaved(&response);
            }
        }
    }

    fn progress_of(&self, id: CommandId) -> Option<Response> {
        let live = self.live.get(&id)?;
        let state = live.state.name(&live.plan).to_owned();
        Some(Response {
            step: Some(state.clone()),
            state: Some(state),
            at: Some(self.context.clock.wall()),
            ..Response::new(id, ResponseStatus::Progress)
        })
    }
}

fn panicked() -> WorkEnd {
    let message = "the operation itself failed; the agent's log says why";
    Err(Failed::because(error_code::INTERNAL, message))
}

/// What of a step is to be saved, and what is to be done after.
fn to_save(id: CommandId, live: &Live, step: &Step, wall: Timestamp) -> (Vec<Record>, Vec<Then>) {
    let (mut records, mut then) = (Vec::new(), Vec::new());
    if let State::Working { index, since, timeout_at, phase } = &step.next {
        let was = match &live.state {
            State::Working { index, .. } => Some(*index),
            _ => None,
        };
        if was != Some(*index) {
            let return_by = match phase {
                Phase::Work { return_by } => *return_by,
                Phase::Waiting { due_at } => *due_at,
            };
            records.push(Record::Stage(StageEntered {
                id,
                index: *index,
                since: since.clone(),
                timeout_at: *timeout_at,
                return_by,
                is_workflow: matches!(*live.operation, Operation::Workflow(..)),
            }));
        }
    }
    let mut n = live.next_n;
    for effect in &step.effects {
        match effect {
            Effect::Reply(reply) => {
                let goes_down = is_going_down(live, &step.next);
                let response = Box::new(to_response(id, reply, goes_down, wall));
                records.push(Record::Reply { n, response, wall });
                then.push(Then::Send { id, n });
                n += 1;
            }
            Effect::RunWork { index } => then.push(Then::RunWork { id, index: *index }),
            Effect::EndWork => {}
        }
    }
    (records, then)
}

fn is_going_down(live: &Live, next: &State) -> bool {
    match next {
        State::Working { index, .. } => {
            matches!(live.plan.stages[*index].until, Until::NewBoot | Until::NewRun)
        }
        _ => false,
    }
}

fn to_response(id: CommandId, reply: &Reply, goes_down: bool, wall: Timestamp) -> Response {
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
            state: Some(state.to_string()),
            step: Some(state.to_string()),
            progress: Some(0),
            ..new(ResponseStatus::ExecutionStarted)
        },
        Reply::Entered { state, progress } => Response {
            state: Some(state.to_string()),
            step: Some(state.to_string()),
            // How far a reboot is, nobody can tell from here.
            progress: progress.filter(|_| !goes_down),
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
                error_code: Some(failure.code.to_owned()),
                error_message: Some(failure.message.clone()),
                ..new(ResponseStatus::Failed)
            },
        ),
    }
}
