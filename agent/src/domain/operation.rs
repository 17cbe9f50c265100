//! Which operations this device has, and the states each goes through.
//!
//! Every operation is a short list of named states; [`super::command`] walks
//! it. Most have one, `executing`. The states that take the host or the agent
//! down wait for the other side of that:
//!
//! ```text
//!  run_script     executing
//!  collect_logs   collecting ─▶ uploading
//!  file_push      fetching ─▶ installing
//!  reboot_host    announcing ─▶ restarting  (until the boot id has changed)
//!  shutdown_host  announcing ─▶ shutting_down  (until the boot id has changed)
//!  restart_agent  announcing ─▶ restarting  (until another run of the agent)
//!  a workflow     whatever states its file has  (also across runs of the agent)
//! ```

use quarterdeck_protocol::{
    command::error_code,
    payload::{
        CollectLogs, DiskUsage, FilePull, FilePush, ListProcesses, Nothing, Payload as _,
        RestartApp, RestartService, RunScript,
    },
};
use serde_json::{Map, Value};

/// When a state is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Its work has ended.
    WorkEnds,
    /// The broker has `execution_started`, or some seconds have passed: the
    /// operator shall know before the device goes silent.
    Acknowledged,
    /// The host has booted anew.
    NewBoot,
    /// The agent has started anew.
    NewRun,
    /// The workflow has ended: it names its states itself, and outlives the agent.
    WorkflowEnds,
}

/// One state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    pub name: &'static str,
    /// How far the command is when it enters this state, in percent.
    pub progress: u8,
    /// Whether something is done on entry.
    pub has_work: bool,
    pub until: Until,
}

const fn work(name: &'static str, progress: u8) -> Stage {
    Stage { name, progress, has_work: true, until: Until::WorkEnds }
}

const ANNOUNCING: Stage =
    Stage { name: "announcing", progress: 0, has_work: false, until: Until::Acknowledged };

const fn going_down(name: &'static str, until: Until) -> Stage {
    Stage { name, progress: 20, has_work: true, until }
}

const EXECUTING: &[Stage] = &[work("executing", 0)];
const COLLECT_LOGS: &[Stage] = &[work("collecting", 0), work("uploading", 50)];
const FILE_PUSH: &[Stage] = &[work("fetching", 0), work("installing", 80)];
const FILE_PULL: &[Stage] = &[work("uploading", 0)];
const REBOOT: &[Stage] = &[ANNOUNCING, going_down("restarting", Until::NewBoot)];
const SHUTDOWN: &[Stage] = &[ANNOUNCING, going_down("shutting_down", Until::NewBoot)];
const RESTART_AGENT: &[Stage] = &[ANNOUNCING, going_down("restarting", Until::NewRun)];

const WORKFLOW: &[Stage] =
    &[Stage { name: "executing", progress: 0, has_work: true, until: Until::WorkflowEnds }];

/// An operation with its valid payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Ping,
    SystemInfo,
    ListProcesses(ListProcesses),
    DiskUsage(DiskUsage),
    NetworkInfo,
    CollectLogs(CollectLogs),
    FilePull(FilePull),
    FilePush(FilePush),
    RestartService(RestartService),
    RestartApp(RestartApp),
    RestartAgent,
    RebootHost,
    ShutdownHost,
    RunScript(RunScript),
    /// One of the device's owner, by its name, with the payload as it came.
    Workflow(String, Map<String, Value>),
}

/// Says why a command is not for this device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperation {
    #[error("type: this device has no operation {0:?}")]
    Unsupported(String),
    #[error(transparent)]
    Payload(#[from] quarterdeck_protocol::payload::InvalidPayload),
    #[error("payload: expected an object")]
    NoObject,
}

impl InvalidOperation {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => error_code::UNSUPPORTED,
            Self::Payload(_) | Self::NoObject => error_code::REJECTED,
        }
    }
}

impl Operation {
    /// Their names: what the device announces that it can do.
    pub const NAMES: [&'static str; 14] = [
        "ping",
        "system_info",
        "list_processes",
        "disk_usage",
        "network_info",
        "collect_logs",
        "file_pull",
        "file_push",
        "restart_service",
        "restart_app",
        "restart_agent",
        "reboot_host",
        "shutdown_host",
        "run_script",
    ];

