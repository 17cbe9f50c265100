//! Who may open a tunnel, attach to it and end it, and what a right that is lost takes along.

use std::path::Path;

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use quarterdeck_protocol::{
    api::{AuditEntry, CreatedTunnel, Role, Tunnel, TunnelStatus},
    tunnel::{
        StreamKey,
        close::CloseCode,
        frame::{Body, Epoch, Frame},
        limits::OFFSET_MAX,
        mark::{Mark, Size},
        session::ServerMessage,
    },
};
use quarterdeck_tests::{
    Fleet,
    tunnel::{Console, open, wait_tunnel},
    wait::{Look, wait_for},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{exec, terminal};

#[tokio::test]
async fn a_viewer_opens_none_and_writes_to_none() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let viewer = fleet.api().member("vera", Role::Viewer).await?;
    viewer.request(Method::POST, "@/tunnels", &terminal("cat")).await?.refused(403)?;
    let (tunnel, console) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    console.shows("ready").await?;
    for mode in ["owner", "copilot"] {
        let body = json!({ "for": "tunnel", "tunnel_id": tunnel.id, "mode": mode });
        viewer.request(Method::POST, "@/tickets", &body).await?.refused(403)?;
    }
    viewer
        .request(Method::POST, &format!("@/tunnels/{}/close", tunnel.id), &Value::Null)
        .await?
        .refused(403)?;
    let denied: Vec<AuditEntry> = fleet.api().list("@/audit?outcome=denied").await?;
    let actions: Vec<_> = denied.iter().map(|entry| entry.action.as_str()).collect();
    for action in ["tunnel.open", "tunnel.attach", "tunnel.close"] {
        assert!(actions.contains(&action), "{actions:?}");
    }
    Ok(())
}

/// A device that only admins may have terminals on.
async fn in_production(fleet: &Fleet) -> Result<()> {
    let api = fleet.api();
    api.put::<Value>("@/settings", &json!({ "production_tunnel_role": "admin" })).await?;
    let tags = json!({ "tags": { "Environment": " Production" } });
    api.request(Method::PATCH, "@/devices/pi-1", &tags).await?.read::<Value>()?;
    Ok(())
}

#[tokio::test]
async fn devices_in_production_may_need_an_admin() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    in_production(&fleet).await?;
    let operator = fleet.api().member("otto", Role::Operator).await?;
    operator.request(Method::POST, "@/tunnels", &terminal("cat")).await?.refused(403)?;
    let (tunnel, console) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    console.shows("ready").await?;
    let copilot = json!({ "for": "tunnel", "tunnel_id": tunnel.id, "mode": "copilot" });
    operator.request(Method::POST, "@/tickets", &copilot).await?.refused(403)?;
    Console::attach(&operator, &tunnel, "watch").attached(1).await?;
    // On what, too: the path does not tell.
    let denied: Vec<AuditEntry> = fleet.api().list("@/audit?outcome=denied").await?;
    let detail = |action| denied.iter().find(|e| e.action == action).map(|e| e.detail.clone());
    let opening = detail("tunnel.open").context("an entry")?;
    assert_eq!((&opening["device_id"], &opening["kind"]), (&json!("pi-1"), &json!("terminal")));
    let attaching = detail("tunnel.attach").context("an entry")?;
    assert_eq!(attaching["tunnel_id"], json!(tunnel.id));
    assert_eq!((&attaching["device_id"], &attaching["mode"]), (&json!("pi-1"), &json!("copilot")));
    Ok(())
}

#[tokio::test]
async fn who_is_kept_from_production_does_not_take_the_tag_away() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    in_production(&fleet).await?;
    let operator = fleet.api().member("otto", Role::Operator).await?;
    let change = async |tags: Value| {
        operator.request(Method::PATCH, "@/devices/pi-1", &json!({ "tags": tags })).await
    };
    change(json!({})).await?.refused(403)?;
    change(json!({ "environment": "test" })).await?.refused(403)?;
    let more = json!({ "environment": "production", "site": "hall" });
    assert_eq!(change(more).await?.status, 200);
    let untagged = json!({ "tags": {} });
    assert_eq!(fleet.api().request(Method::PATCH, "@/devices/pi-1", &untagged).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_console_whose_role_does_not_reach_any_more_is_let_go() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let operator = fleet.api().member("otto", Role::Operator).await?;
    let (tunnel, console) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    console.shows("ready").await?;
    let copilot = Console::attach(&operator, &tunnel, "copilot");
    copilot.attached(1).await?;
    in_production(&fleet).await?;
    copilot.problem().await?;
    Ok(())
}

