//! Tokens of programs: `/service-tokens`, for admins of the project that a token is good for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{extract::State, http::StatusCode, response::Response};
use quarterdeck_protocol::{
    api::{AuditOutcome, CreateServiceToken, Page, Role, ServiceToken},
    ids::ProjectId,
};
use serde_json::{Value, json};

use super::{
    App,
    extract::{AnyAdmin, Caller, CallerKind, PathId, SERVICE_PREFIX, record_denied, role_now},
    idempotency::{IdempotencyKey, once},
    json::Json,
    openapi::{CreateParams, ListParams},
    problem::{Error, Result},
    query::Params,
    tunnel_rights::{Concerned, close_those_without},
};
use crate::{
    auth::{hash_secret, new_secret},
    engine::After,
    store::{
        audit::NewEntry,
        service_tokens::{self, StoredToken},
    },
};

/// The longest name of a token, in characters.
const TOKEN_NAME_MAX_CHARS: usize = 100;
/// The longest life of a token, in seconds; one without an end is allowed as well.
const TOKEN_EXPIRES_MAX_S: u64 = 10 * 365 * 24 * 3600;
/// How often a use is written down, per token, in milliseconds.
const USE_NOTED_EVERY_MS: i64 = 60_000;
/// Tokens whose last use is remembered in memory.
const USES_MAX: usize = 10_000;

/// Notes when tokens were used, seldom enough to cost nothing.
#[derive(Debug, Default)]
pub struct Uses(Mutex<HashMap<String, i64>>);

impl Uses {
    /// Takes note of a use.
    pub fn note(&self, app: &App, id: &str) {
        let now_ms = app.clock.steady();
        {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.get(id).is_some_and(|at| now_ms - at < USE_NOTED_EVERY_MS) {
                return;
            }
            if noted.len() >= USES_MAX {
                noted.clear();
            }
            noted.insert(id.to_owned(), now_ms);
        }
        let (store, at, id) = (app.store.clone(), app.clock.wall(), id.to_owned());
        tokio::spawn(async move {
            let written = store
                .write(move |tx| Box::pin(async move { service_tokens::touch(tx, &id, at).await }))
                .await;
            if let Err(error) | Ok(Err(error)) = written {
                tracing::warn!(%error, "the use of a service token was not noted");
            }
        });
    }
}

