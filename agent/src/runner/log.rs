//! The file that holds the commands on the board, and the definitions they run.
//!
//! An append-only log of frames, as the journal's: one write and one sync save
//! whatever many commands became, which files of their own could not share.
//!
//! | record | says |
//! | --- | --- |
//! | version | a definition; written before the first command that runs it |
//! | command | what a command has become; the last of each topic counts |
//! | clearing | a sub-operation is off the board, and its topic is to be cleared |
//! | forgotten | a command is off the board, or its topic is cleared |
//! | announced | the topics on which operations were announced |
//!
//! A torn tail is cut off: nothing was done on its word. When most of the file
//! is out of date it is rewritten with what counts, so a definition that no
//! command runs any more is gone.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    handlers::Since,
    version::{Source, Version},
};
use crate::{
    journal::{
        OTHER_VERSION_HELP,
        frame::{self, HEADER_BYTES},
        storage::{LogFile, LogFolder},
    },
    workflow::{command::Command, message::PAYLOAD_MAX_BYTES, topic::CommandTopic},
};

/// The log's name in the data folder.
pub const LOG: &str = "board";
/// The log's first bytes: name and version of the format.
const MAGIC: &[u8] = b"QDFLOW\x01\n";
/// The longest record; what a record may hold is bounded far below it.
const BODY_MAX_BYTES: usize = 16 * PAYLOAD_MAX_BYTES;
/// The log is rewritten when it is longer than this and than twice what counts in it.
const REWRITE_FROM_BYTES: u64 = 1024 * 1024;

/// Says why something is not saved.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {what} the board's log")]
    Io { what: &'static str, source: io::Error },
    #[error("the board's log is of another version, or is none; {OTHER_VERSION_HELP}")]
    NotALog,
    #[error(
        "the record at {offset} of the board's log is of another version of the agent; \
         {OTHER_VERSION_HELP}"
    )]
    OtherVersion { offset: u64 },
    #[error("a record of the board's log at {offset} is damaged")]
    Damaged { offset: u64 },
    #[error("a command takes more than {BODY_MAX_BYTES} bytes")]
    TooLong,
}

impl LogError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// A command as it is saved.
#[derive(Debug, Clone)]
pub struct Saved {
    pub version: Arc<Version>,
    /// The boot whose clock its due time is on.
    pub boot_id: Arc<str>,
    /// When it entered its state.
    pub since: Since,
    /// What may stand on its topic and is our own word: see [`super::own`].
    pub own: Vec<u64>,
    /// The message that it began with.
    pub init: Option<u64>,
    pub command: Command,
}

/// What is to be saved.
#[derive(Debug, Clone)]
pub enum Item {
    Command(Box<Saved>),
    Clearing(CommandTopic),
    Forgotten(CommandTopic),
    Announced(Vec<String>),
}

/// What the log says at the start.
#[derive(Debug, Default)]
pub struct Replay {
    pub commands: Vec<Kept>,
    /// Topics that are to be cleared.
    pub clearing: Vec<CommandTopic>,
    pub announced: Vec<String>,
    /// The torn tail that was cut off.
    pub discarded_bytes: u64,
}

/// A command that was found in the log.
#[derive(Debug)]
pub struct Kept {
    pub source: Source,
    pub boot_id: Arc<str>,
    pub since: Since,
    pub own: Vec<u64>,
    pub init: Option<u64>,
    pub command: Command,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Version {
        id: Arc<str>,
        source: Source,
    },
    Command {
        version: Arc<str>,
        boot_id: Arc<str>,
        since: Since,
        own: Vec<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        init: Option<u64>,
        command: Command,
    },
    Clearing(CommandTopic),
    Forgotten(CommandTopic),
    Announced(Vec<String>),
}

/// Where a frame begins, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    offset: u64,
    bytes: u64,
}

/// Which frames count.
#[derive(Debug, Default)]
struct Index {
    versions: HashMap<Arc<str>, Place>,
    commands: HashMap<CommandTopic, (Arc<str>, Place)>,
    clearing: HashMap<CommandTopic, Place>,
    announced: Option<Place>,
    live_bytes: u64,
}

impl Index {
    fn note(&mut self, record: &Record, place: Place) {
        let replaced = match record {
            Record::Version { id, .. } => self.versions.insert(id.clone(), place),
            Record::Command { version, command, .. } => {
                self.forget(&command.topic);
                self.commands.insert(command.topic.clone(), (version.clone(), place));
                None
            }
            Record::Clearing(topic) => {
                self.forget(topic);
                self.clearing.insert(topic.clone(), place)
            }
            Record::Forgotten(topic) => return self.forget(topic),
            Record::Announced(_) => self.announced.replace(place),
        };
        self.live_bytes += place.bytes;
        self.live_bytes -= replaced.map_or(0, |place| place.bytes);
    }

