//! stdout and stderr, written at once as long as whoever reads them keeps up.
//!
//! Neither may be made non-blocking: others have them open as well. So tokio writes them
//! on a thread that may wait, two changes of thread for each write, which took a fifth of
//! this program's time in a flood. A pipe or a socket takes what it has room for without
//! waiting, where the kernel knows `RWF_NOWAIT` of it; anything else goes the long way.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

/// Writes to `fast` what it takes at once, and the rest by `slow`, which is the same file.
pub(super) struct Direct<F, S> {
    /// `None` once the kernel has said that it knows no such write of it.
    fast: Option<F>,
    slow: S,
    /// Whether the long way has something that may not be written yet.
    is_owed: bool,
}

pub(super) fn stdout() -> Direct<io::Stdout, tokio::io::Stdout> {
    Direct::new(io::stdout(), tokio::io::stdout())
}

pub(super) fn stderr() -> Direct<io::Stderr, tokio::io::Stderr> {
    Direct::new(io::stderr(), tokio::io::stderr())
}

impl<F: AsFd, S> Direct<F, S> {
    const fn new(fast: F, slow: S) -> Self {
        Self { fast: Some(fast), slow, is_owed: false }
    }
}

impl<F: AsFd + Unpin, S: AsyncWrite + Unpin> AsyncWrite for Direct<F, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_flush(cx))?;
        if let Some(fast) = &self.fast {
            match write_at_once(fast.as_fd(), bytes) {
                AtOnce::Written(bytes) => return Poll::Ready(Ok(bytes)),
                AtOnce::NotNow => {}
                AtOnce::Never => self.fast = None,
            }
        }
        self.is_owed = true;
        Pin::new(&mut self.slow).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_owed {
            ready!(Pin::new(&mut self.slow).poll_flush(cx))?;
            self.is_owed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.slow).poll_shutdown(cx)
    }
}

/// What came of a write that was not to wait.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux knows such a write"))]
enum AtOnce {
    Written(usize),
    /// It would have waited, or failed: the long way tells.
    NotNow,
    Never,
}

#[cfg(target_os = "linux")]
fn write_at_once(to: BorrowedFd<'_>, bytes: &[u8]) -> AtOnce {
    use rustix::io::{Errno, ReadWriteFlags, pwritev2};

    /// Where the file stands, for what has places at all.
    const HERE: u64 = u64::MAX;
    match pwritev2(to, &[io::IoSlice::new(bytes)], HERE, ReadWriteFlags::NOWAIT) {
        Ok(written) if written > 0 => AtOnce::Written(written),
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => AtOnce::Never,
        _ => AtOnce::NotNow,
    }
}

#[cfg(not(target_os = "linux"))]
const fn write_at_once(_to: BorrowedFd<'_>, _bytes: &[u8]) -> AtOnce {
    AtOnce::Never
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Of which the long way is a file of its own, so that it can be told apart.
    fn direct(fast: File) -> (Direct<File, tokio::fs::File>, File) {
        let slow = tempfile::tempfile().expect("a file");
        let seen = slow.try_clone().expect("the same");
        (Direct::new(fast, tokio::fs::File::from_std(slow)), seen)
    }

    fn length(file: &File) -> u64 {
        file.metadata().expect("its length").len()
    }

    #[tokio::test]
    async fn a_pipe_is_written_at_once_until_it_is_full_and_then_the_long_way() {
        let (mut reads, writes) = io::pipe().expect("a pipe");
        let (mut out, slow) = direct(File::from(std::os::fd::OwnedFd::from(writes)));
        out.write_all(b"at once").await.expect("room");
        out.flush().await.expect("nothing is owed");
        if out.fast.is_none() {
            assert_eq!(length(&slow), 7, "before Linux 6.4 a pipe knows no such write");
            return;
        }
        let mut got = [0; 7];
        reads.read_exact(&mut got).expect("it is there");
        assert_eq!((&got, length(&slow)), (b"at once", 0));

        out.write_all(&vec![b'x'; 1_000_000]).await.expect("the file takes the rest");
        out.flush().await.expect("written");
        let in_file = length(&slow);
        assert!((1..1_000_000).contains(&in_file), "{in_file} bytes went the long way");
        drop(out);
        let mut rest = Vec::new();
        reads.read_to_end(&mut rest).expect("its end");
        assert_eq!(rest.len() as u64 + in_file, 1_000_000, "each byte once");
    }

    #[tokio::test]
    async fn what_knows_no_such_write_goes_the_long_way_and_loses_nothing() {
        let (_kept, terminal) = {
            let pty = nix::pty::openpty(None, None).expect("a terminal");
            (pty.master, File::from(pty.slave))
        };
        let (mut out, slow) = direct(terminal);
        out.write_all(b"a line\n").await.expect("written");
        out.flush().await.expect("written");
        assert_eq!(length(&slow), 7);
        assert!(out.fast.is_none(), "it is not asked again");
    }
}
