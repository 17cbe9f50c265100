//! Save, then act: what waits for the journal, and the threads that save it.

use std::{collections::VecDeque, io, sync::Arc};

use quarterdeck_protocol::{command::Response, ids::CommandId};
use tokio::{sync::oneshot, task::JoinHandle};

use super::Engine;
use crate::{
    failpoint,
    io::mqtt::{Link, Receipt},
    journal::{JournalError, Lsn, compact::Compacted, record::Record},
};

/// What to do once it is saved that it will be done.
#[derive(Debug)]
pub(super) enum Then {
    Acknowledge {
        link: Option<Link>,
        receipt: Receipt,
    },
    /// Reply `n` may leave.
    Send {
        id: CommandId,
        n: u32,
    },
    /// Begin a command's workflow, or find it again.
    Follow {
        id: CommandId,
    },
    /// A program may start, or the host go down.
    LetGo(oneshot::Sender<()>),
    /// A piece of output may leave, after what was said before it.
    Tell(Box<Response>),
    /// What was said last of a command that came again.
    SayAgain {
        id: CommandId,
    },
    /// Forget a workflow: the journal knows its end.
    Clear {
        id: CommandId,
        operation: Arc<str>,
    },
}

/// Pieces of output that may wait for what was said before them; beyond, they are left out.
const TELLING_MAX: usize = 256;

type CompactionEnd = Result<Compacted, JournalError>;

/// What is under way to the disk.
#[derive(Debug, Default)]
pub(super) struct Saving {
    synced: Lsn,
    waiting: VecDeque<(Lsn, Then)>,
    /// How many of them are pieces of output.
    telling: usize,
    sync: Option<(Lsn, JoinHandle<io::Result<()>>)>,
    compaction: Option<JoinHandle<CompactionEnd>>,
}

#[derive(Debug)]
pub(super) enum Done {
    Synced(Lsn, io::Result<()>),
    Compacted(CompactionEnd),
}

impl Saving {
    pub(super) fn is_busy(&self) -> bool {
        self.sync.is_some() || !self.waiting.is_empty()
    }

