//! The numbers of a project at a glance: `/projects/{project}/overview`.

use std::sync::Arc;

use axum::extract::State;
use quarterdeck_protocol::api::Overview;

use super::{App, extract::Viewer, problem::Result};

/// Counts devices, commands and alerts; at most a second old.
#[utoipa::path(get, path = "/projects/{project}/overview", tag = "overview",
    responses((status = 200, body = Overview)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    member: Viewer,
) -> Result<axum::Json<Overview>> {
    let overview = app.live.overview(&app.store, &app.clock, &member.project).await?;
    Ok(axum::Json(overview.as_ref().clone()))
}
