//! Alerts: `/projects/{project}/alerts`.

use std::sync::Arc;

use axum::extract::State;
use quarterdeck_protocol::api::{Alert, Page, SilenceAlert};

use super::{
    App,
    extract::{Operator, PathId, Viewer},
    json::Json,
    openapi::ListParams,
    problem::{Error, Result},
    query::{Params, page},
};
use crate::store::alerts;

/// Lists alerts.
#[utoipa::path(get, path = "/projects/{project}/alerts", tag = "alerts",
    params(ListParams,
        ("status" = Option<String>, Query, description = "open, acknowledged, unacknowledged or resolved"),
        ("kind" = Option<String>, Query), ("severity" = Option<String>, Query),
        ("device" = Option<String>, Query), ("q" = Option<String>, Query)),
    responses((status = 200, body = Page<Alert>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<Alert>>> {
    let paging = params.paging()?;
    page::<alerts::Filter>(&app.store, &member.project, &paging, &params.filters()).await
}

/// Reads one alert.
#[utoipa::path(get, path = "/projects/{project}/alerts/{id}", tag = "alerts",
    responses((status = 200, body = Alert)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
) -> Result<axum::Json<Alert>> {
    let mut tx = app.store.read().await?;
    let alert = alerts::get(&mut tx, &member.project, &id).await?;
    Ok(axum::Json(alert.ok_or_else(|| Error::not_found("alert"))?))
}

/// Takes note that somebody looks after an alert.
#[utoipa::path(post, path = "/projects/{project}/alerts/{id}/acknowledge", tag = "alerts",
    responses((status = 200, body = Alert)))]
pub(super) async fn acknowledge(
    State(app): State<Arc<App>>,
    member: Operator,
    PathId(id): PathId,
) -> Result<axum::Json<Alert>> {
    let actor = member.caller.actor();
    let alert = app.engine.acknowledge_alert(&actor, &member.project, &id).await?;
    app.audit_changed_of(&member.project);
    Ok(axum::Json(alert))
}

/// Keeps an alert quiet for a while.
#[utoipa::path(post, path = "/projects/{project}/alerts/{id}/silence", tag = "alerts",
    responses((status = 200, body = Alert)))]
pub(super) async fn silence(
    State(app): State<Arc<App>>,
    member: Operator,
    PathId(id): PathId,
    Json { value: SilenceAlert { duration_s }, .. }: Json<SilenceAlert>,
) -> Result<axum::Json<Alert>> {
    let actor = member.caller.actor();
    let alert = app.engine.silence_alert(&actor, &member.project, &id, duration_s).await?;
    app.audit_changed_of(&member.project);
    Ok(axum::Json(alert))
}
