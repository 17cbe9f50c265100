//! The programs themselves: their options, their files, their start and stop.

use std::{path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use quarterdeck_protocol::command::CommandStatus;
use quarterdeck_tests::{
    Fleet, binaries, process::Process, server::ServerOptions, wait::wait_until,
};
use serde_json::Value;

fn run(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Output> {
    let mut command = std::process::Command::new(program);
    command.args(args).envs(env.iter().copied()).stdin(std::process::Stdio::null());
    command.output().with_context(|| program.display().to_string())
}

#[tokio::test]
async fn a_wrong_option_is_refused_before_anything_is_written() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let data_text = data.to_str().context("a folder")?.to_owned();
    let file = folder.path().join("server.toml");
    std::fs::write(&file, "htpp = '127.0.0.1:0'\n")?;
    let file = file.to_str().context("a file")?.to_owned();
    let server = &binaries::find()?.server;
    for (args, env, names) in [
        (vec!["--http", "nonsense"], vec![], "http"),
        (vec!["--mqtt", "127.0.0.1:99999"], vec![], "mqtt"),
        (vec!["--http", "0.0.0.0:0"], vec![], "http"),
        (vec!["--database", "mysql://x"], vec![], "database"),
        (vec!["--broker", "http://x"], vec![], "broker"),
        (vec![], vec![("QUARTERDECK_SERVER_HTTP", "nonsense")], "http"),
        (vec!["--config", &file], vec![], "htpp"),
        (vec!["--no-such-option"], vec![], "no-such-option"),
    ] {
        let mut all = vec!["--data-dir", &data_text];
        all.extend(args.iter());
        let output = run(server, &all, &env)?;
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        ensure!(!output.status.success(), "{args:?} was taken");
        ensure!(said.contains(names), "{args:?}: {said}");
        ensure!(!data.exists(), "{args:?} wrote {}", data.display());
        ensure!(output.stdout.is_empty(), "{args:?} printed on stdout");
    }
    Ok(())
}

#[tokio::test]
async fn a_first_start_on_a_taken_port_makes_no_database_and_no_password() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let server = &binaries::find()?.server;
    for option in ["--http", "--mqtt"] {
        let folder = tempfile::tempdir()?;
        let data = folder.path().to_str().context("a folder")?;
        let mut args = vec!["--data-dir", data, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];
        let at = args.iter().position(|arg| *arg == option).context("an option")? + 1;
        args[at] = &address;
        let output = run(server, &args, &[])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{option}: {}", output.status);
        ensure!(said.contains(option) && said.contains(&address), "{option}: {said}");
        ensure!(!said.contains("password"), "{option}: {said}");
        let databases: Vec<_> = std::fs::read_dir(folder.path())?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| name.contains(".db"))
            .collect();
        ensure!(databases.is_empty(), "{option}: {databases:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_named_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Bound and closed: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let url = format!("postgres://fleet:secret-word@{address}/fleet");
    let mut command = std::process::Command::new(&binaries::find()?.server);
    command.arg("--data-dir").arg(folder.path().join("data")).args(["--database", &url]);
    command.args(["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
    let mut server = Process::start("server", &command, &folder.path().join("logs"))?;
    wait_until("a word on the database", || {
        let said = server.stderr();
        said.contains("does not answer") && said.contains(&address.to_string())
    })
    .await?;
    server.must_run()?;
    let status = server.wait_for_end().await?;
    let said = server.stderr();
    ensure!(status.code() == Some(1), "{status}");
    ensure!(said.contains("refused"), "{said}");
    ensure!(!said.contains("secret-word"), "{said}");
    Ok(())
}

#[tokio::test]
async fn an_agent_with_a_wrong_option_says_which_and_writes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let data_text = data.to_str().context("a folder")?.to_owned();
    let agent = &binaries::find()?.agent;
    for (args, names) in [
        (vec!["--server", "ftp://x"], "server"),
        (vec!["--server", "http://127.0.0.1:1", "--device-id", "a/b"], "device_id"),
        (vec!["--no-such-option"], "no-such-option"),
    ] {
        let mut all = vec!["--data-dir", &data_text];
        all.extend(args.iter());
        let output = run(agent, &all, &[])?;
        let said = String::from_utf8_lossy(&output.stderr).replace('-', "_").to_lowercase();
        ensure!(!output.status.success(), "{args:?} was taken");
        ensure!(said.contains(&names.replace('-', "_")), "{args:?}: {said}");
        ensure!(!data.exists(), "{args:?} wrote {}", data.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_graceful_stop_exits_0_and_the_next_start_goes_on() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let _device = fleet.device("pi-1").await?;
    let token = fleet.api().token().to_owned();
    fleet.server().stop().await?;
    fleet.server().start_again().await?;
    // Keys, sessions and devices outlive it.
    fleet.api().with_token(&token).get::<Value>("/auth/me").await?;
    fleet.online("pi-1").await?;
    let id = fleet.api().script("pi-1", "true").await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_has_to_read_what_the_server_logs() -> Result<()> {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };
    let folder = tempfile::tempdir()?;
    let (reader, writer) = std::io::pipe()?;
    let mut server = Command::new(&binaries::find()?.server)
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"])
        .env("QUARTERDECK_ADMIN_PASSWORD", "a long password")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(writer)
        .spawn()?;
    let mut ready = String::new();
    BufReader::new(server.stdout.take().context("stdout")?).read_line(&mut ready)?;
    ensure!(ready.contains("http"), "{ready}");
    drop(reader);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(server.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    let ended = tokio::task::spawn_blocking(move || server.wait()).await??;
    ensure!(ended.code() == Some(0), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_first_start_without_a_password_prints_one_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ServerOptions { without_admin_password: true, ..ServerOptions::default() };
    let mut server = quarterdeck_tests::server::Server::start(folder.path(), options).await?;
    let first = server.process().stderr();
    let api = quarterdeck_tests::api::Api::new(server.http())?;
    let words = first.split(|c: char| c.is_whitespace() || "\"'`,".contains(c));
    let words = words.map(|word| word.rsplit([':', '=']).next().unwrap_or_default());
    let mut password = None;
    for word in words.filter(|word| word.len() >= 12 && word.is_ascii()).take(40) {
        if !first.to_lowercase().contains("password") || word.contains('/') {
            continue;
        }
        if api.login("admin", word).await.is_ok() {
            password = Some(word.to_owned());
            break;
        }
    }
    let password = password.with_context(|| format!("no password in {first}"))?;
    server.kill_9_and_start_again().await?;
    assert_eq!(server.process().stderr().matches(&password).count(), 1);
    Ok(())
}

#[tokio::test]
async fn two_servers_cannot_share_one_folder() -> Result<()> {
    let fleet = Fleet::start().await?;
    let data = fleet.folder().join("server");
    let data = data.to_str().context("a folder")?;
    let args = ["--data-dir", data, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];
    let mut second = std::process::Command::new(&binaries::find()?.server);
    second.args(args);
    let mut second =
        quarterdeck_tests::process::Process::start("second", &second, &fleet.file("logs"))?;
    let status = second.wait_for_end().await?;
    ensure!(!status.success(), "a second server runs on the same folder");
    fleet.api().get::<Value>("/auth/me").await?;
    Ok(())
}
