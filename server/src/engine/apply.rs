//! Events applied to commands in memory, then written in bulk.
//!
//! ```text
//!  load ─▶ Working { state } ─ event ─▶ domain::command::step ─▶ next, notes ─▶ write: few statements
//! ```
//!
//! However many events a command gets in one transaction, its row is written once.

use std::collections::HashMap;

use quarterdeck_protocol::{
    command::{CommandStatus, error_code},
    ids::{DeviceId, ProjectId},
    live::Listing,
    time::Timestamp,
};

use super::{
    After, Change, Engine,
    ingest::{DeviceKey, message::Said},
};
use crate::{
    clock::Now,
    domain::command::{self, By, CommandState, Effect, Event, Note, Phase},
    store::{
        StoreError, Tx,
        commands::{
            append_event,
            live::Loaded,
            write::{self, Counts, Ended, Update},
        },
        safety,
    },
};

/// The operation whose round trip is measured here.
const PING: &str = "ping";
/// Lines of one timeline; beyond them progress and late words are no longer noted.
const TIMELINE_MAX_EVENTS: i64 = 500;
/// Of these, kept free of progress for what comes after the end.
const LATE_MAX_EVENTS: i64 = 20;

/// The commands that one transaction works on.
#[derive(Debug, Default)]
pub(super) struct Batch {
    works: Vec<Working>,
    by_id: HashMap<String, usize>,
}

/// A command, what it was when it was loaded, and what is to be written.
#[derive(Debug)]
struct Working {
    loaded: Loaded,
    before: CommandStatus,
    state: CommandState,
    update: Update,
    is_changed: bool,
}

