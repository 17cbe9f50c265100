//! Which tunnels had a program started for them, kept through a crash.
//!
//! The server asks for a tunnel until it is answered, and the answer may be lost
//! with this agent. So a tunnel's id is on the disk before its program starts, and
//! an agent that finds it there from before its own start says that the tunnel is
//! over: nothing starts twice.
//!
//! ```text
//!  slot 0            slot 1                       slot 255
//!  [number][id]      [number][id]       …         [number][id]      24 bytes each
//! ```
//!
//! The file has its full size from the start and is written in place, round and
//! round: a full disk stops no shell with which it could be emptied. A slot that a
//! power cut tore is of a program that did not start. A server asks for seconds;
//! 256 programs later nobody asks for the first any more.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use quarterdeck_protocol::ids::TunnelId;
use uuid::Uuid;

/// Programs that are remembered.
const SLOTS: u64 = 256;
/// A number that rises, and an id.
const SLOT_BYTES: u64 = 8 + 16;

/// The file, and what it held when this agent began.
#[derive(Debug)]
pub struct Started {
    before: HashSet<TunnelId>,
    ring: Arc<Mutex<Ring>>,
}

#[derive(Debug)]
struct Ring {
    file: File,
    /// The number of the next slot to be written; 0 is that of an empty one.
    next: u64,
}

impl Started {
    /// Reads the file, or makes it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = vec![0; (SLOTS * SLOT_BYTES) as usize];
        if file.metadata()?.len() == bytes.len() as u64 {
            file.read_exact_at(&mut bytes, 0)?;
        } else {
            // New, or cut off while it was: written out, so that it needs no space later.
            file.write_all_at(&bytes, 0)?;
            file.set_len(bytes.len() as u64)?;
            file.sync_all()?;
        }
        let mut last = 0;
        let mut before = HashSet::new();
        for slot in bytes.chunks_exact(SLOT_BYTES as usize) {
            let Some((number, id)) = slot.split_first_chunk::<8>() else { continue };
            let (number, Ok(id)) = (u64::from_le_bytes(*number), Uuid::from_slice(id)) else {
                continue;
            };
            if number > 0 {
                last = last.max(number);
                before.insert(TunnelId(id));
            }
        }
        let ring = Ring { file, next: last.saturating_add(1) };
        Ok(Self { before, ring: Arc::new(Mutex::new(ring)) })
    }

    /// Whether an agent before this one started a program for it.
    pub fn was_before(&self, id: TunnelId) -> bool {
        self.before.contains(&id)
    }

    /// Notes that a program is about to start; it may once this has returned.
    pub async fn note(&self, id: TunnelId) -> io::Result<()> {
        let ring = Arc::clone(&self.ring);
        let noting = tokio::task::spawn_blocking(move || {
            ring.lock().unwrap_or_else(PoisonError::into_inner).note(id)
        });
        noting.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl Ring {
    fn note(&mut self, id: TunnelId) -> io::Result<()> {
        let mut slot = [0; SLOT_BYTES as usize];
        slot[..8].copy_from_slice(&self.next.to_le_bytes());
        slot[8..].copy_from_slice(id.0.as_bytes());
        self.file.write_all_at(&slot, (self.next % SLOTS) * SLOT_BYTES)?;
        self.file.sync_data()?;
        self.next = self.next.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> TunnelId {
        TunnelId(Uuid::from_u128(n))
    }

    #[tokio::test]
    async fn the_newest_are_known_to_the_agents_that_follow() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("started");
        let first = Started::open(&path).expect("made");
        first.note(id(1)).await.expect("noted");
        assert!(!first.was_before(id(1)), "it is its own");
        // Two crashes in a row.
        let second = Started::open(&path).expect("read");
        second.note(id(2)).await.expect("noted");
        let third = Started::open(&path).expect("read");
        assert!(third.was_before(id(1)) && third.was_before(id(2)) && !third.was_before(id(3)));
        let size = std::fs::metadata(&path).expect("there").len();
        for n in 10..10 + u128::from(SLOTS) {
            third.note(id(n)).await.expect("noted");
        }
        let last = Started::open(&path).expect("read");
        assert!(!last.was_before(id(2)) && last.was_before(id(10)) && last.was_before(id(265)));
        assert_eq!(std::fs::metadata(&path).expect("there").len(), size);
    }

    #[test]
    fn a_file_that_was_cut_off_while_it_was_made_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("started");
        std::fs::write(&path, [1; 100]).expect("written");
        let started = Started::open(&path).expect("made");
        assert!(started.before.is_empty());
    }
}
