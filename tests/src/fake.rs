//! A fleet that exists only in memory, and a server of it.
//!
//! ```text
//!   FakeFleet ── rows ──▶ Windows (of one console) ──▶ a test's own hands
//!       ▲                     └──────────────────────▶ FakeServer ──▶ HTTP + WebSocket
//!       └── calls: commands, alerts, people ◀──────────────┘
//! ```
//!
//! Deterministic: the same calls at the same times give the same answers. Tests
//! of the console play it by hand; `cargo run -p quarterdeck-tests --bin
//! fake_fleet` plays it by the clock, over real sockets, and so do benchmarks.
//! With `rows` it stands in for listings of millions.
//!
//! | module | subject |
//! | --- | --- |
//! | `making` | what stands in it, made from a number |
//! | `listings` | filtered, sorted, a page of it |
//! | [`windows`] | what one console watches, and what changed there |
//! | [`calls`] | what becomes of a request |
//! | [`sessions`], [`shell`] | tunnels, recordings, and what runs in a terminal |
//! | [`churn`] | rows that change faster than anybody reads |
//! | [`server`] | all of it over HTTP and WebSocket |

use quarterdeck_protocol::{
    api::{
        Alert, AuditEntry, Command, Device, EnrollmentToken, Project, Recording, Role, Tunnel, User,
    },
    command::CommandStatus as S,
    device::DeviceStatus,
    ids::ProjectId,
    live::{ServerMessage, VERSION},
    time::Timestamp,
};
use serde_json::json;

use making::mix;

pub mod calls;
pub mod churn;
mod listings;
mod making;
pub mod server;
pub mod sessions;
pub mod shell;
pub mod windows;

pub use server::FakeServer;
pub use windows::Windows;

/// Its only project.
pub const PROJECT: &str = "prod";
/// Who is signed in.
pub const USERNAME: &str = "ops-1";

/// A fleet with its history.
#[derive(Debug)]
pub struct FakeFleet {
    /// The server's clock; moved by who plays the fleet.
    pub now: Timestamp,
    pub devices: Vec<Device>,
    pub commands: Vec<Command>,
    pub alerts: Vec<Alert>,
    pub audit: Vec<AuditEntry>,
    pub users: Vec<User>,
    pub projects: Vec<Project>,
    pub tokens: Vec<EnrollmentToken>,
    pub tunnels: Vec<Tunnel>,
    pub recordings: Vec<Recording>,
    /// Tunnels that one user may have open.
    pub tunnels_max: usize,
    /// Pretend that there are so many devices, and so many commands.
    pub rows: Option<u64>,
    /// Pretended devices were all heard of so many seconds ago: no age moves on the screen.
    pub quiet_s: Option<u64>,
    pub role: Role,
    made: u64,
}

impl FakeFleet {
    pub fn new(now: Timestamp, devices: usize, commands: usize) -> Self {
        let mut fleet = Self {
            now,
            devices: Vec::new(),
            commands: Vec::new(),
            alerts: Vec::new(),
            audit: Vec::new(),
            users: Vec::new(),
            projects: Vec::new(),
            tokens: Vec::new(),
            tunnels: Vec::new(),
            recordings: Vec::new(),
            tunnels_max: sessions::TUNNELS_MAX,
            rows: None,
            quiet_s: None,
            role: Role::Operator,
            made: 0,
        };
        fleet.devices = (0..devices as u64).map(|n| fleet.a_device(n)).collect();
        fleet.commands = (0..commands as u64).map(|n| fleet.a_command(n)).collect();
        fleet.made = commands as u64;
        fleet.some_alerts();
        fleet.some_audit();
        fleet.some_people();
        fleet.some_sessions();
        fleet
    }

    /// The first message of a live connection.
    pub fn hello(&self) -> ServerMessage {
        ServerMessage::Hello {
            version: VERSION,
            project: ProjectId::new(PROJECT).expect("a name"),
            username: USERNAME.to_owned(),
            role: self.role,
            admin: self.role == Role::Admin,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            at: self.now,
        }
    }

    pub const fn heartbeat(&self) -> ServerMessage {
        ServerMessage::Heartbeat { at: self.now }
    }

    /// Moves everything on by a little.
    pub fn live(&mut self, now: Timestamp) {
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
    pub fn new_command(&mut self) {
        let mut command = self.a_command(self.made + 20);
        self.queue(&mut command);
    }
}
