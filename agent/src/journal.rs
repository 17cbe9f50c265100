//! The agent's memory: an append-only log of what it took on, did and said.
//!
//! ```text
//!  append(records) ─▶ written, indexed ─▶ sync() on another thread ─▶ synced(n): act
//!                                             (many appends, one fsync)
//! ```
//!
//! The rule is "save, then act": a command is acknowledged to the broker, a
//! workflow begun and a program let go only after the record that says
//! so is on the disk. At boot the log is read from the start; a torn tail is
//! cut off, for nothing was done on its word. What each command needs:
//!
//! | known of a command | kept until |
//! | --- | --- |
//! | message, how far it is, process | it ends |
//! | replies the broker has not acknowledged | it does |
//! | the final reply | [`compact::REMEMBERED_MS`] after, so that it never runs again |
//!
//! An append that fails leaves the log as it was, so a full disk refuses new
//! commands and harms nothing else. This module never waits and never decides.

pub mod compact;
pub(crate) mod frame;
mod index;
pub mod record;
pub mod storage;

use std::{fmt, io, sync::Arc};

use quarterdeck_protocol::{command::Response, ids::CommandId, time::Timestamp};

use crate::{domain::command::Running, failpoint};
use compact::{Compacted, Compaction, REMEMBERED_MAX_COMMANDS};
use frame::HEADER_BYTES;
use index::{Entry, Index};
pub use index::{Kept, Place};
use record::{ProcessMark, Received, Record, Told};
use storage::{LogFile, LogFolder};

/// The log's first bytes: name and version of the format.
const MAGIC: &[u8] = b"QDJRNL\x01\n";
/// The longest log; beyond, commands are refused as on a full disk.
pub const JOURNAL_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The log is compacted when it is longer than this and than twice its length after the last time.
const COMPACT_FROM_BYTES: u64 = 4 * 1024 * 1024;

/// What is to be done with files that another version wrote: one without the other would have
/// a command run twice.
pub(crate) const OTHER_VERSION_HELP: &str = "run that version until its commands have ended, or \
    move `journal` and `board` together out of the data folder: what they knew of is then \
    answered `interrupted`";

/// Says what went wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot {what} {file}")]
    Io { what: &'static str, file: &'static str, source: io::Error },
    #[error("the journal holds all it may: {0}")]
    Full(&'static str),
    #[error("the journal is of another version, or is none; {OTHER_VERSION_HELP}")]
    NotAJournal,
    #[error(
        "the journal's record at {offset} is of another version of the agent; {OTHER_VERSION_HELP}"
    )]
    OtherVersion { offset: u64 },
    #[error("the journal's record at {offset} is damaged")]
    Damaged { offset: u64 },
    #[error("the journal could not be saved before and takes nothing until it is rewritten")]
    Broken,
}

impl JournalError {
    fn io(what: &'static str, file: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, file, source }
    }
}

/// Counts appends; an append is saved once `synced` was called with its number or a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

/// A command that had not ended when the agent went down.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenCommand {
    pub received: Received,
    pub running: Option<Running>,
    pub process: Option<ProcessMark>,
    /// Of its output.
    pub told: Told,
    /// Number of the next reply.
    pub next_n: u32,
}

/// What the log says at boot.
#[derive(Debug, Default)]
pub struct Replay {
    /// In the order they came.
    pub open: Vec<OpenCommand>,
    /// Replies that the broker has not acknowledged, in the order they were saved.
    pub unacked: Vec<(CommandId, Kept)>,
    /// The torn tail that was cut off.
    pub discarded_bytes: u64,
}

/// What the journal knows of a command id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It has not ended; the last reply so far.
    Open(Kept),
    Ended(Kept),
    CancelledBefore,
}

/// The log and what is known of it.
pub struct Journal {
    folder: Arc<dyn LogFolder>,
    file: Arc<dyn LogFile>,
    len: u64,
    appended: Lsn,
    index: Index,
    compacted_len: u64,
    is_compacting: bool,
    is_broken: bool,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("len", &self.len)
            .field("commands", &self.index.entries.len())
            .finish_non_exhaustive()
    }
}

fn to_body(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are plain data")
}

fn read_record(file: &dyn LogFile, place: Place) -> Result<Record, JournalError> {
    let mut body = vec![0; place.body_bytes as usize];
    file.read_exact_at(&mut body, place.offset + HEADER_BYTES)
        .map_err(JournalError::io("read", "journal"))?;
    serde_json::from_slice(&body).map_err(|_| JournalError::Damaged { offset: place.offset })
}

/// A log of records that were made elsewhere.
pub(crate) fn framed<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut log = MAGIC.to_vec();
    for body in bodies {
        frame::encode(body, &mut log);
    }
    log
}

