//! How the API's objects look in tables and details.

use quarterdeck_protocol::{
    api::{
        Alert, AuditEntry, AuditOutcome, Command, Device, EnrollmentToken, Member, Project,
        ServiceToken, Severity, TimelineEntry, User,
    },
    command::CommandStatus,
    device::DeviceStatus,
    operations::{Operation, OperationSource},
    text,
    time::Timestamp,
};
use serde_json::Value;
use std::fmt::Write as _;

use super::{
    table::{Cell, Tone},
    units::{age, short_span},
};

/// An object that is a row of a table.
pub trait Row {
    const TITLES: &'static [&'static str];
    /// One cell for each title.
    fn cells(&self, now: Timestamp) -> Vec<Cell>;
}

impl Row for Device {
    const TITLES: &'static [&'static str] =
        &["ID", "STATUS", "TYPE", "SEEN", "VERSION", "OPEN", "SERVICE FAILED", "TAGS"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let failed = self.service_failed.as_ref().map(|failed| &failed.unit);
        vec![
            Cell::new(&self.id),
            presence(self),
            Cell::new(&self.kind),
            Cell::maybe(self.last_seen_at.map(|at| age(at, now))),
            Cell::maybe(self.agent_version.as_ref()),
            Cell::new(self.open_commands.to_string()),
            Cell::maybe(failed).tone(if failed.is_some() { Tone::Bad } else { Tone::Plain }),
            Cell::new(tags(&self.tags)),
        ]
    }
}

impl Row for Command {
    const TITLES: &'static [&'static str] =
        &["ID", "DEVICE", "TYPE", "STATUS", "BY", "AGE", "TOOK", "ERROR"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(self.id.to_string()),
            Cell::new(&self.device_id),
            Cell::new(&self.kind),
            Cell::new(status(self)).tone(command_tone(self.status)),
            Cell::new(&self.created_by),
            Cell::new(age(self.created_at, now)),
            Cell::maybe(took(self)),
            Cell::maybe(error(self)),
        ]
    }
}

impl Row for Operation {
    const TITLES: &'static [&'static str] =
        &["NAME", "TITLE", "TAKES", "SOURCE", "DEVICES", "DESCRIPTION"];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let title = if self.dangerous { format!("{} (!)", self.title) } else { self.title.clone() };
        let tone = if self.dangerous { Tone::Warning } else { Tone::Plain };
        let source = match self.source {
            OperationSource::Builtin => "builtin",
            OperationSource::Device => "device",
        };
        vec![
            Cell::new(&self.name),
            Cell::new(title).tone(tone),
            Cell::new(short_span(i64::from(self.estimated_duration_s) * 1000)),
            Cell::new(source),
            Cell::new(self.device_count.to_string()),
            Cell::new(&self.description),
        ]
    }
}

impl Row for Alert {
    const TITLES: &'static [&'static str] =
        &["ID", "SEVERITY", "KIND", "DEVICE", "SINCE", "LAST", "COUNT", "STATE", "CAUSE"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let (severity, tone) = match self.severity {
            Severity::Info => ("info", Tone::Plain),
            Severity::Warning => ("warning", Tone::Warning),
            Severity::Critical => ("critical", Tone::Bad),
        };
        let state = if self.resolved_at.is_some() {
            "resolved".to_owned()
        } else if self.silenced_until.is_some_and(|until| until > now) {
            "silenced".to_owned()
        } else if let Some(by) = &self.acknowledged_by {
            format!("ack {by}")
        } else {
            "unacked".to_owned()
        };
        vec![
            Cell::new(&self.id),
            Cell::new(severity).tone(tone),
            Cell::new(&self.kind),
            Cell::maybe(self.device_id.as_ref()),
            Cell::new(age(self.first_seen_at, now)),
            Cell::new(age(self.last_seen_at, now)),
            Cell::new(self.count.to_string()),
            Cell::new(state),
            Cell::new(&self.cause),
        ]
    }
}

