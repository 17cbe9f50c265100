//! Objects and requests of the HTTP interface under `/api/v1` (chapter 2).
//!
//! Readers take unknown fields, so that server and console of one minor
//! version go together; requests are strict: a misspelt field is an error, not
//! a silent default.

mod tunnels;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    command::CommandStatus,
    device::{BrokerConnection, DeviceStatus},
    ids::{BatchId, CommandId, DeviceId, ProjectId},
    time::Timestamp,
    tunnel::session::Mode,
};

pub use self::tunnels::{
    CAST_END, CAST_SO_FAR, CreateTunnel, CreatedTunnel, Recording, RecordingCheck, RecordingEvent,
    RecordingEventKind, RecordingStatus, RecordingUse, Tunnel, TunnelKind, TunnelStatus,
};

/// An error, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: `code` tells problems apart.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do, for a person.
    #[serde(default)]
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    /// The input that is wrong, when one is: `targets.devices[3]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// To find this request in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub other: Map<String, Value>,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; `null` on the last one.
    pub next_cursor: Option<String>,
    /// How many items match, on all pages.
    pub total: u64,
}

/// What a member may do in a project. Each role includes those before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Operator,
    Admin,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// Says that a text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such role; expected one of viewer, operator, admin")]
pub struct UnknownRole;

// --- people -----------------------------------------------------------------

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    pub username: String,
    pub password: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    pub refresh_token: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// A JWT for `Authorization: Bearer`.
    pub access_token: String,
    /// Good once: each refresh answers with the next one.
    pub refresh_token: String,
    /// The access token's life, in seconds.
    pub expires_in: u64,
}

/// Who is asking, and what they may do where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    pub username: String,
    /// Server admins hold every role in every project.
    pub admin: bool,
    pub projects: BTreeMap<ProjectId, Role>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    pub id: String,
    pub username: String,
    pub admin: bool,
    pub disabled: bool,
    /// Their roles by project.
    pub projects: BTreeMap<ProjectId, Role>,
    pub created_at: Timestamp,
    pub last_login_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    pub username: String,
    pub password: String,
    #[serde(default)]
    pub admin: bool,
}

/// Changes of a user; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    pub created_at: Timestamp,
    /// The role of who asks.
    pub role: Role,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateProject {
    pub id: ProjectId,
    #[serde(default)]
    pub name: String,
}

/// What is set for a project as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectSettings {
    /// Reboots of one device in the window, whoever asks.
    pub reboot_limit: u32,
    pub reboot_window_s: u32,
    /// App restarts of one device in the window.
    pub app_restart_limit: u32,
    pub app_restart_window_s: u32,
    /// Submissions to more devices than this need `confirm`.
    pub confirm_over_devices: u32,
    /// How long a reboot may take before it is `timed_out`.
    pub reboot_ceiling_s: u32,
    /// Every terminal is recorded.
    pub record_terminals: bool,
    /// How long recordings are kept after their end, in days.
    pub recording_kept_days: u32,
    /// The role that opens tunnels to devices with a tag `environment`, `env` or `stage` of
    /// `production` or `prod`.
    pub production_tunnel_role: Role,
}

