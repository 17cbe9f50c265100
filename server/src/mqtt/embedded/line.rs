//! A stream with what was read and not understood yet, and what is to be written.
//!
//! An idle line holds no buffer.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use crate::mqtt::limits::{READ_AT_ONCE_BYTES, WRITE_WAITING_MAX_BYTES};

#[derive(Debug)]
pub(super) struct Line<Io> {
    io: Io,
    pub(super) inbox: BytesMut,
    pub(super) outbox: BytesMut,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Line<Io> {
    pub(super) fn new(io: Io) -> Self {
        Self { io, inbox: BytesMut::new(), outbox: BytesMut::new() }
    }

    /// Whether more may be put into the outbox.
    pub(super) fn has_room(&self) -> bool {
        self.outbox.len() < WRITE_WAITING_MAX_BYTES
    }

    /// Reads what there is; 0 is the end.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.inbox.capacity() - self.inbox.len() < READ_AT_ONCE_BYTES / 4 {
            self.inbox.reserve(READ_AT_ONCE_BYTES);
        }
        let read = poll_read_buf(Pin::new(&mut self.io), context, &mut self.inbox);
        if self.inbox.is_empty() {
            self.inbox = BytesMut::new();
        }
        read
    }

    /// Writes the outbox, all of it when ready.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let wrote = ready!(Pin::new(&mut self.io).poll_write(context, &self.outbox))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbox.advance(wrote);
        }
        self.outbox = BytesMut::new();
        Pin::new(&mut self.io).poll_flush(context)
    }

    pub(super) async fn read(&mut self) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context)).await
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }
}
