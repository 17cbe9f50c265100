//! The agent's journal after any damage: it opens, or says why not; what it cut off stays cut off.
//!
//! The first line says how the rest becomes a file:
//!
//! | first line | file |
//! | --- | --- |
//! | `raw` | the rest as it is |
//! | `N B`, numbers | a frame for each line, the end cut by `N` bytes, bit `B` turned |

use std::{
    io,
    sync::{Arc, Mutex},
};

use quarterdeck_agent::{
    fuzz::journal_of,
    journal::{
        Journal,
        record::Record,
        storage::{LogFile, LogFolder},
    },
};
use quarterdeck_protocol::{ids::CommandId, time::Timestamp};

pub(super) fn run(input: &[u8]) {
    let Some((how, rest)) = super::chosen(input) else { return };
    let bytes = if how == "raw" { rest.to_vec() } else { damaged(how, rest) };
    let memory = Arc::new(Memory(Mutex::new(bytes)));
    let folder: Arc<dyn LogFolder> = Arc::new(Folder(Arc::clone(&memory)));
    let Ok((mut journal, replay)) = Journal::open(Arc::clone(&folder)) else { return };
    for (_, kept) in &replay.unacked {
        journal.read_reply(kept.place).expect("a reply that it says it has");
    }

    // It goes on: what is written now is there the next time, and so is what was there before.
    let id: CommandId = "ffffffff-ffff-7fff-bfff-ffffffffffff".parse().expect("a constant id");
    let was_known = journal.seen(id).is_some();
    let record = Record::Cancelled { id, wall: Timestamp::from_millis(0) };
    journal.append(&[record]).expect("a disk with room");
    let (again, second) = Journal::open(folder).expect("what it wrote itself");
    assert_eq!(second.discarded_bytes, 0, "the torn tail was cut off the first time");
    assert_eq!(second.open, replay.open);
    assert_eq!(second.unacked, replay.unacked);
    assert!(was_known || again.seen(id).is_some());
}

fn damaged(how: &str, rest: &[u8]) -> Vec<u8> {
    let mut file = journal_of(rest.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()));
    let mut numbers = how.split(' ').map(|word| word.parse::<usize>().unwrap_or(0));
    let (cut, bit) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    file.truncate(file.len().saturating_sub(cut));
    if let Some(byte) = file.get_mut(bit / 8).filter(|_| bit > 0) {
        *byte ^= 1 << (bit % 8);
    }
    file
}

/// A file in memory.
#[derive(Debug)]
struct Memory(Mutex<Vec<u8>>);

#[derive(Debug)]
struct Folder(Arc<Memory>);

impl LogFolder for Folder {
    fn open(&self) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::<Memory>::clone(&self.0))
    }

    fn create_next(&self) -> io::Result<Arc<dyn LogFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn replace(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Memory {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("no holder panics")
    }
}

impl LogFile for Memory {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let held = self.bytes();
        let from = offset as usize;
        let part = held.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(part);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut held = self.bytes();
        held.truncate(offset as usize);
        held.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.bytes().truncate(len as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
