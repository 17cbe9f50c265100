//! A file of rows while it grows: beside its place, and moved there when it is whole.
//!
//! Dropped before its end, nothing of it stays. An export never replaces a file.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncWriteExt as _, BufWriter},
};

/// Says why an export cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub(super) struct ExportError {
    path: PathBuf,
    source: io::Error,
}

/// An export that is not whole yet.
#[derive(Debug)]
pub(super) struct ExportFile {
    file: BufWriter<File>,
    /// Taken once it is moved.
    beside: Option<PathBuf>,
    path: PathBuf,
}

impl ExportFile {
    /// Opens a file that only its owner can read.
    pub(super) async fn begin(path: &Path) -> Result<Self, ExportError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.part"));
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(true).mode(0o600);
        match how.open(&beside).await {
            Ok(file) => Ok(Self { file: BufWriter::new(file), beside: Some(beside), path }),
            Err(source) => Err(ExportError { path: beside, source }),
        }
    }

    pub(super) async fn write(&mut self, text: &str) -> Result<(), ExportError> {
        let written = self.file.write_all(text.as_bytes()).await;
        written.map_err(|source| ExportError { path: self.path.clone(), source })
    }

    /// Gives the file its name; answers where it is.
    pub(super) async fn end(mut self) -> Result<PathBuf, ExportError> {
        let path = self.path.clone();
        let wrong = |source| ExportError { path: path.clone(), source };
        self.file.flush().await.map_err(wrong)?;
        if let Some(beside) = &self.beside {
            // Unlike a rename, this refuses a name that is taken.
            tokio::fs::hard_link(beside, &path).await.map_err(wrong)?;
        }
        Ok(path)
    }
}

impl Drop for ExportFile {
    fn drop(&mut self) {
        if let Some(beside) = self.beside.take() {
            // It is of no use to anybody, whatever the answer.
            let _ = std::fs::remove_file(beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_export_has_its_name_once_it_is_whole_and_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.csv");
        let names = || std::fs::read_dir(folder.path()).expect("a folder").count();

        let mut file = ExportFile::begin(&path).await.expect("opened");
        file.write("a\n").await.expect("written");
        assert!(!path.exists());
        drop(file);
        assert_eq!(names(), 0, "what was stopped leaves nothing");

        for (content, is_first) in [("one\n", true), ("two\n", false)] {
            let mut file = ExportFile::begin(&path).await.expect("opened");
            file.write(content).await.expect("written");
            assert_eq!(file.end().await.is_ok(), is_first);
        }
        assert_eq!(
            (std::fs::read_to_string(&path).expect("there").as_str(), names()),
            ("one\n", 1)
        );
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let error = ExportFile::begin(Path::new("/nowhere/rows.csv")).await.expect_err("no folder");
        assert!(error.to_string().contains("/nowhere/"), "{error}");
    }
}
