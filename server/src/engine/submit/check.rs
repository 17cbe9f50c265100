//! Whether a submission is right: its numbers, its devices, its operation, its payload.

use std::collections::{HashMap, HashSet};

use quarterdeck_protocol::{
    api::CreateCommands,
    command::Priority,
    ids::{DeviceId, ProjectId},
    limits::{
        BATCH_MAX_DEVICES, EXPIRES_DEFAULT_S, EXPIRES_MAX_S, EXPIRES_MIN_S, NOTES_MAX_CHARS,
        OPERATION_NAME_MAX_BYTES, TIMEOUT_DEFAULT_S, TIMEOUT_MAX_S, TIMEOUT_MIN_S,
    },
    operations, payload,
};
use serde_json::{Value, json};

use super::{Checked, NAMED_MAX};
use crate::{
    engine::Refused,
    store::{
        Tx,
        devices::{self, operations::Flags},
        projects, uploads,
    },
};

/// Checks a submission as a whole.
pub(super) async fn check(
    tx: &mut Tx,
    project: &ProjectId,
    request: &CreateCommands,
) -> Result<Checked, Refused> {
    let settings =
        projects::settings(tx, project).await?.ok_or(Refused::NotFound { what: "project" })?;
    if !request.targets.groups.is_empty() {
        return Err(Refused::invalid("targets.groups[0]", "no such group"));
    }
    let priority = match request.priority {
        Some(given) => Priority::try_from(given)
            .map_err(|error| Refused::invalid("priority", error.to_string()))?,
        None => Priority::DEFAULT,
    };
    let timeout_s =
        within("timeout_s", request.timeout_s, TIMEOUT_MIN_S, TIMEOUT_DEFAULT_S, TIMEOUT_MAX_S)?;
    let expires_in_s = within(
        "expires_in_s",
        request.expires_in_s,
        EXPIRES_MIN_S,
        EXPIRES_DEFAULT_S,
        EXPIRES_MAX_S,
    )?;
    if request.notes.chars().count() > NOTES_MAX_CHARS || request.notes.contains('\0') {
        return Err(Refused::invalid(
            "notes",
            format!("expected at most {NOTES_MAX_CHARS} characters, none of them NUL"),
        ));
    }
    let payload = if request.payload.is_null() { json!({}) } else { request.payload.clone() };
    if request.kind.is_empty()
        || request.kind.len() > OPERATION_NAME_MAX_BYTES
        || request.kind.contains('\0')
    {
        return Err(Refused::invalid("type", "expected the name of an operation"));
    }
    payload::check(&request.kind, &payload)?;
    let (devices, statuses) = targets(tx, project, &request.targets.devices).await?;
    let mut warnings = Vec::new();
    let announcing = devices::operations::announcing(tx, project, &request.kind, &devices).await?;
    known_operation(tx, project, &announcing, request, &devices, &mut warnings).await?;
    must_be_here(tx, project, &request.kind, &payload).await?;
    if !operations::is_builtin(&request.kind) {
        let forms = devices::operations::forms(tx, project, &request.kind, &devices).await?;
        for form in &forms {
            operations::check_payload(form, &payload)?;
        }
    }
    if !request.confirm {
        let is_dangerous_on = |device: &DeviceId| {
            announcing.get(device.as_str()).is_some_and(|flags| flags.dangerous)
        };
        if operations::is_dangerous(&request.kind) || devices.iter().any(is_dangerous_on) {
            return Err(Refused::ConfirmationRequired {
                detail: format!("{} is dangerous: set confirm to true", request.kind),
            });
        }
        if devices.len() > settings.confirm_over_devices as usize {
            return Err(Refused::ConfirmationRequired {
                detail: format!(
                    "{} devices are more than {}: set confirm to true",
                    devices.len(),
                    settings.confirm_over_devices
                ),
            });
        }
    }
    Ok(Checked {
        devices,
        kind: request.kind.clone(),
        payload,
        priority,
        timeout_s,
        expires_in_s,
        notes: request.notes.clone(),
        attempt: 1,
        retry_of: None,
        statuses,
        announcing,
        warnings,
        settings,
    })
}

