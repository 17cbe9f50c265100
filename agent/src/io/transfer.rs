//! Files to and from the server, streamed, checked, tried again while there is time.
//!
//! `PUT /uploads/{command_id}` takes what `collect_logs` and `file_pull` bring;
//! `GET /uploads/{id}` gives what `file_push` takes. Both sign in as the device.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use quarterdeck_protocol::{
    api::DeviceConfiguration,
    limits::{CONFIGURATION_MAX_BYTES, UPLOAD_MAX_BYTES},
    topics,
};
use reqwest::{
    Body, RequestBuilder, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use sha2::{Digest as _, Sha256};

use super::http::{self, HttpError};
use crate::{
    clock::{Backoff, Clock},
    enroll::{Credentials, api},
};

const RETRY_FIRST_MS: u64 = 300;
const RETRY_MOST_MS: u64 = 15_000;
/// The longest configuration with what is around it.
const ANSWER_MAX_BYTES: usize = 4 * CONFIGURATION_MAX_BYTES;
const CHUNK_BYTES: usize = 64 * 1024;

/// Says why a file was not brought or taken.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the server refuses the transfer ({status}): {detail}")]
    Refused { status: StatusCode, detail: String },
    #[error("the file has {size_bytes} bytes; {UPLOAD_MAX_BYTES} at most are taken")]
    TooLarge { size_bytes: u64 },
    #[error("the content's SHA-256 is {found}, not {expected}")]
    OtherContent { expected: String, found: String },
    #[error("the server's answer is not as expected: {source}")]
    Answer { source: serde_json::Error },
    #[error("cannot read the file: {source}")]
    Read { source: io::Error },
    #[error("cannot save what was taken: {source}")]
    Write { source: io::Error },
}

/// Why one attempt failed: for good, or perhaps not the next time.
enum Attempt {
    Final(TransferError),
    Again(String),
}

impl From<TransferError> for Attempt {
    fn from(error: TransferError) -> Self {
        Self::Final(error)
    }
}

/// Size and hash of what was transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    pub size_bytes: u64,
    pub sha256: String,
}

/// Takes the hash of a file's first `size` bytes, in hex.
pub fn sha256_of(file: &mut File, size_bytes: u64) -> io::Result<String> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut part = file.take(size_bytes);
    loop {
        match part.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Writes bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// The server, and who asks.
#[derive(Debug)]
pub struct Server<'a> {
    pub credentials: &'a Credentials,
    pub clock: &'a dyn Clock,
}

impl Server<'_> {
    /// Brings a file to the server under `id`; goes on until done, refused or dropped.
    pub async fn upload(
        &self,
        id: &str,
        name: &str,
        mut file: File,
    ) -> Result<Transferred, TransferError> {
        let size_bytes = file.metadata().map_err(|source| TransferError::Read { source })?.len();
        if size_bytes > UPLOAD_MAX_BYTES {
            return Err(TransferError::TooLarge { size_bytes });
        }
        let hashed = tokio::task::spawn_blocking(move || {
            sha256_of(&mut file, size_bytes).map(|hash| (file, hash))
        });
        let (file, sha256) = hashed
            .await
            .map_err(io::Error::other)
            .and_then(|hashed| hashed)
            .map_err(|source| TransferError::Read { source })?;
        let client = http::client(self.credentials.ca_pem.as_deref())?;
        let mut url = api(&self.credentials.server, &format!("uploads/{id}"));
        url.query_pairs_mut().append_pair("name", name).append_pair("sha256", &sha256);
        let file = Arc::new(file);
        let mut retry = Retry::new(self.clock);
        loop {
            let request = self
                .sign_in(client.put(url.clone()))
                .header(CONTENT_LENGTH, size_bytes)
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(body_of(Arc::clone(&file), size_bytes));
            match answer(request.send().await) {
                Ok(_) => return Ok(Transferred { size_bytes, sha256 }),
                Err(failed) => retry.wait(failed).await?,
            }
        }
    }

    /// Takes a file from the server into `target`, which is begun anew for each attempt.
    pub async fn download(
        &self,
        id: &str,
        target: &mut File,
        expected_sha256: Option<&str>,
    ) -> Result<Transferred, TransferError> {
        let client = http::client(self.credentials.ca_pem.as_deref())?;
        let url = api(&self.credentials.server, &format!("uploads/{id}"));
        let mut retry = Retry::new(self.clock);
        loop {
            let sent = self.sign_in(client.get(url.clone())).send().await;
            let taken = match answer(sent) {
                Ok(response) => take(response, target).await,
                Err(failed) => Err(failed),
            };
            match taken {
                Ok(taken) => {
                    check_sha256(expected_sha256, &taken.sha256)?;
                    return Ok(taken);
                }
                Err(failed) => retry.wait(failed).await?,
            }
        }
    }

    /// Takes what the server holds for this device.
    pub async fn configuration(&self) -> Result<DeviceConfiguration, TransferError> {
        let client = http::client(self.credentials.ca_pem.as_deref())?;
        let Credentials { project_id, device_id, .. } = self.credentials;
        let path = format!("projects/{project_id}/devices/{device_id}/configuration");
        let url = api(&self.credentials.server, &path);
        let mut retry = Retry::new(self.clock);
        loop {
            let taken = match answer(self.sign_in(client.get(url.clone())).send().await) {
                Ok(response) => read_configuration(response).await,
                Err(failed) => Err(failed),
            };
            match taken {
                Ok(taken) => return Ok(taken),
                Err(failed) => retry.wait(failed).await?,
            }
        }
    }

    fn sign_in(&self, request: RequestBuilder) -> RequestBuilder {
        let user = topics::username(&self.credentials.project_id, &self.credentials.device_id);
        request.basic_auth(user, Some(&self.credentials.device_secret))
    }
}