    /// Waits until one of them is done; for ever if none is under way.
    pub(super) async fn done(&mut self) -> Done {
        let compaction = async {
            match &mut self.compaction {
                Some(task) => task.await.unwrap_or(Err(JournalError::Broken)),
                None => std::future::pending().await,
            }
        };
        let sync = async {
            match &mut self.sync {
                Some((lsn, task)) => {
                    (*lsn, task.await.unwrap_or_else(|e| Err(io::Error::other(e))))
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (lsn, synced) = sync => {
                self.sync = None;
                Done::Synced(lsn, synced)
            }
            compacted = compaction => {
                self.compaction = None;
                Done::Compacted(compacted)
            }
        }
    }
}

impl Engine {
    /// Writes records and has `then` done once they are saved; on an error none of it happens.
    pub(super) fn save(
        &mut self,
        records: &[Record],
        then: impl IntoIterator<Item = Then>,
    ) -> Result<(), JournalError> {
        let appended = self.journal.append(records);
        if appended.is_err() {
            // Where not even what was written in part could be cut off, it must be rewritten.
            self.compact_on();
        }
        let (lsn, _) = appended?;
        self.saving.waiting.extend(then.into_iter().map(|then| (lsn, then)));
        Ok(())
    }

    /// Has `then` done once all that was written so far is saved; at once if it is.
    pub(super) fn once_saved(&mut self, then: impl IntoIterator<Item = Then>) {
        let (lsn, _) = self.journal.to_sync();
        self.saving.waiting.extend(then.into_iter().map(|then| (lsn, then)));
        self.act_on_saved();
    }

    /// Tells a piece of output after all that waits by now: nothing is saved for its sake.
    pub(super) fn after_waiting(&mut self, response: Response) {
        match self.saving.waiting.back() {
            None => self.outbox.push_unsaved(&response),
            Some(_) if self.saving.telling >= TELLING_MAX => {
                tracing::debug!(command_id = %response.command_id, "a piece of output is left out");
            }
            Some((lsn, _)) => {
                let then = (*lsn, Then::Tell(Box::new(response)));
                self.saving.telling += 1;
                self.saving.waiting.push_back(then);
            }
        }
    }

    /// Writes a record that nothing waits for.
    pub(super) fn note(&mut self, record: Record) {
        if let Err(error) = self.journal.append(&[record]) {
            tracing::debug!(%error, "a note was not written");
        }
    }

    /// Begins an fsync if something waits for one and none is under way: all
    /// that was written by now is saved by it.
    pub(super) fn save_on(&mut self) {
        let has_nothing_to_do = self.saving.sync.is_some() || self.saving.waiting.is_empty();
        // After a failure the kernel may call a later one a success; only a new file is one.
        if has_nothing_to_do || self.journal.is_broken() {
            return;
        }
        let (lsn, file) = self.journal.to_sync();
        let sync = move || failpoint::fails("sync").and_then(|()| file.sync());
        self.saving.sync = Some((lsn, tokio::task::spawn_blocking(sync)));
    }

    /// Begins to rewrite the journal if it is worth it.
    pub(super) fn compact_on(&mut self) {
        if self.saving.compaction.is_some() {
            return;
        }
        if let Some(compaction) = self.journal.begin_compaction(self.context.clock.wall()) {
            self.saving.compaction = Some(tokio::task::spawn_blocking(|| compaction.run()));
        }
    }

    pub(super) fn on_saving(&mut self, done: Done) {
        match done {
            Done::Synced(lsn, Ok(())) => {
                self.saving.synced = self.saving.synced.max(lsn);
                self.act_on_saved();
                self.compact_on();
            }
            // Of the file before: what it was for was saved with the new one meanwhile.
            Done::Synced(lsn, Err(_)) if lsn <= self.saving.synced => {}
            Done::Synced(_, Err(error)) => self.on_save_failed(&error),
            Done::Compacted(compacted) => match self.journal.finish_compaction(compacted) {
                Ok(()) => {
                    tracing::info!("the journal was compacted");
                    // The new file holds all that was written until now, and is on the disk.
                    self.saving.synced = self.journal.to_sync().0;
                    self.act_on_saved();
                }
                Err(error) => tracing::error!(
                    error = crate::io::http::describe(&error),
                    "the journal cannot be compacted"
                ),
            },
        }
    }

    fn act_on_saved(&mut self) {
        let synced = self.saving.synced;
        while self.saving.waiting.front().is_some_and(|(needed, _)| *needed <= synced) {
            if let Some((_, then)) = self.saving.waiting.pop_front() {
                self.act(then);
            }
        }
    }

    /// Nothing that waits may be done: whether it was saved is not known. It waits on, and the
    /// journal takes nothing more, until it could be rewritten.
    fn on_save_failed(&mut self, error: &io::Error) {
        tracing::error!(%error, "the journal cannot be saved");
        self.journal.sync_failed();
        // After the reconnect the server sends what was not acknowledged again.
        if let Some(link) = &self.link {
            link.disconnect();
        }
        // What was to be let go is not: by then it may have been ended. Its step fails, truly.
        let waits_on = |then: &Then| !matches!(then, Then::Acknowledge { .. } | Then::LetGo(_));
        self.saving.waiting.retain(|(_, then)| waits_on(then));
        self.compact_on();
    }

    fn act(&mut self, then: Then) {
        failpoint::reach("saved in the journal, before an effect");
        match then {
            Then::Acknowledge { link, receipt } => {
                if let Some(link) = link {
                    link.acknowledge(&receipt);
                }
            }
            Then::Send { id, n } => self.outbox.push_saved(id, n),
            Then::Follow { id } => self.follow(id),
            Then::Tell(response) => {
                self.saving.telling -= 1;
                self.outbox.push_unsaved(&response);
            }
            Then::SayAgain { id } => self.say_again(id),
            Then::Clear { id, operation } => {
                self.context.workflows.clear(&operation, &id.to_string());
            }
            Then::LetGo(go) => {
                // Work that was ended meanwhile no longer waits for it.
                let _ = go.send(());
            }
        }
    }
}