    /// Reads a command's type and payload; strict, so that nothing is done by guess.
    pub fn parse(kind: &str, payload: &Value) -> Result<Self, InvalidOperation> {
        if !Self::NAMES.contains(&kind) {
            return Err(InvalidOperation::Unsupported(kind.chars().take(64).collect()));
        }
        quarterdeck_protocol::payload::check(kind, payload)?;
        let nothing = |operation| Nothing::parse(payload).map(|_| operation);
        Ok(match kind {
            "ping" => nothing(Self::Ping)?,
            "system_info" => nothing(Self::SystemInfo)?,
            "list_processes" => Self::ListProcesses(ListProcesses::parse(payload)?),
            "disk_usage" => Self::DiskUsage(DiskUsage::parse(payload)?),
            "network_info" => nothing(Self::NetworkInfo)?,
            "collect_logs" => Self::CollectLogs(CollectLogs::parse(payload)?),
            "file_pull" => Self::FilePull(FilePull::parse(payload)?),
            "file_push" => Self::FilePush(FilePush::parse(payload)?),
            "restart_service" => Self::RestartService(RestartService::parse(payload)?),
            "restart_app" => Self::RestartApp(RestartApp::parse(payload)?),
            "restart_agent" => nothing(Self::RestartAgent)?,
            "reboot_host" => nothing(Self::RebootHost)?,
            "shutdown_host" => nothing(Self::ShutdownHost)?,
            _ => Self::RunScript(RunScript::parse(payload)?),
        })
    }

    /// Takes a command of a workflow that the device's owner wrote: what its payload holds is the workflow's matter.
    pub fn workflow(kind: &str, payload: &Value) -> Result<Self, InvalidOperation> {
        let fields = match payload {
            Value::Object(fields) => fields.clone(),
            Value::Null => Map::new(),
            _ => return Err(InvalidOperation::NoObject),
        };
        Ok(Self::Workflow(kind.to_owned(), fields))
    }

    /// The states it goes through, in order; at least one.
    pub const fn stages(&self) -> &'static [Stage] {
        match self {
            Self::Ping
            | Self::SystemInfo
            | Self::ListProcesses(_)
            | Self::DiskUsage(_)
            | Self::NetworkInfo
            | Self::RestartService(_)
            | Self::RestartApp(_)
            | Self::RunScript(_) => EXECUTING,
            Self::CollectLogs(_) => COLLECT_LOGS,
            Self::FilePull(_) => FILE_PULL,
            Self::FilePush(_) => FILE_PUSH,
            Self::RestartAgent => RESTART_AGENT,
            Self::RebootHost => REBOOT,
            Self::ShutdownHost => SHUTDOWN,
            Self::Workflow(..) => WORKFLOW,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_builtin_operation_is_known_here_and_no_other() {
        let builtin: Vec<_> =
            quarterdeck_protocol::operations::builtin().into_iter().map(|op| op.name).collect();
        let mut names = Operation::NAMES.map(str::to_owned).to_vec();
        names.sort();
        let mut expected = builtin;
        expected.sort();
        assert_eq!(names, expected);
    }

    #[test]
    fn each_name_parses_into_itself() {
        for name in Operation::NAMES {
            let payload = match name {
                "run_script" => json!({"script": "id"}),
                "restart_service" => json!({"service": "x"}),
                "file_push" => json!({"path": "/tmp/x", "content": ""}),
                "file_pull" => json!({"path": "/tmp/x"}),
                _ => json!({}),
            };
            let operation = Operation::parse(name, &payload).expect(name);
            assert!(!operation.stages().is_empty());
        }
    }

    #[test]
    fn what_cannot_be_run_says_why() {
        let unknown = Operation::parse("fly", &json!({})).expect_err("unknown");
        assert_eq!(unknown.code(), error_code::UNSUPPORTED);
        let wrong = Operation::parse("run_script", &json!({"script": 1})).expect_err("wrong");
        assert_eq!(wrong.code(), error_code::REJECTED);
        assert!(wrong.to_string().starts_with("payload.script:"), "{wrong}");
    }
}
