//! Terminals, programs and forwards, and who attaches to them.

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use quarterdeck_protocol::{
    api::{CreatedTunnel, Role, TunnelStatus},
    tunnel::{
        close::CloseCode,
        mark::{Exit, Mark, Size},
        session::{ClientMessage, ServerMessage},
    },
};
use quarterdeck_tests::{
    Fleet,
    tunnel::{Console, MAIN, open, ticket, wait_tunnel},
    wait::{Look, wait_for},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_tungstenite::tungstenite::Message;

use super::{exec, noise, terminal};

#[tokio::test]
async fn a_shell_shows_what_is_typed_and_passes_its_exit_on() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let (tunnel, console) =
        Console::create(fleet.api(), &terminal("read name; echo hello $name; exit 7")).await?;
    console.write("world\n").await?;
    console.shows("hello world").await?;
    assert_eq!(console.closed().await?.0, CloseCode::Finished);
    assert_eq!(console.exit(), Some(Exit::Code(7)));
    let over = wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    assert_eq!((over.status, over.close_reason), (TunnelStatus::Closed, Some(CloseCode::Finished)));
    assert_eq!((over.exit_code, over.bytes_up), (Some(7), 6));
    assert!(over.bytes_down > 0 && over.opened_at.is_some(), "{over:?}");
    Ok(())
}

/// A command of a few milliseconds is over before any console can have come.
#[tokio::test]
async fn what_a_program_said_that_was_over_first_is_shown_all_the_same() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let request = terminal("echo quick; exit 7");
    let created: CreatedTunnel = fleet.api().post("@/tunnels", &request).await?;
    let id = created.tunnel.id;
    let over = wait_tunnel(fleet.api(), id, "over", |t| t.status.is_over()).await?;
    // A watcher has not shown it to the owner.
    let watcher = Console::attach(fleet.api(), &over, "watch");
    assert_eq!(watcher.closed().await?.0, CloseCode::Finished);
    let console = Console::take_up(fleet.api(), &over, created.ticket);
    console.shows("quick").await?;
    assert_eq!(console.closed().await?.0, CloseCode::Finished);
    assert_eq!(console.exit(), Some(Exit::Code(7)));
    // All was shown: it is over for good.
    wait_for("the tunnel to take nobody any more", || async {
        let body = json!({ "for": "tunnel", "tunnel_id": id, "mode": "owner" });
        let answer = fleet.api().request(Method::POST, "@/tickets", &body).await?;
        Ok(match answer.refused(409) {
            Ok(problem) if problem.code == "tunnel_over" => Look::Ready(()),
            _ => Look::not_yet("a ticket"),
        })
    })
    .await
}

#[tokio::test]
async fn an_exec_has_its_streams_apart() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let (tunnel, console) =
        Console::create(fleet.api(), &exec("cat; echo trouble >&2; exit 3")).await?;
    let sent = noise(2_000_000);
    console.write(sent.clone()).await?;
    console.finish()?;
    let main = console.received(MAIN).await?;
    assert!(main.bytes == sent, "{} of {} bytes", main.bytes.len(), sent.len());
    assert_eq!(main.exit, Some(Exit::Code(3)));
    assert_eq!(console.received(1 << 31).await?.bytes, b"trouble\n");
    assert_eq!(console.closed().await?.0, CloseCode::Finished);
    let over = wait_tunnel(fleet.api(), tunnel.id, "over", |t| t.status.is_over()).await?;
    assert_eq!((over.close_reason, over.exit_code), (Some(CloseCode::Finished), Some(3)));
    Ok(())
}

#[tokio::test]
async fn a_forward_carries_many_connections() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let request = json!({ "device_id": "pi-1", "kind": "port_forward", "port": port });
    let (_, console) = Console::create(fleet.api(), &request).await?;
    console.attached(1).await?;
    let sent = noise(300_000);
    // The first was given with the attachment.
    let mut streams = vec![MAIN];
    for _ in 0..3 {
        streams.push(console.open_stream()?);
    }
    for stream in &streams {
        console.write_stream(*stream, sent.clone()).await?;
    }
    for stream in streams {
        let received = console.received(stream).await?;
        assert!(received.bytes == sent, "stream {stream}: {} bytes", received.bytes.len());
    }
    console.say(ClientMessage::Close);
    assert_eq!(console.closed().await?.0, CloseCode::ClosedByUser);
    Ok(())
}

#[tokio::test]
async fn a_reverse_forward_says_where_it_listens() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let request =
        json!({ "device_id": "pi-1", "kind": "port_forward", "port": 0, "reverse": true });
    let (tunnel, console) = Console::create(fleet.api(), &request).await?;
    console.attached(1).await?;
    let open =
        wait_tunnel(fleet.api(), tunnel.id, "open", |t| t.status == TunnelStatus::Open).await?;
    let port = open.listen_port.expect("a port");
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    socket.write_all(b"hello").await?;
    socket.shutdown().await?;
    let stream = 1 << 31;
    assert_eq!(console.received(stream).await?.bytes, b"hello");
    console.write_stream(stream, "world").await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    assert_eq!(answer, "world");
    Ok(())
}

