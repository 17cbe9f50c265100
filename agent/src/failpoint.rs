//! Where a test can have the agent die, at each write and before each effect, and
//! where it can have its disk fail.
//!
//! In a debug build with `QUARTERDECK_AGENT_DIE_AT=N` the process kills itself
//! when it reaches its Nth point, as a power cut would; with
//! `QUARTERDECK_AGENT_JOURNAL_FAILS=write:N` (or `sync:N`) its journal takes nothing
//! from the Nth write on, or with `sync:N-M` to the Mth; with `names:N` no name of a
//! log is saved. In a release build there is nothing here.

#[cfg(debug_assertions)]
use std::{
    ops::RangeInclusive,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The variable that says at which point to die, from 1.
pub const VARIABLE: &str = "QUARTERDECK_AGENT_DIE_AT";

/// Passes a point, or dies there.
#[cfg(debug_assertions)]
pub fn reach(point: &str) {
    static DIE_AT: LazyLock<Option<u64>> =
        LazyLock::new(|| std::env::var(VARIABLE).ok()?.parse().ok());
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let Some(die_at) = *DIE_AT else { return };
    if REACHED.fetch_add(1, Ordering::SeqCst) + 1 == die_at {
        eprintln!("dying at point {die_at}: {point}");
        let me = nix::unistd::Pid::this();
        let _ = nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL);
    }
}

/// The variable that says which writes, or syncs, of the journal fail, from 1.
pub const JOURNAL_FAILS: &str = "QUARTERDECK_AGENT_JOURNAL_FAILS";

/// Passes a write or a sync of the journal, or fails it as a full disk does.
#[cfg(debug_assertions)]
pub fn fails(operation: &str) -> std::io::Result<()> {
    static FAILING: LazyLock<Option<(String, RangeInclusive<u64>)>> = LazyLock::new(|| {
        let text = std::env::var(JOURNAL_FAILS).ok()?;
        let (operation, range) = text.split_once(':')?;
        let (from, to) = range.split_once('-').unwrap_or((range, "18446744073709551615"));
        Some((operation.to_owned(), from.parse().ok()?..=to.parse().ok()?))
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let Some((failing, range)) = &*FAILING else { return Ok(()) };
    if failing != operation || !range.contains(&(REACHED.fetch_add(1, Ordering::SeqCst) + 1)) {
        return Ok(());
    }
    eprintln!("failing a {operation} of the journal");
    Err(std::io::ErrorKind::StorageFull.into())
}

/// Passes a write or a sync of the journal.
#[cfg(not(debug_assertions))]
pub const fn fails(_operation: &str) -> std::io::Result<()> {
    Ok(())
}

/// Passes a point.
#[cfg(not(debug_assertions))]
pub const fn reach(_point: &str) {}
