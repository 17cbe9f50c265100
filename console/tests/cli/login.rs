//! Logins, profiles, tokens.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    program::Program,
    samples::{me, tokens},
    stub::{Reply, Request, Stub},
};

fn server_of_ops(request: &Request) -> Reply {
    match request.route().as_str() {
        "POST /auth/login" if request.body["password"] == "correct horse" => {
            Reply::ok(&tokens(1, 600))
        }
        "POST /auth/login" => Reply::problem(401, "bad_credentials", "wrong user name or password"),
        "POST /auth/logout" => Reply { status: 204, headers: vec![], body: vec![], is_cut: false },
        "GET /auth/me" => Reply::ok(&me()),
        "GET /projects/default/devices" => Reply::page(&[], None, 0),
        _ => Reply::problem(404, "not_found", "no such thing"),
    }
}

#[tokio::test]
async fn a_login_is_remembered_for_its_owner_alone_and_used_from_then_on() {
    let stub = Stub::start(server_of_ops).await;
    let program = Program::new();
    let args = ["login", "--server", &stub.url, "--username", "ops-1"];
    let ended = program.run_with(&args, "correct horse\n").await.expect(0);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains("as ops-1"), "{}", ended.stderr);
    assert_eq!(program.profile_mode("default"), 0o600);

    program.run(&["devices"]).await.expect(0);
    let listed = stub.asked().pop().expect("asked");
    assert_eq!(listed.header("authorization"), Some("Bearer access-1"));

    program.run(&["logout"]).await.expect(0);
    assert_eq!(stub.routes().last().map(String::as_str), Some("POST /auth/logout"));
    assert!(!program.profile_text("default").contains("access-1"));
    let ended = program.run(&["devices"]).await.expect(1);
    assert!(ended.stderr.contains("quarterdeck login"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_hint_names_the_profile_that_is_in_use() {
    let stub = Stub::start(server_of_ops).await;
    let program = Program::new();
    let profile = ["--profile", "lab"];
    let login = ["login", "--server", &stub.url, "--username", "ops-1"];
    program.run_with(&[&profile[..], &login].concat(), "correct horse\n").await.expect(0);
    program.run(&["--profile", "lab", "logout"]).await.expect(0);
    let ended = program.run(&["--profile", "lab", "devices"]).await.expect(1);
    assert!(ended.stderr.contains("quarterdeck login --profile lab --server"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_password_may_come_from_a_file_and_the_answer_may_be_json() {
    let stub = Stub::start(server_of_ops).await;
    let program = Program::new();
    let file = program.home.path().join("password");
    std::fs::write(&file, "correct horse\n").expect("written");
    let file = file.display().to_string();
    let args = [
        "login",
        "--server",
        &stub.url,
        "-u",
        "ops-1",
        "--password-file",
        &file,
        "--profile",
        "work",
        "--output",
        "json",
    ];
    let ended = program.run(&args).await.expect(0);
    assert_eq!(ended.json(), [me()]);
    assert_eq!(program.profile_mode("work"), 0o600);
}

#[tokio::test]
async fn a_wrong_password_fails_and_leaves_nothing_behind() {
    let stub = Stub::start(server_of_ops).await;
    let program = Program::new();
    let args = ["login", "--server", &stub.url, "--username", "ops-1"];
    let ended = program.run_with(&args, "hunter2\n").await.expect(1);
    assert!(ended.stderr.contains("wrong user name or password"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    assert!(!program.profile("default").exists());
}

#[tokio::test]
async fn too_many_logins_say_how_long_to_wait_and_are_not_repeated() {
    let stub = Stub::start(|_| {
        let mut reply = Reply::problem(429, "too_many_logins", "too many tries");
        reply.headers.push(("retry-after", "1".to_owned()));
        reply
    })
    .await;
    let program = Program::new();
    let args = ["login", "--server", &stub.url, "--username", "ops-1"];
    let ended = program.run_with(&args, "x\n").await.expect(1);
    assert!(ended.stderr.contains("too many tries (try again in 1 s)"), "{}", ended.stderr);
    assert_eq!(stub.asked().len(), 1);
}

#[tokio::test]
async fn an_access_token_that_ended_is_refreshed_and_the_new_one_remembered() {
    let good = std::sync::Arc::new(AtomicU32::new(1));
    let stub = Stub::start(move |request| {
        let access = format!("Bearer access-{}", good.load(Ordering::SeqCst));
        match request.route().as_str() {
            "POST /auth/login" => Reply::ok(&tokens(1, 600)),
            "POST /auth/refresh" if request.body["refresh_token"] == "refresh-1" => {
                good.store(2, Ordering::SeqCst);
                Reply::ok(&tokens(2, 600))
            }
            "POST /auth/refresh" => Reply::problem(401, "session_ended", "used twice"),
            _ if request.header("authorization") != Some(access.as_str()) => {
                Reply::problem(401, "unauthenticated", "no")
            }
            "GET /auth/me" => {
                // From now on only a refreshed token is good.
                let reply = Reply::ok(&me());
                good.store(2, Ordering::SeqCst);
                reply
            }
            _ => Reply::page(&[], None, 0),
        }
    })
    .await;
    let program = Program::new();
    let args = ["login", "--server", &stub.url, "--username", "ops-1"];
    program.run_with(&args, "pw\n").await.expect(0);
    // Several programs at once find the token refused; the refresh token is good for one of them.
    let (a, b, c) = tokio::join!(
        program.run(&["devices"]),
        program.run(&["devices"]),
        program.run(&["devices"])
    );
    for ended in [a, b, c] {
        ended.expect(0);
    }
    let refreshes = stub.routes().iter().filter(|route| *route == "POST /auth/refresh").count();
    assert_eq!(refreshes, 1);
    assert!(program.profile_text("default").contains("refresh-2"));
    assert_eq!(program.profile_mode("default"), 0o600);
}

#[tokio::test]
async fn a_remembered_token_is_never_sent_to_another_server() {
    let (mine, other) = (Stub::start(server_of_ops).await, Stub::start(server_of_ops).await);
    let program = Program::new();
    let args = ["login", "--server", &mine.url, "--username", "ops-1"];
    program.run_with(&args, "correct horse\n").await.expect(0);
    program.run(&["devices", "--server", &other.url]).await.expect(1);
    assert_eq!(other.asked().len(), 0);
}

#[tokio::test]
async fn the_most_talkative_log_holds_no_secret() {
    let stub = Stub::start(|request| match request.route().as_str() {
        "POST /auth/login" => Reply::ok(&tokens(1, 0)),
        "POST /auth/refresh" => Reply::problem(503, "unavailable", "starting"),
        "GET /auth/me" => Reply::ok(&me()),
        _ => Reply::cut(),
    })
    .await;
    let mut program = Program::new();
    program.env.push(("QUARTERDECK_LOG", "trace".to_owned()));
    let args = ["login", "--server", &stub.url, "--username", "ops-1"];
    let login = program.run_with(&args, "correct horse\n").await;
    program.env.push(("QUARTERDECK_TOKEN", "service-token-1".to_owned()));
    let devices = program.run(&["devices", "--server", &stub.url]).await.expect(1);
    assert!(devices.stderr.contains("trying again"), "{}", devices.stderr);
    for secret in ["correct horse", "access-1", "refresh-1", "service-token-1"] {
        assert!(!login.stderr.contains(secret) && !devices.stderr.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn the_environment_stands_for_a_login() {
    let stub = Stub::start(|_| Reply::page(&[], None, 0)).await;
    let mut program = Program::with_token(&stub.url);
    program.env.push(("QUARTERDECK_PROJECT", "plant-2".to_owned()));
    program.run(&["devices"]).await.expect(0);
    let asked = stub.asked().pop().expect("asked");
    assert_eq!(asked.route(), "GET /projects/plant-2/devices");
    assert_eq!(asked.header("authorization"), Some("Bearer service-token-1"));
}

#[tokio::test]
async fn plain_http_to_another_machine_is_wrong_usage() {
    let program = Program::new();
    let args = ["login", "--server", "http://fleet.example.com", "--username", "ops-1"];
    let ended = program.run_with(&args, "pw\n").await.expect(2);
    assert!(ended.stderr.contains("--allow-plaintext"), "{}", ended.stderr);
}

#[tokio::test]
async fn nobody_there_is_a_failure_that_says_what_to_look_at() {
    // A port that was just free.
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let program = Program::with_token(&url);
    let ended = program.run(&["devices"]).await.expect(1);
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.contains(&url), "{}", ended.stderr);
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);
    assert!(ended.stderr.contains("is quarterdeck-server running there?"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_machine_without_certificate_authorities_can_still_talk_to_itself() {
    let stub = Stub::start(|_| Reply::page(&[], None, 0)).await;
    let mut program = Program::with_token(&stub.url);
    program.env.push(("SSL_CERT_FILE", "/nonexistent".to_owned()));
    program.env.push(("SSL_CERT_DIR", "/nonexistent".to_owned()));
    program.run(&["devices"]).await.expect(0);
}

#[tokio::test]
async fn a_given_token_that_has_ended_names_where_it_came_from() {
    let stub = Stub::start(|_| {
        Reply::problem(401, "token_expired", "the access token has expired; refresh it")
    })
    .await;
    let mut program = Program::new();
    program.env.push(("QUARTERDECK_SERVER", stub.url.clone()));
    program.env.push(("QUARTERDECK_TOKEN", "access-1".to_owned()));
    let ended = program.run(&["devices"]).await.expect(1);
    let said = "the token of QUARTERDECK_TOKEN has expired; put a fresh one there";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}
