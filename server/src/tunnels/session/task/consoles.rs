//! Consoles of a tunnel: who attaches, who gives a place up, what all are told.

use quarterdeck_protocol::{
    api::TunnelStatus,
    time::Timestamp,
    tunnel::session::{Mode, ServerMessage, VERSION, Watcher},
};
use tokio::sync::mpsc;

use super::Task;
use crate::{
    domain::tunnel::Event,
    store::audit::Actor,
    tunnels::{
        console::{Start, Word},
        limits::{COPILOT_FLIGHT, OWNER_FLIGHT, WATCHERS_MAX},
        session::{Attach, Attached, NotAttached},
    },
};

/// An attached console.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) id: u64,
    actor: Actor,
    mode: Mode,
    since: Timestamp,
    /// Which of the input lives it has.
    slot: Option<usize>,
    pub(super) words: mpsc::Sender<Word>,
    /// What it is to be told when the tunnel is open.
    pub(super) start: Option<Box<Start>>,
    /// It knows that the tunnel is over.
    pub(super) is_told_over: bool,
}

impl Task {
    pub(super) async fn attach(&mut self, attach: Attach) -> Result<Attached, NotAttached> {
        let Attach { actor, mode, from, input, words, frames } = attach;
        let is_terminal = self.session.is_terminal();
        if mode != Mode::Owner && !is_terminal {
            return Err(NotAttached::NotATerminal);
        }
        if mode != Mode::Owner && self.consoles.len() >= WATCHERS_MAX {
            return Err(NotAttached::Full);
        }
        let slot = match mode {
            Mode::Watch => None,
            Mode::Owner => Some(0),
            Mode::Copilot => Some(self.copilot_slot(&actor, input)),
        };
        let continues_input = slot.zip(input).is_some_and(|(slot, (stream, life))| {
            stream == self.stream_of(slot) && self.input_lives.get(slot) == Some(&life)
        });
        // Streams that run in a console end with it; before it said anything there are none: it
        // may have lost its connection while the device was still opening.
        let is_first = self.input_lives.is_empty();
        if !is_terminal && !continues_input && !is_first && self.session.relay.is_used() {
            return Err(NotAttached::NotResumable);
        }
        let begins_life = !continues_input && (is_terminal || is_first);
        // Who had the place before, a socket that broke unnoticed or another console, gives it up.
        if let Some(former) =
            slot.and_then(|slot| self.consoles.iter().find(|c| c.slot == Some(slot)))
        {
            let former_id = former.id;
            let _ = former.words.try_send(Word::TakenOver);
            self.forget(former_id).await;
        }
        let id = self.next_console;
        self.next_console += 1;
        if let Some(slot) = slot
            && begins_life
        {
            if self.input_lives.len() <= slot {
                self.input_lives.resize(slot + 1, 0);
            }
            self.input_lives[slot] = self.input_lives[slot].saturating_add(1);
        }
        self.store_attach(&actor, mode).await;
        let input_stream = slot.map(|slot| self.stream_of(slot));
        if let Some(stream) = input_stream {
            self.session.relay.join(id, is_terminal.then_some(stream), frames);
        }
        let continues = from.filter(|from| {
            let terminal = self.session.terminal.as_ref();
            terminal.is_some_and(|terminal| terminal.has(*from, self.session.about.was_open))
        });
        let flight = if mode == Mode::Owner { OWNER_FLIGHT } else { COPILOT_FLIGHT };
        let start = Start {
            attached: ServerMessage::Attached {
                version: VERSION,
                mode,
                handle: self.session.about.handle,
                input_stream,
                input_life: slot.and_then(|slot| self.input_lives.get(slot).copied()),
                continues_input,
                continues_output: continues.is_some(),
                flight_messages: flight.messages as u32,
                flight_bytes: flight.bytes as u32,
                is_recorded: self.session.about.recording_id.is_some(),
                at: self.shared.clock.wall(),
            },
            from: continues,
        };
        let since = self.shared.clock.wall();
        self.consoles.push(Console {
            id,
            actor,
            mode,
            since,
            slot,
            words,
            start: Some(Box::new(start)),
            is_told_over: false,
        });
        self.apply(Event::Attached).await;
        if self.life.status() != TunnelStatus::Opening {
            self.start_consoles();
        }
        Ok(Attached { console: id, input_stream })
    }

    /// The place of a co-pilot: the one it had, else the first that nobody has.
    fn copilot_slot(&self, actor: &Actor, input: Option<(u32, u16)>) -> usize {
        let had = input.and_then(|(stream, _)| {
            let slot = (stream as usize).checked_sub(1).filter(|slot| *slot > 0)?;
            let holder = self.consoles.iter().find(|console| console.slot == Some(slot));
            holder.is_none_or(|console| console.actor.name == actor.name).then_some(slot)
        });
        had.filter(|slot| *slot < self.input_lives.len()).unwrap_or_else(|| {
            let is_free = |slot: &usize| self.consoles.iter().all(|c| c.slot != Some(*slot));
            (1..=WATCHERS_MAX + 1).find(is_free).unwrap_or(WATCHERS_MAX + 1)
        })
    }

    /// A terminal's stream 0 is its output; all else begins with the console's own.
    fn stream_of(&self, slot: usize) -> u32 {
        if self.session.is_terminal() { slot as u32 + 1 } else { 0 }
    }

    /// Lets the consoles that waited for the device begin.
    pub(super) fn start_consoles(&mut self) {
        for console in &mut self.consoles {
            let Some(start) = console.start.take() else { continue };
            if console.mode == Mode::Owner
                && let Some(terminal) = &self.session.terminal
            {
                terminal.set_owner(console.id, start.from.unwrap_or_else(|| terminal.end()));
            }
            // Its first word: there is room.
            let _ = console.words.try_send(Word::Start(start));
        }
        self.tell_watchers();
    }

    fn tell_watchers(&mut self) {
        let watchers = self
            .consoles
            .iter()
            .map(|console| Watcher {
                user: console.actor.name.clone(),
                mode: console.mode,
                since: console.since,
            })
            .collect();
        self.tell_all(&ServerMessage::Watchers { watchers });
    }

    pub(super) async fn detach(&mut self, id: u64) {
        if self.consoles.iter().any(|console| console.id == id) {
            self.forget(id).await;
            self.tell_watchers();
            self.store_progress().await;
        }
    }

    async fn forget(&mut self, id: u64) {
        self.consoles.retain(|console| console.id != id);
        self.session.relay.leave(id);
        if let Some(terminal) = &self.session.terminal {
            terminal.drop_owner(id);
        }
        self.apply(Event::Detached).await;
    }
}