impl Batch {
    /// Takes in what was loaded. `ceiling_ms` gives the reboot ceiling of a project.
    pub(super) fn add(
        &mut self,
        loaded: Vec<Loaded>,
        ceiling_ms: impl Fn(&str) -> i64,
    ) -> Result<(), StoreError> {
        self.works.reserve(loaded.len());
        for row in loaded {
            if self.by_id.contains_key(&row.id) {
                continue;
            }
            let state =
                row.to_state(if row.is_reboot() { ceiling_ms(&row.project_id) } else { 0 })?;
            self.by_id.insert(row.id.clone(), self.works.len());
            self.works.push(Working {
                before: state.phase.status(),
                update: Update { id: row.id.clone(), ..Update::default() },
                state,
                loaded: row,
                is_changed: false,
            });
        }
        Ok(())
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.works.iter().map(|work| work.loaded.id.clone()).collect()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Loaded> {
        self.by_id.get(id).map(|index| &self.works[*index].loaded)
    }

    /// Whether a command has ended: nothing of it changes any more.
    pub(super) fn has_ended(&self, id: &str) -> bool {
        self.by_id.get(id).is_some_and(|index| self.works[*index].state.phase.is_ended())
    }

    /// What a device has begun that takes it down.
    pub(super) fn going_down_of(&self, project: &str, device: &str) -> Vec<String> {
        self.works
            .iter()
            .filter(|work| {
                work.loaded.takes_host_down()
                    && work.loaded.device_id == device
                    && work.loaded.project_id == project
                    && !work.state.phase.is_ended()
            })
            .map(|work| work.loaded.id.clone())
            .collect()
    }

    /// Lets something happen to a command; `actor` is who asked, when a person did.
    pub(super) fn apply(
        &mut self,
        id: &str,
        event: Event<'_>,
        said: Option<&Said>,
        now: Now,
        actor: &str,
        after: &mut After,
    ) -> Result<CommandStatus, command::Refused> {
        let Some(index) = self.by_id.get(id) else { return Err(command::Refused::NotConcerned) };
        let work = &mut self.works[*index];
        let step = command::step(&work.state, event, now.steady_ms)?;
        if step.effect == Some(Effect::SendCancel)
            && let (Some((project, device)), Ok(command)) = (work.key(), work.loaded.id.parse())
        {
            after.cancels.push((project, device, command));
        }
        work.advance(step.next, event, said, now.wall);
        for note in step.timeline.into_iter().flatten() {
            work.note(note, said, now.wall, actor);
        }
        Ok(work.state.phase.status())
    }

    /// Lets the sweep look at a command again when it is due, for it looked too early.
    pub(super) fn look_later(&mut self, id: &str) {
        let Some(index) = self.by_id.get(id) else { return };
        let work = &mut self.works[*index];
        work.is_changed = true;
        work.update.due = work.state.phase.due();
        work.update.ends_due = work.loaded.ends_due;
        work.update.cancel_due = work.loaded.cancel_due;
    }

    /// Writes all that changed, with totals and lockout, and says what is new for `after`.
    pub(super) async fn write(
        self,
        engine: &Engine,
        tx: &mut Tx,
        now: Now,
        after: &mut After,
    ) -> Result<(), StoreError> {
        let mut counts = Counts::new();
        let mut updates = Vec::with_capacity(self.works.len());
        let (mut delivered, mut undelivered) = (Vec::new(), Vec::new());
        let announces = engine.0.announcer.has_listeners();
        for work in self.works {
            if !work.is_changed {
                continue;
            }
            let status = work.state.phase.status();
            if status != work.before {
                *counts.entry((work.loaded.project_id.clone(), work.before)).or_default() -= 1;
                *counts.entry((work.loaded.project_id.clone(), status)).or_default() += 1;
                if work.before == CommandStatus::Queued {
                    // Any operation may count against a lockout: its device says so.
                    // A word of the device itself proves its delivery.
                    let heard = matches!(status, CommandStatus::Cancelled | CommandStatus::Expired);
                    if heard { &mut undelivered } else { &mut delivered }
                        .push(work.loaded.id.clone());
                }
                if work.before.awaits_delivery() && !status.awaits_delivery() {
                    after.taken.extend(work.key().map(|key| (key, work.loaded.id.clone())));
                }
            }
            if announces && let Ok(project) = ProjectId::new(&work.loaded.project_id) {
                for listing in [Listing::Commands, Listing::Timeline] {
                    after.changes.push(Change {
                        project: project.clone(),
                        listing,
                        key: work.loaded.id.clone(),
                    });
                }
            }
            updates.push((status, work.update));
        }
        write::update(tx, &updates).await?;
        write::count(tx, &counts).await?;
        safety::delivered(tx, &delivered, now.steady_ms).await?;
        safety::never_delivered(tx, &undelivered).await
    }
}

impl Working {
    fn key(&self) -> Option<DeviceKey> {
        Some((
            ProjectId::new(&self.loaded.project_id).ok()?,
            DeviceId::new(&self.loaded.device_id).ok()?,
        ))
    }

    /// Puts the next phase, and what came with it, into the row.
    fn advance(&mut self, next: Phase, event: Event<'_>, said: Option<&Said>, wall: Timestamp) {
        let at = wall.as_millis();
        let was_ended = self.state.phase.is_ended();
        let was_away = matches!(self.state.phase, Phase::AwaitingReconnect { .. });
        let status = next.status();
        let entered = status != self.state.phase.status();
        self.is_changed = true;
        let update = &mut self.update;
        match &next {
            Phase::Accepted { .. } if entered => update.accepted_at = Some(at),
            Phase::Running { .. } if entered && !was_away => update.started_at = Some(at),
            _ => {}
        }
        if event == Event::Cancel {
            update.cancel_requested_at = Some(at);
        }
        if let Phase::Running { boot_id: Some(boot_id), .. }
        | Phase::AwaitingReconnect { boot_id: Some(boot_id), .. } = &next
            && self.loaded.takes_host_down()
        {
            update.boot_id = Some(boot_id.clone());
        }
        update.ends_due = match &next {
            Phase::Accepted { ends_due, .. }
            | Phase::Running { ends_due, .. }
            | Phase::AwaitingReconnect { ends_due, .. } => Some(*ends_due),
            Phase::Queued { .. } | Phase::Published { .. } | Phase::Ended(_) => None,
        };
        update.cancel_due = next.cancel().map(|cancel| cancel.silent_due);
        update.is_shifted |= entered || self.state.phase.due() != next.due();
        // The sweep may look too early, which costs it a look, but never too late; so a due
        // time that moves away need not be written, nor its index.
        let looks_ms = update.due.or(self.loaded.due);
        if let Some(due) = next.due()
            && looks_ms.is_none_or(|looks_ms| due < looks_ms)
        {
            update.due = Some(due);
        }
        // An answer that came late is evidence: it changes nothing but the timeline.
        if !was_ended {
            if let Some(said) = said {
                said.describe(update);
            }
            if next.is_ended() {
                let mut ended = ended(status, said, at);
                if self.loaded.kind == PING {
                    measure(&mut ended, self.loaded.published_at);
                }
                update.ended = Some(Box::new(ended));
            }
        }
        self.state.phase = next;
    }

