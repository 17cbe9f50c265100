//! Reads logs: from an offset on, or all of it, checked.

use std::{
    fs::File,
    io::{self, BufReader},
};

use aws_lc_rs::{aead::NONCE_LEN, digest};

use super::{
    Header, LogError, Place,
    chunk::{self, Entry, Opened, SEALED_MAX_BYTES},
};
use quarterdeck_protocol::tunnel::Content;

const MAGIC: &[u8; 8] = b"QDLOG 1\n";
/// What stands before a segment's first chunk.
pub(super) const HEAD_BYTES: usize = MAGIC.len() + 8;

pub(super) fn head(first_chunk: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..].copy_from_slice(&first_chunk.to_be_bytes());
    head
}

/// The chunks of one segment.
#[derive(Debug)]
struct Segment<'a> {
    place: &'a Place,
    file: BufReader<File>,
    first_chunk: u64,
    next_chunk: u64,
    /// What was read as whole chunks, the head included.
    whole_bytes: u64,
}

/// What stands where a chunk is looked for.
enum Next {
    Chunk(Opened),
    /// Nothing more.
    End,
    /// The beginning of a chunk, and then the file's end.
    Torn,
    /// Something that is no chunk, or not this one.
    Broken,
}

impl<'a> Segment<'a> {
    /// `None`: it has no whole head.
    fn open(place: &'a Place, number: u64) -> io::Result<Option<Self>> {
        let mut file = BufReader::new(File::open(place.file(number))?);
        let mut head = [0; HEAD_BYTES];
        if !read_whole(&mut file, &mut head)? || head[..8] != *MAGIC {
            return Ok(None);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&head[8..]);
        let first_chunk = u64::from_be_bytes(first);
        let whole_bytes = HEAD_BYTES as u64;
        Ok(Some(Self { place, file, first_chunk, next_chunk: first_chunk, whole_bytes }))
    }

    fn next(&mut self) -> io::Result<Next> {
        let mut head = [0; chunk::HEAD_BYTES];
        let count = read_some(&mut self.file, &mut head)?;
        if count < head.len() {
            return Ok(if count == 0 { Next::End } else { Next::Torn });
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > SEALED_MAX_BYTES {
            return Ok(Next::Broken);
        }
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&head[5..]);
        let mut sealed = vec![0; length];
        if !read_whole(&mut self.file, &mut sealed)? {
            return Ok(Next::Torn);
        }
        match self.place.key.open(self.next_chunk, head[4], nonce, sealed) {
            None => Ok(Next::Broken),
            Some(opened) => {
                self.next_chunk += 1;
                self.whole_bytes += (chunk::HEAD_BYTES + length) as u64;
                Ok(Next::Chunk(opened))
            }
        }
    }
}

/// What one segment holds.
#[derive(Debug)]
pub(super) struct Survey {
    pub first_chunk: u64,
    pub next_chunk: u64,
    pub offset: u64,
    pub end: u64,
    pub whole_bytes: u64,
    pub has_end: bool,
    pub header: Option<Header>,
    /// Nothing but a file that ends too early keeps the next chunk away.
    pub ends_early: bool,
}

/// Reads a segment to the last whole chunk; `None` when it has none.
pub(super) fn survey(place: &Place, number: u64) -> io::Result<Option<Survey>> {
    let Some(mut segment) = Segment::open(place, number)? else { return Ok(None) };
    let mut found: Option<Survey> = None;
    let stopped = loop {
        let opened = match segment.next()? {
            Next::Chunk(opened) => opened,
            stopped => break stopped,
        };
        let survey = found.get_or_insert(Survey {
            first_chunk: segment.first_chunk,
            next_chunk: 0,
            offset: opened.offset,
            end: 0,
            whole_bytes: 0,
            has_end: false,
            header: None,
            ends_early: false,
        });
        survey.next_chunk = segment.next_chunk;
        survey.end = opened.offset + opened.entries.iter().map(Entry::span).sum::<u64>();
        survey.whole_bytes = segment.whole_bytes;
        survey.has_end = opened.is_last;
        if let Some(Entry::Header(header)) = opened.entries.first() {
            survey.header = Some(header.clone());
        }
    };
    if let Some(found) = &mut found {
        found.ends_early = matches!(stopped, Next::End | Next::Torn);
    }
    Ok(found)
}

/// Goes through a log, chunk by chunk, from where it begins or from an offset on.
#[derive(Debug)]
pub(crate) struct Chunks<'a> {
    place: &'a Place,
    segments: std::vec::IntoIter<u64>,
    current: Option<Segment<'a>>,
    expected: Option<u64>,
    from: u64,
    has_end: bool,
}