    fn forget(&mut self, topic: &CommandTopic) {
        let command = self.commands.remove(topic).map(|(_, place)| place);
        let places = [command, self.clearing.remove(topic)].into_iter().flatten();
        self.live_bytes -= places.map(|place| place.bytes).sum::<u64>();
    }

    /// Lists what counts: each definition before the commands that run it.
    fn live(&self) -> Vec<Place> {
        let used: HashSet<&Arc<str>> = self.commands.values().map(|(version, _)| version).collect();
        let versions = self.versions.iter().filter(|(id, _)| used.contains(id));
        let versions = versions.map(|(_, place)| *place);
        let commands = self.commands.values().map(|(_, place)| *place);
        let clearing = self.clearing.values().copied();
        versions.chain(commands).chain(clearing).chain(self.announced).collect()
    }
}

/// The log, open.
#[derive(Debug)]
pub struct Log {
    folder: Arc<dyn LogFolder>,
    file: Arc<dyn LogFile>,
    len: u64,
    index: Index,
    /// What was written may not be on the disk, or stands behind what is not.
    is_broken: bool,
}

impl Log {
    /// Opens the log, cuts off a torn tail, and says what it holds.
    pub fn open(folder: Arc<dyn LogFolder>) -> Result<(Self, Replay), LogError> {
        let file = folder.open().map_err(LogError::io("open"))?;
        let file_len = file.len_bytes().map_err(LogError::io("measure"))?;
        let mut log = Self { folder, file, len: 0, index: Index::default(), is_broken: false };
        let mut magic = [0; MAGIC.len()];
        let have = magic.len().min(file_len as usize);
        log.file.read_exact_at(&mut magic[..have], 0).map_err(LogError::io("read"))?;
        if magic[..have] != MAGIC[..have] {
            return Err(LogError::NotALog);
        }
        if have < MAGIC.len() {
            let begun = log.file.truncate(0).and_then(|()| log.file.write_all_at(MAGIC, 0));
            begun.and_then(|()| log.file.sync()).map_err(LogError::io("begin"))?;
            log.len = MAGIC.len() as u64;
            return Ok((log, Replay { discarded_bytes: file_len, ..Replay::default() }));
        }
        log.scan(file_len)?;
        let discarded_bytes = file_len - log.len;
        if discarded_bytes > 0 {
            let cut = log.file.truncate(log.len).and_then(|()| log.file.sync());
            cut.map_err(LogError::io("cut the torn tail of"))?;
        }
        let replay = Replay { discarded_bytes, ..log.replay()? };
        Ok((log, replay))
    }

    fn scan(&mut self, file_len: u64) -> Result<(), LogError> {
        let mut offset = MAGIC.len() as u64;
        let mut header = [0; HEADER_BYTES as usize];
        let mut body = Vec::new();
        while offset + HEADER_BYTES <= file_len {
            if self.file.read_exact_at(&mut header, offset).is_err() {
                break;
            }
            let Some((body_len, crc)) = frame::decode_header(header, BODY_MAX_BYTES) else { break };
            let bytes = HEADER_BYTES + body_len as u64;
            if offset + bytes > file_len {
                break;
            }
            body.resize(body_len, 0);
            if self.file.read_exact_at(&mut body, offset + HEADER_BYTES).is_err()
                || frame::crc32(&body) != crc
            {
                break;
            }
            // Whole but not understood. Passed over, a command would be where it was before.
            let record =
                serde_json::from_slice(&body).map_err(|_| LogError::OtherVersion { offset })?;
            self.index.note(&record, Place { offset, bytes });
            offset += bytes;
        }
        self.len = offset;
        Ok(())
    }

