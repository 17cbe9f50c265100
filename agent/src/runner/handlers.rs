//! The agent's own operations, as the runner has them done: `action = "builtin"` and its kin.

use std::{fmt, pin::Pin, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::workflow::{definition::BuiltinCall, message::Payload, topic::CommandTopic};

/// What a handler comes to: fields for the payload, or a reason.
pub type Handled = Result<Payload, String>;

/// Something that a workflow asks of the agent's own code.
#[derive(Debug, Clone)]
pub struct Call {
    pub topic: CommandTopic,
    pub operation: Arc<str>,
    /// One step of the operation; all of them without it.
    pub step: Option<Arc<str>>,
    pub payload: Payload,
}

impl Call {
    /// Reads what a definition asks for; `None` for what this agent has not.
    pub(super) fn of(topic: &CommandTopic, call: BuiltinCall, payload: Payload) -> Option<Self> {
        let (operation, step) = match call {
            BuiltinCall::Own => (topic.operation().into(), None),
            BuiltinCall::Step { operation, step } => (operation, Some(step)),
            BuiltinCall::Download | BuiltinCall::Upload => return None,
        };
        Some(Self { topic: topic.clone(), operation, step, payload })
    }
}

/// Does what workflows ask of the agent's own code.
pub trait Handlers: Send + Sync + fmt::Debug {
    /// Does it; `stop` ends it early.
    fn handle(
        self: Arc<Self>,
        call: Call,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Handled> + Send>>;
}
