//! What a device says of itself (chapter 2): `status`, `health`, `service_failed`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// The fact that tells that a device's owner allows no tunnels: [`TUNNELS_DISABLED`].
pub const FACT_TUNNELS: &str = "tunnels";
pub const TUNNELS_DISABLED: &str = "disabled";

/// Retained on `…/status`, and as last will with `online: false`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusMessage {
    /// `1.0`
    pub schema_version: String,
    pub online: bool,
    /// Changes with every boot of the host: how a reboot is told from a reconnect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// Names of the operations that this device runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// What there is to say of those that come from workflow files there; read by
    /// [`crate::operations::read_announced`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<crate::operations::AnnouncedOperation>>")]
    pub operations: Option<Vec<Value>>,
    /// Free facts: os, kernel, arch, hostname, model, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<BTreeMap<String, Value>>,
    /// The device's clock. A last will has none: it was written long before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// On `…/health`, every 30 s: the heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthMessage {
    /// `1.0`
    pub schema_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    // Read one by one, by `ProcessHealth::read`: an odd one spoils no heartbeat.
    #[serde(default)]
    #[schemars(with = "Vec<ProcessHealth>")]
    pub processes: Vec<Value>,
    #[serde(default)]
    pub checks: Vec<Value>,
    #[serde(default)]
    pub resources: Map<String, Value>,
    #[serde(default)]
    pub broker_connection: BrokerConnection,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One supervised process, as its device sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct ProcessHealth {
    pub name: String,
    /// `running`, `stopped`, `crashed`, …; `status` is read as well.
    pub state: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub other: Map<String, Value>,
}

impl ProcessHealth {
    /// Reads one of a report; `None` for what has no name or no state.
    pub fn read(value: &Value) -> Option<Self> {
        let mut other = value.as_object()?.clone();
        let mut text = |name: &str| match other.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let name = text("name")?;
        let state = text("state").or_else(|| text("status"))?;
        Some(Self { name, state, other })
    }
}

/// How the device's connection to the broker has fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct BrokerConnection {
    #[serde(default)]
    pub reconnect_count: u64,
    #[serde(default)]
    pub last_disconnect_at: Option<Timestamp>,
}

/// Retained on `…/service_failed`; the empty message clears it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceFailedMessage {
    /// `1.0`
    pub schema_version: String,
    pub unit: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What the server knows of a device's presence.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    Online,
    /// Connected, but three heartbeats are missing.
    Stale,
    Offline,
    /// Taken out of service by an operator; it cannot sign in.
    Retired,
}

impl DeviceStatus {
    pub const ALL: [Self; 4] = [Self::Online, Self::Stale, Self::Offline, Self::Retired];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Offline => "offline",
            Self::Retired => "retired",
        }
    }
}

impl std::str::FromStr for DeviceStatus {
    type Err = UnknownDeviceStatus;
    fn from_str(text: &str) -> Result<Self, UnknownDeviceStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownDeviceStatus)
    }
}

/// Says that a text names no device status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such status; expected one of online, stale, offline, retired")]
pub struct UnknownDeviceStatus;
