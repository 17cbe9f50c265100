//! The seam between panes and the network, beside that of [`effects`](super::effects).
//!
//! ```text
//!   pane                              network
//!   ── Open {what, size} ───────────▶            a tunnel, a ticket, a WebSocket
//!                                    ◀── Opened {tunnel}
//!                                    ◀── Status {live, stalled, lost, …}, output
//!   ── Input, Resize ───────────────▶
//!   ── Detach | Close ──────────────▶
//!                                    ◀── Ended {why}          last
//! ```
//!
//! Whoever serves the other end promises this:
//!
//! 1. **Keeps the session up by itself**: it connects again after each loss, and neither doubles
//!    nor leaves out a byte; where it cannot go on as before its `Status` says so, or a snapshot.
//! 2. **Waits for room** ([`MailboxSender::output`](super::mailbox::MailboxSender::output)) before
//!    it hands on output, and tells the server only of bytes that it could hand on. So what waits
//!    here is bounded, and a program that writes faster than the operator's terminal shows is
//!    slowed down at the device.
//! 3. **Sends input at once**, in order, each byte once, and gathers resizes.
//! 4. **Ends each session that was opened** with one `Ended`, save those of a console that quits,
//!    whose programs run on.

use std::collections::BTreeMap;

use bytes::Bytes;
use quarterdeck_protocol::{
    api::{CreateTunnel, TunnelKind},
    ids::{DeviceId, TunnelId},
    tunnel::{mark::Size, session::Mode},
};

use super::pane::layout::PaneId;
use crate::net::tunnel::{Ended, Status};

/// What a pane asks of the network.
#[derive(Debug, Clone)]
pub struct TunnelRequest {
    pub pane: PaneId,
    pub call: TunnelCall,
}

#[derive(Debug, Clone)]
pub enum TunnelCall {
    Open {
        what: Attach,
        size: Size,
    },
    /// Keys and answers of the terminal.
    Input(Bytes),
    /// Of an owner.
    Resize(Size),
    /// Goes away; what runs, runs on.
    Detach,
    /// Ends the tunnel.
    Close,
}

/// What of a new terminal is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    /// What its project records of all.
    #[default]
    AsProject,
    /// What it shows, also where the project does not record it.
    Output,
    /// What it shows, and what is typed into it.
    OutputAndKeys,
}

/// What a pane shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// A new terminal on a device.
    New { device: DeviceId, record: Record },
    /// One that is open.
    Existing { tunnel: TunnelId, mode: Mode },
}

impl Attach {
    /// The request that makes a new terminal.
    pub fn create(device: &DeviceId, record: Record, size: Size) -> CreateTunnel {
        CreateTunnel {
            device_id: device.clone(),
            kind: TunnelKind::Terminal,
            argv: Vec::new(),
            cols: Some(size.cols.get()),
            rows: Some(size.rows.get()),
            term: None,
            env: BTreeMap::new(),
            run_as: None,
            host: None,
            port: None,
            reverse: false,
            record: (record != Record::AsProject).then_some(true),
            record_input: record == Record::OutputAndKeys,
        }
    }
}

/// What the network tells a pane, beside its output.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelEvent {
    pub pane: PaneId,
    pub news: TunnelNews,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TunnelNews {
    /// It has an id from now on.
    Opened(TunnelId),
    /// How it fares; the last word counts.
    Status(Box<Status>),
    /// Nothing follows.
    Ended(Ended),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_of_a_terminal_is_what_was_asked_for() {
        let device: DeviceId = "pi-1".parse().expect("an id");
        let size = Size::new(80, 24).expect("not empty");
        for (record, expected) in [
            (Record::AsProject, (None, false)),
            (Record::Output, (Some(true), false)),
            (Record::OutputAndKeys, (Some(true), true)),
        ] {
            let request = Attach::create(&device, record, size);
            assert_eq!((request.record, request.record_input), expected, "{record:?}");
        }
    }
}
