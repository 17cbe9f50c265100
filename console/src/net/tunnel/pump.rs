//! Moves bytes between a stream and what this machine has: a socket, a pipe.
//!
//! What was read of a stream is safe once it is written, and not before: the
//! device keeps it until then.

use std::{io, time::Duration};

use bytes::BytesMut;
use quarterdeck_protocol::tunnel::{
    Content, Item, close::CloseCode, limits::FRAME_DATA_MAX_BYTES, mark::Mark, stream::Closed,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::Stream;

/// What is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Why bytes do not move any more.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The stream is over before its end.
    #[error("{}", super::closed_text(.0))]
    Stream(#[from] Closed),
    /// What this machine has cannot be read or written.
    #[error(transparent)]
    Local(#[from] io::Error),
}

impl Stopped {
    fn into_closed(self) -> Closed {
        match self {
            Self::Stream(closed) => closed,
            Self::Local(error) => Closed::new(CloseCode::ConnectionLost, error.to_string()),
        }
    }
}

/// Sends what `from` gives, and its end.
pub async fn up(from: &mut (impl AsyncRead + Unpin), stream: &Stream) -> Result<(), Stopped> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        if from.read_buf(&mut buffer).await? == 0 {
            stream.finish();
            return Ok(());
        }
        // Each piece has memory of its own, and no more than it needs.
        stream.write(buffer.split().freeze()).await?;
    }
}

/// Writes what the device sends to `to`, until its end, which is made safe with `close`.
pub async fn down<W: AsyncWrite + Unpin>(
    stream: &Stream,
    to: &mut W,
    mut on_mark: impl FnMut(Mark),
) -> Result<(), Stopped> {
    loop {
        let (item, until) = stream.read(FRAME_DATA_MAX_BYTES).await?;
        match item {
            Item::Content(Content::Bytes(bytes)) => {
                to.write_all(&bytes).await?;
                to.flush().await?;
            }
            Item::Content(Content::Mark(mark)) => on_mark(mark),
            Item::End => {
                // Whoever has gone already needs no end.
                let _ = to.shutdown().await;
                stream.make_safe(until);
                return Ok(());
            }
        }
        stream.make_safe(until);
    }
}

/// Moves bytes both ways between a connection and a stream, until both directions are over.
pub async fn join(mut socket: TcpStream, stream: &Stream) -> Result<(), Stopped> {
    // Only a delay would be lost.
    let _ = socket.set_nodelay(true);
    break_off_if_dropped(&socket, true);
    let (mut from, mut to) = socket.split();
    let upwards = async {
        up(&mut from, stream).await?;
        stream.delivered().await.map_err(Stopped::from)
    };
    let result = tokio::try_join!(upwards, down(stream, &mut to, |_| {})).map(|_| ());
    match result {
        Ok(()) => match stream.closed().await {
            closed if closed.code == CloseCode::Finished => {
                break_off_if_dropped(&socket, false);
                Ok(())
            }
            closed => Err(closed.into()),
        },
        Err(stopped) => {
            let closed = stopped.into_closed();
            stream.reset(closed.clone());
            Err(closed.into())
        }
    }
}

/// Whether whoever is at the other end is to see a connection that broke, should this
/// one be closed now: by us, by the end of its tunnel, or by a kernel whose process is gone.
#[expect(deprecated, reason = "what blocks is a time to linger, of which there is none")]
pub fn break_off_if_dropped(socket: &TcpStream, breaks_off: bool) {
    // Without it an end that came too early looks like any other.
    let _ = socket.set_linger(breaks_off.then_some(Duration::ZERO));
}
