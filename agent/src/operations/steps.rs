//! The agent's own operations, as steps of workflows: `action = "builtin"` and its kin, in
//! the agent's own files and in those of the device's owner.
//!
//! What a step brings stands in the payload under [`Brought::KEY`]; the command's last
//! response says it. A step that was cut off by the end of the agent is `interrupted`,
//! unless its file says that it may be repeated, or it can be known how it ended: one
//! that takes the host or the agent down ends well when they are back.

use std::{pin::Pin, sync::Arc, time::Duration};

use quarterdeck_protocol::{command::error_code, ids::CommandId, operations};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Context, clean_up, going_down, operation::Operation};
use crate::{
    domain::command::{Failure, Outcome},
    runner::{
        handlers::{Call, Handled, Handlers},
        requests,
    },
    work::{Brought, Failed, REPORTS_WAITING_MAX, Report, Reports, WorkEnd},
    workflow::{engine::StepFailure, message::Payload, topic::CommandTopic},
};

/// How long a step may take to end when the agent stops, in milliseconds.
const STOP_STEP_MS: u64 = 1_500;
const INTERRUPTED: &str = "the agent went down while it ran; how far it got is not known";

/// Runs such steps.
#[derive(Debug)]
pub struct Steps {
    context: Arc<Context>,
    /// Where what the server's commands tell goes, if there is a server.
    server: Option<mpsc::Sender<(CommandId, Report)>>,
    agent_stops: CancellationToken,
}

impl Steps {
    pub const fn new(
        context: Arc<Context>,
        server: Option<mpsc::Sender<(CommandId, Report)>>,
        agent_stops: CancellationToken,
    ) -> Self {
        Self { context, server, agent_stops }
    }

    async fn run(self: Arc<Self>, call: Call, stop: CancellationToken) -> Handled {
        let payload = known_fields(&call.operation, call.payload.clone());
        let operation = match Operation::parse(&call.operation, &Value::Object(payload)) {
            Ok(operation) => operation,
            Err(why) => return failed(Failure::new(why.code(), why.to_string())),
        };
        let steps = match steps_of(&operation, &call) {
            Ok(steps) => steps,
            Err(why) => return failed(Failure::new(error_code::REJECTED, why)),
        };
        let goes_down = steps.iter().any(|step| operation.goes_down(step).is_some());
        if call.is_resumed && !call.is_repeatable && !goes_down {
            return failed(Failure::new(error_code::INTERRUPTED, INTERRUPTED));
        }
        let reports = self.reports_of(&call.topic);
        let mut brought = Ok(Outcome::default());
        for step in steps {
            brought = if let Some(until) = operation.goes_down(step) {
                let work = going_down::Step { operation: &operation, until, call: &call };
                work.run(&self.context, &stop, &reports).await?
            } else {
                tokio::select! {
                    end = super::run(&self.context, &operation, step, &stop, &reports) => end,
                    // Without the agent a program's supervisor ends it.
                    () = self.has_to_go() => Err(Failed::because(error_code::INTERRUPTED, "")),
                }
            };
            if brought.is_err() {
                break;
            }
        }
        let is_cut_off = stop.is_cancelled() && !goes_down;
        let shown = brought.as_ref().ok().and_then(|outcome| operation.shown(outcome));
        let handled = to_handled(brought, is_cut_off, call.is_repeatable);
        match (handled, shown) {
            (Some(Ok(mut fields)), Some((key, value))) => {
                fields.insert(key.to_owned(), value);
                Some(Ok(fields))
            }
            (handled, _) => handled,
        }
    }

    /// Waits until the agent stops and can wait no longer.
    async fn has_to_go(&self) {
        self.agent_stops.cancelled().await;
        sleep(Duration::from_millis(STOP_STEP_MS)).await;
    }

    /// Where a step tells what it does; all steps of a command, and of what it started, are one.
    fn reports_of(&self, topic: &CommandTopic) -> Reports {
        let server = requests::command_id(topic).and(self.server.clone());
        let to = server.unwrap_or_else(|| {
            let (to, from) = mpsc::channel(REPORTS_WAITING_MAX);
            tokio::spawn(agree(from));
            to
        });
        Reports { id: work_id(topic), to }
    }
}

impl Handlers for Steps {
    fn handle(
        self: Arc<Self>,
        call: Call,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Handled> + Send>> {
        Box::pin(self.run(call, stop))
    }

    fn ended(&self, topic: &CommandTopic) {
        clean_up(&self.context.paths, work_id(topic));
    }
}

/// The name of a command's own folder, and the mark of its processes: the server's id, or
/// for a command of the bus one that is made of its topic.
pub fn work_id(topic: &CommandTopic) -> CommandId {
    requests::command_id(topic).unwrap_or_else(|| {
        let digest = Sha256::digest(topic.root_command().as_str());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        CommandId(Uuid::from_bytes(bytes))
    })
}

/// A step that brought nothing but a failure.
fn failed(failure: Failure) -> Handled {
    to_handled(Err(Failed::new(failure, Outcome::default())), false, false)
}

fn to_handled(brought: WorkEnd, is_cut_off: bool, is_repeatable: bool) -> Handled {
    if is_cut_off && is_repeatable {
        return None;
    }
    let (failure, outcome) = match brought.map_err(Failed::into_parts) {
        Ok(outcome) if !is_cut_off => return Some(Ok(Brought::fields(outcome, None))),
        Err((failure, outcome)) if !is_cut_off => (failure, outcome),
        Ok(outcome) | Err((_, outcome)) => {
            (Failure::new(error_code::INTERRUPTED, INTERRUPTED), outcome)
        }
    };
    let fields = Brought::fields(outcome, Some(&failure));
    Some(Err(StepFailure { reason: failure.message, fields }))
}

/// Leaves what the operation knows: a workflow's payload may hold more.
fn known_fields(operation: &str, mut payload: Payload) -> Payload {
    let known = operations::builtin().into_iter().find(|known| known.name == operation);
    let schema = known.map(|known| known.form_schema).unwrap_or_default();
    payload.retain(|key, _| schema["properties"].get(key).is_some());
    payload
}

/// Finds the steps that are meant.
fn steps_of(operation: &Operation, call: &Call) -> Result<&'static [&'static str], String> {
    let all = operation.steps();
    let Some(step) = call.step.as_deref() else { return Ok(all) };
    let at = all.iter().position(|known| *known == step);
    let at = at.ok_or_else(|| {
        let known = all.join(", ");
        format!("{} has no step {step:?}; there are: {known}", call.operation)
    })?;
    Ok(&all[at..=at])
}

/// Answers a step of a command that no server knows: the step is saved already, so whatever
/// asks for leave has it at once.
async fn agree(mut from: mpsc::Receiver<(CommandId, Report)>) {
    while let Some((_, report)) = from.recv().await {
        if let Report::Ready { go: leave, .. }
        | Report::GoesDown { go: leave }
        | Report::Announce { told: leave } = report
        {
            // A step that was ended meanwhile no longer waits for it.
            let _ = leave.send(());
        }
    }
}
