//! Tunnels of the whole product: a console, a real server, a real agent, and what
//! can happen between them.

mod broken;
mod configured;
mod consoles;
mod faults;
mod forwards;
mod limits;
mod panes;
mod programs;
mod recordings;
mod rights;
mod sessions;
mod shell;
mod slow;
mod ssh;
mod subcommands;

use serde_json::{Value, json};

/// A terminal that runs a script.
fn terminal(script: &str) -> Value {
    json!({ "device_id": "pi-1", "kind": "terminal", "argv": ["sh", "-c", script] })
}

/// A program with stdin, stdout and stderr apart.
fn exec(script: &str) -> Value {
    json!({ "device_id": "pi-1", "kind": "exec", "argv": ["sh", "-c", script] })
}

/// Bytes without a pattern, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}
