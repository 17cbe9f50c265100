//! Files that commands bring (`file_pull`, `collect_logs` and the like) or take (`file_push`):
//! `/uploads/{id}`.
//!
//! ```text
//!  body ──▶ temporary file, hashed on the way ──▶ fsync ──▶ rename ──▶ row and audit, one commit
//! ```
//!
//! What a command brings has the command's id, and only its device may bring
//! it, while the command has not ended. What a command takes has an id that the
//! user chose, a new UUID; one that is taken in another project is not found
//! (404). Bringing the same again is answered as the first
//! time; other content under the same id is refused: a file never changes.

use std::{
    io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use axum::{
    body::Body,
    extract::{FromRequestParts as _, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use quarterdeck_protocol::{
    api::{AuditOutcome, Role},
    command::CommandStatus,
    ids::{CommandId, DeviceId, ProjectId},
    limits::UPLOAD_MAX_BYTES,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{fs::File, io::AsyncWriteExt as _, sync::Semaphore};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::{
    App,
    extract::{CallerKind, DeviceCaller, PathId, SignedIn, is_basic, record_denied, role_now},
    problem::{Error, Result},
    query::Params,
};
use crate::{
    clock::Clock,
    hex,
    store::{
        audit::{Actor, NewEntry, SERVER_CHAIN},
        commands, projects,
        uploads::{self, Upload},
    },
};

/// Files that may arrive at once.
pub const UPLOADS_AT_ONCE_MAX: usize = 32;
/// How long a sender may bring nothing, in milliseconds.
pub const UPLOAD_IDLE_MS: u64 = 30_000;
/// What must stay free on the disk for the database, in bytes.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// How often the free space is looked at while a file arrives, in bytes.
const DISK_CHECK_BYTES: u64 = 16 * 1024 * 1024;
/// The longest name of a file, in characters.
pub const FILE_NAME_MAX_CHARS: usize = 200;
/// Temporary files begin so.
const TEMPORARY: &str = ".incoming-";
const CHUNK_BYTES: usize = 64 * 1024;

/// The operations whose commands bring a file; of all others a device may send none.
const BRING: [&str; 5] =
    ["collect_logs", "config_snapshot", "file_pull", "log_upload", "software_list"];

/// Where the files lie.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    at_once: Semaphore,
}

impl Files {
    /// Opens the folder; removes what was left half-way.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder, at_once: Semaphore::new(UPLOADS_AT_ONCE_MAX) })
    }

    /// A name covers its content: two who bring different files under one id do not meet.
    fn place(&self, id: &str, sha256: &str) -> PathBuf {
        self.folder.join(format!("{id}-{sha256}"))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let about = nix::sys::statvfs::statvfs(&self.folder)?;
        Ok(about.blocks_available() as u64 * about.fragment_size() as u64)
    }

    fn check_space(&self, wanted_bytes: u64) -> Result<()> {
        let free = self.free_bytes().map_err(|error| failed(&error))?;
        if free < wanted_bytes.saturating_add(DISK_RESERVE_BYTES) {
            return Err(Error::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk_full",
                format!("the server's disk has {free} bytes left, too few for this file"),
            ));
        }
        Ok(())
    }
}

/// What arrived.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct Uploaded {
    id: String,
    name: String,
    size_bytes: u64,
    /// In hex.
    sha256: String,
}

/// Who brings or asks for a file.
enum Who {
    Device { project: ProjectId, device: DeviceId },
    User { project: ProjectId, name: String },
}

impl Who {
    fn project(&self) -> &ProjectId {
        let (Self::Device { project, .. } | Self::User { project, .. }) = self;
        project
    }

    fn name(&self) -> String {
        match self {
            Self::Device { device, .. } => format!("device:{device}"),
            Self::User { name, .. } => name.clone(),
        }
    }
}

