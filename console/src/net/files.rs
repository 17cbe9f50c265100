//! Downloads into files, and files that are uploaded.
//!
//! A regular file appears whole or not at all: it is written beside its place
//! and moved there in the end. An upload is read piece by piece as it leaves.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt as _;
use quarterdeck_protocol::text;
use reqwest::{Response, StatusCode, header};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::{
    auth::Credentials,
    call::Call,
    client::{ATTEMPT_TIMEOUT, Client, chain},
    clock,
    error::ApiError,
};

/// How long a download may stand still.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upload may stand still, and how long its answer may take.
const UPLOAD_STALL: Duration = Duration::from_mins(1);
const UPLOAD_PIECE_BYTES: usize = 64 * 1024;

impl Client {
    /// Opens a download. Only its beginning is retried: what was written cannot be taken back.
    pub(super) async fn download(&self, call: Call<'_>) -> Result<Download, ApiError> {
        let opened = tokio::time::timeout(ATTEMPT_TIMEOUT, self.open(&call)).await;
        let response = opened.map_or_else(
            |_| {
                Err(ApiError::Unreachable {
                    server: self.server().to_string(),
                    reason: format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs()),
                    may_be_done: false,
                })
            },
            |opened| opened.map_err(|(error, _)| error),
        )?;
        Ok(Download::new(response, self.server().to_string()))
    }

    /// Sends a file. Once: a retry would begin anew, and that is for who asked to say.
    pub(super) async fn upload(&self, call: Call<'_>, upload: &Upload) -> Result<(), ApiError> {
        let mut refused = None;
        loop {
            let token = self.access(refused.as_ref()).await?;
            let request = self
                .request(&call, Some(&token))?
                .header(header::CONTENT_LENGTH, upload.size_bytes)
                .body(upload.body().await?);
            let response = tokio::select! {
                sent = request.send() => sent.map_err(|e| self.unreachable(&call, &e))?,
                () = upload.stalled() => {
                    return Err(ApiError::Unreachable {
                        server: self.server().to_string(),
                        reason: "the upload stood still".to_owned(),
                        may_be_done: false,
                    });
                }
            };
            let status = response.status();
            if status.is_success() {
                return Ok(());
            }
            if status != StatusCode::UNAUTHORIZED {
                return Err(self.refusal(&call, response).await);
            }
            if refused.is_some() || !matches!(self.credentials(), Credentials::Session(_)) {
                return Err(self.not_accepted(&self.refusal(&call, response).await));
            }
            refused = Some(token);
        }
    }
}

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    response: Response,
    server: String,
}

impl Download {
    pub(super) const fn new(response: Response, server: String) -> Self {
        Self { response, server }
    }

    /// The size that the server announced.
    pub fn size_bytes(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The name that the server proposes, without any folder.
    pub fn file_name(&self) -> Option<String> {
        let value = self.response.headers().get(header::CONTENT_DISPOSITION)?.to_str().ok()?;
        let name = value.split("filename=").nth(1)?.split(';').next()?.trim().trim_matches('"');
        let name = name.rsplit(['/', '\\']).next()?;
        (!matches!(name, "" | "." | "..")).then(|| text::line(name).into_owned())
    }

    /// The next piece; `None` after the last one.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, ApiError> {
        let broken = |reason: String| ApiError::Unreachable {
            server: self.server.clone(),
            reason,
            may_be_done: false,
        };
        match tokio::time::timeout(READ_TIMEOUT, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(e)) => Err(broken(format!("the download broke off: {}", chain(&e)))),
            Err(_) => {
                Err(broken(format!("the download stood still for {} s", READ_TIMEOUT.as_secs())))
            }
        }
    }
}

