//! The program `quarterdeck`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quarterdeck_console::cli::main()
}
