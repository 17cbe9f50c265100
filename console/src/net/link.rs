//! The live connection, kept up for ever.
//!
//! ```text
//!  opening ──ok──▶ greeted (hello) ──▶ passing messages on
//!     ▲                                       │ silent, closed, broken
//!     ├── full jitter, growing to 5 s ◀───────┴──▶ Lost
//!     │      └ hurry: at once
//!     └── the same profile signs in again ◀── SignedOut ◀── opening: the login has ended
//! ```
//!
//! A new ticket for each attempt. It remembers no subscription: who shows
//! windows subscribes after each `hello` (see [`crate::tui`]). What is to be
//! sent while there is no connection is dropped, for it meant one that is gone.

use std::{sync::Arc, time::Duration};

use quarterdeck_protocol::{
    ids::ProjectId,
    live::{self, ClientMessage, ServerMessage},
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{
    client::Client,
    clock,
    error::ApiError,
    live::{Ended, Live},
};

/// What may wait to be sent; more than any screen has windows.
pub const OUTGOING_MAX: usize = 256;
const RETRY_BASE: Duration = Duration::from_millis(500);
/// A screen that nobody has to wake: it may be late by so much, never more.
const RETRY_CAP: Duration = Duration::from_secs(5);
/// A connection that lived so long was a good one: the next pause is a short one again.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// What becomes of the connection.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// Every message of the server; `hello` says that a new connection stands.
    Message(ServerMessage),
    Lost {
        why: String,
        /// The pause until it is tried again.
        again_in: Duration,
    },
    SignedOut {
        why: String,
        /// A new login of the same profile is waited for, and taken up.
        waits_for_login: bool,
    },
}

/// Keeps a connection until `outgoing` closes. A pause ends at once when `hurry` notifies those who
/// wait. `tell` must not block.
pub async fn run(
    client: Client,
    project: ProjectId,
    mut outgoing: mpsc::Receiver<ClientMessage>,
    hurry: Arc<Notify>,
    tell: impl Fn(LinkEvent),
) {
    let mut failures = 0;
    loop {
        let opened = tokio::select! {
            opened = Live::open(&client, &project) => opened,
            () = closed(&mut outgoing) => return,
        };
        let why = match opened {
            Ok(live) => {
                let since = Instant::now();
                let Some(ended) = pass(live, &mut outgoing, &tell).await else { return };
                if since.elapsed() >= GOOD_AFTER {
                    failures = 0;
                }
                ended.to_string()
            }
            Err(error @ ApiError::SignedOut { .. }) => {
                let waits_for_login = client.may_sign_in_again();
                tell(LinkEvent::SignedOut { why: error.to_string(), waits_for_login });
                tokio::select! {
                    () = client.signed_in_again() => failures = 0,
                    () = closed(&mut outgoing) => return,
                }
                continue;
            }
            Err(error) => error.to_string(),
        };
        tracing::debug!(%why, failures, "live connection lost");
        let pause = clock::backoff(failures, RETRY_BASE, RETRY_CAP);
        tell(LinkEvent::Lost { why, again_in: pause });
        failures = failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = hurry.notified() => {}
            () = closed(&mut outgoing) => return,
        }
    }
}

/// Passes messages both ways until the connection ends; `None` when nobody wants it any more.
async fn pass(
    mut live: Live,
    outgoing: &mut mpsc::Receiver<ClientMessage>,
    tell: &impl Fn(LinkEvent),
) -> Option<Ended> {
    let hello = tokio::select! {
        hello = live.next() => hello,
        () = closed(outgoing) => { live.close().await; return None }
    };
    match hello {
        Ok(ServerMessage::Hello { version, .. }) if version != live::VERSION => {
            let reason = format!("version {version}, this console {}", live::VERSION);
            return Some(Ended::Garbled { reason });
        }
        Ok(hello @ ServerMessage::Hello { .. }) => tell(LinkEvent::Message(hello)),
        Ok(ServerMessage::Error { detail, .. }) => {
            return Some(Ended::Closed { code: None, why: detail });
        }
        Ok(_) => return Some(Ended::Garbled { reason: "it does not say hello".to_owned() }),
        Err(ended) => return Some(ended),
    }
    loop {
        tokio::select! {
            message = outgoing.recv() => {
                let Some(message) = message else {
                    live.close().await;
                    return None;
                };
                if let Err(ended) = live.send(&message).await {
                    return Some(ended);
                }
            }
            message = live.next() => match message {
                Ok(message) => tell(LinkEvent::Message(message)),
                Err(ended) => return Some(ended),
            },
        }
    }
}

/// Drops what is to be sent until the channel closes.
async fn closed(outgoing: &mut mpsc::Receiver<ClientMessage>) {
    while outgoing.recv().await.is_some() {}
}
