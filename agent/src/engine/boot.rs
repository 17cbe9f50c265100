//! What the journal says at the start: what may still start, and what goes on
//! where its workflow is; and that no program of the run before goes on by itself.

use quarterdeck_protocol::ids::CommandId;

use super::{Engine, commands::Live};
use crate::{
    domain::{
        Moment,
        command::{Event, Failure, Outcome, State},
        expiry,
        operation::{self, Owner},
    },
    io::procfs,
    journal::{OpenCommand, Replay, record::Received},
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

    /// The commands whose files are still needed.
    pub fn work_ids(&self) -> Vec<CommandId> {
        self.live.keys().copied().collect()
    }

    fn bring_back(&mut self, command: OpenCommand) {
        let OpenCommand { received, running, process, told, next_n } = command;
        let message = &received.message;
        let id = message.command_id;
        let is_waiting = running.is_none();
        let has_begun = running.is_some();
        let goes_down = running.as_ref().is_some_and(|running| running.goes_down);
        if let Some(mark) = process
            && !goes_down
        {
            let killed = procfs::kill_leftovers(&mark, &id.to_string(), &self.here.boot_id);
            if killed > 0 {
                tracing::warn!(command_id = %id, killed, "ended what was left of a command");
            }
        }
        // What an earlier version accepted may not be valid to this one; what has begun
        // goes on as what it began as, and its workflow has its payload.
        let catalogue = self.context.workflows.catalogue();
        let owner = catalogue.owner_of(&message.kind);
        let admitted = operation::admit(owner, &message.kind, &message.payload);
        let invalid = admitted.as_ref().err().filter(|_| is_waiting);
        let invalid = invalid.map(|why| Failure::new(why.code(), why.to_string()));
        let payload_bytes = serde_json::to_vec(&message.payload).map_or(0, |text| text.len());
        self.payload_bytes += payload_bytes;
        let live = Live {
            operation: message.kind.as_str().into(),
            owner: owner.unwrap_or(Owner::Device),
            payload: admitted.unwrap_or_default(),
            payload_bytes,
            priority: message.priority,
            plan: self.plan_of(message),
            state: match running {
                Some(running) => State::Running(running),
                None => State::Init { expires_at: self.still_expires_at(&received) },
            },
            next_n,
            told,
            has_begun,
            end: None,
            to_announce: Vec::new(),
        };
        self.live.insert(id, live);
        if let Some(failure) = invalid {
            return self.apply(id, Event::Ended(Err((failure, Outcome::default()))));
        }
        self.apply(id, Event::AgentStarted { boot_id: self.here.boot_id.clone() });
        if is_waiting {
            self.schedule.add(id, message.priority);
        }
    }

    /// When a command expires that has not begun, on the clock of this boot.
    fn still_expires_at(&self, received: &Received) -> Moment {
        if received.boot_id == self.here.boot_id {
            return received.expires_at;
        }
        let left_ms = received.expires_at.millis_since(received.at);
        expiry::carried_over(left_ms, received.wall, self.context.clock.wall(), self.now())
    }
}
