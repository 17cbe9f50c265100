//! The agent's own folder, readable by its owner alone.
//!
//! | file | holds |
//! | --- | --- |
//! | `credentials.json` | who this device is, and its secret |
//! | `enroll-nonce` | the nonce of an enrolment under way |
//! | `journal` | [`crate::journal`]: what the server asked for and was told |
//! | `board` | [`crate::runner::log`]: the commands of workflows |
//! | `tunnels-started` | [`crate::tunnel::started`]: tunnels whose programs were started |
//! | `workflows/` | the owner's own operations, unless they lie elsewhere |
//! | `connection.json` | the connection as it was last, for `status` |
//! | `lock` | held by the one agent that may use this folder |
//! | `work/` | files of running commands; those of others go at every start |

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use quarterdeck_protocol::ids::CommandId;

use crate::io::durable;

/// How often, and how long apart, a held folder is tried before it counts as held: what an
/// agent that was killed had just forked keeps its files open until it runs its program.
const TRIES: u32 = 60;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Says why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot use the data folder {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("another agent already runs on the data folder {}", path.display())]
    InUse { path: PathBuf },
}

/// The folder, held by this process.
#[derive(Debug)]
pub struct DataDir {
    paths: Paths,
    _lock: Flock<File>,
}

/// Where things are in the folder.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials.json")
    }

    pub fn nonce(&self) -> PathBuf {
        self.root.join("enroll-nonce")
    }

    pub fn connection(&self) -> PathBuf {
        self.root.join("connection.json")
    }

    pub fn tunnels_started(&self) -> PathBuf {
        self.root.join("tunnels-started")
    }

    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The folder of one command's files.
    pub fn work_of(&self, id: CommandId) -> PathBuf {
        self.work().join(id.to_string())
    }

    fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Whether an agent runs on this folder now.
    pub fn is_in_use(&self) -> bool {
        let Ok(file) = File::open(self.lock()) else { return false };
        Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
    }
}

impl DataDir {
    /// Makes the folder if need be, and holds it until dropped.
    pub fn hold(root: &Path) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io { path: root.to_owned(), source };
        let paths = Paths::new(root);
        durable::private_folder(root).map_err(io)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(paths.lock())
            .map_err(io)?;
        let lock = lock(file).ok_or_else(|| DataDirError::InUse { path: root.to_owned() })?;
        durable::private_folder(&paths.work()).map_err(io)?;
        Ok(Self { paths, _lock: lock })
    }

    /// Removes the files of all commands but these: nobody asks for them any more.
    pub fn empty_work(&self, but: &[CommandId]) {
        let but: HashSet<_> = but.iter().map(ToString::to_string).collect();
        let folders = fs::read_dir(self.paths.work()).into_iter().flatten().flatten();
        for folder in folders.filter(|it| !it.file_name().to_str().is_some_and(|n| but.contains(n)))
        {
            let path = folder.path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove a command's files");
            }
        }
    }

    pub const fn paths(&self) -> &Paths {
        &self.paths
    }
}

fn lock(mut file: File) -> Option<Flock<File>> {
    for _ in 0..TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((it, _)) => file = it,
        }
        thread::sleep(BETWEEN_TRIES);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_let_go_in_time_is_held_and_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = DataDir::hold(folder.path()).expect("nobody holds it");
        let root = folder.path().to_owned();
        let second = thread::spawn(move || DataDir::hold(&root));
        let refused = DataDir::hold(folder.path());
        assert!(matches!(refused, Err(DataDirError::InUse { .. })), "{refused:?}");
        assert!(second.join().expect("no panic").is_err());

        let root = folder.path().to_owned();
        let third = thread::spawn(move || DataDir::hold(&root));
        thread::sleep(BETWEEN_TRIES);
        drop(held);
        third.join().expect("no panic").expect("let go in time");
    }
}
