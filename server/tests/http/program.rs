//! The program itself: its options, its one line, its end, its subcommands.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::support::http_client;

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quarterdeck-server"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("QUARTERDECK_")) {
        command.env_remove(key);
    }
    command.arg("--data-dir").arg(folder.join("data")).env("QUARTERDECK_LOG", "warn");
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("ran");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A server that is ended with the test.
struct Serving {
    child: Child,
    ready: Value,
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .args(["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let Ok(ready) = serde_json::from_str(&line) else {
            let output = child.wait_with_output().expect("ended");
            panic!("not ready: {line:?} {}", String::from_utf8_lossy(&output.stderr));
        };
        Self { child, ready }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("sent");
    }

    /// The exit code, and what was said on stderr.
    fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let status = self.child.wait().expect("ended");
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().expect("piped"), &mut said)
            .expect("text");
        (status.code(), said)
    }

    async fn login(&self, password: &str) -> reqwest::Response {
        let url = format!("{}/api/v1/auth/login", self.ready["http"].as_str().expect("a URL"));
        let body = json!({ "username": "admin", "password": password });
        http_client().post(url).json(&body).send().await.expect("an answer")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_says_one_line_serves_and_ends_at_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let serving =
        Serving::start(program(folder.path()).env("QUARTERDECK_ADMIN_PASSWORD", "given password"));
    assert_eq!(serving.ready["event"], "ready");
    assert!(serving.ready["mqtt"].as_str().unwrap().starts_with("mqtt://127.0.0.1:"));
    assert_eq!(serving.ready.as_object().unwrap().len(), 3);
    let data = folder.path().join("data");
    assert_eq!(std::fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
    assert_eq!(serving.login("given password").await.status(), 200);

    // Two servers do not share a folder.
    let (code, out, err) =
        run(program(folder.path()).args(["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("another quarterdeck-server is at work"), "{err}");

    let (code, said) = serving.stop(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("given password"));
}

#[tokio::test]
async fn a_random_password_is_shown_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, said) = Serving::start(&mut program(folder.path())).stop(Signal::SIGINT);
    assert_eq!(code, Some(0));
    let password = said
        .split("has the password ")
        .nth(1)
        .expect("shown")
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let serving = Serving::start(&mut program(folder.path()));
    assert_eq!(serving.login(&password).await.status(), 200);
    let (_, said) = serving.stop(Signal::SIGTERM);
    assert!(!said.contains("has the password"), "{said}");
}

#[tokio::test]
async fn a_server_that_was_killed_has_all_that_it_said_yes_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let serving =
        Serving::start(program(folder.path()).env("QUARTERDECK_ADMIN_PASSWORD", "given password"));
    let tokens: Value = serving.login("given password").await.json().await.unwrap();
    let (code, _) = serving.stop(Signal::SIGKILL);
    assert_eq!(code, None);
    let serving = Serving::start(&mut program(folder.path()));
    let url = format!("{}/api/v1/auth/me", serving.ready["http"].as_str().unwrap());
    let me = http_client()
        .get(url)
        .bearer_auth(tokens["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(me.status(), 200);
}

#[test]
fn wrong_options_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "htttp = '127.0.0.1:1'\n").unwrap();
    let file = file.to_str().unwrap();
    for (args, env, said) in [
        (vec!["--http", "nowhere"], None, vec!["--http", "nowhere", "127.0.0.1:8470"]),
        (vec!["--http", "0.0.0.0:0"], None, vec!["--http", "0.0.0.0:0", "--allow-plaintext http"]),
        (vec!["--mqtt", "0.0.0.0:0"], None, vec!["--mqtt", "--allow-plaintext mqtt"]),
        (vec!["--config", file], None, vec!["htttp", "server.toml"]),
        (vec!["--config", "/nonexistent/x.toml"], None, vec!["--config", "/nonexistent/x.toml"]),
        (vec!["--broker", "http://x"], None, vec!["--broker", "mqtt://"]),
        (vec!["--database", "mysql://u:hunter2@x/y"], None, vec!["--database", "postgres://"]),
        (vec!["--database-url-file", "/nonexistent"], None, vec!["--database-url-file"]),
        (vec!["--allow-plaintext", "ftp"], None, vec!["--allow-plaintext", "ftp"]),
        (vec![], Some(("QUARTERDECK_SERVER_HTTP", "x")), vec!["QUARTERDECK_SERVER_HTTP", "\"x\""]),
        (
            vec![],
            Some(("QUARTERDECK_ADMIN_PASSWORD", "short")),
            vec!["QUARTERDECK_ADMIN_PASSWORD", "8 to 128"],
        ),
        (vec![], Some(("QUARTERDECK_LOG", "=,=")), vec!["QUARTERDECK_LOG"]),
        (vec![], Some(("QUARTERDECK_LOG", "verbose")), vec!["QUARTERDECK_LOG", "TARGET=LEVEL"]),
        (vec![], Some(("QUARTERDECK_LOG", "bad level!!")), vec!["QUARTERDECK_LOG", "info"]),
        (vec!["--broker", "mqtt://10.0.0.9"], None, vec!["--broker", "--allow-plaintext mqtt"]),
        (vec!["--database", "postgres://"], None, vec!["--database", "host"]),
        (vec!["--colour", "red"], None, vec!["--colour"]),
        (vec!["frobnicate"], None, vec!["frobnicate"]),
    ] {
        let mut command = program(folder.path());
        command.args(&args);
        if let Some((key, value)) = env {
            command.env(key, value);
        }
        let (code, out, err) = run(&mut command);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?} {err}");
        for text in said {
            assert!(err.contains(text), "{args:?}: {text} in {err}");
        }
        assert!(!err.contains("hunter2"), "{err}");
        assert!(!folder.path().join("data").exists(), "{args:?}");
    }
}

