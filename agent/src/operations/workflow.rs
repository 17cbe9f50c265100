//! Commands of workflows that the device's owner wrote: the runner carries them
//! out ([`crate::runner`]), and here their states become the server's.

use quarterdeck_protocol::{
    command::error_code,
    limits::{ERROR_MESSAGE_MAX_BYTES, RESULT_MAX_BYTES},
    text,
};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{Context, fail, steps::BUILTIN};
use crate::{
    domain::command::{Failure, Outcome},
    work::{Failed, Report, Reports, WorkEnd},
    workflow::{
        definition::FAILED,
        message::{Baton, REASON},
    },
};

/// What the reason of a step begins with that a crash cut off and that may not run again.
const INTERRUPTED: &str = "interrupted:";

/// Starts a workflow, or finds it again after a restart, and follows it to its end.
pub(super) async fn follow(
    context: &Context,
    operation: &str,
    payload: &Map<String, Value>,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let id = reports.id.to_string();
    let mut asked = context.workflows.start(operation, &id, payload.clone()).await;
    let mut is_ending = false;
    loop {
        tokio::select! {
            biased;
            Some(state) = asked.states.recv() => {
                reports.send(Report::State(state.to_string())).await;
            }
            ended = &mut asked.end => {
                return match ended {
                    Ok(baton) => to_end(baton),
                    Err(_) => fail(error_code::INTERRUPTED, "the agent stops"),
                };
            }
            () = end.cancelled(), if !is_ending => {
                is_ending = true;
                // The machine says why it was ended.
                context.workflows.abort(operation, &id, "ended by the server").await;
            }
        }
    }
}

/// Turns the last state into the command's end; its payload is the result.
fn to_end(baton: Baton) -> WorkEnd {
    let Baton { status, mut payload } = baton;
    if *status == *FAILED {
        let reason = match payload.remove(REASON) {
            Some(Value::String(reason)) => reason,
            Some(other) => other.to_string(),
            None => "it gives no reason".to_owned(),
        };
        let reason = text::truncate_bytes(&reason, ERROR_MESSAGE_MAX_BYTES);
        let is_interrupted = reason.starts_with(INTERRUPTED);
        let code = if is_interrupted { error_code::INTERRUPTED } else { error_code::SCRIPT_FAILED };
        return Err(Failed::new(Failure::new(code, reason), outcome(payload)));
    }
    Ok(outcome(payload))
}

/// Takes what the last step of the agent's own brought, and the payload where that has no
/// result; what is too long to send is left out rather than cut into something else.
fn outcome(mut payload: Map<String, Value>) -> Outcome {
    let brought = payload.remove(BUILTIN).map(serde_json::from_value);
    let mut outcome: Outcome = brought.and_then(Result::ok).unwrap_or_default();
    let result = outcome.result.take().unwrap_or(Value::Object(payload));
    let size = serde_json::to_vec(&result).map_or(usize::MAX, |text| text.len());
    if size > RESULT_MAX_BYTES {
        return outcome;
    }
    Outcome { result: Some(result), ..outcome }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn baton(status: &str, payload: &Value) -> Baton {
        Baton { status: status.into(), payload: payload.as_object().expect("an object").clone() }
    }

    #[test]
    fn the_last_payload_is_the_result_and_a_failure_has_its_reason() {
        let ended = to_end(baton("successful", &json!({"x": 1}))).expect("it is no failure");
        assert_eq!(ended.result, Some(json!({"x": 1})));
        let failed = to_end(baton("failed", &json!({"reason": "why", "x": 1})));
        let (failure, outcome) = failed.expect_err("it failed").into_parts();
        assert_eq!((failure.message.as_str(), outcome.result), ("why", Some(json!({"x": 1}))));
        let failed = to_end(baton("failed", &json!({"reason": {"code": 3}})));
        let (failure, _) = failed.expect_err("it failed").into_parts();
        assert_eq!(failure.message, "{\"code\":3}");
        let builtin = json!({"x": 1, "@builtin": {"exit_code": 0, "stdout": "out"}});
        let ended = to_end(baton("successful", &builtin)).expect("it is no failure");
        assert_eq!((ended.exit_code, ended.stdout.as_deref()), (Some(0), Some("out")));
        assert_eq!(ended.result, Some(json!({"x": 1})));
        let failed = to_end(baton("failed", &json!({"reason": "interrupted: so far"})));
        assert_eq!(failed.expect_err("it failed").into_parts().0.code, error_code::INTERRUPTED);
        let long = to_end(baton("restarted", &json!({"x": "y".repeat(RESULT_MAX_BYTES)})));
        assert_eq!(long.expect("it is no failure").result, None);
    }
}
