//! The life of a command (chapter 3), in one function: [`step`].
//!
//! ```text
//!           Published          accepted           execution_started
//!  Queued ────────────▶ Published ──────▶ Accepted ──────▶ Running ──────▶ completed, failed
//!    │ └──────────────────┴───────────────┴─ a response may skip some ─┘      │
//!    │ Due: expired       │ Due: expired     │ Due: timed_out   │  reboot: gone, or
//!    │ cancel: cancelled  │                  │                  │  in a state of going down
//!    │                    │                  │                  ▼
//!    │                    │                  │        AwaitingReconnect ──▶ completed, on a new boot id
//!    │                    │                  │                  │ Due: timed_out
//!    ▼                    ▼                  ▼                  ▼
//!    Ended: completed failed timed_out expired cancelled (blocked_safety: from the start)
//!
//!  A shutdown waits in AwaitingReconnect, too: for 30 s in which its host must not come back
//!  with the same boot id (then it is Running again); Due there is completed.
//!
//!  cancel of what its device may have: CancelPending beside the phase; cancelled on the
//!  device's word (`failed`/`cancelled`), or after 30 s in which the device said nothing.
//! ```
//!
//! - `failed`/`expired` of a device is `expired`; `failed`/`cancelled` after a
//!   request to cancel is `cancelled`.
//! - Ended is ended: what comes later is a note on the timeline, or nothing
//!   when the device merely repeats itself.
//! - A device's own time-out ends it with `failed`/`timeout`; the server says
//!   `timed_out` when 30 s beyond that nothing final has come. A reboot that takes
//!   too long is `timed_out`, whoever notices first.
//!
//! All instants here are on the steady clock, in milliseconds.

use quarterdeck_protocol::{
    command::{CommandStatus, ResponseStatus, error_code},
    limits::SILENCE_GRACE_MS,
};

/// The workflow states by which a device says that it goes down for a reboot: that of the agent's
/// own operations, and the status's name for those of others.
const GOING_DOWN: [&str; 2] = ["restarting", "awaiting_reconnect"];

/// What is decided upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandState {
    pub kind: Kind,
    pub timeout_ms: i64,
    pub phase: Phase,
}

/// What a command does to its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// The host goes down and comes back.
    Reboot {
        ceiling_ms: i64,
    },
    /// The host goes down and stays so.
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not handed to any connection.
    Queued {
        expires_due: i64,
    },
    /// Handed to a connection; the device may have it.
    Published {
        expires_due: i64,
        cancel: Option<CancelPending>,
    },
    /// In the device's journal.
    Accepted {
        ends_due: i64,
        cancel: Option<CancelPending>,
    },
    Running {
        ends_due: i64,
        boot_id: Option<String>,
        cancel: Option<CancelPending>,
    },
    /// Going down for a reboot, from the boot that `boot_id` names.
    AwaitingReconnect {
        ends_due: i64,
        boot_id: Option<String>,
        cancel: Option<CancelPending>,
    },
    Ended(CommandStatus),
}

/// Somebody wants it cancelled; the device has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelPending {
    /// When its silence has lasted long enough.
    pub silent_due: i64,
}

/// What happens to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Its message was handed to the device's connection.
    Published,
    /// The device spoke of it.
    Response(Said<'a>),
    /// Somebody wants it cancelled.
    Cancel,
    /// Its device was taken out of service.
    Retired,
    /// The device's connection ended.
    DeviceGone,
    /// The device is back, or was never gone; this is its boot id.
    DeviceBack { boot_id: Option<&'a str> },
    /// Time has passed.
    Due,
}

/// What a response says, as far as it decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said<'a> {
    pub status: ResponseStatus,
    pub error_code: Option<&'a str>,
    pub state: Option<&'a str>,
    /// The boot id that the device last told, before or with this response.
    pub boot_id: Option<&'a str>,
}

/// What comes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub next: Phase,
    pub effect: Option<Effect>,
    /// Lines for the timeline, in order.
    pub timeline: [Option<Note>; 2],
}

/// What is to be done after the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Tell the device to stop it.
    SendCancel,
}

/// One line of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    pub event: &'static str,
    pub by: By,
    /// Said for people, where the event's name alone does not tell.
    pub why: Option<&'static str>,
}

/// Whose word an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Server,
    Device,
    /// Who sent the request.
    Person,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it has ended: {0}")]
    AlreadyEnded(CommandStatus),
    #[error("it is already being cancelled")]
    AlreadyRequested,
    #[error("the device said so before")]
    Repeated,
    #[error("nothing is due yet")]
    NotDue,
    #[error("it does not concern a command in this phase")]
    NotConcerned,
}

