//! Sockets that break the protocol of WebSockets itself (RFC 6455).

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::{api::CreatedTunnel, tunnel::limits::FRAME_MAX_BYTES};
use quarterdeck_tests::{
    Fleet, agent::DeviceOptions, api::Api, server::ServerOptions, wait::in_time,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::terminal;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
/// Of all zeros: what is sent stays as it is.
const MASK: [u8; 4] = [0; 4];

/// A frame of a client, with its bits as they are given.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload);
    frame
}

/// Opens the stream of a new terminal, byte for byte.
async fn open(api: &Api) -> Result<TcpStream> {
    let created: CreatedTunnel = api.post("@/tunnels", &terminal("echo ready; cat")).await?;
    let url = api.url(&format!("/tunnels/{}/stream?ticket={}", created.tunnel.id, created.ticket));
    let (host, path) = url
        .strip_prefix("http://")
        .and_then(|url| url.split_once('/'))
        .context("a plain address")?;
    let mut socket = TcpStream::connect(host).await?;
    let head = format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await?);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    Ok(socket)
}

/// Reads frames up to the close, and says its code; the connection ends behind it.
async fn close_code(socket: &mut TcpStream) -> Result<u16> {
    loop {
        let first = socket.read_u8().await.context("an end without a close")?;
        let len = match socket.read_u8().await? {
            126 => u64::from(socket.read_u16().await?),
            127 => socket.read_u64().await?,
            short => short.into(),
        };
        let mut payload = vec![0; len as usize];
        socket.read_exact(&mut payload).await?;
        if first == CLOSE {
            ensure!(socket.read(&mut [0]).await? == 0, "something behind the close");
            return Ok(u16::from_be_bytes([payload[0], payload[1]]));
        }
    }
}

/// What a socket is closed with after some bytes, all of which are sent first.
async fn closed_after(api: &Api, bytes: &[u8]) -> Result<u16> {
    let mut socket = open(api).await?;
    in_time("a close", async {
        socket.write_all(bytes).await?;
        close_code(&mut socket).await
    })
    .await?
}

#[tokio::test]
async fn what_is_no_message_is_answered_with_a_close_that_says_what_it_was() -> Result<()> {
    let args = ["--tunnels-per-user", "20", "--tunnels-per-device", "20"].map(str::to_owned);
    let options = ServerOptions { args: args.to_vec(), ..ServerOptions::default() };
    let fleet = Fleet::start_with(options).await?;
    let config = "[tunnels]\nmax = 20\n".to_owned();
    let device = DeviceOptions { config, ..DeviceOptions::default() };
    let _device = fleet.device_with("pi-1", device).await?;
    let mut announced = vec![BINARY, 0x80 | 127];
    announced.extend((1_u64 << 40).to_be_bytes());
    announced.extend(MASK);
    let long_text = format!("{{\"type\":\"ping\",\"nonce\":1,\"x\":\"{}\"}}", "x".repeat(5_000));
    let cases: Vec<(&str, u16, Vec<u8>)> = vec![
        ("longer than a frame", 1009, masked(BINARY, &vec![0; FRAME_MAX_BYTES + 1])),
        ("much longer, all of it sent", 1009, masked(BINARY, &vec![0; 4 * 1024 * 1024])),
        ("announced as longer", 1009, announced),
        ("a long text", 1009, masked(TEXT, long_text.as_bytes())),
        ("unmasked", 1002, vec![BINARY, 3, 1, 2, 3]),
        ("a reserved bit", 1002, masked(BINARY | 0x40, b"abc")),
        ("an unknown opcode", 1002, masked(0x83, b"abc")),
        ("a continuation of nothing", 1002, masked(0x80, b"abc")),
        ("no UTF-8", 1007, masked(TEXT, b"\"\xff\xfe\"")),
        ("no JSON", 1002, masked(TEXT, b"{")),
        ("no frame", 1002, masked(BINARY, b"abc")),
        ("its own close", 1000, masked(CLOSE, &1000_u16.to_be_bytes())),
    ];
    for (what, code, bytes) in cases {
        assert_eq!(closed_after(fleet.api(), &bytes).await.context(what)?, code, "{what}");
    }
    Ok(())
}
