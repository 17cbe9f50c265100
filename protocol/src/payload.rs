//! The typed payloads of the built-in operations (chapter 3).
//!
//! The server checks a submission with [`check`] before it stores anything and
//! the agent parses with the same types before it does anything, so the two
//! never disagree on what is valid. The form that the console shows is the
//! JSON Schema of the same type: [`form_schema`].

mod managed;

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::limits::COMMAND_PAYLOAD_MAX_BYTES;
pub use managed::{
    ConfigSnapshot, ConfigUpdate, HealthCheck, LogUpload, SoftwareAction, SoftwareModule,
    SoftwareOfType, SoftwareUpdate,
};

/// Says which field of a payload is wrong, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected}")]
pub struct InvalidPayload {
    /// The path of the field, e.g. `payload.args[0]`.
    pub field: String,
    pub expected: String,
}

impl InvalidPayload {
    pub(crate) fn new(field: &str, expected: impl Into<String>) -> Self {
        let field = if field.is_empty() || field == "." {
            "payload".to_owned()
        } else {
            format!("payload.{field}")
        };
        Self { field, expected: expected.into() }
    }
}

/// A payload of a built-in operation: parsed strictly, an unknown field is an error.
pub trait Payload: DeserializeOwned + JsonSchema {
    /// Checks what the types cannot say.
    fn check(&self) -> Result<(), InvalidPayload> {
        Ok(())
    }

    /// Parses and checks; `null` counts as `{}`.
    fn parse(payload: &Value) -> Result<Self, InvalidPayload> {
        let empty = Value::Object(serde_json::Map::new());
        let payload = if payload.is_null() { &empty } else { payload };
        let parsed: Self = serde_path_to_error::deserialize(payload).map_err(|e| {
            let (path, why) = (e.path().to_string(), e.inner().to_string());
            // What is missing is at no path: its name is in the text.
            let missing = why.strip_prefix("missing field `").and_then(|at| at.split('`').next());
            match (path.as_str(), missing) {
                (".", Some(name)) => InvalidPayload::new(name, "expected, and missing"),
                (at, Some(name)) => {
                    InvalidPayload::new(&format!("{at}.{name}"), "expected, and missing")
                }
                (at, None) => InvalidPayload::new(at, why),
            }
        })?;
        parsed.check()?;
        Ok(parsed)
    }
}

/// For operations that take nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
impl Payload for Nothing {}

/// Where `collect_logs` reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// The system's journal.
    #[default]
    Journald,
    /// A file.
    File,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectLogs {
    /// Where to read: the journal or a file.
    #[serde(default)]
    pub source: LogSource,
    /// Of the journal: only this unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Of a file: its absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How many of the last lines, 1 to 1,000,000.
    #[serde(default = "CollectLogs::default_lines")]
    #[schemars(range(min = 1, max = 1_000_000), default = "CollectLogs::default_lines")]
    pub lines: u32,
}

impl CollectLogs {
    const fn default_lines() -> u32 {
        1_000
    }
}

