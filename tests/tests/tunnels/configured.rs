//! Each limit of tunnels is what the server was told, not what it is by default.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use quarterdeck_protocol::{
    api::Tunnel,
    tunnel::{close::CloseCode, session::ServerMessage},
};
use quarterdeck_tests::{
    Fleet,
    server::ServerOptions,
    tunnel::{Console, wait_tunnel},
};
use reqwest::Method;

use super::terminal;

async fn fleet(option: &str, value: &str) -> Result<Fleet> {
    let args = vec![option.to_owned(), value.to_owned()];
    Fleet::start_with(ServerOptions { args, ..ServerOptions::default() }).await
}

/// Waits until a tunnel is over, and says why.
async fn reason(fleet: &Fleet, tunnel: &Tunnel) -> Result<CloseCode> {
    let over = wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    over.close_reason.context("no reason")
}

#[tokio::test]
async fn how_many_a_user_and_a_device_may_have() -> Result<()> {
    for option in ["--tunnels-per-user", "--tunnels-per-device"] {
        let fleet = fleet(option, "1").await?;
        let _device = fleet.device("pi-1").await?;
        let create =
            async || fleet.api().request(Method::POST, "@/tunnels", &terminal("cat")).await;
        assert_eq!(create().await?.status, 201, "{option}");
        create().await?.refused(429)?;
    }
    Ok(())
}

#[tokio::test]
async fn how_long_a_device_may_take_to_open_one() -> Result<()> {
    let fleet = fleet("--tunnel-open-s", "1").await?;
    let mut device = fleet.device("pi-1").await?;
    device.process().context("it runs")?.signal(Signal::SIGSTOP);
    let (tunnel, _console) = Console::create(fleet.api(), &terminal("cat")).await?;
    let over = wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    device.process().context("it runs")?.signal(Signal::SIGCONT);
    assert_eq!(over.close_reason, Some(CloseCode::DeviceLost));
    // By default it is 20 s.
    let took_ms = over.closed_at.context("over")?.millis_since(over.created_at);
    assert!((1_000..10_000).contains(&took_ms), "{took_ms} ms");
    Ok(())
}

#[tokio::test]
async fn how_long_one_may_be_open_however_busy_it_is() -> Result<()> {
    let fleet = fleet("--tunnel-max-s", "2").await?;
    let _device = fleet.device("pi-1").await?;
    let busy = "while :; do echo busy; sleep 0.1; done";
    let (tunnel, console) = Console::create(fleet.api(), &terminal(busy)).await?;
    console.shows("busy").await?;
    assert_eq!(console.closed().await?.0, CloseCode::DurationLimit);
    assert_eq!(reason(&fleet, &tunnel).await?, CloseCode::DurationLimit);
    Ok(())
}

#[tokio::test]
async fn how_long_a_device_may_be_away() -> Result<()> {
    let fleet = fleet("--tunnel-away-s", "1").await?;
    let mut device = fleet.device("pi-1").await?;
    let (tunnel, console) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    console.shows("ready").await?;
    device.process().context("it runs")?.signal(Signal::SIGSTOP);
    assert_eq!(reason(&fleet, &tunnel).await?, CloseCode::DeviceLost);
    device.process().context("it runs")?.signal(Signal::SIGCONT);
    Ok(())
}

#[tokio::test]
async fn how_much_output_is_kept() -> Result<()> {
    let fleet = fleet("--session-log-mb", "1").await?;
    let _device = fleet.device("pi-1").await?;
    let flood = "head -c 4000000 /dev/zero | tr '\\0' x; echo; echo flooded; cat";
    let (tunnel, console) = Console::create(fleet.api(), &terminal(flood)).await?;
    console.shows("flooded").await?;
    drop(console);
    let late = Console::attach(fleet.api(), &tunnel, "owner");
    let is_cut = |message: &ServerMessage| matches!(message, ServerMessage::Snapshot { dropped_bytes, .. } if *dropped_bytes > 2_000_000);
    late.hears("that the oldest output is gone", is_cut).await.map(drop)
}
