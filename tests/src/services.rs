//! What a test needs beyond the Rust toolchain, and what becomes of it when that is missing.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let Some(mosquitto) = quarterdeck_tests::services::require("mosquitto")? else { return Ok(()) };
//! # let _ = mosquitto; Ok(()) }
//! ```
//!
//! Without the program the test prints `skipped: NAME needs mosquitto` and
//! passes, unless `QUARTERDECK_REQUIRE_SERVICES=1`, which makes it fail.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, bail};

use crate::binaries::on_path;

/// Finds an installed service: the folder of its programs for `postgresql`, the program itself for the others.
///
/// `None` when the test is to be skipped.
pub fn require(service: &str) -> Result<Option<PathBuf>> {
    let found = if service == "postgresql" { postgresql() } else { on_path(service) };
    if found.is_some() {
        return Ok(found);
    }
    if env::var_os("QUARTERDECK_REQUIRE_SERVICES").is_some_and(|value| value == "1") {
        bail!("{} needs {service}, and QUARTERDECK_REQUIRE_SERVICES=1", test_name());
    }
    skip(service);
    Ok(None)
}

/// Says that the running test is skipped, by name, also where the test runner keeps quiet.
pub fn skip(needs: &str) {
    static ONE_LINE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_LINE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Not println!, which the test runner swallows when a test passes.
    let _ = writeln!(io::stderr(), "skipped: {} needs {needs}", test_name());
}

/// The name of the running test: the test runner gives it to its thread.
pub fn test_name() -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => env::args().next().unwrap_or_default(),
    }
}

/// The folder of the newest installed PostgreSQL's programs.
fn postgresql() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| has_server(folder))
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, folder)| folder);
    newest.or_else(|| on_path("initdb")?.parent().map(Path::to_owned).filter(|f| has_server(f)))
}

fn has_server(folder: &Path) -> bool {
    folder.join("initdb").is_file() && folder.join("postgres").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_knows_its_own_name() {
        assert_eq!(test_name(), "services::tests::a_test_knows_its_own_name");
    }
}
