//! The life of one tunnel (chapter 7).
//!
//! ```text
//!               opened               silent, away
//!   opening ────────────▶ open ◀──────────────────▶ stalled
//!      │                   │           heard           │
//!      │ refused,          │ the device's last word, a close, a kill,
//!      │ no answer,        │ idle, open for too long, away for too long,
//!      │ closed            │ alone for too long, a log that cannot be written
//!      ▼                   ▼                           │
//!   failed              closed ◀───────────────────────┘
//! ```
//!
//! An open is asked for again until it is answered: messages may be lost. An
//! idle session is warned a minute before its end. What is shown counts as
//! activity only while somebody is attached: a program that prints for ever
//! would keep a forgotten session for ever.
//!
//! The streams of all but terminals end in their console, and no other can go on
//! with them. When it is gone, killed perhaps, it has a while to come back; then
//! the tunnel is over, and what ran in it does not stand there for nobody.
//!
//! Times are milliseconds of the steady clock. Never here: what runs in the
//! tunnel, its bytes, who may do what.

use quarterdeck_protocol::{
    api::TunnelStatus,
    tunnel::{close::CloseCode, session::IDLE_WARNING_S},
};

/// The first wait for an answer to an open, in milliseconds; it doubles.
const ASK_FIRST_MS: i64 = 1_000;
/// The longest one.
const ASK_MOST_MS: i64 = 5_000;

/// How long what may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without an answer of the device to an open.
    pub open_ms: i64,
    /// Without activity.
    pub idle_ms: i64,
    /// Open, in all.
    pub duration_ms: i64,
    /// Without a word of the device.
    pub away_ms: i64,
    /// Without the console in which its streams end.
    pub alone_ms: i64,
}

/// Where the streams of a tunnel end on our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// At the server: consoles come and go.
    Here,
    /// In the one console that opened it.
    InConsole,
}

/// A tunnel that is not over, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub phase: Phase,
    /// Consoles that are attached.
    pub attached: u32,
    active_ms: i64,
    is_warned: bool,
    ends_ms: i64,
    ends: Ends,
    /// Since when nobody has been attached.
    alone_since_ms: Option<i64>,
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Opening { since_ms: i64, asked_ms: i64, tries: u32 },
    Open,
    Stalled { since_ms: i64 },
    Over(End),
}

/// How a tunnel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// It was open once.
    pub was_open: bool,
    pub reason: CloseCode,
    pub message: String,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The device says that it is there.
    Opened,
    /// The device says that it is over, or cannot be; or its stream ended.
    Ended {
        reason: CloseCode,
        message: String,
    },
    /// The device cannot be heard.
    Lost,
    /// It can.
    Heard,
    Attached,
    Detached,
    /// Somebody typed.
    Typed,
    /// The program wrote.
    Shown,
    /// Somebody wants it over, or it cannot go on here.
    Close {
        reason: CloseCode,
        message: String,
    },
    /// Time went by.
    Time,
}

/// What is to be done, once the step is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask the device to open it.
    Ask,
    /// Tell the device that it is over.
    Tell,
    /// Tell the consoles that it ends in so many seconds unless something happens.
    Warn { seconds: u64 },
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub next: Session,
    pub effects: Vec<Effect>,
}

/// It is over: nothing happens to it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tunnel is over")]
pub struct Over;

impl Session {
    /// A tunnel of which the device has not been told; the first [`Event::Time`] asks it.
    pub const fn new(ends: Ends, now_ms: i64, limits: &Limits) -> Self {
        Self {
            phase: Phase::Opening { since_ms: now_ms, asked_ms: now_ms, tries: 0 },
            attached: 0,
            active_ms: now_ms,
            is_warned: false,
            ends_ms: now_ms + limits.duration_ms,
            ends,
            alone_since_ms: Some(now_ms),
        }
    }

    /// One that was there before a restart of the server. Idleness begins anew, and its
    /// console has as long to come back as if it had just gone.
    pub const fn resumed(ends: Ends, was_open: bool, ends_ms: i64, now_ms: i64) -> Self {
        let phase = if was_open {
            Phase::Stalled { since_ms: now_ms }
        } else {
            Phase::Opening { since_ms: now_ms, asked_ms: now_ms, tries: 0 }
        };
        let alone_since_ms = Some(now_ms);
        Self {
            phase,
            attached: 0,
            active_ms: now_ms,
            is_warned: false,
            ends_ms,
            ends,
            alone_since_ms,
        }
    }

    pub const fn status(&self) -> TunnelStatus {
        match &self.phase {
            Phase::Opening { .. } => TunnelStatus::Opening,
            Phase::Open => TunnelStatus::Open,
            Phase::Stalled { .. } => TunnelStatus::Stalled,
            Phase::Over(End { was_open: true, .. }) => TunnelStatus::Closed,
            Phase::Over(End { was_open: false, .. }) => TunnelStatus::Failed,
        }
    }

