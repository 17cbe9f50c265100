//! The live feed: snapshot, changes, and who may not have it.

use anyhow::{Result, ensure};
use quarterdeck_protocol::{
    api::{Role, Ticket},
    command::CommandStatus,
    live::{CLIENT_MESSAGE_MAX_BYTES, ClientMessage, Listing, ServerMessage},
};
use quarterdeck_tests::{Fleet, live::Live};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_window_shows_what_is_and_then_what_changes() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let mut live = Live::open(fleet.api()).await?;
    let ServerMessage::Hello { username, role, .. } = live.next().await? else {
        anyhow::bail!("no hello first");
    };
    assert_eq!((username.as_str(), role), ("admin", Role::Admin));

    live.subscribe(1, Listing::Commands, &[]).await?;
    live.subscribe(2, Listing::Devices, &[]).await?;
    live.wait_row("the device", |row| row["id"] == "pi-1" && row["status"] == "online").await?;
    let id = fleet.api().script("pi-1", "true").await?;
    let row = live
        .wait_row("the command's end", |row| {
            row["id"] == id.to_string() && row["status"] == "completed"
        })
        .await?;
    assert_eq!(row["device_id"], "pi-1");
    device.kill_9();
    live.wait_row("the device offline", |row| row["id"] == "pi-1" && row["status"] == "offline")
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_ticket_opens_one_feed_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let ticket: Ticket = fleet.api().post("@/tickets", &json!({"for": "live"})).await?;
    let mut first = Live::open_with(fleet.api(), &ticket.ticket).await?;
    first.next().await?;
    ensure!(Live::open_with(fleet.api(), &ticket.ticket).await.is_err(), "a ticket was used twice");
    ensure!(Live::open_with(fleet.api(), "made-up").await.is_err(), "a made-up ticket was taken");
    fleet.api().post::<Value>("/projects", &json!({"id": "other"})).await?;
    let ticket: Ticket = fleet.api().post("@/tickets", &json!({"for": "live"})).await?;
    let other = fleet.api().in_project("other");
    ensure!(Live::open_with(&other, &ticket.ticket).await.is_err(), "a ticket of another project");
    Ok(())
}

#[tokio::test]
async fn a_logged_out_users_feed_is_closed() -> Result<()> {
    let fleet = Fleet::start().await?;
    let viewer = fleet.api().member("viewer", Role::Viewer).await?;
    let mut live = Live::open(&viewer).await?;
    live.next().await?;
    viewer.request(Method::POST, "/auth/logout", &Value::Null).await?.read::<Value>()?;
    live.wait_for_end().await?;
    Ok(())
}

#[tokio::test]
async fn wrong_and_huge_messages_are_answered_and_harm_no_other_feed() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let mut good = Live::open(fleet.api()).await?;
    good.subscribe(1, Listing::Devices, &[]).await?;

    let mut bad = Live::open(fleet.api()).await?;
    bad.next().await?;
    bad.subscribe(7, Listing::Commands, &[("no_such_filter", "x")]).await?;
    let error = loop {
        if let ServerMessage::Error { id, code, .. } = bad.next().await? {
            break (id, code);
        }
    };
    assert_eq!(error.0, Some(7));
    for text in ["{", "[]", "{\"type\":\"explode\"}"] {
        let mut bad = Live::open(fleet.api()).await?;
        bad.send_text(text.to_owned()).await?;
        // An error message or the end of the feed, not silence.
        while !matches!(bad.next().await, Ok(ServerMessage::Error { .. }) | Err(_)) {}
    }
    let mut bad = Live::open(fleet.api()).await?;
    let huge =
        format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(2 * CLIENT_MESSAGE_MAX_BYTES));
    let _ = bad.send_text(huge).await;
    bad.wait_for_end().await?;

    good.send(&ClientMessage::Ping { nonce: 5 }).await?;
    while good.next().await? != (ServerMessage::Pong { nonce: 5 }) {}
    Ok(())
}

#[tokio::test]
async fn a_viewer_sees_no_users_and_no_tokens() -> Result<()> {
    let fleet = Fleet::start().await?;
    let viewer = fleet.api().member("viewer", Role::Viewer).await?;
    for listing in [Listing::Users, Listing::EnrollmentTokens] {
        let mut live = Live::open(&viewer).await?;
        live.subscribe(1, listing, &[]).await?;
        let refused = loop {
            match live.next().await? {
                ServerMessage::Error { id: Some(1), .. } => break true,
                ServerMessage::Snapshot { .. } => break false,
                _ => {}
            }
        };
        ensure!(refused, "{listing:?} was shown to a viewer");
    }
    Ok(())
}

#[tokio::test]
async fn the_window_of_one_command_has_its_payload_and_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let id = fleet.api().script("pi-1", "echo seen").await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let mut live = Live::open(fleet.api()).await?;
    live.subscribe(1, Listing::Commands, &[("id", &id.to_string())]).await?;
    let row = live.wait_row("the command", |row| row["id"] == id.to_string()).await?;
    assert_eq!(
        (&row["payload"]["script"], &row["stdout"]),
        (&json!("echo seen"), &json!("seen\n"))
    );
    Ok(())
}
