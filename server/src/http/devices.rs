//! Devices: `/projects/{project}/devices`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use quarterdeck_protocol::{
    api::{ChangeDevice, Command, Device, DeviceHealth, EnrollResponse, Page, TimelineEntry},
    ids::DeviceId,
    time::Timestamp,
};
use serde_json::Value;

use super::{
    App,
    extract::{Admin, Operator, PathId, Viewer, record_denied},
    idempotency::{IdempotencyKey, once},
    json::{self, Json},
    openapi::{CreateParams, ListParams},
    problem::{Error, Result},
    query::{Params, page},
    tunnel_rights,
};
use crate::store::{
    commands, device_events,
    devices::{self, listing},
};

/// Lists devices, by id.
#[utoipa::path(get, path = "/projects/{project}/devices", tag = "devices",
    params(ListParams,
        ("status" = Option<String>, Query, description = "One or more, with commas."),
        ("type" = Option<String>, Query), ("tag" = Option<String>, Query, description = "key=value, with commas."),
        ("tags" = Option<String>, Query, description = "The same as `tag`."),
        ("id" = Option<String>, Query), ("device" = Option<String>, Query),
        ("agent_version" = Option<String>, Query), ("process_status" = Option<String>, Query),
        ("q" = Option<String>, Query, description = "Words in id, type, tags or facts; !word inverts, ~word is fuzzy."),
        ("crashed" = Option<bool>, Query), ("service_failed" = Option<bool>, Query)),
    responses((status = 200, body = Page<Device>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<Device>>> {
    let paging = params.paging()?;
    page::<listing::Filter>(&app.store, &member.project, &paging, &params.filters()).await
}

/// Reads one device.
#[utoipa::path(get, path = "/projects/{project}/devices/{device}", tag = "devices",
    responses((status = 200, body = Device)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(device): PathId,
) -> Result<axum::Json<Device>> {
    let device = device_id(&device)?;
    let mut tx = app.store.read().await?;
    let device = listing::get(&mut tx, &member.project, &device).await?;
    Ok(axum::Json(device.ok_or_else(|| Error::not_found("device"))?))
}

/// Changes a device's tags or type.
#[utoipa::path(patch, path = "/projects/{project}/devices/{device}", tag = "devices",
    responses((status = 200, body = Device)))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    member: Operator,
    PathId(device): PathId,
    Json { value: request, .. }: Json<ChangeDevice>,
) -> Result<axum::Json<Device>> {
    let device = device_id(&device)?;
    may_tag(&app, &member, &device, &request).await?;
    let actor = member.caller.actor();
    let device = app.engine.change_device(&actor, &member.project, &device, request).await?;
    app.audit_changed_of(&member.project);
    let concerned = tunnel_rights::Concerned::Device(&member.project, &device.id);
    tunnel_rights::close_those_without(&app, concerned).await;
    Ok(axum::Json(device))
}

/// A device that is in production is not taken out of it by who may not have a terminal on it.
async fn may_tag(
    app: &Arc<App>,
    member: &Operator,
    device: &DeviceId,
    request: &ChangeDevice,
) -> Result<()> {
    let Some(tags) = &request.tags else { return Ok(()) };
    let (before, needed) = {
        let mut tx = app.store.read().await?;
        let Some(before) = listing::get(&mut tx, &member.project, device).await? else {
            return Ok(());
        };
        let needed = tunnel_rights::role_to_open(&mut tx, &member.project, &before).await?;
        (before, needed)
    };
    let after = Device { tags: tags.clone(), ..before };
    if member.role >= needed || tunnel_rights::is_production(&after) {
        return Ok(());
    }
    let path = format!("/api/v1/projects/{}/devices/{device}", member.project);
    let actor = member.caller.actor();
    record_denied(app, actor, Some(&member.project), "device.change", &path, Value::Null).await;
    Err(tunnel_rights::refused(device, needed))
}

/// Takes a device out of service: it is disconnected and cannot sign in any more.
#[utoipa::path(delete, path = "/projects/{project}/devices/{device}", tag = "devices",
    responses((status = 204)))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    member: Admin,
    PathId(device): PathId,
) -> Result<StatusCode> {
    let device = device_id(&device)?;
    take_out(&app, &member, &device).await?;
    app.audit_changed_of(&member.project);
    Ok(StatusCode::NO_CONTENT)
}

/// Retires it, ends its tunnels while it can still be told, and disconnects it.
async fn take_out(app: &App, member: &Admin, device: &DeviceId) -> Result<Device> {
    let retired = app.engine.retire(&member.caller.actor(), &member.project, device).await?;
    app.tunnels.close_all(&member.project, device).await;
    app.engine.disconnect(&member.project, device);
    Ok(retired)
}

/// Takes a device out of service: the same as `DELETE`.
#[utoipa::path(post, path = "/projects/{project}/devices/{device}/retire", tag = "devices",
    responses((status = 200, body = Device)))]
pub(super) async fn retire(
    State(app): State<Arc<App>>,
    member: Admin,
    PathId(device): PathId,
) -> Result<axum::Json<Device>> {
    let device = device_id(&device)?;
    let device = take_out(&app, &member, &device).await?;
    app.audit_changed_of(&member.project);
    Ok(axum::Json(device))
}

