//! A fleet that exists only in memory, and a server of it as the TUI sees one.
//!
//! Deterministic: the same calls at the same times give the same answers. The
//! example program plays it by the clock; the tests play it by hand; with
//! `rows` it stands in for a listing of millions.

use std::collections::BTreeMap;

use quarterdeck_console::tui::effects::{ApiAnswer, ApiRequest, NetEvent, NetRequest};
use quarterdeck_protocol::{
    api::{
        Alert, AlertCounts, AuditEntry, AuditOutcome, CancelledCommands, Command, CreateCommands,
        CreatedCommands, Device, DeviceCounts, DeviceHealth, EnrollmentToken, Member, OutputChunk,
        Overview, Problem, Project, ProjectSettings, Role, ServiceFailed, Severity, SiteCount,
        TimelineEntry, User,
    },
    command::CommandStatus as S,
    device::{BrokerConnection, DeviceStatus},
    ids::{BatchId, CommandId, DeviceId, ProjectId},
    live::{ClientMessage, Listing, Range, Row, ServerMessage},
    operations,
    time::Timestamp,
};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

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

/// The server.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub now: Timestamp,
    pub devices: Vec<Device>,
    pub commands: Vec<Command>,
    pub alerts: Vec<Alert>,
    pub audit: Vec<AuditEntry>,
    pub users: Vec<User>,
    pub tokens: Vec<EnrollmentToken>,
    /// Pretend that there are so many commands.
    pub rows: Option<u64>,
    pub role: Role,
    windows: BTreeMap<u32, Watch>,
    made: u64,
}

#[derive(Debug)]
struct Watch {
    listing: Listing,
    filter: BTreeMap<String, String>,
    sort: Option<String>,
    range: Range,
    sent: Vec<(String, String)>,
    total: u64,
}

/// A number that looks random and is not.
const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn command_id(n: u64) -> CommandId {
    CommandId(uuid::Uuid::from_u128(
        (0x0193_4c8e_u128 << 96)
            | (0x7000_u128 << 64)
            | (0x8000_u128 << 48)
            | u128::from(mix(n) & 0xffff_ffff),
    ))
}

impl Fleet {
    pub(crate) fn new(now: Timestamp, devices: usize, commands: usize) -> Self {
        let mut fleet = Self {
            now,
            devices: Vec::new(),
            commands: Vec::new(),
            alerts: Vec::new(),
            audit: Vec::new(),
            users: Vec::new(),
            tokens: Vec::new(),
            rows: None,
            role: Role::Operator,
            windows: BTreeMap::new(),
            made: 0,
        };
        fleet.devices = (0..devices as u64).map(|n| fleet.a_device(n)).collect();
        fleet.commands = (0..commands as u64).map(|n| fleet.a_command(n)).collect();
        fleet.made = commands as u64;
        fleet.some_alerts();
        fleet.some_audit();
        fleet.some_people();
        fleet
    }

