//! Reads what may be much, or little.

use std::io;

use bytes::{Bytes, BytesMut};
use quarterdeck_protocol::tunnel::limits::FRAME_DATA_MAX_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Room for what is read, as much as it was worth the last time.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    buffer: BytesMut,
    is_pouring: bool,
}

impl Bulk {
    const LITTLE_BYTES: usize = FRAME_DATA_MAX_BYTES / 4;

    /// Reads once; 0 is the end.
    pub(super) async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        // A whole frame at once is copied nowhere. What is left of the room is used before there
        // is more: the memory of a piece is that of its neighbours too.
        if self.buffer.capacity() - self.buffer.len() < Self::LITTLE_BYTES {
            let room = if self.is_pouring { FRAME_DATA_MAX_BYTES } else { Self::LITTLE_BYTES };
            self.buffer.reserve(room);
        }
        let read = from.read_buf(&mut self.buffer).await?;
        self.is_pouring = read >= Self::LITTLE_BYTES;
        Ok(read)
    }

    /// What was read since the last time, in memory of its own.
    pub(super) fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}