/// Lets a device that exists, or is retired, enrol once more.
#[utoipa::path(post, path = "/projects/{project}/devices/{device}/enroll-again", tag = "devices",
    responses((status = 200, body = Device)))]
pub(super) async fn enroll_again(
    State(app): State<Arc<App>>,
    member: Admin,
    PathId(device): PathId,
) -> Result<axum::Json<Device>> {
    let device = device_id(&device)?;
    let actor = member.caller.actor();
    let device = app.engine.allow_enroll_again(&actor, &member.project, &device).await?;
    app.audit_changed_of(&member.project);
    Ok(axum::Json(device))
}

/// Makes or renews the secret of a device that cannot run the agent; an unknown device is made.
#[utoipa::path(post, path = "/projects/{project}/devices/{device}/credentials", tag = "devices",
    params(CreateParams), responses((status = 201, body = EnrollResponse)))]
pub(super) async fn credentials(
    State(app): State<Arc<App>>,
    member: Admin,
    PathId(device): PathId,
    key: IdempotencyKey,
    request: Request,
) -> Result<Response> {
    let device = DeviceId::new(&device).map_err(|e| Error::invalid("device", e.to_string()))?;
    let bytes = json::read_body(request).await?;
    let key = key.of(member.project.as_str(), &member.caller.name, &bytes);
    let (engine, actor, project) =
        (app.engine.clone(), member.caller.actor(), member.project.clone());
    let mut response = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(
            async move { Ok(engine.issue_credentials_in(tx, &actor, &project, &device).await?) },
        )
    })
    .await?;
    app.audit_changed_of(&member.project);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Takes note that somebody has seen to a failed service.
#[utoipa::path(post, path = "/projects/{project}/devices/{device}/clear_service_failed", tag = "devices",
    responses((status = 200, body = Device)))]
pub(super) async fn clear_service_failed(
    State(app): State<Arc<App>>,
    member: Operator,
    PathId(device): PathId,
) -> Result<axum::Json<Device>> {
    let device = device_id(&device)?;
    let actor = member.caller.actor();
    let device = app.engine.clear_service_failed(&actor, &member.project, &device).await?;
    app.audit_changed_of(&member.project);
    Ok(axum::Json(device))
}

/// Reads a device's last health report.
#[utoipa::path(get, path = "/projects/{project}/devices/{device}/health", tag = "devices",
    responses((status = 200, body = DeviceHealth)))]
pub(super) async fn health(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(device): PathId,
) -> Result<axum::Json<DeviceHealth>> {
    let device = device_id(&device)?;
    let mut tx = app.store.read().await?;
    let health = devices::health(&mut tx, &member.project, &device).await?;
    Ok(axum::Json(health.ok_or_else(|| Error::not_found("device"))?))
}

/// Lists a device's commands, newest first.
#[utoipa::path(get, path = "/projects/{project}/devices/{device}/commands", tag = "devices",
    params(ListParams,
        ("status" = Option<String>, Query), ("type" = Option<String>, Query), ("user" = Option<String>, Query),
        ("batch_id" = Option<String>, Query), ("id" = Option<String>, Query),
        ("from" = Option<Timestamp>, Query), ("to" = Option<Timestamp>, Query), ("q" = Option<String>, Query)),
    responses((status = 200, body = Page<Command>)))]
pub(super) async fn commands(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(device): PathId,
    mut params: Params,
) -> Result<axum::Json<Page<Command>>> {
    let device = device_id(&device)?;
    let paging = params.paging()?;
    let mut filters = params.filters();
    if filters.insert("device".to_owned(), device.to_string()).is_some() {
        return Err(Error::invalid("device", "the path names the device"));
    }
    must_exist(&mut app.store.read().await?, &member, &device).await?;
    page::<commands::listing::Filter>(&app.store, &member.project, &paging, &filters).await
}

/// Lists what happened to a device, newest first.
#[utoipa::path(get, path = "/projects/{project}/devices/{device}/timeline", tag = "devices",
    params(ListParams), responses((status = 200, body = Page<TimelineEntry>)))]
pub(super) async fn timeline(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(device): PathId,
    mut params: Params,
) -> Result<axum::Json<Page<TimelineEntry>>> {
    let device = device_id(&device)?;
    let paging = params.paging()?;
    params.finish()?;
    paging.one_order("-seq")?;
    let before: Option<device_events::Place> = paging
        .after_key()?
        .map(|key| {
            key.parse()
                .map_err(|()| Error::invalid("cursor", "expected a next_cursor of this listing"))
        })
        .transpose()?;
    let mut tx = app.store.read().await?;
    must_exist(&mut tx, &member, &device).await?;
    let entries =
        device_events::list(&mut tx, &member.project, &device, before, paging.limit + 1).await?;
    let total = device_events::count(&mut tx, &member.project, &device).await?;
    Ok(axum::Json(paging.page(entries, total, |entry| device_events::Place::of(entry).to_string())))
}

async fn must_exist(tx: &mut crate::store::Tx, member: &Viewer, device: &DeviceId) -> Result<()> {
    let found = devices::credential(tx, member.project.as_str(), device.as_str()).await?;
    found.map(drop).ok_or_else(|| Error::not_found("device"))
}

pub(super) fn device_id(text: &str) -> Result<DeviceId> {
    DeviceId::new(text).map_err(|_| Error::not_found("device"))
}
