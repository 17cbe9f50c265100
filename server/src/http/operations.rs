//! What can be asked of devices: `/projects/{project}/operations`.

use std::sync::Arc;

use axum::extract::State;
use quarterdeck_protocol::{
    api::Page,
    ids::{DeviceId, ProjectId},
    operations::{Operation, builtin},
};
use utoipa::IntoParams;

use super::{
    App,
    extract::Viewer,
    openapi::ListParams,
    problem::{Error, Result},
    query::Params,
};
use crate::store::{StoreError, Tx, devices};

/// Which operations.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by its documentation only; query.rs reads the parameters")]
struct OperationParams {
    /// Only what this device announces.
    device: Option<String>,
}

/// Lists the operations: those built in, then those that only devices know, with which devices.
#[utoipa::path(get, path = "/projects/{project}/operations", tag = "operations",
    params(ListParams, OperationParams), responses((status = 200, body = Page<Operation>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<Operation>>> {
    let paging = params.paging()?;
    let device = params.take("device");
    params.finish()?;
    paging.one_order("name")?;
    let after = paging.after_key()?;
    let mut tx = app.store.read().await?;
    let mut items = match device {
        None => all(&mut tx, &member.project).await?,
        Some(id) => {
            let unknown = || Error::invalid("device", "no such device");
            let id = DeviceId::new(&id).map_err(|_| unknown())?;
            let known = devices::statuses(&mut tx, &member.project, &[id.to_string()]).await?;
            if known.is_empty() {
                return Err(unknown());
            }
            of_device(&mut tx, &member.project, &id).await?
        }
    };
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
    let mut announced = devices::operations::list(tx, project, None).await?;
    let mut operations: Vec<Operation> = builtin()
        .into_iter()
        .map(|operation| match announced.remove(&operation.name) {
            Some(theirs) => with_theirs(operation, &theirs),
            None => operation,
        })
        .collect();
    for (name, operation) in announced {
        let devices = devices::operations::devices_of(tx, project, &name).await?;
        operations.push(Operation { devices, ..operation });
    }
    Ok(operations)
}

/// Reads what one device announces.
async fn of_device(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
) -> std::result::Result<Vec<Operation>, StoreError> {
    let mut announced = devices::operations::list(tx, project, Some(device)).await?;
    let mut operations: Vec<Operation> = builtin()
        .into_iter()
        .filter_map(|operation| {
            let theirs = announced.remove(&operation.name)?;
            Some(with_theirs(operation, &theirs))
        })
        .collect();
    let devices = vec![device.to_string()];
    operations.extend(
        announced
            .into_values()
            .map(|operation| Operation { devices: devices.clone(), ..operation }),
    );
    Ok(operations)
}

/// A device's own version of a built-in operation can be more dangerous than ours, and never less.
fn with_theirs(operation: Operation, theirs: &Operation) -> Operation {
    Operation {
        dangerous: operation.dangerous || theirs.dangerous,
        reboots: operation.reboots || theirs.reboots,
        device_count: theirs.device_count,
        ..operation
    }
}
