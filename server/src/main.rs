//! `quarterdeck-server`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quarterdeck_server::cli::main()
}
