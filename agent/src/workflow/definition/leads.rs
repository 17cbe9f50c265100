//! Where the actions lead: for the graph, and to find states that nothing leads to.

use super::{Action, AwaitHandlers, OnZero, ScriptHandlers, Target};

/// One way out of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead<'a> {
    /// E.g. `exit 2-5`, `time-out`.
    pub when: String,
    /// Nothing where only the script's output knows.
    pub status: Option<&'a str>,
    pub reason: Option<&'a str>,
}

impl<'a> Lead<'a> {
    fn new(when: impl Into<String>, target: &'a Target) -> Self {
        Self { when: when.into(), status: Some(&target.status), reason: target.reason.as_deref() }
    }
}

impl Action {
    /// Lists the ways out of it.
    pub fn leads(&self) -> Vec<Lead<'_>> {
        match self {
            Self::Proceed { next } => vec![Lead::new("at once", next)],
            Self::BackgroundScript { next, .. } => vec![Lead::new("before it starts", next)],
            Self::Operation { next, .. } | Self::BuiltinOperation { next, .. } => {
                vec![Lead::new("before it starts", next)]
            }
            Self::RestartAgent { next } => vec![Lead::new("before it restarts", next)],
            Self::Script { handlers, .. } => handlers.leads(),
            Self::AwaitOperation { handlers, .. } | Self::Builtin { handlers, .. } => {
                handlers.leads("success", true)
            }
            Self::AwaitAgentRestart { handlers } => handlers.leads("restarted", false),
            Self::Iterate { next, on_success, on_error, .. } => vec![
                Lead::new("an item is left", next),
                Lead::new("none is left", on_success),
                Lead::new("no array", on_error),
            ],
            Self::Cleanup => Vec::new(),
        }
    }
}

impl ScriptHandlers {
    fn leads(&self) -> Vec<Lead<'_>> {
        let mut leads = Vec::new();
        match &self.on_zero {
            OnZero::To(target) => leads.push(Lead::new("exit 0", target)),
            OnZero::OneOf(states) => leads.extend(states.iter().map(|status| Lead {
                when: "exit 0, as printed".to_owned(),
                status: Some(status),
                reason: None,
            })),
            OnZero::AsPrinted => leads.push(Lead {
                when: "exit 0, as printed".to_owned(),
                status: None,
                reason: None,
            }),
        }
        for exit in self.on_exit.iter().filter(|exit| exit.to > 0) {
            let (from, to) = (exit.from.max(1), exit.to);
            let when =
                if from == to { format!("exit {from}") } else { format!("exit {from}-{to}") };
            leads.push(Lead::new(when, &exit.target));
        }
        leads.push(Lead::new("else", &self.on_error));
        leads.push(Lead::new("killed", &self.on_kill));
        if self.timeout_ms.is_some() {
            leads.push(Lead::new("time-out", &self.on_timeout));
        }
        leads
    }
}

impl AwaitHandlers {
    fn leads(&self, success: &str, may_fail: bool) -> Vec<Lead<'_>> {
        let mut leads = vec![Lead::new(success, &self.on_success)];
        if may_fail {
            leads.push(Lead::new("else", &self.on_error));
        }
        if self.timeout_ms.is_some() {
            leads.push(Lead::new("time-out", &self.on_timeout));
        }
        leads
    }
}
