//! `quarterdeck-server`: see `--help`.

use std::process::ExitCode;

/// A message's memory is got by one thread and given back by another, which
/// glibc's allocator does with a lock, and slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    quarterdeck_server::cli::main()
}
