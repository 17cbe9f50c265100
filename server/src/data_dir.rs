//! The folder of a server's state: private, and of one server at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

/// The file that says that a server is at work here.
const LOCK: &str = "lock";
/// Where files that commands bring or take lie.
pub const UPLOADS: &str = "uploads";
/// Where the logs of sessions lie.
pub const TUNNELS: &str = "tunnels";
/// For nobody but the owner, and what others would have beyond that.
const PRIVATE: u32 = 0o700;
const OTHERS: u32 = 0o077;

/// Says why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot use the data folder {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("data folder {path}: another quarterdeck-server is at work here")]
    InUse { path: PathBuf },
    #[error(
        "data folder {path}: others may read or write it, and it holds what is not ours; choose a new folder, or chmod 700 it"
    )]
    NotPrivate { path: PathBuf },
}

/// A folder that is this process's alone, until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    /// Makes the folder when there is none, makes it private, and takes its lock.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(PRIVATE).create(path).map_err(failed)?;
        make_private(path)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                Err(DataDirError::InUse { path: path.to_owned() })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of files that commands bring or take.
    pub fn uploads(&self) -> PathBuf {
        self.path.join(UPLOADS)
    }

    /// The folder of the logs of sessions, recordings included.
    pub fn tunnels(&self) -> PathBuf {
        self.path.join(TUNNELS)
    }
}

fn make_private(path: &Path) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::Io { path: path.to_owned(), source };
    let about = fs::metadata(path).map_err(failed)?;
    if about.mode() & OTHERS == 0 {
        return Ok(());
    }
    // Somebody's /tmp or home is not to become private by a mistyped option.
    let is_ours = path.join(LOCK).exists() || fs::read_dir(path).map_err(failed)?.next().is_none();
    if !is_ours {
        return Err(DataDirError::NotPrivate { path: path.to_owned() });
    }
    fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_of_one_server() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("a/b");
        let first = DataDir::open(&path).expect("opened");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o700);
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse { .. })));
        drop(first);
        DataDir::open(&path).expect("free again");
    }

    #[test]
    fn a_folder_with_other_things_is_not_made_private() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("shared");
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        fs::write(path.join("letter.txt"), "").expect("written");
        assert!(matches!(DataDir::open(&path), Err(DataDirError::NotPrivate { .. })));
        fs::remove_file(path.join("letter.txt")).expect("removed");
        DataDir::open(&path).expect("empty, so ours");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o700);
    }
}
