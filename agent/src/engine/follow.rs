//! Following the workflow of a server's command: the runner carries it out
//! ([`crate::runner`]), and here its states, what its scripts write, and its end become the
//! server's, in that order.

use std::{borrow::Cow, sync::Arc};

use quarterdeck_protocol::{
    command::error_code,
    ids::CommandId,
    limits::{ERROR_MESSAGE_MAX_BYTES, RESULT_MAX_BYTES},
    text,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::{
    domain::{
        command::{Failure, Outcome, Why},
        operation::Owner,
    },
    io::live::LiveOutput,
    runner::requests::Workflows,
    work::{Brought, Failed, Report, WorkEnd},
    workflow::{
        definition::FAILED,
        message::{Baton, Payload, REASON},
    },
};

/// What the reason of a script begins with that a crash cut off and that may not run again.
const INTERRUPTED: &str = "interrupted:";

/// Follows one workflow to its end, or until the agent stops.
#[derive(Debug)]
pub(super) struct Follow {
    pub workflows: Workflows,
    pub id: CommandId,
    pub operation: Arc<str>,
    pub owner: Owner,
    pub payload: Payload,
    /// An earlier run of the agent has told some of its output.
    pub has_told: bool,
    pub to: mpsc::Sender<(CommandId, Report)>,
}

impl Follow {
    /// Starts the workflow, or finds it again after a restart; `end` says why it is to be ended.
    pub(super) async fn run(mut self, mut end: oneshot::Receiver<Why>) {
        let id = self.id.to_string();
        // What steps of the agent's own brought is not the sender's to say.
        self.payload.remove(Brought::KEY);
        let payload = std::mem::take(&mut self.payload);
        let mut asked = self.workflows.start(&self.operation, &id, payload).await;
        let mut is_ending = false;
        let last = loop {
            tokio::select! {
                biased;
                Some(entered) = asked.states.recv() => {
                    // What the states before have written.
                    self.tell_output(&asked.output).await;
                    let _ = self.to.send((self.id, Report::State(entered))).await;
                }
                ended = &mut asked.end => {
                    self.tell_output(&asked.output).await;
                    let [stdout, stderr] = asked.output.close();
                    break ended.map_or(Report::Left, |baton| {
                        let wrote = if self.has_told { [None, None] } else { [stdout, stderr] };
                        Report::Over(with_output(to_end(self.owner, baton), wrote))
                    });
                }
                why = &mut end, if !is_ending => {
                    is_ending = true;
                    if let Ok(why) = why {
                        self.workflows.abort(&self.operation, &id, why.failure()).await;
                    }
                }
                () = asked.output.due() => self.tell_output(&asked.output).await,
            }
        };
        // Nobody listens only when the agent stops.
        let _ = self.to.send((self.id, last)).await;
    }

    async fn tell_output(&self, output: &LiveOutput) {
        for (stream, chunk) in output.take() {
            let _ = self.to.send((self.id, Report::Output { stream, chunk })).await;
        }
    }
}

/// Adds what all its scripts wrote to a command's end, unless a step of the agent's own says
/// what that step wrote. What an earlier run of the agent told is not known here: then the
/// server has it, as far as it was told live.
fn with_output(end: WorkEnd, wrote: [Option<String>; 2]) -> WorkEnd {
    let [stdout, stderr] = wrote;
    let add = |outcome: Outcome| match (&outcome.stdout, &outcome.stderr) {
        (None, None) => Outcome { stdout, stderr, ..outcome },
        _ => outcome,
    };
    match end.map_err(Failed::into_parts) {
        Ok(outcome) => Ok(add(outcome)),
        Err((failure, outcome)) => Err(Failed::new(failure, add(outcome))),
    }
}

/// Turns the last state into the command's end.
fn to_end(owner: Owner, baton: Baton) -> WorkEnd {
    let Baton { status, mut payload } = baton;
    let brought = Brought::take(&mut payload);
    if *status != *FAILED {
        return Ok(outcome(owner, payload, brought));
    }
    let reason = match payload.remove(REASON) {
        Some(Value::String(reason)) => reason,
        Some(other) => other.to_string(),
        None => "it gives no reason".to_owned(),
    };
    let reason = text::truncate_bytes(&reason, ERROR_MESSAGE_MAX_BYTES);
    let code = brought.code_of(reason).map_or_else(|| code_of(reason).into(), Cow::Owned);
    Err(Failed::new(Failure::new(code, reason), outcome(owner, payload, brought)))
}

/// Says of a reason that a script, or the engine, gave what kind of failure it is.
fn code_of(reason: &str) -> &'static str {
    if reason.starts_with(INTERRUPTED) {
        error_code::INTERRUPTED
    } else {
        error_code::SCRIPT_FAILED
    }
}

/// Takes what the last step of the agent's own brought; of a workflow of the device's owner
/// the payload is the result, unless that step has one. What is too long to send is left out
/// rather than cut into something else.
fn outcome(owner: Owner, payload: Payload, brought: Brought) -> Outcome {
    let mut outcome = brought.outcome;
    let of_payload = || (owner == Owner::Device).then_some(Value::Object(payload));
    let result = outcome.result.take().or_else(of_payload);
    let fits = |result: &Value| {
        serde_json::to_vec(result).is_ok_and(|text| text.len() <= RESULT_MAX_BYTES)
    };
    Outcome { result: result.filter(fits), ..outcome }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn baton(status: &str, payload: &Value) -> Baton {
        Baton { status: status.into(), payload: payload.as_object().expect("an object").clone() }
    }

    fn end(status: &str, payload: &Value) -> Outcome {
        to_end(Owner::Device, baton(status, payload)).expect("it is no failure")
    }

    fn failure(payload: &Value) -> (Failure, Outcome) {
        to_end(Owner::Device, baton("failed", payload)).expect_err("it failed").into_parts()
    }

    #[test]
    fn the_last_payload_is_the_result_and_a_failure_has_its_reason() {
        assert_eq!(end("successful", &json!({"x": 1})).result, Some(json!({"x": 1})));
        let (why, outcome) = failure(&json!({"reason": "why", "x": 1}));
        assert_eq!((&*why.code, &*why.message), ("script_failed", "why"));
        assert_eq!(outcome.result, Some(json!({"x": 1})));
        assert_eq!(failure(&json!({"reason": {"code": 3}})).0.message, "{\"code\":3}");
        let (why, _) = failure(&json!({"reason": "interrupted: so far"}));
        assert_eq!(why.code, error_code::INTERRUPTED);
        let long = end("restarted", &json!({"x": "y".repeat(RESULT_MAX_BYTES)}));
        assert_eq!(long.result, None);
    }

    #[test]
    fn what_a_step_of_the_agents_own_brought_is_told_as_it_is() {
        let builtin = json!({"x": 1, "@builtin": {"exit_code": 0, "stdout": "out"}});
        let ended = end("successful", &builtin);
        assert_eq!((ended.exit_code, ended.stdout.as_deref()), (Some(0), Some("out")));
        assert_eq!(ended.result, Some(json!({"x": 1})));
        let own = to_end(Owner::Agent, baton("successful", &builtin)).expect("no failure");
        assert_eq!(own.result, None, "what was sent is no result");
        let brought = json!({"error_code": "launch_failed", "error_message": "no such file"});
        let (why, _) = failure(&json!({"reason": "no such file", "@builtin": brought}));
        assert_eq!(why.code, "launch_failed");
        let (why, _) = failure(&json!({"reason": "rolled back", "@builtin": brought}));
        assert_eq!(why.code, "script_failed", "it failed for another reason");
    }
}
