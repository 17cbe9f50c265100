//! `collect_logs`, `log_upload`, `file_pull` and `file_push`.
//!
//! What is collected or fetched lies in the command's own folder between the
//! two steps, and is there until the command has ended.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use quarterdeck_protocol::{
    command::error_code,
    ids::CommandId,
    limits::UPLOAD_MAX_BYTES,
    payload::{CollectLogs, FilePull, FilePush, LogSource, LogUpload},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Context, io_failure, owner, result, tail::begin_of_last_lines};
use crate::{
    domain::command::Outcome,
    io::{
        durable,
        files::{self, FileError, NewFile},
        transfer::{self, TransferError, Transferred},
    },
    work::{Failed, Reports, WorkEnd},
};

/// The longest log that is collected, in bytes.
const LOG_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// The longest line that is searched as one, in bytes.
const LINE_MAX_BYTES: u64 = 64 * 1024;
const COLLECTED: &str = "collected";
const NAME: &str = "name";
const FETCHED: &str = "fetched";

fn file_failure(error: &FileError) -> Failed {
    let code = match error {
        FileError::NotAllowed { .. } => error_code::NOT_ALLOWED,
        FileError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            error_code::DISK_FULL
        }
        FileError::Io { .. } | FileError::NotAFile { .. } => error_code::TRANSFER_FAILED,
    };
    Failed::because(code, error.to_string())
}

pub(super) fn transfer_failure(error: &TransferError) -> Failed {
    match error {
        TransferError::Write { source } => io_failure("cannot save what was taken", source),
        _ => Failed::because(error_code::TRANSFER_FAILED, crate::io::http::describe(error)),
    }
}

pub(super) async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Failed::because(error_code::INTERNAL, "the transfer itself failed"))
    })
}

pub(super) fn work_folder(context: &Context, id: CommandId) -> Result<PathBuf, Failed> {
    let folder = context.paths.work_of(id);
    durable::private_folder(&folder).map_err(|error| io_failure("cannot make a folder", &error))?;
    Ok(folder)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

// --- collect_logs -----------------------------------------------------------

pub(super) async fn collect(
    context: &Context,
    payload: &CollectLogs,
    end: &CancellationToken,
    reports: &Reports,
) -> WorkEnd {
    let folder = work_folder(context, reports.id)?;
    let collecting = async {
        let name = match payload.source {
            LogSource::Journald => collect_journal(context, payload, &folder, end, reports).await?,
            LogSource::File => {
                let path = PathBuf::from(payload.path.clone().unwrap_or_default());
                let allowed = context.config.allowed_paths.clone();
                let (lines, into, name) =
                    (u64::from(payload.lines), folder.join(COLLECTED), name_of(&path));
                off_the_loop(move || copy_tail(&allowed, &path, lines, &into)).await?;
                name
            }
        };
        fs::write(folder.join(NAME), name).map_err(|error| io_failure("cannot write", &error))
    };
    whole_or_gone(collecting.await, &folder)
}

/// What was brought in part is of no use, and may be what fills the disk: beside it not even
/// that it failed could be saved.
fn whole_or_gone(brought: Result<(), Failed>, folder: &Path) -> WorkEnd {
    if brought.is_err()
        && let Err(error) = fs::remove_dir_all(folder)
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove what was brought in part");
    }
    brought.map(|()| Outcome::default())
}

/// Has `journalctl` write into the file itself.
async fn collect_journal(
    context: &Context,
    payload: &CollectLogs,
    folder: &Path,
    end: &CancellationToken,
    reports: &Reports,
) -> Result<String, Failed> {
    let mut line = vec![
        "journalctl".to_owned(),
        "--no-pager".to_owned(),
        "--output=short-iso".to_owned(),
        format!("--lines={}", payload.lines),
    ];
    if let Some(unit) = &payload.unit {
        line.push(format!("--unit={unit}"));
    }
    owner::run_into_file(context, line, &folder.join(COLLECTED), end, reports).await?;
    Ok(payload.unit.as_ref().map_or_else(|| "journal.log".to_owned(), |unit| format!("{unit}.log")))
}

