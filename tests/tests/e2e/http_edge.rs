//! Wrong, huge, malformed and late input over HTTP: the right refusal, with a
//! text that says what to do, and a server that goes on.

use anyhow::{Result, ensure};
use quarterdeck_protocol::api::Problem;
use quarterdeck_tests::{
    Fleet,
    api::{send, submission},
    mqtt::Client as RawConnection,
};
use reqwest::Method;
use serde_json::{Value, json};

fn explains(problem: &Problem, field: &str) -> Result<()> {
    ensure!(problem.field.as_deref().unwrap_or_default().starts_with(field), "{problem:?}");
    ensure!(!problem.detail.is_empty() && !problem.code.is_empty(), "{problem:?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_submission_is_refused_with_the_field_that_is_wrong() -> Result<()> {
    let fleet = Fleet::start().await?;
    fleet.enroll("pi-1").await?;
    let good = json!(submission(&["pi-1"], "run_script", json!({"script": "true"})));
    let with = |path: &str, value: Value| {
        let mut body = good.clone();
        if let Some(place) = body.pointer_mut(path) {
            *place = value;
        } else if let (Some(object), Some(key)) = (body.as_object_mut(), path.strip_prefix('/')) {
            object.insert(key.to_owned(), value);
        }
        body
    };
    for (body, field) in [
        (with("/targets/devices", json!(["no-such"])), "targets.devices"),
        (with("/targets/devices", json!(["../x"])), "targets.devices"),
        (with("/targets/devices", json!([])), "targets"),
        (with("/targets/groups", json!(["no-such"])), "targets.groups"),
        (with("/type", json!("no_such")), "type"),
        (with("/payload", json!({"script": ""})), "payload.script"),
        (with("/payload", json!({"script": "true", "scirpt": 1})), "payload"),
        (with("/payload", json!({"script": "true", "cwd": "relative"})), "payload.cwd"),
        (with("/priority", json!(0)), "priority"),
        (with("/priority", json!(11)), "priority"),
        (with("/timeout_s", json!(0)), "timeout_s"),
        (with("/expires_in_s", json!(0)), "expires_in_s"),
        (with("/expires_in_s", json!(4_000_000_000_u32)), "expires_in_s"),
        (with("/notes", json!("x".repeat(3_000))), "notes"),
        (with("/payload", json!({"script": "x".repeat(100_000)})), "payload"),
        (with("/timeout", json!(5)), "timeout"),
        (with("/priority", json!("high")), "priority"),
    ] {
        let answer = fleet.api().request(Method::POST, "@/commands", &body).await?;
        let problem = answer.refused(422)?;
        explains(&problem, field)?;
    }
    assert_eq!(fleet.api().count("@/commands").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_dangerous_operation_and_a_large_batch_need_confirm() -> Result<()> {
    let fleet = Fleet::start().await?;
    let devices: Vec<String> = (0..21).map(|index| format!("d-{index}")).collect();
    for id in &devices {
        fleet.enroll(id).await?;
    }
    let names: Vec<&str> = devices.iter().map(String::as_str).collect();
    for (targets, kind) in [(&names[..1], "reboot_host"), (&names[..], "ping")] {
        let mut create = submission(targets, kind, json!({}));
        create.confirm = false;
        let answer = fleet.api().request(Method::POST, "@/commands", &json!(create)).await?;
        explains(&answer.refused(422)?, "confirm")?;
    }
    assert_eq!(fleet.api().count("@/commands").await?, 0);
    let mut twenty = submission(&names[..20], "ping", json!({}));
    twenty.confirm = false;
    assert_eq!(fleet.api().submit(&twenty).await?.count, 20);
    Ok(())
}

#[tokio::test]
async fn malformed_deep_and_huge_bodies_are_refused_and_the_server_goes_on() -> Result<()> {
    let fleet = Fleet::start().await?;
    let post = async |body: Vec<u8>| {
        let request = fleet.api().builder(Method::POST, "@/commands").body(body);
        send(request.header("content-type", "application/json")).await
    };
    for bad in [&b"{"[..], b"", b"{\"targets\":}", b"\xff\xfe", b"nul", b"{} {}", b"[1,2"] {
        post(bad.to_vec()).await?.refused(400)?;
    }
    let deep = format!("{{\"payload\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    post(deep.into_bytes()).await?.refused(400)?;
    let huge = format!("{{\"notes\":\"{}\"}}", "x".repeat(1_100_000));
    post(huge.into_bytes()).await?.refused(413)?;

    for (path, status) in [
        ("@/commands/not-an-id", 404),
        ("@/commands?limit=1001", 422),
        ("@/commands?limit=x", 422),
        ("@/commands?cursor=forged", 422),
        ("@/commands?sort=no_such", 422),
        ("@/commands?status=no_such", 422),
        ("@/devices/..%2f..%2fetc", 404),
        ("@/devices/%00", 400),
        ("/no/such/route", 404),
    ] {
        fleet.api().request(Method::GET, path, &Value::Null).await?.refused(status)?;
    }
    fleet.api().request(Method::PUT, "@/commands", &json!({})).await?.refused(405)?;
    fleet.api().get::<Value>("/auth/me").await?;
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_http_do_not_disturb_the_others() -> Result<()> {
    let fleet = Fleet::start().await?;
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET / HTTP/9.9\r\n\r\n", &[0; 4096]] {
        let mut connection = RawConnection::open(fleet.http_port()?).await?;
        // It may be thrown out before all of it is sent.
        let _ = connection.send_raw(garbage).await;
        fleet.api().get::<Value>("/auth/me").await?;
    }
    let mut endless = RawConnection::open(fleet.http_port()?).await?;
    let header = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(10_000));
    for _ in 0..100 {
        if endless.send_raw(header.as_bytes()).await.is_err() {
            break;
        }
    }
    endless.wait_for_end().await?;
    fleet.api().get::<Value>("/auth/me").await?;
    Ok(())
}

#[tokio::test]
async fn the_api_describes_itself_and_says_how_it_is() -> Result<()> {
    let fleet = Fleet::start().await?;
    let openapi: Value = fleet.api().get("/openapi.json").await?;
    assert!(openapi["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for path in [
        "/api/v1/auth/login",
        "/api/v1/projects/{p}/commands",
        "/api/v1/projects/{p}/devices",
        "/api/v1/enroll",
    ] {
        let normal = |text: &str| {
            text.split('/')
                .map(|part| if part.starts_with('{') { "{}" } else { part })
                .collect::<Vec<_>>()
                .join("/")
        };
        let paths = openapi["paths"].as_object().into_iter().flatten();
        let known: Vec<String> = paths.map(|(path, _)| normal(path)).collect();
        let wanted = normal(path);
        let short = wanted.trim_start_matches("/api/v1").to_owned();
        assert!(known.contains(&wanted) || known.contains(&short), "{path} is not in {known:?}");
    }
    // What else there is needs a token: chapter 2 of the contract names these alone.
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 401)] {
        let url = format!("{}{path}", fleet.api().base());
        assert_eq!(reqwest::get(&url).await?.status(), status, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn pages_of_a_listing_join_without_gap_or_repetition_while_it_grows() -> Result<()> {
    let fleet = Fleet::start().await?;
    fleet.enroll("pi-1").await?;
    let mut sent = Vec::new();
    for _ in 0..25 {
        sent.push(fleet.api().send("pi-1", "ping", json!({})).await?.to_string());
    }
    for sort in ["created_at", "-created_at"] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("@/commands?limit=10&sort={sort}{cursor}");
            let page: Value = fleet.api().get(&path).await?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            seen.extend(items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            // A row that comes while somebody pages.
            let _ = fleet.api().send("pi-1", "ping", json!({})).await?;
        }
        let mut old: Vec<&String> = seen.iter().filter(|id| sent.contains(id)).collect();
        if sort == "-created_at" {
            old.reverse();
        }
        assert_eq!(old, sent.iter().collect::<Vec<_>>(), "{sort}");
    }
    Ok(())
}