    fn a_device(&self, n: u64) -> Device {
        let r = mix(n + 11);
        let site = SITES[(r % 13 % 6) as usize];
        let kind = KINDS[(r >> 8) as usize % 4];
        let status = match (r >> 16) % 20 {
            0 | 1 => DeviceStatus::Offline,
            2 => DeviceStatus::Stale,
            _ => DeviceStatus::Online,
        };
        let silent =
            if status == DeviceStatus::Online { (r >> 24) % 30 } else { 120 + (r >> 24) % 90_000 };
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
            clock_offset_ms: Some((r % 900) as i64 - 450),
            open_commands: if r.is_multiple_of(9) { r % 3 + 1 } else { 0 },
        }
    }

    fn a_command(&self, n: u64) -> Command {
        let r = mix(n + 7);
        let device = if self.devices.is_empty() {
            DeviceId::new(&format!("edge-{:05}", r % 100_000)).expect("a name")
        } else {
            self.devices[(r % self.devices.len() as u64) as usize].id.clone()
        };
        let kind = OPERATIONS[(r >> 9) as usize % OPERATIONS.len()];
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

    fn some_alerts(&mut self) {
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

    fn some_audit(&mut self) {
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

    fn some_people(&mut self) {
        let default = ProjectId::new("prod").expect("a name");
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

    pub(crate) fn hello(&self) -> NetEvent {
        NetEvent::Live(ServerMessage::Hello {
            version: 1,
            project: ProjectId::new("prod").expect("a name"),
            username: "ops-1".to_owned(),
            role: self.role,
            admin: self.role == Role::Admin,
            server_version: "0.1.0".to_owned(),
            at: self.now,
        })
    }

    pub(crate) fn heartbeat(&self) -> NetEvent {
        NetEvent::Live(ServerMessage::Heartbeat { at: self.now })
    }

    /// Answers a request.
    pub(crate) fn request(&mut self, request: NetRequest) -> Vec<NetEvent> {
        match request {
            NetRequest::Live(ClientMessage::Subscribe { id, listing, filter, sort, range }) => {
                let watch = Watch { listing, filter, sort, range, sent: Vec::new(), total: 0 };
                self.windows.insert(id, watch);
                vec![self.snapshot(id)]
            }
            NetRequest::Live(ClientMessage::Window { id, range }) => {
                match self.windows.get_mut(&id) {
                    Some(watch) => {
                        watch.range = range;
                        vec![self.snapshot(id)]
                    }
                    None => Vec::new(),
                }
            }
            NetRequest::Live(ClientMessage::Unsubscribe { id }) => {
                self.windows.remove(&id);
                Vec::new()
            }
            NetRequest::Live(ClientMessage::Ping { nonce }) => {
                vec![NetEvent::Live(ServerMessage::Pong { nonce })]
            }
            NetRequest::Call { id, call } => {
                vec![NetEvent::Answer { id, result: self.call(call) }]
            }
            NetRequest::OpenProject(_) => vec![self.hello()],
        }
    }

    fn snapshot(&mut self, id: u32) -> NetEvent {
        let watch = &self.windows[&id];
        let (rows, total) = self.rows_of(watch);
        let offset = watch.range.offset;
        let items = rows.iter().map(raw_row).collect();
        let at = self.now;
        if let Some(watch) = self.windows.get_mut(&id) {
            watch.sent = rows;
            watch.total = total;
        }
        NetEvent::Live(ServerMessage::Snapshot { id, offset, total, items, at })
    }

    /// What changed in the windows since they were last told.
    pub(crate) fn changes(&mut self) -> Vec<NetEvent> {
        let ids: Vec<u32> = self.windows.keys().copied().collect();
        let mut events = Vec::new();
        for id in ids {
            let (rows, total) = self.rows_of(&self.windows[&id]);
            let at = self.now;
            let Some(watch) = self.windows.get_mut(&id) else { continue };
            if rows == watch.sent && total == watch.total {
                continue;
            }
            let before: BTreeMap<&str, &str> =
                watch.sent.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let items = rows
                .iter()
                .filter(|(k, v)| before.get(k.as_str()) != Some(&v.as_str()))
                .map(raw_row)
                .collect();
            let keys = |rows: &[(String, String)]| -> Vec<String> {
                rows.iter().map(|(k, _)| k.clone()).collect()
            };
            let order = keys(&rows);
            let order = (order != keys(&watch.sent)).then_some(order);
            watch.sent = rows;
            watch.total = total;
            events.push(NetEvent::Live(ServerMessage::Changes { id, total, items, order, at }));
        }
        events
    }

    fn rows_of(&self, watch: &Watch) -> (Vec<(String, String)>, u64) {
        let filter = |name: &str| watch.filter.get(name).map(String::as_str);
        let range = watch.range;
        match watch.listing {
            Listing::Commands if self.rows.is_some() && watch.filter.is_empty() => {
                let total = self.rows.unwrap_or(0);
                let end = (range.offset + u64::from(range.limit)).min(total);
                let rows = (range.offset..end)
                    .map(|n| {
                        let command = self.a_command(n);
                        (command.id.to_string(), self.command_json(&command))
                    })
                    .collect();
                (rows, total)
            }
            Listing::Commands => {
                let mut found: Vec<&Command> = self
                    .commands
                    .iter()
                    .filter(|c| {
                        filter("id").is_none_or(|id| c.id.to_string() == id)
                            && filter("device").is_none_or(|id| c.device_id.as_str() == id)
                            && filter("batch_id").is_none_or(|id| c.batch_id.to_string() == id)
                            && filter("type").is_none_or(|kind| c.kind == kind)
                            && filter("user").is_none_or(|by| c.created_by == by)
                            && filter("status")
                                .is_none_or(|s| s.split(',').any(|s| s == c.status.as_str()))
                            && filter("q").is_none_or(|q| {
                                c.kind.contains(q) || c.device_id.as_str().contains(q)
                            })
                    })
                    .collect();
                let by = watch.sort.as_deref().unwrap_or("-created_at");
                found.sort_by_key(|c| match by.trim_start_matches('-') {
                    "type" => c.kind.clone(),
                    "device_id" => c.device_id.to_string(),
                    "status" => c.status.as_str().to_owned(),
                    "created_by" => c.created_by.clone(),
                    _ => c.created_at.to_string(),
                });
                if by.starts_with('-') {
                    found.reverse();
                }
                page(range, &found, |c| (c.id.to_string(), self.command_json(c)))
            }
            Listing::Devices => {
                let mut found: Vec<&Device> = self
                    .devices
                    .iter()
                    .filter(|d| {
                        filter("id").is_none_or(|id| d.id.as_str() == id)
                            && filter("type").is_none_or(|kind| d.kind == kind)
                            && filter("tag").is_none_or(|tags| has_tags(d, tags))
                            && filter("status")
                                .is_none_or(|s| s.split(',').any(|s| s == d.status.as_str()))
                            && filter("q").is_none_or(|q| d.id.as_str().contains(q))
                    })
                    .collect();
                let by = watch.sort.as_deref().unwrap_or("id");
                found.sort_by_key(|d| match by.trim_start_matches('-') {
                    "status" => d.status.as_str().to_owned(),
                    "type" => d.kind.clone(),
                    "last_seen_at" => format!("{:?}", d.last_seen_at),
                    _ => d.id.to_string(),
                });
                if by.starts_with('-') {
                    found.reverse();
                }
                page(range, &found, |d| (d.id.to_string(), text(d)))
            }
            Listing::Timeline => {
                let rows: Vec<TimelineEntry> = self.timeline(filter("command"), filter("device"));
                page(range, &rows, |entry| (entry.seq.to_string(), text(entry)))
            }
            Listing::Output => {
                let rows = self.output(filter("command").unwrap_or_default());
                page(range, &rows, |c| (format!("{}:{}", c.stream, c.offset), text(c)))
            }
            Listing::Alerts => {
                let found: Vec<&Alert> = self
                    .alerts
                    .iter()
                    .filter(|a| filter("status") != Some("open") || a.resolved_at.is_none())
                    .collect();
                page(range, &found, |a| (a.id.clone(), text(a)))
            }
            Listing::Audit => page(range, &self.audit, |e| (e.seq.to_string(), text(e))),
            Listing::Operations => {
                let mut all = operations::builtin();
                let own = operations::Operation {
                    name: "firmware_update".to_owned(),
                    title: "Firmware update".to_owned(),
                    description: "Write the other slot, verify it, and boot from it.".to_owned(),
                    icon: "◇".to_owned(),
                    estimated_duration_s: 240,
                    source: operations::OperationSource::Device,
                    device_count: self.devices.len() as u64,
                    ..all[0].clone()
                };
                all.insert(13, own);
                page(range, &all, |op| (op.name.clone(), text(op)))
            }
            Listing::Users => page(range, &self.users, |u| (u.username.clone(), text(u))),
            Listing::Members => {
                let all: Vec<Member> = self
                    .users
                    .iter()
                    .filter_map(|u| {
                        let role = *u.projects.values().next()?;
                        Some(Member { username: u.username.clone(), role })
                    })
                    .collect();
                page(range, &all, |m| (m.username.clone(), text(m)))
            }
            Listing::Projects => {
                let all: Vec<Project> = ["prod", "lab"]
                    .into_iter()
                    .map(|id| Project {
                        id: ProjectId::new(id).expect("a name"),
                        name: format!("The {id} fleet"),
                        created_at: self.now.plus_seconds(-86_400 * 200),
                        role: self.role,
                    })
                    .collect();
                page(range, &all, |p| (p.id.to_string(), text(p)))
            }
            Listing::EnrollmentTokens => page(range, &self.tokens, |t| (t.id.clone(), text(t))),
            Listing::Overview => {
                let overview = self.overview();
                (vec![("overview".to_owned(), text(&overview))], 1)
            }
        }
    }

    fn command_json(&self, command: &Command) -> String {
        let status = self.devices.iter().find(|d| d.id == command.device_id).map(|d| d.status);
        let mut value = serde_json::to_value(command).expect("serialises");
        value["device_status"] = serde_json::to_value(status).expect("serialises");
        value.to_string()
    }

    fn timeline(&self, command: Option<&str>, device: Option<&str>) -> Vec<TimelineEntry> {
        let mut out = Vec::new();
        for c in self.commands.iter().filter(|c| {
            command.is_none_or(|id| c.id.to_string() == id)
                && device.is_none_or(|id| c.device_id.as_str() == id)
        }) {
            let mut push = |at: Option<Timestamp>, event: &str, by: &str, detail: Value| {
                if let Some(at) = at {
                    let seq = out.len() as i64 + 1;
                    let event = event.to_owned();
                    let by = by.to_owned();
                    out.push(TimelineEntry { seq, at, event, by, command_id: Some(c.id), detail });
                }
            };
            push(Some(c.created_at), "created", &c.created_by, json!({"type": c.kind}));
            push(c.published_at, "published", "server", json!({"qos": 2}));
            push(c.accepted_at, "accepted", "device", Value::Null);
            push(c.started_at, "execution_started", "device", json!({"state": "executing"}));
            push(c.finished_at, c.status.as_str(), "device", json!({"exit_code": c.exit_code}));
        }
        out
    }

    fn output(&self, id: &str) -> Vec<OutputChunk> {
        let Some(c) = self.commands.iter().find(|c| c.id.to_string() == id) else {
            return Vec::new();
        };
        let Some(started) = c.started_at else { return Vec::new() };
        let end = c.finished_at.unwrap_or(self.now);
        let lines = (end.millis_since(started) / 400).clamp(1, 300);
        let mut offset = 0;
        (0..lines)
            .map(|n| {
                let stderr = n % 7 == 6;
                let text = match n % 4 {
                    0 => format!("step {n}: reading block 0x{:x}\n", n * 37),
                    1 => format!("flash: {} of 4096 KiB written\n", n * 64),
                    2 => "verify: ok\n".to_owned(),
                    _ => "\u{1b}[31mwarning\u{1b}[0m: slow media, retrying\n".to_owned(),
                };
                offset += text.len() as u64;
                OutputChunk {
                    stream: if stderr { "stderr" } else { "stdout" }.to_owned(),
                    offset,
                    text,
                    at: started.plus_millis(n * 400),
                }
            })
            .collect()
    }

    pub(crate) fn overview(&self) -> Overview {
        let count = |status| self.devices.iter().filter(|d| d.status == status).count() as u64;
        let mut open = BTreeMap::new();
        let mut recent = BTreeMap::new();
        for c in &self.commands {
            let map = if c.status.is_terminal() { &mut recent } else { &mut open };
            *map.entry(c.status.as_str().to_owned()).or_insert(0) += 1;
        }
        let mut sites: BTreeMap<&str, u64> = BTreeMap::new();
        for d in self.devices.iter().filter(|d| d.status == DeviceStatus::Offline) {
            *sites.entry(d.tags.get("site").map_or("", String::as_str)).or_default() += 1;
        }
        let mut by_site: Vec<SiteCount> = sites
            .into_iter()
            .map(|(site, count)| SiteCount { site: site.to_owned(), count })
            .collect();
        by_site.sort_by_key(|site| std::cmp::Reverse(site.count));
        let severe =
            |severity| self.alerts.iter().filter(|a| a.severity == severity).count() as u64;
        Overview {
            devices: DeviceCounts {
                online: count(DeviceStatus::Online),
                stale: count(DeviceStatus::Stale),
                offline: count(DeviceStatus::Offline),
                retired: 0,
                service_failed: self.devices.iter().filter(|d| d.service_failed.is_some()).count()
                    as u64,
            },
            open_commands: open,
            recent_commands: recent,
            p50_ms: Some(2_100),
            p95_ms: Some(14_000),
            oldest_queued_at: Some(self.now.plus_seconds(-191)),
            alerts: AlertCounts {
                critical: severe(Severity::Critical),
                warning: severe(Severity::Warning),
                info: severe(Severity::Info),
                unacknowledged: self.alerts.iter().filter(|a| a.acknowledged_by.is_none()).count()
                    as u64,
            },
            offline_by_site: by_site,
        }
    }

    #[expect(clippy::result_large_err, reason = "as the seam has it, once in a call")]
    fn call(&mut self, call: ApiRequest) -> Result<ApiAnswer, Problem> {
        match call {
            ApiRequest::CreateCommands(create) => self.create(&create),
            ApiRequest::CancelCommands(cancel) => {
                let mut done =
                    CancelledCommands { cancelled: 0, requested: 0, already_finished: 0 };
                let now = self.now;
                for c in self.commands.iter_mut().filter(|c| cancel.ids.contains(&c.id.to_string()))
                {
                    if c.status.is_terminal() {
                        done.already_finished += 1;
                    } else if c.status.awaits_delivery() {
                        c.status = S::Cancelled;
                        c.finished_at = Some(now);
                        done.cancelled += 1;
                    } else {
                        c.cancel_requested_at = Some(now);
                        done.requested += 1;
                    }
                }
                Ok(ApiAnswer::Cancelled(done))
            }
            ApiRequest::RetryCommand(id) => {
                let found = self.commands.iter().find(|c| c.id == id).cloned();
                let mut command = found
                    .ok_or_else(|| problem(404, "not_found", "There is no such command.", None))?;
                command.retry_of = Some(id);
                command.attempt += 1;
                self.queue(&mut command);
                Ok(ApiAnswer::Command(Box::new(command)))
            }
            ApiRequest::AcknowledgeAlert { id } => {
                let now = self.now;
                for alert in self.alerts.iter_mut().filter(|a| a.id == id) {
                    alert.acknowledged_by = Some("ops-1".to_owned());
                    alert.acknowledged_at = Some(now);
                }
                Ok(ApiAnswer::Done)
            }
            ApiRequest::SilenceAlert { id, duration_s } => {
                let until = self.now.plus_seconds(duration_s as i64);
                for alert in self.alerts.iter_mut().filter(|a| a.id == id) {
                    alert.silenced_until = Some(until);
                }
                Ok(ApiAnswer::Done)
            }
            ApiRequest::ChangeDevice { id, change } => {
                for device in self.devices.iter_mut().filter(|d| d.id == id) {
                    if let Some(tags) = &change.tags {
                        device.tags.clone_from(tags);
                    }
                }
                Ok(ApiAnswer::Done)
            }
            ApiRequest::RetireDevice(id) => {
                for device in self.devices.iter_mut().filter(|d| d.id == id) {
                    device.status = DeviceStatus::Retired;
                }
                Ok(ApiAnswer::Done)
            }
            ApiRequest::ClearServiceFailed(id) => {
                for device in self.devices.iter_mut().filter(|d| d.id == id) {
                    device.service_failed = None;
                }
                Ok(ApiAnswer::Done)
            }
            ApiRequest::DeviceHealth(_) => Ok(ApiAnswer::Health(Box::new(DeviceHealth {
                received_at: Some(self.now.plus_seconds(-12)),
                report: Some(json!({
                    "processes": [
                        {"name": "mqtt-bridge", "state": "running", "restarts": 1},
                        {"name": "player", "state": "crashed", "restarts": 5},
                    ],
                    "resources": {"cpu_percent": 31.5, "memory_used_mb": 812, "disk_used_percent": 61},
                })),
            }))),
            ApiRequest::ProjectSettings => Ok(ApiAnswer::Settings(ProjectSettings::default())),
            ApiRequest::SaveOutput { path, .. } => Ok(ApiAnswer::Saved { path, size_bytes: 4_211 }),
            ApiRequest::CreateUser(create) => {
                if self.users.iter().any(|u| u.username == create.username) {
                    return Err(problem(409, "exists", "That name is taken.", Some("username")));
                }
                self.users.push(User {
                    id: format!("user-{}", self.users.len()),
                    username: create.username,
                    admin: create.admin,
                    disabled: false,
                    projects: BTreeMap::new(),
                    created_at: self.now,
                    last_login_at: None,
                });
                Ok(ApiAnswer::Done)
            }
            ApiRequest::ChangeUser { username, change } => {
                for user in self.users.iter_mut().filter(|u| u.username == username) {
                    user.disabled = change.disabled.unwrap_or(user.disabled);
                }
                Ok(ApiAnswer::Done)
            }
            ApiRequest::CreateEnrollmentToken(create) => {
                let mut token = self.tokens[0].clone();
                token.id = format!("0193aa10-70{:02}", self.tokens.len());
                token.uses = create.uses;
                token.used = 0;
                token.created_at = self.now;
                token.expires_at = self.now.plus_seconds(create.expires_in_s as i64);
                token.tags = create.tags;
                self.tokens.push(token.clone());
                token.token = Some("qde_3vTq8xwzPp0dLr5mJc7sY1nB6hKfA2gE9uRiXoCtZlW4".to_owned());
                Ok(ApiAnswer::Token(token))
            }
            ApiRequest::SetMember { .. }
            | ApiRequest::RemoveMember { .. }
            | ApiRequest::CreateProject(_)
            | ApiRequest::RevokeEnrollmentToken { .. } => Ok(ApiAnswer::Done),
        }
    }

    #[expect(clippy::result_large_err, reason = "as the seam has it, once in a call")]
    fn create(&mut self, create: &CreateCommands) -> Result<ApiAnswer, Problem> {
        if create.payload["service"] == "forbidden" {
            let detail = "The service 'forbidden' is not allowed.";
            return Err(problem(422, "invalid", detail, Some("payload.service")));
        }
        let template = self.a_command(40);
        let batch = BatchId(uuid::Uuid::from_u128(u128::from(mix(self.made + 99)) << 32));
        let mut made = Vec::new();
        let mut offline = 0;
        for device in &create.targets.devices {
            let Some(target) = self.devices.iter().find(|d| d.id.as_str() == device) else {
                return Err(problem(
                    422,
                    "unknown_device",
                    "No such device.",
                    Some("targets.devices[0]"),
                ));
            };
            offline += u64::from(target.status != DeviceStatus::Online);
            let mut command = Command {
                batch_id: batch,
                device_id: target.id.clone(),
                kind: create.kind.clone(),
                payload: create.payload.clone(),
                notes: create.notes.clone(),
                created_by: "ops-1".to_owned(),
                ..template.clone()
            };
            self.queue(&mut command);
            made.push(command);
        }
        let count = made.len() as u64;
        Ok(ApiAnswer::Created(CreatedCommands {
            batch_id: batch,
            count,
            offline,
            warnings: vec![],
            commands: made,
        }))
    }

    /// Puts a command at the beginning of its life.
    fn queue(&mut self, command: &mut Command) {
        self.made += 1;
        command.id = command_id(self.made + 1_000_000);
        command.status = S::Queued;
        command.created_at = self.now;
        command.expires_at = self.now.plus_seconds(3600);
        command.progress = None;
        command.step = None;
        command.state = None;
        command.published_at = None;
        command.accepted_at = None;
        command.started_at = None;
        command.finished_at = None;
        command.result = None;
        command.exit_code = None;
        command.error_code = None;
        command.error_message = None;
        command.blocked_until = None;
        self.commands.insert(0, command.clone());
    }

    /// Moves everything on by a little.
    pub(crate) fn live(&mut self, now: Timestamp) {
        self.now = now;
        for c in self.commands.iter_mut().take(400) {
            let age = now.millis_since(c.created_at);
            match c.status {
                S::Queued if age > 600 => {
                    c.status = S::Published;
                    c.published_at = Some(now);
                }
                S::Published if age > 1_000 => {
                    c.status = S::Accepted;
                    c.accepted_at = Some(now);
                }
                S::Accepted if age > 1_500 => {
                    c.status = S::ExecutionStarted;
                    c.started_at = Some(now);
                    c.step = Some("executing".to_owned());
                }
                S::ExecutionStarted => {
                    let progress = c.progress.unwrap_or(0) + 1 + (mix(age as u64) % 4) as u8;
                    c.progress = Some(progress.min(100));
                    if c.cancel_requested_at.is_some() {
                        c.status = S::Cancelled;
                        c.finished_at = Some(now);
                    } else if progress >= 100 {
                        c.status = S::Completed;
                        c.exit_code = Some(0);
                        c.finished_at = Some(now);
                        c.result = Some(json!({"ok": true}));
                    }
                }
                _ => {}
            }
        }
        for d in self.devices.iter_mut().filter(|d| d.status == DeviceStatus::Online) {
            if mix(d.id.as_str().len() as u64 + now.as_millis() as u64 / 1000).is_multiple_of(3) {
                d.last_seen_at = Some(now);
            }
        }
    }

    /// A command that nobody asked for, so that lists move.
    pub(crate) fn new_command(&mut self) {
        let mut command = self.a_command(self.made + 20);
        self.queue(&mut command);
    }
}

fn has_tags(device: &Device, wanted: &str) -> bool {
    wanted.split(',').all(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        device.tags.get(key).is_some_and(|own| own == value)
    })
}

fn page<T>(
    range: Range,
    all: &[T],
    row: impl Fn(&T) -> (String, String),
) -> (Vec<(String, String)>, u64) {
    let from = (range.offset as usize).min(all.len());
    let to = (from + range.limit as usize).min(all.len());
    (all[from..to].iter().map(row).collect(), all.len() as u64)
}

fn text<T: Serialize>(row: &T) -> String {
    serde_json::to_string(row).expect("serialises")
}

fn raw_row((key, data): &(String, String)) -> Row {
    Row { key: key.clone(), data: RawValue::from_string(data.clone()).expect("valid JSON") }
}

fn problem(status: u16, code: &str, detail: &str, field: Option<&str>) -> Problem {
    Problem {
        kind: "about:blank".to_owned(),
        title: "Not possible".to_owned(),
        status,
        detail: detail.to_owned(),
        code: code.to_owned(),
        field: field.map(str::to_owned),
        request_id: None,
        other: serde_json::Map::new(),
    }
}
