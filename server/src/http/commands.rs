//! Commands: `/projects/{project}/commands` (chapter 3).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use quarterdeck_protocol::{
    api::{
        CancelCommands, CancelledCommands, Command, CreateCommands, CreatedCommands, Page,
        TimelineEntry,
    },
    ids::CommandId,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{
    App,
    extract::{Operator, PathId, Viewer},
    idempotency::{IdempotencyKey, once},
    json::{self, Json},
    openapi::{CreateParams, ListParams},
    problem::{Error, Result},
    query::{Params, page},
};
use crate::store::commands::{self, listing};

/// Lists commands, newest first.
#[utoipa::path(get, path = "/projects/{project}/commands", tag = "commands",
    params(ListParams,
        ("status" = Option<String>, Query, description = "One or more, with commas."),
        ("type" = Option<String>, Query, description = "One or more, with commas; !name inverts, ~name is fuzzy."),
        ("device" = Option<String>, Query, description = "One or more, with commas."),
        ("user" = Option<String>, Query), ("batch_id" = Option<String>, Query),
        ("id" = Option<String>, Query),
        ("from" = Option<Timestamp>, Query), ("to" = Option<Timestamp>, Query),
        ("priority" = Option<String>, Query, description = "One or more, with commas."),
        ("error_code" = Option<String>, Query),
        ("q" = Option<String>, Query, description = "Words in device, operation, user, notes or id; !word inverts, ~word is fuzzy.")),
    responses((status = 200, body = Page<Command>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<Command>>> {
    let paging = params.paging()?;
    page::<listing::Filter>(&app.store, &member.project, &paging, &params.filters()).await
}

/// Submits one operation for one or many devices.
#[utoipa::path(post, path = "/projects/{project}/commands", tag = "commands",
    params(CreateParams), responses((status = 201, body = CreatedCommands)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    member: Operator,
    key: IdempotencyKey,
    Json { value: request, bytes }: Json<CreateCommands>,
) -> Result<Response> {
    let key = key.of(member.project.as_str(), &member.caller.name, &bytes);
    let (engine, actor, project) =
        (app.engine.clone(), member.caller.actor(), member.project.clone());
    let response = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(async move { Ok(engine.submit_in(tx, &actor, &project, &request).await?) })
    })
    .await?;
    app.audit_changed_of(&member.project);
    Ok(response)
}

/// Reads one command, whole.
#[utoipa::path(get, path = "/projects/{project}/commands/{id}", tag = "commands",
    responses((status = 200, body = Command)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
) -> Result<axum::Json<Command>> {
    let id = command_id(&id)?;
    let mut tx = app.store.read().await?;
    let command = commands::get(&mut tx, &member.project, id).await?;
    Ok(axum::Json(command.ok_or_else(|| Error::not_found("command"))?))
}

/// Cancels a command: at once when its device does not have it yet, else on the device's word.
#[utoipa::path(post, path = "/projects/{project}/commands/{id}/cancel", tag = "commands",
    responses((status = 200, body = Command), (status = 409)))]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    member: Operator,
    PathId(id): PathId,
) -> Result<axum::Json<Command>> {
    let id = command_id(&id)?;
    let actor = member.caller.actor();
    let command = app.engine.cancel(&actor, &member.project, id).await?;
    app.audit_changed_of(&member.project);
    Ok(axum::Json(command))
}

/// Cancels many commands, by id or by batch.
#[utoipa::path(post, path = "/projects/{project}/commands/cancel", tag = "commands",
    responses((status = 200, body = CancelledCommands)))]
pub(super) async fn cancel_many(
    State(app): State<Arc<App>>,
    member: Operator,
    Json { value: request, .. }: Json<CancelCommands>,
) -> Result<axum::Json<CancelledCommands>> {
    let actor = member.caller.actor();
    let cancelled = app.engine.cancel_many(&actor, &member.project, request).await?;
    app.audit_changed_of(&member.project);
    Ok(axum::Json(cancelled))
}

/// What a retry may say.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryCommand {
    /// Needed for dangerous operations.
    confirm: bool,
}

/// Submits the same again: a new command, with `retry_of`.
#[utoipa::path(post, path = "/projects/{project}/commands/{id}/retry", tag = "commands",
    params(CreateParams), request_body = Option<RetryCommand>, responses((status = 201, body = Command), (status = 409)))]
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    member: Operator,
    PathId(id): PathId,
    key: IdempotencyKey,
    request: Request,
) -> Result<Response> {
    let id = command_id(&id)?;
    let bytes = json::read_body(request).await?;
    let body = if bytes.is_empty() { RetryCommand::default() } else { json::parse(&bytes)? };
    let key = key.of(member.project.as_str(), &member.caller.name, &bytes);
    let (engine, actor, project) =
        (app.engine.clone(), member.caller.actor(), member.project.clone());
    let response = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(async move { Ok(engine.retry_in(tx, &actor, &project, id, body.confirm).await?) })
    })
    .await?;
    app.audit_changed_of(&member.project);
    Ok(response)
}

/// Lists what happened to a command, in order.
#[utoipa::path(get, path = "/projects/{project}/commands/{id}/timeline", tag = "commands",
    params(ListParams), responses((status = 200, body = Page<TimelineEntry>)))]
pub(super) async fn timeline(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
    mut params: Params,
) -> Result<axum::Json<Page<TimelineEntry>>> {
    let id = command_id(&id)?;
    let paging = params.paging()?;
    params.finish()?;
    let descending = paging.descending(&["seq", "at"], false)?;
    let after: Option<i64> = paging
        .after_key()?
        .map(|key| {
            key.parse()
                .map_err(|_| Error::invalid("cursor", "expected a next_cursor of this listing"))
        })
        .transpose()?;
    let mut tx = app.store.read().await?;
    let entries = commands::timeline(&mut tx, &member.project, id).await?;
    let mut entries = entries.ok_or_else(|| Error::not_found("command"))?;
    let total = entries.len() as u64;
    if descending {
        entries.reverse();
    }
    entries.retain(|entry| {
        after.is_none_or(|after| if descending { entry.seq < after } else { entry.seq > after })
    });
    Ok(axum::Json(paging.page(entries, total, |entry| entry.seq.to_string())))
}

fn command_id(text: &str) -> Result<CommandId> {
    text.parse().map_err(|_| Error::not_found("command"))
}