/// Takes a file: from a device for its own command, or from an operator for a push.
#[utoipa::path(put, path = "/uploads/{id}", tag = "files",
    params(("name" = Option<String>, Query, description = "The file's name."),
        ("sha256" = Option<String>, Query, description = "In hex; checked."),
        ("project" = Option<String>, Query, description = "Of a user: whose file it becomes; `default` when absent.")),
    request_body(content = String, content_type = "application/octet-stream"),
    security(("bearer" = []), ("device" = [])),
    responses((status = 201, body = Uploaded), (status = 200, body = Uploaded, description = "It was here already.")))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    mut params: Params,
    request: Request,
) -> Result<Response> {
    let (name, expected) = (params.take("name"), params.take("sha256"));
    let project = params.take("project");
    params.finish()?;
    let name = file_name(name)?;
    let expected = expected.map(|sum| sum.to_ascii_lowercase());
    if expected.as_ref().is_some_and(|sum| hex::decode(sum).is_none_or(|bytes| bytes.len() != 32)) {
        return Err(Error::invalid("sha256", "expected 64 hexadecimal digits"));
    }
    let id: Uuid = id.parse().map_err(|_| Error::not_found("command"))?;
    let (mut parts, body) = request.into_parts();
    let (who, from) = if is_basic(&parts.headers) {
        let caller = DeviceCaller::from_request_parts(&mut parts, &app).await?;
        (Who::Device { project: caller.project, device: caller.device }, caller.from)
    } else {
        let SignedIn(caller) = SignedIn::from_request_parts(&mut parts, &app).await?;
        let named = match (project, &caller.kind) {
            (Some(named), _) => named,
            (None, CallerKind::Service { project, .. }) => project.to_string(),
            (None, CallerKind::User { .. }) => SERVER_CHAIN.to_owned(),
        };
        let project = ProjectId::new(&named).map_err(|_| Error::not_found("project"))?;
        match role_now(&app, &caller, &project).await? {
            None => return Err(Error::not_found("project")),
            Some(Role::Viewer) => {
                let path = parts.uri.path();
                record_denied(
                    &app,
                    caller.actor(),
                    Some(&project),
                    "file.upload",
                    path,
                    Value::Null,
                )
                .await;
                return Err(Error::forbidden("this needs the role operator"));
            }
            Some(Role::Operator | Role::Admin) => {}
        }
        (Who::User { project, name: caller.name.clone() }, caller.from)
    };
    may_bring(&app, &who, id).await?;
    let _place = app
        .files
        .at_once
        .try_acquire()
        .map_err(|_| Error::unavailable("too many files arrive at once"))?;
    let declared = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > UPLOAD_MAX_BYTES) {
        return Err(Error::too_large(UPLOAD_MAX_BYTES));
    }
    app.files.check_space(declared.unwrap_or(0))?;

    let mut incoming = Incoming::begin(&app.files, &app.clock).await?;
    let sha256 = incoming.receive(&app.files, body).await?;
    if expected.is_some_and(|expected| expected != sha256) {
        return Err(Error::invalid("sha256", format!("the content's is {sha256}")));
    }
    let upload = Upload {
        id: id.to_string(),
        project_id: who.project().to_string(),
        device_id: match &who {
            Who::Device { device, .. } => Some(device.to_string()),
            Who::User { .. } => None,
        },
        name,
        size_bytes: incoming.size_bytes as i64,
        sha256,
        created_by: who.name(),
        created_at: app.clock.wall().as_millis(),
    };
    incoming.keep(&app.files.place(&upload.id, &upload.sha256)).await?;
    let actor = Actor { name: who.name(), from: from.to_string() };
    let is_new = store(&app, &who, id, upload.clone(), actor).await?;
    app.audit_changed_of(who.project());
    let shown = Uploaded {
        id: upload.id,
        name: upload.name,
        size_bytes: upload.size_bytes as u64,
        sha256: upload.sha256,
    };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(shown)).into_response())
}

