//! Steps that take the host or the agent down: the command line of the device's owner is
//! run once, and the step ends well in another boot, or in another run of the agent.
//!
//! ```text
//!  asked ─▶ leave of the server's part ─▶ command line ─▶ down … up ─▶ asked again: back? well
//!                                             │ fails               still the same boot: waits
//!                                             ▼                     until the ceiling, then fails
//!                                           fails                 with `timeout`
//! ```
//!
//! Whether it is back is known by the boot and the run in which its state was entered,
//! which are saved with it.

use std::time::Duration;

use quarterdeck_protocol::command::error_code;
use serde_json::json;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Context, fail, operation::Operation, owner};
use crate::{
    domain::{Lifetime, command::Outcome},
    runner::handlers::Call,
    work::{Report, Reports, WorkEnd},
};

/// How long what was said of a command may take to reach the server's broker, in milliseconds.
const ANNOUNCE_MS: u64 = 5_000;

/// When such a step is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The host has booted anew.
    NewBoot,
    /// The agent has started anew.
    NewRun,
}

impl Until {
    fn is_over(self, since: &Lifetime, here: &Lifetime) -> bool {
        let is_new_boot = here.boot_id != since.boot_id;
        match self {
            Self::NewBoot => is_new_boot,
            Self::NewRun => is_new_boot || here.run_id != since.run_id,
        }
    }
}

/// One such step.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub operation: &'a Operation,
    pub until: Until,
    pub call: &'a Call,
}

impl Step<'_> {
    /// Does it; nothing when the agent stops first, so that its next run goes on.
    pub(super) async fn run(
        self,
        context: &Context,
        stop: &CancellationToken,
        reports: &Reports,
    ) -> Option<WorkEnd> {
        let since = &self.call.since;
        if self.until.is_over(&since.life, &context.here) {
            return Some(Ok(Outcome::result(json!({
                "boot_id": context.here.boot_id, "boot_id_before": since.life.boot_id
            }))));
        }
        let (go, may_go) = oneshot::channel();
        reports.send(Report::GoesDown { go }).await;
        let may_go = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            let_go = may_go => let_go.is_ok(),
        };
        if !self.call.is_resumed {
            if !may_go {
                let why = "it was ended, or could not be saved, before it was done";
                return Some(fail(error_code::INTERRUPTED, why));
            }
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                ended = self.take_down(context, reports) => ended,
            };
            if ended.is_err() {
                return Some(ended);
            }
        }
        let return_by = since.at.plus_millis(context.config.limits.reboot_ceiling_ms);
        let left_ms = return_by.millis_since(context.clock.now()).max(0).unsigned_abs();
        if timeout(Duration::from_millis(left_ms), stop.cancelled()).await.is_ok() {
            return None;
        }
        let done = if self.call.is_resumed {
            "the agent ended when the command line was to be run or ran, and it is not run twice"
        } else {
            "the command line was run"
        };
        let why = format!("{done}; the device did not go down and come back in time");
        Some(fail(error_code::TIMEOUT, why))
    }

    async fn take_down(&self, context: &Context, reports: &Reports) -> WorkEnd {
        let exec = &context.config.exec;
        let line = match self.operation {
            Operation::ShutdownHost => &exec.shutdown,
            Operation::RestartAgent => {
                let Some(line) = &exec.restart_agent else {
                    context.workflows.start_anew().await;
                    return Ok(Outcome::default());
                };
                line
            }
            _ => &exec.reboot,
        };
        // It goes on when the agent stops: that may be its very purpose.
        let never = CancellationToken::new();
        owner::run_line(context, line.clone(), true, &never, reports).await
    }
}

/// Waits until the operator has been told, or cannot be.
pub(super) async fn announce(stop: &CancellationToken, reports: &Reports) -> WorkEnd {
    let (told, is_told) = oneshot::channel();
    reports.send(Report::Announce { told }).await;
    tokio::select! {
        // The device may be without its server: that shall not keep it from going down.
        _ = timeout(Duration::from_millis(ANNOUNCE_MS), is_told) => {}
        () = stop.cancelled() => {}
    }
    Ok(Outcome::default())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn life(boot: &str, run: u128) -> Lifetime {
        Lifetime { boot_id: boot.to_owned(), run_id: Uuid::from_u128(run) }
    }

    #[test]
    fn a_reboot_is_over_in_another_boot_and_an_agents_restart_in_another_run() {
        for (until, boot, run, expected) in [
            (Until::NewBoot, "b1", 1, false),
            (Until::NewBoot, "b1", 2, false),
            (Until::NewBoot, "b2", 2, true),
            (Until::NewRun, "b1", 1, false),
            (Until::NewRun, "b1", 2, true),
            (Until::NewRun, "b2", 2, true),
        ] {
            assert_eq!(until.is_over(&life("b1", 1), &life(boot, run)), expected, "{until:?}");
        }
    }
}
