//! What is wrong, too big, too deep or unknown is refused in words.

use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::support::{Fixture, send};

const COMMANDS: &str = "/projects/default/commands";

#[tokio::test]
async fn a_body_that_is_no_json_is_400_and_json_of_another_shape_422() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let post = |body: String| {
        let request = fixture
            .request(Method::POST, COMMANDS, &admin)
            .header(header::CONTENT_TYPE, "application/json");
        send(request.body(body))
    };
    for body in ["", "{", "{\"targets\":", "[1,2", "not json"] {
        post(body.to_owned()).await.problem(400, "malformed_json");
    }
    post(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).await.problem(400, "too_deep");
    for (body, field) in [
        (json!({ "targets": {}, "type": "ping", "colour": 1 }), "colour"),
        (json!({ "targets": { "devices": [1] }, "type": "ping" }), "targets.devices[0]"),
        (json!({ "type": "ping" }), "targets"),
    ] {
        assert_eq!(post(body.to_string()).await.problem(422, "invalid")["field"], field);
    }
    for (body, field) in [
        (r#"{"targets":{},"type":"a\u0000b"}"#, "type"),
        (r#"{"targets":{},"type":"ping","type":"ping"}"#, "type"),
        (r#"{"targets":{},"type":"x","payload":{"a":[{"b":1,"b":2}]}}"#, "payload.a[0].b"),
    ] {
        let problem = post(body.to_owned()).await.problem(422, "invalid");
        assert_eq!(problem["field"], field);
    }
}

#[tokio::test]
async fn a_body_without_the_type_of_json_is_415() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let request = fixture.request(Method::POST, COMMANDS, &admin).body("{}");
    send(request).await.problem(415, "unsupported_media_type");
    let request = fixture.request(Method::POST, COMMANDS, &admin).json(&json!({}));
    send(request.header(header::CONTENT_ENCODING, "gzip"))
        .await
        .problem(415, "unsupported_encoding");
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_413() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let large =
        json!({ "targets": {}, "type": "ping", "notes": "x".repeat(1024 * 1024) }).to_string();
    let post = || {
        fixture
            .request(Method::POST, COMMANDS, &admin)
            .header(header::CONTENT_TYPE, "application/json")
    };
    send(post().body(large.clone())).await.problem(413, "too_large");
    // Without a length, found on the way.
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
        large.into_bytes().chunks(8192).map(|chunk| Ok(chunk.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    send(post().body(body)).await.problem(413, "too_large");
}

/// A sender that writes its whole request before it reads.
async fn stubborn(fixture: &Fixture, head: &str, body_bytes: usize) -> String {
    let mut stream = TcpStream::connect(fixture.running.http_address).await.expect("connected");
    let head = format!("{head}Host: x\r\nContent-Length: {body_bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
    let chunk = vec![b' '; 64 * 1024];
    for _ in 0..body_bytes / chunk.len() {
        stream.write_all(&chunk).await.expect("all of the body is taken");
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the answer is not reset");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_sends_all_of_a_body_that_is_refused_still_gets_the_answer() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let head = format!(
        "POST /api/v1{COMMANDS} HTTP/1.1\r\nAuthorization: Bearer {admin}\r\nContent-Type: application/json\r\n"
    );
    let answer = stubborn(&fixture, &head, 20 * 1024 * 1024).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\"too_large\""), "{answer}");
    // And who is refused before any of it is read.
    let nobody = "POST /api/v1/users HTTP/1.1\r\nContent-Type: application/json\r\n";
    let answer = stubborn(&fixture, nobody, 4 * 1024 * 1024).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn a_request_names_its_host_once_and_has_a_head_within_the_limit() {
    let fixture = Fixture::start().await;
    let close = "Connection: close\r\n\r\n";
    for (head, status, code) in [
        (String::new(), "400", "bad_host"),
        ("Host: a\r\nHost: b\r\n".to_owned(), "400", "bad_host"),
        (
            "Host: a\r\nAuthorization: x\r\nAuthorization: x\r\n".to_owned(),
            "400",
            "bad_authorization",
        ),
        ("Host: a\r\n".to_owned(), "200", "ok"),
        (format!("Host: a\r\nX: {}\r\n", "x".repeat(32_000)), "200", "ok"),
        (format!("Host: a\r\nX: {}\r\n", "x".repeat(32 * 1024)), "431", "headers_too_large"),
        (format!("Host: a\r\n{}", "X: y\r\n".repeat(98)), "200", "ok"),
        (format!("Host: a\r\n{}", "X: y\r\n".repeat(99)), "431", "headers_too_large"),
        // Over what is parsed at all.
        (format!("Host: a\r\nX: {}\r\n", "x".repeat(64 * 1024)), "431", ""),
    ] {
        let answer =
            raw(&fixture, format!("GET /healthz HTTP/1.1\r\n{head}{close}").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(code), "{answer}");
        let is_problem = answer.contains("application/problem+json");
        assert_eq!(is_problem, status != "200" && !code.is_empty(), "{answer}");
    }
    for (length, status) in [(16_000, "401"), (17_000, "414")] {
        let path = format!("/api/v1/projects/default/devices?q={}", "x".repeat(length));
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{close}");
        let answer = raw(&fixture, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let answer = raw(&fixture, b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}

#[tokio::test]
async fn an_unknown_parameter_and_a_bad_page_are_named() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=nonsense", "cursor"),
        ("sort=colour", "sort"),
        ("colour=red", "colour"),
        ("status=purple", "status"),
        ("from=yesterday", "from"),
    ] {
        let problem =
            fixture.get(&format!("{COMMANDS}?{query}"), &admin).await.problem(422, "invalid");
        assert_eq!(problem["field"], field, "{query}");
    }
    for listing in ["devices", "alerts", "audit", "members", "operations", "enrollment-tokens"] {
        for query in ["colour=red", "limit=0", "sort=colour"] {
            let path = format!("/projects/default/{listing}?{query}");
            let field = query.split('=').next().unwrap();
            assert_eq!(
                fixture.get(&path, &admin).await.problem(422, "invalid")["field"],
                field,
                "{path}"
            );
        }
        for unreadable in ["%ff", "%zz", "%"] {
            let path = format!("/projects/default/{listing}?q={unreadable}");
            fixture.get(&path, &admin).await.problem(400, "bad_query");
        }
        let path = format!("/projects/default/{listing}?cursor=%00");
        assert_eq!(fixture.get(&path, &admin).await.problem(422, "invalid")["field"], "cursor");
    }
}

#[tokio::test]
async fn a_cursor_leads_on_where_it_was_made_and_what_cannot_be_is_named() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for project in ["alpha", "beta"] {
        fixture.project(&admin, project).await;
        for device in ["pi-1", "pi-2"] {
            fixture.device(&admin, project, device).await;
        }
    }
    let page = |path: String| {
        let (fixture, admin) = (&fixture, &admin);
        async move { fixture.get(&path, admin).await }
    };
    let devices = "/projects/alpha/devices?limit=1";
    let first = page(devices.to_owned()).await.expect(200);
    let cursor = first["next_cursor"].as_str().expect("a further page");
    let second = page(format!("{devices}&cursor={cursor}")).await.expect(200);
    assert_eq!(second["items"][0]["id"], "pi-2");
    for elsewhere in [
        "/projects/beta/devices?limit=1",
        "/projects/alpha/devices?limit=1&status=offline",
        "/projects/alpha/devices?limit=1&sort=-id",
        "/projects?limit=1",
        "/users?limit=1",
    ] {
        let refused = page(format!("{elsewhere}&cursor={cursor}")).await;
        assert_eq!(refused.problem(422, "invalid")["field"], "cursor", "{elsewhere}");
    }
    for priority in ["0", "99", "-1", "soon", "!0", "5,11"] {
        let refused = page(format!("/projects/alpha/commands?priority={priority}")).await;
        assert_eq!(refused.problem(422, "invalid")["field"], "priority", "{priority}");
    }
    page("/projects/alpha/commands?priority=1,10,!5".to_owned()).await.expect(200);
    let listings = document_listings();
    assert!(listings.len() > 12, "{listings:?}");
    for listing in listings {
        let path = listing.replace("{project}", "alpha").replace("{device}", "pi-1");
        for cursor in ["", "bm9uZQ", "////"] {
            let refused = page(format!("{path}?cursor={cursor}")).await;
            assert_eq!(
                refused.problem(422, "invalid")["field"],
                "cursor",
                "{path}?cursor={cursor}"
            );
        }
    }
}

/// The paths of all listings of which something is there.
fn document_listings() -> Vec<String> {
    let document = serde_json::to_value(quarterdeck_server::http::openapi::specification());
    let document = document.expect("JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    let takes_cursor = |operation: &Value| {
        operation["parameters"]
            .as_array()
            .is_some_and(|all| all.iter().any(|p| p["name"] == "cursor"))
    };
    paths
        .filter(|(path, item)| takes_cursor(&item["get"]) && !path.contains("{id}"))
        .map(|(path, _)| path.clone())
        .collect()
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for path in ["/", "/api/v1", "/api/v1/nothing", "/api/v2/devices", "/projects/default/devices/"]
    {
        let url = if path.starts_with("/api") || path == "/" {
            format!("{}{path}", fixture.running.http)
        } else {
            fixture.url(path)
        };
        send(fixture.client.get(url).bearer_auth(&admin)).await.problem(404, "not_found");
    }
    let answer = fixture.call(Method::DELETE, "/users", &admin, None).await;
    assert!(answer.headers["allow"].to_str().unwrap().contains("POST"));
    answer.problem(405, "method_not_allowed");
    fixture.get("/projects/default/devices/%ff", &admin).await.problem(400, "bad_path");
    fixture.get("/projects/%ff/devices", &admin).await.problem(400, "bad_path");
    fixture.get("/projects/default/devices/a%00b", &admin).await.problem(400, "bad_path");
    fixture.get("/projects/default/commands/not-an-id", &admin).await.problem(404, "not_found");
}

#[tokio::test]
async fn answers_carry_the_headers_that_a_browser_needs() {
    let fixture = Fixture::start().await;
    let answer = fixture.get("/healthz", "").await;
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.headers.contains_key("x-request-id"));
    assert!(!answer.headers.contains_key("server"));
}

async fn raw(fixture: &Fixture, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(fixture.running.http_address).await.expect("connected");
    stream.write_all(request).await.expect("written");
    stream.shutdown().await.ok();
    let mut answer = Vec::new();
    // The server may reset a connection whose request it did not read to the end.
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_two_programs_may_read_differently_is_refused_or_ends_the_connection() {
    let fixture = Fixture::start().await;
    let body = r#"{"username":"a","password":"b"}"#;
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let smuggled = "GET /readyz HTTP/1.1\r\nHost: smuggled\r\nConnection: close\r\n\r\n";
    for (fields, body, status) in [
        // By the chunks; what follows them is not read.
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &chunks, "401"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &chunks, "401"),
        ("Content-Length: 5\r\nContent-Length: 31\r\n", &body.to_owned(), "400"),
        ("Content-Length: 31, 31\r\n", &body.to_owned(), "400"),
        ("Content-Length: +31\r\n", &body.to_owned(), "400"),
        ("Content-Length: 31\r\nX: a\r\n b\r\n", &body.to_owned(), "400"),
        ("Content-Length : 31\r\n", &body.to_owned(), "400"),
        ("Transfer-Encoding: xchunked\r\n", &chunks, "400"),
        ("Transfer-Encoding: chunked, identity\r\n", &chunks, "400"),
    ] {
        let head =
            "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
        let answer = raw(&fixture, format!("{head}{fields}\r\n{body}{smuggled}").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{fields}: {answer}");
        let answers = answer.matches("HTTP/1.1 ").count();
        assert_eq!(answers, 1, "{fields}: the rest was taken for a request: {answer}");
    }
    for coding in ["gzip, chunked", "chunked\r\nTransfer-Encoding: chunked"] {
        let request = format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: {coding}\r\n\r\n{chunks}"
        );
        let answer = raw(&fixture, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 501"), "{coding}: {answer}");
        assert!(answer.contains("unknown_transfer_encoding"), "{coding}: {answer}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_harm_nobody() {
    let fixture = Fixture::start().await;
    let long_head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
    for request in
        [b"\x00\x01\x02\r\n\r\n".as_slice(), b"GET", long_head.as_bytes(), many_headers.as_bytes()]
    {
        let answer = raw(&fixture, request).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    fixture.get("/healthz", "").await.expect(200);
}

#[tokio::test]
async fn the_server_says_that_it_lives_serves_and_measures() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.get("/healthz", "").await.expect(200)["status"], "ok");
    let ready = fixture.get("/readyz", "").await.expect(200);
    assert_eq!((ready["store"].as_str(), ready["broker"].as_str()), (Some("ok"), Some("ok")));
    let admin = fixture.admin().await;
    let metrics = fixture.get("/metrics", &admin).await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert!(metrics.text.contains("quarterdeck_http_requests_total"), "{}", metrics.text);
    // Ids would make a series each.
    fixture.get("/projects/default/devices/some-device", &admin).await.expect(404);
    let metrics = fixture.get("/metrics", &admin).await.text;
    assert!(!metrics.contains("some-device") && metrics.contains("/devices/{device}"));
}
