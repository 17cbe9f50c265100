//! Recordings: `/projects/{project}/recordings`. Each look into one is recorded in turn.

pub(super) mod views;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use quarterdeck_protocol::{
    api::{
        AuditOutcome, Page, Recording, RecordingCheck, RecordingEvent, RecordingStatus,
        RecordingUse,
    },
    ids::ProjectId,
    live::Listing,
    time::Timestamp,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    App,
    extract::{Admin, Member, PathId, Viewer},
    openapi::ListParams,
    problem::{Error, Result},
    query::{Params, page},
};
use crate::{
    store::{
        audit::{Actor, NewEntry},
        recordings,
    },
    tunnels::{
        cast::{self, Format, Recorded},
        log::{Check, LogError, Place},
    },
};

/// Pieces of an export that may wait for the client.
const EXPORT_MAX_PIECES: usize = 8;

/// Lists recordings, newest first.
#[utoipa::path(get, path = "/projects/{project}/recordings", tag = "tunnels",
    params(ListParams,
        ("device" = Option<String>, Query), ("user" = Option<String>, Query),
        ("status" = Option<String>, Query, description = "recording, complete or incomplete"),
        ("from" = Option<Timestamp>, Query), ("to" = Option<Timestamp>, Query)),
    responses((status = 200, body = Page<Recording>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<Recording>>> {
    let paging = params.paging()?;
    page::<recordings::Filter>(&app.store, &member.project, &paging, &params.filters()).await
}

/// Reads what is known of one recording.
#[utoipa::path(get, path = "/projects/{project}/recordings/{id}", tag = "tunnels",
    responses((status = 200, body = Recording)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
) -> Result<axum::Json<Recording>> {
    Ok(axum::Json(found(&app, &member, &id).await?.0))
}

async fn found<N>(app: &App, member: &Member<N>, id: &str) -> Result<(Recording, Place)> {
    let mut tx = app.store.read().await?;
    let recording = recordings::get(&mut tx, &member.project, id).await?;
    let recording = recording.ok_or_else(|| Error::not_found("recording"))?;
    let place = app.tunnels.place(recording.tunnel_id);
    Ok((recording, place))
}

/// The same, once its log is there: its session may just be taken up.
async fn begun<N>(app: &App, member: &Member<N>, id: &str) -> Result<(Recording, Place)> {
    let (recording, place) = found(app, member, id).await?;
    if recording.status == RecordingStatus::Recording {
        app.tunnels.session_or_start(recording.tunnel_id).await?;
    }
    Ok((recording, place))
}

fn recorded(project: &ProjectId, recording: &Recording, place: Place) -> Recorded {
    Recorded {
        project: project.to_string(),
        id: recording.id.clone(),
        place,
        is_complete: recording.status == RecordingStatus::Complete,
    }
}

/// Reads a recording's events, a page at a time.
#[utoipa::path(get, path = "/projects/{project}/recordings/{id}/events", tag = "tunnels",
    params(ListParams), responses((status = 200, body = Page<RecordingEvent>)))]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
    mut params: Params,
) -> Result<axum::Json<Page<RecordingEvent>>> {
    let paging = params.paging()?;
    params.finish()?;
    paging.one_order("time_ms")?;
    let skip: u64 = match paging.after_key()? {
        None => 0,
        Some(key) => key
            .parse()
            .map_err(|_| Error::invalid("cursor", "expected a next_cursor of this listing"))?,
    };
    let (recording, place) = begun(&app, &member, &id).await?;
    let limit = paging.limit as usize;
    let recorded = recorded(&member.project, &recording, place);
    let read = blocking(move || cast::events(&recorded, skip, limit)).await;
    let (reader, now_ms) = (&member.caller.name, app.clock.now().steady_ms);
    let look = Look::new(&app, &member, "recording.view", &recording);
    let (items, total) = match read {
        Ok(read) => read,
        Err(error) => {
            let detail = json!({ "from_event": skip, "problem": error.detail });
            look.note(AuditOutcome::Failed, detail).await?;
            return Err(error);
        }
    };
    if skip == 0 || !app.views.goes_on(reader, &recording.id, now_ms) {
        look.ok(if skip == 0 { Value::Null } else { json!({ "from_event": skip }) }).await?;
        app.views.began(reader, &recording.id, now_ms);
    }
    let next = skip + items.len() as u64;
    let next_cursor = (next < total).then(|| paging.after(&next.to_string()));
    Ok(axum::Json(Page { items, next_cursor, total }))
}