impl Phase {
    pub const fn status(&self) -> CommandStatus {
        match self {
            Self::Queued { .. } => CommandStatus::Queued,
            Self::Published { .. } => CommandStatus::Published,
            Self::Accepted { .. } => CommandStatus::Accepted,
            Self::Running { .. } => CommandStatus::ExecutionStarted,
            Self::AwaitingReconnect { .. } => CommandStatus::AwaitingReconnect,
            Self::Ended(status) => *status,
        }
    }

    /// When [`Event::Due`] is to come; `None` when it has ended.
    pub fn due(&self) -> Option<i64> {
        let sooner = |due: i64, cancel: &Option<CancelPending>| {
            Some(cancel.map_or(due, |cancel| cancel.silent_due.min(due)))
        };
        match self {
            Self::Queued { expires_due } => Some(*expires_due),
            Self::Published { expires_due, cancel } => sooner(*expires_due, cancel),
            Self::Accepted { ends_due, cancel }
            | Self::Running { ends_due, cancel, .. }
            | Self::AwaitingReconnect { ends_due, cancel, .. } => sooner(*ends_due, cancel),
            Self::Ended(_) => None,
        }
    }

    pub const fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    pub const fn cancel(&self) -> Option<CancelPending> {
        match self {
            Self::Published { cancel, .. }
            | Self::Accepted { cancel, .. }
            | Self::Running { cancel, .. }
            | Self::AwaitingReconnect { cancel, .. } => *cancel,
            Self::Queued { .. } | Self::Ended(_) => None,
        }
    }
}

/// Decides what an event makes of a command. The only place where a command changes.
pub fn step(state: &CommandState, event: Event<'_>, now_ms: i64) -> Result<Step, Refused> {
    if let Phase::Ended(status) = state.phase {
        return after_the_end(status, state.kind, event);
    }
    match event {
        Event::Published => match state.phase {
            Phase::Queued { expires_due } => Ok(to(
                Phase::Published { expires_due, cancel: None },
                note("published", By::Server),
            )),
            _ => Err(Refused::NotConcerned),
        },
        Event::Response(said) => respond(state, said, now_ms),
        Event::Cancel => cancel(state, now_ms),
        Event::Retired => {
            Ok(end(CommandStatus::Cancelled, By::Server, Some("the device was retired")))
        }
        Event::DeviceGone => match (&state.phase, state.kind) {
            (Phase::Running { boot_id, cancel, .. }, Kind::Reboot { ceiling_ms }) => {
                Ok(await_reconnect(boot_id.clone(), now_ms + ceiling_ms, *cancel, By::Server))
            }
            (Phase::Running { boot_id, cancel, .. }, Kind::Shutdown) => {
                // A connection may be lost for other reasons.
                let ends_due = now_ms + SILENCE_GRACE_MS;
                Ok(await_reconnect(boot_id.clone(), ends_due, *cancel, By::Server))
            }
            _ => Err(Refused::NotConcerned),
        },
        Event::DeviceBack { boot_id } => match (&state.phase, state.kind) {
            (Phase::AwaitingReconnect { boot_id: before, .. }, _)
                if is_new_boot(before.as_deref(), boot_id) =>
            {
                Ok(end(CommandStatus::Completed, By::Device, Some("back with a new boot id")))
            }
            (Phase::AwaitingReconnect { boot_id, cancel, .. }, Kind::Shutdown) => {
                let ends_due = now_ms + state.timeout_ms + SILENCE_GRACE_MS;
                let next = Phase::Running { ends_due, boot_id: boot_id.clone(), cancel: *cancel };
                Ok(to(next, note("progress", By::Device).because("back, and it was not down")))
            }
            // It was faster than the broker's notice that it had gone.
            (
                Phase::Running { boot_id: Some(before), .. },
                Kind::Reboot { .. } | Kind::Shutdown,
            ) if is_new_boot(Some(before), boot_id) => Ok(rebooted()),
            _ => Err(Refused::NotConcerned),
        },
        Event::Due => due(state, now_ms),
    }
}

fn after_the_end(status: CommandStatus, kind: Kind, event: Event<'_>) -> Result<Step, Refused> {
    let Event::Response(said) = event else { return Err(Refused::AlreadyEnded(status)) };
    let repeated = match status {
        // Its own last word stands: whatever led there is heard again, not late.
        CommandStatus::Completed => said.status != ResponseStatus::Failed,
        CommandStatus::Failed => said.status != ResponseStatus::Completed,
        CommandStatus::TimedOut if matches!(kind, Kind::Reboot { .. }) => {
            said.error_code == Some(error_code::TIMEOUT)
        }
        _ => false,
    };
    if repeated {
        return Err(Refused::Repeated);
    }
    Ok(to(Phase::Ended(status), note("late", By::Device)))
}

