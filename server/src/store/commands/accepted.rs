//! What devices have accepted and not ended.

use crate::store::{StoreError, Tx, on};
use quarterdeck_protocol::ids::{DeviceId, ProjectId};

use super::live::Outgoing;

/// Reads what a device has accepted and not ended, as it got it, the oldest first.
pub async fn of_device(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
) -> Result<Vec<Outgoing>, StoreError> {
    Ok(on!(tx, conn => sqlx::query_as(
        "SELECT c.id, c.project_id, c.device_id, c.type AS kind, c.status, b.payload, c.priority, c.timeout_s,
           c.created_at, c.expires_at, c.created_by
         FROM commands c JOIN batches b ON b.id = c.batch_id
         WHERE c.project_id = $1 AND c.device_id = $2 AND c.open
           AND c.status IN ('accepted', 'execution_started') ORDER BY c.id",
    ).bind(project.as_str()).bind(device.as_str()).fetch_all(conn).await?))
}
