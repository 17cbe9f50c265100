//! `quarterdeck-agent`: see [`quarterdeck_agent`].

use std::process::ExitCode;

use quarterdeck_agent::{
    cli,
    io::{as_user, supervisor},
};

fn main() -> ExitCode {
    supervisor::dispatch().or_else(as_user::dispatch).unwrap_or_else(cli::main)
}
