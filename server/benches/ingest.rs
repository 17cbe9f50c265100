//! How many words of devices a second become durable: `cargo bench -p quarterdeck-server --bench ingest`.
//!
//! Commands for 1,000 devices are made, then their responses are said through
//! the same bounded channel that the broker uses, each awaited as a device
//! awaits its acknowledgement: every device has one message under way.
//!
//! ```text
//!  ingest [DEVICES] [COMMANDS_PER_DEVICE] [--rate MESSAGES_PER_S] [--folder DIR]
//! ```

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use quarterdeck_protocol::{
    api::{CreateCommands, Targets},
    ids::{DeviceId, ProjectId},
    topics::DeviceTopic,
};
use quarterdeck_server::{
    clock::Clock,
    engine::{Actor, Auditor, Engine, Settings},
    mqtt::link::{AckHandle, Inbound, Link, Message, PublishError, PublishRequest},
    store::{Location, Store, devices, projects},
};
use tokio::sync::mpsc;

#[derive(Debug)]
struct Nobody;

#[async_trait::async_trait]
impl Link for Nobody {
    fn publish(&self, _: PublishRequest) -> Result<(), PublishError> {
        Err(PublishError::NotConnected)
    }
    fn disconnect(&self, _: &ProjectId, _: &DeviceId) {}
    async fn shutdown(&self) {}
}

struct Options {
    devices: usize,
    commands: usize,
    rate: Option<u64>,
    folder: PathBuf,
}

fn options() -> Options {
    let mut options =
        Options { devices: 1_000, commands: 60, rate: None, folder: std::env::temp_dir() };
    let mut numbers = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rate" => options.rate = args.next().and_then(|text| text.parse().ok()),
            "--folder" => options.folder = args.next().map_or(options.folder, PathBuf::from),
            other => numbers.extend(other.parse::<usize>()),
        }
    }
    options.devices = numbers.first().copied().unwrap_or(options.devices);
    options.commands = numbers.get(1).copied().unwrap_or(options.commands);
    options
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = options();
    let folder =
        tempfile::Builder::new().prefix("quarterdeck-ingest-").tempdir_in(&options.folder)?;
    let store = Store::open(&Location::Sqlite(folder.path().join("quarterdeck.db"))).await?;
    let clock = Clock::system(None);
    let key = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32])?;
    let settings = Settings { mqtt_url: String::new(), ca_pem: None };
    let engine = Engine::new(store.clone(), clock.clone(), Auditor::new(Arc::new(key)), settings);
    let (inbound, receiver) = mpsc::channel(8_192);
    let running = engine.run(Arc::new(Nobody), receiver);

    let project = ProjectId::new("default")?;
    let names: Vec<DeviceId> = (0..options.devices)
        .map(|n| DeviceId::new(&format!("pi-{n:05}")))
        .collect::<Result<_, _>>()?;
    let (to_project, to_names, at) = (project.clone(), names.clone(), clock.wall());
    store
        .write(move |tx| {
            Box::pin(async move {
                projects::insert(tx, &to_project, "Default", at).await?;
                for device in &to_names {
                    let new = devices::Enrolled {
                        project: &to_project,
                        device,
                        kind: None,
                        secret_hash: "x",
                        nonce: None,
                        at,
                    };
                    devices::enroll(tx, &new).await?;
                }
                Ok::<_, quarterdeck_server::store::StoreError>(())
            })
        })
        .await??;

    let actor = Actor { name: "bench".to_owned(), from: String::new() };
    let started = now();
    let mut ids: Vec<Vec<String>> = vec![Vec::new(); options.devices];
    for _ in 0..options.commands {
        let request = CreateCommands {
            targets: Targets {
                devices: names.iter().map(ToString::to_string).collect(),
                groups: Vec::new(),
            },
            kind: "ping".to_owned(),
            payload: serde_json::json!({}),
            priority: None,
            timeout_s: None,
            expires_in_s: None,
            notes: String::new(),
            confirm: true,
        };
        for (index, command) in
            engine.submit(&actor, &project, request).await?.commands.into_iter().enumerate()
        {
            ids[index].push(command.id.to_string());
        }
    }
    let total = options.devices * options.commands;
    println!("submitted    {:>9.0} commands/s", total as f64 / started.elapsed().as_secs_f64());

    let messages = total * 3;
    let started = now();
    let gap =
        options.rate.map(|rate| Duration::from_secs_f64(options.devices as f64 / rate as f64));
    let mut tasks = Vec::new();
    for (device, ids) in names.into_iter().zip(ids) {
        let (inbound, project) = (inbound.clone(), project.clone());
        tasks.push(tokio::spawn(async move {
            let mut waits = Vec::with_capacity(ids.len() * 3);
            let mut next = now();
            for id in ids {
                for (status, more) in [
                    ("accepted", ""),
                    ("execution_started", ",\"state\":\"executing\""),
                    ("completed", ",\"result\":{\"ok\":true},\"exit_code\":0,\"stdout\":\"done\\n\",\"stderr\":\"\""),
                ] {
                    if let Some(gap) = gap {
                        tokio::time::sleep_until(next.into()).await;
                        next += gap;
                    }
                    let payload = format!(
                        r#"{{"schema_version":"1.0","command_id":"{id}","status":"{status}"{more},"at":"2026-11-21T06:00:00.000Z"}}"#
                    );
                    let (ack, waiter) = AckHandle::pair();
                    let sent = now();
                    let message = Message {
                        project_id: project.clone(),
                        device_id: device.clone(),
                        kind: DeviceTopic::CommandsResponse,
                        payload: payload.into(),
                        retained: false,
                        last_will: false,
                        connection: None,
                        ack,
                    };
                    let _ = inbound.send(Inbound::Message(message)).await;
                    assert!(waiter.committed().await, "committed");
                    waits.push(sent.elapsed());
                }
            }
            waits
        }));
    }
    let mut waits = Vec::with_capacity(messages);
    for task in tasks {
        waits.extend(task.await?);
    }
    let elapsed = started.elapsed().as_secs_f64();
    waits.sort_unstable();
    let at =
        |percent: f64| waits[((waits.len() - 1) as f64 * percent) as usize].as_secs_f64() * 1e3;
    println!("ingested     {:>9.0} messages/s", messages as f64 / elapsed);
    println!("acknowledged p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0));

    drop(inbound);
    running.stop().await;
    store.close().await;
    Ok(())
}
