//! `quarterdeck-agent status`: what this device knows of itself, without a
//! server, and beside a running agent.

use std::{
    fs::{self, File},
    sync::Arc,
};

use quarterdeck_protocol::{text, time::Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    config::Config,
    data_dir::Paths,
    enroll::{self, EnrollError},
    io::host,
    journal::{
        Journal, JournalError,
        storage::{DiskFolder, ReadOnly},
    },
};

/// The connection as it was last; written by the agent at each change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connection {
    pub connected: bool,
    pub since: Timestamp,
    pub reconnect_count: u64,
    pub last_disconnect_at: Option<Timestamp>,
}

impl Connection {
    /// Writes it; not for ever, so without waiting for the disk.
    pub fn write(&self, paths: &Paths) {
        let next = paths.connection().with_extension("next");
        let text = serde_json::to_vec(self).expect("plain data");
        let written = fs::write(&next, text).and_then(|()| fs::rename(&next, paths.connection()));
        if let Err(error) = written {
            tracing::debug!(%error, "cannot note the connection");
        }
    }

    fn read(paths: &Paths) -> Option<Self> {
        serde_json::from_slice(&fs::read(paths.connection()).ok()?).ok()
    }
}

/// Says why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error(transparent)]
    Credentials(#[from] EnrollError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Collects what is known; changes nothing.
pub fn collect(config: &Config) -> Result<Value, StatusError> {
    let paths = Paths::new(&config.data_dir);
    let credentials = enroll::load(&paths)?;
    let is_running = paths.is_in_use();
    let connection = Connection::read(&paths);
    let mut commands = Vec::new();
    let mut unsent = 0;
    if let Ok(file) = File::open(config.data_dir.join(DiskFolder::LOG)) {
        let (_, replay) = Journal::open(Arc::new(ReadOnly(file)))?;
        unsent = replay.unacked.len();
        for command in replay.open {
            let message = command.received.message;
            commands.push(json!({
                "command_id": message.command_id,
                "type": message.kind,
                "priority": message.priority,
                "state": if command.running.is_some() { "started" } else { "accepted" },
                "accepted_at": command.received.wall,
            }));
        }
    }
    Ok(json!({
        "agent_version": env!("CARGO_PKG_VERSION"),
        "data_dir": config.data_dir,
        "running": is_running,
        "enrolled": credentials.is_some(),
        "project": credentials.as_ref().map(|c| &c.project_id),
        "device": credentials.as_ref().map(|c| &c.device_id),
        "server": credentials.as_ref().map(|c| &c.server),
        "broker": credentials.as_ref().map(|c| &c.mqtt_url),
        "connected": is_running && connection.as_ref().is_some_and(|c| c.connected),
        "connection": connection,
        "boot_id": host::boot_id().ok(),
        "open_commands": commands,
        "unacknowledged_responses": unsent,
    }))
}

/// Writes it for people.
pub fn to_text(status: &Value) -> String {
    let word = |key: &str| match &status[key] {
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text::line(text).into_owned(),
        other => other.to_string(),
    };
    let mut lines = vec![
        format!("device      {} (project {})", word("device"), word("project")),
        format!("agent       {} (running: {})", word("agent_version"), word("running")),
        format!("server      {}", word("server")),
        format!("broker      {} (connected: {})", word("broker"), word("connected")),
        format!("data        {}", word("data_dir")),
        format!("boot id     {}", word("boot_id")),
        format!("responses   {} not acknowledged yet", word("unacknowledged_responses")),
    ];
    let commands = status["open_commands"].as_array().map_or(&[][..], Vec::as_slice);
    lines.push(format!("commands    {} open", commands.len()));
    for command in commands {
        let field = |key: &str| text::line(command[key].as_str().unwrap_or("-")).into_owned();
        lines.push(format!("  {}  {}  {}", field("command_id"), field("state"), field("type")));
    }
    lines.join("\n")
}
