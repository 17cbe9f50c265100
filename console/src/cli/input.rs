//! What the operator or a file says: secrets, prompts, texts. Never from argv.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use super::error::CliError;
use crate::net::profile::Secret;

/// The longest secret, in bytes.
const SECRET_MAX_BYTES: u64 = 16 * 1024;
/// The longest text from a file or stdin, in bytes: a payload must fit a message.
const TEXT_MAX_BYTES: u64 = 1024 * 1024;

/// Reads a secret from a file that an option names: its first line.
pub fn secret_file(option: &str, path: &Path) -> Result<Secret, CliError> {
    let text = read_text(option, path, SECRET_MAX_BYTES)?;
    Ok(Secret::new(text.lines().next().unwrap_or_default().trim_end_matches('\r')))
}

/// Reads a text from a file that an option names, or from stdin for `-`.
pub fn text_file(option: &str, path: &Path) -> Result<String, CliError> {
    read_text(option, path, TEXT_MAX_BYTES)
}

fn read_text(option: &str, path: &Path, max_bytes: u64) -> Result<String, CliError> {
    let wrong = |what: String| CliError::Usage(format!("{option} {}: {what}", path.display()));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(max_bytes + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| wrong(e.to_string()))?;
    if bytes.len() as u64 > max_bytes {
        return Err(wrong(format!("expected at most {max_bytes} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| wrong("expected UTF-8 text".to_owned()))
}

/// Where a password comes from.
#[derive(Debug, Clone, Copy)]
pub struct PasswordSource<'a> {
    pub file: Option<&'a Path>,
    /// Asks twice: a new password that nobody can read back.
    pub is_new: bool,
}

/// Gets a password: from the file, from `QUARTERDECK_PASSWORD`, by asking without echo, or from the first line of stdin.
pub fn password(source: PasswordSource<'_>, prompt: &str) -> Result<Secret, CliError> {
    let password = if let Some(path) = source.file {
        secret_file("--password-file", path)?
    } else if let Some(password) =
        std::env::var("QUARTERDECK_PASSWORD").ok().filter(|p| !p.is_empty())
    {
        Secret::new(password)
    } else if io::stdin().is_terminal() {
        ask_password(prompt, source.is_new)?
    } else {
        Secret::new(stdin_line()?)
    };
    if password.reveal().is_empty() {
        return Err(CliError::Usage(
            "expected a password: in a file (--password-file), in QUARTERDECK_PASSWORD, or on stdin".to_owned(),
        ));
    }
    Ok(password)
}

fn ask_password(prompt: &str, is_new: bool) -> Result<Secret, CliError> {
    let first = rpassword::prompt_password(format!("{prompt}: "))?;
    if is_new && rpassword::prompt_password("The same again: ")? != first {
        return Err(CliError::Failed("the two passwords differ".to_owned()));
    }
    Ok(Secret::new(first))
}

/// Asks for a line on the terminal; `None` without one.
pub fn ask(prompt: &str) -> Result<Option<String>, CliError> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut stderr = io::stderr();
    write!(stderr, "{}", quarterdeck_protocol::text::line(prompt))?;
    stderr.flush()?;
    stdin_line().map(Some)
}

/// Has the operator type `expected`; where there is no terminal to ask on, `--yes` must be said.
pub fn confirm(what: &str, expected: &str) -> Result<(), CliError> {
    let prompt = format!("{what}. Type {expected} to go on: ");
    match ask(&prompt)? {
        Some(typed) if typed.trim() != expected => {
            Err(CliError::Failed("nothing was done".to_owned()))
        }
        Some(_) => Ok(()),
        None => Err(CliError::Usage(format!(
            "{what}: expected --yes, since there is no terminal to ask on"
        ))),
    }
}

fn stdin_line() -> Result<String, CliError> {
    let mut line = String::new();
    io::stdin().lock().take(SECRET_MAX_BYTES).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
