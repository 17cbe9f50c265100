//! The operations that every device knows (chapter 3), and those that devices announce.

mod announced;
mod form_check;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::payload;
pub use announced::{
    AnnouncedOperation, DESCRIPTION_MAX_CHARS, ESTIMATED_DURATION_DEFAULT_S, ICON_MAX_CHARS,
    InvalidAnnouncement, TITLE_MAX_CHARS, any_payload, check_form_schema, read as read_announced,
};

pub use form_check::check_payload;

/// Where an operation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationSource {
    /// Part of Quarterdeck.
    Builtin,
    /// Announced by devices, from a workflow file there.
    Device,
}

/// What the console shows of an operation, and asks for before it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its name: the `type` of a command.
    pub name: String,
    /// For people.
    pub title: String,
    pub description: String,
    /// One character; shown only where Unicode is.
    pub icon: String,
    /// How long it usually takes, in seconds.
    pub estimated_duration_s: u32,
    /// JSON Schema of the payload.
    #[schema(value_type = Object)]
    pub form_schema: Value,
    /// Needs a typed confirmation, and `confirm` in the API.
    pub dangerous: bool,
    /// Takes the host down: counted by the reboot lockout.
    pub reboots: bool,
    pub source: OperationSource,
    /// How many of the project's devices announce it.
    #[serde(default)]
    pub device_count: u64,
    /// Of an operation that only devices know: which those are, by id, at most
    /// [`OPERATION_DEVICES_MAX`](crate::limits::OPERATION_DEVICES_MAX) of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

struct Builtin {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    icon: &'static str,
    estimated_duration_s: u32,
    dangerous: bool,
    reboots: bool,
}

const fn safe(
    name: &'static str,
    title: &'static str,
    icon: &'static str,
    estimated_duration_s: u32,
    description: &'static str,
) -> Builtin {
    Builtin {
        name,
        title,
        description,
        icon,
        estimated_duration_s,
        dangerous: false,
        reboots: false,
    }
}

const BUILTINS: [Builtin; 22] = [
    safe("ping", "Ping", "◉", 1, "Measure the round trip to the device's agent."),
    safe(
        "system_info",
        "System info",
        "⌂",
        1,
        "Report system, kernel, CPU, memory, uptime and load.",
    ),
    safe(
        "list_processes",
        "List processes",
        "≡",
        2,
        "List the processes that use most CPU or memory.",
    ),
    safe("disk_usage", "Disk usage", "◔", 1, "Report size and free space of file systems."),
    safe(
        "network_info",
        "Network info",
        "⇄",
        1,
        "Report interfaces, addresses, routes and name servers.",
    ),
    safe(
        "collect_logs",
        "Collect logs",
        "▤",
        10,
        "Upload the last lines of the journal or of a log file.",
    ),
    safe("file_pull", "Pull file", "↑", 10, "Upload a file from the device."),
    safe("file_push", "Push file", "↓", 10, "Write a file on the device."),
    safe(
        "health_check",
        "Health check",
        "✓",
        10,
        "Run the checks that the device's owner has set.",
    ),
    safe(
        "software_list",
        "List software",
        "▦",
        15,
        "List what is installed, by the owner's plugins.",
    ),
    Builtin {
        name: "software_update",
        title: "Update software",
        description: "Install and remove software, by the owner's plugins.",
        icon: "⇩",
        estimated_duration_s: 120,
        dangerous: true,
        reboots: false,
    },
    safe(
        "config_snapshot",
        "Read configuration",
        "⎙",
        10,
        "Upload a configuration file that the owner has named.",
    ),
    safe(
        "config_update",
        "Write configuration",
        "✎",
        15,
        "Replace a configuration file that the owner has named, and apply it.",
    ),
    safe(
        "update_config",
        "Update configuration",
        "⟳",
        15,
        "Have the device take the configuration that is set for it here.",
    ),
    safe(
        "log_upload",
        "Upload log",
        "▥",
        10,
        "Upload the last lines of a log that the owner has named.",
    ),
    safe("restart_service", "Restart service", "↻", 10, "Restart a system service."),
    safe("restart_app", "Restart app", "⊙", 15, "Restart the device's application."),
    safe("restart_agent", "Restart agent", "↺", 10, "Restart Quarterdeck's agent."),
    Builtin {
        name: "reboot_host",
        title: "Reboot host",
        description: "Reboot the device and wait until it is back.",
        icon: "↯",
        estimated_duration_s: 90,
        dangerous: true,
        reboots: true,
    },
    Builtin {
        name: "shutdown_host",
        title: "Shut down host",
        description: "Switch the device off. Somebody must switch it on again.",
        icon: "⏏",
        estimated_duration_s: 30,
        dangerous: true,
        reboots: true,
    },
    Builtin {
        name: "restart",
        title: "Restart device",
        description: "Restart the device, as other tools on its bus ask for it, and wait until it is back.",
        icon: "⭮",
        estimated_duration_s: 90,
        dangerous: true,
        reboots: true,
    },
    safe("run_script", "Custom script", "❯", 10, "Run a script with any interpreter."),
];

/// All built-in operations, the custom script last.
pub fn builtin() -> Vec<Operation> {
    BUILTINS
        .iter()
        .map(|op| Operation {
            name: op.name.to_owned(),
            title: op.title.to_owned(),
            description: op.description.to_owned(),
            icon: op.icon.to_owned(),
            estimated_duration_s: op.estimated_duration_s,
            form_schema: payload::form_schema(op.name),
            dangerous: op.dangerous,
            reboots: op.reboots,
            source: OperationSource::Builtin,
            device_count: 0,
            devices: Vec::new(),
        })
        .collect()
}

/// Whether the name is that of a built-in operation.
pub fn is_builtin(name: &str) -> bool {
    BUILTINS.iter().any(|op| op.name == name)
}

/// Whether a built-in operation needs to be confirmed.
pub fn is_dangerous(name: &str) -> bool {
    BUILTINS.iter().any(|op| op.name == name && op.dangerous)
}

/// Whether a built-in operation takes the host down.
pub fn reboots(name: &str) -> bool {
    BUILTINS.iter().any(|op| op.name == name && op.reboots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_form_and_the_custom_script_is_last() {
        let all = builtin();
        assert!(all.iter().all(|op| op.form_schema["type"] == "object"));
        assert_eq!(all.last().map(|op| op.name.as_str()), Some("run_script"));
    }
}
