//! How a tunnel ends: its log is closed, that is stored, then the consoles are told.
//!
//! A program may be over before its console has come, or while a broken connection
//! is made anew: what no owner was shown is kept for a while.

use std::time::Duration;

use quarterdeck_protocol::{
    api::{AuditOutcome, RecordingStatus, TunnelKind, TunnelStatus},
    live::Listing,
    tunnel::{close::CloseCode, mark::Exit},
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::Task;
use crate::{
    domain::tunnel::End,
    store::{
        StoreError,
        audit::{Actor, NewEntry},
        recordings,
        tunnels::{self, Progress},
    },
    tunnels::{console::Word, log::Log, session::Asked},
};

/// How long consoles may take to show the rest of the output of a tunnel that is over, in milliseconds.
const FAREWELL_MS: u64 = 10_000;
/// How long output that no owner has shown is kept for one, in milliseconds: as long as the
/// ticket that a tunnel comes with, and several times the console's wait before it connects again.
const UNSEEN_MS: u64 = 30_000;
/// How long before a change that could not be stored is tried again, in milliseconds.
const STORE_RETRY_MS: u64 = 1_000;

impl Task {
    /// Stores how the tunnel ended, tells the consoles, and forgets it.
    pub(super) async fn bury(mut self, log: Option<Log>, mut questions: mpsc::Receiver<Asked>) {
        let Some(end) = self.life.end().cloned() else { return };
        let is_whole = match log {
            None => !self.session.is_terminal(),
            Some(mut log) => {
                let finished = tokio::task::spawn_blocking(move || log.finish()).await;
                matches!(finished, Ok(Ok(()))) && end.reason != CloseCode::RecordingFailed
            }
        };
        let recording =
            if is_whole { RecordingStatus::Complete } else { RecordingStatus::Incomplete };
        // What went through since the last look is told with the end.
        self.note_activity().await;
        while let Err(error) = self.store_end(recording).await {
            tracing::error!(tunnel_id = %self.session.about.id, %error, "a tunnel's end could not be stored; trying again");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(STORE_RETRY_MS)) => {}
                // The next start finds it open, and out of its time or gone from its device.
                () = self.shared.stopping.cancelled() => return,
            }
        }
        for closer in self.closers.drain(..) {
            let _ = closer.send(());
        }
        metrics::counter!("quarterdeck_tunnels_closed_total", "reason" => end.reason.as_str())
            .increment(1);
        self.say_farewell(&end, &mut questions).await;
        self.shared.forget(&self.session);
        questions.close();
        while let Ok(asked) = questions.try_recv() {
            asked.dismiss();
        }
    }

    /// Lets the consoles show the rest of the output, and go; one that comes late has its time too.
    async fn say_farewell(&mut self, end: &End, questions: &mut mpsc::Receiver<Asked>) {
        let stopping = self.shared.stopping.clone();
        let began = Instant::now();
        let (late_at, mut goes_at) =
            (began + Duration::from_millis(UNSEEN_MS), began + Duration::from_millis(FAREWELL_MS));
        loop {
            self.start_consoles();
            for console in &mut self.consoles {
                if !std::mem::replace(&mut console.is_told_over, true) {
                    let _ = console.words.try_send(Word::Over(end.clone()));
                }
            }
            let until = match self.consoles.is_empty() {
                false => goes_at,
                true if self.has_unseen(end.reason) => late_at,
                true => return,
            };
            tokio::select! {
                asked = questions.recv() => match asked {
                    Some(Asked::Attach(attach, answer)) if Instant::now() < late_at => {
                        goes_at = Instant::now() + Duration::from_millis(FAREWELL_MS);
                        let attached = self.attach(attach).await;
                        // One whose socket broke meanwhile is detached by it.
                        let _ = answer.send(attached);
                    }
                    Some(Asked::Detach { console }) => {
                        self.consoles.retain(|attached| attached.id != console);
                    }
                    Some(asked) => asked.dismiss(),
                    None => return,
                },
                () = sleep_until(until) => return,
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Whether there is output that its owner has not shown and may want.
    fn has_unseen(&self, reason: CloseCode) -> bool {
        let is_unwanted =
            matches!(reason, CloseCode::ClosedByUser | CloseCode::Killed | CloseCode::NotAllowed);
        let terminal = self.session.terminal.as_ref();
        !is_unwanted && terminal.is_some_and(|terminal| terminal.has_unseen())
    }

    async fn store_end(&self, recording: RecordingStatus) -> Result<(), StoreError> {
        let about = &self.session.about;
        let Some(end) = self.life.end().cloned() else { return Ok(()) };
        let (bytes_up, bytes_down) = self.counts();
        let progress =
            Progress { attached: 0, bytes_up, bytes_down, last_activity_at: self.active_at };
        let exit = match &self.session.terminal {
            Some(terminal) => terminal.exit(),
            None if about.kind == TunnelKind::Exec => self.session.relay.exit(),
            None => None,
        };
        let (id, project, status) = (about.id, about.project.clone(), self.life.status());
        let recording_id = about.recording_id.clone();
        let actor = self.ended_by.clone().unwrap_or_else(Actor::server);
        let (auditor, at) = (self.shared.auditor.clone(), self.shared.clock.wall());
        let chain = project.clone();
        let stored = self.shared.store.write(move |tx| {
            Box::pin(async move {
                tunnels::set_progress(tx, id, &progress).await?;
                let ended = tunnels::Ended {
                    status,
                    at,
                    reason: end.reason,
                    message: &end.message,
                    exit_code: exit.map(Exit::shell_code),
                };
                if !tunnels::end(tx, id, &ended).await? {
                    return Ok(());
                }
                if let Some(recording_id) = recording_id {
                    let settings = crate::store::projects::settings(tx, &chain).await?;
                    let days = settings.unwrap_or_default().recording_kept_days;
                    let expires = at.plus_seconds(i64::from(days) * 24 * 3600);
                    recordings::end(tx, &recording_id, recording, progress.bytes_down, at, expires)
                        .await?;
                }
                let entry = NewEntry {
                    project: &chain,
                    at,
                    actor: &actor,
                    action: if end.reason == CloseCode::Killed {
                        "tunnel.kill"
                    } else {
                        "tunnel.close"
                    },
                    object: format!("tunnel:{id}"),
                    outcome: if status == TunnelStatus::Failed {
                        AuditOutcome::Failed
                    } else {
                        AuditOutcome::Ok
                    },
                    detail: json!({ "reason": end.reason, "message": end.message,
                        "bytes_up": progress.bytes_up, "bytes_down": progress.bytes_down }),
                };
                auditor.append(tx, entry).await?;
                Ok::<_, StoreError>(())
            })
        });
        stored.await??;
        self.shared.changed(&project, Listing::Tunnels, &id.to_string());
        self.shared.changed(&project, Listing::Recordings, "");
        self.shared.changed(&project, Listing::Audit, "");
        Ok(())
    }
}
