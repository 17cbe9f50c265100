//! Objects of the API, as a server sends them.

use serde_json::{Value, json};

pub(crate) fn device(id: &str, status: &str) -> Value {
    json!({
        "id": id, "type": "raspberry-pi", "tags": {"site": "fra1"}, "status": status,
        "last_seen_at": "2026-11-21T06:00:00.000Z", "agent_version": "0.1.0", "facts": {"os": "linux"},
        "capabilities": ["ping"], "contract": "quarterdeck-1.0",
        "broker_connection": {"reconnect_count": 0, "last_disconnect_at": null},
        "process_status": null, "service_failed": null, "active_deployment": null,
        "enrolled_at": "2026-11-21T05:00:00.000Z", "retired_at": null, "clock_offset_ms": null,
        "open_commands": 0, "of_the_future": {"kept": true}
    })
}

pub(crate) const BATCH: &str = "01890000-0000-7000-8000-0000000000b0";

pub(crate) fn command_id(n: usize) -> String {
    format!("01890000-0000-7000-8000-{n:012}")
}

pub(crate) fn command(n: usize, status: &str) -> Value {
    json!({
        "id": command_id(n), "batch_id": BATCH, "device_id": format!("pi-{n}"), "type": "run_script",
        "payload": {"script": "id"}, "priority": 5, "timeout_s": 300, "notes": "", "status": status,
        "progress": null, "step": null, "state": null, "created_by": "ops-1",
        "created_at": "2026-11-21T06:00:00.000Z", "expires_at": "2026-11-21T07:00:00.000Z",
        "published_at": null, "accepted_at": null, "started_at": null, "finished_at": null,
        "attempt": 1, "retry_of": null, "blocked_until": null, "result": null, "exit_code": null,
        "stdout": null, "stderr": null, "error_code": null, "error_message": null
    })
}

pub(crate) fn tokens(n: u32, expires_in: u64) -> Value {
    json!({"access_token": format!("access-{n}"), "refresh_token": format!("refresh-{n}"), "expires_in": expires_in})
}

pub(crate) fn me() -> Value {
    json!({"username": "ops-1", "admin": false, "projects": {"default": "operator"}})
}

pub(crate) fn opening_tunnel() -> Value {
    json!({
        "id": "01890000-0000-7000-8000-0000000000c0", "device_id": "pi-1", "user": "ops-1",
        "kind": "exec", "status": "opening", "argv": ["true"], "host": null, "port": null,
        "reverse": false, "listen_port": null, "bytes_up": 0, "bytes_down": 0, "attached": 0,
        "created_at": "2026-11-21T06:00:00.000Z", "opened_at": null, "last_activity_at": null,
        "closed_at": null, "close_reason": null, "close_message": null, "exit_code": null,
        "recording_id": null, "ticket": "one-use", "expires_in": 30
    })
}
