//! What a terminal showed, on disk: the session's log, which is its recording too.
//!
//! ```text
//!  FOLDER/000000.qdl  000001.qdl  …        segments of about 1 MiB
//!     "QDLOG 1\n"  number of the first chunk (8)
//!     chunk: length (4)  flags (1)  nonce (12)  sealed content and tag
//! ```
//!
//! Each chunk is sealed with AES-256-GCM under a key of the session; what is
//! authenticated with it: the session, the number of the chunk and whether it is
//! the last. So a chunk that was changed, moved, left out or added is found, and
//! a log without its last chunk is known to be cut. All numbers are big-endian.
//!
//! A crash may leave a piece of a chunk behind the last whole one: [`Log::open`]
//! takes it off, and the device, to which it was not acknowledged, sends it again.
//! The disk is told to keep what was written behind the writer's back ([`Unsynced`]),
//! so a power cut may also leave a later segment behind one that ends early: what
//! stands behind such a hole is taken off, too.
//!
//! Calls block: they belong on a thread that may.

mod chunk;
mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use quarterdeck_protocol::{ids::TunnelId, tunnel::mark::Size};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    chunk::{Entry, SessionKey},
    read::{Check, Chunks},
};
use crate::clock::Clock;

/// A segment is closed when it has as much, in bytes.
const SEGMENT_BYTES: u64 = 1024 * 1024;

/// What is known when a session begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// In milliseconds since the Unix epoch, and on the steady clock.
    pub started_at: i64,
    pub started_ms: i64,
    pub size: Size,
    pub term: String,
    pub argv: Vec<String>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cap {
    /// The oldest goes first.
    Newest { bytes: u64 },
    /// More cannot be written.
    All { bytes: u64 },
}

/// Says why a log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it has reached its {bytes} bytes")]
    Full { bytes: u64 },
    #[error("chunk {chunk} is not as it was written")]
    Broken { chunk: u64 },
    /// Nothing but the end is missing: what is there is as it was written.
    #[error("its end is missing: it was cut before chunk {chunk} was whole")]
    Cut { chunk: u64 },
    #[error("it has no beginning")]
    Empty,
}

impl LogError {
    /// Whether the disk has no room.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::StorageFull
            || error.kind() == io::ErrorKind::QuotaExceeded)
    }
}

/// Where a log lies, and what opens it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
    key: SessionKey,
}

impl Place {
    pub(crate) fn new(root: &Path, master: &[u8; 32], id: TunnelId) -> Self {
        Self { folder: root.join(id.to_string()), key: SessionKey::of(master, id) }
    }

    /// Deletes the log; one that is gone is deleted.
    pub(crate) fn delete(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn file(&self, segment: u64) -> PathBuf {
        self.folder.join(format!("{segment:06}.qdl"))
    }

    /// The numbers of the segments that are there, rising.
    fn segments(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            found.extend(
                name.to_str().and_then(|name| name.strip_suffix(".qdl")?.parse::<u64>().ok()),
            );
        }
        found.sort_unstable();
        Ok(found)
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    number: u64,
    first_chunk: u64,
    /// Of the output that its first chunk has.
    offset: u64,
    bytes: u64,
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    place: Place,
    clock: Clock,
    header: Header,
    cap: Cap,
    segments: VecDeque<Segment>,
    file: Arc<File>,
    next_chunk: u64,
    /// How far it has the output.
    end: u64,
    has_end: bool,
    /// Segments that are full and perhaps not on the disk yet.
    left: Vec<Arc<File>>,
    unsynced_bytes: u64,
}

/// What was written and is perhaps not on the disk: files, in the order in which
/// they were written.
#[derive(Debug)]
pub(crate) struct Unsynced(Vec<Arc<File>>);

impl Unsynced {
    /// Waits until all of it is on the disk.
    pub(crate) fn sync(self) -> Result<(), LogError> {
        for file in self.0 {
            file.sync_data()?;
        }
        Ok(())
    }
}

impl Log {
    /// Begins a log.
    pub(crate) fn create(
        place: Place,
        clock: Clock,
        cap: Cap,
        header: Header,
    ) -> Result<Self, LogError> {
        fs::create_dir_all(&place.folder)?;
        let bytes = read::HEAD_BYTES as u64;
        let segment = Segment { number: 0, first_chunk: 0, offset: 0, bytes };
        let file = Arc::new(new_file(&place, &segment)?);
        let mut log = Self {
            place,
            clock,
            header: header.clone(),
            cap,
            segments: [segment].into(),
            file,
            next_chunk: 0,
            end: 0,
            has_end: false,
            left: Vec::new(),
            unsynced_bytes: 0,
        };
        log.append(&[Entry::Header(header)])?;
        Ok(log)
    }