#[tokio::test]
async fn a_session_goes_on_while_nobody_is_attached_and_is_found_as_it_was() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let go = fleet.file("go");
    let script = format!(
        "echo begun; while [ ! -e {} ]; do sleep 0.05; done; seq 1 2000; echo counted; read x; echo bye",
        go.display()
    );
    let (tunnel, console) = Console::create(fleet.api(), &terminal(&script)).await?;
    console.shows("begun").await?;
    drop(console);
    wait_tunnel(fleet.api(), tunnel.id, "alone", |t| t.attached == 0).await?;
    std::fs::write(&go, "")?;
    // Who watches for a moment sees to it that it is through, to the last byte.
    let watcher = Console::attach(fleet.api(), &tunnel, "watch");
    let lines = (1..=2_000).map(|n| n.to_string()).chain(["begun", "counted"].map(str::to_owned));
    let all = lines.map(|line| line.len() as u64 + 2).sum::<u64>();
    let is_counted = |message: &ServerMessage| matches!(message, ServerMessage::Stats(stats) if stats.bytes_down >= all);
    watcher.hears("the count", is_counted).await?;
    drop(watcher);
    let again = Console::attach(fleet.api(), &tunnel, "owner");
    let is_snapshot = |message: &ServerMessage| {
        let ServerMessage::Snapshot { screen, .. } = message else { return false };
        let screen = base64(screen);
        String::from_utf8_lossy(&screen).contains("2000\r\ncounted")
    };
    again.hears("a snapshot", is_snapshot).await?;
    again.write("\n").await?;
    again.shows("bye").await?;
    Ok(())
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut out = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for six in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

#[tokio::test]
async fn output_that_never_was_is_not_said_to_be_continued() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let (tunnel, console) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    console.shows("ready").await?;
    let end = console.output().len() as u64;
    for (from, continues) in [(0, true), (end, true), (end + 10_000, false), (u64::MAX, false)] {
        let ticket = ticket(fleet.api(), tunnel.id, "watch").await?;
        let socket = open(fleet.api(), tunnel.id, &ticket, &format!("&from={from}")).await;
        let mut socket = socket.ok().context("attached")?;
        let said = loop {
            let message = socket.next().await.context("a message")??;
            let Message::Text(text) = message else { continue };
            if let ServerMessage::Attached { continues_output, .. } = serde_json::from_str(&text)? {
                break continues_output;
            }
        };
        assert_eq!(said, continues, "from {from} of {end}");
    }
    Ok(())
}

#[tokio::test]
async fn watchers_see_and_copilots_type_and_only_the_owner_resizes() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let (tunnel, owner) = Console::create(
        fleet.api(),
        &terminal("echo ready; while read x; do echo \"got $x\"; stty size; done"),
    )
    .await?;
    owner.shows("ready").await?;
    let viewer = fleet.api().member("vera", Role::Viewer).await?;
    let operator = fleet.api().member("otto", Role::Operator).await?;
    let watcher = Console::attach(&viewer, &tunnel, "watch");
    let copilot = Console::attach(&operator, &tunnel, "copilot");
    watcher.attached(1).await?;
    copilot.write("from the right seat\n").await?;
    for console in [&owner, &watcher] {
        console.shows("got from the right seat").await?;
    }
    let wide = Size::new(132, 50).expect("not 0");
    owner.say(ClientMessage::Resize { size: wide });
    // It stands in the output where it took effect.
    watcher.marked(Mark::Resize(wide)).await?;
    owner.write("x\n").await?;
    watcher.shows("50 132").await?;
    watcher.say(ClientMessage::Resize { size: Size::new(10, 10).expect("not 0") });
    assert!(watcher.problem().await?.contains("1002"));
    owner
        .hears("who is there", |message| {
            matches!(message, ServerMessage::Watchers { watchers } if watchers.len() == 3)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn what_the_metrics_say_of_tunnels_is_so() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let measures = async |expected: &[&str]| {
        wait_for(&format!("{expected:?}"), || async {
            let answer = fleet.api().request(Method::GET, "/metrics", &Value::Null).await?;
            let told = answer.text();
            let all = expected.iter().all(|line| told.lines().any(|told| told == *line));
            Ok(if all { Look::Ready(()) } else { Look::not_yet(told) })
        })
        .await
    };
    let (_, console) = Console::create(fleet.api(), &terminal("read x")).await?;
    console.attached(1).await?;
    measures(&["quarterdeck_tunnels_open 1", "quarterdeck_tunnel_consoles 1"]).await?;
    console.write("\n").await?;
    console.closed().await?;
    drop(console);
    measures(&[
        "quarterdeck_tunnels_open 0",
        "quarterdeck_tunnel_consoles 0",
        "quarterdeck_tunnels_closed_total{reason=\"finished\"} 1",
    ])
    .await
}

#[tokio::test]
async fn a_second_owner_takes_over() -> Result<()> {
    let fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let (tunnel, first) = Console::create(fleet.api(), &terminal("echo ready; cat")).await?;
    first.shows("ready").await?;
    let second = Console::attach(fleet.api(), &tunnel, "owner");
    assert!(first.problem().await?.contains("4009"));
    second.write("mine\n").await?;
    second.shows("mine").await?;
    Ok(())
}
