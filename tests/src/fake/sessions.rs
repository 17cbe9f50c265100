//! The fleet's tunnels and what was recorded of them.

use quarterdeck_protocol::{
    api::{
        Recording, RecordingEvent, RecordingEventKind, RecordingStatus, Tunnel, TunnelKind,
        TunnelStatus,
    },
    ids::{DeviceId, TunnelId},
    tunnel::close::CloseCode,
};

use super::{
    FakeFleet, USERNAME,
    calls::{Answer, problem},
    making::mix,
};

/// Terminals that one user may have open, unless a test has it otherwise.
pub const TUNNELS_MAX: usize = 3;
/// Events of a page of a recording.
const PAGE_EVENTS: usize = 20;

fn id(n: u64) -> TunnelId {
    let high = u128::from(0x0193_4c90_0000_7000_u64) << 64;
    TunnelId(uuid::Uuid::from_u128(high | (0x8000_u128 << 48) | u128::from(mix(n + 77) >> 20)))
}

impl FakeFleet {
    /// Sessions of a working day: some open, most over.
    pub(super) fn some_sessions(&mut self) {
        let mut ids: Vec<DeviceId> = self.devices.iter().map(|d| d.id.clone()).collect();
        ids.sort();
        if ids.is_empty() {
            return;
        }
        let ends = [
            CloseCode::Finished,
            CloseCode::ClosedByUser,
            CloseCode::IdleTimeout,
            CloseCode::Finished,
            CloseCode::DurationLimit,
            CloseCode::Killed,
        ];
        for n in 0..24_u64 {
            let r = mix(n + 5);
            let age_s = 240 + n as i64 * 1_700;
            let is_open = n < 2;
            let kind = match r % 7 {
                0 => TunnelKind::PortForward,
                1 => TunnelKind::Ssh,
                2 => TunnelKind::Exec,
                _ => TunnelKind::Terminal,
            };
            let kind = if is_open { TunnelKind::Terminal } else { kind };
            let created_at = self.now.plus_seconds(-age_s);
            let lasted_s = 20 + (r >> 8) as i64 % 900;
            let closed_at = (!is_open).then(|| created_at.plus_seconds(lasted_s));
            let reason = ends[(r >> 16) as usize % ends.len()];
            let has_recording = kind == TunnelKind::Terminal && n % 2 == 0;
            let (host, port) = match kind {
                TunnelKind::PortForward => (Some("127.0.0.1".to_owned()), Some(8080)),
                TunnelKind::Ssh => (Some("127.0.0.1".to_owned()), Some(22)),
                TunnelKind::Terminal | TunnelKind::Exec => (None, None),
            };
            let argv = match kind {
                TunnelKind::Exec => vec!["df".to_owned(), "-h".to_owned()],
                _ => Vec::new(),
            };
            let tunnel = Tunnel {
                id: id(n),
                device_id: ids[(n * 7) as usize % ids.len()].clone(),
                user: if n % 3 == 1 { "ann" } else { USERNAME }.to_owned(),
                kind,
                status: if is_open { TunnelStatus::Open } else { TunnelStatus::Closed },
                argv,
                host,
                port,
                reverse: false,
                listen_port: None,
                bytes_up: 40 + (r >> 20) % 4_000,
                bytes_down: 900 + (r >> 24) % 4_000_000,
                attached: u32::from(is_open),
                created_at,
                opened_at: Some(created_at.plus_millis(80)),
                last_activity_at: Some(closed_at.unwrap_or(self.now.plus_seconds(-40))),
                closed_at,
                close_reason: closed_at.map(|_| reason),
                close_message: None,
                exit_code: (closed_at.is_some() && reason == CloseCode::Finished).then_some(0),
                recording_id: has_recording.then(|| format!("rec-{:08x}", r as u32)),
            };
            self.tunnels.push(tunnel);
        }
        self.recordings = self.tunnels.iter().filter_map(recording_of).collect();
    }

