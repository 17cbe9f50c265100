//! Who asks, and whether they may: one extractor per needed right, so that each
//! route states in its signature whom it serves.
//!
//! | extractor | serves |
//! | --- | --- |
//! | [`SignedIn`] | any user or service token |
//! | [`ServerAdmin`] | users who manage the server |
//! | [`AnyAdmin`] | admins of one project at least, where the path names none |
//! | [`Viewer`], [`Operator`], [`Admin`] | members of the project in the path, with that role or more |
//! | [`DeviceCaller`] | a device, by its secret |
//! | [`From`] | anybody; tells the address |
//!
//! Nobody: 401. A project that the caller is no member of looks like one that
//! does not exist: 404. A missing role: 403, and an audit entry.

use std::{marker::PhantomData, net::IpAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use quarterdeck_protocol::{
    api::{AuditOutcome, Role},
    ids::{DeviceId, ProjectId},
};
use serde_json::Value;

use super::{
    App, actions,
    problem::{Error, Result},
    server::Peer,
};
use crate::{
    auth::{access, hash_secret},
    mqtt::link::Denied,
    store::{
        StoreError,
        audit::{Actor, NewEntry, SERVER_CHAIN},
        members,
        projects::Reader,
        service_tokens, sessions,
    },
};

/// Service tokens begin so; anything else is an access token.
pub const SERVICE_PREFIX: &str = "qds_";
/// Secrets that are longer are not looked at, in bytes.
const SECRET_MAX_BYTES: usize = 4 * 1024;

/// Somebody who has shown who they are.
#[derive(Debug, Clone)]
pub struct Caller {
    pub kind: CallerKind,
    /// A username, or of a service token what tells it from all others.
    pub name: String,
    pub from: IpAddr,
}

/// By what they have shown it.
#[derive(Debug, Clone)]
pub enum CallerKind {
    User { user_id: String, session_id: String, is_admin: bool },
    Service { token_id: String, project: ProjectId, role: Role },
}

impl Caller {
    /// For the audit trail.
    pub fn actor(&self) -> Actor {
        Actor { name: self.name.clone(), from: self.from.to_string() }
    }

    pub fn is_server_admin(&self) -> bool {
        matches!(self.kind, CallerKind::User { is_admin: true, .. })
    }

    /// Which projects they see.
    pub fn reader(&self) -> Reader {
        match &self.kind {
            CallerKind::User { is_admin: true, .. } => Reader::ServerAdmin,
            CallerKind::User { user_id, .. } => Reader::User { id: user_id.clone() },
            CallerKind::Service { project, role, .. } => {
                Reader::Service { project: project.clone(), role: *role }
            }
        }
    }
}

/// Tells who a token stands for now, and their role in `project` (empty: in none).
pub async fn identify(
    app: &App,
    token: &str,
    project: &str,
    from: IpAddr,
) -> Result<(Caller, Option<Role>)> {
    let invalid = || Error::unauthorized("invalid_token", "the token is not valid, or no longer");
    if token.len() > SECRET_MAX_BYTES {
        return Err(invalid());
    }
    let now = app.clock.wall();
    if token.starts_with(SERVICE_PREFIX) {
        let mut tx = app.store.read().await?;
        let found = service_tokens::by_hash(&mut tx, &hash_secret(token), now).await?;
        let found = found.ok_or_else(invalid)?;
        let name = found.actor();
        app.token_uses.note(app, &found.id);
        let shown = found.project_id.clone();
        let id = found.id.clone();
        let role = found.shown()?.role;
        let own = ProjectId::new(&shown).map_err(|_| Error::internal())?;
        let in_project = (shown == project).then_some(role);
        let kind = CallerKind::Service { token_id: id, project: own, role };
        return Ok((Caller { kind, name, from }, in_project));
    }
    let access = access::check(&app.keys, token, now).map_err(|error| match error {
        access::AccessError::Expired => {
            Error::unauthorized("token_expired", "the access token has expired; refresh it")
        }
        access::AccessError::Invalid => invalid(),
    })?;
    let mut tx = app.store.read().await?;
    let holder = sessions::holder(&mut tx, &access.session_id, project, now).await?;
    let holder = holder.ok_or_else(|| {
        Error::unauthorized("session_ended", "the session has ended; sign in again")
    })?;
    let role = holder.role();
    let kind = CallerKind::User {
        user_id: holder.user_id,
        session_id: access.session_id,
        is_admin: holder.is_admin,
    };
    Ok((Caller { kind, name: holder.username, from }, role))
}

/// What somebody may do in a project now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub role: Role,
    pub is_server_admin: bool,
}