#[tokio::test]
async fn users_are_made_and_passwords_reset_beside_a_running_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, _, err) = run(program(folder.path()).args(["create-user", "ops"]));
    assert_eq!(code, 1);
    assert!(err.contains("start the server"), "{err}");

    let serving =
        Serving::start(program(folder.path()).env("QUARTERDECK_ADMIN_PASSWORD", "given password"));
    let tokens: Value = serving.login("given password").await.json().await.unwrap();
    let (code, out, err) = run(program(folder.path()).args(["create-user", "ops", "--admin"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("user ops has the password"));
    assert_eq!(run(program(folder.path()).args(["create-user", "ops"])).0, 1);
    assert_eq!(run(program(folder.path()).args(["create-user", "o p s"])).0, 1);

    let secret = folder.path().join("secret");
    std::fs::write(&secret, "a new password\n").unwrap();
    let reset = ["reset-password", "admin", "--password-file", secret.to_str().unwrap()];
    let (code, out, err) = run(program(folder.path()).args(reset));
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("a new password"));
    assert_eq!(serving.login("given password").await.status(), 401);
    assert_eq!(serving.login("a new password").await.status(), 200);
    let url = format!("{}/api/v1/auth/me", serving.ready["http"].as_str().unwrap());
    let old = http_client()
        .get(url)
        .bearer_auth(tokens["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(old.status(), 401);
    assert_eq!(run(program(folder.path()).args(["reset-password", "nobody"])).0, 1);

    // All of it is in the trail, and the trail holds.
    let (code, out, err) = run(program(folder.path()).arg("verify-audit"));
    assert_eq!(code, 0, "{out} {err}");
    assert!(out.contains("project default:"), "{out}");
    let (code, out, _) = run(program(folder.path()).args(["export-audit", "--project", "default"]));
    assert_eq!(code, 0);
    let entries: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        entries
            .iter()
            .any(|entry| entry["action"] == "user.reset_password" && entry["project"] == "default")
    );
    assert_eq!(run(program(folder.path()).args(["verify-audit", "--project", "nope"])).0, 1);
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let serving =
        Serving::start(program(folder.path()).env("QUARTERDECK_ADMIN_PASSWORD", "given password"));
    let backup = folder.path().join("backup");
    let backup = backup.to_str().unwrap();
    let (code, out, err) = run(program(folder.path()).args(["backup", backup]));
    assert_eq!(code, 0, "{out} {err}");
    assert_eq!(run(program(folder.path()).args(["backup", backup])).0, 1, "never over another one");
    assert_eq!(run(program(folder.path()).args(["create-user", "later"])).0, 0);

    let (code, _, err) = run(program(folder.path()).args(["restore", backup]));
    assert_eq!(code, 1);
    assert!(err.contains("stop the server first"), "{err}");
    serving.stop(Signal::SIGTERM);
    let (code, out, err) = run(program(folder.path()).args(["restore", backup]));
    assert_eq!(code, 0, "{out} {err}");
    assert_eq!(others_files(&folder.path().join("data")), [""; 0]);
    assert_eq!(others_files(Path::new(backup)), [""; 0]);
    let entries = std::fs::read_dir(folder.path().join("data")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.contains("incoming")).collect::<Vec<_>>(), [""; 0]);
    let serving = Serving::start(&mut program(folder.path()));
    assert_eq!(serving.login("given password").await.status(), 200);
    // Made after the backup: not there, so its name is free.
    let (code, _, err) = run(program(folder.path()).args(["create-user", "later"]));
    assert_eq!(code, 0, "{err}");
    serving.stop(Signal::SIGTERM);

    std::fs::write(Path::new(backup).join("quarterdeck.db"), "no database").unwrap();
    let (code, _, err) = run(program(folder.path()).args(["restore", backup]));
    assert_eq!(code, 1, "{err}");
    let serving = Serving::start(&mut program(folder.path()));
    assert_eq!(serving.login("given password").await.status(), 200);
}