impl Row for AuditEntry {
    const TITLES: &'static [&'static str] =
        &["SEQ", "AT", "ACTOR", "FROM", "ACTION", "OBJECT", "OUTCOME", "DETAIL"];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        let (outcome, tone) = match self.outcome {
            AuditOutcome::Ok => ("ok", Tone::Plain),
            AuditOutcome::Denied => ("denied", Tone::Warning),
            AuditOutcome::Failed => ("failed", Tone::Bad),
        };
        vec![
            Cell::new(self.seq.to_string()),
            Cell::new(self.at.to_string()),
            Cell::new(&self.actor),
            Cell::new(&self.from),
            Cell::new(&self.action),
            Cell::new(&self.object),
            Cell::new(outcome).tone(tone),
            Cell::new(compact(&self.detail)),
        ]
    }
}

impl Row for TimelineEntry {
    const TITLES: &'static [&'static str] = &["AT", "EVENT", "BY", "DETAIL"];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(self.at.to_string()),
            Cell::new(&self.event),
            Cell::new(&self.by),
            Cell::new(compact(&self.detail)),
        ]
    }
}

impl Row for User {
    const TITLES: &'static [&'static str] =
        &["USERNAME", "STATE", "PROJECTS", "CREATED", "LAST LOGIN"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let state = match (self.disabled, self.admin) {
            (true, _) => Cell::new("disabled").tone(Tone::Bad),
            (false, true) => Cell::new("server admin").tone(Tone::Warning),
            (false, false) => Cell::new("active"),
        };
        let roles: Vec<_> = self
            .projects
            .iter()
            .map(|(project, role)| format!("{project}:{}", role.as_str()))
            .collect();
        vec![
            Cell::new(&self.username),
            state,
            Cell::new(if roles.is_empty() { "-".to_owned() } else { roles.join(" ") }),
            Cell::new(age(self.created_at, now)),
            Cell::maybe(self.last_login_at.map(|at| age(at, now))),
        ]
    }
}

impl Row for Member {
    const TITLES: &'static [&'static str] = &["USERNAME", "ROLE"];

    fn cells(&self, _: Timestamp) -> Vec<Cell> {
        vec![Cell::new(&self.username), Cell::new(self.role.as_str())]
    }
}

impl Row for Project {
    const TITLES: &'static [&'static str] = &["ID", "NAME", "YOUR ROLE", "CREATED"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        vec![
            Cell::new(&self.id),
            Cell::new(&self.name),
            Cell::new(self.role.as_str()),
            Cell::new(age(self.created_at, now)),
        ]
    }
}

impl Row for EnrollmentToken {
    const TITLES: &'static [&'static str] = &["ID", "USED", "STATE", "EXPIRES", "BY", "TAGS"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let state = if self.revoked_at.is_some() {
            Cell::new("revoked").tone(Tone::Bad)
        } else if self.expires_at <= now {
            Cell::new("expired").tone(Tone::Dim)
        } else if self.used >= self.uses {
            Cell::new("used up").tone(Tone::Dim)
        } else {
            Cell::new("good").tone(Tone::Good)
        };
        vec![
            Cell::new(&self.id),
            Cell::new(format!("{}/{}", self.used, self.uses)),
            state,
            Cell::new(self.expires_at.to_string()),
            Cell::new(&self.created_by),
            Cell::new(tags(&self.tags)),
        ]
    }
}

impl Row for ServiceToken {
    const TITLES: &'static [&'static str] =
        &["ID", "NAME", "ROLE", "STATE", "EXPIRES", "BY", "LAST USED"];

    fn cells(&self, now: Timestamp) -> Vec<Cell> {
        let state = if self.revoked_at.is_some() {
            Cell::new("revoked").tone(Tone::Bad)
        } else if self.expires_at.is_some_and(|at| at <= now) {
            Cell::new("expired").tone(Tone::Dim)
        } else {
            Cell::new("good").tone(Tone::Good)
        };
        vec![
            Cell::new(&self.id),
            Cell::new(&self.name),
            Cell::new(self.role.as_str()),
            state,
            Cell::new(self.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string())),
            Cell::new(&self.created_by),
            Cell::maybe(self.last_used_at.map(|at| age(at, now))),
        ]
    }
}

