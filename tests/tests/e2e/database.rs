//! PostgreSQL in place of SQLite, and PostgreSQL lost in the middle of commits.

use std::time::Duration;

use anyhow::{Result, ensure};
use quarterdeck_protocol::{api::Command, command::CommandStatus, ids::CommandId, live::Listing};
use quarterdeck_tests::{
    Fleet,
    api::submission,
    live::Live,
    postgres::Postgres,
    proxy::Proxy,
    server::ServerOptions,
    wait::{Look, wait_for},
};
use reqwest::Method;
use serde_json::{Value, json};

async fn fleet_on(postgres: &Postgres) -> Result<Fleet> {
    fleet_at(postgres.url()).await
}

async fn fleet_at(url: String) -> Result<Fleet> {
    let env = vec![("QUARTERDECK_SERVER_DATABASE".to_owned(), url)];
    Fleet::start_with(ServerOptions { env, ..ServerOptions::default() }).await
}

#[tokio::test]
async fn a_command_is_the_same_on_postgresql_and_outlives_the_server() -> Result<()> {
    let Some(postgres) = Postgres::start().await? else { return Ok(()) };
    let mut fleet = fleet_on(&postgres).await?;
    let device = fleet.device("pi-1").await?;
    let id = fleet.api().script(device.id(), "echo hello; exit 0").await?;
    let command = fleet.api().wait_status(id, CommandStatus::Completed).await?;
    assert_eq!(command.stdout.as_deref(), Some("hello\n"));
    assert_eq!(postgres.query("SELECT status FROM commands")?, "completed");

    fleet.restart_server().await?;
    // A server that has just started knows of no device whether it is there.
    fleet.online("pi-1").await?;
    assert_eq!(fleet.api().command(id).await?, command);
    let second = fleet.api().script(device.id(), "true").await?;
    fleet.api().wait_status(second, CommandStatus::Completed).await?;
    Ok(())
}

#[tokio::test]
async fn a_database_lost_in_the_middle_of_commits_loses_nothing_acknowledged() -> Result<()> {
    let Some(mut postgres) = Postgres::start().await? else { return Ok(()) };
    let mut fleet = fleet_on(&postgres).await?;
    let device = fleet.device("pi-1").await?;
    let effects = device.folder().join("effects");

    let api = fleet.api().clone();
    let script = json!({ "script": format!("echo $1 >> {}", effects.display()) });
    let submitting = tokio::spawn(async move {
        let (mut acknowledged, mut refused) = (Vec::<CommandId>::new(), 0);
        while refused < 3 && acknowledged.len() < 2_000 {
            let create = submission(&["pi-1"], "run_script", script.clone());
            let answer = api.request(Method::POST, "@/commands", &json!(create)).await?;
            if answer.status == 201 {
                let made: quarterdeck_protocol::api::CreatedCommands = answer.read()?;
                acknowledged.push(made.commands[0].id);
            } else {
                // An explicit refusal, never a success that is none.
                ensure!(answer.status >= 500, "{} {}", answer.status, answer.text());
                answer.problem()?;
                refused += 1;
            }
        }
        Ok(acknowledged)
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    postgres.kill_9();
    let acknowledged = submitting.await??;
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged before the database went");
    fleet.server().process().must_run()?;

    postgres.start_again().await?;
    wait_for("the server to be ready again", || async {
        let answer = reqwest::get(format!("{}/readyz", fleet.api().base())).await?;
        let status = answer.status();
        Ok(if status == 200 { Look::Ready(()) } else { Look::not_yet(status) })
    })
    .await?;
    for id in &acknowledged {
        fleet.api().wait_status(*id, CommandStatus::Completed).await?;
    }
    let lines = std::fs::read_to_string(&effects)?.lines().count() as u64;
    let known = fleet.api().count("@/commands").await?;
    ensure!(lines <= known, "{lines} effects of {known} commands");
    ensure!(lines >= acknowledged.len() as u64, "{lines} effects of {}", acknowledged.len());
    Ok(())
}

#[tokio::test]
async fn what_is_stored_without_a_confirmation_is_done_all_the_same() -> Result<()> {
    let Some(postgres) = Postgres::start().await? else { return Ok(()) };
    let proxy = Proxy::to(postgres.port()).await?;
    let port = |port: u16| format!(":{port}/");
    let fleet =
        fleet_at(postgres.url().replace(&port(postgres.port()), &port(proxy.port()))).await?;
    let device = fleet.device("pi-1").await?;
    let id = fleet.api().script(device.id(), "true").await?;
    fleet.api().wait_status(id, CommandStatus::Completed).await?;
    let mut live = Live::open(fleet.api()).await?;
    live.subscribe(1, Listing::Tunnels, &[]).await?;

    // Words that stand in no later statement: what the first prints comes by the same way.
    for (word, path, body) in [
        (
            "doubted=",
            "@/commands",
            json!(submission(&["pi-1"], "run_script", json!({"script": "doubted=1; echo doubt"}))),
        ),
        (
            "doubting",
            "@/tunnels",
            json!({"device_id": "pi-1", "kind": "exec", "argv": ["echo", "doubting"]}),
        ),
    ] {
        proxy.lose_answer(word, "COMMIT");
        let answer = fleet.api().request(Method::POST, path, &body).await?;
        ensure!(answer.status >= 500, "{path}: {} {}", answer.status, answer.text());
        ensure!(!proxy.loses_answer(), "{path}: its commit was never asked for");
    }
    wait_for("the command to be done", || async {
        let commands: Vec<Command> = fleet.api().list("@/commands?status=completed").await?;
        let done = commands.iter().find(|command| command.stdout.as_deref() == Some("doubt\n"));
        Ok(done.map_or_else(|| Look::not_yet(commands.len()), |_| Look::Ready(())))
    })
    .await?;
    live.wait_row("the tunnel", |row| row["status"] == "open").await?;
    Ok(())
}

#[tokio::test]
async fn a_server_without_its_database_says_so_and_is_not_ready() -> Result<()> {
    let Some(mut postgres) = Postgres::start().await? else { return Ok(()) };
    let mut fleet = fleet_on(&postgres).await?;
    postgres.kill_9();
    let answer = fleet.api().request(Method::GET, "@/devices", &Value::Null).await?;
    ensure!(answer.status >= 500, "{} {}", answer.status, answer.text());
    let problem = answer.problem()?;
    ensure!(!problem.detail.contains("postgres://"), "{problem:?}");
    let ready = reqwest::get(format!("{}/readyz", fleet.api().base())).await?;
    assert_eq!(ready.status(), 503);
    let alive = reqwest::get(format!("{}/healthz", fleet.api().base())).await?;
    assert_eq!(alive.status(), 200);
    fleet.server().process().must_run()
}
