//! Consoles that are killed: what runs for nobody ends, what may go on goes on.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quarterdeck_protocol::{
    api::{AuditEntry, CreatedTunnel, Tunnel, TunnelStatus},
    tunnel::{close::CloseCode, mark::Exit},
};
use quarterdeck_tests::{
    Fleet,
    cli::{self, Forward},
    clock,
    proxy::{Fault, Proxy},
    server::ServerOptions,
    tunnel::{self, Console, wait_tunnel},
    wait::{Look, wait_for, wait_until},
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::exec;

/// A fleet whose tunnels wait so many seconds for their console.
async fn fleet(alone_s: &str) -> Result<Fleet> {
    let args = ["--tunnel-alone-s", alone_s].map(str::to_owned).to_vec();
    Fleet::start_with(ServerOptions { args, ..ServerOptions::default() }).await
}

async fn only_tunnel(fleet: &Fleet) -> Result<Tunnel> {
    wait_for("an open tunnel", || async {
        let all: Vec<Tunnel> = fleet.api().list("@/tunnels").await?;
        Ok(match all.into_iter().find(|tunnel| tunnel.status == TunnelStatus::Open) {
            Some(tunnel) => Look::Ready(tunnel),
            None => Look::not_yet("none"),
        })
    })
    .await
}

/// Waits until a tunnel is over for want of its console, and the trail says so.
async fn is_lost(fleet: &Fleet, tunnel: &Tunnel) -> Result<()> {
    let over = wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    assert_eq!(over.close_reason, Some(CloseCode::ConsoleLost), "{over:?}");
    let path = format!("@/audit?object=tunnel:{}", tunnel.id);
    let trail: Vec<AuditEntry> = fleet.api().list(&path).await?;
    let end = trail.iter().find(|entry| entry.action == "tunnel.close").context("no end")?;
    assert_eq!(end.detail["reason"], "console_lost");
    Ok(())
}

fn pid_in(file: &Path) -> Option<Pid> {
    fs::read_to_string(file).ok()?.strip_suffix('\n')?.parse().ok().map(Pid::from_raw)
}

#[tokio::test]
async fn what_an_exec_runs_ends_with_the_console_that_was_killed() -> Result<()> {
    let fleet = fleet("2").await?;
    let _device = fleet.device("pi-1").await?;
    let file = fleet.file("pid");
    let script = format!("echo $$ > {}; while :; do echo working; sleep 0.1; done", file.display());
    let args = ["exec", "pi-1", "--", "sh", "-c", &script];
    let mut console = cli::quarterdeck(&fleet, fleet.api(), &args)?.spawn()?;
    wait_until("the program to run", || pid_in(&file).is_some()).await?;
    let program = pid_in(&file).context("it was there")?;
    let tunnel = only_tunnel(&fleet).await?;
    console.kill().await?;
    is_lost(&fleet, &tunnel).await?;
    wait_until("the program to be gone", || kill(program, None).is_err()).await
}

#[tokio::test]
async fn a_console_comes_back_to_an_exec_that_was_still_opening_when_it_lost_its_connection()
-> Result<()> {
    let fleet = fleet("60").await?;
    let mut device = fleet.device("pi-1").await?;
    let agent = device.process().context("it runs")?;
    agent.signal(Signal::SIGSTOP);
    let created: CreatedTunnel = fleet.api().post("@/tunnels", &exec("echo $$; cat")).await?;
    let tunnel = created.tunnel;
    let lost = tunnel::open(fleet.api(), tunnel.id, &created.ticket, "").await;
    let has = |count| move |t: &Tunnel| t.attached == count;
    wait_tunnel(fleet.api(), tunnel.id, "attached to", has(1)).await?;
    drop(lost);
    wait_tunnel(fleet.api(), tunnel.id, "left alone", has(0)).await?;
    let console = Console::attach(fleet.api(), &tunnel, "owner");
    wait_tunnel(fleet.api(), tunnel.id, "attached to", has(1)).await?;
    agent.signal(Signal::SIGCONT);
    console.write("typed").await?;
    console.finish()?;
    let received = console.received(0).await?;
    assert!(received.bytes.ends_with(b"\ntyped"), "{received:?}");
    assert_eq!(received.exit, Some(Exit::Code(0)));
    Ok(())
}

#[tokio::test]
async fn connections_of_a_forward_and_of_a_proxy_end_with_their_console() -> Result<()> {
    let fleet = fleet("2").await?;
    let _device = fleet.device("pi-1").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port().to_string();
    for is_forward in [true, false] {
        let mut forward = None;
        let mut proxy = None;
        let _client = if is_forward {
            let target = format!("127.0.0.1:{port}");
            let started = Forward::start(&fleet, fleet.api(), &["pi-1", &target]).await?;
            let client = tokio::net::TcpStream::connect(("127.0.0.1", started.port)).await?;
            forward = Some(started);
            Some(client)
        } else {
            let mut command = cli::quarterdeck(&fleet, fleet.api(), &["proxy", "pi-1", &port])?;
            proxy = Some(command.stdin(Stdio::piped()).spawn()?);
            None
        };
        let (mut far, _) = listener.accept().await?;
        let tunnel = only_tunnel(&fleet).await?;
        if let Some(forward) = &mut forward {
            forward.kill_9().await?;
        }
        if let Some(proxy) = &mut proxy {
            proxy.kill().await?;
        }
        is_lost(&fleet, &tunnel).await?;
        // The far end hears of it, and not as an end like any other.
        let heard = quarterdeck_tests::wait::in_time("the far end", far.read(&mut [0])).await?;
        ensure!(heard.is_err(), "a silent end: {heard:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_console_that_was_away_for_less_goes_on() -> Result<()> {
    let fleet = fleet("30").await?;
    let _device = fleet.device("pi-1").await?;
    let network = Proxy::to(fleet.http_port()?).await?;
    let api = quarterdeck_tests::api::Api::new(&format!("http://127.0.0.1:{}", network.port()))?
        .with_token(fleet.api().token());
    let go = fleet.file("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done; echo and on", go.display());
    let args = ["exec", "pi-1", "--", "sh", "-c", &script];
    let console = cli::quarterdeck(&fleet, &api, &args)?.spawn()?;
    let tunnel = only_tunnel(&fleet).await?;
    let begun = clock::now();
    wait_tunnel(fleet.api(), tunnel.id, "attached", |t| t.attached == 1).await?;
    // Not only when its bytes are counted, each half minute.
    ensure!(begun.elapsed() < Duration::from_secs(15), "shown after {:?}", begun.elapsed());
    network.set(Fault::Refuse);
    network.cut();
    wait_tunnel(fleet.api(), tunnel.id, "alone", |t| t.attached == 0).await?;
    fs::write(&go, "")?;
    network.set(Fault::None);
    let ended = quarterdeck_tests::wait::in_time("the exec", console.wait_with_output()).await??;
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "and on\n");
    assert_eq!(ended.status.code(), Some(0));
    Ok(())
}