    /// Takes a log up again, without what a crash left half written behind it.
    pub(crate) fn open(place: Place, clock: Clock, cap: Cap) -> Result<Self, LogError> {
        let mut segments: VecDeque<Segment> = VecDeque::new();
        let (mut next_chunk, mut end, mut has_end) = (0, 0, false);
        let mut header = None;
        let mut ends_early = false;
        let mut last_number = None;
        let mut behind_hole = Vec::new();
        for number in place.segments()? {
            let follows = last_number.replace(number).is_none_or(|last| last + 1 == number);
            if !behind_hole.is_empty() {
                behind_hole.push(number);
                continue;
            }
            // A crash may have come between a segment's beginning and its first chunk.
            let Some(found) = read::survey(&place, number)? else {
                ends_early = true;
                continue;
            };
            if !segments.is_empty() && found.first_chunk != next_chunk {
                if !(ends_early && follows && found.first_chunk > next_chunk) {
                    return Err(LogError::Broken { chunk: next_chunk });
                }
                behind_hole.push(number);
                continue;
            }
            segments.push_back(Segment {
                number,
                first_chunk: found.first_chunk,
                offset: found.offset,
                bytes: found.whole_bytes,
            });
            ends_early = found.ends_early;
            header = header.or(found.header);
            (next_chunk, end, has_end) = (found.next_chunk, found.end, found.has_end);
        }
        let last = segments.back().ok_or(LogError::Empty)?;
        // The last first: whatever interrupts this, no hole is left in the middle.
        for number in behind_hole.into_iter().rev() {
            tracing::warn!(number, "a segment behind a hole in a session's log is taken off");
            fs::remove_file(place.file(number))?;
        }
        let file = OpenOptions::new().append(true).open(place.file(last.number))?;
        file.set_len(last.bytes)?;
        // The beginning may have gone already: what it said is said again in each segment.
        let header = header.ok_or(LogError::Empty)?;
        Ok(Self {
            place,
            clock,
            header,
            cap,
            segments,
            file: Arc::new(file),
            next_chunk,
            end,
            has_end,
            left: Vec::new(),
            unsynced_bytes: 0,
        })
    }

    /// How far it has the output, and from where on.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn first(&self) -> u64 {
        self.segments.front().map_or(self.end, |segment| segment.offset)
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    /// Writes one chunk. After an error nothing more may be written but the end.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        self.write(entries, false)
    }

    /// Writes the end, and waits until all of it is on the disk.
    pub(crate) fn finish(&mut self) -> Result<(), LogError> {
        if !self.has_end {
            self.write(&[], true)?;
            self.has_end = true;
        }
        self.sync()
    }

    /// How much was written since it was last asked to be kept, in bytes.
    pub(crate) const fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes
    }

    /// What is to be synced, if something is; from now on it counts as being synced.
    pub(crate) fn take_unsynced(&mut self) -> Option<Unsynced> {
        if std::mem::take(&mut self.unsynced_bytes) == 0 {
            return None;
        }
        let mut files = std::mem::take(&mut self.left);
        files.push(Arc::clone(&self.file));
        Some(Unsynced(files))
    }

    /// Waits until what was written is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        self.take_unsynced().map_or(Ok(()), Unsynced::sync)
    }

    fn write(&mut self, entries: &[Entry], is_last: bool) -> Result<(), LogError> {
        self.make_room(is_last)?;
        let chunk = self.place.key.seal(
            self.next_chunk,
            is_last,
            self.end,
            self.clock.steady(),
            entries,
            self.clock.random(),
        );
        let Some(segment) = self.segments.back_mut() else { return Err(LogError::Empty) };
        if let Err(error) = (&*self.file).write_all(&chunk) {
            // A piece of a chunk would hide what comes behind it.
            self.file.set_len(segment.bytes)?;
            return Err(error.into());
        }
        segment.bytes += chunk.len() as u64;
        self.next_chunk += 1;
        self.end += entries.iter().map(Entry::span).sum::<u64>();
        self.unsynced_bytes += chunk.len() as u64;
        Ok(())
    }

    fn make_room(&mut self, is_last: bool) -> Result<(), LogError> {
        let kept: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        match self.cap {
            Cap::All { bytes } if kept >= bytes && !is_last => {
                return Err(LogError::Full { bytes });
            }
            Cap::Newest { bytes } if kept >= bytes && self.segments.len() > 1 => {
                if let Some(oldest) = self.segments.pop_front() {
                    fs::remove_file(self.place.file(oldest.number))?;
                }
            }
            _ => {}
        }
        let Some(current) = self.segments.back() else { return Err(LogError::Empty) };
        if current.bytes < SEGMENT_BYTES {
            return Ok(());
        }
        let next = Segment {
            number: current.number + 1,
            first_chunk: self.next_chunk,
            offset: self.end,
            bytes: read::HEAD_BYTES as u64,
        };
        let file = Arc::new(new_file(&self.place, &next)?);
        self.left.push(std::mem::replace(&mut self.file, file));
        self.segments.push_back(next);
        let header = Entry::Header(self.header.clone());
        self.write(&[header], false)
    }
}

/// Makes a segment's file, which nobody but the owner may read.
fn new_file(place: &Place, segment: &Segment) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(place.file(segment.number))?;
    file.write_all(&read::head(segment.first_chunk))?;
    Ok(file)
}
