//! A folder on a small file system of its own, which can be full.
//!
//! A tmpfs, so only root has it; anybody else skips the test by name.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::services;

/// What fills the file system.
const BALLAST: &str = "ballast";

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one; `None` when the running test is to be skipped.
    pub fn mount(size_bytes: u64) -> Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("quarterdeck-disk-").tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_bytes},mode=0755"), "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Some(Self { folder })),
            _ => {
                services::skip("the right to mount a tmpfs");
                Ok(None)
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves not one byte free.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        for size in [1 << 20, 4096, 1] {
            let piece = vec![b'x'; size];
            // Ends with "no space left on device".
            while ballast.write_all(&piece).is_ok() {}
        }
        Ok(())
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn free(&self) -> Result<()> {
        // Emptied first: a child that another test forked meanwhile has the file open until its
        // `exec`, and a removed file keeps its space for as long.
        File::create(self.ballast()).context("emptying the ballast")?;
        fs::remove_file(self.ballast()).context("removing the ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.path().join(BALLAST)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was just killed may hold it for a moment more.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        let Some(disk) = SmallDisk::mount(1 << 20).expect("mounted or skipped") else { return };
        let file = disk.path().join("file");
        fs::write(&file, "before").expect("there is space");
        disk.fill().expect("filled");
        let _as_a_forked_child = File::open(disk.ballast()).expect("the ballast is there");
        assert!(fs::write(disk.path().join("more"), vec![0; 8192]).is_err());
        disk.free().expect("freed");
        fs::write(&file, vec![0; 8192]).expect("there is space again");
    }
}