/// Tells what a caller may do in a project now: `None` when nothing, an error when they are nobody any more.
pub async fn standing_now(
    app: &App,
    caller: &Caller,
    project: &ProjectId,
) -> Result<Option<Standing>> {
    let mut tx = app.store.read().await?;
    let now = app.clock.wall();
    match &caller.kind {
        CallerKind::User { session_id, .. } => {
            let holder = sessions::holder(&mut tx, session_id, project.as_str(), now).await?;
            let holder = holder.ok_or_else(|| {
                Error::unauthorized("session_ended", "the session has ended; sign in again")
            })?;
            let is_server_admin = holder.is_admin;
            Ok(holder.role().map(|role| Standing { role, is_server_admin }))
        }
        CallerKind::Service { token_id, project: own, role } => {
            let token = service_tokens::by_id(&mut tx, token_id).await?;
            if !token.is_some_and(|token| token.is_good(now)) {
                return Err(Error::unauthorized("invalid_token", "the token is no longer valid"));
            }
            Ok((own == project).then_some(Standing { role: *role, is_server_admin: false }))
        }
    }
}

/// Tells which role a caller holds in a project now.
pub async fn role_now(app: &App, caller: &Caller, project: &ProjectId) -> Result<Option<Role>> {
    Ok(standing_now(app, caller, project).await?.map(|standing| standing.role))
}

/// Any user or service token.
#[derive(Debug, Clone)]
pub struct SignedIn(pub Caller);

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let token = bearer(&parts.headers)?;
        Ok(Self(identify(app, &token, "", peer(parts)).await?.0))
    }
}

/// A user who manages the server.
#[derive(Debug, Clone)]
pub struct ServerAdmin(pub Caller);

impl FromRequestParts<Arc<App>> for ServerAdmin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, app).await?;
        if caller.is_server_admin() {
            return Ok(Self(caller));
        }
        deny(app, &caller, None, parts).await;
        Err(Error::forbidden("only a server admin may do this"))
    }
}

/// Somebody who administers one project at least: asked before a body that names it is read.
#[derive(Debug, Clone)]
pub struct AnyAdmin(pub Caller);

impl FromRequestParts<Arc<App>> for AnyAdmin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, app).await?;
        let (is_one, own) = match &caller.kind {
            CallerKind::User { is_admin: true, .. } => (true, None),
            CallerKind::User { user_id, .. } => {
                let mut tx = app.store.read().await?;
                (members::administers_any(&mut tx, user_id).await?, None)
            }
            CallerKind::Service { role, project, .. } => (*role == Role::Admin, Some(project)),
        };
        if !is_one {
            deny(app, &caller, own, parts).await;
            return Err(Error::forbidden("this needs the role admin in a project"));
        }
        Ok(Self(caller))
    }
}

/// A right that a route needs in the project of its path.
pub trait Needs: Send + Sync {
    const ROLE: Role;
}

/// Marks routes that every member may use.
#[derive(Debug, Clone, Copy)]
pub struct ToView;
/// Marks routes that act on devices, commands and alerts.
#[derive(Debug, Clone, Copy)]
pub struct ToOperate;
/// Marks routes that manage the project.
#[derive(Debug, Clone, Copy)]
pub struct ToAdminister;

impl Needs for ToView {
    const ROLE: Role = Role::Viewer;
}
impl Needs for ToOperate {
    const ROLE: Role = Role::Operator;
}
impl Needs for ToAdminister {
    const ROLE: Role = Role::Admin;
}

/// A member of the project in the path, with the role that the route needs or more.
#[derive(Debug, Clone)]
pub struct Member<N> {
    pub project: ProjectId,
    pub caller: Caller,
    pub role: Role,
    needs: PhantomData<N>,
}

pub type Viewer = Member<ToView>;
pub type Operator = Member<ToOperate>;
pub type Admin = Member<ToAdminister>;

impl<N: Needs> FromRequestParts<Arc<App>> for Member<N> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let token = bearer(&parts.headers)?;
        let named = project_in_path(parts, app).await?;
        let (caller, role) = identify(app, &token, &named, peer(parts)).await?;
        let (Ok(project), Some(role)) = (ProjectId::new(&named), role) else {
            return Err(Error::not_found("project"));
        };
        if role < N::ROLE {
            deny(app, &caller, Some(&project), parts).await;
            return Err(Error::forbidden(format!(
                "this needs the role {} in project {project}; you are {}",
                N::ROLE.as_str(),
                role.as_str()
            )));
        }
        Ok(Self { project, caller, role, needs: PhantomData })
    }
}

async fn project_in_path(parts: &mut Parts, app: &Arc<App>) -> Result<String> {
    let params = RawPathParams::from_request_parts(parts, app)
        .await
        .map_err(|_| Error::malformed("bad_path", "the path is not UTF-8"))?;
    let named = params.iter().find(|(name, _)| *name == "project");
    Ok(named.map(|(_, value)| value.to_owned()).unwrap_or_default())
}

/// The id at the end of a path's parameters, unread: what is no id of anything is not found.
#[derive(Debug, Clone)]
pub struct PathId(pub String);

