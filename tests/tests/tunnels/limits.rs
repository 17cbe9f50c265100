//! Who may open tunnels, how many, and for how long.

use anyhow::{Context as _, Result};
use quarterdeck_protocol::{
    api::{AuditEntry, AuditOutcome, CreatedTunnel, Role, Tunnel, TunnelStatus},
    ids::TunnelId,
    tunnel::{
        close::CloseCode,
        mark::Exit,
        session::{ClientMessage, ServerMessage},
    },
};
use quarterdeck_tests::{
    Fleet,
    agent::DeviceOptions,
    tunnel::{Console, MAIN, open, ticket, wait_tunnel},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{exec, terminal};

#[tokio::test]
async fn the_fourth_of_a_user_and_the_eleventh_of_a_device_are_refused() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let create = async |api: &quarterdeck_tests::api::Api| {
        api.request(Method::POST, "@/tunnels", &terminal("cat")).await
    };
    let mut opened = 0;
    for user in ["a", "b", "c", "d"] {
        let api = fleet.api().member(user, Role::Operator).await?;
        let mut own = 0;
        loop {
            let answer = create(&api).await?;
            if answer.status == 201 {
                (own, opened) = (own + 1, opened + 1);
                continue;
            }
            let problem = answer.refused(429)?;
            assert!(own == 3 || opened == 10, "{own} of {user}, {opened} in all: {problem:?}");
            break;
        }
    }
    assert_eq!(opened, 10);
    let denied: Vec<AuditEntry> =
        fleet.api().list("@/audit?action=tunnel.open&outcome=denied").await?;
    assert_eq!(denied.len(), 4, "{denied:?}");
    // One that is closed makes room.
    let api = fleet.api();
    let some: Vec<Tunnel> = api.list("@/tunnels").await?;
    api.post::<Tunnel>(&format!("@/tunnels/{}/close", some[0].id), &Value::Null).await?;
    assert_eq!(create(api).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn a_ticket_opens_one_socket_of_its_own_tunnel() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api();
    let created: CreatedTunnel = api.post("@/tunnels", &terminal("cat")).await?;
    let other: CreatedTunnel = api.post("@/tunnels", &terminal("cat")).await?;
    let (id, other) = (created.tunnel.id, other.tunnel.id);
    assert!(open(api, id, &created.ticket, "").await.is_ok());
    assert_eq!(open(api, id, &created.ticket, "").await.err(), Some(401));
    let own = ticket(api, id, "watch").await?;
    assert_eq!(open(api, other, &own, "").await.err(), Some(401));
    assert_eq!(open(api, id, &own, "").await.err(), Some(401), "it was used");
    let body = json!({ "for": "tunnel", "tunnel_id": TunnelId(uuid::Uuid::nil()) });
    api.request(Method::POST, "@/tickets", &body).await?.refused(404)?;
    Ok(())
}

#[tokio::test]
async fn a_tunnel_of_another_project_is_none() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let created: CreatedTunnel = fleet.api().post("@/tunnels", &terminal("cat")).await?;
    fleet.api().post::<Value>("/projects", &json!({ "id": "elsewhere" })).await?;
    let elsewhere = fleet.api().in_project("elsewhere");
    let path = format!("@/tunnels/{}", created.tunnel.id);
    elsewhere.request(Method::GET, &path, &Value::Null).await?.refused(404)?;
    elsewhere.request(Method::POST, &format!("{path}/close"), &Value::Null).await?.refused(404)?;
    elsewhere.request(Method::POST, "@/tunnels", &terminal("cat")).await?.refused(422)?;
    Ok(())
}

#[tokio::test]
async fn a_device_whose_owner_allows_no_tunnels_says_so_before_anybody_waits() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = "[tunnels]\nenabled = false\n".to_owned();
    let _device =
        fleet.device_with("pi-1", DeviceOptions { config, ..DeviceOptions::default() }).await?;
    let problem =
        fleet.api().request(Method::POST, "@/tunnels", &terminal("cat")).await?.refused(422)?;
    assert_eq!(problem.field.as_deref(), Some("device_id"));
    assert!(problem.detail.contains("owner allows no tunnels"), "{problem:?}");
    assert!(fleet.api().list::<Tunnel>("@/tunnels").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_the_device_refuses_fails_with_its_reason() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api();
    let request = json!({ "device_id": "pi-1", "kind": "exec", "argv": ["/no/such/program"] });
    let (tunnel, console) = Console::create(api, &request).await?;
    assert_eq!(console.closed().await?.0, CloseCode::LaunchFailed);
    let over = wait_tunnel(api, tunnel.id, "over", |t| t.status.is_over()).await?;
    assert_eq!(over.status, TunnelStatus::Failed);
    let request =
        json!({ "device_id": "pi-1", "kind": "port_forward", "host": "10.255.255.1", "port": 1 });
    let (_, console) = Console::create(api, &request).await?;
    assert_eq!(console.closed().await?.0, CloseCode::NotAllowed);
    Ok(())
}