impl Journal {
    /// Opens the log, cuts off a torn tail and says what is unfinished.
    pub fn open(folder: Arc<dyn LogFolder>) -> Result<(Self, Replay), JournalError> {
        let file = folder.open().map_err(JournalError::io("open", "journal"))?;
        let file_len = file.len_bytes().map_err(JournalError::io("measure", "journal"))?;
        let mut journal = Self {
            folder,
            file,
            len: 0,
            appended: Lsn::default(),
            index: Index::default(),
            compacted_len: 0,
            is_compacting: false,
            is_broken: false,
        };
        if !journal.check_magic(file_len)? {
            journal.begin_anew()?;
            return Ok((journal, Replay { discarded_bytes: file_len, ..Replay::default() }));
        }
        journal.scan(file_len)?;
        let discarded_bytes = file_len - journal.len;
        if discarded_bytes > 0 {
            let truncated = journal.file.truncate(journal.len).and_then(|()| journal.file.sync());
            truncated.map_err(JournalError::io("cut the torn tail of", "journal"))?;
        }
        let replay =
            Replay { open: journal.open_commands()?, unacked: journal.unacked(), discarded_bytes };
        Ok((journal, replay))
    }

    /// `false` for a file that crashed before its first bytes were written.
    fn check_magic(&self, file_len: u64) -> Result<bool, JournalError> {
        let mut magic = [0; MAGIC.len()];
        let have = magic.len().min(file_len as usize);
        self.file
            .read_exact_at(&mut magic[..have], 0)
            .map_err(JournalError::io("read", "journal"))?;
        if magic[..have] != MAGIC[..have] {
            return Err(JournalError::NotAJournal);
        }
        Ok(have == MAGIC.len())
    }

    fn begin_anew(&mut self) -> Result<(), JournalError> {
        let written = self.file.truncate(0).and_then(|()| self.file.write_all_at(MAGIC, 0));
        written.and_then(|()| self.file.sync()).map_err(JournalError::io("begin", "journal"))?;
        self.len = MAGIC.len() as u64;
        Ok(())
    }

    fn scan(&mut self, file_len: u64) -> Result<(), JournalError> {
        let mut offset = MAGIC.len() as u64;
        let mut header = [0; HEADER_BYTES as usize];
        let mut body = Vec::new();
        while offset + HEADER_BYTES <= file_len {
            if self.file.read_exact_at(&mut header, offset).is_err() {
                break;
            }
            let header = frame::decode_header(header, frame::BODY_MAX_BYTES);
            let Some((body_len, crc)) = header else { break };
            let end = offset + HEADER_BYTES + body_len as u64;
            if end > file_len {
                break;
            }
            body.resize(body_len, 0);
            if self.file.read_exact_at(&mut body, offset + HEADER_BYTES).is_err()
                || frame::crc32(&body) != crc
            {
                break;
            }
            // Whole but not understood. Passed over, a command that began might begin again.
            let record =
                serde_json::from_slice(&body).map_err(|_| JournalError::OtherVersion { offset })?;
            self.index.note(&record, Place { offset, body_bytes: body_len as u32 });
            offset = end;
        }
        self.len = offset;
        self.compacted_len = offset;
        Ok(())
    }

    fn open_commands(&self) -> Result<Vec<OpenCommand>, JournalError> {
        let mut places: Vec<_> = self
            .index
            .entries
            .values()
            .filter_map(|entry| match entry {
                Entry::Open(open) => Some(open),
                Entry::Ended { .. } | Entry::Cancelled { .. } => None,
            })
            .collect();
        places.sort_unstable_by_key(|open| open.received);
        let mut commands = Vec::with_capacity(places.len());
        for open in places {
            let Record::Received(received) = read_record(&*self.file, open.received)? else {
                return Err(JournalError::Damaged { offset: open.received.offset });
            };
            let (mut running, mut process, mut told) = (None, None, Told::default());
            for place in [open.running, open.process, open.told].into_iter().flatten() {
                match read_record(&*self.file, place)? {
                    Record::Running { running: found, .. } => running = Some(found),
                    Record::Process { process: mark, .. } => process = Some(mark),
                    Record::Told { told: so_far, .. } => told = so_far,
                    _ => return Err(JournalError::Damaged { offset: place.offset }),
                }
            }
            commands.push(OpenCommand {
                received: *received,
                running,
                process,
                told,
                next_n: open.last.n.saturating_add(1),
            });
        }
        Ok(commands)
    }

    fn unacked(&self) -> Vec<(CommandId, Kept)> {
        let mut unacked: Vec<_> = self
            .index
            .entries
            .iter()
            .flat_map(|(id, entry)| {
                let replies: &[Kept] = match entry {
                    Entry::Open(open) => &open.unacked,
                    Entry::Ended { unacked, .. } => unacked,
                    Entry::Cancelled { .. } => &[],
                };
                replies.iter().map(|kept| (*id, *kept))
            })
            .collect();
        unacked.sort_unstable_by_key(|(_, kept)| kept.place);
        unacked
    }

