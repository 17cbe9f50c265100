//! `collect_logs`, `file_pull` and `file_push`.
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
    payload::{CollectLogs, FilePull, FilePush, LogSource},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{
    Context, fail, io_failure, program_end, result, script::base_environment,
    tail::begin_of_last_lines,
};
use crate::{
    domain::command::Outcome,
    io::{
        durable,
        files::{self, FileError, NewFile},
        process,
        supervisor::Spec,
        transfer::{self, TransferError, Transferred},
    },
    work::{Failed, Reports, WorkEnd},
};

/// The longest log that is collected, in bytes.
const LOG_MAX_BYTES: u64 = 256 * 1024 * 1024;
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

fn transfer_failure(error: &TransferError) -> Failed {
    match error {
        TransferError::Write { source } => io_failure("cannot save what was taken", source),
        _ => Failed::because(error_code::TRANSFER_FAILED, crate::io::http::describe(error)),
    }
}

async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Failed::because(error_code::INTERNAL, "the transfer itself failed"))
    })
}

fn work_folder(context: &Context, id: CommandId) -> Result<PathBuf, Failed> {
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
    fs::write(folder.join(NAME), name).map_err(|error| io_failure("cannot write", &error))?;
    Ok(Outcome::default())
}

/// Has `journalctl` write into the file itself; its output never passes through the agent.
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
    // The words reach the program as arguments; the shell reads only this fixed text.
    let into_file = r#"out=$1; shift; exec "$@" > "$out""#;
    let mut argv: Vec<String> = ["sh", "-c", into_file, "sh"].map(str::to_owned).into();
    argv.push(folder.join(COLLECTED).display().to_string());
    argv.extend(line);
    let spec = Spec {
        argv,
        env: base_environment(reports.id, None),
        cwd: Some("/".into()),
        user: None,
        memory_max_bytes: None,
        grace_ms: context.config.limits.script_grace_ms,
        outlives_agent: false,
    };
    program_end("journalctl", process::run(&context.launcher, &spec, end, reports).await)?;
    Ok(payload.unit.as_ref().map_or_else(|| "journal.log".to_owned(), |unit| format!("{unit}.log")))
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

async fn upload(context: &Context, id: CommandId, name: &str, file: File) -> WorkEnd {
    let done = context
        .server()?
        .upload(&id.to_string(), name, file)
        .await
        .map_err(|error| transfer_failure(&error))?;
    result(json!({ "size_bytes": done.size_bytes, "sha256": done.sha256, "name": name }))
}

// --- file_pull --------------------------------------------------------------

pub(super) async fn pull(context: &Context, payload: &FilePull, id: CommandId) -> WorkEnd {
    let path = PathBuf::from(&payload.path);
    let name = name_of(&path);
    let allowed = context.config.allowed_paths.clone();
    let open = move || files::open_to_read(&allowed, &path).map_err(|error| file_failure(&error));
    let file = off_the_loop(open).await?;
    upload(context, id, &name, file).await
}

// --- file_push --------------------------------------------------------------

/// Brings the content into the command's folder, and checks it.
pub(super) async fn fetch(context: &Context, payload: &FilePush, id: CommandId) -> WorkEnd {
    let folder = work_folder(context, id)?;
    let fetched = folder.join(FETCHED);
    // Before anything is brought: whether it may go there at all.
    let (allowed, path) = (context.config.allowed_paths.clone(), PathBuf::from(&payload.path));
    off_the_loop(move || {
        NewFile::create(&allowed, &path, &id.to_string())
            .map(drop)
            .map_err(|error| file_failure(&error))
    })
    .await?;
    if let Some(upload_id) = payload.upload_id {
        let mut target =
            File::create(&fetched).map_err(|error| io_failure("cannot save", &error))?;
        let server = context.server()?;
        let expected = payload.sha256.as_deref();
        let done = server.download(&upload_id.to_string(), &mut target, expected).await;
        done.map_err(|error| transfer_failure(&error))?;
        return Ok(Outcome::default());
    }
    let content = match (&payload.content, &payload.content_base64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(text)) => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(bytes) => bytes,
            Err(error) => {
                return fail(
                    error_code::REJECTED,
                    format!("payload.content_base64: expected Base64: {error}"),
                );
            }
        },
        (None, None) => return fail(error_code::REJECTED, "payload.content: expected a content"),
    };
    let found = transfer::hex(&Sha256::digest(&content));
    transfer::check_sha256(payload.sha256.as_deref(), &found)
        .map_err(|error| transfer_failure(&error))?;
    fs::write(&fetched, content).map_err(|error| io_failure("cannot save", &error))?;
    Ok(Outcome::default())
}

/// Writes beside the target and renames: whoever reads sees the old file or the new one.
pub(super) async fn install(context: &Context, payload: &FilePush, id: CommandId) -> WorkEnd {
    let fetched = context.paths.work_of(id).join(FETCHED);
    let allowed = context.config.allowed_paths.clone();
    let (path, mode) = (PathBuf::from(&payload.path), payload.mode_bits().unwrap_or(0o644));
    let installed = off_the_loop(move || {
        let unreadable = |error| io_failure("cannot read what was fetched", &error);
        let mut source = File::open(&fetched).map_err(unreadable)?;
        let size_bytes = source.metadata().map_err(unreadable)?.len();
        if size_bytes > UPLOAD_MAX_BYTES {
            return Err(transfer_failure(&TransferError::TooLarge { size_bytes }));
        }
        let sha256 = transfer::sha256_of(&mut source, size_bytes).map_err(unreadable)?;
        io::Seek::rewind(&mut source).map_err(unreadable)?;
        let mut target = NewFile::create(&allowed, &path, &id.to_string())
            .map_err(|error| file_failure(&error))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match io::Read::read(&mut source, &mut buffer).map_err(unreadable)? {
                0 => break,
                n => target.write(&buffer[..n]).map_err(|error| file_failure(&error))?,
            }
        }
        target.install(mode).map_err(|error| file_failure(&error))?;
        Ok(Transferred { size_bytes, sha256 })
    })
    .await?;
    result(json!({
        "path": payload.path, "size_bytes": installed.size_bytes, "sha256": installed.sha256
    }))
}
