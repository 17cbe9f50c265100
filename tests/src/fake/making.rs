//! What stands in the fleet: names, states and histories made from a number.

use std::collections::BTreeMap;

use quarterdeck_protocol::{
    api::{
        Alert, AuditEntry, AuditOutcome, Command, Device, EnrollmentToken, Project, Role,
        ServiceFailed, Severity, User,
    },
    command::CommandStatus as S,
    device::{BrokerConnection, DeviceStatus},
    ids::{BatchId, CommandId, DeviceId, ProjectId},
    operations,
};
use serde_json::json;

use super::{FakeFleet, PROJECT};

const SITES: [&str; 6] = ["fra1", "ams2", "nyc1", "sin1", "gru1", "lhr3"];
const KINDS: [&str; 4] = ["edge-box", "infoscreen", "drone", "gateway"];
const OPERATIONS: [&str; 8] = [
    "run_script",
    "restart_service",
    "system_info",
    "collect_logs",
    "ping",
    "reboot_host",
    "disk_usage",
    "firmware_update",
];

/// A number that looks random and is not.
pub(super) const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

pub(super) fn command_id(n: u64) -> CommandId {
    CommandId(uuid::Uuid::from_u128(
        (0x0193_4c8e_u128 << 96)
            | (0x7000_u128 << 64)
            | (0x8000_u128 << 48)
            | u128::from(mix(n) & 0xffff_ffff),
    ))
}

impl FakeFleet {
    pub(super) fn a_device(&self, n: u64) -> Device {
        let r = mix(n + 11);
        let site = SITES[(r % 13 % 6) as usize];
        let kind = KINDS[(r >> 8) as usize % 4];
        let status = match (r >> 16) % 20 {
            0 | 1 => DeviceStatus::Offline,
            2 => DeviceStatus::Stale,
            _ => DeviceStatus::Online,
        };
        let silent = match self.quiet_s {
            Some(quiet) => quiet,
            None if status == DeviceStatus::Online => (r >> 24) % 30,
            None => 120 + (r >> 24) % 90_000,
        };
        let production = !(r >> 32).is_multiple_of(3);
        let tags = BTreeMap::from([
            ("site".to_owned(), site.to_owned()),
            (
                "environment".to_owned(),
                if production { "production" } else { "staging" }.to_owned(),
            ),
            ("rack".to_owned(), format!("r{}", (r >> 40) % 40)),
        ]);
        let failed = (r >> 44).is_multiple_of(23);
        let at = self.now.plus_seconds(-(((r >> 12) % 4000) as i64));
        let mut capabilities: Vec<String> =
            operations::builtin().into_iter().map(|op| op.name).collect();
        capabilities.push("firmware_update".to_owned());
        Device {
            id: DeviceId::new(&format!("{}-{:05}.{site}", &kind[..4], n)).expect("a name"),
            kind: kind.to_owned(),
            tags,
            status,
            last_seen_at: Some(self.now.plus_seconds(-(silent as i64))),
            agent_version: Some(if r.is_multiple_of(5) { "0.9.4" } else { "0.10.1" }.to_owned()),
            facts: BTreeMap::from([
                ("os".to_owned(), json!("Debian GNU/Linux 13")),
                ("kernel".to_owned(), json!("6.12.9")),
                ("arch".to_owned(), json!("aarch64")),
                ("hostname".to_owned(), json!(format!("{}-{n:05}", &kind[..4]))),
                ("memory_mb".to_owned(), json!(3906)),
            ]),
            capabilities,
            contract: "quarterdeck-1.0".to_owned(),
            broker_connection: BrokerConnection {
                reconnect_count: r % 7,
                last_disconnect_at: (!r.is_multiple_of(7)).then(|| self.now.plus_seconds(-7200)),
            },
            process_status: Some(
                if (r >> 50).is_multiple_of(31) { "crashed" } else { "running" }.to_owned(),
            ),
            service_failed: failed.then(|| ServiceFailed {
                unit: "mqtt-bridge".to_owned(),
                reason: "start limit reached: 5 exits in 10 s".to_owned(),
                at,
            }),
            active_deployment: Some(format!("fw-2.{}.{}", 11 + r % 4, r % 9)),
            enrolled_at: self.now.plus_seconds(-86_400 * 90 - (r % 100_000) as i64),
            retired_at: None,
            unheard_since: None,
            clock_offset_ms: Some((r % 900) as i64 - 450),
            open_commands: if r.is_multiple_of(9) { r % 3 + 1 } else { 0 },
        }
    }

