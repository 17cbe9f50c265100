//! The HTTP interface, asked over a real socket of a server in this process.

#[path = "http/support.rs"]
mod support;

#[path = "http/access.rs"]
mod access;
#[path = "http/audit.rs"]
mod audit;
#[path = "http/auth.rs"]
mod auth;
#[path = "http/commands.rs"]
mod commands;
#[path = "http/devices.rs"]
mod devices;
#[path = "http/idempotency.rs"]
mod idempotency;
#[path = "http/input.rs"]
mod input;
#[path = "http/live.rs"]
mod live;
#[path = "http/openapi.rs"]
mod openapi;
#[path = "http/patience.rs"]
mod patience;
#[path = "http/people.rs"]
mod people;
#[path = "http/postgres.rs"]
mod postgres;
#[path = "support/postgres.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other test files")]
mod private_postgres;
#[path = "http/program.rs"]
mod program;
#[path = "http/tunnels.rs"]
mod tunnels;
#[path = "http/uploads.rs"]
mod uploads;