/// A command's status in words, with its progress while it runs.
pub fn status(command: &Command) -> String {
    match command.progress {
        Some(progress) if !command.status.is_terminal() => {
            format!("{} {progress}%", command.status)
        }
        _ => command.status.to_string(),
    }
}

/// How long a command ran, or runs by the server's word.
pub fn took(command: &Command) -> Option<String> {
    let (start, end) = (command.started_at?, command.finished_at?);
    let millis = end.millis_since(start).max(0);
    Some(if millis < 1_000 {
        format!("{millis}ms")
    } else if millis < 10_000 {
        format!("{}.{}s", millis / 1000, millis % 1000 / 100)
    } else {
        short_span(millis)
    })
}

/// Why a command failed, in short.
pub fn error(command: &Command) -> Option<String> {
    let code = command.error_code.as_deref();
    let said = command.error_message.as_deref().filter(|said| !said.is_empty());
    match (code, said, command.exit_code.filter(|code| *code != 0)) {
        (Some(code), Some(said), _) => Some(format!("{code}: {said}")),
        (Some(text), None, None) | (None, Some(text), _) => Some(text.to_owned()),
        (Some(code), None, Some(exit)) => Some(format!("{code}: exit {exit}")),
        (None, None, Some(exit)) => Some(format!("exit {exit}")),
        (None, None, None) => None,
    }
}

pub const fn command_tone(status: CommandStatus) -> Tone {
    match status {
        CommandStatus::Completed => Tone::Good,
        CommandStatus::Failed | CommandStatus::TimedOut | CommandStatus::BlockedSafety => Tone::Bad,
        CommandStatus::Expired | CommandStatus::Cancelled => Tone::Warning,
        CommandStatus::Queued
        | CommandStatus::Published
        | CommandStatus::Accepted
        | CommandStatus::ExecutionStarted
        | CommandStatus::AwaitingReconnect => Tone::Plain,
    }
}

/// A device's status, with a question mark while the server has not heard of it again.
fn presence(device: &Device) -> Cell {
    match device.unheard_since {
        Some(_) => Cell::new(format!("{}?", device.status.as_str())).tone(Tone::Warning),
        None => Cell::new(device.status.as_str()).tone(device_tone(device.status)),
    }
}

const fn device_tone(status: DeviceStatus) -> Tone {
    match status {
        DeviceStatus::Online => Tone::Good,
        DeviceStatus::Stale => Tone::Warning,
        DeviceStatus::Offline => Tone::Bad,
        DeviceStatus::Retired => Tone::Dim,
    }
}

/// Tags on one line.
pub fn tags(tags: &std::collections::BTreeMap<String, String>) -> String {
    if tags.is_empty() {
        return "-".to_owned();
    }
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// JSON on one line, `-` for none.
pub fn compact(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        Value::String(said) => said.clone(),
        Value::Object(fields) => {
            let plain = |v: &Value| {
                let word = v.as_str().filter(|s| !s.is_empty() && !s.contains([' ', '=', '"']));
                word.map_or_else(|| v.to_string(), str::to_owned)
            };
            fields.iter().map(|(k, v)| format!("{k}={}", plain(v))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// Fields below one another, fit for a terminal; what has several lines stands indented below its name.
#[derive(Debug, Default)]
pub struct Details {
    shown: String,
}

impl Details {
    /// The width of the names' column, in cells.
    const NAME_WIDTH: usize = 24;

    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let width = Self::NAME_WIDTH;
        let _ = writeln!(self.shown, "{name:<width$}{}", text::line(value.as_ref()));
        self
    }

    /// A field that is left out when there is nothing to say.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    #[must_use]
    pub fn block(mut self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        let _ = writeln!(self.shown, "{name}");
        for line in text::block(value).trim_end_matches('\n').split('\n') {
            let _ = writeln!(self.shown, "  {line}");
        }
        self
    }

    /// JSON, indented; left out when there is none.
    #[must_use]
    pub fn json(self, name: &str, value: Option<&Value>) -> Self {
        let is_nothing = |value: &&Value| {
            !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty())
        };
        match value.filter(is_nothing) {
            Some(value) => {
                let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
                self.block(name, &pretty)
            }
            None => self,
        }
    }

    pub fn finish(self) -> String {
        self.shown
    }
}
