//! The agent's end of a terminal.
//!
//! The kernel says that a terminal takes more each time its program has read:
//! for every key of a person. So only reading is waited for by default, and
//! room to write only while there is none; an agent that is woken for nothing
//! echoes late.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use bytes::BytesMut;
use rustix::io::{Errno, write};
use tokio::{io::AsyncReadExt as _, net::unix::pipe};

/// Reads what the program writes. The terminal does not block.
#[derive(Debug)]
pub struct Reader(pipe::Receiver);

impl Reader {
    /// Within a runtime.
    pub fn new(terminal: &OwnedFd) -> io::Result<Self> {
        // To the runtime it is a pipe: it watches it, and reads it when there is something.
        pipe::Receiver::from_owned_fd_unchecked(terminal.try_clone()?).map(Self)
    }

    /// Reads into the room of `buffer`; 0 or an error: nobody has the terminal open.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.0.read_buf(buffer).await
    }
}

/// Writes what the program reads.
#[derive(Debug)]
pub struct Writer(Arc<OwnedFd>);

impl Writer {
    /// The terminal does not block.
    pub const fn new(terminal: Arc<OwnedFd>) -> Self {
        Self(terminal)
    }

    /// Writes all of it, waiting for a program that does not read.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match write(&self.0, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.room().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until the terminal takes more.
    async fn room(&self) -> io::Result<()> {
        let watched = self.0.as_fd().try_clone_to_owned()?;
        pipe::Sender::from_owned_fd_unchecked(watched)?.writable().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal, and the end of its program.
    fn terminal() -> (Arc<OwnedFd>, pty_process::Pts) {
        let (pty, pts) = pty_process::open().expect("a terminal");
        (Arc::new(OwnedFd::from(pty)), pts)
    }

    #[tokio::test]
    async fn a_writer_waits_for_a_program_that_does_not_read_and_goes_on_with_it() {
        let (ours, theirs) = terminal();
        raw(&theirs);
        let mut reader = Reader::new(&ours).expect("watched");
        let mut writer = Writer::new(ours);
        // More than any terminal holds.
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let program = tokio::task::spawn_blocking(move || {
            let mut got = vec![0; 200_000];
            let mut filled = 0;
            while filled < got.len() {
                filled += rustix::io::read(&theirs, &mut got[filled..]).expect("what was written");
            }
            write(&theirs, b"seen").expect("room");
            (got, theirs)
        });
        writer.write_all(&sent).await.expect("it takes all");
        let (got, _theirs) = program.await.expect("the program's end");
        assert!(got == sent, "other bytes came");
        let mut answer = BytesMut::with_capacity(64);
        while answer.len() < 4 {
            reader.read(&mut answer).await.expect("an answer");
        }
        assert_eq!(&answer[..], b"seen");
    }

    #[tokio::test]
    async fn a_reader_is_told_that_nobody_has_the_terminal_open() {
        let (ours, theirs) = terminal();
        let mut reader = Reader::new(&ours).expect("watched");
        write(&theirs, b"last").expect("room");
        drop(theirs);
        let mut got = BytesMut::with_capacity(64);
        assert_eq!(reader.read(&mut got).await.expect("what was written"), 4);
        assert!(matches!(reader.read(&mut got).await, Ok(0) | Err(_)));
    }

    /// Bytes go through as they are.
    fn raw(terminal: &pty_process::Pts) {
        let mut modes = rustix::termios::tcgetattr(terminal).expect("its modes");
        modes.make_raw();
        rustix::termios::tcsetattr(terminal, rustix::termios::OptionalActions::Now, &modes)
            .expect("set");
    }
}
