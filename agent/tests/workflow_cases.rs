//! The cases of `workflows/cases`, on the pure engine: a simulator around it runs
//! their scripts for real, keeps a bus in memory, and restarts "the agent" from
//! what was saved. Each must end by the primary reading.

#![cfg(unix)]

#[path = "workflows/case.rs"]
mod case;
#[path = "workflows/check.rs"]
mod check;
#[path = "workflows/list.rs"]
mod list;
#[path = "workflows/process.rs"]
mod process;
#[path = "workflows/stage.rs"]
mod stage;
#[path = "workflows/world.rs"]
mod world;

fn run(folder: &str) -> Vec<String> {
    case::run(folder, |work| Box::new(world::World::new(work)))
}
