//! What is wrong in options and files is refused, with where it stands and what was expected.

use quarterdeck_tests::pty::TerminalBuilder;
use serde_json::json;

use super::{
    program::Program,
    stub::{Reply, Stub},
};

#[tokio::test]
async fn a_wrong_file_or_option_is_named_with_its_line_and_key() {
    let program = Program::new();
    let file = |name: &str, text: &str| {
        let path = program.home.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let missing = program.home.path().join("missing").display().to_string();
    let config = file("config.toml", "wall = false\nserver = 'fleet'\n");
    let theme = file("theme.toml", "theme = 'pink'\n");
    let keys = file("keys.toml", "[keys]\n\"command.retri\" = [\"r\"]\n");
    let shape = file("shape.toml", "[keys]\nfreeze = \"p\"\n");
    for (args, said) in [
        (["--config", &config], vec!["config.toml: line 2, key server", "http://"]),
        (["--config", &theme], vec!["theme.toml: line 1, key theme", "high-contrast"]),
        (["--config", &missing], vec!["--config", "missing: No such file"]),
        (["--keymap", &keys], vec!["--keymap", "keys.toml: there is no action \"command.retri\""]),
        (["--keymap", &shape], vec!["shape.toml: line 2, key freeze", "expected a sequence"]),
        (["--keymap", &missing], vec!["--keymap", "missing: No such file"]),
        (["--theme", "pink"], vec!["--theme", "pink", "colour-blind"]),
        (["--rotate", "0s"], vec!["--rotate", "at least 1s"]),
    ] {
        // There is no terminal either; what is wrong in the words comes first.
        let ended = program.run(&args).await.expect(2);
        assert_eq!(ended.stdout, "");
        for text in said {
            assert!(ended.stderr.contains(text), "{args:?}: {text} in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("^J"), "{args:?}: {}", ended.stderr);
    }
    let ended = program.run(&["--token-file", &missing, "devices"]).await.expect(2);
    assert!(ended.stderr.contains("--token-file"), "{}", ended.stderr);
}

#[tokio::test]
async fn what_is_dangerous_is_not_done_unasked_where_nobody_can_be_asked() {
    let stub = Stub::start(|request| match request.route().as_str() {
        "DELETE /devices/{id}" => Reply::problem(409, "reached", "It was asked for."),
        _ => Reply::problem(404, "not_found", "There is no such thing."),
    })
    .await;
    let program = Program::new();
    let server = ["--server", &stub.url, "devices", "retire", "pi-1"];
    let ended = program.run(&server).await.expect(2);
    assert!(ended.stderr.contains("--yes"), "{}", ended.stderr);
    let sure = ["--server", &stub.url, "devices", "retire", "pi-1", "--yes"];
    let ended = program.run(&sure).await.expect(1);
    assert!(!ended.stderr.contains("--yes"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_project_that_is_not_there_is_refused_before_the_screen_is_taken() {
    let stub = Stub::start(|request| match request.route().as_str() {
        "GET /projects" => Reply::page(
            &[json!({"id": "lab", "name": "Lab", "created_at": "2026-11-21T06:00:00Z", "role": "viewer"})],
            None,
            1,
        ),
        _ => Reply::problem(404, "not_found", "There is no such project."),
    })
    .await;
    let program = Program::new();
    let mut console = TerminalBuilder::new(env!("CARGO_BIN_EXE_quarterdeck"))
        .args(["--project", "nope"])
        .env("QUARTERDECK_SERVER", &stub.url)
        .env("QUARTERDECK_TOKEN", "service-token-1")
        .env("HOME", program.home.path().to_string_lossy())
        .size(120, 36)
        .start()
        .expect("starts");
    console.wait_for_text("no project nope for this login").await.expect("said");
    let said = console.text();
    assert!(said.contains("choose one with --project: lab"), "{said}");
    assert_eq!(console.wait_for_end().await.expect("ends"), 1);
    assert!(!console.raw().starts_with(b"\x1b"), "the screen was taken");
}

#[tokio::test]
async fn a_value_that_no_server_could_take_is_wrong_usage() {
    let program = Program::new();
    for (args, said) in [
        (&["devices", "--limit", "0"][..], "--limit"),
        (&["alerts", "--status", "bogus"], "unacknowledged"),
        (&["proxy", "pi-1", "0"], "PORT"),
    ] {
        let ended = program.run(args).await.expect(2);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn each_exit_code_means_what_chapter_1_says() {
    let stub = Stub::start(|request| match request.route().as_str() {
        "GET /projects/default/devices" if request.query("type").is_none() => {
            Reply::page(&[], None, 0)
        }
        "GET /projects/default/devices" => Reply::problem(422, "invalid", "no such type"),
        "GET /projects/default/audit" => Reply::problem(400, "bad_query", "a stray %"),
        "GET /projects/default/devices/pi-9" => Reply::problem(404, "not_found", "no such device"),
        "GET /projects/default/alerts" => Reply::problem(403, "forbidden", "needs the role viewer"),
        "GET /projects/default/recordings" => Reply::problem(500, "internal", "the server failed"),
        _ => Reply::problem(409, "conflict", "not now"),
    })
    .await;
    let program = Program::with_token(&stub.url);
    for (args, code) in [
        // It worked.
        (&["devices"][..], 0),
        (&["--help"], 0),
        // What was asked for failed.
        (&["devices", "show", "pi-9"], 1),
        (&["alerts"], 1),
        (&["recordings"], 1),
        (&["devices", "retire", "pi-9", "--yes"], 1),
        // Wrong usage: seen here, or by the server.
        (&["devices", "--status", "asleep"], 2),
        (&["devices", "--colour", "red"], 2),
        (&["nonsense"], 2),
        (&["devices", "show", "a b"], 2),
        (&["devices", "--type", "x"], 2),
        (&["audit"], 2),
        // What runs a program keeps its codes: the way to the device failed.
        (&["exec", "pi-9", "--", "true"], 255),
    ] {
        let ended = program.run(args).await.expect(code);
        assert_eq!(ended.stderr.is_empty(), code == 0, "{args:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn what_cannot_be_done_to_one_is_said_and_saves_none_of_the_others() {
    let stub = Stub::start(|request| match request.path.rsplit('/').next() {
        Some("r-2") => Reply::problem(409, "still_recording", "its session goes on"),
        Some("r-4") => Reply::cut(),
        _ => Reply::json(204, &json!(null)),
    })
    .await;
    let program = Program::with_token(&stub.url);
    let delete = ["recordings", "delete", "--yes"];
    let ended = program.run(&[&delete[..], &["r-1", "r-2", "r-3"]].concat()).await.expect(1);
    assert_eq!(ended.stdout, "deleted r-1 r-3\n");
    assert_eq!(ended.stderr, "r-2: its session goes on\n");
    // Whoever cannot be reached is not asked for the rest.
    let ended = program.run(&[&delete[..], &["r-1", "r-4", "r-5", "r-6"]].concat()).await.expect(1);
    assert_eq!(ended.stdout, "deleted r-1\n");
    assert!(ended.stderr.starts_with("r-4: cannot reach the server"), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("not tried: r-5 r-6\n"), "{}", ended.stderr);
    let ended = program.run(&[&delete[..], &["r-2"]].concat()).await.expect(1);
    assert_eq!((ended.stdout.as_str(), ended.stderr.contains("goes on")), ("", true));
}

#[tokio::test]
async fn who_joins_a_session_asks_nothing_of_what_runs_in_it() {
    let program = Program::new();
    let id = "018f2b7e-5a3c-7000-8000-000000000001";
    for how in ["--attach", "--copilot", "--watch"] {
        for more in [
            &["--record"][..],
            &["--record", "--record-input"],
            &["--env", "A=B"],
            &["--user", "root"],
            &["--term", "vt100"],
            &["pi-1"],
            &["--", "ls"],
            &["--watch", id],
        ] {
            let args = [&["shell", how, id], more].concat();
            let ended = program.run(&args).await.expect(2);
            let said = if how == more[0] { "multiple times" } else { "cannot be used with" };
            assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let stub = Stub::start(|request| {
        let what = if request.path.contains("/alerts/") { "alert" } else { "device" };
        Reply::problem(404, "not_found", &format!("no such {what}"))
    })
    .await;
    let program = Program::with_token(&stub.url);
    for (args, said) in [
        (&["devices", "show", "pi-9"][..], "quarterdeck: no such device: pi-9\n"),
        (&["devices", "timeline", "pi-9"], "quarterdeck: no such device: pi-9\n"),
        (&["alerts", "ack", "a\u{1b}[31m"], "no such alert: a^[[31m"),
    ] {
        let ended = program.run(args).await.expect(1);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
    }
}
