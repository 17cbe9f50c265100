//! Signals that whoever started the agent has it ignore, or blocked: as `nohup` does, or a
//! shell for what it starts in the background.
//!
//! Both are inherited, also by each program that the agent starts, and a script that cannot be
//! hung up or interrupted is not what its author expects. A handler is not: it ends with
//! `exec`. So such a signal gets a handler that does nothing: the agent is spared as before,
//! and what it starts begins as any program does.

use std::{fs, io};

use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// Left as they are: the standard library sees to the first; the kernel means the next three
/// for faults of the program itself; handled instead of ignored, the last two would have a
/// write to a terminal tried again for ever.
const LEFT: [Signal; 6] = [
    Signal::SIGPIPE,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGSEGV,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// The signals that this program was started to take no notice of.
#[derive(Debug)]
pub struct Spared(SigSet);

impl Spared {
    /// Finds them, before anything changes them.
    pub fn find() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let blocked = SigSet::thread_get_mask()?;
        let mut spared = SigSet::empty();
        for signal in ignored(&status).chain(&blocked) {
            if !LEFT.contains(&signal) {
                spared.add(signal);
            }
        }
        Ok(Self(spared))
    }

    /// Gives them a handler that does nothing, and blocks nothing any more; within a runtime, and
    /// before it has threads of its own.
    pub fn shield(&self) -> io::Result<()> {
        for spared in &self.0 {
            // The handler stays when nobody listens.
            drop(signal(SignalKind::from_raw(spared as i32))?);
        }
        SigSet::empty().thread_set_mask()?;
        Ok(())
    }

    /// Before this process becomes another run of the agent, which is to find them too.
    pub fn hand_on(&self) {
        if let Err(errno) = self.0.thread_block() {
            tracing::warn!(error = errno.desc(), "signals that were ignored will be heeded");
        }
    }
}

/// Those that a process ignores, by its `/proc/PID/status`.
fn ignored(status: &str) -> impl Iterator<Item = Signal> {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    Signal::iterator().filter(move |signal| bits >> (*signal as i32 - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_signals_are_read_from_the_kernels_bits() {
        let status = "Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001007\n";
        let found: Vec<_> = ignored(status).collect();
        let expected = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGPIPE];
        assert_eq!(found, expected);
        assert_eq!(ignored("SigIgn:\tnonsense").count(), 0);
        assert_eq!(ignored("").count(), 0);
    }
}
