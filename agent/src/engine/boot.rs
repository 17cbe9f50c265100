//! What the journal says at the start: what may still start, what has come
//! back, what was interrupted; and that nothing of the latter goes on running.

use quarterdeck_protocol::command::error_code;

use super::{Engine, commands::Live};
use crate::{
    domain::{
        command::{Event, Failure, Outcome, Phase, Plan, State},
        expiry,
        operation::{Operation, Until},
    },
    io::procfs,
    journal::{OpenCommand, Replay},
};

impl Engine {
    pub(super) fn replay(&mut self, replay: Replay) {
        if replay.discarded_bytes > 0 {
            tracing::warn!(
                bytes = replay.discarded_bytes,
                "the end of the journal was not written whole, and is cut off"
            );
        }
        for (id, kept) in replay.unacked {
            self.outbox.push_saved(id, kept.n);
        }
        for command in replay.open {
            self.bring_back(command);
        }
    }

    fn bring_back(&mut self, command: OpenCommand) {
        let OpenCommand { received, stage, process, next_n } = command;
        let message = &received.message;
        let id = message.command_id;
        // What an earlier version accepted may not be valid to this one.
        // One that runs goes on as what it began as.
        let is_workflow = match &stage {
            Some(entered) => entered.is_workflow,
            None => self.context.workflows.has(&message.kind),
        };
        let parsed = if is_workflow {
            Operation::workflow(&message.kind, &message.payload)
        } else {
            Operation::parse(&message.kind, &message.payload)
        };
        let invalid = parsed.as_ref().err().map(ToString::to_string);
        let operation = parsed.unwrap_or(Operation::Ping);
        let plan = Plan { stages: operation.stages(), ..self.plan_of(message) };
        let is_same_boot = received.boot_id == self.here.boot_id;
        let state = match &stage {
            None if is_same_boot => State::Init { expires_at: received.expires_at },
            None => State::Init {
                expires_at: expiry::carried_over(
                    received.expires_at.millis_since(received.at),
                    received.wall,
                    self.context.clock.wall(),
                    self.now(),
                ),
            },
            Some(entered) => State::Working {
                index: entered.index.min(plan.stages.len() - 1),
                since: entered.since.clone(),
                timeout_at: entered.timeout_at,
                phase: Phase::Work { return_by: entered.return_by },
            },
        };
        let goes_on = match &state {
            State::Working { index, .. } => {
                matches!(plan.stages[*index].until, Until::NewBoot | Until::NewRun)
            }
            _ => true,
        };
        if let Some(mark) = process
            && !goes_on
        {
            let killed = procfs::kill_leftovers(&mark, &id.to_string(), &self.here.boot_id);
            if killed > 0 {
                tracing::warn!(command_id = %id, killed, "ended what was left of a command");
            }
        }
        let payload_bytes = serde_json::to_vec(&message.payload).map_or(0, |text| text.len());
        self.payload_bytes += payload_bytes;
        let live = Live {
            operation: operation.into(),
            priority: message.priority,
            plan,
            state,
            next_n,
            started_n: None,
            end: None,
            payload_bytes,
        };
        let waits = matches!(live.state, State::Init { .. });
        self.live.insert(id, live);
        if let Some(why) = invalid {
            let failure = Failure::new(error_code::REJECTED, why);
            return self.apply(id, Event::WorkFailed(failure, Outcome::default()));
        }
        self.apply(id, Event::AgentStarted { here: self.here.clone() });
        if waits {
            self.schedule.add(id, message.priority);
        }
    }
}
