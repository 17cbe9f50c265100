//! The sessions of the TUI's panes: the other end of [`crate::tui::tunnels`]'s seam.
//!
//! ```text
//!  TunnelRequest ─▶ a task per pane ─┬─ keys, in order, as the device takes them ─▶ Attachment
//!                                    └◀─ status, the end ──▶ mailbox
//!                                     ◀─ output, when there is room ──▶ mailbox
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use quarterdeck_protocol::{
    api::TunnelKind,
    ids::ProjectId,
    tunnel::{close::CloseCode, mark::Size, stream::Closed},
};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
    time::sleep,
};

use super::{
    client::Client,
    tunnel::{self, Attachment, Ended, Event, KEYS_MAX_BYTES, NotTyped, Piece},
};
use crate::tui::{
    effects::NetEvent,
    mailbox::MailboxSender,
    pane::layout::PaneId,
    tunnels::{Attach, TunnelCall, TunnelEvent, TunnelNews, TunnelRequest},
};

/// Requests of one pane that may wait for its task, which waits for nothing but the network's
/// first answer.
const CALLS_MAX: usize = 1024;
/// Keys that the device has no room for are tried again so soon.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// Keys are handed over in pieces of so many bytes: a paste must not need all the room at once.
const KEYS_PIECE_BYTES: usize = KEYS_MAX_BYTES / 4;

/// All sessions of one TUI.
#[derive(Debug, Default)]
pub struct Panes {
    calls: BTreeMap<PaneId, mpsc::Sender<TunnelCall>>,
    tasks: JoinSet<()>,
}

impl Panes {
    /// Takes what a pane asks. Never waits.
    pub fn take(
        &mut self,
        client: &Client,
        project: &ProjectId,
        mailbox: &MailboxSender,
        request: TunnelRequest,
    ) {
        while self.tasks.try_join_next().is_some() {}
        let TunnelRequest { pane, call } = request;
        if let TunnelCall::Open { what, size } = call {
            let (sender, calls) = mpsc::channel(CALLS_MAX);
            self.calls.retain(|_, calls| !calls.is_closed());
            self.calls.insert(pane, sender);
            let session = Session {
                client: client.clone(),
                project: project.clone(),
                pane,
                mailbox: mailbox.clone(),
            };
            self.tasks.spawn(session.run(what, size, calls));
            return;
        }
        let sent = self.calls.get(&pane).map(|calls| calls.try_send(call));
        if let Some(Err(error)) = sent {
            self.calls.remove(&pane);
            // Rather no session than one that lacks keys.
            if matches!(error, TrySendError::Full(_)) {
                let why = "more was typed than could be sent";
                let ended = Ended::Closed(Closed::new(CloseCode::Busy, why));
                mailbox.put(NetEvent::Tunnel(TunnelEvent { pane, news: TunnelNews::Ended(ended) }));
            }
        }
    }

    /// Leaves all of them, whose programs run on.
    pub async fn leave(mut self, within: Duration) {
        self.calls.clear();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(within, all).await;
    }
}

/// One pane's session.
struct Session {
    client: Client,
    project: ProjectId,
    pane: PaneId,
    mailbox: MailboxSender,
}

/// What was asked before there was somebody to ask.
#[derive(Default)]
struct Early {
    size: Option<Size>,
    keys: VecDeque<Bytes>,
    is_closed: bool,
    is_left: bool,
}

impl Session {
    fn put(&self, news: TunnelNews) {
        self.mailbox.put(NetEvent::Tunnel(TunnelEvent { pane: self.pane, news }));
    }

    async fn run(self, what: Attach, size: Size, mut calls: mpsc::Receiver<TunnelCall>) {
        let mut early = Early::default();
        let attach = match what {
            Attach::Existing { tunnel, mode } => {
                let kind = TunnelKind::Terminal;
                tunnel::Attach { id: tunnel, kind, mode, ticket: None, size: Some(size) }
            }
            Attach::New { device, record } => {
                let create = Attach::create(&device, record, size);
                let created = tunnel::create(&self.client, &self.project, &create);
                tokio::pin!(created);
                let created = loop {
                    tokio::select! {
                        created = &mut created => break created,
                        call = calls.recv(), if !early.is_left => early.take(call),
                    }
                };
                match created {
                    Ok(created) => tunnel::Attach::created(&created, early.size.or(Some(size))),
                    Err(error) => return self.put(TunnelNews::Ended(Ended::Refused(error))),
                }
            }
        };
        self.put(TunnelNews::Opened(attach.id));
        let attachment = Attachment::start(&self.client, &self.project, attach);
        if early.is_closed {
            attachment.close();
        } else if early.is_left {
            attachment.detach();
        }
        self.serve(attachment, early.keys, calls).await;
    }

    async fn serve(
        &self,
        attachment: Attachment,
        mut keys: VecDeque<Bytes>,
        mut calls: mpsc::Receiver<TunnelCall>,
    ) {
        // Output that waits for room.
        let mut held: Option<Piece> = None;
        let mut is_left = false;
        loop {
            tokio::select! {
                biased;
                call = calls.recv(), if !is_left => match call {
                    Some(TunnelCall::Input(bytes)) => {
                        keys.push_back(bytes);
                        type_all(&attachment, &mut keys);
                    }
                    Some(TunnelCall::Resize(size)) => attachment.resize(size),
                    Some(TunnelCall::Close) => attachment.close(),
                    Some(TunnelCall::Open { .. }) => {}
                    Some(TunnelCall::Detach) | None => {
                        is_left = true;
                        attachment.detach();
                    }
                },
                () = sleep(AGAIN_AFTER), if !keys.is_empty() => type_all(&attachment, &mut keys),
                () = self.hand_on(held.as_ref()), if held.is_some() => held = None,
                event = attachment.next(), if held.is_none() => match event {
                    Event::Status => {
                        self.put(TunnelNews::Status(Box::new(attachment.status())));
                        type_all(&attachment, &mut keys);
                    }
                    // Nobody looks any more.
                    Event::Piece(_) if is_left => {}
                    Event::Piece(piece) => held = Some(piece),
                    Event::Ended(ended) => return self.put(TunnelNews::Ended(ended)),
                },
            }
        }
    }

    async fn hand_on(&self, piece: Option<&Piece>) {
        if let Some(piece) = piece {
            self.mailbox.output(self.pane, piece.clone()).await;
        }
    }
}

impl Early {
    fn take(&mut self, call: Option<TunnelCall>) {
        match call {
            Some(TunnelCall::Input(bytes)) => self.keys.push_back(bytes),
            Some(TunnelCall::Resize(size)) => self.size = Some(size),
            Some(TunnelCall::Close) => (self.is_closed, self.is_left) = (true, true),
            Some(TunnelCall::Detach) | None => self.is_left = true,
            Some(TunnelCall::Open { .. }) => {}
        }
    }
}

/// Types what the device has room for; what it will never take is dropped.
fn type_all(attachment: &Attachment, keys: &mut VecDeque<Bytes>) {
    while let Some(first) = keys.front_mut() {
        let piece = first.split_to(first.len().min(KEYS_PIECE_BYTES));
        match attachment.type_keys(&piece) {
            Ok(()) | Err(NotTyped::ReadOnly | NotTyped::Over) => {}
            Err(NotTyped::Full | NotTyped::NotAttached) => {
                let mut whole = bytes::BytesMut::from(&piece[..]);
                whole.extend_from_slice(first);
                *first = whole.freeze();
                return;
            }
        }
        if first.is_empty() {
            keys.pop_front();
        }
    }
}