/// Collects the last lines of a log that the owner has named, only those with a text in them.
pub(super) async fn collect_log(
    context: &Context,
    path: PathBuf,
    payload: &LogUpload,
    id: CommandId,
) -> WorkEnd {
    let folder = work_folder(context, id)?;
    let (allowed, lines, name) = (vec![path.clone()], u64::from(payload.lines), name_of(&path));
    let (search, into) = (payload.search_text.clone(), folder.join(COLLECTED));
    let named = folder.join(NAME);
    let collected = off_the_loop(move || {
        match search {
            None => copy_tail(&allowed, &path, lines, &into),
            Some(text) => {
                let matching = into.with_extension("matching");
                copy_matching(&allowed, &path, text.as_bytes(), &matching)?;
                copy_tail(std::slice::from_ref(&matching), &matching, lines, &into)
            }
        }?;
        fs::write(named, name).map_err(|error| io_failure("cannot write", &error))
    });
    whole_or_gone(collected.await, &folder)
}

/// Copies the lines of a log's end that hold a text; longer ones than a line may be are cut.
fn copy_matching(allowed: &[PathBuf], path: &Path, text: &[u8], into: &Path) -> Result<(), Failed> {
    let mut source = files::open_to_read(allowed, path).map_err(|error| file_failure(&error))?;
    let copied = (|| {
        let size = source.metadata()?.len();
        io::Seek::seek(&mut source, io::SeekFrom::Start(size.saturating_sub(LOG_MAX_BYTES)))?;
        let mut source = io::BufReader::new(io::Read::take(source, LOG_MAX_BYTES));
        let mut target = io::BufWriter::new(File::create(into)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut one = io::Read::take(&mut source, LINE_MAX_BYTES);
            if io::BufRead::read_until(&mut one, b'\n', &mut line)? == 0 {
                return io::Write::flush(&mut target);
            }
            if line.windows(text.len()).any(|part| part == text) {
                io::Write::write_all(&mut target, &line)?;
            }
        }
    })();
    copied.map_err(|error| io_failure("cannot search the log", &error))
}

fn copy_tail(allowed: &[PathBuf], path: &Path, lines: u64, into: &Path) -> Result<(), Failed> {
    let mut source = files::open_to_read(allowed, path).map_err(|error| file_failure(&error))?;
    let copied = (|| {
        let size = source.metadata()?.len();
        let begin = begin_of_last_lines(&source, size, lines, LOG_MAX_BYTES)?;
        io::Seek::seek(&mut source, io::SeekFrom::Start(begin))?;
        let mut part = io::Read::take(source, size - begin);
        io::copy(&mut part, &mut File::create(into)?)
    })();
    copied.map(drop).map_err(|error| io_failure("cannot copy the log's end", &error))
}

pub(super) async fn upload_collected(context: &Context, id: CommandId) -> WorkEnd {
    let folder = context.paths.work_of(id);
    let opened = File::open(folder.join(COLLECTED));
    let file = opened.map_err(|error| io_failure("cannot read what was collected", &error))?;
    let name = fs::read_to_string(folder.join(NAME)).unwrap_or_else(|_| "log".to_owned());
    upload(context, id, &name, file).await
}

pub(super) async fn upload(context: &Context, id: CommandId, name: &str, file: File) -> WorkEnd {
    let done = context
        .server()?
        .upload(&id.to_string(), name, file)
        .await
        .map_err(|error| transfer_failure(&error))?;
    result(json!({ "size_bytes": done.size_bytes, "sha256": done.sha256, "name": name }))
}

// --- file_pull --------------------------------------------------------------

pub(super) async fn pull(context: &Context, payload: &FilePull, id: CommandId) -> WorkEnd {
    let allowed = context.config.allowed_paths.clone();
    upload_from(context, allowed, PathBuf::from(&payload.path), id).await
}

/// Uploads a file that lies below what is allowed.
pub(super) async fn upload_from(
    context: &Context,
    allowed: Vec<PathBuf>,
    path: PathBuf,
    id: CommandId,
) -> WorkEnd {
    let name = name_of(&path);
    let open = move || files::open_to_read(&allowed, &path).map_err(|error| file_failure(&error));
    let file = off_the_loop(open).await?;
    upload(context, id, &name, file).await
}

// --- file_push --------------------------------------------------------------

/// Where a file's content comes from: one of the three.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    pub text: Option<&'a str>,
    pub base64: Option<&'a str>,
    pub upload_id: Option<Uuid>,
    pub sha256: Option<&'a str>,
}

