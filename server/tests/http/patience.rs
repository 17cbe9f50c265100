//! Those who are too slow are let go, and nobody waits for them.
//!
//! The limits are real time, so this is one test: its connections wait together.

use std::time::Duration;

use quarterdeck_server::http::{json::BODY_TIMEOUT_MS, server::HEAD_TIMEOUT_MS};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::support::Fixture;

/// How much later than its limit an end may come on a busy machine.
const LATE: Duration = Duration::from_secs(20);
/// How often a drop comes from those who drip.
const DRIP: Duration = Duration::from_secs(1);

/// Writes a beginning, then a byte now and then, until the server ends it; what it said, and when.
async fn drip(fixture: &Fixture, beginning: &str, byte: Option<u8>) -> (String, Duration) {
    let mut stream = TcpStream::connect(fixture.running.http_address).await.expect("connected");
    stream.write_all(beginning.as_bytes()).await.expect("written");
    let started = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let dripping = async {
        loop {
            tokio::time::sleep(DRIP).await;
            if let Some(byte) = byte
                && writer.write_all(&[byte]).await.is_err()
            {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut said = Vec::new();
    tokio::select! {
        // A reset is an end as well.
        _ = reader.read_to_end(&mut said) => {}
        () = dripping => {}
    }
    (String::from_utf8_lossy(&said).into_owned(), started.elapsed())
}

#[tokio::test]
async fn a_head_or_body_that_drips_is_not_waited_for() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let head = "GET /healthz HTTP/1.1\r\nhost: x\r\nx: ";
    let body = format!(
        "POST /api/v1/projects/default/commands HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {admin}\r\n\
         content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
    );
    let (silent, slow_head, slow_body) = tokio::join!(
        drip(&fixture, "", None),
        drip(&fixture, head, Some(b'y')),
        drip(&fixture, &body, Some(b' ')),
    );
    for (what, (said, took), limit_ms) in [
        ("silence", silent, HEAD_TIMEOUT_MS),
        ("a head", slow_head, HEAD_TIMEOUT_MS),
        ("a body", slow_body, BODY_TIMEOUT_MS),
    ] {
        let limit = Duration::from_millis(limit_ms);
        assert!(took + DRIP >= limit && took < limit + LATE, "{what}: {took:?}");
        assert!(!said.starts_with("HTTP/1.1 2"), "{what}: {said}");
        if what == "a body" {
            assert!(said.starts_with("HTTP/1.1 408"), "{said}");
        }
    }
    fixture.get("/healthz", "").await.expect(200);
}
