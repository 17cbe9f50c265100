//! The agent's own operations as steps of workflows: `action = "builtin"` in a file
//! of the device's owner.
//!
//! What a step brings stands in the payload under [`BUILTIN`]; the command's last
//! response says it as if the operation had run alone. Operations that take the
//! host or the agent down are no such steps: a workflow has its own words for that.

use std::{ops::Range, pin::Pin, sync::Arc};

use quarterdeck_protocol::{ids::CommandId, operations};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Context, clean_up};
use crate::{
    domain::{
        command::Outcome,
        operation::{Operation, Until},
    },
    runner::{
        handlers::{Call, Handled, Handlers},
        requests,
    },
    work::{REPORTS_WAITING_MAX, Report, Reports},
    workflow::message::Payload,
};

/// Where a step's outcome stands in the payload.
pub const BUILTIN: &str = "@builtin";

/// Runs such steps.
#[derive(Debug)]
pub struct Steps {
    context: Arc<Context>,
    /// Where the live output of the server's commands goes.
    server: mpsc::Sender<(CommandId, Report)>,
}

impl Steps {
    pub const fn new(context: Arc<Context>, server: mpsc::Sender<(CommandId, Report)>) -> Self {
        Self { context, server }
    }

    async fn run(self: Arc<Self>, call: Call, stop: CancellationToken) -> Handled {
        let payload = known_fields(&call.operation, call.payload);
        let operation = Operation::parse(&call.operation, &Value::Object(payload))
            .map_err(|invalid| invalid.to_string())?;
        let stages = stages(&operation, &call.operation, call.step.as_deref())?;
        let command = requests::command_id(&call.topic);
        let id = command.unwrap_or_else(|| CommandId(self.context.clock.random_id()));
        let (to, from) = mpsc::channel(REPORTS_WAITING_MAX);
        let server = command.map(|_| self.server.clone());
        tokio::spawn(pass_on(from, server));
        let reports = Reports { id, to };
        let mut brought = Ok(Outcome::default());
        for index in stages {
            brought = super::run(&self.context, &operation, index, &stop, &reports).await;
            if brought.is_err() {
                break;
            }
        }
        if command.is_none() {
            clean_up(&self.context.paths, id);
        }
        let outcome = brought.map_err(|failed| failed.into_parts().0.message)?;
        let outcome = serde_json::to_value(outcome).expect("plain data");
        Ok(Payload::from_iter([(BUILTIN.to_owned(), outcome)]))
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
}

/// Leaves what the operation knows: a workflow's payload may hold more.
fn known_fields(operation: &str, mut payload: Payload) -> Payload {
    let known = operations::builtin().into_iter().find(|known| known.name == operation);
    let schema = known.map(|known| known.form_schema).unwrap_or_default();
    payload.retain(|key, _| schema["properties"].get(key).is_some());
    payload
}

/// Finds the stages that are meant.
fn stages(operation: &Operation, name: &str, step: Option<&str>) -> Result<Range<usize>, String> {
    let all = operation.stages();
    let range = match step {
        None => 0..all.len(),
        Some(step) => {
            let at = all.iter().position(|stage| stage.name == step);
            let at = at.ok_or_else(|| format!("{name} has no step {step:?}"))?;
            at..at + 1
        }
    };
    if all[range.clone()].iter().any(|stage| stage.until != Until::WorkEnds) {
        return Err(format!(
            "{name} takes the host or the agent down, and is no step of a workflow"
        ));
    }
    Ok(range)
}

/// Passes on what the server is told while a step runs; a program starts at once, for
/// the step is saved already.
async fn pass_on(
    mut from: mpsc::Receiver<(CommandId, Report)>,
    server: Option<mpsc::Sender<(CommandId, Report)>>,
) {
    while let Some((id, report)) = from.recv().await {
        match (report, &server) {
            (Report::Ready { go, .. }, None) => {
                // A step that was ended meanwhile no longer waits for it.
                let _ = go.send(());
            }
            (report, Some(server)) => {
                // Nobody listens only when the agent stops.
                let _ = server.send((id, report)).await;
            }
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_takes_of_a_payload_what_its_operation_knows() {
        let payload = json!({"script": "id", "reason": "busy", "@next": {"index": 1}});
        let known = known_fields("run_script", payload.as_object().expect("an object").clone());
        assert_eq!(Value::Object(known), json!({"script": "id"}));
        assert!(known_fields("none", Payload::from_iter([("x".to_owned(), json!(1))])).is_empty());
    }

    #[test]
    fn a_step_is_named_or_all_are_meant() {
        let push = json!({"path": "/tmp/x", "content": ""});
        let push = Operation::parse("file_push", &push).expect("valid");
        assert_eq!(stages(&push, "file_push", None), Ok(0..2));
        assert_eq!(stages(&push, "file_push", Some("installing")), Ok(1..2));
        assert!(stages(&push, "file_push", Some("flying")).is_err());
        assert!(stages(&Operation::RebootHost, "reboot_host", None).is_err());
    }
}