    pub(super) fn a_command(&self, n: u64) -> Command {
        let r = mix(n + 7);
        let device = if self.devices.is_empty() {
            DeviceId::new(&format!("edge-{:05}", r % 100_000)).expect("a name")
        } else {
            self.devices[(r % self.devices.len() as u64) as usize].id.clone()
        };
        let kind = match n {
            3 => "reboot_host",
            _ => OPERATIONS[(r >> 9) as usize % OPERATIONS.len()],
        };
        let status = match (n, r % 100) {
            (0..=2, _) => S::ExecutionStarted,
            (3, _) => S::AwaitingReconnect,
            (4..=6, _) | (_, 96..=97) => S::Queued,
            (_, 0..=73) => S::Completed,
            (_, 74..=83) => S::Failed,
            (_, 84..=86) => S::TimedOut,
            (_, 87..=88) => S::Expired,
            (_, 89..=90) => S::Cancelled,
            (_, 91) => S::BlockedSafety,
            (_, 92..=93) => S::Published,
            (_, 94..=95) => S::Accepted,
            _ => S::ExecutionStarted,
        };
        let created =
            self.now.plus_millis(-((n * n * 700 + n * 9_000) as i64).min(90_000_000_000) - 4_000);
        let started = created.plus_millis(400 + (r >> 20) as i64 % 1500);
        let took = 300 + (r >> 30) as i64 % 42_000;
        let ran = !matches!(
            status,
            S::Queued | S::Published | S::Accepted | S::Expired | S::BlockedSafety
        );
        let failed = matches!(status, S::Failed);
        let batch = uuid::Uuid::from_u128(u128::from(mix(n / 5)) << 32);
        let by = ["ops-1", "ops-2", "rollout", "service:ci"][(r >> 3) as usize % 4];
        Command {
            id: command_id(n),
            device_status: None,
            batch_id: BatchId(batch),
            device_id: device,
            kind: kind.to_owned(),
            payload: match kind {
                "run_script" => json!({"script": "systemctl --failed\ndf -h /var\n", "interpreter": "sh"}),
                "restart_service" => json!({"service": "mqtt-bridge"}),
                _ => json!({}),
            },
            priority: 5,
            timeout_s: 300,
            notes: if n.is_multiple_of(6) { "CHG-20418" } else { "" }.to_owned(),
            status,
            progress: match status {
                S::ExecutionStarted => Some((r >> 5) as u8 % 90 + 5),
                S::Completed => Some(100),
                _ => None,
            },
            step: (status == S::ExecutionStarted).then(|| "installing".to_owned()),
            state: (status == S::ExecutionStarted).then(|| "executing".to_owned()),
            created_by: by.to_owned(),
            created_at: created,
            expires_at: created.plus_seconds(3600),
            published_at: (status != S::Queued).then(|| created.plus_millis(12)),
            accepted_at: ran.then(|| created.plus_millis(180)),
            started_at: ran.then_some(started),
            finished_at: status.is_terminal().then(|| started.plus_millis(took)),
            cancel_requested_at: None,
            attempt: 1,
            retry_of: None,
            blocked_until: (status == S::BlockedSafety).then(|| self.now.plus_seconds(540)),
            result: (status == S::Completed).then(|| {
                json!({"ok": true, "round_trip_ms": 41, "filesystems": [{"mount": "/", "used_percent": 61}, {"mount": "/var", "used_percent": 93}]})
            }),
            exit_code: if failed { Some(17) } else { (status == S::Completed).then_some(0) },
            stdout: None,
            stderr: None,
            error_code: match status {
                S::Failed => Some("script_failed".to_owned()),
                S::TimedOut => Some("timeout".to_owned()),
                S::BlockedSafety => Some("safety_lockout".to_owned()),
                _ => None,
            },
            error_message: match status {
                S::Failed => Some("verify mismatch at block 0x1f3".to_owned()),
                S::TimedOut => Some("the device was silent for 30 s".to_owned()),
                S::BlockedSafety => Some("3 reboots in 15 minutes".to_owned()),
                _ => None,
            },
        }
    }