/// Gives a file: to the device whose command takes it, or to a member of its project.
#[utoipa::path(get, path = "/uploads/{id}", tag = "files", security(("bearer" = []), ("device" = [])),
    responses((status = 200, content_type = "application/octet-stream", body = String)))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    params: Params,
    request: Request,
) -> Result<Response> {
    params.finish()?;
    let (mut parts, _) = request.into_parts();
    let not_found = || Error::not_found("file");
    if is_basic(&parts.headers) {
        let caller = DeviceCaller::from_request_parts(&mut parts, &app).await?;
        let id: Uuid = id.parse().map_err(|_| not_found())?;
        let mut tx = app.store.read().await?;
        let upload = uploads::by_id(&mut tx, &caller.project, &id.to_string()).await?;
        let wanted = uploads::wanted_by(&mut tx, &caller.project, &caller.device).await?;
        let is_wanted = wanted.iter().any(|payload| asks_for(payload, id));
        let upload = upload.filter(|_| is_wanted).ok_or_else(not_found)?;
        return send(&app, &upload, &parts.headers).await;
    }
    let SignedIn(caller) = SignedIn::from_request_parts(&mut parts, &app).await?;
    let id: Uuid = id.parse().map_err(|_| not_found())?;
    let mut tx = app.store.read().await?;
    let upload = uploads::find(&mut tx, &id.to_string()).await?.ok_or_else(not_found)?;
    drop(tx);
    let project = ProjectId::new(&upload.project_id).map_err(|_| Error::internal())?;
    role_now(&app, &caller, &project).await?.ok_or_else(not_found)?;
    send(&app, &upload, &parts.headers).await
}

/// Sends a file's bytes.
pub(super) async fn send(app: &App, upload: &Upload, headers: &HeaderMap) -> Result<Response> {
    let tag = format!("\"{}\"", upload.sha256);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes()) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let file = File::open(app.files.place(&upload.id, &upload.sha256)).await.map_err(|error| {
        tracing::error!(%error, id = upload.id, "a file that was taken is gone");
        Error::internal()
    })?;
    let body = Body::from_stream(ReaderStream::with_capacity(file, CHUNK_BYTES).into_stream());
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(upload.size_bytes));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    let disposition = format!("attachment; filename=\"{}\"", plain_name(&upload.name));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// Whether this file may come from there, before any of it is read.
async fn may_bring(app: &App, who: &Who, id: Uuid) -> Result<()> {
    let mut tx = app.store.read().await?;
    may_bring_in(&mut tx, who, id).await.map(drop)
}

/// Says whether a file under this id is already there.
async fn may_bring_in(tx: &mut crate::store::Tx, who: &Who, id: Uuid) -> Result<Option<Upload>> {
    let existing = uploads::find(tx, &id.to_string()).await?;
    let command = commands::get(tx, who.project(), CommandId(id)).await?;
    match who {
        Who::Device { device, .. } => {
            let command = command
                .filter(|command| command.device_id == *device && BRING.contains(&&*command.kind))
                .ok_or_else(|| Error::not_found("command"))?;
            if existing.is_none() && CommandStatus::is_terminal(command.status) {
                return Err(Error::conflict("already_finished", "the command has ended"));
            }
        }
        Who::User { project, .. } => {
            if command.is_some() {
                return Err(Error::conflict(
                    "id_taken",
                    "this is a command's id; choose a new UUID",
                ));
            }
            // What is another project's is no id here, and its own device must find it free.
            let is_foreign =
                existing.as_ref().is_some_and(|upload| upload.project_id != project.as_str());
            if is_foreign || commands::is_known(tx, CommandId(id)).await? {
                return Err(Error::not_found("command"));
            }
        }
    }
    Ok(existing)
}

/// Writes the row, unless the same file is there: `true` when it is new.
async fn store(app: &App, who: &Who, id: Uuid, upload: Upload, actor: Actor) -> Result<bool> {
    let auditor = app.auditor.clone();
    let now = app.clock.wall();
    let who = match who {
        Who::Device { project, device } => {
            Who::Device { project: project.clone(), device: device.clone() }
        }
        Who::User { project, name } => Who::User { project: project.clone(), name: name.clone() },
    };
    let place = app.files.place(&upload.id, &upload.sha256);
    let written = app
        .write(move |tx| {
            Box::pin(async move {
                if let Some(existing) = may_bring_in(tx, &who, id).await? {
                    return if existing.sha256 == upload.sha256 {
                        Ok(Stored::Before)
                    } else {
                        Err(Error::conflict("other_content", "another file was brought under this id"))
                    };
                }
                if !projects::exists(tx, who.project().as_str()).await? {
                    return Err(Error::not_found("project"));
                }
                uploads::insert(tx, &upload).await?;
                let entry = NewEntry {
                    project: who.project(),
                    at: now,
                    actor: &actor,
                    action: "file.upload",
                    object: format!("file:{id}"),
                    outcome: AuditOutcome::Ok,
                    detail: json!({ "name": upload.name, "size_bytes": upload.size_bytes, "sha256": upload.sha256 }),
                };
                auditor.append(tx, entry).await?;
                Ok(Stored::Now)
            })
        })
        .await;
    match written {
        Ok(stored) => Ok(matches!(stored, Stored::Now)),
        Err(error) => {
            // Refused, so no row names it. Whether a failed commit did is not known: then it stays.
            if error.status.is_client_error() {
                let _ = tokio::fs::remove_file(place).await;
            }
            Err(error)
        }
    }
}

