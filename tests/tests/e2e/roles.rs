//! Who may do what: roles, projects, and the border between them.

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::{
    api::{Role, ServiceToken},
    command::CommandStatus,
};
use quarterdeck_tests::{Fleet, api::submission};
use reqwest::Method;
use serde_json::{Value, json};

/// Everything that changes something in a project, as (method, path, body).
fn changes(command: &str) -> Vec<(Method, String, Value)> {
    let ping = json!(submission(&["pi-1"], "ping", json!({})));
    vec![
        (Method::POST, "@/commands".into(), ping),
        (Method::POST, format!("@/commands/{command}/cancel"), Value::Null),
        (Method::POST, format!("@/commands/{command}/retry"), Value::Null),
        (Method::POST, "@/commands/cancel".into(), json!({"ids": [command]})),
        (Method::PATCH, "@/devices/pi-1".into(), json!({"tags": {"a": "b"}})),
        (Method::DELETE, "@/devices/pi-1".into(), Value::Null),
        (Method::POST, "@/devices/pi-1/clear_service_failed".into(), Value::Null),
        (Method::POST, "@/enrollment-tokens".into(), json!({"uses": 1})),
        (Method::PUT, "@/members/viewer".into(), json!({"role": "admin"})),
        (Method::PUT, "@/settings".into(), json!({"reboot_limit": 99})),
        (Method::POST, "/users".into(), json!({"username": "x", "password": "a-long-password"})),
        (Method::POST, "/projects".into(), json!({"id": "x"})),
        (
            Method::POST,
            "/service-tokens".into(),
            json!({"name": "x", "project": "default", "role": "viewer"}),
        ),
    ]
}

#[tokio::test]
async fn a_viewer_sees_everything_and_changes_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let id = fleet.api().script("pi-1", "true").await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let viewer = fleet.api().member("viewer", Role::Viewer).await?;

    assert_eq!(viewer.command(id).await?.id, id);
    assert_eq!(viewer.count("@/devices").await?, 1);
    let before = fleet.api().count("@/commands").await?;
    for (method, path, body) in changes(&id.to_string()) {
        let answer = viewer.request(method, &path, &body).await?;
        let problem = answer.refused(403)?;
        ensure!(!problem.detail.is_empty(), "{problem:?} does not say what to do");
    }
    assert_eq!(fleet.api().count("@/commands").await?, before);
    assert!(fleet.api().device("pi-1").await?.tags.is_empty());
    // What was denied is on record.
    let audit: Vec<Value> = fleet.api().list("@/audit").await?;
    let denied = |entry: &&Value| entry["actor"] == "viewer" && entry["outcome"] == "denied";
    assert!(audit.iter().any(|entry| denied(&entry)), "{audit:?}");
    Ok(())
}

#[tokio::test]
async fn an_operator_sends_commands_and_manages_nobody() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let operator = fleet.api().member("ops-1", Role::Operator).await?;
    let id = operator.script("pi-1", "true").await?;
    let command = operator.wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(command.created_by, "ops-1");
    for (method, path, body) in [
        (Method::PUT, "@/members/ops-1", json!({"role": "admin"})),
        (Method::POST, "@/enrollment-tokens", json!({"uses": 1})),
        (Method::POST, "/users", json!({"username": "x", "password": "a-long-password"})),
    ] {
        operator.request(method, path, &body).await?.refused(403)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_anothers_answers_as_what_does_not_exist() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let id = fleet.api().script("pi-1", "true").await?;
    fleet.api().post::<Value>("/projects", &json!({"id": "other"})).await?;
    let admin_of_other = fleet.api().in_project("other");
    let member_of_other = admin_of_other.member("stranger", Role::Admin).await?;

    for path in [
        format!("@/commands/{id}"),
        format!("@/commands/{id}/timeline"),
        format!("@/commands/{id}/output"),
        "@/devices/pi-1".to_owned(),
        "@/devices/pi-1/timeline".to_owned(),
        "@/devices/pi-1/health".to_owned(),
    ] {
        // The id of another project, in one's own project.
        let theirs =
            member_of_other.request(Method::GET, &path, &Value::Null).await?.refused(404)?;
        let unknown =
            path.replace(&id.to_string(), &quarterdeck_tests::clock::new_uuid().to_string());
        let unknown = unknown.replace("pi-1", "no-such");
        let nobodys =
            member_of_other.request(Method::GET, &unknown, &Value::Null).await?.refused(404)?;
        assert_eq!((theirs.code, theirs.title), (nobodys.code, nobodys.title), "{path}");
        // The other project itself.
        let default = member_of_other.in_project("default");
        let closed = default.request(Method::GET, &path, &Value::Null).await?.refused(404)?;
        let nowhere = member_of_other.in_project("nowhere");
        let nowhere = nowhere.request(Method::GET, &path, &Value::Null).await?.refused(404)?;
        assert_eq!((closed.code, closed.title), (nowhere.code, nowhere.title), "{path}");
    }
    for (method, path, body) in changes(&id.to_string()) {
        if path.starts_with("@/commands/") && path.contains(&id.to_string()) {
            member_of_other.request(method, &path, &body).await?.refused(404)?;
        }
    }
    let foreign = json!(submission(&["pi-1"], "ping", json!({})));
    let problem = member_of_other
        .request(Method::POST, "@/commands", &foreign)
        .await?
        .refused(422)
        .context("an unknown device in a submission")?;
    assert!(problem.field.is_some_and(|field| field.starts_with("targets.devices")));
    Ok(())
}

