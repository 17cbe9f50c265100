//! What the disk itself takes to be sure of a block, measured beside what is built on it.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::Result;

use crate::clock;

/// Overwrites one block of a file and waits until the disk has it.
#[derive(Debug)]
pub struct Syncer {
    file: File,
    count: u64,
}

impl Syncer {
    pub fn new(folder: &Path) -> Result<Self> {
        let mut file = File::create(folder.join("sync"))?;
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        Ok(Self { file, count: 0 })
    }

    /// How long it took, in milliseconds.
    pub fn sync(&mut self) -> Result<f64> {
        self.count += 1;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&[(self.count % 251) as u8; 4096])?;
        let begun = clock::now();
        self.file.sync_data()?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}
