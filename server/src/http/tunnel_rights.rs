//! Who may have a tunnel, beyond the role that its route takes (chapter 7).
//!
//! | who | needs |
//! | --- | --- |
//! | opens a tunnel, or types in one as its owner or copilot | operator; to a device in production the project's `production_tunnel_role` |
//! | takes the tag away that says "production" | the same |
//! | watches | to be a member, as for recordings |
//!
//! A tunnel whose user may not have it any more is closed, attended or not: when roles change, a
//! device's tags, what a project asks for production, or a service token is revoked. Who is
//! attached is asked for their right again and again besides.

use quarterdeck_protocol::{
    api::{Device, Role},
    ids::{DeviceId, ProjectId},
    time::Timestamp,
    tunnel::{close::CloseCode, session::Mode},
};

use super::{
    App,
    problem::{Error, Result},
};
use crate::{
    store::{Tx, devices, projects, service_tokens, tunnels::Served, users},
    tunnels::session::Session,
};

/// The tags that say what a device is for, and what they say of one that matters.
const STAGE_TAGS: [&str; 3] = ["environment", "env", "stage"];
const PRODUCTION: [&str; 2] = ["production", "prod"];

/// Tells which role attaching to a tunnel of a device takes.
pub(crate) async fn role_to_attach(
    tx: &mut Tx,
    project: &ProjectId,
    device: &DeviceId,
    mode: Mode,
) -> Result<Role> {
    if mode == Mode::Watch {
        return Ok(Role::Viewer);
    }
    match devices::get(tx, project, device).await? {
        Some(device) => role_to_open(tx, project, &device).await,
        None => Ok(Role::Operator),
    }
}

/// Tells which role opening a tunnel to a device takes.
pub(super) async fn role_to_open(
    tx: &mut Tx,
    project: &ProjectId,
    device: &Device,
) -> Result<Role> {
    if !is_production(device) {
        return Ok(Role::Operator);
    }
    let settings = projects::settings(tx, project).await?.unwrap_or_default();
    Ok(settings.production_tunnel_role.max(Role::Operator))
}

/// Says what somebody lacks for a device.
pub(super) fn refused(device: &DeviceId, needed: Role) -> Error {
    let needed = needed.as_str();
    Error::forbidden(format!("device {device} is in production: this needs the role {needed}"))
}

/// Whether a device is tagged as one that matters; people spell it in their ways.
pub(super) fn is_production(device: &Device) -> bool {
    let is_one_of =
        |word: &str, all: &[&str]| all.iter().any(|known| word.trim().eq_ignore_ascii_case(known));
    device
        .tags
        .iter()
        .any(|(tag, stage)| is_one_of(tag, &STAGE_TAGS) && is_one_of(stage, &PRODUCTION))
}

/// Whose tunnels a change of rights may concern.
#[derive(Debug, Clone, Copy)]
pub(super) enum Concerned<'a> {
    /// A user, or a service token.
    User(&'a str),
    Device(&'a ProjectId, &'a DeviceId),
    Project(&'a ProjectId),
}

impl Concerned<'_> {
    fn includes(&self, about: &Served) -> bool {
        match *self {
            Self::User(name) => about.user == name,
            Self::Device(project, device) => about.project == *project && about.device == *device,
            Self::Project(project) => about.project == *project,
        }
    }
}

/// Closes, after a change of rights, the tunnels that their users may not have any more.
pub(super) async fn close_those_without(app: &App, concerned: Concerned<'_>) {
    for session in app.tunnels.sessions_where(|about| concerned.includes(about)) {
        let user = session.user();
        match may_have(app, &session).await {
            Ok(true) => {}
            Ok(false) => {
                let message = format!("{user} may not have it any more");
                session.close(CloseCode::NotAllowed, message, None).await;
            }
            // Who is attached is asked for their right again and again.
            Err(error) => {
                tracing::warn!(user, ?error, "whether a tunnel may go on could not be read");
            }
        }
    }
}

async fn may_have(app: &App, session: &Session) -> Result<bool> {
    let (project, device) = session.place();
    let mut tx = app.store.read().await?;
    let needed = role_to_attach(&mut tx, project, device, Mode::Owner).await?;
    let role = role_of(&mut tx, project, session.user(), app.clock.wall()).await?;
    Ok(role.is_some_and(|role| role >= needed))
}

/// The role of a user, or of a service token, in a project now.
async fn role_of(
    tx: &mut Tx,
    project: &ProjectId,
    name: &str,
    now: Timestamp,
) -> Result<Option<Role>> {
    if let Some(token) = service_tokens::by_actor(tx, project, name).await? {
        return Ok(if token.is_good(now) { Some(token.shown()?.role) } else { None });
    }
    let user = users::by_name(tx, name).await?;
    Ok(match user.filter(|user| !user.disabled) {
        None => None,
        Some(user) if user.is_admin => Some(Role::Admin),
        Some(user) => users::roles(tx, &user.id).await?.get(project).copied(),
    })
}
