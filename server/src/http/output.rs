//! What a command brought: `/projects/{project}/commands/{id}/output`.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap, response::Response};
use quarterdeck_protocol::ids::CommandId;

use super::{
    App,
    extract::{PathId, Viewer},
    problem::{Error, Result},
    uploads::send,
};
use crate::store::{commands, uploads};

/// Gives the file that a command brought (`file_pull`, `collect_logs` and the like).
#[utoipa::path(get, path = "/projects/{project}/commands/{id}/output", tag = "commands",
    responses((status = 200, content_type = "application/octet-stream", body = String)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    member: Viewer,
    PathId(id): PathId,
    headers: HeaderMap,
) -> Result<Response> {
    let id: CommandId = id.parse().map_err(|_| Error::not_found("command"))?;
    let mut tx = app.store.read().await?;
    if commands::get(&mut tx, &member.project, id).await?.is_none() {
        return Err(Error::not_found("command"));
    }
    let upload = uploads::by_id(&mut tx, &member.project, &id.to_string()).await?;
    drop(tx);
    let upload = upload.ok_or_else(|| Error {
        code: "no_output",
        ..Error::not_found("file: this command has brought none")
    })?;
    send(&app, &upload, &headers).await
}
