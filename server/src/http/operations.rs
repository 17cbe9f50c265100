//! What can be asked of devices: `/projects/{project}/operations`.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use quarterdeck_protocol::{
    api::Page,
    ids::ProjectId,
    operations::{Operation, OperationSource, builtin},
};
use serde_json::json;

use super::{App, extract::Viewer, openapi::ListParams, problem::Result, query::Params};
use crate::store::{StoreError, Tx, devices};

/// Lists the operations: those built in, then those that devices announce.
#[utoipa::path(get, path = "/projects/{project}/operations", tag = "operations", params(ListParams),
    responses((status = 200, body = Page<Operation>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<Operation>>> {
    let paging = params.paging()?;
    params.finish()?;
    paging.one_order("name")?;
    let after = paging.after_key()?;
    let mut tx = app.store.read().await?;
    let mut items = all(&mut tx, &member.project).await?;
    let total = items.len() as u64;
    if let Some(after) = after
        && let Some(at) = items.iter().position(|operation| operation.name == after)
    {
        items.drain(..=at);
    }
    Ok(axum::Json(paging.page(items, total, |operation| operation.name.clone())))
}

/// Reads all operations of a project.
pub async fn all(
    tx: &mut Tx,
    project: &ProjectId,
) -> std::result::Result<Vec<Operation>, StoreError> {
    let mut announced: BTreeMap<String, u64> =
        devices::operations(tx, project).await?.into_iter().collect();
    let mut operations: Vec<Operation> = builtin()
        .into_iter()
        .map(|operation| Operation {
            device_count: announced.remove(&operation.name).unwrap_or(0),
            ..operation
        })
        .collect();
    operations.extend(announced.into_iter().map(|(name, device_count)| Operation {
        title: name.clone(),
        name,
        description: "Announced by devices, from a workflow file there.".to_owned(),
        icon: "◆".to_owned(),
        estimated_duration_s: 30,
        form_schema: json!({ "type": "object", "additionalProperties": true }),
        dangerous: false,
        reboots: false,
        source: OperationSource::Device,
        device_count,
    }));
    Ok(operations)
}
