//! People: `/users`, for server admins.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use quarterdeck_protocol::{
    api::{AuditOutcome, ChangeUser, CreateUser, Page, User},
    live::Listing,
};
use serde_json::{Value, json};

use super::{
    App,
    auth::{busy, record},
    extract::{Caller, PathId, ServerAdmin},
    idempotency::{IdempotencyKey, once},
    json::Json,
    openapi::{CreateParams, ListParams},
    problem::{Error, Result},
    query::Params,
    tunnel_rights::{Concerned, close_those_without},
};
use crate::{
    auth::{check_username, password},
    engine::After,
    store::{
        sessions,
        users::{self, NewUser},
    },
};

/// Lists users by name.
#[utoipa::path(get, path = "/users", tag = "users", params(ListParams),
    responses((status = 200, body = Page<User>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _admin: ServerAdmin,
    mut params: Params,
) -> Result<axum::Json<Page<User>>> {
    let paging = params.paging()?;
    params.finish()?;
    let descending = paging.descending(&["username"], false)?;
    let after = paging.after_key()?;
    let mut tx = app.store.read().await?;
    let users = users::list(&mut tx, descending, after.as_deref(), paging.limit + 1).await?;
    let total = users::count(&mut tx).await?;
    Ok(axum::Json(paging.page(users, total, |user| user.username.clone())))
}

/// Adds a user, who has no role anywhere yet.
#[utoipa::path(post, path = "/users", tag = "users",
    params(CreateParams), responses((status = 201, body = User)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    ServerAdmin(caller): ServerAdmin,
    key: IdempotencyKey,
    Json { value: request, bytes }: Json<CreateUser>,
) -> Result<Response> {
    check_username(&request.username).map_err(|expected| Error::invalid("username", expected))?;
    password::check_new(&request.password)
        .map_err(|expected| Error::invalid("password", expected))?;
    let key = key.of("", &caller.name, &bytes);
    let password_hash = app.passwords.hash(request.password).await.map_err(busy)?;
    let now = app.clock.wall();
    let new = NewUser {
        id: app.clock.new_uuid().to_string(),
        username: request.username.clone(),
        password_hash,
        is_admin: request.admin,
        created_at: now,
    };
    let (auditor, actor) = (app.auditor.clone(), caller.actor());
    let response = once(&app, key, StatusCode::CREATED, move |tx| {
        Box::pin(async move {
            if !users::insert(tx, &new).await? {
                return Err(Error::conflict("username_taken", "there is a user with this name"));
            }
            let (object, detail) =
                (format!("user:{}", new.username), json!({ "admin": new.is_admin }));
            record(&auditor, tx, now, &actor, "user.create", object, AuditOutcome::Ok, detail)
                .await?;
            let user = users::by_name(tx, &new.username).await?.ok_or_else(Error::internal)?;
            Ok((users::shown(tx, user).await?, After::default()))
        })
    })
    .await?;
    app.changed_server(Listing::Users, &request.username);
    Ok(response)
}

/// Changes a user. A new password or being disabled ends all their sessions.
#[utoipa::path(patch, path = "/users/{username}", tag = "users", responses((status = 200, body = User)))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    ServerAdmin(caller): ServerAdmin,
    PathId(username): PathId,
    Json { value: request, .. }: Json<ChangeUser>,
) -> Result<axum::Json<User>> {
    apply(&app, &caller, username, request, "user.change").await
}

/// Changes a user: the same as `PATCH`.
#[utoipa::path(put, path = "/users/{username}", tag = "users", responses((status = 200, body = User)))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    ServerAdmin(caller): ServerAdmin,
    PathId(username): PathId,
    Json { value: request, .. }: Json<ChangeUser>,
) -> Result<axum::Json<User>> {
    apply(&app, &caller, username, request, "user.change").await
}

/// Disables a user. What they did stays theirs, so nobody is ever removed.
#[utoipa::path(delete, path = "/users/{username}", tag = "users", responses((status = 204)))]
pub(super) async fn disable(
    State(app): State<Arc<App>>,
    ServerAdmin(caller): ServerAdmin,
    PathId(username): PathId,
) -> Result<StatusCode> {
    let request = ChangeUser { disabled: Some(true), ..ChangeUser::default() };
    apply(&app, &caller, username, request, "user.disable").await.map(|_| StatusCode::NO_CONTENT)
}

async fn apply(
    app: &App,
    caller: &Caller,
    username: String,
    request: ChangeUser,
    action: &'static str,
) -> Result<axum::Json<User>> {
    let new_hash = match request.password {
        None => None,
        Some(password) => {
            password::check_new(&password)
                .map_err(|expected| Error::invalid("password", expected))?;
            Some(app.passwords.hash(password).await.map_err(busy)?)
        }
    };
    let (auditor, actor, now) = (app.auditor.clone(), caller.actor(), app.clock.wall());
    let user = app
        .write(move |tx| {
            Box::pin(async move {
                let mut user =
                    users::by_name(tx, &username).await?.ok_or_else(|| Error::not_found("user"))?;
                let detail = json!({
                    "admin": request.admin, "disabled": request.disabled,
                    "password": new_hash.as_ref().map(|_| "changed"),
                });
                let ends_sessions = new_hash.is_some() || request.disabled == Some(true);
                user.is_admin = request.admin.unwrap_or(user.is_admin);
                user.disabled = request.disabled.unwrap_or(user.disabled);
                user.password_hash = new_hash.unwrap_or(user.password_hash);
                users::update(tx, &user).await?;
                if users::count_admins(tx).await? == 0 {
                    return Err(Error::conflict(
                        "last_admin",
                        "this is the last server admin; make somebody else one first",
                    ));
                }
                if ends_sessions {
                    sessions::revoke_all(tx, &user.id, None, now).await?;
                }
                let object = format!("user:{}", user.username);
                record(
                    &auditor,
                    tx,
                    now,
                    &actor,
                    action,
                    object,
                    AuditOutcome::Ok,
                    without_nulls(detail),
                )
                .await?;
                Ok(users::shown(tx, user).await?)
            })
        })
        .await?;
    app.changed_server(Listing::Users, &user.username);
    close_those_without(app, Concerned::User(&user.username)).await;
    Ok(axum::Json(user))
}

/// Only what was asked for.
fn without_nulls(detail: Value) -> Value {
    match detail {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}
