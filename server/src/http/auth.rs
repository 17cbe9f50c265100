//! Signing in and out (chapter 9): `/auth/*`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use quarterdeck_protocol::{
    api::{AuditOutcome, LoginRequest, Me, RefreshRequest, Tokens},
    live::Listing,
    time::Timestamp,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    App,
    extract::{CallerKind, From, SignedIn, record_denied},
    idempotency::IdempotencyKey,
    json::Json,
    problem::{Error, Result},
    server_chain,
};
use crate::{
    auth::{
        USERNAME_MAX_BYTES, access, hash_secret,
        password::PasswordError,
        refresh::{GRACE_MS, Refresh, SESSION_IDLE_MAX_S, Salt},
    },
    store::{
        Tx,
        audit::{Actor, Auditor, NewEntry},
        projects,
        sessions::{self, NewSession},
        users,
    },
};

/// Signs a user in.
#[utoipa::path(post, path = "/auth/login", tag = "auth", security(()),
    responses((status = 200, body = Tokens), (status = 401), (status = 429)))]
pub(super) async fn login(
    State(app): State<Arc<App>>,
    From(from): From,
    Json { value: request, .. }: Json<LoginRequest>,
) -> Result<Response> {
    let LoginRequest { username, password } = request;
    let actor = Actor { name: username.clone(), from: from.to_string() };
    let mut tx = app.store.read().await?;
    let is_known = sessions::signed_in_from(&mut tx, &username, &actor.from).await?;
    let user = if username.len() <= USERNAME_MAX_BYTES {
        users::by_name(&mut tx, &username).await?
    } else {
        None
    };
    drop(tx);
    let guess = app.limiter.take(from, &username, is_known, app.clock.steady()).map_err(|e| {
        ::metrics::counter!("quarterdeck_logins_total", "outcome" => "limited").increment(1);
        Error::too_many(e.retry_after_s, "too many wrong passwords; wait, then try again")
    })?;
    let hash = user.as_ref().map(|user| user.password_hash.clone());
    let is_right = match app.passwords.verify(password, hash).await {
        Ok(is_right) => is_right,
        Err(error) => {
            app.limiter.give_back(guess);
            return Err(busy(error));
        }
    };
    let Some(user) = user.filter(|user| is_right && !user.disabled) else {
        ::metrics::counter!("quarterdeck_logins_total", "outcome" => "denied").increment(1);
        record_denied(&app, actor, None, "auth.login", "/api/v1/auth/login", Value::Null).await;
        return Err(Error::unauthorized("wrong_credentials", "wrong username or password"));
    };
    app.limiter.give_back(guess);
    ::metrics::counter!("quarterdeck_logins_total", "outcome" => "ok").increment(1);

    let now = app.clock.wall();
    let session = app.clock.new_uuid();
    let first = Refresh { session, generation: 0, salt: Salt::fresh(&app.clock) };
    let refresh_token = first.token(&app.keys);
    let new = NewSession {
        id: session.to_string(),
        user_id: user.id.clone(),
        refresh_hash: hash_secret(&refresh_token),
        from_addr: actor.from.clone(),
        at: now,
        expires_at: now.plus_seconds(SESSION_IDLE_MAX_S),
    };
    let auditor = app.auditor.clone();
    let checked_hash = user.password_hash;
    app.write(move |tx| {
        Box::pin(async move {
            // Disabled, or given another password, while this one was checked?
            let user = users::by_name(tx, &actor.name).await?;
            let user = user.filter(|user| !user.disabled && user.password_hash == checked_hash);
            let Some(user) = user else {
                return Err(Error::unauthorized("wrong_credentials", "wrong username or password"));
            };
            users::update(tx, &users::StoredUser { last_login_at: Some(now.as_millis()), ..user })
                .await?;
            sessions::insert(tx, &new).await?;
            let session = format!("session:{}", new.id);
            record(&auditor, tx, now, &actor, "auth.login", session, AuditOutcome::Ok, Value::Null)
                .await
        })
    })
    .await?;
    app.changed_server(Listing::Users, &username);
    tokens(&app, session, &username, refresh_token, now)
}

/// Renews the tokens of a session.
///
/// The refresh token is good once. A client that lost the answer gets the very same one again, for
/// ten seconds and with the same `Idempotency-Key`. Any other repetition ends the session: somebody
/// else has the token as well.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", security(()),
    responses((status = 200, body = Tokens), (status = 401)))]
pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    From(from): From,
    key: IdempotencyKey,
    Json { value: request, .. }: Json<RefreshRequest>,
) -> Result<Response> {
    let salt = key.given().map_or_else(|| Salt::fresh(&app.clock), Salt::of_key);
    let given = Refresh::read(&app.keys, &request.refresh_token).ok_or_else(session_ended)?;
    let given_hash = hash_secret(&request.refresh_token);
    let now = app.clock.wall();
    let (auditor, keys, from) = (app.auditor.clone(), app.keys.clone(), from.to_string());
    let outcome = app
        .write(move |tx| {
            Box::pin(async move {
                let id = given.session.to_string();
                let session = sessions::by_id(tx, &id).await?.ok_or_else(session_ended)?;
                let holder = sessions::holder(tx, &id, "", now).await?.ok_or_else(session_ended)?;
                let next = given.next(salt).token(&keys);
                let next_hash = hash_secret(&next);
                if session.refresh_hash == given_hash {
                    let expires_at = now.plus_seconds(SESSION_IDLE_MAX_S);
                    let rotated =
                        sessions::rotate(tx, &id, &given_hash, &next_hash, now, expires_at).await?;
                    return if rotated {
                        Ok(Some((holder.username, next)))
                    } else {
                        Err(session_ended())
                    };
                }
                let is_recent = now.as_millis() - session.refreshed_at <= GRACE_MS;
                // The same key makes the same token: the client never saw the answer.
                let is_repetition = session.previous_refresh_hash.as_ref() == Some(&given_hash)
                    && session.refresh_hash == next_hash;
                if is_repetition && is_recent {
                    return Ok(Some((holder.username, next)));
                }
                // Somebody else has the session's tokens as well: it ends, for both.
                sessions::revoke(tx, &id, now).await?;
                let actor = Actor { name: holder.username, from };
                let detail = json!({ "reason": "a refresh token was used again" });
                let object = format!("session:{id}");
                record(
                    &auditor,
                    tx,
                    now,
                    &actor,
                    "auth.refresh",
                    object,
                    AuditOutcome::Denied,
                    detail,
                )
                .await?;
                Ok(None)
            })
        })
        .await?;
    let Some((username, refresh_token)) = outcome else {
        app.audit_changed_of(&server_chain());
        return Err(session_ended());
    };
    tokens(&app, given.session, &username, refresh_token, now)
}

/// Ends the session.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", responses((status = 204)))]
pub(super) async fn logout(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
) -> Result<StatusCode> {
    let CallerKind::User { session_id, .. } = caller.kind.clone() else {
        return Err(Error::conflict(
            "no_session",
            "a service token has no session; revoke it instead",
        ));
    };
    let (auditor, now, actor) = (app.auditor.clone(), app.clock.wall(), caller.actor());
    app.write(move |tx| {
        Box::pin(async move {
            sessions::revoke(tx, &session_id, now).await?;
            let object = format!("session:{session_id}");
            record(&auditor, tx, now, &actor, "auth.logout", object, AuditOutcome::Ok, Value::Null)
                .await
        })
    })
    .await?;
    app.audit_changed_of(&server_chain());
    Ok(StatusCode::NO_CONTENT)
}

/// Tells who is asking, and what they may do where.
#[utoipa::path(get, path = "/auth/me", tag = "auth", responses((status = 200, body = Me)))]
pub(super) async fn me(
    State(app): State<Arc<App>>,
    SignedIn(caller): SignedIn,
) -> Result<axum::Json<Me>> {
    let mut tx = app.store.read().await?;
    let projects: BTreeMap<_, _> = projects::list(
        &mut tx,
        &caller.reader(),
        None,
        quarterdeck_protocol::limits::PAGE_MAX_ITEMS,
    )
    .await?
    .into_iter()
    .map(|project| (project.id, project.role))
    .collect();
    Ok(axum::Json(Me { admin: caller.is_server_admin(), username: caller.name, projects }))
}

fn tokens(
    app: &App,
    session: Uuid,
    username: &str,
    refresh_token: String,
    now: Timestamp,
) -> Result<Response> {
    let access_token = access::issue(&app.keys, &session.to_string(), username, now)
        .map_err(|_| Error::internal())?;
    let tokens = Tokens { access_token, refresh_token, expires_in: access::ACCESS_TTL_S as u64 };
    let mut response = axum::Json(tokens).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn session_ended() -> Error {
    Error::unauthorized("session_ended", "the session has ended; sign in again")
}

/// For who waits for a password's hash.
pub(super) fn busy(error: PasswordError) -> Error {
    match error {
        PasswordError::Busy => Error::unavailable(error.to_string()),
        PasswordError::Hash => {
            tracing::error!("a password could not be hashed");
            Error::internal()
        }
    }
}

/// Records what was done to the server as a whole.
#[expect(clippy::too_many_arguments, reason = "they are the columns of one row")]
pub(super) async fn record(
    auditor: &Auditor,
    tx: &mut Tx,
    at: Timestamp,
    actor: &Actor,
    action: &str,
    object: String,
    outcome: AuditOutcome,
    detail: Value,
) -> Result<()> {
    let project = &server_chain();
    auditor.append(tx, NewEntry { project, at, actor, action, object, outcome, detail }).await?;
    Ok(())
}
