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
    thread,
};

use bytes::{BufMut as _, BytesMut};
use rustix::io::{Errno, read, write};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    time::{Duration, Instant},
};

/// What is read of a terminal first, in bytes: what the kernel keeps ready of it.
const READ_BYTES: usize = 4 * 1024;
/// What is read of one that pours, in bytes: a read goes on for as long as there is more.
const MORE_BYTES: usize = 16 * 1024;
/// From so much at once on more is on its way, in bytes.
const POURING_BYTES: usize = 2 * 1024;
/// What is read before it goes on, at most, in bytes.
const AT_ONCE_MAX_BYTES: usize = 32 * 1024;
/// What is gathered of a flood that has begun, in bytes.
const GATHER_BYTES: usize = AT_ONCE_MAX_BYTES - READ_BYTES;
/// How long one that pours is left alone before it is read again. A thread of the kernel moves
/// what is written, 4 KiB at a time, and a reader that comes while it does sleeps until it is
/// done: who asks at once is put to sleep and woken for each 4 KiB. Measured on Linux 6.18 with two
/// processors: a reader alone gets 30 MB/s without a rest, 55 with 20 to 40 us, 37 with 80; through
/// a whole tunnel it is a quarter more with 20 us than without.
const REST: Duration = Duration::from_micros(20);
/// How often such a terminal is asked in vain. Woken by the runtime's queue of events instead, a
/// reader finds what came first, and costs a third more.
const PATIENCE: u32 = 3;
/// How long gathering may hold up all else that the agent does: a key for another terminal.
const GATHER_MAX: Duration = Duration::from_micros(500);

/// Reads what the program writes. The terminal does not block.
#[derive(Debug)]
pub struct Reader(pipe::Receiver);

impl Reader {
    /// Within a runtime.
    pub fn new(terminal: &OwnedFd) -> io::Result<Self> {
        // To the runtime it is a pipe: it watches it, and reads it when there is something.
        pipe::Receiver::from_owned_fd_unchecked(terminal.try_clone()?).map(Self)
    }

    /// Reads onto the end of `buffer`, 32 KiB at most however much room it has; 0 or an error:
    /// nobody has the terminal open.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        buffer.reserve(READ_BYTES);
        let first = self.0.read_buf(&mut buffer.limit(READ_BYTES)).await?;
        if first < POURING_BYTES {
            return Ok(first);
        }
        let until = Instant::now() + GATHER_MAX;
        let more = gather(buffer, rest, |room| read(&self.0, room), || Instant::now() < until);
        Ok(first + more)
    }
}

/// Leaves the processor to whoever else wants it: the program, or the server on the same host.
fn rest() {
    let until = Instant::now() + REST;
    while Instant::now() < until {
        thread::yield_now();
    }
}

/// Takes what follows closely, for as long as there is time.
fn gather(
    buffer: &mut BytesMut,
    mut rest: impl FnMut(),
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
    has_time: impl Fn() -> bool,
) -> usize {
    let mut gathered = 0;
    let mut patience = PATIENCE;
    while gathered + READ_BYTES <= GATHER_BYTES && patience > 0 && has_time() {
        rest();
        let filled = buffer.len();
        buffer.resize(filled + MORE_BYTES.min(GATHER_BYTES - gathered), 0);
        let got = read(&mut buffer[filled..]);
        buffer.truncate(filled + got.unwrap_or(0));
        match got {
            // An end or a fault is told again by the next read.
            Ok(0) => break,
            Ok(more) => gathered += more,
            Err(Errno::AGAIN | Errno::INTR) => patience -= 1,
            Err(_) => break,
        }
    }
    gathered
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

    #[tokio::test]
    async fn a_flood_comes_whole_and_to_its_end() {
        let (ours, theirs) = terminal();
        raw(&theirs);
        let mut reader = Reader::new(&ours).expect("watched");
        let sent: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
        let flood = sent.clone();
        let program = tokio::task::spawn_blocking(move || {
            let mut left = &flood[..];
            while !left.is_empty() {
                left = &left[write(&theirs, left).expect("read by us")..];
            }
        });
        let mut got = BytesMut::new();
        loop {
            let before = got.len();
            match reader.read(&mut got).await {
                Ok(0) | Err(_) => break,
                Ok(read) => assert_eq!(got.len() - before, read, "it says what it read"),
            }
            // However much room there is.
            assert!(got.len() - before <= AT_ONCE_MAX_BYTES);
        }
        program.await.expect("the program's end");
        assert!(got == sent, "other bytes came");
    }

    #[test]
    fn what_follows_closely_is_gathered_until_it_is_much_or_does_not_come() {
        const MOST: usize = GATHER_BYTES / READ_BYTES;
        let (full, little) = (Ok(READ_BYTES), Ok(1));
        let patient = PATIENCE as usize;
        // What the terminal gives read by read, for how long there is time, what is gathered, and
        // how many reads that takes, a rest before each.
        for (gives, time, gathered, reads) in [
            (vec![full; 20], 99, GATHER_BYTES, MOST),
            (vec![Ok(MORE_BYTES), Ok(GATHER_BYTES - MORE_BYTES)], 99, GATHER_BYTES, 2),
            (vec![full; 20], 3, 3 * READ_BYTES, 3),
            (vec![full; 20], 0, 0, 0),
            (vec![little, Ok(0), full], 99, 1, 2),
            (vec![full, Err(Errno::IO), full], 99, READ_BYTES, 2),
            (vec![Err(Errno::AGAIN), full, Err(Errno::INTR), little, Ok(0)], 99, READ_BYTES + 1, 5),
            (vec![Err(Errno::AGAIN); 20], 99, 0, patient),
        ] {
            let mut buffer = BytesMut::from(&b"first"[..]);
            let left = std::cell::Cell::new(time);
            let (mut given, mut expected) = (gives.iter(), b"first".to_vec());
            let (mut count, rests) = (0, std::cell::Cell::new(0));
            let read = |room: &mut [u8]| {
                left.update(|left| left - 1);
                count += 1;
                assert_eq!(rests.get(), count, "it rests before each");
                let got = *given.next().expect("it asks no further");
                if let Ok(bytes) = got {
                    room[..bytes].fill(count as u8);
                    expected.resize(expected.len() + bytes, count as u8);
                }
                got
            };
            let rest = || rests.update(|rests| rests + 1);
            assert_eq!(gather(&mut buffer, rest, read, || left.get() > 0), gathered, "{gives:?}");
            assert_eq!(count, reads, "{gives:?}");
            assert!(buffer == expected, "{gives:?}");
        }
    }

    /// Bytes go through as they are.
    fn raw(terminal: &pty_process::Pts) {
        let mut modes = rustix::termios::tcgetattr(terminal).expect("its modes");
        modes.make_raw();
        rustix::termios::tcsetattr(terminal, rustix::termios::OptionalActions::Now, &modes)
            .expect("set");
    }
}
