//! Projects and their settings: `/projects`, `/projects/{project}/settings`.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use quarterdeck_protocol::{
    api::{AuditOutcome, CreateProject, Page, Project, ProjectSettings, Role},
    live::Listing,
};
use serde_json::{Value, json};

use super::{
    App,
    auth::record,
    extract::{Admin, ServerAdmin, SignedIn, Viewer},
    idempotency::{IdempotencyKey, once},
    json::Json,
    openapi::{CreateParams, ListParams},
    problem::{Error, Result},
    query::Params,
    tunnel_rights::{Concerned, close_those_without},
};
use crate::{
    engine::After,
    store::{audit::NewEntry, projects},
};

/// The longest name of a project, in characters.
const PROJECT_NAME_MAX_CHARS: usize = 200;
/// What a setting may be: nothing that switches a safety rule off by an absurd number.
const LIMIT_MAX: u32 = 1_000;
const WINDOW_MIN_S: u32 = 1;
const WINDOW_MAX_S: u32 = 7 * 24 * 3600;
const CEILING_MIN_S: u32 = 1;
const CEILING_MAX_S: u32 = 24 * 3600;
const RECORDING_KEPT_MAX_DAYS: u32 = 3_650;

/// Lists the projects that the caller is a member of, by id.
#[utoipa::path(get, path = "/projects", tag = "projects", params(ListParams),
    responses((status = 200, body = Page<Project>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
    mut params: Params,
) -> Result<axum::Json<Page<Project>>> {
    let paging = params.paging()?;
    params.finish()?;
    paging.one_order("id")?;
    let after = paging.after_key()?;
    let reader = caller.reader();
    let mut tx = app.store.read().await?;
    let items = projects::list(&mut tx, &reader, after.as_deref(), paging.limit + 1).await?;
    let total = projects::count(&mut tx, &reader).await?;
    Ok(axum::Json(paging.page(items, total, |project| project.id.to_string())))
}

/// Adds a project.
#[utoipa::path(post, path = "/projects", tag = "projects",
    params(CreateParams), responses((status = 201, body = Project)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    ServerAdmin(caller): ServerAdmin,
    key: IdempotencyKey,
    Json { value: request, bytes }: Json<CreateProject>,
) -> Result<Response> {
    if request.name.chars().count() > PROJECT_NAME_MAX_CHARS {
        return Err(Error::invalid(
            "name",
            format!("expected at most {PROJECT_NAME_MAX_CHARS} characters"),
        ));
    }
    let key = key.of("", &caller.name, &bytes);
    let (auditor, actor, now) = (app.auditor.clone(), caller.actor(), app.clock.wall());
    let id = request.id.clone();
    let response = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(async move {
            let name = if request.name.is_empty() { request.id.as_str() } else { &request.name };
            if !projects::insert(tx, &request.id, name, now).await? {
                return Err(Error::conflict("project_exists", "there is a project with this id"));
            }
            let object = format!("project:{}", request.id);
            record(
                &auditor,
                tx,
                now,
                &actor,
                "project.create",
                object.clone(),
                AuditOutcome::Ok,
                Value::Null,
            )
            .await?;
            // The project's own trail begins with the project.
            let entry = NewEntry {
                project: &request.id,
                at: now,
                actor: &actor,
                action: "project.create",
                object,
                outcome: AuditOutcome::Ok,
                detail: Value::Null,
            };
            auditor.append(tx, entry).await?;
            let project = Project {
                name: name.to_owned(),
                id: request.id.clone(),
                created_at: now,
                role: Role::Admin,
            };
            Ok((project, After::default()))
        })
    })
    .await?;
    app.changed_server(Listing::Projects, id.as_str());
    Ok(response)
}

/// Reads one project.
#[utoipa::path(get, path = "/projects/{project}", tag = "projects",
    responses((status = 200, body = Project)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    member: Viewer,
) -> Result<axum::Json<Project>> {
    let mut tx = app.store.read().await?;
    let project = projects::by_id(&mut tx, &member.project, member.role).await?;
    Ok(axum::Json(project.ok_or_else(|| Error::not_found("project"))?))
}

/// Reads a project's settings.
#[utoipa::path(get, path = "/projects/{project}/settings", tag = "projects",
    responses((status = 200, body = ProjectSettings)))]
pub(super) async fn settings(
    State(app): State<Arc<App>>,
    member: Viewer,
) -> Result<axum::Json<ProjectSettings>> {
    let mut tx = app.store.read().await?;
    let settings = projects::settings(&mut tx, &member.project).await?;
    Ok(axum::Json(settings.ok_or_else(|| Error::not_found("project"))?))
}

/// Replaces a project's settings; what is absent gets its default.
#[utoipa::path(put, path = "/projects/{project}/settings", tag = "projects",
    responses((status = 200, body = ProjectSettings)))]
pub(super) async fn set_settings(
    State(app): State<Arc<App>>,
    member: Admin,
    Json { value: settings, .. }: Json<ProjectSettings>,
) -> Result<axum::Json<ProjectSettings>> {
    check(&settings)?;
    let (auditor, actor, now) = (app.auditor.clone(), member.caller.actor(), app.clock.wall());
    let project = member.project.clone();
    let written = settings.clone();
    app.write(move |tx| {
        Box::pin(async move {
            let before = projects::settings(tx, &project)
                .await?
                .ok_or_else(|| Error::not_found("project"))?;
            projects::set_settings(tx, &project, &written).await?;
            let entry = NewEntry {
                project: &project,
                at: now,
                actor: &actor,
                action: "settings.change",
                object: format!("project:{project}"),
                outcome: AuditOutcome::Ok,
                detail: json!({ "before": before, "after": written }),
            };
            auditor.append(tx, entry).await?;
            Ok(())
        })
    })
    .await?;
    app.audit_changed_of(&member.project);
    close_those_without(&app, Concerned::Project(&member.project)).await;
    Ok(axum::Json(settings))
}

fn check(settings: &ProjectSettings) -> Result<()> {
    let within = |field: &str, value: u32, min: u32, max: u32| {
        if (min..=max).contains(&value) {
            Ok(())
        } else {
            Err(Error::invalid(field, format!("expected {min} to {max}, got {value}")))
        }
    };
    let ProjectSettings {
        reboot_limit,
        reboot_window_s,
        app_restart_limit,
        app_restart_window_s,
        confirm_over_devices,
        reboot_ceiling_s,
        record_terminals: _,
        recording_kept_days,
        production_tunnel_role,
    } = settings;
    within("reboot_limit", *reboot_limit, 1, LIMIT_MAX)?;
    within("reboot_window_s", *reboot_window_s, WINDOW_MIN_S, WINDOW_MAX_S)?;
    within("app_restart_limit", *app_restart_limit, 1, LIMIT_MAX)?;
    within("app_restart_window_s", *app_restart_window_s, WINDOW_MIN_S, WINDOW_MAX_S)?;
    within(
        "confirm_over_devices",
        *confirm_over_devices,
        0,
        quarterdeck_protocol::limits::BATCH_MAX_DEVICES as u32,
    )?;
    within("reboot_ceiling_s", *reboot_ceiling_s, CEILING_MIN_S, CEILING_MAX_S)?;
    within("recording_kept_days", *recording_kept_days, 1, RECORDING_KEPT_MAX_DAYS)?;
    if *production_tunnel_role == Role::Viewer {
        return Err(Error::invalid("production_tunnel_role", "expected operator or admin"));
    }
    Ok(())
}