    fn read(&self, place: Place) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; place.bytes as usize];
        self.file.read_exact_at(&mut bytes, place.offset).map_err(LogError::io("read"))?;
        Ok(bytes)
    }

    fn record(&self, place: Place) -> Result<Record, LogError> {
        let bytes = self.read(place)?;
        serde_json::from_slice(&bytes[HEADER_BYTES as usize..])
            .map_err(|_| LogError::Damaged { offset: place.offset })
    }

    fn replay(&self) -> Result<Replay, LogError> {
        let mut sources = HashMap::new();
        for (id, place) in &self.index.versions {
            if let Record::Version { source, .. } = self.record(*place)? {
                sources.insert(id.clone(), source);
            }
        }
        let mut places: Vec<_> = self.index.commands.values().collect();
        places.sort_unstable_by_key(|(_, place)| place.offset);
        let mut commands = Vec::with_capacity(places.len());
        for (id, place) in places {
            let Record::Command { boot_id, since, own, init, command, .. } = self.record(*place)?
            else {
                return Err(LogError::Damaged { offset: place.offset });
            };
            let source = sources.get(id).cloned();
            let source = source.ok_or(LogError::Damaged { offset: place.offset })?;
            commands.push(Kept { source, boot_id, since, own, init, command });
        }
        let announced = match self.index.announced.map(|place| self.record(place)).transpose()? {
            Some(Record::Announced(names)) => names,
            _ => Vec::new(),
        };
        let clearing = self.index.clearing.keys().cloned().collect();
        Ok(Replay { commands, clearing, announced, discarded_bytes: 0 })
    }

    /// Bytes of what counts.
    pub const fn live_bytes(&self) -> u64 {
        self.index.live_bytes
    }

    /// Saves all of it or nothing; returns when it is on the disk.
    pub fn save(&mut self, items: &[Item]) -> Result<(), LogError> {
        let is_long = self.len > REWRITE_FROM_BYTES.max(self.index.live_bytes * 2);
        if self.is_broken || is_long {
            self.rewrite()?;
        }
        let mut bytes = Vec::new();
        let mut noted = Vec::with_capacity(items.len());
        let mut new_versions = HashSet::new();
        for item in items {
            let record = match item {
                Item::Command(saved) => {
                    let id = &saved.version.id;
                    if !self.index.versions.contains_key(id) && new_versions.insert(id.clone()) {
                        let source = saved.version.source.clone();
                        let version = Record::Version { id: id.clone(), source };
                        noted.push(self.encode(version, &mut bytes)?);
                    }
                    Record::Command {
                        version: id.clone(),
                        boot_id: saved.boot_id.clone(),
                        since: saved.since.clone(),
                        own: saved.own.clone(),
                        init: saved.init,
                        command: saved.command.clone(),
                    }
                }
                Item::Clearing(topic) => Record::Clearing(topic.clone()),
                Item::Forgotten(topic) => Record::Forgotten(topic.clone()),
                Item::Announced(names) => Record::Announced(names.clone()),
            };
            noted.push(self.encode(record, &mut bytes)?);
        }
        if let Err(source) = self.file.write_all_at(&bytes, self.len) {
            // What was written in part must not stand before the next record.
            self.is_broken = self.file.truncate(self.len).is_err();
            return Err(LogError::Io { what: "write", source });
        }
        if let Err(source) = self.file.sync() {
            self.is_broken = true;
            return Err(LogError::Io { what: "save", source });
        }
        self.len += bytes.len() as u64;
        for (record, place) in noted {
            self.index.note(&record, place);
        }
        Ok(())
    }

    fn encode(&self, record: Record, out: &mut Vec<u8>) -> Result<(Record, Place), LogError> {
        let body = serde_json::to_vec(&record).expect("records are plain data");
        if body.len() > BODY_MAX_BYTES {
            return Err(LogError::TooLong);
        }
        let place =
            Place { offset: self.len + out.len() as u64, bytes: HEADER_BYTES + body.len() as u64 };
        frame::encode(&body, out);
        Ok((record, place))
    }

    /// Puts a file with only what counts in the log's place; on an error the old one stays, or
    /// the new one is rewritten before anything else.
    fn rewrite(&mut self) -> Result<(), LogError> {
        let next = self.folder.create_next().map_err(LogError::io("make the next of"))?;
        let mut out = MAGIC.to_vec();
        let mut index = Index::default();
        let mut written = 0;
        for place in self.index.live() {
            let bytes = self.read(place)?;
            let record = serde_json::from_slice(&bytes[HEADER_BYTES as usize..])
                .map_err(|_| LogError::Damaged { offset: place.offset })?;
            index.note(&record, Place { offset: written + out.len() as u64, ..place });
            out.extend_from_slice(&bytes);
            if out.len() > 256 * 1024 {
                next.write_all_at(&out, written).map_err(LogError::io("rewrite"))?;
                written += out.len() as u64;
                out.clear();
            }
        }
        next.write_all_at(&out, written).map_err(LogError::io("rewrite"))?;
        next.sync().map_err(LogError::io("rewrite"))?;
        self.folder.replace().map_err(LogError::io("replace"))?;
        self.file = next;
        self.len = written + out.len() as u64;
        self.index = index;
        // Which of both files a power cut leaves is only known now.
        let saved = self.folder.sync_names();
        self.is_broken = saved.is_err();
        saved.map_err(LogError::io("save the name of"))
    }
}

#[cfg(test)]
#[path = "log/log_tests.rs"]
mod tests;