    fn note(&mut self, note: Note, said: Option<&Said>, wall: Timestamp, actor: &str) {
        let events = self.loaded.events + self.update.events;
        let has_room = match note.event {
            "progress" => {
                events < TIMELINE_MAX_EVENTS - LATE_MAX_EVENTS
                    && said.is_none_or(|said| said.has_news(&self.loaded))
            }
            "late" => events < TIMELINE_MAX_EVENTS,
            _ => true,
        };
        if !has_room {
            return;
        }
        let by = match note.by {
            By::Server => "server",
            By::Device => "device",
            By::Person => actor,
        };
        let detail = said.map_or_else(
            || {
                note.why
                    .map_or_else(String::new, |why| serde_json::json!({ "why": why }).to_string())
            },
            |said| said.detail(note.event, note.why),
        );
        if let (Some(said), "progress") = (said, note.event) {
            said.remember(&mut self.loaded);
        }
        append_event(&mut self.update.timeline, wall, note.event, by, &detail);
        self.update.events += 1;
    }
}

/// Adds to a ping's result how long it took from here to the device and back, in milliseconds.
fn measure(ended: &mut Ended, published_at: Option<i64>) {
    let Some((result, sent_at)) = ended.result.as_mut().zip(published_at) else { return };
    let round_trip_ms = (ended.finished_at - sent_at).max(0);
    // An object that says nothing of it: anything else is not of our agent, and stays as it is.
    if let Some(rest) = result.trim_start().strip_prefix('{')
        && !result.contains("\"round_trip_ms\"")
    {
        let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
        *result = format!("{{\"round_trip_ms\":{round_trip_ms}{comma}{rest}");
    }
}

fn ended(status: CommandStatus, said: Option<&Said>, at: i64) -> Ended {
    let mut ended = Ended { finished_at: at, ..Ended::default() };
    if let Some(said) = said.filter(|said| said.status.is_final()) {
        said.outcome(&mut ended);
    }
    let (code, message) = match status {
        CommandStatus::TimedOut => {
            (error_code::TIMEOUT, "the device did not report an end in time")
        }
        CommandStatus::Expired => (error_code::EXPIRED, "it was not begun before it expired"),
        CommandStatus::Cancelled => (error_code::CANCELLED, "it was cancelled"),
        CommandStatus::Failed => (error_code::INTERNAL, "the device gave no reason"),
        _ => return ended,
    };
    ended.error_code.get_or_insert_with(|| code.to_owned());
    if ended.error_message.is_none() && (status != CommandStatus::Failed || said.is_none()) {
        ended.error_message = Some(message.to_owned());
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_stands_in_the_result_of_a_ping() {
        for (result, expected) in [
            (r#"{"at":1}"#, r#"{"round_trip_ms":25,"at":1}"#),
            ("{}", r#"{"round_trip_ms":25}"#),
            ("{ }", r#"{"round_trip_ms":25 }"#),
            ("[1]", "[1]"),
            (r#"{"round_trip_ms":0}"#, r#"{"round_trip_ms":0}"#),
        ] {
            let mut ended =
                Ended { finished_at: 125, result: Some(result.to_owned()), ..Ended::default() };
            measure(&mut ended, Some(100));
            assert_eq!(ended.result.as_deref(), Some(expected));
        }
        let mut unsent = Ended { result: Some("{}".to_owned()), ..Ended::default() };
        measure(&mut unsent, None);
        assert_eq!(unsent.result.as_deref(), Some("{}"));
    }
}