    /// Writes records, all or none; they are saved only once synced.
    pub fn append(&mut self, records: &[Record]) -> Result<(Lsn, Vec<Place>), JournalError> {
        if self.is_broken {
            return Err(JournalError::Broken);
        }
        let mut bytes = Vec::new();
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let body = to_body(record);
            if body.len() > frame::BODY_MAX_BYTES {
                return Err(JournalError::Full("a record is too long"));
            }
            places.push(Place {
                offset: self.len + bytes.len() as u64,
                body_bytes: body.len() as u32,
            });
            frame::encode(&body, &mut bytes);
        }
        let takes_new = records.iter().any(|record| matches!(record, Record::Received(_)));
        if takes_new && self.len + bytes.len() as u64 > JOURNAL_MAX_BYTES {
            return Err(JournalError::Full("it has reached its greatest length"));
        }
        if takes_new && self.index.entries.len() >= REMEMBERED_MAX_COMMANDS {
            return Err(JournalError::Full("it remembers as many commands as it may"));
        }
        let written =
            failpoint::fails("write").and_then(|()| self.file.write_all_at(&bytes, self.len));
        if let Err(source) = written {
            // What was written in part must not stand before the next record.
            self.is_broken = self.file.truncate(self.len).is_err();
            return Err(JournalError::Io { what: "write", file: "journal", source });
        }
        failpoint::reach("written to the journal, not saved");
        self.len += bytes.len() as u64;
        self.appended.0 += 1;
        for (record, place) in records.iter().zip(&places) {
            self.index.note(record, *place);
        }
        Ok((self.appended, places))
    }

    /// The number of the last append, and the file to sync for it.
    pub fn to_sync(&self) -> (Lsn, Arc<dyn LogFile>) {
        (self.appended, Arc::clone(&self.file))
    }

    /// Takes nothing more until it was rewritten: what was written may not be on the disk.
    pub const fn sync_failed(&mut self) {
        self.is_broken = true;
    }

    /// Whether nothing more is taken until a compaction has succeeded.
    pub const fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub fn seen(&self, id: CommandId) -> Option<Seen> {
        self.index.entries.get(&id).map(|entry| match entry {
            Entry::Open(open) => Seen::Open(open.last),
            Entry::Ended { last, .. } => Seen::Ended(*last),
            Entry::Cancelled { .. } => Seen::CancelledBefore,
        })
    }

    /// Where a reply lies, as long as the broker has not acknowledged it.
    pub fn unacked_place(&self, id: CommandId, n: u32) -> Option<Place> {
        self.unacked_of(id).iter().find(|kept| kept.n == n).map(|kept| kept.place)
    }

    /// Whether the broker has not acknowledged all replies of a command.
    pub fn has_unacked(&self, id: CommandId) -> bool {
        !self.unacked_of(id).is_empty()
    }

    fn unacked_of(&self, id: CommandId) -> &[Kept] {
        match self.index.entries.get(&id) {
            Some(Entry::Open(open)) => &open.unacked,
            Some(Entry::Ended { unacked, .. }) => unacked,
            Some(Entry::Cancelled { .. }) | None => &[],
        }
    }

    /// Reads a reply back from the disk.
    pub fn read_reply(&self, place: Place) -> Result<Response, JournalError> {
        match read_record(&*self.file, place)? {
            Record::Received(received) => Ok(received.accepted()),
            Record::Reply { response, .. } => Ok(*response),
            _ => Err(JournalError::Damaged { offset: place.offset }),
        }
    }

    /// Says what to rewrite, if it is worth it or nothing else helps; then [`Compaction::run`].
    pub fn begin_compaction(&mut self, wall: Timestamp) -> Option<Compaction> {
        let is_long = self.len > COMPACT_FROM_BYTES.max(self.compacted_len.saturating_mul(2));
        let is_crowded = self.index.entries.len() >= REMEMBERED_MAX_COMMANDS;
        if self.is_compacting || !(is_long || is_crowded || self.is_broken) {
            return None;
        }
        self.is_compacting = true;
        Some(Compaction {
            from: Arc::clone(&self.file),
            folder: Arc::clone(&self.folder),
            items: compact::choose(&mut self.index, wall),
            until: self.len,
            header: MAGIC,
        })
    }

    /// Puts the rewritten log in place; on an error the old one stays in use, or the new one
    /// takes nothing until it was rewritten once more.
    pub fn finish_compaction(
        &mut self,
        compacted: Result<Compacted, JournalError>,
    ) -> Result<(), JournalError> {
        self.is_compacting = false;
        // Not again at once: a disk too full to compact would be busy with nothing else.
        self.compacted_len = self.len;
        let compacted = compacted?;
        let end = compact::copy_tail(&*self.file, &compacted, self.len)
            .map_err(JournalError::io("write", "journal.next"))?;
        self.folder.replace().map_err(JournalError::io("replace", "journal"))?;
        let (until, begin) = (compacted.until, compacted.len);
        self.index.relocate(|place| {
            if place.offset >= until {
                Place { offset: place.offset - until + begin, ..place }
            } else {
                // Dropped records are in no entry; were one, reading it would say `Damaged`.
                compacted.moved.get(&place.offset).copied().unwrap_or(place)
            }
        });
        self.file = compacted.file;
        self.len = end;
        self.compacted_len = end;
        // From here on the new file is the log: what is written to the old one nobody will find.
        // But which of them a power cut leaves is only known now.
        let saved = self.folder.sync_names();
        self.is_broken = saved.is_err();
        saved.map_err(JournalError::io("save the name of", "journal"))
    }
}

#[cfg(test)]
#[path = "journal/journal_tests.rs"]
mod tests;
