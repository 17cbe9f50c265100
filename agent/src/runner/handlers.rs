//! The agent's own operations, as the runner has them done: `action = "builtin"` and its kin.

use std::{fmt, pin::Pin, sync::Arc};

use tokio_util::sync::CancellationToken;

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Lifetime, Moment},
    workflow::{
        definition::BuiltinCall, engine::StepFailure, message::Payload, topic::CommandTopic,
    },
};

/// What a handler comes to: fields for the payload, or a failure; nothing when it was ended
/// early and may be asked for again by the next run of the agent.
pub type Handled = Option<Result<Payload, StepFailure>>;

/// When a command entered the state that it is in; kept while the agent and the host restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    pub life: Lifetime,
    /// On the boot clock of that life.
    pub at: Moment,
}

/// Something that a workflow asks of the agent's own code.
#[derive(Debug, Clone)]
pub struct Call {
    pub topic: CommandTopic,
    pub operation: Arc<str>,
    /// One step of the operation; all of them without it.
    pub step: Option<Arc<str>>,
    pub payload: Payload,
    /// It was asked for before, and the agent has restarted since.
    pub is_resumed: bool,
    /// Then it may simply be done again.
    pub is_repeatable: bool,
    pub since: Since,
}

impl Call {
    /// Names what a definition asks for: operation and step; `None` for what this agent has not.
    pub(super) fn name(
        topic: &CommandTopic,
        call: BuiltinCall,
    ) -> Option<(Arc<str>, Option<Arc<str>>)> {
        match call {
            BuiltinCall::Own => Some((topic.operation().into(), None)),
            BuiltinCall::Step { operation, step } => Some((operation, Some(step))),
            BuiltinCall::Download | BuiltinCall::Upload => None,
        }
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

    /// Forgets what was kept between the steps of a command that has ended.
    fn ended(&self, topic: &CommandTopic);
}