#[tokio::test]
async fn without_a_valid_token_there_is_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let paths = ["/auth/me", "@/devices", "@/commands", "@/audit", "/users", "/projects"];
    for path in paths {
        let nobody = fleet.api().without_token();
        nobody.request(Method::GET, path, &Value::Null).await?.refused(401)?;
        let forged = fleet.api().with_token("eyJhbGciOiJub25lIn0.e30.");
        forged.request(Method::GET, path, &Value::Null).await?.refused(401)?;
        let mut tampered = fleet.api().token().to_owned();
        let last = if tampered.ends_with('A') { 'B' } else { 'A' };
        tampered.pop();
        tampered.push(last);
        // The last character of a signature may carry unused bits: change one in its middle, too.
        let middle = tampered.len() - 20;
        let other = if tampered.as_bytes()[middle] == b'x' { "y" } else { "x" };
        tampered.replace_range(middle..=middle, other);
        let tampered = fleet.api().with_token(&tampered);
        tampered.request(Method::GET, path, &Value::Null).await?.refused(401)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_user_who_is_logged_out_or_disabled_is_out_at_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let operator = fleet.api().member("ops-1", Role::Operator).await?;
    operator.get::<Value>("/auth/me").await?;
    operator.request(Method::POST, "/auth/logout", &Value::Null).await?.read::<Value>()?;
    operator.request(Method::GET, "/auth/me", &Value::Null).await?.refused(401)?;

    let second = fleet.api().member("ops-2", Role::Operator).await?;
    let disabled = json!({"disabled": true});
    fleet.api().request(Method::PATCH, "/users/ops-2", &disabled).await?.read::<Value>()?;
    second.request(Method::GET, "/auth/me", &Value::Null).await?.refused(401)?;
    Ok(())
}

#[tokio::test]
async fn a_service_token_is_good_for_its_project_and_role_until_it_is_revoked() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let create = json!({"name": "ci", "project": "default", "role": "operator"});
    let made: ServiceToken = fleet.api().post("/service-tokens", &create).await?;
    let service = fleet.api().with_token(made.token.as_deref().context("no token")?);
    let id = service.script("pi-1", "true").await?;
    let command = service.wait_status(id, CommandStatus::Completed).await?;
    assert!(command.created_by.contains("ci"), "{}", command.created_by);
    service.request(Method::GET, "/users", &Value::Null).await?.refused(403)?;

    let path = format!("/service-tokens/{}", made.id);
    fleet.api().request(Method::DELETE, &path, &Value::Null).await?.read::<Value>()?;
    service.request(Method::GET, "@/devices", &Value::Null).await?.refused(401)?;
    Ok(())
}

#[tokio::test]
async fn guessing_passwords_is_slowed_and_an_unknown_user_looks_like_a_wrong_password() -> Result<()>
{
    let fleet = Fleet::start().await?;
    let login = async |username: &str| {
        let body = json!({"username": username, "password": "guess"});
        fleet.api().without_token().request(Method::POST, "/auth/login", &body).await
    };
    let known = login("admin").await?.refused(401)?;
    let unknown = login("nobody").await?.refused(401)?;
    assert_eq!((known.code, known.detail), (unknown.code, unknown.detail));
    for _ in 0..50 {
        let answer = login("admin").await?;
        if answer.status == 429 {
            answer.refused(429)?;
            ensure!(answer.header("retry-after").parse::<u32>().is_ok(), "no Retry-After");
            return Ok(());
        }
        answer.refused(401)?;
    }
    anyhow::bail!("50 guesses in a row were answered")
}
