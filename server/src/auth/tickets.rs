//! Tickets: a WebSocket's way in, used once, within half a minute.
//!
//! A browser or a proxy may log a URL; what it would log of a WebSocket is a
//! ticket that is worth nothing by then.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use quarterdeck_protocol::{
    ids::{ProjectId, TunnelId},
    tunnel::session::Mode,
};

use super::hash_secret;
use crate::http::extract::Caller;

/// The life of a ticket, in milliseconds.
pub const TICKET_TTL_MS: i64 = 30_000;
/// Tickets that may wait to be used: of all, and of one caller.
pub const TICKETS_MAX: usize = 10_000;
pub const TICKETS_PER_CALLER_MAX: usize = 100;
const PREFIX: &str = "qdt_";

/// What a ticket stands for.
#[derive(Debug, Clone)]
pub struct Pass {
    pub project: ProjectId,
    pub caller: Caller,
    pub opens: Opens,
}

/// Which WebSocket a ticket opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// The live feed of the project.
    Live,
    /// The stream of a tunnel.
    Tunnel { id: TunnelId, mode: Mode },
}

#[derive(Debug)]
struct Waiting {
    pass: Pass,
    due_ms: i64,
}

/// Says that too many tickets wait to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTickets;

/// The tickets that wait to be used, by their hash.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<HashMap<String, Waiting>>);

impl Tickets {
    /// Makes a ticket.
    pub fn issue(&self, clock: &crate::clock::Clock, pass: Pass) -> Result<String, TooManyTickets> {
        let steady_ms = clock.steady();
        let ticket = super::new_secret(clock, PREFIX);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, ticket| ticket.due_ms > steady_ms);
        let own = waiting.values().filter(|w| w.pass.caller.name == pass.caller.name).count();
        if waiting.len() >= TICKETS_MAX || own >= TICKETS_PER_CALLER_MAX {
            return Err(TooManyTickets);
        }
        waiting.insert(hash_secret(&ticket), Waiting { pass, due_ms: steady_ms + TICKET_TTL_MS });
        Ok(ticket)
    }

    /// Uses a ticket up; `None` when it was never given, was used, is too old, or not for this.
    pub fn redeem(
        &self,
        ticket: &str,
        is_for: impl FnOnce(&Pass) -> bool,
        steady_ms: i64,
    ) -> Option<Pass> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.remove(&hash_secret(ticket))?;
        (found.due_ms > steady_ms && is_for(&found.pass)).then_some(found.pass)
    }
}
