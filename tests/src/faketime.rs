//! A wall clock that steps, for one process: libfaketime, where it is installed.
//!
//! Only the wall clock is moved; the monotonic one goes on, as it does when a
//! device finds a time server at last.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::services;

/// The clock of one process.
#[derive(Debug, Clone)]
pub struct SteppingClock {
    library: PathBuf,
    offset: PathBuf,
}

impl SteppingClock {
    /// A clock that is right, kept in a file of `folder`; `None` when the running test is to be skipped.
    pub fn new(folder: &Path, name: &str) -> Result<Option<Self>> {
        let Some(library) = library() else {
            services::skip("libfaketime");
            return Ok(None);
        };
        let clock = Self { library, offset: folder.join(format!("{name}.clock")) };
        clock.step_to(0)?;
        Ok(Some(clock))
    }

    /// Puts the clock so many seconds ahead of the true time, or behind it.
    pub fn step_to(&self, offset_s: i64) -> Result<()> {
        // Replaced in one step: the process may be reading.
        let next = self.offset.with_extension("next");
        fs::write(&next, format!("{offset_s:+}\n"))?;
        fs::rename(&next, &self.offset).context("stepping the clock")
    }

    /// What a process needs in its environment to live by this clock.
    pub fn env(&self) -> [(String, String); 4] {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("LD_PRELOAD".into(), text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE".into(), text(&self.offset)),
            ("FAKETIME_NO_CACHE".into(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
        ]
    }

    pub fn apply(&self, command: &mut Command) {
        command.envs(self.env());
    }
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders
        .flat_map(|folder| [folder.join("faketime"), folder])
        .map(|folder| folder.join("libfaketimeMT.so.1"))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_by_the_clock_that_it_is_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(clock) = SteppingClock::new(folder.path(), "date").expect("made") else { return };
        clock.step_to(-86_400 * 365).expect("stepped");
        let mut date = Command::new("date");
        date.arg("+%s");
        clock.apply(&mut date);
        let said = date.output().expect("ran");
        let said: u64 = String::from_utf8_lossy(&said.stdout).trim().parse().expect("seconds");
        let behind = crate::clock::wall().as_secs() - said;
        assert!((86_400 * 365..86_400 * 365 + 60).contains(&behind), "{behind} s behind");
    }
}
