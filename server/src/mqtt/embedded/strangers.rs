//! Closes connections that do not sign in.
//!
//! rmqtt bounds the time from a connection's first packet on, but neither how
//! long it may stay silent before nor how many such connections there are, and
//! it keeps its sockets to itself. So they are found where the system lists
//! them: every few seconds the process's open sockets are compared with the
//! connections that signed in; what is left over is a stranger, and is shut
//! down when it has been one for too long, or when there are too many.
//!
//! ```text
//!   accepted --> stranger --signed in--> settled
//!                   +------too long, too many--> shut down
//! ```
//!
//! Linux lists them in `/proc/self/fd`; elsewhere nothing is closed.

use std::{
    collections::{HashMap, HashSet},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::{BorrowedFd, OwnedFd, RawFd},
};

use tracing::{debug, info};

const OPEN_FILES: &str = "/proc/self/fd";

/// The system's number of a socket: unlike a file descriptor's never used again soon.
type Inode = u64;

/// What is known of this process's sockets.
#[derive(Debug)]
pub(super) struct Strangers {
    listens: SocketAddr,
    age_max_ticks: u32,
    count_max: usize,
    settled: HashSet<Inode>,
    ages: HashMap<Inode, u32>,
}

impl Strangers {
    pub(super) fn new(listens: SocketAddr, age_max_ticks: u32, count_max: usize) -> Self {
        Self { listens, age_max_ticks, count_max, settled: HashSet::new(), ages: HashMap::new() }
    }

    /// Looks once; `known` are the peers that signed in or are about to. Tells how many it closed.
    pub(super) fn tick(&mut self, known: impl FnOnce() -> HashSet<SocketAddr>) -> usize {
        let sockets = sockets();
        let open: HashSet<Inode> = sockets.iter().map(|(inode, _)| *inode).collect();
        self.settled.retain(|inode| open.contains(inode));
        self.ages.retain(|inode, _| open.contains(inode));

        let unsettled: Vec<_> =
            sockets.into_iter().filter(|(inode, _)| !self.settled.contains(inode)).collect();
        if unsettled.is_empty() {
            return 0;
        }
        let mut strangers = Vec::new();
        let known = known();
        for (inode, number) in unsettled {
            let Some(stream) = duplicate(number) else { continue };
            match (stream.local_addr(), stream.peer_addr()) {
                (Ok(local), Ok(peer))
                    if local.port() == self.listens.port() && !known.contains(&peer) =>
                {
                    let age = self.ages.entry(inode).or_default();
                    *age += 1;
                    strangers.push((*age, peer, stream));
                }
                _ => {
                    self.ages.remove(&inode);
                    self.settled.insert(inode);
                }
            }
        }
        self.close(strangers)
    }

    fn close(&self, mut strangers: Vec<(u32, SocketAddr, TcpStream)>) -> usize {
        strangers.sort_by_key(|(age, ..)| std::cmp::Reverse(*age));
        let too_many = strangers.len().saturating_sub(self.count_max);
        let mut closed = 0;
        for (n, (age, peer, stream)) in strangers.into_iter().enumerate() {
            if n >= too_many && age <= self.age_max_ticks {
                break;
            }
            debug!(%peer, "closed: it did not sign in");
            // It may have closed by itself meanwhile.
            let _ = stream.shutdown(Shutdown::Both);
            closed += 1;
        }
        if closed > 0 {
            info!(closed, "connections closed that did not sign in");
        }
        closed
    }
}

/// Lists this process's sockets: inode and file descriptor.
fn sockets() -> Vec<(Inode, RawFd)> {
    let Ok(entries) = std::fs::read_dir(OPEN_FILES) else { return Vec::new() };
    let socket = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((inode, number))
    };
    entries.filter_map(Result::ok).filter_map(socket).collect()
}

/// Takes a reference of our own to an open socket, so that it is the same one
/// from looking at it to closing it, whatever happens to the number.
#[expect(unsafe_code, reason = "dup(2) of a descriptor that another crate owns")]
fn duplicate(number: RawFd) -> Option<TcpStream> {
    // SAFETY: the number was just listed as open. Should it be closed meanwhile,
    // dup fails or gives another file, whose addresses the caller checks before
    // it does anything; nothing is read, written or closed through `borrowed`.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let owned: OwnedFd = borrowed.try_clone_to_owned().ok()?;
    Some(TcpStream::from(owned))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{io::Read, net::TcpListener};

    use super::*;

    struct Pair {
        client: TcpStream,
        _served: TcpStream,
    }

    fn pair(listener: &TcpListener) -> Pair {
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("listens");
        let (served, _) = listener.accept().expect("connected");
        Pair { client, _served: served }
    }

    fn is_closed(pair: &mut Pair) -> bool {
        pair.client.set_nonblocking(true).expect("open");
        matches!(pair.client.read(&mut [0]), Ok(0))
    }

    #[test]
    fn a_stranger_is_closed_when_it_is_too_old_and_a_device_never() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (mut stranger, mut device) = (pair(&listener), pair(&listener));
        let known: HashSet<_> = [device.client.local_addr().expect("bound")].into();
        let mut strangers = Strangers::new(listener.local_addr().expect("bound"), 2, 100);
        for expected in [0, 0, 1] {
            assert_eq!(strangers.tick(|| known.clone()), expected);
        }
        assert!(is_closed(&mut stranger));
        assert!(!is_closed(&mut device));
        // Once settled it is not asked for again.
        drop(stranger);
        assert_eq!(strangers.tick(HashSet::new), 0);
        assert!(!is_closed(&mut device));
    }

    #[test]
    fn over_the_most_strangers_the_oldest_go_first() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut strangers = Strangers::new(listener.local_addr().expect("bound"), 100, 2);
        let mut old = pair(&listener);
        assert_eq!(strangers.tick(HashSet::new), 0);
        let (mut young, mut younger) = (pair(&listener), pair(&listener));
        assert_eq!(strangers.tick(HashSet::new), 1);
        assert!(is_closed(&mut old));
        assert!(!is_closed(&mut young) && !is_closed(&mut younger));
    }
}