/// Exports a recording as an asciicast v2 file.
#[utoipa::path(get, path = "/projects/{project}/recordings/{id}/cast", tag = "tunnels",
    params(("purpose" = inline(Option<RecordingUse>), Query,
        description = "What it is downloaded for. The audit log has a view as such; all else is an export, which is the default.")),
    responses((status = 200, content_type = "application/x-asciicast", body = String)))]
pub(super) async fn cast(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
    mut params: Params,
) -> Result<Response> {
    let purpose = params.parse("purpose", "export, view or verify")?;
    params.finish()?;
    export(&app, &member, &id, Format::Cast, purpose.unwrap_or_default()).await
}

/// Exports the output of a recording, byte for byte.
#[utoipa::path(get, path = "/projects/{project}/recordings/{id}/bytes", tag = "tunnels",
    responses((status = 200, content_type = "application/octet-stream", body = String)))]
pub(super) async fn bytes(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
) -> Result<Response> {
    export(&app, &member, &id, Format::Bytes, RecordingUse::Export).await
}

async fn export<N>(
    app: &Arc<App>,
    member: &Member<N>,
    id: &str,
    format: Format,
    purpose: RecordingUse,
) -> Result<Response> {
    let (recording, place) = begun(app, member, id).await?;
    let (kind, extension) = match format {
        Format::Cast => ("application/x-asciicast", "cast"),
        Format::Bytes => ("application/octet-stream", "bin"),
    };
    let recorded = Arc::new(recorded(&member.project, &recording, place));
    let action = match purpose {
        // All of it leaves, whatever it is said to be compared with.
        RecordingUse::Export | RecordingUse::Verify => "recording.export",
        RecordingUse::View => "recording.view",
    };
    let look = Look::new(app, member, action, &recording);
    let opened = Arc::clone(&recorded);
    if let Err(error) = blocking(move || opened.open()).await {
        let detail = json!({ "as": extension, "problem": error.detail });
        look.note(AuditOutcome::Failed, detail).await?;
        return Err(error);
    }
    look.ok(json!({ "as": extension })).await?;
    let (pieces_to, pieces) = mpsc::channel(EXPORT_MAX_PIECES);
    // It ends with the recording, or when the client has gone.
    let exporting =
        tokio::task::spawn_blocking(move || cast::export(&recorded, format, &pieces_to));
    tokio::spawn(async move {
        let Ok(Err(error)) = exporting.await else { return };
        tracing::warn!(recording = look.object, %error, "a recording could not be read to its end");
        let detail = json!({ "as": extension, "problem": error.to_string() });
        // That it was begun is recorded in any case.
        let _ = look.note(AuditOutcome::Failed, detail).await;
    });
    let stream = futures_util::stream::unfold(pieces, async |mut pieces| {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let name = format!("attachment; filename=\"{}.{extension}\"", recording.id);
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Checks that a recording is whole, and as it was written.
#[utoipa::path(get, path = "/projects/{project}/recordings/{id}/verify", tag = "tunnels",
    responses((status = 200, body = RecordingCheck)))]
pub(super) async fn verify(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
) -> Result<axum::Json<RecordingCheck>> {
    let (recording, place) = begun(&app, &member, &id).await?;
    let is_over = recording.status != RecordingStatus::Recording;
    let check = blocking(move || match place.check(is_over) {
        Err(error) if is_gone(&error) => {
            Ok(Check { problem: Some(GONE.to_owned()), ..Check::default() })
        }
        checked => checked,
    });
    let look = Look::new(&app, &member, "recording.verify", &recording);
    let check = match check.await {
        Ok(check) => check,
        Err(error) => {
            look.note(AuditOutcome::Failed, json!({ "problem": error.detail })).await?;
            return Err(error);
        }
    };
    let problem = match (check.problem, recording.status) {
        (Some(problem), _) => Some(problem),
        (None, RecordingStatus::Incomplete) => Some("it ended before its session did".to_owned()),
        (None, RecordingStatus::Recording | RecordingStatus::Complete) => None,
    };
    let so_far = (!is_over && problem.is_none())
        .then(|| "its session goes on: what there is so far is whole".to_owned());
    match &problem {
        None => look.ok(Value::Null).await?,
        Some(problem) => look.note(AuditOutcome::Failed, json!({ "problem": problem })).await?,
    }
    Ok(axum::Json(RecordingCheck {
        is_whole: problem.is_none() && is_over,
        chunks: check.chunks,
        bytes: check.bytes,
        sha256: check.sha256,
        problem: problem.or(so_far),
    }))
}

/// Deletes a recording for good.
#[utoipa::path(delete, path = "/projects/{project}/recordings/{id}", tag = "tunnels",
    responses((status = 204)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    member: Admin,
    PathId(id): PathId,
) -> Result<StatusCode> {
    let (recording, place) = found(&app, &member, &id).await?;
    if recording.status == RecordingStatus::Recording {
        return Err(Error::conflict("still_recording", "its session goes on; close that first"));
    }
    let (auditor, actor, at) = (app.auditor.clone(), member.caller.actor(), app.clock.wall());
    let project = member.project.clone();
    app.write(move |tx| {
        Box::pin(async move {
            if recordings::delete(tx, &recording.id).await? {
                let entry = NewEntry {
                    project: &project,
                    at,
                    actor: &actor,
                    action: "recording.delete",
                    object: format!("recording:{}", recording.id),
                    outcome: AuditOutcome::Ok,
                    detail: json!({ "device_id": recording.device_id, "user": recording.user }),
                };
                auditor.append(tx, entry).await?;
            }
            Ok(())
        })
    })
    .await?;
    // No row leads to it any more; the sweep at the next start takes what is left.
    blocking(move || place.delete().map_err(LogError::from)).await?;
    app.changed(&member.project, Listing::Recordings, &id);
    Ok(StatusCode::NO_CONTENT)
}

/// Somebody's look into a recording.
struct Look {
    app: Arc<App>,
    project: ProjectId,
    actor: Actor,
    action: &'static str,
    object: String,
}

impl Look {
    fn new<N>(
        app: &Arc<App>,
        member: &Member<N>,
        action: &'static str,
        recording: &Recording,
    ) -> Self {
        Self {
            app: Arc::clone(app),
            project: member.project.clone(),
            actor: member.caller.actor(),
            action,
            object: format!("recording:{}", recording.id),
        }
    }

    /// Records it, before they see anything.
    async fn ok(&self, detail: Value) -> Result<()> {
        self.note(AuditOutcome::Ok, detail).await
    }

    async fn note(&self, outcome: AuditOutcome, detail: Value) -> Result<()> {
        let (auditor, at) = (self.app.auditor.clone(), self.app.clock.wall());
        let (project, actor) = (self.project.clone(), self.actor.clone());
        let (action, object) = (self.action, self.object.clone());
        self.app
            .write(move |tx| {
                Box::pin(async move {
                    let entry = NewEntry {
                        project: &project,
                        at,
                        actor: &actor,
                        action,
                        object,
                        outcome,
                        detail,
                    };
                    auditor.append(tx, entry).await?;
                    Ok(())
                })
            })
            .await?;
        self.app.audit_changed_of(&self.project);
        Ok(())
    }
}

const GONE: &str = "what was recorded is gone from the server's disk";

fn is_gone(error: &LogError) -> bool {
    matches!(error, LogError::Io(io) if io.kind() == std::io::ErrorKind::NotFound)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, LogError> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| Error::internal())?;
    done.map_err(|error| match &error {
        error if is_gone(error) => Error::conflict("recording_damaged", GONE),
        LogError::Broken { .. } | LogError::Cut { .. } | LogError::Empty => {
            let why = format!("the recording is damaged: {error}");
            Error::conflict("recording_damaged", why)
        }
        LogError::Io(_) | LogError::Full { .. } => {
            tracing::error!(%error, "a recording cannot be read");
            Error::internal()
        }
    })
}
