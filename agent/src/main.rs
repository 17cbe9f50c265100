//! `quarterdeck-agent`: see [`quarterdeck_agent`].

use std::process::ExitCode;

fn main() -> ExitCode {
    quarterdeck_agent::io::supervisor::dispatch().unwrap_or_else(quarterdeck_agent::cli::main)
}