    /// Opens a terminal, if the user has not too many.
    pub fn open_terminal(&mut self, device: &DeviceId) -> Answer<Tunnel> {
        if !self.devices.iter().any(|d| d.id == *device) {
            return Err(problem(422, "unknown_device", "No such device.", Some("device_id")));
        }
        let open = self.tunnels.iter().filter(|t| t.user == USERNAME && !t.status.is_over());
        let most = self.tunnels_max;
        if open.count() >= most {
            let detail = format!("A user may have {most} tunnels open.");
            return Err(problem(429, "too_many_tunnels", &detail, None));
        }
        let template = self.tunnels.first().cloned();
        let Some(template) = template else {
            return Err(problem(503, "unavailable", "The fleet is empty.", None));
        };
        let tunnel = Tunnel {
            id: id(1_000 + self.tunnels.len() as u64),
            device_id: device.clone(),
            user: USERNAME.to_owned(),
            status: TunnelStatus::Open,
            bytes_up: 0,
            bytes_down: 0,
            attached: 1,
            created_at: self.now,
            opened_at: Some(self.now),
            last_activity_at: Some(self.now),
            recording_id: None,
            ..template
        };
        self.tunnels.insert(0, tunnel.clone());
        Ok(tunnel)
    }

    /// Ends a tunnel.
    pub fn close_tunnel(&mut self, id: TunnelId, reason: CloseCode) -> Answer<()> {
        let now = self.now;
        let Some(tunnel) = self.tunnels.iter_mut().find(|t| t.id == id) else {
            return Err(problem(404, "not_found", "No such tunnel.", None));
        };
        if !tunnel.status.is_over() {
            tunnel.status = TunnelStatus::Closed;
            (tunnel.closed_at, tunnel.close_reason) = (Some(now), Some(reason));
            tunnel.attached = 0;
        }
        Ok(())
    }

    /// Deletes a recording.
    pub fn delete_recording(&mut self, id: &str) -> Answer<()> {
        let before = self.recordings.len();
        self.recordings.retain(|recording| recording.id != id);
        if self.recordings.len() == before {
            return Err(problem(404, "not_found", "No such recording.", None));
        }
        Ok(())
    }

    /// A page of what was recorded: a shell that is asked for the state of a service.
    pub fn recording_events(
        &self,
        id: &str,
        cursor: Option<&str>,
    ) -> Answer<(Vec<RecordingEvent>, Option<String>)> {
        if !self.recordings.iter().any(|r| r.id == id) {
            return Err(problem(404, "not_found", "No such recording.", None));
        }
        let all = recorded();
        let from = cursor.and_then(|at| at.parse().ok()).unwrap_or(0).min(all.len());
        let to = (from + PAGE_EVENTS).min(all.len());
        let next = (to < all.len()).then(|| to.to_string());
        Ok((all[from..to].to_vec(), next))
    }
}

fn recording_of(tunnel: &Tunnel) -> Option<Recording> {
    let ended_at = tunnel.closed_at;
    Some(Recording {
        id: tunnel.recording_id.clone()?,
        tunnel_id: tunnel.id,
        device_id: tunnel.device_id.clone(),
        user: tunnel.user.clone(),
        status: match tunnel.close_reason {
            None => RecordingStatus::Recording,
            Some(CloseCode::DurationLimit) => RecordingStatus::Incomplete,
            Some(_) => RecordingStatus::Complete,
        },
        argv: tunnel.argv.clone(),
        has_input: tunnel.user == "ann",
        started_at: tunnel.created_at,
        ended_at,
        bytes: tunnel.bytes_down,
        expires_at: ended_at.map(|at| at.plus_seconds(90 * 86_400)),
    })
}

/// What every recording of the fleet shows.
fn recorded() -> Vec<RecordingEvent> {
    let mut events = Vec::new();
    let mut time_ms = 0;
    let mut event = |after_ms: u64, kind, data: &str| {
        time_ms += after_ms;
        events.push(RecordingEvent { time_ms, kind, data: data.to_owned() });
    };
    let output = RecordingEventKind::Output;
    event(0, RecordingEventKind::Resize, "80x24");
    event(40, output, "\x1b[32mroot@edge\x1b[0m:~# ");
    for c in "systemctl status mqtt-bridge".chars() {
        event(90, output, c.encode_utf8(&mut [0; 4]));
    }
    event(300, output, "\r\n");
    event(200, output, "\x1b[1;31m●\x1b[0m mqtt-bridge.service - MQTT bridge\r\n");
    event(10, output, "     Active: \x1b[1;31mfailed\x1b[0m (Result: exit-code)\r\n");
    event(10, output, "\x1b[32mroot@edge\x1b[0m:~# ");
    event(9_000, output, "exit\r\nlogout\r\n");
    event(5, RecordingEventKind::Exit, "0");
    events
}
