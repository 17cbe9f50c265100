//! `quarterdeck forward`: many connections, of which a slow one holds up no other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::command::CommandStatus;
use quarterdeck_tests::{Fleet, cli::Forward, report::resident_bytes, wait::in_time};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::noise;

/// What one more process may need for a connection that stands still, in bytes:
/// its windows and buffers, and what an allocator keeps of them.
const STALLED_MAX_BYTES: u64 = 24 * 1024 * 1024;

/// A server that says everything back; each connection for itself.
async fn echo() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                // Whoever breaks it off wants nothing back.
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    Ok(port)
}

/// Sends bytes through a port, and expects them back.
async fn there_and_back(port: u16, bytes: Vec<u8>) -> Result<()> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut from, mut to) = socket.into_split();
    let sent = bytes.clone();
    let writing = async move {
        to.write_all(&sent).await?;
        to.shutdown().await?;
        anyhow::Ok(to)
    };
    let reading = async {
        let mut back = Vec::new();
        from.read_to_end(&mut back).await?;
        anyhow::Ok(back)
    };
    let (_, back) = in_time("an echo", async { tokio::try_join!(writing, reading) }).await??;
    ensure!(back == bytes, "{} of {} bytes came back, or others", back.len(), bytes.len());
    Ok(())
}

#[tokio::test]
async fn one_of_eight_connections_stands_still_and_holds_up_nothing() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let mut device = fleet.device("pi-1").await?;
    let target = format!("127.0.0.1:{}", echo().await?);
    let forward = Forward::start(&fleet, fleet.api(), &["pi-1", &target]).await?;
    // All have served a connection before they are weighed.
    there_and_back(forward.port, noise(2_000_000)).await?;
    let agent = device.process().context("it runs")?.pid();
    let pids = [forward.pid(), fleet.server().process().pid(), agent];
    let weigh = || pids.iter().map(|pid| resident_bytes(*pid)).collect::<Result<Vec<_>>>();
    let before = weigh()?;

    // It says much, and hears nothing.
    let mut stalled = TcpStream::connect(("127.0.0.1", forward.port)).await?;
    let piece = noise(64 * 1024);
    let mut pushed = Vec::new();
    while let Ok(written) = timeout(Duration::from_secs(1), stalled.write(&piece)).await {
        pushed.extend_from_slice(&piece[..written?]);
        ensure!(pushed.len() < 200_000_000, "nothing holds it back");
    }
    let seven = (0..7_usize).map(|n| there_and_back(forward.port, noise(3_000_000 + n)));
    let command = async {
        let api = fleet.api();
        let id = api.send("pi-1", "ping", json!({})).await?;
        anyhow::Ok(api.wait_end(id).await?.status)
    };
    let (_, status) = tokio::try_join!(futures_util::future::try_join_all(seven), command)?;
    assert_eq!(status, CommandStatus::Completed);
    for ((before, after), whose) in before.iter().zip(weigh()?).zip(["console", "server", "agent"])
    {
        let more = after.saturating_sub(*before);
        ensure!(more < STALLED_MAX_BYTES, "the {whose} took {more} bytes more");
    }

    // What stood still goes on, and nothing of it is lost.
    let mut back = vec![0; pushed.len()];
    in_time("the rest", stalled.read_exact(&mut back)).await??;
    assert!(back == pushed, "what came back differs");
    Ok(())
}

#[tokio::test]
async fn a_port_of_the_device_leads_here() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let way = format!("0:127.0.0.1:{}", echo().await?);
    let forward = Forward::start(&fleet, fleet.api(), &["pi-1", "-R", &way]).await?;
    let four = (0..4_usize).map(|n| there_and_back(forward.port, noise(1_000_000 + n)));
    futures_util::future::try_join_all(four).await?;
    Ok(())
}