/// Where a file goes, and below what that must lie.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub allowed: Vec<PathBuf>,
    pub path: PathBuf,
}

fn target_of(context: &Context, payload: &FilePush) -> Target {
    Target { allowed: context.config.allowed_paths.clone(), path: PathBuf::from(&payload.path) }
}

/// Brings the content into the command's folder, and checks it.
pub(super) async fn fetch(context: &Context, payload: &FilePush, id: CommandId) -> WorkEnd {
    let content = Content {
        text: payload.content.as_deref(),
        base64: payload.content_base64.as_deref(),
        upload_id: payload.upload_id,
        sha256: payload.sha256.as_deref(),
    };
    fetch_content(context, content, target_of(context, payload), id).await
}

pub(super) async fn fetch_content(
    context: &Context,
    content: Content<'_>,
    target: Target,
    id: CommandId,
) -> WorkEnd {
    let fetched = fetched_of(context, id)?;
    // Before anything is brought: whether it may go there at all.
    off_the_loop(move || {
        NewFile::create(&target.allowed, &target.path, &id.to_string())
            .map(drop)
            .map_err(|error| file_failure(&error))
    })
    .await?;
    let brought = bring(context, content, &fetched).await;
    whole_or_gone(brought, &context.paths.work_of(id))
}

async fn bring(context: &Context, content: Content<'_>, into: &Path) -> Result<(), Failed> {
    if let Some(upload_id) = content.upload_id {
        let mut file = File::create(into).map_err(|error| io_failure("cannot save", &error))?;
        let server = context.server()?;
        let done = server.download(&upload_id.to_string(), &mut file, content.sha256).await;
        return done.map(drop).map_err(|error| transfer_failure(&error));
    }
    let bytes = match (content.text, content.base64) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(bytes) => bytes,
            Err(error) => {
                let why = format!("payload.content_base64: expected Base64: {error}");
                return Err(Failed::because(error_code::REJECTED, why));
            }
        },
        (None, None) => {
            let why = "payload.content: expected a content";
            return Err(Failed::because(error_code::REJECTED, why));
        }
    };
    let found = transfer::hex(&Sha256::digest(&bytes));
    transfer::check_sha256(content.sha256, &found).map_err(|error| transfer_failure(&error))?;
    fs::write(into, bytes).map_err(|error| io_failure("cannot save", &error))
}

/// Where a fetched file lies until it is installed.
pub(super) fn fetched_of(context: &Context, id: CommandId) -> Result<PathBuf, Failed> {
    Ok(work_folder(context, id)?.join(FETCHED))
}

pub(super) async fn install(context: &Context, payload: &FilePush, id: CommandId) -> WorkEnd {
    let mode = payload.mode_bits().unwrap_or(0o644);
    let fetched = fetched_of(context, id)?;
    let installed = install_file(fetched, target_of(context, payload), mode, id).await?;
    result(json!({
        "path": payload.path, "size_bytes": installed.size_bytes, "sha256": installed.sha256
    }))
}

/// Writes beside the target and renames: whoever reads sees the old file or the new one.
pub(super) async fn install_file(
    from: PathBuf,
    target: Target,
    mode: u32,
    id: CommandId,
) -> Result<Transferred, Failed> {
    off_the_loop(move || {
        let unreadable = |error| io_failure("cannot read what was fetched", &error);
        let mut source = File::open(&from).map_err(unreadable)?;
        let size_bytes = source.metadata().map_err(unreadable)?.len();
        if size_bytes > UPLOAD_MAX_BYTES {
            return Err(transfer_failure(&TransferError::TooLarge { size_bytes }));
        }
        let sha256 = transfer::sha256_of(&mut source, size_bytes).map_err(unreadable)?;
        io::Seek::rewind(&mut source).map_err(unreadable)?;
        let mut file = NewFile::create(&target.allowed, &target.path, &id.to_string())
            .map_err(|error| file_failure(&error))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match io::Read::read(&mut source, &mut buffer).map_err(unreadable)? {
                0 => break,
                n => file.write(&buffer[..n]).map_err(|error| file_failure(&error))?,
            }
        }
        file.install(mode).map_err(|error| file_failure(&error))?;
        Ok(Transferred { size_bytes, sha256 })
    })
    .await
}
