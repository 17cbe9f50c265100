//! One chunk of a log: what is in it, and how it is sealed.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use bytes::{Buf as _, BufMut as _, Bytes};
use quarterdeck_protocol::{
    ids::TunnelId,
    tunnel::{
        Content,
        mark::{Exit, Mark, Size},
    },
};

use super::Header;

/// What stands before a chunk's sealed content: its length, flags, a nonce.
pub(super) const HEAD_BYTES: usize = 4 + 1 + NONCE_LEN;
/// The most sealed content that a chunk has, in bytes.
pub(super) const SEALED_MAX_BYTES: usize = 1024 * 1024;
/// The flag of the last chunk.
pub(super) const LAST: u8 = 1;
/// What an entry takes beside its bytes, about.
const ENTRY_BYTES: usize = 8;
/// Opens what is authenticated, so that it passes for nothing else.
const DOMAIN: &[u8] = b"quarterdeck session log 1";

/// The key of one session's log. Shows nothing.
#[derive(Clone)]
pub(crate) struct SessionKey {
    key: [u8; 32],
    id: TunnelId,
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// How the session began; in each segment, since older ones may go.
    Header(Header),
    /// Output, or a mark in it: takes its place in the order of bytes.
    Shown(Content),
    /// What was typed, when that is recorded.
    Typed(Bytes),
}

impl Entry {
    /// How much of the order of output it takes.
    pub(crate) const fn span(&self) -> u64 {
        match self {
            Self::Shown(content) => content.span(),
            Self::Header(_) | Self::Typed(_) => 0,
        }
    }
}

/// A chunk, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Of the output that it begins with.
    pub offset: u64,
    /// On the steady clock.
    pub at_ms: i64,
    pub entries: Vec<Entry>,
    pub is_last: bool,
}

const HEADER: u8 = b'h';
const OUTPUT: u8 = b'o';
const RESIZE: u8 = b'r';
const EXIT_CODE: u8 = b'x';
const EXIT_SIGNAL: u8 = b'k';
const INPUT: u8 = b'i';

impl SessionKey {
    pub(super) fn of(master: &[u8; 32], id: TunnelId) -> Self {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, master));
        context.update(DOMAIN);
        context.update(id.0.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        Self { key, id }
    }

    fn sealing(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.key).expect("it has its length"))
    }

    fn authenticated(&self, chunk: u64, flags: u8) -> Aad<Vec<u8>> {
        let mut with = DOMAIN.to_vec();
        with.extend_from_slice(self.id.0.as_bytes());
        with.extend_from_slice(&chunk.to_be_bytes());
        with.push(flags);
        Aad::from(with)
    }

    /// Makes a chunk as it lies in a file.
    pub(super) fn seal(
        &self,
        chunk: u64,
        is_last: bool,
        offset: u64,
        at_ms: i64,
        entries: &[Entry],
        nonce: [u8; NONCE_LEN],
    ) -> Vec<u8> {
        let flags = if is_last { LAST } else { 0 };
        // In one piece of memory: what is sealed stands where it will lie.
        let room: usize = entries.iter().map(|entry| entry.span() as usize + ENTRY_BYTES).sum();
        let mut out = Vec::with_capacity(HEAD_BYTES + 16 + room + AES_256_GCM.tag_len());
        out.put_bytes(0, HEAD_BYTES);
        out.put_u64(offset);
        out.put_i64(at_ms);
        for entry in entries {
            put(&mut out, entry);
        }
        let tag = self
            .sealing()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                self.authenticated(chunk, flags),
                &mut out[HEAD_BYTES..],
            )
            .expect("a chunk is far shorter than may be sealed");
        out.put_slice(tag.as_ref());
        let length = (out.len() - HEAD_BYTES) as u32;
        let mut head = &mut out[..HEAD_BYTES];
        head.put_u32(length);
        head.put_u8(flags);
        head.put_slice(&nonce);
        out
    }

    /// Opens a chunk; `None` when it is not what was sealed under this number.
    pub(super) fn open(
        &self,
        chunk: u64,
        flags: u8,
        nonce: [u8; NONCE_LEN],
        mut sealed: Vec<u8>,
    ) -> Option<Opened> {
        let opened = self
            .sealing()
            .open_in_place(
                Nonce::assume_unique_for_key(nonce),
                self.authenticated(chunk, flags),
                &mut sealed,
            )
            .ok()?;
        let size_bytes = opened.len();
        sealed.truncate(size_bytes);
        let mut content = Bytes::from(sealed);
        if content.len() < 16 {
            return None;
        }
        let (offset, at_ms) = (content.get_u64(), content.get_i64());
        let mut entries = Vec::new();
        while content.has_remaining() {
            entries.push(take(&mut content)?);
        }
        Some(Opened { offset, at_ms, entries, is_last: flags & LAST != 0 })
    }
}

fn put(out: &mut Vec<u8>, entry: &Entry) {
    let mut put_bytes = |kind, bytes: &[u8]| {
        out.put_u8(kind);
        out.put_u32(bytes.len() as u32);
        out.put_slice(bytes);
    };
    match entry {
        Entry::Header(header) => {
            put_bytes(HEADER, &serde_json::to_vec(header).expect("plain data"));
        }
        Entry::Typed(bytes) => put_bytes(INPUT, bytes),
        Entry::Shown(Content::Bytes(bytes)) => put_bytes(OUTPUT, bytes),
        Entry::Shown(Content::Mark(Mark::Resize(size))) => {
            out.put_u8(RESIZE);
            out.put_u16(size.cols.get());
            out.put_u16(size.rows.get());
        }
        Entry::Shown(Content::Mark(Mark::Exit(exit))) => {
            let (kind, how) = match exit {
                Exit::Code(code) => (EXIT_CODE, *code),
                Exit::Signal(signal) => (EXIT_SIGNAL, *signal),
            };
            out.put_slice(&[kind, how]);
        }
        // A device sends none; it would take its place all the same.
        Entry::Shown(Content::Mark(Mark::Signal(_))) => out.put_slice(&[EXIT_SIGNAL, 0]),
    }
}

fn take(content: &mut Bytes) -> Option<Entry> {
    let kind = content.try_get_u8().ok()?;
    let mut bytes = || {
        let length = content.try_get_u32().ok()? as usize;
        (length <= content.len()).then(|| content.split_to(length))
    };
    Some(match kind {
        HEADER => Entry::Header(serde_json::from_slice(&bytes()?).ok()?),
        INPUT => Entry::Typed(bytes()?),
        OUTPUT => Entry::Shown(Content::Bytes(bytes()?)),
        RESIZE => {
            let (cols, rows) = (content.try_get_u16().ok()?, content.try_get_u16().ok()?);
            Entry::Shown(Content::Mark(Mark::Resize(Size::new(cols, rows)?)))
        }
        EXIT_CODE => {
            let code = content.try_get_u8().ok()?;
            Entry::Shown(Content::Mark(Mark::Exit(Exit::Code(code))))
        }
        EXIT_SIGNAL => {
            let signal = content.try_get_u8().ok()?;
            Entry::Shown(Content::Mark(Mark::Exit(Exit::Signal(signal))))
        }
        _ => return None,
    })
}
