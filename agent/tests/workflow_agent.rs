//! The built agent, alone on a private Mosquitto: the same cases, crashes and faults.

#![cfg(unix)]

#[path = "workflows/agent.rs"]
mod agent;
#[path = "support/broker.rs"]
mod broker;
#[path = "workflows/builtin.rs"]
mod builtin;
#[path = "workflows/case.rs"]
mod case;
#[path = "workflows/check.rs"]
mod check;
#[path = "workflows/children.rs"]
mod children;
#[cfg(debug_assertions)]
#[path = "workflows/crashes.rs"]
mod crashes;
#[path = "workflows/example.rs"]
mod example;
#[path = "workflows/faults.rs"]
mod faults;
#[path = "workflows/list.rs"]
mod list;
#[path = "workflows/memory.rs"]
mod memory;
#[path = "workflows/stage.rs"]
mod stage;

fn run(folder: &str) -> Vec<String> {
    if case::is_skipped_without("mosquitto") {
        return Vec::new();
    }
    case::run(folder, |work| Box::new(agent::BuiltAgent::new(work)))
}