#[tokio::test]
async fn an_admin_kills_any_and_the_trail_tells_all_of_it() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let operator = fleet.api().member("otto", Role::Operator).await?;
    let other = fleet.api().member("olga", Role::Operator).await?;
    let (tunnel, console) = Console::create(&operator, &terminal("echo ready; cat")).await?;
    console.shows("ready").await?;
    let path = format!("@/tunnels/{}/close", tunnel.id);
    other.request(Method::POST, &path, &Value::Null).await?.refused(403)?;
    let killed: Tunnel = fleet.api().post(&path, &Value::Null).await?;
    assert_eq!(
        (killed.status, killed.close_reason),
        (TunnelStatus::Closed, Some(CloseCode::Killed))
    );
    assert_eq!(console.closed().await?.0, CloseCode::Killed);
    let object = format!("tunnel:{}", tunnel.id);
    let trail: Vec<AuditEntry> = fleet.api().list(&format!("@/audit?object={object}")).await?;
    let told: Vec<_> = trail
        .iter()
        .rev()
        .map(|e| (e.actor.as_str(), e.action.as_str(), e.outcome == AuditOutcome::Ok))
        .collect();
    assert_eq!(
        told,
        [
            ("otto", "tunnel.open", true),
            ("otto", "tunnel.attach", true),
            ("olga", "tunnel.kill", false),
            ("admin", "tunnel.kill", true),
        ]
    );
    // It is over, and stays as it is.
    let again: Tunnel = fleet.api().post(&path, &Value::Null).await?;
    assert_eq!(again, killed);
    Ok(())
}

#[tokio::test]
async fn the_trail_names_who_opened_what_and_who_ended_it() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let operator = fleet.api().member("otto", Role::Operator).await?;
    let mut request = terminal("echo ready; cat");
    request["env"] = json!({ "TZ": "secret/of/nobody" });
    let (tunnel, console) = Console::create(&operator, &request).await?;
    console.shows("ready").await?;
    console.say(ClientMessage::Close);
    assert_eq!(console.closed().await?.0, CloseCode::ClosedByUser);
    wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    let object = format!("tunnel:{}", tunnel.id);
    let trail: Vec<AuditEntry> = fleet.api().list(&format!("@/audit?object={object}")).await?;
    let of = |action: &str| trail.iter().find(|e| e.action == action).context("an entry");
    let opened = of("tunnel.open")?;
    // Names alone: what is in them may be secret.
    assert_eq!(opened.detail["env"], json!(["TZ"]));
    assert_eq!(opened.detail["reverse"], json!(false));
    assert_eq!(opened.detail["run_as"], json!(null));
    let closed = of("tunnel.close")?;
    assert_eq!((closed.actor.as_str(), closed.from.as_str()), ("otto", opened.from.as_str()));
    assert_eq!(closed.detail["reason"], "closed_by_user");
    Ok(())
}

#[tokio::test]
async fn what_a_kind_does_not_take_is_named() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    for (change, field) in [
        (json!({ "kind": "exec", "argv": [] }), "argv"),
        (json!({ "cols": 0 }), "cols"),
        (json!({ "port": 22 }), "port"),
        (json!({ "kind": "ssh", "argv": [], "record": true }), "record"),
        (json!({ "record": false, "record_input": true }), "record_input"),
        (json!({ "kind": "port_forward", "argv": [] }), "port"),
        (json!({ "kind": "port_forward", "argv": [], "port": 0 }), "port"),
        (json!({ "kind": "exec", "cols": 80 }), "cols"),
        (json!({ "device_id": "pi-9" }), "device_id"),
        (json!({ "run_as": "" }), "run_as"),
        (json!({ "term": "a b" }), "term"),
    ] {
        let mut request = terminal("cat");
        for (name, value) in change.as_object().expect("an object") {
            request[name] = value.clone();
        }
        let problem =
            fleet.api().request(Method::POST, "@/tunnels", &request).await?.refused(422)?;
        assert_eq!(problem.field.as_deref(), Some(field), "{change}: {problem:?}");
    }
    let mut twice = exec("cat");
    twice["colour"] = json!("red");
    assert_eq!(fleet.api().request(Method::POST, "@/tunnels", &twice).await?.status, 422);
    Ok(())
}

#[tokio::test]
async fn an_idle_session_is_warned_and_ends_with_its_reason() -> Result<()> {
    let args = ["--tunnel-idle-s", "4"].map(str::to_owned).to_vec();
    let options = quarterdeck_tests::server::ServerOptions { args, ..Default::default() };
    let fleet = Fleet::start_with(options).await?;
    let _device = fleet.device("pi-1").await?;
    let (tunnel, console) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    console.shows("ready").await?;
    let is_warning = |message: &ServerMessage| matches!(message, ServerMessage::IdleWarning { .. });
    console.hears("a warning", is_warning).await?;
    assert_eq!(console.closed().await?.0, CloseCode::IdleTimeout);
    let over = wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    assert_eq!(over.status, TunnelStatus::Closed);
    Ok(())
}

#[tokio::test]
async fn a_command_line_that_fits_no_message_is_refused_before_anything_is_opened() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let long = "x".repeat(70_000);
    let post = async |request: &Value| {
        fleet.api().request(Method::POST, "@/tunnels", request).await?.refused(422)
    };
    let problem = post(&exec(&long)).await?;
    assert_eq!(problem.field.as_deref(), Some("argv"));
    let mut request = exec("true");
    request["env"] = json!({ "LONG": long });
    assert_eq!(post(&request).await?.field.as_deref(), Some("env"));
    // What just fits reaches the device.
    let (_, console) =
        Console::create(fleet.api(), &exec(&format!("true {}; exit 5", "x".repeat(60_000))))
            .await?;
    assert_eq!(console.received(MAIN).await?.exit, Some(Exit::Code(5)));
    Ok(())
}