/// The files of a folder that others may read or write.
fn others_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let about = entry.metadata().expect("its mode");
        if about.is_dir() {
            found.extend(others_files(&entry.path()));
        } else if about.mode() & 0o077 != 0 {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn an_option_of_the_environment_that_is_none_gets_a_word() {
    let folder = tempfile::tempdir().expect("a folder");
    let serving = Serving::start(program(folder.path()).env("QUARTERDECK_SERVER_NOPE", "1"));
    let (code, err) = serving.stop(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    assert!(err.contains("QUARTERDECK_SERVER_NOPE"), "{err}");
}

#[test]
fn limits_are_shown_and_a_database_is_migrated() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, out, _) = run(program(folder.path()).arg("limits"));
    assert_eq!(code, 0);
    assert!(out.contains("http_body_bytes"), "{out}");
    assert!(!folder.path().join("data").exists());
    let (code, out, err) = run(program(folder.path()).arg("migrate"));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("up to date") && err.contains("has the password"), "{out} {err}");
    assert_eq!(run(program(folder.path()).arg("migrate")).0, 0);
    let url = "postgres://u:p@127.0.0.1:1/x";
    let (code, _, err) = run(program(folder.path()).args(["--database", url, "backup", "x"]));
    assert_eq!(code, 1);
    assert!(err.contains("pg_dump"), "{err}");
}

#[test]
fn a_damaged_database_is_named_and_nothing_is_served() {
    for file in ["quarterdeck.db", "quarterdeck.db-intake"] {
        let folder = tempfile::tempdir().expect("a folder");
        let serving = Serving::start(&mut program(folder.path()));
        assert_eq!(serving.stop(Signal::SIGTERM).0, Some(0));
        let path = folder.path().join("data").join(file);
        assert!(path.exists(), "{file}");
        std::fs::write(&path, [0x5a; 5_000]).expect("damaged");
        let args = ["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];
        let (code, out, err) = run(program(folder.path()).args(args));
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(file), "{file}: {err}");
    }
}
