//! The agent's own operations, each with its valid payload, and the steps each has.
//!
//! ```text
//!  run_script     executing
//!  collect_logs   collecting ─▶ uploading
//!  file_push      fetching ─▶ installing
//!  file_pull      uploading
//!  reboot_host    announcing ─▶ restarting     (until the boot id has changed)
//!  shutdown_host  announcing ─▶ shutting_down  (until the boot id has changed)
//!  restart        as reboot_host
//!  config_update  fetching ─▶ applying         also update_config
//!  log_upload     collecting ─▶ uploading
//!  restart_agent  announcing ─▶ restarting     (until another run of the agent)
//! ```
//!
//! The others have one step, `executing`. The files in `operations/` make states of them.

use quarterdeck_protocol::{
    command::error_code,
    payload::{
        CollectLogs, ConfigSnapshot, ConfigUpdate, DiskUsage, FilePull, FilePush, HealthCheck,
        InvalidPayload, ListProcesses, LogUpload, Nothing, Payload as _, RestartApp,
        RestartService, RunScript, SoftwareUpdate,
    },
};
use serde_json::Value;

use super::going_down::Until;
use crate::domain::command::Outcome;

/// Tells the operator before the device goes silent.
pub const ANNOUNCING: &str = "announcing";
/// Where thin-edge's participants look for what is installed.
pub const CURRENT_SOFTWARE: &str = "currentSoftwareList";

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
    Restart,
    RunScript(RunScript),
    SoftwareList,
    SoftwareUpdate(SoftwareUpdate),
    ConfigSnapshot(ConfigSnapshot),
    ConfigUpdate(ConfigUpdate),
    UpdateConfig,
    LogUpload(LogUpload),
    HealthCheck(HealthCheck),
}

/// Says why a step cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperation {
    #[error("the agent has no operation {0:?} of its own")]
    Unknown(String),
    #[error(transparent)]
    Payload(#[from] InvalidPayload),
}

impl InvalidOperation {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => error_code::UNSUPPORTED,
            Self::Payload(_) => error_code::REJECTED,
        }
    }
}

impl Operation {
    /// Reads an operation's payload; strict, so that nothing is done by guess.
    pub fn parse(name: &str, payload: &Value) -> Result<Self, InvalidOperation> {
        let nothing = |operation| Nothing::parse(payload).map(|_| operation);
        Ok(match name {
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
            "restart" => nothing(Self::Restart)?,
            "software_list" => nothing(Self::SoftwareList)?,
            "software_update" => Self::SoftwareUpdate(SoftwareUpdate::parse(payload)?),
            "config_snapshot" => Self::ConfigSnapshot(ConfigSnapshot::parse(payload)?),
            "config_update" => Self::ConfigUpdate(ConfigUpdate::parse(payload)?),
            "update_config" => nothing(Self::UpdateConfig)?,
            "log_upload" => Self::LogUpload(LogUpload::parse(payload)?),
            "health_check" => Self::HealthCheck(HealthCheck::parse(payload)?),
            "run_script" => Self::RunScript(RunScript::parse(payload)?),
            other => return Err(InvalidOperation::Unknown(other.chars().take(64).collect())),
        })
    }

    /// Its steps, in order; at least one.
    pub const fn steps(&self) -> &'static [&'static str] {
        match self {
            Self::Ping
            | Self::SystemInfo
            | Self::ListProcesses(_)
            | Self::DiskUsage(_)
            | Self::NetworkInfo
            | Self::RestartService(_)
            | Self::RestartApp(_)
            | Self::RunScript(_)
            | Self::SoftwareList
            | Self::SoftwareUpdate(_)
            | Self::HealthCheck(_) => &["executing"],
            Self::CollectLogs(_) | Self::LogUpload(_) => &["collecting", "uploading"],
            Self::FilePull(_) | Self::ConfigSnapshot(_) => &["uploading"],
            Self::ConfigUpdate(_) | Self::UpdateConfig => &["fetching", "applying"],
            Self::FilePush(_) => &["fetching", "installing"],
            Self::RestartAgent | Self::RebootHost | Self::Restart => &[ANNOUNCING, "restarting"],
            Self::ShutdownHost => &[ANNOUNCING, "shutting_down"],
        }
    }

    /// What of its result stands in the payload itself, where participants of the bus look for it.
    pub fn shown(&self, outcome: &Outcome) -> Option<(&'static str, Value)> {
        let Self::SoftwareList = self else { return None };
        let list = outcome.result.as_ref()?.get(CURRENT_SOFTWARE)?;
        Some((CURRENT_SOFTWARE, list.clone()))
    }

    /// Says of a step that takes the host or the agent down when it is over.
    pub fn goes_down(&self, step: &str) -> Option<Until> {
        match self {
            _ if step == ANNOUNCING => None,
            Self::RebootHost | Self::ShutdownHost | Self::Restart => Some(Until::NewBoot),
            Self::RestartAgent => Some(Until::NewRun),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use quarterdeck_protocol::operations;
    use serde_json::json;

    use super::*;
    use crate::workflow::{
        catalogue::Catalogue,
        definition::{Action, BuiltinCall},
    };

    /// A valid payload with what the operation must be given.
    fn payload(name: &str) -> Value {
        match name {
            "run_script" => json!({"script": "id"}),
            "restart_service" => json!({"service": "x"}),
            "file_push" => json!({"path": "/tmp/x", "content": ""}),
            "file_pull" => json!({"path": "/tmp/x"}),
            "software_update" => json!({"updateList": [{"type": "apt", "modules": []}]}),
            "config_update" => json!({"type": "x", "content": ""}),
            "config_snapshot" | "log_upload" => json!({"type": "x"}),
            _ => json!({}),
        }
    }

    #[test]
    fn each_built_in_operation_has_a_file_whose_steps_are_its_own() {
        let catalogue = Catalogue::builtin();
        let mut known: Vec<_> = operations::builtin().into_iter().map(|op| op.name).collect();
        known.sort();
        let files: Vec<_> = catalogue.entries().map(|(name, _)| name.to_string()).collect();
        assert_eq!(files, known);
        for (name, entry) in catalogue.entries() {
            let operation = Operation::parse(name, &payload(name)).expect(name);
            let mut done = Vec::new();
            for state in entry.definition().states() {
                match &state.action {
                    Action::Builtin { call: BuiltinCall::Own, .. } => {
                        done.extend_from_slice(operation.steps());
                    }
                    Action::Builtin { call: BuiltinCall::Step { operation: of, step }, .. } => {
                        assert_eq!(of, name);
                        let step = operation.steps().iter().find(|known| **known == &**step);
                        done.push(*step.unwrap_or_else(|| panic!("{name}: {step:?}")));
                    }
                    _ => {}
                }
            }
            assert_eq!(done, operation.steps(), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_done_says_why() {
        let unknown = Operation::parse("fly", &json!({})).expect_err("unknown");
        assert_eq!(unknown.code(), error_code::UNSUPPORTED);
        let wrong = Operation::parse("run_script", &json!({"script": 1})).expect_err("wrong");
        assert_eq!(wrong.code(), error_code::REJECTED);
        assert!(wrong.to_string().starts_with("payload.script:"), "{wrong}");
    }
}
