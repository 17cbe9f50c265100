//! Where a test can have the agent die: at each write and before each effect.
//!
//! In a debug build with `QUARTERDECK_AGENT_DIE_AT=N` the process kills itself
//! when it reaches its Nth point, as a power cut would. In a release build
//! there is nothing here.

#[cfg(debug_assertions)]
use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
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

/// Passes a point.
#[cfg(not(debug_assertions))]
pub const fn reach(_point: &str) {}