impl<'a> Chunks<'a> {
    /// All that is kept.
    pub(crate) fn all(place: &'a Place) -> Result<Self, LogError> {
        Self::from(place, 0)
    }

    /// All of a recording: its beginning is never given up, so the first chunk is to be there.
    pub(crate) fn recording(place: &'a Place) -> Result<Self, LogError> {
        Ok(Self { expected: Some(0), ..Self::all(place)? })
    }

    /// From the chunk on that has the byte of output at `offset`.
    pub(crate) fn from(place: &'a Place, offset: u64) -> Result<Self, LogError> {
        let mut numbers = place.segments()?;
        // The last segment that begins at or before it, by what its first chunk says.
        let mut skip = 0;
        for (index, number) in numbers.iter().enumerate().skip(1) {
            if offset == 0 {
                break;
            }
            let Some(mut segment) = Segment::open(place, *number)? else { break };
            match segment.next()? {
                Next::Chunk(opened) if opened.offset <= offset => skip = index,
                _ => break,
            }
        }
        numbers.drain(..skip);
        Ok(Self {
            place,
            segments: numbers.into_iter(),
            current: None,
            expected: None,
            from: offset,
            has_end: false,
        })
    }

    /// Says that the session's end must have come by now.
    pub(crate) const fn must_have_ended(&self) -> Result<(), LogError> {
        if self.has_end {
            return Ok(());
        }
        Err(LogError::Cut {
            chunk: match self.expected {
                Some(chunk) => chunk,
                None => 0,
            },
        })
    }

    /// The next chunk; an error for one that is not as it was written.
    pub(crate) fn next(&mut self) -> Result<Option<Opened>, LogError> {
        loop {
            let Some(segment) = &mut self.current else {
                let Some(number) = self.segments.next() else { return Ok(None) };
                let opened = Segment::open(self.place, number)?;
                let Some(segment) = opened else {
                    let chunk = self.expected.unwrap_or(0);
                    return Err(LogError::Broken { chunk });
                };
                if self.expected.is_some_and(|expected| expected != segment.first_chunk) {
                    return Err(LogError::Broken { chunk: self.expected.unwrap_or(0) });
                }
                self.current = Some(segment);
                continue;
            };
            match segment.next()? {
                Next::Chunk(opened) => {
                    self.expected = Some(segment.next_chunk);
                    self.has_end |= opened.is_last;
                    let end = opened.offset + opened.entries.iter().map(Entry::span).sum::<u64>();
                    if end <= self.from && self.from > 0 && !opened.is_last {
                        continue;
                    }
                    return Ok(Some(opened));
                }
                Next::End => self.current = None,
                Next::Torn if self.segments.len() == 0 => {
                    return Err(LogError::Cut { chunk: segment.next_chunk });
                }
                Next::Torn | Next::Broken => {
                    return Err(LogError::Broken { chunk: segment.next_chunk });
                }
            }
        }
    }
}

/// What a check of a whole log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Check {
    pub chunks: u64,
    pub bytes: u64,
    pub sha256: String,
    pub problem: Option<String>,
}

impl Place {
    /// Goes through all of a recording.
    pub(crate) fn check(&self, is_over: bool) -> Result<Check, LogError> {
        let mut chunks = Chunks::recording(self)?;
        let mut hash = digest::Context::new(&digest::SHA256);
        let (mut count, mut bytes, mut expected) = (0, 0, None);
        let problem = loop {
            match chunks.next() {
                Ok(Some(opened)) => {
                    if expected.is_some_and(|expected| expected != opened.offset) {
                        break Some(format!("chunk {count} does not follow the one before"));
                    }
                    count += 1;
                    let mut end = opened.offset;
                    for entry in &opened.entries {
                        end += entry.span();
                        if let Entry::Shown(Content::Bytes(shown)) = entry {
                            hash.update(shown);
                            bytes += shown.len() as u64;
                        }
                    }
                    expected = Some(end);
                }
                Ok(None) if is_over => {
                    break chunks.must_have_ended().err().map(|cut| cut.to_string());
                }
                Ok(None) => break None,
                Err(error @ LogError::Io(_)) => return Err(error),
                Err(error) => break Some(error.to_string()),
            }
        };
        let sha256 = crate::hex::encode(hash.finish().as_ref());
        Ok(Check { chunks: count, bytes, sha256, problem })
    }
}

/// Reads as much as there is, up to the buffer's length.
fn read_some(file: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn read_whole(file: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<bool> {
    Ok(read_some(file, buffer)? == buffer.len())
}
