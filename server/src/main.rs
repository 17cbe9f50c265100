//! `quarterdeck-server`: see `--help`.

use std::process::ExitCode;

/// A message's memory is got by one thread and given back by another, which
/// glibc's allocator does with a lock, and slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, of which ten thousand idle connections fill little:
    // 34 KiB each, and 21 without. Where the system has no such switch, it stays as it is.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
    quarterdeck_server::cli::main()
}