#[tokio::test]
async fn who_loses_the_role_loses_the_tunnel() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api();
    for (name, change) in [("otto", "@/members/otto"), ("olga", "/users/olga")] {
        let operator = api.member(name, Role::Operator).await?;
        let (tunnel, console) = Console::create(&operator, &terminal("echo ready; cat")).await?;
        console.shows("ready").await?;
        if name == "otto" {
            api.put::<Value>(change, &json!({ "role": "viewer" })).await?;
        } else {
            assert_eq!(api.request(Method::DELETE, change, &Value::Null).await?.status, 204);
        }
        let over = wait_tunnel(api, tunnel.id, "over", |t| t.status.is_over()).await?;
        assert_eq!(over.close_reason, Some(CloseCode::NotAllowed), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unattended_tunnel_ends_when_its_user_may_not_have_it_any_more() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let api = fleet.api();
    let token = json!({ "name": "ci", "project": api.project(), "role": "operator" });
    let token: Value = api.post("/service-tokens", &token).await?;
    let program = api.with_token(token["token"].as_str().context("a token")?);
    let operator = api.member("otto", Role::Operator).await?;
    let mut tunnels = Vec::new();
    for user in [&operator, &program, api] {
        let (tunnel, console) = Console::create(user, &terminal("echo ready; cat")).await?;
        console.shows("ready").await?;
        tunnels.push(tunnel);
    }
    for tunnel in &tunnels {
        wait_tunnel(api, tunnel.id, "unattended", |t| t.attached == 0).await?;
    }
    let path = format!("/service-tokens/{}", token["id"].as_str().context("an id")?);
    assert_eq!(api.request(Method::DELETE, &path, &Value::Null).await?.status, 204);
    let is_over = |t: &Tunnel| t.status.is_over();
    let over = wait_tunnel(api, tunnels[1].id, "over", is_over).await?;
    assert_eq!(over.close_reason, Some(CloseCode::NotAllowed), "its token was revoked");
    assert!(!is_over(&api.get(&format!("@/tunnels/{}", tunnels[0].id)).await?));

    in_production(&fleet).await?;
    let over = wait_tunnel(api, tunnels[0].id, "over", is_over).await?;
    assert_eq!(over.close_reason, Some(CloseCode::NotAllowed), "the device is in production");
    assert!(!is_over(&api.get(&format!("@/tunnels/{}", tunnels[2].id)).await?), "an admin's");
    Ok(())
}

#[tokio::test]
async fn only_the_owner_resizes() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let (tunnel, console) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    console.shows("ready").await?;
    let copilot = Console::attach(fleet.api(), &tunnel, "copilot");
    copilot.attached(1).await?;
    let resize = Mark::Resize(Size::new(7, 33).context("not 0")?);
    copilot.mark(resize)?;
    assert!(copilot.problem().await?.contains("1002"));
    console.write("still here\n").await?;
    console.shows("still here").await?;
    assert!(!console.marks().contains(&resize));
    Ok(())
}

/// A frame as no console that keeps to the protocol makes it.
fn stray(handle: u32, stream: u32) -> Message {
    let frame = Frame {
        key: StreamKey { tunnel: handle, stream },
        epoch: Epoch { from: 1, to: 1 },
        is_opening: true,
        wants_reply: false,
        has_taken_end: false,
        offset: OFFSET_MAX / 2,
        ack: 0,
        credit: 0,
        body: Body::Data("x".into()),
    };
    Message::Binary(frame.to_bytes())
}

async fn pid_in(file: &Path) -> Result<u32> {
    wait_for("the program", || async {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Ok(text.trim().parse().map_or_else(|_| Look::not_yet(text), Look::Ready))
    })
    .await
}

async fn gone(pid: u32) -> Result<()> {
    wait_for("the program to be gone", || async {
        let is_there = Path::new(&format!("/proc/{pid}")).exists();
        Ok(if is_there { Look::not_yet(pid) } else { Look::Ready(()) })
    })
    .await
}

#[tokio::test]
async fn a_device_that_is_retired_is_told_first_that_its_tunnels_are_over() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let pid_file = device.data_dir().join("pid");
    let silent = exec(&format!("echo $$ >{}; exec sleep 1000", pid_file.display()));
    let (tunnel, _console) = Console::create(fleet.api(), &silent).await?;
    let pid = pid_in(&pid_file).await?;
    fleet.api().post::<Value>("@/devices/pi-1/retire", &Value::Null).await?;
    let over = wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    assert_eq!(over.close_reason, Some(CloseCode::Killed));
    gone(pid).await
}

#[tokio::test]
async fn a_tunnel_that_floods_its_device_is_ended_there_too() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.device("pi-1").await?;
    let api = fleet.api();
    let pid_file = device.data_dir().join("pid");
    let silent = exec(&format!("echo $$ >{}; exec sleep 1000", pid_file.display()));
    let operator = api.member("otto", Role::Operator).await?;
    let created: CreatedTunnel = operator.post("@/tunnels", &silent).await?;
    let id = created.tunnel.id;
    let socket = open(&operator, id, &created.ticket, "").await.ok().context("attached")?;
    let (mut sink, mut stream) = socket.split();
    let handle = loop {
        let message = stream.next().await.context("a message")??;
        let Message::Text(text) = message else { continue };
        if let ServerMessage::Attached { handle, .. } = serde_json::from_str(&text)? {
            break handle;
        }
    };
    let drained = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    let flood = tokio::spawn(async move {
        for stream in 1_000.. {
            if sink.send(stray(handle, stream)).await.is_err() {
                break;
            }
        }
    });
    let pid = pid_in(&pid_file).await?;
    let path = format!("@/tunnels/{id}/close");
    let killed: Tunnel = api.post(&path, &Value::Null).await?;
    assert_eq!(killed.status, TunnelStatus::Closed);
    assert_eq!((killed.bytes_up, killed.close_reason), (0, Some(CloseCode::Killed)));
    gone(pid).await?;
    flood.abort();
    drained.abort();
    Ok(())
}