/// Tries until it is done or refused; the command's time-out bounds it all.
struct Retry<'a> {
    backoff: Backoff,
    clock: &'a dyn Clock,
}

impl<'a> Retry<'a> {
    const fn new(clock: &'a dyn Clock) -> Self {
        Self { backoff: Backoff::new(RETRY_FIRST_MS, RETRY_MOST_MS), clock }
    }

    async fn wait(&mut self, failed: Attempt) -> Result<(), TransferError> {
        match failed {
            Attempt::Final(error) => Err(error),
            Attempt::Again(why) => {
                let wait_ms = self.backoff.next_ms(self.clock);
                tracing::info!(why, wait_ms, "a transfer failed and is tried again");
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                Ok(())
            }
        }
    }
}

async fn read_configuration(mut response: Response) -> Result<DeviceConfiguration, Attempt> {
    let mut text = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| Attempt::Again(http::describe(&error)))?
    {
        text.extend_from_slice(&chunk);
        if text.len() > ANSWER_MAX_BYTES {
            return Err(TransferError::TooLarge { size_bytes: text.len() as u64 }.into());
        }
    }
    serde_json::from_slice(&text).map_err(|source| TransferError::Answer { source }.into())
}

async fn take(mut response: Response, target: &mut File) -> Result<Transferred, Attempt> {
    let failed = |source| Attempt::Final(TransferError::Write { source });
    target.set_len(0).and_then(|()| target.rewind()).map_err(failed)?;
    let (mut hash, mut size_bytes) = (Sha256::new(), 0_u64);
    while let Some(chunk) =
        response.chunk().await.map_err(|error| Attempt::Again(http::describe(&error)))?
    {
        size_bytes += chunk.len() as u64;
        if size_bytes > UPLOAD_MAX_BYTES {
            return Err(TransferError::TooLarge { size_bytes }.into());
        }
        hash.update(&chunk);
        target.write_all(&chunk).map_err(failed)?;
    }
    Ok(Transferred { size_bytes, sha256: hex(&hash.finalize()) })
}

/// Compares hashes, whatever the case of their digits.
pub fn check_sha256(expected: Option<&str>, found: &str) -> Result<(), TransferError> {
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(found) => {
            Err(TransferError::OtherContent {
                expected: expected.to_owned(),
                found: found.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

fn answer(response: reqwest::Result<Response>) -> Result<Response, Attempt> {
    let response = response.map_err(|error| Attempt::Again(http::describe(&error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let is_temporary = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if is_temporary {
        return Err(Attempt::Again(format!("the server answered {status}")));
    }
    let detail = quarterdeck_protocol::text::line(status.canonical_reason().unwrap_or("refused"))
        .into_owned();
    Err(TransferError::Refused { status, detail }.into())
}

/// Streams a file's first bytes, read at their offsets so that attempts share one file.
fn body_of(file: Arc<File>, size_bytes: u64) -> Body {
    Body::wrap_stream(stream::unfold((file, 0_u64), move |(file, offset)| async move {
        if offset >= size_bytes {
            return None;
        }
        let source = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK_BYTES.min((size_bytes - offset) as usize)];
            let n = std::os::unix::fs::FileExt::read_at(&*source, &mut chunk, offset)?;
            chunk.truncate(n);
            // It has shrunk: what was promised cannot be kept.
            if n == 0 {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof))
            } else {
                Ok(Bytes::from(chunk))
            }
        });
        let chunk = read.await.map_err(io::Error::other).and_then(|chunk| chunk);
        let next = offset + chunk.as_ref().map_or(size_bytes, |chunk| chunk.len() as u64);
        Some((chunk, (file, next)))
    }))
}