fn respond(state: &CommandState, said: Said<'_>, now_ms: i64) -> Result<Step, Refused> {
    let pending = state.phase.cancel();
    // Any word of the device ends its silence.
    let cancel = pending.map(|_| CancelPending { silent_due: now_ms + SILENCE_GRACE_MS });
    match said.status {
        ResponseStatus::Completed => Ok(completed(state, said, cancel, now_ms)),
        ResponseStatus::Failed => {
            let (status, why) = match said.error_code {
                Some(error_code::EXPIRED) => {
                    (CommandStatus::Expired, Some("the device took it for expired"))
                }
                Some(error_code::CANCELLED) if pending.is_some() => {
                    (CommandStatus::Cancelled, None)
                }
                // It counts the same ceiling: who comes first must make no difference.
                Some(error_code::TIMEOUT) if matches!(state.kind, Kind::Reboot { .. }) => {
                    (CommandStatus::TimedOut, Some(why_no_reboot(&state.phase)))
                }
                _ => (CommandStatus::Failed, None),
            };
            Ok(end(status, By::Device, why))
        }
        ResponseStatus::Accepted => match &state.phase {
            Phase::Queued { expires_due } | Phase::Published { expires_due, .. } => {
                // A device that works on another command first has until this one's life is over.
                let ends_due = (now_ms + state.timeout_ms).max(*expires_due) + SILENCE_GRACE_MS;
                Ok(to(Phase::Accepted { ends_due, cancel }, note("accepted", By::Device)))
            }
            phase => repeated(phase, cancel),
        },
        ResponseStatus::ExecutionStarted => match &state.phase {
            Phase::Queued { .. } | Phase::Published { .. } | Phase::Accepted { .. } => {
                Ok(to(started(state, said, cancel, now_ms), note("execution_started", By::Device)))
            }
            phase => repeated(phase, cancel),
        },
        ResponseStatus::Progress => Ok(progress(state, said, cancel, now_ms)),
    }
}

/// What a device says again is no news, but it speaks.
fn repeated(phase: &Phase, cancel: Option<CancelPending>) -> Result<Step, Refused> {
    let mut next = phase.clone();
    match &mut next {
        Phase::Accepted { cancel: pending, .. }
        | Phase::Running { cancel: pending, .. }
        | Phase::AwaitingReconnect { cancel: pending, .. }
            if pending.is_some() =>
        {
            *pending = cancel;
            Ok(to(next, note("progress", By::Device)))
        }
        _ => Err(Refused::Repeated),
    }
}

fn started(
    state: &CommandState,
    said: Said<'_>,
    cancel: Option<CancelPending>,
    now_ms: i64,
) -> Phase {
    let patience_ms = state.timeout_ms + SILENCE_GRACE_MS;
    let patience_ms = match state.kind {
        // A host that hangs on its way down may stay connected.
        Kind::Reboot { ceiling_ms } => patience_ms.min(ceiling_ms),
        Kind::Plain | Kind::Shutdown => patience_ms,
    };
    let boot_id = said.boot_id.map(str::to_owned);
    Phase::Running { ends_due: now_ms + patience_ms, boot_id, cancel }
}

fn progress(
    state: &CommandState,
    said: Said<'_>,
    cancel: Option<CancelPending>,
    now_ms: i64,
) -> Step {
    let running = match &state.phase {
        Phase::Running { ends_due, boot_id, .. } => {
            Phase::Running { ends_due: *ends_due, boot_id: boot_id.clone(), cancel }
        }
        Phase::AwaitingReconnect { ends_due, boot_id, .. } => {
            Phase::AwaitingReconnect { ends_due: *ends_due, boot_id: boot_id.clone(), cancel }
        }
        _ => started(state, said, cancel, now_ms),
    };
    match (running, state.kind) {
        (Phase::Running { boot_id, cancel, .. }, Kind::Reboot { ceiling_ms })
            if said.state.is_some_and(|state| GOING_DOWN.contains(&state)) =>
        {
            await_reconnect(boot_id, now_ms + ceiling_ms, cancel, By::Device)
        }
        (next, _) => to(next, note("progress", By::Device)),
    }
}

fn completed(
    state: &CommandState,
    said: Said<'_>,
    cancel: Option<CancelPending>,
    now_ms: i64,
) -> Step {
    let Kind::Reboot { ceiling_ms } = state.kind else {
        return end(CommandStatus::Completed, By::Device, None);
    };
    let before = match &state.phase {
        Phase::Running { boot_id, .. } | Phase::AwaitingReconnect { boot_id, .. } => {
            boot_id.as_deref()
        }
        _ => None,
    };
    // A device that tells no boot ids can only be believed.
    if before.is_none() || is_new_boot(before, said.boot_id) {
        return if matches!(state.phase, Phase::AwaitingReconnect { .. }) {
            end(CommandStatus::Completed, By::Device, None)
        } else {
            rebooted()
        };
    }
    match &state.phase {
        // It says so before the server knows of its new boot; that is told in its status.
        Phase::AwaitingReconnect { ends_due, boot_id, .. } => to(
            Phase::AwaitingReconnect { ends_due: *ends_due, boot_id: boot_id.clone(), cancel },
            note("progress", By::Device).because("completed, but not with a new boot id yet"),
        ),
        _ => await_reconnect(before.map(str::to_owned), now_ms + ceiling_ms, cancel, By::Device),
    }
}

