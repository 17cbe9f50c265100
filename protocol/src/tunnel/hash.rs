//! The running hash over one direction of a stream.
//!
//! It guards against our own mistakes and a broken relay, not against an
//! adversary: the transport is authenticated. So it is XXH3, which costs next
//! to nothing, 128 bits of it.

use xxhash_rust::xxh3::Xxh3;

use super::pieces::Content;

/// The hash of all contents so far; how they were cut does not matter.
#[derive(Clone, Default)]
pub(super) struct RunningHash(Box<Xxh3>);

impl RunningHash {
    pub(super) fn update(&mut self, content: &Content) {
        match content {
            Content::Bytes(bytes) => self.0.update(bytes),
            Content::Mark(mark) => {
                let mut text = bytes::BytesMut::new();
                mark.encode(&mut text);
                self.0.update(&text);
            }
        }
    }

    pub(super) fn digest(&self) -> [u8; 16] {
        self.0.digest128().to_be_bytes()
    }
}

impl std::fmt::Debug for RunningHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunningHash")
    }
}