impl FromRequestParts<Arc<App>> for PathId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let params = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|_| Error::malformed("bad_path", "the path is not UTF-8"))?;
        let last = params.iter().last().map(|(_, value)| value.to_owned()).unwrap_or_default();
        // No id has one, and PostgreSQL takes none in a text.
        if last.contains('\0') {
            return Err(Error::malformed("bad_path", "the path has a character U+0000"));
        }
        Ok(Self(last))
    }
}

/// A device, by its secret.
#[derive(Debug, Clone)]
pub struct DeviceCaller {
    pub project: ProjectId,
    pub device: DeviceId,
    pub from: IpAddr,
}

impl FromRequestParts<Arc<App>> for DeviceCaller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let from = peer(parts);
        let (user, secret) = basic(&parts.headers).ok_or_else(|| {
            Error::unauthorized("unauthorized", "a device signs in with Basic authentication")
        })?;
        // Whatever others guess from the same address: who brings the secret is let in.
        match app.engine.authenticate_device(&user, secret.as_bytes()).await {
            Ok(identity) => {
                Ok(Self { project: identity.project_id, device: identity.device_id, from })
            }
            Err(Denied::Unavailable) => {
                Err(Error::unavailable("credentials cannot be checked now"))
            }
            Err(Denied::BadCredentials | Denied::Revoked) => {
                app.limiter
                    .machine_may_try(from, &user, app.clock.steady())
                    .map_err(|e| Error::too_many(e.retry_after_s, "too many wrong secrets"))?;
                app.limiter.machine_failed(from, &user, app.clock.steady());
                deny_device(app, &user, from, parts).await;
                Err(Error::unauthorized("unauthorized", "unknown device or wrong secret"))
            }
        }
    }
}

/// Anybody: the address that the request comes from.
#[derive(Debug, Clone, Copy)]
pub struct From(pub IpAddr);

impl FromRequestParts<Arc<App>> for From {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self> {
        Ok(Self(peer(parts)))
    }
}

/// Whether a request brings a device's credentials rather than a user's.
pub fn is_basic(headers: &HeaderMap) -> bool {
    scheme(headers).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
}

fn peer(parts: &Parts) -> IpAddr {
    parts
        .extensions
        .get::<ConnectInfo<Peer>>()
        .map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |ConnectInfo(Peer(address))| {
            address.ip().to_canonical()
        })
}

fn scheme(headers: &HeaderMap) -> Option<(&str, &str)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    Some((scheme, rest.trim()))
}

pub(crate) fn bearer(headers: &HeaderMap) -> Result<String> {
    scheme(headers)
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .map(|(_, token)| token.to_owned())
        .ok_or_else(|| {
            Error::unauthorized("unauthorized", "sign in: Authorization: Bearer TOKEN is needed")
        })
}

pub(crate) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = scheme(headers)?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > SECRET_MAX_BYTES {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, secret) = text.split_once(':')?;
    Some((user.to_owned(), secret.to_owned()))
}

/// Records that somebody known was refused. That it cannot be recorded changes nothing of the refusal.
async fn deny(app: &Arc<App>, caller: &Caller, project: Option<&ProjectId>, parts: &Parts) {
    let matched = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let action = actions::of(&parts.method, matched);
    record_denied(app, caller.actor(), project, action, parts.uri.path(), Value::Null).await;
}

async fn deny_device(app: &Arc<App>, user: &str, from: IpAddr, parts: &Parts) {
    let (project, device) = user.split_once('/').unwrap_or(("", user));
    let project = ProjectId::new(project).ok();
    let actor = Actor { name: format!("device:{device}"), from: from.to_string() };
    let matched = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let action = actions::of(&parts.method, matched);
    record_denied(app, actor, project.as_ref(), action, parts.uri.path(), Value::Null).await;
}

/// Writes a `denied` entry into the chain of a project that exists, else into the server's; with
/// `detail`, an object or null, of what was asked for beyond what its path tells.
pub async fn record_denied(
    app: &Arc<App>,
    actor: Actor,
    project: Option<&ProjectId>,
    action: &'static str,
    path: &str,
    mut detail: Value,
) {
    let (auditor, at) = (app.auditor.clone(), app.clock.wall());
    let project = project.cloned();
    detail["path"] = path.into();
    let object = actions::object(path);
    let written = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let server = ProjectId::new(SERVER_CHAIN).expect("a constant name");
                let chain = match project {
                    Some(project)
                        if crate::store::projects::exists(tx, project.as_str()).await? =>
                    {
                        project
                    }
                    _ => server,
                };
                let entry = NewEntry {
                    project: &chain,
                    at,
                    actor: &actor,
                    action,
                    object,
                    outcome: AuditOutcome::Denied,
                    detail,
                };
                auditor.append(tx, entry).await?;
                Ok::<_, StoreError>(chain)
            })
        })
        .await;
    match written {
        Ok(Ok(chain)) => app.audit_changed_of(&chain),
        Err(error) | Ok(Err(error)) => tracing::error!(%error, "a refusal could not be recorded"),
    }
}
