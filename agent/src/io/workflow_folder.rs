//! Reads the files of a workflow folder for [`crate::workflow::catalogue`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use nix::fcntl::OFlag;

use crate::workflow::catalogue::{FolderFile, WORKFLOW_MAX_BYTES};

/// The most workflows and cards of one folder.
pub const FILES_MAX: usize = 2_000;

/// Reads all workflows and cards directly in a folder; one that cannot be read is given with the reason.
///
/// # Errors
///
/// When the folder cannot be listed, or holds more than [`FILES_MAX`] of them.
pub fn read(folder: &Path) -> io::Result<Vec<FolderFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("toml" | "json")) {
            continue;
        }
        if files.len() == FILES_MAX {
            let text = format!("the folder has more than {FILES_MAX} workflows and cards");
            return Err(io::Error::other(text));
        }
        let content = read_file(&path).map_err(|error| error.to_string());
        files.push(FolderFile { path, content });
    }
    Ok(files)
}

/// Reads a folder that need not be there.
pub fn read_or_none(folder: &Path) -> io::Result<Vec<FolderFile>> {
    match read(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Reads a workflow file: one byte over the longest at most, so that a longer one is known.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    let file: File =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("this is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(WORKFLOW_MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflow_files_are_read_and_what_is_none_is_told_or_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a.toml"), "text").expect("written");
        fs::write(folder.path().join("notes.md"), "text").expect("written");
        fs::create_dir(folder.path().join("b.toml")).expect("made");
        fs::write(folder.path().join("b.toml/c.toml"), "deeper").expect("written");
        nix::unistd::mkfifo(&folder.path().join("d.json"), nix::sys::stat::Mode::S_IRWXU)
            .expect("made");
        let mut files = read(folder.path()).expect("a folder");
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let contents: Vec<_> = files.into_iter().map(|file| file.content).collect();
        let none = Err("this is no regular file".to_owned());
        assert_eq!(contents, [Ok(b"text".to_vec()), none.clone(), none]);
        assert!(read(&folder.path().join("gone")).is_err());
    }
}