impl Default for ProjectSettings {
    fn default() -> Self {
        Self {
            reboot_limit: 3,
            reboot_window_s: 15 * 60,
            app_restart_limit: 3,
            app_restart_window_s: 15 * 60,
            confirm_over_devices: crate::limits::CONFIRM_OVER_DEVICES as u32,
            reboot_ceiling_s: 150,
            record_terminals: false,
            recording_kept_days: 90,
            production_tunnel_role: Role::Operator,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    pub username: String,
    pub role: Role,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMember {
    pub role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceToken {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    /// Only in the answer that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateServiceToken {
    pub name: String,
    /// The project it is good for.
    pub project: ProjectId,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

// --- devices ----------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrollmentToken {
    pub id: String,
    pub uses: u32,
    pub used: u32,
    pub expires_at: Timestamp,
    pub tags: BTreeMap<String, String>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// Only in the answer that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CreateEnrollmentToken {
    /// How many devices may enrol with it.
    pub uses: u32,
    /// How long it is good, in seconds.
    pub expires_in_s: u64,
    /// Tags that each such device gets.
    pub tags: BTreeMap<String, String>,
}

impl Default for CreateEnrollmentToken {
    fn default() -> Self {
        Self { uses: 1, expires_in_s: 3600, tags: BTreeMap::new() }
    }
}

/// What a device sends to become one of the project's.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EnrollRequest {
    pub token: String,
    pub device_id: DeviceId,
    /// A certificate request; without one, or while the server gives no certificates, the device gets a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr_pem: Option<String>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// A random text of the device's own, kept by it until it has the answer: who repeats a request
    /// with the same one gets the same answer, so a crash on either side loses nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrollResponse {
    pub project_id: ProjectId,
    pub device_id: DeviceId,
    pub mqtt_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_pem: Option<String>,
    #[serde(default)]
    pub ca_pem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    pub id: DeviceId,
    #[serde(rename = "type")]
    pub kind: String,
    pub tags: BTreeMap<String, String>,
    pub status: DeviceStatus,
    pub last_seen_at: Option<Timestamp>,
    /// When the server last could not hear (it, or its broker, was down), if the device has not come again since:
    /// then `status` is what it was before that.
    #[serde(default)]
    pub unheard_since: Option<Timestamp>,
    pub agent_version: Option<String>,
    #[schema(value_type = Object)]
    pub facts: BTreeMap<String, Value>,
    pub capabilities: Vec<String>,
    /// `quarterdeck-1.0`, or the older contract that the device speaks.
    pub contract: String,
    pub broker_connection: BrokerConnection,
    /// The worst state among its processes: `running`, `crashed`, …
    pub process_status: Option<String>,
    pub service_failed: Option<ServiceFailed>,
    pub active_deployment: Option<String>,
    pub enrolled_at: Timestamp,
    pub retired_at: Option<Timestamp>,
    /// How far its clock is ahead of the server's, in milliseconds, at its last word.
    pub clock_offset_ms: Option<i64>,
    /// Commands that have not ended.
    #[serde(default)]
    pub open_commands: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceFailed {
    pub unit: String,
    pub reason: String,
    pub at: Timestamp,
}

/// Changes of a device; what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeDevice {
    /// Replaces all tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// The last health report of a device, and when the server got it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceHealth {
    pub received_at: Option<Timestamp>,
    #[schema(value_type = Option<Object>)]
    pub report: Option<Value>,
}

/// What a device is configured with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceConfiguration {
    pub device_id: DeviceId,
    /// Rises with each change; 0 when nobody has written any.
    pub version: u64,
    #[schema(value_type = Object)]
    pub configuration: Map<String, Value>,
    pub updated_at: Option<Timestamp>,
    pub updated_by: Option<String>,
}

/// A new configuration for a device, in place of the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetConfiguration {
    /// At most 64 KiB.
    #[schema(value_type = Object)]
    pub configuration: Map<String, Value>,
}

// --- commands ---------------------------------------------------------------

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Targets {
    pub devices: Vec<String>,
    pub groups: Vec<String>,
}

/// A submission: one operation for one or many devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCommands {
    pub targets: Targets,
    /// The operation's name.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub payload: Value,
    /// 1 (soonest) to 10; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_zero")]
    pub priority: Option<u8>,
    /// From `execution_started`, in seconds; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_zero")]
    pub timeout_s: Option<u32>,
    /// How long a command waits for its device, in seconds; 3,600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "or_zero")]
    pub expires_in_s: Option<u32>,
    #[serde(default)]
    pub notes: String,
    /// Needed for dangerous operations and large batches.
    #[serde(default)]
    pub confirm: bool,
}

