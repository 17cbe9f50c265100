//! The file under the journal: on a disk, or in memory with faults for tests.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::failpoint;

/// An open log.
pub trait LogFile: Send + Sync + fmt::Debug {
    fn len_bytes(&self) -> io::Result<u64>;
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Returns once everything written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// Where the log lies.
pub trait LogFolder: Send + Sync + fmt::Debug {
    /// Opens the log; makes an empty one if there is none.
    fn open(&self) -> io::Result<Arc<dyn LogFile>>;
    /// Makes an empty file beside the log.
    fn create_next(&self) -> io::Result<Arc<dyn LogFile>>;
    /// Puts that file in the log's place, at once or not at all; on the disk that is only once
    /// [`LogFolder::sync_names`] has returned.
    fn replace(&self) -> io::Result<()>;
    /// Returns once it is on the disk which file has which name.
    fn sync_names(&self) -> io::Result<()>;
}

/// A log in a folder of the file system.
#[derive(Debug)]
pub struct DiskFolder {
    folder: PathBuf,
    log: PathBuf,
    next: PathBuf,
}

impl DiskFolder {
    /// The journal's name.
    pub const LOG: &str = "journal";

    /// The journal's place.
    pub fn new(folder: &Path) -> Self {
        Self::of(folder, Self::LOG)
    }

    /// The place of the log with this name.
    pub fn of(folder: &Path, log: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            log: folder.join(log),
            next: folder.join(format!("{log}.next")),
        }
    }
}

impl LogFolder for DiskFolder {
    fn open(&self) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.log)?;
        self.sync_names()?;
        Ok(Arc::new(file))
    }

    fn create_next(&self) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.next)?;
        Ok(Arc::new(file))
    }

    fn replace(&self) -> io::Result<()> {
        std::fs::rename(&self.next, &self.log)
    }

    fn sync_names(&self) -> io::Result<()> {
        failpoint::fails("names")?;
        File::open(&self.folder)?.sync_all()
    }
}

impl LogFile for File {
    fn len_bytes(&self) -> io::Result<u64> {
        self.metadata().map(|data| data.len())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// An open log that is only read, for `status` beside a running agent.
#[derive(Debug)]
pub struct ReadOnly(pub File);

impl LogFile for ReadOnly {
    fn len_bytes(&self) -> io::Result<u64> {
        self.0.metadata().map(|data| data.len())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, bytes, offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    /// Leaves the file alone: what looks torn may just be being written.
    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl LogFolder for ReadOnly {
    fn open(&self) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(Self(self.0.try_clone()?)))
    }

    fn create_next(&self) -> io::Result<Arc<dyn LogFile>> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn replace(&self) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod memory {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use super::{Arc, LogFile, LogFolder, io};

    /// Files in memory, and how much more may be written before the disk is full.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct MemoryFolder {
        log: Arc<Mutex<Arc<MemoryFile>>>,
        next: Arc<Mutex<Arc<MemoryFile>>>,
        /// Room of the file made beside the log.
        pub(crate) next_room: Arc<Mutex<Option<usize>>>,
        /// Names cannot be brought to the disk.
        pub(crate) loses_names: Arc<AtomicBool>,
    }

    #[derive(Debug, Default)]
    pub(crate) struct MemoryFile {
        pub(crate) bytes: Mutex<Vec<u8>>,
        /// Bytes that still fit; `None`: no end.
        pub(crate) room: Mutex<Option<usize>>,
    }

    impl MemoryFolder {
        pub(crate) fn holding(bytes: &[u8]) -> Self {
            let folder = Self::default();
            *folder.log().bytes.lock().unwrap() = bytes.to_vec();
            folder
        }

        pub(crate) fn log(&self) -> Arc<MemoryFile> {
            self.log.lock().unwrap().clone()
        }
    }

    impl LogFolder for MemoryFolder {
        fn open(&self) -> io::Result<Arc<dyn LogFile>> {
            Ok(self.log())
        }

        fn create_next(&self) -> io::Result<Arc<dyn LogFile>> {
            let next = Arc::new(MemoryFile::default());
            *next.room.lock().unwrap() = *self.next_room.lock().unwrap();
            *self.next.lock().unwrap() = Arc::clone(&next);
            Ok(next)
        }

        fn replace(&self) -> io::Result<()> {
            *self.log.lock().unwrap() = self.next.lock().unwrap().clone();
            Ok(())
        }

        fn sync_names(&self) -> io::Result<()> {
            let is_lost = self.loses_names.load(Ordering::SeqCst);
            if is_lost { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl LogFile for MemoryFile {
        fn len_bytes(&self) -> io::Result<u64> {
            Ok(self.bytes.lock().unwrap().len() as u64)
        }

        fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
            let held = self.bytes.lock().unwrap();
            let from = offset as usize;
            let part = held.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            bytes.copy_from_slice(part);
            Ok(())
        }

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let mut held = self.bytes.lock().unwrap();
            let mut room = self.room.lock().unwrap();
            let fits = room.map_or(bytes.len(), |room| room.min(bytes.len()));
            held.truncate(offset as usize);
            // A full disk takes what fits, as a real one does.
            held.extend_from_slice(&bytes[..fits]);
            if let Some(room) = room.as_mut() {
                *room -= fits;
            }
            if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn truncate(&self, len: u64) -> io::Result<()> {
            let mut held = self.bytes.lock().unwrap();
            let freed = held.len().saturating_sub(len as usize);
            held.truncate(len as usize);
            if let Some(room) = self.room.lock().unwrap().as_mut() {
                *room += freed;
            }
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }
}