enum Stored {
    Now,
    Before,
}

/// A file on its way in; dropped before it is kept, it is removed.
struct Incoming {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    is_kept: bool,
}

impl Incoming {
    async fn begin(files: &Files, clock: &Clock) -> Result<Self> {
        let path = files.folder.join(format!("{TEMPORARY}{}", clock.new_uuid()));
        let file = File::create_new(&path).await.map_err(|error| failed(&error))?;
        Ok(Self { path, file, size_bytes: 0, is_kept: false })
    }

    /// Writes a body to disk; answers its hash in hex.
    async fn receive(&mut self, files: &Files, mut body: Body) -> Result<String> {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut checked_bytes = 0;
        let idle = Duration::from_millis(UPLOAD_IDLE_MS);
        loop {
            let frame = tokio::time::timeout(idle, body.frame()).await.map_err(|_| {
                Error::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the file stopped arriving")
            })?;
            let Some(frame) = frame else { break };
            let frame =
                frame.map_err(|_| Error::malformed("incomplete_body", "the body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            self.size_bytes += data.len() as u64;
            if self.size_bytes > UPLOAD_MAX_BYTES {
                return Err(Error::too_large(UPLOAD_MAX_BYTES));
            }
            if self.size_bytes - checked_bytes > DISK_CHECK_BYTES {
                checked_bytes = self.size_bytes;
                files.check_space(0)?;
            }
            hash.update(&data);
            self.file.write_all(&data).await.map_err(|error| failed(&error))?;
        }
        Ok(hex::encode(hash.finish().as_ref()))
    }

    /// Makes the file durable under its name.
    async fn keep(&mut self, place: &FilePath) -> Result<()> {
        self.file.flush().await.map_err(|error| failed(&error))?;
        self.file.sync_all().await.map_err(|error| failed(&error))?;
        tokio::fs::rename(&self.path, place).await.map_err(|error| failed(&error))?;
        self.is_kept = true;
        if let Some(folder) = place.parent() {
            let folder = File::open(folder).await.map_err(|error| failed(&error))?;
            folder.sync_all().await.map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_kept {
            // Swept at the next start if this fails.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn failed(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::StorageFull {
        return Error::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk_full",
            "the server's disk is full",
        );
    }
    tracing::error!(%error, "a file could not be stored");
    Error::internal()
}

fn asks_for(payload: &str, id: Uuid) -> bool {
    serde_json::from_str::<Value>(payload).ok().and_then(|payload| uploads::asked_for(&payload))
        == Some(id)
}

fn file_name(name: Option<String>) -> Result<String> {
    let name = name.unwrap_or_else(|| "file".to_owned());
    let is_good = (1..=FILE_NAME_MAX_CHARS).contains(&name.chars().count())
        && !name.chars().any(char::is_control);
    if is_good {
        Ok(name)
    } else {
        Err(Error::invalid(
            "name",
            format!("expected 1 to {FILE_NAME_MAX_CHARS} characters in one line"),
        ))
    }
}

/// Without a path and whatever a header, a shell or a file system might misread.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-+".contains(c) { c } else { '_' })
        .collect();
    if plain.trim_matches(['.', '_']).is_empty() { "file".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_header_is_one_plain_segment() {
        for (name, plain) in [
            ("journal.log", "journal.log"),
            ("/var/log/a b.log", "a_b.log"),
            ("..", "file"),
            ("x\"; filename=\"y", "x___filename__y"),
            ("C:\\x\\é", "file"),
        ] {
            assert_eq!(plain_name(name), plain);
        }
    }
}
