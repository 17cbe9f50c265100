//! Who is a member of a project: `/projects/{project}/members`.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use quarterdeck_protocol::{
    api::{AuditOutcome, Member, Page, SetMember},
    live::Listing,
};
use serde_json::{Value, json};

use super::{
    App,
    extract::{Admin, PathId, Viewer},
    json::Json,
    openapi::ListParams,
    problem::{Error, Result},
    query::Params,
    tunnel_rights::{Concerned, close_those_without},
};
use crate::store::{audit::NewEntry, members, users};

/// Lists a project's members by name. Server admins, who hold every role everywhere, are not among them.
#[utoipa::path(get, path = "/projects/{project}/members", tag = "members", params(ListParams),
    responses((status = 200, body = Page<Member>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    member: Viewer,
    mut params: Params,
) -> Result<axum::Json<Page<Member>>> {
    let paging = params.paging()?;
    params.finish()?;
    paging.one_order("username")?;
    let after = paging.after_key()?;
    let mut tx = app.store.read().await?;
    let items = members::list(&mut tx, &member.project, after.as_deref(), paging.limit + 1).await?;
    let total = members::count(&mut tx, &member.project).await?;
    Ok(axum::Json(paging.page(items, total, |member| member.username.clone())))
}

/// Makes a user a member, or changes their role.
#[utoipa::path(put, path = "/projects/{project}/members/{username}", tag = "members",
    responses((status = 200, body = Member)))]
pub(super) async fn set(
    State(app): State<Arc<App>>,
    member: Admin,
    PathId(username): PathId,
    Json { value: SetMember { role }, .. }: Json<SetMember>,
) -> Result<axum::Json<Member>> {
    let (auditor, actor, now) = (app.auditor.clone(), member.caller.actor(), app.clock.wall());
    let project = member.project.clone();
    let name = username.clone();
    app.write(move |tx| {
        Box::pin(async move {
            let user = users::by_name(tx, &name).await?.ok_or_else(|| Error::not_found("user"))?;
            members::set(tx, &project, &user.id, role).await?;
            let entry = NewEntry {
                project: &project,
                at: now,
                actor: &actor,
                action: "member.set",
                object: format!("user:{name}"),
                outcome: AuditOutcome::Ok,
                detail: json!({ "role": role }),
            };
            auditor.append(tx, entry).await?;
            Ok(())
        })
    })
    .await?;
    changed(&app, &member, &username);
    close_those_without(&app, Concerned::User(&username)).await;
    Ok(axum::Json(Member { username, role }))
}

/// Takes a user out of a project.
#[utoipa::path(delete, path = "/projects/{project}/members/{username}", tag = "members",
    responses((status = 204)))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    member: Admin,
    PathId(username): PathId,
) -> Result<StatusCode> {
    let (auditor, actor, now) = (app.auditor.clone(), member.caller.actor(), app.clock.wall());
    let project = member.project.clone();
    let name = username.clone();
    app.write(move |tx| {
        Box::pin(async move {
            let user =
                users::by_name(tx, &name).await?.ok_or_else(|| Error::not_found("member"))?;
            if !members::remove(tx, &project, &user.id).await? {
                return Err(Error::not_found("member"));
            }
            let entry = NewEntry {
                project: &project,
                at: now,
                actor: &actor,
                action: "member.remove",
                object: format!("user:{name}"),
                outcome: AuditOutcome::Ok,
                detail: Value::Null,
            };
            auditor.append(tx, entry).await?;
            Ok(())
        })
    })
    .await?;
    changed(&app, &member, &username);
    close_those_without(&app, Concerned::User(&username)).await;
    Ok(StatusCode::NO_CONTENT)
}

fn changed(app: &App, member: &Admin, username: &str) {
    app.changed(&member.project, Listing::Members, username);
    app.changed_server(Listing::Users, username);
    app.changed_server(Listing::Projects, member.project.as_str());
}
