//! How devices become a project's: `/projects/{project}/enrollment-tokens`, `/enroll`.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use quarterdeck_protocol::{
    api::{
        AuditOutcome, CreateEnrollmentToken, EnrollRequest, EnrollResponse, EnrollmentToken, Page,
    },
    ids::ProjectId,
    limits::{TAG_KEY_MAX_BYTES, TAG_VALUE_MAX_BYTES, TAGS_MAX},
    live::Listing,
};
use serde_json::{Value, json};

use super::{
    App,
    extract::{Admin, From, PathId, record_denied},
    idempotency::{IdempotencyKey, once},
    json::Json,
    openapi::{CreateParams, ListParams},
    problem::{Error, Result},
    query::Params,
};
use crate::{
    auth::{hash_secret, new_secret},
    engine::After,
    store::{
        audit::{Actor, NewEntry},
        enrollment_tokens::{self, StoredToken},
    },
};

/// Enrolment tokens begin so.
const PREFIX: &str = "qde_";
/// Devices that may enrol with one token.
const TOKEN_USES_MAX: u32 = 100_000;
/// The longest life of a token, in seconds.
const TOKEN_EXPIRES_MAX_S: u64 = 365 * 24 * 3600;
/// All guesses at tokens from one address count together.
const GUESSES: &str = "enrolment";
/// The longest certificate request that a device may send, in bytes.
const CSR_MAX_BYTES: usize = 16 * 1024;

/// Lists the project's enrolment tokens, newest first; never their secrets.
#[utoipa::path(get, path = "/projects/{project}/enrollment-tokens", tag = "enrolment",
    params(ListParams), responses((status = 200, body = Page<EnrollmentToken>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Admin,
    mut params: Params,
) -> Result<axum::Json<Page<EnrollmentToken>>> {
    let paging = params.paging()?;
    params.finish()?;
    paging.one_order("-id")?;
    let after = paging.after_key()?;
    let mut tx = app.store.read().await?;
    let items =
        enrollment_tokens::list(&mut tx, &member.project, after.as_deref(), paging.limit + 1)
            .await?;
    let total = enrollment_tokens::count(&mut tx, &member.project).await?;
    Ok(axum::Json(paging.page(items, total, |token| token.id.clone())))
}

/// Makes an enrolment token; the answer is the only place where it ever stands.
#[utoipa::path(post, path = "/projects/{project}/enrollment-tokens", tag = "enrolment",
    params(CreateParams), responses((status = 201, body = EnrollmentToken)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    member: Admin,
    key: IdempotencyKey,
    Json { value: request, bytes }: Json<CreateEnrollmentToken>,
) -> Result<Response> {
    if !(1..=TOKEN_USES_MAX).contains(&request.uses) {
        return Err(Error::invalid("uses", format!("expected 1 to {TOKEN_USES_MAX}")));
    }
    if !(1..=TOKEN_EXPIRES_MAX_S).contains(&request.expires_in_s) {
        return Err(Error::invalid("expires_in_s", format!("expected 1 to {TOKEN_EXPIRES_MAX_S}")));
    }
    check_tags(&request)?;
    let key = key.of(member.project.as_str(), &member.caller.name, &bytes);
    let (auditor, actor, now) = (app.auditor.clone(), member.caller.actor(), app.clock.wall());
    let secret = new_secret(&app.clock, PREFIX);
    let token = StoredToken {
        id: app.clock.new_uuid().to_string(),
        project_id: member.project.to_string(),
        uses: i64::from(request.uses),
        used: 0,
        tags: json!(request.tags).to_string(),
        created_by: member.caller.name.clone(),
        created_at: now.as_millis(),
        expires_at: now.plus_seconds(request.expires_in_s as i64).as_millis(),
        revoked_at: None,
    };
    let (project, id) = (member.project.clone(), token.id.clone());
    let response = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(async move {
            enrollment_tokens::insert(tx, &token, &hash_secret(&secret)).await?;
            let entry = NewEntry {
                project: &project,
                at: now,
                actor: &actor,
                action: "enrollment_token.create",
                object: format!("enrollment_token:{}", token.id),
                outcome: AuditOutcome::Ok,
                detail: json!({ "uses": token.uses, "expires_in_s": request.expires_in_s, "tags": request.tags }),
            };
            auditor.append(tx, entry).await?;
            let shown = token.shown()?;
            Ok((EnrollmentToken { token: Some(secret), ..shown }, After::default()))
        })
    })
    .await?;
    app.changed(&member.project, Listing::EnrollmentTokens, &id);
    Ok(response)
}

