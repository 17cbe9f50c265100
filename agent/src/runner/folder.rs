//! Reads the workflow folder whenever somebody changes it, and before each new command.
//!
//! ```text
//!  the kernel tells a change ─┐
//!  a command asks ────────────┼─▶ read all files ─▶ news ─▶ the runner
//!  every so often ────────────┘      (on another thread)
//! ```
//!
//! A new command waits until the folder was read after it came, so it runs the
//! files as they are now (V1, V2), whether the kernel told of them or not. A folder that
//! is not there is one without files, and is waited for.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::sleep,
};

use crate::{
    io::workflow_folder,
    workflow::catalogue::{Catalogue, FolderFile, Whose},
};

/// How often the folder is read although nobody told of a change, in milliseconds.
const READ_EVERY_MS: u64 = 30_000;
/// … when the kernel cannot tell.
const READ_EVERY_UNTOLD_MS: u64 = 5_000;

/// What reading the folder came to.
#[derive(Debug)]
pub struct News {
    /// Which folder it is.
    pub at: usize,
    /// Requests up to this one have been served.
    pub served: u64,
    /// The operations, if they are others than before.
    pub catalogue: Option<Catalogue>,
}

/// The way to the task that reads the folder.
#[derive(Debug)]
pub struct Folder {
    wanted: watch::Sender<u64>,
}

impl Folder {
    /// Reads the folder for the first time, and begins to watch it; `at` stands in its news. Gives
    /// no catalogue when the folder cannot be read.
    pub fn watch(
        at: usize,
        whose: Whose,
        path: PathBuf,
        to: mpsc::Sender<News>,
    ) -> (Self, Option<Catalogue>) {
        let mut reader = Reader { at, whose, path, before: None, error: None };
        if whose == Whose::Child && !reader.path.is_dir() {
            let folder = reader.path.display();
            tracing::warn!(%folder, "make this folder, with the operations of a child: it has none until then");
        }
        let catalogue = reader.read();
        let (wanted, requests) = watch::channel(0);
        tokio::spawn(run(reader, requests, to));
        (Self { wanted }, catalogue)
    }

    /// Asks for the folder to be read anew; `request` rises.
    pub fn ask(&self, request: u64) {
        self.wanted.send_replace(request);
    }
}

async fn run(mut reader: Reader, mut requests: watch::Receiver<u64>, to: mpsc::Sender<News>) {
    let mut changes = Changes::default();
    loop {
        changes.watch(&reader.path);
        let patience = Duration::from_millis(changes.patience_ms());
        tokio::select! {
            asked = requests.changed() => if asked.is_err() { return },
            () = changes.told() => {}
            () = sleep(patience) => {}
        }
        let served = *requests.borrow_and_update();
        let read = tokio::task::spawn_blocking(move || {
            let catalogue = reader.read();
            (reader, catalogue)
        });
        let Ok((again, catalogue)) = read.await else { return };
        reader = again;
        let at = reader.at;
        if to.send(News { at, served, catalogue }).await.is_err() {
            return;
        }
    }
}

#[derive(Debug)]
struct Reader {
    at: usize,
    whose: Whose,
    path: PathBuf,
    /// What was found the last time; nothing until it could be read.
    before: Option<Vec<FolderFile>>,
    /// Why it could not be read the last time.
    error: Option<String>,
}

impl Reader {
    /// Reads the folder; nothing if it is as before, or cannot be read: what was known then stays.
    fn read(&mut self) -> Option<Catalogue> {
        let mut files = match workflow_folder::read_or_none(&self.path) {
            Ok(files) => files,
            Err(error) => {
                let error = Some(error.to_string());
                if self.error != error {
                    tracing::error!(folder = %self.path.display(), error, "cannot read the workflows");
                    self.error = error;
                }
                return None;
            }
        };
        self.error = None;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        if self.before.as_ref() == Some(&files) {
            return None;
        }
        self.before = Some(files.clone());
        let catalogue = Catalogue::of(self.whose, files);
        for rejected in &catalogue.rejected {
            let rejected = rejected.to_string().replace('\n', "; ");
            tracing::warn!(rejected, "a file of the workflow folder counts for nothing");
        }
        for invalid in catalogue.invalid() {
            let operation = invalid.operation.as_deref().unwrap_or_default();
            let reason = invalid.reason();
            tracing::warn!(operation, reason, "commands fail until the file is mended");
        }
        Some(catalogue)
    }
}

/// What the kernel tells of the folder.
#[derive(Debug, Default)]
struct Changes {
    told: Option<mpsc::Receiver<()>>,
}

impl Changes {
    /// Watches the folder if it is not watched yet; it may have come only now.
    fn watch(&mut self, path: &Path) {
        if self.told.is_some() {
            return;
        }
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC);
        let inotify = inotify.and_then(|inotify| inotify.add_watch(path, flags).map(|_| inotify));
        let Ok(inotify) = inotify else { return };
        // One place is enough: what is told is only that it is to be read again.
        let (to, told) = mpsc::channel(1);
        let thread = thread::Builder::new().name("workflow-folder".to_owned());
        if thread.spawn(move || listen(&inotify, &to)).is_ok() {
            self.told = Some(told);
        }
    }

    /// Waits until something has changed.
    async fn told(&mut self) {
        let Some(told) = &mut self.told else { return std::future::pending().await };
        if told.recv().await.is_none() {
            // The folder is another one now, or none: it is looked for anew.
            self.told = None;
        }
    }

    const fn patience_ms(&self) -> u64 {
        if self.told.is_some() { READ_EVERY_MS } else { READ_EVERY_UNTOLD_MS }
    }
}

/// Tells of each change until the folder is gone.
fn listen(inotify: &Inotify, to: &mpsc::Sender<()>) {
    let gone =
        AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF;
    loop {
        match inotify.read_events() {
            Ok(events) if events.iter().any(|event| event.mask.intersects(gone)) => return,
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if matches!(to.try_send(()), Err(TrySendError::Closed(()))) {
            return;
        }
    }
}