impl Payload for CollectLogs {
    fn check(&self) -> Result<(), InvalidPayload> {
        if !(1..=1_000_000).contains(&self.lines) {
            return Err(InvalidPayload::new("lines", "expected 1 to 1000000"));
        }
        if let Some(unit) = &self.unit {
            check_unit("unit", unit)?;
        }
        match (self.source, &self.path, &self.unit) {
            (LogSource::File, None, _) => Err(InvalidPayload::new(
                "path",
                "expected the file's absolute path, since source is file",
            )),
            (LogSource::File, Some(_), Some(_)) => {
                Err(InvalidPayload::new("unit", "expected none, since source is file"))
            }
            (LogSource::File, Some(path), None) => check_path("path", path),
            (LogSource::Journald, Some(_), _) => {
                Err(InvalidPayload::new("path", "expected none, since source is journald"))
            }
            (LogSource::Journald, None, _) => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessOrder {
    #[default]
    Cpu,
    Memory,
    Pid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListProcesses {
    /// What the list is ordered by.
    #[serde(default)]
    pub sort: ProcessOrder,
    /// How many processes, 1 to 200.
    #[serde(default = "ListProcesses::default_limit")]
    #[schemars(range(min = 1, max = 200), default = "ListProcesses::default_limit")]
    pub limit: u32,
}

impl ListProcesses {
    const fn default_limit() -> u32 {
        50
    }
}

impl Payload for ListProcesses {
    fn check(&self) -> Result<(), InvalidPayload> {
        if (1..=200).contains(&self.limit) {
            Ok(())
        } else {
            Err(InvalidPayload::new("limit", "expected 1 to 200"))
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskUsage {
    /// Only the file system that holds this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Payload for DiskUsage {
    fn check(&self) -> Result<(), InvalidPayload> {
        self.path.as_deref().map_or(Ok(()), |path| check_path("path", path))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunScript {
    /// The script's text.
    #[schemars(extend("x-editor" = "code"))]
    pub script: String,
    /// The program that reads it.
    #[serde(default = "RunScript::default_interpreter")]
    #[schemars(default = "RunScript::default_interpreter")]
    pub interpreter: String,
    /// Arguments after the script.
    #[serde(default)]
    pub args: Vec<String>,
    /// Added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The user it runs as; the agent's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The folder it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

impl RunScript {
    fn default_interpreter() -> String {
        "sh".to_owned()
    }
}

impl Payload for RunScript {
    fn check(&self) -> Result<(), InvalidPayload> {
        if self.script.trim().is_empty() {
            return Err(InvalidPayload::new("script", "expected a script, not an empty text"));
        }
        no_nul("script", &self.script)?;
        if self.interpreter.is_empty() || self.interpreter.starts_with('-') {
            return Err(InvalidPayload::new("interpreter", "expected a program's name or path"));
        }
        no_nul("interpreter", &self.interpreter)?;
        for (index, arg) in self.args.iter().enumerate() {
            no_nul(&format!("args[{index}]"), arg)?;
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(InvalidPayload::new("env", "expected names without '=' and NUL"));
            }
            no_nul(&format!("env.{name}"), value)?;
        }
        if let Some(user) = &self.user {
            no_nul("user", user)?;
            if user.is_empty() {
                return Err(InvalidPayload::new("user", "expected a user's name"));
            }
        }
        self.cwd.as_deref().map_or(Ok(()), |cwd| check_path("cwd", cwd))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartService {
    /// The service's unit, e.g. `nginx`.
    pub service: String,
}

impl Payload for RestartService {
    fn check(&self) -> Result<(), InvalidPayload> {
        check_unit("service", &self.service)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartApp {
    /// Which app, where the device has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

impl Payload for RestartApp {
    fn check(&self) -> Result<(), InvalidPayload> {
        self.app.as_deref().map_or(Ok(()), |app| check_unit("app", app))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePush {
    /// Where the file goes on the device: an absolute path.
    pub path: String,
    /// The file's content as text. One of `content`, `content_base64`, `upload_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-editor" = "text"))]
    pub content: Option<String>,
    /// The file's content in Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// The id under which the file was uploaded before (`PUT /uploads/{id}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<Uuid>,
    /// SHA-256 of the content in hex; checked before the file is put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Permissions in octal.
    #[serde(default = "FilePush::default_mode")]
    #[schemars(default = "FilePush::default_mode", regex(pattern = "^0?[0-7]{3}$"))]
    pub mode: String,
}

impl FilePush {
    fn default_mode() -> String {
        "0644".to_owned()
    }

    /// The permissions as a number; valid after [`Payload::check`].
    pub fn mode_bits(&self) -> Option<u32> {
        let digits = self.mode.strip_prefix('0').filter(|d| d.len() == 3).unwrap_or(&self.mode);
        (digits.len() == 3).then(|| u32::from_str_radix(digits, 8).ok()).flatten()
    }
}

impl Payload for FilePush {
    fn check(&self) -> Result<(), InvalidPayload> {
        check_path("path", &self.path)?;
        if self.path.ends_with('/') {
            return Err(InvalidPayload::new("path", "expected a file's path, not a folder's"));
        }
        one_source(self.content.as_ref(), self.content_base64.as_ref(), self.upload_id.as_ref())?;
        check_sha256(self.sha256.as_deref())?;
        if self.mode_bits().is_none() {
            return Err(InvalidPayload::new("mode", "expected permissions in octal, such as 0644"));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePull {
    /// The file on the device: an absolute path.
    pub path: String,
}

impl Payload for FilePull {
    fn check(&self) -> Result<(), InvalidPayload> {
        check_path("path", &self.path)
    }
}

/// Checks that a file's content comes from exactly one place, and can be read there.
fn one_source(
    content: Option<&String>,
    content_base64: Option<&String>,
    upload_id: Option<&Uuid>,
) -> Result<(), InvalidPayload> {
    let sources = [content.is_some(), content_base64.is_some(), upload_id.is_some()];
    if sources.into_iter().filter(|given| *given).count() != 1 {
        let expected = "expected exactly one of content, content_base64, upload_id";
        return Err(InvalidPayload::new("content", expected));
    }
    if let Some(text) = content_base64 {
        let read = BASE64_STANDARD.decode(text);
        read.map_err(|e| InvalidPayload::new("content_base64", format!("expected Base64: {e}")))?;
    }
    Ok(())
}

fn check_sha256(sum: Option<&str>) -> Result<(), InvalidPayload> {
    match sum {
        Some(sum) if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Err(InvalidPayload::new("sha256", "expected 64 hexadecimal digits"))
        }
        _ => Ok(()),
    }
}

fn no_nul(field: &str, text: &str) -> Result<(), InvalidPayload> {
    if text.contains('\0') {
        return Err(InvalidPayload::new(field, "expected text without NUL"));
    }
    Ok(())
}

fn check_path(field: &str, path: &str) -> Result<(), InvalidPayload> {
    no_nul(field, path)?;
    if !path.starts_with('/') || path.len() > 4096 {
        return Err(InvalidPayload::new(field, "expected an absolute path"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(InvalidPayload::new(field, "expected a path without '..'"));
    }
    Ok(())
}

/// A unit goes into the device owner's command line as one argument: it must not read as an option.
fn check_unit(field: &str, unit: &str) -> Result<(), InvalidPayload> {
    let good = !unit.is_empty()
        && unit.len() <= 255
        && !unit.starts_with('-')
        && unit.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@:\\".contains(&b));
    if good {
        Ok(())
    } else {
        Err(InvalidPayload::new(
            field,
            "expected a unit's name: letters, digits, '.', '_', '-', '@', ':'",
        ))
    }
}

/// Checks the payload of a built-in operation; `Ok` for an operation that is not built in,
/// whose payload only its device can judge.
pub fn check(operation: &str, payload: &Value) -> Result<(), InvalidPayload> {
    let size = serde_json::to_vec(payload).map_or(usize::MAX, |text| text.len());
    if size > COMMAND_PAYLOAD_MAX_BYTES {
        return Err(InvalidPayload::new(
            "",
            format!("expected at most {COMMAND_PAYLOAD_MAX_BYTES} bytes of JSON, not {size}"),
        ));
    }
    if !payload.is_object() && !payload.is_null() {
        return Err(InvalidPayload::new("", "expected an object"));
    }
    match operation {
        "collect_logs" => CollectLogs::parse(payload).map(drop),
        "list_processes" => ListProcesses::parse(payload).map(drop),
        "disk_usage" => DiskUsage::parse(payload).map(drop),
        "run_script" => RunScript::parse(payload).map(drop),
        "restart_service" => RestartService::parse(payload).map(drop),
        "restart_app" => RestartApp::parse(payload).map(drop),
        "file_push" => FilePush::parse(payload).map(drop),
        "file_pull" => FilePull::parse(payload).map(drop),
        "software_update" => SoftwareUpdate::parse(payload).map(drop),
        "config_snapshot" => ConfigSnapshot::parse(payload).map(drop),
        "config_update" => ConfigUpdate::parse(payload).map(drop),
        "log_upload" => LogUpload::parse(payload).map(drop),
        "health_check" => HealthCheck::parse(payload).map(drop),
        "ping" | "system_info" | "network_info" | "restart_agent" | "reboot_host"
        | "shutdown_host" | "restart" | "software_list" | "update_config" => {
            Nothing::parse(payload).map(drop)
        }
        _ => Ok(()),
    }
}

/// The JSON Schema of a built-in operation's payload; `{}` for any other.
pub fn form_schema(operation: &str) -> Value {
    let schema = match operation {
        "collect_logs" => schemars::schema_for!(CollectLogs),
        "list_processes" => schemars::schema_for!(ListProcesses),
        "disk_usage" => schemars::schema_for!(DiskUsage),
        "run_script" => schemars::schema_for!(RunScript),
        "restart_service" => schemars::schema_for!(RestartService),
        "restart_app" => schemars::schema_for!(RestartApp),
        "file_push" => schemars::schema_for!(FilePush),
        "file_pull" => schemars::schema_for!(FilePull),
        "software_update" => schemars::schema_for!(SoftwareUpdate),
        "config_snapshot" => schemars::schema_for!(ConfigSnapshot),
        "config_update" => schemars::schema_for!(ConfigUpdate),
        "log_upload" => schemars::schema_for!(LogUpload),
        "health_check" => schemars::schema_for!(HealthCheck),
        _ => schemars::schema_for!(Nothing),
    };
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_payload_names_its_field() {
        for (operation, payload, field) in [
            ("run_script", json!({}), "payload.script"),
            ("run_script", json!({"script": " "}), "payload.script"),
            ("run_script", json!({"script": "id", "args": ["a", 1]}), "payload.args[1]"),
            ("run_script", json!({"script": "id", "cwd": "tmp"}), "payload.cwd"),
            ("run_script", json!({"script": "id", "env": {"A=B": "c"}}), "payload.env"),
            ("run_script", json!({"script": "id", "shell": "sh"}), "payload.shell"),
            ("restart_service", json!({"service": "--now"}), "payload.service"),
            ("restart_service", json!({"service": "a b"}), "payload.service"),
            ("file_push", json!({"path": "/a/../b", "content": ""}), "payload.path"),
            ("file_push", json!({"path": "/a"}), "payload.content"),
            ("file_push", json!({"path": "/a", "content": "", "mode": "rw"}), "payload.mode"),
            ("collect_logs", json!({"source": "file"}), "payload.path"),
            ("collect_logs", json!({"lines": 0}), "payload.lines"),
            ("ping", json!([]), "payload"),
            ("ping", json!({"x": 1}), "payload.x"),
        ] {
            let error = check(operation, &payload).expect_err(operation);
            assert_eq!(error.field, field, "{operation} {payload}: {error}");
        }
    }

    #[test]
    fn a_payload_may_leave_out_whatever_has_a_default() {
        for (operation, payload) in [
            ("ping", json!(null)),
            ("ping", json!({})),
            ("run_script", json!({"script": "uptime"})),
            ("collect_logs", json!({})),
            ("file_push", json!({"path": "/tmp/x", "content": "hello", "mode": "600"})),
            ("of_a_user", json!({"anything": [1, 2]})),
        ] {
            assert_eq!(check(operation, &payload), Ok(()), "{operation}");
        }
    }
}