/// Reads a number that the type cannot hold as 0, which none of these ranges has: so it is refused by
/// whoever knows the range and names it, as serde cannot.
fn or_zero<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: serde::Deserializer<'de>,
    N: TryFrom<i64> + Default,
{
    let given: Option<i64> = Option::deserialize(deserializer)?;
    Ok(given.map(|given| N::try_from(given).unwrap_or_default()))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CreatedCommands {
    pub batch_id: BatchId,
    pub count: u64,
    /// How many of the devices are not connected now.
    pub offline: u64,
    pub warnings: Vec<String>,
    pub commands: Vec<Command>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Command {
    pub id: CommandId,
    pub batch_id: BatchId,
    pub device_id: DeviceId,
    /// Its device's status now; left out while the device is `unheard_since`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_status: Option<DeviceStatus>,
    #[serde(rename = "type")]
    pub kind: String,
    /// Left out (null) in the rows of a table.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub payload: Value,
    pub priority: u8,
    pub timeout_s: u32,
    pub notes: String,
    pub status: CommandStatus,
    /// In percent.
    pub progress: Option<u8>,
    pub step: Option<String>,
    /// The workflow state.
    pub state: Option<String>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub published_at: Option<Timestamp>,
    pub accepted_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Since when a cancellation waits for the device's word.
    #[serde(default)]
    pub cancel_requested_at: Option<Timestamp>,
    /// 1, and one more for each retry.
    pub attempt: u32,
    pub retry_of: Option<CommandId>,
    /// When a new one may go, after `blocked_safety`.
    pub blocked_until: Option<Timestamp>,
    /// Whatever the device answered; of the own operations an object.
    pub result: Option<Value>,
    pub exit_code: Option<i32>,
    pub stdout: Option<String>,
    pub stderr: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
}

/// Cancels many: by id, or all of a batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelCommands {
    #[serde(default)]
    pub ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CancelledCommands {
    /// Ended at once.
    pub cancelled: u64,
    /// Run already: they end on the device's word, or after 30 s of silence.
    pub requested: u64,
    /// Had ended before.
    pub already_finished: u64,
}

/// One line of the timeline of a command or a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimelineEntry {
    /// Rises within the timeline; commands of one millisecond share one in their device's, and are told apart by
    /// their ids.
    pub seq: i64,
    pub at: Timestamp,
    /// `created`, `published`, `accepted`, `progress`, `late`, `online`, …
    pub event: String,
    /// `server`, `device`, or who did it.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    #[schema(value_type = Option<Object>)]
    pub detail: Value,
}

/// A piece of live output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputChunk {
    /// `stdout` or `stderr`
    pub stream: String,
    /// Where it starts in the stream, in bytes.
    pub offset: u64,
    pub text: String,
    pub at: Timestamp,
}

// --- alerts, audit, tickets ---------------------------------------------------

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    pub id: String,
    /// `device_offline`, `device_stale`, `service_failed`, `clock_skew`, `safety_lockout`, `queue_depth`, …
    pub kind: String,
    pub severity: Severity,
    /// One sentence for a person.
    pub cause: String,
    pub device_id: Option<DeviceId>,
    pub command_id: Option<CommandId>,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub count: u64,
    pub acknowledged_by: Option<String>,
    pub acknowledged_at: Option<Timestamp>,
    pub silenced_until: Option<Timestamp>,
    /// When its cause was gone.
    pub resolved_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SilenceAlert {
    /// For how long, in seconds.
    pub duration_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    Ok,
    Denied,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    pub seq: i64,
    pub at: Timestamp,
    /// Who: a user, `service:NAME#ID-END`, `device:ID`, `server`, or the name that somebody tried.
    pub actor: String,
    /// From where: an address.
    pub from: String,
    /// What: `command.create`, `auth.login`, ….
    pub action: String,
    /// On what: `command:ID`, `device:ID`, ….
    pub object: String,
    pub outcome: AuditOutcome,
    #[schema(value_type = Option<Object>)]
    pub detail: Value,
    /// SHA-256 in hex, over the entry and the hash before it.
    pub hash: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketFor {
    Live,
    Tunnel,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTicket {
    #[serde(rename = "for")]
    pub purpose: TicketFor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel_id: Option<String>,
    /// Of a tunnel; `owner` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// Opens one WebSocket, once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    pub ticket: String,
    /// In seconds.
    pub expires_in: u64,
}

// --- overview -----------------------------------------------------------------

/// The numbers of the Overview screen and of the wall.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    pub devices: DeviceCounts,
    /// Commands not ended, by status.
    pub open_commands: BTreeMap<String, u64>,
    /// Commands that ended in the last 15 minutes, by status.
    pub recent_commands: BTreeMap<String, u64>,
    /// Durations of those that completed in the last 15 minutes, in milliseconds.
    pub p50_ms: Option<u64>,
    pub p95_ms: Option<u64>,
    pub oldest_queued_at: Option<Timestamp>,
    pub alerts: AlertCounts,
    /// Devices that are offline, by their tag `site`, most first, at most ten.
    pub offline_by_site: Vec<SiteCount>,
    /// Devices that have used some of their reboots (chapter 3), least left first, at most ten.
    #[serde(default)]
    pub reboot_budget: Vec<RebootBudget>,
    /// Sessions with devices that are not over.
    #[serde(default)]
    pub open_tunnels: u64,
}

/// How many reboots of a device the safety rule still lets through now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebootBudget {
    pub device_id: DeviceId,
    pub used: u64,
    pub left: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCounts {
    pub online: u64,
    pub stale: u64,
    /// Of those online or stale: not heard of since the server could not hear.
    #[serde(default)]
    pub unheard: u64,
    pub offline: u64,
    pub retired: u64,
    pub service_failed: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertCounts {
    pub critical: u64,
    pub warning: u64,
    pub info: u64,
    pub unacknowledged: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteCount {
    pub site: String,
    pub count: u64,
}