/// Revokes an enrolment token. Devices that used it stay.
#[utoipa::path(delete, path = "/projects/{project}/enrollment-tokens/{id}", tag = "enrolment",
    responses((status = 204)))]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    member: Admin,
    PathId(id): PathId,
) -> Result<StatusCode> {
    let (auditor, actor, now) = (app.auditor.clone(), member.caller.actor(), app.clock.wall());
    let (project, token) = (member.project.clone(), id.clone());
    app.write(move |tx| {
        Box::pin(async move {
            let revoked = enrollment_tokens::revoke(tx, &project, &token, now).await?;
            if revoked.ok_or_else(|| Error::not_found("enrolment token"))? {
                let entry = NewEntry {
                    project: &project,
                    at: now,
                    actor: &actor,
                    action: "enrollment_token.revoke",
                    object: format!("enrollment_token:{token}"),
                    outcome: AuditOutcome::Ok,
                    detail: Value::Null,
                };
                auditor.append(tx, entry).await?;
            }
            Ok(())
        })
    })
    .await?;
    app.changed(&member.project, Listing::EnrollmentTokens, &id);
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a device one of the project that its token is of.
///
/// A request that is repeated with the same `nonce`, or with the same `Idempotency-Key`, gets the
/// same answer. A device that exists
/// already is refused (409) until an admin lets it enrol again.
#[utoipa::path(post, path = "/enroll", tag = "enrolment", security(()),
    params(CreateParams), responses((status = 201, body = EnrollResponse), (status = 401), (status = 409), (status = 429)))]
pub(super) async fn enroll(
    State(app): State<Arc<App>>,
    From(from): From,
    key: IdempotencyKey,
    Json { value: request, bytes }: Json<EnrollRequest>,
) -> Result<Response> {
    if request.csr_pem.as_ref().is_some_and(|csr| csr.len() > CSR_MAX_BYTES) {
        return Err(Error::invalid("csr_pem", format!("expected at most {CSR_MAX_BYTES} bytes")));
    }
    let device = request.device_id.clone();
    let token = hash_secret(&request.token);
    // A device that has its token is let in, whatever others guess behind the same router.
    let is_guess =
        enrollment_tokens::by_hash(&mut app.store.read().await?, &token).await?.is_none();
    if is_guess {
        app.limiter
            .machine_may_try(from, GUESSES, app.clock.steady())
            .map_err(|e| Error::too_many(e.retry_after_s, "too many wrong enrolment tokens"))?;
    }
    let key = key.of_bearer(&request.token, &bytes);
    let (engine, address) = (app.engine.clone(), from.to_string());
    let enrolled = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(async move { Ok(engine.enroll_in(tx, &address, &request).await?) })
    })
    .await;
    match enrolled {
        Ok(mut response) => {
            // Its token has one use less.
            let mut tx = app.store.read().await?;
            let token = enrollment_tokens::by_hash(&mut tx, &token).await?;
            let project = token.and_then(|token| ProjectId::new(&token.project_id).ok());
            if let Some(project) = project {
                app.changed(&project, Listing::EnrollmentTokens, "");
            }
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            Ok(response)
        }
        Err(refused) => {
            if refused.status == StatusCode::UNAUTHORIZED {
                if is_guess {
                    app.limiter.machine_failed(from, GUESSES, app.clock.steady());
                }
                let actor = Actor { name: format!("device:{device}"), from: from.to_string() };
                record_denied(&app, actor, None, "device.enroll", "/api/v1/enroll", Value::Null)
                    .await;
            }
            Err(refused)
        }
    }
}

fn check_tags(request: &CreateEnrollmentToken) -> Result<()> {
    if request.tags.len() > TAGS_MAX {
        return Err(Error::invalid("tags", format!("expected at most {TAGS_MAX}")));
    }
    for (key, value) in &request.tags {
        let is_key = (1..=TAG_KEY_MAX_BYTES).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
        if !is_key {
            let expected =
                format!("expected 1 to {TAG_KEY_MAX_BYTES} of letters, digits, '.', '_', '-', '/'");
            return Err(Error::invalid(format!("tags.{key}"), expected));
        }
        if value.len() > TAG_VALUE_MAX_BYTES || value.chars().any(char::is_control) {
            let expected = format!("expected at most {TAG_VALUE_MAX_BYTES} bytes in one line");
            return Err(Error::invalid(format!("tags.{key}"), expected));
        }
    }
    Ok(())
}