    /// How it ended, if it did.
    pub const fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Over(end) => Some(end),
            _ => None,
        }
    }

    /// When it has been open for as long as may be.
    pub const fn ends_ms(&self) -> i64 {
        self.ends_ms
    }

    const fn was_open(&self) -> bool {
        !matches!(self.phase, Phase::Opening { .. })
    }

    fn over(&mut self, reason: CloseCode, message: impl Into<String>) {
        let end = End { was_open: self.was_open(), reason, message: message.into() };
        self.phase = Phase::Over(end);
    }

    fn active(&mut self, now_ms: i64) {
        self.active_ms = now_ms;
        self.is_warned = false;
    }

    /// When [`Event::Time`] is next to be told; `None` when it is over.
    pub fn due_ms(&self, limits: &Limits) -> Option<i64> {
        let phase = match self.phase {
            Phase::Over(_) => return None,
            Phase::Opening { since_ms, asked_ms, .. } => asked_ms.min(since_ms + limits.open_ms),
            Phase::Open => i64::MAX,
            Phase::Stalled { since_ms } => since_ms + limits.away_ms,
        };
        let idle = self.active_ms + limits.idle_ms;
        let idle = if self.is_warned { idle } else { idle - warning_ms(limits) };
        let alone = self.abandoned_ms(limits).unwrap_or(i64::MAX);
        Some(phase.min(idle).min(alone).min(self.ends_ms))
    }

    /// When its console has been gone for as long as it may be.
    fn abandoned_ms(&self, limits: &Limits) -> Option<i64> {
        let since_ms = self.alone_since_ms.filter(|_| self.ends == Ends::InConsole)?;
        Some(since_ms + limits.alone_ms)
    }
}

/// How long before its end an idle session is warned.
fn warning_ms(limits: &Limits) -> i64 {
    (IDLE_WARNING_S as i64 * 1_000).min(limits.idle_ms / 2)
}

/// Lets something happen to a tunnel.
pub fn step(session: &Session, event: Event, now_ms: i64, limits: &Limits) -> Result<Step, Over> {
    if session.end().is_some() {
        return Err(Over);
    }
    let mut next = session.clone();
    let mut effects = Vec::new();
    match event {
        Event::Opened => {
            if !next.was_open() {
                next.phase = Phase::Open;
                next.active(now_ms);
            }
        }
        Event::Heard => {
            if next.was_open() {
                next.phase = Phase::Open;
            }
        }
        Event::Lost => {
            if next.phase == Phase::Open {
                next.phase = Phase::Stalled { since_ms: now_ms };
            }
        }
        Event::Ended { reason, message } => next.over(reason, message),
        Event::Close { reason, message } => {
            next.over(reason, message);
            effects.push(Effect::Tell);
        }
        Event::Attached => {
            next.attached += 1;
            next.alone_since_ms = None;
            next.active(now_ms);
        }
        Event::Detached => {
            next.attached = next.attached.saturating_sub(1);
            if next.attached == 0 {
                next.alone_since_ms.get_or_insert(now_ms);
            }
        }
        Event::Typed => next.active(now_ms),
        Event::Shown => {
            if next.attached > 0 {
                next.active(now_ms);
            }
        }
        Event::Time => on_time(&mut next, &mut effects, now_ms, limits),
    }
    Ok(Step { next, effects })
}

fn on_time(next: &mut Session, effects: &mut Vec<Effect>, now_ms: i64, limits: &Limits) {
    let (reason, message) = if now_ms >= next.ends_ms {
        (CloseCode::DurationLimit, "it was open for as long as a tunnel may be".to_owned())
    } else if let Phase::Opening { since_ms, .. } = next.phase
        && now_ms >= since_ms + limits.open_ms
    {
        let message = format!("the device did not answer in {} s", limits.open_ms / 1_000);
        (CloseCode::DeviceLost, message)
    } else if let Phase::Stalled { since_ms } = next.phase
        && now_ms >= since_ms + limits.away_ms
    {
        let message = format!("the device was away for {} s", limits.away_ms / 1_000);
        (CloseCode::DeviceLost, message)
    } else if next.abandoned_ms(limits).is_some_and(|due_ms| now_ms >= due_ms) {
        let message = format!("its console was gone for {} s", limits.alone_ms / 1_000);
        (CloseCode::ConsoleLost, message)
    } else if now_ms >= next.active_ms + limits.idle_ms {
        (CloseCode::IdleTimeout, format!("nothing happened for {} s", limits.idle_ms / 1_000))
    } else {
        if let Phase::Opening { asked_ms, tries, .. } = &mut next.phase
            && now_ms >= *asked_ms
        {
            *asked_ms = now_ms + (ASK_FIRST_MS << (*tries).min(8)).min(ASK_MOST_MS);
            *tries += 1;
            effects.push(Effect::Ask);
        }
        let left_ms = next.active_ms + limits.idle_ms - now_ms;
        if !next.is_warned && left_ms <= warning_ms(limits) {
            next.is_warned = true;
            effects.push(Effect::Warn { seconds: (left_ms as u64).div_ceil(1_000) });
        }
        return;
    };
    next.over(reason, message);
    effects.push(Effect::Tell);
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