/// Saves a download as `path`, and says its size in bytes. `progress` hears how many bytes there
/// are, of how many if the server said so.
pub async fn save(
    mut download: Download,
    path: &Path,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<u64, ApiError> {
    let wrong = |e: &std::io::Error| write_error(&path.display().to_string(), e);
    let is_special =
        tokio::fs::metadata(path).await.is_ok_and(|about| !about.is_file() && !about.is_dir());
    if is_special {
        let mut file =
            tokio::fs::OpenOptions::new().write(true).open(path).await.map_err(|e| wrong(&e))?;
        return copy(&mut download, &mut file, &path.display().to_string(), &mut progress).await;
    }
    let (mut file, beside) = Beside::create(path).await.map_err(|e| wrong(&e))?;
    let size = copy(&mut download, &mut file, &path.display().to_string(), &mut progress).await?;
    file.sync_all().await.map_err(|e| wrong(&e))?;
    beside.put_in_place(path).await.map_err(|e| wrong(&e))?;
    Ok(size)
}

/// The name of a file on its way to its place. What does not come there goes, also when who
/// waits for it quits.
struct Beside(Option<PathBuf>);

impl Beside {
    async fn create(path: &Path) -> std::io::Result<(tokio::fs::File, Self)> {
        let beside = beside(path);
        let file = tokio::fs::File::create_new(&beside).await?;
        Ok((file, Self(Some(beside))))
    }

    async fn put_in_place(mut self, path: &Path) -> std::io::Result<()> {
        if let Some(beside) = &self.0 {
            tokio::fs::rename(beside, path).await?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What counts is why it is not whole.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Copies a download to a writer, and says its size in bytes; `target` is the writer's name in an error.
pub async fn copy(
    download: &mut Download,
    writer: &mut (impl AsyncWrite + Unpin),
    target: &str,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<u64, ApiError> {
    let total = download.size_bytes();
    let mut size = 0;
    while let Some(chunk) = download.chunk().await? {
        writer.write_all(&chunk).await.map_err(|e| write_error(target, &e))?;
        size += chunk.len() as u64;
        progress(size, total);
    }
    writer.flush().await.map_err(|e| write_error(target, &e))?;
    Ok(size)
}

/// A file on its way to the server.
#[derive(Debug)]
pub struct Upload {
    path: PathBuf,
    pub size_bytes: u64,
    sent: Arc<AtomicU64>,
}

impl Upload {
    /// Looks at the file; it is opened when it is sent.
    pub async fn of(path: &Path) -> Result<Self, ApiError> {
        let about =
            tokio::fs::metadata(path).await.map_err(|e| read_error(path, &e.to_string()))?;
        if !about.is_file() {
            return Err(read_error(path, "it is not a regular file"));
        }
        Ok(Self { path: path.to_owned(), size_bytes: about.len(), sent: Arc::default() })
    }

    /// How much has left, in bytes.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) async fn body(&self) -> Result<reqwest::Body, ApiError> {
        let wrong = |e: std::io::Error| read_error(&self.path, &e.to_string());
        let file = tokio::fs::File::open(&self.path).await.map_err(wrong)?;
        let sent = Arc::clone(&self.sent);
        sent.store(0, Ordering::Relaxed);
        let pieces =
            ReaderStream::with_capacity(file, UPLOAD_PIECE_BYTES).inspect_ok(move |piece| {
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            });
        Ok(reqwest::Body::wrap_stream(pieces))
    }

    /// Waits until nothing has left for so long that nothing will.
    pub(super) async fn stalled(&self) {
        let mut before = None;
        while before != Some(self.sent_bytes()) {
            before = Some(self.sent_bytes());
            tokio::time::sleep(UPLOAD_STALL).await;
        }
    }
}

fn read_error(path: &Path, reason: &str) -> ApiError {
    ApiError::Read { source_file: path.display().to_string(), reason: reason.to_owned() }
}

fn write_error(target: &str, error: &std::io::Error) -> ApiError {
    ApiError::Write {
        target: target.to_owned(),
        reason: error.to_string(),
        broken_pipe: error.kind() == std::io::ErrorKind::BrokenPipe,
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", clock::fresh_key()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_come_to_its_place_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("core.gz");
        let count = || std::fs::read_dir(folder.path()).expect("there").count();
        let (_file, left) = Beside::create(&path).await.expect("made");
        assert_eq!((count(), path.exists()), (1, false));
        drop(left);
        assert_eq!(count(), 0);
        let (_file, whole) = Beside::create(&path).await.expect("made");
        whole.put_in_place(&path).await.expect("in place");
        assert_eq!((count(), path.exists()), (1, true));
    }
}