fn cancel(state: &CommandState, now_ms: i64) -> Result<Step, Refused> {
    if state.phase.cancel().is_some() {
        return Err(Refused::AlreadyRequested);
    }
    let cancel = Some(CancelPending { silent_due: now_ms + SILENCE_GRACE_MS });
    let next = match &state.phase {
        Phase::Queued { .. } => return Ok(end(CommandStatus::Cancelled, By::Person, None)),
        Phase::Published { expires_due, .. } => {
            Phase::Published { expires_due: *expires_due, cancel }
        }
        Phase::Accepted { ends_due, .. } => Phase::Accepted { ends_due: *ends_due, cancel },
        Phase::Running { ends_due, boot_id, .. } => {
            Phase::Running { ends_due: *ends_due, boot_id: boot_id.clone(), cancel }
        }
        Phase::AwaitingReconnect { ends_due, boot_id, .. } => {
            Phase::AwaitingReconnect { ends_due: *ends_due, boot_id: boot_id.clone(), cancel }
        }
        Phase::Ended(status) => return Err(Refused::AlreadyEnded(*status)),
    };
    let mut step = to(next, note("cancel_requested", By::Person));
    step.effect = Some(Effect::SendCancel);
    Ok(step)
}

fn due(state: &CommandState, now_ms: i64) -> Result<Step, Refused> {
    if state.phase.due().is_none_or(|due| due > now_ms) {
        return Err(Refused::NotDue);
    }
    // What was due first decides, however late it is looked at.
    if state.phase.cancel().is_some_and(|cancel| Some(cancel.silent_due) == state.phase.due()) {
        return Ok(end(CommandStatus::Cancelled, By::Server, Some("the device stayed silent")));
    }
    Ok(match &state.phase {
        Phase::Queued { .. } => end(CommandStatus::Expired, By::Server, Some("never delivered")),
        Phase::Published { .. } => end(CommandStatus::Expired, By::Server, Some("never accepted")),
        Phase::Accepted { .. } => {
            end(CommandStatus::TimedOut, By::Server, Some("accepted, but never started"))
        }
        Phase::AwaitingReconnect { .. } if state.kind == Kind::Shutdown => {
            end(CommandStatus::Completed, By::Server, Some("the host is down"))
        }
        Phase::AwaitingReconnect { .. } => {
            end(CommandStatus::TimedOut, By::Server, Some(why_no_reboot(&state.phase)))
        }
        Phase::Running { .. } => {
            let why = match state.kind {
                Kind::Reboot { .. } => why_no_reboot(&state.phase),
                Kind::Plain | Kind::Shutdown => "the device did not end it in time",
            };
            end(CommandStatus::TimedOut, By::Server, Some(why))
        }
        Phase::Ended(status) => return Err(Refused::AlreadyEnded(*status)),
    })
}

const fn why_no_reboot(phase: &Phase) -> &'static str {
    match phase {
        Phase::AwaitingReconnect { .. } => "not back with a new boot id",
        _ => "it did not go down",
    }
}

fn is_new_boot(before: Option<&str>, now: Option<&str>) -> bool {
    now.is_some_and(|now| before != Some(now))
}

fn to(next: Phase, line: Note) -> Step {
    Step { next, effect: None, timeline: [Some(line), None] }
}

fn end(status: CommandStatus, by: By, why: Option<&'static str>) -> Step {
    to(Phase::Ended(status), Note { event: status.as_str(), by, why })
}

fn await_reconnect(
    boot_id: Option<String>,
    ends_due: i64,
    cancel: Option<CancelPending>,
    by: By,
) -> Step {
    to(Phase::AwaitingReconnect { ends_due, boot_id, cancel }, note("awaiting_reconnect", by))
}

fn rebooted() -> Step {
    let mut step = end(CommandStatus::Completed, By::Device, Some("back with a new boot id"));
    step.timeline = [Some(note("awaiting_reconnect", By::Server)), step.timeline[0]];
    step
}

const fn note(event: &'static str, by: By) -> Note {
    Note { event, by, why: None }
}

impl Note {
    const fn because(self, why: &'static str) -> Self {
        Self { why: Some(why), ..self }
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
