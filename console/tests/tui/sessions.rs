//! The far end of panes: shells in memory, whose connection a test may cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use quarterdeck_console::{
    net::{
        ApiError,
        tunnel::{Ended, Piece, State, Status},
    },
    tui::{
        effects::NetEvent,
        mailbox::MailboxSender,
        pane::layout::PaneId,
        tunnels::{Attach, TunnelCall, TunnelEvent, TunnelNews, TunnelRequest},
    },
};
use quarterdeck_protocol::{
    ids::TunnelId,
    tunnel::{
        close::CloseCode,
        mark::{Exit, Mark, Size},
        session::{Mode, Watcher},
        stream::Closed,
    },
};
use quarterdeck_tests::fake::{FakeFleet, USERNAME, shell::Shell};

/// All sessions of one console.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: BTreeMap<PaneId, Session>,
    /// What was typed into each pane, as it came.
    pub(crate) typed: BTreeMap<PaneId, Vec<u8>>,
    /// Sizes that were asked for.
    pub(crate) resized: Vec<(PaneId, Size)>,
}

#[derive(Debug)]
struct Session {
    tunnel: TunnelId,
    shell: Shell,
    mode: Mode,
    offset: u64,
    bytes_up: u64,
}

impl Sessions {
    pub(crate) fn take(
        &mut self,
        fleet: &mut FakeFleet,
        mailbox: &MailboxSender,
        TunnelRequest { pane, call }: TunnelRequest,
    ) {
        match call {
            TunnelCall::Open { what, size } => self.open(fleet, mailbox, pane, &what, size),
            TunnelCall::Input(bytes) => {
                self.typed.entry(pane).or_default().extend_from_slice(&bytes);
                self.typed_into(fleet, mailbox, pane, &bytes);
            }
            TunnelCall::Resize(size) => {
                self.resized.push((pane, size));
                if let Some(session) = self.all.get_mut(&pane) {
                    session.shell.resize((size.cols.get(), size.rows.get()));
                    session.mark(mailbox, pane, Mark::Resize(size));
                }
            }
            TunnelCall::Detach => {
                self.all.remove(&pane);
                put(mailbox, pane, TunnelNews::Ended(Ended::Detached));
            }
            TunnelCall::Close => {
                if let Some(session) = self.all.remove(&pane) {
                    let code = CloseCode::ClosedByUser;
                    fleet.close_tunnel(session.tunnel, code).expect("it is there");
                    put(mailbox, pane, TunnelNews::Ended(Ended::Closed(Closed::new(code, ""))));
                }
            }
        }
    }

    fn open(
        &mut self,
        fleet: &mut FakeFleet,
        mailbox: &MailboxSender,
        pane: PaneId,
        what: &Attach,
        size: Size,
    ) {
        let (opened, mode) = match what {
            Attach::New { device, .. } => (fleet.open_terminal(device), Mode::Owner),
            Attach::Existing { tunnel, mode } => {
                let known = fleet.tunnels.iter().find(|known| known.id == *tunnel);
                (Ok(known.expect("it is listed").clone()), *mode)
            }
        };
        let tunnel = match opened {
            Ok(tunnel) => tunnel,
            Err(problem) => {
                let ended = Ended::Refused(ApiError::Refused(problem));
                return put(mailbox, pane, TunnelNews::Ended(ended));
            }
        };
        let shell = Shell::new(tunnel.device_id.as_str(), (size.cols.get(), size.rows.get()));
        let greeting = shell.greeting();
        let session = Session { tunnel: tunnel.id, shell, mode, offset: 0, bytes_up: 0 };
        self.all.insert(pane, session);
        put(mailbox, pane, TunnelNews::Opened(tunnel.id));
        self.tell(mailbox, fleet, pane, State::Live, 0);
        self.say(mailbox, pane, &greeting);
    }

    fn typed_into(
        &mut self,
        fleet: &mut FakeFleet,
        mailbox: &MailboxSender,
        pane: PaneId,
        bytes: &[u8],
    ) {
        let Some(session) = self.all.get_mut(&pane) else { return };
        session.bytes_up += bytes.len() as u64;
        let output = session.shell.typed(bytes);
        let ended = session.shell.exit_code;
        self.say(mailbox, pane, &output);
        let (Some(code), Some(mut session)) = (ended, ended.and_then(|_| self.all.remove(&pane)))
        else {
            return;
        };
        session.mark(mailbox, pane, Mark::Exit(Exit::Code(code as u8)));
        let finished = CloseCode::Finished;
        fleet.close_tunnel(session.tunnel, finished).expect("it is there");
        put(mailbox, pane, TunnelNews::Ended(Ended::Closed(Closed::new(finished, ""))));
    }

    /// Lets the device say something.
    pub(crate) fn say(&mut self, mailbox: &MailboxSender, pane: PaneId, text: &str) {
        let Some(session) = self.all.get_mut(&pane) else { return };
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let piece = Piece::Bytes { offset: session.offset, bytes };
        session.offset += text.len() as u64;
        output(mailbox, pane, piece);
    }

    /// Says how the session fares.
    pub(crate) fn tell(
        &self,
        mailbox: &MailboxSender,
        fleet: &FakeFleet,
        pane: PaneId,
        state: State,
        age_ms: u64,
    ) {
        self.tell_with(mailbox, fleet, pane, state, |status| status.age_ms = age_ms);
    }

    pub(crate) fn tell_with(
        &self,
        mailbox: &MailboxSender,
        fleet: &FakeFleet,
        pane: PaneId,
        state: State,
        change: impl FnOnce(&mut Status),
    ) {
        let Some(session) = self.all.get(&pane) else { return };
        let watcher = |user: &str, mode| Watcher { user: user.to_owned(), mode, since: fleet.now };
        let mut watchers = vec![watcher(USERNAME, session.mode)];
        if session.mode != Mode::Owner {
            watchers.push(watcher("ann", Mode::Owner));
        }
        let mut status = Status {
            state,
            age_ms: 0,
            why: None,
            mode: Some(session.mode),
            is_recorded: true,
            rtt_us: Some(48_000),
            bytes_up: session.bytes_up,
            bytes_down: session.offset,
            watchers,
            idle_warning_s: None,
            keys_under_way: 0,
            has_lost_keys: false,
        };
        change(&mut status);
        put(mailbox, pane, TunnelNews::Status(Box::new(status)));
    }
}

impl Session {
    fn mark(&mut self, mailbox: &MailboxSender, pane: PaneId, mark: Mark) {
        output(mailbox, pane, Piece::Mark { offset: self.offset, mark });
        self.offset += 1;
    }
}

fn put(mailbox: &MailboxSender, pane: PaneId, news: TunnelNews) {
    mailbox.put(NetEvent::Tunnel(TunnelEvent { pane, news }));
}

/// Hands on output for which there must be room.
pub(crate) fn output(mailbox: &MailboxSender, pane: PaneId, piece: Piece) {
    use std::{pin::pin, task::Context};
    let mut handed_on = pin!(mailbox.output(pane, piece));
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(handed_on.as_mut().poll(&mut context).is_ready(), "there is room");
}
