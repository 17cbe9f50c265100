//! Reading what a program writes.

use std::{
    pin::Pin,
    task::{Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

const READ_BYTES: usize = 16 * 1024;

/// Reads once, into memory that no waiting program holds: a thousand may run and write
/// nothing. Never returns when the pipe is closed.
pub async fn read_from<R: AsyncRead + Unpin>(pipe: &mut Option<R>, mut take: impl FnMut(&[u8])) {
    let Some(from) = pipe else { return std::future::pending().await };
    let count = std::future::poll_fn(|context| {
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = ready!(Pin::new(&mut *from).poll_read(context, &mut buffer));
        take(buffer.filled());
        Poll::Ready(read.map_or(0, |()| buffer.filled().len()))
    });
    if count.await == 0 {
        *pipe = None;
    }
}
