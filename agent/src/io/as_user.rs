//! The small program that becomes another user, then a session's program.
//!
//! It is this same binary, started under a hidden name, on the terminal or the
//! pipes of the session: `__as USER PROGRAM ARGS…`. What goes wrong is said on
//! stderr, where the session's user sees it.

use std::{
    io::IsTerminal as _,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use nix::unistd::{User, fchown};

use super::supervisor::become_user;

/// First argument: no user types this.
pub const ROLE: &str = "__as";
/// As shells say that a program could not be started.
const EXIT_NOT_STARTED: u8 = 127;

/// Runs if the first argument says so; `None` for a normal start.
pub fn dispatch() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != ROLE {
        return None;
    }
    let (Some(user), Some(program)) = (words.next(), words.next()) else {
        return Some(ExitCode::from(EXIT_NOT_STARTED));
    };
    let user = user.to_string_lossy().into_owned();
    let stdin = std::io::stdin();
    if stdin.is_terminal()
        && let Ok(Some(account)) = User::from_name(&user)
    {
        // The terminal is to be the user's own; programs work on one that is not, but less well.
        let _ = fchown(&stdin, Some(account.uid), None);
    }
    match become_user(&user) {
        Ok(()) => {
            let error = Command::new(&program).args(words).exec();
            eprintln!("cannot start {}: {error}", program.to_string_lossy());
        }
        Err(refusal) => eprintln!("{refusal}"),
    }
    Some(ExitCode::from(EXIT_NOT_STARTED))
}