/// Lists the service tokens of the projects that the caller administers; one project's with `project`.
#[utoipa::path(get, path = "/service-tokens", tag = "service tokens",
    params(ListParams, ("project" = Option<String>, Query, description = "Only those of this project.")),
    responses((status = 200, body = Page<ServiceToken>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    AnyAdmin(caller): AnyAdmin,
    mut params: Params,
) -> Result<axum::Json<Page<ServiceToken>>> {
    let paging = params.paging()?;
    let project: Option<ProjectId> = params.parse("project", "a project's id")?;
    params.finish()?;
    paging.one_order("id")?;
    let after = paging.after_key()?;
    if let Some(project) = &project {
        administers(&app, &caller, project, "project", "read").await?;
    }
    let (user, project) = match &caller.kind {
        CallerKind::User { is_admin: true, .. } => (None, project),
        CallerKind::User { user_id, .. } => (Some(user_id.clone()), project),
        // A program sees the tokens of its own project.
        CallerKind::Service { project: own, .. } => (None, Some(own.clone())),
    };
    let mut tx = app.store.read().await?;
    let (user, project) = (user.as_deref(), project.as_ref());
    let items =
        service_tokens::list(&mut tx, user, project, after.as_deref(), paging.limit + 1).await?;
    let total = service_tokens::count(&mut tx, user, project).await?;
    Ok(axum::Json(paging.page(items, total, |token| token.id.clone())))
}

/// Makes a service token; the answer is the only place where it ever stands.
#[utoipa::path(post, path = "/service-tokens", tag = "service tokens",
    params(CreateParams), responses((status = 201, body = ServiceToken)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    AnyAdmin(caller): AnyAdmin,
    key: IdempotencyKey,
    Json { value: request, bytes }: Json<CreateServiceToken>,
) -> Result<Response> {
    administers(&app, &caller, &request.project, "project", "service_token.create").await?;
    let name_chars = request.name.chars().count();
    let is_plain = !request.name.chars().any(char::is_control);
    if !(1..=TOKEN_NAME_MAX_CHARS).contains(&name_chars) || !is_plain {
        let expected = format!("expected 1 to {TOKEN_NAME_MAX_CHARS} characters in one line");
        return Err(Error::invalid("name", expected));
    }
    if request.expires_in_s.is_some_and(|s| !(1..=TOKEN_EXPIRES_MAX_S).contains(&s)) {
        return Err(Error::invalid("expires_in_s", format!("expected 1 to {TOKEN_EXPIRES_MAX_S}")));
    }
    let key = key.of(request.project.as_str(), &caller.name, &bytes);
    let (auditor, actor, now) = (app.auditor.clone(), caller.actor(), app.clock.wall());
    let secret = new_secret(&app.clock, SERVICE_PREFIX);
    let token = StoredToken {
        id: app.clock.new_uuid().to_string(),
        project_id: request.project.to_string(),
        name: request.name,
        role: request.role.as_str().to_owned(),
        created_by: caller.name.clone(),
        created_at: now.as_millis(),
        expires_at: request.expires_in_s.map(|s| now.plus_seconds(s as i64).as_millis()),
        revoked_at: None,
        last_used_at: None,
    };
    let project = request.project.clone();
    let response = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(async move {
            service_tokens::insert(tx, &token, &hash_secret(&secret)).await?;
            let entry = NewEntry {
                project: &project,
                at: now,
                actor: &actor,
                action: "service_token.create",
                object: format!("service_token:{}", token.id),
                outcome: AuditOutcome::Ok,
                detail: json!({ "name": token.name, "role": token.role }),
            };
            auditor.append(tx, entry).await?;
            let shown = token.shown()?;
            Ok((ServiceToken { token: Some(secret), ..shown }, After::default()))
        })
    })
    .await?;
    app.audit_changed_of(&request.project);
    Ok(response)
}

/// Revokes a service token.
#[utoipa::path(delete, path = "/service-tokens/{id}", tag = "service tokens", responses((status = 204)))]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    AnyAdmin(caller): AnyAdmin,
    PathId(id): PathId,
) -> Result<StatusCode> {
    let mut tx = app.store.read().await?;
    let token = service_tokens::by_id(&mut tx, &id).await?;
    drop(tx);
    let token = token.ok_or_else(|| Error::not_found("service token"))?;
    let project = ProjectId::new(&token.project_id).map_err(|_| Error::internal())?;
    administers(&app, &caller, &project, "service token", "service_token.revoke").await?;
    let (auditor, actor, now) = (app.auditor.clone(), caller.actor(), app.clock.wall());
    let (chain, holder) = (project.clone(), token.actor());
    app.write(move |tx| {
        Box::pin(async move {
            if service_tokens::revoke(tx, &id, now).await? {
                let entry = NewEntry {
                    project: &chain,
                    at: now,
                    actor: &actor,
                    action: "service_token.revoke",
                    object: format!("service_token:{id}"),
                    outcome: AuditOutcome::Ok,
                    detail: Value::Null,
                };
                auditor.append(tx, entry).await?;
            }
            Ok(())
        })
    })
    .await?;
    app.audit_changed_of(&project);
    close_those_without(&app, Concerned::User(&holder)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The project stands in the body or in the token's row, not in the path: asked here.
async fn administers(
    app: &Arc<App>,
    caller: &Caller,
    project: &ProjectId,
    what: &str,
    action: &'static str,
) -> Result<()> {
    match role_now(app, caller, project).await? {
        Some(Role::Admin) => Ok(()),
        Some(_) => {
            record_denied(
                app,
                caller.actor(),
                Some(project),
                action,
                "/api/v1/service-tokens",
                Value::Null,
            )
            .await;
            Err(Error::forbidden(format!("this needs the role admin in project {project}")))
        }
        None => Err(Error::not_found(what)),
    }
}
