//! What a device is configured with: `/projects/{project}/devices/{device}/configuration`.
//!
//! One JSON object a device. Operators write it, the device reads it by its own
//! secret and asks with `If-None-Match` whether it has changed. What its keys
//! mean is between those who write it and what runs on the device.
//!
//! Who changes what somebody else may change too says with `If-Match` which
//! version they have seen: then nobody's change is lost unseen.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts as _, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use quarterdeck_protocol::{
    api::{AuditOutcome, DeviceConfiguration, SetConfiguration},
    limits::CONFIGURATION_MAX_BYTES,
};
use serde_json::json;

use super::{
    App,
    devices::device_id,
    extract::{DeviceCaller, Operator, PathId, Viewer, is_basic},
    json::Json,
    problem::{Error, Result},
};
use crate::store::{
    audit::NewEntry,
    devices::{self, configuration as configurations},
};

/// Reads a device's configuration: for the device itself, and for members.
#[utoipa::path(get, path = "/projects/{project}/devices/{device}/configuration", tag = "devices",
    security(("bearer" = []), ("device" = [])),
    responses((status = 200, body = DeviceConfiguration), (status = 304)))]
pub(super) async fn read(
    State(app): State<Arc<App>>,
    PathId(device): PathId,
    request: Request,
) -> Result<Response> {
    let (mut parts, _) = request.into_parts();
    let (project, device) = if is_basic(&parts.headers) {
        let caller = DeviceCaller::from_request_parts(&mut parts, &app).await?;
        // Another's looks like one that is not there.
        let own = format!("/projects/{}/devices/{}/configuration", caller.project, caller.device);
        if !parts.uri.path().ends_with(&own) {
            return Err(Error::not_found("device"));
        }
        (caller.project, caller.device)
    } else {
        let member = Viewer::from_request_parts(&mut parts, &app).await?;
        (member.project, device_id(&device)?)
    };
    let mut tx = app.store.read().await?;
    let known = devices::credential(&mut tx, project.as_str(), device.as_str()).await?;
    known.ok_or_else(|| Error::not_found("device"))?;
    let configuration = configurations::get(&mut tx, &project, &device).await?;
    drop(tx);
    let tag = tag(&configuration);
    let is_known = parts.headers.get(header::IF_NONE_MATCH).is_some_and(|seen| *seen == tag);
    Ok(if is_known {
        (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response()
    } else {
        answer(configuration)
    })
}

/// Replaces a device's configuration.
#[utoipa::path(put, path = "/projects/{project}/devices/{device}/configuration", tag = "devices",
    responses((status = 200, body = DeviceConfiguration), (status = 412)))]
pub(super) async fn set(
    State(app): State<Arc<App>>,
    member: Operator,
    PathId(device): PathId,
    headers: HeaderMap,
    Json { value: SetConfiguration { configuration }, .. }: Json<SetConfiguration>,
) -> Result<Response> {
    let device = device_id(&device)?;
    let size = serde_json::to_vec(&configuration).map_or(usize::MAX, |text| text.len());
    if size > CONFIGURATION_MAX_BYTES {
        let expected = format!("expected at most {CONFIGURATION_MAX_BYTES} bytes, not {size}");
        return Err(Error::invalid("configuration", expected));
    }
    let (auditor, actor, now) = (app.auditor.clone(), member.caller.actor(), app.clock.wall());
    let (project, seen) = (member.project.clone(), headers.get(header::IF_MATCH).cloned());
    let written = app
        .write(move |tx| {
            Box::pin(async move {
                let known = devices::credential(tx, project.as_str(), device.as_str()).await?;
                known.ok_or_else(|| Error::not_found("device"))?;
                let before = configurations::get(tx, &project, &device).await?;
                if seen.is_some_and(|seen| seen != tag(&before) && seen != "*") {
                    return Err(changed_meanwhile(&before));
                }
                let after = DeviceConfiguration {
                    version: before.version + 1,
                    configuration,
                    updated_at: Some(now),
                    updated_by: Some(actor.name.clone()),
                    ..before
                };
                configurations::set(tx, &project, &after).await?;
                let entry = NewEntry {
                    project: &project,
                    at: now,
                    actor: &actor,
                    action: "device.configure",
                    object: format!("device:{device}"),
                    outcome: AuditOutcome::Ok,
                    // Not what it says: that may be a secret.
                    detail: json!({
                        "version": after.version,
                        "keys": after.configuration.keys().collect::<Vec<_>>(),
                    }),
                };
                auditor.append(tx, entry).await?;
                Ok(after)
            })
        })
        .await?;
    app.audit_changed_of(&member.project);
    Ok(answer(written))
}

fn answer(configuration: DeviceConfiguration) -> Response {
    ([(header::ETAG, tag(&configuration))], axum::Json(configuration)).into_response()
}

fn tag(configuration: &DeviceConfiguration) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", configuration.version)).expect("a number in quotes")
}

fn changed_meanwhile(now: &DeviceConfiguration) -> Error {
    Error::new(
        StatusCode::PRECONDITION_FAILED,
        "changed_meanwhile",
        format!("the configuration is at version {} now; read it, then try again", now.version),
    )
}