    pub(super) fn some_alerts(&mut self) {
        let rows = [
            (
                Severity::Critical,
                "device_offline",
                "site fra1: 188 devices offline since 06:09",
                220,
                None,
            ),
            (Severity::Warning, "clock_skew", "3 devices with clock skew over 30 s", 3700, None),
            (
                Severity::Warning,
                "queue_depth",
                "120 commands wait for delivery, over 100 for 10 min",
                2100,
                Some("ops-1"),
            ),
            (Severity::Warning, "service_failed", "mqtt-bridge gave up restarting", 5200, None),
            (
                Severity::Info,
                "safety_lockout",
                "reboot blocked: 3 reboots in 15 minutes",
                9000,
                None,
            ),
        ];
        for (n, (severity, kind, cause, ago, by)) in rows.into_iter().enumerate() {
            let device = self.devices.get(n * 3).filter(|_| n >= 3).map(|d| d.id.clone());
            self.alerts.push(Alert {
                id: format!("alert-{n}"),
                kind: kind.to_owned(),
                severity,
                cause: cause.to_owned(),
                device_id: device,
                command_id: None,
                first_seen_at: self.now.plus_seconds(-ago),
                last_seen_at: self.now.plus_seconds(-ago / 9),
                count: n as u64 * 4 + 1,
                acknowledged_by: by.map(str::to_owned),
                acknowledged_at: by.map(|_| self.now.plus_seconds(-60)),
                silenced_until: None,
                resolved_at: None,
            });
        }
    }

    pub(super) fn some_audit(&mut self) {
        let actions = [
            ("ops-1", "command.create", "batch:0193", AuditOutcome::Ok),
            ("ops-2", "command.cancel", "command:0193", AuditOutcome::Ok),
            ("mallory", "auth.login", "user:mallory", AuditOutcome::Denied),
            ("admin", "user.create", "user:ops-3", AuditOutcome::Ok),
            ("service:ci", "device.tag", "device:edge-00001.fra1", AuditOutcome::Failed),
        ];
        for seq in (1..=60_i64).rev() {
            let (actor, action, object, outcome) = actions[(mix(seq as u64) % 5) as usize];
            self.audit.push(AuditEntry {
                seq,
                at: self.now.plus_seconds(-(61 - seq) * 97),
                actor: actor.to_owned(),
                from: "10.20.0.7".to_owned(),
                action: action.to_owned(),
                object: object.to_owned(),
                outcome,
                detail: json!({"type": "run_script", "count": seq % 9}),
                hash: format!("{:016x}{:016x}", mix(seq as u64), mix(seq as u64 + 1)),
            });
        }
    }

    pub(super) fn some_people(&mut self) {
        for id in [PROJECT, "lab"] {
            self.projects.push(Project {
                id: ProjectId::new(id).expect("a name"),
                name: format!("The {id} fleet"),
                created_at: self.now.plus_seconds(-86_400 * 200),
                role: self.role,
            });
        }
        let default = ProjectId::new(PROJECT).expect("a name");
        for (n, (name, admin, role)) in [
            ("admin", true, Role::Admin),
            ("ops-1", false, Role::Operator),
            ("ops-2", false, Role::Operator),
            ("noc", false, Role::Viewer),
        ]
        .into_iter()
        .enumerate()
        {
            self.users.push(User {
                id: format!("user-{n}"),
                username: name.to_owned(),
                admin,
                disabled: false,
                projects: BTreeMap::from([(default.clone(), role)]),
                created_at: self.now.plus_seconds(-86_400 * 30),
                last_login_at: (n != 3).then(|| self.now.plus_seconds(-3_700 * n as i64 - 40)),
            });
        }
        self.tokens.push(EnrollmentToken {
            id: "0193aa10-7000".to_owned(),
            uses: 50,
            used: 12,
            expires_at: self.now.plus_seconds(86_400),
            tags: BTreeMap::from([("site".to_owned(), "fra1".to_owned())]),
            created_by: "admin".to_owned(),
            created_at: self.now.plus_seconds(-7_200),
            revoked_at: None,
            token: None,
        });
    }

    /// Row `n` of a listing that is only pretended: in the order of its id.
    pub(super) fn a_listed_device(&self, n: u64) -> Device {
        let device = self.a_device(n);
        let site = device.tags.get("site").map_or("", String::as_str);
        let id = DeviceId::new(&format!("node-{n:06}.{site}")).expect("a name");
        Device { id, ..device }
    }
}