fn within(
    field: &str,
    given: Option<u32>,
    least: u32,
    default: u32,
    most: u32,
) -> Result<u32, Refused> {
    let value = given.unwrap_or(default);
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Refused::invalid(field, format!("expected {least} to {most}")))
    }
}

/// The devices that are meant, each once, and their statuses.
async fn targets(
    tx: &mut Tx,
    project: &ProjectId,
    given: &[String],
) -> Result<(Vec<DeviceId>, HashMap<String, String>), Refused> {
    let field = |index: usize| format!("targets.devices[{index}]");
    let mut seen = HashSet::with_capacity(given.len());
    let mut devices = Vec::with_capacity(given.len().min(BATCH_MAX_DEVICES));
    for (index, name) in given.iter().enumerate() {
        let device =
            DeviceId::new(name).map_err(|_| Refused::invalid(field(index), "no such device"))?;
        if seen.insert(device.clone()) {
            devices.push((index, device));
        }
        if devices.len() > BATCH_MAX_DEVICES {
            return Err(Refused::invalid(
                "targets.devices",
                format!("expected at most {BATCH_MAX_DEVICES} devices"),
            ));
        }
    }
    if devices.is_empty() {
        return Err(Refused::invalid("targets.devices", "expected at least one device"));
    }
    let names: Vec<String> = devices.iter().map(|(_, device)| device.to_string()).collect();
    let statuses = devices::statuses(tx, project, &names).await?;
    for (index, device) in &devices {
        match statuses.get(device.as_str()).map(String::as_str) {
            None => return Err(Refused::invalid(field(*index), "no such device")),
            Some("retired") => {
                return Err(Refused::invalid(field(*index), "the device is retired"));
            }
            Some(_) => {}
        }
    }
    Ok((devices.into_iter().map(|(_, device)| device).collect(), statuses))
}

async fn known_operation(
    tx: &mut Tx,
    project: &ProjectId,
    announcing: &HashMap<String, Flags>,
    request: &CreateCommands,
    devices: &[DeviceId],
    warnings: &mut Vec<String>,
) -> Result<(), Refused> {
    let lacking: Vec<_> =
        devices.iter().filter(|device| !announcing.contains_key(device.as_str())).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let is_announced = !announcing.is_empty()
        || devices::operations::is_announced(tx, project, &request.kind).await?;
    if operations::is_builtin(&request.kind) {
        // Not every device that runs it says so; but where others do, one that does not is remarkable.
        if is_announced {
            warnings.push(format!("do not announce {}: {}", request.kind, some_of(&lacking)));
        }
        return Ok(());
    }
    let detail = if is_announced {
        format!("not built in, and not announced by {}", some_of(&lacking))
    } else {
        "no such operation: it is not built in, and no device announces it".to_owned()
    };
    Err(Refused::invalid("type", detail))
}

/// What a payload asks for must have been uploaded: else each device would find that out by itself.
async fn must_be_here(
    tx: &mut Tx,
    project: &ProjectId,
    kind: &str,
    payload: &Value,
) -> Result<(), Refused> {
    let asked_for = uploads::asked_for(payload).filter(|_| uploads::TAKEN_BY.contains(&kind));
    let Some(upload) = asked_for else { return Ok(()) };
    match uploads::by_id(tx, project, &upload.to_string()).await? {
        Some(_) => Ok(()),
        None => Err(Refused::invalid(
            "payload.upload_id",
            "no such file; send it first: PUT /api/v1/uploads/{id}",
        )),
    }
}

pub(super) fn is_offline(statuses: &HashMap<String, String>, device: &DeviceId) -> bool {
    statuses.get(device.as_str()).is_some_and(|status| status == "offline")
}

pub(super) fn some_of(devices: &[&DeviceId]) -> String {
    let named =
        devices.iter().take(NAMED_MAX).map(|device| device.as_str()).collect::<Vec<_>>().join(", ");
    match devices.len().checked_sub(NAMED_MAX) {
        None | Some(0) => named,
        Some(more) => format!("{named} and {more} more"),
    }
}
